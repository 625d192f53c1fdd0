//! Copies to host memory that are not waited for.

use std::sync::Arc;

use cudarc::driver::result::memcpy_dtoh_async;
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaStream, DriverError, PinnedHostSlice};
use wikigpt_ops::Ticket;

use crate::Tensor;

/// A page-locked buffer, and when the device has filled it.
struct Copy {
    floats: PinnedHostSlice<f32>,
    done: CudaEvent,
    len: usize,
    waiting: bool,
}

/// The copies by number; one that was collected gives its buffer to the next.
#[derive(Default)]
pub struct Fetched {
    copies: Vec<Copy>,
}

impl Fetched {
    /// Asks for a copy.
    pub fn put(&mut self, stream: &Arc<CudaStream>, src: Tensor) -> Result<Ticket, DriverError> {
        let fits = |copy: &Copy| !copy.waiting && copy.floats.len() >= src.len;
        let number = match self.copies.iter().position(fits) {
            Some(number) => number,
            None => {
                let context = stream.context();
                // SAFETY: the floats are written before they are read. Without flags: the CPU reads them.
                let floats = unsafe { context.alloc_pinned_with_flags(src.len.max(1), 0) }?;
                let done = context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING))?;
                self.copies.push(Copy { floats, done, len: 0, waiting: false });
                self.copies.len() - 1
            }
        };
        let copy = &mut self.copies[number];
        let floats = &mut copy.floats.as_mut_slice()?[..src.len];
        // SAFETY: the source has as many elements; nobody touches the buffer before the event recorded next has come.
        unsafe { memcpy_dtoh_async(floats, src.ptr, stream.cu_stream()) }?;
        copy.done.record(stream)?;
        (copy.len, copy.waiting) = (src.len, true);
        Ok(Ticket { number, len: src.len })
    }

    /// Whether a copy is there.
    pub fn ready(&self, ticket: &Ticket) -> Result<bool, DriverError> {
        self.copies.get(ticket.number).map_or(Ok(true), |copy| copy.done.try_is_complete())
    }

    /// Waits for a copy and gives it, once: false if there is no such copy.
    pub fn take(&mut self, dst: &mut [f32], ticket: Ticket) -> Result<bool, DriverError> {
        let Some(copy) = self.copies.get_mut(ticket.number) else { return Ok(false) };
        if !copy.waiting || copy.len != dst.len() {
            return Ok(false);
        }
        copy.done.synchronize()?;
        dst.copy_from_slice(&copy.floats.as_slice()?[..copy.len]);
        copy.waiting = false;
        Ok(true)
    }
}
