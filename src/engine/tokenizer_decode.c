/* tokenizer_decode.c - ids to text: the bytes of one token, of a list, and of a stream.
 *
 * Some vocabularies were made for text whose words are apart from their punctuation. Decoding takes such spaces away,
 * in three passes: in front of ? ! . , ; around an apostrophe that stands alone; in front of 's 'm 're 've. Each pass
 * is a machine that reads one byte at a time, so a list and a stream go the same way. What is held back: token bytes
 * -> marks [" "] -> apostrophes [" '"] -> contractions [" 'r"] -> whole letters [up to 3 bytes] */
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

/* ---- spaces that decoding takes away: three little machines in a row, each holds back what it has not settled ----
 */

enum { NOTHING, A_SPACE, AN_APOSTROPHE /* with a space in front */, AN_R, A_V /* behind both */ };
enum { HELD_MOST = 6 };     /* 1 + 2 + 3 */

static const nigh_str held_text[] = { { "", 0 }, { " ", 1 }, { " '", 2 }, { " 'r", 3 }, { " 'v", 3 } };

/* Writes what was held, then c (or holds it, when it is a space); returns how many were written. */
static size_t release(uint8_t *state, char c, char *out) {
    nigh_str held = held_text[*state];
    memcpy(out, held.ptr, held.len);
    *state = c == ' ' ? A_SPACE : NOTHING;
    if (c != ' ') out[held.len] = c;
    return held.len + (c != ' ');
}

static size_t pass_marks(uint8_t *state, char c, char *out) { /* " ?" -> "?" */
    if (c == '?' || c == '!' || c == '.' || c == ',') *state = NOTHING;
    return release(state, c, out);
}

static size_t pass_lone_apostrophes(uint8_t *state, char c, char *out) { /* "a ' b" -> "a'b" */
    if (*state == A_SPACE && c == '\'') { *state = AN_APOSTROPHE; return 0; }
    if (*state == AN_APOSTROPHE && c == ' ') {
        *state = NOTHING;   /* the space behind is gone: it is none in front of the next apostrophe */
        out[0] = '\'';
        return 1;
    }
    return release(state, c, out);
}

static size_t pass_contractions(uint8_t *state, char c, char *out) { /* "it 's" -> "it's", also 'm 're 've */
    bool space_goes = false;
    if (*state == A_SPACE && c == '\'') { *state = AN_APOSTROPHE; return 0; }
    if (*state == AN_APOSTROPHE) {
        if (c == 'r' || c == 'v') { *state = c == 'r' ? AN_R : A_V; return 0; }
        space_goes = c == 's' || c == 'm';
    } else space_goes = *state >= AN_R && c == 'e';
    size_t n = release(state, c, out);
    if (space_goes) memmove(out, out + 1, --n);
    return n;
}

/* One letter through the machines from `first` on; writes at most HELD_MOST + 1 to out. */
static size_t clean_letter(uint8_t states[3], int first, char c, char *out) {
    char a[4] = { c }, b[4];
    size_t n = 0, in_a = 1;
    if (first == 0) in_a = pass_marks(&states[0], c, a);
    for (size_t i = 0; i < in_a; i++) {
        size_t in_b = 1;
        b[0] = a[i];
        if (first <= 1) in_b = pass_lone_apostrophes(&states[1], a[i], b);
        for (size_t k = 0; k < in_b; k++) n += pass_contractions(&states[2], b[k], out + n);
    }
    return n;
}

/* out has room for s.len + HELD_MOST. */
static size_t clean(uint8_t states[3], nigh_str s, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) n += clean_letter(states, 0, s.ptr[i], out + n);
    return n;
}

static size_t clean_end(uint8_t states[3], char out[HELD_MOST]) {
    size_t n = 0;
    for (int pass = 0; pass < 2; pass++) {
        nigh_str held = held_text[states[pass]];
        states[pass] = NOTHING;
        for (size_t i = 0; i < held.len; i++) n += clean_letter(states, pass + 1, held.ptr[i], out + n);
    }
    nigh_str held = held_text[states[2]];
    states[2] = NOTHING;
    memcpy(out + n, held.ptr, held.len);
    return n + held.len;
}

nigh_status nigh_tokenizer_decode(const nigh_tokenizer *t, const int32_t *ids, size_t count, bool special,
                                  nigh_buf *out) {
    size_t before = out->len;
    uint8_t states[3] = { 0 };
    char cleaned[NIGH_TOKEN_BYTES_MAX + HELD_MOST], rest[HELD_MOST];
    bool started = false;
    nigh_status st = NIGH_OK;
    for (size_t i = 0; i < count && st == NIGH_OK; i++) {
        nigh_str s = without_first_space(t, piece_of(t, ids[i], special), &started);
        if (t->clean_spaces) s = (nigh_str){ cleaned, clean(states, s, cleaned) };
        st = nigh_buf_add(out, s);
    }
    if (st == NIGH_OK) st = nigh_buf_add(out, (nigh_str){ rest, clean_end(states, rest) });
    if (st != NIGH_OK) out->len = before;
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
    char joined[sizeof d->held + NIGH_TOKEN_BYTES_MAX + HELD_MOST];
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
    char cleaned[NIGH_TOKEN_BYTES_MAX + HELD_MOST];
    if (d->clean && t->clean_spaces) s = (nigh_str){ cleaned, clean(d->spaces, s, cleaned) };
    return show(d, s, out);
}

nigh_status nigh_detok_flush(nigh_detok *d, nigh_buf *out) {
    char rest[HELD_MOST];
    NIGH_TRY(show(d, (nigh_str){ rest, clean_end(d->spaces, rest) }, out));
    if (d->held_len) NIGH_TRY(nigh_buf_add(out, replacement));
    d->held_len = 0;
    return NIGH_OK;
}
