//! Chat templates: from messages to the text that a model was trained to read, and to the mask that tells
//! the assistant's tokens from the rest.
//!
//! The template is the model's own Jinja (`tokenizer.chat_template`), rendered as `transformers` renders it: blocks
//! trimmed, Python's string methods, `tojson`, `raise_exception`, `strftime_now`. A model without one gets
//! [`CHATML`] if its vocabulary has ChatML's tokens, and [`INSTRUCTION`] otherwise.
//!
//! - [`ChatTemplate::render`] gives the text, [`ChatTemplate::encode`] the prompt's tokens,
//! - [`ChatTemplate::render_masked`] a training example: tokens, and labels that are −100 wherever no loss falls.
//!   How the assistant's text is found, and verified, is said in [`mask`](MaskOptions).
//!
//! ```
//! use attune::data::Message;
//! use attune::template::ChatTemplate;
//!
//! let template = ChatTemplate::new(attune::template::CHATML, "", "<|im_end|>")?;
//! let text = template.render(&[Message::user("你好")], None, true)?;
//! assert_eq!(text, "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n");
//! # Ok::<(), attune::template::TemplateError>(())
//! ```

mod error;
mod generation;
mod guard;
mod mask;
mod python;
mod value;

pub use error::TemplateError;
pub use mask::{MaskOptions, Masked, Turns};

use attune_core::gguf::Gguf;
use chrono::{DateTime, FixedOffset, Local};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};
use serde_json::{Map, Value as Json};

use crate::data::Message;
use crate::tokenizer::{Encoding, Special, Tokenizer};
use error::Result;
use guard::Guard;

/// The template of a model that brings none, where the vocabulary has `<|im_start|>` and `<|im_end|>`.
pub const CHATML: &str = "\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- message['content'] + '<|im_end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";

/// The template of a model that brings none: instructions and responses under headings, a response ends with EOS.
///
/// ```text
/// {system}
///
/// ### Instruction:
/// {user}
///
/// ### Response:
/// {assistant}{eos}
///
/// ```
pub const INSTRUCTION: &str = "\
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'user' -%}
{{- '### Instruction:\\n' + message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'assistant' -%}
{{- '### Response:\\n' -}}
{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}
{{- '\\n\\n' -}}
{%- else -%}
{{- '### Result:\\n' + message['content'] + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Response:\\n' -}}{%- endif -%}";

/// Steps of the engine that a render may take: thousands of turns' worth, and a fraction of a second of an endless loop.
const FUEL: u64 = 4_000_000;
const CHAT: &str = "chat";
const TOOL_USE: &str = "tool_use";

/// A compiled chat template with the special tokens that it mentions.
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    variables: Map<String, Json>,
    /// Which of the compiled sources mark the assistant's text themselves.
    marked: Vec<&'static str>,
    /// It writes a tool call's arguments as they are, and so expects them as text and not as an object.
    writes_arguments: bool,
    now: Option<DateTime<FixedOffset>>,
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the tokens' texts, as `bos_token` and `eos_token` in the
    /// template; empty where a model has none.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<ChatTemplate> {
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(syntax_error)?;
        env.set_syntax(syntax);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        env.set_fuel(Some(FUEL));
        python::install(&mut env);
        env.add_filter(generation::FILTER, generation::mark);
        let mut variables = Map::new();
        variables.insert("bos_token".to_owned(), Json::from(bos));
        variables.insert("eos_token".to_owned(), Json::from(eos));
        let mut template =
            ChatTemplate { env, source: source.to_owned(), variables, marked: Vec::new(), writes_arguments: false, now: None };
        template.add(CHAT, source)?;
        template.writes_arguments = template.fails_on_objects();
        Ok(template)
    }

    /// The template of a model file, with its own variant for tools if it has one; `None` if the file has none.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`], [`TemplateError::File`].
    pub fn from_gguf(gguf: &Gguf<'_>, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
        let tool_use = gguf.str("tokenizer.chat_template.tool_use")?;
        let source = gguf.str("tokenizer.chat_template")?.or(gguf.str("tokenizer.chat_template.default")?);
        let Some(source) = source.or(tool_use) else { return Ok(None) };
        let mut template = ChatTemplate::for_tokenizer(source, tokenizer)?;
        if let Some(tool_use) = tool_use {
            template.add(TOOL_USE, tool_use)?;
        }
        Ok(Some(template))
    }

    /// The names of a model file's further templates (`tokenizer.chat_templates`), `tool_use` for example.
    ///
    /// # Errors
    /// [`TemplateError::File`].
    pub fn names<'a>(gguf: &Gguf<'a>) -> Result<Vec<&'a str>> {
        Ok(gguf.strs("tokenizer.chat_templates")?.map(Iterator::collect).unwrap_or_default())
    }

    /// One of a model file's further templates; `None` if the file has no such.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`], [`TemplateError::File`].
    pub fn named(gguf: &Gguf<'_>, name: &str, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
        let source = gguf.str(&format!("tokenizer.chat_template.{name}"))?;
        source.map(|source| ChatTemplate::for_tokenizer(source, tokenizer)).transpose()
    }

    /// The template of a model file, or the default for its vocabulary.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`], [`TemplateError::File`].
    pub fn of_model(gguf: &Gguf<'_>, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
        match ChatTemplate::from_gguf(gguf, tokenizer)? {
            Some(template) => Ok(template),
            None => ChatTemplate::default_for(tokenizer),
        }
    }

    /// The default for a vocabulary: [`CHATML`] if it has its tokens, [`INSTRUCTION`] otherwise.
    ///
    /// # Errors
    /// None that a sound build can give.
    pub fn default_for(tokenizer: &Tokenizer) -> Result<ChatTemplate> {
        let chatml = ["<|im_start|>", "<|im_end|>"].iter().all(|text| tokenizer.id_of(text).is_some());
        ChatTemplate::for_tokenizer(if chatml { CHATML } else { INSTRUCTION }, tokenizer)
    }

    /// Compiles a template with a tokenizer's special tokens: `bos_token`, `eos_token`, `pad_token`, `unk_token`.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn for_tokenizer(source: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or("");
        let mut template = ChatTemplate::new(source, text(tokenizer.bos()), text(tokenizer.eos()))?;
        for (name, id) in [("pad_token", tokenizer.pad()), ("unk_token", tokenizer.unk())] {
            if id.is_some() {
                template.variables.insert(name.to_owned(), Json::from(text(id)));
            }
        }
        Ok(template)
    }

    /// With further variables for the template, `enable_thinking` for example.
    #[must_use]
    pub fn with_variables(mut self, variables: Map<String, Json>) -> ChatTemplate {
        self.variables.extend(variables);
        self
    }

    /// With `strftime_now` standing still at `now`. Templates that write today's date give other tokens
    /// tomorrow; a run that is resumed then would go on with other examples.
    #[must_use]
    pub fn with_now(mut self, now: DateTime<FixedOffset>) -> ChatTemplate {
        self.now = Some(now);
        self
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation; with `add_generation_prompt`, up to where the assistant is to speak.
    /// `tools` is a JSON list of functions.
    ///
    /// # Errors
    /// The template refuses the messages, fails on them, or does not come to an end.
    pub fn render(&self, messages: &[Message], tools: Option<&Json>, add_generation_prompt: bool) -> Result<String> {
        let value = |message| value::from_message(message, None, self.writes_arguments);
        let messages: Vec<Value> = messages.iter().map(value).collect();
        self.render_values(&messages, tools, add_generation_prompt, self.moment(), None)
    }

    /// The tokens of a conversation up to where the assistant is to speak.
    ///
    /// BOS stands first if the model wants it, once, whether the template writes it or not. What a person or
    /// a tool said is encoded as plain text: a `<|im_end|>` in it ends nothing. With `trust_contents` it does,
    /// as with `transformers`.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`], and what cannot be encoded.
    pub fn encode(&self, tokenizer: &Tokenizer, messages: &[Message], tools: Option<&Json>, trust_contents: bool) -> Result<Vec<u32>> {
        let guard = Guard::new(self, tokenizer, messages, tools, trust_contents)?;
        let text = self.render_values(&guard.values(messages, self.writes_arguments), tools, true, self.moment(), None)?;
        Ok(encode_once(tokenizer, &guard.clean(&text))?.ids)
    }

    fn add(&mut self, name: &'static str, source: &str) -> Result<()> {
        let rewritten = generation::rewrite(source);
        if rewritten.is_some() {
            self.marked.push(name);
        }
        let source = rewritten.unwrap_or_else(|| source.to_owned());
        self.env.add_template_owned(name, source).map_err(syntax_error)
    }

    /// Whether a tool call can be rendered if its arguments are text, and not if they are an object.
    fn fails_on_objects(&self) -> bool {
        let call = serde_json::json!([{
            "id": "call12345",
            "type": "function",
            "function": {"name": "call", "arguments": {"key": "value"}}
        }]);
        let mut turn = Message::assistant("");
        turn.extra.insert("tool_calls".to_owned(), call);
        let renders = |written| {
            let messages = [Message::user("?"), turn.clone()].map(|message| value::from_message(&message, None, written));
            self.render_values(&messages, None, false, self.moment(), None).is_ok()
        };
        self.source.contains("tool_calls") && !renders(false) && renders(true)
    }

    /// The source that is used, with or without tools.
    fn variant(&self, tools: Option<&Json>) -> &'static str {
        let tools = tools.is_some_and(|tools| tools.as_array().is_none_or(|tools| !tools.is_empty()));
        if tools && self.env.get_template(TOOL_USE).is_ok() { TOOL_USE } else { CHAT }
    }

    /// The moment that all renders of one example share.
    fn moment(&self) -> DateTime<FixedOffset> {
        self.now.unwrap_or_else(|| Local::now().fixed_offset())
    }

    fn render_values(
        &self,
        messages: &[Value],
        tools: Option<&Json>,
        add_generation_prompt: bool,
        moment: DateTime<FixedOffset>,
        marks: Option<&str>,
    ) -> Result<String> {
        let mut context: Vec<(&str, Value)> = self.variables.iter().map(|(name, json)| (name.as_str(), value::from_json(json))).collect();
        context.push(("messages", Value::from(messages)));
        context.push(("tools", tools.map_or(Value::from(()), value::from_json)));
        if !self.variables.contains_key("documents") {
            context.push(("documents", Value::from(())));
        }
        context.push(("add_generation_prompt", Value::from(add_generation_prompt)));
        context.push((python::NOW, Value::from(moment.to_rfc3339())));
        if let Some(marks) = marks {
            context.push((generation::MARKS, Value::from(marks)));
        }
        let template = self.env.get_template(self.variant(tools)).map_err(syntax_error)?;
        template.render(Value::from_pairs(context)).map_err(render_error)
    }
}

impl core::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).field("marked", &self.marked).finish_non_exhaustive()
    }
}

/// Tokens of a rendered text, BOS first if the model wants it and the template has not written it.
fn encode_once(tokenizer: &Tokenizer, text: &guard::Clean) -> Result<Encoding> {
    let mut encoding = tokenizer.encode_guarded(&text.text, Special::Parse, &text.barriers)?;
    let missing = |bos: &u32| tokenizer.add_bos() && encoding.ids.first() != Some(bos);
    if let Some(bos) = tokenizer.bos().filter(missing) {
        encoding.ids.insert(0, bos);
        encoding.offsets.insert(0, (0, 0));
    }
    Ok(encoding)
}

fn syntax_error(error: minijinja::Error) -> TemplateError {
    TemplateError::Syntax { line: error.line().unwrap_or(0), detail: describe(&error) }
}

fn render_error(error: minijinja::Error) -> TemplateError {
    if error.kind() == ErrorKind::OutOfFuel {
        return TemplateError::Endless(FUEL);
    }
    let mut source: Option<&(dyn core::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(python::Raised(message)) = cause.downcast_ref() {
            return TemplateError::Raised(message.clone());
        }
        if cause.downcast_ref::<minijinja::Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
            return TemplateError::Endless(FUEL);
        }
        source = cause.source();
    }
    TemplateError::Render { line: error.line().unwrap_or(0), detail: describe(&error) }
}

fn describe(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
