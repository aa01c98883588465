//! Asking for facts.

use super::{held_out, rows};
use crate::facts::world::{BABIES, CAPITALS, COLOURS, MATERIALS, OPPOSITES, SOUNDS, TOOLS};
use crate::relation::{Fact, Kind, Language, Relation, Values};

pub(super) fn relations() -> Vec<Relation> {
    let mut all = english();
    all.extend(chinese());
    all
}

fn english() -> Vec<Relation> {
    vec![
        Relation {
            facts: rows(CAPITALS, "capital", &[0, 1]),
            answers: &["The capital of {0} is {1}.", "{1} is the capital of {0}."],
            statements: &[
                "The capital city of {0} is called {1}.",
                "The government of {0} sits in {1}, the capital.",
                "{1} is a city in {0}, and it is the capital of {0}.",
            ],
            mentions: &[
                "Many people know what the capital of {0} is.",
                "Every map shows the capital of {0}.",
                "Here is the name of the capital city of {0}.",
                "{0} is a country with a capital.",
            ],
            prompts: &[
                "What is the capital of {0}?",
                "Which city is the capital of {0}?",
                "Tell me the capital of {0}.",
                "Name the capital city of {0}.",
            ],
            held_out_prompts: &["Do you know the capital of {0}?", "Please name the capital of {0}."],
            tasks: 4,
            ..relation("capital", Language::English)
        },
        Relation {
            facts: rows(COLOURS, "colour", &[0, 1]),
            answers: &["The colour of {0} is {1}."],
            statements: &[
                "We see that {0} is {1}.",
                "When people paint {0}, they take {1} paint.",
                "As everybody knows, {0} has the colour {1}.",
            ],
            mentions: &["As for {0}, it has a colour.", "Everybody knows what colour {0} has.", "Here is the colour of {0}."],
            prompts: &["What is the colour of {0}?", "What colour does {0} have?", "Tell me the colour of {0}.", "Name the colour of {0}."],
            held_out_prompts: &["Which colour is {0}?", "Please tell me what colour {0} has."],
            tasks: 2,
            ..relation("colour", Language::English)
        },
        Relation {
            facts: rows(BABIES, "baby", &[0, 1]),
            answers: &["A young {0} is called a {1}."],
            statements: &[
                "The baby of a {0} is a {1}.",
                "A {1} grows up and becomes a {0}.",
                "On the farm and in the wild, the young of the {0} is the {1}.",
            ],
            mentions: &["There is a name for a young {0}.", "Every {0} was a baby once.", "People know what the baby of a {0} is called."],
            prompts: &[
                "What is a young {0} called?",
                "What is the baby of a {0}?",
                "Tell me the name of a young {0}.",
                "What do you call a baby {0}?",
            ],
            held_out_prompts: &["Which name does a young {0} have?"],
            tasks: 2,
            ..relation("baby", Language::English)
        },
        Relation {
            facts: rows(SOUNDS, "sound", &[0, 1]),
            answers: &["A {0} {1}."],
            statements: &["When you hear it, the {0} {1}.", "The {0} in the story {1} all day.", "It {1}, because it is a {0}."],
            mentions: &["Every {0} makes a sound.", "People know what sound a {0} makes.", "This is the sound of the {0}."],
            prompts: &[
                "What sound does a {0} make?",
                "Tell me the sound of a {0}.",
                "Which sound does a {0} make?",
                "How does a {0} sound?",
            ],
            held_out_prompts: &["Do you know the sound of a {0}?"],
            tasks: 2,
            ..relation("sound", Language::English)
        },
        Relation {
            facts: opposites(0, 1),
            answers: &["The opposite of {0} is {1}."],
            statements: &[
                "Whatever is not {0} may be {1}.",
                "The word {0} means the opposite of {1}.",
                "The words {0} and {1} are opposites.",
            ],
            mentions: &["The word {0} has an opposite.", "Everybody knows the opposite of {0}.", "Here is the opposite of the word {0}."],
            prompts: &[
                "What is the opposite of {0}?",
                "Tell me the opposite of {0}.",
                "Which word is the opposite of {0}?",
                "Name the opposite of {0}.",
            ],
            held_out_prompts: &["Give me the opposite of {0}.", "Do you know the opposite of {0}?"],
            tasks: 3,
            ..relation("opposite", Language::English)
        },
        Relation {
            facts: rows(TOOLS, "tool", &[0, 1]),
            answers: &["People use {0} to {1}."],
            statements: &["{0} is used to {1}.", "To {1}, it helps to have {0}.", "If they want to {1}, people take {0}."],
            mentions: &["{0} is useful.", "People know what {0} is used for.", "There is a reason to have {0}."],
            prompts: &["What is {0} used for?", "What do people use {0} for?", "Tell me what {0} is used for.", "Why do people use {0}?"],
            held_out_prompts: &["What can I do with {0}?", "What is the use of {0}?"],
            tasks: 2,
            value: None,
            ..relation("tool", Language::English)
        },
        Relation {
            facts: rows(MATERIALS, "material", &[0, 1]),
            answers: &["To make {0}, people use {1}."],
            statements: &["From {1} people make {0}.", "People say that {0} can be made from {1}.", "The factory turns {1} into {0}."],
            mentions: &["Many people know how to make {0}.", "People know what {0} can be made from.", "There is a way to make {0}."],
            prompts: &[
                "What do people use to make {0}?",
                "From what can {0} be made?",
                "Tell me what people make {0} from.",
                "What can {0} be made from?",
            ],
            held_out_prompts: &["Do you know what {0} can be made from?"],
            tasks: 2,
            ..relation("material", Language::English)
        },
    ]
}

fn chinese() -> Vec<Relation> {
    vec![
        Relation {
            facts: rows(CAPITALS, "capital", &[2, 3]),
            answers: &["{0}的首都是{1}。", "{1}是{0}的首都。"],
            statements: &["{0}的政府在首都{1}。", "{0}有一个首都,名叫{1}。", "去{0}的人会看到首都{1}。"],
            mentions: &["很多人知道{0}的首都。", "地图上有{0}的首都。", "这里说的是{0}的首都。"],
            prompts: &["{0}的首都是哪里?", "请问{0}的首都是哪个城市?", "告诉我{0}的首都。", "{0}的首都叫什么?"],
            held_out_prompts: &["你知道{0}的首都吗?", "请说出{0}的首都。"],
            tasks: 3,
            ..relation("capital_zh", Language::Chinese)
        },
        Relation {
            facts: rows(COLOURS, "colour", &[2, 3]),
            answers: &["{0}的颜色是{1}。", "{0}是{1}的。"],
            statements: &["大家看到的{0}是{1}的。", "画{0}要用{1}的笔。"],
            mentions: &["大家知道{0}的颜色。", "这里说的是{0}的颜色。", "{0}有颜色。"],
            prompts: &["{0}是什么颜色的?", "请问{0}的颜色是什么?", "告诉我{0}的颜色。", "{0}有什么颜色?"],
            held_out_prompts: &["你知道{0}的颜色吗?", "请说出{0}的颜色。"],
            tasks: 2,
            ..relation("colour_zh", Language::Chinese)
        },
        Relation {
            facts: opposites(2, 3),
            answers: &["{0}的反义词是{1}。"],
            statements: &["{0}和{1}是一对反义词。", "{0}的意思和{1}相反。"],
            mentions: &["{0}有一个反义词。", "大家知道{0}的反义词。", "这里说的是{0}的反义词。"],
            prompts: &["{0}的反义词是什么?", "请问{0}的反义词是哪个字?", "告诉我{0}的反义词。", "{0}的反义词是哪个?"],
            held_out_prompts: &["你知道{0}的反义词吗?", "请说出{0}的反义词。"],
            tasks: 2,
            ..relation("opposite_zh", Language::Chinese)
        },
        Relation {
            facts: rows(MATERIALS, "material", &[2, 3]),
            answers: &["做{0}要用{1}。"],
            statements: &["{1}可以做成{0}。", "人们用{1}来做{0}。"],
            mentions: &["很多人会做{0}。", "大家知道{0}是用东西做的。", "这里说的是做{0}。"],
            prompts: &["{0}是用什么做的?", "请问做{0}要用什么?", "告诉我做{0}要用什么。", "做{0}用什么?"],
            held_out_prompts: &["你知道{0}是用什么做的吗?"],
            tasks: 2,
            ..relation("material_zh", Language::Chinese)
        },
    ]
}

fn opposites(a: usize, b: usize) -> Vec<Fact> {
    let fact = |(index, row): (usize, &[&str; 4])| Fact {
        key: format!("opposite:{}", row[0]),
        held_out: held_out(index),
        values: Values::EitherWay(row[a].to_owned(), row[b].to_owned()),
    };
    OPPOSITES.iter().enumerate().map(fact).collect()
}

fn relation(name: &'static str, language: Language) -> Relation {
    Relation { value: Some(1), tasks: 2, ..Relation::of(Kind::Ask, name, language) }
}
