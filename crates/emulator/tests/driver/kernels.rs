//! Kernels in CUDA C++, compiled by NVRTC and run through `cudarc`, against results of the host.

#![allow(non_snake_case, reason = "the dimensions' names")]

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as MAX_DYNAMIC_SHARED;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig,
    PushKernelArg,
};
use cudarc::nvrtc::{CompileOptions, Ptx, compile_ptx_with_opts, sys};
use half::bf16;

use crate::api::{cu, ok};
use crate::harness::{load, nvrtc, refused};
use crate::launches::Config;

/// What NVRTC, where it is there, makes of a source for `compute_90a`.
pub fn compile(source: &str, file: &str, defines: &[&str]) -> Option<Ptx> {
    load();
    nvrtc().then(|| compile_for("compute_90a", source, file, defines))
}

fn compile_for(arch: &'static str, source: &str, file: &str, defines: &[&str]) -> Ptx {
    let mut options: Vec<String> = defines.iter().map(|define| format!("-D{define}")).collect();
    options.push("--generate-line-info".into());
    let options =
        CompileOptions { options, arch: Some(arch), name: Some(file.into()), ..CompileOptions::default() };
    compile_ptx_with_opts(source, options).unwrap_or_else(|error| panic!("{file} for {arch}: {error:?}"))
}

/// The architectures that NVRTC compiles for: 70 for `compute_70`.
fn architectures() -> Vec<i32> {
    let mut count = 0;
    // SAFETY: where a number goes; the library is there.
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }.result().unwrap();
    let mut all = vec![0; count as usize];
    // SAFETY: room for as many as there are.
    unsafe { sys::nvrtcGetSupportedArchs(all.as_mut_ptr()) }.result().unwrap();
    all
}

/// A stream and the kernel as NVRTC, where it is there, compiles it for each architecture from `least` on that the device runs.
fn kernels(source: &str, name: &str, least: i32) -> Vec<(Arc<CudaStream>, CudaFunction)> {
    const ARCHITECTURES: [(i32, &str); 4] =
        [(70, "compute_70"), (80, "compute_80"), (86, "compute_86"), (90, "compute_90a")];
    load();
    if !nvrtc() {
        return Vec::new();
    }
    let known = architectures();
    let wanted = ARCHITECTURES.into_iter().filter(|(number, _)| *number >= least && known.contains(number));
    let context = CudaContext::new(0).unwrap();
    let kernel = |(_, arch)| {
        let module = context.load_module(compile_for(arch, source, name, &[])).unwrap();
        (context.new_stream().unwrap(), module.load_function(name).unwrap())
    };
    wanted.map(kernel).collect()
}

fn kernel(source: &str, name: &str, defines: &[&str]) -> Option<(Arc<CudaStream>, CudaFunction)> {
    let ptx = compile(source, name, defines)?;
    let context = CudaContext::new(0).unwrap();
    let module = context.load_module(ptx).unwrap();
    Some((context.new_stream().unwrap(), module.load_function(name).unwrap()))
}

/// Numbers from -1 to 1 that look like chance, of 11 bits, so that products and short sums are exact.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 21) as f32 / 1024.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn grid(blocks: (u32, u32), threads: (u32, u32), shared: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (blocks.0, blocks.1, 1),
        block_dim: (threads.0, threads.1, 1),
        shared_mem_bytes: shared,
    }
}

#[test]
fn vector_add_is_exact_for_any_length() {
    let source = include_str!("../kernels/vector_add.cu");
    for (stream, kernel) in kernels(source, "vector_add", 70) {
        for n in [1_usize, 31, 1000, 4097] {
            let (a, b) = (numbers(n, 1), numbers(n, 2));
            let (da, db) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
            let mut out: CudaSlice<f32> = stream.alloc_zeros(n).unwrap();
            let count = n as i32;
            let mut launch = stream.launch_builder(&kernel);
            launch.arg(&mut out).arg(&da).arg(&db).arg(&count);
            // SAFETY: the arguments are the kernel's, and all slices hold `n` numbers.
            unsafe { launch.launch(grid((3, 1), (128, 1), 0)) }.unwrap();
            let sums: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
            assert_eq!(stream.clone_dtoh(&out).unwrap(), sums);
        }
    }
}

#[test]
fn integer_reductions_are_exact_and_float_sums_within_rounding() {
    let source = include_str!("../kernels/reductions.cu");
    let Some((stream, sum)) = kernel(source, "sum_integers", &[]) else { return };
    let n = 5000;
    let values: Vec<u32> = (0..n).map(|i: u32| i.wrapping_mul(0x9e37_79b9)).collect();
    let (dv, mut out) = (stream.clone_htod(&values).unwrap(), stream.alloc_zeros::<u32>(1).unwrap());
    let count = n as i32;
    let mut launch = stream.launch_builder(&sum);
    launch.arg(&mut out).arg(&dv).arg(&count);
    // SAFETY: the arguments are the kernel's; `out` is one number.
    unsafe { launch.launch(grid((4, 1), (256, 1), 0)) }.unwrap();
    let expected = values.iter().fold(0_u32, |sum, value| sum.wrapping_add(*value));
    assert_eq!(stream.clone_dtoh(&out).unwrap(), [expected]);

    let (_, extremes) = kernel(source, "extremes", &[]).unwrap();
    let signed: Vec<i32> = values.iter().map(|value| *value as i32).collect();
    let (dv, mut out) =
        (stream.clone_htod(&signed).unwrap(), stream.clone_htod(&[i32::MIN, i32::MAX]).unwrap());
    let mut launch = stream.launch_builder(&extremes);
    launch.arg(&mut out).arg(&dv).arg(&count);
    // SAFETY: the arguments are the kernel's; `out` is two numbers.
    unsafe { launch.launch(grid((3, 1), (96, 1), 0)) }.unwrap();
    let expected = [*signed.iter().max().unwrap(), *signed.iter().min().unwrap()];
    assert_eq!(stream.clone_dtoh(&out).unwrap(), expected);

    let (_, sum) = kernel(source, "sum_floats", &[]).unwrap();
    let values = numbers(n as usize, 3);
    let (dv, blocks) = (stream.clone_htod(&values).unwrap(), 4);
    let mut out: CudaSlice<f32> = stream.alloc_zeros(1).unwrap();
    let (mut of_blocks, mut done) =
        (stream.alloc_zeros::<f32>(blocks as usize).unwrap(), stream.alloc_zeros::<u32>(1).unwrap());
    let mut launch = stream.launch_builder(&sum);
    launch.arg(&mut out).arg(&mut of_blocks).arg(&mut done).arg(&dv).arg(&count);
    // SAFETY: the arguments are the kernel's; a number for each block and for each of 128 threads.
    unsafe { launch.launch(grid((blocks, 1), (128, 1), 128 * 4)) }.unwrap();
    let exact: f64 = values.iter().map(|value| f64::from(*value)).sum();
    let magnitude: f64 = values.iter().map(|value| f64::from(value.abs())).sum();
    let got = f64::from(stream.clone_dtoh(&out).unwrap()[0]);
    // 10 additions in a thread, 7 in the block, 4 of the blocks.
    assert!((got - exact).abs() <= 21.0 * f64::from(f32::EPSILON) / 2.0 * magnitude, "{got} {exact}");
}

#[test]
fn softmax_of_rows_is_within_a_few_ulps() {
    let source = include_str!("../kernels/softmax.cu");
    for (stream, kernel) in kernels(source, "softmax", 70) {
        let (rows, columns) = (7_usize, 77_usize);
        let inp: Vec<f32> = numbers(rows * columns, 4).into_iter().map(|value| value * 8.0).collect();
        let (dinp, mut out) =
            (stream.clone_htod(&inp).unwrap(), stream.alloc_zeros::<f32>(inp.len()).unwrap());
        let (r, c) = (rows as i32, columns as i32);
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut out).arg(&dinp).arg(&r).arg(&c);
        // SAFETY: the arguments are the kernel's; both slices hold all rows.
        unsafe { launch.launch(grid((2, 1), (32, 4), 0)) }.unwrap();
        for (got, row) in stream.clone_dtoh(&out).unwrap().chunks(columns).zip(inp.chunks(columns)) {
            let high = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f64> =
                row.iter().map(|value| (f64::from(*value) - f64::from(high)).exp()).collect();
            let sum: f64 = powers.iter().sum();
            for (got, power) in got.iter().zip(powers) {
                let exact = power / sum;
                assert!((f64::from(*got) - exact).abs() <= 1e-6 * exact, "{got} {exact}");
            }
        }
    }
}

/// The sum over `k` of `a[m, k] b[n, k]`, and of the magnitudes.
fn product(
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
    K: usize,
    m: usize,
    n: usize,
) -> (f64, f64) {
    (0..K).fold((0.0, 0.0), |(sum, magnitude), k| {
        let term = f64::from(a(m, k)) * f64::from(b(n, k));
        (sum + term, magnitude + term.abs())
    })
}

/// Compares a product of `M` rows of `N` within `terms` roundings of f32.
fn compare(
    got: &[f32],
    (M, N, K): (usize, usize, usize),
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) {
    for m in 0..M {
        for n in 0..N {
            let (exact, magnitude) = product(&a, &b, K, m, n);
            let error = (f64::from(got[m * N + n]) - exact).abs();
            assert!(
                error <= K as f64 * f64::from(f32::EPSILON) * magnitude,
                "({m}, {n}): {} {exact}",
                got[m * N + n]
            );
        }
    }
}

#[test]
fn tiled_matmul_of_odd_shapes() {
    let source = include_str!("../kernels/matmul_tiled.cu");
    for (stream, kernel) in kernels(source, "matmul_tiled", 70) {
        let (M, N, K) = (37, 21, 50);
        let (a, b) = (numbers(M * K, 5), numbers(K * N, 6));
        let (da, db) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
        let mut out: CudaSlice<f32> = stream.alloc_zeros(M * N).unwrap();
        let (m, n, k) = (M as i32, N as i32, K as i32);
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut out).arg(&da).arg(&db).arg(&m).arg(&n).arg(&k);
        // SAFETY: the arguments are the kernel's; the slices have the shapes that are passed.
        unsafe { launch.launch(grid((2, 3), (16, 16), 0)) }.unwrap();
        compare(&stream.clone_dtoh(&out).unwrap(), (M, N, K), |m, k| a[m * K + k], |n, k| b[k * N + n]);
    }
}

/// bf16 numbers, as they are.
fn halves(count: usize, seed: u32) -> Vec<bf16> {
    numbers(count, seed).into_iter().map(bf16::from_f32).collect()
}

#[test]
fn matmul_by_cp_async_ldmatrix_and_mma() {
    let source = include_str!("../kernels/matmul_mma.cu");
    for (stream, kernel) in kernels(source, "matmul_mma", 80) {
        let (M, N, K) = (64, 128, 96);
        let (a, b) = (halves(M * K, 7), halves(N * K, 8));
        let (da, db) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
        let mut out: CudaSlice<f32> = stream.alloc_zeros(M * N).unwrap();
        let (n, k) = (N as i32, K as i32);
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut out).arg(&da).arg(&db).arg(&n).arg(&k);
        // SAFETY: the arguments are the kernel's; the slices have the shapes that are passed.
        unsafe { launch.launch(grid((2, 1), (128, 1), 0)) }.unwrap();
        let at = |values: &[bf16], row: usize, k: usize| values[row * K + k].to_f32();
        compare(&stream.clone_dtoh(&out).unwrap(), (M, N, K), |m, k| at(&a, m, k), |n, k| at(&b, n, k));
    }
}

/// `CUtensorMap`, which a kernel takes by value.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct TensorMap([u8; 128]);

// SAFETY: the bytes that the kernel expects.
unsafe impl DeviceRepr for TensorMap {}

/// A matrix of bf16 with `columns` dense numbers in each row, in boxes of 64 of them and `rows_of_box` rows.
fn tensor_map(address: u64, columns: usize, rows: usize, rows_of_box: u32) -> TensorMap {
    let mut map = TensorMap([0; 128]);
    let (dims, strides) = ([columns as u64, rows as u64], [columns as u64 * 2]);
    let (sizes, steps) = ([64, rows_of_box], [1_u32, 1]);
    let (dims, strides, sizes, steps) = (dims.as_ptr(), strides.as_ptr(), sizes.as_ptr(), steps.as_ptr());
    let (to, address) = (map.0.as_mut_ptr().cast(), address as *mut c_void);
    // Data type BF16, two dimensions, no interleaving, a swizzle of 128 bytes, zeros outside.
    ok!(cuTensorMapEncodeTiled(to, 9, 2, address, dims, strides, sizes, steps, 0, 3, 0, 0));
    map
}

#[test]
fn warp_specialised_matmul_by_tma_multicast_and_wgmma_of_both_majors() {
    let source = include_str!("../kernels/matmul_hopper.cu");
    let (M, N, K) = (256, 128, 320);
    let (a, b) = (halves(M * K, 9), halves(N * K, 10));
    let transposed = |values: &[bf16], rows: usize| -> Vec<bf16> {
        (0..K).flat_map(|k| (0..rows).map(move |row| (row, k))).map(|(row, k)| values[row * K + k]).collect()
    };
    for (a_major, b_major) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let defines = [format!("A_MAJOR={a_major}"), format!("B_MAJOR={b_major}")];
        let Some((stream, kernel)) = kernel(source, "matmul_hopper", &[&defines[0], &defines[1]]) else {
            return;
        };
        let shared = 2 * 2 * 64 * 64 * 2 + 1024;
        kernel.set_attribute(MAX_DYNAMIC_SHARED, shared).unwrap();
        let da = stream.clone_htod(&if a_major == 0 { a.clone() } else { transposed(&a, M) }).unwrap();
        let db = stream.clone_htod(&if b_major == 0 { b.clone() } else { transposed(&b, N) }).unwrap();
        let mut out: CudaSlice<f32> = stream.alloc_zeros(M * N).unwrap();
        let (pa, pb) = (da.device_ptr(&stream).0, db.device_ptr(&stream).0);
        let map_a = if a_major == 0 { tensor_map(pa, K, M, 64) } else { tensor_map(pa, M, K, 64) };
        let map_b = if b_major == 0 { tensor_map(pb, K, N, 32) } else { tensor_map(pb, N, K, 32) };
        let (n, k) = (N as i32, K as i32);
        let (place, guard) = out.device_ptr_mut(&stream);
        let mut params: [*mut c_void; 5] = [
            (&raw const place).cast_mut().cast(),
            (&raw const map_a).cast_mut().cast(),
            (&raw const map_b).cast_mut().cast(),
            (&raw const n).cast_mut().cast(),
            (&raw const k).cast_mut().cast(),
        ];
        let mut config = Config::new([M as u32 / 64, N as u32 / 64, 1], [256, 1, 1], &[]);
        config.shared = shared as u32;
        config.stream = stream.cu_stream() as usize;
        let function = kernel.cu_function() as usize;
        refused(
            cu!(cuLaunchKernelEx(
                (&raw const config).cast(),
                function,
                params.as_mut_ptr(),
                std::ptr::null_mut()
            )),
            0,
        );
        drop(guard);
        let at = |values: &[bf16], row: usize, k: usize| values[row * K + k].to_f32();
        compare(&stream.clone_dtoh(&out).unwrap(), (M, N, K), |m, k| at(&a, m, k), |n, k| at(&b, n, k));
    }
}

#[test]
fn cudarc_captures_and_replays_what_a_stream_is_given() {
    use cudarc::driver::sys::CUgraphInstantiate_flags_enum as Flags;
    use cudarc::driver::sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED as RELAXED;
    let source = include_str!("../kernels/vector_add.cu");
    let Some((_, kernel)) = kernel(source, "vector_add", &[]) else { return };
    let context = CudaContext::new(0).unwrap();
    // SAFETY: one stream alone uses the slices.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    let (ones, mut sums) =
        (stream.clone_htod(&[1.0_f32; 40]).unwrap(), stream.alloc_zeros::<f32>(40).unwrap());
    stream.begin_capture(RELAXED).unwrap();
    let (n, place) = (40_i32, sums.device_ptr_mut(&stream).0);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&place).arg(&place).arg(&ones).arg(&n);
    // SAFETY: the arguments are the kernel's; each thread reads and writes its own number.
    unsafe { launch.launch(grid((1, 1), (64, 1), 0)) }.unwrap();
    let graph = stream
        .end_capture(Flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH)
        .unwrap()
        .expect("something was captured");
    assert_eq!(stream.clone_dtoh(&sums).unwrap(), [0.0; 40]);
    for _ in 0..3 {
        graph.launch().unwrap();
    }
    assert_eq!(stream.clone_dtoh(&sums).unwrap(), [3.0; 40]);
}
