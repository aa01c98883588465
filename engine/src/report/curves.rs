//! The curves of a run: loss, learning rate, gradient norm.

use super::Report;
use super::chart::{Chart, Line, Mark, drawable};
use super::text::{count, number};
use crate::tuner::{EvalLog, StepLog};
use core::fmt::Write;

/// Points that a line is thinned to: more than a screen has columns.
const COLUMNS: usize = 700;
/// Evaluations that are marked.
const MARKS: usize = 200;

/// Appends the section of curves.
pub(super) fn write(page: &mut String, report: &Report) {
    page.push_str("<section><h2>Curves</h2>");
    let losses = series(&report.steps, |s| s.loss);
    let marks = marks(&report.evals);
    if !losses.iter().any(drawable) && marks.is_empty() {
        page.push_str("<p class=\"none\">No update was made, so there is nothing to draw.</p></section>");
        return;
    }
    let smooth = smoothed(&losses);
    page.push_str("<figure><figcaption>Loss by update");
    for (shown, class, name) in [
        (true, "raw", "training, each update"),
        (!smooth.is_empty(), "smooth", "training, smoothed"),
        (!marks.is_empty(), "eval", "held-out"),
    ] {
        if shown {
            let _ = write!(page, " <span class=\"key {class}\">{name}</span>");
        }
    }
    page.push_str("</figcaption>");
    let lines = vec![Line { class: "line raw", points: thinned(&losses) }, Line { class: "line smooth", points: smooth }];
    Chart { title: "Loss by update".into(), size: (900.0, 320.0), lines, marks }.write(page);
    page.push_str("</figure><div class=\"pair\">");
    small(page, "Learning rate", &series(&report.steps, |s| f64::from(s.learning_rate)));
    small(page, "Gradient norm before clipping", &series(&report.steps, |s| f64::from(s.grad_norm)));
    page.push_str("</div>");
    let strange = report.steps.iter().filter(|s| !s.loss.is_finite() || !s.grad_norm.is_finite()).count();
    if strange > 0 {
        let _ = write!(
            page,
            "<p class=\"warn\">{} of the updates have a loss or gradient norm that is not finite; they are gaps above.</p>",
            count(strange as u64)
        );
    }
    evaluations(page, &report.evals);
    page.push_str("</section>");
}

fn small(page: &mut String, title: &str, points: &[(f64, f64)]) {
    if !points.iter().any(drawable) {
        return;
    }
    let _ = write!(page, "<figure><figcaption>{title}</figcaption>");
    let lines = vec![Line { class: "line smooth", points: thinned(points) }];
    Chart { title: title.into(), size: (440.0, 180.0), lines, marks: Vec::new() }.write(page);
    page.push_str("</figure>");
}

fn series(steps: &[StepLog], value: impl Fn(&StepLog) -> f64) -> Vec<(f64, f64)> {
    steps.iter().map(|s| (s.step as f64, value(s))).collect()
}

/// The evaluations as marks: all, or an even choice that has the first, the last and the best.
fn marks(evals: &[EvalLog]) -> Vec<Mark> {
    let best = best(evals);
    let every = evals.len().div_ceil(MARKS).max(1);
    let last = evals.len().saturating_sub(1);
    let chosen = evals.iter().enumerate().filter(|&(i, e)| i % every == 0 || i == last || best == Some(e));
    chosen
        .filter(|(_, e)| drawable(&point(e)))
        .map(|(_, e)| Mark {
            class: if best == Some(e) { "mark best" } else { "mark" },
            at: point(e),
            label: format!("update {}: held-out loss {}", count(e.step), number(e.eval_loss)),
        })
        .collect()
}

fn point(e: &EvalLog) -> (f64, f64) {
    (e.step as f64, e.eval_loss)
}

/// The evaluation with the smallest loss, the earliest of equals.
pub(super) fn best(evals: &[EvalLog]) -> Option<&EvalLog> {
    evals.iter().filter(|e| drawable(&point(e))).min_by(|a, b| a.eval_loss.total_cmp(&b.eval_loss))
}

/// Lowest and highest point of each column, so that no peak is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * COLUMNS {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(2 * COLUMNS);
    for column in points.chunks(points.len().div_ceil(COLUMNS)) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let low = column.iter().filter(|p| drawable(p)).min_by(by_value);
        let high = column.iter().filter(|p| drawable(p)).max_by(by_value);
        match (low, high) {
            (Some(a), Some(b)) if a.0 <= b.0 => kept.extend([*a, *b]),
            (Some(a), Some(b)) => kept.extend([*b, *a]),
            _ => kept.push((f64::NAN, f64::NAN)),
        }
    }
    kept
}

/// Means over a window of a twentieth of the run around each of at most `COLUMNS` points; nothing for runs too short to need it.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(drawable).collect();
    if finite.len() < 8 {
        return Vec::new();
    }
    let half = (finite.len() / 40).max(2);
    let every = finite.len().div_ceil(COLUMNS);
    let last = finite.len() - 1;
    let mean = |i: usize| {
        let window = finite.get(i.saturating_sub(half)..=(i + half).min(last)).unwrap_or_default();
        window.iter().map(|p| p.1 / window.len() as f64).sum::<f64>()
    };
    let chosen = (0..=last).filter(|i| i % every == 0 || *i == last);
    chosen.filter_map(|i| Some((finite.get(i)?.0, mean(i)))).collect()
}

/// Rows of the table of evaluations.
const ROWS: usize = 100;

fn evaluations(page: &mut String, evals: &[EvalLog]) {
    if evals.is_empty() {
        return;
    }
    page.push_str("<details><summary>Evaluations on held-out data</summary><table class=\"numbers\"><thead><tr><th>After update<th>Loss<th>Perplexity<th>Tokens predicted</tr></thead><tbody>");
    let best = best(evals);
    for e in evals.iter().take(ROWS) {
        let (class, note) = if best == Some(e) { (" class=\"best\"", " (best)") } else { ("", "") };
        let accuracy = if e.eval_token_accuracy.is_finite() { format!("{:.1} %", e.eval_token_accuracy * 100.0) } else { "—".into() };
        let _ = write!(
            page,
            "<tr{class}><td>{}{note}<td>{}<td>{}<td>{accuracy}</tr>",
            count(e.step),
            number(e.eval_loss),
            number(e.eval_loss.exp())
        );
    }
    page.push_str("</tbody></table>");
    if evals.len() > ROWS {
        let _ = write!(page, "<p>… and {} more, in <code>log.jsonl</code>.</p>", count((evals.len() - ROWS) as u64));
    }
    page.push_str("</details>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_every_peak() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[77_777].1 = 9.0;
        points[12_345].1 = -9.0;
        points[50_000].1 = f64::NAN;
        let kept = thinned(&points);
        assert!(kept.len() <= 2 * COLUMNS);
        assert!(kept.contains(&(77_777.0, 9.0)) && kept.contains(&(12_345.0, -9.0)));
        assert!(kept.windows(2).all(|w| w[0].0 <= w[1].0));
    }

    #[test]
    fn smoothing_takes_means_and_leaves_out_what_is_not_finite() {
        let points: Vec<(f64, f64)> = (0..400).map(|i| (f64::from(i), if i % 2 == 0 { 1.0 } else { 3.0 })).collect();
        assert!(smoothed(&points).iter().all(|p| (p.1 - 2.0).abs() < 0.1));
        assert!(smoothed(&[(0.0, f64::NAN); 100]).is_empty());
        assert!(smoothed(&points[..5]).is_empty());
    }
}
