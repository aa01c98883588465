/*
 * attune.h - Attune for C: open a quantised GGUF model on a device, answer with it, tune adapters on it.
 *
 * This file is generated from the library's sources. attune.hpp beside it is the same for C++17.
 *
 * CONVENTIONS
 *
 * Calls. A call that can fail returns an attune_status: ATTUNE_OK (0), or one of ATTUNE_ERROR_. Codes are grouped by hundreds
 *     (1xx: the call is wrong, 2xx: the system, 3xx: files and data, 4xx: the work ended, 9xx: a defect of the library); none is
 *     ever given another meaning. Results are written only on success; after an error they are as they were.
 *
 * Errors. The last parameter is where the message goes: `attune_error error = ATTUNE_INIT(attune_error);`, or NULL. It is written
 *     only on failure: what was expected, what was found, what to do. It is the caller's own memory: nothing to free, and no
 *     state of a thread. Messages longer than its room are cut between characters.
 *
 * Structs. Each begins with its `size`, which lets the library tell which version of the header it comes from. Options: call the
 *     struct's `_default` function, change what you want. Results: `ATTUNE_INIT(type)`. Another size is ATTUNE_ERROR_STRUCT_SIZE.
 *     A NULL for options means all defaults. Fields called `reserved` are 0.
 *
 * Handles. attune_model, attune_session, ... are handles: pointers to nothing that may be followed. NULL, one that was freed, or
 *     one of another type is an error, never a crash. Each is freed by its `attune_..._free`, in any order: what was made of
 *     another keeps what it needs of it. Freeing NULL does nothing.
 *
 * Memory. What the caller passes in is read or written during the call and not kept, unless the function says so
 *     (attune_model_open_memory). What the library makes is behind handles; it returns no pointer that is to be freed.
 *
 * Text. UTF-8 with a length, as attune_text; `attune_str("...")` makes one of a C string. Anything else is ATTUNE_ERROR_UTF8. Text
 *     that comes out is copied into `buffer` of `size` bytes, cut between characters, and ended with NUL; `length` (may be NULL)
 *     gets the bytes of all of it, without NUL. With a size of 0 nothing but the length is given. Arrays likewise.
 *
 * Threads. Any handle may be used from any thread. Models, adapters, plans and cancellations from several at once; sessions,
 *     tuners, sets of examples and feedback stores by one call at a time: a second one is ATTUNE_ERROR_BUSY, and does not wait.
 *     attune_tuner_get_progress and the attune_cancel_ functions work at any time.
 *
 * Callbacks. Run in the thread of the call, except the log's, which runs in any. They may call the library; with a handle that is at
 *     work, that is ATTUNE_ERROR_BUSY. They must return: no longjmp and no exception may leave them. What they are given is
 *     valid until they return.
 *
 * Panics. None leaves the library. A defect in it becomes ATTUNE_ERROR_INTERNAL, and the handle that was at work is
 *     ATTUNE_ERROR_BROKEN from then on: free it, and go on.
 *
 * Versions. Compare attune_abi_version() with ATTUNE_ABI_VERSION at start. The same number means that this header fits.
 */


#ifndef ATTUNE_H
#define ATTUNE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* A struct of this type, all zeros but its size: for results and errors. */
#ifdef __cplusplus
#define ATTUNE_INIT(type) (attune_init_<type>())
#else
#define ATTUNE_INIT(type) {.size = sizeof(type)}
#endif

// Rises when a program that was built with an older header would no longer run: a function's signature or a struct's meaning has changed. New functions and
// new status codes do not raise it.
#define ATTUNE_ABI_VERSION 1

// Bytes of a message's room, its terminating NUL included.
#define ATTUNE_MESSAGE_SIZE 488

// Nothing.
#define ATTUNE_LOG_OFF 0

// What has failed.
#define ATTUNE_LOG_ERROR 1

// What is not as it should be, and was dealt with: an example that is left out, a store that was damaged.
#define ATTUNE_LOG_WARN 2

// What happens.
#define ATTUNE_LOG_INFO 3

// All of it.
#define ATTUNE_LOG_DEBUG 4

// Bytes of the longest name of a buffer, its NUL included.
#define ATTUNE_NAME_SIZE 48

// Whatever fits: f16, or smaller where the budget asks for it.
#define ATTUNE_KV_AUTO 0

// Keys and values of 4 bytes a number.
#define ATTUNE_KV_F32 1

// Of 2 bytes a number.
#define ATTUNE_KV_F16 2

// Of 34 bytes a block of 32.
#define ATTUNE_KV_Q8_0 3

// Inputs of products may be rounded, sums are not.
#define ATTUNE_PRECISION_FAST 0

// Nothing is rounded.
#define ATTUNE_PRECISION_F32 1

// The processor.
#define ATTUNE_TARGET_CPU 0

// The model ended its turn, or a stop string came.
#define ATTUNE_FINISH_STOP 0

// `max_tokens` were made.
#define ATTUNE_FINISH_LENGTH 1

// The context is full.
#define ATTUNE_FINISH_CONTEXT 2

// The callback or the cancellation asked for an end.
#define ATTUNE_FINISH_CANCELLED 3

// Where memory that is given must start: at a multiple of so many bytes.
#define ATTUNE_ALIGNMENT 64

// Attune's own file.
#define ATTUNE_FORMAT_NATIVE 0

// A folder that PEFT loads.
#define ATTUNE_FORMAT_PEFT 1

// A GGUF file that llama.cpp loads.
#define ATTUNE_FORMAT_GGUF 2

// The learning rate falls to zero in a straight line.
#define ATTUNE_SCHEDULE_LINEAR 0

// It stays.
#define ATTUNE_SCHEDULE_CONSTANT 1

// It falls to zero along half a cosine.
#define ATTUNE_SCHEDULE_COSINE 2

// AdamW with f32 state, or 8-bit state where the budget asks for it.
#define ATTUNE_OPTIM_AUTO 0

// 8 bytes a parameter.
#define ATTUNE_OPTIM_ADAMW 1

// 2 bytes a parameter.
#define ATTUNE_OPTIM_ADAMW_8BIT 2

// `q_proj`.
#define ATTUNE_MODULE_Q 1

// `k_proj`.
#define ATTUNE_MODULE_K 2

// `v_proj`.
#define ATTUNE_MODULE_V 4

// `o_proj`.
#define ATTUNE_MODULE_O 8

// `gate_proj`.
#define ATTUNE_MODULE_GATE 16

// `up_proj`.
#define ATTUNE_MODULE_UP 32

// `down_proj`.
#define ATTUNE_MODULE_DOWN 64

// All seven.
#define ATTUNE_MODULE_ALL 127

// Preferences are measured against the adapter that tuning starts from.
#define ATTUNE_REFERENCE_INIT 0

// They are measured against the model without an adapter.
#define ATTUNE_REFERENCE_BASE 1

// All updates are done, or evaluations have not become better for too long.
#define ATTUNE_RUN_DONE 0

// The time is up.
#define ATTUNE_RUN_TIME 1

// As many updates are done as were asked for.
#define ATTUNE_RUN_STEPS 2

// The callback asked for a pause.
#define ATTUNE_RUN_PAUSED 3

// The cancellation asked for an end.
#define ATTUNE_RUN_CANCELLED 4

// The answer is liked.
#define ATTUNE_THUMB_UP 0

// The answer is disliked.
#define ATTUNE_THUMB_DOWN 1

// An earlier thumb is taken back.
#define ATTUNE_THUMB_WITHDRAWN 2

// Conversations for supervised tuning: answers that are liked, and what edits left.
#define ATTUNE_LEARN_EXAMPLES 0

// Pairs of a better and a worse answer, for DPO and its family.
#define ATTUNE_LEARN_PAIRS 1

// Liked and disliked answers, for KTO.
#define ATTUNE_LEARN_RATINGS 2

// Answers in order, for Plackett-Luce.
#define ATTUNE_LEARN_RANKINGS 3

// An adapter in memory. It does not change; tuning gives new ones.
typedef struct attune_adapter attune_adapter;

// A request to end, which calls are put under by their options. It works from any thread, at any time, and for as many calls as are under it; it stays asked
// until it is taken back.
typedef struct attune_cancel attune_cancel;

// Examples to learn from, or to measure with: of one kind.
typedef struct attune_data attune_data;

// A feedback store that is open for writing. There is one at a time for a file, in all processes; one call at a time.
typedef struct attune_feedback attune_feedback;

// An opened model. Sessions, adapters and tuners keep what they need of it: it may be freed before them.
typedef struct attune_model attune_model;

// Every buffer that a session or a tuner takes.
typedef struct attune_plan attune_plan;

// A model that scores answers: an adapter that was tuned with the method `reward`. One call at a time.
typedef struct attune_reward attune_reward;

// A conversation with a model. One call at a time.
typedef struct attune_session attune_session;

// Learns from examples, or from preferences. One call at a time, but for `attune_tuner_get_progress`.
typedef struct attune_tuner attune_tuner;

// What a function returns: `ATTUNE_OK`, or why it could not do what it was asked. Codes are grouped by hundreds and never change their meaning; treat one that
// you do not know as the last of its group that you do.
typedef int32_t attune_status;

// Why a call failed. Set `size`, and pass it to any call, or pass NULL; it is written only when the call fails.
typedef struct attune_error {
    // `sizeof(attune_error)`. A larger number is allowed where that much room follows: messages may then be longer.
    uint32_t size;
    // What the call returned.
    attune_status status;
    // Bytes that would do, with `ATTUNE_ERROR_BUDGET` and `ATTUNE_ERROR_TOO_SMALL`.
    uint64_t needed_bytes;
    // A finer number that stays the same in all versions, or 0.
    uint32_t detail;
    // Bytes of the whole message without its NUL, as it would be with enough room.
    uint32_t message_length;
    // What was expected, what was found and what to do: UTF-8, ends with NUL, cut between characters where there is no room.
    char message[ATTUNE_MESSAGE_SIZE];
} attune_error;

// A text that is given to a call: UTF-8, `length` bytes, no NUL needed. `{NULL, 0}` is no text at all. `attune_str` makes one of a C string.
typedef struct attune_text {
    // The first byte.
    const char *data;
    // Bytes.
    size_t length;
} attune_text;

// Hears of what happens, from any thread and from several at once; `message` is valid during the call and has no NUL. It must not call the library.
typedef void (*attune_log_fn)(void *user, uint32_t level, struct attune_text message);

// Reads `size` bytes from `offset` on into `buffer`, all of them; returns 0, or another number where that cannot be done.
typedef int32_t (*attune_read_fn)(void *user, uint64_t offset, void *buffer, size_t size);

// Bytes that come through a function of the app: an encrypted store, an archive.
typedef struct attune_reader {
    // `sizeof(attune_reader)`.
    uint32_t size;
    // 0.
    uint32_t reserved;
    // Bytes of the model file.
    uint64_t length;
    // Reads some of them; called in the thread of the call, never after it.
    attune_read_fn read_at;
    // Handed to `read_at`.
    void *user;
} attune_reader;

// Called once, when the library no longer needs bytes that it was lent.
typedef void (*attune_release_fn)(void *user);

// What a model is.
typedef struct attune_model_info {
    // `sizeof(attune_model_info)`.
    uint32_t size;
    // Blocks.
    uint32_t layers;
    // Width of the residual stream.
    uint32_t width;
    // Width of the feed-forward part.
    uint32_t feed_forward;
    // Query heads.
    uint32_t heads;
    // Key and value heads.
    uint32_t kv_heads;
    // Width of a head.
    uint32_t head_dim;
    // Entries of the vocabulary.
    uint32_t vocabulary;
    // Tokens of the longest context that it was trained for.
    uint32_t context;
    // 1 if the file has a tokenizer: without one, only token ids can be used.
    uint32_t has_tokenizer;
    // Bytes of the file.
    uint64_t file_bytes;
} attune_model_info;

// What a session is planned for.
typedef struct attune_session_options {
    // `sizeof(attune_session_options)`; `attune_session_options_default` sets it.
    uint32_t size;
    // Tokens of the longest conversation; 0: the model's own context, at most 2048.
    uint32_t context;
    // Tokens that are taken in at once. Default: 256.
    uint32_t prefill_batch;
    // `ATTUNE_KV_…`.
    uint32_t kv_type;
    // The largest rank of an adapter that will be added. Default: 0, no adapters.
    uint32_t max_rank;
    // Threads; 0: as many as the processor runs at once.
    uint32_t threads;
    // `ATTUNE_PRECISION_…`.
    uint32_t precision;
    // `ATTUNE_TARGET_…`.
    uint32_t target;
    // Bytes that adapters will take, 4 a parameter: what the plan makes room for.
    uint64_t adapter_bytes;
    // Bytes that the session may take above the model file; 0: as many as it takes.
    uint64_t budget_bytes;
} attune_session_options;

// Scores answers to one prompt: writes a number for each into `scores`. Returns 0, or another number where it cannot, which ends the run. Called in the thread of
// the call; what is given is valid until it returns.
typedef int32_t (*attune_reward_fn)(void *user,
                                    struct attune_text prompt,
                                    const struct attune_text *answers,
                                    size_t count,
                                    double *scores);

// What tuning on rewards (`grpo`, `rloo`) needs besides. Always begin with `attune_reinforce_options_default`. An update takes `batch_size *
// gradient_accumulation` answers.
typedef struct attune_reinforce_options {
    // `sizeof(attune_reinforce_options)`; `attune_reinforce_options_default` sets it.
    uint32_t size;
    // Answers to each prompt; 0: 8 of grpo, 2 of rloo.
    uint32_t num_generations;
    // Tokens of the longest answer; 0: 256, at most half of `max_length`.
    uint32_t max_completion_length;
    // Logits are divided by it in sampling and in the policy that is tuned. Default: 1.
    float temperature;
    // Only the likeliest tokens that together reach this probability are sampled. Default: 1.
    float top_p;
    // Only so many likeliest; 0: all.
    uint32_t top_k;
    // Updates that are made from the same answers. Default: 1.
    uint32_t num_iterations;
    // 0.
    uint32_t reserved;
    // The run stops where the divergence from the reference is larger, in nats a token; 0: never. Default: 1.
    double max_kl;
    // The run stops where the policy's mean entropy is smaller, in nats a token; 0: never. Default: 0.
    double min_entropy;
    // The run stops where it is larger; 0: never. Default: 0.
    double max_entropy;
    // What answers are worth: `length:max=20`, `regex:…`, `json`, `answer`, `language:en`, `model:FOLDER`, …, summed by weights; may be NULL.
    const struct attune_text *rewards;
    // Their weights; NULL: 1 each.
    const double *reward_weights;
    // How many.
    size_t reward_count;
    // A reward of the app's own, of weight 1; may be NULL.
    attune_reward_fn on_reward;
    // Handed to `on_reward`.
    void *user;
} attune_reinforce_options;

// What a tuner is asked to do. Names are PEFT's and TRL's. Always begin with `attune_tune_options_default`.
typedef struct attune_tune_options {
    // `sizeof(attune_tune_options)`; `attune_tune_options_default` sets it.
    uint32_t size;
    // R of the adapter. Default: 8.
    uint32_t rank;
    // α: its scale is `alpha / rank`. Default: 16.
    float alpha;
    // The probability that an input of the adapter is dropped. Default: 0.
    float dropout;
    // Scale by `alpha / sqrt(rank)` if not 0.
    uint32_t use_rslora;
    // B learns so many times faster than A. Default: 1.
    float loraplus_lr_ratio;
    // Which linears: `ATTUNE_MODULE_…`, added up. Default: all.
    uint32_t target_modules;
    // Only the top so many layers; 0: all.
    uint32_t layers;
    // Peak learning rate; 0: 2e-4, or 5e-5 for preferences.
    float learning_rate;
    // `ATTUNE_SCHEDULE_…`. Default: linear.
    uint32_t schedule;
    // λ. Default: 0.
    float weight_decay;
    // β1 of AdamW. Default: 0.9.
    float beta1;
    // β2 of AdamW. Default: 0.999.
    float beta2;
    // ε of AdamW. Default: 1e-8.
    float epsilon;
    // Gradients are scaled down to this norm; 0: never. Default: 1.
    float max_grad_norm;
    // `ATTUNE_OPTIM_…`.
    uint32_t optim;
    // Examples of a micro-batch. Default: 1.
    uint32_t batch_size;
    // Micro-batches of an update. Default: 8.
    uint32_t gradient_accumulation;
    // Tokens of the longest example; longer ones lose their end. 0: 1024, at most the model's context.
    uint32_t max_length;
    // Several examples share a row of `max_length` tokens if not 0.
    uint32_t packing;
    // A new order each epoch if not 0. Default: 1.
    uint32_t shuffle;
    // Stop after so many evaluations without a better loss; 0: never.
    uint32_t early_stopping;
    // Threads; 0: as many as the processor runs at once. No result depends on it.
    uint32_t threads;
    // `ATTUNE_PRECISION_…`.
    uint32_t precision;
    // `ATTUNE_TARGET_…`.
    uint32_t target;
    // `ATTUNE_REFERENCE_…`, for preferences.
    uint32_t reference;
    // Updates during which the learning rate rises from 0.
    uint64_t warmup;
    // Passes over the examples. Default: 3.
    uint64_t epochs;
    // Updates in all; 0: as many as the epochs have.
    uint64_t steps;
    // Evaluate after so many updates; 0: after each epoch, where there are held-out examples.
    uint64_t eval_every;
    // Seed of order, initialisation and dropout. Default: 42.
    uint64_t seed;
    // Bytes that the tuner may take above the model file; 0: as many as it takes.
    uint64_t budget_bytes;
    // None for supervised tuning; for preferences `dpo`, `kto`, `orpo`, `simpo`, `cpo`, `plackett_luce`, `ipo`, …, as TRL calls them; `reward` for a reward model
    // from pairs or rankings; `grpo` or `rloo` for rewards.
    struct attune_text method;
    // The loss within the method's family; none: the usual one.
    struct attune_text loss_type;
    // β of the method. This one and the others below are NaN for the method's default; one that the method does not read is an error.
    double beta;
    // The probability that a preference is wrong.
    double label_smoothing;
    // SimPO's margin.
    double simpo_gamma;
    // The weight of the likelihood term of CPO and SimPO.
    double cpo_alpha;
    // KTO's λ_D.
    double desirable_weight;
    // KTO's λ_U.
    double undesirable_weight;
    // By what share the loss of `guard` may rise before an adapter is not kept. Default: 0.1.
    double guard_tolerance;
    // For preferences: the run stops where the divergence from the reference on held-out answers is larger, in nats a token; 0: never. Default: 0.
    double max_kl;
    // Held-out examples, of the same kind as those learnt from: the adapter that is best on them is kept. May be NULL.
    const struct attune_data *held_out;
    // For preferences: supervised examples of what the model can do already and must not lose. May be NULL.
    const struct attune_data *guard;
    // The adapter to go on from, whose shape is taken over; NULL: a fresh one.
    const struct attune_adapter *start;
    // Ends the reading of the examples from another thread; may be NULL.
    const struct attune_cancel *cancel;
    // What `grpo` and `rloo` need besides; else NULL.
    const struct attune_reinforce_options *reinforce;
} attune_tune_options;

// What a plan comes to.
typedef struct attune_plan_totals {
    // `sizeof(attune_plan_totals)`.
    uint32_t size;
    // How many buffers there are.
    uint32_t buffers;
    // What will be resident above the model file: the sum of the four below.
    uint64_t total_bytes;
    // Adapters, with gradients and optimiser state where one is tuned.
    uint64_t adapter_bytes;
    // Keys and values.
    uint64_t cache_bytes;
    // Activations and scratch.
    uint64_t work_bytes;
    // What the library keeps besides: vocabulary, logits, token lists.
    uint64_t host_bytes;
    // The model file; not part of the total where it is mapped.
    uint64_t weights_bytes;
} attune_plan_totals;

// One buffer of a plan.
typedef struct attune_plan_buffer {
    // `sizeof(attune_plan_buffer)`.
    uint32_t size;
    // Extents that `shape` has.
    uint32_t dimensions;
    // Its extents.
    uint64_t shape[4];
    // Bytes.
    uint64_t bytes;
    // What it is called; ends with NUL.
    char name[ATTUNE_NAME_SIZE];
    // `adapter`, `cache`, `work` or `host`; ends with NUL.
    char region[16];
    // How its numbers are stored; ends with NUL.
    char element_type[16];
} attune_plan_buffer;

// Hears of an answer's text as it comes: whole characters, `text` is valid during the call and has no NUL. Returns 0 to go on, another number to end the answer.
// Called in the thread of the call; it may call the library, but not with the same session.
typedef int32_t (*attune_token_fn)(void *user, struct attune_text text);

// How an answer is made.
typedef struct attune_generate_options {
    // `sizeof(attune_generate_options)`; `attune_generate_options_default` sets it.
    uint32_t size;
    // Tokens of the longest answer. Default: 256.
    uint32_t max_tokens;
    // Logits are divided by it; 0: always the likeliest token. Default: 0.7.
    float temperature;
    // Only the so many likeliest; 0: all. Default: 40.
    uint32_t top_k;
    // Only the likeliest that together reach this probability. Default: 0.95.
    float top_p;
    // Only those at least this times as likely as the likeliest. Default: 0.
    float min_p;
    // Tokens seen before are made less likely by it. Default: 1, no change.
    float repeat_penalty;
    // How many of the latest tokens count as seen. Default: 64.
    uint32_t repeat_last;
    // Seed of the choice. Default: 0.
    uint64_t seed;
    // Strings that end the answer, without being part of it; may be NULL.
    const struct attune_text *stop;
    // How many.
    size_t stop_count;
    // Hears of the text; may be NULL.
    attune_token_fn on_token;
    // Handed to `on_token`.
    void *user;
    // Ends the answer from another thread; may be NULL.
    const struct attune_cancel *cancel;
} attune_generate_options;

// A turn of a conversation.
typedef struct attune_message {
    // `system`, `user`, `assistant` or `tool`.
    struct attune_text role;
    // What is said.
    struct attune_text content;
} attune_message;

// How an answer ended.
typedef struct attune_generation {
    // `sizeof(attune_generation)`.
    uint32_t size;
    // `ATTUNE_FINISH_…`.
    uint32_t finish_reason;
    // Tokens of the prompt.
    uint32_t prompt_tokens;
    // Tokens of the answer.
    uint32_t answer_tokens;
    // Bytes of the answer's text.
    uint64_t text_length;
} attune_generation;

// What an adapter is.
typedef struct attune_adapter_info {
    // `sizeof(attune_adapter_info)`.
    uint32_t size;
    // R.
    uint32_t rank;
    // α.
    float alpha;
    // 1 if the scale is `alpha / sqrt(rank)`, 0 if it is `alpha / rank`.
    uint32_t use_rslora;
    // Which linears: `ATTUNE_MODULE_…`, added up.
    uint32_t target_modules;
    // The lowest adapted layer.
    uint32_t first_layer;
    // How many layers from there on.
    uint32_t layers;
    // 0.
    uint32_t reserved;
    // How many numbers it has.
    uint64_t parameters;
    // Updates that made it; 0 where that is not known.
    uint64_t steps;
} attune_adapter_info;

// Where a tuner stands.
typedef struct attune_progress {
    // `sizeof(attune_progress)`.
    uint32_t size;
    // 1 when there is nothing more to do.
    uint32_t done;
    // Updates done.
    uint64_t step;
    // Updates in all.
    uint64_t total_steps;
    // Targets of the last update.
    uint64_t target_tokens;
    // The loss that the last update found; NaN before the first.
    double loss;
    // The last loss on held-out examples; NaN before the first.
    double eval_loss;
    // The share of held-out targets that were the likeliest token; NaN before.
    double eval_token_accuracy;
    // For preferences: the share of pairs whose better answer is the likelier one, by the policy against its reference; else NaN.
    double preference_accuracy;
    // For preferences: by how much; else NaN.
    double preference_margin;
    // The divergence from the reference in nats a token: for preferences on held-out answers, on rewards on the last update's; NaN where it was not measured.
    double kl;
    // On rewards: the mean reward of the last update's answers; else NaN.
    double reward;
    // Tokens in a second, targets or not.
    double tokens_per_second;
    // Seconds of tuning in all, those before a checkpoint included.
    double seconds;
    // Norm of the gradients before clipping.
    float grad_norm;
    // Of the last update.
    float learning_rate;
} attune_progress;

// Hears of each update, and of each evaluation. Returns 0 to go on, another number to pause. Called in the thread of the call; it may call the library, but of
// this tuner only `attune_tuner_get_progress`.
typedef int32_t (*attune_step_fn)(void *user, const struct attune_progress *progress);

// For how long to tune.
typedef struct attune_run_options {
    // `sizeof(attune_run_options)`; `attune_run_options_default` sets it.
    uint32_t size;
    // Milliseconds; 0: no limit. An update is left where it stands when one more micro-batch would be late, and the next run goes on there with the same
    // result; one micro-batch is done in any case. A reward model's updates, and those on rewards, are done whole.
    uint32_t milliseconds;
    // Updates; 0: no limit.
    uint32_t max_steps;
    // Evaluate where it is due and there are held-out examples, if not 0; an evaluation is not cut short by the time. Default: 1.
    uint32_t evaluate;
    // Hears of updates; may be NULL.
    attune_step_fn on_step;
    // Handed to `on_step`.
    void *user;
    // Ends the run from another thread within a part of an operation; the update under way begins anew with the next run. May be NULL.
    const struct attune_cancel *cancel;
} attune_run_options;

// Why a run came back.
typedef struct attune_run {
    // `sizeof(attune_run)`.
    uint32_t size;
    // `ATTUNE_RUN_…`.
    uint32_t reason;
    // Updates done in this run.
    uint64_t steps;
} attune_run;

// How to measure.
typedef struct attune_evaluate_options {
    // `sizeof(attune_evaluate_options)`; `attune_evaluate_options_default` sets it.
    uint32_t size;
    // Tokens of the longest example; 0: 1024, at most the model's context.
    uint32_t max_length;
    // Threads; 0: as many as the processor runs at once.
    uint32_t threads;
    // `ATTUNE_PRECISION_…`.
    uint32_t precision;
    // `ATTUNE_TARGET_…`.
    uint32_t target;
    // 0.
    uint32_t reserved;
    // Bytes that it may take above the model file; 0: as many as it takes.
    uint64_t budget_bytes;
    // The adapter to measure; NULL: the model alone.
    const struct attune_adapter *adapter;
    // Ends it from another thread; may be NULL.
    const struct attune_cancel *cancel;
} attune_evaluate_options;

// What a model makes of examples.
typedef struct attune_evaluation {
    // `sizeof(attune_evaluation)`.
    uint32_t size;
    // Examples with at least one target.
    uint32_t examples;
    // Tokens that were to be predicted.
    uint64_t target_tokens;
    // Mean negative log-probability of the targets, natural logarithm.
    double loss;
    // `e^loss`.
    double perplexity;
    // Share of targets that were the likeliest token.
    double token_accuracy;
} attune_evaluation;

// How a store is kept.
typedef struct attune_feedback_options {
    // `sizeof(attune_feedback_options)`; `attune_feedback_options_default` sets it.
    uint32_t size;
    // At the limit, drop the oldest prompts with all that is about them if not 0; else refuse. Default: 0.
    uint32_t drop_oldest;
    // Entries go to the disk when `attune_feedback_flush` is called if not 0, else before the call that adds them returns. Default: 0.
    uint32_t on_flush;
    // 0.
    uint32_t reserved;
    // Bytes that the file may have, at least 4096. Default: 64 MiB.
    uint64_t max_bytes;
} attune_feedback_options;

// What a reward model is planned for.
typedef struct attune_reward_options {
    // `sizeof(attune_reward_options)`; `attune_reward_options_default` sets it.
    uint32_t size;
    // Tokens of the longest prompt with its answer; 0: 1024, at most the model's context.
    uint32_t max_length;
    // Tokens of one pass: so many answers are scored at once as it holds. Default: 1024.
    uint32_t batch_tokens;
    // Threads; 0: as many as the processor runs at once.
    uint32_t threads;
    // `ATTUNE_PRECISION_…`.
    uint32_t precision;
    // `ATTUNE_TARGET_…`.
    uint32_t target;
    // Bytes that it may take above the model file; 0: as many as it takes.
    uint64_t budget_bytes;
} attune_reward_options;

// It is done.
#define ATTUNE_OK 0

// A pointer that must not be NULL is NULL, or is not aligned for its type.
#define ATTUNE_ERROR_NULL 100

// Not a live handle of this type: it was freed, or never made by the function that makes them.
#define ATTUNE_ERROR_HANDLE 101

// A struct's `size` is not one that this version of the library knows.
#define ATTUNE_ERROR_STRUCT_SIZE 102

// The handle is at work in another thread, or the call comes from a callback of a call on it.
#define ATTUNE_ERROR_BUSY 103

// Text that is not UTF-8.
#define ATTUNE_ERROR_UTF8 104

// An option outside of its range; the message names it.
#define ATTUNE_ERROR_OPTION 105

// A call that comes at the wrong time, such as a step after the last one.
#define ATTUNE_ERROR_STATE 106

// Memory given by the caller is too small; `needed_bytes` says how much would do.
#define ATTUNE_ERROR_TOO_SMALL 107

// Memory given by the caller does not start where it has to.
#define ATTUNE_ERROR_ALIGNMENT 108

// A file cannot be read or written.
#define ATTUNE_ERROR_IO 200

// Memory cannot be had.
#define ATTUNE_ERROR_MEMORY 201

// Threads cannot be had.
#define ATTUNE_ERROR_THREADS 202

// Nothing fits the budget; `needed_bytes` says what would.
#define ATTUNE_ERROR_BUDGET 203

// A file that is no GGUF model, or a damaged one.
#define ATTUNE_ERROR_MODEL 300

// A model that uses what is not supported.
#define ATTUNE_ERROR_UNSUPPORTED 301

// A tokenizer that is missing, or cannot be used.
#define ATTUNE_ERROR_TOKENIZER 302

// A chat template that cannot be read, or refuses a conversation.
#define ATTUNE_ERROR_TEMPLATE 303

// Examples that cannot be read.
#define ATTUNE_ERROR_DATA 304

// An adapter that cannot be read, written or used.
#define ATTUNE_ERROR_ADAPTER 305

// An adapter that was tuned on another model.
#define ATTUNE_ERROR_OTHER_BASE 306

// A checkpoint that is missing, damaged, or belongs to another run.
#define ATTUNE_ERROR_CHECKPOINT 307

// A feedback store that cannot be read or written, or an event that it refuses.
#define ATTUNE_ERROR_FEEDBACK 308

// It was cancelled.
#define ATTUNE_ERROR_CANCELLED 400

// The conversation is longer than the session's context.
#define ATTUNE_ERROR_CONTEXT_FULL 401

// Not one example can be learnt from.
#define ATTUNE_ERROR_NOTHING_TO_LEARN 402

// A loss or a gradient is no longer a number.
#define ATTUNE_ERROR_DIVERGED 403

// The library has failed in itself; no panic leaves it.
#define ATTUNE_ERROR_INTERNAL 900

// An earlier call on this handle ended with `ATTUNE_ERROR_INTERNAL`; all that can be done with it is to free it.
#define ATTUNE_ERROR_BROKEN 901

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The ABI version of the library that is loaded; compare it with the header's `ATTUNE_ABI_VERSION` at start.
uint32_t attune_abi_version(void);

// The library's version, as `1.2.3`. Lives as long as the library.
const char *attune_version(void);

// The name of a status code, as the header has it; of one that this version does not know, `"unknown"`. Lives as long as the library.
const char *attune_status_name(attune_status status);

// Makes a request that nobody has asked yet.
attune_status attune_cancel_new(struct attune_cancel **cancel, struct attune_error *error);

// Asks: the calls that are under it end within a part of an operation, and those that will be end at once. Waits for nothing.
attune_status attune_cancel_ask(const struct attune_cancel *cancel,
                                struct attune_error *error);

// Takes it back, for the calls that come.
attune_status attune_cancel_take_back(const struct attune_cancel *cancel, struct attune_error *error);

// Frees the handle; calls that are under it go on. NULL is fine.
attune_status attune_cancel_free(struct attune_cancel *cancel);

// Sends what happens to a function of the app, in place of the one before; NULL for none. When it returns, the one before is not called any more. `level`: the
// least important that is sent.
attune_status attune_log_set(uint32_t level,
                             attune_log_fn listener,
                             void *user,
                             struct attune_error *error);

// Opens a GGUF file and maps it: pages are read when they are used, and shared with other processes. The file must not change while it is open.
attune_status attune_model_open(struct attune_text path,
                                struct attune_model **model,
                                struct attune_error *error);

// Opens a model in a file that is open already, such as an Android asset that is not compressed: `length` bytes from `offset` on; a length of 0 means up to
// the file's end. The descriptor stays the caller's, who may close it then. A part that does not begin at a multiple of 64 is read into memory; otherwise it is
// mapped. `name` is what messages call it.
attune_status attune_model_open_descriptor(int32_t descriptor,
                                           uint64_t offset,
                                           uint64_t length,
                                           struct attune_text name,
                                           struct attune_model **model,
                                           struct attune_error *error);

// Opens a model whose bytes a function of the app gives; all of them are read into memory at once.
attune_status attune_model_open_reader(const struct attune_reader *reader,
                                       struct attune_text name,
                                       struct attune_model **model,
                                       struct attune_error *error);

// Opens a model that lies in memory. The bytes must stay as they are until the model and all that was made from it are freed; then `release` is called, in
// whatever thread freed the last of them (NULL: nothing is called). Where the call fails, `release` is not called. Bytes that do not begin at a multiple of 64
// are copied, and released at once.
attune_status attune_model_open_memory(const void *data,
                                       size_t size,
                                       attune_release_fn release,
                                       void *user,
                                       struct attune_text name,
                                       struct attune_model **model,
                                       struct attune_error *error);

// What a model is.
attune_status attune_model_get_info(const struct attune_model *model,
                                    struct attune_model_info *info,
                                    struct attune_error *error);

// All that there is to know about a model, as JSON: architecture, tensors by type, tokenizer, chat template, hash. Reads the whole file. `length` gets the bytes
// of all of it, whatever the buffer's size.
attune_status attune_model_describe(const struct attune_model *model,
                                    char *buffer,
                                    size_t size,
                                    size_t *length,
                                    struct attune_error *error);

// The same for a file or folder that need not be a model that runs: a GGUF file, or an adapter in any form.
attune_status attune_inspect(struct attune_text path,
                             char *buffer,
                             size_t size,
                             size_t *length,
                             struct attune_error *error);

// The tokens of a text; what looks like a special token is one if `parse_special` is not 0. No start or end is added. Writes as many ids as there is room for;
// `count` gets how many there are.
attune_status attune_model_tokenize(const struct attune_model *model,
                                    struct attune_text text,
                                    uint32_t parse_special,
                                    uint32_t *ids,
                                    size_t capacity,
                                    size_t *count,
                                    struct attune_error *error);

// Frees a model's handle. What was made from it goes on; its file stays mapped until the last of that is freed. NULL is fine.
attune_status attune_model_free(struct attune_model *model);

// What a session with these options will take. With a budget that nothing fits, `ATTUNE_ERROR_BUDGET`, and the error's `needed_bytes` would do.
attune_status attune_plan_session(const struct attune_model *model,
                                  const struct attune_session_options *options,
                                  struct attune_plan **plan,
                                  struct attune_error *error);

// What a tuner with these options will take. For preferences it depends on the examples too: this is then the plan of supervised tuning with the same options,
// and `attune_tuner_get_plan` has the real one.
attune_status attune_plan_tuning(const struct attune_model *model,
                                 const struct attune_tune_options *options,
                                 struct attune_plan **plan,
                                 struct attune_error *error);

// What a plan comes to.
attune_status attune_plan_get_totals(const struct attune_plan *plan,
                                     struct attune_plan_totals *totals,
                                     struct attune_error *error);

// One of its buffers, counted from 0.
attune_status attune_plan_get_buffer(const struct attune_plan *plan,
                                     uint32_t index,
                                     struct attune_plan_buffer *buffer,
                                     struct attune_error *error);

// A plan as JSON: totals, buffers, and what a budget has turned.
attune_status attune_plan_describe(const struct attune_plan *plan,
                                   char *buffer,
                                   size_t size,
                                   size_t *length,
                                   struct attune_error *error);

// Frees a plan. NULL is fine.
attune_status attune_plan_free(struct attune_plan *plan);

// Sets all options to their defaults.
void attune_session_options_default(struct attune_session_options *options);

// Sets all options to their defaults.
void attune_generate_options_default(struct attune_generate_options *options);

// Begins a conversation: plans and takes all memory that it will have, but for adapters that are added later. `options` may be NULL.
attune_status attune_session_new(const struct attune_model *model,
                                 const struct attune_session_options *options,
                                 struct attune_session **session,
                                 struct attune_error *error);

// Bytes of memory that `attune_session_new_in` needs for these options.
attune_status attune_session_size(const struct attune_model *model,
                                  const struct attune_session_options *options,
                                  uint64_t *bytes,
                                  struct attune_error *error);

// As `attune_session_new`, with keys and values, scratch and adapters (`adapter_bytes` of the options) in memory of the caller's, which must start at a multiple
// of `ATTUNE_ALIGNMENT` and stay the session's alone until it is freed. Too little is `ATTUNE_ERROR_TOO_SMALL`, and `needed_bytes` would do. What the plan calls `host`
// is the library's own.
attune_status attune_session_new_in(const struct attune_model *model,
                                    const struct attune_session_options *options,
                                    void *memory,
                                    size_t size,
                                    struct attune_session **session,
                                    struct attune_error *error);

// Answers a conversation. Give all of its turns each time: what the session has computed of them is not computed again. `options` and `generation` may be NULL.
// An answer that was cancelled is no error: `finish_reason` says so.
attune_status attune_session_chat(struct attune_session *session,
                                  const struct attune_message *turns,
                                  size_t count,
                                  const struct attune_generate_options *options,
                                  struct attune_generation *generation,
                                  struct attune_error *error);

// Goes on with a text as it stands, without the chat template.
attune_status attune_session_complete(struct attune_session *session,
                                      struct attune_text text,
                                      const struct attune_generate_options *options,
                                      struct attune_generation *generation,
                                      struct attune_error *error);

// Goes on with token ids.
attune_status attune_session_continue(struct attune_session *session,
                                      const uint32_t *ids,
                                      size_t count,
                                      const struct attune_generate_options *options,
                                      struct attune_generation *generation,
                                      struct attune_error *error);

// The text of the last answer. `length` gets the bytes of all of it.
attune_status attune_session_text(struct attune_session *session,
                                  char *buffer,
                                  size_t size,
                                  size_t *length,
                                  struct attune_error *error);

// The tokens of the last answer. Writes as many as there is room for; `count` gets how many there are.
attune_status attune_session_tokens(struct attune_session *session,
                                    uint32_t *ids,
                                    size_t capacity,
                                    size_t *count,
                                    struct attune_error *error);

// Puts an adapter into use, its own scale multiplied by `scale`; `index` (may be NULL) gets its number in the session. Its rank must have been planned for
// (`max_rank`). Up to 8. What is in the cache stays as it was computed: `attune_session_reset` to compute it anew.
attune_status attune_session_add_adapter(struct attune_session *session,
                                         const struct attune_adapter *adapter,
                                         float scale,
                                         uint32_t *index,
                                         struct attune_error *error);

// Scales an adapter of a session; 0 switches it off, 1 on. Takes effect with the next token.
attune_status attune_session_scale_adapter(struct attune_session *session,
                                           uint32_t index,
                                           float scale,
                                           struct attune_error *error);

// Forgets the conversation.
attune_status attune_session_reset(struct attune_session *session, struct attune_error *error);

// What a session has taken.
attune_status attune_session_get_plan(struct attune_session *session,
                                      struct attune_plan **plan,
                                      struct attune_error *error);

// Frees a session. NULL is fine; one that is at work is `ATTUNE_ERROR_BUSY` and stays.
attune_status attune_session_free(struct attune_session *session);

// Opens an adapter for a model, whatever its form: a native file, a run folder, a PEFT folder, a GGUF LoRA file. A native one that was tuned on another model
// is refused with `ATTUNE_ERROR_OTHER_BASE`, unless `any_base` is not 0; its widths must fit all the same.
attune_status attune_adapter_open(const struct attune_model *model,
                                  struct attune_text path,
                                  uint32_t any_base,
                                  struct attune_adapter **adapter,
                                  struct attune_error *error);

// Writes an adapter to a native file, whole or not at all.
attune_status attune_adapter_save(const struct attune_adapter *adapter,
                                  struct attune_text path,
                                  struct attune_error *error);

// Writes an adapter in one of the `ATTUNE_FORMAT_…`: a file, or for PEFT a folder.
attune_status attune_adapter_export(const struct attune_adapter *adapter,
                                    const struct attune_model *model,
                                    uint32_t format,
                                    struct attune_text path,
                                    struct attune_error *error);

// What an adapter is.
attune_status attune_adapter_get_info(const struct attune_adapter *adapter,
                                      struct attune_adapter_info *info,
                                      struct attune_error *error);

// Makes an adapter the one of a folder, as `adapter.attune` in it; the one that was there becomes a version, of which the newest 16 stay. `version` (may be NULL)
// gets its number, or 0 if there was none. `attune_adapter_open` opens the folder.
attune_status attune_adapter_commit(const struct attune_adapter *adapter,
                                    struct attune_text folder,
                                    uint64_t *version,
                                    struct attune_error *error);

// The numbers of a folder's earlier adapters, the oldest first. Writes as many as there is room for; `count` gets how many there are.
attune_status attune_adapter_versions(struct attune_text folder,
                                      uint64_t *versions,
                                      size_t capacity,
                                      size_t *count,
                                      struct attune_error *error);

// Brings an earlier adapter of a folder back: `version`, or the newest for 0. The one that it replaces becomes a version too. `restored` (may be NULL) gets the
// number of the one that is back.
attune_status attune_adapter_rollback(struct attune_text folder,
                                      uint64_t version,
                                      uint64_t *restored,
                                      struct attune_error *error);

// Frees an adapter's handle; sessions that use it keep their copy. NULL is fine.
attune_status attune_adapter_free(struct attune_adapter *adapter);

// Makes an empty set.
attune_status attune_data_new(struct attune_data **data, struct attune_error *error);

// Opens a file of examples in any of the formats that are in use (JSON lines: `messages`, Alpaca, ShareGPT, `prompt`/`completion`, `text`, `input_ids`; pairs,
// ratings, rankings). Examples are read from it when they are needed; it must not change meanwhile.
attune_status attune_data_open(struct attune_text path,
                               struct attune_data **data,
                               struct attune_error *error);

// Adds a conversation; what the assistant says in it is learnt.
attune_status attune_data_add_example(struct attune_data *data,
                                      const struct attune_message *turns_of,
                                      size_t count,
                                      struct attune_error *error);

// Adds an instruction and the answer to learn: short for a conversation of two turns.
attune_status attune_data_add_answer(struct attune_data *data,
                                     struct attune_text prompt,
                                     struct attune_text answer,
                                     struct attune_error *error);

// Adds a conversation to be answered by the model itself, for tuning on rewards.
attune_status attune_data_add_prompt(struct attune_data *data,
                                     const struct attune_message *prompt,
                                     size_t count,
                                     struct attune_error *error);

// Adds two answers to one conversation, the better and the worse.
attune_status attune_data_add_pair(struct attune_data *data,
                                   const struct attune_message *prompt,
                                   size_t count,
                                   struct attune_text chosen,
                                   struct attune_text rejected,
                                   struct attune_error *error);

// Adds an answer that is liked (`liked` not 0) or disliked.
attune_status attune_data_add_rating(struct attune_data *data,
                                     const struct attune_message *prompt,
                                     size_t count,
                                     struct attune_text answer,
                                     uint32_t liked,
                                     struct attune_error *error);

// Adds two or more answers to one conversation, best first.
attune_status attune_data_add_ranking(struct attune_data *data,
                                      const struct attune_message *prompt,
                                      size_t count,
                                      const struct attune_text *answers,
                                      size_t answer_count,
                                      struct attune_error *error);

// Adds lines of JSON in one of the formats of `attune_data_open`. Nothing is added if one of them is no JSON object.
attune_status attune_data_add_lines(struct attune_data *data, struct attune_text lines, struct attune_error *error);

// How many examples a set holds.
attune_status attune_data_count(const struct attune_data *data, size_t *count, struct attune_error *error);

// Frees a set; tuners that were made of it keep what they need. NULL is fine.
attune_status attune_data_free(struct attune_data *data);

// Sets all options to their defaults.
void attune_tune_options_default(struct attune_tune_options *options);

// Sets all options to their defaults.
void attune_run_options_default(struct attune_run_options *options);

// Reads the examples once, plans, and takes all memory that tuning will have. `options` may be NULL. Examples that cannot be learnt from are left out:
// `attune_tuner_describe` lists them. Examples that are added to `data` later are not learnt.
attune_status attune_tuner_new(const struct attune_model *model,
                               const struct attune_data *data,
                               const struct attune_tune_options *options,
                               struct attune_tuner **tuner,
                               struct attune_error *error);

// As `attune_tuner_new`, with the adapter, its gradients and state, and scratch in memory of the caller's, which must start at a multiple of `ATTUNE_ALIGNMENT`
// and stay the tuner's alone until it is freed. Too little is `ATTUNE_ERROR_TOO_SMALL`, and `needed_bytes` would do: to learn it, call with a size of 0. What
// the plan calls `host` is the library's own.
attune_status attune_tuner_new_in(const struct attune_model *model,
                                  const struct attune_data *data,
                                  const struct attune_tune_options *options,
                                  void *memory,
                                  size_t size,
                                  struct attune_tuner **tuner,
                                  struct attune_error *error);

// Learns: whole updates and a part of one, until all are done or the options ask for a pause. `options` and `outcome` may be NULL. To learn a little now and
// a little later, call it again; to go on in another process, write a checkpoint.
attune_status attune_tuner_run(struct attune_tuner *tuner,
                               const struct attune_run_options *options,
                               struct attune_run *outcome,
                               struct attune_error *error);

// Where a tuner stands. May be called at any time from any thread, also while it works.
attune_status attune_tuner_get_progress(const struct attune_tuner *tuner,
                                        struct attune_progress *progress,
                                        struct attune_error *error);

// The adapter to keep: the best on held-out examples where there are some, else as it is after the last update.
attune_status attune_tuner_get_adapter(struct attune_tuner *tuner,
                                       struct attune_adapter **adapter,
                                       struct attune_error *error);

// Writes a checkpoint into a folder: all that it takes to go on. The last good one stays until it is complete.
attune_status attune_tuner_checkpoint(struct attune_tuner *tuner,
                                      struct attune_text folder,
                                      struct attune_error *error);

// Goes on from the newest checkpoint of a folder. The tuner must have been made of the same model, examples and options; it ends with the same bytes as one that
// was never stopped.
attune_status attune_tuner_resume(struct attune_tuner *tuner,
                                  struct attune_text folder,
                                  struct attune_error *error);

// What a tuner has taken.
attune_status attune_tuner_get_plan(struct attune_tuner *tuner, struct attune_plan **plan, struct attune_error *error);

// What became of the examples, as JSON: `{"examples", "truncated", "skipped": [{"line", "reason"}]}`.
attune_status attune_tuner_describe(struct attune_tuner *tuner,
                                    char *buffer,
                                    size_t size,
                                    size_t *length,
                                    struct attune_error *error);

// Frees a tuner and what it has learnt since the last adapter or checkpoint. NULL is fine; one that is at work is `ATTUNE_ERROR_BUSY` and stays.
attune_status attune_tuner_free(struct attune_tuner *tuner);

// Sets all options to their defaults.
void attune_evaluate_options_default(struct attune_evaluate_options *options);

// Measures a model, with or without an adapter, on examples. `options` may be NULL.
attune_status attune_evaluate(const struct attune_model *model,
                              const struct attune_data *data,
                              const struct attune_evaluate_options *options,
                              struct attune_evaluation *evaluation,
                              struct attune_error *error);

// Sets all options to their defaults.
void attune_feedback_options_default(struct attune_feedback_options *options);

// Opens a store, or begins one. What a crash left unfinished is cut off; what is damaged is passed over and logged. `options` may be NULL.
attune_status attune_feedback_open(struct attune_text path,
                                   const struct attune_feedback_options *options,
                                   struct attune_feedback **feedback,
                                   struct attune_error *error);

// Adds a prompt: the whole conversation before the answer. `conversation` (may be none) is a name of the app's, by which a conversation can be erased; `id` gets
// what answers name it by. Ids are never given twice.
attune_status attune_feedback_add_prompt(struct attune_feedback *feedback,
                                         const struct attune_message *prompt,
                                         size_t count,
                                         struct attune_text conversation,
                                         uint64_t *id,
                                         struct attune_error *error);

// Adds an answer to a prompt; `id` gets what verdicts name it by.
attune_status attune_feedback_add_answer(struct attune_feedback *feedback,
                                         uint64_t prompt,
                                         struct attune_text answer,
                                         uint64_t *id,
                                         struct attune_error *error);

// Adds a thumb on an answer: one of `ATTUNE_THUMB_…`.
attune_status attune_feedback_add_thumb(struct attune_feedback *feedback,
                                        uint64_t answer,
                                        uint32_t thumb,
                                        struct attune_error *error);

// Adds what a person made of an answer: better than the answer, and an answer too, whose id `id` gets.
attune_status attune_feedback_add_edit(struct attune_feedback *feedback,
                                       uint64_t answer,
                                       struct attune_text edited,
                                       uint64_t *id,
                                       struct attune_error *error);

// Adds an answer that a person asked for in the place of another. By itself it says nothing; once it is kept or liked, it is better than the old one.
attune_status attune_feedback_add_regenerated(struct attune_feedback *feedback,
                                              uint64_t answer,
                                              struct attune_text other,
                                              uint64_t *id,
                                              struct attune_error *error);

// Adds that a person went on with an answer: copied it, sent it, replied to it.
attune_status attune_feedback_add_kept(struct attune_feedback *feedback, uint64_t answer, struct attune_error *error);

// Adds an order of two or more answers to one prompt, best first.
attune_status attune_feedback_add_rank(struct attune_feedback *feedback,
                                       const uint64_t *answers,
                                       size_t count,
                                       struct attune_error *error);

// Brings everything to the disk.
attune_status attune_feedback_flush(struct attune_feedback *feedback, struct attune_error *error);

// A set of examples of what a store says: `learn` is one of `ATTUNE_LEARN_…`. Duplicates count once, and of verdicts that contradict each other the later one.
// What is added to the store later is not in it.
attune_status attune_feedback_get_data(struct attune_feedback *feedback,
                                       uint32_t learn,
                                       struct attune_data **data,
                                       struct attune_error *error);

// What a store holds and what can be learnt from it, as JSON: counts by kind, duplicates, contradictions, damage.
attune_status attune_feedback_describe(struct attune_feedback *feedback,
                                       uint32_t learn,
                                       char *buffer,
                                       size_t size,
                                       size_t *length,
                                       struct attune_error *error);

// Writes examples to a file of JSON lines that any trainer reads. `count` (may be NULL) gets how many.
attune_status attune_feedback_export(struct attune_feedback *feedback,
                                     uint32_t learn,
                                     struct attune_text path,
                                     size_t *count,
                                     struct attune_error *error);

// Writes all that a store holds to a file, event by event: what a person may ask for. `count` (may be NULL) gets how many.
attune_status attune_feedback_export_events(struct attune_feedback *feedback,
                                            struct attune_text path,
                                            size_t *count,
                                            struct attune_error *error);

// Erases a conversation, and all that is about it: its bytes are gone from the file when the call returns. `count` (may be NULL) gets how many events went.
attune_status attune_feedback_erase_conversation(struct attune_feedback *feedback,
                                                 struct attune_text conversation,
                                                 uint64_t *count,
                                                 struct attune_error *error);

// Erases events by their ids, and all that is about them.
attune_status attune_feedback_erase(struct attune_feedback *feedback,
                                    const uint64_t *ids,
                                    size_t id_count,
                                    uint64_t *count,
                                    struct attune_error *error);

// Erases everything.
attune_status attune_feedback_erase_all(struct attune_feedback *feedback, uint64_t *count, struct attune_error *error);

// Closes a store. NULL is fine; one that is at work is `ATTUNE_ERROR_BUSY` and stays.
attune_status attune_feedback_free(struct attune_feedback *feedback);

// Sets all options to their defaults.
void attune_reward_options_default(struct attune_reward_options *options);

// Sets all options to their defaults.
void attune_reinforce_options_default(struct attune_reinforce_options *options);

// Makes a reward model of a model and an adapter with a score head. `options` may be NULL.
attune_status attune_reward_new(const struct attune_model *model,
                                const struct attune_adapter *adapter,
                                const struct attune_reward_options *options,
                                struct attune_reward **reward,
                                struct attune_error *error);

// Scores answers to one conversation; `scores` has a place for each.
attune_status attune_reward_score(struct attune_reward *reward,
                                  const struct attune_message *prompt,
                                  size_t count,
                                  const struct attune_text *answers,
                                  size_t answer_count,
                                  float *scores,
                                  struct attune_error *error);

// Frees a reward model. NULL is fine.
attune_status attune_reward_free(struct attune_reward *reward);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ATTUNE_H */

/* The text of a C string, up to its NUL; none for NULL. */
static inline attune_text attune_str(const char *string) {
    attune_text text = {string, string ? strlen(string) : 0};
    return text;
}

#ifdef __cplusplus
template <typename T> inline T attune_init_() {
    T value = T();
    value.size = sizeof(T);
    return value;
}
#endif
