//! Products of small dense matrices in f64.
//!
//! Each element of C takes its products in the order of k, one addition each: c, then a(0)·b(0), then a(1)·b(1), and so on. What is multiplied
//! has at most 24 bits, so a product is exact, and with or without a fused multiply-add the sum is the same.

/// Rows that are computed together.
const ROWS: usize = 4;
/// Columns that are computed together.
const COLUMNS: usize = 8;

/// `c += a · b`: `a` is M × K, `b` K × N, `c` M × N, each row by row. M is a multiple of 4, N of 8.
///
/// # Panics
/// Where a slice is shorter.
pub fn multiply_add(a: &[f64], b: &[f64], c: &mut [f64], m: usize, n: usize, k: usize) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both, as just asked.
        unsafe { fused(a, b, c, m, n, k) };
        return;
    }
    blocks::<false>(a, b, c, m, n, k);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fused(a: &[f64], b: &[f64], c: &mut [f64], m: usize, n: usize, k: usize) {
    blocks::<true>(a, b, c, m, n, k);
}

/// `c += a · b` in f64 itself, where products are not exact: each is added by a fused multiply-add.
///
/// # Panics
/// As [`multiply_add`].
pub fn multiply_add_f64(a: &[f64], b: &[f64], c: &mut [f64], m: usize, n: usize, k: usize) {
    blocks::<true>(a, b, c, m, n, k);
}

#[inline(always)]
fn blocks<const FUSED: bool>(a: &[f64], b: &[f64], c: &mut [f64], m: usize, n: usize, k: usize) {
    for column in (0..n).step_by(COLUMNS) {
        for row in (0..m).step_by(ROWS) {
            let a: [&[f64]; ROWS] = std::array::from_fn(|i| &a[(row + i) * k..][..k]);
            let mut sums = [[0.0; COLUMNS]; ROWS];
            for (i, sum) in sums.iter_mut().enumerate() {
                sum.copy_from_slice(&c[(row + i) * n + column..][..COLUMNS]);
            }
            for (step, b) in b.chunks_exact(n).take(k).enumerate() {
                let b: &[f64; COLUMNS] = b[column..][..COLUMNS].try_into().expect("as many columns");
                for (sum, a) in sums.iter_mut().zip(&a) {
                    let a = a[step];
                    for (sum, b) in sum.iter_mut().zip(b) {
                        *sum = if FUSED { a.mul_add(*b, *sum) } else { a * b + *sum };
                    }
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                c[(row + i) * n + column..][..COLUMNS].copy_from_slice(sum);
            }
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
                        wanted[row * n + column] += a[row * k + step] * b[step * n + column];
                    }
                }
            }
            let (mut found, mut plain, mut double) = (c.clone(), c.clone(), c.clone());
            multiply_add(&a, &b, &mut found, m, n, k);
            blocks::<false>(&a, &b, &mut plain, m, n, k);
            multiply_add_f64(&a, &b, &mut double, m, n, k);
            assert!(found == wanted && plain == wanted && double == wanted, "{m}x{n}x{k}");
        }
    }

    #[test]
    fn f64_products_are_fused() {
        let third = 1.0 / 3.0;
        let mut c = vec![-(third * third); 32];
        multiply_add_f64(&[third; 4], &[third; 8], &mut c, 4, 8, 1);
        assert_eq!(c[0], third.mul_add(third, -(third * third)));
        assert_ne!(c[0], 0.0);
    }
}
