/* train.c - see train.h.
 * AdamW (Loshchilov and Hutter 2019) with decay on matrices only, and clipping by the gradient's length. Sums
 * over all parameters are made in pieces of PIECE values in double and added in order, so that they do not
 * depend on threads. */
#include <math.h>

#include "learn/train.h"

enum { PIECE = 1 << 16 };

struct nigh_trainer {
    nigh_recipe recipe;
    const nigh_feed *feed;
    nigh_pool *pool;
    size_t lane_windows, count, pieces;
    nigh_net **nets;                        /* one for each thread */
    float *grads[NIGH_TRAIN_LANES];
    double losses[NIGH_TRAIN_LANES], *squares;
    uint16_t *tokens;                       /* [batch][window + 1] */
    nigh_state *state;                      /* of the call in progress */
    float grad_scale, rate, by, fix1, fix2;
    uint8_t *is_matrix;
    const nigh_run *held;
    size_t held_windows, held_total;
    double *held_nats;
};

nigh_recipe nigh_recipe_default(void) {
    return (nigh_recipe){
        .shape = { .vocab = 4096, .dim = 256, .layers = 6, .heads = 8, .kv_heads = 4, .ff = 512, .window = 512,
            .rope_base = 10000.0f, .eps = 1e-5f },
        .batch = 16, .warmup = 100, .decay = 600, .steps = 2000, .seed = 1, .rate = 3e-3f, .rate_end = 0.02f,
        .beta1 = 0.9f, .beta2 = 0.95f, .weight_decay = 0.1f, .clip = 1.0f };
}

nigh_status nigh_recipe_check(const nigh_recipe *r, nigh_err *err) {
    NIGH_TRY(nigh_shape_check(&r->shape, err));
    if (r->batch == 0 || r->batch % NIGH_TRAIN_LANES || r->batch > 4096)
        return nigh_failf(err, NIGH_EINVAL, 0, "the batch must be a multiple of %d windows, at most 4,096",
            NIGH_TRAIN_LANES);
    if (r->steps == 0 || r->warmup + (uint64_t)r->decay > r->steps)
        return nigh_fail(err, NIGH_EINVAL, 0, "the steps must be at least warm-up plus decay");
    if (!(r->rate > 0 && r->rate < 1 && r->clip > 0 && r->weight_decay >= 0))
        return nigh_fail(err, NIGH_EINVAL, 0, "rate, clip and weight decay must be positive");
    return NIGH_OK;
}

float nigh_recipe_rate(const nigh_recipe *r, uint64_t step) {
    if (step < r->warmup) return r->rate * (float)(step + 1) / (float)r->warmup;
    uint64_t left = r->steps > step ? r->steps - step : 0;
    if (left >= r->decay) return r->rate;
    return r->rate * (r->rate_end + (1.0f - r->rate_end) * (float)left / (float)r->decay);
}

nigh_status nigh_state_new(nigh_state *s, const nigh_recipe *r, const nigh_bpe *b) {
    *s = (nigh_state){ .recipe = *r, .count = nigh_shape_count(&r->shape),
        .merge_count = nigh_bpe_merge_count(b) };
    s->params = nigh_alloc(s->count, sizeof(float));
    s->m = nigh_alloc(s->count, sizeof(float));
    s->v = nigh_alloc(s->count, sizeof(float));
    s->merges = nigh_alloc(s->merge_count + 1, sizeof *s->merges);
    if (!s->params || !s->m || !s->v || !s->merges) { nigh_state_release(s); return NIGH_ENOMEM; }
    memcpy(s->merges, nigh_bpe_merges(b), s->merge_count * sizeof *s->merges);
    nigh_shape_init(&r->shape, s->params, r->seed);
    return NIGH_OK;
}

void nigh_state_release(nigh_state *s) {
    nigh_free(s->params);
    nigh_free(s->m);
    nigh_free(s->v);
    nigh_free(s->merges);
    *s = (nigh_state){ 0 };
}

nigh_trainer *nigh_trainer_new(const nigh_recipe *r, const nigh_feed *f, nigh_pool *pool, nigh_gemm_fn *gemm) {
    nigh_trainer *t = nigh_alloc(1, sizeof *t);
    if (!t) return NULL;
    *t = (nigh_trainer){ .recipe = *r, .feed = f, .pool = pool, .lane_windows = r->batch / NIGH_TRAIN_LANES,
        .count = nigh_shape_count(&r->shape) };
    t->pieces = (t->count + PIECE - 1) / PIECE;
    for (size_t s = 0; s < f->source_count; s++)
        t->held_total = nigh_max(t->held_total, nigh_feed_held_count(f, s));
    t->nets = nigh_alloc(nigh_pool_size(pool), sizeof *t->nets);
    t->squares = nigh_alloc(t->pieces, sizeof *t->squares);
    t->tokens = nigh_alloc(nigh_max(r->batch, t->lane_windows * nigh_pool_size(pool)) * (r->shape.window + 1),
        sizeof *t->tokens);
    t->is_matrix = nigh_alloc(t->count, 1);
    t->held_nats = nigh_alloc(t->held_total + 1, sizeof *t->held_nats);
    bool ok = t->nets && t->squares && t->tokens && t->is_matrix && t->held_nats;
    for (size_t i = 0; ok && i < nigh_pool_size(pool); i++)
        ok = (t->nets[i] = nigh_net_new(&r->shape, t->lane_windows, gemm)) != NULL;
    for (size_t i = 0; ok && i < NIGH_TRAIN_LANES; i++)
        ok = (t->grads[i] = nigh_alloc(t->count, sizeof(float))) != NULL;
    if (!ok) { nigh_trainer_free(t); return NULL; }
    for (size_t i = 0; i < t->count; i++) t->is_matrix[i] = nigh_shape_is_matrix(&r->shape, i);
    return t;
}

void nigh_trainer_free(nigh_trainer *t) {
    if (!t) return;
    for (size_t i = 0; t->nets && i < nigh_pool_size(t->pool); i++) nigh_net_free(t->nets[i]);
    for (size_t i = 0; i < NIGH_TRAIN_LANES; i++) nigh_free(t->grads[i]);
    nigh_free(t->nets);
    nigh_free(t->squares);
    nigh_free(t->tokens);
    nigh_free(t->is_matrix);
    nigh_free(t->held_nats);
    nigh_free(t);
}

/* ---- one step ---- */
static void run_lanes(void *ud, size_t worker, size_t begin, size_t end) {
    nigh_trainer *t = ud;
    size_t lane_ids = t->lane_windows * (t->recipe.shape.window + 1);
    for (size_t lane = begin; lane < end; lane++) {
        memset(t->grads[lane], 0, t->count * sizeof(float));
        t->losses[lane] = nigh_net_loss(t->nets[worker], t->state->params, t->tokens + lane * lane_ids,
            t->grads[lane], t->grad_scale);
    }
}

/* grads[0] = the sum of all lanes; squares[piece] = its squared length. */
static void sum_pieces(void *ud, size_t worker, size_t begin, size_t end) {
    nigh_trainer *t = ud;
    (void)worker;
    for (size_t piece = begin; piece < end; piece++) {
        size_t first = piece * PIECE, last = nigh_min(first + PIECE, t->count);
        double sum = 0;
        for (size_t by = 1; by < NIGH_TRAIN_LANES; by *= 2)
            for (size_t lane = 0; lane < NIGH_TRAIN_LANES; lane += 2 * by) {
                float *a = t->grads[lane];
                const float *b = t->grads[lane + by];
                for (size_t i = first; i < last; i++) a[i] += b[i];
            }
        for (size_t i = first; i < last; i++) sum += (double)t->grads[0][i] * (double)t->grads[0][i];
        t->squares[piece] = sum;
    }
}

static void update_pieces(void *ud, size_t worker, size_t begin, size_t end) {
    nigh_trainer *t = ud;
    const nigh_recipe *r = &t->recipe;
    float *p = t->state->params, *m = t->state->m, *v = t->state->v;
    const float *grad = t->grads[0];
    (void)worker;
    for (size_t i = begin * PIECE, last = nigh_min(end * PIECE, t->count); i < last; i++) {
        float g = grad[i] * t->by;
        m[i] = r->beta1 * m[i] + (1.0f - r->beta1) * g;
        v[i] = r->beta2 * v[i] + (1.0f - r->beta2) * g * g;
        float decay = t->is_matrix[i] ? r->weight_decay : 0.0f;
        p[i] -= t->rate * (m[i] * t->fix1 / (sqrtf(v[i] * t->fix2) + 1e-8f) + decay * p[i]);
    }
}

double nigh_trainer_step(nigh_trainer *t, nigh_state *s) {
    const nigh_recipe *r = &t->recipe;
    size_t window = r->shape.window, tokens = (size_t)r->batch * window;
    bool late = s->step + r->decay >= r->steps;
    for (size_t i = 0; i < r->batch; i++) nigh_feed_next(t->feed, &s->at, late, t->tokens + i * (window + 1));
    t->state = s;
    t->grad_scale = 1.0f / (float)tokens;
    nigh_pool_run(t->pool, run_lanes, t, NIGH_TRAIN_LANES, 1);
    nigh_pool_run(t->pool, sum_pieces, t, t->pieces, 1);
    double loss = 0, square = 0;
    for (size_t i = 0; i < NIGH_TRAIN_LANES; i++) loss += t->losses[i];
    for (size_t i = 0; i < t->pieces; i++) square += t->squares[i];
    double length = sqrt(square), n = (double)(s->step + 1);
    t->by = length > (double)r->clip ? (float)((double)r->clip / length) : 1.0f;
    t->rate = nigh_recipe_rate(r, s->step);
    t->fix1 = (float)(1 / (1 - pow((double)r->beta1, n)));
    t->fix2 = (float)(1 / (1 - pow((double)r->beta2, n)));
    nigh_pool_run(t->pool, update_pieces, t, t->pieces, 1);
    loss /= (double)tokens;
    s->step++;
    s->recent = s->step == 1 ? loss : 0.98 * s->recent + 0.02 * loss;
    return loss;
}

/* ---- held-out loss ---- */
static void run_held(void *ud, size_t worker, size_t begin, size_t end) {
    nigh_trainer *t = ud;
    size_t window = t->recipe.shape.window, all = (t->held->count - 1) / window;
    uint16_t *ids = t->tokens + worker * t->lane_windows * (window + 1);
    for (size_t group = begin; group < end; group++) {
        double *out = t->held_nats + group;
        for (size_t w = 0; w < t->lane_windows; w++) {
            size_t idx = nigh_min(group * t->lane_windows + w, t->held_windows - 1) * all / t->held_windows;
            memcpy(ids + w * (window + 1), t->held->ids + idx * window, (window + 1) * sizeof *ids);
        }
        *out = nigh_net_loss(t->nets[worker], t->state->params, ids, NULL, 0);
    }
}

nigh_held nigh_trainer_held(nigh_trainer *t, const nigh_state *s, size_t source, size_t max_windows) {
    size_t all = nigh_feed_held_count(t->feed, source), window = t->recipe.shape.window;
    size_t groups = (max_windows ? nigh_min(max_windows, all) : all) / t->lane_windows;
    nigh_held held = { 0, groups * t->lane_windows * window };
    if (groups == 0) return held;
    t->state = (nigh_state *)(uintptr_t)s;
    t->held = &t->feed->held[source];
    t->held_windows = groups * t->lane_windows;
    nigh_pool_run(t->pool, run_held, t, groups, 1);
    for (size_t g = 0; g < groups; g++) held.nats += t->held_nats[g];
    return held;
}
