/* template_parse.c - template source to a tree: text, tags, statements.
 *
 * One pass: text up to the next tag is cut out with the white space rules of the Hugging Face library (trim_blocks,
 * lstrip_blocks, the last newline dropped), then the tag is read word by word (template_lex.c) and its expressions by
 * descent (template_expr.c). Long lists (elif) are lists in the tree, too. Unknown tags, filters and tests are refused
 * here, before anything runs. */
#include "engine/template_parse.h"

#include "base/utf8.h"

nigh_status nigh_template_fail(nigh_str source, nigh_err *err, nigh_status code, size_t at, const char *fmt, ...) {
    char text[sizeof err->text];
    size_t column, line = nigh_str_line(source, at, &column);
    va_list args;
    va_start(args, fmt);
    nigh_vformat(text, sizeof text, fmt, args);
    va_end(args);
    return nigh_failf(err, code, at, "template, line %zu column %zu: %s", line, column, text);
}

/* ---- nodes ---- */
nigh_status nigh_tparse_take(nigh_tparser *p, size_t size, size_t count, void *out) {
    void *block = nigh_tpool_take(&p->t->pool, size, count);
    memcpy(out, &block, sizeof block);
    if (block) return NIGH_OK;
    bool full = p->t->pool.used + size * count > p->t->pool.limit;
    return nigh_template_fail(p->src, p->err, full ? NIGH_ERANGE : NIGH_ENOMEM, p->tok.at,
        full ? "the template is too large" : "not enough memory");
}

nigh_status nigh_tparse_node(nigh_tparser *p, nigh_tnode_kind kind, size_t at, nigh_tnode **out) {
    NIGH_TRY(nigh_tparse_take(p, sizeof **out, 1, out));
    (*out)->kind = (uint8_t)kind;
    (*out)->at = (uint32_t)at;
    return NIGH_OK;
}

void nigh_tparse_append(nigh_tchain *c, nigh_tnode *n) {
    if (c->last) c->last->next = n;
    else c->first = n;
    c->last = n;
    c->count++;
}

nigh_status nigh_tparse_enter(nigh_tparser *p) {
    if (p->depth++ < NIGH_TEMPLATE_DEPTH_MAX) return NIGH_OK;
    return nigh_template_fail(p->src, p->err, NIGH_ERANGE, p->tok.at, "nested deeper than %d", NIGH_TEMPLATE_DEPTH_MAX);
}

nigh_status nigh_tparse_literal(nigh_tparser *p, nigh_tval v, nigh_tnode **out) {
    nigh_tval *keep;
    NIGH_TRY(nigh_tparse_node(p, TN_LITERAL, p->tok.at, out));
    NIGH_TRY(nigh_tparse_take(p, sizeof *keep, 1, &keep));
    *keep = v;
    (*out)->literal = keep;
    return NIGH_OK;
}

/* ---- text between tags ---- */
static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* Where the next {{ {% or {# stands, or the end. */
static size_t find_tag(const nigh_tparser *p) {
    for (size_t i = p->pos; i + 1 < p->src.len; i++) {
        const char *hit = memchr(p->src.ptr + i, '{', p->src.len - i - 1);
        if (!hit) return p->src.len;
        i = (size_t)(hit - p->src.ptr);
        if (hit[1] == '{' || hit[1] == '%' || hit[1] == '#') return i;
    }
    return p->src.len;
}

/* The text up to `tag`, without what the tags around it take away. */
static nigh_str cut_text(nigh_tparser *p, size_t tag) {
    size_t begin = p->pos, end = tag;
    bool line_start = begin == 0;
    if (p->strip_next) while (begin < end && nigh_tlex_is_space(nigh_tlex_at(p, begin))) begin++;
    else if (p->trim_next && begin < end && nigh_tlex_at(p, begin) == '\n') begin++;
    if (begin > p->pos) line_start = nigh_tlex_at(p, begin - 1) == '\n';
    p->strip_next = p->trim_next = false;
    char kind = nigh_tlex_at(p, tag + 1), sign = nigh_tlex_at(p, tag + 2);
    if (tag < p->src.len && sign == '-') while (end > begin && nigh_tlex_is_space(nigh_tlex_at(p, end - 1))) end--;
    else if (tag < p->src.len && sign != '+' && kind != '{') {
        size_t line = end;
        while (line > begin && is_blank(nigh_tlex_at(p, line - 1))) line--;
        if (line > begin ? nigh_tlex_at(p, line - 1) == '\n' : line_start) end = line;
    }
    return nigh_str_slice(p->src, begin, end);
}

static nigh_status skip_comment(nigh_tparser *p, size_t tag) {
    size_t end = nigh_str_find(p->src, NIGH_STR("#}"), tag + 2);
    if (end == SIZE_MAX) return NIGH_TFAIL(p, tag, "the comment does not end");
    char sign = end > tag + 2 ? nigh_tlex_at(p, end - 1) : '\0';
    p->strip_next = sign == '-';
    p->trim_next = sign != '+';
    p->pos = end + 2;
    return NIGH_OK;
}

static nigh_status add_text(nigh_tparser *p, nigh_tchain *body, size_t where, nigh_str text) {
    nigh_tnode *n;
    if (!text.len) return NIGH_OK;
    NIGH_TRY(nigh_tparse_node(p, TN_TEXT, where, &n));
    n->text = text;
    nigh_tparse_append(body, n);
    return NIGH_OK;
}

static nigh_status add_output(nigh_tparser *p, nigh_tchain *body) {
    nigh_tnode *n;
    NIGH_TRY(nigh_tlex_next(p));
    NIGH_TRY(nigh_tparse_node(p, TN_OUTPUT, p->tok.at, &n));
    NIGH_TRY(nigh_texpr_tuple(p, &n->a));
    if (p->tok.kind != TK_END) return nigh_tlex_expected(p, "}}");
    nigh_tparse_append(body, n);
    return NIGH_OK;
}

/* ---- statements; each begins at its name and ends behind its last tag ---- */
static nigh_status parse_body(nigh_tparser *p, const char *enders, const nigh_tnode **out);

static nigh_status need_end(nigh_tparser *p) { return p->tok.kind == TK_END ? NIGH_OK : nigh_tlex_expected(p, "%}"); }

/* Eats `name %}`. */
static nigh_status close_tag(nigh_tparser *p, const char *name) {
    if (!nigh_tlex_is_name(p, name)) return nigh_tlex_expected(p, name);
    NIGH_TRY(nigh_tlex_next(p));
    return need_end(p);
}

static nigh_status parse_if(nigh_tparser *p, nigh_tnode *n) {
    nigh_tchain clauses = { 0 };
    n->kind = TN_IF;
    for (bool more = true; more;) {
        nigh_tnode *clause;
        NIGH_TRY(nigh_tparse_node(p, TN_CLAUSE, p->tok.at, &clause));
        more = !nigh_tlex_is_name(p, "else");
        NIGH_TRY(nigh_tlex_next(p));
        if (more) NIGH_TRY(nigh_texpr_tuple(p, &clause->a));
        NIGH_TRY(need_end(p));
        NIGH_TRY(parse_body(p, more ? "elif else endif" : "endif", &clause->b));
        nigh_tparse_append(&clauses, clause);
        if (nigh_tlex_is_name(p, "endif")) break;
    }
    n->a = clauses.first;
    return close_tag(p, "endif");
}

/* name | name, name | (name, name) */
static nigh_status parse_target(nigh_tparser *p, const nigh_tnode **out) {
    nigh_tchain names = { 0 };
    bool bracket = nigh_tlex_is_sign(p, "("), comma = false;
    nigh_tnode *n;
    size_t start = p->tok.at;
    if (bracket) NIGH_TRY(nigh_tlex_next(p));
    for (;;) {
        NIGH_TRY(nigh_tparse_node(p, TN_NAME, p->tok.at, &n));
        NIGH_TRY(nigh_tlex_need_name(p, &n->text));
        nigh_tparse_append(&names, n);
        if (!nigh_tlex_is_sign(p, ",")) break;
        comma = true;
        NIGH_TRY(nigh_tlex_next(p));
        if (p->tok.kind != TK_NAME) break;
    }
    if (bracket) NIGH_TRY(nigh_tlex_need_sign(p, ")"));
    *out = names.first;
    if (!comma) return NIGH_OK;
    NIGH_TRY(nigh_tparse_node(p, TN_LIST, start, &n));
    n->a = names.first;
    *out = n;
    return NIGH_OK;
}

static nigh_status parse_for(nigh_tparser *p, nigh_tnode *n) {
    n->kind = TN_FOR;
    NIGH_TRY(nigh_tlex_next(p));
    NIGH_TRY(parse_target(p, &n->a));
    if (!nigh_tlex_is_name(p, "in")) return nigh_tlex_expected(p, "in");
    NIGH_TRY(nigh_tlex_next(p));
    NIGH_TRY(nigh_texpr_plain(p, &n->b));
    if (nigh_tlex_is_name(p, "if")) {
        nigh_tnode *filter;
        NIGH_TRY(nigh_tparse_node(p, TN_CLAUSE, p->tok.at, &filter));
        NIGH_TRY(nigh_tlex_next(p));
        NIGH_TRY(nigh_texpr_parse(p, &filter->a));
        n->d = filter;
    }
    if (nigh_tlex_is_name(p, "recursive")) return NIGH_TUNKNOWN(p, p->tok.at, "recursive loops are not supported");
    NIGH_TRY(need_end(p));
    p->loops++;
    NIGH_TRY(parse_body(p, "else endfor", &n->c));
    p->loops--;
    if (nigh_tlex_is_name(p, "else")) {
        nigh_tnode *clause;
        NIGH_TRY(nigh_tparse_node(p, TN_CLAUSE, p->tok.at, &clause));
        NIGH_TRY(close_tag(p, "else"));
        NIGH_TRY(parse_body(p, "endfor", &clause->b));
        if (n->d) clause->a = n->d->a;
        n->d = clause;
    }
    return close_tag(p, "endfor");
}

static nigh_status parse_set(nigh_tparser *p, nigh_tnode *n) {
    nigh_tchain filters = { 0 };
    n->kind = TN_SET;
    NIGH_TRY(nigh_tlex_next(p));
    NIGH_TRY(parse_target(p, &n->a));
    if (nigh_tlex_is_sign(p, ".") && n->a->kind == TN_NAME) {
        nigh_tnode *attr;
        NIGH_TRY(nigh_tlex_next(p));
        NIGH_TRY(nigh_tparse_node(p, TN_ATTR, p->tok.at, &attr));
        NIGH_TRY(nigh_tlex_need_name(p, &attr->text));
        attr->a = n->a;
        n->a = attr;
    }
    if (nigh_tlex_is_sign(p, "=")) {
        NIGH_TRY(nigh_tlex_next(p));
        NIGH_TRY(nigh_texpr_tuple(p, &n->b));
        return need_end(p);
    }
    if (n->a->kind == TN_LIST) return nigh_tlex_expected(p, "=");
    n->kind = TN_SETBLOCK;
    NIGH_TRY(nigh_texpr_filters(p, &filters));
    n->c = filters.first;
    NIGH_TRY(need_end(p));
    NIGH_TRY(parse_body(p, "endset", &n->b));
    return close_tag(p, "endset");
}

/* (name, name=default); the bracket is here */
static nigh_status parse_params(nigh_tparser *p, const nigh_tnode **out) {
    nigh_tchain params = { 0 };
    NIGH_TRY(nigh_tlex_need_sign(p, "("));
    while (!nigh_tlex_is_sign(p, ")")) {
        nigh_tnode *param;
        NIGH_TRY(nigh_tparse_node(p, TN_PARAM, p->tok.at, &param));
        NIGH_TRY(nigh_tlex_need_name(p, &param->text));
        if (nigh_tlex_is_sign(p, "=")) {
            NIGH_TRY(nigh_tlex_next(p));
            NIGH_TRY(nigh_texpr_parse(p, &param->a));
        }
        nigh_tparse_append(&params, param);
        if (!nigh_tlex_is_sign(p, ",")) break;
        NIGH_TRY(nigh_tlex_next(p));
    }
    *out = params.first;
    return nigh_tlex_need_sign(p, ")");
}

static nigh_status parse_macro(nigh_tparser *p, nigh_tnode *n) {
    size_t loops = p->loops;
    n->kind = TN_MACRO;
    NIGH_TRY(nigh_tlex_next(p));
    NIGH_TRY(nigh_tlex_need_name(p, &n->text));
    NIGH_TRY(parse_params(p, &n->a));
    NIGH_TRY(need_end(p));
    p->loops = 0;
    NIGH_TRY(parse_body(p, "endmacro", &n->b));
    p->loops = loops;
    NIGH_TRY(nigh_tlex_next(p));
    if (p->tok.kind == TK_NAME) NIGH_TRY(nigh_tlex_next(p));      /* the name once more */
    return need_end(p);
}

static nigh_status parse_call(nigh_tparser *p, nigh_tnode *n) {
    size_t loops = p->loops;
    n->kind = TN_CALLBLOCK;
    NIGH_TRY(nigh_tlex_next(p));
    if (nigh_tlex_is_sign(p, "(")) NIGH_TRY(parse_params(p, &n->a));
    NIGH_TRY(nigh_texpr_parse(p, &n->c));
    bool call = n->c->kind == TN_POSTFIX;
    if (call) for (const nigh_tnode *s = n->c->b; s; s = s->next) if (!s->next) call = s->kind == TN_CALL;
    if (!call) return NIGH_TFAIL(p, n->at, "expected a call");
    NIGH_TRY(need_end(p));
    p->loops = 0;
    NIGH_TRY(parse_body(p, "endcall", &n->b));
    p->loops = loops;
    return close_tag(p, "endcall");
}

static nigh_status parse_filter_block(nigh_tparser *p, nigh_tnode *n) {
    nigh_tchain filters = { 0 };
    n->kind = TN_FILTERBLOCK;
    NIGH_TRY(nigh_tlex_next(p));
    NIGH_TRY(nigh_texpr_filter(p, &filters));
    NIGH_TRY(nigh_texpr_filters(p, &filters));
    n->a = filters.first;
    NIGH_TRY(need_end(p));
    NIGH_TRY(parse_body(p, "endfilter", &n->b));
    return close_tag(p, "endfilter");
}

static nigh_status parse_with(nigh_tparser *p, nigh_tnode *n) {
    nigh_tchain sets = { 0 };
    n->kind = TN_WITH;
    NIGH_TRY(nigh_tlex_next(p));
    while (p->tok.kind == TK_NAME) {
        nigh_tnode *set, *name;
        NIGH_TRY(nigh_tparse_node(p, TN_SET, p->tok.at, &set));
        NIGH_TRY(nigh_tparse_node(p, TN_NAME, p->tok.at, &name));
        NIGH_TRY(nigh_tlex_need_name(p, &name->text));
        set->a = name;
        NIGH_TRY(nigh_tlex_need_sign(p, "="));
        NIGH_TRY(nigh_texpr_parse(p, &set->b));
        nigh_tparse_append(&sets, set);
        if (!nigh_tlex_is_sign(p, ",")) break;
        NIGH_TRY(nigh_tlex_next(p));
    }
    n->a = sets.first;
    NIGH_TRY(need_end(p));
    NIGH_TRY(parse_body(p, "endwith", &n->b));
    return close_tag(p, "endwith");
}

static nigh_status parse_generation(nigh_tparser *p, nigh_tnode *n) {
    n->kind = TN_BLOCK;
    NIGH_TRY(close_tag(p, "generation"));
    NIGH_TRY(parse_body(p, "endgeneration", &n->b));
    return close_tag(p, "endgeneration");
}

static nigh_status parse_jump(nigh_tparser *p, nigh_tnode *n) {
    n->kind = nigh_tlex_is_name(p, "break") ? TN_BREAK : TN_CONTINUE;
    const char *word = nigh_tlex_is_name(p, "break") ? "break" : "continue";
    if (!p->loops) return NIGH_TFAIL(p, n->at, "%s outside of a loop", word);
    NIGH_TRY(nigh_tlex_next(p));
    return need_end(p);
}

/* Everything up to {% endraw %} is text. */
static nigh_status parse_raw(nigh_tparser *p, nigh_tnode *n) {
    n->kind = TN_TEXT;
    NIGH_TRY(close_tag(p, "raw"));
    for (size_t i = p->pos; (i = nigh_str_find(p->src, NIGH_STR("{%"), i)) != SIZE_MAX; i += 2) {
        nigh_tparser look = *p;
        look.pos = i + 2 + (nigh_tlex_at(p, i + 2) == '-' || nigh_tlex_at(p, i + 2) == '+' ? 1u : 0u);
        look.err = NULL;
        if (nigh_tlex_next(&look) != NIGH_OK || !nigh_tlex_is_name(&look, "endraw")) continue;
        n->text = cut_text(p, i);
        p->pos = look.pos;
        NIGH_TRY(nigh_tlex_next(p));
        return need_end(p);
    }
    return NIGH_TFAIL(p, n->at, "raw has no endraw");
}

static nigh_status parse_statement(nigh_tparser *p, nigh_tnode **out) {
    static const struct { const char *name; nigh_status (*parse)(nigh_tparser *, nigh_tnode *);
    } tags[] = { { "if", parse_if }, { "for", parse_for }, { "set", parse_set }, { "macro", parse_macro },
        { "call", parse_call }, { "filter", parse_filter_block }, { "with", parse_with },
        { "generation", parse_generation }, { "break", parse_jump }, { "continue", parse_jump },
        { "raw", parse_raw } };
    NIGH_TRY(nigh_tparse_node(p, TN_BLOCK, p->tok.at, out));
    for (size_t i = 0; i < NIGH_COUNT(tags); i++) {
        if (!nigh_tlex_is_name(p, tags[i].name)) continue;
        NIGH_TRY(nigh_tparse_enter(p));
        NIGH_TRY(tags[i].parse(p, *out));
        p->depth--;
        return NIGH_OK;
    }
    int len = (int)nigh_min(p->tok.text.len, 60);
    if (p->tok.kind != TK_NAME) return nigh_tlex_expected(p, "the name of a tag");
    if (nigh_str_starts(p->tok.text, NIGH_STR("end")) || nigh_tlex_is_name(p, "else") || nigh_tlex_is_name(p, "elif"))
        return NIGH_TFAIL(p, p->tok.at, "'%.*s' does not belong here", len, p->tok.text.ptr);
    return NIGH_TUNKNOWN(p, p->tok.at, "unknown tag '%.*s'", len, p->tok.text.ptr);
}

static bool is_ender(const nigh_tparser *p, const char *enders) {
    nigh_str list = nigh_str_of(enders);
    for (size_t begin = 0, end; begin < list.len; begin = end + 1) {
        end = nigh_min(nigh_str_find(list, NIGH_STR(" "), begin), list.len);
        if (p->tok.kind == TK_NAME && nigh_str_eq(p->tok.text, nigh_str_slice(list, begin, end))) return true;
    }
    return false;
}

/* Statements up to a tag that is one of `enders` (its name is then p->tok), or up to the end of the source (NULL). */
static nigh_status parse_body(nigh_tparser *p, const char *enders, const nigh_tnode **out) {
    nigh_tchain body = { 0 };
    size_t opened = p->tok.at;      /* of the tag that wants an end */
    while (enders && opened && (nigh_tlex_at(p, opened) != '{' || nigh_tlex_at(p, opened + 1) != '%')) opened--;
    for (;;) {
        size_t where = p->pos, tag = find_tag(p);
        NIGH_TRY(add_text(p, &body, where, cut_text(p, tag)));
        *out = body.first;
        if (tag == p->src.len) return enders ? NIGH_TFAIL(p, opened, "the source ends before %s", enders) : NIGH_OK;
        char kind = nigh_tlex_at(p, tag + 1);
        if (kind == '#') { NIGH_TRY(skip_comment(p, tag)); continue; }
        p->pos = tag + 2;
        p->in_output = kind == '{';
        if (nigh_tlex_at(p, p->pos) == '-' || (nigh_tlex_at(p, p->pos) == '+' && kind == '%')) p->pos++;
        if (p->in_output) { NIGH_TRY(add_output(p, &body)); continue; }
        NIGH_TRY(nigh_tlex_next(p));
        if (is_ender(p, enders)) return NIGH_OK;
        nigh_tnode *n;
        NIGH_TRY(parse_statement(p, &n));
        nigh_tparse_append(&body, n);
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

static nigh_status check_source(nigh_tparser *p) {
    size_t bad = nigh_utf8_check(p->src);
    if (bad != SIZE_MAX) return NIGH_TFAIL(p, bad, "the source is not UTF-8");
    const char *nul = p->src.len ? memchr(p->src.ptr, '\0', p->src.len) : NULL;
    return nul ? NIGH_TFAIL(p, (size_t)(nul - p->src.ptr), "a NUL byte") : NIGH_OK;
}

nigh_status nigh_template_compile(nigh_template **out, nigh_str source, nigh_err *err) {
    nigh_tparser p = { .err = err };
    char *copy;
    *out = NULL;
    if (source.len > NIGH_TEMPLATE_SOURCE_MAX)
        return nigh_failf(err, NIGH_ERANGE, 0, "the template is longer than %d bytes", NIGH_TEMPLATE_SOURCE_MAX);
    p.t = nigh_alloc(1, sizeof *p.t);
    if (!p.t) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the template");
    p.t->pool.limit = NIGH_TEMPLATE_MEMORY_MAX;
    nigh_status status = nigh_tparse_take(&p, 1, source.len + 1, &copy);
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
