//! A preference update allocates nothing, on any thread: the global allocator of this binary counts. Reading its examples is done before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

use attune::data::Dataset;
use attune::prefer::{HeldOut, PreferOptions, PreferenceExamples, PreferenceTuner};
use attune::tuner::{Optim, TuneOptions};
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

fn lines(method: &str) -> String {
    let line = |i: u32| match method {
        "kto" => format!("{{\"prompt_ids\": [1, 2, {i}, 9], \"completion_ids\": [{}, 4, 5], \"label\": {}}}\n", 3 + i, i.is_multiple_of(2)),
        "plackett_luce" => format!("{{\"prompt_ids\": [1, 2, {i}], \"completions_ids\": [[{}, 4], [5], [6, 7, 8]]}}\n", 30 + i),
        _ => format!("{{\"prompt_ids\": [1, 2, {i}, 9], \"chosen_ids\": [{}, 4, 5], \"rejected_ids\": [6, {i}]}}\n", 30 + i),
    };
    (0..8).map(line).collect()
}

fn check(method: &str, share_prompts: bool, precision: Precision, budget: Option<u64>) -> u64 {
    let model = Model::from_bytes("tiny", attune::doc::tiny_model_without_tokenizer()).unwrap();
    let prefer = PreferOptions { share_prompts, ..PreferOptions::new(method) };
    let options = TuneOptions {
        max_length: 32,
        threads: 3,
        batch_size: 2,
        gradient_accumulation: 2,
        learning_rate: 3e-3,
        optim: budget.map(|_| Optim::AdamW8bit),
        dropout: if share_prompts { 0.0 } else { 0.05 },
        precision,
        budget,
        ..PreferOptions::tune_defaults()
    };
    let data = Arc::new(Dataset::from_bytes(lines(method).into_bytes()).unwrap());
    let examples = PreferenceExamples::prepare(&model, data, &prefer.method().unwrap(), 32, share_prompts, |_| true, |_| {}).unwrap();
    let mut tuner = match PreferenceTuner::new(&model, examples, HeldOut::default(), &options, &prefer, None) {
        Err(attune::Error::Core(attune::core::Error::OverBudget { needs, .. })) => return needs,
        other => other.unwrap(),
    };
    tuner.step().unwrap();
    let mut losses = [0.0; 10];
    let n = counted(|| losses.iter_mut().for_each(|loss| *loss = tuner.repeat_update().unwrap()));
    let what = format!("{method} {precision:?}, shared: {share_prompts}, budget {budget:?}");
    assert_eq!(n, 0, "{what}: allocations in 10 updates");
    assert!(losses[9] < losses[0], "{what}: the updates must be real: {losses:?}");
    0
}

fn main() {
    // Asked by a harness for what there is to run.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    assert!(counted(|| drop(std::hint::black_box(vec![1u8]))) >= 2, "the counter counts");
    for method in ["dpo", "orpo", "simpo", "cpo", "kto", "plackett_luce"] {
        for (share, precision) in [(true, Precision::Fast), (false, Precision::F32)] {
            check(method, share, precision, None);
            // Groups in parts, where the budget is the least that will do.
            let least = check(method, share, precision, Some(1));
            check(method, share, precision, Some(least));
        }
    }
    println!("preference updates allocate nothing ... ok");
}
