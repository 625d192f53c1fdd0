// out[row, c] = exp(inp[row, c] - max) / sum of exp, a warp for each row
extern "C" __global__ void softmax(float* out, const float* inp, int rows, int columns) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    const float* x = inp + (long long)row * columns;
    float high = -__int_as_float(0x7f800000);
    for (int c = threadIdx.x; c < columns; c += 32) high = fmaxf(high, x[c]);
    for (int step = 16; step > 0; step /= 2) high = fmaxf(high, __shfl_xor_sync(0xffffffff, high, step));
    float sum = 0;
    for (int c = threadIdx.x; c < columns; c += 32) sum += expf(x[c] - high);
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
    for (int c = threadIdx.x; c < columns; c += 32) out[(long long)row * columns + c] = expf(x[c] - high) / sum;
}
