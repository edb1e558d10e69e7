/* template_parse.c - template source to a tree.
 *
 * One pass: text up to the next tag is cut out with the white space rules of the Hugging Face library (trim_blocks,
 * lstrip_blocks, the last newline dropped), then the tag is read word by word by descent. Every descent counts
 * against NIGH_TEMPLATE_DEPTH_MAX; long chains (a ~ b ~ c, x.y.z|f|g, elif) are lists in the tree, so that length is
 * no depth. Unknown tags, filters and tests are refused here, before anything runs. */
#include "engine/template_ast.h"
#include "base/utf8.h"

typedef enum { TK_END /* of the tag */, TK_NAME, TK_TEXT, TK_INT, TK_REAL, TK_SIGN } token_kind;

typedef struct {
    token_kind kind;
    nigh_str text;          /* as written; TEXT: without quotes, still escaped */
    size_t at;
} token;

typedef struct {
    nigh_template *t;
    nigh_str src;
    size_t pos;             /* behind `tok` while in a tag; else where text begins */
    token tok;
    bool in_output;         /* the tag is {{ }} */
    bool strip_next;        /* the last tag ended with - */
    bool trim_next;         /* the last tag was a block or comment: drop one newline */
    size_t depth, loops;
    nigh_err *err;
} parser;

/* A list of nodes in the making. */
typedef struct { const nigh_tnode *first; nigh_tnode *last; size_t count; } chain;

nigh_status nigh_template_fail(nigh_str source, nigh_err *err, nigh_status code, size_t at, const char *fmt, ...) {
    char text[sizeof err->text];
    size_t column, line = nigh_str_line(source, at, &column);
    va_list args;
    va_start(args, fmt);
    nigh_vformat(text, sizeof text, fmt, args);
    va_end(args);
    return nigh_failf(err, code, at, "template, line %zu column %zu: %s", line, column, text);
}

#define FAIL(p, at, ...) nigh_template_fail((p)->src, (p)->err, NIGH_EINVAL, (at), __VA_ARGS__)
#define UNKNOWN(p, at, ...) nigh_template_fail((p)->src, (p)->err, NIGH_ENOSUP, (at), __VA_ARGS__)

static nigh_status take(parser *p, size_t size, size_t count, void *out) {
    void *block = nigh_tpool_take(&p->t->pool, size, count);
    memcpy(out, &block, sizeof block);
    if (block) return NIGH_OK;
    bool full = p->t->pool.used + size * count > p->t->pool.limit;
    return nigh_template_fail(p->src, p->err, full ? NIGH_ERANGE : NIGH_ENOMEM, p->tok.at,
        full ? "the template is too large" : "not enough memory");
}

static nigh_status new_node(parser *p, nigh_tnode_kind kind, size_t at, nigh_tnode **out) {
    NIGH_TRY(take(p, sizeof **out, 1, out));
    (*out)->kind = (uint8_t)kind;
    (*out)->at = (uint32_t)at;
    return NIGH_OK;
}

static void append(chain *c, nigh_tnode *n) {
    if (c->last) c->last->next = n;
    else c->first = n;
    c->last = n;
    c->count++;
}

static nigh_status enter(parser *p) {
    if (p->depth++ < NIGH_TEMPLATE_DEPTH_MAX) return NIGH_OK;
    return nigh_template_fail(p->src, p->err, NIGH_ERANGE, p->tok.at, "nested deeper than %d", NIGH_TEMPLATE_DEPTH_MAX);
}

/* ---- words of a tag ---- */
static char at(const parser *p, size_t i) { return i < p->src.len ? p->src.ptr[i] : '\0'; }
static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

static nigh_status lex_text(parser *p) {
    char quote = at(p, p->pos);
    size_t begin = ++p->pos;
    while (p->pos < p->src.len && at(p, p->pos) != quote) p->pos += at(p, p->pos) == '\\' ? 2 : 1;
    if (p->pos >= p->src.len) return FAIL(p, begin - 1, "the text in quotes does not end");
    p->tok.kind = TK_TEXT;
    p->tok.text = nigh_str_slice(p->src, begin, p->pos++);
    return NIGH_OK;
}

static void lex_number(parser *p) {
    size_t begin = p->pos;
    p->tok.kind = TK_INT;
    while (is_digit(at(p, p->pos)) || at(p, p->pos) == '_') p->pos++;
    if (at(p, p->pos) == '.' && is_digit(at(p, p->pos + 1))) {
        p->tok.kind = TK_REAL;
        for (p->pos++; is_digit(at(p, p->pos));) p->pos++;
    }
    char sign = at(p, p->pos + 1);
    if ((at(p, p->pos) | 32) == 'e' &&
        (is_digit(sign) || ((sign == '+' || sign == '-') && is_digit(at(p, p->pos + 2))))) {
        p->tok.kind = TK_REAL;
        for (p->pos += 2; is_digit(at(p, p->pos));) p->pos++;
    }
    p->tok.text = nigh_str_slice(p->src, begin, p->pos);
}

/* Does the tag end here? Eats the end and notes what it does to the text that follows. */
static bool lex_end(parser *p) {
    const char *close = p->in_output ? "}}" : "%}";
    size_t i = p->pos;
    bool minus = at(p, i) == '-', plus = at(p, i) == '+';
    if (minus || plus) i++;
    if (at(p, i) != close[0] || at(p, i + 1) != close[1]) return false;
    p->pos = i + 2;
    p->strip_next = minus;
    p->trim_next = !p->in_output && !plus;
    p->tok.kind = TK_END;
    p->tok.text = NIGH_STR("end of the tag");
    return true;
}

static nigh_status next(parser *p) {
    static const char *const pairs[] = { "==", "!=", "<=", ">=", "//", "**" };
    while (is_space(at(p, p->pos)) && p->pos < p->src.len) p->pos++;
    p->tok = (token){ TK_SIGN, { 0 }, p->pos };
    if (p->pos >= p->src.len) return FAIL(p, p->pos, "the tag does not end");
    if (lex_end(p)) return NIGH_OK;
    char c = at(p, p->pos);
    if (c == '"' || c == '\'') return lex_text(p);
    if (is_digit(c)) { lex_number(p); return NIGH_OK; }
    size_t begin = p->pos;
    if (is_letter(c)) {
        while (is_letter(at(p, p->pos)) || is_digit(at(p, p->pos))) p->pos++;
        p->tok.kind = TK_NAME;
        p->tok.text = nigh_str_slice(p->src, begin, p->pos);
        return NIGH_OK;
    }
    for (size_t i = 0; i < NIGH_COUNT(pairs); i++) {
        if (c != pairs[i][0] || at(p, p->pos + 1) != pairs[i][1]) continue;
        p->pos += 2;
        p->tok.text = nigh_str_slice(p->src, begin, p->pos);
        return NIGH_OK;
    }
    if (!memchr("+-*/%~|.,:()[]{}<>=", c, 19)) return FAIL(p, begin, "a character that has no meaning here");
    p->pos++;
    p->tok.text = nigh_str_slice(p->src, begin, p->pos);
    return NIGH_OK;
}

static bool is_sign(const parser *p, const char *sign) {
    return p->tok.kind == TK_SIGN && nigh_str_eq(p->tok.text, nigh_str_of(sign));
}
static bool is_name(const parser *p, const char *name) {
    return p->tok.kind == TK_NAME && nigh_str_eq(p->tok.text, nigh_str_of(name));
}

static nigh_status expected(parser *p, const char *what) {
    return FAIL(p, p->tok.at, "expected %s, found %.*s", what, (int)nigh_min(p->tok.text.len, 40), p->tok.text.ptr);
}

static nigh_status need_sign(parser *p, const char *sign) { return is_sign(p, sign) ? next(p) : expected(p, sign); }

static nigh_status need_name(parser *p, nigh_str *out) {
    if (p->tok.kind != TK_NAME) return expected(p, "a name");
    *out = p->tok.text;
    return next(p);
}

/* ---- literals ---- */
static int hex_value(char c) {
    return is_digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* \x41 \u0041 \U00000041: `digits` of them behind s.ptr[*i]. */
static nigh_status unescape_code(parser *p, nigh_str s, size_t *i, size_t digits, char **to) {
    uint32_t v = 0;
    for (size_t k = 0; k < digits; k++) {
        int digit = *i + 1 < s.len ? hex_value(s.ptr[*i + 1]) : -1;
        if (digit < 0) return FAIL(p, p->tok.at, "an escape wants %zu hexadecimal digits", digits);
        v = v << 4 | (uint32_t)digit;
        ++*i;
    }
    if (v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff)) return FAIL(p, p->tok.at, "an escape names no character");
    *to += nigh_utf8_write(v, *to);
    return NIGH_OK;
}

static nigh_status unescape(parser *p, nigh_str s, char *to, size_t *len) {
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
        else if (is_digit(c) || c == 'N') return UNKNOWN(p, p->tok.at, "the escape \\%c is not supported", c);
        else { *to++ = '\\'; *to++ = c; }
    }
    *len = (size_t)(to - start);
    return NIGH_OK;
}

static nigh_status literal_node(parser *p, nigh_tval v, nigh_tnode **out) {
    nigh_tval *keep;
    NIGH_TRY(new_node(p, TN_LITERAL, p->tok.at, out));
    NIGH_TRY(take(p, sizeof *keep, 1, &keep));
    *keep = v;
    (*out)->literal = keep;
    return NIGH_OK;
}

/* Texts that stand side by side are one. */
static nigh_status text_literal(parser *p, nigh_tnode **out) {
    size_t total = 0, used = 0;
    parser look = *p;
    char *bytes;
    while (look.tok.kind == TK_TEXT) {
        total += look.tok.text.len;
        NIGH_TRY(next(&look));
    }
    NIGH_TRY(take(p, 1, total + 1, &bytes));
    size_t start = p->tok.at;
    while (p->tok.kind == TK_TEXT) {
        size_t len = 0;
        NIGH_TRY(unescape(p, p->tok.text, bytes + used, &len));
        used += len;
        NIGH_TRY(next(p));
    }
    NIGH_TRY(literal_node(p, nigh_tval_text((nigh_str){ bytes, used }, false), out));
    (*out)->at = (uint32_t)start;
    return NIGH_OK;
}

static nigh_status number_literal(parser *p, nigh_tnode **out) {
    char digits[64];
    size_t n = 0;
    nigh_tval v = { .kind = TV_INT };
    for (size_t i = 0; i < p->tok.text.len; i++) {
        if (p->tok.text.ptr[i] == '_') continue;
        if (n == sizeof digits) return FAIL(p, p->tok.at, "the number is too long");
        digits[n++] = p->tok.text.ptr[i];
    }
    if (p->tok.kind == TK_REAL) v = nigh_tval_real(nigh_json_to_f64((nigh_str){ digits, n }), false);
    else if (!nigh_str_to_i64((nigh_str){ digits, n }, &v.as.integer))
        return FAIL(p, p->tok.at, "the number is too large");
    NIGH_TRY(literal_node(p, v, out));
    return next(p);
}

/* ---- expressions ---- */
static nigh_status parse_expr(parser *p, const nigh_tnode **out);
static nigh_status parse_unary(parser *p, bool with_filters, const nigh_tnode **out);

/* Arguments up to the closing bracket; the opening one is eaten. */
static nigh_status parse_args(parser *p, chain *args) {
    while (!is_sign(p, ")")) {
        nigh_tnode *arg;
        NIGH_TRY(new_node(p, TN_ARG, p->tok.at, &arg));
        if (is_sign(p, "*") || is_sign(p, "**"))
            return UNKNOWN(p, p->tok.at, "arguments given with * are not supported");
        if (p->tok.kind == TK_NAME) {
            parser look = *p;
            look.err = NULL;
            if (next(&look) == NIGH_OK && is_sign(&look, "=")) {
                arg->text = p->tok.text;
                arg->named = true;
                NIGH_TRY(next(p));
                NIGH_TRY(next(p));
            }
        }
        if (!arg->named && args->last && args->last->named)
            return FAIL(p, p->tok.at, "an argument without a name stands behind one with a name");
        NIGH_TRY(parse_expr(p, &arg->a));
        if (args->count == 255) return FAIL(p, p->tok.at, "more than 255 arguments");
        append(args, arg);
        if (!is_sign(p, ",")) break;
        NIGH_TRY(next(p));
    }
    return need_sign(p, ")");
}

/* Values up to the closing sign, both signs eaten. *comma: was there one? */
static nigh_status parse_items(parser *p, const char *close, chain *items, bool *comma) {
    *comma = false;
    NIGH_TRY(next(p));
    while (!is_sign(p, close)) {
        nigh_tnode *item;
        NIGH_TRY(new_node(p, TN_ARG, p->tok.at, &item));
        NIGH_TRY(parse_expr(p, &item->a));
        append(items, item);
        if (!is_sign(p, ",")) break;
        *comma = true;
        NIGH_TRY(next(p));
    }
    return need_sign(p, close);
}

/* [a, b], (a, b), or a value in round brackets. */
static nigh_status parse_list(parser *p, const char *close, const nigh_tnode **out) {
    chain items = { 0 };
    nigh_tnode *n;
    size_t start = p->tok.at;
    bool comma;
    NIGH_TRY(parse_items(p, close, &items, &comma));
    if (close[0] == ')' && items.count == 1 && !comma) { *out = items.first->a; return NIGH_OK; }
    NIGH_TRY(new_node(p, TN_LIST, start, &n));
    n->a = items.first;
    *out = n;
    return NIGH_OK;
}

static nigh_status parse_dict(parser *p, nigh_tnode **out) {
    chain pairs = { 0 };
    NIGH_TRY(new_node(p, TN_DICT, p->tok.at, out));
    NIGH_TRY(next(p));
    while (!is_sign(p, "}")) {
        nigh_tnode *pair;
        NIGH_TRY(new_node(p, TN_PAIR, p->tok.at, &pair));
        NIGH_TRY(parse_expr(p, &pair->a));
        NIGH_TRY(need_sign(p, ":"));
        NIGH_TRY(parse_expr(p, &pair->b));
        append(&pairs, pair);
        if (!is_sign(p, ",")) break;
        NIGH_TRY(next(p));
    }
    (*out)->a = pairs.first;
    return need_sign(p, "}");
}

static nigh_status parse_name(parser *p, nigh_tnode **out) {
    static const struct { const char *name; nigh_tval v;
    } words[] = { { "true", { .kind = TV_BOOL, .as.boolean = true } },
        { "True", { .kind = TV_BOOL, .as.boolean = true } }, { "false", { .kind = TV_BOOL } },
        { "False", { .kind = TV_BOOL } }, { "none", { .kind = TV_NONE } }, { "None", { .kind = TV_NONE } } };
    static const char *const reserved[] = { "and", "or", "not", "in", "is", "if", "else", "elif", "for" };
    for (size_t i = 0; i < NIGH_COUNT(words); i++) {
        if (!is_name(p, words[i].name)) continue;
        NIGH_TRY(literal_node(p, words[i].v, out));
        return next(p);
    }
    for (size_t i = 0; i < NIGH_COUNT(reserved); i++) if (is_name(p, reserved[i])) return expected(p, "a value");
    NIGH_TRY(new_node(p, TN_NAME, p->tok.at, out));
    return need_name(p, &(*out)->text);
}

static nigh_status parse_primary(parser *p, const nigh_tnode **out) {
    nigh_tnode *n = NULL;
    if (is_sign(p, "(")) return parse_list(p, ")", out);
    if (is_sign(p, "[")) return parse_list(p, "]", out);
    if (p->tok.kind == TK_TEXT) NIGH_TRY(text_literal(p, &n));
    else if (p->tok.kind == TK_INT || p->tok.kind == TK_REAL) NIGH_TRY(number_literal(p, &n));
    else if (p->tok.kind == TK_NAME) NIGH_TRY(parse_name(p, &n));
    else if (is_sign(p, "{")) NIGH_TRY(parse_dict(p, &n));
    else return expected(p, "a value");
    *out = n;
    return NIGH_OK;
}

/* [key] or [begin:end:step] */
static nigh_status parse_subscript(parser *p, chain *suffixes) {
    const nigh_tnode *part[3] = { NULL };
    nigh_tnode *n;
    size_t colons = 0;
    NIGH_TRY(new_node(p, TN_INDEX, p->tok.at, &n));
    NIGH_TRY(next(p));
    while (!is_sign(p, "]")) {
        if (is_sign(p, ":")) {
            if (++colons == 3) return expected(p, "]");
            NIGH_TRY(next(p));
        } else if (part[colons]) return expected(p, "]");
        else NIGH_TRY(parse_expr(p, &part[colons]));
    }
    if (!colons && !part[0]) return expected(p, "a value");
    NIGH_TRY(next(p));
    if (colons) n->kind = TN_SLICE;
    n->a = part[0];
    n->b = part[1];
    n->c = part[2];
    append(suffixes, n);
    return NIGH_OK;
}

static nigh_status parse_filter(parser *p, chain *suffixes) { /* behind | */
    nigh_tnode *n;
    chain args = { 0 };
    NIGH_TRY(new_node(p, TN_FILTER, p->tok.at, &n));
    NIGH_TRY(need_name(p, &n->text));
    int index = nigh_tfilter_find(n->text);
    if (index < 0) return UNKNOWN(p, n->at, "unknown filter '%.*s'", (int)nigh_min(n->text.len, 60), n->text.ptr);
    n->index = (uint16_t)index;
    if (is_sign(p, "(")) {
        NIGH_TRY(next(p));
        NIGH_TRY(parse_args(p, &args));
    }
    n->a = args.first;
    n->count = (uint16_t)args.count;
    append(suffixes, n);
    return NIGH_OK;
}

static nigh_status parse_postfix(parser *p, chain *suffixes);

/* Behind `is`: [not] name [(args) | one value]. */
static nigh_status parse_test(parser *p, chain *suffixes) {
    nigh_tnode *n, *arg;
    chain args = { 0 }, inner = { 0 };
    NIGH_TRY(new_node(p, TN_TEST, p->tok.at, &n));
    if (is_name(p, "not")) { n->negated = true; NIGH_TRY(next(p)); }
    NIGH_TRY(need_name(p, &n->text));
    int index = nigh_ttest_find(n->text);
    if (index < 0) return UNKNOWN(p, n->at, "unknown test '%.*s'", (int)nigh_min(n->text.len, 60), n->text.ptr);
    n->index = (uint16_t)index;
    bool word = p->tok.kind == TK_NAME && !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and") &&
                !is_name(p, "is") && !is_name(p, "if") && !is_name(p, "not") && !is_name(p, "in");
    if (is_sign(p, "(")) {
        NIGH_TRY(next(p));
        NIGH_TRY(parse_args(p, &args));
    } else if (word || p->tok.kind == TK_TEXT || p->tok.kind == TK_INT || p->tok.kind == TK_REAL || is_sign(p, "[") ||
               is_sign(p, "{")) {
        nigh_tnode *post;
        NIGH_TRY(new_node(p, TN_ARG, p->tok.at, &arg));
        NIGH_TRY(new_node(p, TN_POSTFIX, p->tok.at, &post));
        NIGH_TRY(parse_primary(p, &post->a));
        NIGH_TRY(parse_postfix(p, &inner));
        post->b = inner.first;
        arg->a = post;
        append(&args, arg);
    }
    n->a = args.first;
    n->count = (uint16_t)args.count;
    append(suffixes, n);
    return NIGH_OK;
}

/* .name [key] (args), as many as there are */
static nigh_status parse_postfix(parser *p, chain *suffixes) {
    for (;;) {
        nigh_tnode *n;
        chain args = { 0 };
        if (is_sign(p, "[")) { NIGH_TRY(parse_subscript(p, suffixes)); continue; }
        if (is_sign(p, ".")) {
            NIGH_TRY(new_node(p, TN_ATTR, p->tok.at, &n));
            NIGH_TRY(next(p));
            if (p->tok.kind != TK_NAME) return expected(p, "a name after the point");
            NIGH_TRY(need_name(p, &n->text));
        } else if (is_sign(p, "(")) {
            NIGH_TRY(new_node(p, TN_CALL, p->tok.at, &n));
            NIGH_TRY(next(p));
            NIGH_TRY(parse_args(p, &args));
            n->a = args.first;
            n->count = (uint16_t)args.count;
        } else return NIGH_OK;
        append(suffixes, n);
    }
}

static nigh_status parse_filters(parser *p, chain *suffixes) { /* | and is, as many as there are */
    for (;;) {
        if (is_sign(p, "|")) {
            NIGH_TRY(next(p));
            NIGH_TRY(parse_filter(p, suffixes));
        } else if (is_name(p, "is")) {
            NIGH_TRY(next(p));
            NIGH_TRY(parse_test(p, suffixes));
        } else if (suffixes->last && (is_sign(p, "(") || is_sign(p, ".") || is_sign(p, "["))) {
            size_t before = suffixes->count;
            NIGH_TRY(parse_postfix(p, suffixes));
            if (suffixes->count == before) return NIGH_OK;
        } else return NIGH_OK;
    }
}

static nigh_status parse_unary(parser *p, bool with_filters, const nigh_tnode **out) {
    const nigh_tnode *base;
    chain suffixes = { 0 };
    size_t start = p->tok.at;
    NIGH_TRY(enter(p));
    if (is_sign(p, "-") || is_sign(p, "+")) {
        nigh_tnode *n;
        NIGH_TRY(new_node(p, is_sign(p, "-") ? TN_MINUS : TN_PLUS, p->tok.at, &n));
        NIGH_TRY(next(p));
        NIGH_TRY(parse_unary(p, false, &n->a));
        base = n;
    } else NIGH_TRY(parse_primary(p, &base));
    NIGH_TRY(parse_postfix(p, &suffixes));
    if (with_filters) NIGH_TRY(parse_filters(p, &suffixes));
    if (suffixes.count) {
        nigh_tnode *n;
        NIGH_TRY(new_node(p, TN_POSTFIX, start, &n));
        n->a = base;
        n->b = suffixes.first;
        base = n;
    }
    *out = base;
    p->depth--;
    return NIGH_OK;
}

/* The operators of one level, weakest first; level 3 (not) has its own rule. */
enum {
    LEVEL_OR,
    LEVEL_AND,
    LEVEL_NOT,
    LEVEL_COMPARE,
    LEVEL_SUM,
    LEVEL_CONCAT,
    LEVEL_PRODUCT,
    LEVEL_POWER,
    LEVEL_UNARY
};
static const struct { const char *word; uint8_t level, op;
} operators[] = { { "or", LEVEL_OR, TO_OR }, { "and", LEVEL_AND, TO_AND }, { "==", LEVEL_COMPARE, TO_EQ },
    { "!=", LEVEL_COMPARE, TO_NE }, { "<", LEVEL_COMPARE, TO_LT }, { "<=", LEVEL_COMPARE, TO_LE },
    { ">", LEVEL_COMPARE, TO_GT }, { ">=", LEVEL_COMPARE, TO_GE }, { "in", LEVEL_COMPARE, TO_IN },
    { "+", LEVEL_SUM, TO_ADD }, { "-", LEVEL_SUM, TO_SUB }, { "~", LEVEL_CONCAT, TO_CONCAT },
    { "*", LEVEL_PRODUCT, TO_MUL }, { "/", LEVEL_PRODUCT, TO_DIV }, { "//", LEVEL_PRODUCT, TO_FLOOR },
    { "%", LEVEL_PRODUCT, TO_MOD }, { "**", LEVEL_POWER, TO_POW } };

/* Eats an operator of this level; TO_NONE when none stands here. */
static nigh_status match_operator(parser *p, unsigned level, nigh_top *op) {
    *op = TO_NONE;
    if (p->tok.kind != TK_SIGN && p->tok.kind != TK_NAME) return NIGH_OK;
    if (level == LEVEL_COMPARE && is_name(p, "not")) {
        NIGH_TRY(next(p));
        if (!is_name(p, "in")) return expected(p, "in after not");
        *op = TO_NOT_IN;
        return next(p);
    }
    for (size_t i = 0; i < NIGH_COUNT(operators); i++) {
        if (operators[i].level != level || !nigh_str_eq(p->tok.text, nigh_str_of(operators[i].word))) continue;
        *op = operators[i].op;
        return next(p);
    }
    return NIGH_OK;
}

static nigh_status parse_level(parser *p, unsigned level, const nigh_tnode **out) {
    chain links = { 0 };
    nigh_top op;
    size_t start = p->tok.at;
    if (level == LEVEL_UNARY) return parse_unary(p, true, out);
    if (level == LEVEL_NOT && is_name(p, "not")) {
        nigh_tnode *n;
        NIGH_TRY(enter(p));
        NIGH_TRY(new_node(p, TN_NOT, start, &n));
        NIGH_TRY(next(p));
        NIGH_TRY(parse_level(p, LEVEL_NOT, &n->a));
        *out = n;
        p->depth--;
        return NIGH_OK;
    }
    NIGH_TRY(parse_level(p, level + 1, out));
    for (;;) {
        size_t where = p->tok.at;
        nigh_tnode *link;
        NIGH_TRY(match_operator(p, level, &op));
        if (op == TO_NONE) break;
        NIGH_TRY(new_node(p, TN_LINK, where, &link));
        link->op = (uint8_t)op;
        NIGH_TRY(parse_level(p, level + 1, &link->a));
        append(&links, link);
    }
    if (links.count) {
        nigh_tnode *n;
        NIGH_TRY(new_node(p, TN_CHAIN, start, &n));
        n->a = *out;
        n->b = links.first;
        *out = n;
    }
    return NIGH_OK;
}

static nigh_status parse_expr(parser *p, const nigh_tnode **out) {
    size_t start = p->tok.at;
    NIGH_TRY(enter(p));
    NIGH_TRY(parse_level(p, LEVEL_OR, out));
    while (is_name(p, "if")) {
        nigh_tnode *n;
        NIGH_TRY(new_node(p, TN_COND, start, &n));
        NIGH_TRY(next(p));
        n->a = *out;
        NIGH_TRY(parse_level(p, LEVEL_OR, &n->b));
        if (is_name(p, "else")) {
            NIGH_TRY(next(p));
            NIGH_TRY(parse_expr(p, &n->c));
        }
        *out = n;
    }
    p->depth--;
    return NIGH_OK;
}

/* An expression that may be a tuple without brackets: a, b */
static nigh_status parse_tuple(parser *p, const nigh_tnode **out) {
    size_t start = p->tok.at;
    chain items = { 0 };
    NIGH_TRY(parse_expr(p, out));
    if (!is_sign(p, ",")) return NIGH_OK;
    for (;;) {
        nigh_tnode *item;
        NIGH_TRY(new_node(p, TN_ARG, (*out)->at, &item));
        item->a = *out;
        append(&items, item);
        if (!is_sign(p, ",")) break;
        NIGH_TRY(next(p));
        if (p->tok.kind == TK_END) break;
        NIGH_TRY(parse_expr(p, out));
    }
    nigh_tnode *n;
    NIGH_TRY(new_node(p, TN_LIST, start, &n));
    n->a = items.first;
    *out = n;
    return NIGH_OK;
}

/* ---- text between tags ---- */
static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* Where the next {{ {% or {# stands, or the end. */
static size_t find_tag(const parser *p) {
    for (size_t i = p->pos; i + 1 < p->src.len; i++) {
        const char *hit = memchr(p->src.ptr + i, '{', p->src.len - i - 1);
        if (!hit) return p->src.len;
        i = (size_t)(hit - p->src.ptr);
        if (hit[1] == '{' || hit[1] == '%' || hit[1] == '#') return i;
    }
    return p->src.len;
}

/* The text up to `tag`, without what the tags around it take away. */
static nigh_str cut_text(parser *p, size_t tag) {
    size_t begin = p->pos, end = tag;
    bool line_start = begin == 0;
    if (p->strip_next) while (begin < end && is_space(at(p, begin))) begin++;
    else if (p->trim_next && begin < end && at(p, begin) == '\n') begin++;
    if (begin > p->pos) line_start = at(p, begin - 1) == '\n';
    p->strip_next = p->trim_next = false;
    char kind = at(p, tag + 1), sign = at(p, tag + 2);
    if (tag < p->src.len && sign == '-') while (end > begin && is_space(at(p, end - 1))) end--;
    else if (tag < p->src.len && sign != '+' && kind != '{') {
        size_t line = end;
        while (line > begin && is_blank(at(p, line - 1))) line--;
        if (line > begin ? at(p, line - 1) == '\n' : line_start) end = line;
    }
    return nigh_str_slice(p->src, begin, end);
}

static nigh_status skip_comment(parser *p, size_t tag) {
    size_t end = nigh_str_find(p->src, NIGH_STR("#}"), tag + 2);
    if (end == SIZE_MAX) return FAIL(p, tag, "the comment does not end");
    char sign = end > tag + 2 ? at(p, end - 1) : '\0';
    p->strip_next = sign == '-';
    p->trim_next = sign != '+';
    p->pos = end + 2;
    return NIGH_OK;
}

static nigh_status add_text(parser *p, chain *body, size_t where, nigh_str text) {
    nigh_tnode *n;
    if (!text.len) return NIGH_OK;
    NIGH_TRY(new_node(p, TN_TEXT, where, &n));
    n->text = text;
    append(body, n);
    return NIGH_OK;
}

static nigh_status add_output(parser *p, chain *body) {
    nigh_tnode *n;
    NIGH_TRY(next(p));
    NIGH_TRY(new_node(p, TN_OUTPUT, p->tok.at, &n));
    NIGH_TRY(parse_tuple(p, &n->a));
    if (p->tok.kind != TK_END) return expected(p, "}}");
    append(body, n);
    return NIGH_OK;
}

/* ---- statements; each begins at its name and ends behind its last tag ---- */
static nigh_status parse_body(parser *p, const char *enders, const nigh_tnode **out);

static nigh_status need_end(parser *p) { return p->tok.kind == TK_END ? NIGH_OK : expected(p, "%}"); }

/* Eats `name %}`. */
static nigh_status close_tag(parser *p, const char *name) {
    if (!is_name(p, name)) return expected(p, name);
    NIGH_TRY(next(p));
    return need_end(p);
}

static nigh_status parse_if(parser *p, nigh_tnode *n) {
    chain clauses = { 0 };
    n->kind = TN_IF;
    for (bool more = true; more;) {
        nigh_tnode *clause;
        NIGH_TRY(new_node(p, TN_CLAUSE, p->tok.at, &clause));
        more = !is_name(p, "else");
        NIGH_TRY(next(p));
        if (more) NIGH_TRY(parse_tuple(p, &clause->a));
        NIGH_TRY(need_end(p));
        NIGH_TRY(parse_body(p, more ? "elif else endif" : "endif", &clause->b));
        append(&clauses, clause);
        if (is_name(p, "endif")) break;
    }
    n->a = clauses.first;
    return close_tag(p, "endif");
}

/* name | name, name | (name, name) */
static nigh_status parse_target(parser *p, const nigh_tnode **out) {
    chain names = { 0 };
    bool bracket = is_sign(p, "("), comma = false;
    nigh_tnode *n;
    size_t start = p->tok.at;
    if (bracket) NIGH_TRY(next(p));
    for (;;) {
        NIGH_TRY(new_node(p, TN_NAME, p->tok.at, &n));
        NIGH_TRY(need_name(p, &n->text));
        append(&names, n);
        if (!is_sign(p, ",")) break;
        comma = true;
        NIGH_TRY(next(p));
        if (p->tok.kind != TK_NAME) break;
    }
    if (bracket) NIGH_TRY(need_sign(p, ")"));
    *out = names.first;
    if (!comma) return NIGH_OK;
    NIGH_TRY(new_node(p, TN_LIST, start, &n));
    n->a = names.first;
    *out = n;
    return NIGH_OK;
}

static nigh_status parse_for(parser *p, nigh_tnode *n) {
    n->kind = TN_FOR;
    NIGH_TRY(next(p));
    NIGH_TRY(parse_target(p, &n->a));
    if (!is_name(p, "in")) return expected(p, "in");
    NIGH_TRY(next(p));
    NIGH_TRY(parse_level(p, LEVEL_OR, &n->b));
    if (is_name(p, "if")) {
        nigh_tnode *filter;
        NIGH_TRY(new_node(p, TN_CLAUSE, p->tok.at, &filter));
        NIGH_TRY(next(p));
        NIGH_TRY(parse_expr(p, &filter->a));
        n->d = filter;
    }
    if (is_name(p, "recursive")) return UNKNOWN(p, p->tok.at, "recursive loops are not supported");
    NIGH_TRY(need_end(p));
    p->loops++;
    NIGH_TRY(parse_body(p, "else endfor", &n->c));
    p->loops--;
    if (is_name(p, "else")) {
        nigh_tnode *clause;
        NIGH_TRY(new_node(p, TN_CLAUSE, p->tok.at, &clause));
        NIGH_TRY(close_tag(p, "else"));
        NIGH_TRY(parse_body(p, "endfor", &clause->b));
        if (n->d) clause->a = n->d->a;
        n->d = clause;
    }
    return close_tag(p, "endfor");
}

static nigh_status parse_set(parser *p, nigh_tnode *n) {
    chain filters = { 0 };
    n->kind = TN_SET;
    NIGH_TRY(next(p));
    NIGH_TRY(parse_target(p, &n->a));
    if (is_sign(p, ".") && n->a->kind == TN_NAME) {
        nigh_tnode *attr;
        NIGH_TRY(next(p));
        NIGH_TRY(new_node(p, TN_ATTR, p->tok.at, &attr));
        NIGH_TRY(need_name(p, &attr->text));
        attr->a = n->a;
        n->a = attr;
    }
    if (is_sign(p, "=")) {
        NIGH_TRY(next(p));
        NIGH_TRY(parse_tuple(p, &n->b));
        return need_end(p);
    }
    if (n->a->kind == TN_LIST) return expected(p, "=");
    n->kind = TN_SETBLOCK;
    NIGH_TRY(parse_filters(p, &filters));
    n->c = filters.first;
    NIGH_TRY(need_end(p));
    NIGH_TRY(parse_body(p, "endset", &n->b));
    return close_tag(p, "endset");
}

/* (name, name=default); the bracket is here */
static nigh_status parse_params(parser *p, const nigh_tnode **out) {
    chain params = { 0 };
    NIGH_TRY(need_sign(p, "("));
    while (!is_sign(p, ")")) {
        nigh_tnode *param;
        NIGH_TRY(new_node(p, TN_PARAM, p->tok.at, &param));
        NIGH_TRY(need_name(p, &param->text));
        if (is_sign(p, "=")) {
            NIGH_TRY(next(p));
            NIGH_TRY(parse_expr(p, &param->a));
        }
        append(&params, param);
        if (!is_sign(p, ",")) break;
        NIGH_TRY(next(p));
    }
    *out = params.first;
    return need_sign(p, ")");
}

static nigh_status parse_macro(parser *p, nigh_tnode *n) {
    size_t loops = p->loops;
    n->kind = TN_MACRO;
    NIGH_TRY(next(p));
    NIGH_TRY(need_name(p, &n->text));
    NIGH_TRY(parse_params(p, &n->a));
    NIGH_TRY(need_end(p));
    p->loops = 0;
    NIGH_TRY(parse_body(p, "endmacro", &n->b));
    p->loops = loops;
    NIGH_TRY(next(p));
    if (p->tok.kind == TK_NAME) NIGH_TRY(next(p));      /* the name once more */
    return need_end(p);
}

static nigh_status parse_call(parser *p, nigh_tnode *n) {
    size_t loops = p->loops;
    n->kind = TN_CALLBLOCK;
    NIGH_TRY(next(p));
    if (is_sign(p, "(")) NIGH_TRY(parse_params(p, &n->a));
    NIGH_TRY(parse_expr(p, &n->c));
    bool call = n->c->kind == TN_POSTFIX;
    if (call) for (const nigh_tnode *s = n->c->b; s; s = s->next) if (!s->next) call = s->kind == TN_CALL;
    if (!call) return FAIL(p, n->at, "expected a call");
    NIGH_TRY(need_end(p));
    p->loops = 0;
    NIGH_TRY(parse_body(p, "endcall", &n->b));
    p->loops = loops;
    return close_tag(p, "endcall");
}

static nigh_status parse_filter_block(parser *p, nigh_tnode *n) {
    chain filters = { 0 };
    n->kind = TN_FILTERBLOCK;
    NIGH_TRY(next(p));
    NIGH_TRY(parse_filter(p, &filters));
    NIGH_TRY(parse_filters(p, &filters));
    n->a = filters.first;
    NIGH_TRY(need_end(p));
    NIGH_TRY(parse_body(p, "endfilter", &n->b));
    return close_tag(p, "endfilter");
}

static nigh_status parse_with(parser *p, nigh_tnode *n) {
    chain sets = { 0 };
    n->kind = TN_WITH;
    NIGH_TRY(next(p));
    while (p->tok.kind == TK_NAME) {
        nigh_tnode *set, *name;
        NIGH_TRY(new_node(p, TN_SET, p->tok.at, &set));
        NIGH_TRY(new_node(p, TN_NAME, p->tok.at, &name));
        NIGH_TRY(need_name(p, &name->text));
        set->a = name;
        NIGH_TRY(need_sign(p, "="));
        NIGH_TRY(parse_expr(p, &set->b));
        append(&sets, set);
        if (!is_sign(p, ",")) break;
        NIGH_TRY(next(p));
    }
    n->a = sets.first;
    NIGH_TRY(need_end(p));
    NIGH_TRY(parse_body(p, "endwith", &n->b));
    return close_tag(p, "endwith");
}

static nigh_status parse_generation(parser *p, nigh_tnode *n) {
    n->kind = TN_BLOCK;
    NIGH_TRY(close_tag(p, "generation"));
    NIGH_TRY(parse_body(p, "endgeneration", &n->b));
    return close_tag(p, "endgeneration");
}

static nigh_status parse_jump(parser *p, nigh_tnode *n) {
    n->kind = is_name(p, "break") ? TN_BREAK : TN_CONTINUE;
    if (!p->loops) return FAIL(p, n->at, "%s outside of a loop", is_name(p, "break") ? "break" : "continue");
    NIGH_TRY(next(p));
    return need_end(p);
}

/* Everything up to {% endraw %} is text. */
static nigh_status parse_raw(parser *p, nigh_tnode *n) {
    n->kind = TN_TEXT;
    NIGH_TRY(close_tag(p, "raw"));
    for (size_t i = p->pos; (i = nigh_str_find(p->src, NIGH_STR("{%"), i)) != SIZE_MAX; i += 2) {
        parser look = *p;
        look.pos = i + 2 + (at(p, i + 2) == '-' || at(p, i + 2) == '+' ? 1u : 0u);
        look.err = NULL;
        if (next(&look) != NIGH_OK || !is_name(&look, "endraw")) continue;
        n->text = cut_text(p, i);
        p->pos = look.pos;
        NIGH_TRY(next(p));
        return need_end(p);
    }
    return FAIL(p, n->at, "raw has no endraw");
}

static nigh_status parse_statement(parser *p, nigh_tnode **out) {
    static const struct { const char *name; nigh_status (*parse)(parser *, nigh_tnode *);
    } tags[] = { { "if", parse_if }, { "for", parse_for }, { "set", parse_set }, { "macro", parse_macro },
        { "call", parse_call }, { "filter", parse_filter_block }, { "with", parse_with },
        { "generation", parse_generation }, { "break", parse_jump }, { "continue", parse_jump },
        { "raw", parse_raw } };
    NIGH_TRY(new_node(p, TN_BLOCK, p->tok.at, out));
    for (size_t i = 0; i < NIGH_COUNT(tags); i++) {
        if (!is_name(p, tags[i].name)) continue;
        NIGH_TRY(enter(p));
        NIGH_TRY(tags[i].parse(p, *out));
        p->depth--;
        return NIGH_OK;
    }
    int len = (int)nigh_min(p->tok.text.len, 60);
    if (p->tok.kind != TK_NAME) return expected(p, "the name of a tag");
    if (nigh_str_starts(p->tok.text, NIGH_STR("end")) || is_name(p, "else") || is_name(p, "elif"))
        return FAIL(p, p->tok.at, "'%.*s' does not belong here", len, p->tok.text.ptr);
    return UNKNOWN(p, p->tok.at, "unknown tag '%.*s'", len, p->tok.text.ptr);
}

static bool is_ender(const parser *p, const char *enders) {
    nigh_str list = nigh_str_of(enders);
    for (size_t begin = 0, end; begin < list.len; begin = end + 1) {
        end = nigh_min(nigh_str_find(list, NIGH_STR(" "), begin), list.len);
        if (p->tok.kind == TK_NAME && nigh_str_eq(p->tok.text, nigh_str_slice(list, begin, end))) return true;
    }
    return false;
}

/* Statements up to a tag that is one of `enders` (its name is then p->tok), or up to the end of the source (NULL). */
static nigh_status parse_body(parser *p, const char *enders, const nigh_tnode **out) {
    chain body = { 0 };
    size_t opened = p->tok.at;      /* of the tag that wants an end */
    while (enders && opened && (at(p, opened) != '{' || at(p, opened + 1) != '%')) opened--;
    for (;;) {
        size_t where = p->pos, tag = find_tag(p);
        NIGH_TRY(add_text(p, &body, where, cut_text(p, tag)));
        *out = body.first;
        if (tag == p->src.len) return enders ? FAIL(p, opened, "the source ends before %s", enders) : NIGH_OK;
        char kind = at(p, tag + 1);
        if (kind == '#') { NIGH_TRY(skip_comment(p, tag)); continue; }
        p->pos = tag + 2;
        p->in_output = kind == '{';
        if (at(p, p->pos) == '-' || (at(p, p->pos) == '+' && kind == '%')) p->pos++;
        if (p->in_output) { NIGH_TRY(add_output(p, &body)); continue; }
        NIGH_TRY(next(p));
        if (is_ender(p, enders)) return NIGH_OK;
        nigh_tnode *n;
        NIGH_TRY(parse_statement(p, &n));
        append(&body, n);
    }
}

/* ---- the whole source ---- */
/* Line ends become \n, and the last one goes. `copy` has room for source.len bytes. */
static nigh_str normal_source(nigh_str source, char *copy) {
    size_t n = 0;
    for (size_t i = 0; i < source.len; i++) {
        if (source.ptr[i] == '\r' && i + 1 < source.len && source.ptr[i + 1] == '\n') continue;
        copy[n++] = source.ptr[i] == '\r' ? '\n' : source.ptr[i];
    }
    if (n && copy[n - 1] == '\n') n--;
    return (nigh_str){ copy, n };
}

static nigh_status check_source(parser *p) {
    size_t bad = nigh_utf8_check(p->src);
    if (bad != SIZE_MAX) return FAIL(p, bad, "the source is not UTF-8");
    const char *nul = p->src.len ? memchr(p->src.ptr, '\0', p->src.len) : NULL;
    return nul ? FAIL(p, (size_t)(nul - p->src.ptr), "a NUL byte") : NIGH_OK;
}

nigh_status nigh_template_compile(nigh_template **out, nigh_str source, nigh_err *err) {
    parser p = { .err = err };
    char *copy;
    *out = NULL;
    if (source.len > NIGH_TEMPLATE_SOURCE_MAX)
        return nigh_failf(err, NIGH_ERANGE, 0, "the template is longer than %d bytes", NIGH_TEMPLATE_SOURCE_MAX);
    p.t = nigh_alloc(1, sizeof *p.t);
    if (!p.t) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the template");
    p.t->pool.limit = NIGH_TEMPLATE_MEMORY_MAX;
    nigh_status status = take(&p, 1, source.len + 1, &copy);
    if (status == NIGH_OK) {
        p.src = p.t->source = normal_source(source, copy);
        status = check_source(&p);
    }
    if (status == NIGH_OK) status = parse_body(&p, NULL, &p.t->body);
    if (status == NIGH_OK) *out = p.t;
    else nigh_template_free(p.t);
    return status;
}

void nigh_template_free(nigh_template *t) {
    if (!t) return;
    nigh_tpool_release(&t->pool);
    nigh_free(t);
}
