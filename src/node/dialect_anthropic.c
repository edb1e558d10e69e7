/* dialect_anthropic.c - Anthropic's messages. Instructions at the beginning of a conversation go into `system`; turns
 * of one side that follow each other become one turn, whose blocks are text, images, tool calls and their results.
 * The end mark is message_stop. What is refused here: instructions in the middle, names, seed, penalties, biases, a
 * temperature above 1, JSON without a schema, files and sound. */
#include "node/dialect_parts.h"

enum { MAX_TOKENS_DEFAULT = 4096 };     /* the field must be sent; a chat request may leave it out */

/* ---- the request ---- */
typedef struct {
    nigh_dialect_writer *w;
    nigh_str open;              /* the side whose turn is being written; "" none yet */
    bool any_turn;
} turns;

/* Begins a block of this side, and its turn when that is not open. */
static void begin_block(turns *t, nigh_str side) {
    if (t->open.len && nigh_str_eq(t->open, side)) { nigh_dialect_put(t->w, ","); return; }
    if (t->open.len) nigh_dialect_put(t->w, "]}");
    if (t->any_turn) nigh_dialect_put(t->w, ",");
    t->open = side;
    t->any_turn = true;
    if (nigh_str_eq(side, NIGH_STR("system"))) { nigh_dialect_put(t->w, ",\"system\":["); return; }
    nigh_dialect_put(t->w, "{\"role\":");
    nigh_dialect_put_string(t->w, side);
    nigh_dialect_put(t->w, ",\"content\":[");
}

static void put_text_block(nigh_dialect_writer *w, nigh_str text) {
    nigh_dialect_put(w, "{\"type\":\"text\",\"text\":");
    nigh_dialect_put_string(w, text);
    nigh_dialect_put(w, "}");
}

/* A picture inside the request (data:image/png;base64,...) or by its address. */
static void put_image(nigh_dialect_writer *w, const nigh_json *image, size_t i) {
    nigh_str url = nigh_json_text(image, "url"), detail = nigh_json_text(image, "detail");
    if (detail.len && !nigh_str_eq(detail, NIGH_STR("auto")))
        nigh_dialect_refuse(w, image, "the target's format cannot say this", "messages[%zu].content.image_url.detail",
                            i);
    nigh_dialect_put(w, "{\"type\":\"image\",\"source\":{\"type\":");
    if (nigh_str_starts(url, NIGH_STR("data:"))) {
        size_t semicolon = nigh_str_find(url, NIGH_STR(";base64,"), 0);
        if (semicolon == SIZE_MAX) {
            nigh_dialect_refuse(w, image, "a picture must be base64", "messages[%zu].content.image_url.url", i);
            return;
        }
        nigh_dialect_put(w, "\"base64\",\"media_type\":");
        nigh_dialect_put_string(w, nigh_str_slice(url, 5, semicolon));
        nigh_dialect_put(w, ",\"data\":");
        nigh_dialect_put_string(w, nigh_str_slice(url, semicolon + 8, url.len));
    } else {
        nigh_dialect_put(w, "\"url\",\"url\":");
        nigh_dialect_put_string(w, url);
    }
    nigh_dialect_put(w, "}}");
}

static void put_parts(turns *t, const nigh_json *content, nigh_str side, size_t i) {
    if (nigh_json_is(content, NIGH_JSON_STRING)) {
        if (!content->text.len) return;
        begin_block(t, side);
        put_text_block(t->w, content->text);
        return;
    }
    for (const nigh_json *p = nigh_json_first(content); p; p = p->next) {
        nigh_str type = nigh_json_text(p, "type");
        if (nigh_str_eq(type, NIGH_STR("text"))) {
            nigh_str text = nigh_json_text(p, "text");
            if (!text.len) continue;    /* the format forbids empty blocks */
            begin_block(t, side);
            put_text_block(t->w, text);
        } else if (nigh_str_eq(type, NIGH_STR("image_url")) && nigh_str_eq(side, NIGH_STR("user"))) {
            begin_block(t, side);
            put_image(t->w, nigh_json_get(p, type), i);
        } else
            nigh_dialect_refuse(t->w, p, "the target's format cannot say this kind of part", "messages[%zu].content",
                                i);
    }
}

static void put_calls(turns *t, const nigh_json *calls, size_t i) {
    nigh_dialect_writer *w = t->w;
    for (const nigh_json *c = nigh_json_first(calls); c && w->bad == NIGH_OK; c = c->next) {
        const nigh_json *f = nigh_dialect_function(w, c, "messages.tool_calls");
        nigh_str arguments = nigh_str_trim(nigh_json_text(f, "arguments"));
        nigh_json_doc doc = { 0 };
        begin_block(t, NIGH_STR("assistant"));
        nigh_dialect_put(w, "{\"type\":\"tool_use\",\"id\":");
        nigh_dialect_put_string(w, nigh_json_text(c, "id"));
        nigh_dialect_put(w, ",\"name\":");
        nigh_dialect_put_string(w, nigh_json_text(f, "name"));
        nigh_dialect_put(w, ",\"input\":");
        nigh_status status = arguments.len ? nigh_json_parse(&doc, arguments, NULL) : NIGH_OK;
        if (!arguments.len) nigh_dialect_put(w, "{}");
        else if (status == NIGH_ENOMEM && w->bad == NIGH_OK) w->bad = NIGH_ENOMEM;
        else if (status == NIGH_OK && doc.root->type == NIGH_JSON_OBJECT) nigh_dialect_put_value(w, doc.root);
        else nigh_dialect_refuse(w, c, "the arguments must be a JSON object", "messages[%zu].tool_calls", i);
        nigh_json_release(&doc);
        nigh_dialect_put(w, "}");
    }
}

static void put_result(turns *t, const nigh_json *m, size_t i) {
    nigh_dialect_writer *w = t->w;
    const nigh_json *content = nigh_json_get(m, NIGH_STR("content"));
    begin_block(t, NIGH_STR("user"));
    nigh_dialect_put(w, "{\"type\":\"tool_result\",\"tool_use_id\":");
    nigh_dialect_put_string(w, nigh_json_text(m, "tool_call_id"));
    nigh_dialect_put(w, ",\"content\":");
    if (nigh_json_is(content, NIGH_JSON_ARRAY)) {
        nigh_dialect_put(w, "[");
        for (const nigh_json *p = content->first; p; p = p->next) {
            if (!nigh_json_says(p, "type", "text"))
                nigh_dialect_refuse(w, p, "the target's format cannot say this kind of part", "messages[%zu].content",
                                    i);
            if (p != content->first) nigh_dialect_put(w, ",");
            put_text_block(w, nigh_json_text(p, "text"));
        }
        nigh_dialect_put(w, "]");
    } else nigh_dialect_put_string(w, nigh_json_text(m, "content"));
    nigh_dialect_put(w, "}");
}

static bool is_instruction(const nigh_json *m) {
    nigh_str role = nigh_json_text(m, "role");
    return nigh_str_eq(role, NIGH_STR("system")) || nigh_str_eq(role, NIGH_STR("developer"));
}

static void put_message(turns *t, const nigh_json *m, size_t i) {
    char where[40];
    nigh_str role = nigh_json_text(m, "role");
    nigh_format(where, sizeof where, "messages[%zu].", i);
    if (is_instruction(m)) {
        nigh_dialect_refuse(t->w, m, "the target's format takes instructions at the beginning only",
                            "messages[%zu].role", i);
    } else if (nigh_str_eq(role, NIGH_STR("user"))) {
        nigh_dialect_only(t->w, m, " role content ", where);
        put_parts(t, nigh_json_get(m, NIGH_STR("content")), role, i);
    } else if (nigh_str_eq(role, NIGH_STR("assistant"))) {
        nigh_dialect_only(t->w, m, " role content tool_calls ", where);
        put_parts(t, nigh_json_get(m, NIGH_STR("content")), role, i);
        put_calls(t, nigh_json_get(m, NIGH_STR("tool_calls")), i);
    } else if (nigh_str_eq(role, NIGH_STR("tool"))) {
        nigh_dialect_only(t->w, m, " role content tool_call_id ", where);
        put_result(t, m, i);
    } else nigh_dialect_refuse(t->w, m, "the target's format does not know this role", "messages[%zu].role", i);
}

/* The instructions in front. Returns the first message behind them, *i its number. */
static const nigh_json *put_system(nigh_dialect_writer *w, const nigh_json *m, size_t *i) {
    turns t = { .w = w };
    for (; m && is_instruction(m); m = m->next, (*i)++) {
        nigh_dialect_only(w, m, " role content ", "messages.");
        put_parts(&t, nigh_json_get(m, NIGH_STR("content")), NIGH_STR("system"), *i);
    }
    if (t.open.len) nigh_dialect_put(w, "]");
    return m;
}

static void put_tools(nigh_dialect_writer *w, const nigh_json *tools) {
    if (nigh_dialect_is_empty(tools)) return;
    nigh_dialect_put(w, ",\"tools\":[");
    for (const nigh_json *t = nigh_json_first(tools); t; t = t->next) {
        const nigh_json *f = nigh_dialect_function(w, t, "tools"),
                        *parameters = nigh_json_get(f, NIGH_STR("parameters"));
        nigh_dialect_only(w, f, " name description parameters strict ", "tools.function.");
        nigh_dialect_put(w, t == tools->first ? "{\"name\":" : ",{\"name\":");
        nigh_dialect_put_string(w, nigh_json_text(f, "name"));
        nigh_dialect_put_field(w, "description", nigh_json_get(f, NIGH_STR("description")));
        if (nigh_json_is(parameters, NIGH_JSON_OBJECT)) nigh_dialect_put_field(w, "input_schema", parameters);
        else nigh_dialect_put(w, ",\"input_schema\":{\"type\":\"object\",\"properties\":{}}");
        if (!nigh_dialect_is_empty(nigh_json_get(f, NIGH_STR("strict")))) nigh_dialect_put(w, ",\"strict\":true");
        nigh_dialect_put(w, "}");
    }
    nigh_dialect_put(w, "]");
}

static void put_choice(nigh_dialect_writer *w) {
    const nigh_json *choice = nigh_json_get(w->root, NIGH_STR("tool_choice"));
    const nigh_json *parallel = nigh_json_get(w->root, NIGH_STR("parallel_tool_calls"));
    bool one = nigh_json_is(parallel, NIGH_JSON_BOOL) && !parallel->boolean;
    bool has_tools = !nigh_dialect_is_empty(nigh_json_get(w->root, NIGH_STR("tools")));
    if (!has_tools || (nigh_dialect_is_empty(choice) && !one)) return;
    if (nigh_json_is(choice, NIGH_JSON_OBJECT)) {
        nigh_dialect_put(w, ",\"tool_choice\":{\"type\":\"tool\",\"name\":");
        nigh_dialect_put_string(w, nigh_json_text(nigh_dialect_function(w, choice, "tool_choice"), "name"));
    } else {
        nigh_str how = nigh_json_is(choice, NIGH_JSON_STRING) ? choice->text : NIGH_STR("auto");
        bool any = nigh_str_eq(how, NIGH_STR("required")), none = nigh_str_eq(how, NIGH_STR("none"));
        if (!any && !none && !nigh_str_eq(how, NIGH_STR("auto")))
            nigh_dialect_refuse(w, choice, "must be auto, none, required or a function", "tool_choice");
        nigh_dialect_put(w, ",\"tool_choice\":{\"type\":");
        nigh_dialect_put_string(w, any ? NIGH_STR("any") : how);
        if (none) one = false;
    }
    nigh_dialect_put(w, one ? ",\"disable_parallel_tool_use\":true}" : "}");
}

static void put_output_config(nigh_dialect_writer *w) {
    const nigh_json *format = nigh_json_get(w->root, NIGH_STR("response_format"));
    nigh_str type = nigh_json_text(format, "type");
    nigh_str effort = nigh_json_text(w->root, "reasoning_effort");
    bool schema = nigh_str_eq(type, NIGH_STR("json_schema"));
    if (type.len && !schema && !nigh_str_eq(type, NIGH_STR("text")))
        nigh_dialect_refuse(w, format, "the target's format takes JSON with a schema only", "response_format");
    if (nigh_str_eq(effort, NIGH_STR("none")) || nigh_str_eq(effort, NIGH_STR("minimal")))
        nigh_dialect_refuse(w, NULL, "the target's format cannot say this", "reasoning_effort");
    if (!schema && !effort.len) return;
    nigh_dialect_put(w, ",\"output_config\":{");
    if (effort.len) {
        nigh_dialect_put(w, "\"effort\":");
        nigh_dialect_put_string(w, effort);
    }
    if (schema) {
        const nigh_json *s = nigh_json_get(nigh_json_get(format, type), NIGH_STR("schema"));
        if (!nigh_json_is(s, NIGH_JSON_OBJECT))
            nigh_dialect_refuse(w, format, "a schema must be given", "response_format");
        nigh_dialect_put(w, effort.len ? ",\"format\":{\"type\":\"json_schema\""
                                       : "\"format\":{\"type\":\"json_schema\"");
        nigh_dialect_put_field(w, "schema", s);
        nigh_dialect_put(w, "}");
    }
    nigh_dialect_put(w, "}");
}

static void put_stop(nigh_dialect_writer *w) {
    const nigh_json *stop = nigh_json_get(w->root, NIGH_STR("stop"));
    if (nigh_dialect_is_empty(stop)) return;
    if (nigh_json_is(stop, NIGH_JSON_ARRAY)) { nigh_dialect_put_field(w, "stop_sequences", stop); return; }
    nigh_dialect_put(w, ",\"stop_sequences\":[");
    nigh_dialect_put_value(w, stop);
    nigh_dialect_put(w, "]");
}

/* Fields that are the same, those that hold only with the value that they have when nobody names them. */
static void put_numbers(nigh_dialect_writer *w) {
    static const char *const neutral[] = { "presence_penalty", "frequency_penalty" };
    const nigh_json *temperature = nigh_json_get(w->root, NIGH_STR("temperature"));
    if (nigh_json_is(temperature, NIGH_JSON_NUMBER) && temperature->number > 1)
        nigh_dialect_refuse(w, temperature, "the target's format ends at 1", "temperature");
    for (size_t i = 0; i < NIGH_COUNT(neutral); i++) {
        const nigh_json *v = nigh_json_get(w->root, nigh_str_of(neutral[i]));
        if (nigh_json_is(v, NIGH_JSON_NUMBER) && v->number != 0)
            nigh_dialect_refuse(w, v, "the target's format cannot say this", "%s", neutral[i]);
    }
    nigh_dialect_put_field(w, "temperature", temperature);
    nigh_dialect_put_field(w, "top_p", nigh_json_get(w->root, NIGH_STR("top_p")));
    nigh_dialect_put_field(w, "top_k", nigh_json_get(w->root, NIGH_STR("top_k")));
}

nigh_status nigh_dialect_write_anthropic(nigh_dialect_writer *w) {
    static const char known[] = " model messages stream stream_options n max_tokens max_completion_tokens tools "
                                "tool_choice parallel_tool_calls response_format reasoning_effort stop metadata "
                                "store temperature top_p top_k user "
                                "prompt_cache_key presence_penalty frequency_penalty ";
    turns t = { .w = w };
    size_t i = 0;
    nigh_dialect_only(w, w->root, known, "");
    nigh_dialect_put(w, "{\"model\":");
    nigh_dialect_put_string(w, w->ask->model);
    uint32_t max_tokens = nigh_dialect_max_tokens(w);
    if (w->bad == NIGH_OK)
        w->bad =
            nigh_buf_addf(w->out, ",\"stream\":true,\"max_tokens\":%u", max_tokens ? max_tokens : MAX_TOKENS_DEFAULT);
    const nigh_json *m = put_system(w, nigh_json_get(w->root, NIGH_STR("messages"))->first, &i);
    nigh_dialect_put(w, ",\"messages\":[");
    for (; m && w->bad == NIGH_OK; m = m->next) put_message(&t, m, i++);
    nigh_dialect_put(w, t.open.len ? "]}]" : "]");
    put_tools(w, nigh_json_get(w->root, NIGH_STR("tools")));
    put_choice(w);
    put_output_config(w);
    put_stop(w);
    put_numbers(w);
    nigh_str user = nigh_json_text(w->root, "user");
    if (user.len) {
        nigh_dialect_put(w, ",\"metadata\":{\"user_id\":");
        nigh_dialect_put_string(w, user);
        nigh_dialect_put(w, "}");
    }
    nigh_dialect_put(w, "}");
    return w->bad;
}

/* ---- the answer ---- */
static uint32_t sum(uint32_t a, uint32_t b) { return a > UINT32_MAX - b ? UINT32_MAX : a + b; }

/* What the cache held counts extra here; in our figures it is a part of the prompt. */
static void read_usage(nigh_dialect_answer *a, const nigh_json *usage) {
    if (!nigh_json_is(usage, NIGH_JSON_OBJECT)) return;
    if (nigh_json_get(usage, NIGH_STR("input_tokens"))) {
        a->usage.cached_tokens = nigh_dialect_count(usage, "cache_read_input_tokens");
        a->usage.prompt_tokens = sum(sum(nigh_dialect_count(usage, "input_tokens"), a->usage.cached_tokens),
                                     nigh_dialect_count(usage, "cache_creation_input_tokens"));
    }
    a->usage.completion_tokens = nigh_dialect_count(usage, "output_tokens");
    a->usage.known = true;
}

static void read_finish(nigh_dialect_answer *a, nigh_str reason) {
    static const struct { nigh_str theirs; const char *ours;
    } reasons[] = {
        { NIGH_STR("end_turn"), "stop" },          { NIGH_STR("stop_sequence"), "stop" },
        { NIGH_STR("max_tokens"), "length" },      { NIGH_STR("tool_use"), "tool_calls" },
        { NIGH_STR("refusal"), "content_filter" }, { NIGH_STR("model_context_window_exceeded"), "length" },
        { NIGH_STR("pause_turn"), "stop" }
    };
    if (!reason.len) return;
    for (size_t i = 0; i < NIGH_COUNT(reasons); i++)
        if (nigh_str_eq(reasons[i].theirs, reason)) { a->finish = reasons[i].ours; return; }
    nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "the answer ended for a reason that is not known");
}

/* The input of a whole tool call, as text. */
static void give_input(nigh_dialect_answer *a, const nigh_json *block, uint32_t key) {
    nigh_buf text = NIGH_BUF(NIGH_DIALECT_WHOLE_MAX);
    const nigh_json *input = nigh_json_get(block, NIGH_STR("input"));
    if (input && nigh_json_add_value(&text, input) != NIGH_OK)
        nigh_dialect_fail(a, NIGH_CALL_FAILED, "not enough memory for the answer");
    nigh_dialect_give_tool(a, key, nigh_json_text(block, "id"), nigh_json_text(block, "name"), nigh_buf_str(&text));
    nigh_buf_release(&text);
}

static void read_block_start(nigh_dialect_answer *a, const nigh_json *block, uint32_t key) {
    nigh_str type = nigh_json_text(block, "type");
    a->alive = true;
    if (nigh_str_eq(type, NIGH_STR("text"))) nigh_dialect_give_text(a, nigh_json_text(block, "text"));
    else if (nigh_str_eq(type, NIGH_STR("tool_use")))
        nigh_dialect_give_tool(a, key, nigh_json_text(block, "id"), nigh_json_text(block, "name"), (nigh_str){ 0 });
}

static void read_block_delta(nigh_dialect_answer *a, const nigh_json *delta, uint32_t key) {
    nigh_str type = nigh_json_text(delta, "type");
    a->alive = true;
    if (nigh_str_eq(type, NIGH_STR("text_delta")))
        nigh_dialect_give_text(a, nigh_json_text(delta, "text"));
    else if (nigh_str_eq(type, NIGH_STR("input_json_delta")))
        nigh_dialect_give_tool(a, key, (nigh_str){ 0 }, (nigh_str){ 0 }, nigh_json_text(delta, "partial_json"));
}

void nigh_dialect_anthropic_event(nigh_dialect_answer *a, const nigh_json *e) {
    nigh_str type = nigh_json_text(e, "type");
    uint32_t key = nigh_dialect_count(e, "index");
    if (nigh_str_eq(type, NIGH_STR("message_start"))) {
        const nigh_json *m = nigh_json_get(e, NIGH_STR("message"));
        nigh_dialect_give_begin(a, nigh_json_text(m, "model"), nigh_json_text(m, "id"));
        read_usage(a, nigh_json_get(m, NIGH_STR("usage")));
    } else if (nigh_str_eq(type, NIGH_STR("content_block_start")))
        read_block_start(a, nigh_json_get(e, NIGH_STR("content_block")), key);
    else if (nigh_str_eq(type, NIGH_STR("content_block_delta")))
        read_block_delta(a, nigh_json_get(e, NIGH_STR("delta")), key);
    else if (nigh_str_eq(type, NIGH_STR("message_delta"))) {
        read_finish(a, nigh_json_text(nigh_json_get(e, NIGH_STR("delta")), "stop_reason"));
        read_usage(a, nigh_json_get(e, NIGH_STR("usage")));
    } else if (nigh_str_eq(type, NIGH_STR("message_stop"))) nigh_dialect_give_end(a);
    else if (nigh_str_eq(type, NIGH_STR("error"))) {
        const nigh_json *error = nigh_json_get(e, NIGH_STR("error"));
        nigh_dialect_fail_said(a, error ? error : e);
    } else if (!type.len) nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "an event of the stream names no type");
}

void nigh_dialect_anthropic_whole(nigh_dialect_answer *a, const nigh_json *answer) {
    uint32_t key = 0;
    nigh_dialect_give_begin(a, nigh_json_text(answer, "model"), nigh_json_text(answer, "id"));
    const nigh_json *content = nigh_json_get(answer, NIGH_STR("content"));
    for (const nigh_json *b = nigh_json_first(content); b && a->failure == NIGH_CALL_OK; b = b->next, key++) {
        nigh_str type = nigh_json_text(b, "type");
        if (nigh_str_eq(type, NIGH_STR("text"))) nigh_dialect_give_text(a, nigh_json_text(b, "text"));
        else if (nigh_str_eq(type, NIGH_STR("tool_use"))) give_input(a, b, key);
    }
    read_finish(a, nigh_json_text(answer, "stop_reason"));
    read_usage(a, nigh_json_get(answer, NIGH_STR("usage")));
    nigh_dialect_give_end(a);
}
