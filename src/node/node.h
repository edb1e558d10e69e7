/* node.h - one daemon: models, their schedulers, the HTTP server, and the routes between them. */
#ifndef NIGH_NODE_H
#define NIGH_NODE_H

#include "nigh/engine.h"
#include "node/envelope.h"
#include "node/guard.h"

typedef struct nigh_node nigh_node;

typedef struct {
    const char *const *models;      /* paths of GGUF files; borrowed */
    size_t model_count;             /* 1..16 */
    const char *host;
    uint16_t port;
    const char *key_file;           /* NULL: no keys */
    const char *manifest_key;       /* signs manifests; made when it is not there; NULL: they stand unsigned */
    nigh_hosts hosts;               /* more names it answers to */
    nigh_origins origins;           /* other pages that may call; texts kept */
    unsigned cpu;                   /* kernel.h */
    uint32_t threads, context_tokens, parallel, queue;     /* 0: defaults (sched.h) */
    uint32_t connections;           /* 0: the default (http.h) */
    bool alone;                     /* no guesses (sched.h) */
    const char *draft;              /* path of a small model that guesses for all of them; NULL: none; borrowed */
    nigh_cache cache;
    const char *policy;             /* path of features.json (docs/format-policy.md); NULL: none; borrowed */
    const nigh_trusted_key *trusted;        /* whose signature a policy must have; none: any policy; borrowed */
    size_t trusted_count;
    /* Place's files; NULL: `home` below has them when there is a policy. Borrowed. */
    const char *ledger;
    const char *home;               /* folder of the user's data; NULL: nothing is kept in files but what is named */
    const char *ca_file;            /* whose certificates count for edge nodes and providers; NULL: the system's */
    const char *const *allow_private;       /* "host:port" of providers that may be addresses of one's own network */
    size_t allow_private_count;
} nigh_node_opts;

/* Loads the models and starts serving. Fails like nigh_model_open, nigh_keys_load and nigh_http_open; the text
 * names the model. */
NIGH_CHECK nigh_status nigh_node_open(nigh_node **out, const nigh_node_opts *o, nigh_err *err);
uint16_t nigh_node_port(const nigh_node *n);
/* One line for each model: id, hash, size, memory of a sequence. */
NIGH_CHECK nigh_status nigh_node_describe(const nigh_node *n, nigh_buf *out);
/* Stops accepting, lets answers end for at most `grace_ms`, ends what is left (streams with a visible error), frees. */
void nigh_node_close(nigh_node *n, unsigned grace_ms);

#endif
