//! What a plan says is what the process takes: peak anonymous memory above what it had before the model was opened, each case in a process of its own.
//!
//! The mapped weights are file pages and do not count. Allowed: a tenth of the plan, or 4 MiB for what no plan can name (thread stacks, the allocator's
//! own pages), in both directions: a plan that asks for much more than is used is wrong too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

use attune::Model;
use attune::core::sampler::Sampling;
use attune::data::Dataset;
use attune::memory::resident_anonymous;
use attune::session::{Session, SessionOptions};
use attune::template::MaskOptions;
use attune::tuner::{Examples, Optim, Scorer, TuneOptions, Tuner};
use attune_tests::random_model::{Extents, random_model};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SHAPES: [(&str, Extents); 3] = [
    ("small", Extents { width: 256, ff: 704, layers: 4, vocab: 1024, tokenizer: false }),
    ("deep", Extents { width: 512, ff: 1280, layers: 6, vocab: 4096, tokenizer: false }),
    ("wide vocabulary", Extents { width: 256, ff: 512, layers: 2, vocab: 20_000, tokenizer: true }),
];
const WORK: [&str; 5] = ["decode", "tune", "tune-8bit-budget", "tune-eval", "score"];

/// Set in a child: what to do, the model, the data.
const CHILD: &str = "ATTUNE_TEST_MEMORY";

/// The most anonymous memory that was resident since it began, looked at every millisecond.
struct Watch {
    start: u64,
    peak: Arc<AtomicU64>,
    on: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn begin() -> Watch {
        let (peak, on) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
        let (p, o) = (peak.clone(), on.clone());
        let thread = std::thread::spawn(move || {
            while o.load(Ordering::Relaxed) {
                p.fetch_max(resident_anonymous().unwrap(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        Watch { start: resident_anonymous().unwrap(), peak, on, thread }
    }

    fn end(self) -> u64 {
        let last = resident_anonymous().unwrap();
        self.on.store(false, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.peak.load(Ordering::Relaxed).max(last) - self.start
    }
}

/// Planned and measured bytes of one kind of work.
fn measure(work: &str, model: &Path, data: &Path) -> (u64, u64) {
    let watch = Watch::begin();
    let model = Model::open(model).unwrap();
    if work == "decode" {
        let options = SessionOptions { context: 512, prefill_batch: 64, threads: 2, ..SessionOptions::default() };
        let mut session = Session::new(&model, &options).unwrap();
        session.feed(&[5; 70]).unwrap();
        for _ in 0..8 {
            let id = session.sample(&Sampling::default()).unwrap();
            session.feed(&[id]).unwrap();
        }
        return (session.plan().total_bytes, watch.end());
    }
    let read = || {
        let data = Arc::new(Dataset::open(data).unwrap());
        Examples::prepare(&model, data, 96, MaskOptions::default(), |_| true, |_| {}).unwrap()
    };
    let mut options =
        TuneOptions { max_length: 96, batch_size: 2, gradient_accumulation: 2, threads: 2, save_every: 1, ..TuneOptions::default() };
    match work {
        "score" => {
            let mut scorer = Scorer::new(&model, None, &options).unwrap();
            scorer.score(&read(), |_, _, _| Ok(())).unwrap();
            return (scorer.plan().total_bytes, watch.end());
        }
        "tune-8bit-budget" => {
            options.optim = Some(Optim::AdamW8bit);
            let free = attune::plan::for_tuning(&model, &options).unwrap().total_bytes;
            options.budget = Some(free * 9 / 10);
        }
        _ => {}
    }
    let eval = (work == "tune-eval").then(read);
    let mut tuner = Tuner::new(&model, read(), eval, &options, None).unwrap();
    if let Some(budget) = options.budget {
        assert!(tuner.plan().total_bytes <= budget, "{} of {budget}", tuner.plan().total_bytes);
    }
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        tuner.step().unwrap();
        tuner.evaluate().unwrap();
        tuner.save(folder.path()).unwrap();
    }
    (tuner.plan().total_bytes, watch.end())
}

/// Does nothing unless it is the child of the test below.
#[test]
fn child() {
    let Ok(case) = std::env::var(CHILD) else { return };
    let parts: Vec<&str> = case.split('|').collect();
    let (planned, measured) = measure(parts[0], Path::new(parts[1]), Path::new(parts[2]));
    println!("\nMEASURED {planned} {measured}");
}

fn within(planned: u64, measured: u64) -> bool {
    planned.abs_diff(measured) <= (planned / 10).max(4 << 20)
}

#[test]
fn what_is_planned_is_what_is_taken() {
    assert!(within(100 << 20, 109 << 20) && !within(100 << 20, 111 << 20) && !within(100 << 20, 89 << 20) && !within(1 << 20, 6 << 20));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    let ids = |n: u32| (0..80 + n).map(|i| (i * 7 + n) % 1000).collect::<Vec<_>>();
    let lines: String = (0..8).map(|n| format!("{}\n", serde_json::json!({ "input_ids": ids(n) }))).collect();
    std::fs::write(&data, lines).unwrap();
    let mut wrong = Vec::new();
    for (name, extents) in SHAPES {
        let model = folder.path().join("model.gguf");
        std::fs::write(&model, random_model(&extents)).unwrap();
        for work in WORK {
            let case = format!("{work}|{}|{}", model.display(), data.display());
            let child =
                Command::new(std::env::current_exe().unwrap()).args(["--exact", "child", "--nocapture"]).env(CHILD, case).output().unwrap();
            let text = String::from_utf8_lossy(&child.stdout);
            let line = text
                .lines()
                .find_map(|l| l.strip_prefix("MEASURED "))
                .unwrap_or_else(|| panic!("{name} {work}: {text}{}", String::from_utf8_lossy(&child.stderr)));
            let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
            let (planned, measured) = (numbers[0], numbers[1]);
            let mib = |n: u64| n as f64 / f64::from(1 << 20);
            let share = measured as f64 / planned as f64;
            let said = format!("{name}, {work}: planned {:.1} MiB, measured {:.1} MiB ({share:.3})", mib(planned), mib(measured));
            println!("{said}");
            if !within(planned, measured) {
                wrong.push(said);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
