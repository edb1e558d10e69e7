/* dialect_parts.h - what the dialects share among themselves. */
#ifndef NIGH_DIALECT_PARTS_H
#define NIGH_DIALECT_PARTS_H

#include "node/dialect.h"

/* ---- reading JSON of strangers: never fails, gives nothing instead ---- */
uint32_t nigh_dialect_count(const nigh_json *object, const char *key);  /* nigh_json_count, at most UINT32_MAX */
/* null, false, "", [], {}: says nothing */
bool nigh_dialect_is_empty(const nigh_json *v);

/* ---- giving out what was read ---- */
/* Of every dialect: one event of its stream. */
void nigh_dialect_chat_event(nigh_dialect_answer *a, const nigh_json *event);
void nigh_dialect_responses_event(nigh_dialect_answer *a, const nigh_json *event);
void nigh_dialect_anthropic_event(nigh_dialect_answer *a, const nigh_json *event);
/* Of every dialect: an answer in one piece. */
void nigh_dialect_chat_whole(nigh_dialect_answer *a, const nigh_json *answer);
void nigh_dialect_responses_whole(nigh_dialect_answer *a, const nigh_json *answer);
void nigh_dialect_anthropic_whole(nigh_dialect_answer *a, const nigh_json *answer);

void nigh_dialect_give_begin(nigh_dialect_answer *a, nigh_str model, nigh_str id);      /* the first time only */
void nigh_dialect_give_text(nigh_dialect_answer *a, nigh_str piece);
/* key: how the place numbers the call. The first piece of a call must name it. */
void nigh_dialect_give_tool(nigh_dialect_answer *a, uint32_t key, nigh_str id, nigh_str name, nigh_str arguments);
bool nigh_dialect_tool_has_arguments(const nigh_dialect_answer *a, uint32_t key);
void nigh_dialect_give_receipt(nigh_dialect_answer *a, const nigh_json *receipt);
/* The end mark: calls finish with what a->finish and a->usage say. */
void nigh_dialect_give_end(nigh_dialect_answer *a);
void nigh_dialect_fail(nigh_dialect_answer *a, nigh_call_end end, const char *text);
/* An error inside an answer: {"type","code","message"} or a string. */
void nigh_dialect_fail_said(nigh_dialect_answer *a, const nigh_json *error);

/* ---- writing requests: sticks to the first failure ---- */
typedef struct {
    nigh_buf *out;
    nigh_status bad;
    nigh_err *err;
    const nigh_dialect_ask *ask;
    const nigh_json *root;
} nigh_dialect_writer;

nigh_status nigh_dialect_write_chat(nigh_dialect_writer *w);
nigh_status nigh_dialect_write_responses(nigh_dialect_writer *w);
nigh_status nigh_dialect_write_anthropic(nigh_dialect_writer *w);

void nigh_dialect_put(nigh_dialect_writer *w, const char *text);
void nigh_dialect_put_string(nigh_dialect_writer *w, nigh_str text);        /* as JSON */
void nigh_dialect_put_value(nigh_dialect_writer *w, const nigh_json *v);
/* ,"name":value, when there is one that says something */
void nigh_dialect_put_field(nigh_dialect_writer *w, const char *name, const nigh_json *v);
/* Notes EINVAL: "messages[3].name: the anthropic format cannot say this". Formats the place of the field. */
void nigh_dialect_refuse(nigh_dialect_writer *w, const nigh_json *at, const char *why, const char *fmt, ...)
    NIGH_PRINTF(4, 5);
/* Every member of object must be in the list or say nothing. known: names with a blank around each: " a b ". */
void nigh_dialect_only(nigh_dialect_writer *w, const nigh_json *object, const char *known, const char *where);
/* The limit of the answer: ask's, else the body's; 0 none. */
uint32_t nigh_dialect_max_tokens(const nigh_dialect_writer *w);
/* What no dialect here can do: several answers, probabilities, sound. */
void nigh_dialect_check(nigh_dialect_writer *w);
/* The function of a tool or of a tool choice; refuses other kinds. */
const nigh_json *nigh_dialect_function(nigh_dialect_writer *w, const nigh_json *tool, const char *where);

#endif
