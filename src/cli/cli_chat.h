/* cli_chat.h - a conversation on the command line: messages in, the ids of the model's prompt out. */
#ifndef NIGH_CLI_CHAT_H
#define NIGH_CLI_CHAT_H

#include "cli/cli_model.h"
#include "engine/chat.h"

typedef struct {
    nigh_chat *chat;
    nigh_buf messages;          /* the JSON of the messages so far, without the brackets around them */
} nigh_cli_chat;

/* By the model's own template. system: may be NULL. Fails: EINVAL (the model has no template), as nigh_chat_open. */
NIGH_CHECK nigh_status nigh_cli_chat_open(nigh_cli_chat *c, const nigh_cli_model *m, const char *system, nigh_err *err);
void nigh_cli_chat_close(nigh_cli_chat *c);
/* One more message. role: "user" or "assistant". Fails: ERANGE, ENOMEM. */
NIGH_CHECK nigh_status nigh_cli_chat_add(nigh_cli_chat *c, const char *role, nigh_str text, nigh_err *err);
/* Replaces `ids` by those of the whole conversation, ready for the model's answer. Fails: as nigh_chat_render and
 * nigh_chat_encode. */
NIGH_CHECK nigh_status nigh_cli_chat_ids(const nigh_cli_chat *c, const nigh_cli_model *m, nigh_ids *ids, nigh_err *err);

#endif
