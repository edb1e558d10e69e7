/* Reading policies, their refusals, and the questions of check.h. */
#include "place/check.h"
#include "place/decide.h"
#include "test.h"

#define HEAD "{" HEAD_REST
#define HEAD_REST \
    "\"version\":7,\"regions\":{\"eu\":{\"includes\":[\"DE\",\"FR\"]}}," \
    "\"classes\":{\"public\":{\"level\":0,\"may_cross\":[\"device\",\"edge\",\"cloud\"]," \
    "\"training\":true}," \
    "\"personal\":{\"level\":2,\"may_cross\":[\"device\",\"edge\",\"cloud:redacted\"]," \
    "\"redact\":[\"pii\",\"secrets\"]}," \
    "\"secret\":{\"level\":3,\"may_cross\":[\"device\"]}},"
#define ZONES "\"zones\":{\"berlin\":{\"region\":\"DE\",\"tenants\":[\"acme\"]}},"
#define TARGETS \
    "\"targets\":{\"tiny\":{\"tier\":\"device\",\"model\":\"q@sha256:" \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"," \
    "\"needs\":{\"ram_mb\":900,\"isa\":[\"avx2\"]}}," \
    "\"mid\":{\"tier\":\"edge\",\"model\":\"q8\",\"zone\":\"berlin\",\"url\":\"https://e.example\"," \
    "\"retention\":\"0\",\"trains\":false},\"big\":{\"tier\":\"cloud\",\"model\":\"large\"," \
    "\"provider\":\"mistral\",\"region\":\"FR\"," \
    "\"retention\":\"none\",\"trains\":false,\"cost\":{\"in\":2,\"out\":6},\"key\":\"env:KEY\"}},"
#define FEATURE(rest) "\"features\":{\"mail\":{\"class\":\"personal\",\"place\":[\"tiny\",\"mid\",\"big\"]" rest "}}}"
#define CAPTURE(feature, name, people, until) \
    "{\"captures\":{\"" name "\":{\"feature\":" feature ",\"tenant\":\"acme\",\"readers\":[\"r\"]," \
    "\"approved_by\":[" people "],\"until\":" until "}}," HEAD_REST ZONES TARGETS FEATURE("")
#define POLICY HEAD ZONES TARGETS FEATURE(",\"region\":\"eu\"")

static nigh_policy *parse(const char *text) {
    nigh_policy *p;
    nigh_err err = { 0 };
    nigh_status status = nigh_policy_parse(&p, nigh_str_of(text), &err);
    CHECK_MSG(status == NIGH_OK, "%s", err.text);
    return p;
}

static void test_ledger_retention(void) {
#define KEEP(text) "{\"ledger\":" text "," HEAD_REST ZONES TARGETS FEATURE("")
    nigh_policy *p = parse(POLICY);
    if (!p) return;
    CHECK(p->ledger_keep_s == NIGH_FOREVER);
    nigh_policy_free(p);
    if (!(p = parse(KEEP("{\"keep\":\"180d\"}")))) return;
    CHECK(p->ledger_keep_s == 180 * 86400);
    nigh_policy_free(p);
    static const char *const bad[] = { KEEP("{}"), KEEP("{\"keep\":\"none\"}"), KEEP("{\"keep\":\"0\"}"),
                                       KEEP("{\"keep\":180}"), KEEP("{\"keep\":\"180d\",\"days\":1}"),
                                       KEEP("\"180d\"") };
    for (size_t i = 0; i < NIGH_COUNT(bad); i++)
        CHECK_MSG(nigh_policy_parse(&p, nigh_str_of(bad[i]), NULL) == NIGH_EINVAL && !p, "%s", bad[i]);
}

static void test_reads(void) {
    nigh_policy *p = parse(POLICY);
    if (!p) return;
    CHECK(p->version == 7 && p->class_count == 3 && p->target_count == 3 && p->feature_count == 1);
    CHECK(nigh_str_eq(p->targets[0].model, NIGH_STR("q")) && p->targets[0].hash.len == 64);
    CHECK(p->targets[1].has_area && nigh_area_inside(&p->targets[1].area, &p->regions[0].area));
    CHECK(p->top_class_idx == nigh_policy_class(p, NIGH_STR("secret")));
    CHECK(nigh_policy_feature(p, NIGH_STR("nobody")) == UINT32_MAX);
    nigh_policy_free(p);
    p = parse(CAPTURE("\"mail\"", "case-142", "\"a\",\"b\"", "\"2027-01-31T00:00:00Z\""));
    if (!p) return;
    nigh_policy *plain = parse(POLICY), *later = parse(CAPTURE("\"mail\"", "case-142", "\"a\",\"b\"",
                                                                "\"2027-02-01T00:00:00Z\""));
    CHECK(nigh_captures_compare(plain, p, NULL, NULL) == 1 && nigh_captures_compare(p, plain, NULL, NULL) == 0);
    CHECK(nigh_captures_compare(p, p, NULL, NULL) == 0 && nigh_captures_compare(p, later, NULL, NULL) == 1
          && nigh_captures_compare(later, p, NULL, NULL) == 0);
    nigh_policy_free(plain);
    nigh_policy_free(later);
    CHECK(p->capture_count == 1 && p->captures[0].feature_idx == 0 && p->captures[0].until_s == 1801353600);
    CHECK(nigh_str_eq(p->captures[0].name, NIGH_STR("case-142")) && nigh_str_eq(p->captures[0].tenant,
                                                                                NIGH_STR("acme")));
    nigh_policy_free(p);
}

typedef struct { const char *text, *says; } refusal;

static void check_refusals(const refusal *cases, size_t count) {
    for (size_t i = 0; i < count; i++) {
        nigh_policy *p;
        nigh_err err = { 0 };
        nigh_status status = nigh_policy_parse(&p, nigh_str_of(cases[i].text), &err);
        CHECK_MSG(status == NIGH_EINVAL && p == NULL && strstr(err.text, cases[i].says), "case %zu: %s", i, err.text);
    }
    CHECK(nigh_alloc_live_bytes() == 0);
}

static void test_refusals(void) {
    static const refusal cases[] = {
        { "[]", "must be an object" },
        { "{}", "version is missing" },
        { "{\"version\":0,\"classes\":{},\"targets\":{},\"features\":{}}", "version: must be a whole number" },
        { "{\"version\":1,\"classes\":{},\"targets\":{},\"features\":{}}", "classes: at least one" },
        { "{\"version\":1,\"clases\":{},\"targets\":{},\"features\":{}}", "clases: this key is not known" },
        { HEAD ZONES TARGETS FEATURE(",\"regoin\":\"eu\""), "regoin: this key is not known" },
        { HEAD ZONES TARGETS FEATURE(",\"region\":\"mars\""), "region: names neither" },
        { CAPTURE("\"mail\"", "c", "\"a\",\"a\"", "\"2027-01-31T00:00:00Z\""), "two different people" },
        { CAPTURE("\"mail\"", "c", "\"a\"", "\"2027-01-31T00:00:00Z\""), "two different people" },
        { CAPTURE("\"mail\"", "c", "\"a\",\"\"", "\"2027-01-31T00:00:00Z\""), "a name is a text" },
        { CAPTURE("\"mail\"", "c", "\"a\",\"b\"", "\"soon\""), "until must be a time" },
        { CAPTURE("\"none\"", "c", "\"a\",\"b\"", "\"2027-01-31T00:00:00Z\""), "feature is not a feature" },
        { CAPTURE("\"mail\"", "../c", "\"a\",\"b\"", "\"2027-01-31T00:00:00Z\""), "a capture's name has" },
        { HEAD ZONES TARGETS FEATURE(",\"rank\":\"quality\""), "rank: rank by quality needs" },
        { HEAD ZONES TARGETS FEATURE(",\"rank\":\"best\""), "rank: this word is not known" },
        { HEAD ZONES TARGETS FEATURE(",\"cache\":\"user\""), "cache: a cache needs retention.cache" },
        { HEAD ZONES TARGETS FEATURE(",\"retention\":{\"prompt\":\"soon\"}"), "prompt: must be a duration" },
        { HEAD ZONES TARGETS FEATURE(",\"degrade\":[\"target:nobody\"]"), "degrade: names a target" },
        { HEAD ZONES TARGETS FEATURE(",\"degrade\":[\"error\",\"queue:<=6h\"]"), "nothing can follow error" },
        { HEAD ZONES TARGETS FEATURE(",\"degrade\":[\"cache:stale<=x\"]"), "holds a duration" },
        { HEAD ZONES TARGETS FEATURE(",\"degrade\":[\"target:tiny,max_tokens=0\"]"), "after a target stands" },
        { HEAD ZONES TARGETS FEATURE(",\"escalate\":{\"when\":[\"confidence\"]}"), "confidence needs a threshold" },
        { HEAD ZONES TARGETS FEATURE(",\"quality\":{\"eval\":\"x\",\"min\":0.5}"), "eval is not an evaluation" },
        { HEAD ZONES TARGETS FEATURE(",\"latency\":{\"total_ms\":-1}"), "total_ms: must be a whole number" },
        { HEAD "\"targets\":{\"a\":{\"tier\":\"cloud\",\"model\":\"m\"}},\"features\":{}}",
          "needs a url or a provider" },
        { HEAD "\"targets\":{\"a\":{\"tier\":\"moon\",\"model\":\"m\"}},\"features\":{}}",
          "tier: this word is not known" },
        { HEAD "\"targets\":{\"a\":{\"tier\":\"device\",\"model\":\"m@sha256:12\"}},\"features\":{}}",
          "64 lower-case hex" },
        { HEAD "\"targets\":{\"a\":{\"tier\":\"device\",\"model\":\"m\",\"trains\":false}},\"features\":{}}",
          "nothing leaves the device" },
        { HEAD "\"targets\":{\"a\":{\"tier\":\"cloud\",\"model\":\"m\",\"url\":\"https://x\",\"key\":\"sk-1\"}},"
               "\"features\":{}}", "never the key itself" },
        { HEAD "\"targets\":{\"a\":{\"tier\":\"cloud\",\"model\":\"m\",\"url\":\"https://x\",\"zone\":\"z\"}},"
               "\"features\":{}}", "zone is not a zone" },
        { HEAD "\"targets\":{},\"features\":{\"f\":{\"class\":\"odd\",\"place\":[]}}}", "class is not a class" },
        { HEAD "\"targets\":{},\"features\":{\"f\":{\"class\":\"secret\",\"place\":[\"x\"]}}}",
          "place: names a target" },
        { "{\"version\":1,\"classes\":{\"a\":{\"level\":1,\"may_cross\":[]},\"b\":{\"level\":1,\"may_cross\":[]}},"
          "\"targets\":{},\"features\":{}}", "has the level of another class" },
        { "{\"version\":1,\"classes\":{\"a\":{\"level\":1,\"may_cross\":[\"cloud:redacted\"]}},\"targets\":{},"
          "\"features\":{}}", "redact names nothing" },
        { "{\"version\":1,\"classes\":{\"a\":{\"level\":1,\"may_cross\":[]}},\"found\":{\"pii\":\"b\"},\"targets\":{},"
          "\"features\":{}}", "found: names a class that this file does not have" },
        { "{\"version\":1,\"classes\":{\"a\":{\"level\":1,\"may_cross\":[]}},\"found\":{\"names\":\"a\"},"
          "\"targets\":{},\"features\":{}}", "names: this key is not known" },
        { "{\"version\":1,\"valid_until\":\"tomorrow\",\"classes\":{},\"targets\":{},\"features\":{}}",
          "must be a time" },
    };
    check_refusals(cases, NIGH_COUNT(cases));
}

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define EDGE(rest) \
    "\"targets\":{\"a\":{\"tier\":\"edge\",\"model\":\"m\",\"url\":\"https://x\"" rest "}},\"features\":{}}"

static void test_new_refusals(void) {
    static const refusal cases[] = {
        { HEAD ZONES TARGETS FEATURE(",\"escalate\":{\"when\":[\"oom\"],\"target_rate\":0.2}"), "go with confidence" },
        { HEAD ZONES TARGETS FEATURE(",\"escalate\":{\"when\":[\"confidence\"],\"threshold\":0.5,\"eval\":\"x\"}"),
          "eval is not an evaluation" },
        { HEAD EDGE(",\"node_key\":\"12\""), "64 hex digits" },
        { HEAD EDGE(",\"key\":\"env:K\",\"node_key\":\"" HEX64 "\""), "not both" },
        { HEAD "\"targets\":{\"a\":{\"tier\":\"cloud\",\"model\":\"m\",\"url\":\"https://x\","
               "\"node_key\":\"" HEX64 "\"}},\"features\":{}}", "goes with an edge target" },
        { HEAD ZONES TARGETS FEATURE(",\"weights\":[]"), "weights: must be an object" },
        { HEAD ZONES TARGETS FEATURE(",\"weights\":{\"nobody\":1}"), "nobody: is not a target that the feature" },
        { HEAD ZONES TARGETS FEATURE(",\"weights\":{\"mid\":-1}"), "mid: a weight is a whole number" },
        { HEAD ZONES TARGETS FEATURE(",\"weights\":{\"mid\":1001}"), "mid: a weight is a whole number" },
        { HEAD ZONES TARGETS FEATURE(",\"weights\":{\"mid\":0.5}"), "mid: a weight is a whole number" },
        { HEAD ZONES TARGETS FEATURE(",\"weights\":{\"tiny\":0,\"mid\":0,\"big\":0}"), "one weight at least" },
        { HEAD ZONES TARGETS FEATURE(",\"hedge\":true"), "hedge: must be an object" },
        { HEAD ZONES TARGETS FEATURE(",\"hedge\":{\"p95\":true}"), "after_ms is missing" },
        { HEAD ZONES TARGETS FEATURE(",\"hedge\":{\"after_ms\":600001}"), "after_ms: must be a whole number" },
    };
    check_refusals(cases, NIGH_COUNT(cases));
}

static void test_times(void) {
    static const struct { const char *text; uint64_t seconds; bool ok; } instants[] = {
        { "1970-01-01T00:00:00Z", 0, true },           { "2000-02-29T12:34:56Z", 951827696, true },
        { "2026-11-28T00:00:00Z", 1795824000, true },  { "2026-13-28T00:00:00Z", 0, false },
        { "2026-11-28 00:00:00Z", 0, false },          { "2026-11-28T00:00:00", 0, false } };
    for (size_t i = 0; i < NIGH_COUNT(instants); i++) {
        uint64_t got = 0;
        bool ok = nigh_instant_parse(nigh_str_of(instants[i].text), &got);
        CHECK_MSG(ok == instants[i].ok && (!ok || got == instants[i].seconds), "%s: %llu", instants[i].text,
                  (unsigned long long)got);
    }
    static const struct { const char *text; uint32_t seconds; bool ok; } durations[] = {
        { "0", 0, true }, { "none", 0, true }, { "90s", 90, true }, { "30m", 1800, true }, { "7d", 604800, true },
        { "", 0, false }, { "d", 0, false }, { "-1d", 0, false }, { "1w", 0, false }, { "99999999d", 0, false } };
    for (size_t i = 0; i < NIGH_COUNT(durations); i++) {
        uint32_t got = 0;
        bool ok = nigh_duration_parse(nigh_str_of(durations[i].text), &got);
        CHECK_MSG(ok == durations[i].ok && (!ok || got == durations[i].seconds), "%s: %u", durations[i].text, got);
    }
}

static void test_questions(void) {
    nigh_policy *p = parse(POLICY);
    nigh_area germany = nigh_area_none();
    if (!p) return;
    germany.bits[0] = 1;            /* the first country of the file */
    CHECK(!nigh_can_leave(p, 0, &p->regions[0].area).leaves);
    nigh_leave leave = nigh_can_leave(p, 0, &germany);
    CHECK(leave.leaves && nigh_str_eq(p->targets[leave.target_idx].name, NIGH_STR("big")));
    CHECK(nigh_can_leave(p, 0, NULL).leaves);
    CHECK(nigh_reach(p, 0, nigh_policy_class(p, NIGH_STR("secret")), UINT32_MAX) == 1);
    nigh_policy_free(p);
}

typedef struct { size_t kinds[6]; } flows;
static void count_flow(void *ud, const nigh_flow *f) { ((flows *)ud)->kinds[f->kind]++; }

static flows compare(const char *older, const char *newer) {
    flows f = { { 0 } };
    nigh_policy *a = parse(older), *b = parse(newer);
    if (a && b) nigh_policy_compare(a, b, count_flow, &f);
    nigh_policy_free(a);
    nigh_policy_free(b);
    return f;
}

#define WITH(retention, trains, region, url, redact) \
    "{\"version\":1,\"classes\":{\"c\":{\"level\":0,\"training\":true,\"may_cross\":[\"cloud\"]" redact "}}," \
    "\"targets\":{\"t\":{\"tier\":\"cloud\",\"model\":\"m\",\"url\":\"" url "\",\"retention\":\"" retention "\"," \
    "\"trains\":" trains region "}},\"features\":{\"f\":{\"class\":\"c\",\"place\":[\"t\"]," \
    "\"retention\":{\"prompt\":\"7d\"}}}}"

static void test_new_flows(void) {
    const char *base = WITH("1s", "false", ",\"region\":\"DE\"", "https://a", ",\"redact\":[\"pii\"]");
    static const struct { const char *newer; nigh_flow_kind kind; } cases[] = {
        { WITH("2s", "false", ",\"region\":\"DE\"", "https://a", ",\"redact\":[\"pii\"]"), NIGH_FLOW_RETENTION },
        { WITH("1s", "true", ",\"region\":\"DE\"", "https://a", ",\"redact\":[\"pii\"]"), NIGH_FLOW_TRAINING },
        { WITH("1s", "false", ",\"region\":\"FR\"", "https://a", ",\"redact\":[\"pii\"]"), NIGH_FLOW_REGION },
        { WITH("1s", "false", "", "https://a", ",\"redact\":[\"pii\"]"), NIGH_FLOW_REGION },
        { WITH("1s", "false", ",\"region\":\"DE\"", "https://b", ",\"redact\":[\"pii\"]"), NIGH_FLOW_PROVIDER },
        { WITH("1s", "false", ",\"region\":\"DE\"", "https://a", ""), NIGH_FLOW_REDACTION } };
    flows none = compare(base, base);
    for (size_t k = 0; k < 6; k++) CHECK(none.kinds[k] == 0);
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        flows f = compare(base, cases[i].newer);
        for (size_t k = 0; k < 6; k++) CHECK_MSG(f.kinds[k] == (k == (size_t)cases[i].kind), "case %zu kind %zu", i, k);
    }
    flows fresh = compare("{\"version\":1,\"classes\":{\"c\":{\"level\":0,\"may_cross\":[]}},\"targets\":{},"
                          "\"features\":{}}", base);
    CHECK(fresh.kinds[NIGH_FLOW_NEW] == 1);
}

/* An unknown feature, with the most generous policy: only the device. */
static void test_unknown_feature(void) {
    nigh_policy *p = parse(POLICY);
    nigh_decision d;
    if (!p) return;
    nigh_place_facts facts = { .online = true, .on_mains = true, .ram_mb = 8000, .isa = NIGH_ISA_AVX2, .models = ~0ull,
                               .tenant_zones = ~0ull };
    nigh_place_request r = { UINT32_MAX, UINT32_MAX, UINT32_MAX, 10, 10, 0, 0, 0 };
    nigh_decide(p, &facts, &r, &d);
    CHECK(d.allowed == 1 && d.count == 1 && d.class_idx == p->top_class_idx);
    facts.ram_mb = 100;
    nigh_decide(p, &facts, &r, &d);
    CHECK(d.count == 0 && (nigh_place_whys(p, &facts, &r) & NIGH_WHY_NEEDS));
    nigh_policy_free(p);
}

/* ---- equals, second targets, shares ---- */

#define CLOUD(name, cost) \
    "\"" name "\":{\"tier\":\"cloud\",\"model\":\"m\",\"url\":\"https://" name ".example\",\"retention\":\"0\"," \
    "\"trains\":false,\"cost\":{\"in\":" cost ",\"out\":0}}"
#define EQUALS(rest) \
    "{\"version\":1,\"classes\":{\"c\":{\"level\":0,\"may_cross\":[\"device\",\"cloud\"]}},\"targets\":{" \
    "\"here\":{\"tier\":\"device\",\"model\":\"m\"}," CLOUD("a", "1") "," CLOUD("b", "1") "," CLOUD("z", "1") "}," \
    "\"features\":{\"f\":{\"class\":\"c\",\"place\":[\"a\",\"b\",\"z\",\"here\"]" rest "}}}"

static nigh_place_facts good_facts(void) {
    return (nigh_place_facts){ .online = true, .on_mains = true, .ram_mb = 8000, .models = ~0ull,
                               .tenant_zones = ~0ull };
}

static void test_weights(void) {
    nigh_policy *p = parse(EQUALS(",\"weights\":{\"a\":3,\"z\":0}"));
    nigh_place_facts facts = good_facts();
    nigh_place_request r = { .data_class_idx = UINT32_MAX, .found_class_idx = UINT32_MAX };
    nigh_decision d, again;
    double shares[NIGH_TARGETS_MAX];
    size_t first_a = 0, count = 4000;
    if (!p) return;
    for (r.seed = 1; r.seed <= count; r.seed++) {
        nigh_decide(p, &facts, &r, &d);
        nigh_decide(p, &facts, &r, &again);
        CHECK(d.count == 4 && memcmp(d.order, again.order, 4) == 0);
        /* the device is not equal to the others, and what has no weight comes after those that have one */
        CHECK(d.order[0] == 0 && d.order[3] == 3);
        first_a += d.order[1] == 1;
    }
    CHECK_MSG(first_a > count * 72 / 100 && first_a < count * 78 / 100, "%zu of %zu", first_a, count);
    nigh_place_shares(p, &facts, &r, &d, shares);
    CHECK(shares[0] == 1 && shares[1] == 0);
    facts.models = 0;
    nigh_decide(p, &facts, &r, &d);
    nigh_place_shares(p, &facts, &r, &d, shares);
    CHECK(shares[0] == 0 && shares[1] == 0.75 && shares[2] == 0.25 && shares[3] == 0);
    nigh_policy_free(p);
    p = parse(EQUALS(""));
    if (!p) return;
    nigh_decide(p, &facts, &r, &d);
    CHECK(d.order[0] == 1 && d.order[1] == 2 && d.order[2] == 3);     /* no weights: the feature's order */
    nigh_policy_free(p);
    CHECK(nigh_place_seed(NIGH_STR("rcpt-5f0c9a1be2d47738")) == 0x5f0c9a1be2d47738);
    CHECK(nigh_place_seed(NIGH_STR("rcpt-5f0c9a1be2d4773")) == 0 && nigh_place_seed(NIGH_STR("5f0c9a1be2d47738")) == 0
          && nigh_place_seed(NIGH_STR("rcpt-5F0c9a1be2d47738")) == 0);
}

static void test_second_targets(void) {
    nigh_policy *p = parse(EQUALS(",\"hedge\":{\"after_ms\":200},\"cost\":{\"per_call_usd\":0.0015}"));
    nigh_place_facts facts = good_facts();
    nigh_place_request r = { .data_class_idx = UINT32_MAX, .found_class_idx = UINT32_MAX, .prompt_tokens = 700 };
    nigh_decision d;
    if (!p) return;
    CHECK(p->features[0].hedge && p->features[0].hedge_ms == 200 && !p->features[0].hedge_p95);
    nigh_decide(p, &facts, &r, &d);
    CHECK(nigh_place_hedge(p, &r, &d, 1, 0) == 2);          /* beside a: b */
    CHECK(nigh_place_hedge(p, &r, &d, 1, 1u << 2) == 3);    /* b was tried */
    CHECK(nigh_place_hedge(p, &r, &d, 0, 0) == UINT32_MAX);     /* nothing beside a model of this device */
    CHECK(nigh_place_hedge(p, &r, &d, 1, 6u << 1) == UINT32_MAX);   /* nor this device beside another */
    r.prompt_tokens = 800;              /* one call is within the budget, two are not */
    nigh_decide(p, &facts, &r, &d);
    CHECK(d.count == 4 && nigh_place_hedge(p, &r, &d, 1, 0) == UINT32_MAX);
    nigh_policy_free(p);
    p = parse(EQUALS(""));
    if (!p) return;
    nigh_decide(p, &facts, &r, &d);
    CHECK(nigh_place_hedge(p, &r, &d, 1, 0) == UINT32_MAX); /* not declared */
    nigh_policy_free(p);
}

TEST_MAIN(T(test_ledger_retention), T(test_weights), T(test_second_targets), T(test_reads), T(test_refusals),
          T(test_new_refusals), T(test_times), T(test_questions), T(test_new_flows), T(test_unknown_feature))
