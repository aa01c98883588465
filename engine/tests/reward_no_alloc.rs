//! A reward model's update and its scores allocate nothing, on any thread: the global allocator of this binary counts. Reading examples is done before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

use attune::data::Dataset;
use attune::prefer::PreferenceExamples;
use attune::reward::{RewardModel, RewardOptions, RewardTuner, ScoreOptions};
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

fn lines(rankings: bool) -> String {
    let line = |i: u32| match rankings {
        true => format!("{{\"prompt_ids\": [1, 2, {i}], \"completions_ids\": [[{}, 4], [5], [6, 7, 8]]}}\n", 30 + i),
        false => format!("{{\"prompt_ids\": [1, 2, {i}, 9], \"chosen_ids\": [{}, 4, 5], \"rejected_ids\": [6, {i}]}}\n", 30 + i),
    };
    (0..8).map(line).collect()
}

fn check(rankings: bool, share_prompts: bool, precision: Precision, budget: Option<u64>) -> u64 {
    let model = Model::from_bytes("tiny", attune::doc::tiny_model_without_tokenizer()).unwrap();
    let reward = RewardOptions { share_prompts, center_rewards_coefficient: Some(0.01) };
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
        ..RewardOptions::tune_defaults()
    };
    let data = Arc::new(Dataset::from_bytes(lines(rankings).into_bytes()).unwrap());
    let examples = PreferenceExamples::prepare_for_scores(&model, data, 32, share_prompts, |_| true, |_| {}).unwrap();
    let mut tuner = match RewardTuner::new(&model, examples, None, &options, &reward, None) {
        Err(attune::Error::Core(attune::core::Error::OverBudget { needs, .. })) => return needs,
        other => other.unwrap(),
    };
    tuner.step().unwrap();
    let mut losses = [0.0; 10];
    let n = counted(|| losses.iter_mut().for_each(|loss| *loss = tuner.repeat_update().unwrap()));
    let what = format!("rankings: {rankings}, {precision:?}, shared: {share_prompts}, budget {budget:?}");
    assert_eq!(n, 0, "{what}: allocations in 10 updates");
    assert!(losses[9] < losses[0], "{what}: the updates must be real: {losses:?}");

    let options = ScoreOptions { max_length: 32, batch_tokens: 64, share_prompts, threads: 3, precision, ..ScoreOptions::default() };
    let mut reward = RewardModel::new(&model, &tuner.adapter().unwrap(), &options).unwrap();
    let answers: [&[u32]; 7] = [&[3], &[4, 5, 6], &[], &[7; 20], &[8; 9], &[9], &[10; 11]];
    let mut scores = [0.0; 7];
    reward.score_ids(&[1, 2], &answers[..1], &mut scores[..1]).unwrap();
    let n = counted(|| {
        for _ in 0..5 {
            reward.score_ids(&[1, 2, 3, 4], &answers, &mut scores).unwrap();
        }
    });
    assert_eq!(n, 0, "{what}: allocations in scoring 35 answers");
    assert!(scores.iter().any(|score| *score != scores[0]), "{what}: scores are real: {scores:?}");
    0
}

fn main() {
    // Asked by a harness for what there is to run.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    assert!(counted(|| drop(std::hint::black_box(vec![1u8]))) >= 2, "the counter counts");
    for rankings in [false, true] {
        for (share, precision) in [(true, Precision::Fast), (false, Precision::F32)] {
            check(rankings, share, precision, None);
            // Groups in parts, where the budget is the least that will do.
            let least = check(rankings, share, precision, Some(1));
            check(rankings, share, precision, Some(least));
        }
    }
    println!("reward models' updates and scores allocate nothing ... ok");
}
