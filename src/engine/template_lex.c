/* template_lex.c - the words of a tag: names, signs, numbers, texts in quotes, and its end. */
#include "engine/template_parse.h"

#include "base/utf8.h"

/* ---- words of a tag ---- */
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

static nigh_status lex_text(nigh_tparser *p) {
    char quote = nigh_tlex_at(p, p->pos);
    size_t begin = ++p->pos;
    while (p->pos < p->src.len && nigh_tlex_at(p, p->pos) != quote) p->pos += nigh_tlex_at(p, p->pos) == '\\' ? 2 : 1;
    if (p->pos >= p->src.len) return NIGH_TFAIL(p, begin - 1, "the text in quotes does not end");
    p->tok.kind = TK_TEXT;
    p->tok.text = nigh_str_slice(p->src, begin, p->pos++);
    return NIGH_OK;
}

static void lex_number(nigh_tparser *p) {
    size_t begin = p->pos;
    p->tok.kind = TK_INT;
    while (is_digit(nigh_tlex_at(p, p->pos)) || nigh_tlex_at(p, p->pos) == '_') p->pos++;
    if (nigh_tlex_at(p, p->pos) == '.' && is_digit(nigh_tlex_at(p, p->pos + 1))) {
        p->tok.kind = TK_REAL;
        for (p->pos++; is_digit(nigh_tlex_at(p, p->pos));) p->pos++;
    }
    char sign = nigh_tlex_at(p, p->pos + 1);
    if ((nigh_tlex_at(p, p->pos) | 32) == 'e' &&
        (is_digit(sign) || ((sign == '+' || sign == '-') && is_digit(nigh_tlex_at(p, p->pos + 2))))) {
        p->tok.kind = TK_REAL;
        for (p->pos += 2; is_digit(nigh_tlex_at(p, p->pos));) p->pos++;
    }
    p->tok.text = nigh_str_slice(p->src, begin, p->pos);
}

/* Does the tag end here? Eats the end and notes what it does to the text that follows. */
static bool lex_end(nigh_tparser *p) {
    const char *close = p->in_output ? "}}" : "%}";
    size_t i = p->pos;
    bool minus = nigh_tlex_at(p, i) == '-', plus = nigh_tlex_at(p, i) == '+';
    if (minus || plus) i++;
    if (nigh_tlex_at(p, i) != close[0] || nigh_tlex_at(p, i + 1) != close[1]) return false;
    p->pos = i + 2;
    p->strip_next = minus;
    p->trim_next = !p->in_output && !plus;
    p->tok.kind = TK_END;
    p->tok.text = NIGH_STR("end of the tag");
    return true;
}

nigh_status nigh_tlex_next(nigh_tparser *p) {
    static const char *const pairs[] = { "==", "!=", "<=", ">=", "//", "**" };
    while (nigh_tlex_is_space(nigh_tlex_at(p, p->pos)) && p->pos < p->src.len) p->pos++;
    p->tok = (nigh_ttoken){ TK_SIGN, { 0 }, p->pos };
    if (p->pos >= p->src.len) return NIGH_TFAIL(p, p->pos, "the tag does not end");
    if (lex_end(p)) return NIGH_OK;
    char c = nigh_tlex_at(p, p->pos);
    if (c == '"' || c == '\'') return lex_text(p);
    if (is_digit(c)) { lex_number(p); return NIGH_OK; }
    size_t begin = p->pos;
    if (is_letter(c)) {
        while (is_letter(nigh_tlex_at(p, p->pos)) || is_digit(nigh_tlex_at(p, p->pos))) p->pos++;
        p->tok.kind = TK_NAME;
        p->tok.text = nigh_str_slice(p->src, begin, p->pos);
        return NIGH_OK;
    }
    for (size_t i = 0; i < NIGH_COUNT(pairs); i++) {
        if (c != pairs[i][0] || nigh_tlex_at(p, p->pos + 1) != pairs[i][1]) continue;
        p->pos += 2;
        p->tok.text = nigh_str_slice(p->src, begin, p->pos);
        return NIGH_OK;
    }
    if (!memchr("+-*/%~|.,:()[]{}<>=", c, 19)) return NIGH_TFAIL(p, begin, "a character that has no meaning here");
    p->pos++;
    p->tok.text = nigh_str_slice(p->src, begin, p->pos);
    return NIGH_OK;
}

bool nigh_tlex_is_sign(const nigh_tparser *p, const char *sign) {
    return p->tok.kind == TK_SIGN && nigh_str_eq(p->tok.text, nigh_str_of(sign));
}
bool nigh_tlex_is_name(const nigh_tparser *p, const char *name) {
    return p->tok.kind == TK_NAME && nigh_str_eq(p->tok.text, nigh_str_of(name));
}

nigh_status nigh_tlex_expected(nigh_tparser *p, const char *what) {
    return NIGH_TFAIL(p, p->tok.at, "expected %s, found %.*s", what, (int)nigh_min(p->tok.text.len, 40),
        p->tok.text.ptr);
}

nigh_status nigh_tlex_need_sign(nigh_tparser *p, const char *sign) {
    return nigh_tlex_is_sign(p, sign) ? nigh_tlex_next(p) : nigh_tlex_expected(p, sign);
}

nigh_status nigh_tlex_need_name(nigh_tparser *p, nigh_str *out) {
    if (p->tok.kind != TK_NAME) return nigh_tlex_expected(p, "a name");
    *out = p->tok.text;
    return nigh_tlex_next(p);
}

/* ---- literals ---- */
/* \x41 \u0041 \U00000041: `digits` of them behind s.ptr[*i]. */
static nigh_status unescape_code(nigh_tparser *p, nigh_str s, size_t *i, size_t digits, char **to) {
    uint32_t v = 0;
    for (size_t k = 0; k < digits; k++) {
        int digit = *i + 1 < s.len ? nigh_hex_digit(s.ptr[*i + 1]) : -1;
        if (digit < 0) return NIGH_TFAIL(p, p->tok.at, "an escape wants %zu hexadecimal digits", digits);
        v = v << 4 | (uint32_t)digit;
        ++*i;
    }
    if (v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff)) return NIGH_TFAIL(p, p->tok.at, "an escape names no character");
    *to += nigh_utf8_write(v, *to);
    return NIGH_OK;
}

static nigh_status unescape(nigh_tparser *p, nigh_str s, char *to, size_t *len) {
    static const char names[] = "ntr\\'\"bfva", means[] = "\n\t\r\\'\"\b\f\v\a";
    char *start = to;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != '\\' || i + 1 == s.len) { *to++ = s.ptr[i]; continue; }
        char c = s.ptr[++i];
        const char *hit = memchr(names, c, sizeof names - 1);
        if (hit) *to++ = means[hit - names];
        else if (c == 'x') NIGH_TRY(unescape_code(p, s, &i, 2, &to));
        else if (c == 'u') NIGH_TRY(unescape_code(p, s, &i, 4, &to));
        else if (c == 'U') NIGH_TRY(unescape_code(p, s, &i, 8, &to));
        else if (c == '\n') continue;
        else if (is_digit(c) || c == 'N') return NIGH_TUNKNOWN(p, p->tok.at, "the escape \\%c is not supported", c);
        else { *to++ = '\\'; *to++ = c; }
    }
    *len = (size_t)(to - start);
    return NIGH_OK;
}

/* Texts that stand side by side are one. */
nigh_status nigh_tlex_text(nigh_tparser *p, nigh_tnode **out) {
    size_t total = 0, used = 0;
    nigh_tparser look = *p;
    char *bytes;
    while (look.tok.kind == TK_TEXT) {
        total += look.tok.text.len;
        NIGH_TRY(nigh_tlex_next(&look));
    }
    NIGH_TRY(nigh_tparse_take(p, 1, total + 1, &bytes));
    size_t start = p->tok.at;
    while (p->tok.kind == TK_TEXT) {
        size_t len = 0;
        NIGH_TRY(unescape(p, p->tok.text, bytes + used, &len));
        used += len;
        NIGH_TRY(nigh_tlex_next(p));
    }
    NIGH_TRY(nigh_tparse_literal(p, nigh_tval_text((nigh_str){ bytes, used }, false), out));
    (*out)->at = (uint32_t)start;
    return NIGH_OK;
}

nigh_status nigh_tlex_number(nigh_tparser *p, nigh_tnode **out) {
    char digits[64];
    size_t n = 0;
    nigh_tval v = { .kind = TV_INT };
    for (size_t i = 0; i < p->tok.text.len; i++) {
        if (p->tok.text.ptr[i] == '_') continue;
        if (n == sizeof digits) return NIGH_TFAIL(p, p->tok.at, "the number is too long");
        digits[n++] = p->tok.text.ptr[i];
    }
    if (p->tok.kind == TK_REAL) v = nigh_tval_real(nigh_json_to_f64((nigh_str){ digits, n }), false);
    else if (!nigh_str_to_i64((nigh_str){ digits, n }, &v.as.integer))
        return NIGH_TFAIL(p, p->tok.at, "the number is too large");
    NIGH_TRY(nigh_tparse_literal(p, v, out));
    return nigh_tlex_next(p);
}

