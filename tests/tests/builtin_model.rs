//! The built-in model's file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune_builtin::model;
use attune_core::gguf::Gguf;

#[test]
fn the_built_in_model_is_a_small_llama_file_in_q8_0_with_tokenizer_and_template() {
    let file = Gguf::parse(model()).unwrap();
    assert!(model().len() < 6 << 20, "{} bytes", model().len());
    assert_eq!(file.str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(file.str("tokenizer.ggml.model").unwrap(), Some("gpt2"));
    let template = file.str("tokenizer.chat_template").unwrap().unwrap();
    assert!(template.contains("add_generation_prompt"));
    let vocabulary = file.strs("tokenizer.ggml.tokens").unwrap().unwrap().count();
    for tensor in file.tensors() {
        let vector = tensor.name.ends_with("norm.weight");
        assert_eq!(tensor.ty.name(), if vector { "F32" } else { "Q8_0" }, "{}", tensor.name);
    }
    assert_eq!(file.tensor("token_embd.weight").unwrap().rows(), vocabulary);
}

#[test]
fn the_built_in_model_lies_where_tensors_can_be_read_in_place() {
    assert!(model().as_ptr().addr().is_multiple_of(64));
}
