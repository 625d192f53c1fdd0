//! Times on the device's own clock, and what it can do at best.

use std::time::Duration;

use cudarc::driver::CudaEvent;
use cudarc::driver::result::memset_d8_async;
use cudarc::driver::sys::{CUdevice_attribute, CUevent_flags};
use wikigpt_ops::{Act, Ops, Result};

use crate::launch::{Geometry, Value};
use crate::source::PEAK;
use crate::{Gpu, Precision};

/// Threads of a block of `kernels/peak.cu`, and sums of each thread or warp.
const THREADS: u32 = 256;
const CHAINS: u64 = 8;
/// Blocks for every multiprocessor.
const BLOCKS: u32 = 4;

/// A moment between two kernels.
pub struct Mark(CudaEvent);

impl Gpu {
    /// Marks the moment when everything asked for before is done.
    ///
    /// # Errors
    /// [`wikigpt_ops::Error::Device`].
    pub fn mark(&mut self) -> Result<Mark> {
        let event = self.context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        let recorded = event.and_then(|event| event.record(&self.stream).map(|()| event));
        recorded.map(Mark).map_err(|error| self.failed_since("mark", error))
    }

    /// The time between two marks; waits for the second.
    ///
    /// # Errors
    /// [`wikigpt_ops::Error::Device`].
    pub fn between(&mut self, first: &Mark, second: &Mark) -> Result<Duration> {
        let elapsed = second.0.synchronize().and_then(|()| first.0.elapsed_ms(&second.0));
        elapsed
            .map(|ms| Duration::from_secs_f64(f64::from(ms.max(0.0)) / 1e3))
            .map_err(|error| self.failed_since("between", error))
    }

    /// Fills the L2 cache with what no op reads.
    ///
    /// # Errors
    /// [`wikigpt_ops::Error`], when there is no memory for it or the device fails.
    pub fn flush_cache(&mut self) -> Result {
        let bytes =
            2 * self.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).max(1 << 20) as usize;
        let scratch = self.scratch(bytes)?;
        // SAFETY: the scratch has as many bytes, and what it holds between ops is unspecified.
        let filled = unsafe { memset_d8_async(scratch, 0, bytes, self.stream.cu_stream()) };
        filled.map_err(|error| self.failed_since("flush_cache", error))
    }

    /// FLOP a second of multiply-adds on registers alone, the best of five: in f32 without tensor cores, in bf16 on them by `mma.sync`.
    /// `rounds` says how long to measure: 2¹⁴ take a few milliseconds.
    ///
    /// # Errors
    /// [`wikigpt_ops::Error::Device`].
    pub fn peak(&mut self, rounds: u32) -> Result<f64> {
        const OP: &str = "peak";
        let (name, threads_of_sums, flops) = match self.precision() {
            Precision::F32 => ("peak_float", 1, 2),
            Precision::Bf16 => ("peak_mma", 32, 2 * 16 * 8 * 16),
        };
        let kernel = self.kernel(OP, PEAK, &[], name)?;
        let geometry = Geometry::line(BLOCKS * self.multiprocessors(), THREADS);
        let out = Value::Ptr(self.scratch(size_of::<f32>())?);
        // Products stay finite, and no sum of positive numbers is −1.
        let (a, b) = match self.precision() {
            Precision::F32 => (Value::F32(0.5), Value::F32(0.25)),
            Precision::Bf16 => (Value::U32(0x3f00_3f00), Value::U32(0x3e80_3e80)),
        };
        let values = [out, Value::I32(rounds as i32), a, b, Value::F32(-1.0)];
        let threads = u64::from(geometry.grid[0] * THREADS);
        let work = threads / threads_of_sums * CHAINS * flops * u64::from(rounds);
        let mut best: f64 = 0.0;
        for _ in 0..5 {
            let first = self.mark()?;
            self.launch(OP, name, &kernel, geometry, &values)?;
            let second = self.mark()?;
            let time = self.between(&first, &second)?;
            best = best.max(work as f64 / time.as_secs_f64().max(1e-9));
        }
        Ok(best)
    }

    /// Bytes a second read and written by a copy of `len` elements, the best of five.
    ///
    /// # Errors
    /// [`wikigpt_ops::Error`], when there is no memory for two such tensors or the device fails.
    pub fn copy_bandwidth(&mut self, len: usize) -> Result<f64> {
        let (from, to) = (self.alloc::<Act>(len)?, self.alloc::<Act>(len)?);
        let bytes = 2 * len * self.act_bytes();
        let mut best: f64 = 0.0;
        for _ in 0..5 {
            let first = self.mark()?;
            self.copy(to, from)?;
            let second = self.mark()?;
            let time = self.between(&first, &second)?;
            best = best.max(bytes as f64 / time.as_secs_f64().max(1e-9));
        }
        self.free(from)?;
        self.free(to)?;
        Ok(best)
    }
}
