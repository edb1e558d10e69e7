/* test_logits.c - every reference model against what llama.cpp says of it (shared/golden/README.md).
 * "exact" numbers are those of the stored weights with f32 activations. Tolerances are the ones that
 * README states: absolute for models whose activations stay f32, relative where they are rounded. They hold for a cache
 * of f32. An f16 cache moves a logit of models that round nothing else by 0.02 at most (measured; 0.0007 of the logits'
 * size), a q8_0 cache by 0.011 of their size; models that round their activations do not get measurably worse. */
#include <math.h>

#include "model_files.h"

typedef struct { double max_abs, rel, kl, tol_abs, tol_rel; size_t tokens; bool rounded; } verdict;

static nigh_pool *pool;
static unsigned cpu;
static nigh_cache cache;                        /* that the sessions are made with */

static bool is_rounded(const char *weights) {
    return strncmp(weights, "f32", 3) && strncmp(weights, "f16", 3) && strncmp(weights, "bf16", 4);
}
static bool is_k_quant(const char *weights) {
    return strstr(weights, "_k") || strstr(weights, "_K") || strstr(weights, "xs");
}

static double log_sum_exp(const float *x, size_t n) {
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return max + log(sum);
}

static double divergence(const float *want, const float *got, size_t n) {
    double lw = log_sum_exp(want, n), lg = log_sum_exp(got, n), kl = 0;
    for (size_t i = 0; i < n; i++) kl += exp((double)want[i] - lw) * (((double)want[i] - lw) - ((double)got[i] - lg));
    return kl;
}

/* The top 20 and the log-sum-exp of each position; the whole last row. */
static void compare_rows(const nigh_json *run, const float *logits, size_t vocab, verdict *v) {
    double diff2 = 0, want2 = 0;
    size_t row = 0, n;
    for (const nigh_json *p = nigh_json_first(json_get(run, "positions")); p; p = p->next, row++) {
        const float *x = logits + row * vocab;
        const nigh_json *id = nigh_json_first(json_get(p, "top_ids")),
                        *value = nigh_json_first(json_get(p, "top_logits"));
        double lse = json_get(p, "lse")->number - log_sum_exp(x, vocab);
        if (!v->rounded) v->max_abs = fmax(v->max_abs, fabs(lse));
        for (; id && value; id = id->next, value = value->next) {
            double d = value->number - (double)x[id->integer];
            v->max_abs = fmax(v->max_abs, fabs(d));
            diff2 += d * d;
            want2 += value->number * value->number;
        }
    }
    float *last = json_floats(json_get(run, "logits_last"), &n);
    CHECK(n == vocab && row > 0);
    for (size_t i = 0; i < n; i++) {
        double d = (double)last[i] - (double)logits[(row - 1) * vocab + i];
        v->max_abs = fmax(v->max_abs, fabs(d));
        diff2 += d * d;
        want2 += (double)last[i] * (double)last[i];
    }
    v->kl = divergence(last, logits + (row - 1) * vocab, n);
    v->rel = sqrt(diff2 / want2);
    nigh_free(last);
}

static size_t argmax(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++) if (x[i] > x[best]) best = i;
    return best;
}

/* Follows the greedy text up to the first step that is too close to call. */
static void compare_greedy(const nigh_json *run, nigh_runner *r, nigh_session *s, const float *last_row, size_t vocab,
                           double tol, const char *name) {
    size_t n, m;
    int32_t *want = json_ids(json_get(run, "greedy"), &n);
    float *margin = json_floats(json_get(run, "greedy_margins"), &m), *logits = nigh_alloc(vocab, sizeof *logits);
    memcpy(logits, last_row, vocab * sizeof *logits);
    for (size_t i = 0; i < n && i < m && (double)margin[i] > 4 * tol; i++) {
        int32_t got = (int32_t)argmax(logits, vocab);
        CHECK_MSG(got == want[i], "%s: greedy step %zu: %d, not %d (margin %g)", name, i, got, want[i],
                  (double)margin[i]);
        if (got != want[i] || nigh_session_count(s) == nigh_session_limit(s)) break;
        nigh_err err = { 0 };
        CHECK(nigh_runner_eval(r, &(nigh_batch_item){ s, &got, 1, false, logits }, 1, &err) == NIGH_OK);
    }
    nigh_free(want);
    nigh_free(margin);
    nigh_free(logits);
}

static void check_run(const char *file, const char *weights, const nigh_json *run, nigh_model *m, uint32_t context) {
    char name[128];
    nigh_err err = { 0 };
    nigh_session *s = NULL;
    nigh_runner *r = NULL;
    size_t n, vocab = nigh_model_about(m)->vocab;
    int32_t *ids = json_ids(json_get(run, "ids"), &n);
    verdict v = { .tokens = n, .rounded = is_rounded(weights) };
    nigh_format(name, sizeof name, "%s %.*s", file, (int)json_get(run, "name")->text.len,
                json_get(run, "name")->text.ptr);
    bool half = cache == NIGH_CACHE_F16 || cache == NIGH_CACHE_I16;
    v.tol_abs = cache == NIGH_CACHE_Q8_0 ? 1.0 : half ? 0.04 : n <= 170 ? 2e-4 : 1e-3;
    v.tol_rel = is_k_quant(weights) ? 0.055 : 0.04;
    if (!v.rounded) v.tol_rel = cache == NIGH_CACHE_Q8_0 ? 0.02 : half ? 0.0015 : 1e-4;
    float *logits = nigh_alloc(n * vocab, sizeof *logits);
    nigh_status made = nigh_session_new_as(&s, m, (nigh_session_opts){ context, cache }, &err);
    CHECK(made == NIGH_OK || ((cache == NIGH_CACHE_Q8_0 || cache == NIGH_CACHE_I16) && made == NIGH_ENOSUP));
    CHECK(nigh_runner_new(&r, m, pool, (uint32_t)n, &err) == NIGH_OK);
    nigh_status st =
        s && r ? nigh_runner_eval(r, &(nigh_batch_item){ s, ids, (uint32_t)n, true, logits }, 1, &err) : NIGH_ENOMEM;
    CHECK_MSG(st == NIGH_OK || made != NIGH_OK, "%s: %s", name, err.text);
    if (st == NIGH_OK) {
        compare_rows(run, logits, vocab, &v);
        bool close = v.rel <= v.tol_rel && v.kl <= (v.rounded ? 0.06 : 0.01) && (v.rounded || v.max_abs <= v.tol_abs);
        CHECK_MSG(close, "%s: max %g (%g) rel %g (%g) kl %g", name, v.max_abs, v.tol_abs, v.rel, v.tol_rel, v.kl);
        if (getenv("NIGH_VERBOSE")) printf("  %-28s max %9.2g  rel %9.2g  kl %9.2g\n", name, v.max_abs, v.rel, v.kl);
        if (!v.rounded) compare_greedy(run, r, s, logits + (n - 1) * vocab, vocab, v.tol_abs, name);
    }
    nigh_runner_free(r);
    nigh_session_free(s);
    nigh_free(logits);
    nigh_free(ids);
}

static void compare_vector(const char *name, const nigh_json *want_json, const float *got, bool rounded, size_t embed) {
    size_t n;
    double dot = 0, a2 = 0, b2 = 0, max = 0;
    float *want = json_floats(want_json, &n);
    CHECK_MSG(n == embed, "%s: %zu values, not %zu", name, n, embed);
    for (size_t i = 0; i < n && n == embed; i++) {
        dot += (double)want[i] * (double)got[i];
        a2 += (double)want[i] * (double)want[i];
        b2 += (double)got[i] * (double)got[i];
        max = fmax(max, fabs((double)want[i] - (double)got[i]));
    }
    double cosine = dot / sqrt(a2 * b2);
    CHECK_MSG(rounded ? cosine >= 0.9998 : max <= 2e-5, "%s: cosine %.7f, max %g", name, cosine, max);
    if (getenv("NIGH_VERBOSE")) printf("  %-28s max %9.2g  cosine %.7f\n", name, max, cosine);
    nigh_free(want);
}

static void check_embedding(const char *file, const char *weights, const nigh_json *run, nigh_model *m) {
    char name[128];
    nigh_err err = { 0 };
    nigh_runner *r = NULL;
    size_t n, embed = nigh_model_about(m)->embed;
    int32_t *ids = json_ids(json_get(run, "ids"), &n);
    bool rounded = is_rounded(weights), rows = nigh_model_about(m)->pooling == NIGH_POOL_NONE;
    nigh_format(name, sizeof name, "%s %.*s", file, (int)json_get(run, "name")->text.len,
                json_get(run, "name")->text.ptr);
    float *out = nigh_alloc(n * embed, sizeof *out);
    nigh_status st = nigh_runner_new(&r, m, pool, 0, &err);
    if (st == NIGH_OK) st = nigh_runner_embed(r, ids, (uint32_t)n, out, &err);
    CHECK_MSG(st == NIGH_OK, "%s: %s", name, err.text);
    if (st == NIGH_OK && rows)
        compare_vector(name, json_get(run, "embedding_last_row"), out + (n - 1) * embed, rounded, embed);
    else if (st == NIGH_OK) compare_vector(name, json_get(run, "embedding"), out, rounded, embed);
    nigh_runner_free(r);
    nigh_free(out);
    nigh_free(ids);
}

static void check_model(const nigh_json *row) {
    char file[128], golden[128], weights[32];
    nigh_json_doc doc = { 0 };
    nigh_buf text = NIGH_BUF(0);
    nigh_str f = json_get(row, "file")->text, j = json_get(row, "golden")->text;
    nigh_format(file, sizeof file, "%.*s", (int)f.len, f.ptr);
    nigh_format(golden, sizeof golden, "%.*s", (int)j.len, j.ptr);
    bool read = golden_read(golden, &doc, &text);
    CHECK_MSG(read, "%s cannot be read", golden);
    nigh_model *m = read ? model_file_open(file, pool, cpu) : NULL;
    CHECK_MSG(m != NULL, "%s cannot be opened", file);
    if (m) {
        nigh_str w = json_get(doc.root, "weights")->text;
        uint32_t context = (uint32_t)json_get(doc.root, "n_ctx")->integer;
        nigh_format(weights, sizeof weights, "%.*s", (int)w.len, w.ptr);
        for (const nigh_json *run = nigh_json_first(json_get(doc.root, "runs")); run; run = run->next) {
            if (nigh_model_about(m)->encoder) check_embedding(file, weights, run, m);
            else check_run(file, weights, run, m, (uint32_t)nigh_min(context, nigh_model_about(m)->context_tokens));
        }
    }
    nigh_model_close(m);
    nigh_json_release(&doc);
    nigh_buf_release(&text);
}

static void all_models(void) {
    nigh_json_doc doc = { 0 };
    nigh_buf text = NIGH_BUF(0);
    char path[1024];
    if (!test_shared() || !model_file_path("llama.gguf", path, sizeof path))
        TEST_SKIP("the reference models are not here");
    CHECK(golden_read("models.json", &doc, &text));
    size_t models = 0, before = nigh_alloc_live_bytes();
    for (const nigh_json *row = nigh_json_first(doc.root); row; row = row->next, models++)
        if (!test_short() || models % 8 == 0) check_model(row);
    CHECK(models >= 60);
    CHECK(nigh_alloc_live_bytes() == before);
    printf("  %zu models compared%s\n", models, test_short() ? ", every eighth of them" : "");
    nigh_json_release(&doc);
    nigh_buf_release(&text);
}

static void test_f16_cache(void) { cache = NIGH_CACHE_F16; all_models(); }
static void test_q8_0_cache(void) { cache = NIGH_CACHE_Q8_0; all_models(); }
static void test_i16_cache(void) { cache = NIGH_CACHE_I16; all_models(); }
static void test_f32_cache(void) { cache = NIGH_CACHE_F32; all_models(); }

int main(int argc, char **argv) {
    static const test_case cases[] = { T(test_f32_cache), T(test_f16_cache), T(test_q8_0_cache),
                                       T(test_i16_cache) };
    cpu = nigh_cpu_detect();
    const char *name = getenv("NIGH_CPU");
    if (name) (void)nigh_cpu_parse(nigh_str_of(name), &cpu);
    pool = nigh_pool_new(2);
    int failed = test_main(cases, NIGH_COUNT(cases), argc, argv);
    nigh_pool_free(pool);
    return failed;
}
