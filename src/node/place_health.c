/* place_health.c - what is so now: this device, and the targets.
 *
 * The device is measured at most once a second. Of a target the last 64 good answers count, for five minutes: from
 * five on they give the 95th percentiles that a decision compares with a feature's limits. So a target that was left
 * out for being slow is asked again once its samples are old.
 *
 * One that was outrun by a second target (hedge) counts as being as slow as it was until then.
 *
 * The breaker: three failures in a row, and a target is left alone for 2 s, doubled with each further failure up to
 * 60 s, or for as long as it asked itself (429 with a time). After that one request may try; its end decides. */
#include "node/place_parts.h"

#include "base/os.h"
#include "node/facts.h"

enum { FACTS_MS = 1000, OLD_MS = 300000, FEW = 5, CLOSED_MS = 2000, CLOSED_MAX_MS = 60000 };

uint64_t place_now_ms(void) { return nigh_os_now_ns() / 1000000; }

/* ---- facts ---- */

void place_facts(nigh_place *p, nigh_str tenant, nigh_place_facts *out, uint32_t *first, uint32_t *total) {
    uint64_t now_ms = place_now_ms();
    pthread_mutex_lock(&p->lock);
    if (!p->facts_ms || now_ms - p->facts_ms >= FACTS_MS) {
        nigh_facts_measure(&p->facts, p->node->cpu);
        p->facts_ms = now_ms;
    }
    *out = p->facts;
    out->unhealthy = p->lacking;
    for (size_t t = 0; t < p->policy->target_count; t++) {
        const place_target *s = &p->targets[t];
        bool fresh = s->count && now_ms - s->sampled_ms < OLD_MS;
        first[t] = fresh ? s->first_p95 : 0;
        total[t] = fresh ? s->total_p95 : 0;
        bool closed = s->closed_until_ms && (now_ms < s->closed_until_ms || s->probing);
        out->unhealthy |= (uint64_t)closed << t;
    }
    pthread_mutex_unlock(&p->lock);
    out->now_s = nigh_os_unix_ms() / 1000;
    out->online = !atomic_load(&p->offline) && (out->online || p->near);
    out->models = p->models;
    out->tenant_zones = nigh_place_tenant(p->policy, tenant);
    out->first_token_ms = first;
    out->total_ms = total;
}

/* ---- targets ---- */

bool place_target_try(nigh_place *p, uint32_t t) {
    place_target *s = &p->targets[t];
    uint64_t now_ms = place_now_ms();
    pthread_mutex_lock(&p->lock);
    bool may = !s->closed_until_ms || (now_ms >= s->closed_until_ms && !s->probing);
    if (may) {
        s->probing = s->closed_until_ms != 0;
        s->tries++;
    }
    pthread_mutex_unlock(&p->lock);
    return may;
}

static uint32_t p95(const uint32_t *samples, uint32_t count) {
    uint32_t sorted[PLACE_SAMPLES];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t v = samples[i], at = i;
        for (; at && sorted[at - 1] > v; at--) sorted[at] = sorted[at - 1];
        sorted[at] = v;
    }
    return count < FEW ? 0 : sorted[(count * 95 + 99) / 100 - 1];
}

static double ewma(double was, double now) { return was > 0 ? was * 0.8 + now * 0.2 : now; }

static void measure(place_target *s, const place_hop *hop, uint64_t now_ms) {
    if (now_ms - s->sampled_ms >= OLD_MS) s->count = 0;
    s->sampled_ms = now_ms;
    s->first_ms[s->count % PLACE_SAMPLES] = hop->first_ms;
    s->total_ms[s->count % PLACE_SAMPLES] = hop->total_ms;
    s->count++;
    uint32_t n = s->count < PLACE_SAMPLES ? s->count : PLACE_SAMPLES;
    if (n < PLACE_SAMPLES || s->count % 8 == 0) {
        s->first_p95 = p95(s->first_ms, n);
        s->total_p95 = p95(s->total_ms, n);
    }
    s->first_ewma = ewma(s->first_ewma, hop->first_ms);
    s->total_ewma = ewma(s->total_ewma, hop->total_ms);
}

/* Does this end say something of the target, rather than of the request? */
static bool is_failure(place_end end) {
    return end == PLACE_UNREACHABLE || end == PLACE_TIMEOUT || end == PLACE_FAILED || end == PLACE_MALFORMED
           || end == PLACE_CUT || end == PLACE_BUSY || end == PLACE_ADDRESS || end == PLACE_PEER;
}

/* Did the target itself answer, in whatever words? */
static bool is_answer(place_end end) {
    return end == PLACE_OK || end == PLACE_REJECTED || end == PLACE_CONTEXT || end == PLACE_UNSURE;
}

static void close_for(place_target *s, const place_hop *hop, uint64_t now_ms) {
    uint32_t over = s->failures - PLACE_OPEN_AFTER;
    uint64_t wait_ms = over < 5 ? (uint64_t)CLOSED_MS << over : CLOSED_MAX_MS;
    if (hop->end == PLACE_BUSY && hop->retry_ms) wait_ms = nigh_min(hop->retry_ms, CLOSED_MAX_MS);
    s->closed_until_ms = now_ms + wait_ms;
}

void place_target_ended(nigh_place *p, uint32_t t, const place_hop *hop, const char *error) {
    place_target *s = &p->targets[t];
    uint64_t now_ms = place_now_ms();
    pthread_mutex_lock(&p->lock);
    s->ends[hop->end]++;
    s->bytes_out += hop->bytes_out;
    s->bytes_in += hop->bytes_in;
    s->probing = false;
    if (is_failure((place_end)hop->end)) {
        s->failures++;
        nigh_format(s->error, sizeof s->error, "%s%s%s", place_end_name((place_end)hop->end), error ? ": " : "", error
            ? error : "");
        if (s->failures >= PLACE_OPEN_AFTER) close_for(s, hop, now_ms);
    } else if (is_answer((place_end)hop->end)) {
        s->failures = 0;
        s->closed_until_ms = 0;
    }
    s->answers += hop->end == PLACE_OK;
    if (hop->end == PLACE_OK || hop->end == PLACE_OUTRUN) measure(s, hop, now_ms);
    pthread_mutex_unlock(&p->lock);
}

uint32_t place_hedge_ms(nigh_place *p, uint32_t t, const nigh_feature *f) {
    uint64_t now_ms = place_now_ms();
    pthread_mutex_lock(&p->lock);
    const place_target *s = &p->targets[t];
    uint32_t measured = s->count && now_ms - s->sampled_ms < OLD_MS ? s->first_p95 : 0;
    pthread_mutex_unlock(&p->lock);
    return f->hedge_p95 && measured && measured < f->hedge_ms ? measured : f->hedge_ms;
}
