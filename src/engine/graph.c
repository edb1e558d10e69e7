/* graph.c - what graph.h promises: splits each step of a forward pass over rows of tokens, groups of
 * weights or heads. How the work is cut never changes a number: every output value is computed by one
 * thread, from sums whose order kernel.h fixes.
 * A step with little work runs on the calling thread; meeting the other threads would cost more. */
#include "engine/graph.h"

#include "kernel/math.h"

enum {
    INLINE_FLOATS = 16384,          /* elementwise work up to this many values stays on the caller */
    PRODUCTS_MAX = 4,
    TILE_QUERIES = 16               /* queries that share one pass over keys and values */
};

static bool type_is_float(nigh_type t) { return t == NIGH_TYPE_F32 || t == NIGH_TYPE_F16 || t == NIGH_TYPE_BF16; }

/* ---- elementwise steps over rows of tokens ---- */

static void each_row(nigh_graph *g, nigh_pool_fn *fn, void *ud, size_t width) {
    bool small = g->count * width <= INLINE_FLOATS;
    nigh_pool_run(small ? NULL : g->pool, fn, ud, g->count, nigh_max(1, 4096 / nigh_max(width, 1)));
}

typedef struct { nigh_graph *g; float *out; const float *in, *w, *b; float by; size_t width; nigh_act act; } row_job;

static void rmsnorm_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const row_job *j = ud;
    (void)worker;
    for (size_t t = begin; t < end; t++)
        j->g->k->rmsnorm(j->out + t * j->width, j->in + t * j->width, j->w, j->width, j->g->m->h.norm_eps);
}

void nigh_graph_rmsnorm(nigh_graph *g, float *out, const float *in, const float *w) {
    row_job j = { .g = g, .out = out, .in = in, .w = w, .width = g->m->h.embed };
    each_row(g, rmsnorm_rows, &j, j.width);
}

static void layernorm_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const row_job *j = ud;
    (void)worker;
    for (size_t t = begin; t < end; t++) {
        float *x = j->out + t * j->width;
        j->g->k->layernorm(x, x, j->w, j->b, j->width, j->g->m->h.norm_eps);
    }
}

void nigh_graph_layernorm(nigh_graph *g, float *x, const float *w, const float *b) {
    row_job j = { .g = g, .out = x, .w = w, .b = b, .width = g->m->h.embed };
    each_row(g, layernorm_rows, &j, j.width);
}

static void head_norm_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const row_job *j = ud;
    const nigh_hparams *h = &j->g->m->h;
    (void)worker;
    for (size_t t = begin; t < end; t++) {
        float *q = j->g->q + t * h->q_dim, *k = j->g->kk + t * h->kv_dim;
        for (uint32_t i = 0; i < h->heads; i++)
            j->g->k->rmsnorm(q + i * h->head_dim, q + i * h->head_dim, j->w, h->head_dim, h->norm_eps);
        for (uint32_t i = 0; i < h->kv_heads; i++)
            j->g->k->rmsnorm(k + i * h->head_dim, k + i * h->head_dim, j->b, h->head_dim, h->norm_eps);
    }
}

void nigh_graph_head_norm(nigh_graph *g, const float *q_norm, const float *k_norm) {
    row_job j = { .g = g, .w = q_norm, .b = k_norm };
    each_row(g, head_norm_rows, &j, g->m->h.q_dim);
}

static void wide_norm_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const row_job *j = ud;
    const nigh_hparams *h = &j->g->m->h;
    (void)worker;
    for (size_t t = begin; t < end; t++) {
        float *q = j->g->q + t * h->q_dim, *k = j->g->kk + t * h->kv_dim;
        j->g->k->rmsnorm(q, q, j->w, h->q_dim, h->norm_eps);
        j->g->k->rmsnorm(k, k, j->b, h->kv_dim, h->norm_eps);
    }
}

void nigh_graph_wide_norm(nigh_graph *g, const float *q_norm, const float *k_norm) {
    row_job j = { .g = g, .w = q_norm, .b = k_norm };
    each_row(g, wide_norm_rows, &j, g->m->h.q_dim);
}

static void add_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const row_job *j = ud;
    (void)worker;
    j->g->k->add(j->out + begin * j->width, j->in + begin * j->width, (end - begin) * j->width);
}

void nigh_graph_add(nigh_graph *g, float *x, const float *y) {
    row_job j = { .g = g, .out = x, .in = y, .width = g->m->h.embed };
    each_row(g, add_rows, &j, j.width);
}

static void scale_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const row_job *j = ud;
    (void)worker;
    j->g->k->scale(j->out + begin * j->width, j->by, (end - begin) * j->width);
}

void nigh_graph_scale(nigh_graph *g, float *x, float by, size_t width) {
    row_job j = { .g = g, .out = x, .by = by, .width = width };
    each_row(g, scale_rows, &j, width);
}

static void gate_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const row_job *j = ud;
    size_t at = begin * j->width, n = (end - begin) * j->width;
    (void)worker;
    if (j->act == NIGH_ACT_SILU) j->g->k->silu_mul(j->out + at, j->in + at, n);
    else j->g->k->gelu_mul(j->out + at, j->in + at, n);
}

void nigh_graph_gate(nigh_graph *g, nigh_act act) {
    row_job j = { .g = g, .out = g->gate, .in = g->up, .act = act, .width = g->m->h.ffn };
    each_row(g, gate_rows, &j, j.width);
}

static void gelu_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const row_job *j = ud;
    (void)worker;
    j->g->k->gelu(j->out + begin * j->width, (end - begin) * j->width);
}

void nigh_graph_gelu(nigh_graph *g, float *x) {
    row_job j = { .g = g, .out = x, .width = g->m->h.ffn };
    each_row(g, gelu_rows, &j, j.width);
}

/* ---- products ---- */

typedef struct {
    nigh_graph *g;
    nigh_acts acts;
    const nigh_linear *products;
    size_t count, groups_before[PRODUCTS_MAX + 1];
} linear_job;

static void quantize_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const linear_job *j = ud;
    (void)worker;
    j->g->k->quantize(&j->acts, begin, end);
}

static void product_groups(const linear_job *j, const nigh_linear *p, size_t begin, size_t end) {
    size_t rows = p->w->rows, first = begin * NIGH_ROWS, last = nigh_min(end * NIGH_ROWS, rows);
    j->g->k->matmul(p->w, &j->acts, p->out, rows, begin, end);
    for (size_t t = 0; p->bias && t < j->acts.count; t++)
        j->g->k->add(p->out + t * rows + first, p->bias + first, last - first);
}

static void linear_groups(void *ud, size_t worker, size_t begin, size_t end) {
    const linear_job *j = ud;
    (void)worker;
    for (size_t i = 0; i < j->count; i++) {
        size_t b = nigh_max(begin, j->groups_before[i]), e = nigh_min(end, j->groups_before[i + 1]);
        if (b < e) product_groups(j, &j->products[i], b - j->groups_before[i], e - j->groups_before[i]);
    }
}

/* Groups of 16 rows handed out at once: about 64 KiB of weights for one token, less when there are many. */
static size_t linear_grain(const linear_job *j, size_t threads) {
    size_t groups = j->groups_before[j->count], bytes = j->products[0].w->group_bytes;
    size_t grain = j->acts.count > 8 ? 4 : nigh_max(1, (64u << 10) / nigh_max(bytes, 1));
    return nigh_max(1, nigh_min(grain, groups / (4 * threads)));
}

void nigh_graph_linear_rows(nigh_graph *g, const float *in, uint32_t rows, const nigh_linear *products, size_t count) {
    linear_job j = { .g = g, .acts = g->acts, .products = products, .count = count };
    bool rounded = false;
    j.acts.x = in;
    j.acts.cols = products[0].w->cols;
    j.acts.count = rows;
    for (size_t i = 0; i < count; i++) {
        j.groups_before[i + 1] = j.groups_before[i] + (products[i].w->rows + NIGH_ROWS - 1) / NIGH_ROWS;
        rounded = rounded || !type_is_float(products[i].w->type);
    }
    if (rounded) nigh_pool_run(rows * j.acts.cols <= INLINE_FLOATS ? NULL : g->pool, quantize_rows, &j, rows, 8);
    nigh_pool_run(g->pool, linear_groups, &j, j.groups_before[count], linear_grain(&j, nigh_pool_size(g->pool)));
}

void nigh_graph_linear(nigh_graph *g, const float *in, const nigh_linear *products, size_t count) {
    nigh_graph_linear_rows(g, in, g->count, products, count);
}

void nigh_graph_qkv(nigh_graph *g, const nigh_layer *l, const float *in) {
    const nigh_linear qkv[] = { { &l->wq, l->bq, g->q }, { &l->wk, l->bk, g->kk }, { &l->wv, l->bv, g->v } };
    nigh_graph_linear(g, in, qkv, NIGH_COUNT(qkv));
}

void nigh_graph_wo(nigh_graph *g, const nigh_layer *l) {
    nigh_graph_linear(g, g->att, &(nigh_linear){ &l->wo, l->bo, g->y }, 1);
}

void nigh_graph_ffn(nigh_graph *g, const nigh_layer *l, const float *in, nigh_act act) {
    const nigh_linear wide[] = { { &l->gate, NULL, g->gate }, { &l->up, l->bup, g->up } };
    nigh_graph_linear(g, in, wide, NIGH_COUNT(wide));                           /* gate, up: [T][ffn] */
    nigh_graph_gate(g, act);                                                    /* gate:     [T][ffn] */
    nigh_graph_linear(g, g->gate, &(nigh_linear){ &l->down, l->bdown, g->y }, 1);   /* y:    [T][embed] */
}

/* ---- rotation, cache, attention ---- */

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
    each_row(g, store_rows, &j, g->m->h.q_dim + 2 * (size_t)g->m->h.kv_dim);
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
