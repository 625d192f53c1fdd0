// The walk of a kernel that treats each element of some tensors by itself.
#pragma once

#include "lib/types.cuh"

template <int W>
struct Width {
    static constexpr int value = W;
};

// Calls f(i, Width<W>) for vectors of W elements from i on, and f(i, Width<1>) for single ones, so that each of n elements
// is met once: whole vectors if `aligned`, which says that all tensors begin at a multiple of 16 bytes, and what is left.
//
// Right for any grid of one-dimensional blocks. With a thread for every vector the loops run once, and enough threads are
// resident to keep the memory busy.
template <int W, typename F>
__device__ __forceinline__ void for_each(size_t n, bool aligned, F f) {
    const size_t thread = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const size_t threads = static_cast<size_t>(gridDim.x) * blockDim.x;
    size_t done = 0;
    if (aligned) {
        done = n / W * W;
        for (size_t i = thread * W; i < done; i += threads * W) f(i, Width<W>{});
    }
    for (size_t i = done + thread; i < n; i += threads) f(i, Width<1>{});
}
