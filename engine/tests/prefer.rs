//! Tuning on preferences by the library: what it learns, what it leaves out, and that it ends with the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::data::Dataset;
use attune::prefer::{HeldOut, PreferOptions, PreferenceExamples, PreferenceTuner};
use attune::template::MaskOptions;
use attune::tuner::{Examples, TuneOptions};
use attune::{Model, Precision};
use std::sync::Arc;

const PAIRS: &str = r#"{"prompt": "one ", "chosen": "two", "rejected": "three and more"}
{"prompt": "red ", "chosen": "blue", "rejected": "green"}
{"prompt": [{"role": "user", "content": "Up?"}], "chosen": "down", "rejected": "no"}
{"prompt": "hot ", "chosen": "cold", "rejected": "the a"}
"#;
const RATINGS: &str = r#"{"prompt": "one ", "completion": "two", "label": true}
{"prompt": "red ", "completion": "green", "label": false}
{"prompt": "hot ", "completion": "cold", "label": true}
{"prompt": "up ", "completion": "the a", "label": false}
"#;
const RANKINGS: &str = r#"{"prompt": "one ", "completions": ["two", "three", "the a the a"]}
{"prompt": "red ", "completions": ["blue", "green", "grey", "no"]}
{"prompt": "hot ", "completions": ["cold", "here"]}
"#;

fn model() -> Model {
    Model::from_bytes("tiny", attune::doc::tiny_model()).unwrap()
}

fn options() -> TuneOptions {
    TuneOptions {
        rank: 4,
        learning_rate: 5e-3,
        steps: Some(12),
        batch_size: 2,
        gradient_accumulation: 2,
        max_length: 64,
        threads: 1,
        shuffle: false,
        precision: Precision::F32,
        ..PreferOptions::tune_defaults()
    }
}

fn prepared(lines: &str, prefer: &PreferOptions, max_length: usize) -> attune::Result<PreferenceExamples> {
    let data = Arc::new(Dataset::from_bytes(lines.into())?);
    PreferenceExamples::prepare(&model(), data, &prefer.method()?, max_length, prefer.share_prompts, |_| true, |_| {})
}

fn tuner(lines: &str, prefer: &PreferOptions, options: &TuneOptions) -> PreferenceTuner {
    let examples = prepared(lines, prefer, options.max_length).unwrap();
    PreferenceTuner::new(&model(), examples, HeldOut::default(), options, prefer, None).unwrap()
}

fn refused(lines: &str, method: &str) -> String {
    match prepared(lines, &PreferOptions::new(method), 64) {
        Ok(examples) => panic!("{} were taken", examples.len()),
        Err(e) => e.to_string(),
    }
}

fn bits(tuner: &mut PreferenceTuner) -> Vec<u32> {
    tuner.current().unwrap().params.iter().map(|p| p.to_bits()).collect()
}

#[test]
fn every_method_lowers_its_loss_and_tells_the_better_answers() {
    let methods = [
        ("dpo", PAIRS),
        ("cdpo", PAIRS),
        ("ipo", PAIRS),
        ("hinge", PAIRS),
        ("robust", PAIRS),
        ("apo_zero", PAIRS),
        ("sigmoid_norm", PAIRS),
        ("cpo", PAIRS),
        ("simpo", PAIRS),
        ("orpo", PAIRS),
        ("kto", RATINGS),
        ("apo_zero_unpaired", RATINGS),
        ("plackett_luce", RANKINGS),
    ];
    for (method, lines) in methods {
        let mut tuner = tuner(lines, &PreferOptions::new(method), &options());
        let logs: Vec<_> = std::iter::from_fn(|| (!tuner.is_done()).then(|| tuner.step().unwrap())).collect();
        let (first, last) = (logs.first().unwrap(), logs.last().unwrap());
        assert!(last.loss < first.loss, "{method}: {} then {}", first.loss, last.loss);
        let (before, after) = (first.preference, last.preference);
        assert!(after.margin > before.margin, "{method}: {before:?} then {after:?}");
        assert_eq!(after.kl.is_some(), method == "kto");
        assert!(after.accuracy >= before.accuracy && after.accuracy >= Some(0.75), "{method}: {before:?} then {after:?}");
    }
}

#[test]
fn a_policy_that_is_its_reference_has_no_rewards() {
    for (method, lines, loss) in [("dpo", PAIRS, core::f64::consts::LN_2), ("kto", RATINGS, 0.5)] {
        let mut tuner = tuner(lines, &PreferOptions::new(method), &options());
        let step = tuner.step().unwrap();
        assert!((step.loss - loss).abs() < 1e-4, "{method}: {}", step.loss);
        assert!(step.preference.margin.unwrap().abs() < 1e-4, "{method}: {:?}", step.preference);
    }
}

#[test]
fn adapters_have_the_same_bits_at_any_number_of_threads() {
    for (method, lines) in [("dpo", PAIRS), ("kto", RATINGS), ("plackett_luce", RANKINGS)] {
        let run = |threads| {
            let options = TuneOptions { threads, steps: Some(4), dropout: 0.1, precision: Precision::Fast, ..options() };
            let mut tuner = tuner(lines, &PreferOptions::new(method), &options);
            while !tuner.is_done() {
                tuner.step().unwrap();
            }
            bits(&mut tuner)
        };
        assert_eq!(run(1), run(2), "{method}");
    }
}

fn close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
    let largest = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    assert!(largest > 0.0, "{what}: no gradient");
    let worst = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * largest, "{what}: {worst} of {largest}");
}

#[test]
fn shared_and_repeated_prompts_give_the_same_gradients() {
    for (method, lines) in [("dpo", PAIRS), ("simpo", PAIRS), ("orpo", PAIRS), ("plackett_luce", RANKINGS)] {
        let of = |share_prompts| {
            let prefer = PreferOptions { share_prompts, ..PreferOptions::new(method) };
            let mut tuner = tuner(lines, &prefer, &options());
            tuner.step().unwrap();
            (tuner.gradients().unwrap(), tuner.plan().total_bytes)
        };
        let (((loss, shared), once), ((same, repeated), twice)) = (of(true), of(false));
        assert!(once < twice, "{method}: {once} and {twice} bytes");
        assert!((loss - same).abs() < 1e-5, "{method}: {loss} and {same}");
        close(method, &shared, &repeated, 1e-3);
    }
}

#[test]
fn groups_larger_than_a_micro_batch_give_the_same_gradients() {
    for (method, lines) in [("dpo", PAIRS), ("orpo", PAIRS), ("plackett_luce", RANKINGS)] {
        let whole = tuner(lines, &PreferOptions::new(method), &options());
        // The budget that nothing smaller fits.
        let spare = whole.plan().total_bytes;
        let knob = |t: &PreferenceTuner| match t.plan().knobs {
            attune::plan::Knobs::Tune { micro_batch_tokens, .. } => micro_batch_tokens,
            _ => 0,
        };
        let fitted = |budget| {
            let examples = prepared(lines, &PreferOptions::new(method), 64).unwrap();
            let options = TuneOptions { budget: Some(budget), ..options() };
            PreferenceTuner::new(&model(), examples, HeldOut::default(), &options, &PreferOptions::new(method), None)
        };
        let least = match fitted(1) {
            Err(attune::Error::Core(attune::core::Error::OverBudget { needs, .. })) => needs,
            Err(e) => panic!("{e}"),
            Ok(_) => panic!("nothing fits a byte"),
        };
        let (mut whole, mut parts) = (whole, fitted(least).unwrap());
        assert!(parts.plan().total_bytes <= least && least < spare);
        assert!(knob(&parts) * 2 < knob(&whole), "{} and {}", knob(&parts), knob(&whole));
        let ((loss, one), (same, other)) = (whole.gradients().unwrap(), parts.gradients().unwrap());
        assert!((loss - same).abs() < 1e-3 * loss.abs(), "{method}: {loss} and {same}");
        close(method, &one, &other, 5e-3);
    }
}

#[test]
fn the_reference_is_read_back_and_computed_again_where_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reference.cache");
    let run = || {
        let mut tuner = tuner(PAIRS, &PreferOptions::default(), &options());
        let mut scored = 0;
        tuner.prepare_reference(Some(&path), |_, _| scored += 1).unwrap();
        tuner.step().unwrap();
        (bits(&mut tuner), scored > 0)
    };
    let (first, computed) = run();
    assert!(computed);
    assert_eq!(run(), (first.clone(), false), "what is there is used");
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[60] ^= 4;
    std::fs::write(&path, damaged).unwrap();
    assert_eq!(run(), (first, true), "a flipped bit is noticed");
    assert_eq!(std::fs::read(&path).unwrap(), whole, "and mended");
}

#[test]
fn the_base_and_the_starting_adapter_are_two_references() {
    let mut tuned = tuner(PAIRS, &PreferOptions::default(), &options());
    (0..6).for_each(|_| _ = tuned.step().unwrap());
    let start = tuned.current().unwrap();
    let margin = |reference| {
        let prefer = PreferOptions { reference, ..PreferOptions::default() };
        let examples = prepared(PAIRS, &prefer, 64).unwrap();
        let mut tuner = PreferenceTuner::new(&model(), examples, HeldOut::default(), &options(), &prefer, Some(&start)).unwrap();
        tuner.step().unwrap().preference.margin.unwrap()
    };
    assert!(margin(attune::prefer::Reference::Init).abs() < 1e-4, "it begins as its own reference");
    assert!(margin(attune::prefer::Reference::Base) > 0.01, "what was learnt before counts against the base");
}

#[test]
fn a_run_taken_up_again_ends_with_the_same_bits() {
    for (method, lines) in [("dpo", PAIRS), ("kto", RATINGS)] {
        let folder = tempfile::tempdir().unwrap();
        let options = TuneOptions { shuffle: true, dropout: 0.1, steps: Some(6), ..options() };
        let mut whole = tuner(lines, &PreferOptions::new(method), &options);
        (0..3).for_each(|_| _ = whole.step().unwrap());
        whole.save(folder.path()).unwrap();
        (0..3).for_each(|_| _ = whole.step().unwrap());
        let mut again = tuner(lines, &PreferOptions::new(method), &options);
        again.restore(attune::checkpoint::load_latest(folder.path()).unwrap().unwrap()).unwrap();
        assert_eq!(again.progress().step, 3);
        (0..3).for_each(|_| _ = again.step().unwrap());
        assert_eq!(bits(&mut whole), bits(&mut again), "{method}");
        let other = PreferOptions { beta: Some(0.3), ..PreferOptions::new(method) };
        let mut other = tuner(lines, &other, &options);
        let saved = attune::checkpoint::load_latest(folder.path()).unwrap().unwrap();
        assert!(other.restore(saved).unwrap_err().to_string().contains("beta"));
    }
}

#[test]
fn held_out_preferences_decide_which_adapter_is_kept() {
    let prefer = PreferOptions::default();
    let eval = |lines| HeldOut { preferences: Some(prepared(lines, &prefer, 64).unwrap()), guard: None };
    // The opposite of what is learnt.
    let flipped = PAIRS.replace("chosen", "x").replace("rejected", "chosen").replace("\"x\"", "\"rejected\"");
    let run = |held_out| {
        let examples = prepared(PAIRS, &prefer, 64).unwrap();
        let mut tuner = PreferenceTuner::new(&model(), examples, held_out, &options(), &prefer, None).unwrap();
        let first = tuner.evaluate().unwrap().unwrap();
        while !tuner.is_done() {
            tuner.step().unwrap();
        }
        (first, tuner.evaluate().unwrap().unwrap(), tuner.progress().best.unwrap().1)
    };
    let (before, after, best) = run(eval(PAIRS));
    assert!(after.eval_loss < before.eval_loss && after.preference.accuracy > before.preference.accuracy, "{before:?} {after:?}");
    assert_eq!(best, 12);
    let (before, after, best) = run(eval(&flipped));
    assert!(after.eval_loss > before.eval_loss);
    assert_eq!(best, 0, "the start was better");
}

#[test]
fn an_adapter_that_unlearns_the_guarding_data_is_not_kept() {
    let prefer = PreferOptions { guard_tolerance: 0.001, beta: Some(0.01), ..PreferOptions::default() };
    let run = |tolerance, guard: &str| {
        let data = Arc::new(Dataset::from_bytes(guard.into()).unwrap());
        let guard = Examples::prepare(&model(), data, 64, MaskOptions::default(), |_| true, |_| {}).unwrap();
        let examples = prepared(PAIRS, &prefer, 64).unwrap();
        let held_out = HeldOut { preferences: Some(prepared(PAIRS, &prefer, 64).unwrap()), guard: Some(guard) };
        let prefer = PreferOptions { guard_tolerance: tolerance, ..prefer.clone() };
        let options = TuneOptions { learning_rate: 3e-2, ..options() };
        let mut tuner = PreferenceTuner::new(&model(), examples, held_out, &options, &prefer, None).unwrap();
        let before = tuner.evaluate().unwrap().unwrap();
        while !tuner.is_done() {
            tuner.step().unwrap();
        }
        let after = tuner.evaluate().unwrap().unwrap();
        (before.preference.guard_loss.unwrap(), after.preference.guard_loss.unwrap(), tuner.progress().best.unwrap().1)
    };
    // What is rejected above must become less likely.
    let guard = r#"{"prompt": "one ", "completion": "three and more"}"#;
    let (before, after, best) = run(0.001, guard);
    assert!(after > before * 1.001, "{before} {after}");
    assert_eq!(best, 0);
    assert_eq!(run(1e6, guard).2, 12, "who accepts the loss gets the adapter");
}

#[test]
fn a_pair_whose_answers_are_the_same_is_left_out_with_its_line() {
    let lines = format!("{PAIRS}{}\n", r#"{"prompt": "a ", "chosen": "same", "rejected": "same"}"#);
    let examples = prepared(&lines, &PreferOptions::default(), 64).unwrap();
    assert_eq!((examples.len(), examples.skipped().len()), (4, 1));
    assert_eq!(examples.skipped()[0].line, 5);
    assert!(examples.skipped()[0].reason.contains("same"), "{:?}", examples.skipped());
    let alone = refused(r#"{"prompt": "a ", "chosen": "same", "rejected": "same"}"#, "dpo");
    assert!(alone.contains("line 1") && alone.contains("neither is better"), "{alone}");
    let ids = refused(r#"{"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [2, 3]}"#, "orpo");
    assert!(ids.contains("neither is better"), "{ids}");
}

#[test]
fn an_empty_answer_is_the_end_of_the_text_and_empty_ids_are_left_out() {
    let examples = prepared(r#"{"prompt": "one ", "chosen": "", "rejected": "too much"}"#, &PreferOptions::default(), 64).unwrap();
    assert_eq!(examples.get(0).unwrap().members[0].targets(), 1, "its end alone is learnt");
    let said = refused(r#"{"prompt_ids": [1, 2], "chosen_ids": [], "rejected_ids": [3]}"#, "dpo");
    assert!(said.contains("no token to learn"), "{said}");
}

#[test]
fn an_empty_prompt_of_ids_is_left_out() {
    let said = refused(r#"{"prompt_ids": [], "chosen_ids": [2, 5], "rejected_ids": [3, 4]}"#, "dpo");
    assert!(said.contains("prompt has no tokens"), "{said}");
}

#[test]
fn one_pair_alone_is_learnt_and_one_rating_alone_needs_another_method_than_kto() {
    let pair = r#"{"prompt": "one ", "chosen": "two", "rejected": "three"}"#;
    let mut one = tuner(pair, &PreferOptions::default(), &options());
    let first = one.step().unwrap();
    assert!(one.step().unwrap().loss < first.loss);
    let rating = r#"{"prompt": "one ", "completion": "two", "label": true}"#;
    let said = refused(rating, "kto");
    assert!(said.contains("one alone") && said.contains("apo_zero_unpaired"), "{said}");
    let mut one = tuner(rating, &PreferOptions::new("apo_zero_unpaired"), &options());
    let first = one.step().unwrap();
    assert!(one.step().unwrap().loss < first.loss);
}

#[test]
fn likes_alone_and_dislikes_alone_are_learnt() {
    for (label, sign) in [("true", 1.0), ("false", -1.0)] {
        let lines = RATINGS.replace("true", label).replace("false", label);
        let mut tuner = tuner(&lines, &PreferOptions::new("apo_zero_unpaired"), &options());
        let logs: Vec<_> = (0..8).map(|_| tuner.step().unwrap()).collect();
        let last = logs[7].preference;
        let reward = if sign > 0.0 { last.chosen_reward } else { last.rejected_reward };
        assert!(reward.unwrap() * sign > 0.001, "{label}: {last:?}");
        assert!(last.margin.is_none());
        assert!(logs[7].loss < logs[0].loss);
    }
}

#[test]
fn a_ranking_of_one_is_refused() {
    let said = refused(r#"{"prompt": "one ", "completions": ["two"]}"#, "plackett_luce");
    assert!(said.contains("at least two completions"), "{said}");
}

#[test]
fn contradictory_pairs_are_counted_and_weigh_each_other_out() {
    let lines = r#"{"prompt": "one ", "chosen": "two", "rejected": "three"}
{"prompt": "one ", "chosen": "three", "rejected": "two"}
"#;
    assert_eq!(prepared(lines, &PreferOptions::default(), 64).unwrap().contradictions(), 1);
    assert_eq!(prepared(PAIRS, &PreferOptions::default(), 64).unwrap().contradictions(), 0);
    let mut tuner = tuner(lines, &PreferOptions::default(), &options());
    let (loss, grads) = tuner.gradients().unwrap();
    assert!((loss - core::f64::consts::LN_2).abs() < 1e-4);
    let one = r#"{"prompt": "one ", "chosen": "two", "rejected": "three"}"#;
    let (_, alone) = self::tuner(one, &PreferOptions::default(), &options()).gradients().unwrap();
    let norm = |g: &[f32]| g.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    assert!(norm(&grads) < 1e-3 * norm(&alone), "{} of {}", norm(&grads), norm(&alone));
}

#[test]
fn pairs_serve_methods_of_ratings_and_of_rankings_and_rankings_those_of_pairs() {
    assert_eq!(prepared(PAIRS, &PreferOptions::new("kto"), 64).unwrap().len(), 8);
    assert_eq!(prepared(PAIRS, &PreferOptions::new("plackett_luce"), 64).unwrap().len(), 4);
    assert_eq!(prepared(RANKINGS, &PreferOptions::default(), 64).unwrap().len(), 6, "each answer with the next");
    let said = refused(RATINGS, "dpo");
    assert!(said.contains("--data") && said.contains("pairs") && said.contains("found ratings"), "{said}");
}

#[test]
fn what_is_too_long_loses_the_beginning_of_its_prompt_and_keeps_its_answers() {
    let prompt: Vec<u32> = (1..40).collect();
    let line = serde_json::json!({ "prompt_ids": prompt, "chosen_ids": [50, 51, 52], "rejected_ids": [60] }).to_string();
    let examples = prepared(&line, &PreferOptions::default(), 16).unwrap();
    let answers = examples.get(0).unwrap();
    assert_eq!((examples.truncated(), answers.prompt), (1, 13));
    let expected: Vec<u32> = std::iter::once(1).chain(28..40).chain([50, 51, 52]).collect();
    assert_eq!(answers.members[0].ids, expected, "the first token stays");
    assert_eq!(answers.members[1].ids, [&expected[..13], &[60]].concat(), "the same prompt");
    let line = serde_json::json!({ "prompt_ids": prompt, "chosen_ids": prompt, "rejected_ids": [60] }).to_string();
    let answers = prepared(&line, &PreferOptions::default(), 16).unwrap().get(0).unwrap();
    assert_eq!((answers.prompt, answers.members[0].targets()), (4, 12), "a quarter stays for the prompt");
}

#[test]
fn a_prompt_is_as_long_as_its_answers_ids_agree() {
    // "t" of the prompt joins what follows in one answer and not in the other.
    let line = r#"{"prompt": "so t", "chosen": "he", "rejected": "xx"}"#;
    let answers = prepared(line, &PreferOptions::default(), 64).unwrap().get(0).unwrap();
    let [a, b] = answers.members.as_slice() else { panic!() };
    assert_eq!(a.ids[..answers.prompt], b.ids[..answers.prompt]);
    assert!(a.labels[..answers.prompt].iter().chain(&b.labels[..answers.prompt]).all(|&l| l == -100));
}

#[test]
fn unknown_ids_are_left_out() {
    let said = refused(r#"{"prompt_ids": [1], "chosen_ids": [99999], "rejected_ids": [2]}"#, "dpo");
    assert!(said.contains("99999"), "{said}");
}

const IDS: &str = r#"{"prompt_ids": [1, 5, 6, 7], "chosen_ids": [8, 9], "rejected_ids": [10, 11, 12]}
{"prompt_ids": [1, 20, 21], "chosen_ids": [22, 23, 24], "rejected_ids": [25]}
{"prompt_ids": [1, 30], "chosen_ids": [31], "rejected_ids": [32, 33]}
"#;

/// The log-probability of every answer's tokens, as supervised examples have them.
fn logprobs(adapter: Option<&attune::adapter::Adapter>) -> Vec<f32> {
    let mut lines = String::new();
    for line in IDS.lines() {
        let pair: serde_json::Value = serde_json::from_str(line).unwrap();
        for answer in ["chosen_ids", "rejected_ids"] {
            let list = |name: &str| pair[name].as_array().unwrap().clone();
            let labels: Vec<_> = list("prompt_ids").iter().map(|_| serde_json::json!(-100)).chain(list(answer)).collect();
            let ids = [list("prompt_ids"), list(answer)].concat();
            lines += &format!("{}\n", serde_json::json!({ "input_ids": ids, "labels": labels }));
        }
    }
    let data = Arc::new(Dataset::from_bytes(lines.into_bytes()).unwrap());
    let examples = Examples::prepare(&model(), data, 64, MaskOptions::default(), |_| true, |_| {}).unwrap();
    let mut scorer = attune::tuner::Scorer::new(&model(), adapter, &options()).unwrap();
    let mut all = Vec::new();
    let said = scorer.score(&examples, |_, _, logprobs| {
        all.extend_from_slice(logprobs);
        Ok(())
    });
    said.unwrap();
    all
}

fn watched(prefer: &PreferOptions, options: &TuneOptions) -> PreferenceTuner {
    let held_out = HeldOut { preferences: Some(prepared(IDS, prefer, 64).unwrap()), guard: None };
    let lines = if prefer.method == "kto" { RATINGS } else { PAIRS };
    PreferenceTuner::new(&model(), prepared(lines, prefer, 64).unwrap(), held_out, options, prefer, None).unwrap()
}

#[test]
fn the_divergence_from_the_reference_is_measured_on_held_out_answers_by_every_method() {
    let reference = logprobs(None);
    for method in ["dpo", "kto", "orpo", "simpo", "cpo", "sft"] {
        let prefer = PreferOptions { share_prompts: method != "dpo", ..PreferOptions::new(method) };
        let mut tuner = watched(&prefer, &TuneOptions { learning_rate: 2e-2, steps: Some(4), ..options() });
        let kl = |tuner: &mut PreferenceTuner| tuner.evaluate().unwrap().unwrap().preference.kl.unwrap();
        assert!(kl(&mut tuner).abs() < 1e-9, "{method}: a fresh adapter is the reference itself");
        while !tuner.is_done() {
            tuner.step().unwrap();
        }
        let policy = logprobs(Some(&tuner.current().unwrap()));
        let k3 = |(&p, &r): (&f32, &f32)| (f64::from(r) - f64::from(p)).exp() - (f64::from(r) - f64::from(p)) - 1.0;
        let by_hand = policy.iter().zip(&reference).map(k3).sum::<f64>() / policy.len() as f64;
        let said = kl(&mut tuner);
        assert!(by_hand > 1e-3 && (said - by_hand).abs() < 1e-3 * by_hand.max(0.1), "{method}: {said}, {by_hand} by hand");
    }
}

#[test]
fn a_run_whose_divergence_leaves_its_bound_stops_and_keeps_the_best_within() {
    let free = TuneOptions { learning_rate: 2e-2, steps: Some(12), eval_every: 1, ..options() };
    let run = |prefer: &PreferOptions| {
        let mut tuner = watched(prefer, &free);
        let mut kl = vec![tuner.evaluate().unwrap().unwrap().preference.kl.unwrap()];
        let mut all = vec![bits(&mut tuner)];
        while !tuner.is_done() {
            tuner.step().unwrap();
            all.push(bits(&mut tuner));
            kl.push(tuner.evaluate().unwrap().unwrap().preference.kl.unwrap());
        }
        (tuner, kl, all)
    };
    for method in ["dpo", "simpo"] {
        let (tuner, kl, _) = run(&PreferOptions::new(method));
        assert!(tuner.stopped().is_none() && kl.len() == 13, "without a bound it goes on");
        let bound = kl.iter().copied().fold(0.0, f64::max) / 2.0;
        let (mut tuner, short, all) = run(&PreferOptions { max_kl: bound, ..PreferOptions::new(method) });
        let broken = kl.iter().position(|&kl| kl > bound).unwrap();
        assert_eq!(short, kl[..=broken]);
        let said = tuner.stopped().unwrap().to_owned();
        assert!(said.starts_with(&format!("after update {broken} ")) && said.contains("--max-kl"), "{said}");
        assert!(tuner.is_done() && tuner.kept() < broken as u64 && kl[tuner.kept() as usize] <= bound);
        let kept: Vec<u32> = tuner.adapter().unwrap().params.iter().map(|p| p.to_bits()).collect();
        assert!(kept == all[tuner.kept() as usize]);
        // A run that is left there has stopped when it is taken up again.
        let folder = tempfile::tempdir().unwrap();
        tuner.save(folder.path()).unwrap();
        let mut again = watched(&PreferOptions { max_kl: bound, ..PreferOptions::new(method) }, &free);
        again.restore(attune::checkpoint::load_latest(folder.path()).unwrap().unwrap()).unwrap();
        assert_eq!(again.stopped(), Some(said.as_str()));
    }
    let unseen = PreferOptions { max_kl: 1.0, ..PreferOptions::default() };
    let said =
        PreferenceTuner::new(&model(), prepared(PAIRS, &unseen, 64).unwrap(), HeldOut::default(), &free, &unseen, None).err().unwrap();
    assert!(said.to_string().contains("--max-kl") && said.to_string().contains("--eval-split"), "{said}");
}

#[test]
fn the_divergence_starts_from_the_adapter_that_tuning_starts_from_or_from_the_base() {
    let first = TuneOptions { learning_rate: 2e-2, steps: Some(4), ..options() };
    let mut tuner = watched(&PreferOptions::default(), &first);
    while !tuner.is_done() {
        tuner.step().unwrap();
    }
    let start = tuner.current().unwrap();
    for method in ["dpo", "simpo"] {
        let kl = |reference| {
            let prefer = PreferOptions { reference, ..PreferOptions::new(method) };
            let held_out = HeldOut { preferences: Some(prepared(IDS, &prefer, 64).unwrap()), guard: None };
            let train = prepared(PAIRS, &prefer, 64).unwrap();
            let mut tuner = PreferenceTuner::new(&model(), train, held_out, &first, &prefer, Some(&start)).unwrap();
            tuner.evaluate().unwrap().unwrap().preference.kl.unwrap()
        };
        assert!(kl(attune::prefer::Reference::Init).abs() < 1e-9 && kl(attune::prefer::Reference::Base) > 1e-3, "{method}");
    }
}
