//! `attune feedback`: from thumbs to files that the data commands read, and gone again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Home, Ran, finish, has_keys, keys, ran};
use serde_json::{Value, json};
use std::process::Stdio;

/// The command with arguments that may hold spaces.
fn run(home: &Home, args: &[&str]) -> Ran {
    let mut command = home.command("feedback");
    command.args(args);
    finish(command)
}

fn add(home: &Home, args: &[&str]) -> Value {
    let ran = run(home, &[&["add", "store", "--json"], args].concat());
    assert_eq!(ran.status, Some(0), "{args:?}: {}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// A store with an edit, thumbs, a ranking, a regenerate and a contradiction.
fn filled() -> Home {
    let home = Home::new();
    let added = add(&home, &["--prompt", "Say hello.", "--answer", "Greetings.", "--edit", "Hello!", "--conversation", "c1"]);
    assert_eq!(keys(&added), ["prompt", "answers", "verdicts", "bytes"]);
    assert_eq!((&added["prompt"], &added["answers"], &added["verdicts"]), (&json!(1), &json!([2]), &json!([3])));
    add(&home, &["--prompt", "Tea?", "--system", "Be kind.", "--answer", "Yes, please.", "--thumb", "up", "--time", "5000"]);
    add(&home, &["--prompt-id", "4", "--answer", "No."]);
    add(&home, &["--answer-id", "7", "--thumb", "down", "--time", "6000"]);
    add(&home, &["--prompt", "Name a colour.", "-a", "red", "-a", "blue", "-a", "mauve", "--ranked"]);
    add(&home, &["--rank", "11,10"]);
    add(&home, &["--prompt", "Once", "--raw", "--answer", " more", "--regenerated", " upon", "--keep"]);
    home
}

#[test]
fn what_was_added_is_listed_checked_and_exported() {
    let home = filled();
    let entries = home.json_lines("feedback list store");
    assert_eq!(entries.len(), 18);
    assert_eq!((&entries[0]["event"], &entries[0]["conversation"]), (&json!("prompt"), &json!("c1")));
    assert_eq!(entries[5], json!({"id": 6, "time": 5000, "event": "thumb", "of": 5, "thumb": "up"}));
    assert_eq!(home.json_lines("feedback list store --event rank").len(), 2);
    assert_eq!(home.json_lines("feedback list store --limit 2").len(), 2);
    assert_eq!(home.json_lines("feedback list store --conversation c1").len(), 3);
    let table = home.ok("feedback list store");
    assert!(table.contains("Yes, please.") && table.contains("1970-01-01 00:00:05"), "{table}");

    let checked = home.json("feedback check store");
    has_keys(&checked, &["bytes", "preferences", "ratings", "rankings", "counts", "duplicates", "contradictions", "damage"]);
    assert_eq!((&checked["preferences"], &checked["ratings"], &checked["rankings"]), (&json!(4), &json!(4), &json!(4)));
    assert_eq!((&checked["contradiction_count"], &checked["contradictions"][0]["kind"]), (&json!(1), &json!("reversed")));
    let text = home.ok("feedback check store");
    assert!(text.contains("4 preferences") && text.contains("reversed"), "{text}");
    assert_eq!(home.json("feedback check store --winner earliest")["preferences"], 6);

    for (format, data, records) in
        [("preferences", "preference", 4), ("ratings", "rating", 4), ("rankings", "ranking", 4), ("supervised", "prompt-completion", 2)]
    {
        let written = home.json(&format!("feedback export store --format {format} --out out.jsonl --force"));
        assert_eq!((&written["records"], &written["path"]), (&json!(records), &json!("out.jsonl")), "{format}");
        assert_eq!(written["report"]["contradiction_count"], 1);
        let checked = home.json("data check out.jsonl");
        assert_eq!(checked["format"], data);
    }
    let written = home.ok("feedback export store --format preferences --adjacent --no-thumb-pairs --no-regenerations --out few.jsonl");
    assert!(written.contains("few.jsonl (2 lines)"), "{written}");
}

#[test]
fn a_raw_export_is_imported_once() {
    let home = filled();
    home.ok("feedback export store --format raw --out raw.jsonl");
    assert_eq!(home.json("feedback import copy raw.jsonl"), json!({"added": 18, "known": 0, "bad": 0}));
    assert_eq!(home.json("feedback import copy raw.jsonl"), json!({"added": 0, "known": 18, "bad": 0}));
    assert_eq!(home.ok("feedback list copy --json"), home.ok("feedback list store --json"));
    let fed = home.fed("feedback import third -", &String::from_utf8(home.read("raw.jsonl")).unwrap());
    assert!(fed.status == Some(0) && fed.stdout.contains("18 entries added"), "{fed:?}");
    home.write("bad.jsonl", "{\"id\": 1}\n");
    home.fails(1, "feedback import fourth bad.jsonl", &["line 1", "none of its 1 lines"]);
}

#[test]
fn an_export_overwrites_nothing_unless_it_is_told_to() {
    let home = filled();
    home.write("out.jsonl", "precious");
    for format in ["preferences", "raw"] {
        home.fails(1, &format!("feedback export store --format {format} --out out.jsonl"), &["out.jsonl", "there already", "--force"]);
        assert_eq!(home.read("out.jsonl"), b"precious");
    }
    home.ok("feedback export store --format raw --out out.jsonl --force");
    assert_eq!(home.json("feedback import copy out.jsonl")["added"], 18);
}

#[test]
fn a_ranking_takes_no_answer_twice_and_what_came_twice_is_imported_twice() {
    let home = Home::new();
    let refused = run(&home, &["add", "store", "--prompt", "x", "-a", "tea", "-a", "two", "-a", "tea", "--ranked"]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("each answer once") && refused.stderr.contains("\"tea\" twice"), "{}", refused.stderr);
    assert!(!home.path("store").exists());
    add(&home, &["--prompt", "x", "-a", "tea", "-a", "two", "-a", "tea", "--time", "7"]);
    home.fails(2, "feedback add store --rank 2,3,4", &["each answer once", "\"tea\" twice"]);
    home.fails(2, "feedback add store --rank 2,3,2", &["each answer once", "2\" twice"]);
    add(&home, &["--rank", "3,2"]);
    add(&home, &["--answer-id", "4", "--thumb", "up"]);
    home.ok("feedback export store --format raw --out raw.jsonl");
    for added in [6, 0] {
        let said = home.json("feedback import copy raw.jsonl");
        assert_eq!(said, json!({ "added": added, "known": 6 - added, "bad": 0 }));
    }
    assert_eq!(home.ok("feedback list copy --json"), home.ok("feedback list store --json"));
}

#[test]
fn many_that_add_at_once_wait_for_one_another() {
    let home = Home::new();
    let start = |i: usize| {
        let mut command = home.command("feedback add store --answer x --thumb up --prompt");
        command.arg(format!("prompt {i}")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let all: Vec<_> = (0..24).map(start).collect();
    for child in all {
        let ran = ran(child);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    }
    let (entries, damage) = (home.json_lines("feedback list store"), &home.json("feedback check store")["damage"]);
    assert_eq!((entries.len(), &damage["count"], &damage["unfinished"]), (24 * 3, &json!(0), &json!(0)));
    let mut prompts: Vec<&str> =
        entries.iter().filter(|e| e["event"] == "prompt").map(|e| e["content"][0]["content"].as_str().unwrap()).collect();
    prompts.sort_unstable();
    prompts.dedup();
    assert_eq!(prompts.len(), 24, "each of them is there");
}

#[test]
fn what_is_erased_is_gone_from_the_file() {
    let home = filled();
    let holds = |text: &str| home.read("store").windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("Greetings") && holds("Hello!"));
    let erased = home.json("feedback erase store --conversation c1");
    assert_eq!((&erased["entries"], &erased["dependents"]), (&json!(3), &json!(0)));
    assert!(!holds("Greetings") && !holds("Hello!") && holds("mauve"));
    home.ok("feedback erase store --id 10,12");
    assert!(!holds("red") && !holds("mauve") && holds("blue"));
    let erased = home.json("feedback erase store --from 5000 --until 5001");
    assert_eq!((&erased["entries"], &erased["dependents"]), (&json!(3), &json!(2)));
    let left = home.json_lines("feedback list store").len();
    for nothing in ["--id 999", "--conversation c1", "--source nobody", "--from 1 --until 2"] {
        let said = home.ok(&format!("feedback erase store {nothing}"));
        assert!(said.contains("0 entries erased") && said.contains(&format!("none of the store's {left} entries")), "{nothing}: {said}");
        assert_eq!(home.json(&format!("feedback erase store {nothing}"))["entries"], 0);
    }
    assert!(home.ok("feedback erase store --all").contains("0 about them"));
    assert!(home.ok("feedback erase store --all").contains("0 entries erased: the store has no entries"));
    let listed = home.run("feedback list store");
    assert!(listed.status == Some(0) && listed.stderr.contains("the store has no entries"), "{listed:?}");
    home.fails(1, "feedback export store --format preferences --out o.jsonl", &["no entries", "all was erased"]);
    for command in ["prefer", "tune", "reward train"] {
        let ran =
            home.fails(1, &format!("{command} --model tiny.gguf --data store --out run"), &["store: the feedback store has no entries"]);
        assert!(!ran.stderr.contains("none of its 0"), "{}", ran.stderr);
    }
    assert_eq!(home.read("store").len(), 24);
    assert!(home.json_lines("feedback list store").is_empty());
    assert_eq!(add(&home, &["--prompt", "new"])["prompt"], 19);
}

#[test]
fn prompts_may_be_whole_conversations_from_a_file() {
    let home = Home::new();
    home.write("turns.json", r#"{"messages": [{"role": "user", "content": "Time?"}], "tools": [{"name": "clock"}]}"#);
    add(&home, &["--messages", "turns.json", "--answer", "Noon.", "--thumb", "up", "--source", "test"]);
    let entries = home.json_lines("feedback list store");
    assert_eq!(entries[0]["tools"][0]["function"]["name"], "clock");
    assert_eq!(entries[2]["source"], "test");
    let fed = home.fed("feedback add store --messages - --answer x", r#"[{"role": "user", "content": "Time?"}]"#);
    assert_eq!(fed.status, Some(0), "{}", fed.stderr);
    for (turns, says) in
        [("7", "neither"), ("{}", "list of messages"), ("[{\"role\": \"wizard\", \"content\": \"x\"}]", "wizard"), ("{", "EOF")]
    {
        home.write("turns.json", turns);
        home.fails(1, "feedback add store --messages turns.json --answer x", &["turns.json", says]);
    }
}

#[test]
fn wrong_usage_and_bad_stores_are_told_in_a_sentence() {
    let home = filled();
    for command in ["add", "list", "check", "export", "import", "erase"] {
        assert!(home.ok(&format!("feedback {command} --help")).contains("Usage: attune feedback"));
    }
    for args in [
        "add store",
        "add store --answer x",
        "add store --prompt x --thumb up",
        "add store --prompt x --answer a --answer b --thumb up",
        "add store --prompt x --answer a --ranked",
        "add store --prompt x --answer a --thumb sideways",
        "add store --prompt x --answer-id 2 --thumb up",
        "add store --answer-id 2",
        "add store --prompt-id 1",
        "add store --prompt x --max-size 10",
        "add store --prompt x --system s --raw",
        "erase store",
        "erase store --all --id 1",
        "erase store --id 1 --conversation c1",
        "export store --format preferences",
        "export store --format csv --out o",
        "export store --format raw --out store",
        "list store --event smile",
    ] {
        home.fails(2, &format!("feedback {args}"), &["error"]);
    }
    home.fails(1, "feedback add store --answer-id 99 --thumb up", &["id 99", "not there"]);
    home.fails(1, "feedback add store --answer-id 1 --thumb up", &["entry 1"]);
    home.fails(1, "feedback add store --rank 2,5", &["one prompt"]);
    let before = home.read("store");
    for command in ["list none", "check none", "erase none --all", "export none --format raw --out o"] {
        home.fails(1, &format!("feedback {command}"), &["none"]);
        assert!(!home.path("none").exists(), "{command}");
    }
    for command in ["list", "check", "erase --all", "add --prompt x"] {
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        home.fails(1, &format!("feedback {name} chat.jsonl {rest}"), &["expected a feedback store"]);
    }
    home.ok("feedback erase store --id 3,6,8,13,14,17,18");
    home.fails(1, "feedback export store --format rankings --out o", &["gives rankings", "feedback check"]);
    assert!(!home.path("o").exists());
    home.write("store", before);
}

#[test]
fn damage_is_reported_and_costs_no_other_entry() {
    let home = filled();
    let mut bytes = home.read("store");
    let at = bytes.windows(5).position(|part| part == b"mauve").unwrap();
    bytes[at] = 0;
    bytes.truncate(bytes.len() - 3);
    home.write("store", &bytes);
    let ran = home.run("feedback list store --json");
    assert_eq!((ran.status, ran.stdout.lines().count()), (Some(0), 16));
    assert!(ran.stderr.contains("damaged, the first at byte"), "{}", ran.stderr);
    let damage = &home.json("feedback check store")["damage"];
    assert!(damage["count"] == 1 && damage["unfinished"].as_u64() > Some(0), "{damage}");
    add(&home, &["--prompt", "on"]);
    assert_eq!(home.json("feedback check store")["damage"]["unfinished"], 0);
}
