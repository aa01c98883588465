//! Tunes an adapter with candle and counts the held-out instructions that are followed: the demo's main job, done independently of the
//! engine.

use std::path::PathBuf;
use std::time::Instant;

use attune_builtin::{Kind, Rng, Task, held_out, tuning_set};
use attune_pretrain::model::Model;
use attune_pretrain::train::{Schedule, Trainer};
use attune_pretrain::vocabulary::{ASSISTANT, END, USER};
use attune_pretrain::{Result, answer, file};
use candle_core::{Device, Tensor};
use clap::Parser;
use tokenizers::Tokenizer;

/// Tunes and tests the base model that lies in a folder.
#[derive(Parser)]
struct Arguments {
    /// The folder that `pretrain` wrote.
    #[arg(long)]
    model: PathBuf,
    /// Names the adapter's beginning and the order of the examples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passes over the tuning set.
    #[arg(long, default_value_t = 3.0)]
    epochs: f64,
    /// Examples a step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Width of the adapter.
    #[arg(long, default_value_t = 16)]
    rank: usize,
    /// Its scale, times rank.
    #[arg(long, default_value_t = 32.0)]
    alpha: f64,
    /// Highest learning rate.
    #[arg(long, default_value_t = 3e-3)]
    learning_rate: f64,
    /// Print every answer.
    #[arg(long)]
    verbose: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (shape, vocabulary, weights) = file::load(&arguments.model)?;
    let tokenizer = vocabulary.tokenizer()?;
    let mut model = Model::new(shape, &weights)?;
    let tasks = held_out();
    println!("before: {}", score(&model, &tokenizer, &tasks, arguments.verbose)?);
    let vars = model.adapt(arguments.rank, arguments.alpha, arguments.seed)?;
    let mut examples = Vec::new();
    for example in tuning_set() {
        let prompt = prompt(&tokenizer, &example.prompt)?;
        let mut ids = prompt.clone();
        ids.extend(tokenizer.encode(example.response, false)?.get_ids());
        ids.push(END);
        examples.push((prompt.len(), ids));
    }
    let tokens: usize = examples.iter().map(|(_, ids)| ids.len()).sum();
    let steps = (examples.len() as f64 * arguments.epochs / arguments.batch as f64) as usize;
    println!("{} examples, {tokens} tokens, {steps} steps", examples.len());
    let schedule = Schedule {
        steps,
        warmup: steps / 20 + 1,
        learning_rate: arguments.learning_rate,
        floor: 0.02,
        weight_decay: 0.0,
        beta2: 0.99,
        max_norm: 1.0,
    };
    let mut trainer = Trainer::new(vars, schedule)?;
    let mut order: Vec<usize> = Vec::new();
    let (begun, mut recent, mut epoch) = (Instant::now(), 0.0, 0);
    for step in 1..=steps {
        if order.len() < arguments.batch {
            let mut fresh: Vec<usize> = (0..examples.len()).collect();
            Rng::new(arguments.seed, epoch).shuffle(&mut fresh);
            order.extend(fresh);
            epoch += 1;
        }
        let chosen: Vec<&(usize, Vec<u32>)> = order.drain(..arguments.batch).map(|n| &examples[n]).collect();
        let (ids, targets) = batch(&chosen)?;
        let (value, _) = trainer.step(&[|| model.loss(&ids, &targets)])?;
        recent = if step == 1 { value } else { recent * 0.9 + value * 0.1 };
        if step % 20 == 0 || step == 1 {
            println!("step {step} loss {recent:.4} seconds {:.0}", begun.elapsed().as_secs_f64());
        }
    }
    println!("after: {}", score(&model, &tokenizer, &tasks, arguments.verbose)?);
    Ok(())
}

fn prompt(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let mut ids = vec![USER];
    ids.extend(tokenizer.encode(text, false)?.get_ids());
    ids.push(ASSISTANT);
    Ok(ids)
}

/// Examples side by side, filled up at the end; targets where the assistant speaks.
fn batch(examples: &[&(usize, Vec<u32>)]) -> Result<(Tensor, Vec<Option<u32>>)> {
    let longest = examples.iter().map(|(_, ids)| ids.len()).max().unwrap_or(1) - 1;
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for (prompt, ids) in examples {
        for t in 0..longest {
            inputs.push(if t + 1 < ids.len() { ids[t] } else { END });
            targets.push(if t + 1 >= *prompt { ids.get(t + 1).copied() } else { None });
        }
    }
    Ok((Tensor::from_vec(inputs, (examples.len(), longest), &Device::Cpu)?, targets))
}

/// Followed instructions by kind.
fn score(model: &Model, tokenizer: &Tokenizer, tasks: &[Task], verbose: bool) -> Result<String> {
    let prompts = tasks.iter().map(|task| prompt(tokenizer, &task.prompt)).collect::<Result<Vec<_>>>()?;
    let answers = answer::greedy(model, &prompts, 40, true)?;
    let mut counts = [[0usize; 2]; 5];
    for (task, answer) in tasks.iter().zip(answers) {
        let text = answer.map(|ids| tokenizer.decode(&ids, true)).transpose()?;
        let followed = text.as_ref().is_some_and(|text| task.follows(text));
        let kind = Kind::ALL.iter().position(|kind| *kind == task.kind).unwrap_or(0);
        counts[kind][0] += usize::from(followed);
        counts[kind][1] += 1;
        if verbose || !followed {
            let mark = if followed { "+" } else { "-" };
            println!(
                "  {mark} {} | {} | {} | {}",
                task.relation,
                task.prompt,
                text.as_deref().unwrap_or("(no end)"),
                task.accepted.first().map_or("", String::as_str)
            );
        }
    }
    let total: usize = counts.iter().map(|c| c[0]).sum();
    let by_kind: Vec<String> =
        Kind::ALL.iter().zip(counts).map(|(kind, [followed, all])| format!("{} {followed}/{all}", kind.name())).collect();
    Ok(format!("{total}/{} ({})", tasks.len(), by_kind.join(", ")))
}
