//! Accesses of shared and global memory by the lanes of a warp, held against those before them.

use super::findings::{Key, Leniency};
use super::history::{CONSTANT, LINE, MAP, Stamp, WRITE};
use super::instruction::Instruction;
use super::{Access, Checker, Order, Shadow, Thread, report, strong};
use crate::exec::lanes::{LANES, Row, WideRow, lanes, side_by_side};
use crate::fault::Fault;
use crate::memory::Allocation;

/// Accesses that a cell of shared memory remembers.
pub(super) const SHARED_CAP: usize = 64;

impl Checker {
    /// A thread touches shared memory: `len` bytes from `offset` in the block of rank `block`. To be called before it does. Lanes that
    /// store to the same place by the same instruction are taken to store the same value: [`Checker::shared_warp`] asks.
    ///
    /// # Errors
    /// A race, a read of what nobody wrote, or of what is in flight.
    #[inline]
    pub fn shared(
        &mut self,
        who: Thread,
        block: u32,
        offset: u32,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
    ) -> Result<(), Fault> {
        let mut offsets = [0; LANES];
        offsets[who.lane as usize] = offset;
        self.shared_lanes(who.warp, 1 << who.lane, block, &offsets, len, access, order, pc, None)
    }

    /// The lanes of `active` touch shared memory by one instruction: `len` bytes from their offset in the block of rank `block` each.
    /// To be called before they do. `differ` says of two lanes that store to the same place whether their values differ, and of a
    /// lane and itself whether its store changes what is there; it is not asked otherwise.
    ///
    /// # Errors
    /// As [`Checker::shared`].
    pub fn shared_warp(
        &mut self,
        warp: u32,
        active: u32,
        block: u32,
        offsets: &Row,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
        differ: &dyn Fn(usize, usize) -> bool,
    ) -> Result<(), Fault> {
        self.shared_lanes(warp, active, block, offsets, len, access, order, pc, Some(differ))
    }

    fn shared_lanes(
        &mut self,
        warp: u32,
        active: u32,
        block: u32,
        offsets: &Row,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
        differ: Option<&dyn Fn(usize, usize) -> bool>,
    ) -> Result<(), Fault> {
        let wide = offsets.map(u64::from);
        let beside = side_by_side(&wide, active, len);
        if self.options.uninitialized {
            let written = &mut self.blocks[block as usize].written;
            let all = LANES as u32 * len;
            // What is not clear for all lanes at once is looked at lane by lane.
            let known = !access.reads() || beside && written.first_clear(offsets[0], all).is_none();
            let clear = |lane: usize| Some((lane, written.first_clear(offsets[lane], len)?));
            let unwritten = if known { None } else { lanes(active).find_map(clear) };
            match access.writes() {
                true if beside => written.mark(offsets[0], all),
                true => lanes(active).for_each(|lane| written.mark(offsets[lane], len)),
                false => {}
            }
            if let Some((lane, first)) = unwritten.filter(|_| !self.is_known(Key(pc, None))) {
                let fault = report::unwritten_shared(lane as u32, block, offsets[lane], len, first);
                self.tolerate(warp, pc, fault)?;
            }
        }
        if !self.options.order() {
            return Ok(());
        }
        self.settle(warp);
        let lenient = Leniency::new(self.options);
        let instruction =
            self.instruction(warp, active, &wide, beside, len, access, order, pc, differ, &lenient);
        let lines = &mut self.blocks[block as usize].lines;
        let result = instruction.pieces(&self.lanes[warp as usize], |piece| {
            let (mut at, end) = (piece.offset, piece.offset + u64::from(piece.len));
            while at < end {
                let line = at / u64::from(LINE);
                let low = (at % u64::from(LINE)) as u32;
                let high = (end - line * u64::from(LINE)).min(u64::from(LINE)) as u32;
                piece.touch(at, &mut lines[line as usize], low, high, SHARED_CAP)?;
                at += u64::from(high - low);
            }
            Ok(())
        });
        if let Err(clash) = result {
            return Err(self.clash_shared(block, offsets, len, access, clash));
        }
        for clash in lenient.found() {
            if !self.is_known(Key(pc, Some(clash.why))) {
                let fault = self.clash_shared(block, offsets, len, access, clash);
                self.keep(warp, pc, Some(clash.why), fault);
            }
        }
        if strong::strength(access, order) != 0 {
            for lane in lanes(active) {
                self.strong_shared(warp, lane as u32, (block, offsets[lane]), access, order);
            }
        }
        Ok(())
    }

    /// A thread touches `len` bytes of an allocation from byte `offset`. To be called before it does.
    ///
    /// # Errors
    /// As [`Checker::shared`].
    #[inline]
    pub fn global(
        &mut self,
        who: Thread,
        allocation: &Allocation,
        offset: u64,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
    ) -> Result<(), Fault> {
        let mut offsets = [0; LANES];
        offsets[who.lane as usize] = offset;
        self.global_lanes(who.warp, 1 << who.lane, allocation, &offsets, len, access, order, pc, None)
    }

    /// The lanes of `active` touch an allocation by one instruction, as in [`Checker::shared_warp`].
    ///
    /// # Errors
    /// As [`Checker::shared`].
    pub fn global_warp(
        &mut self,
        warp: u32,
        active: u32,
        allocation: &Allocation,
        offsets: &WideRow,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
        differ: &dyn Fn(usize, usize) -> bool,
    ) -> Result<(), Fault> {
        self.global_lanes(warp, active, allocation, offsets, len, access, order, pc, Some(differ))
    }

    fn global_lanes(
        &mut self,
        warp: u32,
        active: u32,
        allocation: &Allocation,
        offsets: &WideRow,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
        differ: Option<&dyn Fn(usize, usize) -> bool>,
    ) -> Result<(), Fault> {
        let beside = side_by_side(offsets, active, len);
        if self.options.uninitialized {
            let all = LANES as u64 * u64::from(len);
            let known = !access.reads() || beside && allocation.first_unwritten(offsets[0], all).is_none();
            let clear = |lane: usize| Some((lane, allocation.first_unwritten(offsets[lane], len.into())?));
            let unwritten = if known { None } else { lanes(active).find_map(clear) };
            match access.writes() {
                true if beside => allocation.mark_written(offsets[0], all),
                true => lanes(active).for_each(|lane| allocation.mark_written(offsets[lane], len.into())),
                false => {}
            }
            if let Some((lane, first)) = unwritten.filter(|_| !self.is_known(Key(pc, None))) {
                let fault = report::unwritten_global(lane as u32, allocation, offsets[lane], len, first);
                self.tolerate(warp, pc, fault)?;
            }
        }
        if !self.options.order() {
            return Ok(());
        }
        self.settle(warp);
        let lenient = Leniency::new(self.options);
        let instruction =
            self.instruction(warp, active, offsets, beside, len, access, order, pc, differ, &lenient);
        let launch = self.launch;
        let result = instruction.pieces(&self.lanes[warp as usize], |piece| {
            let shadow = &allocation.shadow;
            shadow.visit(allocation.len, launch, piece.offset, piece.len.into(), |at, line, low, high| {
                piece.touch(at, line, low, high, Shadow::CAP)
            })
        });
        if let Err(clash) = result {
            return Err(self.clash_global(allocation, offsets, len, access, clash));
        }
        for clash in lenient.found() {
            if !self.is_known(Key(pc, Some(clash.why))) {
                let fault = self.clash_global(allocation, offsets, len, access, clash);
                self.keep(warp, pc, Some(clash.why), fault);
            }
        }
        if strong::strength(access, order) != 0 {
            for lane in lanes(active) {
                self.strong_global(warp, lane as u32, allocation, offsets[lane], access, order);
            }
        }
        Ok(())
    }

    fn instruction<'a>(
        &mut self,
        warp: u32,
        active: u32,
        offsets: &'a WideRow,
        beside: bool,
        len: u32,
        access: Access,
        order: Order,
        pc: u32,
        differ: Option<&'a dyn Fn(usize, usize) -> bool>,
        lenient: &'a Leniency,
    ) -> Instruction<'a> {
        let time = self.lanes[warp as usize].now();
        let kind = match access {
            Access::Read if order == Order::Constant => CONSTANT,
            Access::Read if order == Order::Map => MAP,
            Access::Read => 0,
            Access::Write | Access::Atomic => WRITE,
        };
        let flags = Stamp::with_strength(kind, strong::strength(access, order));
        let stamp = Stamp { time, lanes: 0, pc, cluster: self.cluster, actor: warp as u16, flags, shift: 0 };
        Instruction { stamp, warps: self.warps, active, offsets, beside, len, differ, lenient }
    }
}
