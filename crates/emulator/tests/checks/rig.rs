//! What the tests share: a kernel from the text of its body, run with all checks.

use wikigpt_emulator::check;
use wikigpt_emulator::device::Device;
use wikigpt_emulator::exec::{Launch, grid};
use wikigpt_emulator::fault::{FaultKind, Report};
use wikigpt_emulator::memory::Memory;
use wikigpt_emulator::program::Program;
use wikigpt_emulator::ptx::parse;

/// Registers; 4 KiB of shared memory `s` and four mbarriers `m`; the addresses of two arrays, of which nobody has written the
/// second, in `%out` and `%raw`; `%tid`, `%cta`; `%own` is the thread's word in `s`, `%mine` that of the grid in `%out`.
const PROLOGUE: &str = "
    .shared .align 1024 .b8 s[8192];
    .shared .align 8 .b64 m[4];
    .reg .pred %p<8>;
    .reg .b32 %r<32>;
    .reg .f32 %f<8>;
    .reg .b64 %d<16>;
    .reg .b32 %tid, %cta, %own, %base, %bar;
    .reg .b64 %out, %raw, %mine;
    ld.param.u64 %out, [k_param_0];
    ld.param.u64 %raw, [k_param_1];
    mov.u32 %tid, %tid.x;
    mov.u32 %cta, %ctaid.x;
    mov.u32 %base, s;
    mov.u32 %bar, m;
    mad.lo.u32 %own, %tid, 4, %base;
    mov.u32 %r0, %ntid.x;
    mad.lo.u32 %r0, %r0, %cta, %tid;
    mul.wide.u32 %mine, %r0, 4;
    add.u64 %mine, %mine, %out;
    setp.eq.u32 %p0, %tid, 0;
    setp.eq.u32 %p1, %cta, 0;
";

/// Blocks, threads of each, blocks of a cluster.
#[derive(Clone, Copy)]
pub struct Shape(pub u32, pub u32, pub u32);

/// Runs a kernel with this body and all checks.
pub fn run(shape: Shape, body: &str) -> Result<(), Box<Report>> {
    run_with(check::Options::ALL, shape, body).map(drop)
}

/// Runs a kernel with this body; what was found and did not end it, and the words of `%out`.
pub fn run_with(
    check: check::Options,
    Shape(blocks, threads, cluster): Shape,
    body: &str,
) -> Result<(Vec<Report>, Vec<u32>), Box<Report>> {
    let text = format!(
        ".version 8.6\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 k_param_0, .param .u64 k_param_1)\n{{{PROLOGUE}{body}\nret;\n}}\n"
    );
    let module = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let device = Device::of("sm_90a").expect("it is known");
    let memory = Memory::default();
    let program = Program::decode(&module, "k", &|_: &str| None, device);
    let program = program.unwrap_or_else(|error| panic!("{error}\n{text}"));
    let [out, raw] = [8192, 8192].map(|bytes| memory.allocate(bytes).expect("room"));
    out.write(0, &[0; 8192]);
    let params: Vec<u8> = [out.base, raw.base].iter().flat_map(|base| base.to_le_bytes()).collect();
    let launch = Launch {
        program: &program,
        params: &params,
        grid: [blocks, 1, 1],
        threads: [threads, 1, 1],
        cluster: [cluster, 1, 1],
        dynamic_shared: 0,
        memory: &memory,
        device,
        number: 1,
        workspace: 0,
    };
    let options = grid::Options { threads: 2, check, patience: grid::Options::PATIENCE };
    let mut found = Vec::new();
    grid::run(&launch, &options, &mut Vec::new(), &mut |report| found.push(report.clone()))?;
    let mut bytes = [0; 8192];
    out.read(0, &mut bytes);
    let words = bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")));
    Ok((found, words.collect()))
}

/// A body with one line at fault: without the line (an empty one), or with another instead, it must be reported with this kind and
/// these words; with it, it must pass in silence.
#[track_caller]
pub fn pair(shape: Shape, body: &str, right: &str, wrong: &str, kind: FaultKind, words: &[&str]) {
    if let Err(report) = run(shape, &body.replace("@@", right)) {
        panic!("the corrected kernel is refused: {report}");
    }
    let report = match run(shape, &body.replace("@@", wrong)) {
        Ok(()) => panic!("the fault was not seen"),
        Err(report) => report,
    };
    let text = report.to_string();
    assert_eq!(report.fault.kind, kind, "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in: {text}"));
}
