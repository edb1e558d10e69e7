/* http_parts.h - what http.c (requests in), exchange.c (answers out) and http_watch.c (deadlines) share. Nobody
 * else includes this.
 *
 * Locks, in this order: http->lock (the list of connections and their phases), then exchange->lock (the answer and
 * its queue). The function of nigh_exchange_on is called under exchange->lock. */
#ifndef NIGH_HTTP_PARTS_H
#define NIGH_HTTP_PARTS_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include "node/http.h"

/* Where a connection stands; each phase but WORK has a deadline. */
typedef enum { PHASE_NEW, PHASE_IDLE, PHASE_HEAD, PHASE_BODY, PHASE_WORK, PHASE_DEAD } nigh_phase;

typedef struct nigh_conn nigh_conn;
struct nigh_conn {
    nigh_conn *prev, *next;
    int fd;
    nigh_phase phase;
    uint64_t since_ms;              /* when the phase began */
    nigh_exchange *x;               /* in PHASE_WORK */
};

struct nigh_exchange {
    _Atomic unsigned refs;
    nigh_http *http;
    /* valid until the request is completed; touched by its socket thread and by resume */
    struct MHD_Connection *connection;
    pthread_mutex_t lock;

    /* the request; the socket thread's */
    char *target;
    size_t target_len;
    const char *target_at;              /* where the library had it: see head_is_strict */
    nigh_facts facts;
    nigh_asked asked;
    const nigh_route *route;
    nigh_origin_kind origin;
    nigh_verdict refusal;
    bool seen, started, close;
    const char *client;
    char id[65];
    nigh_buf body;
    nigh_peer_in *peer;                 /* its body is sealed, and so is the answer; NULL: not */
    uint64_t start_ns;

    /* the answer; under lock */
    bool answered, streaming, ended, suspended, full;
    int status;
    char type[64];
    int file;                           /* open, or -1: the answer is `out` */
    uint64_t file_first, file_bytes;
    nigh_buf out;                       /* the whole answer, or the events that wait */
    size_t out_begin;                   /* of it already taken */
    struct { const char *name; size_t at; } fields[12];     /* at: of its value in `values`, terminated */
    size_t field_count;
    nigh_buf values;
    uint32_t retry_ms;
    uint64_t pushed_ms;
    void (*on)(void *ud);
    void *on_ud;
    atomic_bool gone;
};

struct nigh_http {
    struct MHD_Daemon *daemon;
    int epoll, event;                   /* of the socket thread; event: it is to look around */
    pthread_t thread;
    bool thread_runs, quiet;            /* quiet: it accepts no more */
    atomic_bool woken;                  /* the library is to look again: a connection was resumed, or is gone */
    nigh_http_opts opts;
    nigh_hosts hosts;
    uint16_t port;
    pthread_t watcher;
    int leaving;                        /* an epoll of its own: whose client hung up */
    uint8_t *left;                      /* [files] by number of the socket: it may have; under lock */
    size_t files;
    pthread_mutex_t lock;
    pthread_cond_t wake;                /* of the watcher; CLOCK_MONOTONIC */
    bool work_began;
    nigh_conn *conns;
    atomic_bool draining, stopping, ending;
    _Atomic unsigned conn_count, busy;
    _Atomic size_t upload_bytes;
};

/* exchange.c */
nigh_exchange *nigh_exchange_new(nigh_http *h);
/* Queues the answer when there is one, else sleeps until there is. The socket thread calls it. */
enum MHD_Result nigh_exchange_answer(nigh_exchange *x, struct MHD_Connection *c);
void nigh_exchange_leave(nigh_exchange *x);     /* marks it gone and tells who listens */
void nigh_exchange_ping(nigh_exchange *x, uint64_t now_ms);
/* http.c: a connection that slept was resumed. */
void nigh_http_wake(nigh_http *h);
/* http_watch.c */
void *nigh_http_watch(void *http);

#endif
