//! A native method from outside to inside: arguments are copied out of Java's arrays, results into them, and an error or a panic becomes an exception.

use attune_ffi::{ATTUNE_ERROR_INTERNAL, ATTUNE_ERROR_NULL, ATTUNE_ERROR_OPTION, ATTUNE_OK, attune_error, attune_status, attune_text};
use jni::errors::ErrorPolicy;
use jni::objects::{
    Global, JByteArray, JByteBuffer, JClass, JDoubleArray, JFloatArray, JIntArray, JLongArray, JObject, JStaticMethodID, JThrowable,
};
use jni::signature::{JavaType, ReturnType};
use jni::sys::{jboolean, jfloat, jint, jlong};
use jni::{Env, EnvUnowned, jni_sig, jni_str};
use std::any::Any;
use std::ffi::{c_char, c_void};
use std::sync::OnceLock;

/// Bytes of a message that is handed on.
const MESSAGE: usize = 4096;

/// A native method, ready to be registered.
pub(crate) struct Native {
    pub(crate) name: &'static str,
    pub(crate) signature: String,
    pub(crate) function: *mut c_void,
}

/// Why a method throws.
pub(crate) enum Failure {
    /// A function of the ABI says so.
    Status { status: attune_status, detail: u32, needed: u64, message: Vec<u8> },
    /// A callback has thrown.
    Thrown(Global<JThrowable<'static>>),
    /// The JVM says so; an exception may be pending.
    Java(jni::errors::Error),
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl From<jni::errors::Error> for Failure {
    fn from(error: jni::errors::Error) -> Failure {
        Failure::Java(error)
    }
}

impl Failure {
    pub(crate) fn new(status: attune_status, message: impl Into<String>) -> Failure {
        Failure::Status { status, detail: 0, needed: 0, message: message.into().into_bytes() }
    }

    pub(crate) fn option(what: &str, expected: &str, found: impl std::fmt::Display) -> Failure {
        Failure::new(ATTUNE_ERROR_OPTION, format!("{what}: expected {expected}, found {found}"))
    }

    fn null(what: &str) -> Failure {
        Failure::new(ATTUNE_ERROR_NULL, format!("expected {what}, found null"))
    }
}

/// An error of the ABI with room for a long message behind it.
#[repr(C)]
struct Report {
    error: attune_error,
    more: [u8; MESSAGE - size_of::<attune_error>()],
}

/// Calls a function of the ABI, with a place for its message.
pub(crate) fn call(function: impl FnOnce(*mut attune_error) -> attune_status) -> Outcome {
    // SAFETY: numbers alone; zeros are valid.
    let mut report: Report = unsafe { std::mem::zeroed() };
    report.error.size = size_of::<Report>() as u32;
    let at = (&raw mut report).cast::<attune_error>();
    match function(at) {
        ATTUNE_OK => Ok(()),
        status => {
            let head = std::mem::offset_of!(attune_error, message);
            let length = (report.error.message_length as usize).min(MESSAGE - head - 1);
            // SAFETY: within `report`, every byte of which has been set.
            let message = unsafe { std::slice::from_raw_parts((&raw const report).cast::<u8>().add(head), length) };
            let end = message.iter().position(|b| *b == 0).unwrap_or(length);
            let message = message.get(..end).unwrap_or_default().to_vec();
            Err(Failure::Status { status, detail: report.error.detail, needed: report.error.needed_bytes, message })
        }
    }
}

/// The same, for functions that make a handle.
pub(crate) fn make<T>(function: impl FnOnce(*mut *mut T, *mut attune_error) -> attune_status) -> Outcome<i64> {
    let mut made: *mut T = std::ptr::null_mut();
    call(|error| function(&raw mut made, error))?;
    Ok(made.addr() as i64)
}

/// The same, for functions that write one number.
pub(crate) fn number<T: Default>(function: impl FnOnce(*mut T, *mut attune_error) -> attune_status) -> Outcome<T> {
    let mut found = T::default();
    call(|error| function(&raw mut found, error))?;
    Ok(found)
}

/// The same, for functions that write a text.
pub(crate) fn text(mut function: impl FnMut(*mut c_char, usize, *mut usize, *mut attune_error) -> attune_status) -> Outcome<Vec<u8>> {
    let mut room = 8192;
    loop {
        let (mut buffer, mut length) = (vec![0_u8; room], 0);
        call(|error| function(buffer.as_mut_ptr().cast(), room, &raw mut length, error))?;
        if length < room {
            buffer.truncate(length);
            return Ok(buffer);
        }
        room = length + 1;
    }
}

/// The same, for functions that write an array.
pub(crate) fn array<T: Copy + Default>(
    mut function: impl FnMut(*mut T, usize, *mut usize, *mut attune_error) -> attune_status,
) -> Outcome<Vec<T>> {
    let mut room = 256;
    loop {
        let (mut buffer, mut count) = (vec![T::default(); room], 0);
        call(|error| function(buffer.as_mut_ptr(), room, &raw mut count, error))?;
        if count <= room {
            buffer.truncate(count);
            return Ok(buffer);
        }
        room = count;
    }
}

/// The handle that a number of Java's stands for; one that no handle can have is not NULL but stale.
pub(crate) fn at<T>(number: i64) -> *mut T {
    std::ptr::without_provenance_mut(usize::try_from(number).unwrap_or(usize::MAX))
}

/// Bytes as a text of the ABI, which looks whether they are UTF-8.
pub(crate) fn given(bytes: &[u8]) -> attune_text {
    attune_text { data: bytes.as_ptr().cast(), length: bytes.len() }
}

/// The same; no bytes are no text at all.
pub(crate) fn given_if(bytes: Option<&Vec<u8>>) -> attune_text {
    bytes.map_or(attune_text { data: std::ptr::null(), length: 0 }, |b| given(b))
}

/// What Java hands over.
pub(crate) trait FromJava: Sized {
    type Raw<'l>;
    const SIGNATURE: &'static str;
    fn take<'l>(env: &mut Env<'l>, raw: Self::Raw<'l>) -> Outcome<Self>;
}

/// What Java gets; the default is what it gets beside an exception.
pub(crate) trait IntoJava {
    type Raw<'l>: Default;
    const SIGNATURE: &'static str;
    fn give<'l>(self, env: &mut Env<'l>) -> Outcome<Self::Raw<'l>>;
}

macro_rules! plain {
    ($($type:ty, $raw:ty, $signature:literal;)*) => {$(
        impl FromJava for $type {
            type Raw<'l> = $raw;
            const SIGNATURE: &'static str = $signature;
            fn take<'l>(_: &mut Env<'l>, raw: $raw) -> Outcome<$type> {
                Ok(raw)
            }
        }
        impl IntoJava for $type {
            type Raw<'l> = $raw;
            const SIGNATURE: &'static str = $signature;
            fn give<'l>(self, _: &mut Env<'l>) -> Outcome<$raw> {
                Ok(self)
            }
        }
    )*};
}
plain! {
    i32, jint, "I";
    i64, jlong, "J";
    f32, jfloat, "F";
    bool, jboolean, "Z";
}

impl IntoJava for () {
    type Raw<'l> = ();
    const SIGNATURE: &'static str = "V";
    fn give<'l>(self, _: &mut Env<'l>) -> Outcome {
        Ok(())
    }
}

impl FromJava for Vec<u8> {
    type Raw<'l> = JByteArray<'l>;
    const SIGNATURE: &'static str = "[B";
    fn take<'l>(env: &mut Env<'l>, raw: JByteArray<'l>) -> Outcome<Vec<u8>> {
        if raw.is_null() {
            return Err(Failure::null("an array of bytes"));
        }
        Ok(env.convert_byte_array(raw)?)
    }
}

impl IntoJava for Vec<u8> {
    type Raw<'l> = JByteArray<'l>;
    const SIGNATURE: &'static str = "[B";
    fn give<'l>(self, env: &mut Env<'l>) -> Outcome<JByteArray<'l>> {
        Ok(env.byte_array_from_slice(&self)?)
    }
}

macro_rules! arrays {
    ($($type:ty, $raw:ident, $signature:literal;)*) => {$(
        impl FromJava for Vec<$type> {
            type Raw<'l> = $raw<'l>;
            const SIGNATURE: &'static str = $signature;
            fn take<'l>(env: &mut Env<'l>, raw: $raw<'l>) -> Outcome<Vec<$type>> {
                if raw.is_null() {
                    return Err(Failure::null("an array of numbers"));
                }
                let mut found = vec![<$type>::default(); raw.len(env)?];
                raw.get_region(env, 0, &mut found)?;
                Ok(found)
            }
        }
        impl IntoJava for Vec<$type> {
            type Raw<'l> = $raw<'l>;
            const SIGNATURE: &'static str = $signature;
            fn give<'l>(self, env: &mut Env<'l>) -> Outcome<$raw<'l>> {
                let array = $raw::new(env, self.len())?;
                array.set_region(env, 0, &self)?;
                Ok(array)
            }
        }
    )*};
}
arrays! {
    i32, JIntArray, "[I";
    i64, JLongArray, "[J";
    f32, JFloatArray, "[F";
    f64, JDoubleArray, "[D";
}

impl<T: FromJava> FromJava for Option<T>
where
    for<'l> T::Raw<'l>: AsRef<JObject<'l>>,
{
    type Raw<'l> = T::Raw<'l>;
    const SIGNATURE: &'static str = T::SIGNATURE;
    fn take<'l>(env: &mut Env<'l>, raw: T::Raw<'l>) -> Outcome<Option<T>> {
        if raw.as_ref().is_null() { Ok(None) } else { T::take(env, raw).map(Some) }
    }
}

/// A direct buffer, kept where it is until this is dropped.
pub(crate) struct Buffer {
    pub(crate) data: *mut u8,
    pub(crate) size: usize,
    /// Keeps the memory alive.
    _held: Global<JByteBuffer<'static>>,
}

impl FromJava for Buffer {
    type Raw<'l> = JByteBuffer<'l>;
    const SIGNATURE: &'static str = "Ljava/nio/ByteBuffer;";
    fn take<'l>(env: &mut Env<'l>, raw: JByteBuffer<'l>) -> Outcome<Buffer> {
        if raw.is_null() {
            return Err(Failure::null("a direct buffer"));
        }
        let (data, size) = (env.get_direct_buffer_address(&raw)?, env.get_direct_buffer_capacity(&raw)?);
        Ok(Buffer { data, size, _held: env.new_global_ref(raw)? })
    }
}

/// The class that makes exceptions.
struct Thrower {
    class: Global<JClass<'static>>,
    method: JStaticMethodID,
}
static THROWER: OnceLock<Thrower> = OnceLock::new();

/// Looks up, once, what exceptions are made with.
pub(crate) fn remember(env: &mut Env<'_>, class: &JClass<'_>) -> Outcome {
    let method = env.get_static_method_id(class, jni_str!("failure"), jni_sig!("(IIJ[B)Ljava/lang/Throwable;"))?;
    let class = env.new_global_ref(class)?;
    // A library is loaded once; where it is not, both are the same.
    let _ = THROWER.set(Thrower { class, method });
    Ok(())
}

/// The inside of every native method.
pub(crate) fn enter<'l, T: Default>(env: &mut EnvUnowned<'l>, body: impl FnOnce(&mut Env<'l>) -> Outcome<T>) -> T {
    env.with_env(body).resolve::<Throw>()
}

struct Throw;

impl<T: Default> ErrorPolicy<T, Failure> for Throw {
    type Captures<'l: 'm, 'm> = ();

    fn on_error<'l: 'm, 'm>(env: &mut Env<'l>, _: &mut (), failure: Failure) -> jni::errors::Result<T> {
        let thrown = match failure {
            // What the JVM has thrown says best what it is.
            _ if env.exception_check() => Ok(()),
            Failure::Thrown(thrown) => env.throw(&thrown),
            Failure::Status { status, detail, needed, message } => throw(env, status, detail, needed, &message),
            Failure::Java(error) => throw(env, ATTUNE_ERROR_INTERNAL, 0, 0, format!("the JVM: {error}").as_bytes()),
        };
        match thrown {
            Ok(()) | Err(jni::errors::Error::JavaException) => Ok(T::default()),
            Err(other) => Err(other),
        }
    }

    fn on_panic<'l: 'm, 'm>(env: &mut Env<'l>, _: &mut (), payload: Box<dyn Any + Send>) -> jni::errors::Result<T> {
        let said = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let failure =
            Failure::new(ATTUNE_ERROR_INTERNAL, format!("internal: {}; please report it", said.unwrap_or("a panic without a message")));
        // A payload that panics when it is dropped must not do so beyond the boundary.
        std::mem::forget(payload);
        Self::on_error(env, &mut (), failure)
    }
}

fn throw(env: &mut Env<'_>, status: attune_status, detail: u32, needed: u64, message: &[u8]) -> jni::errors::Result<()> {
    let thrower = THROWER.get().ok_or(jni::errors::Error::UninitializedJavaVM)?;
    let message = env.byte_array_from_slice(message)?;
    let arguments = [
        jni::sys::jvalue { i: status },
        jni::sys::jvalue { i: detail.cast_signed() },
        jni::sys::jvalue { j: needed.cast_signed() },
        jni::sys::jvalue { l: message.as_raw() },
    ];
    // SAFETY: the arguments and the result are those of the signature in `remember`.
    let made = unsafe { env.call_static_method_unchecked(&thrower.class, thrower.method, ReturnType::from(JavaType::Object), &arguments)? };
    let made = made.l()?;
    let made = env.cast_local::<JThrowable<'_>>(made)?;
    env.throw(made)
}

/// Native methods, and the table of them. Inside of each, `env` is the JVM's.
macro_rules! natives {
    ($($(#[$meta:meta])* fn $name:ident($env:ident $(, $arg:ident: $type:ty)* $(,)?) -> $result:ty $body:block)*) => {
        pub(crate) fn natives() -> Vec<$crate::boundary::Native> {
            use $crate::boundary::{FromJava, IntoJava, Native, Outcome, enter};
            vec![$({
                extern "system" fn native<'l>(
                    mut env: jni::EnvUnowned<'l>,
                    _class: jni::objects::JClass<'l>,
                    $($arg: <$type as FromJava>::Raw<'l>),*
                ) -> <$result as IntoJava>::Raw<'l> {
                    enter(&mut env, |$env| {
                        $(let $arg = <$type as FromJava>::take($env, $arg)?;)*
                        // So that `?` and `return` in the body end it, and not what is around it.
                        #[allow(clippy::redundant_closure_call)]
                        let result: Outcome<$result> = (|| $body)();
                        <$result as IntoJava>::give(result?, $env)
                    })
                }
                let arguments: &[&str] = &[$(<$type as FromJava>::SIGNATURE),*];
                let signature = format!("({}){}", arguments.concat(), <$result as IntoJava>::SIGNATURE);
                Native { name: stringify!($name), signature, function: native as *mut std::ffi::c_void }
            }),*]
        }
    };
}
pub(crate) use natives;
