// Sums and extremes of n numbers: in a warp by shuffles, in a block through shared memory, over blocks by atomics or in order.

__device__ unsigned warp_sum(unsigned value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffff, value, step);
    return value;
}

// out[0] += the sum of all values, mod 2^32: exact whatever the order
extern "C" __global__ void sum_integers(unsigned* out, const unsigned* values, int n) {
    __shared__ unsigned of_warps[32];
    unsigned sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += values[i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = warp_sum(threadIdx.x < blockDim.x / 32 ? of_warps[threadIdx.x] : 0);
        if (threadIdx.x == 0) atomicAdd(out, sum);
    }
}

// out[0] = max(out[0], all values), out[1] = min(out[1], all values)
extern "C" __global__ void extremes(int* out, const int* values, int n) {
    int high = -2147483647 - 1, low = 2147483647;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        high = max(high, values[i]);
        low = min(low, values[i]);
    }
    high = __reduce_max_sync(0xffffffff, high);
    low = __reduce_min_sync(0xffffffff, low);
    if (threadIdx.x % 32 == 0) {
        atomicMax(&out[0], high);
        atomicMin(&out[1], low);
    }
}

// out[0] = the sum of all values: each block leaves its sum, the last block to finish adds them up in order
extern "C" __global__ void sum_floats(float* out, float* of_blocks, unsigned* done, const float* values, int n) {
    extern __shared__ float room[];
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += values[i];
    room[threadIdx.x] = sum;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
    }
    __shared__ bool last;
    if (threadIdx.x == 0) {
        of_blocks[blockIdx.x] = room[0];
        __threadfence();
        last = atomicAdd(done, 1) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float total = 0;
        for (int block = 0; block < gridDim.x; ++block) total += ((volatile float*)of_blocks)[block];
        out[0] = total;
    }
}
