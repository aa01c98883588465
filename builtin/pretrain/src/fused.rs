//! Operations with a backward pass of their own: normalisation, rotary embedding, causal softmax, gated SiLU, cross-entropy.
//!
//! candle's fused versions of these detach from autograd, and its slow ones make a dozen temporaries each.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// The values of a contiguous f32 tensor.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(all) = storage else { bail!("expected f32") };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("expected a contiguous tensor"),
    }
}

fn made(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// `y = x / sqrt(mean(x²) + eps) · w` over the last dimension. x: [N, D], w: [D].
pub struct RmsNorm(pub f32);

struct RmsNormBackward(f32);

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (values(s1, l1)?, values(s2, l2)?);
        let mut y = Vec::with_capacity(x.len());
        for row in x.chunks_exact(w.len()) {
            let scale = inverse_rms(row, self.0);
            y.extend(row.iter().zip(w).map(|(x, w)| x * scale * w));
        }
        made(y, l1.shape())
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = x.apply_op3_no_bwd(w, &dy.contiguous()?, &RmsNormBackward(self.0))?;
        // dw = Σ dy · x / rms: y / w is not kept, so x is normalised again.
        let unit = x.apply_op2_no_bwd(&w.ones_like()?, &RmsNorm(self.0))?;
        Ok((Some(dx), Some((unit * dy)?.sum(0)?)))
    }
}

impl candle_core::CustomOp3 for RmsNormBackward {
    fn name(&self) -> &'static str {
        "rms-norm-backward"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w, dy) = (values(s1, l1)?, values(s2, l2)?, values(s3, l3)?);
        let d = w.len();
        let mut dx = Vec::with_capacity(x.len());
        for (x, dy) in x.chunks_exact(d).zip(dy.chunks_exact(d)) {
            let scale = inverse_rms(x, self.0);
            let dot: f32 = x.iter().zip(w).zip(dy).map(|((x, w), dy)| x * w * dy).sum();
            let pull = dot * scale * scale * scale / d as f32;
            dx.extend(x.iter().zip(w).zip(dy).map(|((x, w), dy)| dy * w * scale - x * pull));
        }
        made(dx, l1.shape())
    }
}

fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    1.0 / (row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32 + eps).sqrt()
}

/// Rotary embedding of neighbouring pairs, as GGUF's llama has it. x: [B, T, heads, E].
pub struct Rope {
    /// Base of the angles.
    pub base: f32,
    /// 1, or −1 to turn back.
    pub sign: f32,
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, t, heads, e) = layout.shape().dims4()?;
        let x = values(storage, layout)?;
        let angle = |position: usize, pair: usize| position as f32 * self.base.powf(-2.0 * pair as f32 / e as f32) * self.sign;
        let table: Vec<(f32, f32)> = (0..t).flat_map(|p| (0..e / 2).map(move |i| (p, i))).map(|(p, i)| angle(p, i).sin_cos()).collect();
        let mut y = Vec::with_capacity(x.len());
        for (row, x) in x.chunks_exact(heads * e).enumerate() {
            let turns = &table[row % t * (e / 2)..][..e / 2];
            for head in x.chunks_exact(e) {
                for (pair, (sin, cos)) in head.chunks_exact(2).zip(turns) {
                    y.extend([pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos]);
                }
            }
        }
        made(y, layout.shape())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(dy.contiguous()?.apply_op1_no_bwd(&Self { base: self.base, sign: -self.sign })?))
    }
}

/// Softmax of scaled scores over the positions that a row may see. scores: [N, G·T, T]; row r stands at position r mod T.
pub struct CausalSoftmax(pub f32);

struct CausalSoftmaxBackward(f32);

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, _, t) = layout.shape().dims3()?;
        let mut y = values(storage, layout)?.to_vec();
        for (r, row) in y.chunks_exact_mut(t).enumerate() {
            let (seen, hidden) = row.split_at_mut(r % t + 1);
            let top = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for x in seen.iter_mut() {
                *x = exp((*x - top) * self.0);
                sum += *x;
            }
            seen.iter_mut().for_each(|x| *x /= sum);
            hidden.fill(0.0);
        }
        made(y, layout.shape())
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(y.apply_op2_no_bwd(&dy.contiguous()?, &CausalSoftmaxBackward(self.0))?))
    }
}

impl CustomOp2 for CausalSoftmaxBackward {
    fn name(&self) -> &'static str {
        "causal-softmax-backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, _, t) = l1.shape().dims3()?;
        let (y, dy) = (values(s1, l1)?, values(s2, l2)?);
        let mut dx = Vec::with_capacity(y.len());
        for (y, dy) in y.chunks_exact(t).zip(dy.chunks_exact(t)) {
            let dot: f32 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
            dx.extend(y.iter().zip(dy).map(|(y, dy)| y * (dy - dot) * self.0));
        }
        made(dx, l1.shape())
    }
}

/// `silu(gate) · up`.
pub struct SwiGlu;

/// `e^x` by a polynomial (Cephes' `expf`), without a call, so that loops over it run in vectors; the same bits on every machine.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = (((((1.987_569_1e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 0.166_666_65) * r + 0.5) * r * r
        + r
        + 1.0;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// Which of the two gradients.
enum SwiGluBackward {
    Gate,
    Up,
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (values(s1, l1)?, values(s2, l2)?);
        made(gate.iter().zip(up).map(|(g, u)| g / (1.0 + exp(-*g)) * u).collect(), l1.shape())
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let dgate = gate.apply_op3_no_bwd(up, &dy, &SwiGluBackward::Gate)?;
        let dup = gate.apply_op3_no_bwd(up, &dy, &SwiGluBackward::Up)?;
        Ok((Some(dgate), Some(dup)))
    }
}

impl candle_core::CustomOp3 for SwiGluBackward {
    fn name(&self) -> &'static str {
        "swiglu-backward"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up, dy) = (values(s1, l1)?, values(s2, l2)?, values(s3, l3)?);
        let parts = gate.iter().zip(up).zip(dy).map(|((g, u), dy)| (*g, *u, *dy, 1.0 / (1.0 + exp(-*g))));
        let out = match self {
            Self::Gate => parts.map(|(g, u, dy, s)| dy * u * s * (1.0 + g * (1.0 - s))).collect(),
            Self::Up => parts.map(|(g, _, dy, s)| dy * g * s).collect(),
        };
        made(out, l1.shape())
    }
}

/// Mean cross-entropy at the rows that have a target. logits: [N, V]; `None` masks a row.
///
/// The gradient is as big as the logits and takes the same exponentials as the loss: it is made along with it.
pub struct CrossEntropy {
    targets: Vec<Option<u32>>,
    gradient: Mutex<Vec<f32>>,
}

impl CrossEntropy {
    /// For as many rows as `targets` has.
    #[must_use]
    pub fn new(targets: Vec<Option<u32>>) -> Self {
        Self { targets, gradient: Mutex::new(Vec::new()) }
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, v) = layout.shape().dims2()?;
        if self.targets.len() != n || self.targets.iter().flatten().any(|target| *target as usize >= v) {
            bail!("{} targets below {v} for {n} rows", self.targets.len());
        }
        let mut gradient = values(storage, layout)?.to_vec();
        let scale = 1.0 / self.targets.iter().flatten().count().max(1) as f32;
        let mut loss = 0.0f64;
        for (row, target) in gradient.chunks_exact_mut(v).zip(&self.targets) {
            let Some(target) = target else {
                row.fill(0.0);
                continue;
            };
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let logit = row[*target as usize];
            row.iter_mut().for_each(|x| *x = exp(*x - top));
            let sum = total(row);
            loss += f64::from(top - logit) + f64::from(sum).ln();
            row.iter_mut().for_each(|x| *x *= scale / sum);
            row[*target as usize] -= scale;
        }
        let Ok(mut kept) = self.gradient.lock() else { bail!("a thread died with the gradient") };
        *kept = gradient;
        made(vec![(loss * f64::from(scale)) as f32], ())
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let Ok(mut kept) = self.gradient.lock() else { bail!("a thread died with the gradient") };
        let gradient = Tensor::from_vec(std::mem::take(&mut *kept), logits.shape(), logits.device())?;
        Ok(Some(gradient.broadcast_mul(dy)?))
    }
}

/// The sum of a row in sixteen lanes: a fixed order that vectors can follow.
fn total(row: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let chunks = row.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    lanes.iter().sum::<f32>() + rest
}
