//! A data set as a run uses it: which examples can be learnt from, how long they are, and each one's tokens when they are asked for.
//!
//! Nothing but eight bytes an example stays in memory (twelve where examples have weights); tokens are made anew from the file each time.

use crate::data::{BadRecord, Dataset, Objective};
use crate::encode::{self, Encoded};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::template::MaskOptions;
use std::sync::Arc;

/// An example that cannot be learnt from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its line.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// The usable examples of a data set.
pub struct Examples {
    model: Model,
    data: Arc<Dataset>,
    usable: Vec<(u32, u32)>,
    max_length: usize,
    mask: MaskOptions,
    skipped: Vec<Skipped>,
    truncated: usize,
    /// Of each usable example; empty where all count 1.
    weights: Vec<f32>,
    unweighted: usize,
}

impl Examples {
    /// Reads every record once: encodes it, measures it, and sets aside what cannot be learnt from. `keep` chooses among the records by number;
    /// `progress` hears how many were read.
    ///
    /// # Errors
    /// [`Error::NothingToLearn`] where no record is left; a weight that is none, with its line.
    pub fn prepare(
        model: &Model,
        data: Arc<Dataset>,
        max_length: usize,
        mask: MaskOptions,
        keep: impl Fn(u64) -> bool,
        mut progress: impl FnMut(usize),
    ) -> Result<Examples> {
        let mut examples = Examples {
            model: model.clone(),
            data: data.clone(),
            usable: Vec::new(),
            max_length,
            mask,
            skipped: Vec::new(),
            truncated: 0,
            weights: Vec::new(),
            unweighted: 0,
        };
        for i in (0..data.len()).filter(|&i| keep(i as u64)) {
            progress(i);
            // What is wrong with a weight is wrong with the whole: the rest would count more than it was to.
            let weight = examples.weight_of(i)?;
            if weight == 0.0 {
                examples.unweighted += 1;
                continue;
            }
            match examples.read(i) {
                Ok((encoded, cut)) if encoded.targets() > 0 => {
                    examples.truncated += usize::from(cut);
                    examples.add(i, encoded.ids.len(), weight);
                }
                Ok((_, cut)) => {
                    let reason = if cut { "no token to learn is left within max-length" } else { "no token to learn" };
                    examples.skip(i, reason.into());
                }
                // Not the example's fault: every one of them would fail.
                Err(e @ Error::NoTokenizer { .. }) => return Err(e),
                // Data of another kind: said once, and not for each of its lines.
                Err(e @ Error::Option { option: "--data", .. }) if examples.usable.is_empty() => return Err(e),
                Err(e) => examples.skip(i, e.to_string()),
            }
        }
        if examples.usable.is_empty() && examples.unweighted > 0 && examples.skipped.is_empty() {
            let reason = "every example has weight 0; give those that are to be learnt from a weight above 0".into();
            return Err(Error::NothingToLearn { name: data.path().display().to_string(), records: data.len(), reason });
        }
        if examples.usable.is_empty() {
            return Err(Error::unusable(&data, examples.skipped.first()));
        }
        Ok(examples)
    }

    fn add(&mut self, record: usize, tokens: usize, weight: f32) {
        if weight != 1.0 || !self.weights.is_empty() {
            self.weights.resize(self.usable.len(), 1.0);
            self.weights.push(weight);
        }
        self.usable.push((record as u32, tokens as u32));
    }

    fn weight_of(&self, record: usize) -> Result<f32> {
        let bad = |bad: BadRecord| Error::option("--data", format!("in line {} {}", bad.line, bad.expected), bad.found);
        if self.data.format().objective() == Objective::Supervised { self.data.weight(record).map_err(bad) } else { Ok(1.0) }
    }

    fn skip(&mut self, i: usize, reason: String) {
        let line = self.data.line(i);
        tracing::warn!("{}: line {line} is left out: {reason}", self.data.path().display());
        self.skipped.push(Skipped { line, reason });
    }

    fn read(&self, record: usize) -> Result<(Encoded, bool)> {
        let parsed = self.data.record(record).map_err(|bad| Error::NothingToLearn {
            name: self.data.path().display().to_string(),
            records: 1,
            reason: bad.to_string(),
        })?;
        let mut encoded = encode::supervised(&self.model, &parsed, &self.mask)?;
        let cut = encoded.truncate(self.max_length);
        Ok((encoded, cut))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.usable.len()
    }

    /// Never true: preparing refuses a data set without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.usable.is_empty()
    }

    /// Tokens of example `i`, after truncation.
    #[must_use]
    pub fn length(&self, i: usize) -> usize {
        self.usable.get(i).map_or(0, |e| e.1 as usize)
    }

    /// Tokens and labels of example `i`.
    ///
    /// # Errors
    /// The file has changed since it was prepared.
    pub fn get(&self, i: usize) -> Result<Encoded> {
        let (record, length) = *self.usable.get(i).ok_or_else(|| Error::option("example", format!("below {}", self.usable.len()), i))?;
        let (mut encoded, _) = self.read(record as usize)?;
        if encoded.ids.len() != length as usize {
            let reason = format!("line {} has changed while it was in use", self.data.line(record as usize));
            return Err(Error::NothingToLearn { name: self.data.path().display().to_string(), records: 1, reason });
        }
        encoded.weigh(self.weights.get(i).copied().unwrap_or(1.0));
        Ok(encoded)
    }

    /// The record that example `i` comes from.
    #[must_use]
    pub fn record(&self, i: usize) -> usize {
        self.usable.get(i).map_or(0, |e| e.0 as usize)
    }

    /// How many have a weight of their own, other than 1.
    #[must_use]
    pub fn weighted(&self) -> usize {
        self.weights.iter().filter(|&&weight| weight != 1.0).count()
    }

    /// How many were left out for a weight of 0.
    #[must_use]
    pub fn unweighted(&self) -> usize {
        self.unweighted
    }

    /// What was left out.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// How many lost their end.
    #[must_use]
    pub fn truncated(&self) -> usize {
        self.truncated
    }

    /// The data set behind them.
    #[must_use]
    pub fn data(&self) -> &Dataset {
        &self.data
    }
}
