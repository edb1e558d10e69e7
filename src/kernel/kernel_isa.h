/* kernel_isa.h - inside the kernel room: each instruction set fills the slots it does better than the one before. */
#ifndef NIGH_KERNEL_ISA_H
#define NIGH_KERNEL_ISA_H

#include "kernel/kernel.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNROLL                                      /* their checks, sixteen times over, would compile for minutes */
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define UNSET __attribute__((uninitialized))       /* no zeroing by the compiler: every use is written first */
#define ALWAYS static inline __attribute__((always_inline))

void nigh_kernels_ref(nigh_kernels *k);
#if defined(__x86_64__)
void nigh_kernels_avx2(nigh_kernels *k);
void nigh_kernels_avx512(nigh_kernels *k);
void nigh_quantize_avx2(const nigh_acts *a, size_t begin, size_t end);
void nigh_quantize_blocks_avx2(const nigh_acts *a, const float *x, size_t x_stride, size_t begin, size_t end,
                               size_t first_block, size_t last_block);
void nigh_pack_avx2(nigh_type type, size_t rows, size_t cols, const uint8_t *src, size_t group_idx, uint8_t *dst);
void nigh_kernels_amx(nigh_kernels *k);
/* What a faster product falls back to where it does not pay. */
void nigh_matmul_avx512(const nigh_mat *m, const nigh_acts *a, float *out, size_t stride, size_t begin, size_t end);
#elif defined(__aarch64__)
void nigh_kernels_neon(nigh_kernels *k);
void nigh_kernels_dotprod(nigh_kernels *k);
#elif defined(__wasm_simd128__)
void nigh_kernels_wasm(nigh_kernels *k);
#endif

#endif
