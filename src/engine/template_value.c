/* template_value.c - the values of a rendering: memory, text with marks, lists, dictionaries, JSON in and out,
 * printing.
 *
 * All memory of a rendering is one pool of chunks that only grows, up to NIGH_TEMPLATE_MEMORY_MAX; text that is being
 * put together lies in a sink (two growing buffers) and is copied into the pool when it is done. Every copy and
 * comparison is paid for in steps, so that a million steps bound the time. Walks into nested values carry their
 * depth. */
#include "engine/template_ast.h"
#include "base/utf8.h"

struct nigh_tchunk { nigh_tchunk *next; };

enum { CHUNK_BYTES = 16 << 10, CHUNK_BYTES_MAX = 1 << 20, ALIGN = 8 };

void *nigh_tpool_take(nigh_tpool *p, size_t size, size_t count) {
    size_t bytes;
    if (!nigh_mul(size, count, &bytes) || bytes > p->limit) return NULL;
    bytes = nigh_round_up(bytes ? bytes : 1, ALIGN);
    if (!p->at || bytes > (size_t)(p->end - p->at)) {
        size_t want = nigh_max(nigh_min(nigh_max(CHUNK_BYTES, p->used), CHUNK_BYTES_MAX), bytes + sizeof(nigh_tchunk));
        if (want > p->limit - p->used) want = bytes + sizeof(nigh_tchunk);
        if (want > p->limit - p->used) return NULL;
        nigh_tchunk *chunk = nigh_alloc(1, want);
        if (!chunk) return NULL;
        chunk->next = p->chunks;
        p->chunks = chunk;
        p->used += want;
        p->at = (uint8_t *)(chunk + 1);
        p->end = (uint8_t *)chunk + want;
    }
    void *block = p->at;
    p->at += bytes;
    return block;
}

void nigh_tpool_release(nigh_tpool *p) {
    for (nigh_tchunk *c = p->chunks, *next; c; c = next) {
        next = c->next;
        nigh_free(c);
    }
    *p = (nigh_tpool){ .limit = p->limit };
}

/* ---- the budget of a rendering ---- */
nigh_status nigh_trun_fail(nigh_trun *r, nigh_status code, const char *fmt, ...) {
    char text[sizeof r->err->text];
    va_list args;
    va_start(args, fmt);
    nigh_vformat(text, sizeof text, fmt, args);
    va_end(args);
    return nigh_template_fail(r->t->source, r->err, code, r->at, "%s", text);
}

nigh_status nigh_trun_spend(nigh_trun *r, size_t bytes) {
    size_t cost = 1 + bytes / 32;
    if (cost > r->steps)
        return nigh_trun_fail(r, NIGH_ERANGE, "the template takes more than %d steps", NIGH_TEMPLATE_STEPS_MAX);
    r->steps -= cost;
    return NIGH_OK;
}

nigh_status nigh_trun_take(nigh_trun *r, size_t size, size_t count, void *out) {
    size_t bytes;
    if (!nigh_mul(size, count, &bytes)) bytes = SIZE_MAX;
    NIGH_TRY(nigh_trun_spend(r, bytes));
    void *block = nigh_tpool_take(&r->pool, size, count);
    memcpy(out, &block, sizeof block);
    if (block) return NIGH_OK;
    if (bytes < r->pool.limit && r->pool.used + bytes + CHUNK_BYTES < r->pool.limit)
        return nigh_trun_fail(r, NIGH_ENOMEM, "not enough memory");
    return nigh_trun_fail(r, NIGH_ERANGE, "the template's values take more than %d bytes", NIGH_TEMPLATE_MEMORY_MAX);
}

/* ---- sinks ---- */
nigh_tsink nigh_tsink_of(size_t limit) { return (nigh_tsink){ NIGH_BUF(limit), NIGH_BUF(limit) }; }

void nigh_tsink_release(nigh_tsink *s) {
    nigh_buf_release(&s->text);
    nigh_buf_release(&s->marks);
}

static nigh_status sink_failed(nigh_trun *r, nigh_status status) {
    if (status == NIGH_ERANGE)
        return nigh_trun_fail(r, status, "the text is longer than %d bytes", NIGH_TEMPLATE_OUTPUT_MAX);
    return nigh_trun_fail(r, status, "not enough memory");
}

nigh_status nigh_tsink_add(nigh_trun *r, nigh_tsink *s, const nigh_tval *v) {
    NIGH_TRY(nigh_trun_spend(r, v->len));
    if (v->len == 0) return NIGH_OK;
    nigh_status status = nigh_buf_reserve(&s->marks, v->len);
    if (status == NIGH_OK) status = nigh_buf_add(&s->text, nigh_tval_str(v));
    if (status != NIGH_OK) return sink_failed(r, status);
    if (v->marks) memcpy(s->marks.ptr + s->marks.len, v->marks, v->len);
    else memset(s->marks.ptr + s->marks.len, v->user, v->len);
    s->marks.len += v->len;
    return NIGH_OK;
}

nigh_status nigh_tsink_add_str(nigh_trun *r, nigh_tsink *s, nigh_str text, bool user) {
    nigh_tval v = nigh_tval_text(text, user);
    return nigh_tsink_add(r, s, &v);
}

nigh_status nigh_tsink_take(nigh_trun *r, nigh_tsink *s, nigh_tval *out) {
    size_t len = s->text.len;
    char *text = NULL;
    uint8_t *marks = NULL;
    bool plain = len && memchr(s->marks.ptr, 0, len), user = len && memchr(s->marks.ptr, 1, len);
    nigh_status status = len ? nigh_trun_take(r, 1, len, &text) : NIGH_OK;
    if (status == NIGH_OK && plain && user) status = nigh_trun_take(r, 1, len, &marks);
    if (status == NIGH_OK) {
        if (len) memcpy(text, s->text.ptr, len);
        if (marks) memcpy(marks, s->marks.ptr, len);
        *out = nigh_tval_text((nigh_str){ text, len }, user);
        out->marks = marks;
    }
    nigh_tsink_release(s);
    return status;
}

/* ---- plain values ---- */
nigh_tval nigh_tval_text(nigh_str s, bool user) {
    return (nigh_tval){ .kind = TV_TEXT, .user = user, .len = (uint32_t)s.len, .as.text = s.len ? s.ptr : "" };
}

nigh_tval nigh_tval_slice(const nigh_tval *v, size_t begin, size_t end) {
    nigh_tval part = *v;
    end = nigh_min(end, v->len);
    begin = nigh_min(begin, end);
    part.as.text += begin;
    if (part.marks) part.marks += begin;
    part.len = (uint32_t)(end - begin);
    return part;
}

double nigh_tval_to_real(const nigh_tval *v) {
    return v->kind == TV_FLOAT ? v->as.real : v->kind == TV_INT ? (double)v->as.integer : v->as.boolean ? 1.0 : 0.0;
}

int64_t nigh_tval_to_int(const nigh_tval *v) { return v->kind == TV_INT ? v->as.integer : v->as.boolean ? 1 : 0; }

bool nigh_tval_true(const nigh_tval *v) {
    switch (v->kind) {
    case TV_UNDEF: case TV_NONE: return false;
    case TV_BOOL: return v->as.boolean;
    case TV_INT: return v->as.integer != 0;
    case TV_FLOAT: return v->as.real != 0;
    case TV_TEXT: return v->len > 0;
    case TV_LIST: return v->as.list->count > 0;
    case TV_DICT: return v->as.dict->count > 0;
    default: return true;
    }
}

const char *nigh_tval_kind(const nigh_tval *v) {
    static const char *const names[] = { "an undefined value", "none", "a boolean", "a whole number", "a number",
        "a text", "a list", "a dictionary", "a namespace", "a loop", "a macro", "a function" };
    return names[v->kind];
}

/* ---- lists ---- */
nigh_status nigh_tlist_new(nigh_trun *r, size_t cap, bool user, nigh_tval *out) {
    nigh_tlist *list;
    NIGH_TRY(nigh_trun_take(r, sizeof *list, 1, &list));
    if (cap) NIGH_TRY(nigh_trun_take(r, sizeof *list->items, cap, &list->items));
    list->cap = cap;
    *out = (nigh_tval){ .kind = TV_LIST, .user = user, .as.list = list };
    return NIGH_OK;
}

nigh_status nigh_tlist_add(nigh_trun *r, nigh_tval *v, const nigh_tval *item) {
    nigh_tlist *list = v->as.list;
    if (list->count == list->cap) {
        nigh_tval *items;
        size_t cap = list->cap ? 2 * list->cap : 4;
        NIGH_TRY(nigh_trun_take(r, sizeof *items, cap, &items));
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->cap = cap;
    }
    list->items[list->count++] = *item;
    return NIGH_OK;
}

/* ---- dictionaries: in order of insertion, searched from the front ---- */
nigh_status nigh_tdict_new(nigh_trun *r, nigh_tkind kind, bool user, nigh_tval *out) {
    nigh_tdict *dict;
    NIGH_TRY(nigh_trun_take(r, sizeof *dict, 1, &dict));
    *out = (nigh_tval){ .kind = (uint8_t)kind, .user = user, .as.dict = dict };
    return NIGH_OK;
}

static nigh_status find_pair(nigh_trun *r, const nigh_tval *v, const nigh_tval *key, nigh_tpair **out) {
    const nigh_tdict *dict = v->as.dict;
    *out = NULL;
    for (size_t i = 0; i < dict->count; i++) {
        const nigh_tval *k = &dict->pairs[i].key;
        bool same;
        if (i % 8 == 7) NIGH_TRY(nigh_trun_spend(r, 0));
        if (key->kind == TV_TEXT && k->kind == TV_TEXT) {
            if (k->len != key->len) continue;
            if (k->len > 64) NIGH_TRY(nigh_trun_spend(r, k->len));
            same = nigh_str_eq(nigh_tval_str(k), nigh_tval_str(key));
        } else if ((key->kind == TV_TEXT) != (k->kind == TV_TEXT)) continue;
        else NIGH_TRY(nigh_tval_equal(r, k, key, &same));
        if (same) { *out = &dict->pairs[i]; return NIGH_OK; }
    }
    return NIGH_OK;
}

nigh_status nigh_tdict_set(nigh_trun *r, nigh_tval *v, const nigh_tval *key, const nigh_tval *value) {
    nigh_tdict *dict = v->as.dict;
    nigh_tpair *pair;
    if (key->kind >= TV_LIST || key->kind == TV_UNDEF)
        return nigh_trun_fail(r, NIGH_EINVAL, "%s cannot be a key", nigh_tval_kind(key));
    NIGH_TRY(find_pair(r, v, key, &pair));
    if (pair) { pair->value = *value; return NIGH_OK; }
    if (dict->count == dict->cap) {
        nigh_tpair *pairs;
        size_t cap = dict->cap ? 2 * dict->cap : 4;
        NIGH_TRY(nigh_trun_take(r, sizeof *pairs, cap, &pairs));
        if (dict->count) memcpy(pairs, dict->pairs, dict->count * sizeof *pairs);
        dict->pairs = pairs;
        dict->cap = cap;
    }
    dict->pairs[dict->count++] = (nigh_tpair){ *key, *value };
    return NIGH_OK;
}

nigh_status nigh_tdict_get(nigh_trun *r, const nigh_tval *dict, const nigh_tval *key, const nigh_tval **out) {
    nigh_tpair *pair;
    NIGH_TRY(find_pair(r, dict, key, &pair));
    *out = pair ? &pair->value : NULL;
    return NIGH_OK;
}

nigh_status nigh_tdict_get_str(nigh_trun *r, const nigh_tval *dict, nigh_str key, const nigh_tval **out) {
    nigh_tval k = nigh_tval_text(key, false);
    return nigh_tdict_get(r, dict, &k, out);
}

/* ---- JSON in: one walk with a stack of the open containers ---- */
static bool is_word(const nigh_trun *r, const nigh_json *j) {
    if (!r->in->word_count || !nigh_str_eq(j->key, r->in->word_key)) return false;
    for (size_t i = 0; i < r->in->word_count; i++) if (nigh_str_eq(j->text, r->in->words[i])) return true;
    return false;
}

static nigh_status json_head(nigh_trun *r, const nigh_json *j, bool user, nigh_tval *out) {
    *out = (nigh_tval){ .kind = TV_NONE, .user = user };
    switch (j->type) {
    case NIGH_JSON_NULL: break;
    case NIGH_JSON_BOOL: *out = nigh_tval_bool(j->boolean, user); break;
    case NIGH_JSON_NUMBER: *out = j->is_int ? nigh_tval_int(j->integer, user) : nigh_tval_real(j->number, user); break;
    case NIGH_JSON_STRING: *out = nigh_tval_text(j->text, user && !is_word(r, j)); break;
    case NIGH_JSON_ARRAY: return nigh_tlist_new(r, j->count, user, out);
    case NIGH_JSON_OBJECT:
        NIGH_TRY(nigh_tdict_new(r, TV_DICT, user, out));
        out->as.dict->cap = j->count;
        if (j->count) NIGH_TRY(nigh_trun_take(r, sizeof(nigh_tpair), j->count, &out->as.dict->pairs));
        break;
    }
    return NIGH_OK;
}

/* Puts a value where its parent keeps it; keys of one object are known to differ. */
static nigh_tval *json_place(const nigh_tval *parent, const nigh_json *j, bool user, const nigh_tval *v) {
    if (parent->kind == TV_LIST) {
        parent->as.list->items[parent->as.list->count++] = *v;
        return &parent->as.list->items[parent->as.list->count - 1];
    }
    nigh_tpair *pair = &parent->as.dict->pairs[parent->as.dict->count++];
    *pair = (nigh_tpair){ nigh_tval_text(j->key, user), *v };
    return &pair->value;
}

nigh_status nigh_tval_of_json(nigh_trun *r, const nigh_json *root, bool user, nigh_tval *out) {
    struct { const nigh_json *json; nigh_tval value; } stack[NIGH_JSON_DEPTH_MAX];
    size_t depth = 0;
    for (const nigh_json *j = root; j;) {
        nigh_tval v;
        NIGH_TRY(nigh_trun_spend(r, 0));
        NIGH_TRY(json_head(r, j, user, &v));
        if (depth) json_place(&stack[depth - 1].value, j, user, &v);
        else *out = v;
        if (j->first) {
            if (depth == NIGH_JSON_DEPTH_MAX)
                return nigh_trun_fail(r, NIGH_ERANGE, "a value is nested deeper than %d", NIGH_JSON_DEPTH_MAX);
            stack[depth].json = j;
            stack[depth++].value = v;
            j = j->first;
            continue;
        }
        while (depth && !j->next) j = stack[--depth].json;
        j = depth ? j->next : NULL;
    }
    return NIGH_OK;
}

/* ---- comparing ---- */
static nigh_status equal(nigh_trun *r, const nigh_tval *a, const nigh_tval *b, size_t depth, bool *out);

static nigh_status equal_dicts(nigh_trun *r, const nigh_tval *a, const nigh_tval *b, size_t depth, bool *out) {
    const nigh_tdict *x = a->as.dict;
    *out = x->count == b->as.dict->count;
    for (size_t i = 0; *out && i < x->count; i++) {
        const nigh_tval *other;
        NIGH_TRY(nigh_tdict_get(r, b, &x->pairs[i].key, &other));
        if (!other) { *out = false; return NIGH_OK; }
        NIGH_TRY(equal(r, &x->pairs[i].value, other, depth + 1, out));
    }
    return NIGH_OK;
}

static nigh_status equal(nigh_trun *r, const nigh_tval *a, const nigh_tval *b, size_t depth, bool *out) {
    NIGH_TRY(nigh_trun_spend(r, 0));
    if (depth > NIGH_TEMPLATE_DEPTH_MAX)
        return nigh_trun_fail(r, NIGH_ERANGE, "values nested deeper than %d", NIGH_TEMPLATE_DEPTH_MAX);
    *out = false;
    if (nigh_tval_number(a) && nigh_tval_number(b)) {
        bool real = a->kind == TV_FLOAT || b->kind == TV_FLOAT;
        *out = real ? nigh_tval_to_real(a) == nigh_tval_to_real(b) : nigh_tval_to_int(a) == nigh_tval_to_int(b);
        return NIGH_OK;
    }
    if (a->kind != b->kind) return NIGH_OK;
    switch (a->kind) {
    case TV_UNDEF: case TV_NONE: *out = true; return NIGH_OK;
    case TV_TEXT:
        if (a->len != b->len) return NIGH_OK;
        *out = nigh_str_eq(nigh_tval_str(a), nigh_tval_str(b));
        return nigh_trun_spend(r, a->len);
    case TV_LIST:
        *out = a->as.list->count == b->as.list->count;
        for (size_t i = 0; *out && i < a->as.list->count; i++)
            NIGH_TRY(equal(r, &a->as.list->items[i], &b->as.list->items[i], depth + 1, out));
        return NIGH_OK;
    case TV_DICT: return equal_dicts(r, a, b, depth, out);
    case TV_FUNC: *out = a->as.func == b->as.func; return NIGH_OK;
    default: *out = (const void *)a->as.dict == (const void *)b->as.dict; return NIGH_OK;
    }
}

nigh_status nigh_tval_equal(nigh_trun *r, const nigh_tval *a, const nigh_tval *b, bool *out) {
    return equal(r, a, b, 0, out);
}

nigh_status nigh_tval_order(nigh_trun *r, const nigh_tval *a, const nigh_tval *b, bool fold, int *out) {
    if (nigh_tval_number(a) && nigh_tval_number(b)) {
        bool real = a->kind == TV_FLOAT || b->kind == TV_FLOAT;
        double x = nigh_tval_to_real(a), y = nigh_tval_to_real(b);
        int64_t i = real ? 0 : nigh_tval_to_int(a), k = real ? 0 : nigh_tval_to_int(b);
        *out = real ? (x > y) - (x < y) : (i > k) - (i < k);
        return NIGH_OK;
    }
    if (a->kind != TV_TEXT || b->kind != TV_TEXT)
        return nigh_trun_fail(r, NIGH_EINVAL, "%s and %s have no order", nigh_tval_kind(a), nigh_tval_kind(b));
    NIGH_TRY(nigh_trun_spend(r, nigh_min(a->len, b->len)));
    *out = 0;
    for (size_t i = 0; fold && *out == 0 && i < nigh_min(a->len, b->len); i++) {
        int x = (unsigned char)a->as.text[i], y = (unsigned char)b->as.text[i];
        if (x >= 'A' && x <= 'Z') x += 32;
        if (y >= 'A' && y <= 'Z') y += 32;
        *out = (x > y) - (x < y);
    }
    if (*out == 0)
        *out = fold ? (a->len > b->len) - (a->len < b->len) : nigh_str_cmp(nigh_tval_str(a), nigh_tval_str(b));
    return NIGH_OK;
}

/* Paid for as it may cost at worst: the needle is compared at every place. */
nigh_status nigh_ttext_find(nigh_trun *r, const nigh_tval *text, const nigh_tval *needle, size_t from, size_t *out) {
    *out = nigh_str_find(nigh_tval_str(text), nigh_tval_str(needle), from);
    size_t seen = nigh_min(*out, text->len) - nigh_min(from, text->len);
    return nigh_trun_spend(r, seen * (1 + needle->len / 32));
}

nigh_status nigh_tval_contains(nigh_trun *r, const nigh_tval *box, const nigh_tval *item, bool *out) {
    const nigh_tval *hit;
    size_t place;
    *out = false;
    switch (box->kind) {
    case TV_TEXT:
        if (item->kind != TV_TEXT)
            return nigh_trun_fail(r, NIGH_EINVAL, "a text cannot contain %s", nigh_tval_kind(item));
        NIGH_TRY(nigh_ttext_find(r, box, item, 0, &place));
        *out = place != SIZE_MAX;
        return NIGH_OK;
    case TV_LIST:
        for (size_t i = 0; !*out && i < box->as.list->count; i++)
            NIGH_TRY(nigh_tval_equal(r, &box->as.list->items[i], item, out));
        return NIGH_OK;
    case TV_DICT: case TV_SPACE:
        NIGH_TRY(nigh_tdict_get(r, box, item, &hit));
        *out = hit != NULL;
        return NIGH_OK;
    case TV_UNDEF: return NIGH_OK;
    default: return nigh_trun_fail(r, NIGH_EINVAL, "%s contains nothing", nigh_tval_kind(box));
    }
}

/* ---- parts of values ---- */
static size_t letter_bytes(nigh_str s, size_t at) {
    uint32_t letter;
    size_t n = nigh_utf8_read(s, at, &letter);
    return n ? n : 1;
}

size_t nigh_ttext_place(const nigh_tval *v, size_t at, size_t letters) {
    for (; letters && at < v->len; letters--) at += letter_bytes(nigh_tval_str(v), at);
    return at;
}

nigh_status nigh_tval_items(nigh_trun *r, const nigh_tval *v, nigh_tval *out) {
    if (v->kind == TV_LIST) { *out = *v; return NIGH_OK; }
    NIGH_TRY(nigh_tlist_new(r, v->kind == TV_DICT ? v->as.dict->count : 0, v->user, out));
    if (v->kind == TV_UNDEF) return NIGH_OK;
    if (v->kind == TV_DICT) {
        for (size_t i = 0; i < v->as.dict->count; i++) NIGH_TRY(nigh_tlist_add(r, out, &v->as.dict->pairs[i].key));
        return NIGH_OK;
    }
    if (v->kind != TV_TEXT) return nigh_trun_fail(r, NIGH_EINVAL, "%s has no items", nigh_tval_kind(v));
    for (size_t i = 0, n; i < v->len; i += n) {
        n = letter_bytes(nigh_tval_str(v), i);
        nigh_tval letter = nigh_tval_slice(v, i, i + n);
        NIGH_TRY(nigh_tlist_add(r, out, &letter));
    }
    return NIGH_OK;
}

nigh_status nigh_tval_count(nigh_trun *r, const nigh_tval *v, size_t *out) {
    *out = 0;
    switch (v->kind) {
    case TV_UNDEF: return NIGH_OK;
    case TV_LIST: *out = v->as.list->count; return NIGH_OK;
    case TV_DICT: *out = v->as.dict->count; return NIGH_OK;
    case TV_TEXT:
        for (size_t i = 0; i < v->len; ++*out) i += letter_bytes(nigh_tval_str(v), i);
        return nigh_trun_spend(r, v->len);
    default: return nigh_trun_fail(r, NIGH_EINVAL, "%s has no length", nigh_tval_kind(v));
    }
}

static bool loop_attr(const nigh_tloop *loop, nigh_str name, nigh_tval *out) {
    int64_t count = (int64_t)loop->items->count, idx = (int64_t)loop->idx;
    if (nigh_str_eq(name, NIGH_STR("index"))) *out = nigh_tval_int(idx + 1, false);
    else if (nigh_str_eq(name, NIGH_STR("index0"))) *out = nigh_tval_int(idx, false);
    else if (nigh_str_eq(name, NIGH_STR("revindex"))) *out = nigh_tval_int(count - idx, false);
    else if (nigh_str_eq(name, NIGH_STR("revindex0"))) *out = nigh_tval_int(count - idx - 1, false);
    else if (nigh_str_eq(name, NIGH_STR("first"))) *out = nigh_tval_bool(idx == 0, false);
    else if (nigh_str_eq(name, NIGH_STR("last"))) *out = nigh_tval_bool(idx + 1 == count, false);
    else if (nigh_str_eq(name, NIGH_STR("length"))) *out = nigh_tval_int(count, false);
    else if (nigh_str_eq(name, NIGH_STR("previtem"))) *out = idx > 0 ? loop->items->items[idx - 1] : (nigh_tval){ 0 };
    else if (nigh_str_eq(name, NIGH_STR("nextitem")))
        *out = idx + 1 < count ? loop->items->items[idx + 1] : (nigh_tval){ 0 };
    else return false;
    return true;
}

nigh_status nigh_tval_attr(nigh_trun *r, const nigh_tval *v, nigh_str name, nigh_tval *out) {
    const nigh_tval *hit = NULL;
    int len = (int)nigh_min(name.len, 60);
    *out = (nigh_tval){ 0 };
    if (nigh_str_starts(name, NIGH_STR("__")))
        return nigh_trun_fail(r, NIGH_ENOSUP, "the attribute '%.*s' does not exist here", len, name.ptr);
    if (v->kind == TV_UNDEF) return nigh_trun_fail(r, NIGH_EINVAL, "an undefined value has no '%.*s'", len, name.ptr);
    if (v->kind == TV_DICT || v->kind == TV_SPACE) NIGH_TRY(nigh_tdict_get_str(r, v, name, &hit));
    if (hit) *out = *hit;
    if (v->kind == TV_LOOP && !loop_attr(v->as.loop, name, out))
        return nigh_trun_fail(r, NIGH_ENOSUP, "unknown 'loop.%.*s'", len, name.ptr);
    return NIGH_OK;
}

nigh_status nigh_tval_index(nigh_trun *r, const nigh_tval *v, const nigh_tval *key, nigh_tval *out) {
    const nigh_tval *hit = NULL;
    *out = (nigh_tval){ 0 };
    if (v->kind == TV_UNDEF) return nigh_trun_fail(r, NIGH_EINVAL, "an undefined value has no items");
    if (v->kind == TV_DICT || v->kind == TV_SPACE) {
        NIGH_TRY(nigh_tdict_get(r, v, key, &hit));
        if (hit) *out = *hit;
        return NIGH_OK;
    }
    if (key->kind == TV_TEXT) return nigh_tval_attr(r, v, nigh_tval_str(key), out);
    if (v->kind != TV_LIST && v->kind != TV_TEXT) return NIGH_OK;
    if (key->kind != TV_INT)
        return nigh_trun_fail(r, NIGH_EINVAL, "%s is no place in %s", nigh_tval_kind(key), nigh_tval_kind(v));
    size_t count;
    NIGH_TRY(nigh_tval_count(r, v, &count));
    int64_t i = key->as.integer;
    if (i < 0) i += (int64_t)count;
    if (i < 0 || i >= (int64_t)count) return NIGH_OK;
    if (v->kind == TV_LIST) { *out = v->as.list->items[i]; return NIGH_OK; }
    size_t at = nigh_ttext_place(v, 0, (size_t)i);
    *out = nigh_tval_slice(v, at, nigh_ttext_place(v, at, 1));
    return nigh_trun_spend(r, at);
}

/* ---- printing ---- */
static nigh_status add_real(nigh_trun *r, nigh_tsink *s, double v, bool user) { /* as Python: 1.0, 1e-07 */
    nigh_buf digits = NIGH_BUF(64), text = NIGH_BUF(64);
    if (v - v != 0)
        return nigh_tsink_add_str(r, s, v != v ? NIGH_STR("nan") : v > 0 ? NIGH_STR("inf") : NIGH_STR("-inf"), user);
    nigh_status status = nigh_json_add_f64(&digits, v);
    if (status != NIGH_OK) return sink_failed(r, status);
    nigh_str d = nigh_buf_str(&digits);
    size_t e = nigh_str_find(d, NIGH_STR("e"), 0);
    int64_t power = 0;
    if (e != SIZE_MAX && nigh_str_to_i64(nigh_str_slice(d, e + 1, d.len), &power)) {
        status = nigh_buf_addf(
            &text, "%.*se%c%02d", (int)e, d.ptr, power < 0 ? '-' : '+', (int)(power < 0 ? -power : power));
    } else
        status = nigh_buf_addf(
            &text, "%.*s%s", (int)d.len, d.ptr, nigh_str_find(d, NIGH_STR("."), 0) == SIZE_MAX ? ".0" : "");
    status = status == NIGH_OK ? nigh_tsink_add_str(r, s, nigh_buf_str(&text), user) : sink_failed(r, status);
    nigh_buf_release(&digits);
    nigh_buf_release(&text);
    return status;
}

static nigh_status add_scalar(nigh_trun *r, nigh_tsink *s, const nigh_tval *v, bool json) {
    char digits[24];
    switch (v->kind) {
    case TV_UNDEF: return json ? nigh_trun_fail(r, NIGH_EINVAL, "an undefined value has no JSON") : NIGH_OK;
    case TV_NONE: return nigh_tsink_add_str(r, s, json ? NIGH_STR("null") : NIGH_STR("None"), v->user);
    case TV_BOOL:
        if (json) return nigh_tsink_add_str(r, s, v->as.boolean ? NIGH_STR("true") : NIGH_STR("false"), v->user);
        return nigh_tsink_add_str(r, s, v->as.boolean ? NIGH_STR("True") : NIGH_STR("False"), v->user);
    case TV_INT:
        return nigh_tsink_add_str(r, s,
            (nigh_str){ digits, nigh_format(digits, sizeof digits, "%lld", (long long)v->as.integer) }, v->user);
    case TV_FLOAT: return add_real(r, s, v->as.real, v->user);
    default: return nigh_trun_fail(r, NIGH_EINVAL, "%s cannot be shown as text", nigh_tval_kind(v));
    }
}

/* A text inside a list, as Python shows it: 'a', or "it's". */
static nigh_status add_quoted(nigh_trun *r, nigh_tsink *s, const nigh_tval *v) {
    nigh_str text = nigh_tval_str(v);
    bool single = nigh_str_find(text, NIGH_STR("'"), 0) != SIZE_MAX,
         twice = nigh_str_find(text, NIGH_STR("\""), 0) != SIZE_MAX;
    char quote = single && !twice ? '"' : '\'', code[8];
    bool user = v->user;
    NIGH_TRY(nigh_tsink_add_str(r, s, (nigh_str){ &quote, 1 }, user));
    for (size_t i = 0, plain; i < text.len; i = plain + 1) {
        for (plain = i; plain < text.len; plain++) {
            unsigned char c = (unsigned char)text.ptr[plain];
            if (c < 0x20 || c == 0x7f || c == '\\' || c == (unsigned char)quote) break;
        }
        nigh_tval part = nigh_tval_slice(v, i, plain);
        NIGH_TRY(nigh_tsink_add(r, s, &part));
        if (plain == text.len) break;
        char c = text.ptr[plain];
        if (c == '\n' || c == '\t' || c == '\r')
            nigh_format(code, sizeof code, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        else if (c == '\\' || c == quote) nigh_format(code, sizeof code, "\\%c", c);
        else nigh_format(code, sizeof code, "\\x%02x", (unsigned)(unsigned char)c);
        NIGH_TRY(nigh_tsink_add_str(r, s, nigh_str_of(code), user));
    }
    return nigh_tsink_add_str(r, s, (nigh_str){ &quote, 1 }, user);
}

static nigh_status add_repr(nigh_trun *r, nigh_tsink *s, const nigh_tval *v, size_t depth) {
    NIGH_TRY(nigh_trun_spend(r, 0));
    if (depth > NIGH_TEMPLATE_DEPTH_MAX)
        return nigh_trun_fail(r, NIGH_ERANGE, "values nested deeper than %d", NIGH_TEMPLATE_DEPTH_MAX);
    if (v->kind == TV_TEXT) return add_quoted(r, s, v);
    if (v->kind == TV_LIST) {
        NIGH_TRY(nigh_tsink_add_str(r, s, NIGH_STR("["), v->user));
        for (size_t i = 0; i < v->as.list->count; i++) {
            if (i) NIGH_TRY(nigh_tsink_add_str(r, s, NIGH_STR(", "), v->user));
            NIGH_TRY(add_repr(r, s, &v->as.list->items[i], depth + 1));
        }
        return nigh_tsink_add_str(r, s, NIGH_STR("]"), v->user);
    }
    if (v->kind != TV_DICT) return add_scalar(r, s, v, false);
    NIGH_TRY(nigh_tsink_add_str(r, s, NIGH_STR("{"), v->user));
    for (size_t i = 0; i < v->as.dict->count; i++) {
        if (i) NIGH_TRY(nigh_tsink_add_str(r, s, NIGH_STR(", "), v->user));
        NIGH_TRY(add_repr(r, s, &v->as.dict->pairs[i].key, depth + 1));
        NIGH_TRY(nigh_tsink_add_str(r, s, NIGH_STR(": "), v->user));
        NIGH_TRY(add_repr(r, s, &v->as.dict->pairs[i].value, depth + 1));
    }
    return nigh_tsink_add_str(r, s, NIGH_STR("}"), v->user);
}

nigh_status nigh_tval_print(nigh_trun *r, nigh_tsink *s, const nigh_tval *v) {
    return v->kind == TV_TEXT ? nigh_tsink_add(r, s, v) : add_repr(r, s, v, 0);
}

nigh_status nigh_tval_to_text(nigh_trun *r, const nigh_tval *v, nigh_tval *out) {
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    if (v->kind == TV_TEXT) { *out = *v; return NIGH_OK; }
    nigh_status status = nigh_tval_print(r, &s, v);
    if (status == NIGH_OK) return nigh_tsink_take(r, &s, out);
    nigh_tsink_release(&s);
    return status;
}

/* ---- JSON out ---- */
typedef struct { nigh_trun *r; nigh_tsink *s; const nigh_tjson_opts *o; } json_writer;

/* \u00e9, or two of them beyond U+FFFF. */
static nigh_status add_escaped(const json_writer *w, uint32_t letter, bool user) {
    char code[16];
    if (letter < 0x10000) nigh_format(code, sizeof code, "\\u%04x", (unsigned)letter);
    else
        nigh_format(code, sizeof code, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (letter >> 10)),
            (unsigned)(0xdc00 | (letter & 0x3ff)));
    return nigh_tsink_add_str(w->r, w->s, nigh_str_of(code), user);
}

static nigh_status json_text(const json_writer *w, const nigh_tval *v) {
    static const char escaped[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    nigh_str text = nigh_tval_str(v);
    bool user = v->user;
    NIGH_TRY(nigh_tsink_add_str(w->r, w->s, NIGH_STR("\""), user));
    for (size_t i = 0; i < text.len;) {
        size_t plain = i;
        while (plain < text.len && (unsigned char)text.ptr[plain] >= 0x20 && text.ptr[plain] != '"' &&
               text.ptr[plain] != '\\' && (!w->o->ascii || (unsigned char)text.ptr[plain] < 0x7f))
            plain++;
        nigh_tval part = nigh_tval_slice(v, i, plain);
        NIGH_TRY(nigh_tsink_add(w->r, w->s, &part));
        if ((i = plain) == text.len) break;
        uint32_t letter;
        size_t n = nigh_utf8_read(text, i, &letter);
        const char *hit = letter < 0x80 && letter ? memchr(escaped, (int)letter, sizeof escaped - 1) : NULL;
        if (hit) {
            char pair[2] = { '\\', names[hit - escaped] };
            NIGH_TRY(nigh_tsink_add_str(w->r, w->s, (nigh_str){ pair, 2 }, user));
        } else NIGH_TRY(add_escaped(w, letter, user));
        i += n ? n : 1;
    }
    return nigh_tsink_add_str(w->r, w->s, NIGH_STR("\""), user);
}

static nigh_status json_break(const json_writer *w, size_t depth, bool user) {
    static const char spaces[] = "                                ";
    if (w->o->indent < 0) return NIGH_OK;
    NIGH_TRY(nigh_tsink_add_str(w->r, w->s, NIGH_STR("\n"), user));
    for (size_t left = depth * (size_t)w->o->indent, n; left; left -= n) {
        n = nigh_min(left, sizeof spaces - 1);
        NIGH_TRY(nigh_tsink_add_str(w->r, w->s, (nigh_str){ spaces, n }, user));
    }
    return NIGH_OK;
}

static nigh_status json_value(const json_writer *w, const nigh_tval *v, size_t depth);

static nigh_status json_key(const json_writer *w, const nigh_tval *key) {
    nigh_tval text;
    if (key->kind == TV_TEXT) return json_text(w, key);
    NIGH_TRY(nigh_tval_to_text(w->r, key, &text));
    return json_text(w, &text);
}

static nigh_status json_dict(const json_writer *w, const nigh_tval *v, size_t depth) {
    const nigh_tdict *dict = v->as.dict;
    if (!dict->count) return nigh_tsink_add_str(w->r, w->s, NIGH_STR("{}"), v->user);
    NIGH_TRY(nigh_tsink_add_str(w->r, w->s, NIGH_STR("{"), v->user));
    for (size_t i = 0; i < dict->count; i++) {
        if (i) NIGH_TRY(nigh_tsink_add_str(w->r, w->s, w->o->item_separator, v->user));
        NIGH_TRY(json_break(w, depth + 1, v->user));
        NIGH_TRY(json_key(w, &dict->pairs[i].key));
        NIGH_TRY(nigh_tsink_add_str(w->r, w->s, w->o->key_separator, v->user));
        NIGH_TRY(json_value(w, &dict->pairs[i].value, depth + 1));
    }
    NIGH_TRY(json_break(w, depth, v->user));
    return nigh_tsink_add_str(w->r, w->s, NIGH_STR("}"), v->user);
}

static nigh_status json_value(const json_writer *w, const nigh_tval *v, size_t depth) {
    NIGH_TRY(nigh_trun_spend(w->r, 0));
    if (depth > NIGH_TEMPLATE_DEPTH_MAX)
        return nigh_trun_fail(w->r, NIGH_ERANGE, "values nested deeper than %d", NIGH_TEMPLATE_DEPTH_MAX);
    if (v->kind == TV_TEXT) return json_text(w, v);
    if (v->kind == TV_DICT || v->kind == TV_SPACE) return json_dict(w, v, depth);
    if (v->kind != TV_LIST) return add_scalar(w->r, w->s, v, true);
    const nigh_tlist *list = v->as.list;
    if (!list->count) return nigh_tsink_add_str(w->r, w->s, NIGH_STR("[]"), v->user);
    NIGH_TRY(nigh_tsink_add_str(w->r, w->s, NIGH_STR("["), v->user));
    for (size_t i = 0; i < list->count; i++) {
        if (i) NIGH_TRY(nigh_tsink_add_str(w->r, w->s, w->o->item_separator, v->user));
        NIGH_TRY(json_break(w, depth + 1, v->user));
        NIGH_TRY(json_value(w, &list->items[i], depth + 1));
    }
    NIGH_TRY(json_break(w, depth, v->user));
    return nigh_tsink_add_str(w->r, w->s, NIGH_STR("]"), v->user);
}

nigh_status nigh_tval_to_json(nigh_trun *r, nigh_tsink *s, const nigh_tval *v, const nigh_tjson_opts *o) {
    return json_value(&(json_writer){ r, s, o }, v, 0);
}
