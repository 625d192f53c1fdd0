//! A place in memory through which threads synchronise: what was released there.

use std::collections::BTreeMap;

use super::Scope;
use super::clock::Published;

/// A block of the launch: its cluster, and its rank there.
pub(super) type BlockId = (u32, u32);

/// What a read of the place's latest value would acquire. A release is seen by who is in its scope, by an acquire whose scope
/// holds the releaser.
#[derive(Debug, Default)]
pub(super) struct Location {
    blocks: BTreeMap<BlockId, Published>,
    clusters: BTreeMap<u32, Published>,
    device: Published,
}

impl Location {
    /// A thread of `block` releases what it knows to `scope`.
    pub(super) fn release(&mut self, block: BlockId, scope: Scope, clock: &Published) {
        self.blocks.entry(block).or_default().join(clock);
        if scope >= Scope::Cluster {
            self.clusters.entry(block.0).or_default().join(clock);
        }
        if scope >= Scope::Device {
            self.device.join(clock);
        }
    }

    /// What a thread of `block` acquires at `scope`.
    pub(super) fn visible(&self, block: BlockId, scope: Scope) -> Published {
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
