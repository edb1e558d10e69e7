/* test_guard.c - heads, hosts and origins as pure functions; the sockets are tests/node. */
#include "node/guard.h"
#include "test.h"

static nigh_verdict guard(nigh_str target, const nigh_field *fields, size_t count, nigh_facts *facts) {
    static nigh_head h;
    memset(&h, 0, sizeof h);
    h.method = NIGH_STR("GET");
    h.target = target;
    h.version = NIGH_STR("HTTP/1.1");
    h.fields[0] = (nigh_field){ NIGH_STR("Host"), NIGH_STR("a:1") };
    for (size_t i = 0; i < count; i++) h.fields[i + 1] = fields[i];
    h.field_count = count + 1;
    return nigh_guard_head(&h, facts);
}

static void test_targets(void) {
    const struct { nigh_str target; int status; const char *path;
    } cases[] = { { NIGH_STR("/"), 0, "/" }, { NIGH_STR("/a?b=/../c"), 0, "/a" },
        { NIGH_STR("/a%2Fb%3ac"), 0, "/a/b:c" }, { NIGH_STR("http://a:1/x"), 0, "/x" },
        { NIGH_STR("http://a:1"), 0, "/" }, { NIGH_STR("HTTP://a:1/x"), 0, "/x" }, { NIGH_STR("/%41"), 0, "/A" },
        { NIGH_STR("/a.b/..c/.d"), 0, "/a.b/..c/.d" }, { NIGH_STR(""), 400, "" }, { NIGH_STR("*"), 400, "" },
        { NIGH_STR("x"), 400, "" }, { NIGH_STR("http://b:1/"), 400, "" }, { NIGH_STR("http://a:1@b/"), 400, "" },
        { NIGH_STR("/.."), 400, "" }, { NIGH_STR("/."), 400, "" }, { NIGH_STR("/%2e%2E"), 400, "" },
        { NIGH_STR("/a/..;x/b"), 400, "" }, { NIGH_STR("/%"), 400, "" }, { NIGH_STR("/%a"), 400, "" },
        { NIGH_STR("/%ag"), 400, "" }, { NIGH_STR("/%00"), 400, "" }, { NIGH_STR("/%0a"), 400, "" },
        { NIGH_STR("/%7f"), 400, "" }, { NIGH_STR("/a#b"), 400, "" }, { NIGH_STR("/a b"), 400, "" },
        { NIGH_STR("/a\tb"), 400, "" }, { NIGH_STR("/a\\b"), 400, "" }, { NIGH_STR("/%5c"), 400, "" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_facts f;
        nigh_verdict v = guard(cases[i].target, NULL, 0, &f);
        CHECK_MSG(v.status == cases[i].status, "%s: %d", cases[i].target.ptr, v.status);
        if (!v.status) CHECK_MSG(strcmp(f.path, cases[i].path) == 0, "%s: %s", cases[i].target.ptr, f.path);
    }
    char longest[NIGH_GUARD_PATH_MAX + 8];
    memset(longest, 'a', sizeof longest);
    longest[0] = '/';
    nigh_facts f;
    CHECK(guard((nigh_str){ longest, NIGH_GUARD_PATH_MAX - 1 }, NULL, 0, &f).status == 0);
    CHECK(guard((nigh_str){ longest, NIGH_GUARD_PATH_MAX }, NULL, 0, &f).status == 414);
}

static void test_lengths(void) {
    const struct { nigh_str value; bool good; uint64_t bytes;
    } cases[] = { { NIGH_STR("0"), true, 0 }, { NIGH_STR("05"), true, 5 },
        { NIGH_STR("9999999999999999999"), true, 9999999999999999999u },
        { NIGH_STR("10000000000000000000"), false, 0 }, { NIGH_STR(""), false, 0 }, { NIGH_STR("-1"), false, 0 },
        { NIGH_STR("+1"), false, 0 }, { NIGH_STR("1 "), false, 0 }, { NIGH_STR("0x1"), false, 0 },
        { NIGH_STR("1,1"), false, 0 } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_facts f;
        nigh_field field = { NIGH_STR("content-LENGTH"), cases[i].value };
        nigh_verdict v = guard(NIGH_STR("/"), &field, 1, &f);
        CHECK_MSG((v.status == 0) == cases[i].good && (!cases[i].good || f.content_bytes == cases[i].bytes), "%s",
            cases[i].value.ptr);
        CHECK(cases[i].good || v.close);
    }
}

static void test_fields_that_stand_once(void) {
    static const char *const names[] = { "Host", "HOST", "content-length", "Transfer-Encoding", "authorization",
        "x-api-key", "Origin", "content-type", "Expect" };
    for (size_t i = 0; i < NIGH_COUNT(names); i++) {
        nigh_str value = i == 2   ? NIGH_STR("1")
                         : i == 3 ? NIGH_STR("chunked")
                         : i == 8 ? NIGH_STR("100-continue")
                                  : NIGH_STR("a:1");
        nigh_field twice[] = { { nigh_str_of(names[i]), value }, { nigh_str_of(names[i]), value } };
        nigh_facts f;
        nigh_verdict v = guard(NIGH_STR("/"), twice, 2, &f);
        CHECK_MSG(v.status == 400 && v.close, "%s: %d", names[i], v.status);
    }
}

static void test_hosts(void) {
    nigh_hosts open = { 0 }, h = { 0 };
    CHECK(nigh_hosts_add(&open, NIGH_STR("Nigh.Example"), 0, NULL) == NIGH_OK);
    CHECK(nigh_hosts_add(&h, nigh_str_of(open.names[0]), 6444, NULL) == NIGH_OK);
    CHECK(nigh_hosts_add(&h, NIGH_STR("[::1]"), 6444, NULL) == NIGH_OK);
    CHECK(nigh_hosts_add(&h, NIGH_STR("front.example"), 80, NULL) == NIGH_OK);
    const struct { nigh_str host; bool want;
    } cases[] = { { NIGH_STR("nigh.example:6444"), true }, { NIGH_STR("NIGH.example:06444"), true },
        { NIGH_STR("[::1]:6444"), true }, { NIGH_STR("front.example"), true }, { NIGH_STR("front.example:80"), true },
        { NIGH_STR("nigh.example"), false }, { NIGH_STR("nigh.example:644"), false },
        { NIGH_STR("nigh.example.:6444"), false }, { NIGH_STR("a.nigh.example:6444"), false },
        { NIGH_STR("[::1]"), false }, { NIGH_STR("[::1]x:6444"), false }, { NIGH_STR("::1:6444"), false },
        { NIGH_STR(""), false }, { NIGH_STR(":6444"), false }, { NIGH_STR("nigh.example:"), false },
        { NIGH_STR("nigh.example:65536"), false }, { NIGH_STR("nigh.example:6444:6444"), false },
        { NIGH_STR("nigh.example\0:6444"), false }, { NIGH_STR("[::1"), false } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++)
        CHECK_MSG(nigh_hosts_has(&h, cases[i].host) == cases[i].want, "%s", cases[i].host.ptr);
    static const char *const bad[] = { "", "a b", "a/b", "http://a", "a:0", "a:x", "[a", "*", "a@b" };
    for (size_t i = 0; i < NIGH_COUNT(bad); i++)
        CHECK_MSG(nigh_hosts_add(&h, nigh_str_of(bad[i]), 1, NULL) == NIGH_EINVAL, "%s", bad[i]);
    for (size_t i = h.count; i < 32; i++) CHECK(nigh_hosts_add(&h, NIGH_STR("a"), 1, NULL) == NIGH_OK);
    CHECK(nigh_hosts_add(&h, NIGH_STR("a"), 1, NULL) == NIGH_ERANGE);
}

static void test_origins(void) {
    nigh_hosts h = { 0 };
    nigh_origins o = { 0 };
    CHECK(nigh_hosts_add(&h, NIGH_STR("127.0.0.1"), 6444, NULL) == NIGH_OK);
    CHECK(nigh_origins_add(&o, NIGH_STR("https://app.example"), NULL) == NIGH_OK);
    static const char *const bad[] = { "", "app.example", "https://", "https://a/", "://a", "https://a/b" };
    for (size_t i = 0; i < NIGH_COUNT(bad); i++)
        CHECK_MSG(nigh_origins_add(&o, nigh_str_of(bad[i]), NULL) == NIGH_EINVAL, "%s", bad[i]);
    const struct { nigh_str origin; nigh_origin_kind want;
    } cases[] = { { NIGH_STR(""), NIGH_ORIGIN_NONE }, { NIGH_STR("https://app.example"), NIGH_ORIGIN_LISTED },
        { NIGH_STR("http://127.0.0.1:6444"), NIGH_ORIGIN_OWN }, { NIGH_STR("null"), NIGH_ORIGIN_FOREIGN },
        { NIGH_STR("https://127.0.0.1:6444"), NIGH_ORIGIN_FOREIGN },
        { NIGH_STR("http://127.0.0.1:6444/"), NIGH_ORIGIN_FOREIGN },
        { NIGH_STR("http://app.example"), NIGH_ORIGIN_FOREIGN },
        { NIGH_STR("https://app.example:443"), NIGH_ORIGIN_FOREIGN } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++)
        CHECK_MSG(nigh_guard_origin(&h, &o, cases[i].origin) == cases[i].want, "%s", cases[i].origin.ptr);
}

static void test_types(void) {
    CHECK(nigh_guard_is_json(NIGH_STR("application/json")) &&
          nigh_guard_is_json(NIGH_STR("Application/JSON ; charset=utf-8")));
    CHECK(!nigh_guard_is_json(NIGH_STR("")) && !nigh_guard_is_json(NIGH_STR("text/plain; application/json")) &&
          !nigh_guard_is_json(NIGH_STR("application/jsonx")));
}

TEST_MAIN(
    T(test_targets), T(test_lengths), T(test_fields_that_stand_once), T(test_hosts), T(test_origins), T(test_types))
