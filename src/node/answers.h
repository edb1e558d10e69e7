/* answers.h - the cache of answers: exact repeats of a request, in memory only, and single flight for equal
 * requests that come at the same time. A key is the hash of everything that decides an answer and of everybody who
 * may see it: tenant, user (when the scope is the user), feature, policy version, model hash, and the request's own
 * words and numbers. Two tenants never share an entry, whatever they send. Any thread may call. */
#ifndef NIGH_ANSWERS_H
#define NIGH_ANSWERS_H

#include "base/base.h"
#include "place/policy.h"

typedef struct nigh_answers nigh_answers;

/* owner, maker: of the tenant, and of the user who asks; only to find what nigh_answers_forget is to drop.
 * usable false: this request may not be kept at all; such a key finds nothing, keeps nothing and flies alone. */
typedef struct { uint8_t hash[32], owner[16], maker[16]; bool usable; } nigh_answer_key;

typedef struct {
    nigh_cache_scope scope;         /* of the feature. NONE, or USER without a user: the key is not usable */
    nigh_str tenant, user;          /* who asks, whatever the scope is */
    nigh_str feature, model_sha256;
    uint64_t policy_version;
    nigh_str request;               /* canonical JSON of what was asked: messages, tools, sampling; without ids and
                                     * stream */
} nigh_answer_parts;

/* What is kept: whole pieces, so that a hit can be replayed as a valid stream. */
typedef struct {
    nigh_str text;
    nigh_str tool_calls;            /* JSON array, or "" */
    const char *finish;             /* "stop", ... : a literal */
    uint32_t prompt_tokens, completion_tokens;
    char receipt[32];               /* of the answer that made it */
    char target[64];
    uint64_t made_ms;               /* Unix time */
} nigh_kept_answer;

enum { NIGH_ANSWERS_CLOCK_SLACK_MS = 60000 };

/* bytes_max: of all entries together; over it, the tenant that holds most loses what it has not used for longest. So
 * nobody who holds less than an equal share loses anything to another. */
NIGH_CHECK nigh_status nigh_answers_open(nigh_answers **out, size_t bytes_max, nigh_err *err);
/* Overwrites what it held. Every flight must have landed. */
void nigh_answers_close(nigh_answers *a);
nigh_answer_key nigh_answers_key(const nigh_answer_parts *p);

/* Age limits belong to the reader (a degrade step may take an older one; UINT32_MAX: none) and to the writer
 * (retention): an entry is gone at made_ms + keep_s, also when nobody asks, and when the clock is found set back by
 * more than NIGH_ANSWERS_CLOCK_SLACK_MS. now_ms: Unix time. On a hit copies into *out, whose strings lie in *hold
 * (at its end; released by the caller); false too when hold has no room. */
bool nigh_answers_get(nigh_answers *a, const nigh_answer_key *k, uint32_t age_max_s, uint64_t now_ms,
    nigh_kept_answer *out, nigh_buf *hold);
/* Over an eighth of the cache, or keep_s 0: not kept, no error. */
void nigh_answers_put(nigh_answers *a, const nigh_answer_key *k, const nigh_kept_answer *v, uint32_t keep_s);
/* Drops what is over its time; call it every minute or so. */
void nigh_answers_expire(nigh_answers *a, uint64_t now_ms);
/* For deletion on request: everything of a tenant, or (user not "") what this user's requests made, also where the
 * whole tenant saw it. Returns how many. */
size_t nigh_answers_forget(nigh_answers *a, nigh_str tenant, nigh_str user);

typedef struct { uint64_t entries, bytes, hits, misses, joined; } nigh_answers_counts;
nigh_answers_counts nigh_answers_count(nigh_answers *a);

/* Single flight. LEADER: make the answer, put it, then call land, exactly once (also on failure, ok false).
 * FOLLOWER: wake(ud, ok) is called once, from the leader's thread without a lock held; on ok the cache has it, unless
 * it was too large or is gone already: then go alone. ALONE: an unusable key, 1,024 followers, or no memory. */
typedef enum { NIGH_FLIGHT_LEADER, NIGH_FLIGHT_FOLLOWER, NIGH_FLIGHT_ALONE } nigh_flight;
nigh_flight nigh_answers_board(nigh_answers *a, const nigh_answer_key *k, void (*wake)(void *ud, bool ok), void *ud);
void nigh_answers_land(nigh_answers *a, const nigh_answer_key *k, bool ok);

#endif
