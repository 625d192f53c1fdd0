// A kernel with variables, a call and an inlined function for a debugger to look at.
__device__ __forceinline__ float squared(float x) {
    const float y = x * x;
    return y;
}

__device__ __noinline__ float sum(const float* x, int n) {
    float s = 0.0f;
    for (int i = 0; i < n; i++) s += squared(x[i]);
    return s;
}

extern "C" __global__ void norms(float* out, const float* x, int n) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    out[row] = sum(x + row * n, n);
}
