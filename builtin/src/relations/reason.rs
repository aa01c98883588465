//! Reasoning with small numbers and with orders.
//!
//! A sum, its differences and its stories are one fact: where 3 + 4 is held out, 7 − 4 is too.

use super::held_out;
use crate::relation::{Fact, Kind, Language, Relation, Values};

const DAYS: [[&str; 2]; 7] = [
    ["Monday", "星期一"],
    ["Tuesday", "星期二"],
    ["Wednesday", "星期三"],
    ["Thursday", "星期四"],
    ["Friday", "星期五"],
    ["Saturday", "星期六"],
    ["Sunday", "星期天"],
];
const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

pub(super) fn relations() -> Vec<Relation> {
    let mut all = sums();
    all.extend(orders());
    all
}

fn sums() -> Vec<Relation> {
    vec![
        Relation {
            facts: terms(Values::Sum),
            answers: &["{0} plus {1} is {2}.", "{0} + {1} = {2}."],
            statements: &[
                "{0} and {1} make {2} together.",
                "The sum of {0} and {1} is {2}.",
                "Counting on from {0}, {1} steps lead to {2}.",
            ],
            mentions: &[
                "Children learn what {0} plus {1} is.",
                "It is easy to find the sum of {0} and {1}.",
                "Here {0} and {1} come together.",
            ],
            prompts: &["What is {0} plus {1}?", "How much is {0} plus {1}?", "Add {0} and {1}.", "Tell me the sum of {0} and {1}."],
            held_out_prompts: &["Please add {0} and {1}.", "How much do {0} and {1} make?"],
            value: Some(2),
            weight: 2,
            tasks: 3,
            ..relation("sum", Language::English)
        },
        Relation {
            facts: terms(Values::Difference),
            answers: &["{0} minus {1} is {2}.", "{0} - {1} = {2}."],
            statements: &["Taking {1} from {0} leaves {2}.", "Between {1} and {0} lie {2} steps."],
            mentions: &["Children learn what {0} minus {1} is.", "Somebody takes {1} away from {0}.", "Here {1} goes away from {0}."],
            prompts: &["What is {0} minus {1}?", "How much is {0} minus {1}?", "Take {1} from {0}.", "Tell me what {0} minus {1} is."],
            held_out_prompts: &["Please take {1} from {0}.", "What do I get for {0} minus {1}?"],
            value: Some(2),
            weight: 2,
            tasks: 3,
            ..relation("difference", Language::English)
        },
        Relation {
            facts: terms(Values::Sum),
            answers: &["{0} 加 {1} 等于 {2} 。", "{0} 加 {1} 等于 {2}。"],
            statements: &["{0} 和 {1} 一共是 {2} 。", "{0} 与 {1} 的和是 {2} 。"],
            mentions: &["学生知道 {0} 加 {1} 是多大的数。", "这里把 {0} 和 {1} 加起来。"],
            prompts: &["{0} 加 {1} 等于几?", "请问 {0} 加 {1} 是多少?", "算一算 {0} 加 {1} 。", "{0} 和 {1} 的和是多少?"],
            held_out_prompts: &["请算 {0} 加 {1} 。", "{0} 加 {1} 是几?"],
            value: Some(2),
            weight: 2,
            tasks: 3,
            ..relation("sum_zh", Language::Chinese)
        },
        Relation {
            facts: terms(Values::Story),
            answers: &["Now {0} has {4} {3}."],
            statements: &[
                "{0} has {1} {3} and gets {2} more, and that makes {4} {3}.",
                "With {1} {3} and {2} more, {0} has {4} {3} in all.",
            ],
            mentions: &["{0} has {1} {3} and gets {2} more.", "{0} had {1} {3} and found {2} {3}.", "{0} gets {1} {3} and then {2} {3}."],
            prompts: &[
                "{0} has {1} {3} and gets {2} more. How many {3} does {0} have now?",
                "{0} had {1} {3} and found {2} more. How many {3} are there?",
                "{0} gets {1} {3} and then {2} {3}. Tell me how many {3} {0} has.",
            ],
            held_out_prompts: &["{0} had {1} {3} and gets {2} more. How many {3} has {0} now?"],
            value: Some(4),
            weight: 2,
            tasks: 2,
            ..relation("story", Language::English)
        },
    ]
}

fn orders() -> Vec<Relation> {
    vec![
        Relation {
            facts: pairs(),
            answers: &["{2} is bigger than {3}."],
            statements: &["{3} is smaller than {2}.", "Of the numbers {0} and {1}, the bigger one is {2}."],
            mentions: &["Here are the numbers {0} and {1}.", "Children know which of {0} and {1} is bigger.", "There are {0} and {1}."],
            prompts: &[
                "Which is bigger, {0} or {1}?",
                "Which number is bigger, {0} or {1}?",
                "Tell me which is bigger, {0} or {1}.",
                "What is bigger, {0} or {1}?",
            ],
            held_out_prompts: &["Which one is bigger, {0} or {1}?"],
            value: Some(2),
            weight: 2,
            examples: 150,
            tasks: 3,
            ..relation("bigger", Language::English)
        },
        Relation {
            facts: pairs(),
            answers: &["{2} 比 {3} 大。"],
            statements: &["{3} 比 {2} 小。", "{0} 和 {1} 里面大的是 {2} 。"],
            mentions: &["这是 {0} 和 {1} 这两个数。", "这里有 {0} 和 {1} 。"],
            prompts: &["{0} 和 {1} 哪个大?", "请问 {0} 和 {1} 哪个数大?", "告诉我 {0} 和 {1} 哪个大。"],
            held_out_prompts: &["{0} 和 {1} 哪一个大?"],
            value: Some(2),
            weight: 2,
            examples: 100,
            tasks: 2,
            ..relation("bigger_zh", Language::Chinese)
        },
        Relation {
            facts: days(0),
            answers: &["The day after {0} is {1}."],
            statements: &["{0} comes before {1}.", "After {0} comes {1}."],
            mentions: &["Everybody knows the day after {0}.", "{0} is a day of the week."],
            prompts: &["What is the day after {0}?", "Which day comes after {0}?", "Tell me the day after {0}.", "Name the day after {0}."],
            held_out_prompts: &["Which day is after {0}?"],
            weight: 3,
            examples: 200,
            tasks: 1,
            ..relation("day", Language::English)
        },
        Relation {
            facts: days(1),
            answers: &["{0}的后一天是{1}。"],
            statements: &["{0}在{1}的前面。", "过了{0}就是{1}。"],
            mentions: &["大家知道{0}的后一天。", "{0}过得很快。"],
            prompts: &["{0}的后一天是什么?", "请问{0}的后一天是星期几?", "告诉我{0}的后一天。"],
            held_out_prompts: &["你知道{0}的后一天吗?"],
            weight: 3,
            examples: 200,
            tasks: 1,
            ..relation("day_zh", Language::Chinese)
        },
        Relation {
            facts: chain("month", &MONTHS.map(str::to_owned), true),
            answers: &["The month after {0} is {1}."],
            statements: &["{0} comes before {1}.", "After {0} comes {1}."],
            mentions: &["Everybody knows the month after {0}.", "{0} is a month of the year."],
            prompts: &[
                "What is the month after {0}?",
                "Which month comes after {0}?",
                "Tell me the month after {0}.",
                "Name the month after {0}.",
            ],
            held_out_prompts: &["Which month is after {0}?"],
            weight: 3,
            examples: 200,
            tasks: 2,
            ..relation("month", Language::English)
        },
        Relation {
            facts: chain("next", &(1..=20).map(|n: usize| n.to_string()).collect::<Vec<_>>(), false),
            answers: &["The number after {0} is {1}."],
            statements: &["Counting goes from {0} to {1}.", "{1} follows {0}."],
            mentions: &["Everybody knows the number after {0}.", "Children count on from {0}."],
            prompts: &[
                "What is the number after {0}?",
                "Which number comes after {0}?",
                "Tell me the number after {0}.",
                "Name the number after {0}.",
            ],
            held_out_prompts: &["Which number is after {0}?"],
            weight: 2,
            tasks: 2,
            ..relation("next", Language::English)
        },
    ]
}

/// Every pair of terms from 1 to 8.
fn terms(values: fn(usize, usize) -> Values) -> Vec<Fact> {
    let pairs = (1..=8usize).flat_map(|a| (a..=8).map(move |b| (a, b)));
    pairs.enumerate().map(|(i, (a, b))| Fact { key: format!("sum:{a}+{b}"), held_out: held_out(i), values: values(a, b) }).collect()
}

/// Every pair of different numbers from 1 to 10.
fn pairs() -> Vec<Fact> {
    let pairs = (1..10usize).flat_map(|a| (a + 1..=10).map(move |b| (a, b)));
    pairs
        .enumerate()
        .map(|(i, (a, b))| Fact { key: format!("order:{a}<{b}"), held_out: held_out(i), values: Values::Order(a, b) })
        .collect()
}

/// The days of the week in a language; named alike in both.
fn days(language: usize) -> Vec<Fact> {
    let mut facts = chain("day", &DAYS.map(|day| day[language].to_owned()), true);
    for (fact, day) in facts.iter_mut().zip(DAYS) {
        fact.key = format!("day:{}", day[0]);
    }
    facts
}

/// Each item's successor; the last one's is the first where the chain is a circle.
fn chain(prefix: &str, items: &[String], circle: bool) -> Vec<Fact> {
    let next = items.iter().skip(1).chain(items.iter().take(usize::from(circle)));
    let fact = |(i, (a, b)): (usize, (&String, &String))| Fact {
        key: format!("{prefix}:{a}"),
        held_out: held_out(i),
        values: Values::Fixed(vec![a.clone(), b.clone()]),
    };
    items.iter().zip(next).enumerate().map(fact).collect()
}

fn relation(name: &'static str, language: Language) -> Relation {
    Relation { value: Some(1), tasks: 2, ..Relation::of(Kind::Reason, name, language) }
}
