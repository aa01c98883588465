//! `adapter_config.json`, as PEFT reads it (<https://huggingface.co/docs/peft>).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use attune_core::lora::{Module, Modules, Shape};
use fancy_regex::{Regex, RegexBuilder};
use serde_json::{Map, Value, json};

use super::error::{Error, io, short};

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Steps after which an expression is given up. Names are short; real ones take a few dozen.
const BACKTRACKS: usize = 20_000;

/// What of `adapter_config.json` says how to read the tensors.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) rank: usize,
    pub(super) alpha: f32,
    pub(super) use_rslora: bool,
    pub(super) base_name: Option<String>,
    /// Whether the head of a sequence classifier was tuned too.
    pub(super) saves_score: bool,
    targets: Names,
    excluded: Names,
    layers: Option<Vec<usize>>,
    rank_pattern: Vec<(Regex, usize)>,
    alpha_pattern: Vec<(Regex, f32)>,
}

/// Names of modules.
#[derive(Debug)]
enum Names {
    /// Nothing is said about them.
    Unsaid,
    /// Every linear.
    All,
    /// Whole names, or ends of names after a dot.
    List(Vec<String>),
    /// What a whole name matches.
    Pattern(Regex),
}

/// Settings that change what the tensors mean and that Attune has no place for: they must be off.
const MUST_BE_OFF: [(&str, &str); 14] = [
    ("use_dora", "false: DoRA's magnitudes have no place in a LoRA adapter; merge them, or tune without"),
    ("use_qalora", "false: QALoRA pools its inputs; tune without"),
    ("use_bdlora", "null: block-diagonal LoRA is another layout; tune without"),
    ("lora_bias", "false: biases of B are not supported; tune without"),
    (
        "modules_to_save",
        "null, or [\"score\"] with task_type SEQ_CLS: no other whole module is part of an adapter; merge it into the base first",
    ),
    ("trainable_token_indices", "null: tuned embeddings are not part of a LoRA adapter; merge them into the base first"),
    ("target_parameters", "null: only linears are supported"),
    ("layer_replication", "null: the base's layers are used once each; expand the base itself first"),
    ("alora_invocation_tokens", "null: activated LoRA is not supported"),
    ("arrow_config", "null: routing between adapters is not supported"),
    ("kasa_config", "null: it changes the base's weights; tune without"),
    ("velora_config", "null: tune without"),
    ("monteclora_config", "null: tune without"),
    ("megatron_config", "null: only linears of transformers are supported"),
];

/// Settings that are read, or that mean nothing once tuning is over.
const KNOWN: [&str; 31] = [
    "peft_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "bias",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "init_lora_weights",
    "base_model_name_or_path",
    "auto_mapping",
    "revision",
    "inference_mode",
    "task_type",
    "lora_dropout",
    "fan_in_fan_out",
    "megatron_core",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "runtime_config",
    "peft_version",
    "qalora_group_size",
    "ensure_weight_tying",
    "use_cache",
    "transformers_version",
    "library_name",
];

impl Config {
    /// Reads and checks the file.
    pub(super) fn read(path: &Path) -> Result<Config, Error> {
        let mut text = Vec::new();
        let file = File::open(path).map_err(io(path, "opening"))?;
        file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(io(path, "reading"))?;
        let settings = Settings { path, map: &Map::new() };
        if text.len() as u64 > MAX_FILE {
            return Err(settings.wrong("the file", "at most 4 MiB of settings", "more"));
        }
        let json = |source| Error::Json { path: path.to_path_buf(), what: "adapter_config.json", source };
        let map: Map<String, Value> = serde_json::from_slice(&text).map_err(json)?;
        Settings { path, map: &map }.config()
    }

    /// Whether PEFT puts the adapter on a linear; `name` is its name within the model, such as `model.layers.0.mlp.up_proj`. `None` where it
    /// is not said, or a pattern cannot be decided.
    pub(super) fn targets(&self, name: &str, layer: usize) -> Option<bool> {
        if self.excluded.holds(name) == Some(true) {
            return Some(false);
        }
        let found = self.targets.holds(name)?;
        let listed = matches!(self.targets, Names::List(_));
        Some(found && (!listed || self.layers.as_ref().is_none_or(|layers| layers.contains(&layer))))
    }

    /// Rank and alpha of a linear; the setting whose pattern cannot be decided, if there is one.
    pub(super) fn rank_and_alpha(&self, name: &str) -> Result<(usize, f32), &'static str> {
        let rank = first_match(&self.rank_pattern, name).map_err(|_| "rank_pattern")?;
        let alpha = first_match(&self.alpha_pattern, name).map_err(|_| "alpha_pattern")?;
        Ok((rank.unwrap_or(self.rank), alpha.unwrap_or(self.alpha)))
    }
}

impl Names {
    fn holds(&self, name: &str) -> Option<bool> {
        match self {
            Names::Unsaid => None,
            Names::All => Some(true),
            Names::List(list) => {
                Some(list.iter().any(|end| name.strip_suffix(end.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))))
            }
            Names::Pattern(pattern) => pattern.is_match(name).ok(),
        }
    }
}

fn first_match<T: Copy>(patterns: &[(Regex, T)], name: &str) -> Result<Option<T>, fancy_regex::Error> {
    for (pattern, value) in patterns {
        if pattern.is_match(name)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

struct Settings<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl Settings<'_> {
    fn config(&self) -> Result<Config, Error> {
        self.check_kind()?;
        for (key, expected) in MUST_BE_OFF {
            let has_a_place = key == "modules_to_save" && self.saves_score();
            if !has_a_place && !self.is_off(key) {
                return Err(self.wrong(key, expected, self.map.get(key)));
            }
        }
        for (key, value) in self.map {
            if !KNOWN.contains(&key.as_str()) && !MUST_BE_OFF.iter().any(|(known, _)| known == key) && !self.is_off(key) {
                tracing::warn!(path = %self.path.display(), key, %value, "unknown setting of adapter_config.json is not honoured");
            }
        }
        let rank = self.number("r")?.and_then(Value::as_u64).filter(|r| (1..=1024).contains(r));
        let alpha = self.number("lora_alpha")?.and_then(Value::as_f64).map(|alpha| alpha as f32).filter(|a| a.is_finite());
        Ok(Config {
            rank: rank.ok_or_else(|| self.wrong("r", "a rank of 1 to 1024", self.map.get("r")))? as usize,
            alpha: alpha.ok_or_else(|| self.wrong("lora_alpha", "a number", self.map.get("lora_alpha")))?,
            use_rslora: match self.map.get("use_rslora") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(on)) => *on,
                found => return Err(self.wrong("use_rslora", "true or false", found)),
            },
            saves_score: self.saves_score(),
            base_name: self.map.get("base_model_name_or_path").and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned),
            targets: self.names("target_modules")?,
            excluded: self.names("exclude_modules")?,
            layers: self.layers()?,
            rank_pattern: self
                .patterns("rank_pattern", "a rank of 1 to 1024", |v| v.as_u64().filter(|r| (1..=1024).contains(r)).map(|r| r as usize))?,
            alpha_pattern: self.patterns("alpha_pattern", "a number", |v| v.as_f64().map(|a| a as f32).filter(|a| a.is_finite()))?,
        })
    }

    fn check_kind(&self) -> Result<(), Error> {
        let kind = self.map.get("peft_type");
        if kind.and_then(Value::as_str) != Some("LORA") {
            return Err(self.wrong("peft_type", "LORA; other methods than LoRA are not supported", kind));
        }
        let bias = self.map.get("bias");
        if !matches!(bias.and_then(Value::as_str), None | Some("none")) {
            return Err(self.wrong("bias", "none: tuned biases are not supported; tune without", bias));
        }
        // Methods that begin by changing the base's own weights: the adapter is right only on the changed base.
        let init = self.map.get("init_lora_weights");
        if !matches!(init, None | Some(Value::Null | Value::Bool(_)))
            && !matches!(init.and_then(Value::as_str), Some("gaussian" | "eva" | "orthogonal" | "mica"))
        {
            let expected = "true, false, gaussian, eva, orthogonal or mica: others change the base's weights; save the adapter with \
                            PEFT's path_initial_model_for_weight_conversion";
            return Err(self.wrong("init_lora_weights", expected, init));
        }
        Ok(())
    }

    /// Whether it is a sequence classifier's adapter whose head, and nothing else, was tuned as a whole. PEFT adds `classifier` to the list, which these models
    /// do not have.
    fn saves_score(&self) -> bool {
        let modules = self.map.get("modules_to_save").and_then(Value::as_array);
        let classifies = self.map.get("task_type").and_then(Value::as_str) == Some("SEQ_CLS");
        let known = |name: &Value| matches!(name.as_str(), Some("score" | "classifier"));
        classifies && modules.is_some_and(|list| list.iter().all(known) && list.iter().any(|name| name.as_str() == Some("score")))
    }

    /// Absent, null, false, or empty.
    fn is_off(&self, key: &str) -> bool {
        match self.map.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
        }
    }

    fn number(&self, key: &str) -> Result<Option<&Value>, Error> {
        match self.map.get(key) {
            found @ (None | Some(Value::Number(_))) => Ok(found),
            found => Err(self.wrong(key, "a number", found)),
        }
    }

    fn names(&self, key: &str) -> Result<Names, Error> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(Names::Unsaid),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("all-linear") => Ok(Names::All),
            Some(Value::String(text)) => Ok(self.pattern(key, text, |text| format!("^(?:{text})$"))?.map_or(Names::Unsaid, Names::Pattern)),
            Some(Value::Array(list)) => {
                let names: Option<Vec<String>> = list.iter().map(|name| name.as_str().map(str::to_owned)).collect();
                let names = names.ok_or_else(|| self.wrong(key, "names of modules", self.map.get(key)))?;
                Ok(if names.iter().any(|name| name == "all-linear") { Names::All } else { Names::List(names) })
            }
            found => Err(self.wrong(key, "names of modules, a pattern, or all-linear", found)),
        }
    }

    fn layers(&self) -> Result<Option<Vec<usize>>, Error> {
        const EXPECTED: &str = "a layer's number, or a list of them";
        let key = "layers_to_transform";
        let one =
            |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| self.wrong(key, EXPECTED, Some(value)));
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(list)) if list.is_empty() => Ok(None),
            Some(Value::Array(list)) => list.iter().map(one).collect::<Result<_, _>>().map(Some),
            Some(value) => Ok(Some(vec![one(value)?])),
        }
    }

    fn patterns<T>(&self, key: &str, expected: &'static str, value: impl Fn(&Value) -> Option<T>) -> Result<Vec<(Regex, T)>, Error> {
        let map = match self.map.get(key) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(map)) => map,
            found => return Err(self.wrong(key, "an object", found)),
        };
        let mut patterns = Vec::new();
        for (name, found) in map {
            let value = value(found).ok_or_else(|| self.wrong(&format!("{key}: {}", short(name)), expected, Some(found)))?;
            match self.pattern(key, name, |name| format!(r"^(?:.*\.)?(?:{name})$"))? {
                Some(pattern) => patterns.push((pattern, value)),
                // Which linears have another rank or alpha is not known then.
                None => return Err(self.wrong(key, "patterns of names", Some(&Value::String(name.clone())))),
            }
        }
        Ok(patterns)
    }

    /// An expression that Python's `re` would take, or `None` with a warning.
    fn pattern(&self, key: &str, text: &str, whole: impl Fn(&str) -> String) -> Result<Option<Regex>, Error> {
        if text.len() > 64 << 10 {
            return Err(self.wrong(key, "a pattern of at most 64 KiB", Some(&Value::String(text.to_owned()))));
        }
        match RegexBuilder::new(&whole(text)).backtrack_limit(BACKTRACKS).delegate_size_limit(4 << 20).build() {
            Ok(regex) => Ok(Some(regex)),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), key, %error, "the pattern cannot be read");
                Ok(None)
            }
        }
    }

    fn wrong<'v>(&self, key: &str, expected: &'static str, found: impl Into<Found<'v>>) -> Error {
        let found = match found.into() {
            Found::Value(Some(value)) => short(&value.to_string()),
            Found::Value(None) => "nothing".to_owned(),
            Found::Text(text) => text.to_owned(),
        };
        Error::Setting { path: self.path.to_path_buf(), key: key.to_owned(), expected, found }
    }
}

enum Found<'v> {
    Value(Option<&'v Value>),
    Text(&'v str),
}

impl<'v> From<Option<&'v Value>> for Found<'v> {
    fn from(value: Option<&'v Value>) -> Self {
        Found::Value(value)
    }
}

impl<'v> From<&'v str> for Found<'v> {
    fn from(text: &'v str) -> Self {
        Found::Text(text)
    }
}

/// The settings of an adapter, with the keys that PEFT 0.11 and later know. `layers`: those that it sits on, unless on all.
/// `classifies`: with the head of a sequence classifier.
pub(super) fn settings(shape: &Shape, modules: Modules, layers: Option<&[usize]>, base_name: &str, classifies: bool) -> Value {
    let whole = shape.alpha.fract() == 0.0 && shape.alpha < 1e9;
    let alpha = if whole { json!(shape.alpha as i64) } else { json!(shape.alpha) };
    json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": base_name,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layer_replication": null,
        "layers_pattern": null,
        "layers_to_transform": layers,
        "loftq_config": {},
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "modules_to_save": classifies.then(|| json!(["score"])),
        "peft_type": "LORA",
        "r": shape.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": modules.iter().map(Module::name).collect::<Vec<_>>(),
        "task_type": if classifies { "SEQ_CLS" } else { "CAUSAL_LM" },
        "use_dora": false,
        "use_rslora": shape.use_rslora,
    })
}
