//! Core alone, on the scalar reference, against PyTorch's values: logits, loss, every gradient, five AdamW steps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune_core::arena::{Arena, Region};
use attune_core::decoder::Decoder;
use attune_core::gguf::Gguf;
use attune_core::lora::{Layout, Module, Modules, Shape, Side};
use attune_core::objective::cross_entropy;
use attune_core::plan::{self, DecodeRequest, TuneRequest};
use attune_core::quant::Type;
use attune_core::spec::Arch;
use attune_core::target::host::{Host, Scalar};
use attune_core::target::split::Serial;
use attune_core::target::{AdamW, Store};
use attune_core::trainer::{Batch, Trainer, Update};
use attune_core::weights::{LayerWeights, Model};
use attune_tests::compare::{close, close_to_largest};
use attune_tests::convert::{permute, to_gguf};
use attune_tests::golden::{Golden, Row, Tensors};

#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
struct Line([u8; 64]);

fn memory(bytes: usize) -> Vec<Line> {
    vec![Line([0; 64]); bytes.div_ceil(64)]
}

/// A golden model as a GGUF file in aligned memory.
struct Fixture {
    golden: Golden,
    file: Vec<Line>,
    len: usize,
    shape: Shape,
}

impl Fixture {
    fn new(golden: Golden, ty: Type) -> Fixture {
        let gguf = to_gguf(&golden.json("config.json"), &golden.bytes("model.safetensors"), ty);
        let mut file = memory(gguf.len());
        bytemuck::cast_slice_mut(&mut file)[..gguf.len()].copy_from_slice(&gguf);
        let config = golden.json("adapter/adapter_config.json");
        let shape = Shape {
            rank: config["r"].as_u64().unwrap() as u32,
            alpha: config["lora_alpha"].as_f64().unwrap() as f32,
            use_rslora: false,
            modules: Modules::ALL,
            first_layer: 0,
            layers: golden.json("config.json")["num_hidden_layers"].as_u64().unwrap() as u32,
        };
        Fixture { golden, len: gguf.len(), file, shape }
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.file)[..self.len]
    }

    /// Adapter numbers of a safetensors file, in the layout's order.
    fn params(&self, layout: &Layout, model: &Model<'_>, tensors: &Tensors, prefix: &str) -> Vec<f32> {
        let mut params = vec![0.0; layout.len()];
        layout.each(|layer, module, side, start, [rows, cols]| {
            let part = if side == Side::A { "lora_A" } else { "lora_B" };
            let name = format!("{prefix}base_model.model.model.layers.{layer}.{}.{part}.weight", module.hf_path());
            let mut data = tensors[&name].1.clone();
            let heads = if module == Module::Q { model.spec.heads } else { model.spec.kv_heads };
            if model.spec.arch == Arch::Llama && side == Side::B && matches!(module, Module::Q | Module::K) {
                data = permute(&data, heads, cols);
            }
            params[start..start + rows * cols].copy_from_slice(&data);
        });
        params
    }

    fn with_trainer(&self, turn: impl Fn(&mut TuneRequest), check: impl FnOnce(&mut Trainer<Scalar<'_>>, &Model<'_>, &Layout)) {
        let mut table = vec![LayerWeights::EMPTY; 16];
        let model = Model::load(&Gguf::parse(self.bytes()).unwrap(), &mut table).unwrap();
        let mut request = TuneRequest {
            shape: self.shape,
            tokens: 128,
            max_length: 64,
            vocab_chunk: 1000,
            inputs: Store::F32,
            stride: 1,
            keep: 1,
            optim_8bit: false,
            dropout: false,
            backward: true,
            score_head: false,
        };
        turn(&mut request);
        let layout = plan::tune(&model.spec, &request, &mut |_| {}).unwrap();
        let (mut adapter, mut work) = (memory(layout.totals.adapter), memory(layout.totals.work));
        let mut arena = Arena::default();
        arena.bind_shared(Region::WEIGHTS, self.bytes()).unwrap();
        arena.bind(Region::adapter(0).unwrap(), bytemuck::cast_slice_mut(&mut adapter)).unwrap();
        arena.bind(Region::WORK, bytemuck::cast_slice_mut(&mut work)).unwrap();
        let host = Host::new(arena, Serial);
        let mut trainer = Trainer::new(host, &model.spec, model.globals.rope_freqs, layout, 0.0).unwrap();
        let start = self.golden.tensors("adapter/adapter_model.safetensors");
        trainer.write_params(&self.params(&layout.lora, &model, &start, "")).unwrap();
        check(&mut trainer, &model, &layout.lora);
    }
}

#[derive(Default)]
struct Packed {
    ids: Vec<u32>,
    positions: Vec<u32>,
    starts: Vec<u32>,
    rows: Vec<u32>,
    targets: Vec<u32>,
}

impl Packed {
    fn new(rows: &[Row]) -> Packed {
        let mut p = Packed::default();
        for row in rows {
            let start = p.ids.len() as u32;
            for (i, (&id, &mask)) in row.ids.iter().zip(&row.mask).enumerate() {
                if mask == 1 {
                    p.rows.push(start + i as u32 - 1);
                    p.targets.push(id);
                }
                p.ids.push(id);
                p.positions.push(i as u32);
                p.starts.push(start);
            }
        }
        p
    }

    fn batch(&self) -> Batch<'_> {
        let (positions, starts) = (&self.positions, &self.starts);
        Batch { ids: &self.ids, positions, starts, target_rows: &self.rows, target_ids: &self.targets, ..Batch::default() }
    }
}

fn gradients(trainer: &mut Trainer<Scalar<'_>>, model: &Model<'_>, p: &Packed) -> (f64, Vec<f32>) {
    let mut logprobs = vec![0.0; p.targets.len()];
    let mut coef = vec![0.0; p.targets.len()];
    trainer.forward(model, &p.batch(), 0, &mut logprobs).unwrap();
    let loss = cross_entropy::loss(&logprobs, p.targets.len(), &mut coef);
    trainer.backward(model, &coef).unwrap();
    let mut grads = vec![0.0; trainer.layout().lora.len()];
    trainer.read_grads(&mut grads).unwrap();
    (loss, grads)
}

fn check_gradients(ty: Type, turn: impl Fn(&mut TuneRequest) + Copy, tolerance: f32) {
    for golden in Golden::all() {
        let f = Fixture::new(golden, ty);
        let at = f.golden.path.display().to_string();
        f.with_trainer(turn, |trainer, model, layout| {
            let p = Packed::new(&Golden::rows(&f.golden.json("inputs.json")["sft"]));
            let (loss, grads) = gradients(trainer, model, &p);
            let expected = f.golden.json("expected.json")["sft"]["loss"].as_f64().unwrap();
            assert!((loss - expected).abs() < f64::from(tolerance.max(1e-5)), "{at}: loss {loss}, expected {expected}");
            let want = f.params(layout, model, &f.golden.tensors("grads_sft.safetensors"), "");
            layout.each(|layer, module, side, start, [rows, cols]| {
                let range = start..start + rows * cols;
                let what = format!("{at} layer {layer} {module:?} {side:?}");
                close_to_largest(&what, &grads[range.clone()], &want[range], tolerance);
            });
        });
    }
}

#[test]
fn every_gradient_agrees_with_torch_in_f32_and_q8_0() {
    check_gradients(Type::F32, |_| {}, 3e-5);
    check_gradients(Type::Q8_0, |_| {}, 3e-5);
}

#[test]
fn gradients_do_not_depend_on_chunks_and_strides() {
    check_gradients(Type::F32, |r| (r.vocab_chunk, r.stride) = (50, 2), 3e-5);
    check_gradients(Type::F32, |r| (r.vocab_chunk, r.stride) = (320, 3), 3e-5);
    check_gradients(Type::F16, |r| r.inputs = Store::F16, 2e-2);
}

#[test]
fn five_adamw_steps_end_at_torchs_weights() {
    let float = |v: &serde_json::Value| v.as_f64().unwrap_or(0.0) as f32;
    for golden in Golden::all() {
        let f = Fixture::new(golden, Type::F32);
        let (expected, inputs) = (f.golden.json("expected.json"), f.golden.json("inputs.json"));
        for name in ["adamw_a", "adamw_b"] {
            f.with_trainer(
                |_| {},
                |trainer, model, layout| {
                    let hyper = &expected["hyper"][name];
                    let adamw = AdamW {
                        beta1: float(&hyper["betas"][0]),
                        beta2: float(&hyper["betas"][1]),
                        epsilon: float(&hyper["eps"]),
                        weight_decay: float(&hyper["weight_decay"]),
                    };
                    for step in 0..5 {
                        let p = Packed::new(&Golden::rows(&inputs["adamw"][step]));
                        let (loss, _) = gradients(trainer, model, &p);
                        assert!((loss - expected[name]["losses"][step].as_f64().unwrap()).abs() < 1e-5, "step {step}: {loss}");
                        let rate = float(&hyper["lr"][step]);
                        let max_grad_norm = float(&hyper["max_grad_norm"]);
                        let norm = trainer.update(&Update { rate, b_ratio: 1.0, max_grad_norm, adamw }).unwrap();
                        let want = float(&expected[name]["grad_norms_before_clip"][step]);
                        assert!((norm - want).abs() < 1e-5 * want, "step {step}: norm {norm}, expected {want}");
                    }
                    let tensors = f.golden.tensors(&format!("{name}.safetensors"));
                    let want = f.params(layout, model, &tensors, "final.");
                    let mut got = vec![0.0; want.len()];
                    trainer.read_params(&mut got).unwrap();
                    close(&format!("{} {name}", f.golden.path.display()), &got, &want, 2e-5);
                },
            );
        }
    }
}

#[test]
fn logits_agree_with_torch_with_the_adapter_on_and_off() {
    for golden in Golden::all() {
        let f = Fixture::new(golden, Type::F32);
        let mut table = vec![LayerWeights::EMPTY; 16];
        let model = Model::load(&Gguf::parse(f.bytes()).unwrap(), &mut table).unwrap();
        let request = DecodeRequest { context: 64, batch: 16, kv: Store::F32, rank: 8 };
        let layout = plan::decode(&model.spec, &request, &mut |_| {}).unwrap();
        let lora = Layout::new(&model.spec, f.shape).unwrap();
        let params = f.params(&lora, &model, &f.golden.tensors("adapter/adapter_model.safetensors"), "");
        let (mut cache, mut work) = (memory(layout.totals.cache), memory(layout.totals.work));
        let mut adapter = memory(lora.len() * 4);
        bytemuck::cast_slice_mut(&mut adapter)[..lora.len()].copy_from_slice(&params);
        let mut arena = Arena::default();
        arena.bind_shared(Region::WEIGHTS, f.bytes()).unwrap();
        arena.bind(Region::CACHE, bytemuck::cast_slice_mut(&mut cache)).unwrap();
        arena.bind(Region::WORK, bytemuck::cast_slice_mut(&mut work)).unwrap();
        arena.bind(Region::adapter(0).unwrap(), bytemuck::cast_slice_mut(&mut adapter)).unwrap();
        let host = Host::new(arena, Serial);
        let mut decoder = Decoder::new(host, &model.spec, model.globals.rope_freqs, layout).unwrap();
        decoder.add_adapter(&model.spec, f.shape, 1.0).unwrap();
        let forward = f.golden.tensors("forward.safetensors");
        let vocab = model.spec.vocab;
        let rows = Golden::rows(&f.golden.json("inputs.json")["sft"]);
        for (name, scale) in [("logits_lora", 1.0), ("logits_base", 0.0)] {
            decoder.scale_adapter(0, scale).unwrap();
            let (shape, want) = &forward[name];
            for (i, row) in rows.iter().enumerate() {
                decoder.rewind(0);
                let mut logits = vec![0.0; vocab];
                for (t, &id) in row.ids.iter().enumerate() {
                    decoder.feed(&model, &[id], &mut logits).unwrap();
                    let at = (i * shape[1] + t) * vocab;
                    let what = format!("{} {name} row {i} token {t}", f.golden.path.display());
                    close(&what, &logits, &want[at..at + vocab], 5e-5);
                }
                let last = logits.clone();
                decoder.rewind(0);
                decoder.feed(&model, &row.ids, &mut logits).unwrap();
                close("all at once", &logits, &last, 1e-5);
            }
        }
    }
}
