//! The decoder block with LoRA on any of its linears, forward and backward, written once for all architectures and targets.
//!
//! ```text
//! h  = norm(x)                      h2 = norm(x1)
//! q, k, v = h·Wq, h·Wk, h·Wv        g, u = h2·Wg, h2·Wu
//! q, k = rope(norm?(q, k))          a  = act(g) · u
//! o  = attention(q, k, v)           d  = a·Wd
//! x1 = x + norm?(o·Wo)              y  = x1 + norm?(d)
//! ```

use crate::Result;
use crate::arena::Buf;
use crate::lora::{Active, Module, Side};
use crate::spec::Spec;
use crate::target::{Addend, Heads, Into, KeyValues, RopeOp, Rows, Sight, Slot, Store, Target};
use crate::weights::{LayerWeights, Model, Weight};

/// The buffers of one block. In the letters of the module's page; all f32. A decoder gives several names the same buffer.
#[derive(Debug, Clone, Copy)]
pub struct Bufs {
    /// Input, and after [`forward`] the output, `[T, D]`.
    pub x: Buf,
    /// `[T, D]`
    pub h: Buf,
    /// q and k before their norms, `[T, H·E]` and `[T, K·E]`; empty where the architecture has none.
    pub raw: [Buf; 2],
    /// `[T, H·E]`
    pub q: Buf,
    /// `[T, K·E]`
    pub k: Buf,
    /// `[T, K·E]`
    pub v: Buf,
    /// `[T, H·E]`
    pub o: Buf,
    /// `[T, H]`
    pub lse: Buf,
    /// `o·Wo`, `[T, D]`
    pub attn: Buf,
    /// `[T, D]`
    pub x1: Buf,
    /// `[T, D]`
    pub h2: Buf,
    /// `[T, F]`
    pub gate: Buf,
    /// `[T, F]`
    pub up: Buf,
    /// `[T, F]`
    pub act: Buf,
    /// `[T, D]`
    pub down: Buf,
    /// Scratch, `[T, D]`
    pub tmp: Buf,
    /// `xA` of each linear, `[T, R]` each.
    pub u: [Buf; Module::COUNT],
    /// A linear's input after dropout, `[T, max(D, F, H·E)]`; empty without dropout.
    pub drop: Buf,
    /// Positions, u32 `[T]`
    pub positions: Buf,
    /// What each token sees.
    pub sight: Sight,
    /// Rope frequencies of layers that see everything and of layers with a window, `[E/2]` each.
    pub frequencies: [Buf; 2],
}

/// What a backward pass adds: gradients of activations.
#[derive(Debug, Clone, Copy)]
pub struct Grads {
    /// Of the output on entry and of the input on return, `[T, D]`.
    pub dx: Buf,
    /// Of a normalised input, `[T, D]`.
    pub dh: Buf,
    /// Behind a norm after attention or after the feed-forward part, `[T, D]`; empty where the architecture has none.
    pub dpost: Buf,
    /// `[T, F]`
    pub dact: Buf,
    /// `[T, H·E]`
    pub d_o: Buf,
    /// `[T, H·E]`
    pub dq: Buf,
    /// `[T, K·E]`
    pub dk: Buf,
    /// `[T, K·E]`
    pub dv: Buf,
    /// `[T, H]`
    pub delta: Buf,
    /// Of `xA`, `[T, R]`
    pub du: Buf,
    /// Of the tuned adapter's parameters, in its layout.
    pub params: Buf,
}

impl Grads {
    /// For a trainer that only scores.
    pub const EMPTY: Grads = Grads {
        dx: Buf::EMPTY,
        dh: Buf::EMPTY,
        dpost: Buf::EMPTY,
        dact: Buf::EMPTY,
        d_o: Buf::EMPTY,
        dq: Buf::EMPTY,
        dk: Buf::EMPTY,
        dv: Buf::EMPTY,
        delta: Buf::EMPTY,
        du: Buf::EMPTY,
        params: Buf::EMPTY,
    };
}

/// What stays the same through all blocks of a pass.
pub struct Env<'e> {
    /// The model.
    pub model: &'e Model<'e>,
    /// Adapters in use; a backward pass takes the first for the tuned one and expects no other.
    pub adapters: &'e [Active],
    /// Buffers.
    pub bufs: Bufs,
    /// Probability with which the tuned adapter's inputs are dropped; 0: never.
    pub dropout: f32,
}

const T: Rows = Rows::TOKENS;

/// The rows of a pass that a block's output is wanted for. Keys and values are those of all rows.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// How many.
    pub rows: Rows,
    /// Which, u32 in increasing order; `None` for all. They then lie behind each other in all buffers but `h`, `k`, `v` and the input.
    pub index: Option<Buf>,
    /// Their positions, u32.
    pub positions: Buf,
    /// What they see.
    pub sight: Sight,
    /// Where the output goes.
    pub out: Buf,
}

impl Wanted {
    /// All rows; the output takes the input's place.
    #[must_use]
    pub const fn all(b: &Bufs) -> Wanted {
        Wanted { rows: T, index: None, positions: b.positions, sight: b.sight, out: b.x }
    }

    /// The wanted rows of `x`, in `to` unless they are all.
    fn of<X: Target>(&self, t: &mut X, x: Buf, to: Buf, dim: usize) -> Result<Buf> {
        let Some(index) = self.index else { return Ok(x) };
        t.gather(to, x, index, self.rows, dim)?;
        Ok(to)
    }

    /// Puts wanted rows back to where they were among all, the others zero, in place.
    fn spread<X: Target>(&self, t: &mut X, x: Buf, dim: usize) -> Result<()> {
        self.index.map_or(Ok(()), |index| t.spread(x, index, self.rows, T, dim))
    }
}

impl Env<'_> {
    fn spec(&self) -> &Spec {
        &self.model.spec
    }

    fn layer(&self, layer: usize) -> &LayerWeights {
        &self.model.layers[layer]
    }

    fn heads(&self, layer: usize) -> Heads {
        let s = self.spec();
        Heads {
            heads: s.heads,
            kv_heads: s.kv_heads,
            head_dim: s.head_dim,
            scale: s.attn_scale,
            window: s.layer_window(layer).unwrap_or(0),
        }
    }

    fn rope(&self, layer: usize, positions: Buf, heads: usize, inverse: bool) -> RopeOp {
        let s = self.spec();
        RopeOp {
            frequencies: self.bufs.frequencies[usize::from(s.layer_window(layer).is_some())],
            positions,
            style: s.rope.style,
            heads,
            head_dim: s.head_dim,
            dims: s.rope.dims,
            inverse,
        }
    }

    /// `y = Wx + b + Σ scale · B(Ax)`.
    fn linear<X: Target>(&self, t: &mut X, (layer, module): (usize, Module), y: Buf, x: Buf, rows: Rows) -> Result<()> {
        let weights = self.layer(layer);
        let bias = weights.biases.get(module as usize).copied().flatten();
        let w = &weights.linears[module as usize];
        let mut placed = false;
        for adapter in self.adapters {
            let Some((a, b)) = pair(adapter, adapter.params, layer, module) else { continue };
            let seen = self.dropped(t, (layer, module), x, rows, w.cols)?;
            let u = self.bufs.u[module as usize];
            t.linear(u, seen, &a, None, rows, Slot::UNIT, Into::Set)?;
            if placed {
                t.linear(y, u, &b, None, rows, adapter.scale, Into::Add)?;
            } else {
                t.linear_with(y, x, w, bias, rows, &Addend { x: u, w: b, alpha: adapter.scale })?;
                placed = true;
            }
        }
        if placed { Ok(()) } else { t.linear(y, x, w, bias, rows, Slot::UNIT, Into::Set) }
    }

    /// The tuned adapter's `u = Ax` alone, as [`linear`](Self::linear) leaves it.
    fn low<X: Target>(&self, t: &mut X, (layer, module): (usize, Module), x: Buf, rows: Rows) -> Result<()> {
        let Some((a, _)) = self.adapters.first().and_then(|ad| pair(ad, ad.params, layer, module)) else { return Ok(()) };
        let x = self.dropped(t, (layer, module), x, rows, a.cols)?;
        t.linear(self.bufs.u[module as usize], x, &a, None, rows, Slot::UNIT, Into::Set)
    }

    /// The input as the adapter sees it.
    fn dropped<X: Target>(&self, t: &mut X, (layer, module): (usize, Module), x: Buf, rows: Rows, dim: usize) -> Result<Buf> {
        if self.dropout == 0.0 {
            return Ok(x);
        }
        t.dropout(self.bufs.drop, x, self.dropout, stream(layer, module), rows, dim)?;
        Ok(self.bufs.drop)
    }

    /// Gradients of [`linear`](Self::linear), which left `xA` behind: to the tuned adapter, and to the input where `dx` asks for it.
    fn linear_backward<X: Target>(
        &self,
        t: &mut X,
        g: &Grads,
        (layer, module): (usize, Module),
        dx: Option<(Buf, Into)>,
        dy: Buf,
        x: Buf,
        rows: Rows,
    ) -> Result<()> {
        let w = &self.layer(layer).linears[module as usize];
        let adapter = self.adapters.first();
        let both = adapter.and_then(|ad| Some((ad, pair(ad, ad.params, layer, module)?, pair(ad, g.params, layer, module)?)));
        let Some((adapter, (a, b), (da, db))) = both else {
            return dx.map_or(Ok(()), |(dx, into)| t.linear_backward(dx, dy, w, rows, Slot::UNIT, into));
        };
        t.linear_backward(g.du, dy, &b, rows, adapter.scale, Into::Set)?;
        if let Some((dx, into)) = dx {
            if self.dropout == 0.0 {
                t.linear_backward_with(dx, dy, w, rows, into, &Addend { x: g.du, w: a, alpha: Slot::UNIT })?;
            } else {
                t.linear_backward(dx, dy, w, rows, Slot::UNIT, into)?;
            }
        }
        t.outer(&db, dy, self.bufs.u[module as usize], rows, adapter.scale)?;
        let x = self.dropped(t, (layer, module), x, rows, w.cols)?;
        t.outer(&da, g.du, x, rows, Slot::UNIT)?;
        match dx {
            Some((dx, _)) if self.dropout > 0.0 => {
                t.linear_backward(self.bufs.drop, g.du, &a, rows, Slot::UNIT, Into::Set)?;
                t.dropout_add(dx, self.bufs.drop, self.dropout, stream(layer, module), rows, w.cols)
            }
            _ => Ok(()),
        }
    }
}

fn pair(adapter: &Active, base: Buf, layer: usize, module: Module) -> Option<(Weight, Weight)> {
    let at = |side| adapter.layout.matrix(base, layer, module, side);
    Some((at(Side::A)?, at(Side::B)?))
}

/// Each linear drops by a stream of its own.
const fn stream(layer: usize, module: Module) -> u64 {
    (layer as u64) << 3 | module as u64
}

/// Where attention takes keys and values from.
#[derive(Debug, Clone, Copy)]
pub enum Kv {
    /// From this pass.
    Pass,
    /// From a cache, after this pass's were stored there.
    Cache(KeyValues),
    /// From a cache, after this pass's were stored there in the rows that the buffer says, u32 `[T]`.
    Scatter(KeyValues, Buf),
}

/// The first half: from x to x1.
fn attention<X: Target>(t: &mut X, env: &Env<'_>, layer: usize, kv: Kv, wanted: &Wanted) -> Result<()> {
    let (s, w, b, rows) = (env.spec(), env.layer(layer), &env.bufs, wanted.rows);
    let (d, eps) = (s.width, s.eps);
    keys_values(t, env, layer)?;
    // `attn` is free until the heads' output comes.
    let h = wanted.of(t, b.h, b.attn, d)?;
    match w.qk_norms {
        None => env.linear(t, (layer, Module::Q), b.q, h, rows)?,
        Some([norm, _]) => {
            env.linear(t, (layer, Module::Q), b.raw[0], h, rows)?;
            t.rms_norm(b.q, b.raw[0], norm, times(rows, s.heads), s.head_dim, eps)?;
        }
    }
    t.rope(b.q, &env.rope(layer, wanted.positions, s.heads, false), rows)?;
    let kv = match kv {
        Kv::Pass => KeyValues { k: b.k, v: b.v, store: Store::F32 },
        Kv::Cache(cache) => {
            t.cache_store(&cache, b.k, b.v, T, s.kv_width())?;
            cache
        }
        Kv::Scatter(cache, rows) => {
            t.cache_scatter(&cache, b.k, b.v, rows, T, s.kv_width())?;
            cache
        }
    };
    t.attention(b.o, b.lse, b.q, &kv, &wanted.sight, rows, &env.heads(layer))?;
    env.linear(t, (layer, Module::O), b.attn, b.o, rows)?;
    match wanted.index {
        None => residual(t, env, b.x1, b.x, b.attn, w.post_attn_norm, rows),
        Some(index) => {
            t.gather(b.x1, b.x, index, rows, d)?;
            add(t, env, b.x1, b.attn, w.post_attn_norm, rows)
        }
    }
}

/// The normalised input, keys and values of all rows.
fn keys_values<X: Target>(t: &mut X, env: &Env<'_>, layer: usize) -> Result<()> {
    let (s, w, b) = (env.spec(), env.layer(layer), &env.bufs);
    t.rms_norm(b.h, b.x, w.attn_norm, T, s.width, s.eps)?;
    match w.qk_norms {
        None => env.linear(t, (layer, Module::K), b.k, b.h, T)?,
        Some([_, norm]) => {
            env.linear(t, (layer, Module::K), b.raw[1], b.h, T)?;
            t.rms_norm(b.k, b.raw[1], norm, Rows::tokens(s.kv_heads), s.head_dim, s.eps)?;
        }
    }
    env.linear(t, (layer, Module::V), b.v, b.h, T)?;
    t.rope(b.k, &env.rope(layer, b.positions, s.kv_heads, false), T)
}

/// Stores the keys and values of a pass in the cache, for a block whose output nobody wants.
///
/// # Errors
/// Those of the target.
pub fn store<X: Target>(t: &mut X, env: &Env<'_>, layer: usize, cache: &KeyValues) -> Result<()> {
    keys_values(t, env, layer)?;
    t.cache_store(cache, env.bufs.k, env.bufs.v, T, env.spec().kv_width())
}

/// `times` rows for each of `rows`.
const fn times(rows: Rows, times: usize) -> Rows {
    Rows { slot: rows.slot, times: rows.times * times }
}

/// The second half up to the gated activation: from x1 to `act`.
fn gated<X: Target>(t: &mut X, env: &Env<'_>, layer: usize, rows: Rows) -> Result<()> {
    let (s, w, b) = (env.spec(), env.layer(layer), &env.bufs);
    t.rms_norm(b.h2, b.x1, w.ffn_norm, rows, s.width, s.eps)?;
    env.linear(t, (layer, Module::Gate), b.gate, b.h2, rows)?;
    env.linear(t, (layer, Module::Up), b.up, b.h2, rows)?;
    t.glu(b.act, b.gate, b.up, s.arch.row().activation, rows, s.ff)
}

/// `y = x + norm?(z)`.
fn residual<X: Target>(t: &mut X, env: &Env<'_>, y: Buf, x: Buf, z: Buf, norm: Option<Buf>, rows: Rows) -> Result<()> {
    t.convert(y, Store::F32, x, Store::F32, rows, env.spec().width)?;
    add(t, env, y, z, norm, rows)
}

/// `y += norm?(z)`.
fn add<X: Target>(t: &mut X, env: &Env<'_>, y: Buf, z: Buf, norm: Option<Buf>, rows: Rows) -> Result<()> {
    let (d, eps) = (env.spec().width, env.spec().eps);
    match norm {
        None => t.add(y, z, rows, d),
        Some(w) => {
            t.rms_norm(env.bufs.tmp, z, w, rows, d, eps)?;
            t.add(y, env.bufs.tmp, rows, d)
        }
    }
}

/// One block: x becomes y, in `wanted.out`.
///
/// # Errors
/// Those of the target.
pub fn forward<X: Target>(t: &mut X, env: &Env<'_>, layer: usize, kv: Kv, wanted: &Wanted) -> Result<()> {
    let b = &env.bufs;
    attention(t, env, layer, kv, wanted)?;
    gated(t, env, layer, wanted.rows)?;
    env.linear(t, (layer, Module::Down), b.down, b.act, wanted.rows)?;
    residual(t, env, wanted.out, b.x1, b.down, env.layer(layer).post_ffn_norm, wanted.rows)
}

/// What a backward pass finds of its forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The input alone: the rest is computed again.
    Input,
    /// All of the block's buffers but the shared ones: normalised inputs and the activation, which are computed again.
    Block,
}

/// One block backward, from the input in `bufs.x`, which is left as it is, and what is `kept` besides: adds the adapter's gradients, and turns `dx` from the
/// gradient of the wanted outputs into the input's — or leaves it unfinished where `last`, since nothing below needs it.
///
/// # Errors
/// Those of the target.
pub fn backward<X: Target>(t: &mut X, env: &Env<'_>, g: &Grads, layer: usize, kept: Kept, wanted: &Wanted, last: bool) -> Result<()> {
    let (s, w, b, rows) = (env.spec(), env.layer(layer), &env.bufs, wanted.rows);
    let (d, eps) = (s.width, s.eps);
    match kept {
        Kept::Input => {
            attention(t, env, layer, Kv::Pass, wanted)?;
            gated(t, env, layer, rows)?;
            match w.post_ffn_norm {
                Some(_) => env.linear(t, (layer, Module::Down), b.down, b.act, rows)?,
                None => env.low(t, (layer, Module::Down), b.act, rows)?,
            }
        }
        Kept::Block => {
            t.rms_norm(b.h, b.x, w.attn_norm, T, d, eps)?;
            t.rms_norm(b.h2, b.x1, w.ffn_norm, rows, d, eps)?;
            t.glu(b.act, b.gate, b.up, s.arch.row().activation, rows, s.ff)?;
        }
    }
    let ddown = match w.post_ffn_norm {
        None => g.dx,
        Some(norm) => {
            t.rms_norm_backward(g.dpost, b.down, norm, g.dx, rows, d, eps, Into::Set)?;
            g.dpost
        }
    };
    env.linear_backward(t, g, (layer, Module::Down), Some((g.dact, Into::Set)), ddown, b.act, rows)?;
    t.glu_backward(b.gate, b.up, g.dact, s.arch.row().activation, rows, s.ff)?;
    env.linear_backward(t, g, (layer, Module::Gate), Some((g.dh, Into::Set)), b.gate, b.h2, rows)?;
    env.linear_backward(t, g, (layer, Module::Up), Some((g.dh, Into::Add)), b.up, b.h2, rows)?;
    t.rms_norm_backward(g.dx, b.x1, w.ffn_norm, g.dh, rows, d, eps, Into::Add)?;

    let dattn = match w.post_attn_norm {
        None => g.dx,
        Some(norm) => {
            t.rms_norm_backward(g.dpost, b.attn, norm, g.dx, rows, d, eps, Into::Set)?;
            g.dpost
        }
    };
    env.linear_backward(t, g, (layer, Module::O), Some((g.d_o, Into::Set)), dattn, b.o, rows)?;
    attention_backward(t, env, g, layer, wanted, last)?;
    if last {
        return Ok(());
    }
    wanted.spread(t, g.dx, d)?;
    t.rms_norm_backward(g.dx, b.x, w.attn_norm, g.dh, T, d, eps, Into::Add)
}

/// From the gradient of the heads' output to that of the normalised input.
fn attention_backward<X: Target>(t: &mut X, env: &Env<'_>, g: &Grads, layer: usize, wanted: &Wanted, last: bool) -> Result<()> {
    let (s, w, b, rows) = (env.spec(), env.layer(layer), &env.bufs, wanted.rows);
    let (d, eps) = (s.width, s.eps);
    // A row without a gradient adds nothing to any other's, whatever else it holds: so rows that are not wanted may be zero.
    for (x, dim) in [(b.q, s.q_width()), (b.o, s.q_width()), (b.lse, s.heads), (g.d_o, s.q_width())] {
        wanted.spread(t, x, dim)?;
    }
    let forward = [b.q, b.k, b.v, b.o, b.lse];
    t.attention_backward([g.dq, g.dk, g.dv], g.d_o, forward, g.delta, &b.sight, T, &env.heads(layer))?;
    // q and k themselves are used up, so their buffers take what comes next.
    let dq = wanted.of(t, g.dq, b.q, s.q_width())?;
    t.rope(dq, &env.rope(layer, wanted.positions, s.heads, true), rows)?;
    t.rope(g.dk, &env.rope(layer, b.positions, s.kv_heads, true), T)?;
    let (dq, dk) = match w.qk_norms {
        None => (dq, g.dk),
        Some([q_norm, k_norm]) => {
            let to = if dq == g.dq { b.q } else { g.dq };
            t.rms_norm_backward(to, b.raw[0], q_norm, dq, times(rows, s.heads), s.head_dim, eps, Into::Set)?;
            t.rms_norm_backward(b.k, b.raw[1], k_norm, g.dk, Rows::tokens(s.kv_heads), s.head_dim, eps, Into::Set)?;
            (to, b.k)
        }
    };
    let dh = |into| if last { None } else { Some((g.dh, into)) };
    let h = wanted.of(t, b.h, b.attn, d)?;
    env.linear_backward(t, g, (layer, Module::Q), dh(Into::Set), dq, h, rows)?;
    if !last {
        wanted.spread(t, g.dh, d)?;
    }
    env.linear_backward(t, g, (layer, Module::K), dh(Into::Add), dk, b.h, T)?;
    env.linear_backward(t, g, (layer, Module::V), dh(Into::Add), g.dv, b.h, T)
}
