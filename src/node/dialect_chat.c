/* dialect_chat.c - OpenAI's chat completions, which edge nodes speak too: the request goes out nearly as it came, and
 * an answer's chunks are read as they are. The end mark is `data: [DONE]`. A server that ignores `stream` sends one
 * object, whose finish_reason is its end mark. */
#include "node/dialect_parts.h"

/* ---- the request ---- */
static bool is_ours(const nigh_dialect_writer *w, nigh_str key) {
    static const char *const always[] = { "model", "stream", "stream_options", "n" };
    for (size_t i = 0; i < NIGH_COUNT(always); i++) if (nigh_str_eq(key, nigh_str_of(always[i]))) return true;
    if (w->ask->tier == NIGH_TIER_CLOUD
        && (nigh_str_eq(key, NIGH_STR("metadata")) || nigh_str_eq(key, NIGH_STR("store"))))
        return true;
    return w->ask->max_tokens
           && (nigh_str_eq(key, NIGH_STR("max_tokens")) || nigh_str_eq(key, NIGH_STR("max_completion_tokens")));
}

nigh_status nigh_dialect_write_chat(nigh_dialect_writer *w) {
    nigh_dialect_put(w, "{\"model\":");
    nigh_dialect_put_string(w, w->ask->model);
    for (const nigh_json *m = w->root->first; m; m = m->next) {
        if (is_ours(w, m->key)) continue;
        nigh_dialect_put(w, ",");
        nigh_dialect_put_string(w, m->key);
        nigh_dialect_put(w, ":");
        nigh_dialect_put_value(w, m);
    }
    if (w->ask->max_tokens) {
        bool newer = nigh_json_get(w->root, NIGH_STR("max_completion_tokens")) != NULL;
        if (w->bad == NIGH_OK)
            w->bad = nigh_buf_addf(w->out, ",\"%s\":%u", newer ? "max_completion_tokens" : "max_tokens",
                                   (unsigned)w->ask->max_tokens);
    }
    nigh_dialect_put(w, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    return w->bad;
}

/* ---- the answer ---- */
static void read_usage(nigh_dialect_answer *a, const nigh_json *usage) {
    if (!nigh_json_is(usage, NIGH_JSON_OBJECT)) return;
    a->usage.prompt_tokens = nigh_dialect_count(usage, "prompt_tokens");
    a->usage.completion_tokens = nigh_dialect_count(usage, "completion_tokens");
    a->usage.cached_tokens = nigh_dialect_count(nigh_json_get(usage, NIGH_STR("prompt_tokens_details")),
                                                "cached_tokens");
    a->usage.known = true;
}

static void read_finish(nigh_dialect_answer *a, const nigh_json *finish) {
    static const struct { nigh_str theirs; const char *ours; } reasons[] = { { NIGH_STR("stop"), "stop" },
        { NIGH_STR("length"), "length" }, { NIGH_STR("tool_calls"), "tool_calls" },
        { NIGH_STR("content_filter"), "content_filter" }, { NIGH_STR("function_call"), "tool_calls" },
        { NIGH_STR("model_length"), "length" }, { NIGH_STR("eos"), "stop" } };
    if (!nigh_json_is(finish, NIGH_JSON_STRING) || !finish->text.len) return;
    for (size_t i = 0; i < NIGH_COUNT(reasons); i++)
        if (nigh_str_eq(reasons[i].theirs, finish->text)) { a->finish = reasons[i].ours; return; }
    if (nigh_str_eq(finish->text, NIGH_STR("error")))
        nigh_dialect_fail(a, NIGH_CALL_FAILED, "the target reported an error inside its answer");
    else nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "the answer ended for a reason that is not known");
}

/* Text, or a list of parts of which those of text count; the others are thoughts. */
static void read_content(nigh_dialect_answer *a, const nigh_json *content) {
    if (nigh_json_is(content, NIGH_JSON_STRING)) { nigh_dialect_give_text(a, content->text); return; }
    if (!nigh_json_is(content, NIGH_JSON_ARRAY)) return;
    for (const nigh_json *p = content->first; p; p = p->next) {
        a->alive = true;
        if (nigh_json_says(p, "type", "text"))
            nigh_dialect_give_text(a, nigh_json_text(p, "text"));
    }
}

static void read_tools(nigh_dialect_answer *a, const nigh_json *tools) {
    uint32_t position = 0;
    if (!nigh_json_is(tools, NIGH_JSON_ARRAY)) return;
    for (const nigh_json *t = tools->first; t && a->failure == NIGH_CALL_OK; t = t->next, position++) {
        const nigh_json *f = nigh_json_get(t, NIGH_STR("function")), *index = nigh_json_get(t, NIGH_STR("index"));
        uint32_t key = nigh_json_is(index, NIGH_JSON_NUMBER) ? nigh_dialect_count(t, "index") : position;
        nigh_dialect_give_tool(a, key, nigh_json_text(t, "id"), nigh_json_text(f, "name"),
                               nigh_json_text(f, "arguments"));
    }
}

/* what: "delta" of a stream, "message" of a whole answer. */
static void read_choices(nigh_dialect_answer *a, const nigh_json *choices, nigh_str what) {
    if (!nigh_json_is(choices, NIGH_JSON_ARRAY)) return;
    for (const nigh_json *c = choices->first; c && a->failure == NIGH_CALL_OK; c = c->next) {
        const nigh_json *delta = nigh_json_get(c, what);
        if (nigh_dialect_count(c, "index") != 0) {
            nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "the target sent more answers than one");
            return;
        }
        if (nigh_json_text(delta, "reasoning_content").len || nigh_json_text(delta, "reasoning").len)
            a->alive = true;
        read_content(a, nigh_json_get(delta, NIGH_STR("content")));
        nigh_dialect_give_text(a, nigh_json_text(delta, "refusal"));
        read_tools(a, nigh_json_get(delta, NIGH_STR("tool_calls")));
        read_finish(a, nigh_json_get(c, NIGH_STR("finish_reason")));
    }
}

static void read_answer(nigh_dialect_answer *a, const nigh_json *v, nigh_str what) {
    const nigh_json *error = nigh_json_get(v, NIGH_STR("error"));
    if (!nigh_dialect_is_empty(error)) { nigh_dialect_fail_said(a, error); return; }
    nigh_dialect_give_begin(a, nigh_json_text(v, "model"), nigh_json_text(v, "id"));
    read_usage(a, nigh_json_get(v, NIGH_STR("usage")));
    read_choices(a, nigh_json_get(v, NIGH_STR("choices")), what);
    nigh_dialect_give_receipt(a, nigh_json_get(v, NIGH_STR("nigh_receipt")));
}

void nigh_dialect_chat_event(nigh_dialect_answer *a, const nigh_json *event) {
    read_answer(a, event, NIGH_STR("delta"));
}

void nigh_dialect_chat_whole(nigh_dialect_answer *a, const nigh_json *answer) {
    read_answer(a, answer, NIGH_STR("message"));
    nigh_dialect_give_end(a);
}
