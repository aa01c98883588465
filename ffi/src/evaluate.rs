//! Measuring a model and an adapter on examples, without learning.

use crate::adapter;
use crate::caller::{Caller, Struct};
use crate::cancel::{self, attune_cancel};
use crate::error::attune_error;
use crate::session::{ATTUNE_PRECISION_FAST, ATTUNE_TARGET_CPU, precision, threads};
use crate::status::{ATTUNE_ERROR_CANCELLED, Failure};
use crate::{attune_adapter, attune_data, attune_model, attune_status, call, data, model, plain};
use attune::template::MaskOptions;
use attune::tuner::{Examples, Scorer, TuneOptions};

/// How to measure.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_evaluate_options {
    /// `sizeof(attune_evaluate_options)`; `attune_evaluate_options_default` sets it.
    pub size: u32,
    /// Tokens of the longest example; 0: 1024, at most the model's context.
    pub max_length: u32,
    /// Threads; 0: as many as the processor runs at once.
    pub threads: u32,
    /// `ATTUNE_PRECISION_…`.
    pub precision: u32,
    /// `ATTUNE_TARGET_…`.
    pub target: u32,
    /// 0.
    pub reserved: u32,
    /// Bytes that it may take above the model file; 0: as many as it takes.
    pub budget_bytes: u64,
    /// The adapter to measure; NULL: the model alone.
    pub adapter: *const attune_adapter,
    /// Ends it from another thread; may be NULL.
    pub cancel: *const attune_cancel,
}

/// What a model makes of examples.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_evaluation {
    /// `sizeof(attune_evaluation)`.
    pub size: u32,
    /// Examples with at least one target.
    pub examples: u32,
    /// Tokens that were to be predicted.
    pub target_tokens: u64,
    /// Mean negative log-probability of the targets, natural logarithm.
    pub loss: f64,
    /// `e^loss`.
    pub perplexity: f64,
    /// Share of targets that were the likeliest token.
    pub token_accuracy: f64,
}

plain! {
    attune_evaluate_options = attune_evaluate_options {
        size: size_of::<attune_evaluate_options>() as u32,
        max_length: 0, threads: 0, precision: ATTUNE_PRECISION_FAST, target: ATTUNE_TARGET_CPU, reserved: 0, budget_bytes: 0,
        adapter: std::ptr::null(), cancel: std::ptr::null(),
    };
    attune_evaluation = attune_evaluation {
        size: size_of::<attune_evaluation>() as u32, examples: 0, target_tokens: 0, loss: 0.0, perplexity: 0.0, token_accuracy: 0.0,
    };
}

/// Sets all options to their defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_evaluate_options_default(options: *mut attune_evaluate_options) {
    // SAFETY: as the header asks.
    unsafe { crate::caller::write_default(options) };
}

/// Measures a model, with or without an adapter, on examples. `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_evaluate(
    model: *const attune_model,
    data: *const attune_data,
    options: *const attune_evaluate_options,
    evaluation: *mut attune_evaluation,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (model, data, raw, out) = (model::of(model)?, data::of(data)?, c.options(options)?, c.out_struct(evaluation)?);
        let (adapter, cancel) = (adapter::of_if(raw.adapter)?, cancel::of(raw.cancel)?);
        let options = TuneOptions {
            max_length: raw.max_length as usize,
            budget: (raw.budget_bytes > 0).then_some(raw.budget_bytes),
            threads: threads(raw.threads, raw.target)?,
            precision: precision(raw.precision)?,
            ..TuneOptions::default()
        };
        let keep = |_| !cancel.is_asked();
        let examples = Examples::prepare(&model, data, options.length_for(model.spec()), MaskOptions::default(), keep, |_| {});
        if cancel.is_asked() {
            return Err(Failure::new(ATTUNE_ERROR_CANCELLED, "cancelled while the examples were read"));
        }
        let mut scorer = Scorer::new(&model, adapter.as_deref(), &options)?;
        scorer.cancel_with(cancel.clone());
        let found = scorer.score(&examples?, |_, _, _| Ok(()))?;
        out.set(attune_evaluation {
            examples: found.examples as u32,
            target_tokens: found.target_tokens as u64,
            loss: found.loss,
            perplexity: found.perplexity,
            token_accuracy: found.token_accuracy,
            ..<attune_evaluation as Struct>::default()
        });
        Ok(())
    })
}
