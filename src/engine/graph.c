/* graph.c - what graph.h promises: splits each step of a forward pass over rows of tokens, groups of
 * weights or heads (graph_attend.c). How the work is cut never changes a number: every output value is computed by one
 * thread, from sums whose order kernel.h fixes.
 * A step with little work runs on the calling thread; meeting the other threads would cost more. */
#include "engine/graph.h"

enum {
    INLINE_FLOATS = 16384,          /* elementwise work up to this many values stays on the caller */
    FEW_TOKENS = 8,                 /* up to here reading the weights is what takes the time */
    PRODUCTS_MAX = 4,
    PIECE_TOKENS = 128,             /* of many tokens, a piece of a product that stays in a cache until it is used: */
    PIECE_GROUPS = 4,               /* so many tokens, so many groups of rows */
    PIECE_ROWS = PIECE_GROUPS * NIGH_ROWS
};

static bool type_is_float(nigh_type t) { return t == NIGH_TYPE_F32 || t == NIGH_TYPE_F16 || t == NIGH_TYPE_BF16; }

/* ---- elementwise steps over rows of tokens ---- */

void nigh_graph_each_row(nigh_graph *g, nigh_pool_fn *fn, void *ud, size_t width) {
    bool small = g->count * width <= INLINE_FLOATS;
    nigh_pool_run(small ? NULL : g->pool, fn, ud, g->count, nigh_max(1, 4096 / nigh_max(width, 1)));
}

typedef struct { nigh_graph *g; float *out; const float *in, *w, *b; float by; size_t width; } row_job;

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

_Static_assert(2 * PIECE_TOKENS * PIECE_ROWS <= NIGH_GRAPH_PIECE_FLOATS, "a gate and its up fit");

typedef struct {
    const nigh_graph *g;
    const nigh_kernels *k;
    nigh_acts acts;
    const nigh_linear *products;
    size_t count, groups_before[PRODUCTS_MAX + 1];
} linear_job;

static size_t groups_of(const nigh_mat *w) { return (w->rows + NIGH_ROWS - 1) / NIGH_ROWS; }

static void quantize_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const linear_job *j = ud;
    (void)worker;
    j->k->quantize(&j->acts, begin, end);
}

/* The input of the products: rounded where one of them wants it. */
static void round_input(nigh_graph *g, linear_job *j, const float *in, uint32_t rows) {
    bool rounded = false;
    for (size_t i = 0; i < j->count; i++) {
        j->groups_before[i + 1] = j->groups_before[i] + groups_of(j->products[i].w);
        rounded = rounded || !type_is_float(j->products[i].w->type);
    }
    j->g = g;
    j->k = g->k;
    j->acts = g->acts;
    j->acts.x = in;
    j->acts.cols = j->products[0].w->cols;
    j->acts.count = rows;
    if (rounded) nigh_pool_run(rows * j->acts.cols <= INLINE_FLOATS ? NULL : g->pool, quantize_rows, j, rows, 8);
}

static void product_groups(const linear_job *j, const nigh_linear *p, size_t begin, size_t end) {
    size_t rows = p->w->rows, first = begin * NIGH_ROWS, width = nigh_min(end * NIGH_ROWS, rows) - first;
    j->k->matmul(p->w, &j->acts, p->out, rows, begin, end);
    for (size_t t = 0; p->bias && t < j->acts.count; t++) j->k->add(p->out + t * rows + first, p->bias + first, width);
    for (size_t t = 0; p->residual && t < j->acts.count; t++)
        j->k->add(p->residual + t * rows + first, p->out + t * rows + first, width);
}

/* ---- pieces: what many tokens give is used while it is near, and is not kept ---- */

static float *piece_of(const nigh_graph *g, size_t worker) { return g->scratch + worker * g->scratch_stride; }

/* out[t][r] for tokens first..first+count-1 and groups begin..end-1 (+ bias), row behind row. first: a multiple of
 * NIGH_TILE. Returns the rows. */
static size_t product_piece(const linear_job *j, const nigh_linear *p, size_t begin, size_t end, size_t first,
                            size_t count, float *out) {
    const nigh_acts *a = &j->acts;
    nigh_acts some = { .cols = a->cols, .count = count, .x = a->x + first * a->cols, .q = a->q + first * a->cols,
                       .scale = a->scale + first * (a->cols / NIGH_BLOCK),
                       .sum = a->sum + 2 * first * (a->cols / NIGH_BLOCK) };
    nigh_mat m = *p->w;
    m.rows = nigh_min(end * NIGH_ROWS, m.rows) - begin * NIGH_ROWS;
    m.data += begin * m.group_bytes;
    j->k->matmul(&m, &some, out, m.rows, 0, end - begin);
    for (size_t t = 0; p->bias && t < count; t++) j->k->add(out + t * m.rows, p->bias + begin * NIGH_ROWS, m.rows);
    return m.rows;
}

static void residual_groups(const linear_job *j, const nigh_linear *p, size_t worker, size_t begin, size_t end) {
    float *piece = piece_of(j->g, worker);
    for (; begin < end; begin += PIECE_GROUPS)
        for (size_t first = 0; first < j->acts.count; first += PIECE_TOKENS) {
            size_t count = nigh_min(PIECE_TOKENS, j->acts.count - first), last = nigh_min(begin + PIECE_GROUPS, end);
            size_t rows = product_piece(j, p, begin, last, first, count, piece);
            float *to = p->residual + first * p->w->rows + begin * NIGH_ROWS;
            for (size_t t = 0; t < count; t++) j->k->add(to + t * p->w->rows, piece + t * rows, rows);
        }
}

static void linear_groups(void *ud, size_t worker, size_t begin, size_t end) {
    const linear_job *j = ud;
    for (size_t i = 0; i < j->count; i++) {
        const nigh_linear *p = &j->products[i];
        size_t before = j->groups_before[i], b = nigh_max(begin, before), e = nigh_min(end, j->groups_before[i + 1]);
        if (b >= e) continue;
        if (p->residual && j->acts.count > FEW_TOKENS) residual_groups(j, p, worker, b - before, e - before);
        else product_groups(j, p, b - before, e - before);
    }
}

/* Units handed out at once: about 32 KiB of weights for few tokens, four groups when there are many; and enough
 * chunks that the threads end together. */
static size_t grain_of(const nigh_graph *g, size_t tokens, size_t units, size_t unit_bytes, size_t unit_groups) {
    size_t grain = tokens > FEW_TOKENS ? 4 / unit_groups : (32u << 10) / nigh_max(unit_bytes, 1);
    return nigh_max(1, nigh_min(grain, units / (8 * nigh_pool_size(g->pool))));
}

static void run_products(nigh_graph *g, linear_job *j) {
    size_t groups = j->groups_before[j->count];
    nigh_pool_run(g->pool, linear_groups, j, groups,
                  grain_of(g, j->acts.count, groups, j->products[0].w->group_bytes, 1));
}

void nigh_graph_linear_rows(nigh_graph *g, const float *in, uint32_t rows, const nigh_linear *products, size_t count) {
    linear_job j = { .products = products, .count = count };
    round_input(g, &j, in, rows);
    run_products(g, &j);
}

void nigh_graph_linear(nigh_graph *g, const float *in, const nigh_linear *products, size_t count) {
    nigh_graph_linear_rows(g, in, g->count, products, count);
}

/* ---- the halves of a layer ---- */

void nigh_graph_ahead(const nigh_graph *g, const nigh_mat *first, const nigh_mat *last) {
    const uint8_t *end = last->data + groups_of(last) * last->group_bytes;
    if (g->count <= FEW_TOKENS && first->data && end > first->data)
        nigh_pool_ahead(g->pool, first->data, (size_t)(end - first->data));
}

void nigh_graph_qkv(nigh_graph *g, const nigh_layer *l, const float *in) {
    const nigh_linear qkv[] = { { &l->wq, l->bq, g->q, NULL },
                                { &l->wk, l->bk, g->kk, NULL },
                                { &l->wv, l->bv, g->v, NULL } };
    nigh_graph_attend_ahead(g, (uint32_t)(l - g->m->layers));
    nigh_graph_linear(g, in, qkv, NIGH_COUNT(qkv));
}

void nigh_graph_wo(nigh_graph *g, const nigh_layer *l, float *residual) {
    nigh_graph_ahead(g, l->gate.data ? &l->gate : &l->up, &l->up);
    nigh_graph_linear(g, g->att, &(nigh_linear){ &l->wo, l->bo, g->y, residual }, 1);
}

/* A unit is what becomes one rounded block: two groups of the gate and the two of the same rows of up, which lie
 * between each other in memory (weights.c). */
typedef struct { linear_job j; nigh_acts wide; size_t ffn; nigh_act act; bool rounded; } gate_job;

static void gate_rows(const gate_job *j, size_t first, size_t width) {
    float *gate = j->j.products[0].out, *up = j->j.products[1].out;
    for (size_t t = 0; t < j->wide.count; t++) {
        size_t at = t * j->ffn + first;
        if (j->act == NIGH_ACT_SILU) j->j.k->silu_mul(gate + at, up + at, width);
        else j->j.k->gelu_mul(gate + at, up + at, width);
    }
}

/* Gate and up of a piece, its product and what it is rounded to, without a walk through memory. */
static void gate_piece(const gate_job *j, float *gate, size_t begin, size_t end, size_t first, size_t count) {
    const nigh_kernels *k = j->j.k;
    float *up = gate + PIECE_TOKENS * PIECE_ROWS;
    size_t rows = product_piece(&j->j, &j->j.products[0], 2 * begin, 2 * end, first, count, gate);
    product_piece(&j->j, &j->j.products[1], 2 * begin, 2 * end, first, count, up);
    if (j->act == NIGH_ACT_SILU) k->silu_mul(gate, up, count * rows);
    else k->gelu_mul(gate, up, count * rows);
    k->quantize_blocks(&j->wide, gate, rows, first, first + count, begin, end);
}

static void gate_units(void *ud, size_t worker, size_t begin, size_t end) {
    const gate_job *j = ud;
    size_t groups = j->j.groups_before[1], last = nigh_min(2 * end, groups), first = begin * NIGH_BLOCK;
    if (j->rounded && j->wide.count > FEW_TOKENS) {
        for (; begin < end; begin += PIECE_GROUPS / 2)
            for (first = 0; first < j->wide.count; first += PIECE_TOKENS)
                gate_piece(j, piece_of(j->j.g, worker), begin, nigh_min(begin + PIECE_GROUPS / 2, end), first,
                           nigh_min(PIECE_TOKENS, j->wide.count - first));
        return;
    }
    for (size_t i = 2 * begin; i < last; i++)
        for (size_t n = 0; n < 2; n++) product_groups(&j->j, &j->j.products[n], i, i + 1);
    gate_rows(j, first, nigh_min(end * NIGH_BLOCK, j->ffn) - first);
    if (j->rounded)
        j->j.k->quantize_blocks(&j->wide, j->wide.x + first, j->ffn, 0, j->wide.count, begin, end);
}

void nigh_graph_gate_up(nigh_graph *g, const nigh_layer *l, const float *in, nigh_act act) {
    const nigh_linear both[] = { { &l->gate, NULL, g->gate, NULL }, { &l->up, l->bup, g->up, NULL } };
    gate_job j = { .j = { .products = both, .count = 2 }, .wide = g->wide, .ffn = g->m->h.ffn, .act = act };
    size_t units = (groups_of(&l->gate) + 1) / 2;
    j.rounded = !type_is_float(l->down.type);
    j.wide.x = g->gate;
    j.wide.cols = j.ffn;
    j.wide.count = g->count;
    round_input(g, &j.j, in, g->count);
    nigh_graph_ahead(g, &l->down, &l->down);
    nigh_pool_run(g->pool, gate_units, &j, units, grain_of(g, g->count, units, 4 * l->up.group_bytes, 2));
}

void nigh_graph_down(nigh_graph *g, const nigh_layer *l, float *residual) {
    const nigh_linear down = { &l->down, l->bdown, g->y, residual };
    const nigh_layer *next = l + 1;
    linear_job j = { .g = g, .k = g->k, .acts = g->wide, .products = &down, .count = 1 };
    j.groups_before[1] = groups_of(&l->down);
    j.acts.x = g->gate;
    j.acts.cols = l->down.cols;
    j.acts.count = g->count;
    if (next < g->m->layers + g->m->h.layers) nigh_graph_ahead(g, &next->wq, &next->wv);
    else nigh_graph_ahead(g, &g->m->output, &g->m->output);
    run_products(g, &j);
}
