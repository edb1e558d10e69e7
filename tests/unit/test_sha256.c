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

/* In one piece a text takes the processor's instructions, where there are any; in small pieces never. */
static void test_instructions(void) {
    static char text[100000];
    char whole[65], pieces[65];
    uint64_t seed = test_seed();
    if (!nigh_sha256_x86_found()) TEST_SKIP("this processor has no instructions for SHA-256");
    for (int round = 0; round < 20; round++) {
        size_t len = 16384 + test_rand(&seed) % (sizeof text - 16384);
        for (size_t i = 0; i < len; i++) text[i] = (char)test_rand(&seed);
        hash((nigh_str){ text, len }, len, whole);
        hash((nigh_str){ text, len }, 1000, pieces);
        CHECK_MSG(strcmp(whole, pieces) == 0, "NIGH_SEED=%llu, length %zu", (unsigned long long)test_seed(), len);
    }
}

TEST_MAIN(T(test_vectors), T(test_million), T(test_splits), T(test_instructions))
