//! setmaxnreg: registers that warps give back and ask for.

use std::collections::HashMap;

use crate::exec::{Context, Flow, Wait};
use crate::fault::{Fault, FaultKind};

/// Registers of a multiprocessor.
const ALL: u32 = 65536;
/// The most that a thread may have.
const LARGEST: u32 = 255;

/// What the warps of a cluster hold.
#[derive(Debug, Default)]
pub(super) struct Registers {
    /// By block and warp: what each `setmaxnreg` of the warp left it with.
    warps: HashMap<(u32, u32), Vec<u32>>,
}

/// `setmaxnreg`: waits while the block's registers do not suffice.
///
/// How many registers a kernel starts with is the compiler's choice, which PTX does not say: `.maxnreg`, or else as many as
/// let one block run.
pub(super) fn set(cx: &mut Context, increase: bool, count: u32) -> Result<Flow, Fault> {
    let launch = cx.launch;
    let threads: u32 = launch.threads.iter().product();
    let warps = threads.div_ceil(32);
    let declared = launch.program.limits.max_registers;
    let start = declared.unwrap_or((ALL / threads.next_multiple_of(32) / 8 * 8).min(LARGEST));
    let (block, warp) = (cx.warp.block, cx.warp.index);
    let held = &cx.cluster.flights.registers.warps;
    let steps = |warp| held.get(&(block, warp)).map_or(&[][..], Vec::as_slice);
    let own = steps(warp);
    // A first step up or down is known for one only where the start is.
    if let Some(before) = own.last().copied().or(declared)
        && (if increase { count < before } else { count > before })
    {
        let how = if increase { "inc" } else { "dec" };
        let message = format!("setmaxnreg.{how} to {count} registers in a warp that has {before}");
        return Err(Fault::new(FaultKind::Instruction, message));
    }
    for other in warp / 4 * 4..(warp / 4 * 4 + 4).min(warps) {
        if let Some(found) = steps(other).get(own.len()).filter(|found| **found != count) {
            let message = format!(
                "setmaxnreg to {count} registers where warp {other} of the same warpgroup asked for {found}"
            );
            return Err(Fault::new(FaultKind::Instruction, message));
        }
    }
    let of = |warp| steps(warp).last().copied().unwrap_or(start);
    let others: u32 = (0..warps).filter(|other| *other != warp).map(of).sum();
    let free = (ALL / 32).saturating_sub(others);
    if increase && count > free {
        let what =
            format!("setmaxnreg.inc to {count} registers, of which the block's other warps leave {free}");
        return Ok(Flow::Wait(Wait { what, token: 0 }));
    }
    cx.cluster.flights.registers.warps.entry((block, warp)).or_default().push(count);
    Ok(Flow::Next)
}
