//! Issue: operands are looked at, ranges checked, destinations poisoned.

use std::iter::once;
use std::sync::Arc;

use super::flights::{Operation, POISON, Source, Target};
use super::maps;
use super::place::{self, Spot};
use super::reduce::Reduction;
use super::syntax::{Direction, Global, Shared, Transfer, Values};
use super::thread;
use super::tile::{self, Piece, Tile};
use crate::check::{Access, Asynchronous, Flight, Order, Place, Scope};
use crate::exec::Context;
use crate::exec::lanes::lanes;
use crate::fault::{Fault, FaultKind};
use crate::memory::Allocation;
use crate::ptx::Type;
use crate::tensormap::{DataType, Fill, Interleave, TensorMap};

/// The end of a copy in global memory, for one lane.
enum Outside {
    Bytes(u64),
    Box(TensorMap, Vec<i32>),
}

/// An allocation and what of it is copied.
type Extent = (Option<Arc<Allocation>>, Vec<Piece>);

fn illegal(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Instruction, message)
}

/// Issues a copy of a lane.
pub(super) fn transfer(transfer: &Transfer, cx: &mut Context, lane: usize) -> Result<(), Fault> {
    match &transfer.direction {
        Direction::Load { to, from, barrier, blocks } => {
            let spot = place::shared(cx, lane, *to, "the destination")?;
            let (outside, tile) = look(cx, lane, from)?;
            place::aligned(u64::from(spot.offset), alignment(&outside), "the destination's shared address")?;
            let barrier = together(cx, lane, *barrier, spot)?;
            let blocks = match blocks {
                None => vec![spot.block],
                Some(mask) => listed(cx, cx.warp.row(*mask)[lane] & 0xffff)?,
            };
            for block in &blocks {
                destination(cx, Spot { block: *block, ..spot }, tile, barrier)?;
            }
            let (allocation, pieces) = pieces(cx, &outside, tile, "what is loaded")?;
            if let Outside::Box(TensorMap { fill: Fill::Nan, .. }, _) = outside
                && pieces.iter().map(|piece| u64::from(piece.len)).sum::<u64>() < tile.bytes()
            {
                let message = "a box beyond its tensor's edge, filled with NaN (its bits are not documented)";
                return Err(Fault::new(FaultKind::Unsupported, message));
            }
            let mut flights = Vec::with_capacity(blocks.len());
            for block in &blocks {
                let flight = issue(cx, lane);
                // The bytes are read once for all blocks.
                if flights.is_empty() {
                    global(cx, flight, &allocation, &pieces, Access::Read)?;
                }
                incoming(cx, lane, flight, Spot { block: *block, ..spot }, tile, barrier, false)?;
                flights.push(flight);
            }
            let from = Source::Global(allocation, pieces);
            let to = Target::Shared { blocks, offset: spot.offset, barrier };
            let what = if let Outside::Box(..) = outside { "bulk tensor load" } else { "bulk load" };
            start(cx, lane, what, from, to, tile, None, flights);
        }
        Direction::Peer { to, from, size, barrier } => {
            let source = place::shared(cx, lane, *from, "the source")?;
            let spot = place::shared(cx, lane, *to, "the destination")?;
            let tile = flat(cx.warp.row(*size)[lane])?;
            place::aligned(u64::from(source.offset), 16, "the source's shared address")?;
            place::aligned(u64::from(spot.offset), 16, "the destination's shared address")?;
            place::bounds(cx, source, tile.extent(), "the source")?;
            let barrier = together(cx, lane, *barrier, spot)?;
            destination(cx, spot, tile, barrier)?;
            if source.block == spot.block && u64::from(source.offset.abs_diff(spot.offset)) < tile.bytes() {
                return Err(illegal("the source and the destination of a bulk copy overlap"));
            }
            let flight = issue(cx, lane);
            outgoing(cx, flight, source, tile, once((0, tile.bytes() as u32)))?;
            let reduction = transfer.reduction.and_then(|(reduction, ty)| Some((reduction, ty?)));
            incoming(cx, lane, flight, spot, tile, barrier, reduction.is_some())?;
            let from = Source::Shared(source.block, source.offset);
            let to = Target::Shared { blocks: vec![spot.block], offset: spot.offset, barrier };
            start(cx, lane, "bulk copy between blocks", from, to, tile, reduction, vec![flight]);
        }
        Direction::Store { to, from } => {
            let spot = place::shared(cx, lane, *from, "the source")?;
            let (outside, tile) = look(cx, lane, to)?;
            place::aligned(u64::from(spot.offset), alignment(&outside), "the source's shared address")?;
            place::bounds(cx, spot, tile.extent(), "the source")?;
            let mut reduction = None;
            if let Some((operation, ty)) = transfer.reduction {
                let of_tensor = match &outside {
                    Outside::Box(map, _) => operation.of_tensor(map.ty),
                    Outside::Bytes(_) => None,
                };
                let ty = ty.or(of_tensor);
                reduction =
                    Some((operation, ty.ok_or_else(|| illegal("the tensor's type has no such reduction"))?));
            }
            if let Outside::Box(_, coordinates) = &outside
                && coordinates.iter().any(|coordinate| *coordinate < 0)
            {
                return Err(illegal(format!(
                    "a tensor store to {coordinates:?}: coordinates of stores are not below 0"
                )));
            }
            let (allocation, pieces) = pieces(cx, &outside, tile, "the destination")?;
            let flight = issue(cx, lane);
            // What is skipped in global memory need not be there in shared.
            outgoing(cx, flight, spot, tile, pieces.iter().map(|piece| (piece.start, piece.len)))?;
            let access = if reduction.is_some() { Access::Atomic } else { Access::Write };
            global(cx, flight, &allocation, &pieces, access)?;
            if let (None, Some(allocation)) = (reduction, &allocation) {
                pieces.iter().for_each(|piece| allocation.write(piece.at, &vec![POISON; piece.len as usize]));
            }
            let from = Source::Shared(spot.block, spot.offset);
            let what = if let Outside::Box(..) = outside { "bulk tensor store" } else { "bulk store" };
            start(cx, lane, what, from, Target::Global(allocation, pieces), tile, reduction, vec![flight]);
        }
    }
    Ok(())
}

/// Issues st.async or red.async of a lane.
pub(super) fn values(values: &Values, cx: &mut Context, lane: usize) -> Result<(), Fault> {
    let size = values.ty.bytes() as usize;
    let bytes: Vec<u8> = values
        .values
        .iter()
        .flat_map(|slot| {
            let wide =
                if size == 8 { cx.warp.wide(*slot)[lane] } else { u64::from(cx.warp.row(*slot)[lane]) };
            wide.to_le_bytes().into_iter().take(size)
        })
        .collect();
    let spot = place::shared(cx, lane, values.to, "the destination")?;
    let tile = Tile::flat(bytes.len() as u32);
    place::aligned(u64::from(spot.offset), tile.bytes(), "the destination's shared address")?;
    let barrier = together(cx, lane, values.barrier, spot)?;
    destination(cx, spot, tile, barrier)?;
    let flight = issue(cx, lane);
    incoming(cx, lane, flight, spot, tile, barrier, values.reduction.is_some())?;
    let to = Target::Shared { blocks: vec![spot.block], offset: spot.offset, barrier };
    let what = if values.reduction.is_some() { "red.async" } else { "st.async" };
    let reduction = values.reduction.map(|reduction| (reduction, values.ty));
    start(cx, lane, what, Source::Values(bytes), to, tile, reduction, vec![flight]);
    Ok(())
}

/// The end in global memory, and how it lies in shared memory.
fn look(cx: &mut Context, lane: usize, global: &Global) -> Result<(Outside, Tile), Fault> {
    match global {
        Global::Bytes { address, size } => {
            let address = cx.warp.addresses(*address)[lane];
            place::aligned(address, 16, "the global address")?;
            Ok((Outside::Bytes(address), flat(cx.warp.row(*size)[lane])?))
        }
        Global::Tensor { map, coordinates } => {
            let map = maps::read(cx, lane, *map, Some(coordinates.len()))?;
            let unsupported = |message: &str| Err(Fault::new(FaultKind::Unsupported, message));
            if map.interleave != Interleave::None {
                return unsupported("a copy of an interleaved tensor is not emulated");
            }
            if matches!(map.ty, DataType::F32Ftz | DataType::Tf32 | DataType::Tf32Ftz) {
                return unsupported(
                    "a copy of a tensor of f32 with flushed subnormals or of tf32 is not emulated",
                );
            }
            let tile = Tile::of(&map);
            if tile.pitch > tile.row_bytes {
                warn_of_narrow_rows(tile);
            }
            let coordinates = coordinates.iter().map(|slot| cx.warp.row(*slot)[lane] as i32).collect();
            Ok((Outside::Box(map, coordinates), tile))
        }
    }
}

fn warn_of_narrow_rows(tile: Tile) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let Tile { row_bytes, pitch, .. } = tile;
        eprintln!(
            "wikigpt-emulator: a tensor map's box rows of {row_bytes} bytes are narrower than its swizzle of {pitch}: they are laid out \
             {pitch} bytes apart, which no hardware has confirmed"
        );
    });
}

fn flat(size: u32) -> Result<Tile, Fault> {
    match size.is_multiple_of(16) {
        true => Ok(Tile::flat(size)),
        false => Err(illegal(format!("a bulk copy of {size} bytes, which is no multiple of 16"))),
    }
}

fn alignment(outside: &Outside) -> u64 {
    match outside {
        Outside::Bytes(_) => 16,
        Outside::Box(..) => 128,
    }
}

/// The mbarrier of a copy to `spot`: both must be in one block.
fn together(cx: &Context, lane: usize, barrier: Shared, spot: Spot) -> Result<u32, Fault> {
    let found = place::shared(cx, lane, barrier, "the mbarrier's address")?;
    if found.block == spot.block {
        return Ok(found.offset);
    }
    Err(illegal(format!(
        "the destination is in block {} of the cluster and its mbarrier in block {}: both must be in one",
        spot.block, found.block
    )))
}

/// The blocks that a multicast names.
fn listed(cx: &Context, mask: u32) -> Result<Vec<u32>, Fault> {
    let blocks = cx.cluster.blocks.len();
    if mask == 0 || mask >> blocks.min(31) != 0 {
        return Err(illegal(format!(
            "a multicast to the blocks of mask 0x{mask:x} in a cluster of {blocks}"
        )));
    }
    Ok(lanes(mask).map(|block| block as u32).collect())
}

/// Refuses a destination that is not there, or has no mbarrier.
fn destination(cx: &Context, spot: Spot, tile: Tile, barrier: u32) -> Result<(), Fault> {
    place::running(cx, spot.block)?;
    place::bounds(cx, spot, tile.extent(), "the destination")?;
    place::aligned(u64::from(barrier), 8, "the mbarrier's shared address")?;
    place::bounds(cx, Spot { offset: barrier, ..spot }, 8, "the mbarrier")?;
    let objects = &cx.cluster.blocks[spot.block as usize].mbarriers;
    let block = spot.block;
    if objects.get(barrier).is_none() {
        let message = format!(
            "no mbarrier is initialised at shared address 0x{barrier:x} of block {block} of the cluster"
        );
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    match objects.covers(spot.offset, tile.extent() as u32) {
        Some(at) => Err(Fault::new(
            FaultKind::Barrier,
            format!(
                "the destination holds the mbarrier at shared address 0x{at:x} of block {block} of the cluster"
            ),
        )),
        None => Ok(()),
    }
}

/// What of a copy lies in global memory, and in which allocation.
fn pieces(cx: &Context, outside: &Outside, tile: Tile, what: &str) -> Result<Extent, Fault> {
    match outside {
        Outside::Bytes(address) => {
            let (allocation, at) = place::global(cx, *address, tile.bytes(), what)?;
            Ok((Some(allocation), vec![Piece { at, start: 0, len: tile.bytes() as u32 }]))
        }
        Outside::Box(map, coordinates) => {
            let mut pieces = tile::pieces(map, coordinates);
            if pieces.is_empty() {
                return Ok((None, pieces));
            }
            let (allocation, base) = place::global(cx, map.address, 1, "the tensor")?;
            for piece in &mut pieces {
                let at = piece.at.checked_add(base);
                let end = at.and_then(|at| at.checked_add(u64::from(piece.len)));
                let (Some(at), true) = (at, end.is_some_and(|end| end <= allocation.len)) else {
                    return Err(Fault::new(
                        FaultKind::Address,
                        format!(
                            "{what}, the box at {coordinates:?} of a tensor at 0x{:x}, has elements {} bytes behind the tensor's \
                             first, outside the {} bytes at 0x{:x} that are allocated",
                            map.address, piece.at, allocation.len, allocation.base
                        ),
                    ));
                };
                piece.at = at;
            }
            Ok((Some(allocation), pieces))
        }
    }
}

fn issue(cx: &mut Context, lane: usize) -> Flight {
    let who = thread(cx, lane);
    cx.cluster.checker.issue(who, Asynchronous::Bulk, cx.pc)
}

/// Tells the checker what is touched in global memory.
fn global(
    cx: &mut Context,
    flight: Flight,
    allocation: &Option<Arc<Allocation>>,
    pieces: &[Piece],
    access: Access,
) -> Result<(), Fault> {
    let Some(allocation) = allocation else { return Ok(()) };
    for piece in pieces.iter().filter(|piece| piece.len > 0) {
        cx.cluster.checker.asynchronous(flight, Place::Global(allocation, piece.at), piece.len, access)?;
    }
    Ok(())
}

/// Tells the checker what is read in shared memory.
fn outgoing(
    cx: &mut Context,
    flight: Flight,
    spot: Spot,
    tile: Tile,
    pieces: impl Iterator<Item = (u32, u32)>,
) -> Result<(), Fault> {
    for (offset, len) in tile.ranges(spot.offset, pieces).into_iter().filter(|(_, len)| *len > 0) {
        let place = Place::Shared { block: spot.block, offset };
        cx.cluster.checker.asynchronous(flight, place, len, Access::Read)?;
    }
    Ok(())
}

/// Tells the checker what is written in shared memory, and poisons it.
fn incoming(
    cx: &mut Context,
    lane: usize,
    flight: Flight,
    spot: Spot,
    tile: Tile,
    barrier: u32,
    reduces: bool,
) -> Result<(), Fault> {
    let who = thread(cx, lane);
    let order = Order::Relaxed(Scope::Cluster);
    cx.cluster.checker.shared(who, spot.block, barrier, 8, Access::Atomic, order, cx.pc)?;
    let whole = once((0, tile.bytes() as u32));
    for (offset, len) in tile.ranges(spot.offset, whole).into_iter().filter(|(_, len)| *len > 0) {
        let access = if reduces { Access::Atomic } else { Access::Write };
        let place = Place::Shared { block: spot.block, offset };
        cx.cluster.checker.asynchronous(flight, place, len, access)?;
        if !reduces {
            cx.cluster.blocks[spot.block as usize].shared[offset as usize..][..len as usize].fill(POISON);
        }
    }
    Ok(())
}

fn start(
    cx: &mut Context,
    lane: usize,
    what: &'static str,
    from: Source,
    to: Target,
    tile: Tile,
    reduction: Option<(Reduction, Type)>,
    flights: Vec<Flight>,
) {
    let (who, block, line) = (thread(cx, lane), cx.warp.block, cx.inst.line);
    let first = cx.cluster.blocks[0].index;
    let operation = Operation { what, line, who, block, from, to, tile, reduction, flights, data: None };
    cx.cluster.flights.start(cx.launch, first, operation);
}
