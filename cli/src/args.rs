//! Arguments that several commands share.

use crate::failure::{Failure, Outcome};
use attune::adapter::Adapter;
use attune::core::lora::{Module, Modules};
use attune::core::optim::Schedule;
use attune::session::KvType;
use attune::tuner::{Optim, TuneOptions};
use attune::{Model, Precision};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// An adapter, and how strongly it counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdapterArg {
    /// A run folder, a native file, a PEFT folder or a GGUF LoRA file.
    pub(crate) path: PathBuf,
    /// Multiplies the adapter's own scale.
    pub(crate) scale: f32,
}

/// `PATH` or `PATH=SCALE`. A path may hold `=` itself: what exists as it stands is a path, and else only a number behind the last `=` is a scale.
pub(crate) fn adapter(text: &str) -> Result<AdapterArg, String> {
    let whole = || AdapterArg { path: text.into(), scale: 1.0 };
    if text.is_empty() {
        return Err("expected a path, found nothing".into());
    }
    if Path::new(text).exists() {
        return Ok(whole());
    }
    let Some((path, scale)) = text.rsplit_once('=').filter(|(path, _)| !path.is_empty()) else { return Ok(whole()) };
    match scale.parse::<f32>() {
        Ok(scale) if scale.is_finite() => Ok(AdapterArg { path: path.into(), scale }),
        _ if Path::new(path).exists() => Err(format!("expected a number as the scale behind \"{path}=\", found \"{scale}\"")),
        _ => Ok(whole()),
    }
}

impl AdapterArg {
    /// Opens it for a model; `any_base`: even if it was tuned on another one.
    pub(crate) fn open(&self, model: &Model, any_base: bool) -> Outcome<Adapter> {
        let base = model.base()?;
        let open = if any_base { Adapter::open_on_any_base } else { Adapter::open };
        Ok(open(&self.path, &base)?)
    }

    /// Opens it with its scale taken into its alpha, for files, which have no other place for it.
    pub(crate) fn open_scaled(&self, model: &Model, any_base: bool) -> Outcome<Adapter> {
        if self.scale <= 0.0 {
            return Err(Failure::Usage(format!("ADAPTER=SCALE: expected a scale above 0 for a file to write, found {}", self.scale)));
        }
        let mut adapter = self.open(model, any_base)?;
        adapter.shape.alpha *= self.scale;
        Ok(adapter)
    }
}

/// What every command that computes takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Compute {
    /// Threads to compute on; 0: as many as the processor runs at once. Results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Computing")]
    pub(crate) threads: usize,
    /// How products are computed: with their inputs rounded to 8 bits or bf16 (fast, the default except in the demo), or not (f32)
    #[arg(long, value_name = "PRECISION", help_heading = "Computing")]
    pub(crate) precision: Option<PrecisionArg>,
}

impl Compute {
    /// The engine's word for it.
    pub(crate) fn precision(&self) -> Precision {
        self.precision.map(PrecisionArg::into).unwrap_or_default()
    }
}

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionArg {
    /// Weights become f32, activations stay f32
    F32,
    /// Inputs of products are rounded to 8 bits or to bf16, whichever the processor multiplies faster
    Fast,
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Precision {
        match precision {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::Fast => Precision::Fast,
        }
    }
}

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KvArg {
    /// 4 bytes a number
    F32,
    /// 2 bytes a number
    F16,
    /// 34 bytes for 32 numbers
    #[value(name = "q8_0")]
    Q8_0,
}

impl From<KvArg> for KvType {
    fn from(kv: KvArg) -> KvType {
        match kv {
            KvArg::F32 => KvType::F32,
            KvArg::F16 => KvType::F16,
            KvArg::Q8_0 => KvType::Q8_0,
        }
    }
}

/// The optimiser's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OptimArg {
    /// AdamW with f32 state: 8 bytes a parameter
    #[value(name = "adamw")]
    AdamW,
    /// AdamW with 8-bit state: a little above 2 bytes a parameter
    #[value(name = "adamw-8bit")]
    AdamW8bit,
}

/// How the learning rate moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScheduleArg {
    /// It stays
    Constant,
    /// To zero in a straight line
    Linear,
    /// To zero along half a cosine
    Cosine,
}

/// `q_proj,v_proj` or `all-linear`.
pub(crate) fn modules(text: &str) -> Result<Modules, String> {
    if text == "all-linear" {
        return Ok(Modules::ALL);
    }
    let names = || Module::ALL.map(Module::name).join(",");
    text.split(',').try_fold(Modules::NONE, |set, name| match Module::from_name(name.trim()) {
        Some(module) => Ok(set.with(module)),
        None => Err(format!("expected all-linear or some of {}, found \"{name}\"", names())),
    })
}

/// Every option of a tuning run, as PEFT and TRL call them. What is not given keeps its default, or what a resumed run began with.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TuneFlags {
    /// Rank of the adapter [default: 8]
    #[arg(long, value_name = "R", help_heading = "Adapter")]
    pub(crate) rank: Option<u32>,
    /// The adapter counts alpha / rank times [default: 16]
    #[arg(long, value_name = "ALPHA", help_heading = "Adapter")]
    pub(crate) alpha: Option<f32>,
    /// Probability that an input of the adapter is dropped [default: 0]
    #[arg(long, value_name = "P", help_heading = "Adapter")]
    pub(crate) dropout: Option<f32>,
    /// The adapter counts alpha / sqrt(rank) times (rsLoRA)
    #[arg(long, help_heading = "Adapter")]
    pub(crate) use_rslora: bool,
    /// B learns so many times faster than A (LoRA+) [default: 1]
    #[arg(long, value_name = "RATIO", help_heading = "Adapter")]
    pub(crate) loraplus_lr_ratio: Option<f32>,
    /// Linears that get an adapter: some of q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj [default: all-linear]
    #[arg(long, value_name = "NAMES", value_parser = modules, help_heading = "Adapter")]
    pub(crate) target_modules: Option<Modules>,
    /// Only the top N layers get an adapter [default: all]
    #[arg(long, value_name = "N", help_heading = "Adapter")]
    pub(crate) layers: Option<u32>,

    /// Peak learning rate [default: 2e-4; of prefer and reinforce: 5e-5, of reward: 1e-4]
    #[arg(long, value_name = "RATE", help_heading = "Learning")]
    pub(crate) learning_rate: Option<f32>,
    /// How the learning rate moves after warm-up [default: linear]
    #[arg(long, value_name = "SCHEDULE", help_heading = "Learning")]
    pub(crate) schedule: Option<ScheduleArg>,
    /// Updates during which the learning rate rises from 0 [default: 0]
    #[arg(long, value_name = "STEPS", help_heading = "Learning")]
    pub(crate) warmup: Option<u64>,
    /// Decoupled weight decay [default: 0]
    #[arg(long, value_name = "LAMBDA", help_heading = "Learning")]
    pub(crate) weight_decay: Option<f32>,
    /// AdamW's beta1 [default: 0.9]
    #[arg(long, value_name = "BETA", help_heading = "Learning")]
    pub(crate) beta1: Option<f32>,
    /// AdamW's beta2 [default: 0.999]
    #[arg(long, value_name = "BETA", help_heading = "Learning")]
    pub(crate) beta2: Option<f32>,
    /// AdamW's epsilon (TRL's adam_epsilon); the clip range of reinforce is --clip-epsilon [default: 1e-8]
    #[arg(long, value_name = "EPSILON", help_heading = "Learning")]
    pub(crate) epsilon: Option<f32>,
    /// Gradients are scaled down to this norm; 0: never [default: 1]
    #[arg(long, value_name = "NORM", help_heading = "Learning")]
    pub(crate) max_grad_norm: Option<f32>,
    /// The optimiser and its state [default: adamw, or adamw-8bit where the budget asks for it]
    #[arg(long, value_name = "OPTIM", help_heading = "Learning")]
    pub(crate) optim: Option<OptimArg>,
    /// Passes over the data [default: 3]
    #[arg(long, value_name = "N", help_heading = "Learning")]
    pub(crate) epochs: Option<u64>,
    /// Updates in all, whatever the number of passes
    #[arg(long, value_name = "N", help_heading = "Learning")]
    pub(crate) steps: Option<u64>,

    /// Examples of a micro-batch [default: 1]
    #[arg(long, value_name = "N", help_heading = "Batches")]
    pub(crate) batch_size: Option<usize>,
    /// Micro-batches of an update [default: 8]
    #[arg(long, value_name = "N", help_heading = "Batches")]
    pub(crate) gradient_accumulation: Option<usize>,
    /// Tokens of the longest example (of the longest answer with its prompt); longer ones lose their end (the prompt its beginning first) [default:
    /// 1024, at most the model's context]
    #[arg(long, value_name = "TOKENS", help_heading = "Batches")]
    pub(crate) max_length: Option<usize>,
    /// Short examples share a row of max-length tokens, each seeing itself alone
    #[arg(long, help_heading = "Batches")]
    pub(crate) packing: bool,
    /// A new order each epoch [default]
    #[arg(long, overrides_with = "no_shuffle", help_heading = "Batches")]
    pub(crate) shuffle: bool,
    /// The data's own order
    #[arg(long, overrides_with = "shuffle", help_heading = "Batches")]
    pub(crate) no_shuffle: bool,
    /// Seed of order, initialisation and dropout [default: 42]
    #[arg(long, value_name = "SEED", help_heading = "Batches")]
    pub(crate) seed: Option<u64>,

    /// Evaluate after so many updates; 0: after each epoch [default: 0]
    #[arg(long, value_name = "STEPS", help_heading = "Watching")]
    pub(crate) eval_every: Option<u64>,
    /// Stop after so many evaluations without a better loss; 0: never [default: 0]
    #[arg(long, value_name = "N", help_heading = "Watching")]
    pub(crate) early_stopping: Option<u64>,
    /// Write a checkpoint after so many updates; 0: only when interrupted [default: 0]
    #[arg(long, value_name = "STEPS", help_heading = "Watching")]
    pub(crate) save_every: Option<u64>,

    /// Room on disk, in the run folder, for what the layers below --layers give for each example, so that later epochs need not compute it; 0: none
    /// [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse, help_heading = "Computing")]
    pub(crate) trunk_cache: Option<u64>,
    /// Memory that the run may take above the mapped weights, as 300MiB; the knobs are turned until it fits
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse, help_heading = "Computing")]
    pub(crate) budget: Option<u64>,
}

impl TuneFlags {
    /// Sets what was given.
    pub(crate) fn apply(&self, options: &mut TuneOptions) {
        fn set<T: Clone>(to: &mut T, from: &Option<T>) {
            if let Some(value) = from {
                *to = value.clone();
            }
        }
        fn set_some<T: Clone>(to: &mut Option<T>, from: &Option<T>) {
            if from.is_some() {
                to.clone_from(from);
            }
        }
        set(&mut options.rank, &self.rank);
        set(&mut options.alpha, &self.alpha);
        set(&mut options.dropout, &self.dropout);
        options.use_rslora |= self.use_rslora;
        set(&mut options.loraplus_lr_ratio, &self.loraplus_lr_ratio);
        set(&mut options.target_modules, &self.target_modules);
        set_some(&mut options.layers, &self.layers);
        set(&mut options.learning_rate, &self.learning_rate);
        set(&mut options.schedule, &self.schedule.map(schedule));
        set(&mut options.warmup, &self.warmup);
        set(&mut options.weight_decay, &self.weight_decay);
        set(&mut options.beta1, &self.beta1);
        set(&mut options.beta2, &self.beta2);
        set(&mut options.epsilon, &self.epsilon);
        set(&mut options.max_grad_norm, &self.max_grad_norm);
        set_some(&mut options.optim, &self.optim.map(optim));
        set(&mut options.epochs, &self.epochs);
        set_some(&mut options.steps, &self.steps);
        set(&mut options.batch_size, &self.batch_size);
        set(&mut options.gradient_accumulation, &self.gradient_accumulation);
        set(&mut options.max_length, &self.max_length);
        options.packing |= self.packing;
        options.shuffle = (options.shuffle || self.shuffle) && !self.no_shuffle;
        set(&mut options.seed, &self.seed);
        set(&mut options.eval_every, &self.eval_every);
        set(&mut options.early_stopping, &self.early_stopping);
        set(&mut options.save_every, &self.save_every);
        set(&mut options.trunk_cache, &self.trunk_cache);
        set_some(&mut options.budget, &self.budget);
    }
}

fn schedule(schedule: ScheduleArg) -> Schedule {
    match schedule {
        ScheduleArg::Constant => Schedule::Constant,
        ScheduleArg::Linear => Schedule::Linear,
        ScheduleArg::Cosine => Schedule::Cosine,
    }
}

fn optim(optim: OptimArg) -> Optim {
    match optim {
        OptimArg::AdamW => Optim::AdamW,
        OptimArg::AdamW8bit => Optim::AdamW8bit,
    }
}

/// A text given by name of its file, `-` for standard input.
pub(crate) fn read_text(path: &Path) -> Outcome<String> {
    let named = |e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map_err(named)?;
        bytes
    } else {
        std::fs::read(path).map_err(named)?
    };
    String::from_utf8(bytes).map_err(|e| {
        Failure::failed(format!("{}: expected text in UTF-8, found other bytes at offset {}", path.display(), e.utf8_error().valid_up_to()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_adapter_may_have_a_scale() {
        let parsed = |text: &str| adapter(text).map(|a| (a.path.display().to_string(), a.scale));
        assert_eq!(parsed("runs/a"), Ok(("runs/a".into(), 1.0)));
        assert_eq!(parsed("runs/a=0.5"), Ok(("runs/a".into(), 0.5)));
        assert_eq!(parsed("lr=3/a=-2"), Ok(("lr=3/a".into(), -2.0)));
        assert_eq!(parsed("lr=3e-4/a"), Ok(("lr=3e-4/a".into(), 1.0)));
        assert_eq!(parsed("a=inf"), Ok(("a=inf".into(), 1.0)));
        assert!(parsed("").is_err());
    }

    #[test]
    fn a_path_that_exists_is_no_scale() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("rank=8");
        std::fs::create_dir(&run).unwrap();
        let text = run.display().to_string();
        assert_eq!(adapter(&text).unwrap(), AdapterArg { path: run.clone(), scale: 1.0 });
        assert_eq!(adapter(&format!("{text}=0.25")).unwrap(), AdapterArg { path: run, scale: 0.25 });
        assert!(adapter(&format!("{text}=half")).unwrap_err().contains("expected a number"));
    }

    #[test]
    fn modules_are_named_as_peft_names_them() {
        assert_eq!(modules("q_proj,v_proj").unwrap(), Modules::NONE.with(Module::Q).with(Module::V));
        assert_eq!(modules("all-linear").unwrap(), Modules::ALL);
        assert!(modules("q_proj,w_proj").unwrap_err().contains("found \"w_proj\""));
        assert!(modules("").is_err());
    }

    #[test]
    fn flags_that_are_not_given_change_nothing() {
        let mut options = TuneOptions { rank: 3, packing: true, shuffle: false, ..TuneOptions::default() };
        let before = options.clone();
        TuneFlags::default().apply(&mut options);
        assert_eq!(options, before);
    }
}
