//! llama.cpp's GGUF LoRA files (its `convert_lora_to_gguf.py` and `llama-adapter.cpp`): the base's tensor names with `.lora_a` `[rank, inputs]`
//! and `.lora_b` `[outputs, rank]`, rows in the base file's order, scaled by `adapter.lora.alpha / rank`.

use std::collections::BTreeMap;
use std::path::Path;

use attune_core::gguf::write::{TensorInfo, WriteValue, Writer};
use attune_core::gguf::{Gguf, Tensor};
use attune_core::lora::{Layout, Module, Modules, Shape, Side};
use attune_core::quant::{self, Type};
use attune_core::spec::Spec;

use super::assemble::{self, Pair, Pairs};
use super::error::{Error, io, short};
use crate::files::{self, Io};

/// Alpha and rsLoRA as they were tuned with, since `adapter.lora.alpha` can only say `alpha · sqrt(rank)`. Other programs pass them over.
const OWN_ALPHA: &str = "attune.lora.alpha";
const OWN_RSLORA: &str = "attune.lora.use_rslora";
const ALPHA: &str = "adapter.lora.alpha";

/// What a file holds.
pub(super) struct Read {
    pub(super) shape: Shape,
    pub(super) params: Vec<f32>,
}

/// Reads a file's bytes for a model.
pub(super) fn read(path: &Path, bytes: &[u8], spec: &Spec) -> Result<Read, Error> {
    let gguf = parse(path, bytes)?;
    let found = text(path, &gguf, "general.architecture")?.unwrap_or_default();
    let expected = spec.arch.row().name;
    if found != expected {
        return Err(Error::Architecture { path: path.to_path_buf(), expected: expected.into(), found: short(&found) });
    }
    let pairs = pairs(path, &gguf, spec)?;
    let (mut shape, params) = pairs.assemble(path, spec, |tensor, out| decode(path, tensor, out))?;
    own_scale(&gguf, &mut shape);
    Ok(Read { shape, params })
}

/// What a file says about itself.
pub(super) struct Summary {
    pub(super) architecture: String,
    pub(super) alpha: f32,
    pub(super) rank: usize,
    pub(super) modules: Modules,
    pub(super) layers: Option<(usize, usize)>,
    pub(super) params: u64,
}

/// Reads what a file says about itself.
pub(super) fn summary(path: &Path, bytes: &[u8]) -> Result<Summary, Error> {
    let gguf = parse(path, bytes)?;
    let mut summary = Summary {
        architecture: text(path, &gguf, "general.architecture")?.unwrap_or_default(),
        alpha: alpha(path, &gguf)?,
        rank: 0,
        modules: Modules::NONE,
        layers: None,
        params: 0,
    };
    for tensor in gguf.tensors() {
        summary.params += tensor.elements() as u64;
        if let Some((layer, module, side)) = place(tensor.name) {
            let rank = if side == Side::A { tensor.rows() } else { tensor.cols() };
            summary.rank = summary.rank.max(rank);
            summary.modules = summary.modules.with(module);
            let (low, high) = summary.layers.unwrap_or((layer, layer));
            summary.layers = Some((low.min(layer), high.max(layer)));
        }
    }
    Ok(summary)
}

/// Checks that it is a LoRA adapter.
fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<Gguf<'a>, Error> {
    let gguf = Gguf::parse(bytes).map_err(|source| damaged(path, source))?;
    if text(path, &gguf, "general.type")?.as_deref() != Some("adapter") {
        let found = "a GGUF file that is no adapter (general.type is not adapter)".to_owned();
        return Err(Error::NotAnAdapter { path: path.to_path_buf(), found });
    }
    for (key, expected) in [
        ("adapter.type", "lora: other adapters are not supported"),
        ("adapter.alora.invocation_tokens", "no such key: activated LoRA is not supported"),
    ] {
        let ok = if key == "adapter.type" { text(path, &gguf, key)?.as_deref() == Some("lora") } else { gguf.value(key).is_none() };
        if !ok {
            let found = gguf.value(key).map_or_else(|| "nothing".into(), |v| short(&format!("{v:?}")));
            return Err(Error::Setting { path: path.to_path_buf(), key: key.into(), expected, found });
        }
    }
    Ok(gguf)
}

fn text(path: &Path, gguf: &Gguf<'_>, key: &str) -> Result<Option<String>, Error> {
    let found = gguf.str(key).map_err(|source| damaged(path, source))?;
    Ok(found.map(str::to_owned))
}

fn damaged(path: &Path, source: attune_core::gguf::Error) -> Error {
    Error::Gguf { path: path.to_path_buf(), source: Box::new(source) }
}

fn alpha(path: &Path, gguf: &Gguf<'_>) -> Result<f32, Error> {
    let found = gguf.f32(ALPHA).map_err(|source| damaged(path, source))?;
    found.filter(|alpha| alpha.is_finite()).ok_or_else(|| Error::Setting {
        path: path.to_path_buf(),
        key: ALPHA.into(),
        expected: "a finite number",
        found: found.map_or_else(|| "nothing".into(), |alpha| alpha.to_string()),
    })
}

fn pairs<'a>(path: &Path, gguf: &Gguf<'a>, spec: &Spec) -> Result<Pairs<Tensor<'a>>, Error> {
    let alpha = alpha(path, gguf)?;
    let mut found: BTreeMap<(usize, u8), [Option<Tensor<'a>>; 2]> = BTreeMap::new();
    let wrong = |tensor: &Tensor<'_>, expected: String, found: String| Error::Tensor {
        path: path.to_path_buf(),
        tensor: short(tensor.name),
        expected,
        found,
    };
    for tensor in gguf.tensors() {
        let Some((layer, module, side)) = place(tensor.name) else {
            let expected = "lora_a or lora_b of attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up or ffn_down of a layer";
            return Err(wrong(&tensor, expected.into(), "another tensor".into()));
        };
        if layer >= spec.layers {
            return Err(wrong(&tensor, format!("a layer below the model's {}", spec.layers), format!("layer {layer}")));
        }
        let [a, b] = found.entry((layer, module as u8)).or_default();
        *(if side == Side::A { a } else { b }) = Some(tensor);
    }
    if found.is_empty() {
        return Err(Error::NotAnAdapter { path: path.to_path_buf(), found: "a GGUF adapter without tensors".into() });
    }
    let mut pairs = BTreeMap::new();
    for (&(layer, number), sides) in &found {
        let Some(module) = Module::ALL.get(usize::from(number)).copied() else { continue };
        let [Some(a), Some(b)] = sides else {
            let first = tensor_name(layer, module, if sides[0].is_none() { Side::A } else { Side::B });
            let missing = found.values().flatten().filter(|side| side.is_none()).count();
            return Err(Error::MissingTensors { path: path.to_path_buf(), first, missing, promised: found.len() * 2 });
        };
        let rank = a.rows();
        let (inputs, outputs) = spec.module_dims(module);
        for (tensor, [rows, cols]) in [(a, [rank, inputs]), (b, [outputs, rank])] {
            let shaped = tensor.dims == [cols as u64, rows as u64, 1, 1];
            if !shaped || tensor.ty.supported().is_none() {
                let expected = format!("{rows} rows of {cols} in F32, F16, BF16 or a supported quantised type");
                let found = format!("{:?} in {}; was the adapter tuned on this model?", tensor.dims, tensor.ty);
                return Err(wrong(tensor, expected, found));
            }
        }
        // As llama.cpp does: no alpha is a scale of 1.
        let alpha = if alpha == 0.0 { rank as f32 } else { alpha };
        pairs.insert((layer, number), Pair { rank, alpha, a: *a, b: *b });
    }
    Ok(Pairs { use_rslora: false, hugging_face_rows: false, pairs })
}

fn decode(path: &Path, tensor: &Tensor<'_>, out: &mut [f32]) -> Result<(), Error> {
    let unreadable = |detail: String| Error::Tensor {
        path: path.to_path_buf(),
        tensor: short(tensor.name),
        expected: "whole blocks of a supported type".into(),
        found: detail,
    };
    let ty = tensor.ty.supported().ok_or_else(|| unreadable(tensor.ty.to_string()))?;
    quant::decode(ty, tensor.data, out).map_err(|e| unreadable(e.to_string()))
}

/// Restores rsLoRA where the file says what it was tuned with and that agrees with what it scales by.
fn own_scale(gguf: &Gguf<'_>, shape: &mut Shape) {
    let (Ok(Some(alpha)), Ok(Some(true))) = (gguf.f32(OWN_ALPHA), gguf.bool(OWN_RSLORA)) else { return };
    let own = Shape { alpha, use_rslora: true, ..*shape };
    if alpha.is_finite() && alpha > 0.0 && plain_alpha(&own) == shape.alpha {
        *shape = own;
    }
}

/// The alpha that, divided by the rank, gives the shape's scale.
fn plain_alpha(shape: &Shape) -> f32 {
    if shape.use_rslora { (f64::from(shape.alpha) * f64::from(shape.rank).sqrt()) as f32 } else { shape.alpha }
}

/// Of names such as `blk.0.attn_q.weight.lora_a`.
fn place(name: &str) -> Option<(usize, Module, Side)> {
    let rest = name.strip_prefix("blk.")?;
    let (rest, side) = match (rest.strip_suffix(".weight.lora_a"), rest.strip_suffix(".weight.lora_b")) {
        (Some(rest), _) => (rest, Side::A),
        (_, Some(rest)) => (rest, Side::B),
        _ => return None,
    };
    let (layer, name) = rest.split_once('.')?;
    // One spelling for each number, so that no two names mean the same matrix.
    let number: usize = layer.parse().ok().filter(|n: &usize| n.to_string() == layer)?;
    Some((number, Module::ALL.into_iter().find(|m| m.gguf_name() == name)?, side))
}

fn tensor_name(layer: usize, module: Module, side: Side) -> String {
    format!("blk.{layer}.{}.weight.lora_{}", module.gguf_name(), if side == Side::A { 'a' } else { 'b' })
}

/// Writes a file. Linears whose matrices are all zero are left out, unless all are.
pub(super) fn write(path: &Path, spec: &Spec, layout: &Layout, params: &[f32], base_name: Option<&str>) -> Result<(), Error> {
    let shape = layout.shape;
    let mut tensors = Vec::new();
    let mut all = Vec::new();
    layout.each(|layer, module, side, start, [rows, cols]| {
        let entry = (tensor_name(layer, module, side), [cols as u64, rows as u64], start);
        if !assemble::is_absent(params, layout, layer, module) {
            tensors.push(entry.clone());
        }
        all.push(entry);
    });
    if tensors.is_empty() {
        tensors = all;
    }
    let infos: Vec<TensorInfo<'_>> = tensors.iter().map(|(name, dims, _)| TensorInfo { name, ty: Type::F32.into(), dims }).collect();
    let mut metadata = vec![
        ("general.type", WriteValue::Str("adapter")),
        ("general.architecture", WriteValue::Str(spec.arch.row().name)),
        ("adapter.type", WriteValue::Str("lora")),
        (ALPHA, WriteValue::F32(plain_alpha(&shape))),
    ];
    if let Some(name) = base_name {
        metadata.extend([("general.base_model.count", WriteValue::U32(1)), ("general.base_model.0.name", WriteValue::Str(name))]);
    }
    if shape.use_rslora {
        metadata.extend([(OWN_ALPHA, WriteValue::F32(shape.alpha)), (OWN_RSLORA, WriteValue::Bool(true))]);
    }
    files::replace(path, |out| {
        let mut writer = Writer::new(Io(out), &metadata, &infos).map_err(|e| failed(path, e))?;
        for (_, [cols, rows], start) in &tensors {
            let matrix = params.get(*start..*start + (rows * cols) as usize).unwrap_or(&[]);
            if cfg!(target_endian = "little") {
                writer.tensor(bytemuck::cast_slice(matrix)).map_err(|e| failed(path, e))?;
            } else {
                for x in matrix {
                    writer.part(&x.to_le_bytes()).map_err(|e| failed(path, e))?;
                }
            }
        }
        writer.finish().map_err(|e| failed(path, e))?;
        Ok(())
    })
    .map_err(|Failed(error)| match error {
        Error::Io { source, .. } => io(path, "writing")(source),
        error => error,
    })
}

/// An error of writing that also takes the file system's.
struct Failed(Error);

impl From<std::io::Error> for Failed {
    fn from(source: std::io::Error) -> Self {
        Failed(Error::Io { path: std::path::PathBuf::new(), doing: "writing", source })
    }
}

fn failed(path: &Path, error: attune_core::gguf::write::Error<std::io::Error>) -> Failed {
    match error {
        attune_core::gguf::write::Error::Io(source) => source.into(),
        error => Failed(Error::GgufWrite { path: path.to_path_buf(), detail: error.to_string() }),
    }
}
