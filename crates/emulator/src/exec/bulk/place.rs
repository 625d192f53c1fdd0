//! Addresses of operands to blocks of the cluster and to allocations.

use std::sync::Arc;

use super::syntax::{Shared, Window};
use crate::exec::{Cluster, Context};
use crate::fault::{Fault, FaultKind};
use crate::memory::{Allocation, GLOBAL_BASE, Nowhere, SHARED_WINDOW, WINDOW};

/// A place in a block's shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// Rank of the block.
    pub block: u32,
    /// Byte offset.
    pub offset: u32,
}

/// Where a shared operand of a lane leads; `what` it is stands in the message.
pub(super) fn shared(cx: &Context, lane: usize, operand: Shared, what: &str) -> Result<Spot, Fault> {
    let own = cx.warp.block;
    let address = cx.warp.addresses(operand.address)[lane];
    let elsewhere = |message: String| Err(Fault::new(FaultKind::AddressSpace, message));
    let within = match operand.window {
        Window::Generic if (SHARED_WINDOW..SHARED_WINDOW + WINDOW).contains(&address) => {
            address - SHARED_WINDOW
        }
        Window::Generic => return elsewhere(format!("{what} 0x{address:x} is no shared memory")),
        // Shared addresses have 32 bits; what a wide register holds above is no part of them.
        _ => address & u64::from(u32::MAX),
    };
    let (rank, offset) = ((within >> 24) as u32, within as u32 & 0xff_ffff);
    match operand.window {
        Window::Block if rank == own || rank == 0 => Ok(Spot { block: own, offset }),
        Window::Block => elsewhere(format!(
            "{what} 0x{address:x} is shared memory of block {rank} of the cluster, not of block {own}"
        )),
        _ if rank as usize >= cx.cluster.blocks.len() => {
            let blocks = cx.cluster.blocks.len();
            let message = format!("{what} 0x{address:x} names block {rank} of a cluster of {blocks}");
            Err(Fault::new(FaultKind::Address, message))
        }
        _ => Ok(Spot { block: rank, offset }),
    }
}

/// Refuses a block whose threads have all exited.
pub(super) fn running(cx: &Context, rank: u32) -> Result<(), Fault> {
    let Cluster { warps, blocks, .. } = &*cx.cluster;
    let each = warps.len() / blocks.len();
    // The warp that runs is taken out, so its block has not ended.
    let mut of_block = warps[rank as usize * each..][..each].iter();
    if rank == cx.warp.block || of_block.any(|warp| warp.as_ref().is_none_or(|warp| warp.live != 0)) {
        return Ok(());
    }
    let message = format!("the shared memory of block {rank} of the cluster, which has ended");
    Err(Fault::new(FaultKind::Address, message))
}

/// Refuses what lies outside a block's shared memory.
pub(super) fn bounds(cx: &Context, spot: Spot, len: u64, what: &str) -> Result<(), Fault> {
    let first = u64::from(cx.launch.device.shared_base());
    let end = cx.cluster.blocks[spot.block as usize].shared.len() as u64;
    let start = u64::from(spot.offset);
    if start >= first && start + len <= end {
        return Ok(());
    }
    Err(Fault::new(
        FaultKind::Address,
        format!(
            "{what}, {len} bytes at 0x{start:x}, lies outside shared memory, which is 0x{first:x} to 0x{end:x}"
        ),
    ))
}

/// Refuses an address that is no multiple of `align`.
pub(super) fn aligned(address: u64, align: u64, what: &str) -> Result<(), Fault> {
    if address.is_multiple_of(align) {
        return Ok(());
    }
    let message = format!("{what} 0x{address:x} is no multiple of {align}");
    Err(Fault::new(FaultKind::Misaligned, message))
}

/// The allocation that holds `len` bytes from an address, and where in it they start.
pub(super) fn global(
    cx: &Context,
    address: u64,
    len: u64,
    what: &str,
) -> Result<(Arc<Allocation>, u64), Fault> {
    if (SHARED_WINDOW..GLOBAL_BASE).contains(&address) {
        let message = format!("{what} 0x{address:x} is no global memory");
        return Err(Fault::new(FaultKind::AddressSpace, message));
    }
    let allocation = cx.launch.memory.find(address, len).map_err(|nowhere| {
        let kind = match nowhere {
            Nowhere::Freed { .. } => FaultKind::UseAfterFree,
            Nowhere::Outside { .. } => FaultKind::Address,
        };
        Fault::new(kind, format!("{what}, {len} bytes at {address:#x}{}", nowhere.describe(address, len)))
    })?;
    let offset = address - allocation.base;
    Ok((allocation, offset))
}
