//! A target for processors: handles become slices, work is split into fixed pieces, and [`Kernels`] compute them — the scalar reference unless an
//! implementation knows a faster way.

use super::kernels::{Form, Kernels, LowRank, Prepared, Product};
use super::split::{self, Serial};
use super::{AdamW, AdamWBufs, Addend, Heads, Into, KeyValues, RopeOp, Rows, Sight, Slot, Store, Target};
use crate::arena::{Arena, Buf, Region, cast, cast_mut};
use crate::ops::linear::Matrix;
use crate::ops::{self, attention, loss};
use crate::quant::{self, Type};
use crate::spec::Activation;
use crate::weights::Weight;
use crate::{Error, Result};

/// The scalar reference on the caller's thread.
pub type Scalar<'m> = Host<'m, Serial>;

/// Elements of one piece of an element-wise operation.
const PIECE: usize = 8192;

/// A processor's target.
pub struct Host<'m, X> {
    arena: Arena<'m>,
    slots: [u32; Slot::COUNT],
    scratch: Buf,
    form: Form,
    exec: X,
}

impl<'m, X: Kernels> Host<'m, X> {
    /// A target on memories that are bound already.
    #[must_use]
    pub fn new(arena: Arena<'m>, exec: X) -> Self {
        let mut slots = [0; Slot::COUNT];
        slots[Slot::ONE.0 as usize] = 1;
        slots[Slot::UNIT.0 as usize] = 1.0f32.to_bits();
        Host { arena, slots, scratch: Buf::EMPTY, form: Form::NONE, exec }
    }

    /// Binds memory that is read and written, in place of what was bound to the region.
    ///
    /// # Errors
    /// [`Error::Misaligned`] unless it starts at a multiple of [`ALIGN`](crate::arena::ALIGN).
    pub fn bind(&mut self, region: Region, memory: &'m mut [u8]) -> Result<()> {
        self.arena.bind(region, memory)
    }

    /// Binds memory that is only read.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_shared(&mut self, region: Region, memory: &'m [u8]) -> Result<()> {
        self.arena.bind_shared(region, memory)
    }

    /// Binds memory by address: for an executor that owns the memory itself.
    ///
    /// The arena is never given out by itself, and neither is the executor: both stay together, so that what the executor owns lives as
    /// long as it is bound.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// # Safety
    /// That of [`Arena::bind_raw`].
    #[allow(unsafe_code)]
    pub unsafe fn bind_raw(&mut self, region: Region, start: *mut u8, len: usize, writable: bool) -> Result<()> {
        // SAFETY: the caller's promise is the same.
        unsafe { self.arena.bind_raw(region, start, len, writable) }
    }

    /// Forgets a region's memory.
    pub fn unbind(&mut self, region: Region) {
        self.arena.unbind(region);
    }

    /// Bytes bound to a region.
    #[must_use]
    pub fn bound(&self, region: Region) -> usize {
        self.arena.len(region)
    }

    /// Whoever runs the pieces.
    #[must_use]
    pub fn executor(&self) -> &X {
        &self.exec
    }

    fn rows(&self, rows: Rows) -> usize {
        self.slots[rows.slot.0 as usize] as usize * rows.times
    }

    fn float(&self, slot: Slot) -> f32 {
        f32::from_bits(self.slots[slot.0 as usize])
    }

    /// The form of an input that the lent memory still holds.
    fn form_of(&self, input: Buf) -> Form {
        if self.arena.unchanged(input) { self.form } else { Form::NONE }
    }

    fn keep_form(&mut self, input: Buf, form: Form) {
        self.arena.watch(if form == Form::NONE { Buf::EMPTY } else { input });
        self.form = form;
    }

    fn seed(&self) -> u64 {
        let at = |slot: Slot| u64::from(self.slots[slot.0 as usize]);
        at(Slot::DROP_HIGH) << 32 | at(Slot::DROP_LOW)
    }

    fn dropout_into(&mut self, y: Buf, x: Buf, p: f32, stream: u64, n: usize, add: bool) -> Result<()> {
        let seed = self.seed();
        let ([x], [y]) = self.arena.views([x.f32s(n)], [y.f32s(n)])?;
        let (x, y) = (cast::<f32>(x)?, cast_mut::<f32>(y)?);
        split::rows(&self.exec, y, 1, PIECE, |i, y| ops::dropout::forward(y, &x[i..], p, seed, stream, i, add));
        Ok(())
    }
}

/// What comes with a product: where and with what factor it is put down.
type Put = (Slot, Into);

impl<X: Kernels> Host<'_, X> {
    fn forward(&mut self, y_buf: Buf, x: Buf, w: &Weight, bias: Option<Buf>, rows: Rows, put: Put, addend: Option<&Addend>) -> Result<()> {
        let (t, alpha) = (self.rows(rows), self.float(put.0));
        let (input, bias_buf) = (x.f32s(t * w.cols), bias.map_or(Buf::EMPTY, |b| b.f32s(w.rows)));
        let had = self.form_of(input);
        let (u, low, factor) = self.addend(t, addend, |low| low.cols);
        let reads = [input, w.buf, bias_buf, u, low.buf];
        let ([x, bytes, b, u, low_bytes], [y, room]) = self.arena.views(reads, [y_buf.f32s(t * w.rows), self.scratch])?;
        let (x, b, u, y) = (cast::<f32>(x)?, cast::<f32>(b)?, cast::<f32>(u)?, cast_mut::<f32>(y)?);
        let (m, exec) = (matrix(w, bytes), &self.exec);
        let form = exec.prepare(Product::Forward, x, &m, had, room);
        let along = LowRank { x: u, w: matrix(&low, low_bytes), rank: low.cols, alpha: factor };
        let along = addend.map(|_| along).filter(|low| exec.takes_low_rank(form, low.rank));
        let after = addend.filter(|_| along.is_none());
        let prepared = Prepared { form, bytes: room, addend: along };
        let b = bias.map(|_| b);
        let tile = exec.linear_tile(t, &m);
        split::tiles(exec, y, w.rows, tile.0, tile.1, |mut tile| exec.linear(&mut tile, x, prepared, &m, b, alpha, put.1));
        self.keep_form(input, form);
        after.map_or(Ok(()), |a| self.forward(y_buf, a.x, &a.w, None, rows, (a.alpha, Into::Add), None))
    }

    fn backward(&mut self, dx_buf: Buf, dy: Buf, w: &Weight, rows: Rows, put: Put, addend: Option<&Addend>) -> Result<()> {
        let (t, alpha) = (self.rows(rows), self.float(put.0));
        let input = dy.f32s(t * w.rows);
        let had = self.form_of(input);
        let (du, low, factor) = self.addend(t, addend, |low| low.rows);
        let ([dy, bytes, du, low_bytes], [dx, room]) =
            self.arena.views([input, w.buf, du, low.buf], [dx_buf.f32s(t * w.cols), self.scratch])?;
        let (dy, du, dx) = (cast::<f32>(dy)?, cast::<f32>(du)?, cast_mut::<f32>(dx)?);
        let (m, exec) = (matrix(w, bytes), &self.exec);
        let form = exec.prepare(Product::Backward, dy, &m, had, room);
        let along = LowRank { x: du, w: matrix(&low, low_bytes), rank: low.rows, alpha: factor };
        let along = addend.map(|_| along).filter(|low| exec.takes_low_rank(form, low.rank));
        let after = addend.filter(|_| along.is_none());
        let prepared = Prepared { form, bytes: room, addend: along };
        let tile = exec.backward_tile(t, &m);
        split::tiles(exec, dx, w.cols, tile.0, tile.1, |mut tile| exec.linear_backward(&mut tile, dy, prepared, &m, alpha, put.1));
        self.keep_form(input, form);
        after.map_or(Ok(()), |a| self.backward(dx_buf, a.x, &a.w, rows, (a.alpha, Into::Add), None))
    }

    /// Input, weight and factor of an addend; nothing where there is none.
    fn addend(&self, t: usize, addend: Option<&Addend>, rank: impl Fn(&Weight) -> usize) -> (Buf, Weight, f32) {
        match addend {
            Some(a) => (a.x.f32s(t * rank(&a.w)), a.w, self.float(a.alpha)),
            None => (Buf::EMPTY, Weight { buf: Buf::EMPTY, ty: Type::F32, rows: 0, cols: 0 }, 0.0),
        }
    }
}

fn matrix<'a>(w: &Weight, bytes: &'a [u8]) -> Matrix<'a> {
    Matrix { bytes, ty: w.ty, rows: w.rows, cols: w.cols }
}

/// Rows a piece, so that a piece has about [`PIECE`] numbers.
fn rows_a_piece(dim: usize) -> usize {
    (PIECE / dim.max(1)).max(1)
}

impl<X: Kernels> Target for Host<'_, X> {
    fn set(&mut self, slot: Slot, bits: u32) {
        self.slots[slot.0 as usize % Slot::COUNT] = bits;
    }

    fn slot(&self, slot: Slot) -> u32 {
        self.slots[slot.0 as usize % Slot::COUNT]
    }

    fn write(&mut self, to: Buf, bytes: &[u8]) -> Result<()> {
        if bytes.len() > to.len {
            return Err(Error::BadShape { op: "write" });
        }
        let ([], [y]) = self.arena.views([], [to.part(0, bytes.len())])?;
        y.copy_from_slice(bytes);
        Ok(())
    }

    fn step(&mut self, running: bool) {
        self.exec.hold(running);
    }

    fn check(&self) -> Result<()> {
        if self.exec.stopped() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn lend(&mut self, scratch: Buf) {
        self.scratch = scratch;
        self.keep_form(Buf::EMPTY, Form::NONE);
    }

    fn read(&mut self, from: Buf, bytes: &mut [u8]) -> Result<()> {
        if bytes.len() > from.len {
            return Err(Error::BadShape { op: "read" });
        }
        let ([x], []) = self.arena.views([from.part(0, bytes.len())], [])?;
        bytes.copy_from_slice(x);
        Ok(())
    }

    fn zero(&mut self, buf: Buf) -> Result<()> {
        let ([], [y]) = self.arena.views([], [buf])?;
        y.fill(0);
        Ok(())
    }

    fn convert(&mut self, to: Buf, to_store: Store, from: Buf, from_store: Store, rows: Rows, dim: usize) -> Result<()> {
        let n = self.rows(rows) * dim;
        let ([x], [y]) = self.arena.views([from.part(0, from_store.bytes(n))], [to.part(0, to_store.bytes(n))])?;
        match (from_store, to_store) {
            (Store::F32, Store::F32) => y.copy_from_slice(x),
            (Store::F32, Store::F16) => {
                let (x, y) = (cast::<f32>(x)?, cast_mut::<u16>(y)?);
                split::rows(&self.exec, y, 1, PIECE, |i, y| {
                    y.iter_mut().zip(&x[i..]).for_each(|(y, x)| *y = half::f16::from_f32(*x).to_bits());
                });
            }
            (Store::F16, Store::F32) => {
                let (x, y) = (cast::<u16>(x)?, cast_mut::<f32>(y)?);
                split::rows(&self.exec, y, 1, PIECE, |i, y| {
                    y.iter_mut().zip(&x[i..]).for_each(|(y, x)| *y = half::f16::from_bits(*x).to_f32());
                });
            }
            _ => return Err(Error::BadShape { op: "convert" }),
        }
        Ok(())
    }

    fn embed(&mut self, y: Buf, table: &Weight, ids: Buf, rows: Rows, scale: f32) -> Result<()> {
        let n = self.rows(rows);
        let ([table_bytes, ids], [y]) = self.arena.views([table.buf, ids.part(0, n * 4)], [y.f32s(n * table.cols)])?;
        let (ids, y) = (cast::<u32>(ids)?, cast_mut::<f32>(y)?);
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= table.rows) {
            return Err(Error::TokenOutOfRange { id, vocab: table.rows });
        }
        let dim = table.cols;
        split::rows(&self.exec, y, dim, rows_a_piece(dim), |i, y| {
            // Ids were checked above and rows are whole blocks, so this cannot fail.
            let _ = ops::embed::forward(y, table_bytes, table.ty, table.rows, &ids[i..i + y.len() / dim], scale);
        });
        Ok(())
    }

    fn rms_norm(&mut self, y: Buf, x: Buf, w: Buf, rows: Rows, dim: usize, eps: f32) -> Result<()> {
        let n = self.rows(rows) * dim;
        let ([x, w], [y]) = self.arena.views([x.f32s(n), w.f32s(dim)], [y.f32s(n)])?;
        let (x, w, y) = (cast::<f32>(x)?, cast::<f32>(w)?, cast_mut::<f32>(y)?);
        let exec = &self.exec;
        split::rows(exec, y, dim, rows_a_piece(dim), |i, y| exec.rms_norm(y, &x[i * dim..], w, eps));
        Ok(())
    }

    fn rms_norm_backward(&mut self, dx: Buf, x: Buf, w: Buf, dy: Buf, rows: Rows, dim: usize, eps: f32, into: Into) -> Result<()> {
        let n = self.rows(rows) * dim;
        let ([x, w, dy], [dx]) = self.arena.views([x.f32s(n), w.f32s(dim), dy.f32s(n)], [dx.f32s(n)])?;
        let (x, w, dy, dx) = (cast::<f32>(x)?, cast::<f32>(w)?, cast::<f32>(dy)?, cast_mut::<f32>(dx)?);
        let exec = &self.exec;
        split::rows(exec, dx, dim, rows_a_piece(dim), |i, dx| {
            exec.rms_norm_backward(dx, &x[i * dim..], w, &dy[i * dim..], eps, into == Into::Add);
        });
        Ok(())
    }

    fn linear(&mut self, y: Buf, x: Buf, w: &Weight, bias: Option<Buf>, rows: Rows, alpha: Slot, into: Into) -> Result<()> {
        self.forward(y, x, w, bias, rows, (alpha, into), None)
    }

    fn linear_backward(&mut self, dx: Buf, dy: Buf, w: &Weight, rows: Rows, alpha: Slot, into: Into) -> Result<()> {
        self.backward(dx, dy, w, rows, (alpha, into), None)
    }

    fn linear_with(&mut self, y: Buf, x: Buf, w: &Weight, bias: Option<Buf>, rows: Rows, addend: &Addend) -> Result<()> {
        self.forward(y, x, w, bias, rows, (Slot::UNIT, Into::Set), Some(addend))
    }

    fn linear_backward_with(&mut self, dx: Buf, dy: Buf, w: &Weight, rows: Rows, into: Into, addend: &Addend) -> Result<()> {
        self.backward(dx, dy, w, rows, (Slot::UNIT, into), Some(addend))
    }

    fn outer(&mut self, dw: &Weight, dy: Buf, x: Buf, rows: Rows, alpha: Slot) -> Result<()> {
        let (t, alpha) = (self.rows(rows), self.float(alpha));
        let (n, k) = (dw.rows, dw.cols);
        let ([dy, x], [dw]) = self.arena.views([dy.f32s(t * n), x.f32s(t * k)], [dw.buf.f32s(n * k)])?;
        let (dy, x, dw) = (cast::<f32>(dy)?, cast::<f32>(x)?, cast_mut::<f32>(dw)?);
        let exec = &self.exec;
        let (rows, cols) = exec.outer_tile(t, n, k);
        split::tiles(exec, dw, k, rows, cols, |mut tile| exec.outer(&mut tile, dy, x, n, k, alpha));
        Ok(())
    }

    fn rope(&mut self, x: Buf, op: &RopeOp, rows: Rows) -> Result<()> {
        let (t, dim) = (self.rows(rows), op.heads * op.head_dim);
        let ([freq, positions], [x]) =
            self.arena.views([op.frequencies.f32s(op.dims / 2), op.positions.part(0, t * 4)], [x.f32s(t * dim)])?;
        let (freq, positions, x) = (cast::<f32>(freq)?, cast::<u32>(positions)?, cast_mut::<f32>(x)?);
        let exec = &self.exec;
        split::rows(exec, x, dim, rows_a_piece(dim), |i, x| exec.rope(x, &positions[i..], freq, op));
        Ok(())
    }

    fn cache_store(&mut self, cache: &KeyValues, k: Buf, v: Buf, rows: Rows, dim: usize) -> Result<()> {
        let t = self.rows(rows);
        let start = cache.store.bytes(self.slots[Slot::POSITION.0 as usize] as usize * dim);
        let len = cache.store.bytes(t * dim);
        if start + len > cache.k.len || start + len > cache.v.len {
            return Err(Error::ContextFull { limit: cache.k.len / cache.store.bytes(dim).max(1) });
        }
        for (to, from) in [(cache.k, k), (cache.v, v)] {
            let ([x], [y]) = self.arena.views([from.f32s(t * dim)], [to.part(start, len)])?;
            quant::encode(stored(cache.store), cast::<f32>(x)?, y).map_err(|_| Error::BadShape { op: "cache_store" })?;
        }
        Ok(())
    }

    fn cache_scatter(&mut self, cache: &KeyValues, k: Buf, v: Buf, index: Buf, rows: Rows, dim: usize) -> Result<()> {
        let (t, row) = (self.rows(rows), cache.store.bytes(dim));
        for (to, from) in [(cache.k, k), (cache.v, v)] {
            let ([x, index], [y]) = self.arena.views([from.f32s(t * dim), index.part(0, t * 4)], [to])?;
            for (x, &at) in cast::<f32>(x)?.chunks_exact(dim).zip(cast::<u32>(index)?) {
                let start = at as usize * row;
                let y = y.get_mut(start..start + row).ok_or(Error::ContextFull { limit: to.len / row.max(1) })?;
                quant::encode(stored(cache.store), x, y).map_err(|_| Error::BadShape { op: "cache_scatter" })?;
            }
        }
        Ok(())
    }

    fn attention(&mut self, o: Buf, lse: Buf, q: Buf, kv: &KeyValues, sight: &Sight, rows: Rows, a: &Heads) -> Result<()> {
        let (t, e, dim) = (self.rows(rows), a.head_dim, a.kv_heads * a.head_dim);
        if e > attention::MAX_HEAD {
            return Err(Error::BadShape { op: "attention" });
        }
        let n = t * a.heads;
        let [first, last, shared_first, shared_end] = sight.parts(t);
        let ([q, k, v, first, last, shared_first, shared_end], [o, lse]) =
            self.arena.views([q.f32s(n * e), kv.k, kv.v, first, last, shared_first, shared_end], [o.f32s(n * e), lse.f32s(n)])?;
        let view = |bytes| -> Result<attention::Rows<'_>> {
            let f32s = if kv.store == Store::F32 { cast::<f32>(bytes)? } else { &[] };
            Ok(attention::Rows { bytes, f32s, store: kv.store, dim })
        };
        let (k, v, q) = (view(k)?, view(v)?, cast::<f32>(q)?);
        let held = kv.k.len.min(kv.v.len) / kv.store.bytes(dim).max(1);
        let sight = attention::Sight::new([cast(first)?, cast(last)?], [cast(shared_first)?, cast(shared_end)?], held)?;
        let exec = &self.exec;
        let (group, tokens) = (a.heads / a.kv_heads, exec.attention_tile(t, a));
        let out = (cast_mut::<f32>(o)?, cast_mut::<f32>(lse)?);
        split::tiles2(exec, out, (a.heads * e, a.heads), tokens, (group * e, group), |mut o, mut lse| {
            exec.attention(&mut o, &mut lse, q, [&k, &v], &sight, a);
        });
        Ok(())
    }

    fn attention_backward(
        &mut self,
        grads: [Buf; 3],
        d_o: Buf,
        forward: [Buf; 5],
        delta: Buf,
        sight: &Sight,
        rows: Rows,
        a: &Heads,
    ) -> Result<()> {
        let (t, e) = (self.rows(rows), a.head_dim);
        let (nq, nk) = (t * a.heads * e, t * a.kv_heads * e);
        let [q, k, v, o, lse] = forward;
        {
            let ([o, d_o], [delta]) = self.arena.views([o.f32s(nq), d_o.f32s(nq)], [delta.f32s(t * a.heads)])?;
            attention::delta(cast_mut::<f32>(delta)?, cast::<f32>(o)?, cast::<f32>(d_o)?, e);
        }
        let [first, last, shared_first, shared_end] = sight.parts(t);
        let ([q, k, v, lse, d_o, delta, first, last, shared_first, shared_end], [dq, dk, dv]) = self.arena.views(
            [
                q.f32s(nq),
                k.f32s(nk),
                v.f32s(nk),
                lse.f32s(t * a.heads),
                d_o.f32s(nq),
                delta.f32s(t * a.heads),
                first,
                last,
                shared_first,
                shared_end,
            ],
            [grads[0].f32s(nq), grads[1].f32s(nk), grads[2].f32s(nk)],
        )?;
        let f = attention::Forward {
            q: cast::<f32>(q)?,
            k: cast::<f32>(k)?,
            v: cast::<f32>(v)?,
            lse: cast::<f32>(lse)?,
            d_o: cast::<f32>(d_o)?,
            delta: cast::<f32>(delta)?,
        };
        let sight = attention::Sight::new([cast(first)?, cast(last)?], [cast(shared_first)?, cast(shared_end)?], t)?;
        let exec = &self.exec;
        let (group, tokens) = (a.heads / a.kv_heads, exec.attention_tile(t, a));
        split::tiles(exec, cast_mut::<f32>(dq)?, a.heads * e, tokens, group * e, |mut dq| {
            exec.attention_backward_q(&mut dq, &f, &sight, a);
        });
        let dim = a.kv_heads * e;
        split::tiles2(exec, (cast_mut::<f32>(dk)?, cast_mut::<f32>(dv)?), (dim, dim), tokens, (e, e), |mut dk, mut dv| {
            exec.attention_backward_kv(&mut dk, &mut dv, &f, &sight, a);
        });
        Ok(())
    }

    fn glu(&mut self, y: Buf, gate: Buf, up: Buf, act: Activation, rows: Rows, dim: usize) -> Result<()> {
        let n = self.rows(rows) * dim;
        let ([g, u], [y]) = self.arena.views([gate.f32s(n), up.f32s(n)], [y.f32s(n)])?;
        let (g, u, y) = (cast::<f32>(g)?, cast::<f32>(u)?, cast_mut::<f32>(y)?);
        let exec = &self.exec;
        split::rows(exec, y, 1, PIECE, |i, y| exec.glu(y, &g[i..], &u[i..], act));
        Ok(())
    }

    fn glu_backward(&mut self, gate: Buf, up: Buf, dy: Buf, act: Activation, rows: Rows, dim: usize) -> Result<()> {
        let n = self.rows(rows) * dim;
        let ([dy], [g, u]) = self.arena.views([dy.f32s(n)], [gate.f32s(n), up.f32s(n)])?;
        let (dy, g, u) = (cast::<f32>(dy)?, cast_mut::<f32>(g)?, cast_mut::<f32>(u)?);
        let exec = &self.exec;
        split::rows2(exec, (g, u), (1, 1), PIECE, |i, g, u| exec.glu_backward(g, u, &dy[i..], act));
        Ok(())
    }

    fn add(&mut self, y: Buf, x: Buf, rows: Rows, dim: usize) -> Result<()> {
        let n = self.rows(rows) * dim;
        let ([x], [y]) = self.arena.views([x.f32s(n)], [y.f32s(n)])?;
        let (x, y) = (cast::<f32>(x)?, cast_mut::<f32>(y)?);
        split::rows(&self.exec, y, 1, PIECE, |i, y| y.iter_mut().zip(&x[i..]).for_each(|(y, x)| *y += x));
        Ok(())
    }

    fn dropout(&mut self, y: Buf, x: Buf, p: f32, stream: u64, rows: Rows, dim: usize) -> Result<()> {
        let n = self.rows(rows) * dim;
        self.dropout_into(y, x, p, stream, n, false)
    }

    fn dropout_add(&mut self, y: Buf, x: Buf, p: f32, stream: u64, rows: Rows, dim: usize) -> Result<()> {
        let n = self.rows(rows) * dim;
        self.dropout_into(y, x, p, stream, n, true)
    }

    fn gather(&mut self, y: Buf, x: Buf, index: Buf, rows: Rows, dim: usize) -> Result<()> {
        let n = self.rows(rows);
        let ([x, index], [y]) = self.arena.views([x, index.part(0, n * 4)], [y.f32s(n * dim)])?;
        let (x, index, y) = (cast::<f32>(x)?, cast::<u32>(index)?, cast_mut::<f32>(y)?);
        for (y, &i) in y.chunks_exact_mut(dim).zip(index) {
            let start = i as usize * dim;
            y.copy_from_slice(x.get(start..start + dim).ok_or(Error::BadShape { op: "gather" })?);
        }
        Ok(())
    }

    fn scatter(&mut self, y: Buf, x: Buf, index: Buf, rows: Rows, dim: usize) -> Result<()> {
        let n = self.rows(rows);
        let ([x, index], [y]) = self.arena.views([x.f32s(n * dim), index.part(0, n * 4)], [y])?;
        let (x, index, y) = (cast::<f32>(x)?, cast::<u32>(index)?, cast_mut::<f32>(y)?);
        for (x, &i) in x.chunks_exact(dim).zip(index) {
            let start = i as usize * dim;
            y.get_mut(start..start + dim).ok_or(Error::BadShape { op: "scatter" })?.copy_from_slice(x);
        }
        Ok(())
    }

    fn spread(&mut self, x: Buf, index: Buf, rows: Rows, all: Rows, dim: usize) -> Result<()> {
        let (n, all) = (self.rows(rows), self.rows(all));
        let ([index], [x]) = self.arena.views([index.part(0, n * 4)], [x.f32s(all * dim)])?;
        let (index, x) = (cast::<u32>(index)?, cast_mut::<f32>(x)?);
        if index.windows(2).any(|w| w[0] >= w[1]) || index.last().is_some_and(|&last| last as usize >= all) {
            return Err(Error::BadShape { op: "spread" });
        }
        // From the last down: a row never moves to before where it was.
        let mut end = all;
        for (i, &to) in index.iter().enumerate().rev() {
            let to = to as usize;
            x[(to + 1) * dim..end * dim].fill(0.0);
            x.copy_within(i * dim..(i + 1) * dim, to * dim);
            end = to;
        }
        x[..end * dim].fill(0.0);
        Ok(())
    }

    fn softmax_stats(&mut self, stats: Buf, logits: Buf, targets: Buf, rows: Rows, first: usize, width: usize) -> Result<()> {
        let n = self.rows(rows);
        let ([logits, targets], [stats]) =
            self.arena.views([logits.f32s(n * width), targets.part(0, n * 4)], [stats.f32s(n * loss::STATS)])?;
        let (logits, targets, stats) = (cast::<f32>(logits)?, cast::<u32>(targets)?, cast_mut::<f32>(stats)?);
        let exec = &self.exec;
        split::rows(exec, stats, loss::STATS, rows_a_piece(width), |i, s| {
            exec.softmax_stats(s, &logits[i * width..], &targets[i..], first, width);
        });
        Ok(())
    }

    fn softmax_online(
        &mut self,
        stats: Buf,
        logits: Buf,
        sums: Buf,
        targets: Buf,
        rows: Rows,
        first: usize,
        (width, dim): (usize, usize),
    ) -> Result<()> {
        let n = self.rows(rows);
        let write = [stats.f32s(n * loss::STATS), logits.f32s(n * width), sums.f32s(n * dim)];
        let ([targets], [stats, logits, sums]) = self.arena.views([targets.part(0, n * 4)], write)?;
        let (targets, stats, logits, sums) =
            (cast::<u32>(targets)?, cast_mut::<f32>(stats)?, cast_mut::<f32>(logits)?, cast_mut::<f32>(sums)?);
        let exec = &self.exec;
        split::rows2(exec, (&mut *stats, logits), (loss::STATS, width), rows_a_piece(width), |i, s, l| {
            exec.softmax_online(s, l, &targets[i..], first, width);
        });
        let stats = &*stats;
        // Before the first chunk there is nothing, and nothing is read.
        if first > 0 {
            split::rows(exec, sums, dim, rows_a_piece(dim), |i, sums| loss::rescale(sums, &stats[i * loss::STATS..], dim));
        }
        Ok(())
    }

    fn softmax_finish(&mut self, sums: Buf, w: Buf, stats: Buf, coef: Buf, rows: Rows, dim: usize) -> Result<()> {
        let n = self.rows(rows);
        let read = [w.f32s(n * dim), stats.f32s(n * loss::STATS), coef.f32s(n)];
        let ([w, stats, coef], [sums]) = self.arena.views(read, [sums.f32s(n * dim)])?;
        let (w, stats, coef, sums) = (cast::<f32>(w)?, cast::<f32>(stats)?, cast::<f32>(coef)?, cast_mut::<f32>(sums)?);
        split::rows(&self.exec, sums, dim, rows_a_piece(dim), |i, sums| {
            loss::finish(sums, &w[i * dim..], &stats[i * loss::STATS..], &coef[i..], dim);
        });
        Ok(())
    }

    fn target_logprobs(&mut self, logprobs: Buf, stats: Buf, rows: Rows) -> Result<()> {
        let n = self.rows(rows);
        let ([stats], [y]) = self.arena.views([stats.f32s(n * loss::STATS)], [logprobs.f32s(n)])?;
        loss::logprobs(cast_mut::<f32>(y)?, cast::<f32>(stats)?);
        Ok(())
    }

    fn scores(&mut self, y: Buf, x: Buf, w: Buf, rows: Rows, dim: usize) -> Result<()> {
        let n = self.rows(rows);
        let ([x, w], [y]) = self.arena.views([x.f32s(n * dim), w.f32s(dim)], [y.f32s(n)])?;
        let (x, w, y) = (cast::<f32>(x)?, cast::<f32>(w)?, cast_mut::<f32>(y)?);
        split::rows(&self.exec, y, 1, rows_a_piece(dim), |i, y| ops::score::forward(y, &x[i * dim..], w));
        Ok(())
    }

    fn scores_backward(&mut self, [dx, dw]: [Buf; 2], x: Buf, w: Buf, coef: Buf, rows: Rows, dim: usize) -> Result<()> {
        let n = self.rows(rows);
        let read = [x.f32s(n * dim), w.f32s(dim), coef.f32s(n)];
        let ([x, w, coef], [dx, dw]) = self.arena.views(read, [dx.f32s(n * dim), dw.f32s(dim)])?;
        let (x, w, coef) = (cast::<f32>(x)?, cast::<f32>(w)?, cast::<f32>(coef)?);
        let (dx, dw) = (cast_mut::<f32>(dx)?, cast_mut::<f32>(dw)?);
        split::rows(&self.exec, dx, dim, rows_a_piece(dim), |i, dx| ops::score::backward_rows(dx, w, &coef[i..]));
        split::rows(&self.exec, dw, 1, rows_a_piece(n), |i, dw| ops::score::backward_head(dw, x, coef, dim, i));
        Ok(())
    }

    fn sum_squares(&mut self, out: Buf, x: Buf) -> Result<()> {
        let ([x], [out]) = self.arena.views([x], [out.part(0, 8)])?;
        let x = cast::<f32>(x)?;
        // Pieces of fixed size, added in their order: few enough to be summed by one thread.
        let total: f64 = x.chunks(PIECE).map(crate::math::sum_squares).sum();
        out.copy_from_slice(&total.to_le_bytes());
        Ok(())
    }

    fn adamw(&mut self, bufs: &AdamWBufs, constants: &AdamW, rate: Slot) -> Result<()> {
        let step = ops::adamw::Step {
            rate: self.float(rate),
            bias1: self.float(Slot::BIAS1),
            bias2: self.float(Slot::BIAS2),
            clip: self.float(Slot::CLIP),
        };
        let ([g], [p, m, v, ms, vs]) = self.arena.views([bufs.grads], [bufs.params, bufs.m, bufs.v, bufs.m_scales, bufs.v_scales])?;
        let (g, p) = (cast::<f32>(g)?, cast_mut::<f32>(p)?);
        if g.len() != p.len() {
            return Err(Error::BadShape { op: "adamw" });
        }
        let (exec, n) = (&self.exec, p.len());
        if bufs.m_scales.len == 0 {
            let (m, v) = (cast_mut::<f32>(m)?, cast_mut::<f32>(v)?);
            if m.len() != n || v.len() != n {
                return Err(Error::BadShape { op: "adamw" });
            }
            split::blocks5(exec, (p, [m, v], [&mut [], &mut []]), ops::adamw::BLOCK, PIECE / ops::adamw::BLOCK, |i, p, [m, v], _| {
                exec.adamw(p, &g[i..i + p.len()], m, v, constants, &step);
            });
        } else {
            let blocks = n.div_ceil(ops::adamw::BLOCK);
            if m.len() != n || v.len() != n || ms.len() != blocks * 4 || vs.len() != blocks * 4 {
                return Err(Error::BadShape { op: "adamw" });
            }
            let out = (p, [m, v], [cast_mut::<f32>(ms)?, cast_mut::<f32>(vs)?]);
            split::blocks5(exec, out, ops::adamw::BLOCK, PIECE / ops::adamw::BLOCK, |i, p, [m, v], [ms, vs]| {
                exec.adamw_8bit(p, &g[i..i + p.len()], (m, ms), (v, vs), constants, &step);
            });
        }
        Ok(())
    }
}

/// The region of every adapter, for those who bind them.
pub fn adapter_regions() -> impl Iterator<Item = Region> {
    (0..Region::MAX_ADAPTERS).filter_map(Region::adapter)
}

/// The format that a cache's rows are written in.
const fn stored(store: Store) -> Type {
    match store {
        Store::F32 => Type::F32,
        Store::F16 => Type::F16,
        Store::Q8_0 => Type::Q8_0,
    }
}
