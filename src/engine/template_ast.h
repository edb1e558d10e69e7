/* template_ast.h - what the files of the template interpreter share: the tree, the values, the state of a rendering.
 *
 *   template_lex.c     source -> words          template_value.c   values: text with marks, lists, printing, JSON
 *   template_expr.c    words -> expressions     template_filter.c  filters and tests
 *   template_parse.c   statements, the tree     template_method.c  methods and functions
 *   template_run.c     tree -> output
 *
 * Marks: each text value knows for each byte whether it comes from the template (0) or from the user (1): `user`
 * when all bytes are alike, else `marks`. Numbers, lists and the rest carry `user` as a whole. */
#ifndef NIGH_TEMPLATE_AST_H
#define NIGH_TEMPLATE_AST_H

#include "engine/template.h"

/* ---- memory: chunks that are only ever added to ---- */
typedef struct nigh_tchunk nigh_tchunk;
typedef struct { nigh_tchunk *chunks; uint8_t *at, *end; size_t used, limit; } nigh_tpool;
void *nigh_tpool_take(nigh_tpool *p, size_t size, size_t count);    /* zeroed; NULL when it does not fit */
void nigh_tpool_release(nigh_tpool *p);

/* ---- values ---- */
typedef enum { TV_UNDEF, TV_NONE, TV_BOOL, TV_INT, TV_FLOAT, TV_TEXT, TV_LIST, TV_DICT, TV_SPACE, TV_LOOP, TV_MACRO,
    TV_FUNC } nigh_tkind;

typedef struct nigh_tval nigh_tval;
typedef struct nigh_tpair nigh_tpair;
typedef struct nigh_tnode nigh_tnode;
typedef struct nigh_tenv nigh_tenv;
typedef struct { nigh_tval *items; size_t count, cap; } nigh_tlist;
typedef struct { nigh_tpair *pairs; size_t count, cap; } nigh_tdict;
typedef struct { const nigh_tlist *items; size_t idx; } nigh_tloop;
typedef struct { const nigh_tnode *node; nigh_tenv *env; } nigh_tmacro;

struct nigh_tval {
    uint8_t kind;               /* nigh_tkind */
    bool user;
    uint32_t len;               /* TEXT: bytes */
    const uint8_t *marks;       /* TEXT: one for each byte, or NULL: all are `user` */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const char *text;
        nigh_tlist *list;
        nigh_tdict *dict;       /* DICT, SPACE */
        const nigh_tloop *loop;
        const nigh_tmacro *macro;
        int func;
    } as;
};
struct nigh_tpair { nigh_tval key, value; };

/* ---- the tree ---- */
typedef enum {
    /* Expressions. */
    TN_LITERAL, TN_NAME, TN_LIST, TN_DICT, TN_PAIR, TN_CHAIN, TN_LINK, TN_NOT, TN_MINUS, TN_PLUS, TN_COND, TN_POSTFIX,
    /* Behind one. */
    TN_ATTR, TN_INDEX, TN_SLICE, TN_CALL, TN_FILTER, TN_TEST, TN_ARG,
    /* Statements. */
    TN_TEXT, TN_OUTPUT, TN_IF, TN_CLAUSE, TN_FOR, TN_SET, TN_SETBLOCK, TN_MACRO, TN_PARAM, TN_CALLBLOCK,
    TN_FILTERBLOCK, TN_BREAK, TN_CONTINUE, TN_BLOCK, TN_WITH
} nigh_tnode_kind;

typedef enum {
    TO_NONE, TO_OR, TO_AND, TO_EQ, TO_NE, TO_LT, TO_LE, TO_GT, TO_GE, TO_IN, TO_NOT_IN, TO_ADD, TO_SUB, TO_CONCAT,
        TO_MUL, TO_DIV, TO_FLOOR, TO_MOD, TO_POW
} nigh_top;

struct nigh_tnode {
    uint8_t kind, op;           /* nigh_tnode_kind, nigh_top */
    bool negated, named;        /* TEST: `is not`; ARG: has a name */
    uint16_t index;             /* FILTER, TEST: place in its table */
    uint16_t count;             /* CALL, FILTER, TEST: arguments */
    uint32_t at;                /* offset in the source */
    nigh_str text;
    const nigh_tval *literal;
    const nigh_tnode *a, *b, *c, *d, *next;
};

struct nigh_template {
    nigh_tpool pool;
    nigh_str source;
    const nigh_tnode *body;
};

/* Fails with "line L column C: ..." for an offset of the source. */
nigh_status nigh_template_fail(nigh_str source, nigh_err *err, nigh_status code, size_t at, const char *fmt,
    ...) NIGH_PRINTF(5, 6);

/* ---- a rendering ---- */
typedef struct { nigh_buf text, marks; } nigh_tsink;    /* text and a mark for each byte */

typedef struct {
    const nigh_template *t;
    const nigh_template_input *in;
    nigh_tpool pool;
    nigh_tsink *out;
    nigh_tenv *env;
    size_t steps, depth, calls, docs;
    size_t at;                  /* offset of what runs now, for errors */
    int flow;                   /* TF_NEXT, or a break or continue on its way to its loop */
    nigh_json_doc doc[64];      /* of the filter from_json */
    nigh_err *err;
} nigh_trun;

enum { TF_NEXT, TF_BREAK, TF_CONTINUE };

typedef struct {
    const nigh_tval *at;
    size_t count;
    const nigh_tval *named;
    const nigh_str *names;
    size_t named_count;
} nigh_targs;

nigh_status nigh_trun_fail(nigh_trun *r, nigh_status code, const char *fmt, ...) NIGH_PRINTF(3, 4);
/* One step, and one for each 32 bytes; ERANGE. */
nigh_status nigh_trun_spend(nigh_trun *r, size_t bytes);
/* out: a pointer to a pointer; ERANGE, ENOMEM. */
nigh_status nigh_trun_take(nigh_trun *r, size_t size, size_t count, void *out);
/* Calls a macro or a function. */
nigh_status nigh_trun_call(nigh_trun *r, const nigh_tval *callee, const nigh_targs *args, nigh_tval *out);

/* ---- values (template_value.c) ---- */
nigh_status nigh_tsink_add(nigh_trun *r, nigh_tsink *s, const nigh_tval *text);
nigh_status nigh_tsink_add_str(nigh_trun *r, nigh_tsink *s, nigh_str text, bool user);
nigh_tsink nigh_tsink_of(size_t limit);
/* Its content as a value; releases it, also on failure. */
nigh_status nigh_tsink_take(nigh_trun *r, nigh_tsink *s, nigh_tval *out);
void nigh_tsink_release(nigh_tsink *s);

static inline nigh_str nigh_tval_str(const nigh_tval *v) { return (nigh_str){ v->as.text, v->len }; }
static inline nigh_tval nigh_tval_bool(bool b, bool user) {
    return (nigh_tval){ .kind = TV_BOOL, .user = user, .as.boolean = b };
}
static inline nigh_tval nigh_tval_int(int64_t i, bool user) {
    return (nigh_tval){ .kind = TV_INT, .user = user, .as.integer = i };
}
static inline nigh_tval nigh_tval_real(double f, bool user) {
    return (nigh_tval){ .kind = TV_FLOAT, .user = user, .as.real = f };
}
nigh_tval nigh_tval_text(nigh_str s, bool user);        /* borrows the bytes */
nigh_tval nigh_tval_slice(const nigh_tval *text, size_t begin, size_t end);
static inline bool nigh_tval_number(const nigh_tval *v) {
    return v->kind == TV_INT || v->kind == TV_FLOAT || v->kind == TV_BOOL;
}
double nigh_tval_to_real(const nigh_tval *v);           /* of a number */
int64_t nigh_tval_to_int(const nigh_tval *v);           /* of INT or BOOL */
bool nigh_tval_true(const nigh_tval *v);
const char *nigh_tval_kind(const nigh_tval *v);         /* for errors: "a list" */

nigh_status nigh_tlist_new(nigh_trun *r, size_t cap, bool user, nigh_tval *out);
nigh_status nigh_tlist_add(nigh_trun *r, nigh_tval *list, const nigh_tval *item);
nigh_status nigh_tdict_new(nigh_trun *r, nigh_tkind kind, bool user, nigh_tval *out);
nigh_status nigh_tdict_set(nigh_trun *r, nigh_tval *dict, const nigh_tval *key, const nigh_tval *value);
/* NULL: absent. */
nigh_status nigh_tdict_get(nigh_trun *r, const nigh_tval *dict, const nigh_tval *key, const nigh_tval **out);
nigh_status nigh_tdict_get_str(nigh_trun *r, const nigh_tval *dict, nigh_str key, const nigh_tval **out);

nigh_status nigh_tval_of_json(nigh_trun *r, const nigh_json *j, bool user, nigh_tval *out);
nigh_status nigh_tval_equal(nigh_trun *r, const nigh_tval *a, const nigh_tval *b, bool *out);
nigh_status nigh_tval_order(nigh_trun *r, const nigh_tval *a, const nigh_tval *b, bool fold, int *out);
/* SIZE_MAX: not there. */
nigh_status nigh_ttext_find(nigh_trun *r, const nigh_tval *text, const nigh_tval *needle, size_t from, size_t *out);
nigh_status nigh_tval_contains(nigh_trun *r, const nigh_tval *box, const nigh_tval *item, bool *out);
/* As a list: letters, keys, items. */
nigh_status nigh_tval_items(nigh_trun *r, const nigh_tval *v, nigh_tval *out);
nigh_status nigh_tval_count(nigh_trun *r, const nigh_tval *v, size_t *out);
nigh_status nigh_tval_attr(nigh_trun *r, const nigh_tval *v, nigh_str name, nigh_tval *out);
nigh_status nigh_tval_index(nigh_trun *r, const nigh_tval *v, const nigh_tval *key, nigh_tval *out);
nigh_status nigh_tval_print(nigh_trun *r, nigh_tsink *s, const nigh_tval *v);         /* as {{ v }} shows it */
nigh_status nigh_tval_to_text(nigh_trun *r, const nigh_tval *v, nigh_tval *out);

/* Indent < 0: one line. */
typedef struct { int64_t indent; bool ascii, sort; nigh_str item_separator, key_separator; } nigh_tjson_opts;
nigh_status nigh_tval_to_json(nigh_trun *r, nigh_tsink *s, const nigh_tval *v, const nigh_tjson_opts *o);

/* ---- filters, tests, methods, functions ---- */
typedef nigh_status nigh_tfilter_fn(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out);
int nigh_tfilter_find(nigh_str name);       /* -1: not known */
int nigh_ttest_find(nigh_str name);
nigh_status nigh_tfilter_run(nigh_trun *r, int index, const nigh_tval *in, const nigh_targs *args, nigh_tval *out);
nigh_status nigh_ttest_run(nigh_trun *r, int index, const nigh_tval *in, const nigh_targs *args, bool *out);
/* *known is false when there is no such method for this kind of value. */
nigh_status nigh_tmethod_run(nigh_trun *r, nigh_tval *self, nigh_str name, const nigh_targs *args, nigh_tval *out,
    bool *known);
int nigh_tfunc_find(nigh_str name);         /* -1: not known */
nigh_status nigh_tfunc_run(nigh_trun *r, int func, const nigh_targs *args, nigh_tval *out);
/* The argument at place `idx` or of this name; NULL: not given. idx SIZE_MAX: only by name. */
const nigh_tval *nigh_targ(const nigh_targs *args, size_t idx, const char *name);
/* Fails when there are more places than `most`, or a name that is not in `names` (separated by spaces). */
nigh_status nigh_targs_check(nigh_trun *r, const nigh_targs *args, const char *what, size_t least, size_t most,
    const char *names);
/* The offset that lies `letters` letters behind the offset `at`; the end when there are fewer. */
size_t nigh_ttext_place(const nigh_tval *text, size_t at, size_t letters);
/* Text operations used by both filters and methods. strip: letters to take off, NULL: white space. */
nigh_tval nigh_ttext_strip(const nigh_tval *text, const nigh_tval *letters, bool left, bool right);
nigh_status nigh_ttext_replace(nigh_trun *r, const nigh_tval *text, const nigh_tval *from, const nigh_tval *to,
    int64_t most, nigh_tval *out);
typedef enum { TC_UPPER, TC_LOWER, TC_TITLE, TC_CAPITAL } nigh_tcase;
nigh_status nigh_ttext_case(nigh_trun *r, const nigh_tval *text, nigh_tcase how, nigh_tval *out);

#endif
