/* front_responses_write.c - an answer in the words of OpenAI's responses.
 *
 *     response.created, response.in_progress
 *     response.output_item.added
 *         response.content_part.added, output_text.delta ..., output_text.done, content_part.done      of a message
 *         response.function_call_arguments.delta ..., function_call_arguments.done                     of a call
 *     response.output_item.done
 *     response.completed or response.incomplete, [DONE]
 *
 * Clients fold these events one after the other and stop at one that is missing; the end repeats all items. Each event
 * carries its number. An error is an event of its own, in both shapes that are about, and then response.failed. */
#include "node/front.h"

#include "base/os.h"

typedef enum { IN_PROGRESS, DONE, FAILED } stage;

static nigh_pen begin_pen(nigh_answer *a) {
    a->out.len = 0;
    return (nigh_pen){ .out = &a->out };
}

static const char *incomplete_reason(const nigh_answer *a) {
    const char *finish = nigh_front_finish(a);
    return strcmp(finish, "length") == 0 ? "max_output_tokens" : strcmp(finish, "content_filter") == 0
           ? "content_filter" : NULL;
}

static const char *item_status(const nigh_answer *a) { return incomplete_reason(a) ? "incomplete" : "completed"; }

/* ---- the response as a whole ---- */

static void put_usage(nigh_pen *p, const nigh_answer *a) {
    uint32_t cached = a->choice_count ? a->choices->cached : 0, written = a->choice_count ? a->choices->token_count : 0;
    nigh_pen_format(p, "\"usage\":{\"input_tokens\":%u,\"input_tokens_details\":{\"cached_tokens\":%u},"
        "\"output_tokens\":%u,\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":%llu}",
        a->prompt_tokens, cached, written, (unsigned long long)a->prompt_tokens + written);
}

static void put_state(nigh_pen *p, const nigh_answer *a, stage s) {
    const char *reason = s == DONE ? incomplete_reason(a) : NULL;
    const char *status = s == IN_PROGRESS ? "in_progress" : s == FAILED ? "failed" : reason ? "incomplete"
                         : "completed";
    nigh_pen_format(p, "\"status\":\"%s\",\"completed_at\":", status);
    if (s == DONE && !reason) nigh_pen_format(p, "%llu", (unsigned long long)(nigh_os_unix_ms() / 1000));
    else nigh_pen_put(p, "null");
    nigh_pen_put(p, ",\"incomplete_details\":");
    if (reason) nigh_pen_format(p, "{\"reason\":\"%s\"}", reason);
    else nigh_pen_put(p, "null");
}

/* error: a JSON object, or "null". */
static void put_response(nigh_pen *p, nigh_answer *a, stage s, nigh_str error) {
    const nigh_front *f = a->front;
    nigh_pen_format(p, "{\"id\":\"resp_%s\",\"object\":\"response\",\"created_at\":%llu,\"model\":", a->receipt.id + 5,
        (unsigned long long)a->created_s);
    nigh_pen_string(p, nigh_str_of(a->model));
    nigh_pen_put(p, ",");
    put_state(p, a, s);
    nigh_pen_put(p, ",\"error\":");
    nigh_pen_add(p, error);
    nigh_pen_put(p, ",");
    nigh_pen_add(p, nigh_buf_str(&f->echo));
    nigh_pen_put(p, "\"output\":[");
    nigh_pen_add(p, nigh_buf_str(&f->output));
    nigh_pen_put(p, "],");
    if (s == DONE) {
        put_usage(p, a);
        nigh_pen_put(p, ",\"nigh_receipt\":");
        if (p->bad == NIGH_OK) p->bad = nigh_openai_add_receipt(a, p->out);
    } else nigh_pen_put(p, "\"usage\":null");
    nigh_pen_put(p, "}");
}

/* ---- items ---- */

static void put_text_part(nigh_pen *p, nigh_str text) {
    nigh_pen_put(p, "{\"type\":\"output_text\",\"text\":");
    nigh_pen_string(p, text);
    nigh_pen_put(p, ",\"annotations\":[],\"logprobs\":[]}");
}

static void put_message_head(nigh_pen *p, const nigh_answer *a, const char *status) {
    nigh_pen_format(p, "{\"id\":\"msg_%s_%u\",\"type\":\"message\",\"status\":\"%s\",\"role\":\"assistant\","
        "\"content\":[", a->receipt.id + 5, a->front->index, status);
}

static void put_message(nigh_pen *p, const nigh_answer *a, nigh_str text) {
    put_message_head(p, a, item_status(a));
    put_text_part(p, text);
    nigh_pen_put(p, "]}");
}

static void put_call(nigh_pen *p, const nigh_answer *a, size_t i, const char *status, nigh_str arguments) {
    const nigh_tool_call *t = &a->tools[i];
    nigh_pen_format(p, "{\"id\":\"fc_%s_%u\",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":",
        a->receipt.id + 5, a->front->index, status);
    nigh_pen_string(p, nigh_buf_str(&t->id));
    nigh_pen_put(p, ",\"name\":");
    nigh_pen_string(p, nigh_buf_str(&t->name));
    nigh_pen_put(p, ",\"arguments\":");
    nigh_pen_string(p, arguments);
    nigh_pen_put(p, "}");
}

/* Keeps an item that is done: written behind what stands in `output`. */
static nigh_pen keep_pen(nigh_front *f) {
    nigh_pen k = { .out = &f->output };
    if (f->output.len) nigh_pen_put(&k, ",");
    return k;
}

/* ---- events ---- */

static void begin_event(nigh_pen *p, nigh_front *f, const char *type) {
    nigh_pen_format(p, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%u", type, type, f->sequence++);
}

static void item_event(nigh_pen *p, nigh_front *f, const char *type) {
    begin_event(p, f, type);
    nigh_pen_format(p, ",\"output_index\":%u,\"item\":", f->index);
}

/* Of a part of a message, or of the arguments of a call. */
static void inner_event(nigh_pen *p, const nigh_answer *a, const char *type, bool text) {
    begin_event(p, a->front, type);
    nigh_pen_format(p, ",\"item_id\":\"%s_%s_%u\",\"output_index\":%u", text ? "msg" : "fc", a->receipt.id + 5,
        a->front->index, a->front->index);
    if (text) nigh_pen_put(p, ",\"content_index\":0");
}

static nigh_status begin(nigh_answer *a, size_t choice) {
    static const char *const types[] = { "response.created", "response.in_progress" };
    nigh_pen p = begin_pen(a);
    (void)choice;
    for (size_t i = 0; i < NIGH_COUNT(types); i++) {
        begin_event(&p, a->front, types[i]);
        nigh_pen_put(&p, ",\"response\":");
        put_response(&p, a, IN_PROGRESS, NIGH_STR("null"));
        nigh_pen_put(&p, "}\n\n");
    }
    return p.bad;
}

static void open_message(nigh_pen *p, nigh_answer *a) {
    nigh_front *f = a->front;
    f->open = NIGH_FRONT_IN_TEXT;
    f->text.len = 0;
    item_event(p, f, "response.output_item.added");
    put_message_head(p, a, "in_progress");
    nigh_pen_put(p, "]}}\n\n");
    inner_event(p, a, "response.content_part.added", true);
    nigh_pen_put(p, ",\"part\":");
    put_text_part(p, NIGH_STR(""));
    nigh_pen_put(p, "}\n\n");
}

static void put_text(nigh_pen *p, nigh_answer *a, nigh_str piece) {
    if (a->front->open == NIGH_FRONT_NOTHING) open_message(p, a);
    if (!piece.len) return;
    if (p->bad == NIGH_OK) p->bad = nigh_buf_add(&a->front->text, piece);
    inner_event(p, a, "response.output_text.delta", true);
    nigh_pen_put(p, ",\"delta\":");
    nigh_pen_string(p, piece);
    nigh_pen_put(p, ",\"logprobs\":[]}\n\n");
}

static void close_message(nigh_pen *p, nigh_answer *a) {
    nigh_front *f = a->front;
    nigh_str text = nigh_buf_str(&f->text);
    nigh_pen k = keep_pen(f);
    inner_event(p, a, "response.output_text.done", true);
    nigh_pen_put(p, ",\"text\":");
    nigh_pen_string(p, text);
    nigh_pen_put(p, ",\"logprobs\":[]}\n\n");
    inner_event(p, a, "response.content_part.done", true);
    nigh_pen_put(p, ",\"part\":");
    put_text_part(p, text);
    nigh_pen_put(p, "}\n\n");
    item_event(p, f, "response.output_item.done");
    put_message(p, a, text);
    nigh_pen_put(p, "}\n\n");
    put_message(&k, a, text);
    if (p->bad == NIGH_OK) p->bad = k.bad;
}

static void open_call(nigh_pen *p, nigh_answer *a, size_t i) {
    a->front->open = NIGH_FRONT_IN_TOOL;
    item_event(p, a->front, "response.output_item.added");
    put_call(p, a, i, "in_progress", NIGH_STR(""));
    nigh_pen_put(p, "}\n\n");
}

static void put_arguments(nigh_pen *p, const nigh_answer *a, nigh_str arguments) {
    if (!arguments.len) return;
    inner_event(p, a, "response.function_call_arguments.delta", false);
    nigh_pen_put(p, ",\"delta\":");
    nigh_pen_string(p, arguments);
    nigh_pen_put(p, "}\n\n");
}

static void close_call(nigh_pen *p, nigh_answer *a, size_t i) {
    nigh_str arguments = nigh_buf_str(&a->tools[i].arguments);
    nigh_pen k = keep_pen(a->front);
    inner_event(p, a, "response.function_call_arguments.done", false);
    nigh_pen_put(p, ",\"name\":");
    nigh_pen_string(p, nigh_buf_str(&a->tools[i].name));
    nigh_pen_put(p, ",\"arguments\":");
    nigh_pen_string(p, arguments);
    nigh_pen_put(p, "}\n\n");
    item_event(p, a->front, "response.output_item.done");
    put_call(p, a, i, item_status(a), arguments);
    nigh_pen_put(p, "}\n\n");
    put_call(&k, a, i, item_status(a), arguments);
    if (p->bad == NIGH_OK) p->bad = k.bad;
}

static void close_item(nigh_pen *p, nigh_answer *a) {
    nigh_front *f = a->front;
    if (f->open == NIGH_FRONT_NOTHING) return;
    if (f->open == NIGH_FRONT_IN_TEXT) close_message(p, a);
    else close_call(p, a, f->tool);
    f->open = NIGH_FRONT_NOTHING;
    f->index++;
}

static nigh_status text(nigh_answer *a, size_t choice, nigh_str piece) {
    nigh_pen p = begin_pen(a);
    (void)choice;
    if (!piece.len) return NIGH_OK;
    if (a->front->any_tool) return nigh_buf_add(&a->front->late, piece);
    put_text(&p, a, piece);
    return p.bad;
}

static nigh_status tool(nigh_answer *a, size_t i, nigh_str id, nigh_str name, nigh_str arguments) {
    nigh_front *f = a->front;
    nigh_pen p = begin_pen(a);
    (void)id;                           /* a->tools has both */
    (void)name;
    if (!f->any_tool) {
        close_item(&p, a);
        f->any_tool = true;
        f->tool = i;
        open_call(&p, a, i);
    }
    if (i == f->tool) put_arguments(&p, a, arguments);
    return p.bad;
}

/* ---- ends ---- */

static void put_rest(nigh_pen *p, nigh_answer *a) {
    nigh_front *f = a->front;
    size_t streamed = f->tool;
    close_item(p, a);
    for (size_t i = 0; i < a->tool_count && f->any_tool; i++) {
        if (i == streamed) continue;
        f->tool = i;
        open_call(p, a, i);
        put_arguments(p, a, nigh_buf_str(&a->tools[i].arguments));
        close_item(p, a);
    }
    if (f->late.len || !f->index) put_text(p, a, nigh_buf_str(&f->late));
    close_item(p, a);
}

static nigh_status end(nigh_answer *a) {
    nigh_pen p = begin_pen(a);
    put_rest(&p, a);
    begin_event(&p, a->front, incomplete_reason(a) ? "response.incomplete" : "response.completed");
    nigh_pen_put(&p, ",\"response\":");
    put_response(&p, a, DONE, NIGH_STR("null"));
    nigh_pen_put(&p, "}\n\ndata: [DONE]\n\n");
    return p.bad;
}

static nigh_status error(nigh_answer *a, int http, const char *code, const char *param, const char *said) {
    nigh_buf whole = NIGH_BUF(16384);
    nigh_pen p = begin_pen(a), e = { .out = &whole };
    e.bad = nigh_error_json(&whole, http, code, param, said);
    begin_event(&p, a->front, "error");
    nigh_pen_put(&p, ",\"code\":");
    if (code) nigh_pen_string(&p, nigh_str_of(code));
    else nigh_pen_put(&p, "null");
    nigh_pen_put(&p, ",\"message\":");
    nigh_pen_string(&p, nigh_str_of(said));
    nigh_pen_put(&p, ",\"param\":");
    if (param) nigh_pen_string(&p, nigh_str_of(param));
    else nigh_pen_put(&p, "null");
    nigh_pen_put(&p, ",");
    nigh_pen_add(&p, nigh_str_slice(nigh_buf_str(&whole), 1, whole.len));   /* "error":{...}} */
    nigh_pen_put(&p, "\n\n");
    whole.len = 0;
    nigh_pen_put(&e, "{\"code\":");
    nigh_pen_string(&e, nigh_str_of(code ? code : "server_error"));
    nigh_pen_put(&e, ",\"message\":");
    nigh_pen_string(&e, nigh_str_of(said));
    nigh_pen_put(&e, "}");
    begin_event(&p, a->front, "response.failed");
    nigh_pen_put(&p, ",\"response\":");
    put_response(&p, a, FAILED, nigh_buf_str(&whole));
    nigh_pen_put(&p, "}\n\n");
    nigh_buf_release(&whole);
    return p.bad == NIGH_OK ? e.bad : p.bad;
}

/* ---- a whole answer ---- */

static nigh_status whole(nigh_answer *a) {
    nigh_front *f = a->front;
    nigh_pen p = begin_pen(a);
    nigh_str words = a->choice_count ? nigh_buf_str(&a->choices->text) : NIGH_STR("");
    f->output.len = f->index = 0;
    if (words.len || !a->tool_count) {
        nigh_pen k = keep_pen(f);
        put_message(&k, a, words);
        p.bad = k.bad;
        f->index++;
    }
    for (size_t i = 0; i < a->tool_count && p.bad == NIGH_OK; i++, f->index++) {
        nigh_pen k = keep_pen(f);
        put_call(&k, a, i, item_status(a), nigh_buf_str(&a->tools[i].arguments));
        p.bad = k.bad;
    }
    put_response(&p, a, DONE, NIGH_STR("null"));
    return p.bad;
}

const nigh_speller nigh_responses_speller = { begin, text, tool, end, whole, error };
