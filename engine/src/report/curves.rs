//! The curves of a run: loss, whatever else its log measures, learning rate, gradient norm.

use super::Report;
use super::chart::{Chart, Line, Mark, drawable};
use super::numbers::{MOST, Series, about, panels};
use super::text::{Escaped, count, number};
use crate::tuner::{EvalLog, StepLog};
use core::fmt::Write;

/// Points that a line is thinned to: more than a screen has columns.
const COLUMNS: usize = 700;
/// Evaluations that are marked.
const MARKS: usize = 200;

/// Appends the section of curves.
pub(super) fn write(page: &mut String, report: &Report, others: &[Series]) {
    page.push_str("<section><h2>Curves</h2>");
    let losses = points(&report.steps, |s| s.loss);
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
    page.push_str("</figure><div class=\"pair wide\">");
    measured(page, others);
    small(page, "Learning rate", &points(&report.steps, |s| f64::from(s.learning_rate)));
    small(page, "Gradient norm before clipping", &points(&report.steps, |s| f64::from(s.grad_norm)));
    page.push_str("</div>");
    let strange = report.steps.iter().filter(|s| !s.loss.is_finite() || !s.grad_norm.is_finite()).count();
    if strange > 0 {
        let _ = write!(
            page,
            "<p class=\"warn\">{} of the updates have a loss or gradient norm that is not finite; they are gaps above.</p>",
            count(strange as u64)
        );
    }
    evaluations(page, &report.evals, others);
    page.push_str("</section>");
}

/// A chart for each of the log's other numbers; those of chosen and rejected answers share one.
fn measured(page: &mut String, all: &[Series]) {
    let panels = panels(all);
    for (title, series) in panels.iter().take(MOST) {
        panel(page, title, series);
    }
    if panels.len() > MOST {
        let names: Vec<&str> = panels.iter().skip(MOST).map(|(title, _)| title.as_str()).take(MOST).collect();
        let _ = write!(page, "<p>Not drawn, but in <code>log.jsonl</code>: {}</p>", Escaped(&names.join(", ")));
    }
}

fn panel(page: &mut String, title: &str, series: &[&Series]) {
    let any = |points: fn(&Series) -> &[(f64, f64)]| series.iter().any(|s| points(s).iter().any(drawable));
    let (trained, held_out) = (any(|s| &s.steps), any(|s| &s.evals));
    if !trained && !held_out {
        return;
    }
    let _ = write!(page, "<figure><figcaption>{}", Escaped(title));
    let names = series.first().and_then(|s| about(&s.name)).map_or(&[][..], |known| known.lines);
    let mut key = |class: &str, name: &str| {
        let _ = write!(page, " <span class=\"key {class}\">{name}</span>");
    };
    let (mut lines, mut marks) = (Vec::new(), Vec::new());
    for (i, one) in series.iter().enumerate() {
        let name = names.get(i).copied();
        let (line, smooth_key) = if i == 0 { ("line smooth", "smooth") } else { ("line other", "other") };
        let smooth = smoothed(&one.steps);
        match name {
            Some(name) => key(smooth_key, name),
            // One line and no marks need no key.
            None if trained && held_out => key("smooth", "training"),
            None => {}
        }
        if name.is_none() && !smooth.is_empty() {
            lines.push(Line { class: "line raw", points: thinned(&one.steps) });
        }
        lines.push(Line { class: line, points: if smooth.is_empty() { thinned(&one.steps) } else { smooth } });
        lines.push(Line { class: "line thin", points: thinned(&one.evals) });
        let every = one.evals.len().div_ceil(MARKS).max(1);
        let last = one.evals.len().saturating_sub(1);
        let chosen = one.evals.iter().enumerate().filter(|(i, at)| (i % every == 0 || *i == last) && drawable(at));
        marks.extend(chosen.map(|(_, at)| Mark {
            class: "mark",
            at: *at,
            label: format!("update {}: {} {}", count(at.0.max(0.0) as u64), one.name, number(at.1)),
        }));
    }
    if held_out {
        key("eval", "held-out");
    }
    page.push_str("</figcaption>");
    Chart { title: title.into(), size: (440.0, 180.0), lines, marks }.write(page);
    page.push_str("</figure>");
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

fn points(steps: &[StepLog], value: impl Fn(&StepLog) -> f64) -> Vec<(f64, f64)> {
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

/// Columns of the table besides the update and the loss.
const COLUMNS_BESIDES: usize = 6;

fn evaluations(page: &mut String, evals: &[EvalLog], others: &[Series]) {
    if evals.is_empty() {
        return;
    }
    let measured: Vec<&Series> =
        panels(others).into_iter().flat_map(|(_, s)| s).filter(|s| !s.evals.is_empty()).take(COLUMNS_BESIDES).collect();
    // What is no cross-entropy has no perplexity: a run that measures more than its guard learns something else than tokens.
    let losses = evals.iter().any(|e| !e.eval_loss.is_nan());
    let supervised = losses && measured.iter().all(|s| s.name == "guard_loss");
    page.push_str("<details><summary>Evaluations on held-out data</summary><table class=\"numbers\"><thead><tr><th>After update");
    page.push_str(if losses { "<th>Loss" } else { "" });
    page.push_str(if supervised { "<th>Perplexity<th>Tokens predicted" } else { "" });
    for series in &measured {
        let _ = write!(page, "<th>{}", Escaped(&series.name));
    }
    page.push_str("</tr></thead><tbody>");
    let best = best(evals);
    for e in evals.iter().take(ROWS) {
        let (class, note) = if best == Some(e) { (" class=\"best\"", " (best)") } else { ("", "") };
        let _ = write!(page, "<tr{class}><td>{}{note}", count(e.step));
        if losses {
            let _ = write!(page, "<td>{}", number(e.eval_loss));
        }
        if supervised {
            let accuracy = if e.eval_token_accuracy.is_finite() { percent(e.eval_token_accuracy) } else { "—".into() };
            let _ = write!(page, "<td>{}<td>{accuracy}", number(e.eval_loss.exp()));
        }
        for series in &measured {
            let found = series.evals.iter().find(|point| point.0 == e.step as f64);
            let share = about(&series.name).is_some_and(|known| known.share);
            let said = found.map_or_else(|| "—".into(), |point| if share { percent(point.1) } else { number(point.1) });
            let _ = write!(page, "<td>{said}");
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table>");
    if evals.len() > ROWS {
        let _ = write!(page, "<p>… and {} more, in <code>log.jsonl</code>.</p>", count((evals.len() - ROWS) as u64));
    }
    page.push_str("</details>");
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
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
