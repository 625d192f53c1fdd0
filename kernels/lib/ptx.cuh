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
