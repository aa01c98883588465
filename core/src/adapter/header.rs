//! What an adapter is: the header as callers see it, and as it lies in the file.

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use super::error::field;
use super::{ALIGNMENT, Error, MAX_HEADER, MAX_LAYERS, MAX_SECTIONS, PREFIX};
use crate::lora::{Layout, Module, Modules, Shape, Side};
use crate::spec::Spec;

/// All about an adapter but its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Rank, scale, linears, layers.
    pub shape: Shape,
    /// `[inputs, outputs]` of each linear of the base, in the order of [`Module::ALL`].
    pub dims: [[u32; 2]; 7],
    /// How many layers the base has.
    pub base_layers: u32,
    /// The base.
    pub base: Base,
    /// How it came about.
    pub training: Training,
}

/// The model that an adapter belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The hash of its tensors (`docs/adapter-format.md` says how it is computed).
    pub hash: [u8; 32],
    /// `general.architecture` of its file.
    pub architecture: String<32>,
    /// What people call it; may be empty.
    pub name: String<128>,
}

/// How an adapter came about.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Training {
    /// Optimiser updates.
    pub steps: u64,
    /// The program that wrote it, in whatever words.
    pub creator: String<64>,
}

/// `s`, cut at the last character that fits.
#[must_use]
pub fn text<const N: usize>(s: &str) -> String<N> {
    let mut out = String::new();
    for c in s.chars() {
        if out.push(c).is_err() {
            break;
        }
    }
    out
}

impl Header {
    /// The header of an adapter of `shape` for a model.
    ///
    /// # Errors
    /// As [`Shape::check`].
    pub fn new(spec: &Spec, shape: Shape, base: Base, training: Training) -> crate::Result<Header> {
        shape.check(spec)?;
        let dims = Module::ALL.map(|module| {
            let (inputs, outputs) = spec.module_dims(module);
            [inputs as u32, outputs as u32]
        });
        Ok(Header { shape, dims, base_layers: spec.layers as u32, base, training })
    }

    /// Checks that the adapter's widths and layers are the model's, and gives the layout of its parameters on it.
    ///
    /// # Errors
    /// [`Error::Model`] with what differs.
    pub fn fits(&self, spec: &Spec) -> Result<Layout, Error> {
        let differs = |what, expected, found| if expected == found { Ok(()) } else { Err(Error::Model { what, expected, found }) };
        differs("layers:", spec.layers as u32, self.base_layers)?;
        for module in self.shape.modules.iter() {
            const INPUTS: [&str; 7] = [
                "q_proj inputs:",
                "k_proj inputs:",
                "v_proj inputs:",
                "o_proj inputs:",
                "gate_proj inputs:",
                "up_proj inputs:",
                "down_proj inputs:",
            ];
            const OUTPUTS: [&str; 7] = [
                "q_proj outputs:",
                "k_proj outputs:",
                "v_proj outputs:",
                "o_proj outputs:",
                "gate_proj outputs:",
                "up_proj outputs:",
                "down_proj outputs:",
            ];
            let (inputs, outputs) = spec.module_dims(module);
            let [own_inputs, own_outputs] = self.dims[module as usize];
            differs(INPUTS[module as usize], inputs as u32, own_inputs)?;
            differs(OUTPUTS[module as usize], outputs as u32, own_outputs)?;
        }
        Layout::new(spec, self.shape).map_err(|_| field("shape", "what the model allows"))
    }

    /// Checks the header against itself, and counts the numbers: all A, and all B.
    pub(super) fn counts(&self) -> Result<[u64; 2], Error> {
        let shape = &self.shape;
        if !(1..=1024).contains(&shape.rank) {
            return Err(field("rank", "1 to 1024"));
        }
        if !shape.alpha.is_finite() || shape.alpha <= 0.0 {
            return Err(field("alpha", "a finite number above 0"));
        }
        if shape.modules.is_empty() {
            return Err(field("modules", "at least one linear"));
        }
        if !(1..=MAX_LAYERS).contains(&self.base_layers) {
            return Err(field("base_layers", "1 to 65536"));
        }
        let end = u64::from(shape.first_layer) + u64::from(shape.layers);
        if shape.layers == 0 || end > u64::from(self.base_layers) {
            return Err(field("layers", "1 to as many as the base has"));
        }
        let mut widths = [0u64; 2];
        for module in shape.modules.iter() {
            for (sum, dim) in widths.iter_mut().zip(self.dims[module as usize]) {
                if dim == 0 || dim >= 1 << 31 {
                    return Err(field("dims", "1 to 2147483647"));
                }
                *sum += u64::from(dim);
            }
        }
        let rows = u64::from(shape.rank) * u64::from(shape.layers);
        let count = |width: u64| width.checked_mul(rows).filter(|n| *n < 1 << 60);
        match widths.map(count) {
            [Some(a), Some(b)] => Ok([a, b]),
            _ => Err(field("dims", "a size that a machine can hold")),
        }
    }

    /// How many numbers a score head on this base has: the model's width.
    #[must_use]
    pub fn score_len(&self) -> usize {
        // Below 2^31 where a linear is adapted; what else a damaged file says no section bears out.
        self.dims[Module::Q as usize][0] as usize
    }

    /// First number and `[rows, cols]` of a matrix within the parameters; `None` where this layer or module has no adapter.
    #[must_use]
    pub fn place(&self, layer: u32, module: Module, side: Side) -> Option<(u64, [u32; 2])> {
        let local = u64::from(layer.checked_sub(self.shape.first_layer)?);
        if local >= u64::from(self.shape.layers) || !self.shape.modules.contains(module) {
            return None;
        }
        let (rank, which) = (self.shape.rank, if side == Side::A { 0 } else { 1 });
        let width = |m: Module| self.dims[m as usize][which];
        let sum = |modules: &mut dyn Iterator<Item = Module>| modules.map(|m| u64::from(width(m))).sum::<u64>();
        let (all, before) = (sum(&mut self.shape.modules.iter()), sum(&mut self.shape.modules.iter().take_while(|m| *m != module)));
        let start = u64::from(rank).checked_mul(local.checked_mul(all)?.checked_add(before)?)?;
        Some(match side {
            Side::A => (start, [rank, width(module)]),
            Side::B => (self.counts().ok()?[0].checked_add(start)?, [width(module), rank]),
        })
    }
}

/// What a section holds.
pub(super) const KIND_A: u8 = 0;
pub(super) const KIND_B: u8 = 1;
pub(super) const KIND_SCORE: u8 = 2;

/// A run of bytes after the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Section {
    pub(super) kind: u8,
    /// From the payload's beginning.
    pub(super) offset: u64,
    pub(super) len: u64,
    #[serde(with = "postcard::fixint::le")]
    pub(super) crc: u32,
}

impl Section {
    pub(super) const fn name(&self) -> &'static str {
        match self.kind {
            KIND_A => "a",
            KIND_B => "b",
            KIND_SCORE => "score",
            _ => "of a later version",
        }
    }
}

/// The header as it lies in the file. Fields are never changed or removed; new ones come at the end.
#[derive(Serialize, Deserialize)]
struct Wire {
    rank: u32,
    alpha: f32,
    use_rslora: bool,
    modules: u8,
    first_layer: u32,
    layers: u32,
    base_layers: u32,
    dims: [[u32; 2]; 7],
    base_hash: [u8; 32],
    architecture: String<32>,
    base_name: String<128>,
    steps: u64,
    creator: String<64>,
    sections: Vec<Section, MAX_SECTIONS>,
}

/// A header that was read and checked, and where its sections lie.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    pub(super) header: Header,
    pub(super) sections: Vec<Section, MAX_SECTIONS>,
    /// Where the payload begins in the file.
    pub(super) start: usize,
    /// Numbers in the sections a and b together.
    pub(super) params: usize,
    /// Numbers of the score head; 0 where there is none.
    pub(super) score: usize,
}

impl Head {
    /// Of an adapter to be written. `a` and `b` are checksums, `score` are the numbers of a score head, 0 for none, and theirs.
    pub(super) fn new(header: &Header, [a, b]: [u32; 2], (score, crc): (usize, u32)) -> Result<Head, Error> {
        let [a_len, b_len] = header.counts()?.map(|n| n * 4);
        let mut sections = Vec::new();
        // There is room for eight.
        let _ = sections.push(Section { kind: KIND_A, offset: 0, len: a_len, crc: a });
        let _ = sections.push(Section { kind: KIND_B, offset: a_len, len: b_len, crc: b });
        if score > 0 {
            let offset = (a_len + b_len).next_multiple_of(ALIGNMENT as u64);
            let _ = sections.push(Section { kind: KIND_SCORE, offset, len: score as u64 * 4, crc });
        }
        let params = usize::try_from((a_len + b_len) / 4).map_err(|_| field("dims", "a size that this machine can hold"))?;
        Ok(Head { header: header.clone(), sections, start: 0, params, score })
    }

    /// Serialises into `out`, behind the space for the prefix; gives the header's length.
    pub(super) fn encode(&self, out: &mut [u8; MAX_HEADER]) -> Result<usize, Error> {
        let (header, shape) = (&self.header, &self.header.shape);
        let wire = Wire {
            rank: shape.rank,
            alpha: shape.alpha,
            use_rslora: shape.use_rslora,
            modules: shape.modules.iter().fold(0, |bits, m| bits | 1 << m as u8),
            first_layer: shape.first_layer,
            layers: shape.layers,
            base_layers: header.base_layers,
            dims: header.dims,
            base_hash: header.base.hash,
            architecture: header.base.architecture.clone(),
            base_name: header.base.name.clone(),
            steps: header.training.steps,
            creator: header.training.creator.clone(),
            sections: self.sections.clone(),
        };
        let written = postcard::to_slice(&wire, out).map_err(|_| Error::Header)?;
        Ok(written.len())
    }

    /// Reads and checks a header's bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Head, Error> {
        // Fields of later versions may follow.
        let (wire, _) = postcard::take_from_bytes::<Wire>(bytes).map_err(|_| Error::Header)?;
        if wire.modules & 0x80 != 0 {
            return Err(field("modules", "linears that this version knows"));
        }
        let modules = Module::ALL.into_iter().filter(|m| wire.modules & 1 << *m as u8 != 0).fold(Modules::NONE, Modules::with);
        let shape = Shape {
            rank: wire.rank,
            alpha: wire.alpha,
            use_rslora: wire.use_rslora,
            modules,
            first_layer: wire.first_layer,
            layers: wire.layers,
        };
        let base = Base { hash: wire.base_hash, architecture: wire.architecture, name: wire.base_name };
        let training = Training { steps: wire.steps, creator: wire.creator };
        let header = Header { shape, dims: wire.dims, base_layers: wire.base_layers, base, training };
        let (params, score) = check_sections(&wire.sections, header.counts()?, header.score_len())?;
        let start = (PREFIX + bytes.len()).next_multiple_of(ALIGNMENT);
        Ok(Head { header, sections: wire.sections, start, params, score })
    }

    /// Where the payload ends, from its beginning.
    pub(super) fn payload_len(&self) -> u64 {
        self.sections.last().map_or(0, |s| s.offset + s.len)
    }
}

/// The first two sections are a and b, one behind the other; others follow with less than [`ALIGNMENT`] bytes between them, first that of a score head
/// where there is one. Gives how many numbers a and b hold, and how many the score head.
fn check_sections(sections: &[Section], [a, b]: [u64; 2], head: usize) -> Result<(usize, usize), Error> {
    let (mut end, mut score) = (0u64, 0);
    for (i, section) in sections.iter().enumerate() {
        let wrong = Err(Error::Section { section: section.name() });
        let gap = section.offset.checked_sub(end);
        let (Some(gap), Some(next)) = (gap, section.offset.checked_add(section.len)) else { return wrong };
        if next > 1 << 62 || gap >= ALIGNMENT as u64 {
            return wrong;
        }
        let right = match i {
            0 => section.kind == KIND_A && section.offset == 0 && section.len == a * 4,
            1 => section.kind == KIND_B && gap == 0 && section.len == b * 4,
            2 if section.kind == KIND_SCORE => {
                score = head;
                head > 0 && section.len == head as u64 * 4
            }
            _ => section.kind > KIND_SCORE,
        };
        if !right {
            return wrong;
        }
        end = next;
    }
    if sections.len() < 2 {
        return Err(Error::Section { section: if sections.is_empty() { "a" } else { "b" } });
    }
    let params = usize::try_from(a + b).ok().filter(|n| n.checked_mul(4).is_some());
    params.map(|params| (params, score)).ok_or(field("dims", "a size that this machine can hold"))
}
