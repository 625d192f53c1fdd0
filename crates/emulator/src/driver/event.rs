//! Events: moments of the host's clock.

use std::ffi::c_uint;
use std::sync::Mutex;
use std::time::Instant;

use super::abi::{Handle, Out};
use super::capture::{self, Captured};
use super::context::{Context, current};
use super::entry::{entries, refuse};
use super::stream::{Queue, Stream};
use super::table::{Object, Table, lock};
use super::work::{Action, perform};
use super::{Code, Driver, Result, driver};

/// An event.
#[derive(Debug)]
pub(super) struct Event {
    /// The context that it belongs to.
    pub context: Handle<Context>,
    flags: c_uint,
    /// What it stands for.
    pub state: Mutex<State>,
}

/// What an event stands for.
#[derive(Debug, Default)]
pub(super) enum State {
    /// Nothing yet.
    #[default]
    Never,
    /// A moment.
    At(Instant),
    /// A place in a graph that is being captured.
    Captured(Captured),
}

impl Object for Event {
    const WHAT: &'static str = "event";

    fn table(driver: &Driver) -> &Table<Event> {
        &driver.events
    }
}

const DISABLE_TIMING: c_uint = 2;
const INTERPROCESS: c_uint = 4;

impl Event {
    /// Now is when it happens.
    pub(super) fn record(&self) {
        *lock(&self.state) = State::At(Instant::now());
    }

    /// The moment it happened, for measuring.
    fn moment(&self) -> Result<Instant> {
        if self.flags & DISABLE_TIMING != 0 {
            return Err(refuse(Code::INVALID_HANDLE, "the event was made without timing"));
        }
        match &*lock(&self.state) {
            State::At(moment) => Ok(*moment),
            State::Never => Err(refuse(Code::INVALID_HANDLE, "the event was not recorded")),
            State::Captured(_) => Err(captured()),
        }
    }
}

fn captured() -> Code {
    refuse(Code::CAPTURED_EVENT, "the event was last recorded in a capturing stream")
}

/// Waiting for an event: it has happened, unless it belongs to a graph.
fn wait(event: Handle<Event>) -> Result<()> {
    let event = event.get()?;
    let context = super::context::healthy(event.context)?;
    if matches!(*lock(&event.state), State::Captured(_)) {
        return Err(captured());
    }
    capture::refuse_unsafe(&context)?;
    context.synchronize()
}

fn record(event: Handle<Event>, stream: Handle<Stream>, flags: c_uint) -> Result<()> {
    let queue = Queue::of(stream)?;
    let event = event.get()?;
    if event.context != queue.context.handle {
        return Err(refuse(Code::INVALID_HANDLE, "event and stream belong to different contexts"));
    }
    match (queue.capture()?, flags) {
        (_, 2..) => Err(refuse(Code::INVALID_VALUE, format_args!("record flags {flags:#x} are not known"))),
        (Some(capture), 0) => capture.mark(&queue, &event),
        (Some(capture), _) => capture.add(&queue, Action::EventRecord(event)),
        (None, _) => perform(driver()?, &queue.context, &Action::EventRecord(event)),
    }
}

entries! {
    /// Makes an event.
    fn cuEventCreate(event: Out<Handle<Event>>, flags: c_uint) {
        let (driver, context) = (driver()?, current()?);
        event.check()?;
        if flags & !7 != 0 || flags & INTERPROCESS != 0 && flags & DISABLE_TIMING == 0 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("event flags {flags:#x} are not known or do not go together")));
        }
        event.set(driver.events.insert(Event { context: context.handle, flags, state: Mutex::default() }))
    }

    /// Ends an event.
    fn cuEventDestroy_v2 or cuEventDestroy(event: Handle<Event>) {
        driver()?.events.remove(event).map(|_| ())
    }

    /// Records an event in a stream.
    fn cuEventRecord(event: Handle<Event>, stream: Handle<Stream>) {
        record(event, stream, 0)
    }

    /// Records an event in a stream; flag 1: as a node of its own in a captured graph.
    fn cuEventRecordWithFlags(event: Handle<Event>, stream: Handle<Stream>, flags: c_uint) {
        record(event, stream, flags)
    }

    /// Whether an event has happened: it has.
    fn cuEventQuery(event: Handle<Event>) {
        wait(event)
    }

    /// Waits for an event.
    fn cuEventSynchronize(event: Handle<Event>) {
        wait(event)
    }

    /// Milliseconds of the host's clock between two events.
    fn cuEventElapsedTime_v2 or cuEventElapsedTime(milliseconds: Out<f32>, start: Handle<Event>, end: Handle<Event>) {
        driver()?;
        milliseconds.check()?;
        let (start, end) = (start.get()?, end.get()?);
        super::context::healthy(start.context)?;
        let (start, end) = (start.moment()?, end.moment()?);
        let elapsed = match end.checked_duration_since(start) {
            Some(forward) => forward.as_secs_f64(),
            None => -start.duration_since(end).as_secs_f64(),
        };
        milliseconds.set((elapsed * 1e3) as f32)
    }
}
