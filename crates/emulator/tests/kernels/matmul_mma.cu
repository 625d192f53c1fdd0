// C[m, n] = sum over k of A[m, k] B[n, k]; A and B in bf16, C in f32. cp.async brings tiles of 64 x 32 into two buffers of
// shared memory, ldmatrix takes fragments out, mma.sync multiplies. M and N multiples of 64, K of 32.
typedef unsigned short bf16;
constexpr int TILE = 64, DEPTH = 32, PITCH = DEPTH + 8;  // the padding spreads rows over the banks

__device__ unsigned shared_address(const void* pointer) { return (unsigned)__cvta_generic_to_shared(pointer); }

__device__ void copy_tile(bf16 (*to)[PITCH], const bf16* from, int K) {
    for (int chunk = threadIdx.x; chunk < TILE * DEPTH / 8; chunk += blockDim.x) {
        const int row = chunk / (DEPTH / 8), column = chunk % (DEPTH / 8) * 8;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                     ::"r"(shared_address(&to[row][column])), "l"(from + row * K + column) : "memory");
    }
}

__device__ void load_fragment(unsigned (&to)[4], const bf16* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(from)) : "memory");
}

extern "C" __global__ void __launch_bounds__(128)
matmul_mma(float* C, const bf16* A, const bf16* B, int N, int K) {
    __shared__ bf16 a[2][TILE][PITCH], b[2][TILE][PITCH];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int m0 = blockIdx.y * TILE, n0 = blockIdx.x * TILE;
    float sums[8][4] = {};
    copy_tile(a[0], A + m0 * K, K);
    copy_tile(b[0], B + n0 * K, K);
    asm volatile("cp.async.commit_group;" ::: "memory");
    for (int step = 0; step < K / DEPTH; ++step) {
        const int next = (step + 1) * DEPTH;
        if (next < K) {
            copy_tile(a[(step + 1) % 2], A + m0 * K + next, K);
            copy_tile(b[(step + 1) % 2], B + n0 * K + next, K);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        for (int k = 0; k < DEPTH; k += 16) {
            unsigned fa[4];
            load_fragment(fa, &a[step % 2][warp * 16 + lane % 16][k + lane / 16 * 8]);
            for (int pair = 0; pair < 4; ++pair) {
                unsigned fb[4];
                load_fragment(fb, &b[step % 2][pair * 16 + lane % 8 + lane / 16 * 8][k + lane / 8 % 2 * 8]);
                for (int half = 0; half < 2; ++half) {
                    float(&d)[4] = sums[pair * 2 + half];
                    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                        "{%0, %1, %2, %3};"
                        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                        : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[half * 2]), "r"(fb[half * 2 + 1]));
                }
            }
        }
        __syncthreads();
    }
    for (int tile = 0; tile < 8; ++tile) {
        float* out = C + (m0 + warp * 16 + lane / 4) * N + n0 + tile * 8 + lane % 4 * 2;
        out[0] = sums[tile][0];
        out[1] = sums[tile][1];
        out[8 * N] = sums[tile][2];
        out[8 * N + 1] = sums[tile][3];
    }
}
