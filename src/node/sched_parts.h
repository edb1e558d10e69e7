/* sched_parts.h - what sched.c (jobs in and out, the thread), sched_turn.c (places, batches) and sched_fair.c (whose
 * turn it is) share. */
#ifndef NIGH_SCHED_PARTS_H
#define NIGH_SCHED_PARTS_H

#include "engine/speculate.h"
#include "node/sched.h"

enum { PARALLEL_MAX = 64, GUESSES_MAX = 24 /* in one batch, of all sequences */, TENANTS = 256 };

typedef struct job job;
typedef struct sequence sequence;
typedef struct slot slot;

struct sequence {
    sequence *next;                 /* in the waiting list */
    job *owner;
    size_t index;
    nigh_sched_owner who;
    nigh_ids ids;                   /* the prompt; of one that stepped aside, and what was written behind it */
    nigh_generate_opts opts;
    nigh_generation *generation;    /* NULL until it gets its first place */
    uint64_t serial;                /* in the order in which they got a place */
    uint32_t read;                  /* tokens of ids already in the session */
    bool begun;                     /* its owner knows */
    slot *leader;                   /* reads the same beginning; this one waits and copies it. NULL: nobody */
    uint64_t leader_serial;         /* of the sequence that was in that slot */
    uint32_t shared;                /* tokens of that beginning */
};

struct job {
    job *next;                      /* in the inbox, or in the list of embedding jobs */
    nigh_job_calls calls;
    void *ud;
    sequence *sequences;            /* NULL: an embedding job */
    nigh_ids *texts;
    size_t count, ended, weight;    /* weight: places it takes in the queue */
    nigh_sched_owner who;
    uint64_t full_since_ms;         /* 0: reads well */
};

struct slot {
    nigh_session *session;
    nigh_speculation writing;       /* the rows to pick from, the token to evaluate next, guesses */
    nigh_draft_model *drafter;      /* NULL: no small model */
    sequence *seq;
    uint64_t share, tenant;         /* of what the session holds */
    bool forget;                    /* it is wiped when it is free */
    float *logits;                  /* of this turn's rows, in nigh_sched.rows */
    uint64_t used;
};

/* here: sequences and embedding jobs, waiting or at work; got: tokens, as a clock. */
typedef struct { uint32_t here; double got; } tenant_turn;

struct nigh_sched {
    nigh_sched_opts o;
    nigh_runner *runner;
    float *vector;
    float *rows;                    /* [parallel + GUESSES_MAX][vocab], touched as they are used */
    size_t rows_bytes;
    nigh_draft_cost cost;           /* of batches without prompts */
    double prompt_ns;               /* for a token of a prompt; 0: not known */
    slot slots[PARALLEL_MAX];
    sequence *waiting, **waiting_end;
    job *embeds, **embeds_end;
    uint64_t turn, serial;
    tenant_turn turns[TENANTS];
    double fair_time;               /* the clock of the tenant that had the last turn */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    job *inbox, **inbox_end;
    size_t queued;                  /* sequences and embedding jobs in the inbox and the waiting lists */
    size_t tenant_queued[TENANTS];  /* the same, by tenant */
    bool poked, stopping, stopped;
    bool forgets, forgets_all;      /* what this tenant asked; what anybody did */
    uint64_t forgets_tenant;
};

/* sched.c */
void nigh_sched_join_queue(nigh_sched *s, uint64_t tenant, size_t count);
void nigh_sched_leave_queue(nigh_sched *s, uint64_t tenant, size_t count);
uint64_t nigh_sched_now_ms(void);
void nigh_sched_clear_slot(nigh_sched *s, slot *sl);
void nigh_sched_wipe_slot(slot *sl);
/* Takes every sequence of a job out of slots and waiting list, tells its owner why, and frees it. */
void nigh_sched_end_job(nigh_sched *s, job *j, nigh_status status, const nigh_err *err);

/* sched_fair.c */
bool nigh_sched_may_wait(const nigh_sched *s, const job *j);   /* under the lock; the others: the engine's thread */
void nigh_sched_came(nigh_sched *s, uint64_t tenant);
void nigh_sched_went(nigh_sched *s, uint64_t tenant);
void nigh_sched_got(nigh_sched *s, uint64_t tenant, uint32_t tokens);
/* Where the one whose turn it is hangs in its list; the list's end when there is none. Of sequences only those whose
 * client reads. */
sequence **nigh_sched_next(nigh_sched *s);
job **nigh_sched_next_embed(nigh_sched *s);

/* sched_turn.c */
void nigh_sched_fill_slots(nigh_sched *s);
/* Ends a sequence whose session is full. True when there was one: then look again. */
bool nigh_sched_end_full(nigh_sched *s);
/* One evaluation, and the tokens it brought. False when there was nothing to do. */
bool nigh_sched_run_batch(nigh_sched *s);

#endif
