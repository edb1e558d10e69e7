/* cli_check.c - `nigh check`: what a policy makes possible, whatever happens; before it is let out. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/cli_policy.h"

static const char help[] =
    "usage: nigh check POLICY [OPTIONS]\n"
    "\n"
    "Reads a policy (features.json) completely and says what it makes possible: for\n"
    "each feature the targets that can be reached under its class and all above it,\n"
    "whether anything can leave the device, and on which kinds of devices it has no\n"
    "target. The answers are upper bounds: what is said to be impossible is never\n"
    "decided.\n"
    "\n"
    "      --can FEATURE --leave REGION   only this question, with a target as\n"
    "                       witness when the answer is yes; without --leave: can it\n"
    "                       leave the device?\n"
    "      --from OLD       names every data flow that POLICY has and the policy OLD\n"
    "                       had not\n"
    "      --json           for programs\n"
    "\n"
    "exit codes: 0; 1 the policy is malformed; 11 the answer is yes, there is a new\n"
    "flow, or OLD is the newer one\n"
    "\n"
    "examples:\n"
    "  nigh check features.json\n"
    "  nigh check features.json --can mail-summary --leave eu\n"
    "  nigh check features.json --from features.old.json\n";

typedef struct {
    const char *can, *leave, *from;
    bool json;
} words;

static void print_text(nigh_str s) { printf("%.*s", (int)s.len, s.ptr); }

/* ---- one question ---- */

static nigh_status answer_leave(const nigh_policy *p, const words *w, nigh_err *err) {
    uint32_t feature, region = UINT32_MAX;
    NIGH_TRY(nigh_cli_find_feature(p, w->can, &feature, err));
    if (w->leave) {
        region = nigh_policy_region(p, nigh_str_of(w->leave));
        if (region == UINT32_MAX)
            return nigh_failf(err, NIGH_ENOENT, 0, "there is no region '%s' in this policy", w->leave);
    }
    nigh_leave l = nigh_can_leave(p, feature, w->leave ? &p->regions[region].area : NULL);
    const char *what = w->leave ? w->leave : "the device";
    if (w->json && !l.leaves) printf("{\"leaves\":false}\n");
    if (w->json && l.leaves)
        printf("{\"leaves\":true,\"class\":\"%.*s\",\"target\":\"%.*s\"}\n", (int)p->classes[l.class_idx].name.len,
               p->classes[l.class_idx].name.ptr, (int)p->targets[l.target_idx].name.len,
               p->targets[l.target_idx].name.ptr);
    if (w->json) return l.leaves ? nigh_fail(err, NIGH_EPOLICY, 0, "it can leave") : NIGH_OK;
    if (!l.leaves) {
        printf("no: %s cannot leave %s, under its class or any above it\n", w->can, what);
        return NIGH_OK;
    }
    const nigh_target *t = &p->targets[l.target_idx];
    printf("yes: %s can leave %s: data of class %.*s can reach %.*s (%s%s)\n", w->can, what,
           (int)p->classes[l.class_idx].name.len, p->classes[l.class_idx].name.ptr, (int)t->name.len, t->name.ptr,
           nigh_tier_name(t->tier), t->has_area ? "" : ", which does not say where it is");
    return nigh_failf(err, NIGH_EPOLICY, 0, "%s can leave %s", w->can, what);
}

/* ---- two versions ---- */

typedef struct { const nigh_policy *p; bool json, any; } flow_printer;

static void print_flow(void *ud, const nigh_flow *f) {
    flow_printer *out = ud;
    nigh_str feature = out->p->features[f->feature_idx].name, class = out->p->classes[f->class_idx].name;
    nigh_str target = out->p->targets[f->target_idx].name;
    if (out->json)
        printf("%s{\"feature\":\"%.*s\",\"class\":\"%.*s\",\"target\":\"%.*s\",\"what\":\"%s\"}", out->any ? "," : "",
               (int)feature.len, feature.ptr, (int)class.len, class.ptr, (int)target.len, target.ptr,
               nigh_flow_text(f->kind));
    else
        printf("%.*s, %.*s data -> %.*s: %s\n", (int)feature.len, feature.ptr, (int)class.len, class.ptr,
               (int)target.len, target.ptr, nigh_flow_text(f->kind));
    out->any = true;
}

static void print_capture(void *ud, const nigh_capture_rule *c) {
    flow_printer *out = ud;
    nigh_str feature = out->p->features[c->feature_idx].name;
    if (out->json)
        printf("%s{\"feature\":\"%.*s\",\"capture\":\"%.*s\",\"what\":\"its content is kept\"}", out->any ? "," : "",
               (int)feature.len, feature.ptr, (int)c->name.len, c->name.ptr);
    else
        printf("%.*s, capture %.*s: its content is kept, or for longer, or for more readers\n", (int)feature.len,
               feature.ptr, (int)c->name.len, c->name.ptr);
    out->any = true;
}

static nigh_status answer_from(const nigh_policy *p, const words *w, nigh_err *err) {
    nigh_policy *older;
    NIGH_TRY(nigh_cli_policy_open(&older, w->from, err));
    flow_printer out = { p, w->json, false };
    if (w->json) printf("[");
    size_t count = nigh_policy_compare(older, p, print_flow, &out);
    count += nigh_captures_compare(older, p, print_capture, &out);
    if (w->json) printf("]\n");
    else if (count == 0) printf("no new data flow: version %llu against %llu\n", (unsigned long long)p->version,
                                (unsigned long long)older->version);
    bool back = p->version < older->version;
    nigh_policy_free(older);
    if (back) return nigh_fail(err, NIGH_EPOLICY, 0, "this policy has a lower version than the one it is to replace");
    return count ? nigh_failf(err, NIGH_EPOLICY, 0, "%zu new data flow%s", count, count == 1 ? "" : "s") : NIGH_OK;
}

/* ---- the whole policy ---- */

static uint64_t reach(const nigh_policy *p, uint32_t feature, uint32_t group) {
    uint64_t mask = 0;
    for (uint32_t c = 0; c < p->class_count; c++) mask |= nigh_reach(p, feature, c, group);
    return mask;
}

/* Kinds of devices on which the feature can reach nothing under its own class. */
static void lonely_groups(const nigh_policy *p, uint32_t feature, char *out, size_t cap) {
    out[0] = '\0';
    for (uint32_t g = 0; g < p->group_count; g++) {
        if (nigh_reach(p, feature, p->features[feature].class_idx, g)) continue;
        size_t used = strlen(out);
        nigh_format(out + used, cap - used, "%s%.*s", used ? ", " : "", (int)p->groups[g].name.len,
                    p->groups[g].name.ptr);
    }
}

static void print_feature(const nigh_policy *p, uint32_t i) {
    char names[NIGH_TIERS][256], lonely[256];
    uint64_t mask = nigh_reach_all(p, i);
    for (int t = 0; t < NIGH_TIERS; t++) nigh_cli_target_names(p, mask & p->tier[t], names[t], sizeof names[t]);
    lonely_groups(p, i, lonely, sizeof lonely);
    print_text(p->features[i].name);
    printf(" (");
    print_text(p->classes[p->features[i].class_idx].name);
    printf(")\n    device  %s\n    edge    %s\n    cloud   %s\n", names[0], names[1], names[2]);
    uint64_t masked = mask & p->redacted[p->features[i].class_idx];
    if (masked) {
        nigh_cli_target_names(p, masked, names[0], sizeof names[0]);
        printf("    only with personal data and secrets taken out: %s\n", names[0]);
    }
    printf("    leaves the device: %s\n", mask & ~p->tier[NIGH_TIER_DEVICE] ? "yes" : "never");
    if (lonely[0]) printf("    no target on: %s\n", lonely);
}

static void print_json(const nigh_policy *p) {
    printf("{\"version\":%llu,\"features\":[", (unsigned long long)p->version);
    for (uint32_t i = 0; i < p->feature_count; i++) {
        uint64_t mask = nigh_reach_all(p, i);
        printf("%s{\"feature\":\"%.*s\",\"class\":\"%.*s\",\"targets\":[", i ? "," : "",
               (int)p->features[i].name.len, p->features[i].name.ptr,
               (int)p->classes[p->features[i].class_idx].name.len, p->classes[p->features[i].class_idx].name.ptr);
        for (uint64_t left = mask; left; left &= left - 1) {
            const nigh_target *t = &p->targets[__builtin_ctzll(left)];
            printf("%s\"%.*s\"", left == mask ? "" : ",", (int)t->name.len, t->name.ptr);
        }
        printf("],\"leaves_device\":%s,\"no_target_on\":[", mask & ~p->tier[NIGH_TIER_DEVICE] ? "true" : "false");
        bool any = false;
        for (uint32_t g = 0; g < p->group_count; g++) {
            if (nigh_reach(p, i, p->features[i].class_idx, g)) continue;
            printf("%s\"%.*s\"", any ? "," : "", (int)p->groups[g].name.len, p->groups[g].name.ptr);
            any = true;
        }
        printf("]}");
    }
    printf("]}\n");
}

/* Of rules that hold, but may not be what was meant. */
static void print_hints(const nigh_policy *p) {
    for (size_t i = 0; i < p->target_count; i++) {
        const nigh_target *t = &p->targets[i];
        bool near = nigh_str_find(t->url, NIGH_STR("//127."), 0) != SIZE_MAX
                    || nigh_str_find(t->url, NIGH_STR("//localhost"), 0) != SIZE_MAX;
        if (near || t->node_key.len || !nigh_str_starts(t->url, NIGH_STR("http://"))) continue;
        printf("\nwarning: ");
        print_text(t->name);
        printf(" is asked over http: who is on the line reads all of it (node_key, or https)\n");
    }
    for (size_t i = 0; i < p->feature_count; i++) {
        const nigh_feature *f = &p->features[i];
        if (!(f->escalate & NIGH_ESCALATE_CONFIDENCE) || f->sure_eval_idx != UINT32_MAX) continue;
        printf("\nwarning: ");
        print_text(f->name);
        printf(" escalates below a threshold, and names no evaluation that it was found on (nigh calibrate)\n");
    }
}

static void print_policy(const nigh_policy *p) {
    uint32_t odd, below;
    nigh_tier tier;
    printf("version %llu: %zu features, %zu targets, %zu classes\n\n", (unsigned long long)p->version,
           p->feature_count, p->target_count, p->class_count);
    for (uint32_t i = 0; i < p->feature_count; i++) print_feature(p, i);
    for (size_t i = 0; i < p->capture_count; i++) {
        printf("\ncapture ");
        print_text(p->captures[i].name);
        printf(": what is asked of ");
        print_text(p->features[p->captures[i].feature_idx].name);
        printf(" is kept for a while, for its readers\n");
    }
    for (uint32_t i = 0; i < p->feature_count; i++)
        if (!reach(p, i, UINT32_MAX)) {
            printf("\nwarning: ");
            print_text(p->features[i].name);
            printf(" can reach no target at all\n");
        }
    if (nigh_policy_odd_class(p, &odd, &below, &tier)) {
        printf("\nwarning: class ");
        print_text(p->classes[odd].name);
        printf(" is more private than ");
        print_text(p->classes[below].name);
        printf(", but may go to the %s where the other may not\n", nigh_tier_name(tier));
    }
    print_hints(p);
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    words w = { 0 };
    const nigh_opt opts[] = { { "can", 0, NIGH_OPT_TEXT, &w.can, 0, 0 },
                              { "leave", 0, NIGH_OPT_TEXT, &w.leave, 0, 0 },
                              { "from", 0, NIGH_OPT_TEXT, &w.from, 0, 0 },
                              { "json", 0, NIGH_OPT_FLAG, &w.json, 0, 0 } };
    nigh_policy *p;
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (argc != 1) return nigh_fail(err, NIGH_EINVAL, 0, "wants one policy file");
    if (w.leave && !w.can) return nigh_fail(err, NIGH_EINVAL, 0, "--leave wants --can FEATURE");
    NIGH_TRY(nigh_cli_policy_open(&p, argv[0], err));
    nigh_status status = NIGH_OK;
    if (w.can) status = answer_leave(p, &w, err);
    else if (w.from) status = answer_from(p, &w, err);
    else if (w.json) print_json(p);
    else print_policy(p);
    nigh_policy_free(p);
    return status;
}

const nigh_command nigh_command_check = { "check", "what a policy makes possible, and what can never leave", help,
                                          run };
