// What the fused kernels of attention share: where a head lies, and their constants.
#pragma once

#include "lib/math.cuh"
#include "lib/matrix.cuh"

#ifndef DROPOUT
#define DROPOUT 1
#endif
#ifndef STARTS
#define STARTS 0
#endif
constexpr float LN_2 = 0.6931471805599453f;
// Below every score that counts, and finite, so that no difference of infinities arises while a query has met none.
constexpr float LOWEST = -3.402823466e38f;

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

// Where what each query of a sequence sees begins: texts packed in a row do not see each other. Compiled without -DSTARTS=1, all
// of it is at key 0, and takes no instruction.
struct Starts {
    const uint32* of;
    int T;

    // starts (B,T); null without.
    __device__ __forceinline__ Starts(const uint32* starts, const Head& head, int T)
        : of(STARTS ? starts + head.b * T : nullptr), T(T) {}

    // That of query t, which may be none.
    __device__ __forceinline__ int at(int t) const { return STARTS && t < T ? static_cast<int>(of[t]) : 0; }
    // Where a block of queries from `first` on begins with tiles of TILE keys: those before are seen by none of them, as starts
    // never go back.
    template <int TILE>
    __device__ __forceinline__ int first_tile(int first) const {
        return at(first) / TILE * TILE;
    }
    // The end of the queries from `first` on that may see keys before `last`, in tiles of TILE: of the first tile that does not, all
    // queries start behind, and those of later ones.
    template <int TILE>
    __device__ __forceinline__ int end_of_queries(int first, int last) const {
        if (!STARTS) return T;
        int low = 0, high = ceil_div(T - first, TILE);
        while (low < high) {
            const int middle = (low + high) / 2;
            if (at(first + middle * TILE) < last) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return min(T, first + low * TILE);
    }
};

// By what scores are multiplied so that 2 to their power is the exponential.
__device__ __forceinline__ float to_base_2() {
    return rsqrtf(static_cast<float>(HS)) * LOG2_E;
}
