//! A relation: facts of one sort, how they are stated, and how they are asked for.

use crate::rng::Rng;

/// The five kinds of instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Asking for a fact.
    Ask,
    /// Doing something to a word: translating it, putting it into the plural.
    Do,
    /// Creating: a rhyme, a list, a sentence.
    Create,
    /// Reasoning with small numbers and orders.
    Reason,
    /// Refusing what is harmful, and answering what only sounds like it.
    Refuse,
}

impl Kind {
    /// All of them, in the order of the demo's table.
    pub const ALL: [Self; 5] = [Self::Ask, Self::Do, Self::Create, Self::Reason, Self::Refuse];

    /// The name in tables and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Do => "do",
            Self::Create => "create",
            Self::Reason => "reason",
            Self::Refuse => "refuse",
        }
    }
}

/// The language of a prompt and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Chinese.
    Chinese,
}

/// Facts of one sort and the wordings around them. `{0}`, `{1}`, … in a wording stand for a fact's values.
pub(crate) struct Relation {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) language: Language,
    pub(crate) facts: Vec<Fact>,
    /// Ways to state a fact; the first is the answer that tuning teaches, all of them are accepted.
    pub(crate) answers: &'static [&'static str],
    /// More ways to state it, in running text only.
    pub(crate) statements: &'static [&'static str],
    /// What may stand before an answer in running text.
    pub(crate) mentions: &'static [&'static str],
    /// Instructions of the tuning set.
    pub(crate) prompts: &'static [&'static str],
    /// Instructions of the held-out tasks alone.
    pub(crate) held_out_prompts: &'static [&'static str],
    /// Which value by itself is an answer too.
    pub(crate) value: Option<usize>,
    /// How many times a fact of this relation is stated for one of another.
    pub(crate) weight: usize,
    /// How many tuning examples a fact gets, in percent.
    pub(crate) examples: usize,
    /// How many held-out tasks there are.
    pub(crate) tasks: usize,
}

impl Relation {
    /// One without facts or wordings, of which nothing by itself is an answer.
    pub(crate) fn of(kind: Kind, name: &'static str, language: Language) -> Relation {
        Relation {
            name,
            kind,
            language,
            facts: Vec::new(),
            answers: &[],
            statements: &[],
            mentions: &[],
            prompts: &[],
            held_out_prompts: &[],
            value: None,
            weight: 1,
            examples: 100,
            tasks: 3,
        }
    }
}

/// One fact.
pub(crate) struct Fact {
    /// Names the fact across relations and languages: what is held out is held out by this.
    pub(crate) key: String,
    pub(crate) held_out: bool,
    pub(crate) values: Values,
}

/// Where a fact's values come from.
pub(crate) enum Values {
    /// Always the same.
    Fixed(Vec<String>),
    /// Two values in either order.
    EitherWay(String, String),
    /// `{0}` any of the members, `{1}` another one.
    Rhyme(&'static [&'static str]),
    /// `{0}` the class, `{1}` `{2}` `{3}` members, all different.
    List(&'static str, &'static [&'static str]),
    /// `{0}` who, `{1}` what they do.
    Deed(&'static str, &'static [&'static str]),
    /// `{0}` and `{1}` the two terms in either order, `{2}` their sum.
    Sum(usize, usize),
    /// `{0}` − `{1}` = `{2}`, from the sum of two terms.
    Difference(usize, usize),
    /// `{0}` and `{1}` two numbers in either order, `{2}` the bigger, `{3}` the smaller.
    Order(usize, usize),
    /// `{0}` a name, `{1}` and `{2}` the terms, `{3}` what is counted, `{4}` the sum.
    Story(usize, usize),
}

const NAMES: &[&str] = &["Tom", "Anna", "Ben", "Lucy", "Sam", "Mary", "Peter", "Jane"];
const COUNTED: &[&str] = &["apples", "books", "eggs", "stars", "balls", "cakes"];

impl Values {
    /// One set of values.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Vec<String> {
        let text = |s: &str| s.to_owned();
        match self {
            Self::Fixed(values) => values.clone(),
            Self::EitherWay(a, b) => {
                if rng.chance(50) {
                    vec![a.clone(), b.clone()]
                } else {
                    vec![b.clone(), a.clone()]
                }
            }
            Self::Rhyme(family) => {
                let first = rng.below(family.len());
                let second = (first + 1 + rng.below(family.len() - 1)) % family.len();
                vec![text(family[first]), text(family[second])]
            }
            Self::List(class, members) => {
                let mut members: Vec<&str> = members.to_vec();
                rng.shuffle(&mut members);
                core::iter::once(text(class)).chain(members.into_iter().take(3).map(text)).collect()
            }
            Self::Deed(who, deeds) => vec![text(who), text(deeds[rng.below(deeds.len())])],
            Self::Sum(a, b) => {
                let (x, y) = if rng.chance(50) { (a, b) } else { (b, a) };
                vec![x.to_string(), y.to_string(), (a + b).to_string()]
            }
            Self::Difference(a, b) => {
                let (x, y) = if rng.chance(50) { (a, b) } else { (b, a) };
                vec![(a + b).to_string(), x.to_string(), y.to_string()]
            }
            Self::Order(small, big) => {
                let (x, y) = if rng.chance(50) { (small, big) } else { (big, small) };
                vec![x.to_string(), y.to_string(), big.to_string(), small.to_string()]
            }
            Self::Story(a, b) => {
                let (x, y) = if rng.chance(50) { (a, b) } else { (b, a) };
                let (name, thing) = (NAMES[rng.below(NAMES.len())], COUNTED[rng.below(COUNTED.len())]);
                vec![text(name), x.to_string(), y.to_string(), text(thing), (a + b).to_string()]
            }
        }
    }

    /// Every set of values that answers a prompt rendered with `drawn`.
    pub(crate) fn alternatives(&self, drawn: &[String]) -> Vec<Vec<String>> {
        let Some(first) = drawn.first() else { return Vec::new() };
        let with = |rest: &[&str]| core::iter::once(first.clone()).chain(rest.iter().map(|s| (*s).to_owned())).collect::<Vec<_>>();
        match self {
            Self::Rhyme(family) => family.iter().filter(|word| *word != first).map(|word| with(&[word])).collect(),
            Self::Deed(_, deeds) => deeds.iter().map(|deed| with(&[deed])).collect(),
            Self::List(_, members) => {
                let mut all = Vec::new();
                for a in *members {
                    for b in members.iter().filter(|b| *b != a) {
                        all.extend(members.iter().filter(|c| *c != a && *c != b).map(|c| with(&[a, b, c])));
                    }
                }
                all
            }
            _ => vec![drawn.to_vec()],
        }
    }
}

/// `wording` with `{n}` replaced by the n-th value; the first letter of an English sentence is made a capital.
pub(crate) fn render(wording: &str, values: &[String]) -> String {
    let mut text = String::with_capacity(wording.len() + 32);
    let mut rest = wording;
    while let Some(open) = rest.find('{') {
        text.push_str(&rest[..open]);
        let digit = rest.as_bytes().get(open + 1).map_or(0, |b| usize::from(b.wrapping_sub(b'0')));
        if let Some(value) = values.get(digit) {
            text.push_str(value);
        }
        rest = rest.get(open + 3..).unwrap_or("");
    }
    text.push_str(rest);
    match text.chars().next() {
        Some(first) if first.is_ascii_lowercase() => format!("{}{}", first.to_ascii_uppercase(), &text[1..]),
        _ => text,
    }
}
