/* gemm_bf16_avx512.c - the product of gemm.h with AVX-512 bf16 dot products (VDPBF16PS: two products a lane).
 * f32 inputs are rounded to bf16 while they are packed; sums stay f32.
 *
 * Blocking: KC columns of k at a time, NC columns of C. Packed as pairs of neighbouring k, one pair = 32 bits:
 *   B: panels of 32 columns, [kc/2][32] pairs  (two vectors a step)
 *   A, k contiguous: [rows][kc/2] pairs        (each step broadcasts one pair of each row)
 *   A, i contiguous: [kc/2][rows] pairs
 * The tile is 12 rows x 32 columns: 24 sums, 2 loads of B, 12 broadcasts a step. Rows left over are done as 8,
 * 4, 2, 1. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernel/gemm.h"

enum { KC = 256, NC = 512, MC = 512 };

typedef struct { const uint32_t *ptr; size_t row, step; } pairs;

static __m256i to_bf16(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

/* One vector of 16 pairs out of 16 values of row k and 16 of row k + 1. */
static __m512i zip(__m512 even, __m512 odd) {
    __m512i lo = _mm512_cvtepu16_epi32(to_bf16(even)), hi = _mm512_cvtepu16_epi32(to_bf16(odd));
    return _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16));
}

static __mmask16 first(size_t n) { return (__mmask16)((1u << (n < 16 ? n : 16)) - 1); }

/* 16 x 16 transposition of 32-bit items. */
static void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

/* Columns `n` (at most 32) of B, j contiguous, as one panel. */
static void pack_b_rows(const float *b, size_t stride, size_t kc, size_t n, uint32_t *out) {
    __mmask16 m0 = first(n), m1 = n > 16 ? first(n - 16) : 0;
    for (size_t k = 0; k < kc; k += 2, out += 32) {
        const float *e = b + k * stride;
        __m512 zero = _mm512_setzero_ps();
        __m512 e0 = _mm512_maskz_loadu_ps(m0, e), e1 = _mm512_maskz_loadu_ps(m1, e + 16);
        __m512 o0 = zero, o1 = zero;
        if (k + 1 < kc) {
            o0 = _mm512_maskz_loadu_ps(m0, e + stride);
            o1 = _mm512_maskz_loadu_ps(m1, e + stride + 16);
        }
        _mm512_storeu_si512(out, zip(e0, o0));
        _mm512_storeu_si512(out + 16, zip(e1, o1));
    }
}

/* 32 values of one row, rounded: 16 pairs. */
static __m512i row_pairs(const float *p, size_t left) {
    __m512 lo = _mm512_maskz_loadu_ps(first(left), p);
    __m512 hi = _mm512_maskz_loadu_ps(left > 16 ? first(left - 16) : 0, p + 16);
    return (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
}

/* Columns `n` (at most 32) of B, k contiguous, as one panel. */
static void pack_b_turned(const float *b, size_t stride, size_t kc, size_t n, uint32_t *out) {
    for (size_t k = 0; k < kc; k += 32) {
        size_t left = kc - k, steps = nigh_min(16, (left + 1) / 2);
        for (size_t half = 0; half < 2; half++) {
            __m512i r[16];
            for (size_t j = 0; j < 16; j++) {
                size_t col = half * 16 + j;
                r[j] = col < n ? row_pairs(b + col * stride + k, left) : _mm512_setzero_si512();
            }
            transpose(r);
            for (size_t s = 0; s < steps; s++) _mm512_storeu_si512(out + (k / 2 + s) * 32 + half * 16, r[s]);
        }
    }
}

static pairs pack_a(nigh_view a, size_t mc, size_t kc, uint32_t *out) {
    if (a.col == 1) {
        for (size_t i = 0; i < mc; i++)
            for (size_t k = 0; k < kc; k += 32)
                _mm512_storeu_si512(out + i * (KC / 2) + k / 2, row_pairs(a.ptr + i * a.row + k, kc - k));
        return (pairs){ out, KC / 2, 1 };
    }
    for (size_t k = 0; k < kc; k += 2) {
        const float *e = a.ptr + k * a.col, *o = e + a.col;
        for (size_t i = 0; i < mc; i += 16) {
            __mmask16 m = first(mc - i);
            __m512 odd = k + 1 < kc ? _mm512_maskz_loadu_ps(m, o + i) : _mm512_setzero_ps();
            _mm512_storeu_si512(out + k / 2 * MC + i, zip(_mm512_maskz_loadu_ps(m, e + i), odd));
        }
    }
    return (pairs){ out, 1, MC };
}

/* One tile. rows is a constant at every call, so that the sums stay in registers. */
static inline __attribute__((always_inline)) void tile(const size_t rows, const uint32_t *a, size_t row,
    size_t step, const uint32_t *b, size_t steps, float *c, size_t c_row, size_t n, bool add) {
    __m512 s[12][2];
    __mmask16 m0 = first(n), m1 = n > 16 ? first(n - 16) : 0;
    for (size_t i = 0; i < rows; i++) s[i][0] = s[i][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < steps; k++, b += 32, a += step) {
        __m512bh b0 = (__m512bh)_mm512_loadu_si512(b), b1 = (__m512bh)_mm512_loadu_si512(b + 16);
        for (size_t i = 0; i < rows; i++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[i * row]);
            s[i][0] = _mm512_dpbf16_ps(s[i][0], x, b0);
            s[i][1] = _mm512_dpbf16_ps(s[i][1], x, b1);
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

static void tiles(pairs a, size_t mc, const uint32_t *b, size_t steps, float *c, size_t c_row, size_t n,
    bool add) {
    size_t i = 0;
#define ROWS(r) for (; i + (r) <= mc; i += (r)) { \
        const uint32_t *p = a.ptr + i * a.row; \
        if (a.step == 1) tile(r, p, KC / 2, 1, b, steps, c + i * c_row, c_row, n, add); \
        else tile(r, p, 1, MC, b, steps, c + i * c_row, c_row, n, add); \
    }
    ROWS(12) ROWS(8) ROWS(4) ROWS(2) ROWS(1)
#undef ROWS
}

void nigh_gemm_bf16(size_t m, size_t n, size_t k, nigh_view a, nigh_view b, float *c, size_t c_row, bool add,
    void *scratch) {
    uint32_t *pb = scratch, *pa = pb + (size_t)KC / 2 * NC;
    for (size_t j0 = 0; j0 < n; j0 += NC) {
        size_t nc = nigh_min(NC, n - j0);
        for (size_t k0 = 0; k0 < k; k0 += KC) {
            size_t kc = nigh_min(KC, k - k0), steps = (kc + 1) / 2;
            for (size_t j = 0; j < nc; j += 32) {
                const float *from = b.ptr + k0 * b.row + (j0 + j) * b.col;
                if (b.col == 1) pack_b_rows(from, b.row, kc, nigh_min(32, nc - j), pb + j * (KC / 2));
                else pack_b_turned(from, b.col, kc, nigh_min(32, nc - j), pb + j * (KC / 2));
            }
            for (size_t i0 = 0; i0 < m; i0 += MC) {
                size_t mc = nigh_min(MC, m - i0);
                pairs packed = pack_a((nigh_view){ a.ptr + i0 * a.row + k0 * a.col, a.row, a.col }, mc, kc, pa);
                for (size_t j = 0; j < nc; j += 32)
                    tiles(packed, mc, pb + j * (KC / 2), steps, c + i0 * c_row + j0 + j, c_row,
                        nigh_min(32, nc - j), add || k0 > 0);
            }
        }
    }
}
#endif
