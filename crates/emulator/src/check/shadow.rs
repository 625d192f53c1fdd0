//! What blocks of a launch did to an allocation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::history::{Clash, LINE, Line};
use super::location::Location;

/// Bytes under one lock.
const PAGE: u64 = 4096;
/// Accesses that a cell remembers. Of a place that every block reads, any few readers are as good as all.
const CAP: usize = 8;

/// The history of an allocation, kept beside it: nothing until a checked kernel touches it.
#[derive(Debug, Default)]
pub struct Shadow {
    pages: OnceLock<Box<[Mutex<Page>]>>,
    locations: Arc<Locations>,
}

/// The history of a page in one launch. Launches are ordered, so that a new one starts with nothing.
#[derive(Debug, Default)]
struct Page {
    launch: u64,
    lines: Vec<Line>,
}

impl Shadow {
    /// Lets `touch` see, one after the other, the lines of `len` bytes from `offset` of an allocation of `bytes`, with the part
    /// of each that is meant, from and to.
    pub(super) fn visit(
        &self,
        bytes: u64,
        launch: u64,
        offset: u64,
        len: u64,
        mut touch: impl FnMut(u64, &mut Line, u32, u32) -> Result<(), Clash>,
    ) -> Result<(), Clash> {
        let pages = self.pages.get_or_init(|| (0..bytes.div_ceil(PAGE)).map(|_| Mutex::default()).collect());
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let mut page = lock(&pages[(at / PAGE) as usize]);
            if page.launch != launch {
                page.launch = launch;
                page.lines.clear();
            }
            page.lines.resize_with((PAGE / u64::from(LINE)) as usize, Line::default);
            let stop = end.min((at / PAGE + 1) * PAGE);
            while at < stop {
                let low = (at % u64::from(LINE)) as u32;
                let high = (stop - at).min(u64::from(LINE - low)) as u32 + low;
                touch(at, &mut page.lines[(at % PAGE / u64::from(LINE)) as usize], low, high)?;
                at += u64::from(high - low);
            }
        }
        Ok(())
    }

    /// The places in it at which threads synchronise.
    pub(super) fn locations(&self) -> &Arc<Locations> {
        &self.locations
    }

    /// Of a cell of this memory: how many accesses it remembers.
    pub(super) const CAP: usize = CAP;
}

/// What was released at places of an allocation, in one launch.
#[derive(Debug, Default)]
pub(super) struct Locations {
    used: AtomicBool,
    table: Mutex<(u64, HashMap<u64, Location>)>,
}

impl Locations {
    /// The table of a launch; `None` where nothing was ever released.
    pub(super) fn read(&self, launch: u64, see: impl FnOnce(&mut HashMap<u64, Location>)) {
        if self.used.load(Ordering::Acquire) {
            self.write(launch, see);
        }
    }

    /// The table of a launch.
    pub(super) fn write(&self, launch: u64, change: impl FnOnce(&mut HashMap<u64, Location>)) {
        let mut table = lock(&self.table);
        if table.0 != launch {
            *table = (launch, HashMap::new());
        }
        self.used.store(true, Ordering::Release);
        change(&mut table.1);
    }
}

/// The checker's own state is consistent between any two of its steps, whatever panicked elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
