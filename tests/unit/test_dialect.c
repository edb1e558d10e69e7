/* test_dialect.c - how requests are spelled for other places, and how their answers are read: each format, whole and
 * cut at every byte, and that an answer without its end mark is never a good one. */
#include "node/dialect.h"
#include "test.h"

/* ---- requests ---- */
static nigh_status spell(nigh_api api, nigh_tier tier, uint32_t max_tokens, const char *body, nigh_buf *out,
                         nigh_err *err) {
    nigh_dialect_ask ask = { .model = NIGH_STR("m"), .max_tokens = max_tokens, .tier = tier };
    return nigh_dialect_request(api, nigh_str_of(body), &ask, out, err);
}

#define U "{\"role\":\"user\",\"content\":\"hi\"}"
#define TOOL \
    "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\"}" \
    "}}"
#define TALK \
    "{\"messages\":[{\"role\":\"system\",\"content\":\"be \\\"kind\\\"\"}," U \
    ",{\"role\":\"assistant\",\"content\":null," \
    "\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": " \
    "1}\"}}]}," \
    "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"42\"},{\"role\":\"user\",\"content\":[{\"type\":" \
    "\"text\",\"text\":\"and?\"}]}]"

static const struct { nigh_api api; nigh_tier tier; uint32_t max; const char *body, *want;
} requests[] = {
    { NIGH_API_OPENAI_CHAT, NIGH_TIER_CLOUD, 0,
      "{\"model\":\"x\",\"messages\":[" U "],\"stream\":false,\"temperature\":0.5,"
      "\"metadata\":{\"feature\":\"f\"},\"store\":true,\"n\":1}",
      "{\"model\":\"m\",\"messages\":[" U
      "],\"temperature\":0.5,\"stream\":true,\"stream_options\":{\"include_usage\":true}}" },
    { NIGH_API_OPENAI_CHAT, NIGH_TIER_EDGE, 9,
      "{\"messages\":[" U "],\"max_completion_tokens\":50,\"metadata\":{\"a\":\"b\"}}",
      "{\"model\":\"m\",\"messages\":[" U
      "],\"metadata\":{\"a\":\"b\"},\"max_completion_tokens\":9,\"stream\":true,"
      "\"stream_options\":{\"include_usage\":true}}" },
    { NIGH_API_OPENAI_CHAT, NIGH_TIER_CLOUD, 9, "{\"messages\":[" U "],\"max_tokens\":50}",
      "{\"model\":\"m\",\"messages\":[" U
      "],\"max_tokens\":9,\"stream\":true,\"stream_options\":{\"include_usage\":true}}" },
    { NIGH_API_ANTHROPIC, NIGH_TIER_CLOUD, 0, "{\"messages\":[" U "]}",
      "{\"model\":\"m\",\"stream\":true,\"max_tokens\":4096,\"messages\":[{\"role\":\"user\",\"content\":[{"
      "\"type\":\"text\","
      "\"text\":\"hi\"}]}]}" },
    { NIGH_API_ANTHROPIC, NIGH_TIER_CLOUD, 0,
      TALK ",\"max_tokens\":7,\"stop\":\"x\",\"temperature\":1,\"top_p\":0.9,\"user\":\"u\","
           "\"tools\":[" TOOL "],\"tool_choice\":\"required\",\"parallel_tool_calls\":false}",
      "{\"model\":\"m\",\"stream\":true,\"max_tokens\":7,\"system\":[{\"type\":\"text\",\"text\":\"be "
      "\\\"kind\\\"\"}],\"messages\":["
      "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]},{\"role\":\"assistant\",\"content\":"
      "[{\"type\":"
      "\"tool_use\",\"id\":\"c1\",\"name\":\"f\",\"input\":{\"a\":1}}]},{\"role\":\"user\",\"content\":[{"
      "\"type\":\"tool_result\","
      "\"tool_use_id\":\"c1\",\"content\":\"42\"},{\"type\":\"text\",\"text\":\"and?\"}]}],\"tools\":[{\"name\":"
      "\"f\","
      "\"description\":\"d\",\"input_schema\":{\"type\":\"object\"}}],\"tool_choice\":{\"type\":\"any\","
      "\"disable_parallel_tool_use\":true},\"stop_sequences\":[\"x\"],\"temperature\":1,\"top_p\":0.9,"
      "\"metadata\":{\"user_id\":"
      "\"u\"}}" },
    { NIGH_API_ANTHROPIC, NIGH_TIER_CLOUD, 0,
      "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":"
      "{\"url\":\"data:image/png;base64,AAAA\"}},{\"type\":\"image_url\",\"image_url\":{\"url\":\"https://a/"
      "b.png\"}}]}],"
      "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"schema\":{\"type\":"
      "\"object\"}}},"
      "\"reasoning_effort\":\"low\"}",
      "{\"model\":\"m\",\"stream\":true,\"max_tokens\":4096,\"messages\":[{\"role\":\"user\",\"content\":[{"
      "\"type\":\"image\","
      "\"source\":{\"type\":\"base64\",\"media_type\":\"image/"
      "png\",\"data\":\"AAAA\"}},{\"type\":\"image\",\"source\":{\"type\":"
      "\"url\",\"url\":\"https://a/"
      "b.png\"}}]}],\"output_config\":{\"effort\":\"low\",\"format\":{\"type\":\"json_schema\","
      "\"schema\":{\"type\":\"object\"}}}}" },
    { NIGH_API_OPENAI_RESPONSES, NIGH_TIER_CLOUD, 0,
      TALK
      ",\"max_completion_tokens\":30,\"temperature\":2,\"reasoning_effort\":\"high\","
      "\"tools\":[" TOOL
      "],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},\"response_format\":{\"type\":"
      "\"json_object\"},\"verbosity\":\"low\"}",
      "{\"model\":\"m\",\"stream\":true,\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"system\","
      "\"content\":[{\"type\":"
      "\"input_text\",\"text\":\"be "
      "\\\"kind\\\"\"}]},{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\","
      "\"text\":\"hi\"}]},{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"f\",\"arguments\":\"{"
      "\\\"a\\\": 1}\"},{\"type\":"
      "\"function_call_output\",\"call_id\":\"c1\",\"output\":\"42\"},{\"type\":\"message\",\"role\":\"user\","
      "\"content\":[{\"type\":"
      "\"input_text\",\"text\":\"and?\"}]}],\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":"
      "\"d\",\"parameters\":"
      "{\"type\":\"object\"},\"strict\":false}],\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"},\"text\":{"
      "\"format\":{\"type\":"
      "\"json_object\"},\"verbosity\":\"low\"},\"temperature\":2,\"reasoning\":{\"effort\":\"high\"},\"max_"
      "output_tokens\":30}" },
    { NIGH_API_OPENAI_RESPONSES, NIGH_TIER_CLOUD, 5,
      "{\"messages\":[{\"role\":\"assistant\",\"content\":\"yes\"}," U "],"
      "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"strict\":true,\"schema\":{"
      "}}}}",
      "{\"model\":\"m\",\"stream\":true,\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"assistant\","
      "\"content\":[{"
      "\"type\":\"output_text\",\"text\":\"yes\"}]},{\"type\":\"message\",\"role\":\"user\",\"content\":[{"
      "\"type\":\"input_text\","
      "\"text\":\"hi\"}]}],\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"strict\":true,"
      "\"schema\":{}}},"
      "\"max_output_tokens\":5}" },
};

static void test_requests(void) {
    for (size_t i = 0; i < NIGH_COUNT(requests); i++) {
        nigh_buf out = NIGH_BUF(0);
        nigh_err err = { 0 };
        nigh_status status = spell(requests[i].api, requests[i].tier, requests[i].max, requests[i].body, &out, &err);
        CHECK_MSG(status == NIGH_OK && nigh_str_eq(nigh_buf_str(&out), nigh_str_of(requests[i].want)),
                  "case %zu: %s\n    %.*s", i, err.text, (int)out.len, out.ptr);
        nigh_buf_release(&out);
    }
}

/* What a format cannot say is named. */
static void test_refusals(void) {
    static const char *const bodies[] = { "{\"messages\":[" U "],\"seed\":1}",
                                          "{\"messages\":[" U "],\"logit_bias\":{\"5\":1}}",
                                          "{\"messages\":[" U "],\"presence_penalty\":0.5}",
                                          "{\"messages\":[" U "],\"frequency_penalty\":-1}",
                                          "{\"messages\":[{\"role\":\"user\",\"name\":\"bob\",\"content\":\"x\"}]}",
                                          "{\"messages\":[" U "],\"wild_field\":\"x\"}",
                                          "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\","
                                          "\"input_audio\":{\"data\":\"A\"}}]}]}",
                                          "{\"messages\":[{\"role\":\"robot\",\"content\":\"x\"}]}" };
    static const char *const words[] = {
        "seed",       "logit_bias",          "presence_penalty", "frequency_penalty", "messages[0].name",
        "wild_field", "messages[0].content", "messages[0].role"
    };
    static const char *const only_anthropic[] = { "{\"messages\":[" U "],\"temperature\":1.5}",
        "{\"messages\":[" U "],\"response_format\":{\"type\":\"json_object\"}}",
        "{\"messages\":[" U ",{\"role\":\"system\",\"content\":\"x\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"file\",\"file\":{\"file_id\":\"f\"}}]}]}" };
    static const char *const all[] = { "{\"messages\":[]}", "{\"messages\":{}}", "[]", "{\"messages\":[\"x\"]}",
        "{\"messages\":[" U "],\"n\":2}", "{\"messages\":[" U "],\"functions\":[{\"name\":\"f\"}]}",
        "{\"messages\":[" U "],\"logprobs\":true}", "{\"messages\":[" U "],\"audio\":{\"voice\":\"x\"}}", "" };
    static const nigh_api apis[] = { NIGH_API_OPENAI_CHAT, NIGH_API_OPENAI_RESPONSES, NIGH_API_ANTHROPIC };
    nigh_buf out = NIGH_BUF(0);
    nigh_err err;
    for (size_t a = 1; a < 3; a++)
        for (size_t i = 0; i < NIGH_COUNT(bodies); i++) {
            CHECK_MSG(spell(apis[a], NIGH_TIER_CLOUD, 0, bodies[i], &out, &err) == NIGH_EINVAL, "api %zu %s", a,
                      bodies[i]);
            CHECK_MSG(strstr(err.text, words[i]), "%s", err.text);
        }
    for (size_t i = 0; i < NIGH_COUNT(only_anthropic); i++)
        CHECK_MSG(spell(NIGH_API_ANTHROPIC, NIGH_TIER_CLOUD, 0, only_anthropic[i], &out, &err) == NIGH_EINVAL, "%s",
            only_anthropic[i]);
    for (size_t a = 0; a < 3; a++)
        for (size_t i = 0; i < NIGH_COUNT(all); i++)
            CHECK_MSG(spell(apis[a], NIGH_TIER_CLOUD, 0, all[i], &out, &err) == NIGH_EINVAL, "api %zu %s", a, all[i]);
    nigh_buf_release(&out);
}

/* Fields that say nothing are no reason to refuse. */
static void test_empty_fields(void) {
    nigh_buf out = NIGH_BUF(0);
    nigh_err err;
    static const char body[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\",\"name\":null}],\"seed\":null,\"logit_bias\":{},"
        "\"presence_penalty\":0,\"frequency_penalty\":0.0,\"logprobs\":false,\"functions\":[],\"tools\":[],\"stop\":"
        "null}";
    CHECK(spell(NIGH_API_ANTHROPIC, NIGH_TIER_CLOUD, 0, body, &out, &err) == NIGH_OK);
    CHECK(spell(NIGH_API_OPENAI_RESPONSES, NIGH_TIER_CLOUD, 0, body, &out, &err) == NIGH_OK);
    nigh_buf_release(&out);
}

/* ---- answers ---- */
typedef struct { nigh_buf text; int begins, finishes, tools; char finish[24]; nigh_usage usage; } heard;

static void on_begin(void *ud, const char *model, const char *request_id) {
    (void)model, (void)request_id;
    ((heard *)ud)->begins++;
}
static void on_text(void *ud, nigh_str piece) { if (nigh_buf_add(&((heard *)ud)->text, piece) != NIGH_OK) abort(); }
static void on_tool(void *ud, uint32_t i, nigh_str id, nigh_str name, nigh_str arguments) {
    heard *h = ud;
    if (name.len) h->tools++;
    (void)i, (void)id;
    if (nigh_buf_add(&h->text, arguments) != NIGH_OK) abort();
}
static void on_finish(void *ud, const char *finish, const nigh_usage *usage) {
    heard *h = ud;
    h->finishes++;
    h->usage = *usage;
    snprintf(h->finish, sizeof h->finish, "%s", finish);
}
static const nigh_upstream_calls calls = { on_begin, on_text, on_tool, on_finish, NULL, NULL };

/* Feeds the text in pieces of `step` bytes, up to `len`. */
static nigh_call_end listen(heard *h, nigh_api api, bool stream, const char *text, size_t len, size_t step,
                            char said[200]) {
    nigh_dialect_answer a = { .api = api, .calls = &calls, .ud = h, .request_id = "", .stream = stream };
    *h = (heard){ .text = NIGH_BUF(1 << 20) };
    for (size_t at = 0; at < len; at += step)
        nigh_dialect_feed(&a, (nigh_str){ text + at, nigh_min(step, len - at) });
    nigh_call_end end = nigh_dialect_end(&a);
    if (said) memcpy(said, a.said, 200);
    nigh_dialect_release(&a);
    return end;
}

static const char chat[] =
    ": hello\n\ndata: "
    "{\"id\":\"1\",\"model\":\"g\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}"
    "\r\n\r\n"
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\u00e4\"}}]}\n\ndata:{\"choices\":[{\"index\":0,\n"
    "data: \"delta\":{\"content\":\"b\"}}]}\n\nid: 7\nretry: 3\nwhatever\ndata: "
    "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
static const char anthropic[] =
    "\xef\xbb\xbf"
    "event: message_start\ndata: "
    "{\"type\":\"message_start\",\"message\":{\"id\":\"1\",\"model\":\"g\",\"usage\":{\"input_tokens\":4,"
    "\"cache_read_input_tokens\":1,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n"
    "event: content_block_delta\rdata: "
    "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\\u00e4\"}}\r\r"
    "event: new_thing\ndata: {\"type\":\"new_thing\"}\n\n"
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"b\"}}\n\n"
    "data: "
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"},\"usage\":{\"output_tokens\":2}}\n\n"
    "data: {\"type\":\"message_stop\"}\n\n";
static const char responses[] =
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"1\",\"model\":\"g\"}}\n\n"
    "data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\\u00e4\"}\n\ndata: "
    "{\"type\":\"response.output_text.delta\",\"delta\":\"b\"}\n\n"
    "data: "
    "{\"type\":\"response.incomplete\",\"response\":{\"incomplete_details\":{\"reason\":\"max_output_tokens\"},"
    "\"usage\":{\"input_tokens\":5,"
    "\"output_tokens\":2}}}\n\n";
static const struct { nigh_api api; const char *text; } streams[] = { { NIGH_API_OPENAI_CHAT, chat },
    { NIGH_API_ANTHROPIC, anthropic }, { NIGH_API_OPENAI_RESPONSES, responses } };

/* The same events come however the bytes are cut, and no shorter piece of the stream is a good answer. */
static void test_streams(void) {
    for (size_t s = 0; s < NIGH_COUNT(streams); s++) {
        size_t len = strlen(streams[s].text);
        for (size_t step = 1; step <= len; step++) {
            heard h;
            nigh_call_end end = listen(&h, streams[s].api, true, streams[s].text, len, step, NULL);
            CHECK_MSG(end == NIGH_CALL_OK
                          && nigh_str_eq(nigh_buf_str(&h.text), NIGH_STR("a\xc3\xa4"
                                                                         "b")),
                      "api %d step %zu: %d", streams[s].api, step, end);
            CHECK(h.begins == 1 && h.finishes == 1 && strcmp(h.finish, "length") == 0);
            CHECK(h.usage.known && h.usage.prompt_tokens == 5 && h.usage.completion_tokens == 2);
            nigh_buf_release(&h.text);
        }
        for (size_t cut = 0; cut + 1 < len; cut++) { /* the last byte is the empty line's, which needs one more */
            heard h;
            nigh_call_end end = listen(&h, streams[s].api, true, streams[s].text, cut, 16, NULL);
            CHECK_MSG(end == NIGH_CALL_CUT && h.finishes == 0, "api %d cut at %zu of %zu: %d", streams[s].api, cut,
                      len, end);
            nigh_buf_release(&h.text);
        }
    }
}

static void test_bad_streams(void) {
    static const struct { nigh_api api; const char *text; nigh_call_end end;
    } cases[] = {
        { NIGH_API_OPENAI_CHAT, "data: [DONE]\n\n", NIGH_CALL_MALFORMED },
        { NIGH_API_OPENAI_CHAT, "data: [1]\n\n", NIGH_CALL_MALFORMED },
        { NIGH_API_OPENAI_CHAT, "data: {\n\n", NIGH_CALL_MALFORMED },
        { NIGH_API_OPENAI_CHAT, "\n\n\n:\n", NIGH_CALL_CUT },
        { NIGH_API_OPENAI_CHAT, "data: {\"error\":\"no\"}\n\n", NIGH_CALL_FAILED },
        { NIGH_API_OPENAI_CHAT, "data: {\"error\":{\"code\":429,\"message\":\"slow\"}}\n\n", NIGH_CALL_BUSY },
        { NIGH_API_OPENAI_CHAT, "data: {\"error\":{\"code\":\"context_length_exceeded\",\"message\":\"x\"}}\n\n",
          NIGH_CALL_CONTEXT },
        { NIGH_API_OPENAI_CHAT,
          "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"x\"}}]}}]}\n\n",
          NIGH_CALL_MALFORMED },
        { NIGH_API_OPENAI_CHAT, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n",
          NIGH_CALL_FAILED },
        { NIGH_API_OPENAI_CHAT,
          "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n", NIGH_CALL_CUT },
        { NIGH_API_ANTHROPIC, "data: {\"type\":\"message_stop\"}\n\n", NIGH_CALL_MALFORMED },
        { NIGH_API_ANTHROPIC,
          "data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n",
          NIGH_CALL_BUSY },
        { NIGH_API_ANTHROPIC, "data: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"x\"}}\n\n",
          NIGH_CALL_FAILED },
        { NIGH_API_ANTHROPIC, "data: [DONE]\n\n", NIGH_CALL_CUT },
        { NIGH_API_ANTHROPIC, "data: {}\n\n", NIGH_CALL_MALFORMED },
        { NIGH_API_OPENAI_RESPONSES,
          "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\"}}}\n\n",
          NIGH_CALL_FAILED },
        { NIGH_API_OPENAI_RESPONSES,
          "data: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"x\"}\n\n", NIGH_CALL_BUSY },
        { NIGH_API_OPENAI_RESPONSES, "data: [DONE]\n\n", NIGH_CALL_CUT },
    };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        heard h;
        nigh_call_end end = listen(&h, cases[i].api, true, cases[i].text, strlen(cases[i].text), 1000, NULL);
        CHECK_MSG(end == cases[i].end && h.finishes == 0, "%s: %d", cases[i].text, end);
        nigh_buf_release(&h.text);
    }
}

/* A whole answer, and every beginning of it. */
static void test_whole(void) {
    static const struct { nigh_api api; const char *text;
    } cases[] = {
        { NIGH_API_OPENAI_CHAT,
          "{\"model\":\"g\",\"choices\":[{\"index\":0,\"message\":{\"content\":\"ab\",\"tool_calls\":[{\"id\":\"1\","
          "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_calls\"}]}" },
        { NIGH_API_ANTHROPIC, "{\"model\":\"g\",\"content\":[{\"type\":\"text\",\"text\":\"ab\"},{\"type\":\"tool_"
                              "use\",\"id\":\"1\",\"name\":"
                              "\"f\",\"input\":{}}],\"stop_reason\":\"tool_use\"}" },
        { NIGH_API_OPENAI_RESPONSES,
          "{\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\","
          "\"text\":"
          "\"ab\"}]},{\"type\":\"function_call\",\"call_id\":\"1\",\"name\":\"f\",\"arguments\":\"{}\"}]}" }
    };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++)
        for (size_t cut = 0, len = strlen(cases[i].text); cut <= len; cut++) {
            heard h;
            nigh_call_end end = listen(&h, cases[i].api, false, cases[i].text, cut, 7, NULL);
            CHECK_MSG((end == NIGH_CALL_OK) == (cut == len) && h.finishes == (cut == len), "case %zu cut %zu: %d", i,
                      cut, end);
            if (cut == len) CHECK(nigh_str_eq(nigh_buf_str(&h.text), NIGH_STR("ab{}")) && h.tools == 1);
            if (cut == len) CHECK(strcmp(h.finish, "tool_calls") == 0);
            nigh_buf_release(&h.text);
        }
}

static void test_errors(void) {
    static const struct { int http; const char *body; nigh_call_end end;
    } cases[] = { { 400,
                    "{\"error\":{\"message\":\"This model's maximum context length is 8192 "
                    "tokens\",\"code\":\"context_length_exceeded\"}}",
                    NIGH_CALL_CONTEXT },
                  { 400, "{\"error\":{\"message\":\"x\",\"type\":\"exceed_context_size_error\"}}",
                    NIGH_CALL_CONTEXT },
                  { 400,
                    "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Prompt is too "
                    "long: 9 > 8\"}}",
                    NIGH_CALL_CONTEXT },
                  { 422, "{\"detail\":\"the context window is full\"}", NIGH_CALL_CONTEXT },
                  { 413, "", NIGH_CALL_CONTEXT },
                  { 400, "{\"error\":\"wrong\"}", NIGH_CALL_REJECTED },
                  { 400, "not json at all", NIGH_CALL_REJECTED },
                  { 401, "{\"error\":{\"message\":\"context length\"}}", NIGH_CALL_REJECTED },
                  { 404, "", NIGH_CALL_REJECTED },
                  { 408, "", NIGH_CALL_FAILED },
                  { 429, "", NIGH_CALL_BUSY },
                  { 503, "<html>", NIGH_CALL_BUSY },
                  { 529, "{}", NIGH_CALL_BUSY },
                  { 429, "{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"x\"}}", NIGH_CALL_REJECTED },
                  { 500, "[]", NIGH_CALL_FAILED },
                  { 504, "{\"error\":null}", NIGH_CALL_FAILED } };
    char text[200], said[200];
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_call_end end =
            nigh_dialect_error(cases[i].http, nigh_str_of(cases[i].body), NIGH_STR("sk-1"), text, said);
        CHECK_MSG(end == cases[i].end && text[0], "%d %s: %d %s", cases[i].http, cases[i].body, end, text);
    }
}

/* One line, valid UTF-8, and nothing that holds a piece of the key. */
static void test_quote(void) {
    char said[200], large[600];
    nigh_str key = NIGH_STR("sk-verysecretkey-0123456789");
    nigh_dialect_quote(NIGH_STR("t"), NIGH_STR("a\nb\tc"), key, said);
    CHECK(strcmp(said, "t: a b c") == 0);
    nigh_dialect_quote(NIGH_STR(""), NIGH_STR("your key ...cretkey-01... is bad"), key, said);
    CHECK_MSG(strstr(said, "withheld"), "%s", said);
    nigh_dialect_quote(NIGH_STR(""), NIGH_STR(""), key, said);
    CHECK(said[0] == '\0');
    for (size_t i = 0; i < sizeof large; i++) large[i] = "\xe4\xb8\x96"[i % 3];
    for (size_t shift = 0; shift < 3; shift++) {
        nigh_dialect_quote(NIGH_STR(""), (nigh_str){ large + shift, sizeof large - shift }, key, said);
        for (size_t i = 0; said[i]; i++) CHECK((unsigned char)said[i] >= 0x20);
        CHECK(strlen(said) < 200);
    }
}

/* Each allocation fails once: an error that says so, never a good answer that lacks something. */
static void test_memory(void) {
    for (size_t a = 0; a < NIGH_COUNT(streams); a++) {
        for (uint64_t nth = 1; nth < 60; nth++) {
            nigh_buf out = NIGH_BUF(0);
            nigh_err err = { 0 };
            nigh_alloc_fail_at(nth, false);
            nigh_status status = spell(streams[a].api, NIGH_TIER_CLOUD, 0, TALK "}", &out, &err);
            nigh_alloc_fail_at(0, false);
            CHECK_MSG(status == NIGH_OK || status == NIGH_ENOMEM, "api %zu nth %llu: %s", a, (unsigned long long)nth,
                      err.text);
            nigh_buf_release(&out);
            heard h;
            nigh_dialect_answer answer = { .api = streams[a].api, .calls = &calls, .ud = &h, .request_id = "",
                .stream = true };
            h = (heard){ .text = NIGH_BUF(1 << 20) };
            if (nigh_buf_reserve(&h.text, 100) != NIGH_OK) abort();
            nigh_alloc_fail_at(nth, false);
            for (size_t i = 0; i < strlen(streams[a].text); i += 5)
                nigh_dialect_feed(&answer, nigh_str_slice(nigh_str_of(streams[a].text), i, i + 5));
            nigh_alloc_fail_at(0, false);
            nigh_call_end end = nigh_dialect_end(&answer);
            CHECK_MSG(end == NIGH_CALL_OK || end == NIGH_CALL_FAILED, "api %zu nth %llu: %d", a,
                      (unsigned long long)nth, end);
            CHECK((end == NIGH_CALL_OK) == (h.finishes == 1));
            nigh_dialect_release(&answer);
            nigh_buf_release(&h.text);
        }
    }
}

TEST_MAIN(T(test_requests), T(test_refusals), T(test_empty_fields), T(test_streams), T(test_bad_streams),
          T(test_whole), T(test_errors), T(test_quote), T(test_memory))
