//! What went in and what came out: the head of the page, model and data, options.

use super::Report;
use super::curves::best;
use super::numbers::{Series, about};
use super::text::{Escaped, bytes, count, duration, number};
use crate::job::Config;
use crate::tuner::{StepLog, TuneOptions};
use core::fmt::Write;
use serde_json::{Map, Value};

/// What of a log's other numbers is told at the head of the page.
const TOLD: [&str; 5] = ["rewards/accuracies", "accuracy", "reward", "guard_loss", "kl"];

/// What was run: `tune`, `prefer dpo`, `reward`, `reinforce grpo`.
pub(super) fn command(config: &Config) -> String {
    let methods = methods(config);
    let Some((kind, options)) = methods.first() else { return "tune".into() };
    let command = match kind.as_str() {
        "preference" => "prefer",
        "reinforcement" => "reinforce",
        other => other,
    };
    let method = options.get("method").and_then(Value::as_str).unwrap_or_default();
    format!("{command} {method}").trim_end().to_owned()
}

/// Parts of the settings that belong to one kind of run alone: its name, and its options.
fn methods(config: &Config) -> Vec<(String, Map<String, Value>)> {
    let all: Map<String, Value> = serde_json::to_string(config).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    all.into_iter().filter_map(|(name, value)| if let Value::Object(options) = value { Some((name, options)) } else { None }).collect()
}

/// Appends the run's results as a row of tiles.
pub(super) fn results(page: &mut String, report: &Report, series: &[Series]) {
    page.push_str("<div class=\"tiles\">");
    // Of reinforcement the loss is the reward, negative, which has a tile of its own.
    let evals = report.evals.iter().filter(|eval| eval.numbers.get("eval_reward").is_none()).collect::<Vec<_>>();
    if let (Some(first), Some(last), Some(best)) = (evals.first(), evals.last(), best(&report.evals)) {
        let below = if report.evals.len() == 1 {
            format!("after update {}", count(last.step))
        } else {
            format!("best {} after update {}", number(best.eval_loss), count(best.step))
        };
        tile(page, "Held-out loss", &change(first.eval_loss, last.eval_loss), &below);
    }
    for name in TOLD {
        let Some(series) = series.iter().find(|series| series.name == name) else { continue };
        let (Some(known), Some((first, last))) = (about(name), series.change()) else { continue };
        let number = |x: f64| if known.share { format!("{:.1} %", x * 100.0) } else { number(x) };
        let on = if series.evals.is_empty() { "first and last update" } else { "held-out, first and last evaluation" };
        tile(page, known.title, &format!("{} → {}", number(first), number(last)), on);
    }
    if let (Some(first), Some(last)) = (report.steps.first(), report.steps.last()) {
        tile(page, "Training loss", &change(first.loss, last.loss), "first and last update");
        let targets: u64 = report.steps.iter().map(|s| s.target_tokens as u64).fold(0, u64::saturating_add);
        tile(page, "Updates", &count(report.steps.len() as u64), &format!("{} target tokens", count(targets)));
        tile(page, "Time", &duration(last.seconds), &speed(&report.steps));
    } else {
        tile(page, "Updates", "0", "nothing was learnt");
    }
    let measured =
        report.measured_peak.map_or_else(|| "peak was not measured".into(), |peak| format!("{} measured at its peak", bytes(peak)));
    tile(page, "Memory planned", &bytes(report.plan.total_bytes), &measured);
    page.push_str("</div>");
}

fn tile(page: &mut String, name: &str, value: &str, below: &str) {
    let _ = write!(
        page,
        "<div class=\"tile\"><div class=\"name\">{name}</div><div class=\"value\">{value}</div><div class=\"below\">{below}</div></div>"
    );
}

fn change(first: f64, last: f64) -> String {
    format!("{} → {}", number(first), number(last))
}

/// Tokens of the whole run by its seconds: each update's speed, weighted with the time that it took.
fn speed(steps: &[StepLog]) -> String {
    let (mut tokens, mut seconds, mut before) = (0.0, 0.0, 0.0);
    for s in steps {
        let took = s.seconds - before;
        before = s.seconds;
        let (all, time) = (tokens + s.tokens_per_second * took, seconds + took);
        // A clock that jumped spoils its own update's share alone.
        if took > 0.0 && (0.0..1e15).contains(&all) && time < 1e12 {
            (tokens, seconds) = (all, time);
        }
    }
    if seconds > 0.0 {
        format!("{} tokens, {:.0} a second", count(tokens.round() as u64), tokens / seconds)
    } else {
        "speed unknown".into()
    }
}

/// Appends what was tuned on what.
pub(super) fn sources(page: &mut String, config: &Config) {
    page.push_str("<section><h2>Model and data</h2><table><tbody>");
    let mut row = |name: &str, value: &str, note: &str| {
        let _ = write!(page, "<tr><th>{name}<td><bdi class=\"path\">{}</bdi>{note}</tr>", Escaped(value));
    };
    row("Model", &config.model.display().to_string(), "");
    row("Hash of its tensors", if config.model_hash.is_empty() { "—" } else { &config.model_hash }, "");
    let (size, crc) = config.data_fingerprint;
    row("Data", &config.data.display().to_string(), &format!(" <span class=\"dim\">{}, CRC-32 {crc:08x}</span>", bytes(size)));
    match &config.eval_data {
        Some(path) => row("Held-out data", &path.display().to_string(), ""),
        None if config.eval_split > 0.0 => row("Held-out data", &format!("{:.1} % of the data", config.eval_split * 100.0), ""),
        None => row("Held-out data", "none", ""),
    }
    if let Some(path) = &config.guard_data {
        row("Guarding data", &path.display().to_string(), "");
    }
    if let Some(path) = &config.init_adapter {
        row("Starting adapter", &path.display().to_string(), "");
    }
    row("Attune", if config.attune.is_empty() { "—" } else { &config.attune }, "");
    page.push_str("</tbody></table></section>");
}

/// Appends all options; those that are not the default stand out.
pub(super) fn options(page: &mut String, config: &Config) {
    let (chosen, default) = (fields(&config.options), fields(&TuneOptions::default()));
    page.push_str("<section><h2>Options</h2>");
    for (kind, options) in methods(config) {
        let _ = write!(page, "<h3>{}</h3><dl class=\"options\">", Escaped(&kind));
        for (name, value) in options.iter().filter(|(_, value)| !value.is_null()) {
            let _ = write!(page, "<div><dt><code>{}</code></dt><dd>{}</dd></div>", Escaped(name), Escaped(&shown(name, value)));
        }
        page.push_str("</dl>");
    }
    page.push_str("<p>Values in bold are not the default.</p><dl class=\"options\">");
    for (name, value) in &chosen {
        let class = if default.get(name) == Some(value) { "" } else { " class=\"set\"" };
        let _ = write!(page, "<div><dt><code>{}</code></dt><dd{class}>{}</dd></div>", Escaped(name), Escaped(&shown(name, value)));
    }
    page.push_str("</dl></section>");
}

/// The options as `config.json` names and writes them.
fn fields(options: &TuneOptions) -> Map<String, Value> {
    // Through text, since there an f32 has its own shortest digits.
    serde_json::to_string(options).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "—".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(|item| shown("", item)).collect::<Vec<_>>().join(", "),
        Value::Number(n) if name == "budget" => n.as_u64().map_or_else(|| n.to_string(), bytes),
        other => other.to_string(),
    }
}
