/* decide.c - see decide.h. Rules that stand in the policy alone were made into masks when it was read;
 * here they are intersected with the masks of this device, and what is left is put in order.
 *
 * Unknown feature: every device target is a candidate, the class is the most private one, and there is no
 * rule about quality, time or money. So a name that nobody declared works, and nothing leaves. */
#include "place/decide.h"

static const struct { const char *name, *text; } whys[NIGH_WHYS] = {
    { "place", "the feature does not name it as a place to run" },
    { "class", "data of this class may not go there" },
    { "region", "it is not known to be inside the feature's region" },
    { "tenant", "its zone does not serve this tenant" },
    { "retention", "it keeps what it gets longer than the feature allows, or does not say" },
    { "training", "it may train on what it gets" },
    { "quality", "its score in the feature's evaluation is too low or missing" },
    { "needs", "this device lacks the memory or the instruction set it needs" },
    { "device", "battery, temperature or a metered line forbid it now" },
    { "model", "its model is not on this device, or is not the one that the policy names" },
    { "expired", "the policy has expired; only the device is left" },
    { "offline", "there is no network" },
    { "health", "it failed lately and is left alone for a while" },
    { "latency", "it was measured to be slower than the feature allows" },
    { "cost", "it would cost more than the feature allows" },
    { "context", "the request is longer than it can take" },
    { "unsupported", "it cannot do what the request asks for" },
};

const char *nigh_why_name(unsigned bit_idx) { return bit_idx < NIGH_WHYS ? whys[bit_idx].name : "?"; }
const char *nigh_why_text(unsigned bit_idx) { return bit_idx < NIGH_WHYS ? whys[bit_idx].text : "?"; }

double nigh_place_cost(const nigh_target *t, uint32_t prompt_tokens, uint32_t max_tokens) {
    if (!t->has_cost) return (double)__builtin_inff();
    return (t->cost_in * prompt_tokens + t->cost_out * max_tokens) * 1e-6;
}

static bool zone_serves(const nigh_zone *z, nigh_str tenant) {
    if (!z->tenants) return true;
    for (const nigh_json *t = z->tenants->first; t; t = t->next)
        if (nigh_str_eq(t->text, tenant)) return true;
    return false;
}

uint64_t nigh_place_tenant(const nigh_policy *p, nigh_str tenant) {
    uint64_t mask = 0;
    bool serves[NIGH_ZONES_MAX];
    for (size_t z = 0; z < p->zone_count; z++) serves[z] = zone_serves(&p->zones[z], tenant);
    for (size_t t = 0; t < p->target_count; t++) {
        const nigh_target *target = &p->targets[t];
        bool ok = target->tier == NIGH_TIER_EDGE && (target->zone_idx == UINT32_MAX || serves[target->zone_idx]);
        mask |= (uint64_t)ok << t;
    }
    return mask;
}

/* ---- the request's class and feature ---- */

/* What an unknown feature gets. */
static const nigh_feature unknown_feature = { .eval_idx = UINT32_MAX, .per_call_usd = -1, .per_user_day_usd = -1,
                                              .thermal_max = NIGH_THERMAL_CRITICAL };

typedef struct { const nigh_feature *f; nigh_feature_mask mask; uint32_t class_idx; } subject;

static uint32_t higher(const nigh_policy *p, uint32_t a, uint32_t b) {
    if (b == UINT32_MAX) return a;
    if (b >= p->class_count) return p->top_class_idx;
    return p->classes[b].level > p->classes[a].level ? b : a;
}

static subject subject_of(const nigh_policy *p, const nigh_place_request *r) {
    subject s;
    if (r->feature_idx < p->feature_count) {
        s = (subject){ &p->features[r->feature_idx], p->feature_mask[r->feature_idx],
                       p->features[r->feature_idx].class_idx };
    } else {
        uint64_t home = p->tier[NIGH_TIER_DEVICE];
        s = (subject){ &unknown_feature, { home, home, home, home }, p->top_class_idx };
    }
    s.class_idx = higher(p, higher(p, s.class_idx, r->data_class_idx), r->found_class_idx);
    return s;
}

static bool expired(const nigh_policy *p, uint64_t now_s) {
    return now_s > p->valid_until_s && now_s - p->valid_until_s > p->grace_s;
}

/* ---- rules about this device ---- */

static bool fits_device(const nigh_target *t, const nigh_place_facts *facts) {
    return t->need_ram_mb <= facts->ram_mb && (t->need_isa == 0 || (t->need_isa & facts->isa));
}

static bool device_may_work(const nigh_feature *f, const nigh_place_facts *facts) {
    return facts->ram_mb >= f->min_ram_mb && (facts->on_mains || facts->battery_percent >= f->battery_min)
           && facts->thermal <= f->thermal_max;
}

static bool line_forbids(const nigh_feature *f, const nigh_place_facts *facts, nigh_tier tier) {
    if (!facts->metered || tier == NIGH_TIER_DEVICE) return false;
    return f->metered == NIGH_METERED_DEVICE_ONLY || (f->metered == NIGH_METERED_NO_CLOUD && tier == NIGH_TIER_CLOUD);
}

static uint64_t device_mask(const nigh_policy *p, const nigh_feature *f, const nigh_place_facts *facts) {
    uint64_t home = 0, away = p->tier[NIGH_TIER_EDGE] | p->tier[NIGH_TIER_CLOUD];
    if (device_may_work(f, facts))
        for (uint64_t left = p->tier[NIGH_TIER_DEVICE] & facts->models; left; left &= left - 1) {
            unsigned t = (unsigned)__builtin_ctzll(left);
            if (fits_device(&p->targets[t], facts)) home |= (uint64_t)1 << t;
        }
    if (line_forbids(f, facts, NIGH_TIER_EDGE)) away &= ~p->tier[NIGH_TIER_EDGE];
    if (line_forbids(f, facts, NIGH_TIER_CLOUD)) away &= ~p->tier[NIGH_TIER_CLOUD];
    return home | away;
}

/* ---- rules about this moment ---- */

static bool too_slow(const nigh_feature *f, const nigh_place_facts *facts, uint32_t t) {
    bool first = f->first_token_ms && facts->first_token_ms && facts->first_token_ms[t] > f->first_token_ms;
    return first || (f->total_ms && facts->total_ms && facts->total_ms[t] > f->total_ms);
}

static bool over_budget(const nigh_feature *f, const nigh_place_request *r, double cost) {
    return (f->per_call_usd >= 0 && cost > f->per_call_usd)
           || (f->per_user_day_usd >= 0 && cost > 0 && r->spent_today_usd + cost > f->per_user_day_usd);
}

static bool too_dear(const nigh_feature *f, const nigh_place_request *r, const nigh_target *t) {
    if (f->per_call_usd < 0 && f->per_user_day_usd < 0) return false;
    return over_budget(f, r, nigh_place_cost(t, r->prompt_tokens, r->max_tokens));
}

static bool too_long(const nigh_place_request *r, const nigh_target *t) {
    return t->context_tokens && (uint64_t)r->prompt_tokens + r->max_tokens > t->context_tokens;
}

static unsigned moment(const nigh_policy *p, const subject *s, const nigh_place_facts *facts,
                       const nigh_place_request *r, uint32_t t) {
    const nigh_target *target = &p->targets[t];
    unsigned why = 0;
    if (target->tier != NIGH_TIER_DEVICE && !facts->online) why |= NIGH_WHY_OFFLINE;
    if (facts->unhealthy >> t & 1) why |= NIGH_WHY_HEALTH;
    if (too_slow(s->f, facts, t)) why |= NIGH_WHY_LATENCY;
    if (too_dear(s->f, r, target)) why |= NIGH_WHY_COST;
    if (too_long(r, target)) why |= NIGH_WHY_CONTEXT;
    if (r->needs & ~target->can) why |= NIGH_WHY_UNSUPPORTED;
    return why;
}

/* ---- order ---- */

/* Smaller is tried earlier; equal ones keep the feature's order. */
static double rank_of(const nigh_policy *p, const subject *s, const nigh_place_facts *facts,
                      const nigh_place_request *r, uint32_t t) {
    const nigh_target *target = &p->targets[t];
    switch (s->f->rank) {
    case NIGH_RANK_LATENCY: {
        uint32_t ms = facts->first_token_ms ? facts->first_token_ms[t] : 0;
        return ms ? (double)ms : 1e9 + (double)target->tier;    /* what nobody measured comes after what somebody did */
    }
    case NIGH_RANK_COST: return nigh_place_cost(target, r->prompt_tokens, r->max_tokens);
    case NIGH_RANK_QUALITY: return -p->evals[s->f->eval_idx].score[t];
    default: return (double)target->tier;
    }
}

/* splitmix64 (Sebastiano Vigna, https://prng.di.unimi.it/splitmix64.c): a number for each draw from one seed. */
static uint64_t drawn_number(uint64_t seed, size_t n) {
    uint64_t x = seed + (uint64_t)n * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Weights of those that are equal to the one at `from`, and stand behind it; *end: behind the last of them. */
static uint64_t weights_from(const nigh_feature *f, const double *key, const nigh_decision *d, size_t from,
                             size_t *end) {
    uint64_t sum = 0;
    for (*end = from; *end < d->count && !(key[*end] > key[from]); (*end)++) sum += f->weight[d->order[*end]];
    return sum;
}

/* Each place of the order is drawn from the equals that are left, by their weights; what has none comes last. */
static void draw_equals(const nigh_feature *f, uint64_t seed, const double *key, nigh_decision *d) {
    for (size_t n = 0, end; n + 1 < d->count; n++) {
        uint64_t sum = weights_from(f, key, d, n, &end);
        if (!sum) continue;
        uint64_t left = drawn_number(seed, n + 1) % sum;
        size_t k = n;
        for (; left >= f->weight[d->order[k]]; k++) left -= f->weight[d->order[k]];
        uint8_t drawn = d->order[k];
        for (; k > n; k--) d->order[k] = d->order[k - 1];
        d->order[n] = drawn;
    }
}

uint64_t nigh_place_seed(nigh_str id) {
    nigh_str prefix = NIGH_STR("rcpt-");
    uint64_t seed = 0;
    if (!nigh_str_starts(id, prefix) || id.len != prefix.len + 16) return 0;
    for (size_t i = prefix.len; i < id.len; i++) {
        char c = id.ptr[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && !(c >= 'a' && c <= 'f')) return 0;
        seed = seed << 4 | (uint64_t)(digit ? c - '0' : c - 'a' + 10);
    }
    return seed;
}

void nigh_place_shares(const nigh_policy *p, const nigh_place_facts *facts, const nigh_place_request *request,
                       const nigh_decision *d, double shares[NIGH_TARGETS_MAX]) {
    subject s = subject_of(p, request);
    double key[NIGH_TARGETS_MAX];
    size_t end;
    for (size_t i = 0; i < NIGH_TARGETS_MAX; i++) shares[i] = 0;
    for (size_t i = 0; i < d->count; i++) key[i] = rank_of(p, &s, facts, request, d->order[i]);
    uint64_t sum = s.f->weighted && d->count ? weights_from(s.f, key, d, 0, &end) : 0;
    if (!sum && d->count) shares[d->order[0]] = 1;
    for (size_t i = 0; sum && i < end; i++)
        shares[d->order[i]] = (double)s.f->weight[d->order[i]] / (double)sum;
}

uint32_t nigh_place_hedge(const nigh_policy *p, const nigh_place_request *request, const nigh_decision *d,
                          uint32_t first, uint64_t tried) {
    if (request->feature_idx >= p->feature_count || p->targets[first].tier == NIGH_TIER_DEVICE) return UINT32_MAX;
    const nigh_feature *f = &p->features[request->feature_idx];
    double cost = nigh_place_cost(&p->targets[first], request->prompt_tokens, request->max_tokens);
    for (size_t i = 0; f->hedge && i < d->count; i++) {
        uint32_t t = d->order[i];
        const nigh_target *target = &p->targets[t];
        if (t == first || target->tier == NIGH_TIER_DEVICE || (tried >> t & 1)) continue;
        double more = nigh_place_cost(target, request->prompt_tokens, request->max_tokens);
        if (!over_budget(f, request, cost + more)) return t;
    }
    return UINT32_MAX;
}

/* Insertion: the candidates are few. */
static void put_in_order(const nigh_policy *p, const subject *s, const nigh_place_facts *facts,
                         const nigh_place_request *r, nigh_decision *out) {
    double key[NIGH_TARGETS_MAX];
    uint64_t left = out->usable;
    for (size_t n = 0; left; n++) {
        uint32_t t = n < s->f->place_count ? s->f->place[n] : (uint32_t)__builtin_ctzll(left);
        if (!(left >> t & 1)) continue;
        left &= ~((uint64_t)1 << t);
        double k = rank_of(p, s, facts, r, t);
        size_t at = out->count++;
        for (; at && key[at - 1] > k; at--) {
            key[at] = key[at - 1];
            out->order[at] = out->order[at - 1];
        }
        key[at] = k;
        out->order[at] = (uint8_t)t;
    }
    if (s->f->weighted) draw_equals(s->f, r->seed, key, out);
}

void nigh_decide(const nigh_policy *p, const nigh_place_facts *facts, const nigh_place_request *request,
                 nigh_decision *out) {
    subject s = subject_of(p, request);
    uint32_t c = s.class_idx;
    uint64_t home = p->tier[NIGH_TIER_DEVICE];
    out->class_idx = c;
    out->redact = p->classes[c].redact;
    out->count = 0;
    out->allowed = s.mask.place & p->crosses[c] & s.mask.region & (facts->tenant_zones | ~p->tier[NIGH_TIER_EDGE])
                   & s.mask.retention & p->training[c] & s.mask.quality & device_mask(p, s.f, facts)
                   & ~p->unsigned_models & (expired(p, facts->now_s) ? home : ~(uint64_t)0);
    out->usable = 0;
    for (uint64_t left = out->allowed; left; left &= left - 1) {
        uint32_t t = (uint32_t)__builtin_ctzll(left);
        if (!moment(p, &s, facts, request, t)) out->usable |= (uint64_t)1 << t;
    }
    put_in_order(p, &s, facts, request, out);
}

unsigned nigh_place_why(const nigh_policy *p, const nigh_place_facts *facts, const nigh_place_request *request,
                        uint32_t target_idx) {
    subject s = subject_of(p, request);
    const nigh_target *t = &p->targets[target_idx];
    const nigh_class *class = &p->classes[s.class_idx];
    bool home = t->tier == NIGH_TIER_DEVICE, known = s.f != &unknown_feature;
    unsigned why = moment(p, &s, facts, request, target_idx);
    if (!(s.mask.place >> target_idx & 1)) why |= NIGH_WHY_PLACE;
    if (!class->crosses[t->tier]) why |= NIGH_WHY_CLASS;
    if (!home && (!known || (s.f->has_area && !(t->has_area && nigh_area_inside(&t->area, &s.f->area)))))
        why |= NIGH_WHY_REGION;
    if (t->tier == NIGH_TIER_EDGE && !(facts->tenant_zones >> target_idx & 1)) why |= NIGH_WHY_TENANT;
    if (t->retention_s > s.f->keep_prompt_s) why |= NIGH_WHY_RETENTION;
    if (t->trains && !class->training) why |= NIGH_WHY_TRAINING;
    if (s.f->eval_idx != UINT32_MAX && !(p->evals[s.f->eval_idx].score[target_idx] >= s.f->quality_min))
        why |= NIGH_WHY_QUALITY;
    if (home && !fits_device(t, facts)) why |= NIGH_WHY_NEEDS;
    if ((home && !device_may_work(s.f, facts)) || line_forbids(s.f, facts, t->tier)) why |= NIGH_WHY_DEVICE;
    if ((home && !(facts->models >> target_idx & 1)) || (p->unsigned_models >> target_idx & 1)) why |= NIGH_WHY_MODEL;
    if (!home && expired(p, facts->now_s)) why |= NIGH_WHY_EXPIRED;
    return why;
}

unsigned nigh_place_whys(const nigh_policy *p, const nigh_place_facts *facts, const nigh_place_request *request) {
    unsigned why = 0;
    for (uint64_t left = subject_of(p, request).mask.place; left; left &= left - 1)
        why |= nigh_place_why(p, facts, request, (uint32_t)__builtin_ctzll(left));
    return why;
}
