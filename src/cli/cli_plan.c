/* cli_plan.c - `nigh plan` and `nigh explain`: what a policy decides on this device, now. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/cli_policy.h"

static const char plan_help[] =
    "usage: nigh plan POLICY [OPTIONS]\n"
    "\n"
    "For each feature of a policy (features.json): where it would run on this device\n"
    "now, in which order the other places would be tried, what a call would cost\n"
    "there, and which rules refuse the rest.\n"
    "\n"
    "      --prompt-tokens N, --max-tokens N   size of the call, default 500 and 200\n"
    "      --tenant NAME    whose request it is\n"
    "      --offline        as if there were no network\n"
    "      --metered        as if the line were metered\n"
    "      --json           for programs\n"
    "\n"
    "Memory, power, heat and network are measured; a device target counts when its\n"
    "model is found and has the hash that the policy names.\n"
    "\n"
    "examples:\n"
    "  nigh plan features.json\n"
    "  nigh plan features.json --offline\n";

static const char explain_help[] =
    "usage: nigh explain POLICY FEATURE [OPTIONS]\n"
    "\n"
    "The decision for one request of a feature, which is not run: for each target\n"
    "whether it may and can serve, and if not, every rule that refuses it. A name\n"
    "that the policy does not have is an unknown feature: it stays on the device.\n"
    "\n"
    "      --class NAME     what the caller says of the data\n"
    "      --found NAME     what a classifier found in it; the most private class\n"
    "                       counts\n"
    "      --prompt-tokens N, --max-tokens N   size of the call, default 500 and 200\n"
    "      --tools, --vision   the request needs them\n"
    "      --receipt ID     the order that the request of this receipt got where\n"
    "                       equals are drawn by weight\n"
    "      --tenant NAME, --offline, --metered, --json   as for nigh plan\n"
    "\n"
    "examples:\n"
    "  nigh explain features.json mail-summary --class secret\n"
    "  nigh explain features.json translate --offline\n";

typedef struct {
    nigh_cli_scene scene;
    const char *class, *found, *receipt;
    int64_t prompt_tokens, max_tokens;
    bool tools, vision, json;
} words;

static void print_cost(const nigh_target *t, const nigh_place_request *r) {
    double usd = nigh_place_cost(t, r->prompt_tokens, r->max_tokens);
    if (!t->has_cost) printf("cost not stated");
    else if (usd == 0) printf("free");
    else printf("%.6f USD a call", usd);
}

static void print_refusal(const nigh_policy *p, const nigh_place_facts *facts, const nigh_place_request *r,
                          uint32_t t, bool sentences) {
    unsigned why = nigh_place_why(p, facts, r, t);
    char names[256];
    nigh_cli_why_names(why, names, sizeof names);
    printf("  no   %-16.*s %-6s  %s\n", (int)p->targets[t].name.len, p->targets[t].name.ptr,
           nigh_tier_name(p->targets[t].tier), names);
    for (unsigned i = 0; sentences && i < NIGH_WHYS; i++)
        if (why >> i & 1) printf("       %-24s %s: %s\n", "", nigh_why_name(i), nigh_why_text(i));
}

static void print_decision(const nigh_policy *p, const nigh_place_facts *facts, const nigh_place_request *r,
                           const nigh_decision *d, bool all) {
    uint64_t shown = all || r->feature_idx >= p->feature_count ? ~(uint64_t)0 : p->feature_mask[r->feature_idx].place;
    double shares[NIGH_TARGETS_MAX];
    nigh_place_shares(p, facts, r, d, shares);
    for (size_t i = 0; i < d->count; i++) {
        const nigh_target *t = &p->targets[d->order[i]];
        printf("  %zu.   %-16.*s %-6s  ", i + 1, (int)t->name.len, t->name.ptr, nigh_tier_name(t->tier));
        print_cost(t, r);
        if (t->tier != NIGH_TIER_DEVICE && d->redact) printf(", after redaction");
        if (shares[d->order[i]] > 0 && shares[d->order[i]] < 1)
            printf(", first for %.1f %% of the requests", 100 * shares[d->order[i]]);
        printf("\n");
    }
    for (uint32_t t = 0; t < p->target_count; t++)
        if ((shown >> t & 1) && !(d->usable >> t & 1)) print_refusal(p, facts, r, t, all);
}

/* What may happen while a target is asked. */
static void print_ways(const nigh_policy *p, const nigh_place_request *r, const nigh_decision *d,
                       const nigh_feature *f) {
    uint32_t second = f->hedge && d->count ? nigh_place_hedge(p, r, d, d->order[0], 0) : UINT32_MAX;
    if (second != UINT32_MAX)
        printf("  hedge: no word after %u ms%s, and %.*s is asked beside it\n", f->hedge_ms,
               f->hedge_p95 ? " (at most; its measured 95th percentile)" : "", (int)p->targets[second].name.len,
               p->targets[second].name.ptr);
    if (!(f->escalate & NIGH_ESCALATE_CONFIDENCE)) return;
    printf("  escalates below a confidence of %g", f->threshold);
    if (f->sure_eval_idx != UINT32_MAX)
        printf(", found on %.*s", (int)p->evals[f->sure_eval_idx].name.len, p->evals[f->sure_eval_idx].name.ptr);
    if (f->target_rate >= 0) printf(", at most %g %% of the requests", 100 * f->target_rate);
    printf("\n");
}

static void print_steps(const nigh_policy *p, const nigh_feature *f) {
    static const char *const kinds[] = { "error", "an answer from the cache", "target", "queue" };
    if (!f->degrade_count) return;
    printf("  then ");
    for (size_t i = 0; i < f->degrade_count; i++) {
        const nigh_degrade *g = &f->degrade[i];
        printf("%s%s", i ? ", " : "", kinds[g->kind]);
        if (g->kind == NIGH_DEGRADE_TARGET)
            printf(" %.*s", (int)p->targets[g->target_idx].name.len, p->targets[g->target_idx].name.ptr);
        if (g->kind == NIGH_DEGRADE_CACHE || g->kind == NIGH_DEGRADE_QUEUE)
            printf(" (up to %u minutes)", g->seconds / 60);
    }
    printf("\n");
}

/* ---- for programs ---- */

static void print_json(const nigh_policy *p, const nigh_place_facts *facts, const nigh_place_request *r,
                       const char *feature, const nigh_decision *d) {
    char names[256];
    printf("{\"feature\":\"%s\",\"class\":\"%.*s\",\"order\":[", feature, (int)p->classes[d->class_idx].name.len,
           p->classes[d->class_idx].name.ptr);
    for (size_t i = 0; i < d->count; i++)
        printf("%s\"%.*s\"", i ? "," : "", (int)p->targets[d->order[i]].name.len, p->targets[d->order[i]].name.ptr);
    printf("],\"redact\":[%s%s%s],\"refused\":{", d->redact & NIGH_REDACT_PII ? "\"pii\"" : "",
           d->redact == (NIGH_REDACT_PII | NIGH_REDACT_SECRETS) ? "," : "",
           d->redact & NIGH_REDACT_SECRETS ? "\"secrets\"" : "");
    bool any = false;
    for (uint32_t t = 0; t < p->target_count; t++) {
        if (d->usable >> t & 1) continue;
        nigh_cli_why_names(nigh_place_why(p, facts, r, t), names, sizeof names);
        printf("%s\"%.*s\":\"%s\"", any ? "," : "", (int)p->targets[t].name.len, p->targets[t].name.ptr, names);
        any = true;
    }
    double shares[NIGH_TARGETS_MAX];
    nigh_place_shares(p, facts, r, d, shares);
    printf("},\"shares\":{");
    for (size_t i = 0, n = 0; i < d->count; i++)
        if (shares[d->order[i]] > 0)
            printf("%s\"%.*s\":%.6g", n++ ? "," : "", (int)p->targets[d->order[i]].name.len,
                   p->targets[d->order[i]].name.ptr, shares[d->order[i]]);
    uint32_t second = d->count ? nigh_place_hedge(p, r, d, d->order[0], 0) : UINT32_MAX;
    if (second == UINT32_MAX) printf("},\"hedge\":null}");
    else printf("},\"hedge\":\"%.*s\"}", (int)p->targets[second].name.len, p->targets[second].name.ptr);
}

/* ---- the commands ---- */

static nigh_status read_words(words *w, bool explain, int *argc, char **argv, nigh_err *err) {
    const nigh_opt opts[] = { { "prompt-tokens", 0, NIGH_OPT_INT, &w->prompt_tokens, 0, 1 << 30 },
                              { "max-tokens", 0, NIGH_OPT_INT, &w->max_tokens, 0, 1 << 30 },
                              { "tenant", 0, NIGH_OPT_TEXT, &w->scene.tenant, 0, 0 },
                              { "offline", 0, NIGH_OPT_FLAG, &w->scene.offline, 0, 0 },
                              { "metered", 0, NIGH_OPT_FLAG, &w->scene.metered, 0, 0 },
                              { "json", 0, NIGH_OPT_FLAG, &w->json, 0, 0 },
                              { "class", 0, NIGH_OPT_TEXT, &w->class, 0, 0 },
                              { "found", 0, NIGH_OPT_TEXT, &w->found, 0, 0 },
                              { "receipt", 0, NIGH_OPT_TEXT, &w->receipt, 0, 0 },
                              { "tools", 0, NIGH_OPT_FLAG, &w->tools, 0, 0 },
                              { "vision", 0, NIGH_OPT_FLAG, &w->vision, 0, 0 } };
    return nigh_opts_read(opts, explain ? NIGH_COUNT(opts) : NIGH_COUNT(opts) - 5, argc, argv, err);
}

static nigh_place_request request_of(const words *w) {
    return (nigh_place_request){ .data_class_idx = UINT32_MAX,
                                 .found_class_idx = UINT32_MAX,
                                 .prompt_tokens = (uint32_t)w->prompt_tokens,
                                 .max_tokens = (uint32_t)w->max_tokens,
                                 .needs = (w->tools ? NIGH_CAN_TOOLS : 0u) | (w->vision ? NIGH_CAN_VISION : 0u) };
}

static void plan_feature(const nigh_policy *p, const nigh_place_facts *facts, nigh_place_request *r, bool json) {
    char name[80];
    nigh_decision d;
    const nigh_feature *f = &p->features[r->feature_idx];
    nigh_decide(p, facts, r, &d);
    nigh_format(name, sizeof name, "%.*s", (int)f->name.len, f->name.ptr);
    if (json) { print_json(p, facts, r, name, &d); return; }
    printf("%s (%.*s)\n", name, (int)p->classes[d.class_idx].name.len, p->classes[d.class_idx].name.ptr);
    print_decision(p, facts, r, &d, false);
    print_ways(p, r, &d, f);
    print_steps(p, f);
}

static nigh_status run_plan(int argc, char **argv, nigh_err *err) {
    words w = { .prompt_tokens = 500, .max_tokens = 200 };
    nigh_policy *p;
    nigh_place_facts facts;
    NIGH_TRY(read_words(&w, false, &argc, argv, err));
    if (argc != 1) return nigh_fail(err, NIGH_EINVAL, 0, "wants one policy file");
    NIGH_TRY(nigh_cli_policy_open(&p, argv[0], err));
    nigh_cli_facts(p, w.scene, &facts);
    nigh_place_request r = request_of(&w);
    if (w.json) printf("[");
    else
        printf("this device: %u MB for models, %s, %s\n\n", facts.ram_mb, facts.on_mains ? "on mains" : "on battery",
               facts.online ? "online" : "offline");
    for (r.feature_idx = 0; r.feature_idx < p->feature_count; r.feature_idx++) {
        if (w.json && r.feature_idx) printf(",");
        plan_feature(p, &facts, &r, w.json);
    }
    if (w.json) printf("]\n");
    nigh_policy_free(p);
    return NIGH_OK;
}

static nigh_status explain(const nigh_policy *p, const words *w, const char *feature, nigh_err *err) {
    nigh_place_facts facts;
    nigh_decision d;
    nigh_place_request r = request_of(w);
    if (w->class) NIGH_TRY(nigh_cli_find_class(p, w->class, &r.data_class_idx, err));
    if (w->found) NIGH_TRY(nigh_cli_find_class(p, w->found, &r.found_class_idx, err));
    if (w->receipt) r.seed = nigh_place_seed(nigh_str_of(w->receipt));
    if (w->receipt && !r.seed)
        return nigh_fail(err, NIGH_EINVAL, 0, "--receipt wants an id like rcpt-5f0c9a1be2d47738");
    r.feature_idx = nigh_policy_feature(p, nigh_str_of(feature));
    nigh_cli_facts(p, w->scene, &facts);
    nigh_decide(p, &facts, &r, &d);
    if (w->json) {
        print_json(p, &facts, &r, r.feature_idx == UINT32_MAX ? "" : feature, &d);
        printf("\n");
        return NIGH_OK;
    }
    if (r.feature_idx == UINT32_MAX) printf("unknown feature: it stays on the device\n");
    else if (!nigh_str_eq(p->features[r.feature_idx].name, nigh_str_of(feature)))
        printf("%s stands for the feature %.*s\n", feature, (int)p->features[r.feature_idx].name.len,
               p->features[r.feature_idx].name.ptr);
    printf("class %.*s, %u + %u tokens\n", (int)p->classes[d.class_idx].name.len, p->classes[d.class_idx].name.ptr,
           r.prompt_tokens, r.max_tokens);
    print_decision(p, &facts, &r, &d, true);
    if (r.feature_idx == UINT32_MAX) return NIGH_OK;
    print_ways(p, &r, &d, &p->features[r.feature_idx]);
    print_steps(p, &p->features[r.feature_idx]);
    return NIGH_OK;
}

static nigh_status run_explain(int argc, char **argv, nigh_err *err) {
    words w = { .prompt_tokens = 500, .max_tokens = 200 };
    nigh_policy *p;
    NIGH_TRY(read_words(&w, true, &argc, argv, err));
    if (argc != 2) return nigh_fail(err, NIGH_EINVAL, 0, "wants a policy file and a feature");
    NIGH_TRY(nigh_cli_policy_open(&p, argv[0], err));
    nigh_status status = explain(p, &w, argv[1], err);
    nigh_policy_free(p);
    return status;
}

const nigh_command nigh_command_plan = { "plan", "where each feature of a policy would run on this device", plan_help,
                                         run_plan };
const nigh_command nigh_command_explain = { "explain", "the decision for one request of a feature", explain_help,
                                            run_explain };
