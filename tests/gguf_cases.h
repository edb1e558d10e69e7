/* gguf_cases.h - makes GGUF files in memory: one tiny llama that is right in everything, and from it the
 * groups G of bad files, each with one named mutation, so that a refusal is due to that mutation alone.
 *
 *     gc_model (keys, tensors, what to write where)  --gc_write-->  gc_file (bytes, and where its integers are)
 *
 * gc_cases_each calls a visitor with every case; a case says what is wanted of the container (the parser) and of
 * the model (what opens it). The bytes a visitor gets end exactly at the end of a heap block, so a sanitizer
 * sees a read past them. Used by the tests of the parser, of the model, and by the maker of the fuzz corpus. */
#ifndef NIGH_GGUF_CASES_H
#define NIGH_GGUF_CASES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GC_U8, GC_I8, GC_U16, GC_I16, GC_U32, GC_I32, GC_F32, GC_BOOL, GC_STR, GC_ARR, GC_U64, GC_I64, GC_F64 };
enum { GC_TYPE_F32 = 0, GC_TYPE_Q8_0 = 8 };
enum { GC_EMBD = 32, GC_LAYERS = 2, GC_HEADS = 2, GC_KV_HEADS = 1, GC_FFN = 64, GC_VOCAB = 64, GC_CONTEXT = 64 };
enum { GC_KEYS_MAX = 48, GC_TENSORS_MAX = 40, GC_FIELDS_MAX = 2048 };

typedef enum {
    GC_GOOD,        /* opens and works                                              */
    GC_BAD_FILE,    /* the parser refuses it                                        */
    GC_BAD_MODEL,   /* a right container; opening it as a model must be refused     */
    GC_ANY          /* either answer will do, as long as what is handed out is sane */
} gc_want;

typedef struct { uint8_t *ptr; size_t len, cap; } gc_bytes;

typedef struct {
    gc_bytes key, payload;
    uint64_t key_length;        /* the length that is written; the bytes are key's */
    uint32_t type;
} gc_key;

typedef struct {
    gc_bytes name;
    uint64_t name_length, dims[5], offset;
    uint32_t dim_count, type, data_type;
    bool offset_set;            /* offset is written instead of where the data is */
    size_t data_bytes;          /* what is really there, whatever the dimensions say */
} gc_tensor;

typedef struct {
    char magic[5];
    uint32_t version;
    uint64_t tensor_count_more, key_count_more;    /* added to the true counts (wraps) */
    gc_key keys[GC_KEYS_MAX];
    gc_tensor tensors[GC_TENSORS_MAX];
    size_t key_count, tensor_count;
    uint64_t alignment;
    size_t cut, tail;           /* bytes taken from, put behind the end */
} gc_model;

typedef struct { size_t at, bytes; } gc_field;

typedef struct {
    gc_bytes bytes;
    size_t data_at;             /* where the tensors' data begins */
    gc_field fields[GC_FIELDS_MAX];
    size_t field_count;
} gc_file;

typedef void gc_visit(void *ud, const char *id, gc_want want, const uint8_t *bytes, size_t len);

/* ---- bytes ---- */

static inline void gc_add(gc_bytes *b, const void *p, size_t len) {
    if (b->len + len > b->cap) {
        b->cap = 2 * (b->len + len) + 64;
        b->ptr = realloc(b->ptr, b->cap);
        if (!b->ptr) abort();
    }
    if (len) memcpy(b->ptr + b->len, p, len);
    b->len += len;
}

static inline void gc_uint(gc_bytes *b, uint64_t v, size_t bytes) {
    uint8_t out[8];
    for (size_t i = 0; i < bytes; i++) out[i] = (uint8_t)(v >> (8 * i));
    gc_add(b, out, bytes);
}

static inline void gc_fill(gc_bytes *b, int c, size_t len) {
    for (size_t i = 0; i < len; i++) gc_uint(b, (uint64_t)c, 1);
}

static inline void gc_text(gc_bytes *b, const char *s) {
    gc_uint(b, strlen(s), 8);
    gc_add(b, s, strlen(s));
}

static inline void gc_clear(gc_bytes *b) {
    free(b->ptr);
    *b = (gc_bytes){ 0 };
}

static inline size_t gc_number_bytes(uint32_t type) {
    static const uint8_t bytes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return type < sizeof bytes ? bytes[type] : 0;
}

static inline uint64_t gc_float(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* ---- the description of a file ---- */

static inline gc_key *gc_key_add(gc_model *m, const char *key, uint32_t type) {
    if (m->key_count == GC_KEYS_MAX) abort();
    gc_key *k = &m->keys[m->key_count++];
    gc_add(&k->key, key, strlen(key));
    k->key_length = k->key.len;
    k->type = type;
    return k;
}

static inline gc_key *gc_key_of(gc_model *m, const char *key) {
    for (size_t i = 0; i < m->key_count; i++)
        if (m->keys[i].key.len == strlen(key) && !memcmp(m->keys[i].key.ptr, key, strlen(key))) return &m->keys[i];
    fprintf(stderr, "gguf_cases.h: no key %s\n", key);
    abort();
}

/* Sets (or adds) a key to a number of a type, or to a string. */
static inline gc_key *gc_reset(gc_model *m, const char *key, uint32_t type) {
    for (size_t i = 0; i < m->key_count; i++) {
        gc_key *k = &m->keys[i];
        if (k->key.len != strlen(key) || memcmp(k->key.ptr, key, strlen(key)) != 0) continue;
        k->payload.len = 0;
        k->type = type;
        return k;
    }
    return gc_key_add(m, key, type);
}

static inline void gc_number(gc_model *m, const char *key, uint32_t type, uint64_t v) {
    gc_uint(&gc_reset(m, key, type)->payload, v, gc_number_bytes(type));
}
static inline void gc_u32(gc_model *m, const char *key, uint64_t v) { gc_number(m, key, GC_U32, v); }
static inline void gc_f32(gc_model *m, const char *key, float v) { gc_number(m, key, GC_F32, gc_float(v)); }
static inline void gc_string(gc_model *m, const char *key, const char *v) {
    gc_text(&gc_reset(m, key, GC_STR)->payload, v);
}

static inline gc_bytes *gc_array(gc_model *m, const char *key, uint32_t item_type, uint64_t count) {
    gc_bytes *b = &gc_reset(m, key, GC_ARR)->payload;
    gc_uint(b, item_type, 4);
    gc_uint(b, count, 8);
    return b;
}

static inline void gc_drop_key(gc_model *m, const char *key) {
    gc_key *k = gc_key_of(m, key);
    gc_clear(&k->key);
    gc_clear(&k->payload);
    size_t behind = (size_t)(&m->keys[--m->key_count] - k);
    memmove(k, k + 1, behind * sizeof *k);
    memset(&m->keys[m->key_count], 0, sizeof *k);
}

static inline size_t gc_data_bytes(uint32_t type, const uint64_t *dims, uint32_t dim_count) {
    uint64_t n = type == GC_TYPE_Q8_0 ? dims[0] / 32 * 34 : dims[0] * 4;
    for (uint32_t d = 1; d < dim_count; d++) n *= dims[d];
    return (size_t)n;
}

/* rows 0: one dimension. */
static inline gc_tensor *gc_tensor_add(gc_model *m, const char *name, uint32_t type, uint64_t cols, uint64_t rows) {
    if (m->tensor_count == GC_TENSORS_MAX) abort();
    gc_tensor *t = &m->tensors[m->tensor_count++];
    gc_add(&t->name, name, strlen(name));
    t->name_length = t->name.len;
    t->type = t->data_type = type;
    t->dims[0] = cols;
    t->dims[1] = rows;
    t->dim_count = rows ? 2 : 1;
    t->data_bytes = gc_data_bytes(type, t->dims, t->dim_count);
    return t;
}

static inline gc_tensor *gc_tensor_of(gc_model *m, const char *name) {
    for (size_t i = 0; i < m->tensor_count; i++)
        if (m->tensors[i].name.len == strlen(name) && !memcmp(m->tensors[i].name.ptr, name, strlen(name)))
            return &m->tensors[i];
    fprintf(stderr, "gguf_cases.h: no tensor %s\n", name);
    abort();
}

static inline void gc_drop_tensor(gc_model *m, const char *name) {
    gc_tensor *t = gc_tensor_of(m, name);
    gc_clear(&t->name);
    size_t behind = (size_t)(&m->tensors[--m->tensor_count] - t);
    memmove(t, t + 1, behind * sizeof *t);
    memset(&m->tensors[m->tensor_count], 0, sizeof *t);
}

static inline void gc_release(gc_model *m) {
    for (size_t i = 0; i < m->key_count; i++) { gc_clear(&m->keys[i].key); gc_clear(&m->keys[i].payload); }
    for (size_t i = 0; i < m->tensor_count; i++) gc_clear(&m->tensors[i].name);
    memset(m, 0, sizeof *m);
}

/* ---- the seed: a llama of two layers, 32 wide, 64 tokens of a SentencePiece vocabulary ---- */

/* Pieces: <unk> <s> </s>, the space mark, a..z, then pairs of letters. */
static inline void gc_token(uint32_t i, char out[16]) {
    static const char *const first[] = { "<unk>", "<s>", "</s>", "\xe2\x96\x81" };
    if (i < 4) snprintf(out, 16, "%s", first[i]);
    else if (i < 30) snprintf(out, 16, "%c", (char)('a' + (i - 4)));
    else snprintf(out, 16, "%c%c", (char)('a' + (i - 30) % 26), (char)('a' + (7 * (i - 30) + 4) % 26));
}

static inline void gc_seed_tokenizer(gc_model *m) {
    char token[16];
    gc_string(m, "tokenizer.ggml.model", "llama");
    gc_string(m, "tokenizer.ggml.pre", "default");
    gc_bytes *b = gc_array(m, "tokenizer.ggml.tokens", GC_STR, GC_VOCAB);
    for (uint32_t i = 0; i < GC_VOCAB; i++) { gc_token(i, token); gc_text(b, token); }
    b = gc_array(m, "tokenizer.ggml.scores", GC_F32, GC_VOCAB);
    for (uint32_t i = 0; i < GC_VOCAB; i++) gc_uint(b, gc_float(i < 3 ? 0.0f : -(float)i), 4);
    b = gc_array(m, "tokenizer.ggml.token_type", GC_I32, GC_VOCAB);
    for (uint32_t i = 0; i < GC_VOCAB; i++) gc_uint(b, i == 0 ? 2 : i < 3 ? 3 : 1, 4);
    gc_u32(m, "tokenizer.ggml.bos_token_id", 1);
    gc_u32(m, "tokenizer.ggml.eos_token_id", 2);
    gc_u32(m, "tokenizer.ggml.unknown_token_id", 0);
    gc_number(m, "tokenizer.ggml.add_bos_token", GC_BOOL, 1);
}

static inline void gc_seed_tensors(gc_model *m) {
    char name[64];
    const struct { const char *name; uint64_t cols, rows; } layer[] = {
        { "attn_norm", GC_EMBD, 0 }, { "attn_q", GC_EMBD, GC_EMBD }, { "attn_k", GC_EMBD, GC_EMBD / 2 },
        { "attn_v", GC_EMBD, GC_EMBD / 2 }, { "attn_output", GC_EMBD, GC_EMBD }, { "ffn_norm", GC_EMBD, 0 },
        { "ffn_gate", GC_EMBD, GC_FFN }, { "ffn_up", GC_EMBD, GC_FFN }, { "ffn_down", GC_FFN, GC_EMBD } };
    gc_tensor_add(m, "token_embd.weight", GC_TYPE_Q8_0, GC_EMBD, GC_VOCAB);
    for (uint32_t l = 0; l < GC_LAYERS; l++) {
        for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
            snprintf(name, sizeof name, "blk.%u.%s.weight", l, layer[i].name);
            gc_tensor_add(m, name, layer[i].rows ? GC_TYPE_Q8_0 : GC_TYPE_F32, layer[i].cols, layer[i].rows);
        }
    }
    gc_tensor_add(m, "output_norm.weight", GC_TYPE_F32, GC_EMBD, 0);
    gc_tensor_add(m, "output.weight", GC_TYPE_Q8_0, GC_EMBD, GC_VOCAB);
}

static inline void gc_seed(gc_model *m) {
    memset(m, 0, sizeof *m);
    memcpy(m->magic, "GGUF", 5);
    m->version = 3;
    m->alignment = 32;
    gc_string(m, "general.architecture", "llama");
    gc_string(m, "general.name", "tiny");
    gc_u32(m, "general.file_type", 7);
    gc_u32(m, "llama.context_length", GC_CONTEXT);
    gc_u32(m, "llama.embedding_length", GC_EMBD);
    gc_u32(m, "llama.block_count", GC_LAYERS);
    gc_u32(m, "llama.feed_forward_length", GC_FFN);
    gc_u32(m, "llama.attention.head_count", GC_HEADS);
    gc_u32(m, "llama.attention.head_count_kv", GC_KV_HEADS);
    gc_u32(m, "llama.vocab_size", GC_VOCAB);
    gc_f32(m, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gc_u32(m, "llama.rope.dimension_count", GC_EMBD / GC_HEADS);
    gc_f32(m, "llama.rope.freq_base", 10000.0f);
    gc_seed_tokenizer(m);
    gc_seed_tensors(m);
}

/* ---- writing ---- */

static inline void gc_field_add(gc_file *f, size_t at, size_t bytes) {
    if ((bytes == 4 || bytes == 8) && f->field_count < GC_FIELDS_MAX)
        f->fields[f->field_count++] = (gc_field){ at, bytes };
}

static inline void gc_put(gc_file *f, uint64_t v, size_t bytes) {
    gc_field_add(f, f->bytes.len, bytes);
    gc_uint(&f->bytes, v, bytes);
}

static inline uint64_t gc_load(const uint8_t *p, size_t bytes) {
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

/* Marks the integers inside a payload that is well formed. */
static inline void gc_payload_fields(gc_file *f, const gc_key *k, size_t at) {
    const uint8_t *p = k->payload.ptr;
    if (k->type == GC_STR) { gc_field_add(f, at, 8); return; }
    if (k->type != GC_ARR) { gc_field_add(f, at, gc_number_bytes(k->type)); return; }
    gc_field_add(f, at, 4);
    gc_field_add(f, at + 4, 8);
    size_t bytes = gc_number_bytes((uint32_t)gc_load(p, 4));
    for (size_t i = 12; i + 8 <= k->payload.len;) {
        gc_field_add(f, at + i, bytes ? bytes : 8);
        i += bytes ? bytes : 8 + (size_t)gc_load(p + i, 8);
    }
}

static inline void gc_write_data(gc_bytes *b, const gc_tensor *t) {
    for (size_t i = 0; i < t->data_bytes; i++) { /* Q8_0: scale 2^-7 as f16; F32: 1.0 */
        size_t in = t->data_type == GC_TYPE_Q8_0 ? i % 34 : i % 4;
        uint64_t v = t->data_type == GC_TYPE_Q8_0 ? (in == 0 ? 0x00 : in == 1 ? 0x20 : (i * 37 + t->dims[0]) & 255)
                                                  : (in == 2 ? 0x80 : in == 3 ? 0x3f : 0);
        gc_uint(b, v, 1);
    }
}

static inline void gc_write(const gc_model *m, gc_file *f) {
    memset(f, 0, sizeof *f);
    gc_add(&f->bytes, m->magic, 4);
    gc_put(f, m->version, 4);
    gc_put(f, m->tensor_count + m->tensor_count_more, 8);
    gc_put(f, m->key_count + m->key_count_more, 8);
    for (size_t i = 0; i < m->key_count; i++) {
        const gc_key *k = &m->keys[i];
        gc_put(f, k->key_length, 8);
        gc_add(&f->bytes, k->key.ptr, k->key.len);
        gc_put(f, k->type, 4);
        gc_payload_fields(f, k, f->bytes.len);
        gc_add(&f->bytes, k->payload.ptr, k->payload.len);
    }
    uint64_t offset = 0;
    for (size_t i = 0; i < m->tensor_count; i++) {
        const gc_tensor *t = &m->tensors[i];
        gc_put(f, t->name_length, 8);
        gc_add(&f->bytes, t->name.ptr, t->name.len);
        gc_put(f, t->dim_count, 4);
        for (uint32_t d = 0; d < t->dim_count && d < 5; d++) gc_put(f, t->dims[d], 8);
        gc_put(f, t->type, 4);
        gc_put(f, t->offset_set ? t->offset : offset, 8);
        offset = (offset + t->data_bytes + m->alignment - 1) / m->alignment * m->alignment;
    }
    while (f->bytes.len % m->alignment) gc_uint(&f->bytes, 0, 1);
    f->data_at = f->bytes.len;
    for (size_t i = 0; i < m->tensor_count; i++) {
        gc_write_data(&f->bytes, &m->tensors[i]);
        while ((f->bytes.len - f->data_at) % m->alignment) gc_uint(&f->bytes, 0, 1);
    }
    gc_fill(&f->bytes, 0x5a, m->tail);
    f->bytes.len -= m->cut < f->bytes.len ? m->cut : f->bytes.len;
}

/* Calls visit with bytes that end where a heap block ends. */
static inline void gc_show(gc_visit *visit, void *ud, const char *id, gc_want want, const uint8_t *bytes, size_t len) {
    uint8_t *exact = malloc(len ? len : 1);
    if (!exact) abort();
    if (len) memcpy(exact, bytes, len);
    visit(ud, id, want, len ? exact : exact + 1, len);
    free(exact);
}

typedef struct { gc_visit *visit; void *ud; } gc_out;

static inline void gc_case_end(const gc_out *out, gc_model *m, const char *id, gc_want want) {
    gc_file *f = malloc(sizeof *f);
    if (!f) abort();
    gc_write(m, f);
    gc_show(out->visit, out->ud, id, want, f->bytes.ptr, f->bytes.len);
    gc_clear(&f->bytes);
    free(f);
    gc_release(m);
}

/* One case: the seed `m`, what is done to it, written and shown. */
#define GC_CASE(out, id, want, ...) \
    do { \
        gc_model *m = malloc(sizeof *m); \
        if (!m) abort(); \
        gc_seed(m); \
        __VA_ARGS__; \
        gc_case_end(out, m, id, want); \
        free(m); \
    } while (0)

#include "gguf_cases_list.h"

#endif
