/* openai_prompt.c - the words of a request to token ids.
 * A prompt or an input is text or ids. A conversation goes through the model's chat template; a model without one
 * (it only continues text) gets the contents of the messages one after the other, with an empty line between. */
#include "node/openai.h"

#include "base/os.h"

enum { PROMPT_MAX = 4 << 20 };

static nigh_status refuse_long(nigh_refusal *why, const nigh_request *r, size_t limit) {
    const char *param = r->task == NIGH_TASK_CHAT ? "messages" : r->task == NIGH_TASK_COMPLETION ? "prompt" : "input";
    return nigh_refuse(why, NIGH_EINVAL, "context_length_exceeded", param,
        "the text is longer than the %zu tokens there is room for", limit);
}

static nigh_status encode(const nigh_served *m, const nigh_request *r, nigh_str text, nigh_ids *ids,
    nigh_refusal *why) {
    nigh_err err = { 0 };
    nigh_encode_opts o = { .add_special = true };
    nigh_status status = nigh_tokenizer_encode(nigh_model_tokenizer(m->model), text, o, ids, &err);
    if (status == NIGH_ERANGE) return refuse_long(why, r, ids->limit);
    return status == NIGH_OK ? NIGH_OK : nigh_refuse(why, status, "no_memory", NULL, "%s", nigh_status_text(status));
}

static nigh_status take_ids(const nigh_served *m, const nigh_request *r, const nigh_json *v, nigh_ids *ids,
    nigh_refusal *why) {
    uint32_t vocab = nigh_model_about(m->model)->vocab;
    for (const nigh_json *t = v->first; t; t = t->next) {
        if (t->integer >= vocab)
            return nigh_refuse(why, NIGH_EINVAL, "out_of_range", r->task == NIGH_TASK_EMBEDDING ? "input"
                : "prompt", "a token id is not in the vocabulary of %u", vocab);
        nigh_status status = nigh_ids_add(ids, (int32_t)t->integer);
        if (status == NIGH_ERANGE) return refuse_long(why, r, ids->limit);
        if (status != NIGH_OK) return nigh_refuse(why, status, "no_memory", NULL, "not enough memory");
    }
    return NIGH_OK;
}

static nigh_status join_content(nigh_buf *out, const nigh_json *content) {
    if (!content || content->type == NIGH_JSON_NULL) return NIGH_OK;
    if (content->type == NIGH_JSON_STRING) return nigh_buf_add(out, content->text);
    for (const nigh_json *p = content->first; p; p = p->next)
        NIGH_TRY(nigh_buf_add(out, nigh_json_get(p, NIGH_STR("text"))->text));
    return NIGH_OK;
}

static nigh_status join_messages(nigh_buf *out, const nigh_json *messages) {
    for (const nigh_json *m = messages->first; m; m = m->next) {
        if (out->len) NIGH_TRY(nigh_buf_add(out, NIGH_STR("\n\n")));
        NIGH_TRY(join_content(out, nigh_json_get(m, NIGH_STR("content"))));
    }
    return NIGH_OK;
}

static nigh_status join(const nigh_served *m, const nigh_request *r, nigh_ids *ids, nigh_refusal *why) {
    nigh_buf text = NIGH_BUF(PROMPT_MAX);
    nigh_status status = join_messages(&text, r->content);
    if (status != NIGH_OK) (void)nigh_refuse(why, status, "no_memory", NULL, "%s", nigh_status_text(status));
    else status = encode(m, r, nigh_buf_str(&text), ids, why);
    nigh_buf_release(&text);
    return status;
}

/* Year, month and day of a count of days since 1970, by the calendar's eras of 400 years (146,097 days). */
static void set_date(nigh_chat_opts *o, uint64_t days) {
    uint64_t d = days + 719468, era = d / 146097, of_era = d % 146097;      /* counted from 1 March of year 0 */
    uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    o->day = (int32_t)(of_year - (153 * month + 2) / 5 + 1);
    o->month = (int32_t)(month < 10 ? month + 3 : month - 9);
    o->year = (int32_t)(year + era * 400 + (o->month <= 2));
}

static nigh_str token_text(const nigh_tokenizer *t, int32_t id) {
    return id < 0 ? NIGH_STR("") : nigh_tokenizer_text(t, id);
}

static nigh_status refuse_chat(const nigh_request *r, nigh_status status, const nigh_err *err, size_t limit,
                               nigh_refusal *why) {
    if (status == NIGH_ERANGE) return refuse_long(why, r, limit);
    const char *code = status == NIGH_ENOMEM ? "no_memory" : "invalid_value";
    return nigh_refuse(why, status, code, status == NIGH_ENOMEM ? NULL : "messages", "%s", err->text);
}

/* Through the template: what stands in a message is never read as a special token. */
static nigh_status chat(const nigh_served *m, const nigh_request *r, nigh_ids *ids, nigh_refusal *why) {
    const nigh_tokenizer *t = nigh_model_tokenizer(m->model);
    nigh_chat_opts o = { .bos_token = token_text(t, nigh_tokenizer_bos(t)),
        .eos_token = token_text(t, nigh_tokenizer_eos(t)) };
    nigh_buf prompt = NIGH_BUF(PROMPT_MAX);
    nigh_spans spans = { 0 };
    nigh_err err = { 0 };
    if (!m->chat && m->chat_error[0])
        return nigh_refuse(why, NIGH_ENOSUP, "unsupported_value", "messages", "the model's chat template: %s",
            m->chat_error);
    if (!m->chat) return join(m, r, ids, why);
    set_date(&o, nigh_os_unix_ms() / 86400000);
    nigh_status status = nigh_chat_render(m->chat, r->doc.root, o, &prompt, &spans, &err);
    if (status == NIGH_OK) status = nigh_chat_encode(t, nigh_buf_str(&prompt), &spans, true, ids, &err);
    if (status != NIGH_OK) (void)refuse_chat(r, status, &err, ids->limit, why);
    nigh_spans_release(&spans);
    nigh_buf_release(&prompt);
    return status;
}

nigh_status nigh_openai_prompt(const nigh_served *m, const nigh_request *r, size_t i, nigh_ids *ids,
    nigh_refusal *why) {
    const nigh_json *v = nigh_request_item(r, i);
    if (r->task == NIGH_TASK_CHAT) NIGH_TRY(chat(m, r, ids, why));
    else if (v->type == NIGH_JSON_STRING) NIGH_TRY(encode(m, r, v->text, ids, why));
    else NIGH_TRY(take_ids(m, r, v, ids, why));
    if (!ids->len) {                    /* nothing to go on from: begin as the model was taught to */
        int32_t bos = nigh_tokenizer_bos(nigh_model_tokenizer(m->model));
        if (bos < 0)
            return nigh_refuse(why, NIGH_EINVAL, "invalid_value", r->task == NIGH_TASK_CHAT ? "messages"
                : "prompt", "the text is empty");
        if (nigh_ids_add(ids, bos) != NIGH_OK)
            return nigh_refuse(why, NIGH_ENOMEM, "no_memory", NULL, "not enough memory");
    }
    if (r->task != NIGH_TASK_EMBEDDING && ids->len >= ids->limit) return refuse_long(why, r, ids->limit);
    return NIGH_OK;
}

nigh_status nigh_openai_go_on(const nigh_served *m, const nigh_request *r, nigh_str text, nigh_ids *ids,
    nigh_refusal *why) {
    nigh_err err = { 0 };
    nigh_status status = nigh_tokenizer_encode(nigh_model_tokenizer(m->model), text, (nigh_encode_opts){ 0 }, ids,
        &err);
    if (status == NIGH_ERANGE || (status == NIGH_OK && ids->len >= ids->limit)) return refuse_long(why, r, ids->limit);
    return status == NIGH_OK ? NIGH_OK : nigh_refuse(why, status, "no_memory", NULL, "%s", nigh_status_text(status));
}
