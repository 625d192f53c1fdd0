//! Streams. What they are given is done at once, so a stream is its identity and the capture it takes part in.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::abi::{Handle, Host, In, Out};
use super::capture::{self, Joined};
use super::context::{Context, ThreadKey, current, current_even_if_failed};
use super::device::Ordinal;
use super::entry::{entries, host_function, refuse};
use super::event::Event;
use super::table::{Object, Table, lock};
use super::work::{Action, HostCall, perform, submit};
use super::{Code, Driver, Result, driver};

/// A stream that the program made, or one of `CU_STREAM_PER_THREAD`.
#[derive(Debug)]
pub(super) struct Stream {
    /// The context that it belongs to.
    pub context: Handle<Context>,
    /// Its number, which no other ever has.
    pub id: u64,
    flags: c_uint,
    priority: c_int,
    /// The capture that it takes part in.
    pub joined: Mutex<Option<Joined>>,
}

impl Object for Stream {
    const WHAT: &'static str = "stream";

    fn table(driver: &Driver) -> &Table<Stream> {
        &driver.streams
    }
}

/// `CU_STREAM_LEGACY`; NULL means the same.
const LEGACY: Handle<Stream> = Handle::new(1);
/// `CU_STREAM_PER_THREAD`.
const PER_THREAD: Handle<Stream> = Handle::new(2);
/// The lowest number is the highest priority.
pub(super) const GREATEST_PRIORITY: c_int = -5;
const NON_BLOCKING: c_uint = 1;

impl Stream {
    fn new(context: Handle<Context>, flags: c_uint, priority: c_int) -> Stream {
        static NEXT: AtomicU64 = AtomicU64::new(LEGACY.number() as u64 + PER_THREAD.number() as u64);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Stream { context, id, flags, priority, joined: Mutex::default() }
    }

    /// Whether it waits for the legacy stream, and that for it.
    pub(super) fn blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }
}

/// Where work is put: a stream of a context that is well.
#[derive(Debug)]
pub(super) struct Queue {
    /// The context.
    pub context: Arc<Context>,
    /// The stream; `None` for the legacy one.
    pub stream: Option<Arc<Stream>>,
}

impl Queue {
    /// The queue that a handle means.
    pub(super) fn of(handle: Handle<Stream>) -> Result<Queue> {
        if handle.is_null() || handle == LEGACY {
            return Queue::legacy();
        }
        if handle == PER_THREAD {
            let context = current()?;
            let mut streams = lock(&context.per_thread);
            let make = || Arc::new(Stream::new(context.handle, 0, 0));
            let stream = Arc::clone(streams.entry(ThreadKey::current()).or_insert_with(make));
            drop(streams);
            return Ok(Queue { context, stream: Some(stream) });
        }
        let stream = handle.get()?;
        let context = super::context::healthy(stream.context)?;
        Ok(Queue { context, stream: Some(stream) })
    }

    /// The legacy stream of the current context.
    pub(super) fn legacy() -> Result<Queue> {
        Ok(Queue { context: current()?, stream: None })
    }

    /// The capture that takes what is put here; an error where putting anything here is not allowed.
    pub(super) fn capture(&self) -> Result<Option<Arc<capture::Capture>>> {
        match &self.stream {
            None => capture::refuse_implicit(&self.context).map(|()| None),
            Some(stream) => match &*lock(&stream.joined) {
                None => Ok(None),
                Some(joined) => joined.capture.check().map(|()| Some(Arc::clone(&joined.capture))),
            },
        }
    }

    /// Refuses to wait for a stream that captures.
    fn refuse_capturing(&self) -> Result<()> {
        match self.capture()? {
            None => Ok(()),
            Some(capture) => {
                capture.invalidate();
                Err(refuse(
                    Code::STREAM_CAPTURE_UNSUPPORTED,
                    "the stream is capturing: nothing in it can be waited for",
                ))
            }
        }
    }
}

fn create(out: Out<Handle<Stream>>, flags: c_uint, priority: c_int) -> Result<()> {
    let (driver, context) = (driver()?, current()?);
    out.check()?;
    if flags & !NON_BLOCKING != 0 {
        return Err(refuse(Code::INVALID_VALUE, format_args!("stream flags {flags:#x} are not known")));
    }
    let priority = priority.clamp(GREATEST_PRIORITY, 0);
    out.set(driver.streams.insert(Stream::new(context.handle, flags, priority)))
}

/// `CUstreamCallback`
type Callback = Option<unsafe extern "C" fn(Handle<Stream>, Code, *mut c_void)>;

entries! {
    /// Makes a stream.
    fn cuStreamCreate(stream: Out<Handle<Stream>>, flags: c_uint) {
        create(stream, flags, 0)
    }

    /// Makes a stream of a priority, which is remembered.
    fn cuStreamCreateWithPriority(stream: Out<Handle<Stream>>, flags: c_uint, priority: c_int) {
        create(stream, flags, priority)
    }

    /// Ends a stream.
    fn cuStreamDestroy_v2 or cuStreamDestroy(stream: Handle<Stream>) {
        let driver = driver()?;
        if stream.is_null() || stream == LEGACY || stream == PER_THREAD {
            return Err(refuse(Code::INVALID_HANDLE, "the default streams cannot be destroyed"));
        }
        let found = driver.streams.remove(stream)?;
        if let Some(joined) = lock(&found.joined).take() {
            joined.capture.invalidate();
        }
        Ok(())
    }

    /// Whether all of a stream is done: it is.
    fn cuStreamQuery(stream: Handle<Stream>) {
        let queue = Queue::of(stream)?;
        queue.refuse_capturing()?;
        queue.context.synchronize()
    }

    /// Waits for a stream.
    fn cuStreamSynchronize(stream: Handle<Stream>) {
        let queue = Queue::of(stream)?;
        queue.refuse_capturing()?;
        queue.context.synchronize()
    }

    /// Lets a stream wait for an event.
    fn cuStreamWaitEvent(stream: Handle<Stream>, event: Handle<Event>, flags: c_uint) {
        let queue = Queue::of(stream)?;
        let event = event.get()?;
        if flags & !1 != 0 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("wait flags {flags:#x} are not known")));
        }
        capture::wait(&queue, &event, flags == 1)
    }

    /// Lets a stream call a function when it gets there: at once.
    fn cuLaunchHostFunc(stream: Handle<Stream>, function: HostCall, data: Host) {
        let queue = Queue::of(stream)?;
        if function.is_none() {
            return Err(refuse(Code::INVALID_VALUE, "the function is NULL"));
        }
        submit(&queue, Action::Host(function, data.address()))
    }

    /// Lets a stream call a function that learns how the stream fares.
    fn cuStreamAddCallback(stream: Handle<Stream>, callback: Callback, data: Host, flags: c_uint) {
        let queue = Queue::of(stream)?;
        let Some(callback) = callback else {
            return Err(refuse(Code::INVALID_VALUE, "the function is NULL"));
        };
        if flags != 0 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("flags {flags:#x} where 0 is required")));
        }
        queue.refuse_capturing()?;
        let health = queue.context.synchronize().err().unwrap_or(Code::SUCCESS);
        // SAFETY: the caller of the entry point vouches for its function and what it is given.
        host_function(|| unsafe { callback(stream, health, data.pointer()) });
        Ok(())
    }

    /// The priority of a stream.
    fn cuStreamGetPriority(stream: Handle<Stream>, priority: Out<c_int>) {
        priority.set(Queue::of(stream)?.stream.map_or(0, |stream| stream.priority))
    }

    /// The flags of a stream.
    fn cuStreamGetFlags(stream: Handle<Stream>, flags: Out<c_uint>) {
        flags.set(Queue::of(stream)?.stream.map_or(0, |stream| stream.flags))
    }

    /// The number of a stream.
    fn cuStreamGetId(stream: Handle<Stream>, id: Out<u64>) {
        id.set(Queue::of(stream)?.stream.map_or(LEGACY.number() as u64, |stream| stream.id))
    }

    /// The context of a stream.
    fn cuStreamGetCtx(stream: Handle<Stream>, context: Out<Handle<Context>>) {
        context.set(Queue::of(stream)?.context.handle)
    }

    /// The context of a stream, and the green context: none.
    fn cuStreamGetCtx_v2(stream: Handle<Stream>, context: Out<Handle<Context>>, green: Out<usize>) {
        green.offer(0);
        context.set(Queue::of(stream)?.context.handle)
    }

    /// The device of a stream.
    fn cuStreamGetDevice(stream: Handle<Stream>, device: Out<Ordinal>) {
        Queue::of(stream)?;
        device.set(0)
    }

    /// Copies attributes of streams, which are hints.
    fn cuStreamCopyAttributes(to: Handle<Stream>, from: Handle<Stream>) {
        Queue::of(to)?;
        Queue::of(from).map(|_| ())
    }

    /// Sets an attribute of a stream, which are hints.
    fn cuStreamSetAttribute(stream: Handle<Stream>, attribute: c_uint, value: In<u8>) {
        Queue::of(stream)?;
        value.get()?;
        match attribute {
            // Access policy window, synchronisation policy, priority, domains of memory synchronisation.
            1 | 3 | 8 | 9 | 10 => Ok(()),
            _ => Err(refuse(Code::INVALID_VALUE, format_args!("streams have no attribute {attribute}"))),
        }
    }

    /// Records an event after all of a context's work.
    fn cuCtxRecordEvent(context: Handle<Context>, event: Handle<Event>) {
        let context = super::context::healthy(context)?;
        let event = event.get()?;
        perform(driver()?, &context, &Action::EventRecord(event))
    }

    /// Lets a context wait for an event.
    fn cuCtxWaitEvent(context: Handle<Context>, event: Handle<Event>) {
        super::context::healthy(context)?;
        event.get().map(|_| ())
    }

    /// A barrier for what the device writes into other devices' memory: there is none to wait for.
    fn cuFlushGPUDirectRDMAWrites(_target: c_uint, _scope: c_uint) {
        current_even_if_failed().map(|_| ())
    }
}
