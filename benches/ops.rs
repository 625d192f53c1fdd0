//! Each op on the CPU at the shapes of the models S, M and GPT-2 124M (`tools/peers/configs.py`), beside what the machine
//! could do at best, and held to the float64 reference.
//!
//! ```text
//! cargo bench --bench ops                  # everything: about three minutes
//! cargo bench --bench ops -- G/matmul      # some of it
//! WIKIGPT_THREADS=1 cargo bench --bench ops
//! ```
//!
//! One table at the end: the fastest time of each op; GFLOP/s and their share of the machine's f32 peak where the op is bound
//! by arithmetic, GB/s and their share of a copy's where it is bound by memory (a share above 100% means that the op's
//! tensors stay in cache); and the relative error ‖out − ref‖/‖ref‖, the largest over the op's outputs, at the same widths with
//! fewer rows, of ops that run one after the other on what the ones before left.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod machine;

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use wikigpt_cpu::cpu;
use wikigpt_ops::reference::Reference;
use wikigpt_ops::{Act, AdamW, Dropout, Kind, Ops, Result, Rounding, Slot, Stat, Tok, Update};

/// The sizes that an op sees.
#[derive(Clone, Copy)]
struct Shape {
    B: usize,
    T: usize,
    NH: usize,
    HS: usize,
    V: usize,
    Vp: usize,
    /// Elements that the optimizer walks; at most so many, for the time per element does not change.
    parameters: usize,
}

const MODELS: [(&str, Shape); 3] = [
    ("S", Shape { B: 16, T: 128, NH: 4, HS: 32, V: 256, Vp: 256, parameters: 1 << 20 }),
    ("M", Shape { B: 8, T: 256, NH: 6, HS: 64, V: 256, Vp: 256, parameters: 11 << 20 }),
    ("G", Shape { B: 2, T: 256, NH: 12, HS: 64, V: 50_257, Vp: 50_304, parameters: 32 << 20 }),
];

impl Shape {
    /// The same widths with few rows, which the reference can do.
    fn reduced(self) -> Shape {
        Shape { B: 1, T: 24, parameters: 1 << 12, ..self }
    }

    fn N(self) -> usize {
        self.B * self.T
    }

    fn C(self) -> usize {
        self.NH * self.HS
    }
}

/// An op, and with what weight where there are several.
#[derive(Clone, Copy, PartialEq)]
enum Op {
    EmbeddingForward,
    EmbeddingBackward,
    LayernormForward,
    ResidualLayernormForward,
    LayernormBackward,
    MatmulQkv,
    MatmulGelu,
    MatmulResidual,
    MatmulLogits,
    MatmulOneRow,
    MatmulLogitsOneRow,
    MatmulBackwardInput,
    MatmulGeluBackwardInput,
    MatmulBackwardWeight,
    MatmulLogitsBackwardInput,
    MatmulLogitsBackwardWeight,
    AttentionForward,
    AttentionBackward,
    AttentionCachedPrefill,
    AttentionCachedOneRow,
    ResidualBackward,
    GeluForward,
    GeluBackward,
    DropoutForward,
    CrossEntropy,
    GlobalNorm,
    AdamW,
}

const OPS: [(Op, &str); 27] = [
    (Op::EmbeddingForward, "embedding_forward"),
    (Op::EmbeddingBackward, "embedding_backward"),
    (Op::LayernormForward, "layernorm_forward"),
    (Op::ResidualLayernormForward, "residual_layernorm_forward"),
    (Op::LayernormBackward, "layernorm_backward"),
    (Op::MatmulQkv, "matmul_forward (C to 3C)"),
    (Op::MatmulGelu, "matmul_gelu_forward (C to 4C)"),
    (Op::MatmulResidual, "matmul_residual_forward (4C to C)"),
    (Op::MatmulLogits, "matmul_forward (C to Vp)"),
    (Op::MatmulOneRow, "matmul_forward (C to 4C, one row)"),
    (Op::MatmulLogitsOneRow, "matmul_forward (C to Vp, one row)"),
    (Op::MatmulBackwardInput, "matmul_backward_input (C to 4C)"),
    (Op::MatmulGeluBackwardInput, "matmul_gelu_backward_input (4C to C)"),
    (Op::MatmulBackwardWeight, "matmul_backward_weight (C to 4C)"),
    (Op::MatmulLogitsBackwardInput, "matmul_backward_input (C to Vp)"),
    (Op::MatmulLogitsBackwardWeight, "matmul_backward_weight (C to Vp)"),
    (Op::AttentionForward, "attention_forward"),
    (Op::AttentionBackward, "attention_backward"),
    (Op::AttentionCachedPrefill, "attention_cached_forward (prefill)"),
    (Op::AttentionCachedOneRow, "attention_cached_forward (one row)"),
    (Op::ResidualBackward, "residual_backward"),
    (Op::GeluForward, "gelu_forward"),
    (Op::GeluBackward, "gelu_backward"),
    (Op::DropoutForward, "dropout_forward"),
    (Op::CrossEntropy, "cross_entropy_forward_backward"),
    (Op::GlobalNorm, "global_norm"),
    (Op::AdamW, "adamw"),
];

/// What bounds an op.
#[derive(Clone, Copy)]
enum Work {
    Flops(usize),
    Bytes(usize),
}

impl Op {
    /// What the op must do: FLOPs of products, a causal product counted by half; or bytes of the tensors that it reads and
    /// writes, each once.
    fn work(self, s: Shape) -> Work {
        let (N, C, Vp, P) = (s.N(), s.C(), s.Vp, s.parameters);
        let product = |rows: usize, wide: usize| Work::Flops(2 * rows * C * wide);
        let causal = s.B * s.NH * s.T * (s.T + 1) * s.HS;
        let elements = |count: usize| Work::Bytes(4 * count);
        match self {
            Op::EmbeddingForward => elements(3 * N * C),
            Op::EmbeddingBackward => elements(3 * N * C),
            Op::LayernormForward => elements(2 * N * C),
            Op::ResidualLayernormForward => elements(4 * N * C),
            Op::LayernormBackward => elements(4 * N * C),
            Op::MatmulQkv => product(N, 3 * C),
            Op::MatmulGelu
            | Op::MatmulResidual
            | Op::MatmulBackwardInput
            | Op::MatmulGeluBackwardInput
            | Op::MatmulBackwardWeight => product(N, 4 * C),
            Op::MatmulLogits | Op::MatmulLogitsBackwardInput | Op::MatmulLogitsBackwardWeight => {
                product(N, Vp)
            }
            Op::MatmulOneRow => elements(4 * C * C),
            Op::MatmulLogitsOneRow => elements(Vp * C),
            Op::AttentionForward | Op::AttentionCachedPrefill => Work::Flops(2 * causal),
            Op::AttentionBackward => Work::Flops(5 * causal),
            Op::AttentionCachedOneRow => elements(2 * N * C),
            Op::ResidualBackward => elements(3 * N * C),
            Op::GeluForward => elements(2 * N * 4 * C),
            Op::GeluBackward => elements(3 * N * 4 * C),
            Op::DropoutForward => elements(2 * N * C),
            Op::CrossEntropy => elements(2 * N * Vp),
            Op::GlobalNorm => elements(P),
            Op::AdamW => elements(7 * P),
        }
    }
}

/// The tensors of a layer, its neighbours and the optimizer, named as in the model.
struct Tensors<O> {
    ops: O,
    shape: Shape,
    tokens: Slot<Tok>,
    x: Slot<Act>,
    y: Slot<Act>,
    z: Slot<Act>,
    qkv: Slot<Act>,
    dqkv: Slot<Act>,
    h: Slot<Act>,
    pre: Slot<Act>,
    weight: Slot<Act>,
    dweight: Slot<Act>,
    bias: Slot<Act>,
    dbias: Slot<Act>,
    wte: Slot<Act>,
    dwte: Slot<Act>,
    wpe: Slot<Act>,
    dwpe: Slot<Act>,
    logits: Slot<Act>,
    kcache: Slot<Act>,
    vcache: Slot<Act>,
    mean: Slot<Stat>,
    rstd: Slot<Stat>,
    lse: Slot<Stat>,
    losses: Slot<Stat>,
    norm: Slot<Stat>,
    params: Slot<Act>,
    grads: Slot<Act>,
    m: Slot<Stat>,
    v: Slot<Stat>,
}

/// Allocates, with numbers in [low, low + 2).
fn numbers<O: Ops, K: Kind<Host = f32>>(ops: &mut O, len: usize, low: f32) -> Result<Slot<K>> {
    let mut state = len as u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 + low
    };
    let data: Vec<f32> = (0..len).map(|_| next()).collect();
    let slot = ops.alloc(len)?;
    ops.upload(slot, &data)?;
    Ok(slot)
}

impl<O: Ops> Tensors<O> {
    fn new(mut ops: O, shape: Shape) -> Result<Self> {
        let (N, C, V, Vp, P) = (shape.N(), shape.C(), shape.V, shape.Vp, shape.parameters);
        let tokens = ops.alloc(N)?;
        let ids: Vec<u32> = (0..N).map(|n| (n * 7919 % V) as u32).collect();
        ops.upload(tokens, &ids)?;
        let mut act = |len| numbers::<_, Act>(&mut ops, len, -1.0);
        let (x, y, z) = (act(N * C)?, act(N * C)?, act(N * C)?);
        let (qkv, dqkv, h, pre) = (act(N * 3 * C)?, act(N * 3 * C)?, act(N * 4 * C)?, act(N * 4 * C)?);
        let (weight, dweight, bias, dbias) = (act(4 * C * C)?, act(4 * C * C)?, act(4 * C)?, act(4 * C)?);
        let (wte, dwte, wpe, dwpe) = (act(Vp * C)?, act(Vp * C)?, act(shape.T * C)?, act(shape.T * C)?);
        let (logits, kcache, vcache) = (act(N * Vp)?, act(N * C)?, act(N * C)?);
        let (params, grads) = (act(P)?, act(P)?);
        let mut stat = |len| numbers::<_, Stat>(&mut ops, len, 0.0);
        let (mean, rstd, lse) = (stat(N)?, stat(N)?, stat(N * shape.NH)?);
        let (losses, norm, m, v) = (stat(N)?, stat(1)?, stat(P)?, stat(P)?);
        Ok(Tensors {
            ops,
            shape,
            tokens,
            x,
            y,
            z,
            qkv,
            dqkv,
            h,
            pre,
            weight,
            dweight,
            bias,
            dbias,
            wte,
            dwte,
            wpe,
            dwpe,
            logits,
            kcache,
            vcache,
            mean,
            rstd,
            lse,
            losses,
            norm,
            params,
            grads,
            m,
            v,
        })
    }

    /// Runs an op.
    fn run(&mut self, op: Op) -> Result {
        let Shape { B, T, NH, HS, V, Vp, .. } = self.shape;
        let (N, C) = (self.shape.N(), self.shape.C());
        let ops = &mut self.ops;
        let (set, none) = (Update::Set, Dropout::NONE);
        let (narrow, wide) = (self.bias.slice(0..C), self.bias);
        let one = |slot: Slot<Act>, width: usize| slot.slice(0..width);
        match op {
            Op::EmbeddingForward => {
                ops.embedding_forward(self.z, self.tokens, self.wte, self.wpe, B, T, C, 0)
            }
            Op::EmbeddingBackward => {
                ops.embedding_backward(self.dwte, self.dwpe, self.x, self.tokens, B, T, C, set)
            }
            Op::LayernormForward => {
                ops.layernorm_forward(self.z, self.mean, self.rstd, self.x, narrow, Some(narrow), N, C, 1e-5)
            }
            Op::ResidualLayernormForward => {
                let (res, out) = (self.h.slice(0..N * C), self.z);
                ops.residual_layernorm_forward(
                    res,
                    out,
                    self.mean,
                    self.rstd,
                    self.x,
                    self.y,
                    narrow,
                    Some(narrow),
                    N,
                    C,
                    1e-5,
                )
            }
            Op::LayernormBackward => {
                let (dweight, dbias) = (self.dweight.slice(0..C), Some(self.dbias.slice(0..C)));
                let (mean, rstd) = (self.mean, self.rstd);
                ops.layernorm_backward(
                    self.z,
                    dweight,
                    dbias,
                    self.y,
                    self.x,
                    narrow,
                    mean,
                    rstd,
                    N,
                    C,
                    Update::Add,
                    set,
                )
            }
            Op::MatmulQkv => {
                let (weight, bias) = (self.weight.slice(0..3 * C * C), Some(self.bias.slice(0..3 * C)));
                ops.matmul_forward(self.dqkv, self.x, weight, bias, N, C, 3 * C)
            }
            Op::MatmulGelu => {
                ops.matmul_gelu_forward(self.h, self.pre, self.x, self.weight, Some(wide), N, C, 4 * C)
            }
            Op::MatmulResidual => {
                ops.matmul_residual_forward(self.z, self.y, self.h, self.weight, Some(narrow), N, 4 * C, C)
            }
            Op::MatmulLogits => ops.matmul_forward(self.logits, self.x, self.wte, None, N, C, Vp),
            Op::MatmulOneRow => {
                ops.matmul_forward(one(self.h, 4 * C), one(self.x, C), self.weight, Some(wide), 1, C, 4 * C)
            }
            Op::MatmulLogitsOneRow => {
                ops.matmul_forward(one(self.logits, Vp), one(self.x, C), self.wte, None, 1, C, Vp)
            }
            Op::MatmulBackwardInput => {
                ops.matmul_backward_input(self.z, self.pre, self.weight, N, C, 4 * C, set)
            }
            Op::MatmulGeluBackwardInput => {
                ops.matmul_gelu_backward_input(self.h, self.x, self.weight, self.pre, N, 4 * C, C)
            }
            Op::MatmulBackwardWeight => {
                ops.matmul_backward_weight(self.dweight, Some(self.dbias), self.pre, self.x, N, C, 4 * C, set)
            }
            Op::MatmulLogitsBackwardInput => {
                ops.matmul_backward_input(self.z, self.logits, self.wte, N, C, Vp, set)
            }
            Op::MatmulLogitsBackwardWeight => {
                ops.matmul_backward_weight(self.dwte, None, self.logits, self.x, N, C, Vp, set)
            }
            Op::AttentionForward => ops.attention_forward(self.y, self.lse, self.qkv, B, T, NH, HS, none),
            Op::AttentionBackward => {
                ops.attention_backward(self.dqkv, self.x, self.y, self.lse, self.qkv, B, T, NH, HS, none)
            }
            Op::AttentionCachedPrefill => {
                ops.attention_cached_forward(self.z, self.kcache, self.vcache, self.qkv, B, T, 0, T, NH, HS)
            }
            Op::AttentionCachedOneRow => {
                let (out, qkv) = (one(self.z, B * C), one(self.qkv, B * 3 * C));
                ops.attention_cached_forward(out, self.kcache, self.vcache, qkv, B, 1, T - 1, T, NH, HS)
            }
            Op::ResidualBackward => ops.residual_backward(self.z, self.x, Update::Add),
            Op::GeluForward => ops.gelu_forward(self.h, self.pre),
            Op::GeluBackward => {
                // One tensor stands for both inputs: the time is the same.
                ops.gelu_backward(self.h, self.pre, self.pre)
            }
            Op::DropoutForward => ops.dropout_forward(self.z, self.x, Dropout { p: 0.1, seed: 1, site: 0 }),
            Op::CrossEntropy => {
                let scale = 1.0 / N as f32;
                ops.cross_entropy_forward_backward(self.losses, self.logits, self.tokens, N, V, Vp, scale)
            }
            Op::GlobalNorm => ops.global_norm(self.norm, self.grads),
            Op::AdamW => {
                let (beta1, beta2, eps, weight_decay) = (0.9, 0.95, 1e-8, 0.1);
                let constants = AdamW {
                    lr: 3e-4,
                    beta1,
                    beta2,
                    eps,
                    weight_decay,
                    step: 10,
                    clip: Some(1.0),
                    rounding: Rounding::Nearest,
                };
                ops.adamw(self.params, self.m, self.v, self.grads, self.norm, constants)
            }
        }
    }

    /// What the tensors hold that an op writes.
    fn written(&mut self, op: Op) -> Result<Vec<Vec<f32>>> {
        let (act, stat): (&[Slot<Act>], &[Slot<Stat>]) = match op {
            Op::EmbeddingForward | Op::MatmulResidual | Op::MatmulBackwardInput => (&[self.z], &[]),
            Op::EmbeddingBackward => (&[self.dwte, self.dwpe], &[]),
            Op::LayernormForward => (&[self.z], &[self.mean, self.rstd]),
            Op::ResidualLayernormForward => (&[self.h, self.z], &[self.mean, self.rstd]),
            Op::LayernormBackward => (&[self.z, self.dweight, self.dbias], &[]),
            Op::MatmulQkv | Op::AttentionBackward => (&[self.dqkv], &[]),
            Op::MatmulGelu => (&[self.h, self.pre], &[]),
            Op::MatmulLogits | Op::MatmulLogitsOneRow => (&[self.logits], &[]),
            Op::MatmulOneRow | Op::MatmulGeluBackwardInput | Op::GeluForward | Op::GeluBackward => {
                (&[self.h], &[])
            }
            Op::MatmulBackwardWeight => (&[self.dweight, self.dbias], &[]),
            Op::MatmulLogitsBackwardInput | Op::ResidualBackward | Op::DropoutForward => (&[self.z], &[]),
            Op::MatmulLogitsBackwardWeight => (&[self.dwte], &[]),
            Op::AttentionForward => (&[self.y], &[self.lse]),
            Op::AttentionCachedPrefill | Op::AttentionCachedOneRow => {
                (&[self.z, self.kcache, self.vcache], &[])
            }
            Op::CrossEntropy => (&[self.logits], &[self.losses]),
            Op::GlobalNorm => (&[], &[self.norm]),
            Op::AdamW => (&[self.params], &[self.m, self.v]),
        };
        let act = act.iter().map(|slot| download(&mut self.ops, *slot)).collect::<Vec<_>>();
        act.into_iter().chain(stat.iter().map(|slot| download(&mut self.ops, *slot))).collect()
    }
}

fn download<O: Ops, K: Kind<Host = f32>>(ops: &mut O, slot: Slot<K>) -> Result<Vec<f32>> {
    let mut data = vec![0.0; slot.len];
    ops.download(&mut data, slot)?;
    Ok(data)
}

/// ‖got − want‖/‖want‖, the largest over all tensors.
fn relative_error(got: &[Vec<f32>], want: &[Vec<f32>]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let error = |(got, want): (&Vec<f32>, &Vec<f32>)| {
        let off = norm(&mut got.iter().zip(want).map(|(g, w)| f64::from(*g) - f64::from(*w)));
        off / norm(&mut want.iter().map(|w| f64::from(*w))).max(f64::MIN_POSITIVE)
    };
    got.iter().zip(want).map(error).fold(0.0, f64::max)
}

fn threads() -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    std::env::var("WIKIGPT_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or_else(cores)
}

/// A line of the table.
struct Line {
    op: &'static str,
    model: &'static str,
    time: Duration,
    work: Work,
    error: f64,
}

fn main() -> Result {
    let threads = threads();
    let (peak, copy) = (machine::flops(threads), machine::bandwidth(threads));
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    let mut lines = Vec::new();
    for (model, shape) in MODELS {
        // Made when they are first asked for: a filter may leave them out.
        let (mut timed, mut checked) = (None, None);
        for (op, name) in OPS {
            let mut group = criterion.benchmark_group(model);
            // As many runs as samples: the slowest ops take most of a second.
            group.sampling_mode(SamplingMode::Flat);
            let work = op.work(shape);
            group.throughput(match work {
                Work::Flops(count) => Throughput::Elements(count as u64),
                Work::Bytes(count) => Throughput::Bytes(count as u64),
            });
            let mut fastest = None;
            group.bench_function(name, |bencher| {
                let tensors = timed.get_or_insert_with(|| {
                    let cpu = cpu(threads).expect("threads start");
                    Tensors::new(cpu, shape).expect("there is memory")
                });
                bencher.iter_custom(|count| {
                    let mut whole = Duration::ZERO;
                    for _ in 0..count {
                        let start = Instant::now();
                        tensors.run(op).expect("the shapes fit");
                        let time = start.elapsed();
                        fastest = Some(fastest.map_or(time, |fastest: Duration| fastest.min(time)));
                        whole += time;
                    }
                    whole
                });
            });
            group.finish();
            if let Some(time) = fastest {
                let (cpu, reference) = checked.get_or_insert_with(|| {
                    let cpu = cpu(threads).expect("threads start");
                    let make = "there is memory";
                    let (cpu, reference) =
                        (Tensors::new(cpu, shape.reduced()), Tensors::new(Reference::new(), shape.reduced()));
                    (cpu.expect(make), reference.expect(make))
                });
                cpu.run(op)?;
                reference.run(op)?;
                let error = relative_error(&cpu.written(op)?, &reference.written(op)?);
                lines.push(Line { op: name, model, time, work, error });
            }
        }
    }
    // Again, in case the machine was busy the first time.
    let (peak, copy) = (peak.max(machine::flops(threads)), copy.max(machine::bandwidth(threads)));
    table(&lines, threads, peak, copy);
    criterion.final_summary();
    Ok(())
}

fn table(lines: &[Line], threads: usize, peak: f64, copy: f64) {
    println!(
        "\n{threads} threads: f32 peak {:.1} GFLOP/s (multiply-adds on registers), copy {:.1} GB/s\n",
        peak / 1e9,
        copy / 1e9
    );
    println!("{:38} {:5} {:>10} {:>15} {:>7} {:>9}", "op", "shape", "time", "rate", "limit", "error");
    for Line { op, model, time, work, error } in lines {
        let (work, unit, limit) = match work {
            Work::Flops(count) => (*count as f64, "GFLOP/s", peak),
            Work::Bytes(count) => (*count as f64, "GB/s", copy),
        };
        let rate = work / time.as_secs_f64();
        println!(
            "{op:38} {model:5} {:>7.3} ms {:>7.1} {unit:7} {:>6.1}% {error:>9.1e}",
            time.as_secs_f64() * 1e3,
            rate / 1e9,
            100.0 * rate / limit
        );
    }
}
