//! What the commands print with `--json`: names and meaning of the keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Home, has_keys, keys};
use serde_json::json;

#[test]
fn run_gives_text_ids_and_why_it_ended() {
    let home = Home::new();
    let greedy = "run --model tiny.gguf --prompt Hello --temperature 0 --max-tokens 5";
    let found = home.json(greedy);
    assert_eq!(keys(&found), ["text", "token_ids", "prompt_tokens", "finish_reason"]);
    assert!(["stop", "length"].contains(&found["finish_reason"].as_str().unwrap()));
    assert_eq!(home.json(greedy), found);
    assert_eq!(home.ok(greedy).trim_end_matches('\n'), found["text"].as_str().unwrap().trim_end_matches('\n'));
    let raw = home.json("run --model tiny.gguf --raw --prompt Hello --temperature 0 --max-tokens 5");
    let ids = home.json("tokenize --model tiny.gguf --text Hello")["ids"].as_array().unwrap().len();
    assert_eq!(raw["prompt_tokens"], ids, "the bare prompt, without a template");
    assert!(found["prompt_tokens"].as_u64() > raw["prompt_tokens"].as_u64());
    let with_system = home.json("run --model tiny.gguf --prompt Hello --system Brief --temperature 0 --max-tokens 5");
    assert!(with_system["prompt_tokens"].as_u64() > found["prompt_tokens"].as_u64());
    let seeded = |seed: u32| {
        home.json(&format!("run --model tiny.gguf --prompt Hello --temperature 2 --top-k 0 --top-p 1 --max-tokens 12 --seed {seed}"))
    };
    assert_eq!(seeded(1), seeded(1));
    assert_ne!(seeded(1)["token_ids"], seeded(2)["token_ids"]);
}

#[test]
fn a_stop_string_ends_the_answer_and_is_no_part_of_it() {
    let home = Home::new();
    let text = home.json("run --model tiny.gguf --prompt Hello --temperature 0 --max-tokens 12")["text"].as_str().unwrap().to_owned();
    let stop: String = text.chars().skip(2).take(1).filter(|c| c.is_ascii_graphic()).collect();
    if stop.is_empty() {
        println!("skipped: the tiny model's third character is no letter");
        return;
    }
    let cut = home.json(&format!("run --model tiny.gguf --prompt Hello --temperature 0 --max-tokens 12 --stop {stop}"));
    assert_eq!(cut["finish_reason"], "stop");
    assert_eq!(cut["text"].as_str().unwrap(), text.split(&stop).next().unwrap());
}

#[test]
fn tokenize_gives_ids_and_pieces_without_document_marks() {
    let home = Home::new();
    let found = home.json("tokenize --model tiny.gguf --text the<|im_end|>");
    assert_eq!(keys(&found), ["ids", "pieces"]);
    let pieces: Vec<&str> = found["pieces"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    assert_eq!(pieces, ["t", "he", "<|im_end|>"]);
    assert_eq!(home.json("tokenize --model tiny.gguf --text the<|im_end|> --no-special")["ids"].as_array().unwrap().len(), 2 + 10);
    home.write("text.txt", "你好\n");
    let found = home.json("tokenize --model tiny.gguf --file text.txt");
    assert_eq!(found["pieces"], json!(["<0xE4>", "<0xBD>", "<0xA0>", "<0xE5>", "<0xA5>", "<0xBD>", "\n"]));
    assert_eq!(
        home.fed("tokenize --model tiny.gguf --file - --json", "the").stdout,
        home.ok("tokenize --model tiny.gguf --text the --json")
    );
    home.write("bytes.bin", [0xFF, 0xFE]);
    home.fails(1, "tokenize --model tiny.gguf --file bytes.bin", &["UTF-8"]);
}

#[test]
fn eval_and_logprobs_agree() {
    let home = Home::new();
    for (model, data, examples) in [("tiny", "chat", 12), ("bare", "ids", 2)] {
        let args = format!("--model {model}.gguf --data {data}.jsonl");
        let eval = home.json(&format!("eval {args}"));
        assert_eq!(keys(&eval), ["loss", "perplexity", "token_accuracy", "target_tokens", "examples"]);
        let lines = home.json_lines(&format!("logprobs {args}"));
        assert_eq!((lines.len(), &eval["examples"]), (examples, &json!(examples)));
        let (mut sum, mut count) = (0.0, 0);
        for (i, line) in lines.iter().enumerate() {
            assert_eq!(keys(line), ["index", "target_ids", "logprobs", "sum"]);
            assert_eq!(line["index"], i);
            let logprobs: Vec<f64> = line["logprobs"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            assert_eq!(logprobs.len(), line["target_ids"].as_array().unwrap().len());
            assert!(logprobs.iter().all(|&lp| lp < 0.0));
            assert!((logprobs.iter().sum::<f64>() - line["sum"].as_f64().unwrap()).abs() < 1e-6);
            sum += line["sum"].as_f64().unwrap();
            count += logprobs.len();
        }
        assert_eq!(eval["target_tokens"], count);
        let loss = eval["loss"].as_f64().unwrap();
        assert!((loss + sum / count as f64).abs() < 1e-6, "natural logarithm, mean over all target tokens");
        assert!((eval["perplexity"].as_f64().unwrap() - loss.exp()).abs() < 1e-6 * loss.exp());
    }
    let ids = home.json_lines("logprobs --model bare.gguf --data ids.jsonl");
    assert_eq!(ids[0]["target_ids"], json!([2, 4]), "labels of -100 are masked");
    assert_eq!(ids[1]["target_ids"], json!([8, 7]), "nothing predicts the first token");
}

#[test]
fn plan_names_every_buffer_and_adds_them_up() {
    let home = Home::new();
    for args in ["", "--rank 4 --layers 1", "--for run", "--context 100 --kv-type f32", "--budget 5MiB"] {
        let plan = home.json(&format!("plan --model tiny.gguf {args}"));
        has_keys(&plan, &["total_bytes", "weights_bytes", "regions", "buffers", "knobs"]);
        has_keys(&plan["regions"], &["adapter", "cache", "work"]);
        let bytes = |of: &serde_json::Value| of["bytes"].as_u64().unwrap();
        let buffers = plan["buffers"].as_array().unwrap();
        buffers.iter().for_each(|b| assert_eq!(keys(b), ["name", "region", "shape", "type", "bytes"]));
        let total = plan["total_bytes"].as_u64().unwrap();
        let regions: u64 = plan["regions"].as_object().unwrap().values().map(|r| r.as_u64().unwrap()).sum();
        assert_eq!(total, regions, "{args}");
        // Buffers of one step share the work region; the sum of all is its upper bound, the largest its lower.
        assert!(buffers.iter().map(bytes).max().unwrap() <= total, "{args}");
        assert_eq!(plan["weights_bytes"], home.read("tiny.gguf").len());
        assert_eq!(plan["regions"]["cache"].as_u64().unwrap() > 0, args.contains("run") || args.contains("context"), "{args}");
    }
    let small = home.json("plan --model tiny.gguf --rank 1")["regions"]["adapter"].as_u64().unwrap();
    let large = home.json("plan --model tiny.gguf --rank 64")["regions"]["adapter"].as_u64().unwrap();
    assert!(small < large);
    home.fails(2, "plan --model tiny.gguf --for tune --context 10", &["--context"]);
}

#[test]
fn inspect_shows_models_and_adapters() {
    let home = Home::new();
    let model = home.json("inspect tiny.gguf");
    has_keys(&model, &["kind", "architecture", "widths", "tensors", "tokenizer", "chat_template", "hash"]);
    assert_eq!((&model["kind"], &model["architecture"], &model["widths"]["layers"]), (&json!("model"), &json!("llama"), &json!(2)));
    assert_eq!(home.json("inspect bare.gguf")["hash"], model["hash"], "a model is known by its tensors alone");
    assert_eq!(home.json("inspect bare.gguf")["tokenizer"], json!(null));
    let shown = home.ok("inspect tiny.gguf");
    for part in ["llama", "Q8_0", "byte-level BPE", "im_start", model["hash"].as_str().unwrap()] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    home.ok("tune --model tiny.gguf --data chat.jsonl --out run --steps 1 --rank 3 --target-modules q_proj,down_proj");
    let adapter = home.json("inspect run");
    assert_eq!((&adapter["kind"], &adapter["rank"], &adapter["base_hash"]), (&json!("adapter"), &json!(3), &model["hash"]));
    assert_eq!(adapter["target_modules"], json!(["q_proj", "down_proj"]));
    assert_eq!(home.json("adapter inspect run")["rank"], 3);
}

#[test]
fn render_shows_where_the_loss_falls() {
    let home = Home::new();
    let lines = home.json_lines("data render --model tiny.gguf --data chat.jsonl");
    assert_eq!(lines.len(), 12);
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(keys(line), ["index", "ids", "labels", "text"]);
        assert_eq!(line["index"], i);
        let (ids, labels) = (line["ids"].as_array().unwrap(), line["labels"].as_array().unwrap());
        assert_eq!(ids.len(), labels.len());
        assert!(ids.iter().zip(labels).all(|(id, label)| label == id || label == -100));
        assert!(labels.iter().any(|l| l == -100) && labels.iter().any(|l| l != -100));
    }
    let shown = home.ok("data render --model tiny.gguf --data chat.jsonl --limit 1");
    assert!(shown.contains("Say number 0.<|im_end|>\n<|im_start|>assistant\n⟦the one ring tea here the<|im_end|>⟧\n"), "{shown}");
    let shown = home.ok("data render --model bare.gguf --data ids.jsonl --limit 1");
    assert!(shown.contains("1 ⟦2 ⟧3 ⟦4 ⟧"), "{shown}");
    // And how much it counts, where examples have weights.
    home.write(
        "weighted.jsonl",
        "{\"prompt\": \"one \", \"completion\": \"two\"}\n{\"prompt\": \"one \", \"completion\": \"two\", \"weight\": 0.5}\n",
    );
    let lines = home.json_lines("data render --model tiny.gguf --data weighted.jsonl");
    assert!(lines[0].get("weights").is_none(), "{}", lines[0]);
    let weights = lines[1]["weights"].as_array().unwrap();
    assert!(weights.len() == lines[1]["ids"].as_array().unwrap().len() && weights.iter().all(|w| w == 0.5), "{}", lines[1]);
}

#[test]
fn check_reports_and_filters() {
    let home = Home::new();
    let twice = common::chat_lines(2, 4) + &common::chat_lines(1, 4) + "{\"messages\": 7}\n";
    home.write("twice.jsonl", twice);
    let report = home.json("data check twice.jsonl --model tiny.gguf --filter clean.jsonl");
    has_keys(&report, &["format", "counts", "lengths", "findings"]);
    let findings = report["findings"].as_array().unwrap();
    findings.iter().for_each(|f| has_keys(f, &["line", "kind", "detail"]));
    let found: Vec<(u64, &str)> = findings.iter().map(|f| (f["line"].as_u64().unwrap(), f["kind"].as_str().unwrap())).collect();
    assert!(found.contains(&(3, "duplicate")) && found.contains(&(4, "unreadable")), "{found:?}");
    assert_eq!(report["lengths"]["unit"], "tokens");
    assert_eq!(common::count_lines(&home.path("clean.jsonl")), 2);
    assert!(home.ok("data check twice.jsonl").contains("duplicate"));
    home.fails(1, "data check twice.jsonl --filter twice.jsonl", &["another file"]);
}

#[test]
fn adapters_go_out_and_come_in_and_answer_the_same() {
    let home = Home::new();
    home.ok("tune --model tiny.gguf --data chat.jsonl --out run --steps 4 --learning-rate 1e-2");
    let loss = |adapter: &str| home.json(&format!("eval --model tiny.gguf --data chat.jsonl {adapter}"))["loss"].as_f64().unwrap();
    let (base, tuned) = (loss(""), loss("--adapter run"));
    assert!(tuned < base, "{tuned} < {base}");
    for (format, out) in [("peft", "peft"), ("gguf", "lora.gguf"), ("native", "copy.attune")] {
        let written = home.json(&format!("adapter export run --model tiny.gguf --format {format} --out {out}"));
        has_keys(&written, &["path", "format", "rank", "alpha", "target_modules", "layers"]);
        assert_eq!(written["format"], format);
        assert!((loss(&format!("--adapter {out}")) - tuned).abs() < 1e-6, "{format}");
        let imported = home.json(&format!("adapter import {out} --model tiny.gguf --out from-{format}.attune"));
        assert_eq!(imported["format"], "native");
        assert!((loss(&format!("--adapter from-{format}.attune")) - tuned).abs() < 1e-6, "{format}");
    }
    assert!((loss("--adapter run=0") - base).abs() < 1e-6);
    let half = loss("--adapter run=0.5");
    assert!(tuned < half && half < base, "{tuned} {half} {base}");
    let answer =
        |args: &str| home.json(&format!("run --model tiny.gguf --prompt Hi --temperature 0 --max-tokens 8 {args}"))["token_ids"].clone();
    assert_eq!(answer("--adapter run"), answer("--adapter lora.gguf"));
    assert_eq!(answer(""), answer("--adapter run=0"));
    assert_eq!(answer("--adapter run"), answer("--adapter run=0.5 --adapter peft=0.5"), "two halves are a whole");
    home.fails(1, "adapter import run --model tiny.gguf --out nowhere/x.attune", &["nowhere"]);
    home.fails(2, "adapter export run --model tiny.gguf --format native --out tiny.gguf", &["--out"]);
    home.fails(2, "adapter export run=-1 --model tiny.gguf --format native --out minus.attune", &["above 0"]);
}

#[test]
fn an_adapter_of_another_model_is_refused_unless_insisted_on() {
    let home = Home::new();
    let mut other = home.read("tiny.gguf");
    let last = other.len() - 40;
    other[last] ^= 1;
    home.write("other.gguf", other);
    home.ok("tune --model tiny.gguf --data chat.jsonl --out run --steps 1");
    home.fails(1, "eval --model other.gguf --data chat.jsonl --adapter run", &["tuned on"]);
    home.ok("eval --model other.gguf --data chat.jsonl --adapter run --any-base");
}
