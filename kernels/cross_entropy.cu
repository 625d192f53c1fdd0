// Softmax and cross-entropy over a vocabulary of V, in rows padded to Vp.
//
//   losses[n] = w·(log Σ_{v < V} e^logits[n,v] − logits[n,targets[n]]), 0 where the target is IGNORE
//   and in place of the logits, in the fused kernel, scale·w·(softmax(logits[n])[v] − [v = targets[n]]); 0 from V on, and in
//   rows whose target is IGNORE
//
// logits (N,Vp), columns from V on are not read; losses (N) float, targets (N); w = weights[n] (N) float, 1 without weights.
//
// floor: forward N·V·sizeof(Act), fused 2·N·Vp·sizeof(Act). Bound by memory. The fused kernel needs each logit twice, for the
//   sum and for its gradient: if `staged`, a thread keeps what it read in shared memory, else it reads it again.
// launch: a block of 512 threads a row, grid N. Two blocks or more on a multiprocessor: one reads while another writes.
// shared memory: if staged, dynamic, V·sizeof(Act) rounded up to 16 bytes; 98 KiB for GPT-2's vocabulary in bf16.
// assumes: targets below V, or IGNORE. Any alignment; 16-byte accesses where logits begin at a multiple and Vp is a multiple
//   of WIDTH<Act>.

#include "lib/reduce.cuh"
#include "lib/rows.cuh"
#include "lib/types.cuh"

constexpr int WARPS = 16;
constexpr int THREADS = WARPS * WARP;

extern __shared__ uint4 dynamic[];

// What row n counts.
__device__ __forceinline__ float weight_of(const float* weights, size_t n) {
    return weights ? __uint_as_float(broadcast(reinterpret_cast<const uint32*>(weights) + n)) : 1.0f;
}

// What a thread has read of its row, and reads again.
__device__ __forceinline__ Act* kept() {
    return reinterpret_cast<Act*>(dynamic);
}

// A row's maximum and the sum of its exponentials beside it. If `keep`, what was read is kept.
template <int W>
__device__ __forceinline__ SoftmaxSum row_sum(const Act* row, int V, bool keep, float* scratch) {
    SoftmaxSum own;
    int v = threadIdx.x * W;
    // Four loads in flight, which nothing but whole vectors allows. At most one vector of the row is not whole.
#pragma unroll 4
    for (; v + W <= V; v += THREADS * W) {
        const Vec<W> x = load<W>(row + v);
        if (keep) store<W>(kept() + v, x);
        own.add(x);
    }
    if (v < V) {
        const Vec<W> x = load_live<W>(row, v, V, -INFINITE);
        if (keep) store<W>(kept() + v, x);
        own.add(x);
    }
    SoftmaxSum all;
    all.max = block_max<WARPS>(own.max, scratch);
    all.total = block_sum<WARPS>(own.beside(all.max), scratch + WARPS);
    return all;
}

template <int W>
__device__ __forceinline__ void forward(float* loss, const Act* row, uint32 target, float weight, int V, float* scratch) {
    const SoftmaxSum all = row_sum<W>(row, V, false, scratch);
    // The difference of the logits first: it is exact, or small beside the logarithm.
    if (threadIdx.x == 0) *loss = weight * (logf(all.total) - (widen(row[target]) - all.max));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    cross_entropy_forward(float* __restrict__ losses, const Act* __restrict__ logits,
                          const uint32* __restrict__ targets, const float* __restrict__ weights, int V, int Vp) {
    __shared__ float scratch[2 * WARPS];
    const size_t n = blockIdx.x;
    const uint32 target = broadcast(targets + n);
    const Act* const row = logits + n * Vp;
    if (target == IGNORE) {
        if (threadIdx.x == 0) losses[n] = 0.0f;
    } else if (Vp % WIDTH<Act> == 0 && aligned_16(logits)) {
        forward<WIDTH<Act>>(losses + n, row, target, weight_of(weights, n), V, scratch);
    } else {
        forward<1>(losses + n, row, target, weight_of(weights, n), V, scratch);
    }
}

template <int W>
__device__ __forceinline__ void forward_backward(float* loss, Act* row, uint32 target, float weight, int V, int Vp,
                                                 float scale, bool staged, float* scratch) {
    if (target == IGNORE) {
        for (int v = threadIdx.x * W; v < Vp; v += THREADS * W) store<W>(row + v, Vec<W>{});
        if (threadIdx.x == 0) *loss = 0.0f;
        return;
    }
    // Before the barriers of the sum, and so before any thread writes over it.
    const float logit = threadIdx.x == 0 ? widen(row[target]) : 0.0f;
    const SoftmaxSum all = row_sum<W>(row, V, staged, scratch);
    if (threadIdx.x == 0) *loss = weight * (logf(all.total) - (logit - all.max));
    scale *= weight;

    // A thread reads of shared memory, or again of the row, what it read and no other writes: no barrier.
    const float factor = scale / all.total;
#pragma unroll 4
    for (int v = threadIdx.x * W; v < Vp; v += THREADS * W) {
        Vec<W> d = {};
        if (v < V) {
            d = staged ? load<W>(kept() + v) : load_live<W>(row, v, V, -INFINITE);
#pragma unroll
            for (int j = 0; j < W; j++) {
                d[j] = exp_fast(d[j] - all.max) * factor;
                if (v + j == target) d[j] -= scale;
            }
        }
        store<W>(row + v, d);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    cross_entropy_forward_backward(float* __restrict__ losses, Act* logits, const uint32* __restrict__ targets,
                                   const float* __restrict__ weights, int V, int Vp, float scale, int staged) {
    __shared__ float scratch[2 * WARPS];
    const size_t n = blockIdx.x;
    const uint32 target = broadcast(targets + n);
    const float weight = weight_of(weights, n);
    Act* const row = logits + n * Vp;
    if (Vp % WIDTH<Act> == 0 && aligned_16(logits)) {
        forward_backward<WIDTH<Act>>(losses + n, row, target, weight, V, Vp, scale, staged, scratch);
    } else {
        forward_backward<1>(losses + n, row, target, weight, V, Vp, scale, staged, scratch);
    }
}
