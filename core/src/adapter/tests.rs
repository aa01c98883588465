#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
extern crate std;

use super::header::{Head, KIND_B, Section};
use super::write::checksum;
use super::*;
use crate::lora::{Module, Modules, Shape, Side};
use std::vec::Vec;

fn header() -> Header {
    Header {
        shape: Shape {
            rank: 2,
            alpha: 4.0,
            use_rslora: true,
            modules: Modules::NONE.with(Module::Q).with(Module::Down),
            first_layer: 1,
            layers: 2,
        },
        dims: [[8, 6], [8, 4], [8, 4], [6, 8], [8, 12], [8, 12], [12, 8]],
        base_layers: 3,
        base: Base { hash: core::array::from_fn(|i| i as u8), architecture: text("llama"), name: text("Tiny 模型") },
        training: Training { steps: 300, creator: text("test") },
    }
}

/// 2 layers × rank 2 × ((8 + 12) + (6 + 8)).
fn params() -> [f32; 136] {
    core::array::from_fn(|i| (i as f32 - 70.0) * 0.37)
}

fn file() -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Stream(&mut out), &header(), &params()).unwrap();
    out
}

/// A file of these parts, whatever they are, with right checksums.
fn assemble(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::from(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend((header.len() as u32).to_le_bytes());
    out.extend(checksum(&out.clone(), header).to_le_bytes());
    out.extend(header);
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out.extend(payload);
    out
}

fn encode(head: &Head) -> Vec<u8> {
    let mut bytes = [0; MAX_HEADER];
    let len = head.encode(&mut bytes).unwrap();
    bytes[..len].to_vec()
}

fn head_of(file: &[u8]) -> Head {
    let len = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    Head::decode(&file[PREFIX..PREFIX + len]).unwrap()
}

struct Stream<'a>(&'a mut Vec<u8>);

impl embedded_io::ErrorType for Stream<'_> {
    type Error = embedded_io::ErrorKind;
}

impl embedded_io::Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        // A destination that takes little at once.
        let n = bytes.len().min(100);
        self.0.extend(&bytes[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

fn streamed(bytes: &[u8]) -> Result<(Header, Vec<f32>), Error> {
    let format = |error| match error {
        ReadError::Format(error) => error,
        ReadError::Io(error) => match error {},
    };
    let reader = Reader::open(bytes).map_err(format)?;
    let header = reader.header().clone();
    // A caller with a limit, as every caller should be.
    if reader.params_len() > 10_000 {
        return Err(field_of_test());
    }
    let mut out = std::vec![0.0; reader.params_len()];
    reader.read(&mut out).map_err(format)?;
    Ok((header, out))
}

const fn field_of_test() -> Error {
    error::field("size", "what the test has")
}

#[test]
fn what_was_written_is_read() {
    let bytes = file();
    assert_eq!(file_len(&header(), &params()), Ok(bytes.len() as u64));
    let parsed = AdapterFile::parse(&bytes).unwrap();
    assert_eq!(parsed.header(), &header());
    assert_eq!(parsed.params_len(), 136);
    let mut out = [0.0; 136];
    parsed.copy_params(&mut out).unwrap();
    assert_eq!(out, params());
    assert_eq!(streamed(&bytes).unwrap(), (header(), params().to_vec()));
    assert_eq!(parsed.copy_params(&mut [0.0; 135]), Err(Error::Params { expected: 136, found: 135 }));
}

#[test]
fn parameters_are_given_in_place_where_they_are_aligned() {
    let bytes = file();
    // Copies at every alignment of four.
    let mut memory = std::vec![0u32; bytes.len() / 4 + 2];
    let memory: &mut [u8] = bytemuck::cast_slice_mut(&mut memory);
    for shift in 0..5 {
        memory[shift..shift + bytes.len()].copy_from_slice(&bytes);
        let parsed = AdapterFile::parse(&memory[shift..shift + bytes.len()]).unwrap();
        let expected = params();
        assert_eq!(parsed.params(), (shift % 4 == 0 && cfg!(target_endian = "little")).then_some(&expected[..]));
        assert_eq!(parsed.params_bytes().len(), 136 * 4);
    }
    let start = bytes.len() - 136 * 4;
    assert_eq!(start % ALIGNMENT, 0);
}

#[test]
fn places_are_those_of_the_layout() {
    let header = header();
    // A: for each of layers 1 and 2, q [2, 8] and down [2, 12]; then B: q [6, 2] and down [8, 2].
    assert_eq!(header.place(1, Module::Q, Side::A), Some((0, [2, 8])));
    assert_eq!(header.place(2, Module::Down, Side::A), Some((56, [2, 12])));
    assert_eq!(header.place(1, Module::Q, Side::B), Some((80, [6, 2])));
    assert_eq!(header.place(2, Module::Down, Side::B), Some((120, [8, 2])));
    assert_eq!(header.place(0, Module::Q, Side::A), None);
    assert_eq!(header.place(3, Module::Q, Side::A), None);
    assert_eq!(header.place(1, Module::K, Side::A), None);
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = file();
    for len in 0..bytes.len() {
        assert!(matches!(AdapterFile::parse(&bytes[..len]), Err(Error::Truncated { .. })), "{len} bytes");
        assert!(matches!(streamed(&bytes[..len]), Err(Error::Truncated { .. })), "{len} bytes");
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    let mut bytes = file();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(AdapterFile::parse(&bytes).is_err(), "bit {bit}");
        assert!(streamed(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn random_bytes_after_a_right_checksum_are_an_error_or_a_header_but_never_a_panic() {
    let good = encode(&head_of(&file()));
    for seed in 0..20_000 {
        let mut bytes = good.clone();
        for change in 0..1 + seed % 4 {
            let at = crate::rng::bits(seed, 1, change) as usize % bytes.len();
            bytes[at] = crate::rng::bits(seed, 2, change) as u8;
        }
        let _ = AdapterFile::parse(&assemble(&bytes, &[0; 64]));
        let _ = streamed(&assemble(&bytes, &[0; 64]));
    }
}

#[test]
fn bytes_behind_the_file_are_an_error_except_where_they_are_asked_for() {
    let mut bytes = file();
    bytes.extend([0xff; 3]);
    assert_eq!(AdapterFile::parse(&bytes).unwrap_err(), Error::Trailing { found: 3 });
    let (file, rest) = AdapterFile::parse_prefix(&bytes).unwrap();
    assert_eq!((file.header(), rest), (&header(), &[0xff; 3][..]));
}

#[test]
fn other_files_and_later_versions_are_told_apart() {
    assert_eq!(AdapterFile::parse(b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap_err(), Error::Magic);
    let mut bytes = file();
    bytes[8] = 2;
    assert_eq!(AdapterFile::parse(&bytes).unwrap_err(), Error::Version { found: 2 });
    bytes[8] = 1;
    bytes[14] = 1;
    assert!(matches!(AdapterFile::parse(&bytes), Err(Error::HeaderLength { .. })));
}

#[test]
fn absurd_shapes_are_refused_by_the_reader_and_by_the_writer() {
    let cases: [(&str, fn(&mut Header)); 11] = [
        ("rank", |h| h.shape.rank = 0),
        ("rank", |h| h.shape.rank = u32::MAX),
        ("alpha", |h| h.shape.alpha = f32::NAN),
        ("alpha", |h| h.shape.alpha = -1.0),
        ("modules", |h| h.shape.modules = Modules::NONE),
        ("layers", |h| h.shape.layers = 0),
        ("layers", |h| h.shape.layers = u32::MAX),
        ("layers", |h| h.shape.first_layer = u32::MAX),
        ("base_layers", |h| h.base_layers = u32::MAX),
        ("dims", |h| h.dims[0] = [0, 4]),
        ("dims", |h| h.dims[6] = [u32::MAX; 2]),
    ];
    for (field, change) in cases {
        let mut head = head_of(&file());
        change(&mut head.header);
        let read = AdapterFile::parse(&assemble(&encode(&head), &[0; 4096])).unwrap_err();
        assert!(matches!(read, Error::Field { field: found, .. } if found == field), "{field}: {read}");
        let written = write(&mut Stream(&mut Vec::new()), &head.header, &params());
        assert_eq!(written, Err(WriteError::Format(read)), "{field}");
    }
}

#[test]
fn a_size_that_only_the_header_claims_takes_no_memory() {
    let mut head = head_of(&file());
    head.header.dims = [[1 << 30, 1 << 30]; 7];
    for (section, len) in head.sections.iter_mut().zip([1u64 << 35, 1 << 35]) {
        section.offset = if section.kind == KIND_B { 1 << 35 } else { 0 };
        section.len = len;
    }
    let bytes = assemble(&encode(&head), &[0; 64]);
    assert!(matches!(AdapterFile::parse(&bytes), Err(Error::Truncated { .. })));
    assert_eq!(Reader::open(&bytes[..]).unwrap().params_len(), 1 << 34);
}

#[test]
fn sections_that_lie_elsewhere_are_refused() {
    let cases: [fn(&mut Head); 7] = [
        |h| h.sections[0].offset = 4,
        |h| h.sections[1].offset += 64,
        |h| h.sections[1].offset = 0,
        |h| h.sections[1].len = u64::MAX,
        |h| h.sections[0].len -= 4,
        |h| h.sections.swap(0, 1),
        |h| h.sections.truncate(1),
    ];
    for (i, change) in cases.into_iter().enumerate() {
        let mut head = head_of(&file());
        change(&mut head);
        let error = AdapterFile::parse(&assemble(&encode(&head), &[0; 4096])).unwrap_err();
        assert!(matches!(error, Error::Section { .. }), "{i}: {error}");
    }
}

fn head_of_scores() -> [f32; 8] {
    core::array::from_fn(|i| 0.25 * i as f32 - 1.0)
}

fn file_with_head() -> Vec<u8> {
    let mut out = Vec::new();
    write_with_head(&mut Stream(&mut out), &header(), &params(), &head_of_scores()).unwrap();
    out
}

#[test]
fn a_score_head_is_read_by_who_wants_it_and_passed_over_by_others() {
    let bytes = file_with_head();
    let parsed = AdapterFile::parse(&bytes).unwrap();
    assert_eq!((parsed.header(), parsed.score_head_len()), (&header(), 8));
    let (mut out, mut head) = ([0.0; 136], [0.0; 8]);
    parsed.copy_params(&mut out).unwrap();
    parsed.copy_score_head(&mut head).unwrap();
    assert_eq!((out, head), (params(), head_of_scores()));
    assert_eq!(parsed.copy_score_head(&mut [0.0; 7]), Err(Error::Params { expected: 8, found: 7 }));
    // A reader that knows nothing of heads asks for parameters alone.
    assert_eq!(streamed(&bytes).unwrap(), (header(), params().to_vec()));
    let (mut out, mut head) = ([0.0; 136], [0.0; 8]);
    let reader = Reader::open(&bytes[..]).unwrap();
    assert_eq!((reader.score_head_len(), reader.file_len()), (8, bytes.len() as u64));
    assert!(reader.read_with_head(&mut out, &mut head).unwrap().is_empty());
    assert_eq!((out, head), (params(), head_of_scores()));
    let plain = AdapterFile::parse(&file()).unwrap().score_head_len();
    assert_eq!(plain, 0);
}

#[test]
fn damage_to_a_score_head_is_an_error_to_all_readers() {
    let mut bytes = file_with_head();
    for len in 0..bytes.len() {
        assert!(AdapterFile::parse(&bytes[..len]).is_err() && streamed(&bytes[..len]).is_err(), "{len} bytes");
    }
    for bit in (bytes.len() - 200) * 8..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(AdapterFile::parse(&bytes).is_err() && streamed(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    let cases: [fn(&mut Head); 4] = [
        |h| h.sections[2].len -= 4,
        |h| h.sections[2].len += 4,
        |h| h.sections[2].offset -= 64,
        |h| h.sections.push(h.sections[2]).unwrap(),
    ];
    for (i, change) in cases.into_iter().enumerate() {
        let mut head = head_of(&bytes);
        change(&mut head);
        let error = AdapterFile::parse(&assemble(&encode(&head), &[0; 4096])).unwrap_err();
        assert!(matches!(error, Error::Section { section: "score" }), "{i}: {error}");
    }
    let wrong = write_with_head(&mut Stream(&mut Vec::new()), &header(), &params(), &[0.0; 7]);
    assert_eq!(wrong, Err(WriteError::Format(Error::Params { expected: 8, found: 7 })));
}

#[test]
fn what_later_versions_may_add_is_read_over() {
    let mut head = head_of(&file());
    let extra = *b"something that came later";
    let end = head.sections[1].offset + head.sections[1].len;
    let offset = end.next_multiple_of(64);
    head.sections.push(Section { kind: 9, offset, len: extra.len() as u64, crc: crc32fast::hash(&extra) }).unwrap();
    let mut header_bytes = encode(&head);
    header_bytes.extend([1, 2, 3]);
    let mut payload: Vec<u8> = params().iter().flat_map(|x| x.to_le_bytes()).collect();
    payload.resize(offset as usize, 0);
    payload.extend(extra);
    let mut bytes = assemble(&header_bytes, &payload);
    assert_eq!(AdapterFile::parse(&bytes).unwrap().header(), &header());
    assert_eq!(streamed(&bytes).unwrap().1, params());
    // It is checked all the same, and so is what lies before it.
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(AdapterFile::parse(&bytes).unwrap_err(), Error::SectionChecksum { section: "of a later version" });
    assert_eq!(streamed(&bytes).unwrap_err(), Error::SectionChecksum { section: "of a later version" });
    let gap = bytes.len() - extra.len() - 1;
    bytes[gap] = 1;
    assert_eq!(AdapterFile::parse(&bytes).unwrap_err(), Error::Padding);
    assert_eq!(streamed(&bytes).unwrap_err(), Error::Padding);
}

#[test]
fn the_wrong_number_of_parameters_is_not_written() {
    let mut out = Vec::new();
    let error = write(&mut Stream(&mut out), &header(), &params()[1..]).unwrap_err();
    assert_eq!(error, WriteError::Format(Error::Params { expected: 136, found: 135 }));
    assert!(out.is_empty());
    let bytes = file();
    let reader = Reader::open(&bytes[..]).unwrap();
    assert!(reader.read(&mut [0.0; 137]).is_err());
}

#[test]
fn a_full_destination_is_an_error() {
    let mut memory = [0; 300];
    assert!(matches!(write(&mut &mut memory[..], &header(), &params()), Err(WriteError::Io(_))));
}

/// The bytes of version 1, written down: what `docs/adapter-format.md` shows. They must never change.
#[test]
fn version_one_keeps_its_bytes() {
    let mut header = header();
    header.shape = Shape { rank: 1, modules: Modules::NONE.with(Module::V), first_layer: 0, layers: 1, ..header.shape };
    header.dims = [[2, 2]; 7];
    header.base_layers = 1;
    header.base.name = text("tiny");
    let mut bytes = Vec::new();
    write(&mut Stream(&mut bytes), &header, &[1.0, -2.0, 0.5, 0.0]).unwrap();
    // Checksums by another program.
    let mut expected = Vec::from(*b"\x89ATTUNE\n\x01\0\0\0\x59\0\0\0");
    expected.extend([0x1a, 0x50, 0xbb, 0xf2]);
    // rank, alpha, rsLoRA, modules, first layer, layers, base layers.
    expected.extend([1, 0, 0, 0x80, 0x40, 1, 4, 0, 1, 1]);
    expected.extend([2; 14]);
    expected.extend(0..32);
    expected.extend(b"\x05llama\x04tiny\xac\x02\x04test");
    // Two sections: kind, offset, length, checksum.
    expected.extend([2, 0, 0, 8]);
    expected.extend([0x56, 0x26, 0x87, 0xc3]);
    expected.extend([1, 8, 8]);
    expected.extend([0x3e, 0xf0, 0x53, 0x46]);
    expected.resize(128, 0);
    expected.extend([0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3f, 0, 0, 0, 0]);
    assert_eq!(bytes, expected);
}

#[test]
fn an_adapter_of_another_model_is_told_what_differs() {
    use crate::spec::{Arch, Rope, RopeStyle, Spec};
    let spec = Spec {
        arch: Arch::Llama,
        layers: 3,
        width: 8,
        ff: 12,
        heads: 3,
        kv_heads: 1,
        head_dim: 2,
        vocab: 10,
        context: 10,
        eps: 1e-5,
        rope: Rope { style: RopeStyle::Adjacent, dims: 2, base: 1e4, scale: 1.0, local_base: 1e4 },
        window: None,
        embed_scale: 1.0,
        attn_scale: 1.0,
    };
    let header = header();
    let made = Header::new(&spec, header.shape, header.base.clone(), header.training.clone()).unwrap();
    assert_eq!(made.dims[0], [8, 6]);
    let layout = header.fits(&spec).unwrap();
    assert_eq!(layout.len(), 136);
    layout.each(|layer, module, side, start, [rows, cols]| {
        assert_eq!(header.place(layer as u32, module, side), Some((start as u64, [rows as u32, cols as u32])));
    });
    let wider = Spec { ff: 16, ..spec };
    assert_eq!(header.fits(&wider).unwrap_err(), Error::Model { what: "down_proj inputs:", expected: 16, found: 12 });
    let deeper = Spec { layers: 4, ..spec };
    assert_eq!(header.fits(&deeper).unwrap_err(), Error::Model { what: "layers:", expected: 4, found: 3 });
}
