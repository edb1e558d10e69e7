/* place_race.c - two tries at once, of a feature that says so (`hedge`): when an edge node or a provider has given no
 * word after a while, the next one is asked beside it.
 *
 *     reader's thread   place_race_new: the first try begins     run_second: the second, when the waiter says so
 *     transfers         what either says is kept in its log, until one of them is taken:
 *                         of a stream the first with a word, of a whole answer the first that is good
 *                       then its log is played to place_away.c, as if it came just now; the other one is cancelled
 *
 * Both calls speak from the one thread of the transfers, so only the start of the second needs the lock. The try is
 * over when both calls are: each has a hop with its bytes, the one that was taken the last. When none is taken, the one
 * whose end forbids to go on decides. The race is held by the request, and by the waiter's list or the reader's queue.
 */
#include "node/place_parts.h"

enum { LOG_MAX = 16 << 20, NOBODY = 2 };

typedef struct {
    place_race *race;
    uint32_t t, first_ms;           /* first_ms: to its first word; 0: none */
    uint64_t id, began_ms;
    bool started, over;
    nigh_buf log;                   /* what it said before one was taken */
    bool broken;                    /* too much for the log */
    nigh_call_result result;
    place_end end;
} racer;

struct place_race {
    nigh_prep prep;                 /* to the reader's thread */
    place_race *prev, *next;        /* in the waiter's list */
    uint64_t due_ms;
    bool listed;                    /* under the waiter's lock */
    atomic_uint refs;
    pthread_mutex_t lock;
    nigh_placed *pl;
    bool closed;                    /* under the lock: no second may begin */
    unsigned taken;                 /* of the transfers' thread: 0, 1, or NOBODY */
    racer r[2];
};

/* ---- life ---- */

static void unref(place_race *race) {
    if (!race || atomic_fetch_sub(&race->refs, 1) != 1) return;
    for (size_t i = 0; i < 2; i++) nigh_buf_release(&race->r[i].log);
    pthread_mutex_destroy(&race->lock);
    nigh_free(race);
}

static void unlist(nigh_place *p, place_race *race) {       /* with the waiter's lock held */
    if (race->prev) race->prev->next = race->next;
    else p->races = race->next;
    if (race->next) race->next->prev = race->prev;
    race->listed = false;
}

/* It waits no longer for its moment; the list's hold on it ends. */
static void forget_timer(place_race *race) {
    nigh_place *p = race->pl->place;
    pthread_mutex_lock(&p->waiting_lock);
    bool listed = race->listed;
    if (listed) unlist(p, race);
    pthread_mutex_unlock(&p->waiting_lock);
    if (listed) unref(race);
}

place_race *place_race_due(nigh_place *p, uint64_t now_ms, uint64_t *next_ms) {
    for (place_race *race = p->races; race; race = race->next) {
        if (race->due_ms <= now_ms || p->stopping) { unlist(p, race); return race; }
        if (race->due_ms < *next_ms) *next_ms = race->due_ms;
    }
    return NULL;
}

void place_race_run(nigh_place *p, place_race *race) {
    if (!nigh_node_post(p->node, &race->prep)) unref(race);
}

/* ---- what they say, before one is taken ---- */

static void put(racer *r, const void *bytes, size_t count) {
    if (nigh_buf_add(&r->log, (nigh_str){ bytes, count }) != NIGH_OK) r->broken = true;
}

static void put_text(racer *r, nigh_str text) {
    put(r, &text.len, sizeof text.len);
    put(r, text.ptr, text.len);
}

static void put_kind(racer *r, char kind) { put(r, &kind, 1); }

static void get(nigh_str *log, void *to, size_t count) {
    memcpy(to, log->ptr, count);
    *log = nigh_str_slice(*log, count, log->len);
}

static nigh_str get_text(nigh_str *log) {
    size_t len;
    get(log, &len, sizeof len);
    nigh_str text = nigh_str_slice(*log, 0, len);
    *log = nigh_str_slice(*log, len, log->len);
    return text;
}

/* The log to the functions of a single try. */
static void play(racer *r) {
    nigh_placed *pl = r->race->pl;
    nigh_str log = nigh_buf_str(&r->log);
    nigh_usage usage;
    uint32_t i;
    if (r->broken) pl->a->broken = true;
    while (log.len && !r->broken) {
        char kind = log.ptr[0];
        log = nigh_str_slice(log, 1, log.len);
        if (kind == 't') place_away_calls.text(pl, get_text(&log));
        else if (kind == 'r') place_away_calls.receipt(pl, get_text(&log));
        else if (kind == 'c') {
            get(&log, &i, sizeof i);
            nigh_str id = get_text(&log), name = get_text(&log);
            place_away_calls.tool(pl, i, id, name, get_text(&log));
        } else {
            get(&log, &usage, sizeof usage);
            place_away_calls.finish(pl, get_text(&log).ptr, &usage);     /* kept with its end */
        }
    }
    nigh_buf_release(&r->log);
    r->log = NIGH_BUF(LOG_MAX);
}

/* ---- which one ---- */

static racer *other(racer *r) { return &r->race->r[r == &r->race->r[0]]; }
static bool is_taken(const racer *r) { return r->race->taken == (unsigned)(r - r->race->r); }

static void take(racer *r) {
    place_race *race = r->race;
    nigh_placed *pl = race->pl;
    pthread_mutex_lock(&race->lock);
    race->closed = true;
    race->taken = (unsigned)(r - race->r);
    pthread_mutex_unlock(&race->lock);
    if (other(r)->started && !other(r)->over) nigh_upstream_cancel(pl->place->upstream, other(r)->id);
    place_away_name(pl, r->t);
    pl->try_began_ms = r->began_ms;
    atomic_store(&pl->call_id, r->id);
    play(r);
}

static void note_first(racer *r) {
    if (!r->first_ms) r->first_ms = (uint32_t)(place_now_ms() - r->began_ms) + 1;
}

/* Something to be read came. True: it goes on as of a single try. */
static bool word(racer *r) {
    note_first(r);
    if (is_taken(r)) return true;
    if (r->race->taken != NOBODY || !r->race->pl->a->r.stream) return false;
    take(r);
    return true;
}

static void on_text(void *ud, nigh_str piece) {
    racer *r = ud;
    if (word(r)) { place_away_calls.text(r->race->pl, piece); return; }
    put_kind(r, 't');
    put_text(r, piece);
}

static void on_tool(void *ud, uint32_t i, nigh_str id, nigh_str name, nigh_str arguments) {
    racer *r = ud;
    if (word(r)) { place_away_calls.tool(r->race->pl, i, id, name, arguments); return; }
    put_kind(r, 'c');
    put(r, &i, sizeof i);
    put_text(r, id);
    put_text(r, name);
    put_text(r, arguments);
}

static void on_finish(void *ud, const char *finish, const nigh_usage *usage) {
    racer *r = ud;
    if (is_taken(r)) { place_away_calls.finish(r->race->pl, finish, usage); return; }
    put_kind(r, 'f');
    put(r, usage, sizeof *usage);
    put_text(r, (nigh_str){ finish, strlen(finish) + 1 });
}

static void on_receipt(void *ud, nigh_str json) {
    racer *r = ud;
    if (is_taken(r)) { place_away_calls.receipt(r->race->pl, json); return; }
    put_kind(r, 'r');
    put_text(r, json);
}

static void on_begin(void *ud, const char *model, const char *request_id) {
    (void)ud;
    (void)model;
    (void)request_id;
}

/* ---- the end ---- */

static void fill_hop(const racer *r, place_hop *hop) {
    *hop = (place_hop){ .target_idx = (uint8_t)r->t, .end = (uint8_t)r->end, .first_ms = r->first_ms,
        .total_ms = (uint32_t)(place_now_ms() - r->began_ms), .http = (uint16_t)r->result.http,
        .retry_ms = r->result.retry_ms, .bytes_out = r->result.bytes_out, .bytes_in = r->result.bytes_in };
    nigh_format(hop->address, sizeof hop->address, "%s", r->result.address);
}

/* The one that is not the answer: its hop stands before the other's. One that was cancelled for being slow was at least
 * as slow as this. */
static void close_other(racer *r) {
    place_race *race = r->race;
    nigh_placed *pl = race->pl;
    place_hop hop, slow;
    bool ended_well = r->result.end == NIGH_CALL_CANCELLED || r->result.end == NIGH_CALL_OK;
    if (race->taken != NOBODY && ended_well) r->end = PLACE_OUTRUN;
    fill_hop(r, &hop);
    slow = hop;
    if (!slow.first_ms) slow.first_ms = slow.total_ms;
    place_target_ended(pl->place, r->t, r->end == PLACE_OUTRUN ? &slow : &hop, r->result.text);
    atomic_fetch_add(&pl->place->node->metrics.bytes_out, r->result.bytes_out);
    *place_hop_now(pl) = hop;
    place_push_hop(pl, other(r)->t);
    if (r->end == PLACE_OUTRUN && other(r)->end != PLACE_OK) pl->tried &= ~((uint64_t)1 << r->t);
}

static void finish(place_race *race) {
    nigh_placed *pl = race->pl;
    racer *last = race->taken != NOBODY ? &race->r[race->taken] : &race->r[0];
    /* No answer: the end after which nobody else may be asked counts, else that of the second. */
    if (race->taken == NOBODY && race->r[1].started && place_may_go_on(pl, race->r[0].end)) last = &race->r[1];
    if (other(last)->started) close_other(other(last));
    pl->t = last->t;
    pl->try_began_ms = last->began_ms;
    place_hop_now(pl)->first_ms = last->first_ms;
    if (!pl->a->begun && last->first_ms)    /* of a whole answer, which was played at its end */
        pl->first_ms = (uint32_t)(last->began_ms - pl->a->start_ns / 1000000) + last->first_ms;
    nigh_call_result result = last->result;
    pl->race = NULL;
    forget_timer(race);
    unref(race);
    place_away_calls.done(pl, &result);
}

static void on_done(void *ud, const nigh_call_result *result) {
    racer *r = ud;
    place_race *race = r->race;
    r->result = *result;
    r->end = (place_end)result->end;
    if (race->taken == NOBODY && r->end == PLACE_OK) take(r);
    pthread_mutex_lock(&race->lock);
    r->over = true;
    bool over = !other(r)->started || other(r)->over;
    if (over) race->closed = true;
    pthread_mutex_unlock(&race->lock);
    if (over) finish(race);
}

const nigh_upstream_calls place_race_calls = { .begin = on_begin, .text = on_text, .tool = on_tool,
    .finish = on_finish, .receipt = on_receipt, .done = on_done };

/* ---- beginning ---- */

/* With the lock held. The second beside the first, unless it is settled or there is none. */
static void start_second(place_race *race) {
    nigh_placed *pl = race->pl;
    nigh_place *p = pl->place;
    racer *r = &race->r[1];
    nigh_buf body = NIGH_BUF(0);
    nigh_err err;
    uint32_t t = nigh_place_hedge(p->policy, &pl->ask, &pl->d, race->r[0].t, pl->tried);
    if (t == UINT32_MAX || !place_left_ms(pl) || nigh_exchange_gone(pl->a->x) || !place_target_try(p, t)) return;
    r->t = t;
    r->began_ms = place_now_ms();
    r->started = true;
    nigh_status status = place_body(pl, p->policy->targets[t].tier, true, &body, &err);
    if (status == NIGH_OK)
        status = place_away_send(pl, t, pl->until_ms, nigh_buf_str(&body), &place_race_calls, r, &r->id, &err);
    nigh_buf_release(&body);
    if (status != NIGH_OK) {
        r->started = false;
        place_target_ended(p, t, &(place_hop){ .end = PLACE_CANCELLED }, NULL);
        return;
    }
    pl->tried |= (uint64_t)1 << t;
    atomic_store(&pl->second_id, r->id);
    if (nigh_exchange_gone(pl->a->x)) nigh_upstream_cancel(p->upstream, r->id);
}

static void run_second(nigh_node *n, nigh_prep *prep) {
    place_race *race = (place_race *)(void *)prep;
    (void)n;
    pthread_mutex_lock(&race->lock);
    if (!race->closed) start_second(race);
    pthread_mutex_unlock(&race->lock);
    unref(race);
}

static bool may_race(const nigh_placed *pl) {
    const nigh_answer *a = pl->a;
    if (!pl->f || !pl->f->hedge || a->begun || pl->queue_id[0] || !a->x) return false;
    if (nigh_exchange_asked(a->x)->idempotency_key[0]) return false;
    return nigh_place_hedge(pl->place->policy, &pl->ask, &pl->d, pl->t, pl->tried) != UINT32_MAX;
}

/* Into the waiter's list, which holds it, too. */
static void wait_for_moment(place_race *race) {
    nigh_place *p = race->pl->place;
    race->due_ms = place_now_ms() + place_hedge_ms(p, race->r[0].t, race->pl->f);
    pthread_mutex_lock(&p->waiting_lock);
    if (p->waiter_runs && !p->stopping) {
        atomic_fetch_add(&race->refs, 1);
        race->listed = true;
        race->next = p->races;
        if (race->next) race->next->prev = race;
        p->races = race;
        if (race->due_ms < p->wake_ms) pthread_cond_signal(&p->wake);
    }
    pthread_mutex_unlock(&p->waiting_lock);
}

void *place_race_new(nigh_placed *pl, uint64_t **id) {
    place_race *race = may_race(pl) ? nigh_alloc(sizeof *race, 1) : NULL;
    if (!race) return NULL;
    race->prep.run = run_second;
    race->pl = pl;
    race->taken = NOBODY;
    atomic_init(&race->refs, 2);        /* of the request, and of place_race_begun */
    pthread_mutex_init(&race->lock, NULL);
    for (size_t i = 0; i < 2; i++) race->r[i] = (racer){ .race = race, .log = NIGH_BUF(LOG_MAX) };
    race->r[0].t = pl->t;
    race->r[0].began_ms = pl->try_began_ms;
    race->r[0].started = true;
    pl->race = race;
    atomic_store(&pl->second_id, 0);
    *id = &race->r[0].id;
    wait_for_moment(race);
    return &race->r[0];
}

void place_race_begun(void *first, bool good) {
    place_race *race = ((racer *)first)->race;
    if (!good) {
        pthread_mutex_lock(&race->lock);
        race->closed = true;
        pthread_mutex_unlock(&race->lock);
        race->pl->race = NULL;
        forget_timer(race);
        unref(race);
    }
    unref(race);
}
