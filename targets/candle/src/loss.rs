//! Log-probabilities, losses and their gradients.

use candle_core::{D, Device, Result, Tensor, bail};

use crate::lora::{Gradients, LoraVars};
use crate::model::{Oracle, Tokens};

/// The label of a token that no loss falls on.
pub const IGNORED: i64 = -100;

impl Oracle {
    /// log p of every target token, in order: `[targets]`, on the graph.
    ///
    /// Token t with `labels[t] != -100` is predicted from t−1. The first token of the sequence and of every
    /// segment has nothing to be predicted from; its label is ignored.
    pub fn log_probs(&self, tokens: &Tokens<'_>, labels: &[i64], lora: Option<&LoraVars>) -> Result<Tensor> {
        let targets = targets(tokens, labels)?;
        self.log_probs_at(tokens, labels, &targets, lora)
    }

    /// −mean of [`Oracle::log_probs`]: masked cross-entropy. A scalar on the graph.
    pub fn cross_entropy(&self, tokens: &Tokens<'_>, labels: &[i64], lora: Option<&LoraVars>) -> Result<Tensor> {
        self.log_probs(tokens, labels, lora)?.mean_all()?.neg()
    }

    /// `Σ w_t · (−log p_t)` over the target tokens: a scalar on the graph whose gradient is that of any
    /// objective with `w_t = −∂objective/∂log p_t`. `weights` is as long as the tokens.
    pub fn weighted_loss(&self, tokens: &Tokens<'_>, labels: &[i64], weights: &[f64], lora: Option<&LoraVars>) -> Result<Tensor> {
        if weights.len() != tokens.ids.len() {
            bail!("weights: expected one a token, {}, found {}", tokens.ids.len(), weights.len());
        }
        let targets = targets(tokens, labels)?;
        let chosen: Vec<f64> = targets.iter().filter_map(|&t| weights.get(t).copied()).collect();
        let chosen = Tensor::from_vec(chosen, targets.len(), &Device::Cpu)?.to_dtype(self.dtype())?;
        (self.log_probs_at(tokens, labels, &targets, lora)? * chosen)?.sum_all()?.neg()
    }

    fn log_probs_at(&self, tokens: &Tokens<'_>, labels: &[i64], targets: &[usize], lora: Option<&LoraVars>) -> Result<Tensor> {
        let vocabulary = self.vocabulary();
        let mut rows = Vec::with_capacity(targets.len());
        let mut columns = Vec::with_capacity(targets.len());
        for &t in targets {
            let label = labels.get(t).copied().unwrap_or(IGNORED);
            match u32::try_from(label) {
                Ok(id) if (id as usize) < vocabulary => columns.push(id),
                _ => bail!("label {label} at token {t}: expected {IGNORED} or 0 to {}", vocabulary - 1),
            }
            rows.push(t as u32 - 1);
        }
        if rows.is_empty() {
            bail!("no target token: every label is masked");
        }
        let n = rows.len();
        let rows = Tensor::from_vec(rows, n, &Device::Cpu)?;
        let columns = Tensor::from_vec(columns, (n, 1), &Device::Cpu)?;
        let logits = self.forward(tokens, lora)?.index_select(&rows, 0)?;
        let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
        let log_total = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
        (shifted.gather(&columns, 1)? - log_total)?.squeeze(1)
    }
}

/// d loss / d matrix of every matrix in `lora`. A matrix that the loss does not depend on is an error, not a
/// zero: an operation that leaves the graph silently would look the same.
pub fn gradients(loss: &Tensor, lora: &LoraVars) -> Result<Gradients> {
    let store = loss.backward()?;
    let mut gradients = Gradients::new();
    for key in lora.keys() {
        match store.get(lora.var(key)?.as_tensor()) {
            Some(g) => gradients.insert(key, g.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1()?),
            None => bail!("the loss does not depend on {key:?}"),
        };
    }
    Ok(gradients)
}

/// Indices of the tokens that the loss falls on.
fn targets(tokens: &Tokens<'_>, labels: &[i64]) -> Result<Vec<usize>> {
    if labels.len() != tokens.ids.len() {
        bail!("labels: expected one a token, {}, found {}", tokens.ids.len(), labels.len());
    }
    let starts = tokens.starts()?;
    let marked = labels.iter().zip(&starts).enumerate();
    Ok(marked.filter(|(_, (label, start))| **label != IGNORED && !**start).map(|(t, _)| t).collect())
}
