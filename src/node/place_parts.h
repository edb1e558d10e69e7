/* place_parts.h - what the files of Place share. Nobody else includes this.
 *
 * A request for a feature (nigh_placed) is led by one thread at a time: the reader's, which decides and starts a try;
 * then the thread of the engine or of the transfers, which makes the answer; and the reader's again for the next try.
 * The function of nigh_exchange_on may come from a socket thread meanwhile; it only looks at `call_id`. */
#ifndef NIGH_PLACE_PARTS_H
#define NIGH_PLACE_PARTS_H

#include <stdatomic.h>

#include "node/place.h"
#include "place/decide.h"
#include "place/redact.h"

enum { PLACE_HOPS_MAX = 8, PLACE_SAMPLES = 64, PLACE_OPEN_AFTER = 3 };

/* Why a try ended; the first ones as nigh_call_end has them. */
typedef enum {
    PLACE_OK, PLACE_CANCELLED, PLACE_ADDRESS, PLACE_UNREACHABLE, PLACE_TIMEOUT, PLACE_BUSY, PLACE_REJECTED,
    PLACE_CONTEXT, PLACE_FAILED, PLACE_MALFORMED, PLACE_CUT, PLACE_UNSUPPORTED, PLACE_MEMORY, PLACE_UNSURE, PLACE_ENDS
} place_end;
const char *place_end_name(place_end end);

/* One try. */
typedef struct {
    uint8_t target_idx, end;
    uint32_t first_ms, total_ms, retry_ms;
    uint64_t bytes_out, bytes_in;
    char address[48];
} place_hop;

/* What is known of a target; under nigh_place.lock. */
typedef struct {
    uint32_t first_ms[PLACE_SAMPLES], total_ms[PLACE_SAMPLES];  /* of the last good answers; a ring */
    uint32_t count, first_p95, total_p95;
    double first_ewma, total_ewma;
    uint64_t sampled_ms;
    uint32_t failures;              /* in a row */
    uint64_t closed_until_ms;       /* left alone until then; 0: not */
    bool probing;                   /* one request tries whether it is back */
    uint64_t tries, answers, bytes_out, bytes_in;
    uint32_t ends[PLACE_ENDS];
    char error[96];                 /* of the last failure */
} place_target;

struct nigh_place {
    nigh_node *node;
    nigh_policy *policy;
    nigh_buf text;                  /* of the policy file */
    const nigh_served *served[NIGH_TARGETS_MAX];    /* the model of a device target; NULL: not here */
    uint64_t models;                /* a bit for each of these */
    bool near;                      /* an edge target has an address of this machine: no route is needed for it */
    atomic_bool offline;            /* the button */
    pthread_mutex_t lock;
    nigh_place_facts facts;         /* measured at facts_ms */
    uint64_t facts_ms;
    place_target targets[NIGH_TARGETS_MAX];
    struct { uint64_t answers, degraded, errors, on_target[NIGH_TARGETS_MAX]; } features[NIGH_FEATURES_MAX + 1];
};

struct nigh_placed {
    nigh_prep prep;                 /* to the reader's thread */
    nigh_answer *a;
    nigh_place *place;
    const nigh_feature *f;          /* NULL: an unknown one */
    nigh_place_request ask;
    nigh_decision d;
    unsigned beyond_away;           /* NIGH_WHY_UNSUPPORTED when no other place can be asked in these words */
    uint64_t tried;                 /* a bit for each target */
    place_hop hops[PLACE_HOPS_MAX];
    size_t hop_count;
    uint64_t until_ms;              /* nigh_os_now_ns / 1e6: the feature's total time */
    uint64_t try_began_ms, try_until_ms;
    uint32_t first_ms;              /* of the answer; 0: nothing yet */
    uint32_t t;                     /* the target that is tried */
    bool hold;                      /* the answer is looked at before any of it is sent */
    bool timed_out;
    unsigned refused;               /* NIGH_WHY_*: why no target is usable */
    char degraded[96];              /* "": not */
    char rule[96];                  /* of an error */
};

/* ---- place_health.c ---- */
uint64_t place_now_ms(void);        /* monotonic */
/* What is so now, for a decision. first, total: arrays of NIGH_TARGETS_MAX that the facts will point to. */
void place_facts(nigh_place *p, nigh_str tenant, nigh_place_facts *out, uint32_t *first, uint32_t *total);
/* A try begins. False: the target is left alone just now. */
bool place_target_try(nigh_place *p, uint32_t t);
void place_target_ended(nigh_place *p, uint32_t t, const place_hop *hop, const char *error);

/* ---- place_request.c ---- */
/* What is asked for: the feature, the class, the size. False: it is no request for a feature. */
bool place_read(const nigh_place *p, const nigh_asked *asked, const nigh_request *r, nigh_place_request *out,
    nigh_str *feature_name);
nigh_str place_tenant(const nigh_place *p, const nigh_asked *asked);
unsigned place_beyond_away(const nigh_request *r);
/* Names of the rules of `why`, with commas. */
void place_why_names(unsigned why, char *out, size_t cap);

/* ---- place_try.c ---- */
void place_next(nigh_placed *pl);                       /* on the reader's thread */
void place_ended(nigh_placed *pl, place_end end, const char *error);    /* a try is over; from its own thread */
uint32_t place_left_ms(const nigh_placed *pl);          /* of the feature's time */
bool place_has_next(const nigh_placed *pl);
place_hop *place_hop_now(nigh_placed *pl);

/* ---- place_local.c ---- */
/* PLACE_OK: it runs, and place_ended comes from the engine. */
place_end place_local_start(nigh_placed *pl, nigh_refusal *why);

/* ---- place_degrade.c ---- */
void place_degrade(nigh_placed *pl);

/* ---- place_write.c ---- */
void place_head(nigh_placed *pl, bool whole);           /* x-placement and nigh-receipt */
void place_answer(nigh_placed *pl);                     /* the good end */
void place_error(nigh_placed *pl, int http, const char *code, const char *param, const char *text);
void place_over(nigh_placed *pl);
const char *place_region(const nigh_policy *p, const nigh_target *t, char out[16]);

#endif
