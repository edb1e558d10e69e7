/* outbox.h - requests that wait for a line: durable, sealed, sent exactly once. SQLite; the words of a request and
 * of its answer are sealed (XChaCha20-Poly1305, bound to the entry they belong to) with a key that lies in a file
 * beside it, so the database alone says nothing of them; names of tenant, user and feature stand in it as they are. A
 * request is acknowledged to the client only when it is on the disk. Its id is its idempotency key for whoever answers
 * it: after a crash a request that was on its way is given out again with the same id, so that it is not done twice by
 * a place that knows such keys; one that does not know them is asked only while maybe_sent is false.
 *
 * One process at a time has the file open. Any thread may call; each call is one transaction. Times are Unix ms. */
#ifndef NIGH_OUTBOX_H
#define NIGH_OUTBOX_H

#include "base/base.h"

enum { NIGH_OUTBOX_ENTRIES_MAX = 10000, NIGH_OUTBOX_BYTES_MAX = 256 << 20, NIGH_OUTBOX_BODY_MAX = 16 << 20 };
enum { NIGH_OUTBOX_ENDED_KEEP_S = 86400 };      /* how long it is told that an entry expired or was refused */

typedef struct nigh_outbox nigh_outbox;
typedef enum { NIGH_WAITING, NIGH_SENDING, NIGH_ANSWERED, NIGH_EXPIRED, NIGH_REFUSED } nigh_outbox_state;

typedef struct {
    char id[32];                    /* "q-" and 24 hex digits: unguessable */
    nigh_outbox_state state;
    char tenant[128], user[128], feature[128], class_name[64];
    uint64_t policy_version, taken_ms, until_ms, tries, next_ms;
    bool maybe_sent;                /* an earlier try may have reached its place */
    nigh_str body;                  /* the client's request; of an answered one: its answer; else "". In the hold */
    char receipt[32];               /* of the answer; "" none yet */
    char error[160];                /* of the last try; of the node's own making, never content */
} nigh_queued;

/* Makes both files (0600, folders 0700) when neither is there. Fails: ENOENT (the queue is there and its key is not),
 * EINVAL (not the key it was sealed with, or a key file that others may read), EBUSY (another process has it open),
 * EDATA (no queue, or damaged), ENOSUP (made by a newer version), EIO. */
NIGH_CHECK nigh_status nigh_outbox_open(nigh_outbox **out, const char *path, const char *key_path, nigh_err *err);
void nigh_outbox_close(nigh_outbox *q);

/* On the disk when it returns. The caller fills tenant, user, feature, class_name, policy_version, taken_ms (now),
 * until_ms and body; gets id, state and next_ms. client_key: the client's Idempotency-Key, "" none: the same key of
 * the same tenant and user gives the entry that is there already (its id and state) instead of a second one. Fails:
 * EINVAL (that key with another feature or body, or until_ms not after taken_ms), EBUSY (full: 10,000 entries, 256 MiB,
 * or more than its share for this tenant, which is four times what is still free), ERANGE (body), EIO. */
NIGH_CHECK nigh_status nigh_outbox_put(nigh_outbox *q, nigh_queued *entry, nigh_str client_key, nigh_err *err);
/* The next one that is due, marked SENDING on the disk before it returns; tenants take turns, each one's oldest
 * first. ENOENT: none. hold: its words. */
NIGH_CHECK nigh_status nigh_outbox_take(nigh_outbox *q, uint64_t now_ms, nigh_queued *out, nigh_buf *hold,
    nigh_err *err);
/* Of an entry that was taken: its answer (sealed, kept until then), or another try at next_ms (maybe_sent: something
 * left the machine this time), or the end of it. ENOENT: it is not being sent (deleted meanwhile, or answered). */
NIGH_CHECK nigh_status nigh_outbox_answer(nigh_outbox *q, const char *id, nigh_str answer, const char *receipt,
    uint64_t keep_until_ms, nigh_err *err);
NIGH_CHECK nigh_status nigh_outbox_again(nigh_outbox *q, const char *id, uint64_t next_ms, bool maybe_sent,
    const char *error, nigh_err *err);
NIGH_CHECK nigh_status nigh_outbox_refuse(nigh_outbox *q, const char *id, const char *error, uint64_t now_ms,
    nigh_err *err);
/* Only its own tenant and user see it, and an answer only while it is kept. ENOENT otherwise. */
NIGH_CHECK nigh_status nigh_outbox_get(nigh_outbox *q, nigh_str id, nigh_str tenant, nigh_str user, uint64_t now_ms,
    nigh_queued *out, nigh_buf *hold, nigh_err *err);
NIGH_CHECK nigh_status nigh_outbox_delete(nigh_outbox *q, nigh_str id, nigh_str tenant, nigh_str user, nigh_err *err);
/* For deletion on request: all entries of a tenant, or (user not "") of this user of it, in any state. *count: how
 * many. They are overwritten on the disk. */
NIGH_CHECK nigh_status nigh_outbox_forget(nigh_outbox *q, nigh_str tenant, nigh_str user, size_t *count,
    nigh_err *err);
/* Ends what waited too long, deletes what was kept long enough (overwritten on the disk). Returns when something is
 * due next, or UINT64_MAX. */
NIGH_CHECK nigh_status nigh_outbox_tidy(nigh_outbox *q, uint64_t now_ms, uint64_t *next_ms, nigh_err *err);

#endif
