/* test_sampler.c - tables of cases, the refusals, memory that runs out, and the time of a pick. */
#include <math.h>

#include "base/os.h"
#include "engine/sampler.h"
#include "test.h"

enum { BIG = 49152 };

static int32_t pick_once(nigh_sampler_opts o, const float *logits, size_t vocab, const int32_t *before,
                         size_t before_count) {
    nigh_sampler *s;
    if (nigh_sampler_new(&s, o, vocab, NULL) != NIGH_OK) return -1;
    for (size_t i = 0; i < before_count; i++) nigh_sampler_accept(s, before[i]);
    int32_t id = nigh_sampler_pick(s, logits);
    nigh_sampler_free(s);
    return id;
}

static void test_greedy(void) {
    const float ties[] = { 1, 3, 3, -2, 3 }, nans[] = { NAN, -5, NAN, -4, NAN }, none[] = { NAN, -INFINITY, -INFINITY };
    const float infinite[] = { 1, INFINITY, INFINITY };
    nigh_sampler_opts o = { 0 };
    CHECK(pick_once(o, ties, 5, NULL, 0) == 1);
    CHECK(pick_once(o, nans, 5, NULL, 0) == 3);
    CHECK(pick_once(o, none, 3, NULL, 0) == 1);
    CHECK(pick_once(o, infinite, 3, NULL, 0) == 1);
    CHECK(pick_once(o, ties, 1, NULL, 0) == 0);
    float row[100];
    for (size_t best = 0; best < 100; best++) {
        for (size_t i = 0; i < 100; i++) row[i] = i == best ? 1.0f : -(float)i;
        CHECK(pick_once(o, row, 100, NULL, 0) == (int32_t)best);
    }
}

static void test_hostile_rows_are_bounded(void) {
    const float values[] = { NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 1e-45f, -0.0f, 0.0f, 1.0f };
    nigh_sampler_opts o = {
        .temperature = 0.7f, .top_k = 3, .top_p = 0.9f, .min_p = 0.05f, .repeat_penalty = 1.1f, .frequency_penalty = 1
    };
    uint64_t seed = test_seed();
    float row[37];
    nigh_sampler *s;
    CHECK(nigh_sampler_new(&s, o, 37, NULL) == NIGH_OK);
    for (int round = 0; round < 2000; round++) {
        for (size_t i = 0; i < 37; i++) row[i] = values[test_rand(&seed) % NIGH_COUNT(values)];
        int32_t id = nigh_sampler_pick(s, row);
        CHECK_MSG(id >= 0 && id < 37, "seed %llu, round %d", (unsigned long long)test_seed(), round);
        nigh_sampler_accept(s, id);
    }
    nigh_sampler_accept(s, -1);
    nigh_sampler_accept(s, 37);
    nigh_sampler_free(s);
}

static void test_bias(void) {
    const float row[] = { 1, 2, 3, 4 };
    const nigh_logit_bias up[] = { { 0, 3.5f } }, never[] = { { 3, -100 } },
                          always[] = { { 0, 100 }, { 1, 100 }, { 3, 5 } };
    const nigh_logit_bias sum[] = { { 1, 1.5f }, { 1, 1.5f } },
                          all_never[] = { { 0, -100 }, { 1, -100 }, { 2, -100 }, { 3, -100 } };
    const struct { const nigh_logit_bias *bias; size_t count; int32_t want; } cases[] = {
        { up, 1, 0 }, { never, 1, 2 }, { always, 3, 1 }, { sum, 2, 1 } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_sampler_opts o = { .bias = cases[i].bias, .bias_count = cases[i].count };
        CHECK_MSG(pick_once(o, row, 4, NULL, 0) == cases[i].want, "case %zu", i);
        o.temperature = 1e-3f;
        CHECK_MSG(pick_once(o, row, 4, NULL, 0) == cases[i].want, "case %zu, drawn", i);
    }
    CHECK(pick_once((nigh_sampler_opts){ .bias = all_never, .bias_count = 4, .temperature = 1 }, row, 4, NULL, 0) == 3);
}

static void test_penalties(void) {
    const float row[] = { 4, 3.9f, -1, -1.05f };
    const int32_t zero[] = { 0 }, twice[] = { 0, 0, 1 }, old[] = { 0, 1, 1, 1 };
    const float low[] = { -1, -1.05f, -9, -9 };
    CHECK(pick_once((nigh_sampler_opts){ .repeat_penalty = 1.1f }, row, 4, zero, 1) == 1);
    CHECK(pick_once((nigh_sampler_opts){ .repeat_penalty = 1.1f }, low, 4, zero, 1)
          == 1);   /* negative logits are multiplied */
    CHECK(pick_once((nigh_sampler_opts){ .presence_penalty = 0.2f }, row, 4, zero, 1) == 1);
    CHECK(pick_once((nigh_sampler_opts){ .presence_penalty = 0.2f }, row, 4, twice, 3)
          == 0);  /* once each, however often */
    CHECK(pick_once((nigh_sampler_opts){ .frequency_penalty = 0.2f }, row, 4, twice, 3) == 1); /* 4 - 0.4 < 3.9 - 0.2 */
    CHECK(pick_once((nigh_sampler_opts){ .frequency_penalty = -0.2f }, row, 4, old, 4) == 1);  /* a reward */
    CHECK(pick_once((nigh_sampler_opts){ .presence_penalty = 2, .repeat_last = 3 }, row, 4, old, 4)
          == 0); /* 0 has left the window */
    CHECK(pick_once((nigh_sampler_opts){ .repeat_penalty = 1 }, row, 4, zero, 1) == 0);
    float copy[4];
    memcpy(copy, row, sizeof row);
    pick_once((nigh_sampler_opts){ .repeat_penalty = 2, .temperature = 1 }, copy, 4, zero, 1);
    CHECK(memcmp(copy, row, sizeof row) == 0);
}

static void test_refusals(void) {
    const nigh_logit_bias outside[] = { { 4, 1 } }, below[] = { { -1, 1 } }, nan_bias[] = { { 0, NAN } };
    const struct { nigh_sampler_opts o; const char *word;
    } cases[] = { { { .temperature = -0.1f }, "temperature" },
                  { { .temperature = NAN }, "temperature" },
                  { { .temperature = INFINITY }, "temperature" },
                  { { .top_p = 1.1f }, "top_p" },
                  { { .top_p = NAN }, "top_p" },
                  { { .min_p = -1 }, "min_p" },
                  { { .min_p = 2 }, "min_p" },
                  { { .repeat_penalty = -1 }, "repeat_penalty" },
                  { { .frequency_penalty = 3 }, "frequency_penalty" },
                  { { .presence_penalty = NAN }, "presence_penalty" },
                  { { .repeat_last = 1u << 30 }, "repeat_last" },
                  { { .bias = outside, .bias_count = 1 }, "token 4" },
                  { { .bias = below, .bias_count = 1 }, "token -1" },
                  { { .bias = nan_bias, .bias_count = 1 }, "not a number" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_sampler *s = NULL;
        nigh_err err = { 0 };
        CHECK(nigh_sampler_new(&s, cases[i].o, 4, &err) == NIGH_EINVAL && s == NULL && err.code == NIGH_EINVAL);
        CHECK_MSG(strstr(err.text, cases[i].word), "case %zu: %s", i, err.text);
    }
}

static void test_no_memory(void) {
    nigh_sampler_opts o = { .temperature = 1, .repeat_penalty = 1.1f };
    size_t before = nigh_alloc_live_bytes();
    int failed = 0;
    for (uint64_t nth = 1; nth < 20; nth++) {
        nigh_sampler *s;
        nigh_err err = { 0 };
        nigh_alloc_fail_at(nth, false);
        nigh_status status = nigh_sampler_new(&s, o, 100, &err);
        nigh_alloc_fail_at(0, false);
        if (status == NIGH_OK) { nigh_sampler_free(s); break; }
        failed++;
        CHECK(status == NIGH_ENOMEM && s == NULL && strstr(err.text, "memory"));
        CHECK(nigh_alloc_live_bytes() == before);
    }
    CHECK(failed == 7);
    CHECK(nigh_alloc_live_bytes() == before);
    nigh_sampler_free(NULL);
}

/* These ids are part of the contract "same seed, same tokens, on every machine": when they change, every stored run
 * changes. */
static void test_recorded_draws(void) {
    static const int32_t want[] = { 20, 60, 31, 5, 43, 5, 13, 48, 10, 43, 38, 12, 17, 19, 57, 50 };
    float row[64];
    nigh_sampler *s;
    for (size_t i = 0; i < 64; i++) row[i] = (float)(i * 37 % 64) * 0.0625f;
    CHECK(nigh_sampler_new(
              &s, (nigh_sampler_opts){ .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .seed = 42 },
              64, NULL)
          == NIGH_OK);
    for (size_t i = 0; i < NIGH_COUNT(want); i++) {
        int32_t id = nigh_sampler_pick(s, row);
        CHECK_MSG(id == want[i], "draw %zu gave %d", i, (int)id);
    }
    nigh_sampler_free(s);
}

static void test_logprobs(void) {
    const float row[] = { 0, 1, 2, 2, -1000, NAN, -INFINITY };
    nigh_logprob top[9];
    float of_id;
    double total = log(1 + exp(1) + 2 * exp(2));
    nigh_logprobs(row, 7, 1, &of_id, top, 9);
    CHECK(fabs((double)of_id - (1 - total)) < 1e-6);
    const int32_t want[] = { 2, 3, 1, 0, 4, -1, -1, -1, -1 };
    for (size_t i = 0; i < 9; i++) CHECK_MSG(top[i].id == want[i], "%zu: %d", i, (int)top[i].id);
    CHECK(fabs((double)top[0].logprob - (2 - total)) < 1e-6 && top[8].logprob == -INFINITY);
    nigh_logprobs(row, 7, 6, &of_id, top, 2);
    CHECK(of_id == -INFINITY && top[0].id == 2 && top[1].id == 3);
    nigh_logprobs(row, 7, 99, &of_id, NULL, 0);
    CHECK(of_id == -INFINITY);
    nigh_logprobs(row + 5, 2, 0, &of_id, top, 1);
    CHECK(of_id == -INFINITY && top[0].id == -1);
}

static double best_us(nigh_sampler_opts o, const float *row) {
    nigh_sampler *s;
    double best = 1e9;
    if (nigh_sampler_new(&s, o, BIG, NULL) != NIGH_OK) return best;
    for (int round = 0; round < 40; round++) {
        uint64_t begin = nigh_os_now_ns();
        nigh_sampler_accept(s, nigh_sampler_pick(s, row));
        double us = (double)(nigh_os_now_ns() - begin) / 1e3;
        if (us < best) best = us;
    }
    nigh_sampler_free(s);
    return best;
}

static void test_speed(void) {
    static float row[BIG];
    uint64_t seed = 1;
    for (size_t i = 0; i < BIG; i++) row[i] = (float)(test_rand(&seed) % 1000) * 0.02f;
    row[BIG - 1] = 30;
    double greedy = best_us((nigh_sampler_opts){ 0 }, row);
    printf(
        "  a pick out of %d: greedy %.0f us, top-k 40 %.0f us, temperature %.0f us, top-p with penalties %.0f us\n",
        BIG, greedy, best_us((nigh_sampler_opts){ .temperature = 0.8f, .top_k = 40 }, row),
        best_us((nigh_sampler_opts){ .temperature = 0.8f }, row),
        best_us((nigh_sampler_opts){ .temperature = 0.8f, .top_p = 0.9f, .repeat_penalty = 1.1f }, row));
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK_MSG(greedy <= 100, "%.0f us", greedy);
#endif
}

TEST_MAIN(T(test_greedy), T(test_hostile_rows_are_bounded), T(test_bias), T(test_penalties), T(test_refusals),
          T(test_no_memory), T(test_recorded_draws), T(test_logprobs), T(test_speed))
