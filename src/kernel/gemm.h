/* gemm.h - f32 matrix products for training: C = A B or C += A B.
 *
 * NOT under the bit contract of kernel.h: these products may fuse multiply and add, and the bf16 path rounds
 * its inputs to bf16 (round half to even) and sums in f32. Nothing that answers a user calls them. What they do
 * promise: one path on one machine gives the same bits every time, whatever the number of threads, because a
 * product runs in the thread that asks for it and its order of sums depends on the shape alone.
 *
 * One file per instruction set: gemm.c (plain C, any machine), gemm_avx2.c (AVX2 with FMA), gemm_avx512.c (f32),
 * gemm_bf16_avx512.c (AVX-512 with bf16 dot products). */
#ifndef NIGH_GEMM_H
#define NIGH_GEMM_H

#include "base/base.h"

/* A matrix as it lies in memory: element (i, j) at ptr[i * row + j * col]. One of the two strides must be 1. */
typedef struct { const float *ptr; size_t row, col; } nigh_view;

static inline nigh_view nigh_rows(const float *p, size_t stride) { return (nigh_view){ p, stride, 1 }; }
static inline nigh_view nigh_turned(const float *p, size_t stride) { return (nigh_view){ p, 1, stride }; }

/* c[i * c_row + j] = (or += when add) sum over k < K of A(i, k) B(k, j).   scratch: NIGH_GEMM_SCRATCH bytes,
 * 64-byte aligned, one for each thread. Any sizes; fast from about 12 x 32 on. */
typedef void nigh_gemm_fn(size_t m, size_t n, size_t k, nigh_view a, nigh_view b, float *c, size_t c_row,
    bool add, void *scratch);

enum { NIGH_GEMM_SCRATCH = 1 << 21 };

typedef enum { NIGH_GEMM_PLAIN, NIGH_GEMM_FMA, NIGH_GEMM_AVX512, NIGH_GEMM_BF16 } nigh_gemm_kind;

/* The fastest kind of this processor; with exact = true the fastest that computes in f32 alone. */
nigh_gemm_kind nigh_gemm_best(bool exact);
/* "plain", "fma", "avx512", "bf16". */
const char *nigh_gemm_name(nigh_gemm_kind kind);
/* NULL when this processor or this build lacks the kind. */
nigh_gemm_fn *nigh_gemm_find(nigh_gemm_kind kind);

/* For nigh_gemm_find only. */
nigh_gemm_fn nigh_gemm_plain;
nigh_gemm_fn nigh_gemm_fma;
nigh_gemm_fn nigh_gemm_avx512;
nigh_gemm_fn nigh_gemm_bf16;

#endif
