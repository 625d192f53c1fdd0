//! Dropout: the mask is generated anew wherever it is needed, [`LANES`] generator calls at a time.

use wikigpt_ops::Dropout;

use crate::CpuKernels;
use crate::simd::{LANES, vectorised};
use crate::threads::Parts;

vectorised! {
    /// out\[i\] is what element start + i is multiplied by.
    pub fn factors(out: &mut [f32], dropout: Dropout, start: u64) {
        let (threshold, scale) = (dropout.threshold(), dropout.scale() as f32);
        let end = start + out.len() as u64;
        let mut at = start;
        while at < end {
            // One call of the generator gives four elements; calls are lanes of a vector.
            let first = at / 4;
            let words = philox(dropout, first);
            let upto = end.min((first + LANES as u64) * 4);
            for i in at..upto {
                let (call, word) = ((i / 4 - first) as usize, (i % 4) as usize);
                out[(i - start) as usize] = if words[word][call] >= threshold { scale } else { 0.0 };
            }
            at = upto;
        }
    }
}

/// The words of the generator's calls `first` to `first + LANES − 1`; the algorithm is [`wikigpt_ops::philox`]'s, a call to a lane.
#[inline(always)]
fn philox(dropout: Dropout, first: u64) -> [[u32; LANES]; 4] {
    let block: [u64; LANES] = std::array::from_fn(|l| first + l as u64);
    let mut x0 = block.map(|b| b as u32);
    let mut x1 = block.map(|b| (b >> 32) as u32);
    let mut x2 = [dropout.site; LANES];
    let mut x3 = [0_u32; LANES];
    let (mut k0, mut k1) = (dropout.seed as u32, (dropout.seed >> 32) as u32);
    for _ in 0..10 {
        for l in 0..LANES {
            let product0 = u64::from(x0[l]) * 0xD251_1F53;
            let product1 = u64::from(x2[l]) * 0xCD9E_8D57;
            x0[l] = (product1 >> 32) as u32 ^ x1[l] ^ k0;
            x2[l] = (product0 >> 32) as u32 ^ x3[l] ^ k1;
            x1[l] = product1 as u32;
            x3[l] = product0 as u32;
        }
        (k0, k1) = (k0.wrapping_add(0x9E37_79B9), k1.wrapping_add(0xBB67_AE85));
    }
    [x0, x1, x2, x3]
}

/// out = inp ∘ mask/(1 − p).
pub fn forward(cpu: &mut CpuKernels, out: &mut [f32], inp: &[f32], dropout: Dropout) {
    let level = cpu.level;
    let out = Parts::new(out);
    cpu.chunks(inp.len(), |start, len| {
        // SAFETY: chunks do not overlap.
        let (out, inp) = (unsafe { out.part(start, len) }, &inp[start..][..len]);
        if dropout.p == 0.0 {
            return out.copy_from_slice(inp);
        }
        factors(level, out, dropout, start as u64);
        for (out, x) in out.iter_mut().zip(inp) {
            *out *= *x;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    #[test]
    fn factors_are_the_definition_s() {
        for level in Level::available() {
            for (p, start, len) in
                [(0.1, 0, 200), (0.5, 3, 131), (0.9, (1 << 34) - 5, 77), (0.25, 6, 1), (0.3, 9, 0)]
            {
                let dropout = Dropout { p, seed: 0x1234_5678_9abc_def0, site: 7 };
                let mut out = vec![f32::NAN; len];
                factors(level, &mut out, dropout, start);
                for (i, x) in out.iter().enumerate() {
                    assert_eq!(
                        *x,
                        dropout.factor(start + i as u64) as f32,
                        "{level:?} p = {p}, element {start} + {i}"
                    );
                }
            }
        }
    }
}
