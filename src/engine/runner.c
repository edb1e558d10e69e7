/* runner.c - one batch through the model: rows of token embeddings, the layers of the family's graph,
 * then logits for the rows that are wanted (or a pooled vector).
 * All scratch memory is reserved when the runner is made; none of it grows with the text. Sessions are changed at the
 * very end, so a failure leaves them as they were. */
#include <stdatomic.h>

#include "base/os.h"
#include "engine/graph.h"
#include "kernel/math.h"

enum { BATCH_DEFAULT = 512, BATCH_MAX = 8192, LOGIT_ROWS = 16 };

/* A row of the batch whose logits are wanted, and where they go. */
typedef struct { uint32_t row; float *to; } wanted;

struct nigh_runner {
    const nigh_model *m;
    uint32_t limit;
    nigh_graph g;
    uint8_t *block;
    size_t block_bytes;
    int32_t *ids;                   /* [limit] */
    uint32_t *pos;                  /* [limit] */
    nigh_span *spans;               /* [limit] */
    wanted *wanted;                 /* [limit] */
    size_t wanted_count;
    float *out_rows, *logits;       /* [LOGIT_ROWS][embed], [LOGIT_ROWS][vocab] */
    size_t scratch_bytes;
    nigh_session *own;              /* for nigh_runner_embed */
    atomic_bool cancel;
};

/* Gives every buffer its place; with a zero arena only adds up. Returns bytes. What is never alive together has one
 * place: att and the xn that q, k and v were made from; the rounded input of the last product and q, k, v. */
static size_t lay_out(nigh_runner *r, uint8_t *base) {
    const nigh_hparams *h = &r->m->h;
    size_t t = r->limit, widest = nigh_max(h->embed, nigh_max(h->q_dim, h->ffn)), half = h->rope_dims / 2, at = 0;
    nigh_graph *g = &r->g;
#define PLACE(ptr, count) \
    do { \
        if (base) (ptr) = (void *)(base + at); \
        at += nigh_round_up((count) * sizeof *(ptr), 64); \
    } while (0)
    PLACE(g->x, t * h->embed);
    PLACE(g->xn, t * nigh_max(h->embed, h->q_dim));
    g->att = g->xn;
    PLACE(g->y, t * h->embed);
    size_t begin = at;
    PLACE(g->q, t * h->q_dim);
    PLACE(g->kk, t * h->kv_dim);
    PLACE(g->v, t * h->kv_dim);
    size_t end = at;
    at = begin;
    PLACE(g->wide.q, t * h->ffn);
    PLACE(g->wide.scale, t * (h->ffn / NIGH_BLOCK + 1));
    PLACE(g->wide.sum, t * (h->ffn / 16 + 1));
    at = nigh_max(at, end);
    PLACE(g->gate, t * h->ffn);
    PLACE(g->up, t * h->ffn);
    for (size_t i = 0; i < 2; i++) {
        PLACE(g->cos[i], t * half);
        PLACE(g->sin[i], t * half);
    }
    PLACE(g->acts.q, t * widest);
    PLACE(g->acts.scale, t * (widest / NIGH_BLOCK + 1));
    PLACE(g->acts.sum, t * (widest / 16 + 1));
    PLACE(r->out_rows, (size_t)LOGIT_ROWS * h->embed);
    PLACE(r->logits, (size_t)LOGIT_ROWS * h->vocab);
    PLACE(r->ids, t);
    PLACE(r->pos, t);
    PLACE(r->spans, t);
    PLACE(r->wanted, t);
#undef PLACE
    return at;
}

size_t nigh_runner_bytes(const nigh_model *m, uint32_t batch_tokens) {
    nigh_runner r = { .m = m, .limit = batch_tokens ? batch_tokens : BATCH_DEFAULT };
    return lay_out(&r, NULL);
}

nigh_status nigh_runner_new(nigh_runner **out, const nigh_model *m, nigh_pool *pool, uint32_t batch_tokens,
                            nigh_err *err) {
    *out = NULL;
    if (batch_tokens > BATCH_MAX)
        return nigh_failf(err, NIGH_ERANGE, 0, "a batch of %u tokens is more than %d", batch_tokens, BATCH_MAX);
    nigh_runner *r = nigh_alloc(1, sizeof *r);
    if (!r) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for a runner");
    r->m = m;
    r->limit = batch_tokens ? batch_tokens : BATCH_DEFAULT;
    r->block_bytes = lay_out(r, NULL);
    r->g.scratch_stride = nigh_max(nigh_graph_scratch_floats(m), NIGH_GRAPH_PIECE_FLOATS);
    size_t workers = nigh_pool_size(pool);
    r->scratch_bytes = workers * r->g.scratch_stride * sizeof(float);
    r->block = nigh_os_sparse_take(r->block_bytes);     /* short prompts touch little of it */
    r->g.scratch = nigh_os_sparse_take(r->scratch_bytes);
    if (workers > 1) r->g.parts = nigh_os_sparse_take(NIGH_GRAPH_PARTS_FLOATS * sizeof(float));
    if (!r->block || !r->g.scratch || (workers > 1 && !r->g.parts)) {
        nigh_status st = nigh_failf(err, NIGH_ENOMEM, 0, "a batch of %u tokens needs %zu MiB, which cannot be had",
                                    r->limit, r->block_bytes >> 20);
        nigh_runner_free(r);
        return st;
    }
    lay_out(r, r->block);
    r->g.m = m;
    r->g.k = &m->kernels;
    r->g.pool = pool;
    *out = r;
    return NIGH_OK;
}

void nigh_runner_free(nigh_runner *r) {
    if (!r) return;
    nigh_session_free(r->own);
    nigh_os_pages_give(r->g.parts, NIGH_GRAPH_PARTS_FLOATS * sizeof(float));
    nigh_os_pages_give(r->g.scratch, r->scratch_bytes);
    nigh_os_pages_give(r->block, r->block_bytes);
    nigh_free(r);
}

uint32_t nigh_runner_limit(const nigh_runner *r) { return r->limit; }
void nigh_runner_cancel(nigh_runner *r) { atomic_store(&r->cancel, true); }
void *nigh_runner_cancel_flag(nigh_runner *r) { return &r->cancel; }

/* ---- the walk through the model ---- */

static void embed_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const nigh_graph *g = ud;
    (void)worker;
    for (size_t t = begin; t < end; t++) nigh_mat_row(&g->m->token_embd, (size_t)g->ids[t], g->x + t * g->m->h.embed);
}

static void rotation_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const nigh_graph *g = ud;
    size_t half = g->m->h.rope_dims / 2;
    (void)worker;
    for (size_t table = 0; table < 2; table++) {
        const double *freq = g->m->rope_freq[table];
        for (size_t i = begin * half; freq && i < end * half; i++) {
            double s, c, mscale = (double)g->m->h.rope_mscale[table];
            nigh_sincos64(freq[i % half] * g->pos[i / half], &s, &c);
            g->cos[table][i] = (float)(c * mscale);
            g->sin[table][i] = (float)(s * mscale);
        }
    }
}

static nigh_status walk(nigh_runner *r, nigh_err *err) {
    nigh_graph *g = &r->g;
    nigh_pool *pool = g->count > 8 ? g->pool : NULL;
    nigh_pool_run(pool, embed_rows, g, g->count, 8);
    if (r->m->h.rope_dims) nigh_pool_run(pool, rotation_rows, g, g->count, 8);
    if (r->m->arch->begin) r->m->arch->begin(g);
    for (uint32_t i = 0; i < r->m->h.layers; i++) {
        if (atomic_exchange_explicit(&r->cancel, false, memory_order_relaxed))
            return nigh_fail(err, NIGH_ECANCEL, 0, "stopped by the caller");
        r->m->arch->layer(g, i);
    }
    r->m->arch->end(g);                                                     /* xn: [T][embed] */
    return NIGH_OK;
}

/* Are all values neither NaN nor infinite? */
static bool all_finite(const float *x, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (uint32_t)((bits & 0x7f800000u) == 0x7f800000u);
    }
    return bad == 0;
}

static nigh_status not_finite(nigh_err *err) {
    return nigh_fail(err, NIGH_EDATA, 0, "the model computed a value that is not a number; its weights are damaged");
}

/* Logits of up to LOGIT_ROWS wanted rows: straight to where they go when that is one piece, else by way of a buffer. */
static nigh_status some_logits(nigh_runner *r, const wanted *w, size_t count, nigh_err *err) {
    nigh_graph *g = &r->g;
    size_t embed = r->m->h.embed, vocab = r->m->h.vocab;
    bool direct = true;
    for (size_t i = 0; i < count; i++) {
        memcpy(r->out_rows + i * embed, g->xn + w[i].row * embed, embed * sizeof(float));
        direct = direct && w[i].to == w[0].to + i * vocab;
    }
    float *out = direct ? w[0].to : r->logits;
    nigh_graph_ahead(g, &r->m->layers[0].wq, &r->m->layers[0].wv);      /* most often another token follows */
    nigh_graph_linear_rows(g, r->out_rows, (uint32_t)count, &(nigh_linear){ &r->m->output, NULL, out, NULL }, 1);
    if (r->m->h.final_softcap > 0) g->k->softcap(out, r->m->h.final_softcap, count * vocab);
    for (size_t i = 0; !direct && i < count; i++) memcpy(w[i].to, out + i * vocab, vocab * sizeof(float));
    return all_finite(out, count * vocab) ? NIGH_OK : not_finite(err);
}

/* ---- batches ---- */

static nigh_status check_item(const nigh_runner *r, const nigh_batch_item *item, nigh_err *err) {
    const nigh_session *s = item->session;
    if (item->count == 0) return nigh_fail(err, NIGH_EINVAL, 0, "no tokens to evaluate");
    if (s->in_batch) return nigh_fail(err, NIGH_EINVAL, 0, "a session stands in the batch twice");
    if (item->count > s->limit - s->count)
        return nigh_failf(err, NIGH_ERANGE, 0,
                          "the context is full: it has room for %u tokens, %u are used and %u more were asked for",
                          s->limit, s->count, item->count);
    for (uint32_t i = 0; i < item->count; i++)
        if (item->tokens[i] < 0 || (uint32_t)item->tokens[i] >= r->m->h.vocab)
            return nigh_failf(err, NIGH_EINVAL, i, "token %d does not exist; the vocabulary has %u",
                              (int)item->tokens[i], r->m->h.vocab);
    return NIGH_OK;
}

static void put_item(nigh_runner *r, const nigh_batch_item *item) {
    nigh_graph *g = &r->g;
    nigh_session *s = item->session;
    r->spans[g->span_count++] = (nigh_span){ s, g->count, item->count, s->count };
    s->written = (uint32_t)nigh_max(s->written, s->count + item->count);
    for (uint32_t i = 0; i < item->count; i++) {
        uint32_t row = g->count + i, last = item->count - 1;
        r->ids[row] = item->tokens[i];
        r->pos[row] = s->count + i;
        if (item->logits && (item->all_logits || i == last))
            r->wanted[r->wanted_count++] =
                (wanted){ row, item->logits + (item->all_logits ? (size_t)i * r->m->h.vocab : 0) };
    }
    g->count += item->count;
}

/* Fills the graph from the items. Sets in_batch; the caller clears it. */
static nigh_status gather(nigh_runner *r, const nigh_batch_item *items, size_t count, nigh_err *err) {
    nigh_graph *g = &r->g;
    g->count = 0;
    g->span_count = r->wanted_count = 0;
    g->ids = r->ids;
    g->pos = r->pos;
    g->spans = r->spans;
    for (size_t i = 0; i < count; i++) {
        NIGH_TRY(check_item(r, &items[i], err));
        if (items[i].count > r->limit - g->count)
            return nigh_failf(err, NIGH_ERANGE, 0, "the batch has more than %u tokens", r->limit);
        items[i].session->in_batch = true;
        put_item(r, &items[i]);
    }
    return NIGH_OK;
}

static nigh_status eval(nigh_runner *r, nigh_err *err) {
    NIGH_TRY(walk(r, err));
    for (size_t i = 0; i < r->wanted_count; i += LOGIT_ROWS)
        NIGH_TRY(some_logits(r, r->wanted + i, nigh_min(LOGIT_ROWS, r->wanted_count - i), err));
    return NIGH_OK;
}

nigh_status nigh_runner_eval(nigh_runner *r, const nigh_batch_item *items, size_t count, nigh_err *err) {
    if (count == 0 || count > r->limit) return nigh_failf(err, NIGH_EINVAL, 0, "a batch has 1 to %u items", r->limit);
    if (r->m->info.encoder)
        return nigh_fail(err, NIGH_EINVAL, 0, "this model gives vectors, not text; ask for embeddings");
    for (size_t i = 0; i < count; i++) items[i].session->in_batch = false;
    nigh_status st = gather(r, items, count, err);
    if (st == NIGH_OK) st = eval(r, err);
    for (size_t i = 0; i < count; i++) items[i].session->in_batch = false;
    if (st != NIGH_OK) return st;
    for (size_t i = 0; i < count; i++) {
        nigh_session *s = items[i].session;
        memcpy(s->tokens + s->count, items[i].tokens, items[i].count * sizeof *s->tokens);
        s->count += items[i].count;
    }
    return NIGH_OK;
}

nigh_status nigh_runner_prompt(nigh_runner *r, nigh_session *s, const int32_t *tokens, uint32_t count, float *logits,
                               nigh_err *err) {
    if (count == 0) return nigh_fail(err, NIGH_EINVAL, 0, "the prompt is empty");
    if (count > s->limit)
        return nigh_failf(err, NIGH_ERANGE, 0, "the prompt has %u tokens, but the context has room for %u", count,
                          s->limit);
    for (uint32_t at = nigh_session_reuse(s, tokens, count); at < count;) {
        uint32_t piece = (uint32_t)nigh_min(r->limit, count - at);
        nigh_batch_item item = {
            .session = s, .tokens = tokens + at, .count = piece, .logits = at + piece == count ? logits : NULL
        };
        NIGH_TRY(nigh_runner_eval(r, &item, 1, err));
        at += piece;
    }
    return NIGH_OK;
}

/* ---- vectors ---- */

static void pool_rows(const nigh_runner *r, nigh_pooling pooling, uint32_t count, float *out) {
    const nigh_graph *g = &r->g;
    size_t embed = r->m->h.embed, bytes = embed * sizeof *out;
    if (pooling == NIGH_POOL_NONE) { memcpy(out, g->xn, count * bytes); return; }
    if (pooling != NIGH_POOL_MEAN) {
        memcpy(out, g->xn + (pooling == NIGH_POOL_LAST ? count - 1 : 0) * embed, bytes);
        return;
    }
    memset(out, 0, bytes);
    for (uint32_t t = 0; t < count; t++) g->k->add(out, g->xn + t * embed, embed);
    g->k->scale(out, 1.0f / (float)count, embed);
}

nigh_status nigh_runner_embed(nigh_runner *r, const int32_t *tokens, uint32_t count, float *out, nigh_err *err) {
    uint32_t most = (uint32_t)nigh_min(r->limit, r->m->h.context);
    bool encoder = r->m->info.encoder;
    nigh_pooling pooling = !encoder && r->m->h.pooling == NIGH_POOL_NONE ? NIGH_POOL_MEAN : r->m->h.pooling;
    if (count > most) return nigh_failf(err, NIGH_ERANGE, 0, "the text has %u tokens, but at most %u fit", count, most);
    if (!r->own) NIGH_TRY(nigh_session_make(&r->own, r->m, most, NIGH_TYPE_F32, err));
    r->own->count = 0;
    r->own->in_batch = false;
    nigh_batch_item item = { .session = r->own, .tokens = tokens, .count = count };
    NIGH_TRY(gather(r, &item, 1, err));
    NIGH_TRY(walk(r, err));
    pool_rows(r, pooling, count, out);
    return all_finite(out, (pooling == NIGH_POOL_NONE ? count : 1) * (size_t)r->m->h.embed) ? NIGH_OK : not_finite(err);
}
