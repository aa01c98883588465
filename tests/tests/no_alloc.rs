//! Nothing is allocated in the hot paths, by any thread: the global allocator of this binary counts.
//!
//! The hot paths are [`Session::feed`] with [`Session::sample`], and [`Tuner::repeat_update`]: everything of an update but the reading of its examples.
//! Reading them from disk parses JSON and tokenises text, and so allocates; it is done before the update begins, into room that was taken once.
//!
//! There is no test harness around it, since the counter hears every thread of the process, and a harness has one that allocates when a test takes
//! long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

use attune::adapter::{Adapter, Info};
use attune::core::lora::Layout;
use attune::core::sampler::Sampling;
use attune::session::{KvType, Session, SessionOptions};
use attune::tuner::{Optim, TuneOptions, Tuner};
use attune::{Model, Precision};
use attune_candle::fixture::{self, GgmlDType};
use attune_tests::engine::examples;
use attune_tests::golden::Row;
use std::alloc::{GlobalAlloc, Layout as Block, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(block) }
    }
    unsafe fn dealloc(&self, at: *mut u8, block: Block) {
        COUNT.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(at, block) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and releases while `work` runs; growing or zeroed ones come down to these two.
fn counted(work: impl FnOnce()) -> usize {
    let before = COUNT.load(Ordering::SeqCst);
    work();
    COUNT.load(Ordering::SeqCst) - before
}

fn rows(vocab: u32) -> Vec<Row> {
    (0..8u32)
        .map(|r| Row {
            ids: (0..12 + r).map(|i| (i * 7 + r * 13) % vocab).collect(),
            mask: (0..12 + r).map(|i| u32::from(i > 3)).collect(),
        })
        .collect()
}

fn decodes_without_allocating(what: &str, model: &Model, options: &SessionOptions, sampling: &Sampling) {
    let shape = TuneOptions::default().shape(model.spec());
    let mut params = vec![0.01; Layout::new(model.spec(), shape).unwrap().len()];
    params.iter_mut().step_by(2).for_each(|p| *p = -0.01);
    let adapter = Adapter::new(&model.base().unwrap(), shape, params, Info::default()).unwrap();
    let mut session = Session::new(model, &options.clone().for_adapters([&adapter])).unwrap();
    session.add_adapter(&adapter, 0.5).unwrap();
    session.feed(&[1, 2, 3, 4, 5]).unwrap();
    let n = counted(|| {
        for _ in 0..100 {
            let id = session.sample(sampling).unwrap();
            session.feed(&[id]).unwrap();
        }
    });
    assert_eq!(n, 0, "{what}: allocations in 100 decoded tokens");
}

fn updates_without_allocating(what: &str, model: &Model, options: &TuneOptions) {
    let rows = rows(model.spec().vocab as u32);
    let options = TuneOptions { max_length: 24, threads: 3, batch_size: 2, gradient_accumulation: 2, ..options.clone() };
    let mut tuner = Tuner::new(model, examples(model, &rows, 24), None, &options, None).unwrap();
    tuner.step().unwrap();
    let mut losses = [0.0; 10];
    let n = counted(|| losses.iter_mut().for_each(|loss| *loss = tuner.repeat_update().unwrap()));
    assert_eq!(n, 0, "{what}: allocations in 10 updates");
    assert!(losses[9] < losses[0], "{what}: the updates must be real: {losses:?}");
}

fn main() {
    // Asked by a harness for what there is to run.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    assert!(counted(|| drop(std::hint::black_box(vec![1u8]))) >= 2, "the counter counts");
    let elsewhere = || std::thread::spawn(|| drop(std::hint::black_box(vec![1u8; 100]))).join().unwrap();
    assert!(counted(elsewhere) > 2, "the counter hears other threads");

    let penalised = Sampling { repeat_penalty: 1.1, min_p: 0.01, ..Sampling::default() };
    for kind in fixture::Model::ALL {
        let bytes = fixture::bytes(kind, GgmlDType::Q4K, 5).unwrap();
        let model = Model::from_bytes("fixture", bytes).unwrap();
        for precision in [Precision::F32, Precision::Fast] {
            let what = format!("{kind:?} {precision:?}");
            let kv = Some(if precision == Precision::F32 { KvType::F16 } else { KvType::Q8_0 });
            let options = SessionOptions { context: 110, kv, threads: 3, precision, ..SessionOptions::default() };
            for sampling in [Sampling::GREEDY, Sampling::default(), penalised] {
                decodes_without_allocating(&what, &model, &options, &sampling);
            }
            let plain = TuneOptions { precision, learning_rate: 1e-3, ..TuneOptions::default() };
            updates_without_allocating(&what, &model, &plain);
            let other =
                TuneOptions { packing: true, dropout: 0.05, optim: Some(Optim::AdamW8bit), layers: Some(1), learning_rate: 2e-3, ..plain };
            updates_without_allocating(&format!("{what}, packed, dropout, 8-bit, one layer"), &model, &other);
        }
    }
    println!("decoding and updating allocate nothing ... ok");
}
