/* speculate.h - one sequence that is written several tokens at a time, to the byte as if one at a time.
 *
 *     evaluate   [ last | guess | guess | guess ]     one batch; a row of logits each, the same bits as one by one
 *     pick       row 0 -> is it the guess?  row 1 -> is it?  row 2 -> no: the session forgets what follows
 *
 * The sampler sees exactly the rows that it would have seen, in the same order, so draws, penalties, log-probabilities,
 * stop strings and limits are untouched. nigh_speculation is the bookkeeping of one sequence, for a caller who puts
 * many into one batch; nigh_writer is the whole walk for a caller who has one. */
#ifndef NIGH_SPECULATE_H
#define NIGH_SPECULATE_H

#include "engine/draft.h"
#include "engine/draft_model.h"
#include "engine/generate.h"
#include "nigh/engine.h"

typedef struct {
    nigh_session *session;          /* kept */
    nigh_draft *draft;              /* owned; NULL: never more than one row */
    nigh_draft_model *model;        /* kept; NULL: guesses come from the text alone */
    uint32_t begin;                 /* tokens of the session before the rows */
    uint32_t count, used;           /* rows; of these, picked from */
    int32_t tokens[NIGH_DRAFT_MAX + 1];
    uint64_t drafted, accepted;     /* guesses that were evaluated; that came true */
} nigh_speculation;

/* drafts: guess at all? Fails: ENOMEM. Release it also after a failure. */
NIGH_CHECK nigh_status nigh_speculation_init(nigh_speculation *sp, nigh_session *session, bool drafts, nigh_err *err);
void nigh_speculation_release(nigh_speculation *sp);
/* The session has read `ids` to the end, and its last row of logits waits. */
void nigh_speculation_start(nigh_speculation *sp, const int32_t *ids, size_t count);
/* Fills in what to evaluate next: the last token, and as many guesses as pay in a batch of `rows` rows (this one
 * counted) that is expected to bring *expected tokens; at most `room` guesses. */
void nigh_speculation_guess(nigh_speculation *sp, const nigh_draft_cost *cost, uint32_t rows, double *expected,
                            uint32_t room);
/* These rows as a part of a batch. logits: [sp->count][vocab]. Then, evaluated or not: nigh_speculation_evaluated, or
 * nigh_speculation_only_last to try again without guesses. */
nigh_batch_item nigh_speculation_item(const nigh_speculation *sp, float *logits);
void nigh_speculation_evaluated(nigh_speculation *sp);
void nigh_speculation_only_last(nigh_speculation *sp);
/* Picks from the next row. Fails: as nigh_generation_step. */
NIGH_CHECK nigh_status nigh_speculation_step(nigh_speculation *sp, nigh_generation *g, const float *logits,
                                             nigh_step *step, nigh_err *err);
static inline bool nigh_speculation_has_row(const nigh_speculation *sp) { return sp->used < sp->count; }

/* ---- one sequence ---- */

typedef struct {
    nigh_runner *runner;            /* kept */
    nigh_session *session;          /* kept */
    bool alone;                     /* no guesses */
    nigh_draft_model *model;        /* kept; may be NULL */
    uint64_t (*now_ns)(void);       /* a clock, to learn what pays; NULL: rows are taken for cheap */
    size_t vocab;
} nigh_writer_opts;

typedef struct nigh_writer nigh_writer;

NIGH_CHECK nigh_status nigh_writer_new(nigh_writer **out, nigh_writer_opts o, nigh_err *err);
void nigh_writer_free(nigh_writer *w);
/* Where the logits of a prompt's last token go: [vocab]. */
float *nigh_writer_logits(nigh_writer *w);
/* The session holds exactly `ids`, and the logits are there. */
void nigh_writer_start(nigh_writer *w, const int32_t *ids, size_t count);
/* Is there no room for the token that was written last? Then the text ends here. */
bool nigh_writer_full(const nigh_writer *w);
/* The next token. Fails: as nigh_runner_eval and nigh_generation_step. */
NIGH_CHECK nigh_status nigh_writer_step(nigh_writer *w, nigh_generation *g, nigh_step *step, nigh_err *err);
const nigh_speculation *nigh_writer_about(const nigh_writer *w);

#endif
