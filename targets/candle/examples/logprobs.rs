//! The oracle's own `attune logprobs`: same arguments, same lines on standard output.
//!
//! `logprobs --model M [--adapter GGUF_LORA] --data F`, data as `{"input_ids", "labels"}` a line. Computes in f64.

use std::fs::File;
use std::io::{BufRead, BufReader};

use attune_candle::{DType, IGNORED, LoraVars, Oracle, Tokens};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
    let (Some(model), Some(data)) = (option("--model"), option("--data")) else {
        return Err("usage: logprobs --model M [--adapter GGUF_LORA] --data F".into());
    };
    let oracle = Oracle::load(model, DType::F64)?;
    let lora = match option("--adapter") {
        Some(path) => Some(LoraVars::read_gguf(&oracle, &mut BufReader::new(File::open(path)?))?),
        None => None,
    };
    for (index, line) in BufReader::new(File::open(data)?).lines().enumerate() {
        let example: Value = serde_json::from_str(&line?)?;
        let ids: Vec<u32> = serde_json::from_value(example["input_ids"].clone())?;
        let labels: Vec<i64> = serde_json::from_value(example["labels"].clone())?;
        let log_probs: Vec<f64> = oracle.log_probs(&Tokens::new(&ids), &labels, lora.as_ref())?.to_vec1()?;
        let targets: Vec<i64> = labels.into_iter().skip(1).filter(|l| *l != IGNORED).collect();
        let sum: f64 = log_probs.iter().sum();
        println!("{}", json!({"index": index, "target_ids": targets, "logprobs": log_probs, "sum": sum}));
    }
    Ok(())
}
