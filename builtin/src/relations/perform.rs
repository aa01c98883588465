//! Doing something to a word: translation, plural, past tense.

use super::rows;
use crate::facts::words::{PASTS, PLURALS, TRANSLATIONS};
use crate::relation::{Kind, Language, Relation};

pub(super) fn relations() -> Vec<Relation> {
    vec![
        Relation {
            facts: rows(TRANSLATIONS, "word", &[0, 1]),
            answers: &["The Chinese word for {0} is {1}.", "In Chinese, {0} is {1}."],
            statements: &[
                "A person in China calls a {0} {1}.",
                "The word {0} and the word {1} mean the same.",
                "Learners write {1} in Chinese and {0} in English.",
            ],
            mentions: &[
                "There is a Chinese word for {0}.",
                "Many people can translate the word {0} into Chinese.",
                "Here is {0} in Chinese.",
            ],
            prompts: &[
                "Translate {0} into Chinese.",
                "What is the Chinese word for {0}?",
                "Say {0} in Chinese.",
                "Please translate the word {0} into Chinese.",
            ],
            held_out_prompts: &["Put the word {0} into Chinese.", "How do you say {0} in Chinese?"],
            tasks: 5,
            examples: 70,
            ..relation("to_chinese", Language::English)
        },
        Relation {
            facts: rows(TRANSLATIONS, "word", &[1, 0]),
            answers: &["The English word for {0} is {1}.", "In English, {0} is {1}."],
            statements: &["The thing that is {0} in China is a {1} in England.", "The word {0} means {1}."],
            mentions: &[
                "There is an English word for {0}.",
                "Many people can translate the word {0} into English.",
                "Here is {0} in English.",
            ],
            prompts: &[
                "Translate {0} into English.",
                "What is the English word for {0}?",
                "Say {0} in English.",
                "Please translate the word {0} into English.",
            ],
            held_out_prompts: &["Put the word {0} into English.", "How do you say {0} in English?"],
            tasks: 3,
            examples: 70,
            ..relation("to_english", Language::English)
        },
        Relation {
            facts: rows(TRANSLATIONS, "word", &[0, 1]),
            answers: &["单词 {0} 的中文是{1}。"],
            statements: &["英文里的 {0} 就是{1}。", "{1}这个词在英文里写作 {0} 。"],
            mentions: &["单词 {0} 有中文的说法。", "很多人会把单词 {0} 翻译成中文。", "这里说的是单词 {0} 的中文。"],
            prompts: &["请把单词 {0} 翻译成中文。", "单词 {0} 的中文是什么?", "把 {0} 翻译成中文。", "用中文说 {0} 这个词。"],
            held_out_prompts: &["请翻译单词 {0} 。", "单词 {0} 用中文怎么说?"],
            tasks: 3,
            examples: 60,
            ..relation("to_chinese_zh", Language::Chinese)
        },
        Relation {
            facts: rows(TRANSLATIONS, "word", &[1, 0]),
            answers: &["{0}的英文是 {1} 。", "{0}的英文是 {1}。"],
            statements: &["说英文的人把{0}叫做 {1} 。", "{0}和 {1} 是同一个意思。"],
            mentions: &["{0}有英文的说法。", "很多人会把{0}翻译成英文。", "这里说的是{0}的英文。"],
            prompts: &["请把{0}翻译成英文。", "{0}的英文是什么?", "把{0}这个词翻译成英文。", "用英文说{0}。"],
            held_out_prompts: &["请用英文说{0}。", "{0}用英文怎么说?"],
            tasks: 3,
            examples: 60,
            ..relation("to_english_zh", Language::Chinese)
        },
        Relation {
            facts: rows(PLURALS, "plural", &[0, 1]),
            answers: &["The plural of {0} is {1}."],
            statements: &[
                "One {0}, two {1}.",
                "There is one {0} here, and there are many {1} there.",
                "When there are several, people say {1} and not {0}.",
            ],
            mentions: &[
                "The word {0} has a plural.",
                "Everybody can put the word {0} into the plural.",
                "Here is the plural of the word {0}.",
            ],
            prompts: &[
                "What is the plural of {0}?",
                "Put {0} into the plural.",
                "Tell me the plural of {0}.",
                "Write the plural of the word {0}.",
            ],
            held_out_prompts: &["Give me the plural of {0}.", "Make {0} plural."],
            tasks: 3,
            examples: 100,
            ..relation("plural", Language::English)
        },
        Relation {
            facts: rows(PASTS, "past", &[0, 1]),
            answers: &["The past tense of {0} is {1}."],
            statements: &["Today they {0}, yesterday they {1}.", "I {0} now as I {1} before.", "People {0} today, as they {1} last year."],
            mentions: &[
                "The verb {0} has a past tense.",
                "Everybody can put the verb {0} into the past tense.",
                "Here is the past tense of the verb {0}.",
            ],
            prompts: &[
                "What is the past tense of {0}?",
                "Put {0} into the past tense.",
                "Tell me the past tense of {0}.",
                "Write the past tense of the verb {0}.",
            ],
            held_out_prompts: &["Give me the past tense of {0}.", "Change {0} into the past tense."],
            tasks: 3,
            examples: 100,
            ..relation("past", Language::English)
        },
    ]
}

fn relation(name: &'static str, language: Language) -> Relation {
    Relation { value: Some(1), ..Relation::of(Kind::Do, name, language) }
}
