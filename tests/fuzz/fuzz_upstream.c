/* fuzz_upstream.c - any bytes as what another place answers, in any pieces; as a request to spell for it; as an
 * address. The first byte chooses, the second cuts. An answer may be OK only with its end mark in it, the events must
 * not depend on the cuts, whatever is spelled must be JSON, an address that is taken must be taken again in the form
 * it is given on in. */
#include <stdlib.h>

#include "node/dialect.h"
#include "node/egress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok) { if (!ok) abort(); }

/* Everything that was heard, as text that can be compared. */
typedef struct { nigh_buf log; int finishes, begins; bool ended; } heard;

static void add(heard *h, char kind, nigh_str text) {
    must(!h->ended);
    if (nigh_buf_add_char(&h->log, kind) != NIGH_OK || nigh_buf_add(&h->log, text) != NIGH_OK) abort();
}
static void on_begin(void *ud, const char *model, const char *request_id) {
    heard *h = ud;
    must(h->begins++ == 0 && model && request_id);
    add(h, 'b', nigh_str_of(model));
}
static void on_text(void *ud, nigh_str piece) {
    must(piece.len > 0);
    add(ud, 't', piece);
}
static void on_tool(void *ud, uint32_t i, nigh_str id, nigh_str name, nigh_str arguments) {
    must(i < NIGH_DIALECT_TOOLS_MAX && (name.len || (!id.len && arguments.len)));
    add(ud, 'n', name);
    add(ud, 'a', arguments);
}
static void on_finish(void *ud, const char *finish, const nigh_usage *usage) {
    heard *h = ud;
    must(h->finishes++ == 0 && usage);
    must(!strcmp(finish, "stop") || !strcmp(finish, "length") || !strcmp(finish, "tool_calls")
         || !strcmp(finish, "content_filter"));
    add(h, 'f', nigh_str_of(finish));
    h->ended = true;
}
static void on_receipt(void *ud, nigh_str json) {
    heard *h = ud;
    nigh_json_doc doc;
    must(nigh_json_parse(&doc, json, NULL) == NIGH_OK && doc.root->type == NIGH_JSON_OBJECT);
    nigh_json_release(&doc);
    if (!h->ended) add(h, 'r', json);
}
static const nigh_upstream_calls calls = { on_begin, on_text, on_tool, on_finish, on_receipt, NULL };

static nigh_call_end listen(heard *h, nigh_api api, bool stream, bool edge, nigh_str bytes, uint32_t seed) {
    nigh_dialect_answer a = { .api = api,
                              .edge = edge,
                              .calls = &calls,
                              .ud = h,
                              .request_id = "",
                              .key = NIGH_STR("sk-secret-1"),
                              .stream = stream };
    *h = (heard){ .log = NIGH_BUF(64 << 20) };
    for (size_t at = 0, n; at < bytes.len; at += n) {
        n = seed ? 1 + (seed = seed * 1664525 + 1013904223) % 29 : bytes.len;
        n = nigh_min(n, bytes.len - at);
        nigh_dialect_feed(&a, nigh_str_slice(bytes, at, at + n));
    }
    nigh_call_end end = nigh_dialect_end(&a);
    must((end == NIGH_CALL_OK) == (h->finishes == 1) && (end == NIGH_CALL_OK) == a.ended);
    must(end == NIGH_CALL_OK || a.text[0]);
    must(!strstr(a.said, "sk-secret"));
    nigh_dialect_release(&a);
    return end;
}

static void check_answer(nigh_api api, bool stream, bool edge, nigh_str bytes, uint32_t seed) {
    static const char *const marks[] = { "[DONE]", "response.", "message_stop" };
    heard whole, pieces;
    nigh_call_end end = listen(&whole, api, stream, edge, bytes, 0);
    must(listen(&pieces, api, stream, edge, bytes, seed | 1) == end);
    must(nigh_str_eq(nigh_buf_str(&whole.log), nigh_buf_str(&pieces.log)));
    if (end == NIGH_CALL_OK && stream && nigh_str_find(bytes, NIGH_STR("\\u"), 0) == SIZE_MAX)
        must(nigh_str_find(bytes, nigh_str_of(marks[api]), 0) != SIZE_MAX);
    nigh_buf_release(&whole.log);
    nigh_buf_release(&pieces.log);
}

static void check_request(nigh_str body) {
    for (int api = 0; api < 3; api++) {
        nigh_buf out = NIGH_BUF(0);
        nigh_err err = { 0 };
        nigh_json_doc doc;
        nigh_dialect_ask ask = { NIGH_STR("m"), 0, api == 0 ? NIGH_TIER_EDGE : NIGH_TIER_CLOUD };
        nigh_status status = nigh_dialect_request((nigh_api)api, body, &ask, &out, &err);
        if (status == NIGH_OK) {
            must(nigh_json_parse(&doc, nigh_buf_str(&out), &err) == NIGH_OK || err.code == NIGH_ERANGE);
            if (err.code == NIGH_OK) nigh_json_release(&doc);
        } else must(err.text[0]);
        nigh_buf_release(&out);
    }
}

static void check_url(nigh_str text) {
    nigh_egress_url u, again;
    char name[300], spelled[400];
    nigh_err err = { 0 };
    if (nigh_egress_parse(&u, text, &err) != NIGH_OK) {
        must(nigh_str_starts(nigh_str_of(err.text), NIGH_STR("url: ")));
        return;
    }
    nigh_egress_name(&u, name, sizeof name);
    nigh_format(spelled, sizeof spelled, "%s://%s", u.https ? "https" : "http", name);
    must(nigh_egress_parse(&again, nigh_str_of(spelled), NULL) == NIGH_OK);
    must(strcmp(again.host, u.host) == 0 && again.port == u.port && again.is_v4 == u.is_v4 && again.is_v6 == u.is_v6);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    nigh_str rest = { (const char *)data + 2, size - 2 };
    unsigned kind = data[0];
    char text[200], said[200];
    if (kind % 8 < 6) check_answer((nigh_api)(kind % 8 % 3), kind % 8 < 3, kind & 8, rest, data[1]);
    else if (kind % 8 == 6) check_request(rest);
    else check_url(rest);
    nigh_dialect_error(400 + data[1], rest, NIGH_STR("sk-secret-1"), text, said);
    must(text[0] && !strstr(said, "sk-secret"));
    return 0;
}
