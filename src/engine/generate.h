/* generate.h - one answer in the making: picks tokens, turns them into whole letters, watches for stop strings (also
 * across token borders: text that may be the start of one is held back), counts, and says why it ended. The text ends
 * before the stop string that is complete first (of two that end with the same letter: before the longer), however
 * the text is cut into tokens. It does not evaluate: the caller feeds it logits, so one batch can serve many. */
#ifndef NIGH_GENERATE_H
#define NIGH_GENERATE_H

#include "engine/sampler.h"
#include "engine/tokenizer.h"

typedef enum {
    NIGH_FINISH_NONE = 0,
    NIGH_FINISH_STOP,               /* end token or stop string */
    NIGH_FINISH_LENGTH, NIGH_FINISH_CANCEL
} nigh_finish;

typedef struct {
    nigh_sampler_opts sampler;
    uint32_t max_tokens;            /* 0: until the end token or the context is full */
    const nigh_str *stop;           /* copied */
    size_t stop_count;              /* at most 16, each 1..1,024 bytes */
    bool logprobs;                  /* fill step.logprob; costs one e^x for each token of the vocabulary */
    uint32_t top_logprobs;          /* at most 20; more than 0 wants logprobs too */
    bool ignore_end;                /* end tokens are text like any other (for benchmarks) */
} nigh_generate_opts;

typedef struct nigh_generation nigh_generation;

typedef struct {
    int32_t token;
    nigh_str text;                  /* may be shown now; may be empty; valid until the next call */
    uint8_t stop;                   /* the number, from 1, of the stop string that ended it; 0: none did */
    nigh_finish finish;             /* once not NONE, no further step is allowed; text held the rest */
    float logprob;                  /* of the token, when wanted; else 0 */
    const nigh_logprob *top;        /* [top_logprobs], valid until the next call */
} nigh_step;

/* prompt: ids, for the penalties, and to know whether the answer begins the text. Fails: EINVAL, ENOMEM. */
NIGH_CHECK nigh_status nigh_generation_new(nigh_generation **out, const nigh_tokenizer *t, nigh_generate_opts o,
                                           const int32_t *prompt, size_t prompt_count, nigh_err *err);
void nigh_generation_free(nigh_generation *g);
/* Takes the logits after the last token, gives the next token and the text that is ready. */
NIGH_CHECK nigh_status nigh_generation_step(nigh_generation *g, const float *logits, nigh_step *step, nigh_err *err);
/* Ends it early (context full: LENGTH; client gone: CANCEL); step.text is what was still held back. */
NIGH_CHECK nigh_status nigh_generation_end(nigh_generation *g, nigh_finish why, nigh_step *step);
uint32_t nigh_generation_count(const nigh_generation *g);   /* tokens so far, without the end token */

#endif
