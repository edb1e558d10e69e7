/* local_call.h - one request to a node of this machine, over its loopback address, and one whole answer. */
#ifndef NIGH_LOCAL_CALL_H
#define NIGH_LOCAL_CALL_H

#include "base/base.h"

typedef struct {
    uint16_t port;
    const char *path;
    const char *key;                /* of the node's key file; NULL: none */
    const char *field, *value;      /* one more field of the head; NULL: none */
    nigh_str body;                  /* JSON */
    unsigned wait_s;                /* for each piece of the answer */
} nigh_local_ask;

/* *status: of HTTP. answer: its body, at the end; the buffer's limit is that of the whole answer. Fails: ENOENT (nobody
 * listens at the port), EINVAL (a field is too long), EIO (what came is no answer). */
NIGH_CHECK nigh_status nigh_local_call(const nigh_local_ask *a, int *status, nigh_buf *answer, nigh_err *err);

#endif
