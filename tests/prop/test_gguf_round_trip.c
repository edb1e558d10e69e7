/* test_gguf_round_trip.c - the law of the writer: what is put comes back, key by key and byte by byte, and a file
 * that is read and written again is the same file. On random keys, values, names, shapes and types. */
#include "base/base.h"
#include "gguf_sane.h"
#include "test.h"

enum { FILES = 300, KEYS_MAX = 24, TENSORS_MAX = 12, TEXT_MAX = 40, VALUES_MAX = 4096 };

typedef struct {
    char key[KEYS_MAX][32], name[TENSORS_MAX][32];
    nigh_gguf_type kind[KEYS_MAX];
    uint64_t salt[KEYS_MAX];                /* its value follows from this */
    size_t key_count, tensor_count;
    nigh_type type[TENSORS_MAX];
    uint64_t dims[TENSORS_MAX][4];
    uint32_t dim_count[TENSORS_MAX];
    uint8_t data[TENSORS_MAX][VALUES_MAX * 4];
} plan;

static const nigh_type tensor_types[] = { NIGH_TYPE_F32,  NIGH_TYPE_F16,  NIGH_TYPE_Q4_0,
                                          NIGH_TYPE_Q8_0, NIGH_TYPE_Q6_K, NIGH_TYPE_BF16 };

/* Text of any bytes, also NUL and what is no UTF-8: values may hold them, names may not. */
static nigh_str make_text(uint64_t salt, char buf[TEXT_MAX]) {
    uint64_t state = salt;
    size_t len = test_rand(&state) % TEXT_MAX;
    for (size_t i = 0; i < len; i++) buf[i] = (char)test_rand(&state);
    return (nigh_str){ buf, len };
}

static float make_float(uint64_t salt) { return (float)(int64_t)(salt % 2000001) / 1000.0f - 1000.0f; }

static void make_plan(plan *p, uint64_t *state) {
    static const nigh_gguf_type kinds[] = { NIGH_GGUF_U32, NIGH_GGUF_F32, NIGH_GGUF_BOOL, NIGH_GGUF_STRING,
                                            NIGH_GGUF_ARRAY };
    p->key_count = test_rand(state) % KEYS_MAX;
    p->tensor_count = test_rand(state) % TENSORS_MAX;
    for (size_t i = 0; i < p->key_count; i++) {
        snprintf(p->key[i], sizeof p->key[i], "%c%zu.%u", (char)('a' + test_rand(state) % 26), i,
                 (unsigned)(test_rand(state) % 1000));
        p->kind[i] = kinds[test_rand(state) % NIGH_COUNT(kinds)];
        p->salt[i] = test_rand(state);
    }
    for (size_t i = 0; i < p->tensor_count; i++) {
        snprintf(p->name[i], sizeof p->name[i], "%c%zu", (char)('a' + test_rand(state) % 26), i);
        p->type[i] = tensor_types[test_rand(state) % NIGH_COUNT(tensor_types)];
        p->dim_count[i] = 1 + (uint32_t)(test_rand(state) % 4);
        for (uint32_t d = 0; d < 4; d++) p->dims[i][d] = d < p->dim_count[i] ? 1 + test_rand(state) % 2 : 1;
        p->dims[i][0] = nigh_type_find((uint32_t)p->type[i])->block_values * (1 + test_rand(state) % 2);
        for (size_t k = 0; k < sizeof p->data[i]; k++) p->data[i][k] = (uint8_t)test_rand(state);
    }
}

static void put_key(nigh_gguf_writer *w, const char *key, nigh_gguf_type kind, uint64_t salt) {
    char buf[TEXT_MAX];
    nigh_str text = make_text(salt, buf), texts[3] = { text, NIGH_STR(""), text };
    int32_t ints[2] = { (int32_t)salt, -1 };
    float floats[2] = { make_float(salt), 0 };
    if (kind == NIGH_GGUF_U32) nigh_gguf_put_u32(w, key, (uint32_t)salt);
    else if (kind == NIGH_GGUF_F32) nigh_gguf_put_f32(w, key, make_float(salt));
    else if (kind == NIGH_GGUF_BOOL) nigh_gguf_put_bool(w, key, salt & 1);
    else if (kind == NIGH_GGUF_STRING) nigh_gguf_put_string(w, key, text);
    else if (salt % 3 == 0) nigh_gguf_put_strings(w, key, texts, salt % 4);
    else if (salt % 3 == 1) nigh_gguf_put_i32s(w, key, ints, salt % 2 + 1);
    else nigh_gguf_put_f32s(w, key, floats, salt % 2 + 1);
}

static bool array_is(const nigh_gguf_value *v, uint64_t salt, nigh_str text) {
    size_t cursor = 0;
    nigh_str s;
    if (salt % 3 == 1)
        return v->item_type == NIGH_GGUF_I32 && v->count == salt % 2 + 1 && nigh_gguf_item_int(v, 0) == (int32_t)salt;
    if (salt % 3 == 2) return v->item_type == NIGH_GGUF_F32 && nigh_gguf_item_float(v, 0) == make_float(salt);
    for (uint64_t i = 0; i < salt % 4; i++)
        if (!nigh_gguf_next_string(v, &cursor, &s) || !nigh_str_eq(s, i == 1 ? NIGH_STR("") : text)) return false;
    return v->count == salt % 4 && !nigh_gguf_next_string(v, &cursor, &s);
}

static bool key_is(const nigh_gguf *g, const char *key, nigh_gguf_type kind, uint64_t salt) {
    char buf[TEXT_MAX];
    nigh_str text = make_text(salt, buf), s, name = nigh_str_of(key);
    uint32_t u;
    float f;
    bool b;
    if (kind == NIGH_GGUF_U32) return nigh_gguf_u32(g, name, &u, NULL) == NIGH_OK && u == (uint32_t)salt;
    if (kind == NIGH_GGUF_F32) return nigh_gguf_f32(g, name, &f, NULL) == NIGH_OK && f == make_float(salt);
    if (kind == NIGH_GGUF_BOOL) return nigh_gguf_bool(g, name, &b, NULL) == NIGH_OK && b == (salt & 1);
    if (kind == NIGH_GGUF_STRING) return nigh_gguf_string(g, name, &s, NULL) == NIGH_OK && nigh_str_eq(s, text);
    const nigh_gguf_value *v = nigh_gguf_find(g, name);
    return v && v->type == NIGH_GGUF_ARRAY && array_is(v, salt, text);
}

static void check_file(const plan *p, const nigh_gguf *g, uint64_t seed) {
    CHECK_MSG(g->value_count == p->key_count && g->tensor_count == p->tensor_count, "seed %llu",
              (unsigned long long)seed);
    for (size_t i = 0; i < p->key_count; i++)
        CHECK_MSG(key_is(g, p->key[i], p->kind[i], p->salt[i]), "seed %llu, key %s", (unsigned long long)seed,
                  p->key[i]);
    for (size_t i = 0; i < p->tensor_count; i++) {
        const nigh_gguf_tensor *t = nigh_gguf_tensor_find(g, nigh_str_of(p->name[i]));
        CHECK_MSG(t && t->type == p->type[i] && t->dim_count == p->dim_count[i]
                      && !memcmp(t->dims, p->dims[i], sizeof t->dims) && t->at % NIGH_GGUF_ALIGNMENT == 0
                      && !memcmp(t->data, p->data[i], (size_t)t->bytes),
                  "seed %llu, tensor %s", (unsigned long long)seed, p->name[i]);
    }
}

static void again_is_same(const nigh_gguf *g, uint64_t seed) {
    nigh_buf out = NIGH_BUF(g->file.len);
    nigh_gguf_writer *w = nigh_gguf_writer_new();
    for (size_t i = 0; i < g->value_count; i++) nigh_gguf_put_value(w, &g->values[i]);
    for (size_t i = 0; i < g->tensor_count; i++) {
        const nigh_gguf_tensor *t = &g->tensors[i];
        nigh_gguf_put_tensor(w, t->name, t->type, t->dims, t->dim_count, t->data);
    }
    CHECK_MSG(nigh_gguf_finish(w, &out, NULL) == NIGH_OK && nigh_str_eq(nigh_buf_str(&out), g->file), "seed %llu",
              (unsigned long long)seed);
    nigh_gguf_writer_free(w);
    nigh_buf_release(&out);
}

static void one_file(plan *p, uint64_t seed) {
    uint64_t state = seed;
    nigh_buf out = NIGH_BUF(1 << 22), head = NIGH_BUF(1 << 22);
    nigh_gguf_writer *w = nigh_gguf_writer_new(), *heads = nigh_gguf_writer_new();
    nigh_gguf g;
    nigh_err err = { 0 };
    make_plan(p, &state);
    for (size_t i = 0; i < p->key_count; i++) {
        put_key(w, p->key[i], p->kind[i], p->salt[i]);
        put_key(heads, p->key[i], p->kind[i], p->salt[i]);
    }
    for (size_t i = 0; i < p->tensor_count; i++) {
        nigh_gguf_put_tensor(w, nigh_str_of(p->name[i]), p->type[i], p->dims[i], p->dim_count[i], p->data[i]);
        nigh_gguf_put_tensor(heads, nigh_str_of(p->name[i]), p->type[i], p->dims[i], p->dim_count[i], NULL);
    }
    CHECK_MSG(nigh_gguf_finish(w, &out, &err) == NIGH_OK, "seed %llu: %s", (unsigned long long)seed, err.text);
    CHECK(nigh_gguf_finish_head(heads, &head, &err) == NIGH_OK
          && nigh_str_starts(nigh_buf_str(&out), nigh_buf_str(&head)));
    if (nigh_gguf_parse(&g, nigh_buf_str(&out), &err) == NIGH_OK) {
        CHECK_MSG(sane_gguf(&g) == NULL, "seed %llu", (unsigned long long)seed);
        CHECK(!g.tensor_count || g.tensors[0].at == head.len);
        check_file(p, &g, seed);
        again_is_same(&g, seed);
        nigh_gguf_release(&g);
    } else {
        CHECK_MSG(false, "seed %llu: %s", (unsigned long long)seed, err.text);
    }
    nigh_gguf_writer_free(w);
    nigh_gguf_writer_free(heads);
    nigh_buf_release(&out);
    nigh_buf_release(&head);
}

static void test_round_trip(void) {
    plan *p = malloc(sizeof *p);
    if (!p) abort();
    printf("  seeds %llu to %llu (NIGH_SEED)\n", (unsigned long long)test_seed(),
           (unsigned long long)test_seed() + FILES - 1);
    for (uint64_t i = 0; i < FILES; i++) one_file(p, test_seed() + i);
    CHECK(nigh_alloc_live_bytes() == 0);
    free(p);
}

TEST_MAIN(T(test_round_trip))
