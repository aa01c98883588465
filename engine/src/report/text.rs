//! Text and numbers as the page shows them.

use core::fmt::{self, Display, Formatter, Write};

/// Text from outside, safe in element content and in quoted attributes. Control characters, which HTML forbids, become U+FFFD.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                '\r' => {}
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The beginning of a text, at most `most` characters of it, and whether something is missing.
pub(super) fn beginning(text: &str, most: usize) -> (&str, bool) {
    match text.char_indices().nth(most) {
        Some((end, _)) => (text.get(..end).unwrap_or(text), true),
        None => (text, false),
    }
}

/// `12,345`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// `12.3 MiB`.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1023.95 {
        let Some(next) = units.next() else { break };
        value /= 1024.0;
        unit = Some(next);
    }
    let digits = usize::from(value < 99.95);
    format!("{value:.digits$} {}", unit.unwrap_or(&"KiB"))
}

/// A loss, a norm, a rate: four decimals where they say enough, else powers of ten.
pub(super) fn number(x: f64) -> String {
    let size = x.abs();
    if !x.is_finite() {
        "not finite".into()
    } else if x == 0.0 {
        "0".into()
    } else if (1e-3..1e4).contains(&size) {
        format!("{x:.4}")
    } else {
        format!("{x:.3e}")
    }
}

/// `1 h 02 min`, `3 min 20 s`, `12.3 s`.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".into();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([bytes(7), bytes(1536), bytes(300 << 20), bytes(1 << 20)], ["7 B", "1.5 KiB", "300 MiB", "1.0 MiB"]);
        assert_eq!([number(2.5), number(2e-4), number(f64::NAN), number(0.0)], ["2.5000", "2.000e-4", "not finite", "0"]);
        assert_eq!(
            [duration(1.25), duration(200.0), duration(3720.0), duration(f64::NAN)],
            ["1.2 s", "3 min 20 s", "1 h 02 min", "unknown"]
        );
        assert!(bytes(u64::MAX).ends_with("PiB"));
    }

    #[test]
    fn text_from_outside_stays_text() {
        assert_eq!(Escaped("<a b='c\"'>&\0\r\n").to_string(), "&lt;a b=&#39;c&quot;&#39;&gt;&amp;\u{fffd}\n");
        assert_eq!(beginning("狐狸跑", 2), ("狐狸", true));
        assert_eq!(beginning("狐狸", 2), ("狐狸", false));
    }
}
