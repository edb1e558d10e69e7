/* place_local.c - a try of a model of this node: the parts of openai.c, led by the calls of a scheduler.
 * A stream begins with its first text, so that nothing was sent yet while another place could still be asked. One that
 * goes on for another place goes on from the very tokens of what was sent. */
#include "node/place_parts.h"

#include "kernel/math.h"

static nigh_client on_client(void *ud) {
    nigh_answer *a = ud;
    nigh_placed *pl = a->placed;
    if (place_now_ms() > pl->try_until_ms) { pl->timed_out = true; return NIGH_CLIENT_GONE; }
    return nigh_openai_client(a);
}

static void on_begin(void *ud, size_t seq, uint32_t cached) {
    nigh_answer *a = ud;
    a->choices[seq].cached = cached;
}

static void on_step(void *ud, size_t seq, const nigh_step *step) {
    nigh_answer *a = ud;
    nigh_placed *pl = a->placed;
    place_note_first(pl);
    if (a->r.stream && !pl->hold && !a->begun) place_begin_stream(pl);
    if (pl->keep_sent && nigh_buf_add(&pl->sent, step->text) != NIGH_OK) a->broken = true;
    place_catch(pl, step->text);
    nigh_openai_step(a, seq, step);
}

static void on_vector(void *ud, size_t i, const float *v, size_t count) {
    nigh_answer *a = ud;
    place_note_first(a->placed);
    nigh_openai_vector(a, i, v, count);
}

/* How sure was the model? The mean over all tokens of the logarithm of their probability, as a probability. */
static void look(nigh_placed *pl) {
    const nigh_answer *a = pl->a;
    double sum = 0;
    uint64_t count = 0;
    for (size_t i = 0; i < a->choice_count; i++) {
        sum += a->choices[i].logprob_sum;
        count += a->choices[i].token_count;
    }
    pl->looked = count > 0;
    pl->confidence = count ? nigh_exp64(sum / (double)count) : 1;
}

/* Is another place asked? Not when more than `target_rate` of the requests were passed on already; then it is said. */
static bool passes_on(nigh_placed *pl) {
    nigh_place *p = pl->place;
    bool unsure = pl->confidence < pl->f->threshold;
    pthread_mutex_lock(&p->lock);
    bool may = nigh_rate_take(&p->features[pl->ask.feature_idx].sure, pl->f->target_rate, unsure);
    pthread_mutex_unlock(&p->lock);
    if (unsure && !may) nigh_format(pl->degraded, sizeof pl->degraded, "confidence; over the rate");
    return may;
}

/* Kept for the case that no other target answers. */
static void keep_unsure(nigh_placed *pl) {
    nigh_answer *a = pl->a;
    if (a->choice_count != 1 || a->r.task != NIGH_TASK_CHAT || a->r.logprobs) return;
    nigh_buf_release(&pl->unsure);
    pl->unsure = a->choices[0].text;
    a->choices[0].text = NIGH_BUF(0);
    pl->unsure_tokens = a->choices[0].token_count;
    pl->unsure_t = pl->t;
}

static void on_done(void *ud, nigh_status status, const nigh_err *err) {
    nigh_answer *a = ud;
    nigh_placed *pl = a->placed;
    if (a->x) nigh_exchange_on(a->x, NULL, NULL);
    if (status == NIGH_OK && a->wants_logprobs) look(pl);
    if (status == NIGH_OK && pl->hold && passes_on(pl)) {
        keep_unsure(pl);
        place_ended(pl, PLACE_UNSURE, "below the threshold");
    } else if (status == NIGH_OK) place_ended(pl, PLACE_OK, NULL);
    else if (pl->timed_out) place_ended(pl, PLACE_TIMEOUT, "it took too long");
    else place_ended(pl, status == NIGH_ECANCEL ? PLACE_CANCELLED : status == NIGH_ENOMEM ? PLACE_MEMORY : PLACE_FAILED,
        err->text);
}

static const nigh_job_calls calls = { on_client, on_begin, on_step, on_vector, on_done };

static place_end end_of(nigh_status status, const nigh_refusal *why) {
    if (status == NIGH_EBUSY) return PLACE_BUSY;
    if (status == NIGH_ENOMEM) return PLACE_MEMORY;
    if (status == NIGH_ENOSUP) return PLACE_UNSUPPORTED;
    if (status == NIGH_ECANCEL) return PLACE_CANCELLED;
    return strcmp(why->code, "context_length_exceeded") == 0 ? PLACE_CONTEXT : PLACE_REJECTED;
}

place_end place_local_start(nigh_placed *pl, nigh_refusal *why) {
    nigh_answer *a = pl->a;
    a->served = pl->place->served[pl->t];
    a->who = nigh_sched_owner_of(nigh_str_of(a->rights->tenant), nigh_str_of(a->user));
    if (pl->f && pl->f->cache == NIGH_CACHE_TENANT) a->who.share = a->who.tenant;
    a->wants_logprobs = pl->f && (pl->f->escalate & NIGH_ESCALATE_CONFIDENCE) && a->r.task != NIGH_TASK_EMBEDDING;
    pl->hold = a->wants_logprobs && !a->begun && place_has_next(pl);
    if (place_make_room(pl) != NIGH_OK) return PLACE_MEMORY;
    nigh_status status = nigh_openai_start(a, &calls, why);
    return status == NIGH_OK ? PLACE_OK : end_of(status, why);
}
