//! What a measurement gives.

use serde::Serialize;

/// A quantity that was measured several times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one number; of none, zeros.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
        let (n, middle) = (values.len(), values.len() / 2);
        let median = if n > 0 && n.is_multiple_of(2) { (at(middle - 1) + at(middle)) / 2.0 } else { at(middle) };
        Spread { median, min: at(0), max: at(n.saturating_sub(1)) }
    }

    /// As often as `amount` is done in the measured seconds.
    #[must_use]
    pub fn rate(self, amount: f64) -> Spread {
        let rate = |seconds: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
        Spread { median: rate(self.median), min: rate(self.max), max: rate(self.min) }
    }
}

/// What the machine did in loops that do one thing only, in a second, on as many threads as the rest was measured on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes read from a stretch of memory that no cache holds.
    pub memory_bytes: f64,
    /// Bytes read from the mapped model file, which a cache may hold in part.
    pub weights_bytes: f64,
    /// Operations with f32 vectors.
    pub f32_ops: Option<f64>,
    /// Operations with 8-bit integers.
    pub int8_ops: Option<f64>,
    /// Operations with bf16 pairs.
    pub bf16_ops: Option<f64>,
    /// Operations with tiles of 8-bit integers.
    pub tile_int8_ops: Option<f64>,
    /// Operations with tiles of bf16.
    pub tile_bf16_ops: Option<f64>,
}

/// Useful operations a second, and their share of each limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shares {
    /// Operations a second that the result needs; see [`Cost`](super::Cost).
    pub ops: f64,
    /// Share of the f32 peak.
    pub of_f32: Option<f64>,
    /// Share of the 8-bit peak.
    pub of_int8: Option<f64>,
    /// Share of the bf16 peak.
    pub of_bf16: Option<f64>,
    /// Share of the 8-bit tiles' peak.
    pub of_tile_int8: Option<f64>,
    /// Share of the bf16 tiles' peak.
    pub of_tile_bf16: Option<f64>,
}

impl Shares {
    pub(super) fn of(ops: f64, limits: &Limits) -> Shares {
        let share = |limit: Option<f64>| limit.filter(|limit| *limit > 0.0).map(|limit| ops / limit);
        Shares {
            ops,
            of_f32: share(limits.f32_ops),
            of_int8: share(limits.int8_ops),
            of_bf16: share(limits.bf16_ops),
            of_tile_int8: share(limits.tile_int8_ops),
            of_tile_bf16: share(limits.tile_bf16_ops),
        }
    }
}

/// Tokens a second of one kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// Tokens of one run.
    pub tokens: usize,
    /// Tokens a second.
    pub tps: Spread,
}

/// A training step: forward and backward pass over one batch in which every token but the first is a target, and one update.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Training {
    /// Tokens of the batch.
    pub tokens: usize,
    /// Rank of the adapter, on all seven linears of every layer.
    pub rank: u32,
    /// Tokens a second of the whole step.
    pub tps: Spread,
    /// Milliseconds of the forward pass, loss included.
    pub forward_ms: Spread,
    /// Milliseconds of the backward pass.
    pub backward_ms: Spread,
    /// Milliseconds of the update.
    pub update_ms: Spread,
    /// Bytes resident while it ran, the whole process's, without the mapped model file.
    pub peak_bytes: Option<u64>,
    /// Bytes that the plan named beforehand for the run, without the rest of the process.
    pub planned_bytes: u64,
    /// The forward pass's operations.
    pub forward: Option<Shares>,
    /// The backward pass's operations.
    pub backward: Option<Shares>,
}

/// All of it. The names at the top are the command line's contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The file that was measured.
    pub model: String,
    /// Tokens a second when a prompt is taken in: the median.
    pub prefill_tps: Option<f64>,
    /// Tokens a second when an answer is made: the median.
    pub decode_tps: Option<f64>,
    /// Tokens a second of training, forward, backward and update together: the median.
    pub train_tps: Option<f64>,
    /// Bytes resident during a training step, without the mapped model file.
    pub train_peak_bytes: Option<u64>,
    /// Milliseconds from opening the file to the likeliest token after a prompt of one token.
    pub first_token_ms: Option<f64>,
    /// The instruction set of the kernels.
    pub isa: &'static str,
    /// Threads.
    pub threads: usize,
    /// How products are computed: `f32` or `fast`.
    pub precision: &'static str,
    /// Bytes of the file.
    pub model_bytes: u64,
    /// Bytes that decoding one token reads: weights, and keys and values of half the tokens that were decoded.
    pub decode_bytes_per_token: Option<f64>,
    /// Share of the reading rate over the weights that decoding reaches.
    pub decode_share_of_read: Option<f64>,
    /// Prefill in detail.
    pub prefill: Option<Speed>,
    /// Decoding in detail.
    pub decode: Option<Speed>,
    /// Milliseconds to the first token in detail.
    pub first_token: Option<Spread>,
    /// Prefill's operations.
    pub prefill_ops: Option<Shares>,
    /// Training in detail.
    pub train: Option<Training>,
    /// The machine's limits.
    pub limits: Option<Limits>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_both_ends_in_any_order() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of(Vec::new()), Spread { median: 0.0, min: 0.0, max: 0.0 });
    }

    #[test]
    fn the_longest_time_is_the_lowest_rate() {
        let rate = Spread { median: 2.0, min: 1.0, max: 4.0 }.rate(8.0);
        assert_eq!(rate, Spread { median: 4.0, min: 2.0, max: 8.0 });
    }
}
