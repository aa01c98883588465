//! Tuning settings that were found to work for the built-in model and its tuning set.

/// Rank of the adapter.
pub const RANK: usize = 32;
/// Its alpha: the adapter's output is scaled by `ALPHA / RANK`.
pub const ALPHA: f32 = 64.0;
/// The linear maps that it adapts, by PEFT's names.
pub const TARGET_MODULES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
/// Highest learning rate, reached after [`WARMUP_STEPS`] and brought down along a cosine.
pub const LEARNING_RATE: f32 = 3e-3;
/// Steps of linear warm-up.
pub const WARMUP_STEPS: usize = 10;
/// Examples a step.
pub const BATCH_SIZE: usize = 16;
/// Passes over the tuning set.
pub const EPOCHS: usize = 6;
/// Adam's second beta.
pub const BETA2: f32 = 0.99;
/// The gradient's norm is clipped to this.
pub const MAX_GRAD_NORM: f32 = 1.0;
/// Tokens that the longest example takes, its turn's end included.
pub const MAX_LENGTH: usize = 64;
/// Tokens that an answer may take. One that has not ended by then is none.
pub const MAX_NEW_TOKENS: usize = 40;

/// How the person's edits are learnt: the method, as `attune prefer` calls it.
pub const PREFERENCE_METHOD: &str = "cpo";
/// Its beta.
pub const PREFERENCE_BETA: f64 = 0.1;
/// Its learning rate.
pub const PREFERENCE_LEARNING_RATE: f32 = 1e-3;
/// Passes over the edits.
pub const PREFERENCE_EPOCHS: usize = 3;
/// Pairs an update.
pub const PREFERENCE_BATCH_SIZE: usize = 8;
/// Instructions of the tuning set whose answers the person looks at.
pub const PREFERENCE_PROMPTS: usize = 320;
