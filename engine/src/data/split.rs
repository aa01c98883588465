//! Finds where records lie in a file, in one pass with a bounded buffer: lines of JSONL, or elements of one JSON array.
//!
//! The splitter understands strings and brackets, nothing more; each record is parsed when it is read. Damage in one
//! record must not take the others with it. Among lines that is easy. In an array the splitter remembers the first key
//! of the first element: elements begin `{ "key"`, which inside a string could only stand escaped, so after an element
//! that never closes, the next place that looks like this is where the next record begins.

use std::io::{self, Read, Seek, SeekFrom};

/// The largest record that is read: 64 MiB.
pub const MAX_RECORD_BYTES: u64 = 64 << 20;

/// How often the splitter may go back over bytes that it has seen, in total, before it gives the rest of a damaged array up.
const RESCAN_BUDGET: u64 = 1 << 30;

const BUFFER: usize = 256 << 10;

/// A record's place in the file: 16 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) offset: u64,
    pub(crate) len: u32,
    /// 1-based.
    pub(crate) line: u32,
}

/// How records are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One JSON object a line.
    Lines,
    /// One JSON array of objects.
    Array,
}

/// Why a record has no bytes that could be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    TooLong,
    EmptyElement,
    TrailingComma,
    MissingComma,
    UnclosedString(u32),
    Mismatch(u32),
    Unfinished,
    ArrayNotClosed,
    AfterEnd,
    GivenUp,
}

impl Fault {
    /// Expected and found.
    pub(crate) fn explain(self) -> (String, String) {
        let (expected, found) = match self {
            Fault::TooLong => {
                return (format!("records of at most {} MiB", MAX_RECORD_BYTES >> 20), "a longer one".into());
            }
            Fault::UnclosedString(line) => {
                return (
                    "strings that end on their line (a line break inside is written \\n)".into(),
                    format!("a string still open at the end of line {line}"),
                );
            }
            Fault::Mismatch(line) => {
                return ("brackets that close what was opened last".into(), format!("a bracket of the other kind on line {line}"));
            }
            Fault::EmptyElement => ("a record between two commas", "nothing"),
            Fault::TrailingComma => ("a record after the comma", "the end of the array"),
            Fault::MissingComma => ("`,` or `]` after a record", "something else"),
            Fault::Unfinished => {
                ("a record that closes all its brackets and strings", "the end of the file, or the start of the next record")
            }
            Fault::ArrayNotClosed => ("`]` at the end of the array", "the end of the file"),
            Fault::AfterEnd => ("nothing after the array's `]`", "more text"),
            Fault::GivenUp => ("a JSON array", "damage in so many places that the rest of the file was not searched"),
        };
        (expected.into(), found.into())
    }
}

/// All that is known about a file after one pass.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) layout: Layout,
    pub(crate) spans: Vec<Span>,
    /// Which of `spans` (ascending) hold no record, and why.
    pub(crate) faults: Vec<(u32, Fault)>,
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
}

impl Index {
    pub(crate) fn fault(&self, index: usize) -> Option<Fault> {
        let index = u32::try_from(index).ok()?;
        let at = self.faults.binary_search_by_key(&index, |(i, _)| *i).ok()?;
        self.faults.get(at).map(|(_, fault)| *fault)
    }
}

/// Reads the whole of `source` once and finds its records.
pub(crate) fn index(source: &mut (impl Read + Seek)) -> io::Result<Index> {
    let mut feed = Feed::new(source)?;
    let layout = layout(&mut feed)?;
    feed.restart()?;
    let mut out = Index { layout, spans: Vec::new(), faults: Vec::new(), bytes: 0, crc: 0 };
    match layout {
        Layout::Lines => lines(&mut feed, &mut out)?,
        Layout::Array => Elements::new(&mut out).run(&mut feed)?,
    }
    out.bytes = feed.seen;
    out.crc = feed.crc.clone().finalize();
    Ok(out)
}

/// An array begins with `[` and, after it, a record, the end, or nothing; everything else is taken for lines, so that a
/// damaged first line of JSONL does not hide the others.
fn layout<S: Read + Seek>(feed: &mut Feed<'_, S>) -> io::Result<Layout> {
    let mut opened = false;
    while let Some((_, chunk)) = feed.next()? {
        for &b in chunk {
            match b {
                _ if b.is_ascii_whitespace() => {}
                0xef | 0xbb | 0xbf if !opened => {}
                b'[' if !opened => opened = true,
                b'{' | b']' if opened => return Ok(Layout::Array),
                _ => return Ok(Layout::Lines),
            }
        }
    }
    Ok(if opened { Layout::Array } else { Layout::Lines })
}

/// Reads a source in chunks, with a checksum over every byte once.
struct Feed<'a, S> {
    source: &'a mut S,
    buffer: Vec<u8>,
    /// The file offset of the next chunk.
    at: u64,
    /// How far the checksum has come.
    seen: u64,
    crc: crc32fast::Hasher,
}

impl<'a, S: Read + Seek> Feed<'a, S> {
    fn new(source: &'a mut S) -> io::Result<Self> {
        source.seek(SeekFrom::Start(0))?;
        Ok(Self { source, buffer: vec![0; BUFFER], at: 0, seen: 0, crc: crc32fast::Hasher::new() })
    }

    /// The next chunk and its offset in the file.
    fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        let n = loop {
            match self.source.read(&mut self.buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let start = self.at;
        self.at += n as u64;
        let chunk = self.buffer.get(..n).unwrap_or_default();
        if self.at > self.seen {
            let fresh = (self.at - self.seen).min(n as u64) as usize;
            self.crc.update(chunk.get(n - fresh..).unwrap_or_default());
            self.seen = self.at;
        }
        Ok(if n == 0 { None } else { Some((start, chunk)) })
    }

    fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.at = self.source.seek(SeekFrom::Start(offset))?;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.seek(0)
    }
}

fn too_many() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "more than 4 294 967 295 lines: split the file")
}

impl Index {
    fn push(&mut self, offset: u64, len: u64, line: u64) -> io::Result<()> {
        let line = u32::try_from(line).map_err(|_| too_many())?;
        let fault = (len > MAX_RECORD_BYTES).then_some(Fault::TooLong);
        let len = if fault.is_some() { 0 } else { len as u32 };
        if let Some(fault) = fault {
            self.faults.push((u32::try_from(self.spans.len()).map_err(|_| too_many())?, fault));
        }
        self.spans.push(Span { offset, len, line });
        Ok(())
    }

    fn push_fault(&mut self, fault: Fault, offset: u64, line: u64) -> io::Result<()> {
        self.faults.push((u32::try_from(self.spans.len()).map_err(|_| too_many())?, fault));
        self.spans.push(Span { offset, len: 0, line: u32::try_from(line).map_err(|_| too_many())? });
        Ok(())
    }
}

fn lines<S: Read + Seek>(feed: &mut Feed<'_, S>, out: &mut Index) -> io::Result<()> {
    let mut line = 1u64;
    // First and one past the last byte of this line that is not white space.
    let mut text: Option<(u64, u64)> = None;
    while let Some((start, chunk)) = feed.next()? {
        let mut rest = chunk;
        let mut at = start;
        if at == 0
            && let Some(after) = rest.strip_prefix(b"\xef\xbb\xbf")
        {
            rest = after;
            at = 3;
        }
        loop {
            let end = rest.iter().position(|&b| b == b'\n');
            let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            if let Some(last) = part.iter().rposition(|b| !b.is_ascii_whitespace()) {
                let first = part.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(0);
                let begin = text.map_or(at + first as u64, |(begin, _)| begin);
                text = Some((begin, at + last as u64 + 1));
            }
            let Some(end) = end else { break };
            if let Some((begin, stop)) = text.take() {
                out.push(begin, stop - begin, line)?;
            }
            line += 1;
            at += end as u64 + 1;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
    if let Some((begin, stop)) = text {
        out.push(begin, stop - begin, line)?;
    }
    Ok(())
}

/// A record's start that may be where to go on after damage.
#[derive(Clone, Copy)]
struct Place {
    offset: u64,
    line: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeArray,
    /// Where an element may begin; after a comma one must.
    Before {
        comma: bool,
    },
    Within,
    After,
    /// After damage: only the look of a record's start is looked for.
    Searching,
    Done,
}

struct Elements<'a> {
    out: &'a mut Index,
    state: State,
    line: u64,
    /// Where the element under way began.
    begin: Place,
    /// Open brackets, and for the innermost 128 whether each is a `[`.
    depth: u32,
    kinds: u128,
    in_string: bool,
    escaped: bool,
    scalar: bool,
    look: Look,
    /// The first look of a record's start inside the element under way.
    next_start: Option<Place>,
    rescanned: u64,
}

/// What the splitter does after a byte.
enum Step {
    On,
    /// Take up the reading at another place.
    Jump(Place),
}

impl<'a> Elements<'a> {
    fn new(out: &'a mut Index) -> Self {
        Self {
            out,
            state: State::BeforeArray,
            line: 1,
            begin: Place { offset: 0, line: 1 },
            depth: 0,
            kinds: 0,
            in_string: false,
            escaped: false,
            scalar: false,
            look: Look::default(),
            next_start: None,
            rescanned: 0,
        }
    }

    fn run<S: Read + Seek>(mut self, feed: &mut Feed<'_, S>) -> io::Result<()> {
        loop {
            let mut jump = None;
            match feed.next()? {
                Some((start, chunk)) => {
                    for (i, &b) in chunk.iter().enumerate() {
                        if let Step::Jump(place) = self.byte(b, start + i as u64)? {
                            jump = Some((place, start + i as u64));
                            break;
                        }
                    }
                }
                None => match self.end(feed.at)? {
                    Step::Jump(place) => jump = Some((place, feed.at)),
                    Step::On => return Ok(()),
                },
            }
            if let Some((place, from)) = jump {
                self.rescanned += from - place.offset.min(from);
                if self.rescanned > RESCAN_BUDGET {
                    return self.out.push_fault(Fault::GivenUp, place.offset, place.line);
                }
                feed.seek(place.offset)?;
                self.line = place.line;
                self.state = State::Before { comma: false };
                self.look.reset();
            }
        }
    }

    fn byte(&mut self, b: u8, at: u64) -> io::Result<Step> {
        let here = Place { offset: at, line: self.line };
        let found = self.look.byte(b, here);
        if b == b'\n' {
            self.line += 1;
        }
        match self.state {
            State::BeforeArray => {
                if b == b'[' {
                    self.state = State::Before { comma: false };
                }
            }
            State::Before { comma } => match b {
                _ if b.is_ascii_whitespace() => {}
                b',' => self.out.push_fault(Fault::EmptyElement, at, here.line)?,
                b']' => {
                    if comma {
                        self.out.push_fault(Fault::TrailingComma, at, here.line)?;
                    }
                    self.state = State::Done;
                }
                _ => self.open(b, here),
            },
            State::Within => {
                if let Some(place) = found
                    && place.offset > self.begin.offset
                    && self.next_start.is_none()
                {
                    self.next_start = Some(place);
                }
                return self.within(b, here);
            }
            State::After => match b {
                _ if b.is_ascii_whitespace() => {}
                b',' => self.state = State::Before { comma: true },
                b']' => self.state = State::Done,
                _ => {
                    self.out.push_fault(Fault::MissingComma, at, here.line)?;
                    if b == b'{' {
                        self.open(b, here);
                    } else {
                        self.state = State::Searching;
                    }
                }
            },
            State::Searching => {
                if let Some(place) = found {
                    return Ok(Step::Jump(place));
                }
            }
            State::Done => {
                if !b.is_ascii_whitespace() && self.out.faults.last().map(|f| f.1) != Some(Fault::AfterEnd) {
                    self.out.push_fault(Fault::AfterEnd, at, here.line)?;
                }
            }
        }
        Ok(Step::On)
    }

    fn open(&mut self, b: u8, here: Place) {
        self.state = State::Within;
        self.begin = here;
        self.depth = 0;
        self.escaped = false;
        self.next_start = None;
        self.in_string = b == b'"';
        self.scalar = !matches!(b, b'{' | b'[');
        if !self.scalar {
            self.push_bracket(b == b'[');
        }
    }

    fn push_bracket(&mut self, square: bool) {
        self.depth = self.depth.saturating_add(1);
        self.kinds = (self.kinds << 1) | u128::from(square);
    }

    fn within(&mut self, b: u8, here: Place) -> io::Result<Step> {
        if here.offset - self.begin.offset > MAX_RECORD_BYTES {
            return self.damaged(Fault::TooLong);
        }
        if self.in_string {
            match b {
                b'\n' => return self.damaged(Fault::UnclosedString(u32::try_from(here.line).unwrap_or(u32::MAX))),
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    if self.scalar {
                        return self.close(here.offset + 1);
                    }
                }
                _ => {}
            }
            return Ok(Step::On);
        }
        match b {
            b'"' => self.in_string = true,
            _ if self.scalar && (b == b',' || b == b']' || b.is_ascii_whitespace()) => {
                self.close(here.offset)?;
                if b == b',' {
                    self.state = State::Before { comma: true };
                } else if b == b']' {
                    self.state = State::Done;
                }
            }
            b'{' | b'[' => self.push_bracket(b == b'['),
            b'}' | b']' if !self.scalar => {
                // Deeper than 128 the kinds are forgotten; the parser refuses such records in any case.
                if self.depth <= 128 && (self.kinds & 1 == 1) != (b == b']') {
                    return self.damaged(Fault::Mismatch(u32::try_from(here.line).unwrap_or(u32::MAX)));
                }
                self.kinds >>= 1;
                self.depth -= 1;
                if self.depth == 0 {
                    return self.close(here.offset + 1);
                }
            }
            _ => {}
        }
        Ok(Step::On)
    }

    fn close(&mut self, end: u64) -> io::Result<Step> {
        self.state = State::After;
        self.out.push(self.begin.offset, end - self.begin.offset, self.begin.line)?;
        Ok(Step::On)
    }

    /// Gives the element under way up and goes on at the next place that looks like a record's start.
    fn damaged(&mut self, fault: Fault) -> io::Result<Step> {
        self.out.push_fault(fault, self.begin.offset, self.begin.line)?;
        match self.next_start.take() {
            Some(place) => Ok(Step::Jump(place)),
            None => {
                self.state = State::Searching;
                Ok(Step::On)
            }
        }
    }

    fn end(&mut self, at: u64) -> io::Result<Step> {
        match self.state {
            State::Within if self.scalar && !self.in_string => {
                self.close(at)?;
                self.out.push_fault(Fault::ArrayNotClosed, at, self.line)?;
            }
            State::Within => {
                self.out.push_fault(Fault::Unfinished, self.begin.offset, self.begin.line)?;
                if let Some(place) = self.next_start.take() {
                    return Ok(Step::Jump(place));
                }
            }
            State::Before { .. } | State::After => self.out.push_fault(Fault::ArrayNotClosed, at, self.line)?,
            State::BeforeArray | State::Searching | State::Done => {}
        }
        Ok(Step::On)
    }
}

/// Learns the first element's first key, and then sees every `{ "key"` go by, whether in a string or not.
#[derive(Default)]
struct Look {
    key: Vec<u8>,
    learned: bool,
    matched: Matched,
    at: Option<Place>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Matched {
    #[default]
    Nothing,
    Brace,
    /// So many bytes of the key.
    Key(usize),
}

impl Look {
    const LONGEST: usize = 64;

    fn reset(&mut self) {
        self.matched = Matched::Nothing;
    }

    fn byte(&mut self, b: u8, here: Place) -> Option<Place> {
        if b == b'{' {
            self.matched = Matched::Brace;
            self.at = Some(here);
            return None;
        }
        match self.matched {
            Matched::Nothing => None,
            Matched::Brace if b.is_ascii_whitespace() => None,
            Matched::Brace if b == b'"' => {
                if !self.learned {
                    self.key.clear();
                    self.key.push(b);
                }
                self.matched = Matched::Key(1);
                None
            }
            Matched::Key(_) if !self.learned => {
                self.key.push(b);
                if b == b'"' {
                    self.learned = true;
                    self.matched = Matched::Nothing;
                } else if b == b'\\' || self.key.len() > Self::LONGEST {
                    // Nothing to look for, then: an empty key never matches.
                    self.key.clear();
                    self.learned = true;
                    self.matched = Matched::Nothing;
                }
                None
            }
            Matched::Key(n) if self.key.get(n) == Some(&b) => {
                if n + 1 == self.key.len() {
                    self.matched = Matched::Nothing;
                    return self.at;
                }
                self.matched = Matched::Key(n + 1);
                None
            }
            _ => {
                self.matched = Matched::Nothing;
                None
            }
        }
    }
}
