/* place_try.c - one target after the other, until one has answered.
 *
 *     place_next   (reader's thread)   the next target of the decision: starts a try, or the steps of degrade;
 *                                      on a socket's thread only a first try of another place
 *     place_ended  (any thread)        a try is over: the answer is sent, or the next one is asked, or an error
 *
 * A try that ended badly is followed by the next target when that is no escalation (the place failed), or one that the
 * feature declares (the request was too much for the place). All within the feature's total time. */
#include "node/place_parts.h"

#include "base/os.h"

static const char *const end_names[PLACE_ENDS] = { "ok", "cancelled", "address", "unreachable", "timeout", "busy",
    "rejected", "context", "failed", "malformed", "cut", "unsupported", "oom", "unsure", "redaction", "model",
    "outrun", "peer" };
const char *place_end_name(place_end end) { return end < PLACE_ENDS ? end_names[end] : "?"; }

uint32_t place_left_ms(const nigh_placed *pl) {
    uint64_t now_ms = place_now_ms();
    return now_ms >= pl->until_ms ? 0 : (uint32_t)(pl->until_ms - now_ms);
}

place_hop *place_hop_now(nigh_placed *pl) { return &pl->hops[pl->hop_count - 1]; }

void place_note_first(nigh_placed *pl) {
    place_hop *hop = place_hop_now(pl);
    if (!hop->first_ms) hop->first_ms = (uint32_t)(place_now_ms() - pl->try_began_ms) + 1;
    if (!pl->first_ms) pl->first_ms = (uint32_t)(nigh_openai_us(pl->a) / 1000) + 1;
}

bool place_has_next(const nigh_placed *pl) {
    for (size_t i = 0; i < pl->d.count; i++) if (!(pl->tried >> pl->d.order[i] & 1)) return true;
    return false;
}

/* From here on only a feature that goes on elsewhere, keeps answers or is captured needs the words of the request. */
void place_begin_stream(nigh_placed *pl) {
    place_head(pl, false);
    nigh_openai_begin_stream(pl->a);
    if (!pl->keep_sent && !pl->catches) (void)!nigh_request_forget(&pl->a->r);
}

/* ---- one try ---- */

nigh_status place_make_room(nigh_placed *pl) {
    nigh_answer *a = pl->a;
    pl->keep_sent = a->r.stream && !pl->beyond_away
                    && ((pl->f && pl->f->stream_failure == NIGH_STREAM_CONTINUE) || place_keeps(pl));
    pl->catches = a->r.stream && place_captured(pl);
    pl->before.len = 0;
    if (!a->begun) pl->sent.len = pl->caught.len = 0;
    NIGH_TRY(nigh_buf_add(&pl->before, nigh_buf_str(&pl->sent)));
    a->goes_on = nigh_buf_str(&pl->before);
    a->broken = false;
    return NIGH_OK;
}

void place_push_hop(nigh_placed *pl, uint32_t t) {
    if (pl->hop_count == PLACE_HOPS_MAX) {      /* the first ones are the least telling */
        memmove(pl->hops, pl->hops + 1, sizeof *pl->hops * (PLACE_HOPS_MAX - 1));
        pl->hop_count--;
    }
    pl->hops[pl->hop_count++] = (place_hop){ .target_idx = (uint8_t)t, .end = PLACE_OK };
}

static void begin_hop(nigh_placed *pl, uint32_t t) {
    place_push_hop(pl, t);
    pl->t = t;
    pl->tried |= (uint64_t)1 << t;
    pl->try_began_ms = place_now_ms();
    /* As long as there is another place, half of the time is left for it. */
    uint32_t left = place_left_ms(pl);
    pl->try_until_ms = pl->try_began_ms + (pl->f && pl->f->total_ms && place_has_next(pl) ? left / 2 : left);
    pl->timed_out = false;
}

/* What the feature declares as a ground to go on. */
static unsigned ground_of(place_end end) {
    switch (end) {
    case PLACE_UNSURE: return NIGH_ESCALATE_CONFIDENCE;
    case PLACE_CONTEXT: return NIGH_ESCALATE_CONTEXT;
    case PLACE_UNSUPPORTED: return NIGH_ESCALATE_UNSUPPORTED;
    case PLACE_TIMEOUT: return NIGH_ESCALATE_TIMEOUT;
    case PLACE_MEMORY: return NIGH_ESCALATE_MEMORY;
    default: return 0;
    }
}

bool place_may_go_on(const nigh_placed *pl, place_end end) {
    bool home = pl->place->policy->targets[pl->t].tier == NIGH_TIER_DEVICE;
    unsigned ground = ground_of(end);
    if (end == PLACE_CANCELLED || end == PLACE_REDACTION || (pl->queue_id[0] && pl->maybe_sent)) return false;
    if (end == PLACE_TIMEOUT && !home) return true;
    if (ground) return pl->f && (pl->f->escalate & ground);
    return end != PLACE_REJECTED || !home;
}

static void close_hop(nigh_placed *pl, place_end end, const char *error) {
    place_hop *hop = place_hop_now(pl);
    hop->end = (uint8_t)end;
    hop->total_ms = (uint32_t)(place_now_ms() - pl->try_began_ms);
    if (hop->total_ms < hop->first_ms) hop->total_ms = hop->first_ms;
    place_target_ended(pl->place, pl->t, hop, error);
}

/* ---- an end that is an error ---- */

/* A try of the last place said why it cannot be: that is what the client hears, under the name of the rule. */
static void end_refused(nigh_placed *pl, place_end end, const nigh_refusal *why) {
    static const struct { place_end end; const char *rule; } rules[] = {
        { PLACE_CONTEXT, "escalate.context_overflow" }, { PLACE_UNSUPPORTED, "escalate.unsupported" },
        { PLACE_TIMEOUT, "escalate.timeout" }, { PLACE_MEMORY, "escalate.oom" } };
    for (size_t i = 0; i < NIGH_COUNT(rules); i++)
        if (rules[i].end == end) nigh_format(pl->rule, sizeof pl->rule, "%s", rules[i].rule);
    if (why && why->code) {
        place_error(pl, why->status, why->code, why->param, why->text);
        return;
    }
    if (end == PLACE_TIMEOUT)
        place_error(pl, 504, "policy_timeout", "latency",
            "the feature's time is over, and it does not escalate on timeout");
    else if (end == PLACE_CONTEXT) place_error(pl, 400, "context_length_exceeded", "messages",
        "the text is longer than the target takes, and the feature does not escalate on context_overflow");
    else place_error(pl, 502, "policy_no_target", place_end_name(end), "the target could not answer");
}

/* ---- the next one ---- */

static place_end start(nigh_placed *pl, uint32_t t, nigh_refusal *why) {
    begin_hop(pl, t);
    bool home = pl->place->policy->targets[t].tier == NIGH_TIER_DEVICE;
    return home ? place_local_start(pl, why) : place_away_start(pl, why);
}

/* The next target that was not tried and may be; UINT32_MAX: none. */
static uint32_t pick(nigh_placed *pl) {
    for (size_t i = 0; i < pl->d.count; i++) {
        uint32_t t = pl->d.order[i];
        if (pl->tried >> t & 1) continue;
        if (place_target_try(pl->place, t)) return t;
        pl->tried |= (uint64_t)1 << t;
        pl->refused |= NIGH_WHY_HEALTH;
    }
    return UINT32_MAX;
}

/* Is the next target another place? Its socket's thread may ask it. */
static bool is_away(const nigh_placed *pl) {
    for (size_t i = 0; i < pl->d.count; i++)
        if (!(pl->tried >> pl->d.order[i] & 1))
            return pl->place->policy->targets[pl->d.order[i]].tier != NIGH_TIER_DEVICE;
    return false;
}

void place_next(nigh_placed *pl) {
    nigh_refusal why = { 0 };
    while (place_left_ms(pl) && (!pl->on_socket || is_away(pl))) {
        uint32_t t = pick(pl);
        if (t == UINT32_MAX) break;
        place_end end = start(pl, t, &why);
        if (end == PLACE_OK) return;
        close_hop(pl, end, why.text);
        if (!place_may_go_on(pl, end)) { end_refused(pl, end, &why); return; }
    }
    if (pl->on_socket) place_post(pl, NULL);
    else place_degrade(pl);
}

static void run_next(nigh_node *n, nigh_prep *p) {
    (void)n;
    place_next((nigh_placed *)(void *)p);
}

void place_post(nigh_placed *pl, void (*run)(nigh_node *n, nigh_prep *p)) {
    pl->on_socket = false;
    pl->prep.run = run ? run : run_next;
    if (!nigh_node_post(pl->place->node, &pl->prep))
        place_error(pl, 503, "stopping", NULL, "the node is stopping");
}

/* A stream of which the client has something: may another place go on from there? */
static bool may_continue(const nigh_placed *pl, place_end end) {
    return pl->f && pl->f->stream_failure == NIGH_STREAM_CONTINUE && pl->keep_sent && !pl->a->tool_count
           && !pl->a->broken && place_may_go_on(pl, end) && place_has_next(pl);
}

void place_ended(nigh_placed *pl, place_end end, const char *error) {
    nigh_refusal why = { 0 };
    close_hop(pl, end, error);
    if (end == PLACE_OK) { place_answer(pl); return; }
    if (end == PLACE_CANCELLED) { place_error(pl, 503, "cancelled", NULL, error ? error : "cancelled"); return; }
    if (pl->a->begun && !may_continue(pl, end)) {
        nigh_format(pl->rule, sizeof pl->rule, "stream_failure");
        place_error(pl, 502, "policy_stream_broken", "stream_failure",
            "the place that answered broke off, and the feature does not go on elsewhere");
        return;
    }
    if (place_may_go_on(pl, end)) place_post(pl, NULL);
    else end_refused(pl, end, &why);
}
