//! mbarrier: arrivals and transactions that a phase waits for.
//!
//! An object is its state in [`Objects`]; the 8 bytes in shared memory hold the same as an opaque word. Waits compare
//! phases, so that a state which is too old is noticed; a parity names the current phase or the one before, as on hardware.
//! `try_wait` holds its warp until the phase completes, and gives up only when nothing else can run.

mod objects;
#[cfg(test)]
mod tests;

pub use objects::{Object, Objects, add_pending, arrive, complete_tx};

use super::lanes::{ALL, LANES, lanes};
use super::{Context, Decoded, Flow, Op as AnyOp, Wait};
use crate::check::{self, Access, Order, Scope, Thread};
use crate::fault::{Fault, FaultKind};
use crate::memory::{SHARED_WINDOW, WINDOW};
use crate::program::{Address, Class, Decoder, Modifiers, Slot};
use crate::ptx::ast::{Instruction, Operand, Space};
use crate::ptx::{Result, Type};

use objects::Arrival;

/// An instruction of this family.
#[derive(Debug)]
pub enum Op {
    /// On an object, by each lane for itself.
    Object {
        /// Where.
        target: Target,
        /// What.
        action: Action,
    },
    /// `test_wait`, `try_wait`
    Wait {
        /// Where.
        target: Target,
        /// The predicate that says whether the phase is complete.
        done: u32,
        /// Which phase.
        phase: Phase,
        /// Whether the thread may be held (`try_wait`).
        hold: bool,
        /// Whether what was released before is seen after.
        acquire: bool,
    },
    /// `pending_count`
    PendingCount {
        /// The count.
        count: Slot,
        /// The state it is taken from.
        state: Slot,
    },
}

/// What is done to an object.
#[derive(Debug)]
pub enum Action {
    /// `init`
    Init(Slot),
    /// `inval`
    Inval,
    /// `expect_tx`
    ExpectTx(Slot),
    /// `complete_tx`
    CompleteTx(Slot),
    /// `arrive`, `arrive_drop`
    Arrive {
        /// Where the state from before goes.
        state: Option<Slot>,
        /// How many arrive.
        count: Slot,
        /// Bytes announced before.
        bytes: Option<Slot>,
        /// Whether they leave.
        drop: bool,
        /// `.noComplete`
        incomplete: bool,
        /// Whether what was done before is seen by who acquires; else what a fence of the scope covered.
        release: bool,
        /// The scope.
        scope: Scope,
    },
}

/// Which phase is waited for.
#[derive(Debug)]
pub enum Phase {
    /// That of a state.
    State(Slot),
    /// That of a parity.
    Parity(Slot),
}

/// An address and what it counts in.
#[derive(Debug)]
pub struct Target {
    address: Address,
    window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    /// `.shared::cta`
    Block,
    /// `.shared::cluster`
    Cluster,
    /// None given.
    Generic,
}

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    if inst.opcode != "mbarrier" {
        return Ok(None);
    }
    let mut modifiers = Modifiers::new(inst);
    const NAMES: [&str; 9] = [
        "init",
        "inval",
        "expect_tx",
        "complete_tx",
        "arrive",
        "arrive_drop",
        "test_wait",
        "try_wait",
        "pending_count",
    ];
    let name =
        modifiers.take_any(&NAMES).ok_or_else(|| modifiers.unsupported("no form of mbarrier known here"))?;
    if !modifiers.take("b64") {
        return Err(modifiers.invalid("its type .b64 is missing"));
    }
    let window = match modifiers.take_any(&["shared", "shared::cta", "shared::cluster"]) {
        Some("shared::cluster") => Window::Cluster,
        Some(_) => Window::Block,
        None => Window::Generic,
    };
    let op = match name {
        "init" | "inval" => {
            if window == Window::Cluster {
                return Err(modifiers.invalid("it needs the block's own memory"));
            }
            decoder.expect(inst, if name == "init" { 2..=2 } else { 1..=1 })?;
            let action = match name {
                "init" => Action::Init(decoder.src(inst, decoder.operand(inst, 1)?, Type::U32)?),
                _ => Action::Inval,
            };
            Op::Object { target: target(inst, decoder, 0, window)?, action }
        }
        "expect_tx" | "complete_tx" => {
            modifiers.take("relaxed");
            modifiers.take_any(&["cta", "cluster"]);
            decoder.expect(inst, 2..=2)?;
            let bytes = decoder.src(inst, decoder.operand(inst, 1)?, Type::U32)?;
            let action =
                if name == "expect_tx" { Action::ExpectTx(bytes) } else { Action::CompleteTx(bytes) };
            Op::Object { target: target(inst, decoder, 0, window)?, action }
        }
        "arrive" | "arrive_drop" => {
            let announces = modifiers.take("expect_tx");
            let incomplete = modifiers.take("noComplete");
            let release = modifiers.take_any(&["release", "relaxed"]) != Some("relaxed");
            let scope = scope(&mut modifiers);
            decoder.expect(inst, if announces || incomplete { 3..=3 } else { 2..=3 })?;
            let first = decoder.operand(inst, 0)?;
            let state = match first {
                Operand::Sink => None,
                _ if window == Window::Cluster => {
                    return Err(modifiers.invalid("a remote mbarrier gives no state: `_` is expected"));
                }
                _ => Some(decoder.dst(inst, first, Type::B64)?),
            };
            let third = match inst.operands.get(2) {
                Some(operand) => Some(decoder.src(inst, operand, Type::U32)?),
                None => None,
            };
            let (count, bytes) = match third {
                Some(bytes) if announces => (decoder.constant(1), Some(bytes)),
                Some(count) => (count, None),
                None => (decoder.constant(1), None),
            };
            let action = Action::Arrive {
                state,
                count,
                bytes,
                drop: name == "arrive_drop",
                incomplete,
                release,
                scope,
            };
            Op::Object { target: target(inst, decoder, 1, window)?, action }
        }
        "test_wait" | "try_wait" => {
            if window == Window::Cluster {
                return Err(modifiers.invalid("a remote mbarrier cannot be waited for"));
            }
            let hold = name == "try_wait";
            let parity = modifiers.take("parity");
            let acquire = modifiers.take_any(&["acquire", "relaxed"]) != Some("relaxed");
            modifiers.take_any(&["cta", "cluster"]);
            decoder.expect(inst, if hold { 3..=4 } else { 3..=3 })?;
            let done = decoder.predicate_dst(inst, decoder.operand(inst, 0)?)?;
            let third = decoder.operand(inst, 2)?;
            let phase = match parity {
                true => Phase::Parity(decoder.src(inst, third, Type::U32)?),
                false => Phase::State(decoder.src(inst, third, Type::B64)?),
            };
            if let Some(hint) = inst.operands.get(3) {
                decoder.src(inst, hint, Type::U32)?;
            }
            Op::Wait { target: target(inst, decoder, 1, window)?, done, phase, hold, acquire }
        }
        _ => {
            decoder.expect(inst, 2..=2)?;
            let count = decoder.dst(inst, decoder.operand(inst, 0)?, Type::U32)?;
            let state = decoder.src(inst, decoder.operand(inst, 1)?, Type::B64)?;
            Op::PendingCount { count, state }
        }
    };
    modifiers.finish()?;
    Ok(Some(Decoded::new(AnyOp::Mbarrier(op), Class::Async)))
}

fn target<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    index: usize,
    window: Window,
) -> Result<Target> {
    let (address, space) = decoder.address(inst, decoder.operand(inst, index)?)?;
    match space {
        // A shared variable's name is its own window's address, whatever the instruction says.
        Some(Space::Shared) if window == Window::Generic => Ok(Target { address, window: Window::Block }),
        Some(Space::Shared) | None => Ok(Target { address, window }),
        Some(_) => Err(Modifiers::new(inst).invalid("the variable is not in shared memory")),
    }
}

/// Rank of the block and offset in its shared memory.
fn resolve(address: u64, window: Window, own: u32, lane: u32) -> Result<(u32, u32), Fault> {
    let elsewhere = |message: String| Err(Fault::at(FaultKind::AddressSpace, lane, message));
    let within = match window {
        Window::Generic if (SHARED_WINDOW..SHARED_WINDOW + WINDOW).contains(&address) => {
            address - SHARED_WINDOW
        }
        Window::Generic => return elsewhere(format!("mbarrier at 0x{address:x}, which is no shared memory")),
        // Shared addresses are 32 bits; what a 64-bit register holds above is no part of them.
        _ => address & u64::from(u32::MAX),
    };
    let (rank, offset) = ((within >> 24) as u32, within as u32 & 0xff_ffff);
    match window {
        Window::Cluster => Ok((rank, offset)),
        // An address of the block's own memory may come without its rank.
        _ if rank == own || rank == 0 && window == Window::Block => Ok((own, offset)),
        _ => elsewhere(format!(
            "mbarrier at 0x{address:x}, which is shared memory of block {rank} of the cluster"
        )),
    }
}

/// The lanes of each object, in the order of their lowest.
struct Grouped([((u32, u32), u32); LANES], usize);

impl Grouped {
    fn new() -> Grouped {
        Grouped([((0, 0), 0); LANES], 0)
    }

    fn add(&mut self, at: (u32, u32), lane: usize) {
        let group = match self.0[..self.1].iter_mut().find(|(known, _)| *known == at) {
            Some(group) => group,
            None => {
                self.1 += 1;
                &mut self.0[self.1 - 1]
            }
        };
        *group = (at, group.1 | 1 << lane);
    }

    /// The lanes of an object, which is then without any.
    fn take(&mut self, at: (u32, u32)) -> u32 {
        let group = self.0[..self.1].iter_mut().find(|(known, _)| *known == at);
        group.map_or(0, |(_, mask)| std::mem::take(mask))
    }

    fn iter(&self) -> impl Iterator<Item = (check::Object, u32)> {
        let groups = self.0[..self.1].iter().filter(|(_, mask)| *mask != 0);
        groups.map(|((block, offset), mask)| {
            (check::Object::Mbarrier { block: *block, offset: *offset }, *mask)
        })
    }
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    match op {
        Op::Object { target, action } => act(target, action, cx, active),
        Op::Wait { target, done, phase, hold, acquire } => {
            wait(target, *done, phase, *hold, *acquire, cx, active)
        }
        Op::PendingCount { count, state } => {
            let counts = cx.warp.wide(*state).map(|state| 0x10_0000 - (state >> 43 & 0xf_ffff) as u32);
            cx.warp.set_row(*count, &counts, active);
            Ok(Flow::Next)
        }
    }
}

fn act(target: &Target, action: &Action, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    let own = cx.warp.block;
    let addresses = cx.warp.addresses(target.address);
    let warp = cx.warp.number(cx.launch);
    // What lanes did before they arrived is released when they all have, or when one of them completes the phase.
    let mut released = Grouped::new();
    for lane in lanes(active) {
        let at = |fault| Fault { lane: Some(lane as u32), ..fault };
        let (rank, offset) = resolve(addresses[lane], target.window, own, lane as u32)?;
        if let Err(fault) = objects::alive(cx.cluster, rank, offset) {
            // Where this is told and no more, the arrival is lost, as the barrier is.
            cx.cluster.checker.tolerate(warp, cx.pc, at(fault))?;
            continue;
        }
        let block = objects::remote(cx.cluster, rank, offset).map_err(at)?;
        let (access, order) = match action {
            Action::Init(_) => {
                objects::place(block, offset).map_err(at)?;
                (Access::Write, Order::Weak)
            }
            _ => {
                objects::with(block, offset, |_| Ok(())).map_err(at)?;
                match action {
                    Action::Inval => (Access::Write, Order::Weak),
                    _ => (Access::Atomic, Order::Relaxed(Scope::Cluster)),
                }
            }
        };
        let who = Thread { warp, lane: lane as u32 };
        cx.cluster.checker.shared(who, rank, offset, objects::BYTES, access, order, cx.pc).map_err(at)?;

        let block = &mut cx.cluster.blocks[rank as usize];
        let value = |slot: Slot| cx.warp.row(slot)[lane];
        let phase = block.mbarriers.get(offset).map(|object| object.phase);
        let mut given = None;
        let result = match action {
            Action::Init(count) => objects::init(block, offset, value(*count)),
            Action::Inval => objects::inval(block, offset),
            Action::ExpectTx(bytes) => objects::with(block, offset, |object| object.expect(value(*bytes))),
            Action::CompleteTx(bytes) => {
                objects::with(block, offset, |object| object.complete(value(*bytes)))
            }
            Action::Arrive { state, count, bytes, drop, incomplete, .. } => {
                let bytes = bytes.map_or(0, value);
                let arrival = Arrival { count: value(*count), bytes, drop: *drop, incomplete: *incomplete };
                objects::with(block, offset, |object| object.arrive(offset, arrival))
                    .map(|before| given = state.map(|slot| (slot, before)))
            }
        };
        result.map_err(at)?;
        if let Action::Arrive { .. } = action {
            released.add((rank, offset), lane);
        }
        let now = block.mbarriers.get(offset).map(|object| object.phase);
        if phase.is_some() && now.is_some() && phase != now {
            let object = check::Object::Mbarrier { block: rank, offset };
            let mask = released.take((rank, offset));
            if mask != 0 {
                arrived(cx, action, warp, mask, object);
            }
            cx.cluster.checker.phase(object);
        }
        if let Some((slot, state)) = given {
            cx.warp.set_wide(slot, &[state; LANES], 1 << lane);
        }
    }
    for (object, mask) in released.iter() {
        arrived(cx, action, warp, mask, object);
    }
    Ok(Flow::Next)
}

/// What an arrival releases.
fn arrived(cx: &mut Context, action: &Action, warp: u32, mask: u32, object: check::Object) {
    let checker = &mut cx.cluster.checker;
    checker.notice(warp, object);
    match action {
        Action::Arrive { release: false, scope, .. } => checker.release_fenced(warp, mask, object, *scope),
        _ => checker.release(warp, mask, object),
    }
}

/// Takes a scope; without one it is the block.
fn scope(modifiers: &mut Modifiers) -> Scope {
    if modifiers.take_any(&["cta", "cluster"]) == Some("cluster") { Scope::Cluster } else { Scope::Block }
}

fn wait(
    target: &Target,
    done: u32,
    phase: &Phase,
    hold: bool,
    acquire: bool,
    cx: &mut Context,
    active: u32,
) -> Result<Flow, Fault> {
    let own = cx.warp.block;
    let addresses = cx.warp.addresses(target.address);
    let warp = cx.warp.number(cx.launch);
    let mut passed = 0;
    let mut objects = Grouped::new();
    for lane in lanes(active) {
        let (rank, offset) = resolve(addresses[lane], target.window, own, lane as u32)?;
        let is_passed = match phase {
            Phase::Parity(slot) => {
                let parity = cx.warp.row(*slot)[lane];
                let object = check::Object::Mbarrier { block: rank, offset };
                let checker = &mut cx.cluster.checker;
                objects::with(&mut cx.cluster.blocks[rank as usize], offset, |there| {
                    let passed = there.passed_parity(parity);
                    let phase = there.phase;
                    if !passed && phase > 1 && !checker.keeps_up(warp, lane as u32, object) {
                        return Err(format!(
                            "a wait for parity {} while phase {phase} goes on by who was never told that phase {} has ended: \
                             it may mean either",
                            parity & 1,
                            phase - 2
                        ));
                    }
                    Ok(passed)
                })
            }
            Phase::State(slot) => {
                let state = cx.warp.wide(*slot)[lane];
                objects::with(&mut cx.cluster.blocks[rank as usize], offset, |object| {
                    object.passed(offset, state)
                })
            }
        };
        if is_passed.map_err(|fault| Fault { lane: Some(lane as u32), ..fault })? {
            passed |= 1 << lane;
            objects.add((rank, offset), lane);
        }
    }
    if hold && passed == 0 && !cx.cluster.stalled {
        let first = active.trailing_zeros() as usize;
        let (rank, offset) = resolve(addresses[first], target.window, own, first as u32)?;
        let what = cx.cluster.blocks[rank as usize].mbarriers.describe(offset);
        return Ok(Flow::Wait(Wait { what, token: 0 }));
    }
    for (object, mask) in objects.iter() {
        let check::Object::Mbarrier { block, offset } = object else { continue };
        for lane in lanes(mask) {
            let who = Thread { warp, lane: lane as u32 };
            let order = Order::Relaxed(Scope::Cluster);
            let checked =
                cx.cluster.checker.shared(who, block, offset, objects::BYTES, Access::Atomic, order, cx.pc);
            checked.map_err(|fault| Fault { lane: Some(lane as u32), ..fault })?;
        }
        cx.cluster.checker.notice(warp, object);
        match acquire {
            true => cx.cluster.checker.acquire(warp, mask, object),
            false => cx.cluster.checker.acquire_at_fence(warp, mask, object),
        }
    }
    cx.warp.set_predicate(done, passed, active);
    // Who polls lets others go on, or what it polls for would never come.
    Ok(if passed == active & ALL { Flow::Next } else { Flow::Yield })
}
