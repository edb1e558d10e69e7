/* The limit of a rate, and thresholds found on pairs. */
#include "place/calibrate.h"
#include "place/rate.h"
#include "test.h"

static uint64_t rng;
static double unit(void) { return (double)(test_rand(&rng) >> 11) * 0x1p-53; }

static void test_rate_holds_in_every_window(void) {
    static const double rates[] = { 0, 0.01, 0.2, 0.5, 1 };
    enum { COUNT = 4000 };
    static bool let[COUNT];
    rng = test_seed();
    for (size_t k = 0; k < NIGH_COUNT(rates); k++) {
        nigh_rate s = { 0 };
        size_t all = 0;
        for (size_t i = 0; i < COUNT; i++) {
            bool wants = i > 1000 || unit() < 0.1;  /* first as was meant, then all of them */
            let[i] = nigh_rate_take(&s, rates[k], wants);
            CHECK(!let[i] || wants);
            all += let[i];
        }
        CHECK(s.seen == COUNT && s.let == all && s.let <= s.wanted);
        for (size_t from = 0; from < COUNT; from += 37) {
            size_t in = 0;
            for (size_t to = from; to < COUNT; to++) {
                in += let[to];
                double most = rates[k] * (double)(to - from + 1) + NIGH_RATE_BURST + 1e-9;
                CHECK_MSG((double)in <= most, "rate %g: %zu of %zu", rates[k], in, to - from + 1);
                if (test_state.case_failed) return;
            }
        }
        if (rates[k] <= 0) CHECK(all == 0);
        else CHECK_MSG((double)all > rates[k] * 2900, "rate %g: %zu let", rates[k], all);
    }
    nigh_rate s = { 0 };
    for (int i = 0; i < 100; i++) CHECK(nigh_rate_take(&s, -1, true) && !nigh_rate_take(&s, -1, false));
}

static void test_by_rate(void) {
    nigh_pair pairs[40];
    nigh_calibration c;
    for (size_t i = 0; i < 40; i++) pairs[i] = (nigh_pair){ (double)((i * 7) % 40) / 40, (i * 7) % 40 >= 10 ? 1 : 0 };
    CHECK(nigh_calibrate(pairs, 40, &(nigh_calibrate_opts){ 0.25, -1 }, &c, NULL) == NIGH_OK);
    CHECK(c.below == 10 && c.threshold == 0.25 && c.rate == 0.25 && c.count == 40);
    CHECK(c.score_all == 0.75 && c.score_kept == 1 && c.score_below == 0 && c.order == 1);
    CHECK(c.held_out_rate > 0.1 && c.held_out_rate < 0.4);
    CHECK(nigh_calibrate(pairs, 40, &(nigh_calibrate_opts){ 0, -1 }, &c, NULL) == NIGH_OK && c.below == 0);
    CHECK(nigh_calibrate(pairs, 40, &(nigh_calibrate_opts){ 1, -1 }, &c, NULL) == NIGH_OK && c.below == 40);
    for (size_t i = 0; i < 40; i++) pairs[i].confidence = i < 30 ? 0.5 : 0.9;     /* of equals all or none go */
    CHECK(nigh_calibrate(pairs, 40, &(nigh_calibrate_opts){ 0.5, -1 }, &c, NULL) == NIGH_OK);
    CHECK(c.below == 0 && c.threshold == 0.5);
    CHECK(nigh_calibrate(pairs, 40, &(nigh_calibrate_opts){ 0.75, -1 }, &c, NULL) == NIGH_OK);
    CHECK(c.below == 30 && c.threshold == 0.9);
}

static void test_by_score(void) {
    nigh_pair pairs[100];
    nigh_calibration c;
    nigh_err err = { 0 };
    for (size_t i = 0; i < 100; i++) pairs[i] = (nigh_pair){ (double)i / 100, i >= 50 ? 1 : 0 };
    CHECK(nigh_calibrate(pairs, 100, &(nigh_calibrate_opts){ -1, 0.8 }, &c, NULL) == NIGH_OK);
    CHECK_MSG(c.score_kept >= 0.8 && c.below == 38, "%g %zu", c.score_kept, c.below);   /* 50 of 62 are good */
    CHECK(nigh_calibrate(pairs, 100, &(nigh_calibrate_opts){ -1, 0.5 }, &c, NULL) == NIGH_OK && c.below == 0);
    CHECK(nigh_calibrate(pairs, 100, &(nigh_calibrate_opts){ 0.4, 0.8 }, &c, NULL) == NIGH_OK && c.below == 38);
    CHECK(nigh_calibrate(pairs, 100, &(nigh_calibrate_opts){ 0.3, 0.8 }, &c, &err) == NIGH_EINVAL);
    CHECK(strstr(err.text, "no threshold") != NULL);
    for (size_t i = 0; i < 100; i++) pairs[i].score = i % 2 ? 1 : 0;
    CHECK(nigh_calibrate(pairs, 100, &(nigh_calibrate_opts){ 0.5, -1 }, &c, NULL) == NIGH_OK);
    CHECK_MSG(c.order > 0.45 && c.order < 0.55, "%g", c.order);
}

/* Against counting, on random pairs with many equal ones. */
static void test_against_counting(void) {
    nigh_pair pairs[300];
    nigh_calibration c;
    rng = test_seed() + 1;
    for (int round = 0; round < 300; round++) {
        size_t count = NIGH_PAIRS_MIN + (size_t)(unit() * 280), below = 0;
        double rate = unit(), better = 0, of = 0;
        for (size_t i = 0; i < count; i++)
            pairs[i] = (nigh_pair){ (double)(int)(unit() * 50) / 50, unit() < 0.4 ? 0 : 1 };
        if (!CHECK(nigh_calibrate(pairs, count, &(nigh_calibrate_opts){ rate, -1 }, &c, NULL) == NIGH_OK)) return;
        for (size_t i = 0; i < count; i++) {
            below += pairs[i].confidence < c.threshold;
            for (size_t k = 0; k < count; k++) {
                if (pairs[i].score < 0.5 || pairs[k].score >= 0.5) continue;
                of++;
                better += pairs[i].confidence > pairs[k].confidence ? 1
                          : pairs[i].confidence < pairs[k].confidence ? 0 : 0.5;
            }
        }
        CHECK(below == c.below && (double)below <= rate * (double)count + 1e-6);
        CHECK_MSG(of == 0 || (c.order - better / of < 1e-9 && better / of - c.order < 1e-9), "%g", c.order);
        /* the next higher confidence would be too much */
        double next = 2;
        for (size_t i = 0; i < count; i++)
            if (pairs[i].confidence > c.threshold && pairs[i].confidence < next) next = pairs[i].confidence;
        size_t more = 0;
        for (size_t i = 0; i < count; i++) more += pairs[i].confidence < next;
        if (next <= 1) CHECK((double)more > rate * (double)count - 1e-6);
    }
}

static void test_refusals(void) {
    nigh_pair pairs[NIGH_PAIRS_MIN] = { { 0, 0 } };
    nigh_calibration c;
    const nigh_calibrate_opts o = { 0.2, -1 };
    CHECK(nigh_calibrate(pairs, NIGH_PAIRS_MIN - 1, &o, &c, NULL) == NIGH_ERANGE);
    CHECK(nigh_calibrate(pairs, NIGH_PAIRS_MIN, &o, &c, NULL) == NIGH_OK);
    pairs[3].confidence = 1.5;
    CHECK(nigh_calibrate(pairs, NIGH_PAIRS_MIN, &o, &c, NULL) == NIGH_EINVAL);
    pairs[3] = (nigh_pair){ 0.5, __builtin_nan("") };
    CHECK(nigh_calibrate(pairs, NIGH_PAIRS_MIN, &o, &c, NULL) == NIGH_EINVAL);
    CHECK(nigh_alloc_live_bytes() == 0);
}

TEST_MAIN(T(test_rate_holds_in_every_window), T(test_by_rate), T(test_by_score), T(test_against_counting),
          T(test_refusals))
