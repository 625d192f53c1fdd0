// Attention of few new positions over a cache, one most often: generation. Compiled for one -DHS.
//
//   out[b,i] = Σ_{t2 ≤ n} p[t2]·v[t2], n = pos[b] + i      p the softmax of q[b,i]·k[t2]/√HS over t2 ≤ n
//
// qkv (B,Tn,3C), out (B,Tn,C); kcache, vcache (rows,Tmax,C) in place, sequence b in row rows[b], or b where rows is null. Its rows
// pos[b] to pos[b] + Tn gain the new keys and values.
//
// There is no tile of queries to share keys between: every key and value is read once for a query, and used once. What counts is that
// enough of them are under way. So the keys of a query are cut into parts of SPLIT, a block each, and a block's groups of LANES lanes
// take its keys in turn, 16 bytes a lane, AHEAD keys and values at once. A group keeps the largest score, the sum of exponentials and
// its weighted values, as attention/simt.cu's forward does; the groups' are put together in a fixed order, and where there are several
// parts, `join` puts those together. Where keys are cut depends on their number alone, so a sequence gets the same bits in any
// company.
//
// floor: the cache's rows up to n, 2·(n + 1)·HS·sizeof(Act) a query and head. Bound by memory. Parts leave HS + 4 floats each, which
//   are read once: 2 % of that in bf16.
// launch, parts = ⌈Tmax/SPLIT⌉: attention_decode (B·NH, parts, Tn), attention_decode_join (B·NH, Tn), blocks of 128 threads; the
//   second only where parts is above 1.
// shared memory: static, up to 7 KiB; join dynamic, parts floats.
// assumes: HS as compiled, up to 256; partial begins at a multiple of 16 bytes. Any alignment of tensors; 16-byte accesses where
//   heads begin at multiples.
#include "attention/cache.cuh"
#include "lib/math.cuh"
#include "lib/matrix.cuh"
#include "lib/ptx.cuh"
#include "lib/reduce.cuh"

constexpr int THREADS = 128, SPLIT = 128;

// The least power of two that is n or more.
constexpr int power_of_two_from(int n) {
    int power = 1;
    while (power < n) power *= 2;
    return power;
}

// Elements of a vector; vectors of a head, and lanes that share them, MINE each.
constexpr int W = WIDTH<Act>, VECTORS = ceil_div(HS, W);
constexpr int LANES = power_of_two_from(VECTORS) < WARP ? power_of_two_from(VECTORS) : WARP;
constexpr int MINE = ceil_div(VECTORS, LANES), GROUPS = THREADS / LANES;
constexpr int AHEAD = MINE == 1 ? 4 : 2;
// A head in fours, the last one filled up; what a part leaves: the largest score, the sum, two floats for alignment, the values.
constexpr int FOURS = ceil_div(HS, 4), PART = 4 + FOURS * 4;

// What a thread has of its group's softmax: the largest score in base 2, the sum of exponentials beside it, and its part of the
// weighted values.
struct Softmax {
    float largest = LOWEST, sum = 0.0f;
    Vec<W> x[MINE];
};

// Scores and values of `AHEAD` keys more.
__device__ __forceinline__ void add(Softmax& all, const float (&score)[AHEAD], const Vec<W> (&value)[AHEAD][MINE]) {
    float most = all.largest;
#pragma unroll
    for (int a = 0; a < AHEAD; a++) most = fmaxf(most, score[a]);
    const float smaller = exp2_fast(all.largest - most);
    all.largest = most;
    all.sum *= smaller;
#pragma unroll
    for (int m = 0; m < MINE; m++)
#pragma unroll
        for (int e = 0; e < W; e++) all.x[m][e] *= smaller;
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
        const float p = exp2_fast(score[a] - most);
        all.sum += p;
#pragma unroll
        for (int m = 0; m < MINE; m++)
#pragma unroll
            for (int e = 0; e < W; e++) all.x[m][e] += p * value[a][m][e];
    }
}

// Writes a vector to shared memory, the m-th of `many` that as many neighbours write: a vector's fours lie apart, so that those of
// neighbours are neighbours.
__device__ __forceinline__ void write_fours(float* to, int many, int which, int m, const Vec<W>& x) {
#pragma unroll
    for (int j = 0; j < W / 4; j++)
        store_shared(to + ((m * (W / 4) + j) * many + which) * 4, Vec<4>{{x[j * 4], x[j * 4 + 1], x[j * 4 + 2], x[j * 4 + 3]}});
}

// Where part `part` of query i leaves what it has.
__device__ __forceinline__ float* place_of(float* partial, int i, int Tn, int part, int parts) {
    return partial + ((static_cast<size_t>(blockIdx.x) * Tn + i) * parts + part) * PART;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_decode(Act* out, Act* kcache, Act* vcache, float* partial, const Act* qkv, const uint32* pos, const uint32* rows, int Tn,
                     int Tmax, int NH) {
    __shared__ __align__(16) float shared[THREADS * MINE * W], queries[LANES * MINE * W];
    __shared__ float largests[GROUPS], sums[GROUPS], factors[GROUPS];
    const Head head(NH);
    const Cached at(head, pos, rows);
    const int i = blockIdx.z, part = blockIdx.y, keys = at.pos + i + 1;
    const int first = part * SPLIT, last = min(keys, first + SPLIT);
    if (first >= keys) return;
    const Joined<W> k{at.of<W>(kcache, head, Tmax), head.part<W>(qkv, Tn, 1), at.pos};
    const Joined<W> v{at.of<W>(vcache, head, Tmax), head.part<W>(qkv, Tn, 2), at.pos};
    if (last == keys) {
        k.append(i, 1, THREADS);
        v.append(i, 1, THREADS);
    }

    const int lane = threadIdx.x % LANES, group = threadIdx.x / LANES;
    const auto column = [&](int m) { return (lane + m * LANES) * W; };
    Vec<W> query[MINE];
    Softmax own;
    // The first group reads the query for all.
    if (group == 0) {
#pragma unroll
        for (int m = 0; m < MINE; m++) write_fours(queries, LANES, lane, m, head.part<W>(qkv, Tn, 0).get(i, column(m)));
    }
    __syncthreads();
#pragma unroll
    for (int m = 0; m < MINE; m++) {
        own.x[m] = zeros<W>();
#pragma unroll
        for (int j = 0; j < W / 4; j++) {
            const Vec<4> four = load_shared(queries + ((m * (W / 4) + j) * LANES + lane) * 4);
#pragma unroll
            for (int e = 0; e < 4; e++) query[m][j * 4 + e] = four[e];
        }
    }
    for (int t0 = first + group; t0 - group < last; t0 += GROUPS * AHEAD) {
        Vec<W> key[AHEAD][MINE], value[AHEAD][MINE];
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            const int t = t0 + a * GROUPS;
#pragma unroll
            for (int m = 0; m < MINE; m++) {
                key[a][m] = t < last ? k.get(t, column(m)) : zeros<W>();
                value[a][m] = t < last ? v.get(t, column(m)) : zeros<W>();
            }
        }
        float score[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            float dot = 0.0f;
#pragma unroll
            for (int m = 0; m < MINE; m++)
#pragma unroll
                for (int e = 0; e < W; e++) dot += query[m][e] * key[a][m][e];
            dot = warp_sum<LANES>(dot);
            score[a] = t0 + a * GROUPS < last ? dot * to_base_2() : -INFINITE;
        }
        add(own, score, value);
    }

    // The groups', in order.
#pragma unroll
    for (int m = 0; m < MINE; m++) write_fours(shared, THREADS, threadIdx.x, m, own.x[m]);
    if (lane == 0) largests[group] = own.largest, sums[group] = own.sum;
    __syncthreads();
    float most = LOWEST;
    for (int g = 0; g < GROUPS; g++) most = fmaxf(most, largests[g]);
    if (threadIdx.x < GROUPS) factors[threadIdx.x] = exp2_fast(largests[threadIdx.x] - most);
    __syncthreads();
    float sum = 0.0f;
    for (int g = 0; g < GROUPS; g++) sum += sums[g] * factors[g];
    float* const to = place_of(partial, i, Tn, part, gridDim.y);
    const bool alone = keys <= SPLIT;
    if (!alone && threadIdx.x == 0) to[0] = most, to[1] = sum;
    for (int u = threadIdx.x; u < LANES * MINE * (W / 4); u += THREADS) {
        const int l = u % LANES, j = u / LANES, first_column = (l + j / (W / 4) * LANES) * W + j % (W / 4) * 4;
        if (first_column >= HS) continue;
        Vec<4> x = zeros();
        for (int g = 0; g < GROUPS; g++) {
            const Vec<4> y = load_shared(shared + (j * THREADS + g * LANES + l) * 4);
#pragma unroll
            for (int e = 0; e < 4; e++) x[e] += y[e] * factors[g];
        }
        if (alone) {
#pragma unroll
            for (int e = 0; e < 4; e++) x[e] /= sum;
            head.rows(out, Tn).set(i, first_column, x);
        } else {
            store<4>(to + 4 + first_column, x);
        }
    }
}

extern __shared__ float dynamic[];

// Puts the parts of each query together, where there are several.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_decode_join(Act* out, const float* partial, const uint32* pos, int parts, int Tn, int NH) {
    __shared__ float scratch[2][THREADS / WARP];
    const Head head(NH);
    const int i = blockIdx.y, keys = static_cast<int>(broadcast(pos + head.b)) + i + 1, count = ceil_div(keys, SPLIT);
    if (count == 1) return;
    const float* const from = place_of(const_cast<float*>(partial), i, Tn, 0, parts);
    float most = LOWEST;
    for (int p = threadIdx.x; p < count; p += THREADS) most = fmaxf(most, from[static_cast<size_t>(p) * PART]);
    most = block_max<THREADS / WARP>(most, scratch[0]);
    float sum = 0.0f;
    for (int p = threadIdx.x; p < count; p += THREADS) {
        const float factor = exp2_fast(from[static_cast<size_t>(p) * PART] - most);
        dynamic[p] = factor;
        sum += from[static_cast<size_t>(p) * PART + 1] * factor;
    }
    // Its barrier is that of the factors too.
    sum = block_sum<THREADS / WARP>(sum, scratch[1]);
    for (int four = threadIdx.x; four < FOURS; four += THREADS) {
        Vec<4> x = zeros();
#pragma unroll 4
        for (int p = 0; p < count; p++) {
            const Vec<4> y = load<4>(from + static_cast<size_t>(p) * PART + 4 + four * 4);
#pragma unroll
            for (int e = 0; e < 4; e++) x[e] += y[e] * dynamic[p];
        }
#pragma unroll
        for (int e = 0; e < 4; e++) x[e] /= sum;
        head.rows(out, Tn).set(i, four * 4, x);
    }
}
