/* redact.c - see redact.h. Values lie one behind the other in a buffer; a table by hash finds a value again. */
#include "place/redact.h"

#include "base/json.h"

enum { SLOTS = 2 * NIGH_REDACT_VALUES_MAX, NONCE = 4, TOKEN_MAX = 32 };

typedef struct { nigh_find_kind kind; uint32_t begin, len, number; } value;

struct nigh_redactor {
    uint64_t seed;
    char nonce[NONCE];                              /* small letters and digits */
    uint32_t next[NIGH_FIND_COUNT];                 /* last number of each kind */
    size_t count;
    value values[NIGH_REDACT_VALUES_MAX];
    uint16_t slots[SLOTS];                          /* index + 1 of a value; 0: free */
    uint16_t by_number[NIGH_FIND_COUNT][NIGH_REDACT_VALUES_MAX + 1];
    nigh_buf bytes;
};

nigh_status nigh_redactor_new(nigh_redactor **out, uint64_t seed, nigh_err *err) {
    static const char letters[] = "bcdfghjkmnpqrstvwxz23456789";    /* no vowels: no words */
    nigh_redactor *r = *out = nigh_alloc(1, sizeof *r);
    if (!r) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory to redact");
    r->seed = seed;
    for (size_t i = 0; i < NONCE; i++) r->nonce[i] = letters[(seed >> (8 * i)) % (sizeof letters - 1)];
    r->bytes = NIGH_BUF(NIGH_REDACT_BYTES_MAX);
    return NIGH_OK;
}

void nigh_redactor_free(nigh_redactor *r) {
    if (!r) return;
    volatile char *p = r->bytes.ptr;
    for (size_t i = 0; i < r->bytes.cap; i++) p[i] = 0;
    nigh_buf_release(&r->bytes);
    nigh_free(r);
}

size_t nigh_redactor_count(const nigh_redactor *r) { return r->count; }

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static nigh_str value_text(const nigh_redactor *r, const value *v) {
    return (nigh_str){ r->bytes.ptr + v->begin, v->len };
}

/* ---- out ---- */

/* The value's entry, new when it was not seen before. */
static nigh_status keep(nigh_redactor *r, nigh_find_kind kind, nigh_str text, const value **out, nigh_err *err) {
    size_t slot = nigh_str_hash(text, r->seed + kind) % SLOTS;
    for (; r->slots[slot]; slot = (slot + 1) % SLOTS) {
        value *v = &r->values[r->slots[slot] - 1];
        if (v->kind == kind && nigh_str_eq(value_text(r, v), text)) {
            *out = v;
            return NIGH_OK;
        }
    }
    if (r->count == NIGH_REDACT_VALUES_MAX)
        return nigh_failf(err, NIGH_ERANGE, 0, "one conversation holds more than %d private values",
                          NIGH_REDACT_VALUES_MAX);
    size_t begin = r->bytes.len;
    nigh_status status = nigh_buf_add(&r->bytes, text);
    if (status != NIGH_OK) return nigh_fail(err, status, 0, "a conversation's private values take too much memory");
    value *v = &r->values[r->count++];
    *v = (value){ kind, (uint32_t)begin, (uint32_t)text.len, ++r->next[kind] };
    r->slots[slot] = (uint16_t)r->count;
    r->by_number[kind][v->number] = (uint16_t)r->count;
    *out = v;
    return NIGH_OK;
}

/* "_" and the letters of this conversation, in any case: what only a placeholder may hold. */
static bool holds_mark(const nigh_redactor *r, nigh_str text) {
    for (size_t i = 0; i + NONCE < text.len; i++) {
        const char *p = memchr(text.ptr + i, '_', text.len - NONCE - i);
        if (!p) return false;
        i = (size_t)(p - text.ptr);
        size_t n = 0;
        while (n < NONCE && lower(text.ptr[i + 1 + n]) == r->nonce[n]) n++;
        if (n == NONCE) return true;
    }
    return false;
}

static nigh_status redact_into(nigh_redactor *r, unsigned kinds, nigh_str text, nigh_buf *out, size_t *replaced,
                               nigh_err *err) {
    nigh_found f;
    size_t from = 0, copied = 0;
    while (nigh_find_next(text, &from, kinds, &f)) {
        const value *v = NULL;
        NIGH_TRY(keep(r, f.kind, nigh_str_slice(text, f.begin, f.end), &v, err));
        NIGH_TRY(nigh_buf_add(out, nigh_str_slice(text, copied, f.begin)));
        NIGH_TRY(nigh_buf_addf(out, "<%s_%u_%.*s>", nigh_find_word(f.kind), v->number, NONCE, r->nonce));
        copied = f.end;
        if (replaced) ++*replaced;
    }
    return nigh_buf_add(out, nigh_str_slice(text, copied, text.len));
}

nigh_status nigh_redact(nigh_redactor *r, unsigned kinds, nigh_str text, nigh_buf *out, size_t *replaced,
                        nigh_err *err) {
    size_t before = out->len;
    if (holds_mark(r, text))
        return nigh_fail(err, NIGH_EDATA, 0, "the text holds what looks like a placeholder; it cannot be redacted");
    nigh_status status = redact_into(r, kinds, text, out, replaced, err);
    if (status == NIGH_OK) return NIGH_OK;
    out->len = before;
    if (err && err->code == NIGH_OK) nigh_fail(err, status, 0, "the redacted text takes too much memory");
    return status;
}

/* ---- back ---- */

/* How a placeholder reads from `text`, brackets and case aside.
 * NONE: it is none. PART: it may become one with more bytes. WHOLE: it is one, of *bytes bytes. */
typedef enum { TOKEN_NONE, TOKEN_PART, TOKEN_WHOLE } token_state;
typedef struct { nigh_find_kind kind; uint32_t number; size_t bytes; } token;

static token_state read_word(nigh_str text, size_t *at, nigh_find_kind kind) {
    const char *word = nigh_find_word(kind);
    size_t i = *at;
    for (; *word; word++, i++) {
        if (i == text.len) return TOKEN_PART;
        if (lower(text.ptr[i]) != lower(*word)) return TOKEN_NONE;
    }
    *at = i;
    return TOKEN_WHOLE;
}

/* After the word: "_", a number, "_", the four letters, perhaps ">". */
static token_state read_rest(const nigh_redactor *r, nigh_str text, size_t at, token *out) {
    size_t digits = 0;
    if (at == text.len) return TOKEN_PART;
    if (text.ptr[at++] != '_') return TOKEN_NONE;
    for (out->number = 0; at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9' && digits < 5; at++, digits++)
        out->number = out->number * 10 + (uint32_t)(text.ptr[at] - '0');
    if (at == text.len) return TOKEN_PART;
    if (digits == 0 || text.ptr[at++] != '_') return TOKEN_NONE;
    for (size_t n = 0; n < NONCE; n++, at++) {
        if (at == text.len) return TOKEN_PART;
        if (lower(text.ptr[at]) != r->nonce[n]) return TOKEN_NONE;
    }
    if (at == text.len) return TOKEN_PART;          /* a bracket may follow */
    out->bytes = at + (text.ptr[at] == '>');
    return TOKEN_WHOLE;
}

static token_state read_token(const nigh_redactor *r, nigh_str text, token *out) {
    size_t begin = text.len && text.ptr[0] == '<';
    token_state best = TOKEN_NONE;
    if (begin == text.len) return TOKEN_PART;
    for (int k = 0; k < NIGH_FIND_COUNT; k++) {
        size_t at = begin;
        token_state state = read_word(text, &at, (nigh_find_kind)k);
        if (state == TOKEN_WHOLE) state = read_rest(r, text, at, out);
        out->kind = (nigh_find_kind)k;
        if (state == TOKEN_WHOLE) return state;
        if (state == TOKEN_PART) best = TOKEN_PART;
    }
    return best;
}

static nigh_status put_value(nigh_restorer *s, const token *t, nigh_buf *out) {
    const nigh_redactor *r = s->r;
    uint16_t idx = t->number <= NIGH_REDACT_VALUES_MAX ? r->by_number[t->kind][t->number] : 0;
    if (!idx) {
        s->unknown++;
        return nigh_buf_addf(out, "[%s?]", nigh_find_word(t->kind));
    }
    nigh_str text = value_text(r, &r->values[idx - 1]);
    s->restored++;
    if (!s->json) return nigh_buf_add(out, text);
    size_t begin = out->len;
    NIGH_TRY(nigh_json_add_string(out, text));      /* without its quotation marks */
    out->len--;
    memmove(out->ptr + begin, out->ptr + begin + 1, out->len - begin - 1);
    out->len--;
    return NIGH_OK;
}

static bool begins_word(const nigh_restorer *s, nigh_str text, size_t i) {
    char c = i ? text.ptr[i - 1] : s->before;
    return s->json          /* there a letter may be the end of an escape: \n */
           || !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'));
}

/* Everything up to what may be the beginning of a placeholder; returns where that begins. At the end (`last`) a part is
 * plain text, but a whole one without its bracket is one. */
static nigh_status restore(nigh_restorer *s, nigh_str text, bool last, nigh_buf *out, size_t *rest) {
    size_t copied = 0;
    *rest = text.len;
    for (size_t i = 0; i < text.len; i++) {
        char c = lower(text.ptr[i]);
        token t = { 0 };
        if (c != '<' && !(c >= 'a' && c <= 'z' && begins_word(s, text, i))) continue;
        token_state state = read_token(s->r, nigh_str_slice(text, i, text.len), &t);
        if (state == TOKEN_PART && !last) {
            *rest = i;
            break;
        }
        if (state != TOKEN_WHOLE) continue;
        NIGH_TRY(nigh_buf_add(out, nigh_str_slice(text, copied, i)));
        NIGH_TRY(put_value(s, &t, out));
        copied = i + t.bytes;
        i = copied - 1;
    }
    return nigh_buf_add(out, nigh_str_slice(text, copied, *rest));
}

/* The held bytes and the piece as one text. A part of a placeholder is at most TOKEN_MAX bytes long. */
static nigh_status restore_joined(nigh_restorer *s, nigh_str piece, bool last, nigh_buf *out) {
    nigh_buf joined = NIGH_BUF(piece.len + TOKEN_MAX + 1);
    size_t rest;
    nigh_status status = nigh_buf_add(&joined, (nigh_str){ s->held, s->held_len });
    if (status == NIGH_OK) status = nigh_buf_add(&joined, piece);
    if (status == NIGH_OK && last) status = nigh_buf_add_char(&joined, '\0');   /* ends a token that lost its bracket */
    nigh_str text = nigh_buf_str(&joined);
    if (status == NIGH_OK) status = restore(s, text, last, out, &rest);
    if (status == NIGH_OK) {
        assert(text.len - rest <= TOKEN_MAX);
        s->held_len = (uint8_t)(text.len - rest);
        if (rest) s->before = text.ptr[rest - 1];
        if (s->held_len) memcpy(s->held, text.ptr + rest, s->held_len);
        if (last) out->len--;
    }
    nigh_buf_release(&joined);
    return status;
}

nigh_status nigh_restore_add(nigh_restorer *s, nigh_str piece, nigh_buf *out) {
    return piece.len ? restore_joined(s, piece, false, out) : NIGH_OK;
}

nigh_status nigh_restore_end(nigh_restorer *s, nigh_buf *out) {
    return restore_joined(s, NIGH_STR(""), true, out);
}
