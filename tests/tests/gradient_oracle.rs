//! The engine's whole-model gradient against candle's autograd in f64, and against central differences of its own loss.
//!
//! Everything is seeded by [`SEED`], which every failure names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::Model;
use attune_candle::fixture::{self, GgmlDType, TYPES};
use attune_candle::{DType, Factor, IGNORED, LoraKey, LoraVars, Oracle, Random, Tokens, gradients};
use attune_core::lora::{Layout, Module, Side};
use attune_core::target::{AdamW, Store};
use attune_core::trainer::Update;
use attune_tests::compare::cosine;
use attune_tests::engine::{Knobs, Machine, Packed};
use attune_tests::golden::Row;

const SEED: u64 = 20_240_817;
/// Of a tensor's largest element. Weights are the same numbers on both sides; what differs is f32 against f64.
const TOLERANCE: f64 = 3e-5;

/// Three sequences of different lengths, each with a masked beginning; longer than gemma3's windows.
fn rows(vocab: usize, seed: u64) -> Vec<Row> {
    let mut random = Random::new(seed);
    let row = |(length, prompt): (usize, usize)| Row {
        ids: (0..length).map(|_| random.below(vocab) as u32).collect(),
        mask: (0..length).map(|i| u32::from(i >= prompt)).collect(),
    };
    [(9, 3), (5, 1), (7, 2)].map(row).into()
}

fn model(kind: fixture::Model, quant: GgmlDType) -> (Model, Vec<u8>) {
    let bytes = fixture::bytes(kind, quant, SEED).unwrap();
    (Model::from_bytes("fixture", bytes.clone()).unwrap(), bytes)
}

fn key(layer: usize, module: Module, side: Side) -> LoraKey {
    let factor = if side == Side::A { Factor::A } else { Factor::B };
    (layer, attune_candle::Module::ALL[module as usize], factor)
}

/// The oracle with the engine's adapter.
fn oracle(bytes: &[u8], layout: &Layout, params: &[f32]) -> (Oracle, LoraVars) {
    let oracle = Oracle::read(&mut std::io::Cursor::new(bytes), DType::F64).unwrap();
    let mut lora = LoraVars::new(&oracle);
    let matrix = |layer, module, side| -> Vec<f64> {
        let (start, [r, c]) = layout.place(layer, module, side).unwrap();
        params[start..start + r * c].iter().map(|&x| f64::from(x)).collect()
    };
    layout.each(|layer, module, side, _, _| {
        if side == Side::A {
            let (a, b) = (matrix(layer, module, Side::A), matrix(layer, module, Side::B));
            let scale = f64::from(layout.shape.scale());
            lora.insert(&oracle, layer, attune_candle::Module::ALL[module as usize], layout.rank(), scale, &a, &b).unwrap();
        }
    });
    (oracle, lora)
}

/// Worst difference of any matrix, as a share of its largest element; an error where a number is none or a gradient vanishes.
fn worst(layout: &Layout, got: &[f32], want: &attune_candle::Gradients) -> Result<(f64, String), String> {
    let mut worst = (0.0, String::new());
    let mut bad = None;
    layout.each(|layer, module, side, start, [r, c]| {
        let (got, want) = (&got[start..start + r * c], &want[&key(layer, module, side)]);
        let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        if largest < 1e-12 || got.iter().any(|x| !x.is_finite()) {
            bad = Some(format!("layer {layer} {module:?} {side:?}: largest gradient {largest}"));
        }
        let difference = got.iter().zip(want).fold(0.0f64, |m, (a, b)| m.max((f64::from(*a) - b).abs())) / largest;
        if difference > worst.0 {
            worst = (difference, format!("layer {layer} {module:?} {side:?}"));
        }
    });
    bad.map_or(Ok(worst), Err)
}

fn check(what: &str, layout: &Layout, got: &[f32], want: &attune_candle::Gradients) -> Result<f64, String> {
    match worst(layout, got, want)? {
        (difference, at) if difference > TOLERANCE => {
            Err(format!("{what} (seed {SEED}): {at} differs by {difference:.2e} of its largest element"))
        }
        (difference, _) => Ok(difference),
    }
}

/// The oracle's labels and segments of packed rows.
fn packed_labels(rows: &[Row]) -> (Vec<i64>, Vec<u32>) {
    let label = |(&id, &mask): (&u32, &u32)| if mask == 1 { i64::from(id) } else { IGNORED };
    let labels = rows.iter().flat_map(|r| r.ids.iter().zip(&r.mask).map(label)).collect();
    let segments = rows.iter().enumerate().flat_map(|(s, r)| vec![s as u32; r.ids.len()]).collect();
    (labels, segments)
}

fn autograd(oracle: &Oracle, lora: &LoraVars, rows: &[Row]) -> (f64, attune_candle::Gradients) {
    let p = Packed::new(rows);
    let (labels, segments) = packed_labels(rows);
    let loss = oracle.cross_entropy(&Tokens::packed(&p.ids, &segments), &labels, Some(lora)).unwrap();
    (loss.to_scalar::<f64>().unwrap(), gradients(&loss, lora).unwrap())
}

#[test]
fn every_architecture_in_every_type_agrees_with_autograd() {
    let mut worst = 0.0f64;
    for kind in fixture::Model::ALL {
        for quant in TYPES {
            let (model, bytes) = model(kind, quant);
            let rows = rows(model.spec().vocab, SEED ^ 1);
            let p = Packed::new(&rows);
            let mut machine = Machine::new(&model, p.ids.len(), &Knobs { threads: 2, ..Knobs::default() });
            let layout = machine.trainer.layout().lora;
            let (oracle, lora) = oracle(&bytes, &layout, &machine.params());
            let (loss, grads) = machine.gradients(&p, 0);
            let (want_loss, want) = autograd(&oracle, &lora, &rows);
            assert!(
                (loss - want_loss).abs() < 1e-5 * want_loss.max(1.0),
                "{kind:?} {quant:?} (seed {SEED}): loss {loss}, autograd's {want_loss}"
            );
            worst = worst.max(check(&format!("{kind:?} {quant:?}"), &layout, &grads, &want).unwrap_or_else(|e| panic!("{e}")));
        }
    }
    println!("worst difference of {} models: {worst:.2e} of a matrix's largest element", fixture::Model::ALL.len() * TYPES.len());
}

#[test]
fn any_objectives_coefficients_agree_with_autograd() {
    for kind in fixture::Model::ALL {
        let (model, bytes) = model(kind, GgmlDType::Q8_0);
        let rows = rows(model.spec().vocab, SEED ^ 2);
        let p = Packed::new(&rows);
        let mut machine = Machine::new(&model, p.ids.len(), &Knobs { vocab_chunk: 40, ..Knobs::default() });
        let layout = machine.trainer.layout().lora;
        let (oracle, lora) = oracle(&bytes, &layout, &machine.params());
        let (labels, segments) = packed_labels(&rows);
        let mut random = Random::new(SEED ^ 3);
        // Of both signs, as preference objectives give.
        let weights: Vec<f64> = labels.iter().map(|_| f64::from(random.signed() as f32)).collect();
        // The weight of a target stands at the target; its row is the one before.
        let coef: Vec<f32> = p.rows.iter().map(|&r| -weights[r as usize + 1] as f32).collect();
        let loss = oracle.weighted_loss(&Tokens::packed(&p.ids, &segments), &labels, &weights, Some(&lora)).unwrap();
        let want = gradients(&loss, &lora).unwrap();
        check(&format!("{kind:?}"), &layout, &machine.weighted_gradients(&p, &coef), &want).unwrap();
    }
}

#[test]
fn wrong_gradients_are_rejected() {
    let (model, bytes) = model(fixture::Model::Gemma3, GgmlDType::F32);
    let rows = rows(model.spec().vocab, SEED ^ 1);
    let p = Packed::new(&rows);
    let mut machine = Machine::new(&model, p.ids.len(), &Knobs::default());
    let layout = machine.trainer.layout().lora;
    let (oracle, lora) = oracle(&bytes, &layout, &machine.params());
    let (_, grads) = machine.gradients(&p, 0);
    let (_, want) = autograd(&oracle, &lora, &rows);
    check("right", &layout, &grads, &want).unwrap();
    // One element a thousandth off, one matrix without its sign, one zero, packed sequences that see each other.
    let (start, [r, c]) = layout.place(1, Module::K, Side::B).unwrap();
    let largest = (start..start + r * c).max_by(|&i, &j| grads[i].abs().total_cmp(&grads[j].abs())).unwrap();
    let spoil = |f: &dyn Fn(&mut Vec<f32>)| {
        let mut spoilt = grads.clone();
        f(&mut spoilt);
        check("spoilt", &layout, &spoilt, &want).unwrap_err()
    };
    assert!(spoil(&|g| g[largest] *= 1.001).contains("layer 1 K B"));
    assert!(spoil(&|g| g[start..start + r * c].iter_mut().for_each(|x| *x = -*x)).contains("layer 1 K B"));
    assert!(spoil(&|g| g[start..start + r * c].fill(0.0)).contains("layer 1 K B"));
    spoil(&|g| g[0] = f32::NAN);
    let mut joined = p.clone();
    joined.starts.fill(0);
    let (_, seen) = machine.gradients(&joined, 0);
    check("joined", &layout, &seen, &want).unwrap_err();
}

#[test]
fn top_layers_alone_have_the_whole_models_gradients() {
    for kind in [fixture::Model::Gemma3, fixture::Model::Llama] {
        let (model, bytes) = model(kind, GgmlDType::F32);
        let rows = rows(model.spec().vocab, SEED ^ 4);
        let p = Packed::new(&rows);
        for layers in 1..model.spec().layers {
            let mut machine = Machine::new(&model, p.ids.len(), &Knobs { layers, ..Knobs::default() });
            let layout = machine.trainer.layout().lora;
            let (oracle, lora) = oracle(&bytes, &layout, &machine.params());
            let (_, grads) = machine.gradients(&p, 0);
            check(&format!("{kind:?} top {layers}"), &layout, &grads, &autograd(&oracle, &lora, &rows).1).unwrap();
        }
    }
}

#[test]
fn strides_chunks_and_half_precision_inputs_keep_the_gradient() {
    for kind in fixture::Model::ALL {
        let (model, _) = model(kind, GgmlDType::Q4_0);
        let p = Packed::new(&rows(model.spec().vocab, SEED ^ 5));
        let gradients = |knobs: Knobs| Machine::new(&model, p.ids.len() + 3, &knobs).gradients(&p, 0).1;
        let whole = gradients(Knobs::default());
        for stride in 2..=4 {
            let same = gradients(Knobs { stride, ..Knobs::default() });
            assert!(same == whole, "{kind:?}: recomputed inputs must be the kept ones, bit by bit (stride {stride})");
        }
        for keep in [2, model.spec().layers, 99] {
            let same = gradients(Knobs { keep, ..Knobs::default() });
            assert!(same == whole, "{kind:?}: what is kept must be what would be computed again, bit by bit ({keep} blocks)");
        }
        let scale = whole.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for vocab_chunk in [7, 32, 96] {
            let chunked = gradients(Knobs { vocab_chunk, ..Knobs::default() });
            let difference = chunked.iter().zip(&whole).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(difference < 1e-5 * scale, "{kind:?}: chunks of {vocab_chunk} differ by {difference}, largest {scale}");
        }
        for stride in [1, 3] {
            let half = gradients(Knobs { inputs: Store::F16, stride, ..Knobs::default() });
            let angle = cosine(&half, &whole);
            assert!(angle > 0.9999 && half != whole, "{kind:?}: cosine {angle} with f16 inputs, stride {stride}");
        }
    }
}

/// Directions that finite differences go along.
#[derive(Debug, Clone, Copy)]
enum Along {
    /// A random half of the gradient's own elements: a strong signal for what the gradient claims.
    HalfTheGradient,
    /// Random numbers on one linear's A and B of all layers, as large as its parameters: a signal for what the gradient may have forgotten.
    Linear(Module),
}

fn direction(along: Along, layout: &Layout, params: &[f32], grads: &[f32], random: &mut Random) -> Vec<f32> {
    let mut d = vec![0.0; params.len()];
    match along {
        Along::HalfTheGradient => {
            let norm = grads.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
            let length = params.iter().map(|&p| f64::from(p) * f64::from(p)).sum::<f64>().sqrt();
            d.iter_mut().zip(grads).filter(|_| random.bits() & 1 == 1).for_each(|(d, &g)| *d = (f64::from(g) / norm * length) as f32);
        }
        Along::Linear(wanted) => layout.each(|_, module, _, start, [r, c]| {
            if module == wanted {
                d[start..start + r * c].iter_mut().for_each(|d| *d = 0.3 * random.signed() as f32);
            }
        }),
    }
    d
}

/// Derivative of the loss along `d` by fourth-order central differences, in steps of `h`.
fn difference(machine: &mut Machine, p: &Packed, seed: u64, params: &[f32], d: &[f32], h: f64) -> f64 {
    let mut loss = |steps: f64| {
        let moved: Vec<f32> = params.iter().zip(d).map(|(&x, &d)| (f64::from(x) + steps * h * f64::from(d)) as f32).collect();
        machine.trainer.write_params(&moved).unwrap();
        machine.loss(p, seed)
    };
    let slope = (8.0 * (loss(1.0) - loss(-1.0)) - (loss(2.0) - loss(-2.0))) / (12.0 * h);
    machine.trainer.write_params(params).unwrap();
    slope
}

/// What the differences may be off by: the loss is a mean of f32 numbers of about 5, good to about 5e-7, so a step of `h` leaves `5e-7 / h`.
fn agrees(slope: f64, claimed: f64, h: f64) -> bool {
    (slope - claimed).abs() <= 2e-3 * claimed.abs() + 1e-6 / h
}

fn finite_differences(kind: fixture::Model, dropout: f32) {
    let (model, _) = model(kind, GgmlDType::F32);
    let p = Packed::new(&rows(model.spec().vocab, SEED ^ 6));
    let mut machine = Machine::new(&model, p.ids.len(), &Knobs { dropout, rank: 8, ..Knobs::default() });
    let layout = machine.trainer.layout().lora;
    let params = machine.params();
    let seed = SEED ^ 7;
    let (loss, grads) = machine.gradients(&p, seed);
    let mut random = Random::new(SEED ^ 8);
    let halves = [Along::HalfTheGradient; 4].into_iter();
    for along in halves.chain(Module::ALL.map(Along::Linear)) {
        let d = direction(along, &layout, &params, &grads, &mut random);
        let claimed: f64 = d.iter().zip(&grads).map(|(&d, &g)| f64::from(d) * f64::from(g)).sum();
        let h = match along {
            Along::HalfTheGradient => 0.02 / claimed.abs().max(1.0),
            Along::Linear(_) => 0.005,
        };
        let slope = difference(&mut machine, &p, seed, &params, &d, h);
        assert!(
            agrees(slope, claimed, h),
            "{kind:?} dropout {dropout} {along:?} (seed {SEED}): slope {slope}, gradient says {claimed}, step {h}"
        );
        if matches!(along, Along::HalfTheGradient) {
            assert!(
                claimed.abs() > 0.05 && !agrees(slope, 1.01 * claimed, h),
                "{kind:?}: a hundredth too much must be rejected: {slope}, {claimed}"
            );
        }
    }
    if dropout > 0.0 {
        let other = machine.loss(&p, seed ^ 1);
        assert!((other - loss).abs() > 1e-6, "{kind:?}: another seed must drop others: {loss} and {other}");
        assert!((machine.loss(&p, seed) - loss).abs() < 1e-6, "{kind:?}: the same seed must drop the same");
    }
}

#[test]
fn central_differences_of_the_loss_agree_for_every_architecture() {
    fixture::Model::ALL.into_iter().for_each(|kind| finite_differences(kind, 0.0));
}

#[test]
fn central_differences_agree_with_dropout_too() {
    fixture::Model::ALL.into_iter().for_each(|kind| finite_differences(kind, 0.3));
}

#[test]
fn the_8_bit_optimiser_follows_the_f32_one() {
    let (model, _) = model(fixture::Model::Qwen3, GgmlDType::Q8_0);
    let p = Packed::new(&rows(model.spec().vocab, SEED ^ 9));
    let run = |optim_8bit| {
        let mut machine = Machine::new(&model, p.ids.len(), &Knobs { optim_8bit, ..Knobs::default() });
        let before = machine.params();
        let adamw = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
        let losses: Vec<f64> = (0..30)
            .map(|step| {
                let loss = machine.gather(&p, step);
                machine.trainer.update(&Update { rate: 1e-3, b_ratio: 1.0, max_grad_norm: 1.0, adamw }).unwrap();
                loss
            })
            .collect();
        let moved: Vec<f32> = machine.params().iter().zip(&before).map(|(a, b)| a - b).collect();
        (losses, moved)
    };
    let ((exact, path), (rough, rough_path)) = (run(false), run(true));
    let angle = cosine(&path, &rough_path);
    println!("after 30 updates: losses {} and {}, cosine of the paths {angle}", exact[29], rough[29]);
    assert!(exact[29] < 0.8 * exact[0], "the run must learn: {exact:?}");
    assert!((exact[29] - rough[29]).abs() < 0.05 * (exact[0] - exact[29]), "{} and {}", exact[29], rough[29]);
    assert!(angle > 0.95 && path != rough_path, "cosine {angle}");
}
