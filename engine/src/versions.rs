//! Earlier adapters of a run folder: what an overwritten run left, and what tuning started from.
//!
//! ```text
//! RUN/versions/adapter.N.attune    N counts up; the newest 16 stay
//! ```
//!
//! An adapter goes there before another takes its place, so nothing is lost by tuning on, and [`rollback`] brings any of them back. A rollback is a
//! change like others: what it replaces becomes a version too. A version is read and checked as a whole before it replaces anything; [`survey`] says
//! which of them could come back.

use crate::adapter::{Adapter, RUN_FILE, check_native, hex};
use crate::error::{Error, Result};
use crate::files::replace;
use crate::job;
use serde::Serialize;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How many stay.
const KEEP: usize = 16;

/// What a rollback did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rollback {
    /// The version that is the run's adapter now.
    pub restored: u64,
    /// The version that the adapter before became; none if there was no adapter.
    pub kept_as: Option<u64>,
}

/// An earlier adapter, and whether it could come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// Why it cannot come back: damage, or another model than the run's; none where it can.
    pub problem: Option<String>,
}

/// The numbers of a run's earlier adapters, the oldest first.
///
/// # Errors
/// What the file system says; a folder without any has none.
pub fn list(run: &Path) -> Result<Vec<u64>> {
    let folder = run.join("versions");
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io(&folder))?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io(&folder))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("adapter.")?.strip_suffix(".attune")?.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where a version lies.
#[must_use]
pub fn path(run: &Path, number: u64) -> PathBuf {
    run.join("versions").join(format!("adapter.{number}.attune"))
}

/// All versions, the oldest first, each read as a whole: header, checksums, numbers, and the model that it belongs to.
///
/// # Errors
/// As [`list`]; a file that cannot be read is a version with a problem.
pub fn survey(run: &Path) -> Result<Vec<Version>> {
    let base = base_of(run);
    let look = |number| {
        let path = path(run, number);
        let problem = fs::read(&path).map_err(Error::io(&path)).and_then(|bytes| check(&path, &bytes, base.as_deref())).err();
        Version { number, problem: problem.map(|e| e.to_string()), path }
    };
    Ok(list(run)?.into_iter().map(look).collect())
}

/// Makes an earlier version the run's adapter: `to`, or the newest. It is checked first: a damaged one, or one of another model than the run's, replaces
/// nothing.
///
/// # Errors
/// [`Error::RunFolder`] where there is no such version or it cannot come back, with those that can, and what the file system says; the adapter is then
/// as it was.
pub fn rollback(run: &Path, to: Option<u64>) -> Result<Rollback> {
    back(run, to, false)
}

/// As [`rollback`], for whoever insists on a version that belongs to another model than the run's (one whose folder was overwritten, say).
///
/// # Errors
/// As [`rollback`], but for the model.
pub fn rollback_on_any_base(run: &Path, to: Option<u64>) -> Result<Rollback> {
    back(run, to, true)
}

fn back(run: &Path, to: Option<u64>, any_base: bool) -> Result<Rollback> {
    let numbers = list(run)?;
    let missing = |expected: String| Error::RunFolder { path: run.into(), reason: expected };
    let restored = match to {
        _ if numbers.is_empty() => return Err(missing("expected a folder with earlier adapters in versions/, found none".into())),
        Some(number) if numbers.contains(&number) => number,
        Some(number) => return Err(missing(format!("expected one of the versions {}, found {number}", joined(&numbers)))),
        None => numbers.last().copied().unwrap_or_default(),
    };
    let from = path(run, restored);
    let bytes = fs::read(&from).map_err(Error::io(&from))?;
    let base = if any_base { None } else { base_of(run) };
    if let Err(problem) = check(&from, &bytes, base.as_deref()) {
        let whole: Vec<u64> = survey(run)?.into_iter().filter(|version| version.problem.is_none()).map(|version| version.number).collect();
        let others = match whole.as_slice() {
            [] => "none of the others can either".to_owned(),
            whole => format!("these can: {}", joined(whole)),
        };
        return Err(missing(format!("version {restored} cannot come back, and the adapter stays as it was ({others}): {problem}")));
    }
    let kept_as = keep(run)?;
    let file = run.join(RUN_FILE);
    replace::<std::io::Error>(&file, |out| out.write_all(&bytes)).map_err(Error::io(&file))?;
    Ok(Rollback { restored, kept_as })
}

/// Checks a version's bytes; `base`, in hexadecimal, is the run's model where it is known.
fn check(path: &Path, bytes: &[u8], base: Option<&str>) -> Result<()> {
    let id = check_native(path, bytes)?;
    match base {
        Some(base) if base != hex(&id.hash) => {
            let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
            let reason = format!("it was tuned on {}, and the run's model has the hash {}…", id.describe(), short(base));
            Err(Error::RunFolder { path: path.into(), reason })
        }
        _ => Ok(()),
    }
}

/// The hash of the model that a run belongs to: as its settings say, or else its adapter, where either can be read.
fn base_of(run: &Path) -> Option<String> {
    let settings = job::read_config(run).ok().map(|config| config.model_hash).filter(|hash| !hash.is_empty());
    let file = run.join(RUN_FILE);
    settings.or_else(|| fs::read(&file).ok().and_then(|bytes| check_native(&file, &bytes).ok()).map(|id| hex(&id.hash)))
}

fn joined(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// Makes an adapter the run's own; the one before becomes a version, whose number is given.
///
/// # Errors
/// What the file system says; the adapter is then as it was.
pub fn commit(run: &Path, adapter: &Adapter) -> Result<Option<u64>> {
    fs::create_dir_all(run).map_err(Error::io(run))?;
    let kept = keep(run)?;
    adapter.save(&run.join(RUN_FILE))?;
    Ok(kept)
}

/// Makes a version of the run's adapter, where there is one; it stays in its place too.
pub(crate) fn keep(run: &Path) -> Result<Option<u64>> {
    let file = run.join(RUN_FILE);
    match fs::read(&file) {
        Ok(bytes) => add(run, |path| replace::<std::io::Error>(path, |out| out.write_all(&bytes)).map_err(Error::io(path))).map(Some),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(file)(e)),
    }
}

/// Makes a version of an adapter from elsewhere.
pub(crate) fn keep_adapter(run: &Path, adapter: &Adapter) -> Result<u64> {
    add(run, |path| Ok(adapter.save(path)?))
}

fn add(run: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<u64> {
    let folder = run.join("versions");
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let numbers = list(run)?;
    let next = numbers.last().map_or(1, |last| last + 1);
    write(&path(run, next))?;
    for &old in numbers.iter().take((numbers.len() + 1).saturating_sub(KEEP)) {
        let old = path(run, old);
        fs::remove_file(&old).map_err(Error::io(&old))?;
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Model;
    use crate::adapter::Info;
    use attune_core::lora::{Layout, Module, Modules, Shape};

    /// An adapter whose numbers are all `x`.
    fn adapter(model: &Model, x: f32) -> Adapter {
        let shape = Shape { rank: 1, alpha: 1.0, use_rslora: false, modules: Modules::NONE.with(Module::Q), first_layer: 0, layers: 1 };
        let params = vec![x; Layout::new(model.spec(), shape).unwrap().len()];
        Adapter::new(&model.base().unwrap(), shape, params, Info::default()).unwrap()
    }

    fn tiny() -> Model {
        Model::from_bytes("tiny", crate::doc::tiny_model()).unwrap()
    }

    /// A folder with versions 1 and 2 of 1.0 and 2.0, and an adapter of 3.0.
    fn three(model: &Model) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for x in [1.0, 2.0, 3.0] {
            commit(folder.path(), &adapter(model, x)).unwrap();
        }
        folder
    }

    fn holds(run: &Path, model: &Model) -> f32 {
        Adapter::open(run, &model.base().unwrap()).unwrap().params[0]
    }

    #[test]
    fn every_version_comes_back_and_nothing_is_lost_by_it() {
        let (model, empty) = (tiny(), tempfile::tempdir().unwrap());
        assert!(rollback(empty.path(), None).unwrap_err().to_string().contains("found none"));
        assert_eq!(keep(empty.path()).unwrap(), None);
        let folder = three(&model);
        let run = folder.path();
        assert_eq!(rollback(run, Some(1)).unwrap(), Rollback { restored: 1, kept_as: Some(3) });
        assert_eq!(holds(run, &model), 1.0);
        assert!(rollback(run, Some(9)).unwrap_err().to_string().contains("1, 2, 3"));
        assert_eq!(rollback(run, None).unwrap().restored, 3);
        assert_eq!(holds(run, &model), 3.0);
    }

    #[test]
    fn a_damaged_version_replaces_nothing_and_the_whole_ones_are_named() {
        let model = tiny();
        let whole = fs::read(path(three(&model).path(), 2)).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let torn = whole[..whole.len() / 2].to_vec();
        let behind = [whole.as_slice(), b"more"].concat();
        for bad in [Vec::new(), b"junk that is no adapter".to_vec(), torn, flipped, behind] {
            let folder = three(&model);
            let run = folder.path();
            fs::write(path(run, 2), &bad).unwrap();
            for to in [None, Some(2)] {
                let said = rollback(run, to).unwrap_err().to_string();
                assert!(["version 2", "these can: 1", "adapter.2.attune"].iter().all(|part| said.contains(part)), "{said}");
            }
            assert_eq!((holds(run, &model), list(run).unwrap()), (3.0, vec![1, 2]), "nothing has changed");
            let problems: Vec<bool> = survey(run).unwrap().iter().map(|version| version.problem.is_some()).collect();
            assert_eq!(problems, [false, true]);
            assert_eq!(rollback(run, Some(1)).unwrap().restored, 1);
            assert_eq!(holds(run, &model), 1.0);
        }
    }

    #[test]
    fn where_no_version_is_whole_that_is_said() {
        let model = tiny();
        let folder = three(&model);
        for n in [1, 2] {
            fs::write(path(folder.path(), n), "").unwrap();
        }
        let said = rollback(folder.path(), None).unwrap_err().to_string();
        assert!(said.contains("none of the others"), "{said}");
    }

    #[test]
    fn a_version_of_another_model_comes_back_only_to_who_insists() {
        let model = tiny();
        let folder = three(&model);
        let run = folder.path();
        let mut other = adapter(&model, 7.0);
        other.base.hash[0] ^= 1;
        other.save(&path(run, 2)).unwrap();
        let said = rollback(run, None).unwrap_err().to_string();
        assert!(["version 2", "tuned on", "these can: 1"].iter().all(|part| said.contains(part)), "{said}");
        assert_eq!(holds(run, &model), 3.0);
        assert_eq!(rollback_on_any_base(run, None).unwrap().restored, 2);
    }

    #[test]
    fn a_version_that_holds_no_numbers_replaces_nothing() {
        let model = tiny();
        let folder = three(&model);
        adapter(&model, f32::NAN).save(&path(folder.path(), 2)).unwrap();
        let said = rollback(folder.path(), None).unwrap_err().to_string();
        assert!(said.contains("not finite"), "{said}");
    }

    #[test]
    fn the_oldest_make_room() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(RUN_FILE), "x").unwrap();
        for _ in 0..KEEP + 3 {
            keep(folder.path()).unwrap();
        }
        let numbers = list(folder.path()).unwrap();
        assert_eq!((numbers.len(), numbers[0]), (KEEP, 4));
    }
}
