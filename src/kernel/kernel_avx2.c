/* kernel_avx2.c - AVX2: eight rows in eight lanes, so a group of 16 is done in two halves: for several tokens one after
 * the other, because the weights of a half fill eight of 16 registers; for one token block by block, because that
 * reads memory strictly forward.
 *
 * There is no instruction here that multiplies bytes into int32. vpmaddubsw multiplies u8 x s8 and adds pairs into
 * int16 with saturation, so it is used only where no sum can reach 32,767 (|q| <= 127), and vpmaddwd widens then:
 *
 *     2 to 4 bits     8 products of pairs: 8 * 2 * 15 * 127 = 30,480     (16 columns: 4 of them)
 *     5 bits          4: 4 * 2 * 31 * 127 = 31,496
 *     6 bits          2: 2 * 2 * 63 * 127 = 32,004
 *     8 bits, IQ4     |w| times the token with w's sign: 2 * 128 * 127 = 32,512, widened at once
 *
 * The int32 sums have the bounds of kernel_avx512.c. */
#if defined(__AVX2__)

#include <immintrin.h>

#include "kernel/kernel_isa.h"

typedef struct { __m256 a, b; } v16;

static inline v16 v16_zero(void) { return (v16){ _mm256_setzero_ps(), _mm256_setzero_ps() }; }
static inline v16 v16_load(const float *p) { return (v16){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) }; }
static inline void v16_store(float *p, v16 v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
static inline v16 v16_set1(float f) { return (v16){ _mm256_set1_ps(f), _mm256_set1_ps(f) }; }
static inline v16 v16_add(v16 x, v16 y) { return (v16){ _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b) }; }
static inline v16 v16_mul(v16 x, v16 y) { return (v16){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) }; }

static inline __m256 halves_to_floats(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline v16 v16_load_f16(const uint8_t *p) { return (v16){ halves_to_floats(p), halves_to_floats(p + 16) }; }
static inline __m256 bf16_to_floats(const uint8_t *p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
static inline v16 v16_load_bf16(const uint8_t *p) { return (v16){ bf16_to_floats(p), bf16_to_floats(p + 16) }; }
static inline v16 v16_sub(v16 x, v16 y) { return (v16){ _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b) }; }
static inline v16 v16_max(v16 x, v16 y) { return (v16){ _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b) }; }
static inline __m256 raise(__m256 p, __m256 n) {
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(n), 23)));
}
static inline v16 v16_raise(v16 p, v16 n) { return (v16){ raise(p.a, n.a), raise(p.b, n.b) }; }
#define LANES_PARTS
static inline __m256 part_of(__m256 x, __m256i lanes, size_t lo, size_t hi, float other) {
    __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)lo), lanes);
    __m256i seen = _mm256_andnot_si256(below, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)hi), lanes));
    return _mm256_blendv_ps(_mm256_set1_ps(other), x, _mm256_castsi256_ps(seen));
}
static inline v16 v16_part(v16 x, size_t lo, size_t hi, float other) {
    return (v16){ part_of(x.a, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), lo, hi, other),
                  part_of(x.b, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15), lo, hi, other) };
}
static inline void store_low(int16_t *to, v16 v) {
    const __m256i low = _mm256_set1_epi32(0xffff);
    __m256i a = _mm256_and_si256(_mm256_castps_si256(v.a), low), b = _mm256_and_si256(_mm256_castps_si256(v.b), low);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8));
}
static inline void v16_store_low(int16_t *to, v16 a, v16 b) {
    store_low(to, a);
    store_low(to + 16, b);
}
static inline float v16_top(v16 v) {
    __m256 a = _mm256_max_ps(v.a, v.b);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
static inline float v16_sum(v16 v) {
    __m256 a = _mm256_add_ps(v.a, v.b);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

typedef struct { __m256i a, b; } v16p, v16i;

static inline __m256i load_256(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
static inline __m256i bytes_as_words(const uint8_t *p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline v16p v16p_load(const uint8_t *p) { return (v16p){ load_256(p), load_256(p + 32) }; }
static inline v16p v16p_load_i8(const uint8_t *p) { return (v16p){ bytes_as_words(p), bytes_as_words(p + 16) }; }
static inline v16p v16p_set1(int32_t pair) { return (v16p){ _mm256_set1_epi32(pair), _mm256_set1_epi32(pair) }; }
static inline v16i v16i_zero(void) { return (v16i){ _mm256_setzero_si256(), _mm256_setzero_si256() }; }
static inline v16i v16i_dot(v16i s, v16p x, v16p y) {
    return (v16i){ _mm256_add_epi32(s.a, _mm256_madd_epi16(x.a, y.a)),
                   _mm256_add_epi32(s.b, _mm256_madd_epi16(x.b, y.b)) };
}
static inline v16 v16_of(v16i v) { return (v16){ _mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b) }; }

enum { LANES_TOKENS = 4, LANES_KEYS = 1, LANES_VALUES = 1, LANES_DIRECT = 4, LANES_FETCH = 2 };
#define LANES_QUERIES 4
#include "kernel/kernel_lanes.h"

enum { TILE = 4, AHEAD_BYTES = 6144 };

/* ---- planes to bytes: as in kernel_avx512.c, for 8 of the 16 rows; p points at those rows ---- */

ALWAYS __m256i load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }

ALWAYS __m256i move_bits(__m256i v, int from, int to) {
    if (from > to) return _mm256_srli_epi16(v, from - to);
    return from < to ? _mm256_slli_epi16(v, to - from) : v;
}
ALWAYS __m256i merge(__m256i low, __m256i high, char mask) {
    return _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi8(mask)));
}

/* Register j of a block. bits and table are constants wherever this is inlined. */
ALWAYS __m256i read_register(nigh_form f, const uint8_t *p, int j) {
    __m256i w;
    if (f.bits == 8) return _mm256_xor_si256(load(p + 64 * j), _mm256_set1_epi8(-128));     /* as signed bytes */
    if (f.bits >= 4) w = _mm256_and_si256(move_bits(load(p + 64 * (j % 4)), j / 4 * 4, 0), _mm256_set1_epi8(15));
    else w = _mm256_and_si256(move_bits(load(p + 64 * (j / 4)), j % 4 * 2, 0), _mm256_set1_epi8(3));
    if (f.bits == 5) w = merge(w, move_bits(load(p + 256), j, 4), 0x10);
    if (f.bits == 6) w = merge(w, move_bits(load(p + 256 + 64 * (j / 4)), j % 4 * 2, 4), 0x30);
    if (f.bits == 3) w = merge(w, move_bits(load(p + 128), j, 2), 0x04);
    if (f.table) {
        __m128i values = _mm_loadu_si128((const __m128i *)(const void *)nigh_iq4_values);
        w = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), w);                    /* signed bytes too */
    }
    return w;
}

/* ---- scales of 8 rows; h: which half of the 16 ---- */

typedef struct {
    __m256 dw, mw;
    __m256i sc[2];          /* int32: scale of each half of the columns                */
    __m256i zero_pair;      /* int16 pairs: zero * scale of the halves, first one low  */
    __m256i min_pair;       /* int16 pairs: minima of the halves                       */
} scales;

ALWAYS __m256 bytes_as_floats(const uint8_t *p, bool is_signed) {
    __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v));
}

ALWAYS void read_half_scales(nigh_form f, const uint8_t *p, scales *s) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m256i pair;
    if (f.has_min) {
        pair = _mm256_cvtepu8_epi16(_mm_and_si128(bytes, _mm_set1_epi8(15)));
        s->min_pair = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15)));
    } else {
        pair = _mm256_cvtepi8_epi16(bytes);
        s->zero_pair = _mm256_mullo_epi16(pair, _mm256_set1_epi16(f.zero));
    }
    s->sc[0] = _mm256_srai_epi32(_mm256_slli_epi32(pair, 16), 16);
    s->sc[1] = _mm256_srai_epi32(pair, 16);
}

/* p: scales of a span; i: which of its blocks. */
ALWAYS scales read_scales(nigh_type type, nigh_form f, const uint8_t *p, size_t i, size_t h) {
    scales s = { 0 };
    if (f.columns == NIGH_BLOCK) p += i * nigh_form_scale_bytes(f);
    s.dw = halves_to_floats(p + 16 * h);
    if (f.has_min) s.mw = halves_to_floats(p + 32 + 16 * h);
    p += f.has_min ? 64 : 32;
    if (f.sub == 16) {
        read_half_scales(f, p + 32 * i + 16 * h, &s);
    } else if (f.has_sub && f.has_min) {
        s.dw = _mm256_mul_ps(s.dw, bytes_as_floats(p + 32 * i + 8 * h, false));
        s.mw = _mm256_mul_ps(s.mw, bytes_as_floats(p + 32 * i + 16 + 8 * h, false));
    } else if (f.has_sub) {
        s.dw = _mm256_mul_ps(s.dw, bytes_as_floats(p + 16 * i + 8 * h, true));
    } else if (type == NIGH_TYPE_Q4_1 || type == NIGH_TYPE_Q5_1) {
        s.mw = _mm256_xor_ps(s.mw, _mm256_set1_ps(-0.0f));
    }
    return s;
}

/* ---- one block, one token ---- */

ALWAYS __m256i widen(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

ALWAYS __m256i four_of(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, 4);
    return _mm256_set1_epi32(four);
}

/* int16 sums of `count` registers from `j` on: the caller knows that they fit. */
ALWAYS __m256i pair_sums(const __m256i *w, const int8_t *q, int j, int count) {
    __m256i sum = _mm256_maddubs_epi16(w[j], four_of(q + 4 * j));
    for (int i = j + 1; i < j + count; i++) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[i], four_of(q + 4 * i)));
    return sum;
}

/* Registers j..j+3, int32. */
ALWAYS __m256i half_sums(nigh_form f, const __m256i *w, const int8_t *q, int j) {
    if (f.bits <= 5) return widen(pair_sums(w, q, j, 4));
    return _mm256_add_epi32(widen(pair_sums(w, q, j, 2)), widen(pair_sums(w, q, j + 2, 2)));
}

ALWAYS __m256i signed_sums(const __m256i *w, const int8_t *q) {
    __m256i sum = _mm256_setzero_si256();
    for (int j = 0; j < 8; j++) {
        __m256i signed_q = _mm256_sign_epi8(four_of(q + 4 * j), w[j]);
        sum = _mm256_add_epi32(sum, widen(_mm256_maddubs_epi16(_mm256_abs_epi8(w[j]), signed_q)));
    }
    return sum;
}

ALWAYS __m256i block_sums(nigh_form f, const __m256i *w, const scales *s, const int8_t *q, const int32_t *sum) {
    if (f.bits == 8 || f.table) return signed_sums(w, q);
    if (f.sub == 16) {
        __m256i isum = _mm256_add_epi32(_mm256_mullo_epi32(half_sums(f, w, q, 0), s->sc[0]),
                                        _mm256_mullo_epi32(half_sums(f, w, q, 4), s->sc[1]));
        return f.zero ? _mm256_add_epi32(isum, _mm256_madd_epi16(s->zero_pair, _mm256_set1_epi32(sum[1]))) : isum;
    }
    __m256i isum =
        f.bits == 4 ? widen(pair_sums(w, q, 0, 8)) : _mm256_add_epi32(half_sums(f, w, q, 0), half_sums(f, w, q, 4));
    return f.zero ? _mm256_add_epi32(isum, _mm256_set1_epi32(sum[0] * f.zero)) : isum;
}

ALWAYS __m256 add_block(nigh_form f, const __m256i *w, const scales *s, const int8_t *q, float da, const int32_t *sum,
                        __m256 acc) {
    __m256 by = _mm256_set1_ps(da);
    __m256i isum = block_sums(f, w, s, q, sum);
    acc = _mm256_add_ps(acc, _mm256_mul_ps(_mm256_cvtepi32_ps(isum), _mm256_mul_ps(s->dw, by)));
    if (!f.has_min) return acc;
    __m256 less = _mm256_set1_ps(da * (float)sum[0]);
    if (f.sub == 16)
        less = _mm256_mul_ps(by, _mm256_cvtepi32_ps(_mm256_madd_epi16(s->min_pair, _mm256_set1_epi32(sum[1]))));
    return _mm256_add_ps(acc, _mm256_mul_ps(s->mw, less));
}

/* ---- one group, some tokens ---- */

/* Asks for what block i of a span will find AHEAD_BYTES further on: an eighth of a whole span. */
ALWAYS void prefetch(nigh_form f, const uint8_t *at, size_t i) {
    size_t share = nigh_form_span_bytes(f, NIGH_SPAN) / NIGH_SPAN;
    for (size_t n = 0; n < share; n += 64) _mm_prefetch((const char *)at + AHEAD_BYTES + i * share + n, _MM_HINT_T0);
}

ALWAYS __m256 one_half(nigh_type type, const uint8_t *plane, const uint8_t *scale, size_t i, size_t h, const int8_t *q,
                       float da, const int32_t *sum, __m256 acc) {
    nigh_form f = nigh_form_of(type);
    UNSET __m256i w[8];
    for (int j = 0; j < 8; j++) w[j] = read_register(f, plane + 32 * h, j);
    scales s = read_scales(type, f, scale, i, h);
    return add_block(f, w, &s, q, da, sum, acc);
}

/* The product with a single token: both halves of a block in turn, so that the weights are walked once. */
ALWAYS void one_token(nigh_type type, const nigh_mat *m, const nigh_acts *a, float *out, size_t begin, size_t end) {
    nigh_form f = nigh_form_of(type);
    size_t blocks = m->cols / NIGH_BLOCK, plane_bytes = nigh_form_plane_bytes(f);
    for (size_t g = begin; g < end; g++) {
        const uint8_t *at = m->data + g * m->group_bytes;
        v16 acc = v16_zero();
        for (size_t b = 0; b < blocks;) {
            size_t span = nigh_min(NIGH_SPAN, blocks - b);
            const uint8_t *scale = at + span * plane_bytes;
            for (size_t i = 0; i < span; i++, b++) {
                const int8_t *q = a->q + b * NIGH_BLOCK;
                prefetch(f, at, i);
                acc.a = one_half(type, at + i * plane_bytes, scale, i, 0, q, a->scale[b], a->sum + 2 * b, acc.a);
                acc.b = one_half(type, at + i * plane_bytes, scale, i, 1, q, a->scale[b], a->sum + 2 * b, acc.b);
            }
            at += nigh_form_span_bytes(f, span);
        }
        store_group(m, g, acc, out);
    }
}

/* The sums of 8 rows for `tokens` tokens. */
ALWAYS void half_tile(nigh_type type, size_t tokens, const nigh_mat *m, size_t group, size_t h, const nigh_acts *a,
                      size_t first, __m256 acc[TILE]) {
    nigh_form f = nigh_form_of(type);
    size_t blocks = m->cols / NIGH_BLOCK, width = nigh_acts_at(a, first, 1) - nigh_acts_at(a, first, 0);
    const uint8_t *at = m->data + group * m->group_bytes;
    const int8_t *q = a->q + nigh_acts_at(a, first, 0) * NIGH_BLOCK;
    const float *da = a->scale + nigh_acts_at(a, first, 0);
    const int32_t *sum = a->sum + 2 * nigh_acts_at(a, first, 0);
    UNROLL for (size_t t = 0; t < tokens; t++) acc[t] = _mm256_setzero_ps();
    for (size_t b = 0; b < blocks;) {
        size_t span = nigh_min(NIGH_SPAN, blocks - b);
        const uint8_t *scale = at + span * nigh_form_plane_bytes(f);
        for (size_t i = 0; i < span; i++, b++, q += width * NIGH_BLOCK, da += width, sum += 2 * width) {
            UNSET __m256i w[8];
            for (int j = 0; j < 8; j++) w[j] = read_register(f, at + i * nigh_form_plane_bytes(f) + 32 * h, j);
            scales s = read_scales(type, f, scale, i, h);
            if (h == 0 && first == 0) prefetch(f, at, i);
            UNROLL for (size_t t = 0; t < tokens; t++)
                acc[t] = add_block(f, w, &s, q + t * NIGH_BLOCK, da[t], sum + 2 * t, acc[t]);
        }
        at += nigh_form_span_bytes(f, span);
    }
}

ALWAYS void quant_tile(nigh_type type, size_t tokens, const nigh_mat *m, size_t group, const nigh_acts *a, size_t first,
                       float *out, size_t out_stride) {
    UNSET __m256 low[TILE], high[TILE];
    half_tile(type, tokens, m, group, 0, a, first, low);
    half_tile(type, tokens, m, group, 1, a, first, high);
    UNROLL for (size_t t = 0; t < tokens; t++)
        store_group(m, group, (v16){ low[t], high[t] }, out + (first + t) * out_stride);
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

static void avx2_matmul(const nigh_mat *m, const nigh_acts *a, float *out, size_t stride, size_t begin, size_t end) {
    assert(m->cols == a->cols && end * NIGH_ROWS < m->rows + NIGH_ROWS);
    switch (m->type) {
#define CASE(name) case NIGH_TYPE_##name: matmul_##name(m, a, out, stride, begin, end); break;
    NIGH_QUANT_TYPES(CASE)
#undef CASE
    default: lanes_matmul_float(m, a, out, stride, begin, end); break;
    }
}

void nigh_kernels_avx2(nigh_kernels *k) {
    k->name = "avx2";
    loops_fill(k);
    k->pack = nigh_pack_avx2;
    k->quantize = nigh_quantize_avx2;
    k->quantize_blocks = nigh_quantize_blocks_avx2;
    k->matmul = avx2_matmul;
    k->attend = lanes_attend;
}

#endif
