/* upstream_parts.h - what the files of upstream share.
 *
 *   upstream.c         the door: takes calls from any thread, hands them over, finds them again by id
 *   upstream_loop.c    the thread: epoll, libcurl's sockets and timers, our own deadlines
 *   upstream_call.c    one call: what libcurl tells of it becomes the events and the end that the caller sees
 *   upstream_limits.c  when a busy place has room again
 *   upstream_wire.c    sockets: which may be opened, what went over them
 *   upstream_curl.c    the library
 *
 * Whose is what: `lock` guards the slots, the two lists and the destinations; everything else of a call that was
 * handed over, and all of libcurl, belongs to the thread. A call is freed by the thread, after its slot was
 * given back under the lock; so whoever finds it in its slot under the lock may touch its flags. */
#ifndef NIGH_UPSTREAM_PARTS_H
#define NIGH_UPSTREAM_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "node/dialect.h"
#include "node/egress.h"
#include "node/upstream_curl.h"

enum {
    NIGH_UPSTREAM_DESTINATIONS = 257,       /* the last one: all others */
    NIGH_UPSTREAM_HEADERS_MAX = 24,
    NIGH_UPSTREAM_HEAD_MAX = 64 << 10,      /* of an answer */
    NIGH_UPSTREAM_ERROR_MAX = 16 << 10,     /* of an error's body */
    NIGH_UPSTREAM_TAIL_MAX = 64 << 10,      /* behind the end mark */
    NIGH_UPSTREAM_GRACE_MS = 500            /* for what comes behind the end mark */
};

typedef struct nigh_upstream_call_state call_state;
typedef struct nigh_upstream_handle handle;

/* What a busy place says of its limits: of requests, of tokens. */
typedef struct { uint32_t reset_ms[2]; bool said[2], left[2]; } nigh_upstream_limits;

/* libcurl's easy handle with all that never changes set; used by one call after the other. */
struct nigh_upstream_handle {
    CURL *easy;
    nigh_upstream *u;
    call_state *call;           /* NULL: idle */
    handle *next;               /* among the idle ones */
};

struct nigh_upstream_call_state {
    nigh_upstream *u;
    uint64_t id;
    call_state *next, *next_command;    /* lists, under the lock */
    bool commanded;                     /* under the lock: stands in the list of commands */
    atomic_bool want_cancel, want_pause;

    /* what is asked */
    nigh_upstream_calls calls;
    void *ud;
    nigh_api api;
    nigh_egress_rule rule;
    char *url;                          /* these lie behind this struct, in the same block */
    nigh_str key;
    struct curl_slist headers[NIGH_UPSTREAM_HEADERS_MAX];
    size_t block_bytes;
    nigh_buf body;
    uint32_t connect_ms, first_ms, total_ms, quiet_ms;
    uint64_t heard_ns;                  /* the last bytes of a body */
    bool fresh;                         /* a connection of its own */
    bool sealed;                        /* to a node that is known by its key */
    nigh_peer_out peer;
    nigh_sse peer_events;
    uint32_t destination;

    /* how it goes */
    handle *h;
    uint64_t begin_ns, first_ns, ended_ns;      /* first, ended: 0 not yet */
    uint64_t deadline_ns;
    size_t heap_idx;                    /* where it stands among the deadlines, SIZE_MAX: nowhere */
    int fd;                             /* -1 none */
    bool paused, sent, timed_out, silent, read_begun, head_done;
    int http;
    bool is_stream;                     /* by its content-type */
    uint32_t head_bytes, tail_bytes, retry_ms;
    nigh_upstream_limits limits;        /* of a 429 */
    const char *refused, *what;         /* by the address rules: why, and what it was */
    uint64_t bytes_out, bytes_in;
    char address[64], request_id[100];
    nigh_buf error_body;
    nigh_dialect_answer answer;
};

/* A socket of libcurl's, by its number. */
typedef struct {
    call_state *call;           /* whose bytes go over it now; NULL none */
    uint64_t out, in;           /* counted so far */
    uint32_t destination;
    uint32_t events;            /* what libcurl waits for; 0: nothing */
    uint32_t registered;        /* what epoll knows */
    bool ours;                  /* opened by us: a connection */
    int local_port;             /* of it, once a request went over it; it tells a kept one */
} nigh_upstream_socket;

struct nigh_upstream {
    nigh_upstream_curl curl;
    CURLM *multi;
    int epoll, event;
    pthread_t thread;           /* when it is not driven */
    bool driven;
    atomic_bool runs;           /* the library is loaded, and the thread, if there is one, runs */
    pthread_cond_t none;        /* closing, and no call is left */
    pthread_mutex_t lock;
    bool lock_made;
    char *ca_file;
    char **allow;
    size_t allow_count;
    unsigned calls_max;

    /* under the lock */
    call_state **slots;
    uint32_t *generations, *free_slots;
    uint32_t slot_cap, free_count;
    call_state *queue, *queue_last, *commands;
    bool closing, awake;        /* awake: the thread was told that there is something */
    uint32_t live;
    nigh_wire_count destinations[NIGH_UPSTREAM_DESTINATIONS];
    size_t destination_count;

    /* of the thread */
    nigh_upstream_socket *sockets;
    size_t socket_cap;
    call_state **heap;          /* earliest deadline first */
    size_t heap_count, heap_cap;
    handle *idle;
    size_t idle_count;
    uint64_t timer_ns;          /* when libcurl wants to be called; UINT64_MAX never */
    bool again;                 /* something was handed over from inside the thread: it must not sleep */
};

/* upstream_loop.c */
bool nigh_upstream_prepare(nigh_upstream *u);   /* before the thread; unprepare after it, also when this failed */
void *nigh_upstream_run(void *u);
bool nigh_upstream_is_mine(const nigh_upstream *u);     /* is it this thread that drives it? */
void nigh_upstream_unprepare(nigh_upstream *u);
/* Looks at the call's times again. */
void nigh_upstream_set_deadline(call_state *c, uint64_t deadline_ns);
/* When a call that said something is looked at again: at its end, or when it could have been silent for too long. */
uint64_t nigh_upstream_next_look(const call_state *c);
void nigh_upstream_start(nigh_upstream *u, call_state *c);
/* Takes the call off libcurl, tells its end, frees it. code: what libcurl said. */
void nigh_upstream_finish(nigh_upstream *u, call_state *c, CURLcode code);

/* upstream_call.c: what libcurl calls */
size_t nigh_upstream_on_head(char *line, size_t one, size_t bytes, void *h);
size_t nigh_upstream_on_body(char *bytes, size_t one, size_t count, void *h);
/* upstream_limits.c: a line of the head; how long to wait, 0: it does not say */
void nigh_upstream_limits_line(nigh_upstream_limits *l, nigh_str line, uint64_t now_ms);
uint32_t nigh_upstream_limits_ms(const nigh_upstream_limits *l);

/* The end, and the words for it. */
void nigh_upstream_result(call_state *c, CURLcode code, nigh_call_result *r);

/* upstream_wire.c */
curl_socket_t nigh_upstream_open_socket(void *h, curlsocktype purpose, struct curl_sockaddr *address);
int nigh_upstream_close_socket(void *u, curl_socket_t fd);
int nigh_upstream_before_request(void *h, char *ip, char *local_ip, int port, int local_port);
nigh_upstream_socket *nigh_upstream_socket_at(nigh_upstream *u, int fd);   /* NULL: no memory */
void nigh_upstream_own_socket(call_state *c, int fd);
/* What went over the call's socket since the last look. */
void nigh_upstream_count_socket(nigh_upstream *u, int fd);
/* Under the lock: the row for this host and port. */
uint32_t nigh_upstream_destination(nigh_upstream *u, const nigh_egress_url *url);

/* upstream.c */
void nigh_upstream_forget(nigh_upstream *u, call_state *c);     /* gives its slot back */
void nigh_upstream_free_call(call_state *c);

#endif
