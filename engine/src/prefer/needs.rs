//! What a preference run takes, before it is taken.

use super::examples::Sizes;
use crate::tuner::TuneOptions;
use attune_core::objective::Method;

/// What a preference run needs besides what every tuning run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// How large examples are.
    pub(crate) sizes: Sizes,
    /// Sums of the reference that are kept in memory.
    pub(crate) references: usize,
    /// Log-probabilities of held-out tokens that are kept beside them.
    pub(crate) tokens: usize,
    /// Whether each update has mismatched answers too.
    pub(crate) foreign: bool,
}

impl Needs {
    /// How many micro-batches an update may need.
    pub(crate) fn micro_batches(&self, options: &TuneOptions, capacity: usize) -> usize {
        let per_update = options.batch_size * options.gradient_accumulation;
        if self.sizes.group > capacity {
            return per_update * self.sizes.members.max(1);
        }
        // One is full when it holds `batch_size` groups, or when the next would not fit; of the latter two neighbours hold more than one's tokens.
        let by_tokens = (2 * per_update * self.sizes.group).div_ceil(capacity.max(1));
        if capacity >= options.batch_size * self.sizes.group {
            options.gradient_accumulation
        } else {
            (options.gradient_accumulation + by_tokens).min(per_update)
        }
    }
}

/// Whether KTO's mismatched answers are needed.
pub(super) fn divergence(method: &Method) -> bool {
    matches!(method, Method::Kto(kto) if kto.needs_divergence())
}
