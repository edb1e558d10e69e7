/* chat.c - messages to a prompt.
 *
 *   request (JSON) -> check -> rewrite to what the template takes (JSON text, parsed again) -> render -> text with
 * spans -> ids
 *
 * What a template takes is found by trying: nigh_chat_open renders conversations with a mark in the place of interest
 * and looks whether the mark comes out. The rewriting is done on text, since a request is small and a tree of our own
 * would have to be limited again; the result goes through the same parser, with the same limits, as anything from
 * outside. */
#include "engine/chat.h"

enum { REQUEST_BYTES_MAX = 16 << 20, MESSAGES_MAX = 10000 };

struct nigh_chat {
    nigh_template *t;
    nigh_chat_kind kind;
    nigh_chat_takes takes;
};

static const nigh_str roles[] = { { "system", 6 }, { "developer", 9 }, { "user", 4 }, { "assistant", 9 },
    { "tool", 4 }, { "function", 8 } };

#define CHATML \
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' " \
    "}}{% endfor %}" \
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
#define PLAIN "{% for message in messages %}{% if message.role == 'system' %}{{ message.content | trim + '\\n\\n' }}" \
              "{% elif message.role == 'assistant' %}{{ 'Assistant: ' + message.content | trim + '\\n' }}" \
              "{% elif message.role == 'tool' %}{{ 'Tool: ' + message.content | trim + '\\n' }}" \
              "{% else %}{{ 'User: ' + message.content | trim + '\\n' }}{% endif %}{% endfor %}" \
              "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"

/* ---- rewriting ---- */
typedef struct {
    const nigh_chat *c;
    const nigh_json *messages;
    nigh_buf out;
    nigh_err *err;
} rewriter;

static nigh_status bad(rewriter *w, const nigh_json *at, const char *what) {
    return nigh_failf(w->err, NIGH_EINVAL, at ? at->at : 0, "the request: %s", what);
}

static nigh_status full(rewriter *w, nigh_status status) {
    if (status == NIGH_OK) return status;
    return nigh_fail(
        w->err, status, 0, status == NIGH_ERANGE ? "the request is too long" : "not enough memory for the request");
}

#define PUT(w, lit) NIGH_TRY(full((w), nigh_buf_add(&(w)->out, NIGH_STR(lit))))

static bool is_text(const nigh_json *v) { return v && v->type == NIGH_JSON_STRING; }

/* The text of one part: {"type": "text", "text": ...}; anything but text is refused by name. */
static nigh_status part_text(rewriter *w, const nigh_json *part, nigh_str *out) {
    const nigh_json *type = nigh_json_get(part, NIGH_STR("type")), *text = nigh_json_get(part, NIGH_STR("text"));
    if (is_text(part)) { *out = part->text; return NIGH_OK; }
    if (!is_text(type)) return bad(w, part, "a part of content needs a type");
    bool known = nigh_str_eq(type->text, NIGH_STR("text")) || nigh_str_eq(type->text, NIGH_STR("input_text")) ||
                 nigh_str_eq(type->text, NIGH_STR("output_text"));
    if (!known)
        return nigh_failf(w->err, NIGH_ENOSUP, part->at, "content of type '%.*s' is not supported",
            (int)nigh_min(type->text.len, 60), type->text.ptr);
    if (!is_text(text)) return bad(w, part, "a text part needs a text");
    *out = text->text;
    return NIGH_OK;
}

/* All texts of a content in one, with newlines between parts, after `before`. */
static nigh_status content_text(rewriter *w, nigh_str before, const nigh_json *content, nigh_buf *text) {
    NIGH_TRY(full(w, nigh_buf_add(text, before)));
    if (!content || content->type == NIGH_JSON_NULL) return NIGH_OK;
    if (is_text(content)) return full(w, nigh_buf_add(text, content->text));
    if (content->type != NIGH_JSON_ARRAY) return bad(w, content, "content must be a string, null or an array of parts");
    for (const nigh_json *part = content->first; part; part = part->next) {
        nigh_str piece;
        NIGH_TRY(part_text(w, part, &piece));
        if (part != content->first) NIGH_TRY(full(w, nigh_buf_add_char(text, '\n')));
        NIGH_TRY(full(w, nigh_buf_add(text, piece)));
    }
    return NIGH_OK;
}

static nigh_status put_content(rewriter *w, nigh_str before, const nigh_json *content) {
    nigh_buf text = NIGH_BUF(REQUEST_BYTES_MAX);
    bool parts = w->c->takes.parts && !w->c->takes.text;
    nigh_status status = content_text(w, before, content, &text);
    if (status == NIGH_OK && parts) status = full(w, nigh_buf_add(&w->out, NIGH_STR("[{\"type\":\"text\",\"text\":")));
    if (status == NIGH_OK) status = full(w, nigh_json_add_string(&w->out, nigh_buf_str(&text)));
    if (status == NIGH_OK && parts) status = full(w, nigh_buf_add(&w->out, NIGH_STR("}]")));
    nigh_buf_release(&text);
    return status;
}

/* Arguments arrive as a string of JSON; most templates want the object. Text that is no JSON object stays a string. */
static nigh_status put_arguments(rewriter *w, const nigh_json *arguments) {
    nigh_json_doc doc;
    nigh_status status = NIGH_EINVAL;
    if (is_text(arguments) && w->c->takes.object_arguments) status = nigh_json_parse(&doc, arguments->text, NULL);
    if (status != NIGH_OK) {
        if (is_text(arguments) || w->c->takes.object_arguments) return full(w, nigh_json_add_value(&w->out, arguments));
        nigh_buf text = NIGH_BUF(REQUEST_BYTES_MAX);
        status = full(w, nigh_json_add_value(&text, arguments));
        if (status == NIGH_OK) status = full(w, nigh_json_add_string(&w->out, nigh_buf_str(&text)));
        nigh_buf_release(&text);
        return status;
    }
    status = full(w, nigh_json_add_value(&w->out, doc.root->type == NIGH_JSON_OBJECT ? doc.root : arguments));
    nigh_json_release(&doc);
    return status;
}

static nigh_status put_key(rewriter *w, nigh_str key, bool first) {
    if (!first) PUT(w, ",");
    NIGH_TRY(full(w, nigh_json_add_string(&w->out, key)));
    PUT(w, ":");
    return NIGH_OK;
}

static nigh_status put_call(rewriter *w, const nigh_json *call) {
    const nigh_json *function = nigh_json_get(call, NIGH_STR("function"));
    if (!function || !is_text(nigh_json_get(function, NIGH_STR("name"))))
        return bad(w, call, "a tool call needs a function with a name");
    PUT(w, "{");
    for (const nigh_json *m = call->first; m; m = m->next) {
        NIGH_TRY(put_key(w, m->key, m == call->first));
        if (m != function) { NIGH_TRY(full(w, nigh_json_add_value(&w->out, m))); continue; }
        PUT(w, "{");
        for (const nigh_json *f = function->first; f; f = f->next) {
            NIGH_TRY(put_key(w, f->key, f == function->first));
            if (nigh_str_eq(f->key, NIGH_STR("arguments"))) NIGH_TRY(put_arguments(w, f));
            else NIGH_TRY(full(w, nigh_json_add_value(&w->out, f)));
        }
        PUT(w, "}");
    }
    PUT(w, "}");
    return NIGH_OK;
}

static nigh_status put_calls(rewriter *w, const nigh_json *calls) {
    if (calls->type != NIGH_JSON_ARRAY) return bad(w, calls, "tool_calls must be an array");
    PUT(w, "[");
    for (const nigh_json *call = calls->first; call; call = call->next) {
        if (call != calls->first) PUT(w, ",");
        NIGH_TRY(put_call(w, call));
    }
    PUT(w, "]");
    return NIGH_OK;
}

/* before: text to put in front of the content. */
static nigh_status put_message(rewriter *w, const nigh_json *message, nigh_str before) {
    const nigh_json *role = nigh_json_get(message, NIGH_STR("role")),
                    *content = nigh_json_get(message, NIGH_STR("content"));
    const nigh_json *calls = nigh_json_get(message, NIGH_STR("tool_calls"));
    bool has_calls = calls && calls->type == NIGH_JSON_ARRAY && calls->count;
    if (message->type != NIGH_JSON_OBJECT || !is_text(role)) return bad(w, message, "a message needs a role");
    if (!content && !has_calls) return bad(w, message, "a message needs content");
    PUT(w, "{\"role\":");
    NIGH_TRY(full(w, nigh_json_add_string(&w->out, role->text)));
    PUT(w, ",\"content\":");
    NIGH_TRY(put_content(w, before, content));
    for (const nigh_json *m = message->first; m; m = m->next) {
        if (m == role || m == content || m->type == NIGH_JSON_NULL) continue;
        NIGH_TRY(put_key(w, m->key, false));
        if (m == calls) NIGH_TRY(put_calls(w, m));
        else NIGH_TRY(full(w, nigh_json_add_value(&w->out, m)));
    }
    PUT(w, "}");
    return NIGH_OK;
}

/* A template that takes no system message finds its text in front of the first message of the user. */
static nigh_status put_messages(rewriter *w) {
    const nigh_json *first = nigh_json_first(w->messages), *role = nigh_json_get(first, NIGH_STR("role"));
    nigh_buf before = NIGH_BUF(REQUEST_BYTES_MAX);
    nigh_status status = full(w, nigh_buf_add(&w->out, NIGH_STR("[")));
    if (status == NIGH_OK && !w->c->takes.system && is_text(role) && nigh_str_eq(role->text, NIGH_STR("system")) &&
        first->next) {
        status = content_text(w, (nigh_str){ 0 }, nigh_json_get(first, NIGH_STR("content")), &before);
        if (status == NIGH_OK) status = full(w, nigh_buf_add_char(&before, '\n'));
        first = first->next;
    }
    for (const nigh_json *m = first; m && status == NIGH_OK; m = m->next) {
        if (m != first) status = full(w, nigh_buf_add(&w->out, NIGH_STR(",")));
        if (status == NIGH_OK) status = put_message(w, m, m == first ? nigh_buf_str(&before) : (nigh_str){ 0 });
    }
    if (status == NIGH_OK) status = full(w, nigh_buf_add(&w->out, NIGH_STR("]")));
    nigh_buf_release(&before);
    return status;
}

/* ---- rendering ---- */
enum { VARS_MAX = 64 };

typedef struct { nigh_template_var list[VARS_MAX]; size_t count; } vars;

static void give(vars *v, nigh_template_var var) {
    for (size_t i = 0; i < v->count; i++) if (nigh_str_eq(v->list[i].name, var.name)) { v->list[i] = var; return; }
    if (v->count < VARS_MAX) v->list[v->count++] = var;
}

static const nigh_json json_true = { .type = NIGH_JSON_BOOL, .boolean = true }, json_false = { .type = NIGH_JSON_BOOL };

static nigh_str token_text(const nigh_json *request, nigh_chat_opts o, nigh_str name, nigh_str other) {
    const nigh_json *v = o.trust_request_tokens ? nigh_json_get(request, name) : NULL;
    return is_text(v) ? v->text : other;
}

static nigh_status collect(
    const nigh_json *request, const nigh_json *messages, nigh_chat_opts o, vars *v, nigh_err *err) {
    const nigh_json *tools = nigh_json_get(request, NIGH_STR("tools")),
                    *more = nigh_json_get(request, NIGH_STR("chat_template_kwargs"));
    const nigh_json *prompt = nigh_json_get(request, NIGH_STR("add_generation_prompt"));
    nigh_str bos = token_text(request, o, NIGH_STR("bos_token"), o.bos_token);
    nigh_str eos = token_text(request, o, NIGH_STR("eos_token"), o.eos_token);
    if (more && more->type != NIGH_JSON_OBJECT)
        return nigh_fail(err, NIGH_EINVAL, more->at, "the request: chat_template_kwargs must be an object");
    if (tools && tools->type != NIGH_JSON_ARRAY && tools->type != NIGH_JSON_NULL)
        return nigh_fail(err, NIGH_EINVAL, tools->at, "the request: tools must be an array");
    if (more && more->count > VARS_MAX - 16)
        return nigh_fail(err, NIGH_ERANGE, more->at, "the request: too many chat_template_kwargs");
    give(v, (nigh_template_var){ .name = NIGH_STR("messages"), .value = messages });
    give(v, (nigh_template_var){ .name = NIGH_STR("bos_token"), .text = bos, .trusted = true });
    give(v, (nigh_template_var){ .name = NIGH_STR("eos_token"), .text = eos, .trusted = true });
    if (tools && tools->type == NIGH_JSON_ARRAY && tools->count)
        give(v, (nigh_template_var){ .name = NIGH_STR("tools"), .value = tools });
    bool wanted = prompt && prompt->type == NIGH_JSON_BOOL ? prompt->boolean : !o.no_generation_prompt;
    if (wanted)
        give(v,
            (nigh_template_var){ .name = NIGH_STR("add_generation_prompt"), .value = &json_true, .trusted = true });
    else
        give(v,
            (nigh_template_var){ .name = NIGH_STR("add_generation_prompt"), .value = &json_false, .trusted = true });
    for (const nigh_json *m = nigh_json_first(more); m; m = m->next)
        give(v, (nigh_template_var){ .name = m->key, .value = m });
    return NIGH_OK;
}

/* Renders messages that are rewritten already. */
static nigh_status render(const nigh_chat *c, const nigh_json *request, const nigh_json *messages, nigh_chat_opts o,
    nigh_buf *prompt, nigh_spans *spans, nigh_err *err) {
    vars v = { .count = 0 };
    char day_first[24], month_first[24];    /* the names Llama 3 and Firefunction ask for */
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    if (o.year && o.month >= 1 && o.month <= 12) {
        const char *month = months + 3 * (o.month - 1);
        nigh_format(day_first, sizeof day_first, "%02d %.*s %d", (int)o.day, 3, month, (int)o.year);
        nigh_format(month_first, sizeof month_first, "%.*s %02d %d", 3, month, (int)o.day, (int)o.year);
        give(&v,
            (nigh_template_var){ .name = NIGH_STR("date_string"), .text = nigh_str_of(day_first), .trusted = true });
        give(&v,
            (nigh_template_var){ .name = NIGH_STR("datetime"), .text = nigh_str_of(month_first), .trusted = true });
    }
    /* What the model thought in earlier turns stays in the prompt, so that the prompt only grows and its evaluation
     * can be reused. */
    give(&v, (nigh_template_var){ .name = NIGH_STR("drop_thinking"), .value = &json_false, .trusted = true });
    give(&v, (nigh_template_var){ .name = NIGH_STR("enable_thinking"),
                 .value = c->takes.thinking ? &json_true : &json_false,
                 .trusted = true });
    NIGH_TRY(collect(request, messages, o, &v, err));
    nigh_template_input in = { v.list, v.count, o.year, o.month, o.day, NIGH_STR("role"), roles, NIGH_COUNT(roles) };
    return nigh_template_render(c->t, &in, prompt, spans, err);
}

static void drop_front(nigh_buf *prompt, size_t from, size_t bytes, nigh_spans *spans) {
    memmove(prompt->ptr + from, prompt->ptr + from + bytes, prompt->len - from - bytes);
    prompt->len -= bytes;
    size_t kept = 0;
    for (size_t i = 0; spans && i < spans->count; i++) {
        if (spans->ptr[i].end <= bytes) continue;
        spans->ptr[kept++] = (nigh_span){ spans->ptr[i].end - bytes, spans->ptr[i].user };
    }
    if (spans) spans->count = kept;
}

nigh_status nigh_chat_render(const nigh_chat *c, const nigh_json *request, nigh_chat_opts o, nigh_buf *prompt,
    nigh_spans *spans, nigh_err *err) {
    rewriter w = { c, nigh_json_get(request, NIGH_STR("messages")), NIGH_BUF(REQUEST_BYTES_MAX), err };
    nigh_json_doc doc = { 0 };
    nigh_str bos = token_text(request, o, NIGH_STR("bos_token"), o.bos_token);
    size_t before = prompt->len;
    if (spans) *spans = (nigh_spans){ 0 };
    if (!w.messages || w.messages->type != NIGH_JSON_ARRAY || !w.messages->count)
        return bad(&w, w.messages, "messages must be an array with at least one message");
    if (w.messages->count > MESSAGES_MAX)
        return nigh_failf(err, NIGH_ERANGE, w.messages->at, "the request: more than %d messages", MESSAGES_MAX);
    nigh_status status = put_messages(&w);
    if (status == NIGH_OK) status = nigh_json_parse(&doc, nigh_buf_str(&w.out), err);
    if (status == NIGH_OK) status = render(c, request, doc.root, o, prompt, spans, err);
    if (status == NIGH_OK && o.drop_bos && bos.len &&
        nigh_str_starts(nigh_str_slice(nigh_buf_str(prompt), before, prompt->len), bos))
        drop_front(prompt, before, bos.len, spans);
    nigh_json_release(&doc);
    nigh_buf_release(&w.out);
    return status;
}

/* ---- what a template takes ---- */
/* Renders a request of ours; is the mark in the prompt? */
static nigh_status try_request(const nigh_chat *c, const char *text, const char *mark, bool *out) {
    nigh_json_doc doc;
    nigh_buf prompt = NIGH_BUF(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_chat_opts o = {
        .year = 2026, .month = 1, .day = 1, .bos_token = NIGH_STR("<s>"), .eos_token = NIGH_STR("</s>")
    };
    *out = false;
    NIGH_TRY(nigh_json_parse(&doc, nigh_str_of(text), NULL));
    nigh_status status = render(c, doc.root, nigh_json_get(doc.root, NIGH_STR("messages")), o, &prompt, NULL, NULL);
    if (status == NIGH_OK) *out = nigh_str_find(nigh_buf_str(&prompt), nigh_str_of(mark), 0) != SIZE_MAX;
    nigh_buf_release(&prompt);
    nigh_json_release(&doc);
    return status == NIGH_ENOMEM ? status : NIGH_OK;
}

#define ASK(content) "{\"messages\":[{\"role\":\"user\",\"content\":" content "}]}"
#define CALL(arguments) \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[" \
    "{\"id\":\"call00001\",\"type\":\"function\",\"function\":{\"name\":\"act\",\"arguments\":" arguments \
    "}}]},{\"role\":\"tool\"," \
    "\"tool_call_id\":\"call00001\",\"name\":\"act\",\"content\":\"b\"},{\"role\":\"assistant\",\"content\":\"c\"}," \
    "{\"role\":\"user\",\"content\":\"d\"}]," TOOLS "}"
#define TOOLS \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"act\",\"description\":\"xq7tool\",\"parameters\":{" \
    "\"type\":\"object\"," \
    "\"properties\":{\"key\":{\"type\":\"string\",\"description\":\"e\"}},\"required\":[\"key\"]}}}]"

/* Does a template end its prompt differently when the model shall think? Then it is a model that thinks, and it does
 * by default. */
static nigh_status find_thinking(nigh_chat *c) {
    nigh_buf prompt[2] = { NIGH_BUF(NIGH_TEMPLATE_OUTPUT_MAX), NIGH_BUF(NIGH_TEMPLATE_OUTPUT_MAX) };
    nigh_chat_opts o = {
        .year = 2026, .month = 1, .day = 1, .bos_token = NIGH_STR("<s>"), .eos_token = NIGH_STR("</s>")
    };
    nigh_json_doc doc;
    nigh_status status = NIGH_OK;
    NIGH_TRY(nigh_json_parse(&doc,
        c->takes.text ? NIGH_STR(ASK("\"xq7end\"")) : NIGH_STR(ASK("[{\"type\":\"text\",\"text\":\"xq7end\"}]")),
        NULL));
    const nigh_json *messages = nigh_json_get(doc.root, NIGH_STR("messages"));
    for (int i = 0; i < 2 && status == NIGH_OK; i++) {
        c->takes.thinking = i == 0;
        status = render(c, doc.root, messages, o, &prompt[i], NULL, NULL);
    }
    if (status == NIGH_OK) {
        nigh_str end[2];
        for (int i = 0; i < 2; i++) {
            nigh_str text = nigh_buf_str(&prompt[i]);
            size_t at = nigh_str_find(text, NIGH_STR("xq7end"), 0);
            end[i] = at == SIZE_MAX ? text : nigh_str_slice(text, at, text.len);
        }
        c->takes.thinking = !nigh_str_eq(end[0], end[1]);
    }
    nigh_buf_release(&prompt[0]);
    nigh_buf_release(&prompt[1]);
    nigh_json_release(&doc);
    return status == NIGH_ENOMEM ? status : NIGH_OK;
}

static nigh_status find_takes(nigh_chat *c) {
    nigh_chat_takes *t = &c->takes;
    bool string_call, object_call;
    NIGH_TRY(try_request(c, ASK("\"xq7text\""), "xq7text", &t->text));
    NIGH_TRY(try_request(c, ASK("[{\"type\":\"text\",\"text\":\"xq7part\"}]"), "xq7part", &t->parts));
    NIGH_TRY(try_request(c,
        "{\"messages\":[{\"role\":\"system\",\"content\":\"xq7system\"},{\"role\":\"user\",\"content\":\"a\"}]}",
        "xq7system", &t->system));
    if (t->parts && !t->text)
        NIGH_TRY(try_request(c,
            "{\"messages\":[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"xq7system\"}]},"
            "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}]}",
            "xq7system", &t->system));
    NIGH_TRY(try_request(c, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]," TOOLS "}", "xq7tool", &t->tools));
    NIGH_TRY(try_request(c, CALL("\"{\\\"key\\\": \\\"xq7value\\\"}\""), "\"key\": \"xq7value\"", &string_call));
    NIGH_TRY(try_request(c, CALL("{\"key\":\"xq7value\"}"), "xq7value", &object_call));
    t->object_arguments = object_call;
    (void)string_call;
    return find_thinking(c);
}

nigh_status nigh_chat_open(nigh_chat **out, nigh_chat_kind kind, nigh_str source, nigh_err *err) {
    *out = NULL;
    if (kind == NIGH_CHAT_CHATML) source = NIGH_STR(CHATML);
    if (kind == NIGH_CHAT_PLAIN) source = NIGH_STR(PLAIN);
    if (!source.len) return nigh_fail(err, NIGH_EINVAL, 0, "there is no chat template");
    nigh_chat *c = nigh_alloc(1, sizeof *c);
    if (!c) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the chat template");
    c->kind = kind;
    nigh_status status = nigh_template_compile(&c->t, source, err);
    if (status == NIGH_OK && (status = find_takes(c)) != NIGH_OK)
        nigh_fail(err, status, 0, "not enough memory for the chat template");
    if (status == NIGH_OK) *out = c;
    else nigh_chat_close(c);
    return status;
}

void nigh_chat_close(nigh_chat *c) {
    if (!c) return;
    nigh_template_free(c->t);
    nigh_free(c);
}

nigh_chat_kind nigh_chat_kind_of(const nigh_chat *c) { return c->kind; }
nigh_chat_takes nigh_chat_about(const nigh_chat *c) { return c->takes; }

nigh_str nigh_chat_kind_name(nigh_chat_kind kind) {
    return kind == NIGH_CHAT_OWN ? NIGH_STR("own") : kind == NIGH_CHAT_CHATML ? NIGH_STR("chatml") : NIGH_STR("plain");
}
