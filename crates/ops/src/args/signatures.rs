//! What each op asks of its arguments, whatever the backend: shapes, constants, and which tensors it writes.

use super::{Arg, Args, rows, size};
use crate::{Act, AdamW, Dropout, Error, Grad, Kind, Knobs, Result, Slot, Stat, Ticket, Tok};

/// Refuses a vocabulary that its padded size does not hold.
fn vocabulary(op: &'static str, V: usize, Vp: usize) -> Result {
    if (1..=Vp).contains(&V) {
        return Ok(());
    }
    Err(Error::Argument { op, message: format!("V must be between 1 and Vp = {Vp}, got {V}") })
}

/// The arguments of [`Ops::copy`](crate::Ops::copy).
pub fn copy<K: Kind>(dst: Slot<K>, src: Slot<K>) -> Result<Args<1, 1, 0>> {
    const OP: &str = "copy";
    let write = [Arg::new(OP, "dst", dst, src.len)?];
    let read = [Arg::new(OP, "src", src, src.len)?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::fetch`](crate::Ops::fetch).
pub fn fetch(src: Slot<Stat>) -> Result<Args<0, 1, 0>> {
    const OP: &str = "fetch";
    Ok(Args { op: OP, write: [], read: [Arg::new(OP, "src", src, src.len)?], tokens: [] })
}

/// Refuses to collect into another length than was fetched.
///
/// # Errors
/// [`Error::Argument`].
pub fn collect(dst: &[f32], ticket: &Ticket) -> Result {
    if dst.len() == ticket.len {
        return Ok(());
    }
    let message = format!("dst must hold {} elements, got {}", ticket.len, dst.len());
    Err(Error::Argument { op: "collect", message })
}

/// The arguments of [`Ops::embedding_forward`](crate::Ops::embedding_forward).
pub fn embedding_forward(
    out: Slot<Act>,
    tokens: Slot<Tok>,
    positions: Option<Slot<Tok>>,
    wte: Slot<Act>,
    wpe: Slot<Act>,
    B: usize,
    T: usize,
    C: usize,
) -> Result<Args<1, 2, 2>> {
    const OP: &str = "embedding_forward";
    let words = rows(OP, "wte", wte, C, 1)?;
    let places = rows(OP, "wpe", wpe, C, if positions.is_some() { 1 } else { T })?;
    let write = [Arg::shaped(OP, "out", out, &[B, T, C])?];
    let read = [Arg::shaped(OP, "wte", wte, &[wte.len])?, Arg::shaped(OP, "wpe", wpe, &[wpe.len])?];
    Ok(Args {
        op: OP,
        write,
        read,
        tokens: [
            Arg::shaped(OP, "tokens", tokens, &[B, T])?.indices(words, false),
            Arg::optional(OP, "positions", positions, &[B, T])?.indices(places, false),
        ],
    })
}

/// The arguments of [`Ops::embedding_backward`](crate::Ops::embedding_backward).
pub fn embedding_backward(
    dwte: Slot<Grad>,
    dwpe: Slot<Grad>,
    dout: Slot<Act>,
    tokens: Slot<Tok>,
    positions: Option<Slot<Tok>>,
    B: usize,
    T: usize,
    C: usize,
) -> Result<Args<2, 1, 2>> {
    const OP: &str = "embedding_backward";
    let words = rows(OP, "dwte", dwte, C, 1)?;
    let places = rows(OP, "dwpe", dwpe, C, if positions.is_some() { 1 } else { T })?;
    let write = [Arg::shaped(OP, "dwte", dwte, &[dwte.len])?, Arg::shaped(OP, "dwpe", dwpe, &[dwpe.len])?];
    let read = [Arg::shaped(OP, "dout", dout, &[B, T, C])?];
    Ok(Args {
        op: OP,
        write,
        read,
        tokens: [
            Arg::shaped(OP, "tokens", tokens, &[B, T])?.indices(words, false),
            Arg::optional(OP, "positions", positions, &[B, T])?.indices(places, false),
        ],
    })
}

/// The arguments of [`Ops::layernorm_forward`](crate::Ops::layernorm_forward).
pub fn layernorm_forward(
    out: Slot<Act>,
    mean: Slot<Stat>,
    rstd: Slot<Stat>,
    inp: Slot<Act>,
    weight: Slot<Act>,
    bias: Option<Slot<Act>>,
    N: usize,
    C: usize,
) -> Result<Args<3, 3, 0>> {
    const OP: &str = "layernorm_forward";
    let write = [
        Arg::shaped(OP, "out", out, &[N, C])?,
        Arg::shaped(OP, "mean", mean, &[N])?,
        Arg::shaped(OP, "rstd", rstd, &[N])?,
    ];
    let read = [
        Arg::shaped(OP, "inp", inp, &[N, C])?,
        Arg::shaped(OP, "weight", weight, &[C])?,
        Arg::optional(OP, "bias", bias, &[C])?,
    ];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::layernorm_backward`](crate::Ops::layernorm_backward).
pub fn layernorm_backward(
    dinp: Slot<Act>,
    dweight: Slot<Grad>,
    dbias: Option<Slot<Grad>>,
    dout: Slot<Act>,
    inp: Slot<Act>,
    weight: Slot<Act>,
    mean: Slot<Stat>,
    rstd: Slot<Stat>,
    N: usize,
    C: usize,
) -> Result<Args<3, 5, 0>> {
    const OP: &str = "layernorm_backward";
    let write = [
        Arg::shaped(OP, "dinp", dinp, &[N, C])?,
        Arg::shaped(OP, "dweight", dweight, &[C])?,
        Arg::optional(OP, "dbias", dbias, &[C])?,
    ];
    let read = [
        Arg::shaped(OP, "dout", dout, &[N, C])?,
        Arg::shaped(OP, "inp", inp, &[N, C])?,
        Arg::shaped(OP, "weight", weight, &[C])?,
        Arg::shaped(OP, "mean", mean, &[N])?,
        Arg::shaped(OP, "rstd", rstd, &[N])?,
    ];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::residual_forward`](crate::Ops::residual_forward).
pub fn residual_forward(out: Slot<Act>, a: Slot<Act>, b: Slot<Act>) -> Result<Args<1, 2, 0>> {
    const OP: &str = "residual_forward";
    let write = [Arg::shaped(OP, "out", out, &[out.len])?];
    let read = [Arg::shaped(OP, "a", a, &[out.len])?, Arg::shaped(OP, "b", b, &[out.len])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::residual_backward`](crate::Ops::residual_backward).
pub fn residual_backward(da: Slot<Act>, dout: Slot<Act>) -> Result<Args<1, 1, 0>> {
    const OP: &str = "residual_backward";
    let write = [Arg::shaped(OP, "da", da, &[da.len])?];
    let read = [Arg::shaped(OP, "dout", dout, &[da.len])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::residual_layernorm_forward`](crate::Ops::residual_layernorm_forward).
pub fn residual_layernorm_forward(
    res: Slot<Act>,
    out: Slot<Act>,
    mean: Slot<Stat>,
    rstd: Slot<Stat>,
    a: Slot<Act>,
    b: Slot<Act>,
    weight: Slot<Act>,
    bias: Option<Slot<Act>>,
    N: usize,
    C: usize,
) -> Result<Args<4, 4, 0>> {
    const OP: &str = "residual_layernorm_forward";
    let write = [
        Arg::shaped(OP, "res", res, &[N, C])?,
        Arg::shaped(OP, "out", out, &[N, C])?,
        Arg::shaped(OP, "mean", mean, &[N])?,
        Arg::shaped(OP, "rstd", rstd, &[N])?,
    ];
    let read = [
        Arg::shaped(OP, "a", a, &[N, C])?,
        Arg::shaped(OP, "b", b, &[N, C])?,
        Arg::shaped(OP, "weight", weight, &[C])?,
        Arg::optional(OP, "bias", bias, &[C])?,
    ];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::matmul_forward`](crate::Ops::matmul_forward).
pub fn matmul_forward(
    out: Slot<Act>,
    inp: Slot<Act>,
    weight: Slot<Act>,
    bias: Option<Slot<Act>>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result<Args<1, 3, 0>> {
    const OP: &str = "matmul_forward";
    let write = [Arg::shaped(OP, "out", out, &[N, OC])?];
    let read = [
        Arg::shaped(OP, "inp", inp, &[N, C])?,
        Arg::shaped(OP, "weight", weight, &[OC, C])?,
        Arg::optional(OP, "bias", bias, &[OC])?,
    ];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::matmul_gelu_forward`](crate::Ops::matmul_gelu_forward).
pub fn matmul_gelu_forward(
    out: Slot<Act>,
    pre: Slot<Act>,
    inp: Slot<Act>,
    weight: Slot<Act>,
    bias: Option<Slot<Act>>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result<Args<2, 3, 0>> {
    const OP: &str = "matmul_gelu_forward";
    let write = [Arg::shaped(OP, "out", out, &[N, OC])?, Arg::shaped(OP, "pre", pre, &[N, OC])?];
    let read = [
        Arg::shaped(OP, "inp", inp, &[N, C])?,
        Arg::shaped(OP, "weight", weight, &[OC, C])?,
        Arg::optional(OP, "bias", bias, &[OC])?,
    ];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::matmul_residual_forward`](crate::Ops::matmul_residual_forward).
pub fn matmul_residual_forward(
    out: Slot<Act>,
    residual: Slot<Act>,
    inp: Slot<Act>,
    weight: Slot<Act>,
    bias: Option<Slot<Act>>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result<Args<1, 4, 0>> {
    const OP: &str = "matmul_residual_forward";
    let write = [Arg::shaped(OP, "out", out, &[N, OC])?];
    let read = [
        Arg::shaped(OP, "residual", residual, &[N, OC])?,
        Arg::shaped(OP, "inp", inp, &[N, C])?,
        Arg::shaped(OP, "weight", weight, &[OC, C])?,
        Arg::optional(OP, "bias", bias, &[OC])?,
    ];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::matmul_backward_input`](crate::Ops::matmul_backward_input).
pub fn matmul_backward_input(
    dinp: Slot<Act>,
    dout: Slot<Act>,
    weight: Slot<Act>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result<Args<1, 2, 0>> {
    const OP: &str = "matmul_backward_input";
    let write = [Arg::shaped(OP, "dinp", dinp, &[N, C])?];
    let read = [Arg::shaped(OP, "dout", dout, &[N, OC])?, Arg::shaped(OP, "weight", weight, &[OC, C])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::matmul_gelu_backward_input`](crate::Ops::matmul_gelu_backward_input).
pub fn matmul_gelu_backward_input(
    dpre: Slot<Act>,
    dout: Slot<Act>,
    weight: Slot<Act>,
    pre: Slot<Act>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result<Args<1, 3, 0>> {
    const OP: &str = "matmul_gelu_backward_input";
    let write = [Arg::shaped(OP, "dpre", dpre, &[N, C])?];
    let read = [
        Arg::shaped(OP, "dout", dout, &[N, OC])?,
        Arg::shaped(OP, "weight", weight, &[OC, C])?,
        Arg::shaped(OP, "pre", pre, &[N, C])?,
    ];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::matmul_backward_weight`](crate::Ops::matmul_backward_weight).
pub fn matmul_backward_weight(
    dweight: Slot<Grad>,
    dbias: Option<Slot<Grad>>,
    dout: Slot<Act>,
    inp: Slot<Act>,
    N: usize,
    C: usize,
    OC: usize,
) -> Result<Args<2, 2, 0>> {
    const OP: &str = "matmul_backward_weight";
    let write = [Arg::shaped(OP, "dweight", dweight, &[OC, C])?, Arg::optional(OP, "dbias", dbias, &[OC])?];
    let read = [Arg::shaped(OP, "dout", dout, &[N, OC])?, Arg::shaped(OP, "inp", inp, &[N, C])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::bias_forward`](crate::Ops::bias_forward).
pub fn bias_forward(x: Slot<Act>, bias: Slot<Act>, N: usize, OC: usize) -> Result<Args<1, 1, 0>> {
    const OP: &str = "bias_forward";
    let write = [Arg::shaped(OP, "x", x, &[N, OC])?];
    let read = [Arg::shaped(OP, "bias", bias, &[OC])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::bias_backward`](crate::Ops::bias_backward).
pub fn bias_backward(dbias: Slot<Grad>, dout: Slot<Act>, N: usize, OC: usize) -> Result<Args<1, 1, 0>> {
    const OP: &str = "bias_backward";
    let write = [Arg::shaped(OP, "dbias", dbias, &[OC])?];
    let read = [Arg::shaped(OP, "dout", dout, &[N, OC])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::attention_forward`](crate::Ops::attention_forward).
pub fn attention_forward(
    out: Slot<Act>,
    lse: Slot<Stat>,
    qkv: Slot<Act>,
    starts: Option<Slot<Tok>>,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
    dropout: Dropout,
) -> Result<Args<2, 1, 1>> {
    const OP: &str = "attention_forward";
    dropout.check(OP)?;
    let write = [Arg::shaped(OP, "out", out, &[B, T, NH, HS])?, Arg::shaped(OP, "lse", lse, &[B, NH, T])?];
    let read = [Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?];
    let tokens = [Arg::optional(OP, "starts", starts, &[B, T])?.starts(T)];
    Ok(Args { op: OP, write, read, tokens })
}

/// The arguments of [`Ops::attention_backward`](crate::Ops::attention_backward).
pub fn attention_backward(
    dqkv: Slot<Act>,
    dout: Slot<Act>,
    out: Slot<Act>,
    lse: Slot<Stat>,
    qkv: Slot<Act>,
    starts: Option<Slot<Tok>>,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
    dropout: Dropout,
) -> Result<Args<1, 4, 1>> {
    const OP: &str = "attention_backward";
    dropout.check(OP)?;
    let write = [Arg::shaped(OP, "dqkv", dqkv, &[B, T, 3, NH, HS])?];
    let read = [
        Arg::shaped(OP, "dout", dout, &[B, T, NH, HS])?,
        Arg::shaped(OP, "out", out, &[B, T, NH, HS])?,
        Arg::shaped(OP, "lse", lse, &[B, NH, T])?,
        Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?,
    ];
    let tokens = [Arg::optional(OP, "starts", starts, &[B, T])?.starts(T)];
    Ok(Args { op: OP, write, read, tokens })
}

/// The arguments of [`Ops::attention_cached_forward`](crate::Ops::attention_cached_forward).
pub fn attention_cached_forward(
    out: Slot<Act>,
    kcache: Slot<Act>,
    vcache: Slot<Act>,
    qkv: Slot<Act>,
    pos: Slot<Tok>,
    cache_rows: Option<Slot<Tok>>,
    B: usize,
    Tn: usize,
    Tmax: usize,
    NH: usize,
    HS: usize,
) -> Result<Args<3, 1, 2>> {
    const OP: &str = "attention_cached_forward";
    let row = size(OP, "a row of kcache", &[Tmax, NH, HS])?;
    let many = match cache_rows {
        None => B,
        Some(_) => rows(OP, "kcache", kcache, row, 1)?,
    };
    let write = [
        Arg::shaped(OP, "out", out, &[B, Tn, NH, HS])?,
        Arg::shaped(OP, "kcache", kcache, &[many, Tmax, NH, HS])?,
        Arg::shaped(OP, "vcache", vcache, &[many, Tmax, NH, HS])?,
    ];
    let read = [Arg::shaped(OP, "qkv", qkv, &[B, Tn, 3, NH, HS])?];
    let tokens = [
        Arg::shaped(OP, "pos", pos, &[B])?.cached(Tn, Tmax),
        Arg::optional(OP, "rows", cache_rows, &[B])?.distinct(many),
    ];
    Ok(Args { op: OP, write, read, tokens })
}

/// The arguments of [`Ops::attention_scores_forward`](crate::Ops::attention_scores_forward).
pub fn attention_scores_forward(
    scores: Slot<Act>,
    qkv: Slot<Act>,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result<Args<1, 1, 0>> {
    const OP: &str = "attention_scores_forward";
    let write = [Arg::shaped(OP, "scores", scores, &[B, NH, T, T])?];
    let read = [Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::attention_scores_backward`](crate::Ops::attention_scores_backward).
pub fn attention_scores_backward(
    dqkv: Slot<Act>,
    dscores: Slot<Act>,
    qkv: Slot<Act>,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result<Args<1, 2, 0>> {
    const OP: &str = "attention_scores_backward";
    let write = [Arg::shaped(OP, "dqkv", dqkv, &[B, T, 3, NH, HS])?];
    let read = [
        Arg::shaped(OP, "dscores", dscores, &[B, NH, T, T])?,
        Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?,
    ];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::softmax_forward`](crate::Ops::softmax_forward).
pub fn softmax_forward(probs: Slot<Act>, scores: Slot<Act>, R: usize, T: usize) -> Result<Args<1, 1, 0>> {
    const OP: &str = "softmax_forward";
    let write = [Arg::shaped(OP, "probs", probs, &[R, T, T])?];
    let read = [Arg::shaped(OP, "scores", scores, &[R, T, T])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::softmax_backward`](crate::Ops::softmax_backward).
pub fn softmax_backward(
    dscores: Slot<Act>,
    dprobs: Slot<Act>,
    probs: Slot<Act>,
    R: usize,
    T: usize,
) -> Result<Args<1, 2, 0>> {
    const OP: &str = "softmax_backward";
    let write = [Arg::shaped(OP, "dscores", dscores, &[R, T, T])?];
    let read = [Arg::shaped(OP, "dprobs", dprobs, &[R, T, T])?, Arg::shaped(OP, "probs", probs, &[R, T, T])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::attention_values_forward`](crate::Ops::attention_values_forward).
pub fn attention_values_forward(
    out: Slot<Act>,
    probs: Slot<Act>,
    qkv: Slot<Act>,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result<Args<1, 2, 0>> {
    const OP: &str = "attention_values_forward";
    let write = [Arg::shaped(OP, "out", out, &[B, T, NH, HS])?];
    let read =
        [Arg::shaped(OP, "probs", probs, &[B, NH, T, T])?, Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::attention_values_backward`](crate::Ops::attention_values_backward).
pub fn attention_values_backward(
    dprobs: Slot<Act>,
    dqkv: Slot<Act>,
    dout: Slot<Act>,
    probs: Slot<Act>,
    qkv: Slot<Act>,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
) -> Result<Args<2, 3, 0>> {
    const OP: &str = "attention_values_backward";
    let write = [
        Arg::shaped(OP, "dprobs", dprobs, &[B, NH, T, T])?,
        Arg::shaped(OP, "dqkv", dqkv, &[B, T, 3, NH, HS])?,
    ];
    let read = [
        Arg::shaped(OP, "dout", dout, &[B, T, NH, HS])?,
        Arg::shaped(OP, "probs", probs, &[B, NH, T, T])?,
        Arg::shaped(OP, "qkv", qkv, &[B, T, 3, NH, HS])?,
    ];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::gelu_forward`](crate::Ops::gelu_forward).
pub fn gelu_forward(out: Slot<Act>, inp: Slot<Act>) -> Result<Args<1, 1, 0>> {
    const OP: &str = "gelu_forward";
    let write = [Arg::shaped(OP, "out", out, &[out.len])?];
    let read = [Arg::shaped(OP, "inp", inp, &[out.len])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::gelu_backward`](crate::Ops::gelu_backward).
pub fn gelu_backward(dinp: Slot<Act>, dout: Slot<Act>, inp: Slot<Act>) -> Result<Args<1, 2, 0>> {
    const OP: &str = "gelu_backward";
    let write = [Arg::shaped(OP, "dinp", dinp, &[dinp.len])?];
    let read = [Arg::shaped(OP, "dout", dout, &[dinp.len])?, Arg::shaped(OP, "inp", inp, &[dinp.len])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::dropout_forward`](crate::Ops::dropout_forward).
pub fn dropout_forward(out: Slot<Act>, inp: Slot<Act>, dropout: Dropout) -> Result<Args<1, 1, 0>> {
    const OP: &str = "dropout_forward";
    dropout.check(OP)?;
    let write = [Arg::shaped(OP, "out", out, &[out.len])?];
    let read = [Arg::shaped(OP, "inp", inp, &[out.len])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::dropout_backward`](crate::Ops::dropout_backward).
pub fn dropout_backward(dinp: Slot<Act>, dout: Slot<Act>, dropout: Dropout) -> Result<Args<1, 1, 0>> {
    const OP: &str = "dropout_backward";
    dropout.check(OP)?;
    let write = [Arg::shaped(OP, "dinp", dinp, &[dinp.len])?];
    let read = [Arg::shaped(OP, "dout", dout, &[dinp.len])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::cross_entropy_forward`](crate::Ops::cross_entropy_forward).
pub fn cross_entropy_forward(
    losses: Slot<Stat>,
    logits: Slot<Act>,
    targets: Slot<Tok>,
    weights: Option<Slot<Stat>>,
    N: usize,
    V: usize,
    Vp: usize,
) -> Result<Args<1, 2, 1>> {
    const OP: &str = "cross_entropy_forward";
    vocabulary(OP, V, Vp)?;
    let write = [Arg::shaped(OP, "losses", losses, &[N])?];
    let read = [Arg::shaped(OP, "logits", logits, &[N, Vp])?, Arg::optional(OP, "weights", weights, &[N])?];
    Ok(Args { op: OP, write, read, tokens: [Arg::shaped(OP, "targets", targets, &[N])?.indices(V, true)] })
}

/// The arguments of [`Ops::cross_entropy_forward_backward`](crate::Ops::cross_entropy_forward_backward).
pub fn cross_entropy_forward_backward(
    losses: Slot<Stat>,
    logits: Slot<Act>,
    targets: Slot<Tok>,
    weights: Option<Slot<Stat>>,
    N: usize,
    V: usize,
    Vp: usize,
) -> Result<Args<2, 1, 1>> {
    const OP: &str = "cross_entropy_forward_backward";
    vocabulary(OP, V, Vp)?;
    let write = [Arg::shaped(OP, "losses", losses, &[N])?, Arg::shaped(OP, "logits", logits, &[N, Vp])?];
    let read = [Arg::optional(OP, "weights", weights, &[N])?];
    Ok(Args { op: OP, write, read, tokens: [Arg::shaped(OP, "targets", targets, &[N])?.indices(V, true)] })
}

/// The arguments of [`Ops::sample`](crate::Ops::sample).
pub fn sample(
    tokens: Slot<Tok>,
    seen: Option<Slot<Tok>>,
    logits: Slot<Act>,
    knobs: Slot<Stat>,
    uniforms: Slot<Tok>,
    seen_rows: Option<Slot<Tok>>,
    B: usize,
    V: usize,
    Vp: usize,
) -> Result<Args<2, 2, 2>> {
    const OP: &str = "sample";
    vocabulary(OP, V, Vp)?;
    let words = V.div_ceil(32);
    let many = match (seen, seen_rows) {
        (Some(seen), Some(_)) => rows(OP, "seen", seen, words, 1)?,
        (None, Some(_)) => {
            let message = "rows are those of seen, which was not given".into();
            return Err(Error::Argument { op: OP, message });
        }
        _ => B,
    };
    let write = [Arg::shaped(OP, "tokens", tokens, &[B])?, Arg::optional(OP, "seen", seen, &[many, words])?];
    let read =
        [Arg::shaped(OP, "logits", logits, &[B, Vp])?, Arg::shaped(OP, "knobs", knobs, &[B, Knobs::LEN])?];
    let tokens = [
        Arg::shaped(OP, "uniforms", uniforms, &[B])?,
        Arg::optional(OP, "rows", seen_rows, &[B])?.distinct(many),
    ];
    Ok(Args { op: OP, write, read, tokens })
}

/// The arguments of [`Ops::sum`](crate::Ops::sum).
pub fn sum(out: Slot<Stat>, inp: Slot<Stat>) -> Result<Args<1, 1, 0>> {
    const OP: &str = "sum";
    let write = [Arg::shaped(OP, "out", out, &[1])?];
    let read = [Arg::shaped(OP, "inp", inp, &[inp.len])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::global_norm`](crate::Ops::global_norm).
pub fn global_norm(out: Slot<Stat>, grads: Slot<Grad>) -> Result<Args<1, 1, 0>> {
    const OP: &str = "global_norm";
    let write = [Arg::shaped(OP, "out", out, &[1])?];
    let read = [Arg::shaped(OP, "grads", grads, &[grads.len])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}

/// The arguments of [`Ops::adamw`](crate::Ops::adamw).
pub fn adamw(
    params: Slot<Act>,
    master: Option<Slot<Stat>>,
    m: Slot<Stat>,
    v: Slot<Stat>,
    grads: Slot<Grad>,
    norm: Slot<Stat>,
    constants: AdamW,
) -> Result<Args<4, 2, 0>> {
    const OP: &str = "adamw";
    constants.check(OP)?;
    let write = [
        Arg::shaped(OP, "params", params, &[grads.len])?,
        Arg::optional(OP, "master", master, &[grads.len])?,
        Arg::shaped(OP, "m", m, &[grads.len])?,
        Arg::shaped(OP, "v", v, &[grads.len])?,
    ];
    let read = [Arg::shaped(OP, "grads", grads, &[grads.len])?, Arg::shaped(OP, "norm", norm, &[1])?];
    Ok(Args { op: OP, write, read, tokens: [] })
}
