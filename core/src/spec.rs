//! What a model is: one struct for all supported architectures, read from the file's metadata. A new architecture is a row of [`Arch::row`].

use crate::gguf::Gguf;
use crate::lora::Module;
use crate::{Error, Result};
use core::fmt::Write as _;

/// A family of models, by its name in `general.architecture`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// Llama 1–3, SmolLM, TinyLlama, Mistral 7B.
    Llama,
    /// Qwen 1.5, 2, 2.5.
    Qwen2,
    /// Qwen 3 (dense).
    Qwen3,
    /// Gemma 1.
    Gemma,
    /// Gemma 3 (text).
    Gemma3,
}

/// How rope pairs the elements of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// `2i` with `2i + 1`: GGUF files of llama models, whose q and k rows were permuted for it.
    Adjacent,
    /// `i` with `i + E/2`.
    Half,
}

/// The feed-forward part's gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
}

/// What distinguishes an architecture.
#[derive(Debug, Clone, Copy)]
pub struct ArchRow {
    /// `general.architecture`.
    pub name: &'static str,
    /// Pairs of rope.
    pub rope: RopeStyle,
    /// Gate.
    pub activation: Activation,
    /// q, k and v have biases.
    pub qkv_bias: bool,
    /// q and k are normalised a head before rope.
    pub qk_norm: bool,
    /// Norms after attention and after the feed-forward part.
    pub post_norms: bool,
    /// Embeddings are multiplied by `sqrt(D)`.
    pub scaled_embeddings: bool,
    /// Every so many-th layer sees everything, where the file names a window and no pattern; 0: no windows.
    pub window_pattern: usize,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 5] = [Arch::Llama, Arch::Qwen2, Arch::Qwen3, Arch::Gemma, Arch::Gemma3];

    /// The architecture's row.
    #[must_use]
    pub const fn row(self) -> ArchRow {
        const LLAMA: ArchRow = ArchRow {
            name: "llama",
            rope: RopeStyle::Adjacent,
            activation: Activation::Silu,
            qkv_bias: false,
            qk_norm: false,
            post_norms: false,
            scaled_embeddings: false,
            window_pattern: 0,
        };
        const GEMMA: ArchRow =
            ArchRow { name: "gemma", rope: RopeStyle::Half, activation: Activation::GeluTanh, scaled_embeddings: true, ..LLAMA };
        match self {
            Arch::Llama => LLAMA,
            Arch::Qwen2 => ArchRow { name: "qwen2", rope: RopeStyle::Half, qkv_bias: true, ..LLAMA },
            Arch::Qwen3 => ArchRow { name: "qwen3", rope: RopeStyle::Half, qk_norm: true, ..LLAMA },
            Arch::Gemma => GEMMA,
            Arch::Gemma3 => ArchRow { name: "gemma3", qk_norm: true, post_norms: true, window_pattern: 6, ..GEMMA },
        }
    }

    /// The architecture of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Arch> {
        Self::ALL.into_iter().find(|arch| arch.row().name == name)
    }
}

/// Rotary position embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Pairs.
    pub style: RopeStyle,
    /// Elements of a head that are turned; even.
    pub dims: usize,
    /// θ of layers that see everything.
    pub base: f32,
    /// Positions are divided by this in layers that see everything (linear scaling).
    pub scale: f32,
    /// θ of layers with a window.
    pub local_base: f32,
}

/// Sliding-window attention: a token sees itself and the `size − 1` before it, except in every `pattern`-th layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Tokens seen.
    pub size: usize,
    /// Layers `pattern − 1, 2·pattern − 1, …` see everything; 0: none does.
    pub pattern: usize,
}

/// What a model is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// Its family.
    pub arch: Arch,
    /// L.
    pub layers: usize,
    /// D.
    pub width: usize,
    /// F.
    pub ff: usize,
    /// H.
    pub heads: usize,
    /// K; divides H.
    pub kv_heads: usize,
    /// E.
    pub head_dim: usize,
    /// V.
    pub vocab: usize,
    /// Longest context that the model was trained for.
    pub context: usize,
    /// ε of the norms.
    pub eps: f32,
    /// Rope.
    pub rope: Rope,
    /// Windows, where the model has them.
    pub window: Option<Window>,
    /// Factor on the embeddings.
    pub embed_scale: f32,
    /// Factor on attention scores.
    pub attn_scale: f32,
}

impl Spec {
    /// H · E.
    #[must_use]
    pub const fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// K · E.
    #[must_use]
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// `(inputs, outputs)` of a linear.
    #[must_use]
    pub const fn module_dims(&self, module: Module) -> (usize, usize) {
        match module {
            Module::Q => (self.width, self.q_width()),
            Module::K | Module::V => (self.width, self.kv_width()),
            Module::O => (self.q_width(), self.width),
            Module::Gate | Module::Up => (self.width, self.ff),
            Module::Down => (self.ff, self.width),
        }
    }

    /// How many tokens back layer `layer` sees, itself included; `None`: all.
    #[must_use]
    pub const fn layer_window(&self, layer: usize) -> Option<usize> {
        match self.window {
            Some(w) if w.pattern == 0 || !(layer + 1).is_multiple_of(w.pattern) => Some(w.size),
            _ => None,
        }
    }

    /// Reads the metadata.
    ///
    /// # Errors
    /// An unknown architecture, a missing key, a value that no model can have, a feature that is not supported.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Spec> {
        let name = gguf.str("general.architecture").ok().flatten().ok_or(Error::UnknownArchitecture)?;
        let arch = Arch::from_name(name).ok_or(Error::UnknownArchitecture)?;
        let keys = Keys { gguf, prefix: arch.row().name };
        keys.refuse_unsupported(arch)?;
        let width = keys.size("embedding_length")?;
        let heads = keys.size("attention.head_count")?;
        let kv_heads = keys.optional_size("attention.head_count_kv")?.unwrap_or(heads);
        let head_dim = match keys.optional_size("attention.key_length")? {
            Some(n) => n,
            None if width % heads == 0 => width / heads,
            None => return Err(Error::BadKey { key: "attention.head_count", found: heads as u64 }),
        };
        if keys.optional_size("attention.value_length")?.is_some_and(|n| n != head_dim) {
            return Err(Error::Unsupported { what: "values of another width than keys" });
        }
        if kv_heads > heads || heads % kv_heads != 0 {
            return Err(Error::BadKey { key: "attention.head_count_kv", found: kv_heads as u64 });
        }
        let vocab = gguf
            .tensor("token_embd.weight")
            .map(|t| t.dims[1])
            .filter(|&v| v > 0 && v < 1 << 31)
            .ok_or(Error::MissingTensor { tensor: crate::weights::TensorId { name: "token_embd", suffix: ".weight", layer: None } })?
            as usize;
        let spec = Spec {
            arch,
            layers: keys.size("block_count")?,
            width,
            ff: keys.size("feed_forward_length")?,
            heads,
            kv_heads,
            head_dim,
            vocab,
            context: keys.size("context_length")?,
            eps: keys.float("attention.layer_norm_rms_epsilon")?.ok_or(Error::MissingKey { key: "attention.layer_norm_rms_epsilon" })?,
            rope: keys.rope(arch, head_dim)?,
            window: keys.window(arch)?,
            embed_scale: if arch.row().scaled_embeddings { libm::sqrtf(width as f32) } else { 1.0 },
            attn_scale: 1.0 / libm::sqrtf(head_dim as f32),
        };
        spec.check_products()?;
        Ok(spec)
    }

    /// Sizes are multiplied everywhere later; here they are shown not to overflow.
    fn check_products(&self) -> Result<()> {
        let fits = |a: usize, b: usize| a.checked_mul(b).is_some_and(|n| n <= 1 << 31);
        if !fits(self.heads, self.head_dim) || !fits(self.width, self.ff) || !fits(self.vocab, self.width) && self.vocab > 1 << 20 {
            return Err(Error::BadKey { key: "embedding_length", found: self.width as u64 });
        }
        if !fits(self.q_width(), self.width) {
            return Err(Error::BadKey { key: "attention.key_length", found: self.head_dim as u64 });
        }
        Ok(())
    }
}

struct Keys<'g, 'a> {
    gguf: &'g Gguf<'a>,
    prefix: &'static str,
}

impl Keys<'_, '_> {
    fn path(&self, key: &'static str) -> heapless::String<96> {
        let mut path = heapless::String::new();
        // Prefixes and keys are our own and short.
        let _ = write!(path, "{}.{key}", self.prefix);
        path
    }

    fn optional_size(&self, key: &'static str) -> Result<Option<usize>> {
        match self.gguf.u64(&self.path(key)).map_err(|_| Error::BadKey { key, found: u64::MAX })? {
            Some(n) if n == 0 || n >= 1 << 31 => Err(Error::BadKey { key, found: n }),
            found => Ok(found.map(|n| n as usize)),
        }
    }

    fn size(&self, key: &'static str) -> Result<usize> {
        self.optional_size(key)?.ok_or(Error::MissingKey { key })
    }

    fn float(&self, key: &'static str) -> Result<Option<f32>> {
        match self.gguf.f32(&self.path(key)).map_err(|_| Error::BadKey { key, found: u64::MAX })? {
            Some(x) if !x.is_finite() || x < 0.0 => Err(Error::BadKey { key, found: u64::from(x.to_bits()) }),
            found => Ok(found),
        }
    }

    fn rope(&self, arch: Arch, head_dim: usize) -> Result<Rope> {
        let dims = self.optional_size("rope.dimension_count")?.unwrap_or(head_dim);
        if dims > head_dim || dims % 2 != 0 {
            return Err(Error::BadKey { key: "rope.dimension_count", found: dims as u64 });
        }
        let base = self.float("rope.freq_base")?.unwrap_or(10_000.0);
        let kind = self.gguf.str(&self.path("rope.scaling.type")).ok().flatten().unwrap_or("");
        let factor = self.float("rope.scaling.factor")?.or(self.float("rope.scale_linear")?).unwrap_or(1.0);
        let scale = match kind {
            "" | "linear" if factor > 0.0 => factor,
            "none" => 1.0,
            // The divisors of llama-3 scaling are a tensor of the file, so its type needs no key; converters write none or "llama3".
            "llama3" => 1.0,
            _ => return Err(Error::Unsupported { what: "a rope scaling other than none, linear and llama3 (YaRN, LongRoPE …)" }),
        };
        let local_base = self.float("rope.freq_base_swa")?.unwrap_or(if arch == Arch::Gemma3 { 10_000.0 } else { base });
        Ok(Rope { style: arch.row().rope, dims, base, scale, local_base })
    }

    fn window(&self, arch: Arch) -> Result<Option<Window>> {
        let default = arch.row().window_pattern;
        // Only gemma3 runs its windows in GGUF engines; the others' files name one that is as long as the context.
        if default == 0 {
            return Ok(None);
        }
        let Some(size) = self.optional_size("attention.sliding_window")? else { return Ok(None) };
        let pattern = self.optional_size("attention.sliding_window_pattern")?.unwrap_or(default);
        Ok(Some(Window { size, pattern }))
    }

    fn refuse_unsupported(&self, arch: Arch) -> Result<()> {
        if self.optional_count("expert_count")? > 0 {
            return Err(Error::Unsupported { what: "a mixture of experts" });
        }
        let softcapped = |key| Ok::<bool, Error>(self.float(key)?.is_some_and(|x| x > 0.0));
        if softcapped("attn_logit_softcapping")? || softcapped("final_logit_softcapping")? {
            return Err(Error::Unsupported { what: "soft-capped logits" });
        }
        if arch == Arch::Llama && (self.float("logit_scale")?.is_some() || self.float("embedding_scale")?.is_some()) {
            return Err(Error::Unsupported { what: "scaled logits or embeddings (Granite, MiniCPM)" });
        }
        Ok(())
    }

    fn optional_count(&self, key: &'static str) -> Result<u64> {
        Ok(self.gguf.u64(&self.path(key)).map_err(|_| Error::BadKey { key, found: u64::MAX })?.unwrap_or(0))
    }
}
