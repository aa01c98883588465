//! The C ABI of Attune for Kotlin: the native methods of `dev.attune.internal.Native`, each of which calls one function of `attune-ffi` and holds no logic
//! of its own.
//!
//! What crosses the boundary is kept plain, so that there is little that can be wrong: numbers, arrays of numbers, and UTF-8 in arrays of bytes. A struct of
//! the C header is an array of longs with its numbers in the header's order; floats go as their bits.
//!
//! # `boundary`: a native method from outside to inside
//! What Java hands over is copied before the call; an error or a panic becomes an exception. [`JNI_OnLoad`] registers all methods, with signatures made of the
//! Rust types, so that a method that Kotlin declares otherwise fails when the library is loaded.
//!
//! # `fields`, `texts`: structs and lists of texts as arrays
//!
//! # `listener`: callbacks
//! What a callback of Kotlin's throws ends the call, and is thrown from it again.
//!
//! # `model`, `session`, `adapter`, `learn`, `feedback`, `rest`: the methods
#![allow(unsafe_code)]

mod adapter;
mod boundary;
mod feedback;
mod fields;
mod learn;
mod listener;
mod model;
mod rest;
mod session;
mod texts;

use boundary::{Native, Outcome};
use jni::objects::JClass;
use jni::strings::JNIString;
use jni::sys::{JNI_ERR, JNI_VERSION_1_6, jint};
use jni::{Env, JavaVM, NativeMethod, jni_str};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Called by the JVM when it loads the library: registers the native methods.
///
/// # Safety
/// `vm` is what a JVM hands over.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn JNI_OnLoad(vm: *mut jni::sys::JavaVM, _reserved: *mut c_void) -> jint {
    let begin = || {
        // SAFETY: the JVM's own pointer.
        let vm = unsafe { JavaVM::from_raw(vm) };
        vm.attach_current_thread(|env| register(env).map_err(|_| jni::errors::Error::JniCall(jni::errors::JniError::Unknown)))
    };
    match catch_unwind(AssertUnwindSafe(begin)) {
        Ok(Ok(())) => JNI_VERSION_1_6,
        _ => JNI_ERR,
    }
}

fn register(env: &mut Env<'_>) -> Outcome {
    let class: JClass<'_> = env.find_class(jni_str!("dev/attune/internal/Native"))?;
    boundary::remember(env, &class)?;
    let tables = [model::natives(), session::natives(), adapter::natives(), learn::natives(), feedback::natives(), rest::natives()];
    let named: Vec<_> =
        tables.iter().flatten().map(|n: &Native| (JNIString::from(n.name), JNIString::from(&*n.signature), n.function)).collect();
    // SAFETY: the functions are made by `natives!` of the same types as their signatures.
    let methods: Vec<_> =
        named.iter().map(|(name, signature, function)| unsafe { NativeMethod::from_raw_parts(name, signature, *function) }).collect();
    // SAFETY: as above; all are static methods.
    unsafe { env.register_native_methods(&class, &methods)? };
    Ok(())
}
