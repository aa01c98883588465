//! What a session or a tuning run will take, buffer by buffer, before it is taken.

use crate::error::Result;
use crate::model::Model;
use crate::prefer::Needs;
use crate::reinforce::{self, ReinforceOptions};
use crate::session::SessionOptions;
use crate::tuner::TuneOptions;
use attune_core::plan::{self, CacheLayout, DecodeRequest, Item, Totals, TuneRequest};
use attune_core::spec::Spec;
use attune_core::target::Store;
use serde::Serialize;

/// One planned buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Buffer {
    /// Its name, `blk.N.` first where it belongs to a layer.
    pub name: String,
    /// The memory that it lies in: `adapter`, `cache`, `work`, or `host` for what the engine itself keeps.
    pub region: &'static str,
    /// Its extents.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    #[serde(rename = "type")]
    pub ty: &'static str,
    /// Bytes.
    pub bytes: usize,
}

/// Bytes by memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Regions {
    /// Adapters, with gradients and optimiser state where one is tuned.
    pub adapter: u64,
    /// Keys and values.
    pub cache: u64,
    /// Activations and scratch.
    pub work: u64,
    /// What the engine keeps besides: vocabulary, logits, token lists, copies for files.
    pub host: u64,
}

/// What a budget may turn, and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Knobs {
    /// A session's.
    Decode {
        /// Tokens of the longest conversation.
        context: usize,
        /// Tokens of one prefill pass.
        prefill_batch: usize,
        /// `f32`, `f16` or `q8_0`.
        kv_type: &'static str,
    },
    /// A tuning run's.
    Tune {
        /// Tokens of one forward and backward pass.
        micro_batch_tokens: usize,
        /// Vocabulary entries whose logits exist at once.
        vocab_chunk: usize,
        /// How the layers' inputs are kept: `f32` or `f16`.
        layer_inputs: &'static str,
        /// Every so many-th layer's input is kept.
        layer_stride: usize,
        /// So many blocks, from the top, keep all that their backward pass needs.
        kept_blocks: usize,
        /// `adamw` or `adamw-8bit`.
        optim: &'static str,
    },
}

/// A plan: every buffer, and the totals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// What will be resident above the mapped weights.
    pub total_bytes: u64,
    /// The model file, mapped and shared with the system's file cache; not part of the total.
    pub weights_bytes: u64,
    /// The total by memory.
    pub regions: Regions,
    /// Each buffer.
    pub buffers: Vec<Buffer>,
    /// What a budget has turned.
    pub knobs: Knobs,
}

/// A decoder's plan as core takes it, with the plan to show.
pub(crate) struct Planned<L> {
    pub(crate) layout: L,
    pub(crate) plan: Plan,
}

struct Gathered {
    buffers: Vec<Buffer>,
}

impl Gathered {
    fn new() -> Self {
        Gathered { buffers: Vec::new() }
    }

    fn item(&mut self, item: &Item) {
        self.buffers.push(Buffer {
            name: item.name.as_str().into(),
            region: item.region.name(),
            shape: item.shape.iter().copied().take_while(|&n| n > 0).collect(),
            ty: item.ty,
            bytes: item.bytes,
        });
    }

    fn host(&mut self, name: &str, shape: &[usize], ty: &'static str, size: usize) {
        let bytes = shape.iter().product::<usize>() * size;
        self.buffers.push(Buffer { name: name.into(), region: "host", shape: shape.to_vec(), ty, bytes });
    }

    fn finish(self, model: &Model, totals: Totals, adapters: u64, knobs: Knobs) -> Plan {
        let host = self.buffers.iter().filter(|b| b.region == "host").map(|b| b.bytes as u64).sum();
        let regions = Regions { adapter: totals.adapter as u64 + adapters, cache: totals.cache as u64, work: totals.work as u64, host };
        Plan {
            total_bytes: regions.adapter + regions.cache + regions.work + regions.host,
            weights_bytes: model.bytes().len() as u64,
            regions,
            buffers: self.buffers,
            knobs,
        }
    }
}

/// What the model itself keeps in memory besides its map.
fn model_host(g: &mut Gathered, model: &Model) {
    if model.has_tokenizer() {
        g.host("tokenizer", &[model.tokenizer_bytes()], "u8", 1);
    }
}

/// What a thread touches of its stack while it multiplies, and keeps for itself besides: tiles of weights are decoded there.
const STACK: usize = 160 << 10;
/// Threads that are planned for in any case, so that a plan within a budget turns the same knobs for one thread and for two.
const FEW_THREADS: usize = 2;

/// Threads that a run has; 0: as many as the processor runs at once.
fn threads(asked: usize) -> usize {
    let own = || std::thread::available_parallelism().map_or(1, usize::from);
    (if asked == 0 { own() } else { asked }).max(FEW_THREADS)
}

/// A session's plan, within the options' budget where they name one.
///
/// ```
/// # fn main() -> attune::Result<()> {
/// let model = attune::Model::from_bytes("tiny", attune::doc::tiny_model())?;
/// let options = attune::session::SessionOptions { context: 64, ..Default::default() };
/// let plan = attune::plan::for_session(&model, &options)?;
/// let sum: usize = plan.buffers.iter().map(|b| b.bytes).sum();
/// assert!(sum as u64 <= plan.total_bytes); // the rest is alignment
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`attune_core::Error::OverBudget`] with the bytes that would do; options outside their range.
pub fn for_session(model: &Model, options: &SessionOptions) -> Result<Plan> {
    Ok(decode(model, options)?.plan)
}

/// A tuning run's plan, within the options' budget where they name one.
///
/// # Errors
/// As [`for_session`].
pub fn for_tuning(model: &Model, options: &TuneOptions) -> Result<Plan> {
    Ok(tune(model, options)?.plan)
}

/// The plan of tuning a reward model on pairs whose answers are as long as they may be, each with its prompt, within the options' budget where they name
/// one. A run on shorter answers, or on such as share long prompts, takes less.
///
/// # Errors
/// As [`for_session`].
pub fn for_reward(model: &Model, options: &TuneOptions) -> Result<Plan> {
    let options = TuneOptions { packing: false, trunk_cache: 0, score_head: true, ..options.clone() }.with_length(model.spec());
    let longest = options.max_length;
    let sizes = crate::prefer::Sizes { longest, group: 2 * longest, members: 2 };
    Ok(prefer(model, &options, &Needs { sizes, references: 0, tokens: 0, foreign: false })?.plan)
}

pub(crate) fn decode(model: &Model, options: &SessionOptions) -> Result<Planned<plan::DecodeLayout>> {
    let spec = model.spec();
    let mut request = DecodeRequest {
        context: options.context_for(spec.context),
        batch: options.prefill_batch,
        kv: options.kv.map_or(Store::F16, crate::session::KvType::store),
        rank: options.max_rank,
    };
    let host = |g: &mut Gathered, r: &DecodeRequest| {
        model_host(g, model);
        g.host("threads", &[threads(options.threads), STACK], "u8", 1);
        g.host("logits", &[spec.vocab], "f32", 4);
        g.host("sampler.order", &[spec.vocab], "u32", 4);
        g.host("history", &[r.context], "u32", 4);
    };
    let adapters = options.adapter_bytes as u64;
    if let Some(budget) = options.budget {
        let mut g = Gathered::new();
        host(&mut g, &request);
        let others = g.buffers.iter().map(|b| b.bytes as u64).sum::<u64>() + adapters;
        let pinned = plan::Pinned { kv: options.kv.is_some(), ..plan::Pinned::default() };
        request = plan::fit_decode(spec, &request, pinned, budget, others)?;
    }
    let mut g = Gathered::new();
    let layout = plan::decode(spec, &request, &mut |item| g.item(item))?;
    if adapters > 0 {
        g.buffers.push(Buffer {
            name: "adapters".into(),
            region: "adapter",
            shape: vec![options.adapter_bytes],
            ty: "u8",
            bytes: options.adapter_bytes,
        });
    }
    host(&mut g, &request);
    let knobs = Knobs::Decode { context: request.context, prefill_batch: request.batch, kv_type: request.kv.name() };
    Ok(Planned { plan: g.finish(model, layout.totals, adapters, knobs), layout })
}

/// Bytes a token of a micro-batch up to which a run without a budget keeps blocks, so that they need not be computed again: 144 MiB at 256 tokens. What
/// a run needs otherwise may be more.
const KEEP_BELOW: usize = 576 << 10;
/// Buffers of a kept block, each of which may need padding.
const BLOCK_BUFFERS: usize = 12;

pub(crate) fn tune(model: &Model, options: &TuneOptions) -> Result<Planned<plan::TuneLayout>> {
    let request = options.request(model.spec())?;
    // One update's micro-batches wait together, since the loss is a mean over all of them.
    let update = options.update_tokens();
    fit(model, options, request, None, &|g, _| g.host("batch", &[8, update], "u32", 4))
}

/// A reinforcement run's plan: of the data, `longest_prompt` counts (0: as long as `max_length` leaves room for) and, where examples guard what the
/// model can do, `longest_guard`. Reward models (`model:RUN`) among the rewards are looked at, and each has a line of its own.
///
/// # Errors
/// As [`for_session`]; a reward model that cannot be read.
pub fn for_reinforcement(
    model: &Model,
    options: &TuneOptions,
    reinforce: &ReinforceOptions,
    longest_prompt: usize,
    longest_guard: usize,
) -> Result<Plan> {
    let options = TuneOptions { packing: false, trunk_cache: 0, ..options.clone() }.with_length(model.spec());
    let needs = reinforce::Needs::new(&options, reinforce, longest_prompt, longest_guard)?;
    let models: Vec<String> = reinforce.rewards.iter().filter(|spec| spec.starts_with("model:")).cloned().collect();
    let rewards = reinforce::Rewards::parse_for(model, &models, &[], &reinforce.scoring(&options)?)?;
    Ok(self::reinforce(model, &options, &needs, &rewards.memory())?.0.plan)
}

/// A reinforcement run's: a cache to sample with besides, the answers of an update, and what rewards take, by name.
pub(crate) fn reinforce(
    model: &Model,
    options: &TuneOptions,
    needs: &reinforce::Needs,
    rewards: &[(String, u64)],
) -> Result<(Planned<plan::TuneLayout>, CacheLayout, usize)> {
    let (spec, n) = (model.spec(), needs);
    let mut request = options.request(spec)?;
    request.max_length = n.longest().max(2);
    request.tokens = n.micro_tokens(options.batch_size).max(request.max_length).max(n.members);
    request.vocab_chunk = crate::tuner::vocab_chunk(spec, request.tokens);
    let layout = |groups: usize, listener: &mut dyn FnMut(&Item)| plan::cache(spec, groups * n.rows(), n.kv, listener);
    // More prompts at work at once are for speed alone.
    let fits = |groups: usize| -> Result<bool> {
        let lanes = groups * n.members;
        let bytes = layout(groups, &mut |_| {})?.bytes + 4 * lanes * spec.vocab;
        Ok(lanes <= request.tokens && bytes <= SAMPLE_BELOW)
    };
    let mut groups = 1;
    while options.budget.is_none() && groups < n.prompts && fits(groups + 1)? {
        groups += 1;
    }
    let lanes = groups * n.members;
    let mut items = Vec::new();
    let cache = layout(groups, &mut |item| items.push(item.clone()))?;
    let planned = fit(model, options, request, Some((&items, cache.bytes)), &|g, r| {
        let answers = n.prompts * n.members;
        g.host("batch", &[n.micro_batches(options.batch_size, r.tokens), 7, r.tokens], "u32", 4);
        g.host("answers", &[answers, n.completion], "u32", 4);
        g.host("answers.encoded", &[2, answers, n.longest()], "u32", 4);
        g.host("answers.logprobs", &[n.kept_logprobs, answers, n.completion], "f32", 4);
        g.host("sampler.logits", &[lanes, spec.vocab], "f32", 4);
        g.host("sampler.order", &[spec.vocab], "u32", 4);
        g.host("sampler.pass", &[8, r.tokens], "u32", 4);
        g.host("sampler.history", &[cache.rows], "u32", 4);
        for (name, bytes) in rewards {
            g.host(&format!("reward.{name}"), &[usize::try_from(*bytes).unwrap_or(usize::MAX)], "u8", 1);
        }
        if n.starts {
            let lora = attune_core::lora::Layout::new(spec, r.shape).map_or(0, |l| l.len());
            g.host("adapter.start", &[lora], "f32", 4);
        }
    })?;
    Ok((planned, cache, lanes))
}

/// Bytes of cache and logits up to which a run without a budget samples for several prompts at once.
const SAMPLE_BELOW: usize = 64 << 20;

/// A preference run's: its micro-batches hold groups of answers, and each update may have foreign answers besides.
pub(crate) fn prefer(model: &Model, options: &TuneOptions, needs: &Needs) -> Result<Planned<plan::TuneLayout>> {
    let mut request = options.request(model.spec())?;
    let sizes = needs.sizes;
    request.max_length = sizes.longest.max(2);
    request.tokens = (options.batch_size * sizes.group).max(request.max_length);
    request.vocab_chunk = crate::tuner::vocab_chunk(model.spec(), request.tokens);
    fit(model, options, request, None, &|g, r| {
        let count = needs.micro_batches(options, r.tokens);
        g.host("batch", &[if needs.foreign { 2 } else { 1 }, count, 7, r.tokens], "u32", 4);
        // Once in use, and once on their way to the file.
        if needs.references > 0 {
            g.host("reference", &[2, needs.references], "f64", 8);
        }
        if needs.tokens > 0 {
            g.host("reference.tokens", &[2, needs.tokens], "f64", 8);
        }
    })
}

/// The plan of a request, within the options' budget where they name one; `batch` is what its micro-batches take, `cache` buffers of keys and values and
/// their bytes in all.
fn fit(
    model: &Model,
    options: &TuneOptions,
    mut request: TuneRequest,
    cache: Option<(&[Item], usize)>,
    batch: &dyn Fn(&mut Gathered, &TuneRequest),
) -> Result<Planned<plan::TuneLayout>> {
    let spec = model.spec();
    let lora = attune_core::lora::Layout::new(spec, request.shape)?;
    let tuned = lora.len() + if request.score_head { spec.width } else { 0 };
    let host = |g: &mut Gathered, r: &TuneRequest, threads: usize| {
        model_host(g, model);
        g.host("threads", &[threads, STACK], "u8", 1);
        batch(g, r);
        g.host("batch.logprobs", &[2, r.tokens], "f32", 4);
        if r.backward {
            g.host("adapter.copy", &[tuned], "f32", 4);
            if options.caches_trunk(spec) {
                g.host("trunk", &[r.tokens, spec.width], "f32", 4);
            }
            if options.keeps_best() {
                g.host("adapter.best", &[tuned], "f32", 4);
            }
            if options.save_every > 0 {
                let state = if r.optim_8bit { 2 * tuned + tuned / 8 } else { 8 * tuned };
                g.host("checkpoint.state", &[state], "u8", 1);
            }
        }
    };
    let threads = threads(options.threads);
    let bytes = |r: &TuneRequest| {
        let mut g = Gathered::new();
        host(&mut g, r, FEW_THREADS);
        g.buffers.iter().map(|b| b.bytes as u64).sum::<u64>() + cache.map_or(0, |(_, bytes)| bytes as u64)
    };
    if let Some(budget) = options.budget {
        let pinned = plan::Pinned { optim: options.optim.is_some(), ..plan::Pinned::default() };
        // Smaller micro-batches may be more, and so take more in all: whichever the budget leads to, there is room.
        let (mut others, mut smaller) = (bytes(&request), request);
        while smaller.tokens > smaller.max_length {
            smaller.tokens = (smaller.tokens / 2).max(smaller.max_length);
            others = others.max(bytes(&smaller));
        }
        request = within(spec, &request, pinned, budget, others, ((threads - FEW_THREADS) * STACK) as u64)?;
    } else {
        request.keep = 1;
        let others = bytes(&request) as usize;
        let room = (KEEP_BELOW * request.tokens).saturating_sub(plan::tune(spec, &request, &mut |_| {})?.totals.sum() + others);
        request.keep += room / (request.block_bytes(spec) + BLOCK_BUFFERS * attune_core::arena::ALIGN);
    }
    let mut g = Gathered::new();
    let mut layout = plan::tune(spec, &request, &mut |item| g.item(item))?;
    if let Some((items, bytes)) = cache {
        items.iter().for_each(|item| g.item(item));
        layout.totals.cache = bytes;
    }
    host(&mut g, &request, threads);
    let knobs = Knobs::Tune {
        micro_batch_tokens: request.tokens,
        vocab_chunk: request.vocab_chunk.min(spec.vocab),
        layer_inputs: request.inputs.name(),
        layer_stride: request.stride,
        kept_blocks: request.kept_blocks(spec),
        optim: if request.optim_8bit { "adamw-8bit" } else { "adamw" },
    };
    Ok(Planned { plan: g.finish(model, layout.totals, 0, knobs), layout })
}

/// The knobs for a budget. More threads than [`FEW_THREADS`] take `more` bytes from it: blocks are computed again for them, which changes no result, and only
/// where that does not do, other knobs turn.
fn within(spec: &Spec, request: &TuneRequest, pinned: plan::Pinned, budget: u64, others: u64, more: u64) -> Result<TuneRequest> {
    let least = |e| match e {
        attune_core::Error::OverBudget { needs, .. } => attune_core::Error::OverBudget { needs: needs + more, budget },
        e => e,
    };
    let mut fitted = plan::fit_tune(spec, request, pinned, budget, others).map_err(least)?;
    while more > 0 && plan::tune(spec, &fitted, &mut |_| {})?.totals.sum() as u64 + others + more > budget {
        if fitted.keep <= 1 {
            return Ok(plan::fit_tune(spec, request, pinned, budget.saturating_sub(more), others).map_err(least)?);
        }
        fitted.keep = fitted.keep.min(spec.layers) - 1;
    }
    Ok(fitted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn threads_have_a_line_and_more_of_them_turn_no_knob_that_changes_a_result_as_long_as_others_do() {
        let model = Model::from_bytes("tiny", crate::doc::tiny_model()).unwrap();
        let plan =
            |threads, budget| for_tuning(&model, &TuneOptions { max_length: 512, threads, budget, ..TuneOptions::default() }).unwrap();
        let (one, two, many) = (plan(1, None), plan(2, None), plan(9, None));
        assert_eq!((&one, one.total_bytes + 7 * STACK as u64), (&two, many.total_bytes));
        assert_eq!((&one.knobs, many.buffers.iter().find(|b| b.name == "threads").unwrap().bytes), (&many.knobs, 9 * STACK));
        // What two threads just have room for, more have if a block is computed again.
        let tight = plan(9, Some(many.total_bytes - 1));
        let Knobs::Tune { kept_blocks, layer_inputs, .. } = tight.knobs else { panic!("{:?}", tight.knobs) };
        assert!((kept_blocks, layer_inputs) == (1, "f32") && tight.total_bytes < many.total_bytes);
        assert_eq!(plan(2, Some(many.total_bytes - 1)), two);
        // The least that does is said with the threads in it, and does.
        let least = |threads| {
            let options = TuneOptions { max_length: 512, threads, budget: Some(1), ..TuneOptions::default() };
            match for_tuning(&model, &options) {
                Err(crate::Error::Core(attune_core::Error::OverBudget { needs, .. })) => needs,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(least(9), least(2) + 7 * STACK as u64);
        assert!(plan(9, Some(least(9))).total_bytes <= least(9));
    }

    #[test]
    fn blocks_are_kept_as_far_as_the_budget_goes_before_any_other_knob_is_turned() {
        let model = Model::from_bytes("tiny", crate::doc::tiny_model()).unwrap();
        let plan = |budget| {
            let options = TuneOptions { max_length: 64, budget, ..TuneOptions::default() };
            let plan = for_tuning(&model, &options).unwrap();
            let Knobs::Tune { kept_blocks, vocab_chunk, layer_inputs, optim, .. } = plan.knobs else { panic!("{:?}", plan.knobs) };
            (plan.total_bytes, kept_blocks, (vocab_chunk, layer_inputs, optim))
        };
        let (all, two, free) = plan(None);
        assert_eq!(two, 2, "a small model is kept whole");
        assert_eq!(plan(Some(all)), (all, 2, free));
        let (less, one, same) = plan(Some(all - 1));
        assert_eq!((one, same), (1, free), "nothing else is turned");
        assert!(less < all);
        assert_eq!(plan(Some(less)), (less, 1, free));
        assert_ne!(plan(Some(less - 1)).2, free);
    }
}
