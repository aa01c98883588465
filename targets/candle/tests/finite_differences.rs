//! Autograd's gradients against central differences in f64, for every architecture and type.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune_candle::fixture::{self, GgmlDType, Model, Shape};
use attune_candle::{DType, Factor, Gradients, IGNORED, LoraVars, Module, Oracle, Random, Tokens, gradients};

/// Three packed sequences with masked prompts and a weight for every target.
struct Batch {
    ids: Vec<u32>,
    segments: Vec<u32>,
    labels: Vec<i64>,
    weights: Vec<f64>,
}

impl Batch {
    fn random(seed: u64, vocabulary: usize) -> Self {
        let mut random = Random::new(seed);
        let mut batch = Self { ids: vec![], segments: vec![], labels: vec![], weights: vec![] };
        for (segment, length) in [9, 4, 12].into_iter().enumerate() {
            for t in 0..length {
                let id = random.below(vocabulary) as u32;
                batch.ids.push(id);
                batch.segments.push(segment as u32);
                batch.labels.push(if t < 3 { IGNORED } else { i64::from(id) });
                batch.weights.push(random.signed());
            }
        }
        batch
    }

    fn loss(&self, oracle: &Oracle, lora: &LoraVars) -> attune_candle::Tensor {
        let tokens = Tokens::packed(&self.ids, &self.segments);
        oracle.weighted_loss(&tokens, &self.labels, &self.weights, Some(lora)).unwrap()
    }
}

fn oracle(model: Model, quant: GgmlDType, seed: u64) -> Oracle {
    let bytes = fixture::bytes(model, quant, seed).unwrap();
    Oracle::read(&mut std::io::Cursor::new(bytes), DType::F64).unwrap()
}

/// The worst difference between a gradient and its central difference, relative to the matrix's largest
/// gradient, over `samples` elements of every matrix.
fn worst_difference(oracle: &Oracle, batch: &Batch, lora: &LoraVars, grads: &Gradients, samples: usize) -> f64 {
    let step = 1e-5;
    let mut random = Random::new(99);
    let mut worst: f64 = 0.0;
    for (&key, grad) in grads {
        let largest = grad.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        assert!(largest > 1e-9, "{key:?}: a gradient of zeros shows nothing");
        let values = lora.values(key).unwrap();
        for _ in 0..samples {
            let i = random.below(grad.len());
            let at = |offset: f64| {
                let mut moved = values.clone();
                moved[i] += offset;
                lora.set_values(key, &moved).unwrap();
                batch.loss(oracle, lora).to_scalar::<f64>().unwrap()
            };
            let numeric = (at(step) - at(-step)) / (2.0 * step);
            worst = worst.max((numeric - grad[i]).abs() / largest);
        }
        lora.set_values(key, &values).unwrap();
    }
    worst
}

#[test]
fn gradients_match_central_differences_for_every_architecture() {
    for (seed, model) in Model::ALL.into_iter().enumerate() {
        let oracle = oracle(model, GgmlDType::F32, seed as u64);
        let batch = Batch::random(seed as u64, oracle.vocabulary());
        let lora = LoraVars::random(&oracle, &Module::ALL, 3, 1.5, 5).unwrap();
        let grads = gradients(&batch.loss(&oracle, &lora), &lora).unwrap();
        assert_eq!(grads.len(), 14 * oracle.config().layers);
        let worst = worst_difference(&oracle, &batch, &lora, &grads, 2);
        println!("{model:?}: {worst:.1e}");
        assert!(worst < 1e-6, "{model:?}: {worst:e}");
    }
}

#[test]
fn gradients_match_central_differences_for_every_type() {
    for (seed, quant) in fixture::TYPES.into_iter().enumerate() {
        let oracle = oracle(Model::Llama, quant, seed as u64);
        let batch = Batch::random(seed as u64, oracle.vocabulary());
        let lora = LoraVars::random(&oracle, &[Module::Q, Module::Down], 2, 1.0, 5).unwrap();
        let grads = gradients(&batch.loss(&oracle, &lora), &lora).unwrap();
        let worst = worst_difference(&oracle, &batch, &lora, &grads, 1);
        println!("{quant:?}: {worst:.1e}");
        assert!(worst < 1e-6, "{quant:?}: {worst:e}");
    }
}

#[test]
fn the_comparison_rejects_a_gradient_that_is_slightly_wrong() {
    let oracle = oracle(Model::Qwen3, GgmlDType::F32, 3);
    let batch = Batch::random(3, oracle.vocabulary());
    let lora = LoraVars::random(&oracle, &[Module::K], 2, 1.0, 5).unwrap();
    let mut grads = gradients(&batch.loss(&oracle, &lora), &lora).unwrap();
    for g in grads.get_mut(&(0, Module::K, Factor::A)).unwrap() {
        *g *= 1.0 + 1e-4;
        *g += 1e-4;
    }
    assert!(worst_difference(&oracle, &batch, &lora, &grads, 4) > 1e-6);
}

#[test]
fn cross_entropy_is_the_weighted_loss_with_equal_weights() {
    let oracle = oracle(Model::Gemma3, GgmlDType::F32, 1);
    let batch = Batch::random(1, oracle.vocabulary());
    let lora = LoraVars::random(&oracle, &Module::ALL, 2, 1.0, 5).unwrap();
    let tokens = Tokens::packed(&batch.ids, &batch.segments);
    let targets = batch.labels.iter().filter(|l| **l != IGNORED).count();
    let equal = vec![1.0 / targets as f64; batch.ids.len()];
    let mean = oracle.cross_entropy(&tokens, &batch.labels, Some(&lora)).unwrap();
    let weighted = oracle.weighted_loss(&tokens, &batch.labels, &equal, Some(&lora)).unwrap();
    let (mean_grads, weighted_grads) = (gradients(&mean, &lora).unwrap(), gradients(&weighted, &lora).unwrap());
    assert!((mean.to_scalar::<f64>().unwrap() - weighted.to_scalar::<f64>().unwrap()).abs() < 1e-12);
    for (key, grad) in &mean_grads {
        for (a, b) in grad.iter().zip(&weighted_grads[key]) {
            assert!((a - b).abs() < 1e-12, "{key:?}");
        }
    }
}

#[test]
fn packed_sequences_do_not_see_each_other() {
    for model in Model::ALL {
        let oracle = oracle(model, GgmlDType::F32, 11);
        let batch = Batch::random(11, oracle.vocabulary());
        let packed = oracle.forward(&Tokens::packed(&batch.ids, &batch.segments), None).unwrap().to_vec2::<f64>().unwrap();
        let unpacked = oracle.forward(&Tokens::new(&batch.ids), None).unwrap().to_vec2::<f64>().unwrap();
        let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0, |m: f64, (x, y)| m.max((x - y).abs()));
        let alone = oracle.forward(&Tokens::new(&batch.ids[9..13]), None).unwrap().to_vec2::<f64>().unwrap();
        for (t, row) in alone.iter().enumerate() {
            assert!(distance(row, &packed[9 + t]) < 1e-12, "{model:?}");
        }
        assert!(distance(&alone[3], &unpacked[12]) > 1e-3, "{model:?}: without segments the sequences must mix");
    }
}

#[test]
fn the_window_hides_old_tokens_from_local_layers_alone() {
    // One local layer: a change 5 tokens back is out of sight, 4 tokens back it is seen.
    let shape = Shape { layers: 1, ..Shape::of(Model::Gemma3, GgmlDType::F32) };
    let mut file = std::io::Cursor::new(Vec::new());
    fixture::write_shape(Model::Gemma3, shape, GgmlDType::F32, 2, &mut file).unwrap();
    let oracle = Oracle::read(&mut std::io::Cursor::new(file.into_inner()), DType::F64).unwrap();
    let last = |ids: &[u32]| oracle.forward(&Tokens::new(ids), None).unwrap().to_vec2::<f64>().unwrap().pop().unwrap();
    let reference = last(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(reference, last(&[1, 2, 30, 4, 5, 6, 7, 8]));
    assert_ne!(reference, last(&[1, 2, 3, 40, 5, 6, 7, 8]));
    // With three layers the third is global and sees everything.
    let deep = self::oracle(Model::Gemma3, GgmlDType::F32, 2);
    let last = |ids: &[u32]| deep.forward(&Tokens::new(ids), None).unwrap().to_vec2::<f64>().unwrap().pop().unwrap();
    assert_ne!(last(&[1; 14]), last(&[2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]));
}

#[test]
fn rope_scaling_changes_the_logits() {
    let ids: Vec<u32> = (0..12).collect();
    let logits = |model| oracle(model, GgmlDType::F32, 4).forward(&Tokens::new(&ids), None).unwrap().to_vec2::<f64>().unwrap();
    // The same seed draws the same weights, so only rope differs.
    assert_eq!(logits(Model::Llama)[0], logits(Model::LlamaLinearRope)[0]);
    assert_ne!(logits(Model::Llama)[11], logits(Model::LlamaLinearRope)[11]);
    assert_eq!(logits(Model::Gemma3)[0], logits(Model::Gemma3LinearRope)[0]);
    assert_ne!(logits(Model::Gemma3)[11], logits(Model::Gemma3LinearRope)[11]);
}

#[test]
fn rows_that_no_block_divides_take_ggmls_fallback_type() {
    use candle_core::quantized::gguf_file::Content;
    let bytes = fixture::bytes(Model::Llama, GgmlDType::Q4K, 0).unwrap();
    let content = Content::read(&mut std::io::Cursor::new(bytes)).unwrap();
    assert_eq!(content.tensor_infos["blk.0.attn_q.weight"].ggml_dtype, GgmlDType::Q4K);
    assert_eq!(content.tensor_infos["blk.0.ffn_down.weight"].ggml_dtype, GgmlDType::Q5_0);
    assert_eq!(fixture::type_for_row(GgmlDType::Q6K, 40), GgmlDType::F16);
    assert_eq!(fixture::type_for_row(GgmlDType::Q8_0, 40), GgmlDType::F16);
}

#[test]
fn bad_input_is_an_error() {
    let oracle = oracle(Model::Qwen2, GgmlDType::F32, 0);
    assert!(oracle.forward(&Tokens::new(&[]), None).is_err());
    assert!(oracle.forward(&Tokens::new(&[97]), None).is_err());
    assert!(oracle.forward(&Tokens::packed(&[1, 2], &[0]), None).is_err());
    assert!(oracle.cross_entropy(&Tokens::new(&[1, 2]), &[IGNORED, IGNORED], None).is_err());
    assert!(oracle.cross_entropy(&Tokens::new(&[1, 2]), &[IGNORED, 97], None).is_err());
    assert!(oracle.cross_entropy(&Tokens::new(&[1, 2]), &[IGNORED], None).is_err());
    let mut lora = LoraVars::new(&oracle);
    assert!(lora.insert(&oracle, 2, Module::Q, 1, 1.0, &[0.0; 24], &[0.0; 32]).is_err());
    assert!(lora.insert(&oracle, 0, Module::Q, 1, 1.0, &[0.0; 23], &[0.0; 32]).is_err());
    assert!(Oracle::read(&mut std::io::Cursor::new(b"GGUF"), DType::F64).is_err());
    assert!(Oracle::read(&mut std::io::Cursor::new(vec![]), DType::F16).is_err());
}
