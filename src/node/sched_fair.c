/* sched_fair.c - whose turn it is, when several tenants wait.
 *
 * Each tenant has a clock that runs by the tokens it gets: those of its prompts when they begin, then one for each that
 * is written. The next place goes to the waiting sequence whose tenant's clock is furthest behind; among its own they
 * come in their order, so with one tenant alone it is first come, first served. A tenant that comes back does not bring
 * credit: its clock is moved up to that of the one who had the last turn.
 *
 * A crowd of one tenant must not fill the queue before another's door either: when the queue is full, a tenant that has
 * little waiting gets in all the same, up to twice the queue in all.
 *
 * Tenants stand in a table by their number; two that fall on one row share its clock and its place, no more. */
#include "node/sched_parts.h"

static size_t row_of(uint64_t tenant) { return tenant % TENANTS; }

bool nigh_sched_may_wait(const nigh_sched *s, const job *j) {
    if (s->queued + j->weight <= s->o.queue_max) return true;
    return s->tenant_queued[row_of(j->who.tenant)] + j->weight <= s->o.queue_max / 4
        && s->queued + j->weight <= 2 * (size_t)s->o.queue_max;
}

void nigh_sched_came(nigh_sched *s, uint64_t tenant) {
    tenant_turn *t = &s->turns[row_of(tenant)];
    if (t->here++ == 0 && t->got < s->fair_time) t->got = s->fair_time;
}

void nigh_sched_went(nigh_sched *s, uint64_t tenant) { s->turns[row_of(tenant)].here--; }

void nigh_sched_got(nigh_sched *s, uint64_t tenant, uint32_t tokens) { s->turns[row_of(tenant)].got += tokens; }

sequence **nigh_sched_next(nigh_sched *s) {
    sequence **best = s->waiting_end;
    for (sequence **at = &s->waiting; *at; at = &(*at)->next) {
        if ((*at)->owner->full_since_ms) continue;
        if (!*best || s->turns[row_of((*at)->who.tenant)].got < s->turns[row_of((*best)->who.tenant)].got) best = at;
    }
    if (*best) s->fair_time = s->turns[row_of((*best)->who.tenant)].got;
    return best;
}

job **nigh_sched_next_embed(nigh_sched *s) {
    job **best = &s->embeds;
    for (job **at = &s->embeds; *at; at = &(*at)->next)
        if (s->turns[row_of((*at)->who.tenant)].got < s->turns[row_of((*best)->who.tenant)].got) best = at;
    if (*best) s->fair_time = s->turns[row_of((*best)->who.tenant)].got;
    return best;
}
