/* checkpoint.c - the state of a run as a file: docs/format-checkpoint.md. Everything is little endian.
 *
 *   "NIGHCKPT" | version u32 | head_bytes u32 | file_bytes u64 | recipe and counters (head) | merges u16 pairs
 *   | parameters f32 | first moments f32 | second moments f32 | SHA-256 of all before it
 *
 * Written beside the old one and renamed over it, so a kill at any moment leaves a whole file: the old or the
 * new. */
#include "base/os.h"
#include "base/sha256.h"
#include "learn/train.h"

enum { VERSION = 1, HASH_BYTES = 32,
    HEAD_BYTES = 8 + 4 + 4 + 8 + 10 * 4 + 2 * 8 + 8 * 4 + 8 + 8 + 16 * NIGH_CORPUS_SOURCES + 8 + 8 };

typedef struct { uint8_t *at; } writer;

static void put(writer *w, uint64_t v, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) *w->at++ = (uint8_t)(v >> (8 * i));
}
static void put_float(writer *w, float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    put(w, bits, 4);
}
static void put_double(writer *w, double f) {
    uint64_t bits;
    memcpy(&bits, &f, sizeof bits);
    put(w, bits, 8);
}
static void put_floats(writer *w, const float *f, size_t count) {
    for (size_t i = 0; i < count; i++) put_float(w, f[i]);
}

static float read_float(nigh_reader *r) {
    uint32_t bits = (uint32_t)nigh_read_uint(r, 4);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static double read_double(nigh_reader *r) {
    uint64_t bits = nigh_read_uint(r, 8);
    double f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static void read_floats(nigh_reader *r, float *f, size_t count) {
    for (size_t i = 0; i < count; i++) f[i] = read_float(r);
}

static size_t file_bytes(size_t merges, size_t count) {
    return HEAD_BYTES + merges * 4 + count * 12 + HASH_BYTES;
}

static void put_head(writer *w, const nigh_state *s) {
    const nigh_recipe *r = &s->recipe;
    const nigh_shape *n = &r->shape;
    const uint32_t whole[] = { n->vocab, n->dim, n->layers, n->heads, n->kv_heads, n->ff, n->window, r->batch,
        r->warmup, r->decay };
    const float real[] = { n->rope_base, n->eps, r->rate, r->rate_end, r->beta1, r->beta2, r->weight_decay,
        r->clip };
    for (size_t i = 0; i < 8; i++) put(w, (uint8_t)"NIGHCKPT"[i], 1);
    put(w, VERSION, 4);
    put(w, HEAD_BYTES, 4);
    put(w, file_bytes(s->merge_count, s->count), 8);
    for (size_t i = 0; i < NIGH_COUNT(whole); i++) put(w, whole[i], 4);
    put(w, r->steps, 8);
    put(w, r->seed, 8);
    for (size_t i = 0; i < NIGH_COUNT(real); i++) put_float(w, real[i]);
    put(w, s->step, 8);
    put_double(w, s->recent);
    for (size_t i = 0; i < NIGH_CORPUS_SOURCES; i++) put(w, s->at.taken[i], 8);
    for (size_t i = 0; i < NIGH_CORPUS_SOURCES; i++) put(w, s->at.late_taken[i], 8);
    put(w, s->merge_count, 8);
    put(w, s->count, 8);
}

static void hash_of(const uint8_t *bytes, size_t count, uint8_t out[HASH_BYTES]) {
    nigh_sha256 sha;
    nigh_sha256_init(&sha);
    nigh_sha256_add(&sha, (nigh_str){ (const char *)bytes, count });
    nigh_sha256_end(&sha, out);
}

nigh_status nigh_state_save(const nigh_state *s, const char *path, nigh_err *err) {
    size_t bytes = file_bytes(s->merge_count, s->count);
    uint8_t *file = nigh_alloc(bytes, 1);
    if (!file) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory to write the checkpoint");
    writer w = { file };
    put_head(&w, s);
    for (size_t i = 0; i < s->merge_count; i++) { put(&w, s->merges[i][0], 2); put(&w, s->merges[i][1], 2); }
    put_floats(&w, s->params, s->count);
    put_floats(&w, s->m, s->count);
    put_floats(&w, s->v, s->count);
    hash_of(file, bytes - HASH_BYTES, w.at);
    nigh_status status = nigh_file_write(path, (nigh_str){ (const char *)file, bytes }, err);
    nigh_free(file);
    return status;
}

static void read_head(nigh_reader *r, nigh_state *s) {
    nigh_recipe *c = &s->recipe;
    nigh_shape *n = &c->shape;
    uint32_t *whole[] = { &n->vocab, &n->dim, &n->layers, &n->heads, &n->kv_heads, &n->ff, &n->window,
        &c->batch, &c->warmup, &c->decay };
    float *real[] = { &n->rope_base, &n->eps, &c->rate, &c->rate_end, &c->beta1, &c->beta2, &c->weight_decay,
        &c->clip };
    for (size_t i = 0; i < NIGH_COUNT(whole); i++) *whole[i] = (uint32_t)nigh_read_uint(r, 4);
    c->steps = nigh_read_uint(r, 8);
    c->seed = nigh_read_uint(r, 8);
    for (size_t i = 0; i < NIGH_COUNT(real); i++) *real[i] = read_float(r);
    s->step = nigh_read_uint(r, 8);
    s->recent = read_double(r);
    for (size_t i = 0; i < NIGH_CORPUS_SOURCES; i++) s->at.taken[i] = nigh_read_uint(r, 8);
    for (size_t i = 0; i < NIGH_CORPUS_SOURCES; i++) s->at.late_taken[i] = nigh_read_uint(r, 8);
}

/* Magic, version, lengths, hash; then head and sizes. Nothing is allocated before all of it agrees. */
static nigh_status check(nigh_reader *r, nigh_state *s, nigh_str file, nigh_err *err) {
    uint8_t hash[HASH_BYTES];
    if (!nigh_str_eq(nigh_read_bytes(r, 8), NIGH_STR("NIGHCKPT")))
        return nigh_fail(err, NIGH_EDATA, 0, "this is no checkpoint of nigh learn");
    uint64_t version = nigh_read_uint(r, 4), head = nigh_read_uint(r, 4), bytes = nigh_read_uint(r, 8);
    if (!r->bad && version > VERSION)
        return nigh_failf(err, NIGH_ENOSUP, 8, "the checkpoint has version %u; this program knows version %u",
            (unsigned)version, (unsigned)VERSION);
    if (r->bad || version == 0 || head != HEAD_BYTES || bytes != file.len || file.len < HEAD_BYTES + HASH_BYTES)
        return nigh_fail(err, NIGH_EDATA, 12, "the checkpoint is cut short or its length is wrong");
    hash_of((const uint8_t *)file.ptr, file.len - HASH_BYTES, hash);
    if (memcmp(hash, file.ptr + file.len - HASH_BYTES, HASH_BYTES) != 0)
        return nigh_fail(err, NIGH_EDATA, file.len - HASH_BYTES, "the checkpoint's checksum is wrong");
    read_head(r, s);
    uint64_t merges = nigh_read_uint(r, 8), count = nigh_read_uint(r, 8);
    NIGH_TRY(nigh_recipe_check(&s->recipe, err));
    if (merges > 65535 - NIGH_BPE_BASE || merges + NIGH_BPE_BASE > s->recipe.shape.vocab
        || count != nigh_shape_count(&s->recipe.shape) || file_bytes(merges, count) != file.len)
        return nigh_fail(err, NIGH_EDATA, HEAD_BYTES, "the checkpoint's counts do not fit its length");
    s->merge_count = merges, s->count = count;
    return NIGH_OK;
}

nigh_status nigh_state_load(nigh_state *s, const char *path, nigh_err *err) {
    nigh_file file;
    *s = (nigh_state){ 0 };
    NIGH_TRY(nigh_file_open(&file, path, err));
    nigh_reader r = nigh_reader_of(file.bytes);
    nigh_status status = check(&r, s, file.bytes, err);
    if (status == NIGH_OK) {
        s->merges = nigh_alloc(s->merge_count + 1, sizeof *s->merges);
        s->params = nigh_alloc(s->count, sizeof(float));
        s->m = nigh_alloc(s->count, sizeof(float));
        s->v = nigh_alloc(s->count, sizeof(float));
        if (!s->merges || !s->params || !s->m || !s->v)
            status = nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the checkpoint");
    }
    if (status == NIGH_OK) {
        for (size_t i = 0; i < s->merge_count; i++) for (size_t j = 0; j < 2; j++)
            s->merges[i][j] = (uint16_t)nigh_read_uint(&r, 2);
        read_floats(&r, s->params, s->count);
        read_floats(&r, s->m, s->count);
        read_floats(&r, s->v, s->count);
    }
    nigh_file_close(&file);
    if (status != NIGH_OK) nigh_state_release(s);
    return status;
}
