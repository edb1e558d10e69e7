/* gemm_avx2.c - the product of gemm.h in f32 with AVX2 and FMA.
 * B is packed in panels of 16 columns, [kc][16]; A is read where it lies. The tile is 6 rows x 16 columns: 12
 * sums. Rows left over are done one by one. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernel/gemm.h"

enum { KC = 256, NC = 512 };

static void pack_b(nigh_view b, size_t kc, size_t n, float *out) {
    for (size_t k = 0; k < kc; k++)
        for (size_t j = 0; j < 16; j++) out[k * 16 + j] = j < n ? b.ptr[j * b.col + k * b.row] : 0;
}

/* One tile into out[rows][16]. rows is a constant at every call, so that the sums stay in registers. */
static inline __attribute__((always_inline)) void tile(const size_t rows, nigh_view a, const float *b,
    size_t kc, float *out) {
    __m256 s[6][2];
    const float *p = a.ptr;
    for (size_t i = 0; i < rows; i++) s[i][0] = s[i][1] = _mm256_setzero_ps();
    for (size_t k = 0; k < kc; k++, b += 16, p += a.col) {
        __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
        for (size_t i = 0; i < rows; i++) {
            __m256 x = _mm256_set1_ps(p[i * a.row]);
            s[i][0] = _mm256_fmadd_ps(x, b0, s[i][0]);
            s[i][1] = _mm256_fmadd_ps(x, b1, s[i][1]);
        }
    }
    for (size_t i = 0; i < rows; i++) {
        _mm256_storeu_ps(out + i * 16, s[i][0]);
        _mm256_storeu_ps(out + i * 16 + 8, s[i][1]);
    }
}

static void put(const float *from, size_t rows, float *c, size_t c_row, size_t n, bool add) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) c[i * c_row + j] = from[i * 16 + j] + (add ? c[i * c_row + j] : 0.0f);
}

void nigh_gemm_fma(size_t m, size_t n, size_t k, nigh_view a, nigh_view b, float *c, size_t c_row, bool add,
    void *scratch) {
    float *pb = scratch, out[6 * 16];
    for (size_t j0 = 0; j0 < n; j0 += NC) {
        size_t nc = nigh_min(NC, n - j0);
        for (size_t k0 = 0; k0 < k; k0 += KC) {
            size_t kc = nigh_min(KC, k - k0);
            for (size_t j = 0; j < nc; j += 16)
                pack_b((nigh_view){ b.ptr + k0 * b.row + (j0 + j) * b.col, b.row, b.col }, kc,
                    nigh_min(16, nc - j), pb + j * KC);
            for (size_t j = 0; j < nc; j += 16)
                for (size_t i = 0; i < m;) {
                    nigh_view at = { a.ptr + i * a.row + k0 * a.col, a.row, a.col };
                    size_t rows = m - i >= 6 ? 6 : 1;
                    if (rows == 6) tile(6, at, pb + j * KC, kc, out);
                    else tile(1, at, pb + j * KC, kc, out);
                    put(out, rows, c + i * c_row + j0 + j, c_row, nigh_min(16, nc - j), add || k0 > 0);
                    i += rows;
                }
        }
    }
}
#endif
