//! Inference: one conversation with a model, streaming, with adapters that are switched and scaled at will.

use crate::adapter::Adapter;
use crate::cancel::Cancel;
use crate::data::Message;
use crate::error::{Error, Result};
use crate::memory::{self, Given};
use crate::model::Model;
use crate::plan::{self, Plan};
use crate::tokenizer::Special;
use attune_core::arena::{ALIGN, Region};
use attune_core::decoder::Decoder;
use attune_core::sampler::Sampling;
use attune_core::target::{Store, Target};
use attune_cpu::{CpuTarget, Precision};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvType {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number.
    F16,
    /// 34 bytes a block of 32; for heads that are a multiple of 32.
    #[serde(rename = "q8_0")]
    Q8_0,
}

impl KvType {
    pub(crate) fn store(self) -> Store {
        match self {
            KvType::F32 => Store::F32,
            KvType::F16 => Store::F16,
            KvType::Q8_0 => Store::Q8_0,
        }
    }
}

/// What a session is planned for.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionOptions {
    /// Tokens of the longest conversation; 0: the model's own context, at most 2048.
    pub context: usize,
    /// Tokens of one prefill pass.
    pub prefill_batch: usize,
    /// How keys and values are kept; unset: f16, or smaller where the budget asks for it.
    pub kv: Option<KvType>,
    /// The largest rank of an adapter that may be added; raised to the given adapters' rank by [`for_adapters`](Self::for_adapters).
    pub max_rank: usize,
    /// Bytes that adapters will take; set by [`for_adapters`](Self::for_adapters).
    pub adapter_bytes: usize,
    /// Bytes that the session may take above the mapped weights; unset: as many as it takes.
    pub budget: Option<u64>,
    /// Threads; 0: as many as the processor runs at once.
    pub threads: usize,
    /// How products are computed.
    pub precision: Precision,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            context: 0,
            prefill_batch: 256,
            kv: None,
            max_rank: 0,
            adapter_bytes: 0,
            budget: None,
            threads: 0,
            precision: Precision::default(),
        }
    }
}

impl SessionOptions {
    /// Makes room for these adapters.
    #[must_use]
    pub fn for_adapters<'a>(mut self, adapters: impl IntoIterator<Item = &'a Adapter>) -> Self {
        for adapter in adapters {
            self.max_rank = self.max_rank.max(adapter.shape.rank as usize);
            self.adapter_bytes += adapter.params.len() * 4;
        }
        self
    }

    /// Bytes of adapters in the caller's memory, where each begins at a multiple of [`ALIGN`].
    fn adapter_room(&self) -> usize {
        if self.adapter_bytes == 0 { 0 } else { self.adapter_bytes.saturating_add(Region::MAX_ADAPTERS * ALIGN) }
    }

    pub(crate) fn context_for(&self, model: usize) -> usize {
        if self.context > 0 { self.context } else { model.min(2048) }
    }
}

/// How an answer is made.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Tokens of the longest answer.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Strings that end the answer; they are not part of it.
    pub stop: Vec<String>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions { max_tokens: 256, sampling: Sampling::default(), stop: Vec::new() }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// `max_tokens` were made.
    Length,
    /// The context is full.
    Context,
    /// The listener asked for an end, or somebody else did ([`Session::cancel_with`]).
    Cancelled,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generation {
    /// Its text.
    pub text: String,
    /// Its tokens, without the one that ended it.
    pub token_ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// A conversation with a model.
///
/// ```
/// use attune::Model;
/// use attune::session::{GenerateOptions, Session, SessionOptions};
/// use std::ops::ControlFlow;
///
/// # fn main() -> attune::Result<()> {
/// let model = Model::from_bytes("tiny", attune::doc::tiny_model())?; // or Model::open("model.gguf")?
/// let mut session = Session::new(&model, &SessionOptions { context: 64, ..SessionOptions::default() })?;
/// let prompt = session.document("Once upon")?;
/// let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
/// let answer = session.generate(&prompt, &options, |piece| {
///     print!("{piece}"); // comes as it is made, never half a character
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(answer.prompt_tokens, prompt.len());
/// # Ok(())
/// # }
/// ```
pub struct Session {
    model: Model,
    decoder: Decoder<CpuTarget>,
    plan: Plan,
    logits: Vec<f32>,
    order: Vec<u32>,
    /// The tokens in the cache.
    history: Vec<u32>,
    draws: u64,
    cancel: Cancel,
    stop: Arc<AtomicBool>,
    /// What is left of the caller's memory; adapters go there.
    given: Option<Given>,
}

impl Session {
    /// Plans and takes all memory that the session will ever have, but for adapters that are added later.
    ///
    /// # Errors
    /// [`attune_core::Error::OverBudget`], and what the system does not give.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Session> {
        Self::build(model, options, None)
    }

    /// As [`new`](Self::new), with keys and values, scratch and adapters in the caller's memory: [`bytes_of`](Self::bytes_of) many.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`attune_core::Error::TooSmall`].
    pub fn new_in(model: &Model, options: &SessionOptions, memory: Given) -> Result<Session> {
        Self::build(model, options, Some(memory))
    }

    /// Bytes that [`new_in`](Self::new_in) needs: the regions of the plan, and the options' adapters.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn bytes_of(model: &Model, options: &SessionOptions) -> Result<u64> {
        let totals = plan::decode(model, options)?.layout.totals;
        Ok(Given::needs(&[totals.cache, totals.work, options.adapter_room()]))
    }

    fn build(model: &Model, options: &SessionOptions, mut given: Option<Given>) -> Result<Session> {
        let planned = plan::decode(model, options)?;
        if let Some(given) = &given {
            let totals = planned.layout.totals;
            given.check(&[totals.cache, totals.work, options.adapter_room()])?;
        }
        let cpu = attune_cpu::Options { threads: options.threads, precision: options.precision };
        let mut target = attune_cpu::target(cpu, Some(model.weight_bytes()))?;
        let totals = planned.layout.totals;
        memory::take(given.as_mut(), &mut target, Region::CACHE, totals.cache)?;
        memory::take(given.as_mut(), &mut target, Region::WORK, totals.work)?;
        let vocab = model.spec().vocab;
        let context = planned.layout.request.context;
        let stop = target.executor().stop().clone();
        let decoder = Decoder::new(target, model.spec(), model.core().globals.rope_freqs, planned.layout)?;
        Ok(Session {
            model: model.clone(),
            decoder,
            plan: planned.plan,
            logits: vec![0.0; vocab],
            order: vec![0; vocab],
            history: Vec::with_capacity(context),
            draws: 0,
            cancel: Cancel::new(),
            stop,
            given,
        })
    }

    /// What was taken.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Tokens in the cache.
    #[must_use]
    pub fn history(&self) -> &[u32] {
        &self.history
    }

    /// Puts an adapter into use and returns its number. A reward model's is taken without its head, with a warning: it was tuned to score answers and not to
    /// give them. What is in the cache stays as it was computed: [`reset`](Self::reset) to compute it anew.
    ///
    /// # Errors
    /// An adapter of another model, too many of them, a rank larger than planned.
    pub fn add_adapter(&mut self, adapter: &Adapter, scale: f32) -> Result<usize> {
        adapter.layout_on(&self.model.base_unhashed()?)?;
        if adapter.score_head.is_some() {
            tracing::warn!("the adapter is a reward model's, tuned to score answers and not to give them; its score head is passed over");
        }
        let index = self.decoder.adapters();
        let region =
            Region::adapter(index).ok_or_else(|| Error::option("--adapter", format!("at most {}", Region::MAX_ADAPTERS), index + 1))?;
        let bytes = adapter.params.len() * 4;
        let target = self.decoder.target();
        memory::take(self.given.as_mut(), target, region, bytes)?;
        target.write(attune_core::arena::Buf { region, offset: 0, len: bytes }, bytemuck::cast_slice(&adapter.params))?;
        Ok(self.decoder.add_adapter(self.model.spec(), adapter.shape, scale)?)
    }

    /// Multiplies an adapter's own scale; 0 switches it off. Takes effect with the next token.
    ///
    /// # Errors
    /// A number that no adapter has.
    pub fn scale_adapter(&mut self, index: usize, scale: f32) -> Result<()> {
        Ok(self.decoder.scale_adapter(index, scale)?)
    }

    /// Puts the session under a request to end, in place of the one before: what is under way when it is asked ends within one piece of work.
    pub fn cancel_with(&mut self, cancel: Cancel) {
        self.cancel = cancel;
    }

    /// Forgets the conversation.
    pub fn reset(&mut self) {
        self.decoder.rewind(0);
        self.history.clear();
    }

    /// Takes tokens in and returns the logits of the last one, `[V]`. Allocates nothing.
    ///
    /// # Errors
    /// A full context, or ids beyond the vocabulary; [`attune_core::Error::Cancelled`], and then nothing of it has been taken in.
    pub fn feed(&mut self, ids: &[u32]) -> Result<&mut [f32]> {
        let _watch = self.cancel.watch(&self.stop);
        self.decoder.feed(&self.model.core(), ids, &mut self.logits)?;
        self.history.extend_from_slice(ids);
        Ok(&mut self.logits)
    }

    /// Chooses a token from the logits of the last [`feed`](Self::feed), which it uses up. Allocates nothing.
    ///
    /// # Errors
    /// Options outside their range, logits that are no numbers.
    pub fn sample(&mut self, sampling: &Sampling) -> Result<u32> {
        sampling.check()?;
        let id = sampling.choose(&mut self.logits, &mut self.order, &self.history, self.draws)?;
        self.draws += 1;
        Ok(id)
    }

    /// The tokens of a conversation, up to where the assistant speaks.
    ///
    /// # Errors
    /// A model without tokenizer, a conversation that its template refuses.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        crate::encode::chat_prompt(&self.model, messages)
    }

    /// Answers a prompt of tokens; `listen` gets the text as it comes, never half a character. What the cache holds of the prompt already is not computed
    /// again.
    ///
    /// # Errors
    /// A prompt that the context does not hold, or ids beyond the vocabulary.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        mut listen: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation> {
        options.sampling.check()?;
        if prompt.is_empty() {
            return Err(Error::option("prompt", "at least one token", 0));
        }
        self.draws = 0;
        let shared = self.history.iter().zip(prompt).take_while(|(a, b)| a == b).count().min(prompt.len() - 1);
        self.decoder.rewind(shared);
        self.history.truncate(shared);
        let mut cancelled = self.feed_unless_cancelled(&prompt[shared..])?;
        if cancelled {
            // Before the tokenizer is built, where it was not yet.
            let (text, token_ids) = (String::new(), Vec::new());
            return Ok(Generation { text, token_ids, prompt_tokens: prompt.len(), finish_reason: FinishReason::Cancelled });
        }
        let model = self.model.clone();
        let mut out = Streamed::new(&model, prompt, options);
        let context = self.decoder.layout().request.context;
        let reason = loop {
            if cancelled {
                break FinishReason::Cancelled;
            }
            if out.ids.len() >= options.max_tokens {
                break FinishReason::Length;
            }
            let id = self.sample(&options.sampling)?;
            if model.tokenizer().is_ok_and(|t| t.is_end_of_generation(id)) {
                break FinishReason::Stop;
            }
            if let Some(end) = out.push(id, &mut listen) {
                break end;
            }
            if self.decoder.position() >= context {
                break FinishReason::Context;
            }
            cancelled = self.feed_unless_cancelled(&[id])?;
        };
        let finish_reason = out.finish(reason, &mut listen);
        Ok(Generation { text: out.text, token_ids: out.ids, prompt_tokens: prompt.len(), finish_reason })
    }

    /// Takes tokens in; whether a request to end came before they were.
    fn feed_unless_cancelled(&mut self, ids: &[u32]) -> Result<bool> {
        match self.feed(ids) {
            Err(Error::Core(attune_core::Error::Cancelled)) => Ok(true),
            other => other.map(|_| false),
        }
    }

    /// Answers a conversation.
    ///
    /// # Errors
    /// Those of [`chat_prompt`](Self::chat_prompt) and [`generate`](Self::generate).
    pub fn chat(
        &mut self,
        messages: &[Message],
        options: &GenerateOptions,
        listen: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation> {
        let prompt = self.chat_prompt(messages)?;
        self.generate(&prompt, options, listen)
    }

    /// Tokens of a text as it stands, with the document's start where the model wants one.
    ///
    /// # Errors
    /// A model without tokenizer.
    pub fn document(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self.model.tokenizer()?;
        let mut ids: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.add_bos()).into_iter().collect();
        ids.extend(tokenizer.encode(text, Special::Parse)?);
        Ok(ids)
    }
}

/// An answer as it comes: its text, and what of it may still become a stop string.
struct Streamed<'a> {
    ids: Vec<u32>,
    text: String,
    /// How much of the text has been told.
    told: usize,
    stop: &'a [String],
    /// Whether a stop string has ended it.
    cut: bool,
    /// Whether the listener has, and wants to hear no more.
    ended: bool,
    detokenizer: Option<crate::tokenizer::Detokenizer<'a>>,
}

impl<'a> Streamed<'a> {
    fn new(model: &'a Model, prompt: &[u32], options: &'a GenerateOptions) -> Self {
        Streamed {
            ids: Vec::with_capacity(options.max_tokens.min(1 << 16)),
            // More than any text has a token, so that it does not grow.
            text: String::with_capacity(options.max_tokens.min(1 << 16) * 16),
            told: 0,
            stop: &options.stop,
            cut: false,
            ended: false,
            detokenizer: model.tokenizer().ok().map(|t| t.stream_after(prompt)),
        }
    }

    fn push(&mut self, id: u32, listen: &mut impl FnMut(&str) -> ControlFlow<()>) -> Option<FinishReason> {
        self.ids.push(id);
        if let Some(detokenizer) = &mut self.detokenizer {
            self.text.push_str(detokenizer.push(id));
        }
        if let Some(at) = self.stop.iter().filter(|s| !s.is_empty()).filter_map(|s| self.text.find(s.as_str())).min() {
            self.text.truncate(at);
            self.cut = true;
            return Some(FinishReason::Stop);
        }
        let safe = self.text.len() - self.undecided();
        self.tell(safe, listen)
    }

    /// Bytes at the end that are the beginning of a stop string.
    fn undecided(&self) -> usize {
        let longest = |stop: &String| {
            let most = stop.len().min(self.text.len());
            (1..=most).rev().find(|&n| stop.is_char_boundary(n) && self.text.ends_with(&stop[..n])).unwrap_or(0)
        };
        self.stop.iter().map(longest).max().unwrap_or(0)
    }

    fn tell(&mut self, until: usize, listen: &mut impl FnMut(&str) -> ControlFlow<()>) -> Option<FinishReason> {
        if until <= self.told || self.ended {
            return None;
        }
        let piece = &self.text[self.told..until];
        self.told = until;
        self.ended = listen(piece).is_break();
        self.ended.then_some(FinishReason::Cancelled)
    }

    fn finish(&mut self, reason: FinishReason, listen: &mut impl FnMut(&str) -> ControlFlow<()>) -> FinishReason {
        if let Some(detokenizer) = self.detokenizer.as_mut().filter(|_| !self.cut) {
            self.text.push_str(detokenizer.flush());
        }
        self.told = self.told.min(self.text.len());
        self.tell(self.text.len(), listen);
        reason
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use attune_core::gguf::Gguf;
    use attune_core::gguf::write::{TensorInfo, WriteValue, Writer};

    /// The tiny model with a SentencePiece vocabulary in place of its own.
    fn sentence_piece() -> Model {
        let bytes = crate::doc::tiny_model_without_tokenizer();
        let gguf = Gguf::parse(&bytes).unwrap();
        let vocab = gguf.tensor("token_embd.weight").unwrap().dims[1] as usize;
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>", "▁so", "▁it", "</turn>"].map(str::to_owned).to_vec();
        tokens.extend((tokens.len()..vocab).map(|i| format!("<{i}>")));
        let texts: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let types: Vec<i32> = (0..vocab).map(|i| if [1, 2, 5].contains(&i) { 3 } else { 1 }).collect();
        let scores = vec![0.0; vocab];
        let mut metadata = vec![
            ("tokenizer.ggml.model", WriteValue::Str("llama")),
            ("tokenizer.ggml.tokens", WriteValue::Strs(&texts)),
            ("tokenizer.ggml.token_type", WriteValue::I32s(&types)),
            ("tokenizer.ggml.scores", WriteValue::F32s(&scores)),
        ];
        for (key, value) in gguf.metadata() {
            let value = match value {
                attune_core::gguf::Value::Str(v) => WriteValue::Str(v),
                attune_core::gguf::Value::U32(v) => WriteValue::U32(v),
                attune_core::gguf::Value::F32(v) => WriteValue::F32(v),
                _ => continue,
            };
            metadata.push((key, value));
        }
        let tensors: Vec<_> = gguf.tensors().collect();
        let infos: Vec<TensorInfo<'_>> = tensors.iter().map(|t| TensorInfo { name: t.name, ty: t.ty, dims: &t.dims[..t.n_dims] }).collect();
        let mut out = Writer::new(Vec::new(), &metadata, &infos).unwrap();
        for tensor in &tensors {
            out.tensor(tensor.data).unwrap();
        }
        Model::from_bytes("pieces", out.finish().unwrap()).unwrap()
    }

    #[test]
    fn an_answer_behind_a_control_token_does_not_begin_with_the_tokenizers_space() {
        let model = sentence_piece();
        let options = GenerateOptions::default();
        let said = |prompt: &[u32]| {
            let mut out = Streamed::new(&model, prompt, &options);
            let mut heard = String::new();
            for id in [3, 4] {
                out.push(id, &mut |piece| {
                    heard.push_str(piece);
                    ControlFlow::Continue(())
                });
            }
            assert_eq!(heard, out.text);
            heard
        };
        assert_eq!(said(&[1, 3, 5]), "so it", "behind the mark that ends a turn");
        assert_eq!(said(&[1, 3]), " so it", "within a text");
    }
}
