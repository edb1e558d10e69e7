/* kv.h - how the keys and values of one key/value head lie in a cache: in blocks of 64 positions, each block by itself.
 *
 * One block, dims values a head; keys stand in groups of 16, so that a vector holds values of 16 keys:
 *     F32, F16    keys [4][dims][16], values [64][dims]
 *     I16, Q8_0   keys int16 or int8 [4][dims / 2][16][2], f32 scales [4][dims / 32][16];
 *                 values int16 or int8 [32][dims][2], f32 scales [dims / 32][64]       (dims a multiple of 32)
 * In a cache of integers two neighbours stand together: of a key two of its values, of the values those of two keys.
 * One instruction adds the products of such pairs.
 *
 * Rounding: F16 to the nearest, half to even, and what is larger than 65,504 becomes 65,504. I16 and Q8_0: 32 values of
 * the head share scale = max|x| / top, with top 8,191 and 127; an integer is round-half-even(x * (top / max|x|)), all 0
 * when max|x| is below 2^-100. NaN and infinities become NaN (the scale's, with integers 0): damage stays visible. */
#ifndef NIGH_KERNEL_KV_H
#define NIGH_KERNEL_KV_H

#include "kernel/math.h"
#include "kernel/quant.h"

enum { NIGH_KV_BLOCK = 64, NIGH_KV_SPAN = 32 /* values that share a scale */ };
#define NIGH_TYPE_I16 ((nigh_type)25)      /* GGUF's id; only a cache is of this type */

static inline bool nigh_kv_is_int(nigh_type type) { return type == NIGH_TYPE_I16 || type == NIGH_TYPE_Q8_0; }
static inline size_t nigh_kv_value_bytes(nigh_type type) {
    return type == NIGH_TYPE_F32 ? 4 : type == NIGH_TYPE_Q8_0 ? 1 : 2;
}
/* Bytes of the keys of one block, and of its values: half a block. A multiple of 64. */
static inline size_t nigh_kv_half_bytes(nigh_type type, size_t dims) {
    size_t scales = nigh_kv_is_int(type) ? dims / NIGH_KV_SPAN * sizeof(float) : 0;
    return NIGH_KV_BLOCK * (dims * nigh_kv_value_bytes(type) + scales);
}

/* Where value d of a key, and of a value, stands in its half of a block of integers; and where the scale of span s. */
static inline size_t nigh_kv_key_at(size_t dims, size_t at, size_t d) {
    return (at / 16 * dims + d / 2 * 2) * 16 + at % 16 * 2 + d % 2;
}
static inline size_t nigh_kv_value_at(size_t dims, size_t at, size_t d) { return (at / 2 * dims + d) * 2 + at % 2; }
static inline size_t nigh_kv_key_scale_at(size_t dims, size_t at, size_t s) {
    return (at / 16 * (dims / NIGH_KV_SPAN) + s) * 16 + at % 16;
}
static inline size_t nigh_kv_value_scale_at(size_t at, size_t s) { return s * NIGH_KV_BLOCK + at; }
/* The scales behind the integers of a half. */
static inline const float *nigh_kv_scales(nigh_type type, const uint8_t *half, size_t dims) {
    return (const float *)(const void *)(half + NIGH_KV_BLOCK * dims * nigh_kv_value_bytes(type));
}
/* Integer number idx of a half. */
static inline int32_t nigh_kv_int(nigh_type type, const uint8_t *half, size_t idx) {
    return type == NIGH_TYPE_Q8_0 ? (int8_t)half[idx] : ((const int16_t *)(const void *)half)[idx];
}

/* 32 values as integers up to `top`; returns their scale. The largest size is found on the bits, where a NaN is above
 * infinity. Without branches in its loops, so that a compiler may round many values at once. */
static inline float nigh_kv_round(const float *x, float top, int16_t *q) {
    const float magic = 12582912.0f;            /* 1.5 * 2^23: adding it rounds half to even */
    uint32_t most = 0;
    for (size_t i = 0; i < NIGH_KV_SPAN; i++) {
        uint32_t size = nigh_bits32(x[i]) & 0x7fffffffu;
        most = size > most ? size : most;
    }
    float largest = nigh_float_of(most);
    if (largest < 0x1p-100f || most >= 0x7f800000u) {
        memset(q, 0, NIGH_KV_SPAN * sizeof *q);
        return most < 0x7f800000u ? 0.0f : __builtin_nanf("");
    }
    float by = top / largest;
    for (size_t i = 0; i < NIGH_KV_SPAN; i++)
        q[i] = (int16_t)(int32_t)(nigh_bits32(x[i] * by + magic) - nigh_bits32(magic));
    return largest / top;
}

/* Puts the key and the value of position `at` (0..63) of a block into it. k, v: [dims] */
void nigh_kv_store(nigh_type type, uint8_t *block, size_t dims, size_t at, const float *k, const float *v);
/* Value d of a key, and of a value, as f32: what they mean. */
float nigh_kv_key(nigh_type type, const uint8_t *block, size_t dims, size_t at, size_t d);
float nigh_kv_value(nigh_type type, const uint8_t *block, size_t dims, size_t at, size_t d);

#endif
