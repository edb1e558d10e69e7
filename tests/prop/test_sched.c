/* test_sched.c - many sequences in one batch, in any company: prompts that share beginnings, clients that leave, more
 * sequences than places, guesses or none. What a sequence says is what it says alone, byte for byte. */
#define _GNU_SOURCE
#include <pthread.h>

#include "model_files.h"

#include "base/os.h"
#include "node/sched.h"

enum { JOBS = 24, SEQUENCES = 4, PROMPT_MAX = 120, STEPS_MAX = 64, TEXT_MAX = 1024 };

typedef struct {
    int32_t prompt[PROMPT_MAX];
    size_t prompt_count;
    nigh_sampler_opts sampler;
    nigh_logit_bias bias[2];            /* two words only: such a text repeats itself */
    uint32_t max_tokens;
    /* what it said */
    size_t count, text_len;
    int32_t tokens[STEPS_MAX];
    float logprobs[STEPS_MAX];
    char text[TEXT_MAX];
    nigh_finish finish;
    bool begun;
} sequence;

typedef struct {
    sequence sequences[SEQUENCES];
    size_t count, leaves_after;         /* steps; 0: never leaves */
    nigh_sched_owner who;
    size_t ended_as;                    /* how many had ended before */
    uint32_t cached;                    /* of all its prompts */
    atomic_size_t steps;
    atomic_bool done;
    nigh_status status;
    /* the evaluations up to its first token, and the most between two of its tokens */
    const nigh_metrics *metrics;
    uint64_t first_batch, last_batch, gap_max;
    atomic_bool paused;                 /* from its first token until the test goes on */
    size_t stops_after;                 /* steps; then it is paused, too; 0: it reads all */
} client;

static client clients[JOBS];
static atomic_size_t jobs_done;
static uint64_t right_sum;              /* guesses that came true, in all lanes */

static nigh_client on_client(void *ud) {
    client *c = ud;
    if (atomic_load(&c->paused)) return NIGH_CLIENT_FULL;
    return c->leaves_after && atomic_load(&c->steps) >= c->leaves_after ? NIGH_CLIENT_GONE : NIGH_CLIENT_READY;
}

static void on_begin(void *ud, size_t seq, uint32_t cached) {
    sequence *q = &((client *)ud)->sequences[seq];
    CHECK(!q->begun && cached < q->prompt_count);
    q->begun = true;
    ((client *)ud)->cached += cached;
}

static void keep_step(sequence *q, const nigh_step *step) {
    if (step->token >= 0 && q->count < STEPS_MAX) {
        q->logprobs[q->count] = step->logprob;
        q->tokens[q->count++] = step->token;
    }
    if (step->text.len && q->text_len + step->text.len <= TEXT_MAX) {
        memcpy(q->text + q->text_len, step->text.ptr, step->text.len);
        q->text_len += step->text.len;
    }
    q->finish = step->finish;
}

static void on_step(void *ud, size_t seq, const nigh_step *step) {
    client *c = ud;
    CHECK(c->sequences[seq].begun && c->sequences[seq].finish == NIGH_FINISH_NONE);
    keep_step(&c->sequences[seq], step);
    if (atomic_fetch_add(&c->steps, 1) + 1 == c->stops_after) atomic_store(&c->paused, true);
    if (!c->metrics) return;
    uint64_t now = atomic_load(&c->metrics->batches);
    if (c->first_batch == 0) {
        c->first_batch = now;
        atomic_store(&c->paused, c == clients);
    } else if (now - c->last_batch > c->gap_max) c->gap_max = now - c->last_batch;
    c->last_batch = now;
}

static void on_vector(void *ud, size_t i, const float *v, size_t count) { (void)ud, (void)i, (void)v, (void)count; }

static void on_done(void *ud, nigh_status status, const nigh_err *err) {
    client *c = ud;
    (void)err;
    c->status = status;
    c->ended_as = atomic_fetch_add(&jobs_done, 1);
    CHECK(!atomic_exchange(&c->done, true));
}

static const nigh_job_calls calls = { on_client, on_begin, on_step, on_vector, on_done };

/* ---- alone, one token at a time ---- */

static nigh_generate_opts opts_of(const sequence *q) {
    nigh_generate_opts o = { .sampler = q->sampler, .max_tokens = q->max_tokens, .logprobs = true,
                             .ignore_end = true };
    o.sampler.bias = q->bias;
    return o;
}

static void say_alone(const nigh_model *m, nigh_runner *r, uint32_t context, const sequence *of, sequence *q) {
    nigh_session *s = NULL;
    nigh_generation *g = NULL;
    nigh_err err = { 0 };
    nigh_step step = { 0 };
    float *logits = nigh_alloc(nigh_model_about(m)->vocab, sizeof *logits);
    *q = *of;
    q->count = q->text_len = 0;
    q->finish = NIGH_FINISH_NONE;
    CHECK(nigh_session_new(&s, m, context, &err) == NIGH_OK);
    CHECK(nigh_generation_new(&g, nigh_model_tokenizer(m), opts_of(q), q->prompt, q->prompt_count, &err) == NIGH_OK);
    CHECK(nigh_runner_prompt(r, s, q->prompt, (uint32_t)q->prompt_count, logits, &err) == NIGH_OK);
    while (step.finish == NIGH_FINISH_NONE) {
        CHECK(nigh_generation_step(g, logits, &step, &err) == NIGH_OK);
        keep_step(q, &step);
        if (step.finish != NIGH_FINISH_NONE) break;
        if (nigh_session_count(s) == nigh_session_limit(s)) {
            CHECK(nigh_generation_end(g, NIGH_FINISH_LENGTH, &step) == NIGH_OK);
            keep_step(q, &step);
            break;
        }
        nigh_batch_item item = { .session = s, .tokens = &step.token, .count = 1, .logits = logits };
        CHECK(nigh_runner_eval(r, &item, 1, &err) == NIGH_OK);
    }
    nigh_generation_free(g);
    nigh_session_free(s);
    nigh_free(logits);
}

/* ---- random clients ---- */

static void make_clients(size_t vocab, uint64_t *seed) {
    static int32_t stem[3][PROMPT_MAX];
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < PROMPT_MAX; k++)
            stem[i][k] = k >= 11 && i ? stem[i][k - 11] : (int32_t)(test_rand(seed) % vocab);
    memset(clients, 0, sizeof clients);
    for (client *c = clients; c < clients + JOBS; c++) {
        c->count = 1 + test_rand(seed) % SEQUENCES;
        c->leaves_after = test_rand(seed) % 5 ? 0 : 1 + test_rand(seed) % 20;
        c->who = (nigh_sched_owner){ test_rand(seed) % 3, test_rand(seed) % 2 };
        size_t which = test_rand(seed) % 3, same = test_rand(seed) % 2;
        for (size_t i = 0; i < c->count; i++) {
            sequence *q = &c->sequences[i];
            if (i && same) { memcpy(q->prompt, q[-1].prompt, sizeof q->prompt); q->prompt_count = q[-1].prompt_count; }
            else {
                size_t own = test_rand(seed) % PROMPT_MAX;
                q->prompt_count = nigh_max(1, test_rand(seed) % PROMPT_MAX);
                for (size_t k = 0; k < PROMPT_MAX; k++)
                    q->prompt[k] = k < own ? stem[which][k] : (int32_t)(test_rand(seed) % vocab);
            }
            bool greedy = test_rand(seed) % 2;
            q->max_tokens = 1 + (uint32_t)(test_rand(seed) % 40);
            q->sampler = (nigh_sampler_opts){ .temperature = greedy ? 0 : 0.8f, .top_k = 20, .seed = test_rand(seed),
                                              .repeat_penalty = test_rand(seed) % 3 ? 0 : 1.2f };
            for (size_t k = 0; k < 2; k++) q->bias[k] = (nigh_logit_bias){ (int32_t)(test_rand(seed) % vocab), 100 };
            q->sampler.bias_count = test_rand(seed) % 2 * 2;
        }
    }
}

static nigh_status try_submit(nigh_sched *s, client *c, nigh_err *err) {
    nigh_sequence_spec specs[SEQUENCES];
    for (size_t i = 0; i < c->count; i++) {
        specs[i] = (nigh_sequence_spec){ NIGH_IDS(PROMPT_MAX), opts_of(&c->sequences[i]), c->who };
        for (size_t k = 0; k < c->sequences[i].prompt_count; k++)
            CHECK(nigh_ids_add(&specs[i].ids, c->sequences[i].prompt[k]) == NIGH_OK);
    }
    return nigh_sched_generate(s, specs, c->count, &calls, c, err);
}

static void submit(nigh_sched *s, client *c) {
    nigh_err err = { 0 };
    CHECK_MSG(try_submit(s, c, &err) == NIGH_OK, "%s", err.text);
}

static void compare(const nigh_model *m, uint32_t context, uint64_t seed, const char *how) {
    nigh_runner *r = NULL;
    nigh_err err = { 0 };
    static sequence alone;
    CHECK(nigh_runner_new(&r, m, NULL, 64, &err) == NIGH_OK);
    for (size_t i = 0; r && i < JOBS; i++)
        for (size_t k = 0; k < clients[i].count; k++) {
            const sequence *q = &clients[i].sequences[k];
            say_alone(m, r, context, q, &alone);
            bool left = clients[i].leaves_after > 0, whole = q->count == alone.count && q->text_len == alone.text_len;
            CHECK(left || (clients[i].status == NIGH_OK && whole && q->finish == alone.finish));
            bool same = q->count <= alone.count && q->text_len <= alone.text_len
                        && memcmp(q->tokens, alone.tokens, q->count * sizeof *q->tokens) == 0
                        && memcmp(q->logprobs, alone.logprobs, q->count * sizeof *q->logprobs) == 0
                        && memcmp(q->text, alone.text, q->text_len) == 0;
            CHECK_MSG(same, "%s: job %zu, sequence %zu, seed %llu", how, i, k, (unsigned long long)seed);
        }
    nigh_runner_free(r);
}

typedef struct { const char *name; uint32_t parallel, batch, context; bool alone, small, waits, eager; } lane;

/* By this clock every batch takes the same time: whatever can be guessed is. */
static uint64_t flat_clock(void) {
    static atomic_ullong now;
    return atomic_fetch_add(&now, 1000000);
}

static void run_lane(const nigh_model *m, const nigh_model *small, nigh_pool *pool, const lane *l, uint64_t seed) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static nigh_metrics metrics;
    nigh_sched *s = NULL;
    nigh_err err = { 0 };
    uint64_t from = seed;
    memset(&metrics, 0, sizeof metrics);
    make_clients(nigh_model_about(m)->vocab, &seed);
    atomic_store(&jobs_done, 0);
    nigh_sched_opts o = { .model = m, .pool = pool, .pool_lock = &lock, .metrics = &metrics, .alone = l->alone,
                          .context_tokens = l->context, .parallel = l->parallel, .queue_max = JOBS * SEQUENCES,
                          .batch_tokens = l->batch, .draft_model = l->small ? small : NULL,
                          .now_ns = l->eager ? flat_clock : NULL };
    CHECK_MSG(nigh_sched_open(&s, &o, &err) == NIGH_OK, "%s", err.text);
    if (!s) return;
    for (client *c = clients; c < clients + JOBS; c++) {
        submit(s, c);
        if (l->waits) usleep((unsigned)(test_rand(&seed) % 3000));
    }
    for (int i = 0; atomic_load(&jobs_done) < JOBS && i < 60000; i++) usleep(1000);
    CHECK_MSG(atomic_load(&jobs_done) == JOBS, "%s: it stands still, seed %llu", l->name, (unsigned long long)from);
    nigh_sched_close(s);
    printf("  %s: %llu of %llu prompt tokens copied, %llu of %llu guesses right\n", l->name,
           (unsigned long long)atomic_load(&metrics.cached_tokens),
           (unsigned long long)atomic_load(&metrics.prompt_tokens),
           (unsigned long long)atomic_load(&metrics.guesses_right), (unsigned long long)atomic_load(&metrics.guesses));
    CHECK(!l->alone || atomic_load(&metrics.guesses) == 0);
    right_sum += atomic_load(&metrics.guesses_right);
    CHECK(l->parallel == 1 || atomic_load(&metrics.cached_tokens) > 0);
    compare(m, l->context, from, l->name);
}

static void test_company(void) {
    static const lane lanes[] = { { "eight places", 8, 64, 200, false, false, false, true },
                                  { "eight places, no guesses", 8, 64, 200, true, false, true, false },
                                  { "one place", 1, 32, 200, false, false, false, true },
                                  { "many places, arrivals", 32, 512, 200, false, false, true, true },
                                  { "the true clock", 8, 100, 200, false, false, true, false },
                                  { "a tight context", 5, 16, 130, false, false, true, true },
                                  { "a small model", 3, 64, 200, false, true, false, true } };
    nigh_pool *pool = nigh_pool_new(2);
    nigh_model *m = model_file_open("stories260K-q8_0.gguf", pool, nigh_cpu_detect()),
               *small = model_file_open("stories260K-q4_0.gguf", pool, nigh_cpu_detect());
    if (m && small)
        for (size_t i = 0; i < NIGH_COUNT(lanes); i++)
            for (uint64_t k = 0; k < (test_short() ? 1 : 3); k++)
                run_lane(m, small, pool, &lanes[i], test_seed() * 1000 + i * 10 + k);
    bool seen = m && small;
    CHECK(!seen || right_sum > 50);     /* how many depends on when clients arrive */
    nigh_model_close(small);
    nigh_model_close(m);
    nigh_pool_free(pool);
    if (!seen) TEST_SKIP("the reference models are not here");
}

/* ---- one prompt, computed once; a long prompt does not stop the others ---- */

static void wait_for(const client *c) {
    for (int i = 0; !atomic_load(&c->done) && i < 60000; i++) usleep(1000);
    CHECK(atomic_load(&c->done));
}

static void test_prompt_once(void) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static nigh_metrics metrics;
    nigh_sched *s = NULL;
    nigh_err err = { 0 };
    nigh_model *m = model_file_open("stories260K-q8_0.gguf", NULL, nigh_cpu_detect());
    if (!m) TEST_SKIP("the reference models are not here");
    nigh_sched_opts o = { .model = m, .pool_lock = &lock, .metrics = &metrics, .parallel = 4, .batch_tokens = 32,
                          .context_tokens = 200, .alone = true };
    memset(clients, 0, sizeof clients);
    clients[0].count = 4;
    for (size_t i = 0; i < 4; i++) {
        sequence *q = &clients[0].sequences[i];
        *q = (sequence){ .prompt_count = PROMPT_MAX, .max_tokens = 5, .sampler = { .temperature = 1, .seed = i } };
        for (size_t k = 0; k < PROMPT_MAX; k++) q->prompt[k] = (int32_t)(k * 7 % 500);
    }
    CHECK(nigh_sched_open(&s, &o, &err) == NIGH_OK);
    submit(s, &clients[0]);
    wait_for(&clients[0]);
    nigh_sched_close(s);
    CHECK(atomic_load(&metrics.cached_tokens) == 3 * (PROMPT_MAX - 1));
    CHECK(atomic_load(&metrics.batch_tokens) == PROMPT_MAX + 3 + 4 * 4);
    nigh_model_close(m);
}

/* ---- a client that does not read stops its own text, not that of others ---- */

static bool stops(const client *c) { return c < clients + 3; }

static void run_stopped(const nigh_model *m, const nigh_model *small, nigh_pool *pool, uint32_t parallel,
                        uint64_t seed) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static nigh_metrics metrics;
    nigh_sched *s = NULL;
    nigh_err err = { 0 };
    uint64_t from = seed;
    memset(&metrics, 0, sizeof metrics);
    make_clients(nigh_model_about(m)->vocab, &seed);
    nigh_sched_opts o = { .model = m, .pool = pool, .pool_lock = &lock, .metrics = &metrics, .context_tokens = 200,
                          .parallel = parallel, .queue_max = JOBS * SEQUENCES, .batch_tokens = 64,
                          .now_ns = flat_clock, .draft_model = small };
    for (client *c = clients; c < clients + JOBS; c++)
        if (stops(c)) c->stops_after = 1 + (size_t)(test_rand(&seed) % 9), c->leaves_after = 0;
    uint64_t begun = nigh_os_now_ns();
    CHECK_MSG(nigh_sched_open(&s, &o, &err) == NIGH_OK, "%s", err.text);
    for (client *c = clients; s && c < clients + JOBS; c++) submit(s, c);
    for (client *c = clients; s && c < clients + JOBS; c++) if (!stops(c)) wait_for(c);
    size_t stopped = 0;
    for (client *c = clients; c < clients + JOBS; c++) stopped += atomic_load(&c->paused) && !atomic_load(&c->done);
    CHECK_MSG(stopped > 0, "only %zu stopped, seed %llu", stopped, (unsigned long long)from);
    for (client *c = clients; c < clients + JOBS; c++) { c->stops_after = 0; atomic_store(&c->paused, false); }
    nigh_sched_poke(s);
    for (client *c = clients; s && c < clients + JOBS; c++) wait_for(c);
    CHECK(atomic_load(&metrics.running) == 0 && atomic_load(&metrics.queued) == 0);
    nigh_sched_close(s);
    /* Where all of this takes longer than a client may stop (a busy machine, a sanitizer), it was dropped. */
    bool slow = nigh_os_now_ns() - begun > 29 * UINT64_C(1000000000);
    for (client *c = clients; slow && c < clients + JOBS; c++)
        if (stops(c) && c->status == NIGH_ECANCEL) c->leaves_after = 1;
    compare(m, 200, from, "stopped");
}

static void test_stopped(void) {
    nigh_pool *pool = nigh_pool_new(2);
    nigh_model *m = model_file_open("stories260K-q8_0.gguf", pool, nigh_cpu_detect()),
               *small = model_file_open("stories260K-q4_0.gguf", pool, nigh_cpu_detect());
    for (uint32_t parallel = 1; m && small && parallel <= (test_short() ? 1 : 4); parallel += 3)
        for (int guess = test_short() ? 1 : 0; guess < 2; guess++)
            run_stopped(m, guess ? small : NULL, pool, parallel, test_seed() * 1000 + 500 + parallel);
    bool seen = m && small;
    nigh_model_close(small);
    nigh_model_close(m);
    nigh_pool_free(pool);
    if (!seen) TEST_SKIP("the reference models are not here");
}

/* By this clock a token of a prompt takes so long that pieces are as short as they can be. */
static uint64_t slow_clock(void) {
    static atomic_ullong now;
    return atomic_fetch_add(&now, 1000000000);
}

/* Somebody is being answered; a long prompt comes. Each of its pieces brings the other the next token. */
static void test_long_prompt(void) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static nigh_metrics metrics;
    nigh_sched *s = NULL;
    nigh_err err = { 0 };
    nigh_model *m = model_file_open("stories260K-q8_0.gguf", NULL, nigh_cpu_detect());
    if (!m) TEST_SKIP("the reference models are not here");
    nigh_sched_opts o = { .model = m, .pool_lock = &lock, .metrics = &metrics, .parallel = 2, .alone = true,
                          .context_tokens = 300, .now_ns = slow_clock };
    memset(clients, 0, sizeof clients);
    for (size_t i = 0; i < 2; i++) {
        clients[i].count = 1;
        clients[i].metrics = &metrics;
        sequence *q = &clients[i].sequences[0];
        *q = (sequence){ .prompt_count = i ? PROMPT_MAX : 2, .max_tokens = i ? 2 : 200 };
        for (size_t k = 0; k < q->prompt_count; k++) q->prompt[k] = (int32_t)((k * 7 + 40 * i) % 500);
    }
    CHECK(nigh_sched_open(&s, &o, &err) == NIGH_OK);
    submit(s, &clients[0]);
    while (!atomic_load(&clients[0].paused)) usleep(100);
    uint64_t before = atomic_load(&metrics.batches);
    atomic_store(&clients[0].paused, false);
    submit(s, &clients[1]);
    wait_for(&clients[0]);
    wait_for(&clients[1]);
    nigh_sched_close(s);
    CHECK_MSG(clients[0].gap_max == 1, "%llu evaluations between two tokens", (unsigned long long)clients[0].gap_max);
    CHECK_MSG(clients[1].first_batch >= before + (PROMPT_MAX - 64) / 16, "the prompt was read in %llu pieces",
              (unsigned long long)(clients[1].first_batch - before));
    nigh_model_close(m);
}

/* ---- tenants: whose beginnings are met, and whose turn it is ---- */

static nigh_sched *open_for_tenants(const nigh_model *m, pthread_mutex_t *lock, nigh_metrics *metrics,
    uint32_t parallel, uint32_t queue) {
    nigh_sched *s = NULL;
    nigh_err err = { 0 };
    nigh_sched_opts o = { .model = m, .pool_lock = lock, .metrics = metrics, .parallel = parallel, .batch_tokens = 64,
                          .context_tokens = 200, .alone = true, .queue_max = queue };
    memset(clients, 0, sizeof clients);
    memset(metrics, 0, sizeof *metrics);
    atomic_store(&jobs_done, 0);
    CHECK_MSG(nigh_sched_open(&s, &o, &err) == NIGH_OK, "%s", err.text);
    return s;
}

/* The same prompt for everybody. */
static void make_client(client *c, const char *tenant, const char *user, uint32_t tokens) {
    c->who = nigh_sched_owner_of(nigh_str_of(tenant), nigh_str_of(user));
    c->count = 1;
    c->sequences[0] = (sequence){ .prompt_count = PROMPT_MAX, .max_tokens = tokens };
    for (size_t k = 0; k < PROMPT_MAX; k++) c->sequences[0].prompt[k] = (int32_t)(k * 7 % 500);
}

/* One after the other, and all at once: nothing of a prompt is met by another tenant or user, all by one's own. */
static void test_prefixes_of_others(void) {
    static const char *const who[][2] = { { "a", "u" }, { "b", "u" }, { "a", "v" }, { "", "" }, { "a", "" },
        { "", "au" }, { "a", "u" }, { "b", "u" } };
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static nigh_metrics metrics;
    nigh_model *m = model_file_open("stories260K-q8_0.gguf", NULL, nigh_cpu_detect());
    if (!m) TEST_SKIP("the reference models are not here");
    for (uint32_t parallel = 1; parallel <= 16; parallel *= 4)
        for (int at_once = 0; at_once < 2; at_once++) {
            nigh_sched *s = open_for_tenants(m, &lock, &metrics, parallel, 64);
            for (size_t i = 0; s && i < NIGH_COUNT(who); i++) {
                make_client(&clients[i], who[i][0], who[i][1], 3);
                submit(s, &clients[i]);
                for (int t = 0; !at_once && !atomic_load(&clients[i].done) && t < 60000; t++) usleep(500);
            }
            for (size_t i = 0; s && i < NIGH_COUNT(who); i++) wait_for(&clients[i]);
            nigh_sched_close(s);
            for (size_t i = 0; i < 6; i++)
                CHECK_MSG(clients[i].cached == 0, "%s/%s met %u tokens of another, %u places", who[i][0], who[i][1],
                    clients[i].cached, parallel);
            if (parallel == 16)
                CHECK(clients[6].cached == PROMPT_MAX - 1 && clients[7].cached == PROMPT_MAX - 1);
        }
    nigh_model_close(m);
}

/* One tenant has filled the queue; another comes. It gets in, and does not wait until the first one's are through. */
static void test_turns(void) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static nigh_metrics metrics;
    nigh_err err = { 0 };
    nigh_model *m = model_file_open("stories260K-q8_0.gguf", NULL, nigh_cpu_detect());
    if (!m) TEST_SKIP("the reference models are not here");
    nigh_sched *s = open_for_tenants(m, &lock, &metrics, 1, 16);
    pthread_mutex_lock(&lock);              /* the engine waits, so that the queue fills */
    size_t loud = 0;
    for (; s && loud < JOBS - 5; loud++) {
        make_client(&clients[loud], "loud", "u", 20);
        if (try_submit(s, &clients[loud], &err) != NIGH_OK) break;
        if (loud < 2) usleep(20000);        /* the first is in its place before the others come */
    }
    CHECK_MSG(loud >= 16 && loud <= 18 && err.code == NIGH_EBUSY, "%zu were taken", loud);
    client *quiet = &clients[JOBS - 5];
    for (size_t i = 0; s && i < 5; i++) make_client(&quiet[i], "quiet", "u", 20);
    for (size_t i = 0; s && i < 4; i++) submit(s, &quiet[i]);
    CHECK(!s || try_submit(s, &quiet[4], &err) == NIGH_EBUSY);
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; s && i < 4; i++) wait_for(&quiet[i]);
    for (size_t i = 0; s && i < loud; i++) wait_for(&clients[i]);
    nigh_sched_close(s);
    printf("  of %zu, the quiet tenant's ended as %zu, %zu, %zu, %zu\n", loud + 4, quiet[0].ended_as, quiet[1].ended_as,
           quiet[2].ended_as, quiet[3].ended_as);
    for (size_t i = 0; i < 4; i++) CHECK(quiet[i].ended_as <= 2 * i + 3);
    for (size_t i = 1; i < loud; i++) CHECK(clients[i].ended_as > clients[i - 1].ended_as);     /* its own in order */
    nigh_model_close(m);
}

TEST_MAIN(T(test_company), T(test_prompt_once), T(test_long_prompt), T(test_prefixes_of_others), T(test_turns),
          T(test_stopped))
