//! Allocations on the device behind slots, and copies to and from them.

use std::sync::Arc;

use cudarc::driver::result::{free_sync, malloc_sync, memcpy_dtod_async, memcpy_dtoh_async, memset_d8_async};
use cudarc::driver::sys::{CUdeviceptr, CUresult};
use cudarc::driver::{CudaContext, CudaStream, DriverError};
use half::bf16;
use wikigpt_ops::args::{Arg, Args};
use wikigpt_ops::{Error, IGNORE, Kind, Result, Slot, Tag};

use crate::staging::Staging;

/// What a kernel is given of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its first element on the device; 0 if the op was not given the tensor.
    pub ptr: CUdeviceptr,
    /// Elements.
    pub len: usize,
    /// The number of its first element in its allocation.
    pub offset: usize,
}

impl Tensor {
    /// None for a tensor that the op was not given.
    pub fn present(self) -> Option<Tensor> {
        (self.ptr != 0).then_some(self)
    }

    /// Whether it begins at a multiple of 16 bytes.
    pub fn aligned(self) -> bool {
        self.ptr.is_multiple_of(16)
    }
}

/// One allocation.
struct Allocation {
    ptr: CUdeviceptr,
    len: usize,
    tag: Tag,
    /// Tokens are kept on the host too: so they are checked without waiting for the device. [`IGNORE`] where the device wrote.
    tokens: Vec<u32>,
}

/// All memory of a backend.
pub struct Memory {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    allocations: Vec<Option<Allocation>>,
    /// Bytes of an element of `Act` and of `Grad`.
    act: usize,
    grad: usize,
    staging: Staging,
    /// The tensors of the last op, for the message if its kernel fails.
    last: Vec<Arg>,
}

impl Memory {
    /// With nothing allocated.
    pub fn new(
        stream: &Arc<CudaStream>,
        act: usize,
        grad: usize,
    ) -> std::result::Result<Memory, DriverError> {
        let staging = Staging::new(stream)?;
        Ok(Memory {
            context: stream.context().clone(),
            stream: stream.clone(),
            allocations: Vec::new(),
            act,
            grad,
            staging,
            last: Vec::new(),
        })
    }

    /// Bytes of an element.
    pub fn bytes(&self, tag: Tag) -> usize {
        match tag {
            Tag::Act => self.act,
            Tag::Grad => self.grad,
            Tag::Stat | Tag::Tok => 4,
        }
    }

    /// Allocates zeroed elements; see [`wikigpt_ops::Ops::alloc`].
    pub fn alloc<K: Kind>(&mut self, device: &str, len: usize) -> Result<Slot<K>> {
        let free = || self.context.mem_get_info().ok().map(|(free, _)| free as u64);
        let out_of_memory = |wanted| Error::OutOfMemory { device: device.into(), wanted, free: free() };
        let bytes = len.checked_mul(self.bytes(K::TAG)).ok_or_else(|| out_of_memory(u64::MAX))?;
        // SAFETY: nothing is read before the memory is set below.
        let ptr = match unsafe { malloc_sync(bytes.max(1)) } {
            Ok(ptr) => ptr,
            // A size beyond the device's address space is called an invalid value.
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY | CUresult::CUDA_ERROR_INVALID_VALUE)) => {
                return Err(out_of_memory(bytes as u64));
            }
            Err(error) => return Err(self.failed("alloc", device, error)),
        };
        // SAFETY: `ptr` is an allocation of at least as many bytes, which no one else knows.
        unsafe { memset_d8_async(ptr, 0, bytes, self.stream.cu_stream()) }
            .map_err(|error| self.failed("alloc", device, error))?;
        let tokens = if K::TAG == Tag::Tok { vec![0; len] } else { Vec::new() };
        let number = self.allocations.len() as u32;
        self.allocations.push(Some(Allocation { ptr, len, tag: K::TAG, tokens }));
        Ok(Slot::whole(number, len))
    }

    fn failed(&self, op: &'static str, device: &str, error: DriverError) -> Error {
        Error::Device { op, device: device.into(), message: crate::words(error) }
    }

    /// Gives an allocation back; see [`wikigpt_ops::Ops::free`].
    pub fn free<K: Kind>(&mut self, device: &str, slot: Slot<K>) -> Result {
        let whole = |a: &Allocation| slot.offset == 0 && slot.len == a.len && K::TAG == a.tag;
        let held = self.allocations.get_mut(slot.allocation as usize);
        let Some(held) = held.filter(|held| held.as_ref().is_some_and(whole)).and_then(Option::take) else {
            let message = format!("{slot:?} is not a whole allocation");
            return Err(Error::Argument { op: "free", message });
        };
        // SAFETY: the allocation was live and is gone from the table; the driver waits for the kernels that use it.
        unsafe { free_sync(held.ptr) }.map_err(|error| self.failed("free", device, error))
    }

    /// Copies from host memory; see [`wikigpt_ops::Ops::upload`].
    pub fn upload<K: Kind>(&mut self, device: &str, dst: Slot<K>, src: &[K::Host]) -> Result {
        let arg = Arg::new("upload", "dst", dst, src.len())?;
        let to = self.tensor("upload", &arg)?;
        self.remember(&arg, |mirror| mirror.copy_from_slice(bytemuck::cast_slice(src)));
        let size = self.bytes(K::TAG);
        let copied = if size == 2 {
            let floats: &[f32] = bytemuck::cast_slice(src);
            self.staging.send(to.ptr, floats, |x| bf16::from_f32(*x).to_bits())
        } else {
            self.staging.send(to.ptr, bytemuck::cast_slice::<_, u32>(src), |x| *x)
        };
        copied.map_err(|error| self.failed("upload", device, error))
    }

    /// Copies to host memory; see [`wikigpt_ops::Ops::download`].
    pub fn download<K: Kind>(&mut self, device: &str, dst: &mut [K::Host], src: Slot<K>) -> Result {
        let arg = Arg::new("download", "src", src, dst.len())?;
        let from = self.tensor("download", &arg)?;
        let stream = self.stream.cu_stream();
        let copied = if self.bytes(K::TAG) == 2 {
            let mut halves = vec![bf16::ZERO; dst.len()];
            // SAFETY: as many elements as the slot has; the copy is over before `halves` is read or dropped.
            unsafe { memcpy_dtoh_async(&mut halves, from.ptr, stream) }
                .and_then(|()| self.stream.synchronize())
                .map(|()| {
                    let floats = bytemuck::cast_slice_mut::<_, f32>(dst);
                    floats.iter_mut().zip(&halves).for_each(|(float, half)| *float = half.to_f32());
                })
        } else {
            // SAFETY: as many elements as the slot has; the copy is over before `dst` is given back.
            unsafe { memcpy_dtoh_async(dst, from.ptr, stream) }.and_then(|()| self.stream.synchronize())
        };
        copied.map_err(|error| self.failed("download", device, error))
    }

    /// Copies between slots; see [`wikigpt_ops::Ops::copy`].
    pub fn copy<K: Kind>(&mut self, device: &str, dst: Slot<K>, src: Slot<K>) -> Result {
        let args = wikigpt_ops::args::signatures::copy(dst, src)?;
        let ([to], [from], []) = self.tensors(&args)?;
        if K::TAG == Tag::Tok {
            let held = self.allocations[src.allocation as usize].as_ref();
            let tokens = held.map(|held| held.tokens[src.range()].to_vec()).unwrap_or_default();
            self.remember(&args.write[0], |mirror| mirror.copy_from_slice(&tokens));
        }
        let bytes = from.len * self.bytes(K::TAG);
        // SAFETY: both lie in live allocations, do not overlap, and have as many elements.
        unsafe { memcpy_dtod_async(to.ptr, from.ptr, bytes, self.stream.cu_stream()) }
            .map_err(|error| self.failed("copy", device, error))
    }

    /// Sets every element to zero; see [`wikigpt_ops::Ops::zero`].
    pub fn zero<K: Kind>(&mut self, device: &str, dst: Slot<K>) -> Result {
        let arg = Arg::new("zero", "dst", dst, dst.len)?;
        let to = self.tensor("zero", &arg)?;
        self.remember(&arg, |mirror| mirror.fill(0));
        let bytes = to.len * self.bytes(K::TAG);
        // SAFETY: the slot lies in a live allocation.
        unsafe { memset_d8_async(to.ptr, 0, bytes, self.stream.cu_stream()) }
            .map_err(|error| self.failed("zero", device, error))
    }

    /// An op's tensors: those it writes, the floats it reads, the tokens it reads.
    ///
    /// # Errors
    /// [`Error::Argument`] when a slot is not inside a live allocation of its kind, when a written one overlaps any other, or
    /// when a token names no row.
    pub fn tensors<const W: usize, const R: usize, const K: usize>(
        &mut self,
        args: &Args<W, R, K>,
    ) -> Result<([Tensor; W], [Tensor; R], [Tensor; K])> {
        args.apart()?;
        fn all<const N: usize>(memory: &Memory, op: &'static str, args: &[Arg; N]) -> Result<[Tensor; N]> {
            let mut tensors = [Tensor { ptr: 0, len: 0, offset: 0 }; N];
            for (tensor, arg) in tensors.iter_mut().zip(args) {
                *tensor = memory.tensor(op, arg)?;
            }
            Ok(tensors)
        }
        let found = (
            all(self, args.op, &args.write)?,
            all(self, args.op, &args.read)?,
            all(self, args.op, &args.tokens)?,
        );
        for arg in &args.tokens {
            if let Some(Some(held)) = self.allocations.get(arg.allocation as usize) {
                arg.check_tokens(args.op, &held.tokens[arg.offset..arg.offset + arg.len])?;
            }
        }
        // What the device writes the host does not know: no op takes it for an index.
        for arg in args.write.iter().filter(|arg| arg.tag == Tag::Tok) {
            self.remember(arg, |mirror| mirror.fill(IGNORE));
        }
        self.last.clear();
        let all = args.write.iter().chain(&args.read).chain(&args.tokens);
        self.last.extend(all.filter(|arg| !arg.absent()));
        Ok(found)
    }

    /// The tensors of the last op and their shapes, in words.
    pub fn last(&self) -> String {
        self.last.iter().map(Arg::to_string).collect::<Vec<_>>().join(", ")
    }

    fn tensor(&self, op: &'static str, arg: &Arg) -> Result<Tensor> {
        if arg.absent() {
            return Ok(Tensor { ptr: 0, len: 0, offset: 0 });
        }
        let held = self.allocations.get(arg.allocation as usize).and_then(Option::as_ref);
        arg.inside(op, held.map(|held| (held.len, held.tag)))?;
        let ptr = held.map_or(0, |held| held.ptr + (arg.offset * self.bytes(arg.tag)) as CUdeviceptr);
        Ok(Tensor { ptr, len: arg.len, offset: arg.offset })
    }

    /// Changes the host's copy of tokens.
    fn remember(&mut self, arg: &Arg, change: impl FnOnce(&mut [u32])) {
        if arg.tag == Tag::Tok
            && !arg.absent()
            && let Some(Some(held)) = self.allocations.get_mut(arg.allocation as usize)
        {
            change(&mut held.tokens[arg.offset..arg.offset + arg.len]);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Nobody is left to be told of an error.
        let _ = self.context.bind_to_thread();
        for held in self.allocations.iter().flatten() {
            // SAFETY: the allocation is live and this is its last use; the driver waits for the kernels that use it.
            let _ = unsafe { free_sync(held.ptr) };
        }
    }
}
