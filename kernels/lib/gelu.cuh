// GELU of one number and its derivative, for gelu.cu, which has the formulas, and for the epilogues of matmul.
#pragma once

#include "lib/math.cuh"

constexpr float SQRT_2_OVER_PI = 0.7978845608028654f;
constexpr float CUBIC = 0.044715f;

// 1/(1 + e^(−2u(x))) = (1 + tanh u(x))/2
__device__ __forceinline__ float gelu_gate(float x) {
    const float u = SQRT_2_OVER_PI * (x + CUBIC * x * x * x);
    return divide_fast(1.0f, 1.0f + exp_fast(-2.0f * u));
}

__device__ __forceinline__ float gelu(float x) {
    return x * gelu_gate(x);
}

__device__ __forceinline__ float gelu_derivative(float x) {
    const float s = gelu_gate(x);
    const float du = SQRT_2_OVER_PI * (1.0f + 3.0f * CUBIC * x * x);
    return s + 2.0f * x * s * (1.0f - s) * du;
}
