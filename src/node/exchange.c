/* exchange.c - the answer's half of an exchange.
 *
 * An answer is made by one thread and sent by another. The socket thread that finds nothing to send suspends the
 * connection under the exchange's lock; the thread that brings something resumes it under the same lock. So a
 * wake-up cannot fall between "nothing there" and "asleep", and a connection is resumed only when it is suspended.
 *
 *     handler / scheduler ---push---> [ events, at most 64 KiB ] ---whole events---> socket
 *                         <---on()--- (room again, or client gone)
 *
 * What the socket thread itself brings (its guest: http.h) goes out at the end of its turn: a stream that is over by
 * then leaves in one piece, with its length, instead of a head and chunk after chunk, each a system call.
 *
 * Owned together by the socket side (until the request is completed) and by whoever kept it; the last one frees. */
#include "node/http_parts.h"

#include <unistd.h>

#include "base/json.h"
#include "base/os.h"

/* STREAM_BLOCK: what the library sets aside for clients that know no chunks (HTTP/1.0); the others never use it. */
enum { PING_AFTER_MS = 15000, REST_AFTER_MS = 1000, OUT_MAX = 64 << 20, VALUES_MAX = 8192, STREAM_BLOCK = 1024 };

nigh_exchange *nigh_exchange_new(nigh_http *h) {
    nigh_exchange *x = nigh_alloc(sizeof *x, 1);
    if (!x) return NULL;
    atomic_init(&x->refs, 1);
    x->http = h;
    x->file = -1;
    x->asked.key_idx = SIZE_MAX;
    x->out = NIGH_BUF(OUT_MAX);
    x->values = NIGH_BUF(VALUES_MAX);
    pthread_mutex_init(&x->lock, NULL);
    uint64_t random = nigh_os_random_name();
    nigh_format(x->id, sizeof x->id, "req-%08x%08x", (unsigned)(random >> 32), (unsigned)random);
    return x;
}

void nigh_exchange_keep(nigh_exchange *x) { atomic_fetch_add(&x->refs, 1); }

void nigh_exchange_drop_body(nigh_exchange *x) {
    atomic_fetch_sub(&x->http->upload_bytes, x->body.len);
    nigh_buf_release(&x->body);
}

void nigh_exchange_release(nigh_exchange *x) {
    if (!x || atomic_fetch_sub(&x->refs, 1) != 1) return;
    nigh_exchange_drop_body(x);
    nigh_buf_release(&x->out);
    nigh_buf_release(&x->values);
    if (x->file >= 0) close(x->file);
    nigh_free(x->target);
    nigh_peer_in_free(x->peer);
    pthread_mutex_destroy(&x->lock);
    nigh_free(x);
}

nigh_str nigh_exchange_body(const nigh_exchange *x) { return nigh_buf_str(&x->body); }
nigh_http *nigh_exchange_server(nigh_exchange *x) { return x->http; }
const char *nigh_exchange_path(const nigh_exchange *x) { return x->facts.path; }
nigh_str nigh_exchange_range(const nigh_exchange *x) { return x->facts.range; }
nigh_str nigh_exchange_if_range(const nigh_exchange *x) { return x->facts.if_range; }
nigh_peer_in *nigh_exchange_peer(const nigh_exchange *x) { return nigh_peer_is_open(x->peer) ? x->peer : NULL; }
const nigh_asked *nigh_exchange_asked(const nigh_exchange *x) { return &x->asked; }
const char *nigh_exchange_id(const nigh_exchange *x) { return x->id; }
const char *nigh_exchange_client(const nigh_exchange *x) { return x->client; }
uint64_t nigh_exchange_start_ns(const nigh_exchange *x) { return x->start_ns; }

nigh_str nigh_exchange_query(const nigh_exchange *x) {
    nigh_str target = { x->target, x->target_len };
    size_t at = nigh_str_find(target, NIGH_STR("?"), 0);
    return at == SIZE_MAX ? NIGH_STR("") : nigh_str_slice(target, at + 1, target.len);
}

bool nigh_exchange_gone(nigh_exchange *x) { return atomic_load(&x->gone); }

/* With the lock held. */
static void wake(nigh_exchange *x) {
    if (!x->suspended) return;
    x->suspended = false;
    MHD_resume_connection(x->connection);
    nigh_http_wake(x->http);
}

/* Under the lock, so that no call is on its way once nigh_exchange_on has taken the function back. */
static void call_on(nigh_exchange *x) {
    pthread_mutex_lock(&x->lock);
    if (x->on) x->on(x->on_ud);
    pthread_mutex_unlock(&x->lock);
}

void nigh_exchange_on(nigh_exchange *x, void (*fn)(void *ud), void *ud) {
    pthread_mutex_lock(&x->lock);
    x->on = fn;
    x->on_ud = ud;
    pthread_mutex_unlock(&x->lock);
}

void nigh_exchange_leave(nigh_exchange *x) {
    if (!atomic_exchange(&x->gone, true)) call_on(x);
}

void nigh_exchange_header(nigh_exchange *x, const char *name, const char *value) {
    pthread_mutex_lock(&x->lock);
    size_t at = x->values.len;
    bool room = !x->answered && x->field_count < NIGH_COUNT(x->fields);
    if (room && nigh_buf_add(&x->values, (nigh_str){ value, strlen(value) + 1 }) == NIGH_OK) {
        x->fields[x->field_count].name = name;
        x->fields[x->field_count++].at = at;
    }
    pthread_mutex_unlock(&x->lock);
}

/* With the lock held. */
static nigh_status keep_whole(nigh_exchange *x, int status, nigh_str body) {
    if (!nigh_peer_is_open(x->peer)) return nigh_buf_add(&x->out, body);
    return nigh_peer_seal_whole(x->peer, status, body, &x->out);
}

static nigh_status keep_event(nigh_exchange *x, nigh_str event) {
    bool comment = event.len && event.ptr[0] == ':';
    if (!nigh_peer_is_open(x->peer) || comment) return nigh_buf_add(&x->out, event);
    return nigh_peer_seal_event(x->peer, event, &x->out);
}

void nigh_exchange_reply(nigh_exchange *x, int status, const char *type, nigh_str body) {
    pthread_mutex_lock(&x->lock);
    if (!x->answered) {
        bool kept = keep_whole(x, status, body) == NIGH_OK;
        x->answered = true;
        x->status = kept ? status : 503;
        nigh_format(x->type, sizeof x->type, "%s", type);
        wake(x);
    }
    pthread_mutex_unlock(&x->lock);
}

void nigh_exchange_reply_file(nigh_exchange *x, int status, const char *type, int fd, uint64_t first, uint64_t bytes) {
    pthread_mutex_lock(&x->lock);
    if (!x->answered) {
        x->answered = true;
        x->status = status;
        x->file = fd;
        x->file_first = first;
        x->file_bytes = bytes;
        nigh_format(x->type, sizeof x->type, "%s", type);
        wake(x);
    } else close(fd);
    pthread_mutex_unlock(&x->lock);
}

/* ---- errors ---- */

static nigh_status add_member(nigh_buf *out, const char *name, const char *value) {
    NIGH_TRY(nigh_buf_addf(out, ",\"%s\":", name));
    if (!value) return nigh_buf_add(out, NIGH_STR("null"));
    return nigh_json_add_string(out, nigh_str_of(value));
}

nigh_status nigh_error_json(nigh_buf *out, int status, const char *code, const char *param, const char *text) {
    const char *type = status == 401 ? "authentication_error" : status == 403 ? "permission_error" : status == 429
        ? "rate_limit_error"
        : status >= 500 && status != 501 && status != 505 ? "server_error" : "invalid_request_error";
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("{\"error\":{\"message\":")));
    NIGH_TRY(nigh_json_add_string(out, nigh_str_of(text)));
    NIGH_TRY(add_member(out, "type", type));
    NIGH_TRY(add_member(out, "param", param));
    NIGH_TRY(add_member(out, "code", code));
    return nigh_buf_add(out, NIGH_STR("}}"));
}

/* As api.anthropic.com names them; code and param are ours. */
static const char *anthropic_type(int status) {
    static const struct { int status; const char *type; } types[] = { { 401, "authentication_error" },
        { 403, "permission_error" }, { 404, "not_found_error" }, { 413, "request_too_large" },
        { 429, "rate_limit_error" }, { 500, "api_error" }, { 502, "api_error" }, { 503, "overloaded_error" },
        { 504, "timeout_error" } };
    for (size_t i = 0; i < NIGH_COUNT(types); i++) if (types[i].status == status) return types[i].type;
    return "invalid_request_error";
}

/* Clients find a conversation that has grown too long by the first words. */
static nigh_status add_anthropic_text(nigh_buf *out, const char *code, const char *text) {
    char longer[600];
    if (!code || strcmp(code, "context_length_exceeded") != 0) return nigh_json_add_string(out, nigh_str_of(text));
    nigh_format(longer, sizeof longer, "prompt is too long: %s", text);
    return nigh_json_add_string(out, nigh_str_of(longer));
}

nigh_status nigh_error_json_as(nigh_buf *out, nigh_error_form form, const char *id, int status, const char *code,
    const char *param, const char *text) {
    if (form == NIGH_ERRORS_OPENAI) return nigh_error_json(out, status, code, param, text);
    NIGH_TRY(nigh_buf_addf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":",
        anthropic_type(status)));
    NIGH_TRY(add_anthropic_text(out, code, text));
    NIGH_TRY(add_member(out, "param", param));
    NIGH_TRY(add_member(out, "code", code));
    NIGH_TRY(nigh_buf_add_char(out, '}'));
    NIGH_TRY(add_member(out, "request_id", id));
    return nigh_buf_add_char(out, '}');
}

void nigh_exchange_retry(nigh_exchange *x, uint32_t ms) { x->retry_ms = ms; }

void nigh_exchange_error(nigh_exchange *x, int status, const char *code, const char *param, const char *text) {
    nigh_buf b = NIGH_BUF(8192);
    bool later = status == 429 || status == 503;
    if (later) {
        char s[16], ms[16];
        uint32_t wait = x->retry_ms ? x->retry_ms : 500;
        nigh_format(s, sizeof s, "%u", wait / 1000 + (wait % 1000 != 0));
        nigh_format(ms, sizeof ms, "%u", wait);
        nigh_exchange_header(x, "retry-after", s);
        nigh_exchange_header(x, "retry-after-ms", ms);
    }
    nigh_exchange_header(x, "x-should-retry", later ? "true" : "false");
    nigh_error_form form = x->route ? x->route->errors : NIGH_ERRORS_OPENAI;
    nigh_status made = nigh_error_json_as(&b, form, x->id, status, code, param, text);
    nigh_exchange_reply(x, status, "application/json", made == NIGH_OK ? nigh_buf_str(&b)
        : NIGH_STR("{\"error\":{\"message\":\"not enough memory\"}}"));
    nigh_buf_release(&b);
}

/* ---- streams ---- */

void nigh_exchange_stream(nigh_exchange *x) {
    pthread_mutex_lock(&x->lock);
    if (!x->answered) {
        x->answered = x->streaming = true;
        x->status = 200;
        x->pushed_ms = nigh_os_now_ns() / 1000000;
        nigh_format(x->type, sizeof x->type, "text/event-stream; charset=utf-8");
        wake(x);
    }
    pthread_mutex_unlock(&x->lock);
}

bool nigh_exchange_room(nigh_exchange *x) {
    pthread_mutex_lock(&x->lock);
    bool room = x->out.len - x->out_begin < NIGH_STREAM_BYTES;
    x->full = !room;
    pthread_mutex_unlock(&x->lock);
    return room;
}

/* With the lock held: drops what was taken from the front of the queue. */
static void compact(nigh_exchange *x) {
    if (!x->out_begin) return;
    memmove(x->out.ptr, x->out.ptr + x->out_begin, x->out.len - x->out_begin);
    x->out.len -= x->out_begin;
    x->out_begin = 0;
}

void nigh_exchange_push(nigh_exchange *x, nigh_str event) {
    pthread_mutex_lock(&x->lock);
    if (x->streaming && !x->ended && !atomic_load(&x->gone)) {
        compact(x);
        if (keep_event(x, event) != NIGH_OK) x->ended = true;   /* no memory: the missing [DONE] shows it */
        x->pushed_ms = nigh_os_now_ns() / 1000000;
        wake(x);
    }
    pthread_mutex_unlock(&x->lock);
}

void nigh_exchange_end(nigh_exchange *x) {
    pthread_mutex_lock(&x->lock);
    x->ended = true;
    wake(x);
    pthread_mutex_unlock(&x->lock);
}

/* A comment line now and then, so that neither client nor proxy takes a long prompt for a dead line. A stream that is
 * silent for a moment gives its room back. */
void nigh_exchange_ping(nigh_exchange *x, uint64_t now_ms) {
    pthread_mutex_lock(&x->lock);
    bool silent = x->streaming && !x->ended && x->out.len == x->out_begin;
    bool due = silent && now_ms - x->pushed_ms >= PING_AFTER_MS;
    if (silent && x->out.cap && now_ms - x->pushed_ms >= REST_AFTER_MS) {      /* of many streams most are silent */
        nigh_buf_release(&x->out);
        x->out_begin = 0;
    }
    pthread_mutex_unlock(&x->lock);
    if (due) nigh_exchange_push(x, NIGH_STR(": ping\n\n"));
}

/* Bytes of whole events that fit; of an event larger than the room, as much as fits. */
static size_t whole_events(nigh_str waiting, size_t room) {
    if (waiting.len <= room) return waiting.len;
    for (size_t n = room; n >= 2; n--) if (waiting.ptr[n - 1] == '\n' && waiting.ptr[n - 2] == '\n') return n;
    return room;
}

/* The library asks for the next piece of a stream. */
static ssize_t read_stream(void *ud, uint64_t pos, char *to, size_t room) {
    nigh_exchange *x = ud;
    ssize_t got = 0;
    bool tell = false;
    (void)pos;
    pthread_mutex_lock(&x->lock);
    nigh_str waiting = nigh_str_slice(nigh_buf_str(&x->out), x->out_begin, x->out.len);
    if (waiting.len) {
        size_t n = whole_events(waiting, room);
        memcpy(to, waiting.ptr, n);
        x->out_begin += n;
        got = (ssize_t)n;
        tell = x->full && waiting.len - n < NIGH_STREAM_BYTES / 2;
        if (tell) x->full = false;
    } else if (x->ended) {
        got = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        x->suspended = true;
        MHD_suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&x->lock);
    if (tell) call_on(x);
    return got;
}

static void stream_done(void *ud) { nigh_exchange_release(ud); }

/* ---- handing the answer to the library ---- */

static void add(struct MHD_Response *r, const char *name, const char *value) { (void)MHD_add_response_header(r,
    name, value); }

static void add_cors(const nigh_exchange *x, struct MHD_Response *r) {
    char origin[300];
    nigh_str o = x->facts.origin;
    add(r, "Vary", "Origin");
    if ((x->origin != NIGH_ORIGIN_OWN && x->origin != NIGH_ORIGIN_LISTED) || o.len >= sizeof origin) return;
    nigh_format(origin, sizeof origin, "%.*s", (int)o.len, o.ptr);
    add(r, "Access-Control-Allow-Origin", origin);
    add(r, "Access-Control-Expose-Headers", "nigh-receipt, x-placement, x-request-id, request-id, retry-after, "
        "retry-after-ms, x-should-retry, content-range, etag");
    if (!nigh_str_eq(x->facts.preflight_method, NIGH_STR("")) && x->status == 204) {
        add(r, "Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE, OPTIONS");
        add(r, "Access-Control-Allow-Headers",
            "authorization, content-type, accept, range, x-api-key, anthropic-version, anthropic-beta, "
            "anthropic-dangerous-direct-browser-access, x-request-id, x-feature, x-data-class, "
            "x-nigh-user, idempotency-key, openai-organization, openai-project, "
            "openai-beta, x-stainless-arch, x-stainless-async, x-stainless-custom-poll-interval, "
            "x-stainless-helper, x-stainless-helper-method, x-stainless-lang, x-stainless-os, "
            "x-stainless-package-version, "
            "x-stainless-poll-helper, x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, "
            "x-stainless-timeout");
        add(r, "Access-Control-Max-Age", "600");
        if (x->facts.preflight_private && x->origin == NIGH_ORIGIN_LISTED)
            add(r, "Access-Control-Allow-Private-Network", "true");
    }
}

/* The same on every answer: a page may not be framed, run foreign code or be read by another site. */
static void add_safety(struct MHD_Response *r, bool page) {
    add(r, "X-Content-Type-Options", "nosniff");
    add(r, "Referrer-Policy", "no-referrer");
    add(r, "Cross-Origin-Resource-Policy", "same-origin");
    add(r, "Cross-Origin-Opener-Policy", "same-origin");
    add(r, "Cross-Origin-Embedder-Policy", "require-corp");
    add(r, "Content-Security-Policy", page
        ? "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
          "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        : "default-src 'none'; frame-ancestors 'none'");
}

/* With the lock held: gives the library what waits, which is all there will be. */
static struct MHD_Response *give_out(nigh_exchange *x) {
    struct MHD_Response *r = MHD_create_response_from_buffer_with_free_callback(x->out.len, x->out.ptr, nigh_free);
    if (r) x->out = NIGH_BUF(0);        /* the library's now; whoever pushes comes too late */
    return r;
}

/* With the lock held. */
static struct MHD_Response *make_response(nigh_exchange *x) {
    struct MHD_Response *r;
    if (x->streaming && !(x->ended && x->out.len)) {
        nigh_exchange_keep(x);
        r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, x, stream_done);
        if (!r) nigh_exchange_release(x);
    } else if (x->file >= 0) {
        r = MHD_create_response_from_fd_at_offset64(x->file_bytes, x->file, x->file_first);
        if (r) x->file = -1;            /* the library closes it */
    } else if (x->out.len) r = give_out(x);
    else r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (!r) return NULL;
    if (x->type[0]) add(r, "Content-Type", x->type);
    add(r, "x-request-id", x->id);
    if (x->route && x->route->errors == NIGH_ERRORS_ANTHROPIC) add(r, "request-id", x->id);
    add(r, "Cache-Control", x->streaming ? "no-cache" : "no-store");
    if (x->streaming) add(r, "X-Accel-Buffering", "no");
    for (size_t i = 0; i < x->field_count; i++) add(r, x->fields[i].name, x->values.ptr + x->fields[i].at);
    nigh_buf_release(&x->values);       /* the library has copied them; a stream need not keep them */
    x->field_count = 0;
    add_cors(x, r);
    add_safety(r, x->route && x->route->page);
    if (x->close || atomic_load(&x->http->draining)) add(r, "Connection", "close");
    return r;
}

/* The answer is made under the lock and queued without it: the library holds the answer's own lock while it reads a
 * stream, and reading takes ours. */
enum MHD_Result nigh_exchange_answer(nigh_exchange *x, struct MHD_Connection *c) {
    struct MHD_Response *r = NULL;
    pthread_mutex_lock(&x->lock);
    bool answered = x->answered;
    unsigned status = (unsigned)x->status;
    if (answered) r = make_response(x);
    else {
        x->suspended = true;
        MHD_suspend_connection(c);
    }
    pthread_mutex_unlock(&x->lock);
    if (!answered) return MHD_YES;
    enum MHD_Result result = r ? MHD_queue_response(c, status, r) : MHD_NO;
    if (r) MHD_destroy_response(r);
    return result;
}
