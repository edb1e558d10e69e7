/* feed.h - documents as runs of ids, and which windows of them each step trains on.
 * Each source has one run: <|endoftext|> document <|endoftext|> document ... A source is walked in epochs; in
 * each, its windows are visited once, in an order and from an offset that depend on the seed, the source and
 * the epoch alone. Sources take turns by weight. */
#ifndef NIGH_FEED_H
#define NIGH_FEED_H

#include "learn/bpe.h"
#include "learn/corpus.h"

typedef struct { uint16_t *ids; size_t count, bytes; } nigh_run;

typedef struct {
    nigh_run train[NIGH_CORPUS_SOURCES], held[NIGH_CORPUS_SOURCES];
    double weight[NIGH_CORPUS_SOURCES], late_weight[NIGH_CORPUS_SOURCES];
    size_t source_count;
    uint32_t window;
    uint64_t seed;
} nigh_feed;

/* What a feed has given so far; part of a checkpoint. */
typedef struct { uint64_t taken[NIGH_CORPUS_SOURCES], late_taken[NIGH_CORPUS_SOURCES]; } nigh_feed_at;

/* Learns the vocabulary from the training documents and encodes everything. */
NIGH_CHECK nigh_status nigh_feed_make(nigh_feed *f, nigh_bpe *b, const nigh_corpus *c, size_t vocab,
    nigh_err *err);
void nigh_feed_release(nigh_feed *f);
/* The next window (window + 1 ids) of training text. late: with the weights of the decay. */
void nigh_feed_next(const nigh_feed *f, nigh_feed_at *at, bool late, uint16_t *out);
/* Whole windows of the held-out run of a source. */
size_t nigh_feed_held_count(const nigh_feed *f, size_t source);

#endif
