/* place_body.c - what another place gets to see of a request: an OpenAI chat request, written anew.
 *
 * Only members that say what to answer are copied; who asks and what for (user, metadata, keys of caches) stays here.
 * When the class asks for it, personal data and secrets are taken out of every string: texts, descriptions, schemas,
 * stop strings, arguments and results of tools, also out of numbers in them. Then ids of calls are replaced by ones of
 * our own, names of participants are left out, and a name of a function or a key that holds something private stops the
 * request, as do parts that are no text: they cannot be looked into. Fails closed. */
#include "node/place_parts.h"

#include "base/os.h"

enum { BODY_MAX = 16 << 20 };

typedef struct {
    nigh_placed *pl;
    unsigned kinds;                 /* of nigh_find_kinds; 0: nothing is taken out */
    nigh_buf *out;
    nigh_buf text;                  /* one string, redacted */
    nigh_err *err;
} writer;

static nigh_status put(writer *w, const char *text) { return nigh_buf_add(w->out, nigh_str_of(text)); }

static bool holds_any(const writer *w, nigh_str text) {
    nigh_found found;
    size_t from = 0;
    return w->kinds && nigh_find_next(text, &from, w->kinds, &found);
}

/* ---- strings ---- */

static nigh_status redact(writer *w, nigh_str text) {
    nigh_placed *pl = w->pl;
    size_t replaced = 0;
    uint64_t seed;
    if (!pl->redactor) {
        if (!nigh_os_random(&seed, sizeof seed))
            return nigh_fail(w->err, NIGH_EIO, 0, "the system gives no random numbers");
        NIGH_TRY(nigh_redactor_new(&pl->redactor, seed, w->err));
    }
    w->text.len = 0;
    NIGH_TRY(nigh_redact(pl->redactor, w->kinds, text, &w->text, &replaced, w->err));
    pl->redacted += (uint32_t)replaced;
    return NIGH_OK;
}

/* Somebody's words. */
static nigh_status put_words(writer *w, nigh_str text) {
    if (!w->kinds || (!w->pl->redactor && !holds_any(w, text))) return nigh_json_add_string(w->out, text);
    NIGH_TRY(redact(w, text));
    return nigh_json_add_string(w->out, nigh_buf_str(&w->text));
}

/* A name that must stay what it is. */
static nigh_status put_name(writer *w, nigh_str text) {
    if (holds_any(w, text))
        return nigh_fail(w->err, NIGH_EPOLICY, 0, "the name of a function or a key holds what must not leave");
    return nigh_json_add_string(w->out, text);
}

/* The id of a call: the same id, the same word of ours. */
static nigh_status put_id(writer *w, nigh_str id) {
    if (!w->kinds) return nigh_json_add_string(w->out, id);
    if (!w->pl->id_seed && !nigh_os_random(&w->pl->id_seed, sizeof w->pl->id_seed))
        w->pl->id_seed = nigh_os_now_ns();
    uint64_t hash = nigh_str_hash(id, w->pl->id_seed);
    return nigh_buf_addf(w->out, "\"call_%08x%08x\"", (unsigned)(hash >> 32), (unsigned)hash);
}

static nigh_status put_scalar(writer *w, const nigh_json *v) {
    if (v->type == NIGH_JSON_STRING) return put_words(w, v->text);
    if (v->type == NIGH_JSON_NUMBER && holds_any(w, v->text)) return put_words(w, v->text);
    return nigh_json_add_value(w->out, v);
}

/* ---- values ---- */

static bool is_container(const nigh_json *v) { return v->type == NIGH_JSON_ARRAY || v->type == NIGH_JSON_OBJECT; }

/* Any value, its strings as somebody's words, its keys as names. */
static nigh_status put_value(writer *w, const nigh_json *v) {
    const nigh_json *stack[NIGH_JSON_DEPTH_MAX + 1], *at = v;
    for (size_t depth = 0;;) {
        if (depth && stack[depth - 1]->type == NIGH_JSON_OBJECT) {
            NIGH_TRY(put_name(w, at->key));
            NIGH_TRY(put(w, ":"));
        }
        if (is_container(at)) {
            NIGH_TRY(put(w, at->type == NIGH_JSON_ARRAY ? "[" : "{"));
            if (at->first && depth < NIGH_COUNT(stack)) {
                stack[depth++] = at;
                at = at->first;
                continue;
            }
            NIGH_TRY(put(w, at->type == NIGH_JSON_ARRAY ? "]" : "}"));
        } else NIGH_TRY(put_scalar(w, at));
        while (depth && !at->next) {
            at = stack[--depth];
            NIGH_TRY(put(w, at->type == NIGH_JSON_ARRAY ? "]" : "}"));
        }
        if (!depth) return NIGH_OK;
        NIGH_TRY(put(w, ","));
        at = at->next;
    }
}

/* Text that is JSON itself (arguments of a tool): looked into, so that nothing hides behind an escape. */
static nigh_status put_json_text(writer *w, nigh_str text) {
    nigh_json_doc doc = { 0 };
    nigh_buf inner = NIGH_BUF(BODY_MAX), *outer = w->out;
    if (!w->kinds) return nigh_json_add_string(w->out, text);
    if (nigh_json_parse(&doc, text, NULL) != NIGH_OK) return put_words(w, text);
    w->out = &inner;
    nigh_status status = put_value(w, doc.root);
    w->out = outer;
    if (status == NIGH_OK) status = nigh_json_add_string(w->out, nigh_buf_str(&inner));
    nigh_json_release(&doc);
    nigh_buf_release(&inner);
    return status;
}

/* ---- messages ---- */

static nigh_status put_content(writer *w, const nigh_json *content, bool is_tool) {
    if (!content) return put(w, "null");
    if (content->type == NIGH_JSON_STRING) {
        bool json = is_tool && content->text.len && (content->text.ptr[0] == '{' || content->text.ptr[0] == '[');
        return json ? put_json_text(w, content->text) : put_words(w, content->text);
    }
    for (const nigh_json *part = content->first; part && w->kinds; part = part->next) {
        const nigh_json *type = nigh_json_get(part, NIGH_STR("type"));
        if (!type || !nigh_str_eq(type->text, NIGH_STR("text")))
            return nigh_fail(w->err, NIGH_EPOLICY, 0, "a part that is no text cannot be looked into: it may not leave");
    }
    return put_value(w, content);
}

static nigh_status put_call(writer *w, const nigh_json *call) {
    const nigh_json *id = nigh_json_get(call, NIGH_STR("id")), *f = nigh_json_get(call, NIGH_STR("function"));
    const nigh_json *name = nigh_json_get(f, NIGH_STR("name")), *args = nigh_json_get(f, NIGH_STR("arguments"));
    NIGH_TRY(put(w, "{\"id\":"));
    NIGH_TRY(put_id(w, id ? id->text : NIGH_STR("")));
    NIGH_TRY(put(w, ",\"type\":\"function\",\"function\":{\"name\":"));
    NIGH_TRY(put_name(w, name ? name->text : NIGH_STR("")));
    NIGH_TRY(put(w, ",\"arguments\":"));
    if (args && args->type != NIGH_JSON_STRING) NIGH_TRY(put_value(w, args));
    else NIGH_TRY(put_json_text(w, args ? args->text : NIGH_STR("{}")));
    return put(w, "}}");
}

static nigh_status put_message(writer *w, const nigh_json *m) {
    const nigh_json *role = nigh_json_get(m, NIGH_STR("role")), *calls = nigh_json_get(m, NIGH_STR("tool_calls"));
    const nigh_json *id = nigh_json_get(m, NIGH_STR("tool_call_id")), *name = nigh_json_get(m, NIGH_STR("name"));
    NIGH_TRY(put(w, "{\"role\":"));
    NIGH_TRY(nigh_json_add_string(w->out, role->text));     /* one of six words: request.c */
    NIGH_TRY(put(w, ",\"content\":"));
    NIGH_TRY(put_content(w, nigh_json_get(m, NIGH_STR("content")), nigh_str_eq(role->text, NIGH_STR("tool"))));
    if (calls && calls->type == NIGH_JSON_ARRAY && calls->count) {
        NIGH_TRY(put(w, ",\"tool_calls\":["));
        for (const nigh_json *c = calls->first; c; c = c->next) {
            if (c != calls->first) NIGH_TRY(put(w, ","));
            NIGH_TRY(put_call(w, c));
        }
        NIGH_TRY(put(w, "]"));
    }
    if (id && id->type == NIGH_JSON_STRING) {
        NIGH_TRY(put(w, ",\"tool_call_id\":"));
        NIGH_TRY(put_id(w, id->text));
    }
    if (name && name->type == NIGH_JSON_STRING && !w->kinds) {
        NIGH_TRY(put(w, ",\"name\":"));
        NIGH_TRY(nigh_json_add_string(w->out, name->text));
    }
    return put(w, "}");
}

static nigh_status put_messages(writer *w, const nigh_json *messages) {
    NIGH_TRY(put(w, "{\"messages\":["));
    for (const nigh_json *m = messages->first; m; m = m->next) {
        if (m != messages->first) NIGH_TRY(put(w, ","));
        NIGH_TRY(put_message(w, m));
    }
    if (w->pl->a->goes_on.len) {        /* what the client has already, to go on from */
        NIGH_TRY(put(w, ",{\"role\":\"assistant\",\"content\":"));
        NIGH_TRY(put_words(w, w->pl->a->goes_on));
        NIGH_TRY(put(w, "}"));
    }
    return put(w, "]");
}

/* ---- the rest ---- */

static nigh_status put_tools(writer *w, const nigh_json *tools) {
    NIGH_TRY(put(w, ",\"tools\":["));
    for (const nigh_json *t = tools->first; t; t = t->next) {
        const nigh_json *f = nigh_json_get(t, NIGH_STR("function"));
        const nigh_json *text = nigh_json_get(f, NIGH_STR("description"));
        const nigh_json *schema = nigh_json_get(f, NIGH_STR("parameters"));
        const nigh_json *strict = nigh_json_get(f, NIGH_STR("strict"));
        NIGH_TRY(put(w, t == tools->first ? "{\"type\":\"function\",\"function\":{\"name\":"
            : ",{\"type\":\"function\",\"function\":{\"name\":"));
        NIGH_TRY(put_name(w, nigh_json_get(f, NIGH_STR("name"))->text));
        if (text && text->type == NIGH_JSON_STRING) {
            NIGH_TRY(put(w, ",\"description\":"));
            NIGH_TRY(put_words(w, text->text));
        }
        if (schema && schema->type == NIGH_JSON_OBJECT) {
            NIGH_TRY(put(w, ",\"parameters\":"));
            NIGH_TRY(put_value(w, schema));
        }
        if (strict && strict->type == NIGH_JSON_BOOL) NIGH_TRY(put(w, strict->boolean ? ",\"strict\":true"
            : ",\"strict\":false"));
        NIGH_TRY(put(w, "}}"));
    }
    return put(w, "]");
}

static nigh_status put_member(writer *w, const nigh_json *root, const char *name) {
    const nigh_json *v = nigh_json_get(root, nigh_str_of(name));
    if (!v || v->type == NIGH_JSON_NULL) return NIGH_OK;
    NIGH_TRY(nigh_buf_addf(w->out, ",\"%s\":", name));
    return put_value(w, v);
}

static nigh_status put_all(writer *w, nigh_tier tier) {
    static const char *const members[] = { "tool_choice", "parallel_tool_calls", "response_format", "temperature",
        "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "presence_penalty", "frequency_penalty",
        "logit_bias", "reasoning_effort", "verbosity" };
    static const char *const ours[] = { "top_k", "min_p", "repeat_penalty", "ignore_eos" };     /* of nodes like us */
    const nigh_request *r = &w->pl->a->r;
    NIGH_TRY(put_messages(w, r->content));
    if (r->tools) NIGH_TRY(put_tools(w, r->tools));
    for (size_t i = 0; i < NIGH_COUNT(members); i++) NIGH_TRY(put_member(w, r->doc.root, members[i]));
    for (size_t i = 0; i < NIGH_COUNT(ours) && tier == NIGH_TIER_EDGE; i++)
        NIGH_TRY(put_member(w, r->doc.root, ours[i]));
    return put(w, "}");
}

nigh_status place_body(nigh_placed *pl, nigh_tier tier, bool redacts, nigh_buf *out, nigh_err *err) {
    writer w = { .pl = pl, .kinds = redacts ? nigh_find_kinds(pl->d.redact) : 0, .out = out,
        .text = NIGH_BUF(BODY_MAX), .err = err };
    if (redacts) pl->redacted = 0;
    *out = NIGH_BUF(BODY_MAX);
    if (err) *err = (nigh_err){ 0 };
    nigh_status status = put_all(&w, tier);
    nigh_buf_release(&w.text);
    if (status == NIGH_OK) return NIGH_OK;
    nigh_buf_release(out);
    return err && err->text[0] ? status : nigh_fail(err, status, 0, nigh_status_text(status));
}
