/* ledger_record.c - the bytes of a record, and what is hashed and signed (docs/format-ledger.md).
 *
 *     body     compact JSON, keys in one fixed order, whole numbers only: what a receipt shows is what was hashed
 *     record   = SHA-256(body)
 *     chain(0) = SHA-256("nigh-ledger 1\n" + the ledger's id in hex + "\n")
 *     chain(n) = SHA-256(chain(n - 1) + n as 8 bytes, most significant first + record(n))
 *     head     an Ed25519 signature over the ledger's id, n, chain(n) and the time
 *
 * Encoding runs in the thread that answers a request, under the ledger's lock, so it is written to be short: room is
 * reserved once for the longest body, and text that needs no escaping, which is nearly all, is copied as it is checked.
 * What it writes for text is what nigh_json_add_string writes; a test holds both together. */
#define _GNU_SOURCE
#include "base/sha256.h"
#include "node/ledger_parts.h"

/* ---- bodies ---- */

static void put(nigh_buf *b, const char *text, size_t len) {
    memcpy(b->ptr + b->len, text, len);
    b->len += len;
}
#define PUT(b, literal) put(b, literal, sizeof(literal) - 1)

static uint64_t clamp(uint64_t v) { return v > INT64_MAX ? INT64_MAX : v; }

static void put_number(nigh_buf *b, uint64_t v) {
    char digits[20];
    size_t at = sizeof digits;
    v = clamp(v);
    do digits[--at] = (char)('0' + v % 10);
    while (v /= 10);
    put(b, digits + at, sizeof digits - at);
}

static bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }

/* A text that ends at its terminator or at cap. */
static nigh_status put_text(nigh_buf *b, const char *text, size_t cap) {
    char *to = b->ptr + b->len + 1;
    size_t n = 0;
    while (n < cap && is_plain((unsigned char)text[n])) {
        to[n] = text[n];
        n++;
    }
    if (n < cap && text[n]) {
        while (n < cap && text[n]) n++;
        return nigh_json_add_string(b, (nigh_str){ text, n });
    }
    to[-1] = to[n] = '"';
    b->len += n + 2;
    return NIGH_OK;
}
#define TEXT(b, key, field) \
    do { \
        PUT(b, key); \
        NIGH_TRY(put_text(b, field, sizeof(field))); \
    } while (0)
#define NUMBER(b, key, v) (PUT(b, key), put_number(b, v))

static void put_bool(nigh_buf *b, bool v) {
    if (v) PUT(b, "true");
    else PUT(b, "false");
}

/* Billionths of a dollar: whole, so that every reader writes the same digits. */
static uint64_t cost_nusd(double usd) {
    if (!(usd > 0)) return 0;
    return usd < 9e9 ? (uint64_t)(usd * 1e9 + 0.5) : INT64_MAX;
}

static nigh_status put_hop(nigh_buf *b, const nigh_hop *h) {
    TEXT(b, "{\"target\":", h->target);
    TEXT(b, ",\"tier\":", h->tier);
    TEXT(b, ",\"region\":", h->region);
    TEXT(b, ",\"model\":", h->model);
    TEXT(b, ",\"model_sha256\":", h->model_sha256);
    TEXT(b, ",\"address\":", h->address);
    TEXT(b, ",\"ended\":", h->ended);
    NUMBER(b, ",\"bytes_out\":", h->bytes_out);
    NUMBER(b, ",\"bytes_in\":", h->bytes_in);
    NUMBER(b, ",\"first_ms\":", h->first_ms);
    NUMBER(b, ",\"total_ms\":", h->total_ms);
    PUT(b, ",\"retention_s\":");
    if (h->retention_s == UINT32_MAX) PUT(b, "null");
    else put_number(b, h->retention_s);
    PUT(b, ",\"trains\":");
    put_bool(b, h->trains);
    PUT(b, "}");
    return NIGH_OK;
}

static nigh_status put_body(nigh_buf *b, const nigh_record *r, nigh_str inner) {
    TEXT(b, "{\"id\":", r->id);
    NUMBER(b, ",\"at_ms\":", r->at_ms);
    TEXT(b, ",\"tenant\":", r->tenant);
    TEXT(b, ",\"user\":", r->user);
    TEXT(b, ",\"feature\":", r->feature);
    TEXT(b, ",\"class\":", r->class_name);
    TEXT(b, ",\"to\":", r->to);
    TEXT(b, ",\"outcome\":", r->outcome);
    TEXT(b, ",\"why\":", r->why);
    TEXT(b, ",\"degraded\":", r->degraded);
    TEXT(b, ",\"rule\":", r->rule);
    NUMBER(b, ",\"policy_version\":", r->policy_version);
    NUMBER(b, ",\"prompt_tokens\":", r->prompt_tokens);
    NUMBER(b, ",\"completion_tokens\":", r->completion_tokens);
    NUMBER(b, ",\"redacted\":", r->redacted);
    NUMBER(b, ",\"cost_nusd\":", cost_nusd(r->cost_usd));
    NUMBER(b, ",\"first_ms\":", r->first_ms);
    NUMBER(b, ",\"total_ms\":", r->total_ms);
    NUMBER(b, ",\"keep_prompt_s\":", r->keep_prompt_s);
    NUMBER(b, ",\"keep_output_s\":", r->keep_output_s);
    NUMBER(b, ",\"keep_cache_s\":", r->keep_cache_s);
    PUT(b, ",\"may_leave_region\":");
    put_bool(b, r->may_leave_region);
    PUT(b, ",\"hops\":[");
    for (size_t i = 0; i < r->hop_count; i++) {
        if (i) PUT(b, ",");
        NIGH_TRY(put_hop(b, &r->hops[i]));
    }
    PUT(b, "],\"inner\":");
    if (inner.len) put(b, inner.ptr, inner.len);
    else PUT(b, "null");
    PUT(b, "}");
    return NIGH_OK;
}

static uint32_t put_name(nigh_buf *b, const char *text, size_t cap) {
    size_t n = strnlen(text, cap);
    put(b, text, n);
    return (uint32_t)n;
}

nigh_status nigh_ledger_encode(nigh_buf *b, const nigh_record *r, nigh_str inner) {
    size_t begin = b->len, last = r->hop_count;
    assert(r->hop_count <= NIGH_RECORD_HOPS_MAX);
    nigh_ledger_entry e = { .at_ms = (int64_t)clamp(r->at_ms), .cost_nusd = (int64_t)cost_nusd(r->cost_usd) };
    uint64_t out = 0, in = 0;
    for (size_t i = 0; i < r->hop_count; i++) {
        out += clamp(r->hops[i].bytes_out);
        in += clamp(r->hops[i].bytes_in);
    }
    e.bytes_out = (int64_t)clamp(out);
    e.bytes_in = (int64_t)clamp(in);
    if (r->degraded[0]) e.marks |= NIGH_LEDGER_DEGRADED;
    if (strcmp(r->outcome, "error") == 0) e.marks |= NIGH_LEDGER_ERROR;
    e.key = nigh_ledger_key((nigh_str){ r->id, strnlen(r->id, sizeof r->id) });
    b->len += sizeof e;
    e.tenant_bytes = put_name(b, r->tenant, sizeof r->tenant);
    e.feature_bytes = put_name(b, r->feature, sizeof r->feature);
    e.target_bytes = last ? put_name(b, r->hops[last - 1].target, sizeof r->hops[0].target) : 0;
    size_t body = b->len;
    nigh_status status = put_body(b, r, inner);
    e.body_bytes = (uint32_t)(b->len - body);
    if (status == NIGH_OK) memcpy(b->ptr + begin, &e, sizeof e);
    else b->len = begin;
    return status;
}

nigh_status nigh_ledger_canonical(nigh_buf *out, nigh_str json, nigh_err *err) {
    nigh_json_doc doc;
    NIGH_TRY(nigh_json_parse(&doc, json, err));
    nigh_status status = nigh_json_add_value(out, doc.root);
    nigh_json_release(&doc);
    return status == NIGH_OK ? NIGH_OK : nigh_fail(err, status, 0, "a receipt is too large");
}

/* ---- hashes ---- */

nigh_hash nigh_ledger_hash(nigh_str body) {
    nigh_sha256 s;
    nigh_hash h;
    nigh_sha256_init(&s);
    nigh_sha256_add(&s, body);
    nigh_sha256_end(&s, h.b);
    return h;
}

/* What the index stands on: eight bytes for an id, whatever its shape. Two ids of one key are told apart by
 * the body. */
int64_t nigh_ledger_key(nigh_str id) {
    nigh_hash h = nigh_ledger_hash(id);
    uint64_t key = 0;
    for (int i = 0; i < 8; i++) key = key << 8 | h.b[i];
    return (int64_t)key;
}

nigh_hash nigh_ledger_first(const uint8_t id[NIGH_LEDGER_ID_BYTES]) {
    char text[64], hex[2 * NIGH_LEDGER_ID_BYTES + 1];
    nigh_hex_write(hex, id, NIGH_LEDGER_ID_BYTES);
    size_t n = nigh_format(text, sizeof text, "nigh-ledger 1\n%s\n", hex);
    return nigh_ledger_hash((nigh_str){ text, n });
}

nigh_hash nigh_ledger_next(const nigh_hash *chain, uint64_t n, const nigh_hash *record) {
    uint8_t text[32 + 8 + 32];
    memcpy(text, chain->b, 32);
    for (int i = 0; i < 8; i++) text[32 + i] = (uint8_t)(n >> (56 - 8 * i));
    memcpy(text + 40, record->b, 32);
    return nigh_ledger_hash((nigh_str){ (const char *)text, sizeof text });
}

size_t nigh_ledger_head_text(char out[NIGH_LEDGER_SIGNED_MAX], const uint8_t id[NIGH_LEDGER_ID_BYTES], uint64_t n,
                             const nigh_hash *chain, uint64_t at_ms) {
    char id_hex[2 * NIGH_LEDGER_ID_BYTES + 1], hex[65];
    nigh_hex_write(id_hex, id, NIGH_LEDGER_ID_BYTES);
    nigh_hex_write(hex, chain->b, 32);
    return nigh_format(out, NIGH_LEDGER_SIGNED_MAX, "nigh-ledger-head 1\n%s\n%llu\n%s\n%llu\n", id_hex,
                       (unsigned long long)n, hex, (unsigned long long)at_ms);
}

size_t nigh_ledger_expiry_text(char out[NIGH_LEDGER_SIGNED_MAX], const uint8_t id[NIGH_LEDGER_ID_BYTES], uint64_t n,
                               const nigh_hash *chain, uint64_t at_ms, uint64_t before_ms) {
    char id_hex[2 * NIGH_LEDGER_ID_BYTES + 1], hex[65];
    nigh_hex_write(id_hex, id, NIGH_LEDGER_ID_BYTES);
    nigh_hex_write(hex, chain->b, 32);
    return nigh_format(out, NIGH_LEDGER_SIGNED_MAX, "nigh-ledger-expiry 1\n%s\n%llu\n%s\n%llu\n%llu\n", id_hex,
                       (unsigned long long)n, hex, (unsigned long long)at_ms, (unsigned long long)before_ms);
}
