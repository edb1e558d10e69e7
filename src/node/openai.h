/* openai.h - an answer in OpenAI's words: text, chat or vectors, whole or as a stream.
 * openai.c holds an answer together while the scheduler makes it; openai_write.c spells it. An answer to a feature
 * of a policy (`placed`) may be made by several places in turn: place_try.c leads it and uses the same parts. */
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
    uint8_t stop;                           /* its number, from 1, when a stop string ended it */
    const char *finish_word;                /* of another place: "tool_calls", ...; NULL: as finish says */
    double logprob_sum;                     /* of its tokens, when they were asked for */
} nigh_choice;

/* One call of a tool by another place's model. */
typedef struct { nigh_buf id, name, arguments; } nigh_tool_call;
enum { NIGH_TOOL_CALLS_MAX = 64 };

typedef struct nigh_answer nigh_answer;
typedef struct nigh_front nigh_front;

/* How an answer is spelled for its client. Each clears a->out and puts whole events there, or the whole answer, or
 * nothing; the order is begin, text and tool in any number, end or error. */
typedef struct {
    nigh_status (*begin)(nigh_answer *a, size_t choice);
    nigh_status (*text)(nigh_answer *a, size_t choice, nigh_str text);
    /* A piece of the i-th call of a tool; id and name with its first. a->tools has it already. */
    nigh_status (*tool)(nigh_answer *a, size_t i, nigh_str id, nigh_str name, nigh_str arguments);
    nigh_status (*end)(nigh_answer *a);
    nigh_status (*whole)(nigh_answer *a);
    nigh_status (*error)(nigh_answer *a, int http, const char *code, const char *param, const char *text);
} nigh_speller;

struct nigh_answer {
    nigh_node *node;
    nigh_exchange *x;                       /* NULL: nobody waits (a request out of the queue) */
    nigh_placed *placed;                    /* NULL: a plain request for a model of this node */
    uint64_t start_ns;
    const nigh_rights *rights;              /* of who asks; never NULL */
    char user[128];
    uint32_t taken;                         /* tokens that were taken from the key's minute */
    bool settled;                           /* and what it came to was counted */
    const nigh_served *served;              /* NULL while another place answers */
    nigh_sched_owner who;                   /* for whom: what it may share with which others */
    const char *model, *model_sha256;       /* what answers; sha256 "": not known */
    nigh_str goes_on;                       /* what the answer says already, by a place that broke off */
    bool wants_logprobs;                    /* for a look at how sure the model is */
    nigh_tool_call *tools;                  /* [NIGH_TOOL_CALLS_MAX], or NULL */
    size_t tool_count;
    nigh_request r;
    nigh_receipt receipt;
    char id[40];
    uint64_t created_s;
    nigh_choice *choices;
    size_t choice_count;
    uint32_t prompt_tokens;
    bool begun, broken, first_seen;         /* begun: as a stream; broken: no memory to spell it */
    nigh_buf out;                           /* the whole answer, or one event */
    nigh_front *front;                      /* of another dialect; NULL: OpenAI's chat, completions, embeddings */
    const nigh_speller *spell;
};

/* ---- openai.c ---- */
/* start: of its request; x NULL: now. NULL: no memory. */
nigh_answer *nigh_openai_new(nigh_node *n, nigh_exchange *x, nigh_task task);
void nigh_openai_name(nigh_answer *a);              /* its id, from its receipt's, and the time */
void nigh_openai_free(nigh_answer *a);
void nigh_openai_drop_choices(nigh_answer *a);
NIGH_CHECK nigh_status nigh_openai_make_choices(nigh_answer *a, size_t count);
uint64_t nigh_openai_us(const nigh_answer *a);      /* since its request */
nigh_client nigh_openai_client(nigh_answer *a);
/* Begins the stream, with the role of each choice. The fields of the head are set before. */
void nigh_openai_begin_stream(nigh_answer *a);
void nigh_openai_text(nigh_answer *a, size_t choice, nigh_str text);    /* out at once, or gathered */
void nigh_openai_replay(nigh_answer *a, size_t choice);                 /* what was gathered, as events */
void nigh_openai_tool(nigh_answer *a, size_t i, nigh_str id, nigh_str name, nigh_str arguments);
void nigh_openai_step(nigh_answer *a, size_t choice, const nigh_step *step);
void nigh_openai_vector(nigh_answer *a, size_t i, const float *v, size_t count);
/* Prompts to ids, and to the scheduler of a->served. On success `calls` own the answer. */
NIGH_CHECK nigh_status nigh_openai_start(nigh_answer *a, const nigh_job_calls *calls, nigh_refusal *why);
/* The end: a stream's last events, or the whole answer. The fields of the head are set before. */
void nigh_openai_end_well(nigh_answer *a);
void nigh_openai_end_in_error(nigh_answer *a, int http, const char *code, const char *param, const char *text);
/* Counts it, lets the client go and frees. */
void nigh_openai_over(nigh_answer *a);

/* openai_prompt.c: text that the answer has already, behind the ids of the prompt. */
NIGH_CHECK nigh_status nigh_openai_go_on(const nigh_served *m, const nigh_request *r, nigh_str text, nigh_ids *ids,
    nigh_refusal *why);

/* ---- openai_write.c ---- */
NIGH_CHECK nigh_status nigh_openai_add_logprobs(nigh_answer *a, nigh_choice *c, const nigh_step *step);
extern const nigh_speller nigh_openai_speller;
NIGH_CHECK nigh_status nigh_openai_add_receipt(nigh_answer *a, nigh_buf *out);      /* the JSON object */
/* The calls as an array, as a whole answer holds them. */
NIGH_CHECK nigh_status nigh_openai_tools_json(const nigh_answer *a, nigh_buf *out);
/* Vectors: begun by the first, ended by nigh_openai_end_vectors. Does not clear. */
NIGH_CHECK nigh_status nigh_openai_add_vector(nigh_answer *a, size_t i, const float *v, size_t count);
NIGH_CHECK nigh_status nigh_openai_end_vectors(nigh_answer *a);

#endif
