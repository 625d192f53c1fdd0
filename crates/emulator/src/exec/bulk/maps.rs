//! Tensor maps in memory: read for a copy, edited by a kernel.

use super::place::{self, Spot};
use super::syntax::{Map, Shared};
use super::thread;
use crate::check::{Access, Order};
use crate::exec::Context;
use crate::fault::{Fault, FaultKind};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW};
use crate::program::{Address, Slot};
use crate::tensormap::{ALIGN, BYTES, Field, TensorMap};

fn illegal(message: String) -> Fault {
    Fault::new(FaultKind::Instruction, message)
}

/// The tensor map at a lane's address, checked; of `rank` dimensions, where that is asked.
pub(super) fn read(
    cx: &mut Context,
    lane: usize,
    map: Address,
    rank: Option<usize>,
) -> Result<TensorMap, Fault> {
    let address = cx.warp.addresses(map)[lane];
    if !address.is_multiple_of(ALIGN) {
        return Err(illegal(format!("the tensor map's address 0x{address:x} is no multiple of {ALIGN}")));
    }
    let mut bytes = [0; BYTES];
    if (PARAM_WINDOW..PARAM_WINDOW + WINDOW).contains(&address) {
        let at = (address - PARAM_WINDOW) as usize;
        let found = cx.launch.params.get(at..).and_then(|rest| rest.get(..BYTES)).ok_or_else(|| {
            let len = cx.launch.params.len();
            Fault::new(
                FaultKind::Address,
                format!("a tensor map at byte {at} of the kernel's parameters, which are {len} bytes"),
            )
        })?;
        bytes.copy_from_slice(found);
    } else if (SHARED_WINDOW..LOCAL_WINDOW + WINDOW).contains(&address) {
        return Err(illegal(format!(
            "the tensor map's address 0x{address:x} is in shared or local memory; \
             a map is a __grid_constant__ parameter, a constant, or in global memory"
        )));
    } else {
        let (allocation, offset) = place::global(cx, address, BYTES as u64, "the tensor map")?;
        allocation.read(offset, &mut bytes);
        let (who, pc) = (thread(cx, lane), cx.pc);
        cx.cluster.checker.global(who, &allocation, offset, BYTES as u32, Access::Read, Order::Map, pc)?;
    }
    let map = TensorMap::decode(&bytes).ok_or_else(|| {
        illegal(format!("what is at 0x{address:x} is no tensor map of cuTensorMapEncodeTiled"))
    })?;
    map.check().map_err(|message| illegal(format!("the tensor map at 0x{address:x}: {message}")))?;
    match rank {
        Some(rank) if rank != map.rank as usize => Err(illegal(format!(
            "a tensor map of rank {} where the instruction has {rank} dimensions",
            map.rank
        ))),
        _ => Ok(map),
    }
}

/// Only looks whether there is a map.
pub(super) fn prefetch(
    cx: &mut Context,
    lane: usize,
    map: Address,
    rank: Option<usize>,
) -> Result<(), Fault> {
    read(cx, lane, map, rank).map(drop)
}

/// `tensormap.replace`
pub(super) fn replace(
    cx: &mut Context,
    lane: usize,
    map: Map,
    field: Field,
    value: Slot,
) -> Result<(), Fault> {
    let value = match field {
        Field::GlobalAddress | Field::GlobalStride(_) => cx.warp.wide(value)[lane],
        _ => u64::from(cx.warp.row(value)[lane]),
    };
    let edit = |bytes: [u8; BYTES]| {
        let mut map = match TensorMap::decode(&bytes) {
            Some(map) => map,
            None if bytes == [0; BYTES] => TensorMap::BLANK,
            None => return Err(illegal("tensormap.replace in what is no tensor map".to_owned())),
        };
        map.replace(field, value).map_err(|message| illegal(format!("tensormap.replace: {message}")))?;
        Ok(map.to_bytes())
    };
    let (who, pc, len) = (thread(cx, lane), cx.pc, BYTES as u32);
    match map {
        Map::Global(address) => {
            let address = cx.warp.addresses(address)[lane];
            place::aligned(address, ALIGN, "the tensor map's address")?;
            let (allocation, offset) = place::global(cx, address, BYTES as u64, "the tensor map")?;
            for access in [Access::Read, Access::Write] {
                cx.cluster.checker.global(who, &allocation, offset, len, access, Order::Weak, pc)?;
            }
            let mut bytes = [0; BYTES];
            allocation.read(offset, &mut bytes);
            allocation.write(offset, &edit(bytes)?);
        }
        Map::Shared(operand) => {
            let Spot { block, offset } = in_shared(cx, lane, operand)?;
            for access in [Access::Read, Access::Write] {
                cx.cluster.checker.shared(who, block, offset, len, access, Order::Weak, pc)?;
            }
            let memory = &mut cx.cluster.blocks[block as usize].shared[offset as usize..][..BYTES];
            let bytes = memory.try_into().expect("the length of a map");
            memory.copy_from_slice(&edit(bytes)?);
        }
    }
    Ok(())
}

/// `tensormap.cp_fenceproxy`
pub(super) fn copy(cx: &mut Context, lane: usize, to: Address, from: Shared) -> Result<(), Fault> {
    let (who, pc, len) = (thread(cx, lane), cx.pc, BYTES as u32);
    let Spot { block, offset } = in_shared(cx, lane, from)?;
    cx.cluster.checker.shared(who, block, offset, len, Access::Read, Order::Weak, pc)?;
    let bytes = cx.cluster.blocks[block as usize].shared[offset as usize..][..BYTES].to_vec();
    let address = cx.warp.addresses(to)[lane];
    place::aligned(address, ALIGN, "the tensor map's address")?;
    let (allocation, offset) = place::global(cx, address, BYTES as u64, "the tensor map")?;
    cx.cluster.checker.global(who, &allocation, offset, len, Access::Write, Order::Weak, pc)?;
    allocation.write(offset, &bytes);
    Ok(())
}

fn in_shared(cx: &Context, lane: usize, operand: Shared) -> Result<Spot, Fault> {
    let spot = place::shared(cx, lane, operand, "the tensor map's address")?;
    place::aligned(u64::from(spot.offset), ALIGN, "the tensor map's address")?;
    place::bounds(cx, spot, BYTES as u64, "the tensor map")?;
    Ok(spot)
}
