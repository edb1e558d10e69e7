/* kv.h - how the keys and values of one key/value head lie in a cache: in blocks of 64 positions, each block by itself.
 *
 * One block, dims values a head; keys stand in groups of 16, so that a vector holds one value of 16 keys:
 *     F32, F16    keys [4][dims][16], values [64][dims]
 *     Q8_0        keys int8 [4][dims][16], f32 scales [4][dims / 32][16];
 *                 values int8 [64][dims], f32 scales [64][dims / 32]      (dims a multiple of 32)
 * Rounding: F16 to the nearest, half to even, and what is larger than 65,504 becomes 65,504; Q8_0 as activations are
 * (kernel.h): scale = max|x| / 127 over 32 values of the head. NaN and infinities become NaN: damage stays visible. */
#ifndef NIGH_KERNEL_KV_H
#define NIGH_KERNEL_KV_H

#include "kernel/quant.h"

enum { NIGH_KV_BLOCK = 64, NIGH_KV_SPAN = 32 /* values that share a scale */ };

static inline size_t nigh_kv_value_bytes(nigh_type type) {
    return type == NIGH_TYPE_F32 ? 4 : type == NIGH_TYPE_F16 ? 2 : 1;
}
/* Bytes of the keys of one block, and of its values: half a block. A multiple of 64. */
static inline size_t nigh_kv_half_bytes(nigh_type type, size_t dims) {
    size_t scales = type == NIGH_TYPE_Q8_0 ? dims / NIGH_KV_SPAN * sizeof(float) : 0;
    return NIGH_KV_BLOCK * (dims * nigh_kv_value_bytes(type) + scales);
}

/* Puts the key and the value of position `at` (0..63) of a block into it. k, v: [dims] */
void nigh_kv_store(nigh_type type, uint8_t *block, size_t dims, size_t at, const float *k, const float *v);
/* Value d of a key, and of a value, as f32: what the arithmetic sees. */
float nigh_kv_key(nigh_type type, const uint8_t *block, size_t dims, size_t at, size_t d);
float nigh_kv_value(nigh_type type, const uint8_t *block, size_t dims, size_t at, size_t d);

#endif
