/* ledger_read.c - questions to a ledger, receipts, and the end of old records.
 * Questions go over a connection of their own, in one read transaction each, so that what they see belongs together
 * while a node writes on. An id that is not there yet may still wait for the disk: then, and only then, all is flushed.
 */
#include <sodium.h>

#include "base/os.h"
#include "node/ledger_parts.h"

enum { EXPIRE_STEP = 4096, FIND_DEFAULT = 100 };

typedef nigh_status question(nigh_ledger *l, const void *what, nigh_buf *out, nigh_err *err);

/* Asks in one transaction; on a failure out is as before. */
static nigh_status ask(nigh_ledger *l, question *q, const void *what, nigh_buf *out, nigh_err *err) {
    size_t before = out->len;
    pthread_mutex_lock(&l->read_lock);
    nigh_status status = nigh_ledger_exec(l, l->reader, "BEGIN", err);
    if (status == NIGH_OK) status = q(l, what, out, err);
    if (!sqlite3_get_autocommit(l->reader)) (void)!sqlite3_exec(l->reader, "COMMIT", NULL, NULL, NULL);
    pthread_mutex_unlock(&l->read_lock);
    if (status == NIGH_OK) return NIGH_OK;
    out->len = before;
    if (err && !err->text[0]) nigh_fail(err, status, 0, nigh_status_text(status));
    return status;
}

/* The same about one id, which may be younger than the last batch. */
static nigh_status ask_about(nigh_ledger *l, question *q, nigh_str id, nigh_buf *out, nigh_err *err) {
    nigh_status status = ask(l, q, &id, out, err);
    if (status != NIGH_ENOENT || !l->signer) return status;
    pthread_mutex_lock(&l->lock);
    bool waits = l->waiting > 0;
    pthread_mutex_unlock(&l->lock);
    if (!waits) return status;
    NIGH_TRY(nigh_ledger_flush(l, err));
    return ask(l, q, &id, out, err);
}

/* ---- one record ---- */

/* `{"id":"ID",` at the front of a body. */
static bool body_has_id(nigh_str body, nigh_str id) {
    nigh_str front = NIGH_STR("{\"id\":\"");
    return body.len > front.len + id.len + 1 && nigh_str_starts(body, front)
           && nigh_str_eq(nigh_str_slice(body, front.len, front.len + id.len), id)
           && body.ptr[front.len + id.len] == '"';
}

/* Finds the row: columns n and body of *s, which the caller finalizes. */
static nigh_status find_record(nigh_ledger *l, nigh_str id, sqlite3_stmt **s, nigh_err *err) {
    int step;
    NIGH_TRY(nigh_ledger_prepare(l, l->reader, s, "SELECT n, body FROM record WHERE key = ?1 ORDER BY n", err));
    sqlite3_bind_int64(*s, 1, nigh_ledger_key(id));
    while ((step = sqlite3_step(*s)) == SQLITE_ROW) if (body_has_id(nigh_column(*s, 1), id)) return NIGH_OK;
    nigh_status status = step == SQLITE_DONE
        ? nigh_failf(err, NIGH_ENOENT, 0, "the ledger has no record '%.*s' (any more)", (int)nigh_min(id.len, 40),
                     id.ptr)
        : nigh_ledger_sql_failed(l, l->reader, err);
    sqlite3_finalize(*s);
    *s = NULL;
    return status;
}

/* The chain before record n. */
static nigh_status chain_before(nigh_ledger *l, uint64_t n, nigh_hash *out, nigh_err *err) {
    static const char sql[] = "SELECT chain FROM record WHERE n = ?1 UNION ALL SELECT chain FROM expiry WHERE n = ?1";
    sqlite3_stmt *s = NULL;
    *out = nigh_ledger_first(l->id);
    if (n == 1) return NIGH_OK;
    NIGH_TRY(nigh_ledger_prepare(l, l->reader, &s, sql, err));
    sqlite3_bind_int64(s, 1, (int64_t)n - 1);
    bool found = sqlite3_step(s) == SQLITE_ROW && nigh_column(s, 0).len == sizeof out->b;
    if (found) memcpy(out->b, nigh_column(s, 0).ptr, sizeof out->b);
    sqlite3_finalize(s);
    return found ? NIGH_OK : nigh_failf(err, NIGH_EDATA, n - 1, "record %llu is missing", (unsigned long long)n - 1);
}

/* The hashes of the records after n up to the head. */
static nigh_status add_between(nigh_ledger *l, uint64_t n, uint64_t head, nigh_buf *out, nigh_err *err) {
    sqlite3_stmt *s = NULL;
    nigh_status status = NIGH_OK;
    char hex[65];
    NIGH_TRY(nigh_ledger_prepare(l, l->reader, &s, "SELECT body FROM record WHERE n > ?1 AND n <= ?2 ORDER BY n", err));
    sqlite3_bind_int64(s, 1, (int64_t)n);
    sqlite3_bind_int64(s, 2, (int64_t)head);
    for (uint64_t i = n; status == NIGH_OK && sqlite3_step(s) == SQLITE_ROW; i++) {
        nigh_hash h = nigh_ledger_hash(nigh_column(s, 0));
        nigh_hex_write(hex, h.b, sizeof h.b);
        status = nigh_buf_addf(out, "%s\"%s\"", i > n ? "," : "", hex);
    }
    sqlite3_finalize(s);
    return status;
}

static nigh_status add_head(nigh_ledger *l, uint64_t n, nigh_buf *out, nigh_err *err) {
    static const char sql[] = "SELECT h.n, h.at_ms, r.chain, s.public_key, h.signature FROM head h"
                              " JOIN record r ON r.n = h.n JOIN signer s ON s.row = h.signer"
                              " WHERE h.n >= ?1 ORDER BY h.n LIMIT 1";
    char chain[65], key[65], signature[2 * crypto_sign_BYTES + 1];
    sqlite3_stmt *s = NULL;
    NIGH_TRY(nigh_ledger_prepare(l, l->reader, &s, sql, err));
    sqlite3_bind_int64(s, 1, (int64_t)n);
    nigh_status status = sqlite3_step(s) == SQLITE_ROW && nigh_column(s, 2).len == 32 && nigh_column(s, 3).len == 32
                                 && nigh_column(s, 4).len == crypto_sign_BYTES
                             ? NIGH_OK
                             : nigh_failf(err, NIGH_EDATA, n, "record %llu is not covered by a signature",
                                          (unsigned long long)n);
    if (status == NIGH_OK) {
        uint64_t head = (uint64_t)sqlite3_column_int64(s, 0);
        nigh_hex_write(chain, (const uint8_t *)nigh_column(s, 2).ptr, 32);
        nigh_hex_write(key, (const uint8_t *)nigh_column(s, 3).ptr, 32);
        nigh_hex_write(signature, (const uint8_t *)nigh_column(s, 4).ptr, crypto_sign_BYTES);
        status = add_between(l, n, head, out, err);
        if (status == NIGH_OK)
            status = nigh_buf_addf(out, "],\"head\":{\"n\":%llu,\"at_ms\":%llu,\"chain\":\"%s\",\"key\":\"%s\","
                                   "\"signature\":\"%s\"}}", (unsigned long long)head,
                                   (unsigned long long)sqlite3_column_int64(s, 1), chain, key, signature);
    }
    sqlite3_finalize(s);
    return status;
}

static nigh_status make_receipt(nigh_ledger *l, const void *what, nigh_buf *out, nigh_err *err) {
    char id[2 * NIGH_LEDGER_ID_BYTES + 1], hex[65];
    sqlite3_stmt *s = NULL;
    nigh_hash before;
    NIGH_TRY(find_record(l, *(const nigh_str *)what, &s, err));
    uint64_t n = (uint64_t)sqlite3_column_int64(s, 0);
    nigh_hex_write(id, l->id, sizeof l->id);
    nigh_status status = nigh_buf_addf(out, "{\"format\":\"nigh-receipt\",\"version\":1,\"ledger\":\"%s\",\"n\":%llu,"
                                       "\"record\":", id, (unsigned long long)n);
    if (status == NIGH_OK) status = nigh_buf_add(out, nigh_column(s, 1));
    sqlite3_finalize(s);
    if (status == NIGH_OK) status = chain_before(l, n, &before, err);
    if (status != NIGH_OK) return status;
    nigh_hex_write(hex, before.b, sizeof before.b);
    NIGH_TRY(nigh_buf_addf(out, ",\"before\":\"%s\",\"between\":[", hex));
    return add_head(l, n, out, err);
}

nigh_status nigh_ledger_receipt(nigh_ledger *l, nigh_str id, nigh_buf *out, nigh_err *err) {
    return ask_about(l, make_receipt, id, out, err);
}

static nigh_status say_where(nigh_ledger *l, const void *what, nigh_buf *out, nigh_err *err) {
    sqlite3_stmt *s = NULL;
    nigh_json_doc doc;
    NIGH_TRY(find_record(l, *(const nigh_str *)what, &s, err));
    nigh_status status = nigh_json_parse(&doc, nigh_column(s, 1), err);
    sqlite3_finalize(s);
    if (status != NIGH_OK) return status;
    status = nigh_ledger_explain(doc.root, out);
    nigh_json_release(&doc);
    return status;
}

nigh_status nigh_ledger_where(nigh_ledger *l, nigh_str id, nigh_buf *out, nigh_err *err) {
    return ask_about(l, say_where, id, out, err);
}

/* ---- many ---- */

#define FITS " FROM record WHERE at_ms >= ?1 AND at_ms < ?2 AND (?3 = '' OR feature = ?3)" \
             " AND (?4 = '' OR tenant = ?4) AND (?5 = '' OR target = ?5)"

static void bind_query(sqlite3_stmt *s, const nigh_ledger_query *q) {
    sqlite3_bind_int64(s, 1, (int64_t)(q->from_ms > INT64_MAX ? INT64_MAX : q->from_ms));
    sqlite3_bind_int64(s, 2, q->to_ms && q->to_ms < INT64_MAX ? (int64_t)q->to_ms : INT64_MAX);
    nigh_bind(s, 3, q->feature);
    nigh_bind(s, 4, q->tenant);
    nigh_bind(s, 5, q->target);
}

static nigh_status add_records(nigh_ledger *l, const nigh_ledger_query *q, nigh_buf *out, nigh_err *err) {
    static const char sql[] = "SELECT n, body" FITS " ORDER BY at_ms DESC, n DESC LIMIT ?6";
    sqlite3_stmt *s = NULL;
    nigh_status status = NIGH_OK;
    int step = SQLITE_DONE;
    NIGH_TRY(nigh_ledger_prepare(l, l->reader, &s, sql, err));
    bind_query(s, q);
    sqlite3_bind_int64(s, 6, q->limit ? (int64_t)nigh_min(q->limit, NIGH_LEDGER_FIND_MAX) : FIND_DEFAULT);
    for (bool first = true; status == NIGH_OK && (step = sqlite3_step(s)) == SQLITE_ROW; first = false) {
        nigh_str body = nigh_column(s, 1);
        status = nigh_buf_addf(out, "%s{\"n\":%lld,", first ? "" : ",", (long long)sqlite3_column_int64(s, 0));
        if (status == NIGH_OK) status = nigh_buf_add(out, nigh_str_slice(body, 1, body.len));
    }
    if (status == NIGH_OK && step != SQLITE_DONE) status = nigh_ledger_sql_failed(l, l->reader, err);
    sqlite3_finalize(s);
    return status;
}

static nigh_status add_totals(nigh_ledger *l, const nigh_ledger_query *q, nigh_buf *out, nigh_err *err) {
    static const char sql[] = "SELECT target, count(*), sum(bytes_out), sum(bytes_in), sum(marks & 1), sum(marks >> 1),"
                              " sum(cost_nusd)" FITS " GROUP BY target ORDER BY 2 DESC, 1 LIMIT 1000";
    static const char *const names[] = { "answers", "bytes_out", "bytes_in", "degraded", "errors", "cost_nusd" };
    sqlite3_stmt *s = NULL;
    nigh_status status = NIGH_OK;
    int step = SQLITE_DONE;
    NIGH_TRY(nigh_ledger_prepare(l, l->reader, &s, sql, err));
    bind_query(s, q);
    for (bool first = true; status == NIGH_OK && (step = sqlite3_step(s)) == SQLITE_ROW; first = false) {
        status = nigh_buf_addf(out, "%s{\"target\":", first ? "" : ",");
        if (status == NIGH_OK) status = nigh_json_add_string(out, nigh_column(s, 0));
        for (int i = 0; status == NIGH_OK && i < (int)NIGH_COUNT(names); i++)
            status = nigh_buf_addf(out, ",\"%s\":%lld", names[i], (long long)sqlite3_column_int64(s, i + 1));
        if (status == NIGH_OK) status = nigh_buf_add_char(out, '}');
    }
    if (status == NIGH_OK && step != SQLITE_DONE) status = nigh_ledger_sql_failed(l, l->reader, err);
    sqlite3_finalize(s);
    return status;
}

static nigh_status find_many(nigh_ledger *l, const void *what, nigh_buf *out, nigh_err *err) {
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("{\"records\":[")));
    NIGH_TRY(add_records(l, what, out, err));
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("],\"totals\":[")));
    NIGH_TRY(add_totals(l, what, out, err));
    return nigh_buf_add(out, NIGH_STR("]}"));
}

nigh_status nigh_ledger_find(nigh_ledger *l, const nigh_ledger_query *q, nigh_buf *out, nigh_err *err) {
    return ask(l, find_many, q, out, err);
}

/* ---- the end of old records ---- */

static int64_t ask_number(sqlite3 *db, const char *sql, int64_t a) {
    sqlite3_stmt *s = NULL;
    int64_t n = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_int64(s, 1, a);
        if (sqlite3_step(s) == SQLITE_ROW) n = sqlite3_column_int64(s, 0);
    }
    sqlite3_finalize(s);
    return n;
}

/* The note that stands for records 1 to n, which are gone. */
static nigh_status write_note(nigh_ledger *l, sqlite3 *db, uint64_t n, uint64_t before_ms, nigh_err *err) {
    char text[NIGH_LEDGER_SIGNED_MAX];
    uint8_t signature[crypto_sign_BYTES];
    nigh_hash chain;
    sqlite3_stmt *s = NULL;
    uint64_t at = nigh_os_unix_ms();
    NIGH_TRY(nigh_ledger_prepare(l, db, &s, "SELECT chain FROM record WHERE n = ?1", err));
    sqlite3_bind_int64(s, 1, (int64_t)n);
    bool found = sqlite3_step(s) == SQLITE_ROW && nigh_column(s, 0).len == sizeof chain.b;
    if (found) memcpy(chain.b, nigh_column(s, 0).ptr, sizeof chain.b);
    sqlite3_finalize(s);
    if (!found) return nigh_failf(err, NIGH_EDATA, n, "record %llu is missing", (unsigned long long)n);
    size_t len = nigh_ledger_expiry_text(text, l->id, n, &chain, at, before_ms);
    crypto_sign_detached(signature, NULL, (const uint8_t *)text, len, l->signer->secret);
    NIGH_TRY(nigh_ledger_prepare(l, db, &s, "INSERT INTO expiry VALUES(?1,?2,?3,?4,?5,?6)", err));
    sqlite3_bind_int64(s, 1, (int64_t)n);
    sqlite3_bind_blob(s, 2, chain.b, sizeof chain.b, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, (int64_t)at);
    sqlite3_bind_int64(s, 4, (int64_t)before_ms);
    sqlite3_bind_int64(s, 5, l->key_row);
    sqlite3_bind_blob(s, 6, signature, sizeof signature, SQLITE_STATIC);
    bool done = sqlite3_step(s) == SQLITE_DONE;
    sqlite3_finalize(s);
    return done ? NIGH_OK : nigh_ledger_sql_failed(l, db, err);
}

static nigh_status expire_step(nigh_ledger *l, sqlite3 *db, uint64_t n, uint64_t before_ms, nigh_err *err) {
    char sql[192];
    nigh_format(sql, sizeof sql, "DELETE FROM record WHERE n <= %llu; DELETE FROM head WHERE n <= %llu; COMMIT",
                (unsigned long long)n, (unsigned long long)n);
    NIGH_TRY(nigh_ledger_exec(l, db, "BEGIN IMMEDIATE; DELETE FROM expiry", err));
    NIGH_TRY(write_note(l, db, n, before_ms, err));
    return nigh_ledger_exec(l, db, sql, err);
}

nigh_status nigh_ledger_expire(nigh_ledger *l, uint64_t before_ms, nigh_err *err) {
    static const char last_sql[] = "SELECT coalesce(max(n), 0) FROM head WHERE at_ms < ?1";
    static const char next_sql[] = "SELECT n FROM head WHERE n >= ?1 + (SELECT min(n) FROM record) ORDER BY n LIMIT 1";
    sqlite3 *db = NULL;
    assert(l->signer);
    before_ms = before_ms > INT64_MAX ? INT64_MAX : before_ms;
    NIGH_TRY(nigh_ledger_flush(l, err));
    NIGH_TRY(nigh_ledger_connect(l, &db, true, err));
    nigh_status status = NIGH_OK;
    int64_t last = ask_number(db, last_sql, (int64_t)before_ms);
    bool any = last > 0;
    while (status == NIGH_OK && any) {
        int64_t left = ask_number(db, "SELECT min(n) FROM record", 0);
        if (left <= 0 || left > last) break;
        int64_t next = ask_number(db, next_sql, EXPIRE_STEP);
        status = expire_step(l, db, (uint64_t)(next < 0 || next > last ? last : next), before_ms, err);
        if (!sqlite3_get_autocommit(db)) (void)!sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    /* What was deleted also stands in the journal, until that is written over. */
    if (status == NIGH_OK && any)
        status = nigh_ledger_exec(l, db, "PRAGMA wal_checkpoint(TRUNCATE)", err);
    sqlite3_close(db);
    return status;
}
