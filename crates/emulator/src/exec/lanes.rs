//! Rows of 32 lanes, and arithmetic on them. Loops of fixed length over plain arrays: the compiler vectorises them.

/// Lanes of a warp.
pub const LANES: usize = 32;
/// All lanes.
pub const ALL: u32 = u32::MAX;
/// 32 bits of each lane.
pub type Row = [u32; LANES];
/// 64 bits of each lane.
pub type WideRow = [u64; LANES];

/// `new` where `mask` has a bit, `old` elsewhere.
#[inline(always)]
pub fn blend(old: &mut Row, new: &Row, mask: u32) {
    if mask == ALL {
        *old = *new;
        return;
    }
    for (lane, (old, new)) in old.iter_mut().zip(new).enumerate() {
        *old = if mask >> lane & 1 == 1 { *new } else { *old };
    }
}

/// The set lanes of a mask, lowest first.
pub fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}

/// Whether all lanes take part, each with an address `bytes` bytes behind the one before: most requests are so.
#[inline]
pub fn side_by_side(addresses: &WideRow, active: u32, bytes: u32) -> bool {
    let mut difference = u64::from(!active);
    for (lane, address) in addresses.iter().enumerate() {
        difference |= address ^ addresses[0].wrapping_add(lane as u64 * u64::from(bytes));
    }
    difference == 0
}

/// A mask of the lanes for which `f` holds.
#[inline(always)]
pub fn mask_of(f: impl Fn(usize) -> bool) -> u32 {
    let mut mask = 0;
    for lane in 0..LANES {
        mask |= u32::from(f(lane)) << lane;
    }
    mask
}
