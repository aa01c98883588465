//! A run that is killed at any instant and taken up again ends with the bytes of a run that never was.
//!
//! The runs are processes of their own, killed with SIGKILL after random times (the seed is printed), each time with another number of threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(unix)]

use attune::Precision;
use attune::job::{Config, Event, Job};
use attune::tuner::TuneOptions;
use attune_core::rng;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Set in a child: run folder, variant, threads.
const CHILD: &str = "ATTUNE_TEST_KILL";
const KILLS: usize = 12;

/// What differs between the runs under test.
fn variant(name: &str, options: TuneOptions) -> TuneOptions {
    match name {
        "plain" => TuneOptions { save_every: 1, ..options },
        "packed-fast-dropout" => TuneOptions { save_every: 3, packing: true, precision: Precision::Fast, dropout: 0.1, ..options },
        other => panic!("no variant {other}"),
    }
}

fn config(root: &Path, name: &str, threads: usize) -> Config {
    let options = TuneOptions {
        max_length: 96,
        batch_size: 2,
        gradient_accumulation: 2,
        steps: Some(36),
        eval_every: 6,
        learning_rate: 1e-3,
        threads,
        ..TuneOptions::default()
    };
    Config { eval_split: 0.2, samples: 1, options: variant(name, options), ..Config::new(root.join("model.gguf"), root.join("data.jsonl")) }
}

/// Begins a run, or goes on with it; does nothing unless it is the child of a test below.
#[test]
fn child() {
    let Ok(case) = std::env::var(CHILD) else { return };
    let parts: Vec<&str> = case.split('|').collect();
    let (folder, threads) = (PathBuf::from(parts[0]), parts[2].parse().unwrap());
    let job = if folder.join("config.json").exists() {
        Job::resume(&folder, Some(threads)).unwrap()
    } else {
        Job::create(&folder, config(folder.parent().unwrap(), parts[1], threads), true).unwrap()
    };
    let outcome = job.run(|event| {
        if let Event::Started(step, _) = event {
            println!("\nSTARTED {step}");
        }
        ControlFlow::Continue(())
    });
    assert!(outcome.unwrap().finished);
}

fn start(folder: &Path, name: &str, threads: usize) -> Child {
    let case = format!("{}|{name}|{threads}", folder.display());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(CHILD, case).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// From which update a child began, as it said; and that it did not fail, if it came to its end.
fn said(child: Child, killed: bool) -> Option<u64> {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(killed || output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().find_map(|l| l.strip_prefix("STARTED ")).map(|n| n.parse().unwrap())
}

/// The log without its clock.
fn log(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let line = |l: &str| {
        let mut value: serde_json::Value = serde_json::from_str(l).unwrap();
        for clock in ["seconds", "tokens_per_second"] {
            value.as_object_mut().unwrap().remove(clock);
        }
        value.to_string()
    };
    text.lines().map(line).collect()
}

fn survives(name: &str) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("model.gguf"), attune::doc::tiny_model()).unwrap();
    let mut data = String::new();
    for i in 0..40 {
        let (a, b) = ((i * 7) % 10, (i * 3) % 10);
        let _ = writeln!(data, "{}", serde_json::json!({ "prompt": format!("{a} and {b} make "), "completion": format!("{}", a + b) }));
    }
    std::fs::write(root.path().join("data.jsonl"), data).unwrap();

    let whole = root.path().join("whole");
    let began = Instant::now();
    assert_eq!(said(start(&whole, name, 2), false), Some(0));
    let length = began.elapsed();
    let want = std::fs::read(whole.join("adapter.attune")).unwrap();
    assert_eq!(log(&whole).len(), 36 + 7, "an entry an update, an evaluation at the start and after each 6");

    // From the process, so that other instants are tried each time; printed, so that they can be tried again.
    let seed = std::env::var("ATTUNE_TEST_SEED").map_or_else(|_| u64::from(std::process::id()), |s| s.parse().unwrap());
    println!("{name}: ATTUNE_TEST_SEED={seed}, a whole run takes {length:?}");
    let (mut kills, mut resumed, mut runs) = (0, Vec::new(), 0);
    while kills < KILLS || runs == 0 {
        let folder = root.path().join(format!("killed-{runs}"));
        runs += 1;
        let mut attempts = 0;
        loop {
            let mut child = start(&folder, name, 1 + attempts % 3);
            attempts += 1;
            // A third of a run on average, so that several kills fall into one; the first kills of a folder fall into its beginning.
            let share = f64::from(rng::uniform(seed, 1, (runs * 1000 + attempts) as u64)) * if attempts == 1 { 0.2 } else { 0.6 };
            let until = Instant::now() + length.mul_f64(share);
            let finished = loop {
                if child.try_wait().unwrap().is_some() {
                    break true;
                }
                if kills < KILLS && Instant::now() >= until {
                    break false;
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            if !finished {
                child.kill().unwrap();
                kills += 1;
            }
            resumed.extend(said(child, !finished));
            if finished {
                break;
            }
        }
        assert!(
            std::fs::read(folder.join("adapter.attune")).unwrap() == want,
            "{name}: the adapter differs after {attempts} starts (seed {seed})"
        );
        assert_eq!(log(&folder), log(&whole), "{name}: the log differs after {attempts} starts (seed {seed})");
        let left: Vec<PathBuf> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.to_string_lossy().ends_with(".tmp")).collect();
        assert!(left.is_empty(), "{name}: {left:?} left behind");
    }
    println!("{name}: {kills} kills in {runs} runs; taken up from updates {resumed:?}");
    assert!(resumed.iter().any(|&step| step > 0), "no kill fell between a checkpoint and the end: nothing was shown");
}

#[test]
fn a_killed_run_ends_with_the_same_bytes() {
    survives("plain");
}

#[test]
fn a_killed_run_with_packing_dropout_and_the_fast_path_ends_with_the_same_bytes() {
    survives("packed-fast-dropout");
}
