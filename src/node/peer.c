/* peer.c - see peer.h and docs/format-peer.md.
 *
 *     token   nigh-peer.KEY.MILLISECONDS.NONCE.HASH.SIGNATURE      all but the time in lower-case hex
 *     body    {"nigh_sealed":"base64 of the box"}                  HASH is its SHA-256
 *     box     crypto_box_seal(key for the answer, 32 bytes | the request)
 *     event   data: {"nigh_sealed":"base64"}                       XChaCha20-Poly1305, the nonce counts from 0
 *
 * The keys that seal are those that sign, taken over to Curve25519. A token is good for two minutes and once: its nonce
 * is remembered as long. */
#include "node/peer.h"

#include <pthread.h>
#include <sodium.h>

#include "base/os.h"

enum { WINDOW_MS = 120000, SEEN_MAX = 1 << 15, PROBES = 32, PARTS = 6 };

typedef struct { uint64_t nonce, until_ms; } seen;

struct nigh_peers {
    const nigh_keys *keys;
    const nigh_signer *signer;
    pthread_mutex_t lock;
    seen *table;                    /* [SEEN_MAX], made with the first token */
};

struct nigh_peer_in {
    const nigh_signer *signer;
    uint8_t asker[32], hash[32], key[32];
    bool open;
    uint64_t next;
};

/* ---- sealing with the key of an answer ---- */

static void nonce_of(uint64_t n, uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES]) {
    memset(nonce, 0, crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
    for (int i = 0; i < 8; i++) nonce[i] = (uint8_t)(n >> (8 * i));
}

/* Appends the bytes in base64. */
static nigh_status add_base64(nigh_buf *out, const uint8_t *bytes, size_t count) {
    size_t room = sodium_base64_encoded_len(count, sodium_base64_VARIANT_ORIGINAL);
    NIGH_TRY(nigh_buf_reserve(out, room));
    sodium_bin2base64(out->ptr + out->len, room, bytes, count, sodium_base64_VARIANT_ORIGINAL);
    out->len += room - 1;
    return NIGH_OK;
}

/* Of {"nigh_sealed":"..."}: the bytes. */
static nigh_status read_base64(nigh_str json, nigh_buf *out) {
    nigh_json_doc doc = { 0 };
    size_t count = 0;
    NIGH_TRY(nigh_json_parse(&doc, json, NULL));
    const nigh_json *v = nigh_json_get(doc.root, NIGH_STR("nigh_sealed"));
    nigh_status status = v && v->type == NIGH_JSON_STRING ? nigh_buf_reserve(out, v->text.len + 1) : NIGH_EAUTH;
    if (status == NIGH_OK && sodium_base642bin((uint8_t *)out->ptr, v->text.len, v->text.ptr, v->text.len, NULL, &count,
        NULL, sodium_base64_VARIANT_ORIGINAL) != 0)
        status = NIGH_EAUTH;
    out->len = count;
    nigh_json_release(&doc);
    return status;
}

static nigh_status seal(const uint8_t key[32], uint64_t n, nigh_str what, nigh_str plain, nigh_buf *out) {
    nigh_buf sealed = NIGH_BUF(NIGH_PEER_BODY_MAX);
    uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
    unsigned long long count = 0;
    nonce_of(n, nonce);
    nigh_status status = nigh_buf_reserve(&sealed, plain.len + crypto_aead_xchacha20poly1305_ietf_ABYTES);
    if (status == NIGH_OK)
        crypto_aead_xchacha20poly1305_ietf_encrypt((uint8_t *)sealed.ptr, &count, (const uint8_t *)plain.ptr, plain.len,
            (const uint8_t *)what.ptr, what.len, NULL, nonce, key);
    if (status == NIGH_OK) status = nigh_buf_add(out, NIGH_STR("{\"nigh_sealed\":\""));
    if (status == NIGH_OK) status = add_base64(out, (const uint8_t *)sealed.ptr, (size_t)count);
    nigh_buf_release(&sealed);
    return status == NIGH_OK ? nigh_buf_add(out, NIGH_STR("\"}")) : status;
}

static nigh_status unseal(const uint8_t key[32], uint64_t n, nigh_str what, nigh_str json, nigh_buf *out) {
    nigh_buf sealed = NIGH_BUF(NIGH_PEER_BODY_MAX);
    uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
    unsigned long long count = 0;
    nonce_of(n, nonce);
    nigh_status status = read_base64(json, &sealed);
    if (status == NIGH_OK) status = nigh_buf_reserve(out, sealed.len + 1);
    if (status == NIGH_OK && crypto_aead_xchacha20poly1305_ietf_decrypt((uint8_t *)out->ptr + out->len, &count, NULL,
        (const uint8_t *)sealed.ptr, sealed.len, (const uint8_t *)what.ptr, what.len, nonce, key) != 0)
        status = NIGH_EAUTH;
    if (status == NIGH_OK) out->len += (size_t)count;
    nigh_buf_release(&sealed);
    return status;
}

static nigh_str whole_name(int status, char text[32]) {
    return (nigh_str){ text, nigh_format(text, 32, "whole %d", status) };
}

/* ---- tokens ---- */

typedef struct { uint8_t key[32], nonce[16], hash[32], signature[crypto_sign_BYTES]; uint64_t at_ms; } token;

/* What is signed: for which node, by whom, when, once, over which body. */
static size_t token_text(const token *t, const uint8_t node[32], char out[320]) {
    char to[65], key[65], nonce[33], hash[65];
    nigh_hex_write(to, node, 32);
    nigh_hex_write(key, t->key, 32);
    nigh_hex_write(nonce, t->nonce, 16);
    nigh_hex_write(hash, t->hash, 32);
    return nigh_format(out, 320, "nigh-ask 1\n%s\n%s\n%llu\n%s\n%s\n", to, key, (unsigned long long)t->at_ms, nonce,
        hash);
}

bool nigh_peer_is_token(nigh_str bearer) { return nigh_str_starts(bearer, NIGH_STR("nigh-peer.")); }

static bool read_token(nigh_str text, token *t) {
    nigh_str part[PARTS];
    size_t count = 0, at = 0;
    int64_t ms;
    while (at <= text.len && count < PARTS) {
        size_t end = nigh_min(nigh_str_find(text, NIGH_STR("."), at), text.len);
        part[count++] = nigh_str_slice(text, at, end);
        at = end + 1;
    }
    if (count != PARTS || at <= text.len || !nigh_str_to_i64(part[2], &ms) || ms < 0) return false;
    t->at_ms = (uint64_t)ms;
    return nigh_hex_read(part[1], t->key, 32) && nigh_hex_read(part[3], t->nonce, 16)
           && nigh_hex_read(part[4], t->hash, 32) && nigh_hex_read(part[5], t->signature, sizeof t->signature);
}

/* ---- the node that is asked ---- */

nigh_status nigh_peers_open(nigh_peers **out, const nigh_keys *keys, const nigh_signer *signer) {
    nigh_peers *p = *out = nigh_alloc(sizeof *p, 1);
    if (!p) return NIGH_ENOMEM;
    p->keys = keys;
    p->signer = signer;
    pthread_mutex_init(&p->lock, NULL);
    return sodium_init() < 0 ? NIGH_EIO : NIGH_OK;
}

void nigh_peers_close(nigh_peers *p) {
    if (!p) return;
    pthread_mutex_destroy(&p->lock);
    nigh_free(p->table);
    nigh_free(p);
}

/* False: it came before, or there is no room to remember it. */
static bool is_new(nigh_peers *p, const token *t, uint64_t now_ms) {
    uint64_t nonce;
    seen *room = NULL;
    bool again = false;
    memcpy(&nonce, t->nonce, sizeof nonce);
    pthread_mutex_lock(&p->lock);
    if (!p->table) p->table = nigh_alloc(sizeof *p->table, SEEN_MAX);
    for (size_t i = 0; p->table && i < PROBES; i++) {
        seen *s = &p->table[(nonce + i) % SEEN_MAX];
        again |= s->nonce == nonce && s->until_ms >= now_ms;
        if (!room && s->until_ms < now_ms) room = s;
    }
    if (room && !again) *room = (seen){ nonce, t->at_ms + WINDOW_MS };
    pthread_mutex_unlock(&p->lock);
    return room && !again;
}

nigh_peer_in *nigh_peers_admit(nigh_peers *p, nigh_str text, uint64_t now_ms, size_t *key_idx) {
    token t;
    char said[320];
    if (!p->signer->there || !read_token(text, &t)) return NULL;
    *key_idx = nigh_keys_find_peer(p->keys, t.key);
    if (*key_idx == SIZE_MAX || t.at_ms > now_ms + WINDOW_MS || t.at_ms + WINDOW_MS < now_ms) return NULL;
    size_t len = token_text(&t, p->signer->public_key, said);
    if (crypto_sign_verify_detached(t.signature, (const uint8_t *)said, len, t.key) != 0) return NULL;
    if (!is_new(p, &t, now_ms)) return NULL;
    nigh_peer_in *in = nigh_alloc(sizeof *in, 1);
    if (!in) return NULL;
    in->signer = p->signer;
    memcpy(in->asker, t.key, sizeof in->asker);
    memcpy(in->hash, t.hash, sizeof in->hash);
    return in;
}

void nigh_peer_in_free(nigh_peer_in *in) {
    if (!in) return;
    sodium_memzero(in, sizeof *in);
    nigh_free(in);
}

bool nigh_peer_is_open(const nigh_peer_in *in) { return in && in->open; }

static nigh_status open_box(nigh_peer_in *in, nigh_str box, nigh_buf *plain) {
    uint8_t public_key[32], secret[32];
    if (box.len < crypto_box_SEALBYTES + sizeof in->key) return NIGH_EAUTH;
    NIGH_TRY(nigh_buf_reserve(plain, box.len));
    bool good = crypto_sign_ed25519_pk_to_curve25519(public_key, in->signer->public_key) == 0
                && crypto_sign_ed25519_sk_to_curve25519(secret, in->signer->secret) == 0
                && crypto_box_seal_open((uint8_t *)plain->ptr, (const uint8_t *)box.ptr, box.len, public_key,
                    secret) == 0;
    sodium_memzero(secret, sizeof secret);
    if (!good) return NIGH_EAUTH;
    plain->len = box.len - crypto_box_SEALBYTES;
    memcpy(in->key, plain->ptr, sizeof in->key);
    return NIGH_OK;
}

nigh_status nigh_peer_open(nigh_peer_in *in, nigh_buf *body) {
    nigh_buf box = NIGH_BUF(NIGH_PEER_BODY_MAX), plain = NIGH_BUF(NIGH_PEER_BODY_MAX);
    uint8_t hash[32];
    crypto_hash_sha256(hash, (const uint8_t *)(body->len ? body->ptr : ""), body->len);
    nigh_status status = sodium_memcmp(hash, in->hash, sizeof hash) == 0 ? NIGH_OK : NIGH_EAUTH;
    if (status == NIGH_OK) status = read_base64(nigh_buf_str(body), &box);
    if (status == NIGH_OK) status = open_box(in, nigh_buf_str(&box), &plain);
    if (status == NIGH_OK) {
        nigh_str request = nigh_str_slice(nigh_buf_str(&plain), sizeof in->key, plain.len);
        memcpy(body->ptr, request.ptr, request.len);    /* a box is longer than what it holds */
        body->len = request.len;
        in->open = true;
    }
    nigh_buf_release(&box);
    nigh_buf_release(&plain);
    return status;
}

nigh_status nigh_peer_seal_event(nigh_peer_in *in, nigh_str event, nigh_buf *out) {
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("data: ")));
    NIGH_TRY(seal(in->key, in->next++, NIGH_STR("event"), event, out));
    return nigh_buf_add(out, NIGH_STR("\n\n"));
}

nigh_status nigh_peer_seal_whole(nigh_peer_in *in, int http, nigh_str body, nigh_buf *out) {
    char what[32];
    return seal(in->key, in->next++, whole_name(http, what), body, out);
}

/* ---- the node that asks ---- */

static nigh_status fill_box(const nigh_peer_line *line, const nigh_peer_out *o, nigh_str request, nigh_buf *body) {
    nigh_buf plain = NIGH_BUF(NIGH_PEER_BODY_MAX), box = NIGH_BUF(NIGH_PEER_BODY_MAX);
    uint8_t to[32];
    nigh_status status = crypto_sign_ed25519_pk_to_curve25519(to, line->key) == 0 ? NIGH_OK : NIGH_EINVAL;
    if (status == NIGH_OK) status = nigh_buf_add(&plain, (nigh_str){ (const char *)o->key, sizeof o->key });
    if (status == NIGH_OK) status = nigh_buf_add(&plain, request);
    if (status == NIGH_OK) status = nigh_buf_reserve(&box, plain.len + crypto_box_SEALBYTES);
    if (status == NIGH_OK
        && crypto_box_seal((uint8_t *)box.ptr, (const uint8_t *)plain.ptr, plain.len, to) != 0) status = NIGH_EINVAL;
    if (status == NIGH_OK) status = nigh_buf_add(body, NIGH_STR("{\"nigh_sealed\":\""));
    if (status == NIGH_OK) status = add_base64(body, (const uint8_t *)box.ptr, plain.len + crypto_box_SEALBYTES);
    if (status == NIGH_OK) status = nigh_buf_add(body, NIGH_STR("\"}"));
    if (plain.cap) sodium_memzero(plain.ptr, plain.cap);
    nigh_buf_release(&plain);
    nigh_buf_release(&box);
    return status;
}

static void write_token(const nigh_peer_line *line, nigh_str body, char out[NIGH_PEER_TOKEN]) {
    token t = { .at_ms = nigh_os_unix_ms() };
    char said[320], key[65], nonce[33], hash[65], signature[2 * crypto_sign_BYTES + 1];
    memcpy(t.key, line->signer->public_key, sizeof t.key);
    randombytes_buf(t.nonce, sizeof t.nonce);
    crypto_hash_sha256(t.hash, (const uint8_t *)body.ptr, body.len);
    size_t len = token_text(&t, line->key, said);
    crypto_sign_detached(t.signature, NULL, (const uint8_t *)said, len, line->signer->secret);
    nigh_hex_write(key, t.key, sizeof t.key);
    nigh_hex_write(nonce, t.nonce, sizeof t.nonce);
    nigh_hex_write(hash, t.hash, sizeof t.hash);
    nigh_hex_write(signature, t.signature, sizeof t.signature);
    nigh_format(out, NIGH_PEER_TOKEN, "nigh-peer.%s.%llu.%s.%s.%s", key, (unsigned long long)t.at_ms, nonce, hash,
        signature);
}

nigh_status nigh_peer_ask(const nigh_peer_line *line, nigh_buf *body, char token_out[NIGH_PEER_TOKEN],
    nigh_peer_out *o, nigh_err *err) {
    nigh_buf sealed = NIGH_BUF(NIGH_PEER_BODY_MAX);
    if (sodium_init() < 0) return nigh_fail(err, NIGH_EIO, 0, "the cryptography cannot be set up");
    if (!line->signer->there) return nigh_fail(err, NIGH_EINVAL, 0, "this node has no key to ask another with");
    randombytes_buf(o->key, sizeof o->key);
    o->next = 0;
    nigh_status status = fill_box(line, o, nigh_buf_str(body), &sealed);
    if (status != NIGH_OK) {
        nigh_buf_release(&sealed);
        return nigh_fail(err, status, 0, status == NIGH_EINVAL ? "node_key is no key" : "a request is too large");
    }
    nigh_buf_release(body);
    *body = sealed;
    write_token(line, nigh_buf_str(body), token_out);
    return NIGH_OK;
}

nigh_status nigh_peer_open_event(nigh_peer_out *o, nigh_str data, nigh_buf *out) {
    return unseal(o->key, o->next++, NIGH_STR("event"), data, out);
}

nigh_status nigh_peer_open_whole(const nigh_peer_out *o, int http, nigh_str body, nigh_buf *out) {
    char what[32];
    return unseal(o->key, 0, whole_name(http, what), body, out);
}

/* ---- receipts ---- */

/* What is signed: for whom, and the receipt as compact JSON without the member `signed`. */
static size_t receipt_text(const char *asker, nigh_str receipt, char out[192]) {
    uint8_t hash[32];
    char hex[65];
    crypto_hash_sha256(hash, (const uint8_t *)receipt.ptr, receipt.len);
    nigh_hex_write(hex, hash, sizeof hash);
    return nigh_format(out, 192, "nigh-hop 1\n%s\n%s\n", asker, hex);
}

nigh_status nigh_peer_sign(const nigh_peer_in *in, nigh_buf *out, size_t from) {
    char asker[65], key[65], text[192], hex[2 * crypto_sign_BYTES + 1];
    uint8_t signature[crypto_sign_BYTES];
    nigh_hex_write(asker, in->asker, sizeof in->asker);
    nigh_hex_write(key, in->signer->public_key, 32);
    size_t len = receipt_text(asker, nigh_str_slice(nigh_buf_str(out), from, out->len), text);
    crypto_sign_detached(signature, NULL, (const uint8_t *)text, len, in->signer->secret);
    nigh_hex_write(hex, signature, sizeof signature);
    out->len--;                         /* the closing brace */
    return nigh_buf_addf(out, ",\"signed\":{\"for\":\"%s\",\"key\":\"%s\",\"signature\":\"%s\"}}", asker, key, hex);
}

static nigh_status without_signature(const nigh_json *receipt, nigh_buf *out) {
    bool any = false;
    NIGH_TRY(nigh_buf_add_char(out, '{'));
    for (const nigh_json *m = nigh_json_first(receipt); m; m = m->next) {
        if (nigh_str_eq(m->key, NIGH_STR("signed"))) continue;
        if (any) NIGH_TRY(nigh_buf_add_char(out, ','));
        NIGH_TRY(nigh_json_add_string(out, m->key));
        NIGH_TRY(nigh_buf_add_char(out, ':'));
        NIGH_TRY(nigh_json_add_value(out, m));
        any = true;
    }
    return nigh_buf_add_char(out, '}');
}

nigh_status nigh_peer_check_receipt(const nigh_json *receipt, const uint8_t *wanted, char signer[65], char asker[65],
    nigh_err *err) {
    const nigh_json *s = nigh_json_get(receipt, NIGH_STR("signed"));
    const nigh_json *by = nigh_json_get(s, NIGH_STR("key")), *of = nigh_json_get(s, NIGH_STR("for"));
    const nigh_json *v = nigh_json_get(s, NIGH_STR("signature"));
    uint8_t key[32], who[32], signature[crypto_sign_BYTES];
    char text[192];
    nigh_buf b = NIGH_BUF(1 << 20);
    if (sodium_init() < 0) return nigh_fail(err, NIGH_EIO, 0, "the cryptography cannot be set up");
    if (!by || !of || !v || !nigh_hex_read(by->text, key, 32) || !nigh_hex_read(of->text, who, 32)
        || !nigh_hex_read(v->text, signature, sizeof signature))
        return nigh_fail(err, NIGH_EINVAL, 0, "the receipt of the other node is not signed");
    nigh_hex_write(signer, key, 32);
    nigh_hex_write(asker, who, 32);
    if (wanted && sodium_memcmp(wanted, key, 32) != 0)
        return nigh_fail(err, NIGH_EAUTH, 0, "the receipt of the other node is signed with another key");
    nigh_status status = without_signature(receipt, &b);
    size_t len = status == NIGH_OK ? receipt_text(asker, nigh_buf_str(&b), text) : 0;
    nigh_buf_release(&b);
    if (status != NIGH_OK) return nigh_fail(err, status, 0, "the receipt of the other node is too large");
    if (crypto_sign_verify_detached(signature, (const uint8_t *)text, len, key) == 0) return NIGH_OK;
    return nigh_fail(err, NIGH_EDATA, 0, "the receipt of the other node was changed: the signature does not fit it");
}
