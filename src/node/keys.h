/* keys.h - the keys that open this node to others.
 * A key is 32 random bytes written as "nigh-" and 64 hex digits. It is printed once; the file keeps only SHA-256
 * of it, one line a key:
 *     sha256:<64 hex> <unix seconds>
 * The file must belong to the user and be readable by nobody else. */
#ifndef NIGH_KEYS_H
#define NIGH_KEYS_H

#include "base/base.h"

enum { NIGH_KEYS_MAX = 256, NIGH_KEY_TEXT = 70 };

typedef struct { uint8_t hash[NIGH_KEYS_MAX][32]; size_t count; } nigh_keys;

/* Makes a key, appends its hash to the file (created 0600, O_EXCL, with its folder 0700) and writes the key to out. */
NIGH_CHECK nigh_status nigh_keys_create(const char *path, char out[NIGH_KEY_TEXT], nigh_err *err);
/* Fails: ENOENT, EINVAL (readable by others, not a regular file, or a line that is none), ERANGE (too many). */
NIGH_CHECK nigh_status nigh_keys_load(nigh_keys *k, const char *path, nigh_err *err);
/* Does the text hash to one of the keys? The time does not depend on which, nor on how much of it fits. */
bool nigh_keys_match(const nigh_keys *k, nigh_str text);
/* Which of the keys it is, in the same way; SIZE_MAX: none. */
size_t nigh_keys_find(const nigh_keys *k, nigh_str text);
/* The key in "Bearer <key>", or empty. */
nigh_str nigh_keys_bearer(nigh_str authorization);

#endif
