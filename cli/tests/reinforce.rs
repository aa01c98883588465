//! `attune reinforce`: the run folder, mistakes, a run that is taken up again, and what it does to the built-in model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Home, count_lines, has_keys, ran};
use serde_json::{Value, json};

fn log(home: &Home, run: &str) -> Vec<Value> {
    String::from_utf8(home.read(&format!("{run}/log.jsonl"))).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn home() -> Home {
    let home = Home::new();
    let line = |i: usize| json!({ "prompt": format!("Say {i}: "), "answer": format!("the {i}") }).to_string() + "\n";
    home.write("prompts.jsonl", (0..8).map(line).collect::<String>());
    home
}

const SMALL: &str = "--max-completion-length 8 --batch-size 4 --gradient-accumulation 2 --num-generations 4 --learning-rate 1e-2 --rank 4";

#[test]
fn a_run_folder_holds_everything_of_the_run() {
    let home = home();
    let run = format!(
        "reinforce --model tiny.gguf --data prompts.jsonl {SMALL} --max-length 96 --eval-split 0.3 --guard-data chat.jsonl --guard-tolerance 9"
    );
    let result = home.json(&format!(
        "{run} --reward regex:[a-m] --reward length:max=4,unit=tokens --reward-weights 1,-0.5 --steps 4 --eval-every 2 --save-every 2 --out run --max-kl 100"
    ));
    has_keys(
        &result,
        &["step", "loss", "reward", "reward_std", "kl", "entropy", "completion_length", "frac_reward_zero_std", "rewards/regex/mean"],
    );
    has_keys(
        &result,
        &["eval_reward", "eval_rewards/length/mean", "eval_kl", "eval_guard_loss", "eval_completion_length", "adapter", "report"],
    );
    assert_eq!((&result["finished"], &result["stopped"]), (&json!(true), &Value::Null));
    for file in ["config.json", "log.jsonl", "adapter.attune", "report.html", "checkpoint"] {
        assert!(home.path("run").join(file).exists(), "{file}");
    }
    let config: Value = serde_json::from_slice(&home.read("run/config.json")).unwrap();
    let asked = &config["reinforcement"];
    assert_eq!((&asked["method"], &asked["num_generations"], &asked["reward_weights"]), (&json!("grpo"), &json!(4), &json!([1.0, -0.5])));
    let lines = log(&home, "run");
    let steps: Vec<&Value> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
    assert_eq!(steps.len(), 4);
    steps.iter().for_each(|line| has_keys(line, &["step", "grad_norm", "learning_rate", "reward", "kl", "clip_ratio/region_mean"]));
    assert_eq!(lines.iter().filter(|line| line.get("eval_reward").is_some()).count(), 3);
    home.ok("run --model tiny.gguf --adapter run --prompt Hi --max-tokens 3");
    let rloo = home.json(&format!("{run} --method rloo --reward length:min=2 --steps 1 --out rloo --init-adapter run"));
    assert!(rloo["kl"].as_f64().unwrap().abs() < 1e-4, "the reference is the adapter that it began with: {rloo}");
    let base = home.json(&format!("{run} --reference base --reward length:min=2 --steps 1 --out base --init-adapter run"));
    assert!(base["kl"].as_f64().unwrap() >= 0.0, "{base}");
    assert_eq!(home.json("adapter rollback base --list")["versions"], json!([1]), "what tuning started from");
}

#[test]
fn what_is_planned_is_what_is_taken() {
    let home = home();
    let plan = home.json(&format!("plan --for reinforce --model tiny.gguf {SMALL} --max-length 40"));
    assert!(plan["regions"]["cache"].as_u64() > Some(0));
    let run = home.json(&format!(
        "reinforce --model tiny.gguf --data prompts.jsonl {SMALL} --max-length 40 --reward refusal --steps 2 --samples 0 --out run"
    ));
    // The longest prompt of the data is shorter than what max-length leaves room for.
    assert!(run["planned_bytes"].as_u64() <= plan["total_bytes"].as_u64(), "{run}");
    assert!(run["planned_bytes"].as_u64().unwrap() * 2 > plan["total_bytes"].as_u64().unwrap());
    home.fails(2, "plan --model tiny.gguf --for tune --num-generations 4", &["--for reinforce"]);
}

#[test]
fn mistakes_are_named() {
    let home = home();
    let run = "reinforce --model tiny.gguf --out run --max-completion-length 8 --batch-size 4 --gradient-accumulation 2 --rank 4";
    let data = "--data prompts.jsonl";
    home.fails(2, &format!("{run} {data} --reward regex:("), &["--reward", "unclosed group"]);
    home.fails(2, &format!("{run} {data} --reward schema:{{\"type\":\"thing\"}}"), &["--reward", "thing"]);
    home.fails(1, &format!("{run} {data} --reward schema:none.json"), &["none.json"]);
    home.fails(2, &format!("{run} {data} --reward beauty"), &["beauty", "regex:PATTERN"]);
    home.fails(2, &format!("{run} {data} --reward json --reward-weights 1,2"), &["--reward-weights"]);
    home.fails(2, &format!("{run} {data} --reward json --num-generations 1"), &["--num-generations", "alone has no advantage"]);
    home.fails(2, &format!("{run} {data} --reward json --num-generations 3"), &["--num-generations", "multiple"]);
    home.fails(2, &format!("{run} {data} --reward json --method ppo"), &["grpo or rloo"]);
    home.fails(2, &format!("{run} {data} --reward json --method rloo --loss-type dapo"), &["--loss-type", "grpo"]);
    home.fails(2, &format!("{run} {data}"), &["--reward"]);
    home.fails(1, &format!("{run} {data} --reward answer:solution"), &["solution", "prompt, answer"]);
    home.fails(1, &format!("{run} {data} --reward json --max-length 10"), &["fit beside the answer"]);
    home.fails(1, &format!("{run} {data} --reward model:nowhere"), &["nowhere"]);
    let ran = home.fails(1, &format!("{run} {data} --reward json --budget 1000 --json"), &["would do"]);
    let needs: Value = serde_json::from_str(&ran.stdout).unwrap();
    let fits = home.json(&format!("{run} {data} --reward json --steps 1 --budget {}", needs["needs_bytes"]));
    assert!(fits["planned_bytes"].as_u64() <= needs["needs_bytes"].as_u64());
    home.fails(2, "tune --resume --out run", &["attune reinforce --resume"]);
    home.fails(
        2,
        "reinforce --resume --out run --beta 0.7 --reward refusal",
        &["--beta its default, found 0.7", "--reward json, found refusal"],
    );
}

#[test]
fn a_run_that_leaves_its_bounds_says_why_everywhere() {
    let home = home();
    let run = home.json(&format!(
        "reinforce --model tiny.gguf --data prompts.jsonl {SMALL} --reward regex:[a-m] --steps 9 --min-entropy 50 --out run"
    ));
    let why = run["stopped"].as_str().unwrap();
    assert!(why.contains("after update 0 the policy's entropy") && why.contains("--min-entropy 50"), "{run}");
    assert!(why.contains("kept: the adapter that tuning started from, in run"), "{run}");
    assert_eq!(log(&home, "run").last().unwrap()["stopped"], run["stopped"]);
    let said = home
        .ok(&format!("reinforce --model tiny.gguf --data prompts.jsonl {SMALL} --reward regex:[a-m] --min-entropy 50 --out run --force"));
    assert!(said.contains("--min-entropy"), "{said}");
    let said = home.json(&format!(
        "reinforce --model tiny.gguf --data prompts.jsonl {SMALL} --reward regex:[a-m] --max-entropy 0.001 --out run --force"
    ));
    assert!(said["stopped"].as_str().unwrap().contains("above --max-entropy 0.001"), "{said}");
}

#[test]
fn a_run_that_stops_keeps_the_last_adapter_within_its_bounds_and_says_which() {
    let home = home();
    let small = SMALL.replace("--learning-rate 1e-2", "--learning-rate 5e-2");
    let run = format!("reinforce --model tiny.gguf --data prompts.jsonl {small} --reward regex:[a-m] --samples 0 --schedule constant");
    let whole = home.json(&format!("{run} --steps 9 --max-kl 0 --out whole"));
    assert_eq!((&whole["stopped"], &whole["kept_step"]), (&Value::Null, &json!(9)));
    // The divergence in line n is that of the adapter after n − 1 updates; the first that is above the bound ends the run.
    let kl: Vec<f64> = log(&home, "whole").iter().filter_map(|line| line["kl"].as_f64()).collect();
    assert!(kl.is_empty(), "no bound, no reference, no divergence");
    let measured = home.json(&format!("{run} --steps 9 --max-kl 1000000 --out measured"));
    assert_eq!(measured["stopped"], Value::Null);
    let kl: Vec<f64> = log(&home, "measured").iter().filter_map(|line| line["kl"].as_f64()).collect();
    let largest = kl.iter().copied().fold(0.0, f64::max);
    let broken = kl.iter().position(|&kl| kl > 0.5 * largest).unwrap();
    assert!(kl.len() == 9 && broken > 0, "{kl:?}");
    let stopped = home.json(&format!("{run} --steps 9 --max-kl {} --out stopped", 0.5 * largest));
    let why = stopped["stopped"].as_str().unwrap();
    let kept = broken - 1;
    assert!(why.contains(&format!("after update {broken} the divergence")) && why.contains("--max-kl"), "{why}");
    assert_eq!(stopped["kept_step"], json!(kept), "{why}");
    assert!(why.contains("in stopped/adapter.attune"), "{why}");
    let updates = log(&home, "stopped").iter().filter(|line| line.get("loss").is_some()).count();
    assert_eq!(updates, broken, "what was measured and not made is no update");
    if kept > 0 {
        assert!(why.contains(&format!("kept: the adapter after update {kept}")), "{why}");
        home.ok(&format!("{run} --steps {kept} --max-kl 1000000 --out fewer"));
        assert_eq!(home.read("stopped/adapter.attune"), home.read("fewer/adapter.attune"), "that of a run of as many updates");
    }
    // A run that has stopped has nothing to go on with, and says what to do.
    home.fails(
        1,
        "reinforce --resume --out stopped",
        &["ended at a bound", &format!("after update {broken}"), "raise --max-kl", "--init-adapter stopped"],
    );
}

#[test]
fn a_reward_model_is_a_reward() {
    let home = home();
    let pairs = (0..6).map(|i| json!({ "prompt": format!("Say {i}: "), "chosen": "tea", "rejected": "the one ring" }).to_string() + "\n");
    home.write("pairs.jsonl", pairs.collect::<String>());
    home.ok("reward train --model tiny.gguf --data pairs.jsonl --out liked --steps 4 --learning-rate 1e-2 --rank 2");
    let reinforce = format!("reinforce --model tiny.gguf --data prompts.jsonl {SMALL} --max-length 64 --samples 0 --steps 2");
    let run = home.json(&format!("{reinforce} --reward model:liked --out run"));
    assert!(run["rewards/model/std"].as_f64().unwrap() > 0.0, "{run}");
    // What it takes is a line of the plan, of the run's and of the one before; and it is not more.
    let (planned, measured) = (run["planned_bytes"].as_u64().unwrap(), run["measured_bytes"].as_u64());
    let plain = home.json(&format!("{reinforce} --reward refusal --out plain"))["planned_bytes"].as_u64().unwrap();
    let plan = home.json(&format!("plan --for reinforce --model tiny.gguf {SMALL} --max-length 64 --reward model:liked"));
    let buffers = plan["buffers"].as_array().unwrap();
    let own = buffers.iter().find(|buffer| buffer["name"] == "reward.model").expect("a line of its own")["bytes"].as_u64().unwrap();
    assert!(planned > plain && planned - plain <= own && planned <= plan["total_bytes"].as_u64().unwrap(), "{plain} {planned} {plan}");
    println!("planned {planned}, measured {measured:?}, the reward model {own}");
    assert!(measured.is_none_or(|measured| measured <= planned + (64 << 10)), "planned {planned}, measured {measured:?}");
    // A budget that holds the run without it is refused with what would do, and that does.
    let least = |reward: &str| {
        let ran = home.fails(1, &format!("{reinforce} --reward {reward} --out none --budget 1000 --json"), &["would do"]);
        (serde_json::from_str::<Value>(&ran.stdout).unwrap()["needs_bytes"].as_u64().unwrap(), ran.stderr)
    };
    let ((without, _), (with, said)) = (least("refusal"), least("model:liked"));
    assert!(with > without && said.contains("reward model"), "{without} {with} {said}");
    home.fails(1, &format!("{reinforce} --reward model:liked --out none --budget {without}"), &["would do"]);
    let fits = home.json(&format!("{reinforce} --reward model:liked --out fits --budget {with}"));
    assert!(fits["planned_bytes"].as_u64() <= Some(with), "{fits}");
}

#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let home = home();
    let run = format!(
        "reinforce --model tiny.gguf --data prompts.jsonl {SMALL} --reward regex:[a-m] --steps 30 --num-iterations 2 --samples 0 --save-every 3 \
         --eval-split 0.3 --eval-every 5 --beta 0.05 --max-kl 100"
    );
    home.ok(&format!("{run} --out whole"));
    let mut child = home.start_until(&format!("{run} --out run"), "run/log.jsonl", 9);
    child.kill().unwrap();
    child.wait().unwrap();
    let done = count_lines(&home.path("run/log.jsonl"));
    if done < 30 {
        let mut child = home.start_until(&format!("{run} --out run --resume"), "run/log.jsonl", done + 2);
        assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        child.wait().unwrap();
        drop(ran(child));
    }
    home.ok("reinforce --resume --out run");
    assert_eq!(home.read("run/adapter.attune"), home.read("whole/adapter.attune"));
    let comparable = |run: &str| -> Vec<Value> {
        let lines = log(&home, run);
        lines.iter().map(|line| json!([line["step"], line["loss"], line["reward"], line["kl"], line["eval_reward"]])).collect()
    };
    assert_eq!(comparable("run"), comparable("whole"));
}

/// Facts of the built-in model as texts to be continued: none of the held-out ones is among those learnt from.
fn facts(home: &Home) {
    let split = |statement: &str| -> Option<String> {
        let starts = ["The capital of ", "The colour of ", "The opposite of ", "A young "];
        let (prompt, answer) = statement.strip_suffix('.')?.rsplit_once(' ')?;
        let fits = starts.iter().any(|start| statement.starts_with(start)) && !prompt.contains(". ");
        fits.then(|| json!({ "prompt": prompt, "answer": answer }).to_string() + "\n")
    };
    home.write("base.gguf", attune_builtin::model());
    home.write("facts.jsonl", attune_builtin::tuning_set().iter().filter_map(|e| split(&e.response)).collect::<String>());
    let accepted = |task: &attune_builtin::Task| task.accepted.iter().find_map(|answer| split(answer));
    home.write("held-out.jsonl", attune_builtin::held_out().iter().filter_map(accepted).collect::<String>());
}

/// A run of the built-in model on facts: what it prints, and the first and the last evaluation.
fn learn_facts(method: &str) -> (Value, Value, Value) {
    let home = Home::new();
    facts(&home);
    assert!(count_lines(&home.path("facts.jsonl")) > 60 && count_lines(&home.path("held-out.jsonl")) > 8);
    let run = home.json(&format!(
        "reinforce --model base.gguf --data facts.jsonl --eval-data held-out.jsonl --reward answer --reward length:max=1 --out run --threads 2 \
         --max-length 48 --max-completion-length 32 --batch-size 8 --gradient-accumulation 8 --eval-every 8 --samples 0 {method}"
    ));
    let evals: Vec<Value> = log(&home, "run").into_iter().filter(|line| line.get("eval_reward").is_some()).collect();
    let (before, after) = (evals[0].clone(), evals.last().unwrap().clone());
    println!(
        "{method}: held-out reward {} to {}, kl {}",
        number(&before, "eval_reward"),
        number(&after, "eval_reward"),
        number(&after, "eval_kl")
    );
    (run, before, after)
}

fn number(line: &Value, name: &str) -> f64 {
    line[name].as_f64().unwrap_or_else(|| panic!("{name} in {line}"))
}

#[test]
fn the_built_in_model_learns_from_rewards_to_answer_with_one_right_word_on_facts_that_were_held_out() {
    let (run, before, after) = learn_facts("--steps 24 --learning-rate 1e-3");
    assert_eq!(run["stopped"], Value::Null, "{run}");
    assert!(number(&before, "eval_reward") < 0.3, "{before}");
    assert!(number(&after, "eval_reward") > 1.5, "{after}");
    assert!(number(&after, "eval_rewards/answer/mean") > 0.6, "it is right as well as short: {after}");
    assert!(number(&after, "eval_kl") < 1.0, "within the bound: {after}");
}

#[test]
fn leave_one_out_raises_the_mean_reward_on_facts_that_were_held_out_too() {
    let (run, before, after) = learn_facts("--method rloo --num-generations 8 --steps 24 --learning-rate 1e-3");
    assert_eq!(run["stopped"], Value::Null, "{run}");
    assert!(number(&after, "eval_reward") > number(&before, "eval_reward") + 0.8, "{before} {after}");
    assert!(number(&after, "eval_kl") < 1.0, "within the bound: {after}");
}
