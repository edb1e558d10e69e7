/* A policy is a file from outside: any bytes are refused, or parse to a policy whose answers agree with each other. */
#include <stdlib.h>

#include "place/check.h"
#include "place/decide.h"

static void look(const nigh_policy *p, uint32_t feature) {
    nigh_place_facts facts = { .online = true, .ram_mb = 4096, .isa = ~0u, .models = ~0ull, .tenant_zones = ~0ull };
    nigh_place_request r = { .feature_idx = feature, .data_class_idx = UINT32_MAX, .found_class_idx = UINT32_MAX };
    nigh_decision d;
    nigh_decide(p, &facts, &r, &d);
    if (d.usable & ~d.allowed) abort();
    if (feature != UINT32_MAX && (d.allowed & ~nigh_reach(p, feature, d.class_idx, UINT32_MAX))) abort();
    for (uint32_t t = 0; t < p->target_count; t++)
        if ((nigh_place_why(p, &facts, &r, t) == 0) != (d.usable >> t & 1)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nigh_policy *p;
    if (nigh_policy_parse(&p, (nigh_str){ (const char *)data, size }, NULL) != NIGH_OK) return 0;
    look(p, UINT32_MAX);
    for (uint32_t f = 0; f < p->feature_count; f++) look(p, f);
    if (nigh_policy_compare(p, p, NULL, NULL)) abort();
    nigh_policy_free(p);
    return 0;
}
