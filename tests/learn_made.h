/* learn_made.h - made text for the tests of learn: simple sentences from a seed, written into a folder of their
 * own. */
#ifndef LEARN_MADE_H
#define LEARN_MADE_H

#include <ftw.h>
#include <sys/stat.h>

#include "test.h"

static const char *const made_who[] = { "Tom", "Anna", "the dog", "a cat", "the king", "my sister",
    "the old man", "a bird" };
static const char *const made_did[] = { "saw", "liked", "found", "carried", "painted", "wanted", "sold",
    "lost" };
static const char *const made_what[] = { "a red ball", "the big house", "some bread", "a little boat",
    "the blue hat", "an apple", "two stones", "the moon" };

enum { MADE_SENTENCE = 160, MADE_LINE = 512 };

/* Puts text behind what out holds; size: of out. */
static inline void made_append(char *out, size_t size, const char *text) {
    size_t len = strlen(out);
    snprintf(out + len, size - len, "%s", text);
}

/* One sentence into out (at least 160 bytes). Numbers make sentences of different documents differ. */
static inline void made_sentence(char *out, uint64_t *seed) {
    snprintf(out, MADE_SENTENCE, "%s %s %s on day %u of year %u.", made_who[test_rand(seed) % 8],
             made_did[test_rand(seed) % 8], made_what[test_rand(seed) % 8], (unsigned)(test_rand(seed) % 1000),
             (unsigned)(test_rand(seed) % 10000));
}

/* A document of `lines` paragraphs of three sentences. out: MADE_LINE bytes a paragraph. */
static inline void made_document(char *out, size_t lines, uint64_t *seed) {
    char sentence[MADE_SENTENCE];
    *out = '\0';
    for (size_t i = 0; i < 3 * lines; i++) {
        made_sentence(sentence, seed);
        made_append(out, lines * MADE_LINE, sentence);
        made_append(out, lines * MADE_LINE, i % 3 < 2 ? " " : "\n");
    }
}

/* A new folder under /tmp; its path into out. */
static inline void made_folder(char out[64]) {
    snprintf(out, 64, "/tmp/nigh-test-XXXXXX");
    if (!mkdtemp(out)) { perror("mkdtemp"); exit(1); }
}

static inline void made_file(const char *folder, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(text, 1, strlen(text), f) != strlen(text) || fclose(f) != 0) { perror(path); exit(1); }
}

/* A folder with one file of `docs` documents of four paragraphs. */
static inline void made_corpus(char folder[64], size_t docs, uint64_t seed) {
    size_t size = docs * (4 * MADE_LINE + 4) + 1;
    char *text = malloc(size);
    made_folder(folder);
    for (size_t i = 0, at = 0; i < docs; i++, at += strlen(text + at)) {
        made_document(text + at, 4, &seed);
        made_append(text + at, size - at, "\f\n");
    }
    made_file(folder, "made.txt", text);
    free(text);
}

static inline int made_unlink(const char *path, const struct stat *st, int type, struct FTW *walk) {
    (void)st, (void)type, (void)walk;
    return remove(path);
}
static inline void made_remove(const char *folder) {
    if (nftw(folder, made_unlink, 8, FTW_DEPTH | FTW_PHYS) != 0) perror(folder);
}

#endif
