//! Comparators. Each names the worst element and has a known-bad case that it rejects.

/// The largest absolute difference of two runs, and where.
///
/// # Panics
/// If the lengths differ, or a number is not finite.
#[must_use]
pub fn worst(got: &[f32], want: &[f32]) -> (f32, usize) {
    assert_eq!(got.len(), want.len(), "lengths differ");
    assert!(got.iter().chain(want).all(|x| x.is_finite()), "a number is not finite");
    let differences = got.iter().zip(want).map(|(a, b)| (a - b).abs());
    differences.enumerate().fold((0.0, 0), |worst, (i, d)| if d > worst.0 { (d, i) } else { worst })
}

/// Asserts that no element differs by more than `tolerance`.
///
/// # Panics
/// If one does.
pub fn close(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    let (difference, at) = worst(got, want);
    assert!(difference <= tolerance, "{what}: element {at} is {}, expected {} (tolerance {tolerance})", got[at], want[at]);
}

/// Asserts that no element differs by more than `tolerance` times the largest element expected.
///
/// # Panics
/// If one does.
pub fn close_to_largest(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    let largest = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    close(what, got, want, tolerance * largest.max(1e-30));
}

/// The cosine of the angle between two runs.
#[must_use]
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(p, q)| f64::from(*p) * f64::from(*q)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "element 1")]
    fn a_wrong_element_is_rejected() {
        close("x", &[1.0, 2.0], &[1.0, 2.1], 0.05);
    }

    #[test]
    #[should_panic(expected = "not finite")]
    fn a_number_that_is_none_is_rejected() {
        close("x", &[f32::NAN], &[1.0], 1e9);
    }

    #[test]
    #[should_panic(expected = "element 0")]
    fn any_value_against_zero_is_rejected() {
        close_to_largest("x", &[0.1, 1.0], &[0.0, 1.0], 1e-3);
    }
}
