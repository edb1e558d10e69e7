/* cli_policy.c - see cli_policy.h. */
#include "cli/cli_policy.h"

#include "base/os.h"
#include "cli/cli.h"
#include "node/envelope.h"
#include "node/facts.h"

nigh_status nigh_cli_policy_open(nigh_policy **out, const char *path, nigh_err *err) {
    return nigh_envelope_load(out, NULL, &(nigh_envelope_opts){ .path = path }, err);
}

static nigh_status no_such(const char *what, const char *name, const char *known, nigh_err *err) {
    return nigh_failf(err, NIGH_ENOENT, 0, "there is no %s '%s' in this policy; it has: %s", what, name, known);
}

static void join(char *out, size_t cap, nigh_str name) {
    size_t used = strlen(out);
    nigh_format(out + used, cap - used, "%s%.*s", used ? ", " : "", (int)name.len, name.ptr);
}

nigh_status nigh_cli_find_feature(const nigh_policy *p, const char *name, uint32_t *out, nigh_err *err) {
    char known[160] = "";
    *out = UINT32_MAX;
    for (uint32_t i = 0; i < p->feature_count; i++) {
        if (nigh_str_eq(p->features[i].name, nigh_str_of(name))) *out = i;
        join(known, sizeof known, p->features[i].name);
    }
    return *out == UINT32_MAX ? no_such("feature", name, known, err) : NIGH_OK;
}

nigh_status nigh_cli_find_class(const nigh_policy *p, const char *name, uint32_t *out, nigh_err *err) {
    char known[160] = "";
    for (size_t i = 0; i < p->class_count; i++) join(known, sizeof known, p->classes[i].name);
    *out = nigh_policy_class(p, nigh_str_of(name));
    return *out == UINT32_MAX ? no_such("class", name, known, err) : NIGH_OK;
}

static bool model_is_here(const nigh_target *t) {
    char name[512], path[4096];
    nigh_format(name, sizeof name, "%.*s", (int)t->model.len, t->model.ptr);
    if (nigh_cli_model_path(name, path, sizeof path, NULL) != NIGH_OK || !nigh_file_exists(path)) return false;
    return t->hash.len == 0 || nigh_cli_has_hash(path, t->hash);
}

void nigh_cli_facts(const nigh_policy *p, nigh_cli_scene scene, nigh_place_facts *facts) {
    nigh_facts_measure(facts, nigh_cli_cpu());
    if (scene.offline) facts->online = false;
    if (scene.metered) facts->metered = true;
    facts->tenant_zones = nigh_place_tenant(p, nigh_str_of(scene.tenant));
    for (uint32_t t = 0; t < p->target_count; t++)
        if (p->targets[t].tier == NIGH_TIER_DEVICE && model_is_here(&p->targets[t])) facts->models |= (uint64_t)1 << t;
}

void nigh_cli_target_names(const nigh_policy *p, uint64_t mask, char *out, size_t cap) {
    out[0] = '\0';
    for (; mask; mask &= mask - 1) join(out, cap, p->targets[__builtin_ctzll(mask)].name);
    if (!out[0]) nigh_format(out, cap, "-");
}

void nigh_cli_why_names(unsigned why, char *out, size_t cap) {
    out[0] = '\0';
    for (unsigned i = 0; i < NIGH_WHYS; i++)
        if (why >> i & 1) join(out, cap, nigh_str_of(nigh_why_name(i)));
}
