//! `attune rank`: orders from standard input, and what the store holds then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Home, Ran, ran};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

const RANK: &str = "rank --model tiny.gguf --store my.feedback --max-tokens 4 --seed 7";

fn stored(ran: &Ran) -> Vec<Value> {
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn entries(home: &Home) -> Vec<Value> {
    home.json_lines("feedback list my.feedback")
}

fn of_kind(entries: &[Value], event: &str) -> usize {
    entries.iter().filter(|entry| entry["event"] == event).count()
}

#[test]
fn an_order_is_stored_and_learnt_from() {
    let home = Home::new();
    let ran = home.fed(&format!("{RANK} --prompt Hello -n 4 --json"), "b a d c\n");
    let all = stored(&ran);
    assert_eq!(all.len(), 1);
    let one = &all[0];
    assert_eq!(one["order"], json!(["b", "a", "d", "c"]));
    let answers = one["answers"].as_array().unwrap();
    assert_eq!(answers.iter().map(|a| a["letter"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    let listed = entries(&home);
    let rank = listed.iter().find(|entry| entry["event"] == "rank").unwrap();
    let ids: Vec<&Value> = [1, 0, 3, 2].iter().map(|&i: &usize| &answers[i]["id"]).collect();
    assert_eq!(rank["of"].as_array().unwrap().iter().collect::<Vec<_>>(), ids, "best first");
    assert_eq!((&rank["id"], &rank["source"]), (&one["rank"], &json!("attune rank")));
    for answer in answers {
        assert!(ran.stderr.contains(answer["letter"].as_str().unwrap()), "beside JSON the answers are shown on standard error");
    }
    home.ok("prefer --method plackett_luce --model tiny.gguf --data my.feedback --out ranked --steps 2");
    home.ok("prefer --method dpo --model tiny.gguf --data my.feedback --out pairs --steps 2");
}

#[test]
fn the_same_seed_shows_the_same_answers_under_the_same_letters() {
    let home = Home::new();
    let show = |seed: usize| {
        let args = format!("rank --model tiny.gguf --store my.feedback --max-tokens 4 --prompt Hello --seed {seed}");
        let ran = home.fed(&args, "/quit\n");
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        ran.stdout
    };
    assert_eq!(show(3), show(3));
    assert_ne!(show(3), show(4));
    assert!(show(3).contains("best first, as b a c d"), "{}", show(3));
}

#[test]
fn what_is_no_order_is_asked_again() {
    let home = Home::new();
    let ran = home.fed(&format!("{RANK} --prompt Hello -n 3"), "x\na b d\na=b\na\n\n/sip\nc>a\n");
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    for said in ["found \"x\"", "found \"a b d\"", "a tie", "a alone", "found nothing", "/skip"] {
        assert!(ran.stdout.contains(said), "{said:?} in {}", ran.stdout);
    }
    assert_eq!(ran.stdout.matches("best first, as").count(), 7 + 3, "asked seven times; three refusals show an order too");
    let listed = entries(&home);
    assert_eq!((of_kind(&listed, "answer"), of_kind(&listed, "rank")), (3, 1), "all answers are kept, and those that were ordered");
    assert_eq!(listed.iter().find(|entry| entry["event"] == "rank").unwrap()["of"].as_array().unwrap().len(), 2);
}

#[test]
fn input_that_ends_with_a_mistake_is_a_failure_and_input_that_ends_is_none() {
    let home = Home::new();
    for (input, found) in [("x\n", "found \"x\""), ("a b\na b d\n", "found \"a b d\""), ("/sip", "/sip"), ("b\n", "b alone")] {
        let prompts = if input.starts_with("a b\n") { "--data chat.jsonl" } else { "--prompt Hello" };
        let ran = home.fed(&format!("{RANK} {prompts} -n 3"), input);
        assert_eq!(ran.status, Some(1), "{input:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("error: standard input ended") && ran.stderr.contains(found), "{input:?}: {}", ran.stderr);
    }
    assert_eq!(of_kind(&entries(&home), "rank"), 1, "what came before the mistake is stored");
    for input in ["", "x\n/skip\n", "x\n/quit\n", "x\na b\n"] {
        let ran = home.fed(&format!("{RANK} --prompt Hello -n 3"), input);
        assert_eq!(ran.status, Some(0), "{input:?}: {}", ran.stderr);
    }
}

#[test]
fn prompts_of_a_data_set_are_ranked_skipped_edited_and_left() {
    let home = Home::new();
    let ran = home.fed(&format!("{RANK} --data chat.jsonl -n 2 --json"), "a b\n/skip\n/edit b\none ring\n/skip\nb a\n/quit\n");
    let all = stored(&ran);
    assert_eq!(all.len(), 3, "a skipped prompt stores nothing");
    assert_eq!(all[0]["order"], json!(["a", "b"]));
    assert_eq!((&all[1]["rank"], &all[1]["edits"][0]["text"], &all[1]["edits"][0]["of"]), (&Value::Null, &json!("one ring"), &json!("b")));
    assert_eq!(all[2]["order"], json!(["b", "a"]));
    let listed = entries(&home);
    assert_eq!((of_kind(&listed, "prompt"), of_kind(&listed, "rank"), of_kind(&listed, "edit")), (3, 2, 1));
    assert!(ran.stderr.contains("2 rankings are stored") && ran.stderr.contains("8 left"), "{}", ran.stderr);
    let check = home.json("feedback check my.feedback");
    assert_eq!(check["damage"]["bytes"].as_u64().unwrap_or(0), 0, "{check}");
}

#[test]
fn the_end_of_input_ends_it() {
    let home = Home::new();
    let ran = home.fed(&format!("{RANK} --data chat.jsonl -n 2 --json"), "a b\n");
    assert_eq!(stored(&ran).len(), 1);
    let ran = home.fed(&format!("{RANK} --prompt Hello --json"), "");
    assert_eq!(stored(&ran).len(), 0);
}

#[test]
fn the_same_answers_are_shown_once_and_said() {
    let home = Home::new();
    // The likeliest token alone, so that every draw is the same.
    let ran = home.fed(&format!("{RANK} --prompt Hello --top-k 1"), "");
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("every draw gave the same answer") && ran.stderr.contains("--temperature"), "{}", ran.stderr);
    // Two tokens to choose from, and one token an answer: two answers at most.
    let ran = home.fed("rank --model tiny.gguf --store my.feedback --max-tokens 1 --prompt Hello --top-k 2 -n 4 --temperature 2", "b a\n");
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("2 different answers in 16 draws"), "{}", ran.stderr);
    assert_eq!(of_kind(&entries(&home), "answer"), 2);
}

#[test]
fn mistakes_are_named() {
    let home = Home::new();
    home.fails(2, &format!("{RANK} --prompt Hello --temperature 0"), &["--temperature", "differ"]);
    home.fails(2, &format!("{RANK} --prompt Hello -n 1"), &["2..=16"]);
    home.fails(2, RANK, &["--prompt"]);
    home.write("ids.jsonl", "{\"prompt_ids\": [1, 2]}\n");
    home.fails(1, &format!("{RANK} --data ids.jsonl"), &["ids.jsonl", "expected prompts as text"]);
    home.fails(1, "rank --model tiny.gguf --store chat.jsonl --prompt Hello", &["chat.jsonl", "feedback store"]);
    assert!(!home.path("none.feedback").exists());
}

#[test]
fn ctrl_c_leaves_what_was_stored() {
    let home = Home::new();
    let mut command = home.command(&format!("{RANK} --data chat.jsonl -n 2"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    input.write_all(b"a b\n").unwrap();
    let mut questions = 0;
    let mut line = String::new();
    while questions < 2 {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "it ended early");
        questions += usize::from(line.contains("best first"));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    drop(input);
    assert_eq!(ran(child).status, Some(130));
    let listed = entries(&home);
    assert_eq!((of_kind(&listed, "rank"), of_kind(&listed, "prompt")), (1, 1));
    home.ok("feedback add my.feedback --prompt Hi --answer there");
}
