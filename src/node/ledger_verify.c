/* ledger_verify.c - does a ledger, does a receipt hold?
 *
 * A ledger is walked from its beginning, or from the signed note that stands for what was deleted for its age: each
 * record's bytes are hashed into the chain, the chain is compared with what is stored, the columns with the bytes, and
 * each head's signature is checked over the chain as it was computed here. At the end SQLite compares its indices with
 * the tables, so that no record is there but cannot be found.
 *
 * What it cannot see: a ledger that was cut at a head, or replaced by an older copy of itself. Receipts that others
 * hold, or a head noted elsewhere, show that. And whoever has the key can write another ledger. */
#include <sodium.h>

#include "node/ledger_parts.h"

typedef struct {
    nigh_ledger *l;
    const uint8_t *public_key;
    nigh_ledger_proof *out;
    nigh_err *err;
    sqlite3_stmt *records, *heads;
    bool head_is_there;
    uint64_t n, head_n;                 /* the record that was read last; the next head */
    nigh_hash chain;
} walk;

static nigh_status odd(walk *w, uint64_t n, const char *what) {
    return nigh_failf(w->err, NIGH_EDATA, n, "record %llu: %s", (unsigned long long)n, what);
}

static nigh_status failed_at(walk *w, uint64_t n) {
    nigh_err why = { 0 };
    nigh_status status = nigh_ledger_sql_failed(w->l, w->l->reader, &why);
    return nigh_failf(w->err, status, n, "record %llu: %s", (unsigned long long)n, why.text);
}

static bool signature_fits(nigh_str key, nigh_str signature, const char *text, size_t len) {
    return key.len == crypto_sign_PUBLICKEYBYTES && signature.len == crypto_sign_BYTES
           && crypto_sign_verify_detached((const uint8_t *)signature.ptr, (const uint8_t *)text, len,
                                          (const uint8_t *)key.ptr) == 0;
}

static bool key_fits(const uint8_t *wanted, nigh_str key) {
    return !wanted || (key.len == 32 && sodium_memcmp(wanted, key.ptr, 32) == 0);
}

/* ---- a record against its columns ---- */

/* A body never holds bytes that are no UTF-8; a column holds them as they came. */
static bool same_text(nigh_str column, nigh_str text) {
    nigh_buf a = NIGH_BUF(8 * NIGH_RECORD_TEXT), b = NIGH_BUF(8 * NIGH_RECORD_TEXT);
    if (nigh_str_eq(column, text)) return true;
    bool same = nigh_json_add_string(&a, column) == NIGH_OK && nigh_json_add_string(&b, text) == NIGH_OK
                && nigh_str_eq(nigh_buf_str(&a), nigh_buf_str(&b));
    nigh_buf_release(&a);
    nigh_buf_release(&b);
    return same;
}

static int64_t sum(int64_t a, int64_t b) { return a > INT64_MAX - b ? INT64_MAX : a + b; }

static bool columns_fit(sqlite3_stmt *s, const nigh_json *record) {
    const nigh_json *last = NULL;
    int64_t out = 0, in = 0, marks = nigh_json_text(record, "degraded").len ? NIGH_LEDGER_DEGRADED : 0;
    if (nigh_json_says(record, "outcome", "error")) marks |= NIGH_LEDGER_ERROR;
    for (const nigh_json *h = nigh_json_first(nigh_json_get(record, NIGH_STR("hops"))); h; h = h->next) {
        out = sum(out, nigh_json_int(h, "bytes_out", -1));
        in = sum(in, nigh_json_int(h, "bytes_in", -1));
        last = h;
    }
    return sqlite3_column_int64(s, 1) == nigh_json_int(record, "at_ms", -1)
           && sqlite3_column_int64(s, 2) == nigh_ledger_key(nigh_json_text(record, "id"))
           && same_text(nigh_column(s, 3), nigh_json_text(record, "tenant"))
           && same_text(nigh_column(s, 4), nigh_json_text(record, "feature"))
           && same_text(nigh_column(s, 5), nigh_json_text(last, "target")) && sqlite3_column_int64(s, 6) == out
           && sqlite3_column_int64(s, 7) == in && sqlite3_column_int64(s, 8) == nigh_json_int(record, "cost_nusd", -1)
           && sqlite3_column_int64(s, 9) == marks;
}

static nigh_status check_record(walk *w) {
    sqlite3_stmt *s = w->records;
    uint64_t n = (uint64_t)sqlite3_column_int64(s, 0);
    nigh_str chain = nigh_column(s, 10), body = nigh_column(s, 11);
    nigh_json_doc doc;
    if (n != w->n + 1) return odd(w, w->n + 1, "is missing");
    nigh_hash record = nigh_ledger_hash(body);
    w->n = n;
    w->chain = nigh_ledger_next(&w->chain, n, &record);
    if (chain.len != 32 || memcmp(chain.ptr, w->chain.b, 32) != 0)
        return odd(w, n, "its bytes do not fit the chain; it, or the hash beside it, was changed");
    if (nigh_json_parse(&doc, body, NULL) != NIGH_OK) return odd(w, n, "cannot be read");
    bool fit = columns_fit(s, doc.root);
    nigh_json_release(&doc);
    return fit ? NIGH_OK : odd(w, n, "the columns that questions are answered from do not fit it");
}

/* ---- heads ---- */

static nigh_status next_head(walk *w) {
    int step = sqlite3_step(w->heads);
    w->head_is_there = step == SQLITE_ROW;
    w->head_n = w->head_is_there ? (uint64_t)sqlite3_column_int64(w->heads, 0) : UINT64_MAX;
    return step == SQLITE_ROW || step == SQLITE_DONE ? NIGH_OK : failed_at(w, w->n + 1);
}

static nigh_status check_head(walk *w) {
    char text[NIGH_LEDGER_SIGNED_MAX];
    nigh_str key = nigh_column(w->heads, 2);
    size_t len = nigh_ledger_head_text(text, w->l->id, w->n, &w->chain, (uint64_t)sqlite3_column_int64(w->heads, 1));
    if (!signature_fits(key, nigh_column(w->heads, 3), text, len))
        return odd(w, w->n, "the signature behind it does not fit");
    if (!key_fits(w->public_key, key)) {
        return nigh_failf(w->err, NIGH_EAUTH, w->n, "record %llu: signed with another key than the one that was named",
                          (unsigned long long)w->n);
    }
    nigh_hex_write(w->out->key, (const uint8_t *)key.ptr, 32);
    nigh_hex_write(w->out->chain, w->chain.b, 32);
    w->out->heads++;
    return next_head(w);
}

static nigh_status walk_records(walk *w) {
    uint64_t covered = w->n;
    int step;
    NIGH_TRY(next_head(w));
    while ((step = sqlite3_step(w->records)) == SQLITE_ROW) {
        NIGH_TRY(check_record(w));
        w->out->records++;
        if (w->head_n < w->n) return odd(w, w->n, "a signature stands at a record that is not there");
        if (w->head_n == w->n) {
            covered = w->n;
            NIGH_TRY(check_head(w));
        }
        if (w->n - covered >= NIGH_LEDGER_HEAD_EVERY) return odd(w, w->n, "is not covered by a signature");
    }
    if (step != SQLITE_DONE) return failed_at(w, w->n + 1);
    if (w->head_is_there) return odd(w, w->n + 1, "is missing: a signature stands behind the last record");
    return covered == w->n ? NIGH_OK : odd(w, covered + 1, "is not covered by a signature");
}

/* The note of what was deleted for its age: there the chain begins. */
static nigh_status begin_chain(walk *w) {
    static const char sql[] = "SELECT e.n, e.chain, e.at_ms, e.before_ms, s.public_key, e.signature FROM expiry e"
                              " LEFT JOIN signer s ON s.row = e.signer ORDER BY e.n DESC LIMIT 1";
    char text[NIGH_LEDGER_SIGNED_MAX];
    sqlite3_stmt *s = NULL;
    w->n = 0;
    w->chain = nigh_ledger_first(w->l->id);
    NIGH_TRY(nigh_ledger_prepare(w->l, w->l->reader, &s, sql, w->err));
    int step = sqlite3_step(s);
    nigh_status status = step == SQLITE_ROW || step == SQLITE_DONE ? NIGH_OK : failed_at(w, 1);
    if (step == SQLITE_ROW) {
        nigh_str chain = nigh_column(s, 1), key = nigh_column(s, 4);
        w->out->expired_n = w->n = (uint64_t)sqlite3_column_int64(s, 0);
        w->out->expired_before_ms = (uint64_t)sqlite3_column_int64(s, 3);
        if (chain.len == 32) memcpy(w->chain.b, chain.ptr, 32);
        size_t len = nigh_ledger_expiry_text(text, w->l->id, w->n, &w->chain, (uint64_t)sqlite3_column_int64(s, 2),
                                             w->out->expired_before_ms);
        if (chain.len != 32 || !signature_fits(key, nigh_column(s, 5), text, len))
            status = odd(w, w->n, "the note that older records were deleted is not signed as it stands");
        else if (!key_fits(w->public_key, key))
            status = nigh_failf(w->err, NIGH_EAUTH, w->n, "record %llu: older ones were deleted with another key than "
                                "the one that was named", (unsigned long long)w->n);
    }
    sqlite3_finalize(s);
    return status;
}

static nigh_status check_tables(walk *w) {
    sqlite3_stmt *s = NULL;
    NIGH_TRY(nigh_ledger_prepare(w->l, w->l->reader, &s, "PRAGMA integrity_check(1)", w->err));
    nigh_status status = NIGH_OK;
    if (sqlite3_step(s) != SQLITE_ROW) status = failed_at(w, w->n);
    else if (!nigh_str_eq(nigh_column(s, 0), NIGH_STR("ok"))) {
        nigh_str what = nigh_column(s, 0);
        status = nigh_failf(w->err, NIGH_EDATA, 0, "the records fit, but the file is damaged: %.*s",
                            (int)nigh_min(what.len, 120), what.ptr);
    }
    sqlite3_finalize(s);
    return status;
}

static nigh_status count_signers(walk *w) {
    sqlite3_stmt *s = NULL;
    static const char sql[] = "SELECT count(DISTINCT signer) FROM head";
    NIGH_TRY(nigh_ledger_prepare(w->l, w->l->reader, &s, sql, w->err));
    if (sqlite3_step(s) == SQLITE_ROW) w->out->signers = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return NIGH_OK;
}

static nigh_status walk_all(walk *w) {
    static const char records[] = "SELECT n, at_ms, key, tenant, feature, target, bytes_out, bytes_in, cost_nusd,"
                                  " marks, chain, body FROM record ORDER BY n";
    static const char heads[] = "SELECT h.n, h.at_ms, s.public_key, h.signature FROM head h"
                                " LEFT JOIN signer s ON s.row = h.signer ORDER BY h.n";
    NIGH_TRY(begin_chain(w));
    w->out->first_n = w->n + 1;
    NIGH_TRY(nigh_ledger_prepare(w->l, w->l->reader, &w->records, records, w->err));
    NIGH_TRY(nigh_ledger_prepare(w->l, w->l->reader, &w->heads, heads, w->err));
    NIGH_TRY(walk_records(w));
    NIGH_TRY(count_signers(w));
    return check_tables(w);
}

nigh_status nigh_ledger_verify(nigh_ledger *l, const uint8_t *public_key, nigh_ledger_proof *out, nigh_err *err) {
    *out = (nigh_ledger_proof){ .records = 0 };
    walk w = { .l = l, .public_key = public_key, .out = out, .err = err };
    nigh_hex_write(out->ledger, l->id, sizeof l->id);
    if (l->signer) NIGH_TRY(nigh_ledger_flush(l, err));
    pthread_mutex_lock(&l->read_lock);
    nigh_status status = nigh_ledger_exec(l, l->reader, "BEGIN", err);
    if (status == NIGH_OK) status = walk_all(&w);
    sqlite3_finalize(w.records);
    sqlite3_finalize(w.heads);
    if (!sqlite3_get_autocommit(l->reader)) (void)!sqlite3_exec(l->reader, "COMMIT", NULL, NULL, NULL);
    pthread_mutex_unlock(&l->read_lock);
    return status;
}

/* ---- receipts ---- */

static bool read_hash(const nigh_json *v, nigh_hash *out) {
    return v && v->type == NIGH_JSON_STRING && nigh_hex_read(v->text, out->b, sizeof out->b);
}

static bool read_count(const nigh_json *object, const char *key, uint64_t *out) {
    int64_t n = nigh_json_int(object, key, -1);
    *out = (uint64_t)n;
    return n >= 0;
}

/* The chain from before the record to the head, as the receipt's own parts give it. */
static nigh_status compute_chain(const nigh_json *receipt, const nigh_receipt_proof *p, nigh_hash *chain,
                                 nigh_err *err) {
    const nigh_json *between = nigh_json_get(receipt, NIGH_STR("between"));
    nigh_buf body = NIGH_BUF(1 << 20);
    nigh_hash record;
    uint64_t n = p->n;
    if (!read_hash(nigh_json_get(receipt, NIGH_STR("before")), chain) || !between || between->type != NIGH_JSON_ARRAY
        || between->count >= NIGH_LEDGER_HEAD_EVERY || n + between->count != p->head_n)
        return nigh_fail(err, NIGH_EINVAL, 0,
                         "the receipt does not say how its record and the signature belong together");
    nigh_status status = nigh_json_add_value(&body, nigh_json_get(receipt, NIGH_STR("record")));
    record = nigh_ledger_hash(nigh_buf_str(&body));
    nigh_buf_release(&body);
    if (status != NIGH_OK) return nigh_fail(err, status, 0, "the record is too large");
    *chain = nigh_ledger_next(chain, n, &record);
    for (const nigh_json *v = between->first; v; v = v->next) {
        if (!read_hash(v, &record)) return nigh_fail(err, NIGH_EINVAL, v->at, "a hash of the receipt is none");
        *chain = nigh_ledger_next(chain, ++n, &record);
    }
    return NIGH_OK;
}

static nigh_status read_receipt(const nigh_json *receipt, nigh_receipt_proof *p, uint8_t *id, nigh_err *err) {
    const nigh_json *head = nigh_json_get(receipt, NIGH_STR("head")), *record = nigh_json_get(receipt,
                                                                                          NIGH_STR("record"));
    nigh_str ledger = nigh_json_text(receipt, "ledger"), key = nigh_json_text(head, "key");
    uint8_t bytes[32];
    if (!nigh_json_says(receipt, "format", "nigh-receipt") || !record
        || record->type != NIGH_JSON_OBJECT || !head)
        return nigh_fail(err, NIGH_EINVAL, 0, "this is not a signed receipt (format nigh-receipt)");
    if (nigh_json_int(receipt, "version", -1) != 1)
        return nigh_fail(err, NIGH_EINVAL, 0, "the receipt has a version that is not known here");
    if (!nigh_hex_read(ledger, id, NIGH_LEDGER_ID_BYTES) || !nigh_hex_read(key, bytes, 32)
        || !read_count(receipt, "n", &p->n) || !read_count(head, "n", &p->head_n)
        || !read_count(head, "at_ms", &p->head_at_ms) || p->n == 0)
        return nigh_fail(err, NIGH_EINVAL, 0, "the receipt lacks a number, a name or a key");
    nigh_format(p->ledger, sizeof p->ledger, "%.*s", (int)ledger.len, ledger.ptr);
    nigh_format(p->key, sizeof p->key, "%.*s", (int)key.len, key.ptr);
    return NIGH_OK;
}

nigh_status nigh_ledger_check_receipt(const nigh_json *receipt, const uint8_t *public_key, nigh_receipt_proof *out,
                                      nigh_err *err) {
    uint8_t id[NIGH_LEDGER_ID_BYTES], key[32] = { 0 }, signature[crypto_sign_BYTES];
    char text[NIGH_LEDGER_SIGNED_MAX];
    nigh_hash chain, stated;
    *out = (nigh_receipt_proof){ .n = 0 };
    if (sodium_init() < 0) return nigh_fail(err, NIGH_EIO, 0, "the cryptography cannot be set up");
    const nigh_json *head = nigh_json_get(receipt, NIGH_STR("head"));
    NIGH_TRY(read_receipt(receipt, out, id, err));
    NIGH_TRY(compute_chain(receipt, out, &chain, err));
    if (!read_hash(nigh_json_get(head, NIGH_STR("chain")), &stated)
        || !nigh_hex_read(nigh_json_text(head, "signature"), signature, sizeof signature)
        || !nigh_hex_read(nigh_json_text(head, "key"), key, sizeof key))
        return nigh_fail(err, NIGH_EINVAL, 0, "the receipt has no signature");
    if (!nigh_hash_eq(&chain, &stated))
        return nigh_failf(err, NIGH_EDATA, out->n, "the record was changed: with it the chain does not come to what "
                          "was signed");
    size_t len = nigh_ledger_head_text(text, id, out->head_n, &chain, out->head_at_ms);
    if (!signature_fits((nigh_str){ (const char *)key, 32 }, (nigh_str){ (const char *)signature, sizeof signature },
                        text, len))
        return nigh_fail(err, NIGH_EDATA, out->n, "the signature does not fit what it stands under");
    if (!key_fits(public_key, (nigh_str){ (const char *)key, 32 }))
        return nigh_fail(err, NIGH_EAUTH, out->n, "it is signed with another key than the one that was named");
    return NIGH_OK;
}
