// Instructions that CUDA C++ has no words for, one wrapper each. Addresses of shared memory are 32-bit numbers here.
#pragma once

#include "lib/types.cuh"

// The address of something in shared memory, as instructions take it.
__device__ __forceinline__ uint32 shared_address(const void* p) {
    return static_cast<uint32>(__cvta_generic_to_shared(p));
}

// Four floats of shared memory in one instruction. The compiler makes two of 8 bytes of an ordinary access where that suits its
// registers, and those have twice the bank conflicts.
__device__ __forceinline__ Vec<4> load_shared(const float* p) {
    Vec<4> x;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3])
                 : "r"(shared_address(p))
                 : "memory");
    return x;
}
__device__ __forceinline__ void store_shared(float* p, const Vec<4>& x) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(p)), "f"(x[0]), "f"(x[1]), "f"(x[2]),
                 "f"(x[3])
                 : "memory");
}

// ---- from sm_80 on
#if __CUDA_ARCH__ >= 800

// Copies 16 bytes from global to shared memory, both at multiples of 16, without a register and without waiting; with `there`
// false, writes zeros and reads nothing.
__device__ __forceinline__ void copy_16_async(uint32 to, const void* from, bool there) {
    const uint32 bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)), "r"(bytes)
                 : "memory");
}
// Closes a group of the copies that this thread has asked for since the last one; an empty group counts too.
__device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until all but the newest N groups of this thread have arrived. Others see them after a barrier.
template <int N>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Four 8 × 8 matrices of bf16 from shared memory, for the fragments of a warp. Lane l gives the address of row l mod 8, 16 bytes, of
// matrix l / 8, and gets elements 2·(l mod 4) and the next of row l / 4 of each.
__device__ __forceinline__ void load_matrices(uint32 (&x)[4], uint32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(address)
                 : "memory");
}
// The same, each matrix transposed: lane l gets rows 2·(l mod 4) and the next of column l / 4.
__device__ __forceinline__ void load_matrices_transposed(uint32 (&x)[4], uint32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(address)
                 : "memory");
}

// d += a·b, 16 × 8 sums of a warp over 16 products: a 16 × 16 by rows, b 16 × 8 by columns, both bf16.
//   lane l = 4·g + t has    d[g][2t], d[g][2t+1], d[g+8][2t], d[g+8][2t+1]
//                           a: pairs (g, 2t), (g+8, 2t), (g, 2t+8), (g+8, 2t+8) of (row, k)
//                           b: pairs (2t, g), (2t+8, g) of (k, column)
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif
