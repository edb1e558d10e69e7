/* tokenizer_interim.c - just enough of tokenizer.h for the rooms above to be built while the real one is written: SentencePiece
 * and byte-level BPE by plain merging, letters and spaces split in the ASCII way. The real tokenizer replaces this file. */
#include "engine/tokenizer.h"

struct nigh_tokenizer {
    size_t count;
    bool bpe, add_bos, space_prefix;
    int32_t bos, eos;
    nigh_str *text;
    float *score;                   /* BPE: minus the merge rank of the token's text */
    uint8_t *type;
    uint32_t *table;
    size_t slots;
    char *bytes;
};

static uint32_t find(const nigh_tokenizer *t, nigh_str s) {
    for (size_t i = nigh_str_hash(s, 1) & (t->slots - 1); t->table[i]; i = (i + 1) & (t->slots - 1))
        if (nigh_str_eq(t->text[t->table[i] - 1], s)) return t->table[i];
    return 0;
}

static void fill(nigh_tokenizer *t, const nigh_gguf_value *tokens, const nigh_gguf_value *scores, const nigh_gguf_value *types) {
    size_t cursor = 0, at = 0, i = 0;
    nigh_str s;
    for (; nigh_gguf_next_string(tokens, &cursor, &s); i++) {
        memcpy(t->bytes + at, s.ptr, s.len);
        t->text[i] = (nigh_str){ t->bytes + at, s.len };
        at += s.len;
        t->score[i] = scores && i < scores->count ? nigh_gguf_item_float(scores, i) : -1e9f;
        t->type[i] = types && i < types->count ? (uint8_t)nigh_gguf_item_int(types, i) : 1;
        if (find(t, t->text[i])) continue;
        size_t slot = nigh_str_hash(t->text[i], 1) & (t->slots - 1);
        while (t->table[slot]) slot = (slot + 1) & (t->slots - 1);
        t->table[slot] = (uint32_t)i + 1;
    }
}

static void read_merges(nigh_tokenizer *t, const nigh_gguf_value *merges) {
    size_t cursor = 0;
    nigh_str s;
    for (float rank = 0; nigh_gguf_next_string(merges, &cursor, &s); rank -= 1) {
        char joined[512];
        size_t space = nigh_str_find(s, NIGH_STR(" "), 1);
        if (space == SIZE_MAX || s.len > sizeof joined) continue;
        memcpy(joined, s.ptr, space);
        memcpy(joined + space, s.ptr + space + 1, s.len - space - 1);
        uint32_t id = find(t, (nigh_str){ joined, s.len - 1 });
        if (id && t->score[id - 1] < rank) t->score[id - 1] = rank;
    }
}

nigh_status nigh_tokenizer_open(nigh_tokenizer **out, const nigh_gguf *g, nigh_err *err) {
    const nigh_gguf_value *tokens, *scores = nigh_gguf_find(g, NIGH_STR("tokenizer.ggml.scores")), *types = nigh_gguf_find(g, NIGH_STR("tokenizer.ggml.token_type"));
    nigh_str model;
    uint32_t id;
    *out = NULL;
    NIGH_TRY(nigh_gguf_string(g, NIGH_STR("tokenizer.ggml.model"), &model, err));
    NIGH_TRY(nigh_gguf_array(g, NIGH_STR("tokenizer.ggml.tokens"), NIGH_GGUF_STRING, &tokens, err));
    nigh_tokenizer *t = nigh_alloc(1, sizeof *t);
    if (!t || tokens->count == 0) { nigh_free(t); return nigh_fail(err, t ? NIGH_EDATA : NIGH_ENOMEM, 0, "no vocabulary"); }
    t->count = (size_t)tokens->count;
    for (t->slots = 16; t->slots < 2 * t->count; t->slots *= 2) {}
    t->text = nigh_alloc(t->count, sizeof *t->text);
    t->score = nigh_alloc(t->count, sizeof *t->score);
    t->type = nigh_alloc(t->count, 1);
    t->table = nigh_alloc(t->slots, sizeof *t->table);
    t->bytes = nigh_alloc(tokens->bytes.len + 1, 1);
    if (!t->text || !t->score || !t->type || !t->table || !t->bytes) { nigh_tokenizer_close(t); return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the vocabulary"); }
    t->bpe = nigh_str_eq(model, NIGH_STR("gpt2"));
    fill(t, tokens, t->bpe ? NULL : scores, types);
    t->space_prefix = !t->bpe;
    t->add_bos = !t->bpe;
    (void)(nigh_gguf_bool(g, NIGH_STR("tokenizer.ggml.add_bos_token"), &t->add_bos, NULL) == NIGH_OK);
    (void)(nigh_gguf_bool(g, NIGH_STR("tokenizer.ggml.add_space_prefix"), &t->space_prefix, NULL) == NIGH_OK);
    t->bos = nigh_gguf_u32(g, NIGH_STR("tokenizer.ggml.bos_token_id"), &id, NULL) == NIGH_OK ? (int32_t)id : t->bpe ? -1 : 1;
    t->eos = nigh_gguf_u32(g, NIGH_STR("tokenizer.ggml.eos_token_id"), &id, NULL) == NIGH_OK ? (int32_t)id : t->bpe ? -1 : 2;
    const nigh_gguf_value *merges = nigh_gguf_find(g, NIGH_STR("tokenizer.ggml.merges"));
    if (t->bpe && merges && merges->item_type == NIGH_GGUF_STRING) read_merges(t, merges);
    *out = t;
    return NIGH_OK;
}

void nigh_tokenizer_close(nigh_tokenizer *t) {
    if (!t) return;
    nigh_free(t->text);
    nigh_free(t->score);
    nigh_free(t->type);
    nigh_free(t->table);
    nigh_free(t->bytes);
    nigh_free(t);
}

nigh_status nigh_ids_add(nigh_ids *ids, int32_t id) {
    if (ids->len == ids->limit) return NIGH_ERANGE;
    if (ids->len == ids->cap) {
        size_t cap = nigh_min(ids->limit, 2 * ids->cap + 64);
        int32_t *p = nigh_alloc(cap, sizeof *p);
        if (!p) return NIGH_ENOMEM;
        if (ids->len) memcpy(p, ids->ptr, ids->len * sizeof *p);
        nigh_free(ids->ptr);
        ids->ptr = p;
        ids->cap = cap;
    }
    ids->ptr[ids->len++] = id;
    return NIGH_OK;
}

void nigh_ids_release(nigh_ids *ids) {
    nigh_free(ids->ptr);
    *ids = NIGH_IDS(ids->limit);
}

/* The letter that byte-level BPE writes for a byte, as UTF-8. */
static size_t byte_letter(uint8_t b, char out[2]) {
    uint32_t c = b, n = 0;
    bool shown = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
    for (uint32_t i = 0; !shown && i < b; i++) n += !((i >= 33 && i <= 126) || (i >= 161 && i != 173));
    if (!shown) c = 256 + n;
    if (c < 128) { out[0] = (char)c; return 1; }
    out[0] = (char)(0xc0 | c >> 6);
    out[1] = (char)(0x80 | (c & 63));
    return 2;
}

static nigh_status merge_word(const nigh_tokenizer *t, nigh_str w, nigh_ids *out) {
    nigh_str parts[512];
    size_t n = 0;
    for (size_t i = 0; i < w.len && n < NIGH_COUNT(parts); n++) {
        size_t len = 1;
        while (i + len < w.len && ((unsigned char)w.ptr[i + len] & 0xc0) == 0x80) len++;
        parts[n] = (nigh_str){ w.ptr + i, len };
        i += len;
    }
    for (;;) {
        size_t best = SIZE_MAX;
        float top = -1e8f;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t id = find(t, (nigh_str){ parts[i].ptr, parts[i].len + parts[i + 1].len });
            if (id && t->score[id - 1] > top) { top = t->score[id - 1]; best = i; }
        }
        if (best == SIZE_MAX) break;
        parts[best].len += parts[best + 1].len;
        memmove(parts + best + 1, parts + best + 2, (n - best - 2) * sizeof *parts);
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t id = find(t, parts[i]);
        if (id) { NIGH_TRY(nigh_ids_add(out, (int32_t)id - 1)); continue; }
        for (size_t b = 0; b < parts[i].len; b++) {
            char name[8];
            nigh_format(name, sizeof name, "<0x%02x>", (unsigned char)parts[i].ptr[b]);
            for (char *c = name + 3; *c; c++) if (*c >= 'a') *c = (char)(*c - 32);
            id = find(t, nigh_str_of(name));
            NIGH_TRY(nigh_ids_add(out, id ? (int32_t)id - 1 : 0));
        }
    }
    return NIGH_OK;
}

static int kind(char c) {
    if (((c | 32) >= 'a' && (c | 32) <= 'z') || (unsigned char)c >= 128) return 1;
    return c >= '0' && c <= '9' ? 2 : c == ' ' || c == '\n' || c == '\t' || c == '\r' ? 3 : 4;
}

nigh_status nigh_tokenizer_encode(const nigh_tokenizer *t, nigh_str text, nigh_encode_opts o, nigh_ids *out, nigh_err *err) {
    char word[1024];
    (void)err;
    if (o.add_special && t->add_bos && t->bos >= 0) NIGH_TRY(nigh_ids_add(out, t->bos));
    for (size_t i = 0; i < text.len;) {
        size_t len = 0, from = i;
        if (t->bpe) {
            if (text.ptr[i] == ' ' && i + 1 < text.len && kind(text.ptr[i + 1]) != 3) i++;
            for (int k = kind(text.ptr[i]); i < text.len && kind(text.ptr[i]) == k && i - from < 200; i++) {}
            for (size_t b = from; b < i; b++) len += byte_letter((uint8_t)text.ptr[b], word + len);
        } else {
            if (i == 0 && t->space_prefix) { memcpy(word, "\xe2\x96\x81", 3); len = 3; }
            for (; i < text.len && i - from < 250; i++) {
                if (text.ptr[i] == ' ' && i > from) break;
                if (text.ptr[i] == ' ') { memcpy(word + len, "\xe2\x96\x81", 3); len += 3; }
                else word[len++] = text.ptr[i];
            }
        }
        NIGH_TRY(merge_word(t, (nigh_str){ word, len }, out));
    }
    return NIGH_OK;
}

nigh_status nigh_tokenizer_piece(const nigh_tokenizer *t, int32_t id, bool special, nigh_buf *out) {
    if (id < 0 || (size_t)id >= t->count || (nigh_tokenizer_is_control(t, id) && !special)) return NIGH_OK;
    nigh_str s = t->text[id];
    if (t->type[id] == 6 && s.len == 6) {
        int hi = s.ptr[3] >= 'A' ? s.ptr[3] - 55 : s.ptr[3] - '0', lo = s.ptr[4] >= 'A' ? s.ptr[4] - 55 : s.ptr[4] - '0';
        return nigh_buf_add_char(out, (char)(hi * 16 + lo));
    }
    for (size_t i = 0; i < s.len; i++) {
        char letter[2];
        unsigned b = 256;
        if (!t->bpe && s.len - i >= 3 && !memcmp(s.ptr + i, "\xe2\x96\x81", 3)) { NIGH_TRY(nigh_buf_add_char(out, ' ')); i += 2; continue; }
        for (unsigned c = 0; t->bpe && c < 256 && b == 256; c++) {
            size_t n = byte_letter((uint8_t)c, letter);
            if (n <= s.len - i && !memcmp(s.ptr + i, letter, n)) { b = c; i += n - 1; }
        }
        NIGH_TRY(nigh_buf_add_char(out, b < 256 ? (char)b : s.ptr[i]));
    }
    return NIGH_OK;
}

nigh_status nigh_tokenizer_decode(const nigh_tokenizer *t, const int32_t *ids, size_t count, bool special, nigh_buf *out) {
    for (size_t i = 0; i < count; i++) NIGH_TRY(nigh_tokenizer_piece(t, ids[i], special, out));
    return NIGH_OK;
}

nigh_status nigh_detok_push(nigh_detok *d, const nigh_tokenizer *t, int32_t id, bool special, nigh_buf *out) {
    (void)d;
    return nigh_tokenizer_piece(t, id, special, out);
}

nigh_status nigh_detok_flush(nigh_detok *d, nigh_buf *out) {
    (void)d;
    (void)out;
    return NIGH_OK;
}

size_t nigh_tokenizer_count(const nigh_tokenizer *t) { return t->count; }
int32_t nigh_tokenizer_bos(const nigh_tokenizer *t) { return t->bos; }
int32_t nigh_tokenizer_eos(const nigh_tokenizer *t) { return t->eos; }
int32_t nigh_tokenizer_eot(const nigh_tokenizer *t) { (void)t; return -1; }
bool nigh_tokenizer_adds_bos(const nigh_tokenizer *t) { return t->add_bos; }
bool nigh_tokenizer_adds_eos(const nigh_tokenizer *t) { (void)t; return false; }
bool nigh_tokenizer_is_end(const nigh_tokenizer *t, int32_t id) { return id == t->eos; }
bool nigh_tokenizer_is_control(const nigh_tokenizer *t, int32_t id) { return id >= 0 && (size_t)id < t->count && t->type[id] == 3; }
nigh_str nigh_tokenizer_text(const nigh_tokenizer *t, int32_t id) { return id >= 0 && (size_t)id < t->count ? t->text[id] : (nigh_str){ 0 }; }
