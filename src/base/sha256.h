/* sha256.h - SHA-256 (FIPS 180-4): the name of a model is the hash of its file. */
#ifndef NIGH_SHA256_H
#define NIGH_SHA256_H

#include "base/base.h"

typedef struct {
    uint32_t state[8];
    uint64_t bytes;             /* taken so far */
    uint8_t block[64];          /* the begun block: bytes % 64 of it are filled */
} nigh_sha256;

void nigh_sha256_init(nigh_sha256 *s);
void nigh_sha256_add(nigh_sha256 *s, nigh_str bytes);
void nigh_sha256_end(nigh_sha256 *s, uint8_t digest[32]);       /* s may not be used afterwards without init */
void nigh_sha256_hex(const uint8_t digest[32], char out[65]);   /* 64 lower-case digits and a terminator */

void nigh_sha256_of(nigh_str bytes, char out[65]);              /* all at once, as hexadecimal text */

/* ---- between sha256.c and sha256_x86.c, and for the test that compares them: whole blocks, in plain C and by the
 * processor's own instructions ---- */
void nigh_sha256_plain(uint32_t state[8], const uint8_t *blocks, size_t count);
bool nigh_sha256_x86_found(void);       /* does it have them? */
void nigh_sha256_x86(uint32_t state[8], const uint8_t *blocks, size_t count, const uint32_t constants[64]);

#endif
