//! `attune prefer`: an adapter from preferences, in a run folder.

use super::tune::{RunArgs, whole};
use crate::failure::Outcome;
use crate::output::Output;
use attune::job::Config;
use attune::prefer::{PreferOptions, Reference};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Tune an adapter on preferences: pairs of a better and a worse answer, answers that are liked or not, answers in order. The run folder is as that of
/// tune.
#[derive(Args)]
pub(crate) struct Prefer {
    /// dpo, cdpo, ipo, hinge, robust, apo_zero, apo_down and others of DPO's family, kto, apo_zero_unpaired, orpo, simpo, cpo, plackett_luce
    /// [default: dpo]
    #[arg(long, value_name = "METHOD", help_heading = "Preferences")]
    method: Option<String>,
    /// JSON lines or a JSON array: prompt/chosen/rejected, prompt/completion/label, prompt/completions best first, or the same as messages or ids; or a
    /// feedback store. Of a ranking, methods that learn from pairs take neighbours, and kto and apo_zero_unpaired the best answer as liked and the worst as
    /// disliked; of a pair, these take both
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    data: Option<PathBuf>,
    /// What answers are measured against: the adapter that tuning starts from, or the adapter switched off [default: init]
    #[arg(long, value_name = "WHICH", help_heading = "Preferences")]
    reference: Option<ReferenceArg>,
    /// The loss within the method's family
    #[arg(long, value_name = "LOSS", help_heading = "Preferences")]
    loss_type: Option<String>,
    /// How hard the reference holds; of orpo the weight of the odds; of simpo and cpo the scale of the rewards [default: 0.1]
    #[arg(long, value_name = "BETA", help_heading = "Preferences")]
    beta: Option<f64>,
    /// The probability that a label is wrong (dpo, cdpo, robust, exo_pair, cpo, simpo) [default: 0; of cdpo 0.1, of exo_pair 0.001]
    #[arg(long, value_name = "P", help_heading = "Preferences")]
    label_smoothing: Option<f64>,
    /// The margin that the chosen answer is to win by [default: 0.5]
    #[arg(long, value_name = "GAMMA", help_heading = "Preferences")]
    simpo_gamma: Option<f64>,
    /// The weight of the chosen answers' likelihood [default: 1 in cpo, 0 in simpo]
    #[arg(long, value_name = "ALPHA", help_heading = "Preferences")]
    cpo_alpha: Option<f64>,
    /// What orpo's likelihood runs over: sequence (prompt and chosen answer) or completion [default: sequence]
    #[arg(long, value_name = "WHAT", help_heading = "Preferences")]
    orpo_nll: Option<String>,
    /// The weight of liked answers in kto [default: 1]
    #[arg(long, value_name = "WEIGHT", help_heading = "Preferences")]
    desirable_weight: Option<f64>,
    /// The weight of disliked ones [default: 1]
    #[arg(long, value_name = "WEIGHT", help_heading = "Preferences")]
    undesirable_weight: Option<f64>,
    /// DPO's divergence: reverse_kl, forward_kl, js_divergence or alpha_divergence [default: reverse_kl]
    #[arg(long, value_name = "DIVERGENCE", help_heading = "Preferences")]
    f_divergence_type: Option<String>,
    /// Alpha of alpha_divergence [default: 0.5]
    #[arg(long, value_name = "ALPHA", help_heading = "Preferences")]
    f_alpha_divergence_coef: Option<f64>,
    /// The temperature of discopop [default: 0.05]
    #[arg(long, value_name = "TAU", help_heading = "Preferences")]
    discopop_tau: Option<f64>,
    /// Compute a prompt anew for each of its answers; the gradients are the same
    #[arg(long, help_heading = "Preferences")]
    no_share_prompts: bool,
    /// Stop where the divergence from the reference on held-out answers is larger, in nats a token (the mean of k3), and keep the best adapter within;
    /// 0: never [default: 0]
    #[arg(long, value_name = "NATS", help_heading = "Watching")]
    max_kl: Option<f64>,
    /// Supervised examples of what the model can do and must not lose: their loss is watched
    #[arg(long, value_name = "FILE", help_heading = "Watching")]
    guard_data: Option<PathBuf>,
    /// By what share the guarding loss may rise; an adapter beyond is not kept [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Watching")]
    guard_tolerance: Option<f64>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ReferenceArg {
    /// The adapter that tuning starts from
    Init,
    /// The adapter switched off
    Base,
}

impl From<ReferenceArg> for Reference {
    fn from(which: ReferenceArg) -> Reference {
        match which {
            ReferenceArg::Init => Reference::Init,
            ReferenceArg::Base => Reference::Base,
        }
    }
}

impl Prefer {
    pub(crate) fn run(mut self, out: &Output) -> Outcome {
        let (data, guard) = (self.data.take(), self.guard_data.as_ref().map(|path| whole(path)).transpose()?);
        let asked = Asked { guard, ..self.asked() };
        let fresh = |mut config: Config| {
            config.options.learning_rate = PreferOptions::LEARNING_RATE;
            config.preference = Some(PreferOptions::default());
            config
        };
        self.run.run(out, "prefer", data.as_ref(), fresh, &|config| asked.apply(config))
    }

    fn asked(&self) -> Asked {
        Asked {
            guard: None,
            tolerance: self.guard_tolerance,
            max_kl: self.max_kl,
            method: self.method.clone(),
            reference: self.reference.map(Into::into),
            apart: self.no_share_prompts,
            options: PreferOptions {
                loss_type: self.loss_type.clone(),
                beta: self.beta,
                label_smoothing: self.label_smoothing,
                simpo_gamma: self.simpo_gamma,
                cpo_alpha: self.cpo_alpha,
                orpo_nll: self.orpo_nll.clone(),
                desirable_weight: self.desirable_weight,
                undesirable_weight: self.undesirable_weight,
                f_divergence_type: self.f_divergence_type.clone(),
                f_alpha_divergence_coef: self.f_alpha_divergence_coef,
                discopop_tau: self.discopop_tau,
                ..PreferOptions::default()
            },
        }
    }
}

/// What flags say; what they do not say stays as it is.
struct Asked {
    guard: Option<PathBuf>,
    tolerance: Option<f64>,
    max_kl: Option<f64>,
    method: Option<String>,
    reference: Option<Reference>,
    apart: bool,
    /// Of these, what is unset by default.
    options: PreferOptions,
}

impl Asked {
    fn apply(&self, config: &mut Config) -> Outcome {
        let Some(to) = &mut config.preference else {
            return Err(crate::failure::Failure::Usage(
                "--resume: the folder holds a run of another kind; go on with attune tune --resume or attune reward train --resume".into(),
            ));
        };
        fn set<T: Clone>(to: &mut Option<T>, from: &Option<T>) {
            if from.is_some() {
                to.clone_from(from);
            }
        }
        let from = &self.options;
        set(&mut to.loss_type, &from.loss_type);
        set(&mut to.orpo_nll, &from.orpo_nll);
        set(&mut to.f_divergence_type, &from.f_divergence_type);
        set(&mut to.beta, &from.beta);
        set(&mut to.label_smoothing, &from.label_smoothing);
        set(&mut to.simpo_gamma, &from.simpo_gamma);
        set(&mut to.cpo_alpha, &from.cpo_alpha);
        set(&mut to.desirable_weight, &from.desirable_weight);
        set(&mut to.undesirable_weight, &from.undesirable_weight);
        set(&mut to.f_alpha_divergence_coef, &from.f_alpha_divergence_coef);
        set(&mut to.discopop_tau, &from.discopop_tau);
        if let Some(method) = &self.method {
            to.method.clone_from(method);
        }
        to.reference = self.reference.unwrap_or(to.reference);
        to.share_prompts &= !self.apart;
        to.max_kl = self.max_kl.unwrap_or(to.max_kl);
        to.guard_tolerance = self.tolerance.unwrap_or(to.guard_tolerance);
        set(&mut config.guard_data, &self.guard);
        Ok(())
    }
}
