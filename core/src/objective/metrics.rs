//! What a preference update says of itself, under the names that TRL logs.

use super::ranking::RankingLoss;
use super::scalar::log_sigmoid;
use super::{Answer, AnswerLoss, Pair, PairLoss};

/// A mean in the making.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    /// Takes a value in.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// Takes in `right` ones and `all − right` zeros.
    pub fn share(&mut self, right: u64, all: u64) {
        self.sum += right as f64;
        self.count += all;
    }

    /// Takes in what another has gathered.
    pub fn merge(&mut self, other: &Mean) {
        self.sum += other.sum;
        self.count += other.count;
    }

    /// The mean, if there is anything to take it of.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Means over an update, or over an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Metrics {
    /// `rewards/chosen`: implicit rewards of chosen or desirable answers.
    pub chosen_reward: Mean,
    /// `rewards/rejected`: those of rejected or undesirable ones.
    pub rejected_reward: Mean,
    /// `rewards/accuracies`: the share of pairs whose chosen answer has the larger reward (of a ranking: of all its pairs; of
    /// ratings: as the caller pairs them).
    pub accuracy: Mean,
    /// `logps/chosen`: log-probabilities of chosen answers under the policy.
    pub chosen_logps: Mean,
    /// `logps/rejected`.
    pub rejected_logps: Mean,
    /// `log_odds_chosen` (ORPO).
    pub log_odds: Mean,
    /// `log_odds_ratio`: `log σ` of them (ORPO).
    pub log_odds_ratio: Mean,
    /// `nll_loss`: a sum of parts, each already divided by the update's tokens.
    pub nll: Option<f64>,
    /// `kl`: what KTO weighs answers against, or GRPO's mean over tokens.
    pub kl: Mean,
}

impl Metrics {
    /// Takes in a pair and what an objective said of it.
    pub fn pair(&mut self, pair: &Pair, said: &PairLoss) {
        self.chosen_reward.add(said.chosen_reward);
        self.rejected_reward.add(said.rejected_reward);
        self.accuracy.share(u64::from(said.chosen_reward > said.rejected_reward), 1);
        self.chosen_logps.add(pair.chosen.sum);
        self.rejected_logps.add(pair.rejected.sum);
        if let Some(odds) = said.log_odds {
            self.log_odds.add(odds);
            self.log_odds_ratio.add(log_sigmoid(odds));
        }
        if let Some(nll) = said.nll {
            self.nll = Some(self.nll.unwrap_or(0.0) + nll);
        }
    }

    /// Takes in a rated answer and what an objective said of it.
    pub fn rating(&mut self, answer: &Answer, desirable: bool, said: &AnswerLoss) {
        let (reward, logps) = if desirable {
            (&mut self.chosen_reward, &mut self.chosen_logps)
        } else {
            (&mut self.rejected_reward, &mut self.rejected_logps)
        };
        reward.add(said.reward);
        logps.add(answer.sum);
    }

    /// Takes in a ranking and what an objective said of it: its best answer as chosen, the others in the mean as rejected, and the order of all
    /// its pairs. A list of one, which has neither, is left out.
    pub fn ranking(&mut self, answers: &[Answer], said: &RankingLoss) {
        let [best, others @ ..] = answers else { return };
        if others.is_empty() {
            return;
        }
        self.chosen_reward.add(said.best_reward);
        self.rejected_reward.add(said.other_reward);
        self.accuracy.share(said.ordered.0, said.ordered.1);
        self.chosen_logps.add(best.sum);
        self.rejected_logps.add(others.iter().map(|a| a.sum).sum::<f64>() / others.len() as f64);
    }

    /// Takes in what another has gathered.
    pub fn merge(&mut self, other: &Metrics) {
        self.chosen_reward.merge(&other.chosen_reward);
        self.rejected_reward.merge(&other.rejected_reward);
        self.accuracy.merge(&other.accuracy);
        self.chosen_logps.merge(&other.chosen_logps);
        self.rejected_logps.merge(&other.rejected_logps);
        self.log_odds.merge(&other.log_odds);
        self.log_odds_ratio.merge(&other.log_odds_ratio);
        self.kl.merge(&other.kl);
        self.nll = match (self.nll, other.nll) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
    }

    /// `rewards/margins`: how much larger the reward of chosen answers is.
    #[must_use]
    pub fn margin(&self) -> Option<f64> {
        Some(self.chosen_reward.value()? - self.rejected_reward.value()?)
    }

    /// Every mean there is, under TRL's name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("rewards/chosen", self.chosen_reward.value()),
            ("rewards/rejected", self.rejected_reward.value()),
            ("rewards/accuracies", self.accuracy.value()),
            ("rewards/margins", self.margin()),
            ("logps/chosen", self.chosen_logps.value()),
            ("logps/rejected", self.rejected_logps.value()),
            ("log_odds_chosen", self.log_odds.value()),
            ("log_odds_ratio", self.log_odds_ratio.value()),
            ("nll_loss", self.nll),
            ("kl", self.kl.value()),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::Total;
    use crate::objective::ranking::PlackettLuce;

    fn named(metrics: &Metrics, name: &str) -> Option<f64> {
        metrics.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    #[test]
    fn micro_batches_merge_into_the_means_of_the_update() {
        let pair = Pair { chosen: Answer { sum: -2.0, tokens: 1, reference: 0.0 }, ..Pair::default() };
        let (mut a, mut b) = (Metrics::default(), Metrics::default());
        a.pair(&pair, &PairLoss { chosen_reward: 1.0, rejected_reward: 0.5, nll: Some(0.25), ..PairLoss::default() });
        b.pair(&pair, &PairLoss { chosen_reward: 0.0, rejected_reward: 0.5, nll: Some(0.5), ..PairLoss::default() });
        b.pair(&pair, &PairLoss { chosen_reward: 2.0, rejected_reward: 0.5, nll: Some(0.25), ..PairLoss::default() });
        a.merge(&b);
        assert_eq!(named(&a, "rewards/chosen"), Some(1.0));
        assert_eq!(named(&a, "rewards/margins"), Some(0.5));
        assert_eq!(named(&a, "rewards/accuracies"), Some(2.0 / 3.0));
        assert_eq!(named(&a, "logps/chosen"), Some(-2.0));
        assert_eq!(named(&a, "nll_loss"), Some(1.0));
        assert_eq!(named(&a, "kl"), None);
    }

    #[test]
    fn a_ranking_counts_the_order_of_all_its_pairs() {
        let answer = |sum: f64| Answer { sum, tokens: 1, reference: 0.0 };
        let answers = [answer(-1.0), answer(-4.0), answer(-2.0)];
        let (mut metrics, total, method) = (Metrics::default(), Total { examples: 1, tokens: 0 }, PlackettLuce { beta: 1.0 });
        metrics.ranking(&answers, &method.loss(&answers, &total, &mut [0.0; 3]).unwrap());
        metrics.ranking(&answers[..1], &method.loss(&answers[..1], &total, &mut [0.0]).unwrap());
        assert_eq!(named(&metrics, "rewards/accuracies"), Some(2.0 / 3.0));
        assert_eq!(named(&metrics, "rewards/chosen"), Some(-1.0));
        assert_eq!(named(&metrics, "rewards/margins"), Some(2.0));
        assert_eq!(named(&metrics, "logps/rejected"), Some(-3.0));
    }

    #[test]
    fn likes_alone_have_a_reward_and_no_margin() {
        let mut metrics = Metrics::default();
        metrics.rating(&Answer { sum: -3.0, tokens: 2, reference: -4.0 }, true, &AnswerLoss { reward: 0.1, ..AnswerLoss::default() });
        assert_eq!(named(&metrics, "rewards/chosen"), Some(0.1));
        assert_eq!(named(&metrics, "rewards/margins"), None);
        assert_eq!(named(&metrics, "rewards/rejected"), None);
    }
}
