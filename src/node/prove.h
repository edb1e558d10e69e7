/* prove.h - what a feature sends, by the ledger of its node and by a counter that the node cannot reach.
 *
 *     a network namespace: nigh serve + the requests        this machine: every packet of its one line is counted
 *
 * The node runs as always; the requests come from beside it, over its loopback, so that whatever crosses the line is
 * the feature's. At the end the ledger's bytes of every hop are compared with the payload that was seen outside. */
#ifndef NIGH_PROVE_H
#define NIGH_PROVE_H

#include "node/prove_wire.h"

enum { NIGH_PROVE_REQUESTS_MAX = 10000, NIGH_PROVE_WORDS_MAX = 16 };

typedef struct {
    const char *policy, *feature, *text;
    const char *class_name;         /* what the caller says of the data; NULL: nothing */
    const char *outside;            /* prove_wire.h */
    const char *models[NIGH_PROVE_WORDS_MAX], *allow_private[NIGH_PROVE_WORDS_MAX];
    size_t model_count, allow_private_count;
    int64_t requests, seed;         /* seed not 0: words of another number behind the text of each request */
} nigh_prove_ask;

typedef struct {
    uint64_t answered, errors, failed;          /* requests; failed: not even an error came */
    uint64_t records, calls_away, ledger_out, ledger_in;    /* by the ledger, whose chain was verified */
    uint64_t line_out, line_in;                 /* TCP's payload on the line */
    uint64_t other_out;                         /* bytes of frames that are no TCP: name lookups, ARP */
    bool agrees;                                /* within the headers of the packets, and no packet was missed */
    nigh_prove_seen seen;
} nigh_prove_result;

/* Fails as nigh_prove_wire_open does; EIO when the node does not start (what it said goes to standard error). That the
 * bytes do not agree is no failure of this function. */
NIGH_CHECK nigh_status nigh_prove(const nigh_prove_ask *a, nigh_prove_result *out, nigh_err *err);

#endif
