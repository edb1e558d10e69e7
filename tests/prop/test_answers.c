/* test_answers.c - the cache of answers against an oracle: a plain list that knows who put what, and from when to when
 * it may be seen. Random tenants, users, scopes, policies, models and requests; nobody ever sees what is not theirs,
 * nothing is seen after its time, and what is found is what was put. Then: bytes, shares, single flight, threads, and
 * what is left in memory. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "test.h"

#include "base/os.h"
#include "node/answers.h"

enum { TENANTS = 4, USERS = 4, REQUESTS = 6, KINDS = 3, ORACLE = 4096 };

static const char *const tenants[TENANTS] = { "", "acme", "acm", "acme\x01" };
static const char *const users[USERS] = { "", "eve", "e", "ve" };
static const char *const features[KINDS] = { "", "mail", "ma" };
static const char *const requests[REQUESTS] = { "{\"a\":1}", "{\"a\":2}", "", "il{\"a\":1}", "1", "2" };

typedef struct { int scope, tenant, user, feature, model, policy, request; } who;
typedef struct { who w; uint64_t made_ms, until_ms; uint32_t serial; } put_one;

static put_one oracle[ORACLE];
static size_t oracle_count;

static nigh_answer_parts parts_of(const who *w) {
    return (nigh_answer_parts){ .scope = (nigh_cache_scope)w->scope, .tenant = nigh_str_of(tenants[w->tenant]),
        .user = nigh_str_of(users[w->user]), .feature = nigh_str_of(features[w->feature]),
        .model_sha256 = w->model ? NIGH_STR("aa") : NIGH_STR("bb"), .policy_version = (uint64_t)w->policy,
        .request = nigh_str_of(requests[w->request]) };
}

/* May what was made for a be shown to b: the same of everything, and of the user when the scope asks for that. */
static bool may_share(const who *a, const who *b) {
    return a->scope == b->scope && a->tenant == b->tenant && a->feature == b->feature && a->model == b->model
        && a->policy == b->policy && a->request == b->request && a->scope != NIGH_CACHE_NONE
        && (a->scope == NIGH_CACHE_TENANT || (a->user == b->user && a->user != 0));
}

static who random_who(uint64_t *seed) {
    uint64_t r = test_rand(seed);
    return (who){ .scope = (int)(r % 3), .tenant = (int)((r >> 8) % TENANTS), .user = (int)((r >> 16) % USERS),
        .feature = (int)((r >> 24) % KINDS), .model = (int)(r >> 30 & 1), .policy = (int)(r >> 40 & 1),
        .request = (int)((r >> 48) % REQUESTS) };
}

/* The put that this answer must be: the newest one that may be shared; all others were replaced. */
static const put_one *expected(const who *w) {
    for (size_t i = oracle_count; i-- > 0;) if (may_share(&oracle[i].w, w)) return &oracle[i];
    return NULL;
}

static void put(nigh_answers *a, const who *w, uint64_t now, uint32_t keep_s, uint32_t serial) {
    char text[64], tools[32];
    nigh_answer_parts p = parts_of(w);
    nigh_answer_key k = nigh_answers_key(&p);
    nigh_kept_answer v = { .finish = "stop", .prompt_tokens = serial, .made_ms = now };
    snprintf(text, sizeof text, "answer %u", serial);
    snprintf(tools, sizeof tools, serial % 3 ? "[]" : "[%u]", serial);
    v.text = nigh_str_of(text);
    v.tool_calls = serial % 2 ? nigh_str_of(tools) : NIGH_STR("");
    nigh_answers_put(a, &k, &v, keep_s);
    if (w->scope == NIGH_CACHE_NONE || (w->scope == NIGH_CACHE_USER && !w->user) || !keep_s) return;
    if (oracle_count < ORACLE)
        oracle[oracle_count++] = (put_one){ *w, now, now + keep_s * 1000ull, serial };
}

static void test_who_sees_what(void) {
    uint64_t seed = test_seed(), now = 1700000000000;
    nigh_answers *a = NULL;
    nigh_err err;
    size_t hits = 0, rounds = test_short() ? 20000 : 200000;
    CHECK(nigh_answers_open(&a, 8 << 20, &err) == NIGH_OK);
    for (size_t i = 0; i < rounds; i++) {
        who w = random_who(&seed);
        uint64_t r = test_rand(&seed);
        now += r % 60;
        if (r >> 60 == 0) nigh_answers_expire(a, now);
        if (r >> 32 & 1 && oracle_count < ORACLE) {
            put(a, &w, now, (uint32_t)(r >> 40) % 300, (uint32_t)i);
            continue;
        }
        nigh_buf hold = NIGH_BUF(4096);
        nigh_kept_answer got = { 0 };
        nigh_answer_parts p = parts_of(&w);
        nigh_answer_key k = nigh_answers_key(&p);
        uint32_t age = r >> 50 & 1 ? UINT32_MAX : (uint32_t)(r >> 52) % 32;
        bool hit = nigh_answers_get(a, &k, age, now, &got, &hold);
        const put_one *e = expected(&w);
        bool right = e && now < e->until_ms && (age == UINT32_MAX || now - e->made_ms <= age * 1000ull);
        CHECK_MSG(hit == right, "seed %llu step %zu: hit %d, the oracle says %d", (unsigned long long)test_seed(), i,
            hit, right);
        char text[64];
        snprintf(text, sizeof text, "answer %u", e ? e->serial : 0);
        if (hit && e) CHECK(got.prompt_tokens == e->serial && nigh_str_eq(got.text, nigh_str_of(text))
            && (got.tool_calls.len > 0) == (e->serial % 2 == 1));
        hits += hit;
        nigh_buf_release(&hold);
        if (oracle_count == ORACLE) {       /* begin anew */
            for (size_t t = 0; t < TENANTS; t++) (void)nigh_answers_forget(a, nigh_str_of(tenants[t]), NIGH_STR(""));
            CHECK(nigh_answers_count(a).entries == 0 && nigh_answers_count(a).bytes == 0);
            oracle_count = 0;
        }
    }
    printf("  %zu steps, %zu hits, 0 wrong allowed\n", rounds, hits);
    CHECK(hits > rounds / 100);
    nigh_answers_close(a);
    oracle_count = 0;
}

static nigh_answer_key key_of(const char *tenant, const char *user, nigh_cache_scope scope, size_t n) {
    char text[32];
    snprintf(text, sizeof text, "%zu", n);
    nigh_answer_parts p = { .scope = scope, .tenant = nigh_str_of(tenant), .user = nigh_str_of(user),
        .feature = NIGH_STR("f"), .model_sha256 = NIGH_STR("m"), .policy_version = 1, .request = nigh_str_of(text) };
    return nigh_answers_key(&p);
}

static bool has(nigh_answers *a, nigh_answer_key k, uint64_t now) {
    nigh_buf hold = NIGH_BUF(1 << 20);
    nigh_kept_answer got;
    bool hit = nigh_answers_get(a, &k, UINT32_MAX, now, &got, &hold);
    nigh_buf_release(&hold);
    return hit;
}

static void keep(nigh_answers *a, nigh_answer_key k, size_t bytes, uint64_t now) {
    static char text[1 << 20];
    memset(text, 'x', sizeof text);
    nigh_answers_put(a, &k, &(nigh_kept_answer){ .text = { text, bytes }, .finish = "stop", .made_ms = now }, 3600);
}

/* A crowd of one tenant takes its own place, not another's share. */
static void test_bytes_and_shares(void) {
    nigh_answers *a = NULL;
    nigh_err err;
    uint64_t now = 1700000000000;
    size_t limit = 1 << 20;
    CHECK(nigh_answers_open(&a, limit, &err) == NIGH_OK);
    for (size_t i = 0; i < 100; i++) keep(a, key_of("quiet", "u", NIGH_CACHE_USER, i), 1000, now);
    for (size_t i = 0; i < 20000; i++) {
        keep(a, key_of("loud", "u", NIGH_CACHE_USER, i), 1000 + i % 5000, now);
        if (i % 1000 == 0) CHECK(nigh_answers_count(a).bytes <= limit);
    }
    for (size_t i = 0; i < 100; i++) CHECK(has(a, key_of("quiet", "u", NIGH_CACHE_USER, i), now));
    CHECK(has(a, key_of("loud", "u", NIGH_CACHE_USER, 19999), now));
    CHECK(!has(a, key_of("loud", "u", NIGH_CACHE_USER, 0), now));
    keep(a, key_of("quiet", "u", NIGH_CACHE_USER, 1000), limit / 8, now);       /* too large: not kept */
    CHECK(!has(a, key_of("quiet", "u", NIGH_CACHE_USER, 1000), now));
    /* a clock that was set back by a day: what it would keep too long is gone */
    CHECK(!has(a, key_of("quiet", "u", NIGH_CACHE_USER, 5), now - 86400000));
    CHECK(!has(a, key_of("quiet", "u", NIGH_CACHE_USER, 5), now));
    nigh_answers_close(a);
    CHECK(nigh_alloc_live_bytes() == 0);
}

/* Deletion on request, and what is left in the memory afterwards. */
static void test_forget(void) {
    nigh_answers *a = NULL;
    nigh_err err;
    uint64_t now = 1700000000000;
    CHECK(nigh_answers_open(&a, 1 << 20, &err) == NIGH_OK);
    for (size_t i = 0; i < 10; i++) {
        keep(a, key_of("t", "ann", NIGH_CACHE_USER, i), 100, now);
        keep(a, key_of("t", "bob", NIGH_CACHE_TENANT, 100 + i), 100, now);
        keep(a, key_of("s", "ann", NIGH_CACHE_USER, i), 100, now);
    }
    CHECK(nigh_answers_forget(a, NIGH_STR("t"), NIGH_STR("bob")) == 10);        /* also where the tenant saw it */
    CHECK(has(a, key_of("t", "ann", NIGH_CACHE_USER, 3), now) && has(a, key_of("s", "ann", NIGH_CACHE_USER, 3), now));
    CHECK(!has(a, key_of("t", "cat", NIGH_CACHE_TENANT, 103), now));
    CHECK(nigh_answers_forget(a, NIGH_STR("t"), NIGH_STR("")) == 10);
    CHECK(nigh_answers_forget(a, NIGH_STR("nobody"), NIGH_STR("")) == 0);
    CHECK(has(a, key_of("s", "ann", NIGH_CACHE_USER, 3), now));
    nigh_answers_expire(a, now + 3600001);
    CHECK(nigh_answers_count(a).entries == 0);
    nigh_answers_close(a);
}

/* No memory at any moment: not kept, nothing lost, nothing leaked. */
static void test_no_memory(void) {
    nigh_err err;
    for (uint64_t n = 1; n < 12; n++) {
        nigh_answers *a = NULL;
        nigh_alloc_fail_at(n, true);
        nigh_status status = nigh_answers_open(&a, 1 << 16, &err);
        if (status == NIGH_OK) {
            nigh_answer_key k = key_of("t", "u", NIGH_CACHE_USER, 1);
            keep(a, k, 100, 1700000000000);
            (void)has(a, k, 1700000000000);
            if (nigh_answers_board(a, &k, NULL, NULL) == NIGH_FLIGHT_LEADER) nigh_answers_land(a, &k, false);
        } else CHECK(status == NIGH_ENOMEM);
        nigh_alloc_fail_at(0, false);
        if (status == NIGH_OK) nigh_answers_close(a);
        CHECK(nigh_alloc_live_bytes() == 0);
    }
}

/* ---- single flight ---- */

static atomic_int woken, woken_ok;
static void on_wake(void *ud, bool ok) {
    (void)ud;
    atomic_fetch_add(&woken, 1);
    atomic_fetch_add(&woken_ok, ok);
}

static void test_flight(void) {
    nigh_answers *a = NULL;
    nigh_err err;
    int ud[4];
    CHECK(nigh_answers_open(&a, 1 << 20, &err) == NIGH_OK);
    nigh_answer_key k = key_of("t", "u", NIGH_CACHE_USER, 1), other = key_of("t", "v", NIGH_CACHE_USER, 1),
        none = key_of("t", "", NIGH_CACHE_USER, 1);
    CHECK(nigh_answers_board(a, &k, on_wake, &ud[0]) == NIGH_FLIGHT_LEADER);
    CHECK(nigh_answers_board(a, &k, on_wake, &ud[1]) == NIGH_FLIGHT_FOLLOWER);
    CHECK(nigh_answers_board(a, &k, on_wake, &ud[2]) == NIGH_FLIGHT_FOLLOWER);
    CHECK(nigh_answers_board(a, &k, on_wake, &ud[3]) == NIGH_FLIGHT_FOLLOWER);
    CHECK(nigh_answers_board(a, &other, on_wake, NULL) == NIGH_FLIGHT_LEADER);  /* another user flies alone */
    CHECK(nigh_answers_board(a, &none, on_wake, NULL) == NIGH_FLIGHT_ALONE);
    nigh_answers_land(a, &k, true);
    CHECK(atomic_load(&woken) == 3 && atomic_load(&woken_ok) == 3);
    CHECK(nigh_answers_board(a, &k, on_wake, &ud[0]) == NIGH_FLIGHT_LEADER);
    CHECK(nigh_answers_board(a, &k, on_wake, &ud[1]) == NIGH_FLIGHT_FOLLOWER);
    nigh_answers_land(a, &k, false);
    nigh_answers_land(a, &other, true);
    CHECK(atomic_load(&woken) == 4 && atomic_load(&woken_ok) == 3);
    nigh_answers_close(a);
    CHECK(nigh_alloc_live_bytes() == 0);
}

/* ---- threads: equal requests from many, each answered once by whoever leads ---- */

enum { THREADS = 4, ROUNDS = 3000 };
static nigh_answers *shared;
static atomic_size_t made, flown;

typedef struct { atomic_int state; } waiter;
static void on_landed(void *ud, bool ok) { atomic_store(&((waiter *)ud)->state, ok ? 1 : 2); }

static void *ask(void *ud) {
    uint64_t seed = (uint64_t)(size_t)ud;
    for (size_t i = 0; i < ROUNDS; i++) {
        uint64_t now = nigh_os_unix_ms();
        nigh_answer_key k = key_of(i % 2 ? "t" : "s", "u", NIGH_CACHE_USER, test_rand(&seed) % 20 + i / 100 * 20);
        if (has(shared, k, now)) continue;
        waiter w = { 0 };
        nigh_flight role = nigh_answers_board(shared, &k, on_landed, &w);
        if (role == NIGH_FLIGHT_LEADER) {
            atomic_fetch_add(&made, 1);
            if (i % 4 == 0) usleep(100);
            nigh_answers_put(shared, &k, &(nigh_kept_answer){ .text = NIGH_STR("hello"), .finish = "stop",
                .made_ms = now }, 60);
            nigh_answers_land(shared, &k, true);
        } else if (role == NIGH_FLIGHT_FOLLOWER) {
            atomic_fetch_add(&flown, 1);
            while (!atomic_load(&w.state)) usleep(1);
        }
        if (i % 500 == 0) nigh_answers_expire(shared, now);
        if (i % 700 == 0) (void)nigh_answers_forget(shared, NIGH_STR("t"), NIGH_STR(""));
    }
    return NULL;
}

static void test_threads(void) {
    pthread_t threads[THREADS];
    nigh_err err;
    CHECK(nigh_answers_open(&shared, 1 << 16, &err) == NIGH_OK);
    for (size_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, ask, (void *)(i + 1)) == 0);
    for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    CHECK(nigh_answers_count(shared).bytes <= 1 << 16);
    printf("  %zu answers made, %zu waited for one\n", atomic_load(&made), atomic_load(&flown));
    nigh_answers_close(shared);
    CHECK(nigh_alloc_live_bytes() == 0);
}

/* ---- what a hit costs: the key of a request of 4 KiB, finding it, and copying 4 KiB of answer ---- */

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_time_of_a_hit(void) {
    static char words[4096];
    static uint64_t ns[5000];
    nigh_answers *a = NULL;
    nigh_err err;
    nigh_buf hold = NIGH_BUF(1 << 16);
    memset(words, 'w', sizeof words);
    CHECK(nigh_answers_open(&a, 64 << 20, &err) == NIGH_OK);
    nigh_answer_parts p = { .scope = NIGH_CACHE_USER, .tenant = NIGH_STR("t"), .user = NIGH_STR("u"),
        .feature = NIGH_STR("f"), .model_sha256 = NIGH_STR("m"), .request = { words, sizeof words } };
    for (size_t i = 0; i < 5000; i++) {
        p.policy_version = i;
        nigh_answer_key k = nigh_answers_key(&p);
        nigh_answers_put(a, &k, &(nigh_kept_answer){ .text = { words, sizeof words }, .finish = "stop",
            .made_ms = 1700000000000 }, 3600);
    }
    size_t hits = 0;
    for (size_t i = 0; i < 5000; i++) {
        nigh_kept_answer got;
        p.policy_version = i * 7 % 5000;
        uint64_t begin = nigh_os_now_ns();
        nigh_answer_key k = nigh_answers_key(&p);
        hits += nigh_answers_get(a, &k, UINT32_MAX, 1700000000001, &got, &hold);
        ns[i] = nigh_os_now_ns() - begin;
        nigh_buf_release(&hold);
    }
    qsort(ns, 5000, sizeof *ns, by_size);
    printf("  a hit with 4 KiB asked and 4 KiB answered: p50 %.1f us, p99 %.1f us\n", (double)ns[2500] / 1e3,
        (double)ns[4950] / 1e3);
    CHECK(hits == 5000);
    CHECK_MSG(test_short() || ns[2500] < 50000, "p50 %llu ns", (unsigned long long)ns[2500]);
    nigh_answers_close(a);
}

TEST_MAIN(T(test_who_sees_what), T(test_bytes_and_shares), T(test_forget), T(test_no_memory), T(test_flight),
    T(test_threads), T(test_time_of_a_hit))
