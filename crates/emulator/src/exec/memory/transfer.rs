//! ld and st.

use std::sync::atomic::{Ordering, fence};

use super::Op;
use super::form::{Orders, Place, Room, acquires, agree, hints, order, policy, releases};
use super::reach::{OFFSET, RANK_SHIFT, Reach, Request};
use crate::check::{Access, Order, Scope};
use crate::exec::lanes::{LANES, Row, WideRow, lanes, side_by_side};
use crate::exec::{Cluster, Context, Decoded, Warp};
use crate::fault::{Fault, FaultKind};
use crate::memory::Allocation;
use crate::program::{Class, Decoder, Modifiers, Slot};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Kind, Result, Type};

/// What ld and st have in common.
#[derive(Debug)]
struct Transfer {
    place: Place,
    order: Order,
    /// Bytes of an element: 1, 2, 4 or 8. One of 16 is two of 8.
    bytes: u32,
    /// Whether two elements are one of 16 bytes.
    pair: bool,
    /// All of them.
    request: Request,
}

/// ld, ldu
#[derive(Debug)]
pub struct Load {
    transfer: Transfer,
    /// Bits below an element's sign, 0 for none.
    signed: bool,
    elements: Vec<Target>,
}

impl Load {
    /// Says that a compare-and-swap follows that fails if another value is there by then: to the checker a weak load of one
    /// word counts as a relaxed one.
    pub fn guess(&mut self) {
        let Transfer { order, pair, .. } = &mut self.transfer;
        if *order == Order::Weak && !*pair && self.elements.len() == 1 {
            *order = Order::Relaxed(Scope::Device);
        }
    }
}

/// The register that a loaded element goes to.
#[derive(Clone, Copy, Debug)]
struct Target {
    slot: Slot,
    bits: u32,
}

/// st
#[derive(Debug)]
pub struct Store {
    transfer: Transfer,
    elements: Vec<Slot>,
}

const LOAD_OPERATORS: [&str; 5] = ["ca", "cg", "cs", "lu", "cv"];
const STORE_OPERATORS: [&str; 4] = ["wb", "cg", "cs", "wt"];

/// Decodes `ld` and `ldu`.
///
/// # Errors
/// What is wrong with it.
pub fn decode_load<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Decoded> {
    let mut modifiers = Modifiers::new(inst);
    let room = Room::take(&mut modifiers);
    let mut order = order(&mut modifiers, Orders::Load)?;
    if inst.opcode == "ldu" && !(order == Order::Weak && matches!(room, Room::Generic | Room::Global)) {
        return Err(modifiers.invalid("it loads from global memory, without order"));
    }
    if modifiers.take("nc") {
        if !(order == Order::Weak && room == Room::Global) {
            return Err(modifiers.invalid(".nc goes with .global alone"));
        }
        order = Order::Constant;
    }
    let (transfer, ty, count) = decode(inst, decoder, modifiers, room, order, 1, &LOAD_OPERATORS)?;
    let mut elements = Vec::new();
    for operand in operands(inst, decoder.operand(inst, 0)?, count)? {
        let (slot, register) = decoder.wide(inst, operand, ty)?;
        if !agree(ty, register) {
            return Err(Modifiers::new(inst).invalid(&format!(
                "a register of .{} cannot hold .{}",
                register.name(),
                ty.name()
            )));
        }
        if transfer.pair {
            elements.extend([Target { slot, bits: 64 }, Target { slot: slot + 2, bits: 64 }]);
        } else {
            elements.push(Target { slot, bits: register.bits() });
        }
    }
    let class = class(transfer.place.room);
    let signed = ty.kind() == Kind::Signed;
    Ok(Decoded::new(crate::exec::Op::Memory(Op::Load(Load { transfer, signed, elements })), class))
}

/// Decodes `st`.
///
/// # Errors
/// What is wrong with it.
pub fn decode_store<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Decoded> {
    let mut modifiers = Modifiers::new(inst);
    let room = Room::take(&mut modifiers);
    let order = order(&mut modifiers, Orders::Store)?;
    let (transfer, ty, count) = decode(inst, decoder, modifiers, room, order, 0, &STORE_OPERATORS)?;
    if matches!(transfer.place.room, Room::Const | Room::Param) {
        return Err(Modifiers::new(inst).invalid("constants and a kernel's parameters cannot be written"));
    }
    let mut elements = Vec::new();
    for operand in operands(inst, decoder.operand(inst, 1)?, count)? {
        let slot = source(inst, decoder, operand, ty)?;
        elements.push(slot);
        if transfer.pair {
            elements.push(slot + 2);
        }
    }
    let class = class(transfer.place.room);
    Ok(Decoded::new(crate::exec::Op::Memory(Op::Store(Store { transfer, elements })), class))
}

/// A stored value: a register that may be wider than its type, or a constant.
fn source<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    operand: &Operand<'a>,
    ty: Type,
) -> Result<Slot> {
    let register = match operand {
        Operand::Sink => {
            return Err(Modifiers::new(inst).invalid("_ has no value"));
        }
        Operand::Name(..) => decoder.register(inst, operand).ok(),
        _ => None,
    };
    match register {
        None => decoder.src(inst, operand, ty),
        Some((_, register)) if !agree(ty, register) => Err(Modifiers::new(inst).invalid(&format!(
            "a register of .{} cannot hold .{}",
            register.name(),
            ty.name()
        ))),
        Some(_) => decoder.wide(inst, operand, ty).map(|(slot, _)| slot),
    }
}

/// The elements of a vector operand, or the one of a scalar.
fn operands<'i, 'a>(
    inst: &Instruction<'a>,
    operand: &'i Operand<'a>,
    count: Option<usize>,
) -> Result<&'i [Operand<'a>]> {
    match (operand, count) {
        (Operand::Vector(elements), Some(count)) if elements.len() == count => Ok(elements),
        (Operand::Vector(_), _) | (_, Some(_)) => {
            let expected =
                count.map_or("one element".to_owned(), |count| format!("{{…}} of {count} elements"));
            Err(Modifiers::new(inst).invalid(&format!("expected {expected}")))
        }
        (_, None) => Ok(std::slice::from_ref(operand)),
    }
}

/// What both have: hints, vector, type, address. `count` is `None` for a scalar.
fn decode<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    mut modifiers: Modifiers<'_, 'a>,
    room: Room,
    order: Order,
    address: usize,
    operators: &[&str],
) -> Result<(Transfer, Type, Option<usize>)> {
    let hinted = hints(&mut modifiers, operators);
    let count = match modifiers.take_any(&["v2", "v4", "v8"]) {
        Some("v2") => Some(2),
        Some("v4") => Some(4),
        Some(_) => Some(8),
        None => None,
    };
    let ty = modifiers.ty()?;
    modifiers.finish()?;
    let plain = !matches!(
        ty,
        Type::Pred
            | Type::F16
            | Type::F16x2
            | Type::Bf16
            | Type::Bf16x2
            | Type::Tf32
            | Type::U16x2
            | Type::S16x2
            | Type::E4m3
            | Type::E5m2
            | Type::E4m3x2
            | Type::E5m2x2
    );
    if !plain {
        return Err(modifiers.invalid("values of this type are moved as bits"));
    }
    let total = ty.bytes() * count.unwrap_or(1) as u32;
    if total > 16 {
        return Err(modifiers.invalid("more than 16 bytes at once need sm_100"));
    }
    if count == Some(8) {
        return Err(modifiers.invalid("a vector has 2 or 4 elements here"));
    }
    decoder.expect(inst, 2 + usize::from(hinted)..=2 + usize::from(hinted))?;
    if hinted {
        policy(inst, decoder, 2)?;
    }
    let operand = decoder.operand(inst, address)?;
    let place = Place::decode(inst, decoder, &modifiers, operand, room)?;
    if order != Order::Weak && matches!(place.room, Room::Const | Room::Local | Room::Param) {
        return Err(modifiers.invalid("memory of this space has no order between threads"));
    }
    let pair = ty.bytes() == 16;
    let verb = if address == 1 { "reads" } else { "writes" };
    let request = Request { verb, bytes: total, align: total };
    let bytes = ty.bytes().min(8);
    Ok((Transfer { place, order, bytes, pair, request }, ty, count))
}

fn class(room: Room) -> Class {
    match room {
        Room::Generic | Room::Global => Class::Global,
        Room::Shared | Room::Cluster => Class::Shared,
        Room::Local => Class::Local,
        Room::Const | Room::Param => Class::Constant,
    }
}

impl Target {
    /// Writes a lane of the register: zeros or the sign go above the value.
    #[inline(always)]
    fn set(self, rows: &mut [Row], lane: usize, value: u64) {
        let value = if self.bits < 64 { value & ((1 << self.bits) - 1) } else { value };
        let slot = self.slot as usize;
        rows[slot][lane] = value as u32;
        if self.bits > 32 {
            rows[slot + 1][lane] = (value >> 32) as u32;
        }
        if self.bits > 64 {
            rows[slot + 2][lane] = 0;
            rows[slot + 3][lane] = 0;
        }
    }
}

/// Loads `BYTES` bytes at a time for each lane and element by `read`, which is given the lane and the bytes before the element.
#[inline(always)]
fn gather<const BYTES: u32>(op: &Load, rows: &mut [Row], mask: u32, read: impl Fn(usize, u32, u32) -> u64) {
    let mut before = 0;
    for element in &op.elements {
        if BYTES == 4 && element.bits == 32 {
            let row = &mut rows[element.slot as usize];
            for lane in lanes(mask) {
                row[lane] = read(lane, before, BYTES) as u32;
            }
        } else {
            for lane in lanes(mask) {
                let value = read(lane, before, BYTES);
                let shift = 64 - BYTES * 8;
                let value = if op.signed { (((value << shift) as i64) >> shift) as u64 } else { value };
                element.set(rows, lane, value);
            }
        }
        before += BYTES;
    }
}

/// [`gather`] for an element's size.
#[inline(always)]
fn gather_all(op: &Load, rows: &mut [Row], mask: u32, read: impl Fn(usize, u32, u32) -> u64) {
    match op.transfer.bytes {
        1 => gather::<1>(op, rows, mask, read),
        2 => gather::<2>(op, rows, mask, read),
        4 => gather::<4>(op, rows, mask, read),
        _ => gather::<8>(op, rows, mask, read),
    }
}

/// Stores `BYTES` bytes at a time by `write`, lanes in order, so that of those that write to one place the last wins.
#[inline(always)]
fn scatter<const BYTES: u32>(
    op: &Store,
    rows: &[Row],
    mask: u32,
    mut write: impl FnMut(usize, u32, u32, u64),
) {
    for lane in lanes(mask) {
        let mut before = 0;
        for slot in &op.elements {
            let slot = *slot as usize;
            let high = if BYTES == 8 { u64::from(rows[slot + 1][lane]) << 32 } else { 0 };
            write(lane, before, BYTES, u64::from(rows[slot][lane]) | high);
            before += BYTES;
        }
    }
}

/// [`scatter`] for an element's size.
#[inline(always)]
fn scatter_all(op: &Store, rows: &[Row], mask: u32, write: impl FnMut(usize, u32, u32, u64)) {
    match op.transfer.bytes {
        1 => scatter::<1>(op, rows, mask, write),
        2 => scatter::<2>(op, rows, mask, write),
        4 => scatter::<4>(op, rows, mask, write),
        _ => scatter::<8>(op, rows, mask, write),
    }
}

/// Of accesses by all lanes to 32-bit words, each lane's behind the one before: the bytes of each lane. Such lanes meet no other's
/// bytes, so that their order is of no account.
#[inline]
fn words_of_all(transfer: &Transfer, at: &WideRow, active: u32) -> Option<usize> {
    let bytes = transfer.request.bytes;
    (transfer.bytes == 4 && side_by_side(at, active, bytes)).then_some(bytes as usize)
}

/// Little-endian bytes of a slice as a number.
#[inline(always)]
fn from_bytes(bytes: &[u8], at: usize, len: u32) -> u64 {
    match len {
        1 => u64::from(bytes[at]),
        2 => u64::from(u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes"))),
        4 => u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))),
        _ => u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")),
    }
}

/// The other way round.
#[inline(always)]
fn to_bytes(bytes: &mut [u8], at: usize, len: u32, value: u64) {
    bytes[at..at + len as usize].copy_from_slice(&value.to_le_bytes()[..len as usize]);
}

/// Runs ld.
///
/// # Errors
/// An address that leads nowhere, or what the checker found.
#[inline]
pub fn load(op: &Load, cx: &mut Context, active: u32) -> Result<(), Fault> {
    let request = op.transfer.request;
    let addresses = cx.warp.addresses(op.transfer.place.address);
    let reach = Reach::new(op.transfer.place.room, cx.warp, active, addresses, request)?;
    if reach.global != 0 {
        load_global(op, cx, &reach)?;
    }
    if reach.shared != 0 {
        load_shared(op, cx, &reach)?;
    }
    if reach.local != 0 {
        let size = cx.launch.program.local_bytes as usize;
        request.aligned(reach.local, &reach.at, " of local memory")?;
        request.within(reach.local, &reach.at, size as u64, " of local memory", "thread")?;
        cx.cluster.counters.local_load_bytes += u64::from(reach.local.count_ones() * request.bytes);
        if cx.cluster.checker.reads_written() {
            local_written(op, cx.warp, &reach, size)?;
        }
        let (local, at) = (&cx.warp.local, &reach.at);
        gather_all(op, &mut cx.warp.rows, reach.local, |lane, before, bytes| {
            from_bytes(local, lane * size + at[lane] as usize + before as usize, bytes)
        });
    }
    if reach.param != 0 {
        let params = cx.launch.params;
        request.aligned(reach.param, &reach.at, " of parameters")?;
        request.within(reach.param, &reach.at, params.len() as u64, " of parameters", "kernel")?;
        gather_all(op, &mut cx.warp.rows, reach.param, |lane, before, bytes| {
            from_bytes(params, reach.at[lane] as usize + before as usize, bytes)
        });
    }
    if acquires(op.transfer.order) {
        fence(Ordering::Acquire);
    }
    Ok(())
}

/// Whether of each element some byte was written: all of them need not be, as structures have gaps.
fn local_written(op: &Load, warp: &Warp, reach: &Reach, size: usize) -> Result<(), Fault> {
    let Transfer { request, bytes, .. } = op.transfer;
    for lane in lanes(reach.local) {
        let at = lane * size + reach.at[lane] as usize;
        let written = &warp.local_written[at..at + request.bytes as usize];
        if !written.chunks(bytes as usize).all(|element| element.contains(&true)) {
            let (kind, at) = (FaultKind::Uninitialized, reach.at[lane]);
            return Err(request.fault(kind, lane, " of local memory", at, ", which the thread never wrote"));
        }
    }
    Ok(())
}

fn load_global(op: &Load, cx: &mut Context, reach: &Reach) -> Result<(), Fault> {
    let Transfer { request, place, order, .. } = op.transfer;
    let at = &reach.at;
    request.aligned(reach.global, at, "")?;
    let constant = place.room == Room::Const;
    if !constant {
        cx.cluster.counters.global(Access::Read, at, reach.global, request.bytes);
    }
    let mut left = reach.global;
    while left != 0 {
        let (allocation, here) = cx.warp.lookups.find(cx.launch.memory, cx.pc, request, left, at)?;
        let base = allocation.base;
        if op.transfer.pair && !matches!(order, Order::Weak | Order::Constant) {
            for lane in lanes(here) {
                let value = allocation.update_wide(at[lane] - base, |old| old);
                op.elements[0].set(&mut cx.warp.rows, lane, value as u64);
                op.elements[1].set(&mut cx.warp.rows, lane, (value >> 64) as u64);
            }
        } else if let Some(bytes) = words_of_all(&op.transfer, at, here)
            && op.elements.iter().all(|element| element.bits == 32)
        {
            for (element, before) in op.elements.iter().zip((0..).step_by(4)) {
                let row = &mut cx.warp.rows[element.slot as usize];
                allocation.load_row(at[0] - base + before, bytes as u64, row);
            }
        } else {
            gather_all(op, &mut cx.warp.rows, here, |lane, before, bytes| {
                allocation.load(at[lane] - base + u64::from(before), bytes)
            });
        }
        // After the load: what another cluster released before this value was there is known by now.
        if !constant {
            note(cx, &allocation, reach, here, &op.transfer, &[])?;
        }
        cx.warp.lookups.back(cx.pc, allocation);
        left &= !here;
    }
    Ok(())
}

fn load_shared(op: &Load, cx: &mut Context, reach: &Reach) -> Result<(), Fault> {
    shared(cx, reach, &op.transfer, &[])?;
    let mut left = reach.shared;
    while left != 0 {
        let (rank, here) = same_block(reach, left);
        let memory = &cx.cluster.blocks[rank].shared;
        if let Some(bytes) = words_of_all(&op.transfer, &reach.at, here)
            && op.elements.iter().all(|element| element.bits == 32)
        {
            let first = (reach.at[0] & OFFSET) as usize;
            let memory = &memory[first..first + LANES * bytes];
            for (element, before) in op.elements.iter().zip((0..).step_by(4)) {
                let row = &mut cx.warp.rows[element.slot as usize];
                for (row, memory) in row.iter_mut().zip(memory.chunks_exact(bytes)) {
                    *row = from_bytes(memory, before, 4) as u32;
                }
            }
            return Ok(());
        }
        gather_all(op, &mut cx.warp.rows, here, |lane, before, bytes| {
            from_bytes(memory, (reach.at[lane] & OFFSET) as usize + before as usize, bytes)
        });
        left &= !here;
    }
    Ok(())
}

/// Runs st.
///
/// # Errors
/// As [`load`].
#[inline]
pub fn store(op: &Store, cx: &mut Context, active: u32) -> Result<(), Fault> {
    let request = op.transfer.request;
    let addresses = cx.warp.addresses(op.transfer.place.address);
    let reach = Reach::new(op.transfer.place.room, cx.warp, active, addresses, request)?;
    if releases(op.transfer.order) {
        fence(Ordering::Release);
    }
    if reach.global != 0 {
        store_global(op, cx, &reach)?;
    }
    if reach.shared != 0 {
        shared(cx, &reach, &op.transfer, &op.elements)?;
        let (blocks, rows) = (&mut cx.cluster.blocks, &cx.warp.rows);
        if let Some(bytes) = words_of_all(&op.transfer, &reach.at, reach.shared)
            && (reach.at[0] ^ reach.at[LANES - 1]) >> RANK_SHIFT == 0
        {
            let (rank, first) = ((reach.at[0] >> RANK_SHIFT) as usize, (reach.at[0] & OFFSET) as usize);
            let memory = &mut blocks[rank].shared[first..first + LANES * bytes];
            for (slot, before) in op.elements.iter().zip((0..).step_by(4)) {
                for (value, memory) in rows[*slot as usize].iter().zip(memory.chunks_exact_mut(bytes)) {
                    to_bytes(memory, before, 4, u64::from(*value));
                }
            }
            return Ok(());
        }
        scatter_all(op, rows, reach.shared, |lane, before, bytes, value| {
            let (rank, offset) = (reach.at[lane] >> RANK_SHIFT, reach.at[lane] & OFFSET);
            to_bytes(&mut blocks[rank as usize].shared, offset as usize + before as usize, bytes, value);
        });
    }
    if reach.local != 0 {
        let size = cx.launch.program.local_bytes as usize;
        request.aligned(reach.local, &reach.at, " of local memory")?;
        request.within(reach.local, &reach.at, size as u64, " of local memory", "thread")?;
        cx.cluster.counters.local_store_bytes += u64::from(reach.local.count_ones() * request.bytes);
        let (local, written) = (&mut cx.warp.local, &mut cx.warp.local_written);
        scatter_all(op, &cx.warp.rows, reach.local, |lane, before, bytes, value| {
            let at = lane * size + reach.at[lane] as usize + before as usize;
            to_bytes(local, at, bytes, value);
            written[at..at + bytes as usize].fill(true);
        });
    }
    if let Some(lane) = lanes(reach.param).next() {
        return Err(request.misplaced(lane, reach.at[lane] + crate::memory::PARAM_WINDOW, "writable"));
    }
    Ok(())
}

fn store_global(op: &Store, cx: &mut Context, reach: &Reach) -> Result<(), Fault> {
    let Transfer { request, order, .. } = op.transfer;
    let at = &reach.at;
    request.aligned(reach.global, at, "")?;
    cx.cluster.counters.global(Access::Write, at, reach.global, request.bytes);
    let mut left = reach.global;
    while left != 0 {
        let (allocation, here) = cx.warp.lookups.find(cx.launch.memory, cx.pc, request, left, at)?;
        // Before the store: who sees the value is to know what was released with it.
        note(cx, &allocation, reach, here, &op.transfer, &op.elements)?;
        let base = allocation.base;
        if op.transfer.pair && order != Order::Weak {
            for lane in lanes(here) {
                let [low, high] = [0, 1].map(|half| u128::from(cx.warp.wide(op.elements[half])[lane]));
                allocation.update_wide(at[lane] - base, |_| low | high << 64);
            }
        } else if let Some(bytes) = words_of_all(&op.transfer, at, here) {
            for (slot, before) in op.elements.iter().zip((0..).step_by(4)) {
                allocation.store_row(at[0] - base + before, bytes as u64, cx.warp.row(*slot));
            }
        } else {
            scatter_all(op, &cx.warp.rows, here, |lane, before, bytes, value| {
                allocation.store(at[lane] - base + u64::from(before), bytes, value);
            });
        }
        cx.warp.lookups.back(cx.pc, allocation);
        left &= !here;
    }
    Ok(())
}

/// Tells the checker what lanes do to an allocation: a store of these elements, or a load where there are none.
fn note(
    cx: &mut Context,
    allocation: &Allocation,
    reach: &Reach,
    here: u32,
    transfer: &Transfer,
    stored: &[Slot],
) -> Result<(), Fault> {
    let warp = cx.warp.number(cx.launch);
    let offsets = reach.at.map(|at| at.wrapping_sub(allocation.base));
    let (bytes, order, access) = (transfer.request.bytes, transfer.order, access(stored));
    let warp_now = &*cx.warp;
    let now = |lane: usize, before| allocation.load(offsets[lane] + u64::from(before), transfer.bytes);
    let differ = |a, b| differ(warp_now, transfer.bytes, stored, a, b, now);
    cx.cluster.checker.global_warp(warp, here, allocation, &offsets, bytes, access, order, cx.pc, &differ)
}

/// Checks and counts an access to shared memory: a store of these elements, or a load where there are none.
fn shared(cx: &mut Context, reach: &Reach, transfer: &Transfer, stored: &[Slot]) -> Result<(), Fault> {
    let (request, at, access) = (transfer.request, &reach.at, access(stored));
    request.aligned(reach.shared, at, " of shared memory")?;
    request.data_in_shared(cx.cluster, cx.launch, cx.warp.block, reach.shared, at)?;
    cx.cluster.counters.shared(access, at, reach.shared, request.bytes);
    let warp = cx.warp.number(cx.launch);
    let offsets = at.map(|at| (at & OFFSET) as u32);
    let Cluster { checker, blocks, .. } = &mut *cx.cluster;
    let mut left = reach.shared;
    while left != 0 {
        let (rank, here) = same_block(reach, left);
        let memory = &blocks[rank].shared;
        let now =
            |lane: usize, before: u32| from_bytes(memory, (offsets[lane] + before) as usize, transfer.bytes);
        let differ = |a, b| differ(cx.warp, transfer.bytes, stored, a, b, now);
        let (rank, bytes, order) = (rank as u32, request.bytes, transfer.order);
        checker.shared_warp(warp, here, rank, &offsets, bytes, access, order, cx.pc, &differ)?;
        left &= !here;
    }
    Ok(())
}

fn access(stored: &[Slot]) -> Access {
    if stored.is_empty() { Access::Read } else { Access::Write }
}

/// Whether two lanes store different values, in elements of so many bytes; of a lane and itself, whether it stores another than
/// `now` gives for what is there, so many bytes behind its address.
fn differ(
    warp: &Warp,
    bytes: u32,
    stored: &[Slot],
    a: usize,
    b: usize,
    now: impl Fn(usize, u32) -> u64,
) -> bool {
    let value = |slot: Slot, lane: usize| {
        let high = if bytes == 8 { u64::from(warp.row(slot + 1)[lane]) << 32 } else { 0 };
        (u64::from(warp.row(slot)[lane]) | high) & (u64::MAX >> (64 - 8 * bytes))
    };
    stored
        .iter()
        .zip((0..).step_by(bytes as usize))
        .any(|(slot, before)| value(*slot, a) != if a == b { now(a, before) } else { value(*slot, b) })
}

/// The block of the first lane's shared address, and the lanes whose addresses are in it too.
fn same_block(reach: &Reach, left: u32) -> (usize, u32) {
    let first = reach.at[left.trailing_zeros() as usize];
    let rank = first >> RANK_SHIFT;
    if reach.at.iter().fold(0, |bits, at| bits | (at ^ first)) >> RANK_SHIFT == 0 {
        return (rank as usize, left);
    }
    let here = lanes(left).filter(|lane| reach.at[*lane] >> RANK_SHIFT == rank).map(|lane| 1 << lane).sum();
    (rank as usize, here)
}
