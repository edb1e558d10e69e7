/* kv.c - rounding keys and values into a cache and reading them back, one position at a time; see kv.h for the layout.
 * Written without branches, so that a compiler may round many values at once; a value's bits are those of plain C. */
#include "kernel/kv.h"

enum { DIMS = 64 };                 /* values that are rounded at once before they are spread over the groups */

static inline uint16_t f16_of(float f) {
    uint32_t u = nigh_bits32(f), a = u & 0x7fffffffu;
    uint32_t small = nigh_bits32(nigh_float_of(a) + 0.5f) - 0x3f000000u;        /* the sum rounds to 2^-24 steps */
    uint32_t large = (a + 0xfffu + (a >> 13 & 1u) - 0x38000000u) >> 13;
    large = large > 0x7bffu ? 0x7bffu : large;
    uint32_t h = a < 0x38800000u ? small : large;
    return (uint16_t)((u >> 16 & 0x8000u) | (a >= 0x7f800000u ? 0x7e00u : h));
}

static void store_f32(uint8_t *block, size_t dims, size_t at, const float *k, const float *v) {
    float *key = (float *)(void *)block + at / 16 * 16 * dims + at % 16;
    for (size_t d = 0; d < dims; d++) key[d * 16] = k[d];
    memcpy(block + nigh_kv_half_bytes(NIGH_TYPE_F32, dims) + at * dims * sizeof *v, v, dims * sizeof *v);
}

static void store_f16(uint8_t *block, size_t dims, size_t at, const float *k, const float *v) {
    uint16_t *key = (uint16_t *)(void *)block + at / 16 * 16 * dims + at % 16, round[DIMS];
    uint16_t *value = (uint16_t *)(void *)(block + nigh_kv_half_bytes(NIGH_TYPE_F16, dims)) + at * dims;
    for (size_t first = 0; first < dims; first += DIMS) {
        size_t count = dims - first < DIMS ? dims - first : DIMS;
        for (size_t d = 0; d < count; d++) round[d] = f16_of(k[first + d]);
        for (size_t d = 0; d < count; d++) key[(first + d) * 16] = round[d];
    }
    for (size_t d = 0; d < dims; d++) value[d] = f16_of(v[d]);
}

static void put(nigh_type type, uint8_t *half, size_t idx, int16_t q) {
    if (type == NIGH_TYPE_Q8_0) half[idx] = (uint8_t)q;
    else ((int16_t *)(void *)half)[idx] = q;
}

static void store_ints(nigh_type type, uint8_t *block, size_t dims, size_t at, const float *k, const float *v) {
    uint8_t *values = block + nigh_kv_half_bytes(type, dims);
    size_t scales = NIGH_KV_BLOCK * dims * nigh_kv_value_bytes(type);
    float *key_scales = (float *)(void *)(block + scales), *value_scales = (float *)(void *)(values + scales);
    float top = type == NIGH_TYPE_Q8_0 ? 127.0f : 8191.0f;
    int16_t q[NIGH_KV_SPAN];
    for (size_t s = 0, first = 0; s < dims / NIGH_KV_SPAN; s++, first += NIGH_KV_SPAN) {
        key_scales[nigh_kv_key_scale_at(dims, at, s)] = nigh_kv_round(k + first, top, q);
        for (size_t i = 0; i < NIGH_KV_SPAN; i++) put(type, block, nigh_kv_key_at(dims, at, first + i), q[i]);
        value_scales[nigh_kv_value_scale_at(at, s)] = nigh_kv_round(v + first, top, q);
        for (size_t i = 0; i < NIGH_KV_SPAN; i++) put(type, values, nigh_kv_value_at(dims, at, first + i), q[i]);
    }
}

void nigh_kv_store(nigh_type type, uint8_t *block, size_t dims, size_t at, const float *k, const float *v) {
    assert(at < NIGH_KV_BLOCK);
    if (type == NIGH_TYPE_F32) store_f32(block, dims, at, k, v);
    else if (type == NIGH_TYPE_F16) store_f16(block, dims, at, k, v);
    else if (type == NIGH_TYPE_Q8_0) store_ints(NIGH_TYPE_Q8_0, block, dims, at, k, v);
    else store_ints(NIGH_TYPE_I16, block, dims, at, k, v);
}

static float read(nigh_type type, const uint8_t *half, size_t idx) {
    if (type == NIGH_TYPE_F32) return ((const float *)(const void *)half)[idx];
    return nigh_f16_to_f32(((const uint16_t *)(const void *)half)[idx]);
}

float nigh_kv_key(nigh_type type, const uint8_t *block, size_t dims, size_t at, size_t d) {
    if (!nigh_kv_is_int(type)) return read(type, block, (at / 16 * dims + d) * 16 + at % 16);
    float scale = nigh_kv_scales(type, block, dims)[nigh_kv_key_scale_at(dims, at, d / NIGH_KV_SPAN)];
    return (float)nigh_kv_int(type, block, nigh_kv_key_at(dims, at, d)) * scale;
}

float nigh_kv_value(nigh_type type, const uint8_t *block, size_t dims, size_t at, size_t d) {
    const uint8_t *half = block + nigh_kv_half_bytes(type, dims);
    if (!nigh_kv_is_int(type)) return read(type, half, at * dims + d);
    float scale = nigh_kv_scales(type, half, dims)[nigh_kv_value_scale_at(at, d / NIGH_KV_SPAN)];
    return (float)nigh_kv_int(type, half, nigh_kv_value_at(dims, at, d)) * scale;
}
