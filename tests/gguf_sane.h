/* gguf_sane.h - what must hold for every file that the parser accepts: everything it hands out lies inside the file,
 * does not overlap, is found by its name, and reads the same from both sides. Shared by the tests and the fuzz
 * target. */
#ifndef NIGH_GGUF_SANE_H
#define NIGH_GGUF_SANE_H

#include "engine/gguf.h"

static inline bool sane_span(const nigh_gguf *g, const void *p, uint64_t bytes) {
    const char *at = p;
    if (bytes == 0) return true;
    return at >= g->file.ptr && at <= g->file.ptr + g->file.len && bytes <= (uint64_t)(g->file.ptr + g->file.len - at);
}

/* Reads every item once; the sum keeps the reads alive. */
static inline const char *sane_array(const nigh_gguf *g, const nigh_gguf_value *v, uint64_t *sum) {
    size_t cursor = 0;
    uint64_t count = 0;
    nigh_str item;
    if (v->item_type == NIGH_GGUF_ARRAY) return "an array of arrays";
    if (v->item_type == NIGH_GGUF_STRING) {
        for (; nigh_gguf_next_string(v, &cursor, &item); count++) {
            if (!sane_span(g, item.ptr, item.len)) return "a string of an array outside the file";
            if (item.len) *sum += (uint8_t)item.ptr[0] + (uint8_t)item.ptr[item.len - 1];
        }
        return count == v->count && cursor == v->bytes.len ? NULL : "strings of an array do not add up";
    }
    for (uint64_t i = 0; i < v->count; i++) {
        if (v->item_type == NIGH_GGUF_F32 || v->item_type == NIGH_GGUF_F64) *sum += nigh_gguf_item_float(v, i) > 0;
        else *sum += (uint64_t)nigh_gguf_item_int(v, i);
    }
    return NULL;
}

static inline const char *sane_value(const nigh_gguf *g, const nigh_gguf_value *v, uint64_t *sum) {
    uint32_t u;
    float f;
    bool b;
    nigh_str s;
    const nigh_gguf_value *array;
    if (v->key.len == 0 || !sane_span(g, v->key.ptr, v->key.len)) return "a key outside the file";
    if (!sane_span(g, v->bytes.ptr, v->bytes.len)) return "a value outside the file";
    if (v->bytes.len && v->bytes.ptr != g->file.ptr + v->at) return "a value is not where it says";
    if (nigh_gguf_find(g, v->key) != v) return "a key that is not found";
    int hits = (nigh_gguf_u32(g, v->key, &u, NULL) == NIGH_OK) + (nigh_gguf_f32(g, v->key, &f, NULL) == NIGH_OK) +
               (nigh_gguf_bool(g, v->key, &b, NULL) == NIGH_OK) + (nigh_gguf_string(g, v->key, &s, NULL) == NIGH_OK);
    if (v->type == NIGH_GGUF_ARRAY) {
        if (hits || nigh_gguf_array(g, v->key, v->item_type, &array, NULL) != NIGH_OK || array != v)
            return "an array that cannot be got";
        return sane_array(g, v, sum);
    }
    return hits <= 1 ? NULL : "a value of two types";
}

/* NULL when all is well, else what is not. */
static inline const char *sane_gguf(const nigh_gguf *g) {
    uint64_t sum = 0, end = 0;
    for (size_t i = 0; i < g->value_count; i++) {
        const char *why = sane_value(g, &g->values[i], &sum);
        if (why) return why;
    }
    for (size_t i = 0; i < g->tensor_count; i++) {
        const nigh_gguf_tensor *t = &g->tensors[i];
        const nigh_type_info *info = nigh_type_find((uint32_t)t->type);
        uint64_t values = 1;
        if (!info || t->dim_count < 1 || t->dim_count > 4) return "a tensor of no type or shape";
        for (size_t d = 0; d < 4; d++) values *= t->dims[d];
        if (values == 0 || t->dims[0] % info->block_values
            || values / info->block_values * info->block_bytes != t->bytes)
            return "a tensor whose bytes are not its values";
        if (!sane_span(g, t->name.ptr, t->name.len) || !sane_span(g, t->data, t->bytes))
            return "a tensor outside the file";
        if ((const char *)t->data != g->file.ptr + t->at || t->at < end) return "tensors overlap";
        end = t->at + t->bytes;
        sum += t->data[0] + t->data[t->bytes - 1];
        if (nigh_gguf_tensor_find(g, t->name) != t) return "a tensor that is not found";
    }
    if (nigh_gguf_find(g, NIGH_STR("")) || nigh_gguf_tensor_find(g, NIGH_STR("\xff")))
        return "something is found that is not there";
    return sum == UINT64_MAX ? "an unlikely sum" : NULL;
}

#endif
