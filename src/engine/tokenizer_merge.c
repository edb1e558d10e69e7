/* tokenizer_merge.c - plain text to ids for both kinds of BPE: a word becomes letters, and the pair that the
 * vocabulary ranks first is merged until none is left.
 *
 * Byte-level BPE starts from bytes and finds pairs by two ids; SentencePiece starts from letters and finds pairs by
 * their text. Short words are merged by looking for the smallest rank again and again; long ones keep the ranks in a
 * heap, so that a word of n letters costs n log n. The word before is rarely the last of its kind: a table of words
 * already done, private to the call and of fixed size, answers most of them.
 *
 *     nodes    start  0 1 2 3 4 5      text  " the c"...     a node is a piece of the word; merged away: id DEAD
 *              next   1 2 3 4 5 -
 *     heap     rank << 32 | node       stale entries are noticed when they come up: the pair has another rank by then
 *     word     key: up to 15 bytes and the length; count; up to 7 ids */
#include "base/utf8.h"
#include "engine/tokenizer_vocab.h"

enum { SHORT = 48, WORD_BYTES = 15, WORD_IDS = 7, WORDS_MIN = 64, WORDS_MAX = 1 << 14, DEAD = -2 };
enum { PIECE_BYTES_MAX = 1 << 20 };
#define NO_NODE UINT32_MAX

typedef struct { uint64_t key[2]; int32_t ids[WORD_IDS], count; } word;

struct nigh_encoder {
    const nigh_tokenizer *t;
    nigh_ids *out;
    word *words;
    uint32_t word_shift;            /* 32 - log2 of how many there are */
    nigh_buf spaced;                /* SPM: the text with marks as spaces */
    /* long words */
    size_t node_cap;
    uint32_t *start, *prev, *next;
    int32_t *id;
    nigh_heap heap;
};

nigh_encoder *nigh_encoder_new(const nigh_tokenizer *t, size_t text_bytes, nigh_ids *out) {
    nigh_encoder *e = nigh_alloc(1, sizeof *e);
    if (!e) return NULL;
    size_t words = WORDS_MIN;
    e->word_shift = 26;
    for (; words < WORDS_MAX && words < text_bytes / 16; words *= 2) e->word_shift--;
    e->t = t;
    e->out = out;
    e->spaced = NIGH_BUF(SIZE_MAX / 2);
    e->words = nigh_alloc(words, sizeof *e->words);
    if (e->words) return e;
    nigh_encoder_free(e);
    return NULL;
}

static void free_nodes(nigh_encoder *e) {
    nigh_free(e->start);
    nigh_free(e->prev);
    nigh_free(e->next);
    nigh_free(e->id);
    nigh_free(e->heap.at);
    e->start = e->prev = e->next = NULL;
    e->id = NULL;
    e->heap = (nigh_heap){ NULL, 0 };
    e->node_cap = 0;
}

void nigh_encoder_free(nigh_encoder *e) {
    if (!e) return;
    free_nodes(e);
    nigh_free(e->words);
    nigh_buf_release(&e->spaced);
    nigh_free(e);
}

/* ---- the heap ---- */

static void sift_down(uint64_t *a, size_t len, size_t i) {
    uint64_t v = a[i];
    for (size_t child; (child = 4 * i + 1) < len; i = child) {
        size_t last = nigh_min(child + 4, len);
        for (size_t k = child + 1; k < last; k++) if (a[k] < a[child]) child = k;
        if (a[child] >= v) break;
        a[i] = a[child];
    }
    a[i] = v;
}

void nigh_heap_order(nigh_heap *h) {
    for (size_t i = h->len / 4 + 1; i-- > 0;) if (i < h->len) sift_down(h->at, h->len, i);
}

void nigh_heap_push(nigh_heap *h, uint64_t v) {
    size_t i = h->len++;
    for (; i > 0 && h->at[(i - 1) / 4] > v; i = (i - 1) / 4) h->at[i] = h->at[(i - 1) / 4];
    h->at[i] = v;
}

uint64_t nigh_heap_pop(nigh_heap *h) {
    uint64_t v = h->at[0];
    h->at[0] = h->at[--h->len];
    if (h->len) sift_down(h->at, h->len, 0);
    return v;
}

/* ---- pairs and pieces ---- */

/* The rank of merging [a, b) and [b, c) of the text, and the id that it gives. */
static inline uint32_t pair_rank(const nigh_tokenizer *t, const char *text, size_t a, size_t c, int32_t left,
                                 int32_t right, int32_t *into) {
    if (t->kind == NIGH_VOCAB_BPE) return nigh_vocab_pair(t, left, right, into);
    if (c - a > t->key_bytes_max) return NIGH_NO_RANK;
    *into = nigh_vocab_find(t, (nigh_str){ text + a, c - a });
    return *into < 0 ? NIGH_NO_RANK : t->rank[*into];
}

/* The first piece of a word at `at`: a byte, or for SentencePiece a letter. */
static inline size_t first_piece(const nigh_tokenizer *t, nigh_str s, size_t at, int32_t *id) {
    if (t->kind == NIGH_VOCAB_BPE) {
        *id = t->byte_id[(uint8_t)s.ptr[at]];
        return 1;
    }
    uint32_t letter;
    size_t len = nigh_max(nigh_utf8_read(s, at, &letter), 1);
    *id = nigh_vocab_find(t, (nigh_str){ s.ptr + at, len });
    return len;
}

static nigh_status add_byte(nigh_encoder *e, uint8_t byte) {
    const nigh_tokenizer *t = e->t;
    int32_t id = t->byte_id[byte];
    if (id < 0) {
        char c = (char)byte;
        id = nigh_vocab_find(t, (nigh_str){ &c, 1 });
    }
    if (id < 0) id = t->unk;
    return id < 0 ? NIGH_OK : nigh_ids_add(e->out, id);
}

/* One finished piece. What is no token becomes its bytes; a byte without a token becomes the unknown token or, in
 * byte-level vocabularies, which have none, nothing. */
static nigh_status add_piece(nigh_encoder *e, const char *p, size_t len, int32_t id) {
    if (id >= 0) return nigh_ids_add(e->out, id);
    if (e->t->kind == NIGH_VOCAB_BPE) return NIGH_OK;
    if (len == 1 && *p == ' ') { p = "\xe2\x96\x81"; len = 3; }     /* the mark, as SentencePiece has it */
    for (size_t i = 0; i < len; i++) NIGH_TRY(add_byte(e, (uint8_t)p[i]));
    return NIGH_OK;
}

/* ---- short words ---- */

static nigh_status merge_short(nigh_encoder *e, nigh_str s) {
    const nigh_tokenizer *t = e->t;
    size_t start[SHORT + 1], n = 0;
    int32_t id[SHORT], into[SHORT];
    uint32_t rank[SHORT];
    for (size_t i = 0; i < s.len; n++) {
        start[n] = i;
        i += first_piece(t, s, i, &id[n]);
    }
    start[n] = s.len;
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = pair_rank(t, s.ptr, start[i], start[i + 2], id[i], id[i + 1], &into[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++) if (rank[i] < rank[best]) best = i;
        if (rank[best] == NIGH_NO_RANK) break;
        id[best] = into[best];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            start[i] = start[i + 1];
            id[i] = id[i + 1];
            rank[i - 1] = rank[i];
            into[i - 1] = into[i];
        }
        start[n] = s.len;
        if (best + 1 < n)
            rank[best] = pair_rank(t, s.ptr, start[best], start[best + 2], id[best], id[best + 1], &into[best]);
        if (best > 0)
            rank[best - 1] =
                pair_rank(t, s.ptr, start[best - 1], start[best + 1], id[best - 1], id[best], &into[best - 1]);
    }
    for (size_t i = 0; i < n; i++) NIGH_TRY(add_piece(e, s.ptr + start[i], start[i + 1] - start[i], id[i]));
    return NIGH_OK;
}

/* ---- long words ---- */

static bool reserve_nodes(nigh_encoder *e, size_t n) {
    if (n <= e->node_cap) return true;
    free_nodes(e);
    e->start = nigh_alloc(n + 1, sizeof *e->start);
    e->prev = nigh_alloc(n, sizeof *e->prev);
    e->next = nigh_alloc(n, sizeof *e->next);
    e->id = nigh_alloc(n, sizeof *e->id);
    e->heap.at = nigh_alloc(2 * n, sizeof *e->heap.at);     /* a merge takes one entry out and puts at most two in */
    e->node_cap = n;
    return e->start && e->prev && e->next && e->id && e->heap.at;
}

static size_t end_of(const nigh_encoder *e, nigh_str s, uint32_t node) {
    return e->next[node] == NO_NODE ? s.len : e->start[e->next[node]];
}

static uint32_t rank_of(const nigh_encoder *e, nigh_str s, uint32_t node, int32_t *into) {
    uint32_t right = e->next[node];
    if (right == NO_NODE) return NIGH_NO_RANK;
    return pair_rank(e->t, s.ptr, e->start[node], end_of(e, s, right), e->id[node], e->id[right], into);
}

static void push_pair(nigh_encoder *e, nigh_str s, uint32_t node) {
    int32_t into;
    uint32_t rank = rank_of(e, s, node, &into);
    if (rank != NIGH_NO_RANK) nigh_heap_push(&e->heap, (uint64_t)rank << 32 | node);
}

static nigh_status merge_long(nigh_encoder *e, nigh_str s) {
    uint32_t n = 0;
    if (!reserve_nodes(e, s.len)) return NIGH_ENOMEM;
    for (size_t i = 0; i < s.len; n++) {
        e->start[n] = (uint32_t)i;
        i += first_piece(e->t, s, i, &e->id[n]);
        e->prev[n] = n ? n - 1 : NO_NODE;
        e->next[n] = n + 1;
    }
    e->next[n - 1] = NO_NODE;
    e->heap.len = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t into;
        uint32_t rank = rank_of(e, s, i, &into);
        if (rank != NIGH_NO_RANK) e->heap.at[e->heap.len++] = (uint64_t)rank << 32 | i;
    }
    nigh_heap_order(&e->heap);
    while (e->heap.len) {
        uint64_t v = nigh_heap_pop(&e->heap);
        uint32_t node = (uint32_t)v;
        int32_t into = -1;
        if (e->id[node] == DEAD || rank_of(e, s, node, &into) != v >> 32) continue;
        uint32_t right = e->next[node];
        e->id[node] = into;
        e->id[right] = DEAD;
        e->next[node] = e->next[right];
        if (e->next[right] != NO_NODE) e->prev[e->next[right]] = node;
        push_pair(e, s, node);
        if (e->prev[node] != NO_NODE) push_pair(e, s, e->prev[node]);
    }
    for (uint32_t i = 0; i != NO_NODE; i = e->next[i])
        NIGH_TRY(add_piece(e, s.ptr + e->start[i], end_of(e, s, i) - e->start[i], e->id[i]));
    return NIGH_OK;
}

/* ---- words ---- */

static nigh_status encode_new_word(nigh_encoder *e, nigh_str s) {
    if (e->t->kind == NIGH_VOCAB_BPE && e->t->rule->ignore_merges && s.len <= e->t->key_bytes_max) {
        int32_t id = nigh_vocab_find(e->t, s);
        if (id >= 0) return nigh_ids_add(e->out, id);
    }
    if (s.len <= SHORT) return merge_short(e, s);
    while (s.len > PIECE_BYTES_MAX) {   /* bounds the memory; no word that means something is so long */
        size_t cut = PIECE_BYTES_MAX;
        while (cut > PIECE_BYTES_MAX - 4 && ((uint8_t)s.ptr[cut] & 0xc0) == 0x80) cut--;
        NIGH_TRY(merge_long(e, nigh_str_slice(s, 0, cut)));
        s = nigh_str_slice(s, cut, s.len);
    }
    return merge_long(e, s);
}

static inline nigh_status encode_word(nigh_encoder *e, nigh_str s) {
    if (s.len > WORD_BYTES) return encode_new_word(e, s);
    char bytes[16] = { 0 };
    uint64_t key[2];
    for (size_t i = 0; i < s.len; i++) bytes[i] = s.ptr[i];
    bytes[15] = (char)s.len;
    memcpy(key, bytes, sizeof key);
    uint64_t h = (key[0] ^ (key[1] << 29 | key[1] >> 35)) * 0x9e3779b97f4a7c15u;
    word *w = &e->words[(uint32_t)((h ^ h >> 32) * 0xbf58476d1ce4e5b9u >> 32) >> e->word_shift];
    if (w->key[0] == key[0] && w->key[1] == key[1]) {
        nigh_ids *out = e->out;
        if (out->cap - out->len >= WORD_IDS) {
            memcpy(out->ptr + out->len, w->ids, sizeof w->ids);
            out->len += (size_t)w->count;
            return NIGH_OK;
        }
        for (int32_t i = 0; i < w->count; i++) NIGH_TRY(nigh_ids_add(out, w->ids[i]));
        return NIGH_OK;
    }
    size_t before = e->out->len;
    NIGH_TRY(encode_new_word(e, s));
    size_t count = e->out->len - before;
    if (count <= WORD_IDS) {
        memcpy(w->key, key, sizeof key);
        w->count = (int32_t)count;
        if (count) memcpy(w->ids, e->out->ptr + before, count * sizeof *w->ids);
    }
    return NIGH_OK;
}

nigh_status nigh_encoder_plain_bpe(nigh_encoder *e, nigh_str text) {
    nigh_split_walk walk;
    size_t begin, end;
    nigh_split_begin(&walk, e->t->rule, text.ptr, 0, text.len);
    while (nigh_split_next(&walk, &begin, &end)) NIGH_TRY(encode_word(e, (nigh_str){ text.ptr + begin, end - begin }));
    return NIGH_OK;
}

/* The text with every mark as a space, which is how the keys are written. */
static nigh_status write_spaced(nigh_encoder *e, nigh_str text, bool space_before) {
    e->spaced.len = 0;
    NIGH_TRY(nigh_buf_reserve(&e->spaced, text.len + 1));
    char *out = e->spaced.ptr;
    size_t n = 0;
    if (space_before) out[n++] = ' ';
    for (size_t i = 0; i < text.len; n++) {
        bool mark = (uint8_t)text.ptr[i] == 0xe2 && text.len - i >= 3 && !memcmp(text.ptr + i, "\xe2\x96\x81", 3);
        out[n] = mark ? ' ' : text.ptr[i];
        i += mark ? 3 : 1;
    }
    e->spaced.len = n;
    return NIGH_OK;
}

nigh_status nigh_encoder_plain_spm(nigh_encoder *e, nigh_str text, bool space_before) {
    NIGH_TRY(write_spaced(e, text, space_before));
    nigh_str s = nigh_buf_str(&e->spaced);
    if (!e->t->splits_at_spaces) return encode_word(e, s);
    for (size_t at = 0; at < s.len;) {
        size_t end = at + 1;
        while (end < s.len && !(s.ptr[end] == ' ' && s.ptr[end - 1] != ' ')) end++;
        NIGH_TRY(encode_word(e, (nigh_str){ s.ptr + at, end - at }));
        at = end;
    }
    return NIGH_OK;
}
