//! LoRA (Hu et al. 2021, arXiv:2106.09685): `y = Wx + scale · B(Ax)` with W frozen, `A: [R, in]`, `B: [out, R]`.
//!
//! An adapter's parameters are one run of f32: first every A, then every B, each in the order of layers and, within a layer, of
//! [`Module::ALL`]. Gradients and optimiser state have the same layout.

use crate::arena::{Buf, Region};
use crate::spec::Spec;
use crate::weights::Weight;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A linear that an adapter can sit on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Module {
    /// `q_proj`
    Q,
    /// `k_proj`
    K,
    /// `v_proj`
    V,
    /// `o_proj`
    O,
    /// `gate_proj`
    Gate,
    /// `up_proj`
    Up,
    /// `down_proj`
    Down,
}

impl Module {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// In the order in which parameters lie.
    pub const ALL: [Module; Module::COUNT] = [Module::Q, Module::K, Module::V, Module::O, Module::Gate, Module::Up, Module::Down];

    /// PEFT's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"][self as usize]
    }

    /// The path in a Hugging Face model, below its layer.
    #[must_use]
    pub const fn hf_path(self) -> &'static str {
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
            [self as usize]
    }

    /// GGUF's name, below its layer.
    #[must_use]
    pub const fn gguf_name(self) -> &'static str {
        ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"][self as usize]
    }

    /// The module of that PEFT name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Module> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// A set of modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Modules(u8);

impl Modules {
    /// Every linear: what QLoRA (Dettmers et al. 2023) recommends, and the default.
    pub const ALL: Modules = Modules(0x7f);
    /// None.
    pub const NONE: Modules = Modules(0);

    /// With `module` in it.
    #[must_use]
    pub const fn with(self, module: Module) -> Modules {
        Modules(self.0 | 1 << module as u8)
    }

    /// Whether `module` is in it.
    #[must_use]
    pub const fn contains(self, module: Module) -> bool {
        self.0 & (1 << module as u8) != 0
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 & 0x7f == 0
    }

    /// Its members in order.
    pub fn iter(self) -> impl Iterator<Item = Module> {
        Module::ALL.into_iter().filter(move |m| self.contains(*m))
    }
}

/// What an adapter is, without its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// R.
    pub rank: u32,
    /// α; the scale is `alpha / rank`, or `alpha / sqrt(rank)` with rsLoRA.
    pub alpha: f32,
    /// Rank-stabilised scaling (Kalajdzievski 2023, arXiv:2312.03732).
    pub use_rslora: bool,
    /// Which linears.
    pub modules: Modules,
    /// The lowest adapted layer.
    pub first_layer: u32,
    /// How many layers from there on.
    pub layers: u32,
}

impl Shape {
    /// The factor on `B(Ax)`.
    #[must_use]
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.use_rslora { libm::sqrtf(rank) } else { rank }
    }

    /// Checks the shape against a model.
    ///
    /// # Errors
    /// [`Error::BadOption`] for a rank of 0 or above 1024, no modules, or layers that the model does not have.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        let bad = |option, expected| Err(Error::BadOption { option, expected });
        if self.rank == 0 || self.rank > 1024 {
            return bad("rank", "1 to 1024");
        }
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return bad("alpha", "a finite number above 0");
        }
        if self.modules.is_empty() {
            return bad("target_modules", "at least one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj");
        }
        let end = u64::from(self.first_layer) + u64::from(self.layers);
        if self.layers == 0 || end > spec.layers as u64 {
            return bad("layers", "1 to as many as the model has");
        }
        Ok(())
    }
}

/// Which of the two matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `[R, in]`
    A,
    /// `[out, R]`
    B,
}

/// Where each matrix lies within an adapter's run of f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout {
    /// What it describes.
    pub shape: Shape,
    dims: [(u32, u32); 7],
    /// Numbers of all A of one layer, and of all B of one layer.
    per_layer: [usize; 2],
}

impl Layout {
    /// The layout of `shape` on a model.
    ///
    /// # Errors
    /// As [`Shape::check`].
    pub fn new(spec: &Spec, shape: Shape) -> Result<Layout> {
        shape.check(spec)?;
        let dims = Module::ALL.map(|m| {
            let (inputs, outputs) = spec.module_dims(m);
            (inputs as u32, outputs as u32)
        });
        let rank = shape.rank as usize;
        let mut per_layer = [0; 2];
        for module in shape.modules.iter() {
            let (inputs, outputs) = dims[module as usize];
            per_layer[0] += rank * inputs as usize;
            per_layer[1] += rank * outputs as usize;
        }
        Ok(Layout { shape, dims, per_layer })
    }

    /// How many numbers all A have, and so where the first B begins.
    #[must_use]
    pub const fn a_len(&self) -> usize {
        self.per_layer[0] * self.shape.layers as usize
    }

    /// How many numbers there are in all.
    #[must_use]
    pub const fn len(&self) -> usize {
        (self.per_layer[0] + self.per_layer[1]) * self.shape.layers as usize
    }

    /// Never true: a shape has at least one matrix.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// R.
    #[must_use]
    pub const fn rank(&self) -> usize {
        self.shape.rank as usize
    }

    /// First number and `[rows, cols]` of a matrix; `None` where this layer or module has no adapter.
    #[must_use]
    pub fn place(&self, layer: usize, module: Module, side: Side) -> Option<(usize, [usize; 2])> {
        let local = layer.checked_sub(self.shape.first_layer as usize)?;
        if local >= self.shape.layers as usize || !self.shape.modules.contains(module) {
            return None;
        }
        let rank = self.rank();
        let width = |m: Module| {
            let (inputs, outputs) = self.dims[m as usize];
            if side == Side::A { inputs as usize } else { outputs as usize }
        };
        let before: usize = self.shape.modules.iter().take_while(|m| *m != module).map(|m| rank * width(m)).sum();
        Some(match side {
            Side::A => (local * self.per_layer[0] + before, [rank, width(module)]),
            Side::B => (self.a_len() + local * self.per_layer[1] + before, [width(module), rank]),
        })
    }

    /// Calls `f` with every matrix, in the order in which they lie.
    pub fn each(&self, mut f: impl FnMut(usize, Module, Side, usize, [usize; 2])) {
        for side in [Side::A, Side::B] {
            for layer in 0..self.shape.layers as usize {
                let layer = self.shape.first_layer as usize + layer;
                for module in self.shape.modules.iter() {
                    if let Some((start, dims)) = self.place(layer, module, side) {
                        f(layer, module, side, start, dims);
                    }
                }
            }
        }
    }

    /// A matrix within a buffer that has this layout.
    #[must_use]
    pub fn matrix(&self, base: Buf, layer: usize, module: Module, side: Side) -> Option<Weight> {
        let (start, [rows, cols]) = self.place(layer, module, side)?;
        Some(Weight::f32(base.part(start * 4, rows * cols * 4), rows, cols))
    }

    /// Fills a fresh adapter as PEFT does: A uniform in `±1/sqrt(in)` (Kaiming with a = √5), B zero.
    ///
    /// # Errors
    /// [`Error::BadShape`] unless `params` has [`len`](Self::len) numbers.
    pub fn init(&self, params: &mut [f32], seed: u64) -> Result<()> {
        if params.len() != self.len() {
            return Err(Error::BadShape { op: "adapter initialisation" });
        }
        let stream = u64::from_le_bytes(*b"lora-ini");
        self.each(|_, _, side, start, [rows, cols]| {
            let bound = if side == Side::A { 1.0 / libm::sqrtf(cols as f32) } else { 0.0 };
            for (i, p) in params[start..start + rows * cols].iter_mut().enumerate() {
                *p = (2.0 * crate::rng::uniform(seed, stream, (start + i) as u64) - 1.0) * bound;
            }
        });
        Ok(())
    }
}

/// An adapter in use: its parameters in its own region, and the slot that holds its scale.
#[derive(Debug, Clone, Copy)]
pub struct Active {
    /// Where each matrix lies.
    pub layout: Layout,
    /// The run of parameters.
    pub params: Buf,
    /// Holds the factor on `B(Ax)`; 0 switches it off.
    pub scale: crate::target::Slot,
    /// The region that holds it.
    pub region: Region,
}
