// The kernels of matmul, on a tile that is included before: lib/tile.cuh for plain arithmetic, lib/tile_mma.cuh for tensor cores. Both
// have the same face: Tile::multiply and Tile::each.
//
//   forward           out[n,o]     = Σ_c inp[n,c]·weight[o,c] + bias[o]     or gelu of it, or residual[n,o] + it
//   backward_input    dinp[n,c]   (+)= Σ_o dout[n,o]·weight[o,c]            or that times gelu′(pre[n,c])
//   backward_weight   dweight[o,c] (+)= Σ_n dout[n,o]·inp[n,c]              dbias[o] (+)= Σ_n dout[n,o]
//
// inp (N,C), weight (OC,C), bias (OC), out (N,OC), gradients as their tensors; dweight and dbias are Grad, all else is Act. bias and
// dbias may be null.
//
// Launch: grid (ceil(columns / BLOCK_N), ceil(rows / BLOCK_M)) of the result, block THREADS; backward_weight_slices has slices of N in
// gridDim.z.
#pragma once

#include "lib/gelu.cuh"
#include "lib/matrix.cuh"

constexpr int W = Tile::W;

// ---- forward

// out = finish(inp·weightᵀ + bias), W columns at a time.
template <typename F>
__device__ __forceinline__ void forward(const Act* inp, const Act* weight, const Act* bias, int N, int C, int OC, F finish) {
    const int n0 = blockIdx.y * BLOCK_M, o0 = blockIdx.x * BLOCK_N;
    Tile tile;
    tile.multiply<Along::K, Along::K>(whole<W>(inp, N, C), whole<W>(weight, OC, C), n0, o0, 0, C);
    tile.each(n0, o0, [&](int n, int o, Vec<W> x) {
        const Vec<W> b = bias == nullptr ? zeros<W>() : whole<W>(bias, 1, OC).get(0, o);
#pragma unroll
        for (int i = 0; i < W; i++) x[i] += b[i];
        finish(n, o, x);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    matmul_forward(Act* out, const Act* inp, const Act* weight, const Act* bias, int N, int C, int OC) {
    forward(inp, weight, bias, N, C, OC, [&](int n, int o, const Vec<W>& x) { whole<W>(out, N, OC).set(n, o, x); });
}

// The sum before GELU is kept, for the backward. GELU is that of what was stored, as it would be in a kernel of its own.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    matmul_gelu_forward(Act* out, Act* pre, const Act* inp, const Act* weight, const Act* bias, int N, int C, int OC) {
    forward(inp, weight, bias, N, C, OC, [&](int n, int o, Vec<W> x) {
        whole<W>(pre, N, OC).set(n, o, x);
#pragma unroll
        for (int i = 0; i < W; i++) x[i] = gelu(rounded<Act>(x[i]));
        whole<W>(out, N, OC).set(n, o, x);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    matmul_residual_forward(Act* out, const Act* residual, const Act* inp, const Act* weight, const Act* bias, int N, int C,
                            int OC) {
    forward(inp, weight, bias, N, C, OC, [&](int n, int o, Vec<W> x) {
        const Vec<W> r = whole<W>(residual, N, OC).get(n, o);
#pragma unroll
        for (int i = 0; i < W; i++) x[i] += r[i];
        whole<W>(out, N, OC).set(n, o, x);
    });
}

// ---- gradient of the input

// finish(dout·weight): the sum runs over the weight's rows, so its operand lies across.
template <typename F>
__device__ __forceinline__ void backward_input(const Act* dout, const Act* weight, int N, int C, int OC, F finish) {
    const int n0 = blockIdx.y * BLOCK_M, c0 = blockIdx.x * BLOCK_N;
    Tile tile;
    tile.multiply<Along::K, Along::ROW>(whole<W>(dout, N, OC), whole<W>(weight, OC, C), n0, c0, 0, OC);
    tile.each(n0, c0, finish);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    matmul_backward_input(Act* dinp, const Act* dout, const Act* weight, int N, int C, int OC, int add) {
    backward_input(dout, weight, N, C, OC, [&](int n, int c, const Vec<W>& x) { whole<W>(dinp, N, C).set(n, c, x, add); });
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    matmul_gelu_backward_input(Act* dpre, const Act* dout, const Act* weight, const Act* pre, int N, int C, int OC) {
    backward_input(dout, weight, N, C, OC, [&](int n, int c, Vec<W> x) {
        const Vec<W> p = whole<W>(pre, N, C).get(n, c);
#pragma unroll
        for (int i = 0; i < W; i++) x[i] *= gelu_derivative(p[i]);
        whole<W>(dpre, N, C).set(n, c, x);
    });
}

// ---- gradient of the weight

// doutᵀ·inp over n from n0 to n1: both operands lie across. The bias's gradient is the sum of dout alone, and the tiles in the
// first column of dweight read all of that: those blocks add it up beside, so that dout is not read once more. dbias may be null.
template <typename T>
__device__ __forceinline__ void backward_weight(T* dweight, T* dbias, const Act* dout, const Act* inp, int N, int C, int OC, int n0,
                                                int n1, bool add) {
    const int o0 = blockIdx.y * BLOCK_M, c0 = blockIdx.x * BLOCK_N;
    const bool biased = dbias != nullptr && blockIdx.x == 0;
    Tile tile;
    tile.multiply<Along::ROW, Along::ROW, true>(whole<W>(dout, N, OC), whole<W>(inp, N, C), o0, c0, n0, n1, biased);
    tile.each(o0, c0, [&](int o, int c, const Vec<W>& x) { whole<W>(dweight, OC, C).set(o, c, x, add); });
    const int o = o0 + threadIdx.x;
    if (biased && threadIdx.x < BLOCK_M && o < OC) put<1>(dbias + o, Vec<1>{{tile.of_a}}, add);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    matmul_backward_weight(Grad* dweight, Grad* dbias, const Act* dout, const Act* inp, int N, int C, int OC, int add) {
    backward_weight(dweight, dbias, dout, inp, N, C, OC, 0, N, add);
}

// The same in slices. A layer's weight has few tiles and N is long, so gridDim.z blocks share the sum of a tile, `slice` of N
// each, a multiple of BLOCK_K. Their sums go to `partial`, (gridDim.z, OC·C + OC) floats; matmul_backward_weight_finish adds them
// up in the order of their numbers, so that the bits are always the same. `biased` says whether dbias is wanted.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    matmul_backward_weight_slices(float* partial, const Act* dout, const Act* inp, int N, int C, int OC, int slice, int biased) {
    const size_t weights = static_cast<size_t>(OC) * C;
    float* dweight = partial + blockIdx.z * (weights + OC);
    const int n0 = blockIdx.z * slice;
    backward_weight(dweight, biased ? dweight + weights : nullptr, dout, inp, N, C, OC, n0, min(N, n0 + slice), false);
}

// dweight and dbias from their slices. Reads each slice once: 4·slices·(OC·C + OC) bytes. Launch: any grid, block 256; a thread
// takes every gridDim.x·256th element.
extern "C" __global__ void __launch_bounds__(256)
    matmul_backward_weight_finish(Grad* dweight, Grad* dbias, const float* partial, int slices, int C, int OC, int add) {
    const size_t weights = static_cast<size_t>(OC) * C, all = weights + OC;
    const size_t last = dbias == nullptr ? weights : all;
    for (size_t i = blockIdx.x * size_t{256} + threadIdx.x; i < last; i += size_t{256} * gridDim.x) {
        float sum = 0.0f;
        for (int s = 0; s < slices; s++) sum += partial[s * all + i];
        put<1>(i < weights ? dweight + i : dbias + (i - weights), Vec<1>{{sum}}, add);
    }
}
