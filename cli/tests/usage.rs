//! Wrong usage and bad input: the exit status, and one sentence that says what is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Home;

#[test]
fn help_and_version_succeed_and_wrong_usage_is_status_2() {
    let home = Home::new();
    assert!(home.ok("--version").starts_with("attune "));
    for command in
        ["demo", "run", "tune", "eval", "logprobs", "plan", "inspect", "tokenize", "bench", "data check", "data render", "adapter import"]
    {
        let help = home.ok(&format!("{command} --help"));
        assert!(help.contains("Usage: attune"), "{command}: {help}");
    }
    home.fails(2, "", &["Usage"]);
    home.fails(2, "fly", &["unrecognized subcommand"]);
    home.fails(2, "run --model tiny.gguf --prompt hi --fast", &["--fast"]);
    home.fails(2, "eval --model tiny.gguf", &["--data"]);
    home.fails(2, "plan --model tiny.gguf --budget 300MB", &["KiB, MiB or GiB", "300MB"]);
    home.fails(2, "tune --model tiny.gguf --data chat.jsonl --out run --target-modules q_proj,w_proj", &["w_proj", "q_proj"]);
    home.fails(2, "run --model tiny.gguf --prompt hi --raw --system s", &["cannot be used with"]);
    home.fails(2, "tokenize --model tiny.gguf", &["--text"]);
}

#[test]
fn options_outside_their_range_are_wrong_usage() {
    let home = Home::new();
    let tune = "tune --model tiny.gguf --data chat.jsonl --out run";
    for (flag, value) in [
        ("--rank", "0"),
        ("--rank", "5000"),
        ("--alpha", "-1"),
        ("--alpha", "NaN"),
        ("--dropout", "1"),
        ("--learning-rate", "-0.1"),
        ("--beta1", "1"),
        ("--steps", "0"),
        ("--epochs", "0"),
        ("--batch-size", "0"),
        ("--gradient-accumulation", "0"),
        ("--max-length", "1"),
        ("--max-length", "100000"),
        ("--layers", "3"),
        ("--eval-split", "1"),
    ] {
        let args = format!("{tune} {flag}={value}");
        home.fails(2, &args, &["expected"]);
        assert!(!home.path("run/adapter.attune").exists(), "{args}");
    }
    // The flag, what it may be, and what was found; also where the value looks like a flag.
    for (args, says) in [
        ("--rank 0", ["--rank", "1 to 1024", "found 0"]),
        ("--learning-rate -1", ["--learning-rate", "0 to 10", "found -1"]),
        ("--dropout -0.5", ["--dropout", "0 to 0.99", "found -0.5"]),
        ("--rank -3", ["--rank", "'-3'", "invalid"]),
    ] {
        home.fails(2, &format!("{tune} {args}"), &says);
    }
    let prefer = "prefer --model tiny.gguf --data chat.jsonl --out run";
    home.fails(2, &format!("{prefer} --method foo"), &["--method", "plackett_luce", "found \"foo\""]);
    home.fails(2, &format!("{prefer} --loss-type foo"), &["--loss-type", "hinge", "found \"foo\""]);
    home.fails(2, "run --model tiny.gguf --prompt hi --temperature=-1", &["temperature"]);
    home.fails(2, "run --model tiny.gguf --prompt hi --top-p 0", &["top_p"]);
    home.fails(2, "run --model tiny.gguf --prompt hi --context 0", &["--context"]);
}

#[test]
fn files_that_are_missing_or_something_else_are_refused() {
    let home = Home::new();
    home.write("notes.txt", "nothing of the kind");
    home.write("empty.gguf", "");
    let model = home.read("tiny.gguf");
    for length in [3, 100, 1000, model.len() / 2, model.len() - 1] {
        home.write("cut.gguf", &model[..length]);
        home.fails(1, "inspect cut.gguf", &["cut.gguf"]);
        home.fails(1, "run --model cut.gguf --prompt hi", &["cut.gguf"]);
    }
    for command in ["plan --model", "run --prompt hi --model", "eval --data chat.jsonl --model", "tokenize --text a --model"] {
        home.fails(1, &format!("{command} nowhere.gguf"), &["nowhere.gguf"]);
        home.fails(1, &format!("{command} notes.txt"), &["notes.txt"]);
        home.fails(1, &format!("{command} empty.gguf"), &["empty.gguf"]);
        home.fails(1, &format!("{command} ."), &["folder"]);
    }
    home.fails(1, "inspect nowhere.gguf", &["nowhere.gguf"]);
    home.fails(1, "inspect notes.txt", &["notes.txt"]);
    home.fails(1, "adapter inspect tiny.gguf", &["tiny.gguf"]);
    home.fails(1, "run --model tiny.gguf --prompt hi --adapter notes.txt", &["notes.txt"]);
    home.fails(1, "run --model tiny.gguf --prompt hi --adapter nowhere", &["nowhere"]);
    home.fails(1, "tune --resume --out nowhere", &["nowhere"]);
}

#[test]
fn data_that_cannot_be_used_are_refused_and_bad_lines_are_named() {
    let home = Home::new();
    home.write("empty.jsonl", "");
    home.write("prose.jsonl", "Once upon a time\nthere was a line.\n");
    home.write("odd.jsonl", "{\"colour\": \"green\"}\n");
    home.write("pairs.jsonl", "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n");
    home.write("far.jsonl", "{\"input_ids\": [1, 99999], \"labels\": [1, 99999]}\n");
    home.write("uneven.jsonl", "{\"input_ids\": [1, 2, 3], \"labels\": [1, 2]}\n");
    home.write("mixed.jsonl", common::chat_lines(3, 3) + "{\"messages\": 7}\nnot json\n" + &common::chat_lines(2, 3));
    for data in ["empty", "prose", "odd", "pairs", "far", "uneven", "missing"] {
        let ran = home.fails(1, &format!("eval --model tiny.gguf --data {data}.jsonl"), &[data]);
        assert_eq!(ran.stdout, "");
        home.fails(1, &format!("tune --model tiny.gguf --data {data}.jsonl --out run-{data} --steps 1"), &[]);
        assert!(!home.path(&format!("run-{data}/adapter.attune")).exists());
    }
    let ran = home.run("eval --model tiny.gguf --data mixed.jsonl --json");
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("line 4") && ran.stderr.contains("line 5"), "{}", ran.stderr);
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(found["examples"], 5);
}

#[test]
fn a_model_without_a_tokenizer_serves_for_ids_and_says_so_for_text() {
    let home = Home::new();
    home.fails(1, "run --model bare.gguf --prompt hi", &["tokenizer"]);
    home.fails(1, "tokenize --model bare.gguf --text hi", &["tokenizer"]);
    home.fails(1, "eval --model bare.gguf --data chat.jsonl", &["tokenizer"]);
    assert_eq!(home.json("eval --model bare.gguf --data ids.jsonl")["target_tokens"], 4);
    assert!(
        home.json("run --model bare.gguf --prompt-ids 1,2,3 --max-tokens 2 --temperature 0")["token_ids"].as_array().unwrap().len() == 2
    );
    home.ok("tune --model bare.gguf --data ids.jsonl --out run --steps 2");
    home.fails(1, "run --model bare.gguf --prompt-ids 1,99999", &["99999"]);
}

#[test]
fn over_budget_says_how_many_bytes_would_do() {
    let home = Home::new();
    let ran = home.fails(1, "plan --model tiny.gguf --budget 10KiB --json", &["would do"]);
    let needs: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(common::keys(&needs), ["needs_bytes"]);
    let needs = needs["needs_bytes"].as_u64().unwrap();
    assert!(needs > 10 << 10);
    let plan = home.json(&format!("plan --model tiny.gguf --budget {needs}"));
    assert!(plan["total_bytes"].as_u64().unwrap() <= needs);
    home.fails(1, &format!("plan --model tiny.gguf --budget {}", needs - 1), &["would do"]);
    home.fails(1, "tune --model tiny.gguf --data chat.jsonl --out run --budget 10KiB", &["would do"]);
    home.fails(1, "run --model tiny.gguf --prompt hi --budget 1KiB", &["would do"]);
}

#[test]
fn results_go_to_standard_output_and_everything_else_does_not() {
    let home = Home::new();
    let ran = home.run("tune --model tiny.gguf --data chat.jsonl --out run --steps 3 --log-every 1 --json");
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    let ran = home.run("tune --model tiny.gguf --data chat.jsonl --out run2 --steps 3 --log-every 1");
    assert!(ran.stderr.contains("update 3/3"), "{}", ran.stderr);
    assert!(!ran.stdout.contains("update 3/3"));
    let ran = home.run("tune --model tiny.gguf --data chat.jsonl --out run3 --steps 3 --log-every 1 --quiet");
    assert_eq!(ran.stderr, "");
    assert!(!ran.stdout.contains('\u{1b}'), "no colours where there is no terminal");
}

#[test]
fn a_missing_file_and_one_of_another_kind_say_what_to_do() {
    let home = Home::new();
    home.fails(1, "tune --model none.gguf --data chat.jsonl --out run", &["none.gguf", "check its name"]);
    home.fails(1, "tune --model tiny.gguf --data none/none.jsonl --out run", &["none.jsonl", "folder is not there"]);
    home.fails(1, "run --model tiny.gguf --adapter none --prompt hi", &["none", "check its name"]);
    home.fails(1, "inspect none.gguf", &["none.gguf", "check its name"]);
    home.fails(1, "inspect chat.jsonl", &["a model (GGUF)", "a run folder", "a PEFT folder", "a GGUF LoRA", "attune data check"]);
    home.ok("feedback add my.feedback --prompt Hi --answer there");
    home.fails(1, "inspect my.feedback", &["a model (GGUF)", "attune feedback check"]);
}

#[test]
fn a_budget_that_is_too_small_is_said_once_and_before_anything_else() {
    let home = Home::new();
    let pairs = "{\"prompt\": \"Say \", \"chosen\": \"tea\", \"rejected\": \"the one\"}\n";
    home.write("pairs.jsonl", pairs);
    for (command, data) in [("tune", "chat.jsonl"), ("prefer", "pairs.jsonl")] {
        let ran = home.fails(1, &format!("{command} --model tiny.gguf --data {data} --out run --budget 20000"), &["would do"]);
        assert_eq!(ran.stderr.matches("would do").count(), 1, "{}", ran.stderr);
    }
    let ran = home.fails(1, "demo --budget 1MiB", &["would do"]);
    assert_eq!(ran.stdout, "", "nothing is asked before the budget is checked");
}

#[test]
fn helps_say_what_people_who_come_from_trl_look_for() {
    let home = Home::new();
    let help = |command: &str| home.ok(&format!("{command} --help")).split_whitespace().collect::<Vec<_>>().join(" ");
    let reinforce = help("reinforce");
    for says in ["model:RUN", "--clip-epsilon", "TRL's epsilon is --clip-epsilon here", "AdamW's epsilon (TRL's adam_epsilon)"] {
        assert!(reinforce.contains(says), "{says:?} in {reinforce}");
    }
    assert!(help("rank").contains("`/edit b` stores a better wording of b"));
    let prefer = help("prefer");
    for says in ["of cdpo 0.1", "the best answer as liked and the worst as disliked"] {
        assert!(prefer.contains(says), "{says:?} in {prefer}");
    }
}
