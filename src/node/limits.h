/* limits.h - who asks, and how much: tenants, users, rights per feature, requests and tokens a minute, money a
 * day. A key of the key file may carry rights:
 *     sha256:<64 hex> <unix seconds> tenant=acme user=* features=mail-summary,search rpm=60 tpm=40000 usd_day=2.50
 * A key without a tenant belongs to the tenant "" (one's own). user=NAME binds the key to one user; user=* lets
 * the caller name one (x-nigh-user), which only a trusted application should. */
#ifndef NIGH_LIMITS_H
#define NIGH_LIMITS_H

#include "node/keys.h"

typedef struct {
    char tenant[128], user[128];
    bool any_user;                  /* may name its user */
    char features[1024];            /* comma list; "" all */
    uint32_t rpm, tpm;              /* 0: no limit */
    double usd_day;                 /* negative: no limit */
    size_t key_idx;
} nigh_rights;

typedef struct nigh_limits nigh_limits;
NIGH_CHECK nigh_status nigh_limits_open(nigh_limits **out, const nigh_keys *keys, nigh_err *err);
void nigh_limits_close(nigh_limits *l);
/* May this caller ask this feature? EPOLICY with the rule. */
NIGH_CHECK nigh_status nigh_rights_allow(const nigh_rights *r, nigh_str feature, nigh_err *err);
/* Takes one request and `tokens` from the caller's minute. EBUSY: *retry_ms says when there will be enough. */
NIGH_CHECK nigh_status nigh_limits_take(nigh_limits *l, const nigh_rights *r, uint32_t tokens, uint64_t now_ms,
    uint32_t *retry_ms, nigh_err *err);
/* What it really was, once it is known (may be less or more). */
void nigh_limits_settle(nigh_limits *l, const nigh_rights *r, uint32_t taken, uint32_t used, double usd,
    nigh_str user,
    uint64_t now_ms);
/* USD of today (UTC) of this tenant and user, and of the key. */
double nigh_limits_spent(nigh_limits *l, const nigh_rights *r, nigh_str user, uint64_t now_ms);
bool nigh_limits_over_budget(nigh_limits *l, const nigh_rights *r, uint64_t now_ms);

#endif
