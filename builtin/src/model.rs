//! The base model's file.

/// Bytes at an address that a tensor of any type may begin at.
#[repr(C, align(64))]
struct Aligned<B: ?Sized>(B);

static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!("../assets/attune-base.gguf"));

/// The base model as a GGUF file: llama architecture, Q8_0, with tokenizer and chat template. Aligned to 64 bytes, so that it can be used
/// where it lies.
#[must_use]
pub fn model() -> &'static [u8] {
    &MODEL.0
}
