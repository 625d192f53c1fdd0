//! Kernels with a planted fault for each thing that is checked, and their corrected twins.

use crate::api::{cu, ok};
use crate::harness::{
    Context, PTX, child, function, is_child, launch, module, name, refused, stderr, upload,
};
use crate::kernels::compile;

const SOURCE: &str = include_str!("../kernels/faults.cu");

/// What a fault is: kernel, blocks, threads of a block, code, part of the report, whether its line is the marked one (else
/// it lies in a function that was inlined).
type Fault = (&'static str, u32, u32, &'static str, &'static str, bool);

const FAULTS: &[Fault] = &[
    (
        "past_the_end",
        5,
        64,
        "CUDA_ERROR_ILLEGAL_ADDRESS",
        "past the end of the allocation of 1024 bytes",
        true,
    ),
    ("misaligned", 1, 64, "CUDA_ERROR_MISALIGNED_ADDRESS", "multiple", true),
    ("past_shared", 1, 64, "CUDA_ERROR_ILLEGAL_ADDRESS", "shared memory", true),
    ("unwritten_shared", 1, 64, "CUDA_ERROR_LAUNCH_FAILED", "nobody has written", true),
    ("unwritten_global", 1, 64, "CUDA_ERROR_LAUNCH_FAILED", "nobody has written", true),
    ("shared_race", 1, 64, "CUDA_ERROR_LAUNCH_FAILED", "shared memory of block 0", true),
    ("overwritten_too_soon", 1, 64, "CUDA_ERROR_LAUNCH_FAILED", "races with an earlier", true),
    ("global_race", 2, 64, "CUDA_ERROR_LAUNCH_FAILED", "races with an earlier", true),
    ("missing_fence", 2, 32, "CUDA_ERROR_LAUNCH_FAILED", "no release and acquire order the two", true),
    ("barrier_of_some", 1, 64, "CUDA_ERROR_LAUNCH_FAILED", "lanes ", true),
    ("barrier_of_one_warp", 1, 64, "CUDA_ERROR_LAUNCH_TIMEOUT", "deadlock", true),
    ("copy_not_waited_for", 1, 64, "CUDA_ERROR_LAUNCH_FAILED", "while a cp.async writes there", true),
    ("bulk_read_too_soon", 1, 64, "CUDA_ERROR_LAUNCH_FAILED", "while a bulk copy writes there", true),
    ("missing_proxy_fence", 1, 64, "CUDA_ERROR_LAUNCH_FAILED", "fence.proxy.async", true),
    ("source_overwritten", 1, 64, "CUDA_ERROR_LAUNCH_FAILED", "while a bulk copy reads there", true),
    ("one_arrival_too_many", 1, 32, "CUDA_ERROR_LAUNCH_FAILED", "arrivals", true),
    ("barrier_without_init", 1, 32, "CUDA_ERROR_LAUNCH_FAILED", "none is initialised there", false),
    ("too_few_bytes", 1, 32, "CUDA_ERROR_LAUNCH_TIMEOUT", "deadlock", false),
    ("operands_overwritten", 1, 128, "CUDA_ERROR_LAUNCH_FAILED", "wgmma", true),
    ("sums_not_waited_for", 1, 128, "CUDA_ERROR_LAUNCH_FAILED", "register of D of a wgmma in flight", true),
    ("arrival_at_the_dead", 2, 64, "CUDA_ERROR_LAUNCH_FAILED", "has ended", false),
    ("trap", 1, 64, "CUDA_ERROR_LAUNCH_FAILED", "trap", true),
    ("assertion", 1, 64, "CUDA_ERROR_ASSERT", "assertion `inp[3] == 0` failed", true),
];

/// Runs a kernel in a context of its own; the code of the next call that waits.
fn run(ptx: &str, kernel: &str, blocks: u32, threads: u32) -> u32 {
    let _context = Context::new();
    let kernel = std::ffi::CString::new(kernel).unwrap();
    let function = function(module(ptx), &kernel);
    let inp = upload(&[1_u32; 256]);
    // Twice as long where a part is to stay unwritten.
    let unwritten = kernel.to_bytes().starts_with(b"unwritten_global");
    let mut out = 0;
    ok!(cuMemAlloc_v2(&mut out, if unwritten { 2048 } else { 1024 }));
    ok!(cuMemsetD32_v2(out, 0, 256));
    assert_eq!(launch(function, blocks, threads, &[&out, &inp]), 0);
    cu!(cuCtxSynchronize())
}

#[test]
fn every_planted_fault_is_reported_with_its_line() {
    const TEST: &str = "faults::every_planted_fault_is_reported_with_its_line";
    let Some(ptx) = compile(SOURCE, "faults.cu", &[]) else { return };
    let ptx = ptx.to_src();
    if is_child() {
        for (kernel, blocks, threads, ..) in FAULTS {
            let code = run(&ptx, &format!("{kernel}_bad"), *blocks, *threads);
            eprintln!("case {kernel} {}", name(code));
        }
        return;
    }
    let text = stderr(&child(TEST, &[]));
    let mut wrong = Vec::new();
    let mut rest = text.as_str();
    for (kernel, _, _, code, part, marked) in FAULTS {
        let (report, after) =
            rest.split_once(&format!("case {kernel} ")).expect("every case ends with its code");
        let (got, after) = after.split_once('\n').expect("a line");
        rest = after;
        let start = SOURCE.find(&format!("void {kernel}(")).expect("the kernel is in the file");
        let line = SOURCE[..start + SOURCE[start..].find("// here").unwrap_or_default()].lines().count();
        let place = if *marked { format!("faults.cu:{line}]") } else { "faults.cu:".to_owned() };
        let named = report.contains(&format!("in kernel {kernel}_bad, block ("));
        if got != *code || !named || !report.contains(part) || !report.contains(&place) {
            wrong.push(format!("{kernel}: expected {code}, \"{part}\", {place}; got {got}:\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_corrected_twin_is_silent() {
    let Some(ptx) = compile(SOURCE, "faults.cu", &[]) else { return };
    let ptx = ptx.to_src();
    for (kernel, blocks, threads, ..) in FAULTS {
        let code = run(&ptx, &format!("{kernel}_good"), *blocks, *threads);
        assert_eq!(name(code), "CUDA_SUCCESS", "{kernel}");
    }
}

#[test]
fn what_is_not_to_be_checked_is_not() {
    const TEST: &str = "faults::what_is_not_to_be_checked_is_not";
    let Some(ptx) = compile(SOURCE, "faults.cu", &[]) else { return };
    let ptx = ptx.to_src();
    if is_child() {
        for (kernel, blocks) in [("unwritten_shared", 1), ("overwritten_too_soon", 1), ("past_the_end", 5)] {
            eprintln!("case {kernel} {}", name(run(&ptx, &format!("{kernel}_bad"), blocks, 64)));
        }
        return;
    }
    let failed = |check: &str, kernel: &str| {
        let text = stderr(&child(TEST, &[("WIKIGPT_EMU_CHECK", check)]));
        !text.contains(&format!("case {kernel} CUDA_SUCCESS"))
    };
    // Addresses are always checked: without memory there is nothing to read.
    for (check, unwritten, race) in
        [("none", false, false), ("races", false, true), ("uninitialized", true, false)]
    {
        assert_eq!(failed(check, "unwritten_shared"), unwritten, "{check}");
        assert_eq!(failed(check, "overwritten_too_soon"), race, "{check}");
        assert!(failed(check, "past_the_end"), "{check}");
    }
}

#[test]
fn a_launch_fails_when_the_environment_says_so() {
    const TEST: &str = "faults::a_launch_fails_when_the_environment_says_so";
    if is_child() {
        let _context = Context::new();
        let add = function(module(PTX), c"add");
        let values = upload(&[1_u32, 2, 3, 4, 5]);
        let codes: Vec<u32> = (0..3)
            .map(|_| {
                refused(launch(add, 1, 32, &[&values, &4_u32, &10_u32]), 0);
                cu!(cuCtxSynchronize())
            })
            .take_while(|code| *code == 0)
            .collect();
        println!("{} launches", codes.len());
        return;
    }
    for (fail, launches) in [("add", 0), ("add:2", 1), ("add:4", 3), ("subtract", 3)] {
        let output = child(TEST, &[("WIKIGPT_EMU_FAIL", fail)]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&format!("{launches} launches")), "{fail}: {text}");
        let told =
            String::from_utf8_lossy(&output.stderr).contains("WIKIGPT_EMU_FAIL asked for in kernel add");
        assert_eq!(told, launches < 3, "{fail}");
    }
}
