//! The same bytes whatever the number of threads, and from run to run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::session::{KvType, Session, SessionOptions};
use attune::tuner::{Optim, TuneOptions, Tuner};
use attune::{Model, Precision};
use attune_candle::fixture::{self, GgmlDType};
use attune_tests::engine::examples;
use attune_tests::golden::Row;

fn rows(vocab: u32) -> Vec<Row> {
    let row = |r: u32| Row {
        ids: (0..9 + r % 7).map(|i| (i * i + r * 13) % vocab).collect(),
        mask: (0..9 + r % 7).map(|i| u32::from(i > 2)).collect(),
    };
    (0..12).map(row).collect()
}

/// Five updates: the losses' bits, and the adapter's file.
fn tuned(model: &Model, options: &TuneOptions) -> (Vec<u64>, Vec<u8>) {
    let rows = rows(model.spec().vocab as u32);
    let eval = examples(model, &rows[9..], 24);
    let mut tuner = Tuner::new(model, examples(model, &rows[..9], 24), Some(eval), options, None).unwrap();
    let mut seen = Vec::new();
    for _ in 0..5 {
        let log = tuner.step().unwrap();
        seen.extend([log.loss.to_bits(), u64::from(log.grad_norm.to_bits())]);
        seen.push(tuner.evaluate().unwrap().unwrap().eval_loss.to_bits());
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    tuner.current().unwrap().save(file.path()).unwrap();
    (seen, std::fs::read(file.path()).unwrap())
}

#[test]
fn tuning_gives_the_same_bytes_with_1_2_and_4_threads() {
    for (kind, quant) in
        [(fixture::Model::Qwen3, GgmlDType::Q4K), (fixture::Model::Gemma3, GgmlDType::Q8_0), (fixture::Model::Qwen2, GgmlDType::Q5_0)]
    {
        let model = Model::from_bytes("fixture", fixture::bytes(kind, quant, 3).unwrap()).unwrap();
        for precision in [Precision::F32, Precision::Fast] {
            for packing in [false, true] {
                let options = |threads| TuneOptions {
                    max_length: 24,
                    batch_size: 2,
                    gradient_accumulation: 2,
                    learning_rate: 1e-3,
                    dropout: 0.1,
                    optim: packing.then_some(Optim::AdamW8bit),
                    packing,
                    precision,
                    threads,
                    ..TuneOptions::default()
                };
                let alone = tuned(&model, &options(1));
                for threads in [1, 2, 4] {
                    let same = tuned(&model, &options(threads));
                    assert!(alone.0 == same.0, "{kind:?} {quant:?} {precision:?}, packing {packing}, {threads} threads: losses differ");
                    assert!(alone.1 == same.1, "{kind:?} {quant:?} {precision:?}, packing {packing}, {threads} threads: adapters differ");
                }
                let other = tuned(&model, &TuneOptions { seed: 43, ..options(2) });
                assert!(other.1 != alone.1, "another seed gives another adapter, or nothing was compared");
            }
        }
    }
}

#[test]
fn decoding_gives_the_same_bits_with_1_2_and_4_threads() {
    for kind in fixture::Model::ALL {
        let model = Model::from_bytes("fixture", fixture::bytes(kind, GgmlDType::Q6K, 3).unwrap()).unwrap();
        for precision in [Precision::F32, Precision::Fast] {
            let logits = |threads| -> Vec<u32> {
                let options = SessionOptions {
                    context: 64,
                    prefill_batch: 8,
                    kv: Some(KvType::Q8_0),
                    threads,
                    precision,
                    ..SessionOptions::default()
                };
                let mut session = Session::new(&model, &options).unwrap();
                let prompt: Vec<u32> = (0..21).map(|i| i * 5 % 97).collect();
                let mut bits: Vec<u32> = session.feed(&prompt).unwrap().iter().map(|x| x.to_bits()).collect();
                for id in 0..6 {
                    bits.extend(session.feed(&[id]).unwrap().iter().map(|x| x.to_bits()));
                }
                bits
            };
            let alone = logits(1);
            for threads in [2, 4] {
                assert!(alone == logits(threads), "{kind:?} {precision:?}: {threads} threads");
            }
        }
    }
}
