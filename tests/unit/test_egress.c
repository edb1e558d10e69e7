/* test_egress.c - the address rules: what the parser takes and refuses, which addresses are whose, and who may
 * connect to what. */
#include <arpa/inet.h>

#include "node/egress.h"
#include "test.h"

static void test_taken(void) {
    static const struct { const char *text, *name, *path, *query; bool https;
    } cases[] = {
        { "https://api.example.com/v1", "api.example.com:443", "/v1", "", true },
        { "https://API.Example.COM", "api.example.com:443", "", "", true },
        { "http://10.0.0.5:6444", "10.0.0.5:6444", "", "", false },
        { "http://localhost/", "localhost:80", "/", "", false },
        { "https://[2606:4700::1111]:8443/a/b", "[2606:4700::1111]:8443", "/a/b", "", true },
        { "https://x_y-z.example/a%20b?api-version=2026-01-01", "x_y-z.example:443", "/a%20b",
          "?api-version=2026-01-01", true },
        { "https://xn--bcher-kva.example?q", "xn--bcher-kva.example:443", "", "?q", true },
        { "http://a1.b2:1024/~u/", "a1.b2:1024", "/~u/", "", false },
    };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_egress_url u;
        nigh_err err = { 0 };
        char name[300];
        nigh_status status = nigh_egress_parse(&u, nigh_str_of(cases[i].text), &err);
        CHECK_MSG(status == NIGH_OK, "%s: %s", cases[i].text, err.text);
        if (status != NIGH_OK) continue;
        nigh_egress_name(&u, name, sizeof name);
        CHECK_MSG(strcmp(name, cases[i].name) == 0, "%s: %s", cases[i].text, name);
        CHECK(nigh_str_eq(u.path, nigh_str_of(cases[i].path)) && nigh_str_eq(u.query, nigh_str_of(cases[i].query)));
        CHECK(u.https == cases[i].https);
    }
}

static const char *const refused[] = { "",
                                     "api.example.com",
                                     "ftp://a.example",
                                     "file:///etc/passwd",
                                     "HTTP://a.example",
                                     "https:/a.example",
                                     "https//a.example",
                                     "//a.example",
                                     "gopher://a.example:70/",
                                     "javascript:alert(1)",
                                     "https://",
                                     "https:///v1",
                                     "https://:443/",
                                     "https://a.example:",
                                     "https://a.example:0",
                                     "https://a.example:00443",
                                     "https://a.example:65536",
                                     "https://a.example:99999999999",
                                     "https://a.example:+443",
                                     "https://a.example:4 43",
                                     "https://a.example:443:443",
                                     "https://a.example:22/",
                                     "https://a.example:25",
                                     "https://a.example:6379",
                                     "https://a.example:5432",
                                     "https://user@a.example/",
                                     "https://user:pass@a.example/",
                                     "https://@a.example/",
                                     "https://good.example@127.0.0.1/",
                                     "https://a.example#@b.example/",
                                     "https://a.example/#x",
                                     "https://a.example\\@b.example/",
                                     "https://a.example/\\..",
                                     "https://a.example/ b",
                                     " https://a.example",
                                     "https://a.example\n",
                                     "https://a.example/\r\nHost: b",
                                     "https://a.example/\x01",
                                     "https://b\xc3\xbc"
                                     "cher.example/",
                                     "https://a.example/%zz",
                                     "https://a.example/%2",
                                     "https://a%2eexample/",
                                     "https://%31%32%37.0.0.1/",
                                     "https://127.1/",
                                     "https://127.0.1/",
                                     "https://2130706433/",
                                     "https://0x7f000001/",
                                     "https://0x7f.0.0.1/",
                                     "https://0177.0.0.1/",
                                     "https://127.0.0.01/",
                                     "https://127.0.0.1./",
                                     "https://127.0.0.256/",
                                     "https://1.2.3.4.5/",
                                     "https://0/",
                                     "https://1.1/",
                                     "https://a.example.1/",
                                     "https://a.0x7f/",
                                     "https://999.999.999.999/",
                                     "https://[::1",
                                     "https://::1/",
                                     "https://[]/",
                                     "https://[::1]x/",
                                     "https://[fe80::1%eth0]/",
                                     "https://[fe80::1%25eth0]/",
                                     "https://[::g]/",
                                     "https://[1:2:3]/",
                                     "https://[127.0.0.1]/",
                                     "https://a..example/",
                                     "https://.example/",
                                     "https://a.example./",
                                     "https://-a.example/",
                                     "https://a-.example/",
                                     "https://a*.example/",
                                     "https://a,b/",
                                     "https://a.example/../admin",
                                     "https://a.example/v1/..",
                                     "https://\xe2\x91\xa0.example/",
                                     "https://a.example/<x>",
                                     "https://a.example/\"",
                                     "https://a.example/`",
                                     "https://a.example/{x}",
                                     "https://a.example/a|b",
                                     "https://a.example/^" };

static void test_refused(void) {
    for (size_t i = 0; i < NIGH_COUNT(refused); i++) {
        nigh_egress_url u;
        nigh_err err = { 0 };
        CHECK_MSG(nigh_egress_parse(&u, nigh_str_of(refused[i]), &err) == NIGH_EINVAL
                      && nigh_str_starts(nigh_str_of(err.text), NIGH_STR("url: ")),
                  "%s was taken (%s)", refused[i], err.text);
    }
    char text[300] = "https://";
    nigh_egress_url u;
    memset(text + 8, 'a', 64);
    CHECK(nigh_egress_parse(&u, nigh_str_of(text), NULL) == NIGH_EINVAL);       /* a part of 64 letters */
    memset(text + 8, 'b', 280);
    CHECK(nigh_egress_parse(&u, nigh_str_of(text), NULL) == NIGH_EINVAL);
    CHECK(nigh_egress_parse(&u, (nigh_str){ "https://a\0b.example", 19 }, NULL) == NIGH_EINVAL);
}

static const struct { const char *text; nigh_egress_kind kind;
} kinds[] = {
    { "1.1.1.1", NIGH_EGRESS_PUBLIC },
    { "8.8.8.8", NIGH_EGRESS_PUBLIC },
    { "172.15.0.1", NIGH_EGRESS_PUBLIC },
    { "172.32.0.1", NIGH_EGRESS_PUBLIC },
    { "192.167.255.255", NIGH_EGRESS_PUBLIC },
    { "100.63.255.255", NIGH_EGRESS_PUBLIC },
    { "100.128.0.0", NIGH_EGRESS_PUBLIC },
    { "223.255.255.255", NIGH_EGRESS_PUBLIC },
    { "11.0.0.0", NIGH_EGRESS_PUBLIC },
    { "126.255.255.255", NIGH_EGRESS_PUBLIC },
    { "128.0.0.1", NIGH_EGRESS_PUBLIC },
    { "198.17.0.1", NIGH_EGRESS_PUBLIC },
    { "127.0.0.1", NIGH_EGRESS_OWN },
    { "127.255.255.254", NIGH_EGRESS_OWN },
    { "10.255.0.1", NIGH_EGRESS_OWN },
    { "172.16.0.1", NIGH_EGRESS_OWN },
    { "172.31.255.255", NIGH_EGRESS_OWN },
    { "192.168.1.1", NIGH_EGRESS_OWN },
    { "100.64.0.1", NIGH_EGRESS_OWN },
    { "100.127.255.255", NIGH_EGRESS_OWN },
    { "0.0.0.0", NIGH_EGRESS_NEVER },
    { "0.1.2.3", NIGH_EGRESS_NEVER },
    { "169.254.0.1", NIGH_EGRESS_NEVER },
    { "169.254.169.254", NIGH_EGRESS_NEVER },
    { "100.100.100.200", NIGH_EGRESS_NEVER },
    { "168.63.129.16", NIGH_EGRESS_NEVER },
    { "192.0.0.192", NIGH_EGRESS_NEVER },
    { "192.0.2.1", NIGH_EGRESS_NEVER },
    { "198.18.0.1", NIGH_EGRESS_NEVER },
    { "198.19.255.255", NIGH_EGRESS_NEVER },
    { "203.0.113.7", NIGH_EGRESS_NEVER },
    { "224.0.0.1", NIGH_EGRESS_NEVER },
    { "239.1.1.1", NIGH_EGRESS_NEVER },
    { "240.0.0.1", NIGH_EGRESS_NEVER },
    { "255.255.255.255", NIGH_EGRESS_NEVER },
    { "2606:4700::1111", NIGH_EGRESS_PUBLIC },
    { "2a00:1450::1", NIGH_EGRESS_PUBLIC },
    { "3ffe::1", NIGH_EGRESS_PUBLIC },
    { "::1", NIGH_EGRESS_OWN },
    { "fd00::1", NIGH_EGRESS_OWN },
    { "fc00::1", NIGH_EGRESS_OWN },
    { "::", NIGH_EGRESS_NEVER },
    { "::2", NIGH_EGRESS_NEVER },
    { "fd00:ec2::254", NIGH_EGRESS_NEVER },
    { "fd20:ce::254", NIGH_EGRESS_NEVER },
    { "fe80::1", NIGH_EGRESS_NEVER },
    { "febf::1", NIGH_EGRESS_NEVER },
    { "fec0::1", NIGH_EGRESS_NEVER },
    { "ff02::1", NIGH_EGRESS_NEVER },
    { "::ffff:127.0.0.1", NIGH_EGRESS_NEVER },
    { "::ffff:8.8.8.8", NIGH_EGRESS_NEVER },
    { "::127.0.0.1", NIGH_EGRESS_NEVER },
    { "64:ff9b::127.0.0.1", NIGH_EGRESS_NEVER },
    { "64:ff9b:1::a00:1", NIGH_EGRESS_NEVER },
    { "2002:7f00:1::", NIGH_EGRESS_NEVER },
    { "2001::1", NIGH_EGRESS_NEVER },
    { "2001:db8::1", NIGH_EGRESS_NEVER },
    { "2001:10::1", NIGH_EGRESS_NEVER },
    { "3fff::1", NIGH_EGRESS_NEVER },
    { "100::1", NIGH_EGRESS_NEVER },
    { "4000::1", NIGH_EGRESS_NEVER },
    { "2001:4860:4860::8888", NIGH_EGRESS_PUBLIC },
    { "not an address", NIGH_EGRESS_NEVER },
    { "127.1", NIGH_EGRESS_NEVER },
};

static void test_kinds(void) {
    for (size_t i = 0; i < NIGH_COUNT(kinds); i++) {
        const char *what = NULL;
        nigh_egress_kind kind = nigh_egress_kind_of_text(kinds[i].text, &what);
        CHECK_MSG(kind == kinds[i].kind && what, "%s is %d (%s)", kinds[i].text, kind, what);
    }
}

/* Against the system's own notion of private and loopback addresses, written another way: 200,000 at random. */
static void test_v4_random(void) {
    uint64_t seed = test_seed();
    for (int i = 0; i < 200000; i++) {
        uint32_t ip = (uint32_t)test_rand(&seed);
        uint8_t b[4] = { (uint8_t)(ip >> 24), (uint8_t)(ip >> 16), (uint8_t)(ip >> 8), (uint8_t)ip };
        const char *what;
        bool own = b[0] == 10 || b[0] == 127 || (b[0] == 172 && b[1] / 16 == 1) || (b[0] == 192 && b[1] == 168)
                   || (b[0] == 100 && b[1] / 64 == 1);
        nigh_egress_kind kind = nigh_egress_kind_of(b, 4, &what);
        if (own != (kind == NIGH_EGRESS_OWN) && kind != NIGH_EGRESS_NEVER)
            CHECK_MSG(false, "%u.%u.%u.%u seed %llu", b[0], b[1], b[2], b[3], (unsigned long long)test_seed());
        if (b[0] == 0 || b[0] >= 224) CHECK(kind == NIGH_EGRESS_NEVER);
    }
}

static void test_rules(void) {
    static const struct { nigh_tier tier; bool https, allowed; nigh_egress_kind kind; bool may;
    } cases[] = {
        { NIGH_TIER_CLOUD, true, false, NIGH_EGRESS_PUBLIC, true },
        { NIGH_TIER_CLOUD, false, false, NIGH_EGRESS_PUBLIC, false },
        { NIGH_TIER_CLOUD, true, false, NIGH_EGRESS_OWN, false },
        { NIGH_TIER_CLOUD, false, false, NIGH_EGRESS_OWN, false },
        { NIGH_TIER_CLOUD, false, true, NIGH_EGRESS_OWN, true },
        { NIGH_TIER_CLOUD, true, true, NIGH_EGRESS_OWN, true },
        { NIGH_TIER_CLOUD, true, true, NIGH_EGRESS_NEVER, false },
        { NIGH_TIER_CLOUD, true, false, NIGH_EGRESS_NEVER, false },
        { NIGH_TIER_EDGE, false, false, NIGH_EGRESS_OWN, true },
        { NIGH_TIER_EDGE, true, false, NIGH_EGRESS_OWN, true },
        { NIGH_TIER_EDGE, true, false, NIGH_EGRESS_PUBLIC, true },
        { NIGH_TIER_EDGE, false, false, NIGH_EGRESS_PUBLIC, false },
        { NIGH_TIER_EDGE, true, true, NIGH_EGRESS_NEVER, false },
        { NIGH_TIER_DEVICE, true, true, NIGH_EGRESS_OWN, false },
    };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_egress_rule rule = { cases[i].tier, cases[i].https, cases[i].allowed };
        CHECK_MSG((nigh_egress_refuses(&rule, cases[i].kind) == NULL) == cases[i].may, "case %zu", i);
    }
}

TEST_MAIN(T(test_taken), T(test_refused), T(test_kinds), T(test_v4_random), T(test_rules))
