/* json.c - JSON text to a tree, strictly after RFC 8259, without recursion.
 *
 * The document owns one block, sized before anything is built by a look through the text:
 *
 *   | nodes: 1 + one for each [ { , outside strings | pointers: as many, to sort keys | letters: text.len |
 *
 * (a value is the root, or the first in a container, or follows a comma; unescaping never lengthens).
 * So the memory is at most 97 bytes for each byte of text (a 64-bit machine), and nothing can run out half way.
 * Parsing is one loop over values with a stack of the open containers, NIGH_JSON_DEPTH_MAX deep.
 * Keys of an object are compared when it closes: sorted with a heap sort, equal neighbours are refused;
 * no input makes that quadratic. */
#include "base/json.h"
#include "base/utf8.h"

typedef struct { nigh_json *container, *last; } frame;

typedef struct {
    nigh_str text;
    size_t at;
    nigh_json *nodes;
    size_t node_count, node_limit;
    const nigh_json **sorted;       /* scratch for the keys of one object */
    char *letters;                  /* where the next unescaped string goes */
    frame stack[NIGH_JSON_DEPTH_MAX];
    size_t depth;
    nigh_err *err;
} parser;

static nigh_status fail_at(const parser *p, size_t at, const char *what) {
    size_t column, line = nigh_str_line(p->text, at, &column);
    return nigh_failf(p->err, NIGH_EINVAL, at, "JSON, line %zu column %zu: %s", line, column, what);
}

static nigh_status fail(const parser *p, const char *what) {
    return fail_at(p, p->at, p->at == p->text.len ? "the text ends too early" : what);
}

static void skip_space(parser *p) {
    while (p->at < p->text.len
           && (p->text.ptr[p->at] == ' '
               || (p->text.ptr[p->at] >= '\t' && p->text.ptr[p->at] <= '\r' && p->text.ptr[p->at] != '\v'
                   && p->text.ptr[p->at] != '\f')))
        p->at++;
}

static int peek(const parser *p) { return p->at < p->text.len ? (unsigned char)p->text.ptr[p->at] : -1; }

/* ---- strings ---- */
static bool read_hex4(parser *p, uint32_t *out) {
    uint32_t v = 0;
    if (p->text.len - p->at < 4) return false;
    for (size_t i = 0; i < 4; i++) {
        int digit = nigh_hex_digit(p->text.ptr[p->at + i]);
        if (digit < 0) return false;
        v = v << 4 | (uint32_t)digit;
    }
    p->at += 4;
    *out = v;
    return true;
}

/* What stands behind \u: one letter, or two halves of one. */
static nigh_status read_unicode(parser *p, char **out) {
    uint32_t high, low;
    size_t start = p->at - 2;
    if (!read_hex4(p, &high)) return fail(p, "four hexadecimal digits must follow \\u");
    if (high >= 0xdc00 && high <= 0xdfff) return fail_at(p, start, "a lone low surrogate");
    if (high >= 0xd800 && high <= 0xdbff) {
        if (p->text.len - p->at < 6 || p->text.ptr[p->at] != '\\' || p->text.ptr[p->at + 1] != 'u')
            return fail_at(p, start, "a lone high surrogate");
        p->at += 2;
        if (!read_hex4(p, &low)) return fail(p, "four hexadecimal digits must follow \\u");
        if (low < 0xdc00 || low > 0xdfff) return fail_at(p, start, "a lone high surrogate");
        high = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    }
    *out += nigh_utf8_write(high, *out);
    return NIGH_OK;
}

static nigh_status read_escape(parser *p, char **out) {
    static const char names[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    int c = peek(p);
    if (c < 0) return fail(p, "");
    p->at++;
    if (c == 'u') return read_unicode(p, out);
    const char *hit = memchr(names, c, sizeof names - 1);
    if (!hit) { p->at--; return fail(p, "an unknown escape after \\"); }
    *(*out)++ = means[hit - names];
    return NIGH_OK;
}

/* From the opening quote to behind the closing one; the text lies in p->letters. */
static nigh_status read_string(parser *p, nigh_str *out) {
    char *start = p->letters, *to = start;
    p->at++;
    for (;;) {
        int c = peek(p);
        uint32_t letter;
        if (c == '"') break;
        if (c < 0x20) return fail(p, "a control character inside a string must be escaped");
        if (c == '\\') { p->at++; NIGH_TRY(read_escape(p, &to)); continue; }
        size_t n = c < 0x80 ? 1 : nigh_utf8_read(p->text, p->at, &letter);
        if (n == 0) return fail(p, "the bytes are not UTF-8");
        for (size_t i = 0; i < n; i++) *to++ = p->text.ptr[p->at++];
    }
    p->at++;
    *out = (nigh_str){ start, (size_t)(to - start) };
    p->letters = to;
    return NIGH_OK;
}

/* ---- numbers ---- */
static size_t skip_digits(parser *p) {
    size_t start = p->at;
    while (peek(p) >= '0' && peek(p) <= '9') p->at++;
    return p->at - start;
}

static nigh_status read_number(parser *p, nigh_json *v) {
    size_t start = p->at;
    bool whole = true;
    if (peek(p) == '-') p->at++;
    if (peek(p) == '0') {
        p->at++;
        if (peek(p) >= '0' && peek(p) <= '9') return fail(p, "a number may not start with 0");
    } else if (skip_digits(p) == 0) return fail(p, "a digit must follow -");
    if (peek(p) == '.') {
        whole = false;
        p->at++;
        if (skip_digits(p) == 0) return fail(p, "a digit must follow the point");
    }
    if (peek(p) == 'e' || peek(p) == 'E') {
        whole = false;
        p->at++;
        if (peek(p) == '+' || peek(p) == '-') p->at++;
        if (skip_digits(p) == 0) return fail(p, "a digit must follow the exponent's e");
    }
    v->type = NIGH_JSON_NUMBER;
    v->text = nigh_str_slice(p->text, start, p->at);
    v->number = nigh_json_to_f64(v->text);
    if (v->number - v->number != 0) return fail_at(p, start, "the number is larger than a double can hold");
    memcpy(p->letters, v->text.ptr, v->text.len);
    v->text.ptr = p->letters;
    p->letters += v->text.len;
    v->is_int = whole && nigh_str_to_i64(v->text, &v->integer);
    return NIGH_OK;
}

/* ---- duplicate keys ---- */
static void sift(const nigh_json **a, size_t root, size_t count) {
    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && nigh_str_cmp(a[child]->key, a[child + 1]->key) < 0) child++;
        if (nigh_str_cmp(a[root]->key, a[child]->key) >= 0) return;
        const nigh_json *t = a[root];
        a[root] = a[child];
        a[child] = t;
    }
}

static nigh_status check_keys(const parser *p, const nigh_json *object) {
    const nigh_json **a = p->sorted;
    size_t n = 0;
    if (object->count < 2) return NIGH_OK;
    for (const nigh_json *m = object->first; m; m = m->next) a[n++] = m;
    for (size_t i = n / 2; i-- > 0;) sift(a, i, n);
    for (size_t end = n; end-- > 1;) {
        const nigh_json *t = a[0];
        a[0] = a[end];
        a[end] = t;
        sift(a, 0, end);
    }
    for (size_t i = 1; i < n; i++)
        if (nigh_str_eq(a[i - 1]->key, a[i]->key))
            return fail_at(p, (size_t)(a[i]->at > a[i - 1]->at ? a[i]->at : a[i - 1]->at),
                           "this key was given before in the same object");
    return NIGH_OK;
}

/* ---- values ---- */
static nigh_status read_word(parser *p, nigh_json *v, nigh_str word, nigh_json_type type, bool boolean) {
    if (!nigh_str_starts(nigh_str_slice(p->text, p->at, p->text.len), word)) return fail(p, "expected a value");
    p->at += word.len;
    v->type = type;
    v->boolean = boolean;
    return NIGH_OK;
}

static nigh_status open_container(parser *p, nigh_json *v, nigh_json_type type) {
    if (p->depth == NIGH_JSON_DEPTH_MAX)
        return nigh_failf(p->err, NIGH_ERANGE, p->at, "JSON is nested deeper than %d", NIGH_JSON_DEPTH_MAX);
    v->type = type;
    p->stack[p->depth++] = (frame){ v, NULL };
    p->at++;
    return NIGH_OK;
}

static nigh_status read_value(parser *p, nigh_str key) {
    assert(p->node_count < p->node_limit);
    nigh_json *v = &p->nodes[p->node_count++];
    v->key = key;
    v->at = p->at;
    if (p->depth) {
        frame *f = &p->stack[p->depth - 1];
        if (f->last) f->last->next = v;
        else f->container->first = v;
        f->last = v;
        f->container->count++;
    }
    int c = peek(p);
    if (c == '{') return open_container(p, v, NIGH_JSON_OBJECT);
    if (c == '[') return open_container(p, v, NIGH_JSON_ARRAY);
    if (c == '"') { v->type = NIGH_JSON_STRING; return read_string(p, &v->text); }
    if (c == 't') return read_word(p, v, NIGH_STR("true"), NIGH_JSON_BOOL, true);
    if (c == 'f') return read_word(p, v, NIGH_STR("false"), NIGH_JSON_BOOL, false);
    if (c == 'n') return read_word(p, v, NIGH_STR("null"), NIGH_JSON_NULL, false);
    if (c == '-' || (c >= '0' && c <= '9')) return read_number(p, v);
    return fail(p, "expected a value");
}

/* Behind a value or an opening bracket: closes what ends here. *more: another value must follow. */
static nigh_status close_containers(parser *p, bool *more) {
    for (; p->depth; p->depth--) {
        frame *f = &p->stack[p->depth - 1];
        bool object = f->container->type == NIGH_JSON_OBJECT;
        skip_space(p);
        int c = peek(p);
        if (c == (object ? '}' : ']')) {
            p->at++;
            if (object) NIGH_TRY(check_keys(p, f->container));
            continue;
        }
        *more = true;
        if (!f->last) return NIGH_OK;
        if (c != ',') return fail(p, object ? "expected , or }" : "expected , or ]");
        p->at++;
        return NIGH_OK;
    }
    *more = false;
    return NIGH_OK;
}

static nigh_status read_all(parser *p) {
    for (bool more = true; more;) {
        nigh_str key = { 0 };
        skip_space(p);
        if (p->depth && p->stack[p->depth - 1].container->type == NIGH_JSON_OBJECT) {
            if (peek(p) != '"') return fail(p, "expected a key in quotes");
            NIGH_TRY(read_string(p, &key));
            skip_space(p);
            if (peek(p) != ':') return fail(p, "expected : after the key");
            p->at++;
            skip_space(p);
        }
        NIGH_TRY(read_value(p, key));
        NIGH_TRY(close_containers(p, &more));
    }
    skip_space(p);
    return p->at < p->text.len ? fail(p, "more text after the value") : NIGH_OK;
}

/* Most values the text can hold. */
static size_t count_values(nigh_str text) {
    size_t n = 1;
    bool quoted = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (quoted && c == '\\') i++;
        else if (c == '"') quoted = !quoted;
        else if (!quoted && (c == ',' || c == '[' || c == '{')) n++;
    }
    return n;
}

nigh_status nigh_json_parse(nigh_json_doc *doc, nigh_str text, nigh_err *err) {
    parser p = { .text = text, .err = err };
    *doc = (nigh_json_doc){ 0 };
    if (text.len > NIGH_JSON_BYTES_MAX)
        return nigh_failf(err, NIGH_ERANGE, 0, "JSON is longer than %u bytes", (unsigned)NIGH_JSON_BYTES_MAX);
    p.node_limit = count_values(text);
    doc->block_bytes = p.node_limit * (sizeof(nigh_json) + sizeof(nigh_json *)) + text.len + 1;
    doc->block = nigh_alloc(1, doc->block_bytes);
    if (!doc->block) {
        nigh_status status = nigh_failf(err, NIGH_ENOMEM, 0, "not enough memory for JSON of %zu bytes", text.len);
        *doc = (nigh_json_doc){ 0 };
        return status;
    }
    p.nodes = doc->block;
    p.sorted = (const nigh_json **)(void *)(p.nodes + p.node_limit);
    p.letters = (char *)(void *)(p.sorted + p.node_limit);
    doc->root = p.nodes;
    nigh_status status = read_all(&p);
    if (status != NIGH_OK) nigh_json_release(doc);
    return status;
}

void nigh_json_release(nigh_json_doc *doc) {
    nigh_free(doc->block);
    *doc = (nigh_json_doc){ 0 };
}

const nigh_json *nigh_json_get(const nigh_json *object, nigh_str key) {
    if (!object || object->type != NIGH_JSON_OBJECT) return NULL;
    for (const nigh_json *m = object->first; m; m = m->next) if (nigh_str_eq(m->key, key)) return m;
    return NULL;
}

nigh_str nigh_json_text(const nigh_json *object, const char *key) {
    const nigh_json *v = nigh_json_get(object, nigh_str_of(key));
    return nigh_json_is(v, NIGH_JSON_STRING) ? v->text : NIGH_STR("");
}

bool nigh_json_says(const nigh_json *object, const char *key, const char *text) {
    const nigh_json *v = nigh_json_get(object, nigh_str_of(key));
    return nigh_json_is(v, NIGH_JSON_STRING) && nigh_str_eq(v->text, nigh_str_of(text));
}

int64_t nigh_json_int(const nigh_json *object, const char *key, int64_t otherwise) {
    const nigh_json *v = nigh_json_get(object, nigh_str_of(key));
    return v && v->is_int ? v->integer : otherwise;
}

uint64_t nigh_json_count(const nigh_json *object, const char *key) {
    int64_t n = nigh_json_int(object, key, 0);
    return n > 0 ? (uint64_t)n : 0;
}

bool nigh_json_true(const nigh_json *object, const char *key) {
    const nigh_json *v = nigh_json_get(object, nigh_str_of(key));
    return nigh_json_is(v, NIGH_JSON_BOOL) && v->boolean;
}

/* ---- writing ---- */
static nigh_status add_letter(nigh_buf *b, nigh_str text, size_t *at) {
    static const char escaped[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    uint32_t letter;
    size_t n = nigh_utf8_read(text, *at, &letter);
    *at += n ? n : 1;
    if (n == 0) return nigh_buf_add(b, NIGH_STR("\xef\xbf\xbd"));
    const char *hit = letter && letter < 0x80 ? memchr(escaped, (int)letter, sizeof escaped - 1) : NULL;
    if (hit) return nigh_buf_addf(b, "\\%c", names[hit - escaped]);
    if (letter < 0x20) return nigh_buf_addf(b, "\\u%04x", (unsigned)letter);
    return nigh_buf_add(b, nigh_str_slice(text, *at - n, *at));
}

nigh_status nigh_json_add_string(nigh_buf *b, nigh_str text) {
    size_t before = b->len, at = 0;
    nigh_status status = nigh_buf_add_char(b, '"');
    while (status == NIGH_OK && at < text.len) {
        size_t plain = at;
        while (plain < text.len && text.ptr[plain] >= 0x20 && text.ptr[plain] < 0x7f && text.ptr[plain] != '"'
               && text.ptr[plain] != '\\')
            plain++;
        status = nigh_buf_add(b, nigh_str_slice(text, at, plain));
        at = plain;
        if (status == NIGH_OK && at < text.len) status = add_letter(b, text, &at);
    }
    if (status == NIGH_OK) status = nigh_buf_add_char(b, '"');
    if (status != NIGH_OK) b->len = before;
    return status;
}

static nigh_status add_head(nigh_buf *b, const nigh_json *v, bool member) {
    if (member) {
        NIGH_TRY(nigh_json_add_string(b, v->key));
        NIGH_TRY(nigh_buf_add_char(b, ':'));
    }
    switch (v->type) {
    case NIGH_JSON_NULL: return nigh_buf_add(b, NIGH_STR("null"));
    case NIGH_JSON_BOOL: return nigh_buf_add(b, v->boolean ? NIGH_STR("true") : NIGH_STR("false"));
    case NIGH_JSON_NUMBER: return nigh_buf_add(b, v->text);
    case NIGH_JSON_STRING: return nigh_json_add_string(b, v->text);
    case NIGH_JSON_ARRAY: return nigh_buf_add_char(b, '[');
    case NIGH_JSON_OBJECT: return nigh_buf_add_char(b, '{');
    }
    return NIGH_EINVAL;
}

static nigh_status add_tree(nigh_buf *b, const nigh_json *root) {
    const nigh_json *stack[NIGH_JSON_DEPTH_MAX], *v = root;
    size_t depth = 0;
    for (;;) {
        NIGH_TRY(add_head(b, v, depth > 0 && stack[depth - 1]->type == NIGH_JSON_OBJECT));
        if (v->type >= NIGH_JSON_ARRAY) {
            if (depth == NIGH_JSON_DEPTH_MAX) return NIGH_ERANGE;
            stack[depth++] = v;
            if (v->first) { v = v->first; continue; }
            v = NULL;
        } else v = depth ? v->next : NULL;
        for (; depth && !v; depth--) {
            NIGH_TRY(nigh_buf_add_char(b, stack[depth - 1]->type == NIGH_JSON_OBJECT ? '}' : ']'));
            v = depth > 1 ? stack[depth - 1]->next : NULL;
        }
        if (!v) return NIGH_OK;
        NIGH_TRY(nigh_buf_add_char(b, ','));
    }
}

nigh_status nigh_json_add_value(nigh_buf *b, const nigh_json *v) {
    size_t before = b->len;
    nigh_status status = add_tree(b, v);
    if (status != NIGH_OK) b->len = before;
    return status;
}
