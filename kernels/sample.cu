// Drawing the next token from each of B rows of logits over a vocabulary of V, in rows padded to Vp.
//
//   x[v] = logits[b,v], for tokens that the text holds already x / penalty where x > 0, else x·penalty
//   temperature 0: the first token with the largest x; else
//   top-k keeps v if fewer than k have a larger x; top-p keeps of those v if the weights w = e^((x − max)/temperature) of larger x sum to
//   less than p·Σ w; tokens[b] is the first of those kept up to which w sums to more than u·Σ w, u = uniforms[b]/2³²
//
// tokens, uniforms (B); seen (rows,⌈V/32⌉), a bit a token, in place, or null; logits (B,Vp), columns from V on are not read; knobs (B,4):
// temperature, k (0: all), p (1: all), penalty; rows (B): a row of seen each, or null. IGNORE is drawn where a logit is NaN or +∞, or none is
// finite.
//
// Both filters ask the same: what is larger than x, how many tokens or how much weight, and is that less than a limit? The answer falls
// as x grows, so the least x that is kept is found by cutting an interval: passes over the row until what lies in it is as many as a
// block has threads, then halving over those, one a thread. Nothing is sorted. Logits are compared as integers in the order of the
// floats, and weights are summed as integers, in units of 2⁻⁴⁰ of the largest: sums are exact whatever their order, so what is as likely as
// the last one kept is kept, and two runs draw the same.
//
// floor: V·sizeof(Act), and V/8 bytes of seen with a penalty, a row. If `staged`, the row's integers are kept in shared memory and read
//   there, once for the total of the weights, once for the draw, and once or twice a filter (32 times and one at most); else
//   each pass reads the row again.
// launch: a block of up to 1024 threads a row, ⌈V/32⌉ warps if that is less; grid B.
// shared memory: static, 6 KiB; if staged, dynamic, V words rounded up to 16 bytes; 197 KiB for GPT-2's vocabulary.
// assumes: V up to 2²³; no two rows alike. Any alignment; accesses of four elements where logits begin at a multiple of 16 bytes and Vp
//   is a multiple of 4. Knobs may be anything: what is drawn by nonsense is a token or IGNORE.

#include "lib/math.cuh"
#include "lib/rows.cuh"
#include "lib/types.cuh"

constexpr int MAX_WARPS = 32, MAX_THREADS = MAX_WARPS * WARP;
// Places at which a pass cuts an interval.
constexpr int CUTS = 2;
// Weights are numbers of 2^-40: 2^23 of them fit 64 bits.
constexpr float UNIT = 1099511627776.0f;
// e^-29 is less than half of one.
constexpr float FAR = 29.0f;
constexpr float LARGEST = 3.402823466e38f;

extern __shared__ uint4 dynamic[];

// ---- logits as integers

// In the order of the floats, −0 and 0 the same. −∞ is EXCLUDED, below all others; NaN and +∞ are DAMAGED, above them.
constexpr uint32 EXCLUDED = 0x007fffff, DAMAGED = 0xffffffff;

__device__ __forceinline__ uint32 key_of(float x) {
    if (!(x < INFINITE)) return DAMAGED;
    const uint32 bits = __float_as_uint(x + 0.0f);
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}
__device__ __forceinline__ float value_of(uint32 key) {
    return __uint_as_float(key & 0x80000000 ? key & 0x7fffffff : ~key);
}

// A logit of a token that the text holds; what is finite stays so.
__device__ __forceinline__ float penalized(float x, float penalty) {
    const float by = x > 0.0f ? x / penalty : x * penalty;
    return x > -INFINITE && x < INFINITE ? fminf(fmaxf(by, -LARGEST), LARGEST) : x;
}

// Where a row's keys are kept.
__device__ __forceinline__ uint32* kept() {
    return reinterpret_cast<uint32*>(dynamic);
}

// A row of logits; `seen` is null where nothing is penalized. Its keys are kept if it is staged.
struct Row {
    const Act* logits;
    const uint32* seen;
    float penalty;
    int V;
    bool staged;

    __device__ __forceinline__ uint32 key(float x, uint32 word, int v) const {
        return key_of(seen && word >> v % 32 & 1 ? penalized(x, penalty) : x);
    }
    __device__ __forceinline__ uint32 key(int v) const {
        if (staged) return kept()[v];
        return key(widen(logits[v]), seen ? seen[v / 32] : 0, v);
    }
};

// ---- reductions of 64-bit integers

struct Sum64 {
    static __device__ __forceinline__ uint64 apply(uint64 a, uint64 b) { return a + b; }
};
struct Max64 {
    static __device__ __forceinline__ uint64 apply(uint64 a, uint64 b) { return a > b ? a : b; }
};

template <typename Op>
__device__ __forceinline__ uint64 warp_reduce(uint64 x) {
#pragma unroll
    for (int bit = WARP / 2; bit > 0; bit /= 2) x = Op::apply(x, __shfl_xor_sync(FULL_MASK, x, bit));
    return x;
}

// Sums of the lanes up to this one.
__device__ __forceinline__ uint64 warp_scan(uint64 x) {
#pragma unroll
    for (int by = 1; by < WARP; by *= 2) {
        const uint64 below = __shfl_up_sync(FULL_MASK, x, by);
        if (threadIdx.x % WARP >= by) x += below;
    }
    return x;
}

// The block's threads, and scratch for what they tell each other: two, in turn, so that a barrier is enough for each reduction.
struct Block {
    uint64 (*scratch)[2 * CUTS][MAX_WARPS];
    int warp, lane, warps, turn;

    // What lane l gets is warp l's x, 0 for those that there are not.
    template <int N>
    __device__ __forceinline__ void exchange(uint64 (&x)[N]) {
#pragma unroll
        for (int i = 0; i < N; i++)
            if (lane == 0) scratch[turn][i][warp] = x[i];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = lane < warps ? scratch[turn][i][lane] : 0;
        turn ^= 1;
    }
    // Over all threads; 0 is neutral to both operations.
    template <typename Op, int N>
    __device__ __forceinline__ void reduce(uint64 (&x)[N]) {
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = warp_reduce<Op>(x[i]);
        exchange(x);
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = warp_reduce<Op>(x[i]);
    }
    // Where this warp's part of a row begins: neighbours, so that sums go in the order of tokens.
    __device__ __forceinline__ int begin(int V) const { return min(V, warp * (ceil_div(ceil_div(V, warps), WARP) * WARP)); }
    __device__ __forceinline__ int end(int V) const { return min(V, (warp + 1) * (ceil_div(ceil_div(V, warps), WARP) * WARP)); }

    // Calls f(key) in each lane for each key of this warp's part, WARP at a time; for those beyond its end with 0.
    template <typename F>
    __device__ __forceinline__ void each(const Row& row, F f) const {
        const int last = end(row.V);
#pragma unroll 2
        for (int from = begin(row.V); from < last; from += WARP) f(from + lane < last ? row.key(from + lane) : 0);
    }
};

// ---- weights

// w[v] = e^((x − max)/temperature) in units.
struct Weights {
    float half_max, scale;

    __device__ __forceinline__ Weights(float max, float temperature)
        : half_max(0.5f * max), scale(2.0f * LOG2_E / temperature) {}

    // Halves, for a difference of two numbers may be beyond the largest.
    __device__ __forceinline__ uint64 of(uint32 key) const {
        return __float2ull_rn(exp2_fast((0.5f * value_of(key) - half_max) * scale) * UNIT);
    }
};

struct Count {
    __device__ __forceinline__ uint64 of(uint32) const { return 1; }
};

// ---- filters

// The least key above `lo` with less than `limit`, in the sense of `measure`, above it; `hi`, the largest key there is, has nothing above,
// `lo` no more than `above_lo` keys.
template <typename M>
__device__ __forceinline__ uint32 least_kept(Block& block, const Row& row, const M& measure, uint64 limit, uint32 lo, uint32 hi,
                                             uint64 above_lo, uint32* list, int* listed) {
    uint64 above_hi = 0, at_hi = 0;
    while (hi - lo > 1 && above_lo - above_hi > blockDim.x) {
        // Nearer the larger of two values, where few large logits are soon apart from many small ones; and between two keys, which halves what
        // is left.
        const uint32 value = key_of(0.25f * value_of(lo) + 0.75f * value_of(hi)), key = lo + (hi - lo) / 2;
        const uint32 inside = min(max(value, lo + 1), hi - 1);
        const uint32 cut[CUTS] = {min(inside, key), max(inside, key)};
        // How many, and what they measure.
        uint64 sums[2 * CUTS] = {};
        uint32 counts[CUTS] = {};
        block.each(row, [&](uint32 key) {
            if (key <= cut[0]) return;
            const uint64 own = measure.of(key);
#pragma unroll
            for (int i = 0; i < CUTS; i++) {
                if (key > cut[i]) counts[i]++, sums[CUTS + i] += own;
            }
        });
#pragma unroll
        for (int i = 0; i < CUTS; i++) sums[i] = counts[i];
        block.reduce<Sum64>(sums);
        uint64 to = above_hi, at = at_hi;
        uint32 low_cut = lo, high_cut = hi;
#pragma unroll
        for (int i = CUTS - 1; i >= 0; i--) {
            if (low_cut != lo) continue;
            if (sums[CUTS + i] < limit) {
                high_cut = cut[i], to = sums[i], at = sums[CUTS + i];
            } else {
                low_cut = cut[i], above_lo = sums[i];
            }
        }
        lo = low_cut, hi = high_cut, above_hi = to, at_hi = at;
    }
    if (hi - lo == 1) return hi;

    // A key a thread. In which order does not matter.
    if (threadIdx.x == 0) *listed = 0;
    __syncthreads();
    block.each(row, [&](uint32 key) {
        const bool own = key > lo && key <= hi;
        const uint32 mine = __ballot_sync(FULL_MASK, own);
        if (mine == 0) return;
        int place = 0;
        if (block.lane == 0) place = atomicAdd(listed, __popc(mine));
        place = __shfl_sync(FULL_MASK, place, 0);
        if (own) list[place + __popc(mine & ((1u << block.lane) - 1))] = key;
    });
    __syncthreads();
    const uint32 key = threadIdx.x < *listed ? list[threadIdx.x] : 0;
    const uint64 own = key ? measure.of(key) : 0;
    while (hi - lo > 1) {
        const uint32 middle = lo + (hi - lo) / 2;
        uint64 sum[1] = {key > middle ? own : 0};
        block.reduce<Sum64>(sum);
        if (at_hi + sum[0] < limit) hi = middle;
        else lo = middle;
    }
    return hi;
}

// ---- the draw

// ⌊total·x/2³²⌋, and the same rounded up.
__device__ __forceinline__ uint64 share(uint64 total, uint32 x) {
    return __umul64hi(total, static_cast<uint64>(x) << 32);
}
__device__ __forceinline__ uint64 share_up(uint64 total, uint32 x) {
    return share(total, x) + (total * (static_cast<uint64>(x) << 32) != 0);
}

// The token at u; IGNORE in all warps but the one that has it, and in all lanes but one.
__device__ __forceinline__ uint32 token_at(Block& block, const Row& row, const Weights& weights, uint32 least, uint32 u) {
    uint64 sums[1] = {};
    block.each(row, [&](uint32 key) {
        if (key >= least) sums[0] += weights.of(key);
    });
    sums[0] = warp_reduce<Sum64>(sums[0]);
    block.exchange(sums);
    const uint64 up_to = warp_scan(sums[0]), total = __shfl_sync(FULL_MASK, up_to, WARP - 1);
    uint64 left = share(total, u);
    const uint32 beyond = __ballot_sync(FULL_MASK, up_to > left);
    if (__ffs(beyond) - 1 != block.warp) return IGNORE;
    left -= __shfl_sync(FULL_MASK, up_to - sums[0], block.warp);
    const int last = block.end(row.V);
    for (int from = block.begin(row.V); from < last; from += WARP) {
        const uint32 key = from + block.lane < last ? row.key(from + block.lane) : 0;
        const uint64 here = warp_scan(key >= least ? weights.of(key) : 0);
        const uint32 past = __ballot_sync(FULL_MASK, here > left);
        if (past) return __ffs(past) - 1 == block.lane ? from + block.lane : IGNORE;
        left -= __shfl_sync(FULL_MASK, here, WARP - 1);
    }
    return IGNORE;
}

// ---- the row

// Reads the row once: keeps its keys if there is somewhere to, finds the largest with the first token that has it, and the least that is
// not EXCLUDED, as max(~key).
template <int W>
__device__ __forceinline__ void read(const Block& block, const Row& row, uint64 (&most)[2]) {
    // Tokens of a warp at once, and their words of `seen`, which its first lanes read.
    constexpr int TOGETHER = WARP * W;
    const int step = block.warps * TOGETHER;
#pragma unroll 4
    for (int from = block.warp * TOGETHER; from < row.V; from += step) {
        const int v = from + block.lane * W, word_at = from / 32 + block.lane;
        uint32 word = 0;
        if (row.seen) {
            if (block.lane < W && word_at < ceil_div(row.V, 32)) word = row.seen[word_at];
            word = __shfl_sync(FULL_MASK, word, block.lane * W / 32);
        }
        if (v >= row.V) continue;
        const Vec<W> x = load_live<W>(row.logits, v, row.V, -INFINITE);
        uint32 keys[W];
#pragma unroll
        for (int i = 0; i < W; i++) {
            keys[i] = row.key(x[i], word, v + i);
            const uint64 place = static_cast<uint64>(keys[i]) << 32 | ~static_cast<uint32>(v + i);
            most[0] = Max64::apply(most[0], place);
            if (keys[i] > EXCLUDED) most[1] = Max64::apply(most[1], ~keys[i]);
        }
        if (!row.staged) continue;
        if constexpr (W == 4) {
            *reinterpret_cast<uint4*>(kept() + v) = make_uint4(keys[0], keys[1], keys[2], keys[3]);
        } else {
            kept()[v] = keys[0];
        }
    }
}

extern "C" __global__ void __launch_bounds__(MAX_THREADS)
    sample(uint32* __restrict__ tokens, uint32* seen, const Act* __restrict__ logits, const float* __restrict__ knobs,
           const uint32* __restrict__ uniforms, const uint32* __restrict__ rows, int V, int Vp, int staged) {
    __shared__ uint64 scratch[2][2 * CUTS][MAX_WARPS];
    __shared__ uint32 list[MAX_THREADS];
    __shared__ int listed;
    const int b = blockIdx.x, words = ceil_div(V, 32);
    Block block{scratch, static_cast<int>(threadIdx.x) / WARP, static_cast<int>(threadIdx.x) % WARP,
                static_cast<int>(blockDim.x) / WARP, 0};
    // One lane reads for its warp.
    const uint32* const own = reinterpret_cast<const uint32*>(knobs) + 4 * b;
    const float temperature = __uint_as_float(broadcast(own)), top_k = __uint_as_float(broadcast(own + 1));
    const float top_p = __uint_as_float(broadcast(own + 2)), penalty = __uint_as_float(broadcast(own + 3));
    uint32* const held = seen ? seen + static_cast<size_t>(rows ? broadcast(rows + b) : b) * words : nullptr;

    // Before any barrier, and so before who writes the token.
    if (threadIdx.x == 0) tokens[b] = IGNORE;

    const Row row{logits + static_cast<size_t>(b) * Vp, penalty == 1.0f ? nullptr : held, penalty, V, staged != 0};
    // The largest key with its first token; the least as its complement.
    uint64 most[2] = {};
    if (Vp % 4 == 0 && aligned_16(logits)) read<4>(block, row, most);
    else read<1>(block, row, most);
    // Its barrier is that of what is kept, too.
    block.reduce<Max64>(most);
    const uint32 max = static_cast<uint32>(most[0] >> 32);

    uint32 token = IGNORE;
    if (max > EXCLUDED && max != DAMAGED) {
        if (temperature == 0.0f) {
            if (threadIdx.x == 0) token = ~static_cast<uint32>(most[0]);
        } else {
            uint32 least = ~static_cast<uint32>(most[1]);
            if (top_k >= 1.0f && top_k < V) {
                const uint64 k = static_cast<uint64>(top_k);
                least = least_kept(block, row, Count{}, k, least - 1, max, V, list, &listed);
            }
            const Weights weights(value_of(max), temperature);
            if (top_p < 1.0f) {
                // What is too far from the largest to weigh anything is not kept.
                least = umax(least, umin(key_of(value_of(max) - FAR * temperature), max));
                uint64 total[2] = {};
                block.each(row, [&](uint32 key) {
                    if (key >= least) total[0] += weights.of(key), total[1]++;
                });
                block.reduce<Sum64>(total);
                // From 1 on, so that the largest is kept.
                const uint64 limit = share_up(total[0], umax(1, __float2uint_rn(top_p * 4294967296.0f)));
                least = least_kept(block, row, weights, limit, least - 1, max, total[1], list, &listed);
            }
            token = token_at(block, row, weights, least, broadcast(uniforms + b));
        }
    }
    // One lane has it, if any.
    if (token == IGNORE) return;
    tokens[b] = token;
    if (held) held[token / 32] |= 1u << token % 32;
}
