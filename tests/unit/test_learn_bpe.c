/* test_learn_bpe.c - cutting words, learning merges, encoding. */
#define _GNU_SOURCE
#include "learn/bpe.h"
#include "learn_made.h"

static void test_words(void) {
    static const struct { const char *text, *cut; } cases[] = { /* cut: the words with | between */
        { "Hello world", "Hello| world" }, { "it's they're I'LL", "it|'s| they|'re| I|'|LL" },
            { "a  b", "a| | b" }, { "a   b", "a|  | b" },
        { "end  ", "end|  " }, { "x\n\ny", "x|\n|\n|y" }, { "x\ny", "x|\n|y" }, { " \n x", " \n| x" },
            { "12abc 34", "12|abc| 34" },
        { "Wait...what?!", "Wait|...|what|?!" },
            { "\xc3\xa9t\xc3\xa9 \xe2\x80\x94 \xe2\x80\x9cyes\xe2\x80\x9d",
            "\xc3\xa9t\xc3\xa9| \xe2\x80\x94| \xe2\x80\x9c|yes|\xe2\x80\x9d" },
        { "'tis", "'t|is" }, { "''s", "''|s" }, { "x\xc2\xa0y", "x|\xc2\xa0|y" },
            { "\xc2\xbd cup", "\xc2\xbd| cup" }, { "a\tb", "a|\t|b" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        char got[256] = "";
        nigh_str s = nigh_str_of(cases[i].text);
        for (size_t at = 0, end; at < s.len; at = end) {
            end = nigh_bpe_word_end(s, at);
            if (at) made_append(got, sizeof got, "|");
            snprintf(got + strlen(got), sizeof got - strlen(got), "%.*s", (int)(end - at), s.ptr + at);
        }
        CHECK_MSG(strcmp(got, cases[i].cut) == 0, "'%s' cut as '%s'", cases[i].text, got);
    }
}

static void test_merges(void) {
    nigh_bpe *b = nigh_bpe_new();
    uint16_t ids[64];
    size_t len = 0;
    CHECK(nigh_bpe_add(b, NIGH_STR("abab abab cab xy"), 1) == NIGH_OK);
    CHECK(nigh_bpe_add(b, NIGH_STR("xyxyxy"), 0) == NIGH_OK);           /* held out: not counted, but encoded */
    CHECK(nigh_bpe_learn(b, 4096) == NIGH_OK);
    /* ab 5; then (ab)(ab) 2; then " " + abab stands once (the first word has no space): no pair stands twice.
     * */
    CHECK(nigh_bpe_merge_count(b) == 2 && nigh_bpe_count(b) == NIGH_BPE_BASE + 2);
    uint16_t a = NIGH_BPE_SPECIALS + 'a', bb = NIGH_BPE_SPECIALS + 'b';
    CHECK(nigh_bpe_merges(b)[0][0] == a && nigh_bpe_merges(b)[0][1] == bb);
    CHECK(nigh_bpe_merges(b)[1][0] == NIGH_BPE_BASE && nigh_bpe_merges(b)[1][1] == NIGH_BPE_BASE);
    nigh_bpe_encode(b, NIGH_STR("abab cab"), ids, &len);
    const uint16_t want[] = { NIGH_BPE_BASE + 1, NIGH_BPE_SPECIALS + ' ', NIGH_BPE_SPECIALS + 'c',
        NIGH_BPE_BASE };
    CHECK(len == 4 && memcmp(ids, want, sizeof want) == 0);
    nigh_bpe_free(b);
    CHECK(nigh_alloc_live_bytes() == 0);
}

/* Another text with the merges of the first: words of both have the same ids. */
static void test_taken_merges(void) {
    nigh_bpe *a = nigh_bpe_new(), *b = nigh_bpe_new();
    uint16_t from_a[16], from_b[16];
    size_t len_a = 0, len_b = 0;
    CHECK(nigh_bpe_add(a, NIGH_STR("abab abab cab xy"), 1) == NIGH_OK && nigh_bpe_learn(a, 4096) == NIGH_OK);
    CHECK(nigh_bpe_take(b, nigh_bpe_merges(a), nigh_bpe_merge_count(a)) == NIGH_OK);
    CHECK(nigh_bpe_add(b, NIGH_STR("zz zz zz cab abab"), 1) == NIGH_OK && nigh_bpe_learn(b, 4096) == NIGH_OK);
    CHECK(nigh_bpe_merge_count(b) == nigh_bpe_merge_count(a));
    nigh_bpe_encode(a, NIGH_STR(" abab cab"), from_a, &len_a);
    nigh_bpe_encode(b, NIGH_STR(" cab abab"), from_b, &len_b);
    CHECK(len_a == len_b && from_a[len_a - 1] == from_b[2] && from_a[1] == from_b[len_b - 1]);
    nigh_bpe_free(a);
    nigh_bpe_free(b);
    CHECK(nigh_alloc_live_bytes() == 0);
}

/* Learning the slow way: count all pairs again for every merge. */
static void test_equals_plain(void) {
    enum { MERGES = 60 };
    uint64_t seed = test_seed();
    char *text = malloc(1 << 16);
    uint16_t *ids = malloc(sizeof *ids << 16), *words = malloc(sizeof *words << 16),
        (*merges)[2] = calloc(MERGES, sizeof *merges);
    static uint32_t counts[400][400];
    size_t n = 0, word = 0;
    made_document(text, 40, &seed);
    nigh_str s = nigh_str_of(text);
    for (size_t at = 0, end; at < s.len; at = end, word++)
        for (end = nigh_bpe_word_end(s, at); at < end; at++) {
            ids[n] = (uint16_t)(NIGH_BPE_SPECIALS + (uint8_t)text[at]);
            words[n++] = (uint16_t)word;
        }
    for (size_t m = 0; m < MERGES; m++) {
        memset(counts, 0, sizeof counts);
        uint32_t most = 0;
        for (size_t i = 1; i < n; i++) if (words[i] == words[i - 1]) counts[ids[i - 1]][ids[i]]++;
        for (uint16_t l = 0; l < 400; l++) for (uint16_t r = 0; r < 400; r++) if (counts[l][r] > most)
            most = counts[l][r], merges[m][0] = l, merges[m][1] = r;
        size_t out = 0;
        for (size_t i = 0; i < n; out++) {
            bool here = i + 1 < n && words[i] == words[i + 1] && ids[i] == merges[m][0]
                && ids[i + 1] == merges[m][1];
            words[out] = words[i], ids[out] = here ? (uint16_t)(NIGH_BPE_BASE + m) : ids[i];
            i += here ? 2 : 1;
        }
        n = out;
    }
    nigh_bpe *b = nigh_bpe_new();
    CHECK(nigh_bpe_add(b, s, 1) == NIGH_OK && nigh_bpe_learn(b, NIGH_BPE_BASE + MERGES) == NIGH_OK);
    CHECK(nigh_bpe_merge_count(b) == MERGES);
    for (size_t m = 0; m < MERGES; m++)
        CHECK_MSG(memcmp(nigh_bpe_merges(b)[m], merges[m], sizeof *merges) == 0, "merge %zu (seed %llu)", m,
            (unsigned long long)test_seed());
    uint16_t *got = malloc(s.len * sizeof *got);
    size_t len = 0;
    nigh_bpe_encode(b, s, got, &len);
    CHECK(len == n && memcmp(got, ids, n * sizeof *ids) == 0);
    nigh_bpe_free(b);
    free(text); free(ids); free(words); free(merges); free(got);
}

TEST_MAIN(T(test_words), T(test_merges), T(test_taken_merges), T(test_equals_plain))
