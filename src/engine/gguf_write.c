/* gguf_write.c - writes GGUF files: version 3, little endian, alignment 32. See gguf.h and docs/format-gguf.md.
 *
 * The writer keeps two buffers, the keys as they will stand in the file and the list of tensors, and copies
 * everything into one block at the end:
 *
 *     head (24 bytes) | keys | tensor lines | pad to 32 | data, pad, data, pad, ...
 *
 * Offsets follow from the sizes, so a tensor's line is complete when it is put. The same calls give the same
 * bytes. Mistakes of the caller that depend on data (a name that is too long, a row that does not fit its
 * type) are kept like a failed allocation and come out of nigh_gguf_finish with the name of the culprit. */
#include "engine/gguf.h"

typedef struct {
    const void *data;
    uint64_t bytes;
} piece;

struct nigh_gguf_writer {
    nigh_buf keys, lines, pieces;   /* pieces: an array of piece */
    uint64_t key_count, tensor_count, data_bytes;
    nigh_status status;             /* the first failure, and its words */
    nigh_err err;
};

static const size_t header_bytes_max = (size_t)1 << 30; /* of keys, and of tensor lines */

static void keep(nigh_gguf_writer *w, nigh_status status, const char *what, nigh_str name, const char *why) {
    if (w->status != NIGH_OK || status == NIGH_OK) return;
    w->status = status;
    (void)nigh_failf(&w->err, status, 0, "%s '%.*s': %s", what, (int)nigh_min(name.len, 80), name.ptr, why);
}

static nigh_status add_uint(nigh_buf *b, uint64_t v, size_t bytes) {
    char out[8];
    for (size_t i = 0; i < bytes; i++) out[i] = (char)(v >> (8 * i));
    return nigh_buf_add(b, (nigh_str){ out, bytes });
}

static nigh_status add_string(nigh_buf *b, nigh_str s) {
    if (s.len > NIGH_GGUF_STRING_BYTES_MAX) return NIGH_ERANGE;
    NIGH_TRY(add_uint(b, s.len, 8));
    return nigh_buf_add(b, s);
}

static uint64_t aligned(uint64_t n) {
    return (n + NIGH_GGUF_ALIGNMENT - 1) & ~(uint64_t)(NIGH_GGUF_ALIGNMENT - 1);
}

static uint64_t float_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

nigh_gguf_writer *nigh_gguf_writer_new(void) {
    nigh_gguf_writer *w = nigh_alloc(1, sizeof *w);
    if (!w) return NULL;
    w->keys = NIGH_BUF(header_bytes_max);
    w->lines = NIGH_BUF(header_bytes_max);
    w->pieces = NIGH_BUF(NIGH_GGUF_TENSORS_MAX * sizeof(piece));
    return w;
}

void nigh_gguf_writer_free(nigh_gguf_writer *w) {
    if (!w) return;
    nigh_buf_release(&w->keys);
    nigh_buf_release(&w->lines);
    nigh_buf_release(&w->pieces);
    nigh_free(w);
}

/* ---- keys ---- */

/* Writes the key and the type, counts it; false when the writer has failed already. */
static bool begin_key(nigh_gguf_writer *w, nigh_str key, nigh_gguf_type type) {
    if (w->status != NIGH_OK) return false;
    nigh_status status = key.len == 0 || key.len > NIGH_GGUF_KEY_BYTES_MAX ? NIGH_EDATA : NIGH_OK;
    if (w->key_count == NIGH_GGUF_KEYS_MAX) status = NIGH_ERANGE;
    if (status == NIGH_OK) status = add_string(&w->keys, key);
    if (status == NIGH_OK) status = add_uint(&w->keys, (uint64_t)type, 4);
    if (status != NIGH_OK) keep(w, status, "key", key, nigh_status_text(status));
    w->key_count++;
    return status == NIGH_OK;
}

static void end_key(nigh_gguf_writer *w, nigh_str key, nigh_status status) {
    keep(w, status, "key", key, nigh_status_text(status));
}

static void put_number(nigh_gguf_writer *w, const char *key, nigh_gguf_type type, uint64_t bits, size_t bytes) {
    nigh_str name = nigh_str_of(key);
    if (begin_key(w, name, type)) end_key(w, name, add_uint(&w->keys, bits, bytes));
}

void nigh_gguf_put_u32(nigh_gguf_writer *w, const char *key, uint32_t v) { put_number(w, key, NIGH_GGUF_U32, v, 4); }
void nigh_gguf_put_f32(nigh_gguf_writer *w, const char *key, float v) {
    put_number(w, key, NIGH_GGUF_F32, float_bits(v), 4);
}
void nigh_gguf_put_bool(nigh_gguf_writer *w, const char *key, bool v) { put_number(w, key, NIGH_GGUF_BOOL, v, 1); }

void nigh_gguf_put_string(nigh_gguf_writer *w, const char *key, nigh_str v) {
    nigh_str name = nigh_str_of(key);
    if (begin_key(w, name, NIGH_GGUF_STRING)) end_key(w, name, add_string(&w->keys, v));
}

static bool begin_array(nigh_gguf_writer *w, nigh_str key, nigh_gguf_type item_type, uint64_t count) {
    if (!begin_key(w, key, NIGH_GGUF_ARRAY)) return false;
    nigh_status status = add_uint(&w->keys, (uint64_t)item_type, 4);
    if (status == NIGH_OK) status = add_uint(&w->keys, count, 8);
    end_key(w, key, status);
    return status == NIGH_OK;
}

void nigh_gguf_put_strings(nigh_gguf_writer *w, const char *key, const nigh_str *v, size_t count) {
    nigh_str name = nigh_str_of(key);
    if (!begin_array(w, name, NIGH_GGUF_STRING, count)) return;
    nigh_status status = NIGH_OK;
    for (size_t i = 0; i < count && status == NIGH_OK; i++) status = add_string(&w->keys, v[i]);
    end_key(w, name, status);
}

void nigh_gguf_put_i32s(nigh_gguf_writer *w, const char *key, const int32_t *v, size_t count) {
    nigh_str name = nigh_str_of(key);
    if (!begin_array(w, name, NIGH_GGUF_I32, count)) return;
    nigh_status status = NIGH_OK;
    for (size_t i = 0; i < count && status == NIGH_OK; i++) status = add_uint(&w->keys, (uint32_t)v[i], 4);
    end_key(w, name, status);
}

void nigh_gguf_put_f32s(nigh_gguf_writer *w, const char *key, const float *v, size_t count) {
    nigh_str name = nigh_str_of(key);
    if (!begin_array(w, name, NIGH_GGUF_F32, count)) return;
    nigh_status status = NIGH_OK;
    for (size_t i = 0; i < count && status == NIGH_OK; i++) status = add_uint(&w->keys, float_bits(v[i]), 4);
    end_key(w, name, status);
}

void nigh_gguf_put_value(nigh_gguf_writer *w, const nigh_gguf_value *v) {
    nigh_status status = NIGH_OK;
    if (v->type == NIGH_GGUF_ARRAY) {
        if (!begin_array(w, v->key, v->item_type, v->count)) return;
    } else {
        if (!begin_key(w, v->key, v->type)) return;
        if (v->type == NIGH_GGUF_STRING) status = add_uint(&w->keys, v->bytes.len, 8);
    }
    if (status == NIGH_OK) status = nigh_buf_add(&w->keys, v->bytes);
    end_key(w, v->key, status);
}

/* ---- tensors ---- */

/* Bytes of a tensor; false when its shape does not fit its type or is too large. */
static bool tensor_bytes(nigh_type type, const uint64_t *dims, uint32_t dim_count, uint64_t *bytes) {
    const nigh_type_info *info = nigh_type_find((uint32_t)type);
    if (!info || dim_count < 1 || dim_count > 4 || dims[0] % info->block_values != 0) return false;
    *bytes = dims[0] / info->block_values;
    for (uint32_t d = 0; d <= dim_count; d++) { /* the bytes of a block, then the dimensions but the first */
        uint64_t by = d == 0 ? info->block_bytes : d < dim_count ? dims[d] : 1;
        if (by == 0 || *bytes == 0 || *bytes > (UINT64_MAX >> 2) / by) return false;
        *bytes *= by;
    }
    return true;
}

static nigh_status add_line(nigh_gguf_writer *w, nigh_str name, nigh_type type, const uint64_t *dims,
                            uint32_t dim_count) {
    NIGH_TRY(add_string(&w->lines, name));
    NIGH_TRY(add_uint(&w->lines, dim_count, 4));
    for (uint32_t d = 0; d < dim_count; d++) NIGH_TRY(add_uint(&w->lines, dims[d], 8));
    NIGH_TRY(add_uint(&w->lines, (uint64_t)type, 4));
    return add_uint(&w->lines, w->data_bytes, 8);
}

void nigh_gguf_put_tensor(nigh_gguf_writer *w, nigh_str name, nigh_type type, const uint64_t *dims, uint32_t dim_count,
                          const void *data) {
    piece p = { data, 0 };
    if (w->status != NIGH_OK) return;
    if (name.len == 0 || name.len > NIGH_GGUF_NAME_BYTES_MAX) {
        keep(w, NIGH_EDATA, "tensor", name, "the name is not 1 to 64 bytes");
    } else if (!tensor_bytes(type, dims, dim_count, &p.bytes)) {
        keep(w, NIGH_EDATA, "tensor", name, "the shape does not fit the type");
    } else if (p.bytes > UINT64_MAX / 4 - w->data_bytes) {
        keep(w, NIGH_ERANGE, "tensor", name, "the file would be too large");
    } else {
        nigh_status status = add_line(w, name, type, dims, dim_count);
        if (status == NIGH_OK) status = nigh_buf_add(&w->pieces, (nigh_str){ (const char *)&p, sizeof p });
        keep(w, status, "tensor", name, nigh_status_text(status));
        w->data_bytes += aligned(p.bytes);
        w->tensor_count++;
    }
}

/* ---- the file ---- */

/* Fills up with zeros; the room was reserved. */
static void pad(nigh_buf *out) {
    size_t end = (size_t)aligned(out->len);
    memset(out->ptr + out->len, 0, end - out->len);
    out->len = end;
}

/* Reserves room for the head and data_bytes more, writes the head. */
static nigh_status write_head(nigh_gguf_writer *w, nigh_buf *out, uint64_t data_bytes) {
    uint64_t total = aligned(24 + (uint64_t)w->keys.len + w->lines.len) + data_bytes;
    if (total > SIZE_MAX) return NIGH_ERANGE;
    NIGH_TRY(nigh_buf_reserve(out, (size_t)total));
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("GGUF")));
    NIGH_TRY(add_uint(out, 3, 4));
    NIGH_TRY(add_uint(out, w->tensor_count, 8));
    NIGH_TRY(add_uint(out, w->key_count, 8));
    NIGH_TRY(nigh_buf_add(out, nigh_buf_str(&w->keys)));
    NIGH_TRY(nigh_buf_add(out, nigh_buf_str(&w->lines)));
    pad(out);
    return NIGH_OK;
}

static nigh_status finish(nigh_gguf_writer *w, nigh_buf *out, uint64_t data_bytes, nigh_err *err) {
    if (w->status != NIGH_OK) {
        if (err) *err = w->err;
        return w->status;
    }
    nigh_status status = write_head(w, out, data_bytes);
    if (status == NIGH_OK) return NIGH_OK;
    return nigh_failf(err, status, 0, "a GGUF file with %llu bytes of data: %s", (unsigned long long)data_bytes,
                      nigh_status_text(status));
}

nigh_status nigh_gguf_finish_head(nigh_gguf_writer *w, nigh_buf *out, nigh_err *err) { return finish(w, out, 0, err); }

nigh_status nigh_gguf_finish(nigh_gguf_writer *w, nigh_buf *out, nigh_err *err) {
    NIGH_TRY(finish(w, out, w->data_bytes, err));
    for (size_t i = 0; i < w->tensor_count; i++) {
        piece p;
        memcpy(&p, w->pieces.ptr + i * sizeof p, sizeof p);
        NIGH_TRY(nigh_buf_add(out, (nigh_str){ p.data, (size_t)p.bytes })); /* cannot fail: the room is there */
        pad(out);
    }
    return NIGH_OK;
}
