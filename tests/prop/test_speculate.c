/* test_speculate.c - drafts change how long a text takes, and nothing else: the tokens, the text that may be shown
 * after each, log-probabilities, the reason to end and what the session holds are the same as one by one, for random
 * prompts, samplers, limits and stop strings; with guesses from the text, from a small model, and with wrong ones. */
#include "model_files.h"

#include "engine/speculate.h"

enum { STEPS_MAX = 200, TEXT_MAX = 8192 };

typedef struct {
    size_t count, text_len;
    int32_t tokens[STEPS_MAX + 1];
    size_t shown[STEPS_MAX + 1];        /* bytes of text after each step */
    float logprobs[STEPS_MAX + 1], tops[STEPS_MAX + 1];
    nigh_finish finish;
    char text[TEXT_MAX];
    uint32_t session_count;
} record;

typedef struct {
    int32_t prompt[160];
    size_t prompt_count;
    uint32_t context;
    nigh_generate_opts o;
    nigh_logit_bias bias[4];
    nigh_str stop[2];
    char stop_text[2][4];
} plan;

static void keep(record *r, const nigh_step *step) {
    if (r->count > STEPS_MAX) return;
    r->tokens[r->count] = step->token;
    r->logprobs[r->count] = step->logprob;
    r->tops[r->count] = step->top && step->token >= 0 ? step->top[0].logprob : 0;
    if (step->text.len && r->text_len + step->text.len <= TEXT_MAX) {
        memcpy(r->text + r->text_len, step->text.ptr, step->text.len);
        r->text_len += step->text.len;
    }
    r->shown[r->count++] = r->text_len;
    r->finish = step->finish;
}

/* ---- the definition: one token at a time ---- */

static void write_plainly(const nigh_model *m, nigh_runner *runner, const plan *p, record *r) {
    nigh_session *s = NULL;
    nigh_generation *g = NULL;
    nigh_err err = { 0 };
    nigh_step step = { 0 };
    float *logits = nigh_alloc(nigh_model_about(m)->vocab, sizeof *logits);
    *r = (record){ 0 };
    CHECK(nigh_session_new(&s, m, p->context, &err) == NIGH_OK);
    CHECK(nigh_generation_new(&g, nigh_model_tokenizer(m), p->o, p->prompt, p->prompt_count, &err) == NIGH_OK);
    CHECK(nigh_runner_prompt(runner, s, p->prompt, (uint32_t)p->prompt_count, logits, &err) == NIGH_OK);
    while (r->count < STEPS_MAX) {
        if (!test_check(nigh_generation_step(g, logits, &step, &err) == NIGH_OK, "step", __FILE__, __LINE__)) break;
        keep(r, &step);
        if (step.finish != NIGH_FINISH_NONE) break;
        if (nigh_session_count(s) == nigh_session_limit(s)) {
            CHECK(nigh_generation_end(g, NIGH_FINISH_LENGTH, &step) == NIGH_OK);
            keep(r, &step);
            break;
        }
        nigh_batch_item item = { .session = s, .tokens = &step.token, .count = 1, .logits = logits };
        CHECK(nigh_runner_eval(runner, &item, 1, &err) == NIGH_OK);
    }
    r->session_count = nigh_session_count(s);
    nigh_generation_free(g);
    nigh_session_free(s);
    nigh_free(logits);
}

/* ---- with drafts ---- */

static uint64_t clock_step, clock_now;
static uint64_t fake_clock(void) { return clock_now += clock_step; }

static void write_drafting(const nigh_model *m, nigh_runner *runner, const plan *p, nigh_draft_model *small,
                           uint64_t (*now_ns)(void), record *r, uint64_t counts[2]) {
    nigh_session *s = NULL;
    nigh_generation *g = NULL;
    nigh_writer *w = NULL;
    nigh_err err = { 0 };
    nigh_step step = { 0 };
    *r = (record){ 0 };
    CHECK(nigh_session_new(&s, m, p->context, &err) == NIGH_OK);
    CHECK(nigh_generation_new(&g, nigh_model_tokenizer(m), p->o, p->prompt, p->prompt_count, &err) == NIGH_OK);
    nigh_writer_opts o = { .runner = runner, .session = s, .model = small, .now_ns = now_ns,
                           .vocab = nigh_model_about(m)->vocab };
    CHECK(nigh_writer_new(&w, o, &err) == NIGH_OK);
    CHECK(nigh_runner_prompt(runner, s, p->prompt, (uint32_t)p->prompt_count, nigh_writer_logits(w), &err) == NIGH_OK);
    nigh_writer_start(w, p->prompt, p->prompt_count);
    while (r->count < STEPS_MAX) {
        if (!test_check(nigh_writer_step(w, g, &step, &err) == NIGH_OK, "writer step", __FILE__, __LINE__)) break;
        keep(r, &step);
        if (step.finish != NIGH_FINISH_NONE) break;
        if (!nigh_writer_full(w)) continue;
        CHECK(nigh_generation_end(g, NIGH_FINISH_LENGTH, &step) == NIGH_OK);
        keep(r, &step);
        break;
    }
    counts[0] += nigh_writer_about(w)->drafted;
    counts[1] += nigh_writer_about(w)->accepted;
    if (step.finish != NIGH_FINISH_NONE) r->session_count = nigh_session_count(s);
    nigh_writer_free(w);
    nigh_generation_free(g);
    nigh_session_free(s);
}

/* Guesses that follow the true text for a while and then do not, of any length. */
static void write_misled(const nigh_model *m, nigh_runner *runner, const plan *p, const record *truth, record *r,
                         uint64_t *seed) {
    size_t vocab = nigh_model_about(m)->vocab;
    nigh_session *s = NULL;
    nigh_generation *g = NULL;
    nigh_err err = { 0 };
    nigh_step step = { 0 };
    nigh_speculation sp = { 0 };
    float *logits = nigh_alloc((1 + NIGH_DRAFT_MAX) * vocab, sizeof *logits);
    *r = (record){ 0 };
    CHECK(nigh_session_new(&s, m, p->context, &err) == NIGH_OK);
    CHECK(nigh_generation_new(&g, nigh_model_tokenizer(m), p->o, p->prompt, p->prompt_count, &err) == NIGH_OK);
    CHECK(nigh_speculation_init(&sp, s, false, &err) == NIGH_OK);
    CHECK(nigh_runner_prompt(runner, s, p->prompt, (uint32_t)p->prompt_count, logits, &err) == NIGH_OK);
    nigh_speculation_start(&sp, p->prompt, p->prompt_count);
    while (r->count < STEPS_MAX) {
        if (!nigh_speculation_has_row(&sp)) {
            double expected = 1;
            nigh_speculation_guess(&sp, &(nigh_draft_cost){ 0 }, 1, &expected, 0);
            size_t room = nigh_min(nigh_session_limit(s) - nigh_session_count(s) - 1, NIGH_DRAFT_MAX),
                   extra = test_rand(seed) % (room + 1), right = test_rand(seed) % (extra + 1);
            for (size_t i = 0; i < extra; i++)
                sp.tokens[1 + i] = i < right && r->count + i < truth->count && truth->tokens[r->count + i] >= 0
                                       ? truth->tokens[r->count + i]
                                       : (int32_t)(test_rand(seed) % vocab);
            sp.count += (uint32_t)extra;
            nigh_batch_item item = nigh_speculation_item(&sp, logits);
            CHECK(nigh_runner_eval(runner, &item, 1, &err) == NIGH_OK);
        }
        CHECK(nigh_speculation_step(&sp, g, logits + sp.used * vocab, &step, &err) == NIGH_OK);
        keep(r, &step);
        if (step.finish != NIGH_FINISH_NONE) break;
        if (nigh_speculation_has_row(&sp) || nigh_session_count(s) < nigh_session_limit(s)) continue;
        CHECK(nigh_generation_end(g, NIGH_FINISH_LENGTH, &step) == NIGH_OK);
        keep(r, &step);
        break;
    }
    if (step.finish != NIGH_FINISH_NONE) r->session_count = nigh_session_count(s);
    nigh_speculation_release(&sp);
    nigh_generation_free(g);
    nigh_session_free(s);
    nigh_free(logits);
}

/* ---- random plans ---- */

static float one_of(uint64_t *seed, const float *values, size_t count) { return values[test_rand(seed) % count]; }
#define PICK(...) one_of(seed, (const float[]){ __VA_ARGS__ }, sizeof((const float[]){ __VA_ARGS__ }) / sizeof(float))

static void make_plan(plan *p, const nigh_model *m, uint64_t *seed) {
    size_t vocab = nigh_model_about(m)->vocab;
    *p = (plan){ .prompt_count = 2 + test_rand(seed) % 100 };
    size_t period = 2 + test_rand(seed) % 40;       /* prompts that repeat themselves */
    for (size_t i = 0; i < p->prompt_count; i++)
        p->prompt[i] = i >= period && test_rand(seed) % 16 ? p->prompt[i - period]
                                                           : (int32_t)(test_rand(seed) % vocab);
    bool tight = test_rand(seed) % 3 == 0;
    p->context = (uint32_t)(tight ? p->prompt_count + test_rand(seed) % 40 : 400);
    p->context = (uint32_t)nigh_min(p->context, nigh_model_about(m)->context_tokens);
    p->o = (nigh_generate_opts){ .max_tokens = (uint32_t)(test_rand(seed) % 3 ? 1 + test_rand(seed) % 120 : 120),
                                 .ignore_end = test_rand(seed) % 4 != 0,
                                 .logprobs = test_rand(seed) % 2, .top_logprobs = (uint32_t)(test_rand(seed) % 3) };
    p->o.sampler = (nigh_sampler_opts){ .temperature = PICK(0, 0, 0.2f, 0.7f, 1.5f), .seed = test_rand(seed),
                                        .top_k = (uint32_t)PICK(0, 0, 3, 40), .top_p = PICK(0, 0.9f),
                                        .min_p = PICK(0, 0, 0.1f), .repeat_penalty = PICK(0, 0, 1.1f, 1.5f),
                                        .frequency_penalty = PICK(0, 0, 0.5f), .presence_penalty = PICK(0, 0, 0.7f),
                                        .repeat_last = (uint32_t)PICK(0, 5, 64) };
    for (size_t i = 0; i < NIGH_COUNT(p->bias); i++)
        p->bias[i] = (nigh_logit_bias){ (int32_t)(test_rand(seed) % vocab), PICK(-100, 3, 9) };
    if (test_rand(seed) % 4 == 0) { p->o.sampler.bias = p->bias; p->o.sampler.bias_count = NIGH_COUNT(p->bias); }
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < 3; k++) p->stop_text[i][k] = "aeinst ,"[test_rand(seed) % 8];
        p->stop[i] = (nigh_str){ p->stop_text[i], 1 + test_rand(seed) % 3 };
    }
    if (test_rand(seed) % 4 == 0) { p->o.stop = p->stop; p->o.stop_count = 2; }
}

static bool same(const record *a, const record *b) {
    return a->count == b->count && a->finish == b->finish && a->text_len == b->text_len
           && memcmp(a->tokens, b->tokens, a->count * sizeof *a->tokens) == 0
           && memcmp(a->shown, b->shown, a->count * sizeof *a->shown) == 0
           && memcmp(a->logprobs, b->logprobs, a->count * sizeof *a->logprobs) == 0
           && memcmp(a->tops, b->tops, a->count * sizeof *a->tops) == 0 && memcmp(a->text, b->text, a->text_len) == 0
           && (a->finish == NIGH_FINISH_NONE || a->session_count == b->session_count);
}

static void check_model(const char *file, const char *small_file, size_t rounds) {
    nigh_pool *pool = nigh_pool_new(2);
    nigh_model *m = model_file_open(file, pool, nigh_cpu_detect()),
               *small = model_file_open(small_file, pool, nigh_cpu_detect());
    nigh_runner *runner = NULL;
    nigh_draft_model *d = NULL;
    nigh_err err = { 0 };
    uint64_t seed = test_seed(), counts[2] = { 0 }, by_model[2] = { 0 };
    static record plain, drafted;
    if (m && small && nigh_runner_new(&runner, m, pool, 200, &err) == NIGH_OK
        && nigh_draft_model_new(&d, small, m, pool, 400, NULL, &err) == NIGH_OK)
        for (size_t i = 0; i < rounds; i++) {
            uint64_t from = seed;
            plan p;
            make_plan(&p, m, &seed);
            p.o.sampler.bias = p.o.sampler.bias_count ? p.bias : NULL;
            clock_step = 1 + test_rand(&seed) % 5000000;
            write_plainly(m, runner, &p, &plain);
            write_drafting(m, runner, &p, NULL, NULL, &drafted, counts);
            CHECK_MSG(same(&plain, &drafted), "%s: guesses from the text, seed %llu", file, (unsigned long long)from);
            write_drafting(m, runner, &p, NULL, fake_clock, &drafted, counts);
            CHECK_MSG(same(&plain, &drafted), "%s: with a clock, seed %llu", file, (unsigned long long)from);
            write_drafting(m, runner, &p, d, NULL, &drafted, by_model);
            CHECK_MSG(same(&plain, &drafted), "%s: a small model, seed %llu", file, (unsigned long long)from);
            write_misled(m, runner, &p, &plain, &drafted, &seed);
            CHECK_MSG(same(&plain, &drafted), "%s: wrong guesses, seed %llu", file, (unsigned long long)from);
        }
    CHECK_MSG(d != NULL, "%s", err.text);
    if (d) printf("  %s: %llu drafted, %llu right; with %s %llu, %llu\n", file, (unsigned long long)counts[0],
                  (unsigned long long)counts[1], small_file, (unsigned long long)by_model[0],
                  (unsigned long long)by_model[1]);
    CHECK_MSG(!d || counts[1] > 0, "%s: no guess ever came true", file);
    nigh_draft_model_free(d);
    nigh_runner_free(runner);
    nigh_model_close(small);
    nigh_model_close(m);
    nigh_pool_free(pool);
}

static void test_same_text(void) {
    static const char *const pairs[][2] = { { "stories260K.gguf", "stories260K-q4_0.gguf" },
                                            { "stories260K-q8_0.gguf", "stories260K-q8_0.gguf" },
                                            { "llama-q4_0.gguf", "llama-q4_0.gguf" },
                                            { "gemma2-q8_0.gguf", "gemma2-q8_0.gguf" },
                                            { "qwen2.gguf", "qwen2.gguf" } };
    size_t seen = 0;
    char path[1024];
    for (size_t i = 0; i < NIGH_COUNT(pairs); i++) {
        if (!model_file_path(pairs[i][0], path, sizeof path)) continue;
        if (!model_file_path(pairs[i][1], path, sizeof path)) continue;
        check_model(pairs[i][0], pairs[i][1], test_short() ? 4 : 30);
        seen++;
    }
    if (seen == 0) TEST_SKIP("the reference models are not here");
}

static void test_other_vocabulary(void) {
    nigh_model *a = model_file_open("stories260K.gguf", NULL, 0), *b = model_file_open("qwen2.gguf", NULL, 0);
    nigh_draft_model *d = NULL;
    nigh_err err = { 0 };
    if (a && b) {
        CHECK(nigh_draft_model_new(&d, a, b, NULL, 100, NULL, &err) == NIGH_EINVAL && d == NULL);
        CHECK_MSG(strstr(err.text, "vocabulary"), "%s", err.text);
    }
    bool seen = a && b;
    nigh_model_close(a);
    nigh_model_close(b);
    if (!seen) TEST_SKIP("the reference models are not here");
}

TEST_MAIN(T(test_same_text), T(test_other_vocabulary))
