/* draft_model.h - a small model that guesses what a large one will say. Both must have the same vocabulary. Its session
 * follows the text: it keeps what it has in common with it and reads the rest. One caller at a time. */
#ifndef NIGH_DRAFT_MODEL_H
#define NIGH_DRAFT_MODEL_H

#include "engine/draft.h"
#include "nigh/engine.h"

typedef struct nigh_draft_model nigh_draft_model;

/* Can `small` guess for `large`? Fails: EINVAL (another vocabulary, an encoder). */
NIGH_CHECK nigh_status nigh_draft_model_check(const nigh_model *small, const nigh_model *large, nigh_err *err);
/* small, pool: kept. context: tokens of the large model's session. now_ns: a clock, or NULL.
 * Fails: as nigh_draft_model_check; ENOMEM. */
NIGH_CHECK nigh_status nigh_draft_model_new(nigh_draft_model **out, const nigh_model *small, const nigh_model *large,
                                            nigh_pool *pool, uint32_t context, uint64_t (*now_ns)(void), nigh_err *err);
void nigh_draft_model_free(nigh_draft_model *d);
void nigh_draft_model_forget(nigh_draft_model *d);      /* what it has read: the next text is another's */
/* Guesses what comes behind `text`, up to out->count tokens, as long as that pays. Returns how many of them are worth
 * evaluating; rows and expected are those of nigh_draft_choose. A model that fails is not asked again. */
uint32_t nigh_draft_model_guess(nigh_draft_model *d, const int32_t *text, uint32_t count, const nigh_draft_cost *cost,
                                uint32_t rows, double *expected, nigh_guess *out);

#endif
