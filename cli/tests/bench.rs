//! `attune bench`: names and meaning of the keys, what it leaves out, and files of shapes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Home, has_keys};

const SMALL: &str = "--prefill 16 --prefill-batch 8 --decode 4 --train-tokens 12 --rank 2 --context 32 --repeat 2 --threads 1";

#[test]
fn bench_gives_speeds_peaks_limits_and_the_path_of_what_was_measured() {
    let home = Home::new();
    let found = home.json(&format!("bench --model tiny.gguf {SMALL}"));
    let contract =
        ["model", "prefill_tps", "decode_tps", "train_tps", "train_peak_bytes", "isa", "threads", "first_token_ms", "limits", "train"];
    has_keys(&found, &contract);
    assert_eq!((found["model"].as_str().unwrap(), found["threads"].as_u64().unwrap()), ("tiny.gguf", 1));
    let number = |key: &str| found[key].as_f64().unwrap_or_else(|| panic!("{key}: {}", found[key]));
    for (key, detail) in [("prefill_tps", "prefill"), ("decode_tps", "decode"), ("train_tps", "train")] {
        let spread = &found[detail]["tps"];
        assert_eq!(number(key), spread["median"].as_f64().unwrap());
        assert!(spread["min"].as_f64().unwrap() <= number(key) && number(key) <= spread["max"].as_f64().unwrap(), "{spread}");
    }
    // A step is its parts.
    let part = |name: &str| found["train"][name]["min"].as_f64().unwrap();
    assert!((part("forward_ms") + part("backward_ms") + part("update_ms")) * 0.9 <= 12e3 / number("train_tps"));
    assert!(found["limits"]["f32_ops"].as_f64().unwrap() > 0.0);
    let shown = home.ok(&format!("bench --model tiny.gguf --no-limits {SMALL}"));
    assert!(shown.contains("prefill") && shown.contains("backward") && !shown.contains("limit"), "{shown}");
}

#[test]
fn bench_leaves_out_what_has_no_tokens() {
    let home = Home::new();
    let found =
        home.json("bench --model bare.gguf --prefill 0 --decode 2 --train-tokens 0 --no-first-token --no-limits --repeat 1 --threads 1");
    assert!(found["decode_tps"].as_f64().unwrap() > 0.0);
    for key in ["prefill_tps", "train_tps", "train_peak_bytes", "first_token_ms", "limits"] {
        assert!(found[key].is_null(), "{key}: {}", found[key]);
    }
}

#[test]
fn a_shape_is_written_once_into_the_cache_and_opens_like_any_model() {
    let home = Home::new();
    let write = "bench --shape smollm2-135m --type q4_k --cache kept --write-only";
    let path = home.json(write)["model"].as_str().unwrap().to_owned();
    let written = std::fs::metadata(home.path(&path)).unwrap().modified().unwrap();
    assert_eq!(home.json(write)["model"], path.as_str());
    assert_eq!(std::fs::metadata(home.path(&path)).unwrap().modified().unwrap(), written);
    let found = home.json(&format!("inspect {path}"));
    assert_eq!(found["architecture"], "llama", "{found}");
    assert_eq!(home.json(&format!("tokenize --model {path} --text at"))["pieces"], serde_json::json!(["at"]));
}

#[test]
fn bench_refuses_what_it_does_not_know() {
    let home = Home::new();
    home.fails(2, "bench", &["--model", "--shape"]);
    home.fails(2, "bench --shape smollm --type q4_0", &["smollm2-135m", "\"smollm\""]);
    home.fails(2, "bench --shape smollm2-135m --type q3_k", &["q4_k", "\"q3_k\""]);
    home.fails(2, "bench --model tiny.gguf --shape smollm2-135m", &["cannot be used with"]);
    home.fails(2, "bench --model tiny.gguf --repeat 0", &["--repeat", "expected"]);
    home.fails(1, "bench --model nothing.gguf", &["nothing.gguf"]);
}
