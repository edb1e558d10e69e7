/* Placement against an oracle: random policies and requests; the oracle reads the JSON of the policy with words and
 * loops, as docs/format-policy.md says it, and knows nothing of masks. NIGH_SEED repeats a run. */
#include "base/os.h"
#include "place/check.h"
#include "place/decide.h"
#include "test.h"

static uint64_t rng;
static uint32_t pick(uint32_t n) { return (uint32_t)(test_rand(&rng) % n); }
static bool chance(uint32_t percent) { return pick(100) < percent; }

/* ---- random policies ---- */

static const char *const durations[] = { "0", "none", "90s", "30m", "24h", "7d" };
static const char *const countries[] = { "DE", "FR", "IE", "US", "JP", "CH" };
static const char *const areas[] = { "eu", "dach", "DE", "FR", "US", "JP", "world" };

#define ADD(...) CHECK(nigh_buf_addf(b, __VA_ARGS__) == NIGH_OK)

static void list_of(nigh_buf *b, const char *const *words, size_t count, uint32_t percent) {
    bool any = false;
    ADD("[");
    for (size_t i = 0; i < count; i++)
        if (chance(percent)) {
            ADD("%s\"%s\"", any ? "," : "", words[i]);
            any = true;
        }
    ADD("]");
}

static void make_classes(nigh_buf *b, uint32_t count) {
    static const char *const tiers[] = { "device", "edge", "cloud" };
    ADD("\"classes\":{");
    for (uint32_t i = 0; i < count; i++) {
        bool redacts = false, any = false;
        ADD("%s\"c%u\":{\"level\":%u,\"may_cross\":[", i ? "," : "", i, (i * 7 + 3) % 11);
        for (uint32_t t = 0; t < 3; t++)
            if (chance(70)) {
                bool redacted = t && chance(30);
                redacts = redacts || redacted;
                ADD("%s\"%s%s\"", any ? "," : "", tiers[t], redacted ? ":redacted" : "");
                any = true;
            }
        ADD("]");
        if (redacts) ADD(",\"redact\":[\"pii\"%s]", chance(50) ? ",\"secrets\"" : "");
        if (chance(40)) ADD(",\"training\":%s", chance(50) ? "true" : "false");
        ADD("}");
    }
    ADD("},");
}

static void make_target(nigh_buf *b, uint32_t i, uint32_t zones) {
    static const char *const tiers[] = { "device", "edge", "cloud" }, *const isas[] = { "avx2", "neon", "wasm" },
                             *const cans[] = { "tools", "vision", "json", "embed" };
    uint32_t tier = pick(3);
    ADD("%s\"t%u\":{\"tier\":\"%s\",\"model\":\"m%u", i ? "," : "", i, tiers[tier], i);
    if (chance(60)) ADD("@sha256:%064x", i);
    ADD("\"");
    if (tier == 1 && zones && chance(60)) ADD(",\"zone\":\"z%u\"", pick(zones));
    if (tier) ADD(",\"url\":\"https://t%u.example\"", i);
    if (tier == 2 && chance(70)) ADD(",\"region\":\"%s\"", areas[pick(NIGH_COUNT(areas))]);
    if (tier && chance(70)) ADD(",\"retention\":\"%s\"", durations[pick(NIGH_COUNT(durations))]);
    if (tier && chance(70)) ADD(",\"trains\":%s", chance(30) ? "true" : "false");
    if (chance(50)) ADD(",\"cost\":{\"in\":%u.5,\"out\":%u}", pick(8), pick(20));
    if (chance(50)) ADD(",\"context_tokens\":%u", 64 << pick(8));
    ADD(",\"can\":");
    list_of(b, cans, NIGH_COUNT(cans), 60);
    if (chance(50)) {
        ADD(",\"needs\":{\"ram_mb\":%u,\"isa\":", pick(4000));
        list_of(b, isas, NIGH_COUNT(isas), 40);
        ADD("}");
    }
    ADD("}");
}

static void make_limits(nigh_buf *b, uint32_t evals) {
    static const char *const thermals[] = { "nominal", "fair", "serious", "critical" },
                             *const lines[] = { "any", "no-cloud", "device-only" },
                             *const ranks[] = { "local-first", "latency", "cost", "quality" };
    if (chance(60)) ADD(",\"region\":\"%s\"", areas[pick(NIGH_COUNT(areas))]);
    if (chance(70)) ADD(",\"retention\":{\"prompt\":\"%s\"}", durations[pick(NIGH_COUNT(durations))]);
    if (chance(40)) ADD(",\"latency\":{\"first_token_ms\":%u,\"total_ms\":%u}", pick(400), pick(3000));
    if (chance(40)) ADD(",\"cost\":{\"per_call_usd\":0.00%u,\"per_user_day_usd\":0.0%u}", pick(9) + 1, pick(9) + 1);
    bool eval = evals && chance(50);
    if (eval) ADD(",\"quality\":{\"eval\":\"e%u\",\"min\":0.%u}", pick(evals), pick(9));
    if (chance(50))
        ADD(",\"device\":{\"min_ram_mb\":%u,\"battery_min\":%u,\"thermal_max\":\"%s\",\"metered\":\"%s\"}", pick(5000),
            pick(101), thermals[pick(4)], lines[pick(3)]);
    if (chance(60)) ADD(",\"rank\":\"%s\"", ranks[pick(eval ? 4 : 3)]);
    if (chance(30)) ADD(",\"hedge\":{\"after_ms\":%u%s}", pick(900), chance(50) ? ",\"p95\":true" : "");
    if (chance(20))
        ADD(",\"escalate\":{\"when\":[\"confidence\"],\"threshold\":0.%u,\"target_rate\":0.%u}", pick(9), pick(9));
}

/* Of some of the places a feature names; each of them could be 0, but not all. */
static void make_weights(nigh_buf *b, const uint32_t *places, uint32_t count) {
    bool any = false;
    if (!count || !chance(50)) return;
    ADD(",\"weights\":{");
    for (uint32_t i = 0; i < count; i++) {
        bool last = i + 1 == count;
        if (!last && chance(30)) continue;
        ADD("%s\"t%u\":%u", any ? "," : "", places[i], last ? 1 + pick(5) : chance(20) ? 0 : pick(1001));
        any = true;
    }
    ADD("}");
}

typedef struct { uint32_t classes, zones, targets, evals, features; } sizes;

static void make_policy(nigh_buf *b, sizes *n) {
    *n = (sizes){ 1 + pick(5), pick(4), pick(10), pick(3), 1 + pick(5) };
    b->len = 0;
    ADD("{\"version\":%u,", 1 + pick(9));
    if (chance(40)) ADD("\"valid_until\":\"2026-11-2%uT12:00:00Z\",\"grace\":\"24h\",", pick(10));
    if (chance(30)) ADD("\"signed_models\":true,");
    if (chance(40)) ADD("\"default_feature\":\"f0\",");
    make_classes(b, n->classes);
    ADD("\"regions\":{\"eu\":{\"includes\":[\"DE\",\"FR\",\"IE\"]},\"dach\":{\"includes\":[\"DE\",\"CH\"]},"
        "\"world\":{\"includes\":[\"eu\",\"US\",\"JP\",\"CH\"]}},\"zones\":{");
    for (uint32_t i = 0; i < n->zones; i++) {
        ADD("%s\"z%u\":{", i ? "," : "", i);
        const char *tenants = chance(50) ? ",\"tenants\":[\"acme\"]" : "";
        if (chance(70)) ADD("\"region\":\"%s\"%s", areas[pick(NIGH_COUNT(areas))], tenants);
        ADD("}");
    }
    ADD("},\"targets\":{");
    for (uint32_t i = 0; i < n->targets; i++) make_target(b, i, n->zones);
    ADD("},\"evals\":{");
    for (uint32_t i = 0; i < n->evals; i++) {
        bool any = false;
        ADD("%s\"e%u\":{", i ? "," : "", i);
        for (uint32_t t = 0; t < n->targets; t++)
            if (chance(60)) {
                ADD("%s\"t%u\":0.%u", any ? "," : "", t, pick(10));
                any = true;
            }
        ADD("}");
    }
    ADD("},\"features\":{");
    for (uint32_t i = 0; i < n->features; i++) {
        uint32_t places[16], count = 0;
        ADD("%s\"f%u\":{\"class\":\"c%u\",\"place\":[", i ? "," : "", i, pick(n->classes));
        for (uint32_t t = 0, at = pick(10); t < n->targets; t++)
            if (chance(70)) {
                places[count] = (t + at) % n->targets;
                ADD("%s\"t%u\"", count ? "," : "", places[count]);
                count++;
            }
        ADD("]");
        make_weights(b, places, count);
        make_limits(b, n->evals);
        ADD("}");
    }
    ADD("},\"aliases\":{\"gpt-4o\":\"f0\"}}");
}

/* ---- the oracle ---- */

typedef struct {
    const nigh_json *root;
    const nigh_place_facts *facts;
    nigh_str tenant, feature, data_class, found_class;      /* "": none */
    const nigh_place_request *request;
} question;

static const nigh_json *at(const nigh_json *v, const char *key) { return nigh_json_get(v, nigh_str_of(key)); }
static nigh_str text_at(const nigh_json *v, const char *key) {
    const nigh_json *found = at(v, key);
    return found ? found->text : NIGH_STR("");
}
static double number_at(const nigh_json *v, const char *key, double otherwise) {
    const nigh_json *found = at(v, key);
    return found ? found->number : otherwise;
}
static bool is(nigh_str a, const char *b) { return nigh_str_eq(a, nigh_str_of(b)); }
static bool lists(const nigh_json *list, nigh_str word) {
    for (const nigh_json *v = nigh_json_first(list); v; v = v->next)
        if (nigh_str_eq(v->text, word)) return true;
    return false;
}

/* Is `country` in the place of this name? Regions may hold regions. */
static bool in_place(const nigh_json *root, nigh_str place, const char *country, int depth) {
    const nigh_json *region = nigh_json_get(at(root, "regions"), place);
    if (!region) return is(place, country);
    for (const nigh_json *v = at(region, "includes")->first; v && depth < 4; v = v->next)
        if (in_place(root, v->text, country, depth + 1)) return true;
    return false;
}

static bool place_inside(const nigh_json *root, nigh_str inner, nigh_str outer) {
    for (size_t i = 0; i < NIGH_COUNT(countries); i++)
        if (in_place(root, inner, countries[i], 0) && !in_place(root, outer, countries[i], 0)) return false;
    return true;
}

static double seconds_of(nigh_str text) {
    static const struct { const char *text; double seconds; } known[] = {
        { "0", 0 }, { "none", 0 }, { "90s", 90 }, { "30m", 1800 }, { "24h", 86400 }, { "7d", 604800 } };
    for (size_t i = 0; i < NIGH_COUNT(known); i++)
        if (is(text, known[i].text)) return known[i].seconds;
    return 1e99;
}

static const nigh_json *feature_of(const question *q) {
    const nigh_json *features = at(q->root, "features"), *f = nigh_json_get(features, q->feature);
    if (!f && is(q->feature, "gpt-4o")) f = at(features, "f0");
    if (!f && at(q->root, "default_feature")) f = nigh_json_get(features, text_at(q->root, "default_feature"));
    return f;
}

/* The most private of the feature's class, the data's and the classifier's. */
static const nigh_json *class_of(const question *q) {
    const nigh_json *classes = at(q->root, "classes"), *f = feature_of(q), *best = NULL;
    nigh_str names[3] = { f ? text_at(f, "class") : NIGH_STR(""), q->data_class, q->found_class };
    for (const nigh_json *c = classes->first; c; c = c->next) {
        bool counts = !f;
        for (size_t i = 0; i < 3; i++) counts = counts || (names[i].len && nigh_str_eq(names[i], c->key));
        if (counts && (!best || number_at(c, "level", 0) > number_at(best, "level", 0))) best = c;
    }
    return best;
}

static bool class_lets(const question *q, nigh_str tier) {
    char redacted[32];
    const nigh_json *list = at(class_of(q), "may_cross");
    snprintf(redacted, sizeof redacted, "%.*s:redacted", (int)tier.len, tier.ptr);
    return lists(list, tier) || lists(list, nigh_str_of(redacted));
}

/* Where a target is: its own region, or its zone's. */
static nigh_str where_is(const question *q, const nigh_json *t) {
    if (at(t, "region")) return text_at(t, "region");
    return text_at(nigh_json_get(at(q->root, "zones"), text_at(t, "zone")), "region");
}

static bool device_has(const question *q, const nigh_json *needs) {
    static const struct { const char *name; unsigned bit; } isas[] = { { "avx2", NIGH_ISA_AVX2 },
                                                                       { "neon", NIGH_ISA_NEON },
                                                                       { "wasm", NIGH_ISA_WASM } };
    bool any = !nigh_json_first(at(needs, "isa"));
    for (size_t i = 0; i < NIGH_COUNT(isas); i++)
        any = any || (lists(at(needs, "isa"), nigh_str_of(isas[i].name)) && (q->facts->isa & isas[i].bit));
    return any && number_at(needs, "ram_mb", 0) <= q->facts->ram_mb;
}

static bool device_allows(const question *q, const nigh_json *f) {
    static const char *const heat[] = { "nominal", "fair", "serious", "critical" };
    const nigh_json *d = at(f, "device");
    if (number_at(d, "min_ram_mb", 0) > q->facts->ram_mb) return false;
    if (!q->facts->on_mains && number_at(d, "battery_min", 0) > q->facts->battery_percent) return false;
    for (int i = 0; i < 4; i++)
        if (is(text_at(d, "thermal_max"), heat[i]) && (int)q->facts->thermal > i) return false;
    return true;
}

static bool line_allows(const question *q, const nigh_json *f, nigh_str tier) {
    nigh_str line = text_at(at(f, "device"), "metered");
    if (!q->facts->metered || is(tier, "device")) return true;
    return !is(line, "device-only") && !(is(line, "no-cloud") && is(tier, "cloud"));
}

static bool policy_lives(const question *q) {
    uint64_t end;
    const nigh_json *v = at(q->root, "valid_until");
    if (!v) return true;
    CHECK(nigh_instant_parse(v->text, &end));
    return q->facts->now_s <= end + (uint64_t)seconds_of(text_at(q->root, "grace"));
}

/* May this target serve the request, by the hard rules? */
static bool oracle_allows(const question *q, const nigh_json *t, uint32_t idx) {
    const nigh_json *f = feature_of(q), *class = class_of(q);
    const nigh_json *zone = nigh_json_get(at(q->root, "zones"), text_at(t, "zone"));
    nigh_str tier = text_at(t, "tier"), place = where_is(q, t);
    bool home = is(tier, "device"), hashed = nigh_str_find(text_at(t, "model"), NIGH_STR("@sha256:"), 0) != SIZE_MAX;
    if (f ? !lists(at(f, "place"), t->key) : !home) return false;
    if (!class_lets(q, tier)) return false;
    if (!home && at(f, "region") && (!place.len || !place_inside(q->root, place, text_at(f, "region")))) return false;
    if (at(zone, "tenants") && !lists(at(zone, "tenants"), q->tenant)) return false;
    double keeps = home ? 0 : at(t, "retention") ? seconds_of(text_at(t, "retention")) : 1e99;
    nigh_str may_keep = text_at(at(f, "retention"), "prompt");
    if (keeps > (may_keep.len ? seconds_of(may_keep) : 0)) return false;
    const nigh_json *trains = at(t, "trains"), *training = at(class, "training");
    if (!home && (!trains || trains->boolean) && !(training && training->boolean)) return false;
    if (at(f, "quality")) {
        const nigh_json *scores = nigh_json_get(at(q->root, "evals"), text_at(at(f, "quality"), "eval"));
        const nigh_json *score = nigh_json_get(scores, t->key);
        if (!score || score->number < number_at(at(f, "quality"), "min", 0)) return false;
    }
    if (home && (!device_has(q, at(t, "needs")) || !device_allows(q, f))) return false;
    if (!line_allows(q, f, tier)) return false;
    if (home && !(q->facts->models >> idx & 1)) return false;
    const nigh_json *strict = at(q->root, "signed_models");
    if (strict && strict->boolean && !is(tier, "cloud") && !hashed) return false;
    return home || policy_lives(q);
}

/* ... and can it now? */
static bool oracle_usable(const question *q, const nigh_json *t, uint32_t idx) {
    static const char *const cans[] = { "tools", "vision", "json", "embed" };
    const nigh_json *f = feature_of(q);
    bool home = is(text_at(t, "tier"), "device");
    if (!oracle_allows(q, t, idx)) return false;
    if ((!home && !q->facts->online) || (q->facts->unhealthy >> idx & 1)) return false;
    double first = number_at(at(f, "latency"), "first_token_ms", 0), total = number_at(at(f, "latency"), "total_ms", 0);
    if (first > 0 && q->facts->first_token_ms[idx] > first) return false;
    if (total > 0 && q->facts->total_ms[idx] > total) return false;
    double price = 0, call = number_at(at(f, "cost"), "per_call_usd", 1e99),
           day = number_at(at(f, "cost"), "per_user_day_usd", 1e99);
    if (at(t, "cost"))
        price = (number_at(at(t, "cost"), "in", 0) * q->request->prompt_tokens
                 + number_at(at(t, "cost"), "out", 0) * q->request->max_tokens) * 1e-6;
    else if (is(text_at(t, "tier"), "cloud")) price = 1e300;
    if (at(f, "cost") && (price > call || (price > 0 && q->request->spent_today_usd + price > day))) return false;
    double room = number_at(t, "context_tokens", 0);
    if (room > 0 && (double)q->request->prompt_tokens + q->request->max_tokens > room) return false;
    for (size_t i = 0; i < NIGH_COUNT(cans); i++)
        if ((q->request->needs >> i & 1) && !lists(at(t, "can"), nigh_str_of(cans[i]))) return false;
    return true;
}

/* ---- one comparison ---- */

static uint32_t measured[2][NIGH_TARGETS_MAX];

static void random_facts(nigh_place_facts *f) {
    *f = (nigh_place_facts){ .now_s = 1763985600 + 31536000 + (uint64_t)pick(20 * 86400), .ram_mb = pick(6000),
                             .isa = pick(64), .on_mains = chance(50), .battery_percent = pick(101),
                             .thermal = (nigh_thermal)pick(4), .metered = chance(30), .online = chance(85),
                             .models = test_rand(&rng) | test_rand(&rng), .first_token_ms = measured[0],
                             .total_ms = measured[1] };
    if (chance(30)) f->unhealthy = test_rand(&rng) & test_rand(&rng);
    for (size_t i = 0; i < NIGH_TARGETS_MAX; i++) {
        measured[0][i] = chance(30) ? 0 : pick(400);
        measured[1][i] = chance(30) ? 0 : pick(3000);
    }
}

static double key_of(const question *q, const nigh_json *t, uint32_t idx) {
    const nigh_json *f = feature_of(q);
    nigh_str rank = text_at(f, "rank"), tier = text_at(t, "tier");
    double level = is(tier, "device") ? 0 : is(tier, "edge") ? 1 : 2;
    if (is(rank, "latency")) return q->facts->first_token_ms[idx] ? q->facts->first_token_ms[idx] : 1e9 + level;
    if (is(rank, "quality"))
        return -nigh_json_get(nigh_json_get(at(q->root, "evals"), text_at(at(f, "quality"), "eval")), t->key)->number;
    if (!is(rank, "cost")) return level;
    if (!at(t, "cost")) return level == 2 ? 1e300 : 0;
    return (number_at(at(t, "cost"), "in", 0) * q->request->prompt_tokens
            + number_at(at(t, "cost"), "out", 0) * q->request->max_tokens) * 1e-6;
}

/* The price of a call, as the page says it; 1e300 where none is stated. */
static double price_of(const question *q, const nigh_json *t) {
    if (!at(t, "cost")) return is(text_at(t, "tier"), "cloud") ? 1e300 : 0;
    return (number_at(at(t, "cost"), "in", 0) * q->request->prompt_tokens
            + number_at(at(t, "cost"), "out", 0) * q->request->max_tokens) * 1e-6;
}

/* "Equals": what is drawn for place n (from 1) of the order, among the `count` in `left`, by the page's arithmetic. */
static size_t oracle_draw(const question *q, const nigh_json *const *left, size_t count, uint32_t n) {
    const nigh_json *weights = at(feature_of(q), "weights");
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        const nigh_json *w = nigh_json_get(weights, left[i]->key);
        sum += w ? w->number : 1;
    }
    if (!weights || !(sum > 0)) return 0;
    uint64_t x = q->request->seed;
    for (uint32_t i = 0; i < n; i++) x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    double rest = (double)((x ^ x >> 31) % (uint64_t)sum);
    for (size_t i = 0; i < count; i++) {
        const nigh_json *w = nigh_json_get(weights, left[i]->key);
        rest -= w ? w->number : 1;
        if (rest < 0) return i;
    }
    return count;
}

/* The whole order: of what is usable, in the order of `place` (or of the targets), the least by rank, drawn where
 * equal. */
static size_t oracle_order(const question *q, const nigh_json *const *all, size_t count, const nigh_json **out) {
    const nigh_json *f = feature_of(q), *left[NIGH_TARGETS_MAX], *equal[NIGH_TARGETS_MAX];
    size_t lefts = 0, done = 0;
    for (const nigh_json *v = f ? at(f, "place")->first : NULL; v; v = v->next)
        for (uint32_t i = 0; i < count; i++)
            if (nigh_str_eq(all[i]->key, v->text) && oracle_usable(q, all[i], i)) left[lefts++] = all[i];
    for (uint32_t i = 0; !f && i < count; i++) if (oracle_usable(q, all[i], i)) left[lefts++] = all[i];
    while (lefts) {
        double least = 1e301;
        size_t equals = 0, at_left[NIGH_TARGETS_MAX];
        for (size_t i = 0; i < lefts; i++) {
            uint32_t idx = 0;
            while (all[idx] != left[i]) idx++;
            double key = key_of(q, left[i], idx);
            if (key < least) { least = key; equals = 0; }
            if (key <= least) { equal[equals] = left[i]; at_left[equals++] = i; }
        }
        size_t drawn = oracle_draw(q, equal, equals, (uint32_t)done + 1);
        if (drawn == equals) return 0;
        out[done++] = equal[drawn];
        for (size_t i = at_left[drawn] + 1; i < lefts; i++) left[i - 1] = left[i];
        lefts--;
    }
    return done;
}

/* "Two at once": which second target may be asked beside `first`; NULL: none. */
static const nigh_json *oracle_second(const question *q, const nigh_json *const *order, size_t count,
                                      const nigh_json *first, const nigh_json *const *all, uint64_t tried) {
    const nigh_json *f = feature_of(q);
    double call = number_at(at(f, "cost"), "per_call_usd", 1e99),
           day = number_at(at(f, "cost"), "per_user_day_usd", 1e99);
    if (!at(f, "hedge") || is(text_at(first, "tier"), "device")) return NULL;
    for (size_t i = 0; i < count; i++) {
        uint32_t idx = 0;
        while (all[idx] != order[i]) idx++;
        double both = price_of(q, first) + price_of(q, order[i]);
        if (order[i] == first || is(text_at(order[i], "tier"), "device") || (tried >> idx & 1)) continue;
        if (at(f, "cost") && (both > call || (both > 0 && q->request->spent_today_usd + both > day))) continue;
        return order[i];
    }
    return NULL;
}

/* The order, the second targets and the shares, all by their names. */
static bool compare_order(const nigh_policy *p, const question *q, const nigh_place_request *r, const nigh_decision *d,
                          const nigh_json *const *all, size_t count, char *why, size_t cap) {
    const nigh_json *order[NIGH_TARGETS_MAX];
    double shares[NIGH_TARGETS_MAX], sum = 0;
    size_t usable = oracle_order(q, all, count, order);
    snprintf(why, cap, "order: %zu, oracle %zu", d->count, usable);
    if (usable != d->count) return false;
    for (size_t i = 0; i < usable; i++) {
        snprintf(why, cap, "order: place %zu is t%u, oracle %.*s", i + 1, d->order[i], (int)order[i]->key.len,
                 order[i]->key.ptr);
        if (all[d->order[i]] != order[i]) return false;
    }
    for (size_t i = 0; i < usable; i++) {
        uint64_t tried = test_rand(&rng) & test_rand(&rng);
        const nigh_json *second = oracle_second(q, order, usable, order[i], all, tried);
        uint32_t got = nigh_place_hedge(p, r, d, d->order[i], tried);
        snprintf(why, cap, "beside t%u: %u", d->order[i], got);
        if (second ? got >= count || all[got] != second : got != UINT32_MAX) return false;
        if (got != UINT32_MAX && !(d->usable >> got & 1)) return false;
    }
    nigh_place_shares(p, q->facts, r, d, shares);
    for (size_t i = 0; i < NIGH_TARGETS_MAX; i++) {
        snprintf(why, cap, "share of t%zu: %g", i, shares[i]);
        if (shares[i] > 0 && !(d->usable >> i & 1)) return false;
        sum += shares[i];
    }
    return usable ? sum > 0.999999 && sum < 1.000001 && shares[d->order[0]] > 0 : sum <= 0;
}

static bool compare(const nigh_policy *p, const question *q, nigh_place_request *r, char *why, size_t cap) {
    nigh_decision d;
    uint32_t idx = 0;
    nigh_decide(p, q->facts, r, &d);
    if (!nigh_str_eq(p->classes[d.class_idx].name, class_of(q)->key)) {
        nigh_str name = p->classes[d.class_idx].name;
        snprintf(why, cap, "the class is %.*s", (int)name.len, name.ptr);
        return false;
    }
    const nigh_json *by_idx[NIGH_TARGETS_MAX];
    for (const nigh_json *t = at(q->root, "targets")->first; t; t = t->next, idx++) {
        bool allowed = oracle_allows(q, t, idx), usable = oracle_usable(q, t, idx);
        unsigned all = nigh_place_why(p, q->facts, r, idx), hard = all & (2u * NIGH_WHY_HARD_LAST - 1);
        by_idx[idx] = t;
        snprintf(why, cap, "target %u: allowed %d, oracle %d; usable %d, oracle %d; why %x", idx,
                 (int)(d.allowed >> idx & 1), allowed, (int)(d.usable >> idx & 1), usable, all);
        if ((d.allowed >> idx & 1) != allowed || (d.usable >> idx & 1) != usable) return false;
        if ((hard == 0) != allowed || (all == 0) != usable) return false;
    }
    if ((d.allowed | d.usable) >> (idx < 64 ? idx : 63) >> (idx < 64 ? 0 : 1)) return false;
    if ((size_t)__builtin_popcountll(d.usable) != d.count) return false;
    return compare_order(p, q, r, &d, by_idx, idx, why, cap);
}

static void test_oracle(void) {
    nigh_buf text = NIGH_BUF(1 << 20);
    uint64_t seed = test_seed(), decisions = 0, allowed = 0;
    size_t policies = test_short() ? 200 : 4000, each = 250;
    for (size_t i = 0; i < policies && !test_state.case_failed; i++) {
        nigh_err err = { 0 };
        nigh_policy *p;
        sizes n;
        rng = seed * 1000003 + i;
        make_policy(&text, &n);
        bool ok = nigh_policy_parse(&p, nigh_buf_str(&text), &err) == NIGH_OK;
        CHECK_MSG(ok, "NIGH_SEED=%llu policy %zu: %s\n%.*s", (unsigned long long)seed, i, err.text, (int)text.len,
                  text.ptr);
        for (size_t k = 0; ok && k < each; k++) {
            char feature[8], data[8], found[8], why[160] = "";
            nigh_place_facts facts;
            nigh_place_request r = { .prompt_tokens = pick(9000), .max_tokens = pick(900),
                                     .needs = chance(40) ? pick(16) : 0, .spent_today_usd = pick(100) * 0.001,
                                     .seed = test_rand(&rng) };
            random_facts(&facts);
            snprintf(feature, sizeof feature, chance(90) ? "f%u" : chance(50) ? "gpt-4o" : "x%u", pick(n.features));
            snprintf(data, sizeof data, chance(50) ? "c%u" : "", pick(n.classes));
            snprintf(found, sizeof found, chance(30) ? "c%u" : "", pick(n.classes));
            question q = { p->doc.root, &facts, chance(50) ? NIGH_STR("acme") : NIGH_STR("other"), nigh_str_of(feature),
                           nigh_str_of(data), nigh_str_of(found), &r };
            facts.tenant_zones = nigh_place_tenant(p, q.tenant);
            r.feature_idx = nigh_policy_feature(p, q.feature);
            r.data_class_idx = data[0] ? nigh_policy_class(p, q.data_class) : UINT32_MAX;
            r.found_class_idx = found[0] ? nigh_policy_class(p, q.found_class) : UINT32_MAX;
            bool same = compare(p, &q, &r, why, sizeof why);
            CHECK_MSG(same, "NIGH_SEED=%llu policy %zu request %zu (%s %s %s): %s\n%.*s", (unsigned long long)seed, i,
                      k, feature, data, found, why, (int)text.len, text.ptr);
            if (!same) break;
            nigh_decision d;
            nigh_decide(p, &facts, &r, &d);
            allowed += (uint64_t)__builtin_popcountll(d.allowed);
            decisions++;
        }
        nigh_policy_free(p);
    }
    nigh_buf_release(&text);
    printf("  figure decisions checked=%llu allowed=%llu wrong=%d\n", (unsigned long long)decisions,
           (unsigned long long)allowed, test_state.case_failed);
    CHECK(decisions == policies * each && allowed > decisions / 4);
}

/* What check.c says cannot be reached is never decided, for any facts. */
static void test_reach_is_an_upper_bound(void) {
    nigh_buf text = NIGH_BUF(1 << 20);
    rng = test_seed() + 77;
    for (size_t i = 0; i < 300; i++) {
        nigh_policy *p;
        sizes n;
        make_policy(&text, &n);
        if (!CHECK(nigh_policy_parse(&p, nigh_buf_str(&text), NULL) == NIGH_OK)) break;
        for (size_t k = 0; k < 100; k++) {
            nigh_place_facts facts;
            nigh_decision d;
            nigh_place_request r = { .feature_idx = pick(n.features), .data_class_idx = pick(n.classes),
                                     .found_class_idx = pick(n.classes) };
            random_facts(&facts);
            facts.tenant_zones = nigh_place_tenant(p, NIGH_STR("acme"));
            nigh_decide(p, &facts, &r, &d);
            uint64_t reach = nigh_reach(p, r.feature_idx, d.class_idx, UINT32_MAX);
            CHECK((d.allowed & ~reach) == 0);
            CHECK((reach & ~nigh_reach_all(p, r.feature_idx)) == 0);
            if (!nigh_can_leave(p, r.feature_idx, NULL).leaves) CHECK((d.allowed & ~p->tier[NIGH_TIER_DEVICE]) == 0);
        }
        CHECK(nigh_policy_compare(p, p, NULL, NULL) == 0);
        nigh_policy_free(p);
    }
    nigh_buf_release(&text);
}

TEST_MAIN(T(test_oracle), T(test_reach_is_an_upper_bound))
