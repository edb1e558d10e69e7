/* tokenizer_special.c - finds special tokens in a text: control and unknown tokens only when the caller allows it,
 * user-defined ones always.
 *
 * Longer tokens count first, wherever they stand; among equal ones the left. So the text is read once with a tree of
 * the special texts, the longest token at every place goes into a heap, and places are settled from the longest token
 * down. One that runs into a settled one comes back with the next shorter token of its place. Since what is settled
 * is never shorter than what follows, it is enough to look at both ends of a token to see whether it is free.
 *     tree      first['<'] -> '<' -> 's' -> '>' (id 1)          children hang on one list
 *                                    '/' -> 's' -> '>' (id 2) */
#include "engine/tokenizer_vocab.h"

static bool is_special(const nigh_tokenizer *t, uint32_t id) {
    unsigned type = nigh_vocab_type(t, id);
    return (type == NIGH_TOKEN_CONTROL || type == NIGH_TOKEN_USER || type == NIGH_TOKEN_UNKNOWN)
           && t->text_at[id + 1] > t->text_at[id];
}

static uint32_t child_of(nigh_tokenizer *t, uint32_t *list, uint8_t byte) {
    for (uint32_t n = *list; n; n = t->special[n].sibling) if (t->special[n].byte == byte) return n;
    uint32_t n = t->special_count++;
    t->special[n] = (nigh_special_node){ 0, *list, -1, byte };
    *list = n;
    return n;
}

static void insert(nigh_tokenizer *t, uint32_t id) {
    const uint8_t *s = (const uint8_t *)t->text + t->text_at[id];
    size_t len = t->text_at[id + 1] - t->text_at[id];
    uint32_t n = child_of(t, &t->first[s[0]], s[0]);
    for (size_t i = 1; i < len; i++) n = child_of(t, &t->special[n].child, s[i]);
    /* Two tokens with one text: a control token hides a user-defined one, never the other way. */
    int32_t old = t->special[n].id;
    if (old < 0 || nigh_vocab_type(t, (uint32_t)old) == NIGH_TOKEN_USER || nigh_vocab_type(t, id) != NIGH_TOKEN_USER)
        t->special[n].id = (int32_t)id;
}

nigh_status nigh_special_build(nigh_tokenizer *t, nigh_err *err) {
    size_t bytes = 1;
    for (uint32_t i = 0; i < t->count; i++) {
        if (!is_special(t, i)) continue;
        size_t len = t->text_at[i + 1] - t->text_at[i];
        if (len > NIGH_SPECIAL_BYTES_MAX)
            return nigh_failf(err, NIGH_EDATA, 0, "token %u is special and has %zu bytes; at most %d are allowed", i,
                              len, NIGH_SPECIAL_BYTES_MAX);
        bytes += len;
        if (nigh_vocab_type(t, i) == NIGH_TOKEN_USER) t->has_user = true;
    }
    t->special = nigh_alloc(bytes, sizeof *t->special);
    if (!t->special) return nigh_fail(err, NIGH_ENOMEM, 0, "no memory for the special tokens");
    t->special_count = 1;
    for (uint32_t i = 0; i < t->count; i++) if (is_special(t, i)) insert(t, i);
    return NIGH_OK;
}

/* ---- finding ---- */

typedef struct { size_t at; int32_t id; uint32_t len; } candidate;   /* len 0: given up */

typedef struct {
    const nigh_tokenizer *t;
    nigh_str text;
    nigh_special_where where;
    candidate *found;
    size_t count, cap;
    nigh_heap heap;         /* (NIGH_SPECIAL_BYTES_MAX - len) << 40 | index */
    uint8_t *taken;         /* a bit for each byte of the text */
} finder;

/* The longest token at `at` of at most `most` bytes; 0 when there is none. */
static uint32_t longest(const finder *f, size_t at, size_t most, int32_t *id) {
    const nigh_tokenizer *t = f->t;
    const uint8_t *s = (const uint8_t *)f->text.ptr + at;
    size_t left = nigh_min(f->text.len - at, most);
    uint32_t len = 0;
    uint32_t n = left ? t->first[s[0]] : 0;
    bool control = f->where.parse_special;
    for (size_t i = 1; n; i++) {
        int32_t here = t->special[n].id;
        if (f->where.plain && f->where.plain[at + i - 1]) control = false;
        if (here >= 0 && (control || nigh_vocab_type(t, (uint32_t)here) == NIGH_TOKEN_USER)) {
            len = (uint32_t)i;
            *id = here;
        }
        if (i == left) break;
        n = t->special[n].child;
        while (n && t->special[n].byte != s[i]) n = t->special[n].sibling;
    }
    return len;
}

static nigh_status add_candidate(finder *f, candidate c) {
    if (f->count == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 64;
        candidate *grown = nigh_alloc(cap, sizeof *grown);
        if (!grown) return NIGH_ENOMEM;
        if (f->count) memcpy(grown, f->found, f->count * sizeof *grown);
        nigh_free(f->found);
        f->found = grown;
        f->cap = cap;
    }
    f->found[f->count++] = c;
    return NIGH_OK;
}

static nigh_status find_all(finder *f) {
    for (size_t i = 0; i < f->text.len; i++) {
        int32_t id = -1;
        if (!f->t->first[(uint8_t)f->text.ptr[i]]) continue;
        uint32_t len = longest(f, i, NIGH_SPECIAL_BYTES_MAX, &id);
        if (len) NIGH_TRY(add_candidate(f, (candidate){ i, id, len }));
    }
    return NIGH_OK;
}

static bool is_taken(const finder *f, size_t at) { return f->taken[at / 8] >> (at % 8) & 1; }
static uint64_t priority(const finder *f, size_t index) {
    return (uint64_t)(NIGH_SPECIAL_BYTES_MAX - f->found[index].len) << 40 | index;
}

/* Gives every place of the text to at most one token. */
static nigh_status settle(finder *f) {
    f->taken = nigh_alloc(f->text.len / 8 + 1, 1);
    f->heap.at = nigh_alloc(f->count, sizeof *f->heap.at);
    if (!f->taken || !f->heap.at) return NIGH_ENOMEM;
    for (size_t i = 0; i < f->count; i++) f->heap.at[i] = priority(f, i);
    f->heap.len = f->count;
    nigh_heap_order(&f->heap);
    while (f->heap.len) {
        size_t index = (size_t)(nigh_heap_pop(&f->heap) & ((1ull << 40) - 1));
        candidate *c = &f->found[index];
        if (is_taken(f, c->at)) { c->len = 0; continue; }
        if (is_taken(f, c->at + c->len - 1)) {
            size_t room = c->len - 1;
            while (is_taken(f, c->at + room - 1)) room--;
            c->len = longest(f, c->at, room, &c->id);
            if (c->len) nigh_heap_push(&f->heap, priority(f, index));
            continue;
        }
        for (size_t i = c->at; i < c->at + c->len; i++) f->taken[i / 8] = (uint8_t)(f->taken[i / 8] | 1u << (i % 8));
    }
    return NIGH_OK;
}

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static nigh_status emit(const finder *f, nigh_fragment_fn *fn, void *ud) {
    size_t at = 0;
    for (size_t i = 0; i < f->count; i++) {
        const candidate *c = &f->found[i];
        if (c->len == 0) continue;
        if (c->at > at) NIGH_TRY(fn(ud, (nigh_fragment){ at, c->at, -1 }));
        NIGH_TRY(fn(ud, (nigh_fragment){ c->at, c->at + c->len, c->id }));
        at = c->at + c->len;
        size_t next = i + 1;
        while (next < f->count && f->found[next].len == 0) next++;
        size_t stop = next < f->count ? f->found[next].at : f->text.len;
        if (f->t->type[c->id] & NIGH_TOKEN_EATS_RIGHT) while (at < stop && is_blank(f->text.ptr[at])) at++;
        i = next - 1;
    }
    return at < f->text.len ? fn(ud, (nigh_fragment){ at, f->text.len, -1 }) : NIGH_OK;
}

nigh_status nigh_special_split(const nigh_tokenizer *t, nigh_str text, nigh_special_where where, nigh_fragment_fn *fn,
                               void *ud) {
    finder f = { .t = t, .text = text, .where = where };
    nigh_status st = NIGH_OK;
    if (text.len == 0) return NIGH_OK;
    if (where.parse_special || t->has_user) st = find_all(&f);
    if (st == NIGH_OK && f.count) st = settle(&f);
    if (st == NIGH_OK) st = emit(&f, fn, ud);
    nigh_free(f.found);
    nigh_free(f.heap.at);
    nigh_free(f.taken);
    return st;
}
