/* ledger.c - the life of a ledger, and its writing thread.
 *
 *     nigh_ledger_add   any thread, under `lock`: the record's bytes go to the end of `pending`; no disk, no hash of
 *                       the chain, no signature. The first one wakes the writer.
 *     writer            waits at most 50 ms for more, takes all of `pending`, and in one transaction: hashes, inserts,
 *                       signs the head after every 64th record and after the last. synchronous=FULL, so a transaction
 *                       is on the disk when it is through; then those who wait in nigh_ledger_flush go on.
 *
 * A batch that cannot be written (a full disk) is kept and tried again, once a second and at every flush; while it is
 * so, nigh_ledger_add refuses, for an answer without a record may not be sent. It heals by itself.
 *
 * One process writes a file: the head of the chain is in its memory. FILE.lock says so, by a lock that ends with the
 * process; the file itself would not do, because SQLite's own locks on it end when any descriptor of it is closed.
 * Reading needs no lock, is done over a connection of its own, and does not wait for the writer. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "node/ledger_parts.h"
#include "node/private_file.h"

enum { PENDING_BYTES_MAX = 256 << 20, KEPT_BYTES = 4 << 20, SMALL_BATCH = 64, RETRY_MS = 1000, BUSY_MS = 10000,
      FORMAT = 1 };
enum { APPLICATION_ID = 0x4e69676c };   /* "Nigl": what the file is, also for `file` */

/* ---- SQLite ---- */

nigh_status nigh_ledger_sql_failed(const nigh_ledger *l, sqlite3 *db, nigh_err *err) {
    int code = db ? sqlite3_errcode(db) & 0xff : SQLITE_NOMEM;
    nigh_status status = code == SQLITE_NOMEM ? NIGH_ENOMEM
                         : code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? NIGH_EDATA : NIGH_EIO;
    return nigh_failf(err, status, 0, "the ledger %s: %s", l->path, db ? sqlite3_errmsg(db) : "not enough memory");
}

nigh_status nigh_ledger_prepare(const nigh_ledger *l, sqlite3 *db, sqlite3_stmt **out, const char *sql, nigh_err *err) {
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) == SQLITE_OK) return NIGH_OK;
    return nigh_ledger_sql_failed(l, db, err);
}

nigh_status nigh_ledger_exec(const nigh_ledger *l, sqlite3 *db, const char *sql, nigh_err *err) {
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? NIGH_OK : nigh_ledger_sql_failed(l, db, err);
}

nigh_status nigh_ledger_connect(nigh_ledger *l, sqlite3 **db, bool write, nigh_err *err) {
    int flags = SQLITE_OPEN_NOMUTEX | (write ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
    if (sqlite3_open_v2(l->path, db, flags, NULL) != SQLITE_OK) {
        nigh_status status = nigh_ledger_sql_failed(l, *db, err);
        sqlite3_close(*db);
        *db = NULL;
        return status;
    }
    sqlite3_busy_timeout(*db, BUSY_MS);
    if (!write) return NIGH_OK;
    return nigh_ledger_exec(l, *db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON;"
                                    "PRAGMA journal_size_limit=16777216; PRAGMA wal_autocheckpoint=4000;"
                                    "PRAGMA cache_size=-16384", err);
}

/* No column holds a word that the body does not hold; `key` stands for the id. */
static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE ledger(format INTEGER, id BLOB);"
    "CREATE TABLE signer(row INTEGER PRIMARY KEY, public_key BLOB UNIQUE);"
    "CREATE TABLE record(n INTEGER PRIMARY KEY, at_ms INTEGER, key INTEGER, tenant TEXT, feature TEXT, target TEXT,"
    " bytes_out INTEGER, bytes_in INTEGER, cost_nusd INTEGER, marks INTEGER, chain BLOB, body TEXT);"
    "CREATE INDEX record_key ON record(key);"
    "CREATE INDEX record_at ON record(at_ms);"
    "CREATE TABLE head(n INTEGER PRIMARY KEY, at_ms INTEGER, signer INTEGER, signature BLOB);"
    "CREATE INDEX head_at ON head(at_ms);"
    "CREATE TABLE expiry(n INTEGER PRIMARY KEY, chain BLOB, at_ms INTEGER, before_ms INTEGER, signer INTEGER,"
    " signature BLOB);";

static nigh_status make_tables(nigh_ledger *l, nigh_err *err) {
    char text[256], hex[2 * NIGH_LEDGER_ID_BYTES + 1];
    if (!nigh_os_random(l->id, sizeof l->id)) return nigh_fail(err, NIGH_EIO, 0, "the system gives no random numbers");
    nigh_hex_write(hex, l->id, sizeof l->id);
    nigh_format(text, sizeof text, "INSERT INTO ledger VALUES(%d, x'%s'); PRAGMA application_id=%d; COMMIT", FORMAT,
                hex, APPLICATION_ID);
    nigh_status status = nigh_ledger_exec(l, l->db, schema, err);
    if (status == NIGH_OK) status = nigh_ledger_exec(l, l->db, text, err);
    return status;
}

/* *found: false when the file is empty, as it is before its first use. */
static nigh_status read_identity(nigh_ledger *l, sqlite3 *db, bool *found, nigh_err *err) {
    sqlite3_stmt *s = NULL;
    *found = false;
    NIGH_TRY(nigh_ledger_prepare(l, db, &s, "SELECT count(*) FROM sqlite_schema", err));
    int step = sqlite3_step(s);
    bool empty = step == SQLITE_ROW && sqlite3_column_int(s, 0) == 0;
    nigh_status status = step == SQLITE_ROW ? NIGH_OK : nigh_ledger_sql_failed(l, db, err);
    sqlite3_finalize(s);
    if (status != NIGH_OK || empty) return status;
    if (sqlite3_prepare_v2(db, "SELECT format, id FROM ledger", -1, &s, NULL) == SQLITE_OK
        && sqlite3_step(s) == SQLITE_ROW && nigh_column(s, 1).len == sizeof l->id) {
        *found = sqlite3_column_int(s, 0) == FORMAT;
        memcpy(l->id, nigh_column(s, 1).ptr, sizeof l->id);
    }
    sqlite3_finalize(s);
    if (*found) return NIGH_OK;
    return nigh_failf(err, NIGH_EDATA, 0, "%s is not a ledger, or one of a newer format", l->path);
}

/* ---- where the chain stands ---- */

static nigh_status damaged(const nigh_ledger *l, nigh_err *err) {
    return nigh_failf(err, NIGH_EDATA, 0, "the ledger %s does not end in a signature that fits it: nigh verify "
                      "--ledger says where; to begin a new one, move it away", l->path);
}

/* The newest of records and expiry, and its signature. A ledger whose end was changed is not written on. */
static nigh_status find_end(nigh_ledger *l, nigh_err *err) {
    static const char sql[] =
        "SELECT r.n, r.chain, h.at_ms, s.public_key, h.signature, NULL FROM record r JOIN head h ON h.n = r.n"
        " JOIN signer s ON s.row = h.signer WHERE r.n = (SELECT max(n) FROM record)"
        " UNION ALL SELECT e.n, e.chain, e.at_ms, s.public_key, e.signature, e.before_ms FROM expiry e"
        " JOIN signer s ON s.row = e.signer ORDER BY 1 DESC LIMIT 1";
    static const char most[] = "SELECT max(coalesce((SELECT max(n) FROM record), 0),"
                               " coalesce((SELECT max(n) FROM head), 0))";
    char text[NIGH_LEDGER_SIGNED_MAX];
    sqlite3_stmt *s = NULL;
    l->n = 0;
    l->chain = nigh_ledger_first(l->id);
    NIGH_TRY(nigh_ledger_prepare(l, l->db, &s, sql, err));
    int step = sqlite3_step(s);
    bool good = step == SQLITE_ROW && nigh_column(s, 1).len == 32 && nigh_column(s, 3).len == 32
                && nigh_column(s, 4).len == crypto_sign_BYTES;
    if (good) {
        l->n = (uint64_t)sqlite3_column_int64(s, 0);
        memcpy(l->chain.b, nigh_column(s, 1).ptr, 32);
        uint64_t at = (uint64_t)sqlite3_column_int64(s, 2), before = (uint64_t)sqlite3_column_int64(s, 5);
        size_t n = sqlite3_column_type(s, 5) == SQLITE_NULL
                       ? nigh_ledger_head_text(text, l->id, l->n, &l->chain, at)
                       : nigh_ledger_expiry_text(text, l->id, l->n, &l->chain, at, before);
        good = crypto_sign_verify_detached((const uint8_t *)nigh_column(s, 4).ptr, (const uint8_t *)text, n,
                                           (const uint8_t *)nigh_column(s, 3).ptr) == 0;
    }
    sqlite3_finalize(s);
    if (!good && step == SQLITE_ROW) return damaged(l, err);
    if (!good && step != SQLITE_DONE) return nigh_ledger_sql_failed(l, l->db, err);
    NIGH_TRY(nigh_ledger_prepare(l, l->db, &s, most, err));
    bool end = sqlite3_step(s) == SQLITE_ROW && (uint64_t)sqlite3_column_int64(s, 0) <= l->n;
    sqlite3_finalize(s);
    return end ? NIGH_OK : damaged(l, err);
}

static nigh_status find_key(nigh_ledger *l, nigh_err *err) {
    sqlite3_stmt *s = NULL;
    NIGH_TRY(nigh_ledger_prepare(l, l->db, &s, "INSERT OR IGNORE INTO signer(public_key) VALUES(?1)", err));
    sqlite3_bind_blob(s, 1, l->signer->public_key, 32, SQLITE_STATIC);
    int step = sqlite3_step(s);
    sqlite3_finalize(s);
    if (step != SQLITE_DONE) return nigh_ledger_sql_failed(l, l->db, err);
    NIGH_TRY(nigh_ledger_prepare(l, l->db, &s, "SELECT row FROM signer WHERE public_key = ?1", err));
    sqlite3_bind_blob(s, 1, l->signer->public_key, 32, SQLITE_STATIC);
    step = sqlite3_step(s);
    l->key_row = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return step == SQLITE_ROW ? NIGH_OK : nigh_ledger_sql_failed(l, l->db, err);
}

/* ---- the writing thread ---- */

static nigh_status step_once(nigh_ledger *l, sqlite3_stmt *s, nigh_err *err) {
    int step = sqlite3_step(s);
    nigh_status status = step == SQLITE_DONE ? NIGH_OK : nigh_ledger_sql_failed(l, l->db, err);
    sqlite3_reset(s);
    return status;
}

static nigh_status write_head(nigh_ledger *l, nigh_err *err) {
    char text[NIGH_LEDGER_SIGNED_MAX];
    uint8_t signature[crypto_sign_BYTES];
    uint64_t at = nigh_os_unix_ms();
    size_t n = nigh_ledger_head_text(text, l->id, l->n, &l->chain, at);
    crypto_sign_detached(signature, NULL, (const uint8_t *)text, n, l->signer->secret);
    sqlite3_bind_int64(l->insert_head, 1, (int64_t)l->n);
    sqlite3_bind_int64(l->insert_head, 2, (int64_t)at);
    sqlite3_bind_int64(l->insert_head, 3, l->key_row);
    sqlite3_bind_blob(l->insert_head, 4, signature, sizeof signature, SQLITE_STATIC);
    return step_once(l, l->insert_head, err);
}

/* Takes one entry from the front of `left`. */
static nigh_status write_entry(nigh_ledger *l, nigh_str *left, nigh_err *err) {
    nigh_ledger_entry e;
    memcpy(&e, left->ptr, sizeof e);
    nigh_str tenant = { left->ptr + sizeof e, e.tenant_bytes };
    nigh_str feature = { tenant.ptr + tenant.len, e.feature_bytes }, target = { feature.ptr + feature.len,
                                                                                 e.target_bytes };
    nigh_str body = { target.ptr + target.len, e.body_bytes };
    nigh_hash record = nigh_ledger_hash(body);
    l->n++;
    l->chain = nigh_ledger_next(&l->chain, l->n, &record);
    const int64_t numbers[][2] = { { 1, (int64_t)l->n }, { 2, e.at_ms }, { 3, e.key }, { 7, e.bytes_out },
                                   { 8, e.bytes_in }, { 9, e.cost_nusd }, { 10, e.marks } };
    for (size_t i = 0; i < NIGH_COUNT(numbers); i++) sqlite3_bind_int64(l->insert, (int)numbers[i][0], numbers[i][1]);
    nigh_bind(l->insert, 4, tenant);
    nigh_bind(l->insert, 5, feature);
    nigh_bind(l->insert, 6, target);
    sqlite3_bind_blob(l->insert, 11, l->chain.b, 32, SQLITE_STATIC);
    nigh_bind(l->insert, 12, body);
    *left = nigh_str_slice(*left, sizeof e + tenant.len + feature.len + target.len + body.len, left->len);
    return step_once(l, l->insert, err);
}

static nigh_status write_entries(nigh_ledger *l, nigh_err *err) {
    nigh_str left = nigh_buf_str(&l->batch);
    NIGH_TRY(step_once(l, l->begin, err));
    for (size_t i = 1; left.len; i++) {
        NIGH_TRY(write_entry(l, &left, err));
        if (!left.len || i % NIGH_LEDGER_HEAD_EVERY == 0) NIGH_TRY(write_head(l, err));
    }
    return step_once(l, l->commit, err);
}

/* One transaction, or nothing. */
static nigh_status write_batch(nigh_ledger *l, nigh_err *err) {
    uint64_t n = l->n;
    nigh_hash chain = l->chain;
    nigh_status status = write_entries(l, err);
    if (status == NIGH_OK) return NIGH_OK;
    if (!sqlite3_get_autocommit(l->db)) (void)!sqlite3_step(l->rollback);
    sqlite3_reset(l->rollback);
    l->n = n;
    l->chain = chain;
    return status;
}

/* With the lock held. Returns early when somebody waits for the disk or the queue gets long. */
static void wait_ms(nigh_ledger *l, unsigned ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + (uint64_t)ms * 1000000u;
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    while (!l->stopping && !l->hurry && (l->broken || l->waiting < NIGH_LEDGER_WAIT_MAX / 4))
        if (pthread_cond_timedwait(&l->wake, &l->lock, &until) == ETIMEDOUT) return;
}

/* With the lock held: gathers until there is a batch. False: it is over. */
static bool next_batch(nigh_ledger *l) {
    if (l->batch_count) {                           /* one that could not be written */
        wait_ms(l, RETRY_MS);
        l->hurry = false;
        return true;
    }
    while (!l->waiting && !l->stopping) pthread_cond_wait(&l->wake, &l->lock);
    if (!l->waiting) return false;
    wait_ms(l, NIGH_LEDGER_BATCH_MS);
    l->hurry = false;
    nigh_buf taken = l->pending;
    l->pending = l->batch;
    l->batch = taken;
    l->batch_count = l->waiting;
    return true;
}

/* With the lock held. */
static void batch_is_written(nigh_ledger *l) {
    l->written += l->batch_count;
    l->waiting -= l->batch_count;
    /* The pages of the index are kept while it pays: an idle node holds none. */
    if (l->batch_count < SMALL_BATCH) sqlite3_db_release_memory(l->db);
    l->batch_count = 0;
    l->batch.len = 0;
    l->broken = false;
    if (l->batch.cap <= KEPT_BYTES) return;
    size_t limit = l->batch.limit;
    nigh_buf_release(&l->batch);
    l->batch = NIGH_BUF(limit);
}

static void *writing_thread(void *ud) {
    nigh_ledger *l = ud;
    pthread_mutex_lock(&l->lock);
    while (next_batch(l)) {
        nigh_err why = { 0 };
        bool last = l->stopping;
        pthread_mutex_unlock(&l->lock);
        nigh_status status = write_batch(l, &why);
        pthread_mutex_lock(&l->lock);
        l->attempts++;
        if (status == NIGH_OK) batch_is_written(l);
        else {
            l->broken = true;
            nigh_format(l->why, sizeof l->why, "%s", why.text);
        }
        pthread_cond_broadcast(&l->done);
        if (status != NIGH_OK && last) break;
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- open, close ---- */

static nigh_status take_lock(nigh_ledger *l, nigh_err *err) {
    char path[4096 + 8];
    nigh_format(path, sizeof path, "%s.lock", l->path);
    NIGH_TRY(nigh_private_open(path, O_RDWR | O_CREAT, &l->lock_fd, err));
    if (flock(l->lock_fd, LOCK_EX | LOCK_NB) == 0) return NIGH_OK;
    close(l->lock_fd);
    l->lock_fd = -1;
    return nigh_failf(err, NIGH_EBUSY, 0, "the ledger %s is written by another process; one node, one ledger", l->path);
}

static nigh_status open_to_write(nigh_ledger *l, nigh_err *err) {
    static const char insert[] = "INSERT INTO record VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)";
    bool found;
    int fd = -1;
    nigh_private_folders(l->path);
    NIGH_TRY(take_lock(l, err));
    NIGH_TRY(nigh_private_open(l->path, O_RDWR | O_CREAT, &fd, err));
    close(fd);
    NIGH_TRY(nigh_ledger_connect(l, &l->db, true, err));
    NIGH_TRY(read_identity(l, l->db, &found, err));
    if (!found) NIGH_TRY(make_tables(l, err));
    NIGH_TRY(find_end(l, err));
    NIGH_TRY(find_key(l, err));
    NIGH_TRY(nigh_ledger_prepare(l, l->db, &l->insert, insert, err));
    NIGH_TRY(nigh_ledger_prepare(l, l->db, &l->insert_head, "INSERT INTO head VALUES(?1,?2,?3,?4)", err));
    NIGH_TRY(nigh_ledger_prepare(l, l->db, &l->begin, "BEGIN IMMEDIATE", err));
    NIGH_TRY(nigh_ledger_prepare(l, l->db, &l->commit, "COMMIT", err));
    NIGH_TRY(nigh_ledger_prepare(l, l->db, &l->rollback, "ROLLBACK", err));
    NIGH_TRY(nigh_ledger_connect(l, &l->reader, false, err));
    if (pthread_create(&l->thread, NULL, writing_thread, l) != 0)
        return nigh_fail(err, NIGH_EIO, 0, "no thread can be had");
    l->thread_runs = true;
    return NIGH_OK;
}

static nigh_status open_to_read(nigh_ledger *l, nigh_err *err) {
    bool found;
    if (access(l->path, F_OK) != 0)
        return nigh_failf(err, NIGH_ENOENT, 0, "%s: there is no ledger; a node writes one", l->path);
    NIGH_TRY(nigh_ledger_connect(l, &l->reader, false, err));
    NIGH_TRY(read_identity(l, l->reader, &found, err));
    return found ? NIGH_OK : nigh_failf(err, NIGH_ENOENT, 0, "%s: the ledger is empty", l->path);
}

static nigh_status open_as(nigh_ledger **out, const char *path, const nigh_signer *signer, nigh_err *err) {
    pthread_condattr_t clock;
    *out = NULL;
    if (sodium_init() < 0) return nigh_fail(err, NIGH_EIO, 0, "the cryptography cannot be set up");
    nigh_ledger *l = nigh_alloc(sizeof *l, 1);
    if (!l) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the ledger");
    l->lock_fd = -1;
    l->signer = signer;
    l->pending = l->batch = NIGH_BUF(PENDING_BYTES_MAX);
    pthread_mutex_init(&l->lock, NULL);
    pthread_mutex_init(&l->read_lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &clock);
    pthread_cond_init(&l->done, &clock);
    pthread_condattr_destroy(&clock);
    nigh_status status = nigh_format(l->path, sizeof l->path, "%s", path) < sizeof l->path
                             ? signer ? open_to_write(l, err) : open_to_read(l, err)
                             : nigh_fail(err, NIGH_ERANGE, 0, "the path of the ledger is too long");
    if (status == NIGH_OK) *out = l;
    else nigh_ledger_close(l);
    return status;
}

nigh_status nigh_ledger_open(nigh_ledger **out, const char *path, const nigh_signer *signer, nigh_err *err) {
    *out = NULL;
    if (!signer || !signer->there) return nigh_fail(err, NIGH_EINVAL, 0, "a ledger needs a key that signs it");
    return open_as(out, path, signer, err);
}

nigh_status nigh_ledger_open_to_read(nigh_ledger **out, const char *path, nigh_err *err) {
    return open_as(out, path, NULL, err);
}

void nigh_ledger_close(nigh_ledger *l) {
    if (!l) return;
    if (l->thread_runs) {
        pthread_mutex_lock(&l->lock);
        l->stopping = true;
        pthread_cond_signal(&l->wake);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
    }
    sqlite3_stmt *const statements[] = { l->insert, l->insert_head, l->begin, l->commit, l->rollback };
    for (size_t i = 0; i < NIGH_COUNT(statements); i++) sqlite3_finalize(statements[i]);
    sqlite3_close(l->reader);
    sqlite3_close(l->db);
    if (l->lock_fd >= 0) close(l->lock_fd);
    nigh_buf_release(&l->pending);
    nigh_buf_release(&l->batch);
    pthread_cond_destroy(&l->wake);
    pthread_cond_destroy(&l->done);
    pthread_mutex_destroy(&l->lock);
    pthread_mutex_destroy(&l->read_lock);
    nigh_free(l);
}

/* ---- add, flush ---- */

/* With the lock held. */
static nigh_status put_record(nigh_ledger *l, const nigh_record *r, nigh_str inner, nigh_err *err) {
    size_t room = sizeof(nigh_ledger_entry) + NIGH_LEDGER_NAMES_MAX + NIGH_LEDGER_BODY_MAX + inner.len;
    if (l->broken) return nigh_failf(err, NIGH_EIO, 0, "no record can be kept: %s", l->why);
    if (l->waiting >= NIGH_LEDGER_WAIT_MAX)
        return nigh_fail(err, NIGH_EBUSY, 0, "too many records wait for the disk");
    nigh_status status = nigh_buf_reserve(&l->pending, room);
    if (status == NIGH_ERANGE) return nigh_fail(err, NIGH_EBUSY, 0, "too many records wait for the disk");
    if (status == NIGH_OK) status = nigh_ledger_encode(&l->pending, r, inner);
    if (status != NIGH_OK) return nigh_fail(err, status, 0, "not enough memory for a record");
    l->added++;
    /* The writer sleeps until the first; after that it looks by itself, and a wake-up would cost more than the rest. */
    if (++l->waiting == 1 || l->waiting == NIGH_LEDGER_WAIT_MAX / 4) pthread_cond_signal(&l->wake);
    return NIGH_OK;
}

nigh_status nigh_ledger_add(nigh_ledger *l, const nigh_record *r, nigh_err *err) {
    nigh_buf inner = NIGH_BUF(NIGH_LEDGER_INNER_MAX);
    nigh_status status = NIGH_OK;
    assert(l->signer);
    if (r->hop_count > NIGH_RECORD_HOPS_MAX)
        return nigh_failf(err, NIGH_ERANGE, 0, "a record has at most %d hops", NIGH_RECORD_HOPS_MAX);
    if (r->inner.len) status = nigh_ledger_canonical(&inner, r->inner, err);
    if (status == NIGH_OK) {
        pthread_mutex_lock(&l->lock);
        status = put_record(l, r, nigh_buf_str(&inner), err);
        pthread_mutex_unlock(&l->lock);
    }
    if (inner.cap) nigh_buf_release(&inner);
    return status;
}

nigh_status nigh_ledger_flush(nigh_ledger *l, nigh_err *err) {
    nigh_status status = NIGH_OK;
    assert(l->signer);
    pthread_mutex_lock(&l->lock);
    uint64_t wanted = l->added, attempt = l->attempts;
    while (l->written < wanted && status == NIGH_OK) {
        if (l->broken && l->attempts > attempt) {
            status = nigh_failf(err, NIGH_EIO, 0, "no record can be kept: %s", l->why);
            break;
        }
        l->hurry = true;
        pthread_cond_signal(&l->wake);
        pthread_cond_wait(&l->done, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return status;
}
