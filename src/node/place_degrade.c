/* place_degrade.c - what comes when no target is left, in the order the feature declares; at the end an error that
 * names the rules. A step obeys the same rules as everything else: it never makes a target allowed. */
#include "node/place_parts.h"

#include "base/os.h"

enum { RETRIES_MAX = 3, RETRY_MS = 500 };

/* What became of the tries, in words: "mid unreachable, big-eu timeout". */
static void tries_text(const nigh_placed *pl, char *out, size_t cap) {
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < pl->hop_count && n < cap; i++) {
        nigh_str name = pl->place->policy->targets[pl->hops[i].target_idx].name;
        n += nigh_format(out + n, cap - n, "%s%.*s %s", n ? ", " : "", (int)nigh_min(name.len, 40), name.ptr,
            place_end_name((place_end)pl->hops[i].end));
    }
}

/* Could an allowed target answer in a while? */
static bool may_pass(const nigh_placed *pl) {
    unsigned passing = NIGH_WHY_OFFLINE | NIGH_WHY_HEALTH | NIGH_WHY_LATENCY;
    return pl->d.allowed && (pl->hop_count || (pl->refused & passing));
}

/* No target at all: 503 when it may be otherwise in a moment, 403 when only another request or policy would help. */
static void end_without(nigh_placed *pl) {
    char text[480], names[128];
    if (pl->hop_count) {
        bool late = !place_left_ms(pl);
        tries_text(pl, names, sizeof names);
        nigh_format(pl->rule, sizeof pl->rule, "%s", late ? "latency" : "health");
        nigh_format(text, sizeof text, "no target of this feature answered%s: %s%s%s", late ? " in its time" : "",
            names, pl->lacks[0] ? "; " : "", pl->lacks);
        place_error(pl, late ? 504 : 503, "policy_no_target", pl->rule, text);
        return;
    }
    place_why_names(pl->refused, names, sizeof names);
    nigh_format(pl->rule, sizeof pl->rule, "%s", names[0] ? names : "place");
    nigh_format(text, sizeof text, "no target may and can serve this; the rules that refuse them: %s", pl->rule);
    place_error(pl, may_pass(pl) ? 503 : 403, "policy_no_target", pl->rule, text);
}

/* ---- once more ---- */

/* A target that was busy may be asked again when it said, within the feature's time. */
static bool retry(nigh_placed *pl) {
    uint64_t seen = 0;
    uint32_t wait = UINT32_MAX;
    if (pl->retries >= RETRIES_MAX || pl->a->begun) return false;
    for (size_t i = pl->hop_count; i-- > 0;) {
        const place_hop *h = &pl->hops[i];
        if (h->end != PLACE_BUSY || (seen >> h->target_idx & 1)) continue;
        seen |= (uint64_t)1 << h->target_idx;
        uint32_t ms = h->retry_ms ? h->retry_ms : RETRY_MS;
        if (ms < wait) wait = ms;
    }
    if (!seen || wait >= place_left_ms(pl) / 2) return false;
    pl->tried &= ~seen;
    pl->retries++;
    place_wait(pl, wait);
    return true;
}

/* ---- steps ---- */

/* A model of this node that was not sure: better than nothing, and said so. */
static bool give_unsure(nigh_placed *pl) {
    nigh_answer *a = pl->a;
    if (!pl->unsure.len || a->begun || nigh_openai_make_choices(a, 1) != NIGH_OK) return false;
    nigh_buf_release(&a->choices[0].text);
    a->choices[0].text = pl->unsure;
    pl->unsure = NIGH_BUF(0);
    a->choices[0].token_count = pl->unsure_tokens;
    pl->t = pl->unsure_t;
    a->served = pl->place->served[pl->t];
    a->model = a->served->id;
    a->model_sha256 = a->served->sha256;
    nigh_format(pl->degraded, sizeof pl->degraded, "confidence; below the threshold");
    place_answer(pl);
    return true;
}

/* A smaller answer of a target that was not tried. */
static bool try_target(nigh_placed *pl, const nigh_degrade *g) {
    nigh_str name = pl->place->policy->targets[g->target_idx].name;
    uint32_t asked = pl->a->r.max_tokens ? (uint32_t)pl->a->r.max_tokens : UINT32_MAX;
    if ((pl->tried >> g->target_idx & 1) || !place_left_ms(pl)) return false;
    if (g->max_tokens) {
        pl->max_tokens = g->max_tokens < asked ? g->max_tokens : asked;
        pl->a->r.max_tokens = pl->max_tokens;
        pl->ask.max_tokens = pl->max_tokens;
    }
    place_decide(pl, pl->a->rights, pl->a->user);
    if (!(pl->d.usable >> g->target_idx & 1)) return false;
    pl->d.order[0] = (uint8_t)g->target_idx;
    pl->d.count = 1;
    nigh_format(pl->degraded, sizeof pl->degraded, "target:%.*s", (int)nigh_min(name.len, 40), name.ptr);
    if (g->max_tokens) {
        size_t n = strlen(pl->degraded);
        nigh_format(pl->degraded + n, sizeof pl->degraded - n, ",max_tokens=%u", g->max_tokens);
    }
    pl->step++;                         /* should it fail, the next one */
    place_next(pl);
    return true;
}

static bool enqueue(nigh_placed *pl, const nigh_degrade *g) {
    nigh_err err = { 0 };
    if (!pl->a->x || pl->a->begun || !pl->place->outbox || !may_pass(pl)) return false;
    return place_enqueue(pl, g->seconds, &err) == NIGH_OK;
}

void place_degrade(nigh_placed *pl) {
    if (retry(pl) || give_unsure(pl)) return;
    for (; pl->f && pl->step < pl->f->degrade_count && !pl->queue_id[0]; pl->step++) {
        const nigh_degrade *g = &pl->f->degrade[pl->step];
        if (g->kind == NIGH_DEGRADE_CACHE && !pl->a->begun && place_stale(pl, g->seconds)) { place_answer(pl); return; }
        if (g->kind == NIGH_DEGRADE_TARGET && !pl->a->begun && try_target(pl, g)) return;
        if (g->kind == NIGH_DEGRADE_QUEUE && enqueue(pl, g)) return;
        if (g->kind == NIGH_DEGRADE_ERROR) break;
    }
    pl->degraded[0] = '\0';
    end_without(pl);
}
