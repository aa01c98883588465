#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

/// Numbers like weights, from a small generator.
fn weights<const N: usize>(seed: u32) -> [f32; N] {
    let mut state = seed.wrapping_mul(2_654_435_769) | 1;
    core::array::from_fn(|_| {
        let mut sum = 0.0;
        for _ in 0..4 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            sum += (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
        }
        sum * 0.1
    })
}

fn bytes_of<'a>(ty: Type, x: &[f32], buffer: &'a mut [u8]) -> &'a [u8] {
    let out = &mut buffer[..ty.row_bytes(x.len()).unwrap()];
    encode(ty, x, out).unwrap();
    out
}

#[test]
fn every_type_is_found_by_its_number_and_its_name() {
    for ty in Type::ALL {
        assert_eq!(Type::from_ggml(ty.ggml()), Some(ty));
        assert_eq!(Type::from_name(ty.name()), Some(ty));
    }
    assert_eq!(Type::from_ggml(4), None);
    assert_eq!(Type::from_name("q4_k"), Some(Type::Q4K));
}

#[test]
fn a_round_trip_stays_within_each_types_precision() {
    let x: [f32; 512] = weights(1);
    let power = x.iter().map(|v| v * v).sum::<f32>();
    let mut buffer = [0; 2048];
    for (ty, limit) in [
        (Type::F32, 0.0),
        (Type::F16, 3e-4),
        (Type::BF16, 3e-3),
        (Type::Q8_0, 6e-3),
        (Type::Q4_0, 0.1),
        (Type::Q4_1, 0.09),
        (Type::Q5_0, 0.05),
        (Type::Q5_1, 0.045),
        (Type::Q4K, 0.08),
        (Type::Q5K, 0.04),
        (Type::Q6K, 0.02),
    ] {
        let mut y = [0.0; 512];
        decode(ty, bytes_of(ty, &x, &mut buffer), &mut y).unwrap();
        let error = x.iter().zip(&y).map(|(x, y)| (x - y) * (x - y)).sum::<f32>();
        let relative = libm::sqrtf(error / power);
        assert!(relative <= limit, "{ty}: {relative} > {limit}");
        assert!(relative > limit / 20.0 || limit == 0.0, "{ty}: {relative} is too good to be true");
    }
}

#[test]
fn zeros_stay_zeros() {
    let mut buffer = [0; 2048];
    for ty in Type::ALL {
        let mut y = [1.0; 256];
        decode(ty, bytes_of(ty, &[0.0; 256], &mut buffer), &mut y).unwrap();
        assert_eq!(y, [0.0; 256], "{ty}");
    }
}

#[test]
fn constants_and_tiny_and_huge_numbers_stay_close() {
    let mut buffer = [0; 2048];
    for ty in Type::ALL {
        for value in [1.0f32, -1.0, 1e-3, -1e-3, 6e4, -6e4] {
            let mut y = [0.0; 256];
            decode(ty, bytes_of(ty, &[value; 256], &mut buffer), &mut y).unwrap();
            for y in y {
                assert!((y - value).abs() <= value.abs() * 0.03, "{ty}: {value} became {y}");
            }
        }
        // Below what a half-precision scale can hold, but never NaN.
        let mut y = [0.0; 256];
        decode(ty, bytes_of(ty, &[1e-12; 256], &mut buffer), &mut y).unwrap();
        assert!(y.iter().all(|y| (0.0..1e-6).contains(y)), "{ty}");
    }
}

#[test]
fn wrong_lengths_are_errors() {
    for ty in Type::ALL {
        let (bytes, len) = (ty.block_bytes(), ty.block_len());
        let mut buffer = [0; 1024];
        let mut out = [0.0; 512];
        assert_eq!(decode(ty, &buffer[..bytes], &mut out[..len]), Ok(()));
        let short = decode(ty, &buffer[..bytes - 1], &mut out[..len]);
        assert_eq!(short, Err(Error::Length { ty, elements: len, bytes: bytes - 1 }));
        assert!(decode(ty, &buffer[..bytes], &mut out[..len + 1]).is_err());
        assert!(encode(ty, &out[..len + 1], &mut buffer[..bytes]).is_err());
        assert!(dot(ty, &buffer[..bytes], &out[..len + 1]).is_err());
    }
    assert_eq!(Type::Q4K.row_bytes(128), None);
    assert_eq!(Type::F32.row_bytes(usize::MAX), None);
}

#[test]
fn numbers_that_do_not_fit_are_errors() {
    let mut out = [0; 1024];
    for ty in Type::ALL {
        let out = &mut out[..ty.row_bytes(256).unwrap()];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [0.5; 256];
            x[77] = bad;
            assert_eq!(encode(ty, &x, out), Err(Error::NotFinite { index: 77 }));
        }
        if ty != Type::F32 && ty != Type::BF16 {
            let mut x = [0.5; 256];
            x[3] = -1e6;
            assert_eq!(encode(ty, &x, out), Err(Error::TooLarge { ty, index: 3 }));
        }
    }
}

#[test]
fn the_dot_product_is_the_decoded_rows() {
    let w: [f32; 512] = weights(2);
    let x: [f32; 512] = weights(3);
    let mut buffer = [0; 2048];
    for ty in Type::ALL {
        let blocks = bytes_of(ty, &w, &mut buffer);
        let mut y = [0.0; 512];
        decode(ty, blocks, &mut y).unwrap();
        let mut sums = [0.0; LANES];
        for (i, (y, x)) in y.iter().zip(&x).enumerate() {
            sums[i % LANES] += y * x;
        }
        assert_eq!(dot(ty, blocks, &x).unwrap().to_bits(), fold(sums).to_bits(), "{ty}");
    }
}

#[test]
fn a_float_row_may_have_any_length() {
    let w: [f32; 37] = weights(4);
    let x: [f32; 37] = weights(5);
    let mut buffer = [0; 256];
    let exact: f64 = w.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
    let got = dot(Type::F32, bytes_of(Type::F32, &w, &mut buffer), &x).unwrap();
    assert!((f64::from(got) - exact).abs() < 1e-7);
}

#[test]
fn the_integer_dot_product_is_the_decoded_rows_with_the_decoded_activations() {
    let w: [f32; 768] = weights(6);
    let x: [f32; 768] = weights(7);
    let (mut qs, mut scales, mut sums) = ([0; 768], [0.0; 24], [0; 24]);
    q8::quantise_activations(&x, &mut qs, &mut scales, &mut sums).unwrap();
    let row = q8::Row::new(&qs, &scales, &sums).unwrap();
    let mut buffer = [0; 2048];
    for ty in Type::ALL {
        if ty.is_float() {
            continue;
        }
        let blocks = bytes_of(ty, &w, &mut buffer);
        let mut y = [0.0; 768];
        decode(ty, blocks, &mut y).unwrap();
        let exact: f64 = y.iter().enumerate().map(|(i, y)| f64::from(*y) * f64::from(qs[i]) * f64::from(scales[i / 32])).sum();
        let got = f64::from(dot_q8(ty, blocks, row).unwrap());
        assert!((got - exact).abs() < 1e-5, "{ty}: {got} for {exact}");
        assert!(exact.abs() > 1e-3);
    }
    assert_eq!(dot_q8(Type::F16, &[0; 1536], row), Err(Error::NoIntegerDot(Type::F16)));
    assert!(dot_q8(Type::Q8_0, &[0; 34], row).is_err());
}

#[test]
fn activations_come_back_within_half_a_step() {
    let x: [f32; 64] = weights(8);
    let (mut qs, mut scales, mut sums) = ([0; 64], [0.0; 2], [0; 2]);
    q8::quantise_activations(&x, &mut qs, &mut scales, &mut sums).unwrap();
    for (i, x) in x.iter().enumerate() {
        assert!((f32::from(qs[i]) * scales[i / 32] - x).abs() <= 0.5001 * scales[i / 32]);
    }
    for (g, sum) in sums.iter().enumerate() {
        assert_eq!(*sum, qs[g * 32..g * 32 + 32].iter().map(|&q| i32::from(q)).sum::<i32>());
    }
    let mut bad = x;
    bad[40] = f32::NAN;
    q8::quantise_activations(&bad, &mut qs, &mut scales, &mut sums).unwrap();
    assert!(scales[1].is_nan() && scales[0].is_finite());
    assert!(q8::quantise_activations(&x, &mut qs[..32], &mut scales, &mut sums).is_err());
    q8::quantise_activations(&[1e-45; 64], &mut qs, &mut scales, &mut sums).unwrap();
    assert_eq!(scales, [0.0; 2]);
}

#[test]
fn sub_scales_pack_and_unpack() {
    let scales = [0, 63, 17, 32, 1, 48, 62, 5];
    let minimums = [63, 0, 33, 16, 47, 15, 2, 60];
    assert_eq!(SubScales::pack(scales, minimums).unpack(), (scales, minimums));
}

#[test]
fn known_bytes_decode_to_known_weights() {
    // One block of each simple format, worked out by hand from the layouts.
    let mut out = [0.0; 32];
    let mut q8_0 = [0; 34];
    q8_0[..2].copy_from_slice(&Half::new(0.5).0);
    q8_0[2] = 3;
    q8_0[33] = (-128i8) as u8;
    decode(Type::Q8_0, &q8_0, &mut out).unwrap();
    assert_eq!((out[0], out[1], out[31]), (1.5, 0.0, -64.0));

    let mut q4_0 = [0x88; 18];
    q4_0[..2].copy_from_slice(&Half::new(2.0).0);
    q4_0[2] = 0xf1;
    decode(Type::Q4_0, &q4_0, &mut out).unwrap();
    assert_eq!((out[0], out[16], out[1]), (-14.0, 14.0, 0.0));

    let mut q5_1 = [0; 24];
    q5_1[..2].copy_from_slice(&Half::new(2.0).0);
    q5_1[2..4].copy_from_slice(&Half::new(-1.0).0);
    q5_1[4..8].copy_from_slice(&(1u32 << 16 | 1).to_le_bytes());
    q5_1[8] = 0x21;
    decode(Type::Q5_1, &q5_1, &mut out).unwrap();
    assert_eq!((out[0], out[16], out[1]), (33.0, 35.0, -1.0));
}
