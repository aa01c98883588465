//! Every buffer by name, shape and bytes, before any is taken; and the knobs that make a budget do.
//!
//! [`decode`] and [`tune`] lay buffers out one after the other, tell a listener of each, and return the handles: what is measured is what runs.

use crate::arena::{ALIGN, Buf, Region};
use crate::block::{Bufs, Grads, Wanted};
use crate::lora::{self, Module};
use crate::ops::{adamw, loss};
use crate::spec::Spec;
use crate::target::{KeyValues, Rows, Sight, Store, rounded_bytes};
use crate::{Error, Result};
use core::fmt::Write as _;

/// One planned buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name, `blk.N.` first where it belongs to a layer.
    pub name: heapless::String<40>,
    /// Which memory it lies in.
    pub region: Region,
    /// Its extents; unused ones are 0.
    pub shape: [usize; 3],
    /// How its numbers are stored.
    pub ty: &'static str,
    /// Bytes, without the padding behind it.
    pub bytes: usize,
}

/// What a decoder is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeRequest {
    /// Tokens of the longest conversation, prompt and answer together.
    pub context: usize,
    /// Tokens of one prefill pass.
    pub batch: usize,
    /// How keys and values are kept.
    pub kv: Store,
    /// The largest rank of an adapter that may be bound; 0: none.
    pub rank: usize,
}

/// What a trainer is asked to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TuneRequest {
    /// The tuned adapter.
    pub shape: lora::Shape,
    /// Tokens of a micro-batch: what one forward and backward pass takes.
    pub tokens: usize,
    /// The longest example, which a micro-batch must hold.
    pub max_length: usize,
    /// Vocabulary entries whose logits exist at once.
    pub vocab_chunk: usize,
    /// How the inputs of layers are kept for the backward pass: f32 or f16.
    pub inputs: Store,
    /// The input of every so many-th layer is kept; those between are computed again.
    pub stride: usize,
    /// So many blocks, from the top, keep all that their backward pass needs, so that it need not compute their forward pass again; with a stride of 1.
    /// The top one always does, since nothing overwrites it.
    pub keep: usize,
    /// 8-bit optimiser state.
    pub optim_8bit: bool,
    /// Whether adapters' inputs are dropped.
    pub dropout: bool,
    /// Whether there will be backward passes and updates; without them the plan holds what scoring needs.
    pub backward: bool,
    /// Whether a scalar head of its own, `[D]`, tuned with the adapter, scores the target rows: a reward model. Targets are then no tokens, and the
    /// vocabulary is not looked at.
    pub score_head: bool,
}

impl TuneRequest {
    /// How many blocks, from the top, keep what their backward pass needs.
    #[must_use]
    pub fn kept_blocks(&self, spec: &Spec) -> usize {
        let trained = spec.layers.saturating_sub(self.shape.first_layer as usize);
        if self.backward && self.stride == 1 { self.keep.clamp(1, trained.max(1)) } else { 0 }
    }

    /// Bytes that each kept block but the top one takes, about: alignment comes on top.
    #[must_use]
    pub fn block_bytes(&self, spec: &Spec) -> usize {
        let row = spec.arch.row();
        let attention = 2 * spec.q_width() + 2 * spec.kv_width() + spec.heads;
        let raw = if row.qk_norm { spec.q_width() + spec.kv_width() } else { 0 };
        let post = if row.post_norms { 2 * spec.width } else { 0 };
        let u = Module::COUNT * self.shape.rank as usize;
        self.tokens * 4 * (attention + raw + post + spec.width + 2 * spec.ff + u)
    }
}

/// Bytes of each memory that a plan takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Adapter 0, with gradients and optimiser state where it is tuned.
    pub adapter: usize,
    /// Keys and values.
    pub cache: usize,
    /// Everything else.
    pub work: usize,
}

impl Totals {
    /// All of them.
    #[must_use]
    pub const fn sum(&self) -> usize {
        self.adapter + self.cache + self.work
    }
}

struct Planner<'s> {
    taken: [usize; Region::COUNT],
    listener: &'s mut dyn FnMut(&Item),
}

const ADAPTER: Region = match Region::adapter(0) {
    Some(region) => region,
    None => Region::WORK,
};

impl Planner<'_> {
    fn take(&mut self, name: &str, layer: Option<usize>, region: Region, shape: &[usize], store: (&'static str, usize)) -> Buf {
        let mut full = heapless::String::new();
        // Names are our own and short.
        let _ = match layer {
            Some(layer) => write!(full, "blk.{layer}.{name}"),
            None => write!(full, "{name}"),
        };
        let mut dims = [0; 3];
        dims.iter_mut().zip(shape).for_each(|(d, s)| *d = *s);
        let bytes = store.1;
        let taken = &mut self.taken[region.index()];
        let buf = Buf { region, offset: *taken, len: bytes };
        *taken += bytes.div_ceil(ALIGN) * ALIGN;
        if bytes > 0 {
            (self.listener)(&Item { name: full, region, shape: dims, ty: store.0, bytes });
        }
        buf
    }

    fn f32(&mut self, name: &str, region: Region, shape: &[usize]) -> Buf {
        let n: usize = shape.iter().product();
        self.take(name, None, region, shape, ("f32", n * 4))
    }

    fn work(&mut self, name: &str, shape: &[usize]) -> Buf {
        self.f32(name, Region::WORK, shape)
    }

    fn work_u32(&mut self, name: &str, n: usize) -> Buf {
        self.take(name, None, Region::WORK, &[n], ("u32", n * 4))
    }

    fn totals(&self) -> Totals {
        Totals { adapter: self.taken[ADAPTER.index()], cache: self.taken[Region::CACHE.index()], work: self.taken[Region::WORK.index()] }
    }

    fn cache(&mut self, spec: &Spec, rows: usize, store: Store) -> CacheLayout {
        let per_half = store.bytes(rows * spec.kv_width());
        for layer in 0..spec.layers {
            for name in ["k_cache", "v_cache"] {
                self.take(name, Some(layer), Region::CACHE, &[rows, spec.kv_heads, spec.head_dim], (store.name(), per_half));
            }
        }
        CacheLayout { bytes: self.taken[Region::CACHE.index()], rows, store, per_half }
    }

    fn frequencies(&mut self, spec: &Spec) -> [Buf; 2] {
        let half = spec.rope.dims / 2;
        let global = self.work("rope.frequencies", &[half]);
        [global, if spec.window.is_some() { self.work("rope.frequencies_local", &[half]) } else { global }]
    }

    fn sight(&mut self, t: usize) -> Sight {
        Sight::own(self.work_u32("sight.first", t), self.work_u32("sight.last", t))
    }

    /// With room for shared rows.
    fn sight_sharing(&mut self, t: usize) -> Sight {
        let own = self.sight(t);
        Sight { shared_first: self.work_u32("sight.shared_first", t), shared_end: self.work_u32("sight.shared_end", t), ..own }
    }

    /// The same for the rows that predict targets.
    fn target_sight(&mut self, t: usize) -> Sight {
        Sight {
            first: self.work_u32("target_sight.first", t),
            last: self.work_u32("target_sight.last", t),
            shared_first: self.work_u32("target_sight.shared_first", t),
            shared_end: self.work_u32("target_sight.shared_end", t),
        }
    }

    /// Room for a product's input as the target's kernels like it; see [`Target::lend`](crate::target::Target::lend).
    fn rounded(&mut self, rows: usize, cols: usize) -> Buf {
        self.take("rounded", None, Region::WORK, &[rows, cols], ("bf16", rounded_bytes(rows, cols)))
    }

    fn raw(&mut self, spec: &Spec, t: usize) -> [Buf; 2] {
        if spec.arch.row().qk_norm {
            [self.work("q_raw", &[t, spec.q_width()]), self.work("k_raw", &[t, spec.kv_width()])]
        } else {
            [Buf::EMPTY; 2]
        }
    }
}

/// Keys and values of all layers, in region [`CACHE`](Region::CACHE).
#[derive(Debug, Clone, Copy)]
pub struct CacheLayout {
    /// Bytes to take.
    pub bytes: usize,
    /// Rows of each layer: a row a token.
    pub rows: usize,
    /// How they are kept.
    pub store: Store,
    per_half: usize,
}

impl CacheLayout {
    /// Keys and values of a layer.
    #[must_use]
    pub fn kv(&self, layer: usize) -> KeyValues {
        let half = self.per_half;
        let part = |i: usize| Buf { region: Region::CACHE, offset: (2 * layer + i) * half.div_ceil(ALIGN) * ALIGN, len: half };
        KeyValues { k: part(0), v: part(1), store: self.store }
    }
}

/// Plans a cache by itself: what a trainer samples with (see [`Feed`](crate::trainer::Feed)), beside the buffers that it has anyway.
///
/// # Errors
/// [`Error::BadOption`] for no rows or too many, or Q8_0 for heads that are no multiple of 32.
pub fn cache(spec: &Spec, rows: usize, store: Store, listener: &mut dyn FnMut(&Item)) -> Result<CacheLayout> {
    if rows == 0 || rows > 1 << 24 {
        return Err(Error::BadOption { option: "cache", expected: "1 to 16777216 tokens" });
    }
    check_store(spec, store)?;
    Ok(Planner { taken: [0; Region::COUNT], listener }.cache(spec, rows, store))
}

fn check_store(spec: &Spec, kv: Store) -> Result<()> {
    if kv == Store::Q8_0 && !spec.head_dim.is_multiple_of(32) {
        return Err(Error::BadOption { option: "kv type", expected: "f32 or f16, since this model's heads are no multiple of 32" });
    }
    Ok(())
}

/// A decoder's buffers.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLayout {
    /// Bytes to take.
    pub totals: Totals,
    /// What was asked.
    pub request: DecodeRequest,
    /// The block's.
    pub bufs: Bufs,
    /// Token ids of a pass.
    pub ids: Buf,
    /// The final norm of the last token, `[1, D]`.
    pub last: Buf,
    /// u32: which row that is, its position, and what it sees.
    pub last_index: Buf,
    /// u32.
    pub last_position: Buf,
    /// u32 each.
    pub last_sight: Sight,
    /// Logits of the last token, `[V]`.
    pub logits: Buf,
    /// For the target: inputs of products, rounded.
    pub rounded: Buf,
    /// Keys and values.
    pub cache: CacheLayout,
}

impl DecodeLayout {
    /// Keys and values of a layer.
    #[must_use]
    pub fn kv(&self, layer: usize) -> KeyValues {
        self.cache.kv(layer)
    }

    /// The last row of a pass: all that the last block and the head compute. Its output takes the input's place.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let (positions, sight) = (self.last_position, self.last_sight);
        Wanted { rows: Rows::ONE, index: Some(self.last_index), positions, sight, out: self.bufs.x }
    }
}

/// Plans a decoder.
///
/// # Errors
/// [`Error::BadOption`] for a context or batch of 0, or a Q8_0 cache for heads that are no multiple of 32.
pub fn decode(spec: &Spec, request: &DecodeRequest, listener: &mut dyn FnMut(&Item)) -> Result<DecodeLayout> {
    if request.context == 0 || request.context > 1 << 24 {
        return Err(Error::BadOption { option: "context", expected: "1 to 16777216 tokens" });
    }
    if request.batch == 0 || request.batch > 1 << 16 {
        return Err(Error::BadOption { option: "batch", expected: "1 to 65536 tokens" });
    }
    check_store(spec, request.kv)?;
    check_head(spec)?;
    let mut p = Planner { taken: [0; Region::COUNT], listener };
    let (t, d, f) = (request.batch.min(request.context), spec.width, spec.ff);
    let cache = p.cache(spec, request.context, request.kv);
    let h = p.work("h", &[t, d]);
    let attn = p.work("attn", &[t, d]);
    let bufs = Bufs {
        x: p.work("x", &[t, d]),
        h,
        raw: p.raw(spec, t),
        q: p.work("q", &[t, spec.q_width()]),
        k: p.work("k", &[t, spec.kv_width()]),
        v: p.work("v", &[t, spec.kv_width()]),
        o: p.work("o", &[t, spec.q_width()]),
        lse: p.work("lse", &[t, spec.heads]),
        attn,
        x1: p.work("x1", &[t, d]),
        h2: h,
        gate: p.work("gate", &[t, f]),
        up: p.work("up", &[t, f]),
        act: p.work("act", &[t, f]),
        down: attn,
        tmp: if spec.arch.row().post_norms { p.work("tmp", &[t, d]) } else { Buf::EMPTY },
        u: [p.work("lora.u", &[t, request.rank]); Module::COUNT],
        drop: Buf::EMPTY,
        positions: p.work_u32("positions", t),
        sight: p.sight(t),
        frequencies: p.frequencies(spec),
    };
    let layout = DecodeLayout {
        request: *request,
        bufs,
        ids: p.work_u32("ids", t),
        last: p.work("last", &[1, d]),
        last_index: p.work_u32("last_index", 1),
        last_position: p.work_u32("last_position", 1),
        last_sight: Sight::own(p.work_u32("last_sight.first", 1), p.work_u32("last_sight.last", 1)),
        logits: p.work("logits", &[spec.vocab]),
        rounded: p.rounded(t, d.max(f).max(spec.q_width())),
        cache,
        totals: Totals::default(),
    };
    Ok(DecodeLayout { totals: p.totals(), ..layout })
}

/// A trainer's buffers.
#[derive(Debug, Clone, Copy)]
pub struct TuneLayout {
    /// Bytes to take.
    pub totals: Totals,
    /// What was asked.
    pub request: TuneRequest,
    /// Where each matrix of the adapter lies.
    pub lora: lora::Layout,
    /// The adapter's parameters, and behind them those of the score head where there is one.
    pub params: Buf,
    /// Their moments: `m`, `v`, and the scales of both (empty with f32 state).
    pub moments: [Buf; 4],
    /// The block's buffers, as the backward pass uses them.
    pub bufs: Bufs,
    /// Its gradients.
    pub grads: Grads,
    /// Token ids.
    pub ids: Buf,
    /// Kept inputs, and inputs between two kept ones.
    inputs: Buf,
    between: Buf,
    /// Bytes of what a kept block keeps; those of the top one are in `bufs`, the others' follow from the top down.
    block_bytes: usize,
    /// u32: the row that predicts each target.
    pub target_rows: Buf,
    /// u32: the positions of those rows.
    pub target_positions: Buf,
    /// u32 each: what those rows see.
    pub target_sight: Sight,
    /// u32: each target.
    pub target_ids: Buf,
    /// `[T, D]`: rows of the targets before and after the final norm, and the gradient behind it.
    pub head: [Buf; 3],
    /// `[T, chunk]`; empty with a score head.
    pub logits: Buf,
    /// `[T, STATS]`; empty with a score head.
    pub stats: Buf,
    /// `[T]`: of each target its log-probability, or its score.
    pub logprobs: Buf,
    /// `[T]`: `∂loss/∂log p` of each target, or `∂loss/∂score`.
    pub coef: Buf,
    /// 8 bytes: a sum of squares.
    pub norm: Buf,
    /// For the target: inputs of products, rounded.
    pub rounded: Buf,
}

impl TuneLayout {
    /// How many numbers are tuned: the adapter's, and the score head's where there is one.
    #[must_use]
    pub const fn params_len(&self) -> usize {
        self.params.len / 4
    }

    /// First number and count of what is tuned: all A, all B, the score head. Each has a learning rate of its own and, with 8-bit state, blocks of its own.
    #[must_use]
    pub const fn parts(&self) -> [(usize, usize); 3] {
        parts(&self.lora, self.params_len() - self.lora.len())
    }

    /// The score head, `[D]`, within the parameters or their gradients; empty where there is none.
    #[must_use]
    pub fn score_head(&self, params: Buf) -> Buf {
        let (start, len) = self.parts()[2];
        params.part(start * 4, len * 4)
    }

    /// Fills fresh parameters: the adapter as [`lora::Layout::init`] does, the score head with zeros.
    ///
    /// A head of zeros scores everything 0, so that tuning begins at the loss of not knowing, `ln 2` a pair, and learns the head from the first update on
    /// and the adapter from the second. Transformers draws the head from a normal distribution (σ = 0.02), whose noise the few pairs of one person would
    /// have to outweigh first.
    ///
    /// # Errors
    /// [`Error::BadShape`] unless `params` has [`params_len`](Self::params_len) numbers.
    pub fn init(&self, params: &mut [f32], seed: u64) -> Result<()> {
        if params.len() != self.params_len() {
            return Err(Error::BadShape { op: "adapter initialisation" });
        }
        let (adapter, head) = params.split_at_mut(self.lora.len());
        head.fill(0.0);
        self.lora.init(adapter, seed)
    }

    /// Where the input of the `index`-th trained layer is kept, and how; `None` where it is computed again.
    #[must_use]
    pub fn kept(&self, spec: &Spec, index: usize) -> Option<Buf> {
        let r = &self.request;
        let row = r.inputs.bytes(r.tokens * spec.width);
        index.is_multiple_of(r.stride).then(|| self.inputs.part(index / r.stride * row, row))
    }

    /// How many blocks, from the top, keep what their backward pass needs.
    #[must_use]
    pub fn kept_blocks(&self, spec: &Spec) -> usize {
        self.request.kept_blocks(spec)
    }

    /// The buffers of a layer: its own where it keeps them.
    #[must_use]
    pub fn block(&self, spec: &Spec, layer: usize) -> Bufs {
        let below = spec.layers.saturating_sub(layer + 1);
        if below == 0 || below >= self.kept_blocks(spec) {
            return self.bufs;
        }
        let moved = |b: Buf| if b.len == 0 { b } else { Buf { offset: b.offset + below * self.block_bytes, ..b } };
        let b = self.bufs;
        let post = spec.arch.row().post_norms;
        Bufs {
            raw: b.raw.map(moved),
            q: moved(b.q),
            k: moved(b.k),
            v: moved(b.v),
            o: moved(b.o),
            lse: moved(b.lse),
            x1: moved(b.x1),
            gate: moved(b.gate),
            up: moved(b.up),
            attn: if post { moved(b.attn) } else { b.attn },
            down: if post { moved(b.down) } else { b.down },
            u: b.u.map(moved),
            ..b
        }
    }

    /// The rows that predict targets: all that the last block and the head compute. Their output goes where the head takes it.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let (positions, sight) = (self.target_positions, self.target_sight);
        Wanted { rows: Rows::TARGETS, index: Some(self.target_rows), positions, sight, out: self.head[0] }
    }

    /// Where the input of a layer between two kept ones lies while its group runs backward.
    #[must_use]
    pub fn between(&self, spec: &Spec, index: usize) -> Option<Buf> {
        let row = self.request.tokens * spec.width * 4;
        (index % self.request.stride).checked_sub(1).map(|i| self.between.part(i * row, row))
    }
}

/// Plans a trainer.
///
/// # Errors
/// [`Error::BadOption`] for an option out of its range.
pub fn tune(spec: &Spec, request: &TuneRequest, listener: &mut dyn FnMut(&Item)) -> Result<TuneLayout> {
    let bad = |option, expected| Err(Error::BadOption { option, expected });
    let r = *request;
    if r.max_length < 2 || r.max_length > 1 << 20 {
        return bad("max_length", "2 to 1048576 tokens");
    }
    if r.tokens < r.max_length || r.tokens > 1 << 22 {
        return bad("micro-batch tokens", "at least max_length and at most 4194304");
    }
    if r.vocab_chunk == 0 || r.stride == 0 || r.inputs == Store::Q8_0 {
        return bad("knobs", "a vocabulary chunk and a stride of at least 1, layer inputs in f32 or f16");
    }
    check_head(spec)?;
    let lora = lora::Layout::new(spec, r.shape)?;
    let mut p = Planner { taken: [0; Region::COUNT], listener };
    let head = if r.score_head { spec.width } else { 0 };
    let n = lora.len() + head;
    let params = p.f32("lora.params", ADAPTER, &[n]);
    let param_grads = if r.backward { p.f32("lora.grads", ADAPTER, &[n]) } else { Buf::EMPTY };
    let moments = if r.backward { moments(&mut p, parts(&lora, head), r.optim_8bit) } else { [Buf::EMPTY; 4] };
    let (t, d, f, q, kv) = (r.tokens, spec.width, spec.ff, spec.q_width(), spec.kv_width());
    let rank = lora.rank();
    let trained = if r.backward { spec.layers - r.shape.first_layer as usize } else { 0 };
    let inputs = p.take("inputs", None, Region::WORK, &[trained.div_ceil(r.stride), t, d], {
        (r.inputs.name(), r.inputs.bytes(trained.div_ceil(r.stride) * t * d))
    });
    let between = p.work("inputs_between", &[r.stride.min(trained).saturating_sub(1), t, d]);
    let post = spec.arch.row().post_norms;
    let optional = |p: &mut Planner<'_>, wanted, name, shape: &[usize]| if wanted { p.work(name, shape) } else { Buf::EMPTY };
    // What a kept block keeps, behind each other, so that the other kept ones' follow in the same order.
    let start = p.taken[Region::WORK.index()];
    let raw = p.raw(spec, t);
    let [q_, k_, v_, o_] = [("q", q), ("k", kv), ("v", kv), ("o", q)].map(|(name, width)| p.work(name, &[t, width]));
    let lse = p.work("lse", &[t, spec.heads]);
    let x1 = p.work("x1", &[t, d]);
    let [gate, up] = ["gate", "up"].map(|name| p.work(name, &[t, f]));
    let [attn, down] = if post { ["attn", "down"].map(|name| p.work(name, &[t, d])) } else { [Buf::EMPTY; 2] };
    let u = lora_u(&mut p, t, rank);
    let block_bytes = p.taken[Region::WORK.index()] - start;
    p.work("kept_blocks", &[r.kept_blocks(spec).saturating_sub(1), block_bytes / 4]);
    let bufs = Bufs {
        x: p.work("x", &[t, d]),
        h: p.work("h", &[t, d]),
        raw,
        q: q_,
        k: k_,
        v: v_,
        o: o_,
        lse,
        attn: if post { attn } else { p.work("attn", &[t, d]) },
        x1,
        h2: p.work("h2", &[t, d]),
        gate,
        up,
        act: p.work("act", &[t, f]),
        down: if post { down } else { p.work("down", &[t, d]) },
        tmp: optional(&mut p, post, "tmp", &[t, d]),
        u,
        drop: optional(&mut p, r.dropout, "drop", &[t, d.max(f).max(q)]),
        positions: p.work_u32("positions", t),
        sight: p.sight_sharing(t),
        frequencies: p.frequencies(spec),
    };
    let grads = if r.backward { grads(&mut p, spec, t, rank, param_grads) } else { Grads::EMPTY };
    let chunk = if r.score_head { 0 } else { r.vocab_chunk.min(spec.vocab) };
    let layout = TuneLayout {
        totals: Totals::default(),
        request: r,
        lora,
        params,
        moments,
        bufs,
        grads,
        ids: p.work_u32("ids", t),
        inputs,
        between,
        block_bytes,
        target_rows: p.work_u32("target_rows", t),
        target_positions: p.work_u32("target_positions", t),
        target_sight: p.target_sight(t),
        target_ids: p.work_u32("target_ids", t),
        head: [p.work("head.x", &[t, d]), p.work("head.h", &[t, d]), if r.backward { p.work("head.dh", &[t, d]) } else { Buf::EMPTY }],
        logits: p.work("logits", &[t, chunk]),
        stats: p.work("softmax_stats", &[t, if r.score_head { 0 } else { loss::STATS }]),
        logprobs: p.work(if r.score_head { "scores" } else { "logprobs" }, &[t]),
        coef: p.work("coefficients", &[t]),
        norm: p.take("grad_norm", None, Region::WORK, &[1], ("f64", 8)),
        rounded: p.rounded(t, d.max(f).max(q).max(if r.backward { chunk } else { 0 })),
    };
    Ok(TuneLayout { totals: p.totals(), ..layout })
}

/// `xA` of every linear, which its backward pass takes up again.
fn lora_u(p: &mut Planner<'_>, t: usize, rank: usize) -> [Buf; Module::COUNT] {
    let all = p.work("lora.u", &[Module::COUNT, t, rank]);
    let each = all.len / Module::COUNT;
    core::array::from_fn(|i| all.part(i * each, each))
}

fn grads(p: &mut Planner<'_>, spec: &Spec, t: usize, rank: usize, params: Buf) -> Grads {
    let (d, q, kv) = (spec.width, spec.q_width(), spec.kv_width());
    Grads {
        dx: p.work("dx", &[t, d]),
        dh: p.work("dh", &[t, d]),
        dpost: if spec.arch.row().post_norms { p.work("dpost", &[t, d]) } else { Buf::EMPTY },
        dact: p.work("dact", &[t, spec.ff]),
        d_o: p.work("do", &[t, q]),
        dq: p.work("dq", &[t, q]),
        dk: p.work("dk", &[t, kv]),
        dv: p.work("dv", &[t, kv]),
        delta: p.work("delta", &[t, spec.heads]),
        du: p.work("lora.du", &[t, rank]),
        params,
    }
}

/// First number and count of all A, all B, and a head of so many numbers.
const fn parts(lora: &lora::Layout, head: usize) -> [(usize, usize); 3] {
    let (a, n) = (lora.a_len(), lora.len());
    [(0, a), (a, n - a), (n, head)]
}

/// Moments are kept apart for A, B and a head, so that a block of 8-bit state never spans two of them.
fn moments(p: &mut Planner<'_>, parts: [(usize, usize); 3], bits8: bool) -> [Buf; 4] {
    let n: usize = parts.iter().map(|(_, len)| len).sum();
    if !bits8 {
        return [p.f32("adamw.m", ADAPTER, &[n]), p.f32("adamw.v", ADAPTER, &[n]), Buf::EMPTY, Buf::EMPTY];
    }
    let blocks = parts.iter().map(|(_, len)| len.div_ceil(adamw::BLOCK)).sum();
    [
        p.take("adamw.m", None, ADAPTER, &[n], ("8-bit", n)),
        p.take("adamw.v", None, ADAPTER, &[n], ("8-bit", n)),
        p.f32("adamw.m_scales", ADAPTER, &[blocks]),
        p.f32("adamw.v_scales", ADAPTER, &[blocks]),
    ]
}

fn check_head(spec: &Spec) -> Result<()> {
    if spec.head_dim > crate::ops::attention::MAX_HEAD {
        return Err(Error::Unsupported { what: "heads wider than 256" });
    }
    Ok(())
}

/// Knobs that the caller has set by hand, which a budget must not turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pinned {
    /// The optimiser state's type.
    pub optim: bool,
    /// The cache's type.
    pub kv: bool,
    /// Tokens of a micro-batch.
    pub tokens: bool,
}

/// Turns a trainer's knobs until it fits: fewer kept blocks, smaller vocabulary chunks, 8-bit optimiser state, f16 layer inputs, fewer kept inputs, smaller
/// micro-batches — what costs speed last.
///
/// `others` is what the caller needs besides.
///
/// # Errors
/// [`Error::OverBudget`] with the bytes that would do.
pub fn fit_tune(spec: &Spec, request: &TuneRequest, pinned: Pinned, budget: u64, others: u64) -> Result<TuneRequest> {
    let mut r = *request;
    let needs = |r: &TuneRequest| Ok::<u64, Error>(tune(spec, r, &mut |_| {})?.totals.sum() as u64 + others);
    let trained = spec.layers.saturating_sub(r.shape.first_layer as usize).max(1);
    let halved_chunk = |r: &mut TuneRequest, least: usize| {
        let chunk = r.vocab_chunk.min(spec.vocab);
        let room = chunk > least;
        r.vocab_chunk = if room { chunk.div_ceil(2).max(least) } else { r.vocab_chunk };
        room
    };
    // Each rung turns one knob one notch and says whether it could.
    let rungs: [&dyn Fn(&mut TuneRequest) -> bool; 7] = [
        // First what is there for speed alone and changes no result.
        &|r| {
            let keep = r.kept_blocks(spec);
            r.keep = keep.saturating_sub(1);
            keep > 1
        },
        &|r| halved_chunk(r, 2048),
        &|r| !pinned.optim && !core::mem::replace(&mut r.optim_8bit, true),
        &|r| core::mem::replace(&mut r.inputs, Store::F16) == Store::F32,
        &|r| {
            let room = r.stride * r.stride < trained;
            r.stride += usize::from(room);
            room
        },
        &|r| {
            let room = !pinned.tokens && r.tokens > r.max_length;
            r.tokens = if room { (r.tokens / 2).max(r.max_length) } else { r.tokens };
            room
        },
        &|r| halved_chunk(r, 256),
    ];
    for rung in rungs {
        let mut next = r;
        // A notch that saves nothing is not taken: with few layers, keeping fewer inputs costs more scratch than it saves.
        while needs(&r)? > budget && rung(&mut next) && needs(&next)? < needs(&r)? {
            r = next;
        }
    }
    match needs(&r)? {
        total if total > budget => Err(Error::OverBudget { needs: total, budget }),
        _ => Ok(r),
    }
}

/// Turns a decoder's knobs until it fits: smaller prefill passes, then an f16 and a Q8_0 cache.
///
/// # Errors
/// [`Error::OverBudget`] with the bytes that would do.
pub fn fit_decode(spec: &Spec, request: &DecodeRequest, pinned: Pinned, budget: u64, others: u64) -> Result<DecodeRequest> {
    let mut r = *request;
    let needs = |r: &DecodeRequest| Ok::<u64, Error>(decode(spec, r, &mut |_| {})?.totals.sum() as u64 + others);
    let rungs: [&dyn Fn(&mut DecodeRequest) -> bool; 3] = [
        &|r| !pinned.kv && core::mem::replace(&mut r.kv, Store::F16) == Store::F32,
        &|r| {
            let room = r.batch > 8;
            r.batch = if room { r.batch / 2 } else { r.batch };
            room
        },
        &|r| !pinned.kv && spec.head_dim.is_multiple_of(32) && core::mem::replace(&mut r.kv, Store::Q8_0) != Store::Q8_0,
    ];
    for rung in rungs {
        while needs(&r)? > budget && rung(&mut r) {}
    }
    match needs(&r)? {
        total if total > budget => Err(Error::OverBudget { needs: total, budget }),
        _ => Ok(r),
    }
}
