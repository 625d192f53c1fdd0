//! Faults of `embedding`.

use wikigpt_ops::Update;
use wikigpt_ops::host::{Float, Kernels};
use wikigpt_ops::reference::{embedding, residual};

use crate::fault::{Fault, Faults, but_mut, perhaps, zeros};

pub const FAULTS: Faults = &[
    ("embedding_forward", &["no position", "pos ignored", "last row skipped"]),
    (
        "embedding_backward",
        &["dwte set", "update reversed", "first sequence only", "rows from T on kept", "one token each"],
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
        wte: &[F],
        wpe: &[F],
        T: usize,
        C: usize,
        pos: usize,
    ) {
        match self.0.of("embedding_forward") {
            "no position" => embedding::forward(out, tokens, wte, &zeros(wpe.len()), T, C, pos),
            "pos ignored" => embedding::forward(out, tokens, wte, wpe, T, C, 0),
            "last row skipped" => embedding::forward(but_mut(out, C), tokens, wte, wpe, T, C, pos),
            _ => embedding::forward(out, tokens, wte, wpe, T, C, pos),
        }
    }

    fn embedding_backward(
        &mut self,
        dwte: &mut [F],
        dwpe: &mut [F],
        dout: &[F],
        tokens: &[u32],
        T: usize,
        C: usize,
        update: Update,
    ) {
        let fault = self.0.of("embedding_backward");
        match fault {
            "dwte set" => dwte.fill(F::zero()),
            "first sequence only" => {
                return embedding::backward(dwte, dwpe, &dout[..T * C], &tokens[..T], T, C, update);
            }
            "rows from T on kept" => {
                return embedding::backward(dwte, &mut dwpe[..T * C], dout, tokens, T, C, update);
            }
            "one token each" => {
                let before = dwte.to_vec();
                embedding::backward(dwte, dwpe, dout, tokens, T, C, update);
                for (dout, token) in dout.chunks_exact(C).zip(tokens) {
                    let row = *token as usize * C;
                    dwte[row..][..C].copy_from_slice(&before[row..][..C]);
                    residual::backward(&mut dwte[row..][..C], dout, Update::Add);
                }
                return;
            }
            _ => {}
        }
        embedding::backward(dwte, dwpe, dout, tokens, T, C, perhaps(fault, update));
    }
}
