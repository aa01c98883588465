//! A folder with a tiny model and data, and the command in it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder that vanishes after the test.
pub struct Home {
    dir: TempDir,
}

/// How a run of the command ended.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    /// With `tiny.gguf`, `bare.gguf` (the same without a tokenizer), `chat.jsonl` and `ids.jsonl`.
    pub fn new() -> Home {
        let home = Home { dir: tempfile::tempdir().unwrap() };
        home.write("tiny.gguf", attune::doc::tiny_model());
        home.write("bare.gguf", attune::doc::tiny_model_without_tokenizer());
        home.write("chat.jsonl", chat_lines(12, 6));
        home.write(
            "ids.jsonl",
            "{\"input_ids\": [1, 2, 3, 4], \"labels\": [-100, 2, -100, 4]}\n{\"input_ids\": [9, 8, 7], \"labels\": [9, 8, 7]}\n",
        );
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The command with arguments separated by spaces, to be run here.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_attune"));
        command.args(args.split_whitespace()).current_dir(self.dir.path()).env_remove("ATTUNE_LOG").stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &str) -> Ran {
        finish(self.command(args))
    }

    /// Runs it to success and returns what it printed.
    pub fn ok(&self, args: &str) -> String {
        let ran = self.run(args);
        assert_eq!(ran.status, Some(0), "attune {args}\n{}\n{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// Runs it with `--json` to success and returns the one document that it printed.
    pub fn json(&self, args: &str) -> Value {
        let out = self.ok(&format!("{args} --json"));
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("attune {args}: {e} in {out:?}"))
    }

    /// The same for a document a line.
    pub fn json_lines(&self, args: &str) -> Vec<Value> {
        let out = self.ok(&format!("{args} --json"));
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("attune {args}: {e} in {line:?}"))).collect()
    }

    /// Runs it to failure with this status; the sentence on standard error must hold every one of `says`.
    pub fn fails(&self, status: i32, args: &str, says: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.status, Some(status), "attune {args}\n{}\n{}", ran.stdout, ran.stderr);
        for part in says {
            assert!(ran.stderr.contains(part), "attune {args}: expected {part:?} in {}", ran.stderr);
        }
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
    }

    /// Runs it with this standard input.
    pub fn fed(&self, args: &str, input: &str) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        ran(child)
    }

    /// Starts it and waits until `log` has so many lines.
    pub fn start_until(&self, args: &str, log: &str, lines: usize) -> Child {
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while count_lines(&self.path(log)) < lines {
            if let Some(status) = child.try_wait().unwrap() {
                let ran = ran(child);
                panic!("attune {args} ended with {status} before {log} had {lines} lines\n{}", ran.stderr);
            }
            assert!(began.elapsed() < Duration::from_secs(120), "{log} never had {lines} lines");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }
}

/// Conversations of a small world: `words` words an answer.
pub fn chat_lines(count: usize, words: usize) -> String {
    let line = |i: usize| {
        let answer: Vec<String> = (0..words).map(|w| ["the", "one", "ring", "tea", "here"][(i + w) % 5].to_owned()).collect();
        let turns = serde_json::json!([
            { "role": "user", "content": format!("Say number {i}.") },
            { "role": "assistant", "content": answer.join(" ") },
        ]);
        serde_json::json!({ "messages": turns }).to_string() + "\n"
    };
    (0..count).map(line).collect()
}

pub fn finish(mut command: Command) -> Ran {
    ran(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

pub fn ran(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub fn count_lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// The keys of an object, in its order.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

/// Every one of these keys is there.
pub fn has_keys(value: &Value, expected: &[&str]) {
    for key in expected {
        assert!(value.get(key).is_some(), "no {key:?} in {value}");
    }
}
