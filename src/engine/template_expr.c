/* template_expr.c - expressions of a template, by descent. Every descent counts against NIGH_TEMPLATE_DEPTH_MAX; long
 * chains (a ~ b ~ c, x.y.z|f|g) are lists in the tree, so that length is no depth. */
#include "engine/template_parse.h"

/* ---- expressions ---- */
static nigh_status parse_unary(nigh_tparser *p, bool with_filters, const nigh_tnode **out);

/* Arguments up to the closing bracket; the opening one is eaten. */
static nigh_status parse_args(nigh_tparser *p, nigh_tchain *args) {
    while (!nigh_tlex_is_sign(p, ")")) {
        nigh_tnode *arg;
        NIGH_TRY(nigh_tparse_node(p, TN_ARG, p->tok.at, &arg));
        if (nigh_tlex_is_sign(p, "*") || nigh_tlex_is_sign(p, "**"))
            return NIGH_TUNKNOWN(p, p->tok.at, "arguments given with * are not supported");
        if (p->tok.kind == TK_NAME) {
            nigh_tparser look = *p;
            look.err = NULL;
            if (nigh_tlex_next(&look) == NIGH_OK && nigh_tlex_is_sign(&look, "=")) {
                arg->text = p->tok.text;
                arg->named = true;
                NIGH_TRY(nigh_tlex_next(p));
                NIGH_TRY(nigh_tlex_next(p));
            }
        }
        if (!arg->named && args->last && args->last->named)
            return NIGH_TFAIL(p, p->tok.at, "an argument without a name stands behind one with a name");
        NIGH_TRY(nigh_texpr_parse(p, &arg->a));
        if (args->count == 255) return NIGH_TFAIL(p, p->tok.at, "more than 255 arguments");
        nigh_tparse_append(args, arg);
        if (!nigh_tlex_is_sign(p, ",")) break;
        NIGH_TRY(nigh_tlex_next(p));
    }
    return nigh_tlex_need_sign(p, ")");
}

/* Values up to the closing sign, both signs eaten. *comma: was there one? */
static nigh_status parse_items(nigh_tparser *p, const char *close, nigh_tchain *items, bool *comma) {
    *comma = false;
    NIGH_TRY(nigh_tlex_next(p));
    while (!nigh_tlex_is_sign(p, close)) {
        nigh_tnode *item;
        NIGH_TRY(nigh_tparse_node(p, TN_ARG, p->tok.at, &item));
        NIGH_TRY(nigh_texpr_parse(p, &item->a));
        nigh_tparse_append(items, item);
        if (!nigh_tlex_is_sign(p, ",")) break;
        *comma = true;
        NIGH_TRY(nigh_tlex_next(p));
    }
    return nigh_tlex_need_sign(p, close);
}

/* [a, b], (a, b), or a value in round brackets. */
static nigh_status parse_list(nigh_tparser *p, const char *close, const nigh_tnode **out) {
    nigh_tchain items = { 0 };
    nigh_tnode *n;
    size_t start = p->tok.at;
    bool comma;
    NIGH_TRY(parse_items(p, close, &items, &comma));
    if (close[0] == ')' && items.count == 1 && !comma) { *out = items.first->a; return NIGH_OK; }
    NIGH_TRY(nigh_tparse_node(p, TN_LIST, start, &n));
    n->a = items.first;
    *out = n;
    return NIGH_OK;
}

static nigh_status parse_dict(nigh_tparser *p, nigh_tnode **out) {
    nigh_tchain pairs = { 0 };
    NIGH_TRY(nigh_tparse_node(p, TN_DICT, p->tok.at, out));
    NIGH_TRY(nigh_tlex_next(p));
    while (!nigh_tlex_is_sign(p, "}")) {
        nigh_tnode *pair;
        NIGH_TRY(nigh_tparse_node(p, TN_PAIR, p->tok.at, &pair));
        NIGH_TRY(nigh_texpr_parse(p, &pair->a));
        NIGH_TRY(nigh_tlex_need_sign(p, ":"));
        NIGH_TRY(nigh_texpr_parse(p, &pair->b));
        nigh_tparse_append(&pairs, pair);
        if (!nigh_tlex_is_sign(p, ",")) break;
        NIGH_TRY(nigh_tlex_next(p));
    }
    (*out)->a = pairs.first;
    return nigh_tlex_need_sign(p, "}");
}

static nigh_status parse_name(nigh_tparser *p, nigh_tnode **out) {
    static const struct { const char *name; nigh_tval v;
    } words[] = { { "true", { .kind = TV_BOOL, .as.boolean = true } },
        { "True", { .kind = TV_BOOL, .as.boolean = true } }, { "false", { .kind = TV_BOOL } },
        { "False", { .kind = TV_BOOL } }, { "none", { .kind = TV_NONE } }, { "None", { .kind = TV_NONE } } };
    static const char *const reserved[] = { "and", "or", "not", "in", "is", "if", "else", "elif", "for" };
    for (size_t i = 0; i < NIGH_COUNT(words); i++) {
        if (!nigh_tlex_is_name(p, words[i].name)) continue;
        NIGH_TRY(nigh_tparse_literal(p, words[i].v, out));
        return nigh_tlex_next(p);
    }
    for (size_t i = 0; i < NIGH_COUNT(reserved); i++)
        if (nigh_tlex_is_name(p, reserved[i])) return nigh_tlex_expected(p, "a value");
    NIGH_TRY(nigh_tparse_node(p, TN_NAME, p->tok.at, out));
    return nigh_tlex_need_name(p, &(*out)->text);
}

static nigh_status parse_primary(nigh_tparser *p, const nigh_tnode **out) {
    nigh_tnode *n = NULL;
    if (nigh_tlex_is_sign(p, "(")) return parse_list(p, ")", out);
    if (nigh_tlex_is_sign(p, "[")) return parse_list(p, "]", out);
    if (p->tok.kind == TK_TEXT) NIGH_TRY(nigh_tlex_text(p, &n));
    else if (p->tok.kind == TK_INT || p->tok.kind == TK_REAL) NIGH_TRY(nigh_tlex_number(p, &n));
    else if (p->tok.kind == TK_NAME) NIGH_TRY(parse_name(p, &n));
    else if (nigh_tlex_is_sign(p, "{")) NIGH_TRY(parse_dict(p, &n));
    else return nigh_tlex_expected(p, "a value");
    *out = n;
    return NIGH_OK;
}

/* [key] or [begin:end:step] */
static nigh_status parse_subscript(nigh_tparser *p, nigh_tchain *suffixes) {
    const nigh_tnode *part[3] = { NULL };
    nigh_tnode *n;
    size_t colons = 0;
    NIGH_TRY(nigh_tparse_node(p, TN_INDEX, p->tok.at, &n));
    NIGH_TRY(nigh_tlex_next(p));
    while (!nigh_tlex_is_sign(p, "]")) {
        if (nigh_tlex_is_sign(p, ":")) {
            if (++colons == 3) return nigh_tlex_expected(p, "]");
            NIGH_TRY(nigh_tlex_next(p));
        } else if (part[colons]) return nigh_tlex_expected(p, "]");
        else NIGH_TRY(nigh_texpr_parse(p, &part[colons]));
    }
    if (!colons && !part[0]) return nigh_tlex_expected(p, "a value");
    NIGH_TRY(nigh_tlex_next(p));
    if (colons) n->kind = TN_SLICE;
    n->a = part[0];
    n->b = part[1];
    n->c = part[2];
    nigh_tparse_append(suffixes, n);
    return NIGH_OK;
}

nigh_status nigh_texpr_filter(nigh_tparser *p, nigh_tchain *suffixes) {
    nigh_tnode *n;
    nigh_tchain args = { 0 };
    NIGH_TRY(nigh_tparse_node(p, TN_FILTER, p->tok.at, &n));
    NIGH_TRY(nigh_tlex_need_name(p, &n->text));
    int index = nigh_tfilter_find(n->text);
    if (index < 0) return NIGH_TUNKNOWN(p, n->at, "unknown filter '%.*s'", (int)nigh_min(n->text.len, 60), n->text.ptr);
    n->index = (uint16_t)index;
    if (nigh_tlex_is_sign(p, "(")) {
        NIGH_TRY(nigh_tlex_next(p));
        NIGH_TRY(parse_args(p, &args));
    }
    n->a = args.first;
    n->count = (uint16_t)args.count;
    nigh_tparse_append(suffixes, n);
    return NIGH_OK;
}

static nigh_status parse_postfix(nigh_tparser *p, nigh_tchain *suffixes);

/* Behind `is`: [not] name [(args) | one value]. */
static nigh_status parse_test(nigh_tparser *p, nigh_tchain *suffixes) {
    static const char *const no_values[] = { "else", "or", "and", "is", "if", "not", "in" };
    nigh_tnode *n, *arg;
    nigh_tchain args = { 0 }, inner = { 0 };
    NIGH_TRY(nigh_tparse_node(p, TN_TEST, p->tok.at, &n));
    if (nigh_tlex_is_name(p, "not")) { n->negated = true; NIGH_TRY(nigh_tlex_next(p)); }
    NIGH_TRY(nigh_tlex_need_name(p, &n->text));
    int index = nigh_ttest_find(n->text);
    if (index < 0) return NIGH_TUNKNOWN(p, n->at, "unknown test '%.*s'", (int)nigh_min(n->text.len, 60), n->text.ptr);
    n->index = (uint16_t)index;
    bool word = p->tok.kind == TK_NAME;
    for (size_t i = 0; i < NIGH_COUNT(no_values); i++) word = word && !nigh_tlex_is_name(p, no_values[i]);
    if (nigh_tlex_is_sign(p, "(")) {
        NIGH_TRY(nigh_tlex_next(p));
        NIGH_TRY(parse_args(p, &args));
    } else if (word || p->tok.kind == TK_TEXT || p->tok.kind == TK_INT || p->tok.kind == TK_REAL
               || nigh_tlex_is_sign(p, "[") || nigh_tlex_is_sign(p, "{")) {
        nigh_tnode *post;
        NIGH_TRY(nigh_tparse_node(p, TN_ARG, p->tok.at, &arg));
        NIGH_TRY(nigh_tparse_node(p, TN_POSTFIX, p->tok.at, &post));
        NIGH_TRY(parse_primary(p, &post->a));
        NIGH_TRY(parse_postfix(p, &inner));
        post->b = inner.first;
        arg->a = post;
        nigh_tparse_append(&args, arg);
    }
    n->a = args.first;
    n->count = (uint16_t)args.count;
    nigh_tparse_append(suffixes, n);
    return NIGH_OK;
}

/* .name [key] (args), as many as there are */
static nigh_status parse_postfix(nigh_tparser *p, nigh_tchain *suffixes) {
    for (;;) {
        nigh_tnode *n;
        nigh_tchain args = { 0 };
        if (nigh_tlex_is_sign(p, "[")) { NIGH_TRY(parse_subscript(p, suffixes)); continue; }
        if (nigh_tlex_is_sign(p, ".")) {
            NIGH_TRY(nigh_tparse_node(p, TN_ATTR, p->tok.at, &n));
            NIGH_TRY(nigh_tlex_next(p));
            if (p->tok.kind != TK_NAME) return nigh_tlex_expected(p, "a name after the point");
            NIGH_TRY(nigh_tlex_need_name(p, &n->text));
        } else if (nigh_tlex_is_sign(p, "(")) {
            NIGH_TRY(nigh_tparse_node(p, TN_CALL, p->tok.at, &n));
            NIGH_TRY(nigh_tlex_next(p));
            NIGH_TRY(parse_args(p, &args));
            n->a = args.first;
            n->count = (uint16_t)args.count;
        } else return NIGH_OK;
        nigh_tparse_append(suffixes, n);
    }
}

nigh_status nigh_texpr_filters(nigh_tparser *p, nigh_tchain *suffixes) {
    for (;;) {
        if (nigh_tlex_is_sign(p, "|")) {
            NIGH_TRY(nigh_tlex_next(p));
            NIGH_TRY(nigh_texpr_filter(p, suffixes));
        } else if (nigh_tlex_is_name(p, "is")) {
            NIGH_TRY(nigh_tlex_next(p));
            NIGH_TRY(parse_test(p, suffixes));
        } else if (suffixes->last
                   && (nigh_tlex_is_sign(p, "(") || nigh_tlex_is_sign(p, ".") || nigh_tlex_is_sign(p, "["))) {
            size_t before = suffixes->count;
            NIGH_TRY(parse_postfix(p, suffixes));
            if (suffixes->count == before) return NIGH_OK;
        } else return NIGH_OK;
    }
}

static nigh_status parse_unary(nigh_tparser *p, bool with_filters, const nigh_tnode **out) {
    const nigh_tnode *base;
    nigh_tchain suffixes = { 0 };
    size_t start = p->tok.at;
    NIGH_TRY(nigh_tparse_enter(p));
    if (nigh_tlex_is_sign(p, "-") || nigh_tlex_is_sign(p, "+")) {
        nigh_tnode *n;
        NIGH_TRY(nigh_tparse_node(p, nigh_tlex_is_sign(p, "-") ? TN_MINUS : TN_PLUS, p->tok.at, &n));
        NIGH_TRY(nigh_tlex_next(p));
        NIGH_TRY(parse_unary(p, false, &n->a));
        base = n;
    } else NIGH_TRY(parse_primary(p, &base));
    NIGH_TRY(parse_postfix(p, &suffixes));
    if (with_filters) NIGH_TRY(nigh_texpr_filters(p, &suffixes));
    if (suffixes.count) {
        nigh_tnode *n;
        NIGH_TRY(nigh_tparse_node(p, TN_POSTFIX, start, &n));
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
static nigh_status match_operator(nigh_tparser *p, unsigned level, nigh_top *op) {
    *op = TO_NONE;
    if (p->tok.kind != TK_SIGN && p->tok.kind != TK_NAME) return NIGH_OK;
    if (level == LEVEL_COMPARE && nigh_tlex_is_name(p, "not")) {
        NIGH_TRY(nigh_tlex_next(p));
        if (!nigh_tlex_is_name(p, "in")) return nigh_tlex_expected(p, "in after not");
        *op = TO_NOT_IN;
        return nigh_tlex_next(p);
    }
    for (size_t i = 0; i < NIGH_COUNT(operators); i++) {
        if (operators[i].level != level || !nigh_str_eq(p->tok.text, nigh_str_of(operators[i].word))) continue;
        *op = operators[i].op;
        return nigh_tlex_next(p);
    }
    return NIGH_OK;
}

static nigh_status parse_level(nigh_tparser *p, unsigned level, const nigh_tnode **out) {
    nigh_tchain links = { 0 };
    nigh_top op;
    size_t start = p->tok.at;
    if (level == LEVEL_UNARY) return parse_unary(p, true, out);
    if (level == LEVEL_NOT && nigh_tlex_is_name(p, "not")) {
        nigh_tnode *n;
        NIGH_TRY(nigh_tparse_enter(p));
        NIGH_TRY(nigh_tparse_node(p, TN_NOT, start, &n));
        NIGH_TRY(nigh_tlex_next(p));
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
        NIGH_TRY(nigh_tparse_node(p, TN_LINK, where, &link));
        link->op = (uint8_t)op;
        NIGH_TRY(parse_level(p, level + 1, &link->a));
        nigh_tparse_append(&links, link);
    }
    if (links.count) {
        nigh_tnode *n;
        NIGH_TRY(nigh_tparse_node(p, TN_CHAIN, start, &n));
        n->a = *out;
        n->b = links.first;
        *out = n;
    }
    return NIGH_OK;
}

nigh_status nigh_texpr_plain(nigh_tparser *p, const nigh_tnode **out) { return parse_level(p, LEVEL_OR, out); }

nigh_status nigh_texpr_parse(nigh_tparser *p, const nigh_tnode **out) {
    size_t start = p->tok.at;
    NIGH_TRY(nigh_tparse_enter(p));
    NIGH_TRY(parse_level(p, LEVEL_OR, out));
    while (nigh_tlex_is_name(p, "if")) {
        nigh_tnode *n;
        NIGH_TRY(nigh_tparse_node(p, TN_COND, start, &n));
        NIGH_TRY(nigh_tlex_next(p));
        n->a = *out;
        NIGH_TRY(parse_level(p, LEVEL_OR, &n->b));
        if (nigh_tlex_is_name(p, "else")) {
            NIGH_TRY(nigh_tlex_next(p));
            NIGH_TRY(nigh_texpr_parse(p, &n->c));
        }
        *out = n;
    }
    p->depth--;
    return NIGH_OK;
}

/* An expression that may be a tuple without brackets: a, b */
nigh_status nigh_texpr_tuple(nigh_tparser *p, const nigh_tnode **out) {
    size_t start = p->tok.at;
    nigh_tchain items = { 0 };
    NIGH_TRY(nigh_texpr_parse(p, out));
    if (!nigh_tlex_is_sign(p, ",")) return NIGH_OK;
    for (;;) {
        nigh_tnode *item;
        NIGH_TRY(nigh_tparse_node(p, TN_ARG, (*out)->at, &item));
        item->a = *out;
        nigh_tparse_append(&items, item);
        if (!nigh_tlex_is_sign(p, ",")) break;
        NIGH_TRY(nigh_tlex_next(p));
        if (p->tok.kind == TK_END) break;
        NIGH_TRY(nigh_texpr_parse(p, out));
    }
    nigh_tnode *n;
    NIGH_TRY(nigh_tparse_node(p, TN_LIST, start, &n));
    n->a = items.first;
    *out = n;
    return NIGH_OK;
}

