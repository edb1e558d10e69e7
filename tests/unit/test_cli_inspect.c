/* test_cli_inspect.c - `nigh inspect`: what it shows of a good file, and that a hostile one cannot steer a terminal. */
#define _GNU_SOURCE
#include "base/json.h"
#include "base/os.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "gguf_cases.h"
#include "program.h"
#include "test.h"

static char dir[] = "/tmp/nigh-inspect-XXXXXX", file[64];

/* Writes the model into `file`, whose bytes are hashed. */
static void save(gc_model *m, char sha256[65]) {
    gc_file *f = malloc(sizeof *f);
    if (!f) abort();
    gc_write(m, f);
    nigh_sha256 s;
    uint8_t digest[32];
    nigh_str bytes = { (const char *)f->bytes.ptr, f->bytes.len };
    nigh_sha256_init(&s);
    nigh_sha256_add(&s, bytes);
    nigh_sha256_end(&s, digest);
    nigh_sha256_hex(digest, sha256);
    CHECK(nigh_file_write(file, bytes, NULL) == NIGH_OK);
    gc_clear(&f->bytes);
    gc_release(m);
    free(f);
}

static gc_model *seed(void) {
    gc_model *m = malloc(sizeof *m);
    if (!m) abort();
    gc_seed(m);
    if (!file[0] && mkdtemp(dir)) snprintf(file, sizeof file, "%s/x.gguf", dir);
    return m;
}

static void test_page(void) {
    static const char *const wanted[] = { "GGUF version 3, 27.9 KB, 23 keys, 21 tensors",
                                          "architecture    llama",
                                          "name            tiny",
                                          "parameters      ",
                                          "context         64 tokens",
                                          "layers          2",
                                          "width           32, feed-forward 64",
                                          "heads           2, of keys and values 1",
                                          "vocabulary      64 tokens",
                                          "tokenizer       llama",
                                          "chat template   no",
                                          "Q8_0        16 tensors",
                                          "F32          5 tensors",
                                          "  llama.rope.freq_base                    10000\n",
                                          "64 items: \"<unk>\" \"<s>\"" };
    gc_model *m = seed();
    char sha256[65];
    gc_number(m, "large", GC_U64, UINT64_MAX);
    save(m, sha256);
    free(m);
    program_result r = program_run("%s inspect %s 2>&1", program_path(), file);
    CHECK(strstr(r.text, " 18446744073709551615\n"));
    CHECK_MSG(r.code == 0 && strstr(r.text, sha256), "%s", r.text);
    for (size_t i = 0; i < NIGH_COUNT(wanted); i++)
        CHECK_MSG(strstr(r.text, wanted[i]), "no '%s' in\n%s", wanted[i], r.text);
    CHECK(!strstr(r.text, "blk.1.ffn_down.weight"));
    free(r.text);
    r = program_run("%s inspect %s --tensors --no-hash 2>&1", program_path(), file);
    CHECK(r.code == 0 && !strstr(r.text, sha256) && strstr(r.text, "blk.1.ffn_down.weight  64 x 32"));
    free(r.text);
}

static const nigh_json *member(const nigh_json_doc *doc, const char *key) {
    return nigh_json_get(doc->root, nigh_str_of(key));
}

static void test_json(void) {
    gc_model *m = seed();
    char sha256[65];
    gc_string(m, "tokenizer.chat_template", "{{ x }}");
    gc_number(m, "nan", GC_F32, 0x7fc00000);
    save(m, sha256);
    free(m);
    program_result r = program_run("%s inspect --json --tensors %s 2>&1", program_path(), file);
    nigh_json_doc doc = { 0 };
    nigh_err err = { 0 };
    CHECK_MSG(r.code == 0 && nigh_json_parse(&doc, (nigh_str){ r.text, r.len }, &err) == NIGH_OK, "%s\n%s", err.text,
              r.text);
    CHECK(nigh_str_eq(member(&doc, "sha256")->text, nigh_str_of(sha256)));
    CHECK(nigh_str_eq(member(&doc, "architecture")->text, NIGH_STR("llama")));
    CHECK(member(&doc, "layers")->integer == 2 && member(&doc, "vocabulary")->integer == 64);
    CHECK(member(&doc, "chat_template")->count == 2 && member(&doc, "types")->count == 2);
    CHECK(member(&doc, "tensors")->count == 21 && member(&doc, "keys")->count == 24);
    const nigh_json *tokens = nigh_json_get(member(&doc, "keys"), NIGH_STR("tokenizer.ggml.tokens"));
    CHECK(nigh_json_get(tokens, NIGH_STR("count"))->integer == 64
          && nigh_json_get(tokens, NIGH_STR("first"))->count == 6);
    CHECK(nigh_json_get(member(&doc, "keys"), NIGH_STR("nan"))->type == NIGH_JSON_NULL);
    nigh_json_release(&doc);
    free(r.text);
}

/* Escapes, bells, marks that turn text, and bytes that are no text, wherever a file may put them. */
static void test_hostile_text(void) {
    static const char evil[] = "\x1b]0;owned\x07\x1b[31mred\r\n\x9b\xff\xc2\x9b\xe2\x80\xae"
                               "edoc\xef\xbb\xbf\x7f\xf3\xa0\x81\x81";
    gc_model *m = seed();
    char sha256[65];
    gc_string(m, "general.name", evil);
    gc_string(m, "general.architecture", evil);
    gc_string(m, "tokenizer.chat_template", evil);
    gc_string(m, "tokenizer.ggml.pre", evil);
    gc_text(gc_array(m, "x", GC_STR, 1), evil);
    gc_key_with(m, "turned \xe2\x80\xae", 10);
    save(m, sha256);
    free(m);
    for (int json = 0; json < 2; json++) {
        program_result r = program_run("%s inspect %s --tensors %s 2>&1", program_path(), file, json ? "--json" : "");
        CHECK_MSG(r.code == 0, "%s", r.text);
        CHECK(nigh_utf8_check((nigh_str){ r.text, r.len }) == SIZE_MAX);
        for (size_t i = 0; i < r.len; i++)
            CHECK_MSG(((uint8_t)r.text[i] >= 0x20 && r.text[i] != 0x7f) || r.text[i] == '\n' || json, "byte %02x",
                      (uint8_t)r.text[i]);
        CHECK(!strchr(r.text, 0x1b)
              && (json
                  || (!strstr(r.text, "\xe2\x80\xae")
                      && strstr(r.text, "\\x1b[31mred\\r\\n\\x9b\\xff\\u{9b}\\u{202e}"))));
        free(r.text);
    }
}

static void test_errors(void) {
    gc_model *m = seed();
    char sha256[65];
    gc_tensor_of(m, "output.weight")->dims[1] = 0;
    save(m, sha256);
    free(m);
    program_result r = program_run("%s inspect %s 2>&1", program_path(), file);
    CHECK_MSG(r.code == 6 && strstr(r.text, "'output.weight': a dimension is 0 (at byte "), "%d %s", r.code, r.text);
    free(r.text);
    r = program_run("%s inspect %s/none.gguf 2>&1", program_path(), dir);
    CHECK(r.code == 2 && strstr(r.text, "no such file"));
    free(r.text);
    r = program_run("%s inspect 2>&1", program_path());
    CHECK(r.code == 1 && strstr(r.text, "nigh inspect MODEL"));
    free(r.text);
    r = program_run("%s inspect %s 2>&1", program_path(), dir);
    CHECK_MSG(r.code != 0 && r.code < 128, "%d %s", r.code, r.text);
    free(r.text);
    r = program_run("%s inspect --help", program_path());
    CHECK(r.code == 0 && strstr(r.text, "examples:"));
    free(r.text);
    unlink(file);
    rmdir(dir);
}

TEST_MAIN(T(test_page), T(test_json), T(test_hostile_text), T(test_errors))
