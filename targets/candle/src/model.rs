//! The decoder: one forward pass for all architectures, of differentiable operations only.
//!
//! candle's fused `rms_norm`, `rope`, `softmax_last_dim` and quantised matmul leave the graph without a word,
//! so none of them is used here.

use std::io::{Read, Seek};
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{D, DType, Device, Result, Tensor, bail};

use crate::config::{Architecture, Config};
use crate::lora::{LoraVars, Module};
use crate::rope::Rope;
use crate::weights::Weights;

/// A model with dense weights.
#[derive(Debug)]
pub struct Oracle {
    config: Config,
    dtype: DType,
    embedding: Tensor,
    blocks: Vec<Block>,
    output_norm: Tensor,
    head: Tensor,
    rope_factors: Option<Vec<f64>>,
}

/// Token ids, and how several sequences lie packed in one.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// Token ids, `[T]`.
    pub ids: &'a [u32],
    /// Equal for tokens of one sequence, `[T]`; tokens attend only within their segment, which is contiguous.
    pub segments: Option<&'a [u32]>,
    /// Position of each token, `[T]`; without them positions count from 0 in every segment.
    pub positions: Option<&'a [u32]>,
}

#[derive(Debug)]
struct Block {
    attention_norm: Tensor,
    feed_forward_norm: Tensor,
    q_norm: Option<Tensor>,
    k_norm: Option<Tensor>,
    post_attention_norm: Option<Tensor>,
    post_feed_forward_norm: Option<Tensor>,
    /// In [`Module::ALL`]'s order.
    linears: [Linear; 7],
}

#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

/// What a layer of one kind (global or local) needs beside its weights.
struct Geometry {
    rope: Rope,
    /// 0 where a query sees a key, −∞ elsewhere: `[T, T]`.
    mask: Tensor,
}

impl<'a> Tokens<'a> {
    /// One sequence.
    pub fn new(ids: &'a [u32]) -> Self {
        Self { ids, segments: None, positions: None }
    }

    /// Several sequences, packed.
    pub fn packed(ids: &'a [u32], segments: &'a [u32]) -> Self {
        Self { ids, segments: Some(segments), positions: None }
    }

    /// True for the first token of every segment, `[T]`.
    pub(crate) fn starts(&self) -> Result<Vec<bool>> {
        let Some(segments) = self.segments else {
            return Ok((0..self.ids.len()).map(|t| t == 0).collect());
        };
        if segments.len() != self.ids.len() {
            bail!("segments: expected one a token, {}, found {}", self.ids.len(), segments.len());
        }
        let mut previous = None;
        Ok(segments.iter().map(|s| previous.replace(s) != Some(s)).collect())
    }

    fn positions(&self) -> Result<Vec<u32>> {
        if let Some(positions) = self.positions {
            if positions.len() != self.ids.len() {
                bail!("positions: expected one a token, {}, found {}", self.ids.len(), positions.len());
            }
            return Ok(positions.to_vec());
        }
        let mut next = 0;
        let count = |start| {
            next = if start { 1 } else { next + 1 };
            next - 1
        };
        Ok(self.starts()?.into_iter().map(count).collect())
    }

    fn segment(&self, t: usize) -> Option<u32> {
        self.segments.and_then(|s| s.get(t)).copied()
    }
}

impl Oracle {
    /// Reads a GGUF file into dense tensors of `dtype`, F32 or F64.
    pub fn load(path: impl AsRef<Path>, dtype: DType) -> Result<Self> {
        Self::read(&mut std::io::BufReader::new(std::fs::File::open(path)?), dtype)
    }

    /// As [`Oracle::load`], from any reader.
    pub fn read<R: Read + Seek>(reader: &mut R, dtype: DType) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::F64) {
            bail!("the oracle computes in F32 or F64, not {dtype:?}");
        }
        let content = Content::read(reader)?;
        let config = Config::from_gguf(&content)?;
        let weights = Weights::read(&content, reader, dtype)?;
        let vocabulary = weights.rows("token_embd.weight")?;
        let embedding = weights.required("token_embd.weight", &[vocabulary, config.width])?;
        let head = weights.optional("output.weight", &[vocabulary, config.width])?.unwrap_or_else(|| embedding.clone());
        let rope_factors = match weights.optional("rope_freqs.weight", &[config.rope_width / 2])? {
            Some(t) => Some(t.to_dtype(DType::F64)?.to_vec1()?),
            None => None,
        };
        let blocks = (0..config.layers).map(|layer| Block::new(&config, &weights, layer)).collect::<Result<_>>()?;
        let output_norm = weights.required("output_norm.weight", &[config.width])?;
        Ok(Self { config, dtype, embedding, blocks, output_norm, head, rope_factors })
    }

    /// The model's widths and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// F32 or F64.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// V, the rows of the embedding.
    pub fn vocabulary(&self) -> usize {
        self.embedding.dims().first().copied().unwrap_or(0)
    }

    /// `(out, in)` of a linear.
    pub fn linear_shape(&self, module: Module) -> (usize, usize) {
        linear_shape(&self.config, module)
    }

    /// Logits of every token: `[T, V]`, on the graph where `lora` is given.
    pub fn forward(&self, tokens: &Tokens<'_>, lora: Option<&LoraVars>) -> Result<Tensor> {
        let hidden = self.hidden(tokens, lora)?;
        let last = hidden.last().unwrap_or(&self.embedding);
        last.matmul(&self.head.t()?)
    }

    /// The residual stream, each `[T, D]`: the (scaled) embeddings, every layer's output, and the last one's
    /// output after the final norm in its place: `layers + 1` tensors, as Hugging Face counts hidden states.
    pub fn hidden(&self, tokens: &Tokens<'_>, lora: Option<&LoraVars>) -> Result<Vec<Tensor>> {
        let vocabulary = self.vocabulary();
        if tokens.ids.is_empty() {
            bail!("no tokens");
        }
        if let Some(id) = tokens.ids.iter().find(|id| **id as usize >= vocabulary) {
            bail!("token id {id}: expected 0 to {}", vocabulary - 1);
        }
        let global = self.geometry(tokens, false)?;
        let local = if self.config.window.is_some() { Some(self.geometry(tokens, true)?) } else { None };
        let ids = Tensor::from_slice(tokens.ids, tokens.ids.len(), &Device::Cpu)?;
        let mut x = (self.embedding.index_select(&ids, 0)? * self.config.embedding_scale())?;
        let mut hidden = vec![x.clone()];
        for (layer, block) in self.blocks.iter().enumerate() {
            let geometry = match &local {
                Some(local) if self.config.is_local(layer) => local,
                _ => &global,
            };
            x = block.forward(&self.config, layer, geometry, lora, &x)?;
            hidden.push(x.clone());
        }
        hidden.pop();
        hidden.push(rms_norm(&x, &self.output_norm, self.config.rms_epsilon)?);
        Ok(hidden)
    }

    fn geometry(&self, tokens: &Tokens<'_>, local: bool) -> Result<Geometry> {
        let config = &self.config;
        let positions = tokens.positions()?;
        let (base, scale) = if local { (config.rope_base_local, 1.0) } else { (config.rope_base, config.rope_scale) };
        let rope = Rope::new(&positions, config.rope_width, base, scale, self.rope_factors.as_deref(), config.rope_pairs(), self.dtype)?;
        let count = positions.len();
        let window = if local { config.window.unwrap_or(usize::MAX) } else { usize::MAX };
        let mut mask = Vec::with_capacity(count * count);
        for (q, &at) in positions.iter().enumerate() {
            for (k, &seen) in positions.iter().enumerate() {
                let visible = k <= q && tokens.segment(k) == tokens.segment(q) && (at.saturating_sub(seen) as usize) < window;
                mask.push(if visible { 0.0 } else { f64::NEG_INFINITY });
            }
        }
        let mask = Tensor::from_vec(mask, (count, count), &Device::Cpu)?.to_dtype(self.dtype)?;
        Ok(Geometry { rope, mask })
    }
}

impl Block {
    fn new(config: &Config, weights: &Weights, layer: usize) -> Result<Self> {
        let (d, e) = (config.width, config.head_width);
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let has_head_norms = matches!(config.architecture, Architecture::Qwen3 | Architecture::Gemma3);
        let has_post_norms = config.architecture == Architecture::Gemma3;
        let required_if =
            |wanted: bool, part: &str, n: usize| if wanted { weights.required(&name(part), &[n]).map(Some) } else { Ok(None) };
        let linear = |module: Module| {
            let (rows, columns) = linear_shape(config, module);
            let weight = weights.required(&name(module.gguf_name()), &[rows, columns])?;
            let bias = weights.optional(&format!("blk.{layer}.{}.bias", module.gguf_name()), &[rows])?;
            Ok::<_, candle_core::Error>(Linear { weight, bias })
        };
        let [q, k, v, o, gate, up, down] = Module::ALL.map(linear);
        Ok(Self {
            attention_norm: weights.required(&name("attn_norm"), &[d])?,
            feed_forward_norm: weights.required(&name("ffn_norm"), &[d])?,
            q_norm: required_if(has_head_norms, "attn_q_norm", e)?,
            k_norm: required_if(has_head_norms, "attn_k_norm", e)?,
            post_attention_norm: required_if(has_post_norms, "post_attention_norm", d)?,
            post_feed_forward_norm: required_if(has_post_norms, "post_ffw_norm", d)?,
            linears: [q?, k?, v?, o?, gate?, up?, down?],
        })
    }

    /// x: `[T, D]`
    fn forward(&self, config: &Config, layer: usize, geometry: &Geometry, lora: Option<&LoraVars>, x: &Tensor) -> Result<Tensor> {
        let [q, k, v, o, gate, up, down] = &self.linears;
        let apply = |linear: &Linear, module: Module, x: &Tensor| linear.forward(x, lora, layer, module);
        let epsilon = config.rms_epsilon;

        let h = rms_norm(x, &self.attention_norm, epsilon)?;
        let heads = Heads {
            q: split_heads(&apply(q, Module::Q, &h)?, config.heads, self.q_norm.as_ref(), epsilon)?,
            k: split_heads(&apply(k, Module::K, &h)?, config.kv_heads, self.k_norm.as_ref(), epsilon)?,
            v: split_heads(&apply(v, Module::V, &h)?, config.kv_heads, None, epsilon)?,
        };
        let mut attended = apply(o, Module::O, &heads.attend(geometry)?)?;
        if let Some(norm) = &self.post_attention_norm {
            attended = rms_norm(&attended, norm, epsilon)?;
        }
        let x = (x + attended)?;

        let h = rms_norm(&x, &self.feed_forward_norm, epsilon)?;
        let g = apply(gate, Module::Gate, &h)?;
        let g = if config.gate_is_gelu() { gelu_tanh(&g)? } else { g.silu()? };
        let mut fed = apply(down, Module::Down, &(g * apply(up, Module::Up, &h)?)?)?;
        if let Some(norm) = &self.post_feed_forward_norm {
            fed = rms_norm(&fed, norm, epsilon)?;
        }
        x + fed
    }
}

impl Linear {
    /// x: `[T, in]` to `[T, out]`.
    fn forward(&self, x: &Tensor, lora: Option<&LoraVars>, layer: usize, module: Module) -> Result<Tensor> {
        let mut y = x.matmul(&self.weight.t()?)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        match lora.map(|l| l.apply(layer, module, x)).transpose()?.flatten() {
            Some(update) => y + update,
            None => Ok(y),
        }
    }
}

/// q: `[T, H, E]`; k, v: `[T, K, E]`.
struct Heads {
    q: Tensor,
    k: Tensor,
    v: Tensor,
}

impl Heads {
    /// Softmax attention; query head h reads key head h / (H/K). Returns `[T, H·E]`.
    fn attend(&self, geometry: &Geometry) -> Result<Tensor> {
        let (tokens, heads, width) = self.q.dims3()?;
        let group = heads / self.k.dim(1)?;
        let q = geometry.rope.apply(&self.q)?.transpose(0, 1)?.contiguous()?;
        let k = repeat_heads(&geometry.rope.apply(&self.k)?, group)?;
        let v = repeat_heads(&self.v, group)?;
        let scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * (width as f64).powf(-0.5))?;
        let scores = scores.broadcast_add(&geometry.mask)?;
        let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        weights.matmul(&v)?.transpose(0, 1)?.contiguous()?.reshape((tokens, heads * width))
    }
}

/// `[T, K, E]` to `[K·group, T, E]`, each head `group` times in a row.
fn repeat_heads(x: &Tensor, group: usize) -> Result<Tensor> {
    let (tokens, heads, width) = x.dims3()?;
    let x = x.transpose(0, 1)?.contiguous()?.unsqueeze(1)?;
    x.broadcast_as((heads, group, tokens, width))?.contiguous()?.reshape((heads * group, tokens, width))
}

/// `[T, heads·E]` to `[T, heads, E]`, each head normalised where a norm is given.
fn split_heads(x: &Tensor, heads: usize, norm: Option<&Tensor>, epsilon: f64) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let x = x.reshape((tokens, heads, width / heads))?;
    match norm {
        Some(weight) => rms_norm(&x, weight, epsilon),
        None => Ok(x),
    }
}

/// `x / sqrt(mean(x²) + ε) · weight` over the last dimension (Zhang & Sennrich 2019).
fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    let root = (x.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    x.broadcast_div(&root)?.broadcast_mul(weight)
}

/// `x/2 · (1 + tanh(sqrt(2/π) (x + 0.044715 x³)))` (Hendrycks & Gimpel 2016).
fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    let cubic = ((x * x)? * x)?;
    let inner = ((x + (cubic * 0.044715)?)? * (2.0 / core::f64::consts::PI).sqrt())?;
    (x * 0.5)? * (inner.tanh()? + 1.0)?
}

/// `(out, in)` of a linear.
fn linear_shape(config: &Config, module: Module) -> (usize, usize) {
    let (d, f, e) = (config.width, config.feed_forward, config.head_width);
    match module {
        Module::Q => (config.heads * e, d),
        Module::K | Module::V => (config.kv_heads * e, d),
        Module::O => (d, config.heads * e),
        Module::Gate | Module::Up => (f, d),
        Module::Down => (d, f),
    }
}
