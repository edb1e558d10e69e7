/* peer.h - two nodes that know each other's public key (docs/format-peer.md): who asks proves its key, only the holder
 * of the other key can read the request, and only who asked can read the answer. The answer's receipt is signed.
 *
 * A request is one JSON object around a sealed box; a token in front of it names key, time, a nonce and the hash of
 * that object, signed. Each event of an answer, or a whole answer that is no stream, is sealed with a key that was in
 * the box. */
#ifndef NIGH_PEER_H
#define NIGH_PEER_H

#include "base/json.h"
#include "node/keys.h"
#include "node/manifest.h"

enum { NIGH_PEER_TOKEN = 384, NIGH_PEER_BODY_MAX = 32 << 20 };

/* ---- the node that is asked ---- */
typedef struct nigh_peers nigh_peers;
typedef struct nigh_peer_in nigh_peer_in;       /* one request */

/* keys, signer: kept. */
NIGH_CHECK nigh_status nigh_peers_open(nigh_peers **out, const nigh_keys *keys, const nigh_signer *signer);
void nigh_peers_close(nigh_peers *p);
bool nigh_peer_is_token(nigh_str bearer);
/* A known key, signed for this node, of these minutes, never seen before. NULL: it is not. Free it. */
nigh_peer_in *nigh_peers_admit(nigh_peers *p, nigh_str token, uint64_t now_ms, size_t *key_idx);
void nigh_peer_in_free(nigh_peer_in *in);
/* Puts what the box held in the place of body. EAUTH: it is not the body that was signed for, or not for us. */
NIGH_CHECK nigh_status nigh_peer_open(nigh_peer_in *in, nigh_buf *body);
bool nigh_peer_is_open(const nigh_peer_in *in);
/* Append a sealed event; a sealed JSON text. One thread at a time. */
NIGH_CHECK nigh_status nigh_peer_seal_event(nigh_peer_in *in, nigh_str event, nigh_buf *out);
NIGH_CHECK nigh_status nigh_peer_seal_whole(nigh_peer_in *in, int status, nigh_str body, nigh_buf *out);
/* out ends in a receipt, an object that begins at `from`: it gets the member `signed`. */
NIGH_CHECK nigh_status nigh_peer_sign(const nigh_peer_in *in, nigh_buf *out, size_t from);

/* ---- the node that asks ---- */
/* Our key, and the other's public one. */
typedef struct { const nigh_signer *signer; const uint8_t *key; } nigh_peer_line;
typedef struct { uint8_t key[32]; uint64_t next; } nigh_peer_out;

/* Seals body in its place and writes the token. Fails: EINVAL (the key is none), ENOMEM, ERANGE, EIO (no random
 * numbers). */
NIGH_CHECK nigh_status nigh_peer_ask(const nigh_peer_line *line, nigh_buf *body, char token[NIGH_PEER_TOKEN],
    nigh_peer_out *o, nigh_err *err);
/* Append what was sealed. data: of the next event; body: of a whole answer with this status. EAUTH: not from the
 * holder of the other key, or not this one's turn. */
NIGH_CHECK nigh_status nigh_peer_open_event(nigh_peer_out *o, nigh_str data, nigh_buf *out);
NIGH_CHECK nigh_status nigh_peer_open_whole(const nigh_peer_out *o, int status, nigh_str body, nigh_buf *out);

/* ---- receipts ---- */
/* Is this a receipt that a node signed for another? key: whose signature counts; NULL: any. signer, asker: get both
 * keys in hex. EINVAL (not signed), EDATA (changed), EAUTH (another key). */
NIGH_CHECK nigh_status nigh_peer_check_receipt(const nigh_json *receipt, const uint8_t *key, char signer[65],
    char asker[65], nigh_err *err);

#endif
