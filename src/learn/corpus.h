/* corpus.h - text files to documents: read, checked, freed of repeats, split into training and held-out text.
 *
 * A corpus has sources (one for each path given, with weights) and documents. Documents of one file are
 * separated by form feeds; a paragraph is a line. Repeats go BEFORE the split, so what is held out is not in
 * the training text:
 *   - a paragraph of 8 words or more of whose runs of 5 words at least 4 in 5 stood in earlier documents is
 *     removed;
 *   - a document more than half of whose runs of 5 words stood in earlier documents is removed, and so is an
 *     equal one;
 *   - after the split, a held-out paragraph that shares a run of 13 words with any training paragraph is
 *     removed. "Words" are runs of letters and digits, in any case. Which document is held out depends on its
 *     text alone (a hash). */
#ifndef NIGH_CORPUS_H
#define NIGH_CORPUS_H

#include "base/base.h"

enum { NIGH_CORPUS_SOURCES = 32 };

typedef struct {
    nigh_str text;
    uint32_t source;
    bool held_out;
} nigh_doc;

typedef struct {
    const char *path;
    /* how often its text is used, relative to its length; late: during the decay */
    double weight, late_weight;
} nigh_source;

typedef struct {
    nigh_source sources[NIGH_CORPUS_SOURCES];
    size_t source_count;
    nigh_doc *docs;
    size_t doc_count, doc_cap;
    char **blocks;                      /* owns the text */
    size_t block_count, block_cap;
    size_t bytes_read, files, docs_read, docs_repeated, lines_repeated, lines_shared;
} nigh_corpus;

/* Makes room for `need` items in a growing array; false when out of memory. */
bool nigh_grow(void *array, size_t *cap, size_t need, size_t item_bytes);

/* Reads PATH, PATH@WEIGHT or PATH@WEIGHT,LATE: a .txt or .md file, or a folder of them (in the order of their
 * names, subfolders included). Fails: ENOENT, EIO, EDATA (no UTF-8: file and offset), ERANGE (more than 1 GiB),
 * EINVAL (weights). */
NIGH_CHECK nigh_status nigh_corpus_add(nigh_corpus *c, char *path, nigh_err *err);
/* Removes repeats, then marks about held_per_1000 of the documents as held out. */
NIGH_CHECK nigh_status nigh_corpus_split(nigh_corpus *c, unsigned held_per_1000, nigh_err *err);
void nigh_corpus_release(nigh_corpus *c);

#endif
