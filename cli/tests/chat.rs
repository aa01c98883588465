//! The chat over standard input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Home;
use serde_json::Value;

const CHAT: &str = "run --model tiny.gguf --temperature 0 --max-tokens 4";

fn answers(home: &Home, args: &str, input: &str) -> Vec<Value> {
    let ran = home.fed(&format!("{args} --json"), input);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_line_is_a_turn_and_earlier_turns_are_remembered() {
    let home = Home::new();
    let turns = answers(&home, CHAT, "Hello\nHello\n/reset\nHello\n");
    assert_eq!(turns.len(), 3);
    assert!(turns[1]["prompt_tokens"].as_u64() > turns[0]["prompt_tokens"].as_u64());
    assert_eq!(turns[0], turns[2], "a new conversation");
    let alone: Value = home.json(&format!("{CHAT} --prompt Hello"));
    assert_eq!(alone, turns[0]);
}

#[test]
fn exit_and_the_end_of_input_end_the_chat() {
    let home = Home::new();
    assert_eq!(answers(&home, CHAT, "a\n/exit\nb\n").len(), 1);
    assert_eq!(answers(&home, CHAT, "a\n\n\nb").len(), 2, "empty lines are no turns; the last needs no end of line");
    assert_eq!(answers(&home, CHAT, "").len(), 0);
    let ran = home.fed(CHAT, "a\n");
    assert_eq!(
        ran.stdout.trim_end_matches('\n'),
        answers(&home, CHAT, "a\n")[0]["text"].as_str().unwrap().trim_end_matches('\n'),
        "no prompt sign where nobody sits"
    );
}

#[test]
fn a_full_context_forgets_the_oldest_turns() {
    let home = Home::new();
    let input = "Tell me about the one ring here.\n".repeat(8);
    let turns = answers(&home, &format!("{CHAT} --context 160"), &input);
    assert_eq!(turns.len(), 8);
    assert!(turns.iter().all(|turn| turn["prompt_tokens"].as_u64().unwrap() < 160));
    let long = "long ".repeat(200) + "\n";
    let ran = home.fed(&format!("{CHAT} --context 160"), &long);
    assert_ne!(ran.status, Some(0));
    assert!(ran.stderr.contains("160"), "{}", ran.stderr);
}

#[test]
fn raw_lines_are_texts_of_their_own() {
    let home = Home::new();
    let turns = answers(&home, &format!("{CHAT} --raw"), "the\nthe\n");
    assert_eq!(turns[0], turns[1]);
    assert_eq!(turns[0]["prompt_tokens"], 2);
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    let home = Home::new();
    let mut command = home.command(CHAT);
    command.stdin(std::process::Stdio::from(
        std::fs::File::open({
            home.write("bytes", [0xFF, 0xFE, b'\n']);
            home.path("bytes")
        })
        .unwrap(),
    ));
    let ran = common::finish(command);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("UTF-8"), "{}", ran.stderr);
}
