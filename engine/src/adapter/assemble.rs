//! From the pairs of a foreign file to one shape and one run of parameters.
//!
//! A foreign adapter may give every linear its own rank and scale, and leave some out. Attune's has one rank, one scale and a run of layers
//! with the same linears in each. The difference is made up exactly: a lower rank is filled up with zeros, another scale is multiplied into B,
//! a linear that is left out has A and B zero. Such zeros stay zero when the adapter is tuned on, since their gradients are zero.

use std::collections::BTreeMap;
use std::path::Path;

use attune_core::lora::{Layout, Module, Modules, Shape, Side};
use attune_core::spec::{RopeStyle, Spec};

use super::error::Error;

/// What a foreign adapter has for one linear. `T` says where a matrix lies in the file.
#[derive(Debug)]
pub(super) struct Pair<T> {
    pub(super) rank: usize,
    pub(super) alpha: f32,
    pub(super) a: T,
    pub(super) b: T,
}

/// The linears of a foreign adapter, by layer and module.
#[derive(Debug)]
pub(super) struct Pairs<T> {
    /// Whether scales are `alpha / sqrt(rank)`.
    pub(super) use_rslora: bool,
    /// Whether the rows of q's and k's B are in Hugging Face's order and not in the GGUF file's.
    pub(super) hugging_face_rows: bool,
    /// By layer, and module in the order of [`Module::ALL`].
    pub(super) pairs: BTreeMap<(usize, u8), Pair<T>>,
}

/// How many zeros there may be for each number of the file, at most.
const PADDING: u64 = 64;

impl<T> Pairs<T> {
    /// The shape that holds all of them.
    pub(super) fn shape(&self) -> Shape {
        let rank = self.pairs.values().map(|p| p.rank).max().unwrap_or(0);
        // The scale that most linears of the highest rank have, so that most B are taken as they are.
        let mut alphas: Vec<(f32, usize)> = Vec::new();
        for pair in self.pairs.values().filter(|p| p.rank == rank) {
            match alphas.iter_mut().find(|(alpha, _)| *alpha == pair.alpha) {
                Some((_, count)) => *count += 1,
                None => alphas.push((pair.alpha, 1)),
            }
        }
        let alpha = alphas.iter().rev().max_by_key(|(_, count)| *count).map_or(0.0, |(alpha, _)| *alpha);
        let first = self.pairs.keys().next().map_or(0, |(layer, _)| *layer);
        let last = self.pairs.keys().next_back().map_or(0, |(layer, _)| *layer);
        let has = |m: &Module| self.pairs.keys().any(|(_, module)| *module == *m as u8);
        Shape {
            rank: rank as u32,
            alpha,
            use_rslora: self.use_rslora,
            modules: Module::ALL.into_iter().filter(has).fold(Modules::NONE, Modules::with),
            first_layer: first as u32,
            layers: (last - first + 1) as u32,
        }
    }

    /// The parameters. `read` fills a slice with a whole matrix of the file, `[rank, inputs]` or `[outputs, rank]`.
    pub(super) fn assemble(
        &self,
        path: &Path,
        spec: &Spec,
        mut read: impl FnMut(&T, &mut [f32]) -> Result<(), Error>,
    ) -> Result<(Shape, Vec<f32>), Error> {
        let shape = self.shape();
        let layout = Layout::new(spec, shape).map_err(|source| Error::Shape { source })?;
        self.check_size(path, spec, &layout)?;
        let mut params = zeros(layout.len())?;
        let mut scratch = Vec::new();
        for (&(layer, module), pair) in &self.pairs {
            let Some(module) = Module::ALL.get(usize::from(module)).copied() else { continue };
            for side in [Side::A, Side::B] {
                let Some((start, [rows, cols])) = layout.place(layer, module, side) else { continue };
                let out = params.get_mut(start..start + rows * cols).unwrap_or(&mut []);
                let source = if side == Side::A { &pair.a } else { &pair.b };
                let factor = if side == Side::A { 1.0 } else { pair.factor(&shape) };
                let order = self.row_order(spec, module, side);
                if pair.rank == layout.rank() && factor == 1.0 && order.is_none() {
                    read(source, out)?;
                } else {
                    let (own_rows, own_cols) = if side == Side::A { (pair.rank, cols) } else { (rows, pair.rank) };
                    scratch.clear();
                    scratch.resize(own_rows * own_cols, 0.0);
                    read(source, &mut scratch)?;
                    place_rows(&scratch, own_cols, out, cols, order, factor);
                }
                if out.iter().any(|x| !x.is_finite()) {
                    return Err(Error::NotFinite { path: path.to_path_buf(), layer, module: module.name() });
                }
            }
        }
        Ok((shape, params))
    }

    /// `(E/2, E)` where B's rows have to be brought into the GGUF file's order.
    fn row_order(&self, spec: &Spec, module: Module, side: Side) -> Option<HeadRows> {
        (self.hugging_face_rows && side == Side::B).then(|| HeadRows::of(spec, module)).flatten()
    }

    fn check_size(&self, path: &Path, spec: &Spec, layout: &Layout) -> Result<(), Error> {
        let numbers = self.pairs.iter().fold(0, |sum, (&(_, module), pair)| {
            let (inputs, outputs) = Module::ALL.get(usize::from(module)).map_or((0, 0), |m| spec.module_dims(*m));
            sum + (pair.rank * (inputs + outputs)) as u64
        });
        let needed = layout.len() as u64;
        if needed / PADDING > numbers {
            return Err(Error::Uneven { path: path.to_path_buf(), numbers, needed });
        }
        Ok(())
    }
}

impl<T> Pair<T> {
    /// What B is multiplied by so that the whole shape's scale fits this pair.
    fn factor(&self, shape: &Shape) -> f32 {
        let rank = shape.rank as usize;
        if self.rank == rank && self.alpha == shape.alpha {
            return 1.0;
        }
        let scale = |alpha: f32, rank: usize| {
            let rank = rank as f64;
            f64::from(alpha) / if shape.use_rslora { rank.sqrt() } else { rank }
        };
        (scale(self.alpha, self.rank) / scale(shape.alpha, rank)) as f32
    }
}

/// Zeros, or an error where an abort would be.
pub(super) fn zeros(len: usize) -> Result<Vec<f32>, Error> {
    let mut params = Vec::new();
    params.try_reserve_exact(len).map_err(|_| Error::Memory { bytes: (len as u64).saturating_mul(4) })?;
    params.resize(len, 0.0);
    Ok(params)
}

/// How the rows of q and k lie in files of the llama architecture: Hugging Face's `[heads, 2, E/2]` as `[heads, E/2, 2]`, so that the two that
/// rope turns stand side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadRows {
    head_dim: usize,
}

impl HeadRows {
    /// `None` where rows lie as they do there.
    pub(super) fn of(spec: &Spec, module: Module) -> Option<HeadRows> {
        let moved = spec.rope.style == RopeStyle::Adjacent && matches!(module, Module::Q | Module::K);
        (moved && spec.head_dim >= 2 && spec.head_dim.is_multiple_of(2)).then_some(HeadRows { head_dim: spec.head_dim })
    }

    /// Where Hugging Face's row `row` lies in the GGUF file.
    pub(super) const fn gguf_row(self, row: usize) -> usize {
        let (head, within, half) = (row / self.head_dim, row % self.head_dim, self.head_dim / 2);
        head * self.head_dim + within % half * 2 + within / half
    }
}

/// Copies rows of `own_cols` numbers to the beginnings of rows of `cols`, in another order, times `factor`.
fn place_rows(from: &[f32], own_cols: usize, out: &mut [f32], cols: usize, order: Option<HeadRows>, factor: f32) {
    for (row, values) in from.chunks_exact(own_cols).enumerate() {
        let row = order.map_or(row, |order| order.gguf_row(row));
        if let Some(out) = out.get_mut(row * cols..row * cols + own_cols) {
            for (out, x) in out.iter_mut().zip(values) {
                *out = x * factor;
            }
        }
    }
}

/// True for a linear whose A and B are all zero: one that a foreign file would leave out.
pub(super) fn is_absent(params: &[f32], layout: &Layout, layer: usize, module: Module) -> bool {
    [Side::A, Side::B].into_iter().all(|side| matrix(params, layout, layer, module, side).iter().all(|x| *x == 0.0))
}

/// A matrix's numbers; empty where there is none.
pub(super) fn matrix<'p>(params: &'p [f32], layout: &Layout, layer: usize, module: Module, side: Side) -> &'p [f32] {
    layout.place(layer, module, side).and_then(|(start, [rows, cols])| params.get(start..start + rows * cols)).unwrap_or(&[])
}
