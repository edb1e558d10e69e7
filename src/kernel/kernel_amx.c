/* kernel_amx.c - AMX: sixteen tokens times sixteen rows in one instruction, for batches (prompts, many sequences).
 *
 * A packed block of 32 columns is, once its planes are bytes, what the instruction wants as its second operand: eight
 * rows of 64 bytes, row j holding columns 4j..4j+3 of 16 rows. The activations of 16 tokens lie in tiles of 16 x 32
 * bytes, its first operand. tdpbssd adds the 16 x 16 sums of 32 products to int32 exactly, and the scales are applied
 * to those sums in AVX-512, block by block in rising order, as the definition says. Types whose scales stand for 16
 * columns take two products of half the depth.
 *
 * Eight blocks (a span) of one group of 16 rows are decoded into bytes and f32 scales once and used for up to 128
 * tokens, whose f32 sums wait in memory from span to span and stay in registers within one. The product of a block
 * runs three steps ahead of its scaling (one step where it takes two products), so that neither waits for the other:
 *
 *     step s:     load A, load B, multiply, store C to sums[(s + 3) % 4]      the tile unit
 *                 sums[s % 4] -> f32, times scales, added                     the vector units
 *
 * Buffers of sums and slots of weights follow each other every 1,024 bytes, four buffers in all, so that what is
 * loaded in a step and what was just stored differ in the low 12 bits of their addresses.
 *
 * Everything about tile registers is asm of our own: _tile_loadconfig of gcc 12 does not see the stores to the
 * configuration. It is loaded for each call and released at its end, so that no thread carries 8 KiB of tiles about.
 *
 * The integer sums are below 2^24 for all types (kernel_avx512.c has the bounds: 16,646,144 is the largest), so where
 * a sub-scale is multiplied in f32 here, product and sum are exact, and equal to the definition's integers.
 *
 * Tested with an emulator of these instructions (tests/amx_emulator.h); never timed: docs/performance.md. */
#if defined(__AMX_INT8__) && defined(__AVX512VNNI__)

#include <immintrin.h>

#include "kernel/kernel_isa.h"
#include "kernel/kernel_planes.h"

enum {
    BUFFERS = 4,                    /* of sums                                                               */
    TILES_MAX = 8,                  /* of 16 tokens that share a decoded span                                */
    TOKENS_MIN = 8,                 /* fewer tokens wait for memory anyway: AVX-512                          */
    PREFETCH_BYTES = 4096
};

/* A block of weights, ready: signed bytes with the zero point taken away, and its scales as f32. */
typedef struct {
    int8_t w[NIGH_PLANE];
    float dw[NIGH_ROWS], mw[NIGH_ROWS];
    float sc[2][NIGH_ROWS], mn[2][NIGH_ROWS];       /* only with scales of 16 columns */
    uint8_t gap[128];
} slot;

typedef struct {
    int32_t sums[BUFFERS][NIGH_TILE][NIGH_ROWS];
    slot slots[NIGH_SPAN];
    float acc[TILES_MAX][NIGH_TILE][NIGH_ROWS];
} desk;

_Static_assert(sizeof(slot) == 1024 && offsetof(desk, slots) % 4096 == 0, "see the top of this file");

/* A run of tokens: `full` tiles of 16, then one of `rest`. */
typedef struct {
    const nigh_acts *a;
    size_t first, full, rest, blocks;
} chunk;

/* Products of a step, and its first buffer. */
ALWAYS size_t products_of(nigh_form f) { return NIGH_BLOCK / f.sub; }
ALWAYS size_t buffer_of(nigh_form f, size_t step) { return step * products_of(f) % BUFFERS; }
ALWAYS size_t tiles_of(const chunk *c) { return c->full + (c->rest > 0); }

/* ---- tile registers: 0 and 1 sums, 2 and 3 activations, 4 and 5 weights, two of each in turn; 6 and 7 sums and
 * activations of the tile of `rest` tokens ---- */

typedef struct {
    uint8_t palette, start_row, zero[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static void tiles_begin(nigh_form f, size_t rest) {
    uint8_t rows = rest ? (uint8_t)rest : NIGH_TILE, deep = (uint8_t)f.sub;
    tile_config config = { .palette = 1,
                           .row_bytes = { 64, 64, deep, deep, 64, 64, 64, deep },
                           .rows = { NIGH_TILE, NIGH_TILE, NIGH_TILE, NIGH_TILE, deep / 4, deep / 4, rows, rows } };
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
}

static void tiles_end(void) { __asm__ volatile("tilerelease"); }

/* out = the 16 x 16 sums of one product. q: 32 bytes from token to token. */
#define TILE_PRODUCT(sums, activations, weights) \
    __asm__ volatile("tilezero %%tmm" #sums "\n\t" \
                     "tileloadd (%[w],%[wide],1), %%tmm" #weights "\n\t" \
                     "tileloadd (%[q],%[block],1), %%tmm" #activations "\n\t" \
                     "tdpbssd %%tmm" #weights ", %%tmm" #activations ", %%tmm" #sums "\n\t" \
                     "tilestored %%tmm" #sums ", (%[out],%[wide],1)" \
                     : : [w] "r"(w), [q] "r"(q), [out] "r"(out), [wide] "r"((size_t)64), \
                       [block] "r"((size_t)NIGH_BLOCK) : "memory")

ALWAYS void product(const int8_t *w, const int8_t *q, int32_t *out, size_t kind) {
    if (kind == 0) TILE_PRODUCT(0, 2, 4);
    else if (kind == 1) TILE_PRODUCT(1, 3, 5);
    else TILE_PRODUCT(6, 7, 4);
}

/* ---- one span of one group, decoded ---- */

ALWAYS void split_pairs(__m512i pairs, float out[2][NIGH_ROWS]) { /* int16 pairs, the first one low */
    _mm512_storeu_ps(out[0], _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(pairs, 16), 16)));
    _mm512_storeu_ps(out[1], _mm512_cvtepi32_ps(_mm512_srai_epi32(pairs, 16)));
}

/* at: the span; span: its blocks. What comes PREFETCH_BYTES later is asked for into L2. */
ALWAYS void decode_span(nigh_type type, nigh_form f, const uint8_t *at, size_t span, slot *slots) {
    const uint8_t *scale = at + span * nigh_form_plane_bytes(f);
    for (size_t n = 0; n < nigh_form_span_bytes(f, span); n += 64)
        _mm_prefetch((const char *)at + PREFETCH_BYTES + n, _MM_HINT_T1);
    for (size_t i = 0; i < span; i++) {
        UNSET __m512i w[8];
        read_planes(f, at + i * nigh_form_plane_bytes(f), w);
        for (int j = 0; j < 8; j++)
            _mm512_store_si512(slots[i].w + 64 * j, _mm512_sub_epi8(w[j], _mm512_set1_epi8((char)f.zero)));
        scales s = read_scales(type, f, scale, i);
        _mm512_store_ps(slots[i].dw, s.dw);
        if (f.has_min) _mm512_store_ps(slots[i].mw, s.mw);
        if (f.sub != 16) continue;
        for (int h = 0; h < 2; h++) _mm512_store_ps(slots[i].sc[h], _mm512_cvtepi32_ps(s.sc[h]));
        if (f.has_min) split_pairs(s.min_pair, slots[i].mn);
    }
}

/* ---- the products, ahead of their scaling ---- */

/* The next product to start: blocks i..span-1 of a tile, then the next tile's. at: counts blocks of activations. */
typedef struct { size_t at, i, step, left; } ahead;

ALWAYS void start_next(nigh_form f, bool part, const chunk *c, desk *d, size_t span, ahead *n) {
    size_t kind = part ? 2 : n->step % 2, width = part ? c->rest : NIGH_TILE;
    const int8_t *q = c->a->q + n->at * NIGH_BLOCK, *w = d->slots[n->i].w;
    int32_t *out = &d->sums[buffer_of(f, n->step)][0][0];
    product(w, q, out, kind);
    if (f.sub == 16) product(w + 4 * 64, q + 16, out + NIGH_TILE * NIGH_ROWS, kind == 2 ? 2 : 1 - kind);
    n->at += width, n->i++, n->step++, n->left--;
    if (n->i < span) return;
    n->i = 0;
    n->at += (c->blocks - span) * width;
}

/* ---- one step of scaling ---- */

/* What the tokens of a tile bring to one block; of tokens that do not exist, zeros. minus: minus the sums of their
 * halves; with one scale for 32 columns, minus the sum times da. */
typedef struct { const float *da; float held[NIGH_TILE], minus[2][NIGH_TILE]; } token_scales;

ALWAYS void read_tokens(nigh_form f, bool part, const chunk *c, size_t at, token_scales *s) {
    size_t count = part ? c->rest : NIGH_TILE;
    s->da = c->a->scale + at;
    if (part) {
        _mm512_storeu_ps(s->held, _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), s->da));
        s->da = s->held;
    }
    if (f.has_min) {
        uint32_t mask = (uint32_t)(((uint64_t)1 << 2 * count) - 1);
        const int32_t *sum = c->a->sum + 2 * at;
        __m512i low = _mm512_maskz_loadu_epi32((__mmask16)mask, sum),
                high = _mm512_maskz_loadu_epi32((__mmask16)(mask >> 16), sum + 16);
        __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        if (f.sub == 16) split_pairs(_mm512_permutex2var_epi32(low, odd, high), s->minus);
        else _mm512_storeu_ps(s->minus[0],
                              _mm512_mul_ps(_mm512_loadu_ps(s->da),
                                            _mm512_cvtepi32_ps(_mm512_permutex2var_epi32(low, even, high))));
    }
    /* From memory one value is free for all lanes; the compiler would take it out of a register instead. */
    if (part || f.has_min) __asm__ volatile("" : : "r"(s) : "memory");
}

ALWAYS __m512 sums_as_floats(const int32_t *p) { return _mm512_cvtepi32_ps(_mm512_load_si512(p)); }

/* acc += (float)isum * (dw * da), and mw * (da * (float)msum), for 16 tokens. */
ALWAYS void scale_step(nigh_form f, const slot *w, int32_t (*sums)[NIGH_TILE][NIGH_ROWS], const token_scales *s,
                       __m512 acc[NIGH_TILE]) {
    __m512 dw = _mm512_load_ps(w->dw), mw = f.has_min ? _mm512_load_ps(w->mw) : dw;
    UNROLL for (size_t t = 0; t < NIGH_TILE; t++) {
        __m512 da = _mm512_set1_ps(s->da[t]), isum = sums_as_floats(sums[0][t]);
        if (f.sub == 16)
            isum = _mm512_add_ps(_mm512_mul_ps(isum, _mm512_load_ps(w->sc[0])),
                                 _mm512_mul_ps(sums_as_floats(sums[1][t]), _mm512_load_ps(w->sc[1])));
        acc[t] = _mm512_add_ps(acc[t], _mm512_mul_ps(isum, _mm512_mul_ps(dw, da)));
        if (!f.has_min) continue;
        __m512 less = _mm512_set1_ps(s->minus[0][t]);
        if (f.sub == 16)
            less = _mm512_mul_ps(da, _mm512_add_ps(_mm512_mul_ps(less, _mm512_load_ps(w->mn[0])),
                                                   _mm512_mul_ps(_mm512_set1_ps(s->minus[1][t]),
                                                                 _mm512_load_ps(w->mn[1]))));
        acc[t] = _mm512_add_ps(acc[t], _mm512_mul_ps(mw, less));
    }
}

/* ---- one group, one chunk of tokens ---- */

/* `tiles` tiles from tile t on (part: the one of `rest` tokens), `span` blocks from b on. The steps are one row,
 * tile after tile: while a tile's last blocks are scaled, the next tile's first products run. */
ALWAYS void span_products(nigh_form f, bool part, const chunk *c, desk *d, size_t t, size_t tiles, size_t b,
                          size_t span) {
    size_t at = (c->first + t * NIGH_TILE) * c->blocks + b * (part ? c->rest : NIGH_TILE), step = 0;
    ahead next = { at, 0, 0, tiles * span };
    for (size_t lead = BUFFERS / products_of(f) - 1; lead && next.left; lead--) start_next(f, part, c, d, span, &next);
    for (size_t end = t + tiles; t < end; t++, at += (c->blocks - span) * NIGH_TILE) {
        UNSET __m512 acc[NIGH_TILE];
        UNROLL for (size_t n = 0; n < NIGH_TILE; n++) acc[n] = _mm512_load_ps(d->acc[t][n]);
        for (size_t i = 0; i < span; i++, step++, at += part ? c->rest : NIGH_TILE) {
            if (next.left) start_next(f, part, c, d, span, &next);
            UNSET token_scales s;
            read_tokens(f, part, c, at, &s);
            scale_step(f, &d->slots[i], d->sums + buffer_of(f, step), &s, acc);
        }
        UNROLL for (size_t n = 0; n < NIGH_TILE; n++) _mm512_store_ps(d->acc[t][n], acc[n]);
    }
}

static void store_rows(const nigh_mat *m, size_t group, const chunk *c, const desk *d, float *out, size_t stride) {
    size_t row = group * NIGH_ROWS, rows = nigh_min(m->rows - row, NIGH_ROWS);
    __mmask16 mask = (__mmask16)((1u << rows) - 1);
    for (size_t n = 0; n < c->full * NIGH_TILE + c->rest; n++) {
        __m512 sums = _mm512_load_ps(d->acc[n / NIGH_TILE][n % NIGH_TILE]);
        _mm512_mask_storeu_ps(out + (c->first + n) * stride + row, mask, sums);
    }
}

ALWAYS void amx_matmul(nigh_type type, const nigh_mat *m, const nigh_acts *a, float *out, size_t stride, size_t begin,
                       size_t end) {
    nigh_form f = nigh_form_of(type);
    size_t blocks = m->cols / NIGH_BLOCK;
    UNSET _Alignas(64) desk d;
    if (a->count % NIGH_TILE) memset(d.sums, 0, sizeof d.sums);     /* rows of tokens that do not exist are read */
    tiles_begin(f, a->count % NIGH_TILE);
    for (size_t first = 0; first < a->count; first += TILES_MAX * NIGH_TILE) {
        size_t count = nigh_min(a->count - first, TILES_MAX * NIGH_TILE);
        chunk c = { a, first, count / NIGH_TILE, count % NIGH_TILE, blocks };
        for (size_t g = begin; g < end; g++) {
            const uint8_t *at = m->data + g * m->group_bytes;
            memset(d.acc, 0, tiles_of(&c) * sizeof d.acc[0]);
            for (size_t b = 0, span; b < blocks; b += span, at += nigh_form_span_bytes(f, span)) {
                span = nigh_min(NIGH_SPAN, blocks - b);
                decode_span(type, f, at, span, d.slots);
                if (c.full) span_products(f, false, &c, &d, 0, c.full, b, span);
                if (c.rest) span_products(f, true, &c, &d, c.full, 1, b, span);
            }
            store_rows(m, g, &c, &d, out, stride);
        }
    }
    tiles_end();
}

#define DEFINE(name) \
    static __attribute__((noinline)) void amx_##name(const nigh_mat *m, const nigh_acts *a, float *out, size_t stride, \
                                                     size_t begin, size_t end) { \
        amx_matmul(NIGH_TYPE_##name, m, a, out, stride, begin, end); \
    }
NIGH_QUANT_TYPES(DEFINE)
#undef DEFINE

static void matmul_amx(const nigh_mat *m, const nigh_acts *a, float *out, size_t stride, size_t begin, size_t end) {
    assert(m->cols == a->cols && end * NIGH_ROWS < m->rows + NIGH_ROWS);
    if (a->count < TOKENS_MIN || begin == end) {
        nigh_matmul_avx512(m, a, out, stride, begin, end);
        return;
    }
    switch (m->type) {
#define CASE(name) case NIGH_TYPE_##name: amx_##name(m, a, out, stride, begin, end); break;
    NIGH_QUANT_TYPES(CASE)
#undef CASE
    default: nigh_matmul_avx512(m, a, out, stride, begin, end); break;
    }
}

void nigh_kernels_amx(nigh_kernels *k) {
    k->name = "amx";
    k->matmul = matmul_amx;
}

#endif
