//! Faults of `embedding`.

use wikigpt_ops::Update;
use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::{embedding, residual};

use crate::fault::{Fault, Faults, but_mut, perhaps, zeros};

pub const FAULTS: Faults = &[
    (
        "embedding_forward",
        &["no position", "positions ignored", "positions of the first sequence for all", "last row skipped"],
    ),
    (
        "embedding_backward",
        &[
            "dwte set",
            "update reversed",
            "first sequence only",
            "rows from T on kept",
            "one token each",
            "positions ignored",
            "one position each",
        ],
    ),
];

/// The plain loops with one fault.
pub struct Mutant<F>(pub Fault<F>);

impl<F: Float> Kernels for Mutant<F> {
    type F = F;

    fn device(&self) -> String {
        self.0.device()
    }

    fn embedding_forward(
        &mut self,
        out: &mut [F],
        tokens: &[u32],
        positions: Option<&[u32]>,
        wte: &[F],
        wpe: &[F],
        T: usize,
        C: usize,
    ) {
        match self.0.of("embedding_forward") {
            "no position" => embedding::forward(out, tokens, positions, wte, &zeros(wpe.len()), T, C),
            // As far as the table goes.
            "positions ignored" if positions.is_some() => {
                let own: Vec<u32> = (0..tokens.len()).map(|n| (n % T % (wpe.len() / C)) as u32).collect();
                embedding::forward(out, tokens, Some(&own), wte, wpe, T, C);
            }
            "positions of the first sequence for all" if positions.is_some() => {
                let first = positions.map(|positions| positions[..T].repeat(tokens.len() / T));
                embedding::forward(out, tokens, first.as_deref(), wte, wpe, T, C);
            }
            "last row skipped" => embedding::forward(but_mut(out, C), tokens, positions, wte, wpe, T, C),
            _ => embedding::forward(out, tokens, positions, wte, wpe, T, C),
        }
    }

    fn embedding_backward(
        &mut self,
        dwte: &mut [F],
        dwpe: &mut [F],
        dout: &[F],
        tokens: &[u32],
        positions: Option<&[u32]>,
        T: usize,
        C: usize,
        update: Update,
    ) {
        let fault = self.0.of("embedding_backward");
        let mut own = Vec::new();
        match fault {
            "dwte set" => dwte.fill(F::zero()),
            "first sequence only" => {
                let positions = positions.map(|positions| &positions[..T]);
                return embedding::backward(
                    dwte,
                    dwpe,
                    &dout[..T * C],
                    &tokens[..T],
                    positions,
                    T,
                    C,
                    update,
                );
            }
            "rows from T on kept" if positions.is_none() => {
                return embedding::backward(dwte, &mut dwpe[..T * C], dout, tokens, None, T, C, update);
            }
            "one token each" => {
                let before = dwte.to_vec();
                embedding::backward(dwte, dwpe, dout, tokens, positions, T, C, update);
                return one_each(dwte, &before, dout, tokens, C);
            }
            "one position each" => {
                let before = if update == Update::Set { zeros(dwpe.len()) } else { dwpe.to_vec() };
                embedding::backward(dwte, dwpe, dout, tokens, positions, T, C, update);
                if let Some(positions) = positions {
                    one_each(dwpe, &before, dout, positions, C);
                }
                return;
            }
            "positions ignored" => {
                own = (0..tokens.len()).map(|n| (n % T % (dwpe.len() / C)) as u32).collect()
            }
            _ => {}
        }
        let positions = positions.map(|positions| if own.is_empty() { positions } else { &own });
        embedding::backward(dwte, dwpe, dout, tokens, positions, T, C, perhaps(fault, update));
    }
}

/// Each row of a table gains the last of the rows that are its own, and not their sum.
fn one_each<F: Float>(table: &mut [F], before: &[F], dout: &[F], chosen: &[u32], C: usize) {
    for (dout, row) in dout.chunks_exact(C).zip(chosen) {
        let row = *row as usize * C;
        table[row..][..C].copy_from_slice(&before[row..][..C]);
        residual::backward(&mut table[row..][..C], dout, Update::Add);
    }
}
