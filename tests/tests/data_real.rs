//! Public data sets, each of whose records must be understood. Skipped where `../shared` is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use attune::data::{Dataset, Format, Passage, Record};

fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ATTUNE_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let file = root.join(path);
    if !file.exists() {
        println!("skipped: {} is not here", file.display());
        return None;
    }
    Some(file)
}

fn read(path: &str, format: Format, count: usize) -> Option<Vec<Record>> {
    let data = Dataset::open(shared(path)?).unwrap();
    assert_eq!(data.format(), format, "{path}");
    assert_eq!(data.len(), count, "{path}");
    let survey = data.survey();
    assert_eq!((survey.usable, survey.bad_count), (count, 0), "{path}: {survey}");
    Some(data.iter().map(Result::unwrap).collect())
}

fn messages(passage: &Passage) -> &[attune::data::Message] {
    match passage {
        Passage::Messages(messages) => messages,
        other => panic!("expected turns, found {other:?}"),
    }
}

#[test]
fn supervised_files_are_read_whole() {
    for (path, format, count) in [
        ("data/sft/alpaca_en_demo.json", Format::Alpaca, 999),
        ("data/sft/alpaca_zh_demo.json", Format::Alpaca, 1000),
        ("data/sft/identity.json", Format::Alpaca, 91),
        ("data/sft/seed_tasks.jsonl", Format::Seeds, 175),
        ("data/sft/v1_sft_demo.jsonl", Format::Messages, 500),
    ] {
        let Some(records) = read(path, format, count) else { continue };
        for record in records {
            let Record::Conversation { messages, .. } = record else { panic!("{path}: {record:?}") };
            assert!(messages.last().unwrap().is_assistant());
            assert_eq!(messages.iter().filter(|m| m.loss_weight() > 0.0).count(), 1, "{path}");
        }
    }
}

#[test]
fn tool_calls_become_structured() {
    let Some(records) = read("data/sft/glaive_toolcall_en_demo.json", Format::ShareGpt, 300) else { return };
    let (mut calls, mut results, mut with_tools) = (0, 0, 0);
    for record in &records {
        let Record::Conversation { messages, tools } = record else { panic!("{record:?}") };
        with_tools += usize::from(!tools.is_empty());
        calls += messages.iter().filter(|m| m.calls_tools() && m.is_assistant()).count();
        results += messages.iter().filter(|m| m.role == "tool").count();
        for call in messages.iter().filter(|m| m.calls_tools()) {
            assert!(call.extra["tool_calls"][0]["function"]["arguments"].is_object());
        }
        for tool in tools {
            assert!(tool["function"]["name"].is_string());
        }
    }
    assert_eq!((calls, results, with_tools), (211, 211, 191));
}

#[test]
fn preference_files_are_read_whole() {
    for (path, format, count) in [
        ("data/preference/dpo_en_demo.json", Format::PreferenceShareGpt, 300),
        ("data/preference/instruction-data-with-preference.json", Format::PreferenceAlpaca, 1100),
        ("data/preference/v1_dpo_demo.jsonl", Format::PreferenceMessages, 10),
    ] {
        let Some(records) = read(path, format, count) else { continue };
        for record in records {
            let Record::Preference { prompt, chosen, rejected, .. } = record else { panic!("{path}: {record:?}") };
            assert!(!messages(&prompt).last().unwrap().is_assistant());
            assert!(messages(&chosen).len() == 1 && messages(&chosen)[0].is_assistant());
            assert!(messages(&rejected).len() == 1 && messages(&rejected)[0].is_assistant());
        }
    }
    if let Some(records) = read("data/preference/kto_en_demo.json", Format::RatingMessages, 300) {
        let liked = records.iter().filter(|r| matches!(r, Record::Rating { label: true, .. })).count();
        assert_eq!(liked, 150);
    }
}
