/* test_tokenizers.c - every vocabulary beside the project against what it is known to give: the .inp/.out pairs, the
 * texts of golden/tokenizers and of golden/logits (ids plain, ids with special tokens, the plain ids as text again),
 * and the special ids of each file. */
#include "model_files.h"

static const char *const vocabularies[] = { "bert-bge", "deepseek-coder", "deepseek-llm", "falcon",
                                            "gpt-2",    "llama-spm",      "mpt",          "phi-3",
                                            "refact",   "starcoder" };

static nigh_tokenizer *open_tokenizer(const char *path) {
    nigh_err err = { 0 };
    nigh_file f;
    nigh_gguf g;
    nigh_tokenizer *t = NULL;
    if (nigh_file_open(&f, path, &err) != NIGH_OK) return NULL;
    if (nigh_gguf_parse(&g, f.bytes, &err) == NIGH_OK) {
        if (nigh_tokenizer_open(&t, &g, &err) != NIGH_OK) fprintf(stderr, "    %s: %s\n", path, err.text);
        nigh_gguf_release(&g);
    }
    nigh_file_close(&f);    /* a tokenizer keeps nothing of the file */
    return t;
}

static void print_ids(const char *what, const int32_t *ids, size_t count) {
    fprintf(stderr, "      %s", what);
    for (size_t i = 0; i < count && i < 60; i++) fprintf(stderr, " %d", ids[i]);
    fputc('\n', stderr);
}

static void check_ids(const nigh_tokenizer *t, const char *name, nigh_str text, nigh_encode_opts o,
                      const int32_t *want, size_t count) {
    nigh_ids ids = NIGH_IDS(1 << 20);
    nigh_err err = { 0 };
    CHECK_MSG(nigh_tokenizer_encode(t, text, o, &ids, &err) == NIGH_OK, "%s: %s", name, err.text);
    bool same = ids.len == count && (!count || !memcmp(ids.ptr, want, count * sizeof *want));
    CHECK_MSG(same, "%s, %s: \"%.*s\"", name, o.parse_special ? "special" : "plain", (int)text.len, text.ptr);
    if (!same) {
        print_ids("want", want, count);
        print_ids("have", ids.ptr, ids.len);
    }
    nigh_ids_release(&ids);
}

/* ---- .inp / .out ---- */

static size_t parse_line(nigh_str line, int32_t *out, size_t cap) {
    size_t n = 0;
    for (size_t i = 0; i < line.len;) {
        size_t end = nigh_str_find(line, NIGH_STR(" "), i);
        int64_t v;
        if (end == SIZE_MAX) end = line.len;
        if (end > i && n < cap && nigh_str_to_i64(nigh_str_slice(line, i, end), &v)) out[n++] = (int32_t)v;
        i = end + 1;
    }
    return n;
}

static size_t check_pairs(const nigh_tokenizer *t, const char *name, nigh_str texts, nigh_str lines) {
    static const nigh_str mark = { "\n__ggml_vocab_test__\n", 21 };
    int32_t want[1024];
    size_t cases = 0, line = 0;
    for (size_t at = 0; at < texts.len; cases++) {
        size_t end = nigh_str_find(texts, mark, at), stop = nigh_str_find(lines, NIGH_STR("\n"), line);
        if (end == SIZE_MAX || stop == SIZE_MAX) break;
        size_t count = parse_line(nigh_str_slice(lines, line, stop), want, NIGH_COUNT(want));
        check_ids(t, name, nigh_str_slice(texts, at, end), (nigh_encode_opts){ 0 }, want, count);
        at = end + mark.len;
        line = stop + 1;
    }
    return cases;
}

static void test_pairs(void) {
    char path[1024];
    if (!test_shared()) TEST_SKIP("the shared folder is absent");
    for (size_t i = 0; i < NIGH_COUNT(vocabularies); i++) {
        nigh_buf texts = NIGH_BUF(1 << 20), lines = NIGH_BUF(1 << 20);
        int n = snprintf(path, sizeof path, "%s/data/tokenizers/ggml-vocab-%s.gguf", test_shared(), vocabularies[i]);
        nigh_tokenizer *t = open_tokenizer(path);
        CHECK_MSG(t, "%s", path);
        snprintf(path + n, sizeof path - (size_t)n, ".inp");
        CHECK(nigh_file_read(&texts, path, NULL) == NIGH_OK);
        snprintf(path + n, sizeof path - (size_t)n, ".out");
        CHECK(nigh_file_read(&lines, path, NULL) == NIGH_OK);
        if (t) CHECK(check_pairs(t, vocabularies[i], nigh_buf_str(&texts), nigh_buf_str(&lines)) == 46);
        nigh_buf_release(&texts);
        nigh_buf_release(&lines);
        nigh_tokenizer_close(t);
    }
}

/* ---- the JSON files ---- */

static bool hex_equal(nigh_str hex, nigh_str bytes) {
    static const char digits[] = "0123456789abcdef";
    bool same = hex.len == 2 * bytes.len;
    for (size_t i = 0; same && i < bytes.len; i++) {
        uint8_t b = (uint8_t)bytes.ptr[i];
        same = hex.ptr[2 * i] == digits[b >> 4] && hex.ptr[2 * i + 1] == digits[b & 15];
    }
    return same;
}

/* The whole list, and the same ids as a stream that cleans spaces too. */
static void check_decoded(const nigh_tokenizer *t, const char *name, const int32_t *ids, size_t count,
                          const nigh_json *want) {
    nigh_buf text = NIGH_BUF(1 << 20), stream = NIGH_BUF(1 << 20);
    nigh_detok d = { .clean = true };
    const nigh_json *hex = json_get(want, "hex");
    CHECK(nigh_tokenizer_decode(t, ids, count, false, &text) == NIGH_OK);
    nigh_str have = nigh_buf_str(&text);
    bool same = hex ? hex_equal(hex->text, have) : nigh_str_eq(want->text, have);
    CHECK_MSG(same, "%s: decoded \"%.*s\", not \"%.*s\"", name, (int)have.len, have.ptr,
              hex ? 0 : (int)want->text.len, want->text.ptr);
    for (size_t i = 0; i < count; i++) CHECK(nigh_detok_push(&d, t, ids[i], false, &stream) == NIGH_OK);
    CHECK(nigh_detok_flush(&d, &stream) == NIGH_OK);
    if (!hex)
        CHECK_MSG(nigh_str_eq(nigh_buf_str(&stream), have), "%s: streamed \"%.*s\"", name, (int)stream.len,
                  stream.ptr);
    nigh_buf_release(&text);
    nigh_buf_release(&stream);
}

static void check_file(const nigh_tokenizer *t, const char *name, const nigh_json *root) {
    const struct {
        const char *key;
        int32_t have;
    } ids[] = { { "n_vocab", (int32_t)nigh_tokenizer_count(t) },
                { "bos", nigh_tokenizer_bos(t) },
                { "eos", nigh_tokenizer_eos(t) },
                { "eot", nigh_tokenizer_eot(t) } };
    for (size_t i = 0; i < NIGH_COUNT(ids); i++) {
        const nigh_json *v = json_get(root, ids[i].key);
        if (v)
            CHECK_MSG(v->integer == ids[i].have, "%s: %s is %d, not %d", name, ids[i].key, ids[i].have,
                      (int)v->integer);
    }
    const nigh_json *add_bos = json_get(root, "add_bos"), *add_eos = json_get(root, "add_eos");
    if (add_bos) CHECK_MSG(add_bos->boolean == nigh_tokenizer_adds_bos(t), "%s: add_bos", name);
    if (add_eos) CHECK_MSG(add_eos->boolean == nigh_tokenizer_adds_eos(t), "%s: add_eos", name);
    for (const nigh_json *x = nigh_json_first(json_get(root, "texts")); x; x = x->next) {
        size_t count;
        nigh_str text = json_get(x, "text")->text;
        int32_t *special = json_ids(json_get(x, "ids_special"), &count);
        check_ids(t, name, text, (nigh_encode_opts){ true, true }, special, count);
        nigh_free(special);
        int32_t *plain = json_ids(json_get(x, "ids_plain"), &count);
        check_ids(t, name, text, (nigh_encode_opts){ 0 }, plain, count);
        check_decoded(t, name, plain, count, json_get(x, "decoded_plain"));
        nigh_free(plain);
    }
    const nigh_json *chat = json_get(root, "chat");
    if (json_get(chat, "ids")) {
        size_t count;
        int32_t *want = json_ids(json_get(chat, "ids"), &count);
        check_ids(t, name, json_get(chat, "text")->text, (nigh_encode_opts){ .parse_special = true }, want, count);
        nigh_free(want);
    }
}

static bool check_json(const char *name, const char *gguf) {
    nigh_json_doc doc;
    nigh_buf text;
    nigh_tokenizer *t = open_tokenizer(gguf);
    CHECK_MSG(t, "%s does not open", gguf);
    if (!t || !golden_read(name, &doc, &text)) {
        nigh_tokenizer_close(t);
        return false;
    }
    check_file(t, name, doc.root);
    bool any = nigh_json_first(json_get(doc.root, "texts"));
    nigh_json_release(&doc);
    nigh_buf_release(&text);
    nigh_tokenizer_close(t);
    return any;
}

static void test_vocabularies(void) {
    char path[1024], name[64];
    if (!test_shared()) TEST_SKIP("the shared folder is absent");
    for (size_t i = 0; i < NIGH_COUNT(vocabularies); i++) {
        snprintf(path, sizeof path, "%s/data/tokenizers/ggml-vocab-%s.gguf", test_shared(), vocabularies[i]);
        snprintf(name, sizeof name, "tokenizers/%s.json", vocabularies[i]);
        CHECK_MSG(check_json(name, path), "%s", name);
    }
}

static void test_models(void) {
    static const char *const models[] = { "bert-cls",      "bert-mean",
                                          "bert-none",     "gemma-embedding",
                                          "gemma2",        "gemma3",
                                          "jina-bert-v2",  "llama",
                                          "llama-freqs",   "llama-linear",
                                          "llama-mha",     "llama-spm-tied",
                                          "llama-yarn",    "nomic-bert",
                                          "olmo2",         "phi3",
                                          "phi3-longrope", "phi3-longrope-short",
                                          "qwen2",         "qwen2-untied",
                                          "qwen3",         "stories260K" };
    char path[1024], file[64], name[64];
    size_t checked = 0;
    for (size_t i = 0; i < NIGH_COUNT(models); i++) {
        snprintf(file, sizeof file, "%s.gguf", models[i]);
        snprintf(name, sizeof name, "logits/%s.json", models[i]);
        if (!model_file_path(file, path, sizeof path)) continue;
        CHECK_MSG(check_json(name, path), "%s", name);
        checked++;
    }
    printf("  vocabularies of models checked: %zu of %zu\n", checked, NIGH_COUNT(models));
    if (!checked) TEST_SKIP("no reference models (NIGH_GOLDEN_MODELS is not set)");
}

TEST_MAIN(T(test_pairs), T(test_vocabularies), T(test_models))
