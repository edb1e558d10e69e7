/* keys.h - the keys that open this node to others, and what each may do.
 * A key is 32 random bytes written as "nigh-" and 64 hex digits. It is printed once; the file keeps only SHA-256
 * of it, one line a key, with the rights of the key behind it, each at most once and in any order:
 *     sha256:<64 hex> <unix seconds> tenant=acme user=* features=mail-summary,search rpm=60 tpm=40000 usd_day=2.50
 * A word that is none of these makes the whole file invalid: a limit that is misspelt must not be no limit. A key
 * without a tenant belongs to the tenant "" (one's own). user=NAME binds the key to one user; user=* lets the caller
 * name one (x-nigh-user), which only a trusted application should. The file must belong to the user and be readable
 * by nobody else.
 * Another node, which proves that it has a key of its own (peer.h), has a line
 *     ed25519:<64 hex, its public key> <unix seconds> and the same words. */
#ifndef NIGH_KEYS_H
#define NIGH_KEYS_H

#include "base/base.h"

enum { NIGH_KEYS_MAX = 256, NIGH_KEY_TEXT = 70 };

typedef struct {
    char tenant[128], user[128];    /* letters, digits and . _ - @ +; "" none */
    bool any_user;                  /* may name its user */
    char features[1024];            /* comma list; "" all */
    uint32_t rpm, tpm;              /* requests and tokens a minute; 0: no limit */
    double usd_day;                 /* negative: no limit */
    size_t key_idx;                 /* SIZE_MAX: of a node without keys */
} nigh_rights;

/* Rights of a caller that needs no key: everything, as the tenant "", and it may name its user. */
nigh_rights nigh_rights_own(void);

/* hash: of a key, or the public key of a peer. */
typedef struct {
    uint8_t hash[NIGH_KEYS_MAX][32];
    bool peer[NIGH_KEYS_MAX];
    size_t count;
    nigh_rights *rights;
} nigh_keys;

/* Makes a key, appends its hash to the file (created 0600, O_EXCL, with its folder 0700) and writes the key to out.
 * rights: NULL: all. Fails: EINVAL (a name with other letters), EIO. */
NIGH_CHECK nigh_status nigh_keys_create(const char *path, const nigh_rights *rights, char out[NIGH_KEY_TEXT],
    nigh_err *err);
/* The line of a peer: its public key as 64 hex digits in lower case. Fails as nigh_keys_create. */
NIGH_CHECK nigh_status nigh_keys_add_peer(const char *path, const nigh_rights *rights, const char *public_key,
    nigh_err *err);
/* Fails: ENOENT, EINVAL (readable by others, not a regular file, or a line that is none; `at` is its offset), ERANGE
 * (too many), ENOMEM. On success release it. */
NIGH_CHECK nigh_status nigh_keys_load(nigh_keys *k, const char *path, nigh_err *err);
void nigh_keys_release(nigh_keys *k);
/* Does the text hash to one of the keys? The time does not depend on which, nor on how much of it fits. */
bool nigh_keys_match(const nigh_keys *k, nigh_str text);
/* Which of the keys it is, in the same way; SIZE_MAX: none. */
size_t nigh_keys_find(const nigh_keys *k, nigh_str text);
/* Which of the peers has this public key; SIZE_MAX: none. */
size_t nigh_keys_find_peer(const nigh_keys *k, const uint8_t public_key[32]);
/* The key in "Bearer <key>", or empty. */
nigh_str nigh_keys_bearer(nigh_str authorization);

#endif
