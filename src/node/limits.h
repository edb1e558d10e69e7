/* limits.h - who asks, and how much: rights per feature, requests and tokens a minute, money a day. What a key may,
 * its line in the key file says (keys.h). Any thread may call. Times are Unix ms; a day is a day of UTC.
 *
 * Money is counted per key and per user (of a tenant, whichever key), and a restart does not forget it: every amount
 * is appended to a file at once, so that it survives the end of the process at any moment; a power cut may lose what
 * the system had not written yet. The file knows keys and users only by hashes. */
#ifndef NIGH_LIMITS_H
#define NIGH_LIMITS_H

#include "node/keys.h"

typedef struct nigh_limits nigh_limits;

/* path: of the file of what was spent today (0600, folders 0700); NULL: in memory only. A file that is damaged at its
 * end is read up to there. Fails: EINVAL (the file may be read by others, or is none of ours), EIO, ENOMEM. */
NIGH_CHECK nigh_status nigh_limits_open(nigh_limits **out, const nigh_keys *keys, const char *path, nigh_err *err);
void nigh_limits_close(nigh_limits *l);

/* May this caller ask this feature? EPOLICY with the rule. feature "": a request that names a model, no feature; a key
 * that lists features may not do that. */
NIGH_CHECK nigh_status nigh_rights_allow(const nigh_rights *r, nigh_str feature, nigh_err *err);
/* Which user this request counts for; named: what the caller says, "" nothing. Fails: EPOLICY (the key is not this
 * user's, or may not name one), EINVAL (longer than 127 bytes, or not printable). */
NIGH_CHECK nigh_status nigh_rights_user(const nigh_rights *r, nigh_str named, char out[128], nigh_err *err);

/* Takes one request and `tokens` (an estimate) from the key's minute, or nothing. A minute's worth may go at once; it
 * fills up evenly. EBUSY: *retry_ms says when there will be enough. ERANGE: more tokens than a whole minute has. */
NIGH_CHECK nigh_status nigh_limits_take(nigh_limits *l, const nigh_rights *r, uint32_t tokens, uint64_t now_ms,
    uint32_t *retry_ms, nigh_err *err);
/* What it really was, once it is known: tokens may be less or more than taken, usd is added to the day of the key and
 * of the user. Money is known afterwards: what is on its way when a budget ends may go over it. */
void nigh_limits_settle(nigh_limits *l, const nigh_rights *r, uint32_t taken, uint32_t used, double usd,
    nigh_str user, uint64_t now_ms);
/* USD of today of this user of this tenant ("": of those without a name), and of the key. */
double nigh_limits_spent(nigh_limits *l, const nigh_rights *r, nigh_str user, uint64_t now_ms);
double nigh_limits_key_spent(nigh_limits *l, const nigh_rights *r, uint64_t now_ms);
/* Has the key spent its usd_day? Then only what costs nothing is left. */
bool nigh_limits_over_budget(nigh_limits *l, const nigh_rights *r, uint64_t now_ms);

#endif
