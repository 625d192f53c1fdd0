// Sums over the rows of a matrix, column by column, in a fixed order: the gradients of biases and of layernorm's weights.
//
// Two launches. In the first, each block adds up a range of rows and leaves one row of partial sums in float; the second
// adds those rows. Which rows are added to which, and in what order, depends on the sizes alone.
#pragma once

#include "lib/types.cuh"

// Floats that block_columns needs for each of a block's warps.
template <int W>
constexpr int COLUMNS_SCRATCH = W == 1 ? WARP : W * WARP + WARP;

// The warps of a block hold sums of different rows over the same WARP·W columns: lane l those of columns l·W to l·W + W - 1.
// Adds the warps' sums, warp 0 first, and calls write(c, total) for each column c of `begin` to `end` - 1, but at most WARP·W,
// in one thread. All threads call it; scratch holds WARPS·COLUMNS_SCRATCH<W> floats, which may be used again as soon as it
// returns.
template <int W, int WARPS, typename F>
__device__ __forceinline__ void block_columns(const Vec<W>& sum, int begin, int end, float* scratch, F write) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    // Element i of lane l lies at i·STRIDE + l: the lanes of a store are neighbours. Below, lane l reads element l mod W
    // of lane l/W; a stride of 32 words would put all elements of a lane into one bank, 32/W words more spread them.
    constexpr int STRIDE = W == 1 ? WARP : WARP + WARP / W;
    static_assert(W * STRIDE == COLUMNS_SCRATCH<W>, "scratch holds the padded tile");
#pragma unroll
    for (int i = 0; i < W; i++) scratch[warp * COLUMNS_SCRATCH<W> + i * STRIDE + lane] = sum[i];
    __syncthreads();
    for (int c = threadIdx.x; c < WARP * W && begin + c < end; c += WARPS * WARP) {
        float total = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) total += scratch[w * COLUMNS_SCRATCH<W> + c % W * STRIDE + c / W];
        write(begin + c, total);
    }
    __syncthreads();
}

// The same into out[begin] and on.
template <int W, int WARPS>
__device__ __forceinline__ void block_columns(float* out, const Vec<W>& sum, int begin, int end, float* scratch) {
    block_columns<W, WARPS>(sum, begin, end, scratch, [=](int c, float total) { out[c] = total; });
}

// Warps of a block that adds rows of partial sums.
constexpr int FINISH_WARPS = 16;

// out[c] (set or added) Σ_r partial[r, c] over `rows` rows of C, for the 32 columns of block blockIdx.x. A block of
// FINISH_WARPS warps: each adds every FINISH_WARPS-th row, then warp 0 adds their sums.
__device__ __forceinline__ void finish_columns(Grad* out, const float* partial, int rows, int C, bool add) {
    __shared__ float scratch[FINISH_WARPS * WARP];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int c = blockIdx.x * WARP + lane;
    float sum = 0.0f;
    if (c < C) {
#pragma unroll 4
        for (int r = warp; r < rows; r += FINISH_WARPS) sum += partial[static_cast<size_t>(r) * C + c];
    }
    scratch[threadIdx.x] = sum;
    __syncthreads();
    if (warp == 0 && c < C) {
        float total = 0.0f;
#pragma unroll
        for (int w = 0; w < FINISH_WARPS; w++) total += scratch[w * WARP + lane];
        put<1>(out + c, Vec<1>{{total}}, add);
    }
}
