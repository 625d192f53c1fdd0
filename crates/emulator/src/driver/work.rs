//! What the device does for a stream or a graph, one thing after the other.

use std::ffi::c_void;
use std::sync::Arc;

use super::context::Context;
use super::copy::Copy;
use super::entry::{host_function, say};
use super::event::Event;
use super::fill::Fill;
use super::graph::Order;
use super::launch::Launch;
use super::stream::Queue;
use super::{Driver, Result, driver, kernel};

/// `CUhostFn`
pub(super) type HostCall = Option<unsafe extern "C" fn(*mut c_void)>;

/// Something to do.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// A kernel.
    Kernel(Launch),
    /// A copy.
    Copy(Copy),
    /// A fill.
    Fill(Fill),
    /// A function of the program, and what it is given.
    Host(HostCall, u64),
    /// A graph within a graph.
    Graph(Arc<Order>),
    /// Nothing.
    Empty,
    /// Waiting for an event, which has happened.
    EventWait,
    /// An event happens.
    EventRecord(Arc<Event>),
}

impl Action {
    /// `CUgraphNodeType`
    pub(super) fn node_type(&self) -> u32 {
        match self {
            Action::Kernel(_) => 0,
            Action::Copy(_) => 1,
            Action::Fill(_) => 2,
            Action::Host(..) => 3,
            Action::Graph(_) => 4,
            Action::Empty => 5,
            Action::EventWait => 6,
            Action::EventRecord(_) => 7,
        }
    }
}

/// What was launched so far.
#[derive(Debug, Default)]
pub(super) struct Launches {
    /// How many.
    pub count: u64,
    /// How many of the kernel that is to fail.
    pub failing: u64,
}

/// Puts something into a stream: it is captured if the stream is, else done.
pub(super) fn submit(queue: &Queue, action: Action) -> Result<()> {
    match queue.capture()? {
        Some(capture) => capture.add(queue, action),
        None => perform(driver()?, &queue.context, &action),
    }
}

/// Does something now. After a kernel of the context has failed nothing is done any more.
///
/// # Errors
/// Where a copy or fill leads to memory that is not there. A kernel's fault is kept by its context.
pub(super) fn perform(driver: &Driver, context: &Context, action: &Action) -> Result<()> {
    if context.has_failed() {
        return Ok(());
    }
    match action {
        Action::Kernel(launch) => {
            let done = kernel::run(driver, &mut driver.work(), launch);
            for event in &launch.events {
                event.record();
            }
            if let Err(report) = done {
                say(&report);
                context.fail(kernel::code(report.fault.kind));
            }
            Ok(())
        }
        Action::Copy(copy) => {
            let _work = driver.work();
            copy.run(driver)
        }
        Action::Fill(fill) => {
            let _work = driver.work();
            fill.run(driver)
        }
        Action::Host(function, data) => {
            if let Some(function) = function {
                // SAFETY: the caller of the entry point vouches for its function and what it is given.
                host_function(|| unsafe { function(*data as *mut c_void) });
            }
            Ok(())
        }
        Action::Graph(order) => order.actions().try_for_each(|action| perform(driver, context, action)),
        Action::Empty | Action::EventWait => Ok(()),
        Action::EventRecord(event) => {
            event.record();
            Ok(())
        }
    }
}
