//! Launches: what is refused, with which code, and why.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use crate::api::{self, cu, ok};
use crate::harness::{Context, PTX, child, download, function, is_child, module, refused, stderr, upload};

/// `CUlaunchConfig`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Config {
    pub grid: [u32; 3],
    pub threads: [u32; 3],
    pub shared: u32,
    pub stream: usize,
    pub attributes: *const Attribute,
    pub count: u32,
}

/// `CUlaunchAttribute`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Attribute {
    id: u32,
    pad: u32,
    value: [u32; 16],
}

impl Attribute {
    pub fn new(id: u32, start: &[u32]) -> Attribute {
        let mut value = [0; 16];
        value[..start.len()].copy_from_slice(start);
        Attribute { id, pad: 0, value }
    }
}

impl Config {
    pub fn new(grid: [u32; 3], threads: [u32; 3], attributes: &[Attribute]) -> Config {
        let count = attributes.len() as u32;
        Config { grid, threads, shared: 0, stream: 0, attributes: attributes.as_ptr(), count }
    }
}

/// Parameters of the kernel `add` that add to nothing.
struct Nothing {
    address: u64,
    count: u32,
    amount: u32,
}

impl Nothing {
    const NEW: Nothing = Nothing { address: 0, count: 0, amount: 0 };

    fn pointers(&self) -> [*mut c_void; 3] {
        let (address, count, amount) =
            (&raw const self.address, &raw const self.count, &raw const self.amount);
        [address.cast_mut().cast(), count.cast_mut().cast(), amount.cast_mut().cast()]
    }
}

fn launch(function: usize, grid: [u32; 3], threads: [u32; 3], shared: u32) -> u32 {
    let nothing = Nothing::NEW;
    let mut pointers = nothing.pointers();
    let ([x, y, z], [a, b, c]) = (grid, threads);
    cu!(cuLaunchKernel(function, x, y, z, a, b, c, shared, 0, pointers.as_mut_ptr(), null_mut()))
}

fn launch_ex(function: usize, config: &Config) -> u32 {
    let nothing = Nothing::NEW;
    let mut pointers = nothing.pointers();
    cu!(cuLaunchKernelEx(std::ptr::from_ref(config).cast(), function, pointers.as_mut_ptr(), null_mut()))
}

/// The kernel `add` with directives.
fn add(directives: &str) -> usize {
    let text = PTX.replace(".param .u32 add_amount)\n", &format!(".param .u32 add_amount)\n{directives}\n"));
    function(module(&text.replace(".version 8.0\n.target sm_80", ".version 8.0\n.target sm_90")), c"add")
}

#[test]
fn grids_and_blocks_out_of_range_are_refused() {
    let _context = Context::new();
    let add = add("");
    refused(launch(add, [1, 1, 1], [1, 1, 1], 0), 0);
    refused(launch(add, [1, 2, 3], [16, 16, 4], 0), 0);
    for axis in 0..3 {
        let with = |value: u32| std::array::from_fn(|at| if at == axis { value } else { 1 });
        refused(launch(add, with(0), [1; 3], 0), api::INVALID_VALUE);
        refused(launch(add, [1; 3], with(0), 0), api::INVALID_VALUE);
        refused(launch(add, with([1 << 31, 65536, 65536][axis]), [1; 3], 0), api::INVALID_VALUE);
        refused(launch(add, [1; 3], with([1025, 1025, 65][axis]), 0), api::INVALID_VALUE);
    }
    refused(launch(add, [1; 3], [1024, 2, 1], 0), api::INVALID_VALUE);
    refused(launch(add, [1; 3], [32, 32, 2], 0), api::INVALID_VALUE);
    refused(launch(0, [1; 3], [1; 3], 0), api::INVALID_HANDLE);
    refused(launch(add + 8, [1; 3], [1; 3], 0), api::INVALID_HANDLE);
    ok!(cuCtxSynchronize());
}

#[test]
fn directives_bound_the_block() {
    let _context = Context::new();
    let most = add(".maxntid 64, 2, 1");
    refused(launch(most, [1; 3], [128, 1, 1], 0), 0);
    refused(launch(most, [1; 3], [129, 1, 1], 0), api::INVALID_VALUE);
    let exactly = add(".reqntid 8, 4, 1");
    refused(launch(exactly, [1; 3], [8, 4, 1], 0), 0);
    refused(launch(exactly, [1; 3], [32, 1, 1], 0), api::INVALID_VALUE);
    let many_registers = add(".maxnreg 128");
    refused(launch(many_registers, [1; 3], [512, 1, 1], 0), 0);
    refused(launch(many_registers, [1; 3], [513, 1, 1], 0), api::LAUNCH_OUT_OF_RESOURCES);
}

#[test]
fn dynamic_shared_memory_is_bounded_by_what_was_asked_for() {
    let _context = Context::new();
    let add = add("");
    refused(launch(add, [1; 3], [1; 3], 48 << 10), 0);
    refused(launch(add, [1; 3], [1; 3], (48 << 10) + 1), api::INVALID_VALUE);
    ok!(cuFuncSetAttribute(add, 8, 100_000));
    refused(launch(add, [1; 3], [1; 3], 100_000), 0);
    refused(launch(add, [1; 3], [1; 3], 100_001), api::INVALID_VALUE);
    ok!(cuFuncSetAttribute(add, 8, 8));
    refused(launch(add, [1; 3], [1; 3], 9), api::INVALID_VALUE);
}

#[test]
fn clusters_fit_the_grid_the_kernel_and_the_device() {
    let _context = Context::new();
    let plain = add("");
    let with = |function, grid: [u32; 3], cluster: [u32; 3]| {
        launch_ex(function, &Config::new(grid, [32, 1, 1], &[Attribute::new(4, &cluster)]))
    };
    refused(with(plain, [4, 2, 1], [2, 2, 1]), 0);
    refused(with(plain, [8, 1, 1], [8, 1, 1]), 0);
    refused(with(plain, [5, 1, 1], [2, 1, 1]), api::INVALID_CLUSTER_SIZE);
    refused(with(plain, [4, 1, 1], [0, 1, 1]), api::INVALID_CLUSTER_SIZE);
    refused(with(plain, [16, 1, 1], [16, 1, 1]), api::INVALID_CLUSTER_SIZE);
    ok!(cuFuncSetAttribute(plain, 14, 1));
    refused(with(plain, [16, 1, 1], [16, 1, 1]), 0);
    refused(with(plain, [32, 1, 1], [32, 1, 1]), api::INVALID_CLUSTER_SIZE);
    let fixed = add(".explicitcluster\n.reqnctapercluster 2, 1, 1");
    refused(with(fixed, [4, 1, 1], [2, 1, 1]), 0);
    refused(launch(fixed, [4, 1, 1], [32, 1, 1], 0), 0);
    refused(launch(fixed, [3, 1, 1], [32, 1, 1], 0), api::INVALID_CLUSTER_SIZE);
    refused(with(fixed, [4, 1, 1], [4, 1, 1]), api::INVALID_CLUSTER_SIZE);
    let open = add(".explicitcluster");
    refused(launch(open, [4, 1, 1], [32, 1, 1], 0), api::INVALID_CLUSTER_SIZE);
    refused(with(open, [4, 1, 1], [2, 1, 1]), 0);
    let set = add("");
    for (attribute, size) in [(11, 4), (12, 1), (13, 1)] {
        ok!(cuFuncSetAttribute(set, attribute, size));
    }
    refused(launch(set, [6, 1, 1], [32, 1, 1], 0), api::INVALID_CLUSTER_SIZE);
    refused(launch(set, [8, 1, 1], [32, 1, 1], 0), 0);
}

#[test]
fn attributes_of_launches_are_known_or_refused() {
    let _context = Context::new();
    let add = add("");
    let with = |attributes: &[Attribute]| launch_ex(add, &Config::new([2, 1, 1], [32, 1, 1], attributes));
    refused(with(&[]), 0);
    for id in [0, 1, 3, 5, 6, 8, 9, 10, 11, 14, 16] {
        refused(with(&[Attribute::new(id, &[1, 1, 1])]), 0);
    }
    refused(with(&[Attribute::new(2, &[1])]), 0);
    refused(with(&[Attribute::new(13, &[0])]), 0);
    refused(with(&[Attribute::new(13, &[1])]), api::NOT_SUPPORTED);
    refused(with(&[Attribute::new(15, &[1])]), api::INVALID_VALUE);
    let (event, start) = (crate::harness::event(), crate::harness::event());
    ok!(cuEventRecord(start, 0));
    for id in [7, 12] {
        let halves = [event as u32, (event >> 32) as u32];
        refused(with(&[Attribute::new(id, &halves)]), 0);
        let mut milliseconds = -1.0;
        ok!(cuEventElapsedTime_v2(&mut milliseconds, start, event));
        assert!(milliseconds >= 0.0);
    }
    refused(with(&[Attribute::new(7, &[3])]), api::INVALID_HANDLE);
    let nothing = Nothing::NEW;
    refused(
        cu!(cuLaunchKernelEx(null(), add, nothing.pointers().as_mut_ptr(), null_mut())),
        api::INVALID_VALUE,
    );
}

#[test]
fn cooperative_launches_fit_the_device_at_once() {
    let _context = Context::new();
    let add = add("");
    let cooperate = |grid: u32, threads: u32| {
        let nothing = Nothing::NEW;
        let mut pointers = nothing.pointers();
        cu!(cuLaunchCooperativeKernel(add, grid, 1, 1, threads, 1, 1, 0, 0, pointers.as_mut_ptr()))
    };
    // 64 registers: one block of 1024 threads on each of 132 multiprocessors.
    refused(cooperate(132, 1024), 0);
    refused(cooperate(133, 1024), api::COOPERATIVE_LAUNCH_TOO_LARGE);
    let config = Config::new([133, 1, 1], [1024, 1, 1], &[]);
    let cooperative = [Attribute::new(2, &[1])];
    refused(launch_ex(add, &config), 0);
    refused(
        launch_ex(add, &Config { attributes: cooperative.as_ptr(), count: 1, ..config }),
        api::COOPERATIVE_LAUNCH_TOO_LARGE,
    );
}

#[test]
fn the_blocks_of_a_cooperative_launch_meet_at_what_the_driver_gives_them() {
    // What `cooperative_groups::grid_group::sync` does: the first block brings what turns the top bit when all others brought 1.
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n
        .visible .entry meet(.param .u64 out) {
            .reg .pred %p<4>; .reg .b32 %r<12>; .reg .b64 %d<6>;
            ld.param.u64 %d0, [out];
            mov.u32 %r0, %ctaid.x; mov.u32 %r1, %nctaid.x; mov.u32 %r2, %tid.x;
            mov.u32 %r3, %envreg1; mov.u32 %r4, %envreg2; mov.b64 %d1, {%r4, %r3};
            setp.eq.u64 %p0, %d1, 0;
            @%p0 bra ALONE;
            mul.wide.u32 %d2, %r0, 4; add.u64 %d2, %d2, %d0;
            setp.eq.u32 %p1, %r2, 0;
            @%p1 st.global.u32 [%d2], %r0;
            bar.sync 0;
            @!%p1 bra MET;
            setp.eq.u32 %p2, %r0, 0; sub.u32 %r5, 0x80000001, %r1; selp.b32 %r5, %r5, 1, %p2;
            atom.add.release.gpu.u32 %r6, [%d1+4], %r5;
        AGAIN:
            ld.acquire.gpu.u32 %r7, [%d1+4]; xor.b32 %r7, %r7, %r6; setp.ge.s32 %p3, %r7, 0; @%p3 bra AGAIN;
        MET:
            bar.sync 0;
            xor.b32 %r8, %r0, 1; mul.wide.u32 %d3, %r8, 4; add.u64 %d3, %d3, %d0;
            ld.global.u32 %r9, [%d3];
            @%p1 st.global.u32 [%d2+256], %r9;
            ret;
        ALONE:
            mov.u32 %r9, 7; st.global.u32 [%d0], %r9;
        }";
    let _context = Context::new();
    let meet = function(module(text), c"meet");
    let out = upload(&[0_u32; 128]);
    let mut pointers = [(&raw const out).cast_mut().cast::<c_void>()];
    for _ in 0..2 {
        ok!(cuLaunchCooperativeKernel(meet, 64, 1, 1, 64, 1, 1, 0, 0, pointers.as_mut_ptr()));
        ok!(cuCtxSynchronize());
        let met: Vec<u32> = (0..64).map(|block| block ^ 1).collect();
        assert_eq!(download::<u32>(out, 128)[64..], met);
    }
    // A launch that is not cooperative has nothing to meet at.
    ok!(cuLaunchKernel(meet, 1, 1, 1, 1, 1, 1, 0, 0, pointers.as_mut_ptr(), null_mut()));
    assert_eq!(download::<u32>(out, 1), [7]);
}

#[test]
fn parameters_come_one_by_one_or_in_a_buffer() {
    let _context = Context::new();
    let add = add("");
    let values = upload(&[1_u32, 2, 3]);
    let params = Nothing { address: values, count: 2, amount: 5 };
    let call = |pointers: *mut *mut c_void, extra: *mut *mut c_void| {
        cu!(cuLaunchKernel(add, 1, 1, 1, 32, 1, 1, 0, 0, pointers, extra))
    };
    let mut pointers = params.pointers();
    refused(call(pointers.as_mut_ptr(), null_mut()), 0);
    assert_eq!(download::<u32>(values, 3), [6, 7, 3]);
    let mut buffer = [0_u8; 16];
    buffer[..8].copy_from_slice(&values.to_le_bytes());
    buffer[8..12].copy_from_slice(&3_u32.to_le_bytes());
    buffer[12..].copy_from_slice(&1_u32.to_le_bytes());
    let key = std::ptr::without_provenance_mut::<c_void>;
    let extra = |size: &usize| -> [*mut c_void; 5] {
        let size = std::ptr::from_ref(size).cast_mut().cast();
        [key(1), buffer.as_ptr().cast_mut().cast(), key(2), size, null_mut()]
    };
    refused(call(null_mut(), extra(&16).as_mut_ptr()), 0);
    assert_eq!(download::<u32>(values, 3), [7, 8, 4]);
    refused(call(null_mut(), extra(&12).as_mut_ptr()), api::INVALID_VALUE);
    refused(call(null_mut(), extra(&17).as_mut_ptr()), api::INVALID_VALUE);
    refused(call(pointers.as_mut_ptr(), extra(&16).as_mut_ptr()), api::INVALID_VALUE);
    refused(call(null_mut(), null_mut()), api::INVALID_VALUE);
    let mut unknown = [9 as *mut c_void, null_mut(), null_mut()];
    refused(call(null_mut(), unknown.as_mut_ptr()), api::INVALID_VALUE);
    let mut nothing = [null_mut(); 1];
    refused(call(null_mut(), nothing.as_mut_ptr()), api::INVALID_VALUE);
    pointers[1] = null_mut();
    refused(call(pointers.as_mut_ptr(), null_mut()), api::INVALID_VALUE);
}

#[test]
fn every_refusal_says_why_in_one_line() {
    const TEST: &str = "launches::every_refusal_says_why_in_one_line";
    if !is_child() {
        let text = stderr(&child(TEST, &[("WIKIGPT_EMU_ARCH", "sm_80")]));
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("wikigpt emulator: ")).collect();
        let expected = [
            "cuLaunchKernel: add: 0 blocks along x, expected 1 to 2147483647 (CUDA_ERROR_INVALID_VALUE)",
            "cuLaunchKernel: add: 2048 threads in a block, at most 1024 (CUDA_ERROR_INVALID_VALUE)",
            "cuLaunchKernel: add: 60000 bytes of dynamic shared memory, at most 49152; more is allowed by \
             cuFuncSetAttribute(MAX_DYNAMIC_SHARED_SIZE_BYTES) (CUDA_ERROR_INVALID_VALUE)",
            "cuLaunchKernelEx: add: the device has no clusters (CUDA_ERROR_INVALID_CLUSTER_SIZE)",
        ];
        assert_eq!(lines, expected.map(|line| format!("wikigpt emulator: {line}")));
        return;
    }
    let _context = Context::new();
    let add = function(module(PTX), c"add");
    launch(add, [0, 1, 1], [1; 3], 0);
    launch(add, [1; 3], [1024, 2, 1], 0);
    launch(add, [1; 3], [1; 3], 60_000);
    launch_ex(add, &Config::new([2, 1, 1], [1; 3], &[Attribute::new(4, &[2, 1, 1])]));
}

#[test]
fn counters_are_appended_to_the_file_that_is_named() {
    const TEST: &str = "launches::counters_are_appended_to_the_file_that_is_named";
    if is_child() {
        let _context = Context::new();
        let (add, values) = (function(module(PTX), c"add"), upload(&[1_u32; 64]));
        for threads in [32, 64] {
            refused(crate::harness::launch(add, 2, threads, &[&values, &64_u32, &1_u32]), 0);
        }
        return;
    }
    let file = std::env::temp_dir().join(format!("wikigpt-emulator-{}.jsonl", std::process::id()));
    stderr(&child(TEST, &[("WIKIGPT_EMU_COUNTERS", file.to_str().unwrap())]));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains(r#""launch":1,"kernel":"add","grid":[2,1,1],"block":[32,1,1]"#), "{text}");
    assert!(lines[1].contains(r#""launch":2,"kernel":"add","grid":[2,1,1],"block":[64,1,1]"#), "{text}");
    assert!(lines[0].contains(r#""global_load_bytes":256,"#), "{text}");
}
