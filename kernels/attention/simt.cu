// Causal attention without a (T,T) matrix, in plain arithmetic: forward, backward, and over a cache. Compiled for one
// -DHS, for -DDROPOUT=1 or 0, with which the mask and its random numbers fall away, and for -DSTARTS=1 or 0.
//
//   s[t,t2] = q[t]·k[t2]/√HS      lse[t] = log Σ_{t2 ≤ t} exp s[t,t2]      p[t,t2] = exp(s[t,t2] − lse[t])
//   out[t]  = Σ_{t2 ≤ t} m[t,t2]·p[t,t2]·v[t2]                              m: dropout's factor, 0 or 1/(1 − p)
//   dp[t,t2] = m[t,t2]·(dout[t]·v[t2])      ds[t,t2] = p[t,t2]·(dp[t,t2] − delta[t])      delta[t] = dout[t]·out[t]
//   dq[t] = Σ_{t2 ≤ t} ds[t,t2]·k[t2]/√HS   dk[t2] = Σ_{t ≥ t2} ds[t,t2]·q[t]/√HS         dv[t2] = Σ_{t ≥ t2} m·p·dout[t]
//
// qkv, dqkv (B,T,3C), C = NH·HS, a row q, k, v of NH heads of HS each; out, dout (B,T,C); lse, delta (B,NH,T). attention/unfused.cu
// is the same with its matrices in memory; ops.rs has the derivation. With -DSTARTS=1 sums over t2 begin at starts[b,t], starts
// (B,T): tiles of keys that no query of a block sees are not met, nor tiles of queries that see no key of a block.
//
// How it does without the matrices (Milakov and Gimelshein 2018, Dao et al. 2022). The forward: a block holds ROWS queries and
// meets the keys in tiles of ROWS. A softmax needs the largest score and the sum of all exponentials, which are known at the end
// only: so it keeps both for what it has seen, and when a tile brings a larger score, multiplies what it has by
// exp(old − new). The backward makes p anew from lse. It must sum over keys for dq, and over queries for dk and dv: one kernel
// walks the keys of a block of queries, one the queries of a block of keys. That costs 7 products of tiles instead of 5, and in
// return no sum is shared between blocks: no atomics, and the same bits every time.
//
// Floor: forward 2·B·NH·T·T·HS FLOP (half of two full products), backward 7 halves of a product: 7·B·NH·T·T·HS. Of memory the
// forward must move qkv and out, the backward qkv, out, dout and dqkv, each once; keys and values are read again for each block of
// queries after them, from the L2 cache. Bound by arithmetic from T = 100 or so on.
//
// Launch: grid (B·NH, ceil(T / ROWS)), block THREADS of the kernel's Block; the host has the same table:
//   HS <=            64    128    256
//   forward          64    32     16 rows     256, 128, 128 threads
//   backward         32    16      8 rows      64 threads
// Shared memory: static, up to 48 KiB. Assumes HS as compiled, up to 256, and nothing of addresses and sizes.
#include "attention/cache.cuh"
#include "attention/head.cuh"
#include "lib/math.cuh"
#include "lib/matrix.cuh"
#include "lib/philox.cuh"
#include "lib/ptx.cuh"
#include "lib/reduce.cuh"

static_assert(HS >= 1 && HS <= 256, "a head of up to 256");

// A row of a head in fours, the last one filled up with zeros.
constexpr int FOURS = ceil_div(HS, 4);

// ---- tiles

// The largest power of two that divides n, up to `most`.
constexpr int power_of_two_in(int n, int most) {
    int power = 1;
    while (power < most && n % (2 * power) == 0) power *= 2;
    return power;
}

// ROWS rows of a head lie in shared memory in fours. Eight lanes that read the same four of eight neighbouring rows would meet
// in few banks where FOURS is even, so a row's fours are swapped within groups of POWER, in a way that differs from row to row:
// as many ways as are needed until the rows' own addresses differ.
__device__ __forceinline__ int place(int row, int four) {
    constexpr int POWER = power_of_two_in(FOURS, 8);
    return (row * FOURS + (four ^ (row * POWER / 8 % POWER))) * 4;
}

// How a block's threads share a tile of ROWS queries and ROWS keys. A group of LANES lanes has MINE of the rows, whole: what a
// row needs of the others of its group it gets by shuffles. Of the tile's square, ROWS × ROWS, a lane has every LANES-th column of
// its rows; of sums of HS it has every LANES-th four.
template <int ROWS_, int GROUPS, int LANES_>
struct Block {
    static constexpr int ROWS = ROWS_, LANES = LANES_, THREADS = GROUPS * LANES;
    static constexpr int MINE = ROWS / GROUPS, COLUMNS = ROWS / LANES, CHUNKS = ceil_div(FOURS, LANES);
    static_assert(MINE * GROUPS == ROWS && COLUMNS * LANES == ROWS && THREADS % WARP == 0, "rows go up");

    // Shared memory for rows, and for a square.
    static constexpr int TILE = ROWS * FOURS * 4, SQUARE = ROWS * ROWS;

    static __device__ __forceinline__ int lane() { return threadIdx.x % LANES; }
    static __device__ __forceinline__ int row(int i) { return threadIdx.x / LANES + i * GROUPS; }
    static __device__ __forceinline__ int column(int j) { return lane() + j * LANES; }

    // Rows first to first + ROWS of a matrix to shared memory.
    template <typename M>
    static __device__ __forceinline__ void fetch(float* tile, const M& matrix, int first) {
        for (int i = threadIdx.x; i < ROWS * FOURS; i += THREADS) {
            const int row = i / FOURS, four = i % FOURS;
            store_shared(tile + place(row, four), matrix.get(first + row, four * 4));
        }
    }

    // A thread's part of the square, and of sums of rows.
    struct Square {
        float at[MINE][COLUMNS];
    };
    struct Sums {
        Vec<4> at[MINE][CHUNKS];
    };

    // a·bᵀ: the products of each row of a with each row of b.
    static __device__ __forceinline__ Square products(const float* a, const float* b) {
        Square s;
#pragma unroll
        for (int i = 0; i < MINE; i++)
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) s.at[i][j] = 0.0f;
#pragma unroll 4
        for (int four = 0; four < FOURS; four++) {
            Vec<4> x[MINE], y[COLUMNS];
#pragma unroll
            for (int i = 0; i < MINE; i++) x[i] = load_shared(a + place(row(i), four));
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) y[j] = load_shared(b + place(column(j), four));
#pragma unroll
            for (int i = 0; i < MINE; i++)
#pragma unroll
                for (int j = 0; j < COLUMNS; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++) s.at[i][j] += x[i][e] * y[j][e];
        }
        return s;
    }

    // Where a square's elements lie in shared memory. The groups of a warp write different rows at once, LANES columns each: to
    // different banks, as columns are swapped in blocks of LANES.
    static __device__ __forceinline__ int place_in_square(int row, int column) {
        constexpr int TOGETHER = WARP / LANES;
        constexpr int WAYS = COLUMNS < TOGETHER ? COLUMNS : TOGETHER;
        return row * ROWS + (column ^ (row * WAYS / TOGETHER % WAYS * LANES));
    }

    // sums += w·b, w a square: each row of the sums gains the rows of b times the row's elements of w. They pass through shared
    // memory, since a lane needs all of its rows' elements and has only its columns'.
    static __device__ __forceinline__ void accumulate(Sums& sums, float* shared, const Square& w, const float* b) {
        __syncwarp();  // the group has read what was there
#pragma unroll
        for (int i = 0; i < MINE; i++)
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) shared[place_in_square(row(i), column(j))] = w.at[i][j];
        __syncwarp();
#pragma unroll 2
        for (int k = 0; k < ROWS; k += 4) {
            Vec<4> x[MINE];
#pragma unroll
            for (int i = 0; i < MINE; i++) x[i] = load_shared(shared + place_in_square(row(i), k));
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                const int four = lane() + c * LANES;
                if (FOURS % LANES != 0 && four >= FOURS) break;
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const Vec<4> y = load_shared(b + place(k + e, four));
#pragma unroll
                    for (int i = 0; i < MINE; i++)
#pragma unroll
                        for (int f = 0; f < 4; f++) sums.at[i][c][f] += x[i][e] * y[f];
                }
            }
        }
    }

    static __device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
        for (int i = 0; i < MINE; i++)
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) sums.at[i][c] = zeros();
    }
    static __device__ __forceinline__ void multiply(Sums& sums, int i, float by) {
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
#pragma unroll
            for (int f = 0; f < 4; f++) sums.at[i][c][f] *= by;
    }
    // Writes the sums to rows from first on.
    template <typename M>
    static __device__ __forceinline__ void write(const Sums& sums, const M& matrix, int first) {
#pragma unroll
        for (int i = 0; i < MINE; i++)
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) matrix.set(first + row(i), (lane() + c * LANES) * 4, sums.at[i][c]);
    }
};

// Squares as large as shared memory of 48 KiB lets them be: the forward has two tiles and a square there, the backward four.
#if HS <= 64
using Forward = Block<64, 16, 16>;
using Backward = Block<32, 8, 8>;
#elif HS <= 128
using Forward = Block<32, 16, 8>;
using Backward = Block<16, 8, 8>;
#else
using Forward = Block<16, 16, 8>;
using Backward = Block<8, 8, 8>;
#endif

// ---- forward

// out, and lse if it is not null, for the ROWS queries from `first` on. Row i of q is at position pos + i: it attends to keys
// from its start, 0 without, to pos + i.
template <typename Keys>
__device__ __forceinline__ void attend(const Head& head, Act* out, float* lse, const Matrix<const Act>& q, const Keys& k,
                                       const Keys& v, const Starts& starts, int first, int pos, const Dropout& dropout) {
    using B = Forward;
    __shared__ __align__(16) float queries[B::TILE], rows[B::TILE], square[B::SQUARE];
    const float scale = to_base_2();
    // Of each query the largest score so far, and this lane's part of the sum of exponentials.
    float largest[B::MINE], sum[B::MINE];
    int start[B::MINE];
    typename B::Sums sums;
    B::clear(sums);
#pragma unroll
    for (int i = 0; i < B::MINE; i++) largest[i] = LOWEST, sum[i] = 0.0f, start[i] = starts.at(first + B::row(i));

    B::fetch(queries, q, first);
    const int last = pos + min(q.rows, first + B::ROWS);  // none of these queries attends to keys from here on
    for (int t0 = starts.first_tile<B::ROWS>(first); t0 < last; t0 += B::ROWS) {
        __syncthreads();
        B::fetch(rows, k, t0);
        __syncthreads();
        typename B::Square s = B::products(queries, rows);
        __syncthreads();
        B::fetch(rows, v, t0);
#pragma unroll
        for (int i = 0; i < B::MINE; i++) {
            const int t = pos + first + B::row(i);
            float most = largest[i];
#pragma unroll
            for (int j = 0; j < B::COLUMNS; j++) {
                const int t2 = t0 + B::column(j);
                s.at[i][j] = t2 <= t && (!STARTS || t2 >= start[i]) ? s.at[i][j] * scale : -INFINITE;
                most = fmaxf(most, s.at[i][j]);
            }
            most = warp_max<B::LANES>(most);
            const float smaller = exp2_fast(largest[i] - most);
            largest[i] = most;
            sum[i] *= smaller;
            B::multiply(sums, i, smaller);
#pragma unroll
            for (int j = 0; j < B::COLUMNS; j++) {
                s.at[i][j] = exp2_fast(s.at[i][j] - most);
                sum[i] += s.at[i][j];
            }
            // Dropout leaves the sum alone. It exists in training only, where pos is 0 and there are q.rows positions.
            if constexpr (DROPOUT) {
                const size_t element = head.row(q.rows, t) * q.rows + t0;
#pragma unroll
                for (int j = 0; j < B::COLUMNS; j++) s.at[i][j] *= dropout.factor_at(element + B::column(j));
            }
        }
        __syncthreads();
        B::accumulate(sums, square, s, rows);
    }
#pragma unroll
    for (int i = 0; i < B::MINE; i++) {
        const float total = warp_sum<B::LANES>(sum[i]);
        const int t = first + B::row(i);
        B::multiply(sums, i, 1.0f / total);
        if (lse != nullptr && B::lane() == 0 && t < q.rows) lse[head.row(q.rows, t)] = (largest[i] + log2f(total)) * LN_2;
    }
    B::write(sums, head.rows(out, q.rows), first);
}

// Blocks of late queries have most to do: they come first, so that what is left at the end are short ones.
template <typename B>
__device__ __forceinline__ int first_query() {
    return (gridDim.y - 1 - blockIdx.y) * B::ROWS;
}

extern "C" __global__ void __launch_bounds__(Forward::THREADS)
    attention_forward(Act* out, float* lse, const Act* qkv, const uint32* starts, int T, int NH, uint64 seed, uint32 site,
                      uint32 threshold, float scale) {
    const Head head(NH);
    attend(head, out, lse, head.part(qkv, T, 0), head.part(qkv, T, 1), head.part(qkv, T, 2), Starts(starts, head, T),
           first_query<Forward>(), 0, Dropout{seed, site, threshold, scale});
}

// ---- backward

// Of each row the scores' base-2 logarithm of the sum, and delta; neutral where there is no row. Where what it sees begins.
struct Kept {
    float lse, delta;
    int start;
};

// p and ds of a square of queries and keys. s holds q·k in, p·m out; dp holds dout·v in, ds out, without its 1/√HS.
__device__ __forceinline__ void gradients(float& s, float& dp, const Kept& kept, int t, int t2, int T, float scale, size_t row,
                                          const Dropout& dropout) {
    const float p = t2 <= t && t < T && (!STARTS || t2 >= kept.start) ? exp2_fast(s * scale - kept.lse) : 0.0f;
    float factor = 1.0f;
    if constexpr (DROPOUT) factor = dropout.factor_at(row * T + t2);
    s = p * factor;
    dp = p * (dp * factor - kept.delta);
}

// dq for the queries of a block, and delta, which attention_backward_kv needs of all queries: it comes after.
extern "C" __global__ void __launch_bounds__(Backward::THREADS)
    attention_backward_q(Act* dqkv, float* delta, const Act* dout, const Act* out, const float* lse, const Act* qkv,
                         const uint32* all_starts, int T, int NH, uint64 seed, uint32 site, uint32 threshold, float scale) {
    using B = Backward;
    __shared__ __align__(16) float queries[B::TILE], douts[B::TILE], keys[B::TILE], values[B::TILE], square[B::SQUARE];
    const Dropout dropout{seed, site, threshold, scale};
    const Head head(NH);
    const Starts starts(all_starts, head, T);
    const int first = first_query<B>();
    const auto k = head.part(qkv, T, 1), v = head.part(qkv, T, 2);
    const auto outs = head.rows(out, T), d_outs = head.rows(dout, T);

    Kept kept[B::MINE];
#pragma unroll
    for (int i = 0; i < B::MINE; i++) {
        const int t = first + B::row(i);
        float dot = 0.0f;
#pragma unroll
        for (int c = 0; c < B::CHUNKS; c++) {
            const int at = (B::lane() + c * B::LANES) * 4;
            const Vec<4> x = outs.get(t, at), y = d_outs.get(t, at);
#pragma unroll
            for (int f = 0; f < 4; f++) dot += x[f] * y[f];
        }
        kept[i] = Kept{t < T ? lse[head.row(T, t)] * LOG2_E : 0.0f, warp_sum<B::LANES>(dot), starts.at(t)};
        if (B::lane() == 0 && t < T) delta[head.row(T, t)] = kept[i].delta;
    }

    typename B::Sums dq;
    B::clear(dq);
    B::fetch(queries, head.part(qkv, T, 0), first);
    B::fetch(douts, d_outs, first);
    for (int t0 = starts.first_tile<B::ROWS>(first); t0 < min(T, first + B::ROWS); t0 += B::ROWS) {
        __syncthreads();
        B::fetch(keys, k, t0);
        B::fetch(values, v, t0);
        __syncthreads();
        typename B::Square s = B::products(queries, keys), dp = B::products(douts, values);
#pragma unroll
        for (int i = 0; i < B::MINE; i++) {
            const int t = first + B::row(i);
#pragma unroll
            for (int j = 0; j < B::COLUMNS; j++)
                gradients(s.at[i][j], dp.at[i][j], kept[i], t, t0 + B::column(j), T, to_base_2(), head.row(T, t), dropout);
        }
        B::accumulate(dq, square, dp, keys);
    }
#pragma unroll
    for (int i = 0; i < B::MINE; i++) B::multiply(dq, i, rsqrtf(static_cast<float>(HS)));
    B::write(dq, head.part(dqkv, T, 0), first);
}

// dk and dv for the keys of a block: the square lies on its side, keys are its rows.
extern "C" __global__ void __launch_bounds__(Backward::THREADS)
    attention_backward_kv(Act* dqkv, const float* delta, const Act* dout, const float* lse, const Act* qkv, const uint32* all_starts,
                          int T, int NH, uint64 seed, uint32 site, uint32 threshold, float scale) {
    using B = Backward;
    __shared__ __align__(16) float queries[B::TILE], douts[B::TILE], keys[B::TILE], values[B::TILE], square[B::SQUARE];
    const Dropout dropout{seed, site, threshold, scale};
    const Head head(NH);
    const Starts starts(all_starts, head, T);
    const int first = blockIdx.y * B::ROWS;
    const auto q = head.part(qkv, T, 0), d_outs = head.rows(dout, T);

    typename B::Sums dk, dv;
    B::clear(dk);
    B::clear(dv);
    B::fetch(keys, head.part(qkv, T, 1), first);
    B::fetch(values, head.part(qkv, T, 2), first);
    for (int t0 = first; t0 < T; t0 += B::ROWS) {
        // Later queries start no earlier.
        if (STARTS && starts.at(t0) >= first + B::ROWS) break;
        __syncthreads();
        B::fetch(queries, q, t0);
        B::fetch(douts, d_outs, t0);
        __syncthreads();
        typename B::Square s = B::products(keys, queries), dp = B::products(values, douts);
#pragma unroll
        for (int j = 0; j < B::COLUMNS; j++) {
            const int t = t0 + B::column(j);
            const Kept kept =
                t < T ? Kept{lse[head.row(T, t)] * LOG2_E, delta[head.row(T, t)], starts.at(t)} : Kept{0.0f, 0.0f, 0};
#pragma unroll
            for (int i = 0; i < B::MINE; i++)
                gradients(s.at[i][j], dp.at[i][j], kept, t, first + B::row(i), T, to_base_2(), head.row(T, t), dropout);
        }
        B::accumulate(dv, square, s, douts);
        B::accumulate(dk, square, dp, queries);
    }
#pragma unroll
    for (int i = 0; i < B::MINE; i++) B::multiply(dk, i, rsqrtf(static_cast<float>(HS)));
    B::write(dk, head.part(dqkv, T, 1), first);
    B::write(dv, head.part(dqkv, T, 2), first);
}

// ---- over a cache

// Many new positions, as in a prompt. qkv (B,Tn,3C), out (B,Tn,C), kcache and vcache (rows,Tmax,C) in place: attention/cache.cuh. Of few,
// attention/decode.cu.
extern "C" __global__ void __launch_bounds__(Forward::THREADS)
    attention_cached_forward(Act* out, Act* kcache, Act* vcache, const Act* qkv, const uint32* pos, const uint32* rows, int Tn, int Tmax,
                             int NH) {
    const Head head(NH);
    const Cached at(head, pos, rows);
    const int first = first_query<Forward>();
    const Joined<> k{at.of(kcache, head, Tmax), head.part(qkv, Tn, 1), at.pos}, v{at.of(vcache, head, Tmax), head.part(qkv, Tn, 2), at.pos};
    k.append(first, Forward::ROWS, Forward::THREADS);
    v.append(first, Forward::ROWS, Forward::THREADS);
    attend(head, out, nullptr, head.part(qkv, Tn, 0), k, v, Starts(nullptr, head, Tn), first, at.pos, Dropout{0, 0, 0, 1.0f});
}
