// One AdamW update (Loshchilov and Hutter 2019), in place.
//
//   g = grads·min(1, clip/norm)
//   m ← β₁·m + (1 − β₁)·g          v ← β₂·v + (1 − β₂)·g²
//   p ← p − lr·(m/c₁/(√(v/c₂) + eps) + weight_decay·p)       with c = 1 − βᵗ, the corrections of step t
//
// With master weights, p is `master` (float) and `params` gets it rounded to Act; without, p is `params`. Rounding is to the
// nearest, or stochastic: with 16 random bits added below the last bit of a bf16, a weight is rounded up as often as its
// remainder says, so that updates too small for a bf16 are not lost but made now and then.
//
// `norm` is read here, on the device, so that the host need not wait for it: if it is not finite, nothing changes.
//
// floor, per element: m, v 16 bytes; master 8 or params 2·sizeof(Act); with master params sizeof(Act); grads sizeof(Grad).
//   f32 28 bytes, bf16 with master and bf16 gradients 28, with f32 gradients 30. Bound by memory: about 20 FLOPs.
// launch: blocks of 256 threads, one for every 4 elements; any grid is right.
// assumes: lengths of n, nothing overlaps; master may be null. Element i of params is element first + i of its allocation:
//   random bits are a function of that, of seed and of step, and of nothing else. Any alignment; vectors where all begin at
//   a multiple of 16 bytes and first is a multiple of 4.

#include "lib/elementwise.cuh"
#include "lib/philox.cuh"
#include "lib/types.cuh"

constexpr int THREADS = 256;
// 16 bytes of floats, which are most of what is moved, and 8 of bf16. Vectors of 8 would make each access of floats touch
// every other 16 bytes of memory, and each sector of 32 bytes be asked for twice.
constexpr int VECTOR = WIDTH<float>;

// A float cut to bf16 after 16 random bits were added. What is not finite stays what it is: NaN would run over into 0.
__device__ __forceinline__ float round_stochastic(float x, uint32 word) {
    const uint32 bits = __float_as_uint(x);
    return (bits & 0x7f800000) == 0x7f800000 ? x : __uint_as_float((bits + (word & 0xffff)) & 0xffff0000);
}

// The update of one number, its moments and itself.
struct Update {
    float lr, beta1, beta2, eps, weight_decay, scale1, scale2, factor;

    __device__ __forceinline__ float apply(float p, float& m, float& v, float grad) const {
        const float g = grad * factor;
        m = beta1 * m + (1.0f - beta1) * g;
        v = beta2 * v + (1.0f - beta2) * g * g;
        return p - lr * (m * scale1 / (sqrtf(v * scale2) + eps) + weight_decay * p);
    }
};

extern "C" __global__ void __launch_bounds__(THREADS)
    adamw(Act* __restrict__ params, float* __restrict__ master, float* __restrict__ m, float* __restrict__ v,
          const Grad* __restrict__ grads, const float* __restrict__ norm_of_all, uint64 n, float lr, float beta1,
          float beta2, float eps, float weight_decay, float correction1, float correction2, float clip, int stochastic,
          uint64 seed, uint32 step, uint64 first) {
    const float norm = *norm_of_all;
    if (!isfinite(norm)) return;
    const float factor = clip > 0.0f && norm > clip ? clip / norm : 1.0f;
    const Update update{lr, beta1, beta2, eps, weight_decay, 1.0f / correction1, 1.0f / correction2, factor};
    const bool aligned = aligned_16(params, master, m, v, grads) && first % 4 == 0;

    for_each<VECTOR>(n, aligned, [=](size_t i, auto width) {
        constexpr int W = width.value;
        Vec<W> p = master ? load<W, Cache::streaming>(master + i) : load<W>(params + i);
        Vec<W> m_i = load<W, Cache::streaming>(m + i), v_i = load<W, Cache::streaming>(v + i);
        const Vec<W> g = load<W, Cache::streaming>(grads + i);
#pragma unroll
        for (int j = 0; j < W; j++) p[j] = update.apply(p[j], m_i[j], v_i[j], g[j]);
        store<W, Cache::streaming>(m + i, m_i);
        store<W, Cache::streaming>(v + i, v_i);
        if (master) store<W, Cache::streaming>(master + i, p);
        if constexpr (same_type<Act, bf16>) {
            if (stochastic) {
#pragma unroll
                for (int j = 0; j < W; j += 4) {
                    const uint64 block = (first + i + j) / 4;
                    const uint32 low = static_cast<uint32>(block), high = static_cast<uint32>(block >> 32);
                    const uint4 words = philox4x32_10(make_uint4(low, high, step, 1), key_of(seed));
                    if constexpr (W == 1) {
                        p[0] = round_stochastic(p[0], word_of(words, static_cast<uint32>(first + i)));
                    } else {
                        p[j] = round_stochastic(p[j], words.x);
                        p[j + 1] = round_stochastic(p[j + 1], words.y);
                        p[j + 2] = round_stochastic(p[j + 2], words.z);
                        p[j + 3] = round_stochastic(p[j + 3], words.w);
                    }
                }
            }
        }
        store<W>(params + i, p);
    });
}
