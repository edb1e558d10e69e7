/* kernel_wasm.c - WebAssembly: four rows in the four lanes of a v128, so a group of 16 is four quads.
 *
 * Two builds of this file. With simd128 alone there is no product of bytes; i32x4.dot_i16x8 multiplies int16 and adds
 * pairs into int32. So the bytes of a register are taken as int16 lanes: the even columns by a mask, the odd ones by
 * a shift, and the token's bytes come as pairs of int16, four bytes splatted over the lanes:
 *
 *     w      c0 c1 c2 c3 | next row ...         w & 0x00ff   c0 c2      w >> 8   c1 c3
 *     even   q0 q2 | q0 q2 | ...                odd   q1 q3 | q1 q3 | ...
 *
 * Nibbles of one token need no second step: the four nibbles of a 16-bit lane are cut out where they stand, times 1,
 * 16, 256 and (by a shift) 1, and the token's numbers are made 256, 16, 1 and 256 times as large, so that every product
 * is 256 times what is meant; one shift at the end takes it off again. |sum| <= 32 * 15 * 127 * 256 + the zero
 * point's 32 * 127 * 8 * 256 < 2^25.
 *
 * With relaxed SIMD i32x4.relaxed_dot_i8x16_i7x16_add adds four products of bytes. What it does with a second operand
 * over 127 differs from engine to engine, so that operand is always 0..127, where all agree (the pairs that some of
 * them add in int16 stay below 2 * 128 * 127 = 32,512):
 *
 *     2 to 6 bits     the token is the signed operand, the weight u <= 63 the small one
 *     8 bits, IQ4     |q| is the small one. Of a negative q the sign goes to the weight, as ~w = -w - 1 (which exists
 *                     for -128, too); the sum then lacks |q| once for each negative q, and starts with it.
 *
 * The token's numbers are put in order once (up to WIDE blocks of them) and used for all groups of a call, whose
 * weights are read strictly forward: there is no instruction that asks ahead. Bounds of the int32 sums:
 * kernel_avx512.c. */
#include <wasm_simd128.h>

#include "kernel/kernel_isa.h"

typedef struct { v128_t p[4]; } v16;

#define EACH(expression) ((v16){ { expression(0), expression(1), expression(2), expression(3) } })
#define ZERO(i) wasm_f32x4_const_splat(0.0f)
static inline v16 v16_zero(void) { return EACH(ZERO); }
#define LOAD(i) wasm_v128_load(p + 4 * (i))
static inline v16 v16_load(const float *p) { return EACH(LOAD); }
#define STORE(i) wasm_v128_store(p + 4 * (i), v.p[i])
static inline void v16_store(float *p, v16 v) { STORE(0), STORE(1), STORE(2), STORE(3); }
static inline v16 v16_set1(float f) {
    v128_t v = wasm_f32x4_splat(f);
    return (v16){ { v, v, v, v } };
}
#define ADD(i) wasm_f32x4_add(a.p[i], b.p[i])
static inline v16 v16_add(v16 a, v16 b) { return EACH(ADD); }
#define MUL(i) wasm_f32x4_mul(a.p[i], b.p[i])
static inline v16 v16_mul(v16 a, v16 b) { return EACH(MUL); }

/* Four f16. The bits, moved to where f32 has them, mean 2^112 times less, subnormals too; infinities and NaNs get
 * their exponent back. */
static inline v128_t halves_to_floats(const uint8_t *p) {
    v128_t bits = wasm_v128_and(wasm_i32x4_shl(wasm_i32x4_load16x4(p), 13), wasm_u32x4_const_splat(0x8fffe000u));
    v128_t top = wasm_u32x4_const_splat(0x0f800000u);
    v128_t special = wasm_i32x4_eq(wasm_v128_and(bits, top), top);
    v128_t value = wasm_f32x4_mul(bits, wasm_f32x4_const_splat(0x1p112f));
    return wasm_v128_or(value, wasm_v128_and(special, wasm_u32x4_const_splat(0x7f800000u)));
}
#define HALF(i) halves_to_floats(p + 8 * (i))
static inline v16 v16_load_f16(const uint8_t *p) { return EACH(HALF); }
#define BRAIN(i) wasm_i32x4_shl(wasm_u32x4_load16x4(p + 8 * (i)), 16)
static inline v16 v16_load_bf16(const uint8_t *p) { return EACH(BRAIN); }
#define SUB(i) wasm_f32x4_sub(a.p[i], b.p[i])
static inline v16 v16_sub(v16 a, v16 b) { return EACH(SUB); }
#define LARGER(i) wasm_f32x4_pmax(b.p[i], a.p[i])       /* b < a ? a : b */
static inline v16 v16_max(v16 a, v16 b) { return EACH(LARGER); }
#define RAISE(i) wasm_i32x4_add(p.p[i], wasm_i32x4_shl(n.p[i], 23))
static inline v16 v16_raise(v16 p, v16 n) { return EACH(RAISE); }
static inline float v16_top(v16 v) {
    v128_t a = wasm_f32x4_pmax(wasm_f32x4_pmax(v.p[0], v.p[2]), wasm_f32x4_pmax(v.p[1], v.p[3]));
    a = wasm_f32x4_pmax(a, wasm_i32x4_shuffle(a, a, 2, 3, 2, 3));
    return wasm_f32x4_extract_lane(wasm_f32x4_pmax(a, wasm_i32x4_shuffle(a, a, 1, 1, 1, 1)), 0);
}
static inline float v16_sum(v16 v) {
    v128_t a = wasm_f32x4_add(wasm_f32x4_add(v.p[0], v.p[2]), wasm_f32x4_add(v.p[1], v.p[3]));
    a = wasm_f32x4_add(a, wasm_i32x4_shuffle(a, a, 2, 3, 2, 3));
    return wasm_f32x4_extract_lane(wasm_f32x4_add(a, wasm_i32x4_shuffle(a, a, 1, 1, 1, 1)), 0);
}

typedef struct { v128_t p[4]; } v16p, v16i;

#define PAIRS_AT(i) wasm_v128_load(p + 16 * (i))
static inline v16p v16p_load(const uint8_t *p) {
    return (v16p){ { PAIRS_AT(0), PAIRS_AT(1), PAIRS_AT(2), PAIRS_AT(3) } };
}
#define BYTE_PAIRS_AT(i) wasm_i16x8_load8x8(p + 8 * (i))
static inline v16p v16p_load_i8(const uint8_t *p) {
    return (v16p){ { BYTE_PAIRS_AT(0), BYTE_PAIRS_AT(1), BYTE_PAIRS_AT(2), BYTE_PAIRS_AT(3) } };
}
static inline v16p v16p_set1(int32_t pair) {
    v128_t v = wasm_i32x4_splat(pair);
    return (v16p){ { v, v, v, v } };
}
static inline v16i v16i_zero(void) {
    v128_t v = wasm_i32x4_const_splat(0);
    return (v16i){ { v, v, v, v } };
}
#define DOT(i) wasm_i32x4_add(s.p[i], wasm_i32x4_dot_i16x8(a.p[i], b.p[i]))
static inline v16i v16i_dot(v16i s, v16p a, v16p b) { return (v16i){ { DOT(0), DOT(1), DOT(2), DOT(3) } }; }
#define AS_FLOAT(i) wasm_f32x4_convert_i32x4(v.p[i])
static inline v16 v16_of(v16i v) { return EACH(AS_FLOAT); }

enum { LANES_TOKENS = 2, LANES_KEYS = 1, LANES_VALUES = 1, LANES_DIRECT = 2, LANES_FETCH = 2 };
#define LANES_QUERIES 2
#include "kernel/kernel_lanes.h"

#if defined(__wasm_relaxed_simd__)
enum { RELAXED = 1 };
#else
enum { RELAXED = 0 };
#endif
enum { TILE = 4, QUADS = 4, WIDE = 256 /* blocks that are made ready at once */ };

/* ---- planes to bytes: as in kernel_avx512.c, for 4 of the 16 rows; p points at those rows ---- */

ALWAYS v128_t splat_mask(int byte) { return wasm_i8x16_splat((int8_t)byte); }

ALWAYS v128_t move_bits(v128_t v, int from, int to) {
    if (from > to) return wasm_u16x8_shr(v, (uint32_t)(from - to));
    return from < to ? wasm_i16x8_shl(v, (uint32_t)(to - from)) : v;
}
ALWAYS v128_t merge(v128_t low, v128_t high, int mask) {
    return wasm_v128_or(low, wasm_v128_and(high, splat_mask(mask)));
}

/* Are the weights signed bytes with no zero point, or unsigned ones? */
ALWAYS bool is_signed(nigh_form f) { return RELAXED && (f.bits == 8 || f.table); }

/* Register j of a block; with is_signed and 8 bits still with the sign bit flipped (`order` has it in its mask). */
ALWAYS v128_t read_register(nigh_form f, const uint8_t *p, int j) {
    v128_t w;
    if (f.bits == 8) return wasm_v128_load(p + 64 * j);
    if (f.bits >= 4)
        w = wasm_v128_and(move_bits(wasm_v128_load(p + 64 * (j % 4)), j / 4 * 4, 0), splat_mask(15));
    else w = wasm_v128_and(move_bits(wasm_v128_load(p + 64 * (j / 4)), j % 4 * 2, 0), splat_mask(3));
    if (f.bits == 5) w = merge(w, move_bits(wasm_v128_load(p + 256), j, 4), 0x10);
    if (f.bits == 6) w = merge(w, move_bits(wasm_v128_load(p + 256 + 64 * (j / 4)), j % 4 * 2, 4), 0x30);
    if (f.bits == 3) w = merge(w, move_bits(wasm_v128_load(p + 128), j, 2), 0x04);
    if (f.table) {
        v128_t values = wasm_v128_load(nigh_iq4_values);
        w = wasm_i8x16_swizzle(is_signed(f) ? values : wasm_v128_xor(values, splat_mask(0x80)), w);
    }
    return w;
}

/* ---- scales of 4 rows; h: which quad of the 16 rows ---- */

typedef struct {
    v128_t dw, mw;
    v128_t sc[2];           /* int32: scale of each half of the columns                */
    v128_t zero_pair;       /* int16 pairs: zero * scale of the halves, first one low  */
    v128_t min_pair;        /* int16 pairs: minima of the halves                       */
} scales;

ALWAYS v128_t bytes_as_floats(const uint8_t *p, bool with_sign) {
    v128_t v = wasm_v128_load32_zero(p);
    if (with_sign) return wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(wasm_i16x8_extend_low_i8x16(v)));
    return wasm_f32x4_convert_i32x4(wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(v)));
}

ALWAYS void read_half_scales(nigh_form f, const uint8_t *p, scales *s) {
    v128_t pair;
    if (f.has_min) {
        v128_t wide = wasm_u16x8_load8x8(p);
        pair = wasm_v128_and(wide, wasm_i16x8_const_splat(15));
        s->min_pair = wasm_u16x8_shr(wide, 4);
    } else {
        pair = wasm_i16x8_load8x8(p);
        s->zero_pair = wasm_i16x8_mul(pair, wasm_i16x8_splat(f.zero));
    }
    s->sc[0] = wasm_i32x4_shr(wasm_i32x4_shl(pair, 16), 16);
    s->sc[1] = wasm_i32x4_shr(pair, 16);
}

/* p: scales of a span; i: which of its blocks. */
ALWAYS scales read_scales(nigh_type type, nigh_form f, const uint8_t *p, size_t i, size_t h) {
    scales s = { 0 };
    if (f.columns == NIGH_BLOCK) p += i * nigh_form_scale_bytes(f);
    s.dw = halves_to_floats(p + 8 * h);
    if (f.has_min) s.mw = halves_to_floats(p + 32 + 8 * h);
    p += f.has_min ? 64 : 32;
    if (f.sub == 16) {
        read_half_scales(f, p + 32 * i + 8 * h, &s);
    } else if (f.has_sub && f.has_min) {
        s.dw = wasm_f32x4_mul(s.dw, bytes_as_floats(p + 32 * i + 4 * h, false));
        s.mw = wasm_f32x4_mul(s.mw, bytes_as_floats(p + 32 * i + 16 + 4 * h, false));
    } else if (f.has_sub) {
        s.dw = wasm_f32x4_mul(s.dw, bytes_as_floats(p + 16 * i + 4 * h, true));
    } else if (type == NIGH_TYPE_Q4_1 || type == NIGH_TYPE_Q5_1) {
        s.mw = wasm_f32x4_neg(s.mw);
    }
    return s;
}

/* ---- a block of a token, in the order in which the products want it ---- */

typedef enum { PAIRS, NIBBLES, BYTES, SIGNS } order;

typedef struct {
    int32_t q[16];                  /* what is splatted over the lanes                           */
    int32_t start;                  /* what the sum of the block begins with (types of 32 columns) */
    int32_t sum, halves;
    float scale;
} ready;

ALWAYS order order_of(nigh_form f, size_t tokens) {
    if (RELAXED) return is_signed(f) ? SIGNS : BYTES;
    return tokens == 1 && f.bits == 4 && !f.table ? NIBBLES : PAIRS;
}

/* 16 columns: q, into the even and odd halves of `to`. */
static void order_half(order o, v128_t q, int32_t *to, size_t half) {
    v128_t even = wasm_i16x8_shr(wasm_i16x8_shl(q, 8), 8), odd = wasm_i16x8_shr(q, 8);
    v128_t negative = wasm_i8x16_shr(q, 7);
    switch (o) {
    case PAIRS:
        wasm_v128_store(to + 4 * half, even);
        wasm_v128_store(to + 8 + 4 * half, odd);
        break;
    case NIBBLES:       /* the first half stands in the low nibbles, the second in the high ones */
        wasm_v128_store(to + 4 * half, half ? wasm_i16x8_shl(even, 4) : wasm_i16x8_shl(q, 8));
        wasm_v128_store(to + 8 + 4 * half, half ? wasm_v128_and(q, wasm_i16x8_const_splat(-256)) : odd);
        break;
    case BYTES: wasm_v128_store(to + 4 * half, q); break;
    case SIGNS:
        wasm_v128_store(to + 4 * half, wasm_i8x16_abs(q));
        wasm_v128_store(to + 8 + 4 * half, negative);
        break;
    }
}

/* The sum of |q| over the negative q of a block. */
static int32_t negative_sum(const int8_t *q) {
    v128_t sum = wasm_i32x4_const_splat(0);
    for (size_t i = 0; i < NIGH_BLOCK; i += 16) {
        v128_t negative = wasm_i8x16_neg(wasm_i8x16_min(wasm_v128_load(q + i), wasm_i8x16_const_splat(0)));
        sum = wasm_i32x4_add(sum, wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16(negative)));
    }
    sum = wasm_i32x4_add(sum, wasm_i32x4_shuffle(sum, sum, 2, 3, 2, 3));
    return wasm_i32x4_extract_lane(sum, 0) + wasm_i32x4_extract_lane(sum, 1);
}

/* Blocks first..first+count-1 of `tokens` tokens; r: [count][tokens] */
ALWAYS void make_ready(nigh_form f, size_t tokens, const nigh_acts *a, size_t token, size_t first, size_t count,
                       ready *r) {
    order o = order_of(f, tokens);
    size_t at = nigh_acts_at(a, token, first), width = nigh_acts_at(a, token, first + 1) - at;
    for (size_t i = 0; i < count; i++, at += width)
        for (size_t t = 0; t < tokens; t++, r++) {
            const int8_t *q = a->q + (at + t) * NIGH_BLOCK;
            for (size_t half = 0; half < 2; half++) order_half(o, wasm_v128_load(q + 16 * half), r->q, half);
            if (o == SIGNS && f.bits == 8)
                for (size_t n = 8; n < 16; n++) r->q[n] ^= (int32_t)0x80808080u;
            r->sum = a->sum[2 * (at + t)];
            r->halves = a->sum[2 * (at + t) + 1];
            r->scale = a->scale[at + t];
            r->start = o == SIGNS ? negative_sum(q) : r->sum * f.zero * (o == NIBBLES ? 256 : 1);
        }
}

/* ---- one block ---- */

ALWAYS v128_t splat(const int32_t *p) { return wasm_v128_load32_splat(p); }

ALWAYS v128_t add_dot(v128_t sum, v128_t a, v128_t b) { return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(a, b)); }

/* Adds register j: of `quads` quads, for `tokens` tokens. isum: [tokens][quads] */
ALWAYS void add_register(nigh_form f, size_t tokens, size_t quads, const uint8_t *p, int j, const ready *r,
                         v128_t *isum) {
    UNSET v128_t first[TILE], second[TILE];
    UNROLL for (size_t t = 0; t < tokens; t++) first[t] = splat(&r[t].q[j]);
    if (!RELAXED || is_signed(f))
        UNROLL for (size_t t = 0; t < tokens; t++) second[t] = splat(&r[t].q[8 + j]);
    UNROLL for (size_t h = 0; h < quads; h++) {
        v128_t w = read_register(f, p + 16 * h, j);
#if defined(__wasm_relaxed_simd__)
        UNROLL for (size_t t = 0; t < tokens; t++) {
            v128_t *sum = &isum[t * quads + h], a = is_signed(f) ? wasm_v128_xor(w, second[t]) : first[t];
            *sum = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(a, is_signed(f) ? first[t] : w, *sum);
        }
#else
        v128_t even = wasm_v128_and(w, wasm_i16x8_const_splat(0xff)), odd = wasm_u16x8_shr(w, 8);
        UNROLL for (size_t t = 0; t < tokens; t++) {
            v128_t *sum = &isum[t * quads + h];
            *sum = add_dot(add_dot(*sum, even, first[t]), odd, second[t]);
        }
#endif
    }
}

/* A block of nibbles for one token and four quads; 256 times what is meant. */
ALWAYS void add_nibbles(const uint8_t *p, const int32_t *q, v128_t *isum) {
    UNROLL for (int j = 0; j < 4; j++) {
        v128_t low_even = splat(q + j), high_even = splat(q + 4 + j), low_odd = splat(q + 8 + j),
               high_odd = splat(q + 12 + j);
        UNROLL for (size_t h = 0; h < QUADS; h++) {
            v128_t w = wasm_v128_load(p + 64 * j + 16 * h), sum = isum[h];
            sum = add_dot(sum, wasm_v128_and(w, wasm_i16x8_const_splat(0x000f)), low_even);
            sum = add_dot(sum, wasm_v128_and(w, wasm_i16x8_const_splat(0x00f0)), high_even);
            sum = add_dot(sum, wasm_v128_and(w, wasm_i16x8_const_splat(0x0f00)), low_odd);
            isum[h] = add_dot(sum, wasm_u16x8_shr(w, 12), high_odd);
        }
    }
}

/* The exact sums of one block: isum [tokens][quads]. */
ALWAYS void block_sums(nigh_form f, size_t tokens, size_t quads, const uint8_t *p, const ready *r,
                       const scales *s, v128_t *isum) {
    UNSET v128_t low[TILE];
    bool halves = f.sub == 16;
    UNROLL for (size_t n = 0; n < tokens * quads; n++)
        isum[n] = halves ? wasm_i32x4_const_splat(0) : splat(&r[n / quads].start);
    if (order_of(f, tokens) == NIBBLES) {
        add_nibbles(p, r[0].q, isum);
        UNROLL for (size_t h = 0; h < QUADS; h++) isum[h] = wasm_i32x4_shr(isum[h], 8);
        return;
    }
    UNROLL for (int j = 0; j < 8; j++) {
        if (j == 4 && halves)
            UNROLL for (size_t n = 0; n < tokens * quads; n++) {
                low[n] = wasm_i32x4_mul(isum[n], s[n % quads].sc[0]);
                isum[n] = wasm_i32x4_const_splat(0);
            }
        add_register(f, tokens, quads, p, j, r, isum);
    }
    if (!halves) return;
    UNROLL for (size_t n = 0; n < tokens * quads; n++) {
        v128_t high = wasm_i32x4_add(low[n], wasm_i32x4_mul(isum[n], s[n % quads].sc[1]));
        isum[n] = f.zero ? add_dot(high, s[n % quads].zero_pair, splat(&r[n / quads].halves)) : high;
    }
}

ALWAYS void add_block(nigh_type type, size_t tokens, size_t quads, const uint8_t *p, const uint8_t *scale, size_t h,
                      const ready *r, size_t i, v128_t *acc) {
    nigh_form f = nigh_form_of(type);
    UNSET scales s[QUADS];
    UNSET v128_t isum[TILE];
    UNROLL for (size_t n = 0; n < quads; n++) s[n] = read_scales(type, f, scale, i, h + n);
    block_sums(f, tokens, quads, p, r, s, isum);
    UNROLL for (size_t n = 0; n < tokens * quads; n++) {
        v128_t by = splat((const int32_t *)(const void *)&r[n / quads].scale);
        const scales *of = &s[n % quads];
        acc[n] = wasm_f32x4_add(acc[n], wasm_f32x4_mul(wasm_f32x4_convert_i32x4(isum[n]), wasm_f32x4_mul(of->dw, by)));
        if (!f.has_min) continue;
        v128_t msum = splat(&r[n / quads].sum);
        if (f.sub == 16) msum = wasm_i32x4_dot_i16x8(of->min_pair, splat(&r[n / quads].halves));
        acc[n] = wasm_f32x4_add(acc[n], wasm_f32x4_mul(of->mw, wasm_f32x4_mul(by, wasm_f32x4_convert_i32x4(msum))));
    }
}

/* ---- some groups, some tokens ---- */

/* A span of one group, quads h..h+quads-1: `tokens` * `quads` is TILE. r: [blocks][tokens], acc: [tokens][quads] */
ALWAYS void add_span(nigh_type type, size_t tokens, const uint8_t *at, size_t blocks, size_t h, const ready *r,
                     v128_t *acc) {
    nigh_form f = nigh_form_of(type);
    const uint8_t *scale = at + blocks * nigh_form_plane_bytes(f);
    at += 16 * h;
    for (size_t i = 0; i < blocks; i++, at += nigh_form_plane_bytes(f), r += tokens)
        add_block(type, tokens, TILE / tokens, at, scale, h, r, i, acc);
}

/* The sums of one group that stand in out already; 0 for rows that do not exist. */
static v16 load_group(const nigh_mat *m, size_t group, const float *out) {
    size_t first = group * NIGH_ROWS;
    float tmp[NIGH_ROWS] = { 0 };
    memcpy(tmp, out + first, nigh_min(m->rows - first, NIGH_ROWS) * sizeof *tmp);
    return v16_load(tmp);
}

/* `count` blocks from block `first` on, the first of a span; if there are some before, their sums stand in out. */
ALWAYS void group_rows(nigh_type type, size_t tokens, const nigh_mat *m, size_t group, size_t first, size_t count,
                       const ready *r, float *out, size_t stride) {
    nigh_form f = nigh_form_of(type);
    size_t quads = TILE / tokens;
    UNSET v16 rows[TILE];
    for (size_t t = 0; t < tokens; t++) rows[t] = first ? load_group(m, group, out + t * stride) : v16_zero();
    for (size_t h = 0; h < QUADS; h += quads) {
        const uint8_t *at = m->data + group * m->group_bytes + nigh_form_plane_at(f, first);
        UNSET v128_t acc[TILE];
        UNROLL for (size_t n = 0; n < TILE; n++) acc[n] = rows[n / quads].p[h + n % quads];
        for (size_t b = 0; b < count; b += NIGH_SPAN) {
            size_t span = nigh_min(NIGH_SPAN, count - b);
            add_span(type, tokens, at, span, h, r + b * tokens, acc);
            at += nigh_form_span_bytes(f, span);
        }
        UNROLL for (size_t n = 0; n < TILE; n++) rows[n / quads].p[h + n % quads] = acc[n];
    }
    for (size_t t = 0; t < tokens; t++) store_group(m, group, rows[t], out + t * stride);
}

ALWAYS void some_groups(nigh_type type, size_t tokens, const nigh_mat *m, const nigh_acts *a, size_t first, float *out,
                        size_t stride, size_t begin, size_t end) {
    UNSET ready r[WIDE * TILE];
    for (size_t b = 0; b < m->cols / NIGH_BLOCK; b += WIDE) {
        size_t count = nigh_min(WIDE, m->cols / NIGH_BLOCK - b);
        make_ready(nigh_form_of(type), tokens, a, first, b, count, r);
        for (size_t g = begin; g < end; g++)
            group_rows(type, tokens, m, g, b, count, r, out + first * stride, stride);
    }
}

/* A function for each type and tile: engines give a very large function worse registers. */
typedef void groups_fn(const nigh_mat *m, const nigh_acts *a, size_t first, float *out, size_t stride, size_t begin,
                      size_t end);
#define GROUPS_OF(name, tokens) \
    static __attribute__((noinline)) void name##_##tokens(const nigh_mat *m, const nigh_acts *a, size_t first, \
                                                          float *out, size_t stride, size_t begin, size_t end) { \
        some_groups(NIGH_TYPE_##name, tokens, m, a, first, out, stride, begin, end); \
    }
#define DEFINE(name) GROUPS_OF(name, 1) GROUPS_OF(name, 2) GROUPS_OF(name, 4)
NIGH_QUANT_TYPES(DEFINE)
#undef DEFINE

static void quant_matmul(groups_fn *const by[3], const nigh_mat *m, const nigh_acts *a, float *out, size_t stride,
                         size_t begin, size_t end) {
    size_t t = 0;
    for (; t + TILE <= a->count; t += TILE) by[2](m, a, t, out, stride, begin, end);
    if (t + 2 <= a->count) {
        by[1](m, a, t, out, stride, begin, end);
        t += 2;
    }
    if (t < a->count) by[0](m, a, t, out, stride, begin, end);
}

static void wasm_matmul(const nigh_mat *m, const nigh_acts *a, float *out, size_t stride, size_t begin, size_t end) {
    assert(m->cols == a->cols && end * NIGH_ROWS < m->rows + NIGH_ROWS);
    switch (m->type) {
#define CASE(name) \
    case NIGH_TYPE_##name: \
        quant_matmul((groups_fn *const[]){ name##_1, name##_2, name##_4 }, m, a, out, stride, begin, end); \
        break;
    NIGH_QUANT_TYPES(CASE)
#undef CASE
    default: lanes_matmul_float(m, a, out, stride, begin, end); break;
    }
}

void nigh_kernels_wasm(nigh_kernels *k) {
    k->name = RELAXED ? "relaxed" : "simd128";
    loops_fill(k);
    k->matmul = wasm_matmul;
    k->attend = lanes_attend;
}
