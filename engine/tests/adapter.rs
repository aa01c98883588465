//! Adapters in all their forms: what goes out comes back bit for bit, and what is wrong is said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use attune::adapter::{Adapter, Base, Error, Info, describe, hash_tensors, save_params};
use attune_core::gguf::Gguf;
use attune_core::gguf::write::{TensorInfo, WriteValue, Writer};
use attune_core::lora::{Layout, Module, Modules, Shape, Side};
use attune_core::quant::{self, Type};
use attune_core::spec::Spec;
use common::{LLAMA, Widths, model, model_with, params, shape, shared};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

fn with_base<T>(bytes: &[u8], f: impl FnOnce(&Base<'_>) -> T) -> T {
    let gguf = Gguf::parse(bytes).unwrap();
    let spec = Spec::from_gguf(&gguf).unwrap();
    f(&Base::new(&spec, gguf))
}

fn adapter(base: &Base<'_>, shape: Shape) -> Adapter {
    Adapter::new(base, shape, params(base.spec(), shape, 7), Info::tuned(12)).unwrap()
}

fn shapes() -> Vec<Shape> {
    let some = Modules::NONE.with(Module::K).with(Module::Down);
    vec![
        shape(2, Modules::ALL),
        Shape { use_rslora: true, alpha: 3.7, ..shape(3, Modules::ALL) },
        Shape { first_layer: 2, layers: 2, ..shape(1, some) },
        Shape { first_layer: 1, layers: 1, alpha: 0.3, ..shape(5, Modules::NONE.with(Module::Q)) },
    ]
}

/// `scale · B · A` of a linear, `[out, in]`, in f64.
fn delta(adapter: &Adapter, spec: &Spec, layer: usize, module: Module) -> Vec<f64> {
    let layout = Layout::new(spec, adapter.shape).unwrap();
    let (inputs, outputs) = spec.module_dims(module);
    let mut out = vec![0.0; inputs * outputs];
    let (Some((a, _)), Some((b, _))) = (layout.place(layer, module, Side::A), layout.place(layer, module, Side::B)) else { return out };
    let rank = adapter.shape.rank as usize;
    for o in 0..outputs {
        for i in 0..inputs {
            for r in 0..rank {
                out[o * inputs + i] += f64::from(adapter.params[b + o * rank + r]) * f64::from(adapter.params[a + r * inputs + i]);
            }
            out[o * inputs + i] *= f64::from(adapter.shape.scale());
        }
    }
    out
}

#[test]
fn a_saved_adapter_is_the_same_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    with_base(&model(LLAMA, "tiny"), |base| {
        for shape in shapes() {
            let adapter = adapter(base, shape);
            let path = folder.path().join("a.attune");
            adapter.save(&path).unwrap();
            assert_eq!(Adapter::open(&path, base).unwrap(), adapter);
            save_params(&folder.path().join("b.attune"), base, shape, &adapter.info, &adapter.params).unwrap();
            assert_eq!(fs::read(&path).unwrap(), fs::read(folder.path().join("b.attune")).unwrap());
        }
    });
}

#[test]
fn every_form_gives_back_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for arch in ["llama", "qwen2", "gemma3"] {
        with_base(&model(Widths { arch, ..LLAMA }, "tiny"), |base| {
            for (i, shape) in shapes().into_iter().enumerate() {
                let adapter = adapter(base, shape);
                let same = |other: &Adapter, what: &str| {
                    assert_eq!((other.shape, &other.params), (adapter.shape, &adapter.params), "{arch} {i} {what}");
                };
                let (peft, gguf) = (at(&format!("{arch}{i}")), at(&format!("{arch}{i}.gguf")));
                adapter.export_peft(&peft, base).unwrap();
                let from_peft = Adapter::open(&peft, base).unwrap();
                same(&from_peft, "peft");
                from_peft.export_gguf(&gguf, base).unwrap();
                let from_gguf = Adapter::open(&gguf, base).unwrap();
                same(&from_gguf, "gguf");
                from_gguf.export_peft(&at("again"), base).unwrap();
                assert_eq!(
                    fs::read(peft.join("adapter_model.safetensors")).unwrap(),
                    fs::read(at("again/adapter_model.safetensors")).unwrap()
                );
                from_gguf.save(&at("again.attune")).unwrap();
                same(&Adapter::open(&at("again.attune"), base).unwrap(), "native");
            }
        });
    }
}

#[test]
fn peft_rows_of_q_and_k_are_permuted_for_llama_and_only_there() {
    let folder = tempfile::tempdir().unwrap();
    for (arch, permuted) in [("llama", true), ("qwen2", false), ("qwen3", false), ("gemma", false)] {
        with_base(&model(Widths { arch, ..LLAMA }, "tiny"), |base| {
            let spec = base.spec();
            let adapter = adapter(base, shape(2, Modules::ALL));
            adapter.export_peft(folder.path(), base).unwrap();
            let bytes = fs::read(folder.path().join("adapter_model.safetensors")).unwrap();
            let tensors = SafeTensors::deserialize(&bytes).unwrap();
            let layout = Layout::new(spec, adapter.shape).unwrap();
            for module in Module::ALL {
                let name = format!("base_model.model.model.layers.3.{}.lora_B.weight", module.hf_path());
                let tensor = tensors.tensor(&name).unwrap();
                let peft: Vec<f32> = tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                let (start, [rows, cols]) = layout.place(3, module, Side::B).unwrap();
                assert_eq!(tensor.shape(), [rows, cols]);
                // As converters do: [heads, 2, E/2] to [heads, E/2, 2].
                let half = spec.head_dim / 2;
                let mut expected = Vec::new();
                for head in 0..rows / spec.head_dim {
                    for j in 0..half {
                        for i in 0..2 {
                            let row = if permuted && matches!(module, Module::Q | Module::K) {
                                head * spec.head_dim + i * half + j
                            } else {
                                head * spec.head_dim + j * 2 + i
                            };
                            expected.extend_from_slice(&peft[row * cols..(row + 1) * cols]);
                        }
                    }
                }
                assert_eq!(adapter.params[start..start + rows * cols], expected, "{arch} {module:?}");
            }
        });
    }
}

/// A PEFT folder made without this crate's writer: `tensors` are name, shape, type; numbers are a function of name and index.
fn peft_folder(folder: &Path, config: &Value, tensors: &[(String, [usize; 2], Dtype)]) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let data: Vec<Vec<u8>> = tensors.iter().map(|(name, [rows, cols], ty)| numbers(name, rows * cols, *ty)).collect();
    let views =
        tensors.iter().zip(&data).map(|((name, shape, ty), data)| (name.clone(), TensorView::new(*ty, shape.to_vec(), data).unwrap()));
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    fs::write(folder.join("adapter_model.safetensors"), safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

fn number(name: &str, i: usize) -> f32 {
    let seed = name.bytes().fold(0, |n: u64, b| n.wrapping_mul(31) + u64::from(b));
    // Few bits, so that every type holds it.
    (attune_core::rng::uniform(seed, 0, i as u64) * 64.0).floor() / 64.0 - 0.5
}

fn numbers(name: &str, len: usize, ty: Dtype) -> Vec<u8> {
    (0..len)
        .flat_map(|i| {
            let x = number(name, i);
            match ty {
                Dtype::F32 => x.to_le_bytes().to_vec(),
                Dtype::F16 => half::f16::from_f32(x).to_le_bytes().to_vec(),
                Dtype::BF16 => half::bf16::from_f32(x).to_le_bytes().to_vec(),
                Dtype::F64 => f64::from(x).to_le_bytes().to_vec(),
                _ => panic!("{ty:?}"),
            }
        })
        .collect()
}

/// Names and shapes of PEFT's tensors for `modules` on `layers`.
fn tensors(spec: &Spec, layers: &[usize], modules: &[Module], rank: usize, ty: Dtype) -> Vec<(String, [usize; 2], Dtype)> {
    let mut out = Vec::new();
    for layer in layers {
        for module in modules {
            let (inputs, outputs) = spec.module_dims(*module);
            let stem = format!("base_model.model.model.layers.{layer}.{}", module.hf_path());
            out.push((format!("{stem}.lora_A.weight"), [rank, inputs], ty));
            out.push((format!("{stem}.lora_B.weight"), [outputs, rank], ty));
        }
    }
    out
}

fn config(rank: usize, modules: &[Module]) -> Value {
    let names: Vec<&str> = modules.iter().map(|m| m.name()).collect();
    json!({"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": names, "bias": "none"})
}

const QV: [Module; 2] = [Module::Q, Module::V];

#[test]
fn half_precision_tensors_and_other_names_for_them_are_read() {
    let folder = tempfile::tempdir().unwrap();
    with_base(&model(Widths { arch: "qwen3", ..LLAMA }, "tiny"), |base| {
        for ty in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            for (from, to) in [
                ("", ""),
                (".weight", ".default.weight"),
                (".model.layers", ".model.language_model.layers"),
                (".model.layers", ".language_model.model.layers"),
            ] {
                let mut tensors = tensors(base.spec(), &[0, 1, 2, 3], &QV, 2, ty);
                tensors.iter_mut().for_each(|t| t.0 = t.0.replace(from, to));
                peft_folder(folder.path(), &config(2, &QV), &tensors);
                let adapter = Adapter::open(folder.path(), base).unwrap();
                let layout = Layout::new(base.spec(), adapter.shape).unwrap();
                layout.each(|layer, module, side, start, [rows, cols]| {
                    let end = if side == Side::A { "lora_A" } else { "lora_B" };
                    let name = format!("base_model.model.model.layers.{layer}.{}.{end}.weight", module.hf_path()).replace(from, to);
                    for i in 0..rows * cols {
                        assert_eq!(adapter.params[start + i], number(&name, i), "{name}");
                    }
                });
            }
        }
    });
}

#[test]
fn ranks_and_alphas_of_their_own_mean_the_same_in_one_shape() {
    let folder = tempfile::tempdir().unwrap();
    for use_rslora in [false, true] {
        with_base(&model(LLAMA, "tiny"), |base| {
            let spec = base.spec();
            // Layer 1's v has rank 1 and alpha 3, q everywhere rank 4, layer 2's q alpha 5.
            let ranks = |layer: usize, module: Module| match (layer, module) {
                (_, Module::Q) => 4,
                (1, Module::V) => 1,
                _ => 2,
            };
            let alphas = |layer: usize, module: Module| match (layer, module) {
                (1, Module::V) => 3.0,
                (2, Module::Q) => 5.0,
                _ => 8.0,
            };
            let mut config = config(2, &QV);
            config["use_rslora"] = use_rslora.into();
            config["rank_pattern"] = json!({"q_proj": 4, r"^model\.layers\.1\..*v_proj": 1});
            config["alpha_pattern"] = json!({"layers.1.self_attn.v_proj": 3, r"model.layers.(?=2\.)2.self_attn.q_proj": 5.0});
            let mut all = Vec::new();
            for layer in 0..4 {
                for module in QV {
                    all.extend(tensors(spec, &[layer], &[module], ranks(layer, module), Dtype::F32));
                }
            }
            peft_folder(folder.path(), &config, &all);
            let adapter = Adapter::open(folder.path(), base).unwrap();
            assert_eq!((adapter.shape.rank, adapter.shape.alpha), (4, 8.0));
            for layer in 0..4 {
                for module in QV {
                    let (rank, alpha) = (ranks(layer, module), alphas(layer, module));
                    let scale = alpha / if use_rslora { (rank as f64).sqrt() } else { rank as f64 };
                    let (inputs, outputs) = spec.module_dims(module);
                    let stem = format!("base_model.model.model.layers.{layer}.{}", module.hf_path());
                    let (a, b) = (format!("{stem}.lora_A.weight"), format!("{stem}.lora_B.weight"));
                    let found = delta(&adapter, spec, layer, module);
                    for o in 0..outputs {
                        let head = o / 8 * 8;
                        let row = if module == Module::Q { head + o % 8 % 4 * 2 + o % 8 / 4 } else { o };
                        for i in 0..inputs {
                            let product: f64 =
                                (0..rank).map(|r| f64::from(number(&b, o * rank + r)) * f64::from(number(&a, r * inputs + i))).sum();
                            let difference = (found[row * inputs + i] - scale * product).abs();
                            assert!(difference < 1e-6, "layer {layer} {module:?} {o} {i}: {difference}");
                        }
                    }
                }
            }
        });
    }
}

#[test]
fn layers_that_are_left_out_are_zero_and_stay_out() {
    let folder = tempfile::tempdir().unwrap();
    let (given, out, gguf) = (folder.path().join("in"), folder.path().join("out"), folder.path().join("out.gguf"));
    with_base(&model(LLAMA, "tiny"), |base| {
        let mut settings = config(2, &QV);
        settings["layers_to_transform"] = json!([1, 3]);
        peft_folder(&given, &settings, &tensors(base.spec(), &[1, 3], &QV, 2, Dtype::F32));
        let adapter = Adapter::open(&given, base).unwrap();
        assert_eq!((adapter.shape.first_layer, adapter.shape.layers), (1, 3));
        assert!(delta(&adapter, base.spec(), 2, Module::Q).iter().all(|x| *x == 0.0));
        assert!(delta(&adapter, base.spec(), 3, Module::Q).iter().any(|x| *x != 0.0));
        adapter.export_peft(&out, base).unwrap();
        let written: Value = serde_json::from_slice(&fs::read(out.join("adapter_config.json")).unwrap()).unwrap();
        assert_eq!(written["layers_to_transform"], json!([1, 3]));
        let [a, b] = [&given, &out].map(|f| fs::read(f.join("adapter_model.safetensors")).unwrap());
        let [a, b] = [&a, &b].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
        assert_eq!(a.len(), b.len());
        for (name, tensor) in a.tensors() {
            assert_eq!((tensor.shape(), tensor.data()), (b.tensor(&name).unwrap().shape(), b.tensor(&name).unwrap().data()));
        }
        adapter.export_gguf(&gguf, base).unwrap();
        assert_eq!(Gguf::parse(&fs::read(&gguf).unwrap()).unwrap().tensor_count(), 8);
        assert_eq!(Adapter::open(&gguf, base).unwrap().params, adapter.params);
    });
}

#[test]
fn target_modules_may_be_patterns_or_all_linears() {
    let folder = tempfile::tempdir().unwrap();
    with_base(&model(LLAMA, "tiny"), |base| {
        let cases = [
            (json!("all-linear"), Module::ALL.to_vec(), vec![0, 1, 2, 3]),
            (json!(r"model\.layers\.[23]\.self_attn\.(q|v)_proj"), QV.to_vec(), vec![2, 3]),
            (json!(r"(?!.*mlp).*\.[qv]_proj"), QV.to_vec(), vec![0, 1, 2, 3]),
            (json!(["self_attn.q_proj", "layers.1.self_attn.v_proj", "lm_head_that_is_not_there"]), vec![Module::Q], vec![0, 1, 2, 3]),
        ];
        for (targets, modules, layers) in cases {
            let mut settings = config(2, &QV);
            settings["target_modules"] = targets.clone();
            let mut all = tensors(base.spec(), &layers, &modules, 2, Dtype::F32);
            if targets.is_array() {
                all.extend(tensors(base.spec(), &[1], &[Module::V], 2, Dtype::F32));
            }
            peft_folder(folder.path(), &settings, &all);
            Adapter::open(folder.path(), base).unwrap();
            // One too few, and one too many.
            peft_folder(folder.path(), &settings, &all[1..]);
            let error = Adapter::open(folder.path(), base).unwrap_err();
            assert!(matches!(error, Error::MissingTensors { missing: 1, .. }), "{targets}: {error}");
        }
        let mut settings = config(2, &QV);
        settings["exclude_modules"] = json!(["layers.0.self_attn.q_proj"]);
        peft_folder(folder.path(), &settings, &tensors(base.spec(), &[0, 1, 2, 3], &QV, 2, Dtype::F32));
        assert!(matches!(Adapter::open(folder.path(), base), Err(Error::Tensor { .. })));
    });
}

#[test]
fn settings_that_cannot_be_honoured_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("peft_type", json!("IA3")),
        ("peft_type", Value::Null),
        ("bias", json!("all")),
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("trainable_token_indices", json!([1])),
        ("target_parameters", json!(["x"])),
        ("layer_replication", json!([[0, 2]])),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("init_lora_weights", json!("olora")),
        ("r", json!(0)),
        ("r", json!(1u64 << 40)),
        ("r", json!("8")),
        ("lora_alpha", Value::Null),
        ("use_rslora", json!("yes")),
        ("target_modules", json!(7)),
        ("layers_to_transform", json!(["a"])),
        ("rank_pattern", json!([1])),
        ("alpha_pattern", json!({"(": 1})),
    ];
    with_base(&model(LLAMA, "tiny"), |base| {
        let all = tensors(base.spec(), &[0, 1, 2, 3], &QV, 2, Dtype::F32);
        for (key, value) in cases {
            let mut settings = config(2, &QV);
            settings[key] = value;
            peft_folder(folder.path(), &settings, &all);
            let error = Adapter::open(folder.path(), base).unwrap_err();
            assert!(matches!(&error, Error::Setting { key: found, .. } if found == key), "{key}: {error}");
        }
        // What PEFT writes by itself, and what it may write one day, is no obstacle.
        let mut settings = config(2, &QV);
        for (key, value) in
            [("modules_to_save", Value::Null), ("loftq_config", json!({})), ("peft_version", json!("1")), ("later", json!({"a": 1}))]
        {
            settings[key] = value;
        }
        peft_folder(folder.path(), &settings, &all);
        Adapter::open(folder.path(), base).unwrap();
    });
}

#[test]
fn patterns_that_would_run_for_ever_are_given_up() {
    let folder = tempfile::tempdir().unwrap();
    with_base(&model(LLAMA, "tiny"), |base| {
        let all = tensors(base.spec(), &[0, 1, 2, 3], &QV, 2, Dtype::F32);
        let (deep, wide) = (format!("{}q{}", "(".repeat(30_000), ")".repeat(30_000)), "((a{1000}){1000}){1000}".to_owned());
        let slow = r"(?=x?)((\w|\.|[a-z])*)*\1!".to_owned();
        for pattern in [deep, wide, slow] {
            let mut settings = config(2, &QV);
            settings["alpha_pattern"] = json!({pattern.clone(): 1});
            peft_folder(folder.path(), &settings, &all);
            let error = Adapter::open(folder.path(), base).unwrap_err();
            assert!(matches!(&error, Error::Setting { key, .. } if key == "alpha_pattern"), "{error}");
            // Where the tensors themselves tell, they do.
            let mut settings = config(2, &QV);
            settings["target_modules"] = pattern.into();
            peft_folder(folder.path(), &settings, &all);
            Adapter::open(folder.path(), base).unwrap();
        }
    });
}

#[test]
fn tensors_that_do_not_belong_are_named() {
    let folder = tempfile::tempdir().unwrap();
    with_base(&model(LLAMA, "tiny"), |base| {
        let good = tensors(base.spec(), &[0, 1, 2, 3], &QV, 2, Dtype::F32);
        let check = |tensors: &[(String, [usize; 2], Dtype)], named: &str| {
            peft_folder(folder.path(), &config(2, &QV), tensors);
            let error = Adapter::open(folder.path(), base).unwrap_err();
            assert!(matches!(&error, Error::Tensor { tensor, .. } if tensor == named), "{named}: {error}");
        };
        let strangers = [
            "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
            "base_model.model.model.layers.0.mlp.gate_proj.lora_A.weight",
            "base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight",
            "base_model.model.lm_head.lora_A.weight",
            "base_model.model.model.vision_tower.layers.0.self_attn.q_proj.lora_A.weight",
            "model.layers.0.self_attn.q_proj.lora_A.weight",
        ];
        for stranger in strangers {
            let mut all = good.clone();
            all.push((stranger.to_string(), [2, 16], Dtype::F32));
            check(&all, stranger);
        }
        let name = good[3].0.clone();
        for change in [([2, 16], Dtype::F32), ([16, 3], Dtype::F32), ([32, 2], Dtype::F32), ([16, 2], Dtype::F64)] {
            let mut all = good.clone();
            (all[3].1, all[3].2) = change;
            check(&all, &name);
        }
    });
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    with_base(&model(LLAMA, "tiny"), |base| {
        let mut adapter = adapter(base, shape(2, Modules::ALL));
        *adapter.params.last_mut().unwrap() = f32::NAN;
        let at = |name: &str| folder.path().join(name);
        adapter.save(&at("a.attune")).unwrap();
        adapter.export_peft(&at("peft"), base).unwrap();
        adapter.export_gguf(&at("a.gguf"), base).unwrap();
        for form in ["a.attune", "peft", "a.gguf"] {
            let error = Adapter::open(&at(form), base).unwrap_err();
            assert!(matches!(error, Error::NotFinite { layer: 3, module: "down_proj", .. }), "{form}: {error}");
        }
    });
}

#[test]
fn an_adapter_of_another_base_needs_insisting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.attune");
    let other = model_with(LLAMA, "other", &[("token_embd.weight", 0.25), ("output_norm.weight", 1.0)]);
    let original = with_base(&model(LLAMA, "tiny"), |base| {
        let adapter = adapter(base, shape(2, Modules::ALL));
        adapter.save(&path).unwrap();
        adapter
    });
    with_base(&other, |base| {
        let error = Adapter::open(&path, base).unwrap_err();
        assert!(matches!(error, Error::OtherBase { .. }));
        let message = error.to_string();
        assert!(message.contains("tiny (") && message.contains("other (") && message.contains("insist"), "{message}");
        let opened = Adapter::open_on_any_base(&path, base).unwrap();
        assert_eq!((&opened.params, opened.base.clone()), (&original.params, base.id()));
    });
    let wider = Widths { ff: 48, ..LLAMA };
    with_base(&model(wider, "wider"), |base| {
        assert!(matches!(Adapter::open_on_any_base(&path, base), Err(Error::Native { .. })));
    });
    let qwen = Widths { arch: "qwen2", ..LLAMA };
    with_base(&model(qwen, "qwen"), |base| {
        assert!(matches!(Adapter::open_on_any_base(&path, base), Err(Error::Architecture { .. })));
    });
}

#[test]
fn the_hash_names_tensors_and_nothing_else() {
    let hash = |bytes: &[u8]| hash_tensors(&Gguf::parse(bytes).unwrap());
    let one = [("token_embd.weight", 0.5), ("output_norm.weight", 1.0)];
    let original = hash(&model_with(LLAMA, "tiny", &one));
    assert_eq!(original, hash(&model_with(LLAMA, "another name", &one)));
    assert_eq!(original, hash(&model_with(LLAMA, "tiny", &[one[1], one[0]])));
    let others = [
        vec![("token_embd.weight", 0.5), ("output_norm.weight", 1.0 + f32::EPSILON)],
        vec![("token_embd.weight", 0.5), ("output_form.weight", 1.0)],
        vec![("token_embd.weight", 0.5)],
    ];
    for other in others {
        assert_ne!(original, hash(&model_with(LLAMA, "tiny", &other)), "{other:?}");
    }
    assert_ne!(original, hash(&model_with(Widths { width: 20, vocab: 8, ..LLAMA }, "tiny", &one)));
    // By another program (hashlib), so that it stays what it is.
    assert_eq!(attune::adapter::hex(&original), include_str!("adapter_hash.txt").trim());
}

/// A GGUF LoRA file: what llama.cpp's converter writes, with what a case changes.
fn gguf_lora(
    spec: &Spec,
    ty: Type,
    alpha: f32,
    change: impl FnOnce(&mut Vec<(&'static str, WriteValue<'static>)>, &mut Vec<(String, [u64; 2])>),
) -> Vec<u8> {
    let mut metadata = vec![
        ("general.type", WriteValue::Str("adapter")),
        ("general.architecture", WriteValue::Str("llama")),
        ("adapter.type", WriteValue::Str("lora")),
        ("adapter.lora.alpha", WriteValue::F32(alpha)),
    ];
    let mut tensors: Vec<(String, [u64; 2])> = Vec::new();
    for layer in 0..spec.layers {
        let (inputs, outputs) = spec.module_dims(Module::Down);
        tensors.push((format!("blk.{layer}.ffn_down.weight.lora_a"), [inputs as u64, 32]));
        tensors.push((format!("blk.{layer}.ffn_down.weight.lora_b"), [32, outputs as u64]));
    }
    change(&mut metadata, &mut tensors);
    let infos: Vec<TensorInfo<'_>> = tensors.iter().map(|(name, dims)| TensorInfo { name, ty: ty.into(), dims }).collect();
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, &metadata, &infos).unwrap();
    for (name, [cols, rows]) in &tensors {
        let values: Vec<f32> = (0..cols * rows).map(|i| number(name, i as usize)).collect();
        let mut blocks = vec![0; ty.row_bytes(values.len()).unwrap()];
        quant::encode(ty, &values, &mut blocks).unwrap();
        writer.tensor(&blocks).unwrap();
    }
    writer.finish().unwrap();
    out
}

#[test]
fn gguf_adapters_are_read_in_every_type() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    with_base(&model(LLAMA, "tiny"), |base| {
        for (ty, near) in [(Type::F32, 0.0), (Type::F16, 0.0), (Type::BF16, 0.0), (Type::Q8_0, 0.003)] {
            fs::write(&path, gguf_lora(base.spec(), ty, 16.0, |_, _| {})).unwrap();
            let adapter = Adapter::open(&path, base).unwrap();
            assert_eq!((adapter.shape.rank, adapter.shape.alpha, adapter.shape.use_rslora), (32, 16.0, false));
            let layout = Layout::new(base.spec(), adapter.shape).unwrap();
            layout.each(|layer, _, side, start, [rows, cols]| {
                let end = if side == Side::A { 'a' } else { 'b' };
                for i in 0..rows * cols {
                    let expected = number(&format!("blk.{layer}.ffn_down.weight.lora_{end}"), i);
                    assert!((adapter.params[start + i] - expected).abs() <= near, "{ty} {layer} {end} {i}");
                }
            });
        }
        // llama.cpp scales by 1 where alpha is 0.
        fs::write(&path, gguf_lora(base.spec(), Type::F32, 0.0, |_, _| {})).unwrap();
        assert_eq!(Adapter::open(&path, base).unwrap().shape.scale(), 1.0);
    });
}

#[test]
fn gguf_files_that_are_no_adapter_of_the_model_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    with_base(&model(LLAMA, "tiny"), |base| {
        type Change = fn(&mut Vec<(&'static str, WriteValue<'static>)>, &mut Vec<(String, [u64; 2])>);
        let cases: [(u16, Change); 11] = [
            (502, |m, _| m[0].1 = WriteValue::Str("model")),
            (505, |m, _| m[1].1 = WriteValue::Str("qwen2")),
            (507, |m, _| m[2].1 = WriteValue::Str("dora")),
            (507, |m, _| m.truncate(3)),
            (511, |m, _| m[3].1 = WriteValue::Str("16")),
            (507, |m, _| m.push(("adapter.alora.invocation_tokens", WriteValue::U32s(&[1])))),
            (509, |_, t| t[0].0 = "token_embd.weight.lora_a".into()),
            (509, |_, t| t[0].0 = "blk.77.ffn_down.weight.lora_a".into()),
            (509, |_, t| t[0].1[0] = 64),
            (510, |_, t| t.truncate(7)),
            (502, |_, t| t.clear()),
        ];
        for (i, (code, change)) in cases.into_iter().enumerate() {
            fs::write(&path, gguf_lora(base.spec(), Type::F32, 16.0, change)).unwrap();
            let error = Adapter::open(&path, base).unwrap_err();
            assert_eq!(error.code(), code, "{i}: {error}");
        }
        fs::write(&path, model(LLAMA, "tiny")).unwrap();
        assert!(matches!(Adapter::open(&path, base), Err(Error::NotAnAdapter { .. })));
    });
}

#[test]
fn gguf_files_say_what_llama_cpp_scales_by() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    with_base(&model(LLAMA, "tiny"), |base| {
        for shape in shapes() {
            adapter(base, shape).export_gguf(&path, base).unwrap();
            let bytes = fs::read(&path).unwrap();
            let gguf = Gguf::parse(&bytes).unwrap();
            let alpha = gguf.f32("adapter.lora.alpha").unwrap().unwrap();
            assert!((alpha / shape.rank as f32 - shape.scale()).abs() <= f32::EPSILON * shape.scale());
            for (key, value) in [("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", "llama")] {
                assert_eq!(gguf.str(key), Ok(Some(value)));
            }
            for tensor in gguf.tensors() {
                assert!(
                    tensor.name.ends_with("lora_a") && tensor.dims[1] == u64::from(shape.rank) || tensor.dims[0] == u64::from(shape.rank)
                );
            }
        }
    });
}

#[test]
fn a_file_that_would_grow_without_measure_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let deep = Widths { layers: 200, ..LLAMA };
    with_base(&model(deep, "deep"), |base| {
        let mut settings = config(1, &Module::ALL);
        settings["target_modules"] = Value::Null;
        settings["rank_pattern"] = json!({"layers.0.self_attn.v_proj": 1024});
        let mut all = tensors(base.spec(), &[0], &[Module::V], 1024, Dtype::F32);
        all.extend(tensors(base.spec(), &[199], &Module::ALL, 1, Dtype::F32));
        peft_folder(folder.path(), &settings, &all);
        assert!(matches!(Adapter::open(folder.path(), base), Err(Error::Uneven { .. })));
    });
}

#[test]
fn other_paths_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    with_base(&model(LLAMA, "tiny"), |base| {
        let adapter = adapter(base, shape(2, Modules::ALL));
        fs::create_dir(at("run")).unwrap();
        adapter.save(&at("run/adapter.attune")).unwrap();
        assert_eq!(Adapter::open(&at("run"), base).unwrap(), adapter);
        adapter.export_peft(&at("peft"), base).unwrap();
        assert_eq!(Adapter::open(&at("peft/adapter_model.safetensors"), base).unwrap().params, adapter.params);
        fs::remove_file(at("peft/adapter_model.safetensors")).unwrap();
        assert!(matches!(Adapter::open(&at("peft"), base), Err(Error::Io { .. })));
        fs::write(at("peft/adapter_model.bin"), b"").unwrap();
        assert!(Adapter::open(&at("peft"), base).unwrap_err().to_string().contains("pickle"));
        assert!(matches!(Adapter::open(folder.path(), base), Err(Error::NotAnAdapter { .. })));
        assert!(matches!(Adapter::open(&at("nothing"), base), Err(Error::Io { .. })));
        for bytes in [&b""[..], b"PK\x03\x04zipzip", b"GGU"] {
            fs::write(at("file"), bytes).unwrap();
            assert!(matches!(Adapter::open(&at("file"), base), Err(Error::NotAnAdapter { .. })));
        }
    });
}

#[test]
fn a_description_needs_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    with_base(&model(LLAMA, "tiny"), |base| {
        let shape = Shape { first_layer: 1, layers: 2, use_rslora: true, ..shape(2, Modules::NONE.with(Module::Q)) };
        let adapter = adapter(base, shape);
        adapter.save(&at("a.attune")).unwrap();
        adapter.export_peft(&at("peft"), base).unwrap();
        adapter.export_gguf(&at("a.gguf"), base).unwrap();
        for (name, format) in [("a.attune", "native"), ("peft", "peft"), ("a.gguf", "gguf")] {
            let found = describe(&at(name)).unwrap();
            assert_eq!((found.format, found.rank, found.first_layer, found.layers), (format, 2, 1, 2));
            assert_eq!((found.parameters, found.target_modules), (adapter.params.len() as u64, vec!["q_proj"]));
        }
        let native = describe(&at("a.attune")).unwrap();
        assert_eq!(native.base_hash, Some(attune::adapter::hex(&base.hash())));
        assert_eq!((native.steps, native.base_name.as_deref()), (Some(12), Some("tiny")));
    });
}

/// Opens what is damaged in every way; says how many were refused.
fn damage(path: &Path, file: &Path, base: &Base<'_>, rounds: u64) -> usize {
    let good = fs::read(file).unwrap();
    let mut refused = 0;
    let mut attempt = |bytes: &[u8]| {
        fs::write(file, bytes).unwrap();
        let opened = Adapter::open(path, base);
        if opened.is_ok() && file.extension().is_some_and(|ext| ext == "safetensors") {
            // What is taken here, the format's own library takes too.
            SafeTensors::deserialize(bytes).unwrap();
        }
        refused += usize::from(opened.is_err());
        let _ = describe(path);
    };
    let head = good.len().min(3000);
    for round in 0..rounds {
        let random = |stream, below: usize| attune_core::rng::bits(round, stream, 0) as usize % below.max(1);
        let mut bytes = good.clone();
        match round % 4 {
            0 => bytes.truncate(random(1, good.len())),
            1 => bytes[random(1, head)] = random(2, 256) as u8,
            2 => bytes[random(1, 24)] ^= 1 << random(2, 8),
            _ => {
                let (from, to) = (random(1, head), random(2, head));
                let byte = bytes[from];
                bytes[to] = byte;
                bytes.swap(random(3, head), random(4, head));
            }
        }
        attempt(&bytes);
    }
    fs::write(file, good).unwrap();
    refused
}

#[test]
fn damaged_files_are_refused_or_read_but_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    with_base(&model(LLAMA, "tiny"), |base| {
        let adapter = adapter(base, shape(2, Modules::NONE.with(Module::Q)));
        adapter.save(&at("a.attune")).unwrap();
        adapter.export_peft(&at("peft"), base).unwrap();
        adapter.export_gguf(&at("a.gguf"), base).unwrap();
        let native = damage(&at("a.attune"), &at("a.attune"), base, 400);
        assert!(native >= 390, "{native} of 400");
        for (path, file) in [("peft", "peft/adapter_model.safetensors"), ("peft", "peft/adapter_config.json"), ("a.gguf", "a.gguf")] {
            let refused = damage(&at(path), &at(file), base, 800);
            assert!(refused > 200, "{file}: {refused} of 800");
            assert_eq!(Adapter::open(&at(path), base).unwrap().params, adapter.params);
        }
    });
}

#[test]
fn safetensors_headers_that_lie_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    with_base(&model(LLAMA, "tiny"), |base| {
        fs::write(folder.path().join("adapter_config.json"), config(2, &QV).to_string()).unwrap();
        let q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
        let cases = [
            (u64::MAX, String::new()),
            (1 << 40, String::new()),
            (2, "[]".into()),
            (2, "{".into()),
            (0, format!(r#"{{"{q}":{{"dtype":"F32","shape":[2,16],"data_offsets":[0,128]}}}}"#)),
            (0, format!(r#"{{"{q}":{{"dtype":"F32","shape":[2,16],"data_offsets":[128,0]}}}}"#)),
            (0, format!(r#"{{"{q}":{{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,64]}}}}"#)),
            (0, format!(r#"{{"{q}":{{"dtype":"F32","shape":[2,8],"data_offsets":[0,18446744073709551615]}}}}"#)),
            (0, format!(r#"{{"{q}":{{"dtype":"F99","shape":[2,8],"data_offsets":[0,64]}}}}"#)),
            (0, format!(r#"{{"{q}":{{"dtype":"F32","shape":[-2,8],"data_offsets":[0,64]}}}}"#)),
            (
                0,
                format!(
                    r#"{{"{q}":{{"dtype":"F32","shape":[2,8],"data_offsets":[0,64]}},"{q}":{{"dtype":"F32","shape":[2,8],"data_offsets":[0,64]}}}}"#
                ),
            ),
            (
                0,
                format!(
                    r#"{{"{q}":{{"dtype":"F32","shape":[1,8],"data_offsets":[0,32]}},"b":{{"dtype":"F32","shape":[1,8],"data_offsets":[16,48]}}}}"#
                ),
            ),
            (0, format!(r#"{{"{q}":{{"dtype":"F32","shape":[1,8],"data_offsets":[0,32]}}}}"#)),
            (0, "[".repeat(10_000)),
        ];
        for (i, (len, header)) in cases.into_iter().enumerate() {
            let len = if len == 0 { header.len() as u64 } else { len };
            let mut bytes = len.to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend([0; 64]);
            fs::write(folder.path().join("adapter_model.safetensors"), bytes).unwrap();
            let error = Adapter::open(folder.path(), base).unwrap_err();
            assert!(matches!(error, Error::Safetensors { .. }), "{i}: {error}");
        }
    });
}

#[test]
fn golden_adapters_come_out_as_they_went_in() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (name, arch) in [("llama", "llama"), ("qwen3", "qwen3"), ("gemma3", "gemma3")] {
        let golden = shared.join("golden").join(name);
        if !golden.is_dir() {
            println!("skipped: {} is not there", golden.display());
            continue;
        }
        let c: Value = serde_json::from_slice(&fs::read(golden.join("config.json")).unwrap()).unwrap();
        let n = |key: &str| c[key].as_u64().unwrap_or(0) as u32;
        let heads = n("num_attention_heads");
        let head_dim = if n("head_dim") > 0 { n("head_dim") } else { n("hidden_size") / heads };
        let widths = Widths {
            arch,
            layers: n("num_hidden_layers"),
            width: n("hidden_size"),
            ff: n("intermediate_size"),
            heads,
            kv_heads: n("num_key_value_heads"),
            head_dim,
            vocab: 4,
        };
        with_base(&model(widths, name), |base| {
            let given = golden.join("adapter");
            let adapter = Adapter::open(&given, base).unwrap();
            let (out, gguf, native) = (folder.path().join(name), folder.path().join("a.gguf"), folder.path().join("a.attune"));
            adapter.export_gguf(&gguf, base).unwrap();
            Adapter::open(&gguf, base).unwrap().save(&native).unwrap();
            Adapter::open(&native, base).unwrap().export_peft(&out, base).unwrap();
            let [a, b] = [&given, &out].map(|f| fs::read(f.join("adapter_model.safetensors")).unwrap());
            assert_eq!(a, b, "{name}");
            let [a, b] =
                [&given, &out].map(|f| serde_json::from_slice::<Value>(&fs::read(f.join("adapter_config.json")).unwrap()).unwrap());
            for key in ["r", "lora_alpha", "use_rslora", "peft_type", "task_type", "bias"] {
                assert_eq!(a[key], b[key], "{name} {key}");
            }
        });
    }
}
