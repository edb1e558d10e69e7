/* template_filter.c - the filters and tests of templates, each a row in a table.
 * A filter takes the value on its left and arguments; what it makes from user text stays marked as user text. */
#include "engine/template_ast.h"

/* ---- arguments ---- */
const nigh_tval *nigh_targ(const nigh_targs *args, size_t idx, const char *name) {
    if (idx < args->count) return &args->at[idx];
    for (size_t i = 0; name && i < args->named_count; i++)
        if (nigh_str_eq(args->names[i], nigh_str_of(name))) return &args->named[i];
    return NULL;
}

static bool has_word(const char *words, nigh_str word) {
    nigh_str list = nigh_str_of(words);
    for (size_t begin = 0, end; begin < list.len; begin = end + 1) {
        end = nigh_min(nigh_str_find(list, NIGH_STR(" "), begin), list.len);
        if (nigh_str_eq(nigh_str_slice(list, begin, end), word)) return true;
    }
    return false;
}

nigh_status nigh_targs_check(
    nigh_trun *r, const nigh_targs *args, const char *what, size_t least, size_t most, const char *names) {
    for (size_t i = 0; i < args->named_count; i++) {
        if (names && has_word(names, args->names[i])) continue;
        return nigh_trun_fail(r, NIGH_ENOSUP, "'%s' has no argument '%.*s' here", what,
            (int)nigh_min(args->names[i].len, 60), args->names[i].ptr);
    }
    if (args->count > most)
        return nigh_trun_fail(r, NIGH_EINVAL, "'%s' takes at most %zu arguments, not %zu", what, most, args->count);
    if (args->count + args->named_count < least)
        return nigh_trun_fail(r, NIGH_EINVAL, "'%s' wants %zu arguments", what, least);
    return NIGH_OK;
}

static bool arg_true(const nigh_targs *args, size_t idx, const char *name, bool missing) {
    const nigh_tval *v = nigh_targ(args, idx, name);
    return v ? nigh_tval_true(v) : missing;
}

static nigh_status need_text(nigh_trun *r, const nigh_tval *v, const char *what) {
    return v && v->kind == TV_TEXT
               ? NIGH_OK
               : nigh_trun_fail(r, NIGH_EINVAL, "'%s' wants a text, not %s", what, v ? nigh_tval_kind(v) : "nothing");
}

/* ---- values ---- */
static nigh_status filter_default(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    (void)r;
    const nigh_tval *other = nigh_targ(args, 0, "default_value");
    bool missing = in->kind == TV_UNDEF || (arg_true(args, 1, "boolean", false) && !nigh_tval_true(in));
    *out = !missing ? *in : other ? *other : nigh_tval_text(NIGH_STR(""), false);
    return NIGH_OK;
}

static nigh_status filter_string(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return nigh_tval_to_text(r, in, out);
}

static nigh_status filter_length(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    size_t count;
    (void)args;
    NIGH_TRY(nigh_tval_count(r, in, &count));
    *out = nigh_tval_int((int64_t)count, in->user);
    return NIGH_OK;
}

static nigh_status filter_int(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *other = nigh_targ(args, 0, "default");
    int64_t i;
    double f;
    (void)r;
    *out = other ? *other : nigh_tval_int(0, false);
    if (nigh_tval_number(in) && in->kind != TV_FLOAT) *out = nigh_tval_int(nigh_tval_to_int(in), in->user);
    else if (in->kind == TV_FLOAT && in->as.real > -9e18 && in->as.real < 9e18)
        *out = nigh_tval_int((int64_t)in->as.real, in->user);
    else if (in->kind == TV_TEXT) {
        nigh_str s = nigh_str_trim(nigh_tval_str(in));
        if (nigh_str_to_i64(s, &i)) *out = nigh_tval_int(i, in->user);
        else if (nigh_str_to_f64(s, &f) && f > -9e18 && f < 9e18) *out = nigh_tval_int((int64_t)f, in->user);
    }
    return NIGH_OK;
}

static nigh_status filter_float(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *other = nigh_targ(args, 0, "default");
    double f;
    (void)r;
    *out = other ? *other : nigh_tval_real(0, false);
    if (nigh_tval_number(in)) *out = nigh_tval_real(nigh_tval_to_real(in), in->user);
    else if (in->kind == TV_TEXT && nigh_str_to_f64(nigh_str_trim(nigh_tval_str(in)), &f))
        *out = nigh_tval_real(f, in->user);
    return NIGH_OK;
}

static nigh_status filter_abs(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    if (!nigh_tval_number(in))
        return nigh_trun_fail(r, NIGH_EINVAL, "'abs' wants a number, not %s", nigh_tval_kind(in));
    *out = *in;
    if (in->kind == TV_FLOAT && in->as.real < 0) out->as.real = -in->as.real;
    if (in->kind == TV_INT && in->as.integer < 0 && in->as.integer != INT64_MIN) out->as.integer = -in->as.integer;
    return NIGH_OK;
}

static nigh_status filter_safe(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    (void)r;
    (void)args;
    *out = *in;     /* nothing is escaped here, so nothing has to be kept from it */
    return NIGH_OK;
}

/* ---- text ---- */
static nigh_status filter_upper(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    nigh_tval text;
    (void)args;
    NIGH_TRY(nigh_tval_to_text(r, in, &text));
    return nigh_ttext_case(r, &text, TC_UPPER, out);
}

static nigh_status filter_lower(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    nigh_tval text;
    (void)args;
    NIGH_TRY(nigh_tval_to_text(r, in, &text));
    return nigh_ttext_case(r, &text, TC_LOWER, out);
}

static nigh_status filter_title(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    nigh_tval text;
    (void)args;
    NIGH_TRY(nigh_tval_to_text(r, in, &text));
    return nigh_ttext_case(r, &text, TC_TITLE, out);
}

static nigh_status filter_capitalize(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    nigh_tval text;
    (void)args;
    NIGH_TRY(nigh_tval_to_text(r, in, &text));
    return nigh_ttext_case(r, &text, TC_CAPITAL, out);
}

static nigh_status filter_trim(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *letters = nigh_targ(args, 0, "chars");
    nigh_tval text;
    if (letters) NIGH_TRY(need_text(r, letters, "trim"));
    NIGH_TRY(nigh_tval_to_text(r, in, &text));
    *out = nigh_ttext_strip(&text, letters, true, true);
    return nigh_trun_spend(r, text.len - out->len);
}

static nigh_status filter_replace(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *from = nigh_targ(args, 0, "old"), *to = nigh_targ(args, 1, "new"),
                    *most = nigh_targ(args, 2, "count");
    nigh_tval text;
    NIGH_TRY(need_text(r, from, "replace"));
    NIGH_TRY(need_text(r, to, "replace"));
    NIGH_TRY(nigh_tval_to_text(r, in, &text));
    return nigh_ttext_replace(r, &text, from, to, most && most->kind == TV_INT ? most->as.integer : -1, out);
}

static nigh_status add_indented(
    nigh_trun *r, nigh_tsink *s, const nigh_tval *text, const nigh_tval *pad, bool first, bool blank) {
    static const nigh_tval newline = { .kind = TV_TEXT, .len = 1, .as.text = "\n" };
    for (size_t begin = 0, end, line = 0; begin <= text->len; begin = end + 1, line++) {
        NIGH_TRY(nigh_ttext_find(r, text, &newline, begin, &end));
        end = nigh_min(end, text->len);
        nigh_tval part = nigh_tval_slice(text, begin, end < text->len ? end + 1 : end);
        if (line ? (end > begin || blank) : first) NIGH_TRY(nigh_tsink_add(r, s, pad));
        NIGH_TRY(nigh_tsink_add(r, s, &part));
    }
    return NIGH_OK;
}

static nigh_status filter_indent(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    static const char spaces[] = "                                                                ";
    const nigh_tval *width = nigh_targ(args, 0, "width");
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_tval text, pad = nigh_tval_text((nigh_str){ spaces, 4 }, false);
    if (width && width->kind == TV_TEXT) pad = *width;
    else if (width) {
        if (width->kind != TV_INT || width->as.integer < 0 || width->as.integer >= (int64_t)sizeof spaces)
            return nigh_trun_fail(r, NIGH_EINVAL, "'indent' wants a width of 0 to %zu", sizeof spaces - 1);
        pad.len = (uint32_t)width->as.integer;
    }
    NIGH_TRY(nigh_tval_to_text(r, in, &text));
    nigh_status status =
        add_indented(r, &s, &text, &pad, arg_true(args, 1, "first", false), arg_true(args, 2, "blank", false));
    if (status == NIGH_OK) return nigh_tsink_take(r, &s, out);
    nigh_tsink_release(&s);
    return status;
}

/* ---- JSON ---- */
static nigh_status json_opts(nigh_trun *r, const nigh_targs *args, nigh_tjson_opts *o) {
    const nigh_tval *indent = nigh_targ(args, 0, "indent"), *separators = nigh_targ(args, SIZE_MAX, "separators");
    *o = (nigh_tjson_opts){ -1, arg_true(args, SIZE_MAX, "ensure_ascii", false), false, NIGH_STR(", "),
        NIGH_STR(": ") };
    if (arg_true(args, SIZE_MAX, "sort_keys", false))
        return nigh_trun_fail(r, NIGH_ENOSUP, "'tojson' cannot sort keys");
    if (indent && indent->kind != TV_NONE) {
        if (indent->kind != TV_INT || indent->as.integer < 0 || indent->as.integer > 32)
            return nigh_trun_fail(r, NIGH_EINVAL, "'tojson' wants an indent of 0 to 32");
        o->indent = indent->as.integer;
        o->item_separator = NIGH_STR(",");
    }
    if (!separators || separators->kind == TV_NONE) return NIGH_OK;
    const nigh_tlist *pair = separators->kind == TV_LIST ? separators->as.list : NULL;
    if (!pair || pair->count != 2 || pair->items[0].kind != TV_TEXT || pair->items[1].kind != TV_TEXT)
        return nigh_trun_fail(r, NIGH_EINVAL, "'tojson' wants two texts as separators");
    o->item_separator = nigh_tval_str(&pair->items[0]);
    o->key_separator = nigh_tval_str(&pair->items[1]);
    return NIGH_OK;
}

static nigh_status filter_tojson(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_tjson_opts o;
    NIGH_TRY(json_opts(r, args, &o));
    nigh_status status = nigh_tval_to_json(r, &s, in, &o);
    if (status == NIGH_OK) return nigh_tsink_take(r, &s, out);
    nigh_tsink_release(&s);
    return status;
}

static nigh_status filter_from_json(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    nigh_err why = { 0 };
    (void)args;
    NIGH_TRY(need_text(r, in, "from_json"));
    if (r->docs == NIGH_COUNT(r->doc))
        return nigh_trun_fail(r, NIGH_ERANGE, "'from_json' is used more than %zu times", NIGH_COUNT(r->doc));
    if (in->len > NIGH_TEMPLATE_MEMORY_MAX / 128)
        return nigh_trun_fail(r, NIGH_ERANGE, "'from_json' of %u bytes", (unsigned)in->len);
    NIGH_TRY(nigh_trun_spend(r, (size_t)in->len * 4));
    nigh_json_doc *doc = &r->doc[r->docs];
    nigh_status status = nigh_json_parse(doc, nigh_tval_str(in), &why);
    if (status != NIGH_OK) return nigh_trun_fail(r, status, "from_json: %s", why.text);
    r->docs++;
    return nigh_tval_of_json(r, doc->root, true, out);
}

/* ---- lists ---- */
static nigh_status filter_list(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    nigh_tval items;
    (void)args;
    NIGH_TRY(nigh_tval_items(r, in, &items));
    NIGH_TRY(nigh_tlist_new(r, items.as.list->count, in->user, out));
    for (size_t i = 0; i < items.as.list->count; i++) NIGH_TRY(nigh_tlist_add(r, out, &items.as.list->items[i]));
    return NIGH_OK;
}

static nigh_status filter_first(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    nigh_tval items;
    (void)args;
    NIGH_TRY(nigh_tval_items(r, in, &items));
    *out = items.as.list->count ? items.as.list->items[0] : (nigh_tval){ 0 };
    return NIGH_OK;
}

static nigh_status filter_last(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    nigh_tval items;
    (void)args;
    NIGH_TRY(nigh_tval_items(r, in, &items));
    *out = items.as.list->count ? items.as.list->items[items.as.list->count - 1] : (nigh_tval){ 0 };
    return NIGH_OK;
}

static nigh_status new_pair(nigh_trun *r, const nigh_tpair *pair, bool user, nigh_tval *out) {
    NIGH_TRY(nigh_tlist_new(r, 2, user, out));
    NIGH_TRY(nigh_tlist_add(r, out, &pair->key));
    return nigh_tlist_add(r, out, &pair->value);
}

static nigh_status filter_items(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    NIGH_TRY(nigh_tlist_new(r, 0, in->user, out));
    if (in->kind == TV_UNDEF) return NIGH_OK;
    if (in->kind != TV_DICT)
        return nigh_trun_fail(r, NIGH_EINVAL, "'items' wants a dictionary, not %s", nigh_tval_kind(in));
    for (size_t i = 0; i < in->as.dict->count; i++) {
        nigh_tval pair;
        NIGH_TRY(new_pair(r, &in->as.dict->pairs[i], in->user, &pair));
        NIGH_TRY(nigh_tlist_add(r, out, &pair));
    }
    return NIGH_OK;
}

static nigh_status filter_reverse(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    nigh_tval items;
    (void)args;
    NIGH_TRY(nigh_tval_items(r, in, &items));
    NIGH_TRY(nigh_tlist_new(r, items.as.list->count, in->user, out));
    for (size_t i = items.as.list->count; i-- > 0;) NIGH_TRY(nigh_tlist_add(r, out, &items.as.list->items[i]));
    if (in->kind != TV_TEXT) return NIGH_OK;
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_status status = NIGH_OK;
    for (size_t i = 0; i < out->as.list->count && status == NIGH_OK; i++)
        status = nigh_tsink_add(r, &s, &out->as.list->items[i]);
    if (status == NIGH_OK) return nigh_tsink_take(r, &s, out);
    nigh_tsink_release(&s);
    return status;
}

/* What a dotted path such as function.name leads to. */
static nigh_status follow(nigh_trun *r, const nigh_tval *v, const nigh_tval *path, nigh_tval *out) {
    *out = *v;
    if (path->kind != TV_TEXT) { nigh_tval base = *out; return nigh_tval_index(r, &base, path, out); }
    nigh_str p = nigh_tval_str(path);
    for (size_t begin = 0, end; begin <= p.len; begin = end + 1) {
        nigh_tval base = *out;
        end = nigh_min(nigh_str_find(p, NIGH_STR("."), begin), p.len);
        nigh_str name = nigh_str_slice(p, begin, end);
        if (base.kind == TV_UNDEF) return NIGH_OK;
        NIGH_TRY(nigh_tval_attr(r, &base, name, out));
    }
    return NIGH_OK;
}

static nigh_status filter_join(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *between = nigh_targ(args, 0, "d"), *path = nigh_targ(args, 1, "attribute");
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_tval items, v;
    nigh_status status = NIGH_OK;
    if (between) NIGH_TRY(need_text(r, between, "join"));
    NIGH_TRY(nigh_tval_items(r, in, &items));
    for (size_t i = 0; i < items.as.list->count && status == NIGH_OK; i++) {
        v = items.as.list->items[i];
        if (i && between) status = nigh_tsink_add(r, &s, between);
        if (status == NIGH_OK && path) status = follow(r, &items.as.list->items[i], path, &v);
        if (status == NIGH_OK) status = nigh_tval_print(r, &s, &v);
    }
    if (status == NIGH_OK) return nigh_tsink_take(r, &s, out);
    nigh_tsink_release(&s);
    return status;
}

static nigh_status filter_map(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *path = nigh_targ(args, SIZE_MAX, "attribute"), *missing = nigh_targ(args, SIZE_MAX, "default"),
                    *name = nigh_targ(args, 0, NULL);
    nigh_targs rest = { args->at + 1, args->count ? args->count - 1 : 0, args->named, args->names, args->named_count };
    nigh_tval items;
    int filter = -1;
    NIGH_TRY(nigh_tval_items(r, in, &items));
    NIGH_TRY(nigh_tlist_new(r, items.as.list->count, in->user, out));
    if (!path) {
        NIGH_TRY(need_text(r, name, "map"));
        filter = nigh_tfilter_find(nigh_tval_str(name));
        if (filter < 0)
            return nigh_trun_fail(
                r, NIGH_ENOSUP, "unknown filter '%.*s'", (int)nigh_min(name->len, 60), name->as.text);
    }
    for (size_t i = 0; i < items.as.list->count; i++) {
        nigh_tval v;
        if (path) NIGH_TRY(follow(r, &items.as.list->items[i], path, &v));
        else NIGH_TRY(nigh_tfilter_run(r, filter, &items.as.list->items[i], &rest, &v));
        if (path && missing && v.kind == TV_UNDEF) v = *missing;
        NIGH_TRY(nigh_tlist_add(r, out, &v));
    }
    return NIGH_OK;
}

/* select, reject, selectattr, rejectattr: keep items for which a test of the item, or of what `path` leads to, gives
 * `want`. */
static nigh_status choose(
    nigh_trun *r, const nigh_tval *in, const nigh_targs *args, bool with_path, bool want, nigh_tval *out) {
    size_t at = with_path ? 1 : 0;
    const nigh_tval *path = with_path ? nigh_targ(args, 0, "attribute") : NULL, *name = nigh_targ(args, at, NULL);
    nigh_targs rest = { 0 };
    nigh_tval items, v;
    int test = -1;
    if (with_path) NIGH_TRY(need_text(r, path, "selectattr"));
    if (name) {
        NIGH_TRY(need_text(r, name, "select"));
        test = nigh_ttest_find(nigh_tval_str(name));
        if (test < 0)
            return nigh_trun_fail(r, NIGH_ENOSUP, "unknown test '%.*s'", (int)nigh_min(name->len, 60), name->as.text);
        rest = (nigh_targs){ .at = args->at + at + 1, .count = args->count - at - 1 };
    }
    if (in->kind == TV_NONE) return nigh_tlist_new(r, 0, in->user, out);
    NIGH_TRY(nigh_tval_items(r, in, &items));
    NIGH_TRY(nigh_tlist_new(r, 0, in->user, out));
    for (size_t i = 0; i < items.as.list->count; i++) {
        bool holds;
        NIGH_TRY(nigh_trun_spend(r, 0));
        v = items.as.list->items[i];
        if (path) NIGH_TRY(follow(r, &items.as.list->items[i], path, &v));
        holds = nigh_tval_true(&v);
        if (test >= 0) NIGH_TRY(nigh_ttest_run(r, test, &v, &rest, &holds));
        if (holds == want) NIGH_TRY(nigh_tlist_add(r, out, &items.as.list->items[i]));
    }
    return NIGH_OK;
}

static nigh_status filter_select(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    return choose(r, in, args, false, true, out);
}
static nigh_status filter_reject(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    return choose(r, in, args, false, false, out);
}
static nigh_status filter_selectattr(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    return choose(r, in, args, true, true, out);
}
static nigh_status filter_rejectattr(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    return choose(r, in, args, true, false, out);
}

static nigh_status filter_unique(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    nigh_tval items;
    (void)args;
    NIGH_TRY(nigh_tval_items(r, in, &items));
    NIGH_TRY(nigh_tlist_new(r, 0, in->user, out));
    for (size_t i = 0; i < items.as.list->count; i++) {
        bool seen;
        NIGH_TRY(nigh_tval_contains(r, out, &items.as.list->items[i], &seen));
        if (!seen) NIGH_TRY(nigh_tlist_add(r, out, &items.as.list->items[i]));
    }
    return NIGH_OK;
}

/* ---- order ---- */
typedef struct { nigh_tval key, value; } sortable;

/* Merges runs of width w of `a` into `b`; stable. */
static nigh_status merge(
    nigh_trun *r, const sortable *a, sortable *b, size_t count, size_t w, bool fold, bool reverse) {
    for (size_t start = 0; start < count; start += 2 * w) {
        size_t i = start, middle = nigh_min(start + w, count), k = middle, end = nigh_min(start + 2 * w, count);
        for (size_t to = start; to < end; to++) {
            int order = 0;
            if (i < middle && k < end) NIGH_TRY(nigh_tval_order(r, &a[i].key, &a[k].key, fold, &order));
            bool left = i < middle && (k == end || (reverse ? order >= 0 : order <= 0));
            NIGH_TRY(nigh_trun_spend(r, 0));
            b[to] = left ? a[i++] : a[k++];
        }
    }
    return NIGH_OK;
}

static nigh_status sort_all(nigh_trun *r, sortable *a, size_t count, bool fold, bool reverse, sortable **out) {
    sortable *b;
    *out = a;
    if (count < 2) return NIGH_OK;
    NIGH_TRY(nigh_trun_take(r, sizeof *b, count, &b));
    for (size_t w = 1; w < count; w *= 2) {
        sortable *t = a;
        NIGH_TRY(merge(r, a, b, count, w, fold, reverse));
        a = b;
        b = t;
    }
    *out = a;
    return NIGH_OK;
}

static nigh_status filter_sort(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *path = nigh_targ(args, 2, "attribute");
    nigh_tval items;
    sortable *a = NULL;
    NIGH_TRY(nigh_tval_items(r, in, &items));
    size_t count = items.as.list->count;
    if (count) NIGH_TRY(nigh_trun_take(r, sizeof *a, count, &a));
    for (size_t i = 0; i < count; i++) {
        a[i].value = a[i].key = items.as.list->items[i];
        if (path) NIGH_TRY(follow(r, &items.as.list->items[i], path, &a[i].key));
    }
    NIGH_TRY(
        sort_all(r, a, count, !arg_true(args, 1, "case_sensitive", false), arg_true(args, 0, "reverse", false), &a));
    NIGH_TRY(nigh_tlist_new(r, count, in->user, out));
    for (size_t i = 0; i < count; i++) NIGH_TRY(nigh_tlist_add(r, out, &a[i].value));
    return NIGH_OK;
}

static nigh_status filter_dictsort(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *by = nigh_targ(args, 1, "by");
    bool by_value = by && by->kind == TV_TEXT && nigh_str_eq(nigh_tval_str(by), NIGH_STR("value"));
    sortable *a = NULL;
    if (in->kind != TV_DICT)
        return nigh_trun_fail(r, NIGH_EINVAL, "'dictsort' wants a dictionary, not %s", nigh_tval_kind(in));
    size_t count = in->as.dict->count;
    if (count) NIGH_TRY(nigh_trun_take(r, sizeof *a, count, &a));
    for (size_t i = 0; i < count; i++) {
        const nigh_tpair *pair = &in->as.dict->pairs[i];
        a[i].key = by_value ? pair->value : pair->key;
        NIGH_TRY(new_pair(r, pair, in->user, &a[i].value));
    }
    NIGH_TRY(
        sort_all(r, a, count, !arg_true(args, 0, "case_sensitive", false), arg_true(args, 2, "reverse", false), &a));
    NIGH_TRY(nigh_tlist_new(r, count, in->user, out));
    for (size_t i = 0; i < count; i++) NIGH_TRY(nigh_tlist_add(r, out, &a[i].value));
    return NIGH_OK;
}

static nigh_status extreme(nigh_trun *r, const nigh_tval *in, int sign, nigh_tval *out) {
    nigh_tval items;
    NIGH_TRY(nigh_tval_items(r, in, &items));
    *out = (nigh_tval){ 0 };
    for (size_t i = 0; i < items.as.list->count; i++) {
        const nigh_tval *v = &items.as.list->items[i];
        int order = sign;
        if (i) NIGH_TRY(nigh_tval_order(r, v, out, true, &order));
        if (order * sign > 0) *out = *v;
    }
    return NIGH_OK;
}

static nigh_status filter_min(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return extreme(r, in, -1, out);
}
static nigh_status filter_max(nigh_trun *r, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return extreme(r, in, 1, out);
}

/* ---- the table of filters ---- */
static const struct { const char *name; nigh_tfilter_fn *run; uint8_t least, most; const char *names;
} filters[] = { { "abs", filter_abs, 0, 0, NULL }, { "capitalize", filter_capitalize, 0, 0, NULL },
    { "count", filter_length, 0, 0, NULL }, { "d", filter_default, 0, 2, "default_value boolean" },
    { "default", filter_default, 0, 2, "default_value boolean" },
    { "dictsort", filter_dictsort, 0, 3, "case_sensitive by reverse" }, { "first", filter_first, 0, 0, NULL },
    { "float", filter_float, 0, 1, "default" }, { "from_json", filter_from_json, 0, 0, NULL },
    { "indent", filter_indent, 0, 3, "width first blank" }, { "int", filter_int, 0, 1, "default" },
    { "items", filter_items, 0, 0, NULL }, { "join", filter_join, 0, 2, "d attribute" },
    { "last", filter_last, 0, 0, NULL }, { "length", filter_length, 0, 0, NULL }, { "list", filter_list, 0, 0, NULL },
    { "lower", filter_lower, 0, 0, NULL }, { "map", filter_map, 1, 8, "attribute default" },
    { "max", filter_max, 0, 0, NULL }, { "min", filter_min, 0, 0, NULL }, { "reject", filter_reject, 0, 3, NULL },
    { "rejectattr", filter_rejectattr, 1, 4, NULL }, { "replace", filter_replace, 2, 3, "old new count" },
    { "reverse", filter_reverse, 0, 0, NULL }, { "safe", filter_safe, 0, 0, NULL },
    { "select", filter_select, 0, 3, NULL }, { "selectattr", filter_selectattr, 1, 4, NULL },
    { "sort", filter_sort, 0, 3, "reverse case_sensitive attribute" }, { "string", filter_string, 0, 0, NULL },
    { "title", filter_title, 0, 0, NULL },
    { "tojson", filter_tojson, 0, 1, "indent ensure_ascii separators sort_keys" },
    { "trim", filter_trim, 0, 1, "chars" }, { "unique", filter_unique, 0, 0, NULL },
    { "upper", filter_upper, 0, 0, NULL } };

int nigh_tfilter_find(nigh_str name) {
    for (size_t i = 0; i < NIGH_COUNT(filters); i++) if (nigh_str_eq(name, nigh_str_of(filters[i].name))) return (int)i;
    return -1;
}

nigh_status nigh_tfilter_run(nigh_trun *r, int index, const nigh_tval *in, const nigh_targs *args, nigh_tval *out) {
    NIGH_TRY(nigh_trun_spend(r, 0));
    NIGH_TRY(nigh_targs_check(
        r, args, filters[index].name, filters[index].least, filters[index].most, filters[index].names));
    return filters[index].run(r, in, args, out);
}

/* ---- tests ---- */
typedef enum {
    IS_BOOLEAN,
    IS_CALLABLE,
    IS_DEFINED,
    IS_DIVISIBLE,
    IS_EQUAL,
    IS_EVEN,
    IS_FALSE,
    IS_FLOAT,
    IS_GREATER,
    IS_IN,
    IS_INTEGER,
    IS_ITERABLE,
    IS_LESS,
    IS_LOWER,
    IS_MAPPING,
    IS_NOT_EQUAL,
    IS_NONE,
    IS_NUMBER,
    IS_ODD,
    IS_SEQUENCE,
    IS_STRING,
    IS_TRUE,
    IS_UNDEFINED,
    IS_UPPER,
    IS_GE,
    IS_LE
} test_kind;

static const struct { const char *name; uint8_t kind, args;
} tests[] = { { "boolean", IS_BOOLEAN, 0 }, { "callable", IS_CALLABLE, 0 }, { "defined", IS_DEFINED, 0 },
    { "divisibleby", IS_DIVISIBLE, 1 }, { "eq", IS_EQUAL, 1 }, { "equalto", IS_EQUAL, 1 }, { "==", IS_EQUAL, 1 },
    { "even", IS_EVEN, 0 }, { "false", IS_FALSE, 0 }, { "float", IS_FLOAT, 0 }, { "ge", IS_GE, 1 },
    { "gt", IS_GREATER, 1 }, { "greaterthan", IS_GREATER, 1 }, { "in", IS_IN, 1 }, { "integer", IS_INTEGER, 0 },
    { "iterable", IS_ITERABLE, 0 }, { "le", IS_LE, 1 }, { "lt", IS_LESS, 1 }, { "lessthan", IS_LESS, 1 },
    { "lower", IS_LOWER, 0 }, { "mapping", IS_MAPPING, 0 }, { "ne", IS_NOT_EQUAL, 1 }, { "!=", IS_NOT_EQUAL, 1 },
    { "none", IS_NONE, 0 }, { "number", IS_NUMBER, 0 }, { "odd", IS_ODD, 0 }, { "sequence", IS_SEQUENCE, 0 },
    { "string", IS_STRING, 0 }, { "true", IS_TRUE, 0 }, { "undefined", IS_UNDEFINED, 0 }, { "upper", IS_UPPER, 0 } };

int nigh_ttest_find(nigh_str name) {
    for (size_t i = 0; i < NIGH_COUNT(tests); i++) if (nigh_str_eq(name, nigh_str_of(tests[i].name))) return (int)i;
    return -1;
}

static nigh_status test_case_of(nigh_trun *r, const nigh_tval *in, nigh_tcase how, bool *out) {
    nigh_tval text, changed, other;
    NIGH_TRY(nigh_tval_to_text(r, in, &text));
    NIGH_TRY(nigh_ttext_case(r, &text, how, &changed));
    NIGH_TRY(nigh_ttext_case(r, &text, how == TC_UPPER ? TC_LOWER : TC_UPPER, &other));
    *out = nigh_str_eq(nigh_tval_str(&text), nigh_tval_str(&changed)) &&
           !nigh_str_eq(nigh_tval_str(&other), nigh_tval_str(&changed));
    return NIGH_OK;
}

static nigh_status test_number(nigh_trun *r, test_kind kind, const nigh_tval *in, const nigh_tval *by, bool *out) {
    if (!nigh_tval_number(in) || in->kind == TV_FLOAT || (by && by->kind != TV_INT))
        return nigh_trun_fail(r, NIGH_EINVAL, "this test wants whole numbers");
    int64_t v = nigh_tval_to_int(in), n = by ? by->as.integer : 2;
    if (n == 0) return nigh_trun_fail(r, NIGH_EINVAL, "division by zero");
    *out = (n == -1 || v % n == 0) == (kind != IS_ODD);
    return NIGH_OK;
}

static nigh_status test_order(nigh_trun *r, test_kind kind, const nigh_tval *in, const nigh_tval *other, bool *out) {
    int order;
    NIGH_TRY(nigh_tval_order(r, in, other, false, &order));
    *out = kind == IS_LESS ? order < 0 : kind == IS_LE ? order <= 0 : kind == IS_GREATER ? order > 0 : order >= 0;
    return NIGH_OK;
}

nigh_status nigh_ttest_run(nigh_trun *r, int index, const nigh_tval *in, const nigh_targs *args, bool *out) {
    test_kind kind = (test_kind)tests[index].kind;
    NIGH_TRY(nigh_targs_check(r, args, tests[index].name, tests[index].args, tests[index].args, NULL));
    const nigh_tval *arg = args->count ? &args->at[0] : NULL;
    switch (kind) {
    case IS_BOOLEAN: *out = in->kind == TV_BOOL; break;
    case IS_CALLABLE: *out = in->kind == TV_MACRO || in->kind == TV_FUNC; break;
    case IS_DEFINED: *out = in->kind != TV_UNDEF; break;
    case IS_UNDEFINED: *out = in->kind == TV_UNDEF; break;
    case IS_NONE: *out = in->kind == TV_NONE; break;
    case IS_TRUE: *out = in->kind == TV_BOOL && in->as.boolean; break;
    case IS_FALSE: *out = in->kind == TV_BOOL && !in->as.boolean; break;
    case IS_INTEGER: *out = in->kind == TV_INT; break;
    case IS_FLOAT: *out = in->kind == TV_FLOAT; break;
    case IS_NUMBER: *out = nigh_tval_number(in); break;
    case IS_STRING: *out = in->kind == TV_TEXT; break;
    case IS_MAPPING: *out = in->kind == TV_DICT; break;
    case IS_ITERABLE:
        *out = in->kind == TV_TEXT || in->kind == TV_LIST || in->kind == TV_DICT || in->kind == TV_UNDEF;
        break;
    case IS_SEQUENCE:
        *out = in->kind == TV_TEXT || in->kind == TV_LIST || in->kind == TV_DICT || in->kind == TV_UNDEF;
        break;
    case IS_EQUAL: return nigh_tval_equal(r, in, arg, out);
    case IS_NOT_EQUAL:
        NIGH_TRY(nigh_tval_equal(r, in, arg, out));
        *out = !*out;
        break;
    case IS_IN: return nigh_tval_contains(r, arg, in, out);
    case IS_EVEN: case IS_ODD: case IS_DIVISIBLE: return test_number(r, kind, in, arg, out);
    case IS_LESS: case IS_LE: case IS_GREATER: case IS_GE: return test_order(r, kind, in, arg, out);
    case IS_UPPER: return test_case_of(r, in, TC_UPPER, out);
    case IS_LOWER: return test_case_of(r, in, TC_LOWER, out);
    }
    return NIGH_OK;
}
