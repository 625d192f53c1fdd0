// The bias of a linear layer, unfused.
//
//   forward    x[n,o] += bias[o], in place
//   backward   dbias[o] (set or added) Σ_n dout[n,o]
//
// x, dout (N,OC); bias, dbias (OC).
//
// floor: forward 2·N·OC·sizeof(Act); backward N·OC·sizeof(Act). Bound by memory.
// launch: blocks of 8 warps, grid (⌈OC/(32·W)⌉, chunks of `rows` rows) with W = WIDTH<Act>, or 1 where 16-byte accesses are
//   not possible; the kernels take the width as an argument. A thread has W columns and every 8th row of its chunk: in the
//   forward so that bias is read once a chunk, in the backward so that sums stay in registers. The backward leaves a row of
//   partial sums a chunk in `partial` (chunks,OC), which bias_backward_finish adds up: ⌈OC/32⌉ blocks of 16 warps.
// shared memory: backward 8·(32·W + 32) floats.
// assumes: with width > 1 that OC is a multiple of it and that x, bias (dout) begin at a multiple of 16 bytes.

#include "lib/columns.cuh"
#include "lib/types.cuh"

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP;
// Rows that a thread has in flight.
constexpr int AHEAD = 4;

template <int W>
__device__ __forceinline__ void forward(Act* x, const Act* bias, int N, int OC, int rows) {
    const int o = (blockIdx.x * WARP + threadIdx.x % WARP) * W;
    const size_t begin = static_cast<size_t>(blockIdx.y) * rows;
    const int count = static_cast<int>(min(static_cast<size_t>(rows), N - begin));
    if (o >= OC) return;
    const Vec<W> b = load<W>(bias + o);
    x += begin * OC + o;
    for (int n = threadIdx.x / WARP; n < count; n += AHEAD * WARPS) {
        // Loads first: the compiler may not move a load before a store that could be to the same address.
        Vec<W> row[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (n + k * WARPS < count) row[k] = load<W>(x + static_cast<size_t>(n + k * WARPS) * OC);
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
#pragma unroll
            for (int i = 0; i < W; i++) row[k][i] += b[i];
            if (n + k * WARPS < count) store<W>(x + static_cast<size_t>(n + k * WARPS) * OC, row[k]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    bias_forward(Act* x, const Act* __restrict__ bias, int N, int OC, int rows, int width) {
    width == 1 ? forward<1>(x, bias, N, OC, rows) : forward<WIDTH<Act>>(x, bias, N, OC, rows);
}

template <int W>
__device__ __forceinline__ void backward(float* partial, const Act* dout, int N, int OC, int rows) {
    __shared__ float scratch[WARPS * COLUMNS_SCRATCH<W>];
    const int first = blockIdx.x * WARP * W;
    const int o = first + threadIdx.x % WARP * W;
    const size_t begin = static_cast<size_t>(blockIdx.y) * rows;
    const int count = static_cast<int>(min(static_cast<size_t>(rows), N - begin));
    Vec<W> sum = {};
    if (o < OC) {
        dout += begin * OC + o;
#pragma unroll 4
        for (int n = threadIdx.x / WARP; n < count; n += WARPS) {
            const Vec<W> d = load<W>(dout + static_cast<size_t>(n) * OC);
#pragma unroll
            for (int i = 0; i < W; i++) sum[i] += d[i];
        }
    }
    block_columns<W, WARPS>(partial + static_cast<size_t>(blockIdx.y) * OC, sum, first, OC, scratch);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    bias_backward(float* __restrict__ partial, const Act* __restrict__ dout, int N, int OC, int rows, int width) {
    width == 1 ? backward<1>(partial, dout, N, OC, rows) : backward<WIDTH<Act>>(partial, dout, N, OC, rows);
}

extern "C" __global__ void __launch_bounds__(FINISH_WARPS * WARP)
    bias_backward_finish(Grad* __restrict__ dbias, const float* __restrict__ partial, int chunks, int OC, int add) {
    finish_columns(dbias, partial, chunks, OC, add);
}
