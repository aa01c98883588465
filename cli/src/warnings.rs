//! What the library warns about, on standard error: above a progress bar, and not a thousand times.

use std::io::{Result, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// So many are shown, and the others counted.
const SHOWN: usize = 10;

static SEEN: AtomicUsize = AtomicUsize::new(0);

/// Shows warnings from here on. `ATTUNE_LOG` asks for more, in the form of `tracing`'s filters: `debug`, `attune=trace`.
pub(crate) fn show() {
    let filter = EnvFilter::try_from_env("ATTUNE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let all = std::env::var_os("ATTUNE_LOG").is_some();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).without_time().with_target(all).with_ansi(false).with_level(all);
    // A second subscriber cannot be: this is the program's only one.
    let _ = subscriber.with_writer(Above { all }).try_init();
}

/// Says how many warnings were not shown.
pub(crate) fn count() {
    let more = SEEN.load(Ordering::Relaxed).saturating_sub(SHOWN);
    if more > 0 {
        eprintln!("warning: and {more} more; ATTUNE_LOG=warn shows all");
    }
}

struct Above {
    all: bool,
}

struct Line {
    text: Vec<u8>,
    all: bool,
}

impl<'a> MakeWriter<'a> for Above {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { text: Vec::new(), all: self.all }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if self.all {
            crate::progress::above(|| eprintln!("{text}"));
        } else if SEEN.fetch_add(1, Ordering::Relaxed) < SHOWN {
            crate::progress::above(|| eprintln!("warning: {text}"));
        }
    }
}
