// A kernel with a planted fault for each thing that the emulator checks, and its corrected twin: NAME_bad and NAME_good.
// `inp` and `out` are 256 numbers each. "// here" marks the line that the report must name.

#define ARGS unsigned *out, const unsigned *inp
#define CASE(name)                                                      \
    extern "C" __global__ void name##_bad(ARGS) { name<true>(out, inp); } \
    extern "C" __global__ void name##_good(ARGS) { name<false>(out, inp); }

__device__ unsigned address(const void* pointer) { return (unsigned)__cvta_generic_to_shared(pointer); }

// ---- addresses

template <bool BAD> __device__ void past_the_end(ARGS) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (BAD ? i <= 256 : i < 256) out[i] = inp[i % 256];  // here
}
CASE(past_the_end)

template <bool BAD> __device__ void misaligned(ARGS) {
    const char* at = (const char*)inp + threadIdx.x * 4 + (BAD ? 2 : 0);
    out[threadIdx.x] = *(const unsigned*)at;  // here
}
CASE(misaligned)

template <bool BAD> __device__ void past_shared(ARGS) {
    __shared__ unsigned room[64];
    room[threadIdx.x] = inp[threadIdx.x];
    __syncthreads();
    volatile unsigned* end = room;
    out[threadIdx.x] = end[(threadIdx.x + 1) % (BAD ? 4096 : 64) * (BAD ? 64 : 1)];  // here
}
CASE(past_shared)

// ---- memory that nobody wrote

template <bool BAD> __device__ void unwritten_shared(ARGS) {
    __shared__ volatile unsigned room[64];
    if (!BAD || threadIdx.x != 5) room[threadIdx.x] = inp[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = room[63 - threadIdx.x];  // here
}
CASE(unwritten_shared)

// The second half of out is memory that the host has not written.
template <bool BAD> __device__ void unwritten_global(ARGS) {
    volatile unsigned* fresh = out + 256;
    if (!BAD) fresh[threadIdx.x] = inp[threadIdx.x];
    out[threadIdx.x] = fresh[threadIdx.x];  // here
}
CASE(unwritten_global)

// ---- races

template <bool BAD> __device__ void shared_race(ARGS) {
    __shared__ unsigned room[64];
    room[threadIdx.x] = inp[threadIdx.x];
    if (!BAD) __syncthreads();
    out[threadIdx.x] = room[63 - threadIdx.x];  // here
}
CASE(shared_race)

template <bool BAD> __device__ void overwritten_too_soon(ARGS) {
    __shared__ unsigned room[64];
    unsigned sum = 0;
    for (int round = 0; round < 3; ++round) {
        room[threadIdx.x] = inp[round * 64 + threadIdx.x];  // here
        __syncthreads();
        sum += room[63 - threadIdx.x];
        if (!BAD) __syncthreads();
    }
    out[threadIdx.x] = sum;
}
CASE(overwritten_too_soon)

template <bool BAD> __device__ void global_race(ARGS) {
    if (BAD) {
        out[threadIdx.x] += inp[blockIdx.x * 64 + threadIdx.x];  // here
    } else {
        atomicAdd(&out[threadIdx.x], inp[blockIdx.x * 64 + threadIdx.x]);
    }
}
CASE(global_race)

// One block hands a value to another by a flag.
template <bool BAD> __device__ void missing_fence(ARGS) {
    volatile unsigned* flag = out + 128;
    if (threadIdx.x != 0) return;
    if (blockIdx.x == 0) {
        out[0] = inp[0];
        if (!BAD) __threadfence();
        atomicExch((unsigned*)flag, 1);
    } else {
        while (atomicAdd((unsigned*)flag, 0) == 0) {}
        if (!BAD) __threadfence();
        out[1] = ((const unsigned*)out)[0] + 1;  // here
    }
}
CASE(missing_fence)

// ---- barriers

template <bool BAD> __device__ void barrier_of_some(ARGS) {
    out[threadIdx.x] = inp[threadIdx.x];
    if (!BAD || threadIdx.x < 40) __syncthreads();  // here
    out[threadIdx.x] += 1;
    __syncthreads();
}
CASE(barrier_of_some)

template <bool BAD> __device__ void barrier_of_one_warp(ARGS) {
    if (threadIdx.x < 32) {
        out[threadIdx.x] = inp[threadIdx.x];
        asm volatile("barrier.sync 1, %0;" ::"n"(BAD ? 64 : 32) : "memory");  // here
    }
    if (threadIdx.x >= 32) asm volatile("barrier.sync 2, 32;" ::: "memory");
}
CASE(barrier_of_one_warp)

// ---- asynchronous copies

__device__ void copy_async(void* to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address(to)), "l"(from) : "memory");
}

template <bool BAD> __device__ void copy_not_waited_for(ARGS) {
    __shared__ unsigned room[64];
    copy_async(&room[threadIdx.x], inp + threadIdx.x);
    asm volatile("cp.async.commit_group;" ::: "memory");
    if (!BAD) asm volatile("cp.async.wait_group 0;" ::: "memory");
    out[threadIdx.x] = *(volatile unsigned*)&room[threadIdx.x];  // here
}
CASE(copy_not_waited_for)

__device__ void init(unsigned long long* barrier, unsigned count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(barrier)), "r"(count) : "memory");
}

__device__ void expect(unsigned long long* barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(barrier)), "r"(bytes) : "memory");
}

__device__ void arrive(unsigned long long* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address(barrier)) : "memory");
}

__device__ void wait(unsigned long long* barrier, unsigned parity) {
    asm volatile(
        "{ .reg .pred done;\n"
        "AGAIN:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra AGAIN; }"
        ::"r"(address(barrier)), "r"(parity) : "memory");
}

__device__ void fetch(void* to, const void* from, unsigned bytes, unsigned long long* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                 ::"r"(address(to)), "l"(from), "r"(bytes), "r"(address(barrier)) : "memory");
}

template <bool BAD> __device__ void bulk_read_too_soon(ARGS) {
    __shared__ alignas(128) unsigned room[64];
    __shared__ unsigned long long barrier;
    if (threadIdx.x == 0) {
        init(&barrier, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        expect(&barrier, 256);
        fetch(room, inp, 256, &barrier);
    }
    __syncthreads();
    if (!BAD) wait(&barrier, 0);
    out[threadIdx.x] = *(volatile unsigned*)&room[threadIdx.x];  // here
}
CASE(bulk_read_too_soon)

template <bool BAD> __device__ void missing_proxy_fence(ARGS) {
    __shared__ alignas(128) unsigned room[64];
    room[threadIdx.x] = inp[threadIdx.x];
    if (!BAD) asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 256;" ::"l"(out), "r"(address(room)) : "memory");  // here
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
CASE(missing_proxy_fence)

template <bool BAD> __device__ void source_overwritten(ARGS) {
    __shared__ alignas(128) unsigned room[64];
    room[threadIdx.x] = inp[threadIdx.x];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 256;" ::"l"(out), "r"(address(room)) : "memory");
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        if (!BAD) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
        *(volatile unsigned*)&room[7] = 0;  // here
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
CASE(source_overwritten)

// ---- mbarriers

template <bool BAD> __device__ void one_arrival_too_many(ARGS) {
    __shared__ unsigned long long barrier;
    if (threadIdx.x == 0) init(&barrier, 2);
    __syncthreads();
    if (threadIdx.x == 0) {
        arrive(&barrier);
        if (BAD) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], 2;" ::"r"(address(&barrier)) : "memory");  // here
        else arrive(&barrier);
        wait(&barrier, 0);
        out[0] = inp[0];
    }
}
CASE(one_arrival_too_many)

template <bool BAD> __device__ void barrier_without_init(ARGS) {
    __shared__ unsigned long long barrier;
    if (threadIdx.x == 0) {
        if (!BAD) init(&barrier, 1);
        arrive(&barrier);  // inlined, so the report names arrive
        out[0] = inp[0];
    }
}
CASE(barrier_without_init)

template <bool BAD> __device__ void too_few_bytes(ARGS) {
    __shared__ alignas(128) unsigned room[64];
    __shared__ unsigned long long barrier;
    if (threadIdx.x == 0) {
        init(&barrier, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        expect(&barrier, BAD ? 512 : 256);
        fetch(room, inp, 256, &barrier);
        wait(&barrier, 0);  // inlined, so the report names wait
        out[0] = *(volatile unsigned*)&room[0];
    }
}
CASE(too_few_bytes)

// ---- matrix products

__device__ void multiply(float (&d)[4], unsigned long long a, unsigned long long b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, 1, 1, 1, 0, 0;"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "l"(a), "l"(b));
}

// Core matrices of 8 rows of 16 bytes: the next along K 128 bytes on, along M or N 256 bytes.
__device__ unsigned long long descriptor(const void* tile) {
    return (unsigned long long)(address(tile) >> 4) | 8ull << 16 | 16ull << 32;
}

template <bool BAD> __device__ void operands_overwritten(ARGS) {
    __shared__ alignas(128) unsigned a[512], b[64];
    for (int i = threadIdx.x; i < 512; i += 128) a[i] = 0x3f803f80;
    if (threadIdx.x < 64) b[threadIdx.x] = 0x3f803f80;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    float d[4] = {};
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    multiply(d, descriptor(a), descriptor(b));
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    if (!BAD) asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    if (!BAD) __syncthreads();
    *(volatile unsigned*)&b[threadIdx.x % 64] = 0;  // here
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    out[threadIdx.x] = (unsigned)d[0] + inp[0] * 0;
}
CASE(operands_overwritten)

template <bool BAD> __device__ void sums_not_waited_for(ARGS) {
    __shared__ alignas(128) unsigned a[512], b[64];
    for (int i = threadIdx.x; i < 512; i += 128) a[i] = 0x3f803f80;
    if (threadIdx.x < 64) b[threadIdx.x] = 0x3f803f80;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    float d[4] = {};
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    multiply(d, descriptor(a), descriptor(b));
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    if (!BAD) asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    out[threadIdx.x] = (unsigned)d[0] + inp[0] * 0;  // here
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}
CASE(sums_not_waited_for)

// ---- clusters

// Arrives at a barrier of the other block, which may have exited.
extern "C" __global__ void __cluster_dims__(2, 1, 1) arrival_at_the_dead_bad(ARGS);
extern "C" __global__ void __cluster_dims__(2, 1, 1) arrival_at_the_dead_good(ARGS);

template <bool BAD> __device__ void arrival_at_the_dead(ARGS) {
    __shared__ unsigned long long barrier;
    if (threadIdx.x == 0) {
        init(&barrier, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    if (blockIdx.x == 1 && threadIdx.x == 0) {
        unsigned sum = 0;
        for (int i = 0; i < 256; ++i) sum += inp[i];
        for (int i = 0; i < 20000; ++i) asm volatile("nanosleep.u32 20;");
        out[0] = sum;
        asm volatile(
            "{ .reg .b32 remote;\n"
            "mapa.shared::cluster.u32 remote, %0, 0;\n"
            "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote]; }"  // here
            ::"r"(address(&barrier)) : "memory");
    }
    if (!BAD) {
        __syncwarp();
        asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
        asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    }
}
CASE(arrival_at_the_dead)

// ---- what programs say themselves

template <bool BAD> __device__ void trap(ARGS) {
    out[threadIdx.x] = inp[threadIdx.x];
    if (BAD && threadIdx.x == 3) asm volatile("trap;");  // here
}
CASE(trap)

template <bool BAD> __device__ void assertion(ARGS) {
    out[threadIdx.x] = inp[threadIdx.x];
    if (BAD && threadIdx.x == 3) __assertfail("inp[3] == 0", "faults.cu", 17, "assertion", 1);  // here
}
CASE(assertion)
