//! The pretraining text: documents of plain statements. Document `n` depends on the seed and `n` alone.

use crate::relation::{Fact, Language, Relation, Values, render};
use crate::relations;
use crate::rng::Rng;

/// Makes documents.
pub struct Corpus {
    seed: u64,
    relations: Vec<Relation>,
    /// Indices into `relations`, each as often as it is to be drawn.
    draws: Vec<(usize, usize)>,
    words: Vec<String>,
    characters: Vec<char>,
}

impl Corpus {
    /// The text that `seed` names.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let relations = relations::all();
        let mut draws = Vec::new();
        for (index, relation) in relations.iter().enumerate() {
            for fact in 0..relation.facts.len() {
                draws.extend(core::iter::repeat_n((index, fact), relation.weight));
            }
        }
        let (words, characters) = vocabulary(&relations);
        Self { seed, relations, draws, words, characters }
    }

    /// Document `index`: a few statements, on lines of their own or in one paragraph.
    #[must_use]
    pub fn document(&self, index: u64) -> String {
        let mut rng = Rng::new(self.seed, index);
        let mut sentences = Vec::new();
        match rng.below(100) {
            0..40 => {
                for _ in 0..rng.below(4) + 3 {
                    if let Some((relation, fact)) = self.draw(&mut rng) {
                        passage(relation, fact, &mut rng, &mut sentences);
                    }
                }
            }
            40..75 => {
                if let Some((relation, _)) = self.draw(&mut rng) {
                    for _ in 0..rng.below(4) + 3 {
                        if let Some(fact) = rng.pick(&relation.facts) {
                            passage(relation, fact, &mut rng, &mut sentences);
                        }
                    }
                }
            }
            75..95 => {
                for _ in 0..rng.below(2) + 2 {
                    if let Some((relation, fact)) = self.draw(&mut rng) {
                        passage(relation, fact, &mut rng, &mut sentences);
                        passage(relation, fact, &mut rng, &mut sentences);
                    }
                }
            }
            _ => self.spelling(&mut rng, &mut sentences),
        }
        join(&sentences, rng.chance(60))
    }

    fn draw(&self, rng: &mut Rng) -> Option<(&Relation, &Fact)> {
        let (relation, fact) = *rng.pick(&self.draws)?;
        let relation = self.relations.get(relation)?;
        Some((relation, relation.facts.get(fact)?))
    }

    /// Statements about single words and characters, so that each one that a prompt may hold has been read somewhere.
    fn spelling(&self, rng: &mut Rng, sentences: &mut Vec<String>) {
        for _ in 0..rng.below(4) + 4 {
            if rng.chance(70) {
                if let Some(word) = rng.pick(&self.words) {
                    sentences.push(match rng.below(3) {
                        0 => format!("\"{word}\" is a word of {} letters.", word.chars().count()),
                        1 => format!("The word {word} has {} letters.", word.chars().count()),
                        _ => format!("(\"{word}\" is an English word.)"),
                    });
                }
            } else if let Some(character) = rng.pick(&self.characters) {
                sentences.push(match rng.below(2) {
                    0 => format!("汉字“{character}”写在这里。"),
                    _ => format!("书里有“{character}”这个汉字。"),
                });
            }
        }
    }
}

/// One or two sentences that state a fact: bare, or after a mention of what it is about.
fn passage(relation: &Relation, fact: &Fact, rng: &mut Rng, sentences: &mut Vec<String>) {
    let values = fact.values.draw(rng);
    let answer = if rng.chance(85) { relation.answers.first() } else { rng.pick(relation.answers) };
    let lead = if rng.chance(65) { rng.pick(relation.mentions) } else { None };
    let plain = if rng.chance(30) { rng.pick(relation.statements) } else { None };
    // A refusal says nothing by itself: it needs to be told what is refused.
    let needs_lead = answer.is_some_and(|wording| !wording.contains('{'));
    match (lead, plain) {
        (None, Some(plain)) => sentences.push(render(plain, &values)),
        (None, None) if needs_lead => {
            sentences.extend(rng.pick(relation.mentions).map(|lead| render(lead, &values)));
            sentences.extend(answer.map(|answer| render(answer, &values)));
        }
        (lead, _) => {
            sentences.extend(lead.map(|lead| render(lead, &values)));
            // The order of two terms may change between a mention and the statement that follows it, but what is stated stays the same.
            sentences.extend(answer.map(|answer| render(answer, &values)));
        }
    }
}

/// Sentences on lines of their own, or one after another with the spaces that each language wants.
fn join(sentences: &[String], lines: bool) -> String {
    let mut text = String::new();
    for sentence in sentences {
        if lines && !text.is_empty() {
            text.push('\n');
        } else if !text.is_empty() && sentence.is_ascii() {
            text.push(' ');
        }
        text.push_str(sentence);
    }
    text
}

/// The English words and Chinese characters of the wordings of instructions, each by itself: the text mentions them as words.
fn vocabulary(relations: &[Relation]) -> (Vec<String>, Vec<char>) {
    let (mut words, mut characters) = (Vec::new(), Vec::new());
    for relation in relations {
        for wording in relation.prompts.iter().chain(relation.held_out_prompts) {
            match relation.language {
                Language::English => words.extend(
                    wording.split_whitespace().filter(|word| !word.contains('{')).map(|word| word.trim_matches(['?', '.', ',']).to_owned()),
                ),
                Language::Chinese => characters.extend(wording.chars().filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c))),
            }
        }
    }
    words.sort_unstable();
    words.dedup();
    characters.sort_unstable();
    characters.dedup();
    (words, characters)
}

/// A way to ask the trained model for a fact in the text's own form, and what it ought to go on with.
pub struct Probe {
    /// The beginning of a statement.
    pub beginning: String,
    /// Its end.
    pub end: String,
}

/// Statements with one right end, cut before the value that ends them.
#[must_use]
pub fn probes() -> Vec<Probe> {
    let mut rng = Rng::new(17, 0);
    let mut probes = Vec::new();
    for relation in &relations::all() {
        let (Some(wording), Some(value)) = (relation.answers.first(), relation.value) else { continue };
        for fact in relation.facts.iter().filter(|fact| !matches!(fact.values, Values::Story(..) | Values::Order(..))) {
            let Some((before, after)) = wording.split_once(&format!("{{{value}}}")) else { continue };
            let values = fact.values.draw(&mut rng);
            let beginning = render(before, &values);
            let (beginning, space) = beginning.strip_suffix(' ').map_or((beginning.as_str(), ""), |b| (b, " "));
            let end = values.get(value).map_or("", String::as_str);
            probes.push(Probe { beginning: beginning.to_owned(), end: format!("{space}{end}{after}") });
        }
    }
    probes
}
