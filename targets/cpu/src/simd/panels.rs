//! Panels: some rows of a quantised weight as signed bytes, side by side in the order in which an instruction multiplies them, with a scale and a minimum
//! for each row and group. A panel is decoded once and used for all tokens of a tile.
//!
//! ```text
//! weights      [group][32 · ROWS]               how the bytes lie is up to the instruction
//! scales       [group][halves][ROWS] f32        one for a group, two for formats that scale 16 weights; COPIES of each
//! minimums     [group][ROWS] f32                COPIES of each
//! starts       [group][halves][ROWS] i32        where sums begin, for instructions that need it
//! activations  [block][group][32 · TOKENS]      32 bytes of each token of a block, again up to the instruction
//! factors      [block][group][TOKENS] f32       the tokens' scales, and those times the sums of their groups
//! ```
//!
//! # What a product is
//! Integer sums over 32 weights (16 where these have a scale of their own) are exact. A running sum takes one after the other, and then, where there are
//! minimums, the minimum: `s = fma(f32(Σ q·x) · d, dx, s)`, `s = fma(m, dx · f32(Σ x), s)`. `d` and `m` are the group's scale and minimum, in Q4_K,
//! Q5_K and Q6_K products of two numbers. All instruction sets sum in this order, so that they agree to the bit.
#![allow(unsafe_code)]

use attune_core::quant::Type;

/// Rows that are packed at once: those of one panel or of several.
pub(crate) const WIDE: usize = 32;
/// The most tokens of a block.
pub(crate) const MAX_TOKENS: usize = 12;

/// What a panel is multiplied with.
#[derive(Clone, Copy)]
pub(crate) struct Panel {
    /// The packed rows.
    pub(crate) packed: Room,
    /// A block of tokens' activations, and their factors.
    pub(crate) x: *const u8,
    pub(crate) dx: *const f32,
    pub(crate) sx: *const f32,
    pub(crate) groups: usize,
}

/// Where a panel lies.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub(crate) weights: *mut i8,
    pub(crate) scales: *mut f32,
    pub(crate) minimums: *mut f32,
    #[cfg_attr(target_arch = "aarch64", allow(dead_code))]
    pub(crate) starts: *mut i32,
}

/// How an instruction multiplies panels.
pub(crate) trait Multiply {
    /// Rows of a panel, of which a few make [`WIDE`].
    const ROWS: usize;
    /// Tokens of a block: a multiple of four, at most [`MAX_TOKENS`].
    const TOKENS: usize;

    /// Packs `groups` groups of ROWS rows; each address is that of a row's first block of them. Formats with other [`parts`] leave the room as it is.
    ///
    /// # Safety
    /// So many groups, a whole number of blocks, must be readable in each of the first ROWS rows, and the room must hold them; the processor must have the
    /// instruction.
    unsafe fn pack<const SPLIT: bool, const MIN: bool>(ty: Type, rows: &[*const u8; WIDE], groups: usize, to: Room);

    /// Rounds a block of tokens' activations: the addresses of TOKENS rows, or null for a token that is not there, which counts as zeros.
    ///
    /// # Safety
    /// `32 · groups` numbers must be readable at each address; `x` must be writable for as many bytes of each token, `dx` and `sx` for as many numbers as
    /// there are groups and tokens. The processor must have the instruction.
    unsafe fn round(rows: &[*const f32; MAX_TOKENS], groups: usize, x: *mut u8, dx: *mut f32, sx: *mut f32);

    /// Adds `alpha` times the products of a panel's rows with the first `tokens` tokens of a block, at least one, to `to: [token][WIDE]`, each by one fused
    /// multiplication; what stands for further tokens is left open. `SPLIT`: a scale for 16 weights. `MIN`: there are minimums.
    ///
    /// # Safety
    /// All of the panel's parts must hold `groups` groups, and `to` ROWS numbers for each of TOKENS tokens; the processor must have the instruction.
    unsafe fn product<const SPLIT: bool, const MIN: bool>(p: Panel, tokens: usize, alpha: f32, to: *mut f32);
}

/// Whether a format has a scale for 16 weights, and whether it has minimums.
pub(crate) const fn parts(ty: Type) -> (bool, bool) {
    match ty {
        Type::Q6K => (true, false),
        Type::Q4_1 | Type::Q5_1 | Type::Q4K | Type::Q5K => (false, true),
        _ => (false, false),
    }
}
