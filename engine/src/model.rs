//! A model: a mapped GGUF file, checked once, shared by all sessions.

use crate::adapter::{Base, hash_tensors};
use crate::error::{Error, Result};
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use attune_core::gguf::{Gguf, Outline};
use attune_core::spec::Spec;
use attune_core::weights::{self, Globals, LayerWeights};
use attune_cpu::WeightBytes;
use chrono::{DateTime, FixedOffset};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The most layers that a model may have.
const MAX_LAYERS: usize = 512;

/// An opened model. Cheap to clone; the file stays mapped until the last clone is gone.
///
/// ```
/// # fn main() -> Result<(), attune::Error> {
/// # let bytes = attune::doc::tiny_model();
/// let model = attune::Model::from_bytes("tiny", bytes)?;
/// assert_eq!(model.spec().layers, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
    /// Compiled when it is first asked for.
    template: Arc<OnceLock<ChatTemplate>>,
    /// The moment that templates take for now; unset: the real one.
    now: Option<DateTime<FixedOffset>>,
}

struct Inner {
    bytes: WeightBytes,
    outline: Outline,
    name: String,
    spec: Spec,
    globals: Globals,
    layers: Vec<LayerWeights>,
    has_tokenizer: bool,
    /// Built when it is first asked for: a vocabulary takes longer than everything else of opening a model.
    tokenizer: OnceLock<Tokenizer>,
    /// Held while it is built, so that it is built once.
    building: Mutex<()>,
    hash: OnceLock<[u8; 32]>,
}

impl Model {
    /// Maps a GGUF file and checks all of it but the weights' own numbers.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Gguf`] for a damaged file, [`Error::Model`] for one that is no model of a supported architecture, and those of its
    /// tokenizer and template.
    pub fn open(path: impl AsRef<Path>) -> Result<Model> {
        let path = path.as_ref();
        let file = std::fs::File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?;
        if length.is_dir() {
            return Err(Error::io(path)(std::io::Error::other("expected a GGUF file, found a folder")));
        }
        let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        Self::open_file(&name, &file, 0, length.len())
    }

    /// The same for `length` bytes from `offset` on of a file that is open already: an archive's part, a descriptor that another program gave. The file may be
    /// closed then. A part that does not begin at a multiple of 64 bytes in memory is read into memory once; others are mapped.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_file(name: &str, file: &std::fs::File, offset: u64, length: u64) -> Result<Model> {
        let all = file.metadata().map_err(Error::io(name))?.len();
        let wrong = |found: String| Error::io(name)(std::io::Error::other(format!("expected a GGUF file, found {found}")));
        if length == 0 {
            return Err(wrong("an empty one".into()));
        }
        // Beyond the end of a file a map has no pages, and reading them kills the process.
        if offset.checked_add(length).is_none_or(|end| end > all) {
            return Err(wrong(format!("{all} bytes, of which {length} from {offset} on were asked for")));
        }
        let bytes = usize::try_from(length).map_err(|_| wrong(format!("{length} bytes, more than can be mapped")))?;
        #[allow(unsafe_code)]
        // SAFETY: the map is private and read-only. That nobody truncates or rewrites the file meanwhile is the caller's part, as with every
        // program that maps its models; the documentation of `open` cannot check it.
        let map = unsafe { memmap2::MmapOptions::new().offset(offset).len(bytes).map(file) }.map_err(Error::io(name))?;
        if map.as_ptr().addr().is_multiple_of(attune_core::arena::ALIGN) {
            return Self::load(name.into(), Arc::new(map));
        }
        Self::read(name, bytes, |to| {
            to.copy_from_slice(&map);
            Ok(())
        })
    }

    /// The same for bytes that come from elsewhere: an encrypted store, an archive that unpacks them. `fill` gets memory for all of them, and fills it.
    ///
    /// # Errors
    /// As [`open`](Self::open), and what `fill` returns.
    pub fn read(name: &str, length: usize, fill: impl FnOnce(&mut [u8]) -> std::io::Result<()>) -> Result<Model> {
        let mut memory = memmap2::MmapMut::map_anon(length.max(1)).map_err(Error::io(name))?;
        fill(memory.get_mut(..length).unwrap_or_default()).map_err(Error::io(name))?;
        let map = memory.make_read_only().map_err(Error::io(name))?;
        Self::load(name.into(), Arc::new(map))
    }

    /// The same for a file's bytes in memory. Bytes that start at a multiple of 64 are used where they are, others are copied by each session.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(name: &str, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Model> {
        Self::load(name.into(), Arc::new(bytes))
    }

    fn load(name: String, bytes: WeightBytes) -> Result<Model> {
        let gguf = Gguf::parse((*bytes).as_ref()).map_err(|source| Error::Gguf { name: name.clone(), source })?;
        let refused = |source| Error::Model { name: name.clone(), source };
        let layers = Spec::from_gguf(&gguf).map_err(refused)?.layers;
        if layers > MAX_LAYERS {
            return Err(refused(attune_core::Error::TooManyLayers { found: layers, limit: MAX_LAYERS }));
        }
        let mut table = vec![LayerWeights::EMPTY; layers];
        let model = weights::Model::load(&gguf, &mut table).map_err(refused)?;
        let (spec, globals) = (model.spec, model.globals);
        let has_tokenizer = Tokenizer::is_in(&gguf)?;
        let inner = Inner {
            outline: gguf.outline(),
            bytes: bytes.clone(),
            name,
            spec,
            globals,
            layers: table,
            has_tokenizer,
            tokenizer: OnceLock::new(),
            building: Mutex::default(),
            hash: OnceLock::new(),
        };
        Ok(Model { inner: Arc::new(inner), template: Arc::default(), now: None })
    }

    /// The same model, whose template takes `now` for now. Templates that write today's date would give other tokens tomorrow.
    #[must_use]
    pub fn with_now(&self, now: DateTime<FixedOffset>) -> Model {
        Model { inner: self.inner.clone(), template: Arc::default(), now: Some(now) }
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What the model is.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.inner.spec
    }

    /// The file's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        (*self.inner.bytes).as_ref()
    }

    /// A reader of the file.
    ///
    /// # Errors
    /// None for a file that opened, unless what holds its bytes gives others each time; the signature is the reader's.
    pub fn gguf(&self) -> Result<Gguf<'_>> {
        let damaged = |source| Error::Gguf { name: self.name().into(), source };
        self.inner.outline.of(self.bytes()).map_or_else(|| Gguf::parse(self.bytes()).map_err(damaged), Ok)
    }

    /// Its tokenizer, which is built when it is first asked for.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] where the file has none, [`Error::Tokenizer`] for one that is damaged or not supported.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        let inner = &*self.inner;
        if let Some(tokenizer) = inner.tokenizer.get() {
            return Ok(tokenizer);
        }
        let _one = inner.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tokenizer) = inner.tokenizer.get() {
            return Ok(tokenizer);
        }
        let none = || Error::NoTokenizer { name: self.name().into() };
        let tokenizer = Tokenizer::from_gguf(&self.gguf()?)?.ok_or_else(none)?;
        Ok(inner.tokenizer.get_or_init(|| tokenizer))
    }

    /// Whether the file has a tokenizer.
    #[must_use]
    pub fn has_tokenizer(&self) -> bool {
        self.inner.has_tokenizer
    }

    /// Bytes that the tokenizer takes, or will take when it is built; 0 without one.
    #[must_use]
    pub fn tokenizer_bytes(&self) -> usize {
        match self.inner.tokenizer.get() {
            Some(tokenizer) => tokenizer.estimated_bytes(),
            None => self.gguf().ok().and_then(|gguf| Tokenizer::planned_bytes(&gguf).ok()?).unwrap_or(0),
        }
    }

    /// Its chat template, or the documented default where it has none.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] where the file has no tokenizer, and a template that cannot be compiled.
    pub fn template(&self) -> Result<&ChatTemplate> {
        if let Some(template) = self.template.get() {
            return Ok(template);
        }
        let template = ChatTemplate::of_model(&self.gguf()?, self.tokenizer()?)?;
        let template = match self.now {
            Some(now) => template.with_now(now),
            None => template,
        };
        Ok(self.template.get_or_init(|| template))
    }

    /// What adapters are opened for and belong to: names the model by the hash of its tensors, which is computed when it is first asked for.
    ///
    /// # Errors
    /// None for a file that opened.
    pub fn base(&self) -> Result<Base<'_>> {
        let gguf = self.gguf()?;
        let hash = *self.inner.hash.get_or_init(|| hash_tensors(&gguf));
        Ok(Base::with_hash(&self.inner.spec, gguf, hash))
    }

    /// As [`base`](Self::base), without computing the hash: enough to open adapters of foreign forms.
    ///
    /// # Errors
    /// None for a file that opened.
    pub fn base_unhashed(&self) -> Result<Base<'_>> {
        let gguf = self.gguf()?;
        Ok(match self.inner.hash.get() {
            Some(hash) => Base::with_hash(&self.inner.spec, gguf, *hash),
            None => Base::new(&self.inner.spec, gguf),
        })
    }

    pub(crate) fn weight_bytes(&self) -> WeightBytes {
        self.inner.bytes.clone()
    }

    /// What core's calls take.
    #[must_use]
    pub fn core(&self) -> weights::Model<'_> {
        weights::Model { spec: self.inner.spec, globals: self.inner.globals, layers: &self.inner.layers }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("name", &self.inner.name).field("spec", &self.inner.spec).finish_non_exhaustive()
    }
}
