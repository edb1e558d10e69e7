/* vocab_maker.h - small vocabularies for tests, written as GGUF files in memory and opened from there. */
#ifndef NIGH_VOCAB_MAKER_H
#define NIGH_VOCAB_MAKER_H

#include "engine/tokenizer.h"

enum { VM_TOKENS_MAX = 4096 };

/* What a file says; what is NULL or 0 is left out. types, scores: as many as tokens unless the counts say otherwise.
 */
typedef struct {
    const char *model, *pre, *name;
    nigh_str tokens[VM_TOKENS_MAX], merges[VM_TOKENS_MAX];
    int32_t types[VM_TOKENS_MAX];
    float scores[VM_TOKENS_MAX];
    size_t token_count, merge_count, type_count, score_count;
    struct { const char *key; uint32_t id; } ids[8];
    bool no_space_prefix;
    char pool[65536];
    size_t used;
} vocab_maker;

static inline nigh_str vm_keep(vocab_maker *v, const char *p, size_t len) {
    nigh_str s = { v->pool + v->used, len };
    if (len > sizeof v->pool - v->used) abort();
    if (len) memcpy(v->pool + v->used, p, len);
    v->used += len;
    return s;
}

static inline void vm_token_bytes(vocab_maker *v, const char *p, size_t len, int32_t type, float score) {
    if (v->token_count == VM_TOKENS_MAX) abort();
    v->tokens[v->token_count] = vm_keep(v, p, len);
    v->types[v->token_count] = type;
    v->scores[v->token_count++] = score;
    v->type_count = v->score_count = v->token_count;
}

static inline void vm_token(vocab_maker *v, const char *text, int32_t type, float score) {
    vm_token_bytes(v, text, strlen(text), type, score);
}

static inline void vm_merge(vocab_maker *v, const char *text) {
    v->merges[v->merge_count++] = vm_keep(v, text, strlen(text));
}

/* The 256 letters of byte-level BPE, as ids 0..255. */
static inline void vm_alphabet(vocab_maker *v) {
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; b++) {
        bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        uint32_t letter = printable ? b : next++;
        char text[2] = { (char)(0xc0 | letter >> 6), (char)(0x80 | (letter & 63)) };
        if (letter < 128) vm_token_bytes(v, (char[]){ (char)letter }, 1, 1, 0);
        else vm_token_bytes(v, text, 2, 1, 0);
    }
}

/* <unk> <s> </s> and the 256 byte tokens of SentencePiece, ids 0..258. */
static inline void vm_byte_tokens(vocab_maker *v) {
    char text[8];
    vm_token(v, "<unk>", 2, 0);
    vm_token(v, "<s>", 3, 0);
    vm_token(v, "</s>", 3, 0);
    for (unsigned b = 0; b < 256; b++) {
        nigh_format(text, sizeof text, "<0x%02x>", b);
        for (char *p = text + 3; *p; p++) if (*p >= 'a') *p = (char)(*p - 32);
        vm_token(v, text, 6, 0);
    }
}

static inline nigh_status vm_write(const vocab_maker *v, nigh_buf *file, nigh_err *err) {
    nigh_gguf_writer *w = nigh_gguf_writer_new();
    nigh_status st = NIGH_ENOMEM;
    if (!w) return st;
    nigh_gguf_put_string(w, "general.architecture", NIGH_STR("test"));
    if (v->name) nigh_gguf_put_string(w, "general.name", nigh_str_of(v->name));
    if (v->model) nigh_gguf_put_string(w, "tokenizer.ggml.model", nigh_str_of(v->model));
    if (v->pre) nigh_gguf_put_string(w, "tokenizer.ggml.pre", nigh_str_of(v->pre));
    nigh_gguf_put_strings(w, "tokenizer.ggml.tokens", v->tokens, v->token_count);
    if (v->type_count) nigh_gguf_put_i32s(w, "tokenizer.ggml.token_type", v->types, v->type_count);
    if (v->score_count) nigh_gguf_put_f32s(w, "tokenizer.ggml.scores", v->scores, v->score_count);
    if (v->merge_count) nigh_gguf_put_strings(w, "tokenizer.ggml.merges", v->merges, v->merge_count);
    if (v->no_space_prefix) nigh_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", false);
    for (size_t i = 0; i < NIGH_COUNT(v->ids) && v->ids[i].key; i++) nigh_gguf_put_u32(w, v->ids[i].key, v->ids[i].id);
    st = nigh_gguf_finish(w, file, err);
    nigh_gguf_writer_free(w);
    return st;
}

static inline nigh_status vm_open(nigh_tokenizer **out, const vocab_maker *v, nigh_err *err) {
    nigh_buf file = NIGH_BUF(1 << 24);
    nigh_gguf g;
    *out = NULL;
    nigh_status st = vm_write(v, &file, err);
    if (st == NIGH_OK) st = nigh_gguf_parse(&g, nigh_buf_str(&file), err);
    if (st == NIGH_OK) {
        st = nigh_tokenizer_open(out, &g, err);
        nigh_gguf_release(&g);
    }
    nigh_buf_release(&file);
    return st;
}

#endif
