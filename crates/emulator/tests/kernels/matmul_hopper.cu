// C[m, n] = sum over k of A[m, k] B[n, k]; A and B in bf16, C in f32, on Hopper: a cluster of two blocks that share the tile
// of B, each of which fetches half of it for both; one warpgroup produces (TMA, mbarriers), the other multiplies (wgmma).
//
// Tiles of 64 x 64 x 64 in rows of 128 bytes, swizzled. A_MAJOR and B_MAJOR say which dimension is dense in memory: 0 for K,
// 1 for M or N. The grid is (M / 64, N / 64), clusters of (2, 1, 1), blocks of 256 threads.
constexpr int TILE = 64, STAGES = 2, TILE_BYTES = TILE * TILE * 2;

struct alignas(64) TensorMap { unsigned char bytes[128]; };

struct Shared {
    alignas(1024) unsigned char a[STAGES][TILE_BYTES];
    alignas(1024) unsigned char b[STAGES][TILE_BYTES];
    unsigned long long full[STAGES], empty[STAGES];
};

__device__ unsigned address(const void* pointer) { return (unsigned)__cvta_generic_to_shared(pointer); }

__device__ unsigned cluster_rank() {
    unsigned rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ void init(unsigned long long* barrier, unsigned count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(barrier)), "r"(count) : "memory");
}

__device__ void expect(unsigned long long* barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(barrier)), "r"(bytes) : "memory");
}

// Arrives at the same barrier of the block with this rank.
__device__ void arrive(unsigned long long* barrier, unsigned rank) {
    asm volatile(
        "{ .reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote]; }"
        ::"r"(address(barrier)), "r"(rank) : "memory");
}

__device__ void wait(unsigned long long* barrier, unsigned parity) {
    asm volatile(
        "{ .reg .pred done;\n"
        "AGAIN:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
        "@done bra DONE;\n"
        "bra AGAIN;\n"
        "DONE: }"
        ::"r"(address(barrier)), "r"(parity) : "memory");
}

__device__ void fetch(void* to, const TensorMap* map, int x, int y, unsigned long long* barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
                 ::"r"(address(to)), "l"(map), "r"(x), "r"(y), "r"(address(barrier)) : "memory");
}

__device__ void fetch_for_both(void* to, const TensorMap* map, int x, int y, unsigned long long* barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3}], [%4], %5;"
                 ::"r"(address(to)), "l"(map), "r"(x), "r"(y), "r"(address(barrier)), "h"((unsigned short)3) : "memory");
}

// Rows of 128 bytes, swizzled: 8 rows are 1024 bytes.
__device__ unsigned long long descriptor(const void* tile) {
    return (unsigned long long)(address(tile) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

__device__ void multiply(float (&d)[32], unsigned long long a, unsigned long long b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "%32, %33, 1, 1, 1, %34, %35;"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                   "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]),
                   "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]),
                   "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]),
                   "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
                 : "l"(a), "l"(b), "n"(A_MAJOR), "n"(B_MAJOR));
}

extern "C" __global__ void __launch_bounds__(256, 1) __cluster_dims__(2, 1, 1)
matmul_hopper(float* C, const __grid_constant__ TensorMap A, const __grid_constant__ TensorMap B, int N, int K) {
    extern __shared__ __align__(1024) unsigned char room[];
    Shared& shared = *reinterpret_cast<Shared*>(room);
    const unsigned rank = cluster_rank();
    const int m0 = blockIdx.x * TILE, n0 = blockIdx.y * TILE, steps = K / TILE;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; ++stage) {
            init(&shared.full[stage], 1);
            init(&shared.empty[stage], 8);  // 4 warps of each block
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    cluster_sync();

    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 0) {
            for (int step = 0; step < steps; ++step) {
                const int stage = step % STAGES, k0 = step * TILE, half = rank * (TILE / 2);
                wait(&shared.empty[stage], step / STAGES % 2 ^ 1);
                expect(&shared.full[stage], 2 * TILE_BYTES);
                fetch(shared.a[stage], &A, A_MAJOR ? m0 : k0, A_MAJOR ? k0 : m0, &shared.full[stage]);
                fetch_for_both(shared.b[stage] + half * 128, &B, B_MAJOR ? n0 : k0, B_MAJOR ? k0 + half : n0 + half,
                               &shared.full[stage]);
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        const int thread = threadIdx.x - 128, warp = thread / 32, lane = thread % 32;
        float d[32] = {};
        for (int step = 0; step < steps; ++step) {
            const int stage = step % STAGES;
            wait(&shared.full[stage], step / STAGES % 2);
            asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
            for (int k = 0; k < TILE; k += 16) {
                // 16 of K are 32 bytes of each row, or two groups of 8 rows.
                multiply(d, descriptor(shared.a[stage] + (A_MAJOR ? k * 128 : k * 2)),
                         descriptor(shared.b[stage] + (B_MAJOR ? k * 128 : k * 2)));
            }
            asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
            if (lane < 2) arrive(&shared.empty[stage], lane);
        }
        for (int v = 0; v < 32; ++v) {
            const int row = 16 * warp + lane / 4 + v / 2 % 2 * 8, column = v / 4 * 8 + lane % 4 * 2 + v % 2;
            C[(m0 + row) * N + n0 + column] = d[v];
        }
    }
    // Nobody leaves while the other may still arrive at its barriers.
    __syncwarp();
    cluster_sync();
}
