//! bar and barrier, bar.warp.sync, barrier.cluster, fences.

mod block;
mod cluster;

pub use block::Barriers;
pub use cluster::ClusterBarrier;

use self::block::{Arrival, Kind};
use super::lanes::{lanes, mask_of};
use super::{Cluster, Context, Decoded, Flow, Wait, Warp};
use crate::check::{Object, Scope};
use crate::fault::{Fault, FaultKind};
use crate::program::{Class, Decoder, Meet, Modifiers, Predicate, Slot};
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::{Result, Type};

/// An instruction of this family.
#[derive(Debug)]
pub enum Op {
    /// `bar.sync`, `bar.arrive`, `bar.red` and `barrier`.
    Block(Box<BlockOp>),
    /// `bar.warp.sync`
    Warp {
        /// Row of the masks.
        mask: Slot,
    },
    /// `barrier.cluster.arrive`
    ClusterArrive {
        /// Whether what was done before is ordered before what is done behind the wait.
        release: bool,
    },
    /// `barrier.cluster.wait`
    ClusterWait,
    /// `fence.acq_rel` and its parts
    Fence(Scope),
    /// `fence.sc`, `membar`
    TotalFence(Scope),
    /// `fence.proxy.async`
    ProxyFence,
    /// A fence between proxies that are one here.
    Nothing,
}

/// `bar` and `barrier`.
#[derive(Debug)]
pub struct BlockOp {
    kind: Kind,
    id: Slot,
    /// Threads that take part; all of the block without it.
    count: Option<Slot>,
    /// What is reduced.
    src: Predicate,
    result: Destination,
}

#[derive(Clone, Copy, Debug)]
enum Destination {
    Nowhere,
    Row(Slot),
    Predicate(u32),
}

/// Decodes an instruction of this family.
///
/// # Errors
/// What is wrong with it.
pub fn decode<'a>(inst: &Instruction<'a>, decoder: &mut Decoder<'a>) -> Result<Option<Decoded>> {
    let mut modifiers = Modifiers::new(inst);
    match inst.opcode {
        "bar" if modifiers.take("warp") => {
            if !modifiers.take("sync") {
                return Err(modifiers.invalid("bar.warp without .sync"));
            }
            modifiers.finish()?;
            decoder.expect(inst, 1..=1)?;
            let mask = decoder.src(inst, &inst.operands[0], Type::B32)?;
            Ok(Some(decoded(Op::Warp { mask }).meeting(Meet::Mask(mask))))
        }
        "barrier" if modifiers.take("cluster") => cluster_barrier(inst, decoder, &mut modifiers).map(Some),
        "bar" | "barrier" => block_barrier(inst, decoder, &mut modifiers).map(Some),
        "membar" | "fence" => fence(inst, decoder, &mut modifiers).map(Some),
        _ => Ok(None),
    }
}

fn decoded(op: Op) -> Decoded {
    Decoded::new(super::Op::Barrier(op), Class::Barrier)
}

fn block_barrier<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers<'_, 'a>,
) -> Result<Decoded> {
    modifiers.take("cta");
    // `bar` is `barrier.aligned`.
    let aligned = modifiers.take("aligned") || inst.opcode == "bar";
    let mut operands = inst.operands.iter();
    let mut next = |decoder: &Decoder<'a>| match operands.next() {
        Some(operand) => Ok(operand),
        None => decoder.operand(inst, inst.operands.len()),
    };
    let (mut src, mut result) = (Predicate::TRUE, Destination::Nowhere);
    let (kind, id, count);
    if modifiers.take("red") {
        kind = match modifiers.take_any(&["popc", "and", "or"]) {
            Some("popc") => Kind::Count,
            Some("and") => Kind::And,
            Some(_) => Kind::Or,
            None => return Err(modifiers.invalid("its operation is missing")),
        };
        let ty = modifiers.ty()?;
        let dst = next(decoder)?;
        result = match (kind, ty) {
            (Kind::Count, Type::U32) => Destination::Row(decoder.dst(inst, dst, ty)?),
            (Kind::And | Kind::Or, Type::Pred) => Destination::Predicate(decoder.predicate_dst(inst, dst)?),
            _ => return Err(modifiers.invalid("there is no such type for it")),
        };
        decoder.expect(inst, 3..=4)?;
        id = next(decoder)?;
        count = if inst.operands.len() == 4 { Some(next(decoder)?) } else { None };
        src = decoder.predicate(inst, next(decoder)?)?;
    } else {
        kind = match modifiers.take_any(&["sync", "arrive"]) {
            Some("sync") => Kind::Sync,
            Some(_) => Kind::Arrive,
            None => return Err(modifiers.invalid("its kind is missing")),
        };
        decoder.expect(inst, if kind == Kind::Arrive { 2..=2 } else { 1..=2 })?;
        id = next(decoder)?;
        count = if inst.operands.len() == 2 { Some(next(decoder)?) } else { None };
    }
    modifiers.finish()?;
    if matches!(id, Operand::Int(16..)) {
        return Err(modifiers.invalid("there are barriers 0 to 15"));
    }
    if matches!(count, Some(Operand::Int(count)) if *count == 0 || *count % 32 != 0) {
        return Err(modifiers.invalid("its number of threads is a multiple of 32"));
    }
    let id = decoder.src(inst, id, Type::U32)?;
    let count = count.map(|count| decoder.src(inst, count, Type::U32)).transpose()?;
    let op = Op::Block(Box::new(BlockOp { kind, id, count, src, result }));
    Ok(decoded(op).meeting(if aligned { Meet::Warp } else { Meet::Nobody }))
}

fn cluster_barrier<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers<'_, 'a>,
) -> Result<Decoded> {
    let aligned = modifiers.take("aligned");
    let op = match modifiers.take_any(&["arrive", "wait"]) {
        Some("arrive") => {
            let order = modifiers.take_any(&["release", "relaxed"]);
            Op::ClusterArrive { release: order != Some("relaxed") }
        }
        Some(_) => {
            modifiers.take("acquire");
            Op::ClusterWait
        }
        None => return Err(modifiers.invalid("its kind is missing")),
    };
    modifiers.finish()?;
    decoder.expect(inst, 0..=0)?;
    Ok(decoded(op).meeting(if aligned { Meet::Warp } else { Meet::Nobody }))
}

fn fence<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers<'_, 'a>,
) -> Result<Decoded> {
    if modifiers.take("proxy") {
        return proxy_fence(inst, decoder, modifiers);
    }
    decoder.expect(inst, 0..=0)?;
    if modifiers.take("mbarrier_init") {
        let complete = modifiers.take("release") && modifiers.take("cluster");
        modifiers.finish()?;
        if !complete {
            return Err(modifiers.invalid("it is .release.cluster"));
        }
        return Ok(decoded(Op::Fence(Scope::Cluster)));
    }
    let (total, scope) = if inst.opcode == "membar" {
        (true, modifiers.take_any(&["cta", "gl", "sys"]))
    } else {
        let order = modifiers.take_any(&["sc", "acq_rel", "acquire", "release"]);
        (order == Some("sc"), modifiers.take_any(&["cta", "cluster", "gpu", "sys"]))
    };
    modifiers.finish()?;
    match scope {
        Some(scope) if total => Ok(decoded(Op::TotalFence(scope_of(scope)))),
        Some(scope) => Ok(decoded(Op::Fence(scope_of(scope)))),
        None => Err(modifiers.invalid("its scope is missing")),
    }
}

fn scope_of(name: &str) -> Scope {
    match name {
        "cta" => Scope::Block,
        "cluster" => Scope::Cluster,
        "gl" | "gpu" => Scope::Device,
        _ => Scope::System,
    }
}

fn proxy_fence<'a>(
    inst: &Instruction<'a>,
    decoder: &mut Decoder<'a>,
    modifiers: &mut Modifiers<'_, 'a>,
) -> Result<Decoded> {
    const ASYNC: [&str; 4] = ["async", "async.global", "async.shared::cta", "async.shared::cluster"];
    let op = match modifiers.take_any(&["alias", "async"]) {
        Some("alias") => Op::Nothing,
        Some(_) => {
            // The space narrows it; what is fenced here is every space, as a program that is right needs no less.
            modifiers.take_any(&["global", "shared::cta", "shared::cluster"]);
            Op::ProxyFence
        }
        None => return Err(modifiers.unsupported(&format!("known proxies are alias, {}", ASYNC.join(", ")))),
    };
    modifiers.finish()?;
    decoder.expect(inst, 0..=0)?;
    Ok(decoded(op))
}

/// Runs one.
///
/// # Errors
/// What it did wrong.
pub fn execute(op: &Op, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
    let warp = cx.warp.number(cx.launch);
    match op {
        Op::Block(op) => return op.execute(cx, active),
        Op::Warp { mask } => {
            let masks = cx.warp.row(*mask);
            if let Some(lane) = lanes(active).find(|lane| masks[*lane] >> lane & 1 == 0) {
                let message = format!("lane {lane} executes bar.warp.sync with mask {:#010x}", masks[lane]);
                return Err(Fault::at(FaultKind::Barrier, lane as u32, message));
            }
            cx.cluster.checker.release(warp, active, Object::Warp(warp));
            cx.cluster.checker.acquire(warp, active, Object::Warp(warp));
        }
        Op::ClusterArrive { release } => {
            if *release {
                cx.cluster.checker.release(warp, active, Object::Cluster);
            } else {
                cx.cluster.checker.release_fenced(warp, active, Object::Cluster, Scope::Cluster);
            }
            if cx.cluster.barrier.arrive(warp, active)? {
                cx.cluster.checker.phase(Object::Cluster);
            }
            cx.cluster.counters.barriers += 1;
        }
        Op::ClusterWait => {
            if !cx.cluster.barrier.passed(warp, active)? {
                let what = "barrier.cluster".to_owned();
                return Ok(if cx.token.is_some() {
                    Flow::Still
                } else {
                    Flow::Wait(Wait { what, token: 0 })
                });
            }
            cx.cluster.checker.acquire(warp, active, Object::Cluster);
        }
        Op::Fence(scope) => cx.cluster.checker.fence(warp, active, *scope),
        Op::TotalFence(scope) => cx.cluster.checker.total_fence(warp, active, *scope),
        Op::ProxyFence => cx.cluster.checker.proxy_fence(warp, active),
        Op::Nothing => {}
    }
    Ok(Flow::Next)
}

/// What a waiting instruction of this family waits for, as things are now.
pub(super) fn describe(op: &Op, cluster: &Cluster, warp: &Warp, active: u32) -> Option<String> {
    match op {
        Op::Block(op) => {
            let id = warp.row(op.id)[active.trailing_zeros() as usize];
            Some(cluster.blocks[warp.block as usize].barriers.describe(id))
        }
        Op::ClusterWait => Some(cluster.barrier.describe()),
        _ => None,
    }
}

impl BlockOp {
    fn execute(&self, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
        let first = active.trailing_zeros() as usize;
        let (ids, counts) = (cx.warp.row(self.id), self.count.map(|count| cx.warp.row(count)));
        let (id, count) = (ids[first], counts.map(|counts| counts[first]));
        let same = mask_of(|lane| ids[lane] == id && counts.map(|counts| counts[lane]) == count) & active;
        if same != active {
            return Ok(Flow::Split(same));
        }
        let refuse = |message: String| Err(Fault::at(FaultKind::Barrier, first as u32, message));
        if id >= 16 {
            return refuse(format!("barrier {id}: there are barriers 0 to 15"));
        }
        if let Some(count) = count.filter(|count| *count == 0 || count % 32 != 0) {
            return refuse(format!("barrier {id} for {count} threads: the number is a multiple of 32"));
        }
        let warp = cx.warp.number(cx.launch);
        let object = Object::Barrier { block: cx.warp.block, id };
        let value = cx.warp.predicate(self.src) & active;
        let barriers = &mut cx.cluster.blocks[cx.warp.block as usize].barriers;
        let phase = match cx.token {
            Some(phase) => phase,
            None => {
                cx.cluster.checker.release(warp, active, object);
                cx.cluster.counters.barriers += 1;
                let arrival = Arrival { kind: self.kind, count, warp: cx.warp.index, lanes: active, value };
                let phase = barriers.arrive(id, arrival)?;
                if barriers.passed(id, phase) {
                    cx.cluster.checker.phase(object);
                }
                if self.kind == Kind::Arrive {
                    return Ok(Flow::Next);
                }
                phase
            }
        };
        if !barriers.passed(id, phase) {
            let still = cx.token.is_some();
            // In words only where somebody asks: `describe`.
            let wait = || Wait { what: String::new(), token: phase };
            return Ok(if still { Flow::Still } else { Flow::Wait(wait()) });
        }
        cx.cluster.checker.acquire(warp, active, object);
        match self.result {
            Destination::Nowhere => {}
            Destination::Row(dst) => {
                let result = barriers.result(id, phase, active);
                cx.warp.set_row(dst, &[result; 32], active);
            }
            Destination::Predicate(dst) => {
                let result = barriers.result(id, phase, active);
                cx.warp.set_predicate(dst, if result == 0 { 0 } else { u32::MAX }, active);
            }
        }
        Ok(Flow::Next)
    }
}
