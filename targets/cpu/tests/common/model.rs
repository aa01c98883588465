//! Small models of every architecture, with random weights.

use attune_core::gguf::write::{TensorInfo, WriteValue, Writer};
use attune_core::quant::{self, Type};
use attune_core::spec::Arch;

const HEADS: [u32; 2] = [4, 2];
const LAYERS: u32 = 3;
const VOCAB: u64 = 40;

/// A model file: 4 heads of 32 that share 2 of keys and values, three layers, of which gemma3's first two have a window of `window` tokens.
pub(crate) fn model(arch: Arch, window: u32, ty: Type) -> Vec<u8> {
    let (row, d, e, f) = (arch.row(), 64u64, 32u64, 96u64);
    let [q, kv] = HEADS.map(|n| u64::from(n) * e);
    let mut tensors: Vec<(String, Vec<u64>)> = vec![("token_embd.weight".into(), vec![d, VOCAB]), ("output_norm.weight".into(), vec![d])];
    for layer in 0..LAYERS {
        let mut add = |name: &str, dims: &[u64]| tensors.push((format!("blk.{layer}.{name}"), dims.to_vec()));
        for (name, n) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
            add(&format!("{name}.weight"), &[d, n]);
            if row.qkv_bias {
                add(&format!("{name}.bias"), &[n]);
            }
        }
        for (name, dims) in [("attn_output", [q, d]), ("ffn_gate", [d, f]), ("ffn_up", [d, f]), ("ffn_down", [f, d])] {
            add(&format!("{name}.weight"), &dims);
        }
        let own = [("attn_norm", d, true), ("ffn_norm", d, true)];
        let some = [("attn_q_norm", e, row.qk_norm), ("attn_k_norm", e, row.qk_norm)];
        let post = [("post_attention_norm", d, row.post_norms), ("post_ffw_norm", d, row.post_norms)];
        for (name, n, _) in own.into_iter().chain(some).chain(post).filter(|x| x.2) {
            add(&format!("{name}.weight"), &[n]);
        }
    }
    write(arch, window, &tensors, ty)
}

fn write(arch: Arch, window: u32, tensors: &[(String, Vec<u64>)], ty: Type) -> Vec<u8> {
    let key = |key: &str| format!("{}.{key}", arch.row().name);
    let sizes = [
        ("block_count", LAYERS),
        ("embedding_length", 64),
        ("feed_forward_length", 96),
        ("attention.head_count", HEADS[0]),
        ("attention.head_count_kv", HEADS[1]),
        ("attention.key_length", 32),
        ("context_length", 512),
        ("attention.sliding_window", window),
        ("attention.sliding_window_pattern", 3),
    ]
    .map(|(name, n)| (key(name), n));
    let eps = key("attention.layer_norm_rms_epsilon");
    let mut metadata: Vec<(&str, WriteValue<'_>)> = sizes.iter().map(|(k, n)| (k.as_str(), WriteValue::U32(*n))).collect();
    metadata.extend([("general.architecture", WriteValue::Str(arch.row().name)), (eps.as_str(), WriteValue::F32(1e-5))]);
    let kind = |dims: &[u64]| if dims.len() == 2 { ty } else { Type::F32 };
    let infos: Vec<TensorInfo<'_>> = tensors.iter().map(|(name, dims)| TensorInfo { name, ty: kind(dims).into(), dims }).collect();
    let mut out = vec![0u8; 1 << 20];
    let mut rest = &mut out[..];
    let mut writer = Writer::new(&mut rest, &metadata, &infos).unwrap();
    for (i, (name, dims)) in tensors.iter().enumerate() {
        let n = dims.iter().product::<u64>() as usize;
        // Norms are about 1, matrices keep their input's size, biases are small.
        let (middle, spread) = match dims.len() {
            2 => (0.0, 1.7 / (dims[0] as f32).sqrt()),
            _ if name.ends_with("bias") => (0.0, 0.3),
            _ => (1.0, 0.2),
        };
        let x: Vec<f32> = super::numbers(100 + i as u64, n).iter().map(|x| middle + spread * x).collect();
        let mut bytes = vec![0; infos[i].size().unwrap() as usize];
        quant::encode(kind(dims), &x, &mut bytes).unwrap();
        writer.tensor(&bytes).unwrap();
    }
    writer.finish().unwrap();
    let left = rest.len();
    out.truncate((1 << 20) - left);
    out
}
