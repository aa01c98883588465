//! Memory: as planned, by region and by buffer, and as measured.

use super::Report;
use super::text::{Escaped, bytes, count};
use crate::plan::{Buffer, Knobs, Plan};
use core::fmt::Write;

/// Rows of the table of buffers.
const ROWS: usize = 12;
/// Units of the bars' width.
const WIDTH: f64 = 900.0;

/// Appends the section on memory.
pub(super) fn write(page: &mut String, report: &Report) {
    let plan = &report.plan;
    page.push_str("<section><h2>Memory</h2><p>Planned before the run began, and taken once. The mapped model file (");
    page.push_str(&bytes(plan.weights_bytes));
    page.push_str(") is not part of it: the system shares and drops its pages.</p>");
    bars(page, plan, report.measured_peak);
    regions(page, plan, report.measured_peak);
    page.push_str("<div class=\"pair\"><div><h3>Largest buffers</h3>");
    buffers(page, plan);
    page.push_str("</div><div><h3>Knobs</h3>");
    knobs(page, &plan.knobs, report.config.options.budget);
    page.push_str("</div></div></section>");
}

fn parts(plan: &Plan) -> [(&'static str, u64, &'static str); 4] {
    let r = &plan.regions;
    [
        ("adapter", r.adapter, "A and B, their gradients, the optimiser's state"),
        ("cache", r.cache, "keys and values"),
        ("work", r.work, "inputs kept for the backward pass, and scratch"),
        ("host", r.host, "vocabulary, token lists, copies for files"),
    ]
}

/// The plan as one bar of regions, and what was measured as another on the same scale.
fn bars(page: &mut String, plan: &Plan, measured: Option<u64>) {
    let longest = plan.total_bytes.max(measured.unwrap_or(0)).max(1) as f64;
    let height = if measured.is_some() { 56 } else { 30 };
    let title = format!("Planned {}", bytes(plan.total_bytes));
    let _ = write!(page, "<svg class=\"bars\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">");
    let mut x = 0.0;
    for (name, size, _) in parts(plan) {
        let width = size as f64 / longest * WIDTH;
        let _ = write!(
            page,
            "<rect class=\"{name}\" x=\"{x:.2}\" y=\"0\" width=\"{width:.2}\" height=\"30\"><title>{name}: {}</title></rect>",
            bytes(size)
        );
        x += width;
    }
    if let Some(peak) = measured {
        let width = peak as f64 / longest * WIDTH;
        let size = bytes(peak);
        let _ = write!(
            page,
            "<rect class=\"measured\" x=\"0\" y=\"36\" width=\"{width:.2}\" height=\"20\"><title>measured peak: {size}</title></rect>"
        );
    }
    page.push_str("</svg>");
}

fn regions(page: &mut String, plan: &Plan, measured: Option<u64>) {
    page.push_str("<table class=\"numbers regions\"><thead><tr><th>Region<th>Bytes<th>Share<th class=\"text\">Holds</tr></thead><tbody>");
    for (name, size, holds) in parts(plan) {
        let share = size as f64 / plan.total_bytes.max(1) as f64 * 100.0;
        let _ = write!(
            page,
            "<tr><td><span class=\"key {name}\">{name}</span><td>{}<td>{share:.1} %<td class=\"text\">{holds}</tr>",
            bytes(size)
        );
    }
    let _ = write!(page, "<tr class=\"sum\"><td>planned<td>{}<td>100 %<td class=\"text\">all of it</tr>", bytes(plan.total_bytes));
    if let Some(peak) = measured {
        let share = peak as f64 / plan.total_bytes.max(1) as f64 * 100.0;
        let holds = "anonymous memory of the process at its most, above where it began";
        let _ = write!(
            page,
            "<tr><td><span class=\"key measured\">measured peak</span><td>{}<td>{share:.1} %<td class=\"text\">{holds}</tr>",
            bytes(peak)
        );
    }
    page.push_str("</tbody></table>");
}

/// Buffers of one name in all layers.
struct Group<'a> {
    name: &'a str,
    region: &'static str,
    shape: &'a [usize],
    ty: &'static str,
    layers: u64,
    bytes: u64,
}

/// Puts the layers' buffers of one name together, the largest sum first.
fn groups(buffers: &[Buffer]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for b in buffers {
        let name = b.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or(b.name.as_str(), |(_, name)| name);
        let at = *known.entry((name, b.region, b.ty, b.shape.as_slice())).or_insert(groups.len());
        match groups.get_mut(at) {
            Some(group) => (group.layers, group.bytes) = (group.layers + 1, group.bytes.saturating_add(b.bytes as u64)),
            None => groups.push(Group { name, region: b.region, shape: &b.shape, ty: b.ty, layers: 1, bytes: b.bytes as u64 }),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.bytes));
    groups
}

fn buffers(page: &mut String, plan: &Plan) {
    let groups = groups(&plan.buffers);
    page.push_str(
        "<table class=\"numbers\"><thead><tr><th>Buffer<th class=\"text\">Region<th class=\"text\">Shape<th>Bytes</tr></thead><tbody>",
    );
    for g in groups.iter().take(ROWS) {
        let shape: Vec<String> = g.shape.iter().map(usize::to_string).collect();
        let times = if g.layers > 1 { format!(" × {}", count(g.layers)) } else { String::new() };
        let _ = write!(
            page,
            "<tr><td><code>{}</code>{times}<td class=\"text\">{}<td class=\"text\">[{}] {}<td>{}</tr>",
            Escaped(g.name),
            g.region,
            shape.join(", "),
            g.ty,
            bytes(g.bytes)
        );
    }
    let rest = groups.get(ROWS..).unwrap_or_default();
    if !rest.is_empty() {
        let size = rest.iter().map(|g| g.bytes).sum();
        let _ = write!(page, "<tr><td>{} more<td><td><td>{}</tr>", count(rest.len() as u64), bytes(size));
    }
    page.push_str("</tbody></table>");
}

fn knobs(page: &mut String, knobs: &Knobs, budget: Option<u64>) {
    let budget = budget.map_or_else(|| "none".into(), bytes);
    let rows: Vec<(&str, String)> = match knobs {
        Knobs::Tune { micro_batch_tokens, vocab_chunk, layer_inputs, layer_stride, kept_blocks, optim } => vec![
            ("budget", budget),
            ("tokens of a micro-batch", count(*micro_batch_tokens as u64)),
            ("vocabulary chunk", count(*vocab_chunk as u64)),
            (
                "kept layer inputs",
                if *layer_stride > 1 { format!("{layer_inputs}, every {layer_stride} layers") } else { format!("{layer_inputs}, all") },
            ),
            ("layers not computed again", count(*kept_blocks as u64)),
            ("optimiser", (*optim).into()),
        ],
        Knobs::Decode { context, prefill_batch, kv_type } => vec![
            ("budget", budget),
            ("context", count(*context as u64)),
            ("prefill batch", count(*prefill_batch as u64)),
            ("keys and values", (*kv_type).into()),
        ],
    };
    page.push_str("<table><tbody>");
    for (name, value) in rows {
        let _ = write!(page, "<tr><th>{name}<td>{value}</tr>");
    }
    page.push_str("</tbody></table>");
}
