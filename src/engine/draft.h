/* draft.h - guesses at the next tokens of a text, so that several can be evaluated at once. A guess never changes what
 * is written, for each one is verified (speculate.h); it only changes how long it takes.
 *
 *   nigh_draft          guesses by looking up where the last tokens stood before (prompt lookup). It also guesses while
 *                       nobody asks, so it knows at no cost how often it would have been right.
 *   nigh_draft_cost     what evaluations of 1, 2, 3, ... rows took on this machine, with this model.
 *   nigh_draft_choose   how many guesses are worth their rows; none when they do not pay. */
#ifndef NIGH_DRAFT_H
#define NIGH_DRAFT_H

#include "base/base.h"

enum { NIGH_DRAFT_MAX = 15, NIGH_DRAFT_ROWS_MAX = 96 };

typedef struct {
    uint32_t count;
    int32_t token[NIGH_DRAFT_MAX];
    float chance[NIGH_DRAFT_MAX];   /* that this token and all before it come true */
} nigh_guess;

/* ---- prompt lookup ---- */

typedef struct nigh_draft nigh_draft;

/* tokens_max: of the text it can remember; about 16 bytes each, taken at once. Fails: ENOMEM. */
NIGH_CHECK nigh_status nigh_draft_new(nigh_draft **out, uint32_t tokens_max, nigh_err *err);
void nigh_draft_free(nigh_draft *d);
/* Forgets the text; what was learnt about guesses stays. */
void nigh_draft_clear(nigh_draft *d);
/* Appends text that was read, not written. */
void nigh_draft_read(nigh_draft *d, const int32_t *tokens, size_t count);
/* Appends a token that was written, and learns whether it was guessed. */
void nigh_draft_write(nigh_draft *d, int32_t token);
/* Guesses up to `most` (at most NIGH_DRAFT_MAX) tokens behind the text. */
void nigh_draft_guess(const nigh_draft *d, uint32_t most, nigh_guess *out);
/* The text so far. */
const int32_t *nigh_draft_text(const nigh_draft *d, uint32_t *count);

/* ---- what it costs, and what pays ---- */

/* All zero: nothing is known, rows are taken for cheap. */
typedef struct { double ns[NIGH_DRAFT_ROWS_MAX + 1]; uint32_t seen[NIGH_DRAFT_ROWS_MAX + 1]; } nigh_draft_cost;

void nigh_draft_cost_add(nigh_draft_cost *c, uint32_t rows, uint64_t ns);
/* Rows that were never measured are judged by their neighbours. With nothing known, in units of one row. */
double nigh_draft_cost_of(const nigh_draft_cost *c, uint32_t rows);
/* A batch of `rows` rows is expected to bring *expected tokens. How many guesses to add, so that a token takes the
 * least time; *expected grows by what they bring. */
uint32_t nigh_draft_choose(const nigh_draft_cost *c, uint32_t rows, double *expected, const nigh_guess *g);

#endif
