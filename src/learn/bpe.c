/* bpe.c - see bpe.h.
 * Each different word is kept once, with its count and its ids so far. For each pair of neighbouring ids: how
 * often it stands in the text, and which words may hold it. A heap gives the most frequent pair; its entries
 * may be old, so one that no longer tells the truth is put back with the count of now. A merge visits only the
 * words listed for its pair; only pairs with the new id gain. */
#include "base/unicode.h"
#include "base/utf8.h"
#include "learn/bpe.h"
#include "learn/corpus.h"

typedef struct { nigh_str text; uint64_t count; uint32_t ids, len; } word;
typedef struct { uint32_t key; int64_t count; uint32_t *words; size_t word_count, word_cap; } pair;
typedef struct { int64_t count; uint32_t key; } heap_item;

struct nigh_bpe {
    word *words;
    size_t word_count, word_cap;
    uint32_t *table;                        /* hash of text -> word + 1 */
    size_t table_mask;
    uint16_t *ids;                          /* of all words, each at word.ids */
    pair *pairs;
    size_t pair_count, pair_cap;
    uint32_t *pair_table;                   /* hash of key -> pair + 1 */
    size_t pair_mask;
    heap_item *heap;
    size_t heap_count, heap_cap;
    uint16_t (*merges)[2];
    size_t merge_count, merge_cap;
    uint16_t (*given)[2];                   /* merges to follow instead of learning some */
    size_t given_count;
};

/* ---- words ---- */
typedef enum { LETTER, NUMBER, SPACE, OTHER } kind;

/* What the letter at `at` is, and its length in bytes. What is no UTF-8 counts as one byte of its own kind. */
static kind kind_at(nigh_str s, size_t at, size_t *bytes) {
    uint32_t letter;
    *bytes = nigh_max(nigh_utf8_read(s, at, &letter), 1);
    if (letter < 0x80) {
        if ((letter | 0x20) >= 'a' && (letter | 0x20) <= 'z') return LETTER;
        if (letter >= '0' && letter <= '9') return NUMBER;
        return letter == ' ' || (letter >= 9 && letter <= 13) ? SPACE : OTHER;
    }
    if (nigh_unicode_is_space(letter)) return SPACE;
    uint32_t mask = nigh_unicode_mask(letter);
    return mask & NIGH_LETTER ? LETTER : mask & NIGH_NUMBER ? NUMBER : OTHER;
}

static size_t run_end(nigh_str s, size_t at, kind k) {
    size_t bytes;
    while (at < s.len && kind_at(s, at, &bytes) == k) at += bytes;
    return at;
}

size_t nigh_bpe_word_end(nigh_str s, size_t at) {
    static const char *const tails[] = { "s", "t", "re", "ve", "m", "ll", "d" };
    size_t bytes, next = at, last = at;
    if (s.ptr[at] == '\'')
        for (size_t i = 0; i < NIGH_COUNT(tails); i++)
            if (nigh_str_starts(nigh_str_slice(s, at + 1, s.len), nigh_str_of(tails[i])))
                return at + 1 + strlen(tails[i]);
    if (s.ptr[at] == ' ' && at + 1 < s.len && kind_at(s, at + 1, &bytes) != SPACE) next = at + 1;
    kind k = kind_at(s, next, &bytes);
    if (k != SPACE) return run_end(s, next, k);
    while (next < s.len && kind_at(s, next, &bytes) == SPACE) last = next, next += bytes;
    return next == s.len || last == at ? next : last;   /* the last space goes with what follows */
}

static bool grow_table(uint32_t **table, size_t *mask, size_t items) {
    if (*table && items * 2 <= *mask) return true;
    size_t slots = *table ? (*mask + 1) * 4 : 1 << 16;
    uint32_t *grown = nigh_alloc(slots, sizeof *grown);
    if (!grown) return false;
    nigh_free(*table);
    *table = grown, *mask = slots - 1;
    return true;
}

static uint32_t *word_slot(const nigh_bpe *b, nigh_str text) {
    size_t i = (size_t)nigh_str_hash(text, 0) & b->table_mask;
    while (b->table[i] && !nigh_str_eq(b->words[b->table[i] - 1].text, text)) i = (i + 1) & b->table_mask;
    return &b->table[i];
}

static bool word_room(nigh_bpe *b) {
    size_t mask = b->table_mask;
    if (!nigh_grow(&b->words, &b->word_cap, b->word_count + 1, sizeof *b->words)) return false;
    if (!grow_table(&b->table, &b->table_mask, b->word_count + 1)) return false;
    if (mask == b->table_mask) return true;
    for (size_t i = 0; i < b->word_count; i++) *word_slot(b, b->words[i].text) = (uint32_t)i + 1;
    return true;
}

nigh_status nigh_bpe_add(nigh_bpe *b, nigh_str text, uint64_t times) {
    for (size_t at = 0; at < text.len;) {
        size_t end = nigh_bpe_word_end(text, at);
        nigh_str w = nigh_str_slice(text, at, end);
        if (!word_room(b)) return NIGH_ENOMEM;
        uint32_t *slot = word_slot(b, w);
        if (!*slot) {
            b->words[b->word_count++] = (word){ .text = w };
            *slot = (uint32_t)b->word_count;
        }
        b->words[*slot - 1].count += times;
        at = end;
    }
    return NIGH_OK;
}

/* ---- the heap: most frequent first, then the smaller key ---- */
static bool before(heap_item a, heap_item b) { return a.count != b.count ? a.count > b.count : a.key < b.key; }

static bool heap_push(nigh_bpe *b, heap_item item) {
    if (!nigh_grow(&b->heap, &b->heap_cap, b->heap_count + 1, sizeof *b->heap)) return false;
    size_t i = b->heap_count++;
    for (; i > 0 && before(item, b->heap[(i - 1) / 2]); i = (i - 1) / 2) b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = item;
    return true;
}
static heap_item heap_pop(nigh_bpe *b) {
    heap_item top = b->heap[0], last = b->heap[--b->heap_count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < b->heap_count; i = child) {
        if (child + 1 < b->heap_count && before(b->heap[child + 1], b->heap[child])) child++;
        if (!before(b->heap[child], last)) break;
        b->heap[i] = b->heap[child];
    }
    b->heap[i] = last;
    return top;
}

/* ---- pairs ---- */
static uint32_t *pair_slot(const nigh_bpe *b, uint32_t key) {
    size_t i = (size_t)(key * 0x9e3779b97f4a7c15u >> 32) & b->pair_mask;
    while (b->pair_table[i] && b->pairs[b->pair_table[i] - 1].key != key) i = (i + 1) & b->pair_mask;
    return &b->pair_table[i];
}

/* The pair of two ids, made when it is new; NULL when out of memory. */
static pair *pair_of(nigh_bpe *b, uint32_t left, uint32_t right) {
    size_t mask = b->pair_mask;
    if (!nigh_grow(&b->pairs, &b->pair_cap, b->pair_count + 1, sizeof *b->pairs)) return NULL;
    if (!grow_table(&b->pair_table, &b->pair_mask, b->pair_count + 1)) return NULL;
    if (mask != b->pair_mask)
        for (size_t i = 0; i < b->pair_count; i++) *pair_slot(b, b->pairs[i].key) = (uint32_t)i + 1;
    uint32_t key = left << 16 | right, *slot = pair_slot(b, key);
    if (!*slot) {
        b->pairs[b->pair_count++] = (pair){ .key = key };
        *slot = (uint32_t)b->pair_count;
    }
    return &b->pairs[*slot - 1];
}

static bool pair_gain(nigh_bpe *b, uint32_t left, uint32_t right, uint32_t word_idx) {
    pair *p = pair_of(b, left, right);
    if (!p) return false;
    p->count += (int64_t)b->words[word_idx].count;
    if (p->word_count && p->words[p->word_count - 1] == word_idx) return true;
    if (!nigh_grow(&p->words, &p->word_cap, p->word_count + 1, sizeof *p->words)) return false;
    p->words[p->word_count++] = word_idx;
    return true;
}
static bool pair_lose(nigh_bpe *b, uint32_t left, uint32_t right, uint32_t word_idx) {
    pair *p = pair_of(b, left, right);
    if (p) p->count -= (int64_t)b->words[word_idx].count;
    return p != NULL;
}

/* Every word as bytes, every pair counted. */
static bool begin(nigh_bpe *b) {
    size_t total = 0;
    for (size_t i = 0; i < b->word_count; i++) total += b->words[i].text.len;
    b->ids = nigh_alloc(nigh_max(total, 1), sizeof *b->ids);
    if (!b->ids) return false;
    for (size_t i = 0, at = 0; i < b->word_count; at += b->words[i++].text.len) {
        word *w = &b->words[i];
        w->ids = (uint32_t)at, w->len = (uint32_t)w->text.len;
        for (size_t j = 0; j < w->len; j++)
            b->ids[at + j] = (uint16_t)(NIGH_BPE_SPECIALS + (uint8_t)w->text.ptr[j]);
        for (size_t j = 1; j < w->len; j++)
            if (!pair_gain(b, b->ids[at + j - 1], b->ids[at + j], (uint32_t)i)) return false;
    }
    for (size_t i = 0; i < b->pair_count; i++)
        if (!heap_push(b, (heap_item){ b->pairs[i].count, b->pairs[i].key })) return false;
    return true;
}

/* Replaces (left, right) by `id` in one word, from left to right. */
static bool merge_word(nigh_bpe *b, uint32_t word_idx, uint16_t left, uint16_t right, uint16_t id) {
    word *w = &b->words[word_idx];
    uint16_t *ids = b->ids + w->ids;
    bool found = false, ok = true;
    for (size_t i = 1; i < w->len && !found; i++) found = ids[i - 1] == left && ids[i] == right;
    if (!found) return true;
    for (size_t i = 1; i < w->len; i++) ok = pair_lose(b, ids[i - 1], ids[i], word_idx) && ok;
    size_t len = 0;
    for (size_t i = 0; i < w->len;) {
        bool here = i + 1 < w->len && ids[i] == left && ids[i + 1] == right;
        ids[len++] = here ? id : ids[i];
        i += here ? 2 : 1;
    }
    w->len = (uint32_t)len;
    for (size_t i = 1; i < len; i++) ok = pair_gain(b, ids[i - 1], ids[i], word_idx) && ok;
    return ok;
}

static nigh_status merge(nigh_bpe *b, heap_item best) {
    uint16_t left = (uint16_t)(best.key >> 16), right = (uint16_t)best.key,
        id = (uint16_t)(NIGH_BPE_BASE + b->merge_count);
    size_t pairs_before = b->pair_count;
    if (!nigh_grow(&b->merges, &b->merge_cap, b->merge_count + 1, sizeof *b->merges)) return NIGH_ENOMEM;
    b->merges[b->merge_count][0] = left;
    b->merges[b->merge_count++][1] = right;
    pair *p = pair_of(b, left, right);
    uint32_t *words = p->words;                     /* taken out: the list may not grow while it is read */
    size_t count = p->word_count;
    p->words = NULL, p->word_count = p->word_cap = 0;
    bool ok = true;
    for (size_t i = 0; i < count && ok; i++) ok = merge_word(b, words[i], left, right, id);
    nigh_free(words);
    for (size_t i = pairs_before; i < b->pair_count && ok; i++)
        ok = heap_push(b, (heap_item){ b->pairs[i].count, b->pairs[i].key });
    return ok ? NIGH_OK : NIGH_ENOMEM;
}

nigh_status nigh_bpe_take(nigh_bpe *b, const uint16_t (*merges)[2], size_t count) {
    nigh_free(b->given);
    b->given = nigh_alloc(nigh_max(count, 1), sizeof *b->given);
    if (!b->given) return NIGH_ENOMEM;
    memcpy(b->given, merges, count * sizeof *merges);
    b->given_count = count;
    return NIGH_OK;
}

nigh_status nigh_bpe_learn(nigh_bpe *b, size_t vocab) {
    if (vocab > 65535 || NIGH_BPE_BASE + b->given_count > 65535) return NIGH_ERANGE;
    if (!begin(b)) return NIGH_ENOMEM;
    for (size_t i = 0; i < b->given_count; i++)
        NIGH_TRY(merge(b, (heap_item){ 0, (uint32_t)b->given[i][0] << 16 | b->given[i][1] }));
    if (b->given) return NIGH_OK;
    while (NIGH_BPE_BASE + b->merge_count < vocab && b->heap_count > 0) {
        heap_item best = heap_pop(b);
        int64_t now = pair_of(b, best.key >> 16, best.key & 0xffff)->count;
        if (now < 2) continue;
        if (now != best.count) {
            if (!heap_push(b, (heap_item){ now, best.key })) return NIGH_ENOMEM;
            continue;
        }
        NIGH_TRY(merge(b, best));
    }
    return NIGH_OK;
}

/* ---- the rest ---- */
nigh_bpe *nigh_bpe_new(void) { return nigh_alloc(1, sizeof(nigh_bpe)); }

void nigh_bpe_free(nigh_bpe *b) {
    if (!b) return;
    for (size_t i = 0; i < b->pair_count; i++) nigh_free(b->pairs[i].words);
    nigh_free(b->words);
    nigh_free(b->table);
    nigh_free(b->ids);
    nigh_free(b->pairs);
    nigh_free(b->pair_table);
    nigh_free(b->heap);
    nigh_free(b->merges);
    nigh_free(b->given);
    nigh_free(b);
}

size_t nigh_bpe_count(const nigh_bpe *b) { return NIGH_BPE_BASE + b->merge_count; }
size_t nigh_bpe_merge_count(const nigh_bpe *b) { return b->merge_count; }
const uint16_t (*nigh_bpe_merges(const nigh_bpe *b))[2] { return (const uint16_t (*)[2])b->merges; }

void nigh_bpe_encode(const nigh_bpe *b, nigh_str text, uint16_t *out, size_t *len) {
    for (size_t at = 0; at < text.len;) {
        size_t end = nigh_bpe_word_end(text, at);
        uint32_t found = *word_slot(b, nigh_str_slice(text, at, end));
        assert(found && "every word was added before");
        const word *w = &b->words[found - 1];
        memcpy(out + *len, b->ids + w->ids, w->len * sizeof *out);
        *len += w->len;
        at = end;
    }
}
