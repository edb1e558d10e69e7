/* upstream_loop.c - the thread that drives all calls: epoll tells which sockets are ready, libcurl does the HTTP, a
 * heap holds our own deadlines (first word, whole), so that a turn costs what happened in it and not how many calls
 * are open.
 *
 * A socket stays with epoll between two requests of a kept connection: libcurl says "not now" and soon "again", and
 * two system calls are saved each time. When something does happen on a socket that nobody waits for (the other side
 * closed it), it is taken out then. */
#include "node/upstream_parts.h"

#include <errno.h>
#include <sys/epoll.h>
#include "base/os.h"

enum { EVENTS_AT_ONCE = 256, IDLE_HANDLES_MAX = 512, IDLE_CONNECTIONS_MAX = 1024 };

/* ---- deadlines: a binary heap ---- */
static void place(nigh_upstream *u, call_state *c, size_t i) {
    u->heap[i] = c;
    c->heap_idx = i;
}

static void sift(nigh_upstream *u, size_t i) {
    call_state *c = u->heap[i];
    while (i > 0 && u->heap[(i - 1) / 2]->deadline_ns > c->deadline_ns) {
        place(u, u->heap[(i - 1) / 2], i);
        i = (i - 1) / 2;
    }
    for (size_t child; (child = 2 * i + 1) < u->heap_count; i = child) {
        if (child + 1 < u->heap_count && u->heap[child + 1]->deadline_ns < u->heap[child]->deadline_ns) child++;
        if (u->heap[child]->deadline_ns >= c->deadline_ns) break;
        place(u, u->heap[child], i);
    }
    place(u, c, i);
}

void nigh_upstream_set_deadline(call_state *c, uint64_t deadline_ns) {
    c->deadline_ns = deadline_ns;
    if (c->heap_idx != SIZE_MAX) sift(c->u, c->heap_idx);
}

static bool heap_add(nigh_upstream *u, call_state *c) {
    if (u->heap_count == u->heap_cap) {
        size_t cap = u->heap_cap ? 2 * u->heap_cap : 64;
        call_state **more = nigh_alloc(sizeof *more, cap);
        if (!more) return false;
        if (u->heap_count) memcpy(more, u->heap, u->heap_count * sizeof *more);
        nigh_free(u->heap);
        u->heap = more;
        u->heap_cap = cap;
    }
    place(u, c, u->heap_count++);
    sift(u, c->heap_idx);
    return true;
}

static void heap_remove(nigh_upstream *u, call_state *c) {
    size_t i = c->heap_idx;
    if (i == SIZE_MAX) return;
    call_state *last = u->heap[--u->heap_count];
    c->heap_idx = SIZE_MAX;
    if (last == c) return;
    place(u, last, i);
    sift(u, i);
}

/* ---- what libcurl asks of us ---- */
static int on_timer(CURLM *multi, long timeout_ms, void *ud) {
    nigh_upstream *u = ud;
    (void)multi;
    u->timer_ns = timeout_ms < 0 ? UINT64_MAX : nigh_os_now_ns() + (uint64_t)timeout_ms * 1000000;
    return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ud, void *of_socket) {
    nigh_upstream *u = ud;
    nigh_upstream_socket *s = nigh_upstream_socket_at(u, fd);
    char *h = NULL;
    (void)of_socket;
    if (!s) return -1;
    if (what == CURL_POLL_REMOVE) {
        s->events = 0;
        if (!s->ours) {         /* one of libcurl's own, whose number may soon be another's */
            if (s->registered) epoll_ctl(u->epoll, EPOLL_CTL_DEL, fd, NULL);
            s->registered = 0;
        }
        return 0;
    }
    s->events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    if (s->ours && u->curl.easy_getinfo(easy, CURLINFO_PRIVATE, &h) == CURLE_OK && h && ((handle *)(void *)h)->call)
        nigh_upstream_own_socket(((handle *)(void *)h)->call, fd);
    if (s->registered == s->events) return 0;
    struct epoll_event e = { .events = s->events, .data.fd = fd };
    int op = s->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(u->epoll, op, fd, &e) != 0) {
        op = errno == ENOENT ? EPOLL_CTL_ADD : errno == EEXIST ? EPOLL_CTL_MOD : 0;
        if (!op || epoll_ctl(u->epoll, op, fd, &e) != 0) return -1;
    }
    s->registered = s->events;
    return 0;
}

/* ---- handles ---- */
static bool set_handle(handle *h) {
    const nigh_upstream_curl *c = &h->u->curl;
    CURL *e = h->easy;
    bool ok = c->easy_setopt(e, CURLOPT_PRIVATE, h) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK;          /* nor what the environment says */
    ok = ok && c->easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK;
    if (h->u->ca_file) ok = ok && c->easy_setopt(e, CURLOPT_CAINFO, h->u->ca_file) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK; /* or a slow name server would hold all up */
    ok = ok && c->easy_setopt(e, CURLOPT_NOPROGRESS, 1L) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_BUFFERSIZE, 1024L) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, 16384L) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_USERAGENT, "nigh") == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_HEADERFUNCTION, nigh_upstream_on_head) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_HEADERDATA, h) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_WRITEFUNCTION, nigh_upstream_on_body) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_WRITEDATA, h) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, nigh_upstream_open_socket) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_OPENSOCKETDATA, h) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, nigh_upstream_close_socket) == CURLE_OK;
    ok = ok && c->easy_setopt(e, CURLOPT_CLOSESOCKETDATA, h->u) == CURLE_OK;   /* outlives the handle */
    ok = ok && c->easy_setopt(e, CURLOPT_PREREQFUNCTION, nigh_upstream_before_request) == CURLE_OK;
    return ok && c->easy_setopt(e, CURLOPT_PREREQDATA, h) == CURLE_OK;
}

static void free_handle(handle *h) {
    if (h->easy) h->u->curl.easy_cleanup(h->easy);
    nigh_free(h);
}

static handle *take_handle(nigh_upstream *u) {
    handle *h = u->idle;
    if (h) {
        u->idle = h->next;
        u->idle_count--;
        return h;
    }
    h = nigh_alloc(sizeof *h, 1);
    if (!h) return NULL;
    h->u = u;
    h->easy = u->curl.easy_init();
    if (h->easy && set_handle(h)) return h;
    free_handle(h);
    return NULL;
}

static bool set_call(handle *h, call_state *c) {
    const nigh_upstream_curl *f = &h->u->curl;
    return f->easy_setopt(h->easy, CURLOPT_URL, c->url) == CURLE_OK
           && f->easy_setopt(h->easy, CURLOPT_HTTPHEADER, c->headers) == CURLE_OK
           && f->easy_setopt(h->easy, CURLOPT_POSTFIELDS, c->body.ptr) == CURLE_OK
           && f->easy_setopt(h->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.len) == CURLE_OK
           && f->easy_setopt(h->easy, CURLOPT_FRESH_CONNECT, c->fresh ? 1L : 0L) == CURLE_OK
           && f->easy_setopt(h->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)c->connect_ms) == CURLE_OK;
}

/* ---- calls ---- */
void nigh_upstream_start(nigh_upstream *u, call_state *c) {
    uint32_t ms = c->first_ms < c->total_ms ? c->first_ms : c->total_ms;
    c->deadline_ns = c->begin_ns + (uint64_t)ms * 1000000;
    if (atomic_load(&c->want_cancel)) { nigh_upstream_finish(u, c, CURLE_OK); return; }
    c->h = take_handle(u);
    if (!c->h) { nigh_upstream_finish(u, c, CURLE_OUT_OF_MEMORY); return; }
    c->h->call = c;
    if (!heap_add(u, c) || !set_call(c->h, c) || u->curl.multi_add_handle(u->multi, c->h->easy) != CURLM_OK)
        nigh_upstream_finish(u, c, CURLE_OUT_OF_MEMORY);
}

static void give_handle(nigh_upstream *u, handle *h) {
    h->call = NULL;
    u->curl.easy_setopt(h->easy, CURLOPT_HTTPHEADER, NULL);
    u->curl.easy_setopt(h->easy, CURLOPT_POSTFIELDS, NULL);
    if (u->idle_count >= IDLE_HANDLES_MAX) { free_handle(h); return; }
    h->next = u->idle;
    u->idle = h;
    u->idle_count++;
}

void nigh_upstream_finish(nigh_upstream *u, call_state *c, CURLcode code) {
    nigh_call_result r;
    heap_remove(u, c);
    if (c->h) {
        curl_socket_t fd = CURL_SOCKET_BAD;
        if (c->fd < 0 && c->sent && u->curl.easy_getinfo(c->h->easy, CURLINFO_ACTIVESOCKET, &fd) == CURLE_OK
            && fd >= 0)
            nigh_upstream_own_socket(c, fd);    /* it was over before libcurl had to wait for it */
        nigh_upstream_count_socket(u, c->fd);
        u->curl.multi_remove_handle(u->multi, c->h->easy);      /* closes it unless it can be kept */
        nigh_upstream_own_socket(c, -1);
        give_handle(u, c->h);
        c->h = NULL;
    }
    nigh_upstream_result(c, code, &r);
    nigh_upstream_forget(u, c);
    if (c->calls.done) c->calls.done(c->ud, &r);
    nigh_upstream_free_call(c);
}

static void reap(nigh_upstream *u) {
    int left;
    for (CURLMsg *m; (m = u->curl.multi_info_read(u->multi, &left));) {
        char *h = NULL;
        CURLcode code = m->data.result;
        if (m->msg != CURLMSG_DONE || u->curl.easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &h) != CURLE_OK || !h)
            continue;
        call_state *c = ((handle *)(void *)h)->call;
        if (c) nigh_upstream_finish(u, c, code);
    }
}

uint64_t nigh_upstream_next_look(const call_state *c) {
    uint64_t end = c->begin_ns + (uint64_t)c->total_ms * 1000000, quiet = c->heard_ns + (uint64_t)c->quiet_ms * 1000000;
    return c->quiet_ms && quiet < end ? quiet : end;
}

/* Was it only looked at whether it still speaks, and it does? One that waits for a slow reader need not. */
static bool speaks(call_state *c, uint64_t now) {
    if (!c->answer.alive || c->answer.ended || !c->quiet_ms) return false;
    if (c->paused) c->heard_ns = now;
    uint64_t next = nigh_upstream_next_look(c);
    c->silent = next <= now && next < c->begin_ns + (uint64_t)c->total_ms * 1000000;
    if (next <= now) return false;
    nigh_upstream_set_deadline(c, next);
    return true;
}

static void expire(nigh_upstream *u) {
    uint64_t now = nigh_os_now_ns();
    while (u->heap_count && u->heap[0]->deadline_ns <= now) {
        call_state *c = u->heap[0];
        if (speaks(c, now)) continue;
        c->timed_out = true;
        nigh_upstream_finish(u, c, CURLE_OK);
    }
}

static call_state *take_command(nigh_upstream *u) {
    pthread_mutex_lock(&u->lock);
    call_state *c = u->commands;
    if (c) {
        u->commands = c->next_command;
        c->commanded = false;
    }
    pthread_mutex_unlock(&u->lock);
    return c;
}

/* What other threads left for us. True: there was something. */
static bool take_orders(nigh_upstream *u, bool *closing) {
    pthread_mutex_lock(&u->lock);
    call_state *c = u->queue;
    u->queue = u->queue_last = NULL;
    u->awake = false;
    *closing = u->closing;
    pthread_mutex_unlock(&u->lock);
    bool any = c;
    for (call_state *next; c; c = next) {
        next = c->next;
        nigh_upstream_start(u, c);
    }
    while ((c = take_command(u))) {
        any = true;
        if (!c->h) continue;    /* still in the queue: the start of it sees the flags */
        if (atomic_load(&c->want_cancel)) nigh_upstream_finish(u, c, CURLE_OK);
        else if (c->paused && !atomic_load(&c->want_pause)) {
            c->paused = false;
            u->curl.easy_pause(c->h->easy, CURLPAUSE_CONT);
        }
    }
    return any;
}

static int wait_ms(const nigh_upstream *u) {
    uint64_t next = u->timer_ns;
    if (u->heap_count && u->heap[0]->deadline_ns < next) next = u->heap[0]->deadline_ns;
    if (next == UINT64_MAX) return -1;
    uint64_t now = nigh_os_now_ns();
    if (next <= now) return 0;
    return (int)nigh_min((size_t)((next - now + 999999) / 1000000), 60000);
}

static void on_ready(nigh_upstream *u, const struct epoll_event *e) {
    int running, fd = e->data.fd;
    if (fd == u->event) return;     /* edge-triggered: it need not be read */
    nigh_upstream_socket *s = nigh_upstream_socket_at(u, fd);
    if (!s) return;
    if (!s->events) {           /* nobody waits for it: libcurl looks when it wants to use the connection again */
        if (s->registered) epoll_ctl(u->epoll, EPOLL_CTL_DEL, fd, NULL);
        s->registered = 0;
        return;
    }
    int bits = (e->events & EPOLLIN ? CURL_CSELECT_IN : 0) | (e->events & EPOLLOUT ? CURL_CSELECT_OUT : 0)
               | (e->events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    u->curl.multi_socket_action(u->multi, fd, bits, &running);
}

static void run_timer(nigh_upstream *u) {
    int running;
    for (int turns = 0; turns < 8 && u->timer_ns <= nigh_os_now_ns(); turns++) {
        u->timer_ns = UINT64_MAX;
        u->curl.multi_socket_action(u->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
}

bool nigh_upstream_prepare(nigh_upstream *u) {
    const nigh_upstream_curl *c = &u->curl;
    u->timer_ns = UINT64_MAX;
    u->multi = c->multi_init();
    struct epoll_event e = { .events = EPOLLIN | EPOLLET, .data.fd = u->event };
    return u->multi && c->multi_setopt(u->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK
           && c->multi_setopt(u->multi, CURLMOPT_SOCKETDATA, u) == CURLM_OK
           && c->multi_setopt(u->multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK
           && c->multi_setopt(u->multi, CURLMOPT_TIMERDATA, u) == CURLM_OK
           && c->multi_setopt(u->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_CONNECTIONS_MAX) == CURLM_OK
           && c->multi_setopt(u->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING) == CURLM_OK
           && epoll_ctl(u->epoll, EPOLL_CTL_ADD, u->event, &e) == 0;
}

void nigh_upstream_unprepare(nigh_upstream *u) {
    if (u->multi) u->curl.multi_cleanup(u->multi);      /* closes what was kept; the counts take it in */
    for (handle *h; (h = u->idle);) {
        u->idle = h->next;
        free_handle(h);
    }
    nigh_free(u->sockets);
    nigh_free(u->heap);
    u->multi = NULL;
    u->sockets = NULL;
    u->heap = NULL;
    epoll_ctl(u->epoll, EPOLL_CTL_DEL, u->event, NULL);
}

/* Whose transfers this thread drives just now: it need not be woken. */
static _Thread_local const nigh_upstream *mine;

bool nigh_upstream_is_mine(const nigh_upstream *u) { return mine == u; }

typedef enum { DONT_LOOK, LOOK, WAIT } look;

/* WAIT: as long as there is nothing to do. False: it is closing, and nothing is left. */
static bool turn(nigh_upstream *u, look how) {
    struct epoll_event events[EVENTS_AT_ONCE];
    bool closing = false;
    int n = 0;
    u->again = false;
    bool more = take_orders(u, &closing);
    if (closing) {
        pthread_mutex_lock(&u->lock);
        bool none = u->live == 0;
        pthread_mutex_unlock(&u->lock);
        if (none) return false;
    }
    run_timer(u);
    reap(u);
    int ms = how == LOOK || more || u->again ? 0 : wait_ms(u);
    if (how != DONT_LOOK) n = epoll_wait(u->epoll, events, EVENTS_AT_ONCE, ms);
    for (int i = 0; i < n; i++) on_ready(u, &events[i]);
    run_timer(u);
    reap(u);
    expire(u);
    return true;
}

void *nigh_upstream_run(void *ud) {
    mine = ud;
    while (turn(ud, WAIT)) { }
    return NULL;
}

void nigh_upstream_turn(nigh_upstream *u, bool ready) {
    if (!atomic_load(&u->runs)) return;
    mine = u;
    (void)turn(u, ready ? LOOK : DONT_LOOK);
}

int nigh_upstream_fd(const nigh_upstream *u) { return u->epoll; }

uint64_t nigh_upstream_due_ns(const nigh_upstream *u) {
    if (!atomic_load(&u->runs)) return UINT64_MAX;
    if (u->again) return 0;
    return u->heap_count && u->heap[0]->deadline_ns < u->timer_ns ? u->heap[0]->deadline_ns : u->timer_ns;
}
