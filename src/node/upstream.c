/* upstream.c - see upstream.h and upstream_parts.h: the door. A call is checked and spelled in the thread of the one
 * who asks, so that what is wrong with it is said at once; then it is one block of memory (and its body) that goes
 * into a list, and the upstream thread is woken unless it already was.
 *
 * An id is a slot and how often the slot was used: | generation, 32 bits | slot, 32 bits |. */
#include "node/upstream_parts.h"

#include <sodium.h>
#include <sys/eventfd.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/os.h"

enum { CALLS_MAX_DEFAULT = 4096, CONNECT_MS = 3000, FIRST_MS = 30000, TOTAL_MS = 600000, TEXT_MAX = 4096 };

/* ---- slots ---- */
static bool grow_slots(nigh_upstream *u) {
    uint32_t cap = u->slot_cap ? 2 * u->slot_cap : 64;
    if (cap > u->calls_max) cap = u->calls_max;
    call_state **slots = nigh_alloc(sizeof *slots, cap);
    uint32_t *generations = nigh_alloc(sizeof *generations, cap), *unused = nigh_alloc(sizeof *unused, cap);
    if (!slots || !generations || !unused) {
        nigh_free(slots);
        nigh_free(generations);
        nigh_free(unused);
        return false;
    }
    if (u->slot_cap) {
        memcpy(slots, u->slots, u->slot_cap * sizeof *slots);
        memcpy(generations, u->generations, u->slot_cap * sizeof *generations);
    }
    nigh_free(u->slots);
    nigh_free(u->generations);
    nigh_free(u->free_slots);
    u->slots = slots;
    u->generations = generations;
    u->free_slots = unused;
    for (uint32_t i = cap; i-- > u->slot_cap;) u->free_slots[u->free_count++] = i;
    u->slot_cap = cap;
    return true;
}

static nigh_status take_slot(nigh_upstream *u, call_state *c, nigh_err *err) {
    if (u->closing) return nigh_fail(err, NIGH_ECANCEL, 0, "the node is stopping");
    if (u->live >= u->calls_max)
        return nigh_failf(err, NIGH_EBUSY, 0, "%u calls to other places are open already", (unsigned)u->calls_max);
    if (!u->free_count && !grow_slots(u)) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for another call");
    uint32_t slot = u->free_slots[--u->free_count];
    u->slots[slot] = c;
    c->id = (uint64_t)++u->generations[slot] << 32 | slot;
    u->live++;
    return NIGH_OK;
}

static call_state *find(nigh_upstream *u, uint64_t id) {
    uint32_t slot = (uint32_t)id;
    if (slot >= u->slot_cap || u->generations[slot] != (uint32_t)(id >> 32)) return NULL;
    return u->slots[slot];
}

void nigh_upstream_forget(nigh_upstream *u, call_state *c) {
    uint32_t slot = (uint32_t)c->id;
    pthread_mutex_lock(&u->lock);
    u->slots[slot] = NULL;
    u->free_slots[u->free_count++] = slot;
    u->destinations[c->destination].calls++;
    if (c->commanded)
        for (call_state **at = &u->commands; *at; at = &(*at)->next_command)
            if (*at == c) { *at = c->next_command; break; }
    pthread_mutex_unlock(&u->lock);
}

void nigh_upstream_free_call(call_state *c) {
    nigh_upstream *u = c->u;
    nigh_dialect_release(&c->answer);
    nigh_sse_release(&c->peer_events);
    nigh_buf_release(&c->error_body);
    nigh_buf_release(&c->body);
    sodium_memzero(c, c->block_bytes);      /* the key among it */
    nigh_free(c);
    pthread_mutex_lock(&u->lock);
    u->live--;                              /* last: who stops it waits for it */
    if (u->closing && !u->live) pthread_cond_signal(&u->none);
    pthread_mutex_unlock(&u->lock);
}

/* ---- a call as one block ---- */
static bool is_plain(nigh_str text) {       /* may stand in a header */
    for (size_t i = 0; i < text.len; i++) if (text.ptr[i] < 0x20 || text.ptr[i] > 0x7e) return false;
    return true;
}

static nigh_status check_ask(const nigh_upstream_ask *ask, nigh_err *err) {
    if (ask->tier != NIGH_TIER_EDGE && ask->tier != NIGH_TIER_CLOUD)
        return nigh_fail(err, NIGH_EINVAL, 0, "only edge and cloud targets are asked over the network");
    if (ask->key.len > TEXT_MAX || !is_plain(ask->key) || nigh_str_trim(ask->key).len != ask->key.len)
        return nigh_fail(err, NIGH_EINVAL, 0, "key: it must be printable ASCII, without blanks around it");
    if (ask->header_count > NIGH_UPSTREAM_HEADERS_MAX - 8) return nigh_fail(err, NIGH_EINVAL, 0, "too many headers");
    for (size_t i = 0; i < ask->header_count; i++) {
        nigh_str h = nigh_str_of(ask->headers[i]);
        if (h.len > TEXT_MAX || !is_plain(h))
            return nigh_fail(err, NIGH_EINVAL, 0, "a header must be printable ASCII");
    }
    nigh_str once = nigh_str_of(ask->idempotency_key);
    if (once.len > 255 || !is_plain(once)) return nigh_fail(err, NIGH_EINVAL, 0, "idempotency_key: printable ASCII");
    return NIGH_OK;
}

/* Base addresses get the dialect's path, one without any path /v1 in front of it. */
static void spell_url(const nigh_egress_url *url, nigh_api api, char *out, size_t cap) {
    nigh_str path = url->path, end = nigh_dialect_path(api);
    char name[300];
    nigh_egress_name(url, name, sizeof name);
    while (path.len && path.ptr[path.len - 1] == '/') path.len--;
    bool whole = nigh_str_ends(path, end);
    nigh_format(out, cap, "%s://%s%s%.*s%s%.*s", url->https ? "https" : "http", name, path.len ? "" : "/v1",
                (int)path.len, path.ptr ? path.ptr : "", whole ? "" : end.ptr, (int)url->query.len,
                url->query.ptr ? url->query.ptr : "");
}

/* Headers are a list of libcurl's inside our block; text is carved behind the struct. */
typedef struct { call_state *c; char *at, *end; size_t count; } carver;

static NIGH_PRINTF(2, 3) void add_header(carver *v, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    size_t n = nigh_vformat(v->at, (size_t)(v->end - v->at), fmt, args) + 1;
    va_end(args);
    assert(n <= (size_t)(v->end - v->at) && v->count < NIGH_UPSTREAM_HEADERS_MAX);
    v->c->headers[v->count].data = v->at;
    if (v->count) v->c->headers[v->count - 1].next = &v->c->headers[v->count];
    v->count++;
    v->at += n;
}

static void add_headers(carver *v, const nigh_upstream_ask *ask) {
    add_header(v, "Content-Type: application/json");
    add_header(v, "Accept: text/event-stream, application/json");
    add_header(v, "Expect:");               /* none: it would cost a round trip */
    if (ask->api == NIGH_API_ANTHROPIC) {
        add_header(v, "anthropic-version: 2023-06-01");
        if (ask->key.len) add_header(v, "x-api-key: %.*s", (int)ask->key.len, ask->key.ptr);
    } else if (ask->key.len) add_header(v, "Authorization: Bearer %.*s", (int)ask->key.len, ask->key.ptr);
    if (ask->idempotency_key) add_header(v, "Idempotency-Key: %s", ask->idempotency_key);
    for (size_t i = 0; i < ask->header_count; i++) add_header(v, "%s", ask->headers[i]);
}

static bool is_allowed(const nigh_upstream *u, const nigh_egress_url *url) {
    char name[300];
    nigh_egress_name(url, name, sizeof name);
    for (size_t i = 0; i < u->allow_count; i++) if (strcmp(u->allow[i], name) == 0) return true;
    return false;
}

static call_state *new_call(nigh_upstream *u, const nigh_upstream_ask *ask, const nigh_egress_url *url) {
    /* url: the scheme, a port, /v1 and the dialect's path; key: kept, and in a header; the fixed headers */
    size_t text = 64 + strlen(url->host) + url->path.len + url->query.len + 2 * (ask->key.len + 1) + 224
                  + nigh_str_of(ask->idempotency_key).len;
    for (size_t i = 0; i < ask->header_count; i++) text += strlen(ask->headers[i]) + 1;
    call_state *c = nigh_alloc(1, sizeof *c + text);
    if (!c) return NULL;
    carver v = { .c = c, .at = (char *)(c + 1), .end = (char *)(c + 1) + text };
    c->u = u;
    c->block_bytes = sizeof *c + text;
    c->api = ask->api;
    c->rule = (nigh_egress_rule){ ask->tier, url->https, is_allowed(u, url) };
    c->url = v.at;
    spell_url(url, ask->api, v.at, (size_t)(v.end - v.at));
    v.at += strlen(v.at) + 1;
    c->key = (nigh_str){ v.at, ask->key.len };
    if (ask->key.len) memcpy(v.at, ask->key.ptr, ask->key.len);
    v.at += ask->key.len + 1;
    add_headers(&v, ask);
    c->connect_ms = ask->connect_ms ? ask->connect_ms : CONNECT_MS;
    c->first_ms = ask->first_ms ? ask->first_ms : FIRST_MS;
    c->total_ms = ask->total_ms ? ask->total_ms : TOTAL_MS;
    c->quiet_ms = ask->quiet_ms;
    c->fresh = ask->idempotency_key != NULL;
    c->fd = -1;
    c->heap_idx = SIZE_MAX;
    c->begin_ns = nigh_os_now_ns();
    return c;
}

static void drop_call(call_state *c) {      /* one that was never handed over */
    nigh_buf_release(&c->body);
    sodium_memzero(c, c->block_bytes);
    nigh_free(c);
}

static void wake(nigh_upstream *u) {
    uint64_t one = 1;
    if (nigh_upstream_is_mine(u)) { u->again = true; return; }
    if (write(u->event, &one, sizeof one) < 0) return;     /* full: it is awake anyway */
}

/* Under the lock. */
static nigh_status load_and_run(nigh_upstream *u, nigh_err *err) {
    NIGH_TRY(nigh_upstream_curl_load(&u->curl, err));
    if (nigh_upstream_prepare(u)
        && (u->driven || pthread_create(&u->thread, NULL, nigh_upstream_run, u) == 0)) {
        atomic_store(&u->runs, true);
        return NIGH_OK;
    }
    nigh_upstream_unprepare(u);
    return nigh_fail(err, NIGH_EIO, 0, "the thread for calls to other places does not start");
}

/* With the first call. */
static nigh_status start(nigh_upstream *u, nigh_err *err) {
    nigh_status status = NIGH_OK;
    if (atomic_load(&u->runs)) return NIGH_OK;
    pthread_mutex_lock(&u->lock);
    if (!atomic_load(&u->runs) && !u->closing) status = load_and_run(u, err);
    pthread_mutex_unlock(&u->lock);
    return status;
}

nigh_status nigh_upstream_call(nigh_upstream *u, const nigh_upstream_ask *ask, const nigh_upstream_calls *calls,
                               void *ud, uint64_t *id, nigh_err *err) {
    nigh_egress_url url;
    nigh_buf body = NIGH_BUF(0);
    nigh_dialect_ask how = { .model = ask->model, .max_tokens = ask->max_tokens, .tier = ask->tier };
    NIGH_TRY(check_ask(ask, err));
    NIGH_TRY(nigh_egress_parse(&url, ask->url, err));
    NIGH_TRY(start(u, err));
    nigh_status status = nigh_dialect_request(ask->api, ask->body, &how, &body, err);
    nigh_upstream_ask sealed = *ask;
    nigh_peer_out peer = { .next = 0 };
    char token[NIGH_PEER_TOKEN];
    if (status == NIGH_OK && ask->peer) {
        status = nigh_peer_ask(ask->peer, &body, token, &peer, err);
        sealed.key = nigh_str_of(token);
    }
    call_state *c = status == NIGH_OK ? new_call(u, &sealed, &url) : NULL;
    if (!c) {
        nigh_buf_release(&body);
        return status == NIGH_OK ? nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for another call") : status;
    }
    c->body = body;
    c->sealed = ask->peer != NULL;
    c->peer = peer;
    sodium_memzero(&peer, sizeof peer);
    c->calls = *calls;
    c->ud = ud;
    pthread_mutex_lock(&u->lock);
    status = take_slot(u, c, err);
    bool sleeps = false;
    if (status == NIGH_OK) {
        c->destination = nigh_upstream_destination(u, &url);
        *id = c->id;
        if (u->queue_last) u->queue_last->next = c;
        else u->queue = c;
        u->queue_last = c;
        sleeps = !u->awake;
        u->awake = true;
    }
    pthread_mutex_unlock(&u->lock);
    if (status != NIGH_OK) drop_call(c);
    else if (sleeps) wake(u);
    return status;
}

/* ---- orders to a call ---- */
static void command(nigh_upstream *u, call_state *c) {     /* under the lock */
    if (!c->commanded) {
        c->commanded = true;
        c->next_command = u->commands;
        u->commands = c;
    }
    if (!u->awake) wake(u);
    u->awake = true;
}

void nigh_upstream_cancel(nigh_upstream *u, uint64_t id) {
    pthread_mutex_lock(&u->lock);
    call_state *c = find(u, id);
    if (c) {
        atomic_store(&c->want_cancel, true);
        command(u, c);
    }
    pthread_mutex_unlock(&u->lock);
}

void nigh_upstream_pause(nigh_upstream *u, uint64_t id, bool pause) {
    pthread_mutex_lock(&u->lock);
    call_state *c = find(u, id);
    if (c) {
        atomic_store(&c->want_pause, pause);
        if (!pause) command(u, c);
    }
    pthread_mutex_unlock(&u->lock);
}

/* ---- open and close ---- */
static char *copy_text(const char *text) {
    size_t n = strlen(text) + 1;
    char *copy = nigh_alloc(1, n);
    if (copy) memcpy(copy, text, n);
    return copy;
}

static bool copy_opts(nigh_upstream *u, const nigh_upstream_opts *o) {
    u->calls_max = o->calls_max ? o->calls_max : CALLS_MAX_DEFAULT;
    u->driven = o->driven;
    if (o->ca_file && !(u->ca_file = copy_text(o->ca_file))) return false;
    if (!o->allow_private_count) return true;
    u->allow = nigh_alloc(sizeof *u->allow, o->allow_private_count);
    for (size_t i = 0; u->allow && i < o->allow_private_count; i++, u->allow_count++)
        if (!(u->allow[i] = copy_text(o->allow_private[i]))) return false;
    return u->allow != NULL;
}

static void release(nigh_upstream *u) {
    if (atomic_load(&u->runs)) nigh_upstream_unprepare(u);
    if (u->epoll >= 0) close(u->epoll);
    if (u->event >= 0) close(u->event);
    for (size_t i = 0; i < u->allow_count; i++) nigh_free(u->allow[i]);
    nigh_free(u->allow);
    nigh_free(u->ca_file);
    nigh_free(u->slots);
    nigh_free(u->generations);
    nigh_free(u->free_slots);
    if (u->lock_made) pthread_mutex_destroy(&u->lock);
    pthread_cond_destroy(&u->none);
    nigh_free(u);
}

nigh_status nigh_upstream_open(nigh_upstream **out, const nigh_upstream_opts *o, nigh_err *err) {
    *out = NULL;
    nigh_upstream *u = nigh_alloc(sizeof *u, 1);
    if (!u) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for calls to other places");
    u->epoll = epoll_create1(EPOLL_CLOEXEC);
    u->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool copied = copy_opts(u, o);
    u->lock_made = pthread_mutex_init(&u->lock, NULL) == 0;
    pthread_cond_init(&u->none, NULL);
    if (copied && u->lock_made && u->epoll >= 0 && u->event >= 0) {
        *out = u;
        return NIGH_OK;
    }
    release(u);
    return copied ? nigh_fail(err, NIGH_EIO, 0, "no more files can be opened for calls to other places")
                  : nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for calls to other places");
}

void nigh_upstream_stop(nigh_upstream *u, bool driven) {
    if (!u) return;
    pthread_mutex_lock(&u->lock);
    u->closing = true;
    for (uint32_t i = 0; i < u->slot_cap; i++) {
        if (!u->slots[i]) continue;
        atomic_store(&u->slots[i]->want_cancel, true);
        command(u, u->slots[i]);
    }
    if (u->live) wake(u);
    while (u->live && (driven || !u->driven)) pthread_cond_wait(&u->none, &u->lock);
    bool left = u->live;
    pthread_mutex_unlock(&u->lock);
    while (left) {                          /* nobody takes its turns: we do */
        nigh_upstream_turn(u, true);
        pthread_mutex_lock(&u->lock);
        left = u->live;
        pthread_mutex_unlock(&u->lock);
    }
}

void nigh_upstream_close(nigh_upstream *u) {
    if (!u) return;
    nigh_upstream_stop(u, false);
    if (!u->driven && atomic_load(&u->runs)) {
        pthread_mutex_lock(&u->lock);
        wake(u);
        pthread_mutex_unlock(&u->lock);
        pthread_join(u->thread, NULL);
    }
    release(u);
}
