/* tokenizer_decode.c - ids to text: the bytes of one token, of a list, and of a stream.
 *
 * A stream goes through two stages that each hold back what may still change:
 *     token bytes -> [spaces: "  ' r" at most] -> taken away or not -> [held: up to 3 bytes] -> whole letters
 * Some vocabularies were made for text whose words are apart from their punctuation; decoding takes such spaces away,
 * in three passes over the text: in front of ? ! . , ; around an apostrophe that stands alone; in front of 's 'm 're
 * 've. A stream does the same to the part in front of a place across which no pass looks. */
#include "base/utf8.h"
#include "engine/tokenizer_vocab.h"

/* The bytes of a token in running text. Control tokens give nothing unless `special`, unused ones never do. */
static nigh_str piece_of(const nigh_tokenizer *t, int32_t id, bool special) {
    if (id < 0 || (uint32_t)id >= t->count) return (nigh_str){ 0 };
    unsigned type = nigh_vocab_type(t, (uint32_t)id);
    if (type == NIGH_TOKEN_CONTROL || type == NIGH_TOKEN_UNKNOWN)
        return special ? nigh_tokenizer_text(t, id) : (nigh_str){ 0 };
    if (type == NIGH_TOKEN_UNUSED) return (nigh_str){ 0 };
    return type == NIGH_TOKEN_USER ? nigh_tokenizer_text(t, id) : nigh_vocab_key(t, (uint32_t)id);
}

/* The first token that shows anything loses the space that encoding put in front of the text. */
static nigh_str without_first_space(const nigh_tokenizer *t, nigh_str s, bool *started) {
    bool strip = !*started && t->add_space_prefix && s.len && s.ptr[0] == ' ';
    if (s.len) *started = true;
    return strip ? nigh_str_slice(s, 1, s.len) : s;
}

nigh_status nigh_tokenizer_piece(const nigh_tokenizer *t, int32_t id, bool special, nigh_buf *out) {
    return nigh_buf_add(out, piece_of(t, id, special));
}

/* ---- spaces that decoding takes away ---- */

static size_t clean_marks(char *s, size_t len) { /* " ?" -> "?" */
    size_t n = len ? 1 : 0;
    for (size_t i = 1; i < len; i++) {
        char c = s[i];
        if (s[i - 1] == ' ' && (c == '?' || c == '!' || c == '.' || c == ',')) n--;
        s[n++] = c;
    }
    return n;
}

static size_t clean_lone_apostrophes(char *s, size_t len) { /* "a ' b" -> "a'b" */
    size_t n = len ? 1 : 0;
    bool skipped = false;   /* the space behind an apostrophe is no space in front of the next */
    for (size_t i = 1; i < len; i++) {
        char c = s[i];
        if (c == '\'' && i + 1 < len && s[i - 1] == ' ' && !skipped && s[i + 1] == ' ') {
            s[n - 1] = c;
            skipped = true;
            i++;
            continue;
        }
        skipped = false;
        s[n++] = c;
    }
    return n;
}

static size_t clean_contractions(char *s, size_t len) { /* "it 's" -> "it's" */
    size_t n = len ? 1 : 0;
    for (size_t i = 1; i < len; i++) {
        char c = s[i], c1 = i + 1 < len ? s[i + 1] : '\0', c2 = i + 2 < len ? s[i + 2] : '\0';
        if (c == '\'' && s[i - 1] == ' ' && (c1 == 's' || c1 == 'm' || ((c1 == 'r' || c1 == 'v') && c2 == 'e'))) n--;
        s[n++] = c;
    }
    return n;
}

static size_t clean(char *s, size_t len) {
    return clean_contractions(s, clean_lone_apostrophes(s, clean_marks(s, len)));
}

/* How much of the end of s may still change: the last two spaces, and behind a space also ' with what may follow it.
 */
static size_t open_tail(const char *s, size_t len) {
    size_t i = len;
    if (i > 0 && (s[i - 1] == 'r' || s[i - 1] == 'v')) i--;
    bool letter = i < len, gap = i > 0 && s[i - 1] == ' ';
    size_t mark = gap ? i - 1 : i;
    if (mark > 0 && s[mark - 1] == '\'') i = mark - 1;
    else if (letter) return 0;
    size_t spaces = i;
    while (spaces > 0 && i - spaces < 2 && s[spaces - 1] == ' ') spaces--;
    return i < len && spaces == i ? 0 : len - spaces;
}

nigh_status nigh_tokenizer_decode(const nigh_tokenizer *t, const int32_t *ids, size_t count, bool special,
                                  nigh_buf *out) {
    size_t before = out->len;
    bool started = false;
    nigh_status st = NIGH_OK;
    for (size_t i = 0; i < count && st == NIGH_OK; i++)
        st = nigh_buf_add(out, without_first_space(t, piece_of(t, ids[i], special), &started));
    if (st != NIGH_OK) out->len = before;
    else if (t->clean_spaces && out->len > before) out->len = before + clean(out->ptr + before, out->len - before);
    return st;
}

/* ---- whole letters ---- */

static const nigh_str replacement = { "\xef\xbf\xbd", 3 };

/* What stands at s[at]: a letter (its bytes, *whole), the beginning of one that the end cuts off (all that is left,
 * not *whole, *open), or a sequence that breaks off (its bytes: as many as could have begun a letter, at least 1). */
static size_t letter_at(nigh_str s, size_t at, bool *whole, bool *open) {
    uint32_t letter;
    size_t len = nigh_utf8_read(s, at, &letter), left = s.len - at;
    const uint8_t *p = (const uint8_t *)s.ptr + at;
    *whole = len > 0;
    *open = false;
    if (len) return len;
    size_t want = p[0] < 0xc2 || p[0] > 0xf4 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    for (len = 1; len < want && len < left; len++) {
        if (p[len] < (len == 1 ? low : 0x80) || p[len] > (len == 1 ? high : 0xbf)) return len;
    }
    *open = len == left && len < want;
    return len;
}

/* Appends the letters of held + s, keeps an open end. */
static nigh_status show(nigh_detok *d, nigh_str s, nigh_buf *out) {
    char joined[4 + NIGH_TOKEN_BYTES_MAX + sizeof d->spaces];
    size_t len = d->held_len + s.len;
    assert(len <= sizeof joined);
    memcpy(joined, d->held, d->held_len);
    if (s.len) memcpy(joined + d->held_len, s.ptr, s.len);
    d->held_len = 0;
    nigh_str all = { joined, len };
    for (size_t at = 0, good = 0; at <= len;) {
        bool whole = false, open = false;
        size_t n = at < len ? letter_at(all, at, &whole, &open) : 0;
        if (whole) { at += n; continue; }
        NIGH_TRY(nigh_buf_add(out, nigh_str_slice(all, good, at)));
        if (n == 0) break;
        if (open) {
            memcpy(d->held, joined + at, n);
            d->held_len = (uint8_t)n;
            break;
        }
        NIGH_TRY(nigh_buf_add(out, replacement));
        good = at += n;
    }
    return NIGH_OK;
}

nigh_status nigh_detok_push(nigh_detok *d, const nigh_tokenizer *t, int32_t id, bool special, nigh_buf *out) {
    nigh_str s = without_first_space(t, piece_of(t, id, special), &d->started);
    if (!d->clean || !t->clean_spaces) return show(d, s, out);
    char joined[sizeof d->spaces + NIGH_TOKEN_BYTES_MAX];
    size_t len = d->spaces_len + s.len;
    memcpy(joined, d->spaces, d->spaces_len);
    if (s.len) memcpy(joined + d->spaces_len, s.ptr, s.len);
    size_t tail = open_tail(joined, len);
    assert(tail <= sizeof d->spaces);
    memcpy(d->spaces, joined + len - tail, tail);
    d->spaces_len = (uint8_t)tail;
    return show(d, (nigh_str){ joined, clean(joined, len - tail) }, out);
}

nigh_status nigh_detok_flush(nigh_detok *d, nigh_buf *out) {
    char rest[sizeof d->spaces];
    memcpy(rest, d->spaces, d->spaces_len);
    NIGH_TRY(show(d, (nigh_str){ rest, clean(rest, d->spaces_len) }, out));
    d->spaces_len = 0;
    if (d->held_len) NIGH_TRY(nigh_buf_add(out, replacement));
    d->held_len = 0;
    return NIGH_OK;
}
