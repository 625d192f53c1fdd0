//! A kernel, its geometry and its arguments.

use std::ffi::c_void;

use cudarc::driver::result::{free_sync, launch_kernel, malloc_sync};
use cudarc::driver::sys::{CUdeviceptr, CUfunction_attribute};
use cudarc::driver::{CudaFunction, DriverError};
use wikigpt_ops::{Error, Result, Update};

use crate::source::Source;
use crate::{Define, Gpu, Tensor, words};

/// Dynamic shared memory that a kernel has without asking, in bytes.
const USUAL_SHARED: u32 = 48 << 10;

/// One argument of a kernel. Each is at most 8 bytes wide.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// A tensor's address; null if it was not given.
    Ptr(CUdeviceptr),
    /// `int`.
    I32(i32),
    /// `unsigned`.
    U32(u32),
    /// `unsigned long long`.
    U64(u64),
    /// `float`.
    F32(f32),
}

impl Value {
    /// The value's bytes, first those that the kernel reads.
    fn bits(self) -> u64 {
        match self {
            Value::Ptr(address) => address,
            Value::I32(x) => x as u32 as u64,
            Value::U32(x) => x.into(),
            Value::U64(x) => x,
            Value::F32(x) => x.to_bits().into(),
        }
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Value {
        Value::Ptr(tensor.ptr)
    }
}

impl From<Option<Tensor>> for Value {
    fn from(tensor: Option<Tensor>) -> Value {
        Value::Ptr(tensor.map_or(0, |tensor| tensor.ptr))
    }
}

impl From<bool> for Value {
    fn from(x: bool) -> Value {
        Value::I32(x.into())
    }
}

impl From<f32> for Value {
    fn from(x: f32) -> Value {
        Value::F32(x)
    }
}

/// A count that a kernel takes as `int`.
impl From<i32> for Value {
    fn from(x: i32) -> Value {
        Value::I32(x)
    }
}

/// A count, or words, that a kernel takes as `unsigned`.
impl From<u32> for Value {
    fn from(x: u32) -> Value {
        Value::U32(x)
    }
}

/// A count that a kernel takes as `size_t`.
impl From<u64> for Value {
    fn from(x: u64) -> Value {
        Value::U64(x)
    }
}

impl From<usize> for Value {
    fn from(x: usize) -> Value {
        Value::U64(x as u64)
    }
}

/// 0 sets, 1 adds.
impl From<Update> for Value {
    fn from(update: Update) -> Value {
        (update == Update::Add).into()
    }
}

/// Threads of a block that walks a tensor element by element.
const THREADS: u32 = 256;

/// Geometry for a kernel that walks a tensor of `len` elements of `Act`: a thread for every 16 bytes, whatever the grid.
pub fn elementwise(gpu: &Gpu, len: usize) -> Geometry {
    let vectors = len.div_ceil(16 / gpu.precision().bytes());
    // More blocks than any device runs at once are of no use to a loop over the grid.
    Geometry::line(vectors.div_ceil(THREADS as usize).clamp(1, 1 << 20) as u32, THREADS)
}

/// A dimension that a kernel takes as `int`.
///
/// # Errors
/// [`Error::Argument`] if it is larger than one holds.
pub fn int(op: &'static str, name: &str, dimension: usize) -> Result<i32> {
    i32::try_from(dimension).map_err(|_| Error::Argument {
        op,
        message: format!("{name} can be at most {} on a GPU, got {dimension}", i32::MAX),
    })
}

/// The same as an argument.
///
/// # Errors
/// Those of [`int`].
pub fn dim(op: &'static str, name: &str, dimension: usize) -> Result<Value> {
    int(op, name, dimension).map(Value::I32)
}

/// A grid that reaches over `x` and `y` in tiles, `z` times.
pub fn tiles(op: &'static str, x: (usize, usize), y: (usize, usize), z: usize) -> Result<[u32; 3]> {
    // The most that the driver takes in each direction.
    let most = [i32::MAX as usize, 65_535, 65_535];
    let grid = [x.0.div_ceil(x.1), y.0.div_ceil(y.1), z];
    if grid.iter().zip(most).any(|(blocks, most)| *blocks > most) {
        let message = format!(
            "it would take a grid of {grid:?} blocks, and {most:?} is the largest: use a smaller batch"
        );
        return Err(Error::Argument { op, message });
    }
    Ok(grid.map(|blocks| blocks as u32))
}

/// How many elements of `Act` a thread moves at once, for matrices of so many columns: as many as 16 bytes hold if every row of
/// every one of them begins at a multiple of 16 bytes, else one.
pub fn width(gpu: &Gpu, columns: usize, matrices: &[Tensor]) -> usize {
    let width = 16 / gpu.precision().bytes();
    let aligned = columns.is_multiple_of(width) && matrices.iter().all(|matrix| matrix.aligned());
    if aligned { width } else { 1 }
}

/// How a kernel is launched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Geometry {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

impl Geometry {
    /// Blocks and threads in one dimension.
    pub fn line(blocks: u32, threads: u32) -> Geometry {
        Geometry { grid: [blocks, 1, 1], block: [threads, 1, 1], shared: 0 }
    }

    /// Blocks in two dimensions.
    pub fn plane(x: usize, y: usize, threads: u32) -> Geometry {
        Geometry { grid: [x as u32, y as u32, 1], block: [threads, 1, 1], shared: 0 }
    }

    /// With dynamic shared memory.
    pub fn shared(self, bytes: u32) -> Geometry {
        Geometry { shared: bytes, ..self }
    }
}

/// What was launched since the device was last known to be well.
#[derive(Default)]
pub struct Log {
    /// Whether every launch is waited for.
    sync: bool,
    /// The last op and its kernel.
    last: Option<(&'static str, &'static str)>,
    /// Launches since.
    launches: u64,
}

impl Log {
    /// As the environment has it.
    pub fn from_environment() -> Log {
        let sync =
            std::env::var_os("WIKIGPT_CUDA_SYNC").is_some_and(|value| value != "0" && !value.is_empty());
        Log { sync, ..Log::default() }
    }

    /// Whether every launch is waited for.
    pub fn waits(&self) -> bool {
        self.sync
    }

    /// The device has done everything.
    pub fn all_done(&mut self) {
        self.launches = 0;
    }
}

/// Memory of ops' own.
#[derive(Default)]
pub struct Scratch {
    ptr: CUdeviceptr,
    bytes: usize,
    /// What was too small: a launch that is recorded may still name it.
    outgrown: Vec<CUdeviceptr>,
}

impl Gpu {
    /// A function of a program, which is compiled if it has not been; `defines` besides the [types](Gpu::types).
    pub(crate) fn kernel(
        &mut self,
        op: &'static str,
        source: Source,
        defines: &[Define],
        name: &'static str,
    ) -> Result<CudaFunction> {
        let mut all = self.types(source);
        all.extend_from_slice(defines);
        let compiled = self.compiler.function(source, &all, name);
        compiled.map_err(|message| Error::Device { op, device: self.device.name.clone(), message })
    }

    /// Asks for a launch. The launcher answers for the arguments: as many as the kernel has, of its types and in its order, and
    /// tensors in live allocations that are as long as it takes them to be.
    pub(crate) fn launch(
        &mut self,
        op: &'static str,
        name: &'static str,
        function: &CudaFunction,
        geometry: Geometry,
        values: &[Value],
    ) -> Result {
        let Geometry { grid, block, shared } = geometry;
        if shared > USUAL_SHARED {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function
                .set_attribute(attribute, shared as i32)
                .map_err(|error| self.failed(op, name, geometry, error))?;
        }
        let mut bits: Vec<u64> = values.iter().map(|value| value.bits()).collect();
        let mut params: Vec<*mut c_void> = bits.iter_mut().map(|bits| (bits as *mut u64).cast()).collect();
        self.context.bind_to_thread().map_err(|error| self.failed(op, name, geometry, error))?;
        // SAFETY: the driver copies the arguments before it returns, and the launcher answers for them (above). That an index stays
        // inside its tensor is the kernel's to see to; the emulator checks it in every test.
        let launched = unsafe {
            launch_kernel(
                function.cu_function(),
                (grid[0], grid[1], grid[2]),
                (block[0], block[1], block[2]),
                shared,
                self.stream.cu_stream(),
                &mut params,
            )
        };
        launched.map_err(|error| self.failed(op, name, geometry, error))?;
        (self.log.last, self.log.launches) = (Some((op, name)), self.log.launches + 1);
        if self.log.sync {
            self.stream.synchronize().map_err(|error| self.failed(op, name, geometry, error))?;
            self.log.all_done();
        }
        Ok(())
    }

    fn failed(&self, op: &'static str, name: &'static str, geometry: Geometry, error: DriverError) -> Error {
        let Geometry { grid, block, shared } = geometry;
        let message = format!(
            "kernel {name} on {}, grid {grid:?}, blocks of {block:?} threads, {shared} bytes of shared memory: {}",
            self.memory.last(),
            words(error)
        );
        Error::Device { op, device: self.device.name.clone(), message }
    }

    /// An error that came out when the device was waited for: it may be that of any launch since the last time.
    pub(crate) fn failed_since(&self, op: &'static str, error: DriverError) -> Error {
        let device = self.device.name.clone();
        self.blame(Error::Device { op, device, message: words(error) })
    }

    /// Adds to an error of the device which kernels may have caused it.
    pub(crate) fn blame(&self, error: Error) -> Error {
        match (error, self.log.last) {
            (Error::Device { op, device, message }, Some((last, name))) if self.log.launches > 0 => {
                let message = format!(
                    "{message}, in one of {} kernels launched before, the last of them {name} of {last} on {}; WIKIGPT_CUDA_SYNC=1 tells which",
                    self.log.launches,
                    self.memory.last()
                );
                Error::Device { op, device, message }
            }
            (error, _) => error,
        }
    }

    /// Scratch of at least so many bytes, aligned to 256; what it holds is unspecified. The next op may be given the same.
    pub(crate) fn scratch(&mut self, bytes: usize) -> Result<CUdeviceptr> {
        if self.scratch.bytes >= bytes {
            return Ok(self.scratch.ptr);
        }
        let rounded = bytes.next_multiple_of(1 << 20);
        // SAFETY: kernels write the scratch before they read it.
        let Ok(ptr) = (unsafe { malloc_sync(rounded) }) else {
            let free = self.context.mem_get_info().ok().map(|(free, _)| free as u64);
            return Err(Error::OutOfMemory {
                device: self.device.name.clone(),
                wanted: rounded as u64,
                free,
            });
        };
        if self.scratch.ptr != 0 {
            self.scratch.outgrown.push(self.scratch.ptr);
        }
        (self.scratch.ptr, self.scratch.bytes) = (ptr, rounded);
        Ok(ptr)
    }

    /// Frees scratch that was too small: nothing names it once the device has done everything.
    pub(crate) fn free_outgrown(&mut self) {
        for ptr in self.scratch.outgrown.drain(..) {
            // SAFETY: it is live and this is its last use. Nobody could do anything about an error.
            let _ = unsafe { free_sync(ptr) };
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // Nobody is left to be told of an error.
        let _ = self.context.bind_to_thread();
        self.free_outgrown();
        if self.scratch.ptr != 0 {
            // SAFETY: the scratch is live and this is its last use; the driver waits for the kernels that use it.
            let _ = unsafe { free_sync(self.scratch.ptr) };
        }
    }
}
