// Token and position embedding.
//
//   forward    out[b,t] = wte[tokens[b,t]] + wpe[positions[b,t]]
//   backward   dwte[v] += Σ_{tokens[b,t] = v} dout[b,t],   dwpe[p] (set or added) Σ_{positions[b,t] = p} dout[b,t]
//
// out, dout (B,T,C), tokens, positions (B,T), wte, dwte, wpe, dwpe (any rows,C). P = B·T positions. Without `positions`, that of
// [b,t] is t: then wpe has at least T rows, and dwpe[t] = Σ_b dout[b,t], zero or left alone from T on.
//
// The sum over the positions of a token has a fixed order, without atomics. Positions are sorted by token (a stable radix
// sort of 8 bits a pass), so that those of a token stand together in ascending order. Rows of dwpe, where `positions` chooses them,
// are summed by the same kernels as those of dwte. The sorted list is cut into chunks of
// equal length, and a warp walks each: it adds up the rows of a token and, where a token's positions all lie in the chunk,
// adds the sum to dwte. Of a token that goes on in the next chunk it leaves a partial sum, which `join` adds up in order. So
// a token that is everywhere is spread over as many warps as it has chunks.
//
// floor: forward P·C·2·sizeof(Act) for out and the tokens' rows, and wpe once, T·C·sizeof(Act), or with `positions` as often as it is
//   read, P·C·sizeof(Act). Backward 2·P·C·sizeof(Act), as dout is read in two orders, and each row of dwte that has a position, and dwpe, once or, where added to, twice.
//   The sort moves
//   20 bytes a position and pass, the partial sums at most 16·C a chunk. Bound by memory.
// launch, W being `width`: blocks of 8 warps
//   embedding_forward               (⌈T/8⌉, ⌈C/(32·W)⌉)
//   embedding_backward_count        ⌈P/TILE⌉      } for each pass, shift 0, 8, ...: from tokens or what the last pass left
//   embedding_backward_scan         1, 1024 threads } to keys and positions
//   embedding_backward_scatter      ⌈P/TILE⌉      }
//   embedding_backward_tokens       ⌈chunks·⌈C/(32·W)⌉/8⌉, chunks = ⌈P/chunk⌉
//   embedding_backward_join         (chunks, ⌈C/(32·W)⌉)
//   embedding_backward_positions    (⌈rows/8⌉, ⌈C/(32·W)⌉)   without `positions`
// shared memory: scatter 8 KiB, join 8·(32·W + 32) floats.
// assumes: tokens below wte's rows, positions below wpe's, P < 2³¹. counts holds 256·⌈P/TILE⌉ words and begins at a multiple of 16 bytes, partial
//   (chunks,2,C) floats. With width > 1 that it is WIDTH<Act>, that C is a multiple of it and that tables, out or dout and
//   partial begin at a multiple of 16 bytes.

#include "lib/columns.cuh"
#include "lib/types.cuh"

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP;

// ---- forward

template <int W, bool CHOSEN>
__device__ __forceinline__ void forward(Act* out, const uint32* tokens, const uint32* positions, const Act* wte,
                                        const Act* wpe, int B, int T, int C) {
    const int lane = threadIdx.x % WARP;
    const int t = blockIdx.x * WARPS + threadIdx.x / WARP;
    const int c = (blockIdx.y * WARP + lane) * W;
    if (t >= T) return;
    // A position's row serves the whole batch, unless each sequence chooses its own.
    Vec<W> position = !CHOSEN && c < C ? load<W>(wpe + static_cast<size_t>(t) * C + c) : Vec<W>{};
    for (int first = 0; first < B; first += WARP) {
        // A lane reads one sequence's token for the warp: all reading the same would ask for 32 times as much.
        const bool there = first + lane < B;
        const uint32 own = there ? tokens[static_cast<size_t>(first + lane) * T + t] : 0;
        const uint32 own_position = CHOSEN && there ? positions[static_cast<size_t>(first + lane) * T + t] : 0;
        const int count = min(WARP, B - first);
#pragma unroll 4
        for (int b = 0; b < count; b++) {
            const uint32 token = __shfl_sync(FULL_MASK, own, b);
            const uint32 place = CHOSEN ? __shfl_sync(FULL_MASK, own_position, b) : 0;
            if (c >= C) continue;
            if (CHOSEN) position = load<W>(wpe + static_cast<size_t>(place) * C + c);
            Vec<W> x = load<W>(wte + static_cast<size_t>(token) * C + c);
#pragma unroll
            for (int i = 0; i < W; i++) x[i] += position[i];
            store<W>(out + (static_cast<size_t>(first + b) * T + t) * C + c, x);
        }
    }
}

template <int W>
__device__ __forceinline__ void forward(Act* out, const uint32* tokens, const uint32* positions, const Act* wte,
                                        const Act* wpe, int B, int T, int C) {
    if (positions) {
        forward<W, true>(out, tokens, positions, wte, wpe, B, T, C);
    } else {
        forward<W, false>(out, tokens, positions, wte, wpe, B, T, C);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    embedding_forward(Act* __restrict__ out, const uint32* __restrict__ tokens, const uint32* __restrict__ positions,
                      const Act* __restrict__ wte, const Act* __restrict__ wpe, int B, int T, int C, int width) {
    if (width == 1) {
        forward<1>(out, tokens, positions, wte, wpe, B, T, C);
    } else {
        forward<WIDTH<Act>>(out, tokens, positions, wte, wpe, B, T, C);
    }
}

// ---- backward: positions sorted by token

constexpr int DIGITS = 256;
static_assert(DIGITS == THREADS, "a thread for each value of a digit");
// Rounds in which a warp reads 32 keys, and keys that a block sorts.
constexpr int ROUNDS = 8;
constexpr int TILE = THREADS * ROUNDS;

__device__ __forceinline__ uint32 digit_of(uint32 key, int shift) {
    return key >> shift & (DIGITS - 1);
}

// counts[digit, tile]: how often each digit occurs in each tile.
extern "C" __global__ void __launch_bounds__(THREADS)
    embedding_backward_count(uint32* __restrict__ counts, const uint32* __restrict__ keys, int P, int shift) {
    __shared__ uint32 histogram[DIGITS];
    histogram[threadIdx.x] = 0;
    __syncthreads();
    const int begin = blockIdx.x * TILE, end = min(begin + TILE, P);
    // Of integers the sum does not depend on the order.
    for (int i = begin + threadIdx.x; i < end; i += THREADS) atomicAdd(&histogram[digit_of(keys[i], shift)], 1u);
    __syncthreads();
    counts[static_cast<size_t>(threadIdx.x) * gridDim.x + blockIdx.x] = histogram[threadIdx.x];
}

constexpr int SCAN_THREADS = 1024;

// Replaces each of n numbers, a multiple of 4, by the sum of those before it: of counts[digit, tile], where the tile's keys
// with that digit begin.
extern "C" __global__ void __launch_bounds__(SCAN_THREADS) embedding_backward_scan(uint32* counts, int n) {
    __shared__ uint32 warp_totals[2][SCAN_THREADS / WARP];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    uint4* const quads = reinterpret_cast<uint4*>(counts);
    uint32 before = 0;
    int turn = 0;
    for (int first = 0; first < n / 4; first += SCAN_THREADS, turn ^= 1) {
        const int i = first + threadIdx.x;
        const uint4 x = i < n / 4 ? quads[i] : make_uint4(0, 0, 0, 0);
        const uint32 own = x.x + x.y + x.z + x.w;
        uint32 upto = own;
#pragma unroll
        for (int away = 1; away < WARP; away *= 2) {
            const uint32 other = __shfl_up_sync(FULL_MASK, upto, away);
            if (lane >= away) upto += other;
        }
        // The totals of two rounds lie apart, so that one barrier a round is enough.
        if (lane == WARP - 1) warp_totals[turn][warp] = upto;
        __syncthreads();
        uint32 others = 0, all = 0;
#pragma unroll
        for (int w = 0; w < SCAN_THREADS / WARP; w++) {
            const uint32 total = warp_totals[turn][w];
            if (w < warp) others += total;
            all += total;
        }
        const uint32 start = before + others + upto - own;
        if (i < n / 4) quads[i] = make_uint4(start, start + x.x, start + x.x + x.y, start + x.x + x.y + x.z);
        before += all;
    }
}

// Moves keys, and the positions they came from, to where their digit's turn comes; keys with the same digit stay in order.
// `positions` is null in the first pass: key i is that of position i.
extern "C" __global__ void __launch_bounds__(THREADS)
    embedding_backward_scatter(uint32* __restrict__ keys_out, uint32* __restrict__ positions_out,
                               const uint32* __restrict__ keys, const uint32* __restrict__ positions,
                               const uint32* __restrict__ starts, int P, int shift) {
    __shared__ uint32 counter[WARPS][DIGITS];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
#pragma unroll
    for (int w = 0; w < WARPS; w++) counter[w][threadIdx.x] = 0;
    __syncthreads();

    // A warp has a run of neighbouring keys. How many with the same digit came before, in this warp?
    const int first = blockIdx.x * TILE + warp * (WARP * ROUNDS) + lane;
    uint32 key[ROUNDS], rank[ROUNDS];
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        const bool there = first + r * WARP < P;
        key[r] = there ? keys[first + r * WARP] : 0;
        // Lanes without a key go by themselves.
        const uint32 digit = there ? digit_of(key[r], shift) : DIGITS;
        const uint32 same = __match_any_sync(FULL_MASK, digit);
        const uint32 before = __popc(same & ((1u << lane) - 1));
        rank[r] = there ? counter[warp][digit] + before : 0;
        __syncwarp();
        if (there && before == 0) counter[warp][digit] += __popc(same);
        __syncwarp();
    }
    __syncthreads();

    // Where each warp's keys begin: thread d does it for digit d.
    uint32 start = starts[static_cast<size_t>(threadIdx.x) * gridDim.x + blockIdx.x];
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
        const uint32 count = counter[w][threadIdx.x];
        counter[w][threadIdx.x] = start;
        start += count;
    }
    __syncthreads();

#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        const int i = first + r * WARP;
        if (i < P) {
            const uint32 to = counter[warp][digit_of(key[r], shift)] + rank[r];
            keys_out[to] = key[r];
            positions_out[to] = positions ? positions[i] : i;
        }
    }
}

// ---- backward: sums of rows

// Rows of dout that a warp has in flight.
constexpr int AHEAD = 4;

// A chunk's two partial sums: of a token that began in an earlier chunk, and of one that begins here and goes on.
enum Part { CONTINUED = 0, BEGUN = 1 };

__device__ __forceinline__ float* part_of(float* partial, int chunk, Part part, int C) {
    return partial + (static_cast<size_t>(chunk) * 2 + part) * C;
}

template <int W>
__device__ __forceinline__ void tokens(Grad* dwte, float* partial, const Act* dout, const uint32* keys,
                                       const uint32* positions, int P, int C, int chunk_length) {
    const int lane = threadIdx.x % WARP;
    const int tiles = ceil_div(C, WARP * W);
    const int64 item = static_cast<int64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    const int chunk = static_cast<int>(item / tiles);
    const int c = (static_cast<int>(item % tiles) * WARP + lane) * W;
    const int64 begin = static_cast<int64>(chunk) * chunk_length;
    if (begin >= P) return;
    const int64 end = min(begin + chunk_length, static_cast<int64>(P));
    const bool inside = c < C;

    uint32 current = keys[begin];
    bool continued = begin > 0 && keys[begin - 1] == current;
    Vec<W> sum = {};
    const auto leave = [&](bool goes_on) {
        if (!inside) return;
        if (continued || goes_on) {
            store<W>(part_of(partial, chunk, continued ? CONTINUED : BEGUN, C) + c, sum);
        } else {
            put<W>(dwte + static_cast<size_t>(current) * C + c, sum, true);
        }
    };
    for (int64 base = begin; base < end; base += WARP) {
        const bool there = base + lane < end;
        const uint32 own_key = there ? keys[base + lane] : 0, own_position = there ? positions[base + lane] : 0;
        const int count = static_cast<int>(min(static_cast<int64>(WARP), end - base));
        for (int j = 0; j < count; j += AHEAD) {
            Vec<W> row[AHEAD];
#pragma unroll
            for (int k = 0; k < AHEAD; k++) {
                const uint32 position = __shfl_sync(FULL_MASK, own_position, j + k);
                const bool wanted = inside && j + k < count;
                row[k] = wanted ? load<W>(dout + static_cast<size_t>(position) * C + c) : Vec<W>{};
            }
#pragma unroll
            for (int k = 0; k < AHEAD; k++) {
                const uint32 key = __shfl_sync(FULL_MASK, own_key, j + k);
                if (j + k >= count) break;
                if (key != current) {
                    leave(false);
                    current = key;
                    continued = false;
                    sum = {};
                }
#pragma unroll
                for (int i = 0; i < W; i++) sum[i] += row[k][i];
            }
        }
    }
    leave(end < P && keys[end] == current);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    embedding_backward_tokens(Grad* __restrict__ dwte, float* __restrict__ partial, const Act* __restrict__ dout,
                              const uint32* __restrict__ keys, const uint32* __restrict__ positions, int P, int C,
                              int chunk_length, int width) {
    if (width == 1) {
        tokens<1>(dwte, partial, dout, keys, positions, P, C, chunk_length);
    } else {
        tokens<WIDTH<Act>>(dwte, partial, dout, keys, positions, P, C, chunk_length);
    }
}

// The first of the sorted keys from `from` on that is not `key`.
__device__ __forceinline__ int64 end_of(const uint32* keys, int64 from, int P, uint32 key) {
    int64 low = from, high = P;
    while (low < high) {
        const int64 middle = (low + high) / 2;
        if (keys[middle] == key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// The token that begins in a chunk and goes on in the next, if there is one, and the last chunk that it reaches.
struct Crossing {
    uint32 token;
    int last_chunk;  // 0: there is none
};

__device__ __forceinline__ Crossing crossing(const uint32* keys, int P, int chunk, int chunk_length) {
    const int64 begin = static_cast<int64>(chunk) * chunk_length, end = begin + chunk_length;
    if (end >= P) return {0, 0};
    const uint32 key = keys[end - 1];
    if (keys[end] != key || (begin > 0 && keys[begin - 1] == key)) return {0, 0};
    return {key, static_cast<int>((end_of(keys, end, P, key) - 1) / chunk_length)};
}

template <int W>
__device__ __forceinline__ void join(Grad* dwte, float* partial, const uint32* keys, int P, int C, int chunk_length,
                                     float* scratch) {
    __shared__ Crossing shared;
    const int chunk = blockIdx.x;
    if (threadIdx.x == 0) shared = crossing(keys, P, chunk, chunk_length);
    __syncthreads();
    const Crossing found = shared;
    if (found.last_chunk == 0) return;

    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int tile = blockIdx.y * WARP * W;
    const int c = tile + lane * W;
    Vec<W> sum = {};
    if (c < C) {
        if (warp == 0) sum = load<W>(part_of(partial, chunk, BEGUN, C) + c);
#pragma unroll 4
        for (int i = chunk + 1 + warp; i <= found.last_chunk; i += WARPS) {
            const Vec<W> x = load<W>(part_of(partial, i, CONTINUED, C) + c);
#pragma unroll
            for (int j = 0; j < W; j++) sum[j] += x[j];
        }
    }
    block_columns<W, WARPS>(sum, tile, C, scratch, [=](int c, float total) {
        put<1>(dwte + static_cast<size_t>(found.token) * C + c, Vec<1>{{total}}, true);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    embedding_backward_join(Grad* __restrict__ dwte, float* __restrict__ partial, const uint32* __restrict__ keys,
                            int P, int C, int chunk_length, int width) {
    __shared__ float scratch[WARPS * COLUMNS_SCRATCH<WIDTH<Act>>];
    if (width == 1) {
        join<1>(dwte, partial, keys, P, C, chunk_length, scratch);
    } else {
        join<WIDTH<Act>>(dwte, partial, keys, P, C, chunk_length, scratch);
    }
}

template <int W>
__device__ __forceinline__ void positions(Grad* dwpe, const Act* dout, int B, int T, int C, int rows, bool add) {
    const int t = blockIdx.x * WARPS + threadIdx.x / WARP;
    const int c = (blockIdx.y * WARP + threadIdx.x % WARP) * W;
    if (t >= rows || c >= C) return;
    Grad* const to = dwpe + static_cast<size_t>(t) * C + c;
    Vec<W> sum = {};
    if (t >= T) {
        if (!add) store<W>(to, sum);
        return;
    }
#pragma unroll 4
    for (int b = 0; b < B; b++) {
        const Vec<W> x = load<W>(dout + (static_cast<size_t>(b) * T + t) * C + c);
#pragma unroll
        for (int i = 0; i < W; i++) sum[i] += x[i];
    }
    put<W>(to, sum, add);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    embedding_backward_positions(Grad* __restrict__ dwpe, const Act* __restrict__ dout, int B, int T, int C, int rows,
                                 int add, int width) {
    if (width == 1) {
        positions<1>(dwpe, dout, B, T, C, rows, add);
    } else {
        positions<WIDTH<Act>>(dwpe, dout, B, T, C, rows, add);
    }
}
