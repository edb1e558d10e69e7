/* ledger.h - what became of every request, without a word of its content: one record an answer, in SQLite, hash-
 * chained and signed. nigh_ledger_add takes a record and returns at once; a thread of the ledger's own writes what
 * gathered, one transaction a batch, at most 50 ms later, with a signature (Ed25519 over the head of the chain) after
 * every 64th record and after the last. A record that was acknowledged by nigh_ledger_flush is on the disk: it survives
 * a kill of the process, and a power cut as far as the disk keeps what fsync told it to. One that was only added may be
 * lost in a crash, if that comes within the 50 ms. */
#ifndef NIGH_LEDGER_H
#define NIGH_LEDGER_H

#include "base/json.h"
#include "node/manifest.h"

enum { NIGH_RECORD_HOPS_MAX = 8, NIGH_RECORD_TEXT = 128 };

/* One try of one target, or one step of the degrade ladder. */
typedef struct {
    char target[NIGH_RECORD_TEXT], tier[8], region[16], model[NIGH_RECORD_TEXT], model_sha256[65], address[64];
    char ended[24];                 /* "ok", "timeout", "cut", ... */
    uint64_t bytes_out, bytes_in;
    uint32_t first_ms, total_ms;
    uint32_t retention_s;           /* how long this place keeps what it got (policy); UINT32_MAX: not stated */
    bool trains;
} nigh_hop;

typedef struct {
    char id[32];                    /* "rcpt-" and 16 hex digits */
    uint64_t at_ms;                 /* Unix time of the request */
    char tenant[NIGH_RECORD_TEXT], user[NIGH_RECORD_TEXT], feature[NIGH_RECORD_TEXT], class_name[64];
    char to[12];                    /* who asked: loopback, private, public */
    char why[256];                  /* why this place: rank and refused candidates */
    char degraded[96];              /* "" or the step as declared, with what it did: "cache; age=31s" */
    char outcome[24];               /* "answered", "queued", "error" */
    char rule[96];                  /* of an error: the rule that was named */
    uint64_t policy_version;
    uint32_t prompt_tokens, completion_tokens, redacted;    /* redacted: values replaced before anything left */
    double cost_usd;
    uint32_t first_ms, total_ms;
    uint32_t keep_prompt_s, keep_output_s, keep_cache_s;    /* as the feature declares */
    bool may_leave_region;          /* what the policy says of this feature (check.h) */
    nigh_hop hops[NIGH_RECORD_HOPS_MAX];    /* in their order; the last one answered */
    size_t hop_count;
    nigh_str inner;                 /* receipt of an edge node's own ledger, JSON, at most 16 KiB; copied */
} nigh_record;

typedef struct nigh_ledger nigh_ledger;

/* path: of the SQLite file, made with mode 0600 in a folder 0700. signer: kept, signs the chain; must have a key.
 * Fails: EBUSY (another process, or this one, writes it already), EINVAL (no key; the file is not ours alone), EDATA
 * (its end was changed), EIO. */
NIGH_CHECK nigh_status nigh_ledger_open(nigh_ledger **out, const char *path, const nigh_signer *signer,
    nigh_err *err);
/* Only to read, also while a node writes: find, where, receipt and verify. ENOENT when there is none. */
NIGH_CHECK nigh_status nigh_ledger_open_to_read(nigh_ledger **out, const char *path, nigh_err *err);
void nigh_ledger_close(nigh_ledger *l);     /* flushes */
/* From any thread; copies. Fails: ENOMEM, EBUSY (65,536 records wait: the disk does not keep up), ERANGE and EINVAL
 * (`inner` is too long, or no JSON), EIO (what was added before could not be written; the text says why. It is tried
 * again, and once that works, adding works again). A caller to whom this fails must not send the answer: no answer
 * without a record. */
NIGH_CHECK nigh_status nigh_ledger_add(nigh_ledger *l, const nigh_record *r, nigh_err *err);
NIGH_CHECK nigh_status nigh_ledger_flush(nigh_ledger *l, nigh_err *err);

/* One record as the JSON of a signed receipt: the record, its number, the chain before it, and the signed head that
 * covers it with the hashes of the records between. Nothing else is needed to check it but the node's public key.
 * ENOENT. */
NIGH_CHECK nigh_status nigh_ledger_receipt(nigh_ledger *l, nigh_str id, nigh_buf *out, nigh_err *err);

enum { NIGH_LEDGER_FIND_MAX = 10000 };
typedef struct {
    nigh_str feature, tenant, target;   /* "" any */
    uint64_t from_ms, to_ms;            /* of the request's time, to_ms not included; to_ms 0: no end */
    uint32_t limit;                     /* 0: 100; at most NIGH_LEDGER_FIND_MAX */
} nigh_ledger_query;
/* {"records":[{"n":17,"id":...},...],"totals":[{"target":...},...]}: records newest first, at most `limit`; totals of
 * everything that fits the question, by the target that answered: answers, bytes, degraded, errors, cost. */
NIGH_CHECK nigh_status nigh_ledger_find(nigh_ledger *l, const nigh_ledger_query *q, nigh_buf *out, nigh_err *err);
/* {"id":...,"where":...,"who":...,"kept":...,"leave":...}: where did it go, who can read it, how long is it kept,
 * may it leave the region, in plain sentences. ENOENT. */
NIGH_CHECK nigh_status nigh_ledger_where(nigh_ledger *l, nigh_str id, nigh_buf *out, nigh_err *err);

/* What a walk over the chain found. */
typedef struct {
    uint64_t first_n, records, heads, signers;  /* first_n: of the first record that is still there */
    uint64_t expired_n, expired_before_ms;      /* records up to this number were deleted because of their age; 0 */
    char ledger[33], key[65], chain[65];        /* key, chain: of the last head, "" when there is none */
} nigh_ledger_proof;
/* Walks the whole chain, every signature, and the tables that questions are answered from. public_key: who must have
 * signed; NULL: anybody, so that it only shows that everything fits together. EDATA with the number of the first record
 * that does not fit, also in err->at. */
NIGH_CHECK nigh_status nigh_ledger_verify(nigh_ledger *l, const uint8_t *public_key, nigh_ledger_proof *out,
    nigh_err *err);
typedef struct {
    uint64_t n, head_n, head_at_ms;
    char ledger[33], key[65];
} nigh_receipt_proof;
/* Does a receipt hold? It is the parsed JSON of nigh_ledger_receipt; outside bytes. public_key as above. EINVAL (no
 * receipt), EDATA (changed), EAUTH (signed with another key). */
NIGH_CHECK nigh_status nigh_ledger_check_receipt(const nigh_json *receipt, const uint8_t *public_key,
    nigh_receipt_proof *out, nigh_err *err);
/* Deletes records that were written before this time, in steps between which others may write. A signed note of it
 * stays, with the chain as it was there, so that what is left still verifies and nothing else can be missing. */
NIGH_CHECK nigh_status nigh_ledger_expire(nigh_ledger *l, uint64_t before_ms, nigh_err *err);

#endif
