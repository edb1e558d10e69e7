/* sched_turn.c - one turn of the scheduler: free places are filled, then one batch is gathered and evaluated, and the
 * tokens it brought are picked and handed out.
 *
 *     gather:    | d g g d d g | p p p p p p p p | q q q q |    d: the last token of each sequence being written
 *                                                               g: guesses behind it (speculate.h), while they pay
 *                                                               p, q: pieces of prompts, equal shares of what is left
 *
 * While somebody is being written to, the prompts' pieces take about SHARED_TURN_MS of a turn, so that a long prompt
 * does not stop the others. Guesses are made only in turns without prompts: then a row more costs little.
 *
 * A prompt that begins like another of the same owner is not computed twice. What a session already holds is copied;
 * where another sequence is about to read the same beginning (`n` answers to one prompt, one system text), this one
 * waits until it has. A leader got its place earlier than those who wait for it, so nobody waits in a circle; and
 * nobody waits for a leader that has left, or whose client has stopped reading. What another owner's sequence left in a
 * session is never met: the session is wiped first, and so is that of the small model that guesses.
 *
 * A client that does not read stops its own text, not that of others: after ASIDE_MS its sequence gives its place to
 * one that waits. It keeps its words and its draws, and waits with them in the queue; when its client reads again and a
 * place is free, they are read as a prompt is, and since a token's logits are the same bits however it was read, the
 * text goes on as if nothing had been. */
#include "node/sched_parts.h"

enum { ASIDE_MS = 1000, SHARED_TURN_MS = 100, PIECE_MIN = 16, PIECE_FIRST = 64, SHARED_MIN = 8 };

/* ---- filling slots ---- */

static uint32_t common_ids(const int32_t *a, size_t a_count, const nigh_ids *ids) {
    uint32_t n = 0, most = (uint32_t)nigh_min(a_count, ids->len - 1);    /* one token is left to evaluate */
    while (n < most && a[n] == ids->ptr[n]) n++;
    return n;
}

/* What others left in a session counts for nothing. */
static uint32_t common_prefix(const slot *sl, const sequence *q) {
    const nigh_session *se = sl->share == q->who.share ? sl->session : NULL;
    return se ? common_ids(nigh_session_tokens(se), nigh_session_count(se), &q->ids) : 0;
}

/* The free slot whose session begins most like the prompt; among equals an unused one, then the one unused for
 * longest. A session that would lose most of what it holds is left alone if there is another: its beginning can be
 * copied. */
static slot *best_slot(nigh_sched *s, const sequence *q) {
    slot *best = NULL, *oldest = NULL;
    uint32_t best_common = 0;
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++) {
        if (sl->seq) continue;
        uint32_t common = common_prefix(sl, q);
        if (!oldest || sl->used < oldest->used) oldest = sl;
        if (best && (common < best_common || (common == best_common && sl->used >= best->used))) continue;
        best = sl;
        best_common = common;
    }
    return best && best->session && best_common < nigh_session_count(best->session) / 2 ? oldest : best;
}

static bool is_reading(const sequence *q) { return q->read < q->ids.len; }
static bool may_go(const slot *sl) { return sl->seq && !sl->seq->owner->full_since_ms; }

static void begin(nigh_sched *s, sequence *q) {
    if (q->begun) return;
    q->begun = true;
    atomic_fetch_add(&s->o.metrics->cached_tokens, q->read);
    q->owner->calls.begin(q->owner->ud, q->index, q->read);
}

/* Takes the prompt's beginning over from another slot, when it has clearly more of it. */
static void copy_from(slot *sl, const slot *from) {
    sequence *q = sl->seq;
    uint32_t common = common_prefix(from, q);
    if (common < q->read + SHARED_MIN) return;
    if (nigh_session_copy_prefix(sl->session, from->session, common, NULL) == NIGH_OK) q->read = common;
}

/* Finds the slot that has, or will soon have, most of the prompt's beginning. */
static void find_leader(nigh_sched *s, slot *sl) {
    sequence *q = sl->seq;
    slot *has = NULL, *will = NULL;
    uint32_t most = q->read + SHARED_MIN - 1, soon;
    for (slot *other = s->slots; other < s->slots + s->o.parallel; other++) {
        uint32_t common = other == sl ? 0 : common_prefix(other, q);
        if (common > most) { most = common; has = other; }
    }
    soon = most;
    for (slot *other = s->slots; other < s->slots + s->o.parallel; other++) {
        if (other == sl || !may_go(other) || !is_reading(other->seq) || other->share != q->who.share) continue;
        uint32_t common = common_ids(other->seq->ids.ptr, other->seq->ids.len, &q->ids);
        if (common > soon) { soon = common; will = other; }
    }
    if (will) {
        q->leader = will;
        q->leader_serial = will->seq->serial;
        q->shared = soon;
    } else if (has) copy_from(sl, has);
}

/* Looks after those who wait for a leader; those who need not any more begin to read. */
static void follow_leaders(nigh_sched *s) {
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++) {
        slot *leader = sl->seq ? sl->seq->leader : NULL;
        if (!leader) continue;
        bool gone = !may_go(leader) || leader->seq->serial != sl->seq->leader_serial;
        if (!gone && nigh_session_count(leader->session) < sl->seq->shared) continue;
        sl->seq->leader = NULL;
        copy_from(sl, leader);
        begin(s, sl->seq);
    }
}

/* What a slot needs for its first sequence. */
static nigh_status make_parts(nigh_sched *s, slot *sl, nigh_err *err) {
    if (sl->session) return NIGH_OK;
    NIGH_TRY(nigh_session_new_as(&sl->session, s->o.model, nigh_sched_session_opts(&s->o), err));
    nigh_status status = nigh_speculation_init(&sl->writing, sl->session, !s->o.alone, err);
    if (status == NIGH_OK && s->o.draft_model && !s->o.alone)
        status = nigh_draft_model_new(&sl->drafter, s->o.draft_model, s->o.model, s->o.pool, s->o.context_tokens,
                                      s->o.now_ns, err);
    sl->writing.model = sl->drafter;
    if (status == NIGH_OK) return NIGH_OK;
    nigh_session_free(sl->session);         /* the next try makes all of it anew */
    nigh_speculation_release(&sl->writing);
    sl->session = NULL;
    return status;
}

static nigh_status start_in(nigh_sched *s, slot *sl, sequence *q, nigh_err *err) {
    bool first = !q->generation;
    NIGH_TRY(make_parts(s, sl, err));
    if (first)
        NIGH_TRY(nigh_generation_new(&q->generation, nigh_model_tokenizer(s->o.model), q->opts, q->ids.ptr,
            q->ids.len, err));
    q->serial = ++s->serial;
    if (sl->share != q->who.share) nigh_sched_wipe_slot(sl);
    sl->share = q->who.share;
    sl->tenant = q->who.tenant;
    q->read = nigh_session_reuse(sl->session, q->ids.ptr, (uint32_t)q->ids.len);
    if (!first) return NIGH_OK;
    atomic_fetch_add(&s->o.metrics->prompt_tokens, q->ids.len);
    nigh_sched_got(s, q->who.tenant, (uint32_t)q->ids.len);
    return NIGH_OK;
}

/* Takes what was written to the ids, so that it can be read again. False: no room for it. */
static bool keep_text(slot *sl) {
    sequence *q = sl->seq;
    uint32_t count = nigh_session_count(sl->session);
    if (is_reading(q)) return true;
    if (count >= nigh_session_limit(sl->session)) return false;     /* it ends when its client reads again */
    const int32_t *written = nigh_session_tokens(sl->session);
    size_t before = q->ids.len;
    q->ids.limit = (size_t)count + 1;
    bool kept = true;
    for (size_t i = before; i < count && kept; i++) kept = nigh_ids_add(&q->ids, written[i]) == NIGH_OK;
    kept = kept && nigh_ids_add(&q->ids, sl->writing.tokens[0]) == NIGH_OK;     /* picked, not evaluated yet */
    if (!kept) q->ids.len = before;
    return kept;
}

/* Sends the one whose client has not read for longest back into the queue. NULL: there is none. */
static slot *make_room(nigh_sched *s) {
    slot *found = NULL;
    uint64_t now = nigh_sched_now_ms();
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++) {
        uint64_t since = sl->seq ? sl->seq->owner->full_since_ms : 0;
        if (since && now - since >= ASIDE_MS && (!found || since < found->seq->owner->full_since_ms)) found = sl;
    }
    if (!found || !keep_text(found)) return NULL;
    sequence *q = found->seq;
    q->leader = NULL;
    q->next = NULL;
    *s->waiting_end = q;
    s->waiting_end = &q->next;
    nigh_sched_clear_slot(s, found);
    nigh_sched_came(s, q->who.tenant);
    nigh_sched_join_queue(s, q->who.tenant, 1);
    return found;
}

void nigh_sched_fill_slots(nigh_sched *s) {
    for (sequence **at; *(at = nigh_sched_next(s));) {
        sequence *q = *at;
        slot *sl = best_slot(s, q);
        nigh_err err = { 0 };
        if (!sl) sl = make_room(s);
        if (!sl) return;
        if (s->waiting_end == &q->next) s->waiting_end = at;
        *at = q->next;
        q->next = NULL;
        nigh_sched_leave_queue(s, q->who.tenant, 1);
        nigh_status status = start_in(s, sl, q, &err);
        if (status != NIGH_OK) {
            nigh_sched_went(s, q->who.tenant);
            nigh_sched_end_job(s, q->owner, status, &err);
            continue;
        }
        sl->seq = q;
        atomic_fetch_add(&s->o.metrics->running, 1);
        find_leader(s, sl);
        if (!q->leader) begin(s, q);
    }
}

/* ---- tokens out ---- */

static void deliver(nigh_sched *s, slot *sl, const nigh_step *step) {
    sequence *q = sl->seq;
    job *j = q->owner;
    j->calls.step(j->ud, q->index, step);
    if (step->finish == NIGH_FINISH_NONE) return;
    nigh_sched_clear_slot(s, sl);
    if (++j->ended == j->count) nigh_sched_end_job(s, j, NIGH_OK, NULL);
}

bool nigh_sched_end_full(nigh_sched *s) {
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++) {
        nigh_step step = { 0 };
        nigh_err err;
        if (!may_go(sl) || is_reading(sl->seq) || nigh_session_count(sl->session) < nigh_session_limit(sl->session))
            continue;
        nigh_status status = nigh_generation_end(sl->seq->generation, NIGH_FINISH_LENGTH, &step);
        step.token = -1;                /* only text that was held back */
        if (status == NIGH_OK) deliver(s, sl, &step);
        else nigh_sched_end_job(s, sl->seq->owner, nigh_fail(&err, NIGH_ENOMEM, 0, "not enough memory"), &err);
        return true;
    }
    return false;
}

typedef struct { slot *sl; sequence *of; nigh_step step; nigh_status status; nigh_err err; } pick;
typedef struct { pick *picks; size_t vocab; } pick_job;

static void pick_some(void *ud, size_t worker, size_t first, size_t end) {
    const pick_job *j = ud;
    (void)worker;
    for (pick *p = j->picks + first; p < j->picks + end; p++) {
        const float *row = p->sl->logits + p->sl->writing.used * j->vocab;
        p->status = nigh_speculation_step(&p->sl->writing, p->of->generation, row, &p->step, &p->err);
    }
}

/* From every sequence that has a row the next token, all at once on the threads of the pool; then the next row. */
static void pick_tokens(nigh_sched *s, pick *picks, size_t count) {
    pick_job j = { picks, nigh_model_about(s->o.model)->vocab };
    while (count) {
        size_t left = 0;
        pthread_mutex_lock(s->o.pool_lock);
        nigh_pool_run(count > 1 ? s->o.pool : NULL, pick_some, &j, count, 1);
        pthread_mutex_unlock(s->o.pool_lock);
        for (size_t i = 0; i < count; i++) {
            pick *p = &picks[i];
            if (p->sl->seq != p->of) continue;          /* its job ended in this very loop */
            if (p->status != NIGH_OK) { nigh_sched_end_job(s, p->of->owner, p->status, &p->err); continue; }
            atomic_fetch_add(&s->o.metrics->generated_tokens, 1);
            nigh_sched_got(s, p->of->who.tenant, 1);
            deliver(s, p->sl, &p->step);
            if (p->sl->seq != p->of || !nigh_speculation_has_row(&p->sl->writing)) continue;
            atomic_fetch_add(&s->o.metrics->guesses_right, 1);
            picks[left++] = (pick){ .sl = p->sl, .of = p->of };
        }
        count = left;
    }
}

/* ---- a batch ---- */

typedef struct {
    nigh_batch_item items[PARALLEL_MAX];
    slot *from[PARALLEL_MAX];
    size_t count;                   /* items */
    uint32_t rows, prompt_rows;
    float *logits;                  /* where the next rows go */
} batch;

static void add_item(nigh_sched *s, batch *b, slot *sl, nigh_batch_item item) {
    size_t wanted = item.all_logits ? item.count : item.logits != NULL;
    b->items[b->count] = item;
    b->from[b->count++] = sl;
    b->rows += item.count;
    b->logits += wanted * nigh_model_about(s->o.model)->vocab;
}

static bool is_writing(const slot *sl) { return may_go(sl) && !is_reading(sl->seq); }

static void add_writers(nigh_sched *s, batch *b, bool guesses) {
    uint32_t writers = 0, rows, limit = nigh_runner_limit(s->runner);
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++) writers += is_writing(sl);
    double expected = rows = writers;
    uint32_t room = guesses ? (uint32_t)nigh_min(GUESSES_MAX, limit - writers) : 0;
    for (size_t k = 0; k < s->o.parallel; k++) {
        slot *sl = &s->slots[(s->turn + k) % s->o.parallel];
        if (!is_writing(sl)) continue;
        nigh_speculation_guess(&sl->writing, &s->cost, rows, &expected, room);
        rows += sl->writing.count - 1;
        room -= sl->writing.count - 1;
        sl->logits = b->logits;
        add_item(s, b, sl, nigh_speculation_item(&sl->writing, b->logits));
    }
}

/* Tokens of prompts in a turn that others wait for. */
static uint32_t shared_piece(const nigh_sched *s) {
    if (s->prompt_ns <= 0) return PIECE_FIRST;
    double tokens = SHARED_TURN_MS * 1e6 / s->prompt_ns;
    return tokens < PIECE_MIN ? PIECE_MIN : tokens > 4096 ? 4096 : (uint32_t)tokens;
}

static void add_readers(nigh_sched *s, batch *b, uint32_t readers) {
    uint32_t left = nigh_runner_limit(s->runner) - b->rows;
    if (b->count) left = (uint32_t)nigh_min(left, shared_piece(s));
    for (size_t k = 0; k < s->o.parallel && left && readers; k++) {
        slot *sl = &s->slots[(s->turn + k) % s->o.parallel];
        if (!may_go(sl) || !is_reading(sl->seq) || sl->seq->leader) continue;
        sequence *q = sl->seq;
        uint32_t want = (uint32_t)q->ids.len - q->read, share = (left + readers - 1) / readers,
            count = want < share ? want : share;
        sl->logits = b->logits;
        add_item(s, b, sl, (nigh_batch_item){ .session = sl->session, .tokens = q->ids.ptr + q->read, .count = count,
            .logits = count == want ? b->logits : NULL });
        b->prompt_rows += count;
        left -= count;
        readers--;
    }
}

static void gather(nigh_sched *s, batch *b) {
    uint32_t readers = 0;
    *b = (batch){ .logits = s->rows };
    for (slot *sl = s->slots; sl < s->slots + s->o.parallel; sl++)
        readers += may_go(sl) && is_reading(sl->seq) && !sl->seq->leader;
    if (s->o.draft_model) pthread_mutex_lock(s->o.pool_lock);      /* its evaluations use the pool, too */
    add_writers(s, b, readers == 0);
    if (s->o.draft_model) pthread_mutex_unlock(s->o.pool_lock);
    add_readers(s, b, readers);
}

static nigh_status evaluate(nigh_sched *s, const nigh_batch_item *items, size_t count, uint64_t *ns, nigh_err *err) {
    pthread_mutex_lock(s->o.pool_lock);
    uint64_t begin_ns = s->o.now_ns();
    nigh_status status = nigh_runner_eval(s->runner, items, count, err);
    *ns = s->o.now_ns() - begin_ns;
    pthread_mutex_unlock(s->o.pool_lock);
    return status;
}

static void learn_times(nigh_sched *s, const batch *b, uint64_t ns) {
    if (b->prompt_rows == 0) nigh_draft_cost_add(&s->cost, b->rows, ns);
    if (b->prompt_rows < PIECE_MIN) return;
    double each = (double)ns / b->rows;
    s->prompt_ns = s->prompt_ns > 0 ? s->prompt_ns + (each - s->prompt_ns) / 4 : each;
}

/* After an item's evaluation: a prompt has been read further, or to its end; then there is a row to pick from. */
static bool take_item(nigh_sched *s, slot *sl, uint32_t count) {
    sequence *q = sl->seq;
    if (!is_reading(q)) {
        nigh_speculation_evaluated(&sl->writing);
        atomic_fetch_add(&s->o.metrics->guesses, count - 1);
        return true;
    }
    q->read += count;
    if (is_reading(q)) return false;
    nigh_speculation_start(&sl->writing, q->ids.ptr, q->ids.len);
    return true;
}

/* A batch that failed is tried again item by item and without guesses, so that only the one that is to blame ends. */
static nigh_status evaluate_alone(nigh_sched *s, batch *b, size_t i, nigh_err *err) {
    slot *sl = b->from[i];
    uint64_t ns;
    if (!is_reading(sl->seq)) {
        nigh_speculation_only_last(&sl->writing);
        b->items[i] = nigh_speculation_item(&sl->writing, sl->logits);
    }
    return evaluate(s, &b->items[i], 1, &ns, err);
}

bool nigh_sched_run_batch(nigh_sched *s) {
    batch b;
    pick picks[PARALLEL_MAX];
    sequence *of[PARALLEL_MAX];
    nigh_err err = { 0 };
    uint64_t ns;
    size_t ready = 0;
    follow_leaders(s);
    gather(s, &b);
    if (!b.count) return false;
    nigh_status all = evaluate(s, b.items, b.count, &ns, &err);
    if (all == NIGH_OK) learn_times(s, &b, ns);
    atomic_fetch_add(&s->o.metrics->batches, 1);
    for (size_t i = 0; i < b.count; i++) of[i] = b.from[i]->seq;
    for (size_t i = 0; i < b.count; i++) {
        if (b.from[i]->seq != of[i]) continue;          /* its job ended in this very loop */
        nigh_status status = all == NIGH_OK ? all : evaluate_alone(s, &b, i, &err);
        atomic_fetch_add(&s->o.metrics->batch_tokens, b.items[i].count);
        if (status != NIGH_OK) nigh_sched_end_job(s, of[i]->owner, status, &err);
        else if (take_item(s, b.from[i], b.items[i].count)) picks[ready++] = (pick){ .sl = b.from[i], .of = of[i] };
    }
    pick_tokens(s, picks, ready);
    return true;
}
