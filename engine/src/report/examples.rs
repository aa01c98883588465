//! The data as the run saw it, and answers before and after.

use super::Report;
use super::text::{Escaped, beginning, count};
use core::fmt::Write;

/// Characters of a prompt or an answer that are shown.
const CHARACTERS: usize = 4000;
/// Rows of the table of skipped lines.
const ROWS: usize = 50;
/// Characters of a reason that are shown.
const REASON: usize = 400;

/// Appends the prompts with both answers side by side.
pub(super) fn samples(page: &mut String, report: &Report) {
    page.push_str("<section><h2>Answers before and after</h2>");
    if report.samples.is_empty() {
        page.push_str("<p class=\"none\">The data has no prompts to answer.</p>");
    }
    for sample in &report.samples {
        page.push_str("<article>");
        text(page, "prompt", "Prompt", &sample.prompt);
        page.push_str("<div class=\"pair\">");
        text(page, "before", "Before", &sample.before);
        text(page, "after", "After", &sample.after);
        page.push_str("</div></article>");
    }
    page.push_str("</section>");
}

fn text(page: &mut String, class: &str, name: &str, text: &str) {
    let (shown, cut) = beginning(text, CHARACTERS);
    let _ = write!(page, "<div class=\"answer {class}\"><h3>{name}</h3>");
    if shown.trim().is_empty() {
        page.push_str("<p class=\"none\">(empty)</p></div>");
        return;
    }
    let rest = if cut { "…" } else { "" };
    let _ = write!(page, "<div class=\"said\" dir=\"auto\" lang=\"\">{}{rest}</div></div>", Escaped(shown));
}

/// Appends what became of the data.
pub(super) fn data(page: &mut String, report: &Report) {
    let skipped = report.skipped.len();
    page.push_str("<section><h2>Data</h2><table><tbody>");
    let weighted = (report.weighted > 0).then_some(("of them with a weight of their own", report.weighted));
    let counts = [("Examples learnt from", report.examples), ("of them cut at max_length", report.truncated)];
    for (name, n) in counts.into_iter().chain(weighted).chain([("Left out", skipped)]) {
        let _ = write!(page, "<tr><th>{name}<td>{}</tr>", count(n as u64));
    }
    page.push_str("</tbody></table>");
    if skipped > 0 {
        page.push_str("<table class=\"skipped\"><thead><tr><th>Line<th>Why it was left out</tr></thead><tbody>");
        for s in report.skipped.iter().take(ROWS) {
            let (reason, cut) = beginning(&s.reason, REASON);
            let rest = if cut { "…" } else { "" };
            let _ = write!(page, "<tr><td>{}<td><bdi>{}{rest}</bdi></tr>", count(s.line), Escaped(reason));
        }
        page.push_str("</tbody></table>");
        if skipped > ROWS {
            let _ = write!(page, "<p>… and {} more; <code>attune data check</code> lists them all.</p>", count((skipped - ROWS) as u64));
        }
    }
    page.push_str("</section>");
}
