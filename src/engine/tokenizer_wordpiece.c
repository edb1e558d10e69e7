/* tokenizer_wordpiece.c - plain text to ids for BERT's vocabularies.
 * Letters are decomposed, lowered and stripped of marks; control letters go; white space ends a word; punctuation,
 * ASCII symbols and Chinese characters are words of their own. A word is covered from the left by the longest token
 * each time: the first one by a key with a space in front, the others by keys without. A word that cannot be covered
 * is one unknown token.
 *     "Héllo, unaffable"  ->  " hello" " ," " unaffable"  ->  | hello| |,| | un|aff|able| */
#include "base/unicode.h"
#include "base/utf8.h"
#include "engine/tokenizer_vocab.h"

typedef struct {
    const nigh_tokenizer *t;
    nigh_ids *out;
    nigh_buf word;          /* begins with a space; only that while it is empty */
} wordpiece;

static bool is_chinese(uint32_t c) { /* the blocks of BERT's own code */
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df)
           || (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf)
           || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

/* The longest token that begins at `at`; its bytes, 0 when there is none. The hash grows with the length. */
static size_t longest(const nigh_tokenizer *t, nigh_str s, size_t at, int32_t *id) {
    size_t most = nigh_min(s.len - at, t->key_bytes_max), best = 0;
    uint64_t hash = NIGH_HASH_BEGIN;
    for (size_t len = 1; len <= most; len++) {
        hash = nigh_hash_more(hash, s.ptr + at + len - 1, 1);
        if (len < s.len - at && ((uint8_t)s.ptr[at + len] & 0xc0) == 0x80) continue;
        int32_t found = nigh_vocab_find_hashed(t, (nigh_str){ s.ptr + at, len }, nigh_hash_end(hash));
        if (found < 0) continue;
        *id = found;
        best = len;
    }
    return best;
}

static nigh_status end_word(wordpiece *w) {
    nigh_str s = nigh_buf_str(&w->word);
    size_t before = w->out->len;
    int32_t id = -1;
    if (s.len <= 1) return NIGH_OK;
    for (size_t at = 0; at < s.len;) {
        size_t len = longest(w->t, s, at, &id);
        if (len == 0) {
            w->out->len = before;
            if (w->t->unk >= 0) NIGH_TRY(nigh_ids_add(w->out, w->t->unk));
            break;
        }
        NIGH_TRY(nigh_ids_add(w->out, id));
        at += len;
    }
    w->word.len = 1;
    return NIGH_OK;
}

static nigh_status add_letter(wordpiece *w, uint32_t letter) {
    char bytes[4];
    uint32_t mask = nigh_unicode_mask(letter);
    bool alone = (mask & NIGH_PUNCTUATION) || (letter < 0x7f && (mask & NIGH_SYMBOL)) || is_chinese(letter);
    if (alone) NIGH_TRY(end_word(w));
    size_t len = nigh_utf8_write(nigh_unicode_lower(letter), bytes);
    NIGH_TRY(nigh_buf_add(&w->word, (nigh_str){ bytes, len }));
    return alone ? end_word(w) : NIGH_OK;
}

static nigh_status add_text(wordpiece *w, nigh_str text) {
    NIGH_TRY(nigh_buf_add_char(&w->word, ' '));
    for (size_t at = 0; at < text.len;) {
        uint32_t letter, bare[3];
        size_t len = nigh_utf8_read(text, at, &letter);
        at += nigh_max(len, 1);
        if (len == 0) continue;     /* what is no UTF-8 is left out, like control letters */
        if (nigh_unicode_is_space(letter)) {
            NIGH_TRY(end_word(w));
            continue;
        }
        if (letter == 0xfffd || (nigh_unicode_mask(letter) & NIGH_CONTROL)) continue;
        size_t count = nigh_unicode_bare(letter, bare);
        for (size_t i = 0; i < count; i++) NIGH_TRY(add_letter(w, bare[i]));
    }
    return end_word(w);
}

nigh_status nigh_wordpiece_plain(const nigh_tokenizer *t, nigh_str text, nigh_ids *out) {
    wordpiece w = { t, out, NIGH_BUF(SIZE_MAX / 2) };
    nigh_status st = add_text(&w, text);
    nigh_buf_release(&w.word);
    return st;
}
