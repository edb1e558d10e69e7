/* node_parts.h - what node.c (life and plain routes) and openai*.c (requests for text and vectors) share. */
#ifndef NIGH_NODE_PARTS_H
#define NIGH_NODE_PARTS_H

#include "engine/chat.h"
#include "node/http.h"
#include "node/manifest.h"
#include "node/node.h"
#include "node/receipt.h"
#include "node/request.h"
#include "node/sched.h"

enum { NIGH_NODE_MODELS_MAX = 16, NIGH_MODEL_ID_MAX = 128 };

typedef struct {
    char id[NIGH_MODEL_ID_MAX], sha256[65];
    char *path;
    nigh_buf manifest;
    uint64_t file_bytes, created_s; /* when it was loaded */
    nigh_model *model;
    nigh_chat *chat;                /* NULL: the model has no template, or one that cannot be used */
    char chat_error[200];           /* why it cannot be used */
    nigh_sched *sched;
} nigh_served;

typedef struct nigh_placed nigh_placed; /* a request for a feature (place_parts.h) */
typedef struct nigh_place nigh_place;
/* Work for the reader's thread: a request on its way from the socket to a scheduler, or the next step of one. */
typedef struct nigh_prep nigh_prep;
/* In whose words a request came, beside OpenAI's chat and older ones (front.h). COUNT: messages, only counted. */
typedef enum { NIGH_FRONT_NONE, NIGH_FRONT_MESSAGES, NIGH_FRONT_RESPONSES, NIGH_FRONT_COUNT } nigh_front_kind;
struct nigh_prep {
    nigh_prep *next;
    void (*run)(nigh_node *n, nigh_prep *p);    /* owns p */
    nigh_exchange *x;
    nigh_task task;
    nigh_front_kind front;
};

typedef struct {
    nigh_node *node;
    pthread_t thread;
    pthread_cond_t wake;
    nigh_prep *first, **end;
    bool runs;
} nigh_worker;

struct nigh_node {
    nigh_keys keys;
    nigh_http *http;                /* of the main thread: requests may come before it is set */
    nigh_signer signer;
    nigh_peers *peers;              /* NULL: it has no keys */
    nigh_metrics metrics;
    nigh_pool *pool;
    pthread_mutex_t pool_lock;
    nigh_served models[NIGH_NODE_MODELS_MAX];
    size_t model_count;
    nigh_place *place;              /* NULL: no policy and no ledger */
    unsigned cpu;
    nigh_model *draft;              /* guesses for all of them; NULL: none */
    /* What computes or waits is done beside the socket thread: the words of requests (parsing, template, tokenizer) by
     * the reader, questions to the files of Place by the clerk. Under lock. */
    nigh_worker reader, clerk;
    pthread_mutex_t lock;
    pthread_cond_t none_here;
    unsigned here;                  /* requests that are read on their socket's thread just now */
    bool stopping;
};

/* The model that a request names ("" names the first), or NULL. */
const nigh_served *nigh_node_find(const nigh_node *n, nigh_str id);
/* Has p run on the reader's thread. False: the node is stopping, and p is still the caller's. */
bool nigh_node_post(nigh_node *n, nigh_prep *p);
/* Reads the request of x and gives it to a scheduler, or refuses it. on_socket: on a socket's thread, which may not be
 * held up: what a model of this node has to do is left to the reader. */
void nigh_openai_begin(nigh_node *n, nigh_exchange *x, nigh_task task, nigh_front_kind front, bool on_socket);
/* Answers how many tokens the messages of x are. On the reader's thread. */
void nigh_front_count(nigh_node *n, nigh_exchange *x);

/* openai_prompt.c: the ids of a request's i-th prompt or input. ids: born with the limit. Fills why on failure. */
NIGH_CHECK nigh_status nigh_openai_prompt(const nigh_served *m, const nigh_request *r, size_t i, nigh_ids *ids,
    nigh_refusal *why);

#endif
