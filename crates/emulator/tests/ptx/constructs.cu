// Kernels that make the compiler emit every construct of PTX that the parser knows; they compute nothing of use. The .ptx files beside
// this one were made of it by nvcc 13.0 -ptx, with -lineinfo, for sm_80, sm_90a and sm_100a (whose text has another style), and of
// debug.cu with -G for sm_90a; constructs_nvrtc_12_sm_80.ptx by NVRTC 12.4. The folders were then cut from the paths.
#include <cstdint>
#include <cstdio>
#include <cassert>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

struct Shape {
    int rows, cols;
    float scale;
    const float* data;
};
struct alignas(64) TensorMap {
    uint64_t words[16];
};

__constant__ float table[5] = {1.0f, -2.5f, 0.0f, 1e-3f};
__constant__ Shape shape_in_constants = {3, 4, 0.5f, nullptr};
__device__ int counter = 7;
__device__ float grid[3][4];
__device__ double precise = 3.25;
__device__ int* where = &counter;
__device__ float* middle = &grid[1][2];
__device__ const char* greeting = "hello\n";

__device__ __noinline__ float twice(float x) { return x + x; }
__device__ __noinline__ float square(float x) { return x * x; }
__device__ __noinline__ float area(Shape s) { return s.rows * s.cols * s.scale; }
__device__ __noinline__ Shape turned(Shape s) { return {s.cols, s.rows, s.scale, s.data}; }
__device__ __noinline__ int sum_to(int n) { return n <= 0 ? 0 : n + sum_to(n - 1); }

typedef float (*Function)(float);
__device__ Function functions[2] = {twice, square};

extern "C" __global__ void indirect(float* out, int which) { out[threadIdx.x] = functions[which](out[threadIdx.x]); }

extern "C" __global__ void by_value(float* out, const Shape shape) {
    out[threadIdx.x] = area(shape) + area(turned(shape)) + area(shape_in_constants) + table[threadIdx.x % 5] + sum_to(threadIdx.x);
}

extern "C" __global__ void many_ways(int* out, int what) {
    switch (what) {
    case 0: out[0] = clock(); break;
    case 1: out[1] = __popc(what); break;
    case 2: out[2] = __clz(what); break;
    case 3: out[3] = atomicAdd(&counter, 1); break;
    case 4: out[4] = what * what; break;
    case 5: out[5] = __ballot_sync(~0u, what); break;
    case 6: out[6] = out[7]; break;
    case 7: out[7] = out[8] % 10; break;
    case 8: out[8] = sum_to(what); break;
    case 9: out[9] = int(precise); break;
    case 10: out[10] = what - 77; break;
    case 11: out[11] = what ^ 123; break;
    default: __trap();
    }
}

extern "C" __global__ void says(int n, double x) {
    printf("%d %f %s", n, x, greeting);
    assert(n < 100);
}

extern "C" __global__ void __launch_bounds__(256, 2) local_and_shared(float* out, int index) {
    __shared__ float tile[32][33];
    extern __shared__ __align__(128) unsigned char dynamic[];
    float mine[16];
#pragma unroll 1
    for (int i = 0; i < 16; i++) mine[i] = out[i * 32];
    tile[threadIdx.x / 32][threadIdx.x % 32] = mine[index & 15];
    __syncthreads();
    reinterpret_cast<float4*>(out)[threadIdx.x] = make_float4(tile[0][index & 31], dynamic[index], *where, *middle);
    int p = __syncthreads_count(index > 3);
    float up = __shfl_up_sync(~0u, mine[0], 3);
    out[p] = up + __shfl_xor_sync(~0u, mine[1], 16, 16);
}

extern "C" __global__ void halves(__nv_bfloat162* out, const __half2* in) {
    float2 f = __half22float2(in[threadIdx.x]);
    out[threadIdx.x] = __hfma2(__floats2bfloat162_rn(f.x, f.y), out[threadIdx.x], out[0]);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1)
    hopper(const __grid_constant__ TensorMap map, float* out, int steps) {
    __shared__ alignas(1024) __nv_bfloat16 tile[64 * 64];
    __shared__ alignas(8) uint64_t full;
    const uint32_t bar = uint32_t(__cvta_generic_to_shared(&full)), dst = uint32_t(__cvta_generic_to_shared(tile));
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(1));
        asm volatile("fence.mbarrier_init.release.cluster;");
    }
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
    if (threadIdx.x >= 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 128) {
            asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(8192));
            asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
                         " [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(dst), "l"(&map), "r"(bar), "r"(0), "r"(64), "h"(uint16_t(3))
                         : "memory");
        }
        return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    float d[4] = {};
    for (int step = 0; step < steps; step++) {
        asm volatile("{\n"
                     ".reg .pred P1;\n"
                     "LAB_WAIT:\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 P1, [%0], %1;\n"
                     "@P1 bra DONE;\n"
                     "bra LAB_WAIT;\n"
                     "DONE:\n"
                     "}" ::"r"(bar), "r"(step & 1));
        asm volatile("wgmma.fence.sync.aligned;");
        uint64_t desc = 0x4000004000010000ull | (dst >> 4);
        asm volatile("{ .reg .pred p;\nsetp.ne.b32 p, %6, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, p, 1, 1, 0, 0;\n}"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "l"(desc), "l"(desc), "r"(step));
        asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
    }
    uint32_t leader;
    asm volatile("{ .reg .pred q; elect.sync _|q, 0xffffffff; selp.u32 %0, 1, 0, q; }" : "=r"(leader));
    out[threadIdx.x] = d[0] + d[1] + d[2] + d[3] + leader;
}
#endif
