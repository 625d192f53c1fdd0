// Sums over a whole tensor: the loss, and the norm by which gradients are clipped.
//
//   sum           out[0] = Σ inp[i]
//   global_norm   out[0] = √(Σ grads[i]²)
//
// floor: n·sizeof(element). Bound by memory: a pure stream.
// launch: two kernels. `sum` and `global_norm` with ⌈n/CHUNK⌉ blocks of 256 threads each leave the sum of CHUNK elements in
//   partial[block]; the `_finish` kernels, one block of 1024 threads, add those. The order depends on n and the alignment
//   alone. A thread adds at most CHUNK/256 numbers before its sum joins those of others, so that rounding errors do not grow
//   with n as they would in a running sum.
// assumes: nothing of alignment.

#include "lib/elementwise.cuh"
#include "lib/reduce.cuh"
#include "lib/types.cuh"

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP;
constexpr int FINISH_THREADS = 1024;
// Elements that a block adds: partial sums are one in 32768 of what is read, and 1024 threads have few to add.
constexpr int CHUNK = 32768;

struct Identity {
    static __device__ __forceinline__ float apply(float x) { return x; }
};
struct Square {
    static __device__ __forceinline__ float apply(float x) { return x * x; }
};

// The sum of Map(x) over this block's chunk, in a separate sum for each of a vector's places.
template <typename Map, int W, typename T>
__device__ __forceinline__ float chunk_sum(const T* inp, uint64 n) {
    const uint64 begin = static_cast<uint64>(blockIdx.x) * CHUNK;
    const int count = static_cast<int>(min(static_cast<uint64>(CHUNK), n - begin));
    inp += begin;
    Vec<W> sum = {};
#pragma unroll 4
    for (int i = threadIdx.x * W; i + W <= count; i += THREADS * W) {
        const Vec<W> x = load<W, Cache::streaming>(inp + i);
#pragma unroll
        for (int j = 0; j < W; j++) sum[j] += Map::apply(x[j]);
    }
    const int rest = count / W * W + threadIdx.x;
    if (rest < count) sum[0] += Map::apply(widen(inp[rest]));
#pragma unroll
    for (int half = W / 2; half > 0; half /= 2) {
#pragma unroll
        for (int j = 0; j < half; j++) sum[j] += sum[j + half];
    }
    return sum[0];
}

template <typename Map, typename T>
__device__ __forceinline__ void partial_sums(float* partial, const T* inp, uint64 n) {
    __shared__ float scratch[WARPS];
    const float own = aligned_16(inp) ? chunk_sum<Map, WIDTH<T>>(inp, n) : chunk_sum<Map, 1>(inp, n);
    const float total = block_sum<WARPS>(own, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

__device__ __forceinline__ float finished_sum(const float* partial, int chunks) {
    __shared__ float scratch[FINISH_THREADS / WARP];
    float own = 0.0f;
    for (int i = threadIdx.x; i < chunks; i += FINISH_THREADS) own += partial[i];
    return block_sum<FINISH_THREADS / WARP>(own, scratch);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    sum(float* __restrict__ partial, const float* __restrict__ inp, uint64 n) {
    partial_sums<Identity>(partial, inp, n);
}

extern "C" __global__ void __launch_bounds__(FINISH_THREADS)
    sum_finish(float* __restrict__ out, const float* __restrict__ partial, int chunks) {
    const float total = finished_sum(partial, chunks);
    if (threadIdx.x == 0) *out = total;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    global_norm(float* __restrict__ partial, const Grad* __restrict__ grads, uint64 n) {
    partial_sums<Square>(partial, grads, n);
}

extern "C" __global__ void __launch_bounds__(FINISH_THREADS)
    global_norm_finish(float* __restrict__ out, const float* __restrict__ partial, int chunks) {
    const float total = finished_sum(partial, chunks);
    if (threadIdx.x == 0) *out = sqrtf(total);
}
