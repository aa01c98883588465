//! Damaged files: each bad record is reported by its line, the others are read, nothing panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune::data::{DataError, Dataset, Record};
use proptest::prelude::*;

fn open(bytes: &[u8]) -> Dataset {
    Dataset::from_bytes(bytes.to_vec()).unwrap()
}

/// The texts that could be read, and the lines that could not.
fn read(bytes: &[u8]) -> (Vec<String>, Vec<u64>) {
    let (mut texts, mut bad) = (Vec::new(), Vec::new());
    for record in open(bytes).iter() {
        match record {
            Ok(Record::Text { text }) => texts.push(text),
            Ok(other) => panic!("{other:?}"),
            Err(e) => bad.push(e.line),
        }
    }
    (texts, bad)
}

fn first_error(bytes: &[u8]) -> String {
    open(bytes).iter().find_map(Result::err).unwrap().to_string()
}

const OK: &str = r#"{"text": "ok"}"#;

fn among_good(bad: &[u8]) -> Vec<u8> {
    [OK.as_bytes(), b"\n", bad, b"\n", OK.as_bytes(), b"\n"].concat()
}

#[test]
fn a_bad_line_is_reported_and_the_next_is_read() {
    for (bad, said) in [
        (&br#"{"text": "cut"#[..], "breaks off"),
        (br#"{"text": "x"},"#, "a comma at the end"),
        (br#"{"text": "x"} {"text": "y"}"#, "trailing characters"),
        (b"{\"text\": \"\xff\"}", "UTF-8"),
        (b"{\"text\": \"a\0b\"}", "NUL"),
        (b"\0\0\0\0\0", "NUL"),
        (br#"{"text": "\ud800"}"#, "hex escape"),
        (br#"{"text": "a", "text": "b"}"#, "twice"),
        (br#"{"text": "a", "x": {"k": 1, "k": 2}}"#, "twice"),
        (br#"{"text": null}"#, "{\"text\"}"),
        (b"null", "null"),
        (b"42", "the number 42"),
        (b"hello", "expected a JSON object"),
        (br#"["text"]"#, "a list of 1"),
        (b"{}", "an empty object"),
    ] {
        let bytes = among_good(bad);
        let shown = String::from_utf8_lossy(bad);
        assert_eq!(read(&bytes), (vec!["ok".to_owned(); 2], vec![2]), "{shown}");
        let error = first_error(&bytes);
        assert!(error.starts_with("line 2: expected ") && error.contains(said), "{shown}: {error}");
    }
}

#[test]
fn nesting_of_any_depth_is_an_error_and_no_stack_overflow() {
    for depth in [129, 10_000, 1_000_000] {
        let deep = format!("{{\"text\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(read(&among_good(deep.as_bytes())), (vec!["ok".to_owned(); 2], vec![2]));
        let array = format!("[{OK},\n{deep},\n{OK}]");
        assert_eq!(read(array.as_bytes()), (vec!["ok".to_owned(); 2], vec![2]));
    }
}

#[test]
fn line_ends_blank_lines_and_byte_order_marks_do_not_matter() {
    let text = "\u{feff}{\"text\": \"a\"}\r\n\r\n   \n\t{\"text\": \"b\"}  \r\n{\"text\": \"c\"}";
    assert_eq!(read(text.as_bytes()), (vec!["a".into(), "b".into(), "c".into()], vec![]));
    let data = open(text.as_bytes());
    assert_eq!((data.line(0), data.line(1), data.line(2)), (1, 4, 5));
}

#[test]
fn damage_in_an_array_takes_one_record_with_it() {
    for (text, texts, bad) in [
        // A trailing comma, an empty place, a missing comma, no end, something after it.
        ("[\n{\"text\": \"a\"},\n{\"text\": \"b\"},\n]", vec!["a", "b"], vec![4]),
        ("[\n{\"text\": \"a\"},\n,\n{\"text\": \"b\"}\n]", vec!["a", "b"], vec![3]),
        ("[\n{\"text\": \"a\"}\n{\"text\": \"b\"}\n]", vec!["a", "b"], vec![3]),
        ("[\n{\"text\": \"a\"},\n{\"text\": \"b\"}\n", vec!["a", "b"], vec![4]),
        ("[\n{\"text\": \"a\"},\n{\"text\": \"b\"}\n]\n]", vec!["a", "b"], vec![5]),
        // Not an object.
        ("[\n{\"text\": \"a\"},\n7,\n{\"text\": \"b\"}\n]", vec!["a", "b"], vec![3]),
        ("[\n{\"text\": \"a\"},\n\"x\",\n{\"text\": \"b\"}\n]", vec!["a", "b"], vec![3]),
        // A string that does not end, a brace that is missing, one too many, the wrong kind, an end amid a record.
        ("[\n{\"text\": \"a},\n{\"text\": \"b\"},\n{\"text\": \"c\"}\n]", vec!["b", "c"], vec![2]),
        ("[\n{\"text\": \"a\",\n{\"text\": \"b\"},\n{\"text\": \"c\"}\n]", vec!["b", "c"], vec![2]),
        ("[\n{\"text\": \"a\"}},\n{\"text\": \"b\"},\n{\"text\": \"c\"}\n]", vec!["a", "b", "c"], vec![2]),
        ("[\n{\"text\": \"a\"],\n{\"text\": \"b\"},\n{\"text\": \"c\"}\n]", vec!["b", "c"], vec![2]),
        ("[\n{\"text\": \"a\"},\n{\"text\": \"b", vec!["a"], vec![3]),
        // The same within one line.
        ("[{\"text\": \"a\"}, {\"text\": \"b}, {\"text\": \"c\"}, {\"text\": \"d\"}]", vec!["a", "c", "d"], vec![1]),
        ("[{\"text\": \"a\"}, {\"text\": [\"b\"}, {\"text\": \"c\"}]", vec!["a", "c"], vec![1]),
    ] {
        let (found, lines) = read(text.as_bytes());
        assert_eq!((found, lines), (texts.iter().map(|t| (*t).to_owned()).collect(), bad), "{text}");
    }
}

#[test]
fn errors_inside_a_record_of_many_lines_name_the_line() {
    let text = "[\n{\"text\": \"a\"},\n{\n  \"text\": \"b\",\n  \"x\": 01\n}\n]";
    let error = first_error(text.as_bytes());
    assert!(error.starts_with("line 3: ") && error.contains("at line 5"), "{error}");
}

#[test]
fn files_that_are_no_data_set_say_what_they_are() {
    let message = |bytes: &[u8]| Dataset::from_bytes(bytes.to_vec()).map(|d| d.len()).unwrap_err().to_string();
    for (bytes, said) in [
        (&b""[..], "empty file"),
        (b"\n \n", "empty file"),
        (b"[]", "empty file"),
        (b"\xff\xfe{\0", "UTF-16"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"PAR1....", "Parquet"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"instruction,output\nhi,hello\n", "line 1: expected a JSON object"),
        (b"{\"question\": \"a\", \"reply\": \"b\"}", "an object with `question`, `reply`"),
    ] {
        let message = message(bytes);
        assert!(message.contains(said), "{said}: {message}");
    }
    assert!(matches!(Dataset::open("/nonexistent/file.jsonl").err(), Some(DataError::Io { .. })));
    let folder = tempfile::tempdir().unwrap();
    let error = Dataset::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("found a folder"), "{error}");
}

#[test]
fn a_file_that_shrinks_after_opening_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, format!("{OK}\n{OK}\n")).unwrap();
    let data = Dataset::open(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
    let error = data.record(1).unwrap_err();
    assert_eq!(error.line, 2);
    assert!(data.record(7).is_err(), "an example past the end");
}

#[test]
fn the_fingerprint_tells_files_apart() {
    let (a, b) = (open(b"{\"text\": \"a\"}\n"), open(b"{\"text\": \"b\"}\n"));
    assert_ne!(a.fingerprint(), b.fingerprint());
    // Damage that makes the reader go back counts no byte twice.
    let damaged = b"[\n{\"text\": \"a\",\n{\"text\": \"b\"}\n]";
    let fingerprint = open(damaged).fingerprint();
    assert_eq!(fingerprint.0, damaged.len() as u64);
    assert_eq!(fingerprint.1, crc(damaged));
}

/// CRC-32 (IEEE 802.3), bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |mut crc, &b| {
        crc ^= u32::from(b);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
        crc
    })
}

fn use_all_of_it(bytes: Vec<u8>) {
    if let Ok(data) = Dataset::from_bytes(bytes) {
        let survey = data.survey();
        assert_eq!(survey.usable + survey.bad_count, data.len());
        let report = attune::data::check::check_dataset(&data, &Default::default()).unwrap();
        assert_eq!(report.counts.records, data.len());
        assert!(report.counts.kinds.get("unreadable").copied().unwrap_or(0) == survey.bad_count);
    }
}

/// Pieces that mean something to the reader, so that random files come near to real ones.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            "\"",
            ",",
            ":",
            "\n",
            "\\",
            " ",
            "null",
            "true",
            "1e5",
            "-100",
            "\"text\"",
            "\"messages\"",
            "\"role\"",
            "\"content\"",
            "\"user\"",
            "\"assistant\"",
            "\"prompt\"",
            "\"chosen\"",
            "\"rejected\"",
            "\"label\"",
            "\"completion\"",
            "\"completions\"",
            "\"input_ids\"",
            "\"instruction\"",
            "\"output\"",
            "\"tool_calls\"",
            "{\"text\": \"ok\"}",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
            "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}",
            "{\"input_ids\": [1, 2]}",
            "\u{feff}",
            "你好",
            "\0"
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ]
}

/// JSON values that hold the right keys with the wrong things in them.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[a-z你{} \n]{0,12}".prop_map(Into::into),
        prop::sample::select(vec!["user", "assistant", "human", "gpt", "function_call", "tool", "{\"name\": \"f\"}"]).prop_map(Into::into),
    ];
    let keys = vec![
        "messages",
        "role",
        "content",
        "from",
        "value",
        "conversations",
        "prompt",
        "completion",
        "completions",
        "chosen",
        "rejected",
        "label",
        "text",
        "input_ids",
        "labels",
        "instruction",
        "input",
        "output",
        "history",
        "instances",
        "tools",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "type",
        "weight",
        "prompt_ids",
        "chosen_ids",
        "rejected_ids",
        "completion_ids",
        "completions_ids",
        "chosen_messages",
        "rejected_messages",
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::vec((prop::sample::select(keys.clone()), inner), 0..6)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_make_the_reader_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        use_all_of_it(pieces.concat());
    }

    #[test]
    fn no_values_make_the_parser_panic(values in prop::collection::vec(value(), 1..5), array in any::<bool>()) {
        let bytes = if array {
            serde_json::to_vec(&values).unwrap()
        } else {
            values.iter().map(|v| v.to_string()).collect::<Vec<_>>().join("\n").into_bytes()
        };
        use_all_of_it(bytes);
    }

    #[test]
    fn a_file_cut_anywhere_still_gives_the_records_before_the_cut(cut in 0usize..400) {
        let whole: String = format!("[\n{}\n]", (0..12).map(|i| format!("  {{\n    \"text\": \"record {i}\"\n  }}")).collect::<Vec<_>>().join(",\n"));
        let bytes = &whole.as_bytes()[..cut.min(whole.len())];
        let complete = (0..12).filter(|i| {
            let record = format!("\"record {i}\"\n  }}");
            String::from_utf8_lossy(bytes).contains(&record)
        }).count();
        if let Ok(data) = Dataset::from_bytes(bytes.to_vec()) {
            prop_assert_eq!(data.survey().usable, complete);
        } else {
            prop_assert_eq!(complete, 0);
        }
    }
}
