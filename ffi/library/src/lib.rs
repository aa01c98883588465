//! `libattune.so` and `libattune.a`: the functions of `attune-ffi`, as files that C programs link.

pub use attune_ffi::*;
