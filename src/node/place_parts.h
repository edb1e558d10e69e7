/* place_parts.h - what the files of Place share. Nobody else includes this.
 *
 * A request for a feature (nigh_placed) is led by one thread at a time: its socket's, which decides, looks into the
 * cache and asks another place, or the reader's, which does that and all that may take a while (place_next); then the
 * thread of the engine or of the transfers, which makes the answer; and the reader's again for the next try.
 * The function of nigh_exchange_on may come from a socket thread meanwhile; it only looks at `call_id`. */
#ifndef NIGH_PLACE_PARTS_H
#define NIGH_PLACE_PARTS_H

#include <stdatomic.h>

#include "node/answers.h"
#include "node/capture.h"
#include "node/envelope.h"
#include "node/ledger.h"
#include "node/outbox.h"
#include "node/place.h"
#include "node/upstream.h"
#include "place/decide.h"
#include "place/rate.h"
#include "place/redact.h"

enum { PLACE_HOPS_MAX = 8, PLACE_SAMPLES = 64, PLACE_OPEN_AFTER = 3, PLACE_ANSWERS_BYTES = 64 << 20 };

/* Why a try ended; the first ones are nigh_call_end's, in their order. */
typedef enum {
    PLACE_OK, PLACE_CANCELLED, PLACE_ADDRESS, PLACE_UNREACHABLE, PLACE_TIMEOUT, PLACE_BUSY, PLACE_REJECTED,
    PLACE_CONTEXT, PLACE_FAILED, PLACE_MALFORMED, PLACE_CUT,
    PLACE_UNSUPPORTED, PLACE_MEMORY, PLACE_UNSURE, PLACE_REDACTION, PLACE_MODEL, PLACE_OUTRUN, PLACE_PEER, PLACE_ENDS
} place_end;
const char *place_end_name(place_end end);

/* One try. */
typedef struct {
    uint8_t target_idx, end;
    uint16_t http;                  /* the status of another place; 0: none */
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

typedef struct place_race place_race;   /* two tries at once: place_race.c */

/* How another place is asked; read-only once open. */
typedef struct {
    nigh_str url;
    nigh_api api;
    nigh_buf key;
    bool sealed;                    /* it is another node, known by node_key */
    uint8_t node_key[32];
    const char *lacks;
} place_line;

struct nigh_place {
    nigh_node *node;
    nigh_rights own;                /* of a caller who needs no key */
    nigh_policy *policy;            /* NULL: none */
    nigh_envelope_facts policy_facts;
    const nigh_served *served[NIGH_TARGETS_MAX];    /* the model of a device target; NULL: not here */
    uint64_t models;                /* a bit for each of these */
    uint64_t lacking;               /* a bit for each target that cannot be asked: no key, no address */
    place_line lines[NIGH_TARGETS_MAX];
    bool may_leave[NIGH_FEATURES_MAX];      /* can it leave its region, by the policy alone? */
    bool keeps;                     /* a feature keeps answers */
    bool near;                      /* a target has an address of this machine: no route is needed for it */
    atomic_bool offline;            /* the button */
    nigh_upstream *upstream;        /* NULL: no target is away */
    nigh_ledger *ledger;            /* NULL: none */
    nigh_captures *captures;        /* NULL: nothing is captured */
    nigh_limits *limits;            /* NULL: no keys and no policy */
    nigh_answers *answers;          /* NULL: no feature keeps answers */
    nigh_outbox *outbox;            /* NULL: no feature queues, or there is no home */
    pthread_mutex_t lock;
    nigh_place_facts facts;         /* measured at facts_ms */
    uint64_t facts_ms;
    place_target targets[NIGH_TARGETS_MAX];
    struct {
        uint64_t answers, degraded, errors, on_target[NIGH_TARGETS_MAX];
        nigh_rate sure;             /* answers of models here that were looked at, unsure, passed on */
    } features[NIGH_FEATURES_MAX + 1];
    /* the waiter (place_queue.c); its list under `waiting_lock` */
    pthread_t waiter;
    pthread_mutex_t waiting_lock;
    pthread_cond_t wake;
    nigh_placed *waiting;
    place_race *races;
    uint64_t wake_ms;               /* when the waiter looks again by itself */
    bool waiter_runs, stopping, drain;
    unsigned on_the_way;            /* queued requests that are being answered */
    /* the keeper, which deletes old records: it may take long. Woken under `waiting_lock` to stop */
    pthread_t keeper;
    pthread_cond_t keeper_wake;
    bool keeper_runs;
};

struct nigh_placed {
    nigh_prep prep;                 /* to the reader's thread */
    nigh_placed *next_waiting;
    uint64_t due_ms;
    atomic_uint refs;
    nigh_answer *a;
    nigh_place *place;
    const nigh_feature *f;          /* NULL: an unknown one */
    nigh_place_request ask;
    nigh_decision d;
    unsigned beyond_away;           /* NIGH_WHY_UNSUPPORTED when no other place can be asked in these words */
    bool over_budget;               /* of the key's day: only what costs nothing is left */
    unsigned refused;               /* NIGH_WHY_*: why no target is usable */
    uint64_t tried;                 /* a bit for each target */
    place_hop hops[PLACE_HOPS_MAX];
    size_t hop_count;
    uint64_t until_ms;              /* nigh_os_now_ns / 1e6: the feature's total time */
    uint64_t try_began_ms, try_until_ms;
    uint32_t first_ms;              /* of the answer; 0: nothing yet */
    uint32_t t;                     /* the target that is tried, or that answered */
    unsigned retries;
    bool hold;                      /* the answer is looked at before any of it is sent */
    bool timed_out;
    bool looked;                    /* how sure a model here was: */
    double confidence;
    bool on_socket;                 /* led by a socket's thread, which may not be held up */
    size_t step;                    /* of the feature's degrade ladder */
    uint32_t max_tokens;            /* of a degraded answer; 0: as asked */
    char degraded[96];              /* "": not */
    char rule[96];                  /* of an error */
    char lacks[160];                /* what this node has not to ask another place; "": nothing */

    /* another place */
    _Atomic uint64_t call_id, second_id;    /* second: of the one beside it; 0: none */
    place_race *race;               /* NULL: one try at a time */
    nigh_redactor *redactor;        /* NULL: nothing was found */
    nigh_restorer text, *arguments; /* of a call of a tool each: [NIGH_TOOL_CALLS_MAX], or NULL */
    uint64_t id_seed;
    uint32_t redacted;
    nigh_buf inner;                 /* the receipt of an edge node */
    char model[128], model_sha256[65];
    bool maybe_sent;                /* some of it left */

    /* what the client has */
    bool keep_sent, repeating;
    nigh_buf sent, before;          /* before: `sent` as it was when this try began */
    bool catches;
    nigh_buf caught;                /* text of a stream, for a capture */
    size_t repeated;

    /* answers that are kept */
    nigh_answer_key key;
    bool flies;                     /* others wait for this one */
    bool from_cache;
    uint64_t cache_age_s;
    char cache_receipt[32];
    nigh_buf unsure;                /* an answer below the threshold, for when there is no better one */
    uint32_t unsure_t, unsure_tokens;

    /* out of the queue */
    char queue_id[32];              /* "": a client waits */
    nigh_rights *queue_rights;
    uint64_t keep_output_s, queue_tries;
};

/* ---- place_health.c ---- */
uint64_t place_now_ms(void);        /* monotonic */
/* What is so now, for a decision. first, total: arrays of NIGH_TARGETS_MAX that the facts will point to. */
void place_facts(nigh_place *p, nigh_str tenant, nigh_place_facts *out, uint32_t *first, uint32_t *total);
/* A try begins. False: the target is left alone just now. */
bool place_target_try(nigh_place *p, uint32_t t);
void place_target_ended(nigh_place *p, uint32_t t, const place_hop *hop, const char *error);
/* How long a second target waits beside t. */
uint32_t place_hedge_ms(nigh_place *p, uint32_t t, const nigh_feature *f);

/* ---- place_request.c ---- */
/* What is asked for: the feature, the class, the size. False: it is no request for a feature. */
bool place_read(const nigh_place *p, const nigh_asked *asked, const nigh_request *r, nigh_place_request *out,
    nigh_str *feature_name);
bool place_feature(const nigh_place *p, const nigh_asked *asked, const nigh_request *r, nigh_str *name);
uint32_t place_tokens(const nigh_request *r);           /* of its words, estimated */
void place_decide(nigh_placed *pl, const nigh_rights *rights, const char *user);
/* A request from here on; a->placed. False: no memory, and the answer is over. */
bool place_new(nigh_place *p, nigh_answer *a, const nigh_asked *asked, nigh_placed **out);
/* Names of the rules of `why`, with commas. */
void place_why_names(unsigned why, char *out, size_t cap);

/* ---- place_rights.c ---- */
const nigh_rights *place_rights(const nigh_place *p, const nigh_asked *asked);
double place_spent_today(nigh_place *p, const nigh_rights *rights, const char *user);
void place_settle(nigh_place *p, nigh_answer *a, double usd, uint32_t tokens);

/* ---- place_try.c ---- */
void place_next(nigh_placed *pl);                       /* on the reader's thread */
void place_post(nigh_placed *pl, void (*run)(nigh_node *n, nigh_prep *p));
void place_ended(nigh_placed *pl, place_end end, const char *error);    /* a try is over; from its own thread */
uint32_t place_left_ms(const nigh_placed *pl);          /* of the feature's time */
bool place_has_next(const nigh_placed *pl);
bool place_may_go_on(const nigh_placed *pl, place_end end);     /* may another target be asked after this end? */
place_hop *place_hop_now(nigh_placed *pl);
void place_push_hop(nigh_placed *pl, uint32_t t);
void place_note_first(nigh_placed *pl);
void place_begin_stream(nigh_placed *pl);               /* its first text is there */

/* ---- place_local.c, place_away.c: PLACE_OK: it runs, and place_ended comes ---- */
place_end place_local_start(nigh_placed *pl, nigh_refusal *why);
NIGH_CHECK nigh_status place_away_open(nigh_place *p, const nigh_node_opts *o, nigh_err *err);
void place_away_close(nigh_place *p);
place_end place_away_start(nigh_placed *pl, nigh_refusal *why);
/* One call. until_ms: for its first word; body: of place_body. */
NIGH_CHECK nigh_status place_away_send(nigh_placed *pl, uint32_t t, uint64_t until_ms, nigh_str body,
    const nigh_upstream_calls *calls, void *ud, uint64_t *id, nigh_err *err);
void place_away_name(nigh_placed *pl, uint32_t t);      /* t answers: its model's name and hash */
extern const nigh_upstream_calls place_away_calls;      /* of a single try; ud: nigh_placed */
/* Before each try: what the client has is what the next one goes on from; the rest is dropped. */
NIGH_CHECK nigh_status place_make_room(nigh_placed *pl);

/* ---- place_race.c ---- */
/* The first of two tries at once, when the feature allows that; NULL: it does not. What is returned is the ud of its
 * call, *id where the call's id goes. */
void *place_race_new(nigh_placed *pl, uint64_t **id);
void place_race_begun(void *first, bool good);          /* the first call began, or it could not */
extern const nigh_upstream_calls place_race_calls;
/* With the waiter's lock held: one whose second may begin; else *next_ms is when. Then run it without the lock. */
place_race *place_race_due(nigh_place *p, uint64_t now_ms, uint64_t *next_ms);
void place_race_run(nigh_place *p, place_race *race);

/* ---- place_body.c ---- */
/* The request as another place may see it; redacts as the decision says. *out: released by the caller, also emptied on
 * failure. Fails: EPOLICY, EDATA, ERANGE (it cannot be redacted), ENOMEM. */
NIGH_CHECK nigh_status place_body(nigh_placed *pl, nigh_tier tier, bool redact, nigh_buf *out, nigh_err *err);

/* ---- place_keep.c ---- */
bool place_keeps(const nigh_placed *pl);
/* True: an answer that is kept was given, or an equal request is on its way and this one waits for it. */
bool place_from_cache(nigh_placed *pl);
/* An answer of any allowed target that is not older. */
bool place_stale(nigh_placed *pl, uint32_t age_max_s);
void place_land(nigh_placed *pl, bool ok);              /* keeps the answer, and lets those who wait go on */

/* ---- place_degrade.c ---- */
void place_degrade(nigh_placed *pl);

/* ---- place_queue.c ---- */
NIGH_CHECK nigh_status place_queue_open(nigh_place *p, const nigh_node_opts *o, nigh_err *err);
void place_queue_stop(nigh_place *p);
void place_queue_wake(nigh_place *p);                   /* there may be a line again */
void place_wait(nigh_placed *pl, uint32_t ms);          /* then place_next */
NIGH_CHECK nigh_status place_enqueue(nigh_placed *pl, uint32_t wait_s, nigh_err *err);
void place_drained(nigh_placed *pl, int http, const char *error);

/* ---- place_write.c ---- */
void place_head(nigh_placed *pl, bool whole);           /* x-placement */
void place_why(const nigh_placed *pl, char *out, size_t cap);
void place_answer(nigh_placed *pl);                     /* the good end */
void place_error(nigh_placed *pl, int http, const char *code, const char *param, const char *text);
void place_over(nigh_placed *pl);
void place_unref(nigh_placed *pl);
const char *place_region(const nigh_policy *p, const nigh_target *t, char out[16]);
void place_count(nigh_placed *pl, bool answered);

/* ---- place_capture.c ---- */
NIGH_CHECK nigh_status place_capture_open(nigh_place *p, const nigh_node_opts *o, nigh_err *err);
bool place_captured(const nigh_placed *pl);             /* will what is asked and answered be kept? */
void place_catch(nigh_placed *pl, nigh_str text);       /* a piece of a stream */
void place_capture(nigh_placed *pl);                    /* after the answer was spelled */

/* ---- place_ledger.c ---- */
/* The record of this answer. False: the ledger does not take it. */
bool place_record(nigh_placed *pl, const char *outcome, nigh_err *err);
/* On the keeper's thread: deletes records that are older than the policy keeps them. Returns the ms until it is worth
 * to look again. */
uint64_t place_ledger_tidy(nigh_place *p);

#endif
