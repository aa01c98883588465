//! Packing: several short examples share one row of `max_length` tokens, so that little is spent on padding.
//!
//! Attention inside a row is block-diagonal and positions restart, so packed examples do not see each other.
//! Best-fit-decreasing inside a window of examples (Eilon and Christofides 1971; Ding et al., "Fewer Truncations Improve
//! Language Modeling", 2024): the longest first, each into the fullest row that still has room.

use std::collections::BTreeSet;

/// One row: which examples it holds and how many tokens they fill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Indices into the given lengths, ascending.
    pub examples: Vec<usize>,
    /// Tokens filled, at most `max_length`.
    pub tokens: usize,
}

/// Groups examples of the given token `lengths` into rows of at most `max_length` tokens.
///
/// Examples are taken `window` at a time (0: all at once), so the order of a shuffled stream is kept but for the
/// disorder inside a window. A length above `max_length` counts as `max_length`: such an example is cut before it is
/// trained on, and fills a row alone. Examples without tokens are left out. The result depends on nothing but the
/// arguments. `O(n log n)`.
pub fn pack(lengths: &[usize], max_length: usize, window: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    if max_length == 0 {
        return rows;
    }
    let window = if window == 0 { lengths.len().max(1) } else { window };
    for (w, part) in lengths.chunks(window).enumerate() {
        pack_window(part, w * window, max_length, &mut rows);
    }
    rows
}

fn pack_window(lengths: &[usize], first: usize, max_length: usize, rows: &mut Vec<Row>) {
    let mut by_length: Vec<(usize, usize)> =
        lengths.iter().enumerate().filter(|(_, len)| **len > 0).map(|(i, &len)| (len.min(max_length), first + i)).collect();
    // Longest first; equal lengths as they stand.
    by_length.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let start = rows.len();
    // (room left, row): the first at or above a length is the tightest fit.
    let mut room: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (len, example) in by_length {
        let fit = room.range((len, 0)..).next().copied();
        let (left, row) = match fit {
            Some(entry) => {
                room.remove(&entry);
                entry
            }
            None => {
                rows.push(Row::default());
                (max_length, rows.len() - 1)
            }
        };
        if let Some(row) = rows.get_mut(row) {
            row.examples.push(example);
            row.tokens += len;
        }
        if left > len {
            room.insert((left - len, row));
        }
    }
    for row in rows.iter_mut().skip(start) {
        row.examples.sort_unstable();
    }
    // Rows come in the order of their first example, so that a shuffled stream stays shuffled.
    if let Some(new) = rows.get_mut(start..) {
        new.sort_by_key(|row| row.examples.first().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_in_exactly_one_row_and_no_row_overflows() {
        let lengths: Vec<usize> = (0..1000).map(|i| (crate::data::order::mix(i) % 300) as usize).collect();
        for window in [0, 1, 7, 64, 5000] {
            let rows = pack(&lengths, 256, window);
            let mut all: Vec<usize> = rows.iter().flat_map(|r| r.examples.clone()).collect();
            all.sort_unstable();
            let expected: Vec<usize> = (0..1000).filter(|&i| lengths[i] > 0).collect();
            assert_eq!(all, expected);
            for row in &rows {
                let tokens: usize = row.examples.iter().map(|&i| lengths[i].min(256)).sum();
                assert_eq!(tokens, row.tokens);
                assert!(tokens <= 256 || row.examples.len() == 1);
            }
        }
    }

    #[test]
    fn rows_are_filled_well() {
        let lengths: Vec<usize> = (0..2000).map(|i| 10 + (crate::data::order::mix(i) % 200) as usize).collect();
        let rows = pack(&lengths, 512, 256);
        let filled: usize = rows.iter().map(|r| r.tokens).sum();
        assert!(filled as f64 > 0.95 * (rows.len() * 512) as f64, "{filled} tokens in {} rows", rows.len());
    }

    #[test]
    fn a_tight_fit_is_preferred_over_a_loose_one() {
        let rows = pack(&[60, 70, 30, 40], 100, 0);
        assert_eq!(rows, [Row { examples: vec![0, 3], tokens: 100 }, Row { examples: vec![1, 2], tokens: 100 }]);
    }

    #[test]
    fn what_is_too_long_stands_alone_and_what_is_empty_nowhere() {
        assert_eq!(pack(&[0, 500, 1], 10, 0), [Row { examples: vec![1], tokens: 10 }, Row { examples: vec![2], tokens: 1 }]);
        assert_eq!(pack(&[], 10, 0), []);
        assert_eq!(pack(&[1], 0, 0), []);
    }
}
