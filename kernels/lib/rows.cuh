// Rows that a softmax is taken of, of which only the first elements count: those up to the diagonal, those of the
// vocabulary.
#pragma once

#include "lib/math.cuh"
#include "lib/types.cuh"

// Elements i to i + W − 1 of a row whose first `live` may be read; the others are `fill`. The vector that `live` divides is
// read element by element: what lies beyond may be anything, memory that nobody has written included.
template <int W, typename T>
__device__ __forceinline__ Vec<W> load_live(const T* row, int i, int live, float fill) {
    if constexpr (W == 1) {
        return load<1>(row + i);
    } else {
        if (i + W <= live) return load<W>(row + i);
        Vec<W> x;
#pragma unroll
        for (int j = 0; j < W; j++) x[j] = i + j < live ? widen(row[i + j]) : fill;
        return x;
    }
}

// The largest of some numbers and the sum of their exponentials, e^max taken out: Σ e^x = total·e^max. Both are found in one
// pass, as a larger maximum only means that what was added up before shrinks (Milakov, Gimelshein: Online normalizer
// calculation for softmax, 2018).
struct SoftmaxSum {
    // Finite, so that no difference of infinities arises; below it lie only −∞ and what rounds to it.
    float max = -3.402823466e38f;
    float total = 0.0f;

    template <int W>
    __device__ __forceinline__ void add(const Vec<W>& x) {
        float largest = max;
#pragma unroll
        for (int j = 0; j < W; j++) largest = fmaxf(largest, x[j]);
        total *= exp_fast(max - largest);
        max = largest;
#pragma unroll
        for (int j = 0; j < W; j++) total += exp_fast(x[j] - largest);
    }
    // This sum as it is beside a larger maximum.
    __device__ __forceinline__ float beside(float largest) const { return total * exp_fast(max - largest); }
};
