/* test_sha256.c - the examples of FIPS 180-4 and its test vectors, and every split of a text. */
#include "base/os.h"
#include "base/sha256.h"
#include "test.h"

static void hash(nigh_str text, size_t piece, char out[65]) {
    nigh_sha256 s;
    uint8_t digest[32];
    nigh_sha256_init(&s);
    for (size_t at = 0; at < text.len; at += piece) nigh_sha256_add(&s, nigh_str_slice(text, at, at + piece));
    nigh_sha256_end(&s, digest);
    nigh_sha256_hex(digest, out);
}

static void test_vectors(void) {
    const struct { nigh_str text; const char *want; } cases[] = {
        { NIGH_STR(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { NIGH_STR("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { NIGH_STR("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" } };
    char got[65];
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        hash(cases[i].text, 64, got);
        CHECK_MSG(strcmp(got, cases[i].want) == 0, "%s", got);
    }
}

static void test_million(void) {
    static char text[1000000];
    char got[65];
    memset(text, 'a', sizeof text);
    hash((nigh_str){ text, sizeof text }, 4096, got);
    CHECK_MSG(strcmp(got, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") == 0, "%s", got);
}

static void test_splits(void) {
    char text[200], whole[65], got[65];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * 7);
    for (size_t len = 0; len <= sizeof text; len++) {
        hash((nigh_str){ text, len }, sizeof text, whole);
        for (size_t piece = 1; piece < 70; piece += 1 + len % 5) {
            hash((nigh_str){ text, len }, piece, got);
            CHECK_MSG(strcmp(got, whole) == 0, "length %zu, pieces of %zu", len, piece);
        }
    }
}

/* Plain C alone, on a text that is padded here. */
static void hash_plain(nigh_str text, char out[65]) {
    static uint8_t padded[100000 + 128];
    nigh_sha256 s;
    uint8_t digest[32];
    size_t total = (text.len + 9 + 63) / 64 * 64;
    memset(padded, 0, total);
    if (text.len) memcpy(padded, text.ptr, text.len);
    padded[text.len] = 0x80;
    for (size_t i = 0; i < 8; i++) padded[total - 1 - i] = (uint8_t)((uint64_t)text.len * 8 >> (8 * i));
    nigh_sha256_init(&s);
    nigh_sha256_plain(s.state, padded, total / 64);
    for (size_t i = 0; i < 32; i++) digest[i] = (uint8_t)(s.state[i / 4] >> (24 - 8 * (i % 4)));
    nigh_sha256_hex(digest, out);
}

/* Where there are instructions for it, they are what hash() takes; plain C gives the same. */
static void test_instructions(void) {
    static char text[100000];
    char whole[65], pieces[65], plain[65];
    uint64_t seed = test_seed();
    hash_plain(NIGH_STR("abc"), plain);
    CHECK(strcmp(plain, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
    for (int round = 0; round < 300; round++) {
        size_t len = test_rand(&seed) % (round % 3 ? 300 : sizeof text);
        for (size_t i = 0; i < len; i++) text[i] = (char)test_rand(&seed);
        hash((nigh_str){ text, len }, sizeof text, whole);
        hash((nigh_str){ text, len }, 1 + test_rand(&seed) % 1000, pieces);
        hash_plain((nigh_str){ text, len }, plain);
        CHECK_MSG(strcmp(whole, pieces) == 0 && strcmp(whole, plain) == 0, "NIGH_SEED=%llu, length %zu",
                  (unsigned long long)test_seed(), len);
    }
    if (!nigh_sha256_x86_found()) printf("  this processor has no instructions for SHA-256: plain C alone\n");
}

TEST_MAIN(T(test_vectors), T(test_million), T(test_splits), T(test_instructions))
