/* outbox.h - requests that wait for a line: durable, sealed, sent exactly once. SQLite; the words of a request and
 * of its answer are sealed (libsodium's secretbox) with a key that lies in a file beside it, so the database alone
 * says nothing. A request is acknowledged to the client only when it is on the disk. Its id is its idempotency key
 * for whoever answers it: after a crash a request that was on its way is sent again with the same key, so that it
 * is not done twice by a place that knows such keys; a place that does not is asked only while nothing was sent. */
#ifndef NIGH_OUTBOX_H
#define NIGH_OUTBOX_H

#include "base/base.h"

typedef struct nigh_outbox nigh_outbox;
typedef enum { NIGH_WAITING, NIGH_SENDING, NIGH_ANSWERED, NIGH_EXPIRED, NIGH_REFUSED } nigh_outbox_state;

typedef struct {
    char id[32];                    /* "q-" and 24 hex digits: unguessable */
    nigh_outbox_state state;
    char tenant[128], user[128], feature[128], class_name[64];
    uint64_t policy_version, taken_ms, until_ms, tries, next_ms;
    nigh_str body;                  /* the client's request; of an answered one: its answer. In the hold buffer */
    char receipt[32];               /* of the answer; "" none yet */
    char error[160];
} nigh_queued;

NIGH_CHECK nigh_status nigh_outbox_open(nigh_outbox **out, const char *path, const char *key_path, nigh_err *err);
void nigh_outbox_close(nigh_outbox *q);
/* On the disk when it returns. client_key: the client's Idempotency-Key, "" none; the same key of the same tenant
 * and user gives the same id again instead of a second entry. Fails: ENOSPC (10,000 waiting, or 256 MiB), EIO. */
NIGH_CHECK nigh_status nigh_outbox_put(nigh_outbox *q, nigh_queued *entry, nigh_str client_key, nigh_err *err);
/* The next one that is due, marked SENDING on the disk before it returns. ENOENT: none. hold: its words. */
NIGH_CHECK nigh_status nigh_outbox_take(nigh_outbox *q, uint64_t now_ms, nigh_queued *out, nigh_buf *hold,
    nigh_err *err);
/* Its answer (sealed, kept for keep_s), or another try at next_ms, or the end of it. */
NIGH_CHECK nigh_status nigh_outbox_answer(nigh_outbox *q, const char *id, nigh_str answer, const char *receipt,
    uint32_t keep_s, nigh_err *err);
NIGH_CHECK nigh_status nigh_outbox_again(nigh_outbox *q, const char *id, uint64_t next_ms, const char *error,
    nigh_err *err);
NIGH_CHECK nigh_status nigh_outbox_refuse(nigh_outbox *q, const char *id, const char *error, nigh_err *err);
/* Only its own tenant and user see it. ENOENT otherwise. */
NIGH_CHECK nigh_status nigh_outbox_get(nigh_outbox *q, nigh_str id, nigh_str tenant, nigh_str user, nigh_queued *out,
    nigh_buf *hold, nigh_err *err);
NIGH_CHECK nigh_status nigh_outbox_delete(nigh_outbox *q, nigh_str id, nigh_str tenant, nigh_str user, nigh_err *err);
/* Ends what waited too long, deletes what was kept long enough (secure_delete). Returns when something is due next
 * (Unix ms), or UINT64_MAX. */
NIGH_CHECK nigh_status nigh_outbox_tidy(nigh_outbox *q, uint64_t now_ms, uint64_t *next_ms, nigh_err *err);

#endif
