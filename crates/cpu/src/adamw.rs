//! The optimizer: sums, the global gradient norm and AdamW.

use wikigpt_ops::AdamW;
use wikigpt_ops::reference::adamw::clip_factor;

use crate::CpuKernels;
use crate::simd::{madd, vectorised};
use crate::threads::Parts;

/// Elements of a partial sum of squares; fixed, so that the norm does not depend on the number of threads.
const CHUNK: usize = 1 << 16;

vectorised! {
    /// Σ x², in float64: the square of a gradient that f32 holds may be beyond f32.
    fn squares(x: &[f32]) -> f64 {
        let (chunks, rest) = x.as_chunks::<16>();
        let mut lanes = [0.0_f64; 16];
        for chunk in chunks {
            for l in 0..16 {
                let x = f64::from(chunk[l]);
                lanes[l] += x * x;
            }
        }
        lanes.iter().sum::<f64>() + rest.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>()
    }
}

/// Σ inp, in float64; there are as many as tokens in a batch.
pub fn sum(inp: &[f32]) -> f32 {
    inp.iter().map(|x| f64::from(*x)).sum::<f64>() as f32
}

/// ‖grads‖₂.
pub fn global_norm(cpu: &mut CpuKernels, grads: &[f32]) -> f32 {
    let level = cpu.level;
    let chunks = grads.len().div_ceil(CHUNK);
    // Two f32s hold the bits of a f64.
    let sums = cpu.shared.get(2 * chunks);
    let partial = Parts::new(sums);
    cpu.threads.run(chunks, |_, task| {
        let start = task * CHUNK;
        let total = squares(level, &grads[start..grads.len().min(start + CHUNK)]);
        // SAFETY: each chunk is one task's.
        let out = unsafe { partial.part(2 * task, 2) };
        out.copy_from_slice(&bytemuck::cast::<f64, [f32; 2]>(total));
    });
    let (pairs, _) = sums.as_chunks::<2>();
    pairs.iter().map(|pair| bytemuck::cast::<[f32; 2], f64>(*pair)).sum::<f64>().sqrt() as f32
}

/// What the update of an element needs, worked out once.
#[derive(Clone, Copy)]
struct Constants {
    /// Factor of the gradients.
    clip: f32,
    beta1: f32,
    beta2: f32,
    /// lr/(1 − β₁ᵗ).
    rate: f32,
    /// 1/√(1 − β₂ᵗ).
    root: f32,
    eps: f32,
    /// lr·decay. Not 1 − lr·decay: near 1 little of it would be left.
    decay: f32,
}

vectorised! {
    /// The update of the reference with its divisions by the bias corrections taken out of the loop: √(v/c) = √v/√c.
    fn update(params: &mut [f32], m: &mut [f32], v: &mut [f32], grads: &[f32], constants: Constants) {
        let Constants { clip, beta1, beta2, rate, root, eps, decay } = constants;
        for (((p, m), v), g) in params.iter_mut().zip(m).zip(v).zip(grads) {
            let g = *g * clip;
            *m = madd::<FMA>(beta1, *m, (1.0 - beta1) * g);
            *v = madd::<FMA>(beta2, *v, (1.0 - beta2) * g * g);
            *p -= madd::<FMA>(decay, *p, rate * *m / madd::<FMA>(v.sqrt(), root, eps));
        }
    }
}

/// One AdamW update in place, in one pass over the four tensors.
pub fn adamw(
    cpu: &mut CpuKernels,
    params: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    grads: &[f32],
    norm: f32,
    constants: AdamW,
) {
    let Some(clip) = clip_factor(norm, constants.clip) else { return };
    let level = cpu.level;
    let AdamW { lr, beta1, beta2, eps, weight_decay, .. } = constants;
    let (correction1, correction2) = constants.corrections();
    let rate = (f64::from(lr) / correction1) as f32;
    let root = (1.0 / correction2.sqrt()) as f32;
    let decay = lr * weight_decay;
    let constants = Constants { clip, beta1, beta2, rate, root, eps, decay };
    let (params, m, v) = (Parts::new(params), Parts::new(m), Parts::new(v));
    cpu.chunks(grads.len(), |start, len| {
        // SAFETY: chunks do not overlap.
        let (params, m, v) = unsafe { (params.part(start, len), m.part(start, len), v.part(start, len)) };
        update(level, params, m, v, &grads[start..][..len], constants);
    });
}
