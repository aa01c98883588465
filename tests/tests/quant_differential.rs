//! The block formats against candle's: the same bytes give the same weights, and the encoders are at least as good.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::borrow::Cow;

use attune_core::quant::{self, Type};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};

fn candle_type(ty: Type) -> GgmlDType {
    match ty {
        Type::F32 => GgmlDType::F32,
        Type::F16 => GgmlDType::F16,
        Type::BF16 => GgmlDType::BF16,
        Type::Q8_0 => GgmlDType::Q8_0,
        Type::Q4_0 => GgmlDType::Q4_0,
        Type::Q4_1 => GgmlDType::Q4_1,
        Type::Q5_0 => GgmlDType::Q5_0,
        Type::Q5_1 => GgmlDType::Q5_1,
        Type::Q4K => GgmlDType::Q4K,
        Type::Q5K => GgmlDType::Q5K,
        Type::Q6K => GgmlDType::Q6K,
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From −1 to 1.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() / 2.0
    }
}

fn candle_decode(ty: Type, bytes: &[u8], elements: usize) -> Vec<f32> {
    let storage = QStorage::from_data(Cow::Owned(bytes.to_vec()), &Device::Cpu, candle_type(ty)).unwrap();
    let tensor = QTensor::new(storage, elements).unwrap().dequantize(&Device::Cpu).unwrap();
    tensor.to_vec1().unwrap()
}

#[test]
fn any_bytes_decode_to_the_weights_that_candle_decodes() {
    let mut random = Random(1);
    let elements = 256 * 64;
    for ty in Type::ALL {
        let mut bytes = vec![0; ty.row_bytes(elements).unwrap()];
        bytes.iter_mut().for_each(|b| *b = random.next() as u8);
        let mut ours = vec![0.0; elements];
        quant::decode(ty, &bytes, &mut ours).unwrap();
        let theirs = candle_decode(ty, &bytes, elements);
        let mut finite = 0;
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            assert!(a == b || (a.is_nan() && b.is_nan()), "{ty}: weight {i} is {a}, candle's {b}");
            finite += usize::from(a.is_finite());
        }
        assert!(finite > elements / 2, "{ty}: too few finite weights to mean anything");
    }
}

fn distributions() -> Vec<(&'static str, Vec<f32>)> {
    let mut random = Random(2);
    let n = 256 * 64;
    vec![
        ("normal", (0..n).map(|_| 0.02 * random.normal()).collect()),
        ("uniform", (0..n).map(|_| 0.5 * random.uniform()).collect()),
        ("heavy tails", (0..n).map(|_| random.normal().powi(3) * 0.1).collect()),
        ("all positive", (0..n).map(|_| 1.0 + 0.1 * random.normal()).collect()),
        ("outliers", (0..n).map(|i| if i % 61 == 0 { random.normal() } else { 0.02 * random.normal() }).collect()),
        ("sparse", (0..n).map(|i| if i % 3 == 0 { random.normal() } else { 0.0 }).collect()),
        ("small", (0..n).map(|_| 1e-3 * random.normal()).collect()),
    ]
}

fn rms_error(x: &[f32], y: &[f32]) -> f64 {
    let sum: f64 = x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    (sum / x.len() as f64).sqrt()
}

#[test]
fn the_encoders_lose_no_more_than_candles() {
    for (name, x) in distributions() {
        let tensor = Tensor::new(&x[..], &Device::Cpu).unwrap();
        for ty in Type::ALL {
            let mut bytes = vec![0; ty.row_bytes(x.len()).unwrap()];
            quant::encode(ty, &x, &mut bytes).unwrap();
            let mut ours = vec![0.0; x.len()];
            quant::decode(ty, &bytes, &mut ours).unwrap();
            let theirs = QTensor::quantize(&tensor, candle_type(ty)).unwrap();
            let theirs: Vec<f32> = theirs.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap();
            let (ours, theirs) = (rms_error(&x, &ours), rms_error(&x, &theirs));
            println!("{name:12} {ty:5} ours {ours:.3e} candle {theirs:.3e} ratio {:.4}", ours / theirs.max(1e-300));
            assert!(ours <= theirs * 1.05, "{name}, {ty}: {ours} against candle's {theirs}");
        }
    }
}

#[test]
fn the_formats_with_a_fixed_rule_are_encoded_to_the_bytes_that_candle_writes() {
    for (name, x) in distributions() {
        let tensor = Tensor::new(&x[..], &Device::Cpu).unwrap();
        for ty in [Type::F32, Type::F16, Type::BF16, Type::Q8_0, Type::Q4_0, Type::Q4_1, Type::Q5_0, Type::Q5_1] {
            let mut ours = vec![0; ty.row_bytes(x.len()).unwrap()];
            quant::encode(ty, &x, &mut ours).unwrap();
            let theirs = QTensor::quantize(&tensor, candle_type(ty)).unwrap();
            let different = ours.iter().zip(&theirs.data().unwrap()[..]).filter(|(a, b)| a != b).count();
            assert_eq!(different, 0, "{name}, {ty}: {different} of {} bytes differ", ours.len());
        }
    }
}
