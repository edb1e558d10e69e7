/* net.c - forward and backward of net.h.
 *
 * T = windows * window tokens stand as rows. For each layer the forward pass keeps what the backward pass
 * needs:
 *   x      [T][dim]   input of the layer            x2   [T][dim]   after attention
 *   xn     [T][dim]   its norm, with weight         xn2  [T][dim]
 *   qkv    [T][qkv]   rotated queries, keys, values gu   [T][2 ff]  gate and up
 *   att    [T][dim]   attention's output            h    [T][ff]    silu(gate) * up
 *   lse    [heads][T] log of each softmax sum
 * Attention's probabilities are computed again in the backward pass from lse (they would be the largest thing
 * here). The head works on HEAD_ROWS tokens at a time: logits, loss and gradient of these rows never leave the
 * cache's neighbourhood. Sums inside a row are plain loops in 16 lanes, so the compiler can use vectors without
 * changing the order. */
#include <math.h>

#include "learn/net.h"

enum { HEAD_ROWS = 256, ATT_ROWS = 128, LANES = 16 };

struct nigh_net {
    nigh_shape s;
    nigh_gemm_fn *gemm;
    size_t windows, tokens;
    struct kept { float *x, *xn, *qkv, *att, *lse, *x2, *xn2, *gu, *h; } *layer;
    float *out, *outn;                      /* [T][dim]: last x and its norm       */
    float *logits;                          /* [HEAD_ROWS][vocab]                  */
    float *dx, *dn, *dqkv, *datt, *dgu, *dh;  /* gradients, shapes as above          */
    float *p, *dp;                          /* [ATT_ROWS][window]                  */
    float *cos, *sin;                       /* [window][head_dim / 2]              */
    void *scratch;
    uint8_t *block;
};

/* ---- shape ---- */
static size_t layer_floats(const nigh_shape *s) {
    size_t d = s->dim;
    return 2 * d + nigh_shape_qkv(s) * d + d * d + 3 * (size_t)s->ff * d;
}
nigh_layer_at nigh_shape_layer(const nigh_shape *s, size_t layer) {
    size_t d = s->dim;
    nigh_layer_at at = { .attn_norm = (size_t)s->vocab * d + layer * layer_floats(s) };
    at.wqkv = at.attn_norm + d;
    at.wo = at.wqkv + nigh_shape_qkv(s) * d;
    at.ff_norm = at.wo + d * d;
    at.wgu = at.ff_norm + d;
    at.wd = at.wgu + 2 * (size_t)s->ff * d;
    return at;
}
size_t nigh_shape_out_norm(const nigh_shape *s) {
    return (size_t)s->vocab * s->dim + s->layers * layer_floats(s);
}
size_t nigh_shape_count(const nigh_shape *s) { return nigh_shape_out_norm(s) + s->dim; }

bool nigh_shape_is_matrix(const nigh_shape *s, size_t i) {
    size_t begin = (size_t)s->vocab * s->dim;
    if (i < begin) return true;
    if (i >= nigh_shape_out_norm(s)) return false;
    nigh_layer_at first = nigh_shape_layer(s, 0);
    size_t in = (i - begin) % layer_floats(s), ff = first.ff_norm - begin;
    return in >= s->dim && !(in >= ff && in < ff + s->dim);
}

nigh_status nigh_shape_check(const nigh_shape *s, nigh_err *err) {
    if (s->vocab < 2 || s->vocab > 65535)
        return nigh_fail(err, NIGH_EINVAL, 0, "the vocabulary must have 2 to 65,535 tokens");
    if (s->dim == 0 || s->dim > 4096 || s->dim % 32)
        return nigh_fail(err, NIGH_EINVAL, 0, "the width must be a multiple of 32, at most 4,096");
    if (s->ff == 0 || s->ff > 16384 || s->ff % 32)
        return nigh_fail(err, NIGH_EINVAL, 0,
            "the feed-forward width must be a multiple of 32, at most 16,384");
    if (s->heads == 0 || s->dim % s->heads || s->dim / s->heads % 2)
        return nigh_fail(err, NIGH_EINVAL, 0, "the heads must divide the width into even parts");
    if (s->kv_heads == 0 || s->heads % s->kv_heads)
        return nigh_fail(err, NIGH_EINVAL, 0, "the key heads must divide the heads");
    if (s->layers == 0 || s->layers > 128)
        return nigh_fail(err, NIGH_EINVAL, 0, "there must be 1 to 128 layers");
    if (s->window < 2 || s->window > 8192)
        return nigh_fail(err, NIGH_EINVAL, 0, "the context must be 2 to 8,192 tokens");
    return NIGH_OK;
}

static uint64_t next_random(uint64_t *state) { /* splitmix64, Vigna 2015 */
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Nearly normal: the sum of twelve uniform values less six (variance 1, no tails past 6); only + and -, so the
 * same everywhere. */
static float next_normal(uint64_t *state) {
    float sum = -6.0f;
    for (int i = 0; i < 12; i++) sum += (float)(next_random(state) >> 40) * (1.0f / 16777216.0f);
    return sum;
}

static void fill(float *p, size_t n, float deviation, uint64_t *seed) {
    for (size_t i = 0; i < n; i++) p[i] = deviation * next_normal(seed);
}

void nigh_shape_init(const nigh_shape *s, float *params, uint64_t seed) {
    size_t d = s->dim;
    float in = 0.64f / sqrtf((float)d), out = in / sqrtf(2.0f * (float)s->layers);
    for (size_t i = 0, n = nigh_shape_count(s); i < n; i++) params[i] = 1.0f;
    fill(params, (size_t)s->vocab * d, in, &seed);
    for (size_t l = 0; l < s->layers; l++) {
        nigh_layer_at at = nigh_shape_layer(s, l);
        fill(params + at.wqkv, nigh_shape_qkv(s) * d, in, &seed);
        fill(params + at.wo, d * d, out, &seed);
        fill(params + at.wgu, 2 * (size_t)s->ff * d, in, &seed);
        fill(params + at.wd, (size_t)s->ff * d, out, &seed);
    }
}

/* ---- memory ---- */
static void carve(nigh_net *n, nigh_arena *a) {
    const nigh_shape *s = &n->s;
    size_t t = n->tokens, d = s->dim, half = nigh_shape_head_dim(s) / 2;
#define TAKE(count) nigh_arena_take(a, sizeof(float), (count))
    for (size_t l = 0; l < s->layers; l++) {
        struct kept *k = &n->layer[l];
        k->x = TAKE(t * d); k->xn = TAKE(t * d); k->qkv = TAKE(t * nigh_shape_qkv(s));
        k->att = TAKE(t * d); k->lse = TAKE(t * s->heads); k->x2 = TAKE(t * d); k->xn2 = TAKE(t * d);
        k->gu = TAKE(t * 2 * s->ff); k->h = TAKE(t * s->ff);
    }
    n->out = TAKE(t * d); n->outn = TAKE(t * d);
    n->logits = TAKE((size_t)HEAD_ROWS * s->vocab);
    n->dx = TAKE(t * d); n->dn = TAKE(t * d); n->dqkv = TAKE(t * nigh_shape_qkv(s)); n->datt = TAKE(t * d);
    n->dgu = TAKE(t * 2 * s->ff); n->dh = TAKE(t * s->ff);
    n->p = TAKE((size_t)ATT_ROWS * s->window); n->dp = TAKE((size_t)ATT_ROWS * s->window);
    n->cos = TAKE(s->window * half); n->sin = TAKE(s->window * half);
#undef TAKE
    n->scratch = nigh_arena_take(a, 1, NIGH_GEMM_SCRATCH);
}

static size_t block_bytes(const nigh_shape *s, size_t t) {
    size_t d = s->dim, qkv = nigh_shape_qkv(s);
    size_t floats = s->layers * t * (5 * d + qkv + s->heads + 3 * (size_t)s->ff)
        + t * (5 * d + qkv + 3 * (size_t)s->ff)
        + (size_t)HEAD_ROWS * s->vocab + 2 * (size_t)ATT_ROWS * s->window + s->window * nigh_shape_head_dim(s);
    return floats * sizeof(float) + NIGH_GEMM_SCRATCH + (9 * (size_t)s->layers + 16) * 64;
}

nigh_net *nigh_net_new(const nigh_shape *s, size_t windows, nigh_gemm_fn *gemm) {
    nigh_net *n = nigh_alloc(1, sizeof *n);
    if (!n) return NULL;
    *n = (nigh_net){ .s = *s, .gemm = gemm, .windows = windows, .tokens = windows * s->window };
    size_t bytes = block_bytes(s, n->tokens), half = nigh_shape_head_dim(s) / 2;
    n->layer = nigh_alloc(sizeof *n->layer, s->layers);
    n->block = nigh_alloc(1, bytes);
    if (!n->layer || !n->block) { nigh_net_free(n); return NULL; }
    nigh_arena a = { n->block, n->block + bytes };
    carve(n, &a);
    for (size_t pos = 0; pos < s->window; pos++)
        for (size_t i = 0; i < half; i++) {
            double angle = (double)pos * pow((double)s->rope_base, -(double)i / (double)half);
            n->cos[pos * half + i] = (float)cos(angle);
            n->sin[pos * half + i] = (float)sin(angle);
        }
    return n;
}

void nigh_net_free(nigh_net *n) {
    if (!n) return;
    nigh_free(n->layer);
    nigh_free(n->block);
    nigh_free(n);
}

/* ---- small pieces ---- */
/* e^x for x <= 88: 2^n * polynomial on [-ln2/2, ln2/2], relative error below 3e-7. A loop over it becomes
 * vectors. */
static inline float fast_exp(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = x * 1.44269504f + 12582912.0f;            /* 1.5 * 2^23: rounds to a whole number */
    union { float f; uint32_t u; } bits = { n };
    n -= 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;                         /* Cephes expf (Moshier), minimax coefficients */
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    bits.u = (bits.u << 23) + 0x3f800000u;
    return y * bits.f;
}

static float lane_sum(const float lanes[LANES]) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += lanes[i];
    return sum;
}
static float dot(const float *a, const float *b, size_t n) {
    float lanes[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) for (size_t j = 0; j < LANES; j++) lanes[j] += a[i + j] * b[i + j];
    for (; i < n; i++) lanes[i % LANES] += a[i] * b[i];
    return lane_sum(lanes);
}
static float max_of(const float *x, size_t n) {
    float lanes[LANES], max;
    for (size_t j = 0; j < LANES; j++) lanes[j] = x[0];
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) for (size_t j = 0; j < LANES; j++)
        lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    for (; i < n; i++) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    max = lanes[0];
    for (size_t j = 1; j < LANES; j++) max = lanes[j] > max ? lanes[j] : max;
    return max;
}
/* x = e^(x - max); gives the sum. */
static float exp_row(float *x, size_t n, float max) {
    float lanes[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) { x[i + j] = fast_exp(x[i + j] - max); lanes[j] += x[i + j]; }
    for (; i < n; i++) { x[i] = fast_exp(x[i] - max); lanes[0] += x[i]; }
    return lane_sum(lanes);
}

static float inverse_rms(const float *x, size_t d, float eps) {
    return 1.0f / sqrtf(dot(x, x, d) / (float)d + eps);
}

/* out[t] = x[t] / rms(x[t]) * w */
static void norm(float *out, const float *x, const float *w, size_t tokens, size_t d, float eps) {
    for (size_t t = 0; t < tokens; t++, x += d, out += d) {
        float r = inverse_rms(x, d, eps);
        for (size_t i = 0; i < d; i++) out[i] = x[i] * r * w[i];
    }
}

/* dx += gradient through the norm of x; dw += gradient of its weight. */
static void norm_back(float *dx, float *dw, const float *dout, const float *x, const float *w, size_t tokens,
    size_t d, float eps) {
    for (size_t t = 0; t < tokens; t++, x += d, dx += d, dout += d) {
        float lanes[LANES] = { 0 }, r = inverse_rms(x, d, eps);
        for (size_t i = 0; i < d; i += LANES) for (size_t j = 0; j < LANES; j++)
            lanes[j] += dout[i + j] * w[i + j] * x[i + j];
        float back = lane_sum(lanes) * r * r * r / (float)d;
        for (size_t i = 0; i < d; i++) {
            dw[i] += dout[i] * x[i] * r;
            dx[i] += dout[i] * w[i] * r - back * x[i];
        }
    }
}

/* Rotates the query and key heads of every token; by = -1 turns back (the gradient's way). */
static void rotate(const nigh_net *n, float *qkv, float by) {
    const nigh_shape *s = &n->s;
    size_t half = nigh_shape_head_dim(s) / 2, row = nigh_shape_qkv(s);
    for (size_t t = 0; t < n->tokens; t++) {
        const float *c = n->cos + t % s->window * half, *si = n->sin + t % s->window * half;
        for (size_t h = 0; h < s->heads + s->kv_heads; h++) {
            float *x = qkv + t * row + h * 2 * half;
            for (size_t i = 0; i < half; i++) {
                float a = x[2 * i], b = x[2 * i + 1], sine = by * si[i];
                x[2 * i] = a * c[i] - b * sine;
                x[2 * i + 1] = a * sine + b * c[i];
            }
        }
    }
}

/* ---- attention ---- */
/* One head of one window: where its rows begin and how far apart they lie. */
typedef struct { const float *q, *k, *v; size_t row, window, head_dim; } head_view;

static head_view head_of(const nigh_net *n, const float *qkv, size_t window, size_t head) {
    const nigh_shape *s = &n->s;
    size_t hd = nigh_shape_head_dim(s), row = nigh_shape_qkv(s), kv = head / (s->heads / s->kv_heads);
    const float *base = qkv + window * s->window * row;
    return (head_view){ base + head * hd, base + (s->heads + kv) * hd,
        base + (s->heads + s->kv_heads + kv) * hd, row, s->window, hd };
}

/* p[i][0..r0+i] = scores of queries r0.. against the keys they may see. Gives how many keys the block spans. */
static size_t scores(const nigh_net *n, const head_view *h, size_t r0, size_t rows) {
    size_t keys = r0 + rows;
    float scale = 1.0f / sqrtf((float)h->head_dim);
    n->gemm(rows, keys, h->head_dim, nigh_rows(h->q + r0 * h->row, h->row), nigh_turned(h->k, h->row), n->p,
        keys, false, n->scratch);
    for (size_t i = 0; i < rows * keys; i++) n->p[i] *= scale;
    return keys;
}

static void attend(const nigh_net *n, const struct kept *k, size_t window, size_t head) {
    head_view h = head_of(n, k->qkv, window, head);
    size_t d = n->s.dim, t0 = window * h.window;
    float *out = k->att + t0 * d + head * h.head_dim, *lse = k->lse + head * n->tokens + t0;
    for (size_t r0 = 0; r0 < h.window; r0 += ATT_ROWS) {
        size_t rows = nigh_min(ATT_ROWS, h.window - r0), keys = scores(n, &h, r0, rows);
        for (size_t i = 0; i < rows; i++) {
            float *p = n->p + i * keys, max = max_of(p, r0 + i + 1), sum = exp_row(p, r0 + i + 1, max),
                inv = 1.0f / sum;
            for (size_t j = 0; j <= r0 + i; j++) p[j] *= inv;
            for (size_t j = r0 + i + 1; j < keys; j++) p[j] = 0;
            lse[r0 + i] = max + logf(sum);
        }
        n->gemm(rows, h.head_dim, keys, nigh_rows(n->p, keys), nigh_rows(h.v, h.row), out + r0 * d, d, false,
            n->scratch);
    }
}

/* dqkv (zeroed before) += the gradient of one head. */
static void attend_back(const nigh_net *n, const struct kept *k, size_t window, size_t head) {
    head_view h = head_of(n, k->qkv, window, head), g = head_of(n, n->dqkv, window, head);
    size_t d = n->s.dim, t0 = window * h.window, off = t0 * d + head * h.head_dim;
    const float *out = k->att + off, *dout = n->datt + off, *lse = k->lse + head * n->tokens + t0;
    float *dq = (float *)g.q, *dk = (float *)g.k, *dv = (float *)g.v, scale = 1.0f / sqrtf((float)h.head_dim);
    for (size_t r0 = 0; r0 < h.window; r0 += ATT_ROWS) {
        size_t rows = nigh_min(ATT_ROWS, h.window - r0), keys = scores(n, &h, r0, rows);
        n->gemm(rows, keys, h.head_dim, nigh_rows(dout + r0 * d, d), nigh_turned(h.v, h.row), n->dp, keys,
            false, n->scratch);
        for (size_t i = 0; i < rows; i++) {
            float *p = n->p + i * keys, *dp = n->dp + i * keys;
            size_t seen = r0 + i + 1;
            float own = dot(out + (r0 + i) * d, dout + (r0 + i) * d, h.head_dim), l = lse[r0 + i];
            for (size_t j = 0; j < seen; j++) {
                p[j] = fast_exp(p[j] - l);
                dp[j] = p[j] * (dp[j] - own) * scale;
            }
            for (size_t j = seen; j < keys; j++) p[j] = dp[j] = 0;
        }
        n->gemm(keys, h.head_dim, rows, nigh_turned(n->p, keys), nigh_rows(dout + r0 * d, d), dv, h.row, true,
            n->scratch);
        n->gemm(rows, h.head_dim, keys, nigh_rows(n->dp, keys), nigh_rows(h.k, h.row), dq + r0 * h.row, h.row,
            true, n->scratch);
        n->gemm(keys, h.head_dim, rows, nigh_turned(n->dp, keys), nigh_rows(h.q + r0 * h.row, h.row), dk,
            h.row, true, n->scratch);
    }
}

/* ---- the layers ---- */
static void each_head(const nigh_net *n, const struct kept *k,
    void (*fn)(const nigh_net *, const struct kept *, size_t, size_t)) {
    for (size_t w = 0; w < n->windows; w++) for (size_t h = 0; h < n->s.heads; h++) fn(n, k, w, h);
}

/* y[t] = W x[t] for all tokens; W: [outs][ins] */
static void apply(const nigh_net *n, float *y, const float *w, const float *x, size_t outs, size_t ins,
    bool add) {
    n->gemm(n->tokens, outs, ins, nigh_rows(x, ins), nigh_turned(w, ins), y, outs, add, n->scratch);
}
/* dx = (or +=) W^T dy, dW += dy^T x */
static void apply_back(const nigh_net *n, float *dx, float *dw, const float *dy, const float *w,
    const float *x, size_t outs, size_t ins) {
    if (dx) n->gemm(n->tokens, ins, outs, nigh_rows(dy, outs), nigh_rows(w, ins), dx, ins, false, n->scratch);
    n->gemm(outs, ins, n->tokens, nigh_turned(dy, outs), nigh_rows(x, ins), dw, ins, true, n->scratch);
}

static void layer_forward(const nigh_net *n, const float *params, size_t l, float *next) {
    const nigh_shape *s = &n->s;
    const struct kept *k = &n->layer[l];
    nigh_layer_at at = nigh_shape_layer(s, l);
    size_t t = n->tokens, d = s->dim, ff = s->ff;
    norm(k->xn, k->x, params + at.attn_norm, t, d, s->eps);
    apply(n, k->qkv, params + at.wqkv, k->xn, nigh_shape_qkv(s), d, false);
    rotate(n, k->qkv, 1.0f);
    each_head(n, k, attend);
    memcpy(k->x2, k->x, t * d * sizeof(float));
    apply(n, k->x2, params + at.wo, k->att, d, d, true);
    norm(k->xn2, k->x2, params + at.ff_norm, t, d, s->eps);
    apply(n, k->gu, params + at.wgu, k->xn2, 2 * ff, d, false);
    for (size_t r = 0; r < t; r++) {
        const float *g = k->gu + r * 2 * ff, *u = g + ff;
        float *h = k->h + r * ff;
        for (size_t i = 0; i < ff; i++) h[i] = g[i] / (1.0f + fast_exp(-g[i] > 80.0f ? 80.0f : -g[i])) * u[i];
    }
    memcpy(next, k->x2, t * d * sizeof(float));
    apply(n, next, params + at.wd, k->h, d, ff, true);
}

static void swiglu_back(const nigh_net *n, const struct kept *k) {
    size_t ff = n->s.ff;
    for (size_t r = 0; r < n->tokens; r++) {
        const float *g = k->gu + r * 2 * ff, *u = g + ff, *dh = n->dh + r * ff;
        float *dg = n->dgu + r * 2 * ff, *du = dg + ff;
        for (size_t i = 0; i < ff; i++) {
            float sig = 1.0f / (1.0f + fast_exp(-g[i] > 80.0f ? 80.0f : -g[i])), silu = g[i] * sig;
            dg[i] = dh[i] * u[i] * (sig + silu * (1.0f - sig));
            du[i] = dh[i] * silu;
        }
    }
}

/* n->dx holds the gradient of the layer's output on entry, of its input on return. */
static void layer_backward(const nigh_net *n, const float *params, size_t l, float *grad) {
    const nigh_shape *s = &n->s;
    const struct kept *k = &n->layer[l];
    nigh_layer_at at = nigh_shape_layer(s, l);
    size_t t = n->tokens, d = s->dim, ff = s->ff, qkv = nigh_shape_qkv(s);
    apply_back(n, n->dh, grad + at.wd, n->dx, params + at.wd, k->h, d, ff);
    swiglu_back(n, k);
    apply_back(n, n->dn, grad + at.wgu, n->dgu, params + at.wgu, k->xn2, 2 * ff, d);
    norm_back(n->dx, grad + at.ff_norm, n->dn, k->x2, params + at.ff_norm, t, d, s->eps);
    apply_back(n, n->datt, grad + at.wo, n->dx, params + at.wo, k->att, d, d);
    memset(n->dqkv, 0, t * qkv * sizeof(float));
    each_head(n, k, attend_back);
    rotate(n, n->dqkv, -1.0f);
    apply_back(n, n->dn, grad + at.wqkv, n->dqkv, params + at.wqkv, k->xn, qkv, d);
    norm_back(n->dx, grad + at.attn_norm, n->dn, k->x, params + at.attn_norm, t, d, s->eps);
}

/* ---- head and loss ---- */
static size_t target_of(const nigh_net *n, const uint16_t *tokens, size_t t) {
    size_t w = n->s.window;
    return tokens[t / w * (w + 1) + t % w + 1];
}

/* Loss of all tokens; with grad also the gradient of the head (dn = gradient of outn, embed's part in grad). */
static double head(const nigh_net *n, const float *params, const uint16_t *tokens, float *grad,
    float grad_scale) {
    size_t v = n->s.vocab, d = n->s.dim;
    double loss = 0;
    for (size_t t0 = 0; t0 < n->tokens; t0 += HEAD_ROWS) {
        size_t rows = nigh_min(HEAD_ROWS, n->tokens - t0);
        const float *x = n->outn + t0 * d;
        n->gemm(rows, v, d, nigh_rows(x, d), nigh_turned(params, d), n->logits, v, false, n->scratch);
        for (size_t i = 0; i < rows; i++) {
            float *l = n->logits + i * v;
            size_t target = target_of(n, tokens, t0 + i);
            float max = max_of(l, v), at = l[target], sum = exp_row(l, v, max);
            loss += (double)max + log((double)sum) - (double)at;
            if (!grad) continue;
            float by = grad_scale / sum;
            for (size_t j = 0; j < v; j++) l[j] *= by;
            l[target] -= grad_scale;
        }
        if (!grad) continue;
        n->gemm(rows, d, v, nigh_rows(n->logits, v), nigh_rows(params, d), n->dn + t0 * d, d, false,
            n->scratch);
        n->gemm(v, d, rows, nigh_turned(n->logits, v), nigh_rows(x, d), grad, d, true, n->scratch);
    }
    return loss;
}

double nigh_net_loss(nigh_net *n, const float *params, const uint16_t *tokens, float *grad, float grad_scale) {
    const nigh_shape *s = &n->s;
    size_t d = s->dim, w = s->window, out_norm = nigh_shape_out_norm(s);
    for (size_t t = 0; t < n->tokens; t++)
        memcpy(n->layer[0].x + t * d, params + (size_t)tokens[t / w * (w + 1) + t % w] * d, d * sizeof(float));
    for (size_t l = 0; l < s->layers; l++)
        layer_forward(n, params, l, l + 1 < s->layers ? n->layer[l + 1].x : n->out);
    norm(n->outn, n->out, params + out_norm, n->tokens, d, s->eps);
    double loss = head(n, params, tokens, grad, grad_scale);
    if (!grad) return loss;
    memset(n->dx, 0, n->tokens * d * sizeof(float));
    norm_back(n->dx, grad + out_norm, n->dn, n->out, params + out_norm, n->tokens, d, s->eps);
    for (size_t l = s->layers; l-- > 0;) layer_backward(n, params, l, grad);
    for (size_t t = 0; t < n->tokens; t++) {
        float *e = grad + (size_t)tokens[t / w * (w + 1) + t % w] * d;
        for (size_t i = 0; i < d; i++) e[i] += n->dx[t * d + i];
    }
    return loss;
}
