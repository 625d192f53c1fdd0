//! The barrier of a cluster.

use crate::fault::{Fault, FaultKind};

/// Where all threads of a cluster that have not exited meet.
#[derive(Debug, Default)]
pub struct ClusterBarrier {
    /// Lanes of each warp of the cluster that have not exited.
    live: Vec<u32>,
    /// Of them, those that have arrived in this phase.
    arrived: Vec<u32>,
    /// Those that arrived, in this phase or the last, and have not waited.
    pending: Vec<u32>,
    /// Lanes that are missing.
    missing: u32,
}

impl ClusterBarrier {
    /// The barrier of warps that have these lanes.
    pub fn new(live: Vec<u32>) -> ClusterBarrier {
        let mut barrier =
            ClusterBarrier { arrived: vec![0; live.len()], pending: vec![0; live.len()], missing: 0, live };
        barrier.missing = barrier.count();
        barrier
    }

    /// Lets lanes of a warp arrive; whether this completes the phase.
    ///
    /// # Errors
    /// Where one has arrived and not waited.
    pub(super) fn arrive(&mut self, warp: u32, lanes: u32) -> Result<bool, Fault> {
        let at = warp as usize;
        let twice = self.pending[at] & lanes;
        if twice != 0 {
            let message = "barrier.cluster.arrive again before barrier.cluster.wait";
            return Err(Fault::at(FaultKind::Barrier, twice.trailing_zeros(), message));
        }
        self.pending[at] |= lanes;
        self.arrived[at] |= lanes;
        self.missing -= lanes.count_ones();
        Ok(self.settle())
    }

    /// Whether the phase in which these lanes arrived has completed; they have then waited.
    ///
    /// # Errors
    /// Where one has not arrived.
    pub(super) fn passed(&mut self, warp: u32, lanes: u32) -> Result<bool, Fault> {
        let at = warp as usize;
        let strangers = lanes & !self.pending[at];
        if strangers != 0 {
            let message = "barrier.cluster.wait without barrier.cluster.arrive";
            return Err(Fault::at(FaultKind::Barrier, strangers.trailing_zeros(), message));
        }
        let passed = self.arrived[at] & lanes == 0;
        if passed {
            self.pending[at] &= !lanes;
        }
        Ok(passed)
    }

    /// Takes note that lanes have exited; whether this completes the phase.
    pub fn exited(&mut self, warp: u32, lanes: u32) -> bool {
        let at = warp as usize;
        self.missing -= (lanes & self.live[at] & !self.arrived[at]).count_ones();
        self.live[at] &= !lanes;
        self.settle()
    }

    /// How many are missing, in words.
    pub(super) fn describe(&self) -> String {
        let threads: u32 = self.live.iter().map(|live| live.count_ones()).sum();
        format!("barrier.cluster ({} of {threads} threads have not arrived)", self.missing)
    }

    fn settle(&mut self) -> bool {
        let complete = self.missing == 0;
        if complete {
            self.arrived.fill(0);
            self.missing = self.count();
        }
        complete
    }

    fn count(&self) -> u32 {
        self.live.iter().map(|live| live.count_ones()).sum()
    }
}
