// The product of two matrices of bf16, one tile of it by one block, on the tensor cores of sm_80 and later: the face of lib/tile.cuh.
//
//   sum[m,n] = Σ_k a[m,k]·b[n,k]         sums in float
//
// A step of BLOCK_K goes from global to shared memory by cp.async, past the registers. STAGES buffers go round: while one is
// multiplied, the copies of the next ones are under way. ldmatrix brings a warp's 16 × 16 to the registers as mma.sync wants them,
// transposed where a row of the operand lies across memory: so all three products of matmul read their operands as they are.
//
// Assumes that operands begin at multiples of 16 bytes and have rows of a multiple of 8 elements.
#pragma once

#include "lib/fragments.cuh"
#include "lib/matrix.cuh"
#include "lib/ptx.cuh"
#include "lib/types.cuh"

#ifndef BLOCK_M
#define BLOCK_M 128
#endif
#ifndef BLOCK_N
#define BLOCK_N 128
#endif
constexpr int BLOCK_K = 32, STAGES = 3;
// A warp has 64 × 32 sums, in 4 × 4 products of 16 × 8: of what ldmatrix reads for it, every element is used 4 times.
constexpr int WARP_M = 64, WARP_N = 32;
static_assert(BLOCK_M % WARP_M == 0 && BLOCK_N % WARP_N == 0, "a block is made of whole warps");
constexpr int THREADS = BLOCK_M / WARP_M * (BLOCK_N / WARP_N) * WARP;
// Blocks that a multiprocessor should hold at once; a thread then has 128 registers, or 168 in a small block.
constexpr int BLOCKS = THREADS >= 256 ? 512 / THREADS : 384 / THREADS;

// One operand of ROWS rows in a block's tile.
template <Along ALONG, int ROWS>
struct Operand {
    // In chunks of 16 bytes, the unit of copies and of ldmatrix: along k, a row's 4; along rows, those of a k.
    static constexpr int CHUNKS = ROWS * BLOCK_K / 8, LINE = (ALONG == Along::K ? BLOCK_K : ROWS) / 8;
    static constexpr int BYTES = CHUNKS * 16;
    static_assert(CHUNKS % THREADS == 0, "all threads copy equally much");

    // Where a chunk lies. ldmatrix takes the same chunk of eight neighbouring lines: those go to different banks, as a line's
    // chunks are swapped differently from line to line; along k, where two lines make 128 bytes, from one pair to the next.
    static __device__ __forceinline__ uint32 place(int line, int chunk) {
        const int swap = ALONG == Along::K ? line / 2 % 4 : line % 8;
        return (line * LINE + (chunk ^ swap)) * 16;
    }

    // Asks for one step's elements.
    template <typename M>
    static __device__ __forceinline__ void copy(uint32 tile, const M& matrix, int first_row, int first_k) {
#pragma unroll
        for (int i = 0; i < CHUNKS / THREADS; i++) {
            const int index = threadIdx.x + i * THREADS, line = index / LINE, chunk = index % LINE;
            const int row = (ALONG == Along::K ? first_row : first_k) + line;
            const int column = (ALONG == Along::K ? first_k : first_row) + chunk * 8;
            const bool there = row < matrix.rows && column < matrix.columns;
            copy_16_async(tile + place(line, chunk), there ? matrix.data + row * matrix.stride + column : matrix.data, there);
        }
    }

    // A 16 × 16 block from (row, k) on, in four matrices of 8 × 8: (row, k), then with the other eight of FIRST, then the
    // other eight of the other index, then both.
    template <bool ROWS_FIRST>
    static __device__ __forceinline__ void fragment(uint32 (&x)[4], uint32 tile, int row, int k) {
        const int lane = threadIdx.x % WARP, eight = lane % 8, first = lane / 8 % 2 * 8, second = lane / 16 * 8;
        const int of_row = ROWS_FIRST ? first : second, of_k = ROWS_FIRST ? second : first;
        if constexpr (ALONG == Along::K) {
            load_matrices(x, tile + place(row + of_row + eight, (k + of_k) / 8));
        } else {
            load_matrices_transposed(x, tile + place(k + of_k + eight, (row + of_row) / 8));
        }
    }
};

struct Tile {
    // Sums are handed out so many at a time, neighbours in their row: 16 bytes of bf16.
    static constexpr int W = 8;

    float sum[4][4][4];
    // The sum of a alone, where it is asked for, of row threadIdx.x.
    float of_a;

    static __device__ __forceinline__ int warp_row() { return threadIdx.x / WARP / (BLOCK_N / WARP_N) * WARP_M; }
    static __device__ __forceinline__ int warp_column() { return threadIdx.x / WARP % (BLOCK_N / WARP_N) * WARP_N; }

    // Threads that share the sum of a pair of a's rows, each over its part of a step.
    static constexpr int SHARES = THREADS / (BLOCK_M / 2);

    // The sums over k from first_k, a multiple of BLOCK_K, to last_k, for the tile that begins at (first_m, first_n).
    template <Along A, Along B, bool OF_A = false, typename MatrixA, typename MatrixB>
    __device__ __forceinline__ void multiply(const MatrixA& a, const MatrixB& b, int first_m, int first_n, int first_k,
                                             int last_k, bool of_a_too = false) {
        using OperandA = Operand<A, BLOCK_M>;
        using OperandB = Operand<B, BLOCK_N>;
        __shared__ __align__(128) uint8 shared[STAGES * (OperandA::BYTES + OperandB::BYTES)];
        const uint32 a_tiles = shared_address(shared), b_tiles = a_tiles + STAGES * OperandA::BYTES;
        static_assert(!OF_A || A == Along::ROW, "pairs of rows lie side by side");

#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) sum[i][j][e] = 0.0f;
        float pair[2] = {0.0f, 0.0f};
        const int of_pair = threadIdx.x % (BLOCK_M / 2) * 2, share = threadIdx.x / (BLOCK_M / 2);

        // What lies behind last_k belongs to another slice, or is nothing.
        const auto ask = [&](int stage, int k) {
            if (k < last_k) {
                OperandA::copy(a_tiles + stage * OperandA::BYTES, a, first_m, k);
                OperandB::copy(b_tiles + stage * OperandB::BYTES, b, first_n, k);
            }
            commit_copies();
        };
#pragma unroll
        for (int s = 0; s < STAGES - 1; s++) ask(s, first_k + s * BLOCK_K);

        int stage = 0;
        for (int k = first_k; k < last_k; k += BLOCK_K) {
            wait_for_copies<STAGES - 2>();
            // All have what this step needs, and all are done with the buffer of the step before: it takes the newest copies.
            __syncthreads();
            ask(stage == 0 ? STAGES - 1 : stage - 1, k + (STAGES - 1) * BLOCK_K);
            const uint32 a_tile = a_tiles + stage * OperandA::BYTES, b_tile = b_tiles + stage * OperandB::BYTES;
#pragma unroll
            for (int kk = 0; kk < BLOCK_K; kk += 16) {
                uint32 x[4][4], y[2][4];
#pragma unroll
                for (int i = 0; i < 4; i++) OperandA::template fragment<true>(x[i], a_tile, warp_row() + i * 16, kk);
#pragma unroll
                for (int j = 0; j < 2; j++) OperandB::template fragment<false>(y[j], b_tile, warp_column() + j * 16, kk);
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        multiply_add(sum[i][j], x[i], y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1]);
            }
            if (OF_A && of_a_too) {
#pragma unroll
                for (int i = 0; i < BLOCK_K / SHARES; i++) {
                    const int line = share * (BLOCK_K / SHARES) + i;
                    const uint32 at = OperandA::place(line, of_pair / 8) + of_pair % 8 * 2;
                    const uint32 two = *reinterpret_cast<const uint32*>(shared + stage * OperandA::BYTES + at);
                    pair[0] += widen_low(two);
                    pair[1] += widen_high(two);
                }
            }
            stage = stage == STAGES - 1 ? 0 : stage + 1;
        }

        if (OF_A && of_a_too) {
            // The shares are added up in order. No copy is under way that has anything to bring.
            float* scratch = reinterpret_cast<float*>(shared);
            __syncthreads();
            scratch[share * BLOCK_M + of_pair] = pair[0];
            scratch[share * BLOCK_M + of_pair + 1] = pair[1];
            __syncthreads();
            of_a = 0.0f;
            if (threadIdx.x < BLOCK_M) {
#pragma unroll
                for (int s = 0; s < SHARES; s++) of_a += scratch[s * BLOCK_M + threadIdx.x];
            }
        }
    }

    // Hands out the sums in eights: f(row, column, eight sums), rows and columns those of the whole product.
    template <typename F>
    __device__ __forceinline__ void each(int first_m, int first_n, F f) const {
        const int lane = threadIdx.x % WARP;
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                f(first_m + warp_row() + i * 16 + h * 8 + lane / 4, first_n + warp_column() + lane % 4 * 8,
                  row_of_four(sum[i], h));
                // What f reads is not brought forward past what it wrote before: there are no registers for all of it at once.
                asm volatile("" ::: "memory");
            }
    }
};
