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
