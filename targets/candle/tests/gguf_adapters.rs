//! Adapters in llama.cpp's GGUF form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Cursor;

use attune_candle::fixture::{self, GgmlDType, Model};
use attune_candle::{DType, Factor, LoraVars, Module, Oracle, Tensor, Tokens};
use candle_core::Device;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{self, Value};

fn oracle() -> Oracle {
    Oracle::read(&mut Cursor::new(fixture::bytes(Model::Llama, GgmlDType::F32, 1).unwrap()), DType::F64).unwrap()
}

/// `lora` on the linears of layer 1 as a file.
fn file(lora: &LoraVars, kind: &str, alpha: f32, wanted: &[(Module, Factor)]) -> Cursor<Vec<u8>> {
    let text = |s: &str| Value::String(s.to_string());
    let (kind, adapter, architecture, alpha) = (text("adapter"), text(kind), text("llama"), Value::F32(alpha));
    let metadata =
        [("general.type", &kind), ("adapter.type", &adapter), ("general.architecture", &architecture), ("adapter.lora.alpha", &alpha)];
    let tensors: Vec<(String, QTensor)> = wanted
        .iter()
        .map(|&(module, factor)| {
            let key = (1, module, factor);
            let values: Vec<f32> = lora.values(key).unwrap().into_iter().map(|x| x as f32).collect();
            let tensor = Tensor::from_vec(values, lora.shape(key).unwrap(), &Device::Cpu).unwrap();
            let name = format!("blk.1.{}.weight.lora_{}", module.gguf_name(), format!("{factor:?}").to_lowercase());
            (name, QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
        })
        .collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let mut out = Cursor::new(Vec::new());
    gguf_file::write(&mut out, &metadata, &tensors).unwrap();
    out.set_position(0);
    out
}

#[test]
fn an_adapter_read_from_a_file_is_scaled_by_alpha_over_rank() {
    let oracle = oracle();
    let (rank, alpha) = (4, 6.0);
    let whole = LoraVars::random(&oracle, &[Module::Q, Module::Down], rank, 1.0, 2).unwrap();
    let wanted = [(Module::Q, Factor::A), (Module::Q, Factor::B), (Module::Down, Factor::A), (Module::Down, Factor::B)];
    let mut expected = LoraVars::new(&oracle);
    for module in [Module::Q, Module::Down] {
        let rounded = |factor| whole.values((1, module, factor)).unwrap().iter().map(|x| f64::from(*x as f32)).collect::<Vec<f64>>();
        expected.insert(&oracle, 1, module, rank, alpha / rank as f64, &rounded(Factor::A), &rounded(Factor::B)).unwrap();
    }
    let read = LoraVars::read_gguf(&oracle, &mut file(&whole, "lora", alpha as f32, &wanted)).unwrap();
    let logits = |lora: Option<&LoraVars>| oracle.forward(&Tokens::new(&[5, 6, 7]), lora).unwrap().to_vec2::<f64>().unwrap();
    assert_eq!(logits(Some(&read)), logits(Some(&expected)));
    assert_ne!(logits(Some(&read)), logits(None));
}

#[test]
fn an_incomplete_or_foreign_adapter_is_an_error() {
    let oracle = oracle();
    let lora = LoraVars::random(&oracle, &[Module::Q], 2, 1.0, 2).unwrap();
    assert!(LoraVars::read_gguf(&oracle, &mut file(&lora, "lora", 2.0, &[(Module::Q, Factor::A)])).is_err());
    assert!(LoraVars::read_gguf(&oracle, &mut file(&lora, "lora", 2.0, &[(Module::Q, Factor::B)])).is_err());
    assert!(LoraVars::read_gguf(&oracle, &mut file(&lora, "dora", 2.0, &[(Module::Q, Factor::A), (Module::Q, Factor::B)])).is_err());
}
