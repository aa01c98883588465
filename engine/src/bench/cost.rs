//! What a pass has to move and to compute, counted from the model's sizes.
//!
//! Only what every implementation must do is counted: a product of `[T, D]` and `[N, D]` is `2·T·D·N` operations. What is done on top (recomputing a
//! layer's inputs, quantising activations, norms, rope) is not, so that shares of a limit are those of useful work.

use attune_core::lora::Layout;
use attune_core::spec::Spec;
use attune_core::weights::Model;

/// Operations and bytes of one model's passes; a multiplication and an addition are two operations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    spec: Spec,
    /// Weights of all blocks' linears.
    linears: f64,
    /// Bytes of what every token is multiplied with: linears, norms, biases, head.
    weight_bytes: u64,
    /// Bytes of one row of the embeddings.
    embedding_row: u64,
}

impl Cost {
    /// Of a model.
    #[must_use]
    pub fn of(model: &Model<'_>) -> Cost {
        let globals = &model.globals;
        let (mut linears, mut bytes) = (0.0, (globals.head.buf.len + globals.out_norm.len) as u64);
        for layer in model.layers {
            linears += layer.linears.iter().map(|w| (w.rows * w.cols) as f64).sum::<f64>();
            let norms = [Some(layer.attn_norm), Some(layer.ffn_norm), layer.post_attn_norm, layer.post_ffn_norm];
            let vectors = norms.into_iter().chain(layer.biases).flatten().chain(layer.qk_norms.into_iter().flatten());
            bytes += layer.linears.iter().map(|w| w.buf.len).chain(vectors.map(|b| b.len)).sum::<usize>() as u64;
        }
        let embedding_row = globals.embed.buf.len.checked_div(globals.embed.rows).unwrap_or(0) as u64;
        Cost { spec: model.spec, linears, weight_bytes: bytes, embedding_row }
    }

    /// Weights in all linears of all blocks.
    #[must_use]
    pub fn linear_weights(&self) -> f64 {
        self.linears
    }

    /// Bytes that decoding one token reads when `past` tokens are in the cache, whose keys and values take `kv_bytes` bytes a number.
    #[must_use]
    pub fn decode_bytes(&self, past: f64, kv_bytes: f64) -> f64 {
        let cache = 2.0 * past * (self.spec.layers * self.spec.kv_width()) as f64 * kv_bytes;
        (self.weight_bytes + self.embedding_row) as f64 + cache
    }

    /// Operations of taking in `tokens` tokens and giving the last one's logits.
    #[must_use]
    pub fn prefill(&self, tokens: usize) -> f64 {
        2.0 * tokens as f64 * self.linears + self.attention(tokens) + self.head(1)
    }

    /// Operations of the forward half of a training step.
    #[must_use]
    pub fn forward(&self, tokens: usize, targets: usize, lora: &Layout) -> f64 {
        2.0 * tokens as f64 * (self.linears + lora.len() as f64) + self.attention(tokens) + self.head(targets)
    }

    /// Operations of the backward half: the gradient with respect to every linear's input (below the lowest adapted layer there is none) and
    /// to the adapter, attention's two products each twice and its scores once more.
    #[must_use]
    pub fn backward(&self, tokens: usize, targets: usize, lora: &Layout) -> f64 {
        let share = f64::from(lora.shape.layers) / self.spec.layers.max(1) as f64;
        2.0 * tokens as f64 * (share * self.linears + 2.0 * lora.len() as f64) + 2.5 * share * self.attention(tokens) + self.head(targets)
    }

    /// Scores and mixing, each token with those before it.
    fn attention(&self, tokens: usize) -> f64 {
        let pairs = tokens as f64 * (tokens as f64 + 1.0) / 2.0;
        4.0 * pairs * (self.spec.layers * self.spec.q_width()) as f64
    }

    fn head(&self, rows: usize) -> f64 {
        2.0 * rows as f64 * self.spec.vocab as f64 * self.spec.width as f64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_tiny_model_costs_what_its_sizes_say() {
        let model = crate::Model::from_bytes("tiny", crate::doc::tiny_model()).unwrap();
        let (cost, spec) = (Cost::of(&model.core()), *model.spec());
        let layer = 2 * spec.width * spec.width + 2 * spec.width * spec.kv_width() + 3 * spec.width * spec.ff;
        assert_eq!(cost.linear_weights(), (2 * layer) as f64);
        // One token: its products, one pair in attention, one row of the head.
        let own = 2 * 2 * layer + 4 * 2 * spec.width + 2 * spec.vocab * spec.width;
        assert_eq!(cost.prefill(1), own as f64);
        // Everything in the file is read but its head and the embeddings' other rows, which are the tied head here.
        let tensors: u64 = model.gguf().unwrap().tensors().map(|t| t.data.len() as u64).sum();
        let row = (spec.width / 32 * 34) as u64;
        assert_eq!(cost.decode_bytes(0.0, 2.0), (tensors + row) as f64);
        assert_eq!(cost.decode_bytes(3.0, 2.0) - cost.decode_bytes(0.0, 2.0), (2 * 3 * 2 * 2 * spec.kv_width()) as f64);
    }
}
