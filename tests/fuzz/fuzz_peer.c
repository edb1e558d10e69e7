/* What another node sends: tokens, sealed bodies, sealed answers, signed receipts. Nobody but the holder of the key
 * makes one that is taken, so whatever comes in here is refused, and without harm. */
#include <sodium.h>
#include <stdlib.h>

#include "node/peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool fine) { if (!fine) abort(); }

static void take_answers(nigh_str text) {
    nigh_peer_out o = { .key = { 7 } };
    nigh_buf out = NIGH_BUF(1 << 20);
    must(nigh_peer_open_event(&o, text, &out) != NIGH_OK && out.len == 0);
    must(nigh_peer_open_whole(&o, 200, text, &out) != NIGH_OK && out.len == 0);
    nigh_buf_release(&out);
}

static void take_receipt(nigh_str text) {
    nigh_json_doc doc;
    char signer[65], asker[65];
    nigh_err err;
    if (nigh_json_parse(&doc, text, &err) != NIGH_OK) return;
    must(nigh_peer_check_receipt(doc.root, NULL, signer, asker, &err) != NIGH_OK);
    nigh_json_release(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static nigh_signer signer;
    static nigh_keys keys;
    nigh_str text = { (const char *)data, size };
    nigh_peers *p;
    size_t idx;
    if (sodium_init() < 0) return 0;
    if (!signer.there) {
        signer.there = crypto_sign_keypair(signer.public_key, signer.secret) == 0;
        memset(keys.hash[0], 1, 32);
        keys.peer[0] = true;
        keys.count = 1;
    }
    must(nigh_peers_open(&p, &keys, &signer) == NIGH_OK);
    must(nigh_peers_admit(p, text, 1795284000000, &idx) == NULL);
    nigh_peers_close(p);
    take_answers(text);
    take_receipt(text);
    return 0;
}
