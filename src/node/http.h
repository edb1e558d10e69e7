/* http.h - the node's HTTP server: sockets, limits and deadlines, and exchanges (one request and its answer each).
 * Stands on libmicrohttpd; nothing else of the node sees it. One thread does all of its input and output, so a handler
 * may neither wait nor compute for long.
 *
 * A handler runs on the socket thread when the whole body is there. It answers at once with nigh_exchange_reply, or
 * it keeps the exchange (nigh_exchange_keep), returns, and answers later from any thread: either with
 * nigh_exchange_reply, or with nigh_exchange_stream, nigh_exchange_push (one whole event each) and
 * nigh_exchange_end. Whoever kept it, releases it. */
#ifndef NIGH_HTTP_H
#define NIGH_HTTP_H

#include "node/guard.h"
#include "node/keys.h"
#include "node/peer.h"

typedef struct nigh_http nigh_http;
typedef struct nigh_exchange nigh_exchange;
typedef void nigh_handler(void *ud, nigh_exchange *x);
typedef enum { NIGH_ERRORS_OPENAI, NIGH_ERRORS_ANTHROPIC } nigh_error_form;     /* whose clients read them */

typedef struct {
    const char *method;             /* GET also answers HEAD */
    const char *path;               /* whole, or with a / and * at the end: that and all below */
    nigh_handler *run;
    /* needs no key: a page, or the health check. All others need one as soon as there is any. */
    bool open;
    bool page;                      /* may be opened by a link from another site */
    size_t body_max;                /* bytes; 0: no body is taken */
    nigh_error_form errors;
} nigh_route;

/* What else the socket thread drives, between requests: calls to other places, whose answers then go out without a
 * change of threads. */
typedef struct {
    void *ud;
    int fd;                         /* readable when there is something to do */
    /* Does what there is to do, without waiting; ready: fd is readable. NULL: there is no guest. */
    void (*turn)(void *ud, bool ready);
    uint64_t (*due_ns)(void *ud);   /* when it wants a turn in any case (nigh_os_now_ns); UINT64_MAX: never */
} nigh_http_guest;

typedef struct {
    const char *host;               /* numeric address or "localhost" */
    uint16_t port;                  /* 0: any free one */
    nigh_hosts hosts;               /* more names; the node's own are added */
    nigh_origins origins;
    const nigh_keys *keys;          /* kept; NULL or empty: none */
    nigh_peers *peers;              /* kept; NULL: no other node is known */
    const nigh_route *routes;       /* kept */
    size_t route_count;
    void *ud;                       /* of the handlers */
    nigh_http_guest guest;
    unsigned connections_max;       /* 0: 4,096, or what RLIMIT_NOFILE allows */
    unsigned per_address_max;       /* 0: a quarter of all, at least 1,024 */
    unsigned head_ms, body_ms, idle_ms;     /* 0: 10,000, 60,000, 75,000 */
    size_t uploads_bytes_max;       /* of all bodies at once; 0: 64 MiB */
} nigh_http_opts;

/* Is this address one that only this machine reaches? */
bool nigh_http_is_loopback(const char *host);

/* Fails: EINVAL (host), EAUTH (not loopback and no key), ERANGE (connections_max: more files than the system allows),
 * EIO (in use, no rights), ENOMEM. */
NIGH_CHECK nigh_status nigh_http_open(nigh_http **out, const nigh_http_opts *o, nigh_err *err);
uint16_t nigh_http_port(const nigh_http *h);
unsigned nigh_http_connections(const nigh_http *h);
/* Stops accepting; new requests on open connections get 503. Streams go on. */
void nigh_http_drain(nigh_http *h);
/* Exchanges whose request is whole and whose answer is not. */
unsigned nigh_http_busy(nigh_http *h);
/* Ends what is left and frees. Every kept exchange must have been released, or be released by nigh_exchange_on's
 * function. */
void nigh_http_close(nigh_http *h);

/* ---- exchange ---- */
enum { NIGH_STREAM_BYTES = 65536 };     /* most bytes waiting in one stream */

nigh_str nigh_exchange_body(const nigh_exchange *x);
void nigh_exchange_drop_body(nigh_exchange *x);     /* its bytes are not needed any more */
nigh_http *nigh_exchange_server(nigh_exchange *x);
const char *nigh_exchange_path(const nigh_exchange *x);     /* decoded */
nigh_str nigh_exchange_range(const nigh_exchange *x);       /* its Range field; empty: none */
nigh_str nigh_exchange_if_range(const nigh_exchange *x);
/* Who asks and for what, as far as fields of the head say it. */
typedef struct {
    char feature[80], data_class[72], user[128], idempotency_key[136];   /* "": not said */
    size_t key_idx;                 /* of the node's keys; SIZE_MAX: no key was shown */
} nigh_asked;
const nigh_asked *nigh_exchange_asked(const nigh_exchange *x);
nigh_peer_in *nigh_exchange_peer(const nigh_exchange *x);    /* the node that asks sealed; NULL: none */
nigh_str nigh_exchange_query(const nigh_exchange *x);       /* what stands after the ?, as it came */
const char *nigh_exchange_id(const nigh_exchange *x);       /* the x-request-id of the answer */
const char *nigh_exchange_client(const nigh_exchange *x);   /* how far away it is: "loopback", "private" or "public" */
uint64_t nigh_exchange_start_ns(const nigh_exchange *x);    /* when its head was whole */
bool nigh_exchange_gone(nigh_exchange *x);                  /* the client left */

void nigh_exchange_keep(nigh_exchange *x);
void nigh_exchange_release(nigh_exchange *x);
/* Calls fn(ud) from a socket thread when the client left and when a full stream has room again. fn may not call
 * back into this header, but for nigh_exchange_gone. With fn NULL: once this returns, no call is on its way. */
void nigh_exchange_on(nigh_exchange *x, void (*fn)(void *ud), void *ud);
/* One more field of the answer; at most 12, before the answer begins. name: kept. */
void nigh_exchange_header(nigh_exchange *x, const char *name, const char *value);
/* The whole answer. body is copied. Only the first answer counts. */
void nigh_exchange_reply(nigh_exchange *x, int status, const char *type, nigh_str body);
/* The whole answer: `bytes` of an open file from `first` on, sent as they are read. Takes the file over. */
void nigh_exchange_reply_file(nigh_exchange *x, int status, const char *type, int fd, uint64_t first, uint64_t bytes);
/* When an error of 429 or 503 says that one may ask again; else in half a second. */
void nigh_exchange_retry(nigh_exchange *x, uint32_t ms);
/* An error in the form of its route. code and param may be NULL. */
void nigh_exchange_error(nigh_exchange *x, int status, const char *code, const char *param, const char *text);
/* Writes an error as OpenAI's clients read it to a buffer: for streams, which carry it as an event. */
NIGH_CHECK nigh_status nigh_error_json(nigh_buf *out, int status, const char *code, const char *param,
    const char *text);
/* The same in any form; id: of the request. */
NIGH_CHECK nigh_status nigh_error_json_as(nigh_buf *out, nigh_error_form form, const char *id, int status,
    const char *code, const char *param, const char *text);
/* Begins an event stream. */
void nigh_exchange_stream(nigh_exchange *x);
/* Is there room for more events? False: wait for the call of nigh_exchange_on. */
bool nigh_exchange_room(nigh_exchange *x);
/* Adds one whole event, which ends in an empty line. Taken also when over the limit, as long as memory lasts: ask
 * for room first. */
void nigh_exchange_push(nigh_exchange *x, nigh_str event);
void nigh_exchange_end(nigh_exchange *x);

#endif
