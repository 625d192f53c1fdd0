//! Token and position embedding.

use crate::Update;
use crate::host::Float;

/// The row of wpe that position `n` of the batch reads.
fn place(positions: Option<&[u32]>, n: usize, T: usize) -> usize {
    positions.map_or(n % T, |positions| positions[n] as usize)
}

/// out\[b,t\] = wte\[tokens\[b,t\]\] + wpe\[positions\[b,t\]\].
pub fn forward<F: Float>(
    out: &mut [F],
    tokens: &[u32],
    positions: Option<&[u32]>,
    wte: &[F],
    wpe: &[F],
    T: usize,
    C: usize,
) {
    for (n, (out, token)) in out.chunks_exact_mut(C).zip(tokens).enumerate() {
        let word = &wte[*token as usize * C..][..C];
        let position = &wpe[place(positions, n, T) * C..][..C];
        for c in 0..C {
            out[c] = word[c] + position[c];
        }
    }
}

/// Each row of a table collects the gradients of the positions that read it: dwte\[v\] += Σ_{tokens\[b,t\] = v} dout\[b,t\],
/// dwpe\[p\] (set or added) Σ_{positions\[b,t\] = p} dout\[b,t\].
pub fn backward<F: Float>(
    dwte: &mut [F],
    dwpe: &mut [F],
    dout: &[F],
    tokens: &[u32],
    positions: Option<&[u32]>,
    T: usize,
    C: usize,
    update: Update,
) {
    if update == Update::Set {
        dwpe.fill(F::zero());
    }
    for (n, (dout, token)) in dout.chunks_exact(C).zip(tokens).enumerate() {
        add(&mut dwte[*token as usize * C..][..C], dout);
        add(&mut dwpe[place(positions, n, T) * C..][..C], dout);
    }
}

fn add<F: Float>(row: &mut [F], dout: &[F]) {
    row.iter_mut().zip(dout).for_each(|(dw, d)| *dw += *d);
}
