/* test_learn_corpus.c - reading text, removing repeats, and the split: no text on both sides. */
#define _GNU_SOURCE
#include "learn/corpus.h"
#include "learn_made.h"

static bool holds(const nigh_corpus *c, const char *text) {
    for (size_t i = 0; i < c->doc_count; i++)
        if (nigh_str_find(c->docs[i].text, nigh_str_of(text), 0) != SIZE_MAX) return true;
    return false;
}

static void test_read(void) {
    char folder[64], path[128], inner[128];
    nigh_corpus c = { 0 };
    nigh_err err;
    made_folder(folder);
    snprintf(inner, sizeof inner, "%s/inner", folder);
    mkdir(inner, 0700);
    made_file(folder, "b.txt", "second\n\f\nthird \xc3\xa4\n");
    made_file(folder, "a.md", "first\f");
    made_file(folder, "c.bin", "no text");
    made_file(folder, ".hidden.txt", "hidden");
    made_file(inner, "x.txt", "fourth");
    snprintf(path, sizeof path, "%s@2,5.5", folder);
    CHECK(nigh_corpus_add(&c, path, &err) == NIGH_OK);
    CHECK(c.doc_count == 4 && c.files == 3);
    const char *const want[] = { "first", "second", "third \xc3\xa4", "fourth" };
    for (size_t i = 0; i < 4; i++) CHECK(i < c.doc_count && nigh_str_eq(c.docs[i].text, nigh_str_of(want[i])));
    CHECK(c.sources[0].weight > 1.9 && c.sources[0].weight < 2.1 && c.sources[0].late_weight > 5.4
        && c.sources[0].late_weight < 5.6);
    nigh_corpus_release(&c);
    made_remove(folder);
}

static void test_refusals(void) {
    char folder[64], path[128];
    nigh_corpus c = { 0 };
    nigh_err err;
    made_folder(folder);
    made_file(folder, "bad.txt", "fine \xff not");
    const struct { const char *tail; nigh_status want; } cases[] = { { "/none", NIGH_ENOENT },
        { "", NIGH_EDATA }, { "@x", NIGH_EINVAL }, { "@1,", NIGH_EINVAL }, { "@-1", NIGH_EINVAL } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        snprintf(path, sizeof path, "%s%s", folder, cases[i].tail);
        nigh_status got = nigh_corpus_add(&c, path, &err);
        CHECK_MSG(got == cases[i].want && err.text[0], "'%s' gave %d", cases[i].tail, got);
    }
    made_file(folder, "bad.txt", "");
    snprintf(path, sizeof path, "%s", folder);
    CHECK(nigh_corpus_add(&c, path, &err) == NIGH_ENOENT);
    nigh_corpus_release(&c);
    made_remove(folder);
}

static void test_repeats(void) {
    char folder[64], *text = malloc(1 << 16), near[4096], other[4096];
    uint64_t seed = test_seed();
    nigh_corpus c = { 0 };
    nigh_err err;
    made_folder(folder);
    made_document(other, 4, &seed);
    made_document(near, 4, &seed);
    const char *line =
        "Only this one paragraph stands in two documents, word for word, and it is long enough to count.";
    /* the second: the same document less a line */
    snprintf(text, 1 << 14, "%s%s\n\f%s\f\n%s\f", near, line, near, other);
    /* the fourth: nearly the first, in capitals elsewhere */
    near[0] = 'x';
    for (char *p = near + 40; *p; p++) if (*p >= 'a' && *p <= 'z') *p = (char)(*p - 32);
    snprintf(text + strlen(text), 1 << 14, "%s\fYes, sir.\f", near);
    made_document(other, 3, &seed);
    snprintf(text + strlen(text), 1 << 14, "%s%s\nYes, sir.\n", other, line);    /* new, but for the paragraph */
    made_file(folder, "t.txt", text);
    CHECK(nigh_corpus_add(&c, folder, &err) == NIGH_OK && c.doc_count == 6);
    CHECK(nigh_corpus_split(&c, 0, &err) == NIGH_OK);
    CHECK_MSG(c.docs_repeated == 2, "%zu documents removed", c.docs_repeated);
    CHECK_MSG(c.lines_repeated == 1, "%zu paragraphs removed", c.lines_repeated);
    CHECK(c.doc_count == 4);
    CHECK(nigh_str_find(c.docs[0].text, nigh_str_of(line), 0) != SIZE_MAX);
    CHECK(c.doc_count == 4 && nigh_str_find(c.docs[3].text, nigh_str_of(line), 0) == SIZE_MAX);
    /* short lines may return */
    CHECK(c.doc_count == 4 && nigh_str_find(c.docs[3].text, NIGH_STR("Yes, sir."), 0) != SIZE_MAX);
    CHECK(holds(&c, line));
    nigh_corpus_release(&c);
    made_remove(folder);
    free(text);
}

/* Every run of 13 words of the held-out side, looked for on the training side in the plainest way. */
static size_t shared_runs(const nigh_corpus *c, size_t *checked) {
    size_t shared = 0;
    *checked = 0;
    for (size_t i = 0; i < c->doc_count; i++) {
        if (!c->docs[i].held_out) continue;
        nigh_str t = c->docs[i].text;
        for (size_t at = 0; at < t.len; at++) {
            if (at && t.ptr[at - 1] != ' ' && t.ptr[at - 1] != '\n') continue;
            size_t end = at, words = 0;
            for (; end < t.len && t.ptr[end] != '\n'; end++) if (t.ptr[end] == ' ' && ++words == 13) break;
            if (words < 13) continue;
            ++*checked;
            for (size_t j = 0; j < c->doc_count; j++)
                if (!c->docs[j].held_out && nigh_str_find(c->docs[j].text, nigh_str_slice(t, at, end),
                    0) != SIZE_MAX) { shared++; break; }
        }
    }
    return shared;
}

static void test_split(void) {
    char folder[64], *text = malloc(1 << 21), doc[4096], sentence[256];
    uint64_t seed = test_seed();
    nigh_corpus c = { 0 };
    nigh_err err;
    size_t held = 0, checked;
    made_folder(folder);
    *text = '\0';
    made_sentence(sentence, &seed);
    for (size_t i = 0, at = 0; i < 200; i++, at += strlen(text + at)) {
        made_document(doc, 4, &seed);
        /* A long sentence that many documents hold inside a paragraph with much new text: only the last rule
         * sees it. */
        snprintf(text + at, 8192, "%s%s %s one two three four five six seven %s %s\n\f\n", doc, sentence,
            i % 3 == 0 ? "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu" : "",
            i % 2 ? doc + 5 : "", "");
    }
    made_file(folder, "t.txt", text);
    CHECK(nigh_corpus_add(&c, folder, &err) == NIGH_OK);
    CHECK(nigh_corpus_split(&c, 100, &err) == NIGH_OK);
    for (size_t i = 0; i < c.doc_count; i++) held += c.docs[i].held_out;
    CHECK_MSG(held >= 5 && held <= 50, "%zu of %zu held out (seed %llu)", held, c.doc_count,
        (unsigned long long)test_seed());
    CHECK_MSG(c.lines_shared > 0, "the made text has no shared paragraph: the test shows nothing");
    size_t shared = shared_runs(&c, &checked);
    CHECK_MSG(shared == 0 && checked > 100, "%zu of %zu runs stand on both sides (seed %llu)", shared, checked,
        (unsigned long long)test_seed());
    nigh_corpus_release(&c);
    made_remove(folder);
    free(text);
}

TEST_MAIN(T(test_read), T(test_refusals), T(test_repeats), T(test_split))
