/* bpe.h - learning a byte-level BPE vocabulary, and text to ids with it.
 * Text is first cut into words by the rules of the pre-tokenizer "gpt-2"; merges never cross them. Since every
 * word of the corpus is known while merges are learnt, the ids of every word fall out at the end and encoding
 * is a table look-up.
 *
 * Ids: 0 <|endoftext|>, 1 <|im_start|>, 2 <|im_end|>, 3..258 the bytes 0..255, then one id for each merge in
 * order. */
#ifndef NIGH_BPE_H
#define NIGH_BPE_H

#include "base/base.h"

enum { NIGH_BPE_END = 0, NIGH_BPE_SPECIALS = 3, NIGH_BPE_BASE = NIGH_BPE_SPECIALS + 256 };

typedef struct nigh_bpe nigh_bpe;

nigh_bpe *nigh_bpe_new(void);                       /* NULL when out of memory */
void nigh_bpe_free(nigh_bpe *b);
/* Where the word that begins at `at` ends (at < text.len; text is UTF-8). */
size_t nigh_bpe_word_end(nigh_str text, size_t at);
/* Notes the words of text, `times` each for the choice of merges (0: only to encode it later). Keeps text: it
 * must live until the bpe is freed. */
NIGH_CHECK nigh_status nigh_bpe_add(nigh_bpe *b, nigh_str text, uint64_t times);
/* These merges instead of learnt ones (those of another run). Copies them. */
NIGH_CHECK nigh_status nigh_bpe_take(nigh_bpe *b, const uint16_t (*merges)[2], size_t count);
/* Learns merges until there are `vocab` ids, or until no pair stands twice. Ties go to the smaller ids. */
NIGH_CHECK nigh_status nigh_bpe_learn(nigh_bpe *b, size_t vocab);

size_t nigh_bpe_count(const nigh_bpe *b);           /* ids in all */
size_t nigh_bpe_merge_count(const nigh_bpe *b);
const uint16_t (*nigh_bpe_merges(const nigh_bpe *b))[2];
/* Ids of text, all of whose words were added. Appends to out[*len]; out must have room for text.len ids. */
void nigh_bpe_encode(const nigh_bpe *b, nigh_str text, uint16_t *out, size_t *len);

#endif
