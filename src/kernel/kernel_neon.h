/* kernel_neon.h - aarch64: the sixteen rows of a group as four registers of four rows.
 *
 * Included by kernel_neon.c, for every processor of that kind, and by kernel_dotprod.c, for those with SDOT. Before,
 * they define `dots`, the sums of some registers of weights times one token:
 *
 *     dots(f, sum, w, q, count)   sum: four rows, int32; w: `count` (4 or 8) registers of 4 rows x 4 columns;
 *                                 q: the token's bytes, four for each of them
 *
 * The packed block (pack.c) has register j, columns 4j..4j+3, of rows 4h..4h+3 at 64 j + 16 h. Here all bytes are
 * multiplied as signed ones. Up to 6 bits they are the stored ones, and the sum starts at zero * -(sum of q), which
 * `quantize` has left in the activations; 8 bits are stored with the sign bit flipped, so flipping it back is their
 * zero point; the values of IQ4's table are signed already.
 *
 * The int32 sums have the bounds of kernel_avx512.c. No multiply-add: vmulq and vaddq are two roundings. */
#ifndef NIGH_KERNEL_NEON_H
#define NIGH_KERNEL_NEON_H

#include <arm_neon.h>

#include "kernel/kernel_isa.h"

typedef struct { float32x4_t r[4]; } v16;

static inline v16 v16_set1(float f) {
    float32x4_t v = vdupq_n_f32(f);
    return (v16){ { v, v, v, v } };
}
static inline v16 v16_zero(void) { return v16_set1(0.0f); }
static inline v16 v16_load(const float *p) {
    return (v16){ { vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12) } };
}
static inline void v16_store(float *p, v16 v) {
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, v.r[i]);
}
static inline v16 v16_add(v16 a, v16 b) {
    for (int i = 0; i < 4; i++) a.r[i] = vaddq_f32(a.r[i], b.r[i]);
    return a;
}
static inline v16 v16_mul(v16 a, v16 b) {
    for (int i = 0; i < 4; i++) a.r[i] = vmulq_f32(a.r[i], b.r[i]);
    return a;
}
/* Four f16 or bf16 values. */
static inline float32x4_t halves_to_floats(const uint8_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
static inline float32x4_t bf16_to_floats(const uint8_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
static inline v16 v16_load_f16(const uint8_t *p) {
    v16 v;
    for (int i = 0; i < 4; i++) v.r[i] = halves_to_floats(p + 8 * i);
    return v;
}
static inline v16 v16_load_bf16(const uint8_t *p) {
    v16 v;
    for (int i = 0; i < 4; i++) v.r[i] = bf16_to_floats(p + 8 * i);
    return v;
}
static inline v16 v16_sub(v16 a, v16 b) {
    for (int i = 0; i < 4; i++) a.r[i] = vsubq_f32(a.r[i], b.r[i]);
    return a;
}
/* A comparison and a choice: vmaxq gives NaN where one is NaN. */
static inline float32x4_t larger(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline v16 v16_max(v16 a, v16 b) {
    for (int i = 0; i < 4; i++) a.r[i] = larger(a.r[i], b.r[i]);
    return a;
}
static inline v16 v16_raise(v16 p, v16 n) {
    for (int i = 0; i < 4; i++) {
        int32x4_t by = vshlq_n_s32(vreinterpretq_s32_f32(n.r[i]), 23);
        p.r[i] = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p.r[i]), by));
    }
    return p;
}
static inline float v16_top(v16 v) {
    float32x4_t a = larger(larger(v.r[0], v.r[2]), larger(v.r[1], v.r[3]));
    a = larger(a, vextq_f32(a, a, 2));
    return vgetq_lane_f32(larger(a, vextq_f32(a, a, 1)), 0);
}
static inline float v16_sum(v16 v) {
    float32x4_t a = vaddq_f32(vaddq_f32(v.r[0], v.r[2]), vaddq_f32(v.r[1], v.r[3]));
    a = vaddq_f32(a, vextq_f32(a, a, 2));
    return vgetq_lane_f32(vaddq_f32(a, vextq_f32(a, a, 1)), 0);
}

typedef struct { int16x8_t r[4]; } v16p;
typedef struct { int32x4_t r[4]; } v16i;

static inline v16p v16p_load(const uint8_t *p) {
    v16p v;
    for (int i = 0; i < 4; i++) v.r[i] = vreinterpretq_s16_u8(vld1q_u8(p + 16 * i));
    return v;
}
static inline v16p v16p_load_i8(const uint8_t *p) {
    v16p v;
    for (int i = 0; i < 4; i++) v.r[i] = vmovl_s8(vreinterpret_s8_u8(vld1_u8(p + 8 * i)));
    return v;
}
static inline v16p v16p_set1(int32_t pair) {
    int16x8_t v = vreinterpretq_s16_s32(vdupq_n_s32(pair));
    return (v16p){ { v, v, v, v } };
}
static inline v16i v16i_zero(void) {
    int32x4_t v = vdupq_n_s32(0);
    return (v16i){ { v, v, v, v } };
}
static inline v16i v16i_dot(v16i sum, v16p a, v16p b) {
    for (int i = 0; i < 4; i++) {
        int32x4_t low = vmull_s16(vget_low_s16(a.r[i]), vget_low_s16(b.r[i])), high = vmull_high_s16(a.r[i], b.r[i]);
        sum.r[i] = vaddq_s32(sum.r[i], vpaddq_s32(low, high));
    }
    return sum;
}
static inline v16 v16_of(v16i v) {
    return (v16){ { vcvtq_f32_s32(v.r[0]), vcvtq_f32_s32(v.r[1]), vcvtq_f32_s32(v.r[2]), vcvtq_f32_s32(v.r[3]) } };
}

enum { LANES_TOKENS = 4, LANES_KEYS = 1, LANES_VALUES = 1, LANES_DIRECT = 4, LANES_FETCH = 2 };
#define LANES_QUERIES 4
#include "kernel/kernel_lanes.h"

enum { TILE = 4, PREFETCH_BYTES = 2048 };

/* ---- planes to bytes, as in kernel_avx2.c, for 4 of the 16 rows; p points at those rows ---- */

/* Bits of every byte moved down from bit `from` to bit 0, or up to bit `to`; others stay to be masked off. */
ALWAYS uint8x16_t move_bits(uint8x16_t v, int from, int to) {
    int8x16_t by = vdupq_n_s8((int8_t)(to - from));
    return from == to ? v : vshlq_u8(v, by);
}
ALWAYS uint8x16_t merge(uint8x16_t low, uint8x16_t high, uint8_t mask) {
    return vorrq_u8(low, vandq_u8(high, vdupq_n_u8(mask)));
}

/* Register j of a block. bits and table are constants wherever this is inlined. */
ALWAYS int8x16_t read_register(nigh_form f, const uint8_t *p, int j) {
    uint8x16_t w;
    if (f.bits == 8) return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p + 64 * j), vdupq_n_u8(0x80)));
    if (f.bits >= 4) w = vandq_u8(move_bits(vld1q_u8(p + 64 * (j % 4)), j / 4 * 4, 0), vdupq_n_u8(15));
    else w = vandq_u8(move_bits(vld1q_u8(p + 64 * (j / 4)), j % 4 * 2, 0), vdupq_n_u8(3));
    if (f.bits == 5) w = merge(w, move_bits(vld1q_u8(p + 256), j, 4), 0x10);
    if (f.bits == 6) w = merge(w, move_bits(vld1q_u8(p + 256 + 64 * (j / 4)), j % 4 * 2, 4), 0x30);
    if (f.bits == 3) w = merge(w, move_bits(vld1q_u8(p + 128), j, 2), 0x04);
    return f.table ? vqtbl1q_s8(vld1q_s8(nigh_iq4_values), w) : vreinterpretq_s8_u8(w);
}

/* ---- scales of 4 rows; h: which quarter of the 16 ---- */

typedef struct {
    float32x4_t dw, mw;
    int32x4_t sc[2], mn[2];     /* only types with sub-scales of 16 columns */
} scales;

/* Four bytes; they may be the last of the matrix. */
ALWAYS float32x4_t bytes_as_floats(const uint8_t *p, bool is_signed) {
    uint32_t four;
    memcpy(&four, p, 4);
    uint8x8_t v = vreinterpret_u8_u32(vdup_n_u32(four));
    if (is_signed) return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(v)))));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(v))));
}

/* Int16 pairs, the first half's value low, as two int32 registers. */
ALWAYS void part_pairs(int16x8_t pairs, int32x4_t out[2]) {
    int32x4_t v = vreinterpretq_s32_s16(pairs);
    out[0] = vshrq_n_s32(vshlq_n_s32(v, 16), 16);
    out[1] = vshrq_n_s32(v, 16);
}

/* Scales of 16 columns: two bytes for each row, the half's scale (Q2_K: scale and minimum in one byte). */
ALWAYS void read_half_scales(nigh_form f, const uint8_t *p, scales *s) {
    uint8x8_t bytes = vld1_u8(p);
    if (f.has_min) {
        part_pairs(vreinterpretq_s16_u16(vmovl_u8(vand_u8(bytes, vdup_n_u8(15)))), s->sc);
        part_pairs(vreinterpretq_s16_u16(vmovl_u8(vshr_n_u8(bytes, 4))), s->mn);
    } else {
        part_pairs(vmovl_s8(vreinterpret_s8_u8(bytes)), s->sc);
    }
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
        s.dw = vmulq_f32(s.dw, bytes_as_floats(p + 32 * i + 4 * h, false));
        s.mw = vmulq_f32(s.mw, bytes_as_floats(p + 32 * i + 16 + 4 * h, false));
    } else if (f.has_sub) {
        s.dw = vmulq_f32(s.dw, bytes_as_floats(p + 16 * i + 4 * h, true));
    } else if (type == NIGH_TYPE_Q4_1 || type == NIGH_TYPE_Q5_1) {
        s.mw = vnegq_f32(s.mw);
    }
    return s;
}

/* ---- one block, one token, four rows ---- */

/* acc + (float)sum * (w * da) */
ALWAYS float32x4_t add_scaled(float32x4_t acc, int32x4_t sum, float32x4_t w, float da) {
    return vaddq_f32(acc, vmulq_f32(vcvtq_f32_s32(sum), vmulq_f32(w, vdupq_n_f32(da))));
}

ALWAYS float32x4_t add_block(nigh_form f, const int8x16_t w[8], const scales *s, const int8_t *q, float da,
                             const int32_t *sum, float32x4_t acc) {
    int32_t zero = f.bits == 8 || f.table ? 0 : f.zero, half[2] = { (int16_t)(sum[1] & 0xffff), sum[1] >> 16 };
    int32x4_t isum, msum = vdupq_n_s32(sum[0]);
    if (f.sub == 32) {
        isum = dots(f, vdupq_n_s32(zero * sum[0]), w, q, 8);
    } else {
        isum = vmulq_s32(dots(f, vdupq_n_s32(zero * half[0]), w, q, 4), s->sc[0]);
        isum = vmlaq_s32(isum, dots(f, vdupq_n_s32(zero * half[1]), w + 4, q + 16, 4), s->sc[1]);
        if (f.has_min) msum = vmlaq_n_s32(vmulq_n_s32(s->mn[0], half[0]), s->mn[1], half[1]);
    }
    acc = add_scaled(acc, isum, s->dw, da);
    if (!f.has_min) return acc;
    return vaddq_f32(acc, vmulq_f32(s->mw, vmulq_f32(vdupq_n_f32(da), vcvtq_f32_s32(msum))));
}

/* ---- one group, some tokens ---- */

/* Asks for what block i of a span will find PREFETCH_BYTES further on: an eighth of a whole span. */
ALWAYS void prefetch(nigh_form f, const uint8_t *at, size_t i) {
    size_t share = nigh_form_span_bytes(f, NIGH_SPAN) / NIGH_SPAN;
    for (size_t n = 0; n < share; n += 64) __builtin_prefetch(at + PREFETCH_BYTES + i * share + n);
}

ALWAYS void quant_tile(nigh_type type, size_t tokens, const nigh_mat *m, size_t group, const nigh_acts *a, size_t first,
                       float *out, size_t out_stride) {
    nigh_form f = nigh_form_of(type);
    size_t blocks = m->cols / NIGH_BLOCK, width = nigh_acts_at(a, first, 1) - nigh_acts_at(a, first, 0);
    const uint8_t *at = m->data + group * m->group_bytes;
    const int8_t *q = a->q + nigh_acts_at(a, first, 0) * NIGH_BLOCK;
    const float *da = a->scale + nigh_acts_at(a, first, 0);
    const int32_t *sum = a->sum + 2 * nigh_acts_at(a, first, 0);
    UNSET v16 acc[TILE];
    for (size_t t = 0; t < tokens; t++) acc[t] = v16_zero();
    for (size_t b = 0; b < blocks;) {
        size_t span = nigh_min(NIGH_SPAN, blocks - b);
        const uint8_t *scale = at + span * nigh_form_plane_bytes(f);
        for (size_t i = 0; i < span; i++, b++, q += width * NIGH_BLOCK, da += width, sum += 2 * width) {
            if (tokens == 1) prefetch(f, at, i);
            /* Not unrolled: sixteen sums and eight registers of weights would not stay in registers. */
            _Pragma("GCC unroll 1") for (size_t h = 0; h < 4; h++) {
                UNSET int8x16_t w[8];
                UNROLL for (int j = 0; j < 8; j++)
                    w[j] = read_register(f, at + i * nigh_form_plane_bytes(f) + 16 * h, j);
                scales s = read_scales(type, f, scale, i, h);
                UNROLL for (size_t t = 0; t < tokens; t++)
                    acc[t].r[h] = add_block(f, w, &s, q + t * NIGH_BLOCK, da[t], sum + 2 * t, acc[t].r[h]);
            }
        }
        at += nigh_form_span_bytes(f, span);
    }
    for (size_t t = 0; t < tokens; t++) store_group(m, group, acc[t], out + (first + t) * out_stride);
}

ALWAYS void quant_matmul(nigh_type type, const nigh_mat *m, const nigh_acts *a, float *out, size_t stride,
                         size_t begin, size_t end) {
    for (size_t g = begin; g < end; g++) {
        size_t t = 0;
        for (; t + TILE <= a->count; t += TILE) quant_tile(type, TILE, m, g, a, t, out, stride);
        for (; t < a->count; t++) quant_tile(type, 1, m, g, a, t, out, stride);
    }
}

#define DEFINE(name) \
    static void matmul_##name(const nigh_mat *m, const nigh_acts *a, float *out, size_t stride, size_t begin, \
                              size_t end) { \
        quant_matmul(NIGH_TYPE_##name, m, a, out, stride, begin, end); \
    }
NIGH_QUANT_TYPES(DEFINE)
#undef DEFINE

static void neon_matmul(const nigh_mat *m, const nigh_acts *a, float *out, size_t stride, size_t begin, size_t end) {
    assert(m->cols == a->cols && end * NIGH_ROWS < m->rows + NIGH_ROWS);
    switch (m->type) {
#define CASE(name) case NIGH_TYPE_##name: matmul_##name(m, a, out, stride, begin, end); break;
    NIGH_QUANT_TYPES(CASE)
#undef CASE
    default: lanes_matmul_float(m, a, out, stride, begin, end); break;
    }
}

#endif
