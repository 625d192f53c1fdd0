// Approximations that are good enough, and how good they are.
#pragma once

#include "lib/types.cuh"

constexpr float LOG2_E = 1.4426950408889634f;

// 2^x, one instruction of the special function unit: off by at most 2 units in the last place, and results below 2^-126
// become 0.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// e^x, off by up to (2 + |x|)·2^-23 of itself: the product is rounded before the power is taken, so the error grows with x.
// Softmax and GELU take it of numbers at or below 0 or of numbers that are soon saturated: what is far from 0 is then
// small beside what it is added to.
__device__ __forceinline__ float exp_fast(float x) {
    return exp2_fast(x * LOG2_E);
}

// x / y, off by at most 2 units in the last place; 0 where y is 2^126 or more.
__device__ __forceinline__ float divide_fast(float x, float y) {
    float z;
    asm("div.approx.ftz.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}
