//! The edges of `attune prefer`: data that say nothing, too little, one thing alone or the opposite of themselves. Each is learnt as far as it can
//! be, or refused with a sentence that says what is wrong; none leaves a folder in the way of the next run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Home;
use serde_json::{Value, json};

const FLAGS: &str = "--steps 8 --batch-size 2 --gradient-accumulation 1 --learning-rate 1e-2 --rank 4 --no-shuffle --samples 0";

/// Every method that pairs serve.
const PAIRED: [&str; 8] = ["dpo", "ipo", "apo_zero", "hinge", "cpo", "simpo", "orpo", "plackett_luce"];

fn pair(prompt: &str, chosen: &str, rejected: &str) -> Value {
    json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
}

fn rating(prompt: &str, completion: &str, label: bool) -> Value {
    json!({ "prompt": prompt, "completion": completion, "label": label })
}

fn home(lines: &[Value]) -> Home {
    let home = Home::new();
    home.write("data.jsonl", lines.iter().map(|line| line.to_string() + "\n").collect::<String>());
    home
}

/// Runs it and returns the updates of its log.
fn learns(home: &Home, method: &str) -> Vec<Value> {
    home.ok(&format!("prefer --method {method} --model tiny.gguf --data data.jsonl --out {method} {FLAGS}"));
    let log = String::from_utf8(home.read(&format!("{method}/log.jsonl"))).unwrap();
    let steps: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(steps.iter().all(|step| step["loss"].as_f64().is_some_and(f64::is_finite)), "{method}: {log}");
    home.ok(&format!("run --model tiny.gguf --adapter {method} --prompt Hi --max-tokens 2"));
    steps
}

fn falls(method: &str, steps: &[Value]) {
    let loss = |step: &Value| step["loss"].as_f64().unwrap();
    assert!(loss(&steps[steps.len() - 1]) < loss(&steps[0]), "{method}: {} then {}", steps[0], steps[steps.len() - 1]);
}

fn refuses(home: &Home, method: &str, says: &[&str]) {
    home.fails(1, &format!("prefer --method {method} --model tiny.gguf --data data.jsonl --out {method} {FLAGS}"), says);
    assert!(!home.path(method).exists(), "{method}: a refused run leaves no folder");
}

#[test]
fn chosen_that_is_rejected_is_refused_alone_and_left_out_among_others() {
    let same = pair("one ", "tea", "tea");
    for method in PAIRED {
        refuses(&home(std::slice::from_ref(&same)), method, &["line 1", "neither is better"]);
    }
    let home = home(&[pair("one ", "two", "three"), same]);
    let ran = home.run(&format!("prefer --model tiny.gguf --data data.jsonl --out run {FLAGS}"));
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("line 2 is left out") && ran.stderr.contains("neither is better"), "{}", ran.stderr);
}

#[test]
fn an_answer_that_stands_twice_in_a_ranking_is_refused_by_every_method_and_by_reward_models() {
    let home = home(&[json!({ "prompt": "one ", "completions": ["tea", "two", "tea"] })]);
    for method in ["dpo", "plackett_luce", "kto"] {
        refuses(&home, method, &["line 1", "two answers are the same", "neither is better"]);
    }
    let train = "reward train --model tiny.gguf --data data.jsonl --out run --steps 1";
    home.fails(1, train, &["line 1", "two answers are the same", "neither is better"]);
    home.write("data.jsonl", pair("one ", "tea", "tea").to_string());
    home.fails(1, train, &["line 1", "two answers are the same", "neither is better"]);
    assert!(!home.path("run").exists(), "a refused run leaves no folder");
}

#[test]
fn an_empty_answer_is_the_end_of_the_text_and_can_be_learnt() {
    for (chosen, rejected) in [("", "too much"), ("enough", "")] {
        let home = home(&[pair("one ", chosen, rejected)]);
        PAIRED.iter().for_each(|method| falls(method, &learns(&home, method)));
    }
    let home = home(&[rating("one ", "", true), rating("one ", "too much", false)]);
    falls("kto", &learns(&home, "kto"));
    home.write("data.jsonl", "{\"prompt_ids\": [1, 2], \"chosen_ids\": [], \"rejected_ids\": [3]}\n");
    refuses(&home, "dpo", &["no token to learn"]);
}

#[test]
fn likes_alone_are_learnt_and_dislikes_alone_are_unlearnt() {
    for (label, reward, sign) in [(true, "rewards/chosen", 1.0), (false, "rewards/rejected", -1.0)] {
        let home = home(&[rating("one ", "two", label), rating("red ", "blue", label), rating("hot ", "cold", label)]);
        for method in ["kto", "apo_zero_unpaired"] {
            let steps = learns(&home, method);
            let last = steps[steps.len() - 1][reward].as_f64().unwrap();
            // KTO holds likes against what other answers gain, so that likes alone may cancel out; they never go down.
            assert!(last * sign > if method == "kto" { -0.05 } else { 0.001 }, "{method}, {label}: {last}");
        }
    }
}

#[test]
fn a_ranking_of_one_is_refused_and_left_out_among_others() {
    let one = json!({ "prompt": "one ", "completions": ["two"] });
    for method in ["plackett_luce", "dpo"] {
        refuses(&home(std::slice::from_ref(&one)), method, &["line 1", "at least two completions"]);
    }
    let home = home(&[json!({ "prompt": "one ", "completions": ["two", "three", "four"] }), one]);
    falls("plackett_luce", &learns(&home, "plackett_luce"));
    falls("dpo", &learns(&home, "dpo"));
}

#[test]
fn contradictory_pairs_are_said_and_weigh_each_other_out() {
    let home = home(&[pair("one ", "two", "three"), pair("one ", "three", "two")]);
    let ran = home.run(&format!("prefer --model tiny.gguf --data data.jsonl --out run {FLAGS}"));
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 examples say the opposite of others"), "{}", ran.stderr);
    for method in PAIRED {
        let steps = learns(&home, method);
        let margin = steps.last().unwrap()["rewards/margins"].as_f64().unwrap();
        // As many want one answer ahead as the other: on average none is.
        assert!(margin.abs() < 1e-3, "{method}: {margin}");
    }
}

#[test]
fn one_pair_alone_is_learnt_by_every_method() {
    let home = home(&[pair("one ", "two", "three")]);
    PAIRED.iter().for_each(|method| falls(method, &learns(&home, method)));
    falls("kto", &learns(&home, "kto"));
}

#[test]
fn one_rating_alone_needs_a_method_that_weighs_it_against_no_other() {
    let home = home(&[rating("one ", "two", true)]);
    refuses(&home, "kto", &["one alone", "apo_zero_unpaired"]);
    falls("apo_zero_unpaired", &learns(&home, "apo_zero_unpaired"));
}

#[test]
fn a_store_of_feedback_with_the_same_edges_ends_in_a_sentence() {
    let home = Home::new();
    home.ok("feedback add my.feedback --prompt Say --answer tea --edit tea");
    home.fails(1, "prefer --model tiny.gguf --data my.feedback --out run", &["my.feedback", "attune feedback check"]);
    home.ok("feedback add my.feedback --prompt Say --answer tea --answer one --ranked");
    home.ok("feedback add my.feedback --prompt Say --answer one --answer tea --ranked");
    let ran = home.run("prefer --model tiny.gguf --data my.feedback --out run --steps 2");
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 contradictions"), "{}", ran.stderr);
}

#[test]
fn data_of_another_kind_name_the_command_that_learns_from_them() {
    let home = home(&[pair("one ", "two", "three")]);
    let ran = home.fails(1, "tune --model tiny.gguf --data data.jsonl --out run", &["pairs", "attune prefer"]);
    assert!(!ran.stderr.contains("left out"), "once, and not for each line: {}", ran.stderr);
    home.fails(1, "prefer --model tiny.gguf --data chat.jsonl --out run", &["supervised examples", "attune tune"]);
}

#[test]
fn a_share_of_one_example_cannot_be_held_out_and_of_two_one_is() {
    let home = home(&[pair("one ", "two", "three")]);
    for command in ["prefer", "reward train"] {
        let args = format!("{command} --model tiny.gguf --data data.jsonl --out run --steps 1 --eval-split 0.5");
        home.fails(2, &args, &["--eval-split", "two examples or more", "found 1 in", "data.jsonl"]);
        assert!(!home.path("run").exists(), "a refused run leaves no folder");
    }
    home.write("data.jsonl", format!("{}\n{}\n", pair("one ", "two", "three"), pair("red ", "blue", "green")));
    for (i, share) in [0.001, 0.5, 0.999].iter().enumerate() {
        let said = home.json(&format!("prefer --model tiny.gguf --data data.jsonl --out run{i} --steps 1 --eval-split {share}"));
        assert!(said["eval_loss"].as_f64().is_some_and(f64::is_finite), "{share}: {said}");
    }
}

#[test]
fn a_guard_alone_is_called_what_it_is() {
    let home = home(&[pair("one ", "two", "three"), pair("red ", "blue", "green")]);
    let args = "prefer --model tiny.gguf --data data.jsonl --guard-data chat.jsonl --steps 4 --log-every 1";
    let ran = home.run(&format!("{args} --out run"));
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("after update 0: guarding loss") && said.contains("no preferences were: --eval-split"), "{said}");
    for wrong in ["held-out loss", "-0.0000", "NaN", "held-out -", "token accuracy"] {
        assert!(!said.contains(wrong), "{wrong:?} in {said}");
    }
    let said = home.json(&format!("{args} --out again"));
    assert!(said.get("best").is_none() && said.get("eval_loss").is_none() && said["guard"]["before"].as_f64() > Some(0.0), "{said}");
    let log = String::from_utf8(home.read("again/log.jsonl")).unwrap();
    assert!(log.contains("eval_guard_loss") && !log.contains("eval_loss"), "{log}");
    let page = String::from_utf8(home.read("again/report.html")).unwrap();
    assert!(page.contains("Guarding loss") && !page.contains("Held-out loss"));
}

#[test]
fn data_that_cannot_be_used_are_blamed_by_their_own_flag() {
    let home = home(&[pair("one ", "two", "three"), pair("red ", "blue", "green")]);
    let prefer = "prefer --model tiny.gguf --data data.jsonl --out run --steps 1";
    for (flag, found) in [("--guard-data data.jsonl", "pairs"), ("--eval-data chat.jsonl", "supervised")] {
        let name = flag.split(' ').next().unwrap();
        let ran = home.fails(1, &format!("{prefer} {flag}"), &[&format!("error: {name}:"), found]);
        assert!(!ran.stderr.contains("error: --data"), "{}", ran.stderr);
    }
}

#[test]
fn a_side_that_is_no_text_is_named_with_its_kind() {
    for (line, says) in [
        (json!({ "prompt": "one ", "chosen": null, "rejected": 3 }), ["`chosen`", "found null"]),
        (json!({ "prompt": "one ", "chosen": "two", "rejected": 3 }), ["`rejected`", "found the number 3"]),
        (json!({ "prompt": "one ", "chosen": "two", "rejected": null }), ["`rejected`", "found null"]),
        (json!({ "prompt_ids": [1], "chosen_ids": [2], "rejected_ids": null }), ["`rejected_ids`", "found null"]),
    ] {
        let home = home(&[line]);
        for command in ["prefer", "reward train"] {
            let args = format!("{command} --model tiny.gguf --data data.jsonl --out run --steps 1");
            let ran = home.fails(1, &args, &["line 1", says[0], says[1]]);
            assert!(!ran.stderr.contains("without answers"), "{}", ran.stderr);
        }
    }
}

#[test]
fn rankings_serve_methods_of_ratings_by_their_best_and_their_worst() {
    let rankings = home(&[
        json!({ "prompt": "one ", "completions": ["two", "three", "four"] }),
        json!({ "prompt": "red ", "completions": ["blue", "green"] }),
    ]);
    let ratings =
        home(&[rating("one ", "two", true), rating("one ", "four", false), rating("red ", "blue", true), rating("red ", "green", false)]);
    for method in ["kto", "apo_zero_unpaired"] {
        learns(&rankings, method);
        learns(&ratings, method);
        let adapter = format!("{method}/adapter.attune");
        assert_eq!(rankings.read(&adapter), ratings.read(&adapter), "{method}: the same ratings, the same adapter");
    }
}
