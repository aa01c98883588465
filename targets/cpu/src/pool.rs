//! Worker threads, made once and asleep between runs.
//!
//! A run is opened at a *gate*: one atomic word with the run's number, an `OPEN` bit and a count of workers inside. Workers that come while the gate
//! is open count themselves in and take pieces: those of their own share first, then what is left of others'. The caller works too, closes the gate when the pieces are
//! used up, and waits for those inside. A thread's share is the same part of every run, so that what it wrote in one run is still in its cache for the next. A worker that wakes too late finds the gate closed and goes back to sleep: nobody waits for it, so that more threads
//! than cores cost little. Nothing is allocated in a run.
#![allow(unsafe_code)]

use crate::Error;
use attune_core::target::split::Executor;
use core::any::Any;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::io;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};

/// Turns in a loop before a worker sleeps while nobody holds the pool: a few microseconds.
const IDLE_SPINS: u32 = 60;
/// The same within a step, and of a caller who waits for others: some tens of microseconds, longer than most gaps between two operations.
const SPINS: u32 = 1000;

/// More threads than any processor runs: a slip of the finger, which the system would take minutes to refuse.
const MOST_THREADS: usize = 4096;

const OPEN: u64 = 1 << 31;
const QUIT: u64 = 1 << 30;
const INSIDE: u64 = QUIT - 1;
const RUN: u64 = 1 << 32;

type Work = *const (dyn Fn(usize) + Sync);

/// What a run is about; written while the gate is closed and nobody is inside.
struct Job {
    work: Option<Work>,
    pieces: usize,
    caller: Option<Thread>,
}

/// The first piece of a share that nobody has taken, on a line of its own.
#[repr(align(128))]
struct Next(AtomicUsize);

struct Shared {
    gate: AtomicU64,
    /// For each thread, the caller first.
    next: Box<[Next]>,
    job: UnsafeCell<Job>,
    asleep: Box<[AtomicBool]>,
    /// Workers that have begun to serve.
    begun: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Steps that are running: see [`Pool::hold`].
    held: AtomicUsize,
    /// Whether a thread that spins takes nobody's core.
    spin: bool,
}

// SAFETY: `job` is written only by the one caller that holds `busy`, while the gate is closed with nobody inside, and read only by threads
// inside; the gate's acquire and release operations order the two. The work it points to is `Sync` and outlives the run (see `run`).
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// Threads that share pieces of work.
///
/// Shareable between targets: two runs at once do not wait for each other; the second is done by its caller alone, with the same
/// results, since results depend on pieces only. The same holds for a run that is started from within a piece.
pub struct Pool {
    shared: Arc<Shared>,
    busy: AtomicBool,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's included; 0 means as many as the processor runs at once. With 1 no thread is made.
    ///
    /// # Errors
    /// [`Error::Threads`] where the system refuses.
    pub fn new(threads: usize) -> Result<Pool, Error> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { cores } else { threads };
        if threads > MOST_THREADS {
            let reason = format!("expected at most {MOST_THREADS}; 0 takes as many as the processor runs at once");
            return Err(Error::Threads { asked: threads, source: io::Error::new(io::ErrorKind::InvalidInput, reason) });
        }
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            next: (0..threads).map(|_| Next(AtomicUsize::new(0))).collect(),
            job: UnsafeCell::new(Job { work: None, pieces: 0, caller: None }),
            asleep: (1..threads).map(|_| AtomicBool::new(false)).collect(),
            begun: AtomicUsize::new(0),
            panic: Mutex::new(None),
            held: AtomicUsize::new(0),
            // Spinning takes a core away from someone who could work where there are more threads than cores.
            spin: threads <= cores,
        });
        let mut pool = Pool { shared, busy: AtomicBool::new(false), workers: Vec::with_capacity(threads - 1) };
        for index in 0..threads - 1 {
            let shared = Arc::clone(&pool.shared);
            let made = thread::Builder::new().name(format!("attune-{}", index + 1)).spawn(move || shared.serve(index));
            // The workers made so far end when the pool is dropped.
            pool.workers.push(made.map_err(|source| Error::Threads { asked: threads, source })?);
        }
        // A thread allocates while it comes up; whoever has a pool shall see nothing of that in the middle of a run.
        while pool.shared.begun.load(Ordering::Acquire) < pool.workers.len() {
            thread::yield_now();
        }
        Ok(pool)
    }

    /// Threads that work in a run, the caller's included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with every number below `pieces` and returns when all are done.
    ///
    /// # Panics
    /// With the panic of a piece, if one panics: the rest of the pieces is dropped, and the pool is good for further runs.
    pub fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        let alone = pieces <= 1 || self.workers.is_empty();
        if alone || self.busy.swap(true, Ordering::Acquire) {
            return (0..pieces).for_each(work);
        }
        self.open(pieces, work);
        let result = catch_unwind(AssertUnwindSafe(|| self.shared.work_off(0, work, pieces)));
        if result.is_err() {
            self.shared.drop_rest(pieces);
        }
        self.shared.close();
        let other = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.busy.store(false, Ordering::Release);
        match (result, other) {
            (Err(payload), _) | (Ok(()), Some(payload)) => resume_unwind(payload),
            (Ok(()), None) => (),
        }
    }

    /// A step begins, or is over: only between the runs of a step do workers stay awake for longer than a few microseconds. Every call with `true` needs one
    /// with `false`.
    pub fn hold(&self, on: bool) {
        if on {
            self.shared.held.fetch_add(1, Ordering::Relaxed);
        } else {
            self.shared.held.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets workers in, and wakes as many as there are pieces for.
    fn open(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Workers call it only while they are inside the gate, and `run` returns, by whatever way, only after
        // `close` has seen the last of them leave.
        let work: Work = unsafe { core::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Work>(work) };
        // SAFETY: this caller holds `busy`, and the gate is closed with nobody inside: see `Shared`.
        unsafe { *shared.job.get() = Job { work: Some(work), pieces, caller: Some(thread::current()) } };
        for (i, next) in shared.next.iter().enumerate() {
            next.0.store(shared.share(i, pieces).start, Ordering::Relaxed);
        }
        shared.gate.fetch_add(RUN | OPEN, Ordering::SeqCst);
        for (flag, worker) in shared.asleep.iter().zip(&self.workers).take(pieces - 1) {
            // Pairs with the worker's order: flag up, then look at the gate.
            if flag.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }
}

impl Executor for Pool {
    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        Pool::run(self, pieces, work);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.gate.fetch_or(QUIT, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its pieces, so there is nothing to learn from how it ended.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The pieces that are a thread's own.
    fn share(&self, thread: usize, pieces: usize) -> Range<usize> {
        let threads = self.next.len();
        thread * pieces / threads..(thread + 1) * pieces / threads
    }

    /// Takes pieces until there are none: a thread's own, then those of the thread after it, and so on.
    fn work_off(&self, thread: usize, work: &(dyn Fn(usize) + Sync), pieces: usize) {
        let threads = self.next.len();
        for owner in (thread..threads).chain(0..thread) {
            let (Some(next), end) = (self.next.get(owner), self.share(owner, pieces).end) else { return };
            loop {
                // Looking first keeps a used-up counter from growing with every run of a thread that finds nothing.
                if next.0.load(Ordering::Relaxed) >= end {
                    break;
                }
                let piece = next.0.fetch_add(1, Ordering::Relaxed);
                if piece >= end {
                    break;
                }
                work(piece);
            }
        }
    }

    /// Leaves nothing to take.
    fn drop_rest(&self, pieces: usize) {
        self.next.iter().for_each(|next| next.0.store(pieces, Ordering::Relaxed));
    }

    /// Lets nobody in any more and waits for those inside.
    fn close(&self) {
        let mut gate = self.gate.fetch_and(!OPEN, Ordering::AcqRel) & !OPEN;
        let mut spins = 0;
        while gate & INSIDE > 0 {
            if self.spin && spins < SPINS {
                spins += 1;
                core::hint::spin_loop();
            } else {
                thread::park();
            }
            gate = self.gate.load(Ordering::Acquire);
        }
    }

    /// A worker's life.
    fn serve(&self, index: usize) {
        self.begun.fetch_add(1, Ordering::Release);
        let mut last = 0;
        let mut spins = 0;
        loop {
            let gate = self.gate.load(Ordering::Acquire);
            if gate & QUIT > 0 {
                return;
            }
            if gate & OPEN > 0 && gate / RUN != last {
                if self.gate.compare_exchange_weak(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    last = gate / RUN;
                    spins = 0;
                    self.serve_run(index);
                }
            } else if self.spin && (spins < IDLE_SPINS || spins < SPINS && self.held.load(Ordering::Relaxed) > 0) {
                spins += 1;
                core::hint::spin_loop();
            } else {
                self.sleep(index, last);
                spins = 0;
            }
        }
    }

    /// One run, from inside the gate.
    fn serve_run(&self, index: usize) {
        // SAFETY: inside the gate, so the job is not written: see `Shared`.
        let job = unsafe { &*self.job.get() };
        let caller = job.caller.clone();
        if let Some(work) = job.work {
            // SAFETY: the work lives until the last worker has left the gate: see `open`.
            let work = unsafe { &*work };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.work_off(index + 1, work, job.pieces))) {
                self.drop_rest(job.pieces);
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
            }
        }
        // From here on nothing of the job may be touched.
        let gate = self.gate.fetch_sub(1, Ordering::AcqRel) - 1;
        if gate & (OPEN | INSIDE) == 0
            && let Some(caller) = caller
        {
            caller.unpark();
        }
    }

    fn sleep(&self, index: usize, last: u64) {
        let Some(flag) = self.asleep.get(index) else { return };
        flag.store(true, Ordering::SeqCst);
        let gate = self.gate.load(Ordering::SeqCst);
        if gate & QUIT == 0 && (gate & OPEN == 0 || gate / RUN == last) {
            thread::park();
        }
        flag.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn counts(pool: &Pool, pieces: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
        pool.run(pieces, &|i| {
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_piece_runs_once_with_any_number_of_threads() {
        for threads in [1, 2, 3, 4, 16] {
            let pool = Pool::new(threads).unwrap();
            assert_eq!(pool.threads(), threads);
            for round in 0..200 {
                let pieces = round % 37;
                assert!(counts(&pool, pieces).iter().all(|&n| n == 1), "{threads} threads, {pieces} pieces");
            }
        }
    }

    #[test]
    fn absurdly_many_threads_are_refused_at_once() {
        let error = Pool::new(100_000_000).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Threads { asked: 100_000_000, .. }), "{error}");
    }

    #[test]
    fn workers_that_sleep_wake_up_again() {
        let pool = Pool::new(4).unwrap();
        for _ in 0..20 {
            thread::sleep(core::time::Duration::from_millis(2));
            assert!(counts(&pool, 64).iter().all(|&n| n == 1));
        }
    }

    #[test]
    fn workers_sleep_between_steps_and_within_long_ones() {
        let pool = Pool::new(3).unwrap();
        for held in [false, true, false] {
            if held {
                pool.hold(true);
            }
            assert!(counts(&pool, 64).iter().all(|&n| n == 1));
            thread::sleep(core::time::Duration::from_millis(100));
            assert!(pool.shared.asleep.iter().all(|asleep| asleep.load(Ordering::SeqCst)), "held: {held}");
            if held {
                pool.hold(false);
            }
        }
        assert_eq!(pool.shared.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_panic_in_a_piece_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3).unwrap();
        for guilty in [0, 5, 63] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(64, &|i| {
                    thread::sleep(core::time::Duration::from_micros(50));
                    assert!(i != guilty, "piece {guilty}");
                });
            }));
            let payload = result.unwrap_err();
            assert_eq!(payload.downcast_ref::<String>().unwrap(), &format!("piece {guilty}"));
            assert!(counts(&pool, 64).iter().all(|&n| n == 1));
        }
    }

    #[test]
    fn runs_within_runs_and_beside_runs_end() {
        let pool = Pool::new(3).unwrap();
        let inner = AtomicUsize::new(0);
        pool.run(8, &|_| {
            pool.run(8, &|_| {
                inner.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(inner.into_inner(), 64);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..500).for_each(|_| assert!(counts(&pool, 9).iter().all(|&n| n == 1))));
            }
        });
    }

    #[test]
    fn a_thread_begins_with_its_own_share_and_helps_others_then() {
        let pool = Pool::new(2).unwrap();
        let caller = thread::current().id();
        let order = Mutex::new(Vec::new());
        // The caller's first piece takes so long that the other thread does all the rest.
        pool.run(8, &|i| {
            if thread::current().id() == caller {
                thread::sleep(core::time::Duration::from_millis(200));
            }
            order.lock().unwrap().push((thread::current().id() == caller, i));
        });
        let order = order.into_inner().unwrap();
        let other: Vec<usize> = order.iter().filter(|(mine, _)| !mine).map(|(_, i)| *i).collect();
        assert_eq!(order.iter().filter(|(mine, _)| *mine).collect::<Vec<_>>(), [&(true, 0)]);
        assert_eq!(other, [4, 5, 6, 7, 1, 2, 3]);
    }

    #[test]
    fn pieces_are_shared_between_threads() {
        let pool = Pool::new(2).unwrap();
        let names = Mutex::new(std::collections::HashSet::new());
        pool.run(200, &|_| {
            thread::sleep(core::time::Duration::from_micros(200));
            names.lock().unwrap().insert(thread::current().id());
        });
        assert_eq!(names.into_inner().unwrap().len(), 2);
    }
}
