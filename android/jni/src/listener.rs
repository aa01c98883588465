//! Callbacks: objects of Kotlin's that the library calls. What one throws is kept until the call that it came from is over, and thrown from it again.

use crate::boundary::{Failure, FromJava, Outcome};
use crate::fields::Fields;
use crate::texts::pack;
use attune_ffi::{attune_progress, attune_text};
use jni::objects::{Global, JByteArray, JDoubleArray, JMethodID, JObject, JThrowable};
use jni::signature::{JavaType, Primitive, ReturnType};
use jni::sys::jvalue;
use jni::{AttachConfig, Env, JavaVM, jni_sig, jni_str};
use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// Local references that a call of a callback needs.
const REFERENCES: usize = 8;
/// Bytes that a reader is asked for at once.
const CHUNK: usize = 1 << 20;

/// An interface of Kotlin's with one method.
pub(crate) trait Interface {
    const SIGNATURE: &'static str;
    fn method(env: &mut Env<'_>, object: &JObject<'_>) -> jni::errors::Result<JMethodID>;
}

macro_rules! interfaces {
    ($($name:ident, $class:literal, $method:literal, $signature:literal;)*) => {$(
        pub(crate) struct $name;
        impl Interface for $name {
            const SIGNATURE: &'static str = $class;
            fn method(env: &mut Env<'_>, object: &JObject<'_>) -> jni::errors::Result<JMethodID> {
                let class = env.get_object_class(object)?;
                env.get_method_id(class, jni_str!($method), jni_sig!($signature))
            }
        }
    )*};
}
interfaces! {
    Token, "Ldev/attune/internal/TokenListener;", "onToken", "([B)Z";
    Step, "Ldev/attune/internal/StepListener;", "onStep", "([J)Z";
    Log, "Ldev/attune/internal/LogListener;", "onLog", "(I[B)V";
    Reward, "Ldev/attune/internal/RewardListener;", "onScore", "([B)[D";
    Reader, "Ldev/attune/internal/ReadListener;", "onRead", "(J[BI)Z";
}

/// An object that implements one of them.
pub(crate) struct Listener<I> {
    object: Global<JObject<'static>>,
    method: JMethodID,
    thrown: Mutex<Option<Global<JThrowable<'static>>>>,
    interface: PhantomData<I>,
}

impl<I: Interface> FromJava for Listener<I> {
    type Raw<'l> = JObject<'l>;
    const SIGNATURE: &'static str = I::SIGNATURE;
    fn take<'l>(env: &mut Env<'l>, raw: JObject<'l>) -> Outcome<Listener<I>> {
        if raw.is_null() {
            return Err(Failure::new(attune_ffi::ATTUNE_ERROR_NULL, "expected a listener, found null"));
        }
        let method = I::method(env, &raw)?;
        Ok(Listener { object: env.new_global_ref(raw)?, method, thrown: Mutex::new(None), interface: PhantomData })
    }
}

impl<I> Listener<I> {
    /// Handed to the library beside the function that follows it.
    pub(crate) fn user(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// Throws what a callback has thrown since the last time.
    pub(crate) fn rethrow(&self) -> Outcome {
        let mut thrown = self.thrown.lock().unwrap_or_else(PoisonError::into_inner);
        thrown.take().map_or(Ok(()), |thrown| Err(Failure::Thrown(thrown)))
    }

    /// Runs `body` in this thread, which it attaches if the JVM does not know it, with local references of its own. `None` if it has thrown, or could not be run.
    fn within<T>(&self, body: impl FnOnce(&mut Env<'_>) -> jni::errors::Result<T>) -> Option<T> {
        let run = || {
            JavaVM::singleton()?.attach_current_thread_with_config(
                || AttachConfig::new().scoped(true),
                Some(REFERENCES),
                |env| {
                    let found = body(env);
                    if let Some(thrown) = env.exception_occurred() {
                        env.exception_clear();
                        let thrown = env.new_global_ref(thrown)?;
                        *self.thrown.lock().unwrap_or_else(PoisonError::into_inner) = Some(thrown);
                    }
                    found
                },
            )
        };
        catch_unwind(AssertUnwindSafe(run)).ok()?.ok()
    }

    /// Calls the method.
    ///
    /// # Safety
    /// The arguments and the result are those of its signature.
    unsafe fn invoke<'e>(
        &self,
        env: &mut Env<'e>,
        result: ReturnType,
        arguments: &[jvalue],
    ) -> jni::errors::Result<jni::objects::JValueOwned<'e>> {
        // SAFETY: as asked for; the method was looked up in the object's own class.
        unsafe { env.call_method_unchecked(&self.object, self.method, result, arguments) }
    }
}

/// # Safety
/// `user` is a living listener's [`Listener::user`].
unsafe fn listener<'u, I>(user: *mut c_void) -> &'u Listener<I> {
    // SAFETY: as asked for.
    unsafe { &*user.cast::<Listener<I>>() }
}

/// # Safety
/// A text that the library has given, used before its callback returns.
unsafe fn bytes<'t>(text: attune_text) -> &'t [u8] {
    if text.data.is_null() {
        return &[];
    }
    // SAFETY: as asked for.
    unsafe { std::slice::from_raw_parts(text.data.cast(), text.length) }
}

const BOOLEAN: ReturnType = ReturnType::Primitive(Primitive::Boolean);

/// An `attune_token_fn`; `user` is a `Listener<Token>`.
pub(crate) unsafe extern "C" fn on_token(user: *mut c_void, text: attune_text) -> i32 {
    // SAFETY: the call that this comes from has the listener and the text.
    let (listener, text) = unsafe { (listener::<Token>(user), bytes(text)) };
    let go_on = listener.within(|env| {
        let text = env.byte_array_from_slice(text)?;
        // SAFETY: `([B)Z`.
        unsafe { listener.invoke(env, BOOLEAN, &[jvalue { l: text.as_raw() }]) }?.z()
    });
    i32::from(go_on != Some(true))
}

/// An `attune_step_fn`; `user` is a `Listener<Step>`.
pub(crate) unsafe extern "C" fn on_step(user: *mut c_void, progress: *const attune_progress) -> i32 {
    // SAFETY: the call that this comes from has the listener and the progress.
    let (listener, progress) = unsafe { (listener::<Step>(user), progress.as_ref()) };
    let Some(progress) = progress else { return 1 };
    let go_on = listener.within(|env| {
        let numbers = progress.write();
        let array = jni::objects::JLongArray::new(env, numbers.len())?;
        array.set_region(env, 0, &numbers)?;
        // SAFETY: `([J)Z`.
        unsafe { listener.invoke(env, BOOLEAN, &[jvalue { l: array.as_raw() }]) }?.z()
    });
    i32::from(go_on != Some(true))
}

/// An `attune_log_fn`; `user` is a `Listener<Log>`. What it throws is dropped: there is no call that it could be thrown from.
pub(crate) unsafe extern "C" fn on_log(user: *mut c_void, level: u32, message: attune_text) {
    // SAFETY: a listener lives until `attune_log_set` has returned with another.
    let (listener, message) = unsafe { (listener::<Log>(user), bytes(message)) };
    let _ = listener.within(|env| {
        let message = env.byte_array_from_slice(message)?;
        // SAFETY: `(I[B)V`.
        unsafe {
            listener.invoke(
                env,
                ReturnType::Primitive(Primitive::Void),
                &[jvalue { i: level.cast_signed() }, jvalue { l: message.as_raw() }],
            )
        }
        .map(drop)
    });
    drop(listener.rethrow());
}

/// An `attune_reward_fn`; `user` is a `Listener<Reward>`. Kotlin gets the prompt and the answers as a list of texts.
pub(crate) unsafe extern "C" fn on_reward(
    user: *mut c_void,
    prompt: attune_text,
    answers: *const attune_text,
    count: usize,
    scores: *mut f64,
) -> i32 {
    // SAFETY: the tuner that this is for has the listener; the library gives as many answers and places for scores as it says.
    let (listener, prompt) = unsafe { (listener::<Reward>(user), bytes(prompt)) };
    if count == 0 {
        return 0;
    }
    // SAFETY: as above.
    let (answers, scores) = unsafe { (std::slice::from_raw_parts(answers, count), std::slice::from_raw_parts_mut(scores, count)) };
    let done = listener.within(|env| {
        // SAFETY: texts of this callback.
        let texts = pack(std::iter::once(prompt).chain(answers.iter().map(|a| unsafe { bytes(*a) })));
        let texts = env.byte_array_from_slice(&texts)?;
        // SAFETY: `([B)[D`.
        let found = unsafe { listener.invoke(env, ReturnType::from(JavaType::Array), &[jvalue { l: texts.as_raw() }]) }?.l()?;
        let found = env.cast_local::<JDoubleArray<'_>>(found)?;
        if found.len(env)? != count {
            return Ok(false);
        }
        found.get_region(env, 0, scores)?;
        Ok(true)
    });
    i32::from(done != Some(true))
}

/// An `attune_read_fn`; `user` is a `Listener<Reader>`. Bytes are asked for in parts, through an array.
pub(crate) unsafe extern "C" fn on_read(user: *mut c_void, offset: u64, buffer: *mut c_void, size: usize) -> i32 {
    // SAFETY: the call that this comes from has the listener.
    let listener = unsafe { listener::<Reader>(user) };
    if size == 0 {
        return 0;
    }
    // SAFETY: the library gives as much room as it says, and has set it.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<i8>(), size) };
    let done = listener.within(|env| {
        let array = JByteArray::new(env, size.min(CHUNK))?;
        let mut at = offset;
        for part in buffer.chunks_mut(CHUNK) {
            let arguments = [jvalue { j: at.cast_signed() }, jvalue { l: array.as_raw() }, jvalue { i: part.len() as i32 }];
            // SAFETY: `(J[BI)Z`.
            if !unsafe { listener.invoke(env, BOOLEAN, &arguments) }?.z()? {
                return Ok(false);
            }
            array.get_region(env, 0, part)?;
            at += part.len() as u64;
        }
        Ok(true)
    });
    i32::from(done != Some(true))
}
