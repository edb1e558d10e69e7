/* check.h - what a policy makes possible at all, without a device or a request: the questions that are
 * asked before a policy is let out. Answers are upper bounds: every tenant, every model present, everything
 * healthy; so "cannot" is a proof, and "can" comes with a witness.
 *
 * Classes: a feature has a floor, and a classifier can only raise it, so a feature is looked at under its
 * floor and every class above it. */
#ifndef NIGH_CHECK_H
#define NIGH_CHECK_H

#include "place/policy.h"

/* Targets that this feature could reach with data of this class, on devices of a group (UINT32_MAX: any device).
 * class_idx below the feature's floor counts as the floor. */
uint64_t nigh_reach(const nigh_policy *p, uint32_t feature_idx, uint32_t class_idx, uint32_t group_idx);
/* The same under the floor and all classes above it. */
uint64_t nigh_reach_all(const nigh_policy *p, uint32_t feature_idx);

typedef struct {
    bool leaves;
    uint32_t class_idx, target_idx;     /* of a way out, when there is one */
} nigh_leave;
/* Can data of this feature reach a place outside `area` (or one whose place is not stated)? area NULL: can it leave
 * the device at all? */
nigh_leave nigh_can_leave(const nigh_policy *p, uint32_t feature_idx, const nigh_area *area);

typedef enum {
    NIGH_FLOW_NEW,                  /* the pair of feature and target did not exist */
    NIGH_FLOW_REGION,               /* the target computes in more places, or no longer says where */
    NIGH_FLOW_RETENTION,            /* it keeps for longer */
    NIGH_FLOW_TRAINING,             /* it may train now */
    NIGH_FLOW_PROVIDER,             /* another provider, address or model */
    NIGH_FLOW_REDACTION             /* something is no longer taken out */
} nigh_flow_kind;
const char *nigh_flow_text(nigh_flow_kind kind);
typedef struct { nigh_flow_kind kind; uint32_t feature_idx, class_idx, target_idx; } nigh_flow;   /* of the newer */
typedef void nigh_flow_fn(void *ud, const nigh_flow *flow);
/* Calls fn for every data flow that `newer` makes possible and `older` did not. Returns how many. Features, classes and
 * targets are compared by name. Flows to the device are not data flows. */
size_t nigh_policy_compare(const nigh_policy *older, const nigh_policy *newer, nigh_flow_fn *fn, void *ud);

/* A capture that keeps more than any of its name in `older` did: another feature or tenant, for longer, for more
 * readers. Returns how many there are; fn may be NULL. */
typedef void nigh_capture_fn(void *ud, const nigh_capture_rule *rule);
size_t nigh_captures_compare(const nigh_policy *older, const nigh_policy *newer, nigh_capture_fn *fn, void *ud);

/* A class that may go where a less private one may not: most often a mistake. Returns false when there is none. */
bool nigh_policy_odd_class(const nigh_policy *p, uint32_t *class_idx, uint32_t *below_idx, nigh_tier *tier);

#endif
