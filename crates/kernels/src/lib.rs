#![doc = "The operations of a GPT on an NVIDIA GPU."]
//!
//! [`Gpu`] is a backend: [`Ops`] by kernels that are written here, in CUDA C++ under `kernels/`. Their sources are
//! embedded; NVRTC compiles them for the device at hand when they are first needed, specialised on the model's shapes, and what it
//! made is kept on disk.
//!
//! Each op has a file of its name on both sides: `kernels/layernorm.cu` has the kernels, `src/layernorm.rs` chooses one,
//! its geometry and its constants. The launchers see tensors whose lengths, overlaps and indices have been checked
//! ([`wikigpt_ops::args`]). What they share:
//!
//! - `nvrtc`: the compiler's library; `compiler`: options, the cache on disk, loading; `source`: what is embedded;
//! - `memory`: allocations, copies, slots to addresses; `staging`: uploads that do not wait;
//! - `launch`: a kernel, its geometry and its arguments; `graph`: sequences of them, recorded;
//! - `fetch`: copies to the host that are not waited for.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod adamw;
mod attention;
mod bias;
mod compiler;
mod cross_entropy;
mod driver;
mod dropout;
mod embedding;
mod error;
mod fetch;
mod gelu;
mod graph;
mod launch;
mod layernorm;
mod matmul;
mod memory;
pub mod nvrtc;
mod ops;
mod reduce;
mod residual;
mod sample;
mod softmax;
pub mod source;
mod staging;
mod tier;
mod timing;
mod unfused;

use std::path::PathBuf;
use std::sync::Arc;

use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{CudaContext, CudaStream};
use wikigpt_ops::{Act, Ops};

pub use compiler::{Arch, Compiler, Constant, Define, Program, Resources, default_cache};
pub(crate) use driver::words;
pub use driver::{Device, devices, driver_version, free_memory};
pub use error::Error;
use memory::{Memory, Tensor};
use source::Source;
pub use tier::Tier;
pub use timing::Mark;

/// What weights and activations are stored in, or gradients of parameters. Arithmetic is in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 4 bytes.
    F32,
    /// 2 bytes: the upper half of an f32. Tensor cores multiply it.
    Bf16,
}

impl Precision {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }

    /// The type's name in the kernels.
    fn name(self) -> &'static str {
        match self {
            Precision::F32 => "float",
            Precision::Bf16 => "bf16",
        }
    }
}

/// How a backend is opened.
pub struct Options {
    /// The device's number.
    pub ordinal: usize,
    /// Weights, activations and their gradients.
    pub precision: Precision,
    /// Gradients of parameters.
    pub grads: Precision,
    /// Whether sequences are recorded as CUDA graphs.
    pub graph: bool,
    /// Where compiled kernels are kept, if anywhere.
    pub cache: Option<PathBuf>,
    /// Told of every program before it is compiled.
    pub progress: Box<dyn FnMut(&str) + Send>,
}

impl Options {
    /// A device in a precision, gradients of parameters in f32; sequences are recorded; kernels are kept in the [default folder](default_cache), and nobody is
    /// told of their compilation.
    pub fn new(ordinal: usize, precision: Precision) -> Options {
        Options {
            ordinal,
            precision,
            grads: Precision::F32,
            graph: true,
            cache: default_cache(),
            progress: Box::new(|_| {}),
        }
    }
}

/// The backend: [`Ops`] on one GPU.
///
/// Ops are asked for and done later, in order. An error of the device may come out at a later call than the one whose kernel failed;
/// with `WIKIGPT_CUDA_SYNC=1` in the environment every launch is waited for.
pub struct Gpu {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    device: Device,
    precision: Precision,
    grads: Precision,
    tier: Tier,
    memory: Memory,
    compiler: Compiler,
    /// Memory that kernels of one op hand to the next; grown at first use and kept.
    scratch: launch::Scratch,
    log: launch::Log,
    fetched: fetch::Fetched,
    graphs: graph::Graphs,
}

/// Whether the first device can be used: there is a driver, a device that is new enough, and the compiler.
///
/// # Errors
/// [`Error`]: what is missing.
pub fn ready() -> Result<(), Error> {
    Device::open(0)?;
    nvrtc::Nvrtc::find()?;
    Ok(())
}

impl Gpu {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error`]: what is missing.
    pub fn open(options: Options) -> Result<Gpu, Error> {
        let device = Device::open(options.ordinal)?;
        let tier = device.tier(options.precision)?;
        let failed = |error| Error::Driver(words(error));
        let context = CudaContext::new(options.ordinal).map_err(failed)?;
        // SAFETY: one stream does everything in order, so no event needs to order anything.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(failed)?;
        let (precision, grads) = (options.precision, options.grads);
        let memory = Memory::new(&stream, precision.bytes(), grads.bytes()).map_err(failed)?;
        let compiler = Compiler::new(context.clone(), device.capability, options.cache, options.progress)?;
        let (scratch, log) = (launch::Scratch::default(), launch::Log::from_environment());
        let (fetched, graphs) =
            (fetch::Fetched::default(), graph::Graphs::new(&stream, options.graph && !log.waits()));
        Ok(Gpu {
            context,
            stream,
            device,
            precision,
            grads,
            tier,
            memory,
            compiler,
            scratch,
            log,
            fetched,
            graphs,
        })
    }

    /// The device.
    pub fn info(&self) -> &Device {
        &self.device
    }

    /// The compiler.
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// What weights and activations are stored in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The family of kernels in use.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Compiles a kernel, runs it and looks at what it computed.
    ///
    /// # Errors
    /// [`wikigpt_ops::Error::Device`]: what does not work.
    pub fn self_test(&mut self) -> wikigpt_ops::Result {
        const LEN: usize = 1000;
        let (a, b, out) = (self.alloc::<Act>(LEN)?, self.alloc::<Act>(LEN)?, self.alloc::<Act>(LEN)?);
        // Small whole numbers, and their sums, are exact in every precision.
        let numbers: Vec<f32> = (0..LEN).map(|i| (i % 100) as f32).collect();
        self.upload(a, &numbers)?;
        self.upload(b, &numbers)?;
        self.residual_forward(out, a, b)?;
        let mut sums = vec![0.0; LEN];
        self.download(&mut sums, out)?;
        for slot in [a, b, out] {
            self.free(slot)?;
        }
        match sums.iter().zip(&numbers).find(|(sum, x)| **sum != 2.0 * **x) {
            None => Ok(()),
            Some((sum, x)) => Err(wikigpt_ops::Error::Device {
                op: "self-test",
                device: self.device.name.clone(),
                message: format!("{x} + {x} gave {sum}: do not trust this device"),
            }),
        }
    }

    /// Bytes of the device's memory that are free, and all of them.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn memory(&self) -> Result<(u64, u64), Error> {
        let (free, total) = self.context.mem_get_info().map_err(|error| Error::Driver(words(error)))?;
        Ok((free as u64, total as u64))
    }

    /// Multiprocessors.
    pub(crate) fn multiprocessors(&self) -> u32 {
        self.device.multiprocessors
    }

    /// The types of a program's tensors, which it is specialised on.
    pub(crate) fn types(&self, source: Source) -> Vec<Define> {
        let mut types = vec![("ACT", Constant::Type(self.precision.name()))];
        types.extend(source.uses_grad().then(|| ("GRAD", Constant::Type(self.grads.name()))));
        types
    }

    /// A device's attribute.
    pub(crate) fn attribute(&self, attribute: CUdevice_attribute) -> u32 {
        self.context.attribute(attribute).map_or(0, |value| value.max(0) as u32)
    }
}
