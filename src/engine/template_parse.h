/* template_parse.h - what the three files that read a template share: template_lex.c (words), template_expr.c
 * (expressions), template_parse.c (text, statements, nodes). What fails has filled p->err with line and column. */
#ifndef NIGH_TEMPLATE_PARSE_H
#define NIGH_TEMPLATE_PARSE_H

#include "engine/template_ast.h"

typedef enum { TK_END /* of the tag */, TK_NAME, TK_TEXT, TK_INT, TK_REAL, TK_SIGN } nigh_ttoken_kind;

typedef struct {
    nigh_ttoken_kind kind;
    nigh_str text;          /* as written; TEXT: without quotes, still escaped */
    size_t at;
} nigh_ttoken;

typedef struct {
    nigh_template *t;
    nigh_str src;
    size_t pos;             /* behind `tok` while in a tag; else where text begins */
    nigh_ttoken tok;
    bool in_output;         /* the tag is {{ }} */
    bool strip_next;        /* the last tag ended with - */
    bool trim_next;         /* the last tag was a block or comment: drop one newline */
    size_t depth, loops;
    nigh_err *err;
} nigh_tparser;

/* A list of nodes in the making. */
typedef struct { const nigh_tnode *first; nigh_tnode *last; size_t count; } nigh_tchain;

#define NIGH_TFAIL(p, at, ...) nigh_template_fail((p)->src, (p)->err, NIGH_EINVAL, (at), __VA_ARGS__)
#define NIGH_TUNKNOWN(p, at, ...) nigh_template_fail((p)->src, (p)->err, NIGH_ENOSUP, (at), __VA_ARGS__)

/* ---- template_parse.c: nodes ---- */
NIGH_CHECK nigh_status nigh_tparse_take(nigh_tparser *p, size_t size, size_t count, void *out);
NIGH_CHECK nigh_status nigh_tparse_node(nigh_tparser *p, nigh_tnode_kind kind, size_t at, nigh_tnode **out);
NIGH_CHECK nigh_status nigh_tparse_literal(nigh_tparser *p, nigh_tval v, nigh_tnode **out);
void nigh_tparse_append(nigh_tchain *c, nigh_tnode *n);
NIGH_CHECK nigh_status nigh_tparse_enter(nigh_tparser *p);      /* one deeper; the caller counts p->depth down */

/* ---- template_lex.c: p->tok is the word that stands next ---- */
static inline char nigh_tlex_at(const nigh_tparser *p, size_t i) { return i < p->src.len ? p->src.ptr[i] : '\0'; }
static inline bool nigh_tlex_is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
NIGH_CHECK nigh_status nigh_tlex_next(nigh_tparser *p);
bool nigh_tlex_is_sign(const nigh_tparser *p, const char *sign);
bool nigh_tlex_is_name(const nigh_tparser *p, const char *name);
NIGH_CHECK nigh_status nigh_tlex_expected(nigh_tparser *p, const char *what);  /* always fails */
NIGH_CHECK nigh_status nigh_tlex_need_sign(nigh_tparser *p, const char *sign);
NIGH_CHECK nigh_status nigh_tlex_need_name(nigh_tparser *p, nigh_str *out);
NIGH_CHECK nigh_status nigh_tlex_text(nigh_tparser *p, nigh_tnode **out);
NIGH_CHECK nigh_status nigh_tlex_number(nigh_tparser *p, nigh_tnode **out);

/* ---- template_expr.c ---- */
NIGH_CHECK nigh_status nigh_texpr_parse(nigh_tparser *p, const nigh_tnode **out);
/* One that may be a tuple without brackets: a, b */
NIGH_CHECK nigh_status nigh_texpr_tuple(nigh_tparser *p, const nigh_tnode **out);
/* One that ends in front of an `if`. */
NIGH_CHECK nigh_status nigh_texpr_plain(nigh_tparser *p, const nigh_tnode **out);
NIGH_CHECK nigh_status nigh_texpr_filter(nigh_tparser *p, nigh_tchain *suffixes);      /* behind | */
/* | and is, as many as there are */
NIGH_CHECK nigh_status nigh_texpr_filters(nigh_tparser *p, nigh_tchain *suffixes);

#endif
