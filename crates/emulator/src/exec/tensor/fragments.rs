//! Which lane holds which element of a matrix, and in which of its registers.
//!
//! All shapes of mma.sync and wgmma follow the same three maps. A lane's elements count through its registers in order,
//! from the low bits of each up; `per` is how many elements a register holds (1 also for the pairs of registers of an f64).

/// Row and column (k) of element `i` of A.
#[inline(always)]
pub const fn a(per: usize, lane: usize, i: usize) -> (usize, usize) {
    let (register, element) = (i / per, i % per);
    (lane / 4 + 8 * (register & 1), per * (lane % 4) + element + 4 * per * (register / 2))
}

/// Row (k) and column of element `i` of B.
#[inline(always)]
pub const fn b(per: usize, lane: usize, i: usize) -> (usize, usize) {
    let (register, element) = (i / per, i % per);
    (per * (lane % 4) + element + 4 * per * register, lane / 4)
}

/// Row and column of element `i` of C and D; a product of more than 8 columns repeats the map for each 8.
#[inline(always)]
pub const fn c(lane: usize, i: usize) -> (usize, usize) {
    (lane / 4 + 8 * ((i / 2) & 1), 8 * (i / 4) + 2 * (lane % 4) + (i & 1))
}
