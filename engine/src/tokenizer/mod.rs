//! Tokenizers, built from a model file's own metadata.
//!
//! Two algorithms cover the supported models. SentencePiece BPE (`tokenizer.ggml.model = "llama"`:
//! Llama 2, Phi-3, Gemma) joins characters by the vocabulary's scores; byte-level BPE (`"gpt2"`:
//! Llama 3, Qwen, SmolLM, DeepSeek and many more) cuts the text by the family's expressions
//! (`tokenizer.ggml.pre`) and joins bytes by a list of merges. Ids are those of llama.cpp.
//!
//! Text goes through three stages, a file each: [special tokens](self) are cut out as a whole
//! (`special`), what lies between is cut into words (`pretokenizer`, through the `tokenizers` crate's
//! expression engine), and words become tokens (`bpe`, `spm`). Vocabularies are kept packed
//! (`pieces`): under 6 MB for 150 000 tokens with their merges, where maps of strings take 25.
//!
//! ```
//! use attune::tokenizer::{Special, Tokenizer, Vocabulary};
//!
//! let vocabulary = Vocabulary {
//!     model: "llama",
//!     tokens: vec!["<unk>", "▁", "a", "b", "▁a", "▁ab"],
//!     scores: vec![0.0, -4.0, -5.0, -6.0, -1.0, -2.0],
//!     ..Vocabulary::default()
//! };
//! let tokenizer = Tokenizer::new(vocabulary)?;
//! assert_eq!(tokenizer.encode("ab a", Special::Plain)?, [5, 4]);
//! assert_eq!(tokenizer.decode(&[5, 4]), "ab a");
//! # Ok::<(), attune::tokenizer::TokenizerError>(())
//! ```

mod bpe;
mod bytes;
mod detokenizer;
mod error;
mod pieces;
mod pretokenizer;
mod special;
mod spm;
mod vocabulary;

pub use detokenizer::Detokenizer;
pub use error::TokenizerError;
pub use vocabulary::{TokenType, Vocabulary};

use attune_core::gguf::Gguf;
pub(crate) use bytes::char_of as byte_character;
use error::Result;
use pieces::Pieces;
use pretokenizer::PreTokenizer;
pub(crate) use special::end_texts;
use special::{Ends, Fragment, Specials};

/// Turns text into token ids and back. Shared freely between threads.
pub struct Tokenizer {
    pieces: Pieces,
    /// Ids below this are the vocabulary's; pieces beyond it only help merging.
    count: u32,
    types: Vec<TokenType>,
    algorithm: Algorithm,
    specials: Specials,
    ends: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
}

#[allow(clippy::large_enum_variant)] // one a tokenizer
enum Algorithm {
    Spm(spm::Scores),
    Bpe { split: PreTokenizer, merges: bpe::Merges },
}

/// What becomes of text that reads like a control token, `<|im_end|>` for example. Tokens of type
/// "user defined" are found either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// It becomes the control token.
    Parse,
    /// It is text like any other: what a person typed cannot end its own turn.
    Plain,
}

/// Token ids with the place of each in the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Byte ranges in the text, one a token. Tokens of a character that takes several (byte fallback) each
    /// have their own byte; a space that the tokenizer puts before a text has an empty range.
    pub offsets: Vec<(usize, usize)>,
}

/// A token and the bytes that it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Tokenizer {
    /// Builds the tokenizer that `vocabulary` describes.
    ///
    /// # Errors
    /// The algorithm or the pre-tokenizer is not supported, or a list is missing or of a wrong length.
    pub fn new(vocabulary: Vocabulary<'_>) -> Result<Tokenizer> {
        let vocabulary = vocabulary.checked()?;
        let text = vocabulary.tokens.iter().map(|token| token.len()).sum();
        let mut pieces = Pieces::with_capacity(vocabulary.tokens.len(), text);
        for (id, token) in vocabulary.tokens.iter().enumerate() {
            if !pieces.push(token.as_bytes(), !token.is_empty()) {
                tracing::warn!("token {id} has the same text as an earlier one, {token:?}: encoding gives the earlier");
            }
        }
        let count = pieces.len() as u32;
        let Ends { types, ids: ends, eot } = Ends::find(&vocabulary, &pieces);
        let specials = Specials::new(&vocabulary, &types, &pieces);
        let within = |id: u32| (id < count).then_some(id);
        let (algorithm, space, add_bos, bos, eos, unk);
        match vocabulary.model {
            "llama" => {
                let byte = |byte: u8| pieces.id(format!("<0x{byte:02X}>").as_bytes()).or_else(|| pieces.id(&[byte]));
                let mut bytes = Box::new([u32::MAX; 256]);
                bytes.iter_mut().zip(0..=255).for_each(|(slot, value)| *slot = byte(value).unwrap_or(u32::MAX));
                let joined = vocabulary.tokens.iter().zip(&types).filter(|&(_, &kind)| is_joinable(kind));
                let joined = joined.map(|(token, _)| *token);
                algorithm = Algorithm::Spm(spm::Scores::new(vocabulary.scores, bytes, joined));
                (space, add_bos) = (true, true);
                (bos, eos) = (vocabulary.bos.or(within(1)), vocabulary.eos.or(within(2)));
                unk = vocabulary.unk.or(within(0));
            }
            "gpt2" => {
                if vocabulary.merges.is_empty() {
                    return Err(TokenizerError::Missing { key: "tokenizer.ggml.merges", model: "gpt2".to_owned() });
                }
                let family = pretokenizer::family_of(vocabulary.pre)?;
                let split = PreTokenizer::new(family)?;
                let merges = bpe::Merges::new(&mut pieces, &vocabulary.merges, family.ignore_merges);
                algorithm = Algorithm::Bpe { split, merges };
                (space, add_bos) = (false, family.add_bos);
                (bos, eos, unk) = (vocabulary.bos, vocabulary.eos, vocabulary.unk);
            }
            other => return Err(TokenizerError::UnknownModel { found: other.to_owned() }),
        }
        pieces.shrink();
        Ok(Tokenizer {
            pieces,
            count,
            types,
            algorithm,
            specials,
            ends,
            bos,
            eos,
            eot,
            unk,
            pad: vocabulary.pad,
            add_bos: vocabulary.add_bos.unwrap_or(add_bos) && bos.is_some(),
            add_eos: vocabulary.add_eos.unwrap_or(false) && eos.is_some(),
            add_space_prefix: vocabulary.add_space_prefix.unwrap_or(space),
        })
    }

    /// Builds the tokenizer of a model file; `None` if it has none, which is enough for data given as ids.
    ///
    /// # Errors
    /// As [`Tokenizer::new`], and [`TokenizerError::File`] where a key holds something else than it must.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Option<Tokenizer>> {
        Vocabulary::from_gguf(gguf)?.map(Tokenizer::new).transpose()
    }

    /// Bytes that the tokenizer of a model file will hold, from the file's own counts and without building it; `None` if it has none. As
    /// [`Tokenizer::estimated_bytes`], where all parts of merges are tokens, as in every vocabulary that was trained.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`], for what is looked at.
    pub fn planned_bytes(gguf: &Gguf<'_>) -> Result<Option<usize>> {
        let Some(model) = vocabulary::model_of(gguf)? else { return Ok(None) };
        let counts = |key| Ok::<_, TokenizerError>(gguf.array(key)?.map_or((0, 0), |a| (a.len(), a.bytes().len())));
        let ((count, bytes), (merges, _)) = (counts("tokenizer.ggml.tokens")?, counts("tokenizer.ggml.merges")?);
        // Each text stands behind its length.
        let text = bytes.saturating_sub(8 * count);
        let algorithm = if model == "llama" {
            spm::Scores::planned_bytes(count)
        } else {
            pretokenizer::family_of(gguf.str("tokenizer.ggml.pre")?)?.planned_bytes() + bpe::Merges::planned_bytes(merges)
        };
        let special = vocabulary::special_count(gguf)?;
        let lists = count * size_of::<TokenType>() + special * 4 + 256;
        Ok(Some(size_of::<Tokenizer>() + text + 4 * (count + pieces::slots_for(count)) + algorithm + lists))
    }

    /// Whether a model file has a tokenizer.
    ///
    /// # Errors
    /// A key holds something else than it must.
    pub fn is_in(gguf: &Gguf<'_>) -> Result<bool> {
        Ok(vocabulary::model_of(gguf)?.is_some())
    }

    /// Token ids of `text`, without BOS or EOS.
    ///
    /// # Errors
    /// A byte that the vocabulary cannot say, or a text that is too long.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        Ok(self.tokens(text, special, &[])?.into_iter().map(|token| token.id).collect())
    }

    /// Token ids of `text` as a document: with BOS before and EOS after, where the model wants them.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_document(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = self.bos.filter(|_| self.add_bos).into_iter().collect();
        ids.extend(self.tokens(text, special, &[])?.into_iter().map(|token| token.id));
        ids.extend(self.eos.filter(|_| self.add_eos));
        Ok(ids)
    }

    /// Token ids of `text` with the byte range of each, without BOS or EOS.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_offsets(&self, text: &str, special: Special) -> Result<Encoding> {
        self.encode_guarded(text, special, &[])
    }

    /// As [`Tokenizer::encode_with_offsets`], but no special token is found across a `barrier`: a sorted
    /// list of byte offsets. A barrier within `<|im_end|>` makes it ordinary text in that one place.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_guarded(&self, text: &str, special: Special, barriers: &[usize]) -> Result<Encoding> {
        let tokens = self.tokens(text, special, barriers)?;
        Ok(Encoding {
            ids: tokens.iter().map(|token| token.id).collect(),
            offsets: tokens.iter().map(|token| (token.start as usize, token.end as usize)).collect(),
        })
    }

    /// The text of `ids`, without control tokens. Incomplete characters become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_with(ids, false)
    }

    /// The text of `ids`, with control tokens if `show_special`.
    pub fn decode_with(&self, ids: &[u32], show_special: bool) -> String {
        let mut stream = Detokenizer::new(self, show_special, self.add_space_prefix);
        let mut text = String::new();
        for &id in ids {
            text.push_str(stream.push(id));
        }
        text.push_str(stream.flush());
        text
    }

    /// Decodes tokens as they come, without control tokens. Text begins here or after a control
    /// token, so the space that the tokenizer itself puts before it is not given.
    pub fn stream(&self) -> Detokenizer<'_> {
        Detokenizer::new(self, false, self.add_space_prefix)
    }

    /// Decodes tokens as they come, going on in the middle of a text: a leading space is given.
    pub fn stream_continuing(&self) -> Detokenizer<'_> {
        Detokenizer::new(self, false, false)
    }

    /// Decodes what a model answers to `prompt`: as [`Tokenizer::stream`] where the prompt is empty or ends with a
    /// control token, as [`Tokenizer::stream_continuing`] where it ends within a text.
    pub fn stream_after(&self, prompt: &[u32]) -> Detokenizer<'_> {
        let begins = prompt.last().is_none_or(|&last| self.is_special(last));
        Detokenizer::new(self, false, begins && self.add_space_prefix)
    }

    /// The bytes that a token stands for; none for an id that the vocabulary lacks. A token may be a part of a
    /// character. Control tokens give their names.
    pub fn piece(&self, id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_piece(id, &mut bytes);
        bytes
    }

    /// A token for people to read: bytes that are no character of their own as `<0xE4>`.
    pub fn piece_text(&self, id: u32) -> String {
        let bytes = self.piece(id);
        let mut text = String::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            chunk.invalid().iter().for_each(|byte| text.push_str(&format!("<0x{byte:02X}>")));
        }
        text
    }

    /// The token's text as the vocabulary writes it (`Ġword`, `▁word`).
    pub fn token_text(&self, id: u32) -> Option<&str> {
        (id < self.count).then(|| core::str::from_utf8(self.pieces.text(id)).ok()).flatten()
    }

    /// The id of the token that the vocabulary writes as `text`.
    pub fn id_of(&self, text: &str) -> Option<u32> {
        self.pieces.id(text.as_bytes()).filter(|&id| id < self.count)
    }

    /// Number of tokens in the vocabulary. A model's output may be wider: the rest is padding.
    pub fn vocab_size(&self) -> usize {
        self.count as usize
    }

    /// The type of a token.
    pub fn token_type(&self, id: u32) -> Option<TokenType> {
        self.types.get(id as usize).copied()
    }

    /// Whether a token is no text: a control token, or the unknown token.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.token_type(id), Some(TokenType::Control | TokenType::Unknown))
    }

    /// Whether a model that gives this token has said all that it wanted: EOS, the end of a turn, and what
    /// else is known to end a generation.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// All tokens that end a generation, sorted.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.ends
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token that ends a turn, where it is another than EOS.
    pub fn eot(&self) -> Option<u32> {
        self.eot
    }

    /// The token for what the vocabulary cannot say.
    pub fn unk(&self) -> Option<u32> {
        self.unk
    }

    /// The token that fills up a batch.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Whether texts begin with BOS.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether texts end with EOS.
    pub fn add_eos(&self) -> bool {
        self.add_eos
    }

    /// Whether a space is put before a text, and after each control token.
    pub fn adds_space_prefix(&self) -> bool {
        self.add_space_prefix
    }

    /// Bytes that this tokenizer holds, for the memory plan. Exact for all but the compiled expressions,
    /// which count with their average.
    pub fn estimated_bytes(&self) -> usize {
        let algorithm = match &self.algorithm {
            Algorithm::Spm(scores) => scores.bytes(),
            Algorithm::Bpe { split, merges } => split.bytes() + merges.bytes(),
        };
        let lists = self.types.capacity() * size_of::<TokenType>() + self.ends.capacity() * 4;
        size_of::<Tokenizer>() + self.pieces.bytes() + self.specials.bytes() + algorithm + lists
    }

    /// All names of pre-tokenizers (`tokenizer.ggml.pre`) that are supported.
    pub fn supported_pre_tokenizers() -> Vec<&'static str> {
        pretokenizer::supported().collect()
    }

    /// Where control tokens' texts occur in `text`: the byte after the first character of each, sorted. Barriers at
    /// these places ([`Tokenizer::encode_guarded`]) leave none of them.
    pub fn control_token_cuts(&self, text: &str) -> Vec<usize> {
        let mut cuts = Vec::new();
        self.specials.find(&self.pieces, text.as_bytes(), |at, id| {
            if self.is_special(id) {
                let first = text.get(at..).and_then(|rest| rest.chars().next());
                cuts.extend(first.map(|character| at + character.len_utf8()));
            }
        });
        cuts.dedup();
        cuts
    }

    /// Where special tokens lie in `text`, in order, as [`Tokenizer::encode_guarded`] finds them.
    pub(crate) fn special_tokens(&self, text: &str, barriers: &[usize]) -> Vec<(u32, core::ops::Range<usize>)> {
        let fragments = self.specials.partition(&self.pieces, &self.types, text, true, barriers);
        let token = |fragment| match fragment {
            Fragment::Token { id, range } => Some((id, range)),
            Fragment::Text(_) => None,
        };
        fragments.into_iter().filter_map(token).collect()
    }

    fn tokens(&self, text: &str, special: Special, barriers: &[usize]) -> Result<Vec<Token>> {
        if u32::try_from(text.len()).is_err() {
            return Err(TokenizerError::TooLong { bytes: text.len() });
        }
        let parse = special == Special::Parse;
        let fragments = self.specials.partition(&self.pieces, &self.types, text, parse, barriers);
        let mut out = Vec::with_capacity(text.len() / 3 + 2);
        let (mut spm, mut bpe) = (spm::Scratch::default(), bpe::Scratch::default());
        let mut prefix = self.add_space_prefix;
        for fragment in fragments {
            let range = match fragment {
                Fragment::Token { id, range } => {
                    out.push(Token { id, start: range.start as u32, end: range.end as u32 });
                    prefix = self.add_space_prefix;
                    continue;
                }
                Fragment::Text(range) => range,
            };
            let offset = range.start as u32;
            let text = text.get(range).unwrap_or("");
            match &self.algorithm {
                Algorithm::Spm(scores) => {
                    let joinable = |id| self.token_type(id).is_some_and(is_joinable);
                    scores.encode(&self.pieces, self.unk, text, offset, prefix, joinable, &mut spm, &mut out)?;
                }
                Algorithm::Bpe { split, merges } => {
                    let whole = |id| !self.is_special(id);
                    for (start, end) in split.split(text)? {
                        let word = text.get(start as usize..end as usize).unwrap_or("");
                        let at = offset + start;
                        merges.encode(&self.pieces, self.count, self.unk, word, at, whole, &mut bpe, &mut out)?;
                    }
                }
            }
            prefix = false;
        }
        Ok(out)
    }

    fn append_piece(&self, id: u32, bytes: &mut Vec<u8>) {
        let Some(text) = self.token_text(id) else { return };
        match (self.token_type(id), &self.algorithm) {
            (Some(TokenType::Control | TokenType::Unknown | TokenType::UserDefined), _) => {
                bytes.extend_from_slice(text.as_bytes());
            }
            (Some(TokenType::Byte), _) => {
                let value = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                match value.and_then(|value| u8::from_str_radix(value, 16).ok()) {
                    Some(byte) => bytes.push(byte),
                    None => bytes.extend_from_slice(text.as_bytes()),
                }
            }
            (_, Algorithm::Spm(_)) => append_unescaped(text, bytes),
            (_, Algorithm::Bpe { .. }) => {
                for character in text.chars() {
                    match bytes::byte_of(character) {
                        Some(byte) => bytes.push(byte),
                        None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
        }
    }
}

impl core::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let model = if matches!(self.algorithm, Algorithm::Spm(_)) { "llama" } else { "gpt2" };
        f.debug_struct("Tokenizer").field("model", &model).field("vocab_size", &self.count).finish_non_exhaustive()
    }
}

/// A control token's name, or a byte token's, that is typed is still just text.
fn is_joinable(kind: TokenType) -> bool {
    !matches!(kind, TokenType::Control | TokenType::Unknown | TokenType::Byte)
}

fn append_unescaped(text: &str, bytes: &mut Vec<u8>) {
    for character in text.chars() {
        let character = if character == spm::SPACE { ' ' } else { character };
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
