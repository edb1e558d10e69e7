/* tokenizer_split.h - how byte-level BPE vocabularies cut text into words before merging, by the name of the rule
 * (tokenizer.ggml.pre). Pure functions over bytes; constant tables. Rules: docs/format-vocabulary.md. */
#ifndef NIGH_TOKENIZER_SPLIT_H
#define NIGH_TOKENIZER_SPLIT_H

#include "base/base.h"

enum { NIGH_SPLIT_STAGES_MAX = 6 };

/* The end of the piece that begins at `at` (at < end): greater than at, at most end. Looks at no byte outside
 * at..end. */
typedef size_t nigh_split_fn(const char *text, size_t at, size_t end);

typedef struct {
    const char *name;                           /* as in the file */
    nigh_split_fn *stages[NIGH_SPLIT_STAGES_MAX];   /* each cuts the pieces of the one before; NULL ends them */
    bool ignore_merges;                         /* a word that is a token is that token, whatever the merges say */
    bool add_bos;                               /* unless the file says otherwise */
    bool clean_spaces;                          /* decoding takes spaces away in front of punctuation */
} nigh_split_rule;

const nigh_split_rule *nigh_split_find(nigh_str name);  /* NULL when the name is not known */

/* A walk over the pieces of text[at..end): begin with nigh_split_begin, then call next until it gives false. */
typedef struct {
    const char *text;
    const nigh_split_rule *rule;
    size_t at, limits[NIGH_SPLIT_STAGES_MAX + 1];
} nigh_split_walk;
void nigh_split_begin(nigh_split_walk *w, const nigh_split_rule *rule, const char *text, size_t at, size_t end);
bool nigh_split_next(nigh_split_walk *w, size_t *begin, size_t *end);

#endif
