/* dialect.h - how places are spoken to and understood. A request is always an OpenAI chat request as JSON; a dialect
 * spells it for its place (always as a stream), and reads the place's answer, in pieces as they come, back into the
 * events of upstream.h. One file each: dialect_chat.c, dialect_responses.c, dialect_anthropic.c; what they share is
 * in dialect.c and dialect_request.c. Nothing here knows of sockets. */
#ifndef NIGH_DIALECT_H
#define NIGH_DIALECT_H

#include "base/json.h"
#include "node/sse.h"
#include "node/upstream.h"

enum {
    NIGH_DIALECT_BODY_MAX = 64 << 20,       /* of a request */
    NIGH_DIALECT_WHOLE_MAX = 8 << 20,       /* of an answer that is not a stream */
    NIGH_DIALECT_TOOLS_MAX = 128,           /* calls in one answer */
    NIGH_DIALECT_RECEIPT_MAX = 16 << 10
};

/* ---- requests ---- */
typedef struct {
    nigh_str model;
    uint32_t max_tokens;        /* 0: what the body says */
    nigh_tier tier;
} nigh_dialect_ask;

/* Fails: EINVAL (the body is no chat request; or a field that the dialect cannot say, named), ERANGE, ENOMEM. */
NIGH_CHECK nigh_status nigh_dialect_request(nigh_api api, nigh_str body, const nigh_dialect_ask *ask, nigh_buf *out,
    nigh_err *err);
/* Behind a base address: "/chat/completions" and so on. */
nigh_str nigh_dialect_path(nigh_api api);

/* ---- answers ---- */
typedef struct {
    nigh_api api;
    bool edge;                  /* a receipt is taken from it */
    const nigh_upstream_calls *calls;
    void *ud;
    const char *request_id;     /* what the head said; kept; "" none */
    nigh_str key;               /* what `said` must not repeat; kept */

    /* what the rest reads */
    bool stream;                /* events, else one JSON text */
    bool alive;                 /* some work of the model came: also thoughts, which are not given out */
    bool first;                 /* text or a piece of a tool call was given out */
    bool ended;                 /* its end mark came, finish was called; what follows is ignored */
    nigh_call_end failure;      /* other than OK: no more is read; text and said say why */
    uint32_t retry_ms;
    char text[200], said[200];

    /* of the dialects */
    nigh_sse sse;
    nigh_buf whole;
    bool begun, refused, receipt_given;
    const char *finish;         /* NULL: not said yet */
    nigh_usage usage;
    struct nigh_dialect_tool { uint32_t key; bool has_arguments; } *tools;
    uint32_t tool_count;
} nigh_dialect_answer;

/* After the head of a good answer: zero it, fill api to key, and stream. */
void nigh_dialect_feed(nigh_dialect_answer *a, nigh_str bytes);
/* The bytes are over. OK only when the dialect's own end was said; sets failure and text otherwise. */
nigh_call_end nigh_dialect_end(nigh_dialect_answer *a);
void nigh_dialect_release(nigh_dialect_answer *a);
/* A receipt that came beside the answer: given out when it is a JSON object and a was made for an edge node. */
void nigh_dialect_receipt(nigh_dialect_answer *a, nigh_str text);

/* The answer of an error: which end that is, with our words and the place's. key: what said must not hold.
 * body: as much as came of it. */
nigh_call_end nigh_dialect_error(int http, nigh_str body, nigh_str key, char text[200], char said[200]);
/* The place's words, shortened to one line; nothing when they hold a piece of the key. */
void nigh_dialect_quote(nigh_str type, nigh_str message, nigh_str key, char said[200]);

#endif
