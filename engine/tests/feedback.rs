//! The feedback store's file: what was acknowledged is there, whatever happened since; what was erased is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::core::rng;
use attune::data::{Message, Passage};
use attune::feedback::{Context, Damage, Durability, Entry, Erase, Error, Event, Reader, Store, StoreOptions, Thumb, WhenFull};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const HEADER: usize = 24;

fn at(time: u64) -> Context {
    Context { time: Some(time), ..Context::default() }
}

fn within(conversation: &str, time: u64) -> Context {
    Context { conversation: Some(conversation.into()), ..at(time) }
}

fn text(text: impl Into<String>) -> Passage {
    Passage::Text(text.into())
}

fn prompt(content: &str) -> Event {
    Event::Prompt { content: Passage::Messages(vec![Message::user(content)]), tools: Vec::new() }
}

fn answer(prompt: u64, content: &str) -> Event {
    Event::Answer { prompt, content: text(content) }
}

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("feedback.attune")
}

fn read(path: &Path) -> Vec<Entry> {
    Reader::open(path).unwrap().map(Result::unwrap).collect()
}

/// One of each kind of event, with everything that an entry may have.
fn fill(store: &mut Store) -> Vec<u64> {
    let mut ids = Vec::new();
    let mut add = |store: &mut Store, event, context: &Context| ids.push(store.append(event, context).unwrap());
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"city": "text"}}});
    let turns =
        vec![Message::system("Be brief."), Message::user("雨?"), Message::assistant("Yes.").with_weight(0.25), Message::user("And now?")];
    let full = Context { time: Some(5), conversation: Some("c\"1\n".into()), source: Some("phone".into()) };
    add(store, Event::Prompt { content: Passage::Messages(turns), tools: vec![tool] }, &full);
    add(store, answer(1, "No, it stopped \u{0} at noon.\n"), &at(6));
    let mut call = Message::assistant("");
    call.extra.insert("tool_calls".into(), json!([{"type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}]));
    add(store, Event::Answer { prompt: 1, content: Passage::Messages(vec![call]) }, &at(7));
    add(store, Event::Thumb { answer: 2, thumb: Thumb::Down }, &at(8));
    add(store, Event::Thumb { answer: 2, thumb: Thumb::Withdrawn }, &at(9));
    add(store, Event::Edit { answer: 2, content: text("No.") }, &at(10));
    add(store, Event::Regenerate { answer: 2, content: text("It is dry.") }, &at(11));
    add(store, Event::Keep { answer: 7 }, &at(12));
    add(store, Event::Rank { answers: vec![6, 7, 3, 2] }, &at(13));
    add(store, Event::Prompt { content: Passage::Ids(vec![3, 1, 4]), tools: Vec::new() }, &at(14));
    add(store, Event::Answer { prompt: 10, content: Passage::Ids(vec![]) }, &at(15));
    add(store, Event::Prompt { content: text("Once upon"), tools: Vec::new() }, &at((1 << 53) - 1));
    ids
}

#[test]
fn what_was_stored_is_read_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    assert_eq!(fill(&mut store), (1..=12).collect::<Vec<u64>>());
    let entries = read(&path(&folder));
    assert_eq!(entries.len(), 12);
    let context = (&entries[0].conversation, &entries[0].source, entries[0].time);
    assert_eq!(context, (&Some("c\"1\n".to_owned()), &Some("phone".to_owned()), 5));
    assert_eq!(entries[3].event, Event::Thumb { answer: 2, thumb: Thumb::Down });
    assert_eq!(entries[8].event, Event::Rank { answers: vec![6, 7, 3, 2] });
    let Event::Prompt { content: Passage::Messages(turns), tools } = &entries[0].event else { panic!("{:?}", entries[0]) };
    assert_eq!((turns[2].weight, turns[1].content.as_str(), tools.len()), (Some(0.25), "雨?", 1));
    for entry in &entries {
        assert_eq!(&Entry::from_json(&entry.to_json()).unwrap(), entry);
    }
    drop(store);
    let mut store = Store::open(path(&folder)).unwrap();
    assert!(store.damage().is_none());
    assert_eq!((store.len(), store.next_id()), (12, 13));
    assert_eq!(store.append(prompt("more"), &at(1)).unwrap(), 13);
}

#[test]
fn version_one_keeps_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    store.append(Event::Prompt { content: text("Hi"), tools: Vec::new() }, &at(1_700_000_000_000)).unwrap();
    let bytes = std::fs::read(path(&folder)).unwrap();
    let entry = br#"{"id":1,"time":1700000000000,"event":"prompt","content":"Hi"}"#;
    let hex: String = bytes[..40].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "8941545446424b0a01000000010000000000000024c9a8dc".to_owned() + "fef5460a3d0000007f362c3c5fb55b33");
    assert_eq!(&bytes[40..], entry);
}

#[test]
fn events_that_make_no_sense_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    fill(&mut store);
    let before = std::fs::read(path(&folder)).unwrap();
    let mut odd = Message::user("x");
    odd.extra.insert("colour".into(), json!("red"));
    let turns = |turns| Event::Prompt { content: Passage::Messages(turns), tools: Vec::new() };
    let bad = [
        (answer(99, "to nothing"), "id 99"),
        (answer(2, "to an answer"), "entry 2"),
        (Event::Thumb { answer: 1, thumb: Thumb::Up }, "entry 1"),
        (Event::Thumb { answer: 4, thumb: Thumb::Up }, "entry 4"),
        (Event::Edit { answer: 2, content: text(" ") }, "nothing"),
        (Event::Rank { answers: vec![2] }, "found 1"),
        (Event::Rank { answers: vec![2, 3, 2] }, "2 twice"),
        (Event::Rank { answers: vec![2, 11] }, "one to prompt 10"),
        (Event::Rank { answers: (0..65).collect() }, "id 0"),
        (turns(vec![]), "none"),
        (turns(vec![Message::new("wizard", "x")]), "wizard"),
        (turns(vec![odd]), "read back"),
        (turns(vec![Message::user("x").with_weight(f32::NAN)]), "weight"),
        (Event::Prompt { content: text(""), tools: vec![] }, "blank"),
        (Event::Prompt { content: Passage::Ids(vec![u32::MAX]), tools: vec![] }, "token id"),
        (Event::Prompt { content: text("x"), tools: vec![json!(7)] }, "tools"),
        (Event::Answer { prompt: 1, content: Passage::Messages(vec![Message::user("x")]) }, "`user`"),
        (Event::Answer { prompt: 1, content: Passage::Ids(vec![1]) }, "token ids"),
        (Event::Answer { prompt: 10, content: text("x") }, "token ids"),
        (answer(1, &"x".repeat(attune::feedback::MAX_ENTRY_BYTES)), "bytes"),
    ];
    for (event, says) in bad {
        let error = store.append(event.clone(), &at(1)).unwrap_err();
        assert!(error.to_string().contains(says), "{event:?}: expected {says:?} in {error}");
        assert!(matches!(error, Error::Event { .. }), "{error:?}");
    }
    for context in [within("", 1), within(&"x".repeat(257), 1), at(1 << 53), Context { source: Some(String::new()), ..at(1) }] {
        assert!(store.append(prompt("x"), &context).is_err(), "{context:?}");
    }
    let all = store.append_all([(prompt("good"), at(1)), (answer(13, "good"), at(1)), (answer(99, "bad"), at(1))]);
    assert!(all.is_err());
    assert_eq!(std::fs::read(path(&folder)).unwrap(), before);
    assert_eq!(store.append_all([(prompt("good"), at(1)), (answer(13, "good"), at(1))]).unwrap(), [13, 14]);
}

#[test]
fn a_file_that_ends_anywhere_gives_all_entries_before_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    fill(&mut store);
    drop(store);
    let bytes = std::fs::read(path(&folder)).unwrap();
    let entries = read(&path(&folder));
    let ends = ends(&bytes);
    assert_eq!(ends.len(), 13);
    for cut in HEADER..bytes.len() {
        let torn = folder.path().join("torn");
        std::fs::write(&torn, &bytes[..cut]).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        assert_eq!(read(&torn), entries[..whole], "cut at {cut}");
        let unfinished = (cut - ends[whole]) as u64;
        let mut store = Store::open(&torn).unwrap();
        assert_eq!((store.len(), store.damage().unfinished, store.damage().count), (whole, unfinished, 0), "cut at {cut}");
        assert_eq!(std::fs::metadata(&torn).unwrap().len() as usize, ends[whole]);
        let id = store.append(prompt("behind"), &at(1)).unwrap();
        assert_eq!(id, whole as u64 + 1);
        assert_eq!(read(&torn).len(), whole + 1);
    }
}

/// Where records end, the header's end first.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![HEADER];
    while let Some(len) = ends.last().and_then(|at| bytes.get(at + 4..at + 8)) {
        ends.push(ends.last().unwrap() + 16 + u32::from_le_bytes(len.try_into().unwrap()) as usize);
    }
    ends
}

#[test]
fn a_damaged_entry_in_the_middle_costs_that_entry_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    fill(&mut store);
    drop(store);
    let bytes = std::fs::read(path(&folder)).unwrap();
    let entries = read(&path(&folder));
    let ends = ends(&bytes);
    // Each byte of the fourth record in turn: mark, length, checksums, text.
    for at in ends[3]..ends[4] {
        let hurt = folder.path().join("hurt");
        let mut copy = bytes.clone();
        copy[at] ^= 0x41;
        std::fs::write(&hurt, &copy).unwrap();
        let mut reader = Reader::open(&hurt).unwrap();
        let found: Vec<Entry> = reader.by_ref().map(Result::unwrap).collect();
        let expected: Vec<Entry> = entries.iter().filter(|e| e.id != 4).cloned().collect();
        assert_eq!(found, expected, "byte {at}");
        let place = reader.damage().places[0];
        assert_eq!((reader.damage().count, place.offset as usize, place.bytes as usize), (1, ends[3], ends[4] - ends[3]));
        let mut store = Store::open(&hurt).unwrap();
        assert_eq!(store.damage().count, 1);
        assert_eq!(store.append(prompt("on"), &at_now()).unwrap(), 13);
        assert_eq!(store.compact().unwrap() as usize, ends[4] - ends[3]);
        assert_eq!(read(&hurt).len(), 12);
        assert!(Reader::open(&hurt).unwrap().by_ref().count() == 12);
    }
}

fn at_now() -> Context {
    Context::default()
}

#[test]
fn a_damaged_header_loses_no_entry() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    fill(&mut store);
    drop(store);
    let bytes = std::fs::read(path(&folder)).unwrap();
    let entries = read(&path(&folder));
    for at in 0..HEADER {
        let mut copy = bytes.clone();
        copy[at] ^= 0x10;
        std::fs::write(path(&folder), &copy).unwrap();
        assert_eq!(read(&path(&folder)), entries, "byte {at}");
        let store = Store::open(path(&folder)).unwrap();
        assert!(store.damage().header);
        assert_eq!(store.next_id(), 13);
        drop(store);
        assert!(std::fs::read(path(&folder)).unwrap()[..20] == [&bytes[..12], &13u64.to_le_bytes()].concat());
    }
}

#[test]
fn damage_of_any_kind_gives_no_entry_that_was_not_stored_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    fill(&mut store);
    for i in 0..20 {
        let prompt = store.append(prompt(&format!("prompt {i}")), &at(i)).unwrap();
        store.append(answer(prompt, &"many words ".repeat(i as usize)), &at(i)).unwrap();
    }
    drop(store);
    let bytes = std::fs::read(path(&folder)).unwrap();
    let entries = read(&path(&folder));
    let seed = std::env::var("ATTUNE_TEST_SEED").map_or_else(|_| u64::from(std::process::id()), |s| s.parse().unwrap());
    println!("ATTUNE_TEST_SEED={seed}");
    let hurt = folder.path().join("hurt");
    let mut survivors = 0;
    for round in 0..400u64 {
        let mut n = 0;
        let mut below = |limit: usize| {
            n += 1;
            (f64::from(rng::uniform(seed, round + 1, n)) * limit as f64) as usize
        };
        let mut copy = bytes.clone();
        for _ in 0..=below(4) {
            let (from, len) = (below(copy.len()), below(300));
            let to = (from + len).min(copy.len());
            match below(5) {
                0 => copy[from] ^= 1 << below(8),
                1 => copy[from..to].fill(below(256) as u8),
                2 => drop(copy.drain(from..to)),
                3 => {
                    let part = copy[from..to].to_vec();
                    let at = below(copy.len());
                    copy.splice(at..at, part);
                }
                _ => copy.truncate(from),
            }
        }
        std::fs::write(&hurt, &copy).unwrap();
        let Ok(reader) = Reader::open(&hurt) else { continue };
        let found: Vec<Entry> = reader.map(Result::unwrap).collect();
        for entry in &found {
            assert_eq!(entries.iter().find(|e| e.id == entry.id), Some(entry), "round {round}, seed {seed}");
        }
        assert!(found.windows(2).all(|pair| pair[0].id < pair[1].id), "round {round}, seed {seed}");
        let mut store = Store::open(&hurt).unwrap();
        let id = store.append(prompt("behind"), &at(1)).unwrap();
        let after = read(&hurt);
        assert_eq!(after[..after.len() - 1], found, "round {round}, seed {seed}");
        assert_eq!(after.last().unwrap().id, id);
        survivors += found.len();
    }
    assert!(survivors > 400 * 10, "only {survivors} entries survived: damage is not that bad");
}

#[test]
fn writers_wait_for_one_another_and_no_entry_is_lost_or_torn() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { wait: Duration::from_secs(60), ..StoreOptions::default() };
    let write = |writer: usize| {
        for i in 0..6 {
            let mut store = Store::open_with(path(&folder), options).unwrap();
            let of = store.append(prompt(&format!("{writer} asks {i}")), &at(1)).unwrap();
            store.append(answer(of, &format!("{writer} answers {i}")), &at(1)).unwrap();
        }
    };
    std::thread::scope(|scope| (0..16).for_each(|writer| drop(scope.spawn(move || write(writer)))));
    let mut reader = Reader::open(path(&folder)).unwrap();
    let entries: Vec<Entry> = reader.by_ref().map(Result::unwrap).collect();
    assert_eq!((entries.len(), reader.damage()), (16 * 6 * 2, &Damage::default()));
    assert!(entries.iter().zip(1..).all(|(entry, id)| entry.id == id), "no id is given twice");
    for (asked, answered) in entries.iter().zip(entries.iter().skip(1)).step_by(2) {
        assert_eq!(answered.event.of(), [asked.id], "nobody writes between another's entries");
    }
}

#[test]
fn there_is_one_writer_and_any_number_of_readers() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    store.append(prompt("one"), &at(1)).unwrap();
    let within =
        |ms| Store::open_with(path(&folder), StoreOptions { wait: Duration::from_millis(ms), ..StoreOptions::default() }).map(drop);
    let error = within(0).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }));
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    let began = Instant::now();
    let error = within(60).unwrap_err();
    assert!(error.to_string().contains("still after 0.1 s") && began.elapsed() >= Duration::from_millis(60), "{error}");
    let mut early = Reader::open(path(&folder)).unwrap();
    store.append(prompt("two"), &at(1)).unwrap();
    assert_eq!(read(&path(&folder)).len(), 2);
    store.erase(&Erase::All).unwrap();
    assert_eq!(early.by_ref().count(), 1, "what a reader began with, it ends with");
    assert!(read(&path(&folder)).is_empty());
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(path(&folder), folder.path().join("link")).unwrap();
        assert!(matches!(
            Store::open_with(folder.path().join("link"), StoreOptions { wait: Duration::ZERO, ..StoreOptions::default() }).map(drop),
            Err(Error::Locked { .. })
        ));
    }
    drop(store);
    Store::open(path(&folder)).unwrap();
}

#[test]
fn erased_bytes_are_not_in_the_folder_any_more_and_ids_do_not_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    let filled = |store: &mut Store| {
        store.erase(&Erase::All).unwrap();
        for (i, name) in ["alpha", "beta", "gamma"].into_iter().enumerate() {
            let time = 100 * (i as u64 + 1);
            let source = Context { source: Some(format!("from-{name}")), ..within(&format!("talk-{name}"), time) };
            let prompt = store.append(prompt(&format!("prompt-{name}")), &source).unwrap();
            let first = store.append(answer(prompt, &format!("answer-{name}")), &at(time + 1)).unwrap();
            let second = store.append(Event::Edit { answer: first, content: text(format!("edit-{name}")) }, &at(time + 2)).unwrap();
            store.append(Event::Rank { answers: vec![second, first] }, &at(time + 3)).unwrap();
        }
        store.next_id()
    };
    let holds = |name: &str| {
        std::fs::read_dir(folder.path()).unwrap().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            bytes.windows(name.len()).any(|part| part == name.as_bytes())
        })
    };
    let cases: [(fn(u64) -> Erase, u64, u64); 5] = [
        (|_| Erase::Conversation("talk-beta".into()), 1, 3),
        (|_| Erase::Source("from-beta".into()), 1, 3),
        (|next| Erase::Ids(vec![next - 8]), 1, 3),
        (|_| Erase::Time(200..203), 3, 1),
        (|_| Erase::Time(200..300), 4, 0),
    ];
    for (what, entries, dependents) in cases {
        let next = filled(&mut store);
        assert!(holds("prompt-beta") && holds("answer-beta") && holds("edit-beta"));
        let before = store.bytes();
        let what = what(next);
        let erased = store.erase(&what).unwrap();
        assert_eq!((erased.entries, erased.dependents), (entries, dependents), "{what:?}");
        assert_eq!((erased.bytes_before, erased.bytes_after), (before, store.bytes()));
        assert_eq!(store.bytes(), std::fs::metadata(path(&folder)).unwrap().len());
        assert!(!holds("beta"), "{what:?}");
        assert!(holds("edit-alpha") && holds("edit-gamma"));
        assert_eq!((store.len(), store.next_id()), (8, next));
    }
    let next = filled(&mut store);
    store.erase(&Erase::Ids(vec![next - 2])).unwrap();
    assert!(!holds("edit-gamma") && holds("answer-gamma"));
    assert_eq!(store.len(), 10, "the ranking goes with the edit that it was about");
    store.erase(&Erase::All).unwrap();
    assert_eq!(store.bytes(), HEADER as u64);
    drop(store);
    let mut store = Store::open(path(&folder)).unwrap();
    assert_eq!(store.append(prompt("new"), &at(1)).unwrap(), next);
}

#[test]
fn damaged_bytes_and_what_lost_its_prompt_go_with_a_conversation_that_is_erased() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    let prompt_id = store.append(prompt("secret-one"), &within("c", 1)).unwrap();
    store.append(answer(prompt_id, "secret-two"), &at(2)).unwrap();
    store.append(prompt("other"), &within("d", 3)).unwrap();
    drop(store);
    let mut bytes = std::fs::read(path(&folder)).unwrap();
    bytes[HEADER + 20] ^= 1;
    std::fs::write(path(&folder), bytes).unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    assert_eq!(store.len(), 2);
    let erased = store.erase(&Erase::Conversation("c".into())).unwrap();
    assert!(erased.damaged_bytes > 0 && erased.entries == 1);
    let left = std::fs::read(path(&folder)).unwrap();
    assert!(!left.windows(7).any(|part| part == b"secret-"));
    assert_eq!(read(&path(&folder)).len(), 1);
}

#[test]
fn a_full_store_refuses_or_drops_its_oldest_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { max_bytes: 16 << 10, ..StoreOptions::default() };
    let mut store = Store::open_with(path(&folder), options).unwrap();
    let first = store.append(prompt("the very first"), &at(1)).unwrap();
    let error = loop {
        match store.append(prompt(&"x".repeat(500)), &at(1)) {
            Ok(_) => assert!(store.bytes() <= 16 << 10),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(store.bytes() > 15 << 10 && store.dropped() == 0);
    let full = store.len();
    drop(store);

    let mut store = Store::open_with(path(&folder), StoreOptions { when_full: WhenFull::DropOldest, ..options }).unwrap();
    assert_eq!(store.len(), full);
    let kept = store.append(answer(first, "late"), &at(2)).unwrap();
    for i in 0..200 {
        let prompt = store.append(prompt(&format!("{i} {}", "y".repeat(500))), &at(3)).unwrap();
        store.append(answer(prompt, "fine"), &at(3)).unwrap();
        assert!(store.bytes() <= 16 << 10);
        let mut reader = Reader::open(path(&folder)).unwrap();
        let ids: Vec<u64> = reader.by_ref().map(|e| e.unwrap().id).collect();
        assert!(ids.contains(&prompt) && reader.damage().is_none());
    }
    assert!(store.dropped() > 300);
    assert!(!read(&path(&folder)).iter().any(|e| e.id == kept), "an old prompt goes with its answers");
    let error = store.append(prompt(&"z".repeat(17 << 10)), &at(1)).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(store.len() > 4, "what cannot fit drops nothing");
    assert!(Store::open_with(folder.path().join("b"), StoreOptions { max_bytes: 100, ..options }).is_err());
}

#[test]
fn files_of_another_kind_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("text", &b"{\"prompt\": \"a long line of text\"}\n"[..]), ("short", b"GGUF"), ("zeros", &[0; 100])] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Store::open(&path).map(drop), Err(Error::NotFeedback { .. })), "{name}");
        assert!(matches!(Reader::open(&path).map(drop), Err(Error::NotFeedback { .. })), "{name}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside them");
    assert!(matches!(Reader::open(folder.path()).map(drop), Err(Error::NotFeedback { .. } | Error::Io { .. })));
    assert!(matches!(Reader::open(folder.path().join("none")).map(drop), Err(Error::Io { .. })));
    let newer = folder.path().join("newer");
    let mut header = Vec::from(*b"\x89ATTFBK\n");
    header.extend(7u32.to_le_bytes());
    header.extend(1u64.to_le_bytes());
    header.extend(crc32(&header).to_le_bytes());
    std::fs::write(&newer, header).unwrap();
    assert!(matches!(Store::open(&newer).map(drop), Err(Error::Version { found: 7, .. })));
    std::fs::write(folder.path().join("empty"), b"").unwrap();
    assert!(Store::open(folder.path().join("empty")).unwrap().is_empty());
}

/// CRC-32, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg())))
}

#[test]
fn entries_of_later_versions_are_passed_over_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    store.append(prompt("one"), &at(1)).unwrap();
    drop(store);
    let mut bytes = std::fs::read(path(&folder)).unwrap();
    let entry = br#"{"id":5,"time":9,"event":"smile","of":1,"teeth":32}"#;
    let mut head = vec![0xfe, 0xf5, b'F', b'\n'];
    head.extend((entry.len() as u32).to_le_bytes());
    head.extend(crc32(entry).to_le_bytes());
    head.extend(crc32(&head).to_le_bytes());
    bytes.extend(head);
    bytes.extend(entry);
    std::fs::write(path(&folder), bytes).unwrap();
    let mut reader = Reader::open(path(&folder)).unwrap();
    assert_eq!(reader.by_ref().count(), 1);
    assert_eq!(reader.damage().unknown, 1);
    let mut store = Store::open(path(&folder)).unwrap();
    assert_eq!(store.append(prompt("two"), &at(1)).unwrap(), 6);
    store.compact().unwrap();
    let bytes = std::fs::read(path(&folder)).unwrap();
    assert!(bytes.windows(5).any(|part| part == b"smile"));
    store.erase(&Erase::Ids(vec![1])).unwrap();
    let bytes = std::fs::read(path(&folder)).unwrap();
    assert!(!bytes.windows(5).any(|part| part == b"smile"));
}

#[test]
fn a_file_that_another_program_changes_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    store.append(prompt("one"), &at(1)).unwrap();
    let mut bytes = std::fs::read(path(&folder)).unwrap();
    bytes.extend(b"more");
    std::fs::write(path(&folder), bytes).unwrap();
    assert!(matches!(store.append(prompt("two"), &at(1)), Err(Error::Changed { .. })));
    drop(store);
    let mut store = Store::open(path(&folder)).unwrap();
    assert_eq!((store.damage().unfinished, store.append(prompt("two"), &at(1)).unwrap()), (4, 2));
}

#[test]
fn a_batch_is_flushed_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { durability: Durability::OnFlush, ..StoreOptions::default() };
    let mut store = Store::open_with(path(&folder), options).unwrap();
    (0..100).for_each(|i| assert_eq!(store.append(prompt("one"), &at(i)).unwrap(), i + 1));
    store.flush().unwrap();
    assert_eq!(read(&path(&folder)).len(), 100);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_a_new_store_and_its_permissions_stay() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    let mode = || std::fs::metadata(path(&folder)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(path(&folder), PermissionsExt::from_mode(0o640)).unwrap();
    store.compact().unwrap();
    assert_eq!(mode(), 0o640);
}

#[test]
fn a_reader_sees_whole_entries_while_a_writer_is_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open_with(path(&folder), StoreOptions { durability: Durability::OnFlush, ..StoreOptions::default() }).unwrap();
    let place = path(&folder);
    let reading = std::thread::spawn(move || {
        let mut seen = 0;
        while seen < 300 {
            let found: Vec<u64> = read(&place).into_iter().map(|e| e.id).collect();
            assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>());
            assert!(found.len() >= seen, "{} after {seen}", found.len());
            seen = found.len();
        }
    });
    for i in 0..300 {
        store.append(prompt(&"much to say ".repeat(1 + i as usize * 7)), &at(i)).unwrap();
        if i % 100 == 99 {
            store.compact().unwrap();
        }
    }
    reading.join().unwrap();
}

#[test]
fn random_events_are_read_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(path(&folder)).unwrap();
    let seed = std::env::var("ATTUNE_TEST_SEED").map_or_else(|_| u64::from(std::process::id()), |s| s.parse().unwrap());
    println!("ATTUNE_TEST_SEED={seed}");
    let mut n = 0;
    let mut below = |limit: u32| {
        n += 1;
        (f64::from(rng::uniform(seed, 3, n)) * f64::from(limit)) as u32
    };
    let any = |below: &mut dyn FnMut(u32) -> u32| -> String {
        let ranges = [(0, 0x20), (0x20, 0x7f), (0x80, 0x800), (0x4e00, 0x9fff), (0x1f300, 0x1f6ff), (0xfff0, 0xffff)];
        (0..1 + below(12))
            .map(|_| {
                let (from, to) = ranges[below(6) as usize];
                char::from_u32(from + below(to - from)).unwrap()
            })
            .collect()
    };
    let mut stored = Vec::new();
    for _ in 0..300 {
        let turns: Vec<Message> = (0..1 + below(4))
            .map(|_| {
                let mut turn = Message::new(["system", "user", "assistant", "tool"][below(4) as usize], any(&mut below));
                turn.weight = (below(3) == 0).then(|| below(1000) as f32 / 7.0);
                if below(4) == 0 {
                    turn.extra.insert("name".into(), any(&mut below).into());
                }
                turn
            })
            .collect();
        let content = if below(2) == 0 { text(format!("x{}", any(&mut below))) } else { Passage::Messages(turns) };
        if content.is_blank() {
            continue;
        }
        let conversation = (below(2) == 0).then(|| any(&mut below));
        let context = Context { time: Some(u64::from(below(u32::MAX))), conversation, source: (below(2) == 0).then(|| any(&mut below)) };
        let event = Event::Prompt { content, tools: Vec::new() };
        let id = store.append(event.clone(), &context).unwrap();
        stored.push(Entry { id, time: context.time.unwrap(), conversation: context.conversation, source: context.source, event });
    }
    assert_eq!(read(&path(&folder)), stored, "seed {seed}");
    drop(store);
    assert_eq!(Store::open(path(&folder)).unwrap().len(), stored.len());
}
