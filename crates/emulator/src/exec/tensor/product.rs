//! Products of small dense matrices in f64.
//!
//! Each element of C takes its products in the order of k, one addition each: c, then a(0)·b(0), then a(1)·b(1), and so on.
//! What is multiplied has at most 24 bits, so a product is exact, and with or without a fused multiply-add the sum is the same.
//!
//! A lies row by row. B and C lie in panels of 8 columns, each row by row, one panel after another: what is computed
//! together lies together.

/// Rows that are computed together.
const ROWS: usize = 4;
/// Columns of a panel.
pub const COLUMNS: usize = 8;

/// Where element (row, column) of B or C lies, when the matrix has `rows` rows.
#[inline(always)]
pub const fn panel(rows: usize, row: usize, column: usize) -> usize {
    (column / COLUMNS * rows + row) * COLUMNS + column % COLUMNS
}

/// `c += a · b`: `a` is M × K, `b` K × N, `c` M × N. M is a multiple of 4, N of 8.
///
/// # Panics
/// Where `a` is shorter.
pub fn multiply_add(a: &[f64], b: &[f64], c: &mut [f64], m: usize, k: usize) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        for (b, c) in b.chunks_exact(k * COLUMNS).zip(c.chunks_exact_mut(m * COLUMNS)) {
            for (row, c) in c.chunks_exact_mut(ROWS * COLUMNS).enumerate() {
                // SAFETY: the processor has both, as just asked.
                unsafe { block_avx2(&a[row * ROWS * k..][..ROWS * k], b, c, k) };
            }
        }
        return;
    }
    each_block(a, b, c, m, k, |a, b, c| a * b + c);
}

/// `c += a · b` in f64 itself, where products are not exact: each is added by a fused multiply-add.
///
/// # Panics
/// As [`multiply_add`].
pub fn multiply_add_f64(a: &[f64], b: &[f64], c: &mut [f64], m: usize, k: usize) {
    each_block(a, b, c, m, k, f64::mul_add);
}

#[inline(always)]
fn each_block(a: &[f64], b: &[f64], c: &mut [f64], m: usize, k: usize, fma: impl Fn(f64, f64, f64) -> f64) {
    for (b, c) in b.chunks_exact(k * COLUMNS).zip(c.chunks_exact_mut(m * COLUMNS)) {
        for (a, sums) in a.chunks_exact(k).zip(c.chunks_exact_mut(COLUMNS)) {
            for (a, b) in a.iter().zip(b.chunks_exact(COLUMNS)) {
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = fma(*a, *b, *sum);
                }
            }
        }
    }
}

/// 4 rows and 8 columns of C: as many sums as hide how long an addition takes.
///
/// # Panics
/// Where a slice is shorter than that.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn block_avx2(a: &[f64], b: &[f64], c: &mut [f64], k: usize) {
    use std::arch::x86_64::{_mm256_fmadd_pd, _mm256_loadu_pd, _mm256_set1_pd, _mm256_storeu_pd};
    assert!(a.len() >= ROWS * k && b.len() >= k * COLUMNS && c.len() >= ROWS * COLUMNS);
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    // SAFETY: row < 4, half < 2 and step < k, so each access is within what was just asserted.
    unsafe {
        let mut sums: [_; ROWS * 2] = std::array::from_fn(|i| _mm256_loadu_pd(c.add(4 * i)));
        for step in 0..k {
            let (low, high) = (_mm256_loadu_pd(b.add(8 * step)), _mm256_loadu_pd(b.add(8 * step + 4)));
            for row in 0..ROWS {
                let a = _mm256_set1_pd(*a.add(row * k + step));
                sums[2 * row] = _mm256_fmadd_pd(a, low, sums[2 * row]);
                sums[2 * row + 1] = _mm256_fmadd_pd(a, high, sums[2 * row + 1]);
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            _mm256_storeu_pd(c.add(4 * i), sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, seed: u32) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            f64::from((state >> 8) as i32 - (1 << 23)) / 4096.0
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn a_product_is_the_sum_in_the_order_of_k_fused_or_not() {
        for (m, n, k) in [(4, 8, 1), (8, 8, 4), (16, 8, 16), (16, 40, 16), (16, 256, 32)] {
            let (a, b, c) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let mut wanted = c.clone();
            for row in 0..m {
                for column in 0..n {
                    for step in 0..k {
                        wanted[panel(m, row, column)] += a[row * k + step] * b[panel(k, step, column)];
                    }
                }
            }
            let (mut found, mut plain, mut double) = (c.clone(), c.clone(), c.clone());
            multiply_add(&a, &b, &mut found, m, k);
            each_block(&a, &b, &mut plain, m, k, |a, b, c| a * b + c);
            multiply_add_f64(&a, &b, &mut double, m, k);
            assert!(found == wanted && plain == wanted && double == wanted, "{m}x{n}x{k}");
        }
    }

    #[test]
    fn f64_products_are_fused() {
        let third = 1.0 / 3.0;
        let mut c = vec![-(third * third); 32];
        multiply_add_f64(&[third; 4], &[third; 8], &mut c, 4, 1);
        assert_eq!(c[0], third.mul_add(third, -(third * third)));
        assert_ne!(c[0], 0.0);
    }

    #[test]
    fn panels_hold_each_element_once() {
        let mut seen: Vec<_> =
            (0..16).flat_map(|row| (0..24).map(move |column| panel(16, row, column))).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..16 * 24));
        assert_eq!((panel(16, 0, 8), panel(16, 1, 0), panel(16, 0, 7)), (128, 8, 7));
    }
}
