//! Tokens that are found in a text as a whole, before anything else is done with it.

use core::ops::Range;

use super::TokenType;
use super::pieces::Pieces;
use super::vocabulary::Vocabulary;

/// Texts of tokens that end a generation, whatever the file calls them, the likeliest end of a turn
/// first.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<end_of_turn>",
    "<|end|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<end_of_utterance>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "<|eom_id|>",
    "<|return|>",
    "<|call|>",
    "</s>",
    "[EOS]",
    "<eos>",
];
/// How many of [`ENDS`] can be the end of a turn.
const TURN_ENDS: usize = 11;

/// Padding, repository and file marks of fill-in-the-middle training: no text follows them either.
const FILL_IN_ENDS: &[&str] = &[
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// The other fill-in-the-middle marks: control tokens, but no ends.
const FILL_IN: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
];

/// Texts that end a turn in templates, also where a vocabulary lacks them as tokens.
pub(crate) fn end_texts<'a>() -> impl Iterator<Item = &'a str> {
    ENDS.iter().copied().chain(["<|END_OF_TURN_TOKEN|>"])
}

/// The types as they are used, and the tokens that end a generation.
pub(crate) struct Ends {
    pub(crate) types: Vec<TokenType>,
    /// Sorted.
    pub(crate) ids: Vec<u32>,
    pub(crate) eot: Option<u32>,
}

impl Ends {
    /// Finds the ends among the tokens by their texts, as files often do not list them all. A token
    /// with such a text is a control token, whatever the file says.
    pub(crate) fn find(vocabulary: &Vocabulary, pieces: &Pieces) -> Ends {
        let mut types = vocabulary.types.clone();
        types.resize(vocabulary.tokens.len(), TokenType::Normal);
        let mut control = |text: &&str| {
            let id = pieces.id(text.as_bytes())?;
            let slot = types.get_mut(id as usize)?;
            *slot = TokenType::Control;
            Some(id)
        };
        let texts = ENDS.iter().map(&mut control).collect::<Vec<_>>();
        let eot = vocabulary.eot.or_else(|| texts.iter().take(TURN_ENDS).copied().flatten().next());
        let mut ids: Vec<u32> = texts.into_iter().flatten().collect();
        ids.extend(FILL_IN_ENDS.iter().filter_map(&mut control));
        for text in FILL_IN {
            control(text);
        }
        ids.extend([vocabulary.eos, vocabulary.eot, vocabulary.eom].into_iter().flatten());
        // In the "harmony" format, "<|end|>" ends a message and not the generation.
        let harmony = ["<|return|>", "<|call|>", "<|end|>"].map(|text| pieces.id(text.as_bytes()));
        if let [Some(_), Some(_), Some(end)] = harmony {
            ids.retain(|&id| id != end);
            if let Some(slot) = types.get_mut(end as usize) {
                *slot = TokenType::UserDefined;
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ends { types, ids, eot }
    }
}

/// The tokens that are found as a whole.
pub(crate) struct Specials {
    /// Ids sorted by their texts.
    sorted: Vec<u32>,
    /// Whether a text begins with that byte.
    first: Box<[bool; 256]>,
    /// Sorted ids whose match takes the white space before it.
    lstrip: Vec<u32>,
    /// Sorted ids whose match takes the white space after it.
    rstrip: Vec<u32>,
}

/// A stretch of the text: a token, or text yet to be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fragment {
    Token { id: u32, range: Range<usize> },
    Text(Range<usize>),
}

impl Specials {
    /// Collects control, unknown and user-defined tokens.
    pub(crate) fn new(vocabulary: &Vocabulary, types: &[TokenType], pieces: &Pieces) -> Specials {
        use TokenType::{Control, Unknown, UserDefined};
        let mut sorted: Vec<u32> = (0..)
            .zip(types)
            .filter(|&(id, kind)| matches!(kind, Control | Unknown | UserDefined) && !pieces.text(id).is_empty())
            .map(|(id, _)| id)
            .collect();
        sorted.shrink_to_fit();
        sorted.sort_by_key(|&id| pieces.text(id));
        let mut first = Box::new([false; 256]);
        for &byte in sorted.iter().filter_map(|&id| pieces.text(id).first()) {
            if let Some(slot) = first.get_mut(usize::from(byte)) {
                *slot = true;
            }
        }
        let (lstrip, rstrip) = stripping(vocabulary, &sorted, pieces);
        Specials { sorted, first, lstrip, rstrip }
    }

    /// Cuts `text` at its special tokens, the longest token first as llama.cpp does. Control and
    /// unknown tokens only where `parse`. No match may reach across a barrier, a sorted byte offset.
    pub(crate) fn partition(&self, pieces: &Pieces, types: &[TokenType], text: &str, parse: bool, barriers: &[usize]) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(0..text.len()));
        }
        for id in self.occurring(pieces, text.as_bytes()) {
            let user_defined = types.get(id as usize) == Some(&TokenType::UserDefined);
            let Some(token) = core::str::from_utf8(pieces.text(id)).ok().filter(|_| parse || user_defined) else {
                continue;
            };
            let mut cut = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                match fragment {
                    Fragment::Text(range) => self.cut(id, token, text, range, barriers, &mut cut),
                    Fragment::Token { .. } => cut.push(fragment),
                }
            }
            fragments = cut;
        }
        fragments
    }

    /// Bytes held on the heap.
    pub(crate) fn bytes(&self) -> usize {
        4 * (self.sorted.capacity() + self.lstrip.capacity() + self.rstrip.capacity()) + 256
    }

    fn cut(&self, id: u32, token: &str, text: &str, range: Range<usize>, barriers: &[usize], cut: &mut Vec<Fragment>) {
        let (mut start, mut search) = (range.start, range.start);
        while let Some(found) = text.get(search..range.end).and_then(|rest| rest.find(token)) {
            let at = search + found;
            let end = at + token.len();
            if barriers.get(barriers.partition_point(|&barrier| barrier <= at)).is_some_and(|&barrier| barrier < end) {
                search = at + token.chars().next().map_or(1, char::len_utf8);
                continue;
            }
            let mut before = text.get(start..at).unwrap_or("");
            if self.lstrip.binary_search(&id).is_ok() {
                before = before.trim_end_matches(is_space);
            }
            if !before.is_empty() {
                cut.push(Fragment::Text(start..start + before.len()));
            }
            cut.push(Fragment::Token { id, range: at..end });
            start = end;
            if self.rstrip.binary_search(&id).is_ok() {
                let rest = text.get(end..range.end).unwrap_or("");
                start = range.end - rest.trim_start_matches(is_space).len();
            }
            search = start;
        }
        if start < range.end {
            cut.push(Fragment::Text(start..range.end));
        }
    }

    /// Calls `found` with the place and the id of every token in `text`, also where they overlap.
    pub(crate) fn find(&self, pieces: &Pieces, text: &[u8], mut found: impl FnMut(usize, u32)) {
        for at in 0..text.len() {
            let rest = text.get(at..).unwrap_or(&[]);
            let starts = rest.first().and_then(|&byte| self.first.get(usize::from(byte)));
            if !starts.is_some_and(|&starts| starts) {
                continue;
            }
            // Narrow the sorted tokens down, a byte at a time, to those that the text goes on with.
            let mut candidates = self.sorted.as_slice();
            for (depth, &byte) in rest.iter().enumerate() {
                let at_depth = |id: &u32| pieces.text(*id).get(depth).copied();
                let from = candidates.partition_point(|id| at_depth(id) < Some(byte));
                let to = candidates.partition_point(|id| at_depth(id) <= Some(byte));
                candidates = candidates.get(from..to).unwrap_or(&[]);
                match candidates.first() {
                    Some(&id) if pieces.text(id).len() == depth + 1 => found(at, id),
                    Some(_) => {}
                    None => break,
                }
            }
        }
    }

    /// Which tokens occur in `text` at all, in the order in which they are to be cut out. One walk over
    /// the text, since vocabularies have up to some thousands of them.
    fn occurring(&self, pieces: &Pieces, text: &[u8]) -> Vec<u32> {
        let mut seen = Vec::new();
        self.find(pieces, text, |_, id| {
            seen.push(id);
            if seen.len() > 4096 {
                seen.sort_unstable();
                seen.dedup();
            }
        });
        seen.sort_unstable();
        seen.dedup();
        seen.sort_by_key(|&id| core::cmp::Reverse(pieces.text(id).len()));
        seen
    }
}

/// The C library's `isspace`.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

/// Which tokens take the white space around them. Files do not say it; llama.cpp knows it by name.
fn stripping(vocabulary: &Vocabulary, specials: &[u32], pieces: &Pieces) -> (Vec<u32>, Vec<u32>) {
    let id = |text: &str| pieces.id(text.as_bytes());
    let (pre, name) = (vocabulary.pre.unwrap_or(""), vocabulary.name.unwrap_or("").to_lowercase());
    if ["jina-v2-de", "jina-v2-es", "jina-v2-code"].iter().any(|jina| pre.contains(jina)) {
        return (id("<mask>").into_iter().collect(), Vec::new());
    }
    if name.contains("phi-3") || name.contains("phi3") {
        let kept = ["<unk>", "<s>", "<|endoftext|>"].map(id);
        let mut rstrip: Vec<u32> = specials.iter().copied().chain(id("</s>")).collect();
        rstrip.retain(|&id| !kept.contains(&Some(id)));
        rstrip.sort_unstable();
        rstrip.dedup();
        return (Vec::new(), rstrip);
    }
    if name.contains("modern-bert") {
        return (id("[MASK]").into_iter().collect(), Vec::new());
    }
    (Vec::new(), Vec::new())
}
