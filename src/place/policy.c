/* policy.c - reads a policy file; see policy.h and docs/format-policy.md.
 *
 *     JSON tree -> classes, regions, zones, evaluations' names -> targets -> features -> aliases -> masks
 *
 * Each section may name only what an earlier one made, so one pass suffices and nothing recurses. Every
 * object is read through a table of its fields: a key that stands in no table is an error, because a rule
 * with a spelling mistake would otherwise be a rule that does not hold. */
#include "place/policy.h"

typedef enum {
    F_TEXT, F_BOOL, F_UINT, F_PERCENT, F_NUMBER, F_DURATION, F_NODE /* left to the caller, as the JSON value */
} field_kind;

typedef struct { const char *key; field_kind kind; bool required; size_t offset; uint32_t most; } field;
#define FIELD(type, member, kind, required, most) { #member, kind, required, offsetof(type, member), most }

typedef struct { nigh_policy *p; nigh_err *err; } reader;

/* ---- names ---- */

typedef struct { const char *name; unsigned value; } word;

static const word tier_words[] = { { "device", NIGH_TIER_DEVICE }, { "edge", NIGH_TIER_EDGE },
                                   { "cloud", NIGH_TIER_CLOUD } };
static const word redact_words[] = { { "pii", NIGH_REDACT_PII }, { "secrets", NIGH_REDACT_SECRETS } };
static const word can_words[] = { { "tools", NIGH_CAN_TOOLS }, { "vision", NIGH_CAN_VISION },
                                  { "json", NIGH_CAN_JSON }, { "embed", NIGH_CAN_EMBED } };
static const word isa_words[] = { { "avx2", NIGH_ISA_AVX2 },       { "avx512", NIGH_ISA_AVX512 },
                                  { "amx", NIGH_ISA_AMX },         { "neon", NIGH_ISA_NEON },
                                  { "dotprod", NIGH_ISA_DOTPROD }, { "wasm", NIGH_ISA_WASM } };
static const word rank_words[] = { { "local-first", NIGH_RANK_LOCAL }, { "latency", NIGH_RANK_LATENCY },
                                   { "cost", NIGH_RANK_COST }, { "quality", NIGH_RANK_QUALITY } };
static const word thermal_words[] = { { "nominal", NIGH_THERMAL_NOMINAL }, { "fair", NIGH_THERMAL_FAIR },
                                      { "serious", NIGH_THERMAL_SERIOUS }, { "critical", NIGH_THERMAL_CRITICAL } };
static const word metered_words[] = { { "any", NIGH_METERED_ANY }, { "no-cloud", NIGH_METERED_NO_CLOUD },
                                      { "device-only", NIGH_METERED_DEVICE_ONLY } };
static const word cache_words[] = { { "none", NIGH_CACHE_NONE }, { "user", NIGH_CACHE_USER },
                                    { "tenant", NIGH_CACHE_TENANT } };
static const word stream_words[] = { { "error", NIGH_STREAM_ERROR }, { "continue", NIGH_STREAM_CONTINUE },
                                     { "restart", NIGH_STREAM_RESTART } };
static const word escalate_words[] = { { "confidence", NIGH_ESCALATE_CONFIDENCE },
                                       { "context_overflow", NIGH_ESCALATE_CONTEXT },
                                       { "unsupported", NIGH_ESCALATE_UNSUPPORTED },
                                       { "timeout", NIGH_ESCALATE_TIMEOUT }, { "oom", NIGH_ESCALATE_MEMORY } };

const char *nigh_tier_name(nigh_tier tier) { return tier_words[tier].name; }

static nigh_status bad(reader *r, const nigh_json *at, const char *what) {
    nigh_str key = at ? at->key : NIGH_STR("");
    return nigh_failf(r->err, NIGH_EINVAL, at ? at->at : 0, "policy: %.*s: %s", (int)nigh_min(key.len, 80), key.ptr,
                      what);
}

static bool find_word(const word *words, size_t count, nigh_str name, unsigned *value) {
    for (size_t i = 0; i < count; i++)
        if (nigh_str_eq(nigh_str_of(words[i].name), name)) {
            *value = words[i].value;
            return true;
        }
    return false;
}

/* One word of a list; v may be absent, then nothing changes. */
static nigh_status read_word(reader *r, const nigh_json *v, const word *words, size_t count, unsigned *value) {
    if (!v) return NIGH_OK;
    if (v->type != NIGH_JSON_STRING || !find_word(words, count, v->text, value))
        return bad(r, v, "this word is not known here; docs/format-policy.md lists them");
    return NIGH_OK;
}

/* An array of words, as bits. */
static nigh_status read_words(reader *r, const nigh_json *v, const word *words, size_t count, unsigned *bits) {
    unsigned value = 0;
    if (!v) return NIGH_OK;
    if (v->type != NIGH_JSON_ARRAY) return bad(r, v, "must be an array of words");
    for (const nigh_json *item = v->first; item; item = item->next) {
        if (item->type != NIGH_JSON_STRING || !find_word(words, count, item->text, &value))
            return bad(r, v, "holds a word that is not known here; docs/format-policy.md lists them");
        *bits |= value;
    }
    return NIGH_OK;
}

bool nigh_duration_parse(nigh_str text, uint32_t *seconds) {
    static const struct { char unit; int64_t seconds; } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 },
                                                                    { 'd', 86400 } };
    int64_t n;
    *seconds = 0;
    if (nigh_str_eq(text, NIGH_STR("0")) || nigh_str_eq(text, NIGH_STR("none"))) return true;
    if (text.len < 2 || text.ptr[0] < '0' || text.ptr[0] > '9') return false;
    if (!nigh_str_to_i64(nigh_str_slice(text, 0, text.len - 1), &n) || n > 3155760000) return false;
    for (size_t i = 0; i < NIGH_COUNT(units); i++)
        if (units[i].unit == text.ptr[text.len - 1] && n * units[i].seconds <= 3155760000) {
            *seconds = (uint32_t)(n * units[i].seconds);
            return true;
        }
    return false;
}

static bool digits(nigh_str text, size_t at, size_t count, unsigned least, unsigned most, unsigned *out) {
    *out = 0;
    for (size_t i = at; i < at + count; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') return false;
        *out = *out * 10 + (unsigned)(text.ptr[i] - '0');
    }
    return *out >= least && *out <= most;
}

/* Days from civil: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
static uint64_t days_since_1970(unsigned year, unsigned month, unsigned day) {
    unsigned y = year - (month <= 2), era_year = y % 400, m = month > 2 ? month - 3 : month + 9;
    unsigned of_year = (153 * m + 2) / 5 + day - 1, of_era = era_year * 365 + era_year / 4 - era_year / 100 + of_year;
    return (uint64_t)(y / 400) * 146097 + of_era - 719468;
}

bool nigh_instant_parse(nigh_str text, uint64_t *seconds) {
    static const char shape[] = "dddd-dd-ddTdd:dd:ddZ";
    unsigned year, month, day, hour, minute, second;
    if (text.len != sizeof shape - 1) return false;
    for (size_t i = 0; i < text.len; i++)
        if (shape[i] != 'd' && text.ptr[i] != shape[i]) return false;
    if (!digits(text, 0, 4, 1970, 9999, &year) || !digits(text, 5, 2, 1, 12, &month) || !digits(text, 8, 2, 1, 31, &day)
        || !digits(text, 11, 2, 0, 23, &hour) || !digits(text, 14, 2, 0, 59, &minute)
        || !digits(text, 17, 2, 0, 59, &second))
        return false;
    *seconds = days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    return true;
}

/* ---- fields ---- */

static nigh_status read_number(reader *r, const nigh_json *v, const field *f, void *to) {
    if (v->type != NIGH_JSON_NUMBER) return bad(r, v, "must be a number");
    if (f->kind == F_NUMBER) {
        if (v->number < 0) return bad(r, v, "must not be negative");
        *(double *)to = v->number;
    } else if (f->kind == F_PERCENT) {
        if (!(v->number >= 0 && v->number <= 1)) return bad(r, v, "must lie between 0 and 1");
        *(double *)to = v->number;
    } else {
        if (!v->is_int || v->integer < 0 || v->integer > f->most) return bad(r, v, "must be a whole number in range");
        *(uint32_t *)to = (uint32_t)v->integer;
    }
    return NIGH_OK;
}

static nigh_status read_field(reader *r, const nigh_json *v, const field *f, void *to) {
    switch (f->kind) {
    case F_TEXT:
        if (v->type != NIGH_JSON_STRING || v->text.len == 0) return bad(r, v, "must be a text that is not empty");
        *(nigh_str *)to = v->text;
        return NIGH_OK;
    case F_BOOL:
        if (v->type != NIGH_JSON_BOOL) return bad(r, v, "must be true or false");
        *(bool *)to = v->boolean;
        return NIGH_OK;
    case F_DURATION:
        if (v->type != NIGH_JSON_STRING || !nigh_duration_parse(v->text, to))
            return bad(r, v, "must be a duration like \"0\", \"30m\", \"24h\" or \"7d\"");
        return NIGH_OK;
    case F_NODE: *(const nigh_json **)to = v; return NIGH_OK;
    default: return read_number(r, v, f, to);
    }
}

/* Fills `to` from an object; refuses keys that the table lacks, and misses those it requires. */
static nigh_status read_object(reader *r, const nigh_json *object, const field *fields, size_t count, void *to) {
    if (object->type != NIGH_JSON_OBJECT) return bad(r, object, "must be an object");
    for (const nigh_json *v = object->first; v; v = v->next) {
        size_t i = 0;
        while (i < count && !nigh_str_eq(nigh_str_of(fields[i].key), v->key)) i++;
        if (i == count) return bad(r, v, "this key is not known here; docs/format-policy.md lists them");
        NIGH_TRY(read_field(r, v, &fields[i], (char *)to + fields[i].offset));
    }
    for (size_t i = 0; i < count; i++)
        if (fields[i].required && !nigh_json_get(object, nigh_str_of(fields[i].key)))
            return nigh_failf(r->err, NIGH_EINVAL, object->at, "policy: %.*s: %s is missing",
                              (int)nigh_min(object->key.len, 80), object->key.ptr, fields[i].key);
    return NIGH_OK;
}

/* The members of a section, or NULL; counted against `most`. */
static nigh_status open_section(reader *r, const nigh_json *section, size_t most, const nigh_json **first) {
    *first = NULL;
    if (!section) return NIGH_OK;
    if (section->type != NIGH_JSON_OBJECT) return bad(r, section, "must be an object");
    if (section->count > most)
        return nigh_failf(r->err, NIGH_ERANGE, section->at, "policy: %.*s: has %zu entries, the limit is %zu",
                          (int)section->key.len, section->key.ptr, section->count, most);
    for (const nigh_json *v = section->first; v; v = v->next)
        if (v->key.len == 0 || v->key.len > 64) return bad(r, v, "a name has 1 to 64 bytes");
    *first = section->first;
    return NIGH_OK;
}

/* ---- regions ---- */

static nigh_status add_country(reader *r, const nigh_json *at, nigh_str code, nigh_area *area) {
    nigh_policy *p = r->p;
    size_t i = 0;
    while (i < p->country_count && !nigh_str_eq(p->countries[i], code)) i++;
    if (i == NIGH_COUNTRIES_MAX) return bad(r, at, "there are more than 256 different countries");
    if (i == p->country_count) p->countries[p->country_count++] = code;
    area->bits[i / 64] |= (uint64_t)1 << (i % 64);
    return NIGH_OK;
}

/* A region's name, or else a country code. */
static nigh_status add_place(reader *r, const nigh_json *at, nigh_str name, nigh_area *area) {
    uint32_t region = nigh_policy_region(r->p, name);
    if (region == UINT32_MAX) {
        if (name.len != 2 || name.ptr[0] < 'A' || name.ptr[0] > 'Z' || name.ptr[1] < 'A' || name.ptr[1] > 'Z')
            return bad(r, at, "names neither a region of this file nor a country like \"DE\"");
        return add_country(r, at, name, area);
    }
    for (size_t i = 0; i < NIGH_COUNT(area->bits); i++) area->bits[i] |= r->p->regions[region].area.bits[i];
    return NIGH_OK;
}

static nigh_status read_place(reader *r, const nigh_json *v, bool *has, nigh_area *area) {
    *has = v != NULL;
    if (!v) return NIGH_OK;
    if (v->type != NIGH_JSON_STRING) return bad(r, v, "must be the name of a region or a country code");
    return add_place(r, v, v->text, area);
}

bool nigh_area_inside(const nigh_area *inner, const nigh_area *outer) {
    uint64_t outside = 0;
    for (size_t i = 0; i < NIGH_COUNT(inner->bits); i++) outside |= inner->bits[i] & ~outer->bits[i];
    return outside == 0;
}

static nigh_status read_regions(reader *r, const nigh_json *section) {
    static const field fields[] = { { "includes", F_NODE, true, 0, 0 } };
    const nigh_json *v, *list = NULL;
    NIGH_TRY(open_section(r, section, NIGH_AREAS_MAX, &v));
    for (; v; v = v->next) {
        nigh_region region = { .name = v->key };
        NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &list));
        if (list->type != NIGH_JSON_ARRAY || !list->first) return bad(r, v, "includes must be a list of countries");
        for (const nigh_json *item = list->first; item; item = item->next) {
            if (item->type != NIGH_JSON_STRING) return bad(r, v, "includes must be a list of countries");
            NIGH_TRY(add_place(r, v, item->text, &region.area));
        }
        r->p->regions[r->p->region_count++] = region;
    }
    return NIGH_OK;
}

/* ---- classes ---- */

static nigh_status read_crossing(reader *r, const nigh_json *list, nigh_class *c) {
    unsigned tier;
    if (list->type != NIGH_JSON_ARRAY) return bad(r, list, "must be a list of tiers");
    for (const nigh_json *item = list->first; item; item = item->next) {
        if (item->type != NIGH_JSON_STRING) return bad(r, list, "must be a list of tiers");
        nigh_str name = item->text;
        bool redacted = nigh_str_ends(name, NIGH_STR(":redacted"));
        if (redacted) name.len -= sizeof ":redacted" - 1;
        if (!find_word(tier_words, NIGH_COUNT(tier_words), name, &tier) || (redacted && tier == NIGH_TIER_DEVICE))
            return bad(r, list, "holds a tier that is not known: device, edge, cloud, edge:redacted, cloud:redacted");
        if (c->crosses[tier]) return bad(r, list, "names a tier twice");
        c->crosses[tier] = true;
        c->only_redacted[tier] = redacted;
    }
    return NIGH_OK;
}

static nigh_status read_classes(reader *r, const nigh_json *section) {
    typedef struct { uint32_t level; const nigh_json *may_cross, *redact; bool training; } draft;
    static const field fields[] = { FIELD(draft, level, F_UINT, true, 1000),
                                    FIELD(draft, may_cross, F_NODE, true, 0), FIELD(draft, redact, F_NODE, false, 0),
                                    FIELD(draft, training, F_BOOL, false, 0) };
    nigh_policy *p = r->p;
    const nigh_json *v;
    NIGH_TRY(open_section(r, section, NIGH_CLASSES_MAX, &v));
    for (; v; v = v->next) {
        draft d = { 0 };
        NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
        nigh_class c = { .name = v->key, .level = d.level, .training = d.training };
        NIGH_TRY(read_crossing(r, d.may_cross, &c));
        NIGH_TRY(read_words(r, d.redact, redact_words, NIGH_COUNT(redact_words), &c.redact));
        for (size_t i = 0; i < p->class_count; i++)
            if (p->classes[i].level == c.level) return bad(r, v, "has the level of another class");
        if ((c.only_redacted[NIGH_TIER_EDGE] || c.only_redacted[NIGH_TIER_CLOUD]) && !c.redact)
            return bad(r, v, "may cross only redacted, but redact names nothing");
        p->classes[p->class_count++] = c;
        if (c.level >= p->classes[p->top_class_idx].level) p->top_class_idx = (uint32_t)p->class_count - 1;
    }
    return p->class_count ? NIGH_OK : nigh_fail(r->err, NIGH_EINVAL, 0, "policy: classes: at least one is needed");
}

/* ---- zones, evaluations, groups ---- */

static nigh_status read_zones(reader *r, const nigh_json *section) {
    typedef struct { const nigh_json *region, *tenants; } draft;
    static const field fields[] = { FIELD(draft, region, F_NODE, false, 0), FIELD(draft, tenants, F_NODE, false, 0) };
    const nigh_json *v;
    NIGH_TRY(open_section(r, section, NIGH_ZONES_MAX, &v));
    for (; v; v = v->next) {
        draft d = { 0 };
        NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
        nigh_zone z = { .name = v->key, .tenants = d.tenants };
        NIGH_TRY(read_place(r, d.region, &z.has_area, &z.area));
        if (d.tenants && d.tenants->type != NIGH_JSON_ARRAY) return bad(r, d.tenants, "must be a list of names");
        for (const nigh_json *t = nigh_json_first(d.tenants); t; t = t->next)
            if (t->type != NIGH_JSON_STRING) return bad(r, d.tenants, "must be a list of names");
        r->p->zones[r->p->zone_count++] = z;
    }
    return NIGH_OK;
}

static nigh_status read_evals(reader *r, const nigh_json *section) {
    const nigh_json *v;
    NIGH_TRY(open_section(r, section, NIGH_EVALS_MAX, &v));
    for (; v; v = v->next) {
        nigh_eval *e = &r->p->evals[r->p->eval_count++];
        e->name = v->key;
        for (size_t i = 0; i < NIGH_TARGETS_MAX; i++) e->score[i] = -1;
        if (v->type != NIGH_JSON_OBJECT) return bad(r, v, "must be an object of target names and scores");
        for (const nigh_json *s = v->first; s; s = s->next) {
            uint32_t target = nigh_policy_target(r->p, s->key);
            if (target == UINT32_MAX) return bad(r, s, "is not a target of this file");
            if (s->type != NIGH_JSON_NUMBER || !(s->number >= 0 && s->number <= 1))
                return bad(r, s, "a score lies between 0 and 1");
            e->score[target] = s->number;
        }
    }
    return NIGH_OK;
}

static nigh_status read_groups(reader *r, const nigh_json *section) {
    typedef struct { uint32_t ram_mb; const nigh_json *isa; } draft;
    static const field fields[] = { FIELD(draft, ram_mb, F_UINT, true, UINT32_MAX),
                                    FIELD(draft, isa, F_NODE, false, 0) };
    const nigh_json *v;
    NIGH_TRY(open_section(r, section, NIGH_GROUPS_MAX, &v));
    for (; v; v = v->next) {
        draft d = { 0 };
        NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
        nigh_group *g = &r->p->groups[r->p->group_count++];
        *g = (nigh_group){ .name = v->key, .ram_mb = d.ram_mb };
        NIGH_TRY(read_words(r, d.isa, isa_words, NIGH_COUNT(isa_words), &g->isa));
    }
    return NIGH_OK;
}

/* ---- targets ---- */

typedef struct {
    nigh_str model, provider, api, url, key, node_key, zone;
    const nigh_json *tier, *region, *trains, *cost, *can, *needs;
    uint32_t retention, context_tokens;
} target_draft;

static nigh_status read_costs(reader *r, const nigh_json *v, nigh_target *t) {
    static const field fields[] = { { "in", F_NUMBER, true, offsetof(nigh_target, cost_in), 0 },
                                    { "out", F_NUMBER, true, offsetof(nigh_target, cost_out), 0 } };
    t->has_cost = v || t->tier != NIGH_TIER_CLOUD;
    return v ? read_object(r, v, fields, NIGH_COUNT(fields), t) : NIGH_OK;
}

static nigh_status read_needs(reader *r, const nigh_json *v, nigh_target *t) {
    typedef struct { uint32_t ram_mb; const nigh_json *isa; } draft;
    static const field fields[] = { FIELD(draft, ram_mb, F_UINT, false, UINT32_MAX),
                                    FIELD(draft, isa, F_NODE, false, 0) };
    draft d = { 0 };
    if (!v) return NIGH_OK;
    NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
    t->need_ram_mb = d.ram_mb;
    return read_words(r, d.isa, isa_words, NIGH_COUNT(isa_words), &t->need_isa);
}

static bool is_hex_64(nigh_str text) {
    bool ok = text.len == 64;
    for (size_t i = 0; ok && i < 64; i++)
        ok = (text.ptr[i] >= '0' && text.ptr[i] <= '9') || (text.ptr[i] >= 'a' && text.ptr[i] <= 'f');
    return ok;
}

/* NAME or NAME@sha256:64 lower-case hex digits. */
static nigh_status read_model(reader *r, const nigh_json *at, nigh_str text, nigh_target *t) {
    static const char mark[] = "@sha256:";
    size_t cut = nigh_str_find(text, NIGH_STR("@"), 0);
    t->model = text;
    if (cut == SIZE_MAX) return NIGH_OK;
    t->model = nigh_str_slice(text, 0, cut);
    t->hash = nigh_str_slice(text, cut + sizeof mark - 1, text.len);
    bool ok = nigh_str_starts(nigh_str_slice(text, cut, text.len), nigh_str_of(mark)) && is_hex_64(t->hash);
    return ok ? NIGH_OK : bad(r, at, "model: after @ stands sha256: and 64 lower-case hex digits");
}

static nigh_status find_zone(reader *r, const nigh_json *at, nigh_str name, nigh_target *t) {
    t->zone_idx = UINT32_MAX;
    if (name.len == 0) return NIGH_OK;
    for (uint32_t i = 0; i < r->p->zone_count; i++)
        if (nigh_str_eq(r->p->zones[i].name, name)) t->zone_idx = i;
    if (t->zone_idx == UINT32_MAX) return bad(r, at, "zone is not a zone of this file");
    if (t->tier != NIGH_TIER_EDGE) return bad(r, at, "only an edge target stands in a zone");
    return NIGH_OK;
}

/* The key of another node, which then proves it with its own: nothing else is needed, or possible. */
static nigh_status check_node_key(reader *r, const nigh_json *v, const nigh_target *t) {
    if (!t->node_key.len) return NIGH_OK;
    if (t->tier != NIGH_TIER_EDGE) return bad(r, v, "node_key goes with an edge target: it is another node's key");
    if (!is_hex_64(t->node_key)) return bad(r, v, "node_key must be 64 hex digits in lower case: a public key");
    return t->key.len ? bad(r, v, "a target has a key or a node_key, not both") : NIGH_OK;
}

static nigh_status finish_target(reader *r, const nigh_json *v, const target_draft *d, nigh_target *t) {
    NIGH_TRY(check_node_key(r, v, t));
    if (t->tier == NIGH_TIER_DEVICE) {
        t->retention_s = 0;         /* the device is the user's own */
        if (d->region || d->trains || nigh_json_get(v, NIGH_STR("retention")) || t->url.len)
            return bad(r, v, "a device target has no region, retention, trains or url: nothing leaves the device");
        return NIGH_OK;
    }
    t->trains = true;
    if (d->trains && d->trains->type != NIGH_JSON_BOOL) return bad(r, d->trains, "must be true or false");
    if (d->trains) t->trains = d->trains->boolean;
    NIGH_TRY(read_place(r, d->region, &t->has_area, &t->area));
    if (t->zone_idx != UINT32_MAX && r->p->zones[t->zone_idx].has_area) {
        const nigh_zone *z = &r->p->zones[t->zone_idx];
        if (t->has_area && !nigh_area_inside(&t->area, &z->area)) return bad(r, v, "region is not inside its zone's");
        if (!t->has_area) t->area = z->area;
        t->has_area = true;
    }
    if (t->url.len == 0 && t->provider.len == 0) return bad(r, v, "needs a url or a provider");
    if (t->key.len && !nigh_str_starts(t->key, NIGH_STR("env:")) && !nigh_str_starts(t->key, NIGH_STR("file:")))
        return bad(r, v, "key names where the key is (env:NAME or file:PATH), never the key itself");
    return NIGH_OK;
}

static nigh_status read_target(reader *r, const nigh_json *v) {
    static const field fields[] = {
        FIELD(target_draft, tier, F_NODE, true, 0),        FIELD(target_draft, model, F_TEXT, true, 0),
        FIELD(target_draft, provider, F_TEXT, false, 0),   FIELD(target_draft, api, F_TEXT, false, 0),
        FIELD(target_draft, url, F_TEXT, false, 0),        FIELD(target_draft, key, F_TEXT, false, 0),
        FIELD(target_draft, node_key, F_TEXT, false, 0),
        FIELD(target_draft, zone, F_TEXT, false, 0),       FIELD(target_draft, region, F_NODE, false, 0),
        FIELD(target_draft, trains, F_NODE, false, 0),     FIELD(target_draft, cost, F_NODE, false, 0),
        FIELD(target_draft, can, F_NODE, false, 0),        FIELD(target_draft, needs, F_NODE, false, 0),
        FIELD(target_draft, retention, F_DURATION, false, 0),
        FIELD(target_draft, context_tokens, F_UINT, false, 1u << 30)
    };
    target_draft d = { .retention = NIGH_FOREVER };
    unsigned tier = 0;
    NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
    NIGH_TRY(read_word(r, d.tier, tier_words, NIGH_COUNT(tier_words), &tier));
    nigh_target *t = &r->p->targets[r->p->target_count++];
    *t = (nigh_target){ .name = v->key, .tier = (nigh_tier)tier, .provider = d.provider, .api = d.api, .url = d.url,
                        .key = d.key, .node_key = d.node_key, .retention_s = d.retention,
                        .context_tokens = d.context_tokens };
    NIGH_TRY(read_model(r, v, d.model, t));
    NIGH_TRY(find_zone(r, v, d.zone, t));
    NIGH_TRY(read_costs(r, d.cost, t));
    NIGH_TRY(read_words(r, d.can, can_words, NIGH_COUNT(can_words), &t->can));
    NIGH_TRY(read_needs(r, d.needs, t));
    return finish_target(r, v, &d, t);
}

static nigh_status read_targets(reader *r, const nigh_json *section) {
    const nigh_json *v;
    NIGH_TRY(open_section(r, section, NIGH_TARGETS_MAX, &v));
    for (; v; v = v->next) NIGH_TRY(read_target(r, v));
    return NIGH_OK;
}

/* ---- features ---- */

typedef struct {
    nigh_str class;
    const nigh_json *region, *retention, *latency, *cost, *quality, *device, *place, *rank, *escalate, *degrade,
        *stream_failure, *cache, *weights, *hedge;
} feature_draft;

static nigh_status read_retention(reader *r, const nigh_json *v, nigh_feature *f) {
    static const field fields[] = { { "prompt", F_DURATION, false, offsetof(nigh_feature, keep_prompt_s), 0 },
                                    { "output", F_DURATION, false, offsetof(nigh_feature, keep_output_s), 0 },
                                    { "cache", F_DURATION, false, offsetof(nigh_feature, keep_cache_s), 0 } };
    return v ? read_object(r, v, fields, NIGH_COUNT(fields), f) : NIGH_OK;
}

static nigh_status read_budgets(reader *r, const feature_draft *d, nigh_feature *f) {
    static const field latency[] = { FIELD(nigh_feature, first_token_ms, F_UINT, false, 3600000),
                                     FIELD(nigh_feature, total_ms, F_UINT, false, 86400000) };
    static const field cost[] = { FIELD(nigh_feature, per_call_usd, F_NUMBER, false, 0),
                                  FIELD(nigh_feature, per_user_day_usd, F_NUMBER, false, 0) };
    f->per_call_usd = f->per_user_day_usd = -1;
    if (d->latency) NIGH_TRY(read_object(r, d->latency, latency, NIGH_COUNT(latency), f));
    return d->cost ? read_object(r, d->cost, cost, NIGH_COUNT(cost), f) : NIGH_OK;
}

static nigh_status read_quality(reader *r, const nigh_json *v, nigh_feature *f) {
    typedef struct { nigh_str eval; double min; } draft;
    static const field fields[] = { FIELD(draft, eval, F_TEXT, true, 0), FIELD(draft, min, F_PERCENT, true, 0) };
    draft d = { 0 };
    f->eval_idx = UINT32_MAX;
    if (!v) return NIGH_OK;
    NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
    for (uint32_t i = 0; i < r->p->eval_count; i++)
        if (nigh_str_eq(r->p->evals[i].name, d.eval)) f->eval_idx = i;
    f->quality_min = d.min;
    return f->eval_idx == UINT32_MAX ? bad(r, v, "eval is not an evaluation of this file") : NIGH_OK;
}

static nigh_status read_device(reader *r, const nigh_json *v, nigh_feature *f) {
    typedef struct { uint32_t min_ram_mb, battery_min; const nigh_json *thermal_max, *metered; } draft;
    static const field fields[] = { FIELD(draft, min_ram_mb, F_UINT, false, UINT32_MAX),
                                    FIELD(draft, battery_min, F_UINT, false, 100),
                                    FIELD(draft, thermal_max, F_NODE, false, 0),
                                    FIELD(draft, metered, F_NODE, false, 0) };
    draft d = { 0 };
    unsigned thermal = NIGH_THERMAL_CRITICAL, metered = NIGH_METERED_ANY;
    if (v) NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
    NIGH_TRY(read_word(r, d.thermal_max, thermal_words, NIGH_COUNT(thermal_words), &thermal));
    NIGH_TRY(read_word(r, d.metered, metered_words, NIGH_COUNT(metered_words), &metered));
    f->min_ram_mb = d.min_ram_mb;
    f->battery_min = d.battery_min;
    f->thermal_max = (nigh_thermal)thermal;
    f->metered = (nigh_metered)metered;
    return NIGH_OK;
}

static nigh_status read_candidates(reader *r, const nigh_json *v, nigh_feature *f) {
    uint64_t seen = 0;
    if (v->type != NIGH_JSON_ARRAY) return bad(r, v, "must be a list of targets");
    for (const nigh_json *item = v->first; item; item = item->next) {
        uint32_t target = item->type == NIGH_JSON_STRING ? nigh_policy_target(r->p, item->text) : UINT32_MAX;
        if (target == UINT32_MAX) return bad(r, v, "names a target that this file does not have");
        if (seen >> target & 1) return bad(r, v, "names a target twice");
        seen |= (uint64_t)1 << target;
        f->place[f->place_count++] = (uint8_t)target;
    }
    return NIGH_OK;
}

static nigh_status read_escalation(reader *r, const nigh_json *v, nigh_feature *f) {
    typedef struct { const nigh_json *when; double threshold, target_rate; nigh_str eval; } draft;
    static const field fields[] = { FIELD(draft, when, F_NODE, true, 0), FIELD(draft, threshold, F_PERCENT, false, 0),
                                    FIELD(draft, target_rate, F_PERCENT, false, 0),
                                    FIELD(draft, eval, F_TEXT, false, 0) };
    draft d = { .target_rate = -1 };
    f->target_rate = -1;
    f->sure_eval_idx = UINT32_MAX;
    if (!v) return NIGH_OK;
    NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
    NIGH_TRY(read_words(r, d.when, escalate_words, NIGH_COUNT(escalate_words), &f->escalate));
    f->threshold = d.threshold;
    f->target_rate = d.target_rate;
    bool sure = f->escalate & NIGH_ESCALATE_CONFIDENCE;
    if (sure && !nigh_json_get(v, NIGH_STR("threshold"))) return bad(r, v, "confidence needs a threshold");
    if (!sure && (d.target_rate >= 0 || d.eval.len)) return bad(r, v, "target_rate and eval go with confidence");
    for (uint32_t i = 0; d.eval.len && i < r->p->eval_count; i++)
        if (nigh_str_eq(r->p->evals[i].name, d.eval)) f->sure_eval_idx = i;
    return d.eval.len && f->sure_eval_idx == UINT32_MAX ? bad(r, v, "eval is not an evaluation of this file") : NIGH_OK;
}

/* Of places of the feature; one that is not named has the weight 1. */
static nigh_status read_weights(reader *r, const nigh_json *v, nigh_feature *f) {
    uint32_t sum = 0;
    if (!v) return NIGH_OK;
    if (v->type != NIGH_JSON_OBJECT) return bad(r, v, "must be an object of targets and their weights");
    for (size_t i = 0; i < f->place_count; i++) f->weight[f->place[i]] = 1;
    for (const nigh_json *w = v->first; w; w = w->next) {
        uint32_t t = nigh_policy_target(r->p, w->key);
        size_t i = 0;
        while (i < f->place_count && f->place[i] != t) i++;
        if (i == f->place_count) return bad(r, w, "is not a target that the feature's place names");
        if (w->type != NIGH_JSON_NUMBER || !w->is_int || w->integer < 0 || w->integer > NIGH_WEIGHT_MAX)
            return bad(r, w, "a weight is a whole number from 0 to 1,000");
        f->weight[t] = (uint16_t)w->integer;
    }
    for (size_t i = 0; i < f->place_count; i++) sum += f->weight[f->place[i]];
    f->weighted = true;
    return sum ? NIGH_OK : bad(r, v, "one weight at least is above 0");
}

static nigh_status read_hedge(reader *r, const nigh_json *v, nigh_feature *f) {
    typedef struct { uint32_t after_ms; bool p95; } draft;
    static const field fields[] = { FIELD(draft, after_ms, F_UINT, true, 600000), FIELD(draft, p95, F_BOOL, false, 0) };
    draft d = { 0 };
    if (!v) return NIGH_OK;
    NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
    f->hedge = true;
    f->hedge_ms = d.after_ms;
    f->hedge_p95 = d.p95;
    return NIGH_OK;
}

/* "error" | "cache:stale<=24h" | "queue:<=6h" | "target:NAME" | "target:NAME,max_tokens=128" */
static nigh_status read_step(reader *r, const nigh_json *at, nigh_str text, nigh_degrade *d) {
    static const char stale[] = "cache:stale<=", queue[] = "queue:<=", target[] = "target:", most[] = "max_tokens=";
    *d = (nigh_degrade){ .kind = NIGH_DEGRADE_ERROR };
    if (nigh_str_eq(text, NIGH_STR("error"))) return NIGH_OK;
    bool is_cache = nigh_str_starts(text, NIGH_STR(stale)), is_queue = nigh_str_starts(text, NIGH_STR(queue));
    if (is_cache || is_queue) {
        d->kind = is_cache ? NIGH_DEGRADE_CACHE : NIGH_DEGRADE_QUEUE;
        nigh_str age = nigh_str_slice(text, (is_cache ? sizeof stale : sizeof queue) - 1, text.len);
        return nigh_duration_parse(age, &d->seconds) ? NIGH_OK : bad(r, at, "holds a duration that cannot be read");
    }
    if (!nigh_str_starts(text, NIGH_STR(target)))
        return bad(r, at, "a step is error, cache:stale<=TIME, queue:<=TIME or target:NAME[,max_tokens=N]");
    nigh_str name = nigh_str_slice(text, sizeof target - 1, text.len);
    size_t comma = nigh_str_find(name, NIGH_STR(","), 0);
    if (comma != SIZE_MAX) {
        nigh_str option = nigh_str_slice(name, comma + 1, name.len);
        int64_t n;
        if (!nigh_str_starts(option, NIGH_STR(most))
            || !nigh_str_to_i64(nigh_str_slice(option, sizeof most - 1, option.len), &n) || n < 1 || n > 1 << 20)
            return bad(r, at, "after a target stands ,max_tokens=N");
        d->max_tokens = (uint32_t)n;
        name = nigh_str_slice(name, 0, comma);
    }
    d->kind = NIGH_DEGRADE_TARGET;
    d->target_idx = nigh_policy_target(r->p, name);
    return d->target_idx == UINT32_MAX ? bad(r, at, "names a target that this file does not have") : NIGH_OK;
}

static nigh_status read_degrade(reader *r, const nigh_json *v, nigh_feature *f) {
    if (!v) return NIGH_OK;
    if (v->type != NIGH_JSON_ARRAY || v->count > NIGH_DEGRADE_MAX) return bad(r, v, "must be a list of up to 8 steps");
    for (const nigh_json *item = v->first; item; item = item->next) {
        if (item->type != NIGH_JSON_STRING) return bad(r, v, "a step is a text");
        NIGH_TRY(read_step(r, v, item->text, &f->degrade[f->degrade_count++]));
        if (f->degrade[f->degrade_count - 1].kind == NIGH_DEGRADE_ERROR && item->next)
            return bad(r, v, "nothing can follow error");
    }
    return NIGH_OK;
}

static nigh_status read_choices(reader *r, const feature_draft *d, nigh_feature *f) {
    unsigned rank = NIGH_RANK_LOCAL, stream = NIGH_STREAM_ERROR, cache = NIGH_CACHE_NONE;
    NIGH_TRY(read_word(r, d->rank, rank_words, NIGH_COUNT(rank_words), &rank));
    NIGH_TRY(read_word(r, d->stream_failure, stream_words, NIGH_COUNT(stream_words), &stream));
    NIGH_TRY(read_word(r, d->cache, cache_words, NIGH_COUNT(cache_words), &cache));
    f->rank = (nigh_rank)rank;
    f->stream_failure = (nigh_stream_failure)stream;
    f->cache = (nigh_cache_scope)cache;
    if (f->rank == NIGH_RANK_QUALITY && f->eval_idx == UINT32_MAX)
        return bad(r, d->rank, "rank by quality needs a quality with an eval");
    if (f->cache != NIGH_CACHE_NONE && f->keep_cache_s == 0)
        return bad(r, d->cache, "a cache needs retention.cache, how long an answer may be kept");
    return NIGH_OK;
}

static nigh_status read_feature(reader *r, const nigh_json *v) {
    static const field fields[] = {
        FIELD(feature_draft, class, F_TEXT, true, 0),      FIELD(feature_draft, region, F_NODE, false, 0),
        FIELD(feature_draft, retention, F_NODE, false, 0), FIELD(feature_draft, latency, F_NODE, false, 0),
        FIELD(feature_draft, cost, F_NODE, false, 0),      FIELD(feature_draft, quality, F_NODE, false, 0),
        FIELD(feature_draft, device, F_NODE, false, 0),    FIELD(feature_draft, place, F_NODE, true, 0),
        FIELD(feature_draft, rank, F_NODE, false, 0),      FIELD(feature_draft, escalate, F_NODE, false, 0),
        FIELD(feature_draft, degrade, F_NODE, false, 0),   FIELD(feature_draft, stream_failure, F_NODE, false, 0),
        FIELD(feature_draft, cache, F_NODE, false, 0),     FIELD(feature_draft, weights, F_NODE, false, 0),
        FIELD(feature_draft, hedge, F_NODE, false, 0)
    };
    feature_draft d = { 0 };
    NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
    nigh_feature *f = &r->p->features[r->p->feature_count++];
    *f = (nigh_feature){ .name = v->key, .class_idx = nigh_policy_class(r->p, d.class) };
    if (f->class_idx == UINT32_MAX) return bad(r, v, "class is not a class of this file");
    NIGH_TRY(read_place(r, d.region, &f->has_area, &f->area));
    NIGH_TRY(read_retention(r, d.retention, f));
    NIGH_TRY(read_budgets(r, &d, f));
    NIGH_TRY(read_quality(r, d.quality, f));
    NIGH_TRY(read_device(r, d.device, f));
    NIGH_TRY(read_candidates(r, d.place, f));
    NIGH_TRY(read_weights(r, d.weights, f));
    NIGH_TRY(read_hedge(r, d.hedge, f));
    NIGH_TRY(read_escalation(r, d.escalate, f));
    NIGH_TRY(read_degrade(r, d.degrade, f));
    return read_choices(r, &d, f);
}

static nigh_status read_features(reader *r, const nigh_json *section) {
    const nigh_json *v;
    NIGH_TRY(open_section(r, section, NIGH_FEATURES_MAX, &v));
    for (; v; v = v->next) NIGH_TRY(read_feature(r, v));
    return NIGH_OK;
}

static uint32_t feature_named(const nigh_policy *p, nigh_str name) {
    for (uint32_t i = 0; i < p->feature_count; i++)
        if (nigh_str_eq(p->features[i].name, name)) return i;
    return UINT32_MAX;
}

static nigh_status read_aliases(reader *r, const nigh_json *section) {
    const nigh_json *v;
    NIGH_TRY(open_section(r, section, NIGH_ALIASES_MAX, &v));
    for (; v; v = v->next) {
        nigh_alias a = { v->key, v->type == NIGH_JSON_STRING ? feature_named(r->p, v->text) : UINT32_MAX };
        if (a.feature_idx == UINT32_MAX) return bad(r, v, "stands for no feature of this file");
        if (feature_named(r->p, v->key) != UINT32_MAX) return bad(r, v, "is the name of a feature already");
        r->p->aliases[r->p->alias_count++] = a;
    }
    return NIGH_OK;
}

static nigh_status class_named(reader *r, const nigh_json *at, nigh_str name, uint32_t *idx) {
    *idx = name.len ? nigh_policy_class(r->p, name) : UINT32_MAX;
    return name.len && *idx == UINT32_MAX ? bad(r, at, "names a class that this file does not have") : NIGH_OK;
}

static nigh_status read_found(reader *r, const nigh_json *v) {
    typedef struct { nigh_str pii, secrets; } draft;
    static const field fields[] = { FIELD(draft, pii, F_TEXT, false, 0), FIELD(draft, secrets, F_TEXT, false, 0) };
    draft d = { 0 };
    if (v) NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
    NIGH_TRY(class_named(r, v, d.pii, &r->p->found_pii_idx));
    return class_named(r, v, d.secrets, &r->p->found_secrets_idx);
}

/* ---- captures ---- */

bool nigh_policy_is_file_name(nigh_str name) {
    if (name.len == 0 || name.len > 64 || name.ptr[0] == '.') return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'
                    || c == '.';
        if (!good) return false;
    }
    return true;
}

/* A list of names that are not empty, with at least `least` different ones. */
static nigh_status read_people(reader *r, const nigh_json *list, size_t least) {
    size_t different = 0;
    if (list->type != NIGH_JSON_ARRAY || list->count > 16) return bad(r, list, "must be a list of up to 16 names");
    for (const nigh_json *v = list->first; v; v = v->next) {
        bool again = false;
        if (v->type != NIGH_JSON_STRING || v->text.len == 0 || v->text.len > 128)
            return bad(r, list, "a name is a text of 1 to 128 bytes");
        for (const nigh_json *w = list->first; w != v; w = w->next) again |= nigh_str_eq(v->text, w->text);
        different += !again;
    }
    if (different < least)
        return bad(r, list, least > 1 ? "needs two different people at least" : "needs one name at least");
    return NIGH_OK;
}

static nigh_status read_captures(reader *r, const nigh_json *section) {
    typedef struct { nigh_str feature, until; const nigh_json *tenant, *approved_by, *readers; } draft;
    static const field fields[] = { FIELD(draft, feature, F_TEXT, true, 0), FIELD(draft, until, F_TEXT, true, 0),
                                    FIELD(draft, tenant, F_NODE, true, 0), FIELD(draft, approved_by, F_NODE, true, 0),
                                    FIELD(draft, readers, F_NODE, true, 0) };
    const nigh_json *v;
    NIGH_TRY(open_section(r, section, NIGH_CAPTURES_MAX, &v));
    for (; v; v = v->next) {
        draft d = { 0 };
        NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
        nigh_capture_rule *c = &r->p->captures[r->p->capture_count++];
        *c = (nigh_capture_rule){ .name = v->key, .feature_idx = feature_named(r->p, d.feature),
                                  .approved_by = d.approved_by, .readers = d.readers };
        if (!nigh_policy_is_file_name(v->key)) return bad(r, v, "a capture's name has letters, digits, '-', '_' and "
                                                                "'.'");
        if (c->feature_idx == UINT32_MAX) return bad(r, v, "feature is not a feature of this file");
        if (d.tenant->type != NIGH_JSON_STRING) return bad(r, d.tenant, "must be a text; \"\" is one's own tenant");
        c->tenant = d.tenant->text;
        if (!nigh_instant_parse(d.until, &c->until_s))
            return bad(r, v, "until must be a time like \"2027-01-31T00:00:00Z\"");
        NIGH_TRY(read_people(r, d.approved_by, 2));
        NIGH_TRY(read_people(r, d.readers, 1));
    }
    return NIGH_OK;
}

/* ---- the file ---- */

/* One bit a target for every rule that does not depend on a request or on the device. */
static void make_masks(nigh_policy *p) {
    for (uint32_t t = 0; t < p->target_count; t++) {
        const nigh_target *target = &p->targets[t];
        uint64_t bit = (uint64_t)1 << t;
        p->tier[target->tier] |= bit;
        if (p->signed_models && target->tier != NIGH_TIER_CLOUD && !target->hash.len) p->unsigned_models |= bit;
        for (size_t c = 0; c < p->class_count; c++) {
            const nigh_class *class = &p->classes[c];
            if (class->crosses[target->tier]) p->crosses[c] |= bit;
            if (class->only_redacted[target->tier]) p->redacted[c] |= bit;
            if (class->training || !target->trains) p->training[c] |= bit;
        }
        for (size_t i = 0; i < p->feature_count; i++) {
            const nigh_feature *f = &p->features[i];
            nigh_feature_mask *m = &p->feature_mask[i];
            bool home = target->tier == NIGH_TIER_DEVICE;
            bool inside = target->has_area && nigh_area_inside(&target->area, &f->area);
            if (home || !f->has_area || inside) m->region |= bit;
            if (target->retention_s <= f->keep_prompt_s) m->retention |= bit;
            if (f->eval_idx == UINT32_MAX || p->evals[f->eval_idx].score[t] >= f->quality_min) m->quality |= bit;
        }
    }
    for (size_t i = 0; i < p->feature_count; i++)
        for (size_t n = 0; n < p->features[i].place_count; n++)
            p->feature_mask[i].place |= (uint64_t)1 << p->features[i].place[n];
}

typedef struct {
    const nigh_json *version, *valid_until, *schema;
    nigh_str default_feature;
    uint32_t grace;
    bool signed_models;
    const nigh_json *classes, *regions, *zones, *targets, *features, *evals, *device_groups, *aliases, *found,
        *captures, *ledger;
} file_draft;

static nigh_status read_ledger(reader *r, const nigh_json *v) {
    typedef struct { uint32_t keep; } draft;
    static const field fields[] = { FIELD(draft, keep, F_DURATION, true, 0) };
    draft d = { .keep = NIGH_FOREVER };
    if (v) NIGH_TRY(read_object(r, v, fields, NIGH_COUNT(fields), &d));
    r->p->ledger_keep_s = d.keep;
    return d.keep ? NIGH_OK : bad(r, v, "keep must be some time: a ledger that keeps nothing answers no question");
}

static nigh_status read_head(reader *r, const file_draft *d) {
    nigh_policy *p = r->p;
    if (d->version->type != NIGH_JSON_NUMBER || !d->version->is_int || d->version->integer < 1)
        return bad(r, d->version, "must be a whole number from 1 on, higher with every change");
    p->version = (uint64_t)d->version->integer;
    p->valid_until_s = UINT64_MAX;
    if (d->valid_until && (d->valid_until->type != NIGH_JSON_STRING
                           || !nigh_instant_parse(d->valid_until->text, &p->valid_until_s)))
        return bad(r, d->valid_until, "must be a time like \"2027-01-31T00:00:00Z\"");
    p->grace_s = d->grace;
    p->signed_models = d->signed_models;
    return NIGH_OK;
}

static nigh_status read_file(reader *r, const nigh_json *root) {
    static const field fields[] = {
        FIELD(file_draft, version, F_NODE, true, 0),       FIELD(file_draft, valid_until, F_NODE, false, 0),
        FIELD(file_draft, grace, F_DURATION, false, 0),    FIELD(file_draft, default_feature, F_TEXT, false, 0),
        FIELD(file_draft, signed_models, F_BOOL, false, 0), FIELD(file_draft, classes, F_NODE, true, 0),
        FIELD(file_draft, regions, F_NODE, false, 0),      FIELD(file_draft, zones, F_NODE, false, 0),
        FIELD(file_draft, targets, F_NODE, true, 0),       FIELD(file_draft, features, F_NODE, true, 0),
        FIELD(file_draft, evals, F_NODE, false, 0),        FIELD(file_draft, device_groups, F_NODE, false, 0),
        FIELD(file_draft, aliases, F_NODE, false, 0),      FIELD(file_draft, found, F_NODE, false, 0),
        FIELD(file_draft, captures, F_NODE, false, 0),     FIELD(file_draft, ledger, F_NODE, false, 0),
        { "$schema", F_NODE, false, offsetof(file_draft, schema), 0 }
    };
    file_draft d = { 0 };
    NIGH_TRY(read_object(r, root, fields, NIGH_COUNT(fields), &d));
    NIGH_TRY(read_head(r, &d));
    NIGH_TRY(read_classes(r, d.classes));
    NIGH_TRY(read_found(r, d.found));
    NIGH_TRY(read_regions(r, d.regions));
    NIGH_TRY(read_zones(r, d.zones));
    NIGH_TRY(read_targets(r, d.targets));
    NIGH_TRY(read_evals(r, d.evals));
    NIGH_TRY(read_groups(r, d.device_groups));
    NIGH_TRY(read_features(r, d.features));
    NIGH_TRY(read_aliases(r, d.aliases));
    NIGH_TRY(read_captures(r, d.captures));
    NIGH_TRY(read_ledger(r, d.ledger));
    r->p->default_feature_idx = d.default_feature.len ? feature_named(r->p, d.default_feature) : UINT32_MAX;
    if (d.default_feature.len && r->p->default_feature_idx == UINT32_MAX)
        return nigh_fail(r->err, NIGH_EINVAL, 0, "policy: default_feature is not a feature of this file");
    make_masks(r->p);
    return NIGH_OK;
}

nigh_status nigh_policy_parse(nigh_policy **out, nigh_str text, nigh_err *err) {
    *out = NULL;
    if (text.len > NIGH_POLICY_BYTES_MAX)
        return nigh_failf(err, NIGH_ERANGE, 0, "policy: %zu bytes are more than %d", text.len, NIGH_POLICY_BYTES_MAX);
    nigh_policy *p = nigh_alloc(1, sizeof *p);
    if (!p) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for a policy");
    reader r = { p, err };
    nigh_status status = nigh_json_parse(&p->doc, text, err);
    if (status == NIGH_OK) status = read_file(&r, p->doc.root);
    if (status == NIGH_OK) *out = p;
    else nigh_policy_free(p);
    return status;
}

void nigh_policy_free(nigh_policy *p) {
    if (!p) return;
    nigh_json_release(&p->doc);
    nigh_free(p);
}

uint32_t nigh_policy_class(const nigh_policy *p, nigh_str name) {
    for (uint32_t i = 0; i < p->class_count; i++)
        if (nigh_str_eq(p->classes[i].name, name)) return i;
    return UINT32_MAX;
}

uint32_t nigh_policy_target(const nigh_policy *p, nigh_str name) {
    for (uint32_t i = 0; i < p->target_count; i++)
        if (nigh_str_eq(p->targets[i].name, name)) return i;
    return UINT32_MAX;
}

uint32_t nigh_policy_region(const nigh_policy *p, nigh_str name) {
    for (uint32_t i = 0; i < p->region_count; i++)
        if (nigh_str_eq(p->regions[i].name, name)) return i;
    return UINT32_MAX;
}

uint32_t nigh_policy_feature(const nigh_policy *p, nigh_str name) {
    uint32_t found = feature_named(p, name);
    for (uint32_t i = 0; found == UINT32_MAX && i < p->alias_count; i++)
        if (nigh_str_eq(p->aliases[i].name, name)) found = p->aliases[i].feature_idx;
    return found == UINT32_MAX ? p->default_feature_idx : found;
}
