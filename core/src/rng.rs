//! Counter-based randomness: a number is a pure function of a seed, a stream and an index, so that any piece of work can draw its own
//! without a shared state, in any order, on any number of threads.
//!
//! The mixing function is SplitMix64's finaliser (Steele, Lea, Flood 2014), applied twice.

/// 64 random bits for `(seed, stream, index)`.
#[inline]
#[must_use]
pub fn bits(seed: u64, stream: u64, index: u64) -> u64 {
    mix(mix(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(index.wrapping_mul(0xd1b5_4a32_d192_ed03)))
}

/// A uniform number in `[0, 1)` with 24 bits.
#[inline]
#[must_use]
pub fn uniform(seed: u64, stream: u64, index: u64) -> f32 {
    (bits(seed, stream, index) >> 40) as f32 * (1.0 / 16_777_216.0)
}

#[inline]
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_numbers_fill_the_unit_interval_evenly() {
        let mut counts = [0usize; 10];
        for i in 0..100_000 {
            counts[(uniform(7, 3, i) * 10.0) as usize] += 1;
        }
        assert!(counts.iter().all(|&c| (9_500..10_500).contains(&c)), "{counts:?}");
    }

    #[test]
    fn streams_and_seeds_differ() {
        assert_ne!(bits(1, 0, 0), bits(2, 0, 0));
        assert_ne!(bits(1, 0, 0), bits(1, 1, 0));
        assert_ne!(bits(1, 0, 0), bits(1, 0, 1));
    }
}
