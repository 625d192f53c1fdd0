// What a warp has of its sums after mma.sync, and how they get out.
#pragma once

#include "lib/ptx.cuh"
#include "lib/types.cuh"

// One round of transposing 4 × 4 pairs over four lanes: of products j and j + bit, a lane whose bit is 0 keeps the first and gets
// its partner's first in place of the second, and the other way round.
__device__ __forceinline__ void exchange(float (&p)[4][2], int bit, bool second) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (j & bit) continue;
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const float give = second ? p[j][e] : p[j + bit][e];
            const float get = __shfl_xor_sync(FULL_MASK, give, bit);
            (second ? p[j][e] : p[j + bit][e]) = get;
        }
    }
}

// Eight neighbours of a row, of four products of 16 × 8 side by side. Of a row's 32 sums lane t of four has two of each product;
// after they have exchanged, it has the eight of product t, which are 16 bytes of bf16. The row is l / 4, or eight further with h = 1.
__device__ __forceinline__ Vec<8> row_of_four(const float (&sum)[4][4], int h) {
    const int t = threadIdx.x % 4;
    float p[4][2];
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) p[j][e] = sum[j][2 * h + e];
    exchange(p, 1, t & 1);
    exchange(p, 2, t & 2);
    return Vec<8>{{p[0][0], p[0][1], p[1][0], p[1][1], p[2][0], p[2][1], p[3][0], p[3][1]}};
}
