/* egress.h - where the node may connect to: the one parser of addresses that it has, and the rules for what a name
 * was resolved to (SECURITY.md). Pure: nothing here opens a socket.
 *
 * The parser takes http and https addresses in one spelling only and hands out parts of which the address for the
 * HTTP client is put together again, so that two parsers can not disagree. The rules are asked with the address that
 * a socket is about to connect to, after every resolving, never with a name. */
#ifndef NIGH_EGRESS_H
#define NIGH_EGRESS_H

#include "base/base.h"
#include "place/policy.h"

enum { NIGH_EGRESS_URL_MAX = 2048 };

typedef struct {
    bool https;
    char host[256];             /* lower case, without a dot at the end; an IPv6 address without its brackets */
    uint16_t port;
    bool is_v4, is_v6;          /* the host is an address */
    nigh_str path, query;       /* views into the text; path "" or from / on, query with its ? */
} nigh_egress_url;

/* Fails: EINVAL with a sentence that says what is wrong. Refused are: other schemes, names before @, #, letters
 * outside printable ASCII, backslashes, % without two hex digits, ports of other protocols, names that are no host
 * names, and every spelling of an address but the usual one (127.1, 0x7f.0.0.1, 2130706433, 0177.0.0.1,
 * [fe80::1%eth0]). */
NIGH_CHECK nigh_status nigh_egress_parse(nigh_egress_url *out, nigh_str text, nigh_err *err);

/* "host:port" as in the lists of a configuration, lower case. The same for IPv6: "[::1]:443". */
void nigh_egress_name(const nigh_egress_url *u, char *out, size_t cap);

typedef enum {
    NIGH_EGRESS_PUBLIC,         /* an address of the internet */
    NIGH_EGRESS_OWN,            /* loopback, private networks (RFC 1918, RFC 4193, RFC 6598) */
    NIGH_EGRESS_NEVER           /* link-local, metadata services, multicast, tunnels, reserved, unspecified */
} nigh_egress_kind;

/* bytes: 4 or 16 of them, in network order. *what: what it is, for a sentence ("a link-local address"). */
nigh_egress_kind nigh_egress_kind_of(const uint8_t *bytes, size_t count, const char **what);
/* The same of a numeric address as text; NEVER when it is none. */
nigh_egress_kind nigh_egress_kind_of_text(const char *numeric, const char **what);

typedef struct {
    nigh_tier tier;
    bool https;
    bool allowed;               /* host and port stand in the list of exceptions for cloud targets */
} nigh_egress_rule;

/* NULL: may connect. Else why not, one sentence. */
const char *nigh_egress_refuses(const nigh_egress_rule *rule, nigh_egress_kind kind);

#endif
