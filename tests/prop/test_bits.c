/* test_bits.c - the arithmetic contract, seen from outside: the logits of a model are the same bytes on
 * every instruction set, for any number of threads, any split of the prompt into batches, in any
 * company, and after any reuse of a prefix. One model per family and one per weight type.
 * NIGH_DIGESTS=FILE: a line for each model, the SHA-256 of its logits, to compare with another machine's. */
#define _GNU_SOURCE                                     /* for cpu_of_tests.h */
#include "base/sha256.h"
#include "cpu_of_tests.h"
#include "model_files.h"

static const char *const files[] = {
    "stories260K.gguf",  "stories260K-q8_0.gguf", "stories260K-q4_0.gguf", "llama-yarn.gguf",    "qwen2.gguf",
    "qwen3-q8_0.gguf",   "gemma2-q8_0.gguf",      "gemma3-q4_k_m.gguf",    "phi3-longrope.gguf", "phi3-q8_0.gguf",
    "olmo2-q8_0.gguf",   "llama-f16.gguf",        "llama-bf16.gguf",       "llama-q4_0.gguf",    "llama-q4_1.gguf",
    "llama-q5_0.gguf",   "llama-q5_1.gguf",       "llama-q2_k.gguf",       "llama-q3_k_m.gguf",  "llama-q4_k_m.gguf",
    "llama-q5_k_m.gguf", "llama-q6_k.gguf",       "llama-iq4_nl.gguf",     "llama-iq4_xs.gguf"
};

enum { TOKENS = 70 };

static void some_tokens(const nigh_model *m, uint64_t seed, int32_t *ids, size_t count) {
    for (size_t i = 0; i < count; i++) ids[i] = (int32_t)(test_rand(&seed) % nigh_model_about(m)->vocab);
}

/* Logits of all tokens, the prompt cut into pieces of `batch`. */
static float *logits_as(const nigh_model *m, nigh_cache cache, nigh_pool *pool, const int32_t *ids, size_t count,
                        size_t batch) {
    nigh_err err = { 0 };
    nigh_session *s = NULL;
    nigh_runner *r = NULL;
    size_t vocab = nigh_model_about(m)->vocab;
    float *out = nigh_alloc(count * vocab, sizeof *out);
    nigh_session_opts o = { .context_tokens = (uint32_t)nigh_max(count, 128), .cache = cache };
    CHECK(nigh_session_new_as(&s, m, o, &err) == NIGH_OK
          && nigh_runner_new(&r, m, pool, (uint32_t)batch, &err) == NIGH_OK);
    for (size_t at = 0; s && r && at < count; at += batch) {
        size_t n = nigh_min(batch, count - at);
        nigh_status st =
            nigh_runner_eval(r, &(nigh_batch_item){ s, ids + at, (uint32_t)n, true, out + at * vocab }, 1, &err);
        CHECK_MSG(st == NIGH_OK, "%s", err.text);
    }
    nigh_runner_free(r);
    nigh_session_free(s);
    return out;
}

static void note_digest(const char *file, const float *logits, size_t bytes) {
    char hex[65];
    uint8_t digest[32];
    nigh_sha256 hash;
    FILE *f = getenv("NIGH_DIGESTS") ? fopen(getenv("NIGH_DIGESTS"), "a") : NULL;
    if (!f) return;
    nigh_sha256_init(&hash);
    nigh_sha256_add(&hash, (nigh_str){ (const char *)logits, bytes });
    nigh_sha256_end(&hash, digest);
    nigh_sha256_hex(digest, hex);
    fprintf(f, "%s %s\n", hex, file);
    fclose(f);
}

static float *logits_of(const nigh_model *m, nigh_pool *pool, const int32_t *ids, size_t count, size_t batch) {
    return logits_as(m, NIGH_CACHE_F16, pool, ids, count, batch);
}

static void check_file(const char *file, unsigned cpu) {
    static const struct { const char *name; unsigned flags; size_t threads, batch; } ways[] = {
        { "scalar", 0, 1, TOKENS },
        { "scalar, 3 threads, batches of 7", 0, 3, 7 },
        { "avx2", NIGH_CPU_AVX2, 1, TOKENS },
        { "avx2, 2 threads, one by one", NIGH_CPU_AVX2, 2, 1 },
        { "avx512", NIGH_CPU_AVX2 | NIGH_CPU_AVX512, 1, TOKENS },
        { "avx512, 3 threads, batches of 33", NIGH_CPU_AVX2 | NIGH_CPU_AVX512, 3, 33 },
        { "avx512, 2 threads, one by one", NIGH_CPU_AVX2 | NIGH_CPU_AVX512, 2, 1 },
        { "amx, 3 threads, batches of 33", NIGH_CPU_AVX2 | NIGH_CPU_AVX512 | NIGH_CPU_AMX, 3, 33 },
        { "neon", NIGH_CPU_NEON, 1, TOKENS },
        { "neon, 2 threads, one by one", NIGH_CPU_NEON, 2, 1 },
        { "dotprod", NIGH_CPU_NEON | NIGH_CPU_DOTPROD, 1, TOKENS },
        { "dotprod, 3 threads, batches of 7", NIGH_CPU_NEON | NIGH_CPU_DOTPROD, 3, 7 } };
    int32_t ids[TOKENS];
    float *first = NULL;
    for (size_t i = 0; i < NIGH_COUNT(ways); i++) {
        if ((ways[i].flags & cpu) != ways[i].flags) continue;
        nigh_pool *pool = nigh_pool_new(ways[i].threads);
        nigh_model *m = model_file_open(file, pool, ways[i].flags);
        CHECK_MSG(m != NULL, "%s cannot be opened", file);
        if (m) {
            size_t bytes = TOKENS * nigh_model_about(m)->vocab * sizeof(float);
            some_tokens(m, test_seed(), ids, TOKENS);
            float *got = logits_of(m, pool, ids, TOKENS, ways[i].batch);
            if (first)
                CHECK_MSG(memcmp(first, got, bytes) == 0, "%s: %s differs from scalar (seed %llu)", file,
                          ways[i].name, (unsigned long long)test_seed());
            else note_digest(file, got, bytes);
            if (first) nigh_free(got);
            else first = got;
        }
        nigh_model_close(m);
        nigh_pool_free(pool);
    }
    nigh_free(first);
}

static void test_same_bits(void) {
    char path[1024];
    size_t seen = 0;
    for (size_t i = 0; i < NIGH_COUNT(files); i++) {
        if (!model_file_path(files[i], path, sizeof path) || (test_short() && i % 6)) continue;
        check_file(files[i], i % 4 ? nigh_cpu_detect() : cpu_of_tests());       /* an emulator is slow */
        seen++;
    }
    if (seen == 0) TEST_SKIP("the reference models are not here");
    printf("  %zu models, every instruction set of this machine\n", seen);
}

/* Contexts of several blocks of the cache, in every type of cache: windows and caps (gemma), long contexts. Attention
 * is split over the blocks where there are threads and few tokens, and not where there are none. */
static void test_long_contexts(void) {
    static const char *const long_files[] = { "stories260K-q8_0.gguf", "gemma2-q8_0.gguf", "gemma3-q4_k_m.gguf",
                                              "qwen2.gguf", "llama-f16.gguf" };
    static const struct { unsigned flags; size_t threads, batch; } ways[] = {
        { 0, 1, 64 }, { NIGH_CPU_AVX2, 3, 7 }, { NIGH_CPU_AVX2 | NIGH_CPU_AVX512, 2, 1 },
        { NIGH_CPU_AVX2 | NIGH_CPU_AVX512, 1, 333 }, { NIGH_CPU_AVX2 | NIGH_CPU_AVX512, 3, 100 },
        { NIGH_CPU_NEON, 2, 1 }, { NIGH_CPU_NEON, 1, 100 } };
    enum { LONG = 333, CACHES = 4 };
    int32_t ids[LONG];
    unsigned cpu = nigh_cpu_detect();
    size_t seen = 0, caches = 0;
    for (size_t f = 0; f < NIGH_COUNT(long_files) * CACHES; f++) {
        nigh_cache cache = (nigh_cache)(f % CACHES);
        char path[1024];
        float *first = NULL;
        if (!model_file_path(long_files[f / CACHES], path, sizeof path) || (test_short() && f >= CACHES)) continue;
        for (size_t i = 0; i < NIGH_COUNT(ways); i++) {
            if ((ways[i].flags & cpu) != ways[i].flags) continue;
            nigh_pool *pool = nigh_pool_new(ways[i].threads);
            nigh_model *m = model_file_open(long_files[f / CACHES], pool, ways[i].flags);
            size_t count = nigh_min(LONG, nigh_model_about(m)->context_tokens);
            nigh_session *s = NULL;
            nigh_err err = { 0 };
            nigh_status st = nigh_session_new_as(&s, m, (nigh_session_opts){ 64, cache }, &err);
            nigh_session_free(s);
            if (st == NIGH_OK) {
                some_tokens(m, test_seed(), ids, count);
                float *got = logits_as(m, cache, pool, ids, count, ways[i].batch);
                if (first)
                    CHECK_MSG(!memcmp(first, got, count * nigh_model_about(m)->vocab * sizeof *got),
                              "%s: way %zu differs, cache %d (seed %llu)", long_files[f / CACHES], i, (int)cache,
                              (unsigned long long)test_seed());
                if (first) nigh_free(got);
                else first = got;
                caches += i == 0;
            } else CHECK_MSG(cache >= NIGH_CACHE_Q8_0 && st == NIGH_ENOSUP, "%s", err.text);
            nigh_model_close(m);
            nigh_pool_free(pool);
        }
        nigh_free(first);
        seen++;
    }
    if (seen == 0) TEST_SKIP("the reference models are not here");
    printf("  %zu pairs of model and cache, the heads of %zu are too small for integers\n", seen, seen - caches);
}

/* Three sequences in one batch, then each alone; then one that reuses the prefix of another text. */
static void test_company_and_reuse(void) {
    enum { N = 40 };
    int32_t ids[3][N];
    nigh_err err = { 0 };
    nigh_session *s[3] = { 0 };
    nigh_runner *r = NULL;
    nigh_pool *pool = nigh_pool_new(2);
    nigh_model *m = model_file_open("stories260K-q8_0.gguf", pool, nigh_cpu_detect());
    if (!m) { nigh_pool_free(pool); TEST_SKIP("the reference models are not here"); }
    size_t vocab = nigh_model_about(m)->vocab;
    float *together[3], *alone[3];
    CHECK(nigh_runner_new(&r, m, pool, 3 * N, &err) == NIGH_OK);
    nigh_batch_item items[3];
    for (size_t i = 0; i < 3; i++) {
        some_tokens(m, test_seed() + i, ids[i], N);
        CHECK(nigh_session_new(&s[i], m, 128, &err) == NIGH_OK);
        together[i] = nigh_alloc(N * vocab, sizeof(float));
        items[i] = (nigh_batch_item){ s[i], ids[i], (uint32_t)(N - 5 * i), true, together[i] };
    }
    CHECK(nigh_runner_eval(r, items, 3, &err) == NIGH_OK);
    for (size_t i = 0; i < 3; i++) {
        alone[i] = logits_of(m, NULL, ids[i], items[i].count, 11);
        CHECK_MSG(memcmp(alone[i], together[i], items[i].count * vocab * sizeof(float)) == 0,
                  "sequence %zu depends on its company", i);
    }
    memcpy(ids[1], ids[0], 20 * sizeof **ids);      /* text 1 now begins like text 0 */
    float *fresh = logits_of(m, pool, ids[1], N, N), *reused = nigh_alloc(vocab, sizeof *reused);
    CHECK(nigh_session_reuse(s[0], ids[1], N) == 20 && nigh_session_count(s[0]) == 20);
    CHECK(nigh_runner_prompt(r, s[0], ids[1], N, reused, &err) == NIGH_OK);
    CHECK(memcmp(fresh + (N - 1) * vocab, reused, vocab * sizeof *reused) == 0);
    CHECK(nigh_runner_prompt(r, s[0], ids[1], N, reused, &err) == NIGH_OK);     /* a whole hit evaluates one token */
    CHECK(memcmp(fresh + (N - 1) * vocab, reused, vocab * sizeof *reused) == 0);
    for (size_t i = 0; i < 3; i++) { nigh_free(together[i]); nigh_free(alone[i]); nigh_session_free(s[i]); }
    nigh_free(fresh);
    nigh_free(reused);
    nigh_runner_free(r);
    nigh_model_close(m);
    nigh_pool_free(pool);
}

/* A prefix that was copied, and not evaluated again, for every length that ends inside or between groups of 16. */
static void test_copied_prefix(void) {
    enum { N = 40 };
    int32_t ids[N];
    nigh_err err = { 0 };
    nigh_session *from = NULL, *to = NULL;
    nigh_runner *r = NULL;
    nigh_model *m = model_file_open("stories260K-q8_0.gguf", NULL, nigh_cpu_detect());
    if (!m) TEST_SKIP("the reference models are not here");
    size_t vocab = nigh_model_about(m)->vocab;
    some_tokens(m, test_seed(), ids, N);
    float *want = logits_of(m, NULL, ids, N, N), *got = nigh_alloc(vocab, sizeof *got);
    CHECK(nigh_runner_new(&r, m, NULL, N, &err) == NIGH_OK);
    CHECK(nigh_session_new(&from, m, 128, &err) == NIGH_OK && nigh_session_new(&to, m, N, &err) == NIGH_OK);
    CHECK(nigh_runner_prompt(r, from, ids, N, NULL, &err) == NIGH_OK);
    for (uint32_t keep = 0; keep < N; keep++) {
        CHECK(nigh_session_copy_prefix(to, from, keep, &err) == NIGH_OK && nigh_session_count(to) == keep);
        CHECK(nigh_session_reuse(to, ids, N) == keep);
        CHECK(nigh_runner_prompt(r, to, ids, N, got, &err) == NIGH_OK);
        CHECK_MSG(!memcmp(want + (N - 1) * vocab, got, vocab * sizeof *got), "a copy of %u tokens is another", keep);
    }
    nigh_session_truncate(to, 3);
    CHECK(nigh_session_copy_prefix(to, from, N + 1, &err) == NIGH_ERANGE && nigh_session_count(to) == 3);
    CHECK(nigh_session_copy_prefix(from, from, 2, &err) == NIGH_OK && nigh_session_count(from) == 2);
    nigh_session *small = NULL;
    CHECK(nigh_session_new(&small, m, 2, &err) == NIGH_OK);
    CHECK(nigh_session_copy_prefix(small, to, 3, &err) == NIGH_ERANGE && nigh_session_count(small) == 0);
    CHECK(nigh_session_copy_prefix(small, to, 2, &err) == NIGH_OK && nigh_session_tokens(small)[1] == ids[1]);
    nigh_free(want);
    nigh_free(got);
    nigh_session_free(small);
    nigh_session_free(from);
    nigh_session_free(to);
    nigh_runner_free(r);
    nigh_model_close(m);
}

/* One token is at most five meetings of the threads in each layer, and one for the output matrix. */
static void test_few_meetings(void) {
    int32_t ids[64];
    nigh_err err = { 0 };
    nigh_session *s = NULL;
    nigh_runner *r = NULL;
    nigh_pool *pool = nigh_pool_new(2);
    nigh_model *m = model_file_open("llama-q8_0.gguf", pool, nigh_cpu_detect());
    if (!m) m = model_file_open("stories260K-q8_0.gguf", pool, nigh_cpu_detect());
    if (!m) { nigh_pool_free(pool); TEST_SKIP("the reference models are not here"); }
    float *logits = nigh_alloc(nigh_model_about(m)->vocab, sizeof *logits);
    some_tokens(m, test_seed(), ids, 64);
    CHECK(nigh_session_new(&s, m, 128, &err) == NIGH_OK && nigh_runner_new(&r, m, pool, 64, &err) == NIGH_OK);
    CHECK(nigh_runner_prompt(r, s, ids, 60, logits, &err) == NIGH_OK);
    /* A busy machine tries fewer threads now and then, and one thread meets nobody: four tokens are looked at. */
    uint64_t most = 0, layers = nigh_model_about(m)->layers;
    for (int i = 60; i < 64; i++) {
        uint64_t before = nigh_pool_about(pool).calls;
        CHECK(nigh_runner_eval(r, &(nigh_batch_item){ s, ids + i, 1, false, logits }, 1, &err) == NIGH_OK);
        uint64_t meetings = nigh_pool_about(pool).calls - before;
        CHECK(meetings <= 5 * layers + 1);
        most = meetings > most ? meetings : most;
    }
    nigh_pool_stats about = nigh_pool_about(pool);
    printf("  %llu meetings for a token of %llu layers\n", (unsigned long long)most, (unsigned long long)layers);
    CHECK(most >= layers || about.lowered || about.active < 2);
    nigh_free(logits);
    nigh_runner_free(r);
    nigh_session_free(s);
    nigh_model_close(m);
    nigh_pool_free(pool);
}

static void test_refusals(void) {
    int32_t ids[200] = { 0 };
    nigh_err err = { 0 };
    nigh_session *s = NULL, *big = NULL;
    nigh_runner *r = NULL;
    nigh_model *m = model_file_open("stories260K-q8_0.gguf", NULL, 0);
    if (!m) TEST_SKIP("the reference models are not here");
    CHECK(nigh_session_new(&big, m, 100000, &err) == NIGH_ERANGE && big == NULL);
    CHECK(nigh_session_new(&s, m, 100, &err) == NIGH_OK && nigh_runner_new(&r, m, NULL, 64, &err) == NIGH_OK);
    CHECK(nigh_runner_prompt(r, s, ids, 101, NULL, &err) == NIGH_ERANGE && strstr(err.text, "100"));
    CHECK(nigh_runner_eval(r, &(nigh_batch_item){ s, ids, 65, false, NULL }, 1, &err) == NIGH_ERANGE);
    ids[3] = 1 << 20;
    CHECK(nigh_runner_eval(r, &(nigh_batch_item){ s, ids, 5, false, NULL }, 1, &err) == NIGH_EINVAL && err.at == 3);
    ids[3] = -1;
    CHECK(nigh_runner_eval(r, &(nigh_batch_item){ s, ids, 5, false, NULL }, 1, &err) == NIGH_EINVAL);
    CHECK(nigh_runner_eval(r, &(nigh_batch_item){ s, ids, 0, false, NULL }, 1, &err) == NIGH_EINVAL);
    nigh_batch_item twice[2] = { { s, ids, 1, false, NULL }, { s, ids, 1, false, NULL } };
    CHECK(nigh_runner_eval(r, twice, 2, &err) == NIGH_EINVAL && nigh_session_count(s) == 0);
    nigh_runner_cancel(r);
    CHECK(nigh_runner_eval(r, twice, 1, &err) == NIGH_ECANCEL && nigh_session_count(s) == 0);
    CHECK(nigh_runner_eval(r, twice, 1, &err) == NIGH_OK && nigh_session_count(s) == 1);
    nigh_runner_free(r);
    nigh_session_free(s);
    nigh_model_close(m);
}

TEST_MAIN(T(test_same_bits), T(test_long_contexts), T(test_company_and_reuse), T(test_few_meetings),
          T(test_copied_prefix), T(test_refusals))
