// What the fused kernels of attention share: where a head lies, and their constants.
#pragma once

#include "lib/math.cuh"
#include "lib/matrix.cuh"

#ifndef DROPOUT
#define DROPOUT 1
#endif
constexpr float LN_2 = 0.6931471805599453f;

// The head of blockIdx.x = b·NH + h.
struct Head {
    int NH;
    size_t b, h, C;

    __device__ __forceinline__ explicit Head(int NH)
        : NH(NH), b(blockIdx.x / NH), h(blockIdx.x % NH), C(static_cast<size_t>(NH) * HS) {}

    // Its T rows of q, k or v (part 0, 1, 2) in qkv (B,T,3C) or the gradient.
    template <int W = 4, typename E>
    __device__ __forceinline__ Matrix<E, W> part(E* qkv, int T, int part) const {
        return Matrix<E, W>(qkv + b * T * 3 * C + part * C + h * HS, 3 * C, T, HS);
    }
    // Its T rows in out (B,T,C), the gradient or a cache.
    template <int W = 4, typename E>
    __device__ __forceinline__ Matrix<E, W> rows(E* out, int T) const {
        return Matrix<E, W>(out + b * T * C + h * HS, C, T, HS);
    }
    // Row t of it among (B,NH,T).
    __device__ __forceinline__ size_t row(int T, int t) const { return static_cast<size_t>(blockIdx.x) * T + t; }
};

// By what scores are multiplied so that 2 to their power is the exponential.
__device__ __forceinline__ float to_base_2() {
    return rsqrtf(static_cast<float>(HS)) * LOG2_E;
}
