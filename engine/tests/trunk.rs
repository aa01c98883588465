//! With only top layers adapted, later epochs start from the trunk's output in a file, and end with the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::data::Dataset;
use attune::job::{Config, Event, Job};
use attune::template::MaskOptions;
use attune::tuner::{Examples, TrunkStats, TuneOptions, Tuner};
use attune::{Model, Precision};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const DATA: &str = r#"{"prompt": "one ", "completion": "two"}
{"prompt": "red ", "completion": "blue"}
{"prompt": "up ", "completion": "down"}
{"prompt": "hot ", "completion": "cold"}
"#;

fn options() -> TuneOptions {
    TuneOptions {
        rank: 4,
        layers: Some(1),
        learning_rate: 1e-2,
        dropout: 0.1,
        epochs: 3,
        gradient_accumulation: 2,
        max_length: 32,
        threads: 2,
        precision: Precision::Fast,
        ..TuneOptions::default()
    }
}

/// The adapter's bits after all updates, and what the cache did.
fn tuned(options: &TuneOptions, cache: Option<&Path>) -> (Vec<u32>, Option<TrunkStats>) {
    let model = Model::from_bytes("tiny", attune::doc::tiny_model()).unwrap();
    let data = Arc::new(Dataset::from_bytes(DATA.into()).unwrap());
    let examples = || Examples::prepare(&model, data.clone(), 32, MaskOptions::default(), |_| true, |_| {}).unwrap();
    let mut tuner = Tuner::new(&model, examples(), Some(examples()), options, None).unwrap();
    if let Some(path) = cache {
        tuner.cache_trunk(path).unwrap();
    }
    while !tuner.is_done() {
        tuner.step().unwrap();
    }
    tuner.evaluate().unwrap();
    (tuner.current().unwrap().params.iter().map(|p| p.to_bits()).collect(), tuner.trunk())
}

#[test]
fn later_epochs_start_above_the_trunk_and_end_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trunk.cache");
    let (computed, none) = tuned(&options(), None);
    assert_eq!(none, None);
    let (cached, stats) = tuned(&options(), Some(&path));
    let stats = stats.unwrap();
    assert_eq!(computed, cached);
    // Four examples: computed once each in the first of three epochs; the evaluation takes several at once.
    assert!((stats.computed, stats.damaged) == (4, 0) && stats.used > 2 * 4, "{stats:?}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), stats.bytes);
    // The file of an earlier run, whatever it did last, is used from the first update on.
    let (again, stats) = tuned(&options(), Some(&path));
    assert_eq!((again, stats.unwrap().computed), (computed, 0));
}

#[test]
fn damaged_entries_are_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trunk.cache");
    let (whole, stats) = tuned(&options(), Some(&path));
    let bytes = std::fs::read(&path).unwrap();
    let len = stats.unwrap().bytes as usize;
    // In the first entry's numbers, in its head, cut short, another model's, no cache at all.
    let flipped = |at: usize| bytes.iter().enumerate().map(|(i, b)| if i == at { b ^ 0x10 } else { *b }).collect::<Vec<u8>>();
    for (what, damaged) in [
        ("a number", flipped(48 + 44 + 9)),
        ("a head", flipped(48 + 33)),
        ("the end", bytes[..len - 5].to_vec()),
        ("the identity", flipped(20)),
        ("everything", b"something else".to_vec()),
    ] {
        std::fs::write(&path, damaged).unwrap();
        let (bits, stats) = tuned(&options(), Some(&path));
        let stats = stats.unwrap();
        assert_eq!(bits, whole, "{what}");
        assert!(stats.computed > 0 && stats.used > 0, "{what}: {stats:?}");
        assert_eq!(stats.damaged, u64::from(["a number", "a head"].contains(&what)), "{what}: {stats:?}");
        let (bits, stats) = tuned(&options(), Some(&path));
        assert_eq!((bits == whole, stats.unwrap().computed), (true, 0), "{what}: it is whole again");
    }
}

#[test]
fn the_file_stays_within_its_bytes_and_all_layers_need_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trunk.cache");
    let (whole, _) = tuned(&options(), None);
    let small = TuneOptions { trunk_cache: 4000, ..options() };
    let (bits, stats) = tuned(&small, Some(&path));
    let stats = stats.unwrap();
    assert_eq!(bits, whole);
    assert!(stats.bytes <= 4000 && stats.bytes > 48 && stats.computed > 4, "{stats:?}");
    // The file of a run that might keep more is cut.
    assert!(tuned(&options(), Some(&path)).1.unwrap().bytes > 4000);
    let (bits, stats) = tuned(&small, Some(&path));
    assert_eq!(bits, whole);
    assert!(std::fs::metadata(&path).unwrap().len() <= 4000, "{stats:?}");
    assert_eq!(tuned(&TuneOptions { trunk_cache: 0, ..options() }, Some(&path)).1, None);
    assert_eq!(tuned(&TuneOptions { layers: None, ..options() }, Some(&path)).1, None);
}

#[test]
fn a_stopped_run_leaves_the_file_for_its_continuation_and_a_finished_one_none() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = (folder.path().join("tiny.gguf"), folder.path().join("data.jsonl"));
    std::fs::write(&model, attune::doc::tiny_model()).unwrap();
    std::fs::write(&data, DATA).unwrap();
    let config = Config { options: options(), samples: 0, ..Config::new(model, data) };
    let whole = Job::create(folder.path().join("whole"), config.clone(), false).unwrap().run(|_| ControlFlow::Continue(())).unwrap();
    let whole_bytes = std::fs::read(&whole.adapter).unwrap();
    let run = folder.path().join("stopped");
    let stop = |event: Event<'_>| match event {
        Event::Step(step) if step.step == 3 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    assert!(!Job::create(&run, config, false).unwrap().run(stop).unwrap().finished);
    let cache = run.join("trunk.cache");
    assert!(cache.metadata().unwrap().len() > 48);
    let resumed = Job::resume(&run, None).unwrap().run(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!(std::fs::read(resumed.adapter).unwrap(), whole_bytes);
    assert!(!cache.exists() && !folder.path().join("whole/trunk.cache").exists(), "a finished run needs it no more");
}
