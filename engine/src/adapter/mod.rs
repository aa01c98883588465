//! Adapters as files: found out, opened, checked against their model, saved, exported.
//!
//! Three forms come in and go out, and every pair of them is exact (`docs/adapter-format.md`):
//!
//! | form | what it is | names its base |
//! |---|---|---|
//! | native | Attune's own container ([`attune_core::adapter`]), `adapter.attune` in a run folder | by a hash of its tensors |
//! | PEFT | a folder with `adapter_config.json` and `adapter_model.safetensors` | no |
//! | GGUF LoRA | llama.cpp's file | by its architecture |
//!
//! ```no_run
//! use std::path::Path;
//! use attune::adapter::{Adapter, Base};
//! use attune_core::{gguf::Gguf, spec::Spec};
//!
//! let bytes = std::fs::read("model.gguf")?;
//! let gguf = Gguf::parse(&bytes)?;
//! let spec = Spec::from_gguf(&gguf)?;
//! let base = Base::new(&spec, gguf);
//!
//! let adapter = Adapter::open(Path::new("a-peft-folder"), &base)?;
//! adapter.save(Path::new("adapter.attune"))?;
//! adapter.export_gguf(Path::new("adapter.gguf"), &base)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assemble;
mod base;
mod describe;
mod error;
mod gguf;
mod peft;
mod peft_config;
mod safetensors;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use attune_core::adapter::{self as container, AdapterFile, ReadError, Reader, WriteError};
use attune_core::lora::{Layout, Shape};

pub use base::{Base, BaseId, hash_tensors, hex};
pub use describe::{Description, describe};
pub use error::Error;

use crate::files::{self, Io};
use error::io;

/// The native file of a run folder.
pub const RUN_FILE: &str = "adapter.attune";

/// How an adapter came about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Info {
    /// Optimiser updates; 0 where it is not known.
    pub steps: u64,
    /// The program that made it, cut after 64 bytes when saved.
    pub creator: String,
}

impl Info {
    /// After so many steps of this program.
    #[must_use]
    pub fn tuned(steps: u64) -> Info {
        Info { steps, creator: concat!("attune ", env!("CARGO_PKG_VERSION")).to_owned() }
    }
}

/// An adapter in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Rank, scale, linears, layers.
    pub shape: Shape,
    /// Its numbers in the order of [`Layout`], rows in the order of the base's GGUF file.
    pub params: Vec<f32>,
    /// A reward model's head, `[D]`: what its scores are made with. Answering passes over it.
    pub score_head: Option<Vec<f32>>,
    /// The model that it belongs to.
    pub base: BaseId,
    /// How it came about.
    pub info: Info,
    /// Of the base, in the order of `Module::ALL`.
    dims: [[u32; 2]; 7],
    base_layers: u32,
}

/// What a path turned out to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A native file.
    Native(PathBuf),
    /// A PEFT folder.
    Peft(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
}

/// Finds out what a path holds: a run folder, a native file, a PEFT folder (or a file in one), or a GGUF file.
///
/// # Errors
/// [`Error::NotAnAdapter`] if it is none of them, [`Error::Io`] if it cannot be read.
pub fn detect(path: &Path) -> Result<Form, Error> {
    if fs::metadata(path).map_err(io(path, "opening"))?.is_dir() {
        let native = path.join(RUN_FILE);
        if native.is_file() {
            return Ok(Form::Native(native));
        }
        if path.join(peft::CONFIG).is_file() {
            return Ok(Form::Peft(path.to_path_buf()));
        }
        let found = if path.join("checkpoint").is_dir() {
            "a run folder whose job has not ended: resume it"
        } else {
            "a folder with neither adapter.attune nor adapter_config.json"
        };
        return Err(Error::NotAnAdapter { path: path.to_path_buf(), found: found.into() });
    }
    if path.file_name().is_some_and(|name| name == peft::CONFIG || name == peft::TENSORS) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return Ok(Form::Peft(folder.to_path_buf()));
    }
    let mut magic = [0; 8];
    let mut file = File::open(path).map_err(io(path, "opening"))?;
    let len = read_up_to(&mut file, &mut magic).map_err(io(path, "reading"))?;
    match magic.get(..len).unwrap_or(&[]) {
        start if *start == container::MAGIC => Ok(Form::Native(path.to_path_buf())),
        start if start.starts_with(b"GGUF") => Ok(Form::Gguf(path.to_path_buf())),
        start => Err(Error::NotAnAdapter {
            path: path.to_path_buf(),
            found: format!("a file that begins with {:?}", String::from_utf8_lossy(start)),
        }),
    }
}

impl Adapter {
    /// An adapter of these numbers on a model.
    ///
    /// # Errors
    /// [`Error::Shape`] for a shape that the model cannot carry, [`Error::Params`] if the numbers are not as many as it has.
    pub fn new(base: &Base<'_>, shape: Shape, params: Vec<f32>, info: Info) -> Result<Adapter, Error> {
        let layout = Layout::new(base.spec(), shape).map_err(|source| Error::Shape { source })?;
        check_len(&layout, &params)?;
        Ok(Adapter::made(base.id(), base, shape, params, info))
    }

    /// The same with a reward model's head, `[D]`.
    ///
    /// # Errors
    /// [`Error::Params`] if it has not as many numbers as the model is wide.
    pub fn with_score_head(self, head: Vec<f32>) -> Result<Adapter, Error> {
        let expected = self.width();
        if head.len() != expected {
            return Err(Error::Params { expected, found: head.len() });
        }
        Ok(Adapter { score_head: Some(head), ..self })
    }

    /// D of its base.
    fn width(&self) -> usize {
        self.dims[attune_core::lora::Module::Q as usize][0] as usize
    }

    fn made(id: BaseId, base: &Base<'_>, shape: Shape, params: Vec<f32>, info: Info) -> Adapter {
        let header = header(base, shape, &id, &info);
        Adapter { shape, params, score_head: None, base: id, info, dims: header.dims, base_layers: header.base_layers }
    }

    /// Opens an adapter for a model, whatever its form. PEFT and GGUF say nothing of the base that could be compared, beyond widths, layers and
    /// architecture: they are taken as belonging to this one.
    ///
    /// # Errors
    /// [`Error::OtherBase`] if it was tuned on another model, [`Error::NotAnAdapter`], or what is wrong with the file.
    pub fn open(path: &Path, base: &Base<'_>) -> Result<Adapter, Error> {
        Self::open_form(&detect(path)?, base, false)
    }

    /// As [`open`](Self::open), for whoever insists that the adapter be used with this model although it was tuned on another, such as another
    /// quantisation of it. Architecture, widths and layers must agree all the same. The adapter belongs to this model from then on.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for [`Error::OtherBase`].
    pub fn open_on_any_base(path: &Path, base: &Base<'_>) -> Result<Adapter, Error> {
        Self::open_form(&detect(path)?, base, true)
    }

    fn open_form(form: &Form, base: &Base<'_>, any_base: bool) -> Result<Adapter, Error> {
        let spec = base.spec();
        let foreign = |shape, params, creator: &str| {
            Ok(Adapter::made(base.id(), base, shape, params, Info { steps: 0, creator: creator.to_owned() }))
        };
        match form {
            Form::Native(path) => open_native(path, base, any_base),
            Form::Peft(folder) => {
                let read = peft::read(folder, spec)?;
                let adapter = foreign(read.shape, read.params, "imported from PEFT")?;
                match read.score_head {
                    Some(head) => adapter.with_score_head(head),
                    None => Ok(adapter),
                }
            }
            Form::Gguf(path) => {
                let bytes = fs::read(path).map_err(io(path, "reading"))?;
                gguf::read(path, &bytes, spec).and_then(|read| foreign(read.shape, read.params, "imported from GGUF"))
            }
        }
    }

    /// Writes a native file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Native`] if shape and numbers have been changed so that they no longer agree.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let header = container::Header {
            shape: self.shape,
            dims: self.dims,
            base_layers: self.base_layers,
            base: container_base(&self.base),
            training: container_training(&self.info),
        };
        write_native(path, &header, &self.params, self.score_head.as_deref().unwrap_or(&[]))
    }

    /// Writes a folder that PEFT loads. Layers whose matrices are all zero are left out. With a score head it is an adapter for
    /// `AutoModelForSequenceClassification` with one label.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Shape`] and [`Error::Params`] if the adapter does not fit `base`.
    pub fn export_peft(&self, folder: &Path, base: &Base<'_>) -> Result<(), Error> {
        let layout = self.layout_on(base)?;
        let name = self.base.name.as_deref().unwrap_or("");
        peft::write(folder, base.spec(), &layout, (&self.params, self.score_head.as_deref()), name)
    }

    /// Writes a file that llama.cpp loads, in F32. Linears whose matrices are all zero are left out.
    ///
    /// # Errors
    /// As [`export_peft`](Self::export_peft), and [`Error::NoPlace`] for a score head.
    pub fn export_gguf(&self, path: &Path, base: &Base<'_>) -> Result<(), Error> {
        if self.score_head.is_some() {
            return Err(Error::NoPlace { path: path.to_path_buf(), what: "a score head" });
        }
        let layout = self.layout_on(base)?;
        gguf::write(path, base.spec(), &layout, &self.params, self.base.name.as_deref())
    }

    /// Where its matrices lie, once it is sure that it fits the model.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Params`] if it does not.
    pub fn layout_on(&self, base: &Base<'_>) -> Result<Layout, Error> {
        let layout = Layout::new(base.spec(), self.shape).map_err(|source| Error::Shape { source })?;
        check_len(&layout, &self.params)?;
        Ok(layout)
    }
}

/// Writes numbers that lie elsewhere as a native file, whole or not at all, without a copy of them.
///
/// # Errors
/// [`Error::Shape`] for a shape that the model cannot carry, [`Error::Native`] if the numbers are not as many as it has, [`Error::Io`].
pub fn save_params(path: &Path, base: &Base<'_>, shape: Shape, info: &Info, params: &[f32]) -> Result<(), Error> {
    shape.check(base.spec()).map_err(|source| Error::Shape { source })?;
    write_native(path, &header(base, shape, &base.id(), info), params, &[])
}

fn header(base: &Base<'_>, shape: Shape, id: &BaseId, info: &Info) -> container::Header {
    let spec = base.spec();
    let dims = attune_core::lora::Module::ALL.map(|module| {
        let (inputs, outputs) = spec.module_dims(module);
        [inputs as u32, outputs as u32]
    });
    container::Header { shape, dims, base_layers: spec.layers as u32, base: container_base(id), training: container_training(info) }
}

fn container_base(id: &BaseId) -> container::Base {
    container::Base {
        hash: id.hash,
        architecture: container::text(&id.architecture),
        name: container::text(id.name.as_deref().unwrap_or("")),
    }
}

fn container_training(info: &Info) -> container::Training {
    container::Training { steps: info.steps, creator: container::text(&info.creator) }
}

fn id_of(base: &container::Base) -> BaseId {
    let name = (!base.name.is_empty()).then(|| base.name.as_str().to_owned());
    BaseId { hash: base.hash, architecture: base.architecture.as_str().to_owned(), name }
}

fn write_native(path: &Path, header: &container::Header, params: &[f32], score: &[f32]) -> Result<(), Error> {
    files::replace(path, |out| match container::write_with_head(&mut Io(out), header, params, score) {
        Ok(()) => Ok(()),
        Err(WriteError::Io(source)) => Err(Failed::Io(source)),
        Err(WriteError::Format(source)) => Err(Failed::Format(source)),
    })
    .map_err(|failed| match failed {
        Failed::Io(source) => io(path, "writing")(source),
        Failed::Format(source) => Error::Native { path: path.to_path_buf(), source },
    })
}

enum Failed {
    Io(std::io::Error),
    Format(container::Error),
}

impl From<std::io::Error> for Failed {
    fn from(source: std::io::Error) -> Self {
        Failed::Io(source)
    }
}

fn open_native(path: &Path, base: &Base<'_>, any_base: bool) -> Result<Adapter, Error> {
    let native = |source| Error::Native { path: path.to_path_buf(), source };
    let (reader, len) = native_reader(path)?;
    let header = reader.header().clone();
    let id = id_of(&header.base);
    if id.architecture != base.architecture() {
        return Err(Error::Architecture {
            path: path.to_path_buf(),
            expected: base.architecture().into(),
            found: error::short(&id.architecture),
        });
    }
    if !any_base && id.hash != base.hash() {
        return Err(Error::OtherBase { path: path.to_path_buf(), expected: id.describe(), found: base.id().describe() });
    }
    let layout = header.fits(base.spec()).map_err(native)?;
    // The file's own length, not its claim, bounds what is taken.
    if reader.file_len() != len {
        return Err(native(container::Error::Truncated { expected: reader.file_len(), found: len }));
    }
    let head = reader.score_head_len();
    if head != 0 && head != base.spec().width {
        return Err(Error::Params { expected: base.spec().width, found: head });
    }
    let (mut params, mut score) = (assemble::zeros(reader.params_len())?, assemble::zeros(reader.score_head_len())?);
    reader.read_with_head(&mut params, &mut score).map_err(|e| read_error(path, e))?;
    let finite = |layer, module| {
        let all =
            [attune_core::lora::Side::A, attune_core::lora::Side::B].map(|side| assemble::matrix(&params, &layout, layer, module, side));
        all.iter().flat_map(|m| m.iter()).all(|x| x.is_finite())
    };
    for layer in header.shape.first_layer as usize..(header.shape.first_layer + header.shape.layers) as usize {
        if let Some(module) = header.shape.modules.iter().find(|module| !finite(layer, *module)) {
            return Err(Error::NotFinite { path: path.to_path_buf(), layer, module: module.name() });
        }
    }
    if !score.iter().all(|x| x.is_finite()) {
        return Err(Error::NotFinite { path: path.to_path_buf(), layer: base.spec().layers, module: "score head" });
    }
    let info = Info { steps: header.training.steps, creator: header.training.creator.as_str().to_owned() };
    let adapter = Adapter::made(if any_base { base.id() } else { id }, base, header.shape, params, info);
    if score.is_empty() { Ok(adapter) } else { adapter.with_score_head(score) }
}

/// A reader of a native file, its header checked, and the file's length in bytes.
fn native_reader(path: &Path) -> Result<(Reader<Io<File>>, u64), Error> {
    let file = File::open(path).map_err(io(path, "opening"))?;
    let len = file.metadata().map_err(io(path, "opening"))?.len();
    let reader = Reader::open(Io(file)).map_err(|e| read_error(path, e))?;
    Ok((reader, len))
}

/// Checks the bytes of a native file without its model: every number of the header, every checksum, and that all parameters are numbers. Gives the
/// model that it says it belongs to. `path` is for errors.
///
/// # Errors
/// [`Error::Native`], and [`Error::NotFinite`], which names the lowest layer of the adapter and no linear for parameters.
pub(crate) fn check_native(path: &Path, bytes: &[u8]) -> Result<BaseId, Error> {
    let native = |source| Error::Native { path: path.to_path_buf(), source };
    let file = AdapterFile::parse(bytes).map_err(native)?;
    let finite = |numbers: &[u8]| numbers.chunks_exact(4).all(|n| n.try_into().is_ok_and(|n: [u8; 4]| f32::from_le_bytes(n).is_finite()));
    let mut score = assemble::zeros(file.score_head_len())?;
    if !score.is_empty() {
        file.copy_score_head(&mut score).map_err(native)?;
    }
    let layer = file.header().shape.first_layer as usize;
    if !finite(file.params_bytes()) {
        return Err(Error::NotFinite { path: path.to_path_buf(), layer, module: "parameters" });
    }
    if !score.iter().all(|x| x.is_finite()) {
        return Err(Error::NotFinite { path: path.to_path_buf(), layer, module: "score head" });
    }
    Ok(id_of(&file.header().base))
}

fn read_error(path: &Path, error: ReadError<std::io::Error>) -> Error {
    match error {
        ReadError::Io(source) => io(path, "reading")(source),
        ReadError::Format(source) => Error::Native { path: path.to_path_buf(), source },
    }
}

fn check_len(layout: &Layout, params: &[f32]) -> Result<(), Error> {
    if params.len() == layout.len() { Ok(()) } else { Err(Error::Params { expected: layout.len(), found: params.len() }) }
}

fn read_up_to(file: &mut File, out: &mut [u8]) -> std::io::Result<usize> {
    let mut len = 0;
    loop {
        match out.get_mut(len..).map(|rest| file.read(rest)) {
            Some(Ok(0)) | None => return Ok(len),
            Some(Ok(n)) => len += n,
            Some(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Some(Err(error)) => return Err(error),
        }
    }
}
