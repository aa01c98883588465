//! The few functions that all objectives are made of, without overflow and without cancellation, in f64.

/// `log(1 + e^x)`.
pub(super) fn softplus(x: f64) -> f64 {
    // e^{−|x|} never overflows, and log1p keeps it where it is small.
    let tail = libm::log1p(libm::exp(-x.abs()));
    if x > 0.0 { x + tail } else { tail }
}

/// `log σ(x) = −log(1 + e^{−x})`.
pub(super) fn log_sigmoid(x: f64) -> f64 {
    -softplus(-x)
}

/// `σ(x) = 1 / (1 + e^{−x})`.
pub(super) fn sigmoid(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// `σ'(x) = σ(x) σ(−x)`.
pub(super) fn sigmoid_slope(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    e / ((1.0 + e) * (1.0 + e))
}

/// `log(1 − e^x)` for `x < 0` (Mächler 2012, "Accurately computing log(1 − exp(−|a|))").
pub(super) fn log1mexp(x: f64) -> f64 {
    if x < -core::f64::consts::LN_2 { libm::log1p(-libm::exp(x)) } else { libm::log(-libm::expm1(x)) }
}

/// `log(e^a + e^b)`.
pub(super) fn log_add_exp(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY { high } else { high + libm::log1p(libm::exp(low - high)) }
}

/// The logistic loss of a margin whose label is wrong with probability `flipped`, and its slope:
/// `−(1−ε) log σ(x) − ε log σ(−x)`.
pub(super) fn logistic(x: f64, flipped: f64) -> (f64, f64) {
    let loss = (1.0 - flipped) * softplus(-x) + flipped * softplus(x);
    (loss, flipped * sigmoid(x) - (1.0 - flipped) * sigmoid(-x))
}

/// `max(0, 1 − x)` and its slope.
pub(super) fn hinge(x: f64) -> (f64, f64) {
    if x < 1.0 { (1.0 - x, -1.0) } else { (0.0, 0.0) }
}

/// `(x − target)²` and its slope.
pub(super) fn square(x: f64, target: f64) -> (f64, f64) {
    ((x - target) * (x - target), 2.0 * (x - target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overflows_at_the_ends() {
        assert_eq!((softplus(1e300), softplus(-1e300)), (1e300, 0.0));
        assert_eq!((log_sigmoid(-1e300), log_sigmoid(1e300)), (-1e300, 0.0));
        assert_eq!((sigmoid(-1e300), sigmoid(1e300)), (0.0, 1.0));
        assert_eq!((sigmoid_slope(-1e300), sigmoid_slope(1e300)), (0.0, 0.0));
        assert_eq!(log_add_exp(f64::NEG_INFINITY, f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert_eq!(log_add_exp(f64::NEG_INFINITY, 3.0), 3.0);
        assert_eq!(log_add_exp(1e300, -1e300), 1e300);
        assert_eq!(logistic(-1e300, 0.0), (1e300, -1.0));
    }

    #[test]
    fn small_arguments_keep_their_digits() {
        assert!((log1mexp(-1e-12) - libm::log(1e-12)).abs() < 1e-12);
        assert!((log1mexp(-40.0) / -libm::exp(-40.0) - 1.0).abs() < 1e-12);
        assert!((softplus(-40.0) / libm::exp(-40.0) - 1.0).abs() < 1e-12);
        assert!((sigmoid(-40.0) / libm::exp(-40.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_two_branches_of_log1mexp_meet() {
        let x = -core::f64::consts::LN_2;
        assert!((log1mexp(x - 1e-12) - log1mexp(x + 1e-12)).abs() < 1e-11);
        assert!((log1mexp(x) - libm::log(0.5)).abs() < 1e-15);
    }
}
