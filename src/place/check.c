/* check.c - see check.h. Everything is enumerated: at most 256 features x 16 classes x 64 targets. */
#include "place/check.h"

static const char *const flow_texts[] = { "is a new flow",
                                          "computes in more places, or no longer says where",
                                          "keeps what it gets for longer",
                                          "may train on what it gets now",
                                          "is another provider, address or model",
                                          "gets what was taken out before" };

const char *nigh_flow_text(nigh_flow_kind kind) { return flow_texts[kind]; }

static bool group_fits(const nigh_group *g, const nigh_target *t, const nigh_feature *f) {
    return t->need_ram_mb <= g->ram_mb && f->min_ram_mb <= g->ram_mb && (!t->need_isa || (t->need_isa & g->isa));
}

uint64_t nigh_reach(const nigh_policy *p, uint32_t feature_idx, uint32_t class_idx, uint32_t group_idx) {
    const nigh_feature *f = &p->features[feature_idx];
    const nigh_feature_mask *m = &p->feature_mask[feature_idx];
    uint32_t c = p->classes[class_idx].level < p->classes[f->class_idx].level ? f->class_idx : class_idx;
    uint64_t mask = m->place & m->region & m->retention & m->quality & p->crosses[c] & p->training[c]
                    & ~p->unsigned_models;
    if (group_idx == UINT32_MAX) return mask;
    for (uint64_t left = mask & p->tier[NIGH_TIER_DEVICE]; left; left &= left - 1) {
        unsigned t = (unsigned)__builtin_ctzll(left);
        if (!group_fits(&p->groups[group_idx], &p->targets[t], f)) mask &= ~((uint64_t)1 << t);
    }
    return mask;
}

uint64_t nigh_reach_all(const nigh_policy *p, uint32_t feature_idx) {
    uint64_t mask = 0;
    for (uint32_t c = 0; c < p->class_count; c++) mask |= nigh_reach(p, feature_idx, c, UINT32_MAX);
    return mask;
}

nigh_leave nigh_can_leave(const nigh_policy *p, uint32_t feature_idx, const nigh_area *area) {
    uint32_t floor_idx = p->features[feature_idx].class_idx;
    for (uint32_t c = 0; c < p->class_count; c++) {
        if (p->classes[c].level < p->classes[floor_idx].level) continue;
        uint64_t away = nigh_reach(p, feature_idx, c, UINT32_MAX) & ~p->tier[NIGH_TIER_DEVICE];
        for (; away; away &= away - 1) {
            uint32_t t = (uint32_t)__builtin_ctzll(away);
            const nigh_target *target = &p->targets[t];
            if (!area || !target->has_area || !nigh_area_inside(&target->area, area))
                return (nigh_leave){ true, c, t };
        }
    }
    return (nigh_leave){ .leaves = false };
}

/* ---- two versions ---- */

static bool country_in(const nigh_policy *p, const nigh_area *area, nigh_str code) {
    for (size_t i = 0; i < p->country_count; i++)
        if (area->bits[i / 64] >> (i % 64) & 1 && nigh_str_eq(p->countries[i], code)) return true;
    return false;
}

/* Countries have other numbers in another file, so they are compared by their codes. */
static bool area_wider(const nigh_policy *older, const nigh_target *o, const nigh_policy *newer, const nigh_target *n) {
    if (!o->has_area) return false;
    if (!n->has_area) return true;
    for (size_t i = 0; i < newer->country_count; i++)
        if (n->area.bits[i / 64] >> (i % 64) & 1 && !country_in(older, &o->area, newer->countries[i])) return true;
    return false;
}

static bool same_provider(const nigh_target *o, const nigh_target *n) {
    return o->tier == n->tier && nigh_str_eq(o->provider, n->provider) && nigh_str_eq(o->url, n->url)
           && nigh_str_eq(o->model, n->model) && (!o->node_key.len || nigh_str_eq(o->node_key, n->node_key));
}

typedef struct { const nigh_policy *older, *newer; nigh_flow_fn *fn; void *ud; size_t count; } comparison;

static void report(comparison *c, nigh_flow_kind kind, uint32_t feature, uint32_t class, uint32_t target) {
    const nigh_flow flow = { kind, feature, class, target };
    c->count++;
    if (c->fn) c->fn(c->ud, &flow);
}

static void compare_flow(comparison *c, uint32_t feature, uint32_t class, uint32_t target) {
    const nigh_policy *older = c->older, *newer = c->newer;
    uint32_t f = UINT32_MAX, k = nigh_policy_class(older, newer->classes[class].name),
             t = nigh_policy_target(older, newer->targets[target].name);
    for (uint32_t i = 0; i < older->feature_count; i++)
        if (nigh_str_eq(older->features[i].name, newer->features[feature].name)) f = i;
    bool known = f != UINT32_MAX && k != UINT32_MAX && t != UINT32_MAX
                 && older->classes[k].level >= older->classes[older->features[f].class_idx].level;
    if (!known || !(nigh_reach(older, f, k, UINT32_MAX) >> t & 1)) {
        report(c, NIGH_FLOW_NEW, feature, class, target);
        return;
    }
    const nigh_target *o = &older->targets[t], *n = &newer->targets[target];
    if (area_wider(older, o, newer, n)) report(c, NIGH_FLOW_REGION, feature, class, target);
    if (n->retention_s > o->retention_s) report(c, NIGH_FLOW_RETENTION, feature, class, target);
    if (n->trains && !o->trains) report(c, NIGH_FLOW_TRAINING, feature, class, target);
    if (!same_provider(o, n)) report(c, NIGH_FLOW_PROVIDER, feature, class, target);
    unsigned kept = newer->classes[class].redact;
    if (older->classes[k].redact & ~kept) report(c, NIGH_FLOW_REDACTION, feature, class, target);
}

size_t nigh_policy_compare(const nigh_policy *older, const nigh_policy *newer, nigh_flow_fn *fn, void *ud) {
    comparison c = { older, newer, fn, ud, 0 };
    for (uint32_t f = 0; f < newer->feature_count; f++)
        for (uint32_t k = 0; k < newer->class_count; k++) {
            if (newer->classes[k].level < newer->classes[newer->features[f].class_idx].level) continue;
            uint64_t away = nigh_reach(newer, f, k, UINT32_MAX) & ~newer->tier[NIGH_TIER_DEVICE];
            for (; away; away &= away - 1) compare_flow(&c, f, k, (uint32_t)__builtin_ctzll(away));
        }
    return c.count;
}

bool nigh_policy_odd_class(const nigh_policy *p, uint32_t *class_idx, uint32_t *below_idx, nigh_tier *tier) {
    for (uint32_t a = 0; a < p->class_count; a++)
        for (uint32_t b = 0; b < p->class_count; b++)
            for (int t = 0; t < NIGH_TIERS; t++) {
                if (p->classes[a].level <= p->classes[b].level || !p->classes[a].crosses[t] || p->classes[b].crosses[t])
                    continue;
                *class_idx = a;
                *below_idx = b;
                *tier = (nigh_tier)t;
                return true;
            }
    return false;
}

/* ---- captures ---- */

static bool has_text(const nigh_json *list, nigh_str text) {
    for (const nigh_json *v = nigh_json_first(list); v; v = v->next) if (nigh_str_eq(v->text, text)) return true;
    return false;
}

static bool keeps_no_more(const nigh_policy *older, const nigh_capture_rule *was, const nigh_policy *newer,
                          const nigh_capture_rule *now) {
    bool same = nigh_str_eq(was->name, now->name) && nigh_str_eq(was->tenant, now->tenant)
                && nigh_str_eq(older->features[was->feature_idx].name, newer->features[now->feature_idx].name)
                && now->until_s <= was->until_s;
    for (const nigh_json *v = nigh_json_first(now->readers); same && v; v = v->next)
        same = has_text(was->readers, v->text);
    return same;
}

size_t nigh_captures_compare(const nigh_policy *older, const nigh_policy *newer, nigh_capture_fn *fn, void *ud) {
    size_t count = 0;
    for (size_t i = 0; i < newer->capture_count; i++) {
        bool covered = false;
        for (size_t k = 0; k < older->capture_count; k++)
            covered |= keeps_no_more(older, &older->captures[k], newer, &newer->captures[i]);
        if (covered) continue;
        count++;
        if (fn) fn(ud, &newer->captures[i]);
    }
    return count;
}
