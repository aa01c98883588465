//! Sampling with the parameters that are being tuned: sequences grow in a cache of keys and values, many of them in one pass, and those that answer
//! one prompt share its rows. The activations lie in the buffers of the trainer, which no update needs meanwhile, so that sampling takes no memory
//! besides the cache.

use super::{Trainer, write_each};
use crate::block::{self, Env, Kv, Wanted};
use crate::plan::CacheLayout;
use crate::target::{Into, Rows, Slot, Target};
use crate::weights::Model;
use crate::{Error, Result};

/// Tokens that one pass takes in: of sequences that begin, or of many that each go on by one.
///
/// ```text
/// cache        0 1 2 3   a prompt       4 … 7  an answer to it      8 … 11  another one
/// first pass   ids 5 6 7 8   rows 0 1 2 3   first 0 0 0 0   last 0 1 2 3   wanted 3
/// second       ids 1 2       rows 4 8       first 4 8       last 4 8       shared_first 0 0   shared_end 4 4   wanted 0 1
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Feed<'f> {
    /// Token ids, `[T]`.
    pub ids: &'f [u32],
    /// Position of each token in its sequence, `[T]`.
    pub positions: &'f [u32],
    /// Row of the cache that takes each token's keys and values, `[T]`, no row twice.
    pub rows: &'f [u32],
    /// First row of the cache that each token sees, its shared ones apart, `[T]`.
    pub first: &'f [u32],
    /// Last one, `[T]`.
    pub last: &'f [u32],
    /// First shared row that each token sees, `[T]`, or empty for none anywhere.
    pub shared_first: &'f [u32],
    /// Behind the last of those rows, `[T]`.
    pub shared_end: &'f [u32],
    /// Which of the tokens have their logits asked for, in increasing order; at least one.
    pub wanted: &'f [u32],
}

impl Feed<'_> {
    fn check(&self, vocab: usize, limit: usize, held: usize) -> Result<()> {
        let (n, bad) = (self.ids.len(), |what| Err(Error::BadBatch { what }));
        if n == 0 || self.wanted.is_empty() {
            return bad("a pass needs at least one token, and one whose logits are asked for");
        }
        if n > limit {
            return Err(Error::TooManyTokens { found: n, limit });
        }
        if [self.positions, self.rows, self.first, self.last].iter().any(|list| list.len() != n) {
            return bad("ids, positions, rows and sights must be of one length");
        }
        if [self.shared_first, self.shared_end].iter().any(|list| !list.is_empty() && list.len() != n) {
            return bad("shared_first and shared_end must be empty or as long as ids");
        }
        if let Some(&id) = self.ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::TokenOutOfRange { id, vocab });
        }
        if self.rows.iter().chain(self.last).any(|&row| row as usize >= held) {
            return Err(Error::ContextFull { limit: held });
        }
        if self.wanted.iter().any(|&i| i as usize >= n) || self.wanted.windows(2).any(|w| w[0] >= w[1]) {
            return bad("the wanted tokens must increase and lie within the pass");
        }
        // Attention passes over blocks of keys that lie before all that its tokens see.
        let mut lowest = 0;
        for i in 0..n {
            let shared = |list: &[u32]| list.get(i).copied().unwrap_or(0);
            let (first, end) = (shared(self.shared_first), shared(self.shared_end));
            let low = if first < end { first.min(self.first[i]) } else { self.first[i] };
            if low < lowest || i > 0 && self.first[i] < self.first[i - 1] {
                return bad("what tokens see must not begin before what those before them see");
            }
            lowest = low;
        }
        Ok(())
    }
}

impl<T: Target> Trainer<T> {
    /// Takes tokens into the cache, which lies in region [`CACHE`](crate::arena::Region::CACHE), and leaves the logits of the wanted ones, `[wanted, V]`, in
    /// `logits`. No dropout; no backward pass may follow.
    ///
    /// # Errors
    /// [`Error::BadBatch`], [`Error::TooManyTokens`] for more than a micro-batch holds, [`Error::ContextFull`] for rows beyond the cache,
    /// [`Error::TokenOutOfRange`], [`Error::BadShape`] for room of another size, and those of the target.
    pub fn feed(&mut self, model: &Model<'_>, cache: &CacheLayout, feed: &Feed<'_>, logits: &mut [f32]) -> Result<()> {
        feed.check(model.spec.vocab, self.layout.request.tokens, cache.rows)?;
        if logits.len() != feed.wanted.len() * model.spec.vocab {
            return Err(Error::BadShape { op: "logits" });
        }
        self.pass = (0, 0);
        self.within(|trainer| {
            trainer.send_feed(feed)?;
            trainer.run_feed(model, cache)?;
            trainer.read_logits(model, feed.wanted.len(), logits)
        })
    }

    fn send_feed(&mut self, feed: &Feed<'_>) -> Result<()> {
        let (t, l) = (&mut self.target, &self.layout);
        let (n, wanted) = (feed.ids.len(), feed.wanted.len());
        t.set(Slot::TOKENS, n as u32);
        t.set(Slot::TARGETS, wanted as u32);
        let (sight, seen) = (&l.bufs.sight, &l.target_sight);
        // A pass without targets has no coefficients: their buffer takes the rows of the cache.
        let lists = [(l.ids, feed.ids), (l.bufs.positions, feed.positions), (l.coef, feed.rows), (l.target_rows, feed.wanted)];
        for (buf, values) in lists {
            t.write(buf, bytemuck::cast_slice(values))?;
        }
        write_each(t, l.target_positions, wanted, |i| feed.positions[feed.wanted[i] as usize])?;
        for (all, some, values) in [
            (sight.first, seen.first, feed.first),
            (sight.last, seen.last, feed.last),
            (sight.shared_first, seen.shared_first, feed.shared_first),
            (sight.shared_end, seen.shared_end, feed.shared_end),
        ] {
            let value = |i: usize| values.get(i).copied().unwrap_or(0);
            write_each(t, all, n, value)?;
            write_each(t, some, wanted, |i| value(feed.wanted[i] as usize))?;
        }
        Ok(())
    }

    fn run_feed(&mut self, model: &Model<'_>, cache: &CacheLayout) -> Result<()> {
        let (t, l, spec) = (&mut self.target, &self.layout, &model.spec);
        t.embed(l.bufs.x, &model.globals.embed, l.ids, Rows::TOKENS, spec.embed_scale)?;
        let env = Env { model, adapters: &self.adapter, bufs: l.bufs, dropout: 0.0 };
        for layer in 0..spec.layers {
            let wanted = if layer + 1 == spec.layers { l.wanted() } else { Wanted::all(&l.bufs) };
            block::forward(t, &env, layer, Kv::Scatter(cache.kv(layer), l.coef), &wanted)?;
        }
        t.rms_norm(l.head[1], l.head[0], model.globals.out_norm, Rows::TARGETS, spec.width, spec.eps)
    }

    /// The head, in as few chunks as its buffer holds for so many rows.
    fn read_logits(&mut self, model: &Model<'_>, wanted: usize, logits: &mut [f32]) -> Result<()> {
        let (t, l, vocab) = (&mut self.target, &self.layout, model.spec.vocab);
        let size = (l.logits.len / 4 / wanted).clamp(1, vocab);
        for first in (0..vocab).step_by(size) {
            let chunk = model.globals.head.slice(first, size);
            t.linear(l.logits, l.head[1], &chunk, None, Rows::TARGETS, Slot::UNIT, Into::Set)?;
            for (i, row) in logits.chunks_exact_mut(vocab).enumerate() {
                let part = l.logits.part(i * chunk.rows * 4, chunk.rows * 4);
                t.read(part, bytemuck::cast_slice_mut(&mut row[first..first + chunk.rows]))?;
            }
        }
        Ok(())
    }
}
