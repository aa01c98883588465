//! `attune tune`: the run folder, and what is left when it is interrupted or killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Home, chat_lines, count_lines, has_keys, keys, ran};
use serde_json::{Value, json};
use std::process::Command;

fn log(home: &Home, run: &str) -> Vec<Value> {
    String::from_utf8(home.read(&format!("{run}/log.jsonl"))).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_folder_holds_everything_of_the_run() {
    let home = Home::new();
    let result = home.json(
        "tune --model tiny.gguf --data chat.jsonl --out run --epochs 2 --batch-size 2 --gradient-accumulation 2 --learning-rate 3e-3 \
         --schedule cosine --warmup 1 --rank 4 --eval-split 0.25 --save-every 2 --threads 2",
    );
    has_keys(
        &result,
        &["step", "loss", "grad_norm", "learning_rate", "target_tokens", "tokens_per_second", "seconds", "adapter", "report", "log"],
    );
    assert_eq!(result["finished"], true);
    for file in ["config.json", "log.jsonl", "adapter.attune", "report.html", "checkpoint"] {
        assert!(home.path("run").join(file).exists(), "{file}");
    }
    let config: Value = serde_json::from_slice(&home.read("run/config.json")).unwrap();
    assert_eq!((&config["rank"], &config["schedule"], &config["epochs"]), (&json!(4), &json!("cosine"), &json!(2)));
    let lines = log(&home, "run");
    let steps: Vec<&Value> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
    let expected = ["step", "loss", "grad_norm", "learning_rate", "target_tokens", "tokens_per_second", "seconds"];
    assert!(!steps.is_empty());
    for (i, line) in steps.iter().enumerate() {
        assert_eq!(keys(line), expected);
        assert_eq!(line["step"], i + 1);
    }
    let evals: Vec<&Value> = lines.iter().filter(|line| line.get("eval_loss").is_some()).collect();
    assert!(evals.len() >= 2);
    evals.iter().for_each(|line| assert_eq!(keys(line), ["step", "eval_loss", "eval_token_accuracy"]));
    assert!(evals.last().unwrap()["eval_loss"].as_f64() < evals[0]["eval_loss"].as_f64());
    let report = String::from_utf8(home.read("run/report.html")).unwrap();
    assert!(report.contains("<svg") && !report.contains("http://") | !report.contains("src=\"http"), "self-contained");
}

#[test]
fn the_log_is_of_the_loss_before_each_update() {
    let home = Home::new();
    home.ok("tune --model tiny.gguf --data ids.jsonl --out run --steps 2 --batch-size 2 --gradient-accumulation 1 --no-shuffle --learning-rate 1e-2");
    let first = &log(&home, "run")[0];
    let eval = home.json("eval --model tiny.gguf --data ids.jsonl");
    assert!((first["loss"].as_f64().unwrap() - eval["loss"].as_f64().unwrap()).abs() < 1e-5, "{first} {eval}");
    assert_eq!(first["target_tokens"], eval["target_tokens"]);
    assert!(log(&home, "run")[1]["loss"].as_f64() < first["loss"].as_f64());
}

#[test]
fn a_folder_with_a_run_is_not_overwritten_unasked() {
    let home = Home::new();
    let tune = "tune --model tiny.gguf --data chat.jsonl --out run --steps 1";
    home.ok(tune);
    let before = home.read("run/adapter.attune");
    home.fails(1, &format!("{tune} --seed 7"), &["--resume", "--force"]);
    assert_eq!(home.read("run/adapter.attune"), before);
    home.ok(&format!("{tune} --seed 7 --force"));
    assert_ne!(home.read("run/adapter.attune"), before);
}

#[test]
fn a_refused_run_leaves_nothing_in_the_way_of_the_next() {
    let home = Home::new();
    let tune = "tune --model tiny.gguf --data chat.jsonl --out run --steps 1";
    home.fails(1, &format!("{tune} --budget 1000"), &["would do"]);
    assert!(!home.path("run").exists());
    home.ok(tune);
    home.fails(1, "tune --model tiny.gguf --data chat.jsonl --out tiny.gguf", &["expected a folder, found a file"]);
    home.fails(1, "tune --resume --out nothing", &["nothing: expected the folder of a run"]);
}

#[test]
fn tuning_goes_on_from_an_adapter() {
    let home = Home::new();
    home.ok("tune --model tiny.gguf --data chat.jsonl --out first --steps 6 --learning-rate 1e-2 --rank 5");
    home.ok("tune --model tiny.gguf --data chat.jsonl --out second --steps 1 --learning-rate 1e-2 --init-adapter first");
    let (first, second) = (log(&home, "first"), log(&home, "second"));
    assert!(second[0]["loss"].as_f64() < first[0]["loss"].as_f64());
    assert_eq!(home.json("inspect second")["rank"], 5, "the shape is the first adapter's");
}

#[test]
fn threads_do_not_change_the_adapter() {
    let home = Home::new();
    let tune = |threads: usize| {
        home.ok(&format!("tune --model tiny.gguf --data chat.jsonl --out run{threads} --steps 4 --dropout 0.1 --threads {threads}"));
        home.read(&format!("run{threads}/adapter.attune"))
    };
    let one = tune(1);
    assert_eq!(one, tune(2));
    assert_eq!(one, tune(4));
}

/// A run that takes some seconds.
const LONG: &str = "tune --model tiny.gguf --data long.jsonl --steps 40 --gradient-accumulation 2 --batch-size 2 --dropout 0.1 --learning-rate 1e-3 --samples 0";

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_a_valid_adapter_and_goes_on_to_the_same_end() {
    let home = Home::new();
    home.write("long.jsonl", chat_lines(40, 120));
    home.ok(&format!("{LONG} --out whole"));
    let child = home.start_until(&format!("{LONG} --out run"), "run/log.jsonl", 3);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ran = ran(child);
    assert_eq!(ran.status, Some(130), "{}", ran.stderr);
    assert!(ran.stderr.contains("adapter.attune") && ran.stderr.contains("--resume"), "{}", ran.stderr);
    let done = count_lines(&home.path("run/log.jsonl"));
    assert!(done < 40, "the run had ended already");
    home.ok("eval --model tiny.gguf --data chat.jsonl --adapter run");
    home.ok("run --model tiny.gguf --adapter run --prompt Hi --max-tokens 3");

    home.fails(2, "tune --resume --out run --rank 3", &["rank"]);
    let resumed = home.json(&format!("{LONG} --out run --resume"));
    assert_eq!((&resumed["step"], &resumed["finished"]), (&json!(40), &json!(true)));
    assert_eq!(home.read("run/adapter.attune"), home.read("whole/adapter.attune"));
    let steps: Vec<u64> = log(&home, "run").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=40).collect::<Vec<_>>());
}

#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let home = Home::new();
    home.write("long.jsonl", chat_lines(40, 120));
    home.ok(&format!("{LONG} --save-every 3 --out whole"));
    let mut at = 2;
    let mut resume = "";
    for _ in 0..4 {
        let mut child = home.start_until(&format!("{LONG} --save-every 3 --out run {resume}"), "run/log.jsonl", at);
        child.kill().unwrap();
        child.wait().unwrap();
        resume = "--resume";
        at = count_lines(&home.path("run/log.jsonl")) + 4;
        if at > 36 {
            break;
        }
    }
    home.ok("tune --resume --out run");
    assert_eq!(home.read("run/adapter.attune"), home.read("whole/adapter.attune"));
}

#[test]
fn a_run_that_does_not_fit_its_data_is_not_resumed() {
    let home = Home::new();
    home.ok("tune --model tiny.gguf --data chat.jsonl --out run --steps 2 --save-every 1");
    home.write("chat.jsonl", chat_lines(5, 5));
    home.fails(1, "tune --resume --out run", &["data"]);
}
