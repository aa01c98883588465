//! The answers that an update is made from, on their way into a checkpoint and back: those of a run that makes several updates from them and is
//! interrupted in between. Bits as hexadecimal digits, since JSON may round numbers.

use super::Generation;
use super::rollout::Sampled;
use serde_json::{Value, json};

fn hex(words: impl Iterator<Item = u32>) -> String {
    words.map(|word| format!("{word:08x}")).collect()
}

fn words(text: &str) -> Option<Vec<u32>> {
    if !text.is_ascii() || !text.len().is_multiple_of(8) {
        return None;
    }
    (0..text.len()).step_by(8).map(|i| u32::from_str_radix(text.get(i..i + 8)?, 16).ok()).collect()
}

fn floats(text: &str) -> Option<Vec<f32>> {
    Some(words(text)?.into_iter().map(f32::from_bits).collect())
}

fn doubles(text: &str) -> Option<Vec<f64>> {
    let words = words(text)?;
    Some(words.chunks_exact(2).map(|w| f64::from_bits(u64::from(w[0]) << 32 | u64::from(w[1]))).collect())
}

fn halves(numbers: impl Iterator<Item = f64>) -> impl Iterator<Item = u32> {
    numbers.flat_map(|x| [(x.to_bits() >> 32) as u32, x.to_bits() as u32])
}

/// What is saved besides parameters: answers, and the loss and number of an adapter that waits to be kept.
pub(super) fn with_pending(answers: Option<Value>, pending: Option<(f64, u64)>) -> Option<Value> {
    let mut besides = answers.unwrap_or_else(|| json!({}));
    if let (Some(map), Some((loss, step))) = (besides.as_object_mut(), pending) {
        map.insert("pending".into(), json!([hex(halves([loss].into_iter())), step]));
    }
    besides.as_object().is_some_and(|map| !map.is_empty()).then_some(besides)
}

pub(super) fn pending(besides: &Value) -> Option<(f64, u64)> {
    let pending = besides.get("pending")?;
    Some((*doubles(pending[0].as_str()?)?.first()?, pending[1].as_u64()?))
}

pub(super) fn holds_answers(besides: &Value) -> bool {
    besides.get("iteration").is_some()
}

pub(super) fn write(iteration: usize, g: &Generation) -> Value {
    let answers: Vec<Value> = g
        .completions
        .iter()
        .map(|(sampled, ids)| json!([hex(ids.iter().copied()), sampled.ended, hex(halves([sampled.entropy].into_iter()))]))
        .collect();
    json!({
        "iteration": iteration,
        "answers": answers,
        "advantages": hex(halves(g.advantages.iter().copied())),
        "old": hex(g.old.iter().map(|x| x.to_bits())),
        "reference": hex(g.reference.iter().map(|x| x.to_bits())),
    })
}

/// Returns how many updates the answers have had; `None` for what was not written by [`write()`].
pub(super) fn read(saved: &Value, g: &mut Generation) -> Option<usize> {
    g.completions.clear();
    for answer in saved["answers"].as_array()? {
        let ids = words(answer[0].as_str()?)?;
        let entropy = *doubles(answer[2].as_str()?)?.first()?;
        if !g.completions.holds(ids.len()) {
            return None;
        }
        g.completions.restore(Sampled { tokens: ids.len(), ended: answer[1].as_bool()?, entropy }, &ids);
    }
    g.advantages = doubles(saved["advantages"].as_str()?)?;
    g.old = floats(saved["old"].as_str()?)?;
    g.reference = floats(saved["reference"].as_str()?)?;
    (g.advantages.len() == g.completions.len()).then_some(())?;
    saved["iteration"].as_u64().map(|n| n as usize)
}
