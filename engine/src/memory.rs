//! How much memory the process really has, to hold against a plan.

/// Bytes of anonymous memory that are resident now: what the process itself has taken, without mapped files. `None` where the system does not say.
#[must_use]
pub fn resident_anonymous() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Watches the process's anonymous memory from a starting point on.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    start: Option<u64>,
    peak: u64,
}

impl Meter {
    /// Starts at what is resident now.
    #[must_use]
    pub fn start() -> Meter {
        Meter { start: resident_anonymous(), peak: 0 }
    }

    /// Looks again.
    pub fn sample(&mut self) {
        if let (Some(start), Some(now)) = (self.start, resident_anonymous()) {
            self.peak = self.peak.max(now.saturating_sub(start));
        }
    }

    /// The most that was resident above the start, whenever it was looked; `None` where the system does not say.
    #[must_use]
    pub fn peak(&self) -> Option<u64> {
        self.start.map(|_| self.peak)
    }
}

/// Bytes of this process that are resident now without the pages of `file`, which it has mapped. `None` where the system does not say.
#[must_use]
pub fn resident_without(file: &std::path::Path) -> Option<u64> {
    let file = file.canonicalize().ok()?;
    let maps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let (mut counts, mut kib) = (true, 0);
    for line in maps.lines() {
        if let Some(rss) = line.strip_prefix("Rss:") {
            kib += if counts { rss.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? } else { 0 };
        } else if line.split_ascii_whitespace().next().is_some_and(|first| !first.ends_with(':')) {
            // Addresses, permissions, offset, device, inode, path: the head of a mapping.
            counts = line.find('/').and_then(|at| line.get(at..)).is_none_or(|path| std::path::Path::new(path) != file);
        }
    }
    Some(kib * 1024)
}
