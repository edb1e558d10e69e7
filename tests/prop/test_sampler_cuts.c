/* test_sampler_cuts.c - laws of the sampler on random rows: its picks equal a plain reference that sorts the
 * whole row, greedy equals a temperature near zero, frequencies follow the softmax, log-probabilities sum to one. */
#include <math.h>

#include "engine/sampler.h"
#include "kernel/math.h"
#include "test.h"

enum { MOST = 1700 };        /* rows over 512 take the sampler's quick look at their maxima */

typedef struct { int32_t id; float value; uint64_t mass; } ref_token;

static int by_value(const void *pa, const void *pb) {
    const ref_token *a = pa, *b = pb;
    return a->value != b->value ? (a->value < b->value ? 1 : -1) : (a->id > b->id) - (a->id < b->id);
}

static uint64_t fixed_mass(float x) { return (uint64_t)(nigh_expf(x) * 0x1p40f); }

/* What may be drawn, and with which mass: sorted, cut from the front. Returns the count. */
static size_t reference(const float *row, size_t vocab, nigh_sampler_opts o, ref_token *t) {
    size_t n = 0, k = 0;
    uint64_t total = 0, sum = 0;
    for (size_t i = 0; i < vocab; i++) if (row[i] > -INFINITY) t[n++] = (ref_token){ (int32_t)i, row[i] + 0.0f, 0 };
    qsort(t, n, sizeof *t, by_value);
    float max = t[0].value;
    if (o.top_k && n > o.top_k) n = o.top_k;
    while (k < n && nigh_expf(t[k].value - max) >= o.min_p) k++;
    n = k;
    for (size_t i = 0; i < n; i++) total += fixed_mass(t[i].value - max);
    if (o.top_p > 0 && o.top_p < 1) {
        uint64_t want = (uint64_t)((double)o.top_p * (double)total);
        for (k = 0; k < n && (k == 0 || sum < want); k++) sum += fixed_mass(t[k].value - max);
        n = k;
    }
    for (size_t i = 0; i < n; i++) t[i].mass = fixed_mass((t[i].value - max) / o.temperature);
    return n;
}

static void random_row(uint64_t *seed, float *row, size_t vocab) {
    uint64_t levels = 1 + test_rand(seed) % (test_rand(seed) % 2 ? 4 : 100000);     /* few levels: many ties */
    for (size_t i = 0; i < vocab; i++)
        row[i] = (float)((double)(test_rand(seed) % levels) * 12.0 / (double)levels) - 6.0f;
    if (test_rand(seed) % 4 == 0) row[test_rand(seed) % vocab] = -INFINITY;
    if (test_rand(seed) % 4 == 0) row[test_rand(seed) % vocab] = -0.0f;
    row[test_rand(seed) % vocab] = 6.5f;
}

static nigh_sampler_opts random_opts(uint64_t *seed) {
    nigh_sampler_opts o = { .temperature = 0.2f + (float)(test_rand(seed) % 100) * 0.02f, .seed = test_rand(seed) };
    if (test_rand(seed) % 2) o.top_k = (uint32_t)(1 + test_rand(seed) % 50);
    if (test_rand(seed) % 2) o.top_p = (float)(test_rand(seed) % 101) * 0.01f;
    if (test_rand(seed) % 3 == 0) o.min_p = (float)(test_rand(seed) % 101) * 0.01f;
    return o;
}

/* No token outside the reference's set is drawn, and every likely one of the set is. */
static void test_set_equals_reference(void) {
    uint64_t seed = test_seed();
    float row[MOST];
    ref_token ref[MOST];
    for (int round = 0; round < 400; round++) {
        size_t vocab = 1 + test_rand(&seed) % (round % 2 ? MOST : 60);
        nigh_sampler_opts o = random_opts(&seed);
        random_row(&seed, row, vocab);
        size_t n = reference(row, vocab, o, ref);
        bool seen[MOST] = { false }, allowed[MOST] = { false }, ok = true;
        uint64_t total = 0;
        for (size_t i = 0; i < n; i++) { allowed[ref[i].id] = true; total += ref[i].mass; }
        nigh_sampler *s;
        CHECK(nigh_sampler_new(&s, o, vocab, NULL) == NIGH_OK);
        for (int draw = 0; draw < 500 && ok; draw++) {
            int32_t id = nigh_sampler_pick(s, row);
            ok = allowed[id];
            seen[id] = true;
        }
        for (size_t i = 0; i < n && ok; i++)     /* missed with a chance below e^-16 */
            if ((double)ref[i].mass / (double)total > 16.0 / 500) ok = seen[ref[i].id];
        CHECK_MSG(ok, "NIGH_SEED=%llu, round %d: vocab %zu, top_k %u, top_p %f, min_p %f",
                  (unsigned long long)test_seed(), round, vocab, (unsigned)o.top_k, (double)o.top_p, (double)o.min_p);
        nigh_sampler_free(s);
    }
}

static void test_cold_is_greedy(void) {
    uint64_t seed = test_seed();
    float row[MOST];
    for (int round = 0; round < 200; round++) {
        random_row(&seed, row, MOST);
        nigh_sampler *cold, *greedy;
        CHECK(nigh_sampler_new(&cold, (nigh_sampler_opts){ .temperature = 1e-6f, .seed = seed }, MOST, NULL)
              == NIGH_OK);
        CHECK(nigh_sampler_new(&greedy, (nigh_sampler_opts){ 0 }, MOST, NULL) == NIGH_OK);
        CHECK_MSG(nigh_sampler_pick(cold, row) == nigh_sampler_pick(greedy, row), "NIGH_SEED=%llu, round %d",
                  (unsigned long long)test_seed(), round);
        nigh_sampler_free(cold);
        nigh_sampler_free(greedy);
    }
}

/* The same seed gives the same draws, another seed other ones; top-k 1 is greedy whatever the rest says. */
static void test_seeds(void) {
    uint64_t seed = test_seed();
    float row[MOST];
    int equal = 0;
    for (size_t i = 0; i < MOST; i++) row[i] = 0;
    nigh_sampler *a, *b, *c, *one;
    uint64_t first = test_rand(&seed);
    CHECK(nigh_sampler_new(&a, (nigh_sampler_opts){ .temperature = 1, .seed = first }, MOST, NULL) == NIGH_OK);
    CHECK(nigh_sampler_new(&b, (nigh_sampler_opts){ .temperature = 1, .seed = first }, MOST, NULL) == NIGH_OK);
    CHECK(nigh_sampler_new(&c, (nigh_sampler_opts){ .temperature = 1, .seed = first + 1 }, MOST, NULL) == NIGH_OK);
    CHECK(nigh_sampler_new(&one, (nigh_sampler_opts){ .temperature = 5, .top_k = 1, .seed = first }, MOST, NULL)
          == NIGH_OK);
    for (int i = 0; i < 1000; i++) {
        int32_t id = nigh_sampler_pick(a, row);
        CHECK(id == nigh_sampler_pick(b, row));
        equal += id == nigh_sampler_pick(c, row);
        CHECK(nigh_sampler_pick(one, row) == 0);
    }
    CHECK_MSG(equal < 30, "%d of 1000 draws of two seeds are equal", equal);
    nigh_sampler_free(a);
    nigh_sampler_free(b);
    nigh_sampler_free(c);
    nigh_sampler_free(one);
}

/* Chi-squared over 8 tokens, 20,000 draws: 7 degrees of freedom, 40 is a chance of 1 in 800,000. */
static void test_frequencies(void) {
    const float row[8] = { 0, 0.5f, 1, 1.5f, 2, -1, -2, 1 };
    double p[8], total = 0, chi = 0;
    int count[8] = { 0 };
    nigh_sampler *s;
    for (size_t i = 0; i < 8; i++) total += p[i] = exp((double)row[i] / 0.8);
    CHECK(nigh_sampler_new(&s, (nigh_sampler_opts){ .temperature = 0.8f, .seed = test_seed() }, 8, NULL) == NIGH_OK);
    for (int i = 0; i < 20000; i++) count[nigh_sampler_pick(s, row)]++;
    for (size_t i = 0; i < 8; i++) {
        double want = 20000 * p[i] / total;
        chi += (count[i] - want) * (count[i] - want) / want;
    }
    CHECK_MSG(chi < 40, "NIGH_SEED=%llu: chi squared %f", (unsigned long long)test_seed(), chi);
    nigh_sampler_free(s);
}

static void test_logprobs(void) {
    uint64_t seed = test_seed();
    float row[MOST], of_id;
    ref_token ref[MOST];
    nigh_logprob top[20];
    for (int round = 0; round < 200; round++) {
        size_t vocab = 1 + test_rand(&seed) % (round % 20 ? 60 : MOST);
        random_row(&seed, row, vocab);
        size_t n = reference(row, vocab, (nigh_sampler_opts){ .temperature = 1 }, ref);
        double sum = 0, total = 0;
        for (size_t i = 0; i < n; i++) total += exp((double)row[ref[i].id]);
        for (size_t i = 0; i < vocab; i++) {
            nigh_logprobs(row, vocab, (int32_t)i, &of_id, NULL, 0);
            sum += exp((double)of_id);
        }
        CHECK_MSG(fabs(sum - 1) < 1e-5, "NIGH_SEED=%llu, round %d: %f", (unsigned long long)test_seed(), round, sum);
        nigh_logprobs(row, vocab, 0, &of_id, top, 20);
        for (size_t i = 0; i < 20 && i < n; i++)
            CHECK_MSG(top[i].id == ref[i].id
                          && fabs((double)top[i].logprob - ((double)ref[i].value - log(total))) < 1e-5,
                      "NIGH_SEED=%llu, round %d, place %zu", (unsigned long long)test_seed(), round, i);
    }
}

TEST_MAIN(T(test_set_equals_reference), T(test_cold_is_greedy), T(test_seeds), T(test_frequencies), T(test_logprobs))
