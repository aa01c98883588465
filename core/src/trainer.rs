//! Tuning: forward to log-probabilities, backward from one coefficient a target, update.
//!
//! Every objective is a pure function from target log-probabilities to a loss and `w_t = ∂loss/∂log p_t`
//! ([`objective`](crate::objective)); a trainer knows no more of it than that.

mod sample;

pub use sample::Feed;

use crate::arena::Buf;
use crate::arena::Region;
use crate::block::{self, Env, Kept, Kv, Wanted};
use crate::decoder::write_frequencies;
use crate::lora::Active;
use crate::plan::TuneLayout;
use crate::spec::Spec;
use crate::target::{AdamW, AdamWBufs, Into, Rows, Slot, Store, Target};
use crate::weights::Model;
use crate::{Error, Result, ops, optim};

/// One micro-batch: sequences behind each other, each seeing itself alone, or itself and one before it that several continue: answers to one prompt, which
/// is there, and passes forward and backward, once.
///
/// ```text
/// ids          5 6 7   8 1 2   8 3     a prompt 5 6 7 8, whose last token each answer repeats, answers 1 2 and 3
/// positions    0 1 2   3 4 5   3 4
/// starts       0 0 0   3 3 3   6 6
/// shared_first 0 0 0   0 0 0   0 0
/// shared_end   0 0 0   3 3 3   3 3
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch<'b> {
    /// Token ids, `[T]`.
    pub ids: &'b [u32],
    /// Position of each token in its sequence, `[T]`: restarts at 0 where a sequence begins, or goes on from the shared rows.
    pub positions: &'b [u32],
    /// Row of the first token of each token's sequence, `[T]`; does not decrease.
    pub starts: &'b [u32],
    /// Rows whose logits predict a target: one before the target itself. With a score head, the rows that are scored.
    pub target_rows: &'b [u32],
    /// The target ids, in the same order; with a score head they say nothing.
    pub target_ids: &'b [u32],
    /// First row that each token sees besides those of its own sequence, `[T]`, or empty for none anywhere.
    pub shared_first: &'b [u32],
    /// Behind the last of those rows, `[T]`; where it is the first, there are none.
    pub shared_end: &'b [u32],
}

impl Batch<'_> {
    /// Checks it against itself and the model.
    ///
    /// # Errors
    /// [`Error::BadBatch`], [`Error::TokenOutOfRange`], [`Error::TooManyTokens`].
    pub fn check(&self, vocab: usize, limit: usize) -> Result<()> {
        let (n, bad) = (self.ids.len(), |what| Err(Error::BadBatch { what }));
        if n == 0 {
            return bad("no tokens");
        }
        if n > limit {
            return Err(Error::TooManyTokens { found: n, limit });
        }
        if self.positions.len() != n || self.starts.len() != n || self.target_ids.len() != self.target_rows.len() {
            return bad("ids, positions and starts must be of one length, and so must target rows and target ids");
        }
        if let Some(&id) = self.ids.iter().chain(self.target_ids).find(|&&id| id as usize >= vocab) {
            return Err(Error::TokenOutOfRange { id, vocab });
        }
        if self.starts.iter().enumerate().any(|(i, &s)| s as usize > i) || self.starts.windows(2).any(|w| w[0] > w[1]) {
            return bad("a sequence must start at or before its tokens, and starts must not decrease");
        }
        if self.target_rows.iter().any(|&r| r as usize >= n) || self.target_rows.windows(2).any(|w| w[0] >= w[1]) {
            return bad("target rows must increase and lie within the batch");
        }
        self.check_shared()
    }

    /// Shared rows begin a sequence that itself sees no others, are the same for all tokens of a sequence, and stand before it without a stranger between.
    fn check_shared(&self) -> Result<()> {
        let (n, bad) = (self.ids.len(), |what| Err(Error::BadBatch { what }));
        if self.shared_first.is_empty() && self.shared_end.is_empty() {
            return Ok(());
        }
        if self.shared_first.len() != n || self.shared_end.len() != n {
            return bad("shared_first and shared_end must be empty or as long as ids");
        }
        let shared = |i: usize| (self.shared_first[i] as usize, self.shared_end[i] as usize);
        let mut lowest = 0;
        for i in 0..n {
            let (first, end) = shared(i);
            let start = self.starts[i] as usize;
            if i > 0 && self.starts[i - 1] == self.starts[i] && shared(i - 1) != (first, end) {
                return bad("all tokens of a sequence must share the same rows");
            }
            if first > end || first < end && end > start {
                return bad("shared rows must lie before the sequence that sees them");
            }
            if first < end {
                let (begins, beyond) = (self.starts[first] as usize == first, self.starts[end - 1] as usize != first);
                let (again, until) = shared(first);
                if !begins || beyond || again < until {
                    return bad("shared rows must be the beginning of one sequence that itself shares none");
                }
            }
            let low = if first < end { first } else { start };
            if low < lowest {
                return bad("sequences that share rows must stand right behind them");
            }
            lowest = low;
        }
        Ok(())
    }
}

/// What changes from update to update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Learning rate of A.
    pub rate: f32,
    /// Learning rate of B is this times as large (LoRA+, Hayou et al. 2024, arXiv:2402.12354).
    pub b_ratio: f32,
    /// Gradients are scaled down to this norm; 0: never.
    pub max_grad_norm: f32,
    /// Constants.
    pub adamw: AdamW,
}

/// What of a pass lies below the lowest adapted layer: its output for the same tokens never changes.
#[derive(Debug)]
pub enum Trunk<'t> {
    /// Compute it.
    Compute,
    /// Compute it, and copy its output here, `[T, D]`.
    Save(&'t mut [f32]),
    /// Take its output from here, `[T, D]`.
    Use(&'t [f32]),
}

/// Tunes one adapter.
pub struct Trainer<T> {
    target: T,
    layout: TuneLayout,
    adapter: [Active; 1],
    dropout: f32,
    step: u64,
    /// Tokens and targets of the pass whose backward may follow.
    pass: (usize, usize),
}

impl<T: Target> Trainer<T> {
    /// A trainer on memories that the target has bound already, as large as `layout` says. Parameters are what the memory holds: fill them with
    /// [`write_params`](Self::write_params).
    ///
    /// # Errors
    /// [`Error::BadOption`] for a dropout outside `[0, 1)` or one that was not planned; those of the target.
    pub fn new(mut target: T, spec: &Spec, divisors: Option<Buf>, layout: TuneLayout, dropout: f32) -> Result<Self> {
        if !(0.0..1.0).contains(&dropout) || dropout > 0.0 && !layout.request.dropout {
            return Err(Error::BadOption { option: "dropout", expected: "0 or more and less than 1, and planned for" });
        }
        target.set(Slot::ONE, 1);
        target.lend(layout.rounded);
        target.set(Slot::UNIT, 1.0f32.to_bits());
        target.set(Slot::COLDNESS, 1.0f32.to_bits());
        write_frequencies(&mut target, spec, divisors, layout.bufs.frequencies)?;
        let scale = Slot::scale(0);
        target.set(scale, layout.lora.shape.scale().to_bits());
        let adapter = [Active { layout: layout.lora, params: layout.params, scale, region: Region::WORK }];
        let mut trainer = Trainer { target, layout, adapter, dropout, step: 0, pass: (0, 0) };
        trainer.zero_grad()?;
        for buf in trainer.layout.moments {
            trainer.target.zero(buf)?;
        }
        Ok(trainer)
    }

    /// The plan it runs by.
    #[must_use]
    pub fn layout(&self) -> &TuneLayout {
        &self.layout
    }

    /// The target.
    pub fn target(&mut self) -> &mut T {
        &mut self.target
    }

    /// Updates done so far.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Sets the parameters, in the layout's order.
    ///
    /// # Errors
    /// [`Error::BadShape`] for another number of them.
    pub fn write_params(&mut self, params: &[f32]) -> Result<()> {
        if params.len() != self.layout.params_len() {
            return Err(Error::BadShape { op: "parameters" });
        }
        self.target.write(self.layout.params, bytemuck::cast_slice(params))
    }

    /// Copies the parameters out.
    ///
    /// # Errors
    /// [`Error::BadShape`] for another number of them.
    pub fn read_params(&mut self, params: &mut [f32]) -> Result<()> {
        self.read_run(self.layout.params, params)
    }

    /// Copies the gradients out.
    ///
    /// # Errors
    /// [`Error::BadShape`] for another number of them.
    pub fn read_grads(&mut self, grads: &mut [f32]) -> Result<()> {
        self.read_run(self.layout.grads.params, grads)
    }

    fn read_run(&mut self, from: Buf, to: &mut [f32]) -> Result<()> {
        if to.len() != self.layout.params_len() {
            return Err(Error::BadShape { op: "parameters" });
        }
        self.target.read(from, bytemuck::cast_slice_mut(to))
    }

    /// Bytes of the optimiser's state.
    #[must_use]
    pub fn state_len(&self) -> usize {
        self.layout.moments.iter().map(|b| b.len).sum()
    }

    /// Copies the optimiser's state out: both moments, then the scales of both.
    ///
    /// # Errors
    /// [`Error::BadShape`] unless `state` has [`state_len`](Self::state_len) bytes.
    pub fn read_state(&mut self, state: &mut [u8]) -> Result<()> {
        if state.len() != self.state_len() {
            return Err(Error::BadShape { op: "optimiser state" });
        }
        let mut rest = state;
        for buf in self.layout.moments {
            let (part, more) = rest.split_at_mut(buf.len);
            self.target.read(buf, part)?;
            rest = more;
        }
        Ok(())
    }

    /// Goes on from a state that [`read_state`](Self::read_state) gave after `step` updates.
    ///
    /// # Errors
    /// [`Error::BadShape`] unless `state` has [`state_len`](Self::state_len) bytes.
    pub fn write_state(&mut self, state: &[u8], step: u64) -> Result<()> {
        if state.len() != self.state_len() {
            return Err(Error::BadShape { op: "optimiser state" });
        }
        let mut rest = state;
        for buf in self.layout.moments {
            let (part, more) = rest.split_at(buf.len);
            self.target.write(buf, part)?;
            rest = more;
        }
        self.step = step;
        Ok(())
    }

    /// Forgets the gradients gathered so far.
    ///
    /// # Errors
    /// Those of the target.
    pub fn zero_grad(&mut self) -> Result<()> {
        self.target.zero(self.layout.grads.params)
    }

    /// Switches the adapter off (0) or on (1) for the passes that follow: off, the model is the frozen base.
    pub fn scale_adapter(&mut self, scale: f32) {
        let own = self.layout.lora.shape.scale();
        self.target.set(Slot::scale(0), (own * scale).to_bits());
    }

    /// Divides the logits of the passes that follow by a temperature, and their gradients with them: log-probabilities are those of a policy that is
    /// sampled at it. 1 at the beginning.
    ///
    /// # Errors
    /// [`Error::BadOption`] unless it is above 0.
    pub fn set_temperature(&mut self, temperature: f32) -> Result<()> {
        let coldness = 1.0 / temperature;
        if !(temperature > 0.0 && coldness > 0.0 && coldness.is_finite()) {
            return Err(Error::BadOption { option: "temperature", expected: "a number above 0" });
        }
        self.target.set(Slot::COLDNESS, coldness.to_bits());
        Ok(())
    }

    /// Log-probabilities of the targets (with a score head: their scores), without dropout, and how many targets were the likeliest entry; no backward
    /// may follow.
    ///
    /// # Errors
    /// Those of [`Batch::check`], [`Error::BadShape`] unless `logprobs` has one place a target, and those of the target.
    pub fn score(&mut self, model: &Model<'_>, batch: &Batch<'_>, logprobs: &mut [f32]) -> Result<usize> {
        self.score_from(Trunk::Compute, model, batch, logprobs)
    }

    /// As [`score`](Self::score), with the trunk's output saved or given.
    ///
    /// # Errors
    /// As [`score`](Self::score), and [`Error::BadShape`] unless the trunk's output has a row a token.
    pub fn score_from(&mut self, trunk: Trunk<'_>, model: &Model<'_>, batch: &Batch<'_>, logprobs: &mut [f32]) -> Result<usize> {
        let dropout = core::mem::replace(&mut self.dropout, 0.0);
        let result = self.within(|trainer| trainer.run_forward(trunk, model, batch, logprobs, false));
        self.dropout = dropout;
        self.pass = (0, 0);
        result
    }

    /// Log-probabilities of the targets, with what the backward pass needs kept. `seed` decides what dropout drops.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub fn forward(&mut self, model: &Model<'_>, batch: &Batch<'_>, seed: u64, logprobs: &mut [f32]) -> Result<usize> {
        self.forward_from(Trunk::Compute, model, batch, seed, logprobs)
    }

    /// As [`forward`](Self::forward), with the trunk's output saved or given.
    ///
    /// # Errors
    /// As [`score_from`](Self::score_from).
    pub fn forward_from(
        &mut self,
        trunk: Trunk<'_>,
        model: &Model<'_>,
        batch: &Batch<'_>,
        seed: u64,
        logprobs: &mut [f32],
    ) -> Result<usize> {
        if !self.layout.request.backward {
            return Err(Error::BadOption { option: "backward", expected: "a plan with a backward pass" });
        }
        self.target.set(Slot::DROP_LOW, seed as u32);
        self.target.set(Slot::DROP_HIGH, (seed >> 32) as u32);
        let correct = self.within(|trainer| trainer.run_forward(trunk, model, batch, logprobs, true))?;
        self.pass = (batch.ids.len(), batch.target_ids.len());
        Ok(correct)
    }

    /// A step of the target.
    fn within<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.target.step(true);
        let result = f(self);
        self.target.step(false);
        // What was left out for a stop may have led to any result.
        self.target.check()?;
        result
    }

    fn run_forward(&mut self, trunk: Trunk<'_>, model: &Model<'_>, batch: &Batch<'_>, logprobs: &mut [f32], keep: bool) -> Result<usize> {
        batch.check(model.spec.vocab, self.layout.request.tokens)?;
        if logprobs.len() != batch.target_ids.len() {
            return Err(Error::BadShape { op: "log-probabilities" });
        }
        let numbers = batch.ids.len() * model.spec.width;
        let right = match &trunk {
            Trunk::Compute => true,
            Trunk::Save(rows) => rows.len() == numbers,
            Trunk::Use(rows) => rows.len() == numbers,
        };
        if !right {
            return Err(Error::BadShape { op: "the trunk's output" });
        }
        self.pass = (0, 0);
        self.send(batch)?;
        let (t, l, spec) = (&mut self.target, &self.layout, &model.spec);
        let first = l.lora.shape.first_layer as usize;
        let (from, mut save) = match trunk {
            Trunk::Use(rows) => {
                t.write(l.bufs.x, bytemuck::cast_slice(rows))?;
                (first, None)
            }
            Trunk::Save(rows) => (0, Some(rows)),
            Trunk::Compute => (0, None),
        };
        if from == 0 {
            t.embed(l.bufs.x, &model.globals.embed, l.ids, Rows::TOKENS, spec.embed_scale)?;
        }
        for layer in from..spec.layers {
            t.check()?;
            if let Some(rows) = if layer == first { save.take() } else { None } {
                t.read(l.bufs.x, bytemuck::cast_slice_mut(rows))?;
            }
            if let Some(kept) = layer.checked_sub(first).and_then(|i| l.kept(spec, i)).filter(|_| keep) {
                t.convert(kept, l.request.inputs, l.bufs.x, Store::F32, Rows::TOKENS, spec.width)?;
            }
            let bufs = if keep { l.block(spec, layer) } else { l.bufs };
            let env = Env { model, adapters: &self.adapter, bufs, dropout: self.dropout };
            if layer + 1 < spec.layers {
                block::forward(t, &env, layer, Kv::Pass, &Wanted::all(&bufs))?;
            } else if batch.target_ids.is_empty() {
                return Ok(0);
            } else {
                block::forward(t, &env, layer, Kv::Pass, &l.wanted())?;
            }
        }
        t.rms_norm(l.head[1], l.head[0], model.globals.out_norm, Rows::TARGETS, spec.width, spec.eps)?;
        if l.request.score_head {
            t.scores(l.logprobs, l.head[1], l.score_head(l.params), Rows::TARGETS, spec.width)?;
            t.read(l.logprobs, bytemuck::cast_slice_mut(logprobs))?;
            return Ok(0);
        }
        for (first, chunk) in chunks(model, l) {
            t.check()?;
            t.linear(l.logits, l.head[1], &chunk, None, Rows::TARGETS, Slot::COLDNESS, Into::Set)?;
            if !keep {
                t.softmax_stats(l.stats, l.logits, l.target_ids, Rows::TARGETS, first, chunk.rows)?;
                continue;
            }
            // The gradient's sums at once, while the logits are there: its coefficient is a factor of each row, and can come later.
            let widths = (chunk.rows, spec.width);
            t.softmax_online(l.stats, l.logits, l.head[2], l.target_ids, Rows::TARGETS, first, widths)?;
            let into = if first == 0 { Into::Set } else { Into::Add };
            t.linear_backward(l.head[2], l.logits, &chunk, Rows::TARGETS, Slot::UNIT, into)?;
        }
        t.target_logprobs(l.logprobs, l.stats, Rows::TARGETS)?;
        t.read(l.logprobs, bytemuck::cast_slice_mut(logprobs))?;
        self.count_correct(batch.target_ids)
    }

    fn send(&mut self, batch: &Batch<'_>) -> Result<()> {
        let (t, l) = (&mut self.target, &self.layout);
        t.set(Slot::TOKENS, batch.ids.len() as u32);
        t.set(Slot::TARGETS, batch.target_ids.len() as u32);
        for (buf, values) in [
            (l.ids, batch.ids),
            (l.bufs.positions, batch.positions),
            (l.bufs.sight.first, batch.starts),
            (l.target_rows, batch.target_rows),
            (l.target_ids, batch.target_ids),
        ] {
            t.write(buf, bytemuck::cast_slice(values))?;
        }
        // In training, a token's last visible row is its own.
        write_each(t, l.bufs.sight.last, batch.ids.len(), |i| i as u32)?;
        let row = |i: usize| batch.target_rows[i] as usize;
        let targets = batch.target_rows.len();
        write_each(t, l.target_positions, targets, |i| batch.positions[row(i)])?;
        write_each(t, l.target_sight.first, targets, |i| batch.starts[row(i)])?;
        write_each(t, l.target_sight.last, targets, |i| batch.target_rows[i])?;
        for (all, wanted, values) in [
            (l.bufs.sight.shared_first, l.target_sight.shared_first, batch.shared_first),
            (l.bufs.sight.shared_end, l.target_sight.shared_end, batch.shared_end),
        ] {
            let value = |i: usize| values.get(i).copied().unwrap_or(0);
            write_each(t, all, batch.ids.len(), value)?;
            write_each(t, wanted, targets, |i| value(row(i)))?;
        }
        Ok(())
    }

    fn count_correct(&mut self, target_ids: &[u32]) -> Result<usize> {
        const AT_ONCE: usize = 64;
        let mut stats = [0.0f32; AT_ONCE * ops::loss::STATS];
        let mut correct = 0;
        for (i, ids) in target_ids.chunks(AT_ONCE).enumerate() {
            let row = ops::loss::STATS * 4;
            let part = self.layout.stats.part(i * AT_ONCE * row, ids.len() * row);
            self.target.read(part, &mut bytemuck::cast_slice_mut(&mut stats)[..ids.len() * row])?;
            let likeliest = stats.chunks_exact(ops::loss::STATS).map(|s| s[3].to_bits());
            correct += likeliest.zip(ids).filter(|(top, id)| top == *id).count();
        }
        Ok(correct)
    }

    /// Adds the gradients of the pass that [`forward`](Self::forward) ran last, given `∂loss/∂log p` (with a score head `∂loss/∂score`) of each of its
    /// targets.
    ///
    /// # Errors
    /// [`Error::BadBatch`] where no forward pass came before, [`Error::BadShape`] unless there is one coefficient a target; those of the target.
    pub fn backward(&mut self, model: &Model<'_>, coef: &[f32]) -> Result<()> {
        self.within(|trainer| trainer.run_backward(model, coef))
    }

    fn run_backward(&mut self, model: &Model<'_>, coef: &[f32]) -> Result<()> {
        let (tokens, targets) = core::mem::take(&mut self.pass);
        if tokens == 0 {
            return Err(Error::BadBatch { what: "a backward pass needs the forward pass before it" });
        }
        if coef.len() != targets {
            return Err(Error::BadShape { op: "coefficients" });
        }
        if targets == 0 {
            return Ok(());
        }
        let (t, l, spec) = (&mut self.target, &self.layout, &model.spec);
        let (norm, [x, h, dh]) = (model.globals.out_norm, l.head);
        if l.request.score_head {
            t.write(l.coef, bytemuck::cast_slice(coef))?;
            let grads = [dh, l.score_head(l.grads.params)];
            t.scores_backward(grads, h, l.score_head(l.params), l.coef, Rows::TARGETS, spec.width)?;
        } else {
            // The logits that they are the softmax of were the head's, divided by the temperature.
            match f32::from_bits(t.slot(Slot::COLDNESS)) {
                1.0 => t.write(l.coef, bytemuck::cast_slice(coef))?,
                coldness => write_each(t, l.coef, targets, |i| (coef[i] * coldness).to_bits())?,
            }
            // The normalised rows are used up; their buffer takes the head's rows of the targets.
            t.embed(h, &model.globals.head, l.target_ids, Rows::TARGETS, 1.0)?;
            t.softmax_finish(dh, h, l.stats, l.coef, Rows::TARGETS, spec.width)?;
        }
        t.rms_norm_backward(l.grads.dx, x, norm, dh, Rows::TARGETS, spec.width, spec.eps, Into::Set)?;
        let first = l.lora.shape.first_layer as usize;
        let mut top = spec.layers - first;
        while top > 0 {
            // A group: from a kept input up to the next.
            let bottom = (top - 1) / l.request.stride * l.request.stride;
            let pass = (model, &self.adapter[..], self.dropout);
            backward_group(t, pass, l, first, bottom..top)?;
            top = bottom;
        }
        Ok(())
    }

    /// The norm of the gradients gathered so far.
    ///
    /// # Errors
    /// [`Error::NotFinite`], and those of the target.
    pub fn grad_norm(&mut self) -> Result<f32> {
        self.target.sum_squares(self.layout.norm, self.layout.grads.params)?;
        let mut sum = [0u8; 8];
        self.target.read(self.layout.norm, &mut sum)?;
        let norm = libm::sqrt(f64::from_le_bytes(sum)) as f32;
        if norm.is_finite() { Ok(norm) } else { Err(Error::NotFinite { what: "the gradient's norm" }) }
    }

    /// One AdamW update from the gathered gradients, which are then zero. Returns their norm before clipping.
    ///
    /// # Errors
    /// [`Error::NotFinite`], before anything has changed; those of the target.
    pub fn update(&mut self, u: &Update) -> Result<f32> {
        let norm = self.grad_norm()?;
        self.step += 1;
        let c = &u.adamw;
        let floats = [
            (Slot::CLIP, optim::clip_factor(norm, u.max_grad_norm)),
            (Slot::BIAS1, optim::bias_correction(c.beta1, self.step)),
            (Slot::BIAS2, optim::bias_correction(c.beta2, self.step)),
            (Slot::RATE_A, u.rate),
            (Slot::RATE_B, u.rate * u.b_ratio),
        ];
        for (slot, value) in floats {
            self.target.set(slot, value.to_bits());
        }
        for (part, rate) in [Slot::RATE_A, Slot::RATE_B, Slot::RATE_A].into_iter().enumerate() {
            let bufs = self.part(part);
            if bufs.params.len > 0 {
                self.target.adamw(&bufs, c, rate)?;
            }
        }
        self.zero_grad()?;
        Ok(norm)
    }

    /// All A, all B, or the score head, with their state.
    fn part(&self, which: usize) -> AdamWBufs {
        let (l, parts, block) = (&self.layout, self.layout.parts(), ops::adamw::BLOCK);
        let (start, len) = parts[which];
        let part = |buf: Buf, size: usize| buf.part(start * size, len * size);
        let blocks = |len: usize| len.div_ceil(block) * 4;
        let before: usize = parts[..which].iter().map(|(_, len)| blocks(*len)).sum();
        let [m, v, ms, vs] = l.moments;
        let bits8 = l.request.optim_8bit;
        let size = if bits8 { 1 } else { 4 };
        let scales = |buf: Buf| if bits8 { buf.part(before, blocks(len)) } else { Buf::EMPTY };
        AdamWBufs {
            params: part(l.params, 4),
            grads: part(l.grads.params, 4),
            m: part(m, size),
            v: part(v, size),
            m_scales: scales(ms),
            v_scales: scales(vs),
        }
    }
}

/// The head in vocabulary chunks: first entry and rows of each.
fn chunks<'a>(model: &'a Model<'_>, l: &TuneLayout) -> impl Iterator<Item = (usize, crate::weights::Weight)> + use<'a> {
    let (head, size) = (model.globals.head, l.request.vocab_chunk);
    (0..model.spec.vocab).step_by(size).map(move |first| (first, head.slice(first, size)))
}

/// Writes `n` numbers to a buffer of u32.
fn write_each<T: Target>(t: &mut T, to: Buf, n: usize, number: impl Fn(usize) -> u32) -> Result<()> {
    let mut part = [0u32; 256];
    for start in (0..n).step_by(part.len()) {
        let len = part.len().min(n - start);
        part[..len].iter_mut().enumerate().for_each(|(i, x)| *x = number(start + i));
        t.write(to.part(start * 4, len * 4), bytemuck::cast_slice(&part[..len]))?;
    }
    Ok(())
}

/// Layers `first + group`, from the top down; the input of the lowest is kept, the others' are computed again.
fn backward_group<T: Target>(
    t: &mut T,
    (model, adapters, dropout): (&Model<'_>, &[Active], f32),
    l: &TuneLayout,
    first: usize,
    group: core::ops::Range<usize>,
) -> Result<()> {
    let (spec, x, d) = (&model.spec, l.bufs.x, model.spec.width);
    let env = |layer| Env { model, adapters, bufs: l.block(spec, layer), dropout };
    let kept = l.kept(spec, group.start).ok_or(Error::BadShape { op: "kept inputs" })?;
    t.convert(x, Store::F32, kept, l.request.inputs, Rows::TOKENS, d)?;
    for i in group.start + 1..group.end {
        block::forward(t, &env(first + i - 1), first + i - 1, Kv::Pass, &Wanted::all(&l.bufs))?;
        let between = l.between(spec, i).ok_or(Error::BadShape { op: "inputs between" })?;
        t.convert(between, Store::F32, x, Store::F32, Rows::TOKENS, d)?;
    }
    for i in group.clone().rev() {
        t.check()?;
        match l.between(spec, i) {
            Some(between) => t.convert(x, Store::F32, between, Store::F32, Rows::TOKENS, d)?,
            None => t.convert(x, Store::F32, kept, l.request.inputs, Rows::TOKENS, d)?,
        }
        let layer = first + i;
        let wanted = if layer + 1 == spec.layers { l.wanted() } else { Wanted::all(&l.bufs) };
        let kept = if spec.layers - layer <= l.kept_blocks(spec) { Kept::Block } else { Kept::Input };
        block::backward(t, &env(layer), &l.grads, layer, kept, &wanted, i == 0)?;
    }
    Ok(())
}
