/* gemm_avx512.c - the product of gemm.h in f32 with AVX-512.
 * B is packed in panels of 32 columns, [kc][32]; A is read where it lies (each step broadcasts one value of
 * each of 12 rows). The tile is 12 rows x 32 columns: 24 sums. Rows left over are done as 8, 4, 2, 1. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernel/gemm.h"

enum { KC = 256, NC = 512 };

static __mmask16 first(size_t n) { return (__mmask16)((1u << (n < 16 ? n : 16)) - 1); }

static void pack_b(nigh_view b, size_t kc, size_t n, float *out) {
    __mmask16 m0 = first(n), m1 = n > 16 ? first(n - 16) : 0;
    if (b.col == 1) {
        for (size_t k = 0; k < kc; k++) {
            _mm512_storeu_ps(out + k * 32, _mm512_maskz_loadu_ps(m0, b.ptr + k * b.row));
            _mm512_storeu_ps(out + k * 32 + 16, _mm512_maskz_loadu_ps(m1, b.ptr + k * b.row + 16));
        }
        return;
    }
    for (size_t j = 0; j < 32; j++)
        for (size_t k = 0; k < kc; k++) out[k * 32 + j] = j < n ? b.ptr[j * b.col + k * b.row] : 0;
}

/* One tile. rows is a constant at every call, so that the sums stay in registers. */
static inline __attribute__((always_inline)) void tile(const size_t rows, nigh_view a, const float *b,
    size_t kc, float *c, size_t c_row, size_t n, bool add) {
    __m512 s[12][2];
    const float *p = a.ptr;
    __mmask16 m0 = first(n), m1 = n > 16 ? first(n - 16) : 0;
    for (size_t i = 0; i < rows; i++) s[i][0] = s[i][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < kc; k++, b += 32, p += a.col) {
        __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + 16);
        for (size_t i = 0; i < rows; i++) {
            __m512 x = _mm512_set1_ps(p[i * a.row]);
            s[i][0] = _mm512_fmadd_ps(x, b0, s[i][0]);
            s[i][1] = _mm512_fmadd_ps(x, b1, s[i][1]);
        }
    }
    for (size_t i = 0; i < rows; i++, c += c_row) {
        if (add) {
            s[i][0] = _mm512_add_ps(s[i][0], _mm512_maskz_loadu_ps(m0, c));
            s[i][1] = _mm512_add_ps(s[i][1], _mm512_maskz_loadu_ps(m1, c + 16));
        }
        _mm512_mask_storeu_ps(c, m0, s[i][0]);
        _mm512_mask_storeu_ps(c + 16, m1, s[i][1]);
    }
}

void nigh_gemm_avx512(size_t m, size_t n, size_t k, nigh_view a, nigh_view b, float *c, size_t c_row, bool add,
    void *scratch) {
    float *pb = scratch;
    for (size_t j0 = 0; j0 < n; j0 += NC) {
        size_t nc = nigh_min(NC, n - j0);
        for (size_t k0 = 0; k0 < k; k0 += KC) {
            size_t kc = nigh_min(KC, k - k0);
            for (size_t j = 0; j < nc; j += 32)
                pack_b((nigh_view){ b.ptr + k0 * b.row + (j0 + j) * b.col, b.row, b.col }, kc,
                    nigh_min(32, nc - j), pb + j * KC);
            for (size_t j = 0; j < nc; j += 32) {
                size_t i = 0, nj = nigh_min(32, nc - j);
                float *out = c + j0 + j;
#define ROWS(r) for (; i + (r) <= m; i += (r)) { \
                    nigh_view at = { a.ptr + i * a.row + k0 * a.col, a.row, a.col }; \
                    tile(r, at, pb + j * KC, kc, out + i * c_row, c_row, nj, add || k0 > 0); \
                }
                ROWS(12) ROWS(8) ROWS(4) ROWS(2) ROWS(1)
#undef ROWS
            }
        }
    }
}
#endif
