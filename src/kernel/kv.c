/* kv.c - rounding keys and values into a cache and reading them back, one position at a time; see kv.h for the layout.
 * Written without branches, so that a compiler may round many values at once; a value's bits are those of plain C. */
#include "kernel/kv.h"

#include "kernel/math.h"

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

/* 32 values as int8; returns their scale. The largest size is found on the bits, where a NaN is above infinity. */
static float round_span(const float *x, int8_t *q) {
    const float magic = 12582912.0f;            /* 1.5 * 2^23: adding it rounds half to even */
    uint32_t top = 0;
    for (size_t i = 0; i < NIGH_KV_SPAN; i++) {
        uint32_t size = nigh_bits32(x[i]) & 0x7fffffffu;
        top = size > top ? size : top;
    }
    float largest = nigh_float_of(top);
    if (largest < 0x1p-100f || top >= 0x7f800000u) {
        memset(q, 0, NIGH_KV_SPAN);
        return top < 0x7f800000u ? 0.0f : __builtin_nanf("");
    }
    float by = 127.0f / largest;
    for (size_t i = 0; i < NIGH_KV_SPAN; i++)
        q[i] = (int8_t)(int32_t)(nigh_bits32(x[i] * by + magic) - nigh_bits32(magic));
    return largest / 127.0f;
}

static float *scales_of(const uint8_t *half, size_t dims) {
    return (float *)(uintptr_t)(half + NIGH_KV_BLOCK * dims);
}

static void store_q8_0(uint8_t *block, size_t dims, size_t at, const float *k, const float *v) {
    uint8_t *values = block + nigh_kv_half_bytes(NIGH_TYPE_Q8_0, dims), *key = block + at / 16 * 16 * dims + at % 16;
    size_t spans = dims / NIGH_KV_SPAN;
    int8_t round[NIGH_KV_SPAN];
    for (size_t s = 0; s < spans; s++) {
        scales_of(block, dims)[(at / 16 * spans + s) * 16 + at % 16] = round_span(k + s * NIGH_KV_SPAN, round);
        for (size_t d = 0; d < NIGH_KV_SPAN; d++) key[(s * NIGH_KV_SPAN + d) * 16] = (uint8_t)round[d];
        scales_of(values, dims)[at * spans + s] = round_span(v + s * NIGH_KV_SPAN, round);
        memcpy(values + at * dims + s * NIGH_KV_SPAN, round, sizeof round);
    }
}

void nigh_kv_store(nigh_type type, uint8_t *block, size_t dims, size_t at, const float *k, const float *v) {
    assert(at < NIGH_KV_BLOCK);
    if (type == NIGH_TYPE_F32) store_f32(block, dims, at, k, v);
    else if (type == NIGH_TYPE_F16) store_f16(block, dims, at, k, v);
    else store_q8_0(block, dims, at, k, v);
}

static float read(nigh_type type, const uint8_t *half, size_t idx, float scale) {
    if (type == NIGH_TYPE_F32) return ((const float *)(const void *)half)[idx];
    if (type == NIGH_TYPE_F16) return nigh_f16_to_f32(((const uint16_t *)(const void *)half)[idx]);
    return (float)(int8_t)half[idx] * scale;
}

float nigh_kv_key(nigh_type type, const uint8_t *block, size_t dims, size_t at, size_t d) {
    size_t scale = (at / 16 * (dims / NIGH_KV_SPAN) + d / NIGH_KV_SPAN) * 16 + at % 16;
    return read(type, block, (at / 16 * dims + d) * 16 + at % 16,
                type == NIGH_TYPE_Q8_0 ? scales_of(block, dims)[scale] : 1.0f);
}

float nigh_kv_value(nigh_type type, const uint8_t *block, size_t dims, size_t at, size_t d) {
    const uint8_t *half = block + nigh_kv_half_bytes(type, dims);
    size_t scale = at * (dims / NIGH_KV_SPAN) + d / NIGH_KV_SPAN;
    return read(type, half, at * dims + d, type == NIGH_TYPE_Q8_0 ? scales_of(half, dims)[scale] : 1.0f);
}
