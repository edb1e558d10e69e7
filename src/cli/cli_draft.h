/* cli_draft.h - `--draft MODEL`: a second, small model whose guesses the first one verifies. */
#ifndef NIGH_CLI_DRAFT_H
#define NIGH_CLI_DRAFT_H

#include "cli/cli_model.h"
#include "engine/draft_model.h"

typedef struct {
    nigh_model *model;
    nigh_draft_model *draft;        /* NULL: no small model */
} nigh_cli_draft;

/* True for the word that turns guesses off. word: may be NULL. */
bool nigh_cli_draft_is_none(const char *word);
/* Loads the small model named `word` for drafts in a context of m's session; nothing when word is NULL or "none".
 * Close it also after a failure, before m. Fails: ENOENT, EINVAL (another vocabulary), as nigh_model_open. */
NIGH_CHECK nigh_status nigh_cli_draft_open(nigh_cli_draft *d, const nigh_cli_model *m, const char *word, nigh_err *err);
void nigh_cli_draft_close(nigh_cli_draft *d);

#endif
