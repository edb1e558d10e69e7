/* manifest.c - the manifest of a model file, its signature, and Range fields.
 *
 * What is signed is not the JSON but a text that can be written in one way only, one value a line:
 *
 *     nigh-manifest 1 | name | bytes | chunk_bytes | sha256 of the file | sha256 of chunk 0 | sha256 of chunk 1 | ...
 *
 * so that a reader verifies what it understood, whatever order or spaces the JSON had. Ed25519 is libsodium's. */
#define _GNU_SOURCE
#include "node/manifest.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/sha256.h"

enum { TEXT_MAX = 64 << 20 };

static bool read_seed(const char *path, uint8_t seed[crypto_sign_SEEDBYTES]) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return false;
    bool ours = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && !(st.st_mode & 077) && st.st_uid == geteuid();
    bool got = ours && read(fd, seed, crypto_sign_SEEDBYTES) == crypto_sign_SEEDBYTES;
    close(fd);
    return got;
}

/* The two folders above the file are made when they are missing. */
static bool write_seed(const char *path, const uint8_t seed[crypto_sign_SEEDBYTES]) {
    char folder[4096];
    if (nigh_format(folder, sizeof folder, "%s", path) >= sizeof folder) return false;
    for (char *p = folder + 1; *p; p++)
        if (*p == '/') { *p = '\0'; (void)mkdir(folder, 0700); *p = '/'; }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return false;
    bool ok = write(fd, seed, crypto_sign_SEEDBYTES) == crypto_sign_SEEDBYTES && fsync(fd) == 0;
    close(fd);
    if (!ok) (void)unlink(path);
    return ok;
}

void nigh_signer_open(nigh_signer *s, const char *path) {
    uint8_t seed[crypto_sign_SEEDBYTES];
    *s = (nigh_signer){ .there = false };
    if (!path || sodium_init() < 0) return;
    if (!read_seed(path, seed)) {
        randombytes_buf(seed, sizeof seed);
        if (!write_seed(path, seed)) return;
    }
    s->there = crypto_sign_seed_keypair(s->public_key, s->secret, seed) == 0;
    sodium_memzero(seed, sizeof seed);
}

/* ---- hashes ---- */

typedef struct { nigh_str file; char *whole, (*chunks)[65]; } hashing;

/* Part 0 is the whole file, part i its chunk i - 1. */
static void hash_parts(void *ud, size_t worker, size_t begin, size_t end) {
    const hashing *h = ud;
    (void)worker;
    for (size_t i = begin; i < end; i++) {
        size_t at = i ? (i - 1) * NIGH_CHUNK_BYTES : 0, bytes = i ? NIGH_CHUNK_BYTES : h->file.len;
        nigh_sha256_of(nigh_str_slice(h->file, at, at + bytes), i ? h->chunks[i - 1] : h->whole);
    }
}

static nigh_status add_chunks(nigh_buf *text, const hashing *h, size_t count) {
    for (size_t i = 0; i < count; i++) NIGH_TRY(nigh_buf_addf(text, "%s\n", h->chunks[i]));
    return NIGH_OK;
}

static nigh_status add_signature(nigh_buf *out, const nigh_signer *s, nigh_str text) {
    uint8_t signature[crypto_sign_BYTES];
    char key[65], hex[2 * crypto_sign_BYTES + 1];
    if (!s->there) return NIGH_OK;
    crypto_sign_detached(signature, NULL, (const uint8_t *)text.ptr, text.len, s->secret);
    nigh_hex_write(key, s->public_key, sizeof s->public_key);
    nigh_hex_write(hex, signature, sizeof signature);
    return nigh_buf_addf(out, ",\"key\":\"%s\",\"signature\":\"%s\"", key, hex);
}

static nigh_status add_json(nigh_buf *out, const nigh_signer *s, nigh_str name, nigh_str file, const char *sha256,
                            nigh_str text, size_t chunks_at) {
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("{\"format\":\"nigh-manifest\",\"version\":1,\"name\":")));
    NIGH_TRY(nigh_json_add_string(out, name));
    NIGH_TRY(nigh_buf_addf(out, ",\"bytes\":%zu,\"chunk_bytes\":%d,\"sha256\":\"%s\",\"file\":\"file\",\"chunks\":[",
                           file.len, NIGH_CHUNK_BYTES, sha256));
    for (size_t at = chunks_at; at < text.len; at += 65)
        NIGH_TRY(nigh_buf_addf(out, "%s\"%.64s\"", at > chunks_at ? "," : "", text.ptr + at));
    NIGH_TRY(nigh_buf_add_char(out, ']'));
    NIGH_TRY(add_signature(out, s, text));
    return nigh_buf_add(out, NIGH_STR("}\n"));
}

static nigh_status write_manifest(nigh_buf *out, const nigh_signer *s, nigh_str name, const hashing *h, size_t chunks) {
    nigh_buf text = NIGH_BUF(TEXT_MAX);
    nigh_status status = nigh_buf_addf(&text, "nigh-manifest 1\n%.*s\n%zu\n%d\n%s\n", (int)name.len, name.ptr,
                                       h->file.len, NIGH_CHUNK_BYTES, h->whole);
    size_t chunks_at = text.len;
    if (status == NIGH_OK) status = add_chunks(&text, h, chunks);
    if (status == NIGH_OK) status = add_json(out, s, name, h->file, h->whole, nigh_buf_str(&text), chunks_at);
    nigh_buf_release(&text);
    return status;
}

nigh_status nigh_manifest_make(nigh_buf *out, const nigh_signer *s, nigh_str name, nigh_str file, char sha256[65],
                               nigh_pool *pool) {
    size_t chunks = file.len / NIGH_CHUNK_BYTES + (file.len % NIGH_CHUNK_BYTES != 0);
    hashing h = { file, sha256, nigh_alloc(chunks + 1, sizeof *h.chunks) };
    if (!h.chunks) return NIGH_ENOMEM;
    nigh_pool_run(pool, hash_parts, &h, chunks + 1, 1);
    nigh_status status = write_manifest(out, s, name, &h, chunks);
    nigh_free(h.chunks);
    return status;
}

/* ---- ranges ---- */

static bool read_number(nigh_str s, uint64_t *out) {
    int64_t n;
    if (!s.len || s.ptr[0] == '-' || !nigh_str_to_i64(s, &n)) return false;
    *out = (uint64_t)n;
    return true;
}

nigh_range_kind nigh_range_read(nigh_str field, uint64_t file_bytes, uint64_t *first, uint64_t *count) {
    nigh_str unit = NIGH_STR("bytes="), all = nigh_str_trim(field);
    uint64_t from = 0, last = 0;
    *first = 0;
    *count = file_bytes;
    if (!nigh_str_starts(all, unit) || nigh_str_find(all, NIGH_STR(","), 0) != SIZE_MAX) return NIGH_RANGE_WHOLE;
    nigh_str spec = nigh_str_slice(all, unit.len, all.len);
    size_t dash = nigh_str_find(spec, NIGH_STR("-"), 0);
    if (dash == SIZE_MAX) return NIGH_RANGE_WHOLE;
    nigh_str a = nigh_str_slice(spec, 0, dash), b = nigh_str_slice(spec, dash + 1, spec.len);
    if (!a.len) {                       /* the last bytes of the file */
        if (!read_number(b, &last)) return NIGH_RANGE_WHOLE;
        if (last == 0 || file_bytes == 0) return NIGH_RANGE_OUTSIDE;
        *count = last < file_bytes ? last : file_bytes;
        *first = file_bytes - *count;
        return NIGH_RANGE_PART;
    }
    if (!read_number(a, &from) || (b.len && (!read_number(b, &last) || last < from))) return NIGH_RANGE_WHOLE;
    if (from >= file_bytes) return NIGH_RANGE_OUTSIDE;
    if (!b.len || last >= file_bytes) last = file_bytes - 1;
    *first = from;
    *count = last - from + 1;
    return NIGH_RANGE_PART;
}
