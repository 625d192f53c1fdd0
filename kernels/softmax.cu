// Causal softmax, unfused: row t of each (T,T) matrix over its columns up to t.
//
//   forward    probs[t,t2] = e^scores[t,t2] / Σ_{t3 ≤ t} e^scores[t,t3] for t2 ≤ t, 0 beyond
//   backward   dscores[t,t2] = probs[t,t2]·(dprobs[t,t2] − Σ_{t3 ≤ t} probs[t,t3]·dprobs[t,t3]), 0 beyond
//
// All tensors (R,T,T). Beyond the diagonal nothing is read.
//
// floor: forward R·T·((T + 1)/2 + T)·sizeof(Act); backward R·T·((T + 1) + T)·sizeof(Act). Bound by memory. An input is needed twice: for the
//   row's sum and for the result. If `staged`, a lane keeps what it read in shared memory, else it reads it again.
// launch: a warp a row. A block of `warps` (up to 8) warps, grid ⌈R·T/warps⌉.
// shared memory: dynamic, if staged, warps·S elements of Act in the forward and twice that in the backward, where S is T
//   rounded up to a multiple of WIDTH<Act>.
// assumes: outputs overlap nothing else. Any alignment; 16-byte accesses where all tensors begin at a multiple and T is a
//   multiple of WIDTH<Act>.

#include "lib/reduce.cuh"
#include "lib/rows.cuh"
#include "lib/types.cuh"

constexpr int THREADS = 256;

extern __shared__ uint4 dynamic[];

// The row of this thread's warp.
__device__ __forceinline__ uint64 this_row() {
    return static_cast<uint64>(blockIdx.x) * (blockDim.x / WARP) + threadIdx.x / WARP;
}

// Where this thread's warp keeps row `which` of `each` rows that a warp keeps.
__device__ __forceinline__ Act* stage(int T, int which, int each) {
    const int S = ceil_div(T, WIDTH<Act>) * WIDTH<Act>;
    return reinterpret_cast<Act*>(dynamic) + (static_cast<size_t>(threadIdx.x / WARP) * each + which) * S;
}

template <int W>
__device__ __forceinline__ void forward(Act* probs, const Act* scores, int live, int T, bool staged) {
    const int first = threadIdx.x % WARP * W;
    Act* const kept = stage(T, 0, 1);
    SoftmaxSum own;
    for (int i = first; i < live; i += WARP * W) {
        const Vec<W> x = load_live<W>(scores, i, live, -INFINITE);
        if (staged) store<W>(kept + i, x);
        own.add(x);
    }
    const float max = warp_max(own.max);
    const float scale = 1.0f / warp_sum(own.beside(max));

    // A lane reads of shared memory what it wrote itself: no barrier.
    for (int i = first; i < T; i += WARP * W) {
        Vec<W> p = {};
        if (i < live) {
            p = staged ? load<W>(kept + i) : load_live<W>(scores, i, live, -INFINITE);
#pragma unroll
            for (int j = 0; j < W; j++) p[j] = exp_fast(p[j] - max) * scale;
        }
        store<W>(probs + i, p);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    softmax_forward(Act* __restrict__ probs, const Act* __restrict__ scores, int R, int T, int staged) {
    const uint64 row = this_row();
    if (row >= static_cast<uint64>(R) * T) return;
    const int live = static_cast<int>(row % T) + 1;
    if (T % WIDTH<Act> == 0 && aligned_16(probs, scores)) {
        forward<WIDTH<Act>>(probs + row * T, scores + row * T, live, T, staged);
    } else {
        forward<1>(probs + row * T, scores + row * T, live, T, staged);
    }
}

template <int W>
__device__ __forceinline__ void backward(Act* dscores, const Act* dprobs, const Act* probs, int live, int T,
                                         bool staged) {
    const int first = threadIdx.x % WARP * W;
    Act* const kept_p = stage(T, 0, 2);
    Act* const kept_dp = stage(T, 1, 2);
    float own = 0.0f;
    for (int i = first; i < live; i += WARP * W) {
        const Vec<W> p = load_live<W>(probs, i, live, 0.0f), dp = load_live<W>(dprobs, i, live, 0.0f);
        if (staged) {
            store<W>(kept_p + i, p);
            store<W>(kept_dp + i, dp);
        }
#pragma unroll
        for (int j = 0; j < W; j++) own += p[j] * dp[j];
    }
    const float sum = warp_sum(own);

    for (int i = first; i < T; i += WARP * W) {
        Vec<W> ds = {};
        if (i < live) {
            const Vec<W> p = staged ? load<W>(kept_p + i) : load_live<W>(probs, i, live, 0.0f);
            const Vec<W> dp = staged ? load<W>(kept_dp + i) : load_live<W>(dprobs, i, live, 0.0f);
#pragma unroll
            for (int j = 0; j < W; j++) ds[j] = p[j] * (dp[j] - sum);
        }
        store<W>(dscores + i, ds);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    softmax_backward(Act* __restrict__ dscores, const Act* __restrict__ dprobs, const Act* __restrict__ probs, int R,
                     int T, int staged) {
    const uint64 row = this_row();
    if (row >= static_cast<uint64>(R) * T) return;
    const int live = static_cast<int>(row % T) + 1;
    const uint64 at = row * T;
    if (T % WIDTH<Act> == 0 && aligned_16(dscores, dprobs, probs)) {
        backward<WIDTH<Act>>(dscores + at, dprobs + at, probs + at, live, T, staged);
    } else {
        backward<1>(dscores + at, dprobs + at, probs + at, live, T, staged);
    }
}
