//! The run of one warp: which of its fragments goes on, and how they part and meet.
//!
//! Of the fragments of a warp, the one with the most calls behind it runs first, then the one at the lowest instruction:
//! as code is laid out ([`crate::program`]), lanes that parted then meet again where their paths do. Lanes that go round a
//! loop in which they wait for others give way after a while, as those others may be lanes of the same warp.

use std::cmp::Reverse;

use super::barrier;
use super::lanes::{ALL, LANES, lanes};
use super::{Context, Flow, Fragment, Op, Warp, control, execute, tensor};
use crate::check::Object;
use crate::fault::{Fault, FaultKind};
use crate::program::{Class, Inst, Meet};

/// How often an instruction ran.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    /// For how many warps.
    pub warps: u64,
    /// For how many lanes.
    pub lanes: u64,
}

/// Why a warp's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// All its lanes have exited.
    Ended,
    /// All its lanes wait.
    Waits,
    /// Its lanes go round in vain.
    Spins,
    /// It had its share of instructions.
    Used,
}

/// Rounds of a waiting loop in one turn.
const ROUNDS: u32 = 16;
/// Rounds of a waiting loop after which a fragment gives way to others of its warp: first, other warps have several turns.
const PATIENCE: u32 = 8 * ROUNDS;

/// Runs a warp for at most `left` instructions, of which those it ran are subtracted.
///
/// # Errors
/// What an instruction did wrong; `cx.pc` is where.
pub(super) fn run(cx: &mut Context, counts: &mut [Count], left: &mut u64) -> Result<Turn, Fault> {
    let code = cx.launch.program.code.as_slice();
    for fragment in &mut cx.warp.fragments {
        fragment.tried = false;
        fragment.resting = false;
    }
    'select: loop {
        let Some(at) = select(cx.warp) else { return end(cx) };
        cx.warp.current = at;
        let fragment = &mut cx.warp.fragments[at];
        let (mut pc, mut mask) = (fragment.pc, fragment.mask);
        fragment.meeting = 0;
        cx.token = fragment.wait.as_ref().map(|wait| wait.token);
        let mut alone = cx.warp.fragments.len() == 1;
        let mut stop = if alone { u32::MAX } else { stop(cx.warp, at) };
        loop {
            let inst = &code[pc as usize];
            let mut active = mask & cx.warp.guarded(inst.guard);
            cx.pc = pc;
            cx.inst = inst;
            if *left == 0 {
                let fragment = &mut cx.warp.fragments[at];
                fragment.pc = pc;
                if !alone {
                    spin(fragment, u32::MAX, 2);
                }
                return Ok(Turn::Used);
            }
            if active == 0 {
                tally(counts, pc, 0);
                *left -= 1;
                pc += 1;
                if pc == stop {
                    cx.warp.fragments[at].pc = pc;
                    continue 'select;
                }
                continue;
            }
            if inst.meet != Meet::Nobody && cx.token.is_none() {
                match meet(cx, counts, active, mask)? {
                    Met::All => {}
                    Met::Some(ready) => {
                        // The others stay behind at this instruction.
                        mask = cx.warp.fragments[at].mask;
                        active = ready;
                        alone = false;
                        stop = pc + 1;
                    }
                    Met::Parted => continue 'select,
                }
            }
            cx.converged = mask;
            if cx.warp.products.watches() {
                let named = &cx.launch.program.details[pc as usize].registers;
                tensor::untouched(&inst.op, cx.warp, named)?;
            }
            let flow = match execute(cx, active) {
                Ok(flow) => flow,
                Err(mut fault) => {
                    fault.lane.get_or_insert(active.trailing_zeros());
                    return Err(fault);
                }
            };
            let next = match flow {
                Flow::Next => {
                    tally(counts, pc, active);
                    *left -= 1;
                    pc += 1;
                    if cx.token.is_some() {
                        cx.token = None;
                        cx.warp.fragments[at].wait = None;
                    }
                    if pc != stop && (alone || !brings_together(inst)) {
                        continue;
                    }
                    // What others of the warp wait for may have come about.
                    pc
                }
                Flow::Branch { taken, target } => {
                    tally(counts, pc, active);
                    *left -= 1;
                    if taken != mask {
                        part(cx.warp, at, taken, target, |_| {});
                        pc + 1
                    } else {
                        if target <= pc
                            && matches!(inst.op, Op::Control(control::Op::Branch { spins: true, .. }))
                        {
                            let fragment = &mut cx.warp.fragments[at];
                            spin(fragment, target, 1);
                            if fragment.resting && !alone {
                                fragment.pc = target;
                                continue 'select;
                            }
                            if fragment.spins.is_multiple_of(ROUNDS) {
                                fragment.pc = target;
                                return Ok(Turn::Spins);
                            }
                        }
                        if alone {
                            pc = target;
                            continue;
                        }
                        target
                    }
                }
                Flow::Wait(wait) => {
                    let fragment = &mut cx.warp.fragments[at];
                    if cx.token.is_none() {
                        tally(counts, pc, active);
                        *left -= 1;
                    }
                    fragment.wait = Some(wait);
                    fragment.tried = true;
                    stay(cx.warp, at, pc, active);
                    continue 'select;
                }
                Flow::Still => {
                    cx.warp.fragments[at].tried = true;
                    continue 'select;
                }
                Flow::Split(same) => {
                    let rest = active & !same;
                    mask &= !rest;
                    let fragment = &mut cx.warp.fragments[at];
                    fragment.mask = mask;
                    let rest = Fragment::new(pc, rest, fragment.calls.clone());
                    cx.warp.fragments.push(rest);
                    alone = false;
                    stop = pc + 1;
                    continue;
                }
                Flow::Yield => {
                    tally(counts, pc, active);
                    *left -= 1;
                    let fragment = &mut cx.warp.fragments[at];
                    fragment.pc = pc + 1;
                    spin(fragment, pc, 8);
                    if fragment.resting && !alone {
                        continue 'select;
                    }
                    return Ok(Turn::Spins);
                }
                Flow::Scatter(targets) => {
                    tally(counts, pc, active);
                    *left -= 1;
                    let mut rest = active;
                    while rest != 0 {
                        let target = targets[rest.trailing_zeros() as usize];
                        let same = lanes(rest).filter(|lane| targets[*lane] == target);
                        let same = same.fold(0, |same, lane| same | 1 << lane);
                        rest &= !same;
                        part(cx.warp, at, same, target, |_| {});
                    }
                    pc + 1
                }
                Flow::Call { taken, target } => {
                    tally(counts, pc, active);
                    *left -= 1;
                    part(cx.warp, at, taken, target, |calls| calls.push(pc + 1));
                    pc + 1
                }
                Flow::Return(taken) => {
                    tally(counts, pc, active);
                    *left -= 1;
                    match cx.warp.fragments[at].calls.last().copied() {
                        Some(back) => part(cx.warp, at, taken, back, |calls| {
                            calls.pop();
                        }),
                        None => exit(cx, at, taken),
                    }
                    pc + 1
                }
                Flow::Exit(taken) => {
                    tally(counts, pc, active);
                    *left -= 1;
                    exit(cx, at, taken);
                    pc + 1
                }
            };
            // The lanes that are left here go on; where all parted, the fragment is no more.
            cx.warp.fragments[at].pc = next;
            cx.warp.fragments.iter_mut().for_each(|fragment| fragment.tried = false);
            if cx.warp.fragments[at].mask == 0 {
                cx.warp.fragments.swap_remove(at);
            }
            continue 'select;
        }
    }
}

/// Whether other lanes of the warp may wait for an instruction.
fn brings_together(inst: &Inst) -> bool {
    inst.meet != Meet::Nobody || matches!(inst.class, Class::Barrier | Class::Async)
}

#[inline(always)]
fn tally(counts: &mut [Count], pc: u32, active: u32) {
    let count = &mut counts[pc as usize];
    count.warps += 1;
    // Counting bits is slow where the processor is not known to do it.
    count.lanes += if active == ALL { 32 } else { u64::from(active.count_ones()) };
}

/// Moves lanes of a fragment to one of their own. The fragment itself keeps the others.
fn part(warp: &mut Warp, at: usize, taken: u32, target: u32, change: impl FnOnce(&mut Vec<u32>)) {
    let fragment = &mut warp.fragments[at];
    fragment.mask &= !taken;
    let mut calls = fragment.calls.clone();
    change(&mut calls);
    warp.fragments.push(Fragment::new(target, taken, calls));
}

/// Keeps the active lanes of a fragment at an instruction; those that its guard held back go on.
fn stay(warp: &mut Warp, at: usize, pc: u32, active: u32) {
    let fragment = &mut warp.fragments[at];
    fragment.pc = pc;
    let rest = fragment.mask & !active;
    if rest != 0 {
        fragment.mask = active;
        let rest = Fragment::new(pc + 1, rest, fragment.calls.clone());
        warp.fragments.push(rest);
    }
}

fn exit(cx: &mut Context, at: usize, taken: u32) {
    cx.warp.fragments[at].mask &= !taken;
    cx.warp.live &= !taken;
    let number = cx.warp.number(cx.launch);
    let block = cx.warp.block;
    cx.cluster.checker.exit(number, taken);
    for id in lanes(cx.cluster.blocks[block as usize].barriers.exited(cx.warp.index, taken)) {
        cx.cluster.checker.phase(Object::Barrier { block, id: id as u32 });
    }
    if cx.cluster.barrier.exited(number, taken) {
        cx.cluster.checker.phase(Object::Cluster);
    }
}

/// Takes note of rounds of a waiting loop, and whether the fragment should give way.
fn spin(fragment: &mut Fragment, target: u32, rounds: u32) {
    if fragment.spins_at != target {
        fragment.spins_at = target;
        fragment.spins = 0;
    }
    fragment.spins += rounds;
    if fragment.spins >= PATIENCE {
        fragment.spins = 0;
        fragment.resting = true;
    }
}

/// The fragment that runs next, with those that are where it is merged into it.
fn select(warp: &mut Warp) -> Option<usize> {
    let live = warp.live;
    let can_run = |fragment: &Fragment| {
        !fragment.tried && !fragment.resting && fragment.meeting & live & !fragment.mask == 0
    };
    if let [fragment] = warp.fragments.as_slice() {
        return can_run(fragment).then_some(0);
    }
    let mut at = (0..warp.fragments.len())
        .filter(|at| can_run(&warp.fragments[*at]))
        .min_by_key(|at| (Reverse(warp.fragments[*at].calls.len()), warp.fragments[*at].pc))?;
    if warp.fragments[at].wait.is_some() {
        return Some(at);
    }
    let mut other = 0;
    while other < warp.fragments.len() {
        let (one, two) = (&warp.fragments[at], &warp.fragments[other]);
        if other == at || one.pc != two.pc || two.wait.is_some() || one.calls != two.calls {
            other += 1;
            continue;
        }
        warp.fragments[at].mask |= warp.fragments[other].mask;
        warp.fragments.swap_remove(other);
        if at == warp.fragments.len() {
            at = other;
        }
    }
    Some(at)
}

/// The next instruction at which other lanes wait for the fragment to come by.
fn stop(warp: &Warp, at: usize) -> u32 {
    let one = &warp.fragments[at];
    let others = warp.fragments.iter().filter(|two| two.pc > one.pc && two.wait.is_none());
    others.filter(|two| one.calls == two.calls).map(|two| two.pc).min().unwrap_or(u32::MAX)
}

/// The end of a turn in which no fragment can run any more.
fn end(cx: &mut Context) -> Result<Turn, Fault> {
    if cx.warp.fragments.is_empty() {
        return match cx.warp.products.unfinished() {
            None => Ok(Turn::Ended),
            Some(left) => Err(Fault::new(FaultKind::Async, format!("the warp ends with {left}"))),
        };
    }
    if cx.warp.fragments.iter().any(|fragment| fragment.resting) {
        return Ok(Turn::Spins);
    }
    if cx.warp.fragments.iter().any(|fragment| fragment.meeting == 0) {
        return Ok(Turn::Waits);
    }
    // Nothing outside of the warp can bring these lanes together.
    let mut fragments: Vec<&Fragment> = cx.warp.fragments.iter().collect();
    fragments.sort_unstable_by_key(|fragment| fragment.mask.trailing_zeros());
    let first = fragments[0];
    cx.pc = first.pc;
    let missing = first.meeting & cx.warp.live & !first.mask;
    let message = format!("it waits for lanes {missing:#010x} of its warp, which wait elsewhere");
    let mut fault = Fault::at(FaultKind::Barrier, first.mask.trailing_zeros(), message);
    for other in &fragments[1..] {
        let place = cx.launch.program.place(other.pc);
        fault.notes.push(format!("lanes {:#010x} wait at {place}", other.mask));
    }
    Err(fault)
}

/// Who came to an instruction.
enum Met {
    /// All that it needs.
    All,
    /// All that these lanes need; the others were left behind.
    Some(u32),
    /// Not enough, or they have passed already.
    Parted,
}

/// Sees that the lanes which an instruction needs are there.
fn meet(cx: &mut Context, counts: &mut [Count], active: u32, mask: u32) -> Result<Met, Fault> {
    let (live, at, pc) = (cx.warp.live, cx.warp.current, cx.pc);
    let needed = match cx.inst.meet {
        Meet::Nobody => return Ok(Met::All),
        Meet::Warp => {
            if active == live {
                return Ok(Met::All);
            }
            let without = mask & !active;
            if without != 0 {
                let message =
                    format!("it needs all lanes of the warp; its predicate is false in {without:#010x}");
                return Err(Fault::at(FaultKind::Barrier, active.trailing_zeros(), message));
            }
            live
        }
        Meet::Mask(slot) => {
            let masks = cx.warp.row(slot);
            let needed = lanes(active).fold(0, |needed, lane| needed | masks[lane]);
            if needed & live & !active == 0 {
                return Ok(Met::All);
            }
            let ready = lanes(active).filter(|lane| masks[*lane] & live & !active == 0);
            let ready = ready.fold(0, |ready, lane| ready | 1 << lane);
            if ready != 0 {
                let rest = active & !ready;
                let meeting = lanes(rest).fold(0, |needed, lane| needed | masks[lane]);
                let fragment = &mut cx.warp.fragments[at];
                fragment.mask = mask & !rest;
                let rest = Fragment::new(pc, rest, fragment.calls.clone());
                cx.warp.fragments.push(Fragment { meeting, ..rest });
                return Ok(Met::Some(ready));
            }
            needed
        }
    };
    cx.warp.fragments[at].meeting = needed;
    stay(cx.warp, at, pc, active);
    if let (Op::Barrier(barrier::Op::Warp { .. }), Some(mask)) =
        (&cx.inst.op, common(cx.warp, cx.inst, active))
    {
        meet_anywhere(cx, counts, mask);
    }
    Ok(Met::Parted)
}

/// The mask that all active lanes name.
fn common(warp: &Warp, inst: &Inst, active: u32) -> Option<u32> {
    let Meet::Mask(slot) = inst.meet else { return None };
    let masks = warp.row(slot);
    let first = masks[active.trailing_zeros() as usize];
    (0..LANES).all(|lane| active >> lane & 1 == 0 || masks[lane] == first).then_some(first)
}

/// Lanes may come to bar.warp.sync at several places: where all have, they go on.
fn meet_anywhere(cx: &mut Context, counts: &mut [Count], mask: u32) {
    let code = &cx.launch.program.code;
    let here = |warp: &Warp, fragment: &Fragment| {
        let inst = &code[fragment.pc as usize];
        fragment.meeting != 0
            && matches!(inst.op, Op::Barrier(barrier::Op::Warp { .. }))
            && common(warp, inst, fragment.mask) == Some(mask)
    };
    let found: Vec<usize> =
        (0..cx.warp.fragments.len()).filter(|at| here(cx.warp, &cx.warp.fragments[*at])).collect();
    let all = found.iter().fold(0, |all, at| all | cx.warp.fragments[*at].mask);
    if mask & cx.warp.live & !all != 0 || all & !mask != 0 {
        return;
    }
    let number = cx.warp.number(cx.launch);
    cx.cluster.checker.release(number, all, Object::Warp(number));
    cx.cluster.checker.acquire(number, all, Object::Warp(number));
    for at in found {
        let fragment = &mut cx.warp.fragments[at];
        tally(counts, fragment.pc, fragment.mask);
        fragment.pc += 1;
        fragment.meeting = 0;
    }
}
