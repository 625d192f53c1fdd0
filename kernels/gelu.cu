// GELU in its tanh form (Hendrycks and Gimpel 2016), as GPT-2 has it.
//
//   u(x) = √(2/π)·(x + 0.044715·x³)
//   forward    out = x/2·(1 + tanh u) = x·s          with s = 1/(1 + e^(−2u)), since (1 + tanh u)/2 = s
//   backward   dinp = dout·(s + 2·x·s·(1 − s)·u′)    u′ = √(2/π)·(1 + 3·0.044715·x²), since 1 − tanh² u = 4·s·(1 − s)
//
// The logistic form has no difference of near numbers in it, where 1 + tanh u loses the digits of a small result, and takes
// one exponential and one division. Both are approximate (see lib/math.cuh): off by about 1e-6 of the largest values.
//
// floor: forward 2·n·sizeof(Act); backward 3·n·sizeof(Act). Bound by memory.
// launch: blocks of 256 threads, one for every vector of 16 bytes; any grid is right.
// assumes: lengths of n; outputs overlap nothing else. Any alignment.

#include "lib/elementwise.cuh"
#include "lib/gelu.cuh"
#include "lib/types.cuh"

constexpr int THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS)
    gelu_forward(Act* __restrict__ out, const Act* __restrict__ inp, uint64 n) {
    for_each<WIDTH<Act>>(n, aligned_16(out, inp), [=](size_t i, auto width) {
        constexpr int W = width.value;
        Vec<W> x = load<W>(inp + i);
#pragma unroll
        for (int j = 0; j < W; j++) x[j] = gelu(x[j]);
        store<W>(out + i, x);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    gelu_backward(Act* __restrict__ dinp, const Act* __restrict__ dout, const Act* __restrict__ inp, uint64 n) {
    for_each<WIDTH<Act>>(n, aligned_16(dinp, dout, inp), [=](size_t i, auto width) {
        constexpr int W = width.value;
        Vec<W> d = load<W>(dout + i);
        const Vec<W> x = load<W>(inp + i);
#pragma unroll
        for (int j = 0; j < W; j++) d[j] *= gelu_derivative(x[j]);
        store<W>(dinp + i, d);
    });
}
