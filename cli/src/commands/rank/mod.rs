//! `attune rank`: a person puts a model's answers in order, and the feedback store keeps it.

mod order;

use super::feedback::Limits;
use super::plan::RunFlags;
use super::run::SamplingFlags;
use crate::args::Compute;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::output::Output;
use crate::progress::Progress;
use attune::Model;
use attune::core::rng;
use attune::data::{Dataset, Message, Passage, Record};
use attune::feedback::{Context, Event};
use attune::session::{FinishReason, GenerateOptions, Session};
use clap::Args;
use order::{Reply, letter};
use serde::Serialize;
use serde_json::Value;
use std::io::{BufRead, IsTerminal, StdinLock};
use std::path::PathBuf;

/// Where rankings say that they come from: erased together by `attune feedback erase --source`.
const SOURCE: &str = "attune rank";
/// Draws for each answer that is wanted before fewer have to do.
const DRAWS: usize = 4;

/// Put a model's answers in order. The command's own help stands in `commands/mod.rs`.
#[derive(Args)]
pub(crate) struct Rank {
    /// A GGUF file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The feedback store to append to; begun where there is none
    #[arg(long, value_name = "STORE")]
    store: PathBuf,
    /// What to answer
    #[arg(long, short, value_name = "TEXT", required_unless_present = "data", conflicts_with = "data")]
    prompt: Option<String>,
    /// Prompts to answer, one after the other: a data set of any format; answers that it holds are not used
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Answers to each prompt
    #[arg(short, long = "answers", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=order::MOST as i64))]
    n: u8,
    /// What the model is told about its part beforehand
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["raw", "data"])]
    system: Option<String>,
    /// Go on from the prompt as it stands, without the chat template
    #[arg(long, conflicts_with = "data")]
    raw: bool,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    session: RunFlags,
    /// Memory that the session may take above the mapped weights, as 300MiB
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse, help_heading = "Computing")]
    budget: Option<u64>,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    compute: Compute,
}

/// What is to be answered.
struct Asked {
    content: Passage,
    tools: Vec<Value>,
}

/// One answer that the person is shown.
struct Shown {
    text: String,
    /// Why it ended where it does, if not by itself.
    cut: &'static str,
}

/// What was stored about one prompt.
#[derive(Serialize)]
struct Stored {
    prompt: u64,
    answers: Vec<StoredAnswer>,
    /// Letters, best first; those left out stand nowhere.
    order: Vec<char>,
    /// The ranking's id; none where edits alone were stored.
    rank: Option<u64>,
    edits: Vec<StoredEdit>,
    /// Draws that gave an answer which was there already.
    merged: usize,
}

#[derive(Serialize)]
struct StoredAnswer {
    letter: char,
    id: u64,
    text: String,
}

#[derive(Serialize)]
struct StoredEdit {
    of: char,
    id: u64,
    text: String,
}

/// What a person said about the answers to one prompt.
enum Said {
    /// Places of the answers, best first, and edits by place.
    Order(Vec<usize>, Vec<(usize, String)>),
    Skip(Vec<(usize, String)>),
    Quit(Vec<(usize, String)>),
    /// Nothing more comes, and the last line was refused: why.
    Broken(Vec<(usize, String)>, String),
}

impl Rank {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        let options = self.sampling.options();
        options.sampling.check().map_err(attune::Error::from)?;
        if options.sampling.temperature <= 0.0 {
            return Err(Failure::Usage(
                "--temperature: expected more than 0, so that answers differ, found 0; leave the flag out, or say 0.8".into(),
            ));
        }
        let prompts = self.prompts(out)?;
        // A store that cannot be written is worth knowing before anybody has read an answer.
        drop(self.limits.open(&self.store)?);
        let model = Model::open(&self.model)?;
        let mut session = self.open(&model)?;
        interrupt::watch("")?;
        let mut lines = std::io::stdin().lock();
        let (mut ranked, mut left, mut broken) = (0, prompts.len(), None);
        for (i, asked) in prompts.iter().enumerate() {
            interrupt::busy(true);
            let (mut answers, merged) = self.answers(out, &mut session, asked, &options, i as u64)?;
            shuffle(&mut answers, options.sampling.seed, i as u64);
            let show = Show { out };
            show.prompt(asked, i + 1, prompts.len())?;
            if answers.len() < 2 {
                left -= 1;
                let why = if answers.is_empty() { "every answer is empty" } else { "every draw gave the same answer" };
                out.note(format!("({why}: nothing to put in order; a higher --temperature makes answers differ)"));
                continue;
            }
            show.answers(&answers)?;
            if merged > 0 && answers.len() < usize::from(self.n) {
                let drawn = answers.len() + merged;
                out.note(format!("({} different answers in {drawn} draws: the same ones are shown once)", answers.len()));
            }
            interrupt::busy(false);
            let said = ask(&show, &mut lines, &answers)?;
            let (order, edits, ended) = match said {
                Said::Order(order, edits) => (order, edits, false),
                Said::Skip(edits) => (Vec::new(), edits, false),
                Said::Quit(edits) => (Vec::new(), edits, true),
                Said::Broken(edits, reason) => {
                    broken =
                        Some(format!("standard input ended before prompt {} had an order, and its last line was refused: {reason}", i + 1));
                    (Vec::new(), edits, true)
                }
            };
            if !order.is_empty() || !edits.is_empty() {
                let stored = self.store(asked, &answers, &order, edits, merged)?;
                ranked += usize::from(stored.rank.is_some());
                if out.json {
                    out.json(&stored)?;
                }
            }
            left -= usize::from(!ended);
            if ended {
                break;
            }
        }
        let rest = if left > 0 { format!(", {left} left for another time") } else { String::new() };
        let (are, store) = (if ranked == 1 { "ranking is" } else { "rankings are" }, self.store.display());
        out.note(format!("{ranked} {are} stored in {store}{rest}"));
        broken.map_or(Ok(()), |reason| Err(Failure::failed(reason)))
    }

    fn open(&self, model: &Model) -> Outcome<Session> {
        let adapters: Vec<_> = self.session.adapters.iter().map(|a| a.open(model, self.session.any_base)).collect::<Outcome<_>>()?;
        let mut session = Session::new(model, &self.session.options(self.budget, &self.compute)?.for_adapters(&adapters))?;
        for (adapter, arg) in adapters.iter().zip(&self.session.adapters) {
            session.add_adapter(adapter, arg.scale)?;
        }
        Ok(session)
    }

    /// What is to be answered. Lines that hold no prompt as text are said and passed over.
    fn prompts(&self, out: &Output) -> Outcome<Vec<Asked>> {
        if let Some(text) = &self.prompt {
            let turns = self.system.iter().map(Message::system).chain([Message::user(text)]).collect();
            let content = if self.raw { Passage::Text(text.clone()) } else { Passage::Messages(turns) };
            return Ok(vec![Asked { content, tools: Vec::new() }]);
        }
        let Some(path) = &self.data else { return Ok(Vec::new()) };
        let data = Dataset::open(path)?;
        let (mut prompts, mut without): (Vec<Asked>, usize) = (Vec::new(), 0);
        for record in data.iter() {
            match record.ok().and_then(asked) {
                Some(asked) if prompts.iter().any(|known| known.content == asked.content) => {}
                Some(asked) => prompts.push(asked),
                None => without += 1,
            }
        }
        if prompts.is_empty() {
            return Err(Failure::failed(format!(
                "{}: expected prompts as text or messages, found none in {} records; attune data check says what it holds",
                path.display(),
                data.len()
            )));
        }
        if without > 0 {
            out.note(format!("({without} records of {} have no prompt as text and are passed over)", path.display()));
        }
        Ok(prompts)
    }

    /// Different answers to a prompt, and how many draws gave one that was there already.
    fn answers(
        &self,
        out: &Output,
        session: &mut Session,
        asked: &Asked,
        options: &GenerateOptions,
        number: u64,
    ) -> Outcome<(Vec<Shown>, usize)> {
        let ids = match &asked.content {
            Passage::Messages(messages) => session.chat_prompt(messages)?,
            Passage::Text(text) => session.document(text)?,
            Passage::Ids(ids) => ids.clone(),
        };
        let wanted = usize::from(self.n);
        let bar = Progress::new(out, "answering", wanted as u64);
        let (mut answers, mut merged): (Vec<Shown>, usize) = (Vec::new(), 0);
        for draw in 0..wanted * DRAWS {
            let mut options = options.clone();
            options.sampling.seed = rng::bits(options.sampling.seed, number, draw as u64);
            let made = session.generate(&ids, &options, |_| interrupt::flow())?;
            if interrupt::requested() {
                return Err(Failure::Interrupted(format!("interrupted; what is stored in {} stays", self.store.display())));
            }
            let text = made.text.trim().to_owned();
            if text.is_empty() || answers.iter().any(|known| known.text == text) {
                merged += usize::from(!text.is_empty());
                continue;
            }
            let cut = match made.finish_reason {
                FinishReason::Length => " … (cut at --max-tokens)",
                FinishReason::Context => " … (the context is full)",
                FinishReason::Stop | FinishReason::Cancelled => "",
            };
            answers.push(Shown { text, cut });
            bar.at(answers.len() as u64);
            if answers.len() == wanted {
                break;
            }
        }
        Ok((answers, merged))
    }

    /// Appends prompt, answers, edits and order with one write.
    fn store(&self, asked: &Asked, answers: &[Shown], order: &[usize], edits: Vec<(usize, String)>, merged: usize) -> Outcome<Stored> {
        let mut store = self.limits.open(&self.store)?;
        let prompt = store.next_id();
        let id = |place: usize| prompt + 1 + place as u64;
        let mut events = vec![Event::Prompt { content: asked.content.clone(), tools: asked.tools.clone() }];
        events.extend(answers.iter().map(|answer| Event::Answer { prompt, content: Passage::Text(answer.text.clone()) }));
        let mut stored_edits = Vec::new();
        for (place, text) in edits {
            let edit = prompt + events.len() as u64;
            events.push(Event::Edit { answer: id(place), content: Passage::Text(text.clone()) });
            stored_edits.push(StoredEdit { of: letter(place), id: edit, text });
        }
        let mut rank = None;
        if order.len() > 1 {
            rank = Some(prompt + events.len() as u64);
            events.push(Event::Rank { answers: order.iter().map(|&place| id(place)).collect() });
        }
        let context = Context { source: Some(SOURCE.into()), ..Context::default() };
        store.append_all(events.into_iter().map(|event| (event, context.clone())))?;
        let answers = answers.iter().enumerate();
        Ok(Stored {
            prompt,
            answers: answers.map(|(i, a)| StoredAnswer { letter: letter(i), id: id(i), text: a.text.clone() }).collect(),
            order: order.iter().map(|&place| letter(place)).collect(),
            rank,
            edits: stored_edits,
            merged,
        })
    }
}

/// The prompt of a record, whatever else it holds.
fn asked(record: Record) -> Option<Asked> {
    let (content, tools) = match record {
        Record::Conversation { mut messages, tools } => {
            let end = messages.iter().rposition(Message::is_assistant).unwrap_or(messages.len());
            messages.truncate(end);
            (Passage::Messages(messages), tools)
        }
        Record::PromptCompletion { prompt, .. } => (Passage::Text(prompt), Vec::new()),
        Record::Preference { prompt, tools, .. }
        | Record::Rating { prompt, tools, .. }
        | Record::Ranking { prompt, tools, .. }
        | Record::Prompt { prompt, tools } => (prompt, tools),
        Record::Text { .. } | Record::Tokens { .. } => return None,
    };
    let usable = !content.is_blank() && !matches!(content, Passage::Ids(_));
    usable.then_some(Asked { content, tools })
}

/// An order that says nothing about how answers were made, the same for the same seed.
fn shuffle(answers: &mut [Shown], seed: u64, number: u64) {
    let stream = number ^ u64::from_le_bytes(*b"shuffled");
    for i in (1..answers.len()).rev() {
        let j = rng::bits(seed, stream, i as u64) % (i as u64 + 1);
        answers.swap(i, j as usize);
    }
}

/// Asks until the person has said something that can be stored, or that there is nothing to store.
fn ask(show: &Show<'_>, lines: &mut StdinLock<'_>, answers: &[Shown]) -> Outcome<Said> {
    let count = answers.len();
    let mut edits: Vec<(usize, String)> = Vec::new();
    let mut refused = None;
    loop {
        show.question(count)?;
        let Some(line) = read_line(lines)? else {
            show.end()?;
            // A person who ends the input has had enough; a program that does so after a mistake ought to hear of it.
            let heard = std::io::stdin().is_terminal();
            return Ok(match refused.filter(|_| !heard) {
                Some(reason) => Said::Broken(edits, reason),
                None => Said::Quit(edits),
            });
        };
        match order::parse(&line, count) {
            Ok(Reply::Order(order)) => return Ok(Said::Order(order, edits)),
            Ok(Reply::Skip) => return Ok(Said::Skip(edits)),
            Ok(Reply::Quit) => return Ok(Said::Quit(edits)),
            Ok(Reply::Help) => show.help(count)?,
            Ok(Reply::Edit(place)) => {
                show.question_edit(place)?;
                let text = read_line(lines)?.unwrap_or_default();
                let text = text.trim();
                if text.is_empty() || answers.get(place).is_some_and(|answer| answer.text == text) {
                    show.say("(nothing was changed)")?;
                    continue;
                }
                edits.retain(|(known, _)| *known != place);
                edits.push((place, text.to_owned()));
                show.say(&format!("({} is edited; now the order, or /skip)", letter(place)))?;
                refused = None;
            }
            Err(reason) => {
                show.say(&reason)?;
                refused = Some(reason);
            }
        }
    }
}

/// A line of standard input; none at its end.
fn read_line(lines: &mut StdinLock<'_>) -> Outcome<Option<String>> {
    let mut bytes = Vec::new();
    if lines.read_until(b'\n', &mut bytes).map_err(|e| Failure::failed(format!("standard input: {e}")))? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::failed("standard input: expected text in UTF-8, found other bytes"))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// What the person sees: on standard output, beside JSON on standard error.
struct Show<'a> {
    out: &'a Output,
}

impl Show<'_> {
    fn say(&self, text: &str) -> Outcome {
        if self.out.json {
            crate::progress::above(|| eprintln!("{text}"));
            return Ok(());
        }
        self.out.line(text)
    }

    fn prompt(&self, asked: &Asked, number: usize, of: usize) -> Outcome {
        let count = if of > 1 { format!("{number} of {of}  ") } else { String::new() };
        self.say(&format!("\n{count}{}", spoken(&asked.content)))
    }

    fn answers(&self, answers: &[Shown]) -> Outcome {
        let (bold, plain) = if self.out.colours() && !self.out.json { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        for (i, answer) in answers.iter().enumerate() {
            let text = visible(&answer.text).replace('\n', "\n     ");
            self.say(&format!("  {bold}{}{plain}  {text}{}", letter(i), answer.cut))?;
        }
        Ok(())
    }

    /// Without a line's end, where a person types behind it.
    fn question(&self, count: usize) -> Outcome {
        self.put(&format!("best first, as {} (/edit a, /skip, /quit, /help): ", order::example(count)))
    }

    fn question_edit(&self, place: usize) -> Outcome {
        self.put(&format!("{} ought to say (one line; nothing: as it is): ", letter(place)))
    }

    fn put(&self, text: &str) -> Outcome {
        if self.out.json {
            crate::progress::above(|| eprint!("{text}"));
            return Ok(());
        }
        self.out.piece(text)?;
        // What was typed ends the line in a terminal; elsewhere nobody has typed.
        if std::io::stdin().is_terminal() { Ok(()) } else { self.out.line("") }
    }

    fn end(&self) -> Outcome {
        if std::io::stdin().is_terminal() { self.say("") } else { Ok(()) }
    }

    fn help(&self, count: usize) -> Outcome {
        self.say(&format!(
            "  {}   the order, best first; a letter that is left out stands nowhere\n  \
             /edit a   write what a ought to have said: better than a, whatever the order says\n  \
             /skip     store no order for this prompt\n  \
             /quit     end; what is stored stays",
            order::example(count)
        ))
    }
}

/// A prompt as a person reads it.
fn spoken(content: &Passage) -> String {
    match content {
        Passage::Text(text) => visible(text),
        Passage::Messages(messages) => match messages.as_slice() {
            [only] if only.role == "user" => visible(&only.content),
            all => all.iter().map(|m| format!("{}: {}", visible(&m.role), visible(&m.content))).collect::<Vec<_>>().join("\n"),
        },
        Passage::Ids(ids) => format!("{} token ids", ids.len()),
    }
}

/// A text without what would move a terminal's cursor.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '·' } else { c }).collect()
}
