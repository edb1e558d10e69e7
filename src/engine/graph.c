/* graph.c - what graph.h promises: splits each step of a forward pass over rows of tokens, groups of
 * weights or heads (graph_attend.c). How the work is cut never changes a number: every output value is computed by one
 * thread, from sums whose order kernel.h fixes.
 * A step with little work runs on the calling thread; meeting the other threads would cost more. */
#include "engine/graph.h"

enum {
    INLINE_FLOATS = 16384,          /* elementwise work up to this many values stays on the caller */
    PRODUCTS_MAX = 4
};

static bool type_is_float(nigh_type t) { return t == NIGH_TYPE_F32 || t == NIGH_TYPE_F16 || t == NIGH_TYPE_BF16; }

/* ---- elementwise steps over rows of tokens ---- */

void nigh_graph_each_row(nigh_graph *g, nigh_pool_fn *fn, void *ud, size_t width) {
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
    nigh_graph_each_row(g, rmsnorm_rows, &j, j.width);
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
    nigh_graph_each_row(g, layernorm_rows, &j, j.width);
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
    nigh_graph_each_row(g, head_norm_rows, &j, g->m->h.q_dim);
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
    nigh_graph_each_row(g, wide_norm_rows, &j, g->m->h.q_dim);
}

static void add_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const row_job *j = ud;
    (void)worker;
    j->g->k->add(j->out + begin * j->width, j->in + begin * j->width, (end - begin) * j->width);
}

void nigh_graph_add(nigh_graph *g, float *x, const float *y) {
    row_job j = { .g = g, .out = x, .in = y, .width = g->m->h.embed };
    nigh_graph_each_row(g, add_rows, &j, j.width);
}

static void scale_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const row_job *j = ud;
    (void)worker;
    j->g->k->scale(j->out + begin * j->width, j->by, (end - begin) * j->width);
}

void nigh_graph_scale(nigh_graph *g, float *x, float by, size_t width) {
    row_job j = { .g = g, .out = x, .by = by, .width = width };
    nigh_graph_each_row(g, scale_rows, &j, width);
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
    nigh_graph_each_row(g, gate_rows, &j, j.width);
}

static void gelu_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const row_job *j = ud;
    (void)worker;
    j->g->k->gelu(j->out + begin * j->width, (end - begin) * j->width);
}

void nigh_graph_gelu(nigh_graph *g, float *x) {
    row_job j = { .g = g, .out = x, .width = g->m->h.ffn };
    nigh_graph_each_row(g, gelu_rows, &j, j.width);
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
