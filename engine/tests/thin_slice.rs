//! The whole way on a tiny model: open, answer, tune, save, open again, answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::adapter::Adapter;
use attune::core::sampler::Sampling;
use attune::data::Dataset;
use attune::job::{Config, Event, Job};
use attune::session::{GenerateOptions, Session, SessionOptions};
use attune::template::MaskOptions;
use attune::tuner::{Examples, Scorer, TuneOptions, Tuner};
use attune::{Model, Precision};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DATA: &str = r#"{"prompt": "one ", "completion": "two"}
{"prompt": "red ", "completion": "blue"}
{"prompt": "up ", "completion": "down"}
{"prompt": "hot ", "completion": "cold"}
"#;

fn options() -> TuneOptions {
    TuneOptions {
        rank: 4,
        learning_rate: 1e-2,
        epochs: 4,
        gradient_accumulation: 2,
        max_length: 32,
        threads: 1,
        precision: Precision::F32,
        ..TuneOptions::default()
    }
}

fn files(folder: &Path) -> (PathBuf, PathBuf) {
    let (model, data) = (folder.join("tiny.gguf"), folder.join("data.jsonl"));
    std::fs::write(&model, attune::doc::tiny_model()).unwrap();
    std::fs::write(&data, DATA).unwrap();
    (model, data)
}

fn config(folder: &Path) -> Config {
    let (model, data) = files(folder);
    Config { options: options(), samples: 1, ..Config::new(model, data) }
}

#[test]
fn tuning_lowers_the_loss_and_the_adapter_changes_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::create(folder.path().join("run"), config(folder.path()), false).unwrap();
    let mut losses = Vec::new();
    let outcome = job
        .run(|event| {
            if let Event::Step(step) = event {
                losses.push(step.loss);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(outcome.finished);
    assert_eq!(losses.len(), 8);
    assert!(losses[7] < losses[0] * 0.9, "{losses:?}");

    let model = Model::open(&job.config().model).unwrap();
    let adapter = Adapter::open(&outcome.adapter, &model.base().unwrap()).unwrap();
    let mut session = Session::new(&model, &SessionOptions { context: 64, ..SessionOptions::default() }.for_adapters([&adapter])).unwrap();
    let prompt = session.document("one ").unwrap();
    let logits = session.feed(&prompt).unwrap().to_vec();
    session.add_adapter(&adapter, 1.0).unwrap();
    session.reset();
    let tuned = session.feed(&prompt).unwrap().to_vec();
    assert!(logits.iter().zip(&tuned).any(|(a, b)| (a - b).abs() > 1e-3), "the adapter must change the logits");
    session.scale_adapter(0, 0.0).unwrap();
    session.reset();
    assert_eq!(session.feed(&prompt).unwrap(), logits, "switched off, the adapter must change nothing");
    let greedy = GenerateOptions { max_tokens: 8, sampling: Sampling::GREEDY, stop: vec![] };
    let mut streamed = String::new();
    let answer = session
        .generate(&prompt, &greedy, |piece| {
            streamed.push_str(piece);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(answer.text, streamed);
}

#[test]
fn threads_do_not_change_a_single_byte() {
    let mut results = Vec::new();
    for threads in [1, 2, 4] {
        let model = Model::from_bytes("tiny", attune::doc::tiny_model()).unwrap();
        let data = Arc::new(Dataset::from_bytes(DATA.into()).unwrap());
        let train = Examples::prepare(&model, data, 32, MaskOptions::default(), |_| true, |_| {}).unwrap();
        let mut tuner = Tuner::new(&model, train, None, &TuneOptions { threads, dropout: 0.1, ..options() }, None).unwrap();
        while !tuner.is_done() {
            tuner.step().unwrap();
        }
        results.push(tuner.adapter().unwrap().params);
    }
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[test]
fn a_run_that_is_stopped_and_resumed_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let whole = Job::create(folder.path().join("whole"), config.clone(), false).unwrap();
    let whole = std::fs::read(whole.run(|_| ControlFlow::Continue(())).unwrap().adapter).unwrap();
    for stop in [1, 3, 6] {
        let run = folder.path().join(format!("stopped{stop}"));
        let job = Job::create(&run, config.clone(), false).unwrap();
        let outcome = job
            .run(|event| match event {
                Event::Step(step) if step.step == stop => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })
            .unwrap();
        assert!(!outcome.finished);
        let resumed = Job::resume(&run, Some(2)).unwrap().run(|_| ControlFlow::Continue(())).unwrap();
        assert!(resumed.finished);
        assert_eq!(std::fs::read(resumed.adapter).unwrap(), whole, "stopped after {stop}");
    }
}

#[test]
fn an_adapter_of_the_lowest_layer_alone_is_scored_and_tuned_further() {
    let model = Model::from_bytes("tiny", attune::doc::tiny_model()).unwrap();
    let data = Arc::new(Dataset::from_bytes(DATA.into()).unwrap());
    let examples = || Examples::prepare(&model, data.clone(), 32, MaskOptions::default(), |_| true, |_| {}).unwrap();
    let lowest = TuneOptions { layers: Some(1), first_layer: Some(0), ..options() };
    let mut tuner = Tuner::new(&model, examples(), None, &lowest, None).unwrap();
    let first = tuner.step().unwrap().loss;
    while !tuner.is_done() {
        tuner.step().unwrap();
    }
    let adapter = tuner.adapter().unwrap();
    assert_eq!((adapter.shape.first_layer, adapter.shape.layers), (0, 1));
    let mut scorer = Scorer::new(&model, Some(&adapter), &options()).unwrap();
    let scored = scorer.score(&examples(), |_, _, _| Ok(())).unwrap().loss;
    assert!(scored < first, "{scored} after tuning, {first} before");
    let mut further = Tuner::new(&model, examples(), None, &options(), Some(&adapter)).unwrap();
    assert!(further.step().unwrap().loss < first);
}

#[test]
fn a_resumed_run_renders_templates_with_the_date_on_which_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = attune::doc::tiny_model();
    let (old, new) = (b"message['role'] + '\\n'", b"strftime_now('%d%m%y')");
    let at = bytes.windows(old.len()).position(|w| w == old).unwrap();
    bytes[at..at + new.len()].copy_from_slice(new);
    let config = config(folder.path());
    std::fs::write(&config.model, bytes).unwrap();
    let run = folder.path().join("run");
    let render = |job: &Job| job.model().template().unwrap().render(&[attune::data::Message::user("x")], None, false).unwrap();
    let began = Job::create(&run, config, false).unwrap();
    let settings = run.join("config.json");
    let text = std::fs::read_to_string(&settings).unwrap();
    assert!(text.contains(&began.config().began) && !began.config().began.is_empty());
    // As if it had begun on another day.
    std::fs::write(&settings, text.replace(&began.config().began, "2024-02-29T23:59:59-08:00")).unwrap();
    let resumed = Job::resume(&run, None).unwrap();
    assert_eq!(render(&resumed), "<|im_start|>290224x<|im_end|>\n");
    assert_ne!(render(&began), render(&resumed));
    std::fs::write(&settings, text.replace(&began.config().began, "yesterday")).unwrap();
    let Err(refused) = Job::resume(&run, None) else { panic!("a moment that is none must be refused") };
    assert!(refused.to_string().contains("yesterday"), "{refused}");
}
