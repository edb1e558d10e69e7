/* sha256.c - see sha256.h. Plain C, one block of 64 bytes at a time, about 250 MB/s on a core; through sha256_x86.c
 * where the processor can, some six times as fast.
 * The constants are the first 32 bits of the fractional parts of the cube roots of the first 64 primes
 * (round) and of the square roots of the first 8 (start), FIPS 180-4, 4.2.2 and 5.3.3. */
#include "base/sha256.h"

#include <stdatomic.h>

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

static inline uint32_t rotate(uint32_t x, unsigned by) { return x >> by | x << (32 - by); }

static inline uint32_t load_be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Names as in FIPS 180-4, 6.2.2. */
static void compress(uint32_t state[8], const uint8_t *block) {
    uint32_t w[64], v[8];
    for (size_t t = 0; t < 16; t++) w[t] = load_be32(block + 4 * t);
    for (size_t t = 16; t < 64; t++) {
        uint32_t sigma0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t sigma1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16] + sigma0 + w[t - 7] + sigma1;
    }
    memcpy(v, state, sizeof v);
    for (size_t t = 0; t < 64; t++) {
        uint32_t a = v[0], b = v[1], c = v[2], e = v[4], f = v[5], g = v[6];
        uint32_t t1 = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g))
                    + round_constants[t] + w[t];
        uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        v[7] = g;
        v[6] = f;
        v[5] = e;
        v[4] = v[3] + t1;
        v[3] = c;
        v[2] = b;
        v[1] = a;
        v[0] = t1 + t2;
    }
    for (size_t i = 0; i < 8; i++) state[i] += v[i];
}

void nigh_sha256_plain(uint32_t state[8], const uint8_t *p, size_t count) {
    for (size_t i = 0; i < count; i++) compress(state, p + 64 * i);
}

/* To ask for the instructions takes some microseconds on a virtual machine, so it is asked once. */
static void blocks(uint32_t state[8], const uint8_t *p, size_t count) {
    enum { UNKNOWN, PLAIN, X86 };
    static atomic_int kind = UNKNOWN;
    int k = atomic_load_explicit(&kind, memory_order_relaxed);
    if (k == UNKNOWN) {
        k = nigh_sha256_x86_found() ? X86 : PLAIN;
        atomic_store_explicit(&kind, k, memory_order_relaxed);
    }
    if (k == X86) nigh_sha256_x86(state, p, count, round_constants);
    else nigh_sha256_plain(state, p, count);
}

void nigh_sha256_init(nigh_sha256 *s) {
    static const uint32_t start[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
    };
    memset(s, 0, sizeof *s);
    memcpy(s->state, start, sizeof start);
}

void nigh_sha256_add(nigh_sha256 *s, nigh_str bytes) {
    const uint8_t *p = (const uint8_t *)bytes.ptr;
    size_t left = bytes.len, filled = (size_t)(s->bytes % 64);
    if (!left) return;                  /* an empty text may have no address, to which nothing may be added */
    s->bytes += left;
    if (filled) {
        size_t take = nigh_min(64 - filled, left);
        if (take) memcpy(s->block + filled, p, take);
        if (filled + take < 64) return;
        blocks(s->state, s->block, 1);
        p += take;
        left -= take;
    }
    blocks(s->state, p, left / 64);
    p += left / 64 * 64;
    left %= 64;
    if (left) memcpy(s->block, p, left);
}

void nigh_sha256_end(nigh_sha256 *s, uint8_t digest[32]) {
    static const char padding[64] = { (char)0x80 };
    uint64_t bits = s->bytes * 8;
    char length[8];
    size_t filled = (size_t)(s->bytes % 64);
    for (size_t i = 0; i < 8; i++) length[i] = (char)(bits >> (56 - 8 * i));
    nigh_sha256_add(s, (nigh_str){ padding, (filled < 56 ? 56 : 120) - filled });
    nigh_sha256_add(s, (nigh_str){ length, 8 });
    for (size_t i = 0; i < 32; i++) digest[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

void nigh_sha256_hex(const uint8_t digest[32], char out[65]) {
    nigh_hex_write(out, digest, 32);
}

void nigh_sha256_of(nigh_str bytes, char out[65]) {
    nigh_sha256 s;
    uint8_t digest[32];
    nigh_sha256_init(&s);
    nigh_sha256_add(&s, bytes);
    nigh_sha256_end(&s, digest);
    nigh_sha256_hex(digest, out);
}
