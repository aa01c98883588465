//! LoRA's A and B as autograd variables (Hu et al. 2021): `y = W x + b + scale · B (A x)`.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{DType, Device, Result, Tensor, Var, bail};

use crate::{Oracle, Random};

/// A linear layer of a decoder block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    /// Query projection `[H·E, D]`.
    Q,
    /// Key projection `[K·E, D]`.
    K,
    /// Value projection `[K·E, D]`.
    V,
    /// Attention's output projection `[D, H·E]`.
    O,
    /// Feed-forward gate `[F, D]`.
    Gate,
    /// Feed-forward up `[F, D]`.
    Up,
    /// Feed-forward down `[D, F]`.
    Down,
}

impl Module {
    /// All seven, in a block's order.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// As in GGUF's `blk.N.NAME.weight`.
    pub fn gguf_name(self) -> &'static str {
        match self {
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::O => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    /// As in PEFT's `base_model.model.model.layers.N.NAME.lora_A.weight`.
    pub fn peft_name(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }
}

/// One of LoRA's two factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Factor {
    /// `[R, in]`
    A,
    /// `[out, R]`
    B,
}

/// Names one LoRA matrix: layer, linear, factor.
pub type LoraKey = (usize, Module, Factor);

/// d loss / d matrix, row-major, for every LoRA matrix. f32 gradients are widened, which loses nothing.
pub type Gradients = BTreeMap<LoraKey, Vec<f64>>;

/// The trainable matrices of one adapter.
#[derive(Debug)]
pub struct LoraVars {
    dtype: DType,
    vars: BTreeMap<LoraKey, Var>,
    scales: BTreeMap<(usize, Module), f64>,
}

impl LoraVars {
    /// An adapter of nothing, in the oracle's type; [`LoraVars::insert`] fills it.
    pub fn new(oracle: &Oracle) -> Self {
        Self { dtype: oracle.dtype(), vars: BTreeMap::new(), scales: BTreeMap::new() }
    }

    /// Random A and B (both non-zero, so that every gradient is non-zero) on `modules` of every layer.
    /// `scale` is alpha / R.
    pub fn random(oracle: &Oracle, modules: &[Module], rank: usize, scale: f64, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        let mut lora = Self::new(oracle);
        for layer in 0..oracle.config().layers {
            for &module in modules {
                let (rows, columns) = oracle.linear_shape(module);
                let a = random.vec(rank * columns, (3.0 / columns as f64).sqrt());
                let b = random.vec(rows * rank, 0.3 * (3.0 / rank as f64).sqrt());
                lora.insert(oracle, layer, module, rank, scale, &a, &b)?;
            }
        }
        Ok(lora)
    }

    /// Reads an adapter in llama.cpp's GGUF form: `blk.N.NAME.weight.lora_a` `[R, in]` and `.lora_b` `[out, R]`,
    /// scaled by `adapter.lora.alpha` / R (by 1 where alpha is 0, as llama.cpp does).
    pub fn read_gguf<R: Read + Seek>(oracle: &Oracle, reader: &mut R) -> Result<Self> {
        let content = Content::read(reader)?;
        for (key, wanted) in [("general.type", "adapter"), ("adapter.type", "lora")] {
            match content.metadata.get(key) {
                Some(Value::String(found)) if found == wanted => {}
                found => bail!("{key}: expected {wanted}, found {found:?}"),
            }
        }
        let alpha = match content.metadata.get("adapter.lora.alpha") {
            Some(Value::F32(alpha)) => f64::from(*alpha),
            found => bail!("adapter.lora.alpha: expected an f32, found {found:?}"),
        };
        let mut values =
            |name: &str| -> Result<Tensor> { content.tensor(reader, name, &Device::Cpu)?.dequantize(&Device::Cpu)?.to_dtype(DType::F64) };
        let mut lora = Self::new(oracle);
        for name in content.tensor_infos.keys() {
            let Some(base) = name.strip_suffix(".lora_a") else { continue };
            let (layer, module) = parse_name(base)?;
            let (a, b) = (values(name)?, values(&format!("{base}.lora_b"))?);
            let rank = a.dims2()?.0;
            let scale = if alpha == 0.0 { 1.0 } else { alpha / rank as f64 };
            lora.insert(oracle, layer, module, rank, scale, &a.flatten_all()?.to_vec1()?, &b.flatten_all()?.to_vec1()?)?;
        }
        if lora.vars.len() != content.tensor_infos.len() {
            bail!("the adapter has {} tensors, of which {} are LoRA matrices", content.tensor_infos.len(), lora.vars.len());
        }
        Ok(lora)
    }

    /// Puts LoRA on one linear. a: `[R, in]`, b: `[out, R]`, row-major, rows in the file's order.
    pub fn insert(&mut self, oracle: &Oracle, layer: usize, module: Module, rank: usize, scale: f64, a: &[f64], b: &[f64]) -> Result<()> {
        let layers = oracle.config().layers;
        if layer >= layers {
            bail!("LoRA on layer {layer}: the model has {layers} layers");
        }
        let (rows, columns) = oracle.linear_shape(module);
        let a = Tensor::from_slice(a, (rank, columns), &Device::Cpu)?.to_dtype(self.dtype)?;
        let b = Tensor::from_slice(b, (rows, rank), &Device::Cpu)?.to_dtype(self.dtype)?;
        self.vars.insert((layer, module, Factor::A), Var::from_tensor(&a)?);
        self.vars.insert((layer, module, Factor::B), Var::from_tensor(&b)?);
        self.scales.insert((layer, module), scale);
        Ok(())
    }

    /// The matrices' names, in order.
    pub fn keys(&self) -> impl Iterator<Item = LoraKey> + '_ {
        self.vars.keys().copied()
    }

    /// A matrix's values, row-major.
    pub fn values(&self, key: LoraKey) -> Result<Vec<f64>> {
        self.var(key)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
    }

    /// Sets a matrix's values, row-major, in place: graphs made before keep the old ones.
    pub fn set_values(&self, key: LoraKey, values: &[f64]) -> Result<()> {
        let var = self.var(key)?;
        let new = Tensor::from_slice(values, var.shape(), &Device::Cpu)?.to_dtype(self.dtype)?;
        var.set(&new)
    }

    /// `[rows, columns]` of a matrix.
    pub fn shape(&self, key: LoraKey) -> Result<(usize, usize)> {
        self.var(key)?.dims2()
    }

    /// The variable itself, for objectives that candle's arithmetic composes.
    pub fn var(&self, key: LoraKey) -> Result<&Var> {
        match self.vars.get(&key) {
            Some(var) => Ok(var),
            None => bail!("no LoRA on {key:?}"),
        }
    }

    /// scale · B (A x), where `module` of `layer` has LoRA. x: `[T, in]`.
    pub(crate) fn apply(&self, layer: usize, module: Module, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(scale) = self.scales.get(&(layer, module)) else { return Ok(None) };
        let (a, b) = (self.var((layer, module, Factor::A))?, self.var((layer, module, Factor::B))?);
        Ok(Some((x.matmul(&a.t()?)?.matmul(&b.t()?)? * *scale)?))
    }
}

/// `blk.N.NAME.weight` as layer and module.
fn parse_name(name: &str) -> Result<(usize, Module)> {
    let parts: Vec<&str> = name.split('.').collect();
    if let ["blk", layer, part, "weight"] = parts.as_slice()
        && let Ok(layer) = layer.parse()
        && let Some(module) = Module::ALL.into_iter().find(|m| m.gguf_name() == *part)
    {
        return Ok((layer, module));
    }
    bail!("{name}: expected LoRA on blk.N.attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up or ffn_down")
}
