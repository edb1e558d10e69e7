/* policy.h - what may run where: classes, regions, zones, targets and features of one policy file.
 * The format is docs/format-policy.md. A policy is read once, checked completely and then read-only.
 *
 * Everything fails closed: an unknown key is an error; what a cloud or edge target does not state about
 * region, retention or training counts as the worst; a rule can only take targets away. */
#ifndef NIGH_POLICY_H
#define NIGH_POLICY_H

#include "base/base.h"
#include "base/json.h"

enum {
    NIGH_TARGETS_MAX = 64,          /* one bit each in a mask */
    NIGH_FEATURES_MAX = 256,
    NIGH_CLASSES_MAX = 16,
    NIGH_AREAS_MAX = 64,            /* named regions */
    NIGH_COUNTRIES_MAX = 256,       /* different country codes in one policy */
    NIGH_ZONES_MAX = 64,
    NIGH_EVALS_MAX = 64,
    NIGH_GROUPS_MAX = 16,
    NIGH_ALIASES_MAX = 256,
    NIGH_CAPTURES_MAX = 16,
    NIGH_DEGRADE_MAX = 8,
    NIGH_WEIGHT_MAX = 1000,
    NIGH_POLICY_BYTES_MAX = 4 << 20
};
#define NIGH_FOREVER UINT32_MAX     /* seconds: kept without limit, or not stated */

typedef enum { NIGH_TIER_DEVICE, NIGH_TIER_EDGE, NIGH_TIER_CLOUD, NIGH_TIERS } nigh_tier;
typedef enum { NIGH_RANK_LOCAL, NIGH_RANK_LATENCY, NIGH_RANK_COST, NIGH_RANK_QUALITY, NIGH_RANKS } nigh_rank;
typedef enum { NIGH_THERMAL_NOMINAL, NIGH_THERMAL_FAIR, NIGH_THERMAL_SERIOUS, NIGH_THERMAL_CRITICAL } nigh_thermal;
typedef enum { NIGH_METERED_ANY, NIGH_METERED_NO_CLOUD, NIGH_METERED_DEVICE_ONLY } nigh_metered;
typedef enum { NIGH_CACHE_NONE, NIGH_CACHE_USER, NIGH_CACHE_TENANT } nigh_cache_scope;
typedef enum { NIGH_STREAM_ERROR, NIGH_STREAM_CONTINUE, NIGH_STREAM_RESTART } nigh_stream_failure;
typedef enum { NIGH_DEGRADE_ERROR, NIGH_DEGRADE_CACHE, NIGH_DEGRADE_TARGET, NIGH_DEGRADE_QUEUE } nigh_degrade_kind;

enum { NIGH_REDACT_PII = 1, NIGH_REDACT_SECRETS = 2 };
enum { NIGH_CAN_TOOLS = 1, NIGH_CAN_VISION = 2, NIGH_CAN_JSON = 4, NIGH_CAN_EMBED = 8 };
enum { NIGH_ISA_AVX2 = 1, NIGH_ISA_AVX512 = 2, NIGH_ISA_AMX = 4, NIGH_ISA_NEON = 8, NIGH_ISA_DOTPROD = 16,
       NIGH_ISA_WASM = 32 };
enum { NIGH_ESCALATE_CONFIDENCE = 1, NIGH_ESCALATE_CONTEXT = 2, NIGH_ESCALATE_UNSUPPORTED = 4,
       NIGH_ESCALATE_TIMEOUT = 8, NIGH_ESCALATE_MEMORY = 16 };

/* A set of countries; bit i is nigh_policy.countries[i]. */
typedef struct { uint64_t bits[NIGH_COUNTRIES_MAX / 64]; } nigh_area;

typedef struct {
    nigh_str name;
    uint32_t level;                 /* 0: anybody may read it; higher is more private; no two are equal */
    bool crosses[NIGH_TIERS];       /* may reach this tier */
    bool only_redacted[NIGH_TIERS]; /* and only with personal data and secrets taken out */
    unsigned redact;                /* NIGH_REDACT_*: taken out of whatever leaves the device */
    bool training;                  /* a target that trains on what it gets is allowed */
} nigh_class;

typedef struct { nigh_str name; nigh_area area; } nigh_region;

typedef struct {
    nigh_str name;
    bool has_area;
    nigh_area area;
    const nigh_json *tenants;       /* array of names, or NULL: every tenant */
} nigh_zone;

typedef struct {
    nigh_str name, model, hash;     /* hash: 64 hex digits after @sha256:, or "" */
    nigh_str provider, api, url, key;   /* key: "env:NAME", never the key itself */
    nigh_str node_key;              /* of an edge node: its public key, 64 hex digits; "" none */
    nigh_tier tier;
    uint32_t zone_idx;              /* UINT32_MAX: none */
    bool has_area;                  /* false: not stated */
    nigh_area area;                 /* where it computes */
    uint32_t retention_s;           /* how long it keeps what it gets; NIGH_FOREVER when not stated */
    bool trains;
    bool has_cost;
    double cost_in, cost_out;       /* USD a million tokens */
    uint32_t context_tokens;        /* 0: not stated, no limit known */
    unsigned can;                   /* NIGH_CAN_* */
    uint32_t need_ram_mb;
    unsigned need_isa;              /* any of these; 0: any processor */
} nigh_target;

typedef struct {
    nigh_degrade_kind kind;
    uint32_t seconds;               /* CACHE: oldest age; QUEUE: longest wait */
    uint32_t target_idx;            /* TARGET */
    uint32_t max_tokens;            /* TARGET: 0 no limit */
} nigh_degrade;

typedef struct {
    nigh_str name;
    uint32_t class_idx;             /* the floor */
    bool has_area;
    nigh_area area;                 /* every hop must be inside */
    uint32_t keep_prompt_s, keep_output_s, keep_cache_s;
    uint32_t first_token_ms, total_ms;      /* 0: no limit */
    double per_call_usd, per_user_day_usd;  /* negative: no limit */
    uint32_t eval_idx;              /* UINT32_MAX: none */
    double quality_min;
    uint32_t min_ram_mb, battery_min;       /* percent */
    nigh_thermal thermal_max;
    nigh_metered metered;
    uint8_t place[NIGH_TARGETS_MAX];        /* candidates in their order */
    size_t place_count;
    nigh_rank rank;
    unsigned escalate;              /* NIGH_ESCALATE_* */
    double threshold, target_rate;  /* of confidence; target_rate negative: no limit */
    uint32_t sure_eval_idx;         /* by which the threshold was found; UINT32_MAX: not stated */
    bool weighted;                  /* equals are drawn by `weight`, else they keep their order */
    uint16_t weight[NIGH_TARGETS_MAX];      /* by target */
    bool hedge, hedge_p95;          /* a second target may be asked after hedge_ms, or after the measured p95 */
    uint32_t hedge_ms;
    nigh_degrade degrade[NIGH_DEGRADE_MAX];
    size_t degrade_count;
    nigh_stream_failure stream_failure;
    nigh_cache_scope cache;
} nigh_feature;

/* Scores of one evaluation, by target; negative: none. */
typedef struct { nigh_str name; double score[NIGH_TARGETS_MAX]; } nigh_eval;

/* A kind of device that `check` asks about. */
typedef struct { nigh_str name; uint32_t ram_mb; unsigned isa; } nigh_group;

typedef struct { nigh_str name; uint32_t feature_idx; } nigh_alias;

/* What may be kept of the content of requests, for whom, until when (node/capture.h). */
typedef struct {
    nigh_str name, tenant;          /* name: also of files; tenant: exactly this one, "" one's own */
    uint32_t feature_idx;
    uint64_t until_s;               /* Unix time */
    const nigh_json *approved_by, *readers;     /* arrays of names: at least two different ones; at least one */
} nigh_capture_rule;

/* What decide.c derives from the rules of a feature: one bit for each target. */
typedef struct { uint64_t place, region, retention, quality; } nigh_feature_mask;

typedef struct {
    uint64_t version;
    uint64_t valid_until_s;         /* Unix time; UINT64_MAX: no end */
    uint32_t grace_s;
    uint32_t default_feature_idx;   /* UINT32_MAX: none */
    bool signed_models;             /* a device or edge target without a hash is never allowed */
    uint32_t ledger_keep_s;         /* older records of the ledger are deleted; NIGH_FOREVER: none is */
    nigh_class classes[NIGH_CLASSES_MAX];
    nigh_region regions[NIGH_AREAS_MAX];
    nigh_zone zones[NIGH_ZONES_MAX];
    nigh_target targets[NIGH_TARGETS_MAX];
    nigh_feature features[NIGH_FEATURES_MAX];
    nigh_eval evals[NIGH_EVALS_MAX];
    nigh_group groups[NIGH_GROUPS_MAX];
    nigh_alias aliases[NIGH_ALIASES_MAX];
    nigh_capture_rule captures[NIGH_CAPTURES_MAX];
    nigh_str countries[NIGH_COUNTRIES_MAX];
    size_t class_count, region_count, zone_count, target_count, feature_count, eval_count, group_count, alias_count,
        capture_count, country_count;
    uint32_t top_class_idx;         /* the most private one */
    /* Of a request in which personal data, or secrets, are found by their form; UINT32_MAX: finding them changes
     * nothing. */
    uint32_t found_pii_idx, found_secrets_idx;
    /* masks, made by nigh_policy_parse */
    uint64_t tier[NIGH_TIERS], crosses[NIGH_CLASSES_MAX], redacted[NIGH_CLASSES_MAX], training[NIGH_CLASSES_MAX],
        unsigned_models;
    nigh_feature_mask feature_mask[NIGH_FEATURES_MAX];
    nigh_json_doc doc;              /* owns all strings */
} nigh_policy;

/* Reads and checks a policy. Fails: EINVAL with the place in the text and a sentence that names the entry (unknown key,
 * unknown name, out of range), ERANGE (too many of something, text over NIGH_POLICY_BYTES_MAX), ENOMEM. */
NIGH_CHECK nigh_status nigh_policy_parse(nigh_policy **out, nigh_str text, nigh_err *err);
void nigh_policy_free(nigh_policy *p);

/* UINT32_MAX when there is none of this name. */
uint32_t nigh_policy_class(const nigh_policy *p, nigh_str name);
uint32_t nigh_policy_target(const nigh_policy *p, nigh_str name);
uint32_t nigh_policy_region(const nigh_policy *p, nigh_str name);
/* The feature of this name, or the one an alias of this name stands for, or the default; UINT32_MAX: none of them. */
uint32_t nigh_policy_feature(const nigh_policy *p, nigh_str name);

const char *nigh_tier_name(nigh_tier tier);
/* 1 to 64 letters, digits, '-', '_', '.', the first one no '.': fit for a file. */
bool nigh_policy_is_file_name(nigh_str name);
bool nigh_area_inside(const nigh_area *inner, const nigh_area *outer);
static inline nigh_area nigh_area_none(void) { return (nigh_area){ { 0 } }; }
/* "0", "none", "90s", "30m", "24h", "7d"; false for anything else or more than 100 years. */
bool nigh_duration_parse(nigh_str text, uint32_t *seconds);
/* "2026-11-28T00:00:00Z" to Unix time. */
bool nigh_instant_parse(nigh_str text, uint64_t *seconds);

#endif
