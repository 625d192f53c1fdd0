//! Launches: what is asked for, whether the device can do it, and the kernel's parameters.

use std::ffi::c_uint;
use std::sync::Arc;

use super::abi::{Handle, In};
use super::context::Context;
use super::entry::{entries, refuse};
use super::event::Event;
use super::function::Function;
use super::occupancy;
use super::stream::{Queue, Stream};
use super::work::{Action, submit};
use super::{Code, Driver, Result, driver};

/// A launch that the device can do.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    /// The kernel.
    pub function: Arc<Function>,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: [u32; 3],
    /// Blocks of a cluster.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// Whether all blocks must run at once.
    pub cooperative: bool,
    /// The parameters' bytes.
    pub params: Arc<[u8]>,
    /// Events that happen with it.
    pub events: Vec<Arc<Event>>,
}

/// Blocks, threads and shared memory, before anybody has looked at them.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// Blocks of a cluster, where the launch says.
    pub cluster: Option<[u32; 3]>,
    /// Whether all blocks must run at once.
    pub cooperative: bool,
    /// Events that happen with it.
    pub events: Vec<Arc<Event>>,
}

/// `CUlaunchConfig`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Config {
    grid: [u32; 3],
    threads: [u32; 3],
    dynamic_shared: c_uint,
    /// Where the launch is put.
    pub(super) stream: Handle<Stream>,
    attributes: In<Attribute>,
    count: c_uint,
}

/// `CUlaunchAttribute`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Attribute {
    id: c_uint,
    pad: c_uint,
    value: [u64; 8],
}

/// `CUDA_KERNEL_NODE_PARAMS` as it was first; later ones go on behind it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct KernelNode {
    function: Handle<Function>,
    grid: [u32; 3],
    threads: [u32; 3],
    dynamic_shared: c_uint,
    params: In<In<u8>>,
    extra: In<usize>,
}

impl Attribute {
    /// The value's first three numbers of 32 bits.
    fn numbers(&self) -> [u32; 3] {
        [self.value[0] as u32, (self.value[0] >> 32) as u32, self.value[1] as u32]
    }
}

impl Config {
    /// What it asks for.
    pub(super) fn shape(&self) -> Result<Shape> {
        let Config { grid, threads, dynamic_shared, .. } = *self;
        let mut shape = Shape { grid, threads, dynamic_shared, ..Shape::default() };
        for attribute in self.attributes.list(self.count as usize)? {
            let numbers = attribute.numbers();
            match attribute.id {
                // IGNORE, and what does not change what is computed: ACCESS_POLICY_WINDOW, SYNCHRONIZATION_POLICY,
                // CLUSTER_SCHEDULING_POLICY_PREFERENCE, PRIORITY, MEM_SYNC_DOMAIN_MAP, MEM_SYNC_DOMAIN,
                // PREFERRED_CLUSTER_DIMENSION, PREFERRED_SHARED_MEMORY_CARVEOUT, NVLINK_UTIL_CENTRIC_SCHEDULING.
                0 | 1 | 3 | 5 | 8 | 9 | 10 | 11 | 14 | 16 => {}
                // PROGRAMMATIC_STREAM_SERIALIZATION: what comes before is always done.
                6 => {}
                2 => shape.cooperative = numbers[0] != 0,
                4 => shape.cluster = Some(numbers),
                // PROGRAMMATIC_EVENT, LAUNCH_COMPLETION_EVENT
                7 | 12 => shape.events.push(Handle::<Event>::new(attribute.value[0] as usize).get()?),
                13 if numbers[0] == 0 => {}
                13 => return Err(refuse(Code::NOT_SUPPORTED, "kernel nodes are not updated from kernels")),
                id => {
                    return Err(refuse(
                        Code::INVALID_VALUE,
                        format_args!("launch attribute {id} is not known"),
                    ));
                }
            }
        }
        Ok(shape)
    }
}

impl KernelNode {
    /// The description of now, which may name a kernel of a library instead of a function.
    pub(super) fn of_two(params: In<KernelNode>) -> Result<KernelNode> {
        let mut node = params.get()?;
        if node.function.is_null() {
            node.function = params.offset(size_of::<KernelNode>()).cast::<Handle<Function>>().get()?;
        }
        Ok(node)
    }

    /// The launch that it describes. Its clusters, and whether it is cooperative, are those of the launch before.
    pub(super) fn action(self, before: Option<&Launch>) -> Result<Action> {
        let KernelNode { function, grid, threads, dynamic_shared, params, extra } = self;
        let function = function.get()?;
        let mut shape = Shape { grid, threads, dynamic_shared, ..Shape::default() };
        if let Some(before) = before {
            shape.cluster = (before.cluster != [1; 3]).then_some(before.cluster);
            shape.cooperative = before.cooperative;
            shape.events = before.events.clone();
        }
        Ok(Action::Kernel(shape.launch(driver()?, function, params, extra)?))
    }
}

/// The product, where it can be told.
pub(super) fn product([x, y, z]: [u32; 3]) -> u64 {
    u64::from(x).saturating_mul(u64::from(y)).saturating_mul(u64::from(z))
}

const GRID: [u32; 3] = [i32::MAX as u32, 65535, 65535];
const THREADS: [u32; 3] = [1024, 1024, 64];
const MAX_THREADS: u64 = 1024;
/// Blocks of a cluster that every device with clusters runs.
const PORTABLE_CLUSTER: u64 = 8;
/// Blocks of a cluster that a function may be allowed.
pub(super) const LARGEST_CLUSTER: u64 = 16;
/// Bytes of dynamic shared memory that need no asking, less the static ones.
pub(super) const DEFAULT_SHARED: u32 = 48 * 1024;

impl Shape {
    /// Refuses what the device cannot launch, with the driver's code and a sentence.
    pub(super) fn check(&self, driver: &Driver, function: &Function) -> Result<[u32; 3]> {
        let name = &function.name;
        for (axis, letter) in ["x", "y", "z"].into_iter().enumerate() {
            let (blocks, threads) = (self.grid[axis], self.threads[axis]);
            if blocks == 0 || blocks > GRID[axis] {
                return Err(refuse(
                    Code::INVALID_VALUE,
                    format_args!("{name}: {blocks} blocks along {letter}, expected 1 to {}", GRID[axis]),
                ));
            }
            if threads == 0 || threads > THREADS[axis] {
                return Err(refuse(
                    Code::INVALID_VALUE,
                    format_args!("{name}: {threads} threads along {letter}, expected 1 to {}", THREADS[axis]),
                ));
            }
        }
        let limits = function.limits()?;
        let threads = product(self.threads);
        if threads > MAX_THREADS {
            return Err(refuse(
                Code::INVALID_VALUE,
                format_args!("{name}: {threads} threads in a block, at most {MAX_THREADS}"),
            ));
        }
        if let Some(required) = limits.required_threads
            && required != self.threads
        {
            return Err(refuse(
                Code::INVALID_VALUE,
                format_args!("{name}: blocks of {:?}, but .reqntid says {required:?}", self.threads),
            ));
        }
        if let Some(most) = limits.max_threads
            && threads > product(most)
        {
            return Err(refuse(
                Code::INVALID_VALUE,
                format_args!("{name}: {threads} threads in a block, but .maxntid says {most:?}"),
            ));
        }
        let registers = u64::from(function.registers());
        if threads.next_multiple_of(32) * registers > 65536 {
            return Err(refuse(
                Code::LAUNCH_OUT_OF_RESOURCES,
                format_args!("{name}: {threads} threads of {registers} registers are more than 65536"),
            ));
        }
        let (shared, most) = (self.dynamic_shared, function.max_dynamic_shared()?);
        if shared > most {
            return Err(refuse(
                Code::INVALID_VALUE,
                format_args!(
                    "{name}: {shared} bytes of dynamic shared memory, at most {most}; more is allowed by \
                 cuFuncSetAttribute(MAX_DYNAMIC_SHARED_SIZE_BYTES)"
                ),
            ));
        }
        let cluster = self.check_cluster(driver, function)?;
        if self.cooperative {
            let room = occupancy::blocks(driver, function, threads as u32, shared)? as u64
                * u64::from(driver.device.multiprocessors);
            let blocks = product(self.grid);
            if blocks > room {
                return Err(refuse(
                    Code::COOPERATIVE_LAUNCH_TOO_LARGE,
                    format_args!("{name}: {blocks} blocks must run at once, {room} can"),
                ));
            }
        }
        Ok(cluster)
    }

    fn check_cluster(&self, driver: &Driver, function: &Function) -> Result<[u32; 3]> {
        let name = &function.name;
        let limits = function.limits()?;
        let bad =
            |why: std::fmt::Arguments| Err(refuse(Code::INVALID_CLUSTER_SIZE, format_args!("{name}: {why}")));
        let cluster = match (self.cluster, limits.required_cluster.or(function.required_cluster())) {
            (Some(asked), Some(required)) if asked != required => {
                return bad(format_args!("clusters of {asked:?}, but the kernel says {required:?}"));
            }
            (asked, required) => asked.or(required),
        };
        let Some(cluster) = cluster else {
            if limits.explicit_cluster {
                return bad(format_args!("the kernel is made for clusters, and the launch names no size"));
            }
            return Ok([1; 3]);
        };
        let size = product(cluster);
        if size > 1 && !driver.device.at_least(9, 0) {
            return bad(format_args!("the device has no clusters"));
        }
        let most = if function.non_portable_cluster() { LARGEST_CLUSTER } else { PORTABLE_CLUSTER };
        let most = limits.max_cluster.map_or(most, |limit| most.min(limit.into()));
        if size == 0 || size > most {
            return bad(format_args!("clusters of {cluster:?} blocks, expected 1 to {most}"));
        }
        if (0..3).any(|axis| !self.grid[axis].is_multiple_of(cluster[axis])) {
            return bad(format_args!("a grid of {:?} is not made of clusters of {cluster:?}", self.grid));
        }
        Ok(cluster)
    }

    /// The launch, with the parameters copied.
    pub(super) fn launch(
        self,
        driver: &Driver,
        function: Arc<Function>,
        params: In<In<u8>>,
        extra: In<usize>,
    ) -> Result<Launch> {
        let cluster = self.check(driver, &function)?;
        let params = parameters(&function, params, extra)?.into();
        let Shape { grid, threads, dynamic_shared, cooperative, events, .. } = self;
        Ok(Launch { function, grid, threads, cluster, dynamic_shared, cooperative, params, events })
    }
}

/// Copies the parameters from where the program has them.
fn parameters(function: &Function, params: In<In<u8>>, extra: In<usize>) -> Result<Vec<u8>> {
    let program = function.program()?;
    let name = &function.name;
    let wanted = program.param_bytes as usize;
    match (params.is_null(), extra.is_null()) {
        (true, true) if program.params.is_empty() => Ok(Vec::new()),
        (true, true) => Err(refuse(
            Code::INVALID_VALUE,
            format_args!("{name}: {} parameters are missing", program.params.len()),
        )),
        (false, false) => {
            Err(refuse(Code::INVALID_VALUE, format_args!("{name}: kernelParams and extra are both given")))
        }
        (false, true) => {
            let mut bytes = vec![0; wanted];
            let pointers = params.list(program.params.len())?;
            for (index, (param, pointer)) in program.params.iter().zip(pointers).enumerate() {
                if pointer.is_null() {
                    return Err(refuse(
                        Code::INVALID_VALUE,
                        format_args!("{name}: parameter {index} is NULL"),
                    ));
                }
                let (start, size) = (param.offset as usize, param.size as usize);
                bytes[start..start + size].copy_from_slice(&pointer.list(size)?);
            }
            Ok(bytes)
        }
        (true, false) => {
            let bytes = packed(extra)?;
            if bytes.len() < wanted || bytes.len() > wanted.next_multiple_of(16) {
                let have = bytes.len();
                return Err(refuse(
                    Code::INVALID_VALUE,
                    format_args!("{name}: {have} bytes of parameters where {wanted} are expected"),
                ));
            }
            Ok(bytes[..wanted].to_vec())
        }
    }
}

/// Parameters in one buffer: `CU_LAUNCH_PARAM_BUFFER_POINTER`, `…_SIZE` and `…_END`, as the list says.
fn packed(extra: In<usize>) -> Result<Vec<u8>> {
    let (mut buffer, mut size, mut at) = (None, None, extra);
    loop {
        let key = at.get()?;
        let value = at.offset(size_of::<usize>());
        match key {
            0 => break,
            1 => buffer = Some(value.cast::<In<u8>>().get()?),
            2 => size = Some(value.cast::<In<usize>>().get()?.get()?),
            _ => {
                return Err(refuse(
                    Code::INVALID_VALUE,
                    format_args!("extra has the key {key}, which is not known"),
                ));
            }
        }
        at = value.offset(size_of::<usize>());
    }
    match (buffer, size) {
        (Some(buffer), Some(size)) => buffer.list(size),
        _ => Err(refuse(Code::INVALID_VALUE, "extra names no buffer or not its size")),
    }
}

fn put(
    shape: Shape,
    function: Handle<Function>,
    stream: Handle<Stream>,
    params: In<In<u8>>,
    extra: In<usize>,
) -> Result<()> {
    let driver = driver()?;
    let queue = Queue::of(stream)?;
    let function = function.get()?;
    check_context(&function, &queue.context)?;
    let launch = shape.launch(driver, function, params, extra)?;
    submit(&queue, Action::Kernel(launch))
}

/// A function of a module runs in the module's context, a kernel of a library in any.
fn check_context(function: &Function, context: &Context) -> Result<()> {
    if function.context.is_null() || function.context == context.handle {
        return Ok(());
    }
    Err(refuse(
        Code::INVALID_HANDLE,
        format_args!("{}: function and stream belong to different contexts", function.name),
    ))
}

entries! {
    /// Launches a kernel.
    fn cuLaunchKernel(
        function: Handle<Function>,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        threads_x: c_uint,
        threads_y: c_uint,
        threads_z: c_uint,
        dynamic_shared: c_uint,
        stream: Handle<Stream>,
        params: In<In<u8>>,
        extra: In<usize>,
    ) {
        let (grid, threads) = ([grid_x, grid_y, grid_z], [threads_x, threads_y, threads_z]);
        put(Shape { grid, threads, dynamic_shared, ..Shape::default() }, function, stream, params, extra)
    }

    /// Launches a kernel with attributes.
    fn cuLaunchKernelEx(config: In<Config>, function: Handle<Function>, params: In<In<u8>>, extra: In<usize>) {
        let config = config.get()?;
        put(config.shape()?, function, config.stream, params, extra)
    }

    /// Launches a kernel all of whose blocks run at once.
    fn cuLaunchCooperativeKernel(
        function: Handle<Function>,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        threads_x: c_uint,
        threads_y: c_uint,
        threads_z: c_uint,
        dynamic_shared: c_uint,
        stream: Handle<Stream>,
        params: In<In<u8>>,
    ) {
        let (grid, threads) = ([grid_x, grid_y, grid_z], [threads_x, threads_y, threads_z]);
        let shape = Shape { grid, threads, dynamic_shared, cooperative: true, ..Shape::default() };
        put(shape, function, stream, params, In::NULL)
    }
}
