/* json.h - JSON text (RFC 8259, strict) to a tree of values and back.
 * The tree lives in one arena block owned by the document; strings are copied there, unescaped, valid
 * UTF-8. Order of keys is kept. Depth, values and bytes are limited. Neither parsing nor printing recurses. */
#ifndef NIGH_JSON_H
#define NIGH_JSON_H

#include "base/base.h"

typedef enum {
    NIGH_JSON_NULL, NIGH_JSON_BOOL, NIGH_JSON_NUMBER, NIGH_JSON_STRING, NIGH_JSON_ARRAY, NIGH_JSON_OBJECT
} nigh_json_type;

typedef struct nigh_json nigh_json;
struct nigh_json {
    nigh_json_type type;
    bool boolean, is_int;       /* is_int: written without fraction or exponent and fits int64 */
    double number;
    int64_t integer;            /* when is_int */
    nigh_str text;              /* STRING: the text; NUMBER: as written */
    nigh_str key;               /* when it is a member of an object */
    uint64_t at;                /* offset in the source text */
    size_t count;               /* items or members */
    const nigh_json *first, *next;  /* children; siblings */
};

typedef struct { nigh_json *root; void *block; size_t block_bytes; } nigh_json_doc;

enum { NIGH_JSON_DEPTH_MAX = 64, NIGH_JSON_BYTES_MAX = 1 << 28 };

/* Fails: EINVAL with position and what was expected (also invalid UTF-8, lone surrogates, duplicate keys of one
 * object, trailing text), ERANGE (depth over 64, text over NIGH_JSON_BYTES_MAX), ENOMEM. A number beyond the range of
 * double is refused (EINVAL). Memory is at most a fixed multiple of the text's length. */
NIGH_CHECK nigh_status nigh_json_parse(nigh_json_doc *doc, nigh_str text, nigh_err *err);
void nigh_json_release(nigh_json_doc *doc);

/* NULL when absent or not an object; NULL-safe */
const nigh_json *nigh_json_get(const nigh_json *object, nigh_str key);
static inline const nigh_json *nigh_json_first(const nigh_json *v) { return v ? v->first : NULL; }
static inline bool nigh_json_is(const nigh_json *v, nigh_json_type type) { return v && v->type == type; }

/* Members by name, for whoever takes what is missing or of another type for nothing. NULL-safe. */
nigh_str nigh_json_text(const nigh_json *object, const char *key);      /* "" unless it is a string */
bool nigh_json_says(const nigh_json *object, const char *key, const char *text);    /* is it this string? */
int64_t nigh_json_int(const nigh_json *object, const char *key, int64_t otherwise); /* of a whole number */
uint64_t nigh_json_count(const nigh_json *object, const char *key);     /* 0 unless it is a whole number >= 0 */
bool nigh_json_true(const nigh_json *object, const char *key);

/* The double nearest to a number that is written as JSON allows (the caller has checked that); infinite beyond the
 * range. */
double nigh_json_to_f64(nigh_str text);

/* ---- writing, straight into a buffer ---- */
/* quoted, escaped; invalid UTF-8 becomes U+FFFD */
NIGH_CHECK nigh_status nigh_json_add_string(nigh_buf *b, nigh_str text);
/* shortest text that reads back as the same float; null when not finite */
NIGH_CHECK nigh_status nigh_json_add_f32(nigh_buf *b, float v);
/* 17 significant digits at most; null when not finite */
NIGH_CHECK nigh_status nigh_json_add_f64(nigh_buf *b, double v);
NIGH_CHECK nigh_status nigh_json_add_value(nigh_buf *b, const nigh_json *v);   /* compact */

#endif
