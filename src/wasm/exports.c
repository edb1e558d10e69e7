/* exports.c - the table of functions that the browser module gives to JavaScript.
 *
 * A "seat" is one conversation: session, runner, the last logits, and the generation that is under way. Pointers are
 * offsets into the module's memory; what a call gives back as text or ids stands in one result buffer (result_ptr,
 * result_len) until the next call. A function that can fail returns a status of nigh/status.h (0 or negative) or NULL;
 * error_text then says why. One thread: nothing here may be called while another call runs.
 *
 * The usual order: alloc, copy a GGUF file in, model_open, free the file; seat_new; tokenize; generate_begin;
 * generate_step until it does not return 0. */
#include "base/base.h"
#include "base/json.h"
#include "engine/chat.h"
#include "engine/generate.h"
#include "engine/tokenizer.h"
#include "kernel/kernel.h"
#include "nigh/engine.h"

/* Only JavaScript calls these, so there is no header to declare them. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define EXPORT(name) __attribute__((export_name(#name)))

enum { RESULT_MAX = 64 << 20, STOP_MAX = 16, PROMPT_MAX = 4 << 20 };

typedef struct {
    nigh_model *model;              /* borrowed */
    nigh_session *session;
    nigh_runner *runner;
    float *logits;                  /* [rows][vocab] */
    size_t rows;
    nigh_generation *generation;
    int32_t pending;                /* picked but not evaluated yet; -1: none */
} seat;

static nigh_err failure;
static nigh_buf result = { .limit = RESULT_MAX };
static nigh_ids result_ids = { .limit = RESULT_MAX / sizeof(int32_t) };

static int status_of(nigh_status status) {
    if (status != NIGH_OK && failure.code != status) (void)nigh_fail(&failure, status, 0, nigh_status_text(status));
    return (int)status;
}

/* ---- memory, results, errors ---- */

EXPORT(alloc) void *wasm_alloc(size_t bytes) { return nigh_alloc(1, bytes); }
EXPORT(free) void wasm_free(void *p) { nigh_free(p); }
EXPORT(live_bytes) size_t wasm_live_bytes(void) { return nigh_alloc_live_bytes(); }
EXPORT(result_ptr) const void *wasm_result_ptr(void) { return result.ptr; }
EXPORT(result_len) size_t wasm_result_len(void) { return result.len; }
EXPORT(error_text) const char *wasm_error_text(void) { return failure.text; }
EXPORT(error_code) int wasm_error_code(void) { return failure.code; }

static void begin(void) {
    result.len = 0;
    failure = (nigh_err){ 0 };
}

/* ---- model ---- */

EXPORT(model_open) nigh_model *wasm_model_open(const char *file, size_t bytes) {
    nigh_model *m = NULL;
    begin();
    nigh_model_opts o = { .cpu = nigh_cpu_detect() };
    return status_of(nigh_model_open(&m, (nigh_str){ file, bytes }, o, &failure)) ? NULL : m;
}

/* The chat template of the model that was asked last, opened; once is enough, and a page has one model. */
static struct { const nigh_model *model; nigh_chat *chat; } talk;

static void forget_chat(void) {
    nigh_chat_close(talk.chat);
    talk.model = NULL;
    talk.chat = NULL;
}

EXPORT(model_close) void wasm_model_close(nigh_model *m) {
    if (talk.model == m) forget_chat();
    nigh_model_close(m);
}

static nigh_status describe(const nigh_model *m, nigh_buf *out) {
    const nigh_model_info *i = nigh_model_about(m);
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("{\"name\":")));
    NIGH_TRY(nigh_json_add_string(out, i->name));
    NIGH_TRY(nigh_buf_add(out, NIGH_STR(",\"arch\":")));
    NIGH_TRY(nigh_json_add_string(out, i->arch));
    NIGH_TRY(nigh_buf_addf(out, ",\"context\":%u,\"vocab\":%u,\"embed\":%u,\"layers\":%u,\"parameters\":%llu",
                           i->context_tokens, i->vocab, i->embed, i->layers, (unsigned long long)i->parameters));
    return nigh_buf_addf(out, ",\"weight_bytes\":%llu,\"encoder\":%s}", (unsigned long long)i->weight_bytes,
                         i->encoder ? "true" : "false");
}

/* result: one JSON object: name, arch, context, vocab, embed, layers, parameters, weight_bytes, encoder */
EXPORT(model_about) int wasm_model_about(const nigh_model *m) {
    begin();
    return status_of(describe(m, &result));
}

/* result: the chat template as it stands in the file; empty when there is none */
EXPORT(model_chat_template) int wasm_model_chat_template(const nigh_model *m) {
    begin();
    return status_of(nigh_buf_add(&result, nigh_model_about(m)->chat_template));
}

/* ---- text and ids ---- */

/* flags: 1 adds the special tokens at both ends, 2 lets text of special tokens become those. result: int32 ids */
EXPORT(tokenize) int wasm_tokenize(const nigh_model *m, const char *text, size_t len, unsigned flags) {
    begin();
    result_ids.len = 0;
    nigh_encode_opts o = { .add_special = flags & 1, .parse_special = flags & 2 };
    int status =
        status_of(nigh_tokenizer_encode(nigh_model_tokenizer(m), (nigh_str){ text, len }, o, &result_ids, &failure));
    if (status) return status;
    return status_of(
        nigh_buf_add(&result, (nigh_str){ (const char *)result_ids.ptr, result_ids.len * sizeof(int32_t) }));
}

/* result: UTF-8 */
EXPORT(detokenize) int wasm_detokenize(const nigh_model *m, const int32_t *ids, size_t count, int special) {
    begin();
    return status_of(nigh_tokenizer_decode(nigh_model_tokenizer(m), ids, count, special, &result));
}

static nigh_str special(const nigh_tokenizer *t, int32_t id) {
    return id < 0 ? NIGH_STR("") : nigh_tokenizer_text(t, id);
}

static nigh_status encode_chat(const nigh_model *m, const nigh_json *request, nigh_chat_opts o, nigh_ids *ids) {
    const nigh_tokenizer *t = nigh_model_tokenizer(m);
    nigh_buf prompt = NIGH_BUF(PROMPT_MAX);
    nigh_spans spans = { 0 };
    o.bos_token = special(t, nigh_tokenizer_bos(t));
    o.eos_token = special(t, nigh_tokenizer_eos(t));
    nigh_status status = nigh_chat_render(talk.chat, request, o, &prompt, &spans, &failure);
    if (status == NIGH_OK) status = nigh_chat_encode(t, nigh_buf_str(&prompt), &spans, true, ids, &failure);
    nigh_spans_release(&spans);
    nigh_buf_release(&prompt);
    return status;
}

/* The prompt of a conversation through the model's own template. request: a JSON object with `messages`
 * (engine/chat.h). year, month, day: today, for templates that print it. result: int32 ids */
EXPORT(chat_ids)
int wasm_chat_ids(const nigh_model *m, const char *request, size_t len, int32_t year, int32_t month, int32_t day) {
    nigh_json_doc doc = { 0 };
    begin();
    result_ids.len = 0;
    if (talk.model != m) {
        forget_chat();
        int status = status_of(nigh_chat_open(&talk.chat, NIGH_CHAT_OWN, nigh_model_about(m)->chat_template, &failure));
        if (status) return status;
        talk.model = m;
    }
    nigh_chat_opts o = { .year = year, .month = month, .day = day };
    nigh_status status = nigh_json_parse(&doc, (nigh_str){ request, len }, &failure);
    if (status == NIGH_OK) status = encode_chat(m, doc.root, o, &result_ids);
    nigh_json_release(&doc);
    if (status == NIGH_OK)
        status = nigh_buf_add(&result, (nigh_str){ (const char *)result_ids.ptr, result_ids.len * sizeof(int32_t) });
    return status_of(status);
}

/* ---- seat ---- */

EXPORT(seat_free) void wasm_seat_free(seat *s) {
    if (!s) return;
    nigh_generation_free(s->generation);
    nigh_runner_free(s->runner);
    nigh_session_free(s->session);
    nigh_free(s->logits);
    nigh_free(s);
}

/* Bytes of memory that seat_new will take for its cache and scratch. */
EXPORT(seat_bytes) size_t wasm_seat_bytes(const nigh_model *m, uint32_t context, uint32_t batch) {
    return nigh_session_bytes(m, context) + nigh_runner_bytes(m, batch);
}

/* context, batch: 0 for the model's own limit and 512 */
EXPORT(seat_new) seat *wasm_seat_new(nigh_model *m, uint32_t context, uint32_t batch) {
    begin();
    seat *s = nigh_alloc(1, sizeof *s);
    if (!s) { status_of(NIGH_ENOMEM); return NULL; }
    s->model = m;
    s->pending = -1;
    nigh_status status = NIGH_OK;
    if (!nigh_model_about(m)->encoder) status = nigh_session_new(&s->session, m, context, &failure);
    if (status == NIGH_OK) status = nigh_runner_new(&s->runner, m, NULL, batch, &failure);
    if (status_of(status) == 0) return s;
    wasm_seat_free(s);
    return NULL;
}

static nigh_status want_rows(seat *s, size_t rows) {
    if (rows <= s->rows) return NIGH_OK;
    size_t vocab = nigh_model_about(s->model)->vocab;
    if (rows > RESULT_MAX / sizeof(float) / vocab) return NIGH_ERANGE;
    nigh_free(s->logits);
    s->logits = nigh_alloc(vocab * sizeof(float), rows);
    s->rows = s->logits ? rows : 0;
    return s->logits ? NIGH_OK : NIGH_ENOMEM;
}

static nigh_status append(seat *s, const int32_t *ids, uint32_t count, bool all) {
    size_t vocab = nigh_model_about(s->model)->vocab;
    if (!s->session) return nigh_fail(&failure, NIGH_ENOSUP, 0, "this model gives vectors, not text");
    if (count == 0) return nigh_fail(&failure, NIGH_EINVAL, 0, "there are no tokens to evaluate");
    NIGH_TRY(want_rows(s, all ? count : 1));
    uint32_t limit = nigh_runner_limit(s->runner);
    for (uint32_t at = 0; at < count;) {
        uint32_t n = count - at < limit ? count - at : limit;
        float *to = all ? s->logits + at * vocab : s->logits;
        nigh_batch_item item = { s->session, ids + at, n, all, to };
        NIGH_TRY(nigh_runner_eval(s->runner, &item, 1, &failure));
        at += n;
    }
    return NIGH_OK;
}

/* Evaluates ids behind what the seat already holds. all: keep the logits of each, else of the last only. */
EXPORT(seat_eval) int wasm_seat_eval(seat *s, const int32_t *ids, uint32_t count, int all) {
    begin();
    return status_of(append(s, ids, count, all));
}

EXPORT(seat_logits) const float *wasm_seat_logits(const seat *s) { return s->logits; }
EXPORT(seat_count) uint32_t wasm_seat_count(const seat *s) { return s->session ? nigh_session_count(s->session) : 0; }
EXPORT(seat_truncate) void wasm_seat_truncate(seat *s, uint32_t count) {
    if (s->session) nigh_session_truncate(s->session, count);
}

/* result: float32, one vector (or one for each token, when the model says so), not normalised */
EXPORT(seat_embed) int wasm_seat_embed(seat *s, const int32_t *ids, uint32_t count) {
    const nigh_model_info *i = nigh_model_about(s->model);
    begin();
    bool each = i->encoder && i->pooling == NIGH_POOL_NONE;
    size_t bytes = sizeof(float) * i->embed * (each ? count : 1);
    nigh_status status = nigh_buf_reserve(&result, bytes);
    if (status == NIGH_OK) status = nigh_runner_embed(s->runner, ids, count, (float *)(void *)result.ptr, &failure);
    if (status == NIGH_OK) result.len = bytes;
    return status_of(status);
}

/* ---- generation ---- */

static nigh_status read_stop(const nigh_json *v, nigh_str *stop, size_t *count) {
    const nigh_json *item = v->type == NIGH_JSON_ARRAY ? v->first : v;
    for (; item; item = v->type == NIGH_JSON_ARRAY ? item->next : NULL) {
        if (item->type != NIGH_JSON_STRING || *count == STOP_MAX)
            return nigh_fail(&failure, NIGH_EINVAL, v->at, "stop wants a string or up to 16 of them");
        stop[(*count)++] = item->text;
    }
    return NIGH_OK;
}

static nigh_status read_options(const nigh_json *root, nigh_generate_opts *o, nigh_str *stop) {
    nigh_sampler_opts *s = &o->sampler;
    const struct { nigh_str name; float *f; uint32_t *u; } fields[] = {
        { NIGH_STR("temperature"), &s->temperature, NULL }, { NIGH_STR("top_p"), &s->top_p, NULL },
        { NIGH_STR("min_p"), &s->min_p, NULL }, { NIGH_STR("repeat_penalty"), &s->repeat_penalty, NULL },
        { NIGH_STR("frequency_penalty"), &s->frequency_penalty, NULL },
        { NIGH_STR("presence_penalty"), &s->presence_penalty, NULL }, { NIGH_STR("top_k"), NULL, &s->top_k },
        { NIGH_STR("repeat_last"), NULL, &s->repeat_last }, { NIGH_STR("max_tokens"), NULL, &o->max_tokens } };
    for (const nigh_json *v = nigh_json_first(root); v; v = v->next) {
        if (nigh_str_eq(v->key, NIGH_STR("stop"))) { NIGH_TRY(read_stop(v, stop, &o->stop_count)); continue; }
        size_t i = 0;
        while (i < NIGH_COUNT(fields) && !nigh_str_eq(v->key, fields[i].name)) i++;
        bool seed = nigh_str_eq(v->key, NIGH_STR("seed"));
        bool whole = v->type == NIGH_JSON_NUMBER && v->is_int && v->integer >= 0;
        if (seed && whole) s->seed = (uint64_t)v->integer;
        else if (i < NIGH_COUNT(fields) && fields[i].f && v->type == NIGH_JSON_NUMBER) *fields[i].f = (float)v->number;
        else if (i < NIGH_COUNT(fields) && fields[i].u && whole && v->integer <= UINT32_MAX)
            *fields[i].u = (uint32_t)v->integer;
        else
            return nigh_failf(&failure, NIGH_EINVAL, v->at, "'%.*s' is no setting, or has no such value",
                              (int)v->key.len, v->key.ptr);
    }
    o->stop = stop;
    return NIGH_OK;
}

static nigh_status start(seat *s, nigh_str options, const int32_t *ids, uint32_t count) {
    nigh_json_doc doc = { 0 };
    nigh_generate_opts o = { 0 };
    nigh_str stop[STOP_MAX];
    if (!s->session) return nigh_fail(&failure, NIGH_ENOSUP, 0, "this model gives vectors, not text");
    if (options.len) NIGH_TRY(nigh_json_parse(&doc, options, &failure));
    nigh_status status = read_options(doc.root, &o, stop);
    if (status == NIGH_OK)
        status = nigh_generation_new(&s->generation, nigh_model_tokenizer(s->model), o, ids, count, &failure);
    nigh_json_release(&doc);
    if (status == NIGH_OK) status = want_rows(s, 1);
    if (status == NIGH_OK) status = nigh_runner_prompt(s->runner, s->session, ids, count, s->logits, &failure);
    return status;
}

/* Reads the prompt, keeping what the seat already holds of it. options: a JSON object with temperature, top_k, top_p,
 * min_p, repeat_penalty, repeat_last, frequency_penalty, presence_penalty, seed, max_tokens, stop; or empty: greedy.
 */
EXPORT(generate_begin)
int wasm_generate_begin(seat *s, const char *options, size_t len, const int32_t *ids, uint32_t count) {
    begin();
    nigh_generation_free(s->generation);
    s->generation = NULL;
    s->pending = -1;
    int status = status_of(start(s, (nigh_str){ options, len }, ids, count));
    if (status) { nigh_generation_free(s->generation); s->generation = NULL; }
    return status;
}

static int step_given(seat *s, nigh_status status, const nigh_step *step) {
    if (status == NIGH_OK) status = nigh_buf_add(&result, step->text);
    if (status != NIGH_OK) return status_of(status);
    s->pending = step->finish == NIGH_FINISH_NONE ? step->token : -1;
    return (int)step->finish;
}

/* One token on. result: the text that may be shown now. Returns 0 to go on; 1 stopped (end of text or a stop string),
 * 2 the length is reached; negative: failed. */
EXPORT(generate_step) int wasm_generate_step(seat *s) {
    nigh_step step = { 0 };
    begin();
    if (!s->generation) return status_of(nigh_fail(&failure, NIGH_EINVAL, 0, "no generation has begun"));
    if (s->pending >= 0) {
        if (nigh_session_count(s->session) >= nigh_session_limit(s->session))
            return step_given(s, nigh_generation_end(s->generation, NIGH_FINISH_LENGTH, &step), &step);
        int status = status_of(append(s, &s->pending, 1, false));
        if (status) return status;
    }
    return step_given(s, nigh_generation_step(s->generation, s->logits, &step, &failure), &step);
}

/* The token of the last step that returned 0; -1: none. */
EXPORT(generate_token) int32_t wasm_generate_token(const seat *s) { return s->pending; }
