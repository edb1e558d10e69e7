/* sched.c - the engine thread of one model.
 *
 *     submit --> inbox --> waiting (a list, first come) --> slots (a session each) --> done
 *
 *     one turn:  drop whose client left -> fill free slots -> gather -> evaluate -> pick tokens -> hand them out
 *
 *     gather:    | d d d | p p p p p p p p | q q q q |      d: the last token of each sequence being written
 *                                                           p, q: pieces of prompts, equal shares of what is left
 *
 * While somebody is being written to, prompts get at most PREFILL_SHARED tokens of a turn, so that a long prompt does
 * not stop the others. A free slot keeps its session: the next prompt goes to the slot with the longest common
 * beginning. Only the engine thread touches jobs, sequences and slots; the lock guards the inbox and the wish to
 * be woken. */
#define _GNU_SOURCE
#include "node/sched.h"

#include <stdatomic.h>
#include <time.h>

#include "base/os.h"

enum { PARALLEL_MAX = 64, PREFILL_SHARED = 128, CONTEXT_DEFAULT = 4096, SLOW_READER_MS = 30000 };

typedef struct job job;
typedef struct sequence sequence;

struct sequence {
    sequence *next;                 /* in the waiting list */
    job *owner;
    size_t index;
    nigh_ids ids;
    nigh_generate_opts opts;
    nigh_generation *generation;
    uint32_t read;                  /* tokens of the prompt already in the session */
    int32_t last;                   /* the token to evaluate next, once the prompt is read */
    bool finished;
};

struct job {
    job *next;                      /* in the inbox, or in the list of embedding jobs */
    nigh_job_calls calls;
    void *ud;
    sequence *sequences;            /* NULL: an embedding job */
    nigh_ids *texts;
    size_t count, ended, weight;    /* weight: places it takes in the queue */
    uint64_t full_since_ms;         /* 0: reads well */
};

typedef struct { nigh_session *session; sequence *seq; float *logits; uint64_t used; } slot;

struct nigh_sched {
    nigh_sched_opts o;
    nigh_runner *runner;
    float *vector;
    slot slots[PARALLEL_MAX];
    sequence *waiting, **waiting_end;
    job *embeds, **embeds_end;
    uint64_t turn;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    job *inbox, **inbox_end;
    size_t queued;                  /* sequences and embedding jobs in the inbox and the waiting lists */
    bool poked, stopping, stopped;
};

static uint64_t now_ms(void) { return nigh_os_now_ns() / 1000000; }

/* ---- jobs in ---- */

static void free_job(job *j) {
    if (!j) return;
    for (size_t i = 0; i < j->count; i++) {
        if (j->texts) nigh_ids_release(&j->texts[i]);
        if (!j->sequences) continue;
        nigh_generation_free(j->sequences[i].generation);
        nigh_ids_release(&j->sequences[i].ids);
    }
    nigh_free(j->sequences);
    nigh_free(j->texts);
    nigh_free(j);
}

static job *new_job(const nigh_job_calls *calls, void *ud, size_t count, bool embed) {
    job *j = nigh_alloc(sizeof *j, 1);
    if (!j) return NULL;
    *j = (job){ .calls = *calls, .ud = ud };
    if (embed) j->texts = nigh_alloc(sizeof *j->texts, count);
    else j->sequences = nigh_alloc(sizeof *j->sequences, count);
    if (j->texts || j->sequences) {
        j->count = count;
        j->weight = embed ? 1 : count;
        return j;
    }
    nigh_free(j);
    return NULL;
}

static nigh_status submit(nigh_sched *s, job *j, nigh_err *err) {
    nigh_status status = NIGH_OK;
    if (!j) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the request");
    pthread_mutex_lock(&s->lock);
    if (s->stopping) status = nigh_fail(err, NIGH_ECANCEL, 0, "the node is stopping");
    else if (s->queued + j->weight > s->o.queue_max)
        status = nigh_fail(err, NIGH_EBUSY, 0, "too many requests are waiting; try again soon");
    else {
        s->queued += j->weight;
        atomic_fetch_add(&s->o.metrics->queued, (int64_t)j->weight);
        *s->inbox_end = j;
        s->inbox_end = &j->next;
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    if (status == NIGH_EBUSY) atomic_fetch_add(&s->o.metrics->refused_busy, 1);
    if (status != NIGH_OK) free_job(j);
    return status;
}

nigh_status nigh_sched_generate(nigh_sched *s, nigh_sequence_spec *specs, size_t count,
    const nigh_job_calls *calls, void *ud, nigh_err *err) {
    job *j = new_job(calls, ud, count, false);
    for (size_t i = 0; i < count; i++) {
        if (!j) { nigh_ids_release(&specs[i].ids); continue; }
        j->sequences[i] = (sequence){ .owner = j, .index = i, .ids = specs[i].ids, .opts = specs[i].generate };
        specs[i].ids = NIGH_IDS(0);
    }
    return submit(s, j, err);
}

nigh_status nigh_sched_embed(nigh_sched *s, nigh_ids *texts, size_t count, const nigh_job_calls *calls, void *ud,
    nigh_err *err) {
    job *j = new_job(calls, ud, count, true);
    for (size_t i = 0; i < count; i++) {
        if (!j) { nigh_ids_release(&texts[i]); continue; }
        j->texts[i] = texts[i];
        texts[i] = NIGH_IDS(0);
    }
    return submit(s, j, err);
}

void nigh_sched_poke(void *sched) {
    nigh_sched *s = sched;
    pthread_mutex_lock(&s->lock);
    s->poked = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

static void leave_queue(nigh_sched *s, size_t count) {
    pthread_mutex_lock(&s->lock);
    s->queued -= count;
    pthread_mutex_unlock(&s->lock);
    atomic_fetch_sub(&s->o.metrics->queued, (int64_t)count);
}

/* ---- the end of sequences and jobs ---- */

static void clear_slot(nigh_sched *s, slot *sl) {
    if (!sl->seq) return;
    sl->seq = NULL;
    sl->used = s->turn;
    atomic_fetch_sub(&s->o.metrics->running, 1);
}

/* Takes every sequence of a job out of slots and waiting list, tells its owner why, and frees it. */
static void end_job(nigh_sched *s, job *j, nigh_status status, const nigh_err *err) {
    size_t waiting = 0;
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++)
        if (sl->seq && sl->seq->owner == j) clear_slot(s, sl);
    s->waiting_end = &s->waiting;
    for (sequence **at = &s->waiting; *at;) {
        if ((*at)->owner == j) { *at = (*at)->next; waiting++; continue; }
        at = &(*at)->next;
        s->waiting_end = at;
    }
    if (waiting) leave_queue(s, waiting);
    j->calls.done(j->ud, status, err);
    free_job(j);
}

static void deliver(nigh_sched *s, slot *sl, const nigh_step *step) {
    sequence *q = sl->seq;
    job *j = q->owner;
    j->calls.step(j->ud, q->index, step);
    if (step->finish == NIGH_FINISH_NONE) { q->last = step->token; return; }
    q->finished = true;
    clear_slot(s, sl);
    if (++j->ended == j->count) end_job(s, j, NIGH_OK, NULL);
}

/* Ends jobs whose client left, and those that were not read for too long. Returns true when it ended one: then
 * look again. */
static bool drop_one(nigh_sched *s) {
    sequence *candidates[PARALLEL_MAX + 1];
    size_t n = 0;
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++) if (sl->seq) candidates[n++] = sl->seq;
    for (size_t i = 0; i < n; i++) {
        job *j = candidates[i]->owner;
        nigh_client c = j->calls.client(j->ud);
        if (c != NIGH_CLIENT_FULL) j->full_since_ms = 0;
        else if (!j->full_since_ms) j->full_since_ms = now_ms();
        bool slow = j->full_since_ms && now_ms() - j->full_since_ms > SLOW_READER_MS;
        if (c != NIGH_CLIENT_GONE && !slow) continue;
        nigh_err err;
        atomic_fetch_add(slow ? &s->o.metrics->slow_readers : &s->o.metrics->cancelled, 1);
        end_job(s, j, nigh_fail(&err, NIGH_ECANCEL, 0, slow ? "the client does not read" : "the client left"), &err);
        return true;
    }
    for (sequence *q = s->waiting; q; q = q->next) {
        nigh_err err;
        if (q->owner->calls.client(q->owner->ud) != NIGH_CLIENT_GONE) continue;
        atomic_fetch_add(&s->o.metrics->cancelled, 1);
        end_job(s, q->owner, nigh_fail(&err, NIGH_ECANCEL, 0, "the client left"), &err);
        return true;
    }
    return false;
}

/* ---- filling slots ---- */

static uint32_t common_prefix(const nigh_session *se, const nigh_ids *ids) {
    uint32_t n = 0, most = se ? nigh_session_count(se) : 0;
    const int32_t *tokens = se ? nigh_session_tokens(se) : NULL;
    while (n < most && n < ids->len && tokens[n] == ids->ptr[n]) n++;
    return n;
}

/* The free slot whose session begins most like the prompt; among equals an unused one, then the one unused for
 * longest. */
static slot *best_slot(nigh_sched *s, const nigh_ids *ids) {
    slot *best = NULL;
    uint32_t best_common = 0;
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++) {
        if (sl->seq) continue;
        uint32_t common = common_prefix(sl->session, ids);
        if (best && (common < best_common || (common == best_common && sl->used >= best->used))) continue;
        best = sl;
        best_common = common;
    }
    return best;
}

static nigh_status start_in(nigh_sched *s, slot *sl, sequence *q, nigh_err *err) {
    size_t vocab = nigh_model_about(s->o.model)->vocab;
    if (!sl->logits && !(sl->logits = nigh_alloc(sizeof *sl->logits, vocab)))
        return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for another sequence");
    if (!sl->session) NIGH_TRY(nigh_session_new(&sl->session, s->o.model, s->o.context_tokens, err));
    NIGH_TRY(nigh_generation_new(&q->generation, nigh_model_tokenizer(s->o.model), q->opts, q->ids.ptr, q->ids.len,
        err));
    q->read = nigh_session_reuse(sl->session, q->ids.ptr, (uint32_t)q->ids.len);
    atomic_fetch_add(&s->o.metrics->prompt_tokens, q->ids.len);
    atomic_fetch_add(&s->o.metrics->cached_tokens, q->read);
    return NIGH_OK;
}

static void fill_slots(nigh_sched *s) {
    while (s->waiting) {
        sequence *q = s->waiting;
        slot *sl = best_slot(s, &q->ids);
        nigh_err err = { 0 };
        if (!sl) return;
        s->waiting = q->next;
        if (!s->waiting) s->waiting_end = &s->waiting;
        q->next = NULL;
        leave_queue(s, 1);
        nigh_status status = start_in(s, sl, q, &err);
        if (status != NIGH_OK) { end_job(s, q->owner, status, &err); continue; }
        sl->seq = q;
        atomic_fetch_add(&s->o.metrics->running, 1);
        q->owner->calls.begin(q->owner->ud, q->index, q->read);
    }
}

/* ---- a turn ---- */

static bool is_reading(const sequence *q) { return q->read < q->ids.len; }
static bool may_go(const slot *sl) { return sl->seq && !sl->seq->owner->full_since_ms; }

/* A sequence whose session is full ends here, before it would be evaluated. Returns true when one ended. */
static bool end_full(nigh_sched *s) {
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++) {
        nigh_step step = { 0 };
        nigh_err err;
        if (!may_go(sl) || is_reading(sl->seq) || nigh_session_count(sl->session) < nigh_session_limit(sl->session))
            continue;
        nigh_status status = nigh_generation_end(sl->seq->generation, NIGH_FINISH_LENGTH, &step);
        step.token = -1;                /* only text that was held back */
        if (status == NIGH_OK) deliver(s, sl, &step);
        else end_job(s, sl->seq->owner, nigh_fail(&err, NIGH_ENOMEM, 0, "not enough memory"), &err);
        return true;
    }
    return false;
}

static size_t gather(nigh_sched *s, nigh_batch_item *items, slot **from) {
    uint32_t left = nigh_runner_limit(s->runner), readers = 0;
    size_t n = 0;
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel && left; sl++) {
        if (!may_go(sl)) continue;
        if (is_reading(sl->seq)) { readers++; continue; }
        items[n] = (nigh_batch_item){ .session = sl->session, .tokens = &sl->seq->last, .count = 1,
            .logits = sl->logits };
        from[n++] = sl;
        left--;
    }
    if (n && left > PREFILL_SHARED) left = PREFILL_SHARED;
    for (size_t k = 0; k < s->o.parallel && left && readers; k++) {
        slot *sl = &s->slots[(s->turn + k) % s->o.parallel];
        if (!may_go(sl) || !is_reading(sl->seq)) continue;
        sequence *q = sl->seq;
        uint32_t want = (uint32_t)q->ids.len - q->read, share = (left + readers - 1) / readers,
            count = want < share ? want : share;
        items[n] = (nigh_batch_item){ .session = sl->session, .tokens = q->ids.ptr + q->read, .count = count,
            .logits = count == want ? sl->logits : NULL };
        from[n++] = sl;
        left -= count;
        readers--;
    }
    return n;
}

static nigh_status evaluate(nigh_sched *s, const nigh_batch_item *items, size_t count, nigh_err *err) {
    pthread_mutex_lock(s->o.pool_lock);
    nigh_status status = nigh_runner_eval(s->runner, items, count, err);
    pthread_mutex_unlock(s->o.pool_lock);
    return status;
}

static void advance(nigh_sched *s, slot *sl, uint32_t count) {
    sequence *q = sl->seq;
    nigh_step step;
    nigh_err err = { 0 };
    if (is_reading(q)) {
        q->read += count;
        if (is_reading(q)) return;
    }
    nigh_status status = nigh_generation_step(q->generation, sl->logits, &step, &err);
    if (status != NIGH_OK) { end_job(s, q->owner, status, &err); return; }
    atomic_fetch_add(&s->o.metrics->generated_tokens, 1);
    deliver(s, sl, &step);
}

/* One evaluation. When it fails, each item is tried alone, so that only the one that is to blame ends. */
static bool run_batch(nigh_sched *s) {
    nigh_batch_item items[PARALLEL_MAX];
    slot *from[PARALLEL_MAX];
    sequence *of[PARALLEL_MAX];
    nigh_err err = { 0 };
    size_t n = gather(s, items, from);
    if (!n) return false;
    nigh_status all = evaluate(s, items, n, &err);
    atomic_fetch_add(&s->o.metrics->batches, 1);
    for (size_t i = 0; i < n; i++) of[i] = from[i]->seq;
    for (size_t i = 0; i < n; i++) {
        if (from[i]->seq != of[i]) continue;        /* its job ended in this very loop */
        nigh_status status = all == NIGH_OK || n == 1 ? all : evaluate(s, &items[i], 1, &err);
        atomic_fetch_add(&s->o.metrics->batch_tokens, items[i].count);
        if (status == NIGH_OK) advance(s, from[i], items[i].count);
        else end_job(s, of[i]->owner, status, &err);
    }
    return true;
}

static bool run_embed(nigh_sched *s) {
    job *j = s->embeds;
    nigh_err err = { 0 };
    if (!j) return false;
    const nigh_ids *ids = &j->texts[j->ended];
    nigh_status status = NIGH_OK;
    if (j->calls.client(j->ud) == NIGH_CLIENT_GONE) status = nigh_fail(&err, NIGH_ECANCEL, 0, "the client left");
    else {
        pthread_mutex_lock(s->o.pool_lock);
        status = nigh_runner_embed(s->runner, ids->ptr, (uint32_t)ids->len, s->vector, &err);
        pthread_mutex_unlock(s->o.pool_lock);
    }
    if (status == NIGH_OK) {
        atomic_fetch_add(&s->o.metrics->prompt_tokens, ids->len);
        j->calls.vector(j->ud, j->ended, s->vector, nigh_model_about(s->o.model)->embed);
        j->ended++;
    }
    if (status == NIGH_OK && j->ended < j->count) return true;
    s->embeds = j->next;
    if (!s->embeds) s->embeds_end = &s->embeds;
    leave_queue(s, j->weight);
    end_job(s, j, status, &err);
    return true;
}

/* Moves the inbox to the lists of this thread. Returns false when it is time to end. */
static bool take_inbox(nigh_sched *s, bool may_sleep) {
    struct timespec until;
    pthread_mutex_lock(&s->lock);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 1;                  /* the clock of slow readers */
    bool any = false;
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++) any |= sl->seq != NULL;
    while (may_sleep && !s->inbox && !s->poked && !s->stopping) {
        if (!any) pthread_cond_wait(&s->wake, &s->lock);
        else if (pthread_cond_timedwait(&s->wake, &s->lock, &until) != 0) break;
    }
    job *j = s->inbox;
    s->inbox = NULL;
    s->inbox_end = &s->inbox;
    s->poked = false;
    bool go_on = !s->stopping;
    pthread_mutex_unlock(&s->lock);
    for (job *next; j; j = next) {
        next = j->next;
        j->next = NULL;
        if (j->texts) { *s->embeds_end = j; s->embeds_end = &j->next; continue; }
        for (size_t i = 0; i < j->count; i++) {
            *s->waiting_end = &j->sequences[i];
            s->waiting_end = &j->sequences[i].next;
        }
    }
    return go_on;
}

static void end_everything(nigh_sched *s) {
    nigh_err err;
    nigh_status status = nigh_fail(&err, NIGH_ECANCEL, 0, "the node is stopping");
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++)
        if (sl->seq) end_job(s, sl->seq->owner, status, &err);
    while (s->waiting) end_job(s, s->waiting->owner, status, &err);
    while (s->embeds) {
        job *j = s->embeds;
        s->embeds = j->next;
        leave_queue(s, j->weight);
        end_job(s, j, status, &err);
    }
}

static void *engine_thread(void *ud) {
    nigh_sched *s = ud;
    bool idle = true;
    while (take_inbox(s, idle)) {
        s->turn++;
        while (drop_one(s)) { }
        fill_slots(s);
        while (end_full(s)) { }
        bool wrote = run_batch(s), embedded = run_embed(s);
        idle = !wrote && !embedded;
    }
    end_everything(s);
    return NULL;
}

/* ---- life ---- */

static void free_parts(nigh_sched *s) {
    for (slot *sl = s->slots; sl < s->slots + PARALLEL_MAX; sl++) {
        nigh_session_free(sl->session);
        nigh_free(sl->logits);
    }
    nigh_runner_free(s->runner);
    nigh_free(s->vector);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    nigh_free(s);
}

nigh_status nigh_sched_open(nigh_sched **out, const nigh_sched_opts *o, nigh_err *err) {
    const nigh_model_info *about = nigh_model_about(o->model);
    pthread_condattr_t clock;
    nigh_sched *s = nigh_alloc(sizeof *s, 1);
    if (!s) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the scheduler");
    s->o = *o;
    if (!s->o.parallel) s->o.parallel = 4;
    if (s->o.parallel > PARALLEL_MAX) s->o.parallel = PARALLEL_MAX;
    if (!s->o.queue_max) s->o.queue_max = 64;
    if (!s->o.batch_tokens) s->o.batch_tokens = 512;
    if (s->o.batch_tokens < s->o.parallel) s->o.batch_tokens = s->o.parallel;
    if (!s->o.context_tokens)
        s->o.context_tokens = about->context_tokens < CONTEXT_DEFAULT ? about->context_tokens : CONTEXT_DEFAULT;
    s->inbox_end = &s->inbox;
    s->waiting_end = &s->waiting;
    s->embeds_end = &s->embeds;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &clock);
    pthread_condattr_destroy(&clock);
    nigh_status status = nigh_runner_new(&s->runner, o->model, o->pool, s->o.batch_tokens, err);
    if (status == NIGH_OK && !(s->vector = nigh_alloc(sizeof *s->vector, about->embed)))
        status = nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the scheduler");
    if (status == NIGH_OK && pthread_create(&s->thread, NULL, engine_thread, s) != 0)
        status = nigh_fail(err, NIGH_EIO, 0, "no thread can be had");
    if (status != NIGH_OK) { free_parts(s); return status; }
    *out = s;
    return NIGH_OK;
}

void nigh_sched_stop(nigh_sched *s) {
    if (!s || s->stopped) return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    s->stopped = true;
}

void nigh_sched_close(nigh_sched *s) {
    if (!s) return;
    nigh_sched_stop(s);
    free_parts(s);
}

uint32_t nigh_sched_context(const nigh_sched *s) { return s->o.context_tokens; }
uint32_t nigh_sched_batch(const nigh_sched *s) { return nigh_runner_limit(s->runner); }
uint32_t nigh_sched_queue_max(const nigh_sched *s) { return s->o.queue_max; }
