/* front.h - requests in other words than chat's: Anthropic's messages, OpenAI's responses.
 *
 *     body --front_messages.c, front_responses.c--> chat body --request.c--> nigh_request --> as any chat request
 *     client <--front_messages_write.c, front_responses_write.c-- text, calls of tools, the end, errors
 *
 * A request is written anew as a chat request, so all behind it (rights, policy, cache, other places, ledger) sees one
 * kind of request. What chat cannot say is refused by name; what says nothing about the answer is left out.
 * docs/api.md lists every field. */
#ifndef NIGH_FRONT_H
#define NIGH_FRONT_H

#include "node/openai.h"

enum { NIGH_FRONT_BODY_MAX = 8 << 20, NIGH_FRONT_TEXT_MAX = 8 << 20, NIGH_FRONT_OUTPUT_MAX = 32 << 20 };

/* A writer that sticks to its first failure. */
typedef struct {
    nigh_buf *out;
    nigh_status bad;
    nigh_refusal *why;              /* of a request; NULL: an answer is written */
} nigh_pen;

void nigh_pen_put(nigh_pen *p, const char *text);
void nigh_pen_add(nigh_pen *p, nigh_str text);
void nigh_pen_string(nigh_pen *p, nigh_str text);           /* as JSON */
void nigh_pen_value(nigh_pen *p, const nigh_json *v);
void nigh_pen_format(nigh_pen *p, const char *fmt, ...) NIGH_PRINTF(2, 3);
/* ,"name":value: when it is there and not null */
void nigh_pen_member(nigh_pen *p, const char *name, const nigh_json *v);
void nigh_pen_refuse(nigh_pen *p, nigh_status code, const char *name, const char *param, const char *fmt, ...)
    NIGH_PRINTF(5, 6);
/* JSON as the text of a JSON string: {"a":1} to "{\"a\":1}" */
void nigh_pen_json_text(nigh_pen *p, const nigh_json *v);

/* Reading what a stranger wrote: never fails. */
static inline bool nigh_front_absent(const nigh_json *v) { return !v || v->type == NIGH_JSON_NULL; }

/* ---- requests ---- */
/* A body of this kind (not NIGH_FRONT_NONE) as a chat request; echo: see nigh_responses_read. Both are appended to.
 * Fills why on failure: EINVAL, ENOSUP, ERANGE, ENOMEM. */
NIGH_CHECK nigh_status nigh_front_translate(nigh_front_kind kind, nigh_str body, nigh_buf *chat, nigh_buf *echo,
    nigh_refusal *why);
/* Its parts; w->why is filled on failure. */
/* for_count: max_tokens may be missing. */
void nigh_messages_read(nigh_pen *w, const nigh_json *root, bool for_count);
/* echo: the members of the request that the answer repeats, each with a comma behind it. */
void nigh_responses_read(nigh_pen *w, const nigh_json *root, nigh_pen *echo);
/* The members that mean the same in every dialect, behind a first one. */
void nigh_front_read_common(nigh_pen *w, const nigh_json *root);
/* A whole number in 1..1048576, as the member `to`. */
void nigh_front_read_limit(nigh_pen *w, const nigh_json *v, const char *name, const char *to);

/* ---- answers ---- */
typedef enum { NIGH_FRONT_NOTHING, NIGH_FRONT_IN_TEXT, NIGH_FRONT_IN_TOOL } nigh_front_open;

/* The first call of a tool streams as it comes, and stays open to the end: with private values that are put back, its
 * last piece comes at the very end. Further calls, and text behind the first, wait for the end, too. */
struct nigh_front {
    nigh_front_kind kind;
    nigh_front_open open;
    uint32_t index, sequence;       /* of the block or item that is open or comes next; of the next event */
    size_t tool;                    /* the one that streams */
    bool any_tool;
    nigh_buf text, late;            /* of the item that is open; text that waits for the end */
    nigh_buf output, echo;          /* of responses: items that are done, with commas; see nigh_responses_read */
};

extern const nigh_speller nigh_messages_speller, nigh_responses_speller;

/* Reads a body of this kind (not NIGH_FRONT_NONE) into a->r; sets a->front and a->spell. Fills why on failure. */
NIGH_CHECK nigh_status nigh_front_read(nigh_answer *a, nigh_front_kind kind, nigh_str body, nigh_refusal *why);
void nigh_front_free(nigh_front *f);        /* accepts NULL */
/* A field of chat as this client called it. */
const char *nigh_front_param(const nigh_answer *a, const char *param);
/* The words chat has for why it ended: "stop", "length", "tool_calls", "content_filter". */
const char *nigh_front_finish(const nigh_answer *a);

#endif
