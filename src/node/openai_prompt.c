/* openai_prompt.c - the words of a request to token ids.
 * A prompt or an input is text or ids. A conversation goes through the model's chat template; a model without one
 * (it only continues text) gets the contents of the messages one after the other, with an empty line between. */
#include "node/openai.h"

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

static nigh_status chat(const nigh_served *m, const nigh_request *r, nigh_ids *ids, nigh_refusal *why) {
    nigh_buf text = NIGH_BUF(4 << 20);
    if (nigh_model_about(m->model)->chat_template.len)
        return nigh_refuse(why, NIGH_ENOSUP, "unsupported_value", "messages",
            "chat templates are not supported so far");
    nigh_status status = join_messages(&text, r->content);
    if (status != NIGH_OK) (void)nigh_refuse(why, status, "no_memory", NULL, "%s", nigh_status_text(status));
    else status = encode(m, r, nigh_buf_str(&text), ids, why);
    nigh_buf_release(&text);
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
