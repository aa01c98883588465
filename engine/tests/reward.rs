//! Reward models by the library: what they learn, what they score, what they refuse, and that they end with the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::adapter::Adapter;
use attune::core::arena::Region;
use attune::core::lora::{Modules, Shape};
use attune::core::plan::{self, TuneRequest};
use attune::core::target::Store;
use attune::core::trainer::{Batch, Trainer};
use attune::data::{Dataset, Message, Passage};
use attune::plan::Knobs;
use attune::prefer::PreferenceExamples;
use attune::reward::{RewardModel, RewardOptions, RewardTuner, ScoreOptions};
use attune::session::{Session, SessionOptions};
use attune::tuner::{Optim, TuneOptions};
use attune::{Model, Precision};
use std::sync::Arc;

const PAIRS: &str = r#"{"prompt": "one ", "chosen": "two", "rejected": "three and more"}
{"prompt": "red ", "chosen": "blue", "rejected": "green"}
{"prompt": [{"role": "user", "content": "Up?"}], "chosen": "down", "rejected": "no"}
{"prompt": "hot ", "chosen": "cold", "rejected": "the a"}
"#;
const RANKINGS: &str = r#"{"prompt": "one ", "completions": ["two", "three", "the a the a"]}
{"prompt": "red ", "completions": ["blue", "green", "grey", "no"]}
{"prompt": "hot ", "completions": ["cold", "here"]}
"#;
const SAME: &str = r#"{"prompt": "one ", "chosen": "two", "rejected": "two"}"#;

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
        ..RewardOptions::tune_defaults()
    }
}

fn prepared(lines: &str, max_length: usize, share: bool) -> attune::Result<PreferenceExamples> {
    let data = Arc::new(Dataset::from_bytes(lines.into())?);
    PreferenceExamples::prepare_for_scores(&model(), data, max_length, share, |_| true, |_| {})
}

fn tuner_from(lines: &str, options: &TuneOptions, reward: &RewardOptions, start: Option<&Adapter>) -> RewardTuner {
    let examples = prepared(lines, options.max_length, reward.share_prompts).unwrap();
    RewardTuner::new(&model(), examples, None, options, reward, start).unwrap()
}

fn tuner(lines: &str, options: &TuneOptions) -> RewardTuner {
    tuner_from(lines, options, &RewardOptions::default(), None)
}

fn trained(lines: &str) -> Adapter {
    let mut tuner = tuner(lines, &options());
    while !tuner.is_done() {
        tuner.step().unwrap();
    }
    tuner.adapter().unwrap()
}

fn scorer(adapter: &Adapter) -> RewardModel {
    let options = ScoreOptions { max_length: 64, batch_tokens: 128, threads: 1, precision: Precision::F32, ..ScoreOptions::default() };
    RewardModel::new(&model(), adapter, &options).unwrap()
}

fn refused(lines: &str) -> String {
    match prepared(lines, 64, true) {
        Ok(examples) => panic!("{} were taken", examples.len()),
        Err(e) => e.to_string(),
    }
}

fn text(text: &str) -> Passage {
    Passage::Text(text.into())
}

fn bits(tuner: &mut RewardTuner) -> Vec<u32> {
    let adapter = tuner.current().unwrap();
    adapter.params.iter().chain(adapter.score_head.as_ref().unwrap()).map(|p| p.to_bits()).collect()
}

fn close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
    let largest = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    assert!(largest > 0.0, "{what}: nothing there");
    let worst = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(a.len() == b.len() && worst <= tolerance * largest, "{what}: {worst} of {largest}");
}

#[test]
fn pairs_and_rankings_are_learnt_from_a_head_that_knows_nothing() {
    for (lines, optim) in [(PAIRS, Optim::AdamW), (RANKINGS, Optim::AdamW8bit)] {
        let mut tuner = tuner(lines, &TuneOptions { optim: Some(optim), ..options() });
        let logs: Vec<_> = std::iter::from_fn(|| (!tuner.is_done()).then(|| tuner.step().unwrap())).collect();
        let (first, last) = (logs.first().unwrap(), logs.last().unwrap());
        assert!((first.loss - core::f64::consts::LN_2).abs() < 1e-9, "all scores are 0: {}", first.loss);
        assert_eq!((first.numbers.get("accuracy"), first.numbers.get("max_reward")), (Some(0.0), Some(0.0)));
        assert!(last.loss < 0.8 * first.loss && last.numbers.get("accuracy") == Some(1.0), "{first:?} then {last:?}");
        assert!(last.numbers.get("margin") > Some(0.1) && last.numbers.get("min_reward") < last.numbers.get("mean_reward"));
    }
}

#[test]
fn adapters_and_heads_have_the_same_bits_at_any_number_of_threads() {
    for lines in [PAIRS, RANKINGS] {
        let run = |threads| {
            let options = TuneOptions { threads, steps: Some(4), dropout: 0.1, precision: Precision::Fast, ..options() };
            let mut tuner = tuner(lines, &options);
            while !tuner.is_done() {
                tuner.step().unwrap();
            }
            bits(&mut tuner)
        };
        assert_eq!(run(1), run(2));
    }
}

#[test]
fn shared_and_repeated_prompts_give_the_same_scores_and_gradients() {
    let start = trained(PAIRS);
    for lines in [PAIRS, RANKINGS] {
        let of = |share_prompts| {
            let reward = RewardOptions { share_prompts, center_rewards_coefficient: Some(0.1) };
            tuner_from(lines, &options(), &reward, Some(&start)).gradients().unwrap()
        };
        let ((loss, shared), (same, repeated)) = (of(true), of(false));
        assert!((loss - same).abs() < 1e-5, "{loss} and {same}");
        close("gradients", &shared, &repeated, 1e-3);
    }
    let scores = |share_prompts| {
        let options = ScoreOptions { max_length: 64, share_prompts, precision: Precision::F32, ..ScoreOptions::default() };
        let mut reward = RewardModel::new(&model(), &start, &options).unwrap();
        reward.score(&text("one "), &[text("two"), text("three"), text("the a the a")]).unwrap()
    };
    close("scores", &scores(true), &scores(false), 1e-5);
}

#[test]
fn rankings_larger_than_a_micro_batch_give_the_same_gradients() {
    let start = trained(RANKINGS);
    let fitted = |budget| {
        let options = TuneOptions { budget, ..options() };
        RewardTuner::new(&model(), prepared(RANKINGS, 64, true).unwrap(), None, &options, &RewardOptions::default(), Some(&start))
    };
    let least = match fitted(Some(1)) {
        Err(attune::Error::Core(attune::core::Error::OverBudget { needs, .. })) => needs,
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("nothing fits a byte"),
    };
    let (mut whole, mut parts) = (fitted(None).unwrap(), fitted(Some(least)).unwrap());
    let tokens = |t: &RewardTuner| if let Knobs::Tune { micro_batch_tokens, .. } = t.plan().knobs { micro_batch_tokens } else { 0 };
    assert!(parts.plan().total_bytes <= least && tokens(&parts) * 2 < tokens(&whole), "{} and {}", tokens(&parts), tokens(&whole));
    let ((loss, one), (same, other)) = (whole.gradients().unwrap(), parts.gradients().unwrap());
    assert!((loss - same).abs() < 1e-3 * loss.abs(), "{loss} and {same}");
    close("gradients", &one, &other, 5e-3);
}

#[test]
fn equal_answers_are_refused_alone_and_left_out_among_others() {
    let twice = r#"{"prompt": "one ", "completions": ["two", "three", "two"]}"#;
    for lines in [SAME, twice] {
        let said = refused(lines);
        assert!(said.contains("line 1: two answers are the same") && said.contains("neither is better"), "{said}");
        let examples = prepared(&format!("{PAIRS}{lines}"), 64, true).unwrap();
        assert_eq!((examples.len(), examples.skipped().len(), examples.skipped()[0].line), (4, 1, 5));
    }
    let cut = format!(r#"{{"prompt": "one ", "chosen": "{long} one", "rejected": "{long} two"}}"#, long = "the a ".repeat(40));
    let said = refused(&cut);
    assert!(said.contains("the same tokens within max-length"), "{said}");
}

#[test]
fn equal_answers_are_scored_all_the_same() {
    let mut reward = scorer(&trained(PAIRS));
    for prompt in [text("one "), Passage::Messages(vec![Message::user("one")])] {
        let scores = reward.score(&prompt, &[text("two"), text("three"), text("two")]).unwrap();
        assert!((scores[0] - scores[2]).abs() < 1e-5 && scores[0] != scores[1], "{scores:?}");
    }
}

#[test]
fn the_centre_pulls_scores_and_leaves_differences_alone() {
    let start = trained(PAIRS);
    // Each of the two is better once: all that is left to learn is where the middle is.
    let both = r#"{"prompt": "one ", "chosen": "two", "rejected": "three"}
{"prompt": "one ", "chosen": "three", "rejected": "two"}"#;
    let of = |center_rewards_coefficient| {
        let reward = RewardOptions { center_rewards_coefficient, ..RewardOptions::default() };
        let (loss, grads) = tuner_from(both, &options(), &reward, Some(&start)).gradients().unwrap();
        (loss, grads.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt())
    };
    let ((loss, still), (centred, moved)) = (of(None), of(Some(0.1)));
    let scores = scorer(&start).score(&text("one "), &[text("two"), text("three")]).unwrap();
    let sum = f64::from(scores[0] + scores[1]);
    assert!((centred - loss - 0.1 * sum * sum).abs() < 1e-5, "{loss} and {centred}, scores {scores:?}");
    assert!((moved - still).abs() > 1e-3 * still, "{still} and {moved}");
    assert!(RewardOptions { center_rewards_coefficient: Some(-1.0), ..RewardOptions::default() }.objective().is_err());
}

#[test]
fn a_margin_asks_for_more() {
    const PAIR: &str = r#"{"prompt": "one ", "chosen": "two", "rejected": "three"}"#;
    let with = |margin: &str| PAIR.replace("\"three\"}", &format!("\"three\"{margin}}}"));
    // A head that knows nothing gives every answer the score 0.
    let loss = |lines: &str| tuner(lines, &options()).gradients().unwrap().0;
    assert!((loss(&with(", \"margin\": 2")) - (2f64.exp() + 1.0).ln()).abs() < 1e-6, "ln(1 + e^m)");
    assert!((loss(&with(", \"margin\": null")) - core::f64::consts::LN_2).abs() < 1e-9);
    let said = refused(&with(", \"margin\": \"much\""));
    assert!(said.contains("line 1") && said.contains("margin") && said.contains("much"), "{said}");
    assert_ne!(prepared(PAIR, 64, true).unwrap().identity(), prepared(&with(", \"margin\": 1"), 64, true).unwrap().identity());
}

#[test]
fn what_cannot_be_learnt_from_is_named() {
    let said = refused(r#"{"prompt": "one ", "completions": ["two"]}"#);
    assert!(said.contains("line 1") && said.contains("at least two completions"), "{said}");
    let said = refused(r#"{"prompt_ids": [1, 2], "chosen_ids": [], "rejected_ids": [3]}"#);
    assert!(said.contains("no token"), "{said}");
    let said = refused(r#"{"prompt": "one ", "completion": "two", "label": true}"#);
    assert!(said.contains("a reward model") && said.contains("pairs"), "{said}");
    assert_eq!(prepared(r#"{"prompt": "one ", "chosen": "", "rejected": "two"}"#, 64, true).unwrap().len(), 1, "an empty text has an end");
    let data = Arc::new(Dataset::from_bytes(PAIRS.into()).unwrap());
    let dpo = attune::prefer::PreferOptions::default().method().unwrap();
    let examples = PreferenceExamples::prepare(&model(), data, &dpo, 64, true, |_| true, |_| {}).unwrap();
    let said = RewardTuner::new(&model(), examples, None, &options(), &RewardOptions::default(), None).err().unwrap().to_string();
    assert!(said.contains("prepare_for_scores"), "{said}");
}

#[test]
fn a_run_taken_up_again_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let options = TuneOptions { shuffle: true, dropout: 0.1, steps: Some(6), ..options() };
    let mut whole = tuner(PAIRS, &options);
    (0..3).for_each(|_| _ = whole.step().unwrap());
    whole.save(folder.path()).unwrap();
    (0..3).for_each(|_| _ = whole.step().unwrap());
    let saved = || attune::checkpoint::load_latest(folder.path()).unwrap().unwrap();
    let mut again = tuner(PAIRS, &options);
    again.restore(saved()).unwrap();
    (0..3).for_each(|_| _ = again.step().unwrap());
    assert_eq!(bits(&mut whole), bits(&mut again));
    let centred = RewardOptions { center_rewards_coefficient: Some(0.5), ..RewardOptions::default() };
    let mut other = tuner_from(PAIRS, &options, &centred, None);
    assert!(other.restore(saved()).unwrap_err().to_string().contains("center_rewards_coefficient"));
}

#[test]
fn held_out_pairs_decide_which_head_is_kept() {
    let flipped = PAIRS.replace("chosen", "x").replace("rejected", "chosen").replace("\"x\"", "\"rejected\"");
    let run = |held_out: &str| {
        let (train, held_out) = (prepared(PAIRS, 64, true).unwrap(), prepared(held_out, 64, true).unwrap());
        let mut tuner = RewardTuner::new(&model(), train, Some(held_out), &options(), &RewardOptions::default(), None).unwrap();
        let before = tuner.evaluate().unwrap().unwrap();
        while !tuner.is_done() {
            tuner.step().unwrap();
        }
        let after = tuner.evaluate().unwrap().unwrap();
        (before, after, tuner.adapter().unwrap().score_head.unwrap())
    };
    let (before, after, head) = run(PAIRS);
    assert!(after.eval_loss < before.eval_loss && after.numbers.get("eval_accuracy") == Some(1.0), "{before:?} {after:?}");
    assert!(head.iter().any(|x| *x != 0.0));
    let (before, after, head) = run(&flipped);
    assert!(after.eval_loss > before.eval_loss);
    assert!(head.iter().all(|x| *x == 0.0), "the start was better");
}

#[test]
fn a_reward_model_goes_through_its_file_and_scores_the_same() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let adapter = trained(PAIRS);
    let native = folder.path().join("reward.attune");
    adapter.save(&native).unwrap();
    assert_eq!(Adapter::open(&native, &model.base().unwrap()).unwrap(), adapter);
    adapter.export_peft(&folder.path().join("peft"), &model.base().unwrap()).unwrap();
    let config = std::fs::read_to_string(folder.path().join("peft/adapter_config.json")).unwrap();
    assert!(config.contains("SEQ_CLS") && config.contains("\"score\""), "{config}");
    let back = Adapter::open(&folder.path().join("peft"), &model.base().unwrap()).unwrap();
    assert_eq!((&back.params, &back.score_head), (&adapter.params, &adapter.score_head));
    let said = adapter.export_gguf(&folder.path().join("gguf"), &model.base().unwrap()).unwrap_err().to_string();
    assert!(said.contains("score head"), "{said}");
    assert_eq!(attune::adapter::describe(&native).unwrap().score_head, 64);
    let told = attune::adapter::describe(&folder.path().join("peft")).unwrap();
    assert_eq!((told.score_head, told.parameters), (64, adapter.params.len() as u64));

    let mut reward = RewardModel::open(&model, &native).unwrap();
    let mut again = RewardModel::open(&model, &folder.path().join("peft")).unwrap();
    for record in ["one ", "red ", "hot "] {
        let answers = [text("two"), text("blue"), text("cold")];
        assert_eq!(reward.score(&text(record), &answers).unwrap(), again.score(&text(record), &answers).unwrap());
    }
    let scores = scorer(&adapter).score(&text("red "), &[text("green"), text("blue")]).unwrap();
    assert!(scores[1] > scores[0], "{scores:?}");
    let turns = Passage::Messages(vec![Message::user("Up?")]);
    let scores = scorer(&adapter).score(&turns, &[text("no"), text("down")]).unwrap();
    assert!(scores[1] > scores[0], "{scores:?}");
    let mut session = Session::new(&model, &SessionOptions { context: 64, ..SessionOptions::default() }.for_adapters([&adapter])).unwrap();
    session.add_adapter(&adapter, 1.0).unwrap();
    assert!(session.feed(&[1, 2]).is_ok(), "answering passes over the head");
}

#[test]
fn wrong_files_are_refused() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let mut adapter = trained(PAIRS);
    let path = folder.path().join("reward.attune");
    adapter.save(&path).unwrap();
    let other = Model::from_bytes("other", attune::doc::tiny_model_without_tokenizer()).unwrap();
    assert!(RewardModel::open(&other, &path).is_ok(), "the tensors are the same, and the base is told by them");
    let mut bytes = attune::doc::tiny_model();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let other = Model::from_bytes("other", bytes).unwrap();
    let said = RewardModel::open(&other, &path).err().unwrap().to_string();
    assert!(said.contains("was tuned on"), "{said}");
    let whole = std::fs::read(&path).unwrap();
    for at in [whole.len() - 1, whole.len() - 200, 40] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert!(RewardModel::open(&model, &path).is_err(), "byte {at}");
    }
    adapter.score_head.as_mut().unwrap()[3] = f32::NAN;
    adapter.save(&path).unwrap();
    assert!(RewardModel::open(&model, &path).err().unwrap().to_string().contains("not finite"));
    adapter.score_head = Some(vec![0.5; 3]);
    assert!(adapter.save(&path).is_err(), "a head of another width");
    adapter.score_head = None;
    adapter.save(&path).unwrap();
    let said = RewardModel::open(&model, &path).err().unwrap().to_string();
    assert!(said.contains("score head") && said.contains("--reward"), "{said}");
}

#[test]
fn every_answer_is_scored_at_its_last_token_whatever_is_scored_beside_it() {
    let adapter = trained(PAIRS);
    let mut reward = scorer(&adapter);
    let answers: [&[u32]; 5] = [&[40, 41, 42], &[], &[9], &[40, 41], &[7; 20]];
    let mut scores = [0.0; 5];
    reward.score_ids(&[5, 6, 7, 8], &answers, &mut scores).unwrap();
    assert!(scores.iter().all(|s| s.is_finite()) && scores[0] != scores[3]);
    for (answer, score) in answers.iter().zip(scores) {
        let mut alone = [0.0];
        reward.score_ids(&[5, 6, 7, 8], &[answer], &mut alone).unwrap();
        assert!((alone[0] - score).abs() < 1e-5, "{answer:?}: {alone:?} and {score}");
        let mut whole = [0.0];
        reward.score_ids(&[], &[&[&[5, 6, 7, 8], *answer].concat()], &mut whole).unwrap();
        assert!((whole[0] - score).abs() < 1e-5, "{answer:?}: {whole:?} and {score}");
    }
    // More than one pass holds.
    let many: Vec<&[u32]> = answers.iter().copied().cycle().take(40).collect();
    let mut places = vec![0.0; 40];
    reward.score_ids(&[5, 6, 7, 8], &many, &mut places).unwrap();
    places.iter().zip(scores.iter().cycle()).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} and {b}"));
}

#[test]
fn nothing_and_too_much_to_score_get_an_answer() {
    let mut reward = scorer(&trained(PAIRS));
    reward.score_ids(&[1, 2], &[], &mut []).unwrap();
    assert!(reward.score(&text("one "), &[]).unwrap().is_empty());
    let said = |result: attune::Result<()>| result.unwrap_err().to_string();
    let mut one = [0.0];
    assert!(said(reward.score_ids(&[], &[&[]], &mut one)).contains("found 0"));
    assert!(said(reward.score_ids(&[1; 60], &[&[2; 5]], &mut one)).contains("found 65"));
    assert!(reward.score_ids(&[1; 60], &[&[2; 4]], &mut one).is_ok());
    assert!(said(reward.score_ids(&[1], &[&[2]], &mut [])).contains("found 0"));
    assert!(said(reward.score_ids(&[1], &[&[99999]], &mut one)).contains("99999"));
    let long = "the ".repeat(500);
    assert_eq!(reward.score(&text(&long), &[text("two"), text(&long)]).unwrap().len(), 2, "text is cut as in training");
    let options = ScoreOptions { max_length: 100_000, ..ScoreOptions::default() };
    let said = RewardModel::new(&model(), &trained(PAIRS), &options).err().unwrap().to_string();
    assert!(said.contains("--max-length") && said.contains("512"), "{said}");
    let mut bare = RewardModel::new(
        &Model::from_bytes("bare", attune::doc::tiny_model_without_tokenizer()).unwrap(),
        &trained(PAIRS),
        &ScoreOptions::default(),
    )
    .unwrap();
    assert!(bare.score(&text("a"), &[text("b")]).unwrap_err().to_string().contains("tokenizer"));
    assert_eq!(bare.score(&Passage::Ids(vec![1]), &[Passage::Ids(vec![2])]).unwrap().len(), 1);
}

#[test]
fn what_was_planned_is_what_there_is() {
    let adapter = trained(PAIRS);
    let reward = scorer(&adapter);
    let plan = reward.plan();
    assert!(plan.buffers.iter().all(|b| !b.name.contains("logits") && !b.name.contains("softmax")), "the vocabulary is not looked at");
    assert_eq!(plan.buffers.iter().find(|b| b.name == "lora.params").unwrap().bytes, (adapter.params.len() + 64) * 4);
    let options = |budget| ScoreOptions { max_length: 16, batch_tokens: 4096, budget, ..ScoreOptions::default() };
    let roomy = RewardModel::new(&model(), &adapter, &options(None)).unwrap().plan().total_bytes;
    let budget = roomy / 4;
    let mut tight = RewardModel::new(&model(), &adapter, &options(Some(budget))).unwrap();
    assert!(tight.plan().total_bytes <= budget);
    let answers: Vec<&[u32]> = vec![&[3, 4, 5]; 100];
    let mut scores = vec![0.0; 100];
    tight.score_ids(&[1, 2], &answers, &mut scores).unwrap();
    let tuning = attune::plan::for_reward(&model(), &self::options()).unwrap();
    assert!(tuning.total_bytes >= tuner(PAIRS, &self::options()).plan().total_bytes, "answers as long as they may be take the most");
}

/// Core's trainer with a score head on the tiny model, rank 3, in f32.
fn core_trainer(model: &Model, tokens: usize) -> Trainer<attune_cpu::CpuTarget> {
    let (spec, layers) = (model.spec(), model.spec().layers as u32);
    let shape = Shape { rank: 3, alpha: 6.0, use_rslora: false, modules: Modules::ALL, first_layer: 0, layers };
    let request = TuneRequest {
        shape,
        tokens,
        max_length: tokens,
        vocab_chunk: 64,
        inputs: Store::F32,
        stride: 1,
        keep: 1,
        optim_8bit: false,
        dropout: false,
        backward: true,
        score_head: true,
    };
    let layout = plan::tune(spec, &request, &mut |_| {}).unwrap();
    let bytes: attune_cpu::WeightBytes = Arc::new(model.bytes().to_vec());
    let mut target = attune_cpu::target(attune_cpu::Options { threads: 1, precision: Precision::F32 }, Some(bytes)).unwrap();
    attune_cpu::take(&mut target, Region::adapter(0).unwrap(), layout.totals.adapter).unwrap();
    attune_cpu::take(&mut target, Region::WORK, layout.totals.work).unwrap();
    Trainer::new(target, spec, model.core().globals.rope_freqs, layout, 0.0).unwrap()
}

#[test]
fn central_differences_of_scores_agree_with_the_gradients_of_adapter_and_head() {
    let model = model();
    let ids = [5, 9, 44, 17, 3, 60, 61, 2, 8, 33, 12];
    let batch = Batch {
        ids: &ids,
        positions: &[0, 1, 2, 3, 4, 2, 3, 0, 1, 2, 3],
        starts: &[0, 0, 2, 2, 2, 5, 5, 7, 7, 7, 7],
        target_rows: &[4, 6, 10],
        target_ids: &[0, 0, 0],
        shared_first: &[0; 11],
        shared_end: &[0, 0, 2, 2, 2, 2, 2, 0, 0, 0, 0],
    };
    let coef = [0.75f32, -1.25, 0.5];
    let mut trainer = core_trainer(&model, ids.len());
    let n = trainer.layout().params_len();
    let number = |stream, i: usize| attune::core::rng::uniform(20_261_123, stream, i as u64) * 2.0 - 1.0;
    let params: Vec<f32> = (0..n).map(|i| 0.2 * number(1, i)).collect();
    let value = |trainer: &mut Trainer<_>, params: &[f32]| {
        let mut scores = [0.0; 3];
        trainer.write_params(params).unwrap();
        trainer.forward(&model.core(), &batch, 0, &mut scores).unwrap();
        scores.iter().zip(coef).map(|(&s, c)| f64::from(s) * f64::from(c)).sum::<f64>()
    };
    value(&mut trainer, &params);
    trainer.backward(&model.core(), &coef).unwrap();
    let mut grads = vec![0.0; n];
    trainer.read_grads(&mut grads).unwrap();
    let parts = trainer.layout().parts();
    assert_eq!(parts[2].1, model.spec().width);
    for (part, (start, len)) in parts.into_iter().enumerate() {
        for trial in 0..4 {
            // Along a random half of the gradient's own elements.
            let chosen = |i: &usize| number(10 + trial, *i) > 0.0;
            let norm = (start..start + len).filter(chosen).map(|i| f64::from(grads[i]).powi(2)).sum::<f64>().sqrt();
            assert!(norm > 1e-3, "part {part} has a gradient");
            let h = 1e-2;
            let mut at = |steps: f64| {
                let mut moved = params.clone();
                (start..start + len).filter(chosen).for_each(|i| moved[i] += (steps * h * f64::from(grads[i]) / norm) as f32);
                value(&mut trainer, &moved)
            };
            let slope = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * h);
            assert!((slope - norm).abs() < 3e-3 * norm, "part {part}, seed 20261123: slope {slope}, gradient says {norm}");
            assert!((slope - 1.02 * norm).abs() > 3e-3 * norm, "a fiftieth too much is noticed");
        }
    }
}
