//! A place in memory through which threads synchronise: what was released there.

use std::collections::BTreeMap;

use super::Scope;
use super::clock::Published;

/// A block of the launch: its cluster, and its rank there.
pub(super) type BlockId = (u32, u32);

/// What threads made known at a place, by who may hear it: who is in the scope of both.
#[derive(Debug, Default)]
struct Known {
    blocks: BTreeMap<BlockId, Published>,
    clusters: BTreeMap<u32, Published>,
    device: Published,
}

/// A place: what a read of its latest value would acquire, and the fences behind which it was read. A release is seen by who is in
/// its scope, by an acquire whose scope holds the releaser.
#[derive(Debug, Default)]
pub(super) struct Location {
    released: Known,
    read: Known,
}

impl Location {
    /// A strong write by a thread of `block`, which releases this; a store ends what was released before, an atomic passes it on.
    pub(super) fn write(&mut self, block: BlockId, store: bool, released: &[(Scope, Published)]) {
        if store {
            self.released = Known::default();
        }
        released.iter().for_each(|(scope, clock)| self.released.add(block, *scope, clock));
    }

    /// What a thread of `block` acquires at `scope`.
    pub(super) fn visible(&self, block: BlockId, scope: Scope) -> Published {
        self.released.visible(block, scope)
    }

    /// A strong read by a thread of `block` behind `fence.sc`, which covered this.
    pub(super) fn read_behind(&mut self, block: BlockId, fences: &[(Scope, Published)]) {
        fences.iter().for_each(|(scope, clock)| self.read.add(block, *scope, clock));
    }

    /// What fences covered behind which the place was read by who shares `scope` with a thread of `block`; `None` where it was not.
    pub(super) fn read_before(&self, block: BlockId, scope: Scope) -> Option<Published> {
        let seen = self.read.visible(block, scope);
        (!seen.is_empty()).then_some(seen)
    }
}

impl Known {
    fn add(&mut self, block: BlockId, scope: Scope, clock: &Published) {
        self.blocks.entry(block).or_default().join(clock);
        if scope >= Scope::Cluster {
            self.clusters.entry(block.0).or_default().join(clock);
        }
        if scope >= Scope::Device {
            self.device.join(clock);
        }
    }

    fn visible(&self, block: BlockId, scope: Scope) -> Published {
        let mut seen = self.blocks.get(&block).cloned().unwrap_or_default();
        if scope >= Scope::Cluster
            && let Some(cluster) = self.clusters.get(&block.0)
        {
            seen.join(cluster);
        }
        if scope >= Scope::Device {
            seen.join(&self.device);
        }
        seen
    }
}
