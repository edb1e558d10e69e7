/* cli_inspect.c - `nigh inspect MODEL`: what a GGUF file says about itself, on one page or as JSON.
 * It reads the container only, so it also shows vocabularies, adapters and models that the engine cannot run. The file
 * comes from a stranger: its text is printed through show.h, and arrays are shown by their first items. */
#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "base/os.h"
#include "base/sha256.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "engine/gguf.h"

enum { ITEMS_SHOWN = 6, LETTERS_SHOWN = 72, TYPE_IDS = 64 };

typedef struct {
    const char *path;
    nigh_gguf gguf;
    nigh_str arch;                      /* empty when the file does not say */
    uint64_t parameters;
    char sha256[65], template_sha256[65];   /* empty: not asked for, no template */
    struct { uint64_t tensors, bytes; } types[TYPE_IDS];
} page;

/* ---- what the file says ---- */

static nigh_str string_of(const page *p, const char *key) {
    nigh_str s;
    return nigh_gguf_string(&p->gguf, nigh_str_of(key), &s, NULL) == NIGH_OK ? s : (nigh_str){ 0 };
}

/* The value of "<architecture>.<suffix>"; NULL when absent. */
static const nigh_gguf_value *arch_value(const page *p, const char *suffix) {
    char key[256];
    size_t n = nigh_format(key, sizeof key, "%.*s.%s", (int)nigh_min(p->arch.len, 128), p->arch.ptr, suffix);
    return p->arch.len ? nigh_gguf_find(&p->gguf, (nigh_str){ key, n }) : NULL;
}

static bool is_integer(nigh_gguf_type t) { return t <= NIGH_GGUF_I32 || t == NIGH_GGUF_U64 || t == NIGH_GGUF_I64; }

/* A whole number of the architecture, or of an array that repeats it for each layer; -1 when there is none. */
static int64_t arch_number(const page *p, const char *suffix) {
    const nigh_gguf_value *v = arch_value(p, suffix);
    return v && v->count && is_integer(v->item_type) ? nigh_gguf_item_int(v, 0) : -1;
}

static uint64_t vocabulary_of(const page *p) {
    const nigh_gguf_value *tokens;
    nigh_status status = nigh_gguf_array(&p->gguf, NIGH_STR("tokenizer.ggml.tokens"), NIGH_GGUF_STRING, &tokens, NULL);
    return status == NIGH_OK ? tokens->count : 0;
}

static void gather(page *p, bool hash) {
    p->arch = string_of(p, "general.architecture");
    for (size_t i = 0; i < p->gguf.tensor_count; i++) {
        const nigh_gguf_tensor *t = &p->gguf.tensors[i];
        p->parameters += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        p->types[t->type].tensors++;
        p->types[t->type].bytes += t->bytes;
    }
    if (hash) nigh_sha256_of(p->gguf.file, p->sha256);
    nigh_str template = string_of(p, "tokenizer.chat_template");
    if (template.ptr) nigh_sha256_of(template, p->template_sha256);
}

/* ---- the page ---- */

static void label(const char *name) { printf("%-15s ", name); }

static void print_text(const char *name, nigh_str text) {
    if (!text.len) return;
    label(name);
    nigh_show_text(stdout, text, LETTERS_SHOWN);
    putchar('\n');
}

static void print_float(float f) {
    if (isfinite(f)) printf("%g", (double)f);
    else fputs(isnan(f) ? "NaN" : f > 0 ? "infinite" : "-infinite", stdout);
}

/* A u64 as it is: nigh_gguf_item_int stops at the largest int64. */
static uint64_t item_u64(const nigh_gguf_value *v, uint64_t i) {
    nigh_reader in = nigh_reader_of(nigh_str_slice(v->bytes, 8 * (size_t)i, 8 * (size_t)i + 8));
    return nigh_read_uint(&in, 8);
}

static void print_item(const nigh_gguf_value *v, uint64_t i) {
    if (v->item_type == NIGH_GGUF_F32 || v->item_type == NIGH_GGUF_F64) print_float(nigh_gguf_item_float(v, i));
    else if (v->item_type == NIGH_GGUF_BOOL) fputs(nigh_gguf_item_int(v, i) ? "true" : "false", stdout);
    else if (v->item_type == NIGH_GGUF_U64) printf("%llu", (unsigned long long)item_u64(v, i));
    else printf("%lld", (long long)nigh_gguf_item_int(v, i));
}

static void print_value(const nigh_gguf_value *v) {
    char count[32];
    size_t cursor = 0;
    nigh_str s;
    if (v->type == NIGH_GGUF_STRING) {
        nigh_show_text(stdout, v->bytes, LETTERS_SHOWN);
    } else if (v->type != NIGH_GGUF_ARRAY) {
        print_item(v, 0);
    } else {
        printf("%s items:", nigh_show_count(count, v->count));
        for (uint64_t i = 0; i < v->count && i < ITEMS_SHOWN; i++) {
            putchar(' ');
            if (v->item_type != NIGH_GGUF_STRING) { print_item(v, i); continue; }
            if (!nigh_gguf_next_string(v, &cursor, &s)) break;
            putchar('"');
            nigh_show_text(stdout, s, 24);
            putchar('"');
        }
        if (v->count > ITEMS_SHOWN) fputs(" ...", stdout);
    }
}

static void print_shape(const page *p) {
    char count[32];
    int64_t context = arch_number(p, "context_length"), layers = arch_number(p, "block_count");
    int64_t width = arch_number(p, "embedding_length"), ffn = arch_number(p, "feed_forward_length");
    int64_t heads = arch_number(p, "attention.head_count"), kv = arch_number(p, "attention.head_count_kv");
    if (context >= 0) { label("context"); printf("%s tokens\n", nigh_show_count(count, (uint64_t)context)); }
    if (layers >= 0) { label("layers"); printf("%lld\n", (long long)layers); }
    if (width >= 0) { label("width"); printf("%lld", (long long)width); }
    if (width >= 0 && ffn >= 0) printf(", feed-forward %lld", (long long)ffn);
    if (width >= 0) putchar('\n');
    if (heads >= 0) { label("heads"); printf("%lld", (long long)heads); }
    if (heads >= 0 && kv >= 0) printf(", of keys and values %lld", (long long)kv);
    if (heads >= 0) putchar('\n');
}

static void print_tokenizer(const page *p) {
    char buf[32];
    uint64_t tokens = vocabulary_of(p);
    nigh_str template = string_of(p, "tokenizer.chat_template");
    if (tokens) { label("vocabulary"); printf("%s tokens\n", nigh_show_count(buf, tokens)); }
    print_text("tokenizer", string_of(p, "tokenizer.ggml.model"));
    print_text("pre-tokenizer", string_of(p, "tokenizer.ggml.pre"));
    label("chat template");
    if (template.ptr) printf("yes, %s, sha256 %s\n", nigh_show_bytes(buf, template.len), p->template_sha256);
    else puts("no");
}

static void print_types(const page *p) {
    char count[32], size[32];
    const char *name = "types";
    for (uint32_t id = 0; id < TYPE_IDS; id++) {
        if (!p->types[id].tensors) continue;
        label(name);
        printf("%-7s %6s tensors  %s\n", nigh_type_name(id), nigh_show_count(count, p->types[id].tensors),
               nigh_show_bytes(size, p->types[id].bytes));
        name = "";
    }
}

static void print_tensors(const page *p) {
    char size[32];
    puts("\ntensors");
    for (size_t i = 0; i < p->gguf.tensor_count; i++) {
        const nigh_gguf_tensor *t = &p->gguf.tensors[i];
        printf("  %-7s %9s  ", nigh_type_name((uint32_t)t->type), nigh_show_bytes(size, t->bytes));
        nigh_show_text(stdout, t->name, 0);
        for (uint32_t d = 0; d < t->dim_count; d++) printf("%s%llu", d ? " x " : "  ", (unsigned long long)t->dims[d]);
        putchar('\n');
    }
}

/* In two columns, the first as wide as the longest key that is not overlong. */
static void print_keys(const page *p) {
    size_t width = 0;
    for (size_t i = 0; i < p->gguf.value_count; i++)
        if (p->gguf.values[i].key.len <= 48) width = nigh_max(width, p->gguf.values[i].key.len);
    puts("\nkeys");
    for (size_t i = 0; i < p->gguf.value_count; i++) {
        const nigh_gguf_value *v = &p->gguf.values[i];
        fputs("  ", stdout);
        nigh_show_text(stdout, v->key, 0);
        printf("%*s", (int)(v->key.len < width ? width - v->key.len + 2 : 2), "");
        print_value(v);
        putchar('\n');
    }
}

static void print_page(const page *p, bool tensors) {
    char size[32], keys[32], count[32];
    label("file");
    nigh_show_text(stdout, nigh_str_of(p->path), 0);
    putchar('\n');
    label("format");
    printf("GGUF version %u, %s, %s keys, %s tensors\n", p->gguf.version, nigh_show_bytes(size, p->gguf.file.len),
           nigh_show_count(keys, p->gguf.value_count), nigh_show_count(count, p->gguf.tensor_count));
    if (p->sha256[0]) { label("sha256"); puts(p->sha256); }
    print_text("architecture", p->arch);
    print_text("name", string_of(p, "general.name"));
    label("parameters");
    puts(nigh_show_count(count, p->parameters));
    print_shape(p);
    print_tokenizer(p);
    print_types(p);
    print_keys(p);
    if (tensors) print_tensors(p);
}

/* ---- the same as JSON ---- */

static nigh_status json_text(nigh_buf *b, const char *name, nigh_str text) {
    NIGH_TRY(nigh_buf_addf(b, "\"%s\":", name));
    NIGH_TRY(text.ptr ? nigh_json_add_string(b, text) : nigh_buf_add(b, NIGH_STR("null")));
    return nigh_buf_add_char(b, ',');
}

static nigh_status json_number(nigh_buf *b, const char *name, int64_t v) {
    return v < 0 ? nigh_buf_addf(b, "\"%s\":null,", name) : nigh_buf_addf(b, "\"%s\":%lld,", name, (long long)v);
}

static nigh_status json_item(nigh_buf *b, const nigh_gguf_value *v, uint64_t i) {
    if (v->item_type == NIGH_GGUF_F32 || v->item_type == NIGH_GGUF_F64)
        return nigh_json_add_f32(b, nigh_gguf_item_float(v, i));
    if (v->item_type == NIGH_GGUF_U64) return nigh_buf_addf(b, "%llu", (unsigned long long)item_u64(v, i));
    int64_t n = nigh_gguf_item_int(v, i);
    if (v->item_type == NIGH_GGUF_BOOL) return nigh_buf_addf(b, n ? "true" : "false");
    return nigh_buf_addf(b, "%lld", (long long)n);
}

/* A number or text as it is; an array as {"count": N, "first": [...]}. */
static nigh_status json_value(nigh_buf *b, const nigh_gguf_value *v) {
    size_t cursor = 0;
    nigh_str s;
    if (v->type == NIGH_GGUF_STRING) return nigh_json_add_string(b, v->bytes);
    if (v->type != NIGH_GGUF_ARRAY) return json_item(b, v, 0);
    NIGH_TRY(nigh_buf_addf(b, "{\"count\":%llu,\"first\":[", (unsigned long long)v->count));
    for (uint64_t i = 0; i < v->count && i < ITEMS_SHOWN; i++) {
        if (i) NIGH_TRY(nigh_buf_add_char(b, ','));
        if (v->item_type != NIGH_GGUF_STRING) { NIGH_TRY(json_item(b, v, i)); continue; }
        if (!nigh_gguf_next_string(v, &cursor, &s)) break;
        NIGH_TRY(nigh_json_add_string(b, s));
    }
    return nigh_buf_add(b, NIGH_STR("]}"));
}

static nigh_status json_head(nigh_buf *b, const page *p) {
    nigh_str sha256 = { p->sha256[0] ? p->sha256 : NULL, 64 }, template = string_of(p, "tokenizer.chat_template");
    NIGH_TRY(json_text(b, "file", nigh_str_of(p->path)));
    NIGH_TRY(json_number(b, "version", p->gguf.version));
    NIGH_TRY(json_number(b, "bytes", (int64_t)p->gguf.file.len));
    NIGH_TRY(json_text(b, "sha256", sha256));
    NIGH_TRY(json_text(b, "architecture", p->arch));
    NIGH_TRY(json_text(b, "name", string_of(p, "general.name")));
    NIGH_TRY(nigh_buf_addf(b, "\"parameters\":%llu,", (unsigned long long)p->parameters));
    NIGH_TRY(json_number(b, "context_length", arch_number(p, "context_length")));
    NIGH_TRY(json_number(b, "layers", arch_number(p, "block_count")));
    NIGH_TRY(json_number(b, "embedding_length", arch_number(p, "embedding_length")));
    NIGH_TRY(json_number(b, "feed_forward_length", arch_number(p, "feed_forward_length")));
    NIGH_TRY(json_number(b, "heads", arch_number(p, "attention.head_count")));
    NIGH_TRY(json_number(b, "kv_heads", arch_number(p, "attention.head_count_kv")));
    NIGH_TRY(json_number(b, "vocabulary", (int64_t)vocabulary_of(p)));
    NIGH_TRY(json_text(b, "tokenizer", string_of(p, "tokenizer.ggml.model")));
    NIGH_TRY(json_text(b, "pre_tokenizer", string_of(p, "tokenizer.ggml.pre")));
    if (!template.ptr) return nigh_buf_add(b, NIGH_STR("\"chat_template\":null,"));
    return nigh_buf_addf(b, "\"chat_template\":{\"bytes\":%zu,\"sha256\":\"%s\"},", template.len, p->template_sha256);
}

static nigh_status json_tensors(nigh_buf *b, const page *p) {
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"tensors\":[")));
    for (size_t i = 0; i < p->gguf.tensor_count; i++) {
        const nigh_gguf_tensor *t = &p->gguf.tensors[i];
        NIGH_TRY(nigh_buf_add(b, i ? NIGH_STR(",{\"name\":") : NIGH_STR("{\"name\":")));
        NIGH_TRY(nigh_json_add_string(b, t->name));
        NIGH_TRY(nigh_buf_addf(b, ",\"type\":\"%s\",\"shape\":[", nigh_type_name((uint32_t)t->type)));
        for (uint32_t d = 0; d < t->dim_count; d++)
            NIGH_TRY(nigh_buf_addf(b, "%s%llu", d ? "," : "", (unsigned long long)t->dims[d]));
        NIGH_TRY(nigh_buf_addf(b, "],\"at\":%llu,\"bytes\":%llu}", (unsigned long long)t->at,
                               (unsigned long long)t->bytes));
    }
    return nigh_buf_add_char(b, ']');
}

static nigh_status json_page(nigh_buf *b, const page *p, bool tensors) {
    bool first = true;
    NIGH_TRY(nigh_buf_add_char(b, '{'));
    NIGH_TRY(json_head(b, p));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("\"types\":[")));
    for (uint32_t id = 0; id < TYPE_IDS; id++) {
        if (!p->types[id].tensors) continue;
        NIGH_TRY(nigh_buf_addf(b, "%s{\"type\":\"%s\",\"tensors\":%llu,\"bytes\":%llu}", first ? "" : ",",
                               nigh_type_name(id), (unsigned long long)p->types[id].tensors,
                               (unsigned long long)p->types[id].bytes));
        first = false;
    }
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("],\"keys\":{")));
    for (size_t i = 0; i < p->gguf.value_count; i++) {
        if (i) NIGH_TRY(nigh_buf_add_char(b, ','));
        NIGH_TRY(nigh_json_add_string(b, p->gguf.values[i].key));
        NIGH_TRY(nigh_buf_add_char(b, ':'));
        NIGH_TRY(json_value(b, &p->gguf.values[i]));
    }
    NIGH_TRY(nigh_buf_add_char(b, '}'));
    if (tensors) NIGH_TRY(json_tensors(b, p));
    return nigh_buf_add(b, NIGH_STR("}\n"));
}

/* ---- the command ---- */

static nigh_status show(page *p, bool json, bool tensors, nigh_err *err) {
    if (!json) { print_page(p, tensors); return NIGH_OK; }
    nigh_buf b = NIGH_BUF((size_t)256 << 20);
    nigh_status status = json_page(&b, p, tensors);
    if (status == NIGH_OK) fwrite(b.ptr, 1, b.len, stdout);
    else (void)nigh_failf(err, status, 0, "the page as JSON: %s", nigh_status_text(status));
    nigh_buf_release(&b);
    return status;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    bool json = false, tensors = false, no_hash = false;
    const nigh_opt opts[] = { { "json", 0, NIGH_OPT_FLAG, &json, 0, 0 },
                              { "tensors", 0, NIGH_OPT_FLAG, &tensors, 0, 0 },
                              { "no-hash", 0, NIGH_OPT_FLAG, &no_hash, 0, 0 } };
    char path[4096];
    nigh_file f;
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (argc != 1) return nigh_fail(err, NIGH_EINVAL, 0, "one model is wanted: nigh inspect MODEL");
    NIGH_TRY(nigh_cli_model_path(argv[0], path, sizeof path, err));
    NIGH_TRY(nigh_file_open(&f, path, err));
    page *p = nigh_alloc(1, sizeof *p);
    nigh_status status =
        p ? nigh_gguf_parse(&p->gguf, f.bytes, err) : nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory");
    if (status == NIGH_OK) {
        p->path = path;
        gather(p, !no_hash);
        status = show(p, json, tensors, err);
        nigh_gguf_release(&p->gguf);
    } else if (p && err) {
        char why[sizeof err->text];
        nigh_format(why, sizeof why, "%s", err->text);
        (void)nigh_failf(err, status, err->at, "%s: %s (at byte %llu)", path, why, (unsigned long long)err->at);
    }
    nigh_free(p);
    nigh_file_close(&f);
    return status;
}

const nigh_command nigh_command_inspect = {
    .name = "inspect",
    .line = "show what a model file says about itself",
    .help =
    "usage: nigh inspect MODEL [--json] [--tensors] [--no-hash]\n"
    "\n"
    "Shows format, size, SHA-256, architecture, parameters, types, shape, tokenizer,\n"
    "chat template and keys of a GGUF file. Nothing of the model is run. MODEL is a\n"
    "path or the name of a shipped model.\n"
    "\n"
    "  --json      one JSON object; arrays of the file are given by their count and\n"
    "              first items\n"
    "  --tensors   also every tensor: type, size, name, shape\n"
    "  --no-hash   do not read the whole file for its SHA-256\n"
    "\n"
    "examples:\n"
    "  nigh inspect model.gguf\n"
    "  nigh inspect model.gguf --json --tensors --no-hash\n",
    .run = run,
};
