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
use wikigpt_ops::Result;
use wikigpt_ops::reference::Reference;
use wikigpt_ops::workload::{OPS, Shape, Sizes, Tensors, Work, relative_error};

const MODELS: [(&str, Shape); 3] = [
    ("S", Shape { B: 16, T: 128, NH: 4, HS: 32, V: 256, Vp: 256, parameters: 1 << 20 }),
    ("M", Shape { B: 8, T: 256, NH: 6, HS: 64, V: 256, Vp: 256, parameters: 11 << 20 }),
    ("G", Shape { B: 2, T: 256, NH: 12, HS: 64, V: 50_257, Vp: 50_304, parameters: 32 << 20 }),
];

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
            let work = op.work(shape, Sizes { act: 4, grad: 4 });
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
