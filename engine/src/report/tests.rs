#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::plan::{Buffer, Knobs, Regions};
use crate::prefer::PreferOptions;
use crate::tuner::{EvalPreferenceLog, PreferenceLog};

fn plan() -> Plan {
    let buffer = |name: &str, region, shape: &[usize], bytes| Buffer { name: name.into(), region, shape: shape.to_vec(), ty: "f32", bytes };
    let buffers = vec![
        buffer("lora", "adapter", &[60_000], 240_000),
        buffer("adam", "adapter", &[2, 60_000], 480_000),
        buffer("blk.0.k", "cache", &[256, 64], 65_536),
        buffer("blk.1.k", "cache", &[256, 64], 65_536),
        buffer("logits", "work", &[256, 512], 524_288),
        buffer("tokenizer", "host", &[20_000], 20_000),
    ];
    let regions = Regions { adapter: 720_000, cache: 131_072, work: 524_288, host: 20_000 };
    let knobs =
        Knobs::Tune { micro_batch_tokens: 256, vocab_chunk: 512, layer_inputs: "f32", layer_stride: 1, kept_blocks: 1, optim: "adamw" };
    Plan { total_bytes: 1_395_360, weights_bytes: 3 << 20, regions, buffers, knobs }
}

fn report(steps: u64) -> Report {
    let loss = |i: u64| 1.0 + 2.0 / (1.0 + i as f64 / 20.0) + 0.3 * ((i * 7919 % 101) as f64 / 101.0 - 0.5);
    let step = |i: u64| StepLog {
        step: i,
        loss: loss(i),
        grad_norm: 1.5 / loss(i) as f32,
        learning_rate: 2e-4 * (1.0 - i as f32 / (steps + 1) as f32),
        target_tokens: 120,
        tokens_per_second: 1000.0,
        seconds: i as f64 * 0.25,
        ..StepLog::default()
    };
    let eval = |i: u64| EvalLog { step: i, eval_loss: loss(i) + 0.1, eval_token_accuracy: 0.5, ..EvalLog::default() };
    Report {
        title: "first run".into(),
        config: Config::new("models/tiny.gguf", "data/examples.jsonl"),
        steps: (1..=steps).map(step).collect(),
        evals: (0..=steps).step_by((steps as usize / 6).max(1)).map(eval).collect(),
        plan: plan(),
        measured_peak: Some(1_300_000),
        samples: vec![
            Sample { prompt: "Translate into Chinese: fox".into(), before: "fox fox fox".into(), after: "狐狸".into() },
            Sample { prompt: "Say nothing.".into(), before: "I say:\n\nnothing".into(), after: String::new() },
        ],
        examples: 800,
        truncated: 12,
        weighted: 5,
        skipped: vec![Skipped { line: 17, reason: "expected a field named messages, found text".into() }],
        stopped: None,
    }
}

/// A run on preferences, as DPO logs it, with a guard.
fn preferences(steps: u64) -> Report {
    let mut r = report(steps);
    r.config.preference = Some(PreferOptions { beta: Some(0.2), ..PreferOptions::new("dpo") });
    r.config.guard_data = Some("data/guard.jsonl".into());
    for step in &mut r.steps {
        let done = step.step as f64 / steps as f64;
        let wave = 0.2 * (step.step as f64).sin();
        step.preference = PreferenceLog {
            chosen_reward: Some(done + wave),
            rejected_reward: Some(-2.0 * done + wave),
            margin: Some(3.0 * done),
            accuracy: Some((0.5 + done).min(1.0)),
            chosen_logps: Some(-20.0 + done),
            rejected_logps: Some(-20.0 - 9.0 * done),
            ..PreferenceLog::default()
        };
    }
    for eval in &mut r.evals {
        let done = eval.step as f64 / steps as f64;
        let guard_loss = Some(0.1 + 0.2 * done * done);
        let accuracy = Some((0.3 + done).min(0.95));
        eval.preference = EvalPreferenceLog { accuracy, margin: Some(2.5 * done), guard_loss, ..EvalPreferenceLog::default() };
    }
    r
}

/// A run whose log has names of its own, as reinforcement's and a reward model's have.
fn others(steps: u64) -> Report {
    let mut r = report(steps);
    for step in &mut r.steps {
        let done = step.step as f64 / steps as f64;
        for (name, number) in
            [("reward", done), ("reward_std", 0.3), ("entropy", 2.0 - done), ("completion_length", 9.0), ("made<up>", 7.0)]
        {
            step.numbers.add(name, number);
        }
        step.preference.kl = Some(0.02 * done);
    }
    for eval in &mut r.evals {
        eval.eval_token_accuracy = f64::NAN;
        eval.numbers.add("eval_reward", eval.step as f64 / steps as f64);
    }
    r
}

/// Whether every element that is opened is closed, in order. Elements without an end tag in HTML are listed.
fn well_formed(page: &str) -> bool {
    let (mut open, mut rest) = (Vec::new(), page);
    while let Some(at) = rest.find('<') {
        let Some(end) = rest[at..].find('>') else { return false };
        let tag = &rest[at + 1..at + end];
        rest = &rest[at + end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        let void = tag.starts_with('!') || tag.ends_with('/') || ["meta", "td", "th"].contains(&name);
        if tag.starts_with('/') {
            if open.pop() != Some(name) {
                return false;
            }
        } else if !void {
            open.push(name);
        }
        if name == "style" && !tag.starts_with('/') {
            let Some(end) = rest.find("</style>") else { return false };
            rest = &rest[end..];
        }
    }
    open.is_empty()
}

#[test]
fn a_page_has_everything_and_asks_for_nothing() {
    let page = report(60).html();
    for expected in ["first run", "models/tiny.gguf", "data/examples.jsonl", "learning_rate", "0.0002", "狐狸", "fox fox fox", "(empty)"]
    {
        assert!(page.contains(expected), "{expected} is missing");
    }
    for expected in
        ["expected a field named messages", "7,200 target tokens", "15,000 tokens, 1000 a second", "1.3 MiB", "measured", "(best)"]
    {
        assert!(page.contains(expected), "{expected} is missing");
    }
    for forbidden in ["<script", "http:", "https:", "url(", "@import", "src=", "href="] {
        assert!(!page.contains(forbidden), "{forbidden} has no place in it");
    }
    assert!(well_formed(&page));
    assert_eq!(page, report(60).html());
}

#[test]
fn a_run_on_preferences_shows_rewards_margin_accuracy_and_guard() {
    let page = preferences(60).html();
    for expected in [
        "attune prefer dpo",
        "Implicit rewards",
        "chosen</span>",
        "rejected</span>",
        "Margin between the rewards",
        "Preferred answers with the larger reward",
        "30.0 % → 95.0 %",
        "Guarding loss",
        "data/guard.jsonl",
        "<code>beta</code>",
        "<th>rewards/accuracies",
    ] {
        assert!(page.contains(expected), "{expected} is missing");
    }
    assert!(!page.contains("Perplexity"), "a loss of preferences is no cross-entropy");
    // Loss, accuracy, guard, rewards, margin, log-probabilities, learning rate, norm.
    assert_eq!(page.matches("<svg class=\"chart\"").count(), 8);
    assert!(well_formed(&page));
    assert!(report(60).html().contains("attune tune<") && report(60).html().contains("Perplexity"));
}

#[test]
fn a_run_that_only_its_guard_measured_shows_the_guards_loss_and_no_held_out_one() {
    let mut r = preferences(20);
    for eval in &mut r.evals {
        let preference = EvalPreferenceLog { guard_loss: eval.preference.guard_loss, ..EvalPreferenceLog::default() };
        *eval = EvalLog { preference, ..EvalLog::of_guard(eval.step) };
    }
    let page = r.html();
    assert!(page.contains("Guarding loss") && page.contains("<th>guard_loss"));
    for absent in ["Held-out loss", "NaN", "Perplexity", "<th>Loss", "not finite"] {
        assert!(!page.contains(absent), "{absent} has no place in it");
    }
    assert!(well_formed(&page));
}

/// A reward model's run, as its tuner logs it.
fn scores(steps: u64) -> Report {
    let mut r = report(steps);
    r.config.reward = Some(crate::reward::RewardOptions::default());
    let put = |numbers: &mut crate::tuner::Numbers, prefix: &str, done: f64| {
        for (name, number) in [
            ("min_reward", -2.0 * done),
            ("mean_reward", 0.1),
            ("max_reward", 3.0 * done),
            ("accuracy", 0.5 + 0.4 * done),
            ("margin", 2.0 * done),
            ("chosen_reward", 1.25 * done),
            ("rejected_reward", -0.75 * done),
        ] {
            numbers.add(format!("{prefix}{name}"), number);
        }
    };
    r.steps.iter_mut().for_each(|step| put(&mut step.numbers, "", step.step as f64 / steps as f64));
    for eval in &mut r.evals {
        eval.eval_token_accuracy = f64::NAN;
        put(&mut eval.numbers, "eval_", eval.step as f64 / steps as f64);
    }
    r
}

#[test]
fn a_reward_models_scores_are_drawn_better_against_worse() {
    let page = scores(60).html();
    let figure = page.split("<figure>").find(|part| part.contains("Mean scores of better and worse answers")).unwrap();
    let figure = figure.split("</figure>").next().unwrap();
    for expected in
        ["chosen</span>", "rejected</span>", "held-out</span>", "line smooth", "line other", "eval", "chosen_reward", "rejected_reward"]
    {
        assert!(figure.contains(expected), "{expected} is missing in {figure}");
    }
    // One line rises and one falls: heights on a page count from the top.
    let heights = |class: &str| -> Vec<f64> {
        let line = figure.split("<p").find(|part| part.contains(class)).unwrap_or_else(|| panic!("no {class} in {figure}"));
        let numbers: Vec<f64> = line.split(['M', 'L', ' ', ',', '"']).filter_map(|part| part.parse().ok()).collect();
        numbers.chunks_exact(2).map(|point| point[1]).collect()
    };
    let (better, worse) = (heights("line smooth"), heights("line other"));
    assert!(better.len() > 10 && better.len() == worse.len(), "{better:?} {worse:?}");
    assert!(better[0] > better[better.len() - 1] && worse[0] < worse[worse.len() - 1], "{better:?} {worse:?}");
    for expected in [
        "attune reward<",
        "Better answers with the larger score",
        "Margin between the scores",
        "Largest and smallest score",
        "50.0 % → 90.0 %",
        "<th>chosen_reward",
    ] {
        assert!(page.contains(expected), "{expected} is missing");
    }
    assert!(!page.contains("Perplexity") && !page.contains("NaN") && well_formed(&page));
}

#[test]
fn whatever_a_log_measures_is_drawn_under_its_name() {
    let page = others(60).html();
    for expected in ["Mean reward", "Entropy of the policy", "Tokens of an answer", "Divergence from the reference", "made&lt;up&gt;"] {
        assert!(page.contains(expected), "{expected} is missing");
    }
    assert!(!page.contains("made<up>") && !page.contains("NaN") && well_formed(&page));
    let mut many = report(9);
    for step in &mut many.steps {
        (0..90).for_each(|i| step.numbers.add(format!("n{i}"), f64::from(i)));
    }
    let page = many.html();
    assert!(page.contains("Not drawn, but in <code>log.jsonl</code>") && page.len() < 150_000 && well_formed(&page), "{}", page.len());
}

#[test]
fn the_check_for_well_formed_pages_rejects_bad_ones() {
    assert!(well_formed("<p>a<b>b</b></p>"));
    assert!(!well_formed("<p>a<b>b</p></b>"));
    assert!(!well_formed("<p>a"));
}

#[test]
fn hostile_text_stays_text() {
    let mut r = report(3);
    let hostile = "</style></div><script>alert('x')</script>\"onload=\"y\0\u{202e}<!--";
    r.title = hostile.into();
    (r.config.model, r.config.data, r.config.init_adapter) = (hostile.into(), hostile.into(), Some(hostile.into()));
    (r.config.model_hash, r.config.attune) = (hostile.into(), hostile.into());
    r.samples = vec![Sample { prompt: hostile.into(), before: hostile.repeat(1000), after: hostile.into() }];
    r.skipped = (1..=1000).map(|line| Skipped { line, reason: hostile.into() }).collect();
    r.plan.buffers[0].name = hostile.into();
    let page = r.html();
    assert!(!page.contains("<script") && !page.contains("<!--") && !page.contains('\0'));
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
    assert!(page.contains("and 950 more"));
    assert!(well_formed(&page));
    assert!(page.len() < 200_000, "{}", page.len());
}

#[test]
fn runs_of_no_update_and_of_one_have_pages() {
    let mut none = report(0);
    none.evals.clear();
    (none.samples, none.skipped, none.measured_peak) = (Vec::new(), Vec::new(), None);
    let page = none.html();
    assert!(page.contains("No update was made") && page.contains("nothing was learnt") && well_formed(&page));
    none.plan = Plan { total_bytes: 0, buffers: Vec::new(), regions: Regions::default(), ..none.plan };
    assert!(!none.html().contains("NaN"));
    let one = report(1).html();
    assert!(one.contains("<svg") && !one.contains("NaN") && !one.contains("inf") && well_formed(&one));
}

#[test]
fn long_runs_are_thinned() {
    let page = report(100_000).html();
    assert!(page.contains("100,000") && page.len() < 250_000, "{}", page.len());
}

#[test]
fn numbers_that_are_not_finite_are_named_and_leave_gaps() {
    let mut r = report(50);
    for (i, bad) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN].into_iter().enumerate() {
        r.steps[10 * i].loss = bad;
        r.steps[10 * i + 1].grad_norm = bad as f32;
        r.evals[i].eval_loss = bad;
        r.steps[i].seconds = bad;
        r.steps[i].tokens_per_second = bad;
    }
    let page = r.html();
    assert!(page.contains("not finite") && !page.contains("NaN") && !page.contains("inf "), "{page}");
    assert!(well_formed(&page));
    for step in &mut r.steps {
        (step.loss, step.learning_rate, step.grad_norm) = (f64::NAN, f32::NAN, f32::NAN);
    }
    r.evals.clear();
    assert!(!r.html().contains("NaN"));
}

/// Writes the page to look at: `ATTUNE_REPORT=page.html cargo test -p attune report -- --ignored`.
#[test]
#[ignore = "writes a file to look at"]
fn a_page_to_look_at() {
    let mut r = report(240);
    r.config.options.learning_rate = 1e-3;
    r.config.options.budget = Some(300 << 20);
    let path = std::env::var("ATTUNE_REPORT").unwrap();
    std::fs::write(&path, r.html()).unwrap();
    std::fs::write(format!("{path}.prefer.html"), preferences(240).html()).unwrap();
    std::fs::write(format!("{path}.others.html"), others(240).html()).unwrap();
}

#[test]
fn a_run_that_was_stopped_says_why() {
    let stopped = Report { stopped: Some("the divergence is <above> its bound".into()), ..report(3) };
    assert!(stopped.html().contains("Stopped before the last update: the divergence is &lt;above&gt; its bound."));
    assert!(!report(3).html().contains("Stopped before"));
}
