//! What goes where: results to standard output (JSON alone, where it was asked for), everything else to standard error.

use crate::failure::{Failure, Outcome};
use serde::Serialize;
use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// How results are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// Results as JSON.
    pub(crate) json: bool,
    /// Nothing on standard error but warnings and errors.
    pub(crate) quiet: bool,
}

impl Output {
    /// A JSON document on a line of its own.
    pub(crate) fn json(&self, value: &impl Serialize) -> Outcome {
        let line = serde_json::to_string(value).map_err(Failure::failed)?;
        self.line(line)
    }

    /// A line of standard output.
    pub(crate) fn line(&self, text: impl Display) -> Outcome {
        writeln!(std::io::stdout(), "{text}").map_err(|e| Failure::stdout(&e))
    }

    /// A piece of standard output that is seen at once.
    pub(crate) fn piece(&self, text: &str) -> Outcome {
        let mut out = std::io::stdout();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Failure::stdout(&e))
    }

    /// A remark for people, on standard error.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            crate::progress::above(|| eprintln!("{text}"));
        }
    }

    /// Whether standard output understands colours.
    pub(crate) fn colours(&self) -> bool {
        let refused = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        std::io::stdout().is_terminal() && !refused("NO_COLOR") && !dumb
    }

    /// Columns of the terminal that standard output is; 100 where it is none.
    pub(crate) fn width(&self) -> usize {
        std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns >= 40).unwrap_or(100)
    }
}

/// A table whose columns are as wide as what stands in them. Columns whose name begins with `>` are aligned to the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[&str]) -> Table {
        let names = columns.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
        Table { rows: vec![names], right: columns.iter().map(|name| name.starts_with('>')).collect() }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Prints it, each line behind two spaces.
    pub(crate) fn print(&self, out: &Output) -> Outcome {
        let wide = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| columns(cell)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.right.len()).map(wide).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let space = " ".repeat(width.saturating_sub(columns(cell)));
                line.push_str("  ");
                line.push_str(&if *right { format!("{space}{cell}") } else { format!("{cell}{space}") });
            }
            out.line(line.trim_end())?;
        }
        Ok(())
    }
}

/// Lines of a name and what it is, the names padded to one width.
pub(crate) fn list(out: &Output, entries: &[(&str, String)]) -> Outcome {
    let width = entries.iter().map(|(name, _)| columns(name)).max().unwrap_or(0);
    entries.iter().try_for_each(|(name, value)| out.line(format!("{name:<width$}  {value}")))
}

/// Columns that a text takes in a terminal: two for each character of Chinese, Japanese, Korean and for emoji.
pub(crate) fn columns(text: &str) -> usize {
    let wide = |c: char| {
        matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}'
            | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}')
    };
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

/// A text on one line of at most so many columns.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let mut line = String::new();
    let mut used = 0;
    for c in text.chars() {
        let shown = match c {
            '\n' => "⏎".to_owned(),
            c if c.is_control() => "·".to_owned(),
            c => c.to_string(),
        };
        used += columns(&shown);
        if used >= width {
            line.push('…');
            break;
        }
        line.push_str(&shown);
    }
    line
}

/// A number with commas between its thousands.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Seconds as people say them.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), s % 60.0),
        s => format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s % 3600.0) / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1000), "1,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }

    #[test]
    fn chinese_characters_take_two_columns() {
        assert_eq!((columns("ab"), columns("你好"), columns("é")), (2, 4, 1));
        assert_eq!(one_line("你好你好", 5), "你好…");
        assert_eq!(one_line("a\nb", 10), "a⏎b");
    }
}
