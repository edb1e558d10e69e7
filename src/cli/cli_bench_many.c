/* cli_bench_many.c - see cli_bench_many.h.
 * The scheduler of a node does the work, as it would for requests, but without guesses: with random weights they would
 * say nothing. Time runs from the moment when every sequence has its first token to the moment when the last has its
 * last one, so the prompts are not in it. One sequence and N take turns; the median of each counts. */
#define _GNU_SOURCE
#include "cli/cli_bench_many.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "node/sched.h"

enum { ROUNDS_MAX = 100 };

typedef struct {
    size_t sequences, begun, steps;     /* begun: that have a token; steps: since all have */
    uint64_t all_begun_ns, last_ns;
    bool has_token[NIGH_CLI_MANY_MAX];
    nigh_status status;
    nigh_err err;
    bool done;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} round_of;

static nigh_client on_client(void *ud) {
    (void)ud;
    return nigh_cli_stopped() ? NIGH_CLIENT_GONE : NIGH_CLIENT_READY;
}

static void on_begin(void *ud, size_t seq, uint32_t cached) { (void)ud, (void)seq, (void)cached; }

static void on_step(void *ud, size_t seq, const nigh_step *step) {
    round_of *r = ud;
    (void)step;
    r->last_ns = nigh_os_now_ns();
    if (r->begun == r->sequences) r->steps++;
    if (r->has_token[seq]) return;
    r->has_token[seq] = true;
    if (++r->begun == r->sequences) r->all_begun_ns = r->last_ns;
}

static void on_vector(void *ud, size_t i, const float *v, size_t count) { (void)ud, (void)i, (void)v, (void)count; }

static void on_done(void *ud, nigh_status status, const nigh_err *err) {
    round_of *r = ud;
    pthread_mutex_lock(&r->lock);
    r->status = status;
    if (err) r->err = *err;
    r->done = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

static const nigh_job_calls calls = { on_client, on_begin, on_step, on_vector, on_done };

/* Prompts that have nothing in common, so that nothing is copied. */
static nigh_status add_prompt(nigh_ids *ids, uint32_t count, uint32_t vocab, uint64_t *state) {
    *ids = NIGH_IDS(count);
    for (uint32_t i = 0; i < count; i++) {      /* Knuth's linear congruential generator (MMIX) */
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        NIGH_TRY(nigh_ids_add(ids, (int32_t)((*state >> 33) % vocab)));
    }
    return NIGH_OK;
}

/* Tokens a second of `count` sequences together. */
static nigh_status run_round(nigh_sched *s, const nigh_cli_model *m, const nigh_cli_many_opts *o, size_t count,
                             double *tps, nigh_err *err) {
    static uint64_t state = 1;
    nigh_sequence_spec specs[NIGH_CLI_MANY_MAX];
    round_of r = { .sequences = count, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER };
    for (size_t i = 0; i < count; i++) {
        specs[i].generate = (nigh_generate_opts){ .max_tokens = o->tokens, .ignore_end = true };
        if (add_prompt(&specs[i].ids, o->prompt, m->about->vocab, &state) != NIGH_OK)
            return nigh_fail(err, NIGH_ENOMEM, 0, "no memory for the prompts");
    }
    NIGH_TRY(nigh_sched_generate(s, specs, count, &calls, &r, err));
    pthread_mutex_lock(&r.lock);
    while (!r.done) pthread_cond_wait(&r.wake, &r.lock);
    pthread_mutex_unlock(&r.lock);
    *tps = r.last_ns > r.all_begun_ns ? (double)r.steps * 1e9 / (double)(r.last_ns - r.all_begun_ns) : 0;
    if (nigh_cli_stopped()) return nigh_fail(err, NIGH_ECANCEL, 0, "stopped");
    if (r.status != NIGH_OK) *err = r.err;
    return r.status;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const nigh_cli_model *m, const nigh_cli_many_opts *o, double one[], double many[]) {
    size_t middle = o->rounds / 2, last = o->rounds - 1;
    qsort(one, o->rounds, sizeof *one, by_size);
    qsort(many, o->rounds, sizeof *many, by_size);
    double ratio = one[middle] > 0 ? many[middle] / one[middle] : 0;
    if (o->json)
        printf("{\"sequences\":%u,\"one_tps\":%.2f,\"together_tps\":%.2f,\"ratio\":%.3f,\"one_low\":%.2f,"
               "\"one_high\":%.2f,\"together_low\":%.2f,\"together_high\":%.2f,\"prompt\":%u,\"tokens\":%u,"
               "\"rounds\":%u,\"threads\":%zu}\n", o->sequences, one[middle], many[middle], ratio, one[0], one[last],
               many[0], many[last], o->prompt, o->tokens, o->rounds, nigh_pool_size(m->pool));
    else
        printf("  1 sequence   %10.1f tokens/s   (%.1f - %.1f)\n"
               "%3u together   %10.1f tokens/s   (%.1f - %.1f), %.2f times one; each %.1f\n", one[middle], one[0],
               one[last], o->sequences, many[middle], many[0], many[last], ratio,
               many[middle] / (double)o->sequences);
}

nigh_status nigh_cli_bench_many(const nigh_cli_model *m, const nigh_cli_many_opts *o, nigh_err *err) {
    double one[ROUNDS_MAX + 1], many[ROUNDS_MAX + 1];
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    nigh_metrics *metrics = nigh_alloc(1, sizeof *metrics);
    nigh_sched *s = NULL;
    if (!metrics) return nigh_fail(err, NIGH_ENOMEM, 0, "no memory for the counters");
    nigh_sched_opts so = { .model = m->model, .pool = m->pool, .pool_lock = &lock, .metrics = metrics, .alone = true,
                           .context_tokens = o->prompt + o->tokens + 1, .parallel = o->sequences,
                           .queue_max = NIGH_CLI_MANY_MAX };
    nigh_status status = nigh_sched_open(&s, &so, err);
    for (uint32_t i = 0; i <= o->rounds && status == NIGH_OK; i++) {     /* round 0 is not counted */
        size_t at = i ? i - 1 : 0;
        status = run_round(s, m, o, 1, &one[at], err);
        if (status == NIGH_OK) status = run_round(s, m, o, o->sequences, &many[at], err);
    }
    nigh_sched_close(s);
    nigh_free(metrics);
    if (status == NIGH_OK) print(m, o, one, many);
    return status;
}
