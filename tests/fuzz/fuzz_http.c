/* fuzz_http.c - any bytes as a whole HTTP request: the guard, and when there is a body, the reader of API requests.
 * What the guard lets pass must be sane; what the reader takes must lie within the table of fields. */
#include <stdlib.h>

#include "node/guard.h"
#include "node/keys.h"
#include "node/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok) { if (!ok) abort(); }

/* Splits a head as the library would: by lines, at the first colon. Returns where the body begins. */
static size_t split(nigh_str text, nigh_head *h) {
    size_t end = nigh_str_find(text, NIGH_STR("\r\n"), 0), at = end;
    nigh_str line = nigh_str_slice(text, 0, end);
    size_t a = nigh_min(nigh_str_find(line, NIGH_STR(" "), 0), line.len);
    size_t b = nigh_min(nigh_str_find(line, NIGH_STR(" "), a + 1), line.len);
    h->method = nigh_str_slice(line, 0, a);
    h->target = nigh_str_slice(line, a + 1, b);
    h->version = nigh_str_slice(line, b + 1, line.len);
    while (at < text.len) {
        at += 2;
        end = nigh_min(nigh_str_find(text, NIGH_STR("\r\n"), at), text.len);
        line = nigh_str_slice(text, at, end);
        at = end;
        if (!line.len) break;
        size_t colon = nigh_min(nigh_str_find(line, NIGH_STR(":"), 0), line.len);
        nigh_str value = nigh_str_slice(line, colon + 1, line.len);
        while (value.len && (value.ptr[0] == ' ' || value.ptr[0] == '\t')) value = nigh_str_slice(value, 1, value.len);
        if (h->field_count < NIGH_GUARD_FIELDS_MAX)
            h->fields[h->field_count] = (nigh_field){ nigh_str_slice(line, 0, colon), value };
        h->field_count++;
    }
    h->bytes = nigh_min(at + 2, text.len);
    return h->bytes;
}

static void check_facts(const nigh_facts *f) {
    must(f->path[0] == '/' || strcmp(f->path, "*") == 0);
    must(strlen(f->path) < sizeof f->path && !strstr(f->path, "/../") && !(f->has_length && f->chunked));
    for (const char *p = f->path; *p; p++) must((unsigned char)*p >= 0x20 && *p != '\\');
}

static void check_names(const nigh_facts *f) {
    nigh_hosts hosts = { 0 };
    nigh_origins origins = { 0 };
    must(nigh_hosts_add(&hosts, NIGH_STR("127.0.0.1"), 6444, NULL) == NIGH_OK);
    must(nigh_origins_add(&origins, NIGH_STR("https://app.example"), NULL) == NIGH_OK);
    if (nigh_hosts_has(&hosts, f->host)) must(nigh_str_starts(f->host, NIGH_STR("127.0.0.1:")));
    nigh_origin_kind kind = nigh_guard_origin(&hosts, &origins, f->origin);
    if (kind == NIGH_ORIGIN_LISTED) must(nigh_str_eq(f->origin, NIGH_STR("https://app.example")));
    if (kind == NIGH_ORIGIN_OWN) must(nigh_str_starts(f->origin, NIGH_STR("http://127.0.0.1:")));
    nigh_keys keys = { .count = 1 };        /* a hash that nothing has */
    must(!nigh_keys_match(&keys, nigh_keys_bearer(f->authorization)) && !nigh_keys_match(&keys, f->api_key));
    (void)nigh_guard_is_json(f->content_type);
}

static void check_request(nigh_str body, nigh_task task) {
    nigh_request r;
    nigh_refusal why;
    if (nigh_request_parse(&r, task, body, &why) != NIGH_OK) {
        must(why.status >= 400 && why.status < 600 && why.code && why.text[0]);
        return;
    }
    must(r.n >= 1 && r.n <= NIGH_REQUEST_N_MAX && r.max_tokens >= 0 && r.max_tokens <= 1048576);
    must(r.temperature >= 0 && r.temperature <= 2 && r.top_p >= 0 && r.top_p <= 1 && r.top_logprobs <= 20);
    must(r.stop_count <= NIGH_REQUEST_STOP_MAX && r.bias_count <= NIGH_REQUEST_BIAS_MAX);
    for (size_t i = 0; i < r.stop_count; i++) must(r.stop[i].len >= 1 && r.stop[i].len <= NIGH_REQUEST_STOP_BYTES);
    size_t count = nigh_request_count(&r);
    must(count >= 1);
    for (size_t i = 0; i < count && i < 64; i++) must(nigh_request_item(&r, i) != NULL);
    nigh_request_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static nigh_head head;
    static nigh_facts facts;
    nigh_str text = { (const char *)data, size };
    memset(&head, 0, sizeof head);
    size_t body = split(text, &head);
    nigh_verdict v = nigh_guard_head(&head, &facts);
    if (v.status == 0) {
        check_facts(&facts);
        check_names(&facts);
    } else must(v.status >= 400 && v.status < 600 && v.code && v.text);
    nigh_str rest = size && text.ptr[0] == '{' ? text : nigh_str_slice(text, body, size);
    static const nigh_task tasks[] = { NIGH_TASK_COMPLETION, NIGH_TASK_CHAT, NIGH_TASK_EMBEDDING };
    for (size_t i = 0; i < NIGH_COUNT(tasks); i++) check_request(rest, tasks[i]);
    return 0;
}
