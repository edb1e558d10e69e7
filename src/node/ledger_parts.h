/* ledger_parts.h - what the files of the ledger share: the open ledger, the bytes of a record, the chain. */
#ifndef NIGH_LEDGER_PARTS_H
#define NIGH_LEDGER_PARTS_H

#include <pthread.h>
#include <sqlite3.h>

#include "base/json.h"
#include "node/ledger.h"

enum {
    NIGH_LEDGER_WAIT_MAX = 65536,       /* records that may wait for the disk */
    NIGH_LEDGER_BATCH_MS = 50,
    NIGH_LEDGER_HEAD_EVERY = 64,        /* records that one signature covers at most */
    NIGH_LEDGER_BODY_MAX = 32 << 10,    /* longest body without `inner`: every text full, every letter escaped */
    NIGH_LEDGER_INNER_MAX = 16 << 10,
    NIGH_LEDGER_NAMES_MAX = 3 * NIGH_RECORD_TEXT,
    NIGH_LEDGER_ID_BYTES = 16
};
enum { NIGH_LEDGER_DEGRADED = 1, NIGH_LEDGER_ERROR = 2 };

/* What waits in the queue: this, then tenant, feature and target, then the body. The columns of the table that stand
 * beside the body, so that questions need not read it; nigh_ledger_verify compares them with it. */
typedef struct {
    int64_t at_ms, bytes_out, bytes_in, cost_nusd, key, marks;
    uint32_t body_bytes, tenant_bytes, feature_bytes, target_bytes;
} nigh_ledger_entry;

typedef struct { uint8_t b[32]; } nigh_hash;

struct nigh_ledger {
    const nigh_signer *signer;          /* NULL: opened to be read */
    char path[4096];
    int lock_fd;
    uint8_t id[NIGH_LEDGER_ID_BYTES];
    /* under `lock` */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    nigh_buf pending;                   /* entries that wait */
    size_t waiting;                     /* how many, with those that are being written */
    uint64_t added, written, attempts;
    bool stopping, hurry, broken;
    char why[200];                      /* broken: what failed */
    pthread_t thread;
    bool thread_runs;
    /* of the writing thread alone */
    nigh_buf batch;
    size_t batch_count;
    sqlite3 *db;
    sqlite3_stmt *insert, *insert_head, *begin, *commit, *rollback;
    uint64_t n;                         /* records so far */
    nigh_hash chain;
    int64_t key_row;                    /* of our key in its table */
    /* under `read_lock` */
    pthread_mutex_t read_lock;
    sqlite3 *reader;
};

/* ---- ledger_record.c: bytes and hashes ---- */
/* Appends entry, names and body. b has room for all of it. inner: canonical JSON, or empty. */
NIGH_CHECK nigh_status nigh_ledger_encode(nigh_buf *b, const nigh_record *r, nigh_str inner);
/* JSON written anew without spaces: how `inner` stands in a record, and a record in a receipt. */
NIGH_CHECK nigh_status nigh_ledger_canonical(nigh_buf *out, nigh_str json, nigh_err *err);
int64_t nigh_ledger_key(nigh_str id);
nigh_hash nigh_ledger_first(const uint8_t id[NIGH_LEDGER_ID_BYTES]);        /* the chain before record 1 */
nigh_hash nigh_ledger_hash(nigh_str body);
nigh_hash nigh_ledger_next(const nigh_hash *chain, uint64_t n, const nigh_hash *record);
static inline bool nigh_hash_eq(const nigh_hash *a, const nigh_hash *b) { return memcmp(a, b, sizeof *a) == 0; }
/* What is signed: a text of lines that can be written in one way only. Returns its length. */
enum { NIGH_LEDGER_SIGNED_MAX = 320 };
size_t nigh_ledger_head_text(char out[NIGH_LEDGER_SIGNED_MAX], const uint8_t id[NIGH_LEDGER_ID_BYTES], uint64_t n,
                             const nigh_hash *chain, uint64_t at_ms);
size_t nigh_ledger_expiry_text(char out[NIGH_LEDGER_SIGNED_MAX], const uint8_t id[NIGH_LEDGER_ID_BYTES], uint64_t n,
                               const nigh_hash *chain, uint64_t at_ms, uint64_t before_ms);

/* ---- ledger.c ---- */
NIGH_CHECK nigh_status nigh_ledger_sql_failed(const nigh_ledger *l, sqlite3 *db, nigh_err *err);
NIGH_CHECK nigh_status nigh_ledger_prepare(const nigh_ledger *l, sqlite3 *db, sqlite3_stmt **out, const char *sql,
                                           nigh_err *err);
NIGH_CHECK nigh_status nigh_ledger_exec(const nigh_ledger *l, sqlite3 *db, const char *sql, nigh_err *err);
NIGH_CHECK nigh_status nigh_ledger_connect(nigh_ledger *l, sqlite3 **db, bool write, nigh_err *err);
/* The column as bytes, valid until the next step. */
static inline nigh_str nigh_column(sqlite3_stmt *s, int i) {
    const void *p = sqlite3_column_blob(s, i);
    return (nigh_str){ p ? p : "", (size_t)sqlite3_column_bytes(s, i) };
}
static inline void nigh_bind(sqlite3_stmt *s, int i, nigh_str text) {
    sqlite3_bind_text(s, i, text.ptr ? text.ptr : "", (int)text.len, SQLITE_STATIC);
}

/* ---- ledger_where.c ---- */
/* The four sentences of a record's JSON. */
NIGH_CHECK nigh_status nigh_ledger_explain(const nigh_json *record, nigh_buf *out);

#endif
