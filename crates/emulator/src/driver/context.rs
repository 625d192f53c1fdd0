//! Contexts: what belongs to them, which one a thread works in, and the fault that ends one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::abi::{Handle, In, Out};
use super::device::{Ordinal, check};
use super::entry::{entries, refuse};
use super::stream::Stream;
use super::table::{Object, Table, lock};
use super::{Code, Driver, Result, driver};

/// A context.
#[derive(Debug)]
pub(super) struct Context {
    /// Its handle.
    pub handle: Handle<Context>,
    /// Its number, which no other ever has.
    pub id: u64,
    primary: bool,
    flags: AtomicU32,
    cache_config: AtomicU32,
    fault: Mutex<Health>,
    limits: Mutex<BTreeMap<c_uint, usize>>,
    /// The streams `CU_STREAM_PER_THREAD`.
    pub per_thread: Mutex<BTreeMap<ThreadKey, Arc<Stream>>>,
}

/// A thread, as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ThreadKey(u64);

impl ThreadKey {
    /// This thread's.
    pub(super) fn current() -> ThreadKey {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        thread_local! {
            static KEY: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        ThreadKey(KEY.with(|key| *key))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    /// A kernel failed; no call that synchronises has come since.
    Pending(Code),
    /// The program has been told.
    Failed(Code),
}

impl Object for Context {
    const WHAT: &'static str = "context";

    fn table(driver: &Driver) -> &Table<Context> {
        &driver.contexts
    }
}

impl Context {
    /// The code of a fault that the program has been told.
    fn check(&self) -> Result<()> {
        match *lock(&self.fault) {
            Health::Failed(code) => Err(code),
            Health::Well | Health::Pending(_) => Ok(()),
        }
    }

    /// Whether a kernel has failed: then nothing runs any more.
    pub(super) fn has_failed(&self) -> bool {
        *lock(&self.fault) != Health::Well
    }

    /// A kernel failed.
    pub(super) fn fail(&self, code: Code) {
        let mut health = lock(&self.fault);
        if *health == Health::Well {
            *health = Health::Pending(code);
        }
    }

    /// What every call that waits for the device does: tells of a fault.
    pub(super) fn synchronize(&self) -> Result<()> {
        let mut health = lock(&self.fault);
        match *health {
            Health::Well => Ok(()),
            Health::Pending(code) | Health::Failed(code) => {
                *health = Health::Failed(code);
                Err(code)
            }
        }
    }
}

/// The primary context and how often it was retained.
#[derive(Debug, Default)]
pub(super) struct Primary {
    context: Option<Arc<Context>>,
    retained: usize,
    flags: u32,
}

thread_local! {
    /// The contexts of this thread, the current one last.
    static STACK: RefCell<Vec<Handle<Context>>> = const { RefCell::new(Vec::new()) };
}

const FLAGS: c_uint = 0xff;
const SCHEDULING: c_uint = 7;

/// The current context of this thread, unless a fault has ended it.
pub(super) fn current() -> Result<Arc<Context>> {
    let context = current_even_if_failed()?;
    context.check()?;
    Ok(context)
}

/// The current context of this thread.
pub(super) fn current_even_if_failed() -> Result<Arc<Context>> {
    let driver = driver()?;
    let top = STACK.with_borrow(|stack| stack.last().copied()).unwrap_or(Handle::NULL);
    if top.is_null() {
        return Err(refuse(Code::INVALID_CONTEXT, "this thread has no current context"));
    }
    driver
        .contexts
        .find(top)
        .ok_or_else(|| refuse(Code::CONTEXT_IS_DESTROYED, "the current context of this thread was destroyed"))
}

/// A context given by its handle, which must exist: NULL is the current one.
fn named(context: Handle<Context>) -> Result<Arc<Context>> {
    let found = if context.is_null() { current_even_if_failed()? } else { existing(context)? };
    found.check()?;
    Ok(found)
}

/// A context given by its handle, unless a fault has ended it.
pub(super) fn healthy(context: Handle<Context>) -> Result<Arc<Context>> {
    let found = existing(context)?;
    found.check()?;
    Ok(found)
}

fn existing(context: Handle<Context>) -> Result<Arc<Context>> {
    driver()?.contexts.find(context).ok_or_else(|| {
        refuse(Code::INVALID_CONTEXT, format_args!("{context:?} is no context, or one that was destroyed"))
    })
}

fn check_flags(flags: c_uint) -> Result<()> {
    if flags & !FLAGS != 0 || !matches!(flags & SCHEDULING, 0 | 1 | 2 | 4) {
        return Err(refuse(Code::INVALID_VALUE, format_args!("context flags {flags:#x} are not known")));
    }
    Ok(())
}

fn create(driver: &Driver, flags: c_uint, primary: bool) -> Arc<Context> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let (_, context) = driver.contexts.insert_with(|handle| Context {
        handle,
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        primary,
        flags: AtomicU32::new(flags),
        cache_config: AtomicU32::new(0),
        fault: Mutex::new(Health::Well),
        limits: Mutex::default(),
        per_thread: Mutex::default(),
    });
    context
}

/// Creates a context and makes it this thread's current one.
fn create_current(context: Out<Handle<Context>>, flags: c_uint, device: Ordinal) -> Result<()> {
    let driver = driver()?;
    context.check()?;
    check(device)?;
    check_flags(flags)?;
    let made = create(driver, flags, false);
    STACK.with_borrow_mut(|stack| stack.push(made.handle));
    context.set(made.handle)
}

/// Ends a context: all that belongs to it goes.
fn destroy(driver: &Driver, context: &Context) {
    driver.executables.remove_where(|executable| executable.context == context.handle);
    driver.functions.remove_where(|function| function.context == context.handle);
    driver.modules.remove_where(|module| module.context == context.handle);
    driver.streams.remove_where(|stream| stream.context == context.handle);
    driver.events.remove_where(|event| event.context == context.handle);
    driver.ranges.free_all(driver, context.handle);
    lock(&context.per_thread).clear();
}

/// What `cuCtxGetLimit` says until it is set; `None` for a limit that there is not.
fn default_limit(driver: &Driver, limit: c_uint) -> Option<usize> {
    Some(match limit {
        0 => 1024,                              // STACK_SIZE
        1 => 1 << 20,                           // PRINTF_FIFO_SIZE
        2 => 8 << 20,                           // MALLOC_HEAP_SIZE
        4 => 2048,                              // DEV_RUNTIME_PENDING_LAUNCH_COUNT
        5 => 64,                                // MAX_L2_FETCH_GRANULARITY
        6 if driver.device.at_least(8, 0) => 0, // PERSISTING_L2_CACHE_SIZE
        _ => return None,
    })
}

entries! {
    /// Retains the primary context, which the first call makes.
    fn cuDevicePrimaryCtxRetain(context: Out<Handle<Context>>, device: Ordinal) {
        let driver = driver()?;
        context.check()?;
        check(device)?;
        let mut primary = lock(&driver.primary);
        let flags = primary.flags;
        let found = Arc::clone(primary.context.get_or_insert_with(|| create(driver, flags, true)));
        primary.retained += 1;
        context.set(found.handle)
    }

    /// Releases the primary context, which the last call ends.
    fn cuDevicePrimaryCtxRelease_v2 or cuDevicePrimaryCtxRelease(device: Ordinal) {
        let driver = driver()?;
        check(device)?;
        let mut primary = lock(&driver.primary);
        if primary.retained == 0 {
            return Err(refuse(Code::INVALID_CONTEXT, "the primary context is not retained"));
        }
        primary.retained -= 1;
        if primary.retained == 0 && let Some(context) = primary.context.take() {
            drop(primary);
            destroy(driver, &context);
            driver.contexts.remove(context.handle)?;
        }
        Ok(())
    }

    /// Ends the primary context, whoever retains it; it is made anew when it is retained or used next.
    fn cuDevicePrimaryCtxReset_v2 or cuDevicePrimaryCtxReset(device: Ordinal) {
        let driver = driver()?;
        check(device)?;
        let mut primary = lock(&driver.primary);
        if let Some(context) = primary.context.take() {
            primary.retained = 0;
            drop(primary);
            destroy(driver, &context);
            driver.contexts.remove(context.handle)?;
        }
        Ok(())
    }

    /// Sets its flags.
    fn cuDevicePrimaryCtxSetFlags_v2 or cuDevicePrimaryCtxSetFlags(device: Ordinal, flags: c_uint) {
        let driver = driver()?;
        check(device)?;
        check_flags(flags)?;
        let mut primary = lock(&driver.primary);
        primary.flags = flags;
        if let Some(context) = &primary.context {
            context.flags.store(flags, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Its flags, and whether it exists.
    fn cuDevicePrimaryCtxGetState(device: Ordinal, flags: Out<c_uint>, active: Out<c_int>) {
        let driver = driver()?;
        check(device)?;
        let primary = lock(&driver.primary);
        flags.set(primary.flags)?;
        active.set(c_int::from(primary.context.is_some()))
    }

    /// Creates a context, which becomes current.
    fn cuCtxCreate_v2(context: Out<Handle<Context>>, flags: c_uint, device: Ordinal) {
        create_current(context, flags, device)
    }

    /// Creates a context, which becomes current; affinities are refused.
    fn cuCtxCreate_v3(context: Out<Handle<Context>>, _affinities: In<u8>, count: c_int, flags: c_uint, device: Ordinal) {
        if count != 0 {
            return Err(refuse(Code::UNSUPPORTED_EXEC_AFFINITY, "contexts have no affinity"));
        }
        create_current(context, flags, device)
    }

    /// Creates a context, which becomes current; affinities and sharing with graphics are refused.
    fn cuCtxCreate_v4(context: Out<Handle<Context>>, params: In<[usize; 3]>, flags: c_uint, device: Ordinal) {
        if !params.is_null() {
            let [_, affinities, graphics] = params.get()?;
            if affinities as c_int != 0 {
                return Err(refuse(Code::UNSUPPORTED_EXEC_AFFINITY, "contexts have no affinity"));
            }
            if graphics != 0 {
                return Err(refuse(Code::NOT_SUPPORTED, "contexts do not share with graphics"));
            }
        }
        create_current(context, flags, device)
    }

    /// Ends a context.
    fn cuCtxDestroy_v2 or cuCtxDestroy(context: Handle<Context>) {
        let driver = driver()?;
        let found = existing(context)?;
        if found.primary {
            return Err(refuse(Code::INVALID_CONTEXT, "the primary context is released, not destroyed"));
        }
        driver.contexts.remove(context)?;
        STACK.with_borrow_mut(|stack| {
            if stack.last() == Some(&context) {
                stack.pop();
            }
        });
        destroy(driver, &found);
        Ok(())
    }

    /// Makes a context current on top of those before it.
    fn cuCtxPushCurrent_v2 or cuCtxPushCurrent(context: Handle<Context>) {
        existing(context)?;
        STACK.with_borrow_mut(|stack| stack.push(context));
        Ok(())
    }

    /// Takes the current context off the stack.
    fn cuCtxPopCurrent_v2 or cuCtxPopCurrent(context: Out<Handle<Context>>) {
        driver()?;
        let top = STACK.with_borrow_mut(Vec::pop).ok_or_else(|| {
            refuse(Code::INVALID_CONTEXT, "this thread has no current context")
        })?;
        context.offer(top);
        Ok(())
    }

    /// Replaces the current context; NULL takes it off the stack.
    fn cuCtxSetCurrent(context: Handle<Context>) {
        driver()?;
        if !context.is_null() {
            existing(context)?;
        }
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            if !context.is_null() {
                stack.push(context);
            }
        });
        Ok(())
    }

    /// The current context, NULL where there is none.
    fn cuCtxGetCurrent(context: Out<Handle<Context>>) {
        driver()?;
        context.set(STACK.with_borrow(|stack| stack.last().copied()).unwrap_or(Handle::NULL))
    }

    /// The current context's device.
    fn cuCtxGetDevice(device: Out<Ordinal>) {
        current_even_if_failed()?;
        device.set(0)
    }

    /// A context's device.
    fn cuCtxGetDevice_v2(device: Out<Ordinal>, context: Handle<Context>) {
        named(context)?;
        device.set(0)
    }

    /// The current context's flags.
    fn cuCtxGetFlags(flags: Out<c_uint>) {
        flags.set(current()?.flags.load(Ordering::Relaxed))
    }

    /// Sets the current context's flags.
    fn cuCtxSetFlags(flags: c_uint) {
        check_flags(flags)?;
        current()?.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    /// A context's number.
    fn cuCtxGetId(context: Handle<Context>, id: Out<u64>) {
        id.set(named(context)?.id)
    }

    /// The version of the interface that a context was made with.
    fn cuCtxGetApiVersion(context: Handle<Context>, version: Out<c_uint>) {
        named(context)?;
        version.set(3020)
    }

    /// Waits for all work of the current context.
    fn cuCtxSynchronize() {
        let context = current()?;
        super::capture::refuse_unsafe(&context)?;
        context.synchronize()
    }

    /// Waits for all work of a context.
    fn cuCtxSynchronize_v2(context: Handle<Context>) {
        let context = named(context)?;
        super::capture::refuse_unsafe(&context)?;
        context.synchronize()
    }

    /// Sets a limit. The emulator has room for every one of them.
    fn cuCtxSetLimit(limit: c_uint, value: usize) {
        let (driver, context) = (driver()?, current()?);
        default_limit(driver, limit).ok_or_else(|| no_limit(limit))?;
        lock(&context.limits).insert(limit, value);
        Ok(())
    }

    /// A limit.
    fn cuCtxGetLimit(value: Out<usize>, limit: c_uint) {
        let (driver, context) = (driver()?, current()?);
        let unset = default_limit(driver, limit).ok_or_else(|| no_limit(limit))?;
        let set = lock(&context.limits).get(&limit).copied();
        value.set(set.unwrap_or(unset))
    }

    /// Which of shared memory and L1 is preferred.
    fn cuCtxGetCacheConfig(config: Out<c_uint>) {
        config.set(current()?.cache_config.load(Ordering::Relaxed))
    }

    /// Prefers shared memory or L1: remembered, nothing else.
    fn cuCtxSetCacheConfig(config: c_uint) {
        check_cache_config(config)?;
        current()?.cache_config.store(config, Ordering::Relaxed);
        Ok(())
    }

    /// The width of a shared memory bank: 4 bytes.
    fn cuCtxGetSharedMemConfig(config: Out<c_uint>) {
        current()?;
        config.set(1)
    }

    /// The width of a shared memory bank cannot be changed on these devices; the call is accepted, as there.
    fn cuCtxSetSharedMemConfig(config: c_uint) {
        current()?;
        if config > 2 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("bank size {config} is not known")));
        }
        Ok(())
    }

    /// The range of priorities of streams.
    fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) {
        current()?;
        least.offer(0);
        greatest.offer(super::stream::GREATEST_PRIORITY);
        Ok(())
    }

    /// Forgets what L2 keeps.
    fn cuCtxResetPersistingL2Cache() {
        current().map(|_| ())
    }

    /// Lets another context's memory be reached: there is no other device.
    fn cuCtxEnablePeerAccess(peer: Handle<Context>, _flags: c_uint) {
        current()?;
        existing(peer)?;
        Err(refuse(Code::PEER_ACCESS_UNSUPPORTED, "there is one device"))
    }

    /// Takes that back.
    fn cuCtxDisablePeerAccess(peer: Handle<Context>) {
        current()?;
        existing(peer)?;
        Err(refuse(Code::PEER_ACCESS_NOT_ENABLED, "there is one device"))
    }

    /// Which multiprocessors a context may use: all, so the question is refused.
    fn cuCtxGetExecAffinity(_affinity: Out<c_void>, _kind: c_uint) {
        current()?;
        Err(refuse(Code::UNSUPPORTED_EXEC_AFFINITY, "contexts have no affinity"))
    }
}

/// Refuses what is no `CUfunc_cache`.
pub(super) fn check_cache_config(config: c_uint) -> Result<()> {
    match config {
        0..=3 => Ok(()),
        _ => Err(refuse(Code::INVALID_VALUE, format_args!("cache preference {config} is not known"))),
    }
}

fn no_limit(limit: c_uint) -> Code {
    refuse(Code::UNSUPPORTED_LIMIT, format_args!("limit {limit} is not known"))
}
