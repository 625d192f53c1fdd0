// Attention in pieces, with its (T,T) matrices in memory: what the fused kernels of attention/simt.cu do without them. Read this
// first, and lib/tile.cuh before it; the softmax between the pieces is softmax.cu.
//
//   scores_forward     scores[t,t2] = q[t]·k[t2]/√HS                              for t2 ≤ t
//   scores_backward    dq[t] = Σ_{t2 ≤ t} dscores[t,t2]·k[t2]/√HS                 dk[t2] = Σ_{t ≥ t2} dscores[t,t2]·q[t]/√HS
//   values_forward     out[t] = Σ_{t2 ≤ t} probs[t,t2]·v[t2]
//   values_backward    dprobs[t,t2] = dout[t]·v[t2] for t2 ≤ t, else 0            dv[t2] = Σ_{t ≥ t2} probs[t,t2]·dout[t]
//
// each for B batches and NH heads. qkv, dqkv (B,T,3C), C = NH·HS, a row q, k, v of NH heads of HS each; out, dout (B,T,C); scores,
// probs and their gradients (B,NH,T,T).
//
// Every line is a product of two matrices of which one is a head's slice of qkv, with rows 3C apart, and one is or becomes a
// triangle. Tiles above the diagonal are not computed, and sums end or begin at it: half of the work falls away.
//
// Floor: B·NH·T·T·HS FLOP for each line (half of a full product's 2). Of memory, the (T,T) matrices outweigh all else from T >
// HS on: B·NH·T·T/2 elements for each line, or T·T where zeros are written or tiles on the diagonal are read whole.
//
// Launch: grid (ceil(columns / BLOCK_N), ceil(T / BLOCK_M), B·NH) of the result, where columns is T for a (T,T) result and HS for
// the others; B·NH at most 65535. Block THREADS, shared memory as in matmul/simt.cu. Assumes nothing of addresses and sizes.

// Tiles of 64 columns: the size of a head, most often.
#define BLOCK_M 64
#define BLOCK_N 64
#include "lib/tile.cuh"

// A head's matrices: of blockIdx.z = b·NH + h.
struct Head {
    int T, NH, HS;
    size_t b, h;

    __device__ __forceinline__ Head(int T, int NH, int HS)
        : T(T), NH(NH), HS(HS), b(blockIdx.z / NH), h(blockIdx.z % NH) {}

    // (T,HS) of qkv or its gradient: part 0 is q, 1 is k, 2 is v.
    template <typename T_>
    __device__ __forceinline__ Matrix<T_> of(T_* qkv, int part) const {
        const size_t C = static_cast<size_t>(NH) * HS;
        return Matrix<T_>(qkv + b * T * 3 * C + part * C + h * HS, 3 * C, T, HS);
    }
    // (T,HS) of out or its gradient.
    template <typename T_>
    __device__ __forceinline__ Matrix<T_> rows(T_* out) const {
        const size_t C = static_cast<size_t>(NH) * HS;
        return Matrix<T_>(out + b * T * C + h * HS, C, T, HS);
    }
    // (T,T) of scores or the like, whole or up to the diagonal.
    template <bool CAUSAL, typename T_>
    __device__ __forceinline__ Matrix<T_, 4, CAUSAL> square(T_* scores) const {
        return Matrix<T_, 4, CAUSAL>(scores + static_cast<size_t>(blockIdx.z) * T * T, T, T, T);
    }
    __device__ __forceinline__ float scale() const { return rsqrtf(static_cast<float>(HS)); }
};

__device__ __forceinline__ Vec<4> scaled(Vec<4> x, float scale) {
#pragma unroll
    for (int i = 0; i < 4; i++) x[i] *= scale;
    return x;
}

// The end of a sum over t2 ≤ t, for the rows t of a tile that begins at m0.
__device__ __forceinline__ int diagonal(int m0, int T) {
    return min(T, m0 + BLOCK_M);
}

// ---- scores

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    attention_scores_forward(Act* scores, const Act* qkv, int T, int NH, int HS) {
    const int m0 = blockIdx.y * BLOCK_M, n0 = blockIdx.x * BLOCK_N;
    if (n0 >= m0 + BLOCK_M) return;  // above the diagonal
    const Head head(T, NH, HS);
    Tile tile;
    tile.multiply<Along::K, Along::K>(head.of(qkv, 0), head.of(qkv, 1), m0, n0, 0, HS);
    tile.each(m0, n0, [&](int t, int t2, const Vec<4>& x) {
        head.square<true>(scores).set(t, t2, scaled(x, head.scale()));
    });
}

// dq = dscores·k/√HS
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    attention_scores_backward_q(Act* dqkv, const Act* dscores, const Act* qkv, int T, int NH, int HS) {
    const int m0 = blockIdx.y * BLOCK_M, n0 = blockIdx.x * BLOCK_N;
    const Head head(T, NH, HS);
    Tile tile;
    tile.multiply<Along::K, Along::ROW>(head.square<true>(dscores), head.of(qkv, 1), m0, n0, 0, diagonal(m0, T));
    tile.each(m0, n0, [&](int t, int i, const Vec<4>& x) { head.of(dqkv, 0).set(t, i, scaled(x, head.scale())); });
}

// dk = dscoresᵀ·q/√HS: below m0 the columns from m0 on have nothing.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    attention_scores_backward_k(Act* dqkv, const Act* dscores, const Act* qkv, int T, int NH, int HS) {
    const int m0 = blockIdx.y * BLOCK_M, n0 = blockIdx.x * BLOCK_N;
    const Head head(T, NH, HS);
    Tile tile;
    tile.multiply<Along::ROW, Along::ROW>(head.square<true>(dscores), head.of(qkv, 0), m0, n0, m0, T);
    tile.each(m0, n0, [&](int t2, int i, const Vec<4>& x) { head.of(dqkv, 1).set(t2, i, scaled(x, head.scale())); });
}

// ---- values

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    attention_values_forward(Act* out, const Act* probs, const Act* qkv, int T, int NH, int HS) {
    const int m0 = blockIdx.y * BLOCK_M, n0 = blockIdx.x * BLOCK_N;
    const Head head(T, NH, HS);
    Tile tile;
    tile.multiply<Along::K, Along::ROW>(head.square<true>(probs), head.of(qkv, 2), m0, n0, 0, diagonal(m0, T));
    tile.each(m0, n0, [&](int t, int i, const Vec<4>& x) { head.rows(out).set(t, i, x); });
}

// dprobs = dout·vᵀ, and zeros above the diagonal.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    attention_values_backward_probs(Act* dprobs, const Act* dout, const Act* qkv, int T, int NH, int HS) {
    const int m0 = blockIdx.y * BLOCK_M, n0 = blockIdx.x * BLOCK_N;
    const Head head(T, NH, HS);
    Tile tile;
    // A tile wholly above the diagonal is a sum of nothing.
    tile.multiply<Along::K, Along::K>(head.rows(dout), head.of(qkv, 2), m0, n0, 0, n0 < m0 + BLOCK_M ? HS : 0);
    tile.each(m0, n0, [&](int t, int t2, Vec<4> x) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (t2 + i > t) x[i] = 0.0f;
        head.square<false>(dprobs).set(t, t2, x);
    });
}

// dv = probsᵀ·dout
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    attention_values_backward_v(Act* dqkv, const Act* dout, const Act* probs, int T, int NH, int HS) {
    const int m0 = blockIdx.y * BLOCK_M, n0 = blockIdx.x * BLOCK_N;
    const Head head(T, NH, HS);
    Tile tile;
    tile.multiply<Along::ROW, Along::ROW>(head.square<true>(probs), head.rows(dout), m0, n0, m0, T);
    tile.each(m0, n0, [&](int t2, int i, const Vec<4>& x) { head.of(dqkv, 2).set(t2, i, x); });
}
