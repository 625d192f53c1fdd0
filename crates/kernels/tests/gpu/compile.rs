//! Every program that models ask for, for every architecture that there are kernels for.

use std::sync::Mutex;
use std::thread;

use wikigpt_kernels::nvrtc::Nvrtc;
use wikigpt_kernels::{Arch, Constant, Precision, Program, source};
use wikigpt_ops::workload::{OPS, Shape, Tensors};

use crate::rig::gpu;

/// GPT-2's widths and few rows: programs depend on the widths.
const GPT2: Shape = Shape { B: 1, T: 8, NH: 12, HS: 64, V: 100, Vp: 128, parameters: 1000 };
/// What else a program is specialised on: the other heads that tensor cores multiply, the largest that they do not, and the channels of
/// GPT-2's larger sizes.
const OTHERS: [(Shape, &str); 5] = [
    (Shape { NH: 1, HS: 128, ..GPT2 }, "attention_"),
    (Shape { NH: 1, HS: 256, ..GPT2 }, "attention_"),
    (Shape { NH: 16, ..GPT2 }, "layernorm_"),
    (Shape { NH: 20, ..GPT2 }, "layernorm_"),
    (Shape { NH: 25, ..GPT2 }, "layernorm_"),
];

/// The programs of the ops whose names begin so, in a precision.
fn programs(precision: Precision, shape: Shape, prefix: &str) -> Vec<Program> {
    let mut tensors = Tensors::new(gpu(precision, Precision::F32), shape).unwrap();
    for (op, name) in OPS.into_iter().filter(|(_, name)| name.starts_with(prefix)) {
        tensors.run(op).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(tensors.backend().peak(1).unwrap() > 0.0);
    let mut programs = tensors.backend().compiler().programs().to_vec();
    // Few rows get small tiles only.
    let large = |(name, constant): (&'static str, Constant)| {
        (name, if name.starts_with("BLOCK_") { Constant::Number(128) } else { constant })
    };
    for i in 0..programs.len() {
        let defines: Vec<_> = programs[i].defines.iter().copied().map(large).collect();
        if defines != programs[i].defines {
            programs.push(Program { defines, ..programs[i] });
        }
    }
    programs
}

#[test]
fn no_warning_and_no_register_in_memory() {
    let archs = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)];
    let mut work = Vec::new();
    for precision in [Precision::F32, Precision::Bf16] {
        let oldest = if precision == Precision::F32 { (7, 5) } else { (8, 0) };
        let mut add = |programs: Vec<Program>, archs: &[(u32, u32)]| {
            for arch in archs.iter().filter(|arch| **arch >= oldest) {
                work.extend(programs.iter().map(|program| (program.clone(), Arch::of(*arch))));
            }
        };
        add(programs(precision, GPT2, ""), &archs);
        for (shape, prefix) in OTHERS {
            add(programs(precision, shape, prefix), &[(8, 0), (9, 0)]);
        }
    }
    let unused =
        source::ALL.iter().filter(|source| work.iter().all(|(program, _)| program.source != **source));
    assert_eq!(
        unused.map(|source| source.name).collect::<Vec<_>>(),
        Vec::<&str>::new(),
        "no op asks for these"
    );

    let (work, wrong) = (Mutex::new(work), Mutex::new(Vec::new()));
    let compile = || {
        let nvrtc = Nvrtc::find().unwrap();
        while let Some((program, arch)) = { work.lock().unwrap().pop() } {
            let what = format!("{} for {}", program.name(), arch.name());
            match program.resources(&nvrtc, arch) {
                Err(said) => wrong.lock().unwrap().push(format!("{what}: {said}")),
                Ok(kernels) => {
                    assert!(!kernels.is_empty(), "{what} has no kernel");
                    let spilling = kernels.into_iter().filter(|k| k.stack > 0 || k.spills != (0, 0));
                    wrong.lock().unwrap().extend(spilling.map(|kernel| format!("{what}: {kernel:?}")));
                }
            }
        }
    };
    thread::scope(|scope| {
        (0..thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(compile)));
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
