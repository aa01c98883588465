//! What a model file says about its tokens, before anything is built from it.

use attune_core::gguf::{Error, Gguf};

use super::error::{Result, TokenizerError};

/// The tokenizer metadata of a GGUF file, borrowed from it.
///
/// [`Vocabulary::from_gguf`] reads it from a file; tests and converters fill it in themselves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vocabulary<'a> {
    /// `tokenizer.ggml.model`: `"llama"` or `"gpt2"`.
    pub model: &'a str,
    /// `tokenizer.ggml.pre`; only byte-level vocabularies use it.
    pub pre: Option<&'a str>,
    /// `general.name`: one family's whitespace rules are known by the model's name alone.
    pub name: Option<&'a str>,
    /// `tokenizer.ggml.tokens`, the texts by id.
    pub tokens: Vec<&'a str>,
    /// `tokenizer.ggml.scores`, as many as there are tokens, or none: all zero.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`, as many as there are tokens, or none: all normal.
    pub types: Vec<TokenType>,
    /// `tokenizer.ggml.merges`, `"left right"` in order of rank.
    pub merges: Vec<&'a str>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`; the family decides where it is absent.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`; absent means no.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`; absent means yes for `"llama"`, no for `"gpt2"`.
    pub add_space_prefix: Option<bool>,
}

/// What kind of token an id is (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenType {
    /// Part of ordinary text.
    #[default]
    Normal,
    /// Stands for what the vocabulary cannot say.
    Unknown,
    /// Steers the model and is no text: found only where special tokens are parsed.
    Control,
    /// Added to the vocabulary: found in any text before everything else.
    UserDefined,
    /// In the vocabulary, but never trained.
    Unused,
    /// One byte, written `<0x0A>`.
    Byte,
}

impl TokenType {
    /// The type that a file writes as `code`; what is not known counts as normal.
    pub fn from_code(code: i64) -> TokenType {
        match code {
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => TokenType::Normal,
        }
    }
}

impl<'a> Vocabulary<'a> {
    /// Reads the tokenizer metadata of a model file; `None` if it has none (`tokenizer.ggml.model` is
    /// absent, `"none"` or `"no_vocab"`).
    ///
    /// # Errors
    /// A key holds something else than it must.
    pub fn from_gguf(gguf: &Gguf<'a>) -> Result<Option<Vocabulary<'a>>> {
        let Some(model) = model_of(gguf)? else { return Ok(None) };
        let strs = |key| Ok::<_, Error>(gguf.strs(key)?.map(Iterator::collect).unwrap_or_default());
        // Converters write −1, signed or not, for "none".
        let id = |key| Ok::<_, Error>(gguf.i64(key)?.and_then(|id| u32::try_from(id).ok()));
        let scores = match gguf.f32s("tokenizer.ggml.scores") {
            Ok(scores) => scores.map(Iterator::collect),
            Err(error) => match gguf.i32s("tokenizer.ggml.scores") {
                Ok(scores) => scores.map(|scores| scores.map(|score| score as f32).collect()),
                Err(_) => return Err(error.into()),
            },
        };
        let types = gguf.i32s("tokenizer.ggml.token_type")?;
        Ok(Some(Vocabulary {
            model,
            pre: gguf.str("tokenizer.ggml.pre")?,
            name: gguf.str("general.name")?,
            tokens: strs("tokenizer.ggml.tokens")?,
            scores: scores.unwrap_or_default(),
            types: types.map(|types| types.map(|code| TokenType::from_code(code.into())).collect()).unwrap_or_default(),
            merges: strs("tokenizer.ggml.merges")?,
            bos: id("tokenizer.ggml.bos_token_id")?,
            eos: id("tokenizer.ggml.eos_token_id")?,
            eot: id("tokenizer.ggml.eot_token_id")?,
            eom: id("tokenizer.ggml.eom_token_id")?,
            unk: id("tokenizer.ggml.unknown_token_id")?,
            pad: id("tokenizer.ggml.padding_token_id")?,
            add_bos: gguf.bool("tokenizer.ggml.add_bos_token")?,
            add_eos: gguf.bool("tokenizer.ggml.add_eos_token")?,
            add_space_prefix: gguf.bool("tokenizer.ggml.add_space_prefix")?,
        }))
    }
}

impl Vocabulary<'_> {
    /// Checks that the lists fit together and that special ids lie within; ids that do not are
    /// dropped, as files exist that write −1 for "none".
    pub(crate) fn checked(mut self) -> Result<Self> {
        let count = self.tokens.len();
        if count == 0 {
            return Err(TokenizerError::Missing { key: "tokenizer.ggml.tokens", model: self.model.to_owned() });
        }
        let text: usize = self.tokens.iter().chain(&self.merges).map(|text| text.len()).sum();
        if u32::try_from(count * 4 + self.merges.len()).is_err() || u32::try_from(text * 4).is_err() {
            return Err(TokenizerError::Malformed {
                key: "tokenizer.ggml.tokens",
                expected: "less than 2^30 tokens, and less than 1 GiB of text with the merges".to_owned(),
                found: format!("{count} tokens, {text} bytes"),
            });
        }
        let lengths = [("tokenizer.ggml.scores", self.scores.len()), ("tokenizer.ggml.token_type", self.types.len())];
        for (key, found) in lengths {
            if found != 0 && found != count {
                return Err(TokenizerError::Malformed {
                    key,
                    expected: format!("{count} entries, one a token"),
                    found: format!("{found} entries"),
                });
            }
        }
        for score in &mut self.scores {
            if score.is_nan() {
                return Err(TokenizerError::Malformed {
                    key: "tokenizer.ggml.scores",
                    expected: "numbers".to_owned(),
                    found: "a NaN".to_owned(),
                });
            }
            *score += 0.0; // −0 and 0 must compare as equal
        }
        for id in [&mut self.bos, &mut self.eos, &mut self.eot, &mut self.eom, &mut self.unk, &mut self.pad] {
            *id = id.filter(|&id| (id as usize) < count);
        }
        Ok(self)
    }
}

/// The algorithm that a model file names, if it has a tokenizer.
pub(crate) fn model_of<'a>(gguf: &Gguf<'a>) -> Result<Option<&'a str>> {
    Ok(gguf.str("tokenizer.ggml.model")?.filter(|model| !["none", "no_vocab"].contains(model)))
}

/// How many tokens a file says are no ordinary text.
pub(crate) fn special_count(gguf: &Gguf<'_>) -> Result<usize> {
    use attune_core::gguf::ValueType;
    let Some(types) = gguf.array("tokenizer.ggml.token_type")? else { return Ok(0) };
    if types.element_type() != ValueType::I32 {
        return Ok(0);
    }
    Ok(types.bytes().as_chunks::<4>().0.iter().filter(|code| (2..=4).contains(&i32::from_le_bytes(**code))).count())
}
