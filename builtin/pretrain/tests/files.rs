//! Vocabulary and file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune_builtin::{Corpus, held_out};
use attune_core::gguf::Gguf;
use attune_pretrain::gguf;
use attune_pretrain::model::Shape;
use attune_pretrain::vocabulary::{END, SPECIAL, Vocabulary};

fn vocabulary() -> Vocabulary {
    let corpus = Corpus::new(1);
    Vocabulary::learn((0..300).map(|index| corpus.document(index)), 900).unwrap()
}

#[test]
fn text_survives_the_tokenizer() {
    let vocabulary = vocabulary();
    let tokenizer = vocabulary.tokenizer().unwrap();
    let corpus = Corpus::new(2);
    let mut texts: Vec<String> = (0..50).map(|index| corpus.document(index)).collect();
    texts.extend(held_out().into_iter().map(|task| task.prompt));
    texts.push("Any other text: naïve, 𝄞, 100 €, \t tabs".to_owned());
    for text in texts {
        let ids = tokenizer.encode(text.as_str(), false).unwrap().get_ids().to_vec();
        assert!(ids.iter().all(|id| *id >= SPECIAL.len() as u32));
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }
    assert_eq!(tokenizer.encode("<|endoftext|>", false).unwrap().get_ids(), [END]);
}

#[test]
fn the_same_text_gives_the_same_vocabulary() {
    let (one, two) = (vocabulary(), vocabulary());
    assert_eq!(one.tokens, two.tokens);
    assert_eq!(one.merges, two.merges);
}

#[test]
fn the_file_reads_back_with_every_tensor() {
    let vocabulary = vocabulary();
    let shape =
        Shape { vocabulary: vocabulary.tokens.len(), width: 32, layers: 2, heads: 2, kv_heads: 1, head_width: 16, feed_forward: 64 };
    let weights = shape.init(1).unwrap();
    let bytes = gguf::encode(&shape, &vocabulary, &weights).unwrap();
    let file = Gguf::parse(&bytes).unwrap();
    assert_eq!(file.tensors().count(), weights.len());
}
