//! The order in which examples are met: shuffled, reproducible on every platform, resumable, and stored nowhere.
//!
//! Epoch `e` of a run with seed `s` visits the examples in the order of a permutation of `0..n` that is computed point
//! by point, with the swap-or-not shuffle (Hoang, Morris, Rogaway, "An Enciphering Scheme Based on a Card Shuffle",
//! 2012): in each round a key `K` pairs every `x` with `K − x mod n`, and one pseudo-random bit of the pair decides
//! whether the two change places. Every round is a permutation for any `n`, so the whole is; no list of `n` numbers
//! exists, and going on from position `p` needs nothing but `p`.

/// Rounds of the shuffle. Mixing needs some multiple of log2 n of them; 64 is ample for sets of any practical size.
const ROUNDS: u64 = 64;

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection of 64-bit words with full avalanche.
pub(crate) const fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Where a run stands in its data: what a checkpoint keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Epochs completed.
    pub epoch: u64,
    /// Examples of this epoch already taken.
    pub index: u64,
}

/// An endless sequence of examples: epoch after epoch, each in its own order.
///
/// ```
/// use attune::data::Order;
/// let mut order = Order::new(5, 42, true);
/// let first: Vec<u64> = order.by_ref().take(7).collect();
/// // Going on from a saved position gives what would have come next.
/// let mut resumed = Order::at(5, 42, true, order.position());
/// assert_eq!(order.next(), resumed.next());
/// assert_eq!(first.len(), 7);
/// ```
#[derive(Clone, Debug)]
pub struct Order {
    len: u64,
    seed: u64,
    shuffle: bool,
    position: Position,
}

impl Order {
    /// The order over `len` examples from the start; without `shuffle`, as they stand in the file.
    pub fn new(len: u64, seed: u64, shuffle: bool) -> Self {
        Self::at(len, seed, shuffle, Position::default())
    }

    /// The order from a saved position on.
    pub fn at(len: u64, seed: u64, shuffle: bool, position: Position) -> Self {
        let mut order = Self { len, seed, shuffle, position };
        order.roll();
        order
    }

    /// What to save, to go on from here.
    pub fn position(&self) -> Position {
        self.position
    }

    /// How many examples one epoch has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no examples at all; then [`Iterator::next`] gives none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The example at place `index` (below [`len`](Self::len)) of an epoch, wherever the order stands.
    pub fn example(&self, epoch: u64, index: u64) -> Option<u64> {
        if index >= self.len {
            return None;
        }
        Some(if self.shuffle { permute(index, self.len, self.seed, epoch) } else { index })
    }

    fn roll(&mut self) {
        if self.len > 0 && self.position.index >= self.len {
            self.position.epoch = self.position.epoch.saturating_add(self.position.index / self.len);
            self.position.index %= self.len;
        }
    }
}

impl Iterator for Order {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let example = self.example(self.position.epoch, self.position.index)?;
        self.position.index += 1;
        self.roll();
        Some(example)
    }
}

/// The image of `x < n` under the permutation of (`seed`, `epoch`).
fn permute(mut x: u64, n: u64, seed: u64, epoch: u64) -> u64 {
    let key = mix(mix(seed) ^ epoch.wrapping_mul(0xd6e8_feb8_6659_fd93));
    for round in 0..ROUNDS {
        let round_key = mix(key ^ round.wrapping_mul(0xa076_1d64_78bd_642f));
        // x, K < n: K − x mod n without overflow.
        let k = round_key % n;
        let partner = if k >= x { k - x } else { n - (x - k) };
        let pair = x.max(partner);
        if mix(round_key.rotate_left(32) ^ pair) & 1 == 1 {
            x = partner;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_a_permutation_for_any_length() {
        for n in [1u64, 2, 3, 5, 16, 17, 100, 999, 4096] {
            let order = Order::new(n, 7, true);
            for epoch in 0..3 {
                let mut seen = vec![false; n as usize];
                for i in 0..n {
                    let x = order.example(epoch, i).unwrap_or(n) as usize;
                    assert!(!seen[x], "{x} twice in epoch {epoch} of {n}");
                    seen[x] = true;
                }
            }
        }
    }

    #[test]
    fn short_permutations_are_all_reached_about_equally_often() {
        let mut counts = std::collections::BTreeMap::new();
        let trials = 24_000u32;
        for seed in 0..u64::from(trials) {
            let p: Vec<u64> = Order::new(4, seed, true).take(4).collect();
            *counts.entry(p).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        // Chi-square with 23 degrees of freedom: 49.7 is passed once in a thousand.
        let expected = f64::from(trials) / 24.0;
        let chi: f64 = counts.values().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        assert!(chi < 49.7, "chi-square {chi}");
    }

    #[test]
    fn the_order_is_the_same_on_every_platform() {
        let order: Vec<u64> = Order::new(10, 42, true).take(20).collect();
        assert_eq!(order, GOLDEN_ORDER);
    }

    #[test]
    fn epochs_and_seeds_give_different_orders() {
        let of = |seed, epoch| -> Vec<u64> { (0..50).filter_map(|i| Order::new(50, seed, true).example(epoch, i)).collect() };
        assert_ne!(of(1, 0), of(1, 1));
        assert_ne!(of(1, 0), of(2, 0));
        let unshuffled: Vec<u64> = Order::new(3, 9, false).take(7).collect();
        assert_eq!(unshuffled, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn resuming_anywhere_gives_the_same_remainder() {
        let whole: Vec<u64> = Order::new(13, 5, true).take(40).collect();
        let mut order = Order::new(13, 5, true);
        for k in 0..40 {
            let rest: Vec<u64> = Order::at(13, 5, true, order.position()).take(40 - k).collect();
            assert_eq!(rest, whole[k..]);
            order.next();
        }
        assert_eq!(order.position(), Position { epoch: 3, index: 1 });
    }

    #[test]
    fn neighbours_in_the_file_do_not_stay_neighbours() {
        let p: Vec<u64> = Order::new(10_000, 3, true).take(10_000).collect();
        let near = p.windows(2).filter(|w| w[0].abs_diff(w[1]) <= 10).count();
        // By chance about 20 of 10 000 land within 10 of each other.
        assert!(near < 60, "{near} of 10000");
        let mean: f64 = p[..1000].iter().map(|&x| x as f64).sum::<f64>() / 1000.0;
        assert!((mean - 5000.0).abs() < 400.0, "the first tenth averages {mean}");
    }

    #[test]
    fn no_examples_give_no_order() {
        assert_eq!(Order::new(0, 1, true).next(), None);
    }

    // Computed by a few lines of Python from the description above.
    const GOLDEN_ORDER: [u64; 20] = [8, 0, 6, 5, 4, 9, 7, 2, 1, 3, 9, 2, 3, 6, 0, 5, 1, 8, 4, 7];
}
