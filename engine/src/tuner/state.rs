//! A run's whole state, to a checkpoint and back: the same bytes follow as if it had never stopped.

use super::Tuner;
use crate::checkpoint::{self, Best, Saved, State};
use crate::data::Position;
use crate::error::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};

impl Tuner {
    /// Writes a checkpoint into `folder`; the last good one stays until it is complete.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&mut self, folder: &Path) -> Result<PathBuf> {
        self.trainer.read_params(&mut self.copy)?;
        self.state.resize(self.trainer.state_len(), 0);
        self.trainer.read_state(&mut self.state)?;
        let p = &self.progress;
        let progress = checkpoint::Progress {
            step: p.step,
            epoch: p.position.epoch,
            position: p.position.index,
            seed: self.options.seed,
            best: p.best.map(|(loss, step)| Best { step, loss }),
            evaluations_without_gain: p.worse as u32,
            extra: serde_json::json!({ "seconds": p.seconds }),
            ..checkpoint::Progress::default()
        };
        let config = self.decisive_options();
        let state = State {
            progress: &progress,
            shape: self.trainer.layout().lora.shape,
            config: &config,
            params: &self.copy,
            optimizer: &self.state,
            best: p.best.map(|_| self.best.as_slice()),
        };
        Ok(checkpoint::write(folder, &state)?)
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// One of another run, by the option that differs; a damaged one.
    pub fn restore(&mut self, mut saved: Saved) -> Result<()> {
        saved.check_config(&self.decisive_options())?;
        saved.read_params(&mut self.copy)?;
        self.trainer.write_params(&self.copy)?;
        self.state.resize(self.trainer.state_len(), 0);
        saved.read_optimizer(&mut self.state)?;
        let progress = saved.progress();
        self.trainer.write_state(&self.state, progress.step)?;
        self.progress = super::Progress {
            step: progress.step,
            position: Position { epoch: progress.epoch, index: progress.position },
            best: progress.best.map(|b| (b.loss, b.step)),
            worse: u64::from(progress.evaluations_without_gain),
            seconds: progress.extra["seconds"].as_f64().unwrap_or(0.0),
        };
        if saved.has_best() && self.best.len() == self.copy.len() {
            saved.read_best(&mut self.best)?;
        }
        Ok(())
    }

    /// The options that a result depends on: how many threads work, and how often something is written, is not among them.
    fn decisive_options(&self) -> Value {
        let mut value = serde_json::to_value(&self.options).unwrap_or(Value::Null);
        if let Some(map) = value.as_object_mut() {
            for key in ["threads", "save_every", "trunk_cache"] {
                map.shift_remove(key);
            }
            map.insert("examples".into(), self.train.len().into());
        }
        value
    }
}
