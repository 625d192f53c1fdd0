// Layer normalisation of rows (Ba, Kiros, Hinton 2016), alone and of a residual sum.
//
//   forward    out[n,c] = x̂[n,c]·weight[c] + bias[c],   x̂ = (inp − mean)·rstd
//              mean[n] = Σ_c inp/C,   rstd[n] = 1/√(Σ_c (inp − mean)²/C + eps)
//   residual   res = a + b, and the same of inp = res (as it is after rounding to Act, so that the backward sees the same)
//   backward   dinp (set or added) rstd·(g − Σ g/C − x̂·Σ g·x̂/C) per row, with g = dout·weight
//              dweight (set or added) Σ_n dout·x̂,   dbias (set or added) Σ_n dout
//
// inp, out, a, b, res, dout, dinp (N,C); mean, rstd (N) float; weight, bias (C).
//
// floor: forward 2·N·C·sizeof(Act), residual 4·N·C·sizeof(Act), backward 3·N·C·sizeof(Act), with add 4. Bound by memory. A row is
//   held in registers, so each input is read once though it is needed two or three times: for the mean, for the deviations
//   (a sum of squares less the square of the mean would lose its digits where the mean is large), for the result.
// launch: blocks of THREADS, grid ⌈N/rows⌉: block i has rows i·rows to (i+1)·rows − 1. Up to C = 1024 a warp has a row, and a
//   block of 8 warps as many at a time; beyond, a block has a row. The more rows a block has, the less weight, bias and
//   partial sums weigh: 32 rows, and 80 in the backward, keep them below a twentieth.
//   The backward leaves the block's sums of dout·x̂, and behind those of all blocks its sums of dout if `biased`, in
//   `partial` (2,blocks,C); layernorm_backward_finish, grid (⌈C/32⌉, 1 + biased), 16 warps, adds them up in order.
// shared memory: up to C = 1024 weight and bias, and in the backward 8·(32·W + 32) floats, W = WIDTH<Act>.
// assumes: -DCHANNELS=C. bias may be null, dbias where `biased` is 0. Any C and any alignment; but rows that do not begin at
//   a multiple of 16 bytes, and rows of more than MAX_C, are read element by element, and again from the caches each time.

#include "lib/columns.cuh"
#include "lib/reduce.cuh"
#include "lib/types.cuh"

constexpr int C = CHANNELS;
constexpr int W = WIDTH<Act>;
// The longest row that a block holds in registers, 16 elements a thread.
constexpr int MAX_C = 8192;
constexpr bool HOLDS = C % W == 0 && C <= MAX_C;

// Warps that share a row. One holds up to 32 elements a lane and needs no barrier; where there are more, a lane holds 8,
// and 16 where that would take more than 16 warps: a block of those leaves each thread 128 registers.
constexpr int ROW_WARPS = C <= 1024 || !HOLDS ? 1 : ceil_div(C, (C <= 4096 ? 8 : 16) * WARP);
constexpr int ROW_THREADS = ROW_WARPS * WARP;
// Warps of a block: several rows of one warp, or one of several.
constexpr int WARPS = ROW_WARPS == 1 ? 8 : ROW_WARPS;
constexpr int THREADS = WARPS * WARP;
constexpr int ROWS_AT_ONCE = WARPS / ROW_WARPS;

// Blocks that a multiprocessor should hold, so that warps hide each other's latency. What a thread must hold sets the
// limit: the row, and in the backward two and two sums, of which rows of bf16 take half the room.
// From sm_100 on the compiler takes some registers more.
constexpr int FORWARD_MAX_C = __CUDA_ARCH__ >= 1000 ? 512 : W == 8 ? 768 : 640;
constexpr int FORWARD_BLOCKS = ROW_WARPS > 1 ? 1 : C <= FORWARD_MAX_C ? 3 : 2;
constexpr int BACKWARD_MAX_C = W == 4 ? 512 : __CUDA_ARCH__ >= 1000 ? 640 : 768;
constexpr int BACKWARD_BLOCKS = ROW_WARPS > 1 || C > BACKWARD_MAX_C ? 1 : 2;

// What one lane reads for its warp: a row's statistics, which 32 lanes would otherwise each ask for.
__device__ __forceinline__ float broadcast(const float* p) {
    const float x = threadIdx.x % WARP == 0 ? *p : 0.0f;
    return __shfl_sync(FULL_MASK, x, 0);
}

// ---- a thread's part of a row

// Vectors ROW_THREADS·W apart: neighbouring threads have neighbouring vectors.
struct Row {
    static constexpr int VECTORS = ceil_div(C, ROW_THREADS * W);
    Vec<W> at[VECTORS];

    // Where vector v begins in the row, and whether it lies in it.
    static __device__ __forceinline__ int column(int v) {
        return (v * ROW_THREADS + static_cast<int>(threadIdx.x) % ROW_THREADS) * W;
    }
    static __device__ __forceinline__ bool inside(int v) { return C % (ROW_THREADS * W) == 0 || column(v) < C; }
};

__device__ __forceinline__ Row load_row(const Act* p) {
    Row row;
#pragma unroll
    for (int v = 0; v < Row::VECTORS; v++) row.at[v] = Row::inside(v) ? load<W>(p + Row::column(v)) : Vec<W>{};
    return row;
}

// The same as it lies in memory: of bf16 it takes half the registers.
struct Packed {
    uint4 at[Row::VECTORS];

    // Makes the compiler forget what it knows of these registers, or it would keep the floats that it has made of them for
    // later use. No instruction.
    __device__ __forceinline__ void stay_packed() {
#pragma unroll
        for (int v = 0; v < Row::VECTORS; v++) {
            asm volatile("" : "+r"(at[v].x), "+r"(at[v].y), "+r"(at[v].z), "+r"(at[v].w));
        }
    }
};

__device__ __forceinline__ Packed load_packed(const Act* p) {
    Packed row;
#pragma unroll
    for (int v = 0; v < Row::VECTORS; v++) {
        row.at[v] = Row::inside(v) ? load_16(p + Row::column(v)) : make_uint4(0, 0, 0, 0);
    }
    return row;
}

// Over all elements of a row: every thread that holds some of it gets the sum.
__device__ __forceinline__ float row_sum(float x, float* scratch) {
    return block_reduce<Sum, ROW_WARPS>(x, scratch);
}

// Where a vector of C that is needed for every row is kept.
enum class Keep {
    shared,     // in shared memory: each warp of the block reads the whole of it
    registers,  // a thread meets the same columns each time, and no other thread of the block does
    nowhere,    // read again for each row, from the caches: there are not the registers
};
constexpr Keep KEEP = ROW_WARPS == 1 ? Keep::shared : C <= 4096 ? Keep::registers : Keep::nowhere;
// Elements of shared memory for it.
constexpr int SHARED = HOLDS && KEEP == Keep::shared ? C : 1;

struct Kept {
    const Act* from;
    Row own;

    // Of p, which may be null and then stands for zeros. A barrier must follow where it is kept in shared memory.
    __device__ __forceinline__ Kept(Act* shared, const Act* p) : from(p) {
        if constexpr (KEEP == Keep::shared) {
            for (int c = threadIdx.x * W; c < C; c += THREADS * W) store<W>(shared + c, p ? load<W>(p + c) : Vec<W>{});
            from = shared;
        } else if constexpr (KEEP == Keep::registers) {
            own = p ? load_row(p) : Row{};
        }
    }
    __device__ __forceinline__ Vec<W> at(int v) const {
        if constexpr (KEEP == Keep::registers) {
            return own.at[v];
        } else {
            return from && Row::inside(v) ? load<W>(from + Row::column(v)) : Vec<W>{};
        }
    }
};

// ---- forward

// What the forward kernels take. b and res are null in the plain one, inp is a in the other.
struct Forward {
    Act *res, *out;
    float *mean, *rstd;
    const Act *inp, *b, *weight, *bias;
    int N;
    float eps;
    int rows;
};

// x[n,c], which is inp or, rounded to Act, inp + b.
template <bool RESIDUAL, int WIDE>
__device__ __forceinline__ Vec<WIDE> read(const Forward& f, size_t at) {
    Vec<WIDE> x = load<WIDE>(f.inp + at);
    if constexpr (RESIDUAL) {
        const Vec<WIDE> y = load<WIDE>(f.b + at);
#pragma unroll
        for (int i = 0; i < WIDE; i++) x[i] = rounded<Act>(x[i] + y[i]);
    }
    return x;
}

template <bool RESIDUAL>
__device__ __forceinline__ void forward_held(const Forward& f, Act* shared_weight, Act* shared_bias, float* scratch) {
    const Kept weight(shared_weight, f.weight), bias(shared_bias, f.bias);
    if constexpr (KEEP == Keep::shared) __syncthreads();

    const size_t begin = static_cast<size_t>(blockIdx.x) * f.rows;
    const size_t end = min(begin + f.rows, static_cast<size_t>(f.N));
    for (size_t n = begin + threadIdx.x / ROW_THREADS; n < end; n += ROWS_AT_ONCE) {
        Row x;
#pragma unroll
        for (int v = 0; v < Row::VECTORS; v++) {
            x.at[v] = Row::inside(v) ? read<RESIDUAL, W>(f, n * C + Row::column(v)) : Vec<W>{};
        }

        float total = 0.0f;
#pragma unroll
        for (int v = 0; v < Row::VECTORS; v++) {
#pragma unroll
            for (int i = 0; i < W; i++) total += x.at[v][i];
        }
        const float mean = row_sum(total, scratch) / C;

        float squares = 0.0f;
#pragma unroll
        for (int v = 0; v < Row::VECTORS; v++) {
#pragma unroll
            for (int i = 0; i < W; i++) {
                const float d = Row::inside(v) ? x.at[v][i] - mean : 0.0f;
                squares += d * d;
            }
        }
        const float rstd = rsqrtf(row_sum(squares, scratch + ROW_WARPS) / C + f.eps);

#pragma unroll
        for (int v = 0; v < Row::VECTORS; v++) {
            if (!Row::inside(v)) continue;
            const Vec<W> scale = weight.at(v), shift = bias.at(v);
            Vec<W> y;
#pragma unroll
            for (int i = 0; i < W; i++) y[i] = (x.at[v][i] - mean) * rstd * scale[i] + shift[i];
            const size_t at = n * C + Row::column(v);
            if constexpr (RESIDUAL) store<W>(f.res + at, x.at[v]);
            store<W>(f.out + at, y);
        }
        if (threadIdx.x % ROW_THREADS == 0) {
            f.mean[n] = mean;
            f.rstd[n] = rstd;
        }
    }
}

// The same, a warp a row, with nothing held.
template <bool RESIDUAL>
__device__ __forceinline__ void forward_plain(const Forward& f) {
    const int lane = threadIdx.x % WARP;
    const size_t begin = static_cast<size_t>(blockIdx.x) * f.rows;
    const size_t end = min(begin + f.rows, static_cast<size_t>(f.N));
    for (size_t n = begin + threadIdx.x / WARP; n < end; n += WARPS) {
        float total = 0.0f;
        for (int c = lane; c < C; c += WARP) total += read<RESIDUAL, 1>(f, n * C + c)[0];
        const float mean = warp_sum(total) / C;

        float squares = 0.0f;
        for (int c = lane; c < C; c += WARP) {
            const float d = read<RESIDUAL, 1>(f, n * C + c)[0] - mean;
            squares += d * d;
        }
        const float rstd = rsqrtf(warp_sum(squares) / C + f.eps);

        for (int c = lane; c < C; c += WARP) {
            const Vec<1> x = read<RESIDUAL, 1>(f, n * C + c);
            const float shift = f.bias ? widen(f.bias[c]) : 0.0f;
            if constexpr (RESIDUAL) store<1>(f.res + n * C + c, x);
            f.out[n * C + c] = narrow<Act>((x[0] - mean) * rstd * widen(f.weight[c]) + shift);
        }
        if (lane == 0) {
            f.mean[n] = mean;
            f.rstd[n] = rstd;
        }
    }
}

template <bool RESIDUAL>
__device__ __forceinline__ void forward(const Forward& f) {
    if constexpr (HOLDS) {
        __shared__ alignas(16) Act shared_weight[SHARED], shared_bias[SHARED];
        __shared__ float scratch[2 * ROW_WARPS];
        if (aligned_16(f.res, f.out, f.inp, f.b, f.weight, f.bias)) {
            forward_held<RESIDUAL>(f, shared_weight, shared_bias, scratch);
            return;
        }
    }
    forward_plain<RESIDUAL>(f);
}

extern "C" __global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS)
    layernorm_forward(Act* __restrict__ out, float* __restrict__ mean, float* __restrict__ rstd,
                      const Act* __restrict__ inp, const Act* __restrict__ weight, const Act* __restrict__ bias, int N,
                      float eps, int rows) {
    forward<false>({nullptr, out, mean, rstd, inp, nullptr, weight, bias, N, eps, rows});
}

extern "C" __global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS)
    residual_layernorm_forward(Act* __restrict__ res, Act* __restrict__ out, float* __restrict__ mean,
                               float* __restrict__ rstd, const Act* __restrict__ a, const Act* __restrict__ b,
                               const Act* __restrict__ weight, const Act* __restrict__ bias, int N, float eps,
                               int rows) {
    forward<true>({res, out, mean, rstd, a, b, weight, bias, N, eps, rows});
}

// ---- backward

struct Backward {
    Act* dinp;
    float* partial;
    const Act *dout, *inp, *weight;
    const float *mean, *rstd;
    int N, rows;
    bool biased, add;

    // Where this block leaves its sums of dout·x̂, and of dout.
    __device__ __forceinline__ float* dweight() const { return partial + static_cast<size_t>(blockIdx.x) * C; }
    __device__ __forceinline__ float* dbias() const { return dweight() + static_cast<size_t>(gridDim.x) * C; }
};

// Writes what this block's threads have added up, column by column.
__device__ __forceinline__ void leave(float* out, const Row& sum, float* scratch) {
#pragma unroll
    for (int v = 0; v < Row::VECTORS; v++) {
        if constexpr (ROW_WARPS == 1) {
            block_columns<W, WARPS>(out, sum.at[v], v * WARP * W, C, scratch);
        } else if (Row::inside(v)) {
            store<W>(out + Row::column(v), sum.at[v]);
        }
    }
}

__device__ __forceinline__ void backward_held(const Backward& b, Act* shared_weight, float* scratch, float* columns) {
    const Kept weight(shared_weight, b.weight);
    if constexpr (KEEP == Keep::shared) __syncthreads();

    const size_t begin = static_cast<size_t>(blockIdx.x) * b.rows;
    const size_t end = min(begin + b.rows, static_cast<size_t>(b.N));
    Row dweight = {}, dbias = {};
    for (size_t n = begin + threadIdx.x / ROW_THREADS; n < end; n += ROWS_AT_ONCE) {
        Packed dout = load_packed(b.dout + n * C), inp = load_packed(b.inp + n * C);
        const float mean = broadcast(b.mean + n), rstd = broadcast(b.rstd + n);

        float sum_g = 0.0f, sum_gx = 0.0f;
#pragma unroll
        for (int v = 0; v < Row::VECTORS; v++) {
            const Vec<W> d = unpack<Act>(dout.at[v]), x = unpack<Act>(inp.at[v]), scale = weight.at(v);
#pragma unroll
            for (int i = 0; i < W; i++) {
                const float normalised = (x[i] - mean) * rstd, g = d[i] * scale[i];
                sum_g += g;
                sum_gx += g * normalised;
                dweight.at[v][i] += d[i] * normalised;
                dbias.at[v][i] += d[i];
            }
        }
        const float mean_g = row_sum(sum_g, scratch) / C, mean_gx = row_sum(sum_gx, scratch + ROW_WARPS) / C;

        dout.stay_packed();
        inp.stay_packed();
#pragma unroll
        for (int v = 0; v < Row::VECTORS; v++) {
            if (!Row::inside(v)) continue;
            const Vec<W> d = unpack<Act>(dout.at[v]), x = unpack<Act>(inp.at[v]), scale = weight.at(v);
            Vec<W> dx;
#pragma unroll
            for (int i = 0; i < W; i++) dx[i] = rstd * (d[i] * scale[i] - mean_g - (x[i] - mean) * rstd * mean_gx);
            put<W>(b.dinp + n * C + Row::column(v), dx, b.add);
        }
    }
    leave(b.dweight(), dweight, columns);
    if (b.biased) leave(b.dbias(), dbias, columns);
}

// The same with nothing held: a warp a row for dinp, then a thread a column for the sums.
__device__ __forceinline__ void backward_plain(const Backward& b) {
    const int lane = threadIdx.x % WARP;
    const size_t begin = static_cast<size_t>(blockIdx.x) * b.rows;
    const size_t end = min(begin + b.rows, static_cast<size_t>(b.N));
    for (size_t n = begin + threadIdx.x / WARP; n < end; n += WARPS) {
        const float mean = broadcast(b.mean + n), rstd = broadcast(b.rstd + n);
        const auto normalised = [&](int c) { return (widen(b.inp[n * C + c]) - mean) * rstd; };
        const auto gradient = [&](int c) { return widen(b.dout[n * C + c]) * widen(b.weight[c]); };

        float sum_g = 0.0f, sum_gx = 0.0f;
        for (int c = lane; c < C; c += WARP) {
            sum_g += gradient(c);
            sum_gx += gradient(c) * normalised(c);
        }
        const float mean_g = warp_sum(sum_g) / C, mean_gx = warp_sum(sum_gx) / C;
        for (int c = lane; c < C; c += WARP) {
            const float dx = rstd * (gradient(c) - mean_g - normalised(c) * mean_gx);
            put<1>(b.dinp + n * C + c, Vec<1>{{dx}}, b.add);
        }
    }
    for (int c = threadIdx.x; c < C; c += THREADS) {
        float dweight = 0.0f, dbias = 0.0f;
        for (size_t n = begin; n < end; n++) {
            const float d = widen(b.dout[n * C + c]);
            dweight += d * (widen(b.inp[n * C + c]) - b.mean[n]) * b.rstd[n];
            dbias += d;
        }
        b.dweight()[c] = dweight;
        if (b.biased) b.dbias()[c] = dbias;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BACKWARD_BLOCKS)
    layernorm_backward(Act* __restrict__ dinp, float* __restrict__ partial, const Act* __restrict__ dout,
                       const Act* __restrict__ inp, const Act* __restrict__ weight, const float* __restrict__ mean,
                       const float* __restrict__ rstd, int N, int rows, int biased, int add) {
    const Backward b{dinp, partial, dout, inp, weight, mean, rstd, N, rows, biased != 0, add != 0};
    if constexpr (HOLDS) {
        __shared__ alignas(16) Act shared_weight[SHARED];
        __shared__ float scratch[2 * ROW_WARPS];
        __shared__ float columns[ROW_WARPS == 1 ? WARPS * COLUMNS_SCRATCH<W> : 1];
        if (aligned_16(dinp, partial, dout, inp, weight)) {
            backward_held(b, shared_weight, scratch, columns);
            return;
        }
    }
    backward_plain(b);
}

extern "C" __global__ void __launch_bounds__(FINISH_WARPS * WARP)
    layernorm_backward_finish(Grad* __restrict__ dweight, Grad* __restrict__ dbias, const float* __restrict__ partial,
                              int blocks, int add) {
    if (blockIdx.y == 0) {
        finish_columns(dweight, partial, blocks, C, add);
    } else {
        finish_columns(dbias, partial + static_cast<size_t>(blocks) * C, blocks, C, add);
    }
}
