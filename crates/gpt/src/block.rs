//! One block, each stage's backward under its forward.
//!
//! ```text
//!  x ─┬─ ln_1 ─ c_attn ─ attention ─ c_proj ─ dropout ─ + ─ mid ─┬─ ln_2 ─ c_fc ─ gelu ─ c_proj ─ dropout ─ + ─ x of the next block
//!     └──────────────────────────────────────────────── ┘        └────────────────────────────────────────── ┘
//! ```
//!
//! Two branches leave the residual stream and come back to it, so a block is attention, join, MLP, join. A join's sum and
//! the layer norm after it are one op, which is why a block ends with the norm of what follows it: the next block's
//! ln_1, or ln_f. The lines of a forward are numbered; the backward takes them in reverse, under the same numbers.
//!
//! The gradient of the stream is one tensor `dx` for the whole pass: a sum hands its gradient on to both summands, so
//! what reaches the end of a branch is `dx` itself, and what comes out of its beginning is added to `dx`.

use wikigpt_ops::{Act, Dropout, Grad, Ops, Slot, Tok, Update};

use crate::Result;
use crate::activations::{self, Scratch};
use crate::shape::Shape;
use crate::tensors::{Block, Norm, Point};

/// What the queries see.
#[derive(Clone, Copy, Debug)]
pub enum Attend {
    /// The positions of the pass itself, from where each one's text starts.
    Pass { starts: Option<Slot<Tok>>, dropout: Dropout },
    /// A cache of keys and values (rows,Tmax,C), to whose row rows\[b\] the pass adds positions from pos\[b\] on. There is no
    /// backward.
    Cache { keys: Slot<Act>, values: Slot<Act>, pos: Slot<Tok>, rows: Option<Slot<Tok>>, Tmax: usize },
}

/// A block's three dropouts.
#[derive(Clone, Copy, Debug)]
pub struct Dropouts {
    /// Of the attention's probabilities.
    pub attention: Dropout,
    /// Of what the attention adds to the stream.
    pub attn_branch: Dropout,
    /// Of what the MLP adds to the stream.
    pub mlp_branch: Dropout,
}

// ---- attention: branch = c_proj(attention(c_attn(ln_1)))

/// `ln_1`, `branch` (N,C); `qkv` (B,T,3C); `att` (B,T,C).
pub fn attention_forward<O: Ops>(
    ops: &mut O,
    shape: Shape,
    w: &Block,
    a: &activations::Block,
    s: &Scratch,
    attend: Attend,
) -> Result {
    let Shape { B, T, NH, HS, .. } = shape;
    // 1   qkv = ln_1·c_attnᵀ + bias
    w.c_attn.forward(ops, a.qkv, a.inp.norm, a.low.c_attn)?;
    // 2   att = softmax(q·kᵀ/√HS)·v, each head by itself
    match attend {
        Attend::Pass { starts, dropout } => {
            ops.attention_forward(a.att, a.lse, a.qkv, starts, B, T, NH, HS, dropout)?;
        }
        Attend::Cache { keys, values, pos, rows, Tmax } => {
            ops.attention_cached_forward(a.att, keys, values, a.qkv, pos, rows, B, T, Tmax, NH, HS)?;
        }
    }
    // 3   branch = att·c_projᵀ + bias
    w.attn_c_proj.forward(ops, s.branch, a.att, a.low.attn_c_proj)
}

/// From `dbranch` (N,C) to `dnorm`, the gradient of ln_1 (N,C). `datt` (B,T,C), `dqkv` (B,T,3C).
pub fn attention_backward<O: Ops>(
    ops: &mut O,
    shape: Shape,
    w: &Block,
    dw: &Block<Grad>,
    a: &activations::Block,
    s: &Scratch,
    dbranch: Slot<Act>,
    starts: Option<Slot<Tok>>,
    dropout: Dropout,
    update: Update,
) -> Result {
    let Shape { B, T, NH, HS, .. } = shape;
    // 3   datt = dbranch·c_proj; dc_proj = dbranchᵀ·att; dbias = Σ dbranch
    w.attn_c_proj.backward(ops, s.datt, &dw.attn_c_proj, dbranch, a.att, a.low.attn_c_proj, update)?;
    // 2   dqkv, the probabilities computed anew from q, k and lse
    ops.attention_backward(s.dqkv, s.datt, a.att, a.lse, a.qkv, starts, B, T, NH, HS, dropout)?;
    // 1   dln_1 = dqkv·c_attn; dc_attn = dqkvᵀ·ln_1; dbias = Σ dqkv
    w.c_attn.backward(ops, s.dnorm, &dw.c_attn, s.dqkv, a.inp.norm, a.low.c_attn, update)
}

// ---- MLP: branch = c_proj(gelu(c_fc(ln_2)))

/// `ln_2`, `branch` (N,C); `pre`, `hidden` (N,4C).
pub fn mlp_forward<O: Ops>(
    ops: &mut O,
    shape: Shape,
    w: &Block,
    a: &activations::Block,
    s: &Scratch,
) -> Result {
    let (N, C, fc) = (shape.N, shape.C, &w.c_fc);
    // 1   pre = ln_2·c_fcᵀ + bias
    // 2   hidden = gelu(pre), in the same op, but where an adapter adds to pre
    if fc.adapter.is_some() {
        fc.forward(ops, a.pre, a.mid.norm, a.low.c_fc)?;
        ops.gelu_forward(a.hidden, a.pre)?;
    } else {
        ops.matmul_gelu_forward(a.hidden, a.pre, a.mid.norm, fc.weight, fc.bias, N, C, 4 * C)?;
    }
    // 3   branch = hidden·c_projᵀ + bias
    w.mlp_c_proj.forward(ops, s.branch, a.hidden, a.low.mlp_c_proj)
}

/// From `dbranch` (N,C) to `dnorm`, the gradient of ln_2 (N,C). `dpre` (N,4C).
pub fn mlp_backward<O: Ops>(
    ops: &mut O,
    shape: Shape,
    w: &Block,
    dw: &Block<Grad>,
    a: &activations::Block,
    s: &Scratch,
    dbranch: Slot<Act>,
    update: Update,
) -> Result {
    let (N, C, proj) = (shape.N, shape.C, &w.mlp_c_proj);
    // 3   dhidden = dbranch·c_proj; dc_proj = dbranchᵀ·hidden; dbias = Σ dbranch
    // 2   dpre = dhidden ∘ gelu′(pre), in the op that computes dhidden, but where an adapter adds to that: it takes the place of
    //     hidden, which has been read for the last time
    proj.backward_weight(ops, &dw.mlp_c_proj, dbranch, a.hidden, a.low.mlp_c_proj, update)?;
    if proj.adapter.is_some() {
        proj.backward_input(ops, a.hidden, dbranch, a.low.mlp_c_proj)?;
        ops.gelu_backward(s.dpre, a.hidden, a.pre)?;
    } else {
        ops.matmul_gelu_backward_input(s.dpre, dbranch, proj.weight, a.pre, N, 4 * C, C)?;
    }
    // 1   dln_2 = dpre·c_fc; dc_fc = dpreᵀ·ln_2; dbias = Σ dpre
    w.c_fc.backward(ops, s.dnorm, &dw.c_fc, s.dpre, a.mid.norm, a.low.c_fc, update)
}

// ---- join: to.x = x + dropout(branch); to.norm = layernorm(to.x)

/// All (N,C); the norm's mean and rstd (N).
pub fn join_forward<O: Ops>(
    ops: &mut O,
    shape: Shape,
    norm: &Norm,
    to: Point,
    x: Slot<Act>,
    s: &Scratch,
    dropout: Dropout,
) -> Result {
    let Shape { N, C, eps, .. } = shape;
    // 1   dropped = branch ∘ mask/(1 − p)
    let mut branch = s.branch;
    if dropout.p > 0.0 {
        ops.dropout_forward(s.dropped, s.branch, dropout)?;
        branch = s.dropped;
    }
    // 2   to.x = x + dropped
    // 3   to.norm = layernorm(to.x), in the same op
    let Norm { weight, bias } = *norm;
    Ok(ops.residual_layernorm_forward(to.x, to.norm, to.mean, to.rstd, x, branch, weight, bias, N, C, eps)?)
}

/// From `dnorm` and `dx` (N,C), the gradients of to.norm and, through all that follows, of to.x, to the gradient of x, which
/// is left in `dx`, and that of the branch, whose slot is returned: `dx` itself, or `dnorm` if there is dropout.
pub fn join_backward<O: Ops>(
    ops: &mut O,
    norm: &Norm,
    dnorm: &Norm<Grad>,
    to: Point,
    s: &Scratch,
    dropout: Dropout,
    update_dx: Update,
    update: Update,
) -> Result<Slot<Act>> {
    // 3   dx += the gradient through the norm; dweight, dbias
    norm.backward(ops, s.dx, dnorm, s.dnorm, to, update_dx, update)?;
    // 2   ddropped = dx, and the gradient of x is dx too: nothing to compute
    // 1   dbranch = ddropped ∘ mask/(1 − p), the same mask
    if dropout.p > 0.0 {
        ops.dropout_backward(s.dnorm, s.dx, dropout)?;
        return Ok(s.dnorm);
    }
    Ok(s.dx)
}
