//! Weighted supervised examples: what a weight is worth, and what is none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::adapter::Adapter;
use attune::data::Dataset;
use attune::template::MaskOptions;
use attune::tuner::{Examples, Scorer, TuneOptions, Tuner};
use attune::{Model, Precision};
use std::sync::Arc;

const ONE: &str = r#""prompt": "one ", "completion": "two three""#;
const RED: &str = r#""prompt": "red ", "completion": "blue""#;
const UP: &str = r#""prompt": "up ", "completion": "down and up""#;

fn model() -> Model {
    Model::from_bytes("tiny", attune::doc::tiny_model()).unwrap()
}

fn prepare(model: &Model, lines: &[String]) -> attune::Result<Examples> {
    let data = Arc::new(Dataset::from_bytes(lines.join("\n").into_bytes())?);
    Examples::prepare(model, data, 96, MaskOptions::default(), |_| true, |_| {})
}

/// Examples with weights, a line each; a weight of 1 is left out.
fn lines(examples: &[(&str, f32)]) -> Vec<String> {
    examples
        .iter()
        .map(|(body, weight)| if *weight == 1.0 { format!("{{{body}}}") } else { format!("{{{body}, \"weight\": {weight}}}") })
        .collect()
}

fn options(gradient_accumulation: usize) -> TuneOptions {
    TuneOptions {
        rank: 4,
        gradient_accumulation,
        max_length: 96,
        shuffle: false,
        threads: 1,
        precision: Precision::F32,
        ..TuneOptions::default()
    }
}

/// An adapter that has learnt something, so that A has gradients too.
fn started(model: &Model) -> Adapter {
    let options = TuneOptions { learning_rate: 2e-2, steps: Some(3), ..options(1) };
    let mut tuner = Tuner::new(model, prepare(model, &lines(&[(ONE, 1.0), (UP, 1.0)])).unwrap(), None, &options, None).unwrap();
    while !tuner.is_done() {
        tuner.step().unwrap();
    }
    tuner.adapter().unwrap()
}

fn gradients(model: &Model, lines: &[String], accumulate: usize, start: &Adapter) -> (f64, Vec<f32>) {
    Tuner::new(model, prepare(model, lines).unwrap(), None, &options(accumulate), Some(start)).unwrap().gradients().unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b))) / norm(&mut b.iter().map(|&b| f64::from(b)))
}

#[test]
fn a_weight_of_two_is_the_example_twice_in_the_update_and_of_zero_not_at_all() {
    let (model, start) = (model(), started(&model()));
    let weighted = gradients(&model, &lines(&[(ONE, 2.0), (RED, 0.0), (UP, 1.0)]), 2, &start);
    let repeated = gradients(&model, &lines(&[(ONE, 1.0), (ONE, 1.0), (UP, 1.0)]), 3, &start);
    assert!((weighted.0 - repeated.0).abs() < 1e-6, "{} {}", weighted.0, repeated.0);
    assert!(distance(&weighted.1, &repeated.1) < 1e-5, "{}", distance(&weighted.1, &repeated.1));
    let plain = gradients(&model, &lines(&[(ONE, 1.0), (UP, 1.0)]), 2, &start);
    assert!(distance(&plain.1, &repeated.1) > 1e-2, "the weight makes a difference");
    let scaled = gradients(&model, &lines(&[(ONE, 0.5), (UP, 0.25)]), 2, &start);
    assert!(distance(&scaled.1, &repeated.1) < 1e-5, "only how weights relate counts");
}

#[test]
fn gradients_of_weighted_turns_are_the_slope_of_the_weighted_loss() {
    let (model, start) = (model(), started(&model()));
    let turns = |a: &str, b: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "one"}}, {{"role": "assistant", "content": "two"{a}}},
            {{"role": "user", "content": "red"}}, {{"role": "assistant", "content": "blue and red"{b}}}], "weight": 3}}"#
        )
        .replace('\n', " ")
    };
    let weighted = [
        turns(r#", "weight": 0.25"#, ""),
        r#"{"messages": [{"role": "user", "content": "up"}, {"role": "assistant", "content": "down"}]}"#.into(),
    ];
    let (loss, slope) = gradients(&model, &weighted, 2, &start);
    let norm = slope.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
    let moved = |by: f64| {
        let mut there = start.clone();
        there.params.iter_mut().zip(&slope).for_each(|(p, &g)| *p += (by * f64::from(g) / norm) as f32);
        gradients(&model, &weighted, 2, &there).0
    };
    let measured = (moved(0.02) - moved(-0.02)) / 0.04;
    assert!((measured - norm).abs() < 0.02 * norm, "measured {measured}, {norm} by the backward pass");
    // The same by hand: 0.75 of the first turn, 3 of the second, 1 of the other example.
    let part = |lines: &[String]| {
        let examples = prepare(&model, lines).unwrap();
        let mut all = Vec::new();
        let mut scorer = Scorer::new(&model, Some(&start), &options(1)).unwrap();
        let said = scorer.score(&examples, |_, _, logprobs| {
            all.extend_from_slice(logprobs);
            Ok(())
        });
        said.unwrap();
        (-all.iter().map(|&lp| f64::from(lp)).sum::<f64>(), all.len() as f64)
    };
    let parts =
        [(0.75, part(&[turns("", r#", "weight": 0"#)])), (3.0, part(&[turns(r#", "train": false"#, "")])), (1.0, part(&weighted[1..]))];
    let (sum, weight) = parts.iter().fold((0.0, 0.0), |(sum, all), (w, (nll, n))| (sum + w * nll, all + w * n));
    assert!((loss - sum / weight).abs() < 1e-5, "{loss} {}", sum / weight);
}

#[test]
fn weights_of_one_give_the_same_bytes_as_none() {
    let model = model();
    let adapter = |lines: &[String], packing: bool| {
        let options = TuneOptions { learning_rate: 1e-2, steps: Some(4), packing, ..options(2) };
        let mut tuner = Tuner::new(&model, prepare(&model, lines).unwrap(), None, &options, None).unwrap();
        let losses: Vec<u64> = (0..4).map(|_| tuner.step().unwrap().loss.to_bits()).collect();
        (losses, tuner.adapter().unwrap().params)
    };
    let ones: Vec<String> = [ONE, RED, UP].iter().map(|body| format!("{{{body}, \"weight\": 1.0}}")).collect();
    for packing in [false, true] {
        assert_eq!(adapter(&ones, packing), adapter(&lines(&[(ONE, 1.0), (RED, 1.0), (UP, 1.0)]), packing));
    }
    assert_ne!(adapter(&lines(&[(ONE, 1.0), (RED, 2.0), (UP, 1.0)]), true).1, adapter(&ones, true).1, "packed examples keep their weights");
}

#[test]
fn the_held_out_loss_is_the_weighted_mean() {
    let model = model();
    let loss = |examples: &[(&str, f32)]| {
        let mut scorer = Scorer::new(&model, None, &options(1)).unwrap();
        scorer.score(&prepare(&model, &lines(examples)).unwrap(), |_, _, _| Ok(())).unwrap()
    };
    let (weighted, repeated) = (loss(&[(ONE, 2.0), (UP, 1.0)]), loss(&[(ONE, 1.0), (ONE, 1.0), (UP, 1.0)]));
    assert!((weighted.loss - repeated.loss).abs() < 1e-6 && weighted.target_tokens < repeated.target_tokens);
}

#[test]
fn what_is_no_weight_is_an_error_with_its_line() {
    let model = model();
    for bad in ["-1", "NaN", "Infinity", "-Infinity", "1e999", "\"heavy\"", "[1, 2]", "1e7"] {
        let all = [format!("{{{ONE}}}"), format!("{{{UP}, \"weight\": {bad}}}")];
        let said = prepare(&model, &all).err().unwrap_or_else(|| panic!("{bad} passed")).to_string();
        assert!(said.contains("line 2") && said.contains("`weight`") && said.contains("0"), "{bad}: {said}");
    }
    let turn = r#"{"messages": [{"role": "user", "content": "up"}, {"role": "assistant", "content": "down", "weight": -0.5}]}"#;
    let said = prepare(&model, &[turn.to_owned()]).err().unwrap().to_string();
    assert!(said.contains("line 1") && said.contains("messages[1]"), "{said}");
    let said = prepare(&model, &lines(&[(ONE, 0.0), (UP, 0.0)])).err().unwrap().to_string();
    assert!(said.contains("every example has weight 0") && said.contains("above 0"), "{said}");
    let some = prepare(&model, &lines(&[(ONE, 0.0), (UP, 1.0), (RED, 3.0)])).unwrap();
    assert_eq!((some.len(), some.weighted(), some.unweighted(), some.skipped().len()), (2, 1, 1, 0));
}

#[test]
fn a_look_at_the_data_counts_weighted_examples() {
    let data = Dataset::from_bytes(lines(&[(ONE, 0.0), (UP, 1.0), (RED, 3.0)]).join("\n").into_bytes()).unwrap();
    let report = attune::data::check::check_dataset(&data, &attune::data::check::CheckOptions::default()).unwrap();
    assert_eq!((report.counts.weighted, report.counts.weightless), (2, 1));
    assert!(report.to_string().contains("weights  2 other than 1, 1 of them 0"), "{report}");
}
