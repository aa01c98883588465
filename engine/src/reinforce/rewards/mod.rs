//! What an answer is worth: checks that need no other model, a reward model, and whatever an app brings.
//!
//! | spec | 1 for an answer that | else |
//! |---|---|---|
//! | `regex:PATTERN` | holds the pattern ([`regex`](https://docs.rs/regex) syntax; `^…$` for all of it) | 0 |
//! | `length:max=20` `length:min=5,max=80,unit=chars` `length:target=40` | is that long, in `words`, `chars` or `tokens` | the quotient of the lengths |
//! | `json` | is JSON | 0 |
//! | `schema:FILE` `schema:{…}` | is JSON that the schema allows ([`Schema`] says which keywords) | 0 |
//! | `answer` `answer:COLUMN` | is what the data's column says, but for case, white space and a full stop | 0 |
//! | `number` `number:COLUMN` | has the column's last number as its own last number | 0 |
//! | `language:CODE` `language:prompt` | is in the language, or in that of the prompt | the share of letters that are |
//! | `refusal` `no-refusal` | refuses to answer, or does not | 0 |
//! | `model:RUN` | the score of a reward model ([`crate::reward`]), which is any number | |
//! | `truncated` | was cut off at its longest (give it a negative weight) | 0 |
//!
//! Several are summed by weights, as TRL's `reward_funcs` and `reward_weights`.

mod answer;
mod language;
mod length;
mod model;
mod pattern;
mod refusal;
mod schema;

pub use answer::{Exact, LastNumber};
pub use language::Language;
pub use length::{Length, Unit};
pub use model::Scored;
pub use pattern::Pattern;
pub use refusal::{Refusal, refuses};
pub use schema::{Json, Schema};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::reward::ScoreOptions;
use serde_json::{Map, Value};

/// An answer that is to be scored.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Its text, without the token that ends it. Empty for models without a tokenizer.
    pub text: &'a str,
    /// Its tokens, without the one that ends it.
    pub ids: &'a [u32],
    /// Its tokens as they were sampled, the one that ends it included.
    pub sampled: &'a [u32],
    /// Whether it was cut off at its longest.
    pub truncated: bool,
}

/// Answers to one prompt.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// What was asked: the last turn before the answer, or the text that it continues.
    pub prompt: &'a str,
    /// All tokens before the answer.
    pub prompt_ids: &'a [u32],
    /// The line of the data that the prompt comes from, with all of its columns.
    pub columns: &'a Map<String, Value>,
    /// The answers.
    pub answers: &'a [Answer<'a>],
}

/// Why a reward could not be given.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Scores answers. Implemented by the checks of this module and by whatever an app brings; for a closure see [`Custom`].
///
/// Scores should depend on the group alone: a run that is taken up again scores again.
pub trait Reward: Send {
    /// Its name in logs, without spaces.
    fn name(&self) -> &str;

    /// Whether a line of the data has what this needs; else what was expected.
    ///
    /// # Errors
    /// What is missing: the line is left out then.
    fn check(&self, columns: &Map<String, Value>) -> core::result::Result<(), String> {
        let _ = columns;
        Ok(())
    }

    /// Whether it reads [`Answer::text`], which models without a tokenizer do not give.
    fn reads_text(&self) -> bool {
        true
    }

    /// Bytes that it takes while it scores: a line of the run's plan, and part of its budget.
    fn memory(&self) -> u64 {
        0
    }

    /// Takes them. Called once before the first answers are scored, when the run's plan is known to fit.
    ///
    /// # Errors
    /// Whatever keeps it from scoring; the run does not begin.
    fn begin(&mut self) -> core::result::Result<(), Failure> {
        Ok(())
    }

    /// The score of each answer of the group. Those that are no finite numbers end the run with an error that names the reward.
    ///
    /// # Errors
    /// Whatever keeps it from scoring; the run ends with it.
    fn score(&mut self, group: &Group<'_>, scores: &mut [f64]) -> core::result::Result<(), Failure>;
}

/// A reward from a closure.
///
/// ```
/// use attune::reinforce::{Custom, Group};
/// let polite = Custom::new("polite", |group: &Group<'_>, scores: &mut [f64]| {
///     for (score, answer) in scores.iter_mut().zip(group.answers) {
///         *score = f64::from(answer.text.contains("please"));
///     }
///     Ok(())
/// });
/// # let _ = polite;
/// ```
pub struct Custom<F> {
    name: String,
    score: F,
}

impl<F: FnMut(&Group<'_>, &mut [f64]) -> core::result::Result<(), Failure> + Send> Custom<F> {
    /// A reward of this name.
    pub fn new(name: impl Into<String>, score: F) -> Self {
        Custom { name: name.into(), score }
    }
}

impl<F: FnMut(&Group<'_>, &mut [f64]) -> core::result::Result<(), Failure> + Send> Reward for Custom<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn reads_text(&self) -> bool {
        false
    }

    fn score(&mut self, group: &Group<'_>, scores: &mut [f64]) -> core::result::Result<(), Failure> {
        (self.score)(group, scores)
    }
}

/// A check that sees one answer at a time.
trait Check: Send {
    fn name(&self) -> &str;
    fn check(&self, _columns: &Map<String, Value>) -> core::result::Result<(), String> {
        Ok(())
    }
    fn of(&self, group: &Group<'_>, answer: &Answer<'_>) -> f64;
}

macro_rules! rewards {
    ($($check:ty),*) => {$(
        impl Reward for $check {
            fn name(&self) -> &str {
                Check::name(self)
            }
            fn check(&self, columns: &Map<String, Value>) -> core::result::Result<(), String> {
                Check::check(self, columns)
            }
            fn score(&mut self, group: &Group<'_>, scores: &mut [f64]) -> core::result::Result<(), Failure> {
                scores.iter_mut().zip(group.answers).for_each(|(score, answer)| *score = self.of(group, answer));
                Ok(())
            }
        }
    )*};
}

rewards!(Pattern, Json, Schema, Exact, LastNumber, Language, Refusal);

/// 1 for answers that were cut off.
struct Truncated;

impl Reward for Truncated {
    fn name(&self) -> &str {
        "truncated"
    }

    fn reads_text(&self) -> bool {
        false
    }

    fn score(&mut self, group: &Group<'_>, scores: &mut [f64]) -> core::result::Result<(), Failure> {
        scores.iter_mut().zip(group.answers).for_each(|(score, answer)| *score = f64::from(answer.truncated));
        Ok(())
    }
}

/// Reads a spec that needs no model: `regex:…`, `length:…`, `json`, `schema:…`, `answer`, `number`, `language:…`, `refusal`, `no-refusal`, `truncated`.
///
/// # Errors
/// [`Error::Option`] that says what is wrong with it; a schema's file that cannot be read.
pub fn reward(spec: &str) -> Result<Box<dyn Reward>> {
    let (kind, rest) = spec.split_once(':').map_or((spec, None), |(kind, rest)| (kind, Some(rest)));
    let needs = |what: &str| rest.filter(|rest| !rest.is_empty()).ok_or_else(|| bad(format!("{kind}:{what}"), spec));
    Ok(match kind {
        "regex" => Box::new(Pattern::new(needs("PATTERN")?)?),
        "length" => Box::new(needs("max=20, min=…, target=…, unit=words|chars|tokens")?.parse::<Length>()?),
        "json" if rest.is_none() => Box::new(Json),
        "schema" => Box::new(Schema::named(needs("FILE or {…}")?)?),
        "answer" => Box::new(Exact::new(rest.unwrap_or("answer"))),
        "number" => Box::new(LastNumber::new(rest.unwrap_or("answer"))),
        "language" => Box::new(Language::new(needs("CODE or prompt")?)?),
        "refusal" if rest.is_none() => Box::new(Refusal { wanted: true }),
        "no-refusal" if rest.is_none() => Box::new(Refusal { wanted: false }),
        "truncated" if rest.is_none() => Box::new(Truncated),
        _ => {
            let kinds = "regex:PATTERN, length:max=N, json, schema:FILE, answer[:COLUMN], number[:COLUMN], language:CODE, refusal, no-refusal, \
                         truncated or model:RUN";
            return Err(bad(kinds, spec));
        }
    })
}

fn bad(expected: impl Into<String>, found: &str) -> Error {
    Error::option("--reward", expected, format!("{found:?}"))
}

/// Rewards with their weights.
#[derive(Default)]
pub struct Rewards {
    all: Vec<(Box<dyn Reward>, f64)>,
    /// Of the group at hand, one reward's scores.
    scores: Vec<f64>,
}

impl Rewards {
    /// None so far.
    #[must_use]
    pub fn new() -> Rewards {
        Rewards::default()
    }

    /// Reads specs; `weights` is empty, or has one for each.
    ///
    /// # Errors
    /// [`Error::Option`] for a spec, or a number of weights, that is none, and for a reward model, which [`parse_for`](Self::parse_for) opens.
    pub fn parse(specs: &[String], weights: &[f64]) -> Result<Rewards> {
        Self::read(specs, weights, &reward)
    }

    /// The same, with reward models, `model:RUN`, for `base`. They take their memory when they [begin](Reward::begin).
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and as [`Scored::open`].
    pub fn parse_for(base: &Model, specs: &[String], weights: &[f64], options: &ScoreOptions) -> Result<Rewards> {
        Self::read(specs, weights, &|spec| match spec.strip_prefix("model:") {
            Some(path) => Ok(Box::new(Scored::open(base, path, options)?)),
            None => reward(spec),
        })
    }

    fn read(specs: &[String], weights: &[f64], open: &dyn Fn(&str) -> Result<Box<dyn Reward>>) -> Result<Rewards> {
        if !weights.is_empty() && weights.len() != specs.len() {
            return Err(Error::option("--reward-weights", format!("{} numbers, one a reward", specs.len()), weights.len()));
        }
        let mut rewards = Rewards::new();
        for (i, spec) in specs.iter().enumerate() {
            rewards.add(open(spec)?, weights.get(i).copied().unwrap_or(1.0))?;
        }
        Ok(rewards)
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`Error::Option`] for a weight that is no number from −10⁶ to 10⁶.
    pub fn add(&mut self, reward: Box<dyn Reward>, weight: f64) -> Result<()> {
        check_weights(&[weight])?;
        self.all.push((reward, weight));
        Ok(())
    }

    /// Adds a reward from a closure, with the weight 1.
    #[must_use]
    pub fn with(mut self, reward: impl Reward + 'static) -> Rewards {
        self.all.push((Box::new(reward), 1.0));
        self
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Their names; of two that are called the same, the second has a number.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let name = |i: usize| self.all.get(i).map_or("", |(reward, _)| reward.name());
        let numbered = |i: usize| match (0..i).filter(|&j| name(j) == name(i)).count() {
            0 => name(i).to_owned(),
            before => format!("{}_{}", name(i), before + 1),
        };
        (0..self.len()).map(numbered).collect()
    }

    /// What each takes that takes anything, by its name, in bytes.
    pub(crate) fn memory(&self) -> Vec<(String, u64)> {
        let all = self.names().into_iter().zip(self.all.iter().map(|(reward, _)| reward.memory()));
        all.filter(|(_, bytes)| *bytes > 0).collect()
    }

    /// Lets each take what it needs.
    ///
    /// # Errors
    /// [`Error::Reward`] where one cannot.
    pub(super) fn begin(&mut self) -> Result<()> {
        for (reward, _) in &mut self.all {
            let begun = reward.begin();
            begun.map_err(|e| Error::Reward { name: reward.name().to_owned(), reason: e.to_string() })?;
        }
        Ok(())
    }

    pub(super) fn check(&self, columns: &Map<String, Value>) -> core::result::Result<(), String> {
        self.all.iter().try_for_each(|(reward, _)| reward.check(columns))
    }

    /// The first that reads texts.
    pub(super) fn reader_of_text(&self) -> Option<&str> {
        self.all.iter().find(|(reward, _)| reward.reads_text()).map(|(reward, _)| reward.name())
    }

    /// The weighted sum for each answer in `total`; `each` hears of every reward's scores.
    ///
    /// # Errors
    /// [`Error::Reward`] where a reward fails, or gives what is no finite number.
    pub fn score(&mut self, group: &Group<'_>, total: &mut [f64], each: &mut dyn FnMut(usize, &[f64])) -> Result<()> {
        total.fill(0.0);
        for (i, (reward, weight)) in self.all.iter_mut().enumerate() {
            self.scores.clear();
            self.scores.resize(total.len(), f64::NAN);
            let result = reward.score(group, &mut self.scores);
            let failed = |reason: String| Error::Reward { name: reward.name().to_owned(), reason };
            result.map_err(|e| failed(e.to_string()))?;
            if let Some((k, score)) = self.scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
                let answer: String = group.answers.get(k).map_or("", |a| a.text).chars().take(60).collect();
                return Err(failed(format!("expected a finite number for the answer {answer:?}, found {score}")));
            }
            total.iter_mut().zip(&self.scores).for_each(|(sum, score)| *sum += *weight * score);
            each(i, &self.scores);
        }
        Ok(())
    }
}

/// The largest weight: beyond it, sums and their deviations would lose what other rewards say.
const MOST_WEIGHT: f64 = 1e6;

/// Weights of rewards have to be numbers that sums and deviations can be made of.
pub(super) fn check_weights(weights: &[f64]) -> Result<()> {
    match weights.iter().find(|weight| weight.is_nan() || weight.abs() > MOST_WEIGHT) {
        Some(weight) => Err(Error::option("--reward-weights", format!("numbers from -{MOST_WEIGHT} to {MOST_WEIGHT}"), weight)),
        None => Ok(()),
    }
}

/// A column of the data as the texts that it allows: a text, a number, true or false, or a list of them.
fn texts(columns: &Map<String, Value>, column: &str) -> core::result::Result<Vec<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    };
    let expected = || format!("expected the column {column:?} with the answer, a text or a list of texts");
    let value = columns.get(column).ok_or_else(|| {
        let known: Vec<&str> = columns.keys().map(String::as_str).take(8).collect();
        format!("{}, found the columns {}", expected(), known.join(", "))
    })?;
    let list = match value {
        Value::Array(list) => list.iter().map(text).collect::<Option<Vec<String>>>(),
        one => text(one).map(|text| vec![text]),
    };
    list.filter(|list| !list.is_empty()).ok_or_else(|| {
        let found: String = value.to_string().chars().take(40).collect();
        format!("{}, found {found}", expected())
    })
}

#[cfg(test)]
pub(super) fn score_of(reward: &mut dyn Reward, prompt: &str, columns: &Value, text: &str) -> f64 {
    let empty = Map::new();
    let columns = columns.as_object().unwrap_or(&empty);
    let ids: Vec<u32> = (0..text.len() as u32).collect();
    let answers = [Answer { text, ids: &ids, sampled: &ids, truncated: false }];
    let mut scores = [f64::NAN];
    let group = Group { prompt, prompt_ids: &[], columns, answers: &answers };
    assert!(reward.check(columns).is_ok() && reward.score(&group, &mut scores).is_ok());
    scores[0]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn specs_say_what_is_wrong_with_them() {
        for (spec, what) in [
            ("regex:(", "unclosed group"),
            ("regex", "regex:PATTERN"),
            ("length:max=0", "1 or more"),
            ("length:20", "max="),
            ("schema:/no/such/file.json", "/no/such/file.json"),
            ("schema:{\"type\": \"thing\"}", "thing"),
            ("language:xx", "language"),
            ("refusal:x", "refusal"),
            ("beauty", "regex:PATTERN"),
        ] {
            let said = reward(spec).err().unwrap().to_string();
            assert!(said.contains(what), "{spec}: {said}");
        }
        assert!(Rewards::parse(&["json".into()], &[1.0, 2.0]).is_err());
        for weight in [f64::NAN, f64::INFINITY, 1e308, -1.1e6] {
            let said = Rewards::parse(&["json".into()], &[weight]).err().unwrap().to_string();
            assert!(said.contains("--reward-weights") && said.contains("-1000000 to 1000000"), "{said}");
        }
    }

    fn one(reward: Rewards, text: &str) -> Result<f64> {
        let (answers, mut total, mut rewards) = ([Answer { text, ids: &[], sampled: &[], truncated: true }], [0.0], reward);
        let group = Group { prompt: "", prompt_ids: &[], columns: &Map::new(), answers: &answers };
        rewards.score(&group, &mut total, &mut |_, _| {}).map(|()| total[0])
    }

    #[test]
    fn several_are_summed_by_their_weights_and_names_stay_apart() {
        let specs = ["regex:a", "truncated", "regex:b"].map(String::from);
        let rewards = Rewards::parse(&specs, &[2.0, -0.5, 1.0]).unwrap();
        assert_eq!(rewards.names(), ["regex", "truncated", "regex_2"]);
        assert_eq!(one(rewards, "ab").unwrap(), 2.5);
    }

    #[test]
    fn a_reward_that_fails_or_gives_no_number_is_named() {
        let none = Custom::new("tone", |_: &Group<'_>, _: &mut [f64]| Ok(()));
        let said = one(Rewards::new().with(none), "hello").unwrap_err().to_string();
        assert!(said.contains("tone") && said.contains("NaN") && said.contains("hello"), "{said}");
        let fails = Custom::new("judge", |_: &Group<'_>, _: &mut [f64]| Err("the server is gone".into()));
        let said = one(Rewards::new().with(fails), "hello").unwrap_err().to_string();
        assert!(said.contains("judge") && said.contains("the server is gone"), "{said}");
    }
}
