/* dialect.c - what the three dialects share on the way back: the bytes of an answer become events, an error's words
 * become one of a few ends.
 *
 * An answer is read until it failed or ended. `ended` is set by one function only, nigh_dialect_give_end, which a
 * dialect calls at its own end mark; so whatever else happens, an answer without its mark is CUT. A place may lie in
 * any way: nothing here believes a length, a number or an order without looking. */
#include "node/dialect_parts.h"

#include "base/utf8.h"

bool nigh_api_find(nigh_str name, nigh_api *out) {
    static const struct { nigh_str name; nigh_api api;
    } known[] = { { NIGH_STR(""), NIGH_API_OPENAI_CHAT },
                  { NIGH_STR("openai-chat"), NIGH_API_OPENAI_CHAT },
                  { NIGH_STR("openai-responses"), NIGH_API_OPENAI_RESPONSES },
                  { NIGH_STR("anthropic"), NIGH_API_ANTHROPIC } };
    for (size_t i = 0; i < NIGH_COUNT(known); i++)
        if (nigh_str_eq(known[i].name, name)) { *out = known[i].api; return true; }
    return false;
}

nigh_str nigh_dialect_path(nigh_api api) {
    return api == NIGH_API_ANTHROPIC ? NIGH_STR("/messages")
           : api == NIGH_API_OPENAI_RESPONSES ? NIGH_STR("/responses") : NIGH_STR("/chat/completions");
}

/* ---- reading ---- */
uint32_t nigh_dialect_count(const nigh_json *object, const char *key) {
    uint64_t n = nigh_json_count(object, key);
    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

bool nigh_dialect_is_empty(const nigh_json *v) {
    if (!v || v->type == NIGH_JSON_NULL) return true;
    if (v->type == NIGH_JSON_BOOL) return !v->boolean;
    if (v->type == NIGH_JSON_STRING) return v->text.len == 0;
    return v->type != NIGH_JSON_NUMBER && v->count == 0;
}

/* ---- giving out ---- */
void nigh_dialect_fail(nigh_dialect_answer *a, nigh_call_end end, const char *text) {
    if (a->failure != NIGH_CALL_OK) return;
    a->failure = end;
    nigh_format(a->text, sizeof a->text, "%s", text);
}

void nigh_dialect_give_begin(nigh_dialect_answer *a, nigh_str model, nigh_str id) {
    char name[256], request[128];
    if (a->begun) return;
    a->begun = true;
    nigh_format(name, sizeof name, "%.*s", (int)nigh_min(model.len, sizeof name), model.ptr ? model.ptr : "");
    nigh_format(request, sizeof request, "%.*s", (int)nigh_min(id.len, sizeof request), id.ptr ? id.ptr : "");
    if (a->calls->begin) a->calls->begin(a->ud, name, a->request_id && a->request_id[0] ? a->request_id : request);
}

void nigh_dialect_give_text(nigh_dialect_answer *a, nigh_str piece) {
    if (!piece.len || a->failure != NIGH_CALL_OK) return;
    nigh_dialect_give_begin(a, (nigh_str){ 0 }, (nigh_str){ 0 });
    a->alive = a->first = true;
    if (a->calls->text) a->calls->text(a->ud, piece);
}

static uint32_t tool_index(const nigh_dialect_answer *a, uint32_t key) {
    uint32_t i = 0;
    while (i < a->tool_count && a->tools[i].key != key) i++;
    return i;
}

bool nigh_dialect_tool_has_arguments(const nigh_dialect_answer *a, uint32_t key) {
    uint32_t i = tool_index(a, key);
    return i < a->tool_count && a->tools[i].has_arguments;
}

void nigh_dialect_give_tool(nigh_dialect_answer *a, uint32_t key, nigh_str id, nigh_str name, nigh_str arguments) {
    uint32_t i = tool_index(a, key);
    if (a->failure != NIGH_CALL_OK) return;
    if (i == a->tool_count) {
        if (!name.len) { nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "a tool call came without its name"); return; }
        if (i == NIGH_DIALECT_TOOLS_MAX) {
            nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "the answer holds more than 128 tool calls");
            return;
        }
        if (!a->tools) a->tools = nigh_alloc(sizeof *a->tools, NIGH_DIALECT_TOOLS_MAX);
        if (!a->tools) { nigh_dialect_fail(a, NIGH_CALL_FAILED, "not enough memory for the answer"); return; }
        a->tools[a->tool_count++].key = key;
    } else {
        id = name = (nigh_str){ 0 };
        if (!arguments.len) return;
    }
    nigh_dialect_give_begin(a, (nigh_str){ 0 }, (nigh_str){ 0 });
    a->alive = a->first = true;
    if (arguments.len) a->tools[i].has_arguments = true;
    if (a->calls->tool) a->calls->tool(a->ud, i, id, name, arguments);
}

void nigh_dialect_give_receipt(nigh_dialect_answer *a, const nigh_json *receipt) {
    nigh_buf text = NIGH_BUF(NIGH_DIALECT_RECEIPT_MAX);
    if (!a->edge || a->receipt_given || !nigh_json_is(receipt, NIGH_JSON_OBJECT)) return;
    nigh_status status = nigh_json_add_value(&text, receipt);
    if (status == NIGH_ERANGE) nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "the receipt is longer than 16 KiB");
    else if (status != NIGH_OK) nigh_dialect_fail(a, NIGH_CALL_FAILED, "not enough memory for the answer");
    else {
        a->receipt_given = true;
        if (a->calls->receipt) a->calls->receipt(a->ud, nigh_buf_str(&text));
    }
    nigh_buf_release(&text);
}

void nigh_dialect_receipt(nigh_dialect_answer *a, nigh_str text) {
    nigh_json_doc doc;
    if (!nigh_str_starts(text, NIGH_STR("{")) || nigh_json_parse(&doc, text, NULL) != NIGH_OK) return;
    nigh_dialect_give_receipt(a, doc.root);
    nigh_json_release(&doc);
}

void nigh_dialect_give_end(nigh_dialect_answer *a) {
    if (a->failure != NIGH_CALL_OK || a->ended) return;
    if (!a->finish) { nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "the answer ended without saying why"); return; }
    nigh_dialect_give_begin(a, (nigh_str){ 0 }, (nigh_str){ 0 });
    a->ended = true;
    if (a->calls->finish) a->calls->finish(a->ud, a->finish, &a->usage);
}

/* ---- from bytes to events ---- */
static nigh_status on_event(void *ud, nigh_str event, nigh_str data) {
    nigh_dialect_answer *a = ud;
    (void)event;                /* every body names its own type */
    if (a->ended) return NIGH_OK;
    if (a->api == NIGH_API_OPENAI_CHAT && nigh_str_eq(nigh_str_trim(data), NIGH_STR("[DONE]"))) {
        nigh_dialect_give_end(a);
        return a->failure == NIGH_CALL_OK ? NIGH_OK : NIGH_EDATA;
    }
    if (nigh_str_eq(nigh_str_trim(data), NIGH_STR("[DONE]"))) return NIGH_OK;   /* theirs is another mark */
    nigh_json_doc doc;
    nigh_status status = nigh_json_parse(&doc, data, NULL);
    if (status == NIGH_ENOMEM) nigh_dialect_fail(a, NIGH_CALL_FAILED, "not enough memory for the answer");
    else if (status != NIGH_OK || doc.root->type != NIGH_JSON_OBJECT)
        nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "an event of the stream is not a JSON object");
    else if (a->api == NIGH_API_ANTHROPIC) nigh_dialect_anthropic_event(a, doc.root);
    else if (a->api == NIGH_API_OPENAI_RESPONSES) nigh_dialect_responses_event(a, doc.root);
    else nigh_dialect_chat_event(a, doc.root);
    if (status == NIGH_OK) nigh_json_release(&doc);
    return a->failure == NIGH_CALL_OK ? NIGH_OK : NIGH_EDATA;
}

void nigh_dialect_feed(nigh_dialect_answer *a, nigh_str bytes) {
    if (a->failure != NIGH_CALL_OK || a->ended || !bytes.len) return;
    nigh_status status;
    if (a->stream) status = nigh_sse_feed(&a->sse, bytes, on_event, a);
    else {
        a->whole.limit = NIGH_DIALECT_WHOLE_MAX;
        status = nigh_buf_add(&a->whole, bytes);
    }
    if (status == NIGH_ERANGE)
        nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "the answer, or an event of it, is too long");
    else if (status != NIGH_OK) nigh_dialect_fail(a, NIGH_CALL_FAILED, "not enough memory for the answer");
}

/* An answer in one piece. A text that is no JSON was most likely cut. */
static void read_whole(nigh_dialect_answer *a) {
    nigh_json_doc doc;
    nigh_err err = { 0 };
    nigh_status status = nigh_json_parse(&doc, nigh_buf_str(&a->whole), &err);
    if (status == NIGH_ENOMEM) { nigh_dialect_fail(a, NIGH_CALL_FAILED, "not enough memory for the answer"); return; }
    if (status != NIGH_OK) {
        if (err.at >= a->whole.len) nigh_dialect_fail(a, NIGH_CALL_CUT, "the answer broke off before its end");
        else nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "the answer is not JSON");
        return;
    }
    const nigh_json *error = nigh_json_get(doc.root, NIGH_STR("error"));
    if (doc.root->type != NIGH_JSON_OBJECT) nigh_dialect_fail(a, NIGH_CALL_MALFORMED, "the answer is not an object");
    else if (!nigh_dialect_is_empty(error)) nigh_dialect_fail_said(a, error);
    else if (a->api == NIGH_API_ANTHROPIC) nigh_dialect_anthropic_whole(a, doc.root);
    else if (a->api == NIGH_API_OPENAI_RESPONSES) nigh_dialect_responses_whole(a, doc.root);
    else nigh_dialect_chat_whole(a, doc.root);
    nigh_json_release(&doc);
}

nigh_call_end nigh_dialect_end(nigh_dialect_answer *a) {
    if (a->failure == NIGH_CALL_OK && !a->ended && !a->stream) read_whole(a);
    if (a->failure == NIGH_CALL_OK && !a->ended)
        nigh_dialect_fail(a, NIGH_CALL_CUT, "the stream ended before its end was said");
    return a->failure;
}

void nigh_dialect_release(nigh_dialect_answer *a) {
    nigh_sse_release(&a->sse);
    nigh_buf_release(&a->whole);
    nigh_free(a->tools);
    a->tools = NULL;
}

/* ---- errors ---- */
static bool holds(nigh_str text, const char *word) {
    nigh_str w = nigh_str_of(word);
    for (size_t i = 0; i + w.len <= text.len; i++) {
        size_t k = 0;
        while (k < w.len && (text.ptr[i + k] | ((text.ptr[i + k] >= 'A' && text.ptr[i + k] <= 'Z') << 5)) == w.ptr[k])
            k++;
        if (k == w.len) return true;
    }
    return false;
}

static bool holds_any(nigh_str text, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++) if (holds(text, words[i])) return true;
    return false;
}

/* http: of the answer; 0: the error came inside a stream that had begun well. */
static nigh_call_end end_of(int http, nigh_str type, nigh_str code, nigh_str message) {
    static const char *const names[] = { "context_length", "exceed_context_size", "request_too_large" };
    static const char *const words[] = { "context length", "context window", "context size", "maximum context",
        "prompt is too long", "input is too long", "too many tokens" };
    static const char *const busy[] = { "rate_limit", "overloaded", "too_many_requests", "slow_down", "unavailable" };
    static const char *const never[] = { "invalid_request", "authentication", "permission", "not_found", "policy" };
    if (http == 0 || (http >= 400 && http < 500 && http != 429 && http != 401 && http != 403)) {
        if (holds_any(code, names, NIGH_COUNT(names)) || holds_any(type, names, NIGH_COUNT(names))
            || holds_any(message, words, NIGH_COUNT(words)) || http == 413)
            return NIGH_CALL_CONTEXT;
    }
    if (holds(code, "insufficient_quota") || holds(type, "insufficient_quota")) return NIGH_CALL_REJECTED;
    if (http == 429 || http == 503 || http == 529) return NIGH_CALL_BUSY;
    if (http == 408 || http == 409 || http == 425 || http >= 500) return NIGH_CALL_FAILED;
    if (http >= 400) return NIGH_CALL_REJECTED;
    if (holds_any(type, busy, NIGH_COUNT(busy)) || holds_any(code, busy, NIGH_COUNT(busy))) return NIGH_CALL_BUSY;
    return holds_any(type, never, NIGH_COUNT(never)) ? NIGH_CALL_REJECTED : NIGH_CALL_FAILED;
}

enum { KEY_PIECE = 8 };

static bool repeats_key(nigh_str text, nigh_str key) {
    if (!key.len) return false;
    size_t piece = nigh_min(key.len, KEY_PIECE);
    for (size_t i = 0; i + piece <= key.len; i++)
        if (nigh_str_find(text, nigh_str_slice(key, i, i + piece), 0) != SIZE_MAX) return true;
    return false;
}

void nigh_dialect_quote(nigh_str type, nigh_str message, nigh_str key, char said[200]) {
    said[0] = '\0';
    if (!message.len && !type.len) return;
    if (repeats_key(message, key) || repeats_key(type, key)) {
        nigh_format(said, 200, "(withheld: it repeats a part of the key)");
        return;
    }
    nigh_format(said, 200, "%.*s%s%.*s", (int)nigh_min(type.len, 60), type.ptr ? type.ptr : "",
                type.len && message.len ? ": " : "", (int)nigh_min(message.len, 198), message.ptr ? message.ptr : "");
    nigh_str t = nigh_str_of(said);
    for (size_t i = 0, n; i < t.len; i += n) {
        uint32_t letter;
        n = nigh_utf8_read(t, i, &letter);
        if (n == 0 || letter < 0x20 || letter == 0x7f) { said[i] = n ? ' ' : '?'; n = 1; }
    }
}

static const char *words_of(nigh_call_end end, bool inside) {
    if (end == NIGH_CALL_CONTEXT) return "the target says that the request is too long for it";
    if (end == NIGH_CALL_BUSY) return "the target is busy";
    if (end == NIGH_CALL_REJECTED) return "the target rejects the request";
    return inside ? "the target reported an error inside its answer" : "the target failed";
}

void nigh_dialect_fail_said(nigh_dialect_answer *a, const nigh_json *error) {
    nigh_str type = nigh_json_text(error, "type"), code = nigh_json_text(error, "code");
    nigh_str message = error->type == NIGH_JSON_STRING ? error->text : nigh_json_text(error, "message");
    uint32_t number = nigh_dialect_count(error, "code");
    int http = number >= 400 && number < 600 ? (int)number : 0;
    if (a->failure != NIGH_CALL_OK) return;
    nigh_call_end end = end_of(http, type, code, message);
    nigh_dialect_fail(a, end, words_of(end, true));
    nigh_dialect_quote(type.len ? type : code, message, a->key, a->said);
}

nigh_call_end nigh_dialect_error(int http, nigh_str body, nigh_str key, char text[200], char said[200]) {
    nigh_json_doc doc;
    nigh_str type = { 0 }, code = { 0 }, message = { 0 };
    bool is_json = nigh_json_parse(&doc, body, NULL) == NIGH_OK;
    if (is_json) {
        const nigh_json *error = nigh_json_get(doc.root, NIGH_STR("error"));
        if (nigh_json_is(error, NIGH_JSON_STRING)) message = error->text;
        else if (error) {
            type = nigh_json_text(error, "type");
            code = nigh_json_text(error, "code");
            message = nigh_json_text(error, "message");
        }
        if (!message.len) message = nigh_json_text(doc.root, "message");
        if (!message.len) message = nigh_json_text(doc.root, "detail");
    }
    nigh_call_end end = end_of(http, type, code, message);
    nigh_dialect_quote(code.len ? code : type, message, key, said);
    nigh_format(text, 200, "%s (HTTP %d)", words_of(end, false), http);
    if (http == 401 || http == 403) {
        nigh_format(text, 200, "the target does not accept the key, or forbids this (HTTP %d)", http);
    }
    if (is_json) nigh_json_release(&doc);
    return end;
}
