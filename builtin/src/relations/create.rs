//! Creating: rhymes, lists, sentences. Many answers are right; the check knows them all.

use super::held_out;
use crate::facts::words::{CLASSES, DEEDS, DEEDS_ZH, HEROES, RHYMES};
use crate::relation::{Fact, Kind, Language, Relation, Values};

pub(super) fn relations() -> Vec<Relation> {
    vec![
        Relation {
            facts: RHYMES.iter().enumerate().map(|(i, family)| fact("rhyme", family[0], i, Values::Rhyme(family))).collect(),
            answers: &["I saw a {0}, and then a {1}.", "Here is a {0}, and there is a {1}."],
            statements: &[
                "The word {0} rhymes with {1}.",
                "The words {0} and {1} rhyme.",
                "In the song, {0} stands with {1}, because they rhyme.",
            ],
            mentions: &[
                "There is a rhyme with the word {0}.",
                "This line ends with a rhyme for {0}.",
                "The poem has a line that rhymes with {0}.",
                "Many poets write a rhyme for the word {0}.",
            ],
            prompts: &[
                "Write a rhyme with {0}.",
                "Make a line that rhymes with {0}.",
                "Write a line with a rhyme for {0}.",
                "Make a rhyme for the word {0}.",
            ],
            held_out_prompts: &["Please write a rhyme for {0}.", "Give me a line that rhymes with {0}."],
            weight: 3,
            examples: 400,
            tasks: 5,
            ..relation("rhyme", Language::English)
        },
        Relation {
            facts: CLASSES.iter().enumerate().map(|(i, row)| fact("list", row.0, i, Values::List(row.0, row.1))).collect(),
            answers: &["Three {0} are {1}, {2} and {3}."],
            statements: &["Among the {0} are {1}, {2} and {3}.", "The list of {0} has {1}, {2} and {3} on it."],
            mentions: &[
                "There are many {0}.",
                "Everybody can list some {0}.",
                "This is a list of three {0}.",
                "People know the names of {0}.",
            ],
            prompts: &["List three {0}.", "Name three {0}.", "Write a list of three {0}.", "Tell me three {0}."],
            held_out_prompts: &["Please list three {0}.", "Give me three {0}."],
            weight: 2,
            examples: 300,
            tasks: 4,
            ..relation("list", Language::English)
        },
        Relation {
            facts: CLASSES.iter().enumerate().map(|(i, row)| fact("list", row.0, i, Values::List(row.2, row.3))).collect(),
            answers: &["三种{0}是{1}、{2}和{3}。"],
            statements: &["{0}里有{1}、{2}和{3}。", "{1}、{2}、{3}都是{0}。"],
            mentions: &["有很多种{0}。", "大家会说出几种{0}。", "这里有三种{0}的名字。"],
            prompts: &["说出三种{0}。", "请列出三种{0}。", "写出三种{0}的名字。", "告诉我三种{0}。"],
            held_out_prompts: &["请说三种{0}。", "列出三种{0}的名字。"],
            weight: 2,
            examples: 200,
            tasks: 2,
            ..relation("list_zh", Language::Chinese)
        },
        Relation {
            facts: HEROES.iter().enumerate().map(|(i, row)| fact("about", row[0], i, Values::Deed(row[0], DEEDS))).collect(),
            answers: &["The {0} {1}."],
            statements: &["Every day the {0} {1}.", "In the picture, the {0} {1}."],
            mentions: &["There is a sentence about the {0}.", "This story is about a {0}.", "Somebody wrote about the {0}."],
            prompts: &[
                "Write a sentence about a {0}.",
                "Tell me a story about a {0}.",
                "Make a sentence about the {0}.",
                "Write something about the {0}.",
            ],
            held_out_prompts: &["Please write a sentence about the {0}.", "Give me a sentence about a {0}."],
            weight: 1,
            examples: 200,
            tasks: 3,
            ..relation("about", Language::English)
        },
        Relation {
            facts: HEROES.iter().enumerate().map(|(i, row)| fact("about", row[0], i, Values::Deed(row[1], DEEDS_ZH))).collect(),
            answers: &["{0}{1}。"],
            statements: &["每天{0}{1}。", "图画里的{0}{1}。"],
            mentions: &["有一个句子写的是{0}。", "这个故事说的是{0}。", "有人写了{0}。"],
            prompts: &["用{0}造一个句子。", "写一个句子,说说{0}。", "请写一个{0}的句子。", "说一个{0}的故事。"],
            held_out_prompts: &["请用{0}写一个句子。", "请造一个{0}的句子。"],
            weight: 1,
            examples: 150,
            tasks: 2,
            ..relation("about_zh", Language::Chinese)
        },
    ]
}

fn fact(prefix: &str, name: &str, index: usize, values: Values) -> Fact {
    Fact { key: format!("{prefix}:{}", name.replace(' ', "_")), held_out: held_out(index), values }
}

fn relation(name: &'static str, language: Language) -> Relation {
    Relation::of(Kind::Create, name, language)
}
