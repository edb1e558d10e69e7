/* kernel_attend.h - attention for any machine with vectors: the part of one block of 64 keys (kernel.h).
 *
 * Included by kernel_lanes.h, which says what is defined before. A lane is always one output of its own: the score of a
 * key, or one value of the head. Over a cache of floats each adds its terms in rising order, multiply then add; over a
 * cache of integers it adds exact products of pairs (kv.h), which order does not change. A run of queries shares each
 * key and value in registers. */
/* ---- attention: one block of 64 keys ---- */

enum { KEY_GROUPS = NIGH_KV_BLOCK / 16, INT_CHUNKS = LANES_VALUES > 1 ? 2 : 1 /* of a span of 32 values */,
       SPREAD = LANES_KEYS == 4 /* integers so fast that asking has to be spread: ask_rest */ };

/* A run of queries that are worked on together, and the keys and values as they are read: from the cache as it is, or
 * unpacked to f32, which pays when more queries need them than registers hold. */
typedef struct {
    const nigh_attn *a;
    const uint8_t *k, *v;
    const uint8_t *next_k, *next_v;     /* halves of the next block, to be asked for, or NULL */
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

/* Sixteen values of a cache of floats, from number `at` of a half on. */
ALWAYS v16 load_floats(nigh_type type, const uint8_t *half, size_t at) {
    return type == NIGH_TYPE_F32 ? v16_load((const float *)(const void *)half + at) : v16_load_f16(half + 2 * at);
}
/* Sixteen pairs of a cache of integers. */
ALWAYS v16p load_pairs(nigh_type type, const uint8_t *half, size_t at) {
    return type == NIGH_TYPE_Q8_0 ? v16p_load_i8(half + at) : v16p_load(half + 2 * at);
}

/* Asks for bytes of what comes next. One token waits for memory: while its scores are computed, the keys of the next
 * block are fetched, and while values are added up, its values; the first run of queries asks. */
ALWAYS void ask_for(const uint8_t *p, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(p + at, 0, LANES_FETCH);
}
/* Over a cache of integers the loops over keys and values are shorter than a core needs to bring what they would ask
 * for, and what it cannot keep under way holds up its loads, too (measured: as long as if the block were read without
 * computing). So they ask for the first half of the next block's integers, and the second, with the scales, is asked
 * for between them, in equal parts at `spots` places. */
ALWAYS void ask_rest(nigh_type type, const query_tile *t, size_t spot, size_t spots) {
    if (!SPREAD || !nigh_kv_is_int(type) || !t->next_k || t->first) return;
    size_t dims = t->a->head_dim, begin = NIGH_KV_BLOCK * dims * nigh_kv_value_bytes(type) / 2;
    size_t lines = (nigh_kv_half_bytes(type, dims) - begin) / 64;
    for (size_t i = 2 * lines * spot / spots; i < 2 * lines * (spot + 1) / spots; i++)
        __builtin_prefetch((i < lines ? t->next_k + i * 64 : t->next_v + (i - lines) * 64) + begin, 0, LANES_FETCH);
}
/* Scores of `queries` queries with `groups` groups of 16 keys from group `at` on. */
ALWAYS void score_floats(nigh_type type, const query_tile *t, size_t queries, size_t at, size_t groups) {
    size_t dims = t->a->head_dim, bytes = 16 * nigh_kv_value_bytes(type);
    const float *const *q = t->a->q + t->first;
    const uint8_t *ask = t->next_k && t->first == 0 ? t->next_k + at * dims * bytes : NULL;
    UNSET v16 acc[4][LANES_KEYS];
    UNROLL for (size_t i = 0; i < queries; i++)
        UNROLL for (size_t g = 0; g < groups; g++) acc[i][g] = v16_zero();
    for (size_t d = 0; d < dims; d++) {
        UNSET v16 key[LANES_KEYS];
        UNROLL for (size_t g = 0; g < groups; g++) key[g] = load_floats(type, t->k, ((at + g) * dims + d) * 16);
        if (ask) ask_for(ask + d * groups * bytes, groups * bytes);
        UNROLL for (size_t i = 0; i < queries; i++) {
            v16 by = v16_set1(q[i][d]);
            UNROLL for (size_t g = 0; g < groups; g++) acc[i][g] = v16_add(acc[i][g], v16_mul(by, key[g]));
        }
    }
    UNROLL for (size_t i = 0; i < queries; i++)
        UNROLL for (size_t g = 0; g < groups; g++) v16_store(weights_at(t, i) + (at + g) * 16, acc[i][g]);
}

ALWAYS v16p pair_of(const int16_t *p) {
    int32_t both;
    memcpy(&both, p, sizeof both);
    return v16p_set1(both);
}

/* The same over integers: span by span, exact inside of one. */
ALWAYS void score_ints(nigh_type type, const query_tile *t, size_t queries, size_t at, size_t groups) {
    size_t dims = t->a->head_dim, bytes = (SPREAD ? 16 : 32) * nigh_kv_value_bytes(type), spans = dims / NIGH_KV_SPAN;
    const uint8_t *ask = t->next_k && t->first == 0 ? t->next_k + at * dims / 2 * bytes : NULL;
    const int16_t *q = nigh_attn_ints(t->a, t->first);
    const float *by = nigh_attn_scales(t->a, t->first), *scales = nigh_kv_scales(type, t->k, dims);
    for (size_t s = 0; s < spans; s++) {
        UNSET v16i sum[4][LANES_KEYS];
        UNROLL for (size_t i = 0; i < queries; i++)
            UNROLL for (size_t g = 0; g < groups; g++) sum[i][g] = v16i_zero();
        for (size_t d = s * NIGH_KV_SPAN; d < (s + 1) * NIGH_KV_SPAN; d += 2) {
            UNSET v16p key[LANES_KEYS];
            UNROLL for (size_t g = 0; g < groups; g++) key[g] = load_pairs(type, t->k, ((at + g) * dims + d) * 16);
            if (ask) ask_for(ask + d / 2 * groups * bytes, groups * bytes);
            UNROLL for (size_t i = 0; i < queries; i++) {
                v16p one = pair_of(q + i * dims + d);
                UNROLL for (size_t g = 0; g < groups; g++) sum[i][g] = v16i_dot(sum[i][g], key[g], one);
            }
        }
        UNROLL for (size_t g = 0; g < groups; g++) {
            v16 scale = v16_load(scales + ((at + g) * spans + s) * 16);
            UNROLL for (size_t i = 0; i < queries; i++) {
                float *score = weights_at(t, i) + (at + g) * 16;
                v16 before = s ? v16_load(score) : v16_zero();
                v16 part = v16_mul(v16_of(sum[i][g]), v16_mul(scale, v16_set1(by[i * spans + s])));
                v16_store(score, v16_add(before, part));
            }
        }
    }
}

/* nigh_weightf of `count` times 16 values, side by side, since each of its steps waits for the one before. */
ALWAYS void weights_of(v16 *x, size_t count) {
    const v16 magic = v16_set1(12582912.0f);
    static const float terms[] = { 0.00966628268f, 0.0555740036f, 0.240223512f, 0.693142831f, 1.0f };
    UNSET v16 shifted[KEY_GROUPS], p[KEY_GROUPS];
    UNROLL for (size_t i = 0; i < count; i++) {
        x[i] = v16_max(v16_set1(-100.0f), v16_mul(x[i], v16_set1(1.44269504f)));
        shifted[i] = v16_add(x[i], magic);
        x[i] = v16_sub(x[i], v16_sub(shifted[i], magic));
        p[i] = v16_set1(0.00111255073f);
    }
    UNROLL for (size_t n = 0; n < NIGH_COUNT(terms); n++)
        UNROLL for (size_t i = 0; i < count; i++) p[i] = v16_add(v16_mul(p[i], x[i]), v16_set1(terms[n]));
    UNROLL for (size_t i = 0; i < count; i++) x[i] = v16_raise(p[i], shifted[i]);
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

/* Keys lo..hi-1 of the block's 64 in x, `other` in place of the rest. */
ALWAYS void keep_seen(v16 x[KEY_GROUPS], size_t lo, size_t hi, float other) {
    if (hi - lo == NIGH_KV_BLOCK) return;
    UNROLL for (size_t g = 0; g < KEY_GROUPS; g++) {
        size_t first = nigh_max(lo, 16 * g), last = nigh_min(hi, 16 * g + 16);
        x[g] = first < last ? v16_part(x[g], first - 16 * g, last - 16 * g, other) : v16_set1(other);
    }
}
ALWAYS void load_keys(v16 x[KEY_GROUPS], const float *p) {
    UNROLL for (size_t g = 0; g < KEY_GROUPS; g++) x[g] = v16_load(p + 16 * g);
}
ALWAYS float top_of_keys(const v16 x[KEY_GROUPS]) {
    return v16_top(v16_max(v16_max(x[0], x[1]), v16_max(x[2], x[3])));
}
ALWAYS float sum_of_keys(const v16 x[KEY_GROUPS]) { return v16_sum(v16_add(v16_add(v16_add(x[0], x[1]), x[2]), x[3])); }

/* What turns the weights of a block into integers, for the keys lo..hi-1: ratio[span][key], 0 for the others, and what
 * turns their sums back. Queries that see the same keys share it. */
typedef struct { size_t lo, hi; float *ratio, *back; } ratios;

static void make_ratios(const query_tile *t, ratios *r, size_t lo, size_t hi) {
    size_t dims = t->a->head_dim;
    const float *scales = nigh_kv_scales(t->a->type, t->v, dims), top = nigh_attn_top(t->a->type);
    r->lo = lo;
    r->hi = hi;
    for (size_t s = 0; s < dims / NIGH_KV_SPAN; s++) {
        float *ratio = r->ratio + s * NIGH_KV_BLOCK;
        UNSET v16 x[KEY_GROUPS];
        load_keys(x, scales + s * NIGH_KV_BLOCK);
        keep_seen(x, lo, hi, 0.0f);
        float most = top_of_keys(x), sum = sum_of_keys(x);
        bool usable = most >= 0x1p-100f;
        v16 by = v16_set1(usable ? top / most : 0.0f);
        UNROLL for (size_t g = 0; g < KEY_GROUPS; g++) v16_store(ratio + 16 * g, v16_mul(x[g], by));
        r->back[s] = (usable ? most * (1.0f / top) : 0.0f) + 0.0f * sum;
    }
}

/* The integers of a span's weights of query i, and what turns their sums back. */
ALWAYS int16_t *rounded_at(const query_tile *t, size_t i, size_t s) {
    size_t spans = t->a->head_dim / NIGH_KV_SPAN;
    return (int16_t *)(void *)t->a->scratch + ((t->first + i) * spans + s) * NIGH_KV_BLOCK;
}
ALWAYS float *back_at(const query_tile *t, size_t i) {
    size_t dims = t->a->head_dim, padded = nigh_attn_padded(t->a->count);
    return t->a->scratch + NIGH_KV_BLOCK * (2 * dims + padded) + (t->first + i) * (dims / NIGH_KV_SPAN);
}

/* The weights x of query i as integers. */
ALWAYS void round_weights(const query_tile *t, ratios *r, size_t i, const v16 x[KEY_GROUPS]) {
    size_t lo = low_of(t, i), hi = high_of(t, i);
    const v16 magic = v16_set1(12582912.0f);
    if (lo != r->lo || hi != r->hi) make_ratios(t, r, lo, hi);
    for (size_t s = 0; s < t->a->head_dim / NIGH_KV_SPAN; s++) {
        const float *ratio = r->ratio + s * NIGH_KV_BLOCK;
        int16_t *to = rounded_at(t, i, s);
        UNROLL for (size_t g = 0; g < KEY_GROUPS; g += 2)
            v16_store_low(to + 16 * g, v16_add(v16_mul(x[g], v16_load(ratio + 16 * g)), magic),
                          v16_add(v16_mul(x[g + 1], v16_load(ratio + 16 * g + 16)), magic));
        back_at(t, i)[s] = r->back[s];
    }
}

/* Integer weights of a query that sees nothing. */
static void no_weights(const query_tile *t, size_t i) {
    memset(rounded_at(t, i, 0), 0, t->a->head_dim / NIGH_KV_SPAN * NIGH_KV_BLOCK * sizeof(int16_t));
}

/* Softmax without its division, over the whole block; keys outside lo..hi-1 get weight 0, and a sum of numbers that are
 * not negative does not change when 0 is added. First all tops, so that the queries wait side by side. */
ALWAYS void weigh_keys(nigh_type type, const query_tile *t, ratios *r, size_t queries) {
    float top[4] = { 0 };
    UNSET v16 x[KEY_GROUPS];
    UNROLL for (size_t i = 0; i < queries; i++) {
        size_t lo = low_of(t, i), hi = high_of(t, i);
        ask_rest(type, t, i, 3 * queries);
        if (lo >= hi) continue;
        if (t->a->softcap != 0.0f || t->a->slope) cap_and_distance(t, i, lo, hi);
        load_keys(x, weights_at(t, i));
        keep_seen(x, lo, hi, -__builtin_inff());
        top[i] = top_of_keys(x);
    }
    UNROLL for (size_t i = 0; i < queries; i++) {
        size_t lo = low_of(t, i), hi = high_of(t, i), n = t->first + i;
        float *w = weights_at(t, i);
        ask_rest(type, t, queries + 2 * i, 3 * queries);
        if (lo >= hi) {
            if (nigh_kv_is_int(type)) no_weights(t, i);
            continue;
        }
        v16 by = v16_set1(top[i]);
        UNROLL for (size_t g = 0; g < KEY_GROUPS; g++) x[g] = v16_sub(v16_load(w + 16 * g), by);
        UNROLL for (size_t g = 0; g < KEY_GROUPS; g += LANES_KEYS) weights_of(x + g, LANES_KEYS);
        keep_seen(x, lo, hi, 0.0f);
        t->part[n] = top[i];
        t->part[nigh_attn_padded(t->a->count) + n] = sum_of_keys(x);
        ask_rest(type, t, queries + 2 * i + 1, 3 * queries);
        if (nigh_kv_is_int(type)) round_weights(t, r, i, x);
        else UNROLL for (size_t g = 0; g < KEY_GROUPS; g++) v16_store(w + 16 * g, x[g]);
    }
}

ALWAYS void score_tile(nigh_type type, const query_tile *t, ratios *r, size_t queries) {
    size_t lo = NIGH_KV_BLOCK, hi = 0;
    for (size_t i = 0; i < queries; i++) {
        if (low_of(t, i) >= high_of(t, i)) continue;
        lo = nigh_min(lo, low_of(t, i));
        hi = nigh_max(hi, high_of(t, i));
    }
    size_t at = lo / 16, last = (hi + 15) / 16;
    bool ints = nigh_kv_is_int(type);
    for (; at + LANES_KEYS <= last; at += LANES_KEYS) {
        if (ints) score_ints(type, t, queries, at, LANES_KEYS);
        else score_floats(type, t, queries, at, LANES_KEYS);
    }
    for (; at < last; at++) {
        if (ints) score_ints(type, t, queries, at, 1);
        else score_floats(type, t, queries, at, 1);
    }
    weigh_keys(type, t, r, queries);
}

/* row[i][d..] (from 0 when fresh) += weight * v for `chunks` * 16 values of the head and keys lo..hi-1. */
ALWAYS void value_chunks(nigh_type type, const query_tile *t, size_t queries, size_t lo, size_t hi, size_t d,
                         size_t chunks, bool fresh) {
    size_t dims = t->a->head_dim, bytes = 16 * nigh_kv_value_bytes(type);
    const float *weight = weights_at(t, 0);
    const uint8_t *ask = t->first == 0 ? t->next_v : NULL;
    UNSET v16 acc[4][LANES_VALUES];
    UNROLL for (size_t i = 0; i < queries; i++)
        UNROLL for (size_t c = 0; c < chunks; c++) acc[i][c] = fresh ? v16_zero() : v16_load(row_at(t, i) + d + 16 * c);
    for (size_t key = lo; key < hi; key++) {
        UNSET v16 value[LANES_VALUES];
        UNROLL for (size_t c = 0; c < chunks; c++) value[c] = load_floats(type, t->v, key * dims + d + 16 * c);
        if (ask) ask_for(ask + (key * dims + d) / 16 * bytes, chunks * bytes);
        UNROLL for (size_t i = 0; i < queries; i++) {
            v16 by = v16_set1(weight[i * NIGH_KV_BLOCK + key]);
            UNROLL for (size_t c = 0; c < chunks; c++) acc[i][c] = v16_add(acc[i][c], v16_mul(by, value[c]));
        }
    }
    UNROLL for (size_t i = 0; i < queries; i++)
        UNROLL for (size_t c = 0; c < chunks; c++) v16_store(row_at(t, i) + d + 16 * c, acc[i][c]);
}

ALWAYS void value_keys(nigh_type type, const query_tile *t, size_t queries, size_t lo, size_t hi, bool fresh) {
    size_t d = 0, dims = t->a->head_dim;
    for (; d + 16 * LANES_VALUES <= dims; d += 16 * LANES_VALUES)
        value_chunks(type, t, queries, lo, hi, d, LANES_VALUES, fresh);
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
ALWAYS void float_values(nigh_type type, const query_tile *t, size_t queries) {
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
        value_keys(type, &one, 1, low_of(t, i), nigh_min(lo, high_of(t, i)), true);
    }
    if (before) value_keys(type, t, queries, lo, hi, false);
    else value_keys(type, t, queries, lo, hi, true);
    for (size_t i = 0; most > hi && i < queries; i++) {
        query_tile one = *t;
        one.first += i;
        value_keys(type, &one, 1, nigh_max(hi, low_of(t, i)), high_of(t, i), false);
    }
}

/* Half a block, 32 keys: pairs lo..hi-1 of it, for `chunks` * 16 values of one span. */
ALWAYS void half_chunks(nigh_type type, const query_tile *t, size_t queries, size_t lo, size_t hi, size_t d,
                        size_t chunks, v16i (*sum)[INT_CHUNKS]) {
    size_t dims = t->a->head_dim, bytes = 32 * nigh_kv_value_bytes(type);
    size_t step = dims / NIGH_KV_SPAN * NIGH_KV_BLOCK;
    const int16_t *w = rounded_at(t, 0, d / NIGH_KV_SPAN);
    const uint8_t *ask = t->first == 0 && (!SPREAD || 2 * d < dims) ? t->next_v : NULL;
    UNROLL for (size_t i = 0; i < queries; i++)
        UNROLL for (size_t c = 0; c < chunks; c++) sum[i][c] = v16i_zero();
    for (size_t pair = lo; pair < hi; pair++) {
        UNSET v16p value[INT_CHUNKS];
        UNROLL for (size_t c = 0; c < chunks; c++) value[c] = load_pairs(type, t->v, (pair * dims + d + 16 * c) * 2);
        if (ask) ask_for(ask + (d / 16 * (NIGH_KV_BLOCK / 2) + pair * chunks) * bytes, chunks * bytes);
        UNROLL for (size_t i = 0; i < queries; i++) {
            v16p by = pair_of(w + i * step + 2 * pair);
            UNROLL for (size_t c = 0; c < chunks; c++) sum[i][c] = v16i_dot(sum[i][c], value[c], by);
        }
    }
}

/* The rows over integers. Weights of keys that a query does not see are 0, and an integer is never a NaN, so all
 * queries take the keys that any of them sees. */
ALWAYS void int_values(nigh_type type, const query_tile *t, size_t queries) {
    size_t lo = NIGH_KV_BLOCK, hi = 0, middle = NIGH_KV_BLOCK / 4, dims = t->a->head_dim;
    for (size_t i = 0; i < queries; i++) {
        if (low_of(t, i) >= high_of(t, i)) continue;
        lo = nigh_min(lo, low_of(t, i) / 2);
        hi = nigh_max(hi, (high_of(t, i) + 1) / 2);
    }
    for (size_t d = 0; d < dims && lo < hi; d += 16 * INT_CHUNKS) {
        UNSET v16i sum[4][INT_CHUNKS];
        UNSET v16 low[4][INT_CHUNKS];
        half_chunks(type, t, queries, lo, nigh_min(hi, middle), d, INT_CHUNKS, sum);
        UNROLL for (size_t i = 0; i < queries; i++)
            UNROLL for (size_t c = 0; c < INT_CHUNKS; c++) low[i][c] = v16_of(sum[i][c]);
        half_chunks(type, t, queries, nigh_max(lo, middle), hi, d, INT_CHUNKS, sum);
        UNROLL for (size_t i = 0; i < queries; i++) {
            v16 back = v16_set1(back_at(t, i)[d / NIGH_KV_SPAN]);
            UNROLL for (size_t c = 0; c < INT_CHUNKS; c++)
                v16_store(row_at(t, i) + d + 16 * c, v16_mul(v16_add(low[i][c], v16_of(sum[i][c])), back));
        }
    }
}

ALWAYS void value_rows(nigh_type type, const query_tile *t, size_t queries) {
    if (nigh_kv_is_int(type)) int_values(type, t, queries);
    else float_values(type, t, queries);
}

/* All queries in runs: of LANES_QUERIES, and what is left over at the end. */
ALWAYS void attend_type(nigh_type type, query_tile t) {
    size_t count = t.a->count, rest = count % LANES_QUERIES, whole = count - rest, dims = t.a->head_dim;
    float *behind = t.a->scratch + NIGH_KV_BLOCK * (2 * dims + nigh_attn_padded(count));
    ratios r = { .back = behind + nigh_attn_padded(count) * (dims / NIGH_KV_SPAN) };
    r.ratio = r.back + dims / NIGH_KV_SPAN;
    for (t.first = 0; t.first < whole; t.first += LANES_QUERIES) score_tile(type, &t, &r, LANES_QUERIES);
    if (rest == 1) score_tile(type, &t, &r, 1);
    if (LANES_QUERIES > 2 && rest == 2) score_tile(type, &t, &r, 2);
    if (LANES_QUERIES > 3 && rest == 3) score_tile(type, &t, &r, 3);
    for (t.first = 0; t.first < whole; t.first += LANES_QUERIES) value_rows(type, &t, LANES_QUERIES);
    if (rest == 1) value_rows(type, &t, 1);
    if (LANES_QUERIES > 2 && rest == 2) value_rows(type, &t, 2);
    if (LANES_QUERIES > 3 && rest == 3) value_rows(type, &t, 3);
}

/* The keys lo..hi-1 of a block of f16 as f32, in the scratch. */
ALWAYS void unpack(query_tile *t, size_t lo, size_t hi) {
    size_t dims = t->a->head_dim, d;
    float *k = t->a->scratch, *v = k + NIGH_KV_BLOCK * dims;
    for (size_t at = lo / 16 * dims; at < (hi + 15) / 16 * dims; at++)
        v16_store(k + at * 16, v16_load_f16(t->k + at * 32));
    for (size_t key = lo; key < hi; key++) {
        for (d = 0; d + 16 <= dims; d += 16) v16_store(v + key * dims + d, v16_load_f16(t->v + 2 * (key * dims + d)));
        for (; d < dims; d++) v[key * dims + d] = nigh_kv_value(NIGH_TYPE_F16, t->k, dims, key, d);
    }
    t->k = (const uint8_t *)k;
    t->v = (const uint8_t *)v;
}

static void attend_f32(query_tile t) { attend_type(NIGH_TYPE_F32, t); }

static void attend_f16(query_tile t, size_t lo, size_t hi) {
    if (t.a->count <= LANES_DIRECT) { attend_type(NIGH_TYPE_F16, t); return; }
    unpack(&t, lo, hi);
    attend_f32(t);
}

static void attend_i16(query_tile t) { attend_type(NIGH_TYPE_I16, t); }
static void attend_q8_0(query_tile t) { attend_type(NIGH_TYPE_Q8_0, t); }

/* The scales behind the halves of the next block. */
static void ask_for_scales(const query_tile *t) {
    size_t dims = t->a->head_dim, at = NIGH_KV_BLOCK * dims * nigh_kv_value_bytes(t->a->type),
           bytes = NIGH_KV_BLOCK * sizeof(float) * (dims / NIGH_KV_SPAN);
    ask_for(t->next_k + at, bytes);
    ask_for(t->next_v + at, bytes);
}

static void lanes_attend(const nigh_attn *a, size_t block, float *part) {
    size_t padded = nigh_attn_padded(a->count), lo = NIGH_KV_BLOCK, hi = 0;
    const uint8_t *k = a->blocks + block * a->block_stride;
    size_t half = nigh_kv_half_bytes(a->type, a->head_dim);
    query_tile t = { .a = a, .k = k, .v = k + half, .base = block * NIGH_KV_BLOCK, .part = part };
    for (size_t i = 0; i < padded; i++) part[i] = -__builtin_inff();
    memset(part + padded, 0, padded * sizeof *part);
    for (size_t i = 0; i < a->count; i++) {
        if (low_of(&t, i) >= high_of(&t, i)) continue;
        lo = nigh_min(lo, low_of(&t, i));
        hi = nigh_max(hi, high_of(&t, i));
    }
    if (lo >= hi) return;
    if (a->count <= LANES_DIRECT && a->next) {
        t.next_k = a->next;
        t.next_v = a->next + half;
        if (nigh_kv_is_int(a->type) && !SPREAD) ask_for_scales(&t);
    }
    if (a->type == NIGH_TYPE_F32) attend_f32(t);
    else if (a->type == NIGH_TYPE_F16) attend_f16(t, lo, hi);
    else if (a->type == NIGH_TYPE_I16) attend_i16(t);
    else attend_q8_0(t);
}
