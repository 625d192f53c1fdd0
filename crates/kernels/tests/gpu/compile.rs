//! Every program that a model of GPT-2's widths asks for, for every architecture that there are kernels for.

use std::sync::Mutex;
use std::thread;

use wikigpt_kernels::nvrtc::Nvrtc;
use wikigpt_kernels::{Arch, Precision, Program, source};
use wikigpt_ops::workload::{OPS, Shape, Tensors};

use crate::rig::gpu;

/// Few rows: programs depend on the widths.
const SHAPE: Shape = Shape { B: 1, T: 8, NH: 12, HS: 64, V: 100, Vp: 128, parameters: 1000 };

/// The programs of all ops in a precision.
fn programs(precision: Precision) -> Vec<Program> {
    let mut tensors = Tensors::new(gpu(precision, Precision::F32), SHAPE).unwrap();
    for (op, name) in OPS {
        tensors.run(op).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(tensors.backend().peak(1).unwrap() > 0.0);
    tensors.backend().compiler().programs().to_vec()
}

#[test]
fn no_warning_and_no_register_in_memory() {
    let archs = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)];
    let mut work = Vec::new();
    for precision in [Precision::F32, Precision::Bf16] {
        let programs = programs(precision);
        let oldest = if precision == Precision::F32 { (7, 5) } else { (8, 0) };
        for arch in archs.into_iter().filter(|arch| *arch >= oldest) {
            work.extend(programs.iter().map(|program| (program.clone(), Arch::of(arch))));
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
