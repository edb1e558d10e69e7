/* dialect_responses.c - OpenAI's responses. A conversation becomes items: messages, function calls, their outputs.
 * The place is told not to store them. The end mark is response.completed or response.incomplete. What is refused
 * here: stop, seed, penalties, biases, sound. */
#include "node/dialect_parts.h"

/* ---- the request ---- */
static void put_part(nigh_dialect_writer *w, const nigh_json *p, size_t i, bool answer) {
    nigh_str type = nigh_json_text(p, "type");
    if (nigh_str_eq(type, NIGH_STR("text")) || (answer && nigh_str_eq(type, NIGH_STR("refusal")))) {
        bool refusal = nigh_str_eq(type, NIGH_STR("refusal"));
        nigh_dialect_put(w, refusal ? "{\"type\":\"refusal\",\"refusal\":"
                            : answer ? "{\"type\":\"output_text\",\"text\":" : "{\"type\":\"input_text\",\"text\":");
        nigh_dialect_put_string(w, nigh_json_text(p, refusal ? "refusal" : "text"));
    } else if (!answer && nigh_str_eq(type, NIGH_STR("image_url"))) {
        const nigh_json *image = nigh_json_get(p, type);
        nigh_dialect_put(w, "{\"type\":\"input_image\",\"image_url\":");
        nigh_dialect_put_string(w, nigh_json_text(image, "url"));
        nigh_dialect_put_field(w, "detail", nigh_json_get(image, NIGH_STR("detail")));
    } else if (!answer && nigh_str_eq(type, NIGH_STR("file"))) {
        const nigh_json *file = nigh_json_get(p, type);
        nigh_dialect_put(w, "{\"type\":\"input_file\"");
        for (const nigh_json *m = nigh_json_first(file); m; m = m->next) {
            nigh_dialect_put(w, ",");
            nigh_dialect_put_string(w, m->key);
            nigh_dialect_put(w, ":");
            nigh_dialect_put_value(w, m);
        }
    } else {
        nigh_dialect_refuse(w, p, "the target's format cannot say this kind of part", "messages[%zu].content", i);
        return;
    }
    nigh_dialect_put(w, "}");
}

static void put_content(nigh_dialect_writer *w, const nigh_json *content, size_t i, bool answer) {
    nigh_dialect_put(w, "[");
    if (nigh_json_is(content, NIGH_JSON_STRING)) {
        nigh_dialect_put(w, answer ? "{\"type\":\"output_text\",\"text\":" : "{\"type\":\"input_text\",\"text\":");
        nigh_dialect_put_string(w, content->text);
        nigh_dialect_put(w, "}");
    } else {
        for (const nigh_json *p = nigh_json_first(content); p; p = p->next) {
            if (p != content->first) nigh_dialect_put(w, ",");
            put_part(w, p, i, answer);
        }
    }
    nigh_dialect_put(w, "]");
}

static void put_calls(nigh_dialect_writer *w, const nigh_json *calls, bool *any) {
    for (const nigh_json *c = nigh_json_first(calls); c; c = c->next) {
        const nigh_json *f = nigh_dialect_function(w, c, "messages.tool_calls");
        nigh_dialect_put(w, *any ? ",{\"type\":\"function_call\",\"call_id\":"
                                 : "{\"type\":\"function_call\",\"call_id\":");
        *any = true;
        nigh_dialect_put_string(w, nigh_json_text(c, "id"));
        nigh_dialect_put(w, ",\"name\":");
        nigh_dialect_put_string(w, nigh_json_text(f, "name"));
        nigh_dialect_put(w, ",\"arguments\":");
        nigh_dialect_put_string(w, nigh_json_text(f, "arguments"));
        nigh_dialect_put(w, "}");
    }
}

/* The output of a call: text, or the texts of its parts one after the other. */
static void put_output(nigh_dialect_writer *w, const nigh_json *m, size_t i) {
    const nigh_json *content = nigh_json_get(m, NIGH_STR("content"));
    nigh_dialect_put(w, "{\"type\":\"function_call_output\",\"call_id\":");
    nigh_dialect_put_string(w, nigh_json_text(m, "tool_call_id"));
    nigh_dialect_put(w, ",\"output\":");
    if (nigh_json_is(content, NIGH_JSON_STRING)) nigh_dialect_put_string(w, content->text);
    else put_content(w, content, i, false);
    nigh_dialect_put(w, "}");
}

static void put_message(nigh_dialect_writer *w, const nigh_json *m, size_t i, bool *any) {
    char where[40];
    nigh_str role = nigh_json_text(m, "role");
    const nigh_json *content = nigh_json_get(m, NIGH_STR("content"));
    bool answer = nigh_str_eq(role, NIGH_STR("assistant"));
    nigh_format(where, sizeof where, "messages[%zu].", i);
    nigh_dialect_only(w, m, answer ? " role content tool_calls refusal " : " role content tool_call_id ", where);
    if (nigh_str_eq(role, NIGH_STR("tool"))) {
        if (*any) nigh_dialect_put(w, ",");
        *any = true;
        put_output(w, m, i);
        return;
    }
    if (!answer && !nigh_str_eq(role, NIGH_STR("user")) && !nigh_str_eq(role, NIGH_STR("system"))
        && !nigh_str_eq(role, NIGH_STR("developer")))
        nigh_dialect_refuse(w, m, "the target's format does not know this role", "messages[%zu].role", i);
    if (!nigh_dialect_is_empty(content)) {
        nigh_dialect_put(w, *any ? ",{\"type\":\"message\",\"role\":" : "{\"type\":\"message\",\"role\":");
        *any = true;
        nigh_dialect_put_string(w, role);
        nigh_dialect_put(w, ",\"content\":");
        put_content(w, content, i, answer);
        nigh_dialect_put(w, "}");
    }
    if (answer) put_calls(w, nigh_json_get(m, NIGH_STR("tool_calls")), any);
}

static void put_tools(nigh_dialect_writer *w, const nigh_json *tools) {
    if (nigh_dialect_is_empty(tools)) return;
    nigh_dialect_put(w, ",\"tools\":[");
    for (const nigh_json *t = nigh_json_first(tools); t; t = t->next) {
        const nigh_json *f = nigh_dialect_function(w, t, "tools"),
                        *parameters = nigh_json_get(f, NIGH_STR("parameters"));
        nigh_dialect_only(w, f, " name description parameters strict ", "tools.function.");
        if (t != tools->first) nigh_dialect_put(w, ",");
        nigh_dialect_put(w, "{\"type\":\"function\",\"name\":");
        nigh_dialect_put_string(w, nigh_json_text(f, "name"));
        nigh_dialect_put_field(w, "description", nigh_json_get(f, NIGH_STR("description")));
        if (nigh_json_is(parameters, NIGH_JSON_OBJECT)) nigh_dialect_put_field(w, "parameters", parameters);
        else nigh_dialect_put(w, ",\"parameters\":{\"type\":\"object\",\"properties\":{}}");
        /* Strict is the default here and was not in a chat. */
        nigh_dialect_put(w, nigh_dialect_is_empty(nigh_json_get(f, NIGH_STR("strict"))) ? ",\"strict\":false}"
                                                                                        : ",\"strict\":true}");
    }
    nigh_dialect_put(w, "]");
}

static void put_choice(nigh_dialect_writer *w, const nigh_json *choice) {
    if (!nigh_json_is(choice, NIGH_JSON_OBJECT)) { nigh_dialect_put_field(w, "tool_choice", choice); return; }
    nigh_dialect_put(w, ",\"tool_choice\":{\"type\":\"function\",\"name\":");
    nigh_dialect_put_string(w, nigh_json_text(nigh_dialect_function(w, choice, "tool_choice"), "name"));
    nigh_dialect_put(w, "}");
}

static void put_format(nigh_dialect_writer *w, const nigh_json *format, const nigh_json *verbosity) {
    if (nigh_dialect_is_empty(format) && nigh_dialect_is_empty(verbosity)) return;
    nigh_dialect_put(w, ",\"text\":{\"format\":{\"type\":");
    nigh_str type = nigh_json_text(format, "type");
    nigh_dialect_put_string(w, type.len ? type : NIGH_STR("text"));
    const nigh_json *schema = nigh_json_get(format, NIGH_STR("json_schema"));
    for (const nigh_json *m = nigh_json_first(schema); m; m = m->next) {
        nigh_dialect_put(w, ",");
        nigh_dialect_put_string(w, m->key);
        nigh_dialect_put(w, ":");
        nigh_dialect_put_value(w, m);
    }
    nigh_dialect_put(w, "}");
    nigh_dialect_put_field(w, "verbosity", verbosity);
    nigh_dialect_put(w, "}");
}

nigh_status nigh_dialect_write_responses(nigh_dialect_writer *w) {
    static const char *const same[] = { "temperature", "top_p", "parallel_tool_calls", "user", "service_tier",
        "prompt_cache_key", "safety_identifier" };
    static const char known[] = " model messages stream stream_options n max_tokens max_completion_tokens tools "
        "tool_choice response_format verbosity reasoning_effort metadata store temperature top_p parallel_tool_calls "
        "user service_tier prompt_cache_key safety_identifier presence_penalty frequency_penalty ";
    bool any = false;
    size_t i = 0;
    nigh_dialect_only(w, w->root, known, "");
    for (size_t k = 0; k < 2; k++) {        /* 0 is what holds without them */
        const nigh_json *v = nigh_json_get(w->root, k ? NIGH_STR("presence_penalty") : NIGH_STR("frequency_penalty"));
        if (nigh_json_is(v, NIGH_JSON_NUMBER) && v->number != 0)
            nigh_dialect_refuse(w, v, "the target's format cannot say this", "%s", k ? "presence_penalty"
                : "frequency_penalty");
    }
    nigh_dialect_put(w, "{\"model\":");
    nigh_dialect_put_string(w, w->ask->model);
    nigh_dialect_put(w, ",\"stream\":true,\"store\":false,\"input\":[");
    for (const nigh_json *m = nigh_json_get(w->root, NIGH_STR("messages"))->first; m; m = m->next)
        put_message(w, m, i++, &any);
    nigh_dialect_put(w, "]");
    put_tools(w, nigh_json_get(w->root, NIGH_STR("tools")));
    put_choice(w, nigh_json_get(w->root, NIGH_STR("tool_choice")));
    put_format(w, nigh_json_get(w->root, NIGH_STR("response_format")), nigh_json_get(w->root, NIGH_STR("verbosity")));
    for (size_t k = 0; k < NIGH_COUNT(same); k++)
        nigh_dialect_put_field(w, same[k], nigh_json_get(w->root, nigh_str_of(same[k])));
    nigh_str effort = nigh_json_text(w->root, "reasoning_effort");
    if (effort.len) {
        nigh_dialect_put(w, ",\"reasoning\":{\"effort\":");
        nigh_dialect_put_string(w, effort);
        nigh_dialect_put(w, "}");
    }
    uint32_t max_tokens = nigh_dialect_max_tokens(w);
    if (max_tokens && w->bad == NIGH_OK) w->bad = nigh_buf_addf(w->out, ",\"max_output_tokens\":%u", max_tokens);
    nigh_dialect_put(w, "}");
    return w->bad;
}

/* ---- the answer ---- */
static void read_usage(nigh_dialect_answer *a, const nigh_json *usage) {
    if (!nigh_json_is(usage, NIGH_JSON_OBJECT)) return;
    a->usage.prompt_tokens = nigh_dialect_count(usage, "input_tokens");
    a->usage.completion_tokens = nigh_dialect_count(usage, "output_tokens");
    a->usage.cached_tokens = nigh_dialect_count(nigh_json_get(usage, NIGH_STR("input_tokens_details")),
                                                "cached_tokens");
    a->usage.known = true;
}

/* status: of the whole response. */
static void read_end(nigh_dialect_answer *a, const nigh_json *response, nigh_str status) {
    read_usage(a, nigh_json_get(response, NIGH_STR("usage")));
    if (nigh_str_eq(status, NIGH_STR("completed")))
        a->finish = a->refused ? "content_filter" : a->tool_count ? "tool_calls" : "stop";
    else if (nigh_str_eq(status, NIGH_STR("incomplete"))) {
        nigh_str why = nigh_json_text(nigh_json_get(response, NIGH_STR("incomplete_details")), "reason");
        a->finish = nigh_str_eq(why, NIGH_STR("content_filter")) ? "content_filter" : "length";
    } else {
        const nigh_json *error = nigh_json_get(response, NIGH_STR("error"));
        if (!nigh_dialect_is_empty(error)) nigh_dialect_fail_said(a, error);
        else nigh_dialect_fail(a, NIGH_CALL_FAILED, "the target reported that it failed");
        return;
    }
    nigh_dialect_give_end(a);
}

/* A whole item: what its pieces have not said yet. */
static void read_call(nigh_dialect_answer *a, const nigh_json *item, uint32_t key) {
    nigh_str arguments = nigh_json_text(item, "arguments");
    if (nigh_dialect_tool_has_arguments(a, key)) arguments = (nigh_str){ 0 };
    nigh_dialect_give_tool(a, key, nigh_json_text(item, "call_id"), nigh_json_text(item, "name"), arguments);
}

void nigh_dialect_responses_event(nigh_dialect_answer *a, const nigh_json *e) {
    nigh_str type = nigh_json_text(e, "type"), delta = nigh_json_text(e, "delta");
    const nigh_json *response = nigh_json_get(e, NIGH_STR("response")), *item = nigh_json_get(e, NIGH_STR("item"));
    uint32_t key = nigh_dialect_count(e, "output_index");
    if (nigh_str_eq(type, NIGH_STR("response.created")) || nigh_str_eq(type, NIGH_STR("response.in_progress")))
        nigh_dialect_give_begin(a, nigh_json_text(response, "model"), nigh_json_text(response, "id"));
    else if (nigh_str_eq(type, NIGH_STR("response.output_text.delta"))) nigh_dialect_give_text(a, delta);
    else if (nigh_str_eq(type, NIGH_STR("response.refusal.delta"))) {
        a->refused = true;
        nigh_dialect_give_text(a, delta);
    } else if (nigh_str_eq(type, NIGH_STR("response.output_item.added"))
               || nigh_str_eq(type, NIGH_STR("response.output_item.done"))) {
        if (nigh_json_says(item, "type", "function_call"))
            read_call(a, item, key);
        else a->alive = true;
    } else if (nigh_str_eq(type, NIGH_STR("response.function_call_arguments.delta")))
        nigh_dialect_give_tool(a, key, (nigh_str){ 0 }, (nigh_str){ 0 }, delta);
    else if (nigh_str_eq(type, NIGH_STR("response.completed")))
        read_end(a, response, NIGH_STR("completed"));
    else if (nigh_str_eq(type, NIGH_STR("response.incomplete"))) read_end(a, response, NIGH_STR("incomplete"));
    else if (nigh_str_eq(type, NIGH_STR("response.failed"))) read_end(a, response, NIGH_STR("failed"));
    else if (nigh_str_eq(type, NIGH_STR("error"))) {
        const nigh_json *error = nigh_json_get(e, NIGH_STR("error"));
        nigh_dialect_fail_said(a, nigh_json_is(error, NIGH_JSON_OBJECT) ? error : e);
    } else if (nigh_str_starts(type, NIGH_STR("response.reasoning"))) a->alive = true;
    else if (!type.len) nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "an event of the stream names no type");
}

void nigh_dialect_responses_whole(nigh_dialect_answer *a, const nigh_json *answer) {
    uint32_t key = 0;
    nigh_dialect_give_begin(a, nigh_json_text(answer, "model"), nigh_json_text(answer, "id"));
    for (const nigh_json *item = nigh_json_first(nigh_json_get(answer, NIGH_STR("output"))); item;
         item = item->next, key++) {
        nigh_str type = nigh_json_text(item, "type");
        if (nigh_str_eq(type, NIGH_STR("function_call"))) read_call(a, item, key);
        if (!nigh_str_eq(type, NIGH_STR("message"))) continue;
        for (const nigh_json *p = nigh_json_first(nigh_json_get(item, NIGH_STR("content"))); p; p = p->next) {
            nigh_str refusal = nigh_json_text(p, "refusal");
            if (refusal.len) a->refused = true;
            nigh_dialect_give_text(a, refusal.len ? refusal : nigh_json_text(p, "text"));
        }
    }
    read_end(a, answer, nigh_json_text(answer, "status"));
}
