// Matrix products in plain arithmetic. Read lib/tile.cuh first, then matmul/products.cuh, which has the equations and the kernels:
//
//   matmul_forward, matmul_gelu_forward, matmul_residual_forward, matmul_backward_input, matmul_gelu_backward_input,
//   matmul_backward_weight, matmul_backward_weight_slices and matmul_backward_weight_finish
//
// Arithmetic is in float whatever Act is, so this is also what bf16 falls back to where tensor cores cannot be used.
//
// Floor: 2·N·C·OC FLOP each, and of memory each operand once. A product of any size is bound by its arithmetic: at N = C = OC =
// 1024 it is 170 FLOP a byte in float, where a GPU without tensor cores has 10 to 20 a byte. Operands are read from memory once
// for each tile of the other: N·C·(OC/BLOCK_N) + OC·C·(N/BLOCK_M) elements, most of them from the L2 cache.
//
// Launch: grid (ceil(columns / BLOCK_N), ceil(rows / BLOCK_M)) of the result, block THREADS (256 at 128 × 128, 64 at 64 × 64).
// backward_weight has gridDim.z slices of N besides. Shared memory: 4·2·BLOCK_K·(BLOCK_M + BLOCK_N) bytes, static.
// Assumes nothing of addresses and sizes; where addresses are multiples of 16 bytes (8 for bf16) and rows of 4 elements, it
// reads and writes four elements at a time, else one.
#include "lib/tile.cuh"
// The tile before the kernels that are made of it.
#include "matmul/products.cuh"
