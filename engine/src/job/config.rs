//! What a run is asked to do, and the data that it names.

use crate::data::{Dataset, Objective};
use crate::error::{Error, Result};
use crate::feedback::{self, ExampleOptions};
use crate::model::Model;
use crate::prefer::PreferOptions;
use crate::reinforce::{self, ReinforceOptions};
use crate::reward::RewardOptions;
use crate::tuner::TuneOptions;
use attune_core::objective::Data;
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Everything that it takes to repeat a run: `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The version of Attune that wrote it.
    #[serde(default)]
    pub attune: String,
    /// The model file.
    pub model: PathBuf,
    /// The hash of its tensors.
    #[serde(default)]
    pub model_hash: String,
    /// What is learnt from.
    pub data: PathBuf,
    /// Its size and CRC-32.
    #[serde(default)]
    pub data_fingerprint: (u64, u32),
    /// Held-out data.
    #[serde(default)]
    pub eval_data: Option<PathBuf>,
    /// The share of `data` that is held out, where there is no `eval_data`.
    #[serde(default)]
    pub eval_split: f32,
    /// The adapter that tuning starts from.
    #[serde(default)]
    pub init_adapter: Option<PathBuf>,
    /// Of a run on preferences, its method and what goes with it; else the run is supervised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferOptions>,
    /// Of a run that tunes a reward model, what goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<RewardOptions>,
    /// Of a run on rewards, its method and what goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reinforcement: Option<ReinforceOptions>,
    /// Supervised examples that a run on preferences or rewards must not unlearn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard_data: Option<PathBuf>,
    /// Prompts of the data that are answered before and after.
    #[serde(default)]
    pub samples: usize,
    /// When the run began (RFC 3339), to the second: what chat templates take for now, also when the run is taken up again on another day.
    #[serde(default)]
    pub began: String,
    /// All options, among the other keys. [`read_config`] reads them on their own: flattening loses the numbers where some crate of the program has
    /// switched on serde_json's arbitrary precision.
    #[serde(flatten, skip_deserializing)]
    pub options: TuneOptions,
}

impl Config {
    /// A run of `model` on `data` with default options.
    #[must_use]
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Config {
        Config {
            attune: env!("CARGO_PKG_VERSION").into(),
            model: model.into(),
            model_hash: String::new(),
            data: data.into(),
            data_fingerprint: (0, 0),
            eval_data: None,
            eval_split: 0.0,
            init_adapter: None,
            preference: None,
            reward: None,
            reinforcement: None,
            guard_data: None,
            samples: 3,
            began: String::new(),
            options: TuneOptions::default(),
        }
    }
}

/// Reads a run folder's settings.
///
/// # Errors
/// A folder without a run, or with a damaged one.
pub fn read_config(folder: &Path) -> Result<Config> {
    let path = folder.join("config.json");
    if !path.exists() {
        let reason = "expected the folder of a run, found no config.json in it; without --resume a run begins";
        return Err(Error::RunFolder { path: folder.to_path_buf(), reason: reason.into() });
    }
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let parsed = serde_json::from_str(&text).and_then(|config: Config| Ok(Config { options: serde_json::from_str(&text)?, ..config }));
    parsed.map_err(|e| Error::RunFolder { path, reason: format!("expected the settings of a run, found {e}") })
}

/// The model as it was when the run began. Settings of a version that did not note it give no moment: then it is now.
pub(super) fn at(folder: &Path, config: &Config, model: Model) -> Result<Model> {
    if config.began.is_empty() {
        return Ok(model);
    }
    let began = DateTime::parse_from_rfc3339(&config.began).map_err(|e| Error::RunFolder {
        path: folder.join("config.json"),
        reason: format!("\"began\": expected a moment like 2026-05-01T12:00:00Z, found {:?} ({e})", config.began),
    })?;
    Ok(model.with_now(began))
}

/// Data for a run: a file of examples, or a feedback store, of which the examples are built that the run's method learns from.
///
/// # Errors
/// A file that is neither, or a store that gives none.
pub fn open_data(path: &Path, config: &Config) -> Result<Dataset> {
    if !feedback::is_store(path) {
        return Ok(Dataset::open(path)?);
    }
    let objective = match &config.preference {
        None if config.reward.is_some() => Objective::Ranking,
        None if config.reinforcement.is_some() => reinforce::OBJECTIVE,
        None => Objective::Supervised,
        Some(preference) => match preference.method()?.data() {
            Data::Pairs => Objective::Preference,
            Data::Ratings => Objective::Rating,
            Data::Rankings => Objective::Ranking,
        },
    };
    let examples = feedback::Examples::build(path, objective, &ExampleOptions::default())?;
    let report = examples.report();
    if examples.is_empty() {
        let examples = match objective {
            Objective::Preference => "pairs",
            Objective::Rating => "ratings",
            Objective::Ranking => "rankings or pairs",
            Objective::Prompt => "prompts",
            Objective::Supervised => "answers that are liked",
        };
        let reason = match report.counts.entries {
            0 => "the feedback store has no entries: nothing has been added yet, or all was erased".to_owned(),
            _ => format!("the feedback store gives no {examples}; attune feedback check says what is there"),
        };
        return Err(Error::NothingToLearn { name: path.display().to_string(), records: report.counts.entries, reason });
    }
    if report.contradiction_count > 0 {
        tracing::warn!("{}: {} contradictions; attune feedback check lists them", path.display(), report.contradiction_count);
    }
    Ok(Dataset::from_bytes(examples.lines()?)?)
}
