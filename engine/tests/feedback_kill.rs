//! A writer that is killed at any instant leaves everything that it has acknowledged.
//!
//! The writers are processes of their own, killed with SIGKILL after random times (the seed is printed).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(unix)]

use attune::core::rng;
use attune::data::Passage;
use attune::feedback::{Context, Durability, Entry, Erase, Event, Reader, Store, StoreOptions};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Set in a child: the store, and the seed of what it writes.
const CHILD: &str = "ATTUNE_TEST_FEEDBACK_KILL";
const KILLS: u64 = 24;

/// From a few bytes to half a megabyte, so that kills fall into writes too.
fn content(id: u64) -> String {
    let bytes = [3, 40, 4_000, 100_000, 500_000][(rng::uniform(7, 1, id) * 5.0) as usize % 5];
    format!("{id:08} ").repeat(1 + bytes / 9)
}

/// Appends, and now and then erases, until it is killed; says what it was told was done. Does nothing unless it is the child of the test below.
#[test]
fn child() {
    let Ok(case) = std::env::var(CHILD) else { return };
    let (path, seed) = case.split_once('|').unwrap();
    let seed: u64 = seed.parse().unwrap();
    let durability = if seed.is_multiple_of(2) { Durability::Each } else { Durability::OnFlush };
    let options = StoreOptions { max_bytes: 1 << 30, durability, ..StoreOptions::default() };
    let mut store = Store::open_with(path, options).unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nOPEN {}", store.next_id()).unwrap();
    for step in 0.. {
        let id = store.next_id();
        if step % 8 == 7 {
            // What may be gone is said before, what is gone after.
            writeln!(out, "ERASING {}", id - 3).unwrap();
            store.erase(&Erase::Ids(vec![id - 3])).unwrap();
            writeln!(out, "ERASED {}", id - 3).unwrap();
        }
        let event = Event::Prompt { content: Passage::Text(content(id)), tools: Vec::new() };
        let id = store.append(event, &Context::default()).unwrap();
        writeln!(out, "STORED {id}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_a_killed_writer_acknowledged_is_there_and_what_it_erased_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("feedback.attune");
    let seed = std::env::var("ATTUNE_TEST_SEED").map_or_else(|_| u64::from(std::process::id()), |s| s.parse().unwrap());
    println!("ATTUNE_TEST_SEED={seed}");
    let mut stored: BTreeMap<u64, bool> = BTreeMap::new();
    let (mut unfinished, mut acknowledged, mut highest) = (0, 0, 0);
    for kill in 0..KILLS {
        let case = format!("{}|{kill}", path.display());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]).env(CHILD, case).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let opened = lines.by_ref().map(Result::unwrap).find_map(|line| line.strip_prefix("OPEN ").map(|n| n.parse::<u64>().unwrap()));
        assert!(opened.expect("the child opened the store") > highest, "an id came again (seed {seed})");
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros((f64::from(rng::uniform(seed, 2, kill)) * 60_000.0) as u64));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        for line in lines.map(Result::unwrap) {
            let mut words = line.split(' ');
            match (words.next(), words.next().and_then(|id| id.parse::<u64>().ok())) {
                (Some("STORED"), Some(id)) => {
                    stored.insert(id, true);
                    acknowledged += 1;
                    highest = id;
                }
                (Some("ERASING"), Some(id)) => drop(stored.insert(id, false)),
                (Some("ERASED"), Some(id)) => drop(stored.remove(&id)),
                other => panic!("{other:?}"),
            }
        }
        killer.join().unwrap();

        let mut reader = Reader::open(&path).unwrap();
        let found: BTreeMap<u64, Entry> = reader.by_ref().map(|e| e.map(|e| (e.id, e)).unwrap()).collect();
        assert!(reader.damage().is_none(), "{:?} (seed {seed})", reader.damage());
        unfinished += usize::from(reader.damage().unfinished > 0);
        for (id, certain) in &stored {
            assert!(found.contains_key(id) || !certain, "kill {kill}: {id} is gone (seed {seed})");
        }
        for (id, entry) in &found {
            assert_eq!(entry.event.content(), Some(&Passage::Text(content(*id))), "kill {kill}, entry {id} (seed {seed})");
            // One more may be whole than was acknowledged.
            assert!(stored.contains_key(id) || *id > highest, "kill {kill}: {id} was erased and is there (seed {seed})");
            highest = highest.max(*id);
        }
        // What may be gone is as it is by now.
        stored = found.keys().map(|id| (*id, true)).collect();
    }
    println!("{KILLS} kills, {acknowledged} entries acknowledged, {unfinished} unfinished");
    assert!(acknowledged > KILLS, "only {acknowledged} entries were written: nothing was shown");
    let store = Store::open(&path).unwrap();
    assert_eq!(store.len(), stored.len());
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(files.len(), 2, "the store and its lock: {files:?}");
}

/// Set in a child that may write files of a few KiB only: the store.
const FULL: &str = "ATTUNE_TEST_FEEDBACK_FULL";

/// Appends until the system takes no more. Does nothing unless it is the child of the test below.
#[test]
fn child_on_a_full_disk() {
    let Ok(path) = std::env::var(FULL) else { return };
    let mut store = Store::open(&path).unwrap();
    let prompt = |bytes: usize| Event::Prompt { content: Passage::Text("x".repeat(bytes)), tools: Vec::new() };
    let append = |store: &mut Store, bytes| store.append(prompt(bytes), &Context::default());
    let error = std::iter::repeat_with(|| append(&mut store, 1500)).find_map(Result::err).unwrap();
    assert!(error.to_string().contains("appending failed"), "{error}");
    let whole = |store: &Store| {
        let mut reader = Reader::open(store.path()).unwrap();
        assert_eq!(reader.by_ref().map(Result::unwrap).count(), store.len());
        assert_eq!((reader.bytes(), reader.damage().unfinished), (store.bytes(), 0), "what was written of it is taken back");
    };
    assert!(store.len() > 1);
    whole(&store);
    let id = append(&mut store, 1).unwrap();
    assert_eq!(id as usize, store.len(), "an id that was not acknowledged is free");
    whole(&store);
    store.erase(&Erase::Ids(vec![1])).unwrap();
    append(&mut store, 1200).unwrap();
    whole(&store);
    println!("\nDONE");
}

#[test]
fn an_entry_that_the_disk_does_not_take_leaves_nothing_and_the_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // 16 blocks of 512 or 1024 bytes; a write beyond them fails after its first part, as on a full disk.
    command.args(["-c", "trap '' XFSZ; ulimit -f 16; \"$0\" --exact child_on_a_full_disk --nocapture | cat"]);
    command.arg(std::env::current_exe().unwrap()).env(FULL, folder.path().join("feedback.attune"));
    let output = command.output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("DONE"), "{said}{error}");
}
