//! The reader and the writer against two others: candle's `gguf_file` and `gguf-rs`, where those are right.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use attune_core::gguf::write::{Options, TensorInfo, WriteValue, Writer};
use attune_core::gguf::{Gguf, Value, ValueType};
use attune_core::quant::Type;
use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor as CandleTensor, quantized};
use gguf_rs::{ByteOrder, GGUFContainer, GGUFModel};

fn written(options: Options, metadata: &[(&str, WriteValue<'_>)], tensors: &[(TensorInfo<'_>, Vec<u8>)]) -> Vec<u8> {
    let infos: Vec<_> = tensors.iter().map(|(info, _)| *info).collect();
    let mut buffer = vec![0; 1 << 20];
    let mut writer = Writer::with(&mut buffer[..], options, metadata, &infos).unwrap();
    for (_, payload) in tensors {
        writer.tensor(payload).unwrap();
    }
    let rest = writer.finish().unwrap().len();
    buffer.truncate((1 << 20) - rest);
    buffer
}

fn payload(len: usize, seed: u8) -> Vec<u8> {
    // Every two bytes are a small finite half, so that candle can decode them too.
    (0..len).map(|i| if i % 2 == 0 { seed.wrapping_mul(31).wrapping_add(i as u8) } else { 0x20 + (i % 8) as u8 }).collect()
}

const METADATA: &[(&str, WriteValue<'static>)] = &[
    ("general.architecture", WriteValue::Str("llama")),
    ("general.name", WriteValue::Str("語 and é and \u{1f600}")),
    ("general.file_type", WriteValue::U32(7)),
    ("v.u8", WriteValue::U8(255)),
    ("v.i8", WriteValue::I8(-128)),
    ("v.u16", WriteValue::U16(65_535)),
    ("v.i16", WriteValue::I16(-32_768)),
    ("v.u32", WriteValue::U32(u32::MAX)),
    ("v.i32", WriteValue::I32(i32::MIN)),
    ("v.u64", WriteValue::U64(u64::MAX)),
    ("v.i64", WriteValue::I64(i64::MIN)),
    ("v.f32", WriteValue::F32(1.0e-5)),
    ("v.f64", WriteValue::F64(std::f64::consts::PI)),
    ("v.true", WriteValue::Bool(true)),
    ("v.false", WriteValue::Bool(false)),
    ("v.empty", WriteValue::Str("")),
    ("a.strs", WriteValue::Strs(&["<s>", "", "▁the", "語"])),
    ("a.f32s", WriteValue::F32s(&[0.0, -1.5, 3.0e38])),
    ("a.i32s", WriteValue::I32s(&[1, -2, 3])),
    ("a.u32s", WriteValue::U32s(&[7])),
    ("a.bools", WriteValue::Bools(&[true, false, true])),
    ("a.none", WriteValue::Values(ValueType::U64, &[])),
    ("a.u16s", WriteValue::Values(ValueType::U16, &[WriteValue::U16(1), WriteValue::U16(2)])),
];

const NESTED: (&str, WriteValue<'static>) = (
    "a.nested",
    WriteValue::Values(
        ValueType::Array,
        &[WriteValue::Strs(&["x", "y"]), WriteValue::I32s(&[]), WriteValue::Values(ValueType::Array, &[WriteValue::F32s(&[2.0])])],
    ),
);

fn tensors() -> Vec<(TensorInfo<'static>, Vec<u8>)> {
    let dims: [(&str, &[u64]); 11] = [
        ("f32", &[5]),
        ("f16", &[7, 3]),
        ("bf16", &[3, 2, 2]),
        ("q8_0", &[64, 3]),
        ("q4_0", &[32, 2, 1, 2]),
        ("q4_1", &[96]),
        ("q5_0", &[32, 4]),
        ("q5_1", &[64]),
        ("q4_k", &[256, 2]),
        ("q5_k", &[512]),
        ("q6_k", &[256, 3]),
    ];
    let each = dims.into_iter().zip(Type::ALL).enumerate();
    each.map(|(i, ((name, dims), ty))| {
        let info = TensorInfo { name, ty: ty.into(), dims };
        (info, payload(info.size().unwrap() as usize, i as u8))
    })
    .collect()
}

fn same_as_candle(ours: Value<'_>, theirs: &gguf_file::Value) -> bool {
    use gguf_file::Value as Theirs;
    match (ours, theirs) {
        (Value::U8(a), Theirs::U8(b)) => a == *b,
        (Value::I8(a), Theirs::I8(b)) => a == *b,
        (Value::U16(a), Theirs::U16(b)) => a == *b,
        (Value::I16(a), Theirs::I16(b)) => a == *b,
        (Value::U32(a), Theirs::U32(b)) => a == *b,
        (Value::I32(a), Theirs::I32(b)) => a == *b,
        (Value::U64(a), Theirs::U64(b)) => a == *b,
        (Value::I64(a), Theirs::I64(b)) => a == *b,
        (Value::F32(a), Theirs::F32(b)) => a.to_bits() == b.to_bits(),
        (Value::F64(a), Theirs::F64(b)) => a.to_bits() == b.to_bits(),
        (Value::Bool(a), Theirs::Bool(b)) => a == *b,
        // candle drops zeros at a string's end.
        (Value::Str(a), Theirs::String(b)) => a.trim_end_matches('\0') == b,
        (Value::Array(a), Theirs::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_as_candle(a, b)),
        _ => false,
    }
}

fn assert_same_as_candle(bytes: &[u8]) {
    let ours = Gguf::parse(bytes).unwrap();
    let mut reader = Cursor::new(bytes);
    let theirs = gguf_file::Content::read(&mut reader).unwrap();
    assert_eq!(ours.metadata_len(), theirs.metadata.len());
    for (key, value) in ours.metadata() {
        assert!(same_as_candle(value, &theirs.metadata[key]), "{key}: {value:?}, {:?}", theirs.metadata[key]);
    }
    assert_eq!(ours.tensor_count(), theirs.tensor_infos.len());
    if ours.tensor_count() > 0 {
        assert_eq!(ours.data_offset(), theirs.tensor_data_offset);
    }
    for tensor in ours.tensors() {
        let info = &theirs.tensor_infos[tensor.name];
        let dims: Vec<_> = tensor.dims[..tensor.n_dims].iter().rev().map(|d| *d as usize).collect();
        assert_eq!(info.shape.dims(), dims, "{}", tensor.name);
        assert_eq!(info.offset + theirs.tensor_data_offset, tensor.offset);
        let name = format!("{:?}", info.ggml_dtype).replace('_', "");
        assert_eq!(name, tensor.ty.name().replace('_', ""));
        let loaded = theirs.tensor(&mut reader, tensor.name, &Device::Cpu).unwrap();
        assert_eq!(&loaded.data().unwrap()[..], tensor.data, "{}", tensor.name);
    }
}

fn gguf_rs(bytes: &[u8]) -> Result<GGUFModel, String> {
    let read = || GGUFContainer::new(ByteOrder::LE, Box::new(Cursor::new(bytes[4..].to_vec())), u64::MAX).decode();
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| "panic".to_string())?.map_err(|e| e.to_string())
}

fn same_as_json(ours: Value<'_>, theirs: &serde_json::Value) -> bool {
    match ours {
        Value::Str(s) => theirs.as_str() == Some(s),
        Value::Bool(b) => theirs.as_bool() == Some(b),
        Value::F32(v) => theirs.to_string().parse::<f32>() == Ok(v),
        Value::F64(v) => theirs.to_string().parse::<f64>() == Ok(v),
        Value::Array(a) => theirs.as_array().is_some_and(|t| t.len() == a.len() && a.iter().zip(t).all(|(a, t)| same_as_json(a, t))),
        Value::U64(v) => theirs.as_u64() == Some(v),
        integer => theirs.as_i64() == integer.as_i64(),
    }
}

fn assert_same_as_gguf_rs(bytes: &[u8]) {
    let ours = Gguf::parse(bytes).unwrap();
    let theirs = gguf_rs(bytes).unwrap();
    assert_eq!(theirs.get_version(), format!("v{}", ours.version()));
    assert_eq!(ours.metadata_len(), theirs.metadata().len());
    for (key, value) in ours.metadata() {
        assert!(same_as_json(value, &theirs.metadata()[key]), "{key}: {value:?}, {}", theirs.metadata()[key]);
    }
    assert_eq!((ours.alignment(), ours.data_offset()), (theirs.alignment(), theirs.data_offset()));
    assert_eq!(ours.tensor_count(), theirs.tensors().len());
    for (tensor, other) in ours.tensors().zip(theirs.tensors()) {
        assert_eq!((tensor.name, &tensor.dims[..tensor.n_dims]), (&other.name[..], &other.shape[..]));
        assert_eq!((tensor.ty.ggml(), tensor.offset - ours.data_offset()), (other.kind, other.offset));
        // It takes BF16 for a type with blocks of 256.
        if tensor.ty != Type::BF16 {
            assert_eq!(tensor.data.len() as u64, other.size, "{}", tensor.name);
        }
    }
}

#[test]
fn the_comparisons_tell_other_values_apart() {
    use gguf_file::Value as Theirs;
    let array = |bytes: &[u8]| same_as_candle(Gguf::parse(bytes).unwrap().value("a").unwrap(), &Theirs::Array(vec![Theirs::U32(1)]));
    for (items, same) in [(&[1][..], true), (&[2], false), (&[1, 1], false), (&[], false)] {
        assert_eq!(array(&written(Options::default(), &[("a", WriteValue::U32s(items))], &[])), same);
    }
    assert!(!same_as_candle(Value::U32(1), &Theirs::I32(1)));
    assert!(!same_as_candle(Value::F32(0.0), &Theirs::F32(-0.0)));
    assert!(!same_as_candle(Value::Str("a"), &Theirs::String("b".into())));
    assert!(!same_as_json(Value::F32(1.0), &serde_json::json!(1.5)));
    assert!(!same_as_json(Value::Str("1"), &serde_json::json!(1)));
    assert!(!same_as_json(Value::I8(-1), &serde_json::json!(255)));
}

#[test]
fn both_others_read_what_the_writer_wrote() {
    for version in [2, 3] {
        for alignment in [8, 32, 64, 4096] {
            let options = Options { version, alignment };
            let bytes = written(options, METADATA, &tensors());
            assert_eq!(Gguf::parse(&bytes).unwrap().version(), version);
            assert_same_as_candle(&bytes);
            assert_same_as_gguf_rs(&bytes);
        }
    }
}

#[test]
fn candle_reads_nested_arrays_alike() {
    let mut metadata = METADATA.to_vec();
    metadata.push(NESTED);
    let bytes = written(Options::default(), &metadata, &[]);
    assert_same_as_candle(&bytes);
    // gguf-rs does not read them at all.
    assert!(gguf_rs(&bytes).is_err());
}

#[test]
fn what_is_read_and_written_again_is_the_same_file() {
    let mut metadata = METADATA.to_vec();
    metadata.push(NESTED);
    let bytes = written(Options::default(), &metadata, &tensors());
    let gguf = Gguf::parse(&bytes).unwrap();
    let metadata: Vec<_> = gguf.metadata().map(|(key, value)| (key, WriteValue::from(value))).collect();
    let all: Vec<_> = gguf.tensors().collect();
    let tensors: Vec<_> = all.iter().map(|t| (TensorInfo { name: t.name, ty: t.ty, dims: &t.dims[..t.n_dims] }, t.data.to_vec())).collect();
    assert!(written(Options::default(), &metadata, &tensors) == bytes);
}

#[test]
fn what_candle_wrote_is_read() {
    let x: Vec<f32> = (0..512).map(|i| (i as f32 * 0.37).sin()).collect();
    let x = CandleTensor::from_vec(x, (2, 256), &Device::Cpu).unwrap();
    let metadata: BTreeMap<&str, gguf_file::Value> = BTreeMap::from([
        ("s", gguf_file::Value::String("text".into())),
        ("a", gguf_file::Value::Array(vec![gguf_file::Value::F32(1.0), gguf_file::Value::F32(2.0)])),
        ("b", gguf_file::Value::Bool(true)),
    ]);
    let types = [
        quantized::GgmlDType::F32,
        quantized::GgmlDType::F16,
        quantized::GgmlDType::BF16,
        quantized::GgmlDType::Q8_0,
        quantized::GgmlDType::Q4_0,
        quantized::GgmlDType::Q4K,
        quantized::GgmlDType::Q6K,
    ];
    let tensors: Vec<_> = types.iter().map(|ty| (format!("{ty:?}"), quantized::QTensor::quantize(&x, *ty).unwrap())).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, t)| (&name[..], t)).collect();
    let metadata: Vec<_> = metadata.iter().map(|(k, v)| (*k, v)).collect();
    let mut out = Cursor::new(Vec::new());
    gguf_file::write(&mut out, &metadata, &tensors).unwrap();
    assert_same_as_candle(out.get_ref());
    let gguf = Gguf::parse(out.get_ref()).unwrap();
    assert_eq!(gguf.version(), 2);
    for tensor in gguf.tensors() {
        assert_eq!((tensor.cols(), tensor.rows()), (256, 2));
    }
}

/// The header of a file with one tensor, and room for its data.
fn one_tensor(ty: u32, dims: &[u64], offset: u64, alignment: Option<u32>) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(u64::from(alignment.is_some()).to_le_bytes());
    if let Some(alignment) = alignment {
        bytes.extend(17u64.to_le_bytes());
        bytes.extend(b"general.alignment\x04\0\0\0");
        bytes.extend(alignment.to_le_bytes());
    }
    bytes.extend(b"\x01\0\0\0\0\0\0\0t");
    bytes.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
    bytes.extend(ty.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 4096, 0);
    bytes
}

/// What others get wrong. If one of these no longer holds for them, they were mended; ours must hold in any case.
#[test]
fn where_the_others_are_wrong_ours_is_right() {
    // Type 40.
    let bytes = one_tensor(40, &[64], 0, None);
    assert_eq!(gguf_rs(&bytes).err().as_deref(), Some("panic"));
    assert_eq!(Gguf::parse(&bytes).unwrap().tensor("t").unwrap().data.len(), 36);
    // Offsets that are misaligned, and past the end.
    for offset in [1, 1 << 40] {
        let bytes = one_tensor(0, &[8], offset, None);
        assert!(gguf_rs(&bytes).is_ok());
        assert!(Gguf::parse(&bytes).is_err());
    }
    // Alignments.
    let bytes = one_tensor(0, &[8], 0, Some(24));
    assert!(gguf_rs(&bytes).is_ok());
    assert!(Gguf::parse(&bytes).is_err());
    let bytes = one_tensor(0, &[8], 0, Some(0));
    assert!(catch_unwind(|| gguf_file::Content::read(&mut Cursor::new(&bytes)).is_ok()).is_err());
    assert!(Gguf::parse(&bytes).is_err());
    // Sizes: 256 elements.
    for (ty, size) in [(20, 144), (30, 512), (24, 256), (26, 1024), (39, 136), (9, 288)] {
        let bytes = one_tensor(ty, &[256], 0, None);
        assert_ne!(gguf_rs(&bytes).unwrap().tensors()[0].size, size, "type {ty}");
        assert_eq!(Gguf::parse(&bytes).unwrap().tensor("t").unwrap().data.len() as u64, size, "type {ty}");
    }
    // A file type that is a string.
    let bytes = written(Options::default(), &[("general.file_type", WriteValue::Str("x"))], &[]);
    let model = gguf_rs(&bytes).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| model.file_type())).is_err());
    assert!(Gguf::parse(&bytes).unwrap().u32("general.file_type").is_err());
}

/// Real files from the folder of shared data, if there is one.
#[test]
fn real_files_are_read_like_the_others_read_them() {
    let shared =
        std::env::var_os("ATTUNE_SHARED").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let mut files = Vec::new();
    for folder in ["data/models", "data/tokenizers"] {
        let Ok(entries) = std::fs::read_dir(shared.join(folder)) else {
            println!("skipped: {} is missing", shared.join(folder).display());
            continue;
        };
        files.extend(entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "gguf")));
    }
    for file in files {
        println!("{}", file.display());
        let bytes = std::fs::read(&file).unwrap();
        let gguf = Gguf::parse(&bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(gguf.str("general.architecture").unwrap().is_some());
        if gguf.tensor_count() > 0 {
            assert_same_as_candle(&bytes);
        }
        assert_same_as_gguf_rs(&bytes);
    }
}
