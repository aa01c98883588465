//! Sizes in bytes as people write them: `300MiB`, `1.5GiB`, `4096`.

/// Units, the longest first.
const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

/// Bytes of a size. A fraction counts down to whole bytes.
///
/// # Errors
/// What was expected, for anything else.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let expected = || format!("expected bytes as a number, or a number with KiB, MiB or GiB (300MiB, 1.5GiB), found \"{text}\"");
    let trimmed = text.trim();
    let at = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(at);
    let unit = unit.trim();
    let shift = match UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        Some((_, shift)) => *shift,
        None if unit.is_empty() => 0,
        None => return Err(expected()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || fraction.len() > 15 || (number.contains('.') && (fraction.is_empty() || shift == 0)) {
        return Err(expected());
    }
    let too_large = || format!("expected less than 16 EiB, found \"{text}\"");
    let whole: u128 = whole.parse().map_err(|_| too_large())?;
    let digits = u32::try_from(fraction.len()).map_err(|_| expected())?;
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| expected())? };
    let whole = whole.checked_mul(1 << shift).ok_or_else(too_large)?;
    let bytes = whole.checked_add((fraction << shift) / 10u128.pow(digits)).ok_or_else(too_large)?;
    u64::try_from(bytes).map_err(|_| too_large())
}

/// A size for people to read, with one decimal above a KiB.
pub(crate) fn show(bytes: u64) -> String {
    match UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) if *shift > 0 => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        _ => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        let good = [
            ("0", 0),
            ("4096", 4096),
            ("300MiB", 300 << 20),
            ("300 MiB", 300 << 20),
            ("1.5GiB", 3 << 29),
            ("0.1KiB", 102),
            ("7b", 7),
            ("1gib", 1 << 30),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in good {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_was_expected() {
        for text in ["", "MiB", "300MB", "300M", "-1", "1e6", "1.", ".5MiB", "1.5", "1.2.3MiB", "ten", "0x10", "3 0MiB", "１０"] {
            assert!(parse(text).unwrap_err().contains("MiB"), "{text}");
        }
        for text in ["18446744073709551616", "99999999999GiB", "9999999999999999999999999999999999999999999"] {
            assert!(parse(text).unwrap_err().contains("16 EiB"), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_they_reach() {
        let shown = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536 << 10, "1.5 MiB"), (3 << 30, "3.0 GiB")];
        for (bytes, text) in shown {
            assert_eq!(show(bytes), text);
        }
    }
}
