/* exports.c - the table of functions that the browser module gives to JavaScript. docs/wasm.md shows how to use it.
 *
 *     memory      alloc free live_bytes memory_bytes
 *     results     result_ptr result_len error_code error_text
 *     threads     thread_begin thread_stack thread_tls thread_run thread_end       (the builds with threads)
 *     hash        hash_begin hash_add hash_end
 *     model       model_open, or load_begin load_bytes load_take load_next load_at load_feed load_end load_free;
 *                 model_close model_about model_chat_template
 *     text        tokenize detokenize chat_tokens
 *     seats       seat_bytes seat_new seat_free seat_eval seat_logits seat_count seat_limit seat_truncate seat_embed
 *     generation  generate_begin generate_step generate_left generate_token cancel_flag
 *                 generate_leave generate_join generate_drop
 *
 * A "seat" is one conversation with a model: a session, and the generation that is under way; a model may have many.
 * Pointers and handles are offsets into the module's memory (in JavaScript: `>>> 0`, they may lie above 2 GiB). What a
 * call gives back as text or ids stands in one result buffer (result_ptr, result_len) until the next call. A function
 * that can fail returns a status of nigh/status.h (0 or negative) or NULL; error_code and error_text then say why.
 * One thread calls, one call at a time; thread_run is what the other threads are for. */
#include "base/base.h"
#include "base/json.h"
#include "base/os.h"
#include "base/pool.h"
#include "base/sha256.h"
#include "engine/chat.h"
#include "engine/generate.h"
#include "engine/tokenizer.h"
#include "kernel/kernel.h"
#include "nigh/engine.h"

/* Only JavaScript calls these, so there is no header to declare them. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define EXPORT(name) __attribute__((export_name(#name)))

enum {
    RESULT_MAX = 64 << 20, STOP_MAX = 16, PROMPT_MAX = 16 << 20,
    BATCH = 128,                    /* tokens of one evaluation, unless the first seat says otherwise */
    PIECE = 32,                     /* tokens of the prompt that a step reads, unless it says otherwise */
    THREADS_MAX = 64, STACK_BYTES = 256 << 10
};

typedef struct {
    nigh_model *model;
    nigh_runner *runner;            /* of all seats; made with the first */
    nigh_chat *chat;                /* opened with the first conversation */
} open_model;

typedef struct {
    open_model *of;                 /* borrowed */
    nigh_session *session;
    float *logits;                  /* [rows][vocab] */
    size_t rows;
    nigh_generation *generation;
    nigh_ids prompt;
    size_t prompt_at;               /* tokens of the prompt that were read */
    uint32_t batch;                 /* most tokens of one evaluation */
    int32_t pending;                /* picked but not evaluated yet; -1: none */
} seat;

static nigh_err failure;
static nigh_buf result = { .limit = RESULT_MAX };
static nigh_ids result_ids = { .limit = RESULT_MAX / sizeof(int32_t) };
static nigh_pool *pool;             /* of all models; NULL: one thread */

static int status_of(nigh_status status) {
    if (status != NIGH_OK && failure.code != status) (void)nigh_fail(&failure, status, 0, nigh_status_text(status));
    return (int)status;
}

/* ---- memory, results, errors ---- */

EXPORT(alloc) void *wasm_alloc(size_t bytes) { return nigh_alloc(1, bytes); }
EXPORT(free) void wasm_free(void *p) { nigh_free(p); }
EXPORT(memory_bytes) size_t wasm_memory_bytes(void) { return nigh_os_rss_bytes(); }
EXPORT(live_bytes) size_t wasm_live_bytes(void) { return nigh_alloc_live_bytes(); }
EXPORT(result_ptr) const void *wasm_result_ptr(void) { return result.ptr; }
EXPORT(result_len) size_t wasm_result_len(void) { return result.len; }
EXPORT(error_text) const char *wasm_error_text(void) { return failure.text; }
EXPORT(error_code) int wasm_error_code(void) { return failure.code; }

static void begin(void) {
    result.len = 0;
    failure = (nigh_err){ 0 };
}

/* ---- the hash of a file that comes in pieces ---- */

static nigh_sha256 hash;

EXPORT(hash_begin) void wasm_hash_begin(void) { nigh_sha256_init(&hash); }
EXPORT(hash_add) void wasm_hash_add(const char *bytes, size_t count) {
    nigh_sha256_add(&hash, (nigh_str){ bytes, count });
}

/* result: the SHA-256 of what was added, as 64 digits */
EXPORT(hash_end) int wasm_hash_end(void) {
    uint8_t digest[32];
    char text[65];
    begin();
    nigh_sha256_end(&hash, digest);
    nigh_sha256_hex(digest, text);
    return status_of(nigh_buf_add(&result, nigh_str_of(text)));
}

/* ---- threads ---- */

#if defined(__wasm_atomics__)

/* Before any model: from now on products are split over `count` threads, this one and those that call thread_run. */
EXPORT(thread_begin) int wasm_thread_begin(size_t count) {
    begin();
    if (pool) return status_of(nigh_fail(&failure, NIGH_EINVAL, 0, "the threads have begun already"));
    if (count < 1 || count > THREADS_MAX) return status_of(nigh_fail(&failure, NIGH_ERANGE, 0, "1 to 64 threads"));
    pool = nigh_pool_new(count);
    return status_of(pool ? NIGH_OK : NIGH_ENOMEM);
}

/* The top of a stack for another thread: what its instance's __stack_pointer is set to before it calls anything. */
EXPORT(thread_stack) void *wasm_thread_stack(void) {
    uint8_t *stack = nigh_alloc(1, STACK_BYTES);
    return stack ? stack + STACK_BYTES : NULL;
}

/* Memory for __wasm_init_tls of another thread. */
EXPORT(thread_tls) void *wasm_thread_tls(void) { return nigh_alloc(1, nigh_max(__builtin_wasm_tls_size(), 16)); }

/* Called by thread number i (1..count-1), which stays here until thread_end. */
EXPORT(thread_run) void wasm_thread_run(size_t i) { nigh_pool_work(pool, i); }

/* The other threads come back from thread_run. Models that are open go on with one. */
EXPORT(thread_end) void wasm_thread_end(void) { nigh_pool_free(pool); }

#endif

/* ---- model ---- */

static nigh_model_opts model_opts(void) { return (nigh_model_opts){ .cpu = nigh_cpu_detect(), .pool = pool }; }

/* Gives the handle of a model, which it owns from now on; without memory for it, closes the model. */
static open_model *handle_of(nigh_model *model) {
    open_model *m = nigh_alloc(1, sizeof *m);
    if (!m) {
        status_of(NIGH_ENOMEM);
        nigh_model_close(model);
        return NULL;
    }
    m->model = model;
    return m;
}

/* From the bytes of a whole file, which may be freed afterwards. */
EXPORT(model_open) open_model *wasm_model_open(const char *file, size_t bytes) {
    nigh_model *m = NULL;
    begin();
    return status_of(nigh_model_open(&m, (nigh_str){ file, bytes }, model_opts(), &failure)) ? NULL : handle_of(m);
}

/* After its seats. */
EXPORT(model_close) void wasm_model_close(open_model *m) {
    if (!m) return;
    nigh_chat_close(m->chat);
    nigh_runner_free(m->runner);
    nigh_model_close(m->model);
    nigh_free(m);
}

/* In pieces. head: the first bytes of a file of file_bytes, not to be freed before load_end or load_free. NULL with
 * error_code -3: the head is too short, try again with twice as much. */
EXPORT(load_begin) nigh_loading *wasm_load_begin(const char *head, size_t len, size_t file_bytes) {
    nigh_loading *l = NULL;
    begin();
    return status_of(nigh_loading_new(&l, (nigh_str){ head, len }, file_bytes, model_opts(), &failure)) ? NULL : l;
}

/* Bytes of memory that load_take takes. */
EXPORT(load_bytes) size_t wasm_load_bytes(const nigh_loading *l) { return (size_t)nigh_loading_bytes(l); }

/* Takes the memory of the model: before the first load_next. */
EXPORT(load_take) int wasm_load_take(nigh_loading *l) {
    begin();
    return status_of(nigh_loading_take(l, &failure));
}

static uint64_t load_at;
/* How many bytes of the file are wanted next, about `most` or fewer, from load_at on; 0: none, call load_end. May be
 * asked again with another `most`. What is wanted goes once forward through the file. */
EXPORT(load_next) size_t wasm_load_next(nigh_loading *l, size_t most) {
    size_t bytes;
    return nigh_loading_next(l, most, &load_at, &bytes) ? bytes : 0;
}
EXPORT(load_at) size_t wasm_load_at(void) { return (size_t)load_at; }

/* The bytes that load_next asked for; they may be overwritten afterwards. */
EXPORT(load_feed) int wasm_load_feed(nigh_loading *l, const uint8_t *bytes) {
    begin();
    return status_of(nigh_loading_feed(l, bytes, &failure));
}

EXPORT(load_end) open_model *wasm_load_end(nigh_loading *l) {
    nigh_model *m = NULL;
    begin();
    return status_of(nigh_loading_end(&m, l, &failure)) ? NULL : handle_of(m);
}

EXPORT(load_free) void wasm_load_free(nigh_loading *l) { nigh_loading_free(l); }

static nigh_status describe(const open_model *m, nigh_buf *out) {
    const nigh_model_info *i = nigh_model_about(m->model);
    nigh_kernels k;
    nigh_kernels_init(&k, nigh_cpu_detect());
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("{\"name\":")));
    NIGH_TRY(nigh_json_add_string(out, i->name));
    NIGH_TRY(nigh_buf_add(out, NIGH_STR(",\"arch\":")));
    NIGH_TRY(nigh_json_add_string(out, i->arch));
    NIGH_TRY(nigh_buf_addf(out, ",\"context\":%u,\"vocab\":%u,\"embed\":%u,\"layers\":%u,\"parameters\":%llu",
                           i->context_tokens, i->vocab, i->embed, i->layers, (unsigned long long)i->parameters));
    NIGH_TRY(nigh_buf_addf(out, ",\"weight_bytes\":%llu,\"encoder\":%s,\"pooling\":%d",
                           (unsigned long long)i->weight_bytes, i->encoder ? "true" : "false", (int)i->pooling));
    nigh_pool_stats threads = nigh_pool_about(pool);
    return nigh_buf_addf(out, ",\"kernels\":\"%s\",\"threads\":%zu,\"threads_active\":%zu}", k.name,
                         nigh_pool_size(pool), threads.active);
}

/* result: one JSON object: name, arch, context, vocab, embed, layers, parameters, weight_bytes, encoder, pooling (0
 * none, 1 mean, 2 first, 3 last), kernels ("simd128" or "relaxed"), threads, threads_active (fewer on a busy machine)
 */
EXPORT(model_about) int wasm_model_about(const open_model *m) {
    begin();
    return status_of(describe(m, &result));
}

/* result: the chat template as it stands in the file; empty when there is none */
EXPORT(model_chat_template) int wasm_model_chat_template(const open_model *m) {
    begin();
    return status_of(nigh_buf_add(&result, nigh_model_about(m->model)->chat_template));
}

/* ---- text and ids ---- */

static int give_ids(nigh_status status) {
    nigh_str ids = { (const char *)result_ids.ptr, result_ids.len * sizeof(int32_t) };
    return status_of(status == NIGH_OK ? nigh_buf_add(&result, ids) : status);
}

/* flags: 1 adds the special tokens at both ends, 2 lets text of special tokens become those. result: int32 ids */
EXPORT(tokenize) int wasm_tokenize(const open_model *m, const char *text, size_t len, unsigned flags) {
    begin();
    result_ids.len = 0;
    nigh_encode_opts o = { .add_special = flags & 1, .parse_special = flags & 2 };
    return give_ids(
        nigh_tokenizer_encode(nigh_model_tokenizer(m->model), (nigh_str){ text, len }, o, &result_ids, &failure));
}

/* result: UTF-8 */
EXPORT(detokenize) int wasm_detokenize(const open_model *m, const int32_t *ids, size_t count, int special) {
    begin();
    return status_of(nigh_tokenizer_decode(nigh_model_tokenizer(m->model), ids, count, special, &result));
}

static nigh_str token_text(const nigh_tokenizer *t, int32_t id) {
    return id < 0 ? NIGH_STR("") : nigh_tokenizer_text(t, id);
}

/* The model's own template; lines of "User:" and "Assistant:" for one that has none. */
static nigh_status open_chat(open_model *m) {
    nigh_str source = nigh_model_about(m->model)->chat_template;
    return m->chat ? NIGH_OK : nigh_chat_open(&m->chat, source.len ? NIGH_CHAT_OWN : NIGH_CHAT_PLAIN, source, &failure);
}

static nigh_status chat_ids(open_model *m, nigh_str request, nigh_chat_opts o) {
    const nigh_tokenizer *t = nigh_model_tokenizer(m->model);
    nigh_json_doc doc = { 0 };
    nigh_buf prompt = NIGH_BUF(PROMPT_MAX);
    nigh_spans spans = { 0 };
    o.bos_token = token_text(t, nigh_tokenizer_bos(t));
    o.eos_token = token_text(t, nigh_tokenizer_eos(t));
    nigh_status status = open_chat(m);
    if (status == NIGH_OK) status = nigh_json_parse(&doc, request, &failure);
    if (status == NIGH_OK) status = nigh_chat_render(m->chat, doc.root, o, &prompt, &spans, &failure);
    if (status == NIGH_OK)
        status = nigh_chat_encode(t, nigh_buf_str(&prompt), &spans, true, &result_ids, &failure);
    nigh_spans_release(&spans);
    nigh_buf_release(&prompt);
    nigh_json_release(&doc);
    return status;
}

/* A conversation to ids. request: a JSON object with messages, and maybe tools, add_generation_prompt,
 * chat_template_kwargs (engine/chat.h); year, month, day: today, for templates that print it, or 0. result: int32
 * ids */
EXPORT(chat_tokens)
int wasm_chat_tokens(open_model *m, const char *request, size_t len, int year, int month, int day) {
    begin();
    result_ids.len = 0;
    nigh_chat_opts o = { .year = year, .month = month, .day = day };
    return give_ids(chat_ids(m, (nigh_str){ request, len }, o));
}

/* ---- seat ---- */

EXPORT(seat_free) void wasm_seat_free(seat *s) {
    if (!s) return;
    nigh_generation_free(s->generation);
    nigh_session_free(s->session);
    nigh_ids_release(&s->prompt);
    nigh_free(s->logits);
    nigh_free(s);
}

/* Bytes of memory that seat_new will take for its cache and, with the first seat of a model, for the scratch. */
EXPORT(seat_bytes) size_t wasm_seat_bytes(const open_model *m, uint32_t context, uint32_t batch) {
    size_t scratch = m->runner ? 0 : nigh_runner_bytes(m->model, batch ? batch : BATCH), sum;
    size_t cache = nigh_model_about(m->model)->encoder ? 0 : nigh_session_bytes(m->model, context);
    return nigh_add(scratch, cache, &sum) ? sum : SIZE_MAX;
}

/* context: tokens it has room for, 0 for the model's own limit. batch: most tokens of one evaluation, 0 for 128; the
 * first seat of a model says how many all of them may have. */
EXPORT(seat_new) seat *wasm_seat_new(open_model *m, uint32_t context, uint32_t batch) {
    begin();
    seat *s = nigh_alloc(1, sizeof *s);
    if (!s) { status_of(NIGH_ENOMEM); return NULL; }
    s->of = m;
    s->pending = -1;
    s->prompt.limit = RESULT_MAX / sizeof(int32_t);
    nigh_status status = NIGH_OK;
    if (!nigh_model_about(m->model)->encoder) status = nigh_session_new(&s->session, m->model, context, &failure);
    if (status == NIGH_OK && !m->runner)
        status = nigh_runner_new(&m->runner, m->model, pool, batch ? batch : BATCH, &failure);
    if (status == NIGH_OK) s->batch = (uint32_t)nigh_min(batch ? batch : BATCH, nigh_runner_limit(m->runner));
    if (status_of(status) == 0) return s;
    wasm_seat_free(s);
    return NULL;
}

/* Where a byte lies that stops what runs now (status -7) when it becomes 1, written by any thread. What was stopped
 * may be called again and goes on. 0 before the first seat. */
EXPORT(cancel_flag) void *wasm_cancel_flag(open_model *m) {
    return m->runner ? nigh_runner_cancel_flag(m->runner) : NULL;
}

static nigh_status want_rows(seat *s, size_t rows) {
    if (rows <= s->rows) return NIGH_OK;
    size_t vocab = nigh_model_about(s->of->model)->vocab;
    if (rows > RESULT_MAX / sizeof(float) / vocab) return NIGH_ERANGE;
    nigh_free(s->logits);
    s->logits = nigh_alloc(vocab * sizeof(float), rows);
    s->rows = s->logits ? rows : 0;
    return s->logits ? NIGH_OK : NIGH_ENOMEM;
}

typedef enum { NO_LOGITS, LAST_LOGITS, ALL_LOGITS } wish;

static nigh_status append(seat *s, const int32_t *ids, uint32_t count, wish w) {
    size_t vocab = nigh_model_about(s->of->model)->vocab;
    if (!s->session) return nigh_fail(&failure, NIGH_ENOSUP, 0, "this model gives vectors, not text");
    if (count == 0) return nigh_fail(&failure, NIGH_EINVAL, 0, "there are no tokens to evaluate");
    NIGH_TRY(want_rows(s, w == ALL_LOGITS ? count : 1));
    for (uint32_t at = 0; at < count;) {
        uint32_t n = (uint32_t)nigh_min(count - at, s->batch);
        bool wanted = w == ALL_LOGITS || (w == LAST_LOGITS && at + n == count);
        float *to = w == ALL_LOGITS ? s->logits + at * vocab : s->logits;
        nigh_batch_item item = { s->session, ids + at, n, w == ALL_LOGITS, wanted ? to : NULL };
        NIGH_TRY(nigh_runner_eval(s->of->runner, &item, 1, &failure));
        at += n;
    }
    return NIGH_OK;
}

/* Evaluates ids behind what the seat already holds. all: keep the logits of each, else of the last only. */
EXPORT(seat_eval) int wasm_seat_eval(seat *s, const int32_t *ids, uint32_t count, int all) {
    begin();
    return status_of(append(s, ids, count, all ? ALL_LOGITS : LAST_LOGITS));
}

EXPORT(seat_logits) const float *wasm_seat_logits(const seat *s) { return s->logits; }
EXPORT(seat_count) uint32_t wasm_seat_count(const seat *s) { return s->session ? nigh_session_count(s->session) : 0; }
EXPORT(seat_limit) uint32_t wasm_seat_limit(const seat *s) { return s->session ? nigh_session_limit(s->session) : 0; }
EXPORT(seat_truncate) void wasm_seat_truncate(seat *s, uint32_t count) {
    if (s->session) nigh_session_truncate(s->session, count);
}

/* result: float32, one vector (or one for each token, when the model says so), not normalised */
EXPORT(seat_embed) int wasm_seat_embed(seat *s, const int32_t *ids, uint32_t count) {
    const nigh_model_info *i = nigh_model_about(s->of->model);
    begin();
    bool each = i->encoder && i->pooling == NIGH_POOL_NONE;
    size_t bytes = sizeof(float) * i->embed * (each ? count : 1);
    nigh_status status = nigh_buf_reserve(&result, bytes);
    if (status == NIGH_OK) status = nigh_runner_embed(s->of->runner, ids, count, (float *)(void *)result.ptr, &failure);
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
    if (count == 0) return nigh_fail(&failure, NIGH_EINVAL, 0, "the prompt is empty");
    if (count > nigh_session_limit(s->session))
        return nigh_failf(&failure, NIGH_ERANGE, 0, "the prompt has %u tokens, but the context has room for %u", count,
                          nigh_session_limit(s->session));
    if (options.len) NIGH_TRY(nigh_json_parse(&doc, options, &failure));
    nigh_status status = read_options(doc.root, &o, stop);
    if (status == NIGH_OK)
        status = nigh_generation_new(&s->generation, nigh_model_tokenizer(s->of->model), o, ids, count, &failure);
    nigh_json_release(&doc);
    s->prompt.len = 0;
    for (size_t i = 0; i < count && status == NIGH_OK; i++) status = nigh_ids_add(&s->prompt, ids[i]);
    if (status == NIGH_OK) status = want_rows(s, 1);
    if (status == NIGH_OK) s->prompt_at = nigh_session_reuse(s->session, ids, count);
    return status;
}

/* Begins a text after a prompt, which the steps will read; what the seat already holds of it is kept. options: a JSON
 * object with temperature, top_k, top_p, min_p, repeat_penalty, repeat_last, frequency_penalty, presence_penalty, seed,
 * max_tokens, stop; or empty: greedy.
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

static nigh_status read_prompt(seat *s, size_t most) {
    size_t n = nigh_min(nigh_min(most ? most : PIECE, s->batch), s->prompt.len - s->prompt_at);
    bool last = n == s->prompt.len - s->prompt_at;
    NIGH_TRY(append(s, s->prompt.ptr + s->prompt_at, (uint32_t)n, last ? LAST_LOGITS : NO_LOGITS));
    s->prompt_at += n;
    return NIGH_OK;
}

/* One step on: a piece of the prompt, of `piece` tokens (0: 32), or, when all of it is read, one token of text. result:
 * the text that may be shown now. Returns 0 to go on; 1 stopped (end of text or a stop string), 2 the length is
 * reached; negative: failed. */
EXPORT(generate_step) int wasm_generate_step(seat *s, size_t piece) {
    nigh_step step = { 0 };
    begin();
    if (!s->generation) return status_of(nigh_fail(&failure, NIGH_EINVAL, 0, "no generation has begun"));
    if (s->prompt_at < s->prompt.len) {
        int status = status_of(read_prompt(s, piece));
        if (status || s->prompt_at < s->prompt.len) return status;
    }
    if (s->pending >= 0) {
        if (nigh_session_count(s->session) >= nigh_session_limit(s->session))
            return step_given(s, nigh_generation_end(s->generation, NIGH_FINISH_LENGTH, &step), &step);
        int status = status_of(append(s, &s->pending, 1, LAST_LOGITS));
        if (status) return status;
    }
    return step_given(s, nigh_generation_step(s->generation, s->logits, &step, &failure), &step);
}

/* Tokens of the prompt that are still to be read. */
EXPORT(generate_left) size_t wasm_generate_left(const seat *s) { return s->prompt.len - s->prompt_at; }

/* The token of the last step that returned 0; -1: none, the prompt is being read. */
EXPORT(generate_token) int32_t wasm_generate_token(const seat *s) { return s->pending; }

/* What was begun on a seat, without the seat. */
typedef struct { nigh_generation *generation; int32_t pending; } left_text;

/* Takes the text that is under way off its seat, between two steps, so that another may have the seat. What comes
 * back is for generate_join, or generate_drop. NULL: none is under way, its prompt is not read yet, or there is no
 * memory. */
EXPORT(generate_leave) left_text *wasm_generate_leave(seat *s) {
    begin();
    if (!s->generation || s->prompt_at < s->prompt.len || s->pending < 0) {
        status_of(nigh_fail(&failure, NIGH_EINVAL, 0, "no text is under way here"));
        return NULL;
    }
    left_text *t = nigh_alloc(1, sizeof *t);
    if (!t) { status_of(NIGH_ENOMEM); return NULL; }
    *t = (left_text){ s->generation, s->pending };
    s->generation = NULL;
    s->pending = -1;
    return t;
}

/* Goes on with it on a seat that holds the prompt and all of the text's tokens but the last (generate_token). */
EXPORT(generate_join) int wasm_generate_join(seat *s, left_text *t) {
    begin();
    if (want_rows(s, 1) != NIGH_OK) return status_of(NIGH_ENOMEM);
    nigh_generation_free(s->generation);
    s->generation = t->generation;
    s->pending = t->pending;
    s->prompt.len = s->prompt_at = 0;
    nigh_free(t);
    return NIGH_OK;
}

EXPORT(generate_drop) void wasm_generate_drop(left_text *t) {
    if (t) nigh_generation_free(t->generation);
    nigh_free(t);
}
