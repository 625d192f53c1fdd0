//! Uploads that do not wait: through page-locked buffers that the device reads by itself.

use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::result::memcpy_htod_async;
use cudarc::driver::sys::{CUdeviceptr, CUevent_flags};
use cudarc::driver::{CudaEvent, CudaStream, DriverError, PinnedHostSlice};

/// Bytes of a buffer, and how many there are: a training step's tokens fit into one, so that the next step's are staged while
/// this one runs.
const BYTES: usize = 1 << 20;
const BUFFERS: usize = 4;

/// One buffer, and when the device has read it.
struct Buffer {
    bytes: PinnedHostSlice<u8>,
    read: CudaEvent,
}

/// The buffers, used in turn.
pub struct Staging {
    stream: Arc<CudaStream>,
    buffers: Vec<Buffer>,
    next: usize,
}

impl Staging {
    /// Allocates the buffers.
    pub fn new(stream: &Arc<CudaStream>) -> Result<Staging, DriverError> {
        let context = stream.context();
        let buffer = |_| {
            // SAFETY: the bytes are written before they are read.
            let bytes = unsafe { context.alloc_pinned::<u8>(BYTES) }?;
            let read = context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING))?;
            Ok(Buffer { bytes, read })
        };
        let buffers = (0..BUFFERS).map(buffer).collect::<Result<Vec<_>, DriverError>>()?;
        Ok(Staging { stream: stream.clone(), buffers, next: 0 })
    }

    /// Converts elements and copies them to the device at `to`, which has room for them. It waits for no more than a free buffer.
    pub fn send<S, T: Pod>(
        &mut self,
        to: CUdeviceptr,
        src: &[S],
        convert: impl Fn(&S) -> T,
    ) -> Result<(), DriverError> {
        let room = BYTES / size_of::<T>();
        for (piece, src) in src.chunks(room).enumerate() {
            let buffer = &mut self.buffers[self.next];
            self.next = (self.next + 1) % BUFFERS;
            buffer.read.synchronize()?;
            let bytes =
                &mut buffer.bytes.as_mut_slice()?[..size_of_val(src) / size_of::<S>() * size_of::<T>()];
            let elements: &mut [T] = bytemuck::cast_slice_mut(bytes);
            elements.iter_mut().zip(src).for_each(|(element, from)| *element = convert(from));
            let at = to + (piece * room * size_of::<T>()) as CUdeviceptr;
            // SAFETY: the destination has room; the buffer is not written again before the event recorded next has come.
            unsafe { memcpy_htod_async(at, elements, self.stream.cu_stream()) }?;
            buffer.read.record(&self.stream)?;
        }
        Ok(())
    }
}
