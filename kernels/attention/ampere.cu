// Causal attention without a (T,T) matrix on the tensor cores of sm_80 and later, in bf16: forward and backward, for heads of 64 and
// 128. Compiled for one -DHS, for -DDROPOUT=1 or 0, and for -DSTARTS=1 or 0. attention/simt.cu has the equations and is the same in
// plain arithmetic.
//
// A block of four warps has ROWS = 64 rows, 16 a warp: queries in the forward and for dq, keys for dk and dv. It meets the other side
// in tiles of OTHERS, of which one is multiplied while the next is copied (cp.async). What a warp computes of the square of scores lies
// in its registers as mma.sync wants the left operand of the next product (Dao 2023): scores, probabilities and their gradients never
// leave them. Probabilities and ds are rounded to bf16 there; sums, exponentials and statistics are in float.
//
// The backward sums over keys for dq and over queries for dk and dv, in two kernels: no atomics, the same bits every time, and 7
// products of tiles instead of 5.
//
// Floor: forward 2·B·NH·T·T·HS FLOP (half of two full products; of a tile on the diagonal, all is computed), backward 7 halves.
// Of memory the forward must move qkv and out, the backward qkv, out, dout and dqkv, each once.
//
// Launch: grid (B·NH, ceil(T / 64)), block 128. Dynamic shared memory: forward 64·HS·2 + 32 KiB, backward 2·64·HS·2 + 32 KiB.
// Assumes tensors at multiples of 16 bytes.
#include "attention/head.cuh"
#include "lib/fragments.cuh"
#include "lib/math.cuh"
#include "lib/philox.cuh"
#include "lib/ptx.cuh"
#include "lib/reduce.cuh"

static_assert(HS == 64 || HS == 128, "heads of 64 and 128");
static_assert(same_type<Act, bf16>, "tensor cores multiply bf16");

constexpr int ROWS = 64, OTHERS = HS == 64 ? 64 : 32, THREADS = ROWS / 16 * WARP;
// Bytes of the tiles: of rows, and of one side of the others.
constexpr int ROWS_BYTES = ROWS * HS * 2, OTHERS_BYTES = OTHERS * HS * 2;

// ---- tiles in shared memory

// Rows of a head in chunks of 16 bytes. ldmatrix takes the same chunk of eight neighbouring rows: they lie in different banks, as a
// row's chunks are swapped differently from row to row.
__device__ __forceinline__ uint32 place(int row, int chunk) {
    return (row * (HS / 8) + (chunk ^ row % 8)) * 16;
}

// Asks for COUNT rows of a matrix from `first` on; zeros where there are none.
template <int COUNT, typename M>
__device__ __forceinline__ void copy(uint32 tile, const M& matrix, int first) {
#pragma unroll
    for (int i = 0; i < COUNT * (HS / 8) / THREADS; i++) {
        const int index = threadIdx.x + i * THREADS, row = index / (HS / 8), chunk = index % (HS / 8);
        const bool there = first + row < matrix.rows;
        copy_16_async(tile + place(row, chunk), there ? matrix.data + (first + row) * matrix.stride + chunk * 8 : matrix.data,
                      there);
    }
}

// ---- a warp's parts

// The row and column of element e of product j of a warp's square; rows of the block, columns of the tile.
__device__ __forceinline__ int row_of(int e) {
    return threadIdx.x / WARP * 16 + threadIdx.x % WARP / 4 + e / 2 * 8;
}
__device__ __forceinline__ int column_of(int j, int e) {
    return j * 8 + threadIdx.x % 4 * 2 + e % 2;
}

// 16 rows and OTHERS columns, and 16 rows of sums of HS.
struct Square {
    float at[OTHERS / 8][4];
};
struct Sums {
    float at[HS / 8][4];
};

template <typename S>
__device__ __forceinline__ void clear(S& s) {
    for (auto& product : s.at)
        for (float& x : product) x = 0.0f;
}

// The lane's address in a tile for a fragment of 16 rows from `row` on and 16 elements of the head from `element` on. As a left
// operand, and as a right one whose rows are summed over, the second eight rows come before the second eight elements; as a right one
// whose elements are summed over, after.
template <bool ROWS_FIRST>
__device__ __forceinline__ uint32 lane_of(uint32 tile, int row, int element) {
    const int lane = threadIdx.x % WARP, first = lane / 8 % 2, second = lane / 16;
    return tile + place(row + lane % 8 + (ROWS_FIRST ? first : second) * 8, element / 8 + (ROWS_FIRST ? second : first));
}

// a·bᵀ: the products of the warp's rows of a with each row of b.
__device__ __forceinline__ Square products(uint32 a, uint32 b) {
    Square s;
    clear(s);
    // Not unrolled whole, or the addresses of all fragments would take the registers.
#pragma unroll 2
    for (int k = 0; k < HS; k += 16) {
        uint32 x[4];
        load_matrices(x, lane_of<true>(a, threadIdx.x / WARP * 16, k));
#pragma unroll
        for (int j = 0; j < OTHERS; j += 16) {
            uint32 y[4];
            load_matrices(y, lane_of<false>(b, j, k));
            multiply_add(s.at[j / 8], x, y[0], y[1]);
            multiply_add(s.at[j / 8 + 1], x, y[2], y[3]);
        }
    }
    return s;
}

// sums += w·b, w rounded to bf16.
__device__ __forceinline__ void accumulate(Sums& sums, const Square& w, uint32 b) {
#pragma unroll
    for (int k = 0; k < OTHERS; k += 16) {
        const float(&low)[4] = w.at[k / 8], (&high)[4] = w.at[k / 8 + 1];
        const uint32 x[4] = {narrow_pair(low[0], low[1]), narrow_pair(low[2], low[3]), narrow_pair(high[0], high[1]),
                             narrow_pair(high[2], high[3])};
#pragma unroll
        for (int i = 0; i < HS; i += 16) {
            uint32 y[4];
            load_matrices_transposed(y, lane_of<true>(b, k, i));
            multiply_add(sums.at[i / 8], x, y[0], y[1]);
            multiply_add(sums.at[i / 8 + 1], x, y[2], y[3]);
        }
    }
}

// Writes sums times a factor for each half of the rows.
template <typename M>
__device__ __forceinline__ void write(const Sums& sums, const M& matrix, int first, float low, float high) {
#pragma unroll
    for (int i = 0; i < HS / 8; i += 4) {
        float four[4][4];
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) four[j][e] = sums.at[i + j][e] * (e < 2 ? low : high);
#pragma unroll
        for (int h = 0; h < 2; h++) matrix.set(first + row_of(2 * h), i * 8 + threadIdx.x % 4 * 8, row_of_four(four, h));
    }
}

// Blocks of late queries have most to do: they come first.
__device__ __forceinline__ int first_query() {
    return (gridDim.y - 1 - blockIdx.y) * ROWS;
}

// Walks tiles of two matrices from row `from` to `to`: f(first row, tile of x, tile of y). `more` asks for what is needed once.
template <typename M, typename More, typename F>
__device__ __forceinline__ void walk(uint32 buffers, const M& x, const M& y, int from, int to, More more, F f) {
    const auto ask = [&](int turn, int first) {
        if (first < to) {
            copy<OTHERS>(buffers + turn * 2 * OTHERS_BYTES, x, first);
            copy<OTHERS>(buffers + (turn * 2 + 1) * OTHERS_BYTES, y, first);
        }
        commit_copies();
    };
    more();
    ask(0, from);
    int turn = 0;
    for (int first = from; first < to; first += OTHERS) {
        ask(turn ^ 1, first + OTHERS);
        wait_for_copies<1>();
        __syncthreads();
        f(first, buffers + turn * 2 * OTHERS_BYTES, buffers + (turn * 2 + 1) * OTHERS_BYTES);
        __syncthreads();  // all are done with this buffer, which the next copies go to
        turn ^= 1;
    }
}

// Over the four lanes that share a row.
__device__ __forceinline__ float sum_of_row(float x) {
    return warp_sum<4>(x);
}

extern __shared__ __align__(128) uint8 dynamic_shared[];

// ---- forward

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    attention_forward(Act* out, float* lse, const Act* qkv, const uint32* all_starts, int T, int NH, uint64 seed, uint32 site,
                      uint32 threshold, float dropout_scale) {
    const Dropout dropout{seed, site, threshold, dropout_scale};
    const Head head(NH);
    const Starts starts(all_starts, head, T);
    const int first = first_query();
    const uint32 queries = shared_address(dynamic_shared), buffers = queries + ROWS_BYTES;
    const float scale = to_base_2();

    // Of the lane's two rows, the largest score so far, in base 2, and its part of the sum of exponentials.
    float largest[2] = {LOWEST, LOWEST}, sum[2] = {0.0f, 0.0f};
    const int start[2] = {starts.at(first + row_of(0)), starts.at(first + row_of(2))};
    Sums sums;
    clear(sums);
    const auto ask = [&] { copy<ROWS>(queries, head.part<8>(qkv, T, 0), first); };
    walk(buffers, head.part<8>(qkv, T, 1), head.part<8>(qkv, T, 2), starts.first_tile<OTHERS>(first), min(T, first + ROWS), ask,
         [&](int t0, uint32 keys, uint32 values) {
             Square s = products(queries, keys);
#pragma unroll
             for (int h = 0; h < 2; h++) {
                 const int t = first + row_of(2 * h);
                 float most = largest[h];
#pragma unroll
                 for (int j = 0; j < OTHERS / 8; j++)
#pragma unroll
                     for (int e = 2 * h; e < 2 * h + 2; e++) {
                         const int t2 = t0 + column_of(j, e);
                         s.at[j][e] = t2 <= t && (!STARTS || t2 >= start[h]) ? s.at[j][e] * scale : -INFINITE;
                         most = fmaxf(most, s.at[j][e]);
                     }
                 most = warp_max<4>(most);
                 const float smaller = exp2_fast(largest[h] - most);
                 largest[h] = most;
                 sum[h] *= smaller;
#pragma unroll
                 for (int j = 0; j < HS / 8; j++)
#pragma unroll
                     for (int e = 2 * h; e < 2 * h + 2; e++) sums.at[j][e] *= smaller;
                 const size_t element = head.row(T, t) * T + t0;
#pragma unroll
                 for (int j = 0; j < OTHERS / 8; j++)
#pragma unroll
                     for (int e = 2 * h; e < 2 * h + 2; e++) {
                         s.at[j][e] = exp2_fast(s.at[j][e] - most);
                         sum[h] += s.at[j][e];
                         if constexpr (DROPOUT) s.at[j][e] *= dropout.factor_at(element + column_of(j, e));
                     }
             }
             accumulate(sums, s, values);
         });

#pragma unroll
    for (int h = 0; h < 2; h++) {
        sum[h] = sum_of_row(sum[h]);
        const int t = first + row_of(2 * h);
        if (threadIdx.x % 4 == 0 && t < T) lse[head.row(T, t)] = (largest[h] + log2f(sum[h])) * LN_2;
    }
    write(sums, head.rows<8>(out, T), first, 1.0f / sum[0], 1.0f / sum[1]);
}

// ---- backward

// p and ds of one score: s holds q·k in and p·m out; dp holds dout·v in and ds out, without its 1/√HS. lse is in base 2.
__device__ __forceinline__ void gradient(float& s, float& dp, float scale, float lse, float delta, bool attends, size_t element,
                                         const Dropout& dropout) {
    const float p = attends ? exp2_fast(s * scale - lse) : 0.0f;
    const float factor = DROPOUT ? dropout.factor_at(element) : 1.0f;
    s = p * factor;
    dp = p * (dp * factor - delta);
}

// dq for the queries of a block, and delta, which attention_backward_kv needs of all queries: it comes after.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_backward_q(Act* dqkv, float* delta, const Act* dout, const Act* out, const float* lse, const Act* qkv,
                         const uint32* all_starts, int T, int NH, uint64 seed, uint32 site, uint32 threshold, float dropout_scale) {
    const Dropout dropout{seed, site, threshold, dropout_scale};
    const Head head(NH);
    const Starts starts(all_starts, head, T);
    const int first = first_query();
    const uint32 queries = shared_address(dynamic_shared), douts = queries + ROWS_BYTES, buffers = douts + ROWS_BYTES;
    const auto d_outs = head.rows<8>(dout, T), outs = head.rows<8>(out, T);
    const float scale = to_base_2();

    // Four lanes share a row: each has every fourth eight of it.
    float lses[2], deltas[2];
    const int start[2] = {starts.at(first + row_of(0)), starts.at(first + row_of(2))};
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int t = first + row_of(2 * h);
        float dot = 0.0f;
#pragma unroll
        for (int i = 0; i < HS; i += 32) {
            const Vec<8> x = outs.get(t, i + threadIdx.x % 4 * 8), y = d_outs.get(t, i + threadIdx.x % 4 * 8);
#pragma unroll
            for (int e = 0; e < 8; e++) dot += x[e] * y[e];
        }
        deltas[h] = sum_of_row(dot);
        lses[h] = t < T ? lse[head.row(T, t)] * LOG2_E : 0.0f;
        if (threadIdx.x % 4 == 0 && t < T) delta[head.row(T, t)] = deltas[h];
    }

    Sums dq;
    clear(dq);
    const auto ask = [&] {
        copy<ROWS>(queries, head.part<8>(qkv, T, 0), first);
        copy<ROWS>(douts, d_outs, first);
    };
    walk(buffers, head.part<8>(qkv, T, 1), head.part<8>(qkv, T, 2), starts.first_tile<OTHERS>(first), min(T, first + ROWS), ask,
         [&](int t0, uint32 keys, uint32 values) {
             Square s = products(queries, keys), dp = products(douts, values);
#pragma unroll
             for (int j = 0; j < OTHERS / 8; j++)
#pragma unroll
                 for (int e = 0; e < 4; e++) {
                     const int t = first + row_of(e), t2 = t0 + column_of(j, e);
                     const bool sees = t2 <= t && (!STARTS || t2 >= start[e / 2]);
                     gradient(s.at[j][e], dp.at[j][e], scale, lses[e / 2], deltas[e / 2], sees, head.row(T, t) * T + t2, dropout);
                 }
             accumulate(dq, dp, keys);
         });
    const float by = rsqrtf(static_cast<float>(HS));
    write(dq, head.part<8>(dqkv, T, 0), first, by, by);
}

// dk and dv for the keys of a block: the square lies on its side, keys are its rows.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_backward_kv(Act* dqkv, const float* delta, const Act* dout, const float* lse, const Act* qkv, const uint32* all_starts,
                          int T, int NH, uint64 seed, uint32 site, uint32 threshold, float dropout_scale) {
    const Dropout dropout{seed, site, threshold, dropout_scale};
    const Head head(NH);
    const Starts starts(all_starts, head, T);
    const int first = blockIdx.y * ROWS, end = starts.end_of_queries<OTHERS>(first, first + ROWS);
    const uint32 keys = shared_address(dynamic_shared), values = keys + ROWS_BYTES, buffers = values + ROWS_BYTES;
    const float scale = to_base_2();

    Sums dk, dv;
    clear(dk);
    clear(dv);
    const auto ask = [&] {
        copy<ROWS>(keys, head.part<8>(qkv, T, 1), first);
        copy<ROWS>(values, head.part<8>(qkv, T, 2), first);
    };
    walk(buffers, head.part<8>(qkv, T, 0), head.rows<8>(dout, T), first, end, ask, [&](int t0, uint32 queries, uint32 douts) {
        Square s = products(keys, queries), dp = products(values, douts);
#pragma unroll
        for (int j = 0; j < OTHERS / 8; j++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                const int t = t0 + column_of(j, c);
                // Of a query that is not there nothing is attended to.
                const float log = t < T ? lse[head.row(T, t)] * LOG2_E : INFINITE;
                const float its_delta = t < T ? delta[head.row(T, t)] : 0.0f;
                const int start = starts.at(t);
#pragma unroll
                for (int e = c; e < 4; e += 2) {
                    const int t2 = first + row_of(e);
                    const bool sees = t2 <= t && (!STARTS || t2 >= start);
                    gradient(s.at[j][e], dp.at[j][e], scale, log, its_delta, sees, head.row(T, t) * T + t2, dropout);
                }
            }
        accumulate(dv, s, douts);
        accumulate(dk, dp, queries);
    });
    const float by = rsqrtf(static_cast<float>(HS));
    write(dk, head.part<8>(dqkv, T, 1), first, by, by);
    write(dv, head.part<8>(dqkv, T, 2), first, 1.0f, 1.0f);
}
