/* manifest.h - what a browser must know of a model file to fetch it in pieces, and to know that it got the right ones:
 * the hash of every chunk of 1 MiB, signed by this node. The format: docs/format-manifest.md. */
#ifndef NIGH_MANIFEST_H
#define NIGH_MANIFEST_H

#include "base/pool.h"

enum { NIGH_CHUNK_BYTES = 1 << 20 };

/* The key that signs; made once, kept in a file that only the user reads. */
typedef struct { uint8_t secret[64], public_key[32]; bool there; } nigh_signer;

/* Reads the key file, or makes it. Without one (no home, a full disk) manifests stand unsigned: `there` stays false. */
void nigh_signer_open(nigh_signer *s, const char *path);

/* Appends the manifest, a JSON object. file: the whole model file; borrowed. sha256: gets the hash of the whole, in
 * hex. All of it is hashed twice, which takes longer than anything else that is done with it; the threads share it.
 * Fails: ENOMEM, ERANGE (over the limit of `out`). */
NIGH_CHECK nigh_status nigh_manifest_make(nigh_buf *out, const nigh_signer *s, nigh_str name, nigh_str file,
    char sha256[65], nigh_pool *pool);

/* The bytes that a Range field asks for (RFC 9110 section 14). A field that is absent, has several parts or another
 * unit means the whole file. */
typedef enum { NIGH_RANGE_WHOLE, NIGH_RANGE_PART, NIGH_RANGE_OUTSIDE } nigh_range_kind;
nigh_range_kind nigh_range_read(nigh_str field, uint64_t file_bytes, uint64_t *first, uint64_t *count);

#endif
