//! What the rounding of `Precision::Fast` does to whole-model gradients, and to what a run learns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::data::Dataset;
use attune::template::MaskOptions;
use attune::tuner::{Examples, Scorer, TuneOptions, Tuner};
use attune::{Model, Precision};
use attune_builtin::settings;
use attune_candle::Random;
use attune_candle::fixture::{self, TYPES};
use attune_core::optim::Schedule;
use attune_tests::compare::cosine;
use attune_tests::engine::{Knobs, Machine, Packed};
use attune_tests::golden::Row;
use std::sync::Arc;

const SEED: u64 = 20_261_122;
/// For models of width 64 with random weights, whose sums are short and average little out; real ones are held to more below.
const TINY: f64 = 0.995;
const BUILT_IN: f64 = 0.999;

/// Four sequences of 24 tokens, the first third of each masked: enough tokens for the kernels that take many.
fn rows(vocab: usize) -> Vec<Row> {
    let mut random = Random::new(SEED);
    let mut row =
        |_| Row { ids: (0..24).map(|_| random.below(vocab) as u32).collect(), mask: (0..24).map(|i| u32::from(i >= 8)).collect() };
    (0..4).map(&mut row).collect()
}

#[test]
fn fast_gradients_point_where_f32_ones_do_for_every_architecture_and_type() {
    let mut said = Vec::new();
    let mut worst: f64 = 1.0;
    for kind in fixture::Model::ALL {
        for quant in TYPES {
            let model = Model::from_bytes("fixture", fixture::bytes(kind, quant, SEED).unwrap()).unwrap();
            let p = Packed::new(&rows(model.spec().vocab));
            let gradients = |precision| {
                Machine::new(&model, p.ids.len(), &Knobs { precision, threads: 2, rank: 8, ..Knobs::default() }).gradients(&p, 0).1
            };
            let angle = cosine(&gradients(Precision::Fast), &gradients(Precision::F32));
            said.push(format!("{kind:?} {quant:?}: {angle:.6}"));
            worst = worst.min(angle);
        }
    }
    println!("cosines between fast and f32 gradients:\n{}", said.join("\n"));
    assert!(worst >= TINY, "the worst cosine is {worst}: {said:#?}");
}

/// The lines of conversations of one prompt and one answer each.
fn lines<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Arc<Dataset> {
    let line = |(prompt, answer): (&str, &str)| {
        let turns =
            [("user", prompt), ("assistant", answer)].map(|(role, content)| serde_json::json!({ "role": role, "content": content }));
        serde_json::json!({ "messages": turns }).to_string() + "\n"
    };
    Arc::new(Dataset::from_bytes(pairs.map(line).collect::<String>().into_bytes()).unwrap())
}

fn examples(model: &Model, data: Arc<Dataset>) -> Examples {
    Examples::prepare(model, data, settings::MAX_LENGTH, MaskOptions::default(), |_| true, |_| {}).unwrap()
}

/// The demo's settings.
fn demo(precision: Precision, steps: u64) -> TuneOptions {
    TuneOptions {
        rank: settings::RANK as u32,
        alpha: settings::ALPHA,
        learning_rate: settings::LEARNING_RATE,
        schedule: Schedule::Cosine,
        warmup: settings::WARMUP_STEPS as u64,
        beta2: settings::BETA2,
        max_grad_norm: settings::MAX_GRAD_NORM,
        steps: Some(steps),
        batch_size: settings::BATCH_SIZE,
        gradient_accumulation: 1,
        max_length: settings::MAX_LENGTH,
        precision,
        ..TuneOptions::default()
    }
}

fn built_in() -> (Model, Arc<Dataset>, Arc<Dataset>) {
    let model = Model::from_bytes("built-in", attune_builtin::model()).unwrap();
    let tuning = attune_builtin::tuning_set();
    let held_out = attune_builtin::held_out();
    let fullest = held_out.iter().map(|t| (t.prompt.as_str(), t.accepted.iter().max_by_key(|a| a.len()).map_or("", String::as_str)));
    (model, lines(tuning.iter().map(|e| (e.prompt.as_str(), e.response.as_str()))), lines(fullest))
}

#[test]
fn the_built_in_models_fast_gradient_is_its_f32_one_from_the_first_update_on() {
    let (model, tuning, _) = built_in();
    // At the start, where B is zero and only its gradient is not, and further on.
    for steps in [0, 12] {
        let gradients = |precision| {
            let mut tuner = Tuner::new(&model, examples(&model, tuning.clone()), None, &demo(Precision::F32, 13), None).unwrap();
            for _ in 0..steps {
                tuner.step().unwrap();
            }
            let start = tuner.current().unwrap();
            let mut tuner = Tuner::new(&model, examples(&model, tuning.clone()), None, &demo(precision, 13), Some(&start)).unwrap();
            tuner.gradients().unwrap().1
        };
        let (fast, exact) = (gradients(Precision::Fast), gradients(Precision::F32));
        let angle = cosine(&fast, &exact);
        println!("built-in model after {steps} updates: cosine {angle:.6}");
        assert!(angle >= BUILT_IN, "after {steps} updates: {angle}");
    }
}

#[test]
fn the_demos_beginning_learns_as_much_fast_as_it_does_in_f32() {
    let (model, tuning, held_out) = built_in();
    let loss = |precision| {
        let mut tuner = Tuner::new(&model, examples(&model, tuning.clone()), None, &demo(precision, 60), None).unwrap();
        while !tuner.is_done() {
            tuner.step().unwrap();
        }
        let adapter = tuner.adapter().unwrap();
        // Both measured the same way: it is what was learnt that is compared.
        let mut scorer = Scorer::new(&model, Some(&adapter), &demo(Precision::F32, 1)).unwrap();
        scorer.score(&examples(&model, held_out.clone()), |_, _, _| Ok(())).unwrap().loss
    };
    let untuned = Scorer::new(&model, None, &demo(Precision::F32, 1)).unwrap().score(&examples(&model, held_out.clone()), |_, _, _| Ok(()));
    let (before, fast, exact) = (untuned.unwrap().loss, loss(Precision::Fast), loss(Precision::F32));
    println!("held-out loss: {before:.4} before, {exact:.4} after an f32 run, {fast:.4} after a fast one");
    assert!(exact < 0.7 * before, "the run must learn, or nothing was compared: {before}, {exact}");
    assert!((fast - exact).abs() <= 0.01 * exact, "fast {fast}, f32 {exact}");
}
