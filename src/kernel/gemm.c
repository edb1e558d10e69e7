/* gemm.c - the choice among the matrix products of gemm.h, and the plain one.
 * The plain product is the reference of the tests: one f32 sum for each element, over k in rising order. */
#include "kernel/gemm.h"

void nigh_gemm_plain(size_t m, size_t n, size_t k, nigh_view a, nigh_view b, float *c, size_t c_row, bool add,
    void *scratch) {
    (void)scratch;
    for (size_t i = 0; i < m; i++) {
        float *out = c + i * c_row;
        if (!add) for (size_t j = 0; j < n; j++) out[j] = 0;
        for (size_t p = 0; p < k; p++) {
            float x = a.ptr[i * a.row + p * a.col];
            const float *y = b.ptr + p * b.row;
            if (b.col == 1) for (size_t j = 0; j < n; j++) out[j] += x * y[j];
            else for (size_t j = 0; j < n; j++) out[j] += x * y[j * b.col];
        }
    }
}

nigh_gemm_fn *nigh_gemm_find(nigh_gemm_kind kind) {
    switch (kind) {
    case NIGH_GEMM_PLAIN: return nigh_gemm_plain;
#if defined(__x86_64__)
    case NIGH_GEMM_FMA: return __builtin_cpu_supports("avx2")
        && __builtin_cpu_supports("fma") ? nigh_gemm_fma : NULL;
    case NIGH_GEMM_AVX512: return __builtin_cpu_supports("avx512f")
        && __builtin_cpu_supports("avx512bw") ? nigh_gemm_avx512 : NULL;
    case NIGH_GEMM_BF16: return __builtin_cpu_supports("avx512bf16")
        && __builtin_cpu_supports("avx512bw") ? nigh_gemm_bf16 : NULL;
#else
    case NIGH_GEMM_FMA: case NIGH_GEMM_AVX512: case NIGH_GEMM_BF16: break;
#endif
    }
    return NULL;
}

nigh_gemm_kind nigh_gemm_best(bool exact) {
    static const nigh_gemm_kind order[] = { NIGH_GEMM_BF16, NIGH_GEMM_AVX512, NIGH_GEMM_FMA };
    for (size_t i = exact; i < NIGH_COUNT(order); i++) if (nigh_gemm_find(order[i])) return order[i];
    return NIGH_GEMM_PLAIN;
}

const char *nigh_gemm_name(nigh_gemm_kind kind) {
    static const char *const names[] = { "plain", "fma", "avx512", "bf16" };
    return names[kind];
}
