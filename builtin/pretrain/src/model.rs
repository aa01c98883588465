//! A llama decoder on candle's autograd.

use attune_builtin::Rng;
use candle_core::{D, DType, Device, Tensor, Var};

use crate::Result;
use crate::fused::{CausalSoftmax, CrossEntropy, RmsNorm, Rope, SwiGlu};

/// Widths of the model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Vocabulary.
    pub vocabulary: usize,
    /// Model width.
    pub width: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Head width.
    pub head_width: usize,
    /// Feed-forward width.
    pub feed_forward: usize,
}

/// Epsilon of the normalisations.
pub const EPSILON: f32 = 1e-5;
/// Base of the rotary angles.
pub const ROPE_BASE: f32 = 10_000.0;

/// A linear map [out, in], with an adapter where there is one.
pub struct Linear {
    weight: Tensor,
    lora: Option<(Tensor, Tensor, f64)>,
}

impl Linear {
    /// x: [N, in] → [N, out].
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight.t()?)?;
        match &self.lora {
            None => Ok(y),
            Some((a, b, scale)) => Ok((y + (x.matmul(&a.t()?)?.matmul(&b.t()?)? * *scale)?)?),
        }
    }
}

struct Block {
    attention_norm: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    feed_forward_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// The decoder. Its head is its embedding, transposed.
pub struct Model {
    /// Its widths.
    pub shape: Shape,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
}

/// Weights by their names in GGUF.
pub type Weights = Vec<(String, Var)>;

impl Shape {
    /// Weights drawn from the seed, by their names in GGUF.
    ///
    /// # Errors
    /// Where candle fails.
    pub fn init(&self, seed: u64) -> Result<Weights> {
        let mut weights = Vec::new();
        let mut add = |name: String, dims: &[usize], deviation: f32| -> Result<()> {
            let mut rng = Rng::new(seed, weights.len() as u64);
            let count = dims.iter().product();
            let values: Vec<f32> =
                if deviation == 0.0 { vec![1.0; count] } else { (0..count).map(|_| normal(&mut rng) * deviation).collect() };
            weights.push((name, Var::from_vec(values, dims, &Device::Cpu)?));
            Ok(())
        };
        let (d, f, q, kv) = (self.width, self.feed_forward, self.heads * self.head_width, self.kv_heads * self.head_width);
        let inner = (d as f32).powf(-0.5);
        let outer = inner / (2.0 * self.layers as f32).sqrt();
        add("token_embd.weight".to_owned(), &[self.vocabulary, d], 0.05)?;
        for n in 0..self.layers {
            add(format!("blk.{n}.attn_norm.weight"), &[d], 0.0)?;
            add(format!("blk.{n}.attn_q.weight"), &[q, d], inner)?;
            add(format!("blk.{n}.attn_k.weight"), &[kv, d], inner)?;
            add(format!("blk.{n}.attn_v.weight"), &[kv, d], inner)?;
            add(format!("blk.{n}.attn_output.weight"), &[d, q], outer)?;
            add(format!("blk.{n}.ffn_norm.weight"), &[d], 0.0)?;
            add(format!("blk.{n}.ffn_gate.weight"), &[f, d], inner)?;
            add(format!("blk.{n}.ffn_up.weight"), &[f, d], inner)?;
            add(format!("blk.{n}.ffn_down.weight"), &[d, f], outer)?;
        }
        add("output_norm.weight".to_owned(), &[d], 0.0)?;
        Ok(weights)
    }
}

/// A draw from the standard normal distribution: the sum of twelve uniform draws, which every machine adds up alike.
pub fn normal(rng: &mut Rng) -> f32 {
    (0..12).map(|_| (rng.next_u64() >> 40) as f32 / (1u64 << 24) as f32).sum::<f32>() - 6.0
}

/// Gives each token that the text does not hold a place of its own. Training has pushed all of them to one place, from which they are
/// never predicted; they stay near it, but apart, so that an adapter can tell them from each other.
///
/// # Errors
/// Where candle fails.
pub fn part_unseen(weights: &Weights, unseen: &[u32], seed: u64) -> Result<()> {
    let Some((_, embedding)) = weights.iter().find(|(name, _)| name == "token_embd.weight") else { return Err("no embedding".into()) };
    let mut rows = embedding.to_vec2::<f32>()?;
    let count = (rows.len() * rows.first().map_or(0, Vec::len)).max(1);
    let size = (rows.iter().flatten().map(|x| x * x).sum::<f32>() / count as f32).sqrt();
    for id in unseen {
        let mut rng = Rng::new(seed, u64::MAX - u64::from(*id));
        if let Some(row) = rows.get_mut(*id as usize) {
            row.iter_mut().for_each(|x| *x += normal(&mut rng) * size * 0.7);
        }
    }
    Ok(embedding.set(&Tensor::new(rows, &Device::Cpu)?)?)
}

impl Model {
    /// The model of these weights.
    ///
    /// # Errors
    /// Where one is missing.
    pub fn new(shape: Shape, weights: &Weights) -> Result<Self> {
        let find = |name: &str| -> Result<Tensor> {
            let found = weights.iter().find(|(n, _)| n == name);
            Ok(found.ok_or_else(|| format!("no tensor {name}"))?.1.as_tensor().clone())
        };
        let blocks = (0..shape.layers).map(|n| {
            let linear = |part: &str| -> Result<Linear> { Ok(Linear { weight: find(&format!("blk.{n}.{part}.weight"))?, lora: None }) };
            Ok(Block {
                attention_norm: find(&format!("blk.{n}.attn_norm.weight"))?,
                q: linear("attn_q")?,
                k: linear("attn_k")?,
                v: linear("attn_v")?,
                o: linear("attn_output")?,
                feed_forward_norm: find(&format!("blk.{n}.ffn_norm.weight"))?,
                gate: linear("ffn_gate")?,
                up: linear("ffn_up")?,
                down: linear("ffn_down")?,
            })
        });
        Ok(Self { shape, embedding: find("token_embd.weight")?, blocks: blocks.collect::<Result<_>>()?, norm: find("output_norm.weight")? })
    }

    /// Freezes the weights and puts an adapter on every linear map: A drawn uniformly as PEFT does, B zero.
    ///
    /// # Errors
    /// Where candle fails.
    pub fn adapt(&mut self, rank: usize, alpha: f64, seed: u64) -> Result<Vec<Var>> {
        let mut vars = Vec::new();
        self.embedding = self.embedding.detach();
        self.norm = self.norm.detach();
        for block in &mut self.blocks {
            block.attention_norm = block.attention_norm.detach();
            block.feed_forward_norm = block.feed_forward_norm.detach();
            for linear in block.linears_mut() {
                let (out, input) = linear.weight.dims2()?;
                let mut rng = Rng::new(seed, vars.len() as u64);
                let bound = 1.0 / (input as f32).sqrt();
                let uniform = |_| ((rng.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * bound;
                let a = Var::from_vec((0..rank * input).map(uniform).collect::<Vec<f32>>(), (rank, input), &Device::Cpu)?;
                let b = Var::zeros((out, rank), DType::F32, &Device::Cpu)?;
                linear.weight = linear.weight.detach();
                linear.lora = Some((a.as_tensor().clone(), b.as_tensor().clone(), alpha / rank as f64));
                vars.extend([a, b]);
            }
        }
        Ok(vars)
    }

    /// The last hidden states, normalised. ids: [B, T] → [B·T, D].
    ///
    /// # Errors
    /// Where candle fails.
    pub fn hidden(&self, ids: &Tensor) -> Result<Tensor> {
        let (b, t) = ids.dims2()?;
        let mut x = self.embedding.index_select(&ids.flatten_all()?, 0)?;
        for block in &self.blocks {
            let attended = self.attend(block, &x.apply_op2(&block.attention_norm, RmsNorm(EPSILON))?, b, t)?;
            x = (x + attended)?;
            let h = x.apply_op2(&block.feed_forward_norm, RmsNorm(EPSILON))?;
            let gated = block.gate.forward(&h)?.apply_op2(&block.up.forward(&h)?, SwiGlu)?;
            x = (x + block.down.forward(&gated)?)?;
        }
        Ok(x.apply_op2(&self.norm, RmsNorm(EPSILON))?)
    }

    /// Logits of hidden states. [N, D] → [N, V].
    ///
    /// # Errors
    /// Where candle fails.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(hidden.matmul(&self.embedding.t()?)?)
    }

    /// Mean cross-entropy of the targets; the head runs at their positions only. ids: [B, T], a target or none for each.
    ///
    /// # Errors
    /// Where candle fails.
    pub fn loss(&self, ids: &Tensor, targets: &[Option<u32>]) -> Result<Tensor> {
        let mut hidden = self.hidden(ids)?;
        let mut wanted = targets.to_vec();
        if targets.iter().any(Option::is_none) {
            let rows: Vec<u32> = (0u32..).zip(targets).filter(|(_, target)| target.is_some()).map(|(row, _)| row).collect();
            hidden = hidden.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?;
            wanted.retain(Option::is_some);
        }
        Ok(self.logits(&hidden)?.apply_op1(CrossEntropy::new(wanted))?)
    }

    fn attend(&self, block: &Block, x: &Tensor, b: usize, t: usize) -> Result<Tensor> {
        let Shape { heads, kv_heads, head_width: e, .. } = self.shape;
        let groups = heads / kv_heads;
        let turn = |y: Tensor, heads: usize| -> Result<Tensor> {
            Ok(y.reshape((b, t, heads, e))?.apply_op1(Rope { base: ROPE_BASE, sign: 1.0 })?)
        };
        // Query heads that share a key head lie one after another: [B·K, G·T, E] against [B·K, T, E].
        let q = turn(block.q.forward(x)?, heads)?.transpose(1, 2)?.contiguous()?.reshape((b * kv_heads, groups * t, e))?;
        let k = turn(block.k.forward(x)?, kv_heads)?.transpose(1, 2)?.contiguous()?.reshape((b * kv_heads, t, e))?;
        let v = block.v.forward(x)?.reshape((b, t, kv_heads, e))?.transpose(1, 2)?.contiguous()?.reshape((b * kv_heads, t, e))?;
        let scores = q.matmul(&k.transpose(D::Minus1, D::Minus2)?)?;
        let weights = scores.apply_op1(CausalSoftmax((e as f32).powf(-0.5)))?;
        let mixed = weights.matmul(&v)?.reshape((b, heads, t, e))?.transpose(1, 2)?.contiguous()?.reshape((b * t, heads * e))?;
        block.o.forward(&mixed)
    }
}

impl Block {
    fn linears_mut(&mut self) -> [&mut Linear; 7] {
        [&mut self.q, &mut self.k, &mut self.v, &mut self.o, &mut self.gate, &mut self.up, &mut self.down]
    }
}
