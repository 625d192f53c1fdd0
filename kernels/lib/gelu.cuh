// GELU in its tanh form (Hendrycks and Gimpel 2016), as GPT-2 has it, and its derivative.
//
//   gelu(x) = x/2·(1 + tanh u)     gelu′(x) = (1 + tanh u)/2 + x/2·(1 − tanh² u)·u′     u = √(2/π)·(x + 0.044715·x³)
#pragma once

constexpr float GELU_ROOT = 0.7978845608028654f;  // √(2/π)
constexpr float GELU_CUBIC = 0.044715f;

__device__ __forceinline__ float gelu(float x) {
    const float u = GELU_ROOT * (x + GELU_CUBIC * x * x * x);
    return 0.5f * x * (1.0f + tanhf(u));
}

__device__ __forceinline__ float gelu_derivative(float x) {
    const float u = GELU_ROOT * (x + GELU_CUBIC * x * x * x);
    const float du = GELU_ROOT * (1.0f + 3.0f * GELU_CUBIC * x * x);
    const float t = tanhf(u);
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du;
}
