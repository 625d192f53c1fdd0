//! The whole model: embedding, blocks, head, and the loss; forward and backward.

use wikigpt_ops::{Dropout, Grad, Ops, Update};

use crate::Result;
use crate::activations::{Activations, Low};
use crate::batch::{Targets, Text};
use crate::block::{self, Attend, Dropouts};
use crate::shape::Shape;
use crate::tensors::Tensors;

/// What keeps a step from learning its batch by heart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regularize {
    /// Dropout's probability, in [0, 1): after the embedding, of the attention's probabilities, and of what attention
    /// and MLP add to the residual stream. 0 costs nothing.
    pub dropout: f32,
    /// The key of the masks: another for every micro-batch.
    pub seed: u64,
}

impl Regularize {
    /// No dropout.
    pub const NONE: Regularize = Regularize { dropout: 0.0, seed: 0 };

    fn site(self, site: usize) -> Dropout {
        Dropout { p: self.dropout, seed: self.seed, site: site as u32 }
    }

    /// The dropout after the embedding.
    fn embedding(self) -> Dropout {
        self.site(0)
    }

    /// The dropouts of a block.
    fn block(self, layer: usize) -> Dropouts {
        let site = |i| self.site(1 + 3 * layer + i);
        Dropouts { attention: site(0), attn_branch: site(1), mlp_branch: site(2) }
    }
}

// ---- embedding: x = dropout(wte[tokens] + wpe)

/// `x` (B,T,C) and its norm ln_1 of the first block.
fn embedding_forward<O: Ops>(
    ops: &mut O,
    shape: Shape,
    w: &Tensors,
    a: &Activations,
    text: Text,
    dropout: Dropout,
) -> Result {
    let Shape { B, T, C, eps, .. } = shape;
    let (first, s) = (a.blocks[0].inp, &a.scratch);
    let Text { tokens, positions, .. } = text;
    // 1   sum = wte[tokens] + wpe[positions]
    // 2   x = sum ∘ mask/(1 − p)
    if dropout.p > 0.0 {
        ops.embedding_forward(s.branch, tokens, positions, w.wte, w.wpe, B, T, C)?;
        ops.dropout_forward(first.x, s.branch, dropout)?;
    } else {
        ops.embedding_forward(first.x, tokens, positions, w.wte, w.wpe, B, T, C)?;
    }
    // 3   norm = layernorm(x)
    w.blocks[0].ln_1.forward(ops, first, eps)
}

/// From `dnorm`, the gradient of the first ln_1, and `dx` (B,T,C). Adds to dwte what the head's backward set there.
fn embedding_backward<O: Ops>(
    ops: &mut O,
    shape: Shape,
    w: &Tensors,
    dw: &Tensors<Grad>,
    a: &Activations,
    text: Text,
    dropout: Dropout,
    update: Update,
) -> Result {
    let Shape { B, T, C, .. } = shape;
    let (first, s) = (a.blocks[0].inp, &a.scratch);
    // 3   dx += the gradient through the norm; dweight, dbias
    w.blocks[0].ln_1.backward(ops, s.dx, &dw.blocks[0].ln_1, s.dnorm, first, Update::Add, update)?;
    // 2   dsum = dx ∘ mask/(1 − p), the same mask
    let mut dsum = s.dx;
    if dropout.p > 0.0 {
        ops.dropout_backward(s.dnorm, s.dx, dropout)?;
        dsum = s.dnorm;
    }
    // 1   dwte[token] += dsum; dwpe[position] = Σ dsum. A tied head has set dwte already; else it starts from 0 here.
    if update == Update::Set && !dw.tied {
        ops.zero(dw.wte)?;
    }
    let Text { tokens, positions, .. } = text;
    Ok(ops.embedding_backward(dw.wte, dw.wpe, dsum, tokens, positions, B, T, C, update)?)
}

// ---- the whole: logits = head(ln_f(blocks(embedding)))

/// From `text` (B,T) to ln_f (N,C).
pub fn forward<O: Ops>(
    ops: &mut O,
    shape: Shape,
    w: &Tensors,
    a: &Activations,
    text: Text,
    regularize: Regularize,
) -> Result {
    let starts = text.starts;
    let attend = |layer: usize| Attend::Pass { starts, dropout: regularize.block(layer).attention };
    forward_attending(ops, shape, w, a, text, regularize, attend)
}

/// The same where `attend` says for each layer what its queries see.
pub fn forward_attending<O: Ops>(
    ops: &mut O,
    shape: Shape,
    w: &Tensors,
    a: &Activations,
    text: Text,
    regularize: Regularize,
    attend: impl Fn(usize) -> Attend,
) -> Result {
    let s = &a.scratch;
    embedding_forward(ops, shape, w, a, text, regularize.embedding())?;
    for (layer, (w_l, a_l)) in w.blocks.iter().zip(&a.blocks).enumerate() {
        let dropouts = regularize.block(layer);
        let (next, next_norm) = (a.before(layer + 1), w.norm_before(layer + 1));
        block::attention_forward(ops, shape, w_l, a_l, s, attend(layer))?;
        block::join_forward(ops, shape, &w_l.ln_2, a_l.mid, a_l.inp.x, s, dropouts.attn_branch)?;
        block::mlp_forward(ops, shape, w_l, a_l, s)?;
        block::join_forward(ops, shape, &next_norm, next, a_l.mid.x, s, dropouts.mlp_branch)?;
    }
    Ok(())
}

/// From `dlogits`, left in the logits' place, to the gradients of all parameters; where the embeddings and the `frozen`
/// lowest blocks are not trained, to those of the others, and no further.
pub fn backward<O: Ops>(
    ops: &mut O,
    shape: Shape,
    w: &Tensors,
    dw: &Tensors<Grad>,
    a: &Activations,
    text: Text,
    regularize: Regularize,
    update: Update,
    frozen: Option<usize>,
) -> Result {
    let (s, L, lowest) = (&a.scratch, w.blocks.len(), frozen.unwrap_or(0));
    // dln_f = dlogits·head; dhead = dlogitsᵀ·ln_f
    if frozen.is_some() && w.tied {
        w.head.backward_input(ops, s.dnorm, a.logits, Low::NONE)?;
    } else {
        w.head.backward(ops, s.dnorm, &dw.head, a.logits, a.out.norm, Low::NONE, update)?;
    }
    // Nothing but ln_f reads the end of the stream, so its gradient starts there.
    let set_or_add = |layer: usize| if layer == L { Update::Set } else { Update::Add };
    let blocks = w.blocks.iter().zip(&dw.blocks).zip(&a.blocks).enumerate();
    for (layer, ((w_l, dw_l), a_l)) in blocks.skip(lowest).rev() {
        let dropouts = regularize.block(layer);
        let after = layer + 1;
        let (next, next_norm, dnext_norm) = (a.before(after), w.norm_before(after), dw.norm_before(after));
        let dx = set_or_add(after);
        let drop = dropouts.mlp_branch;
        let dbranch = block::join_backward(ops, &next_norm, &dnext_norm, next, s, drop, dx, update)?;
        block::mlp_backward(ops, shape, w_l, dw_l, a_l, s, dbranch, update)?;
        let drop = dropouts.attn_branch;
        let dbranch =
            block::join_backward(ops, &w_l.ln_2, &dw_l.ln_2, a_l.mid, s, drop, Update::Add, update)?;
        block::attention_backward(
            ops,
            shape,
            w_l,
            dw_l,
            a_l,
            s,
            dbranch,
            text.starts,
            dropouts.attention,
            update,
        )?;
    }
    if frozen.is_none() {
        return embedding_backward(ops, shape, w, dw, a, text, regularize.embedding(), update);
    }
    if dw.is_frozen() {
        return Ok(());
    }
    // The norm of the frozen stream belongs to what is above it.
    let (norm, dnorm) = (w.norm_before(lowest), dw.norm_before(lowest));
    norm.backward(ops, s.dx, &dnorm, s.dnorm, a.before(lowest), set_or_add(lowest), update)
}

// ---- the head and the loss

/// losses\[n\] (N) of the logits = ln_f·headᵀ (N,Vp), which are kept.
pub fn losses_forward<O: Ops>(
    ops: &mut O,
    shape: Shape,
    w: &Tensors,
    a: &Activations,
    targets: Targets,
) -> Result {
    let Shape { N, V, Vp, .. } = shape;
    w.head.forward(ops, a.logits, a.out.norm, Low::NONE)?;
    Ok(ops.cross_entropy_forward(a.losses, a.logits, targets.tokens, targets.weights, N, V, Vp)?)
}

/// The same losses, and dlogits = ∂(scale·Σ losses)/∂logits in the logits' place.
pub fn losses_forward_backward<O: Ops>(
    ops: &mut O,
    shape: Shape,
    w: &Tensors,
    a: &Activations,
    targets: Targets,
    scale: f32,
) -> Result {
    let Shape { N, V, Vp, .. } = shape;
    w.head.forward(ops, a.logits, a.out.norm, Low::NONE)?;
    let Targets { tokens, weights } = targets;
    Ok(ops.cross_entropy_forward_backward(a.losses, a.logits, tokens, weights, N, V, Vp, scale)?)
}

/// The logits (B,Vp) of the last positions only.
pub fn last_logits_forward<O: Ops>(ops: &mut O, shape: Shape, w: &Tensors, a: &Activations) -> Result {
    let Shape { B, T, C, .. } = shape;
    if T == 1 {
        return w.head.forward(ops, a.logits, a.out.norm, Low::NONE);
    }
    for b in 0..B {
        let at = (b * T + T - 1) * C;
        ops.copy(a.last.slice(b * C..(b + 1) * C), a.out.norm.slice(at..at + C))?;
    }
    w.head.forward(ops, a.logits, a.last, Low::NONE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_dropouts_share_a_mask() {
        let regularize = Regularize { dropout: 0.5, seed: 1 };
        let blocks = (0..100).flat_map(|layer| {
            let Dropouts { attention, attn_branch, mlp_branch } = regularize.block(layer);
            [attention, attn_branch, mlp_branch]
        });
        let all: Vec<Dropout> = blocks.chain([regularize.embedding()]).collect();
        assert!(all.iter().all(|dropout| dropout.p == 0.5 && dropout.seed == 1));
        assert_eq!(all.iter().map(|dropout| dropout.site).collect::<BTreeSet<_>>().len(), 301);
    }
}
