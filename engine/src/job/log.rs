//! `log.jsonl`, and what it says.

use super::folder::write_whole;
use crate::error::{Error, Result};
use crate::tuner::{EvalLog, StepLog};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// `log.jsonl`, and what it says.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    pub(super) steps: Vec<StepLog>,
    pub(super) evals: Vec<EvalLog>,
}

impl Log {
    /// Opens the log and cuts what lies behind update `step`: those updates will be done again.
    pub(super) fn open(path: &Path, step: u64) -> Result<Log> {
        let (mut steps, mut evals, mut kept) = (Vec::new(), Vec::new(), String::new());
        if let (true, Ok(file)) = (step > 0, File::open(path)) {
            for line in BufReader::new(file).lines().map_while(std::io::Result::ok) {
                let update = StepLog::parse(&line).filter(|s| s.step <= step);
                let eval = EvalLog::parse(&line).filter(|e| e.step <= step);
                if update.is_some() || eval.is_some() {
                    kept.push_str(&line);
                    kept.push('\n');
                }
                steps.extend(update);
                evals.extend(eval);
            }
        }
        write_whole(path, &kept)?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path))?;
        Ok(Log { path: path.into(), file, steps, evals })
    }

    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(value).map_err(|e| Error::io(&self.path)(e.into()))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path))
    }

    pub(super) fn step(&mut self, step: &StepLog) -> Result<()> {
        self.steps.push(step.clone());
        self.line(step)
    }

    pub(super) fn eval(&mut self, eval: &EvalLog) -> Result<()> {
        self.evals.push(eval.clone());
        self.line(eval)
    }
}

/// Why the run of a log has stopped, if it has: said when the adapter that it kept had been written.
pub(super) fn stopped(path: &Path) -> Option<String> {
    let lines = BufReader::new(File::open(path).ok()?).lines().map_while(std::io::Result::ok);
    let last: serde_json::Value = serde_json::from_str(&lines.last()?).ok()?;
    last.get("stopped")?.as_str().map(str::to_owned)
}
