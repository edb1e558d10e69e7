/* decide.h - which targets may serve a request, and in which order to try them: a pure function of a
 * policy, the facts of this device and the request. Nothing here reads a clock or a socket; facts are
 * measured by the caller. A decision takes less than 2 us and allocates nothing.
 *
 *     allowed = place(f) & crosses(class) & region(f) & tenant & retention(f) & training(class) & quality(f)
 *               & device(needs, battery, heat, metered) & signed model & not expired          the hard rules
 *     usable  = allowed & network & health & budgets (time, money) & context & capabilities    what is so now
 *
 * A target outside `allowed` is never used, by no rung of the ladder. */
#ifndef NIGH_DECIDE_H
#define NIGH_DECIDE_H

#include "place/policy.h"

/* Why a target is refused; one bit each. Those up to NIGH_WHY_HARD_LAST are hard rules. */
enum {
    NIGH_WHY_PLACE = 1 << 0,        /* not a candidate of the feature                       */
    NIGH_WHY_CLASS = 1 << 1,        /* the class may not cross to this tier                 */
    NIGH_WHY_REGION = 1 << 2,       /* outside the feature's region, or not stated          */
    NIGH_WHY_TENANT = 1 << 3,       /* the zone serves other tenants                        */
    NIGH_WHY_RETENTION = 1 << 4,    /* keeps what it gets for too long, or does not say     */
    NIGH_WHY_TRAINING = 1 << 5,     /* may train on what it gets                            */
    NIGH_WHY_QUALITY = 1 << 6,      /* below the feature's score, or never evaluated        */
    NIGH_WHY_NEEDS = 1 << 7,        /* memory or instruction set of this device             */
    NIGH_WHY_DEVICE = 1 << 8,       /* battery, heat or metered line                        */
    NIGH_WHY_MODEL = 1 << 9,        /* the model is not here, or not the one that is named  */
    NIGH_WHY_EXPIRED = 1 << 10,     /* the policy is too old for anything but the device    */
    NIGH_WHY_HARD_LAST = NIGH_WHY_EXPIRED,
    NIGH_WHY_OFFLINE = 1 << 11,
    NIGH_WHY_HEALTH = 1 << 12,      /* failed lately                                        */
    NIGH_WHY_LATENCY = 1 << 13,     /* measured too slow                                    */
    NIGH_WHY_COST = 1 << 14,        /* over the budget of a call, or of the user's day      */
    NIGH_WHY_CONTEXT = 1 << 15,     /* the request is too long                              */
    NIGH_WHY_UNSUPPORTED = 1 << 16, /* tools, pictures and the like                         */
    NIGH_WHYS = 17
};
/* "class", "region", ...: the name of one bit (0..NIGH_WHYS-1). */
const char *nigh_why_name(unsigned bit_idx);
/* One plain sentence for a person. */
const char *nigh_why_text(unsigned bit_idx);

/* This device now. Zero fields are the strictest reading, but battery: see below. */
typedef struct {
    uint64_t now_s;                 /* Unix time */
    uint32_t ram_mb;                /* memory that a model may use */
    unsigned isa;                   /* NIGH_ISA_* */
    bool on_mains;                  /* then battery_percent does not count */
    uint32_t battery_percent;
    nigh_thermal thermal;
    bool metered, online;
    uint64_t models;                /* a bit for each device target whose model is here, its hash verified */
    uint64_t unhealthy;             /* a bit for each target that failed lately */
    uint64_t tenant_zones;          /* from nigh_place_tenant */
    /* 95th percentiles, by target; 0: not measured. May be NULL. */
    const uint32_t *first_token_ms, *total_ms;
} nigh_place_facts;

typedef struct {
    uint32_t feature_idx;           /* from nigh_policy_feature; UINT32_MAX: unknown, stays on the device */
    uint32_t data_class_idx;        /* what the caller says of the data; UINT32_MAX: nothing */
    uint32_t found_class_idx;       /* what a classifier found; UINT32_MAX: nothing. Can only raise. */
    uint32_t prompt_tokens, max_tokens;
    unsigned needs;                 /* NIGH_CAN_* */
    double spent_today_usd;
    uint64_t seed;                  /* of the draws among equals (weights); of a request: nigh_place_seed */
} nigh_place_request;

typedef struct {
    uint32_t class_idx;             /* the highest of the three */
    uint64_t allowed, usable;
    uint8_t order[NIGH_TARGETS_MAX];    /* usable targets, best first */
    size_t count;
    unsigned redact;                /* NIGH_REDACT_*: to be taken out before anything leaves the device */
} nigh_decision;

/* A bit for each edge target that this tenant may use. */
uint64_t nigh_place_tenant(const nigh_policy *p, nigh_str tenant);
void nigh_decide(const nigh_policy *p, const nigh_place_facts *facts, const nigh_place_request *request,
                 nigh_decision *out);
/* The seed of a request: the number in its receipt's id, "rcpt-" and 16 hex digits; 0 for anything else. So whoever has
 * the receipt can draw again. */
uint64_t nigh_place_seed(nigh_str receipt_id);
/* For each target the share of such requests that it gets first: 1 for the first of the order, or, where equals are
 * drawn by weight, their parts of it. */
void nigh_place_shares(const nigh_policy *p, const nigh_place_facts *facts, const nigh_place_request *request,
                       const nigh_decision *d, double shares[NIGH_TARGETS_MAX]);
/* The target that may be asked beside `first` when that one is slow (hedge): the next usable one that is away, not in
 * `tried`, and with which the call stays within the feature's budgets, both paid for. UINT32_MAX: none. */
uint32_t nigh_place_hedge(const nigh_policy *p, const nigh_place_request *request, const nigh_decision *d,
                          uint32_t first, uint64_t tried);
/* All rules that refuse one target for this request; 0: it is usable. Slower than nigh_decide and written without its
 * masks; both agree. */
unsigned nigh_place_why(const nigh_policy *p, const nigh_place_facts *facts, const nigh_place_request *request,
                        uint32_t target_idx);
/* The rules that refuse the candidates of the feature, together: what to say when none is usable. */
unsigned nigh_place_whys(const nigh_policy *p, const nigh_place_facts *facts, const nigh_place_request *request);
/* USD of one call, by what the target states; infinite when it states nothing. */
double nigh_place_cost(const nigh_target *t, uint32_t prompt_tokens, uint32_t max_tokens);

#endif
