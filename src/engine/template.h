/* template.h - the Jinja of public chat templates: a source compiled once, rendered with JSON values.
 * A small, bounded interpreter: no host objects, no import, no attribute beyond the data it is given. What it does
 * not know is an error with line and column, never a guess. docs/templates.md lists what it knows. A compiled
 * template is immutable: any thread may render it. */
#ifndef NIGH_TEMPLATE_H
#define NIGH_TEMPLATE_H

#include "base/json.h"

enum {
    NIGH_TEMPLATE_SOURCE_MAX = 256 << 10, /* bytes of source */
    NIGH_TEMPLATE_OUTPUT_MAX = 4 << 20, /* bytes of output */
    NIGH_TEMPLATE_MEMORY_MAX = 16 << 20, /* bytes of values alive in one rendering, and of one compiled template */
    NIGH_TEMPLATE_STEPS_MAX =
        1000000, /* statements, expressions, and 32-byte pieces of text that are copied or compared */
    NIGH_TEMPLATE_DEPTH_MAX = 64, /* nesting of statements, of one expression, of macro calls, of values */
    NIGH_TEMPLATE_STACK_MAX = 600 /* statements and expressions inside one another while it runs */
};

typedef struct nigh_template nigh_template;

/* A run of output bytes up to `end`: written in the template (user false) or coming from a value that was given (user
 * true). What is computed from both counts as user. Only text with user false may become special tokens. */
typedef struct { size_t end; bool user; } nigh_span;
typedef struct { nigh_span *ptr; size_t count; } nigh_spans;
void nigh_spans_release(nigh_spans *s);

typedef struct {
    nigh_str name;
    const nigh_json *value;     /* NULL: `text` is the value */
    nigh_str text;
    bool trusted;               /* its text counts as the template's own (bos_token) */
} nigh_template_var;

typedef struct {
    const nigh_template_var *vars;
    size_t var_count;
    int32_t year, month, day;   /* of strftime_now; year 0: strftime_now is an error */
    nigh_str word_key; /* strings under this key that are one of `words` count as the template's own (the roles of
                          messages) */
    const nigh_str *words;
    size_t word_count;
} nigh_template_input;

/* Fails: EINVAL (syntax), ENOSUP (a tag, filter or test that is not known), ERANGE (a limit), ENOMEM; err names line
 * and column. */
NIGH_CHECK nigh_status nigh_template_compile(nigh_template **out, nigh_str source, nigh_err *err);
void nigh_template_free(nigh_template *t);

/* Appends the text to out, whose limit applies too. spans (may be NULL) is filled anew; offsets count from the first
 * byte appended. Fails: EINVAL (also raise_exception, with its text), ENOSUP, ERANGE, ENOMEM; out is then unchanged.
 */
NIGH_CHECK nigh_status nigh_template_render(
    const nigh_template *t, const nigh_template_input *in, nigh_buf *out, nigh_spans *spans, nigh_err *err);

#endif
