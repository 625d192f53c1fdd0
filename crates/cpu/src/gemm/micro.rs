//! The micro-kernels: a tile of a product, MR rows by NR columns, whose sums stay in registers over the whole depth.
//!
//! Each step of the depth loads NR elements of the right operand (packed, so that they are contiguous), and for each of
//! MR rows broadcasts one element of the left operand and multiplies and adds. MR·NR sums must fit the registers and be
//! enough to hide the latency of the FMA unit: 6×16 with AVX2's 16 registers of 8, 12×32 with AVX-512's 32 of 16.

use crate::simd::Level;

/// Where a tile of sums goes: c = sums (+ add) (+ bias).
#[derive(Clone, Copy)]
pub struct Tile {
    /// The tile's first element in the output.
    pub c: *mut f32,
    /// Elements from row to row of the output.
    pub ldc: usize,
    /// Columns to store, at most NR.
    pub cols: usize,
    /// What is added, null for nothing; it may be `c` itself.
    pub add: *const f32,
    /// Elements from row to row of `add`.
    pub add_rs: usize,
    /// One element per column that is added to every row; null for none.
    pub bias: *const f32,
}

/// Sums over `depth`: left element (i, k) is `a[i·stride + k]` or, where the left operand is transposed, `a[i + k·stride]`;
/// right element (k, j) is `b[k·NR + j]`.
///
/// # Safety
/// The processor has the level's features; every element named is valid to read (for `add` and `bias`, those of the
/// tile's columns), and those of `c` to write, by this thread alone.
pub type Kernel = unsafe fn(depth: usize, a: *const f32, stride: usize, b: *const f32, tile: &Tile);

/// The micro-kernels of a level.
pub struct Micro {
    /// Rows of a tile.
    pub MR: usize,
    /// Columns of a tile.
    pub NR: usize,
    /// Kernels for 1 to MR rows of a left operand that is contiguous along its rows.
    pub kernels: &'static [Kernel],
    /// The same for a transposed one; a packed one is transposed with stride MR.
    pub transposed: &'static [Kernel],
}

/// The most elements of a tile, over all levels.
const MOST: usize = 12 * 32;

impl Micro {
    /// The micro-kernels of a level.
    pub fn of(level: Level) -> &'static Micro {
        match level {
            Level::Portable => &portable::MICRO,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &avx2::MICRO,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &avx512::MICRO,
        }
    }
}

/// Stores a tile element by element: one that is not NR wide.
///
/// # Safety
/// That of [`Kernel`]; `sums` holds `rows`·`nr` elements.
#[inline(never)]
unsafe fn store_narrow(sums: &[f32; MOST], rows: usize, nr: usize, tile: &Tile) {
    for i in 0..rows {
        for j in 0..tile.cols {
            let mut x = sums[i * nr + j];
            // SAFETY: the caller says that the elements of the tile's columns are valid.
            unsafe {
                if !tile.add.is_null() {
                    x += *tile.add.add(i * tile.add_rs + j);
                }
                if !tile.bias.is_null() {
                    x += *tile.bias.add(j);
                }
                *tile.c.add(i * tile.ldc + j) = x;
            }
        }
    }
}

mod portable {
    //! Arrays that the compiler vectorises for the build's own target.
    use super::*;

    const MR: usize = 4;
    const NR: usize = 8;

    unsafe fn kernel<const ROWS: usize, const TRANSPOSED: bool>(
        depth: usize,
        mut a: *const f32,
        stride: usize,
        mut b: *const f32,
        tile: &Tile,
    ) {
        let (rs, cs) = if TRANSPOSED { (1, stride) } else { (stride, 1) };
        let mut sums = [[0.0_f32; NR]; ROWS];
        for _ in 0..depth {
            // SAFETY: the caller says that the elements of both operands are valid; the last step of the pointers is
            // not followed.
            unsafe {
                let right = *b.cast::<[f32; NR]>();
                for (i, sums) in sums.iter_mut().enumerate() {
                    let left = *a.add(i * rs);
                    for j in 0..NR {
                        sums[j] += left * right[j];
                    }
                }
                a = a.wrapping_add(cs);
                b = b.wrapping_add(NR);
            }
        }
        let mut flat = [0.0; MOST];
        for (i, sums) in sums.iter().enumerate() {
            flat[i * NR..][..NR].copy_from_slice(sums);
        }
        // SAFETY: as the caller says.
        unsafe { store_narrow(&flat, ROWS, NR, tile) }
    }

    pub static MICRO: Micro = Micro {
        MR,
        NR,
        kernels: &[kernel::<1, false>, kernel::<2, false>, kernel::<3, false>, kernel::<4, false>],
        transposed: &[kernel::<1, true>, kernel::<2, true>, kernel::<3, true>, kernel::<4, true>],
    };
}

/// The micro-kernels in an instruction set of x86-64.
#[cfg(target_arch = "x86_64")]
macro_rules! x86 {
    ($module:ident, $features:literal, $lanes:literal, $MR:literal, [$($rows:literal)*],
     $zero:ident, $load:ident, $store:ident, $broadcast:ident, $fma:ident, $add:ident) => {
        mod $module {
            use super::*;
            use std::arch::x86_64::*;

            const MR: usize = $MR;
            const NR: usize = 2 * $lanes;

            #[target_feature(enable = $features)]
            unsafe fn kernel<const ROWS: usize, const TRANSPOSED: bool>(
                depth: usize,
                a: *const f32,
                stride: usize,
                b: *const f32,
                tile: &Tile,
            ) {
                let mut sums = [[$zero(); 2]; ROWS];
                // The sums' destination comes from a far cache; it is asked for now, to be there when they are done.
                for i in 0..ROWS {
                    let add = if tile.add.is_null() { tile.c.cast_const() } else { tile.add };
                    _mm_prefetch::<_MM_HINT_T0>(add.wrapping_add(i * tile.add_rs).cast());
                }
                // A pointer for each row, or else one that moves on: either way the loop has no address to work out.
                let starts: [*const f32; ROWS] =
                    std::array::from_fn(|i| a.wrapping_add(if TRANSPOSED { i } else { i * stride }));
                // SAFETY: the caller says that the elements of both operands are valid.
                let mut step = |k: usize| unsafe {
                    let b = b.add(k * NR);
                    let right = [$load(b), $load(b.add($lanes))];
                    for (sums, start) in sums.iter_mut().zip(starts) {
                        let left = $broadcast(*start.add(if TRANSPOSED { k * stride } else { k }));
                        sums[0] = $fma(left, right[0], sums[0]);
                        sums[1] = $fma(left, right[1], sums[1]);
                    }
                };
                let whole = depth / 4 * 4;
                for k in (0..whole).step_by(4) {
                    step(k);
                    step(k + 1);
                    step(k + 2);
                    step(k + 3);
                }
                for k in whole..depth {
                    step(k);
                }
                if tile.cols < NR {
                    let mut flat = [0.0; MOST];
                    for (i, sums) in sums.iter().enumerate() {
                        // SAFETY: ROWS·NR elements fit.
                        unsafe {
                            $store(flat.as_mut_ptr().add(i * NR), sums[0]);
                            $store(flat.as_mut_ptr().add(i * NR + $lanes), sums[1]);
                        }
                    }
                    // SAFETY: as the caller says.
                    return unsafe { store_narrow(&flat, ROWS, NR, tile) };
                }
                // SAFETY: the caller says that the tile's elements, here NR to a row, are valid.
                unsafe {
                    if !tile.bias.is_null() {
                        let bias = [$load(tile.bias), $load(tile.bias.add($lanes))];
                        for sums in &mut sums {
                            *sums = [$add(sums[0], bias[0]), $add(sums[1], bias[1])];
                        }
                    }
                    if !tile.add.is_null() {
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let add = tile.add.add(i * tile.add_rs);
                            *sums = [$add(sums[0], $load(add)), $add(sums[1], $load(add.add($lanes)))];
                        }
                    }
                    for (i, sums) in sums.iter().enumerate() {
                        let c = tile.c.add(i * tile.ldc);
                        $store(c, sums[0]);
                        $store(c.add($lanes), sums[1]);
                    }
                }
            }

            pub static MICRO: Micro = Micro {
                MR,
                NR,
                kernels: &[$(kernel::<$rows, false>),*],
                transposed: &[$(kernel::<$rows, true>),*],
            };
        }
    };
}
#[cfg(target_arch = "x86_64")]
x86!(avx2, "avx2,fma", 8, 6, [1 2 3 4 5 6],
    _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps);
#[cfg(target_arch = "x86_64")]
x86!(avx512, "avx512f", 16, 12, [1 2 3 4 5 6 7 8 9 10 11 12],
    _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps);
