// Dropout (Srivastava et al. 2014), what is kept scaled up: out[i] = inp[i]·m[i] with m[i] = 1/(1 − p) or 0.
//
// The mask is not stored: element i is kept if word i mod 4 of Philox block i/4 is at least p·2³² (see lib/philox.cuh). The
// backward is the same map on the gradient, so it is the same kernel.
//
// floor: 2·n·sizeof(Act), and a Philox block of 20 wide multiplications for 4 elements. Bound by memory.
// launch: blocks of 256 threads, one for every vector of 16 bytes; any grid is right.
// assumes: lengths of n; out overlaps nothing else. Any alignment, but without 16 bytes the words of a block are made four
// times.

#include "lib/elementwise.cuh"
#include "lib/philox.cuh"
#include "lib/types.cuh"

constexpr int THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS)
    dropout_forward(Act* __restrict__ out, const Act* __restrict__ inp, uint64 n, uint64 seed, uint32 site,
                    uint32 threshold, float scale) {
    const Dropout dropout{seed, site, threshold, scale};
    for_each<WIDTH<Act>>(n, aligned_16(out, inp), [=](size_t i, auto width) {
        constexpr int W = width.value;
        Vec<W> x = load<W>(inp + i);
        if constexpr (W == 1) {
            x[0] *= dropout.factor_at(i);
        } else {
#pragma unroll
            for (int j = 0; j < W; j += 4) {
                const uint4 words = dropout.words(i / 4 + j / 4);
                x[j] *= dropout.factor(words.x);
                x[j + 1] *= dropout.factor(words.y);
                x[j + 2] *= dropout.factor(words.z);
                x[j + 3] *= dropout.factor(words.w);
            }
        }
        store<W>(out + i, x);
    });
}
