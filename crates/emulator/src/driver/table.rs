//! Which handles exist.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::abi::Handle;
use super::entry::refuse;
use super::{Code, Driver, Result, driver};

/// Something that programs hold by a handle.
pub(super) trait Object: Sized + 'static {
    /// What it is, in words.
    const WHAT: &'static str;
    /// Where its kind is kept.
    fn table(driver: &Driver) -> &Table<Self>;
}

/// The objects of a kind, by handle. Numbers are never given out twice, so that a handle whose object is gone stays invalid.
#[derive(Debug)]
pub(super) struct Table<T> {
    kind: usize,
    rows: Mutex<Rows<T>>,
}

#[derive(Debug)]
struct Rows<T> {
    given: usize,
    live: BTreeMap<usize, Arc<T>>,
}

/// Locks, whatever a panic left behind: no entry point leaves a half-made change behind it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Object> Table<T> {
    /// A table of a kind of its own, 1 to 255.
    pub(super) const fn new(kind: usize) -> Table<T> {
        Table { kind, rows: Mutex::new(Rows { given: 0, live: BTreeMap::new() }) }
    }

    /// Adds an object.
    pub(super) fn insert(&self, object: T) -> Handle<T> {
        self.insert_with(|_| object).0
    }

    /// Adds an object that knows its handle.
    pub(super) fn insert_with(&self, make: impl FnOnce(Handle<T>) -> T) -> (Handle<T>, Arc<T>) {
        let mut rows = lock(&self.rows);
        rows.given += 1;
        // No pointer of a program looks like this: bits 48 to 55 are neither all 0 nor all 1.
        let number = self.kind << 48 | rows.given << 4;
        let object = Arc::new(make(Handle::new(number)));
        rows.live.insert(number, Arc::clone(&object));
        (Handle::new(number), object)
    }

    /// The object of a handle.
    pub(super) fn find(&self, handle: Handle<T>) -> Option<Arc<T>> {
        lock(&self.rows).live.get(&handle.number()).cloned()
    }

    /// Takes it out.
    pub(super) fn remove(&self, handle: Handle<T>) -> Result<Arc<T>> {
        lock(&self.rows).live.remove(&handle.number()).ok_or_else(|| invalid(handle))
    }

    /// Takes it out, if it is there.
    pub(super) fn take(&self, handle: Handle<T>) -> Option<Arc<T>> {
        lock(&self.rows).live.remove(&handle.number())
    }

    /// Takes out all for which `gone` holds.
    pub(super) fn remove_where(&self, gone: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut rows = lock(&self.rows);
        let handles: Vec<usize> =
            rows.live.iter().filter(|(_, object)| gone(object)).map(|(handle, _)| *handle).collect();
        handles.iter().filter_map(|handle| rows.live.remove(handle)).collect()
    }
}

impl<T: Object> Handle<T> {
    /// Its object.
    pub(super) fn get(self) -> Result<Arc<T>> {
        T::table(driver()?).find(self).ok_or_else(|| invalid(self))
    }
}

fn invalid<T: Object>(handle: Handle<T>) -> Code {
    let what = T::WHAT;
    match handle.is_null() {
        true => refuse(Code::INVALID_HANDLE, format_args!("the {what} is NULL")),
        false => refuse(Code::INVALID_HANDLE, format_args!("{handle:?} is no {what}, or one that is gone")),
    }
}
