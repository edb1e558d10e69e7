/* graph_attend.c - the half of graph.h that knows the key/value cache: rotation, storing, attention.
 * Attention is split into jobs of one key/value head (with all query heads that share it) and a tile of
 * tokens; a job reads its keys and values once for the whole tile. */
#include "engine/graph.h"

#include "kernel/math.h"

enum {
    INLINE_FLOATS = 16384,          /* elementwise work up to this many values stays on the caller */
    TILE_QUERIES = 16               /* queries that share one pass over keys and values */
};

typedef struct { nigh_graph *g; uint32_t layer_idx, window; size_t table, tile_tokens; } attend_job;

static const nigh_span *span_of(const nigh_graph *g, size_t row) {
    const nigh_span *s = g->spans;
    while (row >= (size_t)s->first + s->count) s++;
    return s;
}

static void store_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const attend_job *j = ud;
    nigh_graph *g = j->g;
    const nigh_hparams *h = &g->m->h;
    uint32_t half = h->rope_dims / 2, dim = h->head_dim;
    bool adjacent = (g->m->arch->flags & NIGH_ARCH_ADJACENT) != 0;
    (void)worker;
    for (size_t t = begin; t < end; t++) {
        const nigh_span *s = span_of(g, t);
        size_t table = h->rope_original ? s->session->limit > h->rope_original : j->table;
        const float *c = g->cos[table] + t * half, *n = g->sin[table] + t * half;
        for (uint32_t i = 0; half && i < h->heads; i++) g->k->rope(g->q + t * h->q_dim + i * dim, c, n, half, adjacent);
        for (uint32_t i = 0; i < h->kv_heads; i++) {
            float *key = g->kk + t * h->kv_dim + i * dim;
            if (half) g->k->rope(key, c, n, half, adjacent);
            size_t pos = g->pos[t];
            float *keys =
                nigh_session_keys(s->session, j->layer_idx, i) + pos / NIGH_ROWS * NIGH_ROWS * dim + pos % NIGH_ROWS;
            for (uint32_t d = 0; d < dim; d++) keys[d * NIGH_ROWS] = key[d];
            memcpy(nigh_session_values(s->session, j->layer_idx, i) + pos * dim, g->v + t * h->kv_dim + i * dim,
                   dim * sizeof(float));
        }
    }
}

void nigh_graph_store(nigh_graph *g, uint32_t layer_idx, size_t table) {
    attend_job j = { .g = g, .layer_idx = layer_idx, .table = table };
    nigh_graph_each_row(g, store_rows, &j, g->m->h.q_dim + 2 * (size_t)g->m->h.kv_dim);
}

/* Press et al., "Train short, test long" (2022): slopes for any number of heads. */
static float alibi_slope(const nigh_hparams *h, uint32_t head) {
    uint32_t power = 1;
    while (power * 2 <= h->heads) power *= 2;
    float step = head < power ? 1.0f : 0.5f,
          exponent = head < power ? (float)(head + 1) : (float)(2 * (head - power) + 1);
    return (float)nigh_pow64(2.0, -(double)(h->alibi_max * step * exponent) / (double)power);
}

/* What row t may see: [*begin, *end). */
static void visible(const nigh_graph *g, const nigh_span *s, size_t t, uint32_t window, uint32_t *begin,
                    uint32_t *end) {
    uint32_t pos = g->pos[t], last = s->pos + s->count, reach = window / 2;
    if (g->m->h.causal) {
        *end = pos + 1;
        *begin = window && pos + 1 > window ? pos + 1 - window : 0;
    } else {
        *begin = window && pos > reach ? pos - reach : 0;
        *end = window && last - pos > reach + 1 ? pos + reach + 1 : last;
    }
}

/* One tile of tokens and one key/value head with all query heads that share it. */
static void attend_tile(const attend_job *j, const nigh_span *s, uint32_t first, uint32_t tokens, uint32_t kv_head,
                        float *scratch) {
    const nigh_graph *g = j->g;
    const nigh_hparams *h = &g->m->h;
    enum { QUERIES_MAX = 128 };     /* not less than NIGH_GROUP_MAX and TILE_QUERIES */
    const float *q[QUERIES_MAX];
    float *out[QUERIES_MAX], slope[QUERIES_MAX];
    uint32_t begin[QUERIES_MAX], end[QUERIES_MAX], pos[QUERIES_MAX];
    uint32_t group = h->heads / h->kv_heads;
    size_t n = 0;
    for (uint32_t t = first; t < first + tokens; t++) {
        for (uint32_t i = 0; i < group; i++, n++) {
            uint32_t head = kv_head * group + i;
            q[n] = g->q + (size_t)t * h->q_dim + (size_t)head * h->head_dim;
            out[n] = g->att + (size_t)t * h->q_dim + (size_t)head * h->head_dim;
            pos[n] = g->pos[t];
            visible(g, s, t, j->window, &begin[n], &end[n]);
            if (h->alibi_max > 0) slope[n] = alibi_slope(h, head);
        }
    }
    const nigh_attn a = { .count = n,
                          .head_dim = h->head_dim,
                          .q = q,
                          .out = out,
                          .begin = begin,
                          .end = end,
                          .pos = pos,
                          .slope = h->alibi_max > 0 ? slope : NULL,
                          .softcap = h->attn_softcap,
                          .k = nigh_session_keys(s->session, j->layer_idx, kv_head),
                          .v = nigh_session_values(s->session, j->layer_idx, kv_head),
                          .v_stride = h->head_dim,
                          .scratch = scratch };
    g->k->attend(&a);
}

/* Jobs are numbered span by span, tile by tile, head by head. */
static void attend_jobs(void *ud, size_t worker, size_t begin, size_t end) {
    const attend_job *j = ud;
    const nigh_graph *g = j->g;
    size_t heads = g->m->h.kv_heads, before = 0;
    for (size_t i = 0; i < g->span_count; i++) {
        const nigh_span *s = &g->spans[i];
        size_t tiles = (s->count + j->tile_tokens - 1) / j->tile_tokens, jobs = tiles * heads;
        for (size_t n = nigh_max(begin, before); n < nigh_min(end, before + jobs); n++) {
            size_t tile = (n - before) / heads, first = tile * j->tile_tokens;
            uint32_t tokens = (uint32_t)nigh_min(j->tile_tokens, s->count - first);
            attend_tile(j, s, s->first + (uint32_t)first, tokens, (uint32_t)((n - before) % heads),
                        g->scores + worker * g->scores_stride);
        }
        before += jobs;
    }
}

void nigh_graph_attend(nigh_graph *g, uint32_t layer_idx, uint32_t window) {
    attend_job j = { .g = g, .layer_idx = layer_idx, .window = window };
    size_t jobs = 0, keys = 0, group = g->m->h.heads / g->m->h.kv_heads;
    j.tile_tokens = nigh_max(1, TILE_QUERIES / group);
    for (size_t i = 0; i < g->span_count; i++) {
        jobs += (g->spans[i].count + j.tile_tokens - 1) / j.tile_tokens * g->m->h.kv_heads;
        keys += (size_t)(g->spans[i].pos + g->spans[i].count) * g->spans[i].count;
    }
    bool small = keys * g->m->h.q_dim <= INLINE_FLOATS;
    nigh_pool_run(small ? NULL : g->pool, attend_jobs, &j, jobs, 1);
}

size_t nigh_graph_scores_floats(const nigh_model *m, uint32_t limit) {
    size_t group = m->h.heads / m->h.kv_heads;
    return nigh_max(group, TILE_QUERIES) * nigh_round_up(limit, NIGH_ROWS);
}
