/* test_generate.c - a generation over a tokenizer of the test's own: a table of pieces of text. So the pieces can be
 * cut anywhere, also inside a letter. (The real tokenizers are under test_cli_run and their own tests.)
 * The law: whatever the pieces, what is shown, put together, is the whole text cut before the first stop string. */
#include "engine/generate.h"
#include "test.h"

enum { PIECES_MAX = 400, END = 0 };

struct nigh_tokenizer { size_t count; nigh_str piece[PIECES_MAX]; };

size_t nigh_tokenizer_count(const nigh_tokenizer *t) { return t->count; }
bool nigh_tokenizer_is_control(const nigh_tokenizer *t, int32_t id) { (void)t; return id == END; }
bool nigh_tokenizer_is_end(const nigh_tokenizer *t, int32_t id) { (void)t; return id == END; }

/* Bytes of the letter that begins with this byte (the texts here are valid UTF-8, cut in pieces). */
static size_t letter_bytes(char c) { return (uint8_t)c < 0x80 ? 1 : (uint8_t)c < 0xe0 ? 2 : (uint8_t)c < 0xf0 ? 3 : 4; }

nigh_status nigh_detok_push(nigh_detok *d, const nigh_tokenizer *t, int32_t id, bool special, nigh_buf *out) {
    (void)special;
    for (size_t i = 0; i < t->piece[id].len; i++) {
        bool first = !d->started;
        d->started = true;
        if (first && t->piece[id].ptr[i] == ' ') continue;
        d->held[d->held_len++] = t->piece[id].ptr[i];
        if (d->held_len < letter_bytes(d->held[0])) continue;
        NIGH_TRY(nigh_buf_add(out, (nigh_str){ d->held, d->held_len }));
        d->held_len = 0;
    }
    return NIGH_OK;
}

nigh_status nigh_detok_flush(nigh_detok *d, nigh_buf *out) {
    if (d->held_len == 0) return NIGH_OK;
    d->held_len = 0;
    return nigh_buf_add(out, NIGH_STR("\xef\xbf\xbd"));
}

/* Runs a generation that is made to say tokens 1, 2, 3, ... and then the end; returns all text shown. */
typedef struct { nigh_buf text; nigh_finish finish; uint32_t count, stop; size_t steps; } run_result;

static run_result run(const nigh_tokenizer *t, nigh_generate_opts o) {
    run_result r = { .text = NIGH_BUF(1 << 16) };
    float logits[PIECES_MAX];
    nigh_generation *g;
    nigh_step step = { .finish = NIGH_FINISH_NONE };
    if (!test_check(nigh_generation_new(&g, t, o, NULL, 0, NULL) == NIGH_OK, "new", __FILE__, __LINE__)) return r;
    while (step.finish == NIGH_FINISH_NONE) {
        for (size_t i = 0; i < t->count; i++) logits[i] = 0;
        logits[r.steps + 1 < t->count ? r.steps + 1 : END] = 1;
        r.steps++;
        if (!test_check(nigh_generation_step(g, logits, &step, NULL) == NIGH_OK, "step", __FILE__, __LINE__)) break;
        if (!test_check(nigh_buf_add(&r.text, step.text) == NIGH_OK, "add", __FILE__, __LINE__)) break;
        if (o.logprobs || o.top_logprobs) CHECK(step.logprob < 0 && (!o.top_logprobs || step.top[0].id == step.token));
        else CHECK(step.logprob == 0);
    }
    r.finish = step.finish;
    r.stop = step.stop;
    r.count = nigh_generation_count(g);
    nigh_generation_free(g);
    return r;
}

/* Cuts text into pieces 1.. of random length 0..most. */
static void cut(nigh_tokenizer *t, nigh_str text, size_t most, uint64_t *seed) {
    t->count = 1;
    t->piece[END] = NIGH_STR("");
    for (size_t at = 0; at < text.len;) {
        size_t len = test_rand(seed) % (most + 1);
        if (t->count == PIECES_MAX - 1) len = text.len - at;
        t->piece[t->count++] = nigh_str_slice(text, at, at + len);
        at += nigh_min(len, text.len - at);
    }
}

/* Where the text ends: before the stop string that is complete first, the longest of those; its number from 1, or 0. */
static size_t first_stop(nigh_str text, const nigh_str *stop, size_t count, size_t *which) {
    for (size_t end = 1; end <= text.len; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < count; i++)
            if (stop[i].len > longest && nigh_str_ends(nigh_str_slice(text, 0, end), stop[i])) {
                longest = stop[i].len;
                *which = i + 1;
            }
        if (longest) return end - longest;
    }
    return text.len;
}

static void random_letters(nigh_buf *b, size_t count, size_t kinds, uint64_t *seed) {
    static const char *const letters[] = { "a", "b", "\xc3\xa9", "\xf0\x9f\x99\x82" };
    for (; count > 0; count--) CHECK(nigh_buf_add(b, nigh_str_of(letters[test_rand(seed) % kinds])) == NIGH_OK);
}

/* One text, cut at random, against the search through the whole of it. */
static void check_split(nigh_str text, const nigh_str *stop, size_t stops, uint64_t *seed, int round) {
    static nigh_tokenizer t;
    size_t stopped = 0;
    cut(&t, text, 1 + test_rand(seed) % 9, seed);
    nigh_str want = nigh_str_slice(text, 0, first_stop(text, stop, stops, &stopped));
    run_result r = run(&t, (nigh_generate_opts){ .stop = stop, .stop_count = stops });
    CHECK_MSG(nigh_str_eq(nigh_buf_str(&r.text), want) && r.finish == NIGH_FINISH_STOP,
              "NIGH_SEED=%llu, round %d: %.*s, not %.*s of %.*s", (unsigned long long)test_seed(), round,
              (int)r.text.len, r.text.ptr, (int)want.len, want.ptr, (int)text.len, text.ptr);
    CHECK(r.stop == stopped && (stopped || r.count == t.count - 1));
    nigh_buf_release(&r.text);
}

static void test_every_split(void) {
    uint64_t seed = test_seed();
    for (int round = 0; round < 3000; round++) {
        nigh_buf text = NIGH_BUF(1 << 12), stop_text[4];
        nigh_str stop[4];
        size_t stops = test_rand(&seed) % 5;
        random_letters(&text, test_rand(&seed) % 60, 4, &seed);
        for (size_t i = 0; i < stops; i++) {
            stop_text[i] = NIGH_BUF(64);
            random_letters(&stop_text[i], 1 + test_rand(&seed) % 6, 4, &seed);
            stop[i] = nigh_buf_str(&stop_text[i]);
        }
        check_split(nigh_buf_str(&text), stop, stops, &seed, round);
        for (size_t i = 0; i < stops; i++) nigh_buf_release(&stop_text[i]);
        nigh_buf_release(&text);
    }
}

/* Stop strings that overlap themselves, in a text made of their beginnings. */
static void test_overlapping_stops(void) {
    uint64_t seed = test_seed();
    for (int round = 0; round < 3000; round++) {
        nigh_buf text = NIGH_BUF(1 << 12), stop_text = NIGH_BUF(64);
        random_letters(&stop_text, 4 + test_rand(&seed) % 10, 2, &seed);
        nigh_str stop = nigh_buf_str(&stop_text);
        while (text.len < 150)
            CHECK(nigh_buf_add(&text, nigh_str_slice(stop, 0, 1 + test_rand(&seed) % (stop.len - 1))) == NIGH_OK);
        check_split(nigh_buf_str(&text), &stop, 1, &seed, round);
        nigh_buf_release(&stop_text);
        nigh_buf_release(&text);
    }
}

static void test_holds_back_no_more_than_it_must(void) {
    const nigh_str stop[] = { NIGH_STR("STOP"), NIGH_STR("\n\n") };
    static const nigh_tokenizer t = {
        8, { { "", 0 }, { "a ", 2 }, { "ST", 2 }, { "A", 1 }, { "R\n", 2 }, { "x S", 3 }, { "TO", 2 }, { "Pz", 2 } }
    };
    const char *want[] = { "a ", "", "STA", "R", "\nx ", "", "" };
    nigh_generation *g;
    nigh_step step;
    CHECK(nigh_generation_new(&g, &t, (nigh_generate_opts){ .stop = stop, .stop_count = 2 }, NULL, 0, NULL) == NIGH_OK);
    for (size_t i = 0; i < NIGH_COUNT(want); i++) {
        float logits[8] = { 0 };
        logits[i + 1] = 1;
        CHECK(nigh_generation_step(g, logits, &step, NULL) == NIGH_OK);
        CHECK_MSG(nigh_str_eq(step.text, nigh_str_of(want[i])), "step %zu: '%.*s'", i, (int)step.text.len,
                  step.text.ptr);
        CHECK((step.finish == NIGH_FINISH_STOP) == (i == 6));
    }
    nigh_generation_free(g);
}

/* Some tokenizers put a space before a text. Where the answer goes on with the prompt's text, its own first space
 * stays. */
static void test_first_space(void) {
    static const nigh_tokenizer t = { 2, { { "", 0 }, { " a", 2 } } };
    const int32_t begin[] = { END }, text[] = { END, 1 };
    const struct { const int32_t *prompt; size_t count; const char *want; } cases[] = {
        { NULL, 0, "a" }, { begin, 1, "a" }, { text, 2, " a" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_generation *g;
        nigh_step step;
        CHECK(nigh_generation_new(&g, &t, (nigh_generate_opts){ 0 }, cases[i].prompt, cases[i].count, NULL) == NIGH_OK);
        CHECK(nigh_generation_step(g, (const float[]){ 0, 1 }, &step, NULL) == NIGH_OK);
        CHECK_MSG(nigh_str_eq(step.text, nigh_str_of(cases[i].want)), "case %zu", i);
        nigh_generation_free(g);
    }
}

static void test_limits_and_ends(void) {
    static const nigh_tokenizer t = { 4, { { "<end>", 5 }, { "one ", 4 }, { "two", 3 }, { "\xe2\x82", 2 } } };
    const nigh_str half[] = { NIGH_STR("twofold") };
    run_result r = run(&t, (nigh_generate_opts){ .max_tokens = 2, .stop = half, .stop_count = 1 });
    CHECK(r.finish == NIGH_FINISH_LENGTH && r.count == 2 && nigh_str_eq(nigh_buf_str(&r.text), NIGH_STR("one two")));
    nigh_buf_release(&r.text);
    r = run(&t, (nigh_generate_opts){ .logprobs = true });
    CHECK(r.finish == NIGH_FINISH_STOP && r.count == 3 && r.steps == 4);
    CHECK(nigh_str_eq(nigh_buf_str(&r.text), NIGH_STR("one two\xef\xbf\xbd")));
    nigh_buf_release(&r.text);
    r = run(&t, (nigh_generate_opts){ .max_tokens = 4, .ignore_end = true, .top_logprobs = 2 });
    CHECK(r.finish == NIGH_FINISH_LENGTH && r.count == 4);
    nigh_buf_release(&r.text);

    nigh_generation *g;
    nigh_step step;
    float logits[4] = { 0, 0, 1, 0 };
    CHECK(nigh_generation_new(&g, &t, (nigh_generate_opts){ .stop = half, .stop_count = 1 }, NULL, 0, NULL) == NIGH_OK);
    CHECK(nigh_generation_step(g, logits, &step, NULL) == NIGH_OK && step.text.len == 0 && step.token == 2);
    CHECK(nigh_generation_end(g, NIGH_FINISH_CANCEL, &step) == NIGH_OK);
    CHECK(step.finish == NIGH_FINISH_CANCEL && nigh_str_eq(step.text, NIGH_STR("two")));
    nigh_generation_free(g);
}

static void test_refusals(void) {
    static const nigh_tokenizer t = { 2, { { "", 0 }, { "a", 1 } } };
    static char bytes[1025];
    nigh_str many[17], empty[] = { NIGH_STR("") }, large[] = { { bytes, sizeof bytes } };
    for (size_t i = 0; i < 17; i++) many[i] = NIGH_STR("x");
    const nigh_generate_opts bad[] = { { .stop = many, .stop_count = 17 },
                                       { .stop = empty, .stop_count = 1 },
                                       { .stop = large, .stop_count = 1 },
                                       { .top_logprobs = 21 },
                                       { .sampler = { .temperature = -1 } } };
    size_t before = nigh_alloc_live_bytes();
    for (size_t i = 0; i < NIGH_COUNT(bad); i++) {
        nigh_generation *g;
        nigh_err err = { 0 };
        CHECK(nigh_generation_new(&g, &t, bad[i], NULL, 0, &err) == NIGH_EINVAL && g == NULL && err.text[0]);
    }
    nigh_generation *g;
    const nigh_generate_opts good = { .stop = many,
                                      .stop_count = 16,
                                      .sampler = { .temperature = 1, .repeat_penalty = 1.1f } };
    uint64_t nth = 1;
    for (; nth < 30; nth++) {
        nigh_alloc_fail_at(nth, false);
        nigh_status status = nigh_generation_new(&g, &t, good, (const int32_t[]){ 1, 1 }, 2, NULL);
        nigh_alloc_fail_at(0, false);
        CHECK(status == NIGH_OK || (status == NIGH_ENOMEM && g == NULL && nigh_alloc_live_bytes() == before));
        if (status == NIGH_OK) break;
    }
    CHECK(nth > 5 && nth < 30);
    nigh_alloc_fail_at(1, false);
    nigh_step step;
    nigh_err err = { 0 };
    CHECK(nigh_generation_step(g, (const float[]){ -9, 9 }, &step, &err) == NIGH_ENOMEM && err.text[0]);
    nigh_alloc_fail_at(0, false);
    nigh_generation_free(g);
    CHECK(nigh_alloc_live_bytes() == before);
    nigh_generation_free(NULL);
}

TEST_MAIN(T(test_every_split), T(test_overlapping_stops), T(test_holds_back_no_more_than_it_must),
          T(test_first_space), T(test_limits_and_ends), T(test_refusals))
