//! What a check finds, what it leaves alone, and what a filter writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use attune::data::Dataset;
use attune::data::check::{CheckOptions, Kind, Report, Severity, check, check_dataset};
use proptest::prelude::*;
use serde_json::{Value, json};

fn report(records: &[Value]) -> Report {
    report_with(records, &CheckOptions::default())
}

fn report_with(records: &[Value], options: &CheckOptions<'_>) -> Report {
    let lines: String = records.iter().map(|r| format!("{r}\n")).collect();
    check_dataset(&Dataset::from_bytes(lines.into_bytes()).unwrap(), options).unwrap()
}

fn alpaca(instruction: &str, output: &str) -> Value {
    json!({"instruction": instruction, "input": "", "output": output})
}

/// Kinds found, with their lines.
fn found(report: &Report) -> Vec<(u64, &'static str)> {
    report.findings.iter().map(|f| (f.line, f.kind.name())).collect()
}

fn kinds(instruction: &str, output: &str) -> Vec<&'static str> {
    found(&report(&[alpaca(instruction, output)])).into_iter().map(|(_, kind)| kind).collect()
}

#[test]
fn good_examples_have_no_findings() {
    for (instruction, output) in [
        ("Describe a process of making crepes.", "Whisk flour, eggs and milk. Let it rest. Fry thin layers in butter on both sides."),
        (
            "Translate to French: Where is the station, and when does the next train to the coast leave?",
            "Où est la gare, et quand part le prochain train pour la côte ? Je voudrais arriver dans la soirée, si c'est possible pour vous.",
        ),
        (
            "把这句话翻译成英语：我们明天早上在火车站见面，然后一起去海边。",
            "We will meet at the railway station tomorrow morning, and then we will go to the seaside together.",
        ),
        ("用五种编程语言各写一个名字。", "Python, Java, Rust, Go, JavaScript, TypeScript, Kotlin, Swift, Ruby, Haskell, Scala, Perl"),
        (
            "Repeat the word hello twenty times.",
            "hello hello hello hello hello hello hello hello hello hello hello hello hello hello hello hello hello hello hello hello",
        ),
        (
            "Write a short song with a chorus.",
            "La la la la la la la la la la la la\nOh happy day, oh happy day\nLa la la la la la la la la",
        ),
        (
            "Write HTML for an empty table.",
            "```html\n<table>\n<tr><td></td><td></td></tr>\n<tr><td></td><td></td></tr>\n<tr><td></td><td></td></tr>\n<tr><td></td><td></td></tr>\n<tr><td></td><td></td></tr>\n</table>\n```",
        ),
        ("Give a 4x8 matrix of zeros.", "0 0 0 0 0 0 0 0\n0 0 0 0 0 0 0 0\n0 0 0 0 0 0 0 0\n0 0 0 0 0 0 0 0"),
        ("Fix the grammar if needed.\nHe goes to school.", "He goes to school."),
        ("写一首关于秋天的诗。", "秋风起，落叶黄，\n雁南飞，水茫茫。\n月如霜，照故乡，\n一壶酒，话凄凉。"),
        ("Write a Jinja template that greets by name.", "Hello {{ name }}, welcome!"),
        ("What is the capital of France?", "Paris"),
        ("ロシア語で「こんにちは」は？", "Здравствуйте — вежливое приветствие, которое можно говорить кому угодно."),
        (
            "List ten things.",
            "1. The red car\n2. The blue car\n3. The green car\n4. The white car\n5. The black car\n6. The grey car\n7. The pink car\n8. The old car\n9. The new car\n10. The fast car",
        ),
    ] {
        assert_eq!(kinds(instruction, output), Vec::<&str>::new(), "{instruction}");
    }
}

#[test]
fn empty_answers_and_questions() {
    for nothing in ["", " \n\t", "...", "……", "<nooutput>"] {
        assert_eq!(kinds("Say something.", nothing), ["empty-response"], "{nothing:?}");
    }
    assert_eq!(kinds("Which operator adds two numbers?", "+"), Vec::<&str>::new());
    assert_eq!(kinds("", "Something."), ["empty-prompt"]);
    assert_eq!(found(&report(&[json!({"text": "  "})])), [(1, "empty-response")]);
}

#[test]
fn stuck_answers() {
    for output in [
        "The weather is nice today. ".repeat(8),
        "I think that this is a good idea and I also think that we should do it as soon as possible because. ".repeat(3),
        format!("First we look at the problem and its parts. Then {}", "and then we do it again. ".repeat(6)),
        "very ".repeat(40),
        "好的".repeat(30),
        "今天天气很好，我们去公园玩。".repeat(5),
        format!("Well, that is so funny: {}", "ha".repeat(60)),
        // One word everywhere, without a period.
        (0..40).map(|i| if i % 3 == 1 { format!("thing{} ", char::from(b'a' + i % 26)) } else { "spam ".to_owned() }).collect(),
    ] {
        let question = if output.is_ascii() { "What shall we do now?" } else { "现在我们做什么？" };
        assert_eq!(kinds(question, &output), ["repetition"], "{output}");
    }
}

#[test]
fn answers_in_a_language_that_nobody_asked_for() {
    for (instruction, output) in [
        (
            "请解释一下光合作用的过程。",
            "Photosynthesis is the process by which plants turn light, water and carbon dioxide into sugar and oxygen.",
        ),
        ("Explain how plants make their food from light.", "光合作用是植物利用阳光把水和二氧化碳变成糖和氧气的过程。"),
        ("What are the benefits of walking every day for older people?", "Ходьба каждый день полезна для сердца и сосудов."),
        (
            "What are the main reasons for the fall of the Roman empire?",
            "Las razones de la caída del imperio son muchas, pero los historiadores hablan de la economía, de las guerras y de los problemas en el ejército, que es una de las causas para el fin.",
        ),
        ("写一封感谢信给我的老师。", "I am sorry, but I can not help you with that."),
        (
            "日本の首都について教えてください。どんな街ですか？",
            "东京是日本的首都，也是全世界人口最多的都市之一，有许多博物馆、公园和餐厅，交通十分便利。",
        ),
    ] {
        assert_eq!(kinds(instruction, output), ["wrong-language"], "{instruction}");
    }
}

#[test]
fn echoes_of_the_prompt() {
    let question = "What are the three most important rules of good writing?";
    assert_eq!(kinds(question, "what are the three most important rules of good writing"), ["prompt-echo"]);
    let restated = format!("{question} Be clear, be brief, and read aloud what you wrote before anyone else has to read it.");
    let report = report(&[alpaca(question, &restated)]);
    assert_eq!(found(&report), [(1, "prompt-restated")]);
    assert_eq!(report.findings[0].severity, Severity::Note);
    assert_eq!(
        kinds("Repeat after me: the rain in Spain falls mainly.", "Repeat after me: the rain in Spain falls mainly."),
        Vec::<&str>::new()
    );
}

#[test]
fn exact_duplicates_ignore_white_space_and_keep_the_first() {
    let report =
        report(&[alpaca("Say hi", "Hi there"), alpaca("Say bye", "Bye"), alpaca("Say  hi ", "Hi\nthere"), alpaca("Say hi", "Hello")]);
    assert_eq!(found(&report), [(3, "duplicate")]);
    assert_eq!(report.findings[0].detail, "the same as line 1");
    assert_eq!((report.counts.records, report.counts.usable, report.counts.kept), (4, 4, 3));
}

const LONG: &str = "Photosynthesis is the process by which green plants turn light into food. In their leaves, chlorophyll takes up \
    the light of the sun, and with its energy water from the roots and carbon dioxide from the air become sugar and oxygen. \
    The sugar feeds the plant, and the oxygen goes out into the air that animals and people breathe.";

#[test]
fn near_duplicates_are_found_by_wording() {
    let question = "Please explain to a child of ten years in a few simple sentences how plants make their own food from light.";
    let changed = LONG.replace("green plants", "all plants");
    let report = report(&[
        alpaca(question, LONG),
        alpaca("Please EXPLAIN to a child of ten years, in a few simple sentences, how plants make their own food from light!", &changed),
        // The same answer to another question is another example.
        alpaca("What does chlorophyll do?", LONG),
        // The same question with another answer too.
        alpaca(question, "They catch light with their leaves and cook sugar with it."),
    ]);
    assert_eq!(found(&report), [(2, "near-duplicate")], "{report}");
}

#[test]
fn a_question_put_slightly_otherwise_with_the_same_answer_is_a_near_duplicate() {
    let walk = "Walking every day keeps the heart strong, helps to sleep well at night, and lifts the mood without costing anything.";
    let report = report(&[
        alpaca("Describe a benefit of walking.", walk),
        alpaca("Describe the benefit of walking!", walk),
        // The same question, one word of the answer changed.
        alpaca("Describe a benefit of walking.", &walk.replace("strong", "healthy")),
        // Another question may well have the same answer.
        alpaca("Why do doctors send people outside?", walk),
        alpaca("Name the capital of France.", "Paris"),
        alpaca("name the capital of France", "Paris."),
        alpaca("Name the capital of Spain.", "Madrid"),
    ]);
    assert_eq!(found(&report), [(2, "near-duplicate"), (3, "near-duplicate"), (6, "near-duplicate")], "{report}");
}

#[test]
fn examples_of_one_pattern_are_no_duplicates() {
    let question = |n: usize| {
        format!(
            "A train goes at a steady speed of sixty kilometres an hour from one town to the next one. It is on its way for {n} hours. How far is it in all?"
        )
    };
    let answer = |n: usize| {
        format!(
            "It goes sixty kilometres in each hour, and so the distance is the speed times the hours, which gives {} kilometres.",
            n * 60
        )
    };
    let records: Vec<Value> = (2..40).map(|n| alpaca(&question(n), &answer(n))).collect();
    assert_eq!(found(&report(&records)), []);
    // With a short answer that may be right for many questions it is only noted.
    let classify = |animal: &str| {
        format!(
            "You are given the name of an animal. Say to which class of vertebrates it belongs: fish, amphibian, reptile, bird or mammal. Write the class alone, in lower case, without a full stop at its end. The animal to classify is the {animal}."
        )
    };
    let report = report(&[alpaca(&classify("dog"), "mammal"), alpaca(&classify("cat"), "mammal")]);
    assert_eq!((found(&report), report.counts.kept), (vec![(2, "similar")], 2));
}

#[test]
fn preferences_that_cannot_teach() {
    let pair = |prompt: &str, chosen: &str, rejected: &str| json!({"prompt": prompt, "chosen": chosen, "rejected": rejected});
    let report = report(&[
        pair("Hi", "Hello", "Go away"),
        pair("Bye", "So long", "So  long "),
        pair("What is up?", "", "Nothing"),
        pair("One more?", "Yes", "No"),
        pair("One more?", "No", "Yes"),
        pair("Again", "Fine", "bad bad bad bad bad bad bad bad bad bad bad bad"),
    ]);
    assert_eq!(found(&report), [(2, "equal-sides"), (3, "empty-response"), (4, "conflicting-pair"), (5, "conflicting-pair")]);
    assert_eq!(report.counts.kept, 2);
}

#[test]
fn ratings_and_rankings_that_contradict_themselves() {
    let rating = |prompt: &str, completion: &str, label: bool| json!({"prompt": prompt, "completion": completion, "label": label});
    let ratings =
        report(&[rating("Hi", "Hello", true), rating("Hi", "Go", false), rating("Hi", "Hello", false), rating("Hi", "Go", false)]);
    assert_eq!(found(&ratings), [(1, "conflicting-labels"), (3, "conflicting-labels"), (4, "duplicate")]);
    let rankings =
        report(&[json!({"prompt": "a", "completions": ["x", "y", "z"]}), json!({"prompt": "b", "completions": ["x", "y", " x"]})]);
    assert_eq!(found(&rankings), [(2, "tied-completions")]);
    assert_eq!(rankings.findings[0].detail, "completions 1 and 3 are the same");
}

#[test]
fn roles_out_of_order() {
    let chat = |turns: &[(&str, &str)]| {
        let messages: Vec<Value> = turns.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
        json!({"messages": messages})
    };
    let (u, a, s, t) = (("user", "How are you?"), ("assistant", "Fine, thanks."), ("system", "Be kind."), ("tool", "42"));
    for (turns, kind) in [
        (vec![s, u, a, u, a], None),
        (vec![u, u, a], Some("role-order")),
        (vec![u, a, a], Some("role-order")),
        (vec![a, u, a], Some("role-order")),
        (vec![u, a, s, u, a], Some("role-order")),
        (vec![u, t, a], Some("role-order")),
        (vec![s, u], Some("no-assistant-turn")),
        (vec![u, a, u], Some("unanswered-turn")),
    ] {
        let found = found(&report(&[chat(&turns)]));
        assert_eq!(found.first().map(|(_, k)| *k), kind, "{turns:?}");
    }
    let masked = json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "weight": 0}]});
    let report = report(&[masked, json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]})]);
    assert_eq!((found(&report), report.counts.usable), (vec![(1, "nothing-to-learn")], 1));
}

#[test]
fn token_ids_are_checked_too() {
    let ids = |labels: Vec<i32>| json!({"input_ids": labels.iter().map(|l| l.max(&0)).collect::<Vec<_>>(), "labels": labels});
    let report = report(&[ids(vec![-100, 5, 6]), ids(vec![5, -100, -100]), ids([vec![-100], vec![7; 40]].concat()), ids(vec![-100, 5, 6])]);
    assert_eq!(found(&report), [(2, "nothing-to-learn"), (3, "repetition"), (4, "duplicate")]);
    assert_eq!((report.lengths.unit, report.lengths.total.max), ("tokens", 41));
}

#[test]
fn notes_do_not_drop() {
    let long = "This is a sentence about something that goes on for quite a while without end. It is followed by another that is about the same as the first and then it";
    let records = [
        alpaca("Who are you?", "I am {{name}}, made by {{author}}."),
        alpaca("Can you feel?", "As an AI language model, I do not feel."),
        alpaca("Tell me more about it.", long),
        alpaca("Quote it.", "It said caf\u{fffd} on the sign."),
    ];
    let report = report(&records);
    assert_eq!(found(&report), [(1, "placeholder"), (2, "boilerplate"), (3, "cut-off"), (4, "mojibake")]);
    assert_eq!(report.counts.kept, 4);
}

#[test]
fn lengths_are_measured_by_whoever_can() {
    let words = |text: &str| text.split_whitespace().count();
    let options = CheckOptions { measure: Some(&words), max_length: Some(6), ..Default::default() };
    let records = [alpaca("one two", "three four five"), alpaca("one two", "three four five six seven"), alpaca("a b c d e f g", "h")];
    let report = report_with(&records, &options);
    assert_eq!(found(&report), [(2, "truncated"), (3, "no-target-left")]);
    assert_eq!((report.lengths.unit, report.lengths.truncated), ("tokens", 2));
    assert_eq!((report.lengths.prompt.max, report.lengths.response.max, report.lengths.total.sum), (7, 5, 20));
    let estimated = report_with(&records, &CheckOptions::default());
    assert_eq!(estimated.lengths.unit, "estimated tokens");
}

#[test]
fn findings_are_capped_but_counted() {
    let records: Vec<Value> = (0..50).map(|i| alpaca(&format!("Question {i}"), " ")).collect();
    let report = report_with(&records, &CheckOptions { max_findings: 10, ..Default::default() });
    assert_eq!((report.findings.len(), report.unlisted, report.counts.kinds["empty-response"]), (10, 40, 50));
}

#[test]
fn the_report_as_json_has_the_promised_keys() {
    let report = report(&[alpaca("Hi", ""), alpaca("Hi", "Hello")]);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["format"], "alpaca");
    assert_eq!(json["counts"]["records"], 2);
    assert!(json["lengths"]["response"]["max"].is_u64());
    assert_eq!(
        json["findings"][0],
        json!({"line": 1, "kind": "empty-response", "severity": "drop", "detail": "turn 2 of the assistant is empty"})
    );
    let every = [Kind::Unreadable, Kind::NoTargetLeft, Kind::UnansweredTurn, Kind::PromptEcho];
    assert!(every.iter().all(|kind| serde_json::to_value(kind).unwrap() == kind.name()));
    assert!(report.to_string().contains("line 1: drop: empty-response"));
}

#[test]
fn a_filter_keeps_the_words_of_the_file_and_nothing_that_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.json"), folder.path().join("out.jsonl"));
    let text = "[\n  {\n    \"instruction\": \"Say  \\u00e9\",\n    \"n\": 1.50, \"output\": \"é [\\\"x\\\"]\"\n  },\n  {\"instruction\": \"b\", \"output\": \"\"},\n  {\"instruction\": 5, \"output\": \"x\"},\n  {\"instruction\": \"Say hi.\", \"output\": \"Hi\"}\n]\n";
    std::fs::write(&input, text).unwrap();
    let options = CheckOptions { filter: Some(&output), ..Default::default() };
    let report = check(&input, &options).unwrap();
    assert_eq!((report.counts.kept, report.written), (2, Some(2)));
    let expected =
        "{\"instruction\":\"Say  \\u00e9\",\"n\":1.50,\"output\":\"é [\\\"x\\\"]\"}\n{\"instruction\": \"Say hi.\", \"output\": \"Hi\"}\n";
    assert_eq!(std::fs::read_to_string(&output).unwrap(), expected);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing temporary stays behind");
    let error = check(&output, &options).unwrap_err().to_string();
    assert!(error.contains("found the data set itself"), "{error}");
    assert_eq!(std::fs::read_to_string(&output).unwrap(), expected);
}

fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ATTUNE_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let file = root.join("data").join(path);
    if !file.exists() {
        println!("skipped: {} is not here", file.display());
        return None;
    }
    Some(file)
}

/// Every finding that drops a record of these files was looked at by a person, and is right.
#[test]
fn public_files_lose_what_is_wrong_with_them_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    for (path, drops) in [
        ("sft/alpaca_en_demo.json", &[("duplicate", 14)][..]),
        ("sft/alpaca_zh_demo.json", &[("duplicate", 8), ("wrong-language", 7)]),
        ("sft/glaive_toolcall_en_demo.json", &[("duplicate", 35), ("near-duplicate", 4)]),
        ("sft/identity.json", &[]),
        ("sft/seed_tasks.jsonl", &[]),
        ("sft/v1_sft_demo.jsonl", &[("duplicate", 1)]),
        ("preference/dpo_en_demo.json", &[("duplicate", 5)]),
        ("preference/instruction-data-with-preference.json", &[("equal-sides", 6), ("near-duplicate", 1)]),
        ("preference/kto_en_demo.json", &[]),
        ("preference/v1_dpo_demo.jsonl", &[]),
    ] {
        let Some(path) = shared(path) else { continue };
        let report = check(&path, &CheckOptions { filter: Some(&output), ..Default::default() }).unwrap();
        let mut dropped: Vec<(&str, usize)> = Vec::new();
        for finding in report.findings.iter().filter(|f| f.severity >= Severity::Drop) {
            match dropped.iter_mut().find(|(kind, _)| *kind == finding.kind.name()) {
                Some((_, n)) => *n += 1,
                None => dropped.push((finding.kind.name(), 1)),
            }
        }
        dropped.sort_unstable();
        assert_eq!(dropped, drops, "{}", path.display());
        // Filtering once is enough.
        let again = check(&output, &CheckOptions::default()).unwrap();
        assert_eq!((again.counts.records, again.counts.dropped), (report.counts.kept, 0), "{}", path.display());
        assert_eq!(again.format, report.format);
    }
}

/// Answers that are often the same, alike, empty or stuck.
fn answer() -> impl Strategy<Value = String> {
    let word =
        prop::sample::select(vec!["walk", "every", "day", "and", "sleep", "well", "the", "sun", "is", "bright", "42", "你", "好", "."]);
    prop_oneof![
        prop::collection::vec(word.clone(), 0..6).prop_map(|words| words.join(" ")),
        (word.clone(), 0usize..12).prop_map(|(word, n)| format!("{word} ").repeat(n)),
        (word, 0usize..20).prop_map(|(word, at)| {
            let mut words: Vec<&str> =
                "walking every day keeps the heart strong and helps to sleep well at night and lifts the mood too".split(' ').collect();
            let at = at % words.len();
            words[at] = word;
            words.join(" ")
        }),
    ]
}

fn any_record() -> impl Strategy<Value = Value> {
    let question = prop::sample::select(vec!["Why walk?", "Why should one walk every day?", "Why should one walk each day?", ""]);
    (question, answer(), answer(), any::<bool>(), 0usize..3).prop_map(|(question, a, b, label, which)| match which {
        0 => alpaca(question, &a),
        1 => json!({"prompt": question, "completion": a, "label": label}),
        _ => json!({"prompt": question, "chosen": a, "rejected": b}),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn filtering_twice_changes_nothing_more(records in prop::collection::vec(any_record(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let (once, twice) = (folder.path().join("once.jsonl"), folder.path().join("twice.jsonl"));
        let first = report_with(&records, &CheckOptions { filter: Some(&once), ..Default::default() });
        prop_assert_eq!(first.counts.kept + first.counts.dropped, records.len());
        prop_assert_eq!(std::fs::read_to_string(&once).unwrap().lines().count(), first.counts.kept);
        if first.counts.kept > 0 {
            let second = check(&once, &CheckOptions { filter: Some(&twice), ..Default::default() }).unwrap();
            prop_assert_eq!(second.counts.dropped, 0, "{}", second);
            prop_assert_eq!(std::fs::read(&once).unwrap(), std::fs::read(&twice).unwrap());
        }
    }
}
