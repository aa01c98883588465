//! Seconds from nothing to the first token of a one-token prompt, and where they go.
//!
//! `cargo run --release -p attune --example open -- MODEL.gguf [TOKEN ID]`
#![allow(clippy::print_stdout)]

use attune::session::{Session, SessionOptions};
use attune::{Model, Precision};
use std::time::Instant;

fn main() -> attune::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "model.gguf".into());
    let id = args.next().and_then(|id| id.parse().ok()).unwrap_or(1);
    let began = Instant::now();
    let at = |what: &str| println!("{:8.2} ms  {what}", began.elapsed().as_secs_f64() * 1e3);
    let model = Model::open(&path)?;
    at("the model is open");
    let options = SessionOptions {
        context: 1024,
        precision: if std::env::var_os("F32").is_some() { Precision::F32 } else { Precision::Fast },
        ..SessionOptions::default()
    };
    let mut session = Session::new(&model, &options)?;
    at("the session has its memory");
    session.feed(&[id])?;
    at("the first logits are there");
    session.feed(&[id])?;
    at("the second logits are there");
    let pieces = model.tokenizer().map_or(0, |tokenizer| tokenizer.vocab_size());
    at(&format!("the tokenizer is there ({pieces} pieces)"));
    println!("planned: {} KiB", session.plan().total_bytes >> 10);
    Ok(())
}
