//! Examples: gathered one by one, or read from a file.

use crate::caller::Caller;
use crate::error::attune_error;
use crate::handle::{self, object};
use crate::session::messages;
use crate::status::{ATTUNE_ERROR_DATA, ATTUNE_ERROR_MEMORY, ATTUNE_ERROR_STATE, Failure, Outcome};
use crate::text::{attune_message, attune_text};
use crate::{attune_status, call};
use attune::data::{Dataset, Message};
use serde_json::{Value, json};
use std::sync::Arc;

/// Examples to learn from, or to measure with: of one kind.
pub struct attune_data {
    _incomplete: [u8; 0],
}

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Examples,
    Pairs,
    Ratings,
    Rankings,
    Prompts,
    Lines,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Examples => "examples",
            Kind::Pairs => "pairs",
            Kind::Ratings => "ratings",
            Kind::Rankings => "rankings",
            Kind::Prompts => "prompts",
            Kind::Lines => "lines",
        }
    }
}

/// Lines of JSON, or a file.
#[derive(Default)]
pub(crate) struct Gathered {
    kind: Option<Kind>,
    lines: Vec<u8>,
    count: usize,
    /// What reads them, made when it is first asked for.
    set: Option<Arc<Dataset>>,
    /// Whether it is a file's.
    file: bool,
}

object!(Gathered, attune_data, 4, "a set of examples", ());

impl Gathered {
    fn add(&mut self, kind: Kind, line: &[u8], count: usize) -> Outcome {
        if self.file {
            return Err(Failure::new(
                ATTUNE_ERROR_STATE,
                "expected a set that is gathered, found one of a file; make another with attune_data_new",
            ));
        }
        if let Some(other) = self.kind.filter(|&other| other != kind) {
            let message =
                format_args!("expected {}, as the set holds already, found {}; make a set for each kind", other.name(), kind.name());
            return Err(Failure::new(ATTUNE_ERROR_STATE, message));
        }
        let full = |_| Failure::new(ATTUNE_ERROR_MEMORY, "no memory for one more example; write them into a file instead");
        self.lines.try_reserve(line.len() + 1).map_err(full)?;
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
        (self.kind, self.set) = (Some(kind), None);
        self.count += count;
        Ok(())
    }

    fn add_value(&mut self, kind: Kind, value: &Value) -> Outcome {
        self.add(kind, value.to_string().as_bytes(), 1)
    }

    /// What the engine reads them by.
    fn dataset(&mut self) -> Outcome<Arc<Dataset>> {
        if let Some(set) = &self.set {
            return Ok(set.clone());
        }
        let set = Arc::new(Dataset::from_bytes(self.lines.clone())?);
        self.set = Some(set.clone());
        Ok(set)
    }
}

/// The examples of a handle. Those that are added later are not among them.
pub(crate) fn of(data: *const attune_data) -> Outcome<Arc<Dataset>> {
    handle::with::<Gathered, _>(data, |gathered, ()| gathered.dataset())
}

/// The examples of a handle that may be NULL.
pub(crate) fn of_if(data: *const attune_data) -> Outcome<Option<Arc<Dataset>>> {
    if data.is_null() { Ok(None) } else { of(data).map(Some) }
}

/// Gives a set to the caller that lines of JSON were written for.
pub(crate) fn give_lines(to: crate::caller::Out<*mut attune_data>, lines: Vec<u8>, count: usize) {
    to.set(handle::insert(Gathered { kind: Some(Kind::Lines), lines, count, set: None, file: false }));
}

fn turns(messages: &[Message]) -> Value {
    messages.iter().map(Message::to_value).collect()
}

fn reply(text: &str) -> Value {
    json!([{ "role": "assistant", "content": text }])
}

/// Makes an empty set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_data_new(data: *mut *mut attune_data, error: *mut attune_error) -> attune_status {
    call!(error, |c: &Caller| {
        let out = c.out(data, "data")?;
        out.set(handle::insert(Gathered::default()));
        Ok(())
    })
}

/// Opens a file of examples in any of the formats that are in use (JSON lines: `messages`, Alpaca, ShareGPT, `prompt`/`completion`, `text`, `input_ids`; pairs,
/// ratings, rankings). Examples are read from it when they are needed; it must not change meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_data_open(path: attune_text, data: *mut *mut attune_data, error: *mut attune_error) -> attune_status {
    call!(error, |c: &Caller| {
        let (path, out) = (c.text(path, "path")?, c.out(data, "data")?);
        let set = Dataset::open(path)?;
        out.set(handle::insert(Gathered { count: set.len(), set: Some(Arc::new(set)), file: true, ..Gathered::default() }));
        Ok(())
    })
}

/// Adds a conversation; what the assistant says in it is learnt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_data_add_example(
    data: *mut attune_data,
    turns_of: *const attune_message,
    count: usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let messages = messages(c, turns_of, count)?;
        if !messages.iter().any(Message::is_assistant) {
            return Err(Failure::new(ATTUNE_ERROR_DATA, "expected a turn of the assistant to learn, found none"));
        }
        handle::with::<Gathered, _>(data, |gathered, ()| gathered.add_value(Kind::Examples, &json!({ "messages": turns(&messages) })))
    })
}

/// Adds an instruction and the answer to learn: short for a conversation of two turns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_data_add_answer(
    data: *mut attune_data,
    prompt: attune_text,
    answer: attune_text,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let messages = [Message::user(c.text(prompt, "prompt")?), Message::assistant(c.text(answer, "answer")?)];
        handle::with::<Gathered, _>(data, |gathered, ()| gathered.add_value(Kind::Examples, &json!({ "messages": turns(&messages) })))
    })
}

/// Adds a conversation to be answered by the model itself, for tuning on rewards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_data_add_prompt(
    data: *mut attune_data,
    prompt: *const attune_message,
    count: usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let value = json!({ "prompt": turns(&messages(c, prompt, count)?) });
        handle::with::<Gathered, _>(data, |gathered, ()| gathered.add_value(Kind::Prompts, &value))
    })
}

/// Adds two answers to one conversation, the better and the worse.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_data_add_pair(
    data: *mut attune_data,
    prompt: *const attune_message,
    count: usize,
    chosen: attune_text,
    rejected: attune_text,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let prompt = turns(&messages(c, prompt, count)?);
        let (chosen, rejected) = (reply(c.text(chosen, "chosen")?), reply(c.text(rejected, "rejected")?));
        let value = json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected });
        handle::with::<Gathered, _>(data, |gathered, ()| gathered.add_value(Kind::Pairs, &value))
    })
}

/// Adds an answer that is liked (`liked` not 0) or disliked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_data_add_rating(
    data: *mut attune_data,
    prompt: *const attune_message,
    count: usize,
    answer: attune_text,
    liked: u32,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let prompt = turns(&messages(c, prompt, count)?);
        let value = json!({ "prompt": prompt, "completion": reply(c.text(answer, "answer")?), "label": liked != 0 });
        handle::with::<Gathered, _>(data, |gathered, ()| gathered.add_value(Kind::Ratings, &value))
    })
}

/// Adds two or more answers to one conversation, best first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_data_add_ranking(
    data: *mut attune_data,
    prompt: *const attune_message,
    count: usize,
    answers: *const attune_text,
    answer_count: usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let prompt = turns(&messages(c, prompt, count)?);
        let answers = c.slice(answers, answer_count, "answers")?;
        if answers.len() < 2 {
            return Err(Failure::option("answer_count", "at least two answers", answers.len()));
        }
        let answers = answers.iter().map(|&answer| c.text(answer, "answers").map(reply)).collect::<Outcome<Vec<Value>>>()?;
        let value = json!({ "prompt": prompt, "completions": answers });
        handle::with::<Gathered, _>(data, |gathered, ()| gathered.add_value(Kind::Rankings, &value))
    })
}

/// Adds lines of JSON in one of the formats of `attune_data_open`. Nothing is added if one of them is no JSON object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_data_add_lines(data: *mut attune_data, lines: attune_text, error: *mut attune_error) -> attune_status {
    call!(error, |c: &Caller| {
        let text = c.text(lines, "lines")?;
        let mut count = 0;
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let bad = |found: String| Failure::new(ATTUNE_ERROR_DATA, format_args!("line {number}: expected a JSON object, found {found}"));
            match serde_json::from_str::<Value>(line) {
                Ok(Value::Object(_)) => count += 1,
                Ok(_) => return Err(bad("another value".into())),
                Err(e) => return Err(bad(e.to_string())),
            }
        }
        handle::with::<Gathered, _>(data, |gathered, ()| gathered.add(Kind::Lines, text.as_bytes(), count))
    })
}

/// How many examples a set holds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_data_count(data: *const attune_data, count: *mut usize, error: *mut attune_error) -> attune_status {
    call!(error, |c: &Caller| {
        let out = c.out(count, "count")?;
        out.set(handle::with::<Gathered, _>(data, |gathered, ()| Ok(gathered.count))?);
        Ok(())
    })
}

/// Frees a set; tuners that were made of it keep what they need. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_data_free(data: *mut attune_data) -> attune_status {
    call!(std::ptr::null_mut(), |_: &Caller| handle::free::<Gathered>(data))
}
