/* test_loading.c - a model that comes in pieces is the same model, byte by byte; a head that is cut short asks for
 * more, whatever stands in it. */
#include <stdatomic.h>

#include "base/os.h"
#include "base/pool.h"
#include "engine/model.h"
#include "test.h"

static const char *const names[] = { "models/nigh-stories.gguf" };

static const nigh_model_opts none;

static nigh_buf read_model(void) {
    nigh_buf b = NIGH_BUF((size_t)1 << 30);
    for (size_t i = 0; i < NIGH_COUNT(names); i++)
        if (nigh_file_exists(names[i]) && nigh_file_read(&b, names[i], NULL) == NIGH_OK) break;
    return b;
}

/* The first length of a head that is enough, by doubling. */
static nigh_loading *begin(nigh_str file, size_t *head_bytes) {
    nigh_loading *l = NULL;
    nigh_err err = { 0 };
    for (size_t n = 64; !l; n = nigh_min(2 * n, file.len)) {
        uint8_t *head = malloc(n);              /* of this size, so that a reader beyond it is noticed */
        memcpy(head, file.ptr, n);
        nigh_status status = nigh_loading_new(&l, (nigh_str){ (char *)head, n }, file.len, none, &err);
        nigh_loading_free(l);
        l = NULL;
        free(head);
        if (status == NIGH_OK) {
            *head_bytes = n;
            CHECK(nigh_loading_new(&l, (nigh_str){ file.ptr, n }, file.len, (nigh_model_opts){ 0 }, &err) == NIGH_OK);
            return l;
        }
        CHECK_MSG(status == NIGH_ERANGE && n < file.len, "%zu: %s", n, err.text);
        if (status != NIGH_ERANGE || n == file.len) return NULL;
    }
    return NULL;
}

static void test_same_weights(void) {
    static const size_t pieces[] = { 1, 5000, 1 << 20, SIZE_MAX };
    nigh_buf file = read_model();
    nigh_model *whole;
    if (!file.len) TEST_SKIP("there is no model in models/");
    CHECK(nigh_model_open(&whole, nigh_buf_str(&file), (nigh_model_opts){ 0 }, NULL) == NIGH_OK);
    for (size_t i = 0; i < NIGH_COUNT(pieces); i++) {
        nigh_model *m;
        nigh_err err = { 0 };
        size_t bytes, head = 0, most = 0, before = nigh_alloc_live_bytes();
        uint64_t at;
        nigh_loading *l = begin(nigh_buf_str(&file), &head);
        if (!l) break;
        size_t told = (size_t)nigh_loading_bytes(l);
        CHECK(told >= whole->weights_bytes && told < whole->weights_bytes + (1 << 20));
        CHECK(nigh_loading_end(&m, l, &err) == NIGH_EINVAL);
        CHECK(nigh_loading_feed(l, (const uint8_t *)file.ptr, &err) == NIGH_EINVAL);
        CHECK(!nigh_loading_next(l, 1, &at, &bytes) && nigh_loading_take(l, &err) == NIGH_OK);
        CHECK(nigh_loading_take(l, &err) == NIGH_EINVAL);
        uint64_t before_at = 0;
        while (nigh_loading_next(l, pieces[i], &at, &bytes)) {
            CHECK(at >= head / 4 && bytes > 0 && nigh_span_fits(at, bytes, file.len));
            CHECK_MSG(at >= before_at, "at %zu after %zu: not forward", (size_t)at, (size_t)before_at);
            before_at = at + bytes;
            most = nigh_max(most, bytes);
            uint8_t *copy = malloc(bytes);
            memcpy(copy, file.ptr + at, bytes);
            CHECK(nigh_loading_feed(l, copy, &err) == NIGH_OK);
            free(copy);
        }
        CHECK_MSG(pieces[i] == SIZE_MAX || most <= nigh_max(pieces[i], 1 << 19), "a piece of %zu bytes", most);
        CHECK_MSG(nigh_loading_end(&m, l, &err) == NIGH_OK, "%s", err.text);
        CHECK(m->weights_bytes == whole->weights_bytes && !memcmp(m->weights, whole->weights, whole->weights_bytes));
        CHECK(m->info.parameters == whole->info.parameters && m->info.vocab == whole->info.vocab);
        nigh_model_close(m);
        CHECK_MSG(nigh_alloc_live_bytes() == before, "%zu bytes are left", nigh_alloc_live_bytes() - before);
    }
    nigh_model_close(whole);
    nigh_buf_release(&file);
}

static void test_damaged_heads(void) {
    nigh_buf file = read_model();
    uint64_t state = test_seed();
    nigh_loading *l;
    nigh_err err = { 0 };
    size_t head = 0;
    if (!file.len) TEST_SKIP("there is no model in models/");
    l = begin(nigh_buf_str(&file), &head);
    nigh_loading_free(l);
    for (size_t i = 0; i < 400; i++) {
        size_t n = test_rand(&state) % (i % 4 ? head : head / 2);   /* half of it was not enough */
        uint8_t *copy = malloc(n + 1);
        memcpy(copy, file.ptr, n);
        for (size_t k = 0; n && k < i % 4; k++)
            copy[test_rand(&state) % nigh_min(n, 4096)] = (uint8_t)test_rand(&state);
        nigh_status status = nigh_loading_new(&l, (nigh_str){ (char *)copy, n }, file.len, none, &err);
        CHECK_MSG(i % 4 || status == NIGH_ERANGE, "%zu bytes: %s", n, err.text);
        if (status == NIGH_OK) nigh_loading_free(l);
        free(copy);
    }
    CHECK(nigh_loading_new(&l, NIGH_STR("PK\3\4 this is something else"), 1000, (nigh_model_opts){ 0 }, &err)
          == NIGH_EDATA);
    nigh_buf_release(&file);
}

/* A file whose bytes are asked for, and which refuses some of them. */
typedef struct { nigh_str bytes; atomic_size_t reads, read_bytes, done_bytes; size_t fail_every; } fake_file;

static bool fake_read(void *ud, size_t offset, void *out, size_t bytes) {
    fake_file *f = ud;
    CHECK(nigh_span_fits(offset, bytes, f->bytes.len));
    if (f->fail_every && atomic_fetch_add(&f->reads, 1) % f->fail_every == 0) return false;
    atomic_fetch_add(&f->read_bytes, bytes);
    memcpy(out, f->bytes.ptr + offset, bytes);
    return true;
}

static void fake_done(void *ud, size_t offset, size_t bytes) {
    fake_file *f = ud;
    CHECK(nigh_span_fits(offset, bytes, f->bytes.len));
    if (offset + bytes == f->bytes.len && bytes > f->bytes.len / 2) return;     /* all of it, before the matrices */
    atomic_fetch_add(&f->done_bytes, bytes);
}

/* Read, mapped, or some of it so and some of it so: the same weights, and no byte of a matrix twice. */
static void test_read_or_mapped(void) {
    nigh_buf file = read_model();
    nigh_model *mapped, *m;
    size_t done_alone = 0;
    if (!file.len) TEST_SKIP("there is no model in models/");
    CHECK(nigh_model_open(&mapped, nigh_buf_str(&file), none, NULL) == NIGH_OK);
    for (size_t i = 0; i < 4; i++) {
        fake_file f = { .bytes = nigh_buf_str(&file), .fail_every = i == 2 ? 3 : i == 3 ? 1 : 0 };
        nigh_pool *pool = nigh_pool_new(1 + i % 2);
        nigh_model_opts o = { .pool = pool, .file = &f, .read = i ? fake_read : NULL, .done = fake_done };
        CHECK(nigh_model_open(&m, f.bytes, o, NULL) == NIGH_OK);
        CHECK(m->weights_bytes == mapped->weights_bytes && !memcmp(m->weights, mapped->weights, m->weights_bytes));
        if (i == 0) done_alone = atomic_load(&f.done_bytes);
        CHECK(atomic_load(&f.read_bytes) + atomic_load(&f.done_bytes) == done_alone);
        CHECK((atomic_load(&f.read_bytes) > 0) == (i == 1 || i == 2));
        nigh_model_close(m);
        nigh_pool_free(pool);
    }
    nigh_model_close(mapped);
    nigh_buf_release(&file);
}

TEST_MAIN(T(test_same_weights), T(test_damaged_heads), T(test_read_or_mapped))
