//! Capturing what streams are given into a graph.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::c_uint;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::abi::{Handle, In, Out};
use super::context::{Context, ThreadKey};
use super::entry::{entries, refuse};
use super::event::{Event, State};
use super::graph::{Graph, Place};
use super::stream::{Queue, Stream};
use super::table::lock;
use super::work::Action;
use super::{Code, Result, driver};

/// A capture that goes on.
#[derive(Debug)]
pub(super) struct Capture {
    id: u64,
    graph: Handle<Graph>,
    nodes: Arc<Graph>,
    /// Whether the graph was made for it.
    made: bool,
    context: Handle<Context>,
    /// The number of the stream in which it began.
    origin: u64,
    thread: ThreadKey,
    mode: c_uint,
    invalid: AtomicBool,
    /// The streams that take part.
    streams: Mutex<Vec<Arc<Stream>>>,
}

/// What a stream that captures knows.
#[derive(Debug)]
pub(super) struct Joined {
    /// The capture.
    pub capture: Arc<Capture>,
    /// What the next node comes after.
    after: BTreeSet<Handle<Place>>,
}

/// A place in a graph, which an event stands for.
#[derive(Debug)]
pub(super) struct Captured {
    capture: Arc<Capture>,
    after: BTreeSet<Handle<Place>>,
}

/// `CUstreamCaptureMode`
const GLOBAL: c_uint = 0;
const THREAD_LOCAL: c_uint = 1;
const RELAXED: c_uint = 2;

/// `CUstreamCaptureStatus`
const NONE: c_uint = 0;
const ACTIVE: c_uint = 1;
const INVALIDATED: c_uint = 2;

thread_local! {
    /// How this thread heeds the captures of others.
    static MODE: Cell<c_uint> = const { Cell::new(GLOBAL) };
}

impl Capture {
    /// An error once something has spoilt it.
    pub(super) fn check(&self) -> Result<()> {
        match self.invalid.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(refuse(Code::STREAM_CAPTURE_INVALIDATED, "an earlier error has spoilt the capture")),
        }
    }

    /// Spoils it.
    pub(super) fn invalidate(&self) {
        self.invalid.store(true, Ordering::Relaxed);
    }

    /// Adds a node after what the stream has so far.
    pub(super) fn add(&self, queue: &Queue, action: Action) -> Result<()> {
        if let Some(stream) = &queue.stream
            && let Some(joined) = &mut *lock(&stream.joined)
        {
            let node = self.nodes.add(driver()?, self.graph, action, joined.after.clone());
            joined.after = BTreeSet::from([node]);
        }
        Ok(())
    }

    /// Lets an event stand for what the stream has so far.
    pub(super) fn mark(self: Arc<Self>, queue: &Queue, event: &Event) -> Result<()> {
        if let Some(stream) = &queue.stream
            && let Some(joined) = &*lock(&stream.joined)
        {
            *lock(&event.state) =
                State::Captured(Captured { capture: Arc::clone(&self), after: joined.after.clone() });
        }
        Ok(())
    }

    /// Whether a stream takes part that the legacy stream would wait for.
    fn blocks(&self) -> bool {
        lock(&self.streams).iter().any(|stream| stream.blocking())
    }

    /// Lets all streams go.
    fn dissolve(&self) {
        for stream in lock(&self.streams).drain(..) {
            *lock(&stream.joined) = None;
        }
    }
}

/// The captures that go on.
fn active() -> Result<Vec<Arc<Capture>>> {
    let mut captures = lock(&driver()?.captures);
    captures.retain(|capture| capture.strong_count() > 0);
    Ok(captures
        .iter()
        .filter_map(Weak::upgrade)
        .filter(|capture| !lock(&capture.streams).is_empty())
        .collect())
}

/// Refuses what would put work into the legacy stream while a stream captures that the legacy one waits for.
pub(super) fn refuse_implicit(context: &Context) -> Result<()> {
    match blocking(context)? {
        None => Ok(()),
        Some(capture) => {
            capture.invalidate();
            Err(implicit())
        }
    }
}

/// A capture of a stream that the legacy stream would wait for.
fn blocking(context: &Context) -> Result<Option<Arc<Capture>>> {
    Ok(active()?.into_iter().find(|capture| capture.context == context.handle && capture.blocks()))
}

fn implicit() -> Code {
    refuse(
        Code::STREAM_CAPTURE_IMPLICIT,
        "a stream captures that the legacy stream, which this call uses, would wait for",
    )
}

/// Refuses what a capture may not be disturbed by: calls that may wait for the device.
pub(super) fn refuse_unsafe(context: &Context) -> Result<()> {
    let (thread, mode) = (ThreadKey::current(), MODE.get());
    for capture in active()? {
        let own = capture.thread == thread;
        let disturbs = match mode {
            RELAXED => false,
            THREAD_LOCAL => own && capture.mode != RELAXED,
            _ => own && capture.mode != RELAXED || capture.mode == GLOBAL,
        };
        if disturbs && capture.context == context.handle {
            capture.invalidate();
            return Err(refuse(
                Code::STREAM_CAPTURE_UNSUPPORTED,
                "a stream is capturing, and this call may wait for the device",
            ));
        }
    }
    Ok(())
}

/// Lets a stream wait for an event: in a capture, what comes next comes after what the event stands for.
pub(super) fn wait(queue: &Queue, event: &Arc<Event>, external: bool) -> Result<()> {
    let capture = queue.capture()?;
    let marked = match &*lock(&event.state) {
        State::Captured(captured) => Some((Arc::clone(&captured.capture), captured.after.clone())),
        State::Never | State::At(_) => None,
    };
    match (capture, marked) {
        (None, None) => Ok(()),
        (Some(capture), None) if external => capture.add(queue, Action::EventWait),
        (Some(capture), None) => {
            capture.invalidate();
            Err(refuse(
                Code::STREAM_CAPTURE_ISOLATION,
                "a capturing stream waits for an event that was not captured",
            ))
        }
        (Some(capture), Some((of, after))) => {
            if !Arc::ptr_eq(&capture, &of) {
                capture.invalidate();
                of.invalidate();
                return Err(refuse(Code::STREAM_CAPTURE_MERGE, "the event belongs to another capture"));
            }
            if let Some(stream) = &queue.stream
                && let Some(joined) = &mut *lock(&stream.joined)
            {
                joined.after.extend(after);
            }
            Ok(())
        }
        (None, Some((capture, after))) => {
            let Some(stream) = &queue.stream else {
                capture.invalidate();
                return Err(refuse(Code::STREAM_CAPTURE_UNSUPPORTED, "the legacy stream cannot be captured"));
            };
            capture.check()?;
            if lock(&capture.streams).is_empty() {
                return Err(refuse(Code::CAPTURED_EVENT, "the event belongs to a capture that has ended"));
            }
            lock(&capture.streams).push(Arc::clone(stream));
            *lock(&stream.joined) = Some(Joined { capture, after });
            Ok(())
        }
    }
}

/// Starts a capture into a graph.
fn begin(
    queue: &Queue,
    graph: Option<Handle<Graph>>,
    after: BTreeSet<Handle<Place>>,
    mode: c_uint,
) -> Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let driver = driver()?;
    if mode > RELAXED {
        return Err(refuse(Code::INVALID_VALUE, format_args!("capture mode {mode} is not known")));
    }
    let Some(stream) = &queue.stream else {
        return Err(refuse(Code::STREAM_CAPTURE_UNSUPPORTED, "the legacy stream cannot be captured"));
    };
    if queue.capture()?.is_some() {
        return Err(refuse(Code::ILLEGAL_STATE, "the stream is capturing already"));
    }
    let made = graph.is_none();
    let graph = graph.unwrap_or_else(|| driver.graphs.insert(Graph::default()));
    let capture = Arc::new(Capture {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        graph,
        nodes: graph.get()?,
        made,
        context: queue.context.handle,
        origin: stream.id,
        thread: ThreadKey::current(),
        mode,
        invalid: AtomicBool::new(false),
        streams: Mutex::new(vec![Arc::clone(stream)]),
    });
    lock(&driver.captures).push(Arc::downgrade(&capture));
    *lock(&stream.joined) = Some(Joined { capture, after });
    Ok(())
}

/// Ends a capture; its graph.
fn end(queue: &Queue) -> Result<Handle<Graph>> {
    let joined = queue.stream.as_ref().and_then(|stream| {
        lock(&stream.joined).as_ref().map(|joined| (Arc::clone(&joined.capture), joined.after.clone()))
    });
    let Some((capture, last)) = joined else {
        return Err(refuse(Code::ILLEGAL_STATE, "the stream is not capturing"));
    };
    if queue.stream.as_ref().is_some_and(|stream| stream.id != capture.origin) {
        capture.invalidate();
        return Err(refuse(Code::STREAM_CAPTURE_UNMATCHED, "the capture began in another stream"));
    }
    if capture.mode != RELAXED && capture.thread != ThreadKey::current() {
        capture.invalidate();
        return Err(refuse(Code::STREAM_CAPTURE_WRONG_THREAD, "the capture began in another thread"));
    }
    let reached = capture.nodes.before(&last);
    let unjoined = lock(&capture.streams)
        .iter()
        .any(|stream| lock(&stream.joined).as_ref().is_some_and(|joined| !joined.after.is_subset(&reached)));
    capture.dissolve();
    let done = capture.check().and_then(|()| match unjoined {
        false => Ok(capture.graph),
        true => Err(refuse(
            Code::STREAM_CAPTURE_UNJOINED,
            "another stream joined the capture, and nothing waits for its last work",
        )),
    });
    if done.is_err() && capture.made {
        super::graph::destroy(driver()?, capture.graph)?;
    }
    done
}

/// The status of a stream, and its capture if it takes part in one.
fn status(stream: Handle<Stream>) -> Result<(c_uint, Option<Captured>)> {
    let queue = Queue::of(stream)?;
    let Some(stream) = &queue.stream else {
        // Asking spoils nothing.
        return if blocking(&queue.context)?.is_some() { Err(implicit()) } else { Ok((NONE, None)) };
    };
    Ok(match &*lock(&stream.joined) {
        None => (NONE, None),
        Some(joined) if joined.capture.invalid.load(Ordering::Relaxed) => (INVALIDATED, None),
        Some(joined) => {
            (ACTIVE, Some(Captured { capture: Arc::clone(&joined.capture), after: joined.after.clone() }))
        }
    })
}

thread_local! {
    /// What `cuStreamGetCaptureInfo` pointed this thread to last: valid until its next call.
    static SHOWN: RefCell<Vec<Handle<Place>>> = const { RefCell::new(Vec::new()) };
}

/// Keeps nodes where the program can read them until this thread asks again.
fn show(nodes: BTreeSet<Handle<Place>>) -> *const Handle<Place> {
    SHOWN.with_borrow_mut(|shown| {
        *shown = nodes.into_iter().collect();
        shown.as_ptr()
    })
}

entries! {
    /// Starts capturing a stream.
    fn cuStreamBeginCapture_v2(stream: Handle<Stream>, mode: c_uint) {
        begin(&Queue::of(stream)?, None, BTreeSet::new(), mode)
    }

    /// Starts capturing a stream into a graph that exists.
    fn cuStreamBeginCaptureToGraph(
        stream: Handle<Stream>,
        graph: Handle<Graph>,
        after: In<Handle<Place>>,
        _edges: In<u64>,
        count: usize,
        mode: c_uint,
    ) {
        let queue = Queue::of(stream)?;
        graph.get()?;
        let after = after.list(count)?;
        after.iter().try_for_each(|node| super::graph::check_node(graph, *node))?;
        begin(&queue, Some(graph), after.into_iter().collect(), mode)
    }

    /// Ends it; the graph. NULL where something has spoilt it.
    fn cuStreamEndCapture(stream: Handle<Stream>, graph: Out<Handle<Graph>>) {
        let queue = Queue::of(stream)?;
        graph.set(Handle::NULL)?;
        graph.set(end(&queue)?)
    }

    /// Whether a stream is capturing.
    fn cuStreamIsCapturing(stream: Handle<Stream>, out: Out<c_uint>) {
        out.check()?;
        out.set(status(stream)?.0)
    }

    /// Whether a stream is capturing, into which graph, and what the next node comes after.
    fn cuStreamGetCaptureInfo_v2(
        stream: Handle<Stream>,
        out: Out<c_uint>,
        id: Out<u64>,
        graph: Out<Handle<Graph>>,
        after: Out<*const Handle<Place>>,
        count: Out<usize>,
    ) {
        out.check()?;
        let (found, capture) = status(stream)?;
        if let Some(Captured { capture, after: nodes }) = capture {
            id.offer(capture.id);
            graph.offer(capture.graph);
            count.offer(nodes.len());
            after.offer(show(nodes));
        }
        out.set(found)
    }

    /// The same; edges are plain ones.
    fn cuStreamGetCaptureInfo_v3(
        stream: Handle<Stream>,
        out: Out<c_uint>,
        id: Out<u64>,
        graph: Out<Handle<Graph>>,
        after: Out<*const Handle<Place>>,
        edges: Out<*const u64>,
        count: Out<usize>,
    ) {
        out.check()?;
        let (found, capture) = status(stream)?;
        if let Some(Captured { capture, after: nodes }) = capture {
            id.offer(capture.id);
            graph.offer(capture.graph);
            count.offer(nodes.len());
            after.offer(show(nodes));
            edges.offer(std::ptr::null());
        }
        out.set(found)
    }

    /// Sets how this thread heeds the captures of others; how it did before.
    fn cuThreadExchangeStreamCaptureMode(mode: Out<c_uint>) {
        driver()?;
        let wanted = mode.get()?;
        if wanted > RELAXED {
            return Err(refuse(Code::INVALID_VALUE, format_args!("capture mode {wanted} is not known")));
        }
        mode.set(MODE.replace(wanted))
    }
}
