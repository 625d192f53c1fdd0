//! Sequences of launches that come again and again: recorded as a CUDA graph, handed to the device as one.
//!
//! The first time a sequence runs as it is asked for, so that its kernels are compiled and its scratch is there. From then on
//! its launches are recorded, the graph of the time before is given their arguments, and that graph is launched: what changes
//! from step to step (a learning rate, a seed) needs no handling of its own, and the device goes from kernel to kernel
//! without waiting for the host.

use std::collections::HashMap;
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::driver::result::graph;
use cudarc::driver::sys::{
    self, CUgraph, CUgraphExec, CUgraphExecUpdateResultInfo, CUgraphInstantiate_flags, CUresult,
    CUstreamCaptureMode,
};
use cudarc::driver::{CudaStream, DriverError};

use crate::driver_version;

/// The graphs by their sequence's number.
pub struct Graphs {
    stream: Arc<CudaStream>,
    enabled: bool,
    sequences: HashMap<u32, Sequence>,
    /// The sequence that is being recorded.
    recording: Option<u32>,
}

#[derive(Default)]
struct Sequence {
    executable: Option<CUgraphExec>,
    runs: u64,
}

// SAFETY: the executables are touched by the thread alone that has the backend, one at a time.
unsafe impl Send for Graphs {}

impl Graphs {
    /// None yet. Drivers before CUDA 12 cannot update a graph as is needed here: on them nothing is recorded.
    pub fn new(stream: &Arc<CudaStream>, enabled: bool) -> Graphs {
        let enabled = enabled && driver_version().is_some_and(|version| version >= (12, 0));
        Graphs { stream: stream.clone(), enabled, sequences: HashMap::new(), recording: None }
    }

    /// Begins a sequence.
    pub fn record(&mut self, number: u32) -> Result<(), DriverError> {
        self.abandon();
        let sequence = self.sequences.entry(number).or_default();
        sequence.runs += 1;
        if !self.enabled || sequence.runs == 1 {
            return Ok(());
        }
        // Relaxed: a kernel that is met for the first time here may still be compiled and loaded.
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)?;
        self.recording = Some(number);
        Ok(())
    }

    /// Ends the sequence and launches it.
    pub fn submit(&mut self) -> Result<(), DriverError> {
        let Some(number) = self.recording.take() else { return Ok(()) };
        self.stream.context().bind_to_thread()?;
        // SAFETY: the stream is live and captures.
        let recorded = unsafe { end_capture(&self.stream) }?;
        let recorded = Recorded(recorded);
        let sequence = self.sequences.entry(number).or_default();
        let fits = sequence.executable.is_some_and(|executable| update(executable, recorded.0));
        if !fits {
            if let Some(old) = sequence.executable.take() {
                // SAFETY: this is its last use; the driver keeps what is still running.
                unsafe { graph::exec_destroy(old) }?;
            }
            // SAFETY: the graph was recorded above and is live.
            sequence.executable =
                Some(unsafe { graph::instantiate(recorded.0, CUgraphInstantiate_flags(0)) }?);
        }
        let executable = sequence.executable.unwrap_or(null_mut());
        // SAFETY: both are live; the memory that the kernels name is freed by the driver only after they have run.
        unsafe { graph::launch(executable, self.stream.cu_stream()) }
    }

    /// Forgets a sequence that ended in an error before it was submitted.
    pub fn abandon(&mut self) {
        if self.recording.take().is_some()
            // SAFETY: the stream is live and captures.
            && let Ok(graph) = unsafe { end_capture(&self.stream) }
        {
            drop(Recorded(graph));
        }
    }
}

/// Ends the capture of a stream.
///
/// # Safety
/// The stream captures.
unsafe fn end_capture(stream: &CudaStream) -> Result<CUgraph, DriverError> {
    // SAFETY: the caller's.
    unsafe { cudarc::driver::result::stream::end_capture(stream.cu_stream()) }
}

/// Gives an executable the arguments of a graph of the same shape: false if its shape is another.
fn update(executable: CUgraphExec, graph: CUgraph) -> bool {
    // SAFETY: zeros are a valid value, which the call overwrites.
    let mut info: CUgraphExecUpdateResultInfo = unsafe { std::mem::zeroed() };
    // SAFETY: both are live.
    unsafe { sys::cuGraphExecUpdate_v2(executable, graph, &raw mut info) == CUresult::CUDA_SUCCESS }
}

/// A recorded graph, destroyed at the end: the executable has what it needs of it.
struct Recorded(CUgraph);

impl Drop for Recorded {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the graph is live and this is its last use. Nobody could do anything about an error.
            let _ = unsafe { graph::destroy(self.0) };
        }
    }
}

impl Drop for Graphs {
    fn drop(&mut self) {
        self.abandon();
        let _ = self.stream.context().bind_to_thread();
        for sequence in self.sequences.values() {
            if let Some(executable) = sequence.executable {
                // SAFETY: it is live and this is its last use. Nobody is left to be told of an error.
                let _ = unsafe { graph::exec_destroy(executable) };
            }
        }
    }
}
