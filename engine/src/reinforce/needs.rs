//! What a reinforcement run takes, before it is taken.

use super::ReinforceOptions;
use crate::error::Result;
use crate::session::KvType;
use crate::tuner::TuneOptions;
use attune_core::objective::Reinforce;
use attune_core::target::Store;

/// What a reinforcement run needs besides what every tuning run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Tokens of the longest prompt.
    pub(crate) prompt: usize,
    /// Tokens of the longest answer.
    pub(crate) completion: usize,
    /// Answers to a prompt.
    pub(crate) members: usize,
    /// Prompts of an update.
    pub(crate) prompts: usize,
    /// Tokens of the longest guarding example.
    pub(crate) guard: usize,
    /// How sampling keeps keys and values.
    pub(crate) kv: Store,
    /// How many lists of log-probabilities wait for an update.
    pub(crate) kept_logprobs: usize,
    /// Whether the starting parameters are kept.
    pub(crate) starts: bool,
}

impl Needs {
    /// Of a run whose longest prompt has `prompt` tokens; 0: as many as fit. `max_length` must be set.
    pub(crate) fn new(options: &TuneOptions, reinforce: &ReinforceOptions, prompt: usize, guard: usize) -> Result<Needs> {
        reinforce.check(options, options.max_length)?;
        let completion = reinforce.completion_length(options.max_length);
        let objective = reinforce.objective(completion)?;
        let early = matches!(objective, Reinforce::Rloo(_)) && objective.uses_reference();
        let kept = usize::from(reinforce.measures_kl(&objective)) + usize::from(early || reinforce.num_iterations > 1);
        Ok(Needs {
            prompt: if prompt > 0 { prompt } else { options.max_length - completion },
            completion,
            members: reinforce.generations(),
            prompts: reinforce.prompts(options),
            guard,
            kv: reinforce.kv_type.map_or(Store::F16, KvType::store),
            kept_logprobs: kept,
            starts: false,
        })
    }

    /// Tokens of the longest sequence.
    pub(crate) fn longest(&self) -> usize {
        (self.prompt + self.completion).max(self.guard)
    }

    /// Rows of the cache that a prompt and its answers take.
    pub(crate) fn rows(&self) -> usize {
        self.prompt + self.members * self.completion
    }

    /// Tokens of a micro-batch of so many answers.
    pub(crate) fn micro_tokens(&self, answers: usize) -> usize {
        let aligned = answers.is_multiple_of(self.members) || self.members.is_multiple_of(answers);
        let groups = answers.div_ceil(self.members) + usize::from(!aligned);
        // Each answer begins with the prompt's last token, which is in the batch once a group besides.
        let alone = answers * (self.prompt + self.completion);
        (groups * self.prompt + answers * (self.completion + 1)).min(alone).max(self.longest())
    }

    /// How many micro-batches of `capacity` tokens an update may need, if each has up to `answers` answers.
    pub(crate) fn micro_batches(&self, answers: usize, capacity: usize) -> usize {
        let all = self.prompts * self.members;
        if capacity >= self.micro_tokens(answers) {
            return all.div_ceil(answers);
        }
        let each = capacity.saturating_sub(self.prompt) / (self.completion + 1);
        // A micro-batch that the next answer does not fit into; and one that a new prompt begins.
        (all.div_ceil(each.clamp(1, answers)) + self.prompts).min(all)
    }
}
