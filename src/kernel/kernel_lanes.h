/* kernel_lanes.h - products with f32, f16 and bf16 weights, and attention, for any machine with vectors.
 *
 * Included by the files of the instruction sets after they have defined v16, sixteen f32 lanes, and its operations
 *
 *     v16_zero, v16_load, v16_store, v16_set1, v16_add, v16_sub, v16_mul
 *     v16_max             a > b ? a : b, so b when one is NaN
 *     v16_load_f16, v16_load_bf16, v16_load_i8    from a const uint8_t *; i8: signed bytes
 *     v16_top, v16_sum    one float: the largest of the lanes (a NaN may be passed over); their sum as a tree: lanes
 *                         8 apart, then 4, 2, 1
 *     v16_raise(p, n)     the bits of p + (the bits of n << 23), as integers
 *
 * and these sizes:
 *
 *     LANES_TOKENS    tokens of a product that share a row of weights in registers
 *     LANES_QUERIES   queries of attention that share keys and values in registers (1..4)
 *     LANES_KEYS      groups of 16 keys that are multiplied at once (1..4)
 *     LANES_VALUES    groups of 16 values of the head that are added up at once (1..4)
 *     LANES_WIDE      queries that share half as many keys and values in registers (LANES_QUERIES or 8)
 *     LANES_DIRECT    queries up to which keys and values are not unpacked to f32 first (at most LANES_WIDE pays)
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

/* ---- attention: one block of 64 keys ---- */

enum { KEY_GROUPS = NIGH_KV_BLOCK / 16 };

/* A run of queries that are worked on together, and the keys and values as they are read: from the cache as it is, or
 * unpacked to f32, which pays when more queries need them than registers hold. */
typedef struct {
    const nigh_attn *a;
    const uint8_t *k, *v;
    const uint8_t *next;                /* keys that are asked for while values are added up, or NULL */
    bool asks;                          /* for the values, while scores are computed */
    size_t base, first;                 /* position of key 0 of the block; the first query of the run */
    float *part;
} query_tile;

ALWAYS float *weights_at(const query_tile *t, size_t i) {
    return t->a->scratch + NIGH_KV_BLOCK * (2 * t->a->head_dim + t->first + i);
}
ALWAYS float *row_at(const query_tile *t, size_t i) {
    return t->part + 2 * nigh_attn_padded(t->a->count) + (t->first + i) * t->a->head_dim;
}
/* The keys of the block that query i of the tile sees: lo..hi-1; none when lo >= hi. */
ALWAYS size_t low_of(const query_tile *t, size_t i) {
    return nigh_max(t->a->begin[t->first + i], t->base) - t->base;
}
ALWAYS size_t high_of(const query_tile *t, size_t i) {
    size_t end = nigh_max(t->a->end[t->first + i], t->base);
    return nigh_min(end - t->base, NIGH_KV_BLOCK);
}

ALWAYS const float *scales_in(const uint8_t *half, size_t dims) {
    return (const float *)(const void *)(half + NIGH_KV_BLOCK * dims);
}
/* Sixteen stored values from index `at` on. */
ALWAYS v16 load_stored(nigh_type type, const uint8_t *half, size_t at, v16 scale) {
    if (type == NIGH_TYPE_F32) return v16_load((const float *)(const void *)half + at);
    return type == NIGH_TYPE_F16 ? v16_load_f16(half + 2 * at) : v16_mul(v16_load_i8(half + at), scale);
}
/* Sixteen values of one key's value, from d on. */
ALWAYS v16 load_value(nigh_type type, const uint8_t *v, size_t dims, size_t key, size_t d) {
    v16 scale = v16_zero();
    if (type == NIGH_TYPE_Q8_0) scale = v16_set1(scales_in(v, dims)[key * (dims / NIGH_KV_SPAN) + d / NIGH_KV_SPAN]);
    return load_stored(type, v, key * dims + d, scale);
}

/* Asks for bytes of what comes next. One token waits for memory: while its scores are computed, the values are fetched,
 * and while those are added up, the keys of the next block; the first run of queries asks. */
ALWAYS void ask_for(const uint8_t *p, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(p + at, 0, LANES_FETCH);
}
ALWAYS void ask_for_scales(const uint8_t *half, size_t dims) {
    if (half) ask_for(half + NIGH_KV_BLOCK * dims, NIGH_KV_BLOCK * (dims / NIGH_KV_SPAN) * sizeof(float));
}

/* Scores of `queries` queries with `groups` groups of 16 keys from group `at` on. */
ALWAYS void score_groups(nigh_type type, const query_tile *t, size_t queries, size_t at, size_t groups) {
    size_t dims = t->a->head_dim, span = type == NIGH_TYPE_Q8_0 ? NIGH_KV_SPAN : dims;
    size_t bytes = 16 * nigh_kv_value_bytes(type);
    const float *const *q = t->a->q + t->first;
    const uint8_t *ask = t->asks && t->first == 0 ? t->v + at * dims * bytes : NULL;
    UNSET v16 acc[LANES_WIDE][LANES_KEYS];
    UNROLL for (size_t i = 0; i < queries; i++)
        UNROLL for (size_t g = 0; g < groups; g++) acc[i][g] = v16_zero();
    for (size_t first = 0; first < dims; first += span) {
        UNSET v16 scale[LANES_KEYS], key[LANES_KEYS];
        UNROLL for (size_t g = 0; g < groups; g++)
            scale[g] = type == NIGH_TYPE_Q8_0 ? v16_load(scales_in(t->k, dims) + ((at + g) * dims + first) / 2)
                                              : v16_zero();
        for (size_t d = first; d < first + span; d++) {
            UNROLL for (size_t g = 0; g < groups; g++)
                key[g] = load_stored(type, t->k, ((at + g) * dims + d) * 16, scale[g]);
            if (ask) ask_for(ask + d * groups * bytes, groups * bytes);
            UNROLL for (size_t i = 0; i < queries; i++) {
                v16 by = v16_set1(q[i][d]);
                UNROLL for (size_t g = 0; g < groups; g++) acc[i][g] = v16_add(acc[i][g], v16_mul(by, key[g]));
            }
        }
    }
    UNROLL for (size_t i = 0; i < queries; i++)
        UNROLL for (size_t g = 0; g < groups; g++) v16_store(weights_at(t, i) + (at + g) * 16, acc[i][g]);
}

/* nigh_weightf of 16 values. */
ALWAYS v16 weights_of(v16 x) {
    const v16 magic = v16_set1(12582912.0f);
    v16 t = v16_max(v16_set1(-100.0f), v16_mul(x, v16_set1(1.44269504f)));
    v16 shifted = v16_add(t, magic), f = v16_sub(t, v16_sub(shifted, magic));
    v16 p = v16_add(v16_mul(f, v16_set1(0.00111255073f)), v16_set1(0.00966628268f));
    p = v16_add(v16_mul(p, f), v16_set1(0.0555740036f));
    p = v16_add(v16_mul(p, f), v16_set1(0.240223512f));
    p = v16_add(v16_mul(p, f), v16_set1(0.693142831f));
    p = v16_add(v16_mul(p, f), v16_set1(1.0f));
    return v16_raise(p, shifted);
}

static void cap_and_distance(const query_tile *t, size_t i, size_t lo, size_t hi) {
    const nigh_attn *a = t->a;
    size_t n = t->first + i;
    float *w = weights_at(t, i);
    if (a->softcap != 0.0f) loops_softcap(w + lo, a->softcap, hi - lo);
    for (size_t key = lo; a->slope && key < hi; key++) {
        size_t pos = t->base + key;
        w[key] -= a->slope[n] * (float)(a->pos[n] > pos ? a->pos[n] - pos : pos - a->pos[n]);
    }
}

static void fill(float *w, size_t lo, size_t hi, float value) {
    for (size_t key = 0; key < lo; key++) w[key] = value;
    for (size_t key = hi; key < NIGH_KV_BLOCK; key++) w[key] = value;
}

/* Softmax without its division, over the whole block; keys outside lo..hi-1 get weight 0, and a sum of numbers that are
 * not negative does not change when 0 is added. */
ALWAYS void weigh_keys(const query_tile *t, size_t i) {
    size_t lo = low_of(t, i), hi = high_of(t, i), n = t->first + i;
    float *w = weights_at(t, i);
    bool whole = hi - lo == NIGH_KV_BLOCK;
    if (t->a->softcap != 0.0f || t->a->slope) cap_and_distance(t, i, lo, hi);
    if (!whole) fill(w, lo, hi, -__builtin_inff());
    UNSET v16 x[KEY_GROUPS];
    UNROLL for (size_t g = 0; g < KEY_GROUPS; g++) x[g] = v16_load(w + 16 * g);
    float top = v16_top(v16_max(v16_max(x[0], x[1]), v16_max(x[2], x[3])));
    v16 by = v16_set1(top);
    UNROLL for (size_t g = 0; g < KEY_GROUPS; g++) v16_store(w + 16 * g, x[g] = weights_of(v16_sub(x[g], by)));
    if (!whole) {
        fill(w, lo, hi, 0.0f);
        UNROLL for (size_t g = 0; g < KEY_GROUPS; g++) x[g] = v16_load(w + 16 * g);
    }
    t->part[n] = top;
    t->part[nigh_attn_padded(t->a->count) + n] =
        v16_sum(v16_add(v16_add(v16_add(x[0], x[1]), x[2]), x[3]));
}

ALWAYS void score_tile(nigh_type type, const query_tile *t, size_t queries, size_t groups) {
    size_t lo = NIGH_KV_BLOCK, hi = 0;
    for (size_t i = 0; i < queries; i++) {
        if (low_of(t, i) >= high_of(t, i)) continue;
        lo = nigh_min(lo, low_of(t, i));
        hi = nigh_max(hi, high_of(t, i));
    }
    size_t at = lo / 16, last = (hi + 15) / 16;
    for (; at + groups <= last; at += groups) score_groups(type, t, queries, at, groups);
    for (; at < last; at++) score_groups(type, t, queries, at, 1);
    for (size_t i = 0; i < queries; i++)
        if (low_of(t, i) < high_of(t, i)) weigh_keys(t, i);
}

/* row[i][d..] (from 0 when fresh) += weight * v for `chunks` * 16 values of the head and keys lo..hi-1. */
ALWAYS void value_chunks(nigh_type type, const query_tile *t, size_t queries, size_t lo, size_t hi, size_t d,
                         size_t chunks, bool fresh) {
    size_t dims = t->a->head_dim, bytes = 16 * nigh_kv_value_bytes(type);
    const float *weight = weights_at(t, 0);
    const uint8_t *ask = t->first == 0 ? t->next : NULL;
    UNSET v16 acc[LANES_WIDE][LANES_VALUES];
    UNROLL for (size_t i = 0; i < queries; i++)
        UNROLL for (size_t c = 0; c < chunks; c++) acc[i][c] = fresh ? v16_zero() : v16_load(row_at(t, i) + d + 16 * c);
    for (size_t key = lo; key < hi; key++) {
        UNSET v16 value[LANES_VALUES];
        UNROLL for (size_t c = 0; c < chunks; c++) value[c] = load_value(type, t->v, dims, key, d + 16 * c);
        if (ask) ask_for(ask + (key * dims + d) / 16 * bytes, chunks * bytes);
        UNROLL for (size_t i = 0; i < queries; i++) {
            v16 by = v16_set1(weight[i * NIGH_KV_BLOCK + key]);
            UNROLL for (size_t c = 0; c < chunks; c++) acc[i][c] = v16_add(acc[i][c], v16_mul(by, value[c]));
        }
    }
    UNROLL for (size_t i = 0; i < queries; i++)
        UNROLL for (size_t c = 0; c < chunks; c++) v16_store(row_at(t, i) + d + 16 * c, acc[i][c]);
}

ALWAYS void value_keys(nigh_type type, const query_tile *t, size_t queries, size_t chunks, size_t lo, size_t hi,
                       bool fresh) {
    size_t d = 0, dims = t->a->head_dim;
    for (; d + 16 * chunks <= dims; d += 16 * chunks) value_chunks(type, t, queries, lo, hi, d, chunks, fresh);
    for (; d + 16 <= dims; d += 16) value_chunks(type, t, queries, lo, hi, d, 1, fresh);
    if (d == dims) return;
    const uint8_t *block = t->v - nigh_kv_half_bytes(type, dims);
    for (size_t i = 0; i < queries; i++) {
        float *row = row_at(t, i);
        if (fresh) memset(row + d, 0, (dims - d) * sizeof *row);
        for (size_t key = lo; key < hi; key++)
            for (size_t rest = d; rest < dims; rest++)
                row[rest] += weights_at(t, i)[key] * nigh_kv_value(type, block, dims, key, rest);
    }
}

/* Keys that all queries of the tile see are added together; those before and after, query by query. A key that a query
 * does not see may hold anything, a NaN too, so it is never multiplied by 0. */
ALWAYS void value_tile(nigh_type type, const query_tile *t, size_t queries, size_t chunks) {
    size_t lo = low_of(t, 0), hi = high_of(t, 0), least = lo, most = hi;
    for (size_t i = 1; i < queries; i++) {
        lo = nigh_max(lo, low_of(t, i));
        hi = nigh_min(hi, high_of(t, i));
        least = nigh_min(least, low_of(t, i));
        most = nigh_max(most, high_of(t, i));
    }
    if (lo >= hi) lo = hi;
    bool before = least < lo;
    for (size_t i = 0; before && i < queries; i++) {
        query_tile one = *t;
        one.first += i;
        value_keys(type, &one, 1, LANES_VALUES, low_of(t, i), nigh_min(lo, high_of(t, i)), true);
    }
    if (before) value_keys(type, t, queries, chunks, lo, hi, false);
    else value_keys(type, t, queries, chunks, lo, hi, true);
    for (size_t i = 0; most > hi && i < queries; i++) {
        query_tile one = *t;
        one.first += i;
        value_keys(type, &one, 1, LANES_VALUES, nigh_max(hi, low_of(t, i)), high_of(t, i), false);
    }
}

ALWAYS void run_scores(nigh_type type, const query_tile *t, size_t queries) {
    score_tile(type, t, queries, queries > LANES_QUERIES ? (LANES_KEYS + 1) / 2 : LANES_KEYS);
}
ALWAYS void run_values(nigh_type type, const query_tile *t, size_t queries) {
    value_tile(type, t, queries, queries > LANES_QUERIES ? (LANES_VALUES + 1) / 2 : LANES_VALUES);
}

/* All queries in runs: of LANES_QUERIES, and what is left over at the end. Where they are read from the cache itself, 5
 * to LANES_WIDE of them are one run of half as many keys, so that each key and value is converted once. */
ALWAYS void attend_type(nigh_type type, query_tile t) {
    size_t count = t.a->count, rest = count % LANES_QUERIES, whole = count - rest;
    if (type != NIGH_TYPE_F32 && LANES_WIDE > LANES_QUERIES && count > LANES_QUERIES) {
#define RUN(n) case n: if (n <= LANES_WIDE) { run_scores(type, &t, n); run_values(type, &t, n); } return;
        switch (count) { RUN(5) RUN(6) RUN(7) RUN(8) default: break; }
#undef RUN
    }
    for (t.first = 0; t.first < whole; t.first += LANES_QUERIES) run_scores(type, &t, LANES_QUERIES);
    if (rest == 1) run_scores(type, &t, 1);
    if (LANES_QUERIES > 2 && rest == 2) run_scores(type, &t, 2);
    if (LANES_QUERIES > 3 && rest == 3) run_scores(type, &t, 3);
    for (t.first = 0; t.first < whole; t.first += LANES_QUERIES) run_values(type, &t, LANES_QUERIES);
    if (rest == 1) run_values(type, &t, 1);
    if (LANES_QUERIES > 2 && rest == 2) run_values(type, &t, 2);
    if (LANES_QUERIES > 3 && rest == 3) run_values(type, &t, 3);
}

/* The keys lo..hi-1 of a block as f32, in the scratch. */
ALWAYS void unpack(nigh_type type, query_tile *t, size_t lo, size_t hi) {
    size_t dims = t->a->head_dim, d;
    float *k = t->a->scratch, *v = k + NIGH_KV_BLOCK * dims;
    for (size_t g = lo / 16; g < (hi + 15) / 16; g++)
        for (d = 0; d < dims; d++) {
            size_t at = (g * dims + d) * 16;
            v16 scale = v16_zero();
            if (type == NIGH_TYPE_Q8_0)
                scale = v16_load(scales_in(t->k, dims) + (g * dims + d / NIGH_KV_SPAN * NIGH_KV_SPAN) / 2);
            v16_store(k + at, load_stored(type, t->k, at, scale));
        }
    for (size_t key = lo; key < hi; key++) {
        for (d = 0; d + 16 <= dims; d += 16) v16_store(v + key * dims + d, load_value(type, t->v, dims, key, d));
        for (; d < dims; d++) v[key * dims + d] = nigh_kv_value(type, t->k, dims, key, d);
    }
    t->k = (const uint8_t *)k;
    t->v = (const uint8_t *)v;
}

static void attend_f32(query_tile t) { attend_type(NIGH_TYPE_F32, t); }

static void attend_f16(query_tile t, size_t lo, size_t hi) {
    if (t.asks) { attend_type(NIGH_TYPE_F16, t); return; }
    unpack(NIGH_TYPE_F16, &t, lo, hi);
    attend_f32(t);
}

static void attend_q8_0(query_tile t, size_t lo, size_t hi) {
    if (t.asks) {
        ask_for_scales(t.v, t.a->head_dim);
        ask_for_scales(t.next, t.a->head_dim);
        attend_type(NIGH_TYPE_Q8_0, t);
        return;
    }
    unpack(NIGH_TYPE_Q8_0, &t, lo, hi);
    attend_f32(t);
}

static void lanes_attend(const nigh_attn *a, size_t block, float *part) {
    size_t padded = nigh_attn_padded(a->count), lo = NIGH_KV_BLOCK, hi = 0;
    const uint8_t *k = a->blocks + block * a->block_stride;
    bool direct = a->count <= LANES_DIRECT;
    query_tile t = { .a = a, .k = k, .v = k + nigh_kv_half_bytes(a->type, a->head_dim), .next = direct ? a->next : NULL,
                     .asks = direct, .base = block * NIGH_KV_BLOCK, .part = part };
    for (size_t i = 0; i < padded; i++) part[i] = -__builtin_inff();
    memset(part + padded, 0, padded * sizeof *part);
    for (size_t i = 0; i < a->count; i++) {
        if (low_of(&t, i) >= high_of(&t, i)) continue;
        lo = nigh_min(lo, low_of(&t, i));
        hi = nigh_max(hi, high_of(&t, i));
    }
    if (lo >= hi) return;
    if (a->type == NIGH_TYPE_F32) attend_f32(t);
    else if (a->type == NIGH_TYPE_F16) attend_f16(t, lo, hi);
    else attend_q8_0(t, lo, hi);
}
