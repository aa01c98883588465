//! A large file is read without being held in memory. Alone in its file, because it watches the process's memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufWriter, Write};

use attune::data::{Dataset, MAX_RECORD_BYTES, Order, Record};

/// The most resident memory so far, in bytes; none where the system does not say.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn write(path: &std::path::Path, array: bool, records: usize, filler: &str) {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    if array {
        file.write_all(b"[\n").unwrap();
    }
    for i in 0..records {
        write!(file, "{{\"instruction\": \"Count to {i}.\", \"input\": \"\", \"output\": \"{filler} {i}\"}}").unwrap();
        file.write_all(if array && i + 1 < records { b",\n" } else { b"\n" }).unwrap();
    }
    if array {
        file.write_all(b"]\n").unwrap();
    }
    file.flush().unwrap();
}

#[test]
fn a_hundred_megabytes_need_a_few_megabytes_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.jsonl");
    let filler = "one two three four five six seven eight nine ten ".repeat(20);
    let records = 100_000;
    for array in [false, true] {
        write(&path, array, records, &filler);
        let size = std::fs::metadata(&path).unwrap().len();
        assert!(size > 100_000_000, "{size} bytes");
        let before = peak();
        let data = Dataset::open(&path).unwrap();
        assert_eq!(data.len(), records);
        // In a shuffled order, as a trainer reads.
        for example in Order::new(records as u64, 1, true).take(20_000) {
            let Record::Conversation { messages, .. } = data.record(example as usize).unwrap() else { panic!() };
            assert!(messages[1].content.ends_with(&format!(" {example}")));
        }
        assert_eq!(data.line(records - 1), records as u64 + u64::from(array));
        match (before, peak()) {
            (Some(before), Some(after)) => {
                let used = after - before;
                assert!(used < 16 << 20, "{} KiB more for a file of {} KiB", used >> 10, size >> 10);
            }
            _ => println!("skipped: this system does not tell the resident set's peak"),
        }
    }
    too_large_a_record(folder.path());
}

/// A record above the limit is an error on its line, and the next one is read.
fn too_large_a_record(folder: &std::path::Path) {
    let path = folder.join("long.jsonl");
    let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
    file.write_all(b"{\"text\": \"a\"}\n{\"text\": \"").unwrap();
    for _ in 0..=(MAX_RECORD_BYTES >> 20) {
        file.write_all(&[b'x'; 1 << 20]).unwrap();
    }
    file.write_all(b"\"}\n{\"text\": \"b\"}\n").unwrap();
    file.flush().unwrap();
    drop(file);
    let data = Dataset::open(&path).unwrap();
    let survey = data.survey();
    assert_eq!((survey.usable, survey.bad_count), (2, 1));
    assert_eq!(survey.bad[0].to_string(), "line 2: expected records of at most 64 MiB, found a longer one");
}
