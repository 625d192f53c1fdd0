// Keys and values of a head: those of past positions from a cache, those of new ones from where they were computed.
#pragma once

#include "attention/head.cuh"

// Where a sequence lies in a cache.
struct Cached {
    // Its row, and how many positions that holds.
    size_t row;
    int pos;

    // pos (B), rows (B) or null: then sequence b has row b.
    __device__ __forceinline__ Cached(const Head& head, const uint32* pos, const uint32* rows)
        : row(rows ? broadcast(rows + head.b) : head.b), pos(static_cast<int>(broadcast(pos + head.b))) {}

    // A head of it in a cache (rows,Tmax,C).
    template <int W = 4>
    __device__ __forceinline__ Matrix<Act, W> of(Act* cache, const Head& head, int Tmax) const {
        return Matrix<Act, W>(cache + row * Tmax * head.C + head.h * HS, head.C, Tmax, HS);
    }
};

// The keys or values of all positions: those before pos from the cache, the others from the new rows, which no block has to wait
// for then. Somebody adds those to the cache; nobody reads them there.
template <int W = 4>
struct Joined {
    Matrix<Act, W> cache;
    Matrix<const Act, W> fresh;
    int pos;

    __device__ __forceinline__ Vec<W> get(int row, int column) const {
        return row < pos ? Matrix<const Act, W>(cache.data, cache.stride, cache.rows, cache.columns).get(row, column)
                         : fresh.get(row - pos, column);
    }
    // Adds new rows first to first + count to the cache. All threads of the block call it.
    __device__ __forceinline__ void append(int first, int count, int threads) const {
        constexpr int VECTORS = ceil_div(HS, W);
        count = min(count, fresh.rows - first);
        for (int i = threadIdx.x; i < count * VECTORS; i += threads) {
            const int row = first + i / VECTORS, column = i % VECTORS * W;
            cache.set(pos + row, column, fresh.get(row, column));
        }
    }
};
