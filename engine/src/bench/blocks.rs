//! Random blocks of every weight format, made as bytes: no f32 weights exist at any time.
//!
//! Integers are uniform over what the format's quantiser gives, scales vary by a quarter and have both signs where the format has, so that the
//! weights' mean is zero and their deviation the one asked for.

use attune_core::quant::{SubScales, Type};
use attune_core::rng;
use half::{bf16, f16};

/// Bytes that exist at once, about.
const PIECE: usize = 1 << 20;

/// Scales to choose from, by the random byte that stands where a block's scale goes.
const CHOICES: usize = 256;

const SEED: u64 = 0x6174_7475_6e65;

/// Makes `count` blocks of type `ty` whose weights have standard deviation `std`, piece after piece; `stream` tells tensors apart.
///
/// # Errors
/// The listener's.
pub(super) fn random<E>(ty: Type, std: f32, stream: u64, count: usize, mut listen: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let tables = Tables::new(ty, std, stream);
    let size = ty.block_bytes();
    let per_piece = (PIECE / size).max(1);
    let mut piece = vec![0; per_piece.min(count) * size];
    let (mut done, mut draws) = (0, 0);
    while done < count {
        let n = per_piece.min(count - done);
        let bytes = piece.get_mut(..n * size).unwrap_or_default();
        for word in bytes.chunks_mut(8) {
            let random = rng::bits(SEED, stream, draws).to_le_bytes();
            draws += 1;
            word.copy_from_slice(random.get(..word.len()).unwrap_or(&random));
        }
        tables.finish(ty, bytes);
        listen(bytes)?;
        done += n;
    }
    Ok(())
}

/// What random bytes are turned into.
struct Tables {
    /// Numbers for float types, by 16 random bits: the bits of the type.
    floats: Vec<u16>,
    /// Half the width of the floats' range.
    reach: f32,
    /// A block's scale.
    scales: Vec<[u8; 2]>,
    /// A block's offset, minimum, or scale of minimums, matching the scale of the same index.
    offsets: Vec<[u8; 2]>,
    /// Scales and minimums of sub-blocks, equal so that the mean is zero.
    subs: Vec<[u8; 12]>,
}

impl Tables {
    fn new(ty: Type, std: f32, stream: u64) -> Tables {
        // The deviation of a uniform number is its reach over √3.
        let reach = std * 3.0f32.sqrt();
        let floats = match ty {
            Type::F16 | Type::BF16 => (0..=u16::MAX).map(|i| float_bits(ty, (f32::from(i) - 32_767.5) / 32_767.5 * reach)).collect(),
            _ => Vec::new(),
        };
        // Deviation of a block's integers, times that of its sub-blocks' scales; and what lies between the smallest integer and their middle.
        let (spread, middle) = match ty {
            Type::Q8_0 => (73.6, 0.0),
            Type::Q4_0 => (4.64, 0.0),
            Type::Q4_1 => (4.61, 7.5),
            Type::Q5_0 => (9.25, 0.0),
            Type::Q5_1 => (9.23, 15.5),
            Type::Q4K => (4.61 * 48.4, 7.5),
            Type::Q5K => (9.23 * 48.4, 15.5),
            Type::Q6K => (18.48 * 84.2, 0.0),
            Type::F32 | Type::F16 | Type::BF16 => (1.0, 0.0),
        };
        let signed = matches!(ty, Type::Q8_0 | Type::Q4_0 | Type::Q5_0);
        let draw = |i: usize, what: u64| rng::uniform(SEED ^ what, stream, i as u64);
        let sizes: Vec<f32> =
            (0..CHOICES).map(|i| std / spread * (0.75 + 0.5 * draw(i, 1)) * if signed && i % 2 == 1 { -1.0 } else { 1.0 }).collect();
        let half = |x: f32| f16::from_f32(x).to_le_bytes();
        // Minimums are taken away in K-quants, offsets are added elsewhere.
        let sign = if matches!(ty, Type::Q4K | Type::Q5K) { middle } else { -middle };
        let sub = |i: usize| {
            let scales: [u8; 8] = std::array::from_fn(|j| 32 + (draw(i * 8 + j, 2) * 32.0) as u8);
            SubScales::pack(scales, scales).0
        };
        Tables {
            floats,
            reach,
            scales: sizes.iter().map(|&d| half(d)).collect(),
            offsets: sizes.iter().map(|&d| half(d * sign)).collect(),
            subs: (0..CHOICES).map(sub).collect(),
        }
    }

    /// Turns random bytes into whole blocks.
    fn finish(&self, ty: Type, bytes: &mut [u8]) {
        match ty {
            Type::F32 => bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|x| {
                *x = (i32::from_le_bytes(*x) as f32 * (self.reach / 2_147_483_648.0)).to_le_bytes();
            }),
            Type::F16 | Type::BF16 => bytes.as_chunks_mut::<2>().0.iter_mut().for_each(|x| {
                *x = self.floats.get(usize::from(u16::from_le_bytes(*x))).copied().unwrap_or_default().to_le_bytes();
            }),
            Type::Q4_0 | Type::Q5_0 | Type::Q8_0 => bytes.chunks_exact_mut(ty.block_bytes()).for_each(|block| self.one_scale(ty, block)),
            Type::Q4_1 | Type::Q5_1 | Type::Q4K | Type::Q5K => {
                bytes.chunks_exact_mut(ty.block_bytes()).for_each(|block| self.scale_and_offset(ty, block));
            }
            Type::Q6K => bytes.chunks_exact_mut(ty.block_bytes()).for_each(|block| self.q6_k(block)),
        }
    }

    /// A scale, then integers.
    fn one_scale(&self, ty: Type, block: &mut [u8]) {
        let Some((scale, integers)) = block.split_first_chunk_mut::<2>() else { return };
        *scale = pick(&self.scales, scale[0]);
        if ty == Type::Q8_0 {
            // Quantisers never give −128.
            integers.iter_mut().for_each(|q| *q += u8::from(*q == 0x80));
        }
    }

    /// A scale, an offset, in K-quants twelve bytes of sub-blocks' scales and minimums, then integers.
    fn scale_and_offset(&self, ty: Type, block: &mut [u8]) {
        let Some((head, rest)) = block.split_first_chunk_mut::<4>() else { return };
        let ([a, b], [c, d]) = (pick(&self.scales, head[0]), pick(&self.offsets, head[0]));
        *head = [a, b, c, d];
        if matches!(ty, Type::Q4K | Type::Q5K)
            && let Some(sub) = rest.first_chunk_mut::<12>()
        {
            *sub = pick(&self.subs, sub[0]);
        }
    }

    /// Integers, sixteen signed scales, a scale of them.
    fn q6_k(&self, block: &mut [u8]) {
        let Some((rest, scale)) = block.split_last_chunk_mut::<2>() else { return };
        *scale = pick(&self.scales, scale[0]);
        if let Some(scales) = rest.last_chunk_mut::<16>() {
            // 32 to 127 with either sign.
            scales.iter_mut().for_each(|s| {
                let size = 32 + (u16::from(*s & 127) * 96 / 128) as i8;
                *s = (if *s < 128 { size } else { -size }) as u8;
            });
        }
    }
}

fn pick<T: Copy + Default>(table: &[T], byte: u8) -> T {
    table.get(usize::from(byte)).copied().unwrap_or_default()
}

fn float_bits(ty: Type, x: f32) -> u16 {
    if ty == Type::F16 { f16::from_f32(x).to_bits() } else { bf16::from_f32(x).to_bits() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use attune_core::quant;

    fn weights(ty: Type, std: f32, stream: u64, count: usize) -> Vec<f32> {
        let mut bytes = Vec::new();
        random(ty, std, stream, count, |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), ()>(())
        })
        .unwrap();
        let mut out = vec![0.0; count * ty.block_len()];
        quant::decode(ty, &bytes, &mut out).unwrap();
        out
    }

    #[test]
    fn weights_of_every_type_have_the_deviation_asked_for_and_no_mean() {
        for ty in Type::ALL {
            for std in [0.02f32, 0.04] {
                let x = weights(ty, std, 7, (1 << 19) / ty.block_len());
                let n = x.len() as f64;
                let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
                let deviation = (x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n).sqrt();
                assert!(mean.abs() < 0.01 * f64::from(std), "{ty}: mean {mean}");
                assert!((0.95..1.05).contains(&(deviation / f64::from(std))), "{ty}: deviation {deviation}, asked for {std}");
            }
        }
    }

    #[test]
    fn tensors_differ_and_each_is_always_the_same() {
        for ty in Type::ALL {
            let count = 2048 / ty.block_len();
            assert_eq!(weights(ty, 0.1, 3, count), weights(ty, 0.1, 3, count), "{ty}");
            assert_ne!(weights(ty, 0.1, 3, count), weights(ty, 0.1, 4, count), "{ty}");
        }
    }
}
