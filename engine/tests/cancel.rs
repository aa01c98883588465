//! Work that is asked to end, and updates that are done a part at a time, leave no trace in the result.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::cancel::Cancel;
use attune::data::Dataset;
use attune::prefer::{HeldOut, PreferOptions, PreferenceExamples, PreferenceTuner};
use attune::session::{FinishReason, GenerateOptions, Session, SessionOptions};
use attune::template::MaskOptions;
use attune::tuner::{Examples, TuneOptions, Tuner};
use attune::{Error, Model};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

fn model() -> Model {
    Model::from_bytes("tiny", attune::doc::tiny_model()).unwrap()
}

fn options() -> TuneOptions {
    TuneOptions { rank: 4, steps: Some(4), max_length: 32, learning_rate: 1e-2, dropout: 0.1, threads: 2, ..TuneOptions::default() }
}

fn tuner(model: &Model) -> Tuner {
    let lines: String = (0..12).map(|i| format!("{{\"prompt\": \"one {i} \", \"completion\": \"two {i}\"}}\n")).collect();
    let data = Arc::new(Dataset::from_bytes(lines.into_bytes()).unwrap());
    let examples = Examples::prepare(model, data, 32, MaskOptions::default(), |_| true, |_| {}).unwrap();
    Tuner::new(model, examples, None, &options(), None).unwrap()
}

fn preferences(model: &Model, method: &str) -> PreferenceTuner {
    let line = |i: usize| match method {
        "kto" => format!("{{\"prompt\": \"one {i} \", \"completion\": \"two {i}\", \"label\": {}}}\n", i.is_multiple_of(2)),
        _ => format!("{{\"prompt\": \"one {i} \", \"chosen\": \"two {i}\", \"rejected\": \"three\"}}\n"),
    };
    let data = Arc::new(Dataset::from_bytes((0..12).map(line).collect::<String>().into_bytes()).unwrap());
    let prefer = PreferOptions::new(method);
    let examples = PreferenceExamples::prepare(model, data, &prefer.method().unwrap(), 32, true, |_| true, |_| {}).unwrap();
    PreferenceTuner::new(model, examples, HeldOut::default(), &options(), &prefer, None).unwrap()
}

/// Runs to the end: in one go, or a part at a time. Returns the adapter, the losses, and how many calls it took.
macro_rules! tuned {
    ($tuner:expr, $parts:expr) => {{
        let mut tuner = $tuner;
        let (mut losses, mut calls) = (Vec::new(), 0);
        while !tuner.is_done() {
            calls += 1;
            let log = if $parts { tuner.step_until(Instant::now()).unwrap() } else { Some(tuner.step().unwrap()) };
            losses.extend(log.map(|log| (log.step, log.loss.to_bits(), log.target_tokens)));
        }
        (tuner.adapter().unwrap().params, losses, calls)
    }};
}

#[test]
fn an_update_that_is_done_a_part_at_a_time_is_the_same_update() {
    let model = model();
    let (whole, losses, calls) = tuned!(tuner(&model), false);
    let (parts, said, more) = tuned!(tuner(&model), true);
    assert!(more > 2 * calls, "{more} calls");
    assert_eq!((whole, losses), (parts, said));
    for method in ["dpo", "kto"] {
        let (whole, losses, calls) = tuned!(preferences(&model, method), false);
        let (parts, said, more) = tuned!(preferences(&model, method), true);
        assert!(more > 2 * calls, "{method}: {more} calls");
        assert_eq!((whole, losses), (parts, said), "{method}");
    }
}

#[test]
fn a_cancelled_update_begins_anew_and_changes_nothing() {
    let model = model();
    let whole = tuned!(tuner(&model), false).0;
    let (mut tuner, cancel) = (tuner(&model), Cancel::new());
    tuner.cancel_with(cancel.clone());
    tuner.step().unwrap();
    assert!(tuner.step_until(Instant::now()).unwrap().is_none(), "a part of the second is done");
    let before = tuner.current().unwrap().params;
    cancel.ask();
    let error = tuner.step().unwrap_err();
    assert!(matches!(error, Error::Core(attune::core::Error::Cancelled)), "{error}");
    assert_eq!((tuner.current().unwrap().params, tuner.progress().step), (before, 1));
    cancel.take_back();
    assert_eq!(tuned!(tuner, false).0, whole);
}

#[test]
fn cancelling_from_another_thread_at_any_moment_leaves_the_result_as_it_was() {
    let model = model();
    let whole = tuned!(tuner(&model), false).0;
    for moment in [50, 200, 500, 900, 1500, 2500] {
        let (mut tuner, cancel) = (tuner(&model), Cancel::new());
        tuner.cancel_with(cancel.clone());
        let asker = thread::spawn(move || {
            thread::sleep(Duration::from_micros(moment));
            cancel.ask();
            thread::sleep(Duration::from_millis(2));
            cancel.take_back();
        });
        while !tuner.is_done() {
            match tuner.step() {
                Ok(_) | Err(Error::Core(attune::core::Error::Cancelled)) => {}
                Err(e) => panic!("{e}"),
            }
        }
        asker.join().unwrap();
        assert_eq!(tuner.adapter().unwrap().params, whole, "after {moment} µs");
    }
}

#[test]
fn an_evaluation_between_two_parts_does_not_disturb_the_update() {
    let model = model();
    let make = || {
        let data = Arc::new(Dataset::from_bytes(b"{\"prompt\": \"one \", \"completion\": \"two\"}\n".to_vec()).unwrap());
        let held_out = Examples::prepare(&model, data, 32, MaskOptions::default(), |_| true, |_| {}).unwrap();
        let lines: String = (0..12).map(|i| format!("{{\"prompt\": \"one {i} \", \"completion\": \"two {i}\"}}\n")).collect();
        let data = Arc::new(Dataset::from_bytes(lines.into_bytes()).unwrap());
        let examples = Examples::prepare(&model, data, 32, MaskOptions::default(), |_| true, |_| {}).unwrap();
        Tuner::new(&model, examples, Some(held_out), &options(), None).unwrap()
    };
    let mut whole = make();
    whole.step().unwrap();
    whole.step().unwrap();
    let mut parts = make();
    parts.step().unwrap();
    assert!(parts.step_until(Instant::now()).unwrap().is_none());
    parts.evaluate().unwrap().unwrap();
    parts.step().unwrap();
    assert_eq!(parts.current().unwrap().params, whole.current().unwrap().params);
}

#[test]
fn an_answer_ends_when_it_is_cancelled_and_the_session_goes_on() {
    let model = model();
    let mut session = Session::new(&model, &SessionOptions { context: 256, prefill_batch: 8, ..SessionOptions::default() }).unwrap();
    let options = GenerateOptions { max_tokens: 40, sampling: attune::core::sampler::Sampling::GREEDY, ..GenerateOptions::default() };
    let prompt: Vec<u32> = (1..100).collect();
    let whole = session.generate(&prompt, &options, |_| ControlFlow::Continue(())).unwrap();
    let cancel = Cancel::new();
    session.cancel_with(cancel.clone());
    session.reset();
    cancel.ask();
    let none = session.generate(&prompt, &options, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((none.finish_reason, none.token_ids.len(), session.history().len()), (FinishReason::Cancelled, 0, 0));
    cancel.take_back();
    let mut pieces = 0;
    let part = session
        .generate(&prompt, &options, |_| {
            pieces += 1;
            if pieces == 3 {
                cancel.ask();
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(part.finish_reason, FinishReason::Cancelled);
    assert!(whole.token_ids.starts_with(&part.token_ids) && part.token_ids.len() < whole.token_ids.len());
    cancel.take_back();
    assert_eq!(session.generate(&prompt, &options, |_| ControlFlow::Continue(())).unwrap(), whole);
}
