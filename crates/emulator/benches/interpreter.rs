//! How fast kernels are interpreted on one thread of the host: lane-instructions per second (the elements of criterion's
//! throughput), counted by the interpreter itself.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wikigpt_emulator::check;
use wikigpt_emulator::counters::Counters;
use wikigpt_emulator::device::Device;
use wikigpt_emulator::exec::{Launch, grid};
use wikigpt_emulator::memory::Memory;
use wikigpt_emulator::program::Program;
use wikigpt_emulator::ptx::parse;

const BLOCKS: u32 = 4;
const THREADS: u32 = 256;

/// A kernel with one parameter, the address of an array.
struct Kernel {
    program: Program,
    memory: Memory,
    params: [u8; 8],
}

impl Kernel {
    fn new(body: &str) -> Kernel {
        let text = format!(
            ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 k_param_0)\n{{
             .reg .pred %p<4>; .reg .f32 %f<32>; .reg .b32 %r<8>; .reg .b64 %d<8>;
             .shared .align 16 .b8 tile[16384];
             ld.param.u64 %d0, [k_param_0]; cvta.to.global.u64 %d0, %d0;
             mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x; mad.lo.s32 %r3, %r0, %r1, %r2;
             mul.wide.s32 %d1, %r3, 16; add.s64 %d1, %d0, %d1;
             {body}
             ret;\n}}\n"
        );
        let module = parse(&text).expect("it is PTX");
        let device = Device::of("sm_90a").expect("it is known");
        let program = Program::decode(&module, "k", &|_| None, device).expect("it is a kernel");
        let memory = Memory::default();
        let array = memory.allocate(1 << 24).expect("there is room");
        array.write(0, &vec![0; 1 << 24]);
        let params = array.base.to_le_bytes();
        Kernel { program, memory, params }
    }

    fn run(&self, all_checks: bool) -> Counters {
        let launch = Launch {
            program: &self.program,
            params: &self.params,
            grid: [BLOCKS, 1, 1],
            threads: [THREADS, 1, 1],
            cluster: [1, 1, 1],
            dynamic_shared: 0,
            memory: &self.memory,
            device: Device::of("sm_90a").expect("it is known"),
            number: 1,
            workspace: 0,
        };
        let check = if all_checks { check::Options::ALL } else { check::Options::NONE };
        let options = grid::Options { threads: 1, check, patience: grid::Options::PATIENCE };
        grid::run(&launch, &options, &mut Vec::new(), &mut |_| {}).expect("it has no fault")
    }
}

/// 100 rounds of 64 fused multiplications and additions, in eight chains.
fn float() -> Kernel {
    let chain = |at: u32| format!("fma.rn.f32 %f{}, %f{}, 0f3F7FF000, 0f3A83126F;\n", at % 8, at % 8);
    let chains: String = (0..64).map(chain).collect();
    let first: String = (0..8).map(|at| format!("mov.f32 %f{at}, 0f3F800000;\n")).collect();
    let sum: String = (1..8).map(|at| format!("add.f32 %f0, %f0, %f{at};\n")).collect();
    Kernel::new(&format!(
        "{first} mov.u32 %r4, 0;
       LOOP:
         {chains}
         add.s32 %r4, %r4, 1; setp.lt.s32 %p0, %r4, 100; @%p0 bra LOOP;
         {sum} st.global.f32 [%d1], %f0;"
    ))
}

/// 100 rounds that load 16 bytes a thread, scale them and store them.
fn global() -> Kernel {
    let scale: String = (0..4).map(|at| format!("mul.f32 %f{at}, %f{at}, 0f3F800000;\n")).collect();
    Kernel::new(&format!(
        "mov.u32 %r4, 0;
       LOOP:
         ld.global.v4.f32 {{%f0, %f1, %f2, %f3}}, [%d1];
         {scale}
         st.global.v4.f32 [%d1], {{%f0, %f1, %f2, %f3}};
         add.s64 %d1, %d1, 16384; add.s32 %r4, %r4, 1; setp.lt.s32 %p0, %r4, 100; @%p0 bra LOOP;"
    ))
}

/// 100 rounds in which a block passes values through shared memory, with two barriers each.
fn shared() -> Kernel {
    Kernel::new(
        "mov.u32 %r4, 0; mov.u32 %r5, tile; shl.b32 %r6, %r2, 2; add.s32 %r6, %r6, %r5; xor.b32 %r7, %r6, 128;
         mov.f32 %f0, 0f3F800000;
       LOOP:
         st.shared.f32 [%r6], %f0;
         bar.sync 0;
         ld.shared.f32 %f1, [%r7];
         fma.rn.f32 %f0, %f0, 0f3F000000, %f1;
         bar.sync 0;
         add.s32 %r4, %r4, 1; setp.lt.s32 %p0, %r4, 100; @%p0 bra LOOP;
         st.global.f32 [%d1], %f0;",
    )
}

fn interpreter(criterion: &mut Criterion) {
    for (name, kernel) in [("float", float()), ("global", global()), ("shared", shared())] {
        let mut group = criterion.benchmark_group(name);
        let lanes: u64 = kernel.run(false).lane_instructions.iter().sum();
        group.throughput(Throughput::Elements(lanes));
        for (checks, all) in [("no checks", false), ("all checks", true)] {
            group.bench_function(checks, |bencher| bencher.iter(|| black_box(kernel.run(all))));
        }
        group.finish();
    }
}

criterion_group!(benches, interpreter);
criterion_main!(benches);
