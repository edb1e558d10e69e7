/* fuzz_template.c - a template source, a NUL, a JSON request: compiled and rendered both bare and as a chat. Whatever
 * comes out must be within the limits, UTF-8 where the source and the values are, with spans that cover it; nothing
 * may stay allocated. */
#include <stdlib.h>

#include "base/utf8.h"
#include "engine/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) abort();
}

static void check_spans(const nigh_spans *s, size_t len) {
    size_t before = 0;
    for (size_t i = 0; i < s->count; i++) {
        check(s->ptr[i].end > before && (i == 0 || s->ptr[i].user != s->ptr[i - 1].user));
        before = s->ptr[i].end;
    }
    check(before == len);
}

static void render_bare(nigh_str source, const nigh_json *request) {
    nigh_template *t;
    nigh_err err = { 0 };
    nigh_template_var vars[16] = { { .name = NIGH_STR("bos_token"), .text = NIGH_STR("<s>"), .trusted = true } };
    size_t count = 1;
    nigh_status status = nigh_template_compile(&t, source, &err);
    if (status != NIGH_OK) { check(err.code == status && err.text[0]); return; }
    for (const nigh_json *m = request->first; m && request->type == NIGH_JSON_OBJECT && count < NIGH_COUNT(vars);
         m = m->next)
        vars[count++] = (nigh_template_var){ .name = m->key, .value = m };
    nigh_template_input in = { .vars = vars, .var_count = count, .year = 2026, .month = 11, .day = 21 };
    nigh_buf out = NIGH_BUF(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_spans spans;
    status = nigh_template_render(t, &in, &out, &spans, &err);
    check(status == NIGH_OK || (err.code == status && err.text[0] && out.len == 0 && !spans.ptr));
    if (status == NIGH_OK) check_spans(&spans, out.len);
    if (status == NIGH_OK) check(nigh_utf8_check(nigh_buf_str(&out)) == SIZE_MAX);
    nigh_spans_release(&spans);
    nigh_buf_release(&out);
    nigh_template_free(t);
}

static void render_chat(nigh_str source, const nigh_json *request) {
    nigh_chat *c;
    nigh_buf out = NIGH_BUF(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_spans spans;
    nigh_chat_opts o = { .bos_token = NIGH_STR("<s>"), .year = 2026, .month = 11, .day = 21 };
    if (nigh_chat_open(&c, NIGH_CHAT_OWN, source, NULL) != NIGH_OK) return;
    if (nigh_chat_render(c, request, o, &out, &spans, NULL) == NIGH_OK) check_spans(&spans, out.len);
    nigh_spans_release(&spans);
    nigh_buf_release(&out);
    nigh_chat_close(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    nigh_str source = { (const char *)data, nul ? (size_t)(nul - data) : size };
    nigh_str text = nul ? (nigh_str){ (const char *)nul + 1, size - source.len - 1 } : NIGH_STR("{}");
    nigh_json_doc doc;
    size_t live = nigh_alloc_live_bytes();
    if (nigh_json_parse(&doc, text, NULL) != NIGH_OK && nigh_json_parse(&doc, NIGH_STR("{}"), NULL) != NIGH_OK)
        return 0;
    render_bare(source, doc.root);
    render_chat(source, doc.root);
    nigh_json_release(&doc);
    check(nigh_alloc_live_bytes() == live);
    return 0;
}
