//! Handles: numbers that stand for objects, so that one that is stale or of another type is an error and never an access to freed memory.
//!
//! A handle looks like a pointer to an incomplete type, so that C's compiler tells a model from a session, but nothing lies at it. Its low bits name its
//! type, the others count up; it is looked up in a table of what is alive, and none is given twice.

use crate::status::{ATTUNE_ERROR_BROKEN, ATTUNE_ERROR_BUSY, ATTUNE_ERROR_HANDLE, Failure, Outcome};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Bits of a handle that name its type.
const KIND_BITS: u32 = 4;

/// Something that a handle stands for.
pub(crate) trait Object: Sized + Send + 'static {
    /// The incomplete type in C.
    type Handle;
    /// What can be reached while a call is at work on it.
    type Aside: Send + Sync;
    /// Its type's number, which begins at 1.
    const KIND: usize;
    /// What it is called in messages.
    const NAME: &'static str;
    /// The table of its type.
    fn table() -> &'static Table<Self>;
}

/// All objects of a type that are alive.
pub(crate) struct Table<T: Object>(Mutex<Live<T>>);

struct Live<T: Object> {
    entries: BTreeMap<usize, Arc<Entry<T>>>,
    last: usize,
}

/// An object, and what of it can be reached at any time.
pub(crate) struct Entry<T: Object> {
    /// `None` once it is freed.
    object: Mutex<Option<T>>,
    pub(crate) aside: T::Aside,
}

impl<T: Object> Table<T> {
    pub(crate) const fn new() -> Self {
        Table(Mutex::new(Live { entries: BTreeMap::new(), last: 0 }))
    }

    fn live(&self) -> MutexGuard<'_, Live<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts an object into its table and gives its handle.
pub(crate) fn insert<T: Object<Aside: Default>>(object: T) -> *mut T::Handle {
    insert_with(object, T::Aside::default())
}

/// The same, with what can be reached at any time.
pub(crate) fn insert_with<T: Object>(object: T, aside: T::Aside) -> *mut T::Handle {
    let entry = Arc::new(Entry { object: Mutex::new(Some(object)), aside });
    let mut live = T::table().live();
    // After more objects than a handle has numbers, those that are still alive are passed over.
    let most = usize::MAX >> KIND_BITS;
    loop {
        live.last = if live.last >= most { 1 } else { live.last + 1 };
        let handle = live.last << KIND_BITS | T::KIND;
        if let std::collections::btree_map::Entry::Vacant(place) = live.entries.entry(handle) {
            place.insert(entry);
            return std::ptr::without_provenance_mut(handle);
        }
    }
}

/// What a handle stands for. Allocates nothing.
pub(crate) fn find<T: Object>(handle: *const T::Handle) -> Outcome<Arc<Entry<T>>> {
    if handle.is_null() {
        return Err(Failure::null(T::NAME));
    }
    T::table().live().entries.get(&handle.addr()).cloned().ok_or_else(|| stale::<T>(handle.addr()))
}

fn stale<T: Object>(handle: usize) -> Failure {
    const NAMES: [&str; 10] = [
        "",
        "a model",
        "a session",
        "an adapter",
        "a set of examples",
        "a tuner",
        "a plan",
        "a cancellation",
        "a feedback store",
        "a reward model",
    ];
    let kind = handle & ((1 << KIND_BITS) - 1);
    let found = match NAMES.get(kind) {
        Some(name) if kind == T::KIND => format!("{name} that has been freed or never was"),
        Some(name) if kind > 0 => format!("what may be {name}"),
        _ => "something else".into(),
    };
    Failure::new(ATTUNE_ERROR_HANDLE, format_args!("expected the handle of {}, found {found}", T::NAME))
}

impl<T: Object> Entry<T> {
    /// The object, for one call at a time: a second one, from another thread or from a callback, is refused and does not wait.
    pub(crate) fn lock(&self) -> Outcome<Locked<'_, T>> {
        match self.object.try_lock() {
            Ok(guard) if guard.is_none() => Err(stale::<T>(T::KIND)),
            Ok(guard) => Ok(Locked(guard)),
            Err(TryLockError::WouldBlock) => {
                let message = format_args!("{}: a call is at work on it, in another thread or in whose callback this one is made", T::NAME);
                Err(Failure::new(ATTUNE_ERROR_BUSY, message))
            }
            Err(TryLockError::Poisoned(_)) => {
                let message = format_args!("{}: an earlier call on it failed inside of the library; free it", T::NAME);
                Err(Failure::new(ATTUNE_ERROR_BROKEN, message))
            }
        }
    }
}

/// An object that nobody else is at work on.
pub(crate) struct Locked<'e, T>(MutexGuard<'e, Option<T>>);

impl<T> Locked<'_, T> {
    /// The object.
    pub(crate) fn get(&mut self) -> Outcome<&mut T> {
        // There is one: `Entry::lock` has looked.
        self.0.as_mut().ok_or_else(|| Failure::new(ATTUNE_ERROR_HANDLE, "expected an object that is alive"))
    }
}

/// Runs `body` on the object of a handle.
pub(crate) fn with<T: Object, R>(handle: *const T::Handle, body: impl FnOnce(&mut T, &T::Aside) -> Outcome<R>) -> Outcome<R> {
    let entry = find::<T>(handle)?;
    let mut locked = entry.lock()?;
    body(locked.get()?, &entry.aside)
}

/// Takes a handle's object out of its table and drops it; NULL is fine.
pub(crate) fn free<T: Object>(handle: *mut T::Handle) -> Outcome {
    if handle.is_null() {
        return Ok(());
    }
    let entry = find::<T>(handle)?;
    let object = match entry.object.try_lock() {
        Ok(mut object) => object.take(),
        Err(TryLockError::Poisoned(broken)) => broken.into_inner().take(),
        Err(TryLockError::WouldBlock) => {
            let message = format_args!("{}: it cannot be freed while a call is at work on it", T::NAME);
            return Err(Failure::new(ATTUNE_ERROR_BUSY, message));
        }
    };
    T::table().live().entries.remove(&handle.addr());
    let freed = object.is_some();
    drop(object);
    if freed { Ok(()) } else { Err(stale::<T>(handle.addr())) }
}

/// Makes a type an [`Object`].
macro_rules! object {
    ($type:ty, $handle:ty, $kind:literal, $name:literal, $aside:ty) => {
        impl $crate::handle::Object for $type {
            type Handle = $handle;
            type Aside = $aside;
            const KIND: usize = $kind;
            const NAME: &'static str = $name;
            fn table() -> &'static $crate::handle::Table<Self> {
                static TABLE: $crate::handle::Table<$type> = $crate::handle::Table::new();
                &TABLE
            }
        }
    };
}
pub(crate) use object;
