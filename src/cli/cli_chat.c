/* cli_chat.c - see cli_chat.h. The messages are kept as the JSON of a request, as it would come over the network:
 * one way from messages to a prompt for both doors. What stands in a message never becomes a special token. */
#define _GNU_SOURCE
#include <time.h>

#include "base/json.h"
#include "cli/cli_chat.h"

nigh_status nigh_cli_chat_open(nigh_cli_chat *c, const nigh_cli_model *m, const char *system, nigh_err *err) {
    *c = (nigh_cli_chat){ .messages = NIGH_BUF(NIGH_CLI_TEXT_MAX) };
    if (m->about->chat_template.len == 0)
        return nigh_fail(err, NIGH_EINVAL, 0,
                         "this model has no chat template: it continues texts; give one with -p, without --chat");
    NIGH_TRY(nigh_chat_open(&c->chat, NIGH_CHAT_OWN, m->about->chat_template, err));
    return system ? nigh_cli_chat_add(c, "system", nigh_str_of(system), err) : NIGH_OK;
}

void nigh_cli_chat_close(nigh_cli_chat *c) {
    nigh_chat_close(c->chat);
    nigh_buf_release(&c->messages);
    *c = (nigh_cli_chat){ 0 };
}

static nigh_status add_message(nigh_buf *b, const char *role, nigh_str text) {
    NIGH_TRY(nigh_buf_addf(b, "%s{\"role\":\"%s\",\"content\":", b->len ? "," : "", role));
    NIGH_TRY(nigh_json_add_string(b, text));
    return nigh_buf_add_char(b, '}');
}

nigh_status nigh_cli_chat_add(nigh_cli_chat *c, const char *role, nigh_str text, nigh_err *err) {
    size_t before = c->messages.len;
    nigh_status status = add_message(&c->messages, role, text);
    if (status == NIGH_OK) return NIGH_OK;
    c->messages.len = before;
    return nigh_fail(err, status, 0, "the conversation is too long");
}

/* What the template is given beside the messages: the texts of the border tokens, and today. */
static nigh_chat_opts chat_opts(const nigh_tokenizer *t) {
    int32_t bos = nigh_tokenizer_bos(t), eos = nigh_tokenizer_eos(t);
    time_t now = (time_t)(nigh_os_unix_ms() / 1000);
    struct tm today;
    nigh_chat_opts o = { 0 };
    if (bos >= 0) o.bos_token = nigh_tokenizer_text(t, bos);
    if (eos >= 0) o.eos_token = nigh_tokenizer_text(t, eos);
    if (localtime_r(&now, &today)) {
        o.year = today.tm_year + 1900;
        o.month = today.tm_mon + 1;
        o.day = today.tm_mday;
    }
    return o;
}

nigh_status nigh_cli_chat_ids(const nigh_cli_chat *c, const nigh_cli_model *m, nigh_ids *ids, nigh_err *err) {
    nigh_buf request = NIGH_BUF(NIGH_CLI_TEXT_MAX), prompt = NIGH_BUF(NIGH_CLI_TEXT_MAX);
    nigh_json_doc doc = { 0 };
    nigh_spans spans = { 0 };
    nigh_status status = nigh_buf_add(&request, NIGH_STR("{\"messages\":["));
    if (status == NIGH_OK) status = nigh_buf_add(&request, nigh_buf_str(&c->messages));
    if (status == NIGH_OK) status = nigh_buf_add(&request, NIGH_STR("]}"));
    if (status != NIGH_OK) nigh_fail(err, status, 0, "the conversation is too long");
    if (status == NIGH_OK) status = nigh_json_parse(&doc, nigh_buf_str(&request), err);
    if (status == NIGH_OK) status = nigh_chat_render(c->chat, doc.root, chat_opts(m->tokenizer), &prompt, &spans, err);
    ids->len = 0;
    if (status == NIGH_OK) status = nigh_chat_encode(m->tokenizer, nigh_buf_str(&prompt), &spans, true, ids, err);
    nigh_spans_release(&spans);
    nigh_json_release(&doc);
    nigh_buf_release(&prompt);
    nigh_buf_release(&request);
    return status;
}
