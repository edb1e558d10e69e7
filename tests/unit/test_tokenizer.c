/* test_tokenizer.c - tokenizers on vocabularies made for one question each: special text, streams, splitting rules,
 * merging against a plain reference, hostile vocabularies (groups K1-K5 of the threat list), hostile texts (K7),
 * empty memory. */
#include <time.h>

#include "base/utf8.h"
#include "engine/tokenizer_split.h"
#include "test.h"
#include "vocab_maker.h"

static vocab_maker maker;   /* large, so not on the stack; every case begins with a fresh one */

static vocab_maker *fresh(const char *model, const char *pre) {
    memset(&maker, 0, sizeof maker);
    maker.model = model;
    maker.pre = pre;
    return &maker;
}

static nigh_tokenizer *open_or_fail(const vocab_maker *v) {
    nigh_tokenizer *t;
    nigh_err err = { 0 };
    CHECK_MSG(vm_open(&t, v, &err) == NIGH_OK, "%s", err.text);
    return t;
}

static bool encodes_to(const nigh_tokenizer *t, nigh_str text, bool special, const int32_t *want, size_t count) {
    nigh_ids ids = NIGH_IDS(1 << 20);
    nigh_err err = { 0 };
    bool same = nigh_tokenizer_encode(t, text, (nigh_encode_opts){ .parse_special = special }, &ids, &err) == NIGH_OK
                && ids.len == count && (!count || !memcmp(ids.ptr, want, count * sizeof *want));
    if (!same) {
        fprintf(stderr, "    \"%.*s\":", (int)text.len, text.ptr);
        for (size_t i = 0; i < ids.len; i++) fprintf(stderr, " %d", ids.ptr[i]);
        fprintf(stderr, " %s\n", err.text);
    }
    nigh_ids_release(&ids);
    return same;
}
#define IDS(...) (const int32_t[]){ __VA_ARGS__ }, sizeof((const int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t)

/* ---- special tokens ---- */

static vocab_maker *special_vocabulary(void) {
    vocab_maker *v = fresh("gpt2", "gpt-2");
    vm_alphabet(v);
    vm_token(v, "ab", 1, 0);                    /* 256 */
    vm_merge(v, "a b");
    vm_token(v, "<|end_of_text|>", 3, 0);       /* 257 */
    vm_token(v, "<tool>", 4, 0);                /* 258 */
    vm_token(v, "<unk>", 2, 0);                 /* 259 */
    vm_token(v, "<tool><tool>", 4, 0);          /* 260 */
    v->ids[0].key = "tokenizer.ggml.eos_token_id";
    v->ids[0].id = 257;
    return v;
}

static void test_special_text(void) {
    nigh_tokenizer *t = open_or_fail(special_vocabulary());
    if (!t) return;
    CHECK(encodes_to(t, NIGH_STR("ab<unk>ab"), true, IDS(256, 259, 256)));
    CHECK(encodes_to(t, NIGH_STR("<unk>"), false,
                     IDS('<', 'u', 'n', 'k', '>'))); /* the id of a byte is the byte here */
    CHECK(encodes_to(t, NIGH_STR("ab<|end_of_text|>"), true, IDS(256, 257)));
    CHECK(encodes_to(t, NIGH_STR("<tool>ab"), false, IDS(258, 256)));
    CHECK(encodes_to(t, NIGH_STR("<tool><tool><tool>"), false, IDS(260, 258)));
    CHECK(nigh_tokenizer_is_end(t, 257) && nigh_tokenizer_is_control(t, 257) && nigh_tokenizer_eos(t) == 257);
    CHECK(!nigh_tokenizer_is_end(t, 258) && !nigh_tokenizer_is_control(t, 258) && !nigh_tokenizer_is_end(t, -1));
    nigh_ids ids = NIGH_IDS(100);
    CHECK(nigh_tokenizer_encode(t, NIGH_STR("<|end_of_text|><unk>"), (nigh_encode_opts){ 0 }, &ids, NULL) == NIGH_OK);
    for (size_t i = 0; i < ids.len; i++) CHECK(ids.ptr[i] != 257 && ids.ptr[i] != 259);
    nigh_ids_release(&ids);
    nigh_tokenizer_close(t);
}

/* The rule in its plain form: one token after the other, the longest first, each from the left through all plain
 * text. */
static size_t special_reference(nigh_str text, const nigh_str *tokens, size_t count, int32_t *owner) {
    size_t found = 0;
    for (size_t i = 0; i < text.len; i++) owner[i] = -1;
    for (size_t len = 16; len > 0; len--) {
        for (size_t at = 0; at + len <= text.len; at++) {
            for (size_t k = 0; k < count; k++) {
                bool free_here = tokens[k].len == len && !memcmp(tokens[k].ptr, text.ptr + at, len);
                for (size_t i = at; free_here && i < at + len; i++) free_here = owner[i] < 0;
                if (!free_here) continue;
                for (size_t i = at; i < at + len; i++) owner[i] = (int32_t)k;
                found++;
                at += len - 1;
                break;
            }
        }
    }
    return found;
}

static void test_special_overlap(void) {
    uint64_t seed = test_seed();
    for (int round = 0; round < 300; round++) {
        vocab_maker *v = fresh("gpt2", "gpt-2");
        char text[64];
        int32_t owner[64];
        vm_alphabet(v);
        vm_merge(v, "a b");
        vm_token(v, "ab", 1, 0);
        size_t first = v->token_count, len = 20 + test_rand(&seed) % 40;
        for (int i = 0; i < 12; i++) {
            char token[8];
            size_t n = 2 + test_rand(&seed) % 5;
            for (size_t k = 0; k < n; k++) token[k] = "xyz"[test_rand(&seed) % 3];
            bool known = false;
            for (size_t k = first; k < v->token_count; k++) known |= nigh_str_eq(v->tokens[k], (nigh_str){ token, n });
            if (!known) vm_token_bytes(v, token, n, 4, 0);
        }
        for (size_t i = 0; i < len; i++) text[i] = "xyz"[test_rand(&seed) % 3];
        nigh_tokenizer *t = open_or_fail(v);
        if (!t) return;
        special_reference((nigh_str){ text, len }, v->tokens + first, v->token_count - first, owner);
        int32_t want[64];
        size_t count = 0;
        for (size_t i = 0; i < len; count++) {
            want[count] = owner[i] < 0 ? (uint8_t)text[i] : (int32_t)first + owner[i];
            i += v->tokens[want[count]].len;
        }
        CHECK_MSG(encodes_to(t, (nigh_str){ text, len }, false, want, count), "round %d, seed %llu", round,
                  (unsigned long long)test_seed());
        nigh_tokenizer_close(t);
    }
}

/* ---- splitting ---- */

static void check_split(const char *rule, const char *text, const char *want) {
    char have[512];
    size_t n = 0, begin, end;
    const nigh_split_rule *r = nigh_split_find(nigh_str_of(rule));
    nigh_split_walk w;
    CHECK_MSG(r, "%s", rule);
    if (!r) return;
    nigh_split_begin(&w, r, text, 0, strlen(text));
    while (nigh_split_next(&w, &begin, &end)) {
        if (n) have[n++] = '|';
        memcpy(have + n, text + begin, end - begin);
        n += end - begin;
    }
    have[n] = '\0';
    CHECK_MSG(strcmp(have, want) == 0, "%s: %s, not %s", rule, have, want);
}

static void test_split(void) {
    const struct { const char *rule, *text, *want;
    } cases[] = { { "gpt-2", "I've  been 'told 123abc!? \n x", "I|'ve| | been| '|told| 123|abc|!?| \n| x" },
                  { "gpt-2", "a   b\n\nc  ", "a|  | b|\n|\n|c|  " },
                  { "gpt-2", "'S 's'll'x", "'|S| '|s|'ll|'|x" },
                  { "gpt-2", "na\xc3\xafve \xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xc2\xbd",
                    "na\xc3\xafve| \xe4\xbd\xa0\xe5\xa5\xbd|\xef\xbc\x8c|\xc2\xbd" },
                  { "starcoder", "abc 123 x", "abc| |1|2|3| x" },
                  { "llama-bpe", "I'VE 12345 x!!\n\n  y", "I|'VE| |123|45| x|!!\n\n| | y" },
                  { "llama-bpe", " \n \n  a\t\tb#c", " \n \n| | a|\t|\tb|#c" },
                  { "qwen2", "12 a(b", "1|2| a|(b" },
                  { "falcon", "a+b 12345", "a|+|b| |123|45" },
                  { "default", "x`y 1234", "x|`|y| |123|4" },
                  { "deepseek-coder", "a  b1\n.c", "a| | b|1|\n|.|c" },
                  { "deepseek-llm", "ab 12\xe4\xb8\x96 ", "ab| |12|\xe4\xb8\x96| " },
                  { "gpt-4o", "HelloWorld's ABCdef XML/HTTP 12345 a/\n",
                    "Hello|World's| ABCdef| XML|/HTTP| |123|45| a|/\n" },
                  { "tekken", "HelloWorld's 12", "Hello|World|'s| |1|2" },
                  { "tekken",
                    "\xcc\x81"
                    "AB",
                    "\xcc\x81|AB" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) check_split(cases[i].rule, cases[i].text, cases[i].want);
    CHECK(!nigh_split_find(NIGH_STR("gpt-9")) && !nigh_split_find(NIGH_STR("")));
}

/* Any bytes, any rule: pieces follow on each other and cover everything. */
static void test_split_covers(void) {
    static const char *const rules[] = { "default", "gpt-2",        "starcoder",      "llama-bpe", "qwen2",
                                         "falcon",  "deepseek-llm", "deepseek-coder", "gpt-4o",    "tekken" };
    static const char *const parts[] = { " ",
                                         "\n",
                                         "\r",
                                         "'",
                                         "s",
                                         "A",
                                         "1",
                                         "\xc3\xa9",
                                         "\xe4\xb8\x96",
                                         "\xff",
                                         "\xe2\x80",
                                         "\xcc\x81",
                                         "/",
                                         "\xe3\x80\x80",
                                         "!",
                                         "\xf0\x9f\x99\x82",
                                         "`",
                                         "+" };
    uint64_t seed = test_seed();
    for (size_t r = 0; r < NIGH_COUNT(rules); r++) {
        for (int round = 0; round < 500; round++) {
            char text[256];
            size_t len = 0, at = 0, begin, end;
            for (int i = 0; i < 40; i++) {
                const char *part = parts[test_rand(&seed) % NIGH_COUNT(parts)];
                memcpy(text + len, part, strlen(part));
                len += strlen(part);
            }
            nigh_split_walk w;
            nigh_split_begin(&w, nigh_split_find(nigh_str_of(rules[r])), text, 0, len);
            for (; nigh_split_next(&w, &begin, &end); at = end) CHECK(begin == at && end > begin && end <= len);
            CHECK_MSG(at == len, "%s", rules[r]);
        }
    }
}

/* ---- merging against a plain reference ---- */

static size_t merge_reference(const vocab_maker *v, nigh_str word, int32_t *ids) {
    size_t n = word.len;
    for (size_t i = 0; i < n; i++) ids[i] = (uint8_t)word.ptr[i]; /* letters a..d are their own ids in the alphabet */
    for (;;) {
        size_t best = SIZE_MAX, at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            char pair[64];
            nigh_str a = v->tokens[ids[i]], b = v->tokens[ids[i + 1]];
            size_t len = nigh_format(pair, sizeof pair, "%.*s %.*s", (int)a.len, a.ptr, (int)b.len, b.ptr);
            for (size_t m = 0; m < v->merge_count && m < best; m++)
                if (nigh_str_eq(v->merges[m], (nigh_str){ pair, len })) { best = m; at = i; }
        }
        if (best == SIZE_MAX) return n;
        char whole[64];
        size_t len = 0;
        for (size_t i = 0; i < v->merges[best].len; i++)
            if (v->merges[best].ptr[i] != ' ') whole[len++] = v->merges[best].ptr[i];
        for (size_t k = 0; k < v->token_count; k++)
            if (nigh_str_eq(v->tokens[k], (nigh_str){ whole, len })) ids[at] = (int32_t)k;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void test_merge(void) {
    uint64_t seed = test_seed();
    for (int round = 0; round < 60; round++) {
        vocab_maker *v = fresh("gpt2", "gpt-2");
        vm_alphabet(v);
        for (int i = 0; i < 30; i++) {  /* any two tokens that exist so far, in any order of ranks */
            size_t from = v->token_count - 256, pick = from + 4, a = test_rand(&seed) % pick,
                   b = test_rand(&seed) % pick;
            nigh_str x = a < 4 ? v->tokens['a' + a] : v->tokens[252 + a],
                     y = b < 4 ? v->tokens['a' + b] : v->tokens[252 + b];
            char merge[64], whole[64];
            if (x.len + y.len > 12) continue;
            nigh_format(merge, sizeof merge, "%.*s %.*s", (int)x.len, x.ptr, (int)y.len, y.ptr);
            nigh_format(whole, sizeof whole, "%.*s%.*s", (int)x.len, x.ptr, (int)y.len, y.ptr);
            bool known = false;
            for (size_t k = 0; k < v->token_count; k++) known |= nigh_str_eq(v->tokens[k], nigh_str_of(whole));
            if (!known) vm_token(v, whole, 1, 0);
            vm_merge(v, merge);
        }
        nigh_tokenizer *t = open_or_fail(v);
        if (!t) return;
        for (size_t len = 1; len < 130; len += 1 + len / 8) {
            char word[128];
            int32_t want[128];
            for (size_t i = 0; i < len; i++) word[i] = (char)('a' + test_rand(&seed) % 4);
            size_t count = merge_reference(v, (nigh_str){ word, len }, want);
            CHECK_MSG(encodes_to(t, (nigh_str){ word, len }, false, want, count), "round %d, %zu letters, seed %llu",
                      round, len, (unsigned long long)test_seed());
        }
        nigh_tokenizer_close(t);
    }
}

/* ---- SentencePiece ---- */

static vocab_maker *sentencepiece_vocabulary(void) {
    vocab_maker *v = fresh("llama", "default");
    vm_byte_tokens(v);                              /* 0..258; the token of byte b is 3 + b */
    vm_token(v, "\xe2\x96\x81", 1, -9);             /* 259 */
    vm_token(v, "a", 1, -8);                        /* 260 */
    vm_token(v, "b", 1, -8);                        /* 261 */
    vm_token(v, "ab", 1, -2);                       /* 262 */
    vm_token(v, "\xe2\x96\x81" "a", 1, -1);         /* 263 */
    vm_token(v, "\xe2\x96\x81\xe2\x96\x81", 1, -3); /* 264 */
    return v;
}

static void test_sentencepiece(void) {
    nigh_tokenizer *t = open_or_fail(sentencepiece_vocabulary());
    if (!t) return;
    CHECK(encodes_to(t, NIGH_STR("ab"), false, IDS(263, 261)));     /* " ab": the best score wins, not the longest */
    CHECK(encodes_to(t, NIGH_STR("bab"), false, IDS(259, 261, 262)));
    CHECK(encodes_to(t, NIGH_STR("b\xc3\xa9"), false, IDS(259, 261, 3 + 0xc3, 3 + 0xa9)));
    CHECK(encodes_to(t, NIGH_STR("b\xff"), false, IDS(259, 261, 3 + 0xff)));
    CHECK(encodes_to(t, NIGH_STR("b   a"), false, IDS(259, 261, 264, 263)));
    CHECK(encodes_to(t, NIGH_STR("</s>"), true, IDS(2)));
    CHECK(encodes_to(t, NIGH_STR("<0x41>"), false, IDS(259, 3 + '<', 3 + '0', 3 + 'x', 3 + '4', 3 + '1', 3 + '>')));
    nigh_buf text = NIGH_BUF(100);
    CHECK(nigh_tokenizer_decode(t, IDS(1, 263, 261, 259, 3 + 0xc3, 3 + 0xa9, 2), false, &text) == NIGH_OK);
    CHECK(nigh_str_eq(nigh_buf_str(&text), NIGH_STR("ab \xc3\xa9")));
    nigh_buf_release(&text);
    nigh_tokenizer_close(t);
}

/* ---- WordPiece ---- */

static vocab_maker *wordpiece_vocabulary(void) {
    static const char *const words[] = { "[PAD]",
                                         "[UNK]",
                                         "[CLS]",
                                         "[SEP]",
                                         "\xe2\x96\x81un",
                                         "aff",
                                         "able",
                                         "\xe2\x96\x81,",
                                         "\xe2\x96\x81h",
                                         "\xe2\x96\x81he",
                                         "llo",
                                         "a",
                                         "\xe2\x96\x81"
                                         "a" };
    vocab_maker *v = fresh("bert", NULL);
    for (size_t i = 0; i < NIGH_COUNT(words); i++) vm_token(v, words[i], i == 1 ? 2 : i < 4 ? 3 : 1, 0);
    v->ids[0].key = "tokenizer.ggml.unknown_token_id";
    v->ids[0].id = 1;
    v->ids[1].key = "tokenizer.ggml.cls_token_id";
    v->ids[1].id = 2;
    v->ids[2].key = "tokenizer.ggml.seperator_token_id";
    v->ids[2].id = 3;
    return v;
}

static void test_wordpiece(void) {
    nigh_tokenizer *t = open_or_fail(wordpiece_vocabulary());
    if (!t) return;
    CHECK(encodes_to(t, NIGH_STR("H\xc3\xa9llo, unaffable"), false, IDS(9, 10, 7, 4, 5, 6)));
    CHECK(encodes_to(t, NIGH_STR("he\xcc\x81llo hellox"), false, IDS(9, 10, 1)));
    CHECK(encodes_to(t, NIGH_STR("a\xff" "a \xc2\xad\x01"), false, IDS(12, 11)));
    nigh_ids ids = NIGH_IDS(10);
    CHECK(nigh_tokenizer_encode(t, NIGH_STR("he"), (nigh_encode_opts){ .add_special = true }, &ids, NULL) == NIGH_OK);
    CHECK(ids.len == 3 && ids.ptr[0] == 2 && ids.ptr[1] == 9 && ids.ptr[2] == 3);
    nigh_ids_release(&ids);
    nigh_tokenizer_close(t);
}

/* ---- streams ---- */

/* U+FFFD for each sequence that breaks off: the rule of the WHATWG, applied to a whole text. */
static void repair(nigh_str s, nigh_buf *out) {
    for (size_t at = 0; at < s.len;) {
        uint32_t letter;
        size_t n = nigh_utf8_read(s, at, &letter);
        if (n) {
            if (nigh_buf_add(out, nigh_str_slice(s, at, at + n)) != NIGH_OK) abort();
            at += n;
            continue;
        }
        size_t best = 1;
        for (size_t k = 2; k <= 3 && at + k <= s.len; k++) {    /* the longest beginning of any letter */
            char probe[4];
            memcpy(probe, s.ptr + at, k);
            for (unsigned fill = 0; fill < 64 * 64 && best < k; fill++) {
                probe[k] = (char)(0x80 | (fill & 63));
                if (k < 3) probe[3] = (char)(0x80 | fill >> 6);
                for (size_t len = k + 1; len <= 4; len++)
                    if (nigh_utf8_read((nigh_str){ probe, len }, 0, &letter) == len) best = k;
            }
        }
        if (nigh_buf_add(out, NIGH_STR("\xef\xbf\xbd")) != NIGH_OK) abort();
        at += best;
    }
}

/* Taking spaces away, as three passes over the whole text. */
static size_t clean_marks(char *s, size_t len) { /* " ?" -> "?" */
    size_t n = len ? 1 : 0;
    for (size_t i = 1; i < len; i++) {
        char c = s[i];
        if (s[i - 1] == ' ' && (c == '?' || c == '!' || c == '.' || c == ',')) n--;
        s[n++] = c;
    }
    return n;
}

static size_t clean_lone_apostrophes(char *s, size_t len) { /* "a ' b" -> "a'b" */
    size_t n = len ? 1 : 0;
    bool skipped = false;   /* the space behind an apostrophe is no space in front of the next */
    for (size_t i = 1; i < len; i++) {
        char c = s[i];
        if (c == '\'' && i + 1 < len && s[i - 1] == ' ' && !skipped && s[i + 1] == ' ') {
            s[n - 1] = c;
            skipped = true;
            i++;
            continue;
        }
        skipped = false;
        s[n++] = c;
    }
    return n;
}

static size_t clean_contractions(char *s, size_t len) { /* "it 's" -> "it's" */
    size_t n = len ? 1 : 0;
    for (size_t i = 1; i < len; i++) {
        char c = s[i], c1 = i + 1 < len ? s[i + 1] : '\0', c2 = i + 2 < len ? s[i + 2] : '\0';
        if (c == '\'' && s[i - 1] == ' ' && (c1 == 's' || c1 == 'm' || ((c1 == 'r' || c1 == 'v') && c2 == 'e'))) n--;
        s[n++] = c;
    }
    return n;
}

static void check_stream(const nigh_tokenizer *t, const int32_t *ids, size_t count, bool clean) {
    nigh_buf whole = NIGH_BUF(1 << 16), want = NIGH_BUF(1 << 16), have = NIGH_BUF(1 << 16);
    nigh_detok d = { .clean = clean };
    for (size_t i = 0; i < count; i++) CHECK(nigh_tokenizer_piece(t, ids[i], true, &whole) == NIGH_OK);
    if (clean) {
        whole.len =
            clean_contractions(whole.ptr, clean_lone_apostrophes(whole.ptr, clean_marks(whole.ptr, whole.len)));
        CHECK(nigh_tokenizer_decode(t, ids, count, true, &have) == NIGH_OK);
        CHECK(nigh_str_eq(nigh_buf_str(&whole), nigh_buf_str(&have)));
        have.len = 0;
    }
    repair(nigh_buf_str(&whole), &want);
    for (size_t i = 0; i < count; i++) {
        CHECK(nigh_detok_push(&d, t, ids[i], true, &have) == NIGH_OK);
        CHECK(nigh_utf8_check(nigh_buf_str(&have)) == SIZE_MAX);
        CHECK(nigh_str_starts(nigh_buf_str(&want), nigh_buf_str(&have)));   /* what was shown stays true */
    }
    CHECK(nigh_detok_flush(&d, &have) == NIGH_OK);
    CHECK_MSG(nigh_str_eq(nigh_buf_str(&want), nigh_buf_str(&have)), "\"%.*s\", not \"%.*s\"", (int)have.len,
              have.ptr, (int)want.len, want.ptr);
    nigh_buf_release(&whole);
    nigh_buf_release(&want);
    nigh_buf_release(&have);
}

/* One token a byte: every text can be cut anywhere. Bytes that matter for spaces and for UTF-8 come often. */
static void test_stream(void) {
    static const uint8_t common[] = { ' ',  ' ',  ' ',  '\'', '\'', 'r',  'v',  'e',  's',  'm',  '.',  ',',  'x',
                                      0xe2, 0x96, 0x81, 0xf0, 0x9f, 0x99, 0xc3, 0xa9, 0xed, 0xa0, 0xff, 0xf4, 0x90 };
    uint64_t seed = test_seed();
    vocab_maker *v = fresh("gpt2", "gpt-2");
    vm_alphabet(v);
    vm_token(v, "ab", 1, 0);
    vm_merge(v, "a b");
    nigh_tokenizer *t = open_or_fail(v);
    for (int round = 0; t && round < 4000; round++) {
        int32_t ids[24];
        size_t count = 1 + test_rand(&seed) % NIGH_COUNT(ids);
        for (size_t i = 0; i < count; i++) ids[i] = common[test_rand(&seed) % NIGH_COUNT(common)];
        check_stream(t, ids, count, round % 2);
    }
    nigh_tokenizer_close(t);
}

/* Several bytes a token, so that pieces end inside letters and inside " 're". */
static void test_stream_pieces(void) {
    static const char *const pieces[] = { " ", "  ", "'", " '", "r", "re", " 're", "' ", ".", " .", "x", "\xc4\xa0" };
    uint64_t seed = test_seed() + 1;
    vocab_maker *v = fresh("gpt2", "gpt-2");
    vm_alphabet(v);
    vm_token(v, "ab", 1, 0);
    vm_merge(v, "a b");
    for (size_t i = 0; i < NIGH_COUNT(pieces); i++) vm_token(v, pieces[i], 4, 0);
    nigh_tokenizer *t = open_or_fail(v);
    for (int round = 0; t && round < 4000; round++) {
        int32_t ids[12];
        size_t count = 1 + test_rand(&seed) % NIGH_COUNT(ids);
        for (size_t i = 0; i < count; i++) ids[i] = (int32_t)(257 + test_rand(&seed) % NIGH_COUNT(pieces));
        check_stream(t, ids, count, round % 2);
    }
    nigh_tokenizer_close(t);
}

static void test_stream_holds_back(void) {
    vocab_maker *v = fresh("gpt2", "gpt-2");
    vm_alphabet(v);
    vm_token(v, "ab", 1, 0);
    vm_merge(v, "a b");
    nigh_tokenizer *t = open_or_fail(v);
    const struct { int32_t id; size_t shown;
    } steps[] = { { 'a', 1 },  { 0xf0, 1 }, { 0x9f, 1 }, { 0x99, 1 },  { 0x82, 5 },
                  { 0xe2, 5 }, { 0x82, 5 }, { 'b', 9 },  { 0xff, 12 }, { 0xc3, 12 } };
    nigh_buf out = NIGH_BUF(100);
    nigh_detok d = { 0 };
    for (size_t i = 0; t && i < NIGH_COUNT(steps); i++) {
        CHECK(nigh_detok_push(&d, t, steps[i].id, false, &out) == NIGH_OK);
        CHECK_MSG(out.len == steps[i].shown, "step %zu: %zu bytes", i, out.len);
    }
    CHECK(nigh_detok_flush(&d, &out) == NIGH_OK);
    CHECK(nigh_str_eq(nigh_buf_str(&out), NIGH_STR("a\xf0\x9f\x99\x82\xef\xbf\xbd" "b\xef\xbf\xbd\xef\xbf\xbd")));
    nigh_buf_release(&out);
    nigh_tokenizer_close(t);
}

/* ---- hostile vocabularies ---- */

static void refused(const vocab_maker *v, nigh_status want, const char *names, const char *what) {
    nigh_tokenizer *t;
    nigh_err err = { 0 };
    size_t live = nigh_alloc_live_bytes();
    nigh_status st = vm_open(&t, v, &err);
    CHECK_MSG(st == want && !t, "%s: status %d, %s", what, st, err.text);
    CHECK_MSG(strstr(err.text, names), "%s: \"%s\" does not name %s", what, err.text, names);
    nigh_tokenizer_close(t);
    CHECK_MSG(nigh_alloc_live_bytes() == live, "%s: memory is lost", what);
}

static void test_k1_lengths(void) {
    vocab_maker *v = sentencepiece_vocabulary();
    v->score_count--;
    refused(v, NIGH_EDATA, "scores", "a score too few");
    v = sentencepiece_vocabulary();
    v->type_count -= 3;
    refused(v, NIGH_EDATA, "token_type", "types too few");
    v = sentencepiece_vocabulary();
    v->token_count = 0;
    refused(v, NIGH_EDATA, "tokens", "no tokens");
    v = sentencepiece_vocabulary();
    v->types[5] = 9;
    refused(v, NIGH_EDATA, "token 5", "unknown type");
    v = sentencepiece_vocabulary();
    v->scores[260] = __builtin_nanf("");
    refused(v, NIGH_EDATA, "score of token 260", "NaN score");
    v = fresh("llama", NULL);   /* one token, nothing else: harmless, and so are empty texts */
    vm_token(v, "", 1, 0);
    nigh_tokenizer *t = open_or_fail(v);
    if (t) CHECK(encodes_to(t, NIGH_STR("abc"), true, NULL, 0));
    nigh_tokenizer_close(t);
    v = fresh("gpt2", NULL);
    for (int i = 0; i < 4000; i++) vm_token(v, "", i % 6 + 1, 0);
    vm_token(v, "a", 1, 0);
    vm_token(v, "aa", 1, 0);
    vm_merge(v, "a a");
    t = open_or_fail(v);
    if (t) CHECK(encodes_to(t, NIGH_STR("aaab"), false, IDS(4001, 4000)));  /* a byte without a token is left out */
    nigh_tokenizer_close(t);
}

static void test_k2_texts(void) {
    vocab_maker *v = fresh("gpt2", "gpt-2");
    vm_alphabet(v);
    vm_token(v, "ab", 1, 0);            /* 256 */
    vm_token(v, "ab", 1, 0);            /* 257: the later counts */
    vm_token(v, "ab", 3, 0);            /* 258: but never a control token */
    vm_token_bytes(v, "\xff\xfe", 2, 1, 0);
    vm_token_bytes(v, "x\0y", 3, 1, 0);
    vm_token_bytes(v, "\0", 1, 3, 0);
    vm_merge(v, "a b");
    nigh_tokenizer *t = open_or_fail(v);
    if (t) {
        CHECK(encodes_to(t, NIGH_STR("ab"), false, IDS(257)));
        CHECK(encodes_to(t, NIGH_STR("ab"), true, IDS(258)));
        CHECK(encodes_to(t, NIGH_STR("x\0y"), false, IDS('x', 0, 'y')));
        CHECK(encodes_to(t, NIGH_STR("x\0y"), true, IDS('x', 261, 'y')));
    }
    nigh_tokenizer_close(t);
    v = fresh("gpt2", "gpt-2");
    vm_alphabet(v);
    static char long_text[1100];
    memset(long_text, 'a', sizeof long_text);
    vm_token_bytes(v, long_text, 1025, 1, 0);
    vm_token(v, "ab", 1, 0);
    vm_merge(v, "a b");
    refused(v, NIGH_EDATA, "token 256", "a token of 1025 bytes");
    v->tokens[256].len = 257;
    v->types[256] = 4;
    refused(v, NIGH_EDATA, "token 256", "a special token of 257 bytes");
}

static void test_k3_byte_tokens(void) {
    static const char *const bad[] = { "<0x-1>", "<0xGG>", "<0x1>", "<0x100>", "0x41", "<0x41", "", "<0X41>" };
    for (size_t i = 0; i < NIGH_COUNT(bad); i++) {
        vocab_maker *v = sentencepiece_vocabulary();
        vm_token(v, bad[i], 6, 0);
        refused(v, NIGH_EDATA, "token 265 is a byte token", bad[i]);
    }
    vocab_maker *v = sentencepiece_vocabulary();
    v->types[3 + 0xc3] = 5;
    v->tokens[3 + 0xc3] = NIGH_STR("gone");     /* one of 256 is missing: the unknown token */
    nigh_tokenizer *t = open_or_fail(v);
    if (t) CHECK(encodes_to(t, NIGH_STR("b\xc3\xa9"), false, IDS(259, 261, 0, 3 + 0xa9)));
    nigh_tokenizer_close(t);
}

static void test_k4_merges(void) {
    static const char *const bad[] = { "a",    "a b c", "a q\xe4\xb8\x96", "", " ", "  ", "a ", " b", "zz a",
                                       "a zz" };
    for (size_t i = 0; i < NIGH_COUNT(bad); i++) {
        vocab_maker *v = special_vocabulary();
        vm_merge(v, bad[i]);
        refused(v, NIGH_EDATA, "merge 1", bad[i]);
    }
    vocab_maker *v = special_vocabulary();
    v->merge_count = 0;
    refused(v, NIGH_EDATA, "merges", "no merges");
    v = special_vocabulary();
    for (int i = 0; i < 3000; i++) vm_merge(v, "a b");      /* the same again and again */
    vm_merge(v, "b a");     /* no token: harmless, never taken */
    nigh_tokenizer *t = open_or_fail(v);
    if (t) CHECK(encodes_to(t, NIGH_STR("abab"), false, IDS(256, 256)));
    nigh_tokenizer_close(t);
}

static void test_k5_ids(void) {
    static const char *const keys[] = { "tokenizer.ggml.bos_token_id",     "tokenizer.ggml.eos_token_id",
                                        "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.padding_token_id",
                                        "tokenizer.ggml.eot_token_id",     "tokenizer.ggml.seperator_token_id" };
    for (size_t i = 0; i < NIGH_COUNT(keys); i++) {
        const uint32_t bad[] = { 261, 262, 1u << 31, UINT32_MAX - 1 };
        for (size_t k = 0; k < NIGH_COUNT(bad); k++) {
            vocab_maker *v = special_vocabulary();
            v->ids[0].key = keys[i];
            v->ids[0].id = bad[k];
            refused(v, NIGH_EDATA, keys[i], keys[i]);
        }
        vocab_maker *v = special_vocabulary();
        v->ids[0].key = keys[i];
        v->ids[0].id = UINT32_MAX;      /* written so by converters: none */
        nigh_tokenizer *t = open_or_fail(v);
        if (t) CHECK(nigh_tokenizer_bos(t) == -1 && nigh_tokenizer_eos(t) == -1);
        nigh_tokenizer_close(t);
    }
}

static void test_unknown_kinds(void) {
    vocab_maker *v = special_vocabulary();
    v->pre = "gpt-9";
    refused(v, NIGH_ENOSUP, "gpt-9", "unknown rule");
    v->pre = "gpt-2";
    v->model = "t5";
    refused(v, NIGH_ENOSUP, "t5", "unknown model");
    v->model = NULL;
    refused(v, NIGH_EDATA, "tokenizer.ggml.model", "no model");
    v = special_vocabulary();
    v->pre = NULL;
    nigh_tokenizer *t = open_or_fail(v);    /* no rule named: the default one */
    if (t) CHECK(encodes_to(t, NIGH_STR("ab"), false, IDS(256)));
    nigh_tokenizer_close(t);
}

/* ---- hostile texts: as much time as their length, and a little more ---- */

enum { BIG = 1 << 20, USUAL = 1 << 17 };

static double encode_seconds(const nigh_tokenizer *t, const char *unit, size_t unit_len, size_t bytes) {
    static char text[BIG];
    nigh_ids ids = NIGH_IDS(4 * BIG);
    for (size_t i = 0; i < bytes; i++) text[i] = unit[i % unit_len];
    clock_t begin = clock();
    CHECK(nigh_tokenizer_encode(t, (nigh_str){ text, bytes }, (nigh_encode_opts){ true, true }, &ids, NULL)
          == NIGH_OK);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    nigh_ids_release(&ids);
    return seconds;
}

/* NIGH_TIMES=1 prints what it takes and reads 1 MiB of each text, not 128 KiB. */
static void check_time(const nigh_tokenizer *t, const char *what, const char *unit, size_t unit_len) {
    bool print = getenv("NIGH_TIMES");
    double seconds = encode_seconds(t, unit, unit_len, print ? BIG : USUAL);
    if (print) printf("  %-40s %.3f s\n", what, seconds);
    CHECK_MSG(seconds < 10, "%s: %.2f s", what, seconds);   /* 0.03 as released; sanitizers have room */
}

static void check_times(const nigh_tokenizer *t, const char *kind) {
    static const struct { const char *what, *unit; size_t len;
    } texts[] = { { "one letter", "a", 1 },
                  { "two letters", "ab", 2 },
                  { "combining marks", "\xcc\x81", 2 },
                  { "lone surrogates", "\xed\xa0\x80", 3 },
                  { "overlong", "\xc0\x80", 2 },
                  { "BOM", "\xef\xbb\xbf", 3 },
                  { "line separators", "\xe2\x80\xa8", 3 },
                  { "zero-width joiners", "\xe2\x80\x8d", 3 },
                  { "right-to-left marks", "\xe2\x80\x8f", 3 },
                  { "emoji", "\xf0\x9f\x99\x82", 4 },
                  { "spaces", " ", 1 },
                  { "line feeds", "\n", 1 },
                  { "spaces and line feeds", " \n ", 3 },
                  { "apostrophes", "'", 1 },
                  { "digits", "1", 1 },
                  { "NUL", "\0", 1 },
                  { "bytes 255", "\xff", 1 },
                  { "Chinese", "\xe4\xb8\x96", 3 },
                  { "begun specials", "<|end_of_tex", 12 },
                  { "specials", "<tool>", 6 },
                  { "capitals and a mark", "A\xcc\x81", 3 } };
    for (size_t i = 0; i < NIGH_COUNT(texts); i++) {
        char what[64];
        snprintf(what, sizeof what, "%s %s", kind, texts[i].what);
        check_time(t, what, texts[i].unit, texts[i].len);
    }
}

static void test_k7_bpe(void) {
    static const char *const rules[] = { "gpt-2", "llama-bpe", "deepseek-llm", "falcon", "gpt-4o" };
    for (size_t i = 0; i < NIGH_COUNT(rules); i++) {
        vocab_maker *v = special_vocabulary();
        v->pre = rules[i];
        char a[300], merge[620];
        for (size_t n = 2; n <= 128; n *= 2) {  /* aa, aaaa, ...: every level merges half of what is left */
            memset(a, 'a', n);
            vm_token_bytes(v, a, n, 1, 0);
            snprintf(merge, sizeof merge, "%.*s %.*s", (int)(n / 2), a, (int)(n / 2), a);
            vm_merge(v, merge);
        }
        nigh_tokenizer *t = open_or_fail(v);
        if (t) check_times(t, rules[i]);
        double few = i == 0 && t ? encode_seconds(t, "a", 1, BIG / 16) : 1,
               many = i == 0 && t ? encode_seconds(t, "a", 1, BIG) : 1;
        CHECK_MSG(many < 60 * few + 0.2, "one letter: %.3f s for 64 KiB, %.3f s for 1 MiB", few,
                  many); /* linear: 16 */
        nigh_tokenizer_close(t);
    }
}

static void test_k7_others(void) {
    vocab_maker *v = sentencepiece_vocabulary();
    vm_token(v, "aa", 1, -3);
    vm_token(v, "aaaa", 1, -4);
    nigh_tokenizer *t = open_or_fail(v);
    if (t) check_times(t, "SentencePiece");
    nigh_tokenizer_close(t);
    v = sentencepiece_vocabulary();
    vm_token(v, "a\xe2\x96\x81" "a", 1, -3);    /* a space inside: the text is one word */
    t = open_or_fail(v);
    if (t) check_times(t, "SentencePiece, one word");
    nigh_tokenizer_close(t);
    t = open_or_fail(wordpiece_vocabulary());
    if (t) check_times(t, "WordPiece");
    nigh_tokenizer_close(t);
}

/* ---- empty memory, limits ---- */

static nigh_status use_all(const nigh_gguf *g) {
    static const nigh_str text = {
        "ab <tool>b  a\xc3\xa9 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa</s>", 90
    };
    nigh_tokenizer *t;
    nigh_ids ids = NIGH_IDS(1000);
    nigh_buf out = NIGH_BUF(10000);
    nigh_detok d = { .clean = true };
    nigh_status st = nigh_tokenizer_open(&t, g, NULL);
    if (st == NIGH_OK) st = nigh_tokenizer_encode(t, text, (nigh_encode_opts){ true, true }, &ids, NULL);
    if (st == NIGH_OK) st = nigh_tokenizer_decode(t, ids.ptr, ids.len, true, &out);
    for (size_t i = 0; st == NIGH_OK && i < ids.len; i++) st = nigh_detok_push(&d, t, ids.ptr[i], true, &out);
    nigh_ids_release(&ids);
    nigh_buf_release(&out);
    nigh_tokenizer_close(t);
    return st;
}

static void test_empty_memory(void) {
    vocab_maker *(*const makers[])(void) = { special_vocabulary, sentencepiece_vocabulary, wordpiece_vocabulary };
    for (size_t i = 0; i < NIGH_COUNT(makers); i++) {
        nigh_buf file = NIGH_BUF(1 << 24);
        nigh_gguf g;
        CHECK(vm_write(makers[i](), &file, NULL) == NIGH_OK
              && nigh_gguf_parse(&g, nigh_buf_str(&file), NULL) == NIGH_OK);
        size_t live = nigh_alloc_live_bytes();
        uint64_t nth = 1;
        for (;; nth++) {
            nigh_alloc_fail_at(nth, nth % 2);
            nigh_status st = use_all(&g);
            nigh_alloc_fail_at(0, false);
            CHECK_MSG(nigh_alloc_live_bytes() == live, "allocation %d fails: memory is lost", (int)nth);
            if (st == NIGH_OK || nth > 1000) break;
            CHECK_MSG(st == NIGH_ENOMEM, "allocation %d fails: %d", (int)nth, st);
        }
        CHECK(nth > 10 && nth < 1000);
        nigh_gguf_release(&g);
        nigh_buf_release(&file);
    }
}

static void test_limits(void) {
    nigh_tokenizer *t = open_or_fail(special_vocabulary());
    if (!t) return;
    nigh_ids ids = NIGH_IDS(3);
    nigh_err err = { 0 };
    CHECK(nigh_ids_add(&ids, 7) == NIGH_OK);
    CHECK(nigh_tokenizer_encode(t, NIGH_STR("xyz"), (nigh_encode_opts){ 0 }, &ids, &err) == NIGH_ERANGE);
    CHECK(ids.len == 1 && ids.ptr[0] == 7 && strstr(err.text, "3 tokens"));
    CHECK(nigh_tokenizer_encode(t, NIGH_STR("xy"), (nigh_encode_opts){ 0 }, &ids, &err) == NIGH_OK && ids.len == 3);
    nigh_buf out = NIGH_BUF(100);
    CHECK(nigh_tokenizer_decode(t, IDS(-1, 1 << 30, 'x', INT32_MIN), true, &out) == NIGH_OK && out.len == 1);
    CHECK(nigh_tokenizer_text(t, 9999).len == 0 && nigh_tokenizer_text(t, -1).len == 0);
    nigh_ids_release(&ids);
    nigh_buf_release(&out);
    nigh_tokenizer_close(t);
}

TEST_MAIN(T(test_special_text), T(test_special_overlap), T(test_split), T(test_split_covers), T(test_merge),
          T(test_sentencepiece), T(test_wordpiece), T(test_stream), T(test_stream_pieces), T(test_stream_holds_back),
          T(test_k1_lengths), T(test_k2_texts), T(test_k3_byte_tokens), T(test_k4_merges), T(test_k5_ids),
          T(test_unknown_kinds), T(test_k7_bpe), T(test_k7_others), T(test_empty_memory), T(test_limits))
