//! The backend's threads: one fixed team, which shares out the tasks of one job at a time.
//!
//! A training step is hundreds of jobs of a millisecond or less, so handing one over must cost microseconds and no
//! allocation: the job is a borrowed closure, tasks are claimed from a counter, and a worker that has just finished
//! looks out for the next job for a moment before it sleeps.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// How often an idle worker looks for a job before it sleeps: some 50 µs.
const LOOKS: usize = 2000;

/// What is run: worker and task.
type Job = dyn Fn(usize, usize) + Sync;

/// A team of threads, the caller's among them.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Number of the job (upper 32 bits), workers busy with it, and whether it is open to more (lowest bit).
    gate: AtomicU64,
    /// The open job; written only while the gate is closed and nobody is busy.
    job: UnsafeCell<Option<&'static Job>>,
    tasks: AtomicUsize,
    next: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    asleep: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `job` is written by `run` alone, which holds `&mut Threads`, while the gate is closed and nobody is busy; it
// is read only between passing the gate and leaving it.
unsafe impl Sync for Shared {}

const OPEN: u64 = 1;
const BUSY: u64 = 2;
const NUMBER: u64 = 1 << 32;

impl Threads {
    /// A team of `count` threads; 0 asks for one per core.
    ///
    /// # Errors
    /// What the system says when it will not start a thread.
    pub fn new(count: usize) -> std::io::Result<Self> {
        let count = match count {
            0 => std::thread::available_parallelism()?.get(),
            count => count,
        };
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            tasks: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            asleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        // Built first, so that an error half-way stops the workers that have started.
        let mut threads = Threads { shared, workers: Vec::with_capacity(count - 1) };
        for worker in 1..count {
            let shared = threads.shared.clone();
            let builder = std::thread::Builder::new().name(format!("wikigpt-cpu-{worker}"));
            threads.workers.push(builder.spawn(move || shared.work(worker))?);
        }
        Ok(threads)
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(worker, task)` for every task below `tasks`, in any order, and returns when all are done. At one
    /// time a worker (numbered from 0, the caller) runs one task.
    ///
    /// # Panics
    /// When a task panicked.
    pub fn run(&mut self, tasks: usize, job: impl Fn(usize, usize) + Sync) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(|task| job(0, task));
            return;
        }
        let shared = &*self.shared;
        let job: &(dyn Fn(usize, usize) + Sync) = &job;
        // SAFETY: only the lifetime is changed. Workers reach the job through the gate, and below the gate is closed and
        // everybody has left it before this function returns or unwinds, so nobody uses the job after it is gone.
        let job = unsafe { std::mem::transmute::<&(dyn Fn(usize, usize) + Sync), &'static Job>(job) };
        // SAFETY: the last `run` left the gate closed and nobody busy, so nobody reads the job now.
        unsafe { *shared.job.get() = Some(job) };
        shared.tasks.store(tasks, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        let number = (shared.gate.load(Ordering::Relaxed) & !(NUMBER - 1)).wrapping_add(NUMBER);
        // Sequentially consistent with the sleepers' count: either a worker sees the open gate, or it is seen asleep.
        shared.gate.store(number | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            shared.rouse();
        }
        let own = catch_unwind(AssertUnwindSafe(|| shared.claim(0, job)));
        shared.gate.fetch_and(!OPEN, Ordering::Acquire);
        let mut looks = 0;
        while shared.gate.load(Ordering::Acquire) != number {
            looks += 1;
            if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if let Err(panic) = own {
            shared.panicked.store(false, Ordering::Relaxed);
            resume_unwind(panic);
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a worker thread panicked");
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.rouse();
        for worker in self.workers.drain(..) {
            // A worker catches its jobs' panics, so there is none to report.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Wakes every sleeping worker.
    fn rouse(&self) {
        let _held = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.wake.notify_all();
    }

    /// A worker's life.
    fn work(&self, worker: usize) {
        let mut last = 0;
        while self.wait(last) {
            let gate = self.gate.load(Ordering::Relaxed);
            let passed = gate & OPEN != 0
                && self
                    .gate
                    .compare_exchange(gate, gate + BUSY, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok();
            if !passed {
                continue;
            }
            last = gate & !(NUMBER - 1);
            // SAFETY: passing the gate acquired what `run` wrote before opening it, and it does not write again before
            // this worker has left.
            let job = unsafe { *self.job.get() };
            if let Some(job) = job
                && catch_unwind(AssertUnwindSafe(|| self.claim(worker, job))).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.gate.fetch_sub(BUSY, Ordering::Release);
        }
    }

    /// Waits for a job other than `last`; false when there will be none.
    fn wait(&self, last: u64) -> bool {
        let due = || {
            let gate = self.gate.load(Ordering::SeqCst);
            self.stop.load(Ordering::SeqCst) || (gate & OPEN != 0 && gate & !(NUMBER - 1) != last)
        };
        for _ in 0..LOOKS {
            if due() {
                return !self.stop.load(Ordering::SeqCst);
            }
            std::hint::spin_loop();
        }
        let mut held = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !due() {
            held = self.wake.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        !self.stop.load(Ordering::SeqCst)
    }

    /// Runs tasks until none is left.
    fn claim(&self, worker: usize, job: &Job) {
        let tasks = self.tasks.load(Ordering::Relaxed);
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                return;
            }
            job(worker, task);
        }
    }
}

/// A slice that tasks write in parts.
#[derive(Clone, Copy)]
pub struct Parts<'a, T = f32> {
    start: *mut T,
    len: usize,
    life: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: a `Parts` stands for an exclusive borrow of elements that may be sent to any thread; who calls `part` keeps the parts
// in use at one time apart.
unsafe impl<T: Send> Send for Parts<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Takes a slice to be handed out in parts.
    pub fn new(slice: &'a mut [T]) -> Self {
        Parts { start: slice.as_mut_ptr(), len: slice.len(), life: std::marker::PhantomData }
    }

    /// `len` elements from `start` on.
    ///
    /// # Panics
    /// If they do not lie inside the slice.
    ///
    /// # Safety
    /// No other part that is in use meanwhile may share an element with this one.
    #[allow(clippy::mut_from_ref)] // the point of the type: the caller keeps parts disjoint
    pub unsafe fn part(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a part reaches past its slice");
        // SAFETY: inside the borrowed slice, as just checked; the caller keeps parts disjoint.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// The first of `rows` rows of `cols` elements, `stride` apart: to be written by pointer, for what lies between the rows
    /// may be somebody else's.
    ///
    /// # Panics
    /// If they do not lie inside the slice.
    pub fn block(&self, start: usize, rows: usize, stride: usize, cols: usize) -> *mut T {
        assert!(rows > 0 && start + (rows - 1) * stride + cols <= self.len, "a block reaches past its slice");
        self.start.wrapping_add(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every task once, by workers that exist, over many jobs of many sizes.
    #[test]
    fn each_task_runs_once() {
        for count in [1, 2, 3, 8] {
            let mut threads = Threads::new(count).unwrap();
            assert_eq!(threads.count(), count);
            for tasks in [0, 1, 2, 7, 100].into_iter().cycle().take(2000) {
                let done: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                threads.run(tasks, |worker, task| {
                    assert!(worker < count);
                    done[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|d| d.load(Ordering::Relaxed) == 1));
            }
        }
    }

    /// A job after the workers have fallen asleep finds them again.
    #[test]
    fn sleepers_wake() {
        let mut threads = Threads::new(2).unwrap();
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            // Each of the two tasks waits for the other: one thread alone would never finish.
            let met = std::sync::Barrier::new(2);
            threads.run(2, |_, _| {
                met.wait();
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_survives() {
        let mut threads = Threads::new(3).unwrap();
        for bad in [0, 5, 63] {
            let run = AssertUnwindSafe(|| threads.run(64, |_, task| assert_ne!(task, bad)));
            assert!(catch_unwind(run).is_err());
            let total = AtomicUsize::new(0);
            threads.run(64, |_, task| {
                total.fetch_add(task, Ordering::Relaxed);
            });
            assert_eq!(total.into_inner(), 63 * 64 / 2);
        }
    }
}
