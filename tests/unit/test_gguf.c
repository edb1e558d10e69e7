/* test_gguf.c - the reader and the writer of GGUF: every group of bad files, the four sweeps over a good one, files
 * that are no files, round trips, and the limits of memory. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>

#include "base/os.h"
#include "gguf_cases.h"
#include "gguf_sane.h"
#include "test.h"

enum { SPLICES = 2000 };

static struct { size_t shown, refused, accepted; } tally;

/* Parses one input and checks the answer against what is wanted. */
static void visit(void *ud, const char *id, gc_want want, const uint8_t *bytes, size_t len) {
    nigh_gguf g;
    nigh_err err = { 0 };
    size_t live = nigh_alloc_live_bytes();
    (void)ud;
    tally.shown++;
    nigh_status status = nigh_gguf_parse(&g, (nigh_str){ (const char *)bytes, len }, &err);
    if (status == NIGH_OK) {
        tally.accepted++;
        const char *why = sane_gguf(&g);
        CHECK_MSG(!why, "%s: %s", id, why ? why : "");
        CHECK_MSG(nigh_alloc_live_bytes() - live <= 8 * len, "%s: the tables take %zu bytes", id,
                  nigh_alloc_live_bytes() - live);
        CHECK_MSG(want != GC_BAD_FILE, "%s was accepted", id);
        nigh_gguf_release(&g);
    } else {
        tally.refused++;
        CHECK_MSG(status == NIGH_EDATA || status == NIGH_ENOSUP, "%s: status %d", id, status);
        CHECK_MSG(want == GC_BAD_FILE || want == GC_ANY, "%s was refused: %s", id, err.text);
        CHECK_MSG(err.code == status && err.text[0] && err.at <= len + 64 + 65536, "%s: no place or no words", id);
        CHECK_MSG(g.values == NULL && g.tensors == NULL && g.value_count == 0, "%s: the failed parse left something",
                  id);
    }
    CHECK_MSG(nigh_alloc_live_bytes() == live, "%s leaks", id);
}

static void show_tally(const char *what) {
    printf("  %s: %zu inputs, %zu refused, %zu accepted and sane\n", what, tally.shown, tally.refused, tally.accepted);
    CHECK(tally.shown > 0);
    tally.shown = tally.refused = tally.accepted = 0;
}

static gc_file *seed_file(void) {
    gc_model *m = malloc(sizeof *m);
    gc_file *f = malloc(sizeof *f);
    if (!m || !f) abort();
    gc_seed(m);
    gc_write(m, f);
    gc_release(m);
    free(m);
    return f;
}

static void free_file(gc_file *f) {
    gc_clear(&f->bytes);
    free(f);
}

static void test_groups(void) {
    gc_cases_each(visit, NULL);
    show_tally("groups");
}

static void test_prefixes(void) {
    gc_file *f = seed_file();
    size_t padding = (32 - GC_VOCAB * 34 % 32) % 32; /* of the last tensor */
    gc_sweep_prefixes(visit, NULL, f, f->bytes.len - padding);
    show_tally("prefixes");
    free_file(f);
}

static void test_bytes(void) {
    gc_file *f = seed_file();
    gc_sweep_bytes(visit, NULL, f, 0, f->data_at, 1);
    gc_sweep_bytes(visit, NULL, f, f->data_at, f->bytes.len, 101);
    show_tally("bytes");
    free_file(f);
}

static void test_fields(void) {
    gc_file *f = seed_file();
    gc_sweep_fields(visit, NULL, f);
    show_tally("integers");
    free_file(f);
}

static void test_splices(void) {
    gc_file *f = seed_file();
    printf("  seed %llu (NIGH_SEED)\n", (unsigned long long)test_seed());
    gc_sweep_splices(visit, NULL, f, SPLICES, test_seed());
    show_tally("splices");
    free_file(f);
}

/* What an error says: the key or tensor by name, and the offset of the thing itself. */
static void expect_words(void *ud, const char *id, gc_want want, const uint8_t *bytes, size_t len) {
    static const struct { const char *id, *words; nigh_status status; } wanted[] = {
        { "G1 only 0 bytes", "empty", NIGH_EDATA },
        { "G2 version 1", "version 1", NIGH_ENOSUP },
        { "G2 version 50331648", "big-endian", NIGH_ENOSUP },
        { "G7 a key twice", "'llama.block_count' is there twice", NIGH_EDATA },
        { "G10 10^9 strings of no bytes", "'x'", NIGH_EDATA },
        { "G12 bool of value 2", "'tokenizer.ggml.add_bos_token'", NIGH_EDATA },
        { "G18 dimension 1 is 0", "'output.weight': a dimension is 0", NIGH_EDATA },
        { "G27 alignment 13", "'general.alignment'", NIGH_EDATA },
        { "G28 tensor of type 16", "'output.weight': IQ2_XXS", NIGH_ENOSUP },
        { "G28 tensor of type 4", "'output.weight'", NIGH_ENOSUP },
        { "G29 Q8_0 rows of 33", "33 values", NIGH_EDATA },
        { "G34 two tensors at one place", "'blk.0.attn_norm.weight': its offset is 0", NIGH_EDATA },
        { "G38 a tensor's name twice", "'blk.0.attn_k.weight' is there twice", NIGH_EDATA },
        { "G46 safetensors, header of 60 bytes", "safetensors", NIGH_EDATA } };
    (void)want;
    for (size_t i = 0; i < NIGH_COUNT(wanted); i++) {
        nigh_gguf g;
        nigh_err err = { 0 };
        if (strcmp(id, wanted[i].id) != 0) continue;
        ++*(size_t *)ud;
        nigh_status status = nigh_gguf_parse(&g, (nigh_str){ (const char *)bytes, len }, &err);
        CHECK_MSG(status == wanted[i].status && strstr(err.text, wanted[i].words), "%s: %d %s", id, status, err.text);
    }
}

static void test_words(void) {
    size_t found = 0;
    gc_cases_each(expect_words, &found);
    CHECK_MSG(found == 14, "%zu cases of 14 exist", found);
}

/* ---- getters ---- */

static void test_getters(void) {
    gc_model *m = malloc(sizeof *m);
    gc_file *f = malloc(sizeof *f);
    nigh_gguf g;
    nigh_err err = { 0 };
    if (!m || !f) abort();
    gc_seed(m);
    gc_number(m, "i8", GC_I8, 0x80);
    gc_number(m, "u64", GC_U64, 7);
    gc_number(m, "big", GC_U64, 1ull << 32);
    gc_number(m, "f64", GC_F64, 0x3ff8000000000000);
    gc_number(m, "inf", GC_F64, 0x7ff0000000000000);
    gc_number(m, "huge", GC_F64, 0x7fe0000000000000);
    gc_uint(gc_array(m, "i16s", GC_I16, 2), 0x0003ffff, 4);
    gc_uint(gc_array(m, "u64s", GC_U64, 1), UINT64_MAX, 8);
    gc_write(m, f);
    CHECK(nigh_gguf_parse(&g, (nigh_str){ (const char *)f->bytes.ptr, f->bytes.len }, &err) == NIGH_OK);
    uint32_t u = 99;
    float x = 99;
    bool b = false;
    nigh_str s;
    const nigh_gguf_value *a;
    CHECK(nigh_gguf_u32(&g, NIGH_STR("u64"), &u, &err) == NIGH_OK && u == 7);
    CHECK(nigh_gguf_u32(&g, NIGH_STR("none"), &u, &err) == NIGH_ENOENT && u == 7 && strstr(err.text, "'none'"));
    CHECK(nigh_gguf_u32(&g, NIGH_STR("i8"), &u, &err) == NIGH_EDATA && strstr(err.text, "'i8'")
          && err.at == nigh_gguf_find(&g, NIGH_STR("i8"))->at);
    CHECK(nigh_gguf_u32(&g, NIGH_STR("big"), &u, &err) == NIGH_EDATA && u == 7);
    CHECK(nigh_gguf_u32(&g, NIGH_STR("f64"), &u, &err) == NIGH_EDATA);
    CHECK(nigh_gguf_f32(&g, NIGH_STR("f64"), &x, &err) == NIGH_OK && x == 1.5f);
    CHECK(nigh_gguf_f32(&g, NIGH_STR("inf"), &x, &err) == NIGH_EDATA && x == 1.5f);
    CHECK(nigh_gguf_f32(&g, NIGH_STR("huge"), &x, &err) == NIGH_EDATA);
    CHECK(nigh_gguf_f32(&g, NIGH_STR("u64"), &x, &err) == NIGH_EDATA);
    CHECK(nigh_gguf_bool(&g, NIGH_STR("tokenizer.ggml.add_bos_token"), &b, &err) == NIGH_OK && b);
    CHECK(nigh_gguf_string(&g, NIGH_STR("general.name"), &s, &err) == NIGH_OK && nigh_str_eq(s, NIGH_STR("tiny")));
    CHECK(nigh_gguf_string(&g, NIGH_STR("i16s"), &s, &err) == NIGH_EDATA && strstr(err.text, "an array of i16"));
    CHECK(nigh_gguf_array(&g, NIGH_STR("i16s"), NIGH_GGUF_U32, &a, &err) == NIGH_OK && a->count == 2);
    CHECK(nigh_gguf_item_int(a, 0) == -1 && nigh_gguf_item_int(a, 1) == 3 && nigh_gguf_item_float(a, 0) == -1.0f);
    CHECK(nigh_gguf_array(&g, NIGH_STR("i16s"), NIGH_GGUF_STRING, &a, &err) == NIGH_EDATA);
    CHECK(nigh_gguf_array(&g, NIGH_STR("u64s"), NIGH_GGUF_I32, &a, &err) == NIGH_OK
          && nigh_gguf_item_int(a, 0) == INT64_MAX);
    nigh_gguf_release(&g);
    nigh_gguf_release(&g);
    gc_release(m);
    free(m);
    free_file(f);
}

/* ---- files that are no files, and sparse ones ---- */

static void test_odd_paths(void) {
    char dir[] = "/tmp/nigh-gguf-XXXXXX", path[64];
    nigh_file f;
    nigh_err err = { 0 };
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/fifo", dir);
    CHECK(mkfifo(path, 0600) == 0);
    CHECK_MSG(nigh_file_open(&f, path, &err) == NIGH_EINVAL, "%s", err.text);
    unlink(path);
    CHECK(nigh_file_open(&f, dir, &err) == NIGH_EINVAL);
    CHECK(nigh_file_open(&f, "/dev/zero", &err) == NIGH_EINVAL);
    CHECK(nigh_file_open(&f, "/proc/self/mem", &err) != NIGH_OK || f.bytes.len == 0);
    CHECK(nigh_file_open(&f, "/nowhere/x.gguf", &err) == NIGH_ENOENT && strstr(err.text, "/nowhere/x.gguf"));
    rmdir(dir);
}

/* Writes the seed with its last tensor of `rows` rows into a file of `bytes` bytes, the rest a hole; parses it. */
static nigh_status parse_sparse(const char *path, uint64_t rows, uint64_t token_bytes, off_t bytes, nigh_err *err) {
    gc_model *m = malloc(sizeof *m);
    gc_file *f = malloc(sizeof *f);
    if (!m || !f) abort();
    gc_seed(m);
    if (rows) gc_tensor_of(m, "output.weight")->dims[1] = rows;
    if (token_bytes) memcpy(gc_key_of(m, "tokenizer.ggml.tokens")->payload.ptr + 12, &token_bytes, 8);
    gc_write(m, f);
    int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
    bool ok = fd >= 0 && write(fd, f->bytes.ptr, f->bytes.len) == (ssize_t)f->bytes.len && ftruncate(fd, bytes) == 0;
    if (fd >= 0) close(fd);
    gc_release(m);
    free(m);
    free_file(f);
    if (!ok) return NIGH_EIO;
    nigh_file file;
    nigh_gguf g;
    NIGH_TRY(nigh_file_open(&file, path, err));
    nigh_status status = nigh_gguf_parse(&g, file.bytes, err);
    if (status == NIGH_OK) {
        CHECK(sane_gguf(&g) == NULL);
        nigh_gguf_release(&g);
    }
    nigh_file_close(&file);
    return status;
}

static void test_sparse(void) {
    char path[] = "/tmp/nigh-gguf-XXXXXX";
    nigh_err err = { 0 };
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
    gc_file *f = seed_file();
    uint64_t rows = (1ull << 30) / 34,
             before = f->bytes.len - GC_VOCAB * 34; /* the last tensor needs no padding in the seed */
    uint64_t whole = before + rows * 34;
    free_file(f);
    CHECK_MSG(parse_sparse(path, rows, 0, (off_t)whole, &err) == NIGH_OK, "%s", err.text);
    CHECK(parse_sparse(path, rows, 0, (off_t)whole - 1, &err) == NIGH_EDATA && strstr(err.text, "'output.weight'"));
    CHECK(parse_sparse(path, rows, 0, (off_t)whole + 32, &err) == NIGH_EDATA);
    CHECK(parse_sparse(path, 0, 1ull << 31, (off_t)3 << 30, &err) == NIGH_EDATA && strstr(err.text, "16 MiB"));
    CHECK_MSG(parse_sparse(path, 0, 0, (off_t)1 << 40, &err) == NIGH_EDATA, "%s", err.text);
    unlink(path);
    size_t peak = nigh_os_rss_peak_bytes();
    printf("  peak memory %zu MiB\n", peak >> 20);
#if !defined(__SANITIZE_ADDRESS__)
    CHECK(peak < ((size_t)64 << 20));
#endif
}

/* ---- memory that runs out: every allocation fails once, and from then on ---- */

static void test_no_memory(void) {
    gc_file *f = seed_file();
    nigh_str bytes = { (const char *)f->bytes.ptr, f->bytes.len };
    size_t live = nigh_alloc_live_bytes();
    for (int forever = 0; forever < 2; forever++) {
        nigh_status status = NIGH_ENOMEM;
        uint64_t n = 0;
        while (status == NIGH_ENOMEM && n++ < 100) {
            nigh_gguf g;
            nigh_err err = { 0 };
            nigh_alloc_fail_at(n, forever);
            status = nigh_gguf_parse(&g, bytes, &err);
            nigh_alloc_fail_at(0, false);
            CHECK(status == NIGH_OK || (status == NIGH_ENOMEM && err.code == NIGH_ENOMEM));
            if (status == NIGH_OK) nigh_gguf_release(&g);
            CHECK_MSG(nigh_alloc_live_bytes() == live, "allocation %llu leaks", (unsigned long long)n);
        }
        CHECK(status == NIGH_OK && n == 5);
    }
    free_file(f);
}

/* Many names that share a long beginning, in the worst order for a simple table: still quick. */
static void test_many_names(void) {
    enum { COUNT = 65536 };
    gc_bytes b = { 0 };
    char name[80];
    nigh_gguf g;
    nigh_err err = { 0 };
    gc_add(&b, "GGUF", 4);
    gc_uint(&b, 3, 4);
    gc_uint(&b, 0, 8);
    gc_uint(&b, COUNT, 8);
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "a.long.beginning.that.all.of.the.keys.have.in.common.%05u", COUNT - i);
        gc_text(&b, name);
        gc_uint(&b, GC_U8, 4);
        gc_uint(&b, i & 255, 1);
    }
    uint64_t start = nigh_os_now_ns();
    nigh_status status = nigh_gguf_parse(&g, (nigh_str){ (const char *)b.ptr, b.len }, &err);
    double ms = (double)(nigh_os_now_ns() - start) / 1e6;
    CHECK_MSG(status == NIGH_OK, "%s", err.text);
    printf("  65536 keys in %.1f ms\n", ms);
    CHECK_MSG(ms < 5000, "%f ms", ms);
    CHECK(nigh_gguf_find(&g, nigh_str_of(name)) == &g.values[COUNT - 1]);
    nigh_gguf_release(&g);
    b.ptr[16] = 1; /* 65537 */
    CHECK(nigh_gguf_parse(&g, (nigh_str){ (const char *)b.ptr, b.len }, &err) == NIGH_EDATA && err.at == 16);
    gc_clear(&b);
}

/* ---- writing ---- */

/* Copies a parsed file through the writer. */
static nigh_status rewrite(const nigh_gguf *g, nigh_buf *out, nigh_err *err) {
    nigh_gguf_writer *w = nigh_gguf_writer_new();
    if (!w) return NIGH_ENOMEM;
    for (size_t i = 0; i < g->value_count; i++) nigh_gguf_put_value(w, &g->values[i]);
    for (size_t i = 0; i < g->tensor_count; i++) {
        const nigh_gguf_tensor *t = &g->tensors[i];
        nigh_gguf_put_tensor(w, t->name, t->type, t->dims, t->dim_count, t->data);
    }
    nigh_status status = nigh_gguf_finish(w, out, err);
    nigh_gguf_writer_free(w);
    return status;
}

static void test_rewrite(void) {
    gc_file *f = seed_file();
    nigh_gguf g;
    nigh_err err = { 0 };
    nigh_buf out = NIGH_BUF(1 << 20);
    CHECK(nigh_gguf_parse(&g, (nigh_str){ (const char *)f->bytes.ptr, f->bytes.len }, &err) == NIGH_OK);
    CHECK(rewrite(&g, &out, &err) == NIGH_OK);
    CHECK(out.len == f->bytes.len && memcmp(out.ptr, f->bytes.ptr, out.len) == 0);
    size_t live = nigh_alloc_live_bytes();
    nigh_status status = NIGH_ENOMEM;
    uint64_t n = 0;
    while (status == NIGH_ENOMEM && n++ < 1000) {
        nigh_buf again = NIGH_BUF(1 << 20);
        nigh_alloc_fail_at(n, false);
        status = rewrite(&g, &again, &err);
        nigh_alloc_fail_at(0, false);
        CHECK(status == NIGH_ENOMEM
              || (status == NIGH_OK && again.len == out.len && !memcmp(again.ptr, out.ptr, out.len)));
        nigh_buf_release(&again);
        CHECK_MSG(nigh_alloc_live_bytes() == live, "allocation %llu leaks", (unsigned long long)n);
    }
    CHECK(status == NIGH_OK && n > 5);
    nigh_buf small = NIGH_BUF(out.len - 1);
    CHECK(rewrite(&g, &small, &err) == NIGH_ERANGE && small.len == 0);
    nigh_buf_release(&small);
    nigh_buf_release(&out);
    nigh_gguf_release(&g);
    free_file(f);
}

static void put_all(nigh_gguf_writer *w) {
    static const float values[35] = { 1, 2, 3, [34] = 35 };
    nigh_gguf_put_u32(w, "u", 7);
    nigh_gguf_put_f32(w, "f", -0.5f);
    nigh_gguf_put_bool(w, "b", true);
    nigh_gguf_put_string(w, "s", NIGH_STR("a\0b"));
    nigh_gguf_put_strings(w, "ss", (const nigh_str[]){ NIGH_STR(""), NIGH_STR("xy") }, 2);
    nigh_gguf_put_i32s(w, "is", (const int32_t[]){ -1, 2 }, 2);
    nigh_gguf_put_f32s(w, "fs", (const float[]){ 0.25f }, 1);
    nigh_gguf_put_tensor(w, NIGH_STR("t"), NIGH_TYPE_F32, (const uint64_t[]){ 5, 7 }, 2, values);
    nigh_gguf_put_tensor(w, NIGH_STR("last"), NIGH_TYPE_F32, (const uint64_t[]){ 3 }, 1, values);
}

static void test_write(void) {
    nigh_gguf_writer *w = nigh_gguf_writer_new();
    nigh_buf out = NIGH_BUF(1 << 16);
    nigh_gguf g;
    nigh_err err = { 0 };
    uint32_t u;
    float x;
    bool b;
    nigh_str s;
    const nigh_gguf_value *a;
    put_all(w);
    CHECK(nigh_gguf_finish(w, &out, &err) == NIGH_OK && out.len % 32 == 0);
    nigh_gguf_writer_free(w);
    CHECK_MSG(nigh_gguf_parse(&g, nigh_buf_str(&out), &err) == NIGH_OK, "%s", err.text);
    CHECK(sane_gguf(&g) == NULL && g.value_count == 7 && g.tensor_count == 2 && g.version == 3);
    CHECK(nigh_gguf_u32(&g, NIGH_STR("u"), &u, NULL) == NIGH_OK && u == 7);
    CHECK(nigh_gguf_f32(&g, NIGH_STR("f"), &x, NULL) == NIGH_OK && x == -0.5f);
    CHECK(nigh_gguf_bool(&g, NIGH_STR("b"), &b, NULL) == NIGH_OK && b);
    CHECK(nigh_gguf_string(&g, NIGH_STR("s"), &s, NULL) == NIGH_OK && nigh_str_eq(s, NIGH_STR("a\0b")));
    CHECK(nigh_gguf_array(&g, NIGH_STR("ss"), NIGH_GGUF_STRING, &a, NULL) == NIGH_OK && a->count == 2);
    CHECK(nigh_gguf_array(&g, NIGH_STR("is"), NIGH_GGUF_I32, &a, NULL) == NIGH_OK && nigh_gguf_item_int(a, 0) == -1);
    CHECK(nigh_gguf_array(&g, NIGH_STR("fs"), NIGH_GGUF_F32, &a, NULL) == NIGH_OK
          && nigh_gguf_item_float(a, 0) == 0.25f);
    const nigh_gguf_tensor *t = nigh_gguf_tensor_find(&g, NIGH_STR("t"));
    CHECK(t && t->at % 32 == 0 && t->bytes == 140 && t->dims[0] == 5 && t->dims[1] == 7);
    memcpy(&x, t->data + 136, 4);
    CHECK(x == 35);
    nigh_gguf_release(&g);
    nigh_buf_release(&out);
}

static void test_write_refuses(void) {
    const struct { const char *what, *words; uint64_t dims[2]; nigh_type type; const char *name;
    } bad[] = { { "rows of 33", "'t': the shape", { 33, 1 }, NIGH_TYPE_Q8_0, "t" },
                { "a dimension 0", "'t': the shape", { 32, 0 }, NIGH_TYPE_F32, "t" },
                { "too large", "'t': the shape", { 1ull << 32, 1ull << 32 }, NIGH_TYPE_F32, "t" },
                { "no name", "name", { 1, 1 }, NIGH_TYPE_F32, "" },
                { "a type that is none", "'t': the shape", { 32, 1 }, (nigh_type)5, "t" },
                { "a long name",
                  "name",
                  { 1, 1 },
                  NIGH_TYPE_F32,
                  "1234567890123456789012345678901234567890123456789012345678901234x" } };
    for (size_t i = 0; i < NIGH_COUNT(bad); i++) {
        nigh_gguf_writer *w = nigh_gguf_writer_new();
        nigh_buf out = NIGH_BUF(1 << 16);
        nigh_err err = { 0 };
        static const float zeros[64];
        nigh_gguf_put_tensor(w, nigh_str_of(bad[i].name), bad[i].type, bad[i].dims, 2, zeros);
        nigh_gguf_put_u32(w, "later", 1);
        CHECK_MSG(nigh_gguf_finish(w, &out, &err) != NIGH_OK && strstr(err.text, bad[i].words), "%s: %s", bad[i].what,
                  err.text);
        nigh_gguf_writer_free(w);
        nigh_buf_release(&out);
    }
    nigh_gguf_writer *w = nigh_gguf_writer_new();
    nigh_buf out = NIGH_BUF(1 << 16);
    nigh_err err = { 0 };
    nigh_gguf_put_u32(w, "", 1);
    CHECK(nigh_gguf_finish(w, &out, &err) == NIGH_EDATA && strstr(err.text, "key"));
    nigh_gguf_writer_free(w);
}

TEST_MAIN(T(test_groups), T(test_prefixes), T(test_bytes), T(test_fields), T(test_splices), T(test_words),
          T(test_getters), T(test_odd_paths), T(test_sparse), T(test_no_memory), T(test_many_names), T(test_rewrite),
          T(test_write), T(test_write_refuses))
