// out[i] = a[i] + b[i], a grid-stride loop over any n
extern "C" __global__ void vector_add(float* out, const float* a, const float* b, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        out[i] = a[i] + b[i];
    }
}
