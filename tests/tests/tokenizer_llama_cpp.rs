//! The ids of llama.cpp, on its own test texts and vocabularies. Skipped where `../shared` is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use attune::tokenizer::{Special, Tokenizer};
use attune_core::gguf::Gguf;

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

fn shared(path: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let path = std::env::var_os("ATTUNE_SHARED").map_or_else(beside, PathBuf::from).join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is missing", path.display());
    None
}

fn tokenizer(path: &std::path::Path) -> Tokenizer {
    let bytes = std::fs::read(path).unwrap();
    Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap().expect("the file has a tokenizer")
}

/// Texts and ids that stand beside a vocabulary; the last text is empty and has no line of its own.
fn cases(path: &std::path::Path) -> Vec<(String, Vec<u32>)> {
    let read = |extension: &str| std::fs::read_to_string(format!("{}.{extension}", path.display())).unwrap();
    let (texts, ids) = (read("inp"), read("out"));
    let texts = texts.split(SEPARATOR).map(str::to_owned);
    let ids = ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
    let cases: Vec<_> = texts.zip(ids.chain([Vec::new()])).collect();
    assert_eq!(cases.len(), 47);
    cases
}

fn every_case(name: &str) {
    let Some(path) = shared(&format!("data/tokenizers/ggml-vocab-{name}.gguf")) else { return };
    let tokenizer = tokenizer(&path);
    for (text, ids) in cases(&path) {
        let encoding = tokenizer.encode_with_offsets(&text, Special::Plain).unwrap();
        assert_eq!(encoding.ids, ids, "{name} {text:?}");
        assert_eq!(tokenizer.decode(&ids), text, "{name} {text:?}");
        let mut at = 0;
        for &(start, end) in &encoding.offsets {
            assert_eq!(start, at, "{name} {text:?}: tokens lie side by side");
            at = end;
        }
        assert_eq!(at, text.len(), "{name} {text:?}: tokens cover the text");
        let mut stream = tokenizer.stream();
        let mut streamed = String::new();
        ids.iter().for_each(|&id| streamed.push_str(stream.push(id)));
        assert_eq!(streamed + stream.flush(), text, "{name} {text:?}");
    }
}

#[test]
fn gpt_2_gives_the_ids_of_llama_cpp() {
    every_case("gpt-2");
}

#[test]
fn llama_2_gives_the_ids_of_llama_cpp() {
    every_case("llama-spm");
}

#[test]
fn phi_3_gives_the_ids_of_llama_cpp() {
    every_case("phi-3");
}

#[test]
fn phi_3s_special_tokens_take_the_white_space_after_them() {
    let Some(path) = shared("data/tokenizers/ggml-vocab-phi-3.gguf") else { return };
    let tokenizer = tokenizer(&path);
    let ids = |text| tokenizer.encode(text, Special::Parse).unwrap();
    let id = |text| tokenizer.id_of(text).unwrap();
    assert_eq!(ids("<|user|>\n \tHello"), [id("<|user|>"), id("▁Hello")]);
    assert_eq!(ids("<|end|>\n<|assistant|>\n"), [id("<|end|>"), id("<|assistant|>")]);
    assert_eq!(ids("<s> Hello"), [id("<s>"), id("▁"), id("▁Hello")], "this one leaves it");
    assert_eq!(tokenizer.eos(), Some(id("<|endoftext|>")));
    assert_eq!(tokenizer.eot(), Some(id("<|end|>")));
    assert!(tokenizer.is_end_of_generation(id("<|end|>")) && !tokenizer.is_end_of_generation(id("<|user|>")));
    assert!(tokenizer.add_bos() && !tokenizer.add_eos());
}

#[test]
fn a_control_tokens_name_is_text_where_it_is_not_parsed() {
    let Some(path) = shared("data/tokenizers/ggml-vocab-llama-spm.gguf") else { return };
    let tokenizer = tokenizer(&path);
    assert_eq!(tokenizer.encode("</s>", Special::Parse).unwrap(), [2]);
    let plain = tokenizer.encode("</s><0x0A>", Special::Plain).unwrap();
    assert!(plain.iter().all(|&id| id != 2 && id != 13), "{plain:?}");
    assert_eq!(tokenizer.decode(&plain), "</s><0x0A>");
}

/// Scores of this vocabulary are SentencePiece's own, from −0 to −252; the ids are those that its program gives.
#[test]
fn a_vocabulary_of_512_tokens_works() {
    let Some(path) = shared("data/models/stories260K.gguf") else { return };
    let tokenizer = tokenizer(&path);
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos(), tokenizer.pad()), (512, Some(1), Some(2), None));
    let cases: &[(&str, &[u32])] = &[
        ("Once upon a time", &[403, 407, 261, 378]),
        ("Lily and 中", &[317, 269, 410, 231, 187, 176]),
        (
            "One day, Tom's dog ran away\n quickly!",
            &[385, 328, 432, 274, 287, 439, 419, 400, 428, 352, 303, 261, 424, 283, 13, 410, 456, 425, 417, 340, 421, 422, 443],
        ),
    ];
    for (text, ids) in cases {
        assert_eq!(tokenizer.encode(text, Special::Plain).unwrap(), *ids, "{text}");
    }
    let long = "Once upon a time, there was a little girl named Lily. 从前 😀\n\t  ".repeat(200);
    assert_eq!(tokenizer.decode(&tokenizer.encode(&long, Special::Plain).unwrap()), long);
}
