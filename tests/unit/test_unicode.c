/* test_unicode.c - categories, white space, lower case, letters without marks: known letters of many scripts, and laws
 * over all code points. */
#include "base/unicode.h"
#include "base/utf8.h"
#include "test.h"

static void test_category(void) {
    const struct { uint32_t letter; nigh_category want;
    } cases[] = { { 0, NIGH_CC },       { '\n', NIGH_CC },     { ' ', NIGH_ZS },      { '!', NIGH_PO },
                  { '$', NIGH_SC },     { '(', NIGH_PS },      { ')', NIGH_PE },      { '+', NIGH_SM },
                  { '-', NIGH_PD },     { '5', NIGH_ND },      { 'A', NIGH_LU },      { '^', NIGH_SK },
                  { '_', NIGH_PC },     { 'z', NIGH_LL },      { 0x7f, NIGH_CC },     { 0xa0, NIGH_ZS },
                  { 0xab, NIGH_PI },    { 0xbb, NIGH_PF },     { 0xad, NIGH_CF },     { 0xb2, NIGH_NO },
                  { 0xe9, NIGH_LL },    { 0x100, NIGH_LU },    { 0x101, NIGH_LL },    { 0x12e, NIGH_LU },
                  { 0x12f, NIGH_LL },   { 0x1c5, NIGH_LT },    { 0x2b0, NIGH_LM },    { 0x301, NIGH_MN },
                  { 0x416, NIGH_LU },   { 0x436, NIGH_LL },    { 0x5d0, NIGH_LO },    { 0x660, NIGH_ND },
                  { 0x903, NIGH_MC },   { 0x20dd, NIGH_ME },   { 0x2028, NIGH_ZL },   { 0x2029, NIGH_ZP },
                  { 0x2160, NIGH_NL },  { 0x4e00, NIGH_LO },   { 0xac00, NIGH_LO },   { 0xd800, NIGH_CS },
                  { 0xe000, NIGH_CO },  { 0xfeff, NIGH_CF },   { 0xffff, NIGH_CN },   { 0x1f600, NIGH_SO },
                  { 0x1d7d8, NIGH_ND }, { 0x10ffff, NIGH_CN }, { 0x110000, NIGH_CN }, { UINT32_MAX, NIGH_CN } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++)
        CHECK_MSG(nigh_unicode_category(cases[i].letter) == cases[i].want, "U+%04X", cases[i].letter);
}

/* Counts of a Unicode version can only grow from one to the next for letters, marks, numbers. */
static void test_category_counts(void) {
    uint32_t count[30] = { 0 };
    for (uint32_t c = 0; c <= 0x10ffff; c++) count[nigh_unicode_category(c)]++;
    CHECK(count[NIGH_CS] == 2048 && count[NIGH_CC] == 65 && count[NIGH_ZS] == 17 && count[NIGH_ZL] == 1
          && count[NIGH_ZP] == 1);
    CHECK(count[NIGH_CO] == 6400 + 2 * 65534 && count[NIGH_LT] == 31);
    CHECK_MSG(count[NIGH_LU] >= 1831 && count[NIGH_LL] >= 2233 && count[NIGH_LO] >= 127333, "Lu %u Ll %u Lo %u",
              count[NIGH_LU], count[NIGH_LL], count[NIGH_LO]);
    CHECK(count[NIGH_MN] >= 1950 && count[NIGH_ND] >= 680 && count[NIGH_PO] >= 600);
}

static void test_space(void) {
    uint32_t spaces = 0;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        bool space = nigh_unicode_is_space(c);
        spaces += space;
        if (nigh_unicode_mask(c) & (NIGH_BIT(NIGH_ZS) | NIGH_BIT(NIGH_ZL) | NIGH_BIT(NIGH_ZP)))
            CHECK_MSG(space, "U+%04X", c);
    }
    CHECK(spaces == 25);    /* the 25 letters of the property White_Space */
    CHECK(!nigh_unicode_is_space(0x200b) && !nigh_unicode_is_space(0xfeff) && !nigh_unicode_is_space(0x180e));
}

static void test_lower(void) {
    const struct { uint32_t letter, want;
    } cases[] = { { 'A', 'a' },         { 'Z', 'z' },         { '@', '@' },      { '[', '[' },     { 'a', 'a' },
                  { 0xc4, 0xe4 },       { 0xd7, 0xd7 },       { 0xdf, 0xdf },    { 0x100, 0x101 }, { 0x101, 0x101 },
                  { 0x130, 'i' },       { 0x178, 0xff },      { 0x1c4, 0x1c6 },  { 0x1c5, 0x1c6 }, { 0x391, 0x3b1 },
                  { 0x410, 0x430 },     { 0x1e9e, 0xdf },     { 0x2126, 0x3c9 }, { 0x212a, 'k' },  { 0xff21, 0xff41 },
                  { 0x10400, 0x10428 }, { 0x1e900, 0x1e922 }, { 0x4e00, 0x4e00 } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++)
        CHECK_MSG(nigh_unicode_lower(cases[i].letter) == cases[i].want, "U+%04X", cases[i].letter);
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        uint32_t low = nigh_unicode_lower(c);
        if (low != c) CHECK_MSG(nigh_unicode_lower(low) == low, "U+%04X: lower case of lower case moves", c);
    }
}

static void test_bare(void) {
    uint32_t out[3];
    const struct { uint32_t letter; size_t count; uint32_t want[3];
    } cases[] = { { 'e', 1, { 'e' } },
                  { 0xe9, 1, { 'e' } },
                  { 0xdc, 1, { 'U' } },
                  { 0xf8, 1, { 0xf8 } },
                  { 0x301, 0, { 0 } },
                  { 0x93f, 0, { 0 } },
                  { 0x1ea5, 1, { 'a' } },
                  { 0x3ac, 1, { 0x3b1 } },
                  { 0x419, 1, { 0x418 } },
                  { 0xac00, 2, { 0x1100, 0x1161 } },
                  { 0xac01, 3, { 0x1100, 0x1161, 0x11a8 } },
                  { 0xd7a3, 3, { 0x1112, 0x1175, 0x11c2 } },
                  { 0x2126, 1, { 0x3a9 } },
                  { 0xf900, 1, { 0x8c48 } },
                  { 0x3067, 1, { 0x3066 } },
                  { 0x4e00, 1, { 0x4e00 } },
                  { 0x2f800, 1, { 0x4e3d } },
                  { 0x10ffff, 1, { 0x10ffff } } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        size_t n = nigh_unicode_bare(cases[i].letter, out);
        CHECK_MSG(n == cases[i].count && !memcmp(out, cases[i].want, n * sizeof *out), "U+%04X", cases[i].letter);
    }
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        size_t n = nigh_unicode_bare(c, out);
        for (size_t i = 0; i < n; i++) {
            uint32_t again[3];
            CHECK_MSG(nigh_unicode_bare(out[i], again) == 1 && again[0] == out[i],
                      "U+%04X is not bare after one step", c);
        }
    }
}

TEST_MAIN(T(test_category), T(test_category_counts), T(test_space), T(test_lower), T(test_bare))
