/* gguf.h - a model file of the GGUF format (v2, v3), parsed from bytes in memory.
 * Borrows the file's bytes, which must outlive it; owns only its tables. Immutable after parse, so any
 * thread may read. Every span, count and name is checked here, once: what this header hands out lies
 * inside the file. Format: docs/format-gguf.md. */
#ifndef NIGH_GGUF_H
#define NIGH_GGUF_H

#include "base/base.h"
#include "kernel/quant.h"

enum { /* what a file may hold at most; the reader refuses more, the writer writes no more */
    NIGH_GGUF_KEYS_MAX = 65536,
    NIGH_GGUF_TENSORS_MAX = 65536,
    NIGH_GGUF_KEY_BYTES_MAX = 65535,
    NIGH_GGUF_NAME_BYTES_MAX = 64,      /* the specification's limit of a tensor's name  */
    NIGH_GGUF_STRING_BYTES_MAX = 16 << 20,
    NIGH_GGUF_ALIGNMENT = 32,           /* unless general.alignment says otherwise       */
    NIGH_GGUF_ALIGNMENT_MAX = 65536
};

typedef enum { /* value types as in the file */
    NIGH_GGUF_U8 = 0, NIGH_GGUF_I8, NIGH_GGUF_U16, NIGH_GGUF_I16, NIGH_GGUF_U32, NIGH_GGUF_I32, NIGH_GGUF_F32,
    NIGH_GGUF_BOOL, NIGH_GGUF_STRING, NIGH_GGUF_ARRAY, NIGH_GGUF_U64, NIGH_GGUF_I64, NIGH_GGUF_F64
} nigh_gguf_type;

typedef struct {
    nigh_str key;
    nigh_gguf_type type, item_type;     /* item_type: of an array's items (never ARRAY) */
    uint64_t count;                     /* items of an array; else 1                    */
    nigh_str bytes;                     /* payload: a number's bytes, a string's text, all items of an array */
    uint64_t at;                        /* offset of the payload in the file            */
} nigh_gguf_value;

typedef struct {
    nigh_str name;
    nigh_type type;
    uint32_t dim_count;                 /* 1..4 */
    uint64_t dims[4];                   /* dims[0] = columns (contiguous), unused ones are 1 */
    const uint8_t *data;
    uint64_t bytes;
    uint64_t at;                        /* offset of the data in the file */
} nigh_gguf_tensor;                     /* data: NULL when only the head of the file was parsed */

typedef struct {
    nigh_str file;
    uint32_t version;
    nigh_gguf_value *values;
    size_t value_count;
    nigh_gguf_tensor *tensors;
    size_t tensor_count;
    uint32_t *value_order, *tensor_order;   /* indices in the order of the names, for binary search */
} nigh_gguf;

/* Fails: EDATA (what, which key or tensor, at which offset), ENOSUP (tensor type by name), ENOMEM. On failure g is
 * released. */
NIGH_CHECK nigh_status nigh_gguf_parse(nigh_gguf *g, nigh_str file, nigh_err *err);
/* The same from the first bytes of a file of file_bytes. Fails with ERANGE when its keys and tensors do not end inside
 * `head`: call again with more. */
NIGH_CHECK nigh_status nigh_gguf_parse_head(nigh_gguf *g, nigh_str head, size_t file_bytes, nigh_err *err);
void nigh_gguf_release(nigh_gguf *g);

const nigh_gguf_value *nigh_gguf_find(const nigh_gguf *g, nigh_str key);            /* NULL when absent */
const nigh_gguf_tensor *nigh_gguf_tensor_find(const nigh_gguf *g, nigh_str name);   /* NULL when absent */

/* Typed reads. ENOENT when the key is absent (out untouched), EDATA when it has another type or does not fit; both
 * name the key. Integers of any width are accepted where the value fits. */
NIGH_CHECK nigh_status nigh_gguf_u32(const nigh_gguf *g, nigh_str key, uint32_t *out, nigh_err *err);
NIGH_CHECK nigh_status nigh_gguf_f32(const nigh_gguf *g, nigh_str key, float *out, nigh_err *err);   /* finite */
NIGH_CHECK nigh_status nigh_gguf_bool(const nigh_gguf *g, nigh_str key, bool *out, nigh_err *err);
NIGH_CHECK nigh_status nigh_gguf_string(const nigh_gguf *g, nigh_str key, nigh_str *out, nigh_err *err);
/* item_type: an integer type takes integers of any width, F32 also F64, any other only itself. */
NIGH_CHECK nigh_status nigh_gguf_array(const nigh_gguf *g, nigh_str key, nigh_gguf_type item_type,
                                       const nigh_gguf_value **out, nigh_err *err);
/* Item i < count of an array of numbers or bools, whatever its width; an integer above INT64_MAX gives INT64_MAX.
 * item_int is not for arrays of floats. */
int64_t nigh_gguf_item_int(const nigh_gguf_value *array, uint64_t i);
float nigh_gguf_item_float(const nigh_gguf_value *array, uint64_t i);
/* Strings of an array in order: begin with a zeroed cursor; false after the last. */
bool nigh_gguf_next_string(const nigh_gguf_value *array, size_t *cursor, nigh_str *out);

/* ---- writing ---- A file is: new, values, tensors (in order), finish (lays out, aligns, copies). */
typedef struct nigh_gguf_writer nigh_gguf_writer;
nigh_gguf_writer *nigh_gguf_writer_new(void);
void nigh_gguf_writer_free(nigh_gguf_writer *w);
/* A failure (ENOMEM) is remembered and reported by finish. Text is copied. */
void nigh_gguf_put_u32(nigh_gguf_writer *w, const char *key, uint32_t v);
void nigh_gguf_put_f32(nigh_gguf_writer *w, const char *key, float v);
void nigh_gguf_put_bool(nigh_gguf_writer *w, const char *key, bool v);
void nigh_gguf_put_string(nigh_gguf_writer *w, const char *key, nigh_str v);
void nigh_gguf_put_strings(nigh_gguf_writer *w, const char *key, const nigh_str *v, size_t count);
void nigh_gguf_put_i32s(nigh_gguf_writer *w, const char *key, const int32_t *v, size_t count);
void nigh_gguf_put_f32s(nigh_gguf_writer *w, const char *key, const float *v, size_t count);
/* Copies a value of another file as it stands. */
void nigh_gguf_put_value(nigh_gguf_writer *w, const nigh_gguf_value *v);
/* data: borrowed until finish. dims[0] = columns. */
void nigh_gguf_put_tensor(nigh_gguf_writer *w, nigh_str name, nigh_type type, const uint64_t *dims,
                          uint32_t dim_count, const void *data);
/* The whole file, ready for nigh_file_write. Same calls, same bytes. out: empty, its limit is the largest file.
 * Afterwards the writer can only be freed. Fails: EDATA naming a value or tensor that the format cannot hold, ERANGE,
 * ENOMEM. */
NIGH_CHECK nigh_status nigh_gguf_finish(nigh_gguf_writer *w, nigh_buf *out, nigh_err *err);
/* Only what stands in front of the data, padding included; no tensor's data is read. The caller writes the data of
 * each tensor behind it, each filled up with zeros to a multiple of NIGH_GGUF_ALIGNMENT. For files larger than
 * memory. */
NIGH_CHECK nigh_status nigh_gguf_finish_head(nigh_gguf_writer *w, nigh_buf *out, nigh_err *err);

#endif
