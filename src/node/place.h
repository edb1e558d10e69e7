/* place.h - the policy of a node at work: which requests it takes, where each runs, and what is said of it.
 *
 *     place.c           life, the routes that tell of it
 *     place_request.c   a request: its feature, its class, the decision; the same without running it
 *     place_health.c    what is so now: this device, which targets failed lately, how fast they were
 *     place_rights.c    who asks: rights, limits, budgets
 *     place_try.c       one target after the other until one has answered
 *     place_local.c, place_away.c   a try of a model of this node; of an edge node or a provider
 *     place_race.c      two tries at once
 *     place_body.c      what another place gets to see
 *     place_keep.c      answers that are kept, and equal requests at the same time
 *     place_degrade.c   what comes when no target is left
 *     place_queue.c     requests that wait for a line; tries that wait for a moment
 *     place_forget.c    deletion on request
 *     place_write.c     the header x-placement, the receipt
 *     place_ledger.c    the record, and the routes that read records
 *
 * docs/api.md has what clients see of it, docs/format-policy.md the rules. */
#ifndef NIGH_PLACE_H
#define NIGH_PLACE_H

#include "node/limits.h"
#include "node/openai.h"

/* After the models, before the server. Fails as nigh_policy_parse, with the place in the file. */
NIGH_CHECK nigh_status nigh_place_open(nigh_place **out, nigh_node *n, const nigh_node_opts *o, nigh_err *err);
/* The calls to other places, for the socket thread to drive. p may be NULL. */
nigh_http_guest nigh_place_guest(const nigh_place *p);
/* Ends what waits or runs away from here; the reader and the engines have ended. driven: the socket thread runs. */
void nigh_place_stop(nigh_place *p, bool driven);
void nigh_place_close(nigh_place *p);

/* Whose key the request came with. Never NULL; lives as long as p. p NULL or x NULL: one's own. */
const nigh_rights *nigh_place_rights(const nigh_place *p, nigh_exchange *x);
/* May this caller ask this, and now? Fails: EPOLICY, EBUSY; fills why. */
NIGH_CHECK nigh_status nigh_place_admit(nigh_place *p, nigh_answer *a, nigh_refusal *why);
/* The record of a plain answer, and what it counts against the key's minute. False: there is none, so there may be no
 * answer. */
bool nigh_place_note(nigh_place *p, nigh_answer *a, const char *outcome, const char *rule, nigh_err *err);
/* How many tokens its words count as, before anything is decided. */
uint32_t nigh_place_estimate(const nigh_request *r);
/* Is this request one for a feature? */
bool nigh_place_takes(const nigh_place *p, const nigh_answer *a);
/* Decides and begins; the answer is Place's from here on. On the reader's thread, or (on_socket) on a socket's, which
 * only asks other places and the cache. */
void nigh_place_begin(nigh_place *p, nigh_answer *a, bool on_socket);
bool nigh_place_decides(const nigh_place *p);           /* is there a policy? p may be NULL */
/* The JSON object of `nigh_receipt`. */
NIGH_CHECK nigh_status nigh_place_receipt(const nigh_placed *pl, nigh_buf *out);

/* The features that this caller may ask, as models by the names "feature/NAME": for clients that choose from a list. */
NIGH_CHECK nigh_status nigh_place_models(const nigh_place *p, const nigh_rights *rights, nigh_buf *out);
bool nigh_place_has_model(const nigh_place *p, nigh_str id);
NIGH_CHECK nigh_status nigh_place_add_model(nigh_buf *out, nigh_str id);

/* ---- routes ---- */
void nigh_place_explain(nigh_place *p, nigh_exchange *x);
void nigh_place_about(nigh_place *p, nigh_exchange *x);
void nigh_place_offline(nigh_place *p, nigh_exchange *x);
void nigh_place_ledger(nigh_place *p, nigh_exchange *x);
void nigh_place_where(nigh_place *p, nigh_exchange *x);
void nigh_place_signed(nigh_place *p, nigh_exchange *x);
void nigh_place_queue_get(nigh_place *p, nigh_exchange *x);
void nigh_place_queue_delete(nigh_place *p, nigh_exchange *x);
void nigh_place_forget(nigh_place *p, nigh_exchange *x);

#endif
