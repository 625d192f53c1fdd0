//! Launchers of `kernels/attention/ampere.cu`, for bf16 where it can be, and of `kernels/attention/simt.cu`. Both have the same kernels,
//! but for the cached forward, which only the second has. Of few new positions, that is `kernels/attention/decode.cu`.

use wikigpt_ops::{Dropout, Error, Result};

use crate::launch::{Geometry, Value, dim, int, tiles};
use crate::source::{ATTENTION, ATTENTION_AMPERE, ATTENTION_DECODE, Source};
use crate::{Define, Gpu, Tensor, Tier};

/// The largest head that the kernels hold in shared memory.
const LARGEST_HEAD: usize = 256;

/// A program, and its blocks of queries or keys.
#[derive(Clone, Copy)]
struct Plan {
    source: Source,
    rows: usize,
    threads: u32,
    /// Bytes of dynamic shared memory.
    shared: usize,
}

impl Plan {
    /// That of tensor cores, if they can multiply these heads; `tiles` is how many tiles of rows the kernel keeps in shared memory.
    fn ampere(gpu: &Gpu, HS: usize, tensors: &[Tensor], tiles: usize) -> Option<Plan> {
        let can =
            gpu.tier() == Tier::Ampere && [64, 128].contains(&HS) && tensors.iter().all(|x| x.aligned());
        let shared = tiles * 64 * HS * 2 + (32 << 10);
        can.then_some(Plan { source: ATTENTION_AMPERE, rows: 64, threads: 128, shared })
    }

    fn simt(rows: usize, threads: u32) -> Plan {
        Plan { source: ATTENTION, rows, threads, shared: 0 }
    }

    /// The plain kernels' `Forward`.
    fn simt_forward(HS: usize) -> Plan {
        match HS {
            ..=64 => Plan::simt(64, 256),
            65..=128 => Plan::simt(32, 128),
            _ => Plan::simt(16, 128),
        }
    }

    /// The plain kernels' `Backward`.
    fn simt_backward(HS: usize) -> Plan {
        match HS {
            ..=64 => Plan::simt(32, 64),
            65..=128 => Plan::simt(16, 64),
            _ => Plan::simt(8, 64),
        }
    }

    /// Blocks for `T` rows of every head.
    fn geometry(self, op: &'static str, heads: usize, T: usize) -> Result<Geometry> {
        let grid = tiles(op, (heads, 1), (T, self.rows), 1)?;
        Ok(Geometry { grid, block: [self.threads, 1, 1], shared: self.shared as u32 })
    }
}

/// What the program is specialised on.
fn defines(op: &'static str, HS: usize, dropout: Dropout, starts: bool) -> Result<[Define; 3]> {
    if HS > LARGEST_HEAD {
        let message = format!("HS may be up to {LARGEST_HEAD} on a GPU, got {HS}: use more heads");
        return Err(Error::Argument { op, message });
    }
    Ok([("HS", HS.into()), ("DROPOUT", (dropout.p != 0.0).into()), ("STARTS", starts.into())])
}

/// Dropout as the kernels take it.
fn mask(dropout: Dropout) -> [Value; 4] {
    [dropout.seed.into(), dropout.site.into(), dropout.threshold().into(), (dropout.scale() as f32).into()]
}

/// out\[t\] = Σ mask·p\[t,t2\]·v\[t2\] over the t2 that t sees, p the softmax of q\[t\]·k\[t2\]/√HS.
pub fn attention_forward(
    gpu: &mut Gpu,
    out: Tensor,
    lse: Tensor,
    qkv: Tensor,
    starts: Option<Tensor>,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
    dropout: Dropout,
) -> Result {
    const OP: &str = "attention_forward";
    let plan = Plan::ampere(gpu, HS, &[out, qkv], 1).unwrap_or_else(|| Plan::simt_forward(HS));
    let kernel = gpu.kernel(OP, plan.source, &defines(OP, HS, dropout, starts.is_some())?, OP)?;
    let geometry = plan.geometry(OP, B * NH, T)?;
    let mut values =
        vec![out.into(), lse.into(), qkv.into(), starts.into(), dim(OP, "T", T)?, dim(OP, "NH", NH)?];
    values.extend(mask(dropout));
    gpu.launch(OP, OP, &kernel, geometry, &values)
}

/// The gradient of the forward's `qkv`: first that of q, which leaves dout·out of every query in scratch, then those of k and v.
pub fn attention_backward(
    gpu: &mut Gpu,
    dqkv: Tensor,
    dout: Tensor,
    out: Tensor,
    lse: Tensor,
    qkv: Tensor,
    starts: Option<Tensor>,
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
    dropout: Dropout,
) -> Result {
    const OP: &str = "attention_backward";
    const Q: &str = "attention_backward_q";
    const KV: &str = "attention_backward_kv";
    let defines = defines(OP, HS, dropout, starts.is_some())?;
    let plan = Plan::ampere(gpu, HS, &[dqkv, dout, out, qkv], 2).unwrap_or_else(|| Plan::simt_backward(HS));
    let geometry = plan.geometry(OP, B * NH, T)?;
    let mut rest = vec![lse.into(), qkv.into(), starts.into(), dim(OP, "T", T)?, dim(OP, "NH", NH)?];
    rest.extend(mask(dropout));
    let delta = Value::Ptr(gpu.scratch(B * NH * T * size_of::<f32>())?);

    let kernel = gpu.kernel(OP, plan.source, &defines, Q)?;
    let tensors = [dqkv.into(), delta, dout.into(), out.into()];
    gpu.launch(OP, Q, &kernel, geometry, &[&tensors[..], &rest].concat())?;

    let kernel = gpu.kernel(OP, plan.source, &defines, KV)?;
    let tensors = [dqkv.into(), delta, dout.into()];
    gpu.launch(OP, KV, &kernel, geometry, &[&tensors[..], &rest].concat())
}

/// New positions from which on a block shares the keys between queries, instead of a query between threads.
const MANY: usize = 16;
/// Threads of a block of `attention/decode.cu`, and keys of a part.
const DECODE_THREADS: u32 = 128;
const SPLIT: usize = 128;

/// Attention of `Tn` new positions of each sequence over a cache, which gains them.
pub fn attention_cached_forward(
    gpu: &mut Gpu,
    out: Tensor,
    kcache: Tensor,
    vcache: Tensor,
    qkv: Tensor,
    pos: Tensor,
    rows: Option<Tensor>,
    B: usize,
    Tn: usize,
    Tmax: usize,
    NH: usize,
    HS: usize,
) -> Result {
    const OP: &str = "attention_cached_forward";
    let defines = defines(OP, HS, Dropout::NONE, false)?;
    let [new, room, heads] = [("Tn", Tn), ("Tmax", Tmax), ("NH", NH)].map(|(name, n)| dim(OP, name, n));
    let (new, room, heads) = (new?, room?, heads?);
    let caches = [out.into(), kcache.into(), vcache.into()];
    if Tn >= MANY {
        let kernel = gpu.kernel(OP, ATTENTION, &defines, OP)?;
        let geometry = Plan::simt_forward(HS).geometry(OP, B * NH, Tn)?;
        let values = [qkv.into(), pos.into(), rows.into(), new, room, heads];
        return gpu.launch(OP, OP, &kernel, geometry, &[&caches[..], &values].concat());
    }

    const DECODE: &str = "attention_decode";
    const JOIN: &str = "attention_decode_join";
    // The head alone is what these are specialised on.
    let defines = &defines[..1];
    let parts = Tmax.div_ceil(SPLIT);
    let block = [DECODE_THREADS, 1, 1];
    let part = 4 + HS.next_multiple_of(4);
    let partial = if parts > 1 { gpu.scratch(B * NH * Tn * parts * part * size_of::<f32>())? } else { 0 };
    let kernel = gpu.kernel(OP, ATTENTION_DECODE, defines, DECODE)?;
    let geometry = Geometry { grid: tiles(OP, (B * NH, 1), (parts, 1), Tn)?, block, shared: 0 };
    let values = [Value::Ptr(partial), qkv.into(), pos.into(), rows.into(), new, room, heads];
    gpu.launch(OP, DECODE, &kernel, geometry, &[&caches[..], &values].concat())?;
    if parts == 1 {
        return Ok(());
    }
    let kernel = gpu.kernel(OP, ATTENTION_DECODE, defines, JOIN)?;
    let shared = int(OP, "the number of parts", parts * size_of::<f32>())? as u32;
    let geometry = Geometry { grid: tiles(OP, (B * NH, 1), (Tn, 1), 1)?, block, shared };
    let values = [out.into(), Value::Ptr(partial), pos.into(), dim(OP, "parts", parts)?, new, heads];
    gpu.launch(OP, JOIN, &kernel, geometry, &values)
}
