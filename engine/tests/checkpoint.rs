//! Checkpoints: whatever happens to the files, and whenever the writer dies, the newest whole one is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use attune::checkpoint::{self, Best, Error, Progress, Saved, State, clear, load_latest};
use attune_core::lora::{Modules, Shape};
use attune_core::rng;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { rank: 2, alpha: 4.0, use_rslora: false, modules: Modules::ALL, first_layer: 1, layers: 3 };

/// Numbers that are a function of the step, so that a mixture of two checkpoints shows.
struct Job {
    progress: Progress,
    config: Value,
    params: Vec<f32>,
    optimizer: Vec<u8>,
    best: Option<Vec<f32>>,
}

impl Job {
    fn at(step: u64, len: usize) -> Job {
        let params: Vec<f32> = (0..len as u64).map(|i| rng::uniform(step, 0, i)).collect();
        let best = step.is_multiple_of(2).then(|| params.iter().map(|x| x * 0.5).collect());
        Job {
            progress: Progress {
                step,
                epoch: step / 10,
                position: step * 4,
                seed: 7,
                draws: u64::MAX,
                best: best.is_some().then_some(Best { step: step / 2, loss: 1.0 / 3.0 }),
                evaluations_without_gain: 2,
                extra: json!({"elapsed": 3}),
            },
            config: json!({"learning_rate": f64::from(1e-4f32), "rank": 2, "target_modules": ["q_proj"]}),
            params,
            optimizer: (0..2 * len as u64).map(|i| rng::bits(step, 1, i) as u8).collect(),
            best,
        }
    }

    fn state(&self) -> State<'_> {
        let (progress, config, params) = (&self.progress, &self.config, &self.params[..]);
        State { progress, shape: SHAPE, config, params, optimizer: &self.optimizer, best: self.best.as_deref() }
    }

    fn write(&self, folder: &Path) -> PathBuf {
        checkpoint::write(folder, &self.state()).unwrap()
    }
}

/// Checks that it is exactly the one of its step.
fn check(saved: Saved, len: usize) -> u64 {
    let job = Job::at(saved.progress().step, len);
    saved.check_config(&job.config).unwrap();
    let owned = saved.into_owned().unwrap();
    assert_eq!(owned.progress, job.progress);
    assert_eq!(owned.shape, SHAPE);
    assert_eq!((owned.params, owned.optimizer, owned.best), (job.params, job.optimizer, job.best));
    owned.progress.step
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_written_is_read_and_two_stay() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("run/checkpoint");
    assert!(load_latest(&folder).unwrap().is_none());
    for step in 1..=4 {
        let path = Job::at(step, 1000).write(&folder);
        let saved = load_latest(&folder).unwrap().unwrap();
        assert_eq!(saved.path(), path);
        assert_eq!(check(saved, 1000), step);
    }
    assert_eq!(names(&folder), ["step-0000000003.checkpoint", "step-0000000004.checkpoint"]);
    clear(&folder).unwrap();
    assert!(load_latest(&folder).unwrap().is_none());
    clear(&folder.join("nothing")).unwrap();
}

#[test]
fn parts_are_read_into_memory_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::at(2, 100);
    job.write(folder.path());
    let mut saved = load_latest(folder.path()).unwrap().unwrap();
    assert_eq!((saved.params_len(), saved.optimizer_len(), saved.has_best(), saved.shape()), (100, 200, true, SHAPE));
    let (mut params, mut optimizer, mut best) = ([0.0; 100], [0; 200], [0.0; 100]);
    saved.read_best(&mut best).unwrap();
    saved.read_params(&mut params).unwrap();
    saved.read_optimizer(&mut optimizer).unwrap();
    assert_eq!((&params[..], &optimizer[..], Some(&best[..])), (&job.params[..], &job.optimizer[..], job.best.as_deref()));
    assert!(matches!(saved.read_params(&mut [0.0; 99]), Err(Error::Length { part: "params", expected: 396, found: 400, .. })));
    Job::at(3, 100).write(folder.path());
    let mut saved = load_latest(folder.path()).unwrap().unwrap();
    assert!(matches!(saved.read_best(&mut best), Err(Error::Length { part: "best", .. })));
}

#[test]
fn a_cut_or_changed_file_is_passed_over_wherever_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    Job::at(1, 40).write(folder.path());
    let path = Job::at(2, 40).write(folder.path());
    let good = fs::read(&path).unwrap();
    let latest = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        check(load_latest(folder.path()).unwrap().unwrap(), 40)
    };
    for len in 0..good.len() {
        assert_eq!(latest(&good[..len]), 1, "{len} bytes");
    }
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        assert_eq!(latest(&bytes), 1, "byte {at}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(latest(&longer), 1);
    assert_eq!(latest(&vec![0; good.len()]), 1);
    assert_eq!(latest(&good), 2);
}

#[test]
fn if_none_is_whole_that_is_an_error_and_not_a_beginning() {
    let folder = tempfile::tempdir().unwrap();
    for step in [1, 2] {
        let path = Job::at(step, 40).write(folder.path());
        fs::write(path, b"torn").unwrap();
    }
    let error = load_latest(folder.path()).unwrap_err();
    assert!(matches!(error, Error::NoneWhole { found: 2, .. }), "{error}");
    // Other files are not taken for checkpoints.
    clear(folder.path()).unwrap();
    for name in ["step-1.checkpoint", "step-.checkpoint", "step-0000000009.checkpoint.tmp", "adapter.attune"] {
        fs::write(folder.path().join(name), b"?").unwrap();
    }
    assert!(load_latest(folder.path()).unwrap().is_none());
    // What a killed writer left goes, what is not ours stays.
    Job::at(3, 40).write(folder.path());
    assert_eq!(names(folder.path()), ["adapter.attune", "step-.checkpoint", "step-0000000003.checkpoint", "step-1.checkpoint"]);
}

#[test]
fn later_steps_go_when_a_job_went_back() {
    let folder = tempfile::tempdir().unwrap();
    Job::at(10, 40).write(folder.path());
    let torn = Job::at(20, 40).write(folder.path());
    fs::write(torn, b"torn").unwrap();
    assert_eq!(check(load_latest(folder.path()).unwrap().unwrap(), 40), 10);
    Job::at(15, 40).write(folder.path());
    assert_eq!(names(folder.path()), ["step-0000000010.checkpoint", "step-0000000015.checkpoint"]);
    // The same step again.
    Job::at(15, 40).write(folder.path());
    assert_eq!(names(folder.path()).len(), 2);
}

#[test]
fn another_job_is_told_which_option_differs() {
    let folder = tempfile::tempdir().unwrap();
    let job = Job::at(1, 40);
    job.write(folder.path());
    let saved = load_latest(folder.path()).unwrap().unwrap();
    let cases = [("rank", json!(4)), ("learning_rate", json!(2e-4)), ("new_option", json!(true))];
    for (key, value) in cases {
        let mut config = job.config.clone();
        config[key] = value;
        let error = saved.check_config(&config).unwrap_err();
        assert!(matches!(&error, Error::Config { option, .. } if option == key), "{error}");
    }
    let error = saved.check_config(&json!({"rank": 2, "target_modules": ["q_proj"]})).unwrap_err().to_string();
    assert!(error.contains("learning_rate") && error.contains("nothing"), "{error}");
}

#[test]
fn a_later_version_is_an_error_and_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    Job::at(1, 40).write(folder.path());
    let path = Job::at(2, 40).write(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let len = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..16]);
    crc.update(&bytes[20..20 + len]);
    bytes[16..20].copy_from_slice(&crc.finalize().to_le_bytes());
    fs::write(&path, bytes).unwrap();
    assert!(matches!(load_latest(folder.path()), Err(Error::Version { found: 2, .. })));
}

const FOLDER: &str = "ATTUNE_TEST_CHECKPOINT_FOLDER";
const LEN: usize = 200_000;

/// Not a test of its own: what the next one starts and kills.
#[test]
#[ignore = "the next test runs it in a process of its own"]
fn writer() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let first = load_latest(&folder).unwrap().map_or(0, |saved| check(saved, LEN));
    for step in first + 1.. {
        Job::at(step, LEN).write(&folder);
    }
}

#[test]
fn a_writer_killed_at_any_instant_leaves_a_whole_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut reached = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["writer", "--exact", "--ignored"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Killed once it has written something new, at an instant that it cannot know.
        let start = Instant::now();
        let latest = || load_latest(folder.path()).ok().flatten().map_or(0, |saved| saved.progress().step);
        while latest() <= reached {
            assert!(start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(), "the writer writes nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_micros(rng::bits(round, 5, 0) % 40_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let step = check(load_latest(folder.path()).unwrap().unwrap(), LEN);
        assert!(step > reached);
        reached = step;
        let whole = names(folder.path()).iter().filter(|name| name.ends_with(".checkpoint")).count();
        assert!((1..=3).contains(&whole), "{:?}", names(folder.path()));
    }
}
