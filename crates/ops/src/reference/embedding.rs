//! Token and position embedding.

use crate::Update;
use crate::host::Float;

use super::put;

/// out\[b,t\] = wte\[tokens\[b,t\]\] + wpe\[pos + t\].
pub fn forward<F: Float>(
    out: &mut [F],
    tokens: &[u32],
    wte: &[F],
    wpe: &[F],
    T: usize,
    C: usize,
    pos: usize,
) {
    for (n, (out, token)) in out.chunks_exact_mut(C).zip(tokens).enumerate() {
        let word = &wte[*token as usize * C..][..C];
        let position = &wpe[(pos + n % T) * C..][..C];
        for c in 0..C {
            out[c] = word[c] + position[c];
        }
    }
}

/// Each row of a table collects the gradients of the positions that read it: dwte\[v\] += Σ_{tokens\[b,t\] = v} dout\[b,t\],
/// dwpe\[t\] = Σ_b dout\[b,t\].
pub fn backward<F: Float>(
    dwte: &mut [F],
    dwpe: &mut [F],
    dout: &[F],
    tokens: &[u32],
    T: usize,
    C: usize,
    update: Update,
) {
    for (dout, token) in dout.chunks_exact(C).zip(tokens) {
        for (dw, d) in dwte[*token as usize * C..][..C].iter_mut().zip(dout) {
            *dw += *d;
        }
    }
    for (t, dwpe) in dwpe.chunks_exact_mut(C).enumerate() {
        for (c, dw) in dwpe.iter_mut().enumerate() {
            let rows = dout.chunks_exact(C).skip(t).step_by(T).filter(|_| t < T);
            put(dw, rows.map(|row| row[c]).sum(), update);
        }
    }
}
