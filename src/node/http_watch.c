/* http_watch.c - the thread that ends what takes too long.
 * The library's own timeout counts only silence, so a client that sends one byte a second would hold a connection
 * for ever. Here each phase of a connection has a deadline from its start. A connection in whose exchange somebody
 * works is watched for the client leaving: nothing reads its socket meanwhile. Its thread looks every 50 ms while
 * anything is at work, else every 500. Which sockets to look at the system says (an epoll that knows all of them and
 * tells each hang-up once): ten thousand silent streams cost a walk over a list, and no system call each. */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/os.h"
#include "node/http_parts.h"

enum { WATCH_BATCH = 1024, LEFT_AFTER_MS = 500 };

static const char too_late[] =
    "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 120\r\n\r\n"
    "{\"error\":{\"message\":\"the request took too long to arrive\","
    "\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"timeout\"}}";

static unsigned deadline_of(const nigh_http *h, nigh_phase p) {
    return p == PHASE_IDLE ? h->opts.idle_ms : p == PHASE_BODY ? h->opts.body_ms : h->opts.head_ms;
}

/* Notes what the system tells. A number may be another connection's by now: has_left asks the socket itself. */
static void note_leaving(nigh_http *h) {
    struct epoll_event e[64];
    int n;
    do {
        n = epoll_wait(h->leaving, e, (int)NIGH_COUNT(e), 0);
        for (int i = 0; i < n; i++) if ((size_t)e[i].data.fd < h->files) h->left[e[i].data.fd] = 1;
    } while (n == (int)NIGH_COUNT(e));
}

static bool has_left(const nigh_http *h, const nigh_conn *c) {
    if ((size_t)c->fd < h->files && !h->left[c->fd]) return false;
    struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* With http->lock held. The library can miss that a client closed in the middle of a request, when the end came
 * together with data; half a second in a phase is time enough for a request that is whole. */
static void end_late(nigh_http *h, uint64_t now_ms) {
    for (nigh_conn *c = h->conns; c; c = c->next) {
        uint64_t spent = now_ms - c->since_ms;
        if (c->phase == PHASE_WORK || c->phase == PHASE_DEAD) continue;
        bool late = spent >= deadline_of(h, c->phase);
        if (!late && (spent < LEFT_AFTER_MS || !has_left(h, c))) continue;
        if (late && c->phase != PHASE_IDLE)
            (void)!send(c->fd, too_late, sizeof too_late - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        shutdown(c->fd, SHUT_RDWR);
        c->phase = PHASE_DEAD;
    }
}

/* Collects the exchanges whose client left; each comes with a reference. Returns how many connections are at work. */
static size_t find_gone(nigh_http *h, nigh_exchange **gone, size_t *gone_count, uint64_t now_ms) {
    size_t working = 0;
    for (nigh_conn *c = h->conns; c; c = c->next) {
        if (c->phase != PHASE_WORK || !c->x) continue;
        bool left = has_left(h, c);
        working++;
        if (!left) nigh_exchange_ping(c->x, now_ms);
        if (!left || atomic_load(&c->x->gone) || *gone_count == WATCH_BATCH) continue;
        nigh_exchange_keep(c->x);
        gone[(*gone_count)++] = c->x;
    }
    return working;
}

/* Sleeps until the time is over, or until a request begins to be worked on. */
static void nap(nigh_http *h, unsigned ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)ms * 1000000;
    if (until.tv_nsec >= 1000000000) { until.tv_sec++; until.tv_nsec -= 1000000000; }
    pthread_mutex_lock(&h->lock);
    while (!h->work_began && !atomic_load(&h->stopping) && pthread_cond_timedwait(&h->wake, &h->lock, &until) == 0) { }
    bool began = h->work_began;
    h->work_began = false;
    pthread_mutex_unlock(&h->lock);
    if (began && ms <= 50) nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
}

void *nigh_http_watch(void *ud) {
    nigh_http *h = ud;
    nigh_exchange *gone[WATCH_BATCH];
    while (!atomic_load(&h->stopping)) {
        uint64_t now_ms = nigh_os_now_ns() / 1000000;
        size_t gone_count = 0;
        pthread_mutex_lock(&h->lock);
        note_leaving(h);
        end_late(h, now_ms);
        size_t working = find_gone(h, gone, &gone_count, now_ms);
        pthread_mutex_unlock(&h->lock);
        for (size_t i = 0; i < gone_count; i++) {
            nigh_exchange_leave(gone[i]);
            nigh_exchange_release(gone[i]);
        }
        nap(h, working ? 50 : 500);
    }
    return NULL;
}
