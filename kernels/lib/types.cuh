// Types of the kernels, and how their elements get to and from memory.
//
// Nothing here or elsewhere under kernels/ comes from CUDA's headers: NVRTC alone compiles it. Three rules hold everywhere:
//   - tensors are stored as Act (activations, weights), Grad (gradients of weights) or float (statistics, moments, losses);
//     the host chooses the first two by -DACT=float|bf16 and -DGRAD=float|bf16;
//   - all arithmetic is in float: an element is widened when it is read and rounded once, to the nearest, when it is written;
//   - an access is 16 bytes wide where addresses allow: a warp then asks for 512 bytes in one instruction, and as few
//     instructions as can be keep the memory busy.
#pragma once

using uint8 = unsigned char;
using uint16 = unsigned short;
using uint32 = unsigned int;
using uint64 = unsigned long long;
using int32 = int;
using int64 = long long;

static_assert(sizeof(uint16) == 2 && sizeof(uint32) == 4 && sizeof(uint64) == 8 && sizeof(size_t) == 8, "LP64");

// The upper half of a float: its sign, its 8 bits of exponent and 7 of its 23 bits of mantissa.
struct bf16 {
    uint16 bits;
};

#ifndef ACT
#define ACT float
#endif
#ifndef GRAD
#define GRAD ACT
#endif
using Act = ACT;
using Grad = GRAD;

// A target that counts for nothing, and no token's number.
constexpr uint32 IGNORE = 0xffffffff;

constexpr int WARP = 32;
constexpr uint32 FULL_MASK = 0xffffffff;

template <typename A, typename B>
constexpr bool same_type = false;
template <typename A>
constexpr bool same_type<A, A> = true;

// ceil(a / b)
template <typename T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
    return (a + b - 1) / b;
}

constexpr float INFINITE = __builtin_bit_cast(float, 0x7f800000);

// ---- conversions

// float from the bits of a bf16 in the low half, or in the high half, of a word: widening is exact, a shift.
__device__ __forceinline__ float widen_low(uint32 pair) {
    return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float widen_high(uint32 pair) {
    return __uint_as_float(pair & 0xffff0000);
}

__device__ __forceinline__ float widen(float x) {
    return x;
}
__device__ __forceinline__ float widen(bf16 x) {
    return widen_low(x.bits);
}

// Two floats as bf16, to the nearest, ties to even: `low` comes first in memory. One instruction, from sm_80 on.
__device__ __forceinline__ uint32 narrow_pair(float low, float high) {
    uint32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// A float rounded to T, to the nearest, ties to even.
template <typename T>
__device__ __forceinline__ T narrow(float x) {
    if constexpr (same_type<T, bf16>) {
        uint16 bits;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
        return bf16{bits};
    } else {
        return x;
    }
}

// What remains of x when it is stored as T and read again.
template <typename T>
__device__ __forceinline__ float rounded(float x) {
    return widen(narrow<T>(x));
}

// ---- vectors

// W elements of a tensor, widened.
template <int W>
struct Vec {
    float at[W];

    __device__ __forceinline__ float& operator[](int i) { return at[i]; }
    __device__ __forceinline__ const float& operator[](int i) const { return at[i]; }
};

// How many elements of T 16 bytes hold.
template <typename T>
constexpr int WIDTH = 16 / sizeof(T);

// How a cache may treat what is read or written. Statistics of use, not of correctness: a hint changes no result.
enum class Cache {
    usual,
    // Touched once: evicted first, so that it does not push out what others will read again.
    streaming,
};

template <Cache CACHE = Cache::usual>
__device__ __forceinline__ uint4 load_16(const void* p) {
    if constexpr (CACHE == Cache::streaming) {
        return __ldcs(static_cast<const uint4*>(p));
    } else {
        return *static_cast<const uint4*>(p);
    }
}
template <Cache CACHE = Cache::usual>
__device__ __forceinline__ uint2 load_8(const void* p) {
    if constexpr (CACHE == Cache::streaming) {
        return __ldcs(static_cast<const uint2*>(p));
    } else {
        return *static_cast<const uint2*>(p);
    }
}
template <Cache CACHE = Cache::usual>
__device__ __forceinline__ void store_16(void* p, uint4 x) {
    if constexpr (CACHE == Cache::streaming) {
        __stcs(static_cast<uint4*>(p), x);
    } else {
        *static_cast<uint4*>(p) = x;
    }
}
template <Cache CACHE = Cache::usual>
__device__ __forceinline__ void store_8(void* p, uint2 x) {
    if constexpr (CACHE == Cache::streaming) {
        __stcs(static_cast<uint2*>(p), x);
    } else {
        *static_cast<uint2*>(p) = x;
    }
}

// 16 bytes of memory as the WIDTH<T> elements they hold, and back.
template <typename T>
__device__ __forceinline__ Vec<WIDTH<T>> unpack(uint4 raw) {
    const uint32 words[4] = {raw.x, raw.y, raw.z, raw.w};
    Vec<WIDTH<T>> x;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if constexpr (same_type<T, bf16>) {
            x[2 * i] = widen_low(words[i]);
            x[2 * i + 1] = widen_high(words[i]);
        } else {
            x[i] = __uint_as_float(words[i]);
        }
    }
    return x;
}
template <typename T>
__device__ __forceinline__ uint4 pack(const Vec<WIDTH<T>>& x) {
    if constexpr (same_type<T, bf16>) {
        return make_uint4(narrow_pair(x[0], x[1]), narrow_pair(x[2], x[3]), narrow_pair(x[4], x[5]),
                          narrow_pair(x[6], x[7]));
    } else {
        return make_uint4(__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]), __float_as_uint(x[3]));
    }
}

// W elements from p on, in accesses of 16 bytes, or of 8 where they are no more: p must be a multiple of that. With W = 1
// any element's address will do.
template <int W, Cache CACHE = Cache::usual, typename T>
__device__ __forceinline__ Vec<W> load(const T* p) {
    Vec<W> x;
    if constexpr (W == 1) {
        x[0] = widen(*p);
    } else if constexpr (W * sizeof(T) == 8) {
        const uint2 raw = load_8<CACHE>(p);
        if constexpr (same_type<T, bf16>) {
            x[0] = widen_low(raw.x), x[1] = widen_high(raw.x);
            x[2] = widen_low(raw.y), x[3] = widen_high(raw.y);
        } else {
            x[0] = __uint_as_float(raw.x), x[1] = __uint_as_float(raw.y);
        }
    } else {
        static_assert(W % WIDTH<T> == 0, "whole accesses of 16 bytes, one of 8, or one element");
#pragma unroll
        for (int i = 0; i < W; i += WIDTH<T>) {
            const Vec<WIDTH<T>> part = unpack<T>(load_16<CACHE>(p + i));
#pragma unroll
            for (int j = 0; j < WIDTH<T>; j++) x[i + j] = part[j];
        }
    }
    return x;
}

// Rounds W elements to T and writes them from p on, with the widths and the alignment of load.
template <int W, Cache CACHE = Cache::usual, typename T>
__device__ __forceinline__ void store(T* p, const Vec<W>& x) {
    if constexpr (W == 1) {
        *p = narrow<T>(x[0]);
    } else if constexpr (W * sizeof(T) == 8) {
        if constexpr (same_type<T, bf16>) {
            store_8<CACHE>(p, make_uint2(narrow_pair(x[0], x[1]), narrow_pair(x[2], x[3])));
        } else {
            store_8<CACHE>(p, make_uint2(__float_as_uint(x[0]), __float_as_uint(x[1])));
        }
    } else {
        static_assert(W % WIDTH<T> == 0, "whole accesses of 16 bytes, one of 8, or one element");
#pragma unroll
        for (int i = 0; i < W; i += WIDTH<T>) {
            Vec<WIDTH<T>> part;
#pragma unroll
            for (int j = 0; j < WIDTH<T>; j++) part[j] = x[i + j];
            store_16<CACHE>(p + i, pack<T>(part));
        }
    }
}

// Sets or adds: with `add`, what is at p is read and added to first.
template <int W, Cache CACHE = Cache::usual, typename T>
__device__ __forceinline__ void put(T* p, Vec<W> x, bool add) {
    if (add) {
        const Vec<W> before = load<W, CACHE>(p);
#pragma unroll
        for (int i = 0; i < W; i++) x[i] += before[i];
    }
    store<W, CACHE>(p, x);
}

// What one lane reads for its warp: all reading the same would ask for 32 times as much.
__device__ __forceinline__ uint32 broadcast(const uint32* p) {
    const uint32 x = threadIdx.x % WARP == 0 ? *p : 0;
    return __shfl_sync(FULL_MASK, x, 0);
}

// Whether all of these addresses are multiples of 16. The same for every thread, so a branch on it costs nothing. A null
// pointer counts as aligned.
template <typename... P>
__device__ __forceinline__ bool aligned_16(const P*... p) {
    return ((reinterpret_cast<size_t>(p) | ...) & 15) == 0;
}
