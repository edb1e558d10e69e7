/* test_learn_net.c - the gradient of every kind of layer against finite differences of the loss.
 * For each block of parameters: random directions v; (L(p + h v) - L(p - h v)) / 2h must equal grad . v.
 * Forward passes in f32 with the plain product, loss summed in double. */
#include <math.h>
#include <time.h>

#include "learn/net.h"
#include "test.h"

static const nigh_shape small = { .vocab = 37, .dim = 32, .layers = 2, .heads = 4, .kv_heads = 2, .ff = 64,
    .window = 9, .rope_base = 10000.0f, .eps = 1e-5f };
enum { WINDOWS = 2 };

static double frand(uint64_t *s) { return (double)(test_rand(s) >> 11) / 9007199254740992.0 - 0.5; }

static void fill_tokens(uint16_t *tokens, const nigh_shape *s, size_t windows, uint64_t *seed) {
    for (size_t i = 0; i < windows * (s->window + 1); i++) tokens[i] = (uint16_t)(test_rand(seed) % s->vocab);
}

/* Relative difference of the two slopes along random directions inside [begin, begin + count). */
static double worst_slope(nigh_net *n, float *params, const uint16_t *tokens, const float *grad, size_t begin,
    size_t count, uint64_t *seed) {
    float *kept = nigh_alloc(count, sizeof(float)), *v = nigh_alloc(count, sizeof(float));
    double worst = 0, h = 2e-3;
    memcpy(kept, params + begin, count * sizeof(float));
    for (int tries = 0; tries < 4; tries++) {
        double norm = 0, want = 0, loss[2];
        for (size_t i = 0; i < count; i++) {
            v[i] = (float)frand(seed) + (grad[begin + i] > 0 ? 0.2f : -0.2f);
            norm += (double)v[i] * (double)v[i];
        }
        norm = 1 / sqrt(norm);
        for (size_t i = 0; i < count; i++) { v[i] *= (float)norm; want += (double)v[i] * (double)grad[begin + i]; }
        for (int side = 0; side < 2; side++) {
            for (size_t i = 0; i < count; i++) params[begin + i] = kept[i] + (float)(side ? -h : h) * v[i];
            loss[side] = nigh_net_loss(n, params, tokens, NULL, 0);
        }
        memcpy(params + begin, kept, count * sizeof(float));
        double got = (loss[0] - loss[1]) / (2 * h), off = fabs(got - want) / (fabs(want) + 0.01);
        if (off > worst) worst = off;
    }
    nigh_free(kept); nigh_free(v);
    return worst;
}

static void test_gradient(void) {
    const nigh_shape *s = &small;
    size_t count = nigh_shape_count(s), d = s->dim, qkv = nigh_shape_qkv(s),
        q = s->heads * nigh_shape_head_dim(s), kv = s->kv_heads * nigh_shape_head_dim(s);
    float *params = nigh_alloc(count, sizeof(float)), *grad = nigh_alloc(count, sizeof(float));
    uint16_t tokens[WINDOWS * 10];
    uint64_t seed = test_seed();
    nigh_net *n = nigh_net_new(s, WINDOWS, nigh_gemm_plain);
    nigh_shape_init(s, params, seed);
    for (size_t i = 0; i < count; i++) params[i] = params[i] * 2.0f + (float)frand(&seed) * 0.2f;
    fill_tokens(tokens, s, WINDOWS, &seed);
    nigh_net_loss(n, params, tokens, grad, 1.0f);
    CHECK(qkv == q + 2 * kv);
    for (size_t l = 0; l < s->layers; l++) {
        nigh_layer_at at = nigh_shape_layer(s, l);
        const struct { const char *name; size_t begin, count; } parts[] = {
            { "embedding and tied head", 0, s->vocab * d }, { "attention norm", at.attn_norm, d },
                { "queries", at.wqkv, q * d },
            { "keys", at.wqkv + q * d, kv * d }, { "values", at.wqkv + (q + kv) * d, kv * d },
                { "attention output", at.wo, d * d },
            { "feed-forward norm", at.ff_norm, d }, { "gate", at.wgu, s->ff * d },
                { "up", at.wgu + s->ff * d, s->ff * d },
            { "down", at.wd, s->ff * d }, { "last norm", nigh_shape_out_norm(s), d } };
        for (size_t i = 0; i < NIGH_COUNT(parts); i++) {
            double off = worst_slope(n, params, tokens, grad, parts[i].begin, parts[i].count, &seed);
            CHECK_MSG(off < 2e-3, "layer %zu, %s: off by %g of the slope", l, parts[i].name, off);
            if (getenv("NIGH_RATE")) printf("layer %zu %-24s %.2e\n", l, parts[i].name, off);
        }
    }
    nigh_net_free(n); nigh_free(params); nigh_free(grad);
}

/* The faster products give the same loss and gradient but for rounding. */
static void test_kinds(void) {
    nigh_shape s = small;
    s.window = 150, s.dim = 64, s.vocab = 300;
    size_t count = nigh_shape_count(&s);
    uint16_t *tokens = nigh_alloc(WINDOWS * (s.window + 1), sizeof *tokens);
    float *params = nigh_alloc(count, sizeof(float)), *want = nigh_alloc(count, sizeof(float)),
        *got = nigh_alloc(count, sizeof(float));
    uint64_t seed = test_seed();
    nigh_shape_init(&s, params, seed);
    fill_tokens(tokens, &s, WINDOWS, &seed);
    nigh_net *n = nigh_net_new(&s, WINDOWS, nigh_gemm_plain);
    double loss = nigh_net_loss(n, params, tokens, want, 1.0f / 300);
    nigh_net_free(n);
    for (int kind = NIGH_GEMM_FMA; kind <= NIGH_GEMM_BF16; kind++) {
        nigh_gemm_fn *fn = nigh_gemm_find((nigh_gemm_kind)kind);
        if (!fn) continue;
        n = nigh_net_new(&s, WINDOWS, fn);
        memset(got, 0, count * sizeof(float));
        double other = nigh_net_loss(n, params, tokens, got, 1.0f / 300), diff = 0, all = 0;
        for (size_t i = 0; i < count; i++) {
            diff += pow((double)got[i] - (double)want[i], 2);
            all += pow((double)want[i], 2);
        }
        double bound = kind == NIGH_GEMM_BF16 ? 2e-2 : 1e-5;
        CHECK_MSG(sqrt(diff / all) < bound, "%s: gradient off by %g", nigh_gemm_name((nigh_gemm_kind)kind),
            sqrt(diff / all));
        CHECK_MSG(fabs(other - loss) < bound * 300, "%s: loss %.9g, plain %.9g",
            nigh_gemm_name((nigh_gemm_kind)kind), other, loss);
        nigh_net_free(n);
    }
    nigh_free(tokens); nigh_free(params); nigh_free(want); nigh_free(got);
}

/* Prints tokens a second of one thread with the shape of the shipped model, when NIGH_RATE is set. */
static void test_rate(void) {
    if (!getenv("NIGH_RATE")) TEST_SKIP("set NIGH_RATE=1 to print tokens a second");
    nigh_shape s = { 4096, 256, 6, 8, 4, 512, 512, 10000.0f, 1e-5f };
    size_t count = nigh_shape_count(&s);
    uint16_t *tokens = nigh_alloc(2 * (s.window + 1), sizeof *tokens);
    float *params = nigh_alloc(count, sizeof(float)), *grad = nigh_alloc(count, sizeof(float));
    uint64_t seed = test_seed();
    nigh_shape_init(&s, params, seed);
    fill_tokens(tokens, &s, 2, &seed);
    nigh_net *n = nigh_net_new(&s, 2, nigh_gemm_find(nigh_gemm_best(false)));
    nigh_net_loss(n, params, tokens, grad, 1e-3f);
    clock_t start = clock();
    for (int i = 0; i < 5; i++) nigh_net_loss(n, params, tokens, grad, 1e-3f);
    printf("%zu parameters: %.0f tokens/s\n", count, 5 * 1024.0 / ((double)(clock() - start) / CLOCKS_PER_SEC));
    nigh_net_free(n); nigh_free(tokens); nigh_free(params); nigh_free(grad);
}

TEST_MAIN(T(test_gradient), T(test_kinds), T(test_rate))
