/* keys.c - making, keeping and comparing keys.
 * A key has 256 bits of entropy, so a plain hash is enough to keep it: there is nothing to guess. What is compared
 * is the hash of what was sent with the hash that is kept, all bytes and all keys each time. */
#define _GNU_SOURCE
#include "node/keys.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/os.h"
#include "base/sha256.h"
#include "node/private_file.h"

static void hash_of(nigh_str text, uint8_t out[32]) {
    nigh_sha256 s;
    nigh_sha256_init(&s);
    nigh_sha256_add(&s, text);
    nigh_sha256_end(&s, out);
}

/* ---- rights ---- */

nigh_rights nigh_rights_own(void) { return (nigh_rights){ .any_user = true, .usd_day = -1, .key_idx = SIZE_MAX }; }

static bool is_name(nigh_str s, bool list) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i], low = (char)(c | 32);
        bool plain = (low >= 'a' && low <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'
            || c == '@' || c == '+';
        if (!plain && !(list && c == ',')) return false;
    }
    return s.len > 0;
}

static bool take_text(nigh_str value, bool list, char *out, size_t cap) {
    if (out[0] || !is_name(value, list) || value.len >= cap) return false;
    memcpy(out, value.ptr, value.len);
    return true;
}

static bool take_count(nigh_str value, uint32_t *out) {
    int64_t n;
    if (*out || !nigh_str_to_i64(value, &n) || n < 1 || n > UINT32_MAX) return false;
    *out = (uint32_t)n;
    return true;
}

static bool take_user(nigh_str value, nigh_rights *r) {
    if (r->any_user || r->user[0]) return false;
    if (!nigh_str_eq(value, NIGH_STR("*"))) return take_text(value, false, r->user, sizeof r->user);
    r->any_user = true;
    return true;
}

static bool take_money(nigh_str value, nigh_rights *r) {
    double usd;
    if (r->usd_day >= 0 || !nigh_str_to_f64(value, &usd) || !(usd >= 0 && usd <= 1e12)) return false;
    r->usd_day = usd;
    return true;
}

/* One `name=value` behind a key. */
static bool take_right(nigh_rights *r, nigh_str word) {
    size_t at = nigh_str_find(word, NIGH_STR("="), 0);
    if (at == SIZE_MAX) return false;
    nigh_str name = nigh_str_slice(word, 0, at), value = nigh_str_slice(word, at + 1, word.len);
    if (nigh_str_eq(name, NIGH_STR("tenant"))) return take_text(value, false, r->tenant, sizeof r->tenant);
    if (nigh_str_eq(name, NIGH_STR("user"))) return take_user(value, r);
    if (nigh_str_eq(name, NIGH_STR("features"))) return take_text(value, true, r->features, sizeof r->features);
    if (nigh_str_eq(name, NIGH_STR("rpm"))) return take_count(value, &r->rpm);
    if (nigh_str_eq(name, NIGH_STR("tpm"))) return take_count(value, &r->tpm);
    return nigh_str_eq(name, NIGH_STR("usd_day")) && take_money(value, r);
}

/* Behind the hash: when it was made, then rights. A key of before these is a hash alone. */
static bool read_rights(nigh_rights *r, nigh_str rest) {
    int64_t made;
    *r = (nigh_rights){ .usd_day = -1 };
    for (size_t at = 0, count = 0; at < rest.len; count++) {
        if (rest.ptr[at] != ' ') return false;
        size_t end = nigh_min(nigh_str_find(rest, NIGH_STR(" "), at + 1), rest.len);
        nigh_str word = nigh_str_slice(rest, at + 1, end);
        if (count == 0 ? !nigh_str_to_i64(word, &made) : !take_right(r, word)) return false;
        at = end;
    }
    return true;
}

static nigh_status add_rights(nigh_buf *b, const nigh_rights *r) {
    if (r->tenant[0]) NIGH_TRY(nigh_buf_addf(b, " tenant=%s", r->tenant));
    if (r->any_user || r->user[0]) NIGH_TRY(nigh_buf_addf(b, " user=%s", r->any_user ? "*" : r->user));
    if (r->features[0]) {               /* may be longer than one formatted piece */
        NIGH_TRY(nigh_buf_add(b, NIGH_STR(" features=")));
        NIGH_TRY(nigh_buf_add(b, nigh_str_of(r->features)));
    }
    if (r->rpm) NIGH_TRY(nigh_buf_addf(b, " rpm=%u", r->rpm));
    if (r->tpm) NIGH_TRY(nigh_buf_addf(b, " tpm=%u", r->tpm));
    return r->usd_day >= 0 ? nigh_buf_addf(b, " usd_day=%.6f", r->usd_day) : NIGH_OK;
}

/* ---- the file ---- */

/* A new line; read back before it is written, so that the file stays one that can be read. */
static nigh_status make_line(nigh_buf *line, const nigh_rights *rights, const char *kind, const char *digits,
    nigh_err *err) {
    nigh_rights back;
    NIGH_TRY(nigh_buf_addf(line, "%s:%s %llu", kind, digits, (unsigned long long)(nigh_os_unix_ms() / 1000)));
    if (rights) NIGH_TRY(add_rights(line, rights));
    if (!read_rights(&back, nigh_str_slice(nigh_buf_str(line), strlen(kind) + 1 + 64, line->len)))
        return nigh_fail(err, NIGH_EINVAL, 0,
            "names of tenants, users and features are letters, digits and . _ - @ +; features are separated by commas");
    return nigh_buf_add_char(line, '\n');
}

static nigh_status append_line(const char *path, nigh_str line, nigh_err *err) {
    int fd = -1;
    nigh_private_folders(path);
    nigh_status status = nigh_private_open(path, O_WRONLY | O_CREAT | O_APPEND, &fd, err);
    if (status == NIGH_OK && (!nigh_file_write_all(fd, line) || fsync(fd) != 0))
        status = nigh_failf(err, NIGH_EIO, 0, "%s: cannot be written", path);
    if (fd >= 0) close(fd);
    return status;
}

static nigh_status add_line(const char *path, const nigh_rights *rights, const char *kind, const char *digits,
    nigh_err *err) {
    nigh_buf line = NIGH_BUF(4096);
    nigh_status status = make_line(&line, rights, kind, digits, err);
    if (status == NIGH_OK) status = append_line(path, nigh_buf_str(&line), err);
    else if (status != NIGH_EINVAL) status = nigh_fail(err, status, 0, "not enough memory for a key");
    nigh_buf_release(&line);
    return status;
}

nigh_status nigh_keys_create(const char *path, const nigh_rights *rights, char out[NIGH_KEY_TEXT], nigh_err *err) {
    uint8_t secret[32], hash[32];
    char digits[65];
    if (!nigh_os_random(secret, sizeof secret))
        return nigh_fail(err, NIGH_EIO, 0, "the system gives no random numbers");
    nigh_sha256_hex(secret, digits);
    nigh_format(out, NIGH_KEY_TEXT, "nigh-%s", digits);
    hash_of(nigh_str_of(out), hash);
    nigh_sha256_hex(hash, digits);
    return add_line(path, rights, "sha256", digits, err);
}

nigh_status nigh_keys_add_peer(const char *path, const nigh_rights *rights, const char *public_key, nigh_err *err) {
    uint8_t key[32];
    if (!nigh_hex_read(nigh_str_of(public_key), key, sizeof key))
        return nigh_fail(err, NIGH_EINVAL, 0, "a public key is 64 hex digits in lower case");
    return add_line(path, rights, "ed25519", public_key, err);
}

static bool read_line(nigh_keys *k, nigh_str line) {
    bool peer = nigh_str_starts(line, NIGH_STR("ed25519:"));
    nigh_str prefix = peer ? NIGH_STR("ed25519:") : NIGH_STR("sha256:");
    if (!nigh_str_starts(line, prefix) || line.len < prefix.len + 64) return false;
    if (!nigh_hex_read(nigh_str_slice(line, prefix.len, prefix.len + 64), k->hash[k->count], 32)) return false;
    k->peer[k->count] = peer;
    if (!read_rights(&k->rights[k->count], nigh_str_slice(line, prefix.len + 64, line.len))) return false;
    k->rights[k->count].key_idx = k->count;
    k->count++;
    return true;
}

static nigh_status read_keys(nigh_keys *k, const char *path, nigh_str all, nigh_err *err) {
    size_t lines = 1;
    for (size_t i = 0; i < all.len; i++) lines += all.ptr[i] == '\n';
    k->rights = nigh_alloc(sizeof *k->rights, nigh_min(lines, NIGH_KEYS_MAX));
    if (!k->rights) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the keys");
    for (size_t at = 0; at < all.len;) {
        size_t end = nigh_min(nigh_str_find(all, NIGH_STR("\n"), at), all.len);
        nigh_str line = nigh_str_trim(nigh_str_slice(all, at, end));
        if (line.len && k->count == NIGH_KEYS_MAX)
            return nigh_failf(err, NIGH_ERANGE, at, "%s: more than %d keys", path, NIGH_KEYS_MAX);
        if (line.len && !read_line(k, line))
            return nigh_failf(err, NIGH_EINVAL, at,
                "%s: holds a line that is no key, or rights that do not exist (byte %zu)", path, at);
        at = end + 1;
    }
    if (!k->count)
        return nigh_failf(err, NIGH_EINVAL, 0, "%s: holds no key; make one with: nigh serve --new-key", path);
    return NIGH_OK;
}

nigh_status nigh_keys_load(nigh_keys *k, const char *path, nigh_err *err) {
    nigh_buf text = NIGH_BUF(1 << 20);
    memset(k, 0, sizeof *k);
    nigh_status status = nigh_private_read(&text, path, err);
    if (status == NIGH_ENOENT)
        nigh_failf(err, status, 0, "%s: there is no key file; make one with: nigh serve --new-key", path);
    if (status == NIGH_OK) status = read_keys(k, path, nigh_buf_str(&text), err);
    nigh_buf_release(&text);
    if (status != NIGH_OK) nigh_keys_release(k);
    return status;
}

void nigh_keys_release(nigh_keys *k) {
    nigh_free(k->rights);
    *k = (nigh_keys){ .count = 0 };
}

/* ---- comparing ---- */

static size_t find(const nigh_keys *k, const uint8_t hash[32], bool peer) {
    size_t found = 0;
    for (size_t i = 0; i < k->count; i++) {
        unsigned differs = k->peer[i] != peer;
        for (size_t j = 0; j < 32; j++) differs |= (unsigned)(hash[j] ^ k->hash[i][j]);
        size_t same = (differs - 1u) >> 31;     /* 1 exactly when differs is 0 */
        found |= (i + 1) & (0 - same);
    }
    return found - 1;
}

size_t nigh_keys_find(const nigh_keys *k, nigh_str text) {
    uint8_t hash[32];
    hash_of(text, hash);
    return find(k, hash, false);
}

size_t nigh_keys_find_peer(const nigh_keys *k, const uint8_t public_key[32]) { return find(k, public_key, true); }

bool nigh_keys_match(const nigh_keys *k, nigh_str text) { return nigh_keys_find(k, text) != SIZE_MAX; }

nigh_str nigh_keys_bearer(nigh_str a) {
    const char *word = "bearer ";
    if (a.len < 8) return NIGH_STR("");
    for (size_t i = 0; i < 7; i++) if ((a.ptr[i] | (i < 6 ? 32 : 0)) != word[i]) return NIGH_STR("");
    return nigh_str_slice(a, 7, a.len);
}
