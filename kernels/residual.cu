// The residual connection.
//
//   forward    out[i] = a[i] + b[i]
//   backward   da[i] = dout[i], or da[i] += dout[i]: called once for each summand
//
// floor: forward 3·n·sizeof(Act); backward 2·n·sizeof(Act), with add 3·n·sizeof(Act). n FLOPs. Bound by memory.
// launch: blocks of 256 threads, one for every vector of 16 bytes; any grid is right.
// assumes: lengths of n; outputs overlap nothing else. Any alignment: 16-byte accesses where all tensors begin at a multiple.

#include "lib/elementwise.cuh"
#include "lib/types.cuh"

constexpr int THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS)
    residual_forward(Act* __restrict__ out, const Act* __restrict__ a, const Act* __restrict__ b, uint64 n) {
    for_each<WIDTH<Act>>(n, aligned_16(out, a, b), [=](size_t i, auto width) {
        constexpr int W = width.value;
        Vec<W> x = load<W>(a + i);
        const Vec<W> y = load<W>(b + i);
#pragma unroll
        for (int j = 0; j < W; j++) x[j] += y[j];
        store<W>(out + i, x);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    residual_backward(Act* __restrict__ da, const Act* __restrict__ dout, uint64 n, int add) {
    for_each<WIDTH<Act>>(n, aligned_16(da, dout), [=](size_t i, auto width) {
        constexpr int W = width.value;
        put<W>(da + i, load<W>(dout + i), add);
    });
}
