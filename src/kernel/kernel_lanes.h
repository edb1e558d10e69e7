/* kernel_lanes.h - products with f32, f16 and bf16 weights, and attention, for any machine with vectors.
 *
 * Included by the files of the instruction sets after they have defined v16, sixteen f32 lanes, and its operations
 * (v16_zero, v16_load, v16_store, v16_set1, v16_add, v16_mul, v16_load_f16, v16_load_bf16), and three sizes:
 *
 *     LANES_TOKENS    tokens of a product that share a row of weights in registers
 *     LANES_QUERIES   queries of attention that share keys and values in registers (1..4)
 *     LANES_KEYS      blocks of 16 keys that are multiplied at once
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

/* ---- attention ---- */

/* A run of queries that are worked on together; all of them point into the same keys and values. */
typedef struct {
    const nigh_attn *a;
    size_t first, stride;               /* first query; floats between the scores of two queries */
} query_tile;

ALWAYS float *scores_at(const query_tile *t, size_t i) { return t->a->scratch + (t->first + i) * t->stride; }

/* Scores of `queries` queries with `blocks` blocks of 16 keys from block `at` on. */
ALWAYS void score_blocks(const query_tile *t, size_t queries, size_t at, size_t blocks) {
    size_t dims = t->a->head_dim;
    const float *k = t->a->k + at * dims * 16;
    const float *const *q = t->a->q + t->first;
    UNSET v16 acc[4][LANES_KEYS];
    for (size_t i = 0; i < queries; i++)
        for (size_t b = 0; b < blocks; b++) acc[i][b] = v16_zero();
    for (size_t d = 0; d < dims; d++) {
        UNSET v16 key[LANES_KEYS];
        for (size_t b = 0; b < blocks; b++) key[b] = v16_load(k + (b * dims + d) * 16);
        for (size_t i = 0; i < queries; i++)
            for (size_t b = 0; b < blocks; b++) acc[i][b] = v16_add(acc[i][b], v16_mul(v16_set1(q[i][d]), key[b]));
    }
    for (size_t i = 0; i < queries; i++)
        for (size_t b = 0; b < blocks; b++) v16_store(scores_at(t, i) + (at + b) * 16, acc[i][b]);
}

ALWAYS void score_tile(const query_tile *t, size_t queries, size_t begin, size_t end) {
    size_t at = begin / 16, last = (end + 15) / 16;
    for (; at + LANES_KEYS <= last; at += LANES_KEYS) score_blocks(t, queries, at, LANES_KEYS);
    for (; at < last; at++) score_blocks(t, queries, at, 1);
}

/* Cap, distance, softmax without its division. Keys outside begin..end get weight 0 in their block of 16, so that
 * whole blocks can be added: a sum of numbers that are not negative does not change when 0 is added.
 * Returns the sum. */
static float weigh_keys(const nigh_attn *a, size_t i, float *score) {
    size_t begin = a->begin[i], end = a->end[i];
    if (a->softcap != 0.0f) loops_softcap(score + begin, a->softcap, end - begin);
    if (a->slope)
        for (size_t key = begin; key < end; key++)
            score[key] -= a->slope[i] * (float)(a->pos[i] > key ? a->pos[i] - key : key - a->pos[i]);
    exp_from(score + begin, end - begin, largest_of(score + begin, end - begin));
    size_t low = begin & ~(size_t)15, high = nigh_round_up(end, 16);
    memset(score + low, 0, (begin - low) * sizeof *score);
    memset(score + end, 0, (high - end) * sizeof *score);
    return sum_of(score + low, high - low);
}

/* out[i][d..] += score * v for `chunks` * 16 values of the head and keys begin..end-1. */
ALWAYS void value_chunks(const query_tile *t, size_t queries, size_t begin, size_t end, size_t d, size_t chunks) {
    const nigh_attn *a = t->a;
    UNSET v16 acc[4][4];
    for (size_t i = 0; i < queries; i++)
        for (size_t c = 0; c < chunks; c++) acc[i][c] = v16_load(a->out[t->first + i] + d + 16 * c);
    const float *v = a->v + begin * a->v_stride + d, *score = scores_at(t, 0);
    for (size_t key = begin; key < end; key++, v += a->v_stride) {
        UNSET v16 value[4];
        for (size_t c = 0; c < chunks; c++) value[c] = v16_load(v + 16 * c);
        for (size_t i = 0; i < queries; i++) {
            v16 weight = v16_set1(score[i * t->stride + key]);
            for (size_t c = 0; c < chunks; c++) acc[i][c] = v16_add(acc[i][c], v16_mul(weight, value[c]));
        }
    }
    for (size_t i = 0; i < queries; i++)
        for (size_t c = 0; c < chunks; c++) v16_store(a->out[t->first + i] + d + 16 * c, acc[i][c]);
}

ALWAYS void value_keys(const query_tile *t, size_t queries, size_t begin, size_t end) {
    const nigh_attn *a = t->a;
    size_t d = 0;
    if (begin >= end) return;
    for (; d + 16 * LANES_VALUES <= a->head_dim; d += 16 * LANES_VALUES)
        value_chunks(t, queries, begin, end, d, LANES_VALUES);
    for (; d + 16 <= a->head_dim; d += 16) value_chunks(t, queries, begin, end, d, 1);
    if (d == a->head_dim) return;
    for (size_t i = 0; i < queries; i++)
        for (size_t key = begin; key < end; key++)
            for (size_t rest = d; rest < a->head_dim; rest++)
                a->out[t->first + i][rest] += scores_at(t, i)[key] * a->v[key * a->v_stride + rest];
}

/* Keys that all queries of the tile see are added together; those before and after, query by query. A key that a query
 * does not see may hold anything, a NaN too, so it is never multiplied by 0. */
ALWAYS void value_tile(const query_tile *t, size_t queries) {
    const nigh_attn *a = t->a;
    size_t begin = a->begin[t->first], end = a->end[t->first];
    for (size_t i = 1; i < queries; i++) {
        begin = nigh_max(begin, a->begin[t->first + i]);
        end = nigh_min(end, a->end[t->first + i]);
    }
    if (begin > end) begin = end;
    for (size_t i = 0; i < queries; i++) {
        query_tile one = { a, t->first + i, t->stride };
        value_keys(&one, 1, a->begin[t->first + i], nigh_min(begin, a->end[t->first + i]));
    }
    value_keys(t, queries, begin, end);
    for (size_t i = 0; i < queries; i++) {
        query_tile one = { a, t->first + i, t->stride };
        value_keys(&one, 1, nigh_max(end, a->begin[t->first + i]), a->end[t->first + i]);
    }
}

ALWAYS void attend_tile(const query_tile *t, size_t queries) {
    const nigh_attn *a = t->a;
    size_t begin = SIZE_MAX, end = 0;
    float sum[4];
    for (size_t i = 0; i < queries; i++) {
        begin = nigh_min(begin, a->begin[t->first + i]);
        end = nigh_max(end, a->end[t->first + i]);
    }
    score_tile(t, queries, begin, end);
    for (size_t i = 0; i < queries; i++) {
        sum[i] = weigh_keys(a, t->first + i, scores_at(t, i));
        memset(a->out[t->first + i], 0, a->head_dim * sizeof(float));
    }
    value_tile(t, queries);
    for (size_t i = 0; i < queries; i++) loops_scale(a->out[t->first + i], 1.0f / sum[i], a->head_dim);
}

static void attend_1(const query_tile *t) { attend_tile(t, 1); }
static void attend_2(const query_tile *t) { attend_tile(t, 2); }
#if LANES_QUERIES == 4
static void attend_3(const query_tile *t) { attend_tile(t, 3); }
static void attend_4(const query_tile *t) { attend_tile(t, 4); }
#endif

static void lanes_attend(const nigh_attn *a) {
    query_tile t = { a, 0, 0 };
    for (size_t i = 0; i < a->count; i++) t.stride = nigh_max(t.stride, nigh_round_up(a->end[i], 16));
    while (t.first < a->count) {
        size_t left = nigh_min(a->count - t.first, LANES_QUERIES);
        switch (left) {
        case 1: attend_1(&t); break;
#if LANES_QUERIES == 4
        case 3: attend_3(&t); break;
        case 4: attend_4(&t); break;
#endif
        default: attend_2(&t); break;
        }
        t.first += left;
    }
}
