//! Structs of the C header as arrays of longs: their numbers in the header's order, without `size` and `reserved`; floats as their bits.

use crate::boundary::{Failure, Outcome};
use attune_ffi::*;

/// A struct that goes as an array.
pub(crate) trait Fields: Sized {
    /// All zeros but its size, as the header's `ATTUNE_INIT`.
    fn zeroed() -> Self;
    /// Sets its numbers.
    fn read(&mut self, from: &[i64]) -> Outcome;
    /// Its numbers.
    fn write(&self) -> Vec<i64>;
}

/// Options with the numbers of an array, and nothing else set.
pub(crate) fn options<T: Fields>(from: &[i64]) -> Outcome<T> {
    let mut options = T::zeroed();
    options.read(from)?;
    Ok(options)
}

/// Calls a function that fills a struct, and gives its numbers.
pub(crate) fn filled<T: Fields>(function: impl FnOnce(*mut T, *mut attune_error) -> attune_status) -> Outcome<Vec<i64>> {
    let mut found = T::zeroed();
    crate::boundary::call(|error| function(&raw mut found, error))?;
    Ok(found.write())
}

/// A number of a struct.
trait Number: Sized {
    fn from_long(long: i64, name: &str) -> Outcome<Self>;
    fn to_long(self) -> i64;
}

impl Number for u32 {
    fn from_long(long: i64, name: &str) -> Outcome<u32> {
        u32::try_from(long).map_err(|_| Failure::option(name, "a number from 0 to 4294967295", long))
    }
    fn to_long(self) -> i64 {
        self.into()
    }
}

impl Number for u64 {
    fn from_long(long: i64, name: &str) -> Outcome<u64> {
        u64::try_from(long).map_err(|_| Failure::option(name, "0 or more", long))
    }
    fn to_long(self) -> i64 {
        self.cast_signed()
    }
}

impl Number for f32 {
    fn from_long(long: i64, _: &str) -> Outcome<f32> {
        Ok(f32::from_bits(long as u32))
    }
    fn to_long(self) -> i64 {
        self.to_bits().into()
    }
}

impl Number for f64 {
    fn from_long(long: i64, _: &str) -> Outcome<f64> {
        Ok(f64::from_bits(long.cast_unsigned()))
    }
    fn to_long(self) -> i64 {
        self.to_bits().cast_signed()
    }
}

macro_rules! fields {
    ($($type:ident { $($field:ident)* })*) => {$(
        impl Fields for $type {
            fn zeroed() -> $type {
                // SAFETY: numbers, and pointers and functions that may be NULL.
                let mut zeroed: $type = unsafe { std::mem::zeroed() };
                zeroed.size = size_of::<$type>() as u32;
                zeroed
            }

            fn read(&mut self, from: &[i64]) -> Outcome {
                let names: &[&str] = &[$(stringify!($field)),*];
                if from.len() != names.len() {
                    return Err(Failure::option(stringify!($type), &format!("{} numbers", names.len()), from.len()));
                }
                let mut from = from.iter().copied();
                $(self.$field = Number::from_long(from.next().unwrap_or(0), stringify!($field))?;)*
                Ok(())
            }

            fn write(&self) -> Vec<i64> {
                vec![$(self.$field.to_long()),*]
            }
        }
    )*};
}

fields! {
    attune_model_info { layers width feed_forward heads kv_heads head_dim vocabulary context has_tokenizer file_bytes }
    attune_plan_totals { buffers total_bytes adapter_bytes cache_bytes work_bytes host_bytes weights_bytes }
    attune_session_options { context prefill_batch kv_type max_rank threads precision target adapter_bytes budget_bytes }
    attune_generate_options { max_tokens temperature top_k top_p min_p repeat_penalty repeat_last seed }
    attune_generation { finish_reason prompt_tokens answer_tokens text_length }
    attune_adapter_info { rank alpha use_rslora target_modules first_layer layers parameters steps }
    attune_tune_options {
        rank alpha dropout use_rslora loraplus_lr_ratio target_modules layers learning_rate schedule weight_decay beta1 beta2 epsilon max_grad_norm optim
        batch_size gradient_accumulation max_length packing shuffle early_stopping threads precision target reference warmup epochs steps eval_every seed
        budget_bytes beta label_smoothing simpo_gamma cpo_alpha desirable_weight undesirable_weight guard_tolerance max_kl
    }
    attune_reinforce_options { num_generations max_completion_length temperature top_p top_k num_iterations max_kl min_entropy max_entropy }
    attune_progress {
        done step total_steps target_tokens loss eval_loss eval_token_accuracy preference_accuracy preference_margin kl reward tokens_per_second seconds
        grad_norm learning_rate
    }
    attune_run_options { milliseconds max_steps evaluate }
    attune_run { reason steps }
    attune_evaluate_options { max_length threads precision target budget_bytes }
    attune_evaluation { examples target_tokens loss perplexity token_accuracy }
    attune_feedback_options { drop_oldest on_flush max_bytes }
    attune_reward_options { max_length batch_tokens threads precision target budget_bytes }
}

/// What the `_default` function of a struct sets, by the struct's name.
pub(crate) fn defaults(name: &[u8]) -> Outcome<Vec<i64>> {
    macro_rules! of {
        ($($type:ident $function:ident),*) => {
            match name {
                $(name if name == stringify!($type).as_bytes() => {
                    let mut options = $type::zeroed();
                    // SAFETY: there is room for one.
                    unsafe { $function(&raw mut options) };
                    Ok(options.write())
                })*
                _ => Err(Failure::option("name", "a struct that has defaults", String::from_utf8_lossy(name))),
            }
        };
    }
    of!(
        attune_session_options attune_session_options_default,
        attune_generate_options attune_generate_options_default,
        attune_tune_options attune_tune_options_default,
        attune_reinforce_options attune_reinforce_options_default,
        attune_run_options attune_run_options_default,
        attune_evaluate_options attune_evaluate_options_default,
        attune_feedback_options attune_feedback_options_default,
        attune_reward_options attune_reward_options_default
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn defaults_come_back_as_they_are() {
        let numbers = defaults(b"attune_tune_options").ok().unwrap();
        let options: attune_tune_options = options(&numbers).ok().unwrap();
        assert_eq!((options.rank, options.alpha, options.seed), (8, 16.0, 42));
        assert!(options.beta.is_nan());
        assert_eq!(options.write(), numbers);
    }

    #[test]
    fn another_length_and_numbers_out_of_range_are_refused() {
        assert!(options::<attune_run_options>(&[0, 0]).is_err());
        assert!(options::<attune_run_options>(&[-1, 0, 0]).is_err());
        assert!(options::<attune_run_options>(&[1 << 32, 0, 0]).is_err());
        assert!(options::<attune_run_options>(&[u32::MAX.into(), 0, 0]).is_ok());
        assert!(defaults(b"attune_run").is_err());
    }
}
