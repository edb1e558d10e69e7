/* sched.c - the engine thread of one model: jobs in, jobs out.
 *
 *     submit --> inbox --> waiting (a list, first come) --> slots (a session each) --> done
 *                             '---- whose client does not read, while others wait ----'
 *
 *     one turn:  drop whose client left -> fill free slots -> gather -> evaluate -> pick tokens -> hand them out
 *                (all but the first in sched_turn.c)
 *
 * A free slot keeps its session, so that a later prompt finds there what it has in common with it. Only the engine
 * thread touches jobs, sequences and slots; the lock guards the inbox and the wish to be woken. */
#define _GNU_SOURCE
#include "node/sched_parts.h"

#include <stdatomic.h>
#include <time.h>

#include "base/os.h"
#include "base/sha256.h"

enum { CONTEXT_DEFAULT = 4096, SLOW_READER_MS = 30000 };

uint64_t nigh_sched_now_ms(void) { return nigh_os_now_ns() / 1000000; }

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
    else if (!nigh_sched_may_wait(s, j))
        status = nigh_fail(err, NIGH_EBUSY, 0, "too many requests are waiting; try again soon");
    else {
        s->queued += j->weight;
        s->tenant_queued[j->who.tenant % TENANTS] += j->weight;
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
        j->who = specs[0].who;
        j->sequences[i] = (sequence){ .owner = j, .index = i, .who = j->who, .ids = specs[i].ids,
            .opts = specs[i].generate };
        specs[i].ids = NIGH_IDS(0);
    }
    return submit(s, j, err);
}

nigh_status nigh_sched_embed(nigh_sched *s, nigh_ids *texts, size_t count, nigh_sched_owner who,
    const nigh_job_calls *calls, void *ud, nigh_err *err) {
    job *j = new_job(calls, ud, count, true);
    if (j) j->who = who;
    for (size_t i = 0; i < count; i++) {
        if (!j) { nigh_ids_release(&texts[i]); continue; }
        j->texts[i] = texts[i];
        texts[i] = NIGH_IDS(0);
    }
    return submit(s, j, err);
}

static uint64_t number_of(nigh_str a, nigh_str b) {
    uint8_t digest[32], len[8];
    uint64_t n = 0;
    nigh_sha256 s;
    for (size_t i = 0; i < 8; i++) len[i] = (uint8_t)(a.len >> (8 * i));
    nigh_sha256_init(&s);
    nigh_sha256_add(&s, (nigh_str){ (const char *)len, sizeof len });
    nigh_sha256_add(&s, a);
    nigh_sha256_add(&s, b);
    nigh_sha256_end(&s, digest);
    for (size_t i = 0; i < 8; i++) n = n << 8 | digest[i];
    return n;
}

nigh_sched_owner nigh_sched_owner_of(nigh_str tenant, nigh_str user) {
    return (nigh_sched_owner){ number_of(tenant, NIGH_STR("")), number_of(tenant, user) };
}

void nigh_sched_poke(void *sched) {
    nigh_sched *s = sched;
    pthread_mutex_lock(&s->lock);
    s->poked = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

void nigh_sched_forget(nigh_sched *s, uint64_t tenant) {
    pthread_mutex_lock(&s->lock);
    s->forgets_all |= s->forgets && s->forgets_tenant != tenant;    /* more than one at once: everybody's */
    s->forgets = s->poked = true;
    s->forgets_tenant = tenant;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

void nigh_sched_wipe_slot(slot *sl) {
    if (sl->session) nigh_session_wipe(sl->session);
    if (sl->drafter) nigh_draft_model_forget(sl->drafter);
    sl->forget = false;
}

static void forget(nigh_sched *s, uint64_t tenant, bool all) {
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++) {
        if (!all && sl->tenant != tenant) continue;
        if (sl->seq) sl->forget = true;
        else nigh_sched_wipe_slot(sl);
    }
}

void nigh_sched_join_queue(nigh_sched *s, uint64_t tenant, size_t count) {
    pthread_mutex_lock(&s->lock);
    s->queued += count;
    s->tenant_queued[tenant % TENANTS] += count;
    pthread_mutex_unlock(&s->lock);
    atomic_fetch_add(&s->o.metrics->queued, (int64_t)count);
}

void nigh_sched_leave_queue(nigh_sched *s, uint64_t tenant, size_t count) {
    pthread_mutex_lock(&s->lock);
    s->queued -= count;
    s->tenant_queued[tenant % TENANTS] -= count;
    pthread_mutex_unlock(&s->lock);
    atomic_fetch_sub(&s->o.metrics->queued, (int64_t)count);
}

/* ---- the end of sequences and jobs ---- */

void nigh_sched_clear_slot(nigh_sched *s, slot *sl) {
    if (!sl->seq) return;
    nigh_sched_went(s, sl->seq->who.tenant);
    sl->seq = NULL;
    sl->used = s->turn;
    if (sl->forget) nigh_sched_wipe_slot(sl);
    atomic_fetch_sub(&s->o.metrics->running, 1);
}

void nigh_sched_end_job(nigh_sched *s, job *j, nigh_status status, const nigh_err *err) {
    size_t waiting = 0;
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++)
        if (sl->seq && sl->seq->owner == j) nigh_sched_clear_slot(s, sl);
    s->waiting_end = &s->waiting;
    for (sequence **at = &s->waiting; *at;) {
        if ((*at)->owner == j) {
            nigh_sched_went(s, j->who.tenant);
            *at = (*at)->next;
            waiting++;
            continue;
        }
        at = &(*at)->next;
        s->waiting_end = at;
    }
    if (waiting) nigh_sched_leave_queue(s, j->who.tenant, waiting);
    j->calls.done(j->ud, status, err);
    free_job(j);
}

/* Ends the job if its client left, or has not read for too long. */
static bool drop(nigh_sched *s, job *j) {
    nigh_client c = j->calls.client(j->ud);
    nigh_err err;
    if (c != NIGH_CLIENT_FULL) j->full_since_ms = 0;
    else if (!j->full_since_ms) j->full_since_ms = nigh_sched_now_ms();
    bool slow = j->full_since_ms && nigh_sched_now_ms() - j->full_since_ms > SLOW_READER_MS;
    if (c != NIGH_CLIENT_GONE && !slow) return false;
    atomic_fetch_add(slow ? &s->o.metrics->slow_readers : &s->o.metrics->cancelled, 1);
    const char *why = slow ? "the client does not read" : "the client left";
    nigh_sched_end_job(s, j, nigh_fail(&err, NIGH_ECANCEL, 0, why), &err);
    return true;
}

/* Returns true when it ended a job: then look again. */
static bool drop_one(nigh_sched *s) {
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++)
        if (sl->seq && drop(s, sl->seq->owner)) return true;
    for (sequence *q = s->waiting; q; q = q->next) if (drop(s, q->owner)) return true;
    return false;
}

/* ---- the thread ---- */

/* Takes an embedding job out of its list. */
static void unlink_embed(nigh_sched *s, job **at) {
    job *j = *at;
    if (s->embeds_end == &j->next) s->embeds_end = at;
    *at = j->next;
    nigh_sched_went(s, j->who.tenant);
    nigh_sched_leave_queue(s, j->who.tenant, j->weight);
}

static bool run_embed(nigh_sched *s) {
    job **at = nigh_sched_next_embed(s), *j = *at;
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
        nigh_sched_got(s, j->who.tenant, (uint32_t)ids->len);
        j->calls.vector(j->ud, j->ended, s->vector, nigh_model_about(s->o.model)->embed);
        j->ended++;
    }
    if (status == NIGH_OK && j->ended < j->count) return true;
    unlink_embed(s, at);
    nigh_sched_end_job(s, j, status, &err);
    return true;
}

/* Moves the inbox to the lists of this thread. Returns false when it is time to end. */
static bool take_inbox(nigh_sched *s, bool may_sleep) {
    struct timespec until;
    pthread_mutex_lock(&s->lock);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 1;                  /* the clock of slow readers */
    bool any = s->waiting != NULL;
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++) any |= sl->seq != NULL;
    while (may_sleep && !s->inbox && !s->poked && !s->stopping) {
        if (!any) pthread_cond_wait(&s->wake, &s->lock);
        else if (pthread_cond_timedwait(&s->wake, &s->lock, &until) != 0) break;
    }
    job *j = s->inbox;
    s->inbox = NULL;
    s->inbox_end = &s->inbox;
    s->poked = false;
    bool go_on = !s->stopping, forgets = s->forgets, all = s->forgets_all;
    uint64_t tenant = s->forgets_tenant;
    s->forgets = s->forgets_all = false;
    pthread_mutex_unlock(&s->lock);
    if (forgets) forget(s, tenant, all);
    for (job *next; j; j = next) {
        next = j->next;
        j->next = NULL;
        if (j->texts) {
            nigh_sched_came(s, j->who.tenant);
            *s->embeds_end = j;
            s->embeds_end = &j->next;
            continue;
        }
        for (size_t i = 0; i < j->count; i++) {
            nigh_sched_came(s, j->who.tenant);
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
        if (sl->seq) nigh_sched_end_job(s, sl->seq->owner, status, &err);
    while (s->waiting) nigh_sched_end_job(s, s->waiting->owner, status, &err);
    while (s->embeds) {
        job *j = s->embeds;
        unlink_embed(s, &s->embeds);
        nigh_sched_end_job(s, j, status, &err);
    }
}

static void *engine_thread(void *ud) {
    nigh_sched *s = ud;
    bool idle = true;
    while (take_inbox(s, idle)) {
        s->turn++;
        while (drop_one(s)) { }
        nigh_sched_fill_slots(s);
        while (nigh_sched_end_full(s)) { }
        bool wrote = nigh_sched_run_batch(s), embedded = run_embed(s);
        idle = !wrote && !embedded;
    }
    end_everything(s);
    return NULL;
}

/* ---- life ---- */

static void free_parts(nigh_sched *s) {
    for (slot *sl = s->slots; sl < s->slots + PARALLEL_MAX; sl++) {
        nigh_draft_model_free(sl->drafter);
        nigh_speculation_release(&sl->writing);
        nigh_session_free(sl->session);
    }
    nigh_os_pages_give(s->rows, s->rows_bytes);
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
    if (!s->o.now_ns) s->o.now_ns = nigh_os_now_ns;
    s->inbox_end = &s->inbox;
    s->waiting_end = &s->waiting;
    s->embeds_end = &s->embeds;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &clock);
    pthread_condattr_destroy(&clock);
    nigh_status status = nigh_runner_new(&s->runner, o->model, o->pool, s->o.batch_tokens, err);
    s->rows_bytes = ((size_t)s->o.parallel + GUESSES_MAX) * about->vocab * sizeof *s->rows;
    s->rows = nigh_os_sparse_take(s->rows_bytes);
    if (status == NIGH_OK && o->draft_model) status = nigh_draft_model_check(o->draft_model, o->model, err);
    if (status == NIGH_OK && (!s->rows || !(s->vector = nigh_alloc(sizeof *s->vector, about->embed))))
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

size_t nigh_sched_session_bytes(const nigh_sched *s) {
    return nigh_session_bytes_as(s->o.model, nigh_sched_session_opts(&s->o));
}
uint32_t nigh_sched_context(const nigh_sched *s) { return s->o.context_tokens; }
uint32_t nigh_sched_batch(const nigh_sched *s) { return nigh_runner_limit(s->runner); }
