//! Which examples an update takes: rows of one example, or of several that are packed, in the order of the epoch.

use super::{Examples, TuneOptions};
use crate::data::{Order, Position, pack};

/// The rows of a run.
pub(crate) struct Rows {
    /// With packing, the examples of each row; else empty, and row `i` is example `i`.
    packed: Vec<Vec<usize>>,
    count: u64,
    per_update: u64,
    seed: u64,
    shuffle: bool,
}

/// Examples that are packed together at once, so that a shuffled file stays mixed.
const WINDOW: usize = 1024;

impl Rows {
    /// A row an example.
    pub(crate) fn single(count: usize, options: &TuneOptions) -> Rows {
        Rows {
            packed: Vec::new(),
            count: count as u64,
            per_update: (options.batch_size * options.gradient_accumulation) as u64,
            seed: options.seed,
            shuffle: options.shuffle,
        }
    }

    pub(super) fn new(train: &Examples, options: &TuneOptions) -> Rows {
        if !options.packing {
            return Rows::single(train.len(), options);
        }
        let lengths: Vec<usize> = (0..train.len()).map(|i| train.length(i)).collect();
        let packed: Vec<Vec<usize>> = pack(&lengths, options.max_length, WINDOW).into_iter().map(|row| row.examples).collect();
        let count = packed.len();
        Rows { packed, ..Rows::single(count, options) }
    }

    pub(crate) fn updates_per_epoch(&self) -> u64 {
        self.count.div_ceil(self.per_update).max(1)
    }

    /// The rows of the update at `position`, and the position behind it. An epoch's last update takes what is left.
    pub(crate) fn update(&self, position: Position) -> (impl Iterator<Item = u64> + use<>, Position) {
        let order = Order::at(self.count, self.seed, self.shuffle, position);
        let from = order.position();
        let take = self.per_update.min(self.count - from.index);
        let end = from.index + take;
        let next = if end == self.count { Position { epoch: from.epoch + 1, index: 0 } } else { Position { index: end, ..from } };
        (order.take(take as usize), next)
    }

    pub(super) fn examples(&self, row: u64) -> impl Iterator<Item = usize> + '_ {
        let row = row as usize;
        let packed = self.packed.get(row);
        let single = packed.is_none().then_some(row);
        packed.into_iter().flatten().copied().chain(single)
    }

    /// How many micro-batches of `capacity` tokens an update may need, when a row has up to `longest`: two neighbours together always fill more than
    /// one, so twice the quotient does.
    pub(super) fn most_micro_batches(&self, capacity: usize, longest: usize) -> usize {
        let tokens = self.per_update as usize * longest;
        if capacity >= longest * self.per_update as usize { 1 } else { (2 * tokens).div_ceil(capacity).min(self.per_update as usize) }
    }
}
