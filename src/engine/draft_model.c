/* draft_model.c - see draft_model.h.
 *
 * Each guess is the small model's most likely token; making it costs an evaluation of the small model, so it must be
 * decided before it is made whether it pays. That is judged by how often the last guesses came true. A guess, once
 * made, is trusted by how sure the small model was: for six ranges of its probability it is counted how
 * often such guesses came true (old counts fade, as in draft.c).
 *
 * When guesses do not pay, the small model is not asked for a while: 16 tokens, then 32, and so on up to 1,024. */
#include "engine/draft_model.h"

#include "engine/sampler.h"
#include "engine/tokenizer.h"
#include "kernel/math.h"

enum { SURE_KINDS = 6, PAUSE_FIRST = 16, PAUSE_MAX = 1024, BATCH = 64 };
#define FADE 0.96f
#define FIRST_WEIGHT 4.0f
#define WORTH 1.02

/* Upper bounds of the ranges, and how often such guesses are taken to come true before anything is known. */
static const float sure_below[SURE_KINDS] = { 0.2f, 0.4f, 0.6f, 0.8f, 0.95f, 2.0f };
static const float first_rate[SURE_KINDS] = { 0.1f, 0.3f, 0.5f, 0.65f, 0.8f, 0.9f };

struct nigh_draft_model {
    nigh_session *session;
    nigh_runner *runner;
    nigh_sampler *greedy;
    float *logits;                          /* [vocab] */
    size_t vocab;
    uint64_t (*now_ns)(void);
    double share, ns;                       /* of one row of the large model's time: by bytes; measured, 0: not yet */
    float right[SURE_KINDS], all[SURE_KINDS], first_right, first_all;
    nigh_guess last;                        /* guesses behind the first `at` tokens of the text */
    size_t kind[NIGH_DRAFT_MAX];
    uint32_t at, wait, pause;
    bool broken;
};

/* ---- life ---- */

nigh_status nigh_draft_model_check(const nigh_model *small, const nigh_model *large, nigh_err *err) {
    const nigh_tokenizer *a = nigh_model_tokenizer(small), *b = nigh_model_tokenizer(large);
    if (nigh_model_about(small)->encoder)
        return nigh_fail(err, NIGH_EINVAL, 0, "the draft model gives vectors, not text");
    size_t count = nigh_tokenizer_count(a), wanted = nigh_tokenizer_count(b);
    bool same = count == wanted && nigh_model_about(small)->vocab == nigh_model_about(large)->vocab;
    for (size_t i = 0; same && i < count; i++)
        same = nigh_str_eq(nigh_tokenizer_text(a, (int32_t)i), nigh_tokenizer_text(b, (int32_t)i));
    if (same) return NIGH_OK;
    return nigh_failf(err, NIGH_EINVAL, 0,
                      "the draft model has another vocabulary (%zu tokens, the model %zu); take one of the same family",
                      count, wanted);
}

static nigh_status make_parts(nigh_draft_model *d, const nigh_model *small, nigh_pool *pool, uint32_t context,
                              nigh_err *err) {
    const nigh_model_info *about = nigh_model_about(small);
    NIGH_TRY(nigh_session_new(&d->session, small, (uint32_t)nigh_min(context, about->context_tokens), err));
    NIGH_TRY(nigh_runner_new(&d->runner, small, pool, BATCH, err));
    NIGH_TRY(nigh_sampler_new(&d->greedy, (nigh_sampler_opts){ 0 }, about->vocab, err));
    d->logits = nigh_alloc(about->vocab, sizeof *d->logits);
    return d->logits ? NIGH_OK : nigh_fail(err, NIGH_ENOMEM, 0, "no memory for the draft model");
}

nigh_status nigh_draft_model_new(nigh_draft_model **out, const nigh_model *small, const nigh_model *large,
                                 nigh_pool *pool, uint32_t context, uint64_t (*now_ns)(void), nigh_err *err) {
    *out = NULL;
    NIGH_TRY(nigh_draft_model_check(small, large, err));
    nigh_draft_model *d = nigh_alloc(1, sizeof *d);
    if (!d) return nigh_fail(err, NIGH_ENOMEM, 0, "no memory for the draft model");
    const nigh_model_info *s = nigh_model_about(small), *l = nigh_model_about(large);
    *d = (nigh_draft_model){ .vocab = s->vocab, .now_ns = now_ns, .pause = PAUSE_FIRST,
                             .first_right = 0.7f * FIRST_WEIGHT, .first_all = FIRST_WEIGHT };
    d->share = (double)s->decode_bytes / (double)nigh_max((size_t)l->decode_bytes, 1);
    for (size_t i = 0; i < SURE_KINDS; i++) {
        d->all[i] = FIRST_WEIGHT;
        d->right[i] = FIRST_WEIGHT * first_rate[i];
    }
    nigh_status status = make_parts(d, small, pool, context, err);
    if (status != NIGH_OK) { nigh_draft_model_free(d); return status; }
    *out = d;
    return NIGH_OK;
}

void nigh_draft_model_free(nigh_draft_model *d) {
    if (!d) return;
    nigh_sampler_free(d->greedy);
    nigh_runner_free(d->runner);
    nigh_session_free(d->session);
    nigh_free(d->logits);
    nigh_free(d);
}

/* ---- what became of the last guesses ---- */

static void count_one(float *right, float *all, bool came) {
    *all = *all * FADE + 1;
    *right = *right * FADE + (came ? 1 : 0);
}

static void learn(nigh_draft_model *d, const int32_t *text, uint32_t count) {
    for (uint32_t i = 0; i < d->last.count && d->at + i < count; i++) {
        bool came = text[d->at + i] == d->last.token[i];
        count_one(&d->right[d->kind[i]], &d->all[d->kind[i]], came);
        count_one(&d->first_right, &d->first_all, came);
        if (!came) break;
    }
    d->last.count = 0;
}

/* ---- whether it pays ---- */

static double guess_cost(const nigh_draft_model *d, const nigh_draft_cost *cost) {
    return d->ns > 0 && cost->seen[1] ? d->ns : d->share * nigh_draft_cost_of(cost, 1);
}

/* The number of guesses that promises the least time for a token; 0: none pays. */
static uint32_t plan(const nigh_draft_model *d, const nigh_draft_cost *cost, uint32_t rows, double expected,
                     uint32_t most) {
    double best = expected / nigh_draft_cost_of(cost, rows) * WORTH, one = guess_cost(d, cost), sum = expected,
           chance = 1;
    uint32_t count = 0;
    for (uint32_t i = 1; i <= most; i++) {
        chance *= (double)(d->first_right / d->first_all);
        sum += chance;
        double rate = sum / (nigh_draft_cost_of(cost, rows + i) + i * one);
        if (rate <= best) continue;
        best = rate;
        count = i;
    }
    return count;
}

/* The plan, and now and then a try when nothing is planned. */
static uint32_t plan_or_try(nigh_draft_model *d, const nigh_draft_cost *cost, uint32_t rows, double expected,
                            uint32_t most) {
    uint32_t count = plan(d, cost, rows, expected, most);
    if (count) { d->pause = PAUSE_FIRST; d->wait = 0; return count; }
    if (++d->wait < d->pause) return 0;
    d->wait = 0;
    d->pause = (uint32_t)nigh_min(2 * d->pause, PAUSE_MAX);
    return (uint32_t)nigh_min(2, most);
}

/* ---- guesses ---- */

static nigh_status evaluate(nigh_draft_model *d, int32_t token) {
    uint64_t begin = d->now_ns ? d->now_ns() : 0;
    nigh_batch_item item = { .session = d->session, .tokens = &token, .count = 1, .logits = d->logits };
    NIGH_TRY(nigh_runner_eval(d->runner, &item, 1, NULL));
    if (!d->now_ns) return NIGH_OK;
    double ns = (double)(d->now_ns() - begin), most = 2 * d->ns;
    d->ns = d->ns > 0 ? d->ns + ((ns < most ? ns : most) - d->ns) / 8 : ns;
    return NIGH_OK;
}

static void put_guess(nigh_draft_model *d, nigh_guess *out) {
    uint32_t i = out->count++;
    float log_of;
    out->token[i] = nigh_sampler_pick(d->greedy, d->logits);
    nigh_logprobs(d->logits, d->vocab, out->token[i], &log_of, NULL, 0);
    float sure = nigh_expf(log_of);
    size_t kind = 0;
    while (kind + 1 < SURE_KINDS && sure >= sure_below[kind]) kind++;
    d->kind[i] = kind;
    out->chance[i] = (i ? out->chance[i - 1] : 1) * d->right[kind] / d->all[kind];
}

/* Is another guess, behind those there are, worth its own evaluation and its row? */
static bool another_pays(const nigh_draft_model *d, const nigh_draft_cost *cost, uint32_t rows, double expected,
                         const nigh_guess *out) {
    uint32_t after = rows + out->count;
    double gain = (double)(out->chance[out->count - 1] * d->first_right / d->first_all),
           price = nigh_draft_cost_of(cost, after + 1) - nigh_draft_cost_of(cost, after) + guess_cost(d, cost);
    return gain / price > expected / nigh_draft_cost_of(cost, rows);
}

void nigh_draft_model_forget(nigh_draft_model *d) { nigh_session_wipe(d->session); }

uint32_t nigh_draft_model_guess(nigh_draft_model *d, const int32_t *text, uint32_t count, const nigh_draft_cost *cost,
                                uint32_t rows, double *expected, nigh_guess *out) {
    uint32_t limit = nigh_session_limit(d->session), most = (uint32_t)nigh_min(out->count, NIGH_DRAFT_MAX);
    out->count = 0;
    learn(d, text, count);
    if (d->broken || count == 0 || count >= limit) return 0;
    most = plan_or_try(d, cost, rows, *expected, (uint32_t)nigh_min(most, limit - count));
    if (most == 0) return 0;
    nigh_status status = nigh_runner_prompt(d->runner, d->session, text, count, d->logits, NULL);
    while (status == NIGH_OK) {
        put_guess(d, out);
        if (out->count == most || (out->count > 1 && !another_pays(d, cost, rows, *expected, out))) break;
        status = evaluate(d, out->token[out->count - 1]);
    }
    d->broken = status != NIGH_OK && status != NIGH_ECANCEL;
    d->last = *out;
    d->at = count;
    return nigh_draft_choose(cost, rows, expected, out);
}
