//! Writing a store: one writer, whose entries are on the disk when it hears of their ids.

use super::event::Line;
use super::frame::{self, HEAD, HEADER, MAX_FRAME};
use super::{Context, Damage, Entry, Error, Event, Reader};
use crate::data::Passage;
use crate::files;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Ids and times stay below this, so that every program that reads JSON gets them right.
pub(super) const HIGHEST: u64 = 1 << 53;

/// What to do when an entry would make the file pass its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// Refuse it with [`Error::Full`]; the app decides.
    #[default]
    Refuse,
    /// Drop the oldest prompts with everything that is about them, until a quarter of the limit is free.
    DropOldest,
}

/// When entries go to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Before [`Store::append`] returns.
    #[default]
    Each,
    /// When [`Store::flush`] is called, and when the system sees fit. A killed process loses nothing by it, a power cut what was not flushed.
    OnFlush,
}

/// How a store is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes that the file may have, at least 4096. It has up to twice as many on the disk while it is written anew.
    pub max_bytes: u64,
    /// What happens at the limit.
    pub when_full: WhenFull,
    /// When entries go to the disk.
    pub durability: Durability,
    /// How long [`Store::open_with`] waits for another writer to be done before it gives [`Error::Locked`].
    pub wait: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { max_bytes: 64 << 20, when_full: WhenFull::Refuse, durability: Durability::Each, wait: Duration::from_secs(5) }
    }
}

/// What a later entry may need to know of an earlier one: 24 bytes each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) id: u64,
    /// The prompt that it belongs to; its own id for a prompt, 0 where that is lost.
    pub(super) prompt: u64,
    pub(super) kind: Kind,
    pub(super) ids: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Prompt,
    Answer,
    Verdict,
}

/// Entries that are to be written together.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) bytes: Vec<u8>,
    known: Vec<Known>,
}

/// A store that is open for writing. There is one at a time; readers need not wait for it.
///
/// ```
/// use attune::data::{Message, Passage};
/// use attune::feedback::{Context, Event, Store};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("feedback.attune");
/// let mut store = Store::open(&path)?;
/// let now = Context { conversation: Some("c1".into()), ..Context::default() };
/// let content = Passage::Messages(vec![Message::user("Say hello.")]);
/// let prompt = store.append(Event::Prompt { content, tools: Vec::new() }, &now)?;
/// let answer = store.append(Event::Answer { prompt, content: Passage::Text("Greetings, esteemed user.".into()) }, &now)?;
/// store.append(Event::Edit { answer, content: Passage::Text("Hello!".into()) }, &now)?;
///
/// let entries: Vec<_> = attune::feedback::Reader::open(&path)?.collect::<Result<_, _>>()?;
/// assert_eq!(entries.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Store {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Held as long as the store is open; the system lets go of it when the process ends, however it ends.
    _lock: File,
    pub(super) options: StoreOptions,
    pub(super) known: Vec<Known>,
    pub(super) next_id: u64,
    pub(super) end: u64,
    pub(super) damage: Damage,
    pub(super) dropped: u64,
    /// A write failed and could not be taken back.
    broken: bool,
}

impl Store {
    /// Opens a store, or begins one, waiting up to five seconds for another writer. An entry that a crash left unfinished is cut off; what is damaged is passed over and reported.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NotFeedback`], [`Error::Version`], [`Error::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Store, Error> {
        Self::open_with(path, StoreOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Error::Option`].
    pub fn open_with(path: impl AsRef<Path>, options: StoreOptions) -> Result<Store, Error> {
        if options.max_bytes < 4096 {
            return Err(Error::Option { option: "max_bytes", expected: "at least 4096".into(), found: options.max_bytes.to_string() });
        }
        let mut path = path.as_ref().to_path_buf();
        let begun = fs::metadata(&path).is_ok_and(|m| !m.is_file() || m.len() > 0);
        if begun {
            // Beside a file of another kind, nothing is left and nothing cleared up.
            drop(Reader::open(&path)?);
            // A link and what it points to are one store.
            path = fs::canonicalize(&path).map_err(Error::io(&path, "opening"))?;
        }
        let lock = lock(&path, options.wait)?;
        // What a crash left of a file that was being written anew: it may hold what has been erased since.
        match fs::remove_file(beside(&path, files::UNFINISHED)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io(&path, "clearing up")(e)),
            _ => {}
        }
        // Another writer may have begun it meanwhile.
        if fs::metadata(&path).map_or(true, |m| m.is_file() && m.len() == 0) {
            create(&path)?;
        }
        let path = fs::canonicalize(&path).map_err(Error::io(&path, "opening"))?;
        let (mut known, mut reader) = (Vec::new(), Reader::open(&path)?);
        while reader.step()?.is_some() {
            if let Some(line) = Line::parse(reader.scanner.text()) {
                let entry = know(&known, &line);
                known.push(entry);
            }
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(Error::io(&path, "opening"))?;
        let damage = reader.damage().clone();
        let end = reader.bytes() - damage.unfinished;
        let next_id = reader.next_id();
        let mut store = Store { path, file, _lock: lock, options, known, next_id, end, damage, dropped: 0, broken: false };
        if store.damage.header {
            let damage = store.damage.clone();
            store.rewrite(|_| true)?;
            store.damage = damage;
        } else if store.damage.unfinished > 0 {
            store.cut().map_err(Error::io(&store.path, "cutting off an unfinished entry"))?;
        }
        if store.damage != Damage::default() {
            tracing::warn!("{}: {}", store.path.display(), store.damage);
        }
        Ok(store)
    }

    /// Stores what happened and returns its id. It is on the disk by then, unless [`Durability::OnFlush`] was asked for.
    ///
    /// # Errors
    /// [`Error::Event`] for what cannot be stored (an answer to a prompt that is not there, an empty edit), [`Error::Full`], [`Error::Io`],
    /// [`Error::Changed`]. Then nothing of it is in the file.
    pub fn append(&mut self, event: Event, context: &Context) -> Result<u64, Error> {
        let ids = self.append_all([(event, context.clone())])?;
        Ok(ids.first().copied().unwrap_or_default())
    }

    /// Stores several at once, with one write to the disk for all. They may name one another: the first gets [`next_id`](Self::next_id), and so on.
    ///
    /// A crash in the middle leaves the first few of them.
    ///
    /// # Errors
    /// As [`append`](Self::append); then none of them is in the file.
    pub fn append_all(&mut self, events: impl IntoIterator<Item = (Event, Context)>) -> Result<Vec<u64>, Error> {
        let mut staged = Staged::default();
        for ((event, context), id) in events.into_iter().zip(self.next_id..) {
            let time = context.time.unwrap_or_else(now);
            self.stage(&mut staged, &Entry { id, time, conversation: context.conversation, source: context.source, event })?;
        }
        self.commit(staged)
    }

    /// Checks an entry and puts it with those that are to be written together. Ids rise.
    pub(super) fn stage(&self, staged: &mut Staged, entry: &Entry) -> Result<(), Error> {
        if entry.id >= HIGHEST {
            return Err(Error::event("the store", format!("ids below {HIGHEST}"), "no more of them; begin a new store"));
        }
        let known = self.refer(staged, entry)?;
        let text = entry.checked()?;
        staged.bytes.extend_from_slice(&frame::head(text.as_bytes()));
        staged.bytes.extend_from_slice(text.as_bytes());
        staged.known.push(known);
        Ok(())
    }

    /// Writes what was staged; gives the ids.
    pub(super) fn commit(&mut self, staged: Staged) -> Result<Vec<u64>, Error> {
        let Some(last) = staged.known.last().copied() else { return Ok(Vec::new()) };
        self.room(staged.bytes.len() as u64, &staged.known)?;
        self.write(&staged.bytes)?;
        let ids = staged.known.iter().map(|known| known.id).collect();
        self.known.extend(staged.known);
        self.next_id = last.id + 1;
        Ok(ids)
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn flush(&mut self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io(&self.path, "flushing"))
    }

    /// The id that the next event will get.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The file's bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// What could not be read when the store was opened; after an erasure or compaction, nothing. An unfinished end has been cut off.
    #[must_use]
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Entries that [`WhenFull::DropOldest`] has dropped since the store was opened.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that what an entry is about is there.
    fn refer(&self, staged: &Staged, entry: &Entry) -> Result<Known, Error> {
        let name = entry.event.name();
        let kind = match entry.event {
            Event::Prompt { .. } => Kind::Prompt,
            Event::Answer { .. } | Event::Edit { .. } | Event::Regenerate { .. } => Kind::Answer,
            Event::Thumb { .. } | Event::Keep { .. } | Event::Rank { .. } => Kind::Verdict,
        };
        let wanted = if matches!(entry.event, Event::Answer { .. }) { Kind::Prompt } else { Kind::Answer };
        let ids = matches!(entry.event.content(), Some(Passage::Ids(_)));
        let mut prompt = if kind == Kind::Prompt { entry.id } else { 0 };
        for &id in entry.event.of() {
            let found = find(&self.known, id).or_else(|| find(&staged.known, id));
            let Some(of) = found.filter(|of| of.kind == wanted && of.prompt != 0) else {
                let expected = format!("{} that is in the store", if wanted == Kind::Prompt { "a prompt" } else { "an answer" });
                let found = if found.is_some() { format!("entry {id}, which is none") } else { format!("id {id}, which is not there") };
                return Err(Error::event(format!("the {name}"), expected, found));
            };
            if prompt != 0 && of.prompt != prompt {
                return Err(Error::event("the rank", format!("answers to one prompt, {prompt}"), format!("one to prompt {}", of.prompt)));
            }
            if entry.event.content().is_some() && of.ids != ids {
                let kind = |ids| if ids { "token ids" } else { "text or turns" };
                return Err(Error::event(format!("the {name}"), format!("{}, as the prompt has", kind(of.ids)), kind(ids)));
            }
            prompt = of.prompt;
        }
        Ok(Known { id: entry.id, prompt, kind, ids })
    }

    /// Makes sure that so many bytes more are within the limit.
    fn room(&mut self, needs: u64, new: &[Known]) -> Result<(), Error> {
        let limit = self.options.max_bytes;
        if self.end.saturating_add(needs) <= limit {
            return Ok(());
        }
        if self.options.when_full == WhenFull::DropOldest && HEADER + needs <= limit {
            self.drop_oldest(needs, new)?;
        }
        if self.end.saturating_add(needs) <= limit {
            return Ok(());
        }
        Err(Error::Full { path: self.path.clone(), needs, holds: self.end, limit })
    }

    /// Appends whole records; takes back what cannot be written whole.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let found = self.file.metadata().map_err(Error::io(&self.path, "appending"))?.len();
        if self.broken && found != self.end {
            self.cut().map_err(Error::io(&self.path, "taking an unfinished entry back"))?;
        } else if found != self.end {
            return Err(Error::Changed { path: self.path.clone(), expected: self.end, found });
        }
        let written = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(bytes)).and_then(|()| {
            match self.options.durability {
                Durability::Each => self.file.sync_data(),
                Durability::OnFlush => Ok(()),
            }
        });
        if let Err(e) = written {
            self.broken = self.cut().is_err();
            return Err(Error::io(&self.path, "appending")(e));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Cuts off what stands behind the last whole record.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.sync_all()?;
        self.broken = false;
        Ok(())
    }

    /// Writes the file anew with the records that `keep` says, and without what is damaged.
    pub(super) fn rewrite(&mut self, mut keep: impl FnMut(&Line<'_>) -> bool) -> Result<(), Error> {
        let path = self.path.clone();
        let mut reader = Reader::open(&path)?;
        let (mut known, mut end) = (Vec::new(), HEADER);
        let next_id = self.next_id;
        let permissions = fs::metadata(&path).map_err(Error::io(&path, "writing anew"))?.permissions();
        let written = files::replace(&path, |out| {
            out.get_ref().set_permissions(permissions)?;
            out.write_all(&frame::header(next_id))?;
            while reader.step().map_err(into_io)?.is_some() {
                let text = reader.scanner.text();
                let Some(line) = Line::parse(text).filter(|line| keep(line)) else { continue };
                out.write_all(&frame::head(text))?;
                out.write_all(text)?;
                end += HEAD + text.len() as u64;
                let entry = know(&known, &line);
                known.push(entry);
            }
            Ok::<(), io::Error>(())
        });
        self.file = OpenOptions::new().read(true).write(true).open(&path).map_err(Error::io(&path, "opening"))?;
        // A failure may come after the new file has taken the old one's place; then it is as long as was counted, and otherwise nothing was to go.
        if written.is_ok() || self.file.metadata().is_ok_and(|m| m.len() == end) {
            self.known = known;
            self.end = end;
            self.damage = Damage::default();
            self.broken = false;
        }
        written.map_err(Error::io(&path, "writing anew"))
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}

/// An entry that is known by its id. Ids rise.
pub(super) fn find(known: &[Known], id: u64) -> Option<Known> {
    known.binary_search_by_key(&id, |k| k.id).ok().and_then(|at| known.get(at)).copied()
}

/// What is known of an entry, given those before it.
pub(super) fn know(known: &[Known], line: &Line<'_>) -> Known {
    let kind = match &*line.event {
        "prompt" => Kind::Prompt,
        "answer" | "edit" | "regenerate" => Kind::Answer,
        _ => Kind::Verdict,
    };
    let of = line.of().first().and_then(|id| find(known, *id)).map_or(0, |of| of.prompt);
    Known { id: line.id, prompt: if kind == Kind::Prompt { line.id } else { of }, kind, ids: line.ids }
}

/// A path with more behind its name.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(more);
    path.with_file_name(name)
}

/// Takes the file beside the store that says that somebody writes, as soon as nobody else has it.
fn lock(path: &Path, wait: Duration) -> Result<File, Error> {
    let beside = beside(path, ".lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&beside);
    let mut lock = open.map_err(Error::io(&beside, "opening"))?;
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match lock.try_lock() {
            Ok(()) => {
                // Only for the message to whoever comes second.
                let _ = lock.set_len(0).and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()));
                return Ok(lock);
            }
            // Systems let nobody wait for a lock for a while: ask again, ever less often.
            Err(TryLockError::WouldBlock) => match wait.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
                Some(left) => std::thread::sleep(pause.min(left)),
                None => break,
            },
            Err(TryLockError::Error(e)) => return Err(Error::io(&beside, "locking")(e)),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    let mut text = String::new();
    let pid = lock.take(10).read_to_string(&mut text).ok().and_then(|_| text.parse::<u32>().ok());
    let writer = pid.map_or_else(|| "another one".to_owned(), |pid| format!("process {pid}"));
    Err(Error::Locked { path: path.to_path_buf(), writer, waited: wait })
}

/// Between two tries to get the lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Begins an empty store that nobody else may read.
fn create(path: &Path) -> Result<(), Error> {
    files::replace(path, |out| {
        #[cfg(unix)]
        out.get_ref().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        out.write_all(&frame::header(1))
    })
    .map_err(Error::io(path, "creating"))
}

/// Milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

const _: () = assert!(MAX_FRAME == HEAD + super::MAX_ENTRY_BYTES as u64);
