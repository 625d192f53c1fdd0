// What a device multiplies at best, on registers alone: the ceiling that products are measured against. It computes nothing.
//
// Each thread (peak_float) or warp (peak_mma) has CHAINS sums that do not wait for one another, so that one instruction can begin
// while those before are under way.
//
// FLOPs: peak_float 2·CHAINS·rounds a thread; peak_mma 2·16·8·16·CHAINS·rounds a warp. No memory.
// launch: blocks of 256 threads, a few for every multiprocessor.
// assumes: `out` has room for an element, which is not written as long as `never` is not what a sum comes to.

#include "lib/ptx.cuh"
#include "lib/types.cuh"

constexpr int THREADS = 256;
constexpr int CHAINS = 8;

extern "C" __global__ void __launch_bounds__(THREADS) peak_float(float* out, int rounds, float a, float b, float never) {
    float sum[CHAINS];
#pragma unroll
    for (int i = 0; i < CHAINS; i++) sum[i] = a * i;
    for (int round = 0; round < rounds; round++) {
#pragma unroll
        for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * a + b;
    }
    float all = 0;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) all += sum[i];
    if (all == never) *out = all;
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
// a and b are pairs of bf16.
extern "C" __global__ void __launch_bounds__(THREADS) peak_mma(float* out, int rounds, uint32 a, uint32 b, float never) {
    const uint32 left[4] = {a, a, a, a};
    float sum[CHAINS][4] = {};
    for (int round = 0; round < rounds; round++) {
#pragma unroll
        for (int i = 0; i < CHAINS; i++) multiply_add(sum[i], left, b, b);
    }
    float all = 0;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) all += sum[i][0] + sum[i][1] + sum[i][2] + sum[i][3];
    if (all == never) *out = all;
}
#endif
