/* test_manifest.c - ranges, and a manifest read back: its hashes, its signature, a key file that others may read. */
#define _GNU_SOURCE
#include "base/sha256.h"
#include "node/manifest.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "test.h"

static void test_ranges(void) {
    const struct { const char *field; uint64_t bytes; nigh_range_kind kind; uint64_t first, count; } cases[] = {
        { "", 10, NIGH_RANGE_WHOLE, 0, 10 }, { "bytes=0-0", 10, NIGH_RANGE_PART, 0, 1 },
        { "bytes=2-5", 10, NIGH_RANGE_PART, 2, 4 }, { "bytes=2-", 10, NIGH_RANGE_PART, 2, 8 },
        { "bytes=2-99", 10, NIGH_RANGE_PART, 2, 8 }, { "bytes=-3", 10, NIGH_RANGE_PART, 7, 3 },
        { "bytes=-30", 10, NIGH_RANGE_PART, 0, 10 }, { "bytes=10-", 10, NIGH_RANGE_OUTSIDE, 0, 10 },
        { "bytes=-0", 10, NIGH_RANGE_OUTSIDE, 0, 10 }, { "bytes=5-2", 10, NIGH_RANGE_WHOLE, 0, 10 },
        { "bytes=0-1,3-4", 10, NIGH_RANGE_WHOLE, 0, 10 }, { "lines=0-1", 10, NIGH_RANGE_WHOLE, 0, 10 },
        { "bytes=a-b", 10, NIGH_RANGE_WHOLE, 0, 10 }, { "bytes=--1", 10, NIGH_RANGE_WHOLE, 0, 10 },
        { "bytes=0-18446744073709551616", 10, NIGH_RANGE_WHOLE, 0, 10 },
        { "bytes=9223372036854775807-9223372036854775807", 10, NIGH_RANGE_OUTSIDE, 0, 10 },
        { "bytes=0-0", 0, NIGH_RANGE_OUTSIDE, 0, 0 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t first, count;
        nigh_range_kind kind = nigh_range_read(nigh_str_of(cases[i].field), cases[i].bytes, &first, &count);
        CHECK(kind == cases[i].kind);
        if (kind == NIGH_RANGE_PART) CHECK(first == cases[i].first && count == cases[i].count);
    }
}

/* Writes the signed text anew from the JSON, and verifies it. */
static bool signature_is_good(const nigh_json *m) {
    char text[1024];
    uint8_t key[32], signature[64];
    const nigh_json *c = nigh_json_get(m, NIGH_STR("chunks"))->first;
    nigh_str name = nigh_json_get(m, NIGH_STR("name"))->text, sha = nigh_json_get(m, NIGH_STR("sha256"))->text;
    int n = snprintf(text, sizeof text, "nigh-manifest 1\n%.*s\n%lld\n%lld\n%.*s\n", (int)name.len, name.ptr,
        (long long)nigh_json_get(m, NIGH_STR("bytes"))->integer,
        (long long)nigh_json_get(m, NIGH_STR("chunk_bytes"))->integer, (int)sha.len, sha.ptr);
    for (; c; c = c->next)
        n += snprintf(text + n, sizeof text - (size_t)n, "%.*s\n", (int)c->text.len, c->text.ptr);
    return nigh_hex_read(nigh_json_get(m, NIGH_STR("key"))->text, key, sizeof key)
        && nigh_hex_read(nigh_json_get(m, NIGH_STR("signature"))->text, signature, sizeof signature)
        && crypto_sign_verify_detached(signature, (const uint8_t *)text, (size_t)n, key) == 0;
}

static void test_manifest(void) {
    char folder[] = "/tmp/nigh-manifest-XXXXXX", path[64];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/keys/manifest", folder);
    size_t bytes = NIGH_CHUNK_BYTES + 3;
    char *file = calloc(1, bytes);
    nigh_signer s, again, none;
    nigh_signer_open(&s, path);
    nigh_signer_open(&again, path);
    nigh_signer_open(&none, NULL);
    CHECK(s.there && again.there && !none.there && memcmp(s.public_key, again.public_key, 32) == 0);
    char sha[65] = "", alone[65] = "", want[65];
    nigh_str whole = { file, bytes };
    nigh_pool *pool = nigh_pool_new(3);
    nigh_sha256_of(whole, want);
    nigh_buf out = NIGH_BUF(1 << 20), plain = NIGH_BUF(1 << 20);
    CHECK(nigh_manifest_make(&out, &s, NIGH_STR("a \"name\""), whole, sha, pool) == NIGH_OK);
    CHECK(nigh_manifest_make(&plain, &none, NIGH_STR("m"), whole, alone, NULL) == NIGH_OK);
    CHECK(strcmp(sha, want) == 0 && strcmp(alone, want) == 0);
    nigh_pool_free(pool);
    CHECK(nigh_str_find(nigh_buf_str(&plain), NIGH_STR("signature"), 0) == SIZE_MAX);
    nigh_json_doc doc = { 0 };
    CHECK(nigh_json_parse(&doc, nigh_buf_str(&out), NULL) == NIGH_OK);
    const nigh_json *first = nigh_json_get(doc.root, NIGH_STR("chunks"))->first;
    /* sha256 of 2^20 zeros, and of three: sha256sum says so */
    CHECK(nigh_str_eq(first->text, NIGH_STR("30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58")));
    CHECK(nigh_str_eq(first->next->text, NIGH_STR("709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c")));
    CHECK(first->next->next == NULL);
    CHECK(signature_is_good(doc.root));
    nigh_json_release(&doc);
    chmod(path, 0644);                  /* others may read it: not ours alone, so nothing is signed with it */
    nigh_signer_open(&again, path);
    CHECK(!again.there);
    nigh_buf_release(&out);
    nigh_buf_release(&plain);
    free(file);
    unlink(path);
    snprintf(path, sizeof path, "%s/keys", folder);
    rmdir(path);
    rmdir(folder);
}

TEST_MAIN(T(test_ranges), T(test_manifest))
