/* test_request.c - API requests: the table's borders, shapes, and every allocation failing once. */
#include "node/request.h"
#include "node/receipt.h"
#include "test.h"

static const nigh_str full = { "{\"model\":\"m\",\"prompt\":[\"a\",\"b\"],\"max_tokens\":5,\"n\":2,\"stop\":[\"x\","
                               "\"yz\"],\"seed\":-1,\"temperature\":0.5,"
                               "\"logprobs\":2,\"stream\":true,\"stream_options\":{\"include_usage\":true},\"logit_"
                               "bias\":{\"1\":-100,\"2\":5.5},\"unknown\":[{}]}",
    0 };

static nigh_str whole(void) { return nigh_str_of(full.ptr); }

static void test_everything_at_once(void) {
    nigh_request r;
    nigh_refusal why;
    CHECK(nigh_request_parse(&r, NIGH_TASK_COMPLETION, whole(), &why) == NIGH_OK);
    CHECK(nigh_str_eq(r.model, NIGH_STR("m")) && r.max_tokens == 5 && r.n == 2 && r.has_seed && r.seed == -1 &&
          r.temperature == 0.5);
    CHECK(r.logprobs && r.top_logprobs == 2 && r.stream && r.include_usage && r.stop_count == 2 && r.bias_count == 2);
    CHECK(nigh_str_eq(r.stop[1], NIGH_STR("yz")) && r.bias[0].id == 1 && r.bias[0].bias == -100.0f);
    CHECK(nigh_request_count(&r) == 2 && nigh_str_eq(nigh_request_item(&r, 1)->text, NIGH_STR("b")));
    CHECK(nigh_request_forget(&r) == NIGH_OK && !r.doc.root && nigh_str_eq(r.stop[0], NIGH_STR("x")));
    CHECK(nigh_str_eq(r.stop[1], NIGH_STR("yz")) && r.bias_count == 2 && r.n == 2);
    nigh_request_release(&r);
    CHECK(nigh_request_parse(&r, NIGH_TASK_COMPLETION, NIGH_STR("{\"prompt\":[1,2,3]}"), &why) == NIGH_OK);
    CHECK(nigh_request_count(&r) == 1 && nigh_request_item(&r, 0)->count == 3 && r.max_tokens == 16 &&
          r.temperature == 1);
    nigh_request_release(&r);
}

static void test_borders_of_numbers(void) {
    size_t count;
    const nigh_field_rule *f = nigh_fields(&count);
    for (size_t i = 0; i < count; i++) {
        if (f[i].kind > NIGH_FIELD_FLOAT || f[i].at == offsetof(nigh_request, seed) ||
            f[i].at == offsetof(nigh_request, best_of))
            continue;
        for (int k = 0; k < 4; k++) {
            char body[256], v[64];
            double value = k < 2 ? f[i].min - (k == 0) : f[i].max + (k == 3);
            nigh_task task = f[i].tasks & NIGH_TASK_CHAT         ? NIGH_TASK_CHAT
                             : f[i].tasks & NIGH_TASK_COMPLETION ? NIGH_TASK_COMPLETION
                                                                 : NIGH_TASK_EMBEDDING;
            snprintf(v, sizeof v, "%.0f", value);
            snprintf(body, sizeof body,
                "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"prompt\":\"a\",\"input\":\"a\",\"%s\":%s%s}",
                f[i].name, v, strcmp(f[i].name, "top_logprobs") == 0 ? ",\"logprobs\":true" : "");
            nigh_request r;
            nigh_refusal why;
            nigh_status status = nigh_request_parse(&r, task, nigh_str_of(body), &why);
            CHECK_MSG((status == NIGH_OK) == (k == 1 || k == 2), "%s", body);
            if (status == NIGH_OK) nigh_request_release(&r);
            else CHECK_MSG(why.status == 400 && strcmp(why.param, f[i].name) == 0, "%s: %s", body, why.text);
        }
    }
}

static void test_no_memory(void) {
    size_t live = nigh_alloc_live_bytes(), failed = 0;
    for (uint64_t nth = 1; nth < 20; nth++) {
        nigh_request r;
        nigh_refusal why;
        nigh_alloc_fail_at(nth, false);
        nigh_status status = nigh_request_parse(&r, NIGH_TASK_COMPLETION, whole(), &why);
        nigh_alloc_fail_at(0, false);
        if (status == NIGH_OK) nigh_request_release(&r);
        else { failed++; CHECK(why.status == 503); }
        CHECK(nigh_alloc_live_bytes() == live);
    }
    CHECK(failed >= 2);
}

static void test_receipt(void) {
    nigh_receipt r;
    char header[256];
    nigh_buf b = NIGH_BUF(1024);
    nigh_receipt_init(&r, "m", "abc", "loopback");
    r.ms = 12;
    snprintf(r.id, sizeof r.id, "rcpt-1");
    nigh_receipt_header(&r, true, header, sizeof header);
    CHECK(strcmp(header, "place=device; model=m@sha256:abc; out=0B; to=loopback; ms=12; id=rcpt-1") == 0);
    nigh_receipt_header(&r, false, header, sizeof header);
    CHECK(strcmp(header, "place=device; model=m@sha256:abc; out=0B; to=loopback; id=rcpt-1") == 0);
    nigh_receipt_header(&r, true, header, 20);
    CHECK(strlen(header) < 20);
    CHECK(nigh_receipt_json(&r, &b) == NIGH_OK);
    CHECK(nigh_str_eq(
        nigh_buf_str(&b), NIGH_STR("{\"id\":\"rcpt-1\",\"place\":\"device\",\"model\":\"m\",\"model_sha256\":\"abc\","
                                   "\"bytes_out\":0,\"to\":\"loopback\",\"ms\":12,\"degraded\":false}")));
    nigh_buf_release(&b);
}

TEST_MAIN(T(test_everything_at_once), T(test_borders_of_numbers), T(test_no_memory), T(test_receipt))
