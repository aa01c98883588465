//! A run's report as one HTML page: no script, no request to anywhere, light and dark, the same bytes for the same run.
//!
//! Everything that comes from outside — prompts, answers, paths, reasons — passes through one escaping writer, and the page forbids
//! scripts and requests by its own content policy besides.

mod chart;
mod curves;
mod examples;
mod memory;
mod numbers;
mod settings;
#[cfg(test)]
mod tests;
mod text;

use crate::job::{Config, Sample};
use crate::plan::Plan;
use crate::tuner::{EvalLog, Skipped, StepLog};
use core::fmt::Write;
use text::Escaped;

/// What a report shows.
#[derive(Debug, Clone)]
pub struct Report {
    /// The run's name.
    pub title: String,
    /// Its settings.
    pub config: Config,
    /// Its updates.
    pub steps: Vec<StepLog>,
    /// Its evaluations.
    pub evals: Vec<EvalLog>,
    /// Its memory as planned.
    pub plan: Plan,
    /// Its memory as measured, where the system tells.
    pub measured_peak: Option<u64>,
    /// Prompts answered before and after.
    pub samples: Vec<Sample>,
    /// Examples learnt from.
    pub examples: usize,
    /// How many of them lost their end.
    pub truncated: usize,
    /// How many of them have a weight other than 1.
    pub weighted: usize,
    /// What was left out.
    pub skipped: Vec<Skipped>,
    /// Why the run stopped before its last update.
    pub stopped: Option<String>,
}

impl Report {
    /// The page. Long runs are thinned to what a screen can show, long lists are cut with a note, numbers that are not finite are named as such.
    #[must_use]
    pub fn html(&self) -> String {
        let mut page = String::with_capacity(64 << 10);
        let title = Escaped(&self.title);
        let _ = write!(page, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} — Attune</title>");
        page.push_str(concat!(
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">",
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"><style>",
            include_str!("style.css"),
            "</style></head>\n<body><main>"
        ));
        let command = settings::command(&self.config);
        let _ = write!(page, "<header><p>attune {}</p><h1><bdi>{title}</bdi></h1></header>", Escaped(&command));
        let series = numbers::gather(self);
        if let Some(reason) = &self.stopped {
            let _ = write!(page, "<p class=\"warn\">Stopped before the last update: {}.</p>", Escaped(reason));
        }
        settings::results(&mut page, self, &series);
        curves::write(&mut page, self, &series);
        examples::samples(&mut page, self);
        memory::write(&mut page, self);
        examples::data(&mut page, self);
        settings::sources(&mut page, &self.config);
        settings::options(&mut page, &self.config);
        page.push_str("</main></body></html>\n");
        page
    }
}
