/* fuzz_tokenizer.c - any vocabulary and any text: the vocabulary is refused or everything that it gives keeps its
 * laws. An input that begins with GGUF is a file. Any other is lines, then after an empty line the text: kind and
 * rule     "b gpt-2", "s", "w": byte-level BPE, SentencePiece, WordPiece; in capitals with all 256 byte tokens 3word
 * a token of type 3;  m: a merge;  i5: the token that is BOS, EOS and unknown;  n: its general.name */
#include <stdlib.h>

#include "base/utf8.h"
#include "vocab_maker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond) do { if (!(cond)) abort(); } while (0)

static vocab_maker maker;
static char strings[256];

/* ---- the laws ---- */

static void unescape(nigh_str s, nigh_buf *out) {
    for (size_t i = 0; i < s.len;) {
        bool mark = s.len - i >= 3 && !memcmp(s.ptr + i, "\xe2\x96\x81", 3);
        REQUIRE(nigh_buf_add_char(out, mark ? ' ' : s.ptr[i]) == NIGH_OK);
        i += mark ? 3 : 1;
    }
}

/* With a token for every byte nothing is lost: the pieces are the text, spaces and marks being one. */
static void check_whole(const nigh_tokenizer *t, nigh_str text, const nigh_ids *ids, bool bpe) {
    nigh_buf pieces = NIGH_BUF(1 << 24), a = NIGH_BUF(1 << 24), b = NIGH_BUF(1 << 24);
    for (size_t i = 0; i < ids->len; i++) REQUIRE(nigh_tokenizer_piece(t, ids->ptr[i], true, &pieces) == NIGH_OK);
    if (bpe) REQUIRE(nigh_str_eq(nigh_buf_str(&pieces), text));
    else {
        unescape(nigh_buf_str(&pieces), &a);
        unescape(text, &b);
        REQUIRE(nigh_str_eq(nigh_buf_str(&a), nigh_buf_str(&b)));
    }
    nigh_buf_release(&pieces);
    nigh_buf_release(&a);
    nigh_buf_release(&b);
}

static void check_stream(const nigh_tokenizer *t, const nigh_ids *ids) {
    nigh_buf whole = NIGH_BUF(1 << 24), stream = NIGH_BUF(1 << 24);
    nigh_detok d = { .clean = true };
    REQUIRE(nigh_tokenizer_decode(t, ids->ptr, ids->len, true, &whole) == NIGH_OK);
    for (size_t i = 0; i < ids->len; i++) REQUIRE(nigh_detok_push(&d, t, ids->ptr[i], true, &stream) == NIGH_OK);
    REQUIRE(nigh_detok_flush(&d, &stream) == NIGH_OK);
    REQUIRE(nigh_utf8_check(nigh_buf_str(&stream)) == SIZE_MAX);
    if (nigh_utf8_check(nigh_buf_str(&whole)) == SIZE_MAX)
        REQUIRE(nigh_str_eq(nigh_buf_str(&whole), nigh_buf_str(&stream)));
    nigh_buf_release(&whole);
    nigh_buf_release(&stream);
}

static void check_text(const nigh_tokenizer *t, nigh_str text, bool whole, bool bpe) {
    for (int how = 0; how < 4; how++) {
        nigh_ids ids = NIGH_IDS(1 << 22);
        nigh_encode_opts o = { .add_special = how & 1, .parse_special = how & 2 };
        REQUIRE(nigh_tokenizer_encode(t, text, o, &ids, NULL) == NIGH_OK);
        for (size_t i = 0; i < ids.len; i++) {
            REQUIRE(ids.ptr[i] >= 0 && (size_t)ids.ptr[i] < nigh_tokenizer_count(t));
            if (how == 0 && whole) REQUIRE(!nigh_tokenizer_is_control(t, ids.ptr[i]));
        }
        if (how == 0 && whole) check_whole(t, text, &ids, bpe);
        check_stream(t, &ids);
        nigh_ids_release(&ids);
    }
}

/* ---- the input ---- */

static bool next_line(nigh_str *rest, nigh_str *line) {
    size_t end = nigh_str_find(*rest, NIGH_STR("\n"), 0);
    if (end == SIZE_MAX) return false;
    *line = nigh_str_slice(*rest, 0, end);
    *rest = nigh_str_slice(*rest, end + 1, rest->len);
    return true;
}

static const char *keep_string(nigh_str s, size_t at) {
    size_t n = nigh_min(s.len, 100);
    for (size_t i = 0; i < n; i++) strings[at + i] = s.ptr[i] ? s.ptr[i] : '0';
    strings[at + n] = '\0';
    return strings + at;
}

static void read_line(vocab_maker *v, nigh_str line, bool *lossy) {
    char kind = line.ptr[0];
    nigh_str rest = nigh_str_slice(line, 1, line.len);
    if (v->token_count == VM_TOKENS_MAX || v->merge_count == VM_TOKENS_MAX || rest.len > sizeof v->pool - v->used)
        return;
    if (kind >= '0' && kind <= '9') {
        vm_token_bytes(v, rest.ptr, rest.len, kind - '0', (float)(rest.len % 7) - (float)v->token_count);
        *lossy |= kind == '5';  /* unused tokens print nothing */
    } else if (kind == 'm') v->merges[v->merge_count++] = vm_keep(v, rest.ptr, rest.len);
    else if (kind == 'n') v->name = keep_string(rest, 128);
    else if (kind == 'i') {
        static const char *const keys[] = { "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                            "tokenizer.ggml.unknown_token_id" };
        int64_t id;
        if (!nigh_str_to_i64(rest, &id)) return;
        for (size_t i = 0; i < NIGH_COUNT(keys); i++) {
            v->ids[i].key = keys[i];
            v->ids[i].id = (uint32_t)id;
        }
    }
}

static void try_lines(nigh_str rest) {
    vocab_maker *v = &maker;
    nigh_str line;
    nigh_tokenizer *t;
    bool lossy = false;
    memset(v, 0, sizeof *v);
    if (!next_line(&rest, &line) || line.len == 0) return;
    if (!memchr("bswBSW", line.ptr[0], 6)) return;
    char kind = line.ptr[0] | 0x20;
    bool whole = kind != line.ptr[0], bpe = kind == 'b';
    v->model = bpe ? "gpt2" : kind == 's' ? "llama" : "bert";
    if (line.len > 2) v->pre = keep_string(nigh_str_slice(line, 2, line.len), 0);
    v->no_space_prefix = true;
    if (whole && bpe) vm_alphabet(v);
    else if (whole) vm_byte_tokens(v);
    while (next_line(&rest, &line) && line.len) read_line(v, line, &lossy);
    if (vm_open(&t, v, NULL) != NIGH_OK) return;
    check_text(t, rest, whole && !lossy && kind != 'w' && !v->name, bpe);
    nigh_tokenizer_close(t);
}

static void try_file(nigh_str file) {
    static const nigh_str text = { "The <tool> it's 12345\n\n  caf\xc3\xa9 \xe4\xb8\x96\xff</s>", 39 };
    nigh_gguf g;
    nigh_tokenizer *t;
    if (nigh_gguf_parse(&g, file, NULL) != NIGH_OK) return;
    if (nigh_tokenizer_open(&t, &g, NULL) == NIGH_OK) {
        check_text(t, text, false, false);
        nigh_tokenizer_close(t);
    }
    nigh_gguf_release(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nigh_str input = { (const char *)data, size };
    size_t live = nigh_alloc_live_bytes();
    if (nigh_str_starts(input, NIGH_STR("GGUF"))) try_file(input);
    else try_lines(input);
    REQUIRE(nigh_alloc_live_bytes() == live);
    return 0;
}
