//! Memory of the caller's, in place of ours; and how much memory the process really has, to hold against a plan.
#![allow(unsafe_code)]

use crate::error::Result;
use attune_core::arena::{ALIGN, Region};
use attune_cpu::CpuTarget;

/// Memory that the caller gives for the regions of a session or a tuner, from an address on that is a multiple of
/// [`ALIGN`].
#[derive(Debug)]
pub struct Given {
    start: *mut u8,
    bytes: usize,
    used: usize,
}

// SAFETY: nobody else reaches the memory, by the promise of `Given::new`.
unsafe impl Send for Given {}
// SAFETY: `&Given` gives out nothing.
unsafe impl Sync for Given {}

impl Given {
    /// Takes over memory.
    ///
    /// # Errors
    /// [`attune_core::Error::Misaligned`].
    ///
    /// # Safety
    /// It is valid for reads and writes, and nobody else reaches it, until what is made in it is dropped.
    pub unsafe fn new(start: *mut u8, bytes: usize) -> Result<Given> {
        if !start.addr().is_multiple_of(ALIGN) {
            return Err(attune_core::Error::Misaligned { region: Region::WORK, needs: ALIGN }.into());
        }
        Ok(Given { start, bytes, used: 0 })
    }

    /// Bytes that regions of these sizes take.
    pub(crate) fn needs(regions: &[usize]) -> u64 {
        regions.iter().map(|&bytes| bytes.next_multiple_of(ALIGN) as u64).sum()
    }

    /// Checks that there is room for all of them, before the first is taken.
    pub(crate) fn check(&self, regions: &[usize]) -> Result<()> {
        let needs = Self::needs(regions);
        if needs <= self.bytes as u64 {
            return Ok(());
        }
        Err(attune_core::Error::TooSmall { region: Region::WORK, needs: usize::try_from(needs).unwrap_or(usize::MAX), found: self.bytes }
            .into())
    }

    fn take(&mut self, target: &mut CpuTarget, region: Region, bytes: usize) -> Result<()> {
        let found = self.bytes - self.used;
        if bytes > found {
            return Err(attune_core::Error::TooSmall { region, needs: bytes, found }.into());
        }
        // SAFETY: within the memory, behind what was taken before; nobody else reaches it by the promise of `new`, and who holds the target keeps that.
        unsafe { attune_cpu::take_given(target, region, self.start.add(self.used), bytes)? };
        self.used = (self.used + bytes.next_multiple_of(ALIGN)).min(self.bytes);
        Ok(())
    }
}

/// Memory for a region: of the caller's, where there is some, or of the system's.
pub(crate) fn take(given: Option<&mut Given>, target: &mut CpuTarget, region: Region, bytes: usize) -> Result<()> {
    match given {
        Some(given) => given.take(target, region, bytes),
        None => Ok(attune_cpu::take(target, region, bytes)?),
    }
}

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
