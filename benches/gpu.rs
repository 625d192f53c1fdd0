//! Each op on the GPU at GPT-2's shapes, and a whole training step, on the device's own clock.
//!
//! ```text
//! cargo bench --bench gpu                       # f32 and bf16
//! cargo bench --bench gpu -- bf16/matmul        # some of it
//! WIKIGPT_CUDA_DEVICE=1 cargo bench --bench gpu # another device than the first
//! ```
//!
//! One table at the end: the fastest time of each op, with nothing of it in the L2 cache; TFLOP/s or GB/s and their share of what the
//! device does at best (multiply-adds on registers alone; a copy); and the relative error against the float64 reference, at the same
//! widths with fewer rows. Without a GPU it says why there is nothing to measure.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use std::time::Duration;

use anyhow::Result;
use criterion::{Criterion, SamplingMode, Throughput};
use wikigpt_gpt::{Batch, Config, Plan, Regularize, Trainer, init};
use wikigpt_kernels::{Gpu, Options, Precision};
use wikigpt_ops::reference::Reference;
use wikigpt_ops::workload::{OPS, Op, Shape, Sizes, Tensors, Work, relative_error};
use wikigpt_ops::{AdamW, Update};

/// GPT-2 124M, eight sequences.
const GPT2: Shape = Shape { B: 8, T: 1024, NH: 12, HS: 64, V: 50_257, Vp: 50_304, parameters: 124_475_904 };
/// Elements of the copy that bandwidth is measured by.
const COPY: usize = 1 << 27;
const ROUNDS: u32 = 1 << 14;

/// A line of the table.
struct Line {
    name: String,
    time: Duration,
    work: Work,
    /// FLOP/s or B/s.
    limit: f64,
    error: Option<f64>,
}

fn main() -> Result<()> {
    let ordinal = std::env::var("WIKIGPT_CUDA_DEVICE").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    let mut lines = Vec::new();
    for (name, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
        let open = || Gpu::open(Options::new(ordinal, precision));
        match open() {
            Ok(mut gpu) => {
                let (peak, copy) = (gpu.peak(ROUNDS)?, gpu.copy_bandwidth(COPY)?);
                let device = &gpu.info().name;
                println!(
                    "{device}, {name}: {:.1} TFLOP/s on registers, copy {:.0} GB/s",
                    peak / 1e12,
                    copy / 1e9
                );
                ops(&mut criterion, name, &open, (peak, copy), &mut lines)?;
                step(&mut criterion, name, gpu, peak, &mut lines)?;
            }
            Err(why) => println!("left out: the GPU in {name}: {why}"),
        }
    }
    table(&lines);
    criterion.final_summary();
    Ok(())
}

/// Times every op.
fn ops(
    criterion: &mut Criterion,
    precision: &str,
    open: &dyn Fn() -> Result<Gpu, wikigpt_kernels::Error>,
    (peak, copy): (f64, f64),
    lines: &mut Vec<Line>,
) -> Result<()> {
    // Made when they are first asked for: a filter may leave them out.
    let (mut timed, mut checked) = (None, None);
    let sizes = Sizes { act: if precision == "bf16" { 2 } else { 4 }, grad: 4 };
    let mut group = criterion.benchmark_group(precision);
    group.sampling_mode(SamplingMode::Flat);
    for (op, name) in OPS {
        let work = op.work(GPT2, sizes);
        group.throughput(match work {
            Work::Flops(count) => Throughput::Elements(count as u64),
            Work::Bytes(count) => Throughput::Bytes(count as u64),
        });
        let mut fastest = None;
        group.bench_function(name, |bencher| {
            let tensors = timed.get_or_insert_with(|| {
                Tensors::new(open().expect("it was opened before"), GPT2).expect("there is memory")
            });
            bencher.iter_custom(|count| {
                let times = (0..count).map(|_| time(tensors, op).expect("the device works"));
                times.inspect(|time| fastest = Some(fastest.map_or(*time, |f: Duration| f.min(*time)))).sum()
            });
        });
        if let Some(time) = fastest {
            if checked.is_none() {
                let shape = GPT2.reduced();
                checked = Some((Tensors::new(open()?, shape)?, Tensors::new(Reference::new(), shape)?));
            }
            let error = checked.as_mut().map(|(gpu, reference)| error(gpu, reference, op)).transpose()?;
            let limit = if matches!(work, Work::Flops(_)) { peak } else { copy };
            lines.push(Line { name: format!("{precision}/{name}"), time, work, limit, error });
        }
    }
    group.finish();
    Ok(())
}

/// One run of an op, with nothing of it in the cache.
fn time(tensors: &mut Tensors<Gpu>, op: Op) -> wikigpt_ops::Result<Duration> {
    tensors.backend().flush_cache()?;
    let first = tensors.backend().mark()?;
    tensors.run(op)?;
    let second = tensors.backend().mark()?;
    tensors.backend().between(&first, &second)
}

/// How far an op is from the reference.
fn error(gpu: &mut Tensors<Gpu>, reference: &mut Tensors<Reference>, op: Op) -> wikigpt_ops::Result<f64> {
    gpu.run(op)?;
    reference.run(op)?;
    Ok(relative_error(&gpu.written(op)?, &reference.written(op)?))
}

/// Times a whole step: batch staged, forward, backward, clipping, AdamW.
fn step(
    criterion: &mut Criterion,
    precision: &str,
    gpu: Gpu,
    peak: f64,
    lines: &mut Vec<Line>,
) -> Result<()> {
    let Shape { B, T, V, .. } = GPT2;
    let config = Config { context: T, ..Config::preset("gpt2", V)? };
    let flops = Plan::new(&config, B, T, true, 4, 4)?.flops_per_token as usize * B * T;
    let mut group = criterion.benchmark_group(precision);
    group.throughput(Throughput::Elements((B * T) as u64));
    let (mut gpu, mut trainer, mut fastest) = (Some(gpu), None, None);
    let token = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as u32 % V as u32;
    let (inputs, targets): (Vec<u32>, Vec<u32>) =
        ((0..B * T).map(token).collect(), (1..=B * T).map(token).collect());
    group.bench_function("step", |bencher| {
        let trainer = trainer.get_or_insert_with(|| {
            let gpu = gpu.take().expect("it is taken once");
            let mut trainer = Trainer::new(gpu, &config, B, T).expect("there is memory");
            trainer.set_params(&init(&config, 1).expect("a shape")).expect("as many as there are");
            trainer
        });
        let mut one = || -> wikigpt_gpt::Result<Duration> {
            let first = trainer.backend().mark()?;
            let scale = 1.0 / (B * T) as f32;
            trainer.accumulate(Batch::new(&inputs, &targets), scale, Regularize::NONE, Update::Set)?;
            trainer.update(AdamW::default())?;
            let second = trainer.backend().mark()?;
            trainer.report()?;
            Ok(trainer.backend().between(&first, &second)?)
        };
        bencher.iter_custom(|count| {
            let times = (0..count).map(|_| one().expect("a step succeeds"));
            times.inspect(|time| fastest = Some(fastest.map_or(*time, |f: Duration| f.min(*time)))).sum()
        });
    });
    group.finish();
    if let Some(time) = fastest {
        println!("{precision}/step: {:.0} tokens/s", (B * T) as f64 / time.as_secs_f64());
        let name = format!("{precision}/step");
        lines.push(Line { name, time, work: Work::Flops(flops), limit: peak, error: None });
    }
    Ok(())
}

fn table(lines: &[Line]) {
    if lines.is_empty() {
        return;
    }
    println!("\n{:46} {:>10} {:>15} {:>7} {:>9}", "op", "time", "rate", "limit", "error");
    for Line { name, time, work, limit, error } in lines {
        let (work, unit, scale) = match work {
            Work::Flops(count) => (*count as f64, "TFLOP/s", 1e12),
            Work::Bytes(count) => (*count as f64, "GB/s", 1e9),
        };
        let rate = work / time.as_secs_f64();
        let error = error.map_or(String::new(), |error| format!("{error:.1e}"));
        println!(
            "{name:46} {:>7.3} ms {:>7.1} {unit:7} {:>6.1}% {error:>9}",
            time.as_secs_f64() * 1e3,
            rate / scale,
            100.0 * rate / limit
        );
    }
}
