// Philox4x32-10, a random number generator without state: words are a function of a counter and a key, so that dropout's
// backward generates the forward's mask anew, and the same on every device.
//
// Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011), section 3.3.
#pragma once

#include "lib/types.cuh"

// Four random words.
__device__ __forceinline__ uint4 philox4x32_10(uint4 counter, uint2 key) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32 high0 = __umulhi(counter.x, 0xD2511F53), low0 = counter.x * 0xD2511F53;
        const uint32 high1 = __umulhi(counter.z, 0xCD9E8D57), low1 = counter.z * 0xCD9E8D57;
        counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key.x += 0x9E3779B9;  // the golden ratio and
        key.y += 0xBB67AE85;  // √3 − 1, as fractions of 2³²
    }
    return counter;
}

// Word i mod 4 without an indexed array, which would lie in local memory.
__device__ __forceinline__ uint32 word_of(uint4 words, uint32 i) {
    const uint32 low = i & 1 ? words.y : words.x, high = i & 1 ? words.w : words.z;
    return i & 2 ? high : low;
}

__device__ __forceinline__ uint2 key_of(uint64 seed) {
    return make_uint2(static_cast<uint32>(seed), static_cast<uint32>(seed >> 32));
}

// A dropout's mask: element i is kept where word i mod 4 of block i / 4 is at least `threshold` = ⌈p·2³²⌉, and what is
// kept is multiplied by `scale` = 1/(1 − p). With p = 0 the threshold is 0: everything is kept.
struct Dropout {
    uint64 seed;
    uint32 site;
    uint32 threshold;
    float scale;

    // The words of elements 4·block to 4·block + 3.
    __device__ __forceinline__ uint4 words(uint64 block) const {
        const uint32 low = static_cast<uint32>(block), high = static_cast<uint32>(block >> 32);
        return philox4x32_10(make_uint4(low, high, site, 0), key_of(seed));
    }
    // What the element with this word is multiplied by.
    __device__ __forceinline__ float factor(uint32 word) const { return word >= threshold ? scale : 0.0f; }
    // The same for element i alone; a kernel that walks a tensor asks for words and uses all four.
    __device__ __forceinline__ float factor_at(uint64 i) const {
        return factor(word_of(words(i / 4), static_cast<uint32>(i)));
    }
};
