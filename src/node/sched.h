/* sched.h - one model's work: many requests in one batch.
 * One engine thread owns the runner and up to `parallel` sessions. Each turn it gathers the next token of every
 * sequence that is being written and a fair share of the prompts that are being read into one evaluation. What
 * does not fit waits in a bounded queue; places go to tenants by the tokens that each got so far (sched_fair.c).
 *
 * The functions in nigh_job_calls are called from the engine thread only, without any lock held. `done` is called
 * exactly once for a job that was taken, and is its last call. */
#ifndef NIGH_SCHED_H
#define NIGH_SCHED_H

#include <pthread.h>

#include "base/pool.h"
#include "engine/generate.h"
#include "nigh/engine.h"
#include "node/metrics.h"

typedef struct nigh_sched nigh_sched;

typedef struct {
    const nigh_model *model;        /* kept */
    nigh_pool *pool;                /* kept; shared by models */
    pthread_mutex_t *pool_lock;     /* kept; held while the pool works */
    nigh_metrics *metrics;          /* kept */
    uint32_t context_tokens;        /* of each sequence; 0: the model's own, at most 4,096 */
    nigh_cache cache;
    uint32_t parallel;              /* sequences at once; 0: 4 */
    uint32_t queue_max;             /* sequences that may wait; 0: 64. A tenant with few gets in up to twice that */
    uint32_t batch_tokens;          /* 0: 512 */
    uint64_t (*now_ns)(void);       /* times the batches, to learn what pays; NULL: the system's clock */
    bool alone;                     /* no guesses (speculate.h); the answers are the same */
    const nigh_model *draft_model;  /* kept; of the same vocabulary; NULL: guesses come from the texts alone */
} nigh_sched_opts;

static inline nigh_session_opts nigh_sched_session_opts(const nigh_sched_opts *o) {
    return (nigh_session_opts){ .context_tokens = o->context_tokens, .cache = o->cache };
}

typedef enum { NIGH_CLIENT_READY, NIGH_CLIENT_FULL /* reads too slowly: pause */, NIGH_CLIENT_GONE } nigh_client;

typedef struct {
    nigh_client (*client)(void *ud);
    /* A sequence's prompt is about to be read; `cached` of its tokens need no work. */
    void (*begin)(void *ud, size_t seq, uint32_t cached);
    /* step->token -1: no token, but text that was held back, because the context is full. */
    void (*step)(void *ud, size_t seq, const nigh_step *step);
    void (*vector)(void *ud, size_t i, const float *v, size_t count);     /* of an embedding job */
    void (*done)(void *ud, nigh_status status, const nigh_err *err);
} nigh_job_calls;

/* For whom. tenant: whose turn it is. share: only sequences of equal `share` take over what another one's prompt has
 * in common with theirs, and nobody else can tell from the time or from `cached` what it was. All zero: one's own. */
typedef struct { uint64_t tenant, share; } nigh_sched_owner;
/* The numbers of a tenant and of a user of it. */
nigh_sched_owner nigh_sched_owner_of(nigh_str tenant, nigh_str user);

/* One sequence to write. ids: given (freed by the scheduler with nigh_ids_release), also when the job is refused.
 * What generate points to must live until done. All sequences of a job are for one owner, that of the first. */
typedef struct { nigh_ids ids; nigh_generate_opts generate; nigh_sched_owner who; } nigh_sequence_spec;

NIGH_CHECK nigh_status nigh_sched_open(nigh_sched **out, const nigh_sched_opts *o, nigh_err *err);
/* Ends every job (done with ECANCEL) and the thread; later jobs are refused. One caller. */
void nigh_sched_stop(nigh_sched *s);
/* Also frees; nobody may poke it any more. */
void nigh_sched_close(nigh_sched *s);
/* Bytes of the cache of one sequence. */
size_t nigh_sched_session_bytes(const nigh_sched *s);
uint32_t nigh_sched_context(const nigh_sched *s);
uint32_t nigh_sched_batch(const nigh_sched *s);     /* longest text that can be embedded */

/* From any thread. Fails: EBUSY (the queue is full), ENOMEM, ECANCEL (closing). Then `done` is not called. */
NIGH_CHECK nigh_status nigh_sched_generate(nigh_sched *s, nigh_sequence_spec *specs, size_t count,
    const nigh_job_calls *calls, void *ud, nigh_err *err);
NIGH_CHECK nigh_status nigh_sched_embed(nigh_sched *s, nigh_ids *texts, size_t count, nigh_sched_owner who,
    const nigh_job_calls *calls, void *ud, nigh_err *err);
/* For deletion on request: what sessions hold of prompts of this tenant is overwritten; of those that are at work once
 * they are free. From any thread; it is done soon. */
void nigh_sched_forget(nigh_sched *s, uint64_t tenant);
/* Something about a client changed (it left, or reads again). From any thread. */
void nigh_sched_poke(void *sched);

#endif
