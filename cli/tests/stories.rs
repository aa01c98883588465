//! A real small model, where the files to try it on are at hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Home;
use std::path::{Path, PathBuf};

/// The folder with models and data beside the repository, if it is there.
fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("ATTUNE_SHARED").map_or(beside, PathBuf::from);
    let found = folder.join("data/models/stories260K.gguf").exists().then(|| folder.canonicalize().unwrap());
    if found.is_none() {
        println!("skipped: no stories260K.gguf in {}", folder.display());
    }
    found
}

#[test]
fn tuning_on_instructions_lowers_the_held_out_loss_and_the_adapter_reloads() {
    let Some(shared) = shared() else { return };
    let home = Home::new();
    let model = shared.join("data/models/stories260K.gguf").display().to_string();
    let data = shared.join("data/sft/alpaca_en_demo.json").display().to_string();
    let args = format!(
        "tune --model {model} --data {data} --out run --steps 25 --batch-size 4 --gradient-accumulation 2 --learning-rate 3e-3 --max-length 256 \
         --eval-split 0.03 --budget 64MiB"
    );
    let result = home.json(&args);
    let log = String::from_utf8(home.read("run/log.jsonl")).unwrap();
    let evals: Vec<f64> =
        log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["eval_loss"].as_f64()).collect();
    assert!(evals.len() >= 2 && evals.last() < evals.first(), "{evals:?}");
    assert!(result["planned_bytes"].as_u64().unwrap() <= 64 << 20);
    let answer = |adapter: &str| home.ok(&format!("run --model {model} --prompt Why? --temperature 0 --max-tokens 20 {adapter}"));
    assert_ne!(answer(""), answer("--adapter run"));
}
