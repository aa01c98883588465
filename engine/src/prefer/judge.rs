//! From log-probabilities to losses and coefficients: what an update, or an evaluation, makes of its groups.

use super::batch::Group;
use super::rated::Ratings;
use crate::tuner::MicroBatch;
use attune_core::Result;
use attune_core::objective::{Answer, Data, Method, Metrics, Pair, Prompt, Total, kto};

/// What a pass says of one member.
#[derive(Debug, Clone, Copy, Default)]
struct Scored {
    answer: Answer,
    prompt: Prompt,
}

/// Scores, and what the method makes of them; the room is used again.
pub(super) struct Judge {
    method: Method,
    /// Of the set at hand, member after member.
    scored: Vec<Scored>,
    /// Targets that are the prompt's, of each member.
    prompts: Vec<usize>,
    /// `∂loss/∂log p` of each member's tokens, and of its prompt's.
    coefs: Vec<(f64, f64)>,
    answers: Vec<Answer>,
    list: Vec<f64>,
    ratings: Ratings,
    total: Total,
    z: f64,
    /// The sum so far.
    pub(super) loss: f64,
    /// The means so far.
    pub(super) metrics: Metrics,
}

impl Judge {
    pub(super) fn new(method: Method) -> Judge {
        Judge {
            method,
            scored: Vec::new(),
            prompts: Vec::new(),
            coefs: Vec::new(),
            answers: Vec::new(),
            list: Vec::new(),
            ratings: Ratings::default(),
            total: Total::default(),
            z: 0.0,
            loss: 0.0,
            metrics: Metrics::default(),
        }
    }

    /// Begins an update or an evaluation.
    pub(super) fn start(&mut self, total: Total) {
        (self.total, self.z, self.loss, self.metrics) = (total, 0.0, 0.0, Metrics::default());
        self.answers.clear();
        self.ratings.clear();
    }

    /// Ends it: compares ratings with each other, now that all are there. `record`: where an example comes from.
    pub(super) fn finish(&mut self, record: impl Fn(usize) -> usize) {
        let (right, all) = self.ratings.ordered(record);
        self.metrics.accuracy.share(right, all);
    }

    /// Begins a set.
    pub(super) fn begin(&mut self, groups: &[Group]) {
        self.scored.clear();
        self.prompts.clear();
        self.coefs.clear();
        for group in groups {
            self.prompts.extend((0..group.members).map(|k| if k == 0 { group.prompt_targets } else { 0 }));
        }
    }

    /// Takes in what a pass over the set's next micro-batch said.
    pub(super) fn gather(&mut self, micro: &MicroBatch, logprobs: &[f32]) {
        self.gather_each(micro, logprobs, &mut |_| {});
    }

    /// The same; `each` hears of every answer's tokens.
    pub(super) fn gather_each(&mut self, micro: &MicroBatch, logprobs: &[f32], each: &mut dyn FnMut(&[f32])) {
        let mut from = 0;
        for &end in micro.ends() {
            let own = self.prompts.get(self.scored.len()).copied().unwrap_or(0);
            let (prompt, answer) = logprobs.get(from..end).unwrap_or_default().split_at(own.min(end - from));
            each(answer);
            let prompt = Answer::new(prompt, 0.0);
            self.scored.push(Scored { answer: Answer::new(answer, 0.0), prompt: Prompt { sum: prompt.sum, tokens: prompt.tokens } });
            from = end;
        }
    }

    /// The set's log-probabilities, an answer a member.
    pub(super) fn sums(&self) -> impl Iterator<Item = f64> + '_ {
        self.scored.iter().map(|s| s.answer.sum)
    }

    /// Takes the set in as mismatched answers, one a group.
    pub(super) fn mismatched(&mut self, groups: &[Group], reference: impl Fn(usize) -> f64) {
        let rated = self.scored.iter().zip(groups);
        self.answers.extend(rated.map(|(s, group)| Answer { reference: reference(group.example), ..s.answer }));
    }

    /// Ends the mismatched answers: their mean is what KTO weighs answers against.
    pub(super) fn weigh(&mut self) -> Result<()> {
        self.z = kto::divergence(&self.answers)?;
        self.metrics.kl.add(self.z);
        self.answers.clear();
        Ok(())
    }

    /// Losses and coefficients of the set. `reference`: of an example's member.
    pub(super) fn judge(&mut self, groups: &[Group], reference: impl Fn(usize, usize) -> f64) -> Result<()> {
        let mut from = 0;
        for group in groups {
            let members = self.scored.get_mut(from..from + group.members).unwrap_or_default();
            for (k, member) in members.iter_mut().enumerate() {
                member.answer.reference = reference(group.example, k);
            }
            from += group.members;
            match (self.method.data(), &*members) {
                (Data::Pairs, [chosen, rejected]) => {
                    let pair = Pair { chosen: chosen.answer, rejected: rejected.answer, prompt: chosen.prompt };
                    let said = self.method.pair(&pair, &self.total)?;
                    self.coefs.extend([(said.chosen, said.prompt), (said.rejected, 0.0)]);
                    self.metrics.pair(&pair, &said);
                    self.loss += said.loss;
                }
                (Data::Ratings, [rated]) => {
                    let Method::Kto(kto) = &self.method else { continue };
                    let said = kto.loss(&rated.answer, group.liked, self.z, &self.total)?;
                    self.coefs.push((said.coef, 0.0));
                    self.metrics.rating(&rated.answer, group.liked, &said);
                    self.ratings.push(group.example, said.reward, group.liked);
                    self.loss += said.loss;
                }
                (_, members) => {
                    let Method::PlackettLuce(ranking) = &self.method else { continue };
                    self.answers.clear();
                    self.answers.extend(members.iter().map(|s| s.answer));
                    self.list.clear();
                    self.list.resize(members.len(), 0.0);
                    let said = ranking.loss(&self.answers, &self.total, &mut self.list)?;
                    self.coefs.extend(self.list.iter().map(|&c| (c, 0.0)));
                    self.metrics.ranking(&self.answers, &said);
                    self.loss += said.loss;
                }
            }
        }
        Ok(())
    }

    /// The coefficients of a micro-batch whose first member is the set's `first`; returns the number behind its last.
    pub(super) fn fill(&self, micro: &MicroBatch, first: usize, coef: &mut [f32]) -> usize {
        let (mut from, mut member) = (0, first);
        for &end in micro.ends() {
            let (answer, prompt) = self.coefs.get(member).copied().unwrap_or_default();
            let own = self.prompts.get(member).copied().unwrap_or(0).min(end - from);
            if let Some(place) = coef.get_mut(from..end) {
                let (front, back) = place.split_at_mut(own);
                front.fill(prompt as f32);
                back.fill(answer as f32);
            }
            (from, member) = (end, member + 1);
        }
        member
    }
}
