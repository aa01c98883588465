//! Pre-tokenizers: how each family of byte-level vocabularies cuts text before merging.
//!
//! A family is a list of expressions. Each cuts what the one before it left, and what it does not
//! match stays as a piece too. The names are those that converters write to `tokenizer.ggml.pre`, and
//! the expressions are the families' published ones in the form that llama.cpp gives them, since the
//! ids are to be the same as there.

use fancy_regex::Regex;

use super::error::{Result, TokenizerError};

/// A family's rules.
pub(crate) struct Family {
    names: &'static [&'static str],
    expressions: &'static [&'static str],
    /// A piece that is a token as a whole is taken as that token.
    pub(crate) ignore_merges: bool,
    /// Whether texts begin with BOS where the file does not say.
    pub(crate) add_bos: bool,
}

impl Family {
    /// Bytes that the compiled expressions take, about.
    pub(crate) fn planned_bytes(&self) -> usize {
        self.expressions.len() * EXPRESSION_BYTES
    }

    /// The expressions, for tests against the crate that they are written for.
    #[cfg(test)]
    pub(crate) fn expressions(&self) -> &'static [&'static str] {
        self.expressions
    }
}

/// A family with its expressions compiled.
pub(crate) struct PreTokenizer {
    name: &'static str,
    expressions: Vec<Regex>,
}

/// Bytes that a compiled expression takes, on average over the families here.
const EXPRESSION_BYTES: usize = 300 << 10;

// Parts that several families share.
macro_rules! contractions {
    () => {
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    };
}
/// Ends every expression that matches all text.
macro_rules! spaces {
    () => {
        r"|\s+(?!\S)|\s+"
    };
}
macro_rules! gpt2 {
    () => {
        concat!(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+", spaces!())
    };
}
/// Llama 3's form, with its own way to cut digits.
macro_rules! words {
    ($digits:literal) => {
        concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|", $digits, r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+", spaces!())
    };
}
/// Words cut where lower case ends, after an optional mark; `$tail` is what a word may end with.
macro_rules! cased {
    ($tail:expr, $digits:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+",
            $tail,
            r"|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*",
            $tail,
            "|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
            spaces!()
        )
    };
}

const PUNCTUATED: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+",
    // The published expression leaves these unmatched, as one piece.
    r"|(?:[^\s\p{L}\p{M}\p{P}\p{S}](?![\p{L}\p{M}]))+",
    spaces!()
);
const MULTILINGUAL: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
/// Letters with case, as DeepSeek LLM lists them.
const CASED_LETTERS: &str = concat!(
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕ",
    r"ἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D}ᾀ-ᾴᾶ-ᾼ\x{1FBE}ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛ",
    r"Ꜣ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
);
// White space is no part of a listed range: llama.cpp sees all of it as one character.
const HAN_AND_HANGUL: &str = r"[[一-龥ࠀ-一가-\x{D7FF}]&&[^\s]]+";
const LISTED_PUNCTUATION: &str = r"\s?[[!-/:-\~！-／：-～‘-‟　-。]&&[^\s]]+";

const fn family(names: &'static [&'static str], expressions: &'static [&'static str]) -> Family {
    Family { names, expressions, ignore_merges: false, add_bos: false }
}

const fn whole_words(mut family: Family, add_bos: bool) -> Family {
    family.ignore_merges = true;
    family.add_bos = add_bos;
    family
}

const FAMILIES: &[Family] = &[
    family(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", gpt2!(), r"\p{N}+", "[0-9][0-9][0-9]"]),
    whole_words(
        family(&["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"], &[words!(r"\p{N}{1,3}")]),
        true,
    ),
    family(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[words!(r"\p{N}{1,3}")]),
    whole_words(family(&["minicpm5"], &[r"\p{N}{1,3}", words!(r"\p{N}+")]), false),
    family(
        &["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "grok-2", "solar-open", "kormo", "f2llmv2"],
        &[words!(r"\p{N}")],
    ),
    family(
        &["qwen35"],
        &[concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+", spaces!())],
    ),
    family(
        &["bailingmoe", "bailingmoe2", "llada-moe"],
        &[concat!(
            r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]",
            spaces!()
        )],
    ),
    family(&["seed-coder"], &[concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+", spaces!())]),
    family(
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "roberta-bpe",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        &[gpt2!()],
    ),
    family(&["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"], &[r"\p{N}", gpt2!()]),
    family(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", gpt2!(), "[0-9][0-9][0-9]"]),
    family(&["deepseek-llm"], &["[\r\n]", CASED_LETTERS, LISTED_PUNCTUATION, r"\s+$", HAN_AND_HANGUL, r"\p{N}+"]),
    family(&["deepseek-coder"], &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN_AND_HANGUL, r"\p{N}"]),
    family(&["deepseek-v3", "hunyuan-dense", "joyai-llm"], &[r"\p{N}{1,3}", r"[一-龥\x{3040}-ゟ゠-ヿ]+", PUNCTUATED]),
    whole_words(family(&["tekken"], &[cased!("", r"\p{N}")]), true),
    family(&["gpt-4o", "llama4", "kanana2"], &[cased!(concat!(contractions!(), "?"), r"\p{N}{1,3}")]),
    family(&["poro-chat", "bloom", "gpt3-finnish"], &[MULTILINGUAL]),
    family(&["viking"], &[MULTILINGUAL, r"\p{N}"]),
];

/// The family of that name. Where the file names none, llama.cpp's `default` is taken, with a warning.
pub(crate) fn family_of(name: Option<&str>) -> Result<&'static Family> {
    let name = name.unwrap_or_else(|| {
        tracing::warn!(
            "the model file names no pre-tokenizer (tokenizer.ggml.pre): taking \"default\"; tokens may differ from \
             those that the model was trained on, so convert the model again if its answers are poor"
        );
        "default"
    });
    FAMILIES
        .iter()
        .find(|family| family.names.contains(&name))
        .ok_or_else(|| TokenizerError::UnknownPreTokenizer { found: name.to_owned(), supported: supported().collect() })
}

/// All names of pre-tokenizers that are built in.
pub(crate) fn supported() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.names).copied()
}

impl PreTokenizer {
    /// Compiles a family's expressions.
    pub(crate) fn new(family: &Family) -> Result<PreTokenizer> {
        let name = family.names.first().copied().unwrap_or("");
        let compile =
            |source: &&str| Regex::new(source).map_err(|error| TokenizerError::Split { pre: name.to_owned(), detail: error.to_string() });
        Ok(PreTokenizer { name, expressions: family.expressions.iter().map(compile).collect::<Result<_>>()? })
    }

    /// Cuts `text`: the byte ranges of its pieces, in order, covering it.
    pub(crate) fn split(&self, text: &str) -> Result<Vec<(u32, u32)>> {
        let end = u32::try_from(text.len()).map_err(|_| TokenizerError::TooLong { bytes: text.len() })?;
        let mut pieces = vec![(0, end)];
        let mut cut = Vec::new();
        for expression in &self.expressions {
            cut.clear();
            for &(start, end) in &pieces {
                let piece = text.get(start as usize..end as usize).unwrap_or("");
                let mut done = 0;
                for found in expression.find_iter(piece) {
                    let found = found.map_err(|_| self.gave_up())?;
                    let (from, to) = (found.start(), found.end());
                    if from > done {
                        cut.push((start + done as u32, start + from as u32));
                    }
                    if to > from {
                        cut.push((start + from as u32, start + to as u32));
                    }
                    done = to;
                }
                if done < piece.len() {
                    cut.push((start + done as u32, end));
                }
            }
            core::mem::swap(&mut pieces, &mut cut);
        }
        pieces.retain(|&(start, end)| end > start);
        Ok(pieces)
    }

    /// Bytes held on the heap, about.
    pub(crate) fn bytes(&self) -> usize {
        self.expressions.len() * EXPRESSION_BYTES
    }

    fn gave_up(&self) -> TokenizerError {
        TokenizerError::Split {
            pre: self.name.to_owned(),
            detail: "the expression engine's limit was reached; break up the longest run of one kind of character".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
