//! The conformance suite, in full, on the CPU backend: for 1, 2 and 3 threads and for every instruction set that this
//! machine has.

use wikigpt_cpu::{Cpu, CpuKernels, Level};
use wikigpt_ops::conformance::{self, Level as Extent};

#[test]
fn conforms_on_1_2_and_3_threads() {
    for threads in 1..=3 {
        let report = conformance::run(&mut wikigpt_cpu::cpu(threads).unwrap(), Extent::Full);
        assert!(report.passed(), "{threads} threads: {report}");
    }
}

#[test]
fn conforms_in_every_instruction_set() {
    for level in Level::available() {
        let mut cpu = Cpu::with(CpuKernels::new(2, level).unwrap());
        let report = conformance::run(&mut cpu, Extent::Full);
        assert!(report.passed(), "{level:?}: {report}");
    }
}
