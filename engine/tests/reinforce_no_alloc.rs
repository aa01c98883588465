//! Neither sampling answers nor an update from them allocates anything, on any thread: the global allocator of this binary counts. Reading prompts and
//! turning tokens into text for rewards is done before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

use attune::data::Dataset;
use attune::reinforce::{Custom, Group, HeldOut, Prompts, ReinforceOptions, ReinforceTuner, Rewards};
use attune::tuner::TuneOptions;
use attune::{Model, Precision};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        COUNT.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted(work: impl FnOnce()) -> usize {
    let before = COUNT.load(Ordering::SeqCst);
    work();
    COUNT.load(Ordering::SeqCst) - before
}

fn check(reinforce: &ReinforceOptions, batch_size: usize, precision: Precision) {
    let model = Model::from_bytes("tiny", attune::doc::tiny_model()).unwrap();
    let rewards = Rewards::new().with(Custom::new("low", |group: &Group<'_>, scores: &mut [f64]| {
        for (score, answer) in scores.iter_mut().zip(group.answers) {
            *score = answer.ids.iter().filter(|&&id| id < 100).count() as f64;
        }
        Ok(())
    }));
    let options = TuneOptions {
        rank: 4,
        max_length: 40,
        threads: 3,
        batch_size,
        gradient_accumulation: 16 / batch_size,
        learning_rate: 3e-3,
        precision,
        ..ReinforceOptions::tune_defaults()
    };
    let lines = (0..4).map(|i| format!("{{\"prompt\": \"prompt {i}: \"}}\n")).collect::<String>();
    let data = Arc::new(Dataset::from_bytes(lines.into_bytes()).unwrap());
    let prompts = Prompts::prepare(&model, data, &rewards, 20, |_| true, |_| {}).unwrap();
    let mut tuner = ReinforceTuner::new(&model, prompts, HeldOut::default(), rewards, &options, reinforce, None).unwrap();
    tuner.step().unwrap();
    let before = tuner.current().unwrap().params;
    let mut losses = [0.0; 6];
    let n = counted(|| losses.iter_mut().for_each(|loss| *loss = tuner.repeat_update().unwrap()));
    let what = format!("{} {precision:?}, {batch_size} a micro-batch", reinforce.method);
    assert_eq!(n, 0, "{what}: allocations in 6 updates");
    assert!(tuner.current().unwrap().params != before && losses.iter().all(|loss| loss.is_finite()), "{what}: the updates must be real");
    let mut tokens = 0;
    let n = counted(|| (0..3).for_each(|_| tokens += tuner.repeat_sampling().unwrap()));
    assert_eq!(n, 0, "{what}: allocations in sampling");
    assert!(tokens > 3 * 16, "{what}: {tokens} tokens");
}

fn main() {
    // Asked by a harness for what there is to run.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    assert!(counted(|| drop(std::hint::black_box(vec![1u8]))) >= 2, "the counter counts");
    let base = ReinforceOptions { max_completion_length: Some(12), beta: Some(0.05), ..ReinforceOptions::default() };
    for precision in [Precision::Fast, Precision::F32] {
        check(&base, 8, precision);
        check(
            &ReinforceOptions { top_k: 50, top_p: 0.9, repetition_penalty: 1.2, loss_type: Some("bnpo".into()), ..base.clone() },
            2,
            precision,
        );
        check(&ReinforceOptions { method: "rloo".into(), num_iterations: 2, ..base.clone() }, 4, precision);
    }
    println!("sampling and updates allocate nothing ... ok");
}
