/* test_upstream.c - calls to another place that behaves in every way it can: right answers in three formats, cut into
 * single bytes, slow, silent, cut off, malformed, full of errors; and that nothing connects where it may not. The
 * other place is tests/web/provider.mjs; its switches stand in the model's name. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "base/json.h"
#include "base/os.h"
#include "node/upstream.h"
#include "node/upstream_curl.h"
#include "provider.h"

#define SENTENCE \
    "The quick brown fox jumps over the lazy dog and says \"hello\" to the \xe4\xb8\x96\xe7\x95\x8c " \
    "\xf0\x9f\xa6\x8a."
#define ASK "{\"model\":\"x\",\"messages\":[{\"role\":\"user\",\"content\":\"say \\u00fc\"}]}"

/* What came of one call. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t over;
    nigh_buf text, tools, receipt;
    char model[64], request_id[64], finish[32];
    nigh_usage usage;
    nigh_call_result r;
    int begins, finishes, receipts, dones, late;
    atomic_int texts;
    nigh_upstream *u;
    uint64_t id;
    int cancel_at, pause_at;        /* after so many texts; 0 never */
} got;

static provider plain;
static nigh_upstream *up;
static char plain_name[64];

static void on_begin(void *ud, const char *model, const char *request_id) {
    got *g = ud;
    g->begins++;
    g->late += g->dones;
    snprintf(g->model, sizeof g->model, "%s", model);
    snprintf(g->request_id, sizeof g->request_id, "%s", request_id);
}
static void on_text(void *ud, nigh_str piece) {
    got *g = ud;
    g->late += g->dones + g->finishes;
    g->texts++;
    if (nigh_buf_add(&g->text, piece) != NIGH_OK) g->late++;
    if (g->cancel_at && g->texts >= g->cancel_at) nigh_upstream_cancel(g->u, g->id);
    if (g->pause_at && g->texts == g->pause_at) nigh_upstream_pause(g->u, g->id, true);
}
static void on_tool(void *ud, uint32_t i, nigh_str id, nigh_str name, nigh_str arguments) {
    got *g = ud;
    if (name.len
        && nigh_buf_addf(&g->tools, "[%u %.*s %.*s]", i, (int)id.len, id.ptr, (int)name.len, name.ptr) != NIGH_OK)
        g->late++;
    if (arguments.len && nigh_buf_add(&g->tools, arguments) != NIGH_OK) g->late++;
}
static void on_finish(void *ud, const char *finish, const nigh_usage *usage) {
    got *g = ud;
    g->finishes++;
    g->usage = *usage;
    snprintf(g->finish, sizeof g->finish, "%s", finish);
}
static void on_receipt(void *ud, nigh_str json) {
    got *g = ud;
    g->receipts++;
    if (nigh_buf_add(&g->receipt, json) != NIGH_OK) g->late++;
}
static void on_done(void *ud, const nigh_call_result *r) {
    got *g = ud;
    pthread_mutex_lock(&g->lock);
    g->r = *r;
    g->dones++;
    pthread_cond_signal(&g->over);
    pthread_mutex_unlock(&g->lock);
}

static const nigh_upstream_calls calls = { on_begin, on_text, on_tool, on_finish, on_receipt, on_done };

static void got_init(got *g) {
    memset(g, 0, sizeof *g);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->over, NULL);
    g->text.limit = g->tools.limit = g->receipt.limit = 64 << 20;
}
static void got_release(got *g) {
    nigh_buf_release(&g->text);
    nigh_buf_release(&g->tools);
    nigh_buf_release(&g->receipt);
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->over);
}
/* False: not over within this time. */
static bool wait_over(got *g, int seconds) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    pthread_mutex_lock(&g->lock);
    while (!g->dones && pthread_cond_timedwait(&g->over, &g->lock, &until) == 0) { }
    bool over = g->dones > 0;
    pthread_mutex_unlock(&g->lock);
    return over;
}

static nigh_upstream_ask ask_of(nigh_api api, const char *model) {
    static char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", plain.port);
    return (nigh_upstream_ask){ .api = api,
                                .tier = NIGH_TIER_EDGE,
                                .url = nigh_str_of(url),
                                .key = NIGH_STR("sk-test-4711-abcdef"),
                                .model = nigh_str_of(model),
                                .body = NIGH_STR(ASK) };
}

static void run_ask(got *g, const nigh_upstream_ask *ask) {
    nigh_err err = { 0 };
    g->u = up;
    nigh_status status = nigh_upstream_call(up, ask, &calls, g, &g->id, &err);
    CHECK_MSG(status == NIGH_OK, "%s", err.text);
    CHECK_MSG(status == NIGH_OK && wait_over(g, 30), "model %.*s: not over", (int)ask->model.len, ask->model.ptr);
    CHECK(g->dones == 1 && g->late == 0);
    CHECK((g->r.end == NIGH_CALL_OK) == (g->finishes == 1));
}
static void run(got *g, nigh_api api, const char *model) {
    nigh_upstream_ask ask = ask_of(api, model);
    run_ask(g, &ask);
}

static const nigh_api apis[] = { NIGH_API_OPENAI_CHAT, NIGH_API_OPENAI_RESPONSES, NIGH_API_ANTHROPIC };
static bool is(const nigh_buf *b, const char *text) { return nigh_str_eq(nigh_buf_str(b), nigh_str_of(text)); }
#define NEED_PROVIDER if (!up) TEST_SKIP("no node to run tests/web/provider.mjs, or no libcurl")

/* Opens what all cases use; says in the first case what is missing. */
static void test_open(void) {
    nigh_err err = { 0 };
    const char *allow[] = { plain_name };
    if (!provider_start(&plain, NULL, NULL)) TEST_SKIP("no node to run tests/web/provider.mjs");
    snprintf(plain_name, sizeof plain_name, "127.0.0.1:%d", plain.port);
    nigh_upstream_opts o = { .allow_private = allow, .allow_private_count = 1 };
    nigh_upstream_curl curl;
    if (nigh_upstream_curl_load(&curl, &err) == NIGH_ENOSUP) TEST_SKIP("no libcurl to load");
    nigh_status status = nigh_upstream_open(&up, &o, &err);
    CHECK_MSG(status == NIGH_OK, "%s", err.text);
}

static void test_answers(void) {
    static const char *const switches[] = { "x",          "x?split=1", "x?split=7&crlf=1", "x?pings=1&thoughts=1",
                                            "x?stream=0", "x?close=1", "x?head=20000",     "x?usage=0" };
    NEED_PROVIDER;
    for (size_t a = 0; a < NIGH_COUNT(apis); a++)
        for (size_t i = 0; i < NIGH_COUNT(switches); i++) {
            got g;
            got_init(&g);
            run(&g, apis[a], switches[i]);
            CHECK_MSG(g.r.end == NIGH_CALL_OK && is(&g.text, SENTENCE), "api %d %s: end %d %s (%.*s)", apis[a],
                switches[i], g.r.end, g.r.text, (int)g.text.len, g.text.ptr);
            CHECK(g.begins == 1 && strcmp(g.model, "provider-1") == 0 && strcmp(g.finish, "stop") == 0);
            CHECK(g.r.http == 200 && g.r.sent && strcmp(g.r.address, "127.0.0.1") == 0 && g.r.first_ms > 0);
            CHECK(g.r.bytes_out > 200 && g.r.bytes_in > 200);
            CHECK(i == 4 || strcmp(g.request_id, "req_1") == 0);
            if (i == 0) CHECK(g.usage.known && g.usage.prompt_tokens == 11 && g.usage.cached_tokens == 3);
            if (i == 0) CHECK(g.usage.completion_tokens == 16);
            got_release(&g);
        }
}

static void test_tools(void) {
    static const char *const switches[] = { "x?tools=2", "x?tools=2&split=3", "x?tools=2&stream=0" };
    NEED_PROVIDER;
    for (size_t a = 0; a < NIGH_COUNT(apis); a++)
        for (size_t i = 0; i < NIGH_COUNT(switches); i++) {
            got g;
            got_init(&g);
            run(&g, apis[a], switches[i]);
            CHECK_MSG(is(&g.tools, "[0 call_0 tool_0]{\"city\":\"K\xc3\xb6ln\",\"n\":0}[1 call_1 "
                                   "tool_1]{\"city\":\"K\xc3\xb6ln\",\"n\":1}"),
                      "api %d %s: %.*s %s", apis[a], switches[i], (int)g.tools.len, g.tools.ptr, g.r.text);
            CHECK(g.r.end == NIGH_CALL_OK && strcmp(g.finish, "tool_calls") == 0);
            got_release(&g);
        }
}

static void test_finishes(void) {
    static const struct { const char *model, *finish; } cases[] = { { "x?finish=length", "length" },
        { "x?finish=content_filter", "content_filter" } };
    NEED_PROVIDER;
    for (size_t a = 0; a < NIGH_COUNT(apis); a++)
        for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
            got g;
            got_init(&g);
            run(&g, apis[a], cases[i].model);
            CHECK_MSG(g.r.end == NIGH_CALL_OK && strcmp(g.finish, cases[i].finish) == 0, "api %d %s: %s", apis[a],
                cases[i].model, g.finish);
            got_release(&g);
        }
}

/* Everything that goes wrong has its own end, and none of them is OK. */
static void test_ends(void) {
    static const struct { const char *model; nigh_call_end end; int http; uint32_t retry_ms;
    } cases[] = {
        { "x?refuse=1", NIGH_CALL_CUT, 0, 0 },
        { "x?cut=0", NIGH_CALL_CUT, 200, 0 },
        { "x?cut=3", NIGH_CALL_CUT, 200, 0 },
        { "x?cut=3&split=5", NIGH_CALL_CUT, 200, 0 },
        { "x?noend=1", NIGH_CALL_CUT, 200, 0 },
        { "x?length=long", NIGH_CALL_CUT, 200, 0 },
        { "x?length=short", NIGH_CALL_CUT, 200, 0 },
        { "x?malformed=json", NIGH_CALL_MALFORMED, 200, 0 },
        { "x?malformed=sse", NIGH_CALL_CUT, 200, 0 },
        { "x?malformed=finish", NIGH_CALL_MALFORMED, 200, 0 },
        { "x?malformed=nothing", NIGH_CALL_MALFORMED, 200, 0 },
        { "x?malformed=http", NIGH_CALL_MALFORMED, 0, 0 },
        { "x?malformed=html", NIGH_CALL_MALFORMED, 200, 0 },
        { "x?malformed=utf8", NIGH_CALL_MALFORMED, 200, 0 },
        { "x?head=90000", NIGH_CALL_MALFORMED, 200, 0 },
        { "x?status=429&retry=7", NIGH_CALL_BUSY, 429, 7000 },
        { "x?status=429&retryms=250&retry=1", NIGH_CALL_BUSY, 429, 250 },
        { "x?status=503", NIGH_CALL_BUSY, 503, 0 },
        { "x?status=529&retry=2", NIGH_CALL_BUSY, 529, 2000 },
        { "x?status=500", NIGH_CALL_FAILED, 500, 0 },
        { "x?status=502", NIGH_CALL_FAILED, 502, 0 },
        { "x?status=400", NIGH_CALL_REJECTED, 400, 0 },
        { "x?status=401", NIGH_CALL_REJECTED, 401, 0 },
        { "x?status=404", NIGH_CALL_REJECTED, 404, 0 },
        { "x?status=429&quota=1", NIGH_CALL_REJECTED, 429, 0 },
        { "x?status=400&context=1", NIGH_CALL_CONTEXT, 400, 0 },
        { "x?status=413", NIGH_CALL_CONTEXT, 413, 0 },
        { "x?inner=overloaded", NIGH_CALL_BUSY, 200, 0 },
        { "x?inner=server", NIGH_CALL_FAILED, 200, 0 },
        { "x?inner=context&at=0", NIGH_CALL_CONTEXT, 200, 0 },
        { "x?redirect=http://127.0.0.1:1/", NIGH_CALL_FAILED, 302, 0 },
    };
    NEED_PROVIDER;
    for (size_t a = 0; a < NIGH_COUNT(apis); a++)
        for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
            got g;
            got_init(&g);
            run(&g, apis[a], cases[i].model);
            CHECK_MSG(g.r.end == cases[i].end && g.r.http == cases[i].http && g.r.retry_ms == cases[i].retry_ms,
                      "api %d %s: end %d http %d retry %u: %s", apis[a], cases[i].model, g.r.end, g.r.http,
                      g.r.retry_ms, g.r.text);
            CHECK(g.r.text[0] && g.r.sent);
            got_release(&g);
        }
}

static void test_retry_date(void) {
    got g;
    NEED_PROVIDER;
    got_init(&g);
    run(&g, NIGH_API_OPENAI_CHAT, "x?status=429&retrydate=20");
    CHECK_MSG(g.r.retry_ms >= 17000 && g.r.retry_ms <= 21000, "%u", g.r.retry_ms);
    got_release(&g);
}

/* The key is in no word of ours and in none of theirs. */
static void test_secret(void) {
    NEED_PROVIDER;
    for (size_t a = 0; a < NIGH_COUNT(apis); a++) {
        got g;
        got_init(&g);
        run(&g, apis[a], "x?status=401&secret=1");
        CHECK_MSG(!strstr(g.r.text, "4711") && !strstr(g.r.said, "4711") && g.r.said[0], "%s / %s", g.r.text,
                  g.r.said);
        got_release(&g);
        got_init(&g);
        run(&g, apis[a], "x?status=400");
        CHECK_MSG(strstr(g.r.said, "This field is wrong"), "%s", g.r.said);
        CHECK(!strstr(g.r.text, "field is wrong"));
        got_release(&g);
    }
}

static void test_receipt(void) {
    static const char *const switches[] = { "x?receipt=1", "x?receipt=1&stream=0", "x?receipt=header" };
    got g;
    NEED_PROVIDER;
    for (size_t i = 0; i < NIGH_COUNT(switches); i++) {
        got_init(&g);
        run(&g, NIGH_API_OPENAI_CHAT, switches[i]);
        CHECK_MSG(g.receipts == 1 && is(&g.receipt, "{\"id\":\"rcpt-1\",\"place\":\"device\"}"), "%s: %d",
                  switches[i], g.receipts);
        got_release(&g);
    }
    got_init(&g);
    nigh_upstream_ask ask = ask_of(NIGH_API_OPENAI_CHAT, "x?receipt=1");
    ask.tier = NIGH_TIER_CLOUD;         /* a provider has no say in this */
    run_ask(&g, &ask);
    CHECK(g.receipts == 0 && g.r.end == NIGH_CALL_OK);
    got_release(&g);
    got_init(&g);
    run(&g, NIGH_API_OPENAI_CHAT, "x?receipt=huge");
    CHECK(g.receipts == 0 && g.r.end == NIGH_CALL_MALFORMED);
    got_release(&g);
}

static void test_times(void) {
    static const struct { const char *model; uint32_t first_ms, total_ms, at_least, at_most;
    } cases[] = { { "x?silent=1", 200, 5000, 190, 1500 },
                  { "x?mute=1", 200, 5000, 190, 1500 },
                  { "x?first=3000", 200, 5000, 190, 1500 },
                  { "x?never=1&gap=10", 200, 500, 490, 2000 },
                  { "x?silent=1", 5000, 300, 290, 1500 } };
    NEED_PROVIDER;
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        got g;
        got_init(&g);
        nigh_upstream_ask ask = ask_of(apis[i % 3], cases[i].model);
        ask.first_ms = cases[i].first_ms;
        ask.total_ms = cases[i].total_ms;
        run_ask(&g, &ask);
        CHECK_MSG(g.r.end == NIGH_CALL_TIMEOUT && g.r.total_ms >= cases[i].at_least
                      && g.r.total_ms <= cases[i].at_most,
                  "%s: end %d after %u ms", cases[i].model, g.r.end, g.r.total_ms);
        got_release(&g);
    }
}

static void test_unreachable(void) {
    static const char *const urls[] = { "http://127.0.0.1:9/", "http://127.0.0.1:59999/v1",
                                        "http://no-such-name.invalid/v1" };
    NEED_PROVIDER;
    for (size_t i = 1; i < NIGH_COUNT(urls); i++) {
        got g;
        got_init(&g);
        nigh_upstream_ask ask = ask_of(NIGH_API_OPENAI_CHAT, "x");
        ask.url = nigh_str_of(urls[i]);
        run_ask(&g, &ask);
        CHECK_MSG(g.r.end == NIGH_CALL_UNREACHABLE && !g.r.sent && g.r.bytes_out == 0, "%s: %d %s", urls[i], g.r.end,
                  g.r.text);
        got_release(&g);
    }
}

static void test_cancel(void) {
    NEED_PROVIDER;
    for (size_t a = 0; a < NIGH_COUNT(apis); a++) {
        got g;
        got_init(&g);
        g.cancel_at = 3;
        run(&g, apis[a], "x?never=1");
        CHECK(g.r.end == NIGH_CALL_CANCELLED && g.texts >= 3 && g.texts < 200);
        nigh_upstream_cancel(up, g.id);             /* an id that is over */
        got_release(&g);
        got_init(&g);
        g.u = up;
        nigh_upstream_ask ask = ask_of(apis[a], "x?silent=1");
        nigh_err err = { 0 };
        CHECK(nigh_upstream_call(up, &ask, &calls, &g, &g.id, &err) == NIGH_OK);
        if (a) usleep(100000);                      /* at once, or when it is on its way */
        nigh_upstream_cancel(up, g.id);
        CHECK(wait_over(&g, 10) && g.r.end == NIGH_CALL_CANCELLED);
        got_release(&g);
    }
}

/* Paused, it takes no more than is on its way; then everything comes. */
static void test_pause(void) {
    got g;
    NEED_PROVIDER;
    got_init(&g);
    g.u = up;
    g.pause_at = 10;
    nigh_upstream_ask ask = ask_of(NIGH_API_OPENAI_CHAT, "x?tokens=60000");
    nigh_err err = { 0 };
    CHECK(nigh_upstream_call(up, &ask, &calls, &g, &g.id, &err) == NIGH_OK);
    usleep(400000);
    int then = g.texts;
    CHECK_MSG(then >= 10 && then < 200, "%d pieces came while it was paused", then);
    nigh_upstream_pause(up, g.id, false);
    CHECK(wait_over(&g, 30) && g.r.end == NIGH_CALL_OK && g.texts == 60000);
    got_release(&g);
}

static void test_big(void) {
    got g;
    NEED_PROVIDER;
    for (size_t a = 0; a < NIGH_COUNT(apis); a++) {
        got_init(&g);
        run(&g, apis[a], "x?big=1000000");
        CHECK_MSG(g.r.end == NIGH_CALL_OK && g.text.len == 1000000, "%d %s", g.r.end, g.r.text);
        got_release(&g);
        got_init(&g);
        run(&g, apis[a], "x?big=5000000");
        CHECK_MSG(g.r.end == NIGH_CALL_MALFORMED, "%d %s", g.r.end, g.r.text);
        got_release(&g);
    }
}

/* What the provider got: the key in its header, the model's name, a stream; and no label of ours. */
static void test_sent(void) {
    got g;
    NEED_PROVIDER;
    const char *headers[] = { "x-feature: mail" };
    for (size_t a = 0; a < NIGH_COUNT(apis); a++) {
        got_init(&g);
        nigh_upstream_ask ask = ask_of(apis[a], "m-1?echo=1");
        ask.tier = NIGH_TIER_CLOUD;
        ask.max_tokens = 77;
        ask.headers = headers;
        ask.header_count = 1;
        ask.idempotency_key = "q-1";
        ask.body = NIGH_STR(
            "{\"model\":\"zzz\",\"metadata\":{\"feature\":\"f\"},\"store\":true,\"stream\":false,\"max_tokens\":5,"
            "\"messages\":[{\"role\":\"user\",\"content\":\"gr\\u00fc\\u00df dich\"}]}");
        run_ask(&g, &ask);
        CHECK_MSG(g.r.end == NIGH_CALL_OK && is(&g.text, "gr\xc3\xbc\xc3\x9f dich"), "%d %s %.*s", g.r.end, g.r.text,
            (int)g.text.len, g.text.ptr);
        got_release(&g);
    }
}

/* 200 calls at once over kept connections, and what they count. */
static void test_many(void) {
    enum { MANY = 200 };
    static got all[MANY];
    nigh_wire_count before[8], after[8];
    NEED_PROVIDER;
    size_t n = nigh_upstream_counts(up, before, 8), row = 0;
    while (row < n && before[row].port != plain.port) row++;
    uint64_t out = 0, in = 0;
    for (int i = 0; i < MANY; i++) {
        got_init(&all[i]);
        all[i].u = up;
        nigh_upstream_ask ask = ask_of(apis[i % 3], i % 5 ? "x" : "x?gap=1");
        nigh_err err = { 0 };
        CHECK(nigh_upstream_call(up, &ask, &calls, &all[i], &all[i].id, &err) == NIGH_OK);
    }
    for (int i = 0; i < MANY; i++) {
        CHECK(wait_over(&all[i], 30) && all[i].r.end == NIGH_CALL_OK && is(&all[i].text, SENTENCE));
        out += all[i].r.bytes_out;
        in += all[i].r.bytes_in;
        got_release(&all[i]);
    }
    CHECK(nigh_upstream_counts(up, after, 8) == n && row < n);
    CHECK(after[row].calls - before[row].calls == MANY);
    CHECK_MSG(after[row].bytes_out - before[row].bytes_out == out, "%llu of %llu", (unsigned long long)out,
        (unsigned long long)(after[row].bytes_out - before[row].bytes_out));
    CHECK(after[row].bytes_in - before[row].bytes_in >= in
          && after[row].bytes_in - before[row].bytes_in <= in + MANY);
}

/* What cannot be asked is said at once, with the field's name. */
static void test_refused_asks(void) {
    static const struct { nigh_api api; const char *body, *word;
    } cases[] = { { NIGH_API_OPENAI_CHAT, "{", "JSON" },
                  { NIGH_API_OPENAI_CHAT, "{}", "messages" },
                  { NIGH_API_OPENAI_CHAT, "{\"n\":2,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "n:" },
                  { NIGH_API_ANTHROPIC, "{\"seed\":1,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "seed" },
                  { NIGH_API_OPENAI_RESPONSES,
                    "{\"stop\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "stop" } };
    nigh_err err;
    got g;
    NEED_PROVIDER;
    got_init(&g);
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_upstream_ask ask = ask_of(cases[i].api, "x");
        ask.body = nigh_str_of(cases[i].body);
        CHECK(nigh_upstream_call(up, &ask, &calls, &g, &g.id, &err) == NIGH_EINVAL);
        CHECK_MSG(strstr(err.text, cases[i].word), "%s", err.text);
    }
    nigh_upstream_ask ask = ask_of(NIGH_API_OPENAI_CHAT, "x");
    ask.key = NIGH_STR("a\r\nx-evil: 1");
    CHECK(nigh_upstream_call(up, &ask, &calls, &g, &g.id, &err) == NIGH_EINVAL);
    CHECK(g.dones == 0);
    got_release(&g);
}

/* Each allocation on the way of a call fails once: it is refused, or it ends once, and the next one is good. */
static void test_memory(void) {
    NEED_PROVIDER;
    int refused = 0, ended = 0;
    for (uint64_t nth = 1; nth < 40; nth++) {
        got g;
        nigh_err err = { 0 };
        got_init(&g);
        g.u = up;
        if (nigh_buf_reserve(&g.text, 4096) != NIGH_OK) abort();
        nigh_upstream_ask ask = ask_of(apis[nth % 3], "x");
        nigh_alloc_fail_at(nth, false);
        nigh_status status = nigh_upstream_call(up, &ask, &calls, &g, &g.id, &err);
        if (status == NIGH_OK) CHECK(wait_over(&g, 30) && g.dones == 1);
        nigh_alloc_fail_at(0, false);
        refused += status == NIGH_ENOMEM;
        ended += status == NIGH_OK && g.r.end == NIGH_CALL_FAILED;
        CHECK_MSG(status == NIGH_OK || status == NIGH_ENOMEM, "%s", err.text);
        CHECK_MSG(status != NIGH_OK || g.r.end == NIGH_CALL_OK || g.r.end == NIGH_CALL_FAILED, "nth %llu: %d %s",
                  (unsigned long long)nth, g.r.end, g.r.text);
        got_release(&g);
    }
    CHECK_MSG(refused > 2 && ended > 2, "%d refused, %d ended", refused, ended);
    got g;
    got_init(&g);
    run(&g, NIGH_API_OPENAI_CHAT, "x");
    CHECK(g.r.end == NIGH_CALL_OK);
    got_release(&g);
}

static void test_end(void) {
    got g;
    nigh_err err = { 0 };
    NEED_PROVIDER;
    got_init(&g);
    g.u = up;
    nigh_upstream_ask ask = ask_of(NIGH_API_OPENAI_CHAT, "x?silent=1");
    CHECK(nigh_upstream_call(up, &ask, &calls, &g, &g.id, &err) == NIGH_OK);
    nigh_upstream_close(up);
    up = NULL;
    CHECK(g.dones == 1 && g.r.end == NIGH_CALL_CANCELLED);
    got_release(&g);
    provider_stop(&plain);
}

static uint32_t retry_of(nigh_api api, const char *model) {
    got g;
    got_init(&g);
    run(&g, api, model);
    uint32_t ms = g.r.retry_ms;
    got_release(&g);
    return ms;
}

/* Places that say when there is room again in their own words only. */
static void test_limits(void) {
    NEED_PROVIDER;
    for (size_t i = 0; i < NIGH_COUNT(apis); i++) {
        uint32_t ms = retry_of(apis[i], "x?status=429&limits=4000");
        CHECK_MSG(ms >= 3000 && ms <= 5100, "api %d: %u", apis[i], ms);
    }
    CHECK(retry_of(NIGH_API_OPENAI_CHAT, "x?status=429&limits=4000&retry=2") == 2000);
    CHECK(retry_of(NIGH_API_OPENAI_CHAT, "x?status=500&limits=4000") == 0);
}

TEST_MAIN(T(test_open), T(test_answers), T(test_tools), T(test_finishes), T(test_ends), T(test_retry_date),
          T(test_limits), T(test_secret), T(test_receipt), T(test_times), T(test_unreachable), T(test_cancel),
          T(test_pause), T(test_big), T(test_sent), T(test_many), T(test_refused_asks), T(test_memory), T(test_end))
