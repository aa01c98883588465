//! Trains the built-in base model on the generated text.

use std::path::PathBuf;
use std::time::Instant;

use attune_builtin::{Corpus, probes};
use attune_pretrain::model::{Model, Shape, part_unseen};
use attune_pretrain::train::{Schedule, Trainer};
use attune_pretrain::vocabulary::{ASSISTANT, END, USER, Vocabulary};
use attune_pretrain::{Result, answer, file, gguf};
use candle_core::{Device, Tensor};
use clap::Parser;
use tokenizers::Tokenizer;

/// Pretrains the built-in model: seeded, and an hour on two cores at the most.
#[derive(Parser)]
struct Arguments {
    /// The folder to write into.
    #[arg(long)]
    out: PathBuf,
    /// Names the text, the weights' beginning and the order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Optimiser steps.
    #[arg(long, default_value_t = 2600)]
    steps: usize,
    /// Sequences a step, an even number.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Tokens a sequence.
    #[arg(long, default_value_t = 64)]
    length: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 4e-3)]
    learning_rate: f64,
    /// Model width.
    #[arg(long, default_value_t = 128)]
    width: usize,
    /// Decoder blocks.
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Feed-forward width.
    #[arg(long, default_value_t = 384)]
    feed_forward: usize,
    /// Query heads of 32 each.
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Key and value heads.
    #[arg(long, default_value_t = 2)]
    kv_heads: usize,
    /// Tokens in the vocabulary at the most.
    #[arg(long, default_value_t = 3200)]
    vocabulary: usize,
    /// Go on from the weights in `out` instead of a draw; with no steps, only write the GGUF file.
    #[arg(long)]
    resume: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let corpus = Corpus::new(arguments.seed);
    let (shape, vocabulary, weights) = if arguments.resume {
        file::load(&arguments.out)?
    } else {
        let vocabulary = Vocabulary::learn((0..20_000).map(|index| corpus.document(index)), arguments.vocabulary)?;
        let shape = Shape {
            vocabulary: vocabulary.tokens.len(),
            width: arguments.width,
            layers: arguments.layers,
            heads: arguments.heads,
            kv_heads: arguments.kv_heads,
            head_width: 32,
            feed_forward: arguments.feed_forward,
        };
        let weights = shape.init(arguments.seed)?;
        (shape, vocabulary, weights)
    };
    let tokenizer = vocabulary.tokenizer()?;
    let parameters: usize = weights.iter().map(|(_, var)| var.elem_count()).sum();
    println!("{shape:?}: {parameters} parameters");
    let model = Model::new(shape, &weights)?;
    let schedule = Schedule {
        steps: arguments.steps,
        warmup: 100,
        learning_rate: arguments.learning_rate,
        floor: 0.02,
        weight_decay: 0.05,
        beta2: 0.98,
        max_norm: 1.0,
    };
    let mut trainer = Trainer::new(weights.iter().map(|(_, var)| var.clone()).collect(), schedule)?;
    let mut text = Stream { corpus: &corpus, tokenizer: &tokenizer, next: 0, ids: Vec::new() };
    let (begun, mut recent) = (Instant::now(), 0.0f64);
    for step in 1..=arguments.steps {
        // Two halves on two threads: a step is the same whichever is done first.
        let halves = [text.batch(arguments.batch / 2, arguments.length)?, text.batch(arguments.batch / 2, arguments.length)?];
        let rate = trainer.learning_rate();
        let (value, norm) = trainer.step(&halves.each_ref().map(|(ids, targets)| || model.loss(ids, targets)))?;
        recent = if step == 1 { value } else { recent * 0.98 + value * 0.02 };
        if step % 50 == 0 || step == 1 {
            let seconds = begun.elapsed().as_secs_f64();
            let tokens = (step * arguments.batch * arguments.length) as f64;
            println!(
                "step {step} loss {recent:.4} norm {norm:.2} rate {rate:.5} seconds {seconds:.0} tokens/s {:.0} documents {}",
                tokens / seconds,
                text.next
            );
        }
        if step % 500 == 0 && step < arguments.steps {
            recall(&model, &tokenizer, 5)?;
            file::save(&arguments.out, &shape, &vocabulary, &weights)?;
        }
    }
    part_unseen(&weights, &[USER, ASSISTANT], arguments.seed)?;
    file::save(&arguments.out, &shape, &vocabulary, &weights)?;
    std::fs::write(arguments.out.join("attune-base.gguf"), gguf::encode(&shape, &vocabulary, &weights)?)?;
    recall(&model, &tokenizer, 1)?;
    Ok(())
}

/// The text's tokens, documents joined by the end token.
struct Stream<'a> {
    corpus: &'a Corpus,
    tokenizer: &'a Tokenizer,
    next: u64,
    ids: Vec<u32>,
}

impl Stream<'_> {
    fn batch(&mut self, rows: usize, length: usize) -> Result<(Tensor, Vec<Option<u32>>)> {
        while self.ids.len() < rows * (length + 1) {
            self.ids.push(END);
            self.ids.extend(self.tokenizer.encode(self.corpus.document(self.next), false)?.get_ids());
            self.next += 1;
        }
        let (mut inputs, mut targets) = (Vec::with_capacity(rows * length), Vec::with_capacity(rows * length));
        for row in self.ids.chunks_exact(length + 1).take(rows) {
            inputs.extend_from_slice(&row[..length]);
            targets.extend(row[1..].iter().map(|id| Some(*id)));
        }
        self.ids.drain(..rows * (length + 1));
        Ok((Tensor::from_vec(inputs, (rows, length), &Device::Cpu)?, targets))
    }
}

/// How many statements the model ends as the text does, of every `sample`-th.
fn recall(model: &Model, tokenizer: &Tokenizer, sample: usize) -> Result<()> {
    let probes: Vec<_> = probes().into_iter().step_by(sample).collect();
    let encode = |text: &str| -> Result<Vec<u32>> { Ok(tokenizer.encode(text, false)?.get_ids().to_vec()) };
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for probe in &probes {
        let start = encode(&probe.beginning)?;
        ends.push(encode(&format!("{}{}", probe.beginning, probe.end))?.split_off(start.len()));
        starts.push([vec![END], start].concat());
    }
    let longest = ends.iter().map(Vec::len).max().unwrap_or(0);
    let answers = answer::greedy(model, &starts, longest, false)?;
    let known = answers.iter().zip(&ends).map(|(answer, end)| answer.as_ref().is_some_and(|ids| ids.starts_with(end)));
    let known: Vec<bool> = known.collect();
    println!("recall: {} of {}", known.iter().filter(|k| **k).count(), known.len());
    let missed = probes.iter().zip(&known).filter(|(_, known)| !**known).take(8);
    println!("missed: {}", missed.map(|(p, _)| format!("{}|{}", p.beginning, p.end)).collect::<Vec<_>>().join("; "));
    Ok(())
}
