//! Ctrl-C: the first asks for an end at the next safe point, the second ends at once.

use crate::failure::{Failure, Outcome};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);
/// Whether something is going on that has a safe point; otherwise the first Ctrl-C ends the program.
static BUSY: AtomicBool = AtomicBool::new(true);

/// Watches for Ctrl-C from here on; `notice` is said at the first.
pub(crate) fn watch(notice: &'static str) -> Outcome {
    let handler = move || {
        if !BUSY.load(Ordering::SeqCst) || REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        if !notice.is_empty() {
            crate::progress::above(|| eprintln!("{notice}"));
        }
    };
    ctrlc::set_handler(handler).map_err(|e| Failure::failed(format!("Ctrl-C cannot be watched for: {e}")))
}

/// Whether Ctrl-C was pressed.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// The same for observers.
pub(crate) fn flow() -> ControlFlow<()> {
    if requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Says whether something with a safe point is going on, and forgets an earlier Ctrl-C.
pub(crate) fn busy(busy: bool) {
    BUSY.store(busy, Ordering::SeqCst);
    REQUESTED.store(false, Ordering::SeqCst);
}
