/* place_queue.c - what waits: a try for a moment (a busy target), a request for a line (the queue, outbox.h).
 *
 * One thread, the waiter: it hands tries that are due back to the reader's thread, deletes what was kept long enough,
 * and gives out queued requests, a few at once, when there may be a target for them. A queued request is run like any
 * other, but nobody holds a socket: its answer goes into the queue, sealed, until it is fetched. Where it may have
 * arrived and no answer came, no other place is asked: it is refused instead, so that nothing is done twice. */
#define _GNU_SOURCE
#include "node/place_parts.h"

#include <time.h>

#include "base/os.h"

enum { AT_ONCE = 4, AGAIN_MS = 1000, AGAIN_MAX_MS = 5000, IDLE_MS = 60000, KEEP_LEAST_S = 3600, REPLY_MAX = 32 << 20 };

/* ---- the waiter's list ---- */

void place_wait(nigh_placed *pl, uint32_t ms) {
    nigh_place *p = pl->place;
    pl->due_ms = place_now_ms() + ms;
    pthread_mutex_lock(&p->waiting_lock);
    bool runs = p->waiter_runs && !p->stopping;
    if (runs) {
        pl->next_waiting = p->waiting;
        p->waiting = pl;
        pthread_cond_signal(&p->wake);
    }
    pthread_mutex_unlock(&p->waiting_lock);
    if (!runs) place_error(pl, 503, "stopping", NULL, "the node is stopping");
}

/* With the lock held: one that is due is taken out; else *next_ms is when. */
static nigh_placed *take_due(nigh_place *p, uint64_t now_ms, uint64_t *next_ms) {
    for (nigh_placed **at = &p->waiting; *at; at = &(*at)->next_waiting) {
        nigh_placed *pl = *at;
        if (pl->due_ms <= now_ms || p->stopping) { *at = pl->next_waiting; return pl; }
        if (pl->due_ms < *next_ms) *next_ms = pl->due_ms;
    }
    return NULL;
}

void place_queue_wake(nigh_place *p) {
    pthread_mutex_lock(&p->waiting_lock);
    p->drain = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->waiting_lock);
}

/* ---- out of the queue ---- */

typedef struct { nigh_prep prep; nigh_place *place; nigh_queued entry; nigh_buf hold; } drained;

static void free_drained(drained *d) {
    nigh_buf_release(&d->hold);
    nigh_free(d);
}

static uint64_t again_ms(const nigh_queued *q) {
    uint64_t wait = q->tries < 3 ? (uint64_t)AGAIN_MS << q->tries : AGAIN_MAX_MS;
    return nigh_os_unix_ms() + nigh_min(wait, AGAIN_MAX_MS);
}

static void drain_over(nigh_place *p) {
    pthread_mutex_lock(&p->waiting_lock);
    p->on_the_way--;
    p->drain = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->waiting_lock);
}

/* Nothing was tried: it waits on. */
static void put_back(drained *d, const char *why) {
    (void)!nigh_outbox_again(d->place->outbox, d->entry.id, again_ms(&d->entry), d->entry.maybe_sent, why, NULL);
    drain_over(d->place);
}

/* A request of one's own, as the client had sent it; its class was decided then and can only rise. */
static nigh_placed *make_drained(drained *d, nigh_answer *a) {
    nigh_place *p = d->place;
    nigh_placed *pl;
    nigh_asked asked = { .key_idx = SIZE_MAX };
    nigh_format(asked.feature, sizeof asked.feature, "%s", d->entry.feature);
    nigh_format(asked.data_class, sizeof asked.data_class, "%s", d->entry.class_name);
    a->r.model = NIGH_STR("");          /* the feature was resolved when it was taken */
    a->r.stream = a->r.include_usage = false;
    nigh_receipt_init(&a->receipt, "", "", "queue");
    nigh_openai_name(a);
    nigh_rights *rights = nigh_alloc(sizeof *rights, 1);
    if (!rights || !place_new(p, a, &asked, &pl)) { nigh_free(rights); return NULL; }
    *rights = nigh_rights_own();
    nigh_format(rights->tenant, sizeof rights->tenant, "%s", d->entry.tenant);
    nigh_format(a->user, sizeof a->user, "%s", d->entry.user);
    a->rights = pl->queue_rights = rights;
    a->who = nigh_sched_owner_of(nigh_str_of(d->entry.tenant), nigh_str_of(d->entry.user));
    pl->keep_output_s = pl->f && pl->f->keep_output_s > KEEP_LEAST_S ? pl->f->keep_output_s : KEEP_LEAST_S;
    pl->queue_tries = d->entry.tries;
    nigh_format(pl->queue_id, sizeof pl->queue_id, "%s", d->entry.id);
    nigh_format(pl->degraded, sizeof pl->degraded, "queue; waited=%llus",
        (unsigned long long)((nigh_os_unix_ms() - d->entry.taken_ms) / 1000));
    return pl;
}

/* Some of an earlier try may have arrived: only this device may still be asked. */
static bool stays_here(nigh_placed *pl) {
    const nigh_policy *p = pl->place->policy;
    size_t count = 0;
    for (size_t i = 0; i < pl->d.count; i++)
        if (p->targets[pl->d.order[i]].tier == NIGH_TIER_DEVICE) pl->d.order[count++] = pl->d.order[i];
    pl->d.count = count;
    return count > 0;
}

static void run_drained(nigh_node *n, nigh_prep *prep) {
    drained *d = (drained *)(void *)prep;
    nigh_refusal why = { 0 };
    nigh_placed *pl = NULL;
    nigh_answer *a = nigh_openai_new(n, NULL, NIGH_TASK_CHAT);
    if (a && nigh_request_parse_any(&a->r, NIGH_TASK_CHAT, d->entry.body, &why) == NIGH_OK) pl = make_drained(d, a);
    else nigh_openai_free(a);
    if (!pl) {
        put_back(d, "not enough memory");
    } else {
        place_decide(pl, a->rights, a->user);
        if (d->entry.maybe_sent && !stays_here(pl))
            place_error(pl, 409, "policy_maybe_sent", "queue",
                "it was on its way when the line broke; it may have arrived, so it is not sent again");
        else place_next(pl);
    }
    free_drained(d);
}

void place_drained(nigh_placed *pl, int http, const char *error) {
    nigh_place *p = pl->place;
    nigh_queued q = { .tries = pl->queue_tries };
    uint64_t now_ms = nigh_os_unix_ms();
    bool final = http == 400 || http == 403 || http == 409 || http == 413 || http == 422 || http == 501;
    if (http == 200)
        (void)!nigh_outbox_answer(p->outbox, pl->queue_id, nigh_buf_str(&pl->a->out), pl->a->receipt.id,
            now_ms + pl->keep_output_s * 1000, NULL);
    else if (final) (void)!nigh_outbox_refuse(p->outbox, pl->queue_id, error, now_ms, NULL);
    else (void)!nigh_outbox_again(p->outbox, pl->queue_id, again_ms(&q), pl->maybe_sent, error, NULL);
    drain_over(p);
}

/* Gives out what is due; when something is due next. */
static uint64_t drain(nigh_place *p) {
    uint64_t next_unix_ms = UINT64_MAX, now_unix_ms = nigh_os_unix_ms();
    for (;;) {
        pthread_mutex_lock(&p->waiting_lock);
        bool room = p->on_the_way < AT_ONCE && !p->stopping;
        p->on_the_way += room;
        pthread_mutex_unlock(&p->waiting_lock);
        if (!room) return IDLE_MS;
        drained *d = nigh_alloc(sizeof *d, 1);
        if (d) *d = (drained){ .prep = { .run = run_drained }, .place = p, .hold = NIGH_BUF(REPLY_MAX) };
        nigh_status status = d ? nigh_outbox_take(p->outbox, now_unix_ms, &d->entry, &d->hold, NULL) : NIGH_ENOMEM;
        if (status == NIGH_OK && nigh_node_post(p->node, &d->prep)) continue;
        if (status == NIGH_OK) put_back(d, "the node is stopping");
        pthread_mutex_lock(&p->waiting_lock);
        p->on_the_way -= status != NIGH_OK;
        pthread_mutex_unlock(&p->waiting_lock);
        if (d) free_drained(d);
        break;
    }
    (void)!nigh_outbox_tidy(p->outbox, now_unix_ms, &next_unix_ms, NULL);
    if (next_unix_ms <= now_unix_ms) return AGAIN_MS;
    return nigh_min(next_unix_ms - now_unix_ms, IDLE_MS);
}

/* ---- the waiter ---- */

/* With the lock held. */
static void sleep_until(nigh_place *p, pthread_cond_t *wake, uint64_t due_ms) {
    uint64_t now_ms = place_now_ms(), wait = due_ms > now_ms ? due_ms - now_ms : 0;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait / 1000);
    until.tv_nsec += (long)(wait % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) { until.tv_sec++; until.tv_nsec -= 1000000000; }
    pthread_cond_timedwait(wake, &p->waiting_lock, &until);
}

static void *waiter(void *ud) {
    nigh_place *p = ud;
    uint64_t drain_ms = 0, tidy_ms = 0;
    pthread_mutex_lock(&p->waiting_lock);
    while (!p->stopping || p->waiting || p->races) {
        uint64_t now_ms = place_now_ms(), next_ms = now_ms + IDLE_MS;
        nigh_placed *pl = take_due(p, now_ms, &next_ms);
        place_race *race = pl ? NULL : place_race_due(p, now_ms, &next_ms);
        bool drains = !pl && !race && p->outbox && !p->stopping && (p->drain || now_ms >= drain_ms);
        bool tidies = !pl && !race && !drains && !p->stopping && now_ms >= tidy_ms;
        if (drains) p->drain = false;
        if (!pl && !race && !drains && !tidies) {
            if (p->stopping) break;
            if (p->outbox && drain_ms < next_ms) next_ms = drain_ms;
            if (tidy_ms < next_ms) next_ms = tidy_ms;
            nigh_captures_tidy(p->captures, nigh_os_unix_ms() / 1000);
            p->wake_ms = next_ms;
            sleep_until(p, &p->wake, next_ms);
            p->wake_ms = 0;
            continue;
        }
        pthread_mutex_unlock(&p->waiting_lock);
        if (pl) place_post(pl, NULL);
        else if (race) place_race_run(p, race);
        else if (drains) drain_ms = place_now_ms() + drain(p);
        else {
            tidy_ms = place_now_ms() + IDLE_MS;
            if (p->answers) nigh_answers_expire(p->answers, nigh_os_unix_ms());
        }
        pthread_mutex_lock(&p->waiting_lock);
    }
    pthread_mutex_unlock(&p->waiting_lock);
    return NULL;
}

/* ---- the keeper ---- */

static void *keeper(void *ud) {
    nigh_place *p = ud;
    pthread_mutex_lock(&p->waiting_lock);
    while (!p->stopping) {
        pthread_mutex_unlock(&p->waiting_lock);
        uint64_t due_ms = place_now_ms() + place_ledger_tidy(p);
        pthread_mutex_lock(&p->waiting_lock);
        while (!p->stopping && place_now_ms() < due_ms) sleep_until(p, &p->keeper_wake, due_ms);
    }
    pthread_mutex_unlock(&p->waiting_lock);
    return NULL;
}

static bool any_queues(const nigh_policy *p) {
    for (size_t f = 0; f < p->feature_count; f++)
        for (size_t i = 0; i < p->features[f].degrade_count; i++)
            if (p->features[f].degrade[i].kind == NIGH_DEGRADE_QUEUE) return true;
    return false;
}

nigh_status place_queue_open(nigh_place *p, const nigh_node_opts *o, nigh_err *err) {
    char path[4096], key[4096];
    pthread_condattr_t clock;
    pthread_mutex_init(&p->waiting_lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&p->wake, &clock);
    pthread_cond_init(&p->keeper_wake, &clock);
    pthread_condattr_destroy(&clock);
    if (!p->policy) return NIGH_OK;
    if (o->home && any_queues(p->policy)) {
        nigh_format(path, sizeof path, "%s/queue.db", o->home);
        nigh_format(key, sizeof key, "%s/keys/queue", o->home);
        NIGH_TRY(nigh_outbox_open(&p->outbox, path, key, err));
    }
    if (pthread_create(&p->waiter, NULL, waiter, p) != 0) return nigh_fail(err, NIGH_EIO, 0, "no thread can be had");
    p->waiter_runs = true;
    if (!p->ledger || p->policy->ledger_keep_s == NIGH_FOREVER) return NIGH_OK;
    if (pthread_create(&p->keeper, NULL, keeper, p) != 0) return nigh_fail(err, NIGH_EIO, 0, "no thread can be had");
    p->keeper_runs = true;
    return NIGH_OK;
}

void place_queue_stop(nigh_place *p) {
    pthread_mutex_lock(&p->waiting_lock);
    p->stopping = true;
    pthread_cond_signal(&p->wake);
    pthread_cond_signal(&p->keeper_wake);
    pthread_mutex_unlock(&p->waiting_lock);
    if (p->waiter_runs) pthread_join(p->waiter, NULL);
    if (p->keeper_runs) pthread_join(p->keeper, NULL);
    p->waiter_runs = p->keeper_runs = false;
}

/* ---- into the queue ---- */

static nigh_status put(nigh_placed *pl, uint32_t wait_s, nigh_queued *q, nigh_err *err) {
    nigh_buf body = NIGH_BUF(NIGH_OUTBOX_BODY_MAX);
    nigh_str class = pl->place->policy->classes[pl->d.class_idx].name;
    *q = (nigh_queued){ .policy_version = pl->place->policy->version, .taken_ms = nigh_os_unix_ms() };
    q->until_ms = q->taken_ms + (uint64_t)wait_s * 1000;
    nigh_format(q->tenant, sizeof q->tenant, "%s", pl->a->rights->tenant);
    nigh_format(q->user, sizeof q->user, "%s", pl->a->user);
    if (pl->f->name.len >= sizeof q->feature || class.len >= sizeof q->class_name)
        return nigh_fail(err, NIGH_ERANGE, 0, "the name of the feature is too long for the queue");
    nigh_format(q->feature, sizeof q->feature, "%.*s", (int)pl->f->name.len, pl->f->name.ptr);
    nigh_format(q->class_name, sizeof q->class_name, "%.*s", (int)class.len, class.ptr);
    nigh_status status = nigh_json_add_value(&body, pl->a->r.doc.root);
    q->body = nigh_buf_str(&body);
    if (status == NIGH_OK)
        status = nigh_outbox_put(pl->place->outbox, q, nigh_str_of(nigh_exchange_asked(pl->a->x)->idempotency_key),
            err);
    nigh_buf_release(&body);
    q->body = NIGH_STR("");
    return status;
}

static nigh_status reply_queued(nigh_placed *pl, const nigh_queued *q) {
    nigh_answer *a = pl->a;
    a->out.len = 0;
    NIGH_TRY(nigh_buf_addf(&a->out, "{\"id\":\"%s\",\"object\":\"nigh.queued\",\"status\":\"queued\",\"created\":%llu,"
        "\"until\":%llu,\"poll\":\"/v1/queue/%s\",\"nigh_receipt\":", q->id, (unsigned long long)(q->taken_ms / 1000),
        (unsigned long long)(q->until_ms / 1000), q->id));
    NIGH_TRY(nigh_place_receipt(pl, &a->out));
    NIGH_TRY(nigh_buf_add_char(&a->out, '}'));
    nigh_exchange_reply(a->x, 202, "application/json", nigh_buf_str(&a->out));
    return NIGH_OK;
}

nigh_status place_enqueue(nigh_placed *pl, uint32_t wait_s, nigh_err *err) {
    nigh_place *p = pl->place;
    nigh_queued q;
    char text[160];
    if (pl->beyond_away) return nigh_fail(err, NIGH_ENOSUP, 0, "only conversations wait");
    NIGH_TRY(put(pl, wait_s, &q, err));
    pl->t = UINT32_MAX;
    nigh_format(pl->degraded, sizeof pl->degraded, "queue; id=%s", q.id);
    if (!place_record(pl, "queued", err)) {
        (void)!nigh_outbox_delete(p->outbox, nigh_str_of(q.id), nigh_str_of(q.tenant), nigh_str_of(q.user), NULL);
        pl->degraded[0] = '\0';
        return NIGH_EIO;
    }
    place_land(pl, false);
    place_count(pl, true);
    place_head(pl, true);
    nigh_format(text, sizeof text, "queued as %s: no target can answer now; GET /v1/queue/%s has it later", q.id, q.id);
    /* A client of a stream reads events only: a quiet end would look like an answer. */
    if (pl->a->r.stream) nigh_openai_begin_stream(pl->a);
    if (pl->a->front && !pl->a->r.stream) nigh_openai_end_in_error(pl->a, 409, "queued", NULL, text);   /* nor there */
    else if (pl->a->r.stream || reply_queued(pl, &q) != NIGH_OK)
        nigh_openai_end_in_error(pl->a, 503, "queued", NULL, text);
    place_over(pl);
    place_queue_wake(p);
    return NIGH_OK;
}

/* ---- routes ---- */

static nigh_str id_of(nigh_exchange *x) {
    nigh_str path = nigh_str_of(nigh_exchange_path(x)), prefix = NIGH_STR("/v1/queue/");
    return nigh_str_slice(path, prefix.len, path.len);
}

/* The caller's user; false: it was answered. */
static bool user_of(nigh_place *p, nigh_exchange *x, char user[128]) {
    nigh_err err = { 0 };
    if (!p->outbox) {
        nigh_exchange_error(x, 404, "no_queue", NULL, "no feature of this node's policy waits in a queue");
        return false;
    }
    nigh_str named = nigh_str_of(nigh_exchange_asked(x)->user);
    nigh_status status = nigh_rights_user(nigh_place_rights(p, x), named, user, &err);
    if (status != NIGH_OK) nigh_exchange_error(x, nigh_status_http(status), "policy_user", "x-nigh-user", err.text);
    return status == NIGH_OK;
}

static nigh_status add_entry(nigh_buf *b, const nigh_queued *q) {
    static const char *const states[] = { "waiting", "sending", "answered", "expired", "refused" };
    NIGH_TRY(nigh_buf_addf(b, "{\"id\":\"%s\",\"object\":\"nigh.queued\",\"status\":\"%s\",\"created\":%llu,"
        "\"until\":%llu,\"tries\":%llu,\"receipt\":\"%s\",\"feature\":", q->id, states[q->state],
        (unsigned long long)(q->taken_ms / 1000), (unsigned long long)(q->until_ms / 1000),
        (unsigned long long)q->tries, q->receipt));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(q->feature)));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"error\":")));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(q->error)));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"response\":")));
    if (q->state == NIGH_ANSWERED && q->body.len) NIGH_TRY(nigh_buf_add(b, q->body));
    else NIGH_TRY(nigh_buf_add(b, NIGH_STR("null")));
    return nigh_buf_add_char(b, '}');
}

void nigh_place_queue_get(nigh_place *p, nigh_exchange *x) {
    char user[128] = "";
    nigh_queued q;
    nigh_buf hold = NIGH_BUF(REPLY_MAX), b = NIGH_BUF(REPLY_MAX);
    if (!user_of(p, x, user)) return;
    nigh_status status = nigh_outbox_get(p->outbox, id_of(x), nigh_str_of(nigh_place_rights(p, x)->tenant),
        nigh_str_of(user), nigh_os_unix_ms(), &q, &hold, NULL);
    if (status == NIGH_OK) status = add_entry(&b, &q);
    if (status == NIGH_OK) nigh_exchange_reply(x, 200, "application/json", nigh_buf_str(&b));
    else nigh_exchange_error(x, nigh_status_http(status), status == NIGH_ENOENT ? "not_found" : "queue", NULL,
        status == NIGH_ENOENT ? "there is no such request in the queue" : nigh_status_text(status));
    nigh_buf_release(&hold);
    nigh_buf_release(&b);
}

void nigh_place_queue_delete(nigh_place *p, nigh_exchange *x) {
    char user[128] = "";
    if (!user_of(p, x, user)) return;
    nigh_status status = nigh_outbox_delete(p->outbox, id_of(x), nigh_str_of(nigh_place_rights(p, x)->tenant),
        nigh_str_of(user), NULL);
    if (status == NIGH_OK) nigh_exchange_reply(x, 200, "application/json", NIGH_STR("{\"deleted\":true}"));
    else nigh_exchange_error(x, nigh_status_http(status), status == NIGH_ENOENT ? "not_found" : "queue", NULL,
        status == NIGH_ENOENT ? "there is no such request in the queue" : nigh_status_text(status));
}
