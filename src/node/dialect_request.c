/* dialect_request.c - what the dialects share on the way out: a writer that sticks to its first failure, and the
 * checks that hold for all. What a dialect cannot say is refused by name, never dropped: an answer to another
 * question than the one asked looks like an answer. Only what says nothing (null, false, "", [], {}) may be left out.
 */
#include "node/dialect_parts.h"

void nigh_dialect_put(nigh_dialect_writer *w, const char *text) {
    if (w->bad == NIGH_OK) w->bad = nigh_buf_add(w->out, nigh_str_of(text));
}

void nigh_dialect_put_string(nigh_dialect_writer *w, nigh_str text) {
    if (w->bad == NIGH_OK) w->bad = nigh_json_add_string(w->out, text);
}

void nigh_dialect_put_value(nigh_dialect_writer *w, const nigh_json *v) {
    if (w->bad == NIGH_OK) w->bad = nigh_json_add_value(w->out, v);
}

void nigh_dialect_put_field(nigh_dialect_writer *w, const char *name, const nigh_json *v) {
    if (!v || v->type == NIGH_JSON_NULL) return;
    nigh_dialect_put(w, ",");
    nigh_dialect_put_string(w, nigh_str_of(name));
    nigh_dialect_put(w, ":");
    nigh_dialect_put_value(w, v);
}

void nigh_dialect_refuse(nigh_dialect_writer *w, const nigh_json *at, const char *why, const char *fmt, ...) {
    char place[120];
    va_list args;
    if (w->bad != NIGH_OK) return;
    va_start(args, fmt);
    nigh_vformat(place, sizeof place, fmt, args);
    va_end(args);
    w->bad = nigh_failf(w->err, NIGH_EINVAL, at ? at->at : 0, "%s: %s", place, why);
}

void nigh_dialect_only(nigh_dialect_writer *w, const nigh_json *object, const char *known, const char *where) {
    for (const nigh_json *m = nigh_json_first(object); m && w->bad == NIGH_OK; m = m->next) {
        char name[64];
        size_t n = nigh_format(name, sizeof name, " %.*s ", (int)nigh_min(m->key.len, 64), m->key.ptr);
        if ((n < sizeof name && strstr(known, name)) || nigh_dialect_is_empty(m)) continue;
        nigh_dialect_refuse(w, m, "the target's format cannot say this", "%s%.*s", where,
                            (int)nigh_min(m->key.len, 60), m->key.ptr);
    }
}

uint32_t nigh_dialect_max_tokens(const nigh_dialect_writer *w) {
    if (w->ask->max_tokens) return w->ask->max_tokens;
    uint32_t newer = nigh_dialect_count(w->root, "max_completion_tokens");
    return newer ? newer : nigh_dialect_count(w->root, "max_tokens");
}

void nigh_dialect_check(nigh_dialect_writer *w) {
    static const char *const whole[] = { "functions", "function_call", "audio", "logprobs" };
    const nigh_json *messages = nigh_json_get(w->root, NIGH_STR("messages")),
                    *n = nigh_json_get(w->root, NIGH_STR("n"));
    if (!nigh_json_is(messages, NIGH_JSON_ARRAY) || !messages->count)
        nigh_dialect_refuse(w, messages, "a list of messages must be given", "messages");
    for (const nigh_json *m = nigh_json_first(messages); m; m = m->next)
        if (m->type != NIGH_JSON_OBJECT || !nigh_json_text(m, "role").len)
            nigh_dialect_refuse(w, m, "a message must be an object with a role", "messages");
    if (n && n->type != NIGH_JSON_NULL && !(n->is_int && n->integer == 1))
        nigh_dialect_refuse(w, n, "another place is asked for one answer at a time", "n");
    for (size_t i = 0; i < NIGH_COUNT(whole); i++) {
        const nigh_json *v = nigh_json_get(w->root, nigh_str_of(whole[i]));
        if (!nigh_dialect_is_empty(v)) nigh_dialect_refuse(w, v, "cannot be asked of another place", "%s", whole[i]);
    }
}

const nigh_json *nigh_dialect_function(nigh_dialect_writer *w, const nigh_json *tool, const char *where) {
    const nigh_json *f = nigh_json_get(tool, NIGH_STR("function"));
    if (nigh_json_says(tool, "type", "function") && nigh_json_text(f, "name").len)
        return f;
    nigh_dialect_refuse(w, tool, "must be a function with a name", "%s", where);
    return NULL;
}

nigh_status nigh_dialect_request(nigh_api api, nigh_str body, const nigh_dialect_ask *ask, nigh_buf *out,
                                 nigh_err *err) {
    nigh_json_doc doc;
    if (body.len > NIGH_DIALECT_BODY_MAX) return nigh_fail(err, NIGH_ERANGE, 0, "the request is longer than 64 MiB");
    NIGH_TRY(nigh_json_parse(&doc, body, err));
    nigh_dialect_writer w = { .out = out, .err = err, .ask = ask, .root = doc.root };
    if (doc.root->type != NIGH_JSON_OBJECT) nigh_dialect_refuse(&w, doc.root, "must be an object", "the request");
    nigh_dialect_check(&w);
    out->len = 0;
    out->limit = 2 * (size_t)NIGH_DIALECT_BODY_MAX;
    if (w.bad == NIGH_OK) w.bad = nigh_buf_reserve(out, body.len + 256);
    nigh_status status = w.bad != NIGH_OK ? w.bad
                         : api == NIGH_API_ANTHROPIC ? nigh_dialect_write_anthropic(&w)
                         : api == NIGH_API_OPENAI_RESPONSES ? nigh_dialect_write_responses(&w)
                                                            : nigh_dialect_write_chat(&w);
    nigh_json_release(&doc);
    if (status == NIGH_ENOMEM || status == NIGH_ERANGE) return nigh_fail(err, status, 0, nigh_status_text(status));
    return status;
}
