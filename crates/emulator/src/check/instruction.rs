//! The accesses of a warp's lanes by one instruction, put together where they lie side by side.

use super::findings::Leniency;
use super::history::{Clash, LINE, Line, Stamp, Touch, WRITE};
use super::threads::Lanes;
use crate::exec::lanes::{ALL, LANES, WideRow, lanes};

/// One instruction that touches memory.
pub(super) struct Instruction<'a> {
    /// As its accesses are remembered, but for the lanes.
    pub stamp: Stamp,
    /// Warps of a block.
    pub warps: u16,
    /// Lanes that run it.
    pub active: u32,
    /// Where each does.
    pub offsets: &'a WideRow,
    /// Whether all do, each behind the one before.
    pub beside: bool,
    /// Bytes of each.
    pub len: u32,
    /// Whether two lanes store different values, and of one whether it changes what is there; `None` where each comes alone.
    pub differ: Option<&'a dyn Fn(usize, usize) -> bool>,
    /// What becomes of its clashes.
    pub lenient: &'a Leniency,
}

/// Accesses of lanes that know the same to bytes without a gap.
pub(super) struct Piece<'a> {
    touch: Touch<'a>,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
    /// log2 of the bytes of each lane, where the lanes lie side by side and do not touch all of it each.
    shift: Option<u8>,
}

impl Piece<'_> {
    /// The part of it that is bytes `low..high` of the line that holds byte `at`.
    pub(super) fn touch(
        &self,
        at: u64,
        line: &mut Line,
        low: u32,
        high: u32,
        cap: usize,
    ) -> Result<(), Clash> {
        let Some(shift) = self.shift else { return line.touch(low, high, &self.touch, cap) };
        let first = self.touch.stamp.lanes.trailing_zeros() + ((at - self.offset) >> shift) as u32;
        let count = (high - low) >> shift;
        if high - low == LINE {
            return line.touch_whole(&self.of((u32::MAX >> (32 - count)) << first), cap);
        }
        (0..count).try_for_each(|index| {
            let low = low + (index << shift);
            line.touch(low, low + (1 << shift), &self.of(1 << (first + index)), cap)
        })
    }

    /// The same by some of its lanes alone.
    fn of(&self, lanes: u32) -> Touch<'_> {
        let (warp, _, time) = self.touch.origin;
        let stamp = Stamp { lanes, shift: self.shift.unwrap_or_default(), ..self.touch.stamp };
        Touch { stamp, origin: (warp, lanes, time), ..self.touch }
    }
}

impl Instruction<'_> {
    /// Lets `touch` have its accesses, piece by piece.
    pub(super) fn pieces(
        &self,
        known: &Lanes,
        mut touch: impl FnMut(&Piece) -> Result<(), Clash>,
    ) -> Result<(), Clash> {
        let twin = |others, mine: u32| self.twin(others, mine);
        let idle = |mine: u32| self.differ.is_some_and(|differ| lanes(mine).all(|lane| !differ(lane, lane)));
        let mut left = self.active;
        while left != 0 {
            let first = left.trailing_zeros();
            let (alike, clock) = known.clock(first);
            let (mask, shift) = self.run(left & alike);
            left &= !mask;
            let touch_of = Touch {
                stamp: Stamp { lanes: mask, ..self.stamp },
                clock,
                origin: (self.stamp.actor, mask, self.stamp.time),
                warps: self.warps,
                twin: &twin,
                idle: &idle,
                lenient: self.lenient,
            };
            let len = if shift.is_some() { self.len * mask.count_ones() } else { self.len };
            touch(&Piece { touch: touch_of, offset: self.offsets[first as usize], len, shift })?;
        }
        Ok(())
    }

    /// The first of these lanes, with those after it that touch the same or what lies beside it; for the latter, log2 of the bytes of
    /// each.
    #[inline]
    fn run(&self, mask: u32) -> (u32, Option<u8>) {
        let first = mask.trailing_zeros();
        let offset = self.offsets[first as usize];
        let behind = |(index, lane): &(usize, usize)| {
            *lane == first as usize + index
                && self.offsets[*lane] == offset + *index as u64 * u64::from(self.len)
        };
        let beside = match self.beside && mask == ALL {
            true => LANES,
            false => lanes(mask).enumerate().take_while(behind).count(),
        };
        if beside > 1
            && self.len.is_power_of_two()
            && self.len <= LINE
            && offset.is_multiple_of(u64::from(self.len))
        {
            return ((u32::MAX >> (32 - beside)) << first, Some(self.len.trailing_zeros() as u8));
        }
        if self.stamp.is(WRITE) {
            return (1 << first, None);
        }
        (lanes(mask).filter(|lane| self.offsets[*lane] == offset).fold(0, |all, lane| all | 1 << lane), None)
    }

    /// Of lanes that wrote where `mine` does: whether they leave its value, if they do so by this very instruction.
    fn twin(&self, others: u32, mine: u32) -> Option<bool> {
        let Some(differ) = self.differ else { return Some(true) };
        let mine = mine.trailing_zeros() as usize;
        let now =
            others & !self.active == 0 && lanes(others).all(|lane| self.offsets[lane] == self.offsets[mine]);
        now.then(|| !lanes(others).any(|lane| differ(lane, mine)))
    }
}
