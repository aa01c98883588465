//! Activations in 8 bits: groups of 32 with an f32 scale and the sum of the integers.
//!
//! The three parts of a row lie apart, so that a kernel loads eight scales with one instruction:
//!
//! ```text
//! qs: [D] i8      scales: [D / 32] f32      sums: [D / 32] i32      x[i] ≈ scales[i / 32] · qs[i],  sums[g] = Σ qs of group g
//! ```
//!
//! The sums let a format with an offset or a minimum (`weight = d·q + m`) take it out of the inner loop.

use libm::rintf;

use super::{Error, Q8_LANES};

/// Activations of a group.
pub const GROUP: usize = 32;

/// A row of 8-bit activations.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    qs: &'a [[i8; GROUP]],
    scales: &'a [f32],
    sums: &'a [i32],
}

/// One group of a [`Row`].
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// The integers, −127..=127.
    pub qs: &'a [i8; GROUP],
    /// What they are multiplied by.
    pub scale: f32,
    /// Their sum.
    pub sum: i32,
}

impl<'a> Row<'a> {
    /// A row from its parts: `qs: [D]`, `scales: [D / 32]`, `sums: [D / 32]`.
    ///
    /// # Errors
    /// [`Error::Activations`] if the lengths do not belong together.
    pub fn new(qs: &'a [i8], scales: &'a [f32], sums: &'a [i32]) -> Result<Row<'a>, Error> {
        let (groups, rest) = qs.as_chunks();
        if !rest.is_empty() || groups.len() != scales.len() || groups.len() != sums.len() {
            return Err(Error::Activations { elements: qs.len(), scales: scales.len(), sums: sums.len() });
        }
        Ok(Row { qs: groups, scales, sums })
    }

    /// Activations in the row.
    pub const fn len(&self) -> usize {
        self.qs.len() * GROUP
    }

    /// True if the row has no activations.
    pub const fn is_empty(&self) -> bool {
        self.qs.is_empty()
    }

    /// The integers, `[D / 32, 32]`.
    pub const fn qs(&self) -> &'a [[i8; GROUP]] {
        self.qs
    }

    /// The scales, `[D / 32]`.
    pub const fn scales(&self) -> &'a [f32] {
        self.scales
    }

    /// The sums, `[D / 32]`.
    pub const fn sums(&self) -> &'a [i32] {
        self.sums
    }

    /// The `i`-th group.
    #[inline]
    pub fn group(&self, i: usize) -> Option<Group<'a>> {
        Some(Group { qs: self.qs.get(i)?, scale: *self.scales.get(i)?, sum: *self.sums.get(i)? })
    }

    /// `count` groups from the `first` on, as a row; empty if there are fewer.
    #[inline]
    pub fn groups(&self, first: usize, count: usize) -> Row<'a> {
        let range = first..first.saturating_add(count);
        Row {
            qs: self.qs.get(range.clone()).unwrap_or(&[]),
            scales: self.scales.get(range.clone()).unwrap_or(&[]),
            sums: self.sums.get(range).unwrap_or(&[]),
        }
    }

    /// All groups in order.
    pub fn iter(&self) -> impl Iterator<Item = Group<'a>> + use<'a> {
        let rest = self.scales.iter().zip(self.sums);
        self.qs.iter().zip(rest).map(|(qs, (&scale, &sum))| Group { qs, scale, sum })
    }
}

/// Quantises activations: `scale = max |x| / 127`, `q = round(x · (127 / max |x|))`, ties to even, every operation rounded to f32.
///
/// A group with a NaN or an infinity gets the scale NaN and integers of zero, so that it is seen in the result. A group whose scale would
/// be subnormal counts as zero.
///
/// `x: [D]`, `qs: [D]`, `scales: [D / 32]`, `sums: [D / 32]`.
///
/// # Errors
/// [`Error::Activations`] if the lengths do not belong together.
pub fn quantise_activations(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i32]) -> Result<(), Error> {
    let wrong = Error::Activations { elements: x.len().max(qs.len()), scales: scales.len(), sums: sums.len() };
    let (x, rest) = x.as_chunks::<GROUP>();
    let (qs, qs_rest) = qs.as_chunks_mut::<GROUP>();
    if !rest.is_empty() || !qs_rest.is_empty() || x.len() != qs.len() || x.len() != scales.len() || x.len() != sums.len() {
        return Err(wrong);
    }
    for (((x, qs), scale), sum) in x.iter().zip(qs).zip(scales).zip(sums) {
        (*scale, *sum) = quantise_group(x, qs);
    }
    Ok(())
}

/// Quantises one group; gives its scale and the sum of its integers.
#[inline]
pub fn quantise_group(x: &[f32; GROUP], qs: &mut [i8; GROUP]) -> (f32, i32) {
    let mut largest = 0.0f32;
    let mut finite = true;
    for v in x {
        largest = largest.max(v.abs());
        finite &= v.is_finite();
    }
    if !finite {
        *qs = [0; GROUP];
        return (f32::NAN, 0);
    }
    let scale = largest / 127.0;
    // Below the smallest normal number the inverse would overflow: such a group counts as zero.
    if scale < f32::MIN_POSITIVE {
        *qs = [0; GROUP];
        return (0.0, 0);
    }
    let inverse = 127.0 / largest;
    let mut sum = 0;
    for (q, v) in qs.iter_mut().zip(x) {
        *q = rintf(v * inverse) as i8;
        sum += i32::from(*q);
    }
    (scale, sum)
}

/// `Σ w·x` of small unsigned integers and 8-bit activations.
#[inline]
pub(super) fn products<const N: usize>(w: &[u8; N], x: &[i8; N]) -> i32 {
    w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum()
}

/// Adds a group's product to the running sum that its index in the row names.
#[inline]
pub(super) fn add(sums: &mut [f32; Q8_LANES], group: usize, value: f32) {
    if let Some(sum) = sums.get_mut(group % Q8_LANES) {
        *sum += value;
    }
}
