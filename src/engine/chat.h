/* chat.h - a conversation to the prompt of a model: its template, what that template can take, and the ids.
 * Special tokens come from the template only: what stands in a message is tokenised as plain text, whatever it
 * looks like.
 * Immutable once open; any thread may use it. */
#ifndef NIGH_CHAT_H
#define NIGH_CHAT_H

#include "engine/template.h"
#include "engine/tokenizer.h"

typedef struct nigh_chat nigh_chat;

/* Which template a chat uses; to be shown to the user, who should know when it is not the model's own. */
typedef enum {
    NIGH_CHAT_OWN = 0,      /* the source that was given */
    NIGH_CHAT_CHATML,       /* built in: <|im_start|>role ... <|im_end|> */
    /* Built in: "User: ..." and "Assistant:" lines, for models that learnt no special tokens. */
    NIGH_CHAT_PLAIN
} nigh_chat_kind;

/* What a template takes; found by rendering small conversations when it is opened. What it does not take is rewritten
 * before rendering: a system message goes in front of the first user message, parts become text or text becomes a part,
 * arguments of tool calls become an object. */
typedef struct {
    bool system, text, parts, tools, object_arguments;
    bool thinking;          /* its prompt ends differently with enable_thinking, which is then true by default */
} nigh_chat_takes;

typedef struct {
    nigh_str bos_token, eos_token;      /* texts, e.g. of nigh_tokenizer_text; given to the template */
    int32_t year, month, day;           /* today, for templates that print it; year 0: unknown */
    bool drop_bos;                      /* a bos_token at the very start of the prompt is taken off, for showing it */
    /* A request's bos_token and eos_token go before these. They count as the template's own text, so only for a
     * request of one's own: what comes over a network must not say what a special token is. */
    bool trust_request_tokens;
    bool no_generation_prompt;          /* the default; a request's add_generation_prompt goes first */
} nigh_chat_opts;

/* source: the template; with NIGH_CHAT_OWN required, else ignored.
 * Fails: EINVAL, ENOSUP, ERANGE (line and column), ENOMEM. */
NIGH_CHECK nigh_status nigh_chat_open(nigh_chat **out, nigh_chat_kind kind, nigh_str source, nigh_err *err);
void nigh_chat_close(nigh_chat *c);     /* accepts NULL */
nigh_chat_kind nigh_chat_kind_of(const nigh_chat *c);
nigh_str nigh_chat_kind_name(nigh_chat_kind kind);      /* "own", "chatml", "plain" */
nigh_chat_takes nigh_chat_about(const nigh_chat *c);

/* request: an object with `messages` (array of {role, content, ...}; content a string, null or parts), and optionally
 * `tools`, `add_generation_prompt`, `chat_template_kwargs` (an object: more names for the template). Other members are
 * ignored. The prompt is appended to `prompt`; spans count from there (see template.h).
 * Fails: EINVAL (the request, naming the member, or the template's own refusal), ENOSUP (parts that are not text),
 * ERANGE, ENOMEM. */
NIGH_CHECK nigh_status nigh_chat_render(const nigh_chat *c, const nigh_json *request, nigh_chat_opts o,
                                        nigh_buf *prompt, nigh_spans *spans, nigh_err *err);

/* Appends the ids of a prompt. Only text that the template wrote is searched for special tokens; what looks like one
 * and lies even partly in user text is plain text. Text between two special tokens is tokenised in one piece, so the
 * marks never change how words are cut. add_special: put BOS and EOS as the tokenizer's file asks for; a BOS that the
 * template has written is not put twice. */
NIGH_CHECK nigh_status nigh_chat_encode(const nigh_tokenizer *t, nigh_str prompt, const nigh_spans *spans,
                                        bool add_special, nigh_ids *out, nigh_err *err);

#endif
