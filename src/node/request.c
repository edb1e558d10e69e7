/* request.c - JSON in OpenAI's words to a nigh_request, or a refusal that names the field.
 * Plain fields go by the table. What has a shape of its own (prompt, messages, stop, logit_bias, stream_options,
 * response_format, tool_choice) has a reader below, run in the order of `shapes`. Everything is bounded before it
 * is kept. */
#include "node/request.h"

#include "place/policy.h"

enum { C = NIGH_TASK_COMPLETION, M = NIGH_TASK_CHAT, E = NIGH_TASK_EMBEDDING };
#define AT(member) offsetof(nigh_request, member)

static const nigh_field_rule rules[] = {
    { "model", C | M | E, NIGH_FIELD_TEXT, 0, 256, AT(model), "absent: the first model of this node" },
    { "stream", C | M, NIGH_FIELD_BOOL, 0, 0, AT(stream), "server-sent events" },
    { "max_tokens", C | M, NIGH_FIELD_INT, 1, 1048576, AT(max_tokens),
        "absent: 16 for completions, else until the context is full" },
    { "max_completion_tokens", M, NIGH_FIELD_INT, 1, 1048576, AT(max_tokens), "the newer name of max_tokens" },
    { "n", C | M, NIGH_FIELD_INT, 1, NIGH_REQUEST_N_MAX, AT(n), "answers to one prompt" },
    { "best_of", C, NIGH_FIELD_INT, 1, NIGH_REQUEST_N_MAX, AT(best_of), "must equal n" },
    { "temperature", C | M, NIGH_FIELD_FLOAT, 0, 2, AT(temperature), "0: always the likeliest token; absent: 1" },
    { "top_p", C | M, NIGH_FIELD_FLOAT, 0, 1, AT(top_p), "1: off" },
    { "min_p", C | M, NIGH_FIELD_FLOAT, 0, 1, AT(min_p), "0: off" },
    { "top_k", C | M, NIGH_FIELD_INT, 0, 1048576, AT(top_k), "0: off" },
    { "repeat_penalty", C | M, NIGH_FIELD_FLOAT, 0, 10, AT(repeat_penalty), "0 or 1: off" },
    { "frequency_penalty", C | M, NIGH_FIELD_FLOAT, -2, 2, AT(frequency_penalty), "" },
    { "presence_penalty", C | M, NIGH_FIELD_FLOAT, -2, 2, AT(presence_penalty), "" },
    { "seed", C | M, NIGH_FIELD_INT, -9223372036854775808.0, 9223372036854775807.0, AT(seed), "same seed, same text" },
    { "echo", C, NIGH_FIELD_BOOL, 0, 0, AT(echo), "the prompt stands before the answer" },
    { "logprobs", C, NIGH_FIELD_INT, 0, 20, AT(top_logprobs), "how many alternatives" },
    { "logprobs", M, NIGH_FIELD_BOOL, 0, 0, AT(logprobs), "" },
    { "top_logprobs", M, NIGH_FIELD_INT, 0, 20, AT(top_logprobs), "wants logprobs" },
    { "ignore_eos", C | M, NIGH_FIELD_BOOL, 0, 0, AT(ignore_end), "end tokens are text like any other" },
    { "dimensions", E, NIGH_FIELD_INT, 1, 65536, AT(dimensions), "must equal the model's" },
};

const nigh_field_rule *nigh_fields(size_t *count) {
    *count = NIGH_COUNT(rules);
    return rules;
}

nigh_status nigh_fields_json(nigh_buf *out) {
    static const char *const kinds[] = { "int", "float", "bool", "text" };
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("[")));
    for (size_t i = 0; i < NIGH_COUNT(rules); i++) {
        const nigh_field_rule *f = &rules[i];
        NIGH_TRY(nigh_buf_addf(out,
            "%s{\"name\":\"%s\",\"kind\":\"%s\",\"completions\":%s,\"chat\":%s,\"embeddings\":%s,\"min\":", i
                ? ",\n" : "", f->name, kinds[f->kind],
                               f->tasks & C ? "true" : "false", f->tasks & M ? "true" : "false", f->tasks & E
                                   ? "true" : "false"));
        NIGH_TRY(nigh_json_add_f64(out, f->min));
        NIGH_TRY(nigh_buf_add(out, NIGH_STR(",\"max\":")));
        NIGH_TRY(nigh_json_add_f64(out, f->max));
        NIGH_TRY(nigh_buf_add(out, NIGH_STR(",\"note\":")));
        NIGH_TRY(nigh_json_add_string(out, nigh_str_of(f->note)));
        NIGH_TRY(nigh_buf_add_char(out, '}'));
    }
    return nigh_buf_add(out, NIGH_STR("]\n"));
}

nigh_status nigh_refuse(nigh_refusal *why, nigh_status code, const char *name, const char *param, const char *fmt,
    ...) {
    va_list args;
    why->status = nigh_status_http(code);
    why->code = name;
    why->param = param;
    va_start(args, fmt);
    nigh_vformat(why->text, sizeof why->text, fmt, args);
    va_end(args);
    return code;
}

static nigh_status bad_type(nigh_refusal *why, const char *param, const char *wanted) {
    return nigh_refuse(why, NIGH_EINVAL, "invalid_type", param, "'%s' must be %s", param, wanted);
}

/* A model of this node cannot do it; the first such thing is what is said. */
static nigh_status beyond(nigh_request *r, unsigned needs, const char *param, const char *text) {
    r->needs |= needs;
    if (!r->beyond) { r->beyond = text; r->beyond_param = param; }
    return NIGH_OK;
}

static bool is_absent(const nigh_json *v) { return !v || v->type == NIGH_JSON_NULL; }

/* ---- plain fields ---- */

static nigh_status take_field(nigh_request *r, const nigh_field_rule *f, const nigh_json *v, nigh_refusal *why) {
    char *to = (char *)r + f->at;
    if (f->kind == NIGH_FIELD_BOOL) {
        if (v->type != NIGH_JSON_BOOL) return bad_type(why, f->name, "true or false");
        *(bool *)(void *)to = v->boolean;
        return NIGH_OK;
    }
    if (f->kind == NIGH_FIELD_TEXT) {
        if (v->type != NIGH_JSON_STRING) return bad_type(why, f->name, "a string");
        if ((double)v->text.len > f->max)
            return nigh_refuse(why, NIGH_EINVAL, "too_long", f->name, "'%s' is longer than %u bytes", f->name,
                (unsigned)f->max);
        *(nigh_str *)(void *)to = v->text;
        return NIGH_OK;
    }
    if (v->type != NIGH_JSON_NUMBER) return bad_type(why, f->name, "a number");
    if (f->kind == NIGH_FIELD_INT && !v->is_int) return bad_type(why, f->name, "a whole number");
    double number = f->kind == NIGH_FIELD_INT ? (double)v->integer : v->number;
    if (!(number >= f->min && number <= f->max)) {
        if (f->kind == NIGH_FIELD_INT)
            return nigh_refuse(why, NIGH_EINVAL, "out_of_range", f->name, "'%s' must lie in %lld..%lld", f->name,
                (long long)f->min, (long long)f->max);
        return nigh_refuse(why, NIGH_EINVAL, "out_of_range", f->name, "'%s' must lie in %.1f..%.1f", f->name,
            f->min, f->max);
    }
    if (f->kind == NIGH_FIELD_INT) *(int64_t *)(void *)to = v->integer;
    else *(double *)(void *)to = number;
    return NIGH_OK;
}

static nigh_status take_fields(nigh_request *r, const nigh_json *root, nigh_refusal *why) {
    for (size_t i = 0; i < NIGH_COUNT(rules); i++) {
        const nigh_field_rule *f = &rules[i];
        const nigh_json *v = f->tasks & r->task ? nigh_json_get(root, nigh_str_of(f->name)) : NULL;
        if (is_absent(v)) continue;
        NIGH_TRY(take_field(r, f, v, why));
        if (f->at == AT(seed)) r->has_seed = true;
        if (f->at == AT(max_tokens)) r->has_max_tokens = true;
        if (f->at == AT(top_logprobs) && r->task == NIGH_TASK_COMPLETION) r->logprobs = true;
    }
    return NIGH_OK;
}

/* ---- fields with a shape ---- */

static nigh_status take_stop(nigh_request *r, const nigh_json *v, nigh_refusal *why) {
    const nigh_json *one = v->type == NIGH_JSON_ARRAY ? v->first : v;
    if (v->type != NIGH_JSON_ARRAY && v->type != NIGH_JSON_STRING)
        return bad_type(why, "stop", "a string or an array of strings");
    if (v->type == NIGH_JSON_ARRAY && v->count > NIGH_REQUEST_STOP_MAX)
        return nigh_refuse(why, NIGH_EINVAL, "too_many", "stop", "'stop' may hold at most %d strings",
            NIGH_REQUEST_STOP_MAX);
    for (; one; one = v->type == NIGH_JSON_ARRAY ? one->next : NULL) {
        if (one->type != NIGH_JSON_STRING) return bad_type(why, "stop", "a string or an array of strings");
        if (!one->text.len || one->text.len > NIGH_REQUEST_STOP_BYTES)
            return nigh_refuse(why, NIGH_EINVAL, "out_of_range", "stop", "a stop string must have 1..%d bytes",
                NIGH_REQUEST_STOP_BYTES);
        r->stop[r->stop_count++] = one->text;
    }
    return NIGH_OK;
}

static nigh_status take_bias(nigh_request *r, const nigh_json *v, nigh_refusal *why) {
    if (v->type != NIGH_JSON_OBJECT) return bad_type(why, "logit_bias", "an object of token ids and numbers");
    if (v->count > NIGH_REQUEST_BIAS_MAX)
        return nigh_refuse(why, NIGH_EINVAL, "too_many", "logit_bias", "'logit_bias' may hold at most %d tokens",
            NIGH_REQUEST_BIAS_MAX);
    if (!v->count) return NIGH_OK;
    r->bias = nigh_alloc(sizeof *r->bias, v->count);
    if (!r->bias) return nigh_refuse(why, NIGH_ENOMEM, "no_memory", NULL, "not enough memory");
    for (const nigh_json *m = v->first; m; m = m->next) {
        int64_t id;
        if (!nigh_str_to_i64(m->key, &id) || id < 0 || id > INT32_MAX)
            return nigh_refuse(why, NIGH_EINVAL, "out_of_range", "logit_bias",
                "'logit_bias' names something that is no token id");
        if (m->type != NIGH_JSON_NUMBER || !(m->number >= -100 && m->number <= 100))
            return nigh_refuse(why, NIGH_EINVAL, "out_of_range", "logit_bias", "a bias must be a number in -100..100");
        r->bias[r->bias_count++] = (nigh_logit_bias){ (int32_t)id, (float)m->number };
    }
    return NIGH_OK;
}

static nigh_status take_stream_options(nigh_request *r, const nigh_json *v, nigh_refusal *why) {
    const nigh_json *usage = nigh_json_get(v, NIGH_STR("include_usage"));
    if (v->type != NIGH_JSON_OBJECT) return bad_type(why, "stream_options", "an object");
    if (is_absent(usage)) return NIGH_OK;
    if (usage->type != NIGH_JSON_BOOL) return bad_type(why, "stream_options.include_usage", "true or false");
    r->include_usage = usage->boolean;
    return NIGH_OK;
}

static nigh_status take_response_format(nigh_request *r, const nigh_json *v, nigh_refusal *why) {
    const nigh_json *type = nigh_json_get(v, NIGH_STR("type"));
    if (v->type != NIGH_JSON_OBJECT || !type || type->type != NIGH_JSON_STRING)
        return bad_type(why, "response_format", "an object with a type");
    if (nigh_str_eq(type->text, NIGH_STR("text"))) return NIGH_OK;
    return beyond(r, NIGH_CAN_JSON, "response_format", "only the response format 'text' is supported so far");
}

static nigh_status take_tool_choice(nigh_request *r, const nigh_json *v, nigh_refusal *why) {
    if (v->type == NIGH_JSON_STRING && (nigh_str_eq(v->text, NIGH_STR("auto"))
        || nigh_str_eq(v->text, NIGH_STR("none")))) return NIGH_OK;
    if (v->type != NIGH_JSON_STRING && v->type != NIGH_JSON_OBJECT)
        return bad_type(why, "tool_choice", "a string or an object");
    return beyond(r, NIGH_CAN_TOOLS, "tool_choice",
        "a call of a tool cannot be forced so far; 'auto' and 'none' are supported");
}

static nigh_status take_tools(nigh_request *r, const nigh_json *v, nigh_refusal *why) {
    if (v->type != NIGH_JSON_ARRAY) return bad_type(why, "tools", "an array");
    if (v->count > NIGH_REQUEST_TOOLS_MAX)
        return nigh_refuse(why, NIGH_EINVAL, "too_many", "tools", "'tools' may hold at most %d",
            NIGH_REQUEST_TOOLS_MAX);
    for (const nigh_json *t = v->first; t; t = t->next) {
        const nigh_json *name = nigh_json_get(nigh_json_get(t, NIGH_STR("function")), NIGH_STR("name"));
        if (!name || name->type != NIGH_JSON_STRING || !name->text.len || name->text.len > 64)
            return bad_type(why, "tools", "functions with a name of 1..64 bytes");
    }
    if (!v->count) return NIGH_OK;
    r->tools = v;
    r->needs |= NIGH_CAN_TOOLS;
    return NIGH_OK;
}

static nigh_status take_suffix(nigh_request *r, const nigh_json *v, nigh_refusal *why) {
    if (v->type != NIGH_JSON_STRING) return bad_type(why, "suffix", "a string");
    return v->text.len ? beyond(r, 0, "suffix", "text after the gap is not supported so far") : NIGH_OK;
}

static nigh_status take_encoding(nigh_request *r, const nigh_json *v, nigh_refusal *why) {
    if (v->type != NIGH_JSON_STRING) return bad_type(why, "encoding_format", "a string");
    r->base64 = nigh_str_eq(v->text, NIGH_STR("base64"));
    if (r->base64 || nigh_str_eq(v->text, NIGH_STR("float"))) return NIGH_OK;
    return nigh_refuse(why, NIGH_EINVAL, "invalid_value", "encoding_format",
        "'encoding_format' must be float or base64");
}

static nigh_status take_kwargs(nigh_request *r, const nigh_json *v, nigh_refusal *why) {
    if (v->type != NIGH_JSON_OBJECT) return bad_type(why, "chat_template_kwargs", "an object");
    r->template_kwargs = v;
    return NIGH_OK;
}

/* A text part of a message; anything else cannot be shown to a model of text. */
static nigh_status check_parts(nigh_request *r, const nigh_json *parts, nigh_refusal *why) {
    for (const nigh_json *p = parts->first; p; p = p->next) {
        const nigh_json *type = nigh_json_get(p, NIGH_STR("type")), *text = nigh_json_get(p, NIGH_STR("text"));
        if (p->type != NIGH_JSON_OBJECT || !type || type->type != NIGH_JSON_STRING)
            return bad_type(why, "messages", "messages whose parts are objects with a type");
        if (!nigh_str_eq(type->text, NIGH_STR("text"))) {
            NIGH_TRY(beyond(r, NIGH_CAN_VISION, "messages", "only text parts are supported so far"));
            continue;
        }
        if (!text || text->type != NIGH_JSON_STRING)
            return bad_type(why, "messages", "messages whose text parts hold a text");
    }
    return NIGH_OK;
}

static nigh_status check_message(nigh_request *r, const nigh_json *m, nigh_refusal *why) {
    static const char *const roles[] = { "system", "developer", "user", "assistant", "tool", "function" };
    const nigh_json *role = nigh_json_get(m, NIGH_STR("role")), *content = nigh_json_get(m, NIGH_STR("content"));
    bool known = false;
    if (m->type != NIGH_JSON_OBJECT) return bad_type(why, "messages", "an array of objects");
    if (!role || role->type != NIGH_JSON_STRING) return bad_type(why, "messages", "messages with a role");
    for (size_t i = 0; i < NIGH_COUNT(roles); i++) known |= nigh_str_eq(role->text, nigh_str_of(roles[i]));
    if (!known) return nigh_refuse(why, NIGH_EINVAL, "invalid_value", "messages", "a message has an unknown role");
    if (is_absent(content)) {
        if (nigh_str_eq(role->text, NIGH_STR("assistant"))) return NIGH_OK;     /* a call of a tool alone */
        return bad_type(why, "messages", "messages with a content");
    }
    if (content->type == NIGH_JSON_ARRAY) return check_parts(r, content, why);
    return content->type == NIGH_JSON_STRING ? NIGH_OK : bad_type(why, "messages",
        "messages whose content is a string or an array of parts");
}

static nigh_status take_messages(nigh_request *r, const nigh_json *v, nigh_refusal *why) {
    if (v->type != NIGH_JSON_ARRAY || !v->count) return bad_type(why, "messages", "an array with at least one message");
    if (v->count > NIGH_REQUEST_MESSAGES_MAX)
        return nigh_refuse(why, NIGH_EINVAL, "too_many", "messages", "'messages' may hold at most %d",
            NIGH_REQUEST_MESSAGES_MAX);
    for (const nigh_json *m = v->first; m; m = m->next) NIGH_TRY(check_message(r, m, why));
    r->content = v;
    return NIGH_OK;
}

static bool is_ids(const nigh_json *v) {
    if (v->type != NIGH_JSON_ARRAY || !v->count) return false;
    for (const nigh_json *t = v->first; t; t = t->next)
        if (t->type != NIGH_JSON_NUMBER || !t->is_int || t->integer < 0 || t->integer > INT32_MAX) return false;
    return true;
}

/* A string, an array of strings, an array of ids, or an array of arrays of ids. */
static nigh_status take_texts(nigh_request *r, const nigh_json *v, const char *param, size_t most, nigh_refusal *why) {
    r->content = v;
    if (v->type == NIGH_JSON_STRING || is_ids(v)) return NIGH_OK;
    if (v->type != NIGH_JSON_ARRAY || !v->count)
        return bad_type(why, param, "a string, an array of strings, or token ids");
    if (v->count > most)
        return nigh_refuse(why, NIGH_EINVAL, "too_many", param, "'%s' may hold at most %zu", param, most);
    for (const nigh_json *t = v->first; t; t = t->next)
        if (t->type != v->first->type || (t->type != NIGH_JSON_STRING && !is_ids(t)))
            return bad_type(why, param, "a string, an array of strings, or token ids");
    return NIGH_OK;
}
static nigh_status take_prompt(nigh_request *r, const nigh_json *v,
    nigh_refusal *why) { return take_texts(r, v, "prompt", NIGH_REQUEST_PROMPTS_MAX, why); }
static nigh_status take_input(nigh_request *r, const nigh_json *v,
    nigh_refusal *why) { return take_texts(r, v, "input", NIGH_REQUEST_INPUTS_MAX, why); }

/* Only what names a feature is read; the rest is the client's own. */
static nigh_status take_metadata(nigh_request *r, const nigh_json *v, nigh_refusal *why) {
    const nigh_json *feature = nigh_json_get(v, NIGH_STR("feature"));
    (void)why;
    if (feature && feature->type == NIGH_JSON_STRING) r->feature = feature->text;
    return NIGH_OK;
}

static const struct { const char *name; unsigned tasks; bool needed; nigh_status (*take)(nigh_request *,
    const nigh_json *, nigh_refusal *); } shapes[] = {
    { "messages", M, true, take_messages }, { "prompt", C, true, take_prompt }, { "input", E, true, take_input },
        { "stop", C | M, false, take_stop },
    { "logit_bias", C | M, false, take_bias }, { "stream_options", C | M, false, take_stream_options },
        { "response_format", C | M, false, take_response_format },
    { "tools", M, false, take_tools }, { "tool_choice", M, false, take_tool_choice },
        { "suffix", C, false, take_suffix }, { "encoding_format", E, false, take_encoding },
    { "chat_template_kwargs", M, false, take_kwargs }, { "metadata", C | M | E, false, take_metadata } };

static nigh_status take_all(nigh_request *r, const nigh_json *root, nigh_refusal *why) {
    NIGH_TRY(take_fields(r, root, why));
    for (size_t i = 0; i < NIGH_COUNT(shapes); i++) {
        const nigh_json *v = shapes[i].tasks & r->task ? nigh_json_get(root, nigh_str_of(shapes[i].name)) : NULL;
        if (!is_absent(v)) NIGH_TRY(shapes[i].take(r, v, why));
        else if (shapes[i].tasks & r->task && shapes[i].needed)
            return nigh_refuse(why, NIGH_EINVAL, "missing", shapes[i].name, "'%s' is missing", shapes[i].name);
    }
    if (r->best_of && r->best_of != r->n)
        return nigh_refuse(why, NIGH_EINVAL, "unsupported_value", "best_of", "'best_of' must equal 'n'");
    if (r->task == NIGH_TASK_CHAT && r->top_logprobs && !r->logprobs)
        return nigh_refuse(why, NIGH_EINVAL, "invalid_value", "top_logprobs", "'top_logprobs' wants 'logprobs': true");
    if (r->task == NIGH_TASK_COMPLETION && !r->has_max_tokens) r->max_tokens = 16;
    return NIGH_OK;
}

nigh_status nigh_request_parse_any(nigh_request *r, nigh_task task, nigh_str body, nigh_refusal *why) {
    nigh_err err = { 0 };
    *r = (nigh_request){ .task = task, .n = 1, .temperature = 1, .top_p = 1 };
    *why = (nigh_refusal){ 0 };
    nigh_status status = nigh_json_parse(&r->doc, body, &err);
    if (status != NIGH_OK) {
        if (status == NIGH_ENOMEM) return nigh_refuse(why, status, "no_memory", NULL, "not enough memory");
        return nigh_refuse(why, NIGH_EINVAL, "invalid_json", NULL, "the body is not valid JSON: byte %llu",
            (unsigned long long)err.at);
    }
    status = r->doc.root->type == NIGH_JSON_OBJECT ? take_all(r, r->doc.root, why)
        : nigh_refuse(why, NIGH_EINVAL, "invalid_json", NULL, "the body must be a JSON object");
    if (task == NIGH_TASK_EMBEDDING) r->needs |= NIGH_CAN_EMBED;
    if (status != NIGH_OK) nigh_request_release(r);
    return status;
}

nigh_status nigh_request_parse(nigh_request *r, nigh_task task, nigh_str body, nigh_refusal *why) {
    NIGH_TRY(nigh_request_parse_any(r, task, body, why));
    if (!r->beyond) return NIGH_OK;
    (void)nigh_refuse(why, NIGH_ENOSUP, "unsupported_value", r->beyond_param, "%s", r->beyond);
    nigh_request_release(r);
    return NIGH_ENOSUP;
}

nigh_status nigh_request_forget(nigh_request *r) {
    size_t bytes = 0;
    for (size_t i = 0; i < r->stop_count; i++) bytes += r->stop[i].len;
    char *to = bytes ? nigh_alloc(1, bytes) : NULL;
    if (bytes && !to) return NIGH_ENOMEM;
    r->stop_bytes = to;
    for (size_t i = 0; i < r->stop_count; i++) {
        memcpy(to, r->stop[i].ptr, r->stop[i].len);
        r->stop[i].ptr = to;
        to += r->stop[i].len;
    }
    r->content = r->tools = r->template_kwargs = NULL;
    r->model = r->feature = NIGH_STR("");
    nigh_json_release(&r->doc);
    return NIGH_OK;
}

void nigh_request_release(nigh_request *r) {
    nigh_free(r->bias);
    nigh_free(r->stop_bytes);
    nigh_json_release(&r->doc);
    *r = (nigh_request){ 0 };
}

static bool is_single(const nigh_json *v) { return v->type == NIGH_JSON_STRING
    || (v->first && v->first->type == NIGH_JSON_NUMBER); }

size_t nigh_request_count(const nigh_request *r) {
    return r->task == NIGH_TASK_CHAT || is_single(r->content) ? 1 : r->content->count;
}

const nigh_json *nigh_request_item(const nigh_request *r, size_t i) {
    if (r->task == NIGH_TASK_CHAT || is_single(r->content)) return r->content;
    const nigh_json *v = r->content->first;
    while (v && i--) v = v->next;
    return v;
}
