/* fuzz_front.c - any bytes as a request in another dialect: what is taken becomes a chat request that is valid JSON,
 * and what the answer repeats of it is, too; what is refused says why. The first byte chooses the dialect. */
#include <stdlib.h>

#include "node/front.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_json(nigh_str text) {
    nigh_json_doc doc = { 0 };
    nigh_status status = nigh_json_parse(&doc, text, NULL);
    if (status != NIGH_OK && status != NIGH_ERANGE) abort();    /* ERANGE: a little deeper than it came */
    nigh_json_release(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nigh_buf chat = NIGH_BUF(NIGH_FRONT_BODY_MAX), echo = NIGH_BUF(NIGH_FRONT_BODY_MAX);
    nigh_refusal why;
    nigh_request r;
    if (!size) return 0;
    nigh_front_kind kind = (nigh_front_kind)(NIGH_FRONT_MESSAGES + data[0] % 3);
    nigh_str body = { (const char *)data + 1, size - 1 };
    if (nigh_front_translate(kind, body, &chat, &echo, &why) == NIGH_OK) {
        expect_json(nigh_buf_str(&chat));
        if (kind == NIGH_FRONT_RESPONSES) {
            nigh_buf whole = NIGH_BUF(NIGH_FRONT_BODY_MAX + 16);
            if (nigh_buf_addf(&whole, "{") != NIGH_OK || nigh_buf_add(&whole, nigh_buf_str(&echo)) != NIGH_OK
                || nigh_buf_addf(&whole, "\"end\":0}") != NIGH_OK) abort();
            expect_json(nigh_buf_str(&whole));
            nigh_buf_release(&whole);
        }
        if (nigh_request_parse_any(&r, NIGH_TASK_CHAT, nigh_buf_str(&chat), &why) == NIGH_OK) nigh_request_release(&r);
        else if (!why.code || !why.text[0]) abort();
    } else if (!why.code || !why.text[0] || why.status < 400) abort();
    nigh_buf_release(&chat);
    nigh_buf_release(&echo);
    return 0;
}
