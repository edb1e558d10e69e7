/* openai_write.c - spells answers as OpenAI's clients read them.
 * A chunk of a stream and a whole answer share their head; after it comes one choice or all of them. The receipt
 * stands in the last chunk, or in the whole answer, as "nigh_receipt". */
#include "node/openai.h"

#include "node/place.h"

static bool is_chat(const nigh_answer *a) { return a->r.task == NIGH_TASK_CHAT; }

static nigh_status add(nigh_buf *b, const char *text) { return nigh_buf_add(b, nigh_str_of(text)); }

static nigh_status add_head(nigh_answer *a, bool chunk) {
    const char *object = is_chat(a) ? chunk ? "chat.completion.chunk" : "chat.completion" : "text_completion";
    NIGH_TRY(nigh_buf_addf(&a->out, "%s{\"id\":\"%s\",\"object\":\"%s\",\"created\":%llu,\"model\":", chunk
        ? "data: " : "", a->id, object, (unsigned long long)a->created_s));
    NIGH_TRY(nigh_json_add_string(&a->out, nigh_str_of(a->model)));
    if (!a->model_sha256[0]) return add(&a->out, ",\"system_fingerprint\":null,\"choices\":[");
    return nigh_buf_addf(&a->out, ",\"system_fingerprint\":\"%.12s\",\"choices\":[", a->model_sha256);
}

static const char *finish_name(const nigh_choice *c) {
    if (c->finish_word) return c->finish_word;
    return c->finish == NIGH_FINISH_LENGTH ? "length" : "stop";
}

/* ---- logprobs ---- */

static nigh_status add_comma(nigh_buf *b) { return b->len ? nigh_buf_add_char(b, ',') : NIGH_OK; }

static bool is_ascii_or_whole(nigh_str s) {     /* does JSON keep these bytes as they are? */
    nigh_buf b = NIGH_BUF(4096);
    bool whole = nigh_json_add_string(&b, s) == NIGH_OK && nigh_str_find(nigh_buf_str(&b),
        NIGH_STR("\xef\xbf\xbd"), 0) == SIZE_MAX;
    nigh_buf_release(&b);
    return whole;
}

/* A token as a JSON string; what is no whole UTF-8 is written as OpenAI does for completions: "bytes:\xe2\x80". */
static nigh_status add_token_name(nigh_buf *out, nigh_str bytes) {
    nigh_buf b = NIGH_BUF(4096);
    nigh_status status = NIGH_OK;
    if (is_ascii_or_whole(bytes)) return nigh_json_add_string(out, bytes);
    status = add(&b, "bytes:");
    for (size_t i = 0; i < bytes.len && status == NIGH_OK; i++)
        status = nigh_buf_addf(&b, "\\x%02x", (unsigned)(unsigned char)bytes.ptr[i]);
    if (status == NIGH_OK) status = nigh_json_add_string(out, nigh_buf_str(&b));
    nigh_buf_release(&b);
    return status;
}

static nigh_status add_chat_token(const nigh_answer *a, nigh_buf *out, int32_t id, float logprob) {
    nigh_buf piece = NIGH_BUF(4096);
    nigh_status status = nigh_tokenizer_piece(nigh_model_tokenizer(a->served->model), id, true, &piece);
    if (status == NIGH_OK) status = add(out, "{\"token\":");
    if (status == NIGH_OK) status = nigh_json_add_string(out, nigh_buf_str(&piece));
    if (status == NIGH_OK) status = add(out, ",\"logprob\":");
    if (status == NIGH_OK) status = nigh_json_add_f32(out, logprob);
    if (status == NIGH_OK) status = add(out, ",\"bytes\":[");
    for (size_t i = 0; i < piece.len && status == NIGH_OK; i++)
        status = nigh_buf_addf(out, i ? ",%u" : "%u", (unsigned)(unsigned char)piece.ptr[i]);
    nigh_buf_release(&piece);
    return status == NIGH_OK ? nigh_buf_add_char(out, ']') : status;
}

static nigh_status add_chat_logprob(nigh_answer *a, nigh_choice *c, const nigh_step *step) {
    nigh_buf *out = &c->tokens;
    NIGH_TRY(add_comma(out));
    NIGH_TRY(add_chat_token(a, out, step->token, step->logprob));
    NIGH_TRY(add(out, ",\"top_logprobs\":["));
    for (int64_t i = 0; i < a->r.top_logprobs; i++) {
        if (i) NIGH_TRY(nigh_buf_add_char(out, ','));
        NIGH_TRY(add_chat_token(a, out, step->top[i].id, step->top[i].logprob));
        NIGH_TRY(nigh_buf_add_char(out, '}'));
    }
    return add(out, "]}");
}

static nigh_status add_named(const nigh_answer *a, nigh_buf *out, int32_t id) {
    nigh_buf piece = NIGH_BUF(4096);
    nigh_status status = nigh_tokenizer_piece(nigh_model_tokenizer(a->served->model), id, true, &piece);
    if (status == NIGH_OK) status = add_token_name(out, nigh_buf_str(&piece));
    nigh_buf_release(&piece);
    return status;
}

static nigh_status add_text_logprob(nigh_answer *a, nigh_choice *c, const nigh_step *step) {
    NIGH_TRY(add_comma(&c->tokens));
    NIGH_TRY(add_named(a, &c->tokens, step->token));
    NIGH_TRY(add_comma(&c->logprobs));
    NIGH_TRY(nigh_json_add_f32(&c->logprobs, step->logprob));
    NIGH_TRY(add_comma(&c->offsets));
    NIGH_TRY(nigh_buf_addf(&c->offsets, "%zu", c->text_bytes));
    NIGH_TRY(add_comma(&c->tops));
    NIGH_TRY(nigh_buf_add_char(&c->tops, '{'));
    for (int64_t i = 0; i < a->r.top_logprobs; i++) {
        if (i) NIGH_TRY(nigh_buf_add_char(&c->tops, ','));
        NIGH_TRY(add_named(a, &c->tops, step->top[i].id));
        NIGH_TRY(nigh_buf_add_char(&c->tops, ':'));
        NIGH_TRY(nigh_json_add_f32(&c->tops, step->top[i].logprob));
    }
    return nigh_buf_add_char(&c->tops, '}');
}

nigh_status nigh_openai_add_logprobs(nigh_answer *a, nigh_choice *c, const nigh_step *step) {
    if (!a->r.logprobs) return NIGH_OK;
    return is_chat(a) ? add_chat_logprob(a, c, step) : add_text_logprob(a, c, step);
}

/* The member "logprobs" of a choice; empties what was gathered. */
static nigh_status add_logprobs_member(nigh_answer *a, nigh_choice *c) {
    nigh_buf *out = &a->out;
    if (!a->r.logprobs) return add(out, ",\"logprobs\":null");
    if (is_chat(a)) {
        NIGH_TRY(add(out, ",\"logprobs\":{\"content\":["));
        NIGH_TRY(nigh_buf_add(out, nigh_buf_str(&c->tokens)));
        NIGH_TRY(add(out, "],\"refusal\":null}"));
    } else {
        NIGH_TRY(add(out, ",\"logprobs\":{\"tokens\":["));
        NIGH_TRY(nigh_buf_add(out, nigh_buf_str(&c->tokens)));
        NIGH_TRY(add(out, "],\"token_logprobs\":["));
        NIGH_TRY(nigh_buf_add(out, nigh_buf_str(&c->logprobs)));
        NIGH_TRY(add(out, "],\"top_logprobs\":["));
        NIGH_TRY(nigh_buf_add(out, nigh_buf_str(&c->tops)));
        NIGH_TRY(add(out, "],\"text_offset\":["));
        NIGH_TRY(nigh_buf_add(out, nigh_buf_str(&c->offsets)));
        NIGH_TRY(add(out, "]}"));
    }
    c->tokens.len = c->logprobs.len = c->tops.len = c->offsets.len = 0;
    return NIGH_OK;
}

/* ---- usage and receipt ---- */

static nigh_status add_usage(nigh_answer *a) {
    unsigned long long written = 0, cached = 0;
    for (size_t i = 0; i < a->choice_count; i++) {
        written += a->choices[i].token_count;
        if (i % (size_t)a->r.n == 0) cached += a->choices[i].cached;    /* a prompt counts once, however many answers */
    }
    return nigh_buf_addf(&a->out, ",\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%llu,\"total_tokens\":%llu,"
                         "\"prompt_tokens_details\":{\"cached_tokens\":%llu},"
                         "\"completion_tokens_details\":{\"reasoning_tokens\":0}}",
                         a->prompt_tokens, written, a->prompt_tokens + written, cached);
}

nigh_status nigh_openai_add_receipt(nigh_answer *a, nigh_buf *out) {
    size_t from = out->len;
    NIGH_TRY(a->placed ? nigh_place_receipt(a->placed, out) : nigh_receipt_json(&a->receipt, out));
    const nigh_peer_in *peer = a->x ? nigh_exchange_peer(a->x) : NULL;
    return peer ? nigh_peer_sign(peer, out, from) : NIGH_OK;
}

static nigh_status add_receipt(nigh_answer *a) {
    NIGH_TRY(add(&a->out, ",\"nigh_receipt\":"));
    return nigh_openai_add_receipt(a, &a->out);
}

/* ---- events ---- */

static nigh_status end_event(nigh_answer *a) {
    NIGH_TRY(add(&a->out, a->r.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n"));
    return NIGH_OK;
}

static nigh_status role_event(nigh_answer *a, size_t choice) {
    a->out.len = 0;
    NIGH_TRY(add_head(a, true));
    NIGH_TRY(nigh_buf_addf(&a->out,
        "{\"index\":%zu,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},"
        "\"logprobs\":null,\"finish_reason\":null}", choice));
    return end_event(a);
}

static nigh_status text_event(nigh_answer *a, size_t choice, nigh_str text) {
    a->out.len = 0;
    NIGH_TRY(add_head(a, true));
    NIGH_TRY(nigh_buf_addf(&a->out, is_chat(a) ? "{\"index\":%zu,\"delta\":{\"content\":"
        : "{\"index\":%zu,\"text\":", choice));
    NIGH_TRY(nigh_json_add_string(&a->out, text));
    if (is_chat(a)) NIGH_TRY(nigh_buf_add_char(&a->out, '}'));
    NIGH_TRY(add_logprobs_member(a, &a->choices[choice]));
    NIGH_TRY(add(&a->out, ",\"finish_reason\":null}"));
    return end_event(a);
}

static nigh_status tool_event(nigh_answer *a, size_t i, nigh_str id, nigh_str name, nigh_str arguments) {
    a->out.len = 0;
    NIGH_TRY(add_head(a, true));
    NIGH_TRY(nigh_buf_addf(&a->out, "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":%zu,", i));
    if (id.len || name.len) {
        NIGH_TRY(add(&a->out, "\"id\":"));
        NIGH_TRY(nigh_json_add_string(&a->out, id));
        NIGH_TRY(add(&a->out, ",\"type\":\"function\",\"function\":{\"name\":"));
        NIGH_TRY(nigh_json_add_string(&a->out, name));
        NIGH_TRY(nigh_buf_add_char(&a->out, ','));
    } else NIGH_TRY(add(&a->out, "\"function\":{"));
    NIGH_TRY(add(&a->out, "\"arguments\":"));
    NIGH_TRY(nigh_json_add_string(&a->out, arguments));
    NIGH_TRY(add(&a->out, "}}]},\"logprobs\":null,\"finish_reason\":null}"));
    return end_event(a);
}

nigh_status nigh_openai_tools_json(const nigh_answer *a, nigh_buf *out) {
    NIGH_TRY(nigh_buf_add_char(out, '['));
    for (size_t i = 0; i < a->tool_count; i++) {
        const nigh_tool_call *t = &a->tools[i];
        NIGH_TRY(add(out, i ? ",{\"id\":" : "{\"id\":"));
        NIGH_TRY(nigh_json_add_string(out, nigh_buf_str(&t->id)));
        NIGH_TRY(add(out, ",\"type\":\"function\",\"function\":{\"name\":"));
        NIGH_TRY(nigh_json_add_string(out, nigh_buf_str(&t->name)));
        NIGH_TRY(add(out, ",\"arguments\":"));
        NIGH_TRY(nigh_json_add_string(out, nigh_buf_str(&t->arguments)));
        NIGH_TRY(add(out, "}}"));
    }
    return nigh_buf_add_char(out, ']');
}

static nigh_status finish_event(nigh_answer *a, size_t choice, bool with_receipt) {
    NIGH_TRY(add_head(a, true));
    NIGH_TRY(nigh_buf_addf(&a->out, is_chat(a)
        ? "{\"index\":%zu,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"%s\"}"
            : "{\"index\":%zu,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"%s\"}",
                           choice, finish_name(&a->choices[choice])));
    if (!with_receipt) return end_event(a);
    NIGH_TRY(nigh_buf_add_char(&a->out, ']'));
    NIGH_TRY(add_receipt(a));
    return add(&a->out, "}\n\n");
}

static nigh_status usage_event(nigh_answer *a) {
    NIGH_TRY(add_head(a, true));
    NIGH_TRY(nigh_buf_add_char(&a->out, ']'));
    NIGH_TRY(add_usage(a));
    NIGH_TRY(add_receipt(a));
    return add(&a->out, "}\n\n");
}

static nigh_status end_events(nigh_answer *a) {
    a->out.len = 0;
    for (size_t i = 0; i < a->choice_count; i++)
        NIGH_TRY(finish_event(a, i, i + 1 == a->choice_count && !a->r.include_usage));
    if (a->r.include_usage) NIGH_TRY(usage_event(a));
    return add(&a->out, "data: [DONE]\n\n");
}

/* Without [DONE]: OpenAI's clients take a quiet end for a good one. */
static nigh_status error_event(nigh_answer *a, int http, const char *code, const char *param, const char *text) {
    a->out.len = 0;
    NIGH_TRY(add(&a->out, "data: "));
    NIGH_TRY(nigh_error_json(&a->out, http, code, param, text));
    return add(&a->out, "\n\n");
}

/* ---- whole answers ---- */

static nigh_status whole(nigh_answer *a) {
    a->out.len = 0;
    NIGH_TRY(add_head(a, false));
    for (size_t i = 0; i < a->choice_count; i++) {
        nigh_choice *c = &a->choices[i];
        if (i) NIGH_TRY(nigh_buf_add_char(&a->out, ','));
        NIGH_TRY(nigh_buf_addf(&a->out, is_chat(a)
            ? "{\"index\":%zu,\"message\":{\"role\":\"assistant\",\"content\":" : "{\"index\":%zu,\"text\":", i));
        if (a->tool_count && !c->text.len) NIGH_TRY(add(&a->out, "null"));
        else NIGH_TRY(nigh_json_add_string(&a->out, nigh_buf_str(&c->text)));
        if (a->tool_count) {
            NIGH_TRY(add(&a->out, ",\"tool_calls\":"));
            NIGH_TRY(nigh_openai_tools_json(a, &a->out));
        }
        if (is_chat(a)) NIGH_TRY(add(&a->out, ",\"refusal\":null}"));
        NIGH_TRY(add_logprobs_member(a, c));
        NIGH_TRY(nigh_buf_addf(&a->out, ",\"finish_reason\":\"%s\"}", finish_name(c)));
    }
    NIGH_TRY(nigh_buf_add_char(&a->out, ']'));
    NIGH_TRY(add_usage(a));
    NIGH_TRY(add_receipt(a));
    return nigh_buf_add_char(&a->out, '}');
}

const nigh_speller nigh_openai_speller = { role_event, text_event, tool_event, end_events, whole, error_event };

/* ---- vectors ---- */

static nigh_status add_base64(nigh_buf *out, const uint8_t *bytes, size_t count) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    NIGH_TRY(nigh_buf_reserve(out, (count + 2) / 3 * 4));
    for (size_t i = 0; i < count; i += 3) {
        size_t left = count - i;
        uint32_t v = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (left > 2
            ? (uint32_t)bytes[i + 2] : 0);
        char four[4] = { digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=', left > 2
            ? digits[v & 63] : '=' };
        NIGH_TRY(nigh_buf_add(out, (nigh_str){ four, 4 }));
    }
    return NIGH_OK;
}

/* Float by float, little endian whatever the machine. */
static nigh_status add_vector_base64(nigh_buf *out, const float *v, size_t count) {
    uint8_t group[12];
    size_t filled = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        for (unsigned k = 0; k < 4; k++) group[filled++] = (uint8_t)(bits >> (8 * k));
        if (filled == sizeof group || i + 1 == count) {
            NIGH_TRY(add_base64(out, group, filled));
            filled = 0;
        }
    }
    return NIGH_OK;
}

nigh_status nigh_openai_add_vector(nigh_answer *a, size_t i, const float *v, size_t count) {
    nigh_buf *out = &a->out;
    NIGH_TRY(add(out, i ? "," : "{\"object\":\"list\",\"data\":["));
    NIGH_TRY(nigh_buf_addf(out, "{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i));
    if (a->r.base64) {
        NIGH_TRY(nigh_buf_add_char(out, '"'));
        NIGH_TRY(add_vector_base64(out, v, count));
        return add(out, "\"}");
    }
    for (size_t k = 0; k < count; k++) {
        NIGH_TRY(nigh_buf_add_char(out, k ? ',' : '['));
        NIGH_TRY(nigh_json_add_f32(out, v[k]));
    }
    return add(out, "]}");
}

nigh_status nigh_openai_end_vectors(nigh_answer *a) {
    NIGH_TRY(add(&a->out, "],\"model\":"));
    NIGH_TRY(nigh_json_add_string(&a->out, nigh_str_of(a->model)));
    NIGH_TRY(nigh_buf_addf(&a->out, ",\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u}", a->prompt_tokens,
        a->prompt_tokens));
    NIGH_TRY(add_receipt(a));
    return nigh_buf_add_char(&a->out, '}');
}
