//! From tokens back to text, all at once or as they come.

use super::Tokenizer;

/// Turns a stream of tokens into text. It never gives half a character: bytes wait until their
/// character is complete.
///
/// ```
/// # use attune::tokenizer::{Tokenizer, Vocabulary, TokenType};
/// # let bytes: Vec<String> = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
/// # let tokens: Vec<&str> = bytes.iter().map(String::as_str).collect();
/// # let types = vec![TokenType::Byte; 256];
/// # let tokenizer = Tokenizer::new(Vocabulary { model: "llama", tokens, types, ..Vocabulary::default() }).unwrap();
/// let mut stream = tokenizer.stream();
/// let given: Vec<String> = "é!".bytes().map(|byte| stream.push(u32::from(byte)).to_owned()).collect();
/// assert_eq!(given, ["", "é", "!"]);
/// assert_eq!(stream.flush(), "");
/// ```
#[derive(Clone)]
pub struct Detokenizer<'a> {
    tokenizer: &'a Tokenizer,
    show_special: bool,
    /// A space that the next token begins with belongs to the tokenizer and not to the text.
    strip_space: bool,
    /// Bytes that do not make a character yet.
    pending: Vec<u8>,
    /// What the last call gave.
    text: String,
}

impl<'a> Detokenizer<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, show_special: bool, strip_space: bool) -> Detokenizer<'a> {
        Detokenizer { tokenizer, show_special, strip_space, pending: Vec::with_capacity(64), text: String::with_capacity(64) }
    }

    /// Takes a token and gives the text that is complete with it, often a word, sometimes nothing.
    /// An id that the vocabulary lacks gives nothing.
    pub fn push(&mut self, id: u32) -> &str {
        self.text.clear();
        let tokenizer = self.tokenizer;
        let special = tokenizer.is_special(id);
        if !special || self.show_special {
            let before = self.pending.len();
            tokenizer.append_piece(id, &mut self.pending);
            if self.strip_space && !special && self.pending.len() > before {
                if self.pending.get(before) == Some(&b' ') {
                    self.pending.remove(before);
                }
                self.strip_space = false;
            }
        }
        if special {
            self.strip_space = tokenizer.adds_space_prefix();
        }
        self.take_complete();
        &self.text
    }

    /// Gives what is left at the end of the stream: an incomplete character as U+FFFD.
    pub fn flush(&mut self) -> &str {
        self.text.clear();
        if !self.pending.is_empty() {
            self.text.push_str(&String::from_utf8_lossy(&self.pending));
            self.pending.clear();
        }
        &self.text
    }

    /// Whether bytes of an incomplete character wait for the next token.
    pub fn is_incomplete(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Moves all complete characters from `pending` to `text`; what can never become a character is
    /// replaced by U+FFFD.
    fn take_complete(&mut self) {
        let mut done = 0;
        loop {
            let rest = self.pending.get(done..).unwrap_or(&[]);
            match core::str::from_utf8(rest) {
                Ok(text) => {
                    self.text.push_str(text);
                    done += rest.len();
                    break;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    self.text.push_str(rest.get(..valid).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or(""));
                    done += valid;
                    let Some(invalid) = error.error_len() else { break };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    done += invalid;
                }
            }
        }
        self.pending.drain(..done);
    }
}
