//! Elementary functions with the same bits on every processor: plain IEEE operations in a fixed order, nothing fused, no tables, no
//! branches, so that a compiler can vectorise them without changing a result.

/// `e^x`, relative error below 2e-7; 0 below −87.3, and `f32::MAX`-sized but finite above 88.3.
///
/// Range reduction by `ln 2` in two parts and a polynomial of degree 6 on `[-ln 2 / 2, ln 2 / 2]` (Taylor, whose remainder there is below
/// 1e-7).
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    let clamped = if x < -87.3 { -87.3 } else { x };
    let clamped = if clamped > 88.3 { 88.3 } else { clamped };
    // Rounds to nearest by the classic shift: 1.5 · 2^23. What was rounded is in the lowest bits, where integer code finds it without a conversion
    // (which saturates in Rust, and is not vectorised).
    const SHIFT: f32 = 12_582_912.0;
    let shifted = clamped * core::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let whole = shifted.to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
    let r = (clamped - n * LN2_HI) - n * LN2_LO;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    // 2^n through the exponent bits, in two halves so that n = 128 stays in range.
    let half = whole >> 1;
    let y = p * power_of_two(half) * power_of_two(whole.wrapping_sub(half));
    if x < -87.3 { 0.0 } else { y }
}

/// `2^e` for `-126 ≤ e ≤ 127`, and some bits for others.
#[inline(always)]
fn power_of_two(e: i32) -> f32 {
    f32::from_bits((e.wrapping_add(127) as u32) << 23)
}

/// The logistic function `1 / (1 + e^-x)`.
#[inline(always)]
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `tanh x` through [`exp`].
#[inline(always)]
#[must_use]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    // For small x the quotient cancels; the odd series is exact there to f32.
    let e = exp(-2.0 * a);
    let big = (1.0 - e) / (1.0 + e);
    let s = a * a;
    let small = a * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 - s * (17.0 / 315.0))));
    let t = if a < 0.1 { small } else { big };
    if x < 0.0 { -t } else { t }
}

/// `sin x` and `cos x`, absolute error below 2e-7 for `|x| < 1e9`; NaN for what is not finite.
///
/// Reduction by `π/2` in f64, then polynomials on `[-π/4, π/4]` (Taylor, whose remainders there are below 3e-8).
#[inline(always)]
#[must_use]
pub fn sin_cos(x: f32) -> (f32, f32) {
    // As in `exp`: rounds to nearest, and the lowest bits hold the result. 1.5 · 2^52.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    let x = f64::from(x);
    let shifted = x * core::f64::consts::FRAC_2_PI + SHIFT;
    let quarter = shifted.to_bits() as u32;
    let r = (x - (shifted - SHIFT) * core::f64::consts::FRAC_PI_2) as f32;
    let z = r * r;
    let sin = r + r * z * (-1.0 / 6.0 + z * (1.0 / 120.0 + z * (-1.0 / 5040.0 + z * (1.0 / 362_880.0))));
    let cos = 1.0 - 0.5 * z + z * z * (1.0 / 24.0 + z * (-1.0 / 720.0 + z * (1.0 / 40_320.0)));
    // An odd quarter exchanges the two; the second bit of the quarter, and of the next one, are their signs.
    let odd = (quarter & 1).wrapping_neg();
    let (s, c) = (sin.to_bits(), cos.to_bits());
    let pick = |a: u32, b: u32| (a & !odd) | (b & odd);
    let sign = |q: u32| (q & 2) << 30;
    (f32::from_bits(pick(s, c) ^ sign(quarter)), f32::from_bits(pick(c, s) ^ sign(quarter.wrapping_add(1))))
}

/// The sum of products, in eight interleaved partial sums: the order that every dot product of the scalar reference uses.
#[inline(always)]
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (ca, cb) = (a.chunks_exact(8), b.chunks_exact(8));
    let (ra, rb) = (ca.remainder(), cb.remainder());
    for (x, y) in ca.zip(cb) {
        for i in 0..8 {
            lanes[i] += x[i] * y[i];
        }
    }
    for (i, (x, y)) in ra.iter().zip(rb).enumerate() {
        lanes[i] += x * y;
    }
    let q = [lanes[0] + lanes[4], lanes[1] + lanes[5], lanes[2] + lanes[6], lanes[3] + lanes[7]];
    (q[0] + q[2]) + (q[1] + q[3])
}

/// `y += a · x`.
#[inline(always)]
pub fn axpy(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// The sum of squares in f64, in index order within fixed pieces, so that it does not depend on who computes it.
#[must_use]
pub fn sum_squares(x: &[f32]) -> f64 {
    x.iter().map(|&v| f64::from(v) * f64::from(v)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_a_few_units_of_the_exact_value() {
        let mut x = -87.0f64;
        while x < 88.0 {
            let (got, want) = (f64::from(exp(x as f32)), libm::exp(f64::from(x as f32)));
            assert!((got - want).abs() <= 3e-7 * want, "exp({x}) = {got}, expected {want}");
            x += 0.001_37;
        }
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(1000.0).is_finite());
    }

    #[test]
    fn tanh_and_sigmoid_agree_with_double_precision() {
        for i in -4000..4000 {
            let x = i as f32 * 0.005;
            assert!((f64::from(tanh(x)) - libm::tanh(f64::from(x))).abs() < 4e-7, "tanh({x})");
            assert!((f64::from(sigmoid(x)) - 1.0 / (1.0 + libm::exp(-f64::from(x)))).abs() < 3e-7, "sigmoid({x})");
        }
    }

    #[test]
    fn sin_and_cos_agree_with_double_precision() {
        let mut x = 0.0f64;
        while x < 1e6 {
            for x in [x as f32, -(x as f32)] {
                let (sin, cos) = sin_cos(x);
                let (s, c) = (libm::sin(f64::from(x)), libm::cos(f64::from(x)));
                assert!((f64::from(sin) - s).abs() < 2e-7, "sin({x}) = {sin}, expected {s}");
                assert!((f64::from(cos) - c).abs() < 2e-7, "cos({x}) = {cos}, expected {c}");
            }
            x = x * 1.000_3 + 0.003;
        }
        assert_eq!(sin_cos(0.0), (0.0, 1.0));
        assert!(sin_cos(f32::INFINITY).0.is_nan());
    }

    #[test]
    fn dot_uses_every_element_whatever_the_length() {
        let a: [f32; 37] = core::array::from_fn(|i| i as f32);
        for n in 0..37 {
            let want: f32 = a[..n].iter().map(|v| v * v).sum();
            assert_eq!(dot(&a[..n], &a[..n]), want);
        }
    }
}
