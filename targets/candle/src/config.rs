//! What a model is, from the GGUF's metadata.

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Result, bail};

/// The decoder families the oracle knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1 to 3, Mistral, SmolLM.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3.
    Qwen3,
    /// Gemma 1.
    Gemma,
    /// Gemma 3 (text).
    Gemma3,
}

/// Which elements of a head rope rotates together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RopePairs {
    /// 2i with 2i + 1.
    Adjacent,
    /// i with i + n/2.
    Halves,
}

/// A model's widths and constants.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The family.
    pub architecture: Architecture,
    /// Decoder blocks.
    pub layers: usize,
    /// D.
    pub width: usize,
    /// F.
    pub feed_forward: usize,
    /// H.
    pub heads: usize,
    /// K.
    pub kv_heads: usize,
    /// E.
    pub head_width: usize,
    /// Added to the mean square before the root.
    pub rms_epsilon: f64,
    /// Elements of a head that rope rotates; the rest pass unchanged.
    pub rope_width: usize,
    /// Rope's base on layers that attend globally.
    pub rope_base: f64,
    /// Rope's base on layers that attend within the window.
    pub rope_base_local: f64,
    /// Positions are divided by this on layers that attend globally (linear rope scaling).
    pub rope_scale: f64,
    /// Tokens that a local layer sees, the current one included.
    pub window: Option<usize>,
    /// Every n-th layer is global, the others local.
    pub window_period: usize,
}

impl Config {
    /// Reads the keys of `general.architecture`; a missing or nonsensical one is an error that names it.
    pub(crate) fn from_gguf(content: &Content) -> Result<Self> {
        let name = match content.metadata.get("general.architecture") {
            Some(Value::String(s)) => s.as_str(),
            other => bail!("general.architecture: expected a string, found {other:?}"),
        };
        let architecture = match name {
            "llama" => Architecture::Llama,
            "qwen2" => Architecture::Qwen2,
            "qwen3" => Architecture::Qwen3,
            "gemma" => Architecture::Gemma,
            "gemma3" => Architecture::Gemma3,
            other => bail!("general.architecture: expected llama, qwen2, qwen3, gemma or gemma3, found {other}"),
        };
        let keys = Keys { content, prefix: name };
        let width = keys.count("embedding_length")?;
        let heads = keys.count("attention.head_count")?;
        let kv_heads = keys.optional_count("attention.head_count_kv")?.unwrap_or(heads);
        let head_width = match keys.optional_count("attention.key_length")? {
            Some(e) => e,
            None => width / heads,
        };
        if let Some(value_width) = keys.optional_count("attention.value_length")?
            && value_width != head_width
        {
            bail!("{name}.attention.value_length: expected key_length {head_width}, found {value_width}");
        }
        if heads % kv_heads != 0 {
            bail!("{name}.attention.head_count {heads} is no multiple of head_count_kv {kv_heads}");
        }
        let rope_width = keys.optional_count("rope.dimension_count")?.unwrap_or(head_width);
        if rope_width % 2 != 0 || rope_width > head_width {
            bail!("{name}.rope.dimension_count: expected an even number up to {head_width}, found {rope_width}");
        }
        let gemma3 = architecture == Architecture::Gemma3;
        let rope_base = keys.optional_float("rope.freq_base")?.unwrap_or(10_000.0);
        let window = if gemma3 { keys.optional_count("attention.sliding_window")? } else { None };
        Ok(Self {
            architecture,
            layers: keys.count("block_count")?,
            width,
            feed_forward: keys.count("feed_forward_length")?,
            heads,
            kv_heads,
            head_width,
            rms_epsilon: keys.float("attention.layer_norm_rms_epsilon")?,
            rope_width,
            rope_base,
            rope_base_local: if gemma3 { keys.optional_float("rope.freq_base_swa")?.unwrap_or(10_000.0) } else { rope_base },
            rope_scale: keys.rope_scale()?,
            window,
            window_period: if gemma3 { keys.optional_count("attention.sliding_window_pattern")?.unwrap_or(6) } else { 1 },
        })
    }

    /// True where layer `layer` sees only the last [`Config::window`] tokens.
    pub fn is_local(&self, layer: usize) -> bool {
        self.window.is_some() && !(layer + 1).is_multiple_of(self.window_period)
    }

    pub(crate) fn rope_pairs(&self) -> RopePairs {
        match self.architecture {
            Architecture::Llama => RopePairs::Adjacent,
            _ => RopePairs::Halves,
        }
    }

    /// Gemma multiplies embeddings by sqrt(D).
    pub(crate) fn embedding_scale(&self) -> f64 {
        match self.architecture {
            Architecture::Gemma | Architecture::Gemma3 => (self.width as f64).sqrt(),
            _ => 1.0,
        }
    }

    /// Gemma's gate is GELU (tanh form); the others' is SiLU.
    pub(crate) fn gate_is_gelu(&self) -> bool {
        matches!(self.architecture, Architecture::Gemma | Architecture::Gemma3)
    }
}

/// Metadata under one architecture's prefix.
struct Keys<'a> {
    content: &'a Content,
    prefix: &'a str,
}

impl Keys<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(&format!("{}.{key}", self.prefix))
    }

    fn count(&self, key: &str) -> Result<usize> {
        match self.optional_count(key)? {
            Some(n) => Ok(n),
            None => bail!("{}.{key} is missing", self.prefix),
        }
    }

    fn optional_count(&self, key: &str) -> Result<Option<usize>> {
        let found = match self.value(key) {
            None => return Ok(None),
            Some(Value::I32(n)) => i64::from(*n),
            Some(Value::I64(n)) => *n,
            Some(v) => match v.to_u64().map(i64::try_from) {
                Ok(Ok(n)) => n,
                _ => bail!("{}.{key}: expected a count, found {v:?}", self.prefix),
            },
        };
        if !(1..=1 << 31).contains(&found) {
            bail!("{}.{key}: expected 1 to 2^31, found {found}", self.prefix);
        }
        Ok(Some(found as usize))
    }

    fn float(&self, key: &str) -> Result<f64> {
        match self.optional_float(key)? {
            Some(x) => Ok(x),
            None => bail!("{}.{key} is missing", self.prefix),
        }
    }

    fn optional_float(&self, key: &str) -> Result<Option<f64>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::F32(x)) if x.is_finite() && *x > 0.0 => Ok(Some(f64::from(*x))),
            Some(Value::F64(x)) if x.is_finite() && *x > 0.0 => Ok(Some(*x)),
            Some(v) => bail!("{}.{key}: expected a positive number, found {v:?}", self.prefix),
        }
    }

    /// Linear scaling's factor; 1 without scaling. Llama-3's scaling is a tensor, `rope_freqs.weight`.
    fn rope_scale(&self) -> Result<f64> {
        let factor = match self.optional_float("rope.scaling.factor")? {
            Some(f) => Some(f),
            None => self.optional_float("rope.scale_linear")?,
        };
        match self.value("rope.scaling.type") {
            Some(Value::String(s)) if s == "none" => Ok(1.0),
            Some(Value::String(s)) if s == "linear" => Ok(factor.unwrap_or(1.0)),
            None => Ok(factor.unwrap_or(1.0)),
            Some(v) => bail!("{}.rope.scaling.type: expected none or linear, found {v:?}", self.prefix),
        }
    }
}
