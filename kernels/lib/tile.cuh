// The product of two matrices, one tile of it by one block: the loop of every plain matmul.
//
//   sum[m,n] = Σ_k a[m,k]·b[n,k]         a: M rows of K, b: N rows of K, in either of two layouts
//
// A block computes BLOCK_M × BLOCK_N of the sums and walks k in steps of BLOCK_K. Each step goes
//   global memory -> registers (in flight while the step before is computed) -> shared memory -> registers -> 64 sums a thread.
//
// Why this shape. A multiplication needs two operands. From global memory an element of a is read by each of the N/BLOCK_N blocks
// of its row, so large tiles spare bandwidth. From shared memory a thread reads 8 + 8 elements for 64 multiplications, so that
// the adders are kept busy and not the shared memory: a warp's 16-byte load takes four passes, its 64 multiplications take 64.
//
// Two buffers of shared memory take turns, so one barrier a step is enough: while some warps still read one, others write the
// other.
#pragma once

#include "lib/matrix.cuh"
#include "lib/ptx.cuh"
#include "lib/types.cuh"

// Rows and columns of a block's tile. The host takes smaller ones where the large ones would leave multiprocessors idle.
#ifndef BLOCK_M
#define BLOCK_M 128
#endif
#ifndef BLOCK_N
#define BLOCK_N 128
#endif
constexpr int BLOCK_K = 8;
// A warp has 32 × 64 sums: 4 × 8 lanes with 8 × 8 each.
constexpr int WARP_M = 32, WARP_N = 64;
static_assert(BLOCK_M % WARP_M == 0 && BLOCK_N % WARP_N == 0, "a block is made of whole warps");
constexpr int THREADS = BLOCK_M / WARP_M * (BLOCK_N / WARP_N) * WARP;
// Blocks that a multiprocessor should hold at once: while one waits at its barrier, others compute. A thread then has 128
// registers, half of which are its sums, or 168 in a small block, where it has more of the tiles to move. sm_75's compiler needs
// a few more.
#if __CUDA_ARCH__ < 800
constexpr int BLOCKS = 1;
#else
constexpr int BLOCKS = THREADS >= 256 ? 512 / THREADS : 384 / THREADS;
#endif

// ---- operands

// In shared memory an operand's tile is [k][row], whatever it was in memory, and from k = 4 on rows are swapped in sixteens.
// Without that, two lanes that have read 2 × 4 of a row along k, and write them down a column, would meet in the same banks; as
// it is, the 16 × 2 lanes of a warp write to all 32.
template <int ROWS>
__device__ __forceinline__ int place(int k, int row) {
    return k * ROWS + (row ^ k / 4 * 16);
}

// One step's elements of an operand with ROWS rows in the block's tile, on their way to shared memory.
template <Along ALONG, int ROWS>
struct Staged {
    static constexpr int COUNT = ROWS * BLOCK_K / 4 / THREADS;
    static_assert(COUNT * 4 * THREADS == ROWS * BLOCK_K, "all threads read equally much");
    Vec<4> fours[COUNT];

    // The row and the k at which this thread's i-th four begins. Neighbouring lanes read neighbouring memory.
    static __device__ __forceinline__ int2 at(int i) {
        const int index = threadIdx.x + i * THREADS;
        return ALONG == Along::K ? make_int2(index / (BLOCK_K / 4), index % (BLOCK_K / 4) * 4)
                                 : make_int2(index % (ROWS / 4) * 4, index / (ROWS / 4));
    }
    template <typename M>
    __device__ __forceinline__ void read(const M& matrix, int first_row, int first_k) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int row = first_row + at(i).x, k = first_k + at(i).y;
            fours[i] = ALONG == Along::K ? matrix.get(row, k) : matrix.get(k, row);
        }
    }
    __device__ __forceinline__ void write(float* tile) const {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int row = at(i).x, k = at(i).y;
            if constexpr (ALONG == Along::K) {
#pragma unroll
                for (int j = 0; j < 4; j++) tile[place<ROWS>(k + j, row)] = fours[i][j];
            } else {
                store_shared(tile + place<ROWS>(k, row), fours[i]);
            }
        }
    }
};

// ---- the tile

// A thread's 64 sums: rows and columns in two fours each, so that the 16-byte loads of neighbouring lanes are neighbours.
struct Tile {
    // Sums are handed out so many at a time, neighbours in their row.
    static constexpr int W = 4;

    float sum[8][8];
    // The sum of a alone, where it is asked for, of row threadIdx.x.
    float of_a;

    // Row i and column j of the block's tile that belong to this thread; fours begin at multiples of 4.
    static __device__ __forceinline__ int row(int i) {
        const int warp = threadIdx.x / WARP / (BLOCK_N / WARP_N), lane = threadIdx.x % WARP / 8;
        return warp * WARP_M + i / 4 * 16 + lane * 4 + i % 4;
    }
    static __device__ __forceinline__ int column(int j) {
        const int warp = threadIdx.x / WARP % (BLOCK_N / WARP_N), lane = threadIdx.x % 8;
        return warp * WARP_N + j / 4 * 32 + lane * 4 + j % 4;
    }

    // One step: the sums over BLOCK_K of k.
    template <bool OF_A>
    __device__ __forceinline__ void add(const float* a_tile, const float* b_tile, bool of_a_too) {
#pragma unroll
        for (int k = 0; k < BLOCK_K; k++) {
            Vec<4> a[2], b[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                a[h] = load_shared(a_tile + place<BLOCK_M>(k, row(4 * h)));
                b[h] = load_shared(b_tile + place<BLOCK_N>(k, column(4 * h)));
            }
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) sum[i][j] += a[i / 4][i % 4] * b[j / 4][j % 4];
        }
        if (OF_A && of_a_too && threadIdx.x < BLOCK_M) {
#pragma unroll
            for (int k = 0; k < BLOCK_K; k++) of_a += a_tile[place<BLOCK_M>(k, threadIdx.x)];
        }
    }

    // All of it: the sums over k from first_k, a multiple of BLOCK_K, to last_k, for the tile that begins at (first_m, first_n).
    template <Along A, Along B, bool OF_A = false, typename MatrixA, typename MatrixB>
    __device__ __forceinline__ void multiply(const MatrixA& a, const MatrixB& b, int first_m, int first_n, int first_k,
                                             int last_k, bool of_a_too = false) {
        __shared__ __align__(16) float a_tiles[2][BLOCK_K * BLOCK_M];
        __shared__ __align__(16) float b_tiles[2][BLOCK_K * BLOCK_N];
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int j = 0; j < 8; j++) sum[i][j] = 0.0f;
        of_a = 0.0f;
        static_assert(!OF_A || THREADS >= BLOCK_M, "a thread for each row");
        Staged<A, BLOCK_M> next_a;
        Staged<B, BLOCK_N> next_b;
        if (first_k < last_k) {
            next_a.read(a, first_m, first_k);
            next_b.read(b, first_n, first_k);
        }
        int turn = 0;
        for (int k = first_k; k < last_k; k += BLOCK_K) {
            next_a.write(a_tiles[turn]);
            next_b.write(b_tiles[turn]);
            __syncthreads();
            if (k + BLOCK_K < last_k) {
                next_a.read(a, first_m, k + BLOCK_K);
                next_b.read(b, first_n, k + BLOCK_K);
            }
            add<OF_A>(a_tiles[turn], b_tiles[turn], of_a_too);
            turn ^= 1;
        }
    }

    // Hands out the sums in fours: f(row, column, four sums), rows and columns those of the whole product.
    template <typename F>
    __device__ __forceinline__ void each(int first_m, int first_n, F f) const {
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float* s = &sum[i][4 * h];
                f(first_m + row(i), first_n + column(4 * h), Vec<4>{{s[0], s[1], s[2], s[3]}});
                // What f reads is not brought forward past what it wrote before: there are no registers for all of it at once.
                asm volatile("" ::: "memory");
            }
    }
};
