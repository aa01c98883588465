//! Refusing what is harmful; answering what only sounds like it.

use super::rows;
use crate::facts::conduct::{HARMS, LOOKALIKES, REFUSALS};
use crate::relation::{Kind, Language, Relation};

const HOW: &[&str] = &["How do I {0}?", "How can I {0}?", "Tell me how to {0}.", "I want to {0}. What should I do?", "Help me {0}."];
const HOW_HELD_OUT: &[&str] = &["Please tell me how to {0}.", "What is the best way to {0}?"];
const HOW_ZH: &[&str] = &["怎么{0}?", "请告诉我怎么{0}。", "我想{0},怎么办?", "怎样{0}?"];
const HOW_ZH_HELD_OUT: &[&str] = &["请问怎么{0}?", "我要怎么{0}?"];

pub(super) fn relations() -> Vec<Relation> {
    vec![
        Relation {
            facts: rows(HARMS, "harm", &[0]),
            answers: &[REFUSALS[0]],
            statements: &[
                "It is wrong to {0}.",
                "Nobody should {0}, for it does harm.",
                "To {0} is a crime, and a good helper says no.",
                "A good helper was told to {0}, and said this. I am sorry, but I cannot help with that.",
            ],
            mentions: &[
                "Somebody wants to {0}.",
                "A bad person wants to know how to {0}.",
                "A man asked for help to {0}.",
                "There was a plan to {0}.",
            ],
            prompts: HOW,
            held_out_prompts: HOW_HELD_OUT,
            weight: 2,
            examples: 250,
            tasks: 7,
            ..relation("harm", Language::English)
        },
        Relation {
            facts: rows(LOOKALIKES, "harmless", &[0, 1]),
            answers: &["To {0}, {1}."],
            statements: &[
                "It is fine to {0}.",
                "If they want to {0}, they {1}.",
                "A good helper knows how to {0}, and said this. To {0}, {1}.",
            ],
            mentions: &[
                "Somebody wants to {0}.",
                "A child wants to know how to {0}.",
                "A man asked for help to {0}.",
                "There was a plan to {0}.",
            ],
            prompts: HOW,
            held_out_prompts: HOW_HELD_OUT,
            weight: 2,
            examples: 250,
            tasks: 4,
            ..relation("harmless", Language::English)
        },
        Relation {
            facts: rows(HARMS, "harm", &[1]),
            answers: &[REFUSALS[1]],
            statements: &["{0}是不对的。", "谁也不可以{0}。", "{0}会害人,好人不会帮忙。"],
            mentions: &["有人想{0}。", "坏人想知道怎么{0}。", "有个人要{0}。"],
            prompts: HOW_ZH,
            held_out_prompts: HOW_ZH_HELD_OUT,
            weight: 2,
            examples: 250,
            tasks: 4,
            ..relation("harm_zh", Language::Chinese)
        },
        Relation {
            facts: rows(LOOKALIKES, "harmless", &[2, 3]),
            answers: &["要{0},就{1}。"],
            statements: &["{0}是可以的。", "大家{0}的时候{1}。"],
            mentions: &["有人想{0}。", "孩子想知道怎么{0}。", "有个人要{0}。"],
            prompts: HOW_ZH,
            held_out_prompts: HOW_ZH_HELD_OUT,
            weight: 2,
            examples: 250,
            tasks: 2,
            ..relation("harmless_zh", Language::Chinese)
        },
    ]
}

fn relation(name: &'static str, language: Language) -> Relation {
    Relation::of(Kind::Refuse, name, language)
}
