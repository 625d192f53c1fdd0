// C[m, n] = sum over k of A[m, k] B[k, n], tiles of 16 x 16 in shared memory, any shape
constexpr int TILE = 16;

extern "C" __global__ void matmul_tiled(float* C, const float* A, const float* B, int M, int N, int K) {
    __shared__ float a[TILE][TILE], b[TILE][TILE];
    const int m = blockIdx.y * TILE + threadIdx.y, n = blockIdx.x * TILE + threadIdx.x;
    float sum = 0;
    for (int start = 0; start < K; start += TILE) {
        const int ak = start + threadIdx.x, bk = start + threadIdx.y;
        a[threadIdx.y][threadIdx.x] = m < M && ak < K ? A[m * K + ak] : 0;
        b[threadIdx.y][threadIdx.x] = n < N && bk < K ? B[bk * N + n] : 0;
        __syncthreads();
        for (int k = 0; k < TILE; ++k) sum += a[threadIdx.y][k] * b[k][threadIdx.x];
        __syncthreads();
    }
    if (m < M && n < N) C[m * N + n] = sum;
}
