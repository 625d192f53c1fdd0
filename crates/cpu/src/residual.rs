//! The residual connection.

use wikigpt_ops::Update;

use crate::CpuKernels;
use crate::simd::vectorised;
use crate::threads::Parts;

vectorised! {
    /// out = a + b.
    pub fn add(out: &mut [f32], a: &[f32], b: &[f32]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = *a + *b;
        }
    }
}

vectorised! {
    /// out += x.
    pub fn accumulate(out: &mut [f32], x: &[f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out += *x;
        }
    }
}

/// out = a + b.
pub fn forward(cpu: &mut CpuKernels, out: &mut [f32], a: &[f32], b: &[f32]) {
    let level = cpu.level;
    let out = Parts::new(out);
    cpu.chunks(a.len(), |start, len| {
        // SAFETY: chunks do not overlap.
        add(level, unsafe { out.part(start, len) }, &a[start..][..len], &b[start..][..len]);
    });
}

/// da (set or added) dout.
pub fn backward(cpu: &mut CpuKernels, da: &mut [f32], dout: &[f32], update: Update) {
    let level = cpu.level;
    let da = Parts::new(da);
    cpu.chunks(dout.len(), |start, len| {
        // SAFETY: chunks do not overlap.
        let (da, dout) = (unsafe { da.part(start, len) }, &dout[start..][..len]);
        match update {
            Update::Set => da.copy_from_slice(dout),
            Update::Add => accumulate(level, da, dout),
        }
    });
}
