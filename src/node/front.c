/* front.c - what the dialects in front of the node share: a pen that sticks to its first failure, the way from a body
 * to a nigh_request, and the count of tokens that is asked for without an answer. */
#include "node/front.h"

#include "node/place.h"

/* ---- the pen ---- */

void nigh_pen_add(nigh_pen *p, nigh_str text) {
    if (p->bad == NIGH_OK) p->bad = nigh_buf_add(p->out, text);
}

void nigh_pen_put(nigh_pen *p, const char *text) { nigh_pen_add(p, nigh_str_of(text)); }

void nigh_pen_string(nigh_pen *p, nigh_str text) {
    if (p->bad == NIGH_OK) p->bad = nigh_json_add_string(p->out, text);
}

void nigh_pen_value(nigh_pen *p, const nigh_json *v) {
    if (p->bad == NIGH_OK) p->bad = nigh_json_add_value(p->out, v);
}

void nigh_pen_format(nigh_pen *p, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    size_t n = nigh_vformat(text, sizeof text, fmt, args);
    va_end(args);
    nigh_pen_add(p, (nigh_str){ text, nigh_min(n, sizeof text - 1) });
}

void nigh_pen_member(nigh_pen *p, const char *name, const nigh_json *v) {
    if (nigh_front_absent(v)) return;
    nigh_pen_format(p, ",\"%s\":", name);
    nigh_pen_value(p, v);
}

void nigh_pen_refuse(nigh_pen *p, nigh_status code, const char *name, const char *param, const char *fmt, ...) {
    char text[200];
    va_list args;
    if (p->bad != NIGH_OK) return;
    va_start(args, fmt);
    nigh_vformat(text, sizeof text, fmt, args);
    va_end(args);
    p->bad = nigh_refuse(p->why, code, name, param, "%s", text);
}

void nigh_pen_json_text(nigh_pen *p, const nigh_json *v) {
    nigh_buf text = NIGH_BUF(NIGH_FRONT_BODY_MAX);
    if (p->bad == NIGH_OK) p->bad = nigh_json_add_value(&text, v);
    nigh_pen_string(p, nigh_buf_str(&text));
    nigh_buf_release(&text);
}

/* ---- requests ---- */

void nigh_front_read_common(nigh_pen *w, const nigh_json *root) {
    static const char *const names[] = { "model", "stream", "temperature", "top_p", "top_k", "metadata", "seed",
        "min_p", "repeat_penalty", "ignore_eos" };
    for (size_t i = 0; i < NIGH_COUNT(names); i++)
        nigh_pen_member(w, names[i], nigh_json_get(root, nigh_str_of(names[i])));
}

void nigh_front_read_limit(nigh_pen *w, const nigh_json *v, const char *name, const char *to) {
    if (nigh_front_absent(v)) return;
    if (v->type != NIGH_JSON_NUMBER || !v->is_int)
        nigh_pen_refuse(w, NIGH_EINVAL, "invalid_type", name, "'%s' must be a whole number", name);
    else if (v->integer < 1 || v->integer > 1048576)
        nigh_pen_refuse(w, NIGH_EINVAL, "out_of_range", name, "'%s' must lie in 1..1048576", name);
    nigh_pen_format(w, ",\"%s\":%lld", to, (long long)v->integer);
}

static nigh_status refuse_size(nigh_status status, nigh_refusal *why) {
    if (why->code) return status;
    if (status == NIGH_ERANGE)
        return nigh_refuse(why, status, "body_too_large", NULL, "the request is longer than this node takes");
    return nigh_refuse(why, status, "no_memory", NULL, "not enough memory");
}

nigh_status nigh_front_translate(nigh_front_kind kind, nigh_str body, nigh_buf *chat, nigh_buf *echo,
    nigh_refusal *why) {
    nigh_json_doc doc = { 0 };
    nigh_err err = { 0 };
    nigh_pen w = { .out = chat, .why = why }, e = { .out = echo, .why = why };
    *why = (nigh_refusal){ 0 };
    nigh_status status = nigh_json_parse(&doc, body, &err);
    if (status == NIGH_ENOMEM) return refuse_size(status, why);
    if (status != NIGH_OK)
        return nigh_refuse(why, NIGH_EINVAL, "invalid_json", NULL, "the body is not valid JSON: byte %llu",
            (unsigned long long)err.at);
    if (doc.root->type != NIGH_JSON_OBJECT)
        nigh_pen_refuse(&w, NIGH_EINVAL, "invalid_json", NULL, "the body must be a JSON object");
    else if (kind == NIGH_FRONT_RESPONSES) nigh_responses_read(&w, doc.root, &e);
    else nigh_messages_read(&w, doc.root, kind == NIGH_FRONT_COUNT);
    nigh_json_release(&doc);
    status = w.bad != NIGH_OK ? w.bad : e.bad;
    return status == NIGH_OK ? NIGH_OK : refuse_size(status, why);
}

static nigh_front *new_front(nigh_front_kind kind) {
    nigh_front *f = nigh_alloc(sizeof *f, 1);
    if (!f) return NULL;
    *f = (nigh_front){ .kind = kind, .text = NIGH_BUF(NIGH_FRONT_TEXT_MAX), .late = NIGH_BUF(NIGH_FRONT_TEXT_MAX),
        .output = NIGH_BUF(NIGH_FRONT_OUTPUT_MAX), .echo = NIGH_BUF(NIGH_FRONT_BODY_MAX) };
    return f;
}

void nigh_front_free(nigh_front *f) {
    if (!f) return;
    nigh_buf_release(&f->text);
    nigh_buf_release(&f->late);
    nigh_buf_release(&f->output);
    nigh_buf_release(&f->echo);
    nigh_free(f);
}

static nigh_status read_other(nigh_answer *a, nigh_str body, nigh_refusal *why) {
    nigh_buf chat = NIGH_BUF(NIGH_FRONT_BODY_MAX);
    nigh_status status = nigh_front_translate(a->front->kind, body, &chat, &a->front->echo, why);
    if (status == NIGH_OK) status = nigh_request_parse_any(&a->r, NIGH_TASK_CHAT, nigh_buf_str(&chat), why);
    nigh_buf_release(&chat);
    return status;
}

nigh_status nigh_front_read(nigh_answer *a, nigh_front_kind kind, nigh_str body, nigh_refusal *why) {
    a->front = new_front(kind);
    if (!a->front) return nigh_refuse(why, NIGH_ENOMEM, "no_memory", NULL, "not enough memory");
    a->spell = kind == NIGH_FRONT_RESPONSES ? &nigh_responses_speller : &nigh_messages_speller;
    return read_other(a, body, why);
}

/* ---- answers ---- */

const char *nigh_front_param(const nigh_answer *a, const char *param) {
    static const struct { const char *chat, *responses; } names[] = { { "messages", "input" },
        { "max_completion_tokens", "max_output_tokens" }, { "response_format", "text.format" } };
    for (size_t i = 0; param && a->front && a->front->kind == NIGH_FRONT_RESPONSES && i < NIGH_COUNT(names); i++)
        if (strcmp(param, names[i].chat) == 0) return names[i].responses;
    return param;
}

const char *nigh_front_finish(const nigh_answer *a) {
    if (!a->choice_count) return "stop";
    const nigh_choice *c = a->choices;
    return c->finish_word ? c->finish_word : c->finish == NIGH_FINISH_LENGTH ? "length" : "stop";
}

/* ---- how many tokens would it be? ---- */

/* By the tokenizer of a model of this node; a request for a feature goes where the policy says, so it counts as the
 * policy counts it. */
static nigh_status count(nigh_answer *a, uint32_t *tokens, nigh_refusal *why) {
    nigh_node *n = a->node;
    if (nigh_place_takes(n->place, a)) { *tokens = nigh_place_estimate(&a->r); return NIGH_OK; }
    const nigh_served *m = nigh_node_find(n, a->r.model);
    if (!m)
        return nigh_refuse(why, NIGH_ENOENT, "model_not_found", "model",
            "there is no such model here; GET /v1/models lists them");
    if (a->r.beyond) return nigh_refuse(why, NIGH_ENOSUP, "unsupported_value", a->r.beyond_param, "%s", a->r.beyond);
    nigh_ids ids = NIGH_IDS(NIGH_FRONT_BODY_MAX);       /* a prompt that is too long for the context is counted, too */
    nigh_status status = nigh_openai_prompt(m, &a->r, 0, &ids, why);
    *tokens = (uint32_t)ids.len;
    nigh_ids_release(&ids);
    return status;
}

void nigh_front_count(nigh_node *n, nigh_exchange *x) {
    nigh_refusal why = { 0 };
    char body[64];
    uint32_t tokens = 0;
    nigh_answer *a = nigh_openai_new(n, x, NIGH_TASK_CHAT);
    if (!a) { nigh_exchange_error(x, 503, "no_memory", NULL, "not enough memory"); return; }
    nigh_status status = nigh_front_read(a, NIGH_FRONT_COUNT, nigh_exchange_body(x), &why);
    if (status == NIGH_OK) status = count(a, &tokens, &why);
    size_t len = nigh_format(body, sizeof body, "{\"input_tokens\":%u}", tokens);
    if (status == NIGH_OK) nigh_exchange_reply(x, 200, "application/json", (nigh_str){ body, len });
    else nigh_exchange_error(x, why.status, why.code, why.param, why.text);
    nigh_openai_free(a);
}
