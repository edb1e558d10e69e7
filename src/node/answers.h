/* answers.h - the cache of answers: exact repeats of a request, in memory only, and single flight for equal
 * requests that come at the same time. A key is the hash of everything that decides an answer and of everybody who
 * may see it: tenant, user (or none, for a scope of the tenant), feature, policy version, model hash, and the
 * request's own words and numbers. Two tenants never share an entry, whatever they send. */
#ifndef NIGH_ANSWERS_H
#define NIGH_ANSWERS_H

#include "base/base.h"

typedef struct nigh_answers nigh_answers;
typedef struct { uint8_t hash[32]; } nigh_answer_key;

typedef struct {
    nigh_str tenant, user;          /* user: "" for a cache of the tenant */
    nigh_str feature, model_sha256;
    uint64_t policy_version;
    nigh_str request;               /* canonical JSON of what was asked: messages, tools,
    sampling; without ids and stream */
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

NIGH_CHECK nigh_status nigh_answers_open(nigh_answers **out, size_t bytes_max, nigh_err *err);
void nigh_answers_close(nigh_answers *a);   /* overwrites what it held */
nigh_answer_key nigh_answers_key(const nigh_answer_parts *p);

/* Age limits belong to the reader (a degrade step may take an older one) and to the writer (retention): an entry
 * is gone at made_ms + keep_s, also when nobody asks. On a hit copies into *out, whose strings lie in *hold
 * (released by the caller). */
bool nigh_answers_get(nigh_answers *a, const nigh_answer_key *k, uint32_t age_max_s, nigh_kept_answer *out,
    nigh_buf *hold);
/* Too large for the cache: not kept, no error. */
void nigh_answers_put(nigh_answers *a, const nigh_answer_key *k, const nigh_kept_answer *v, uint32_t keep_s);
/* Drops what is over its time; call it now and then. Everything of a tenant or user: for deletion on request. */
void nigh_answers_expire(nigh_answers *a, uint64_t now_ms);
size_t nigh_answers_forget(nigh_answers *a, nigh_str tenant, nigh_str user);

/* Single flight. LEADER: make the answer, then call land (also on failure, ok false). FOLLOWER: wake(ud, ok) is
 * called once from the leader's thread; on ok the cache has it. */
typedef enum { NIGH_FLIGHT_LEADER, NIGH_FLIGHT_FOLLOWER, NIGH_FLIGHT_NONE /* no memory: go alone */ } nigh_flight;
nigh_flight nigh_answers_board(nigh_answers *a, const nigh_answer_key *k, void (*wake)(void *ud, bool ok), void *ud);
void nigh_answers_land(nigh_answers *a, const nigh_answer_key *k, bool ok);

#endif
