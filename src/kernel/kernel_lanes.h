/* kernel_lanes.h - products with f32, f16 and bf16 weights, and attention (kernel_attend.h), for any machine with
 * vectors.
 *
 * Included by the files of the instruction sets after they have defined v16, sixteen f32 lanes, and its operations
 *
 *     v16_zero, v16_load, v16_store, v16_set1, v16_add, v16_sub, v16_mul
 *     v16_max             a > b ? a : b, so b when one is NaN
 *     v16_load_f16, v16_load_bf16     from a const uint8_t *
 *     v16_top, v16_sum    one float: the largest of the lanes (a NaN may be passed over); their sum as a tree: lanes
 *                         8 apart, then 4, 2, 1
 *     v16_raise(p, n)     the bits of p + (the bits of n << 23), as integers
 *     v16_part(x, lo, hi, other)      lanes lo..hi-1 of x, `other` in the rest; and
 *     v16_store_low(to, a, b)         the low 16 bits of each lane of a, then of b, as int16
 *                         (LANES_PARTS says that these two are defined; else they are taken from below)
 *
 * and, for pairs of int16, v16p, sixteen of them, and v16i, sixteen int32 lanes:
 *
 *     v16p_load, v16p_load_i8 (from signed bytes), v16p_set1 (both of the pair as one int32, the first one low)
 *     v16i_zero, v16i_dot(sum, a, b): sum + the products of both of a pair; v16_of (as f32)
 *
 * and these sizes:
 *
 *     LANES_TOKENS    tokens of a product that share a row of weights in registers
 *     LANES_QUERIES   queries of attention that share keys and values in registers (1..4)
 *     LANES_KEYS      groups of 16 keys that are multiplied at once (1..4)
 *     LANES_VALUES    groups of 16 values of the head that are added up at once (1..4)
 *     LANES_DIRECT    queries up to which keys and values of f16 are not unpacked to f32 first
 *     LANES_FETCH     third argument of __builtin_prefetch for keys and values: 3 the first cache, 2 the second
 *
 * A lane is always one output of its own: a weight row, a key, or one value of the head. Each adds its terms in
 * rising order, multiply then add, as kernel_ref.c does; several sums run side by side to hide the latency. */
#include "kernel/kernel_loops.h"
#include "kernel/pack.h"

/* ---- products with float weights ---- */

ALWAYS v16 load_weights(nigh_type type, const uint8_t *p) {
    if (type == NIGH_TYPE_F32) return v16_load((const float *)(const void *)p);
    return type == NIGH_TYPE_F16 ? v16_load_f16(p) : v16_load_bf16(p);
}

/* Writes the rows of one group for one token; rows past the end of the matrix are not touched. */
ALWAYS void store_group(const nigh_mat *m, size_t group, v16 sum, float *out) {
    size_t first = group * NIGH_ROWS, rows = m->rows - first;
    if (rows >= NIGH_ROWS) {
        v16_store(out + first, sum);
    } else {
        UNSET float tmp[NIGH_ROWS];
        v16_store(tmp, sum);
        memcpy(out + first, tmp, rows * sizeof *tmp);
    }
}

ALWAYS void float_tile(nigh_type type, size_t tokens, const nigh_mat *m, size_t group, const nigh_acts *a, size_t first,
                       float *out, size_t out_stride) {
    const uint8_t *w = m->data + group * m->group_bytes;
    size_t bytes = type == NIGH_TYPE_F32 ? 64 : 32, cols = m->cols;
    const float *x = a->x + first * cols;
    UNSET v16 acc[LANES_TOKENS];
    for (size_t t = 0; t < tokens; t++) acc[t] = v16_zero();
    for (size_t c = 0; c < cols; c++, w += bytes) {
        v16 row = load_weights(type, w);
        __builtin_prefetch(w + 2048);
        for (size_t t = 0; t < tokens; t++) acc[t] = v16_add(acc[t], v16_mul(row, v16_set1(x[t * cols + c])));
    }
    for (size_t t = 0; t < tokens; t++) store_group(m, group, acc[t], out + (first + t) * out_stride);
}

ALWAYS void float_matmul(nigh_type type, const nigh_mat *m, const nigh_acts *a, float *out, size_t stride,
                         size_t begin, size_t end) {
    for (size_t g = begin; g < end; g++) {
        size_t t = 0;
        for (; t + LANES_TOKENS <= a->count; t += LANES_TOKENS) float_tile(type, LANES_TOKENS, m, g, a, t, out, stride);
        for (; t + 4 <= a->count; t += 4) float_tile(type, 4, m, g, a, t, out, stride);
        if (t + 2 <= a->count) {
            float_tile(type, 2, m, g, a, t, out, stride);
            t += 2;
        }
        if (t < a->count) float_tile(type, 1, m, g, a, t, out, stride);
    }
}

static void lanes_matmul_float(const nigh_mat *m, const nigh_acts *a, float *out, size_t stride, size_t begin,
                               size_t end) {
    if (m->type == NIGH_TYPE_F32) float_matmul(NIGH_TYPE_F32, m, a, out, stride, begin, end);
    else if (m->type == NIGH_TYPE_F16) float_matmul(NIGH_TYPE_F16, m, a, out, stride, begin, end);
    else float_matmul(NIGH_TYPE_BF16, m, a, out, stride, begin, end);
}

#ifndef LANES_PARTS
static inline v16 v16_part(v16 x, size_t lo, size_t hi, float other) {
    UNSET float in[16], out[16];
    v16_store(in, x);
    for (size_t i = 0; i < 16; i++) out[i] = i >= lo && i < hi ? in[i] : other;
    return v16_load(out);
}
static inline void v16_store_low(int16_t *to, v16 a, v16 b) {
    UNSET float both[32];
    v16_store(both, a);
    v16_store(both + 16, b);
    for (size_t i = 0; i < 32; i++) to[i] = (int16_t)nigh_bits32(both[i]);
}
#endif

#include "kernel/kernel_attend.h"
