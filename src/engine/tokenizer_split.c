/* tokenizer_split.c - the splitting rules of byte-level BPE vocabularies, each a scanner written by hand.
 * The families publish their rules as regular expressions; a scanner here takes the alternatives in the same order and
 * looks ahead a fixed number of letters, so a piece costs time linear in its length and nothing backtracks. A rule may
 * have several stages: every stage cuts the pieces of the one before, and what a stage does not match between two
 * matches is a piece of its own.
 *     text      It's 2026.
 *     stage 1   It's |2|0|2|6|.         each number alone
 *     stage 2   It|'s| |2|0|2|6|.       words, with a space in front where there is one
 * Bytes that are no UTF-8 count as one letter each of no kind (like symbols). */
#include "engine/tokenizer_split.h"
#include "base/unicode.h"
#include "base/utf8.h"

enum { /* what a scanner wants to know of a letter */
    LETTER = 1, NUMBER = 2, SPACE = 4, NEWLINE = 8 /* \r or \n; also SPACE */, PUNCT = 16 /* \p{P} */,
    LOWER_NO = 32 /* Lu Lt Lm Lo M */, UPPER_NO = 64 /* Ll Lm Lo M */, MATH = 128 /* $+<=>^~| */, TICK = 256 /* ` */
};

typedef struct { uint32_t letter; uint16_t kind; uint8_t bytes; } look;

#define U (LETTER | LOWER_NO)
#define L (LETTER | UPPER_NO)
#define P PUNCT
#define M MATH
#define N NUMBER
#define S SPACE
#define B (SPACE | NEWLINE)
static const uint16_t ascii_kind[128] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, S, B, S, S, B, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    S, P, P, P, M, P, P, P, P, P, P, M, P, P, P, P, N, N, N, N, N, N, N, N, N, N, P, P, M, M, M, P,
    P, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, P, P, P, M, P,
    TICK, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, P, M, P, M, 0 };
#undef U
#undef L
#undef P
#undef M
#undef N
#undef S
#undef B

static uint16_t kind_of(uint32_t letter) {
    uint32_t mask = nigh_unicode_mask(letter);
    uint32_t both = NIGH_MARK | NIGH_BIT(NIGH_LM) | NIGH_BIT(NIGH_LO);
    unsigned kind = 0;
    if (mask & NIGH_LETTER) kind |= LETTER;
    if (mask & NIGH_NUMBER) kind |= NUMBER;
    if (mask & NIGH_PUNCTUATION) kind |= PUNCT;
    if (mask & (both | NIGH_BIT(NIGH_LU) | NIGH_BIT(NIGH_LT))) kind |= LOWER_NO;
    if (mask & (both | NIGH_BIT(NIGH_LL))) kind |= UPPER_NO;
    if (nigh_unicode_is_space(letter)) kind |= SPACE;
    return (uint16_t)kind;
}

static inline look look_at(const char *text, size_t at, size_t end) {
    unsigned char c = (unsigned char)text[at];
    look l = { c, 0, 1 };
    if (c < 128) { l.kind = ascii_kind[c]; return l; }
    size_t bytes = nigh_utf8_read((nigh_str){ text, end }, at, &l.letter);
    if (bytes == 0) return l;
    l.kind = kind_of(l.letter);
    l.bytes = (uint8_t)bytes;
    return l;
}

/* The first place at or after `at` whose letter is none of `kinds`. */
static inline size_t run_of(const char *text, size_t at, size_t end, unsigned kinds) {
    while (at < end) {
        look l = look_at(text, at, end);
        if (!(l.kind & kinds)) break;
        at += l.bytes;
    }
    return at;
}

/* The first place at or after `at` whose letter is one of `kinds`. */
static inline size_t run_until(const char *text, size_t at, size_t end, unsigned kinds) {
    while (at < end) {
        look l = look_at(text, at, end);
        if (l.kind & kinds) break;
        at += l.bytes;
    }
    return at;
}

/* Bytes of 's 't 're 've 'm 'll 'd at `at`, or 0. */
static size_t contraction(const char *text, size_t at, size_t end, bool any_case) {
    if (text[at] != '\'' || end - at < 2) return 0;
    unsigned char fold = any_case ? 0x20 : 0;
    unsigned char a = (unsigned char)text[at + 1] | fold, b = end - at > 2 ? (unsigned char)text[at + 2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ : all the white space at `at`, but for its last letter when a word follows and there is more than
 * one. */
static size_t spaces(const char *text, size_t at, size_t end) {
    size_t i = at, last = at;
    while (i < end) {
        look l = look_at(text, i, end);
        if (!(l.kind & SPACE)) break;
        last = i;
        i += l.bytes;
    }
    return i == end || last == at ? i : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t split_gpt2(const char *text, size_t at, size_t end) {
    size_t n = contraction(text, at, end, false);
    if (n) return at + n;
    size_t body = text[at] == ' ' && at + 1 < end ? at + 1 : at;
    look l = look_at(text, body, end);
    if (l.kind & LETTER) return run_of(text, body + l.bytes, end, LETTER);
    if (l.kind & NUMBER) return run_of(text, body + l.bytes, end, NUMBER);
    if (!(l.kind & SPACE)) return run_until(text, body + l.bytes, end, SPACE | LETTER | NUMBER);
    return spaces(text, at, end);
}

/* The part that the llama 3 and o200k rules share:  ?[^\s\p{L}\p{N}]+[tail]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t symbols_or_spaces(const char *text, size_t at, size_t end, bool slash_in_tail) {
    size_t body = text[at] == ' ' && at + 1 < end ? at + 1 : at;
    look l = look_at(text, body, end);
    if (!(l.kind & (SPACE | LETTER | NUMBER))) {
        size_t i = run_until(text, body + l.bytes, end, SPACE | LETTER | NUMBER);
        while (i < end && (text[i] == '\r' || text[i] == '\n' || (slash_in_tail && text[i] == '/'))) i++;
        return i;
    }
    size_t stop = run_of(text, at, end, SPACE), newline = stop;
    while (newline > at && text[newline - 1] != '\r' && text[newline - 1] != '\n') newline--;
    return newline > at ? newline : spaces(text, at, end);
}

static size_t numbers(const char *text, size_t at, size_t end, int most) {
    for (int i = 0; i < most && at < end; i++) {
        look l = look_at(text, at, end);
        if (!(l.kind & NUMBER)) break;
        at += l.bytes;
    }
    return at;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,most}| and the shared part */
static inline size_t split_llama3_like(const char *text, size_t at, size_t end, int most) {
    size_t n = contraction(text, at, end, true);
    if (n) return at + n;
    look l = look_at(text, at, end);
    if (l.kind & LETTER) return run_of(text, at + l.bytes, end, LETTER);
    if (l.kind & NUMBER) return numbers(text, at, end, most);
    if (!(l.kind & NEWLINE)) {
        size_t word = run_of(text, at + l.bytes, end, LETTER);
        if (word > at + l.bytes) return word;
    }
    return symbols_or_spaces(text, at, end, false);
}

static size_t split_llama3(const char *text, size_t at, size_t end) { return split_llama3_like(text, at, end, 3); }
static size_t split_qwen2(const char *text, size_t at, size_t end) { return split_llama3_like(text, at, end, 1); }

/* [Lu Lt Lm Lo M]*[Ll Lm Lo M]+ at `at`, else [Lu Lt Lm Lo M]+[Ll Lm Lo M]* (then *second); at when neither. The
 * first part is as long as it can be while the second keeps a letter: so it ends before the last letter that both
 * classes hold. */
static size_t cased_word(const char *text, size_t at, size_t end, bool *second) {
    size_t i = at, shared = SIZE_MAX;
    while (i < end) {
        look l = look_at(text, i, end);
        if (!(l.kind & LOWER_NO)) break;
        if (l.kind & UPPER_NO) shared = i + l.bytes;
        i += l.bytes;
    }
    size_t tail = run_of(text, i, end, UPPER_NO);
    *second = tail == i && shared == SIZE_MAX;
    if (tail > i) return tail;
    return shared != SIZE_MAX ? shared : i;
}

/* [^\r\n\p{L}\p{N}]? and a cased word, with its contraction where the rule has them; at when there is none. */
static size_t prefixed_word(const char *text, size_t at, size_t end, bool contractions) {
    look l = look_at(text, at, end);
    size_t word = at;
    bool second;
    if (!(l.kind & (NEWLINE | LETTER | NUMBER))) {
        size_t body = at + l.bytes;
        word = cased_word(text, body, end, &second);
        if (word == body) word = at;
        else if (second && (l.kind & UPPER_NO)) word = body;   /* a mark in front: the first form holds it alone */
    }
    if (word == at) word = cased_word(text, at, end, &second);
    if (contractions && word > at && word < end) word += contraction(text, word, end, true);
    return word;
}

static size_t split_o200k(const char *text, size_t at, size_t end) {
    size_t word = prefixed_word(text, at, end, true);
    if (word > at) return word;
    word = numbers(text, at, end, 3);
    return word > at ? word : symbols_or_spaces(text, at, end, true);
}

static size_t split_tekken(const char *text, size_t at, size_t end) {
    size_t word = prefixed_word(text, at, end, false);
    if (word > at) return word;
    word = numbers(text, at, end, 1);
    return word > at ? word : symbols_or_spaces(text, at, end, true);
}

/* ---- stages that cut out one class ---- */

static size_t runs(const char *text, size_t at, size_t end, unsigned kinds) {
    size_t i = run_of(text, at, end, kinds);
    return i > at ? i : run_until(text, at, end, kinds);
}

static size_t split_each_number(const char *text, size_t at, size_t end) { /* \p{N} */
    size_t i = numbers(text, at, end, 1);
    return i > at ? i : run_until(text, at, end, NUMBER);
}

static size_t split_number_runs(const char *text, size_t at, size_t end) { return runs(text, at, end, NUMBER); }
static size_t split_each_newline(const char *text, size_t at, size_t end) { /* [\r\n] */
    return text[at] == '\r' || text[at] == '\n' ? at + 1 : run_until(text, at, end, NEWLINE);
}
static size_t split_punct(const char *text, size_t at, size_t end) { return runs(text, at, end, PUNCT | MATH); }
static size_t split_punct_tick(const char *text, size_t at, size_t end) {
    return runs(text, at, end, PUNCT | MATH | TICK);
}

static size_t split_three_digits(const char *text, size_t at, size_t end) { /* [0-9][0-9][0-9] */
    size_t digits = 0;
    for (size_t i = at; i < end; i++) {
        digits = text[i] >= '0' && text[i] <= '9' ? digits + 1 : 0;
        if (digits == 3) return i - 2 > at ? i - 2 : i + 1;
    }
    return end;
}

/* ---- deepseek: classes that are lists of ranges ---- */

typedef bool class_fn(look l);

static bool is_letter(look l) { return l.kind & LETTER; }
static bool is_punct(look l) { return l.kind & PUNCT; }

static bool in_ranges(uint32_t letter, const uint32_t (*ranges)[2], size_t count) {
    for (size_t i = 0; i < count; i++) if (letter >= ranges[i][0] && letter <= ranges[i][1]) return true;
    return false;
}

/* Letters with case, of the blocks that the rule lists (it leaves out later Armenian, Georgian, Latin and other
 * additions). */
static bool is_cased(look l) {
    static const uint32_t blocks[][2] = { { 0x41, 0x55f },      { 0x10a0, 0x10c5 },   { 0x13a0, 0x13fd },
                                          { 0x1c90, 0x1cbf },   { 0x1d00, 0x2cff },   { 0xa640, 0xa78e },
                                          { 0xab70, 0xabbf },   { 0xfb00, 0xfb17 },   { 0xff21, 0xff5a },
                                          { 0x10400, 0x1044f }, { 0x104b0, 0x104fb }, { 0x10c80, 0x10cf2 },
                                          { 0x118a0, 0x118df }, { 0x1e900, 0x1e943 } };
    if (l.letter < 128) return l.kind & LETTER;
    if (!(l.kind & LETTER) || !in_ranges(l.letter, blocks, NIGH_COUNT(blocks))) return false;
    return nigh_unicode_mask(l.letter) & (NIGH_BIT(NIGH_LU) | NIGH_BIT(NIGH_LL) | NIGH_BIT(NIGH_LT));
}

static bool is_deepseek_punct(look l) { /* also holds ASCII letters, by its range :-~ */
    static const uint32_t ranges[][2] = { { '!', '/' },       { ':', '~' },       { 0xff01, 0xff0f },
                                          { 0xff1a, 0xff5e }, { 0x2018, 0x201f }, { 0x3000, 0x3002 } };
    return in_ranges(l.letter, ranges, NIGH_COUNT(ranges));
}

static bool is_east_asian(look l) {
    static const uint32_t ranges[][2] = { { 0x800, 0x9fa5 }, { 0xac00, 0xd7ff } };
    return in_ranges(l.letter, ranges, NIGH_COUNT(ranges));
}

static size_t class_run(const char *text, size_t at, size_t end, class_fn *in) {
    while (at < end) {
        look l = look_at(text, at, end);
        if (!in(l)) break;
        at += l.bytes;
    }
    return at;
}

/* \s?[class]+ : a run with one white space in front, or what lies before the next such. */
static size_t spaced_runs(const char *text, size_t at, size_t end, class_fn *in) {
    look l = look_at(text, at, end);
    size_t body = !in(l) && (l.kind & SPACE) ? at + l.bytes : at, stop = class_run(text, body, end, in);
    if (stop > body) return stop;
    size_t space = SIZE_MAX;
    for (size_t i = at; i < end;) {
        l = look_at(text, i, end);
        if (in(l)) return space != SIZE_MAX ? space : i;
        space = l.kind & SPACE ? i : SIZE_MAX;
        i += l.bytes;
    }
    return end;
}

static size_t split_spaced_letters(const char *text, size_t at, size_t end) {
    return spaced_runs(text, at, end, is_letter);
}
static size_t split_spaced_cased(const char *text, size_t at, size_t end) {
    return spaced_runs(text, at, end, is_cased);
}
static size_t split_spaced_punct(const char *text, size_t at, size_t end) {
    return spaced_runs(text, at, end, is_punct);
}
static size_t split_spaced_signs(const char *text, size_t at, size_t end) {
    return spaced_runs(text, at, end, is_deepseek_punct);
}

static size_t split_last_spaces(const char *text, size_t at, size_t end) { /* \s+$ */
    size_t word = at;   /* the end of the last letter that is no white space */
    for (size_t i = at; i < end;) {
        look l = look_at(text, i, end);
        i += l.bytes;
        if (!(l.kind & SPACE)) word = i;
    }
    return word > at ? word : end;
}

static size_t split_east_asian(const char *text, size_t at, size_t end) {
    size_t i = class_run(text, at, end, is_east_asian);
    if (i > at) return i;
    while (i < end) {
        look l = look_at(text, i, end);
        if (is_east_asian(l)) break;
        i += l.bytes;
    }
    return i;
}

/* ---- the table ---- */

/* A missing name means "default" too. */
#define DEFAULT_STAGES { split_punct, split_gpt2, split_number_runs, split_three_digits }
#define GPT2(n, clean) { n, { split_gpt2 }, false, false, clean }
#define DIGITS(n, clean) { n, { split_each_number, split_gpt2 }, false, false, clean }
#define LLAMA3(n) { n, { split_llama3 }, true, true, true }
#define QWEN2(n, clean) { n, { split_qwen2 }, false, false, clean }

static const nigh_split_rule rules[] = {
    { "default", DEFAULT_STAGES, false, false, true },
    GPT2("gpt-2", true),
    GPT2("phi-2", true),
    GPT2("mpt", true),
    GPT2("olmo", true),
    GPT2("gigachat", true),
    GPT2("a.x-4.0", true),
    GPT2("mellum", true),
    GPT2("exaone4", true),
    GPT2("jais", true),
    DIGITS("starcoder", true),
    DIGITS("refact", true),
    DIGITS("command-r", false),
    DIGITS("smollm", false),
    DIGITS("codeshell", true),
    DIGITS("exaone", true),
    DIGITS("minerva-7b", true),
    LLAMA3("llama-bpe"),
    LLAMA3("llama3"),
    LLAMA3("llama-v3"),
    LLAMA3("falcon3"),
    LLAMA3("falcon-h1"),
    LLAMA3("pixtral"),
    LLAMA3("lfm2"),
    { "dbrx", { split_llama3 }, false, false, true },
    { "smaug-bpe", { split_llama3 }, false, false, true },
    QWEN2("qwen2", false),
    QWEN2("deepseek-r1-qwen", false),
    QWEN2("stablelm2", true),
    QWEN2("megrez", true),
    { "falcon", { split_punct_tick, split_gpt2, split_three_digits }, false, false, true },
    { "deepseek-llm",
      { split_each_newline, split_spaced_cased, split_spaced_signs, split_last_spaces, split_east_asian,
        split_number_runs },
      false,
      false,
      false },
    { "deepseek-coder",
      { split_each_newline, split_spaced_letters, split_spaced_punct, split_east_asian, split_each_number },
      false,
      false,
      false },
    { "gpt-4o", { split_o200k }, false, false, false },
    { "llama4", { split_o200k }, false, false, false },
    { "tekken", { split_tekken }, true, true, false },
};

const nigh_split_rule *nigh_split_find(nigh_str name) {
    for (size_t i = 0; i < NIGH_COUNT(rules); i++) if (nigh_str_eq(nigh_str_of(rules[i].name), name)) return &rules[i];
    return NULL;
}

/* ---- the walk: limits[k] is the end of the piece that stage k-1 found, limits[0] the end of the text ---- */

void nigh_split_begin(nigh_split_walk *w, const nigh_split_rule *rule, const char *text, size_t at, size_t end) {
    *w = (nigh_split_walk){ .text = text, .rule = rule, .at = at };
    for (size_t k = 0; k <= NIGH_SPLIT_STAGES_MAX; k++) w->limits[k] = k == 0 ? end : at;
}

bool nigh_split_next(nigh_split_walk *w, size_t *begin, size_t *end) {
    size_t at = w->at, k = 0;
    if (at >= w->limits[0]) return false;
    for (; k < NIGH_SPLIT_STAGES_MAX && w->rule->stages[k]; k++) {
        if (w->limits[k + 1] > at) continue;
        w->limits[k + 1] = w->rule->stages[k](w->text, at, w->limits[k]);
        assert(w->limits[k + 1] > at && w->limits[k + 1] <= w->limits[k]);
    }
    *begin = at;
    *end = w->at = w->limits[k];
    return true;
}

