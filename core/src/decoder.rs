//! Inference: prefill, decode, one conversation.

use crate::arena::Buf;
use crate::arena::Region;
use crate::block::{self, Env, Kv, Wanted};
use crate::lora::{Active, Layout, Shape};
use crate::plan::DecodeLayout;
use crate::spec::Spec;
use crate::target::{Into, Rows, Slot, Target};
use crate::weights::Model;
use crate::{Error, Result, ops};

/// A conversation with a model: its cache, its position, the adapters in use.
///
/// The model is handed to every call; it must be the one that the layout was planned for.
pub struct Decoder<T> {
    target: T,
    layout: DecodeLayout,
    adapters: heapless::Vec<Active, { Region::MAX_ADAPTERS }>,
    position: usize,
}

impl<T: Target> Decoder<T> {
    /// A decoder on memories that the target has bound already, as large as `layout` says.
    ///
    /// # Errors
    /// Those of the target.
    pub fn new(mut target: T, spec: &Spec, divisors: Option<Buf>, layout: DecodeLayout) -> Result<Self> {
        write_frequencies(&mut target, spec, divisors, layout.bufs.frequencies)?;
        target.set(Slot::ONE, 1);
        target.lend(layout.rounded);
        target.set(Slot::UNIT, 1.0f32.to_bits());
        Ok(Decoder { target, layout, adapters: heapless::Vec::new(), position: 0 })
    }

    /// Puts an adapter into use, whose parameters lie in region `Region::adapter(index)` from its start; the next free index is
    /// [`adapters`](Self::adapters). Takes effect with the next token; what is in the cache stays as it was computed.
    ///
    /// # Errors
    /// [`Error::BadAdapter`] when there are too many, or its rank is larger than planned.
    pub fn add_adapter(&mut self, spec: &Spec, shape: Shape, scale: f32) -> Result<usize> {
        let index = self.adapters.len();
        let region = Region::adapter(index).ok_or(Error::BadAdapter { what: "no more than 8 can be loaded at once" })?;
        if shape.rank as usize > self.layout.request.rank {
            return Err(Error::BadAdapter { what: "its rank is larger than the session was planned for" });
        }
        let layout = Layout::new(spec, shape)?;
        let params = Buf { region, offset: 0, len: layout.len() * 4 };
        let active = Active { layout, params, scale: Slot::scale(index), region };
        self.adapters.push(active).map_err(|_| Error::BadAdapter { what: "no more than 8 can be loaded at once" })?;
        self.target.set(Slot::scale(index), (shape.scale() * scale).to_bits());
        Ok(index)
    }

    /// Multiplies an adapter's own scale by `scale`; 0 switches it off.
    ///
    /// # Errors
    /// [`Error::BadAdapter`] for an index that is not in use.
    pub fn scale_adapter(&mut self, index: usize, scale: f32) -> Result<()> {
        let adapter = self.adapters.get(index).ok_or(Error::BadAdapter { what: "no adapter of that index" })?;
        self.target.set(Slot::scale(index), (adapter.layout.shape.scale() * scale).to_bits());
        Ok(())
    }

    /// How many adapters are in use.
    #[must_use]
    pub fn adapters(&self) -> usize {
        self.adapters.len()
    }

    /// The target, to bind memory.
    pub fn target(&mut self) -> &mut T {
        &mut self.target
    }

    /// The plan it runs by.
    #[must_use]
    pub fn layout(&self) -> &DecodeLayout {
        &self.layout
    }

    /// Tokens in the cache.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Forgets everything from token `position` on.
    pub fn rewind(&mut self, position: usize) {
        self.position = self.position.min(position);
    }

    /// Takes tokens in and leaves the logits of the last one, `[V]`, in `logits`.
    ///
    /// # Errors
    /// [`Error::ContextFull`], [`Error::TokenOutOfRange`], [`Error::TooManyTokens`] for none at all, [`Error::Cancelled`], and those of the target. After an
    /// error the position is what it was.
    pub fn feed(&mut self, model: &Model<'_>, ids: &[u32], logits: &mut [f32]) -> Result<()> {
        let vocab = model.spec.vocab;
        if ids.is_empty() || logits.len() != vocab {
            return Err(Error::BadBatch { what: "expected at least one token, and room for one logit a vocabulary entry" });
        }
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::TokenOutOfRange { id, vocab });
        }
        if self.position + ids.len() > self.layout.request.context {
            return Err(Error::ContextFull { limit: self.layout.request.context });
        }
        let before = self.position;
        let mut left = ids.len();
        self.target.step(true);
        let passes = ids.chunks(self.layout.request.batch).try_for_each(|ids| {
            left -= ids.len();
            self.pass(model, ids, left == 0)
        });
        let result = passes.and_then(|()| {
            self.head(model)?;
            self.target.check()?;
            self.target.read(self.layout.logits, bytemuck::cast_slice_mut(logits))
        });
        self.target.step(false);
        if result.is_err() {
            self.position = before;
        }
        result
    }

    /// Takes a batch of tokens into the cache; the last batch's last row comes out of the last block.
    fn pass(&mut self, model: &Model<'_>, ids: &[u32], last: bool) -> Result<()> {
        let (t, l) = (&mut self.target, &self.layout);
        let bufs = &l.bufs;
        t.set(Slot::TOKENS, ids.len() as u32);
        t.set(Slot::POSITION, self.position as u32);
        t.write(l.ids, bytemuck::cast_slice(ids))?;
        for (i, _) in ids.iter().enumerate() {
            let position = (self.position + i) as u32;
            for (buf, value) in [(bufs.positions, position), (bufs.sight.last, position), (bufs.sight.first, 0)] {
                t.write(buf.part(i * 4, 4), &value.to_ne_bytes())?;
            }
        }
        let row = ids.len() as u32 - 1;
        let position = self.position as u32 + row;
        for (buf, value) in [(l.last_index, row), (l.last_position, position), (l.last_sight.last, position), (l.last_sight.first, 0)] {
            t.write(buf, &value.to_ne_bytes())?;
        }
        t.embed(bufs.x, &model.globals.embed, l.ids, Rows::TOKENS, model.spec.embed_scale)?;
        let env = Env { model, adapters: &self.adapters, bufs: *bufs, dropout: 0.0 };
        let top = model.spec.layers - 1;
        for layer in 0..top {
            t.check()?;
            block::forward(t, &env, layer, Kv::Cache(l.kv(layer)), &Wanted::all(bufs))?;
        }
        if last {
            block::forward(t, &env, top, Kv::Cache(l.kv(top)), &l.wanted())?;
        } else {
            block::store(t, &env, top, &l.kv(top))?;
        }
        self.position += ids.len();
        Ok(())
    }

    /// The logits of the one row that the last pass left in `x`.
    fn head(&mut self, model: &Model<'_>) -> Result<()> {
        let (t, l, s) = (&mut self.target, &self.layout, &model.spec);
        t.rms_norm(l.last, l.bufs.x, model.globals.out_norm, Rows::ONE, s.width, s.eps)?;
        t.linear(l.logits, l.last, &model.globals.head, None, Rows::ONE, Slot::UNIT, Into::Set)
    }
}

/// Computes the tables of rope's frequencies and gives them to the target.
pub(crate) fn write_frequencies<T: Target>(t: &mut T, spec: &Spec, divisors: Option<Buf>, bufs: [Buf; 2]) -> Result<()> {
    const MOST: usize = ops::attention::MAX_HEAD / 2;
    let half = spec.rope.dims / 2;
    if half > MOST {
        return Err(Error::Unsupported { what: "heads wider than 256" });
    }
    let (mut table, mut divide) = ([0.0f32; MOST], [1.0f32; MOST]);
    if let Some(buf) = divisors {
        t.read(buf, bytemuck::cast_slice_mut(&mut divide[..half]))?;
    }
    if bufs[1] != bufs[0] {
        ops::rope::frequencies(&mut table[..half], spec.rope.local_base, spec.rope.dims, 1.0, None);
        t.write(bufs[1], bytemuck::cast_slice(&table[..half]))?;
    }
    ops::rope::frequencies(&mut table[..half], spec.rope.base, spec.rope.dims, spec.rope.scale, Some(&divide[..half]));
    t.write(bufs[0], bytemuck::cast_slice(&table[..half]))
}
