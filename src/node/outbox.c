/* outbox.c - the queue of requests that wait for a line, in SQLite.
 *
 *     put -> WAITING -> take -> SENDING -> answer -> ANSWERED -> (kept, then deleted)
 *               ^                  |-- again --> WAITING
 *               |-- a crash -------|-- refuse -> REFUSED        tidy: WAITING too long -> EXPIRED
 *
 * Every arrow is one transaction that is on the disk when the function returns (write-ahead log, synchronous=FULL), and
 * says from which state it leads: a second answer finds no entry in SENDING and changes nothing. The file is locked
 * while it is open, so whatever is found in SENDING at start was interrupted by the end of the process.
 *
 * What is sealed: request and answer, each with a nonce of its own and bound to id, tenant, user and kind, so that a
 * sealed text moved to another row does not open. A client's idempotency key is kept as a keyed hash, and so is the
 * request that came with it. What a transition makes superfluous is overwritten (secure_delete) in the same
 * transaction; the log is emptied when something was deleted. The bodies of an ended entry go at once. */
#define _GNU_SOURCE
#include "node/outbox.h"

#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/private_file.h"

enum { KEY_BYTES = 32, HASH_BYTES = 32, NONCE_BYTES = 24, TAG_BYTES = 16, SCHEMA = 1, APPLICATION = 0x4e496f62 };

#define KEY_MAGIC "nigh queue key 1\n"

struct nigh_outbox {
    pthread_mutex_t lock;
    sqlite3 *db;
    uint8_t key[KEY_BYTES];
    char last[128];                 /* the tenant whose turn it was */
};

static nigh_status sql_fail(nigh_outbox *q, nigh_err *err) {
    int code = sqlite3_errcode(q->db) & 0xff;
    if (code == SQLITE_FULL) return nigh_fail(err, NIGH_EIO, 0, "the disk is full: the queue cannot be written");
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
        return nigh_fail(err, NIGH_EBUSY, 0, "another process has the queue open");
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        return nigh_fail(err, NIGH_EDATA, 0, "the file of the queue is damaged, or is none");
    if (code == SQLITE_NOMEM) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the queue");
    return nigh_failf(err, NIGH_EIO, 0, "the queue cannot be read or written: %s", sqlite3_errstr(code));
}

static nigh_status run(nigh_outbox *q, const char *sql, nigh_err *err) {
    return sqlite3_exec(q->db, sql, NULL, NULL, NULL) == SQLITE_OK ? NIGH_OK : sql_fail(q, err);
}

/* ---- statements: prepared for one use; what is bound lives until they are finalized ---- */

typedef struct { nigh_outbox *q; sqlite3_stmt *s; int next; } statement;

static statement prepare(nigh_outbox *q, const char *sql) {
    statement s = { .q = q, .next = 1 };
    if (sqlite3_prepare_v2(q->db, sql, -1, &s.s, NULL) != SQLITE_OK) s.s = NULL;
    return s;
}

static void text_in(statement *s, const char *text, size_t len) {
    (void)sqlite3_bind_text64(s->s, s->next++, text ? text : "", len, SQLITE_STATIC, SQLITE_UTF8);
}
static void string_in(statement *s, const char *text) { text_in(s, text, strlen(text)); }
static void number_in(statement *s, uint64_t n) {
    (void)sqlite3_bind_int64(s->s, s->next++, n > INT64_MAX ? INT64_MAX : (int64_t)n);
}
static void bytes_in(statement *s, const void *bytes, size_t len) {
    if (bytes) (void)sqlite3_bind_blob64(s->s, s->next++, bytes, len, SQLITE_STATIC);
    else (void)sqlite3_bind_null(s->s, s->next++);
}

/* Runs it to the end. */
static nigh_status finish(statement *s, nigh_err *err) {
    int code = s->s ? sqlite3_step(s->s) : SQLITE_ERROR;
    while (code == SQLITE_ROW) code = sqlite3_step(s->s);
    nigh_status status = code == SQLITE_DONE ? NIGH_OK : sql_fail(s->q, err);
    sqlite3_finalize(s->s);
    return status;
}

/* Is there a row? ENOENT: none. */
static nigh_status first_row(statement *s, nigh_err *err) {
    int code = s->s ? sqlite3_step(s->s) : SQLITE_ERROR;
    if (code == SQLITE_ROW) return NIGH_OK;
    return code == SQLITE_DONE ? nigh_fail(err, NIGH_ENOENT, 0, "there is no such entry in the queue")
        : sql_fail(s->q, err);
}

static uint64_t number_out(const statement *s, int column) { return (uint64_t)sqlite3_column_int64(s->s, column); }
static void text_out(const statement *s, int column, char *out, size_t cap) {
    const unsigned char *text = sqlite3_column_text(s->s, column);
    nigh_format(out, cap, "%s", text ? (const char *)text : "");
}

static nigh_status begin(nigh_outbox *q, nigh_err *err) {
    pthread_mutex_lock(&q->lock);
    nigh_status status = run(q, "BEGIN IMMEDIATE", err);
    if (status != NIGH_OK) pthread_mutex_unlock(&q->lock);
    return status;
}

/* Commits what went well, takes back what did not. */
static nigh_status end(nigh_outbox *q, nigh_status status, nigh_err *err) {
    if (status == NIGH_OK) status = run(q, "COMMIT", err);
    if (status != NIGH_OK) (void)sqlite3_exec(q->db, "ROLLBACK", NULL, NULL, NULL);
    pthread_mutex_unlock(&q->lock);
    return status;
}

/* ---- sealing ---- */

/* What a sealed text is bound to. */
static size_t bound_to(const nigh_queued *e, char kind, char *out, size_t cap) {
    return nigh_format(out, cap, "%c%s %zu:%s %zu:%s", kind, e->id, strlen(e->tenant), e->tenant, strlen(e->user),
        e->user);
}

/* nonce, then the text, then the tag. *out: given, freed with nigh_free. */
static nigh_status seal(const nigh_outbox *q, const nigh_queued *e, char kind, nigh_str text, uint8_t **out,
    size_t *len, nigh_err *err) {
    char bound[512];
    size_t bound_len = bound_to(e, kind, bound, sizeof bound);
    unsigned long long sealed;
    *len = NONCE_BYTES + text.len + TAG_BYTES;
    *out = nigh_alloc(*len, 1);
    if (!*out) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the queue");
    randombytes_buf(*out, NONCE_BYTES);
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(*out + NONCE_BYTES, &sealed, (const uint8_t *)text.ptr, text.len,
        (const uint8_t *)bound, bound_len, NULL, *out, q->key);
    return NIGH_OK;
}

/* Opens what stands in a column, to the end of hold. */
static nigh_status unseal(const nigh_outbox *q, const statement *s, int column, char kind, nigh_queued *e,
    nigh_buf *hold, nigh_err *err) {
    char bound[512];
    size_t bound_len = bound_to(e, kind, bound, sizeof bound), at = hold->len;
    const uint8_t *sealed = sqlite3_column_blob(s->s, column);
    size_t len = (size_t)sqlite3_column_bytes(s->s, column);
    unsigned long long got;
    e->body = NIGH_STR("");
    if (!sealed || !len) return NIGH_OK;            /* an ended entry */
    if (len < NONCE_BYTES + TAG_BYTES) return nigh_fail(err, NIGH_EDATA, 0, "an entry of the queue is damaged");
    nigh_status status = nigh_buf_reserve(hold, len);
    if (status != NIGH_OK) return nigh_fail(err, status, 0, "not enough room for an entry of the queue");
    if (crypto_aead_xchacha20poly1305_ietf_decrypt((uint8_t *)hold->ptr + at, &got, NULL, sealed + NONCE_BYTES,
        len - NONCE_BYTES, (const uint8_t *)bound, bound_len, sealed, q->key) != 0)
        return nigh_fail(err, NIGH_EDATA, 0, "an entry of the queue is damaged");
    hold->len += (size_t)got;
    e->body = (nigh_str){ hold->ptr + at, (size_t)got };
    return NIGH_OK;
}

static void keyed_hash(const nigh_outbox *q, nigh_str a, nigh_str b, uint8_t out[HASH_BYTES]) {
    crypto_generichash_state s;
    uint64_t len = a.len;
    (void)crypto_generichash_init(&s, q->key, KEY_BYTES, HASH_BYTES);
    (void)crypto_generichash_update(&s, (const uint8_t *)&len, sizeof len);
    (void)crypto_generichash_update(&s, (const uint8_t *)a.ptr, a.len);
    (void)crypto_generichash_update(&s, (const uint8_t *)b.ptr, b.len);
    (void)crypto_generichash_final(&s, out, HASH_BYTES);
    sodium_memzero(&s, sizeof s);
}

/* ---- the files ---- */

static nigh_status read_key(nigh_outbox *q, nigh_str file, nigh_err *err) {
    nigh_str magic = NIGH_STR(KEY_MAGIC);
    if (file.len != magic.len + KEY_BYTES || !nigh_str_starts(file, magic))
        return nigh_fail(err, NIGH_EINVAL, 0, "the queue's key file holds no key");
    memcpy(q->key, file.ptr + magic.len, KEY_BYTES);
    return NIGH_OK;
}

static nigh_status make_key(nigh_outbox *q, const char *path, nigh_err *err) {
    char file[sizeof KEY_MAGIC - 1 + KEY_BYTES];
    randombytes_buf(q->key, KEY_BYTES);
    memcpy(file, KEY_MAGIC, sizeof KEY_MAGIC - 1);
    memcpy(file + sizeof KEY_MAGIC - 1, q->key, KEY_BYTES);
    nigh_status status = nigh_private_write(path, (nigh_str){ file, sizeof file }, err);
    sodium_memzero(file, sizeof file);
    return status;
}

static nigh_status open_key(nigh_outbox *q, const char *path, bool queue_is_there, nigh_err *err) {
    nigh_buf file = NIGH_BUF(256);
    nigh_status status = nigh_private_read(&file, path, err);
    if (status == NIGH_OK) status = read_key(q, nigh_buf_str(&file), err);
    else if (status == NIGH_ENOENT && !queue_is_there) status = make_key(q, path, err);
    else if (status == NIGH_ENOENT)
        status = nigh_failf(err, NIGH_ENOENT, 0,
            "the queue is there and its key %s is not: put it back, or remove both", path);
    if (file.ptr) sodium_memzero(file.ptr, file.cap);
    nigh_buf_release(&file);
    return status;
}

static nigh_status open_database(nigh_outbox *q, const char *path, nigh_err *err) {
    int fd;
    NIGH_TRY(nigh_private_open(path, O_RDWR | O_CREAT, &fd, err));      /* SQLite would make it 0644 */
    close(fd);
    if (sqlite3_open_v2(path, &q->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return q->db ? sql_fail(q, err) : nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the queue");
    return run(q, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON", err);
}

static nigh_status number_of(nigh_outbox *q, const char *sql, uint64_t *out, nigh_err *err) {
    statement s = prepare(q, sql);
    nigh_status status = first_row(&s, err);
    if (status == NIGH_OK) *out = number_out(&s, 0);
    sqlite3_finalize(s.s);
    return status;
}

static nigh_status make_tables(nigh_outbox *q, nigh_err *err) {
    uint8_t check[HASH_BYTES];
    NIGH_TRY(run(q,
        "CREATE TABLE entry(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state INTEGER NOT NULL,"
        " tenant TEXT NOT NULL, user TEXT NOT NULL, feature TEXT NOT NULL, class TEXT NOT NULL,"
        " policy INTEGER NOT NULL, taken_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, tries INTEGER NOT NULL,"
        " next_ms INTEGER NOT NULL, keep_ms INTEGER NOT NULL, maybe_sent INTEGER NOT NULL, bytes INTEGER NOT NULL,"
        " receipt TEXT NOT NULL, error TEXT NOT NULL, client_key BLOB, asked BLOB, request BLOB, answer BLOB);"
        "CREATE UNIQUE INDEX by_client ON entry(tenant, user, client_key) WHERE client_key IS NOT NULL;"
        "CREATE INDEX by_turn ON entry(state, tenant, next_ms);"
        "CREATE TABLE room(tenant TEXT PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;"
        "CREATE TRIGGER came AFTER INSERT ON entry BEGIN INSERT INTO room VALUES(new.tenant, 1, new.bytes)"
        " ON CONFLICT(tenant) DO UPDATE SET entries=entries+1, bytes=bytes+excluded.bytes; END;"
        "CREATE TRIGGER went AFTER DELETE ON entry BEGIN UPDATE room SET entries=entries-1, bytes=bytes-old.bytes"
        " WHERE tenant=old.tenant; END;"
        "CREATE TRIGGER changed AFTER UPDATE OF bytes ON entry BEGIN UPDATE room SET bytes=bytes-old.bytes+new.bytes"
        " WHERE tenant=old.tenant; END;"
        "CREATE TABLE check_key(hash BLOB NOT NULL)", err));
    keyed_hash(q, NIGH_STR("nigh queue"), NIGH_STR("key"), check);
    statement s = prepare(q, "INSERT INTO check_key VALUES(?)");
    bytes_in(&s, check, sizeof check);
    NIGH_TRY(finish(&s, err));
    char sql[96];
    nigh_format(sql, sizeof sql, "PRAGMA application_id=%d; PRAGMA user_version=%d", APPLICATION, SCHEMA);
    return run(q, sql, err);
}

static nigh_status check_key(nigh_outbox *q, nigh_err *err) {
    uint8_t check[HASH_BYTES];
    keyed_hash(q, NIGH_STR("nigh queue"), NIGH_STR("key"), check);
    statement s = prepare(q, "SELECT hash FROM check_key");
    nigh_status status = first_row(&s, err);
    bool same = status == NIGH_OK && sqlite3_column_bytes(s.s, 0) == HASH_BYTES
        && sodium_memcmp(sqlite3_column_blob(s.s, 0), check, HASH_BYTES) == 0;
    sqlite3_finalize(s.s);
    if (status == NIGH_OK && !same)
        return nigh_fail(err, NIGH_EINVAL, 0, "this is not the key that the queue was sealed with");
    return status;
}

/* Makes the tables of a new file, or checks those of an old one; what was on its way when the process ended waits
 * again. */
static nigh_status open_tables(nigh_outbox *q, nigh_err *err) {
    uint64_t version = 0, application = 0, tables = 0;
    NIGH_TRY(number_of(q, "PRAGMA user_version", &version, err));
    NIGH_TRY(number_of(q, "PRAGMA application_id", &application, err));
    NIGH_TRY(number_of(q, "SELECT count(*) FROM sqlite_master", &tables, err));
    if (!version && !tables) return make_tables(q, err);
    if (application != APPLICATION || !version) return nigh_fail(err, NIGH_EDATA, 0, "the file is no queue of Nigh's");
    if (version > SCHEMA) return nigh_fail(err, NIGH_ENOSUP, 0, "the queue was made by a newer version of Nigh");
    NIGH_TRY(check_key(q, err));
    return run(q, "UPDATE entry SET state=0, maybe_sent=1, next_ms=0,"
        " error='the node ended while it was being sent' WHERE state=1", err);
}

static nigh_status open_all(nigh_outbox *q, const char *path, const char *key_path, nigh_err *err) {
    struct stat st;
    bool there = stat(path, &st) == 0 && st.st_size > 0;
    if (sodium_init() < 0) return nigh_fail(err, NIGH_EIO, 0, "the system gives no random numbers");
    nigh_private_folders(path);
    NIGH_TRY(open_key(q, key_path, there, err));
    NIGH_TRY(open_database(q, path, err));
    NIGH_TRY(begin(q, err));
    return end(q, open_tables(q, err), err);
}

nigh_status nigh_outbox_open(nigh_outbox **out, const char *path, const char *key_path, nigh_err *err) {
    nigh_outbox *q = nigh_alloc(sizeof *q, 1);
    if (!q) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the queue");
    pthread_mutex_init(&q->lock, NULL);
    nigh_status status = open_all(q, path, key_path, err);
    if (status == NIGH_OK) *out = q;
    else nigh_outbox_close(q);
    return status;
}

void nigh_outbox_close(nigh_outbox *q) {
    if (!q) return;
    sqlite3_close(q->db);
    pthread_mutex_destroy(&q->lock);
    sodium_memzero(q->key, sizeof q->key);
    nigh_free(q);
}

/* ---- in ---- */

/* Nobody's entries may take all the room. */
static nigh_status check_room(nigh_outbox *q, const char *tenant, size_t bytes, nigh_err *err) {
    uint64_t all, all_bytes, own, own_bytes;
    statement s = prepare(q, "SELECT total(entries), total(bytes), total(entries) FILTER (WHERE tenant=?1),"
        " total(bytes) FILTER (WHERE tenant=?1) FROM room");
    if (s.s) string_in(&s, tenant);
    nigh_status status = first_row(&s, err);
    if (status == NIGH_OK) {
        all = number_out(&s, 0), all_bytes = number_out(&s, 1), own = number_out(&s, 2), own_bytes = number_out(&s, 3);
        bool full = all >= NIGH_OUTBOX_ENTRIES_MAX || all_bytes + bytes > NIGH_OUTBOX_BYTES_MAX
            || own >= 4 * (NIGH_OUTBOX_ENTRIES_MAX - all)
            || own_bytes + bytes > 4 * (NIGH_OUTBOX_BYTES_MAX - all_bytes);
        if (full) status = nigh_fail(err, NIGH_EBUSY, 0, "the queue is full: too much waits for a line already");
    }
    sqlite3_finalize(s.s);
    return status;
}

/* ENOENT: this key is new. */
static nigh_status find_client_key(nigh_outbox *q, nigh_queued *e, const uint8_t *key, const uint8_t *asked,
    nigh_err *err) {
    statement s = prepare(q, "SELECT id, state, asked, next_ms FROM entry WHERE tenant=? AND user=? AND client_key=?");
    if (s.s) {
        string_in(&s, e->tenant);
        string_in(&s, e->user);
        bytes_in(&s, key, HASH_BYTES);
    }
    nigh_status status = first_row(&s, err);
    if (status == NIGH_OK) {
        bool same = sqlite3_column_bytes(s.s, 2) == HASH_BYTES
            && sodium_memcmp(sqlite3_column_blob(s.s, 2), asked, HASH_BYTES) == 0;
        text_out(&s, 0, e->id, sizeof e->id);
        e->state = (nigh_outbox_state)number_out(&s, 1);
        e->next_ms = number_out(&s, 3);
        if (!same)
            status = nigh_fail(err, NIGH_EINVAL, 0, "this Idempotency-Key was sent with another request before");
    }
    sqlite3_finalize(s.s);
    return status;
}

static nigh_status insert(nigh_outbox *q, const nigh_queued *e, const uint8_t *key, const uint8_t *asked,
    const uint8_t *sealed, size_t len, nigh_err *err) {
    statement s = prepare(q, "INSERT INTO entry(id, tenant, user, feature, class, policy, taken_ms, until_ms, next_ms,"
        " bytes, client_key, asked, request, state, tries, keep_ms, maybe_sent, receipt, error)"
        " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,0,0,0,0,'','')");
    if (!s.s) return finish(&s, err);
    const char *texts[] = { e->id, e->tenant, e->user, e->feature, e->class_name };
    for (size_t i = 0; i < NIGH_COUNT(texts); i++) string_in(&s, texts[i]);
    const uint64_t numbers[] = { e->policy_version, e->taken_ms, e->until_ms, e->next_ms, len };
    for (size_t i = 0; i < NIGH_COUNT(numbers); i++) number_in(&s, numbers[i]);
    bytes_in(&s, key, HASH_BYTES);
    bytes_in(&s, asked, HASH_BYTES);
    bytes_in(&s, sealed, len);
    return finish(&s, err);
}

static void make_id(char id[32]) {
    uint8_t random[12];
    randombytes_buf(random, sizeof random);
    memcpy(id, "q-", 2);
    nigh_hex_write(id + 2, random, sizeof random);
}

nigh_status nigh_outbox_put(nigh_outbox *q, nigh_queued *e, nigh_str client_key, nigh_err *err) {
    uint8_t key[HASH_BYTES], asked[HASH_BYTES], *sealed = NULL;
    size_t len = 0;
    if (e->until_ms <= e->taken_ms) return nigh_fail(err, NIGH_EINVAL, 0, "the request has no time to wait");
    if (e->body.len > NIGH_OUTBOX_BODY_MAX) return nigh_fail(err, NIGH_ERANGE, 0, "too long for the queue");
    keyed_hash(q, NIGH_STR("client"), client_key, key);
    keyed_hash(q, nigh_str_of(e->feature), e->body, asked);
    NIGH_TRY(begin(q, err));
    nigh_status status = client_key.len ? find_client_key(q, e, key, asked, err) : NIGH_ENOENT;
    if (status == NIGH_ENOENT) {
        make_id(e->id);
        e->state = NIGH_WAITING;
        e->next_ms = e->taken_ms;
        status = check_room(q, e->tenant, e->body.len, err);
        if (status == NIGH_OK) status = seal(q, e, 'r', e->body, &sealed, &len, err);
        if (status == NIGH_OK) status = insert(q, e, client_key.len ? key : NULL, asked, sealed, len, err);
    }
    status = end(q, status, err);
    nigh_free(sealed);
    return status;
}

/* ---- out ---- */

#define COLUMNS "id, state, tenant, user, feature, class, policy, taken_ms, until_ms, tries, next_ms, maybe_sent," \
    " receipt, error, keep_ms, request, answer"
enum { KEEP_COLUMN = 14, REQUEST_COLUMN, ANSWER_COLUMN };

static void read_row(const statement *s, nigh_queued *out) {
    *out = (nigh_queued){ .state = (nigh_outbox_state)number_out(s, 1), .policy_version = number_out(s, 6),
        .taken_ms = number_out(s, 7), .until_ms = number_out(s, 8), .tries = number_out(s, 9),
        .next_ms = number_out(s, 10), .maybe_sent = number_out(s, 11) != 0, .body = NIGH_STR("") };
    text_out(s, 0, out->id, sizeof out->id);
    text_out(s, 2, out->tenant, sizeof out->tenant);
    text_out(s, 3, out->user, sizeof out->user);
    text_out(s, 4, out->feature, sizeof out->feature);
    text_out(s, 5, out->class_name, sizeof out->class_name);
    text_out(s, 12, out->receipt, sizeof out->receipt);
    text_out(s, 13, out->error, sizeof out->error);
}

/* The end of an entry without an answer: its words go. */
static nigh_status end_entry(nigh_outbox *q, const char *id, nigh_outbox_state from, nigh_outbox_state to,
    const char *error, uint64_t now_ms, nigh_err *err) {
    statement s = prepare(q, "UPDATE entry SET state=?, error=?, keep_ms=?, request=NULL, answer=NULL, bytes=0"
        " WHERE id=? AND state=?");
    if (!s.s) return finish(&s, err);
    char text[sizeof((nigh_queued *)0)->error];
    nigh_format(text, sizeof text, "%s", error);
    number_in(&s, to);
    string_in(&s, text);
    number_in(&s, now_ms + (uint64_t)NIGH_OUTBOX_ENDED_KEEP_S * 1000);
    string_in(&s, id);
    number_in(&s, from);
    NIGH_TRY(finish(&s, err));
    return sqlite3_changes(q->db) ? NIGH_OK : nigh_fail(err, NIGH_ENOENT, 0, "this entry is not being sent");
}

/* The oldest that is due, of the first tenant after (or with `around`, from the start up to) the last one. */
static nigh_status find_due(nigh_outbox *q, uint64_t now_ms, bool around, nigh_queued *out, nigh_buf *hold,
    nigh_err *err) {
    statement s = prepare(q, around
        ? "SELECT " COLUMNS " FROM entry WHERE state=0 AND tenant<=?1 AND next_ms<=?2 AND until_ms>?2"
          " ORDER BY tenant, next_ms, seq LIMIT 1"
        : "SELECT " COLUMNS " FROM entry WHERE state=0 AND tenant>?1 AND next_ms<=?2 AND until_ms>?2"
          " ORDER BY tenant, next_ms, seq LIMIT 1");
    if (s.s) {
        string_in(&s, q->last);
        number_in(&s, now_ms);
    }
    nigh_status status = first_row(&s, err);
    if (status == NIGH_OK) {
        read_row(&s, out);
        status = unseal(q, &s, REQUEST_COLUMN, 'r', out, hold, err);
    }
    sqlite3_finalize(s.s);
    return status;
}

static nigh_status take(nigh_outbox *q, uint64_t now_ms, nigh_queued *out, nigh_buf *hold, nigh_err *err) {
    for (;;) {
        *out = (nigh_queued){ .body = NIGH_STR("") };
        nigh_status status = find_due(q, now_ms, false, out, hold, err);
        if (status == NIGH_ENOENT) status = find_due(q, now_ms, true, out, hold, err);
        if (status == NIGH_OK) break;
        if (status != NIGH_EDATA || !out->id[0]) return status;
        /* What cannot be opened must not stop the rest. */
        NIGH_TRY(end_entry(q, out->id, NIGH_WAITING, NIGH_REFUSED, "the entry was damaged on the disk", now_ms, err));
    }
    statement s = prepare(q, "UPDATE entry SET state=1, tries=tries+1 WHERE id=?");
    if (s.s) string_in(&s, out->id);
    NIGH_TRY(finish(&s, err));
    out->state = NIGH_SENDING;
    out->tries++;
    return NIGH_OK;
}

nigh_status nigh_outbox_take(nigh_outbox *q, uint64_t now_ms, nigh_queued *out, nigh_buf *hold, nigh_err *err) {
    NIGH_TRY(begin(q, err));
    nigh_status status = take(q, now_ms, out, hold, err);
    if (status == NIGH_OK) memcpy(q->last, out->tenant, sizeof q->last);
    return end(q, status, err);
}

/* Tenant and user of an entry, which its answer is bound to. */
static nigh_status find_owner(nigh_outbox *q, const char *id, nigh_queued *out, nigh_err *err) {
    statement s = prepare(q, "SELECT " COLUMNS " FROM entry WHERE id=? AND state=1");
    if (s.s) string_in(&s, id);
    nigh_status status = first_row(&s, err);
    if (status == NIGH_OK) read_row(&s, out);
    sqlite3_finalize(s.s);
    return status;
}

static nigh_status answer(nigh_outbox *q, const char *id, nigh_str text, const char *receipt, uint64_t keep_ms,
    nigh_err *err) {
    nigh_queued e;
    uint8_t *sealed;
    size_t len;
    NIGH_TRY(find_owner(q, id, &e, err));
    NIGH_TRY(seal(q, &e, 'a', text, &sealed, &len, err));
    statement s = prepare(q, "UPDATE entry SET state=2, request=NULL, answer=?, bytes=?, receipt=?, keep_ms=?, error=''"
        " WHERE id=? AND state=1");
    if (s.s) {
        bytes_in(&s, sealed, len);
        number_in(&s, len);
        string_in(&s, receipt);
        number_in(&s, keep_ms);
        string_in(&s, id);
    }
    nigh_status status = finish(&s, err);
    nigh_free(sealed);
    return status;
}

nigh_status nigh_outbox_answer(nigh_outbox *q, const char *id, nigh_str text, const char *receipt,
    uint64_t keep_until_ms, nigh_err *err) {
    if (text.len > NIGH_OUTBOX_BODY_MAX) return nigh_fail(err, NIGH_ERANGE, 0, "the answer is too long for the queue");
    NIGH_TRY(begin(q, err));
    return end(q, answer(q, id, text, receipt, keep_until_ms, err), err);
}

nigh_status nigh_outbox_again(nigh_outbox *q, const char *id, uint64_t next_ms, bool maybe_sent, const char *error,
    nigh_err *err) {
    char text[sizeof((nigh_queued *)0)->error];
    nigh_format(text, sizeof text, "%s", error);
    NIGH_TRY(begin(q, err));
    statement s = prepare(q, "UPDATE entry SET state=0, next_ms=?, maybe_sent=maybe_sent|?, error=?"
        " WHERE id=? AND state=1");
    if (s.s) {
        number_in(&s, next_ms);
        number_in(&s, maybe_sent);
        string_in(&s, text);
        string_in(&s, id);
    }
    nigh_status status = finish(&s, err);
    if (status == NIGH_OK && !sqlite3_changes(q->db))
        status = nigh_fail(err, NIGH_ENOENT, 0, "this entry is not being sent");
    return end(q, status, err);
}

nigh_status nigh_outbox_refuse(nigh_outbox *q, const char *id, const char *error, uint64_t now_ms, nigh_err *err) {
    NIGH_TRY(begin(q, err));
    return end(q, end_entry(q, id, NIGH_SENDING, NIGH_REFUSED, error, now_ms, err), err);
}

nigh_status nigh_outbox_get(nigh_outbox *q, nigh_str id, nigh_str tenant, nigh_str user, uint64_t now_ms,
    nigh_queued *out, nigh_buf *hold, nigh_err *err) {
    NIGH_TRY(begin(q, err));
    statement s = prepare(q, "SELECT " COLUMNS " FROM entry WHERE id=?1 AND tenant=?2 AND user=?3"
        " AND (state<2 OR keep_ms>?4)");
    if (s.s) {
        text_in(&s, id.ptr, id.len);
        text_in(&s, tenant.ptr, tenant.len);
        text_in(&s, user.ptr, user.len);
        number_in(&s, now_ms);
    }
    nigh_status status = first_row(&s, err);
    if (status == NIGH_OK) {
        read_row(&s, out);
        bool answered = out->state == NIGH_ANSWERED;
        status = unseal(q, &s, answered ? ANSWER_COLUMN : REQUEST_COLUMN, answered ? 'a' : 'r', out, hold, err);
    }
    sqlite3_finalize(s.s);
    return end(q, status, err);
}

/* After something was deleted: the log still has its pages, sealed. Kept for the next time when it cannot be. */
static void empty_log(nigh_outbox *q) {
    pthread_mutex_lock(&q->lock);
    (void)sqlite3_wal_checkpoint_v2(q->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    pthread_mutex_unlock(&q->lock);
}

nigh_status nigh_outbox_delete(nigh_outbox *q, nigh_str id, nigh_str tenant, nigh_str user, nigh_err *err) {
    NIGH_TRY(begin(q, err));
    statement s = prepare(q, "DELETE FROM entry WHERE id=? AND tenant=? AND user=?");
    if (s.s) {
        text_in(&s, id.ptr, id.len);
        text_in(&s, tenant.ptr, tenant.len);
        text_in(&s, user.ptr, user.len);
    }
    nigh_status status = finish(&s, err);
    if (status == NIGH_OK && !sqlite3_changes(q->db))
        status = nigh_fail(err, NIGH_ENOENT, 0, "there is no such entry in the queue");
    status = end(q, status, err);
    if (status == NIGH_OK) empty_log(q);
    return status;
}

nigh_status nigh_outbox_forget(nigh_outbox *q, nigh_str tenant, nigh_str user, size_t *count, nigh_err *err) {
    NIGH_TRY(begin(q, err));
    statement s = prepare(q, "DELETE FROM entry WHERE tenant=?1 AND (?2='' OR user=?2)");
    if (s.s) {
        text_in(&s, tenant.ptr, tenant.len);
        text_in(&s, user.ptr, user.len);
    }
    nigh_status status = finish(&s, err);
    *count = status == NIGH_OK ? (size_t)sqlite3_changes(q->db) : 0;
    status = end(q, status, err);
    if (status == NIGH_OK && *count) empty_log(q);
    return status;
}

static nigh_status tidy(nigh_outbox *q, uint64_t now_ms, uint64_t *next_ms, bool *deleted, nigh_err *err) {
    statement s = prepare(q, "DELETE FROM entry WHERE state>=2 AND keep_ms<=?");
    if (s.s) number_in(&s, now_ms);
    NIGH_TRY(finish(&s, err));
    *deleted = sqlite3_changes(q->db) > 0;
    s = prepare(q, "UPDATE entry SET state=3, keep_ms=?1, request=NULL, bytes=0,"
        " error='no place answered in the time that the feature lets it wait' WHERE state=0 AND until_ms<=?2");
    if (s.s) {
        number_in(&s, now_ms + (uint64_t)NIGH_OUTBOX_ENDED_KEEP_S * 1000);
        number_in(&s, now_ms);
    }
    NIGH_TRY(finish(&s, err));
    *deleted |= sqlite3_changes(q->db) > 0;
    uint64_t next = 0;
    NIGH_TRY(number_of(q, "SELECT ifnull(min(CASE state WHEN 0 THEN min(next_ms, until_ms) ELSE keep_ms END), -1)"
        " FROM entry WHERE state<>1", &next, err));
    *next_ms = next;                    /* -1, none, is UINT64_MAX */
    return NIGH_OK;
}

nigh_status nigh_outbox_tidy(nigh_outbox *q, uint64_t now_ms, uint64_t *next_ms, nigh_err *err) {
    bool deleted = false;
    NIGH_TRY(begin(q, err));
    nigh_status status = end(q, tidy(q, now_ms, next_ms, &deleted, err), err);
    if (status == NIGH_OK && deleted) empty_log(q);
    return status;
}
