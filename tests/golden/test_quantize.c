/* test_quantize.c - `nigh quantize` against files that were made with the types to begin with, byte for byte, and
 * what it refuses. How the files are made: tools/golden_models.sh; they equal what llama-quantize --pure writes. */
#define _GNU_SOURCE
#include "base/os.h"
#include "gguf_cases.h"
#include "gguf_sane.h"
#include "program.h"
#include "test.h"

static char dir[] = "/tmp/nigh-quantize-XXXXXX", in[64], out[64];

static void begin(void) {
    if (in[0] || !mkdtemp(dir)) return;
    snprintf(in, sizeof in, "%s/in.gguf", dir);
    snprintf(out, sizeof out, "%s/out.gguf", dir);
}

static void save(gc_model *m) {
    gc_file *f = malloc(sizeof *f);
    if (!f) abort();
    gc_write(m, f);
    CHECK(nigh_file_write(in, (nigh_str){ (const char *)f->bytes.ptr, f->bytes.len }, NULL) == NIGH_OK);
    gc_clear(&f->bytes);
    gc_release(m);
    free(m);
    free(f);
}

static gc_model *seed(void) {
    gc_model *m = malloc(sizeof *m);
    if (!m) abort();
    gc_seed(m);
    begin();
    return m;
}

static bool same_files(const char *a, const char *b) {
    nigh_file fa, fb;
    if (nigh_file_open(&fa, a, NULL) != NIGH_OK) return false;
    bool same = nigh_file_open(&fb, b, NULL) == NIGH_OK && nigh_str_eq(fa.bytes, fb.bytes);
    nigh_file_close(&fa);
    nigh_file_close(&fb);
    return same;
}

/* Only `in` and what the caller names lie in the folder. */
static bool folder_holds(const char *names) {
    program_result r = program_run("cd %s && ls -A | tr '\\n' ' '", dir);
    bool same = strcmp(r.text, names) == 0;
    if (!same) fprintf(stderr, "    the folder holds: %s\n", r.text);
    free(r.text);
    return same;
}

static void test_golden(void) {
    static const char *const families[] = { "llama",      "qwen2",        "qwen3",          "gemma2",
                                            "gemma3",     "phi3",         "olmo2",          "bert-mean",
                                            "nomic-bert", "jina-bert-v2", "gemma-embedding" };
    static const char *const types[] = { "q8_0", "q4_0", "f16", "bf16" };
    const char *models = getenv("NIGH_GOLDEN_MODELS");
    char from[1024], to[1024];
    size_t compared = 0;
    begin();
    if (!models) models = "build/golden-models";
    if (!test_shared() || access(models, R_OK) != 0) TEST_SKIP("there are no golden models (make golden-models)");
    for (size_t f = 0; f < NIGH_COUNT(families); f++) {
        for (size_t t = 0; t < NIGH_COUNT(types); t++) {
            snprintf(from, sizeof from, "%s/%s.gguf", models, families[f]);
            snprintf(to, sizeof to, "%s/%s-%s.gguf", models, families[f], types[t]);
            if (access(to, R_OK) != 0) continue;
            program_result r = program_run("%s quantize %s %s %s 2>&1", program_path(), from, out, types[t]);
            CHECK_MSG(r.code == 0 && same_files(out, to), "%s as %s: %d %s", families[f], types[t], r.code, r.text);
            compared++;
            free(r.text);
        }
    }
    printf("  %zu files byte for byte\n", compared);
    CHECK(compared == 22);
    unlink(out);
}

/* F32 from every type that can be read, and Q8_0 of that: the second step's input is the first step's output. */
static void test_from_quantised(void) {
    const char *shared = test_shared();
    char path[1024];
    begin();
    if (!shared) TEST_SKIP("there is no ../shared");
    snprintf(path, sizeof path, "%s/golden/models", shared);
    program_result r = program_run(
        "for f in %s/*.gguf; do %s quantize $f %s F32 && %s quantize %s %s q4_0 && echo; done 2>&1 | grep -c '^$'",
        path, program_path(), out, program_path(), out, in);
    CHECK_MSG(r.code == 0 && strcmp(r.text, "31\n") == 0, "%s", r.text);
    free(r.text);
    unlink(in);
    unlink(out);
}

static void test_keys(void) {
    gc_model *m = seed();
    nigh_file f;
    nigh_gguf g;
    nigh_err err = { 0 };
    uint32_t n = 0;
    gc_drop_key(m, "general.file_type");
    gc_u32(m, "general.alignment", 64);
    m->alignment = 64;
    save(m);
    program_result r = program_run("%s quantize %s %s f16 --json 2>&1", program_path(), in, out);
    CHECK_MSG(r.code == 0 && strstr(r.text, "\"converted\":16,\"kept\":5,"), "%s", r.text);
    CHECK(nigh_file_open(&f, out, &err) == NIGH_OK);
    CHECK_MSG(nigh_gguf_parse(&g, f.bytes, &err) == NIGH_OK, "%s", err.text);
    CHECK(sane_gguf(&g) == NULL && g.tensor_count == 21 && g.value_count == 23);
    CHECK(nigh_gguf_u32(&g, NIGH_STR("general.file_type"), &n, &err) == NIGH_OK && n == 1);
    CHECK(nigh_gguf_u32(&g, NIGH_STR("general.quantization_version"), &n, &err) == NIGH_OK && n == 2);
    CHECK(nigh_gguf_tensor_find(&g, NIGH_STR("output.weight"))->type == NIGH_TYPE_F16);
    CHECK(nigh_gguf_tensor_find(&g, NIGH_STR("output_norm.weight"))->type == NIGH_TYPE_F32);
    CHECK(strstr(r.text, "\"bytes\":") && nigh_gguf_find(&g, NIGH_STR("tokenizer.ggml.tokens"))->count == 64);
    nigh_gguf_release(&g);
    nigh_file_close(&f);
    free(r.text);
    CHECK(folder_holds("in.gguf out.gguf "));
    unlink(out);
}

static void expect(int code, const char *words, program_result r) {
    CHECK_MSG(r.code == code && strstr(r.text, words), "wanted %d '%s', got %d %s", code, words, r.code, r.text);
    free(r.text);
}

static void test_refuses(void) {
    save(seed());
    const char *nigh = program_path();
    expect(1, "the same file", program_run("%s quantize %s %s Q8_0 2>&1", nigh, in, in));
    expect(1, "the same file",
           program_run(
               "ln -s in.gguf %s/link.gguf; %s quantize %s %s/link.gguf Q8_0 2>&1; c=$?; rm %s/link.gguf; exit $c",
               dir, nigh, in, dir, dir));
    expect(1, "is not one of Q8_0", program_run("%s quantize %s %s Q4_K 2>&1", nigh, in, out));
    expect(1, "is not one of Q8_0", program_run("%s quantize %s %s Q9 2>&1", nigh, in, out));
    expect(1, "three words", program_run("%s quantize %s %s 2>&1", nigh, in, out));
    expect(2, "no such file", program_run("%s quantize %s/none.gguf %s F16 2>&1", nigh, dir, out));
    expect(5, "cannot be written", program_run("%s quantize %s %s/none/out.gguf F16 2>&1", nigh, in, dir));
    /* A file that may not grow past 8 KiB: the error is reported and nothing is left. */
    expect(5, "cannot be written", program_run("trap '' XFSZ; ulimit -f 8; %s quantize %s %s F16 2>&1", nigh, in, out));
    CHECK(folder_holds("in.gguf "));
    gc_model *m = seed();
    gc_file *f = malloc(sizeof *f);
    if (!f) abort();
    gc_write(m, f);
    memset(f->bytes.ptr + f->data_at, 0x7c, 34); /* the first scale is a NaN */
    CHECK(nigh_file_write(in, (nigh_str){ (const char *)f->bytes.ptr, f->bytes.len }, NULL) == NIGH_OK);
    gc_clear(&f->bytes);
    gc_release(m);
    free(m);
    free(f);
    expect(6, "'token_embd.weight' holds a value that is not finite",
           program_run("%s quantize %s %s F16 2>&1", nigh, in, out));
    CHECK(folder_holds("in.gguf "));
    unlink(in);
    rmdir(dir);
}

TEST_MAIN(T(test_golden), T(test_from_quantised), T(test_keys), T(test_refuses))
