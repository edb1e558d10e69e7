/* front_messages.c - a request in the words of Anthropic's messages, written anew as a chat request.
 *
 *     system                       the first message, of the role system
 *     user: text, image            a message of the user; a tool_result before or between them becomes one of its own
 *     assistant: text, tool_use    one message with text and tool_calls; thoughts are left out
 *     tools, tool_choice           functions; tools that run at the provider (web_search and so on) are left out
 *     stop_sequences               stop
 *
 * A conversation that ends with a turn of the assistant is answered by a new turn, as in chat. */
#include "node/front.h"

enum { STOP_MAX = NIGH_REQUEST_STOP_MAX };

static void bad_type(nigh_pen *w, const char *param, const char *wanted) {
    nigh_pen_refuse(w, NIGH_EINVAL, "invalid_type", param, "'%s' must be %s", param, wanted);
}

static void no_block(nigh_pen *w, const char *where, const nigh_json *block) {
    nigh_str type = nigh_json_text(block, "type");
    if (!type.len) bad_type(w, where, "a string or an array of blocks with a type");
    else
        nigh_pen_refuse(w, NIGH_ENOSUP, "unsupported_value", where, "blocks of type '%.*s' are not supported here",
            (int)nigh_min(type.len, 40), type.ptr);
}

/* ---- blocks ---- */

static void put_text_part(nigh_pen *w, const nigh_json *block, const char *where) {
    const nigh_json *text = nigh_json_get(block, NIGH_STR("text"));
    if (!nigh_json_is(text, NIGH_JSON_STRING)) { bad_type(w, where, "blocks whose text is a string"); return; }
    nigh_pen_put(w, "{\"type\":\"text\",\"text\":");
    nigh_pen_string(w, text->text);
    nigh_pen_put(w, "}");
}

/* A picture in the request itself, or by its address. */
static void put_image_part(nigh_pen *w, const nigh_json *block) {
    const nigh_json *source = nigh_json_get(block, NIGH_STR("source"));
    nigh_str data = nigh_json_text(source, "data"), type = nigh_json_text(source, "media_type");
    nigh_str url = nigh_json_text(source, "url");
    bool inside = nigh_json_says(source, "type", "base64") && data.len && type.len;
    if (!inside && !(nigh_json_says(source, "type", "url") && url.len)) {
        bad_type(w, "messages", "images with a source of base64 or url");
        return;
    }
    nigh_buf text = NIGH_BUF(NIGH_FRONT_BODY_MAX);
    nigh_pen t = { .out = &text };
    if (inside) {
        nigh_pen_put(&t, "data:");
        nigh_pen_add(&t, type);
        nigh_pen_put(&t, ";base64,");
        nigh_pen_add(&t, data);
    } else nigh_pen_add(&t, url);
    if (w->bad == NIGH_OK) w->bad = t.bad;
    nigh_pen_put(w, "{\"type\":\"image_url\",\"image_url\":{\"url\":");
    nigh_pen_string(w, nigh_buf_str(&text));
    nigh_pen_put(w, "}}");
    nigh_buf_release(&text);
}

/* Text alone, with a line break between blocks. */
static void put_joined(nigh_pen *w, const nigh_json *content, const char *where) {
    nigh_buf text = NIGH_BUF(NIGH_FRONT_BODY_MAX);
    nigh_pen t = { .out = &text };
    if (nigh_json_is(content, NIGH_JSON_STRING)) nigh_pen_add(&t, content->text);
    else if (!nigh_front_absent(content) && content->type != NIGH_JSON_ARRAY)
        bad_type(w, where, "a string or an array of blocks");
    else
        for (const nigh_json *b = nigh_json_first(content); b; b = b->next) {
            const nigh_json *said = nigh_json_get(b, NIGH_STR("text"));
            if (!nigh_json_says(b, "type", "text")) { no_block(w, where, b); break; }
            if (!nigh_json_is(said, NIGH_JSON_STRING)) { bad_type(w, where, "blocks whose text is a string"); break; }
            if (b != content->first) nigh_pen_put(&t, "\n");
            nigh_pen_add(&t, said->text);
        }
    if (w->bad == NIGH_OK) w->bad = t.bad;
    nigh_pen_string(w, nigh_buf_str(&text));
    nigh_buf_release(&text);
}

/* ---- messages ---- */

static void begin_message(nigh_pen *w, bool *any, const char *role) {
    nigh_pen_format(w, "%s{\"role\":\"%s\",\"content\":", *any ? "," : "", role);
    *any = true;
}

static void put_result(nigh_pen *w, bool *any, const nigh_json *block) {
    nigh_str id = nigh_json_text(block, "tool_use_id");
    if (!id.len) { bad_type(w, "messages", "results of tools with a tool_use_id"); return; }
    begin_message(w, any, "tool");
    put_joined(w, nigh_json_get(block, NIGH_STR("content")), "messages");
    nigh_pen_put(w, ",\"tool_call_id\":");
    nigh_pen_string(w, id);
    nigh_pen_put(w, "}");
}

static void put_user(nigh_pen *w, bool *any, const nigh_json *content, const char *role) {
    bool open = false;
    for (const nigh_json *b = nigh_json_first(content); b && w->bad == NIGH_OK; b = b->next) {
        bool text = nigh_json_says(b, "type", "text"), image = nigh_json_says(b, "type", "image");
        if (nigh_json_says(b, "type", "tool_result")) {
            if (open) nigh_pen_put(w, "]}");
            open = false;
            put_result(w, any, b);
            continue;
        }
        if (!text && !image) { no_block(w, "messages", b); return; }
        if (!open) begin_message(w, any, role);
        nigh_pen_put(w, open ? "," : "[");
        open = true;
        if (text) put_text_part(w, b, "messages");
        else put_image_part(w, b);
    }
    if (open) nigh_pen_put(w, "]}");
}

static void put_call(nigh_pen *w, const nigh_json *block) {
    const nigh_json *input = nigh_json_get(block, NIGH_STR("input"));
    nigh_str id = nigh_json_text(block, "id"), name = nigh_json_text(block, "name");
    if (!id.len || !name.len) { bad_type(w, "messages", "uses of tools with an id and a name"); return; }
    if (!nigh_json_is(input, NIGH_JSON_OBJECT)) { bad_type(w, "messages", "uses of tools with an input"); return; }
    nigh_pen_put(w, "{\"id\":");
    nigh_pen_string(w, id);
    nigh_pen_put(w, ",\"type\":\"function\",\"function\":{\"name\":");
    nigh_pen_string(w, name);
    nigh_pen_put(w, ",\"arguments\":");
    nigh_pen_json_text(w, input);
    nigh_pen_put(w, "}}");
}

static bool is_thought(const nigh_json *block) {
    return nigh_json_says(block, "type", "thinking") || nigh_json_says(block, "type", "redacted_thinking");
}

static void put_assistant(nigh_pen *w, bool *any, const nigh_json *content) {
    size_t texts = 0, calls = 0;
    begin_message(w, any, "assistant");
    for (const nigh_json *b = nigh_json_first(content); b && w->bad == NIGH_OK; b = b->next) {
        if (nigh_json_says(b, "type", "tool_use")) { calls++; continue; }
        if (is_thought(b)) continue;
        if (!nigh_json_says(b, "type", "text")) { no_block(w, "messages", b); return; }
        nigh_pen_put(w, texts++ ? "," : "[");
        put_text_part(w, b, "messages");
    }
    nigh_pen_put(w, texts ? "]" : calls ? "null" : "\"\"");
    if (calls) nigh_pen_put(w, ",\"tool_calls\":[");
    size_t written = 0;
    for (const nigh_json *b = nigh_json_first(content); calls && b && w->bad == NIGH_OK; b = b->next) {
        if (!nigh_json_says(b, "type", "tool_use")) continue;
        if (written++) nigh_pen_put(w, ",");
        put_call(w, b);
    }
    nigh_pen_put(w, calls ? "]}" : "}");
}

static void put_message(nigh_pen *w, bool *any, const nigh_json *m) {
    static const char *const roles[] = { "user", "assistant", "system" };
    const nigh_json *content = nigh_json_get(m, NIGH_STR("content"));
    const char *role = NULL;
    for (size_t i = 0; i < NIGH_COUNT(roles); i++) if (nigh_json_says(m, "role", roles[i])) role = roles[i];
    if (m->type != NIGH_JSON_OBJECT) { bad_type(w, "messages", "an array of objects"); return; }
    if (!role) {
        nigh_pen_refuse(w, NIGH_EINVAL, "invalid_value", "messages", "the role of a message must be user or assistant");
        return;
    }
    if (nigh_json_is(content, NIGH_JSON_STRING)) {
        begin_message(w, any, role);
        nigh_pen_string(w, content->text);
        nigh_pen_put(w, "}");
    } else if (!nigh_json_is(content, NIGH_JSON_ARRAY)) {
        bad_type(w, "messages", "messages whose content is a string or an array of blocks");
    } else if (role == roles[1]) put_assistant(w, any, content);
    else put_user(w, any, content, role);
}

static void put_messages(nigh_pen *w, const nigh_json *root) {
    const nigh_json *system = nigh_json_get(root, NIGH_STR("system")),
                    *messages = nigh_json_get(root, NIGH_STR("messages"));
    bool any = false;
    if (nigh_front_absent(messages)) nigh_pen_refuse(w, NIGH_EINVAL, "missing", "messages", "'messages' is missing");
    else if (messages->type != NIGH_JSON_ARRAY || !messages->count)
        bad_type(w, "messages", "an array with at least one message");
    nigh_pen_put(w, "{\"messages\":[");
    if (!nigh_front_absent(system)) {
        begin_message(w, &any, "system");
        put_joined(w, system, "system");
        nigh_pen_put(w, "}");
    }
    for (const nigh_json *m = nigh_json_first(messages); m && w->bad == NIGH_OK; m = m->next) put_message(w, &any, m);
    nigh_pen_put(w, "]");
}

/* ---- tools ---- */

static void put_tool(nigh_pen *w, const nigh_json *t) {
    const nigh_json *text = nigh_json_get(t, NIGH_STR("description")),
                    *schema = nigh_json_get(t, NIGH_STR("input_schema"));
    nigh_pen_put(w, "{\"type\":\"function\",\"function\":{\"name\":");
    nigh_pen_string(w, nigh_json_text(t, "name"));
    nigh_pen_member(w, "description", text);
    if (!nigh_json_is(schema, NIGH_JSON_OBJECT)) bad_type(w, "tools", "tools with an input_schema");
    nigh_pen_member(w, "parameters", schema);
    nigh_pen_member(w, "strict", nigh_json_get(t, NIGH_STR("strict")));
    nigh_pen_put(w, "}}");
}

static void put_tools(nigh_pen *w, const nigh_json *tools) {
    bool any = false;
    if (nigh_front_absent(tools)) return;
    if (tools->type != NIGH_JSON_ARRAY) { bad_type(w, "tools", "an array"); return; }
    nigh_pen_put(w, ",\"tools\":[");
    for (const nigh_json *t = tools->first; t && w->bad == NIGH_OK; t = t->next) {
        if (t->type != NIGH_JSON_OBJECT) { bad_type(w, "tools", "an array of objects"); return; }
        if (nigh_json_text(t, "type").len && !nigh_json_says(t, "type", "custom")) continue;
        if (any) nigh_pen_put(w, ",");
        any = true;
        put_tool(w, t);
    }
    nigh_pen_put(w, "]");
}

static void put_choice(nigh_pen *w, const nigh_json *choice) {
    const nigh_json *one = nigh_json_get(choice, NIGH_STR("disable_parallel_tool_use"));
    nigh_str name = nigh_json_text(choice, "name");
    if (nigh_front_absent(choice)) return;
    if (nigh_json_says(choice, "type", "auto")) nigh_pen_put(w, ",\"tool_choice\":\"auto\"");
    else if (nigh_json_says(choice, "type", "none")) nigh_pen_put(w, ",\"tool_choice\":\"none\"");
    else if (nigh_json_says(choice, "type", "any")) nigh_pen_put(w, ",\"tool_choice\":\"required\"");
    else if (nigh_json_says(choice, "type", "tool") && name.len) {
        nigh_pen_put(w, ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":");
        nigh_pen_string(w, name);
        nigh_pen_put(w, "}}");
    } else {
        nigh_pen_refuse(w, NIGH_EINVAL, "invalid_value", "tool_choice",
            "'tool_choice' must be auto, any, none, or a tool with a name");
    }
    if (nigh_json_is(one, NIGH_JSON_BOOL) && one->boolean) nigh_pen_put(w, ",\"parallel_tool_calls\":false");
}

/* ---- the rest ---- */

static void put_stops(nigh_pen *w, const nigh_json *stops) {
    if (nigh_front_absent(stops)) return;
    if (stops->type != NIGH_JSON_ARRAY) { bad_type(w, "stop_sequences", "an array of strings"); return; }
    if (stops->count > STOP_MAX)
        nigh_pen_refuse(w, NIGH_EINVAL, "too_many", "stop_sequences", "'stop_sequences' may hold at most %d", STOP_MAX);
    for (const nigh_json *s = stops->first; s; s = s->next) {
        if (s->type != NIGH_JSON_STRING) bad_type(w, "stop_sequences", "an array of strings");
        else if (!s->text.len || s->text.len > NIGH_REQUEST_STOP_BYTES)
            nigh_pen_refuse(w, NIGH_EINVAL, "out_of_range", "stop_sequences", "a stop sequence must have 1..%d bytes",
                NIGH_REQUEST_STOP_BYTES);
    }
    nigh_pen_member(w, "stop", stops);
}

/* output_config.format, and the older output_format: a schema for the answer. */
static void put_format(nigh_pen *w, const nigh_json *root) {
    const nigh_json *format = nigh_json_get(nigh_json_get(root, NIGH_STR("output_config")), NIGH_STR("format"));
    if (nigh_front_absent(format)) format = nigh_json_get(root, NIGH_STR("output_format"));
    const nigh_json *schema = nigh_json_get(format, NIGH_STR("schema"));
    if (nigh_front_absent(format)) return;
    if (!nigh_json_says(format, "type", "json_schema") || !nigh_json_is(schema, NIGH_JSON_OBJECT)) {
        nigh_pen_refuse(w, NIGH_EINVAL, "invalid_value", "output_config", "the format must be a json_schema");
        return;
    }
    nigh_pen_put(w, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\"");
    nigh_pen_member(w, "schema", schema);
    nigh_pen_put(w, ",\"strict\":true}}");
}

void nigh_messages_read(nigh_pen *w, const nigh_json *root, bool for_count) {
    const nigh_json *limit = nigh_json_get(root, NIGH_STR("max_tokens"));
    if (!for_count && nigh_front_absent(limit))
        nigh_pen_refuse(w, NIGH_EINVAL, "missing", "max_tokens", "'max_tokens' is missing");
    put_messages(w, root);
    if (!for_count) nigh_front_read_limit(w, limit, "max_tokens", "max_tokens");
    put_tools(w, nigh_json_get(root, NIGH_STR("tools")));
    put_choice(w, nigh_json_get(root, NIGH_STR("tool_choice")));
    put_stops(w, nigh_json_get(root, NIGH_STR("stop_sequences")));
    put_format(w, root);
    nigh_front_read_common(w, root);
    nigh_pen_put(w, "}");
}
