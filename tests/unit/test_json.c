/* test_json.c - the JSON parser and its writers: what it takes, what it refuses and where, memory faults, numbers
 * there and back. */
#include <math.h>
#include <time.h>

#include "base/json.h"
#include "test.h"

static nigh_status parse(nigh_str text, nigh_err *err) {
    nigh_json_doc doc;
    nigh_status status = nigh_json_parse(&doc, text, err);
    if (status == NIGH_OK) nigh_json_release(&doc);
    return status;
}

static void test_tree(void) {
    nigh_json_doc doc;
    nigh_err err = { 0 };
    CHECK(nigh_json_parse(&doc, NIGH_STR(" {\"b\":[1,-2.5,true,null,{}],\"a\":\"x\\u00e9\\ud83d\\ude00\\n\"} "), &err)
          == NIGH_OK);
    CHECK(doc.root->type == NIGH_JSON_OBJECT && doc.root->count == 2);
    const nigh_json *b = nigh_json_get(doc.root, NIGH_STR("b")), *a = nigh_json_get(doc.root, NIGH_STR("a"));
    CHECK(b && b->type == NIGH_JSON_ARRAY && b->count == 5 && nigh_str_eq(b->key, NIGH_STR("b")));
    const nigh_json *item = nigh_json_first(b);
    CHECK(item->is_int && item->integer == 1 && item->number == 1.0 && item->at == 7);
    item = item->next;
    CHECK(!item->is_int && item->number == -2.5 && nigh_str_eq(item->text, NIGH_STR("-2.5")));
    CHECK(item->next->boolean && item->next->next->type == NIGH_JSON_NULL && item->next->next->next->count == 0);
    CHECK(a && nigh_str_eq(a->text, NIGH_STR("x\xc3\xa9\xf0\x9f\x98\x80\n")));
    CHECK(nigh_json_get(doc.root, NIGH_STR("c")) == NULL && nigh_json_get(NULL, NIGH_STR("c")) == NULL
          && nigh_json_get(a, NIGH_STR("c")) == NULL);
    nigh_buf out = NIGH_BUF(1000);
    CHECK(nigh_json_add_value(&out, doc.root) == NIGH_OK);
    CHECK(nigh_str_eq(nigh_buf_str(&out),
                      NIGH_STR("{\"b\":[1,-2.5,true,null,{}],\"a\":\"x\xc3\xa9\xf0\x9f\x98\x80\\n\"}")));
    nigh_buf_release(&out);
    nigh_json_release(&doc);
    CHECK(doc.root == NULL && nigh_alloc_live_bytes() == 0);
}

static void test_members(void) {
    nigh_json_doc doc;
    CHECK(nigh_json_parse(&doc, NIGH_STR("{\"s\":\"x\",\"e\":\"\",\"n\":7,\"m\":-7,\"f\":7.5,\"t\":true,"
                                         "\"no\":false,\"z\":null,\"a\":[1]}"), NULL) == NIGH_OK);
    const struct { const char *key, *text; int64_t number; uint64_t count; bool is_true;
    } cases[] = { { "s", "x", -1, 0, false }, { "e", "", -1, 0, false }, { "n", "", 7, 7, false },
                  { "m", "", -7, 0, false }, { "f", "", -1, 0, false }, { "t", "", -1, 0, true },
                  { "no", "", -1, 0, false }, { "z", "", -1, 0, false }, { "a", "", -1, 0, false },
                  { "absent", "", -1, 0, false } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        const char *key = cases[i].key;
        CHECK_MSG(nigh_str_eq(nigh_json_text(doc.root, key), nigh_str_of(cases[i].text)), "%s", key);
        CHECK_MSG(nigh_json_int(doc.root, key, -1) == cases[i].number, "%s", key);
        CHECK_MSG(nigh_json_count(doc.root, key) == cases[i].count, "%s", key);
        CHECK_MSG(nigh_json_true(doc.root, key) == cases[i].is_true, "%s", key);
        CHECK_MSG(nigh_json_says(doc.root, key, "x") == (i == 0), "%s", key);
        CHECK_MSG(nigh_json_says(doc.root, key, "") == (i == 1), "%s", key);     /* a string, and empty */
    }
    CHECK(nigh_json_text(NULL, "s").len == 0 && !nigh_json_says(NULL, "s", "") && nigh_json_int(NULL, "n", 3) == 3
          && nigh_json_count(NULL, "n") == 0 && !nigh_json_true(NULL, "t"));
    nigh_json_release(&doc);
}

static void test_refused(void) {
    const struct { nigh_str text; nigh_status status; uint64_t at;
    } cases[] = { { NIGH_STR(""), NIGH_EINVAL, 0 },
                  { NIGH_STR("[1,]"), NIGH_EINVAL, 3 },
                  { NIGH_STR("{\"a\":1,}"), NIGH_EINVAL, 7 },
                  { NIGH_STR("{\"a\":1,\"a\":2}"), NIGH_EINVAL, 11 },
                  { NIGH_STR("{\"a\":1,\"\\u0061\":2}"), NIGH_EINVAL, 16 },
                  { NIGH_STR("\"\\ud800\""), NIGH_EINVAL, 1 },
                  { NIGH_STR("\"\\udc00\""), NIGH_EINVAL, 1 },
                  { NIGH_STR("\"\\ud800\\ud800\""), NIGH_EINVAL, 1 },
                  { NIGH_STR("\"\xff\""), NIGH_EINVAL, 1 },
                  { NIGH_STR("\"\xc0\x80\""), NIGH_EINVAL, 1 },
                  { NIGH_STR("\"\xed\xa0\x80\""), NIGH_EINVAL, 1 },
                  { NIGH_STR("\"\t\""), NIGH_EINVAL, 1 },
                  { NIGH_STR("01"), NIGH_EINVAL, 1 },
                  { NIGH_STR("1e999"), NIGH_EINVAL, 0 },
                  { NIGH_STR("nul"), NIGH_EINVAL, 0 },
                  { NIGH_STR("[1] x"), NIGH_EINVAL, 4 },
                  { NIGH_STR("\xef\xbb\xbf[]"), NIGH_EINVAL, 0 },
                  { NIGH_STR("{\"a\" 1}"), NIGH_EINVAL, 5 },
                  { NIGH_STR("[1 2]"), NIGH_EINVAL, 3 },
                  { NIGH_STR("[1}"), NIGH_EINVAL, 2 },
                  { NIGH_STR("\""), NIGH_EINVAL, 1 } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_err err = { 0 };
        nigh_status status = parse(cases[i].text, &err);
        CHECK_MSG(status == cases[i].status && err.at == cases[i].at && err.text[0], "%.*s: %s at %d: %s",
                  (int)cases[i].text.len, cases[i].text.ptr, nigh_status_name(status), (int)err.at, err.text);
    }
    nigh_err err = { 0 };
    CHECK(parse(NIGH_STR("{\"a\":\n 1,\n x}"), &err) == NIGH_EINVAL && strstr(err.text, "line 3 column 2"));
    CHECK(nigh_alloc_live_bytes() == 0);
}

static void test_depth(void) {
    char text[2 * (NIGH_JSON_DEPTH_MAX + 1)];
    memset(text, '[', NIGH_JSON_DEPTH_MAX);
    memset(text + NIGH_JSON_DEPTH_MAX, ']', NIGH_JSON_DEPTH_MAX);
    CHECK(parse((nigh_str){ text, 2 * NIGH_JSON_DEPTH_MAX }, NULL) == NIGH_OK);
    memset(text, '[', sizeof text);
    nigh_err err = { 0 };
    CHECK(parse((nigh_str){ text, sizeof text }, &err) == NIGH_ERANGE && err.at == NIGH_JSON_DEPTH_MAX);
}

/* 200,000 keys that differ at their end must not take quadratic time; memory stays within the stated multiple. */
static void test_many_keys(void) {
    nigh_buf text = NIGH_BUF(1 << 24);
    nigh_json_doc doc;
    CHECK(nigh_buf_add_char(&text, '{') == NIGH_OK);
    for (unsigned i = 0; i < 200000; i++) CHECK(nigh_buf_addf(&text, "%s\"key%u\":0", i ? "," : "", i) == NIGH_OK);
    CHECK(nigh_buf_add_char(&text, '}') == NIGH_OK);
    clock_t start = clock();
    CHECK(nigh_json_parse(&doc, nigh_buf_str(&text), NULL) == NIGH_OK && doc.root->count == 200000);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    CHECK_MSG(seconds < 2.0, "%.2f s", seconds);
    CHECK(doc.block_bytes <= 97 * (text.len + 1));
    nigh_json_release(&doc);
    nigh_buf_release(&text);
}

static void test_faults(void) {
    nigh_err err = { 0 };
    nigh_alloc_fail_at(1, false);
    CHECK(parse(NIGH_STR("[1,\"a\"]"), &err) == NIGH_ENOMEM && err.code == NIGH_ENOMEM);
    nigh_alloc_fail_at(0, false);
    nigh_json_doc doc;
    CHECK(nigh_json_parse(&doc, NIGH_STR("{\"a\":[1,\"b\"]}"), NULL) == NIGH_OK);
    nigh_buf out = NIGH_BUF(1000);
    nigh_alloc_fail_at(1, true);
    CHECK(nigh_json_add_value(&out, doc.root) == NIGH_ENOMEM && out.len == 0);
    nigh_alloc_fail_at(0, false);
    nigh_buf small = NIGH_BUF(5);
    CHECK(nigh_json_add_value(&small, doc.root) == NIGH_ERANGE && small.len == 0);
    CHECK(nigh_json_add_string(&small, NIGH_STR("abcd")) == NIGH_ERANGE && small.len == 0);
    nigh_buf_release(&small);
    nigh_json_release(&doc);
    CHECK(nigh_alloc_live_bytes() == 0);
}

static void test_strings(void) {
    nigh_buf b = NIGH_BUF(1000);
    CHECK(nigh_json_add_string(&b, NIGH_STR("a\"\\/\b\f\n\r\t\x01\x7f\0\xc3\xa9\xff")) == NIGH_OK);
    CHECK_MSG(nigh_str_eq(nigh_buf_str(&b),
                          NIGH_STR("\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\x7f\\u0000\xc3\xa9\xef\xbf\xbd\"")),
              "%.*s", (int)b.len, b.ptr);
    nigh_buf_release(&b);
}

static void check_f32(float v) {
    char text[64] = { 0 };
    nigh_buf b = NIGH_BUF(60);
    CHECK(nigh_json_add_f32(&b, v) == NIGH_OK);
    memcpy(text, b.ptr, b.len);
    float back = strtof(text, NULL);
    CHECK_MSG(memcmp(&back, &v, sizeof v) == 0, "%.9g -> %s", (double)v, text);
    CHECK_MSG((float)nigh_json_to_f64(nigh_buf_str(&b)) == v, "%s", text);
    int digits = 1;     /* no shorter %.*e reads back */
    char plain[64];
    for (; digits < 9; digits++) {
        snprintf(plain, sizeof plain, "%.*e", digits - 1, (double)v);
        if (strtof(plain, NULL) == v) break;
    }
    int ours = 0, zeros = 0;
    for (const char *c = text; *c && *c != 'e'; c++)
        if (*c >= '0' && *c <= '9') {
            if (*c != '0') {
                ours += zeros + 1;
                zeros = 0;
            } else if (ours) zeros++;
        }
    CHECK_MSG(v == 0 || ours <= digits, "%s has %d digits, %d do", text, ours, digits);
    nigh_buf_release(&b);
}

static void check_f64(double v) {
    char text[64] = { 0 };
    nigh_buf b = NIGH_BUF(60);
    CHECK(nigh_json_add_f64(&b, v) == NIGH_OK);
    memcpy(text, b.ptr, b.len);
    double back = strtod(text, NULL), ours = nigh_json_to_f64(nigh_buf_str(&b));
    CHECK_MSG(memcmp(&back, &v, sizeof v) == 0, "%.17g -> %s", v, text);
    CHECK_MSG(memcmp(&ours, &v, sizeof v) == 0, "%.17g -> %s -> %.17g", v, text, ours);
    nigh_buf_release(&b);
}

static void test_numbers(void) {
    static const struct {
        float v;
        const char *text;
    } f32s[] = { { 0.1f, "0.1" },
                 { 1.0f, "1" },
                 { -0.0f, "-0" },
                 { 16777216.0f, "16777216" },
                 { 3.4028235e38f, "3.4028235e38" },
                 { 1e-45f, "1e-45" },
                 { 0.00001f, "0.00001" },
                 { 123.456f, "123.456" },
                 { 1e20f, "1e20" },
                 { (float)INFINITY, "null" } };
    for (size_t i = 0; i < NIGH_COUNT(f32s); i++) {
        nigh_buf b = NIGH_BUF(60);
        CHECK(nigh_json_add_f32(&b, f32s[i].v) == NIGH_OK);
        CHECK_MSG(nigh_str_eq(nigh_buf_str(&b), nigh_str_of(f32s[i].text)), "%.*s, not %s", (int)b.len, b.ptr,
                  f32s[i].text);
        nigh_buf_release(&b);
    }
    uint64_t seed = test_seed(), state = seed;
    printf("  seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = test_rand(&state);
        float f;
        double d;
        memcpy(&f, &bits, sizeof f);
        memcpy(&d, &bits, sizeof d);
        if (isfinite(f)) check_f32(f);
        if (isfinite(d)) check_f64(d);
        check_f64((double)(bits >> 20) / 1000.0);
        check_f32((float)((double)bits / 18446744073709551616.0));
    }
    for (int e = -149; e < 128; e++) { check_f32(ldexpf(1.0f, e)); check_f32(nextafterf(ldexpf(1.0f, e), 0.0f)); }
    for (int e = -1074; e < 1024; e++) { check_f64(ldexp(1.0, e)); check_f64(nextafter(ldexp(1.0, e), 0.0)); }
}

/* Reading against the C library, with long mantissas, exact ties and the edges of the range. */
static void test_reading(void) {
    static const char *const texts[] = {
        "0",
        "-0",
        "1e-400",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "4.9406564584124654e-324",
        "2.2250738585072011e-308",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "1.7976931348623159e308",
        "9007199254740993",
        "9007199254740993.0000000000000000000000000001",
        "1e22",
        "1e23",
        "0.000000000000000000000000000000000000000000000000000000000000000123456789012345678901234567890",
        "123456789012345678901234567890",
        "179769313486231580793e289"
    };
    for (size_t i = 0; i < NIGH_COUNT(texts); i++)
        CHECK_MSG(nigh_json_to_f64(nigh_str_of(texts[i])) == strtod(texts[i], NULL), "%s: %.17g", texts[i],
                  nigh_json_to_f64(nigh_str_of(texts[i])));
    uint64_t state = test_seed();
    char text[1200];
    for (int i = 0; i < 20000; i++) {
        size_t n = 1 + test_rand(&state) % (i % 100 ? 30 : 1000), at = 0;
        text[at++] = (char)('1' + test_rand(&state) % 9);
        for (size_t k = 1; k < n; k++) {
            if (k == n / 2) text[at++] = '.';
            text[at++] = (char)('0' + test_rand(&state) % 10);
        }
        if (text[at - 1] == '.') at--;
        snprintf(text + at, sizeof text - at, "e%d", (int)(test_rand(&state) % 700) - 350);
        double ours = nigh_json_to_f64(nigh_str_of(text)), libc = strtod(text, NULL);
        CHECK_MSG(memcmp(&ours, &libc, sizeof ours) == 0, "%s: %.17g, not %.17g", text, ours, libc);
    }
    snprintf(text, sizeof text, "9007199254740993.%01000d1", 0);
    CHECK(nigh_json_to_f64(nigh_str_of(text)) == 9007199254740994.0);
}

TEST_MAIN(T(test_tree), T(test_members), T(test_refused), T(test_depth), T(test_many_keys), T(test_faults),
          T(test_strings), T(test_numbers), T(test_reading))
