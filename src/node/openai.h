/* openai.h - an answer in OpenAI's words: text, chat or vectors, whole or as a stream.
 * openai.c holds an answer together while the scheduler makes it; openai_write.c spells it. */
#ifndef NIGH_OPENAI_H
#define NIGH_OPENAI_H

#include "node/node_parts.h"

/* What one sequence has become so far. */
typedef struct {
    nigh_buf text;                          /* of a whole answer */
    nigh_buf tokens, logprobs, tops, offsets;   /* JSON items: chat uses the first only */
    size_t prompt;                          /* which prompt it continues */
    size_t text_bytes;                      /* of the answer so far, also when it was streamed */
    uint32_t token_count, cached;
    nigh_finish finish;
} nigh_choice;

typedef struct {
    nigh_node *node;
    nigh_exchange *x;
    const nigh_served *served;
    nigh_request r;
    nigh_receipt receipt;
    char id[40];
    uint64_t created_s;
    nigh_choice *choices;
    size_t choice_count;
    uint32_t prompt_tokens;
    bool begun, broken, first_seen;         /* begun: as a stream; broken: no memory to spell it */
    nigh_buf out;                           /* the whole answer, or one event */
} nigh_answer;

NIGH_CHECK nigh_status nigh_openai_add_logprobs(nigh_answer *a, nigh_choice *c, const nigh_step *step);
/* Clears a->out and spells into it: */
NIGH_CHECK nigh_status nigh_openai_role_event(nigh_answer *a, size_t choice);
/* takes the logprobs gathered since the last */
NIGH_CHECK nigh_status nigh_openai_text_event(nigh_answer *a, size_t choice, nigh_str text);
NIGH_CHECK nigh_status nigh_openai_finish_event(nigh_answer *a, size_t choice, bool with_receipt);
NIGH_CHECK nigh_status nigh_openai_usage_event(nigh_answer *a);
NIGH_CHECK nigh_status nigh_openai_whole(nigh_answer *a);
/* Vectors: begun by the first, ended by nigh_openai_end_vectors. Does not clear. */
NIGH_CHECK nigh_status nigh_openai_add_vector(nigh_answer *a, size_t i, const float *v, size_t count);
NIGH_CHECK nigh_status nigh_openai_end_vectors(nigh_answer *a);

#endif
