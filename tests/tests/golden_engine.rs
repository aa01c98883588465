//! The engine by its public path, in F32, against golden values: a GGUF file and a PEFT folder go in; logits, loss, gradients and a PEFT folder come out.
//!
//! Tolerances are ten times what torch's own float32 lies from float64: logits 5e-5 and losses 1e-5 absolutely, gradients 3e-5 of the tensor's largest
//! element, weights after five AdamW steps 2e-5 absolutely. The bases are made so that F32, F16 and Q8_0 hold the same numbers, so one tolerance serves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::adapter::Adapter;
use attune::core::lora::{Layout, Side};
use attune::core::spec::Arch;
use attune::core::target::AdamW;
use attune::core::trainer::Update;
use attune::session::{KvType, Session, SessionOptions};
use attune::tuner::{TuneOptions, Tuner};
use attune::{Model, Precision};
use attune_core::lora::Module;
use attune_core::quant::Type;
use attune_tests::compare::{close, close_to_largest, cosine, worst};
use attune_tests::convert::{permute, to_gguf};
use attune_tests::engine::examples;
use attune_tests::golden::{Golden, Row, Tensors, tensors};
use serde_json::Value;
use tempfile::TempDir;

const TYPES: [Type; 3] = [Type::F32, Type::F16, Type::Q8_0];

/// A golden model and its adapter, opened from files.
struct Opened {
    golden: Golden,
    model: Model,
    adapter: Adapter,
    folder: TempDir,
    name: String,
}

impl Opened {
    fn new(golden: Golden, ty: Type) -> Opened {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, to_gguf(&golden.json("config.json"), &golden.bytes("model.safetensors"), ty)).unwrap();
        let model = Model::open(&path).unwrap();
        let adapter = Adapter::open(&golden.path.join("adapter"), &model.base().unwrap()).unwrap();
        let name = format!("{} {ty:?}", golden.path.display());
        Opened { golden, model, adapter, folder, name }
    }

    fn tuner(&self, rows: &[Row], options: &TuneOptions) -> Tuner {
        let lengths = rows.iter().map(|r| r.ids.len());
        let max_length = if options.packing { lengths.sum() } else { lengths.max().unwrap() };
        let options = TuneOptions { max_length, shuffle: false, precision: Precision::F32, threads: 2, ..options.clone() };
        Tuner::new(&self.model, examples(&self.model, rows, max_length), None, &options, Some(&self.adapter)).unwrap()
    }

    /// A golden tensor of the adapter's, with its rows in the file's order.
    fn tensor(&self, tensors: &Tensors, prefix: &str, layer: usize, module: Module, side: Side) -> Vec<f32> {
        let part = if side == Side::A { "lora_A" } else { "lora_B" };
        let (shape, data) = &tensors[&format!("{prefix}base_model.model.model.layers.{layer}.{}.{part}.weight", module.hf_path())];
        let spec = self.model.spec();
        match (spec.arch, side, module) {
            (Arch::Llama, Side::B, Module::Q) => permute(data, spec.heads, shape[1]),
            (Arch::Llama, Side::B, Module::K) => permute(data, spec.kv_heads, shape[1]),
            _ => data.clone(),
        }
    }
}

fn each(mut check: impl FnMut(&Opened)) {
    for ty in TYPES {
        Golden::all().into_iter().for_each(|golden| check(&Opened::new(golden, ty)));
    }
}

#[test]
fn logits_of_a_session_agree_with_and_without_the_adapter() {
    each(|f| {
        let forward = f.golden.tensors("forward.safetensors");
        let rows = Golden::rows(&f.golden.json("inputs.json")["sft"]);
        let options = SessionOptions {
            context: 64,
            prefill_batch: 16,
            kv: Some(KvType::F32),
            precision: Precision::F32,
            threads: 2,
            ..SessionOptions::default()
        };
        let mut session = Session::new(&f.model, &options.for_adapters([&f.adapter])).unwrap();
        session.add_adapter(&f.adapter, 1.0).unwrap();
        let vocab = f.model.spec().vocab;
        for (name, scale) in [("logits_lora", 1.0), ("logits_base", 0.0)] {
            session.scale_adapter(0, scale).unwrap();
            let (shape, want) = &forward[name];
            for (i, row) in rows.iter().enumerate() {
                session.reset();
                for (t, &id) in row.ids.iter().enumerate() {
                    let at = (i * shape[1] + t) * vocab;
                    let got = session.feed(&[id]).unwrap();
                    close(&format!("{} {name} row {i} token {t}", f.name), got, &want[at..at + vocab], 5e-5);
                }
                session.reset();
                let at = (i * shape[1] + row.ids.len() - 1) * vocab;
                close(&format!("{} {name} prefilled", f.name), session.feed(&row.ids).unwrap(), &want[at..at + vocab], 5e-5);
            }
        }
        let (got, want) = (session.feed(&rows[0].ids).unwrap(), &forward["logits_lora"].1[(rows[0].ids.len() - 1) * vocab..][..vocab]);
        assert!(worst(got, want).0 > 5e-3, "{}: a base with its adapter off must not pass for the adapter's logits", f.name);
    });
}

#[test]
fn loss_and_gradients_of_the_tuner_agree() {
    each(|f| {
        let rows = Golden::rows(&f.golden.json("inputs.json")["sft"]);
        let expected = f.golden.json("expected.json")["sft"]["loss"].as_f64().unwrap();
        let want = f.golden.tensors("grads_sft.safetensors");
        let layout = Layout::new(f.model.spec(), f.adapter.shape).unwrap();
        // Both rows in one pass; each in its own, the loss being a mean over both; both packed into one row.
        let together = TuneOptions { batch_size: 2, gradient_accumulation: 1, ..TuneOptions::default() };
        let apart = TuneOptions { batch_size: 1, gradient_accumulation: 2, ..TuneOptions::default() };
        let packed = TuneOptions { packing: true, batch_size: 1, gradient_accumulation: 1, ..TuneOptions::default() };
        for (how, options) in [("together", together), ("apart", apart), ("packed", packed)] {
            let (loss, grads) = f.tuner(&rows, &options).gradients().unwrap();
            assert!((loss - expected).abs() < 1e-5, "{} {how}: loss {loss}, expected {expected}", f.name);
            layout.each(|layer, module, side, start, [r, c]| {
                let what = format!("{} {how} layer {layer} {module:?} {side:?}", f.name);
                close_to_largest(&what, &grads[start..start + r * c], &f.tensor(&want, "", layer, module, side), 3e-5);
            });
        }
    });
}

#[test]
fn five_adamw_steps_end_at_the_golden_weights_in_an_exported_folder() {
    let float = |v: &Value| v.as_f64().unwrap_or(0.0) as f32;
    each(|f| {
        let (expected, inputs) = (f.golden.json("expected.json"), f.golden.json("inputs.json"));
        let rows: Vec<Row> = (0..5).flat_map(|k| Golden::rows(&inputs["adamw"][k])).collect();
        for name in ["adamw_a", "adamw_b"] {
            let (hyper, expected) = (&expected["hyper"][name], &expected[name]);
            let adamw = AdamW {
                beta1: float(&hyper["betas"][0]),
                beta2: float(&hyper["betas"][1]),
                epsilon: float(&hyper["eps"]),
                weight_decay: float(&hyper["weight_decay"]),
            };
            let mut tuner = f.tuner(&rows, &TuneOptions { batch_size: 1, gradient_accumulation: 2, ..TuneOptions::default() });
            for step in 0..5 {
                let settings =
                    Update { rate: float(&hyper["lr"][step]), b_ratio: 1.0, max_grad_norm: float(&hyper["max_grad_norm"]), adamw };
                let log = tuner.step_with(&settings).unwrap();
                let want = expected["losses"][step].as_f64().unwrap();
                assert!((log.loss - want).abs() < 1e-5, "{} {name} step {step}: loss {}, expected {want}", f.name, log.loss);
                let want = float(&expected["grad_norms_before_clip"][step]);
                assert!(
                    (log.grad_norm - want).abs() < 2e-5 * want,
                    "{} {name} step {step}: norm {}, expected {want}",
                    f.name,
                    log.grad_norm
                );
            }
            let folder = f.folder.path().join(name);
            tuner.current().unwrap().export_peft(&folder, &f.model.base().unwrap()).unwrap();
            let got = tensors(&std::fs::read(folder.join("adapter_model.safetensors")).unwrap());
            let want = f.golden.tensors(&format!("{name}.safetensors"));
            assert_eq!(got.len(), want.len(), "{} {name}: as many matrices", f.name);
            for (tensor, (shape, data)) in &want {
                let (found, numbers) = &got[tensor.strip_prefix("final.").unwrap()];
                assert_eq!(found, shape, "{} {name} {tensor}", f.name);
                close(&format!("{} {name} {tensor}", f.name), numbers, data, 2e-5);
            }
        }
    });
}

/// With activations rounded to 8 bits, as `Precision::Fast` does for a few tokens at once, nothing is exact any more; direction and size hold all the same.
#[test]
fn the_fast_path_keeps_logits_and_gradients_in_direction_and_size() {
    let mut rounded = 0;
    for golden in Golden::all() {
        let f = Opened::new(golden, Type::Q8_0);
        let rows = Golden::rows(&f.golden.json("inputs.json")["sft"]);
        let max_length = rows.iter().map(|r| r.ids.len()).max().unwrap();
        let of = |precision| {
            let options = TuneOptions {
                max_length,
                shuffle: false,
                precision,
                threads: 2,
                batch_size: 2,
                gradient_accumulation: 1,
                ..TuneOptions::default()
            };
            let mut tuner = Tuner::new(&f.model, examples(&f.model, &rows, max_length), None, &options, Some(&f.adapter)).unwrap();
            let (loss, grads) = tuner.gradients().unwrap();
            let options = SessionOptions { context: 64, kv: Some(KvType::F32), precision, threads: 2, ..SessionOptions::default() };
            let mut session = Session::new(&f.model, &options).unwrap();
            let logits: Vec<f32> = rows[0].ids.iter().flat_map(|&id| session.feed(&[id]).unwrap().to_vec()).collect();
            (loss, grads, logits)
        };
        let ((loss, grads, logits), (fast_loss, fast_grads, fast_logits)) = (of(Precision::F32), of(Precision::Fast));
        let (gradients, answers) = (cosine(&grads, &fast_grads), cosine(&logits, &fast_logits));
        println!("{}: loss {loss} and {fast_loss}; cosine of gradients {gradients}, of logits {answers}", f.name);
        assert!((loss - fast_loss).abs() < 0.02 * loss, "{}: {loss} and {fast_loss}", f.name);
        assert!(gradients > 0.999 && answers > 0.999, "{}: cosines {gradients} and {answers}", f.name);
        rounded += usize::from(logits != fast_logits);
    }
    assert!(rounded > 0, "the fast path was not taken: nothing was compared");
}
