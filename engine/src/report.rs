//! A run's report as one HTML page.

use crate::job::{Config, Sample};
use crate::plan::Plan;
use crate::tuner::{EvalLog, Skipped, StepLog};
use std::fmt::Write;

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
    /// What was left out.
    pub skipped: Vec<Skipped>,
}

impl Report {
    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let mut page = String::new();
        let _ = write!(page, "<!doctype html><meta charset=utf-8><title>{0}</title><h1>{0}</h1>", escape(&self.title));
        for s in &self.steps {
            let _ = write!(page, "<p>step {}: loss {:.4}", s.step, s.loss);
        }
        page
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
