/* session.h - the key/value cache of one sequence (inside of nigh_session).
 * Layout of one layer and one key/value head, all f32:
 *     keys    [ceil(limit/16)][head_dim][16]   sixteen positions side by side: lanes of a vector
 *     values  [limit][head_dim]
 * The pages are reserved at once and touched only as the text grows. */
#ifndef NIGH_SESSION_H
#define NIGH_SESSION_H

#include "engine/model.h"

struct nigh_session {
    const nigh_model *m;
    uint32_t limit, count;
    uint32_t cache_layers;          /* 1 for encoders: a layer's cache is dead when the next begins */
    int32_t *tokens;                /* [limit] */
    float *cache;
    size_t cache_bytes, k_floats, v_floats; /* floats of one layer and head */
    bool in_batch;                  /* guards against standing in a batch twice */
};

float *nigh_session_keys(const nigh_session *s, uint32_t layer_idx, uint32_t kv_head);
float *nigh_session_values(const nigh_session *s, uint32_t layer_idx, uint32_t kv_head);
/* The cache for one evaluation of `limit` tokens at most, also beyond what the public door allows (encoders). */
NIGH_CHECK nigh_status nigh_session_make(nigh_session **out, const nigh_model *m, uint32_t limit, nigh_err *err);

#endif
