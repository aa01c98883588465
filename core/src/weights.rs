//! Where each tensor of a model lies: handles into the weights region, checked against the [`Spec`].

use crate::arena::{Buf, Region};
use crate::gguf::{Gguf, Tensor};
use crate::quant::Type;
use crate::spec::Spec;
use crate::{Error, Result};
use core::fmt;

/// A tensor by what it is for, and its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorId {
    /// Name in GGUF without layer prefix and suffix.
    pub name: &'static str,
    /// `.weight` or `.bias`.
    pub suffix: &'static str,
    /// Layer, where it has one.
    pub layer: Option<u16>,
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "blk.{layer}.{}{}", self.name, self.suffix),
            None => write!(f, "{}{}", self.name, self.suffix),
        }
    }
}

/// A frozen or an adapter's matrix `[rows, cols]`, `rows` outputs of `cols` inputs, as it lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Its bytes.
    pub buf: Buf,
    /// Its block format.
    pub ty: Type,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

impl Weight {
    /// A matrix of f32 in `buf`.
    #[must_use]
    pub const fn f32(buf: Buf, rows: usize, cols: usize) -> Weight {
        Weight { buf: buf.f32s(rows * cols), ty: Type::F32, rows, cols }
    }

    /// Rows `first..first + count`, or as many of them as there are.
    #[must_use]
    pub fn slice(self, first: usize, count: usize) -> Weight {
        let row = self.buf.len.checked_div(self.rows).unwrap_or(0);
        let first = first.min(self.rows);
        let rows = count.min(self.rows - first);
        Weight { buf: self.buf.part(first * row, rows * row), rows, ..self }
    }
}

/// The tensors of one decoder block. Norms and biases are f32.
#[derive(Debug, Clone, Copy)]
pub struct LayerWeights {
    /// Before attention, `[D]`.
    pub attn_norm: Buf,
    /// The seven linears, in the order of [`Module`](crate::lora::Module): q, k, v, o, gate, up, down.
    pub linears: [Weight; 7],
    /// Biases of q, k, v.
    pub biases: [Option<Buf>; 3],
    /// Per-head norms of q and k, `[E]`.
    pub qk_norms: Option<[Buf; 2]>,
    /// After attention (gemma3), `[D]`.
    pub post_attn_norm: Option<Buf>,
    /// Before the feed-forward part, `[D]`.
    pub ffn_norm: Buf,
    /// After the feed-forward part (gemma3), `[D]`.
    pub post_ffn_norm: Option<Buf>,
}

impl LayerWeights {
    /// Fills a caller's table before it is loaded.
    pub const EMPTY: LayerWeights = LayerWeights {
        attn_norm: Buf::EMPTY,
        linears: [Weight { buf: Buf::EMPTY, ty: Type::F32, rows: 0, cols: 0 }; 7],
        biases: [None; 3],
        qk_norms: None,
        post_attn_norm: None,
        ffn_norm: Buf::EMPTY,
        post_ffn_norm: None,
    };
}

/// The tensors outside the blocks.
#[derive(Debug, Clone, Copy)]
pub struct Globals {
    /// Token embeddings `[V, D]`.
    pub embed: Weight,
    /// The head `[V, D]`: `output.weight`, or the embeddings where they are tied.
    pub head: Weight,
    /// Before the head, `[D]`.
    pub out_norm: Buf,
    /// Divisors of the rope frequencies (llama-3 scaling), `[E/2]`.
    pub rope_freqs: Option<Buf>,
}

/// A whole model: what it is and where its tensors lie. Borrows the caller's table of layers.
#[derive(Debug, Clone, Copy)]
pub struct Model<'t> {
    /// What it is.
    pub spec: Spec,
    /// Tensors outside the blocks.
    pub globals: Globals,
    /// Tensors of the blocks, in order.
    pub layers: &'t [LayerWeights],
}

impl<'t> Model<'t> {
    /// Finds and checks every tensor. `table` needs one entry a layer ([`Spec::from_gguf`] says how many).
    ///
    /// # Errors
    /// Whatever is missing, of another shape or type than the metadata say, or not supported.
    pub fn load(gguf: &Gguf<'_>, table: &'t mut [LayerWeights]) -> Result<Model<'t>> {
        let spec = Spec::from_gguf(gguf)?;
        if table.len() < spec.layers {
            return Err(Error::TooManyLayers { found: spec.layers, limit: table.len() });
        }
        let find = Finder { gguf };
        let (v, d) = (spec.vocab, spec.width);
        let embed = find.matrix(id("token_embd", ".weight", None), v, d)?;
        let head = find.optional_matrix(id("output", ".weight", None), v, d)?.unwrap_or(embed);
        let globals = Globals {
            embed,
            head,
            out_norm: find.vector(id("output_norm", ".weight", None), d)?,
            rope_freqs: find.optional_vector(id("rope_freqs", ".weight", None), spec.rope.dims / 2)?,
        };
        let (table, _) = table.split_at_mut(spec.layers);
        for (i, layer) in table.iter_mut().enumerate() {
            *layer = find.layer(&spec, i as u16)?;
        }
        Ok(Model { spec, globals, layers: table })
    }
}

const fn id(name: &'static str, suffix: &'static str, layer: Option<u16>) -> TensorId {
    TensorId { name, suffix, layer }
}

struct Finder<'g, 'a> {
    gguf: &'g Gguf<'a>,
}

impl<'a> Finder<'_, 'a> {
    fn layer(&self, spec: &Spec, i: u16) -> Result<LayerWeights> {
        const NAMES: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
        let (d, row) = (spec.width, spec.arch.row());
        let at = |name| id(name, ".weight", Some(i));
        let mut linears = LayerWeights::EMPTY.linears;
        for (slot, module) in linears.iter_mut().zip(crate::lora::Module::ALL) {
            let (inputs, outputs) = spec.module_dims(module);
            *slot = self.matrix(at(NAMES[module as usize]), outputs, inputs)?;
        }
        let mut biases = [None; 3];
        for (slot, (name, n)) in
            biases.iter_mut().zip([("attn_q", spec.q_width()), ("attn_k", spec.kv_width()), ("attn_v", spec.kv_width())])
        {
            let bias = id(name, ".bias", Some(i));
            *slot = self.optional_vector(bias, n)?;
            if row.qkv_bias && slot.is_none() {
                return Err(Error::MissingTensor { tensor: bias });
            }
        }
        for name in ["attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
            if self.find(id(name, ".bias", Some(i))).is_some() {
                return Err(Error::Unsupported { what: "biases outside q, k and v" });
            }
        }
        let qk_norms = if row.qk_norm {
            Some([self.vector(at("attn_q_norm"), spec.head_dim)?, self.vector(at("attn_k_norm"), spec.head_dim)?])
        } else {
            None
        };
        let post = |name| if row.post_norms { self.vector(at(name), d).map(Some) } else { Ok(None) };
        Ok(LayerWeights {
            attn_norm: self.vector(at("attn_norm"), d)?,
            linears,
            biases,
            qk_norms,
            post_attn_norm: post("post_attention_norm")?,
            ffn_norm: self.vector(at("ffn_norm"), d)?,
            post_ffn_norm: post("post_ffw_norm")?,
        })
    }

    fn find(&self, id: TensorId) -> Option<Tensor<'a>> {
        let mut name = heapless::String::<64>::new();
        fmt::Write::write_fmt(&mut name, format_args!("{id}")).ok()?;
        self.gguf.tensor(&name)
    }

    fn matrix(&self, id: TensorId, rows: usize, cols: usize) -> Result<Weight> {
        self.optional_matrix(id, rows, cols)?.ok_or(Error::MissingTensor { tensor: id })
    }

    fn optional_matrix(&self, id: TensorId, rows: usize, cols: usize) -> Result<Option<Weight>> {
        let Some(tensor) = self.find(id) else { return Ok(None) };
        let found = [tensor.dims[1], tensor.dims[0]];
        if found != [rows as u64, cols as u64] || tensor.dims[2] != 1 || tensor.dims[3] != 1 {
            return Err(Error::TensorShape { tensor: id, expected: [rows, cols], found });
        }
        let ty = tensor.ty.supported().ok_or(Error::TensorType { tensor: id, found: tensor.ty.ggml() })?;
        Ok(Some(Weight { buf: place(&tensor), ty, rows, cols }))
    }

    fn vector(&self, id: TensorId, len: usize) -> Result<Buf> {
        self.optional_vector(id, len)?.ok_or(Error::MissingTensor { tensor: id })
    }

    fn optional_vector(&self, id: TensorId, len: usize) -> Result<Option<Buf>> {
        let Some(weight) = self.optional_matrix(id, 1, len)? else { return Ok(None) };
        if weight.ty != Type::F32 {
            return Err(Error::TensorType { tensor: id, found: weight.ty.ggml() });
        }
        Ok(Some(weight.buf))
    }
}

fn place(tensor: &Tensor<'_>) -> Buf {
    Buf { region: Region::WEIGHTS, offset: tensor.offset as usize, len: tensor.data.len() }
}
