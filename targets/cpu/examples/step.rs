//! How long a model's whole steps take: prefill of a prompt and decoding token after token, as sessions do both.
//!
//! `cargo run --release -p attune-cpu --example step -- MODEL.gguf [THREADS [PROMPT [DECODED [ROUNDS]]]]`, with `ATTUNE_ISA` for kernels other than the
//! best.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use attune_core::arena::Region;
use attune_core::decoder::Decoder;
use attune_core::gguf::Gguf;
use attune_core::plan::{self, DecodeRequest};
use attune_core::spec::Spec;
use attune_core::target::Store;
use attune_core::weights::{LayerWeights, Model};
use attune_cpu::{Options, Precision, WeightBytes};
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("usage: step MODEL.gguf [THREADS [PROMPT [DECODED [ROUNDS]]]]");
    let mut number = |or: usize| args.next().and_then(|a| a.parse().ok()).unwrap_or(or);
    let (threads, prompt, decoded, rounds) = (number(2), number(512), number(64), number(5));
    let bytes: WeightBytes = Arc::new(std::fs::read(&path).unwrap());
    let gguf = Gguf::parse((*bytes).as_ref()).unwrap();
    let mut table = vec![LayerWeights::EMPTY; Spec::from_gguf(&gguf).unwrap().layers];
    let model = Model::load(&gguf, &mut table).unwrap();
    let vocab = model.spec.vocab;
    let request = DecodeRequest { context: (prompt + decoded).max(64), batch: 512, kv: Store::F16, rank: 0 };
    let layout = plan::decode(&model.spec, &request, &mut |_| {}).unwrap();
    let precision = if std::env::var_os("F32").is_some() { Precision::F32 } else { Precision::Fast };
    let mut target = attune_cpu::target(Options { threads, precision }, Some(bytes.clone())).unwrap();
    attune_cpu::take(&mut target, Region::CACHE, layout.totals.cache).unwrap();
    attune_cpu::take(&mut target, Region::WORK, layout.totals.work).unwrap();
    let isa = target.executor().isa();
    let mut decoder = Decoder::new(target, &model.spec, model.globals.rope_freqs, layout).unwrap();
    let ids: Vec<u32> = (0..prompt).map(|i| ((i * 7 + 1) % vocab) as u32).collect();
    let mut logits = vec![0.0; vocab];
    let (mut prefills, mut decodes) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        decoder.rewind(0);
        if prompt > 0 {
            let start = Instant::now();
            decoder.feed(&model, &ids, &mut logits).unwrap();
            prefills.push(prompt as f64 / start.elapsed().as_secs_f64());
            decoder.rewind(0);
        }
        let start = Instant::now();
        for i in 0..decoded {
            decoder.feed(&model, &[i as u32 + 1], &mut logits).unwrap();
        }
        decodes.push(decoded as f64 / start.elapsed().as_secs_f64());
    }
    println!("{path}: {isa}, {threads} threads");
    if prompt > 0 {
        println!("prefill {prompt}: {:8.1} tokens/s", median(prefills));
    }
    let decode = median(decodes);
    let streamed = (*bytes).as_ref().len() as f64 * decode / 1e9;
    println!("decode {decoded}: {decode:8.1} tokens/s, {:.3} ms each, {streamed:.1} GB/s of weights", 1e3 / decode);
}

/// The middle of some figures.
fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}
