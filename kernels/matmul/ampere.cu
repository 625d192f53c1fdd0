// Matrix products of bf16 on the tensor cores of sm_80 and later. Read lib/tile_mma.cuh first, then matmul/products.cuh, which has the
// equations and the kernels:
//
//   matmul_forward, matmul_gelu_forward, matmul_residual_forward, matmul_backward_input, matmul_gelu_backward_input,
//   matmul_backward_weight, matmul_backward_weight_slices and matmul_backward_weight_finish
//
// Floor: 2·N·C·OC FLOP each, and of memory each operand once: 2·(N·C + OC·C + N·OC) bytes. An A100 has 312 TFLOP/s and 1.6 to 2 TB/s:
// a product is bound by arithmetic from N, C, OC of about 500 on. Operands are read from L2 once for each tile of the other.
//
// Launch: grid (ceil(columns / BLOCK_N), ceil(rows / BLOCK_M)) of the result, block THREADS (256 at 128 × 128, 64 at 64 × 64).
// backward_weight_slices has slices of N in gridDim.z. Shared memory: STAGES·2·BLOCK_K·(BLOCK_M + BLOCK_N) bytes, static, 48 KiB at most.
// Assumes tensors at multiples of 16 bytes, and C and OC multiples of 8. N is any.
#include "lib/tile_mma.cuh"
// The tile before the kernels that are made of it.
#include "matmul/products.cuh"

static_assert(same_type<Act, bf16>, "tensor cores multiply bf16");
