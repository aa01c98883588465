//! Tuning on rewards, through the public path.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::checkpoint;
use attune::data::Dataset;
use attune::reinforce::{Custom, Group, HeldOut, Prompts, ReinforceOptions, ReinforceTuner, Rewards};
use attune::session::{GenerateOptions, KvType, Session, SessionOptions};
use attune::tuner::TuneOptions;
use attune::{Error, Model, Precision, Result};
use attune_core::rng;
use attune_core::sampler::Sampling;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

const PROMPTS: [&str; 6] = ["one ", "the other thing: ", "tea", "a", "there is one more ", "ring the "];

fn model() -> Model {
    Model::from_bytes("tiny", attune::doc::tiny_model()).unwrap()
}

fn data(columns: &str) -> Arc<Dataset> {
    let lines: String = PROMPTS.iter().map(|p| format!("{{\"prompt\": \"{p}\"{columns}}}\n")).collect();
    Arc::new(Dataset::from_bytes(lines.into_bytes()).unwrap())
}

/// The share of an answer's tokens below 100: what a random model gives a third of the time.
fn low() -> Rewards {
    Rewards::new().with(Custom::new("low", |group: &Group<'_>, scores: &mut [f64]| {
        for (score, answer) in scores.iter_mut().zip(group.answers) {
            *score = answer.ids.iter().filter(|&&id| id < 100).count() as f64 / answer.ids.len().max(1) as f64;
        }
        Ok(())
    }))
}

fn options() -> TuneOptions {
    TuneOptions {
        rank: 4,
        steps: Some(6),
        max_length: 32,
        learning_rate: 2e-2,
        batch_size: 4,
        gradient_accumulation: 4,
        threads: 2,
        ..ReinforceOptions::tune_defaults()
    }
}

fn reinforce() -> ReinforceOptions {
    ReinforceOptions { max_completion_length: Some(10), max_kl: 0.0, ..ReinforceOptions::default() }
}

fn tuner_with(rewards: Rewards, options: &TuneOptions, reinforce: &ReinforceOptions, held_out: bool) -> Result<ReinforceTuner> {
    let (model, longest) = (model(), options.max_length - reinforce.completion_length(options.max_length));
    let prompts = |keep: &dyn Fn(u64) -> bool| Prompts::prepare(&model, data(""), &rewards, longest, keep, |_| {});
    let (train, eval) = (prompts(&|i| !held_out || i < 4)?, if held_out { Some(prompts(&|i| i >= 4)?) } else { None });
    ReinforceTuner::new(&model, train, HeldOut { prompts: eval, guard: None }, rewards, options, reinforce, None)
}

fn tuner(options: &TuneOptions, reinforce: &ReinforceOptions) -> ReinforceTuner {
    tuner_with(low(), options, reinforce, false).unwrap()
}

fn bits(tuner: &mut ReinforceTuner) -> Vec<u32> {
    tuner.current().unwrap().params.iter().map(|p| p.to_bits()).collect()
}

#[test]
fn the_mean_reward_rises_on_prompts_that_are_learnt_and_on_others() {
    for (method, steps) in [("grpo", 25), ("rloo", 60)] {
        let options = TuneOptions { steps: Some(steps), eval_every: steps, ..options() };
        let reinforce = ReinforceOptions { max_kl: 50.0, method: method.into(), num_generations: Some(8), beta: Some(0.0), ..reinforce() };
        let mut tuner = tuner_with(low(), &options, &reinforce, true).unwrap();
        let before = tuner.evaluate().unwrap().unwrap();
        let first = tuner.step().unwrap();
        for name in [
            "reward",
            "reward_std",
            "rewards/low/mean",
            "entropy",
            "completion_length",
            "completions/clipped_ratio",
            "frac_reward_zero_std",
        ] {
            assert!(first.numbers.get(name).is_some(), "{method}: {name}");
        }
        assert!(first.preference.kl.unwrap().abs() < 1e-5, "a fresh adapter is the reference itself");
        let mut last = first.clone();
        while !tuner.is_done() {
            last = tuner.step().unwrap();
        }
        assert_eq!(tuner.stopped(), None);
        assert!(last.preference.kl.unwrap() > 1e-3);
        let reward = |log: &attune::tuner::StepLog| log.numbers.get("reward").unwrap();
        assert!(reward(&last) > reward(&first) + 0.2, "{method}: {} to {}", reward(&first), reward(&last));
        let after = tuner.evaluate().unwrap().unwrap();
        let reward = |log: &attune::tuner::EvalLog| log.numbers.get("eval_reward").unwrap();
        assert!(reward(&after) > reward(&before) + 0.2, "{method}, held out: {} to {}", reward(&before), reward(&after));
        assert_eq!(after.eval_loss, -reward(&after));
        assert!(after.eval_token_accuracy > 0.9, "greedy answers are the likeliest tokens");
    }
}

#[test]
fn gradients_of_a_whole_step_are_those_of_finite_differences() {
    let exact = TuneOptions { precision: Precision::F32, learning_rate: 0.05, ..options() };
    let cases = [
        ReinforceOptions { beta: Some(0.3), ..reinforce() },
        ReinforceOptions { loss_type: Some("bnpo".into()), scale_rewards: Some("batch".into()), temperature: 0.7, ..reinforce() },
        ReinforceOptions { importance_sampling_level: Some("sequence".into()), loss_type: Some("grpo".into()), ..reinforce() },
        ReinforceOptions { method: "rloo".into(), beta: Some(0.1), num_generations: Some(4), ..reinforce() },
        ReinforceOptions { mask_truncated_completions: true, loss_type: Some("dr_grpo".into()), ..reinforce() },
    ];
    for reinforce in cases {
        let mut tuner = tuner(&exact, &reinforce);
        tuner.step().unwrap();
        let params = tuner.current().unwrap().params;
        let (loss, grads, answers) = tuner.gradients().unwrap();
        assert!(answers.len() >= 8 && answers.iter().all(|ids| !ids.is_empty()));
        let what = format!("{} {:?}", reinforce.method, reinforce.loss_type);
        let again = tuner.loss(&params).unwrap();
        assert!((loss - again).abs() < 1e-5, "{what}: {loss}, with the ratio {again}");
        let size = grads.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        assert!(size > 0.0 || reinforce.mask_truncated_completions, "{what}");
        for direction in 0..3 {
            let along: Vec<f32> = (0..params.len()).map(|i| rng::uniform(60 + direction, 1, i as u64) * 2.0 - 1.0).collect();
            let want: f64 = grads.iter().zip(&along).map(|(&g, &a)| f64::from(g) * f64::from(a)).sum();
            let mut at = |step: f32| tuner.loss(&params.iter().zip(&along).map(|(p, a)| p + step * a).collect::<Vec<f32>>()).unwrap();
            let got = (8.0 * (at(1e-3) - at(-1e-3)) - (at(2e-3) - at(-2e-3))) / (12.0 * f64::from(1e-3f32));
            assert!((got - want).abs() < 2e-3 * size + 1e-5, "{what}, direction {direction}: {got}, expected {want}, gradient {size}");
        }
    }
}

#[test]
fn threads_do_not_show() {
    let end = |threads, precision| {
        let mut tuner = tuner(&TuneOptions { threads, precision, ..options() }, &ReinforceOptions { beta: Some(0.1), ..reinforce() });
        while !tuner.is_done() {
            tuner.step().unwrap();
        }
        bits(&mut tuner)
    };
    for precision in [Precision::Fast, Precision::F32] {
        let one = end(1, precision);
        assert!([2, 4].into_iter().all(|threads| end(threads, precision) == one), "{precision:?}");
    }
}

#[test]
fn a_run_that_is_taken_up_again_ends_with_the_same_bytes_wherever_it_was_left() {
    for reinforce in [
        ReinforceOptions { max_kl: 30.0, ..reinforce() },
        ReinforceOptions { num_iterations: 3, beta: Some(0.1), ..reinforce() },
        ReinforceOptions { method: "rloo".into(), num_iterations: 2, ..reinforce() },
    ] {
        let options = options();
        let mut whole = tuner(&options, &reinforce);
        let logs: Vec<_> = (0..6).map(|_| whole.step().unwrap()).collect();
        for left in 1..6 {
            let folder = tempfile::tempdir().unwrap();
            let mut first = tuner(&options, &reinforce);
            (0..left).for_each(|_| drop(first.step().unwrap()));
            first.save(folder.path()).unwrap();
            let mut second = tuner(&options, &reinforce);
            second.restore(checkpoint::load_latest(folder.path()).unwrap().unwrap()).unwrap();
            let next = second.step().unwrap();
            let want = &logs[left];
            assert_eq!((next.step, next.loss, next.preference.kl), (want.step, want.loss, want.preference.kl));
            assert_eq!(next.numbers, want.numbers, "{} left after {left}", reinforce.num_iterations);
            while !second.is_done() {
                second.step().unwrap();
            }
            assert!(bits(&mut second) == bits(&mut whole), "{} left after {left}", reinforce.num_iterations);
        }
    }
}

#[test]
fn answers_that_are_all_worth_the_same_move_nothing_and_are_counted() {
    let same = Rewards::new().with(Custom::new("same", |_: &Group<'_>, scores: &mut [f64]| {
        scores.fill(0.1);
        Ok(())
    }));
    let mut tuner = tuner_with(same, &options(), &reinforce(), false).unwrap();
    let before = bits(&mut tuner);
    let log = tuner.step().unwrap();
    assert_eq!((log.numbers.get("frac_reward_zero_std"), log.numbers.get("reward_std"), log.grad_norm), (Some(1.0), Some(0.0), 0.0));
    assert!(bits(&mut tuner) == before);
}

#[test]
fn rewards_that_fail_are_named_and_nothing_has_changed() {
    let nan = Custom::new("tone", |_: &Group<'_>, scores: &mut [f64]| {
        scores.fill(f64::NAN);
        Ok(())
    });
    let fails = Custom::new("judge", |_: &Group<'_>, _: &mut [f64]| Err("no answer from the judge".into()));
    for (rewards, says) in
        [(Rewards::new().with(nan), ["tone", "NaN"]), (Rewards::new().with(fails), ["judge", "no answer from the judge"])]
    {
        let mut tuner = tuner_with(rewards, &options(), &reinforce(), false).unwrap();
        let before = bits(&mut tuner);
        let said = tuner.step().unwrap_err().to_string();
        assert!(says.iter().all(|part| said.contains(part)), "{said}");
        assert!(bits(&mut tuner) == before);
    }
    assert!(tuner_with(Rewards::new(), &options(), &reinforce(), false).err().unwrap().to_string().contains("--reward"));
}

#[test]
fn a_policy_that_leaves_its_bounds_stops_the_run_and_the_last_one_within_is_kept() {
    let options = TuneOptions { steps: Some(40), ..options() };
    let mut tuner = tuner(&options, &ReinforceOptions { max_kl: 0.02, ..reinforce() });
    let (mut within, mut last) = (Vec::new(), None);
    while !tuner.is_done() {
        let before = bits(&mut tuner);
        let log = tuner.step().unwrap();
        if tuner.stopped().is_none() {
            within = before;
        }
        last = Some(log);
    }
    let (last, said) = (last.unwrap(), tuner.stopped().unwrap().to_owned());
    assert!(said.contains("--max-kl 0.02"), "{said}");
    assert!(last.preference.kl.unwrap() > 0.02 && last.learning_rate == 0.0 && last.step < 40);
    assert_eq!(last.step, tuner.progress().step, "the update was not made");
    assert!(said.starts_with(&format!("after update {} ", last.step)) && tuner.kept() == last.step - 1, "{said}, {} kept", tuner.kept());
    let kept: Vec<u32> = tuner.adapter().unwrap().params.iter().map(|p| p.to_bits()).collect();
    assert!(kept == within && kept != bits(&mut tuner));

    let mut certain = tuner_with(low(), &options, &ReinforceOptions { min_entropy: 1e3, ..reinforce() }, false).unwrap();
    certain.step().unwrap();
    assert!(certain.stopped().unwrap().contains("--min-entropy"));
    let mut wild = tuner_with(low(), &options, &ReinforceOptions { max_entropy: 1e-3, ..reinforce() }, false).unwrap();
    wild.step().unwrap();
    assert!(wild.stopped().unwrap().contains("--max-entropy"));
}

#[test]
fn the_last_adapter_of_all_is_measured_too_before_it_is_kept() {
    let constant = |steps| TuneOptions { steps: Some(steps), schedule: attune::core::optim::Schedule::Constant, ..options() };
    let bound = ReinforceOptions { max_kl: 0.3, ..reinforce() };
    let mut long = tuner(&constant(40), &bound);
    let mut all = vec![bits(&mut long)];
    while !long.is_done() {
        long.step().unwrap();
        all.push(bits(&mut long));
    }
    let broken = long.progress().step;
    assert!(long.stopped().is_some() && broken > 1, "{broken}");
    let mut short = tuner(&constant(broken), &bound);
    while !short.is_done() {
        short.step().unwrap();
    }
    assert!(short.stopped().is_none() && bits(&mut short) == all[broken as usize], "no update follows that would notice");
    short.finish().unwrap();
    let said = short.stopped().expect("the bound is broken by the last update");
    assert!(said.starts_with(&format!("after update {broken} ")), "{said}");
    assert_eq!(short.kept(), broken - 1);
    let kept: Vec<u32> = short.adapter().unwrap().params.iter().map(|p| p.to_bits()).collect();
    assert!(kept == all[broken as usize - 1]);
    let mut within = tuner(&constant(broken - 1), &bound);
    while !within.is_done() {
        within.step().unwrap();
    }
    within.finish().unwrap();
    assert!(within.stopped().is_none() && within.kept() == broken - 1);
}

#[test]
fn the_best_on_held_out_prompts_is_not_kept_if_its_own_answers_leave_the_bounds_wherever_the_run_is_left() {
    let options = TuneOptions { steps: Some(40), eval_every: 1, schedule: attune::core::optim::Schedule::Constant, ..options() };
    // Greedy answers diverge less than sampled ones: the bound is left by what is sampled, right after an evaluation.
    let bound = ReinforceOptions { max_kl: 0.05, ..reinforce() };
    let run = |leave: Option<u64>| {
        let mut tuner = tuner_with(low(), &options, &bound, true).unwrap();
        tuner.evaluate().unwrap();
        let mut all = vec![bits(&mut tuner)];
        while !tuner.is_done() {
            tuner.step().unwrap();
            if tuner.stopped().is_none() {
                all.push(bits(&mut tuner));
                tuner.evaluate().unwrap();
            }
            if leave == Some(tuner.progress().step) && tuner.stopped().is_none() {
                let folder = tempfile::tempdir().unwrap();
                tuner.save(folder.path()).unwrap();
                tuner = tuner_with(low(), &options, &bound, true).unwrap();
                tuner.restore(checkpoint::load_latest(folder.path()).unwrap().unwrap()).unwrap();
            }
        }
        assert!(tuner.stopped().is_some());
        let kept: Vec<u32> = tuner.adapter().unwrap().params.iter().map(|p| p.to_bits()).collect();
        (tuner.progress().step, tuner.kept(), kept, all)
    };
    let (broken, kept, adapter, all) = run(None);
    assert!(kept < broken && adapter == all[kept as usize], "{kept} of {broken}");
    let (again, kept_again, same, _) = run(Some(broken));
    assert!((again, kept_again) == (broken, kept) && same == adapter, "an adapter that waits to be kept waits in the checkpoint");
}

#[test]
fn held_out_prompts_are_answered_as_a_session_would() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = heard.clone();
    let listen = Rewards::new().with(Custom::new("listen", move |group: &Group<'_>, scores: &mut [f64]| {
        let answers = group.answers.iter().map(|a| (group.prompt_ids.to_vec(), a.ids.to_vec(), a.text.to_owned()));
        listener.lock().unwrap().extend(answers);
        scores.fill(0.0);
        Ok(())
    }));
    let exact = TuneOptions { precision: Precision::F32, ..options() };
    let reinforce = ReinforceOptions { kv_type: Some(KvType::F32), ..reinforce() };
    let mut tuner = tuner_with(listen, &exact, &reinforce, true).unwrap();
    tuner.evaluate().unwrap().unwrap();
    let model = model();
    let mut session = Session::new(
        &model,
        &SessionOptions { context: 64, kv: Some(KvType::F32), precision: Precision::F32, ..SessionOptions::default() },
    )
    .unwrap();
    let generate = GenerateOptions { max_tokens: 10, sampling: Sampling::GREEDY, stop: Vec::new() };
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 2);
    for (prompt, ids, text) in heard.iter() {
        let answer = session.generate(prompt, &generate, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((&answer.token_ids, &answer.text), (ids, text));
    }
}

#[test]
fn an_answer_that_ends_at_once_is_an_empty_text_of_one_token() {
    let seen = Arc::new(Mutex::new(0));
    let count = seen.clone();
    let empty = Rewards::new().with(Custom::new("empty", move |group: &Group<'_>, scores: &mut [f64]| {
        for (score, answer) in scores.iter_mut().zip(group.answers) {
            let ended = answer.ids.is_empty();
            assert!(!ended || answer.text.is_empty());
            assert_eq!(answer.sampled.len(), answer.ids.len() + usize::from(!answer.truncated));
            *score = -(answer.ids.len() as f64);
            *count.lock().unwrap() += usize::from(ended);
        }
        Ok(())
    }));
    let options = TuneOptions { steps: Some(60), learning_rate: 3e-2, ..options() };
    let reinforce = ReinforceOptions { num_generations: Some(16), temperature: 1.5, ..reinforce() };
    let mut tuner = tuner_with(empty, &options, &reinforce, false).unwrap();
    while !tuner.is_done() {
        let log = tuner.step().unwrap();
        assert!(log.loss.is_finite());
    }
    assert!(*seen.lock().unwrap() > 0, "some answers of so many are empty");
}

#[test]
fn a_budget_is_kept_and_refused_with_what_it_would_take() {
    let with = |budget| tuner_with(low(), &TuneOptions { budget, ..options() }, &reinforce(), false);
    let free = with(None).unwrap().plan().total_bytes;
    let Err(Error::Core(attune_core::Error::OverBudget { needs, .. })) = with(Some(1)) else { panic!("too small") };
    assert!(needs < free);
    let mut tuner = with(Some(needs)).unwrap();
    assert!(tuner.plan().total_bytes <= needs);
    assert!(tuner.plan().regions.cache > 0 && tuner.plan().buffers.iter().any(|b| b.name == "sampler.logits"));
    assert!(tuner.step().unwrap().grad_norm > 0.0);
}

#[test]
fn prompts_that_cannot_be_asked_are_told() {
    let (model, said) = (model(), |result: Result<Prompts>| result.err().unwrap().to_string());
    let long = said(Prompts::prepare(&model, data(""), &low(), 1, |i| i == 1, |_| {}));
    assert!(long.contains("none of its 6") && long.contains("1 fit beside the answer"), "{long}");
    let exact = Rewards::parse(&["answer:solution".into()], &[]).unwrap();
    let missing = said(Prompts::prepare(&model, data(", \"answer\": \"x\""), &exact, 30, |_| true, |_| {}));
    assert!(missing.contains("\"solution\"") && missing.contains("prompt, answer"), "{missing}");
    let bare = Model::from_bytes("bare", attune::doc::tiny_model_without_tokenizer()).unwrap();
    let ids = Arc::new(Dataset::from_bytes(b"{\"prompt_ids\": [1, 2, 3]}".to_vec()).unwrap());
    let text = said(Prompts::prepare(&bare, ids.clone(), &exact, 30, |_| true, |_| {}));
    assert!(text.contains("no tokenizer") && text.contains("answer"), "{text}");
    assert_eq!(Prompts::prepare(&bare, ids, &low(), 30, |_| true, |_| {}).unwrap().len(), 1);
    let table = Arc::new(Dataset::from_bytes(b"{\"text\": \"x\"}".to_vec()).unwrap());
    assert!(said(Prompts::prepare(&model, table, &low(), 30, |_| true, |_| {})).contains("prompts"));
}

#[test]
fn what_comes_before_the_answer_is_the_prompt_of_every_kind_of_example() {
    let model = model();
    for line in [
        r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}"#,
        r#"{"prompt": [{"role": "user", "content": "Hi"}]}"#,
        r#"{"instruction": "Hi", "input": "", "output": "Hello"}"#,
        r#"{"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}"#,
    ] {
        let data = Arc::new(Dataset::from_bytes(line.as_bytes().to_vec()).unwrap());
        let prompts = Prompts::prepare(&model, data, &low(), 200, |_| true, |_| {}).unwrap();
        let prompt = prompts.get(0).unwrap();
        assert_eq!(prompt.text, "Hi", "{line}");
        assert_eq!(model.tokenizer().unwrap().decode_with(&prompt.ids, true), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    }
}
