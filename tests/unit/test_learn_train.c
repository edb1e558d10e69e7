/* test_learn_train.c - the run on a tiny model and made text: the order of windows, the schedule, a loss that
 * falls, the same bits with any number of threads and after a pause. */
#define _GNU_SOURCE
#include <math.h>

#include "learn/train.h"
#include "learn_made.h"

typedef struct { nigh_corpus corpus; nigh_bpe *bpe; nigh_feed feed; nigh_recipe recipe; } setup;

static nigh_recipe tiny(void) {
    nigh_recipe r = nigh_recipe_default();
    r.shape = (nigh_shape){ .vocab = 400, .dim = 64, .layers = 2, .heads = 4, .kv_heads = 2, .ff = 96,
        .window = 32, .rope_base = 10000.0f, .eps = 1e-5f };
    r.batch = 8, r.warmup = 5, r.decay = 10, r.steps = 60, r.rate = 5e-3f;
    return r;
}

static void begin(setup *s, size_t docs) {
    char folder[64], path[80];
    nigh_err err;
    *s = (setup){ .recipe = tiny(), .bpe = nigh_bpe_new() };
    made_corpus(folder, docs, test_seed());
    snprintf(path, sizeof path, "%s", folder);
    s->feed.window = s->recipe.shape.window, s->feed.seed = 7;
    bool ok = nigh_corpus_add(&s->corpus, path, &err) == NIGH_OK
        && nigh_corpus_split(&s->corpus, 100, &err) == NIGH_OK
        && nigh_feed_make(&s->feed, s->bpe, &s->corpus, s->recipe.shape.vocab, &err) == NIGH_OK;
    CHECK(ok);
    made_remove(folder);
}
static void end(setup *s) {
    nigh_feed_release(&s->feed);
    nigh_bpe_free(s->bpe);
    nigh_corpus_release(&s->corpus);
    CHECK_MSG(nigh_alloc_live_bytes() == 0, "%zu bytes leaked", nigh_alloc_live_bytes());
}

/* Windows of numbered ids: in an epoch each once, never over the end, in another order the next time. */
static void test_epochs(void) {
    enum { WINDOW = 8, COUNT = 1003 };
    uint16_t ids[COUNT], out[WINDOW + 1];
    for (size_t i = 0; i < COUNT; i++) ids[i] = (uint16_t)i;
    nigh_feed f = { .window = WINDOW, .seed = test_seed(), .source_count = 1, .weight = { 1 },
        .late_weight = { 1 } };
    f.train[0] = (nigh_run){ ids, COUNT, COUNT };
    nigh_feed_at at = { { 0 }, { 0 } };
    size_t windows = (COUNT - 1) / WINDOW - 1, same = 0;
    uint16_t *order = calloc(windows, sizeof *order);
    for (size_t epoch = 0; epoch < 5; epoch++) {
        uint8_t seen[COUNT] = { 0 };
        for (size_t i = 0; i < windows; i++) {
            nigh_feed_next(&f, &at, epoch >= 3, out);
            for (size_t j = 1; j <= WINDOW; j++) CHECK(out[j] == out[0] + j);
            CHECK(!seen[out[0]]);
            seen[out[0]] = 1;
            same += epoch && order[i] / WINDOW == out[0] / WINDOW;
            order[i] = out[0];
        }
    }
    CHECK_MSG(same < windows, "the order of epochs is the same");
    free(order);
}

static void test_shares(void) {
    uint16_t ids[3][4000] = { { 0 } }, out[11];
    nigh_feed f = { .window = 10, .seed = 1, .source_count = 3, .weight = { 1, 2, 0 },
        .late_weight = { 0, 1, 1 } };
    const size_t counts[3] = { 4000, 1000, 2000 };
    for (size_t s = 0; s < 3; s++) {
        f.train[s] = (nigh_run){ ids[s], counts[s], counts[s] };
        for (size_t i = 0; i < counts[s]; i++) ids[s][i] = (uint16_t)s;
    }
    nigh_feed_at at = { { 0 }, { 0 } };
    size_t got[2][3] = { { 0 } };
    for (size_t i = 0; i < 600; i++) { nigh_feed_next(&f, &at, i >= 300, out); got[i >= 300][out[0]]++; }
    const size_t want[2][3] = { { 200, 100, 0 }, { 0, 100, 200 } };
    for (size_t p = 0; p < 2; p++) for (size_t s = 0; s < 3; s++)
        CHECK_MSG(got[p][s] + 1 >= want[p][s] && got[p][s] <= want[p][s] + 1,
            "phase %zu, source %zu: %zu windows, want %zu", p, s, got[p][s], want[p][s]);
}

static void test_rate(void) {
    nigh_recipe r = tiny();
    r.rate = 1.0f, r.rate_end = 0.1f, r.warmup = 4, r.decay = 10, r.steps = 100;
    const struct { uint64_t step; double want; } cases[] = { { 0, 0.25 }, { 3, 1 }, { 4, 1 }, { 90, 1 },
        { 95, 0.55 }, { 99, 0.19 }, { 100, 0.1 }, { 200, 0.1 } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        double got = (double)nigh_recipe_rate(&r, cases[i].step);
        CHECK_MSG(fabs(got - cases[i].want) < 1e-6, "step %u: %g", (unsigned)cases[i].step, got);
    }
}

static void test_learns(void) {
    setup s;
    nigh_state state;
    begin(&s, 150);
    nigh_pool *pool = nigh_pool_new(2);
    nigh_trainer *t = nigh_trainer_new(&s.recipe, &s.feed, pool, nigh_gemm_find(nigh_gemm_best(false)));
    CHECK(t && nigh_state_new(&state, &s.recipe, s.bpe) == NIGH_OK);
    nigh_held before = nigh_trainer_held(t, &state, 0, 0);
    CHECK(before.tokens > 100);
    double first = nigh_trainer_step(t, &state), last = 0;
    while (state.step < s.recipe.steps) last = nigh_trainer_step(t, &state);
    nigh_held after = nigh_trainer_held(t, &state, 0, 0);
    double held[2] = { before.nats / (double)before.tokens, after.nats / (double)after.tokens };
    CHECK_MSG(first > 5.5 && last < 2.5, "loss %.3f, at the end %.3f", first, last);
    CHECK_MSG(held[0] > 5.5 && held[1] < 2.6, "held-out loss %.3f, at the end %.3f", held[0], held[1]);
    nigh_state_release(&state);
    nigh_trainer_free(t);
    nigh_pool_free(pool);
    end(&s);
}

/* Eight steps with `threads`; with a pause through a checkpoint after `pause` steps. */
static void run_eight(setup *s, nigh_state *state, size_t threads, size_t pause) {
    char path[64] = "/tmp/nigh-test-checkpoint-XXXXXX";
    nigh_err err;
    nigh_pool *pool = nigh_pool_new(threads);
    nigh_trainer *t = nigh_trainer_new(&s->recipe, &s->feed, pool, nigh_gemm_find(nigh_gemm_best(false)));
    int fd = mkstemp(path);
    if (fd >= 0) close(fd);
    CHECK(t && nigh_state_new(state, &s->recipe, s->bpe) == NIGH_OK);
    while (state->step < 8) {
        nigh_trainer_step(t, state);
        if (state->step != pause) continue;
        CHECK(nigh_state_save(state, path, &err) == NIGH_OK);
        nigh_state_release(state);
        CHECK_MSG(nigh_state_load(state, path, &err) == NIGH_OK, "%s", err.text);
    }
    unlink(path);
    nigh_trainer_free(t);
    nigh_pool_free(pool);
}

static void test_same_bits(void) {
    setup s;
    nigh_state a, b;
    begin(&s, 60);
    s.recipe.steps = 16;
    run_eight(&s, &a, 1, 0);
    const size_t cases[][2] = { { 2, 0 }, { 5, 0 }, { 1, 3 }, { 3, 7 } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        run_eight(&s, &b, cases[i][0], cases[i][1]);
        bool same = memcmp(a.params, b.params, a.count * 4) == 0 && memcmp(a.m, b.m, a.count * 4) == 0
            && memcmp(a.v, b.v, a.count * 4) == 0
            && memcmp(&a.at, &b.at, sizeof a.at) == 0 && memcmp(&a.recent, &b.recent, sizeof a.recent) == 0;
        CHECK_MSG(same, "%zu threads, pause after step %zu: other bits", cases[i][0], cases[i][1]);
        nigh_state_release(&b);
    }
    nigh_state_release(&a);
    end(&s);
}

TEST_MAIN(T(test_epochs), T(test_shares), T(test_rate), T(test_learns), T(test_same_bits))
