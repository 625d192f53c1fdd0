//! How many passes shared memory takes for a request: 32 banks, each of which gives one 4-byte word a pass.
//!
//! Lanes are served together as far as 128 bytes go: 32 lanes of up to 4 bytes, 16 of 8, 8 of 16. Lanes that want the same word of a bank
//! share it. Atomics on the same word do not: they come one after another.

use crate::exec::lanes::WideRow;

/// The passes of a request, and those that it would take without any conflict.
pub(super) fn passes(offsets: &WideRow, active: u32, bytes: u32, exclusive: bool) -> (u64, u64) {
    let together = (128 / bytes.max(4)) as usize;
    let (mut passes, mut needed) = (0, 0);
    for first in (0..32).step_by(together) {
        let lanes = active >> first & (u32::MAX >> (32 - together));
        if lanes != 0 {
            passes += group(&offsets[first..first + together], lanes, bytes, exclusive);
            needed += 1;
        }
    }
    (passes, needed)
}

/// The passes for lanes that are served together.
fn group(offsets: &[u64], mut lanes: u32, bytes: u32, exclusive: bool) -> u64 {
    // Of each bank the words that were asked for so far: of most banks it is one.
    let mut first = [u64::MAX; 32];
    let mut count = [0_u8; 32];
    let mut more: Vec<u64> = Vec::new();
    let words = u64::from(bytes.div_ceil(4));
    while lanes != 0 {
        let lane = lanes.trailing_zeros() as usize;
        lanes &= lanes - 1;
        for word in offsets[lane] / 4..offsets[lane] / 4 + words {
            let bank = (word % 32) as usize;
            if count[bank] == 0 {
                first[bank] = word;
                count[bank] = 1;
            } else if exclusive || (first[bank] != word && !more.contains(&word)) {
                more.push(word);
                count[bank] += 1;
            }
        }
    }
    u64::from(count.into_iter().max().unwrap_or(0))
}
