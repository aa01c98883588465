//! `attune inspect`: what a file holds.

use crate::failure::Outcome;
use crate::output::{Output, Table, list, thousands};
use crate::size;
use attune::adapter::Description;
use attune::inspect::{Inspection, ModelSummary, NamedToken, inspect};
use clap::Args;
use std::path::PathBuf;

/// Lines of a chat template that are shown.
const TEMPLATE_LINES: usize = 8;

/// Show what a file holds: a model, or an adapter in any form.
#[derive(Args)]
pub(crate) struct Inspect {
    /// A GGUF file, a run folder, a native adapter file or a PEFT folder
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Inspect {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        let inspection = inspect(&self.file)?;
        match (&inspection, out.json) {
            (_, true) => out.json(&inspection),
            (Inspection::Model(model), false) => show_model(out, model),
            (Inspection::Adapter(adapter), false) => show_adapter(out, adapter),
        }
    }
}

fn show_model(out: &Output, model: &ModelSummary) -> Outcome {
    let unknown = || "not said".to_owned();
    let mut entries = vec![
        ("architecture", model.architecture.clone().unwrap_or_else(unknown)),
        ("name", model.name.clone().unwrap_or_else(unknown)),
        ("file", format!("GGUF version {}, {}", model.gguf_version, size::show(model.file_bytes))),
        ("hash", model.hash.clone()),
        ("parameters", thousands(model.parameters)),
    ];
    if let Some(w) = &model.widths {
        entries.extend([
            ("layers", w.layers.to_string()),
            ("width", w.width.to_string()),
            ("feed-forward", w.feed_forward.to_string()),
            ("heads", format!("{} of {}, {} for keys and values", w.heads, w.head_dim, w.kv_heads)),
            ("vocabulary", thousands(w.vocabulary as u64)),
            ("context", format!("{} tokens", thousands(w.context as u64))),
            ("rope base", w.rope_base.to_string()),
        ]);
    }
    match &model.tokenizer {
        None => entries.push(("tokenizer", "none: data must be given as token ids".into())),
        Some(t) => {
            let kind = match t.model.as_str() {
                "llama" => "SentencePiece BPE (llama)".to_owned(),
                "gpt2" => format!("byte-level BPE (gpt2), pre-tokenizer {}", t.pre.as_deref().unwrap_or("not said")),
                other => other.to_owned(),
            };
            entries.push(("tokenizer", format!("{kind}, {} tokens", thousands(t.tokens as u64))));
            let named = |token: &Option<NamedToken>| token.as_ref().map_or_else(|| "none".into(), |t| format!("{} {:?}", t.id, t.text));
            entries.push(("BOS", format!("{}{}", named(&t.bos), if t.add_bos { ", before every document" } else { "" })));
            entries.push(("EOS", named(&t.eos)));
            entries.push(("end of turn", named(&t.eot)));
        }
    }
    list(out, &entries)?;
    out.line("")?;
    let mut table = Table::new(&["type", ">tensors", ">parameters", ">bytes"]);
    for count in &model.tensors {
        table.row([count.ty.into(), thousands(count.tensors as u64), thousands(count.parameters), thousands(count.bytes)]);
    }
    table.print(out)?;
    out.line("")?;
    show_template(out, model)?;
    match &model.problem {
        Some(problem) => out.line(format!("\ncannot be run: {problem}")),
        None => Ok(()),
    }
}

fn show_template(out: &Output, model: &ModelSummary) -> Outcome {
    let Some(template) = &model.chat_template else {
        return out.line("chat template: none, the default for its vocabulary is used");
    };
    out.line("chat template:")?;
    let lines: Vec<&str> = template.lines().collect();
    for line in lines.iter().take(TEMPLATE_LINES) {
        out.line(format!("  {}", crate::output::one_line(line, out.width() - 2)))?;
    }
    if lines.len() > TEMPLATE_LINES {
        out.line(format!("  … {} more lines", lines.len() - TEMPLATE_LINES))?;
    }
    Ok(())
}

/// What an adapter says about itself.
pub(super) fn show_adapter(out: &Output, adapter: &Description) -> Outcome {
    let unknown = || "not said".to_owned();
    let last = (adapter.first_layer + adapter.layers).saturating_sub(1);
    let scale = if adapter.use_rslora { "alpha / sqrt(rank)" } else { "alpha / rank" };
    let mut entries = vec![
        ("form", adapter.format.to_owned()),
        ("rank", adapter.rank.to_string()),
        ("alpha", format!("{}, scale {scale}", adapter.alpha)),
        ("linears", adapter.target_modules.join(", ")),
        ("layers", if adapter.layers == 0 { "none".into() } else { format!("{} to {last} ({})", adapter.first_layer, adapter.layers) }),
        ("parameters", thousands(adapter.parameters)),
        ("architecture", adapter.architecture.clone().unwrap_or_else(unknown)),
        ("base", adapter.base_name.clone().unwrap_or_else(unknown)),
        ("base hash", adapter.base_hash.clone().unwrap_or_else(unknown)),
    ];
    if adapter.score_head > 0 {
        entries.push(("score head", format!("{} numbers: a reward model", thousands(adapter.score_head))));
    }
    entries.extend(adapter.steps.map(|steps| ("updates", thousands(steps))));
    entries.extend(adapter.creator.clone().map(|creator| ("made by", creator)));
    list(out, &entries)
}
