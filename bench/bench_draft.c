/* bench_draft.c - what a draft model gains, when its guesses come true at a given rate.
 *
 *     bench_draft LARGE SMALL VOCABULARY THREADS SOURCE ANSWER RATE...
 *
 * Models with random weights agree on nothing, so both are forced, as in bench_speculate.c: the token that the sampler
 * picks is the next one of ANSWER, and what the small model picks is that token, too, at RATE (0..1) of the places,
 * and a wrong one at the others. All the work is done: both models read the text, every row is evaluated and looked
 * through, and whether guessing pays is decided as always. Which places are guessed rightly does not change from
 * round to round. The small model need not have the vocabulary of the large one, only the ids of ANSWER.
 *
 * draft_model.c is compiled into this program with its choice of a token replaced. CSV. */
#include <stdio.h>
#include <stdlib.h>

#define nigh_sampler_pick forced_pick
#include "engine/draft_model.c"
#undef nigh_sampler_pick

#include "base/pool.h"
#include "engine/gguf.h"
#include "forced.h"
#include "kernel/kernel.h"

enum { ROUNDS = 3, SOURCE_MAX = 256, ANSWER_MAX = 128 };

typedef struct {
    const nigh_model *large, *small;
    nigh_pool *pool;
    forced_answer a;
} bench;

/* What the small model is made to say. */
static struct { const bench *b; const nigh_session *session; double rate; } forcing;

int32_t forced_pick(nigh_sampler *s, const float *logits) {
    uint64_t at = nigh_session_count(forcing.session) - forcing.b->a.source.len;
    (void)s, (void)logits;
    if (at >= forcing.b->a.answer.len) return 0;
    int32_t right = forcing.b->a.answer.ptr[at];
    double draw = (double)((at + 1) * 0x9e3779b97f4a7c15u >> 40) / (double)(1 << 24);
    return draw < forcing.rate ? right : right ? right - 1 : 1;
}

static int fail(const char *what) {
    fprintf(stderr, "bench_draft: %s\n", what);
    return 1;
}

/* As nigh_draft_model_new, but for any two models. */
static nigh_status new_draft(nigh_draft_model **out, const bench *b, nigh_err *err) {
    nigh_draft_model *d = nigh_alloc(1, sizeof *d);
    if (!d) return nigh_fail(err, NIGH_ENOMEM, 0, "no memory");
    *out = d;
    *d = (nigh_draft_model){ .vocab = nigh_model_about(b->small)->vocab, .now_ns = nigh_os_now_ns,
                             .pause = PAUSE_FIRST, .first_right = 0.7f * FIRST_WEIGHT, .first_all = FIRST_WEIGHT };
    d->share = (double)nigh_model_about(b->small)->decode_bytes / (double)nigh_model_about(b->large)->decode_bytes;
    for (size_t i = 0; i < SURE_KINDS; i++) {
        d->all[i] = FIRST_WEIGHT;
        d->right[i] = FIRST_WEIGHT * first_rate[i];
    }
    return make_parts(d, b->small, b->pool, (uint32_t)(b->a.source.len + b->a.answer.len + NIGH_DRAFT_MAX), err);
}

/* One line: the answer plainly and with the small model, in turns, after one of each that is not counted. */
static nigh_status measure(bench *b, double rate, nigh_err *err) {
    nigh_speculation sp[2] = { 0 };
    static nigh_draft_cost cost[2];
    nigh_draft_model *d = NULL;
    double seconds[2][ROUNDS + 1];
    memset(cost, 0, sizeof cost);
    nigh_status status = new_draft(&d, b, err);
    for (int drafts = 0; drafts < 2 && status == NIGH_OK; drafts++)
        status = nigh_speculation_init(&sp[drafts], b->a.session, drafts, err);
    sp[1].model = d;
    forcing.b = b;
    forcing.rate = rate;
    for (int round = 0; round <= ROUNDS; round++)
        for (int drafts = 0; drafts < 2 && status == NIGH_OK; drafts++) {
            forcing.session = d->session;
            status = forced_write(&b->a, &sp[drafts], &cost[drafts], &seconds[drafts][round], err);
        }
    double n = (double)b->a.answer.len, plain = 0, fast = 0;
    if (status == NIGH_OK) plain = n / forced_median(seconds[0] + 1, ROUNDS);
    if (status == NIGH_OK) fast = n / forced_median(seconds[1] + 1, ROUNDS);
    if (status == NIGH_OK)
        printf("%.2f,%.2f,%.2f,%.3f,%llu,%llu,%.2f\n", rate, plain, fast, fast / plain,
               (unsigned long long)sp[1].drafted, (unsigned long long)sp[1].accepted, d->ns / 1e6);
    fflush(stdout);
    nigh_speculation_release(&sp[0]);
    nigh_speculation_release(&sp[1]);
    nigh_draft_model_free(d);
    return status;
}

static nigh_status open_models(bench *b, char **argv, nigh_tokenizer **t, nigh_err *err) {
    static nigh_file files[3];
    static nigh_gguf vocabulary;
    nigh_model *models[2];
    b->pool = nigh_pool_new((size_t)atoi(argv[4]));
    for (int i = 0; i < 3; i++) NIGH_TRY(nigh_file_open(&files[i], argv[1 + i], err));
    nigh_model_opts o = { .pool = b->pool, .cpu = nigh_cpu_detect() };
    for (int i = 0; i < 2; i++) NIGH_TRY(nigh_model_open(&models[i], files[i].bytes, o, err));
    b->large = models[0];
    b->small = models[1];
    b->a.own = nigh_model_tokenizer(b->large);
    NIGH_TRY(nigh_gguf_parse(&vocabulary, files[2].bytes, err));
    NIGH_TRY(nigh_tokenizer_open(t, &vocabulary, err));
    NIGH_TRY(nigh_runner_new(&b->a.runner, b->large, b->pool, SOURCE_MAX, err));
    NIGH_TRY(forced_ids(*t, argv[5], SOURCE_MAX, &b->a.source, err));
    NIGH_TRY(forced_ids(*t, argv[6], ANSWER_MAX, &b->a.answer, err));
    return nigh_session_new(&b->a.session, b->large, (uint32_t)(b->a.source.len + b->a.answer.len + 1), err);
}

int main(int argc, char **argv) {
    nigh_err err = { 0 };
    nigh_tokenizer *t;
    bench b = { 0 };
    if (argc < 8) return fail("LARGE SMALL VOCABULARY THREADS SOURCE ANSWER RATE...");
    if (open_models(&b, argv, &t, &err) != NIGH_OK) return fail(err.text);
    size_t vocab = nigh_model_about(b.large)->vocab;
    if (nigh_tokenizer_count(t) > nigh_min(vocab, nigh_model_about(b.small)->vocab))
        return fail("a model lacks tokens of this vocabulary");
    b.a.forced = nigh_alloc(vocab, sizeof *b.a.forced);
    b.a.rows = nigh_alloc((1 + NIGH_DRAFT_MAX) * vocab, sizeof *b.a.rows);
    if (!b.a.forced || !b.a.rows) return fail("no memory");
    printf("rate,plain_tps,drafting_tps,ratio,guessed,right,small_ms\n");
    for (int i = 7; i < argc; i++)
        if (measure(&b, atof(argv[i]), &err) != NIGH_OK) return fail(err.text);
    return 0;
}
