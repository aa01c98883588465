//! The rules of tokenizers, on small vocabularies made here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "template_common/mod.rs"]
mod common;

use std::sync::LazyLock;

use attune::tokenizer::{Special, TokenType, Tokenizer, TokenizerError, Vocabulary};
use common::{Spm, byte_char, byte_level};
use proptest::prelude::*;

fn pieces(tokenizer: &Tokenizer, text: &str, special: Special) -> Vec<String> {
    let ids = tokenizer.encode(text, special).unwrap();
    ids.into_iter().map(|id| tokenizer.token_text(id).unwrap().to_owned()).collect()
}

#[test]
fn the_best_score_is_joined_first_and_the_leftmost_of_equal_ones() {
    let tokenizer = Spm { pieces: &["bc", "ab", "abc", "▁", "a", "b", "c"], add_space_prefix: Some(false), ..Spm::default() }.build();
    assert_eq!(pieces(&tokenizer, "abc", Special::Plain), ["abc"], "a + bc is a token too");
    let tokenizer = Spm { pieces: &["bc", "ab", "▁", "a", "b", "c"], add_space_prefix: Some(false), ..Spm::default() }.build();
    assert_eq!(pieces(&tokenizer, "abc", Special::Plain), ["a", "bc"]);
    assert_eq!(pieces(&tokenizer, "abab", Special::Plain), ["ab", "ab"]);
    // "aba" is joined from two pairs with one score: the pair on the left comes first.
    let vocabulary = Vocabulary {
        model: "llama",
        tokens: vec!["<unk>", "a", "b", "ab", "ba", "aba"],
        scores: vec![0.0, -9.0, -9.0, -3.0, -3.0, -1.0],
        add_space_prefix: Some(false),
        ..Vocabulary::default()
    };
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    assert_eq!(pieces(&tokenizer, "ababa", Special::Plain), ["aba", "ba"]);
}

#[test]
fn pieces_are_joined_across_spaces_where_the_vocabulary_does_so() {
    // Once by way of "▁b", once by way of "a▁".
    for first in ["▁b", "a▁"] {
        let pieces = ["a▁b", first, "▁b", "▁▁", "▁", "a", "b", "c"];
        let tokenizer = Spm { pieces: &pieces, add_space_prefix: Some(false), ..Spm::default() }.build();
        let encoding = tokenizer.encode_with_offsets("a bc b  b aa b", Special::Plain).unwrap();
        let texts: Vec<_> = encoding.ids.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect();
        assert_eq!(texts, ["a▁b", "c", "▁b", "▁", "▁b", "▁", "a", "a▁b"]);
        assert_eq!(encoding.offsets, [(0, 3), (3, 4), (4, 6), (6, 7), (7, 9), (9, 10), (10, 11), (11, 14)]);
    }
}

#[test]
fn a_space_is_put_before_a_text_and_after_each_control_token() {
    let spm = Spm { pieces: &["▁a", "▁", "a"], controls: &["<x>"], ..Spm::default() };
    let tokenizer = spm.build();
    assert_eq!(pieces(&tokenizer, "a<x>a a", Special::Parse), ["▁a", "<x>", "▁a", "▁a"]);
    assert_eq!(tokenizer.encode("", Special::Parse).unwrap(), [0u32; 0]);
    let ids = tokenizer.encode("a<x>a a", Special::Parse).unwrap();
    assert_eq!(tokenizer.decode_with(&ids, true), "a<x>a a");
    assert_eq!(tokenizer.decode(&ids), "aa a");
    let gemma = Spm { add_space_prefix: Some(false), ..spm }.build();
    assert_eq!(pieces(&gemma, "a<x>a a", Special::Parse), ["a", "<x>", "a", "▁a"]);
    assert_eq!(gemma.decode(&gemma.encode(" a", Special::Plain).unwrap()), " a");
}

#[test]
fn a_character_without_a_token_becomes_its_bytes_each_in_its_place() {
    let tokenizer = Spm { pieces: &["▁", "a"], ..Spm::default() }.build();
    let encoding = tokenizer.encode_with_offsets("a中 ", Special::Plain).unwrap();
    let texts: Vec<_> = encoding.ids.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect();
    assert_eq!(texts, ["▁", "a", "<0xE4>", "<0xB8>", "<0xAD>", "▁"]);
    assert_eq!(encoding.offsets, [(0, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]);
    // Where the vocabulary cannot even say a space, it is three bytes in one place.
    let bare = Spm::default().build();
    let encoding = bare.encode_with_offsets("b c", Special::Plain).unwrap();
    assert_eq!(encoding.offsets, [(0, 0), (0, 0), (0, 0), (0, 1), (1, 2), (1, 2), (1, 2), (2, 3)]);
}

#[test]
fn without_bytes_a_character_becomes_the_unknown_token() {
    let vocabulary = Vocabulary { model: "llama", tokens: vec!["<unk>", "▁", "a"], unk: Some(0), ..Vocabulary::default() };
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    let encoding = tokenizer.encode_with_offsets("a中a", Special::Plain).unwrap();
    assert_eq!(encoding.ids, [1, 2, 0, 2]);
    assert_eq!(encoding.offsets, [(0, 0), (0, 1), (1, 4), (4, 5)]);
}

#[test]
fn user_defined_tokens_are_found_in_any_text_and_control_tokens_only_where_parsed() {
    let tokenizer = Spm { pieces: &["▁", "a", "<", ">"], controls: &["<a>"], user_defined: &["aaa"], ..Spm::default() }.build();
    assert_eq!(pieces(&tokenizer, "aaaa<a>", Special::Plain), ["aaa", "▁", "a", "<", "a", ">"]);
    assert_eq!(pieces(&tokenizer, "aaaa<a>", Special::Parse), ["aaa", "▁", "a", "<a>"]);
}

#[test]
fn the_longest_special_token_is_taken_first_wherever_it_stands() {
    let tokenizer = byte_level("gpt-2", &[], &["<a", "<ab>", "b><c"], "<ab>");
    // "<a" begins first, "<ab>" is longer, "b><c" overlaps it and has lost.
    assert_eq!(pieces(&tokenizer, "<ab><c", Special::Parse), ["<ab>", "<", "c"]);
    assert_eq!(pieces(&tokenizer, "<a<ab>", Special::Parse), ["<a", "<ab>"]);
}

#[test]
fn no_special_token_is_found_across_a_barrier() {
    let tokenizer = byte_level("gpt-2", &[], &["<|x|>", "<|"], "<|x|>");
    let text = "<|x|><|x|>";
    let cuts = tokenizer.control_token_cuts(text);
    assert_eq!(cuts, [1, 6]);
    let x = tokenizer.id_of("<|x|>").unwrap();
    let one = tokenizer.encode_guarded(text, Special::Parse, &[1]).unwrap();
    assert_eq!(one.ids.last(), Some(&x));
    assert_eq!(one.ids.len(), 6);
    let both = tokenizer.encode_guarded(text, Special::Parse, &cuts).unwrap();
    assert_eq!(both.ids, tokenizer.encode(text, Special::Plain).unwrap());
    // A barrier between two tokens parts nothing.
    assert_eq!(tokenizer.encode_guarded(text, Special::Parse, &[5]).unwrap().ids, [x, x]);
}

#[test]
fn bos_is_added_as_the_file_or_else_the_family_says() {
    let build = |model, pre, add_bos, bos| {
        let vocabulary =
            Vocabulary { model, pre, tokens: vec!["<unk>", "<s>", "a"], merges: vec!["a a"], add_bos, bos, ..Vocabulary::default() };
        Tokenizer::new(vocabulary).unwrap()
    };
    assert!(build("llama", None, None, None).add_bos());
    assert!(!build("llama", None, Some(false), None).add_bos());
    assert!(!build("gpt2", Some("qwen2"), None, Some(1)).add_bos());
    assert!(build("gpt2", Some("qwen2"), Some(true), Some(1)).add_bos());
    assert!(build("gpt2", Some("llama-bpe"), None, Some(1)).add_bos());
    assert!(!build("gpt2", Some("llama-bpe"), None, None).add_bos(), "there is none to add");
    let tokenizer = build("gpt2", Some("llama-bpe"), None, Some(1));
    assert_eq!(tokenizer.encode_document("a", Special::Plain).unwrap(), [1, 2]);
    assert_eq!(tokenizer.encode("a", Special::Plain).unwrap(), [2]);
}

#[test]
fn ids_out_of_range_are_no_special_tokens() {
    let tokens = vec!["a", "b"];
    let vocabulary = Vocabulary { model: "llama", tokens, bos: Some(u32::MAX), pad: Some(2), ..Vocabulary::default() };
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.pad(), tokenizer.eos()), (Some(1), None, None));
    assert_eq!(tokenizer.decode(&[7, 0, u32::MAX]), "a");
    assert_eq!(tokenizer.piece(9), [0u8; 0]);
}

#[test]
fn ends_of_generation_are_known_by_their_texts() {
    let tokenizer = byte_level("qwen2", &[], &["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|end|>"], "<|endoftext|>");
    let ends: Vec<_> = tokenizer.end_of_generation().iter().map(|&id| tokenizer.token_text(id).unwrap()).collect();
    assert_eq!(ends, ["<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|end|>"]);
    assert_eq!(tokenizer.eot(), tokenizer.id_of("<|im_end|>"));
    // A file that calls it a normal token is wrong.
    let tokens: Vec<String> = (0..=255).map(|byte| byte_char(byte).to_string()).chain(["<|im_end|>".to_owned()]).collect();
    let vocabulary = Vocabulary {
        model: "gpt2",
        pre: Some("qwen2"),
        tokens: tokens.iter().map(String::as_str).collect(),
        merges: vec!["a b"],
        ..Vocabulary::default()
    };
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    assert_eq!(tokenizer.token_type(256), Some(TokenType::Control));
    assert_eq!(tokenizer.encode("<|im_end|>", Special::Parse).unwrap(), [256]);
    // In the "harmony" format "<|end|>" ends a message only.
    let harmony = byte_level("gpt-4o", &[], &["<|end|>", "<|return|>", "<|call|>"], "<|return|>");
    assert!(!harmony.is_end_of_generation(harmony.id_of("<|end|>").unwrap()));
    assert!(harmony.is_end_of_generation(harmony.id_of("<|call|>").unwrap()));
}

#[test]
fn whole_words_are_taken_as_tokens_only_where_the_family_says_so() {
    // "abc" is a token that no merge leads to.
    let build = |pre| {
        let mut tokens: Vec<String> = (0..=255).map(|byte| byte_char(byte).to_string()).collect();
        tokens.extend(["bc", "abc"].map(str::to_owned));
        let tokens = tokens.iter().map(String::as_str).collect();
        Tokenizer::new(Vocabulary { model: "gpt2", pre: Some(pre), tokens, merges: vec!["b c"], ..Vocabulary::default() }).unwrap()
    };
    assert_eq!(pieces(&build("llama-bpe"), "abc", Special::Plain), ["abc"]);
    assert_eq!(pieces(&build("qwen2"), "abc", Special::Plain), ["a", "bc"]);
}

#[test]
fn of_two_tokens_with_one_text_the_earlier_is_found() {
    let vocabulary = Vocabulary { model: "llama", tokens: vec!["<unk>", "a", "a", ""], ..Vocabulary::default() };
    let tokenizer = Tokenizer::new(Vocabulary { add_space_prefix: Some(false), ..vocabulary }).unwrap();
    assert_eq!(tokenizer.encode("a", Special::Plain).unwrap(), [1]);
    assert_eq!(tokenizer.decode(&[2, 3]), "a");
}

#[test]
fn what_a_file_lacks_or_gets_wrong_is_named() {
    let error = |vocabulary| Tokenizer::new(vocabulary).unwrap_err();
    let base = Vocabulary { model: "gpt2", tokens: vec!["a"], ..Vocabulary::default() };
    let missing = |key| TokenizerError::Missing { key, model: "gpt2".to_owned() };
    assert_eq!(error(base.clone()), missing("tokenizer.ggml.merges"));
    assert_eq!(error(Vocabulary { tokens: vec![], ..base.clone() }), missing("tokenizer.ggml.tokens"));
    let cases = [
        (Vocabulary { model: "rwkv", ..base.clone() }, "\"rwkv\" is not supported"),
        (Vocabulary { pre: Some("x"), merges: vec!["a a"], ..base.clone() }, "tokenizer.ggml.pre = \"x\" is not supported"),
        (Vocabulary { scores: vec![0.0; 2], ..base.clone() }, "tokenizer.ggml.scores: expected 1 entries, one a token, found 2"),
        (Vocabulary { types: vec![TokenType::Normal; 3], ..base.clone() }, "tokenizer.ggml.token_type: expected 1"),
        (Vocabulary { scores: vec![f32::NAN], ..base.clone() }, "found a NaN"),
    ];
    for (vocabulary, text) in cases {
        let message = error(vocabulary).to_string();
        assert!(message.contains(text), "{message}");
    }
    // A merge that is none is passed over, whatever it holds.
    let odd = Vocabulary { pre: Some("gpt-2"), merges: vec!["", " ", "a", " a", "é é", "a "], unk: Some(0), ..base };
    assert_eq!(Tokenizer::new(odd).unwrap().encode("éa", Special::Plain).unwrap(), [0, 0, 0]);
}

const MERGES: &[&str] = &["t h", "th e", "Ġ the", "Ġ a", "i n", "Ċ Ċ", "ä ¸", "ä¸ Ń", "ð Ł", "ðŁ ĺ", "Ġ Ġ", "ĠĠ ĠĠ"];
const FAMILIES: &[&str] = &["gpt-2", "llama-bpe", "qwen2", "smollm", "deepseek-v3", "deepseek-llm", "falcon", "tekken", "default"];
/// Compiling a family's expressions takes longer than using them.
static BYTE_LEVEL: LazyLock<Vec<Tokenizer>> =
    LazyLock::new(|| FAMILIES.iter().map(|family| byte_level(family, MERGES, &["<|im_end|>"], "<|im_end|>")).collect());
const SPM_PIECES: &[&str] = &["▁▁", "▁the", "he", "th", "▁th", "the", "▁t", "中", "in", "▁", "a", "e", "h", "i", "n", "t", "\n"];

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just(" ".to_owned()),
        Just("the".to_owned()),
        Just("\n".to_owned()),
        Just("中文".to_owned()),
        Just("😀".to_owned()),
        Just("<|im_end|>".to_owned()),
        "[a-z' 0-9]{0,6}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn byte_level_text_comes_back_whole_and_streams_in_characters(text in text()) {
        for tokenizer in BYTE_LEVEL.iter() {
            round_trip(tokenizer, &text)?;
        }
    }

    #[test]
    fn sentencepiece_text_comes_back_whole_and_streams_in_characters(text in text()) {
        // "▁" is how a space is written, so that one is not to be told from the other.
        let text = text.replace('▁', "");
        round_trip(&Spm { pieces: SPM_PIECES, controls: &["<|im_end|>"], ..Spm::default() }.build(), &text)?;
        round_trip(&Spm { pieces: SPM_PIECES, add_space_prefix: Some(false), ..Spm::default() }.build(), &text)?;
    }

    #[test]
    fn any_ids_stream_to_what_they_decode_to(ids in prop::collection::vec(0u32..300, 0..40)) {
        for tokenizer in [&BYTE_LEVEL[0], &Spm { pieces: SPM_PIECES, ..Spm::default() }.build()] {
            let mut stream = tokenizer.stream();
            let mut text: String = ids.iter().map(|&id| stream.push(id).to_owned()).collect();
            text.push_str(stream.flush());
            prop_assert_eq!(&text, &tokenizer.decode(&ids));
            let bytes: Vec<u8> = ids.iter().filter(|&&id| !tokenizer.is_special(id)).flat_map(|&id| tokenizer.piece(id)).collect();
            let whole = String::from_utf8_lossy(&bytes).into_owned();
            // One space at the beginning, and one after each control token, is the tokenizer's own.
            prop_assert!(text == whole || tokenizer.adds_space_prefix() && text.replace(' ', "") == whole.replace(' ', ""));
        }
    }
}

fn round_trip(tokenizer: &Tokenizer, text: &str) -> Result<(), TestCaseError> {
    for special in [Special::Plain, Special::Parse] {
        let encoding = tokenizer.encode_with_offsets(text, special).unwrap();
        prop_assert_eq!(&tokenizer.decode_with(&encoding.ids, true), text);
        let mut at = 0;
        for (&id, &(start, end)) in encoding.ids.iter().zip(&encoding.offsets) {
            prop_assert!(start == at || start + 1 == at, "tokens lie side by side");
            let piece = tokenizer.piece(id);
            let covered = &text.as_bytes()[start..end];
            prop_assert!(piece == covered || piece.strip_prefix(b" ") == Some(covered) && (start == 0 || at == start), "{:?}", id);
            at = end;
        }
        prop_assert_eq!(at, text.len());
        let mut stream = tokenizer.stream();
        let mut streamed = String::new();
        for &id in &encoding.ids {
            let part = stream.push(id);
            prop_assert!(!part.contains('\u{FFFD}') || text.contains('\u{FFFD}'), "half a character");
            streamed.push_str(part);
        }
        prop_assert!(!stream.is_incomplete());
        if special == Special::Plain {
            prop_assert_eq!(streamed + stream.flush(), text);
        }
    }
    Ok(())
}

#[test]
fn a_stream_gives_no_half_character_wherever_tokens_part_it() {
    let texts = ["你好，世界", "😀👍🏽", "é😀中a"];
    for text in texts {
        // Every way to part the bytes into tokens: a bit a boundary.
        let bytes = text.as_bytes();
        let inner = bytes.len().min(14) - 1;
        for pattern in 0..1u32 << inner {
            let mut parts: Vec<Vec<u8>> = vec![vec![]];
            for (at, &byte) in bytes.iter().enumerate() {
                parts.last_mut().unwrap().push(byte);
                if at + 1 == bytes.len() || at >= inner || pattern >> at & 1 == 1 {
                    parts.push(vec![]);
                }
            }
            parts.retain(|part| !part.is_empty());
            let mut tokens: Vec<String> = parts.iter().map(|part| part.iter().map(|&byte| byte_char(byte)).collect()).collect();
            tokens.push("x".to_owned());
            let count = parts.len() as u32;
            let vocabulary = Vocabulary {
                model: "gpt2",
                pre: Some("gpt-2"),
                tokens: tokens.iter().map(String::as_str).collect(),
                merges: vec!["x x"],
                ..Vocabulary::default()
            };
            // Compiling the family's expression anew for each would take long.
            if pattern % 97 != 0 && pattern != (1 << inner) - 1 {
                continue;
            }
            let tokenizer = Tokenizer::new(vocabulary).unwrap();
            let mut stream = tokenizer.stream();
            let mut given = String::new();
            let mut passed = 0;
            for id in 0..count {
                passed += parts[id as usize].len();
                given.push_str(stream.push(id));
                assert!(text.starts_with(&given), "{text} {pattern:b}");
                let whole = (0..=passed).rev().find(|&at| text.is_char_boundary(at)).unwrap();
                assert_eq!(given.len(), whole, "{text} {pattern:b}: what is complete is given at once");
            }
            assert_eq!(given, text);
            assert_eq!(stream.flush(), "");
        }
    }
}

#[test]
fn a_stream_that_ends_within_a_character_says_so() {
    let tokenizer = byte_level("gpt-2", &[], &[], "");
    let mut stream = tokenizer.stream();
    assert_eq!(stream.push(0xE4), "");
    assert_eq!(stream.push(0xB8), "");
    assert!(stream.is_incomplete());
    assert_eq!(stream.push(u32::from(b'a')), "\u{FFFD}a", "what follows shows that it never will be one");
    assert_eq!(stream.push(0xF0), "");
    assert_eq!(stream.flush(), "\u{FFFD}");
    assert_eq!(stream.flush(), "");
    assert_eq!(tokenizer.decode(&[0xFF, 0x61]), "\u{FFFD}a");
    assert_eq!((tokenizer.piece_text(0xE4), tokenizer.piece_text(0x61)), ("<0xE4>".to_owned(), "a".to_owned()));
}

#[test]
fn a_stream_that_goes_on_keeps_its_first_space() {
    let tokenizer = Spm { pieces: &["▁a", "▁", "a"], ..Spm::default() }.build();
    let id = tokenizer.id_of("▁a").unwrap();
    let mut stream = tokenizer.stream();
    assert_eq!((stream.push(id).to_owned(), stream.push(id)), ("a".to_owned(), " a"));
    assert_eq!(tokenizer.stream_continuing().push(id), " a");
    assert_eq!(tokenizer.stream_after(&[]).push(id), "a");
    assert_eq!(tokenizer.stream_after(&[id, 1]).push(id), "a", "after a control token");
    assert_eq!(tokenizer.stream_after(&[1, id]).push(id), " a");
}

#[test]
fn a_tokenizer_is_shared_between_threads() {
    let tokenizer = byte_level("llama-bpe", MERGES, &[], "");
    let expected = tokenizer.encode("in the 中 the", Special::Plain).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(tokenizer.encode("in the 中 the", Special::Plain).unwrap(), expected));
        }
    });
}
