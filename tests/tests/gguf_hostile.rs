//! Damaged, lying and odd GGUF files: each gets an error that names the field and the entry, and none a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::{Duration, Instant};

use attune_core::gguf::write::{TensorInfo, WriteValue, Writer};
use attune_core::gguf::{Error, Field, Gguf, Kind, TensorType, Value, ValueType};
use attune_core::quant::Type;
use proptest::prelude::*;

/// A file put together byte by byte, so that every part of it can be wrong.
struct Raw {
    bytes: Vec<u8>,
}

impl Raw {
    fn new(version: u32, tensors: u64, metadata: u64) -> Raw {
        let mut raw = Raw { bytes: b"GGUF".to_vec() };
        raw.u32(version).u64(tensors).u64(metadata);
        raw
    }

    fn u32(&mut self, v: u32) -> &mut Raw {
        self.bytes.extend(v.to_le_bytes());
        self
    }

    fn u64(&mut self, v: u64) -> &mut Raw {
        self.bytes.extend(v.to_le_bytes());
        self
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Raw {
        self.bytes.extend(bytes);
        self
    }

    fn str(&mut self, s: &[u8]) -> &mut Raw {
        self.u64(s.len() as u64).raw(s)
    }

    /// A key and its type; the value is for the caller.
    fn key(&mut self, key: &str, ty: ValueType) -> &mut Raw {
        self.str(key.as_bytes()).u32(ty.gguf())
    }

    fn array(&mut self, key: &str, element: ValueType, len: u64) -> &mut Raw {
        self.key(key, ValueType::Array).u32(element.gguf()).u64(len)
    }

    fn tensor(&mut self, name: &str, dims: &[u64], ty: u32, offset: u64) -> &mut Raw {
        self.str(name.as_bytes()).u32(dims.len() as u32);
        for dim in dims {
            self.u64(*dim);
        }
        self.u32(ty).u64(offset)
    }

    /// Pads to the alignment of 32 and adds zeros as the tensors' data.
    fn data(&mut self, len: usize) -> &mut Raw {
        let start = self.bytes.len().next_multiple_of(32);
        self.bytes.resize(start + len, 0);
        self
    }

    /// The error, which must be at `field` of the entry `index`, and whose text must say so.
    #[track_caller]
    fn error(&self, field: Field, index: Option<u32>, name: &str) -> Kind {
        let error = Gguf::parse(&self.bytes).expect_err("a bad file must not be read");
        assert_eq!((error.field, error.index, error.name.as_str()), (field, index, name), "{error}");
        let text = error.to_string();
        for part in [field.name(), name, "expected", "found"] {
            assert!(text.contains(part) || error.kind == Kind::BigEndian, "'{part}' is not in: {text}");
        }
        assert!(error.offset <= self.bytes.len() as u64);
        error.kind
    }
}

fn f32_tensor(name: &str, offset: u64) -> Raw {
    let mut raw = Raw::new(3, 1, 0);
    raw.tensor(name, &[8], 0, offset).data(64);
    raw
}

#[test]
fn another_format_is_named_as_such() {
    let mut raw = f32_tensor("t", 0);
    raw.bytes[..4].copy_from_slice(b"PK\x03\x04");
    assert_eq!(raw.error(Field::Magic, None, ""), Kind::Magic { found: *b"PK\x03\x04" });
    assert!(matches!(Gguf::parse(b"").unwrap_err().kind, Kind::Truncated { expected: 4, found: 0 }));
}

#[test]
fn other_versions_and_byte_orders_are_refused() {
    for version in [0, 1, 4, u32::MAX] {
        assert_eq!(Raw::new(version, 0, 0).error(Field::Version, None, ""), Kind::Version { found: version });
    }
    for version in [2u32, 3] {
        assert_eq!(Raw::new(version.swap_bytes(), 0, 0).error(Field::Version, None, ""), Kind::BigEndian);
        assert!(Gguf::parse(&Raw::new(version, 0, 0).bytes).is_ok());
    }
}

#[test]
fn counts_that_no_model_has_are_refused_before_anything_is_read() {
    for count in [16_385, 1 << 40, u64::MAX] {
        let kind = Raw::new(3, count, 0).error(Field::TensorCount, None, "");
        assert_eq!(kind, Kind::TooMany { limit: 16_384, found: count });
        let kind = Raw::new(3, 0, count).error(Field::MetadataCount, None, "");
        assert_eq!(kind, Kind::TooMany { limit: 4096, found: count });
    }
}

#[test]
fn a_file_of_35_bytes_that_claims_a_string_of_one_gigabyte_is_refused() {
    let mut raw = Raw::new(3, 0, 1);
    raw.str(b"").bytes.truncate(24);
    raw.u64(1 << 30).raw(b"abc");
    assert_eq!(raw.bytes.len(), 35);
    assert_eq!(raw.error(Field::StringLength, Some(0), ""), Kind::TooMany { limit: 65_535, found: 1 << 30 });

    let mut raw = Raw::new(3, 0, 1);
    raw.key("k", ValueType::Str).u64(1 << 30).raw(b"abc");
    assert_eq!(raw.error(Field::StringLength, Some(0), "k"), Kind::Truncated { expected: 1 << 30, found: 3 });
}

#[test]
fn arrays_that_claim_more_than_the_file_holds_are_refused() {
    for (element, size) in [(ValueType::U8, 1), (ValueType::F64, 8), (ValueType::Str, 8), (ValueType::Array, 12)] {
        for len in [100, 1 << 40, u64::MAX] {
            let mut raw = Raw::new(3, 0, 1);
            raw.array("k", element, len).raw(&[0; 99]);
            let expected = len.saturating_mul(size);
            assert_eq!(raw.error(Field::ArrayLength, Some(0), "k"), Kind::Truncated { expected, found: 99 });
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_shallow_nesting_is_read() {
    for (depth, fine) in [(1, true), (8, true), (9, false), (50_000, false)] {
        let mut raw = Raw::new(3, 0, 1);
        raw.key("k", ValueType::Array);
        for _ in 0..depth {
            raw.u32(ValueType::Array.gguf()).u64(1);
        }
        raw.u32(ValueType::U8.gguf()).u64(1).raw(&[7]);
        if fine {
            let gguf = Gguf::parse(&raw.bytes).unwrap();
            let mut array = gguf.array("k").unwrap().unwrap();
            for _ in 0..depth {
                array = array.iter().next().unwrap().as_array().unwrap();
            }
            assert_eq!(array.iter().next(), Some(Value::U8(7)));
        } else {
            assert_eq!(raw.error(Field::ArrayType, Some(0), "k"), Kind::Nesting { limit: 8 });
        }
    }
}

#[test]
fn unknown_value_types_are_refused() {
    let mut raw = Raw::new(3, 0, 1);
    raw.str(b"k").u32(13).u64(0);
    assert_eq!(raw.error(Field::ValueType, Some(0), "k"), Kind::UnknownType { found: 13 });
    let mut raw = Raw::new(3, 0, 1);
    raw.key("k", ValueType::Array).u32(99).u64(0);
    assert_eq!(raw.error(Field::ArrayType, Some(0), "k"), Kind::UnknownType { found: 99 });
}

#[test]
fn truth_values_other_than_0_and_1_are_refused() {
    let mut raw = Raw::new(3, 0, 1);
    raw.key("k", ValueType::Bool).raw(&[2]);
    assert_eq!(raw.error(Field::Value, Some(0), "k"), Kind::Bool { found: 2 });
    let mut raw = Raw::new(3, 0, 1);
    raw.array("k", ValueType::Bool, 3).raw(&[0, 1, 255]);
    assert_eq!(raw.error(Field::Value, Some(0), "k"), Kind::Bool { found: 255 });
}

#[test]
fn strings_that_are_not_utf8_are_refused_wherever_they_stand() {
    let bad = b"ab\xff";
    let mut raw = Raw::new(3, 0, 1);
    raw.str(bad).u32(0).raw(&[0; 9]);
    assert_eq!(raw.error(Field::Key, Some(0), ""), Kind::Utf8 { valid: 2 });
    let mut raw = Raw::new(3, 0, 1);
    raw.key("k", ValueType::Str).str(bad);
    assert_eq!(raw.error(Field::Value, Some(0), "k"), Kind::Utf8 { valid: 2 });
    let mut raw = Raw::new(3, 0, 1);
    raw.array("k", ValueType::Str, 2).str(b"fine").str(bad);
    assert_eq!(raw.error(Field::Value, Some(0), "k"), Kind::Utf8 { valid: 2 });
    let mut raw = Raw::new(3, 1, 0);
    raw.str(bad).u32(1).u64(8).u32(0).u64(0).data(32);
    assert_eq!(raw.error(Field::TensorName, Some(0), ""), Kind::Utf8 { valid: 2 });
}

#[test]
fn a_key_or_a_tensor_that_occurs_twice_is_refused() {
    let mut raw = Raw::new(3, 0, 3);
    for key in ["a", "b", "a"] {
        raw.key(key, ValueType::U8).raw(&[1]);
    }
    assert_eq!(raw.error(Field::Key, Some(2), "a"), Kind::Duplicate { first: 0 });
    let mut raw = Raw::new(3, 3, 0);
    raw.tensor("a", &[8], 0, 0).tensor("b", &[8], 0, 32).tensor("b", &[8], 0, 64).data(96);
    assert_eq!(raw.error(Field::TensorName, Some(2), "b"), Kind::Duplicate { first: 1 });
}

#[test]
fn dimensions_must_be_one_to_four_and_not_zero_and_their_product_must_fit() {
    for dims in [&[][..], &[1; 5], &[1; 1000]] {
        let mut raw = Raw::new(3, 1, 0);
        raw.tensor("t", dims, 0, 0).data(64);
        assert_eq!(raw.error(Field::DimCount, Some(0), "t"), Kind::DimCount { found: dims.len() as u32 });
    }
    let mut raw = Raw::new(3, 1, 0);
    raw.tensor("t", &[8, 0], 0, 0).data(64);
    assert_eq!(raw.error(Field::Dim, Some(0), "t"), Kind::Zero);
    for dims in [&[1 << 32, 1 << 32][..], &[u64::MAX], &[1 << 62], &[1 << 31, 1 << 31, 1 << 31, 1 << 31]] {
        let mut raw = Raw::new(3, 1, 0);
        raw.tensor("t", dims, 0, 0).data(64);
        assert_eq!(raw.error(Field::Dim, Some(0), "t"), Kind::Overflow, "{dims:?}");
    }
}

#[test]
fn a_row_must_be_a_whole_number_of_blocks() {
    let mut raw = Raw::new(3, 1, 0);
    raw.tensor("t", &[48, 2], Type::Q8_0.ggml(), 0).data(1024);
    assert_eq!(raw.error(Field::Dim, Some(0), "t"), Kind::Multiple { of: 32, found: 48 });
    let mut raw = Raw::new(3, 1, 0);
    raw.tensor("t", &[128, 2], Type::Q4K.ggml(), 0).data(1024);
    assert_eq!(raw.error(Field::Dim, Some(0), "t"), Kind::Multiple { of: 256, found: 128 });
}

#[test]
fn tensor_names_longer_than_64_bytes_are_refused() {
    let raw = f32_tensor(&"n".repeat(64), 0);
    assert!(Gguf::parse(&raw.bytes).is_ok());
    let raw = f32_tensor(&"n".repeat(65), 0);
    assert_eq!(raw.error(Field::StringLength, Some(0), ""), Kind::TooMany { limit: 64, found: 65 });
}

#[test]
fn types_that_nobody_knows_are_refused_by_the_tensors_name() {
    for ty in [4, 5, 31, 32, 33, 36, 37, 38, 99, u32::MAX] {
        let mut raw = Raw::new(3, 1, 0);
        raw.tensor("blk.0.attn_q.weight", &[256], ty, 0).data(2048);
        let kind = raw.error(Field::TensorType, Some(0), "blk.0.attn_q.weight");
        assert_eq!(kind, Kind::UnknownType { found: ty });
    }
}

#[test]
fn types_that_cannot_be_computed_with_are_read_with_their_right_size() {
    // Sizes of one row of 256 that other readers have wrong, and type 40 that one of them panics on.
    for (ty, name, size) in [
        (20, "IQ4_NL", 144),
        (30, "BF16", 512),
        (24, "I8", 256),
        (26, "I32", 1024),
        (39, "MXFP4", 136),
        (9, "Q8_1", 288),
        (40, "NVFP4", 144),
    ] {
        let mut raw = Raw::new(3, 2, 0);
        raw.tensor("t", &[256], ty, 0).tensor("next", &[8], 0, (size as u64).next_multiple_of(32)).data(2048);
        let gguf = Gguf::parse(&raw.bytes).unwrap();
        let tensor = gguf.tensor("t").unwrap();
        assert_eq!((tensor.ty.name(), tensor.data.len()), (name, size));
        assert_eq!(tensor.ty.supported().is_some(), name == "BF16");
    }
    for ty in TensorType::all() {
        let mut raw = Raw::new(3, 1, 0);
        raw.tensor("t", &[ty.block_len() as u64, 3], ty.ggml(), 0).data(3 * ty.block_bytes());
        assert_eq!(Gguf::parse(&raw.bytes).unwrap().tensor("t").unwrap().data.len(), 3 * ty.block_bytes());
    }
}

#[test]
fn misaligned_offsets_are_refused() {
    for offset in [1, 8, 16, 31, 33] {
        let kind = f32_tensor("t", offset).error(Field::TensorOffset, Some(0), "t");
        assert_eq!(kind, Kind::Multiple { of: 32, found: offset });
    }
}

#[test]
fn offsets_past_the_end_are_refused() {
    assert!(Gguf::parse(&f32_tensor("t", 32).bytes).is_ok());
    let raw = f32_tensor("t", 64);
    let end = raw.bytes.len() as u64 + 32;
    assert_eq!(raw.error(Field::TensorOffset, Some(0), "t"), Kind::PastEnd { end, file: end - 32 });
    for offset in [1 << 40, 1 << 63, u64::MAX - 31] {
        let kind = f32_tensor("t", offset).error(Field::TensorOffset, Some(0), "t");
        assert!(matches!(kind, Kind::PastEnd { .. } | Kind::Overflow));
    }
}

#[test]
fn tensors_that_share_bytes_are_refused_in_any_order() {
    for (a, b, c) in [(0, 32, 32), (0, 64, 32), (64, 0, 32), (32, 0, 0)] {
        let mut raw = Raw::new(3, 3, 0);
        raw.tensor("a", &[8], 0, a).tensor("b", &[8], 0, b).tensor("c", &[9], 0, c).data(128);
        let kind = raw.error(Field::TensorOffset, Some(2), "c");
        assert!(matches!(kind, Kind::Overlap { .. }), "{kind:?}");
    }
    // Out of order, and side by side: nothing wrong.
    let mut raw = Raw::new(3, 3, 0);
    raw.tensor("a", &[8], 0, 64).tensor("b", &[8], 0, 0).tensor("c", &[8], 0, 32).data(96);
    assert!(Gguf::parse(&raw.bytes).is_ok());
}

#[test]
fn alignments_must_be_powers_of_two_from_8_on() {
    for alignment in [0u32, 1, 4, 24, 31, 33, 48, u32::MAX] {
        let mut raw = Raw::new(3, 1, 1);
        raw.key("general.alignment", ValueType::U32).u32(alignment).tensor("t", &[8], 0, 0).data(256);
        let kind = raw.error(Field::Alignment, Some(0), "general.alignment");
        assert_eq!(kind, Kind::Alignment { found: alignment.into() });
    }
    let mut raw = Raw::new(3, 0, 1);
    raw.key("general.alignment", ValueType::I32).u32(-32i32 as u32);
    assert!(matches!(raw.error(Field::Alignment, Some(0), "general.alignment"), Kind::WrongType { .. }));
    let mut raw = Raw::new(3, 0, 1);
    raw.key("general.alignment", ValueType::Str).str(b"32");
    let kind = raw.error(Field::Alignment, Some(0), "general.alignment");
    assert_eq!(kind, Kind::WrongType { expected: "u32", found: "string" });
    for alignment in [8, 16, 32, 64, 4096] {
        let mut raw = Raw::new(3, 1, 1);
        raw.key("general.alignment", ValueType::U64).u64(alignment).tensor("t", &[2], 0, alignment).data(16384);
        let gguf = Gguf::parse(&raw.bytes).unwrap();
        let tensor = gguf.tensor("t").unwrap();
        assert_eq!((gguf.alignment(), gguf.data_offset() % alignment), (alignment, 0));
        assert_eq!(tensor.offset, gguf.data_offset() + alignment);
    }
    // A huge one only matters where there is data.
    let mut raw = Raw::new(3, 0, 1);
    raw.key("general.alignment", ValueType::U32).u32(1 << 31);
    assert_eq!(Gguf::parse(&raw.bytes).unwrap().data_offset(), 1 << 31);
}

#[test]
fn a_file_type_that_is_no_integer_is_an_error_when_asked_for_and_not_before() {
    let mut raw = Raw::new(3, 0, 1);
    raw.key("general.file_type", ValueType::Str).str(b"Q8_0");
    let gguf = Gguf::parse(&raw.bytes).unwrap();
    let error = gguf.u32("general.file_type").unwrap_err();
    assert_eq!(error.kind, Kind::WrongType { expected: "u32", found: "string" });
    assert!(error.to_string().contains("general.file_type"), "{error}");
}

#[test]
fn empty_files_empty_arrays_and_files_without_tensors_are_fine() {
    assert_eq!(Gguf::parse(&Raw::new(3, 0, 0).bytes).unwrap().tensors().count(), 0);
    let mut raw = Raw::new(2, 0, 3);
    raw.array("none", ValueType::Str, 0).array("no arrays", ValueType::Array, 0).key("", ValueType::U8).raw(&[9]);
    let gguf = Gguf::parse(&raw.bytes).unwrap();
    assert_eq!(gguf.strs("none").unwrap().unwrap().count(), 0);
    assert!(gguf.array("no arrays").unwrap().unwrap().is_empty());
    assert_eq!(gguf.u32(""), Ok(Some(9)));
}

#[test]
fn names_from_files_are_escaped_in_messages() {
    let error = Gguf::parse(&f32_tensor("evil\x1b[31m\nname", 1).bytes).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\x1b') && !text.contains('\n') && text.contains("evil"), "{text}");
}

/// A small file with every kind of value and a few tensors, from the writer.
fn sample() -> Vec<u8> {
    let inner = [WriteValue::Values(ValueType::U8, &[WriteValue::U8(1)]), WriteValue::Strs(&["x", ""])];
    let metadata = [
        ("general.architecture", WriteValue::Str("llama")),
        ("u8", WriteValue::U8(1)),
        ("i16", WriteValue::I16(-3)),
        ("f64", WriteValue::F64(0.5)),
        ("flag", WriteValue::Bool(true)),
        ("tokens", WriteValue::Strs(&["a", "", "語", "<0x0A>"])),
        ("scores", WriteValue::F32s(&[0.5, -1.0])),
        ("bools", WriteValue::Bools(&[true, false])),
        ("nested", WriteValue::Values(ValueType::Array, &inner)),
    ];
    let tensors = [
        TensorInfo { name: "norm", ty: Type::F32.into(), dims: &[3] },
        TensorInfo { name: "w", ty: Type::Q8_0.into(), dims: &[64, 2] },
        TensorInfo { name: "k", ty: Type::Q4K.into(), dims: &[256, 1, 2] },
    ];
    let mut buffer = vec![0; 4096];
    let mut writer = Writer::new(&mut buffer[..], &metadata, &tensors).unwrap();
    for tensor in &tensors {
        writer.tensor(&vec![5; tensor.size().unwrap() as usize]).unwrap();
    }
    let rest = writer.finish().unwrap().len();
    buffer.truncate(4096 - rest);
    buffer
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let bytes = sample();
    let end = Gguf::parse(&bytes).unwrap().tensors().map(|t| t.offset as usize + t.data.len()).max().unwrap();
    for cut in 0..end {
        let error = Gguf::parse(&bytes[..cut]).unwrap_err();
        assert!(matches!(error.kind, Kind::Truncated { .. } | Kind::PastEnd { .. }), "cut at {cut}: {error}");
    }
    assert!(Gguf::parse(&bytes[..end]).is_ok());
}

/// Uses everything that a file offers.
fn use_everything(bytes: &[u8]) -> Result<(), Error> {
    fn walk(value: Value<'_>) -> usize {
        match value {
            Value::Array(array) => {
                let n = array.iter().map(walk).count();
                assert_eq!(n, array.len());
                n
            }
            _ => 1,
        }
    }
    let gguf = Gguf::parse(bytes)?;
    assert_eq!(
        gguf.metadata()
            .inspect(|(_, value)| {
                walk(*value);
            })
            .count(),
        gguf.metadata_len()
    );
    assert_eq!(gguf.tensors().count(), gguf.tensor_count());
    for (key, _) in gguf.metadata() {
        assert!(gguf.value(key).is_some());
        let _ = (gguf.u32(key), gguf.f32(key), gguf.str(key), gguf.bool(key), gguf.array(key));
        let _ = (gguf.strs(key).map(|i| i.map(Iterator::count)), gguf.i32s(key).map(|i| i.map(Iterator::count)));
    }
    let mut spans: Vec<_> = gguf.tensors().map(|t| (t.offset, t.offset + t.data.len() as u64)).collect();
    spans.sort_unstable();
    for pair in spans.windows(2) {
        assert!(pair[0].1 <= pair[1].0);
    }
    for tensor in gguf.tensors() {
        assert_eq!(tensor.elements() / tensor.ty.block_len() * tensor.ty.block_bytes(), tensor.data.len());
        if let Some(ty) = tensor.ty.supported() {
            let mut row = vec![0.0; tensor.cols()];
            let bytes = ty.row_bytes(tensor.cols()).unwrap();
            attune_core::quant::decode(ty, &tensor.data[..bytes], &mut row).unwrap();
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = sample();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = use_everything(&bytes);
    }

    #[test]
    fn changed_numbers_never_panic(
        at in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![0, 1, 7, 8, 0xff, 1 << 16, 1 << 31, 1 << 32, 1 << 48, u64::MAX >> 1, u64::MAX - 31, u64::MAX]),
        wide in any::<bool>(),
    ) {
        let mut bytes = sample();
        let at = at.index(bytes.len() - 8);
        let n = if wide { 8 } else { 4 };
        bytes[at..at + n].copy_from_slice(&value.to_le_bytes()[..n]);
        let _ = use_everything(&bytes);
    }

    #[test]
    fn removed_and_repeated_pieces_never_panic(
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        repeat in any::<bool>(),
    ) {
        let mut bytes = sample();
        let (a, b) = (from.index(bytes.len()), to.index(bytes.len()));
        let piece = a.min(b)..a.max(b);
        if repeat {
            let copy = bytes[piece.clone()].to_vec();
            bytes.splice(piece.start..piece.start, copy);
        } else {
            bytes.drain(piece);
        }
        let _ = use_everything(&bytes);
    }

    #[test]
    fn random_bytes_behind_a_good_beginning_never_panic(tail in prop::collection::vec(any::<u8>(), 0..400), tensors in 0u64..4, metadata in 0u64..4) {
        let mut raw = Raw::new(3, tensors, metadata);
        raw.raw(&tail);
        let _ = use_everything(&raw.bytes);
    }
}

#[test]
fn the_unchanged_sample_is_read() {
    use_everything(&sample()).unwrap();
}

#[test]
fn the_largest_headers_are_read_in_reasonable_time() {
    let start = Instant::now();
    let mut raw = Raw::new(3, 16_384, 4096);
    raw.array("tokens", ValueType::Str, 150_000);
    for i in 0..150_000 {
        raw.str(format!("token {i}").as_bytes());
    }
    for i in 1..4096 {
        raw.key(&format!("key {i}"), ValueType::U32).u32(i);
    }
    for i in 0..16_384 {
        raw.tensor(&format!("blk.{i}.attn_q.weight"), &[8], 0, 32 * i);
    }
    raw.data(32 * 16_384);
    let built = start.elapsed();
    let gguf = Gguf::parse(&raw.bytes).unwrap();
    assert_eq!(gguf.u32("key 4095"), Ok(Some(4095)));
    assert_eq!(gguf.strs("tokens").unwrap().unwrap().last(), Some("token 149999"));
    let took = start.elapsed() - built;
    // A fraction of a second where nothing else runs; a reader that walks the vocabulary for each key takes minutes.
    assert!(took < Duration::from_secs(20), "{took:?}");
}
