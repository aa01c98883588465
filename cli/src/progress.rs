//! Progress bars on standard error: only in a terminal, never beside JSON.

use crate::output::Output;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::Duration;

/// All bars, so that other lines can be written above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Writes something to standard error without tearing a bar.
pub(crate) fn above(write: impl FnOnce()) {
    BARS.suspend(write);
}

/// A bar.
pub(crate) struct Progress {
    bar: ProgressBar,
    total: u64,
}

impl Progress {
    /// A bar of so many steps, named in front.
    pub(crate) fn new(out: &Output, name: &'static str, total: u64) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if !out.json && !out.quiet && std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            let bar = BARS.add(bar);
            let style = ProgressStyle::with_template("{prefix:<10} {bar:24} {pos}/{len}  {wide_msg} {elapsed} (left {eta})");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉▊▋▌▍▎▏ "));
            bar.set_prefix(name);
            bar.enable_steady_tick(Duration::from_millis(500));
            return Progress { bar, total };
        }
        Progress { bar, total }
    }

    /// So many steps are done.
    pub(crate) fn at(&self, done: u64) {
        self.bar.set_position(done.min(self.total));
    }

    /// A resumed run begins here: what was done before says nothing about the time left.
    pub(crate) fn begin_at(&self, done: u64) {
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    /// What stands behind the bar.
    pub(crate) fn say(&self, message: String) {
        self.bar.set_message(message);
    }

    /// Whether anybody sees it.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        BARS.remove(&self.bar);
    }
}
