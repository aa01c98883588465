//! `attune prefer`: the run folder, every kind of preference, and a run that is taken up again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Home, count_lines, has_keys, ran};
use serde_json::{Value, json};

fn log(home: &Home, run: &str) -> Vec<Value> {
    String::from_utf8(home.read(&format!("{run}/log.jsonl"))).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn pairs(count: usize) -> String {
    let line = |i: usize| {
        let chosen = if i.is_multiple_of(2) { "one" } else { "tea" };
        json!({ "prompt": format!("Say number {i}: "), "chosen": chosen, "rejected": "the one ring here the one" }).to_string()
    };
    (0..count).map(|i| line(i) + "\n").collect()
}

fn home() -> Home {
    let home = Home::new();
    home.write("pairs.jsonl", pairs(12));
    home.write(
        "ids.jsonl",
        "{\"prompt_ids\": [1, 2, 3], \"chosen_ids\": [4, 5], \"rejected_ids\": [6]}\n{\"prompt_ids\": [1, 2], \"chosen_ids\": [7], \"rejected_ids\": [8, 9]}\n",
    );
    home.write(
        "ratings.jsonl",
        "{\"prompt_ids\": [1, 2, 3], \"completion_ids\": [4, 5], \"label\": true}\n{\"prompt_ids\": [1, 2], \"completion_ids\": [8, 9], \"label\": false}\n",
    );
    home.write("rankings.jsonl", "{\"prompt_ids\": [1, 2, 3], \"completions_ids\": [[4, 5], [6], [7, 8]]}\n");
    home
}

#[test]
fn a_run_folder_holds_everything_of_the_run() {
    let home = home();
    let result = home.json(
        "prefer --method dpo --model tiny.gguf --data pairs.jsonl --out run --epochs 3 --batch-size 2 --gradient-accumulation 2 --learning-rate 1e-2 \
         --rank 4 --eval-split 0.25 --guard-data chat.jsonl --guard-tolerance 9 --save-every 2 --beta 0.2 --max-length 96",
    );
    has_keys(&result, &["step", "loss", "rewards/accuracies", "eval_rewards/accuracies", "eval_guard_loss", "adapter", "report", "log"]);
    has_keys(&result, &["before", "kept", "guard", "versions"]);
    has_keys(&result["guard"], &["before", "kept", "last", "tolerance", "worse", "refused"]);
    assert_eq!((&result["before"]["step"], &result["guard"]["before"]), (&json!(0), &result["before"]["eval_guard_loss"]));
    assert_eq!(result["guard"]["refused"], json!(false), "the tolerance is wide");
    assert_eq!(result["kept"]["step"], result["best"]["step"]);
    for file in ["config.json", "log.jsonl", "adapter.attune", "report.html", "checkpoint"] {
        assert!(home.path("run").join(file).exists(), "{file}");
    }
    assert!(!home.path("run").join("reference.cache").exists(), "a finished run needs it no more");
    let config: Value = serde_json::from_slice(&home.read("run/config.json")).unwrap();
    assert_eq!((&config["preference"]["method"], &config["preference"]["beta"]), (&json!("dpo"), &json!(0.2)));
    let lines = log(&home, "run");
    let steps: Vec<&Value> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
    let expected = ["step", "loss", "grad_norm", "learning_rate", "target_tokens", "tokens_per_second", "seconds"];
    let rewards = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"];
    steps.iter().for_each(|line| has_keys(line, &[expected.as_slice(), &rewards].concat()));
    assert!(steps.last().unwrap()["loss"].as_f64() < steps[0]["loss"].as_f64());
    let evals: Vec<&Value> = lines.iter().filter(|line| line.get("eval_loss").is_some()).collect();
    evals.iter().for_each(|line| has_keys(line, &["eval_loss", "eval_rewards/accuracies", "eval_rewards/margins", "eval_guard_loss"]));
    assert!(evals.last().unwrap()["eval_loss"].as_f64() < evals[0]["eval_loss"].as_f64());
    home.ok("run --model tiny.gguf --adapter run --prompt Hi --max-tokens 3");
}

#[test]
fn every_kind_of_preference_is_taken_as_ids_without_a_tokenizer() {
    let home = home();
    for (method, data) in
        [("dpo", "ids"), ("orpo", "ids"), ("simpo", "ids"), ("cpo", "ids"), ("kto", "ratings"), ("plackett_luce", "rankings")]
    {
        let flags = "--steps 6 --batch-size 2 --gradient-accumulation 1 --learning-rate 1e-2 --no-shuffle";
        home.ok(&format!("prefer --method {method} --model bare.gguf --data {data}.jsonl --out {method} {flags}"));
        let lines = log(&home, method);
        assert!(lines[5]["loss"].as_f64() < lines[0]["loss"].as_f64(), "{method}: {} {}", lines[0], lines[5]);
        assert_eq!(lines[0].get("kl").is_some(), method == "kto");
    }
}

#[test]
fn mistakes_are_named() {
    let home = home();
    let prefer = "prefer --model tiny.gguf --out run";
    home.fails(2, &format!("{prefer} --data pairs.jsonl --method ppo"), &["ppo", "dpo"]);
    home.fails(2, &format!("{prefer} --data pairs.jsonl --method dpo --simpo-gamma 1"), &["--simpo-gamma", "simpo"]);
    home.fails(2, &format!("{prefer} --data pairs.jsonl --beta 0"), &["beta"]);
    home.fails(2, &format!("{prefer} --data pairs.jsonl --max-kl 1"), &["--max-kl", "--eval-split"]);
    let nothing = "--method kto --desirable-weight 0 --undesirable-weight 0";
    home.fails(2, &format!("{prefer} --data ratings.jsonl {nothing}"), &["desirable_weight", "nothing is learnt"]);
    home.fails(1, &format!("{prefer} --data ratings.jsonl --method dpo"), &["--data", "pairs"]);
    home.fails(1, &format!("{prefer} --data chat.jsonl"), &["--data", "pairs"]);
    let ran = home.fails(1, &format!("{prefer} --force --data pairs.jsonl --budget 1000 --json"), &["would do"]);
    let needs: Value = serde_json::from_str(&ran.stdout).unwrap();
    let fits = home.json(&format!("{prefer} --force --data pairs.jsonl --steps 1 --budget {}", needs["needs_bytes"]));
    assert!(fits["planned_bytes"].as_u64() <= needs["needs_bytes"].as_u64());
    home.fails(2, "tune --resume --out run", &["attune prefer --resume"]);
    home.ok("tune --model tiny.gguf --data chat.jsonl --out tuned --steps 1");
    home.fails(2, "prefer --resume --out tuned", &["attune tune --resume"]);
}

#[test]
fn a_feedback_store_is_learnt_from_as_it_is() {
    let home = home();
    for (answer, edit) in [("the ring", "tea"), ("here the", "one")] {
        home.ok(&format!("feedback add my.feedback --prompt Say --answer {} --edit {edit}", answer.replace(' ', "_")));
    }
    home.ok("prefer --model tiny.gguf --data my.feedback --out pairs --steps 2 --learning-rate 1e-2");
    assert!(log(&home, "pairs")[1]["loss"].as_f64() < log(&home, "pairs")[0]["loss"].as_f64());
    home.ok("prefer --method kto --model tiny.gguf --data my.feedback --out ratings --steps 2");
    home.ok("tune --model tiny.gguf --data my.feedback --out liked --steps 2");
    home.fails(1, "prefer --method kto --model tiny.gguf --data chat.jsonl --out none", &["ratings"]);
}

#[test]
fn tuning_on_in_place_keeps_every_adapter_and_goes_back_to_any() {
    let home = home();
    let prefer = "prefer --model tiny.gguf --data pairs.jsonl --out run --steps 1 --learning-rate 1e-2";
    home.ok(prefer);
    let first = home.read("run/adapter.attune");
    home.ok(&format!("{prefer} --init-adapter run --force"));
    let second = home.read("run/adapter.attune");
    assert_ne!(first, second);
    assert_eq!(home.json("adapter rollback run --list")["versions"], json!([1]));
    assert_eq!(home.json("adapter rollback run"), json!({ "restored": 1, "kept_as": 2 }));
    assert_eq!(home.read("run/adapter.attune"), first);
    home.ok("adapter rollback run --to 2");
    assert_eq!(home.read("run/adapter.attune"), second);
    home.fails(1, "adapter rollback run --to 77", &["1, 2, 3", "77"]);
    for torn in [&b""[..], b"junk", &first[..first.len() / 2]] {
        home.write("run/versions/adapter.3.attune", torn);
        home.fails(1, "adapter rollback run", &["version 3", "1, 2", "stays as it was"]);
        assert_eq!(home.read("run/adapter.attune"), second, "nothing replaces an adapter that has not been read");
        let listed = home.json("adapter rollback run --list");
        assert_eq!((&listed["versions"], &listed["unusable"][0]["version"]), (&json!([1, 2, 3]), &json!(3)));
        assert!(home.ok("adapter rollback run --list").contains("cannot come back"));
    }
    home.ok("tune --model tiny.gguf --data chat.jsonl --out tuned --steps 1 --init-adapter run");
    assert_eq!(home.json("adapter rollback tuned --list")["versions"], json!([1]), "what tuning started from");
}

#[test]
fn threads_do_not_change_the_adapter() {
    let home = home();
    let run = |threads: usize| {
        home.ok(&format!("prefer --model tiny.gguf --data pairs.jsonl --out run{threads} --steps 3 --dropout 0.1 --threads {threads}"));
        home.read(&format!("run{threads}/adapter.attune"))
    };
    assert_eq!(run(1), run(3));
}

#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let home = home();
    home.write("pairs.jsonl", pairs(40));
    let run = "prefer --model tiny.gguf --data pairs.jsonl --steps 30 --gradient-accumulation 2 --batch-size 2 --dropout 0.1 --learning-rate 1e-3 \
               --samples 0 --save-every 3 --eval-split 0.2 --eval-every 5";
    home.ok(&format!("{run} --out whole"));
    let mut child = home.start_until(&format!("{run} --out run"), "run/log.jsonl", 9);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(home.path("run/reference.cache").exists());
    let done = count_lines(&home.path("run/log.jsonl"));
    let said = home
        .fails(2, "prefer --resume --out run --beta 0.7 --learning-rate 5e-5", &["--beta its default, found 0.7", "--init-adapter"])
        .stderr;
    assert!(said.contains("--learning-rate 0.001, found 0.00005"), "both options, as they are given: {said}");
    assert!(!said.contains('{') && !said.contains("--method") && !said.contains("--epochs"), "and no other: {said}");
    let mut child = home.start_until(&format!("{run} --out run --resume"), "run/log.jsonl", done + 3);
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap();
    assert!(ran(child).stderr.contains("attune prefer --resume"));
    home.ok("prefer --resume --out run");
    assert_eq!(home.read("run/adapter.attune"), home.read("whole/adapter.attune"));
    let (run, whole) = (log(&home, "run"), log(&home, "whole"));
    let comparable = |lines: &[Value]| -> Vec<Value> {
        lines.iter().map(|line| json!([line["step"], line["loss"], line["eval_loss"], line["rewards/margins"]])).collect()
    };
    assert_eq!(comparable(&run), comparable(&whole));
}

#[test]
fn the_end_says_what_was_learnt_what_was_unlearnt_and_how_to_go_back() {
    let home = home();
    home.ok("tune --model tiny.gguf --data chat.jsonl --out tuned --steps 12 --learning-rate 2e-2");
    let prefer = "prefer --model tiny.gguf --data pairs.jsonl --out run --epochs 3 --batch-size 2 --gradient-accumulation 1 --eval-split 0.25 \
                  --learning-rate 3e-2 --init-adapter tuned --guard-data chat.jsonl --force";
    // Within a wide tolerance the adapter is kept, and a person is told what it costs.
    let ran = home.run(&format!("{prefer} --guard-tolerance 1000"));
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    for said in ["preferred", "even before", "margin", "guarding loss", "kept as version 1", "attune adapter rollback run"] {
        assert!(ran.stdout.contains(said), "{said:?} in {}", ran.stdout);
    }
    assert!(ran.stderr.contains("what the model could do got worse"), "{}", ran.stderr);
    // Within none, what tuning started from stays.
    let ran = home.run(&format!("{prefer} --guard-tolerance 0"));
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("no adapter was kept") && ran.stderr.contains("--guard-tolerance"), "{}", ran.stderr);
    assert!(ran.stdout.contains("which is not kept") && !ran.stdout.contains("no update made it better"), "{}", ran.stdout);
    assert!(ran.stdout.contains("before tuning: what was better was refused for the guarding loss"), "{}", ran.stdout);
    assert!(ran.stderr.contains("after update 0: held-out loss") && ran.stderr.contains("no answer is ahead"), "{}", ran.stderr);
    let result = home.json(&format!("{prefer} --guard-tolerance 0"));
    assert_eq!((&result["kept"]["step"], &result["guard"]["refused"], &result["guard"]["worse"]), (&json!(0), &json!(true), &json!(false)));
    // Where nothing is held out, a person is told what is not known.
    let out = home.ok("prefer --model tiny.gguf --data pairs.jsonl --out blind --steps 1");
    assert!(out.contains("--eval-split") && out.contains("--guard-data"), "{out}");
}

#[test]
fn a_run_that_moves_too_far_from_its_reference_stops_keeps_the_best_within_and_says_so() {
    let home = home();
    let prefer = "prefer --model tiny.gguf --data pairs.jsonl --epochs 3 --batch-size 2 --gradient-accumulation 1 --eval-split 0.25 --eval-every 1 \
                  --learning-rate 3e-2 --samples 0";
    home.ok(&format!("{prefer} --out free"));
    let kl: Vec<f64> = log(&home, "free").iter().filter_map(|line| line["eval_kl"].as_f64()).collect();
    assert!(kl.len() > 4 && kl[0] == 0.0, "{kl:?}");
    let report = String::from_utf8(home.read("free/report.html")).unwrap();
    assert!(report.contains("Divergence from the reference"), "the report draws it");
    let bound = kl.iter().copied().fold(0.0, f64::max) / 2.0;
    let broken = kl.iter().position(|&kl| kl > bound).unwrap();
    let stopped = home.json(&format!("{prefer} --max-kl {bound} --out run"));
    let why = stopped["stopped"].as_str().unwrap();
    assert!(why.contains(&format!("after update {broken} the divergence")) && why.contains("kept: the adapter "), "{why}");
    assert!(stopped["kept_step"].as_u64() < Some(broken as u64) && stopped["kept"]["eval_kl"].as_f64() <= Some(bound), "{stopped}");
    assert_eq!(log(&home, "run").last().unwrap()["stopped"], stopped["stopped"]);
    home.fails(1, "prefer --resume --out run", &["ended at a bound", "raise --max-kl", "--init-adapter run"]);
}
