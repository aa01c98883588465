//! The measurements themselves, through the same code as answering and tuning.

use super::Cost;
use super::report::{Limits, Report, Shares, Speed, Spread, Training};
use crate::error::{Error, Result};
use crate::memory;
use crate::model::Model;
use crate::session::{Session, SessionOptions};
use crate::tuner::{MicroBatch, TuneOptions};
use crate::{encode::Encoded, plan, tuner};
use attune_core::objective::cross_entropy;
use attune_core::rng;
use attune_cpu::limits::{self, Arithmetic};
use attune_cpu::{Isa, Pool, Precision};
use std::path::Path;
use std::time::Instant;

/// Memory that no cache holds.
const STREAM: usize = 256 << 20;

/// What is measured. A kind of work with no tokens is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Tokens of the prompt that is taken in.
    pub prefill: usize,
    /// Tokens of one prefill pass.
    pub prefill_batch: usize,
    /// Tokens that are made one by one.
    pub decode: usize,
    /// Tokens of a training step's batch.
    pub train_tokens: usize,
    /// Rank of the adapter, on all seven linears.
    pub rank: u32,
    /// Tokens that the session has room for; raised to what is measured.
    pub context: usize,
    /// Whether the time to the first token is measured.
    pub first_token: bool,
    /// Whether the machine's limits are measured.
    pub limits: bool,
    /// How often each is measured, after once that does not count.
    pub repeat: usize,
    /// Threads; 0: as many as the processor runs at once.
    pub threads: usize,
    /// How products are computed.
    pub precision: Precision,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            prefill: 512,
            prefill_batch: 512,
            decode: 64,
            train_tokens: 256,
            rank: 8,
            context: 2048,
            first_token: true,
            limits: true,
            repeat: 3,
            threads: 0,
            precision: Precision::default(),
        }
    }
}

impl Options {
    fn check(&self) -> Result<()> {
        let bounds = [
            ("--prefill", self.prefill, 0, 1 << 20),
            ("--prefill-batch", self.prefill_batch, 1, 1 << 20),
            ("--decode", self.decode, 0, 1 << 20),
            ("--train-tokens", self.train_tokens, 0, 1 << 20),
            ("--repeat", self.repeat, 1, 1000),
        ];
        for (name, found, least, most) in bounds {
            if !(least..=most).contains(&found) {
                return Err(Error::option(name, format!("{least} to {most}"), found));
            }
        }
        if self.train_tokens == 1 {
            return Err(Error::option("--train-tokens", "0, or at least 2, since nothing predicts a first token", 1));
        }
        Ok(())
    }

    fn session(&self) -> SessionOptions {
        SessionOptions {
            context: self.context.max(self.prefill).max(self.decode).max(1),
            prefill_batch: self.prefill_batch.min(self.prefill.max(1)),
            threads: self.threads,
            precision: self.precision,
            ..SessionOptions::default()
        }
    }
}

/// Measures a model file. `progress` hears what comes next.
///
/// Training is measured first, before anything else has taken memory, so that its peak is its own.
///
/// # Errors
/// A file that does not open, options outside their range, memory that the system does not give.
pub fn measure(path: &Path, options: &Options, mut progress: impl FnMut(&str)) -> Result<Report> {
    options.check()?;
    let model = Model::open(path)?;
    let cost = Cost::of(&model.core());
    let mut report = Report {
        model: path.display().to_string(),
        prefill_tps: None,
        decode_tps: None,
        train_tps: None,
        train_peak_bytes: None,
        first_token_ms: None,
        isa: Isa::chosen()?.name(),
        threads: 0,
        precision: match options.precision {
            Precision::F32 => "f32",
            Precision::Fast => "fast",
        },
        model_bytes: model.bytes().len() as u64,
        decode_bytes_per_token: None,
        decode_share_of_read: None,
        prefill: None,
        decode: None,
        first_token: None,
        prefill_ops: None,
        train: None,
        limits: None,
    };
    if options.train_tokens > 0 {
        progress("training");
        report.train = Some(train(&model, path, options)?);
    }
    if options.first_token {
        progress("opening");
        report.first_token = Some(first_token(path, options)?);
    }
    if options.prefill + options.decode > 0 {
        progress("answering");
        (report.prefill, report.decode) = answer(&model, options)?;
    }
    let pool = Pool::new(options.threads)?;
    report.threads = pool.threads();
    if options.limits {
        progress("the machine's limits");
        report.limits = Some(measure_limits(&pool, &model));
    }
    derive(&mut report, &cost, &model, options)?;
    Ok(report)
}

/// What follows from what was measured.
fn derive(report: &mut Report, cost: &Cost, model: &Model, options: &Options) -> Result<()> {
    report.prefill_tps = report.prefill.map(|p| p.tps.median);
    report.decode_tps = report.decode.map(|d| d.tps.median);
    report.first_token_ms = report.first_token.map(|f| f.median);
    report.train_tps = report.train.as_ref().map(|t| t.tps.median);
    report.train_peak_bytes = report.train.as_ref().and_then(|t| t.peak_bytes);
    // Keys and values are f16; a token sees half of the others on average.
    report.decode_bytes_per_token = report.decode.map(|d| cost.decode_bytes(d.tokens as f64 / 2.0, 2.0));
    let Some(limits) = report.limits else { return Ok(()) };
    let moved = report.decode_bytes_per_token.zip(report.decode_tps).map(|(bytes, tps)| bytes * tps);
    report.decode_share_of_read = moved.filter(|_| limits.weights_bytes > 0.0).map(|moved| moved / limits.weights_bytes);
    let prefill = report.prefill.map(|p| cost.prefill(p.tokens) * p.tps.median / p.tokens as f64);
    report.prefill_ops = prefill.map(|ops| Shares::of(ops, &limits));
    if let Some(train) = &mut report.train {
        let lora = plan::tune(model, &tune_options(options))?.layout.lora;
        let (n, targets) = (train.tokens, train.tokens - 1);
        let shares = |ops: f64, ms: Spread| (ms.median > 0.0).then(|| Shares::of(ops / ms.median * 1e3, &limits));
        train.forward = shares(cost.forward(n, targets, &lora), train.forward_ms);
        train.backward = shares(cost.backward(n, targets, &lora), train.backward_ms);
    }
    Ok(())
}

/// Ids that have no pattern, the same every time.
fn ids(count: usize, vocab: usize) -> Vec<u32> {
    (0..count).map(|i| (rng::bits(1, 2, i as u64) % vocab.max(1) as u64) as u32).collect()
}

fn tune_options(options: &Options) -> TuneOptions {
    TuneOptions {
        rank: options.rank,
        max_length: options.train_tokens,
        gradient_accumulation: 1,
        threads: options.threads,
        precision: options.precision,
        ..TuneOptions::default()
    }
}

fn train(model: &Model, path: &Path, options: &Options) -> Result<Training> {
    let settings = tune_options(options);
    let planned = plan::tune(model, &settings)?;
    let (lora, tokens) = (planned.layout.lora, options.train_tokens);
    let mut trainer = tuner::trainer(model, &planned, &settings)?;
    let mut params = vec![0.0; lora.len()];
    lora.init(&mut params, settings.seed)?;
    trainer.write_params(&params)?;
    drop(params);
    let ids = ids(tokens, model.spec().vocab);
    let labels = ids.iter().map(|&id| id as i32).collect();
    let mut batch = MicroBatch::with_capacity(tokens);
    batch.push(&Encoded { ids, labels, ..Encoded::default() });
    let (mut logprobs, mut coef) = (vec![0.0; batch.targets()], vec![0.0; batch.targets()]);
    let (core, mut peak) = (model.core(), None);
    let mut times: [Vec<f64>; 4] = Default::default();
    // The first step brings the weights in, and does not count.
    for step in 0..=options.repeat as u64 {
        let began = Instant::now();
        trainer.forward(&core, &batch.batch(), step, &mut logprobs)?;
        let loss = cross_entropy::loss(&logprobs, batch.targets(), &mut coef);
        if !loss.is_finite() {
            return Err(Error::Diverged { step: step + 1, what: "the loss" });
        }
        let forward = began.elapsed().as_secs_f64();
        trainer.backward(&core, &coef)?;
        let backward = began.elapsed().as_secs_f64();
        trainer.update(&settings.update(step, options.repeat as u64 + 1))?;
        let all = began.elapsed().as_secs_f64();
        peak = peak.max(memory::resident_without(path));
        if step > 0 {
            times.iter_mut().zip([all, forward, backward - forward, all - backward]).for_each(|(list, time)| list.push(time));
        }
    }
    let [all, forward, backward, update] = times.map(Spread::of);
    let ms = |s: Spread| Spread { median: s.median * 1e3, min: s.min * 1e3, max: s.max * 1e3 };
    Ok(Training {
        tokens,
        rank: options.rank,
        tps: all.rate(tokens as f64),
        forward_ms: ms(forward),
        backward_ms: ms(backward),
        update_ms: ms(update),
        peak_bytes: peak,
        planned_bytes: planned.plan.total_bytes,
        forward: None,
        backward: None,
    })
}

/// Milliseconds from opening the file to the likeliest token after a prompt of one token.
fn first_token(path: &Path, options: &Options) -> Result<Spread> {
    let mut times = Vec::new();
    for turn in 0..=options.repeat {
        let began = Instant::now();
        let model = Model::open(path)?;
        let mut session = Session::new(&model, &options.session())?;
        let logits = session.feed(&[1.min(model.spec().vocab as u32 - 1)])?;
        std::hint::black_box(logits.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)));
        if turn > 0 {
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(Spread::of(times))
}

/// Prefill and decoding, in turns; both start from an empty conversation.
fn answer(model: &Model, options: &Options) -> Result<(Option<Speed>, Option<Speed>)> {
    let mut session = Session::new(model, &options.session())?;
    let ids = ids(options.prefill.max(options.decode), model.spec().vocab);
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for turn in 0..=options.repeat {
        session.reset();
        let began = Instant::now();
        if let Some(prompt) = ids.get(..options.prefill).filter(|prompt| !prompt.is_empty()) {
            session.feed(prompt)?;
        }
        let first = began.elapsed().as_secs_f64();
        session.reset();
        let began = Instant::now();
        for id in ids.chunks(1).take(options.decode) {
            session.feed(id)?;
        }
        let second = began.elapsed().as_secs_f64();
        if turn > 0 {
            prefill.push(first);
            decode.push(second);
        }
    }
    let speed = |tokens: usize, times: Vec<f64>| (tokens > 0).then(|| Speed { tokens, tps: Spread::of(times).rate(tokens as f64) });
    Ok((speed(options.prefill, prefill), speed(options.decode, decode)))
}

fn measure_limits(pool: &Pool, model: &Model) -> Limits {
    let mut stretch: Vec<u8> = Vec::new();
    // Where there is no room for it, the model file serves as memory.
    let memory = if stretch.try_reserve_exact(STREAM).is_ok() {
        stretch.resize(STREAM, 1);
        limits::read(pool, &stretch)
    } else {
        limits::read(pool, model.bytes())
    };
    Limits {
        memory_bytes: memory,
        weights_bytes: limits::read(pool, model.bytes()),
        f32_ops: Arithmetic::F32.peak(pool),
        int8_ops: Arithmetic::Int8.peak(pool),
        bf16_ops: Arithmetic::Bf16.peak(pool),
        tile_int8_ops: Arithmetic::TileInt8.peak(pool),
        tile_bf16_ops: Arithmetic::TileBf16.peak(pool),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn tiny() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        std::fs::write(&path, crate::doc::tiny_model()).unwrap();
        (folder, path)
    }

    fn small() -> Options {
        Options {
            prefill: 16,
            prefill_batch: 8,
            decode: 4,
            train_tokens: 12,
            rank: 2,
            context: 32,
            repeat: 2,
            threads: 1,
            ..Options::default()
        }
    }

    #[test]
    fn everything_that_was_asked_for_is_measured() {
        let (_folder, path) = tiny();
        let mut heard = Vec::new();
        let report = measure(&path, &small(), |what| heard.push(what.to_owned())).unwrap();
        assert_eq!(heard.len(), 4);
        let numbers = [report.prefill_tps, report.decode_tps, report.train_tps, report.first_token_ms, report.decode_share_of_read];
        assert!(numbers.iter().all(|x| x.is_some_and(|x| x > 0.0 && x.is_finite())), "{numbers:?}");
        let train = report.train.unwrap();
        assert_eq!((train.tokens, train.rank, report.threads), (12, 2, 1));
        assert!(train.forward.unwrap().of_f32.unwrap() > 0.0);
        // The parts of a step are all of it.
        let parts = train.forward_ms.min + train.backward_ms.min + train.update_ms.min;
        assert!(parts * 0.9 <= 12.0 / train.tps.max * 1e3, "{train:?}");
        if cfg!(target_os = "linux") {
            assert!(report.train_peak_bytes.unwrap() >= train.planned_bytes / 2, "{train:?}");
        }
    }

    #[test]
    fn what_has_no_tokens_is_left_out() {
        let (_folder, path) = tiny();
        let options = Options { prefill: 0, decode: 0, train_tokens: 0, first_token: false, limits: false, ..small() };
        let report = measure(&path, &options, |what| panic!("{what}")).unwrap();
        assert_eq!((report.prefill_tps, report.decode_tps, report.train_tps, report.first_token_ms), (None, None, None, None));
    }

    #[test]
    fn options_that_cannot_be_measured_are_refused_by_name() {
        let (_folder, path) = tiny();
        for (options, name) in [
            (Options { repeat: 0, ..small() }, "--repeat"),
            (Options { prefill_batch: 0, ..small() }, "--prefill-batch"),
            (Options { train_tokens: 1, ..small() }, "--train-tokens"),
            (Options { decode: usize::MAX, ..small() }, "--decode"),
        ] {
            let error = measure(&path, &options, |_| ()).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
