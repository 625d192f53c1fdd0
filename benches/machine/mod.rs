//! What the machine could do at best: fused multiply-adds on registers alone, and bytes through memory.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Accumulators: enough to hide the latency of the unit (4 cycles, 2 a cycle: 8), few enough for AVX2's 16 registers.
const CHAINS: usize = 12;
const ITERATIONS: usize = 20_000_000;
const ROUNDS: usize = 5;

/// One thread's share: ITERATIONS steps of CHAINS·LANES multiply-adds. `x` and `y` are unknown to the compiler, and floats
/// are not reordered, so the loop cannot be folded.
#[inline(always)]
fn spin<const LANES: usize>(fma: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let (x, y) = (black_box([0.999_f32; LANES]), black_box([1e-3_f32; LANES]));
    let mut sums = [[1.0_f32; LANES]; CHAINS];
    for _ in 0..ITERATIONS {
        for sum in &mut sums {
            for l in 0..LANES {
                sum[l] = fma(sum[l], x[l], y[l]);
            }
        }
    }
    sums.iter().flatten().sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn spin_avx512() -> f32 {
    spin::<16>(f32::mul_add)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn spin_avx2() -> f32 {
    spin::<8>(f32::mul_add)
}

/// Runs the best loop that the machine has; gives the lanes that it uses.
fn spin_best() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        use std::is_x86_feature_detected as has;
        if has!("avx512f") && has!("fma") {
            // SAFETY: the processor has been asked for these features.
            black_box(unsafe { spin_avx512() });
            return 16;
        }
        if has!("avx2") && has!("fma") {
            // SAFETY: as above.
            black_box(unsafe { spin_avx2() });
            return 8;
        }
    }
    if cfg!(target_arch = "aarch64") {
        black_box(spin::<4>(f32::mul_add));
    } else {
        black_box(spin::<4>(|a, b, c| a * b + c));
    }
    4
}

/// The best of ROUNDS rounds, in each of which `threads` threads start a call of `work` together: the sum of their rates,
/// what a call says that it did in the time it took. `work` is made for each thread first.
fn best<W: FnMut() -> f64>(threads: usize, work: impl Fn() -> W + Sync) -> f64 {
    let start = Barrier::new(threads);
    let rates = || {
        let mut work = work();
        let round = |_| {
            start.wait();
            let begun = Instant::now();
            let done = work();
            done / begun.elapsed().as_secs_f64()
        };
        (0..ROUNDS).map(round).collect::<Vec<f64>>()
    };
    let all: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(rates)).collect();
        running.into_iter().map(|thread| thread.join().expect("the loops do not panic")).collect()
    });
    (0..ROUNDS).map(|round| all.iter().map(|rates| rates[round]).sum()).fold(0.0, f64::max)
}

/// The machine's f32 peak on `threads` threads, in FLOP/s.
pub fn flops(threads: usize) -> f64 {
    best(threads, || || 2.0 * (CHAINS * ITERATIONS * spin_best()) as f64)
}

/// Bytes a second that `threads` threads read and write in copying far more than the caches hold.
pub fn bandwidth(threads: usize) -> f64 {
    const LEN: usize = 64 << 20;
    best(threads, || {
        let (source, mut copy) = (vec![1_u8; LEN], vec![0_u8; LEN]);
        move || {
            copy.copy_from_slice(black_box(&source));
            black_box(&mut copy);
            2.0 * LEN as f64
        }
    })
}
