/* template_method.c - methods of texts, lists and dictionaries, and the functions every template may call.
 * Methods are found by name in a table for each kind of value; there is no other way from a value to code. */
#include "engine/template_ast.h"
#include "base/utf8.h"

/* ---- text operations ---- */
static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f); }

/* Does the letter at text[at] belong to the ones to strip? Gives its length. */
static bool strips(nigh_str text, size_t at, const nigh_tval *letters, size_t *len) {
    uint32_t a, b;
    *len = 1;
    if (!letters && (unsigned char)text.ptr[at] < 0x80) return is_space(text.ptr[at]);
    size_t n = nigh_utf8_read(text, at, &a);
    if (n == 0) return false;
    *len = n;
    if (!letters)
        return a == 0x85 || a == 0xa0 || a == 0x1680 || (a >= 0x2000 && a <= 0x200a) || a == 0x2028 || a == 0x2029 ||
               a == 0x202f || a == 0x205f || a == 0x3000;
    nigh_str set = nigh_tval_str(letters);
    for (size_t i = 0; i < set.len; i += n) {
        n = nigh_utf8_read(set, i, &b);
        if (n && a == b) return true;
        if (n == 0) n = 1;
    }
    return false;
}

nigh_tval nigh_ttext_strip(const nigh_tval *v, const nigh_tval *letters, bool left, bool right) {
    nigh_str text = nigh_tval_str(v);
    size_t begin = 0, end = text.len, n;
    while (left && begin < end && strips(text, begin, letters, &n)) begin += n;
    while (right && end > begin) {
        size_t start = end - 1;
        while (start > begin && ((unsigned char)text.ptr[start] & 0xc0) == 0x80) start--;
        if (!strips(text, start, letters, &n) || start + n != end) break;
        end = start;
    }
    return nigh_tval_slice(v, begin, end);
}

static nigh_status sink_done(nigh_trun *r, nigh_tsink *s, nigh_status status, nigh_tval *out) {
    if (status == NIGH_OK) return nigh_tsink_take(r, s, out);
    nigh_tsink_release(s);
    return status;
}

static nigh_status add_replaced(
    nigh_trun *r, nigh_tsink *s, const nigh_tval *text, const nigh_tval *from, const nigh_tval *to, int64_t most) {
    size_t at = 0, hit;
    for (; most != 0; most--) {
        NIGH_TRY(nigh_ttext_find(r, text, from, at, &hit));
        if (hit == SIZE_MAX) break;
        if (!from->len && hit == text->len) {
            NIGH_TRY(nigh_tsink_add(r, s, to));
            break;
        }
        nigh_tval part = nigh_tval_slice(text, at, hit);
        NIGH_TRY(nigh_tsink_add(r, s, &part));
        NIGH_TRY(nigh_tsink_add(r, s, to));
        at = hit + from->len;
        if (from->len) continue;
        uint32_t letter;
        size_t n = nigh_utf8_read(nigh_tval_str(text), at, &letter);
        part = nigh_tval_slice(text, at, at + (n ? n : 1));
        NIGH_TRY(nigh_tsink_add(r, s, &part));
        at += part.len;
    }
    nigh_tval rest = nigh_tval_slice(text, at, text->len);
    return nigh_tsink_add(r, s, &rest);
}

nigh_status nigh_ttext_replace(
    nigh_trun *r, const nigh_tval *text, const nigh_tval *from, const nigh_tval *to, int64_t most, nigh_tval *out) {
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    return sink_done(r, &s, add_replaced(r, &s, text, from, to, most), out);
}

/* Letters whose two cases have the same length in UTF-8: ASCII, Latin-1, Latin Extended-A (most), Greek and Cyrillic.
 * The rest stays. */
static uint32_t change_case(uint32_t c, bool upper) {
    if (upper) {
        if ((c >= 'a' && c <= 'z') || (c >= 0xe0 && c <= 0xfe && c != 0xf7) ||
            (c >= 0x3b1 && c <= 0x3c9 && c != 0x3c2) || (c >= 0x430 && c <= 0x44f))
            return c - 32;
        if (c >= 0x450 && c <= 0x45f) return c - 80;
    } else {
        if ((c >= 'A' && c <= 'Z') || (c >= 0xc0 && c <= 0xde && c != 0xd7) ||
            (c >= 0x391 && c <= 0x3a9 && c != 0x3a2) || (c >= 0x410 && c <= 0x42f))
            return c + 32;
        if (c >= 0x400 && c <= 0x40f) return c + 80;
    }
    if ((c >= 0x100 && c <= 0x12f) || (c >= 0x14a && c <= 0x177)) return upper ? c & ~1u : c | 1u;
    return c;
}

static bool is_alpha(uint32_t c) {
    return change_case(c, true) != c || change_case(c, false) != c || (c >= 0xaa && c != 0xd7 && c != 0xf7);
}

nigh_status nigh_ttext_case(nigh_trun *r, const nigh_tval *v, nigh_tcase how, nigh_tval *out) {
    char *text = NULL;
    uint32_t letter;
    bool inside = false;
    *out = *v;
    if (v->len) NIGH_TRY(nigh_trun_take(r, 1, v->len, &text));
    for (size_t i = 0, n; i < v->len; i += n) {
        n = nigh_utf8_read(nigh_tval_str(v), i, &letter);
        if (n == 0) { text[i] = v->as.text[i]; n = 1; continue; }
        bool upper = how == TC_UPPER || (how == TC_TITLE && !inside) || (how == TC_CAPITAL && i == 0);
        inside = is_alpha(letter);
        nigh_utf8_write(change_case(letter, upper), text + i);
    }
    if (v->len) out->as.text = text;
    return nigh_trun_spend(r, v->len);
}

/* ---- methods of texts ---- */
typedef nigh_status method_fn(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out);

static nigh_status text_arg(nigh_trun *r, const nigh_targs *args, size_t idx, const nigh_tval **out) {
    *out = idx < args->count && args->at[idx].kind != TV_NONE ? &args->at[idx] : NULL;
    if (!*out || (*out)->kind == TV_TEXT) return NIGH_OK;
    return nigh_trun_fail(r, NIGH_EINVAL, "the method wants a text, not %s", nigh_tval_kind(*out));
}

static nigh_status strip(
    nigh_trun *r, const nigh_tval *self, const nigh_targs *args, bool left, bool right, nigh_tval *out) {
    const nigh_tval *letters;
    NIGH_TRY(text_arg(r, args, 0, &letters));
    *out = nigh_ttext_strip(self, letters, left, right);
    return nigh_trun_spend(r, (self->len - out->len) * (1 + (letters ? letters->len : 0)));
}

static nigh_status text_strip(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    return strip(r, self, args, true, true, out);
}
static nigh_status text_lstrip(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    return strip(r, self, args, true, false, out);
}
static nigh_status text_rstrip(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    return strip(r, self, args, false, true, out);
}

static nigh_status text_upper(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return nigh_ttext_case(r, self, TC_UPPER, out);
}
static nigh_status text_lower(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return nigh_ttext_case(r, self, TC_LOWER, out);
}
static nigh_status text_title(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return nigh_ttext_case(r, self, TC_TITLE, out);
}
static nigh_status text_capitalize(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return nigh_ttext_case(r, self, TC_CAPITAL, out);
}

static bool touches(const nigh_tval *text, const nigh_tval *part, bool start) {
    return start ? nigh_str_starts(nigh_tval_str(text), nigh_tval_str(part))
                 : nigh_str_ends(nigh_tval_str(text), nigh_tval_str(part));
}

static nigh_status touch_any(nigh_trun *r, const nigh_tval *self, const nigh_targs *args, bool start, nigh_tval *out) {
    const nigh_tval *part = &args->at[0];
    *out = nigh_tval_bool(false, self->user);
    if (part->kind == TV_TEXT) { out->as.boolean = touches(self, part, start); return nigh_trun_spend(r, part->len); }
    if (part->kind != TV_LIST)
        return nigh_trun_fail(r, NIGH_EINVAL, "the method wants a text, not %s", nigh_tval_kind(part));
    for (size_t i = 0; i < part->as.list->count; i++) {
        const nigh_tval *p = &part->as.list->items[i];
        NIGH_TRY(nigh_trun_spend(r, p->kind == TV_TEXT ? p->len : 0));
        if (p->kind == TV_TEXT && touches(self, p, start)) out->as.boolean = true;
    }
    return NIGH_OK;
}

static nigh_status text_startswith(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    return touch_any(r, self, args, true, out);
}
static nigh_status text_endswith(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    return touch_any(r, self, args, false, out);
}

static nigh_status text_replace(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *from, *to;
    NIGH_TRY(text_arg(r, args, 0, &from));
    NIGH_TRY(text_arg(r, args, 1, &to));
    if (!from || !to) return nigh_trun_fail(r, NIGH_EINVAL, "'replace' wants two texts");
    int64_t most = args->count > 2 && args->at[2].kind == TV_INT ? args->at[2].as.integer : -1;
    return nigh_ttext_replace(r, self, from, to, most, out);
}

/* Splits at white space. */
static nigh_status split_words(nigh_trun *r, const nigh_tval *self, int64_t most, nigh_tval *out) {
    nigh_tval rest = nigh_ttext_strip(self, NULL, true, false);
    while (rest.len) {
        size_t end = 0, n;
        if (most-- == 0) end = nigh_ttext_strip(&rest, NULL, false, true).len;
        else for (nigh_str s = nigh_tval_str(&rest); end < rest.len && !strips(s, end, NULL, &n);) end += n;
        nigh_tval word = nigh_tval_slice(&rest, 0, end);
        NIGH_TRY(nigh_tlist_add(r, out, &word));
        NIGH_TRY(nigh_trun_spend(r, end * 4));
        rest = nigh_tval_slice(&rest, end, rest.len);
        rest = nigh_ttext_strip(&rest, NULL, true, false);
    }
    return NIGH_OK;
}

static nigh_status split_args(nigh_trun *r, const nigh_targs *args, const nigh_tval **by, int64_t *most) {
    const nigh_tval *limit = nigh_targ(args, 1, "maxsplit");
    NIGH_TRY(text_arg(r, args, 0, by));
    if (*by && (*by)->len == 0) return nigh_trun_fail(r, NIGH_EINVAL, "cannot split at an empty text");
    *most = limit && limit->kind == TV_INT && limit->as.integer >= 0 ? limit->as.integer : -1;
    return NIGH_OK;
}

static nigh_status text_split(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *by;
    int64_t most = -1;
    size_t at = 0, hit;
    NIGH_TRY(split_args(r, args, &by, &most));
    NIGH_TRY(nigh_tlist_new(r, 0, self->user, out));
    if (!by) return split_words(r, self, most, out);
    for (;; most--) {
        hit = SIZE_MAX;
        if (most != 0) NIGH_TRY(nigh_ttext_find(r, self, by, at, &hit));
        nigh_tval part = nigh_tval_slice(self, at, nigh_min(hit, self->len));
        NIGH_TRY(nigh_tlist_add(r, out, &part));
        if (hit == SIZE_MAX) return NIGH_OK;
        at = hit + by->len;
    }
}

/* The last place of `by` in text[0, end), or SIZE_MAX. */
static nigh_status find_last(nigh_trun *r, const nigh_tval *text, const nigh_tval *by, size_t end, size_t *out) {
    *out = SIZE_MAX;
    for (size_t i = end + 1; i-- > 0;) {
        if (end - i < by->len) continue;
        if (memcmp(text->as.text + i, by->as.text, by->len) == 0) { *out = i; break; }
    }
    return nigh_trun_spend(r, (end - (*out == SIZE_MAX ? 0 : *out)) * (1 + by->len / 32));
}

static nigh_status text_rsplit(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *by;
    nigh_tval parts;
    int64_t most = -1;
    size_t end = self->len, hit;
    NIGH_TRY(split_args(r, args, &by, &most));
    if (!by || most < 0) return text_split(r, self, args, out);
    NIGH_TRY(nigh_tlist_new(r, 0, self->user, &parts));
    for (;; most--) {
        hit = SIZE_MAX;
        if (most != 0) NIGH_TRY(find_last(r, self, by, end, &hit));
        nigh_tval part = nigh_tval_slice(self, hit == SIZE_MAX ? 0 : hit + by->len, end);
        NIGH_TRY(nigh_tlist_add(r, &parts, &part));
        if (hit == SIZE_MAX) break;
        end = hit;
    }
    NIGH_TRY(nigh_tlist_new(r, parts.as.list->count, self->user, out));
    for (size_t i = parts.as.list->count; i-- > 0;) NIGH_TRY(nigh_tlist_add(r, out, &parts.as.list->items[i]));
    return NIGH_OK;
}

static nigh_status text_splitlines(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    NIGH_TRY(nigh_tlist_new(r, 0, self->user, out));
    for (size_t begin = 0, end; begin < self->len; begin = end + 1) {
        end = begin;
        while (end < self->len && self->as.text[end] != '\n' && self->as.text[end] != '\r') end++;
        nigh_tval line = nigh_tval_slice(self, begin, end);
        NIGH_TRY(nigh_tlist_add(r, out, &line));
        NIGH_TRY(nigh_trun_spend(r, end - begin));
        if (end + 1 < self->len && self->as.text[end] == '\r' && self->as.text[end + 1] == '\n') end++;
    }
    return NIGH_OK;
}

static nigh_status find_text(nigh_trun *r, const nigh_tval *self, const nigh_targs *args, bool last, nigh_tval *out) {
    const nigh_tval *part;
    size_t hit, letters = 0;
    NIGH_TRY(text_arg(r, args, 0, &part));
    if (!part) return nigh_trun_fail(r, NIGH_EINVAL, "'find' wants a text");
    if (last) NIGH_TRY(find_last(r, self, part, self->len, &hit));
    else NIGH_TRY(nigh_ttext_find(r, self, part, 0, &hit));
    nigh_tval before = nigh_tval_slice(self, 0, hit == SIZE_MAX ? 0 : hit);
    NIGH_TRY(nigh_tval_count(r, &before, &letters));
    *out = nigh_tval_int(hit == SIZE_MAX ? -1 : (int64_t)letters, self->user);
    return NIGH_OK;
}

static nigh_status text_find(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    return find_text(r, self, args, false, out);
}
static nigh_status text_rfind(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    return find_text(r, self, args, true, out);
}

static nigh_status text_count(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *part;
    int64_t count = 0;
    NIGH_TRY(text_arg(r, args, 0, &part));
    if (!part || !part->len) return nigh_trun_fail(r, NIGH_EINVAL, "'count' wants a text");
    for (size_t at = 0, hit;; at = hit + part->len, count++) {
        NIGH_TRY(nigh_ttext_find(r, self, part, at, &hit));
        if (hit == SIZE_MAX) break;
    }
    *out = nigh_tval_int(count, self->user);
    return NIGH_OK;
}

static nigh_status text_join(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    int join = nigh_tfilter_find(NIGH_STR("join"));
    return nigh_tfilter_run(r, join, &args->at[0], &(nigh_targs){ .at = self, .count = 1 }, out);
}

static nigh_status all_letters(nigh_trun *r, const nigh_tval *self, bool digits, bool letters, nigh_tval *out) {
    bool all = self->len > 0;
    for (size_t i = 0; all && i < self->len; i++) {
        unsigned char c = (unsigned char)self->as.text[i];
        if (c >= 0x80) return nigh_trun_fail(r, NIGH_ENOSUP, "this method knows ASCII only");
        bool digit = c >= '0' && c <= '9', letter = (c | 32) >= 'a' && (c | 32) <= 'z';
        all = (digit && digits) || (letter && letters) || (!digits && !letters && is_space((char)c));
    }
    *out = nigh_tval_bool(all, self->user);
    return nigh_trun_spend(r, self->len);
}

static nigh_status text_isdigit(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return all_letters(r, self, true, false, out);
}
static nigh_status text_isalpha(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return all_letters(r, self, false, true, out);
}
static nigh_status text_isalnum(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return all_letters(r, self, true, true, out);
}
static nigh_status text_isspace(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return all_letters(r, self, false, false, out);
}

/* One {field} of format: empty, a number or a name. */
static nigh_status format_field(nigh_trun *r, nigh_tsink *s, nigh_str field, const nigh_targs *args, size_t *next) {
    int64_t idx;
    const nigh_tval *v = NULL;
    if (field.len == 0) v = *next < args->count ? &args->at[(*next)++] : NULL;
    else if (nigh_str_to_i64(field, &idx)) v = idx >= 0 && (uint64_t)idx < args->count ? &args->at[idx] : NULL;
    else for (size_t i = 0; i < args->named_count; i++) if (nigh_str_eq(args->names[i], field)) v = &args->named[i];
    if (v) return nigh_tval_print(r, s, v);
    for (size_t i = 0; i < field.len; i++)
        if (strchr(":!.[", field.ptr[i]))
            return nigh_trun_fail(r, NIGH_ENOSUP, "'format' knows only plain fields, not {%.*s}",
                (int)nigh_min(field.len, 40), field.ptr);
    return nigh_trun_fail(r, NIGH_EINVAL, "'format' has no value for {%.*s}", (int)nigh_min(field.len, 40), field.ptr);
}

static nigh_status add_format(nigh_trun *r, nigh_tsink *s, const nigh_tval *self, const nigh_targs *args) {
    nigh_str text = nigh_tval_str(self);
    size_t next = 0;
    for (size_t i = 0, plain; i < text.len;) {
        for (plain = i; plain < text.len && text.ptr[plain] != '{' && text.ptr[plain] != '}';) plain++;
        nigh_tval part = nigh_tval_slice(self, i, plain);
        NIGH_TRY(nigh_tsink_add(r, s, &part));
        if ((i = plain) == text.len) break;
        if (i + 1 < text.len && text.ptr[i + 1] == text.ptr[i]) {
            part = nigh_tval_slice(self, i, i + 1);
            NIGH_TRY(nigh_tsink_add(r, s, &part));
            i += 2;
            continue;
        }
        size_t end = nigh_str_find(text, NIGH_STR("}"), i);
        if (text.ptr[i] == '}' || end == SIZE_MAX)
            return nigh_trun_fail(r, NIGH_EINVAL, "'format' found a single brace");
        NIGH_TRY(format_field(r, s, nigh_str_slice(text, i + 1, end), args, &next));
        i = end + 1;
    }
    return NIGH_OK;
}

static nigh_status text_format(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    return sink_done(r, &s, add_format(r, &s, self, args), out);
}

/* ---- methods of dictionaries ---- */
static nigh_status dict_get(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *hit, *missing = nigh_targ(args, 1, "default");
    NIGH_TRY(nigh_tdict_get(r, self, &args->at[0], &hit));
    *out = hit ? *hit : missing ? *missing : (nigh_tval){ .kind = TV_NONE };
    return NIGH_OK;
}

static nigh_status dict_items(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    return nigh_tfilter_run(r, nigh_tfilter_find(NIGH_STR("items")), self, args, out);
}

static nigh_status dict_keys(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    return nigh_tval_items(r, self, out);
}

static nigh_status dict_values(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)args;
    NIGH_TRY(nigh_tlist_new(r, self->as.dict->count, self->user, out));
    for (size_t i = 0; i < self->as.dict->count; i++) NIGH_TRY(nigh_tlist_add(r, out, &self->as.dict->pairs[i].value));
    return NIGH_OK;
}

static nigh_status dict_update(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    const nigh_tval *from = &args->at[0];
    if (from->kind != TV_DICT)
        return nigh_trun_fail(r, NIGH_EINVAL, "'update' wants a dictionary, not %s", nigh_tval_kind(from));
    size_t count = from->as.dict->count;
    for (size_t i = 0; i < count; i++)
        NIGH_TRY(nigh_tdict_set(r, self, &from->as.dict->pairs[i].key, &from->as.dict->pairs[i].value));
    *out = (nigh_tval){ .kind = TV_NONE };
    return NIGH_OK;
}

/* ---- methods of lists ---- */
static nigh_status list_append(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    *out = (nigh_tval){ .kind = TV_NONE };
    return nigh_tlist_add(r, self, &args->at[0]);
}

static nigh_status list_extend(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    nigh_tval items;
    NIGH_TRY(nigh_tval_items(r, &args->at[0], &items));
    size_t count = items.as.list->count;
    for (size_t i = 0; i < count; i++) NIGH_TRY(nigh_tlist_add(r, self, &items.as.list->items[i]));
    *out = (nigh_tval){ .kind = TV_NONE };
    return NIGH_OK;
}

static nigh_status list_pop(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    nigh_tlist *list = self->as.list;
    int64_t i = args->count && args->at[0].kind == TV_INT ? args->at[0].as.integer : -1;
    if (i < 0) i += (int64_t)list->count;
    if (i < 0 || i >= (int64_t)list->count)
        return nigh_trun_fail(r, NIGH_EINVAL, "'pop' from a place that the list does not have");
    *out = list->items[i];
    size_t after = list->count - (size_t)i - 1;
    nigh_tval *items = NULL;    /* a copy: a loop may be running over the old one */
    if (list->count > 1) NIGH_TRY(nigh_trun_take(r, sizeof *items, list->count - 1, &items));
    if (i) memcpy(items, list->items, (size_t)i * sizeof *items);
    if (after) memcpy(items + i, list->items + i + 1, after * sizeof *items);
    list->items = items;
    list->count--;
    list->cap = list->count;
    return NIGH_OK;
}

static nigh_status list_index(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    for (size_t i = 0; i < self->as.list->count; i++) {
        bool same;
        NIGH_TRY(nigh_tval_equal(r, &self->as.list->items[i], &args->at[0], &same));
        if (same) { *out = nigh_tval_int((int64_t)i, self->user); return NIGH_OK; }
    }
    return nigh_trun_fail(r, NIGH_EINVAL, "'index' did not find the value in the list");
}

static nigh_status list_count(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    int64_t count = 0;
    for (size_t i = 0; i < self->as.list->count; i++) {
        bool same;
        NIGH_TRY(nigh_tval_equal(r, &self->as.list->items[i], &args->at[0], &same));
        count += same;
    }
    *out = nigh_tval_int(count, self->user);
    return NIGH_OK;
}

static nigh_status loop_cycle(nigh_trun *r, nigh_tval *self, const nigh_targs *args, nigh_tval *out) {
    (void)r;
    *out = args->at[self->as.loop->idx % args->count];
    return NIGH_OK;
}

/* ---- the table of methods ---- */
static const struct {
    uint8_t kind;
    const char *name;
    method_fn *run;
    uint8_t least, most;
    const char *names;
} methods[] = { { TV_TEXT, "capitalize", text_capitalize, 0, 0, NULL }, { TV_TEXT, "count", text_count, 1, 1, NULL },
    { TV_TEXT, "endswith", text_endswith, 1, 1, NULL }, { TV_TEXT, "find", text_find, 1, 1, NULL },
    { TV_TEXT, "format", text_format, 0, 255, "" }, { TV_TEXT, "isalnum", text_isalnum, 0, 0, NULL },
    { TV_TEXT, "isalpha", text_isalpha, 0, 0, NULL }, { TV_TEXT, "isdigit", text_isdigit, 0, 0, NULL },
    { TV_TEXT, "isspace", text_isspace, 0, 0, NULL }, { TV_TEXT, "join", text_join, 1, 1, NULL },
    { TV_TEXT, "lower", text_lower, 0, 0, NULL }, { TV_TEXT, "lstrip", text_lstrip, 0, 1, NULL },
    { TV_TEXT, "replace", text_replace, 2, 3, NULL }, { TV_TEXT, "rfind", text_rfind, 1, 1, NULL },
    { TV_TEXT, "rsplit", text_rsplit, 0, 2, "maxsplit" }, { TV_TEXT, "rstrip", text_rstrip, 0, 1, NULL },
    { TV_TEXT, "split", text_split, 0, 2, "maxsplit" }, { TV_TEXT, "splitlines", text_splitlines, 0, 0, NULL },
    { TV_TEXT, "startswith", text_startswith, 1, 1, NULL }, { TV_TEXT, "strip", text_strip, 0, 1, NULL },
    { TV_TEXT, "title", text_title, 0, 0, NULL }, { TV_TEXT, "upper", text_upper, 0, 0, NULL },
    { TV_DICT, "get", dict_get, 1, 2, "default" }, { TV_DICT, "items", dict_items, 0, 0, NULL },
    { TV_DICT, "keys", dict_keys, 0, 0, NULL }, { TV_DICT, "update", dict_update, 1, 1, NULL },
    { TV_DICT, "values", dict_values, 0, 0, NULL }, { TV_LIST, "append", list_append, 1, 1, NULL },
    { TV_LIST, "count", list_count, 1, 1, NULL }, { TV_LIST, "extend", list_extend, 1, 1, NULL },
    { TV_LIST, "index", list_index, 1, 1, NULL }, { TV_LIST, "pop", list_pop, 0, 1, NULL },
    { TV_LOOP, "cycle", loop_cycle, 1, 255, NULL } };

nigh_status nigh_tmethod_run(
    nigh_trun *r, nigh_tval *self, nigh_str name, const nigh_targs *args, nigh_tval *out, bool *known) {
    *known = false;
    for (size_t i = 0; i < NIGH_COUNT(methods); i++) {
        if (methods[i].kind != self->kind || !nigh_str_eq(name, nigh_str_of(methods[i].name))) continue;
        *known = true;
        NIGH_TRY(nigh_trun_spend(r, 0));
        bool any_name = methods[i].names && !methods[i].names[0];
        nigh_targs plain = *args;
        if (any_name) plain.named_count = 0;
        NIGH_TRY(nigh_targs_check(r, &plain, methods[i].name, methods[i].least, methods[i].most, methods[i].names));
        if (args->count < methods[i].least && !any_name)
            return nigh_trun_fail(r, NIGH_EINVAL, "'%s' wants its arguments in order", methods[i].name);
        return methods[i].run(r, self, args, out);
    }
    return NIGH_OK;
}

/* ---- functions ---- */
static nigh_status func_range(nigh_trun *r, const nigh_targs *args, nigh_tval *out) {
    int64_t v[3] = { 0, 0, 1 };
    NIGH_TRY(nigh_targs_check(r, args, "range", 1, 3, NULL));
    for (size_t i = 0; i < args->count; i++) {
        if (args->at[i].kind != TV_INT)
            return nigh_trun_fail(
                r, NIGH_EINVAL, "'range' wants whole numbers, not %s", nigh_tval_kind(&args->at[i]));
        v[args->count == 1 ? 1 : i] = args->at[i].as.integer;
        if (args->at[i].as.integer > INT32_MAX || args->at[i].as.integer < INT32_MIN)
            return nigh_trun_fail(r, NIGH_ERANGE, "'range' goes too far");
    }
    if (v[2] == 0) return nigh_trun_fail(r, NIGH_EINVAL, "'range' cannot have step 0");
    int64_t span = v[2] > 0 ? v[1] - v[0] : v[0] - v[1], step = v[2] > 0 ? v[2] : -v[2];
    size_t count = span > 0 ? (size_t)((span + step - 1) / step) : 0;
    NIGH_TRY(nigh_tlist_new(r, count, false, out));
    for (size_t i = 0; i < count; i++)
        out->as.list->items[out->as.list->count++] = nigh_tval_int(v[0] + (int64_t)i * v[2], false);
    return NIGH_OK;
}

static nigh_status new_dict(nigh_trun *r, nigh_tkind kind, const nigh_targs *args, nigh_tval *out) {
    NIGH_TRY(nigh_tdict_new(r, kind, false, out));
    if (args->count > 1 || (args->count && args->at[0].kind != TV_DICT))
        return nigh_trun_fail(r, NIGH_EINVAL, "expected names with values");
    if (args->count) {
        const nigh_tdict *from = args->at[0].as.dict;
        for (size_t i = 0; i < from->count; i++)
            NIGH_TRY(nigh_tdict_set(r, out, &from->pairs[i].key, &from->pairs[i].value));
    }
    for (size_t i = 0; i < args->named_count; i++) {
        nigh_tval key = nigh_tval_text(args->names[i], false);
        NIGH_TRY(nigh_tdict_set(r, out, &key, &args->named[i]));
    }
    return NIGH_OK;
}

static nigh_status func_namespace(nigh_trun *r, const nigh_targs *args, nigh_tval *out) {
    return new_dict(r, TV_SPACE, args, out);
}
static nigh_status func_dict(nigh_trun *r, const nigh_targs *args, nigh_tval *out) {
    return new_dict(r, TV_DICT, args, out);
}

static nigh_status func_raise(nigh_trun *r, const nigh_targs *args, nigh_tval *out) {
    nigh_tval text;
    NIGH_TRY(nigh_targs_check(r, args, "raise_exception", 1, 1, NULL));
    NIGH_TRY(nigh_tval_to_text(r, &args->at[0], &text));
    *out = text;
    return nigh_trun_fail(r, NIGH_EINVAL, "the template refuses: %.*s", (int)nigh_min(text.len, 180), text.as.text);
}

static int day_of_year(int32_t year, int32_t month, int32_t day) {
    static const int before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return before[month - 1] + day + (leap && month > 2 ? 1 : 0);
}

static nigh_status add_date_part(nigh_trun *r, nigh_tsink *s, char code) {
    static const char *const months[] = { "January", "February", "March", "April", "May", "June", "July", "August",
        "September", "October", "November", "December" };
    static const char *const days[] = { "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday" };
    char text[16];
    int32_t y = r->in->year, m = r->in->month, d = r->in->day, n = day_of_year(y, m, d), past = y - 1;
    const char *weekday = days[(n + past + past / 4 - past / 100 + past / 400) % 7];
    switch (code) {
    case 'Y': nigh_format(text, sizeof text, "%d", (int)y); break;
    case 'y': nigh_format(text, sizeof text, "%02d", (int)(y % 100)); break;
    case 'm': nigh_format(text, sizeof text, "%02d", (int)m); break;
    case 'd': nigh_format(text, sizeof text, "%02d", (int)d); break;
    case 'e': nigh_format(text, sizeof text, "%2d", (int)d); break;
    case 'j': nigh_format(text, sizeof text, "%03d", (int)n); break;
    case 'B': return nigh_tsink_add_str(r, s, nigh_str_of(months[m - 1]), false);
    case 'b': case 'h': return nigh_tsink_add_str(r, s, (nigh_str){ months[m - 1], 3 }, false);
    case 'A': return nigh_tsink_add_str(r, s, nigh_str_of(weekday), false);
    case 'a': return nigh_tsink_add_str(r, s, (nigh_str){ weekday, 3 }, false);
    case 'F': nigh_format(text, sizeof text, "%d-%02d-%02d", (int)y, (int)m, (int)d); break;
    case '%': nigh_format(text, sizeof text, "%%"); break;
    default:
        return nigh_trun_fail(
            r, NIGH_ENOSUP, "'strftime_now' does not know %%%c", code >= ' ' && code < 0x7f ? code : '?');
    }
    return nigh_tsink_add_str(r, s, nigh_str_of(text), false);
}

static nigh_status add_date(nigh_trun *r, nigh_tsink *s, const nigh_tval *format) {
    for (size_t i = 0; i < format->len; i++) {
        nigh_tval letter = nigh_tval_slice(format, i, i + 1);
        if (format->as.text[i] != '%' || i + 1 == format->len) NIGH_TRY(nigh_tsink_add(r, s, &letter));
        else if (format->as.text[i + 1] == '-' && i + 2 < format->len && strchr("dm", format->as.text[i + 2])) {
            char text[16];
            i += 2;
            nigh_format(text, sizeof text, "%d", (int)(format->as.text[i] == 'd' ? r->in->day : r->in->month));
            NIGH_TRY(nigh_tsink_add_str(r, s, nigh_str_of(text), false));
        } else NIGH_TRY(add_date_part(r, s, format->as.text[++i]));
    }
    return NIGH_OK;
}

static nigh_status func_strftime(nigh_trun *r, const nigh_targs *args, nigh_tval *out) {
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    NIGH_TRY(nigh_targs_check(r, args, "strftime_now", 1, 1, NULL));
    if (args->at[0].kind != TV_TEXT) return nigh_trun_fail(r, NIGH_EINVAL, "'strftime_now' wants a text");
    if (r->in->year < 1 || r->in->year > 9999 || r->in->month < 1 || r->in->month > 12 || r->in->day < 1 ||
        r->in->day > 31)
        return nigh_trun_fail(r, NIGH_EINVAL, "the template wants today's date, and none was given");
    return sink_done(r, &s, add_date(r, &s, &args->at[0]), out);
}

static const struct { const char *name; nigh_status (*run)(nigh_trun *, const nigh_targs *, nigh_tval *);
} funcs[] = { { "range", func_range }, { "namespace", func_namespace }, { "dict", func_dict },
    { "raise_exception", func_raise }, { "strftime_now", func_strftime } };

int nigh_tfunc_find(nigh_str name) {
    for (size_t i = 0; i < NIGH_COUNT(funcs); i++) if (nigh_str_eq(name, nigh_str_of(funcs[i].name))) return (int)i;
    return -1;
}

nigh_status nigh_tfunc_run(nigh_trun *r, int func, const nigh_targs *args, nigh_tval *out) {
    NIGH_TRY(nigh_trun_spend(r, 0));
    return funcs[func].run(r, args, out);
}
