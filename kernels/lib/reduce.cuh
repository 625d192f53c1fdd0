// Reductions over the threads of a warp and of a block, in a fixed order: the same operands give the same bits, and every
// thread that takes part gets the result.
#pragma once

#include "lib/types.cuh"

struct Sum {
    static constexpr float NEUTRAL = 0.0f;
    static __device__ __forceinline__ float apply(float a, float b) { return a + b; }
};
struct Max {
    static constexpr float NEUTRAL = -INFINITE;
    static __device__ __forceinline__ float apply(float a, float b) { return fmaxf(a, b); }
};

// Over groups of LANES neighbouring lanes, a power of two. All 32 lanes must call it.
//
// In each round a lane combines its value with that of the lane whose number differs in one bit. Both compute the same two
// operands, and neither addition nor maximum cares which comes first: so all lanes end with the same bits.
template <typename Op, int LANES = WARP>
__device__ __forceinline__ float warp_reduce(float x) {
#pragma unroll
    for (int bit = LANES / 2; bit > 0; bit /= 2) x = Op::apply(x, __shfl_xor_sync(FULL_MASK, x, bit));
    return x;
}
template <int LANES = WARP>
__device__ __forceinline__ float warp_sum(float x) {
    return warp_reduce<Sum, LANES>(x);
}
template <int LANES = WARP>
__device__ __forceinline__ float warp_max(float x) {
    return warp_reduce<Max, LANES>(x);
}

// Over a block of WARPS full warps, one-dimensional, all of whose threads call it. `scratch` is shared memory of WARPS
// floats (none where WARPS is 1).
//
// One barrier: so scratch must not be written again, by the next reduction either, before the block has met at another.
// A kernel that reduces twice in a row takes two scratches in turn.
template <typename Op, int WARPS>
__device__ __forceinline__ float block_reduce(float x, float* scratch) {
    static_assert(WARPS >= 1 && WARPS <= WARP, "a block has up to 32 warps");
    x = warp_reduce<Op>(x);
    if constexpr (WARPS > 1) {
        const int lane = threadIdx.x % WARP;
        if (lane == 0) scratch[threadIdx.x / WARP] = x;
        __syncthreads();
        // Every warp reduces the warps' results once more: dearer than one warp and a second barrier only in instructions.
        x = warp_reduce<Op>(lane < WARPS ? scratch[lane] : Op::NEUTRAL);
    }
    return x;
}
template <int WARPS>
__device__ __forceinline__ float block_sum(float x, float* scratch) {
    return block_reduce<Sum, WARPS>(x, scratch);
}
template <int WARPS>
__device__ __forceinline__ float block_max(float x, float* scratch) {
    return block_reduce<Max, WARPS>(x, scratch);
}
