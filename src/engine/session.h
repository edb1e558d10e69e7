/* session.h - the key/value cache of one sequence (inside of nigh_session).
 * It lies in blocks of 64 positions, one behind the other, so that it grows with the text and its memory is touched
 * from the front on; a block holds every layer and key/value head:
 *
 *     block 0 (positions 0..63)                       block 1 (64..127)
 *     | layer 0: head 0 | head 1 | .. | layer 1: head 0 | .. | layer 0: ..
 *       '-- keys, values of one head: kernel/kv.h
 *
 * The pages are reserved at once and taken, 2 MiB at a time where the system can, as positions are stored. */
#ifndef NIGH_SESSION_H
#define NIGH_SESSION_H

#include "engine/model.h"

struct nigh_session {
    const nigh_model *m;
    uint32_t limit, count;
    uint32_t written;               /* positions that hold something, also behind count; until it is wiped */
    uint32_t cache_layers;          /* 1 for encoders: a layer's cache is dead when the next begins */
    int32_t *tokens;                /* [limit] */
    nigh_type type;                 /* of the cache: F16, F32, Q8_0, I16 */
    uint8_t *cache;
    size_t cache_bytes, block_bytes, head_bytes;
    bool in_batch;                  /* guards against standing in a batch twice */
};

/* Block 0 of one head; the next ones lie block_bytes further. */
uint8_t *nigh_session_head(const nigh_session *s, uint32_t layer_idx, uint32_t kv_head);
/* The cache for one evaluation of `limit` tokens at most, also beyond what the public door allows (encoders). */
NIGH_CHECK nigh_status nigh_session_make(nigh_session **out, const nigh_model *m, uint32_t limit, nigh_type type,
                                         nigh_err *err);

#endif
