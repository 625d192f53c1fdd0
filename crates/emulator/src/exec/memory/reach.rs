//! From addresses to memory: which space each lane's address leads to, whether the bytes exist and are aligned, and what is
//! said where they do not or are not.

use std::sync::Arc;

use super::form::Room;
use crate::exec::lanes::{ALL, WideRow, lanes};
use crate::exec::{Cluster, Launch, Warp};
use crate::fault::{Fault, FaultKind};
use crate::memory::{Allocation, LOCAL_WINDOW, Memory, Nowhere, PARAM_WINDOW, SHARED_WINDOW, WINDOW, beside};

/// Bits of an address within a block's shared memory; the block's rank in the cluster stands above them.
pub const RANK_SHIFT: u32 = 24;
/// Their mask.
pub const OFFSET: u64 = (1 << RANK_SHIFT) - 1;

/// What an instruction does to each lane's bytes, in the words of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// "reads", "writes", "updates"
    pub verb: &'static str,
    /// How many bytes a lane.
    pub bytes: u32,
    /// What their address must be a multiple of.
    pub align: u32,
}

/// The lanes of a request by the space that their addresses lead to.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Lanes that reach global memory.
    pub global: u32,
    /// Lanes that reach shared memory.
    pub shared: u32,
    /// Lanes that reach their local memory.
    pub local: u32,
    /// Lanes that reach the kernel's parameters.
    pub param: u32,
    /// By lane: the device's address, `rank << 24 | offset`, or an offset.
    pub at: WideRow,
}

impl Reach {
    /// Sorts the lanes of `active` by space.
    ///
    /// # Errors
    /// Where an address has no meaning in the instruction's space.
    #[inline]
    pub fn new(room: Room, warp: &Warp, active: u32, at: WideRow, request: Request) -> Result<Reach, Fault> {
        let mut reach = Reach { global: 0, shared: 0, local: 0, param: 0, at };
        match room {
            Room::Global | Room::Const => reach.global = active,
            Room::Local => reach.local = active,
            Room::Param => reach.param = active,
            Room::Shared => {
                reach.shared = active;
                let own = u64::from(warp.block) << RANK_SHIFT;
                for (lane, address) in reach.at.iter_mut().enumerate() {
                    // An offset, or an address that names the block itself.
                    if *address & !OFFSET != own && *address > OFFSET && active >> lane & 1 == 1 {
                        return Err(request.misplaced(lane, *address, "shared"));
                    }
                    *address = own | *address & OFFSET;
                }
            }
            Room::Cluster => {
                reach.shared = active;
                for lane in lanes(active) {
                    if reach.at[lane] >= WINDOW {
                        return Err(request.misplaced(lane, reach.at[lane], "shared"));
                    }
                }
            }
            Room::Generic => reach.sort(active),
        }
        Ok(reach)
    }

    fn sort(&mut self, active: u32) {
        for lane in lanes(active) {
            let (bit, address) = (1 << lane, self.at[lane]);
            let (mask, base) = match window(address) {
                None => (&mut self.global, 0),
                Some(Room::Shared) => (&mut self.shared, SHARED_WINDOW),
                Some(Room::Local) => (&mut self.local, LOCAL_WINDOW),
                Some(_) => (&mut self.param, PARAM_WINDOW),
            };
            *mask |= bit;
            self.at[lane] = address - base;
        }
    }
}

/// The window that a generic address lies in; `None` for global memory.
#[inline]
pub fn window(address: u64) -> Option<Room> {
    match address {
        _ if address.wrapping_sub(SHARED_WINDOW) < WINDOW => Some(Room::Shared),
        _ if address.wrapping_sub(LOCAL_WINDOW) < WINDOW => Some(Room::Local),
        _ if address.wrapping_sub(PARAM_WINDOW) < WINDOW => Some(Room::Param),
        _ => None,
    }
}

/// The allocations that a warp's instructions found last, by instruction: most find the same one each time.
#[derive(Debug, Default)]
pub struct Lookups {
    found: [Option<Arc<Allocation>>; 8],
    frees: u64,
}

impl Lookups {
    /// The allocation of the first lane of `lanes`, and which of them it holds too. It is to be given [`back`](Self::back).
    ///
    /// # Errors
    /// Where the first lane's bytes are in no allocation.
    #[inline]
    pub fn find(
        &mut self,
        memory: &Memory,
        pc: u32,
        request: Request,
        active: u32,
        at: &WideRow,
    ) -> Result<(Arc<Allocation>, u32), Fault> {
        let frees = memory.frees();
        if self.frees != frees {
            *self = Lookups { frees, ..Lookups::default() };
        }
        let first = active.trailing_zeros() as usize;
        let bytes = u64::from(request.bytes);
        let known = self.found[pc as usize % 8].take();
        let allocation = match known.filter(|known| known.holds(at[first], bytes)) {
            Some(known) => known,
            None => memory
                .find(at[first], bytes)
                .map_err(|nowhere| request.outside(first, at[first], &nowhere))?,
        };
        let Extent { low, high, .. } = Extent::of(active, at);
        if allocation.holds(low, bytes) && allocation.holds(high, bytes) {
            return Ok((allocation, active));
        }
        let mut held = 0;
        for lane in lanes(active) {
            held |= u32::from(allocation.holds(at[lane], bytes)) << lane;
        }
        Ok((allocation, held))
    }

    /// Keeps what [`find`](Self::find) gave for the instruction's next time.
    #[inline]
    pub fn back(&mut self, pc: u32, allocation: Arc<Allocation>) {
        self.found[pc as usize % 8] = Some(allocation);
    }
}

/// What lanes' addresses have in common.
struct Extent {
    low: u64,
    high: u64,
    /// The bits that any has.
    bits: u64,
}

impl Extent {
    #[inline]
    fn of(active: u32, at: &WideRow) -> Extent {
        let mut all = Extent { low: u64::MAX, high: 0, bits: 0 };
        if active == ALL {
            at.iter().for_each(|address| all.add(*address));
        } else {
            lanes(active).for_each(|lane| all.add(at[lane]));
        }
        all
    }

    #[inline]
    fn add(&mut self, address: u64) {
        self.low = self.low.min(address);
        self.high = self.high.max(address);
        self.bits |= address;
    }
}

impl Request {
    /// Whether all lanes' addresses are aligned.
    ///
    /// # Errors
    /// Where one is not.
    #[inline]
    pub fn aligned(&self, active: u32, at: &WideRow, space: &str) -> Result<(), Fault> {
        let low = u64::from(self.align) - 1;
        if Extent::of(active, at).bits & low == 0 {
            return Ok(());
        }
        match lanes(active).find(|lane| at[*lane] & low != 0) {
            None => Ok(()),
            Some(lane) => Err(self.fault(
                FaultKind::Misaligned,
                lane,
                space,
                at[lane],
                &format!(", which is no multiple of {}", self.align),
            )),
        }
    }

    /// Whether each lane's bytes exist in the shared memory that its `rank << 24 | offset` names.
    ///
    /// # Errors
    /// Where they do not, or the block has gone.
    #[inline]
    pub fn in_shared(
        &self,
        cluster: &Cluster,
        launch: &Launch,
        own: u32,
        active: u32,
        at: &WideRow,
    ) -> Result<(), Fault> {
        let base = u64::from(launch.device.shared_base());
        let Extent { low, high, .. } = Extent::of(active, at);
        let all = u64::from(own) << RANK_SHIFT;
        let end = all + cluster.blocks[own as usize].shared.len() as u64;
        if low >= all + base && high.saturating_add(self.bytes.into()) <= end {
            return Ok(());
        }
        for lane in lanes(active) {
            let (rank, offset) = (at[lane] >> RANK_SHIFT, at[lane] & OFFSET);
            let Some(block) = cluster.blocks.get(rank as usize) else {
                let blocks = cluster.blocks.len();
                return Err(self.fault(
                    FaultKind::Address,
                    lane,
                    " of shared memory",
                    at[lane],
                    &format!(", in block {rank} of a cluster of {blocks}"),
                ));
            };
            let len = block.shared.len() as u64;
            if offset < base || offset + u64::from(self.bytes) > len {
                let (size, whose) = (len.saturating_sub(base), block_words(rank, own));
                let what = format!("the {size} bytes of {whose} at {base:#x}");
                let where_ = beside(offset, self.bytes.into(), (base, size), &what);
                return Err(self.fault(FaultKind::Address, lane, " of shared memory", offset, &where_));
            }
            if rank != u64::from(own) && gone(cluster, rank as usize) {
                return Err(self.fault(
                    FaultKind::Address,
                    lane,
                    " of shared memory",
                    offset,
                    &format!(", in block {rank} of the cluster, all threads of which have exited"),
                ));
            }
        }
        Ok(())
    }

    /// As [`in_shared`](Self::in_shared), for bytes that must not be a live mbarrier's.
    ///
    /// # Errors
    /// Where they are.
    #[inline]
    pub fn data_in_shared(
        &self,
        cluster: &Cluster,
        launch: &Launch,
        own: u32,
        active: u32,
        at: &WideRow,
    ) -> Result<(), Fault> {
        self.in_shared(cluster, launch, own, active, at)?;
        let Extent { low, high, .. } = Extent::of(active, at);
        let (rank, from) = (low >> RANK_SHIFT, low & OFFSET);
        if high >> RANK_SHIFT == rank
            && let Some(block) = cluster.blocks.get(rank as usize)
            && block.mbarriers.covers(from as u32, (high - low) as u32 + self.bytes).is_none()
        {
            return Ok(());
        }
        for lane in lanes(active) {
            let (rank, offset) = (at[lane] >> RANK_SHIFT, at[lane] & OFFSET);
            let objects = &cluster.blocks[rank as usize].mbarriers;
            if let Some(barrier) = objects.covers(offset as u32, self.bytes) {
                let how = format!(", where the mbarrier at {barrier:#x} lives");
                return Err(self.fault(FaultKind::Barrier, lane, " of shared memory", offset, &how));
            }
        }
        Ok(())
    }

    /// Whether each lane's bytes are among the first `size` of its local memory, or of the parameters.
    ///
    /// # Errors
    /// Where they are not.
    #[inline]
    pub fn within(
        &self,
        active: u32,
        at: &WideRow,
        size: u64,
        space: &str,
        whose: &str,
    ) -> Result<(), Fault> {
        for lane in lanes(active) {
            let end = at[lane].checked_add(self.bytes.into());
            if end.is_none_or(|end| end > size) {
                let what = format!("the {whose}'s {size} bytes");
                let where_ = beside(at[lane], self.bytes.into(), (0, size), &what);
                return Err(self.fault(FaultKind::Address, lane, space, at[lane], &where_));
            }
        }
        Ok(())
    }

    /// An address that no allocation holds.
    #[cold]
    fn outside(&self, lane: usize, address: u64, nowhere: &Nowhere) -> Fault {
        if window(address).is_some() {
            return self.misplaced(lane, address, "global");
        }
        let kind = match nowhere {
            Nowhere::Outside { .. } => FaultKind::Address,
            Nowhere::Freed { .. } => FaultKind::UseAfterFree,
        };
        self.fault(kind, lane, "", address, &nowhere.describe(address, self.bytes.into()))
    }

    /// An address of another space than `space`.
    #[cold]
    pub fn misplaced(&self, lane: usize, address: u64, space: &str) -> Fault {
        let found = match window(address) {
            Some(Room::Shared) => "a generic address of shared memory",
            Some(Room::Local) => "a generic address of local memory",
            Some(_) => "a generic address of parameters",
            None if address < WINDOW => "an address of another block's shared memory",
            None => "an address of global memory",
        };
        let space = format!(" of {space} memory");
        self.fault(FaultKind::AddressSpace, lane, &space, address, &format!(", which is {found}"))
    }

    /// A fault of one lane: "reads 4 bytes of shared memory at 0x10" and `how`.
    #[cold]
    pub fn fault(&self, kind: FaultKind, lane: usize, space: &str, address: u64, how: &str) -> Fault {
        let Request { verb, bytes, .. } = self;
        let plural = if *bytes == 1 { "" } else { "s" };
        Fault::at(kind, lane as u32, format!("{verb} {bytes} byte{plural}{space} at {address:#x}{how}"))
    }
}

fn block_words(rank: u64, own: u32) -> String {
    if rank == u64::from(own) { "the block".to_owned() } else { format!("block {rank} of the cluster") }
}

/// Whether all threads of a block have exited. The warp that asks is not among its warps.
pub fn gone(cluster: &Cluster, rank: usize) -> bool {
    let warps = cluster.warps.len() / cluster.blocks.len();
    let mut all = cluster.warps.iter().skip(rank * warps).take(warps);
    all.all(|warp| warp.as_ref().is_some_and(|warp| warp.live == 0))
}
