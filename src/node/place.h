/* place.h - the policy of a node at work: which requests it takes, where each runs, and what is said of it.
 *
 *     place.c           life, the routes that tell of it
 *     place_request.c   a request: its feature, its class, the decision; the same without running it
 *     place_health.c    what is so now: this device, which targets failed lately, how fast they were
 *     place_try.c       one target after the other until one has answered
 *     place_local.c, place_away.c   a try of a model of this node; of an edge node or a provider
 *     place_body.c      what another place gets to see
 *     place_degrade.c   what comes when no target is left
 *     place_write.c     the header x-placement, the receipt, the record
 *
 * docs/api.md has what clients see of it, docs/format-policy.md the rules. */
#ifndef NIGH_PLACE_H
#define NIGH_PLACE_H

#include "node/openai.h"

/* After the models, before the server. Fails as nigh_policy_parse, with the place in the file. */
NIGH_CHECK nigh_status nigh_place_open(nigh_place **out, nigh_node *n, const nigh_node_opts *o, nigh_err *err);
/* Ends what waits or runs away from here; the reader and the engines have ended. */
void nigh_place_stop(nigh_place *p);
void nigh_place_close(nigh_place *p);

/* Is this request one for a feature? */
bool nigh_place_takes(const nigh_place *p, const nigh_answer *a);
/* Decides and begins; the answer is Place's from here on. On the reader's thread. */
void nigh_place_begin(nigh_place *p, nigh_answer *a);
/* The JSON object of `nigh_receipt`. */
NIGH_CHECK nigh_status nigh_place_receipt(const nigh_placed *pl, nigh_buf *out);

/* ---- routes; p may be NULL: there is no policy ---- */
void nigh_place_explain(nigh_place *p, nigh_exchange *x);
void nigh_place_about(nigh_place *p, nigh_exchange *x);
void nigh_place_offline(nigh_place *p, nigh_exchange *x);

#endif
