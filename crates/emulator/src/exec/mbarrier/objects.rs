//! mbarrier objects: their phases, arrivals and transaction counts.

use std::collections::BTreeMap;

use super::super::{Block, Cluster};
use crate::check;
use crate::fault::{Fault, FaultKind};

/// Largest count of arrivals, and of bytes either way.
pub const LARGEST: u32 = (1 << 20) - 1;
/// Bytes of an object.
pub const BYTES: u32 = 8;

/// One object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Phases that are complete.
    pub phase: u64,
    /// Arrivals that each phase from the next on expects.
    pub expected: u32,
    /// Arrivals that this phase still waits for.
    pub pending: u32,
    /// Bytes that this phase still waits for; below 0 where they came before they were announced.
    pub tx: i32,
}

/// What an arrival does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// How many arrive at once.
    pub count: u32,
    /// Bytes announced before it.
    pub bytes: u32,
    /// Whether later phases no longer wait for them.
    pub drop: bool,
    /// Whether it must not complete the phase.
    pub incomplete: bool,
}

impl Arrival {
    /// `count` arrivals and nothing else.
    pub fn of(count: u32) -> Arrival {
        Arrival { count, bytes: 0, drop: false, incomplete: false }
    }
}

impl Object {
    fn new(count: u32) -> Object {
        Object { phase: 0, expected: count, pending: count, tx: 0 }
    }

    /// Announces bytes.
    ///
    /// # Errors
    /// Where the count leaves its range.
    pub fn expect(&mut self, bytes: u32) -> Result<(), String> {
        self.transact(i64::from(bytes))
    }

    /// Bytes have come; the phase may complete.
    ///
    /// # Errors
    /// Where the count leaves its range, or goes below 0 when nobody can announce bytes any more.
    pub fn complete(&mut self, bytes: u32) -> Result<(), String> {
        self.transact(-i64::from(bytes))?;
        self.settle()
    }

    /// Arrives; the phase may complete. Returns the state from before.
    ///
    /// # Errors
    /// Where more arrive than the phase waits for, or the count of bytes leaves its range.
    pub fn arrive(&mut self, offset: u32, arrival: Arrival) -> Result<u64, String> {
        let Arrival { count, bytes, drop, incomplete } = arrival;
        self.expect(bytes)?;
        if count == 0 || count > LARGEST {
            return Err(format!("a count of {count}, which is not from 1 to {LARGEST}"));
        }
        let state = self.state(offset);
        if self.pending < count {
            let (pending, phase) = (self.pending, self.phase);
            return Err(format!("{count} more where phase {phase} waits for {pending} arrivals"));
        }
        if drop {
            self.expected = self
                .expected
                .checked_sub(count)
                .ok_or_else(|| format!("{count} leave where {} are expected in each phase", self.expected))?;
        }
        if incomplete && self.pending == count && self.tx == 0 {
            return Err(format!(".noComplete completes phase {}", self.phase));
        }
        self.pending -= count;
        self.settle()?;
        Ok(state)
    }

    /// One more arrival is waited for in this phase.
    ///
    /// # Errors
    /// Where the count leaves its range.
    pub fn add_pending(&mut self, count: u32) -> Result<(), String> {
        let sum = self.pending.saturating_add(count);
        if sum > LARGEST {
            return Err(format!("{sum} arrivals pending, more than {LARGEST}"));
        }
        self.pending = sum;
        Ok(())
    }

    /// The state as programs see it: opaque to them. Bit 63 is the phase's parity, bits 43 to 62 the negated count, as on
    /// hardware; below stand what tells a state that is too old, or another object's.
    pub fn state(&self, offset: u32) -> u64 {
        let negated = u64::from(0x10_0000 - self.pending) & 0xf_ffff;
        (self.phase & 1) << 63
            | negated << 43
            | u64::from((offset / BYTES) & 0x7fff) << 28
            | self.phase & 0xfff_ffff
    }

    /// Whether the phase of a state is complete.
    ///
    /// # Errors
    /// Where the state is another object's, or of a phase that is neither this one nor the one before.
    pub fn passed(&self, offset: u32, state: u64) -> Result<bool, String> {
        if state >> 28 & 0x7fff != u64::from((offset / BYTES) & 0x7fff) {
            return Err("a state that another mbarrier gave".to_owned());
        }
        match self.phase.wrapping_sub(state) & 0xfff_ffff {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(format!("a state of phase {}, in phase {}", state & 0xfff_ffff, self.phase)),
        }
    }

    /// Whether the phase of this parity is complete: parity names the current phase, or else the one before.
    pub fn passed_parity(&self, parity: u32) -> bool {
        self.phase as u32 & 1 != parity & 1
    }

    fn transact(&mut self, bytes: i64) -> Result<(), String> {
        let sum = i64::from(self.tx) + bytes;
        if sum.abs() > i64::from(LARGEST) || bytes.abs() > i64::from(LARGEST) {
            return Err(format!("its count of bytes becomes {sum}, past {LARGEST}"));
        }
        self.tx = sum as i32;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        if self.pending > 0 {
            return Ok(());
        }
        if self.tx < 0 {
            let (phase, tx) = (self.phase, -self.tx);
            return Err(format!(
                "phase {phase} got {tx} bytes more than were announced, and all have arrived"
            ));
        }
        if self.tx == 0 {
            self.phase += 1;
            self.pending = self.expected;
        }
        Ok(())
    }
}

/// The objects in a block's shared memory.
#[derive(Debug, Default)]
pub struct Objects {
    live: BTreeMap<u32, Object>,
    /// First byte of any, and first behind all: most accesses lie outside.
    span: (u32, u32),
}

impl Objects {
    /// The object at an offset.
    pub fn get(&self, offset: u32) -> Option<&Object> {
        self.live.get(&offset)
    }

    /// The offset of an object that these bytes touch: a plain access to it has no meaning.
    #[inline]
    pub fn covers(&self, offset: u32, len: u32) -> Option<u32> {
        let end = offset.saturating_add(len);
        if offset >= self.span.1 || end <= self.span.0 {
            return None;
        }
        let (at, _) = self.live.range(..end).next_back()?;
        (offset < at + BYTES).then_some(*at)
    }

    /// What a block leaves behind when it ends: an object whose bytes do not add up.
    pub fn unfinished(&self) -> Option<String> {
        let (offset, object) = self.live.iter().find(|(_, object)| object.tx != 0)?;
        let Object { phase, pending, tx, .. } = object;
        let at = format!(
            "the mbarrier at shared address 0x{offset:x} is left in phase {phase} with {pending} arrivals pending"
        );
        Some(match tx {
            1.. => format!("{at}, and {tx} bytes announced that never came"),
            _ => format!("{at}, and {} bytes that nobody announced", -tx),
        })
    }

    /// An object in words, for the report of a deadlock.
    pub fn describe(&self, offset: u32) -> String {
        match self.live.get(&offset) {
            None => format!("mbarrier at shared address 0x{offset:x}"),
            Some(Object { phase, expected, pending, tx }) => format!(
                "mbarrier at shared address 0x{offset:x} (phase {phase}: {pending} of {expected} arrivals pending, {tx} bytes pending)"
            ),
        }
    }

    fn spanned(&mut self) {
        let first = self.live.first_key_value().map_or(0, |(at, _)| *at);
        let last = self.live.last_key_value().map_or(0, |(at, _)| at + BYTES);
        self.span = (first, last);
    }
}

fn misuse(offset: u32, message: &str) -> Fault {
    Fault::new(FaultKind::Barrier, format!("mbarrier at shared address 0x{offset:x}: {message}"))
}

/// Refuses an address where no object can be.
///
/// # Errors
/// Where it is not aligned, or past the end.
pub fn place(block: &Block, offset: u32) -> Result<(), Fault> {
    if !offset.is_multiple_of(BYTES) {
        return Err(Fault::new(
            FaultKind::Misaligned,
            format!("mbarrier at shared address 0x{offset:x}, which is no multiple of {BYTES}"),
        ));
    }
    let end = block.shared.len();
    if offset as usize + BYTES as usize > end {
        return Err(Fault::new(
            FaultKind::Address,
            format!(
                "mbarrier at shared address 0x{offset:x}, past the block's shared memory, which ends at 0x{end:x}"
            ),
        ));
    }
    Ok(())
}

/// Makes an object.
///
/// # Errors
/// Where one lives already, or the count is out of range.
pub fn init(block: &mut Block, offset: u32, count: u32) -> Result<(), Fault> {
    place(block, offset)?;
    if count == 0 || count > LARGEST {
        return Err(misuse(
            offset,
            &format!("initialised with a count of {count}, which is not from 1 to {LARGEST}"),
        ));
    }
    if block.mbarriers.live.contains_key(&offset) {
        return Err(misuse(offset, "initialised again while it is live"));
    }
    block.mbarriers.live.insert(offset, Object::new(count));
    block.mbarriers.spanned();
    with(block, offset, |_| Ok(()))
}

/// Ends an object.
///
/// # Errors
/// Where there is none.
pub fn inval(block: &mut Block, offset: u32) -> Result<(), Fault> {
    with(block, offset, |_| Ok(()))?;
    block.mbarriers.live.remove(&offset);
    block.mbarriers.spanned();
    Ok(())
}

/// Changes an object, and the bytes that stand for it.
///
/// # Errors
/// Where there is none, or what `change` says.
pub fn with<T>(
    block: &mut Block,
    offset: u32,
    change: impl FnOnce(&mut Object) -> Result<T, String>,
) -> Result<T, Fault> {
    place(block, offset)?;
    let object = block.mbarriers.live.get_mut(&offset);
    let object = object.ok_or_else(|| misuse(offset, "none is initialised there"))?;
    let value = change(object).map_err(|message| misuse(offset, &message))?;
    let bytes = object.state(offset).to_le_bytes();
    block.shared[offset as usize..][..BYTES as usize].copy_from_slice(&bytes);
    Ok(value)
}

/// The block of a rank, whose threads may be another's.
///
/// # Errors
/// Where it has ended: its shared memory is gone.
pub fn remote(cluster: &mut Cluster, rank: u32, offset: u32) -> Result<&mut Block, Fault> {
    alive(cluster, rank, offset)?;
    let blocks = cluster.blocks.len();
    cluster
        .blocks
        .get_mut(rank as usize)
        .ok_or_else(|| Fault::new(FaultKind::Address, format!("block {rank} of a cluster of {blocks}")))
}

/// Sees that a block of this rank, if there is one, has not ended.
///
/// # Errors
/// Where it has: its shared memory is gone.
pub fn alive(cluster: &Cluster, rank: u32, offset: u32) -> Result<(), Fault> {
    let warps = cluster.warps.len() / cluster.blocks.len().max(1);
    let of_block = cluster.warps.iter().skip(rank as usize * warps).take(warps);
    // The warp that runs is not in its place, so its block has not ended.
    if of_block.clone().count() > 0
        && of_block.clone().all(|warp| warp.as_ref().is_some_and(|warp| warp.live == 0))
    {
        return Err(misuse(offset, &format!("block {rank} of the cluster, whose it is, has ended")));
    }
    Ok(())
}

/// Bytes of an asynchronous operation have come to block `rank`.
///
/// # Errors
/// Where there is no such object, it is used against its rules, or its block has ended.
pub fn complete_tx(cluster: &mut Cluster, rank: u32, offset: u32, bytes: u32) -> Result<(), Fault> {
    change(cluster, rank, offset, |object| object.complete(bytes))
}

/// `count` arrivals that no instruction makes (of `cp.async.mbarrier.arrive`, when its copies are done).
///
/// # Errors
/// As [`complete_tx`].
pub fn arrive(cluster: &mut Cluster, rank: u32, offset: u32, count: u32) -> Result<(), Fault> {
    change(cluster, rank, offset, |object| object.arrive(offset, Arrival::of(count)).map(drop))
}

/// `count` more arrivals are waited for in this phase (`cp.async.mbarrier.arrive` without `.noinc`).
///
/// # Errors
/// As [`complete_tx`].
pub fn add_pending(cluster: &mut Cluster, rank: u32, offset: u32, count: u32) -> Result<(), Fault> {
    change(cluster, rank, offset, |object| object.add_pending(count))
}

/// Changes an object of any block, and says when it completes a phase.
fn change(
    cluster: &mut Cluster,
    rank: u32,
    offset: u32,
    change: impl FnOnce(&mut Object) -> Result<(), String>,
) -> Result<(), Fault> {
    let phase = with(remote(cluster, rank, offset)?, offset, |object| {
        let before = object.phase;
        change(object).map(|()| object.phase - before)
    })?;
    if phase > 0 {
        cluster.checker.phase(check::Object::Mbarrier { block: rank, offset });
    }
    Ok(())
}
