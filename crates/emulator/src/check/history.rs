//! What was last done to each byte, and by whom.
//!
//! Memory is cut into [lines](Line) of 64 bytes. A line that warps touch as a whole, each lane its own part, keeps one
//! [history](Cell) for all of its bytes; any other touch refines it into cells as fine as its accesses, down to a byte. A
//! history is the set of accesses that a later one may still race with: whatever a newer access is ordered after and stands for
//! is forgotten.

use super::clock::{Clock, Part};
use super::findings::Leniency;

/// Bytes of a line.
pub(super) const LINE: u32 = 64;
/// The actor of what is in flight and completes at a time that nobody knows yet; its `lanes` are the flight's number.
pub(super) const IN_FLIGHT: u16 = u16::MAX;

/// It writes.
pub(super) const WRITE: u8 = 1;
/// It goes through the async proxy.
pub(super) const ASYNC: u8 = 2;
/// `ld.global.nc`: nobody may write it in this launch.
pub(super) const CONSTANT: u8 = 4;
/// It is done by an asynchronous operation, not by an instruction itself.
pub(super) const FLIGHT: u8 = 8;
/// It reads a tensor map, through a proxy of its own.
pub(super) const MAP: u8 = 64;
/// Position of the strength in the flags: 0 is weak, then the scopes from the narrowest.
const STRENGTH: u8 = 4;

/// An access as it is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Its actor's time; 0 is no access.
    pub time: u32,
    /// The lanes that did it.
    pub lanes: u32,
    /// Of which instruction.
    pub pc: u32,
    /// The cluster's number.
    pub cluster: u32,
    /// A warp of the cluster, or what goes on by itself.
    pub actor: u16,
    /// What it was.
    pub flags: u8,
    /// In the history of a whole line: log2 of the bytes that each of `lanes`, one after the other, touched.
    pub shift: u8,
}

impl Stamp {
    /// `flags` of an access of this strength.
    pub(super) fn with_strength(flags: u8, strength: u8) -> u8 {
        flags | strength << STRENGTH
    }

    #[inline]
    fn strength(self) -> u8 {
        self.flags >> STRENGTH & 3
    }

    /// Whether it has any of these flags.
    #[inline]
    pub(super) fn is(self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Its lanes within bytes `low..high` of its line.
    fn lanes_in(self, low: u32, high: u32) -> u32 {
        if self.lanes.is_power_of_two() || self.actor == IN_FLIGHT {
            return self.lanes;
        }
        let first = self.lanes.trailing_zeros();
        let count = ((high - 1) >> self.shift) - (low >> self.shift) + 1;
        (u32::MAX >> (32 - count)) << (first + (low >> self.shift))
    }
}

/// An access that is being made.
pub(super) struct Touch<'a> {
    /// As it will be remembered.
    pub stamp: Stamp,
    /// What its lanes know.
    pub clock: &'a Clock,
    /// The warp in whose program it stands, the lanes and the time: what they did up to then comes before it.
    pub origin: (u16, u32, u32),
    /// Warps of a block, to know which block a warp belongs to.
    pub warps: u16,
    /// Of lanes that wrote here by the same instruction of the program, and the lane that does: whether they leave the same
    /// value; `None` where they did so at another time.
    pub twin: &'a dyn Fn(u32, u32) -> Option<bool>,
    /// Whether stores of these lanes leave memory as it is.
    pub idle: &'a dyn Fn(u32) -> bool,
    /// What becomes of a clash.
    pub lenient: &'a Leniency,
}

/// Why two accesses do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Why {
    /// Nothing orders them.
    Unordered,
    /// Both are strong, but their scopes do not hold each other's thread.
    Scope,
    /// Ordered, but no proxy fence stands between them.
    Proxy,
    /// Ordered, but no fence of the proxy of tensor maps stands between them.
    Map,
    /// One was said to be constant.
    Constant,
    /// Lanes of one instruction write different values.
    Lanes,
}

/// Two accesses that do not go together: the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clash {
    /// The earlier access.
    pub other: Stamp,
    /// Lanes of the later one.
    pub lanes: u32,
    /// What is wrong.
    pub why: Why,
}

impl Touch<'_> {
    /// Whether `other` comes before this. With `whole`, both are of a whole line, each lane its own part.
    #[inline]
    fn follows(&self, other: &Stamp, whole: bool) -> bool {
        let me = &self.stamp;
        if other.cluster != me.cluster {
            let part = self.clock.foreign(other.cluster);
            return part.is_some_and(|part| part.known.covers(other.actor, other.lanes, other.time));
        }
        let (warp, lanes, time) = self.origin;
        let mut unknown = other.lanes;
        if other.actor == warp && other.time <= time {
            if whole {
                if other.lanes == lanes && (other.shift == me.shift || lanes.is_power_of_two()) {
                    return true;
                }
            } else if lanes.is_power_of_two() {
                unknown &= !lanes;
            }
        } else if (other.actor, other.time, other.lanes) == (me.actor, me.time, me.lanes) {
            return true;
        }
        unknown == 0 || self.clock.own.known.covers(other.actor, unknown, other.time)
    }

    /// Whether a proxy fence came after `other`.
    fn fenced(&self, other: &Stamp) -> bool {
        self.part(other).is_some_and(|part| part.fenced.covers(other.actor, other.lanes, other.time))
    }

    /// Whether a fence of the proxy of tensor maps did.
    fn mapped(&self, other: &Stamp) -> bool {
        self.part(other).is_some_and(|part| part.mapped.covers(other.actor, other.lanes, other.time))
    }

    /// What is known of the cluster of `other`.
    fn part(&self, other: &Stamp) -> Option<&Part> {
        if other.cluster == self.stamp.cluster {
            Some(&self.clock.own)
        } else {
            self.clock.foreign(other.cluster)
        }
    }

    /// The narrowest strength at which both are strong to each other.
    fn distance(&self, other: &Stamp) -> u8 {
        let block = |stamp: &Stamp| stamp.actor / self.warps;
        match () {
            () if other.cluster != self.stamp.cluster || (other.flags | self.stamp.flags) & FLIGHT != 0 => 3,
            () if block(other) != block(&self.stamp) => 2,
            () => 1,
        }
    }

    /// An earlier access as a report names it: of lanes that are also this one's, another if there is one.
    #[cold]
    fn rival(&self, other: &Stamp) -> Stamp {
        let me = &self.stamp;
        let rest = other.lanes & !me.lanes;
        let shared =
            (other.actor, other.cluster) == (me.actor, me.cluster) && (other.flags | me.flags) & FLIGHT == 0;
        if shared && rest != 0 { Stamp { lanes: rest, ..*other } } else { *other }
    }

    /// Whether `other`, an earlier access, comes before this one; an error where it had to and clashes are not tolerated.
    #[inline]
    fn against(&self, other: &Stamp, whole: bool) -> Result<bool, Clash> {
        let me = &self.stamp;
        let either = me.flags | other.flags;
        let follows = self.follows(other, whole);
        let clash = |why| {
            let clash = Clash { other: self.rival(other), lanes: me.lanes, why };
            // Of a whole line it may be no clash of any of its parts.
            if !whole && self.lenient.tolerates(&clash) { Ok(follows) } else { Err(clash) }
        };
        if either & WRITE == 0 {
            return Ok(follows);
        }
        if either & CONSTANT != 0 {
            return clash(Why::Constant);
        }
        if !follows {
            let strength = me.strength().min(other.strength());
            if strength != 0 {
                if self.distance(other) <= strength {
                    return Ok(false);
                }
                return clash(Why::Scope);
            }
            let same = (other.actor, other.time, other.pc, other.flags, other.cluster)
                == (me.actor, me.time, me.pc, me.flags, me.cluster);
            if same && !whole && !me.is(FLIGHT) {
                match (self.twin)(other.lanes, me.lanes) {
                    Some(true) => return Ok(false),
                    Some(false) => return clash(Why::Lanes),
                    None => {}
                }
            }
            // Threads that all store the same value agree on what is there, whoever comes last.
            let both_store = me.is(WRITE) && other.is(WRITE) && either & (ASYNC | FLIGHT) == 0;
            if both_store && me.strength() == 0 && other.strength() == 0 && (self.idle)(me.lanes) {
                return Ok(false);
            }
            return clash(Why::Unordered);
        }
        if me.is(ASYNC) && other.flags & (ASYNC | WRITE) == WRITE && !self.fenced(other) {
            return clash(Why::Proxy);
        }
        if me.is(MAP) && other.is(WRITE) && !self.mapped(other) {
            return clash(Why::Map);
        }
        Ok(true)
    }

    /// Whether whatever races with `other`, which comes before this, races with this too.
    #[inline]
    fn stands_for(&self, other: &Stamp) -> bool {
        let me = &self.stamp;
        (me.is(WRITE) || !other.is(WRITE) && (me.is(CONSTANT) || !other.is(CONSTANT)))
            // A strong access goes with others of its own, which a strong one elsewhere does not.
            && (me.strength() == 0 || me.strength() <= other.strength() && self.distance(other) == 1)
    }
}

/// The accesses to some bytes that later ones may race with.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    first: [Stamp; 2],
    #[allow(clippy::box_collection)]
    more: Option<Box<Vec<Stamp>>>,
}

impl Cell {
    fn stamps(&self) -> impl Iterator<Item = &Stamp> {
        let more = self.more.as_ref().map_or(&[][..], |more| more);
        self.first.iter().filter(|stamp| stamp.time != 0).chain(more)
    }

    fn set(&mut self, stamps: &[Stamp]) {
        self.first = Default::default();
        let inline = stamps.len().min(2);
        self.first[..inline].copy_from_slice(&stamps[..inline]);
        self.more = (stamps.len() > 2).then(|| Box::new(stamps[2..].to_vec()));
    }

    /// Checks an access against what is remembered, and remembers it. At most `cap` are kept.
    #[inline]
    fn touch(&mut self, me: &Touch, whole: bool, cap: usize) -> Result<(), Clash> {
        if self.more.is_some() {
            return self.touch_many(me, whole, cap);
        }
        let mut kept = [false; 2];
        for (kept, other) in kept.iter_mut().zip(&mut self.first) {
            if other.time != 0 {
                *kept = !(me.against(other, whole)? && me.stands_for(other));
            }
        }
        for (kept, other) in kept.iter().zip(&mut self.first) {
            if *kept && merge(other, &me.stamp, whole) {
                return Ok(());
            }
        }
        match kept {
            [false, false] => self.first = [me.stamp, Stamp::default()],
            [true, false] => self.first[1] = me.stamp,
            [false, true] => self.first[0] = me.stamp,
            [true, true] if cap > 2 => self.more = Some(Box::new(vec![me.stamp])),
            [true, true] => {}
        }
        Ok(())
    }

    #[cold]
    fn touch_many(&mut self, me: &Touch, whole: bool, cap: usize) -> Result<(), Clash> {
        let mut gone = 0u64;
        let mut count = 0;
        for other in self.stamps() {
            gone |= u64::from(me.against(other, whole)? && me.stands_for(other)) << count;
            count += 1;
        }
        let Cell { first, more } = self;
        let Some(more) = more else { return Ok(()) };
        if gone == 0 {
            let merged = first.iter_mut().chain(more.iter_mut()).any(|other| merge(other, &me.stamp, whole));
            if !merged && count < cap {
                more.push(me.stamp);
            }
            return Ok(());
        }
        let kept = self.stamps().enumerate().filter(|(index, _)| gone >> index & 1 == 0);
        let mut kept: Vec<Stamp> = kept.map(|(_, stamp)| *stamp).collect();
        if !kept.iter_mut().any(|other| merge(other, &me.stamp, whole)) {
            kept.push(me.stamp);
        }
        self.set(&kept);
        Ok(())
    }
}

/// Adds an access to another of the same warp, time and kind.
#[inline]
fn merge(other: &mut Stamp, me: &Stamp, whole: bool) -> bool {
    let key = |stamp: &Stamp| (stamp.time, stamp.actor, stamp.cluster, stamp.flags);
    if key(other) != key(me) || me.actor == IN_FLIGHT && other.lanes != me.lanes {
        return false;
    }
    if whole && (other.lanes, other.shift) != (me.lanes, me.shift) {
        return false;
    }
    other.lanes |= me.lanes;
    other.pc = me.pc;
    true
}

/// 64 bytes.
#[derive(Clone, Debug, Default)]
pub(super) enum Line {
    /// Nobody touched them.
    #[default]
    Empty,
    /// All accesses were to all of them.
    Whole(Cell),
    /// Cells of 2^grain bytes.
    Fine {
        /// log2 of the bytes of a cell.
        grain: u8,
        /// `LINE >> grain` of them.
        cells: Box<[Cell]>,
    },
}

impl Line {
    /// An access to bytes `low..high` by each of the touch's lanes.
    pub(super) fn touch(&mut self, low: u32, high: u32, me: &Touch, cap: usize) -> Result<(), Clash> {
        let grain = (low | high).trailing_zeros().min(4) as u8;
        if !matches!(self, Line::Fine { grain: finer, .. } if *finer <= grain) {
            self.refine(grain);
        }
        if let Line::Fine { grain, cells } = self {
            for cell in &mut cells[(low >> *grain) as usize..(high >> *grain) as usize] {
                cell.touch(me, false, cap)?;
            }
        }
        Ok(())
    }

    /// An access to all of the line, of which each of the touch's lanes has its own part.
    pub(super) fn touch_whole(&mut self, me: &Touch, cap: usize) -> Result<(), Clash> {
        match self {
            Line::Empty => {
                *self = Line::Whole(Cell { first: [me.stamp, Stamp::default()], more: None });
                return Ok(());
            }
            Line::Whole(cell) => {
                if cell.touch(me, true, cap).is_ok() {
                    return Ok(());
                }
                // What is not clear for all lanes at once is looked at lane by lane.
            }
            Line::Fine { .. } => {}
        }
        let single = me.stamp.lanes.is_power_of_two() || me.stamp.actor == IN_FLIGHT;
        let step = if single { LINE } else { 1 << me.stamp.shift };
        for low in (0..LINE).step_by(step as usize) {
            let lanes = me.stamp.lanes_in(low, low + step);
            let origin = (me.origin.0, if me.stamp.is(FLIGHT) { me.origin.1 } else { lanes }, me.origin.2);
            let part = Touch { stamp: Stamp { lanes, ..me.stamp }, origin, ..*me };
            self.touch(low, low + step, &part, cap)?;
        }
        if me.stamp.is(WRITE) && me.stamp.strength() == 0 {
            *self = Line::Whole(Cell { first: [me.stamp, Stamp::default()], more: None });
        }
        Ok(())
    }

    /// Cells of at most 2^grain bytes.
    fn refine(&mut self, grain: u8) {
        let old = std::mem::take(self);
        let grain = match &old {
            Line::Whole(cell) => cell
                .stamps()
                .filter(|stamp| !stamp.lanes.is_power_of_two() && stamp.actor != IN_FLIGHT)
                .fold(grain, |grain, stamp| grain.min(stamp.shift)),
            _ => grain,
        };
        let cells = (0..LINE >> grain).map(|index| match &old {
            Line::Empty => Cell::default(),
            Line::Whole(cell) => {
                let low = index << grain;
                let in_cell =
                    |stamp: &Stamp| Stamp { lanes: stamp.lanes_in(low, low + (1 << grain)), ..*stamp };
                let mut part = Cell::default();
                part.set(&cell.stamps().map(in_cell).collect::<Vec<_>>());
                part
            }
            Line::Fine { grain: coarser, cells } => cells[(index >> (coarser - grain)) as usize].clone(),
        });
        *self = Line::Fine { grain, cells: cells.collect() };
    }

    /// What flight `number` did in these bytes becomes what `of` makes of it.
    pub(super) fn land(&mut self, number: u32, of: impl Fn(&mut Stamp)) {
        let land = |cell: &mut Cell| {
            let Cell { first, more } = cell;
            for stamp in first.iter_mut().chain(more.iter_mut().flat_map(|more| more.iter_mut())) {
                if stamp.actor == IN_FLIGHT && stamp.lanes == number && stamp.time != 0 {
                    of(stamp);
                }
            }
        };
        match self {
            Line::Empty => {}
            Line::Whole(cell) => land(cell),
            Line::Fine { cells, .. } => cells.iter_mut().for_each(land),
        }
    }
}
