/* Redaction and its way back: what goes out holds no value, what comes back is the text, in pieces of any size. */
#include "place/policy.h"
#include "place/redact.h"
#include "test.h"

static uint64_t rng;
static uint32_t pick(uint32_t n) { return (uint32_t)(test_rand(&rng) % n); }

static const char *const values[] = {
    "anna.berg@example.org", "x@y.co", "https://www.UEarly.se/a?b=c", "4454794511390933", "4111 1111 1111 1111",
    "GB56HXDO88167774656119", "gb42nawi04454264788619", "DE89 3704 0044 0532 0130 00", "460-89-9847", "905-674-3793",
    "+46 (0)8 928 571 38", "345-899-3560x4587", "106.31.73.20", "fe80::1ff:fe23:4567:890a", "00:1A:2b:3C:4d:5E",
    "12345678Z", "RSSMRA85T10A562S", "0x52908400098527886E0F7030069857D2E4169EE7", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "sk-proj4fHs92Kd0Qm8Zt1LxVb7", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "AKIAIOSFODNN7EXAMPL3",
    "postgres://app:s3cr3t@db.example.org/main",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U" };
static const char *const fillers[] = { "Please write to ", ", or ", ". ", "\n", " and ", "The price is 12.50, ",
                                       " (see 3.2) ",
                                       "caf\xc3\xa9 ", "<b>", "{\"a\":1} ", "e.g. this-one ", "EMAIL_ ", "<EMAIL_1> ",
                                       "_x_ " };

static void make_text(nigh_buf *b, uint32_t *used) {
    b->len = 0;
    *used = 0;
    for (uint32_t n = 1 + pick(12); n; n--) {
        CHECK(nigh_buf_add(b, nigh_str_of(fillers[pick(NIGH_COUNT(fillers))])) == NIGH_OK);
        if (pick(2) == 0) continue;
        uint32_t v = pick(NIGH_COUNT(values));
        *used |= 1u << v;
        CHECK(nigh_buf_addf(b, " %s ", values[v]) == NIGH_OK);
    }
}

static void restore_in_pieces(nigh_redactor *r, nigh_str text, nigh_buf *out, uint32_t most) {
    nigh_restorer s = { .r = r };
    out->len = 0;
    for (size_t i = 0; i < text.len;) {
        size_t n = nigh_min(1 + pick(most), text.len - i), before = out->len;
        CHECK(nigh_restore_add(&s, nigh_str_slice(text, i, i + n), out) == NIGH_OK);
        CHECK(s.held_len <= 32 && out->len >= before);
        i += n;
    }
    CHECK(nigh_restore_end(&s, out) == NIGH_OK);
    CHECK(s.held_len == 0 && s.unknown == 0);
}

static void test_there_and_back(void) {
    nigh_buf text = NIGH_BUF(1 << 20), away = NIGH_BUF(1 << 20), back = NIGH_BUF(1 << 20);
    uint64_t seed = test_seed();
    size_t rounds = test_short() ? 2000 : 100000, replaced = 0;
    for (size_t i = 0; i < rounds && !test_state.case_failed; i++) {
        nigh_redactor *r;
        uint32_t used;
        rng = seed * 7919 + i;
        if (!CHECK(nigh_redactor_new(&r, test_rand(&rng), NULL) == NIGH_OK)) return;
        make_text(&text, &used);
        away.len = 0;
        unsigned kinds = nigh_find_kinds(NIGH_REDACT_PII | NIGH_REDACT_SECRETS);
        CHECK(nigh_redact(r, kinds, nigh_buf_str(&text), &away, &replaced, NULL) == NIGH_OK);
        for (size_t v = 0; v < NIGH_COUNT(values); v++)
            CHECK_MSG(!(used >> v & 1) || nigh_str_find(nigh_buf_str(&away), nigh_str_of(values[v]), 0) == SIZE_MAX,
                      "NIGH_SEED=%llu round %zu: %s left in: %.*s", (unsigned long long)seed, i, values[v],
                      (int)away.len, away.ptr);
        restore_in_pieces(r, nigh_buf_str(&away), &back, i % 3 ? 5 : 1000);
        CHECK_MSG(nigh_str_eq(nigh_buf_str(&back), nigh_buf_str(&text)), "NIGH_SEED=%llu round %zu:\n%.*s\n%.*s\n%.*s",
                  (unsigned long long)seed, i, (int)text.len, text.ptr, (int)away.len, away.ptr, (int)back.len,
                  back.ptr);
        nigh_redactor_free(r);
    }
    printf("  figure restore texts=%zu replaced=%zu wrong=%d\n", rounds, replaced, test_state.case_failed);
    CHECK(replaced > rounds);
    nigh_buf_release(&text);
    nigh_buf_release(&away);
    nigh_buf_release(&back);
    CHECK(nigh_alloc_live_bytes() == 0);
}

static nigh_redactor *with_mail(nigh_buf *away, uint64_t seed) {
    nigh_redactor *r;
    CHECK(nigh_redactor_new(&r, seed, NULL) == NIGH_OK);
    CHECK(nigh_redact(r, ~0u, NIGH_STR("a@example.org, b@example.org, a@example.org"), away, NULL, NULL) == NIGH_OK);
    return r;
}

/* The same value, the same placeholder; lost brackets and other cases are understood; another conversation's
 * placeholder is not. */
static void test_placeholders(void) {
    nigh_buf away = NIGH_BUF(4096), other = NIGH_BUF(4096), out = NIGH_BUF(4096);
    nigh_redactor *r = with_mail(&away, 11), *q = with_mail(&other, 12);
    CHECK(nigh_redactor_count(r) == 2);
    char first[32], say[256];
    size_t end = nigh_str_find(nigh_buf_str(&away), NIGH_STR(","), 0);
    snprintf(first, sizeof first, "%.*s", (int)end, away.ptr);
    CHECK(nigh_str_ends(nigh_buf_str(&away), nigh_str_of(first)));
    nigh_restorer s = { .r = r };
    snprintf(say, sizeof say, "%s %.*s. %.*s", first, (int)strlen(first) - 2, first + 1, (int)(end), other.ptr);
    CHECK(nigh_restore_add(&s, nigh_str_of(say), &out) == NIGH_OK && nigh_restore_end(&s, &out) == NIGH_OK);
    CHECK(nigh_str_starts(nigh_buf_str(&out), NIGH_STR("a@example.org a@example.org. ")));
    CHECK(nigh_str_find(nigh_buf_str(&out), NIGH_STR("@"), 20) == SIZE_MAX);
    CHECK(s.restored == 2);

    snprintf(say, sizeof say, "<EMAIL_9%s", first + strlen(first) - 6);     /* a number that nobody gave */
    out.len = 0;
    CHECK(nigh_restore_add(&s, nigh_str_of(say), &out) == NIGH_OK && nigh_restore_end(&s, &out) == NIGH_OK);
    CHECK_MSG(nigh_str_eq(nigh_buf_str(&out), NIGH_STR("[EMAIL?]")), "%.*s", (int)out.len, out.ptr);
    CHECK(s.unknown == 1);

    nigh_err err = { 0 };
    out.len = 0;
    CHECK(nigh_redact(r, ~0u, nigh_str_of(first), &out, NULL, &err) == NIGH_EDATA && out.len == 0 && err.text[0]);
    nigh_redactor_free(r);
    nigh_redactor_free(q);
    nigh_buf_release(&away);
    nigh_buf_release(&other);
    nigh_buf_release(&out);
}

/* Two conversations whose placeholders are the same to the letter: each gets its own values back, whatever the other's
 * answer says, and no placeholder is left. */
static void test_same_placeholders(void) {
    nigh_buf away[2] = { NIGH_BUF(1 << 16), NIGH_BUF(1 << 16) }, back = NIGH_BUF(1 << 16);
    uint64_t seed = test_seed();
    size_t rounds = test_short() ? 500 : 10000;
    for (size_t i = 0; i < rounds && !test_state.case_failed; i++) {
        nigh_redactor *r[2] = { NULL, NULL };
        char text[2][128];
        rng = seed * 104729 + i;
        uint64_t same = test_rand(&rng);
        for (size_t t = 0; t < 2; t++) {
            CHECK(nigh_redactor_new(&r[t], same, NULL) == NIGH_OK);
            snprintf(text[t], sizeof text[t], "%s a%u@tenant-%c.org, %s b%u@tenant-%c.org;", t ? "Now" : "Yet",
                     pick(1000), t ? 'a' : 'b', t ? "or" : "and", 1000 + pick(1000), t ? 'a' : 'b');
            away[t].len = 0;
            CHECK(nigh_redact(r[t], ~0u, nigh_str_of(text[t]), &away[t], NULL, NULL) == NIGH_OK);
        }
        for (size_t t = 0; t < 2; t++) {        /* the answer to one is given to the other */
            restore_in_pieces(r[t], nigh_buf_str(&away[1 - t]), &back, 1 + pick(9));
            nigh_str got = nigh_buf_str(&back), foreign = nigh_str_of(t ? "@tenant-b" : "@tenant-a");
            CHECK_MSG(nigh_str_find(got, foreign, 0) == SIZE_MAX && nigh_str_find(got, NIGH_STR("EMAIL"), 0) == SIZE_MAX
                          && nigh_str_find(got, nigh_str_of(t ? "@tenant-a" : "@tenant-b"), 0) != SIZE_MAX,
                      "NIGH_SEED=%llu round %zu: %.*s", (unsigned long long)seed, i, (int)got.len, got.ptr);
        }
        nigh_redactor_free(r[0]);
        nigh_redactor_free(r[1]);
    }
    printf("  figure restore_same pairs=%zu wrong=%d\n", rounds, test_state.case_failed);
    for (size_t t = 0; t < 2; t++) nigh_buf_release(&away[t]);
    nigh_buf_release(&back);
}

/* A placeholder that lost its brackets, behind an escape of JSON. */
static void test_behind_escapes(void) {
    static const char *const escapes[] = { "\\n", "\\u4e16", "\\t", " ", "\\\"" };
    nigh_buf away = NIGH_BUF(4096), out = NIGH_BUF(4096);
    nigh_redactor *r = with_mail(&away, 11);
    int bare = (int)nigh_str_find(nigh_buf_str(&away), NIGH_STR(">"), 0) - 1;
    for (size_t i = 0; i < NIGH_COUNT(escapes); i++)
        for (size_t most = 1; most < 12; most++) {
            char said[128], want[128];
            nigh_restorer s = { .r = r, .json = true };
            snprintf(said, sizeof said, "x%s%.*s.", escapes[i], bare, away.ptr + 1);
            snprintf(want, sizeof want, "x%sa@example.org.", escapes[i]);
            out.len = 0;
            for (size_t at = 0, len = strlen(said); at < len; at += most)
                CHECK(nigh_restore_add(&s, nigh_str_slice(nigh_str_of(said), at, at + most), &out) == NIGH_OK);
            CHECK(nigh_restore_end(&s, &out) == NIGH_OK);
            CHECK_MSG(nigh_str_eq(nigh_buf_str(&out), nigh_str_of(want)), "%s: %.*s", said, (int)out.len, out.ptr);
        }
    nigh_redactor_free(r);
    nigh_buf_release(&away);
    nigh_buf_release(&out);
}

static void test_json_arguments(void) {
    nigh_buf away = NIGH_BUF(4096), out = NIGH_BUF(4096);
    nigh_redactor *r;
    CHECK(nigh_redactor_new(&r, 5, NULL) == NIGH_OK);
    CHECK(nigh_redact(r, ~0u, NIGH_STR("password=ab\\c1\x01x"), &away, NULL, NULL) == NIGH_OK);
    nigh_restorer s = { .r = r, .json = true };
    CHECK(nigh_restore_add(&s, nigh_buf_str(&away), &out) == NIGH_OK && nigh_restore_end(&s, &out) == NIGH_OK);
    CHECK_MSG(nigh_str_eq(nigh_buf_str(&out), NIGH_STR("password=ab\\\\c1\\u0001x")), "%.*s", (int)out.len, out.ptr);
    nigh_redactor_free(r);
    nigh_buf_release(&away);
    nigh_buf_release(&out);
}

/* Things that look like personal data and are none. */
static void test_hard_negatives(void) {
    static const char *const texts[] = {
        "The meeting is on 2026-11-21 at 14:30:15, room 12.", "It costs 10 000 000 euro or 1,234,567.89 dollars.",
        "Version 10.0.26100.1 of 3.14.159", "order 4111111111111112", "ISBN 978-3-16-148410-0",
        "GB00HXDO88167774656119",
        "see section 4.2.1, figure 12-3", "000-12-3456 and 666-12-3456", "the range 100-200-300",
        "a.b, e.g. this, i.e. that",
        "foo::bar and std::vector", "sk-ip the line", "12345678A", "well-known_names and x_y_z", "password: required",
        "12:30:45", "pages 101-102, 12/11/2024", "0x1234 and 0xdeadbeef", "serial 20261121", "file.txt and main.c" };
    for (size_t i = 0; i < NIGH_COUNT(texts); i++) {
        nigh_found f;
        size_t from = 0;
        bool any = nigh_find_next(nigh_str_of(texts[i]), &from, ~0u, &f);
        CHECK_MSG(!any, "%s: %s %.*s", texts[i], nigh_find_word(f.kind), (int)(f.end - f.begin), texts[i] + f.begin);
    }
}

/* No text takes more than a fixed number of steps for each byte. */
static void test_worst_texts(void) {
    static const char *const pieces[] = { "1", "a1", "a.", ".", "-", "a-", "_", "a@", "@", ":", "a:", "://", "a://",
                                          "=",
                                          "password=", "1 ", "1-", "(1) ", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----",
                                          "x1.", "0.", "ab12", "\xc3\xa9.", "sk-1", "::", "f:" };
    size_t bytes = test_short() ? 1 << 16 : 1 << 20;
    char *text = malloc(bytes + 64);
    for (size_t i = 0; i < NIGH_COUNT(pieces); i++) {
        size_t len = strlen(pieces[i]), n = 0, from = 0;
        nigh_found f;
        while (n < bytes) { memcpy(text + n, pieces[i], len); n += len; }
        size_t finds = 0, last = 0;
        for (; nigh_find_next((nigh_str){ text, n }, &from, ~0u, &f); last = f.end) {
            CHECK(f.begin >= last && f.begin < f.end && f.end <= n);
            finds++;
        }
        CHECK(finds <= n);
    }
    free(text);
}

TEST_MAIN(T(test_there_and_back), T(test_placeholders), T(test_same_placeholders), T(test_behind_escapes),
          T(test_json_arguments), T(test_hard_negatives), T(test_worst_texts))
