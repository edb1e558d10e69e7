/* upstream.h - calls to other places: cloud providers and edge nodes, over HTTP. One thread drives every transfer,
 * its own or one that drives more than this (libcurl's multi interface; the library is loaded at the first call, so
 * that a node which only might ask another place neither waits for it nor holds its memory). The request is always an
 * OpenAI chat request as JSON; the dialect of the target (nigh_api) decides how it is spelled on the wire and how its
 * stream is read back into the same few events. What a target needs of the address rules (SECURITY.md b.4): TLS is
 * verified, redirects are not followed, a cloud target never resolves to an address of this machine or of its network,
 * an address is checked after it was resolved and the connection goes to that address.
 *
 * The functions in nigh_upstream_calls are called from the upstream thread, without a lock held; done is called
 * exactly once for a call that was taken, and is its last. They must not block. */
#ifndef NIGH_UPSTREAM_H
#define NIGH_UPSTREAM_H

#include "base/base.h"
#include "node/peer.h"
#include "place/policy.h"

typedef struct nigh_upstream nigh_upstream;

typedef enum { NIGH_API_OPENAI_CHAT, NIGH_API_OPENAI_RESPONSES, NIGH_API_ANTHROPIC } nigh_api;
/* Of a target's `api` ("" is openai-chat). False: unknown. */
bool nigh_api_find(nigh_str name, nigh_api *out);

typedef struct {
    const char *ca_file;            /* PEM; NULL: the system's */
    /* "host:port" of cloud targets that may be addresses of this machine or network, and may be asked without TLS:
     * for tests and for gateways of one's own. Edge targets may be such addresses anyway, loopback and private ones.
     * Copied. */
    const char *const *allow_private;
    size_t allow_private_count;
    unsigned calls_max;             /* at once; 0: 4,096 */
    /* No thread of its own: somebody calls nigh_upstream_turn, always from one thread, whenever nigh_upstream_fd is
     * readable, after what it did itself, and when nigh_upstream_due_ns has come. */
    bool driven;
} nigh_upstream_opts;

/* Why a call ended. */
typedef enum {
    NIGH_CALL_OK,
    NIGH_CALL_CANCELLED,            /* by nigh_upstream_cancel */
    NIGH_CALL_REFUSED_ADDRESS,      /* the address rules */
    NIGH_CALL_UNREACHABLE,          /* name not found, connection refused or too slow, TLS failed, no network */
    NIGH_CALL_TIMEOUT,              /* first token or whole */
    NIGH_CALL_BUSY,                 /* 429, 503, 529: retry_ms says when */
    NIGH_CALL_REJECTED,             /* another 4xx: asking again would not help (context too long: CONTEXT) */
    NIGH_CALL_CONTEXT,              /* the target says that the request is too long for it */
    NIGH_CALL_FAILED,               /* 5xx */
    NIGH_CALL_MALFORMED,            /* not what the dialect says */
    NIGH_CALL_CUT                   /* the stream ended before its end was said */
} nigh_call_end;

typedef struct {
    nigh_call_end end;
    int http;                       /* 0: none */
    uint32_t retry_ms;              /* the provider's own hint (retry-after, -ms, x-ratelimit-*); 0: none */
    uint32_t first_ms, total_ms;    /* to the first text or tool delta (0: none came); to the end */
    /* Handed to and taken from the socket, TLS included, TCP's headers and repeats not. The first call of a
     * connection counts its TLS handshake. */
    uint64_t bytes_out, bytes_in;
    /* A connection was there and the request was given to it: some of it may have left. False: the target knows
     * nothing of this call. */
    bool sent;
    char address[64];               /* numeric, the one that was used; "" none */
    char text[200]; /* our words, for a person and for logs; no key, no content of request or answer */
    /* The provider's words about an error, shortened, without the key. They may quote the request: for the one who
     * asked, and never kept. "" none. */
    char said[200];
} nigh_call_result;

typedef struct {
    uint32_t prompt_tokens, completion_tokens, cached_tokens;
    bool known;
} nigh_usage;

typedef struct {
    /* The head of a good answer came. request_id: the provider's. */
    void (*begin)(void *ud, const char *model, const char *request_id);
    void (*text)(void *ud, nigh_str piece);
    /* Of tool call `i`: id and name with its first piece, else empty; a piece of its arguments' JSON. */
    void (*tool)(void *ud, uint32_t i, nigh_str id, nigh_str name, nigh_str arguments);
    /* finish: "stop", "length", "tool_calls" or "content_filter". */
    void (*finish)(void *ud, const char *finish, const nigh_usage *usage);
    /* The receipt of an edge node, as JSON, checked to be an object of at most 16 KiB. */
    void (*receipt)(void *ud, nigh_str json);
    void (*done)(void *ud, const nigh_call_result *result);
} nigh_upstream_calls;

typedef struct {
    nigh_api api;
    nigh_tier tier;                 /* EDGE or CLOUD: which address rules hold */
    nigh_str url;                   /* of the target: base ("https://api.example.com/v1") or the whole endpoint */
    nigh_str key;                   /* the key itself; "" none; only ever sent to this scheme, host and port */
    nigh_str model;                 /* the provider's name of the model */
    nigh_str body;                  /* an OpenAI chat request; its model and stream fields are replaced */
    /* NULL: none. The other node's key and ours: the body goes out sealed, only a sealed answer is taken. */
    const nigh_peer_line *peer;
    uint32_t max_tokens;            /* 0: what body says */
    uint32_t connect_ms, first_ms, total_ms;    /* 0: 3,000, 30,000, 600,000 */
    uint32_t quiet_ms;              /* longest silence after the first word, comments count as sound; 0: no limit */
    /* NULL: none; sent as Idempotency-Key, over a connection of its own: on a kept one that had just died, libcurl
     * would send the request a second time by itself. */
    const char *idempotency_key;
    const char *const *headers;     /* "name: value", for edge nodes (x-feature, x-class) */
    size_t header_count;
} nigh_upstream_ask;                /* everything is copied */

/* Fails: ENOMEM, EIO. */
NIGH_CHECK nigh_status nigh_upstream_open(nigh_upstream **out, const nigh_upstream_opts *o, nigh_err *err);
/* Takes no more calls, cancels what is left, waits for every done. driven: somebody still takes the turns. */
void nigh_upstream_stop(nigh_upstream *u, bool driven);
/* Stops, and frees; nobody takes turns any more. */
void nigh_upstream_close(nigh_upstream *u);
int nigh_upstream_fd(const nigh_upstream *u);
/* Does what there is to do, without waiting; ready: nigh_upstream_fd is. */
void nigh_upstream_turn(nigh_upstream *u, bool ready);
uint64_t nigh_upstream_due_ns(const nigh_upstream *u);  /* of nigh_os_now_ns; 0: now; UINT64_MAX: when it is readable */
/* Any thread. Fails: EINVAL (url, key, or body; a field that the dialect cannot say is named), ERANGE, EBUSY
 * (calls_max), ENOSUP (libcurl is not installed; the sentence names the package), EIO (no thread), ENOMEM; then done
 * is not called. *id: for the two functions below; never used again for another call;
 * set before the first of the calls. A cloud target is never asked to keep or to label a request: `metadata` stays
 * here, and `store` is false. */
NIGH_CHECK nigh_status nigh_upstream_call(nigh_upstream *u, const nigh_upstream_ask *ask,
    const nigh_upstream_calls *calls, void *ud, uint64_t *id, nigh_err *err);
/* From any thread, also from inside a call; an id that is over is ignored. done comes with CANCELLED. */
void nigh_upstream_cancel(nigh_upstream *u, uint64_t id);
/* A slow reader in front: the transfer waits, so that memory stays bounded. What has arrived by then may still come:
 * a few KiB. Its times go on. */
void nigh_upstream_pause(nigh_upstream *u, uint64_t id, bool pause);

/* ---- what left, by destination (for nigh prove and metrics) ---- */
typedef struct { char host[264]; uint16_t port; uint64_t calls, bytes_out, bytes_in; } nigh_wire_count;
/* Of calls that have ended and connections that were closed. Fills at most `cap`, returns how many there are; beyond
 * 256 destinations the rest is counted as host "other", port 0. */
size_t nigh_upstream_counts(nigh_upstream *u, nigh_wire_count *out, size_t cap);

#endif
