//! PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use attune_core::lora::{Layout, Module, Modules, Shape, Side};
use attune_core::spec::Spec;
use safetensors::tensor::TensorInfo;

use super::assemble::{self, HeadRows, Pair, Pairs};
use super::error::{Error, io, short};
use super::peft_config::{self, Config};
use super::safetensors::{self as file, Tensors};
use crate::files;

pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const TENSORS: &str = "adapter_model.safetensors";
const PICKLE: &str = "adapter_model.bin";

/// What a folder holds.
pub(super) struct Read {
    pub(super) shape: Shape,
    pub(super) params: Vec<f32>,
    pub(super) score_head: Option<Vec<f32>>,
}

/// Reads a folder for a model.
pub(super) fn read(folder: &Path, spec: &Spec) -> Result<Read, Error> {
    let config = Config::read(&folder.join(CONFIG))?;
    let path = folder.join(TENSORS);
    if !path.exists() && folder.join(PICKLE).exists() {
        let found = format!("{PICKLE}, a pickle, which can run code when it is opened: save the adapter as safetensors");
        return Err(Error::NotAnAdapter { path: folder.to_path_buf(), found });
    }
    let mut tensors = Tensors::open(&path)?;
    let pairs = pairs(&path, &tensors, &config, spec)?;
    let (shape, params) = pairs.assemble(&path, spec, |info, out| tensors.read(info, out))?;
    let score_head = score_head(&path, &mut tensors, &config, spec)?;
    Ok(Read { shape, params, score_head })
}

/// The head of a sequence classifier with one label, `[1, D]`, where the folder says that it was tuned too.
fn score_head(path: &Path, tensors: &mut Tensors, config: &Config, spec: &Spec) -> Result<Option<Vec<f32>>, Error> {
    let found = tensors.infos().find(|(name, _)| is_score(name)).map(|(name, info)| (name.to_owned(), info.clone()));
    match found {
        None if config.saves_score => {
            let first = SCORE.into();
            Err(Error::MissingTensors { path: path.to_path_buf(), first, missing: 1, promised: 1 })
        }
        None => Ok(None),
        Some((name, info)) => {
            check_tensor(path, (&name, &info), [1, spec.width])?;
            let mut head = assemble::zeros(spec.width)?;
            tensors.read(&info, &mut head)?;
            match head.iter().all(|x| x.is_finite()) {
                true => Ok(Some(head)),
                false => Err(Error::NotFinite { path: path.to_path_buf(), layer: spec.layers, module: "score head" }),
            }
        }
    }
}

/// The score head of `AutoModelForSequenceClassification`, as PEFT names it.
const SCORE: &str = "base_model.model.score.weight";

fn is_score(name: &str) -> bool {
    name == SCORE || name == "base_model.model.score.modules_to_save.default.weight"
}

/// A folder as it is described without a model.
pub(super) struct Summary {
    pub(super) config: Config,
    pub(super) modules: Modules,
    pub(super) layers: Option<(usize, usize)>,
    pub(super) params: u64,
    /// Of these, the score head's.
    pub(super) score_head: u64,
}

/// Reads what a folder says about itself.
pub(super) fn summary(folder: &Path) -> Result<Summary, Error> {
    let config = Config::read(&folder.join(CONFIG))?;
    let tensors = Tensors::open(&folder.join(TENSORS))?;
    let mut summary = Summary { config, modules: Modules::NONE, layers: None, params: 0, score_head: 0 };
    for (name, info) in tensors.infos() {
        let count = info.shape.iter().map(|d| *d as u64).product::<u64>();
        summary.params += count;
        summary.score_head += if is_score(name) { count } else { 0 };
        if let Ok(place) = Place::parse(name) {
            summary.modules = summary.modules.with(place.module);
            let (low, high) = summary.layers.unwrap_or((place.layer, place.layer));
            summary.layers = Some((low.min(place.layer), high.max(place.layer)));
        }
    }
    Ok(summary)
}

/// Gives every tensor its place, and checks that none is missing, superfluous, or of another shape or type than its place asks for.
fn pairs(path: &Path, tensors: &Tensors, config: &Config, spec: &Spec) -> Result<Pairs<TensorInfo>, Error> {
    let mut found: BTreeMap<(usize, u8), Sides<'_>> = BTreeMap::new();
    let mut prefix = None;
    for (name, info) in tensors.infos().filter(|(name, _)| !(config.saves_score && is_score(name))) {
        let wrong = |expected: String, found: String| Error::Tensor { path: path.to_path_buf(), tensor: short(name), expected, found };
        let place = Place::parse(name).map_err(|what| {
            wrong("LoRA on q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj of a layer".into(), what.into())
        })?;
        if place.layer >= spec.layers {
            return Err(wrong(format!("a layer below the model's {}", spec.layers), format!("layer {}", place.layer)));
        }
        if *prefix.get_or_insert(place.prefix) != place.prefix {
            return Err(wrong(
                format!("a name that begins like the others, with {}", short(prefix.unwrap_or(""))),
                "another beginning".into(),
            ));
        }
        let [a, b] = found.entry((place.layer, place.module as u8)).or_default();
        let slot = if place.side == Side::A { a } else { b };
        if let Some((other, _)) = slot {
            return Err(wrong("one tensor for each matrix".into(), format!("also {}", short(other))));
        }
        *slot = Some((name, info));
    }
    let prefix = prefix.unwrap_or("model.");
    check_complete(path, config, spec, prefix, &found)?;
    let mut pairs = BTreeMap::new();
    for ((layer, module), sides) in found {
        let (Some(module), [Some(a), Some(b)]) = (Module::ALL.get(usize::from(module)).copied(), sides) else { continue };
        let name = module_name(prefix, layer, module);
        let (rank, alpha) = config.rank_and_alpha(&name).map_err(|key| Error::Setting {
            path: path.to_path_buf(),
            key: key.into(),
            expected: "patterns that can be decided in a few steps",
            found: format!("one that cannot be decided for {}", short(&name)),
        })?;
        let (inputs, outputs) = spec.module_dims(module);
        check_tensor(path, a, [rank, inputs])?;
        check_tensor(path, b, [outputs, rank])?;
        pairs.insert((layer, module as u8), Pair { rank, alpha, a: a.1.clone(), b: b.1.clone() });
    }
    Ok(Pairs { use_rslora: config.use_rslora, hugging_face_rows: true, pairs })
}

/// A, and B, of one linear.
type Sides<'t> = [Option<(&'t str, &'t TensorInfo)>; 2];

fn check_complete(path: &Path, config: &Config, spec: &Spec, prefix: &str, found: &BTreeMap<(usize, u8), Sides<'_>>) -> Result<(), Error> {
    let (mut missing, mut promised, mut first) = (0, 0, None);
    for layer in 0..spec.layers {
        for module in Module::ALL {
            let name = module_name(prefix, layer, module);
            let sides = found.get(&(layer, module as u8)).copied().unwrap_or([None, None]);
            let targeted = config.targets(&name, layer);
            if let (Some(false), Some((tensor, _))) = (targeted, sides.iter().flatten().next()) {
                return Err(Error::Tensor {
                    path: path.to_path_buf(),
                    tensor: short(tensor),
                    expected: "tensors of the linears that adapter_config.json names".into(),
                    found: "one that target_modules or layers_to_transform leave out".into(),
                });
            }
            if targeted == Some(true) || sides.iter().any(Option::is_some) {
                promised += 2;
                for (side, tensor) in [(Side::A, sides[0]), (Side::B, sides[1])] {
                    if tensor.is_none() {
                        missing += 1;
                        first.get_or_insert_with(|| tensor_name(prefix, layer, module, side));
                    }
                }
            }
        }
    }
    match first {
        Some(first) => Err(Error::MissingTensors { path: path.to_path_buf(), first, missing, promised }),
        None if promised == 0 => {
            let found = "a PEFT folder whose target_modules are none of the model's linears".into();
            Err(Error::NotAnAdapter { path: path.to_path_buf(), found })
        }
        None => Ok(()),
    }
}

fn check_tensor(path: &Path, (name, info): (&str, &TensorInfo), expected: [usize; 2]) -> Result<(), Error> {
    if info.shape == expected && file::is_float(info.dtype) {
        return Ok(());
    }
    Err(Error::Tensor {
        path: path.to_path_buf(),
        tensor: short(name),
        expected: format!("F32, F16 or BF16 of shape {expected:?}"),
        found: format!("{:?} of shape {:?}; was the adapter tuned on this model?", info.dtype, info.shape),
    })
}

/// What a tensor's name says.
struct Place<'n> {
    /// The model's path to its layers, such as `model.`.
    prefix: &'n str,
    layer: usize,
    module: Module,
    side: Side,
}

impl Place<'_> {
    /// Of names such as `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
    fn parse(name: &str) -> Result<Place<'_>, &'static str> {
        let rest = name.strip_prefix("base_model.model.").ok_or("a name that does not begin with base_model.model.")?;
        let (rest, side) = match (rest.split_once(".lora_A"), rest.split_once(".lora_B")) {
            (Some((rest, "" | ".weight" | ".default.weight" | ".default")), None) => (rest, Side::A),
            (None, Some((rest, "" | ".weight" | ".default.weight" | ".default"))) => (rest, Side::B),
            _ => return Err("a tensor that is neither lora_A nor lora_B of a linear"),
        };
        let at = if rest.starts_with("layers.") { 0 } else { rest.find(".layers.").ok_or("no layer")? + 1 };
        let (prefix, rest) = rest.split_at(at);
        if prefix.split_terminator('.').any(|part| !matches!(part, "model" | "language_model" | "text_model")) {
            return Err("a part of the model that is not its language model");
        }
        let (layer, path) = rest["layers.".len()..].split_once('.').ok_or("no linear")?;
        let layer = layer.parse().map_err(|_| "no layer")?;
        let module = Module::ALL.into_iter().find(|m| m.hf_path() == path).ok_or("another module")?;
        Ok(Place { prefix, layer, module, side })
    }
}

fn module_name(prefix: &str, layer: usize, module: Module) -> String {
    format!("{prefix}layers.{layer}.{}", module.hf_path())
}

fn tensor_name(prefix: &str, layer: usize, module: Module, side: Side) -> String {
    let side = if side == Side::A { "lora_A" } else { "lora_B" };
    format!("base_model.model.{}.{side}.weight", module_name(prefix, layer, module))
}

/// Writes a folder. Layers whose matrices are all zero are left out.
pub(super) fn write(
    folder: &Path,
    spec: &Spec,
    layout: &Layout,
    (params, score): (&[f32], Option<&[f32]>),
    base_name: &str,
) -> Result<(), Error> {
    let shape = layout.shape;
    let own = shape.first_layer as usize..(shape.first_layer + shape.layers) as usize;
    let used = |layer: &usize| shape.modules.iter().any(|module| !assemble::is_absent(params, layout, *layer, module));
    let mut layers: Vec<usize> = own.clone().filter(used).collect();
    if layers.is_empty() {
        layers = own.collect();
    }
    let listed = (layers.len() < spec.layers).then_some(&layers[..]);
    let config = peft_config::settings(&shape, shape.modules, listed, base_name, score.is_some());
    fs::create_dir_all(folder).map_err(io(folder, "making the folder"))?;

    let mut names: Vec<(String, [usize; 2])> = Vec::new();
    let mut places = Vec::new();
    layout.each(|layer, module, side, _, dims| {
        if layers.contains(&layer) {
            places.push((tensor_name("model.", layer, module, side), layer, module, side, dims));
        }
    });
    places.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    names.extend(places.iter().map(|(name, _, _, _, dims)| (name.clone(), *dims)));
    names.extend(score.map(|score| (SCORE.to_owned(), [1, score.len()])));

    let path = folder.join(TENSORS);
    files::replace(&path, |out| {
        file::write_header(out, &names)?;
        for &(_, layer, module, side, [rows, cols]) in &places {
            let matrix = assemble::matrix(params, layout, layer, module, side);
            let order = if side == Side::B { HeadRows::of(spec, module) } else { None };
            for row in 0..rows {
                let row = order.map_or(row, |order| order.gguf_row(row));
                for x in matrix.get(row * cols..(row + 1) * cols).unwrap_or(&[]) {
                    out.write_all(&x.to_le_bytes())?;
                }
            }
        }
        // Its name is the last in order too.
        score.unwrap_or(&[]).iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))
    })
    .map_err(io(&path, "writing"))?;
    let path = folder.join(CONFIG);
    files::replace(&path, |out| {
        serde_json::to_writer_pretty(&mut *out, &config)?;
        out.write_all(b"\n")
    })
    .map_err(io(&path, "writing"))
}
