/* front_messages_write.c - an answer in the words of Anthropic's messages.
 *
 *     message_start, ping
 *     content_block_start, content_block_delta ..., content_block_stop      of each block
 *     message_delta (why it ended, usage), message_stop (with the receipt)
 *
 * Arguments of a tool are text while they stream and an object in a whole answer; text that is no JSON object, because
 * the answer was cut or the model wrote it so, stands there as {"unparsed": text}. */
#include "node/front.h"

static nigh_pen begin_pen(nigh_answer *a) {
    a->out.len = 0;
    return (nigh_pen){ .out = &a->out };
}

static const char *stop_reason(const nigh_answer *a) {
    const char *finish = nigh_front_finish(a);
    if (a->choice_count && a->choices->stop && !a->choices->finish_word) return "stop_sequence";
    return strcmp(finish, "length") == 0 ? "max_tokens" : strcmp(finish, "tool_calls") == 0 ? "tool_use"
           : strcmp(finish, "content_filter") == 0 ? "refusal" : "end_turn";
}

static void put_stop(nigh_pen *p, const nigh_answer *a) {
    unsigned stop = a->choice_count && !a->choices->finish_word ? a->choices->stop : 0;
    nigh_pen_format(p, "\"stop_reason\":\"%s\",\"stop_sequence\":", stop_reason(a));
    if (stop && stop <= a->r.stop_count) nigh_pen_string(p, a->r.stop[stop - 1]);
    else nigh_pen_put(p, "null");
}

static void put_usage(nigh_pen *p, const nigh_answer *a) {
    uint32_t cached = a->choice_count ? a->choices->cached : 0, written = a->choice_count ? a->choices->token_count : 0;
    if (cached > a->prompt_tokens) cached = a->prompt_tokens;
    nigh_pen_format(p, "\"usage\":{\"input_tokens\":%u,\"cache_creation_input_tokens\":0,"
        "\"cache_read_input_tokens\":%u,\"output_tokens\":%u}", a->prompt_tokens - cached, cached, written);
}

static void put_head(nigh_pen *p, const nigh_answer *a) {
    nigh_pen_format(p, "{\"id\":\"msg_%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", a->receipt.id + 5);
    nigh_pen_string(p, nigh_str_of(a->model));
    nigh_pen_put(p, ",\"content\":[");
}

static void put_receipt(nigh_pen *p, nigh_answer *a) {
    nigh_pen_put(p, ",\"nigh_receipt\":");
    if (p->bad == NIGH_OK) p->bad = nigh_openai_add_receipt(a, p->out);
}

/* ---- events ---- */

static void begin_event(nigh_pen *p, const char *type) {
    nigh_pen_format(p, "event: %s\ndata: {\"type\":\"%s\"", type, type);
}

static void begin_block_event(nigh_pen *p, const char *type, uint32_t index) {
    begin_event(p, type);
    nigh_pen_format(p, ",\"index\":%u", index);
}

static nigh_status begin(nigh_answer *a, size_t choice) {
    nigh_pen p = begin_pen(a);
    (void)choice;
    begin_event(&p, "message_start");
    nigh_pen_put(&p, ",\"message\":");
    put_head(&p, a);
    nigh_pen_put(&p, "],\"stop_reason\":null,\"stop_sequence\":null,");
    put_usage(&p, a);
    nigh_pen_put(&p, "}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n");
    return p.bad;
}

static void close_block(nigh_pen *p, nigh_front *f) {
    if (f->open == NIGH_FRONT_NOTHING) return;
    begin_block_event(p, "content_block_stop", f->index++);
    nigh_pen_put(p, "}\n\n");
    f->open = NIGH_FRONT_NOTHING;
}

static void put_text(nigh_pen *p, nigh_front *f, nigh_str text) {
    if (f->open == NIGH_FRONT_NOTHING) {
        begin_block_event(p, "content_block_start", f->index);
        nigh_pen_put(p, ",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
        f->open = NIGH_FRONT_IN_TEXT;
    }
    begin_block_event(p, "content_block_delta", f->index);
    nigh_pen_put(p, ",\"delta\":{\"type\":\"text_delta\",\"text\":");
    nigh_pen_string(p, text);
    nigh_pen_put(p, "}}\n\n");
}

static nigh_status text(nigh_answer *a, size_t choice, nigh_str piece) {
    nigh_front *f = a->front;
    nigh_pen p = begin_pen(a);
    (void)choice;
    if (!piece.len) return NIGH_OK;
    if (f->any_tool) return nigh_buf_add(&f->late, piece);
    put_text(&p, f, piece);
    return p.bad;
}

static void open_tool(nigh_pen *p, nigh_front *f, nigh_str id, nigh_str name) {
    begin_block_event(p, "content_block_start", f->index);
    nigh_pen_put(p, ",\"content_block\":{\"type\":\"tool_use\",\"id\":");
    nigh_pen_string(p, id);
    nigh_pen_put(p, ",\"name\":");
    nigh_pen_string(p, name);
    nigh_pen_put(p, ",\"input\":{}}}\n\n");
    f->open = NIGH_FRONT_IN_TOOL;
}

static void put_arguments(nigh_pen *p, const nigh_front *f, nigh_str arguments) {
    if (!arguments.len) return;
    begin_block_event(p, "content_block_delta", f->index);
    nigh_pen_put(p, ",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":");
    nigh_pen_string(p, arguments);
    nigh_pen_put(p, "}}\n\n");
}

static nigh_status tool(nigh_answer *a, size_t i, nigh_str id, nigh_str name, nigh_str arguments) {
    nigh_front *f = a->front;
    nigh_pen p = begin_pen(a);
    if (!f->any_tool) {
        close_block(&p, f);
        f->any_tool = true;
        f->tool = i;
        open_tool(&p, f, id, name);
    }
    if (i == f->tool) put_arguments(&p, f, arguments);
    return p.bad;
}

/* What waited for the end: further calls, and text behind the first. */
static void put_rest(nigh_pen *p, nigh_answer *a) {
    nigh_front *f = a->front;
    close_block(p, f);
    for (size_t i = 0; i < a->tool_count && f->any_tool; i++) {
        if (i == f->tool) continue;
        open_tool(p, f, nigh_buf_str(&a->tools[i].id), nigh_buf_str(&a->tools[i].name));
        put_arguments(p, f, nigh_buf_str(&a->tools[i].arguments));
        close_block(p, f);
    }
    if (f->late.len) put_text(p, f, nigh_buf_str(&f->late));
    close_block(p, f);
}

static nigh_status end(nigh_answer *a) {
    nigh_pen p = begin_pen(a);
    put_rest(&p, a);
    begin_event(&p, "message_delta");
    nigh_pen_put(&p, ",\"delta\":{");
    put_stop(&p, a);
    nigh_pen_put(&p, "},");
    put_usage(&p, a);
    nigh_pen_put(&p, "}\n\n");
    begin_event(&p, "message_stop");
    put_receipt(&p, a);
    nigh_pen_put(&p, "}\n\n");
    return p.bad;
}

static nigh_status error(nigh_answer *a, int http, const char *code, const char *param, const char *said) {
    nigh_pen p = begin_pen(a);
    nigh_pen_put(&p, "event: error\ndata: ");
    if (p.bad == NIGH_OK)
        p.bad = nigh_error_json_as(&a->out, NIGH_ERRORS_ANTHROPIC, nigh_exchange_id(a->x), http, code, param, said);
    nigh_pen_put(&p, "\n\n");
    return p.bad;
}

/* ---- a whole answer ---- */

static void put_input(nigh_pen *p, nigh_str arguments) {
    nigh_json_doc doc = { 0 };
    nigh_status status = nigh_json_parse(&doc, arguments, NULL);
    if (!nigh_str_trim(arguments).len) nigh_pen_put(p, "{}");
    else if (status == NIGH_ENOMEM) p->bad = status;
    else if (status == NIGH_OK && doc.root->type == NIGH_JSON_OBJECT) nigh_pen_value(p, doc.root);
    else {
        nigh_pen_put(p, "{\"unparsed\":");
        nigh_pen_string(p, arguments);
        nigh_pen_put(p, "}");
    }
    nigh_json_release(&doc);
}

static nigh_status whole(nigh_answer *a) {
    nigh_pen p = begin_pen(a);
    nigh_str words = a->choice_count ? nigh_buf_str(&a->choices->text) : NIGH_STR("");
    put_head(&p, a);
    if (words.len) {
        nigh_pen_put(&p, "{\"type\":\"text\",\"text\":");
        nigh_pen_string(&p, words);
        nigh_pen_put(&p, "}");
    }
    for (size_t i = 0; i < a->tool_count; i++) {
        nigh_pen_put(&p, i || words.len ? ",{\"type\":\"tool_use\",\"id\":" : "{\"type\":\"tool_use\",\"id\":");
        nigh_pen_string(&p, nigh_buf_str(&a->tools[i].id));
        nigh_pen_put(&p, ",\"name\":");
        nigh_pen_string(&p, nigh_buf_str(&a->tools[i].name));
        nigh_pen_put(&p, ",\"input\":");
        put_input(&p, nigh_buf_str(&a->tools[i].arguments));
        nigh_pen_put(&p, "}");
    }
    nigh_pen_put(&p, "],");
    put_stop(&p, a);
    nigh_pen_put(&p, ",");
    put_usage(&p, a);
    put_receipt(&p, a);
    nigh_pen_put(&p, "}");
    return p.bad;
}

const nigh_speller nigh_messages_speller = { begin, text, tool, end, whole, error };
