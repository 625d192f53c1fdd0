// Pipelines of bulk tensor copies, in integers, so that results can be compared bit for bit. The .ptx file beside this one is what NVRTC 13.0
// makes of it with --gpu-architecture=sm_90a -default-device -lineinfo; the folder was then cut from the path.

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// What the driver encodes: CUtensorMap.
struct alignas(64) TensorMap {
    u64 opaque[16];
};

enum {
    STAGES = 3,
    TILE = 64,                     // rows, and columns of 16 bits: 128 bytes, the swizzle's span
    TILE_BYTES = TILE * TILE * 2,  // 8192
    CONSUMERS = 128,               // threads; one more warp produces
};

__device__ u32 address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

__device__ void init(u64* bar, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(bar)), "r"(count) : "memory");
}

__device__ void expect(u64* bar, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(bar)), "r"(bytes) : "memory");
}

__device__ void arrive(u64* bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address(bar)) : "memory");
}

__device__ void arrive_at(u64* bar, u32 rank) {
    asm volatile(
        "{\n.reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n}" ::"r"(address(bar)), "r"(rank)
        : "memory");
}

__device__ void wait(u64* bar, u32 parity) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}" ::"r"(address(bar)), "r"(parity)
        : "memory");
}

__device__ void load(void* dst, const TensorMap* map, u64* bar, int column, int row) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
            address(dst)),
        "l"(map), "r"(address(bar)), "r"(column), "r"(row)
        : "memory");
}

__device__ void load_multicast(void* dst, const TensorMap* map, u64* bar, int column, int row, u16 blocks) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, "
        "%4}], [%2], %5;" ::"r"(address(dst)),
        "l"(map), "r"(address(bar)), "r"(column), "r"(row), "h"(blocks)
        : "memory");
}

__device__ void store(const TensorMap* map, const void* src, int column, int row) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
                 "r"(address(src)), "r"(column), "r"(row)
                 : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// 16-byte chunk of a row of a tile, swizzled.
__device__ uint4* chunk_of(char* tile, int row, int chunk) {
    return (uint4*)(tile + row * 128 + ((chunk ^ (row & 7)) << 4));
}

// out[r][c] = 3 inp[r][c] + 1, sums[r] = sum over c of (c + 1) inp[r][c], of 16-bit numbers; one block for 64 rows.
// launch: grid ceil(rows / 64), block 160, shared memory 1024 + 5 tiles + 64.
extern "C" __global__ void __launch_bounds__(160, 1)
    scale(const __grid_constant__ TensorMap inp, const __grid_constant__ TensorMap out, u32* sums, int rows, int columns) {
    extern __shared__ char memory[];
    char* tiles = memory + ((1024 - (address(memory) & 1023)) & 1023);
    char* results = tiles + STAGES * TILE_BYTES;  // two of them
    u64* full = (u64*)(results + 2 * TILE_BYTES);
    u64* empty = full + STAGES;
    const int steps = (columns + TILE - 1) / TILE;
    const int first = blockIdx.x * TILE;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            init(&full[i], 1);
            init(&empty[i], CONSUMERS);
        }
        asm volatile("fence.proxy.async;" ::: "memory");
    }
    __syncthreads();
    if (threadIdx.x >= CONSUMERS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == CONSUMERS) {
            for (int step = 0; step < steps; step++) {
                const int stage = step % STAGES;
                wait(&empty[stage], (step / STAGES & 1) ^ 1);
                expect(&full[stage], TILE_BYTES);
                load(tiles + stage * TILE_BYTES, &inp, &full[stage], step * TILE, first);
            }
        }
        return;
    }
    const int row = threadIdx.x / 2, half = threadIdx.x % 2 * 4;
    u32 sum = 0;
    for (int step = 0; step < steps; step++) {
        const int stage = step % STAGES;
        char* result = results + step % 2 * TILE_BYTES;
        // The store before the last has read its tile.
        if (threadIdx.x == 0) asm volatile("cp.async.bulk.wait_group.read 1;" ::: "memory");
        asm volatile("bar.sync 1, 128;" ::: "memory");
        wait(&full[stage], step / STAGES & 1);
        for (int chunk = half; chunk < half + 4; chunk++) {
            const uint4 four = *chunk_of(tiles + stage * TILE_BYTES, row, chunk);
            u32 words[4] = {four.x, four.y, four.z, four.w};
            const int column = step * TILE + chunk * 8;
            for (int i = 0; i < 4; i++) {
                const u32 low = words[i] & 0xffff, high = words[i] >> 16;
                sum += low * (column + 2 * i + 1) + high * (column + 2 * i + 2);
                words[i] = (low * 3 + 1 & 0xffff) | (high * 3 + 1) << 16;
            }
            *chunk_of(result, row, chunk) = make_uint4(words[0], words[1], words[2], words[3]);
        }
        arrive(&empty[stage]);
        asm volatile("fence.proxy.async;" ::: "memory");
        asm volatile("bar.sync 1, 128;" ::: "memory");
        if (threadIdx.x == 0) store(&out, result, step * TILE, first);
    }
    sum += __shfl_xor_sync(0xffffffff, sum, 1);
    if (half == 0 && first + row < rows) sums[first + row] = sum;
    if (threadIdx.x == 0) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// out[i][r] = sum over c of a[64 i + r][c] b[r][c], of 16-bit numbers. The two blocks of a cluster have an i each and share
// the tiles of b: each loads half of one and sends it to both.
// launch: grid 2 n, cluster 2, block 160, shared memory 1024 + 6 tiles + 64.
extern "C" __global__ void __cluster_dims__(2, 1, 1)
    share(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, u32* out, int columns) {
    extern __shared__ char memory[];
    char* tiles = memory + ((1024 - (address(memory) & 1023)) & 1023);
    char* shared = tiles + STAGES * TILE_BYTES;
    u64* full = (u64*)(shared + STAGES * TILE_BYTES);
    u64* empty = full + STAGES;
    const int steps = columns / TILE;
    u32 rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            init(&full[i], 1);
            init(&empty[i], 2 * CONSUMERS / 32);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
    if (threadIdx.x == CONSUMERS) {
        for (int step = 0; step < steps; step++) {
            const int stage = step % STAGES;
            wait(&empty[stage], (step / STAGES & 1) ^ 1);
            expect(&full[stage], 2 * TILE_BYTES);
            load(tiles + stage * TILE_BYTES, &a, &full[stage], step * TILE, blockIdx.x * TILE);
            const int part = rank * TILE / 2;
            load_multicast(shared + stage * TILE_BYTES + part * 128, &b, &full[stage], step * TILE, part, 3);
        }
    }
    if (threadIdx.x < CONSUMERS) {
        const int row = threadIdx.x / 2, half = threadIdx.x % 2 * 4;
        u32 sum = 0;
        for (int step = 0; step < steps; step++) {
            const int stage = step % STAGES;
            wait(&full[stage], step / STAGES & 1);
            for (int chunk = half; chunk < half + 4; chunk++) {
                const uint4 x = *chunk_of(tiles + stage * TILE_BYTES, row, chunk);
                const uint4 y = *chunk_of(shared + stage * TILE_BYTES, row, chunk);
                const u32 xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
                for (int i = 0; i < 4; i++) {
                    sum += (xs[i] & 0xffff) * (ys[i] & 0xffff) + (xs[i] >> 16) * (ys[i] >> 16);
                }
            }
            __syncwarp();
            if (threadIdx.x % 32 < 2) arrive_at(&empty[stage], threadIdx.x % 32);
        }
        sum += __shfl_xor_sync(0xffffffff, sum, 1);
        if (half == 0) out[blockIdx.x * TILE + row] = sum;
    }
    // The other block may still arrive at this one's mbarriers.
    asm volatile("barrier.cluster.arrive;\nbarrier.cluster.wait;" ::: "memory");
}
