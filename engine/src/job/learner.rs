//! What learns in a run, and from what: examples, preferences, which answers are better, or rewards.

use super::folder::{REFERENCE, TRUNK};
use super::samples::{Samples, warn_of};
use super::{Event, Job};
use crate::adapter::Adapter;
use crate::checkpoint::Saved;
use crate::data::{Dataset, HoldOut};
use crate::error::{Error, Result};
use crate::memory::Meter;
use crate::plan::Plan;
use crate::prefer::{HeldOut, PreferOptions, PreferenceExamples, PreferenceTuner};
use crate::reinforce::{self, Prompts, ReinforceOptions, ReinforceTuner, Rewards};
use crate::reward::{RewardOptions, RewardTuner};
use crate::template::MaskOptions;
use crate::tuner::{EvalLog, Examples, Progress, Skipped, StepLog, TuneOptions, Tuner};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// Whoever listens to a run.
type Listen<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// What a run needs of whatever learns.
pub(super) trait Learner {
    /// What is done before the first update, and before a checkpoint is taken up.
    fn begin(&mut self, folder: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<()>;
    fn step(&mut self) -> Result<StepLog>;
    fn evaluate(&mut self) -> Result<Option<EvalLog>>;
    fn evaluation_due(&self) -> bool;
    fn is_done(&self) -> bool;
    /// What is done after the last update, where the run was not interrupted.
    fn finish(&mut self) -> Result<()>;
    /// Why it has stopped: a bound that was left.
    fn stopped(&self) -> Option<&str>;
    /// After how many updates the adapter to keep is as it is.
    fn kept(&self) -> u64;
    fn total_steps(&self) -> u64;
    fn progress(&self) -> &Progress;
    fn plan(&self) -> &Plan;
    fn adapter(&mut self) -> Result<Adapter>;
    fn save(&mut self, folder: &Path) -> Result<PathBuf>;
    fn restore(&mut self, saved: Saved) -> Result<()>;
}

macro_rules! learner {
    ($($tuner:ty: $begin:expr, $finish:expr, $stopped:expr, $kept:expr;)*) => {$(
        impl Learner for $tuner {
            fn begin(&mut self, folder: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<()> {
                let begin: fn(&mut $tuner, &Path, &mut dyn FnMut(usize, usize)) -> Result<()> = $begin;
                begin(self, folder, progress)
            }
            fn step(&mut self) -> Result<StepLog> {
                self.step()
            }
            fn evaluate(&mut self) -> Result<Option<EvalLog>> {
                self.evaluate()
            }
            fn evaluation_due(&self) -> bool {
                self.evaluation_due()
            }
            fn is_done(&self) -> bool {
                self.is_done()
            }
            fn finish(&mut self) -> Result<()> {
                let finish: fn(&mut $tuner) -> Result<()> = $finish;
                finish(self)
            }
            fn kept(&self) -> u64 {
                let kept: fn(&$tuner) -> u64 = $kept;
                kept(self)
            }
            fn stopped(&self) -> Option<&str> {
                let stopped: fn(&$tuner) -> Option<&str> = $stopped;
                stopped(self)
            }
            fn total_steps(&self) -> u64 {
                self.total_steps()
            }
            fn progress(&self) -> &Progress {
                self.progress()
            }
            fn plan(&self) -> &Plan {
                self.plan()
            }
            fn adapter(&mut self) -> Result<Adapter> {
                self.adapter()
            }
            fn save(&mut self, folder: &Path) -> Result<PathBuf> {
                self.save(folder)
            }
            fn restore(&mut self, saved: Saved) -> Result<()> {
                self.restore(saved)
            }
        }
    )*};
}

/// After how many updates the best adapter is as it is, or where nothing is held out the last.
fn best(progress: &Progress) -> u64 {
    progress.best.map_or(progress.step, |(_, step)| step)
}

learner! {
    Tuner: |tuner, folder, _| tuner.cache_trunk(&folder.join(TRUNK)), |_| Ok(()), |_| None, |tuner| best(tuner.progress());
    PreferenceTuner: |tuner, folder, progress| tuner.prepare_reference(Some(&folder.join(REFERENCE)), progress), |_| Ok(()),
        PreferenceTuner::stopped, PreferenceTuner::kept;
    ReinforceTuner: |_, _, _| Ok(()), ReinforceTuner::finish, ReinforceTuner::stopped, ReinforceTuner::kept;
    RewardTuner: |_, _, _| Ok(()), |_| Ok(()), |_| None, |tuner| best(tuner.progress());
}

/// What learns, how many examples there are, how many of them were cut and how many have a weight of their own, and what was left out.
pub(super) struct Prepared {
    pub(super) tuner: Box<dyn Learner>,
    pub(super) examples: usize,
    pub(super) truncated: usize,
    pub(super) weighted: usize,
    pub(super) skipped: Vec<Skipped>,
}

impl Job {
    /// What is learnt, and by what. The samples are answered on the way, as tuning finds them.
    pub(super) fn learner(
        &self,
        start: Option<&Adapter>,
        meter: &mut Meter,
        samples: &mut Samples,
        listen: Listen<'_>,
    ) -> Result<Prepared> {
        match (&self.config.reward, &self.config.reinforcement, &self.config.preference) {
            (Some(reward), ..) => self.reward_model(reward, start, listen),
            (None, Some(reinforce), _) => self.on_rewards(reinforce, start, meter, samples, listen),
            (None, None, Some(prefer)) => self.on_preferences(prefer, start, meter, samples, listen),
            (None, None, None) => self.on_examples(start, meter, samples, listen),
        }
    }

    fn on_examples(&self, start: Option<&Adapter>, meter: &mut Meter, samples: &mut Samples, listen: Listen<'_>) -> Result<Prepared> {
        let max_length = self.max_length();
        let (train, eval) =
            self.parted(listen, |data, keep, tell| Examples::prepare(&self.model, data, max_length, MaskOptions::default(), keep, tell))?;
        let shown = eval.as_ref().unwrap_or(&train);
        *samples = self.prompts((0..shown.len()).filter_map(|i| shown.data().record(shown.record(i)).ok()));
        let unanswered = self.answer(samples, start, meter, |s| &mut s.before);
        let (examples, truncated, weighted, skipped) = (train.len(), train.truncated(), train.weighted(), train.skipped().to_vec());
        let tuner = Tuner::new(&self.model, train, eval, &self.config.options, start)?;
        // Once it is known that there is a run to report on: a budget that is too small is said once, with what tuning takes.
        warn_of(unanswered);
        Ok(Prepared { tuner: Box::new(tuner), examples, truncated, weighted, skipped })
    }

    fn on_preferences(
        &self,
        options: &PreferOptions,
        start: Option<&Adapter>,
        meter: &mut Meter,
        samples: &mut Samples,
        listen: Listen<'_>,
    ) -> Result<Prepared> {
        let (max_length, method, share) = (self.max_length(), options.method()?, options.share_prompts);
        let (train, preferences) =
            self.parted(listen, |data, keep, tell| PreferenceExamples::prepare(&self.model, data, &method, max_length, share, keep, tell))?;
        let guard = self.guard()?;
        let shown = preferences.as_ref().unwrap_or(&train);
        *samples = self.prompts((0..shown.len()).filter_map(|i| shown.data().record(shown.record(i)).ok()));
        let unanswered = self.answer(samples, start, meter, |s| &mut s.before);
        let (examples, truncated, skipped) = (train.len(), train.truncated(), train.skipped().to_vec());
        let held_out = HeldOut { preferences, guard };
        let tuner = PreferenceTuner::new(&self.model, train, held_out, &self.config.options, options, start)?;
        warn_of(unanswered);
        Ok(Prepared { tuner: Box::new(tuner), examples, truncated, weighted: 0, skipped })
    }

    /// A reward model's pairs and rankings. It answers no prompts before and after.
    fn reward_model(&self, options: &RewardOptions, start: Option<&Adapter>, listen: Listen<'_>) -> Result<Prepared> {
        let (max_length, share) = (self.max_length(), options.share_prompts);
        let (train, held_out) = self
            .parted(listen, |data, keep, tell| PreferenceExamples::prepare_for_scores(&self.model, data, max_length, share, keep, tell))?;
        let (examples, truncated, skipped) = (train.len(), train.truncated(), train.skipped().to_vec());
        let tuner = RewardTuner::new(&self.model, train, held_out, &self.config.options, options, start)?;
        Ok(Prepared { tuner: Box::new(tuner), examples, truncated, weighted: 0, skipped })
    }

    fn on_rewards(
        &self,
        reinforce: &ReinforceOptions,
        start: Option<&Adapter>,
        meter: &mut Meter,
        samples: &mut Samples,
        listen: Listen<'_>,
    ) -> Result<Prepared> {
        let (options, max_length) = (&self.config.options, self.max_length());
        let brought = self.rewards.lock().unwrap_or_else(PoisonError::into_inner).take();
        let rewards = match brought {
            Some(rewards) => rewards,
            None => {
                let score = reinforce.scoring(&TuneOptions { max_length, ..options.clone() })?;
                Rewards::parse_for(&self.model, &reinforce.rewards, &reinforce.reward_weights, &score)?
            }
        };
        let longest = max_length.saturating_sub(reinforce.completion_length(max_length));
        let (train, prompts) =
            self.parted(listen, |data, keep, tell| Prompts::prepare(&self.model, data, &rewards, longest, keep, tell))?;
        let guard = self.guard()?;
        let shown = prompts.as_ref().unwrap_or(&train);
        *samples = self.prompts((0..shown.len()).filter_map(|i| shown.data().record(shown.record(i)).ok()));
        let unanswered = self.answer(samples, start, meter, |s| &mut s.before);
        let (examples, skipped) = (train.len(), train.skipped().to_vec());
        let held_out = reinforce::HeldOut { prompts, guard };
        let tuner = ReinforceTuner::new(&self.model, train, held_out, rewards, options, reinforce, start)?;
        warn_of(unanswered);
        Ok(Prepared { tuner: Box::new(tuner), examples, truncated: 0, weighted: 0, skipped })
    }

    fn max_length(&self) -> usize {
        self.config.options.length_for(self.model.spec())
    }

    /// The examples that guard what the model can do.
    fn guard(&self) -> Result<Option<Examples>> {
        let Some(path) = &self.config.guard_data else { return Ok(None) };
        let data = Arc::new(Dataset::open(path)?);
        let guard = Examples::prepare(&self.model, data, self.max_length(), MaskOptions::default(), |_| true, |_| {});
        guard.map(Some).map_err(|e| e.blame("--guard-data"))
    }

    /// Prepares the data and the held-out data, in whatever form.
    #[allow(clippy::type_complexity)]
    fn parted<E>(
        &self,
        listen: Listen<'_>,
        prepare: impl Fn(Arc<Dataset>, &dyn Fn(u64) -> bool, &mut dyn FnMut(usize)) -> Result<E>,
    ) -> Result<(E, Option<E>)> {
        let (total, own) = (self.train.len(), self.eval.is_some());
        let split = if own { 0.0 } else { self.config.eval_split };
        let held_out = HoldOut::new(total as u64, split, self.config.options.seed).ok_or_else(|| {
            let expected = "two examples or more, one to learn from and one to hold out (leave the flag out to learn from all)";
            Error::option("--eval-split", expected, format!("{total} in {}", self.config.data.display()))
        })?;
        let mut tell = |i: usize| {
            let _ = listen(Event::Preparing(i, total));
        };
        let train = prepare(self.train.clone(), &|i| !held_out.has(i), &mut tell)?;
        let eval = match &self.eval {
            Some(data) => Some(prepare(data.clone(), &|_| true, &mut |_| {}).map_err(|e| e.blame("--eval-data"))?),
            None if split > 0.0 => Some(prepare(self.train.clone(), &|i| held_out.has(i), &mut tell)?),
            None => None,
        };
        Ok((train, eval))
    }
}
