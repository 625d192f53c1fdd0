//! Loads the emulator as programs load a driver, and what the tests share.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::ptr::null_mut;
use std::sync::OnceLock;

use crate::api::{cu, ok};

/// The library that cargo built beside this test.
pub fn library() -> PathBuf {
    let folder = std::env::current_exe().expect("tests know where they are");
    folder.parent().expect("tests lie in a folder").join("libwikigpt_emulator.so")
}

/// Opens a library by its path, so that whoever asks for its name later gets it.
fn open(path: &std::path::Path) -> *mut c_void {
    let name = CString::new(path.to_str().expect("a path in UTF-8")).expect("no NUL in a path");
    // SAFETY: a library without anything that runs when it is loaded.
    unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }
}

/// The emulator, loaded once, as a driver that `cudarc` finds too: its name is `libcuda.so`.
pub fn load() -> *mut c_void {
    static LOADED: OnceLock<usize> = OnceLock::new();
    *LOADED.get_or_init(|| {
        let library = library();
        let loaded = open(&library);
        assert!(!loaded.is_null(), "{} is not there", library.display());
        loaded as usize
    }) as *mut c_void
}

/// An entry point.
pub fn symbol(name: &str) -> *mut c_void {
    let wanted = CString::new(name).expect("no NUL in a name");
    // SAFETY: a library that is loaded and a text.
    let found = unsafe { libc::dlsym(load(), wanted.as_ptr()) };
    assert!(!found.is_null(), "{name} is not exported");
    found
}

/// Loads NVRTC, from where the loader looks or from `target/nvrtc-venv`; says so where there is none.
pub fn nvrtc() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    let there = *THERE.get_or_init(|| {
        let names = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
        if names.iter().any(|name| !open(name.as_ref()).is_null()) {
            return true;
        }
        let target = library().ancestors().nth(3).expect("target/debug/deps/library").to_owned();
        let pythons = std::fs::read_dir(target.join("nvrtc-venv/lib")).into_iter().flatten().flatten();
        pythons.map(|python| python.path().join("site-packages/nvidia/cu13/lib")).any(|folder| {
            // It opens its other half by name.
            open(&folder.join("libnvrtc-builtins.so.13.0"));
            !open(&folder.join("libnvrtc.so.13")).is_null()
        })
    });
    if !there {
        println!("skipped: NVRTC is not there: cargo xtask emulator installs it");
    }
    there
}

/// A context of a test's own, current in its thread.
pub struct Context(pub usize);

impl Context {
    pub fn new() -> Context {
        let mut context = 0;
        ok!(cuInit(0));
        ok!(cuCtxCreate_v4(&mut context, null_mut(), 0, 0));
        Context(context)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // A test may have destroyed it.
        let _ = cu!(cuCtxDestroy_v2(self.0));
    }
}

/// Device memory with these values.
pub fn upload<T: bytemuck::NoUninit>(values: &[T]) -> u64 {
    let mut address = 0;
    let bytes: &[u8] = bytemuck::cast_slice(values);
    ok!(cuMemAlloc_v2(&mut address, bytes.len()));
    ok!(cuMemcpyHtoD_v2(address, bytes.as_ptr().cast(), bytes.len()));
    address
}

/// What device memory holds.
pub fn download<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(address: u64, count: usize) -> Vec<T> {
    let mut values = vec![T::zeroed(); count];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
    ok!(cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), address, bytes.len()));
    values
}

/// A module of a text.
pub fn module(text: &str) -> usize {
    let (text, mut module) = (CString::new(text).expect("no NUL in PTX"), 0);
    ok!(cuModuleLoadData(&mut module, text.as_ptr().cast()));
    module
}

/// A function of a module.
pub fn function(module: usize, name: &CStr) -> usize {
    let mut function = 0;
    ok!(cuModuleGetFunction(&mut function, module, name.as_ptr()));
    function
}

/// Launches with parameters by value.
pub fn launch(function: usize, grid: u32, threads: u32, params: &[&dyn Param]) -> u32 {
    launch_in(function, grid, threads, 0, params)
}

/// Launches in a stream.
pub fn launch_in(function: usize, grid: u32, threads: u32, stream: usize, params: &[&dyn Param]) -> u32 {
    let mut pointers: Vec<*mut c_void> = params.iter().map(|param| (**param).pointer()).collect();
    cu!(cuLaunchKernel(function, grid, 1, 1, threads, 1, 1, 0, stream, pointers.as_mut_ptr(), null_mut()))
}

/// A parameter of a kernel.
pub trait Param {
    fn pointer(&self) -> *mut c_void;
}

impl<T: Copy> Param for T {
    fn pointer(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// Runs a test of this program by its name in a process of its own, with these variables.
pub fn child(test: &str, variables: &[(&str, &str)]) -> Output {
    let program = std::env::current_exe().expect("tests know where they are");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(CHILD, "1");
    command.envs(variables.iter().copied()).output().expect("a test of this program starts")
}

/// Set in the process that [`child`] starts.
const CHILD: &str = "WIKIGPT_EMU_TEST_CHILD";

/// Whether this is the process that [`child`] starts.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// What a process wrote to stderr; it must have succeeded.
pub fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}{text}", String::from_utf8_lossy(&output.stdout));
    text
}

/// The name of a code.
pub fn name(code: u32) -> String {
    let mut text: *const c_char = std::ptr::null();
    assert_eq!(cu!(cuGetErrorName(code, &mut text)), 0, "code {code}");
    // SAFETY: a text of the driver's.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Kernels that need no compiler.
pub const PTX: &str = r"
.version 8.0
.target sm_80
.address_size 64
.visible .global .align 4 .u32 answer = 42;
.visible .const .align 2 .b8 table[6] = {1, 2, 3, 4};
// p[i] += amount for all i < n
.visible .entry add(.param .u64 add_p, .param .u32 add_n, .param .u32 add_amount)
{
    .reg .pred %p<2>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [add_p];
    ld.param.u32 %r1, [add_n];
    ld.param.u32 %r2, [add_amount];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r6, %r3, %r4, %r5;
    setp.ge.u32 %p1, %r6, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd2, %r6, 4;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.u32 %r7, [%rd3];
    add.u32 %r7, %r7, %r2;
    st.global.u32 [%rd3], %r7;
DONE:
    ret;
}
// p[0] = 1, without looking where p leads
.visible .entry poke(.param .u64 poke_p)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [poke_p];
    mov.u32 %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
";

/// Whether the kernels' constants are as they are declared.
pub fn answer(module: usize) -> (u64, usize) {
    let (mut address, mut bytes) = (0, 0);
    ok!(cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"answer".as_ptr()));
    (address, bytes)
}

/// A stream that captures nothing yet and waits for no other.
pub fn stream() -> usize {
    let mut stream = 0;
    ok!(cuStreamCreate(&mut stream, 1));
    stream
}

/// An event.
pub fn event() -> usize {
    let mut event = 0;
    ok!(cuEventCreate(&mut event, 0));
    event
}

/// Refused with this code.
#[track_caller]
pub fn refused(code: u32, expected: u32) {
    assert_eq!(name(code), name(expected));
}
