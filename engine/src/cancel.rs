//! Ending work from another thread, soon: within one piece of one operation, and not only between two updates or tokens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many passes can be under way at once before watching one more takes memory.
const ROOM: usize = 16;

/// Asks whatever works under it to end. Clones are the same request; it stays asked until it is taken back.
///
/// ```
/// use attune::Model;
/// use attune::cancel::Cancel;
/// use attune::session::{FinishReason, GenerateOptions, Session, SessionOptions};
/// use std::ops::ControlFlow;
///
/// # fn main() -> attune::Result<()> {
/// let model = Model::from_bytes("tiny", attune::doc::tiny_model())?;
/// let mut session = Session::new(&model, &SessionOptions { context: 64, ..SessionOptions::default() })?;
/// let cancel = Cancel::new();
/// session.cancel_with(cancel.clone());
/// cancel.ask(); // from any thread, at any time
/// let answer = session.generate(&[1, 2, 3], &GenerateOptions::default(), |_| ControlFlow::Continue(()))?;
/// assert_eq!(answer.finish_reason, FinishReason::Cancelled);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    asked: AtomicBool,
    /// The flags of passes that are under way.
    watched: Mutex<Vec<Arc<AtomicBool>>>,
}

impl Cancel {
    /// One that nobody has asked yet.
    #[must_use]
    pub fn new() -> Cancel {
        Cancel(Arc::new(Shared { asked: AtomicBool::new(false), watched: Mutex::new(Vec::with_capacity(ROOM)) }))
    }

    /// Asks; waits for nothing.
    pub fn ask(&self) {
        let watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.asked.store(true, Ordering::Release);
        watched.iter().for_each(|flag| flag.store(true, Ordering::Release));
    }

    /// Takes it back, for what comes next: passes that are under way end all the same.
    pub fn take_back(&self) {
        self.0.asked.store(false, Ordering::Release);
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// Sets a target's flag once it is asked, until the guard is dropped; then the flag is as before. Only one guard a flag at a time.
    pub(crate) fn watch(&self, flag: &Arc<AtomicBool>) -> Watch {
        let mut watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.push(flag.clone());
        flag.store(self.is_asked(), Ordering::Release);
        Watch { cancel: self.clone(), flag: flag.clone() }
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

/// As long as it is there, a pass is watched.
#[must_use]
pub(crate) struct Watch {
    cancel: Cancel,
    flag: Arc<AtomicBool>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.cancel.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|flag| !Arc::ptr_eq(flag, &self.flag));
        self.flag.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_set_while_they_are_watched_and_left_alone_then() {
        let (cancel, one, two) = (Cancel::new(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let first = cancel.watch(&one);
        cancel.ask();
        assert!(one.load(Ordering::Acquire) && !two.load(Ordering::Acquire));
        let second = cancel.watch(&two);
        assert!(two.load(Ordering::Acquire), "it was asked before");
        drop(first);
        assert!(!one.load(Ordering::Acquire) && two.load(Ordering::Acquire));
        drop(second);
        cancel.take_back();
        let again = cancel.watch(&one);
        assert!(!one.load(Ordering::Acquire) && !cancel.is_asked());
        drop(again);
        assert!(cancel.0.watched.lock().is_ok_and(|watched| watched.is_empty()));
    }
}
