//! Greedy answers of many prompts at once.

use candle_core::{Device, Tensor};

use crate::Result;
use crate::model::Model;
use crate::vocabulary::END;

/// Goes on from each of `prompts` until the end token or `limit` more tokens. `None` marks an answer that did not end.
///
/// # Errors
/// Where candle fails.
pub fn greedy(model: &Model, prompts: &[Vec<u32>], limit: usize, until_end: bool) -> Result<Vec<Option<Vec<u32>>>> {
    let mut rows: Vec<Vec<u32>> = prompts.to_vec();
    let mut ended = vec![false; rows.len()];
    for _ in 0..limit {
        let open: Vec<usize> = (0..rows.len()).filter(|row| !ended[*row]).collect();
        if open.is_empty() {
            break;
        }
        for part in open.chunks(32) {
            let longest = part.iter().map(|row| rows[*row].len()).max().unwrap_or(0);
            let mut ids = Vec::with_capacity(part.len() * longest);
            let mut last = Vec::with_capacity(part.len());
            for (n, row) in part.iter().enumerate() {
                last.push((n * longest + rows[*row].len() - 1) as u32);
                ids.extend_from_slice(&rows[*row]);
                ids.resize((n + 1) * longest, END);
            }
            let hidden = model.hidden(&Tensor::from_vec(ids, (part.len(), longest), &Device::Cpu)?)?;
            let hidden = hidden.index_select(&Tensor::new(last, &Device::Cpu)?, 0)?;
            let next: Vec<u32> = model.logits(&hidden)?.argmax(1)?.to_vec1()?;
            for (row, next) in part.iter().zip(next) {
                if next == END {
                    ended[*row] = true;
                } else {
                    rows[*row].push(next);
                }
            }
        }
    }
    let answers = rows.into_iter().zip(prompts).zip(ended);
    Ok(answers.map(|((row, prompt), ended)| (ended || !until_end).then(|| row[prompt.len()..].to_vec())).collect())
}
