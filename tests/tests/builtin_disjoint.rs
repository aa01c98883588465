//! What the demo claims about its instruction set, proven: the held-out tasks are new in their wording and in their facts, and the
//! pretraining text holds no instruction.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use attune_builtin::{Corpus, Example, Kind, Task, held_out, tuning_set};

/// Letters and digits alone, in lower case, words apart by one space.
fn normalised(text: &str) -> String {
    let spaced: String = text.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_refusal(text: &str) -> bool {
    text.contains("I cannot help") || text.contains("不能帮忙")
}

/// Facts that occur both in tuning and held out.
fn shared_facts(examples: &[Example], tasks: &[Task]) -> Vec<String> {
    let tuned: BTreeSet<&String> = examples.iter().flat_map(|example| &example.facts).collect();
    tasks.iter().flat_map(|task| &task.facts).filter(|fact| tuned.contains(fact)).cloned().collect()
}

#[test]
fn there_are_enough_held_out_tasks_of_every_kind_in_both_languages() {
    let tasks = held_out();
    assert!((60..=120).contains(&tasks.len()), "{} tasks", tasks.len());
    for kind in Kind::ALL {
        let of_kind: Vec<&Task> = tasks.iter().filter(|task| task.kind == kind).collect();
        assert!(of_kind.len() >= 10, "{} has {}", kind.name(), of_kind.len());
        assert!(of_kind.iter().filter(|task| !task.prompt.is_ascii()).count() >= 3, "{}", kind.name());
    }
}

#[test]
fn a_third_of_the_held_out_refusals_are_harmless_and_must_be_answered() {
    let tasks: Vec<Task> = held_out().into_iter().filter(|task| task.kind == Kind::Refuse).collect();
    let harmless = tasks.iter().filter(|task| task.facts.iter().all(|fact| fact.starts_with("harmless:"))).count();
    assert!(harmless * 3 >= tasks.len(), "{harmless} of {}", tasks.len());
    let refusals = ["I am sorry, but I cannot help with that.", "对不起,这件事我不能帮忙。"];
    for task in &tasks {
        let refused = refusals.iter().any(|refusal| task.follows(refusal));
        assert_eq!(refused, task.facts.iter().all(|fact| fact.starts_with("harm:")), "{}", task.prompt);
    }
}

#[test]
fn no_fact_is_both_tuned_and_held_out() {
    let (mut examples, tasks) = (tuning_set(), held_out());
    assert_eq!(shared_facts(&examples, &tasks), Vec::<String>::new());
    // The comparison does see a fact that is shared.
    examples[0].facts = tasks[0].facts.clone();
    assert_eq!(shared_facts(&examples, &tasks), tasks[0].facts);
}

#[test]
fn no_held_out_answer_is_a_tuning_response() {
    // By text and not by name: whatever the facts are called, what is to be answered was never an answer in tuning.
    let responses: BTreeSet<String> =
        tuning_set().into_iter().map(|example| example.response).filter(|response| !is_refusal(response)).collect();
    for task in held_out() {
        for accepted in &task.accepted {
            assert!(!responses.contains(accepted), "{accepted}");
        }
    }
}

#[test]
fn no_held_out_prompt_occurs_in_tuning_in_any_spelling() {
    let tuned: BTreeSet<String> = tuning_set().iter().map(|example| normalised(&example.prompt)).collect();
    for task in held_out() {
        assert!(!tuned.contains(&normalised(&task.prompt)), "{}", task.prompt);
    }
}

#[test]
fn half_of_the_held_out_prompts_have_a_wording_that_tuning_never_uses() {
    let tuned: BTreeSet<String> = tuning_set().iter().map(|example| normalised(example.wording)).collect();
    let tasks = held_out();
    let new = tasks.iter().filter(|task| !tuned.contains(&normalised(task.wording))).count();
    assert!(new * 2 >= tasks.len(), "{new} of {}", tasks.len());
    assert!(new < tasks.len(), "the others are asked as tuning asks");
}

#[test]
fn a_check_takes_the_whole_answer_and_nothing_else() {
    let tasks = held_out();
    for task in &tasks {
        let answer = &task.accepted[0];
        assert!(task.follows(answer) && task.follows(&format!(" {answer}\n")));
        for wrong in ["", ".", "Yes.", "是。", &task.prompt, &format!("{answer} {answer}"), &format!("{answer} And more.")] {
            assert!(!task.follows(wrong), "{wrong} for {}", task.prompt);
        }
        // No full answer to one task passes for another of other facts, unless it is the refusal.
        for other in tasks.iter().filter(|other| other.facts != task.facts && !is_refusal(&other.accepted[0])) {
            let full = other.accepted.iter().max_by_key(|accepted| accepted.len()).unwrap();
            assert!(!task.follows(full), "{full} for {}", task.prompt);
        }
    }
}

/// The documents that the checks below read: every relation with every wording comes round many times.
fn documents() -> impl Iterator<Item = String> {
    let corpus = Corpus::new(1);
    (0..30_000).map(move |index| corpus.document(index))
}

/// Why `document` holds an instruction, where it does. An English one begins with a question word or with a verb that has no subject.
fn instruction(document: &str) -> Option<String> {
    const ENGLISH: [&str; 27] = [
        "What",
        "Which",
        "Who",
        "Why",
        "How",
        "Where",
        "Do",
        "Does",
        "Can",
        "Could",
        "Please",
        "Tell",
        "Name",
        "Give",
        "Say",
        "Translate",
        "Put",
        "Make",
        "Write",
        "List",
        "Add",
        "Take",
        "Help",
        "Change",
        "Look",
        "Listen",
        "Use",
    ];
    const CHINESE: [&str; 10] = ["请", "告诉", "说出", "列出", "写出", "算一算", "怎么", "怎样", "我想", "你"];
    if let Some(mark) = ["?", "?", "<|", "|>"].into_iter().find(|mark| document.contains(mark)) {
        return Some(mark.to_owned());
    }
    let sentences = document.split(['\n', '.', '。', '!']).map(str::trim);
    let mut openers = sentences.map(|sentence| sentence.split([' ', ',']).next().unwrap_or_default());
    openers.find(|opener| ENGLISH.contains(opener) || CHINESE.iter().any(|start| opener.starts_with(start))).map(str::to_owned)
}

#[test]
fn no_instruction_occurs_in_the_pretraining_text() {
    let mut prompts: BTreeSet<String> = tuning_set().into_iter().map(|example| normalised(&example.prompt)).collect();
    prompts.extend(held_out().into_iter().map(|task| normalised(&task.prompt)));
    let mut text = String::from(" ");
    for document in documents() {
        assert_eq!(instruction(&document), None, "{document}");
        text.push_str(&normalised(&document));
        text.push_str(" # ");
    }
    for prompt in &prompts {
        assert!(!text.contains(&format!(" {prompt} ")), "{prompt}");
    }
    // The check itself sees an instruction, of every kind and language, in the middle of statements.
    for task in held_out().iter().filter(|task| task.prompt.contains(['?']) || task.prompt.is_ascii()) {
        if !task.facts.iter().any(|fact| fact.starts_with("sum:")) {
            assert!(instruction(&format!("The sky is blue. {}", task.prompt)).is_some(), "{}", task.prompt);
        }
    }
}

#[test]
fn the_pretraining_text_states_what_is_held_out() {
    let text = documents().collect::<Vec<_>>().join("\n");
    let unknown = |task: &Task| !task.accepted.iter().any(|accepted| text.contains(accepted.as_str()));
    let missing: Vec<String> = held_out().into_iter().filter(unknown).map(|task| task.prompt).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_document_depends_on_its_seed_and_number_alone() {
    let (one, two) = (Corpus::new(1), Corpus::new(1));
    assert_eq!(one.document(77), two.document(77));
    assert_ne!(one.document(77), one.document(78));
    assert_ne!(one.document(77), Corpus::new(2).document(77));
}
