/* request.h - one request for text or vectors, whatever dialect it came in.
 * Every field that a client may send stands in one table (nigh_fields) with its type and range: parsing,
 * docs/api.md and the tests of the borders all come from it. Fields that are not in the table are ignored, as
 * clients expect. null counts as absent. */
#ifndef NIGH_REQUEST_H
#define NIGH_REQUEST_H

#include "base/json.h"
#include "engine/sampler.h"

typedef enum { NIGH_TASK_COMPLETION = 1, NIGH_TASK_CHAT = 2, NIGH_TASK_EMBEDDING = 4 } nigh_task;

enum {
    NIGH_REQUEST_STOP_MAX = 16, NIGH_REQUEST_STOP_BYTES = 1024, NIGH_REQUEST_BIAS_MAX = 1024, NIGH_REQUEST_N_MAX = 8,
    NIGH_REQUEST_PROMPTS_MAX = 16, NIGH_REQUEST_INPUTS_MAX = 2048, NIGH_REQUEST_MESSAGES_MAX = 2048,
        NIGH_REQUEST_TOOLS_MAX = 256
};

typedef struct {
    nigh_task task;
    nigh_json_doc doc;              /* owns every text below */
    nigh_str model;                 /* "" when none was named */
    int64_t n, max_tokens, top_k, top_logprobs, seed, dimensions, best_of;
    double temperature, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty;
    bool stream, include_usage, echo, logprobs, ignore_end, has_seed, has_max_tokens, base64;
    nigh_str stop[NIGH_REQUEST_STOP_MAX];
    size_t stop_count;
    nigh_logit_bias *bias;
    size_t bias_count;
    const nigh_json *content;       /* prompt, messages or input: checked for shape, not yet for its words */
    const nigh_json *tools, *template_kwargs;
    char *stop_bytes;               /* of the stop strings, once the JSON is gone */
    unsigned needs;                 /* NIGH_CAN_* (place/policy.h): what has to be able to answer it */
    /* What a model of this node cannot do of it, in words, and the field; NULL: nothing. Another place may. */
    const char *beyond, *beyond_param;
    nigh_str feature;               /* metadata.feature; "" none */
} nigh_request;

/* Why a request was refused, in the words of the API. */
typedef struct { int status; const char *code, *param; char text[240]; } nigh_refusal;

/* Fails with EINVAL (and the like) and fills why. On success release it. */
NIGH_CHECK nigh_status nigh_request_parse(nigh_request *r, nigh_task task, nigh_str body, nigh_refusal *why);
/* The same for a request that another place may answer: `beyond` is noted instead of refused. */
NIGH_CHECK nigh_status nigh_request_parse_any(nigh_request *r, nigh_task task, nigh_str body, nigh_refusal *why);
void nigh_request_release(nigh_request *r);
/* Lets go of the JSON, which can be a hundred times as large as its text, once the words were read: content, tools and
 * model are gone then, numbers and stop strings stay. On failure nothing has changed. */
NIGH_CHECK nigh_status nigh_request_forget(nigh_request *r);
nigh_status nigh_refuse(nigh_refusal *why, nigh_status code, const char *name, const char *param, const char *fmt,
    ...) NIGH_PRINTF(5, 6);

/* How many prompts or inputs it holds (1 for chat), and the i-th: a string, or an array of token ids. */
size_t nigh_request_count(const nigh_request *r);
const nigh_json *nigh_request_item(const nigh_request *r, size_t i);

/* ---- the table ---- */
typedef enum { NIGH_FIELD_INT, NIGH_FIELD_FLOAT, NIGH_FIELD_BOOL, NIGH_FIELD_TEXT } nigh_field_kind;
typedef struct {
    const char *name;
    unsigned tasks;                 /* nigh_task, joined */
    nigh_field_kind kind;
    double min, max;                /* of a number; of a text, its bytes */
    size_t at;                      /* where it goes in nigh_request */
    const char *note;
} nigh_field_rule;
const nigh_field_rule *nigh_fields(size_t *count);
/* The table as JSON, for the tests and docs/api.md. */
NIGH_CHECK nigh_status nigh_fields_json(nigh_buf *out);

#endif
