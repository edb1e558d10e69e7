/* guard.h - what a request must look like before its body is read.
 * Pure functions over bytes, no memory, no socket: the fuzz target calls them as they are. The HTTP library is
 * lenient where RFC 9110 and RFC 9112 are not; this is where a request that two programs could read in two ways is
 * refused. */
#ifndef NIGH_GUARD_H
#define NIGH_GUARD_H

#include "base/base.h"

enum {
    NIGH_GUARD_TARGET_MAX = 8192,       /* bytes of the request target */
    NIGH_GUARD_HEAD_MAX = 16384,        /* bytes of request line and fields */
    NIGH_GUARD_FIELDS_MAX = 100,
    NIGH_GUARD_PATH_MAX = 1024
};

typedef struct { nigh_str name, value; } nigh_field;

typedef struct {
    nigh_str method, target, version;
    nigh_field fields[NIGH_GUARD_FIELDS_MAX];
    size_t field_count;                 /* over the maximum: refused */
    size_t bytes;                       /* of the whole head */
} nigh_head;

/* What the head says, once it was found good. Views into the head, but for the path. */
typedef struct {
    nigh_str host, origin, content_type, authorization, api_key, fetch_site, fetch_mode, request_id, preflight_method,
        range, if_range, feature, data_class, user, idempotency_key;
    bool preflight_private;             /* Access-Control-Request-Private-Network */
    bool has_length, chunked, expects_continue;
    uint64_t content_bytes;
    char path[NIGH_GUARD_PATH_MAX];     /* decoded; terminated */
} nigh_facts;

/* status 0: go on. close: the connection cannot be trusted to be in step any more. */
typedef struct {
    int status;
    bool close;
    const char *code, *text;
} nigh_verdict;

/* Checks the whole head and fills facts. */
nigh_verdict nigh_guard_head(const nigh_head *head, nigh_facts *facts);

/* The names this node answers to, each "name:port" in lower case (also "name" when the port is 80). */
typedef struct { char names[32][264]; size_t count; } nigh_hosts;
/* Fails: EINVAL (not a host name or address), ERANGE (more than 32). A name without a port gets
 * `port`; 0: it is left open until the list is added to another, as the server does once it knows its port. */
NIGH_CHECK nigh_status nigh_hosts_add(nigh_hosts *h, nigh_str name, uint16_t port, nigh_err *err);
bool nigh_hosts_has(const nigh_hosts *h, nigh_str host);

/* Origins of web pages that may call: those of our own names, and those listed. */
typedef struct { nigh_str list[32]; size_t count; } nigh_origins;
NIGH_CHECK nigh_status nigh_origins_add(nigh_origins *o, nigh_str origin, nigh_err *err);    /* keeps the text */
typedef enum { NIGH_ORIGIN_NONE, NIGH_ORIGIN_OWN, NIGH_ORIGIN_LISTED, NIGH_ORIGIN_FOREIGN } nigh_origin_kind;
nigh_origin_kind nigh_guard_origin(const nigh_hosts *h, const nigh_origins *o, nigh_str origin);

/* "application/json", with or without parameters. */
bool nigh_guard_is_json(nigh_str content_type);
bool nigh_guard_is_token(nigh_str s);           /* RFC 9110 section 5.6.2 */

#endif
