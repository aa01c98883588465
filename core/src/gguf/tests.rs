#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::write::{Options, TensorInfo, WriteValue, Writer};
use super::*;
use crate::quant::Type;

/// A small file with a bit of everything.
fn sample(buffer: &mut [u8]) -> usize {
    let nested = [
        WriteValue::Values(ValueType::U8, &[WriteValue::U8(1), WriteValue::U8(2)]),
        WriteValue::Values(ValueType::Str, &[WriteValue::Str("x")]),
    ];
    let metadata = [
        ("general.architecture", WriteValue::Str("llama")),
        ("llama.block_count", WriteValue::I16(3)),
        ("llama.negative", WriteValue::I64(-1)),
        ("llama.eps", WriteValue::F32(1e-5)),
        ("llama.wide", WriteValue::F64(0.5)),
        ("flag", WriteValue::Bool(true)),
        ("tokens", WriteValue::Strs(&["a", "", "語"])),
        ("scores", WriteValue::F32s(&[0.5, -1.0])),
        ("types", WriteValue::I32s(&[1, -2, 3])),
        ("none", WriteValue::U32s(&[])),
        ("nested", WriteValue::Values(ValueType::Array, &nested)),
    ];
    let tensors =
        [TensorInfo { name: "norm", ty: Type::F32.into(), dims: &[3] }, TensorInfo { name: "w", ty: Type::Q8_0.into(), dims: &[64, 2] }];
    let len = buffer.len();
    let mut writer = Writer::new(buffer, &metadata, &tensors).unwrap();
    writer.tensor(&[7; 12]).unwrap();
    writer.part(&[8; 100]).unwrap();
    writer.part(&[9; 36]).unwrap();
    len - writer.finish().unwrap().len()
}

#[test]
fn what_was_written_is_read() {
    let mut buffer = [0; 2048];
    let len = sample(&mut buffer);
    let gguf = Gguf::parse(&buffer[..len]).unwrap();
    assert_eq!((gguf.version(), gguf.alignment(), gguf.metadata_len(), gguf.tensor_count()), (3, 32, 11, 2));
    assert_eq!(gguf.str("general.architecture"), Ok(Some("llama")));
    assert_eq!(gguf.u32("llama.block_count"), Ok(Some(3)));
    assert_eq!(gguf.i64("llama.negative"), Ok(Some(-1)));
    assert_eq!(gguf.f32("llama.eps"), Ok(Some(1e-5)));
    assert_eq!(gguf.f32("llama.wide"), Ok(Some(0.5)));
    assert_eq!(gguf.bool("flag"), Ok(Some(true)));
    assert!(gguf.strs("tokens").unwrap().unwrap().eq(["a", "", "語"]));
    assert!(gguf.f32s("scores").unwrap().unwrap().eq([0.5, -1.0]));
    assert!(gguf.i32s("types").unwrap().unwrap().eq([1, -2, 3]));
    assert_eq!(gguf.array("none").unwrap().unwrap().len(), 0);
    assert_eq!(gguf.str("absent"), Ok(None));
    let nested = gguf.array("nested").unwrap().unwrap();
    let mut inner = nested.iter().map(|v| v.as_array().unwrap());
    assert!(inner.next().unwrap().u32s().unwrap().eq([1, 2]));
    assert!(inner.next().unwrap().strs().unwrap().eq(["x"]));
    let w = gguf.tensor("w").unwrap();
    assert_eq!((w.cols(), w.rows(), w.elements(), w.n_dims, w.dims), (64, 2, 128, 2, [64, 2, 1, 1]));
    assert_eq!(w.ty.supported(), Some(Type::Q8_0));
    assert_eq!((w.data.len(), w.data[0], w.data[135], w.offset % 32), (136, 8, 9, 0));
    assert_eq!(gguf.tensor("norm").unwrap().data, [7; 12]);
    assert!(gguf.tensor("absent").is_none());
}

#[test]
fn a_value_of_another_type_is_an_error_that_names_the_key() {
    let mut buffer = [0; 2048];
    let len = sample(&mut buffer);
    let gguf = Gguf::parse(&buffer[..len]).unwrap();
    let error = gguf.u32("flag").unwrap_err();
    assert_eq!(error.kind, Kind::WrongType { expected: "u32", found: "bool" });
    assert_eq!(error.name.as_str(), "flag");
    assert_eq!(gguf.u32("llama.negative").unwrap_err().kind, Kind::OutOfRange { expected: "u32", found: "i64" });
    assert!(matches!(gguf.u32s("types").err().unwrap().kind, Kind::OutOfRange { .. }));
    assert!(matches!(gguf.u32s("tokens").err().unwrap().kind, Kind::WrongType { .. }));
    assert!(matches!(gguf.bool("types").unwrap_err().kind, Kind::WrongType { .. }));
    assert!(matches!(gguf.str("llama.block_count").unwrap_err().kind, Kind::WrongType { .. }));
}

#[test]
fn every_truncation_is_an_error() {
    let mut buffer = [0; 2048];
    let len = sample(&mut buffer);
    let end = Gguf::parse(&buffer[..len]).unwrap().tensors().map(|t| t.offset as usize + t.data.len()).max().unwrap();
    for cut in 0..end {
        let error = Gguf::parse(&buffer[..cut]).unwrap_err();
        assert!(error.offset <= cut as u64, "{error}");
    }
    assert!(Gguf::parse(&buffer[..end]).is_ok());
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let mut buffer = [0; 512];
    let info = TensorInfo { name: "t", ty: Type::Q8_0.into(), dims: &[32] };
    let mut refused = |options, metadata: &[(&str, WriteValue<'_>)], tensors: &[TensorInfo<'_>]| {
        Writer::with(&mut buffer[..], options, metadata, tensors).map(|_| ()).unwrap_err()
    };
    let options = Options::default();
    assert_eq!(refused(Options { alignment: 24, ..options }, &[], &[]), write::Error::Options);
    assert_eq!(refused(Options { version: 1, ..options }, &[], &[]), write::Error::Options);
    assert_eq!(refused(options, &[("general.alignment", WriteValue::U32(32))], &[]), write::Error::Options);
    assert_eq!(refused(options, &[("a", WriteValue::U8(1)), ("a", WriteValue::U8(2))], &[]), write::Error::Metadata(1));
    let mixed = WriteValue::Values(ValueType::U8, &[WriteValue::I8(1)]);
    assert_eq!(refused(options, &[("a", mixed)], &[]), write::Error::Metadata(0));
    assert_eq!(refused(options, &[], &[info, info]), write::Error::Tensor(1));
    for dims in [&[][..], &[33], &[32, 0], &[32, 1, 1, 1, 1], &[u64::MAX - 31, 2]] {
        assert_eq!(refused(options, &[], &[TensorInfo { dims, ..info }]), write::Error::Tensor(0), "{dims:?}");
    }
    let long = core::str::from_utf8(&[b'n'; 65]).unwrap();
    assert_eq!(refused(options, &[], &[TensorInfo { name: long, ..info }]), write::Error::Tensor(0));
}

#[test]
fn payloads_must_be_as_long_as_announced() {
    let mut buffer = [0; 512];
    let tensors = [TensorInfo { name: "t", ty: Type::Q8_0.into(), dims: &[32] }];
    let mut writer = Writer::new(&mut buffer[..], &[], &tensors).unwrap();
    assert!(matches!(writer.tensor(&[0; 33]), Err(write::Error::Payload { index: 0, expected: 34, found: 33 })));
    assert!(matches!(writer.part(&[0; 35]), Err(write::Error::Payload { .. })));
    writer.part(&[0; 30]).unwrap();
    assert!(matches!(writer.tensor(&[0; 34]), Err(write::Error::Payload { .. })));
    writer.part(&[0; 4]).unwrap();
    assert_eq!(writer.part(&[0; 1]), Err(write::Error::TooManyPayloads));
    assert!(writer.finish().is_ok());
    let writer = Writer::new(&mut buffer[..], &[], &tensors).unwrap();
    assert!(matches!(writer.finish(), Err(write::Error::Payload { index: 0, expected: 34, found: 0 })));
    assert!(matches!(Writer::new(&mut buffer[..40], &[], &tensors), Err(write::Error::Io(_))));
}

#[test]
fn the_size_of_every_known_type_agrees_with_its_format() {
    for ty in TensorType::all() {
        if let Some(format) = ty.supported() {
            assert_eq!((ty.name(), ty.block_len(), ty.block_bytes()), (format.name(), format.block_len(), format.block_bytes()));
        }
    }
    assert_eq!(TensorType::all().filter(|ty| ty.supported().is_some()).count(), Type::ALL.len());
    assert_eq!(TensorType::from_ggml(4), None);
}
