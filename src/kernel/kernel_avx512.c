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
 * For many tokens, the blocks of a group are decoded once into a desk in the caches, for all of them; a block is then
 * taken register by register, each for 16 tokens. What has a zero point and one scale is raised to 128 there, so that
 * all such types are one loop.
 *
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
static inline v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
static inline v16 v16_raise(v16 p, v16 n) {
    __m512i shift = _mm512_slli_epi32(_mm512_castps_si512(n), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), shift));
}
#define LANES_PARTS
static inline v16 v16_part(v16 x, size_t lo, size_t hi, float other) {
    uint32_t mask = ((1u << hi) - 1) & ~((1u << lo) - 1);
    return _mm512_mask_mov_ps(_mm512_set1_ps(other), (__mmask16)mask, x);
}
static inline void v16_store_low(int16_t *to, v16 a, v16 b) {
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi32_epi16(_mm512_castps_si512(a)));
    _mm256_storeu_si256((__m256i *)(void *)(to + 16), _mm512_cvtepi32_epi16(_mm512_castps_si512(b)));
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

typedef __m512i v16p, v16i;

static inline v16p v16p_load(const void *p) { return _mm512_loadu_si512(p); }
static inline v16p v16p_load_i8(const void *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p)); }
static inline v16p v16p_set1(int32_t pair) { return _mm512_set1_epi32(pair); }
static inline v16i v16i_zero(void) { return _mm512_setzero_si512(); }
static inline v16i v16i_dot(v16i sum, v16p a, v16p b) { return _mm512_dpwssd_epi32(sum, a, b); }
static inline v16 v16_of(v16i v) { return _mm512_cvtepi32_ps(v); }

enum { LANES_TOKENS = 16, LANES_KEYS = 4, LANES_VALUES = 4, LANES_DIRECT = 8, LANES_FETCH = 2 };
#define LANES_QUERIES 4
#include "kernel/kernel_lanes.h"
#include "kernel/kernel_planes.h"

enum { TILE = 16, AHEAD_BYTES = 6144, AHEAD_BYTES_8 = 3072, DESK_BLOCKS = 32, DESK_TOKENS = 6 * TILE };

/* ---- one block, one token ---- */

ALWAYS __m512i dot4(__m512i sum, const __m512i *w, const int8_t *q) {
    for (int j = 0; j < 4; j++) {
        int32_t four;
        memcpy(&four, q + 4 * j, 4);
        sum = _mm512_dpbusd_epi32(sum, w[j], _mm512_set1_epi32(four));
    }
    return sum;
}

/* less: da * (float)sum[0], for types with a minimum and one scale. */
ALWAYS __m512 add_block(nigh_form f, const __m512i w[8], const scales *s, const int8_t *q, float da, const int32_t *sum,
                        float less, __m512 acc) {
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
    if (f.sub == 32) return _mm512_add_ps(acc, _mm512_mul_ps(s->mw, _mm512_set1_ps(less)));
    __m512i msum = _mm512_dpwssd_epi32(_mm512_setzero_si512(), s->min_pair, _mm512_set1_epi32(sum[1]));
    return _mm512_add_ps(acc, _mm512_mul_ps(s->mw, _mm512_mul_ps(by, _mm512_cvtepi32_ps(msum))));
}

/* less[t] = da[t] * (float)sum[2 * t] for `tokens` tokens, at most 16, where a type has a minimum and one scale. */
ALWAYS void token_minima(nigh_form f, size_t tokens, const float *da, const int32_t *sum, float less[TILE]) {
    if (!f.has_min || f.sub != 32) return;
    if (tokens < 6) {
        for (size_t t = 0; t < tokens; t++) less[t] = da[t] * (float)sum[2 * t];
        return;
    }
    uint32_t mask = (uint32_t)(((uint64_t)1 << 2 * tokens) - 1);
    __m512i low = _mm512_maskz_loadu_epi32((__mmask16)mask, sum),
            high = _mm512_maskz_loadu_epi32((__mmask16)(mask >> 16), sum + 16);
    __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    __m512 sums = _mm512_cvtepi32_ps(_mm512_permutex2var_epi32(low, even, high));
    __m512 scale = _mm512_maskz_loadu_ps((__mmask16)((1u << tokens) - 1), da);
    _mm512_storeu_ps(less, _mm512_mul_ps(scale, sums));
    /* From memory one value is free for all lanes; the compiler would take it out of a register instead. */
    __asm__ volatile("" : : "r"(less) : "memory");
}

/* ---- one block, some tokens, one scale for 32 columns: a register of weights for all of them, then the next, so that
 * no product waits for the one before ---- */

ALWAYS void start_sums(nigh_form f, size_t tokens, const int32_t *sum, __m512i *isum) {
    UNROLL for (size_t t = 0; t < tokens; t++)
        isum[t] = f.zero ? _mm512_slli_epi32(_mm512_set1_epi32(sum[2 * t]), log2_of(f.zero)) : _mm512_setzero_si512();
}

ALWAYS void dot_register(size_t tokens, __m512i w, const int8_t *q, __m512i *isum) {
    UNROLL for (size_t t = 0; t < tokens; t++) {
        int32_t four;
        memcpy(&four, q + NIGH_BLOCK * t, 4);
        isum[t] = _mm512_dpbusd_epi32(isum[t], w, _mm512_set1_epi32(four));
    }
}

ALWAYS void scale_sums(nigh_form f, size_t tokens, const __m512i *isum, __m512 dw, __m512 mw, const float *da,
                       const float *less, __m512 *acc) {
    UNROLL for (size_t t = 0; t < tokens; t++) {
        __m512 by = _mm512_mul_ps(dw, _mm512_set1_ps(da[t]));
        acc[t] = _mm512_add_ps(acc[t], _mm512_mul_ps(_mm512_cvtepi32_ps(isum[t]), by));
        if (f.has_min) acc[t] = _mm512_add_ps(acc[t], _mm512_mul_ps(mw, _mm512_set1_ps(less[t])));
    }
}

/* What a token has: q at 32 bytes from the one before. */
ALWAYS void add_tokens(nigh_form f, size_t tokens, const __m512i w[8], const scales *s, const int8_t *q,
                       const float *da, const int32_t *sum, const float *less, __m512 *acc) {
    UNSET __m512i isum[8];
    start_sums(f, tokens, sum, isum);
    UNROLL for (int j = 0; j < 8; j++) dot_register(tokens, w[j], q + 4 * j, isum);
    scale_sums(f, tokens, isum, s->dw, s->mw, da, less, acc);
}

/* ---- one group, some tokens ---- */

/* Asks for what block i of a span will find further on: an eighth of a whole span. Behind the end of a matrix lies the
 * next one. */
ALWAYS void prefetch(nigh_form f, const uint8_t *at, size_t i, bool one) {
    size_t share = nigh_form_span_bytes(f, NIGH_SPAN) / NIGH_SPAN;
    const char *p = (const char *)at + i * share;
    for (size_t n = 0; n < share; n += 64) {
        if (f.bits == 8 && one) _mm_prefetch(p + AHEAD_BYTES_8 + n, _MM_HINT_T1);
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
            UNSET float less[TILE];
            if (first == 0) prefetch(f, at, i, false);
            token_minima(f, tokens, da, sum, less);
            read_planes(f, at + i * nigh_form_plane_bytes(f), w);
            scales s = read_scales(type, f, scale, i);
            /* 16 sums, 8 registers of weights and 4 of integers are what fits. */
            size_t step = f.sub == 16 ? 1 : tokens > 8 ? 4 : tokens;
            UNROLL for (size_t t = 0; t < tokens; t += step) {
                if (f.sub == 32) add_tokens(f, step, w, &s, q + t * NIGH_BLOCK, da + t, sum + 2 * t, less + t, acc + t);
                else acc[t] = add_block(f, w, &s, q + t * NIGH_BLOCK, da[t], sum + 2 * t, 0, acc[t]);
            }
        }
        at += nigh_form_span_bytes(f, span);
    }
    UNROLL for (size_t t = 0; t < tokens; t++) store_group(m, group, acc[t], out + (first + t) * out_stride);
}

/* Up to 8 of the tokens from `first` on; how many it took. A tile for each number would take minutes to compile. */
ALWAYS size_t small_tile(nigh_type type, const nigh_mat *m, size_t group, const nigh_acts *a, size_t first, float *out,
                         size_t stride) {
    size_t left = a->count - first, tokens = left >= 8 ? 8 : left >= 6 ? 6 : nigh_min(left, 4);
    switch (tokens) {
#define CASE(n) case n: quant_tile(type, n, m, group, a, first, out, stride); break;
    CASE(8) CASE(6) CASE(4) CASE(3) CASE(2) CASE(1)
#undef CASE
    default: assert(false);
    }
    return tokens;
}

ALWAYS __m512 one_span(nigh_type type, size_t span, const uint8_t *at, const int8_t *q, const float *da,
                       const int32_t *sum, __m512 acc) {
    nigh_form f = nigh_form_of(type);
    const uint8_t *scale = at + span * nigh_form_plane_bytes(f);
    for (size_t i = 0; i < span; i++) {
        UNSET __m512i w[8];
        prefetch(f, at, i, true);
        read_planes(f, at + i * nigh_form_plane_bytes(f), w);
        scales s = read_scales(type, f, scale, i);
        acc = add_block(f, w, &s, q + i * NIGH_BLOCK, da[i], sum + 2 * i, da[i] * (float)sum[2 * i], acc);
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

/* ---- many tokens, one scale for 32 columns ---- */

typedef struct {
    uint8_t w[DESK_BLOCKS][NIGH_PLANE];
    __m512 dw[DESK_BLOCKS], mw[DESK_BLOCKS];
} desk;

/* Blocks first..first+count-1 of a group. */
ALWAYS void decode(nigh_type type, const nigh_mat *m, size_t group, size_t first, size_t count, desk *d) {
    nigh_form f = nigh_form_of(type);
    const uint8_t *at = m->data + group * m->group_bytes;
    char lift = (char)(f.has_min ? 0 : 128 - f.zero);
    size_t blocks = m->cols / NIGH_BLOCK;
    for (size_t i = 0; i < count; i++) {
        size_t b = first + i, in_span = b % NIGH_SPAN, span = nigh_min(NIGH_SPAN, blocks - (b - in_span));
        const uint8_t *scale = at + nigh_form_plane_at(f, b - in_span) + span * nigh_form_plane_bytes(f);
        UNSET __m512i w[8];
        read_planes(f, at + nigh_form_plane_at(f, b), w);
        for (int j = 0; j < 8; j++)
            _mm512_store_si512(d->w[i] + 64 * j, lift ? _mm512_add_epi8(w[j], _mm512_set1_epi8(lift)) : w[j]);
        scales s = read_scales(type, f, scale, in_span);
        d->dw[i] = s.dw;
        if (f.has_min) d->mw[i] = s.mw;
    }
}

/* One block for 16 tokens. */
ALWAYS void desk_block(nigh_form f, const uint8_t *w, __m512 dw, __m512 mw, const int8_t *q, const float *da,
                       const int32_t *sum, __m512 acc[TILE]) {
    UNSET __m512i isum[TILE];
    UNSET float less[TILE];
    token_minima(f, TILE, da, sum, less);
    start_sums(f, TILE, sum, isum);
    UNROLL for (int r = 0; r < 8; r++) dot_register(TILE, load(w + 64 * r), q + 4 * r, isum);
    scale_sums(f, TILE, isum, dw, mw, da, less, acc);
}

/* Blocks first..first+count-1, which lie on the desk, for tokens t..t+15; what came before stands in out. */
ALWAYS void desk_tile(nigh_form f, const desk *d, const nigh_acts *a, size_t t, size_t first, size_t count, float *out,
                      size_t stride) {
    size_t at = nigh_acts_at(a, t, first);
    const int8_t *q = a->q + at * NIGH_BLOCK;
    const float *da = a->scale + at;
    const int32_t *sum = a->sum + 2 * at;
    UNSET __m512 acc[TILE];
    out += t * stride;
    UNROLL for (size_t n = 0; n < TILE; n++)
        acc[n] = first ? _mm512_loadu_ps(out + n * stride) : _mm512_setzero_ps();
    for (size_t i = 0; i < count; i++, q += TILE * NIGH_BLOCK, da += TILE, sum += 2 * TILE)
        desk_block(f, d->w[i], d->dw[i], f.has_min ? d->mw[i] : d->dw[i], q, da, sum, acc);
    UNROLL for (size_t n = 0; n < TILE; n++) _mm512_storeu_ps(out + n * stride, acc[n]);
}

/* Weights that the next desk will hold; each tile asks for an equal part of them. */
typedef struct { const uint8_t *at; size_t bytes; } weights_ahead;

ALWAYS void desk_tiles(nigh_form f, const desk *d, const nigh_acts *a, size_t tiles, size_t first, size_t count,
                       float *out, size_t stride, weights_ahead next) {
    size_t part = nigh_round_up(next.bytes / tiles, 64);
    for (size_t t = 0; t < tiles; t++, next.at += part) {
        for (size_t n = 0; n < part; n += 64) _mm_prefetch((const char *)next.at + n, _MM_HINT_T1);
        desk_tile(f, d, a, t * TILE, first, count, out, stride);
    }
}

#define DESK_TILES(name, ...) \
    static __attribute__((noinline)) void name(const desk *d, const nigh_acts *a, size_t tiles, size_t first, \
                                               size_t count, float *out, size_t stride, weights_ahead next) { \
        desk_tiles((nigh_form){ __VA_ARGS__ }, d, a, tiles, first, count, out, stride, next); \
    }
DESK_TILES(tiles_zero, .sub = 32, .zero = 128)
DESK_TILES(tiles_min, .sub = 32, .has_min = true)
#undef DESK_TILES

/* A group whose 16 rows all exist, for the first `tiles` tiles of 16 tokens. */
ALWAYS void desk_group(nigh_type type, const nigh_mat *m, size_t group, const nigh_acts *a, size_t tiles, float *out,
                       size_t stride) {
    nigh_form f = nigh_form_of(type);
    size_t blocks = m->cols / NIGH_BLOCK, runs = (blocks + DESK_BLOCKS - 1) / DESK_BLOCKS;
    size_t length = (blocks + runs - 1) / runs;
    UNSET _Alignas(64) desk d;
    out += group * NIGH_ROWS;
    for (size_t first = 0; first < blocks; first += length) {
        size_t count = nigh_min(length, blocks - first);
        bool last = first + count == blocks;
        const uint8_t *at = m->data + group * m->group_bytes;
        weights_ahead next = { last ? at + m->group_bytes : at + nigh_form_plane_at(f, first + count),
                               length * nigh_form_span_bytes(f, NIGH_SPAN) / NIGH_SPAN };
        decode(type, m, group, first, count, &d);
        (f.has_min ? tiles_min : tiles_zero)(&d, a, tiles, first, count, out, stride, next);
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
        if (nigh_form_of(type).sub == 32 && a->count >= DESK_TOKENS && (g + 1) * NIGH_ROWS <= m->rows) {
            desk_group(type, m, g, a, a->count / TILE, out, stride);
            t = a->count / TILE * TILE;
        }
        for (; t + TILE <= a->count; t += TILE) quant_tile(type, TILE, m, g, a, t, out, stride);
        while (t < a->count) t += small_tile(type, m, g, a, t, out, stride);
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
