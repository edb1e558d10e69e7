/* front_responses.c - a request in the words of OpenAI's responses, written anew as a chat request.
 *
 *     instructions                 the first message, of the role system
 *     input: text, or items        messages; calls of functions go into the turn of the assistant they belong to, their
 *                                  results become messages of the role tool; reasoning is left out
 *     tools, tool_choice           functions; other kinds of tools are left out, as clients send them to everybody
 *     text.format                  response_format
 *
 * Nothing is stored here: what points at something stored (previous_response_id, conversation, prompt, an
 * item_reference) is refused, and so is background. The answer repeats much of the request; that is written here,
 * too, while the request is at hand. */
#include "node/front.h"

static void bad_type(nigh_pen *w, const char *param, const char *wanted) {
    nigh_pen_refuse(w, NIGH_EINVAL, "invalid_type", param, "'%s' must be %s", param, wanted);
}

static void no_type(nigh_pen *w, const char *param, const char *what, const nigh_json *v) {
    nigh_str type = nigh_json_text(v, "type");
    if (!type.len) nigh_pen_refuse(w, NIGH_EINVAL, "invalid_type", param, "%s need a type", what);
    else
        nigh_pen_refuse(w, NIGH_ENOSUP, "unsupported_value", param, "%s of type '%.*s' are not supported here", what,
            (int)nigh_min(type.len, 40), type.ptr);
}

/* ---- parts ---- */

static bool is_text_part(const nigh_json *p) {
    return nigh_json_says(p, "type", "input_text") || nigh_json_says(p, "type", "output_text")
           || nigh_json_says(p, "type", "text");
}

static void put_part(nigh_pen *w, const nigh_json *p) {
    const nigh_json *text = nigh_json_get(p, is_text_part(p) ? NIGH_STR("text") : NIGH_STR("refusal"));
    nigh_str url = nigh_json_text(p, "image_url"), detail = nigh_json_text(p, "detail");
    if (is_text_part(p) || nigh_json_says(p, "type", "refusal")) {
        if (!nigh_json_is(text, NIGH_JSON_STRING)) { bad_type(w, "input", "parts whose text is a string"); return; }
        nigh_pen_put(w, "{\"type\":\"text\",\"text\":");
        nigh_pen_string(w, text->text);
    } else if (nigh_json_says(p, "type", "input_image") && url.len) {
        nigh_pen_put(w, "{\"type\":\"image_url\",\"image_url\":{\"url\":");
        nigh_pen_string(w, url);
        if (detail.len) {
            nigh_pen_put(w, ",\"detail\":");
            nigh_pen_string(w, detail);
        }
        nigh_pen_put(w, "}");
    } else no_type(w, "input", "parts", p);
    nigh_pen_put(w, "}");
}

static void put_content(nigh_pen *w, const nigh_json *content) {
    if (nigh_json_is(content, NIGH_JSON_STRING)) { nigh_pen_string(w, content->text); return; }
    if (!nigh_json_is(content, NIGH_JSON_ARRAY)) {
        bad_type(w, "input", "messages whose content is a string or an array of parts");
        return;
    }
    nigh_pen_put(w, "[");
    for (const nigh_json *p = content->first; p && w->bad == NIGH_OK; p = p->next) {
        if (p != content->first) nigh_pen_put(w, ",");
        put_part(w, p);
    }
    nigh_pen_put(w, "]");
}

/* ---- items ---- */

/* A turn of the assistant stays open for the calls that belong to it. */
typedef enum { CLOSED, OPEN_TEXT, OPEN_CALLS } turn;
typedef struct { bool any; turn turn; } items;

static void close_turn(nigh_pen *w, items *s) {
    if (s->turn != CLOSED) nigh_pen_put(w, s->turn == OPEN_TEXT ? "}" : "]}");
    s->turn = CLOSED;
}

static void begin_message(nigh_pen *w, items *s, const char *role) {
    close_turn(w, s);
    nigh_pen_format(w, "%s{\"role\":\"%s\",\"content\":", s->any ? "," : "", role);
    s->any = true;
}

static void put_message(nigh_pen *w, items *s, const nigh_json *m) {
    static const char *const roles[] = { "user", "assistant", "system", "developer" };
    const char *role = NULL;
    for (size_t i = 0; i < NIGH_COUNT(roles); i++) if (nigh_json_says(m, "role", roles[i])) role = roles[i];
    if (!role) {
        nigh_pen_refuse(w, NIGH_EINVAL, "invalid_value", "input", "a message has no role, or an unknown one");
        return;
    }
    begin_message(w, s, role);
    put_content(w, nigh_json_get(m, NIGH_STR("content")));
    if (role == roles[1]) s->turn = OPEN_TEXT;
    else nigh_pen_put(w, "}");
}

static void put_call(nigh_pen *w, items *s, const nigh_json *item) {
    const nigh_json *arguments = nigh_json_get(item, NIGH_STR("arguments"));
    nigh_str id = nigh_json_text(item, "call_id"), name = nigh_json_text(item, "name");
    if (!id.len || !name.len || !nigh_json_is(arguments, NIGH_JSON_STRING)) {
        bad_type(w, "input", "calls of functions with a call_id, a name and arguments");
        return;
    }
    if (s->turn == CLOSED) {
        begin_message(w, s, "assistant");
        nigh_pen_put(w, "null");
    }
    nigh_pen_put(w, s->turn == OPEN_CALLS ? ",{\"id\":" : ",\"tool_calls\":[{\"id\":");
    s->turn = OPEN_CALLS;
    nigh_pen_string(w, id);
    nigh_pen_put(w, ",\"type\":\"function\",\"function\":{\"name\":");
    nigh_pen_string(w, name);
    nigh_pen_put(w, ",\"arguments\":");
    nigh_pen_string(w, arguments->text);
    nigh_pen_put(w, "}}");
}

/* A string, so that JSON in it can be looked into on the way out. */
static void put_output(nigh_pen *w, items *s, const nigh_json *item) {
    const nigh_json *output = nigh_json_get(item, NIGH_STR("output"));
    nigh_str id = nigh_json_text(item, "call_id");
    nigh_buf text = NIGH_BUF(NIGH_FRONT_BODY_MAX);
    nigh_pen t = { .out = &text };
    if (!id.len) bad_type(w, "input", "results of functions with a call_id");
    if (nigh_json_is(output, NIGH_JSON_STRING)) nigh_pen_add(&t, output->text);
    else if (!nigh_json_is(output, NIGH_JSON_ARRAY)) bad_type(w, "input", "results of functions with an output");
    else
        for (const nigh_json *p = output->first; p && w->bad == NIGH_OK; p = p->next) {
            if (!is_text_part(p)) { no_type(w, "input", "parts of results", p); break; }
            if (p != output->first) nigh_pen_put(&t, "\n");
            nigh_pen_add(&t, nigh_json_text(p, "text"));
        }
    begin_message(w, s, "tool");
    if (w->bad == NIGH_OK) w->bad = t.bad;
    nigh_pen_string(w, nigh_buf_str(&text));
    nigh_pen_put(w, ",\"tool_call_id\":");
    nigh_pen_string(w, id);
    nigh_pen_put(w, "}");
    nigh_buf_release(&text);
}

static void put_item(nigh_pen *w, items *s, const nigh_json *item) {
    bool typed = !nigh_front_absent(nigh_json_get(item, NIGH_STR("type")));
    if (item->type != NIGH_JSON_OBJECT) bad_type(w, "input", "a string or an array of items");
    else if (!typed || nigh_json_says(item, "type", "message")) put_message(w, s, item);
    else if (nigh_json_says(item, "type", "function_call")) put_call(w, s, item);
    else if (nigh_json_says(item, "type", "function_call_output")) put_output(w, s, item);
    else if (nigh_json_says(item, "type", "item_reference"))
        nigh_pen_refuse(w, NIGH_ENOSUP, "unsupported_value", "input", "nothing is stored here that an item could name");
    else if (!nigh_json_says(item, "type", "reasoning")) no_type(w, "input", "items", item);
}

static void put_input(nigh_pen *w, const nigh_json *root) {
    const nigh_json *first = nigh_json_get(root, NIGH_STR("instructions")),
                    *input = nigh_json_get(root, NIGH_STR("input"));
    items s = { 0 };
    nigh_pen_put(w, "{\"messages\":[");
    if (!nigh_front_absent(first)) {
        if (first->type != NIGH_JSON_STRING) { bad_type(w, "instructions", "a string"); return; }
        begin_message(w, &s, "system");
        nigh_pen_string(w, first->text);
        nigh_pen_put(w, "}");
    }
    if (nigh_front_absent(input)) nigh_pen_refuse(w, NIGH_EINVAL, "missing", "input", "'input' is missing");
    else if (input->type == NIGH_JSON_STRING) {
        begin_message(w, &s, "user");
        nigh_pen_string(w, input->text);
        nigh_pen_put(w, "}");
    } else if (input->type != NIGH_JSON_ARRAY || !input->count) {
        bad_type(w, "input", "a string or an array with at least one item");
    } else
        for (const nigh_json *i = input->first; i && w->bad == NIGH_OK; i = i->next) put_item(w, &s, i);
    close_turn(w, &s);
    nigh_pen_put(w, "]");
}

/* ---- tools and formats ---- */

static void put_function(nigh_pen *w, const nigh_json *t) {
    static const char *const names[] = { "description", "parameters", "strict" };
    nigh_pen_put(w, "{\"type\":\"function\",\"function\":{\"name\":");
    nigh_pen_string(w, nigh_json_text(t, "name"));
    for (size_t i = 0; i < NIGH_COUNT(names); i++)
        nigh_pen_member(w, names[i], nigh_json_get(t, nigh_str_of(names[i])));
    nigh_pen_put(w, "}}");
}

static void put_tools(nigh_pen *w, const nigh_json *tools) {
    bool any = false;
    if (nigh_front_absent(tools)) return;
    if (tools->type != NIGH_JSON_ARRAY) { bad_type(w, "tools", "an array"); return; }
    nigh_pen_put(w, ",\"tools\":[");
    for (const nigh_json *t = tools->first; t; t = t->next) {
        if (!nigh_json_says(t, "type", "function")) continue;
        if (any) nigh_pen_put(w, ",");
        any = true;
        put_function(w, t);
    }
    nigh_pen_put(w, "]");
}

static void put_choice(nigh_pen *w, const nigh_json *choice) {
    nigh_str name = nigh_json_text(choice, "name");
    if (nigh_front_absent(choice)) return;
    if (choice->type == NIGH_JSON_STRING) nigh_pen_member(w, "tool_choice", choice);
    else if (nigh_json_says(choice, "type", "function") && name.len) {
        nigh_pen_put(w, ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":");
        nigh_pen_string(w, name);
        nigh_pen_put(w, "}}");
    } else
        nigh_pen_refuse(w, NIGH_ENOSUP, "unsupported_value", "tool_choice",
            "'tool_choice' may be auto, none, required, or a function with a name");
}

static void put_format(nigh_pen *w, const nigh_json *text) {
    static const char *const names[] = { "description", "schema", "strict" };
    const nigh_json *format = nigh_json_get(text, NIGH_STR("format"));
    nigh_pen_member(w, "verbosity", nigh_json_get(text, NIGH_STR("verbosity")));
    if (nigh_front_absent(format) || nigh_json_says(format, "type", "text")) return;
    if (nigh_json_says(format, "type", "json_object")) {
        nigh_pen_put(w, ",\"response_format\":{\"type\":\"json_object\"}");
        return;
    }
    if (!nigh_json_says(format, "type", "json_schema") || !nigh_json_text(format, "name").len) {
        nigh_pen_refuse(w, NIGH_EINVAL, "invalid_value", "text.format",
            "'text.format' must be text, json_object, or a json_schema with a name");
        return;
    }
    nigh_pen_put(w, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":");
    nigh_pen_string(w, nigh_json_text(format, "name"));
    for (size_t i = 0; i < NIGH_COUNT(names); i++)
        nigh_pen_member(w, names[i], nigh_json_get(format, nigh_str_of(names[i])));
    nigh_pen_put(w, "}}");
}

/* ---- what is refused ---- */

static void check(nigh_pen *w, const nigh_json *root) {
    static const char *const stored[] = { "previous_response_id", "conversation", "prompt" };
    const nigh_json *background = nigh_json_get(root, NIGH_STR("background")),
                    *logprobs = nigh_json_get(root, NIGH_STR("top_logprobs"));
    for (size_t i = 0; i < NIGH_COUNT(stored); i++)
        if (!nigh_front_absent(nigh_json_get(root, nigh_str_of(stored[i]))))
            nigh_pen_refuse(w, NIGH_ENOSUP, "unsupported_value", stored[i],
                "'%s' is not supported: nothing is stored here; send the whole conversation as 'input'", stored[i]);
    if (nigh_json_is(background, NIGH_JSON_BOOL) && background->boolean)
        nigh_pen_refuse(w, NIGH_ENOSUP, "unsupported_value", "background",
            "'background' is not supported: nothing is stored here");
    if (!nigh_front_absent(logprobs) && !(logprobs->is_int && logprobs->integer == 0))
        nigh_pen_refuse(w, NIGH_ENOSUP, "unsupported_value", "top_logprobs",
            "'top_logprobs' is not supported here; chat completions have it");
}

/* ---- what the answer repeats ---- */

static void repeat(nigh_pen *e, const nigh_json *root, const char *name, const char *otherwise) {
    const nigh_json *v = nigh_json_get(root, nigh_str_of(name));
    nigh_pen_format(e, "\"%s\":", name);
    if (nigh_front_absent(v)) nigh_pen_put(e, otherwise);
    else nigh_pen_value(e, v);
    nigh_pen_put(e, ",");
}

/* Strict clients want the format to be there, whatever else the client had said. */
static void repeat_text(nigh_pen *e, const nigh_json *text) {
    const nigh_json *format = nigh_json_get(text, NIGH_STR("format"));
    nigh_pen_put(e, "\"text\":{\"format\":");
    if (nigh_front_absent(format)) nigh_pen_put(e, "{\"type\":\"text\"}");
    else nigh_pen_value(e, format);
    nigh_pen_member(e, "verbosity", nigh_json_get(text, NIGH_STR("verbosity")));
    nigh_pen_put(e, "},");
}

static void write_echo(nigh_pen *e, const nigh_json *root) {
    static const struct { const char *name, *otherwise; } members[] = { { "instructions", "null" },
        { "max_output_tokens", "null" }, { "max_tool_calls", "null" }, { "parallel_tool_calls", "true" },
        { "temperature", "1" }, { "top_p", "1" }, { "presence_penalty", "0" }, { "frequency_penalty", "0" },
        { "tool_choice", "\"auto\"" }, { "tools", "[]" }, { "reasoning", "{\"effort\":null,\"summary\":null}" },
        { "metadata", "{}" }, { "user", "null" }, { "safety_identifier", "null" }, { "prompt_cache_key", "null" } };
    for (size_t i = 0; i < NIGH_COUNT(members); i++) repeat(e, root, members[i].name, members[i].otherwise);
    repeat_text(e, nigh_json_get(root, NIGH_STR("text")));
    nigh_pen_put(e, "\"previous_response_id\":null,\"store\":false,\"background\":false,\"service_tier\":\"default\","
                    "\"top_logprobs\":0,\"truncation\":\"disabled\",");
}

void nigh_responses_read(nigh_pen *w, const nigh_json *root, nigh_pen *echo) {
    static const char *const names[] = { "parallel_tool_calls", "presence_penalty", "frequency_penalty" };
    const nigh_json *reasoning = nigh_json_get(root, NIGH_STR("reasoning"));
    check(w, root);
    put_input(w, root);
    nigh_front_read_limit(w, nigh_json_get(root, NIGH_STR("max_output_tokens")), "max_output_tokens",
        "max_completion_tokens");
    put_tools(w, nigh_json_get(root, NIGH_STR("tools")));
    put_choice(w, nigh_json_get(root, NIGH_STR("tool_choice")));
    put_format(w, nigh_json_get(root, NIGH_STR("text")));
    nigh_pen_member(w, "reasoning_effort", nigh_json_get(reasoning, NIGH_STR("effort")));
    for (size_t i = 0; i < NIGH_COUNT(names); i++)
        nigh_pen_member(w, names[i], nigh_json_get(root, nigh_str_of(names[i])));
    nigh_front_read_common(w, root);
    nigh_pen_put(w, "}");
    if (w->bad == NIGH_OK) write_echo(echo, root);
}
