//! The driver's C interface: what a program finds in `libcuda.so`.
//!
//! Every entry point goes through `entry`, which lets no panic out and turns a `Result` into a code. Arguments have
//! types of their own (`abi`), handles are numbers that only a `table` knows: a wrong one is an error, never followed.
//!
//! What a stream is given is done before the call returns. The order of the calls satisfies every order that streams and
//! events ask for, so streams and events are only accounted for: who waits for what is checked, and captured into graphs.
//! A kernel's fault is printed once, when it happens. Its code comes out of the next call that synchronises, and from then
//! on out of every call that needs the context.

mod abi;
mod attributes;
mod capture;
mod code;
mod context;
mod copy;
mod copy_shapes;
mod device;
mod entry;
mod event;
mod fill;
mod function;
mod graph;
mod graph_exec;
mod graph_nodes;
mod host_memory;
mod image;
mod kernel;
mod launch;
mod library;
mod lookup;
mod memory;
mod module;
mod occupancy;
mod pointer;
mod pool;
mod refused;
mod settings;
mod stream;
mod table;
mod tensor_map;
mod work;

use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::device::Device;
use crate::memory::Memory;

pub use code::{Code, Result};

use table::{Table, lock};

/// All that the driver knows.
#[derive(Debug)]
struct Driver {
    device: &'static Device,
    settings: settings::Settings,
    memory: Memory,
    ranges: memory::Ranges,
    primary: Mutex<context::Primary>,
    captures: Mutex<Vec<std::sync::Weak<capture::Capture>>>,
    work: Mutex<work::Launches>,
    contexts: Table<context::Context>,
    modules: Table<module::Module>,
    libraries: Table<library::Library>,
    functions: Table<function::Function>,
    streams: Table<stream::Stream>,
    events: Table<event::Event>,
    pools: Table<pool::Pool>,
    pool: Mutex<pool::Chosen>,
    graphs: Table<graph::Graph>,
    nodes: Table<graph::Place>,
    executables: Table<graph_exec::Executable>,
}

static DRIVER: OnceLock<Driver> = OnceLock::new();

impl Driver {
    fn new(settings: settings::Settings) -> Driver {
        let pools = Table::new(7);
        let pool = Mutex::new(pool::Chosen::new(&pools));
        Driver {
            device: settings.device,
            settings,
            memory: Memory::default(),
            ranges: memory::Ranges::default(),
            primary: Mutex::default(),
            captures: Mutex::default(),
            work: Mutex::default(),
            contexts: Table::new(1),
            modules: Table::new(2),
            libraries: Table::new(3),
            functions: Table::new(4),
            streams: Table::new(5),
            events: Table::new(6),
            pools,
            pool,
            graphs: Table::new(8),
            nodes: Table::new(9),
            executables: Table::new(10),
        }
    }

    /// What the device does, it does one after the other.
    fn work(&self) -> MutexGuard<'_, work::Launches> {
        lock(&self.work)
    }
}

/// The driver, once `cuInit` was called.
fn driver() -> Result<&'static Driver> {
    DRIVER.get().ok_or_else(|| entry::refuse(Code::NOT_INITIALIZED, "cuInit has not been called"))
}
