//! What the tests of objectives share: cases drawn from the repository's generator, finite differences, golden files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub, missing_docs)]

use attune_core::objective::{Answer, Pair, Prompt};
use attune_core::rng;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The shared golden values of PyTorch and TRL, each folder's `expected.json` and `inputs.json`; none, with a line that says so, where they are
/// not at hand.
pub fn shared() -> Vec<(String, Value, Value)> {
    let root = std::env::var_os("ATTUNE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from)
        .join("golden");
    if !root.is_dir() {
        println!("skipped: no golden folders of PyTorch and TRL at hand");
        return Vec::new();
    }
    let folders = ["llama", "qwen3", "gemma3"];
    folders.map(|arch| (arch.to_owned(), json(&root.join(arch).join("expected.json")), json(&root.join(arch).join("inputs.json")))).into()
}

/// A golden file of this folder.
pub fn own(name: &str) -> Value {
    json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name))
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A value's numbers.
pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}")).iter().map(|v| v.as_f64().unwrap()).collect()
}

/// A value's number.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// Fails unless the two are as close as `tolerance`, relative above 1 and absolute below.
pub fn close(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{what}: {got}, expected {want}");
}

/// Numbers drawn one after the other.
pub struct Draw {
    seed: u64,
    at: u64,
}

impl Draw {
    pub fn new(seed: u64) -> Self {
        Draw { seed, at: 0 }
    }

    /// Uniform between the two.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        self.at += 1;
        low + (high - low) * f64::from(rng::uniform(self.seed, 11, self.at))
    }

    pub fn answer(&mut self) -> Answer {
        let tokens = self.between(1.0, 30.0) as usize;
        let sum = -(tokens as f64) * self.between(0.05, 6.0);
        Answer { sum, tokens, reference: sum + self.between(-15.0, 15.0) }
    }

    pub fn pair(&mut self) -> Pair {
        let tokens = self.between(1.0, 9.0) as usize;
        Pair { chosen: self.answer(), rejected: self.answer(), prompt: Prompt { sum: -(tokens as f64) * self.between(0.05, 6.0), tokens } }
    }
}

/// The derivative of `f` at `x` by central differences with one step of Richardson's extrapolation, in f64.
pub fn derivative(f: impl Fn(f64) -> f64, x: f64, h: f64) -> f64 {
    let central = |h: f64| (f(x + h) - f(x - h)) / (2.0 * h);
    (4.0 * central(h / 2.0) - central(h)) / 3.0
}

/// Fails unless a coefficient is the derivative: relative error below 1e-5, or both vanish beside the loss.
pub fn is_derivative(what: &str, got: f64, want: f64, loss: f64) {
    let floor = 1e-10 * (1.0 + loss.abs());
    assert!((got - want).abs() <= 1e-5 * want.abs() + floor, "{what}: coefficient {got}, finite difference {want}");
}
