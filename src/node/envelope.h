/* envelope.h - a policy that is signed: who let it out, and that no older one comes back (docs/format-policy.md).
 *
 *     {"format":"nigh-policy","version":1,"id":"NAME","policy":"the policy file's bytes","key":"hex","signature":"hex"}
 *
 * The signature (Ed25519) stands over "nigh-policy 1\n", the id, a line feed, and exactly the bytes of the policy. The
 * policy's own `version` must never fall: the highest one that was ever loaded under an id is kept in a small file of
 * ours, with its hash, so that a second policy of the same version is refused too. Whoever can delete that file can
 * bring an older policy back; the signature still holds then. */
#ifndef NIGH_ENVELOPE_H
#define NIGH_ENVELOPE_H

#include "node/manifest.h"
#include "place/policy.h"

enum { NIGH_ENVELOPE_ID_MAX = 64, NIGH_ENVELOPE_BYTES_MAX = 16 << 20 };
typedef struct { uint8_t key[32]; } nigh_trusted_key;

typedef struct {
    const char *path;               /* of a policy, plain or in an envelope; "-": standard input */
    const nigh_trusted_key *trusted;    /* whose signature counts; with any, a plain policy is refused */
    size_t trusted_count;
    const char *state_path;         /* made with mode 0600; NULL: versions are not watched */
    bool require_signed;            /* refuse a plain policy, also without trusted keys */
} nigh_envelope_opts;

/* What is known of the policy that was loaded. */
typedef struct {
    char id[NIGH_ENVELOPE_ID_MAX + 1];  /* of a plain policy: "" */
    bool is_signed, trusted;        /* trusted: by one of the keys that were given */
    char key[65], sha256[65];       /* key: who signed, hex; sha256: of the policy's bytes */
    uint64_t version;
} nigh_envelope_facts;

/* Reads, checks and parses. facts may be NULL. An expired policy is not refused here: decisions narrow to the device
 * (decide.h). A plain policy's version may not fall either, but its text may change under the same version.
 * Fails: as nigh_policy_parse, with the path, line and column in the sentence; EAUTH (unsigned where a signature is
 * wanted, a signature that does not fit, an unknown key); EPOLICY (an older version, or another policy of the same
 * version); EIO (the state cannot be read or written: the policy is not used then). */
NIGH_CHECK nigh_status nigh_envelope_load(nigh_policy **out, nigh_envelope_facts *facts, const nigh_envelope_opts *o,
                                          nigh_err *err);
/* Appends the envelope of a policy. Fails: as nigh_policy_parse; EINVAL (no key, an id that is none). */
NIGH_CHECK nigh_status nigh_envelope_sign(nigh_buf *out, nigh_str policy, nigh_str id, const nigh_signer *s,
                                          nigh_err *err);
/* 64 hex digits. */
bool nigh_trusted_key_parse(nigh_str text, nigh_trusted_key *out);

#endif
