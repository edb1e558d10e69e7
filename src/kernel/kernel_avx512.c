/* kernel_avx512.c - AVX-512 with VNNI: sixteen rows in sixteen lanes.
 *
 * A block of 32 columns of a group is eight registers of unsigned bytes, decoded from their planes (pack.c) once and
 * used for up to 16 tokens, whose f32 sums stay in registers. vpdpbusd adds four products u8 x s8 to an int32 lane,
 * exactly; four bytes of a token come as one broadcast. The zero point costs one shift: the sum starts at
 * zero * -(sum of q), which `quantize` has left in the activations. Scales of 16 columns multiply two half sums.
 *
 * Bounds of the int32 sums (they must hold for any bytes of a file; |q| <= 127):
 *     8 bits, IQ4     32 * 255 * 127 + 128 * 32 * 127          < 2^21
 *     2 to 5 bits     32 * 31 * 127 + 16 * 32 * 127            < 2^18
 *     Q6_K            2 * 16 * 63 * 127 * 128 + 2 * 128 * 32 * 16 * 127   < 2^26
 *     Q3_K            2 * 16 * 7 * 127 * 32 + 2 * 32 * 4 * 16 * 127       < 2^21
 *     Q2_K            2 * 16 * 3 * 127 * 15, minima 2 * 15 * 16 * 127     < 2^18
 * The first tile of tokens waits for memory and reads it strictly forward; what is needed 6 KiB later is asked for into
 * L1 (8 bits: 3 KiB, into L2; measured, see docs/performance.md). Further tiles find it near. The loop over blocks of a
 * single token stays a loop: unrolled, it has more loads than the processor's own prefetcher follows. */
#if defined(__AVX512VNNI__)

#include <immintrin.h>

#include "kernel/kernel_isa.h"

typedef __m512 v16;

static inline v16 v16_zero(void) { return _mm512_setzero_ps(); }
static inline v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v16_store(float *p, v16 v) { _mm512_storeu_ps(p, v); }
static inline v16 v16_set1(float f) { return _mm512_set1_ps(f); }
static inline v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static inline v16 v16_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
static inline v16 v16_load_bf16(const void *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static inline v16 v16_load_i8(const void *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
static inline v16 v16_raise(v16 p, v16 n) {
    __m512i shift = _mm512_slli_epi32(_mm512_castps_si512(n), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), shift));
}
static inline float v16_top(v16 v) {
    __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
static inline float v16_sum(v16 v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

enum { LANES_TOKENS = 16, LANES_KEYS = 4, LANES_VALUES = 4, LANES_WIDE = 8, LANES_DIRECT = 8, LANES_FETCH = 2 };
#define LANES_QUERIES 4
#include "kernel/kernel_lanes.h"
#include "kernel/kernel_planes.h"

enum { TILE = 16, AHEAD_BYTES = 6144, AHEAD_BYTES_8 = 3072 };

/* ---- one block, one token ---- */

ALWAYS __m512i dot4(__m512i sum, const __m512i *w, const int8_t *q) {
    for (int j = 0; j < 4; j++) {
        int32_t four;
        memcpy(&four, q + 4 * j, 4);
        sum = _mm512_dpbusd_epi32(sum, w[j], _mm512_set1_epi32(four));
    }
    return sum;
}

ALWAYS __m512 add_block(nigh_form f, const __m512i w[8], const scales *s, const int8_t *q, float da, const int32_t *sum,
                        __m512 acc) {
    __m512 by = _mm512_set1_ps(da);
    __m512i isum;
    if (f.sub == 32) {
        isum = f.zero ? _mm512_slli_epi32(_mm512_set1_epi32(sum[0]), log2_of(f.zero)) : _mm512_setzero_si512();
        isum = dot4(dot4(isum, w, q), w + 4, q + 16);
    } else {
        __m512i low = dot4(_mm512_setzero_si512(), w, q), high = dot4(_mm512_setzero_si512(), w + 4, q + 16);
        isum = _mm512_add_epi32(_mm512_mullo_epi32(low, s->sc[0]), _mm512_mullo_epi32(high, s->sc[1]));
        if (f.zero) isum = _mm512_dpwssd_epi32(isum, s->zero_pair, _mm512_set1_epi32(sum[1]));
    }
    acc = _mm512_add_ps(acc, _mm512_mul_ps(_mm512_cvtepi32_ps(isum), _mm512_mul_ps(s->dw, by)));
    if (!f.has_min) return acc;
    __m512i msum = _mm512_set1_epi32(sum[0]);
    if (f.sub == 16) msum = _mm512_dpwssd_epi32(_mm512_setzero_si512(), s->min_pair, _mm512_set1_epi32(sum[1]));
    return _mm512_add_ps(acc, _mm512_mul_ps(_mm512_cvtepi32_ps(msum), _mm512_mul_ps(s->mw, by)));
}

/* ---- one group, some tokens ---- */

/* Asks for what block i of a span will find further on: an eighth of a whole span. Behind the end of a matrix lies the
 * next one. */
ALWAYS void prefetch(nigh_form f, const uint8_t *at, size_t i) {
    size_t share = nigh_form_span_bytes(f, NIGH_SPAN) / NIGH_SPAN;
    const char *p = (const char *)at + i * share;
    for (size_t n = 0; n < share; n += 64) {
        if (f.bits == 8) _mm_prefetch(p + AHEAD_BYTES_8 + n, _MM_HINT_T1);
        else _mm_prefetch(p + AHEAD_BYTES + n, _MM_HINT_T0);
    }
}

ALWAYS void quant_tile(nigh_type type, size_t tokens, const nigh_mat *m, size_t group, const nigh_acts *a, size_t first,
                       float *out, size_t out_stride) {
    nigh_form f = nigh_form_of(type);
    size_t blocks = m->cols / NIGH_BLOCK, width = nigh_acts_at(a, first, 1) - nigh_acts_at(a, first, 0);
    const uint8_t *at = m->data + group * m->group_bytes;
    const int8_t *q = a->q + nigh_acts_at(a, first, 0) * NIGH_BLOCK;
    const float *da = a->scale + nigh_acts_at(a, first, 0);
    const int32_t *sum = a->sum + 2 * nigh_acts_at(a, first, 0);
    UNSET __m512 acc[TILE];
    UNROLL for (size_t t = 0; t < tokens; t++) acc[t] = _mm512_setzero_ps();
    for (size_t b = 0; b < blocks;) {
        size_t span = nigh_min(NIGH_SPAN, blocks - b);
        const uint8_t *scale = at + span * nigh_form_plane_bytes(f);
        for (size_t i = 0; i < span; i++, b++, q += width * NIGH_BLOCK, da += width, sum += 2 * width) {
            UNSET __m512i w[8];
            if (first == 0) prefetch(f, at, i);
            read_planes(f, at + i * nigh_form_plane_bytes(f), w);
            scales s = read_scales(type, f, scale, i);
            UNROLL for (size_t t = 0; t < tokens; t++)
                acc[t] = add_block(f, w, &s, q + t * NIGH_BLOCK, da[t], sum + 2 * t, acc[t]);
        }
        at += nigh_form_span_bytes(f, span);
    }
    UNROLL for (size_t t = 0; t < tokens; t++) store_group(m, group, acc[t], out + (first + t) * out_stride);
}

ALWAYS __m512 one_span(nigh_type type, size_t span, const uint8_t *at, const int8_t *q, const float *da,
                       const int32_t *sum, __m512 acc) {
    nigh_form f = nigh_form_of(type);
    const uint8_t *scale = at + span * nigh_form_plane_bytes(f);
    for (size_t i = 0; i < span; i++) {
        UNSET __m512i w[8];
        prefetch(f, at, i);
        read_planes(f, at + i * nigh_form_plane_bytes(f), w);
        scales s = read_scales(type, f, scale, i);
        acc = add_block(f, w, &s, q + i * NIGH_BLOCK, da[i], sum + 2 * i, acc);
    }
    return acc;
}

/* The product with a single token: nothing but the weights moves. */
ALWAYS void one_token(nigh_type type, const nigh_mat *m, const nigh_acts *a, float *out, size_t begin, size_t end) {
    size_t blocks = m->cols / NIGH_BLOCK, span_bytes = nigh_form_span_bytes(nigh_form_of(type), NIGH_SPAN);
    for (size_t g = begin; g < end; g++) {
        const uint8_t *at = m->data + g * m->group_bytes;
        __m512 acc = _mm512_setzero_ps();
        size_t b = 0;
        for (; b + NIGH_SPAN <= blocks; b += NIGH_SPAN, at += span_bytes)
            acc = one_span(type, NIGH_SPAN, at, a->q + b * NIGH_BLOCK, a->scale + b, a->sum + 2 * b, acc);
        if (b < blocks)
            acc = one_span(type, blocks - b, at, a->q + b * NIGH_BLOCK, a->scale + b, a->sum + 2 * b, acc);
        store_group(m, g, acc, out);
    }
}

ALWAYS void quant_matmul(nigh_type type, const nigh_mat *m, const nigh_acts *a, float *out, size_t stride,
                         size_t begin, size_t end) {
    if (a->count == 1) {
        one_token(type, m, a, out, begin, end);
        return;
    }
    for (size_t g = begin; g < end; g++) {
        size_t t = 0;
        for (; t + TILE <= a->count; t += TILE) quant_tile(type, TILE, m, g, a, t, out, stride);
        for (; t + 8 <= a->count; t += 8) quant_tile(type, 8, m, g, a, t, out, stride);
        for (; t + 4 <= a->count; t += 4) quant_tile(type, 4, m, g, a, t, out, stride);
        if (t + 2 <= a->count) {
            quant_tile(type, 2, m, g, a, t, out, stride);
            t += 2;
        }
        if (t < a->count) quant_tile(type, 1, m, g, a, t, out, stride);
    }
}

#define DEFINE(name) \
    static void matmul_##name(const nigh_mat *m, const nigh_acts *a, float *out, size_t stride, size_t begin, \
                              size_t end) { \
        quant_matmul(NIGH_TYPE_##name, m, a, out, stride, begin, end); \
    }
NIGH_QUANT_TYPES(DEFINE)
#undef DEFINE

void nigh_matmul_avx512(const nigh_mat *m, const nigh_acts *a, float *out, size_t stride, size_t begin, size_t end) {
    assert(m->cols == a->cols && end * NIGH_ROWS < m->rows + NIGH_ROWS);
    switch (m->type) {
#define CASE(name) case NIGH_TYPE_##name: matmul_##name(m, a, out, stride, begin, end); break;
    NIGH_QUANT_TYPES(CASE)
#undef CASE
    default: lanes_matmul_float(m, a, out, stride, begin, end); break;
    }
}

void nigh_kernels_avx512(nigh_kernels *k) {
    k->name = "avx512";
    loops_fill(k);
    k->quantize = nigh_quantize_avx2;
    k->quantize_blocks = nigh_quantize_blocks_avx2;
    k->matmul = nigh_matmul_avx512;
    k->attend = lanes_attend;
}

#endif
