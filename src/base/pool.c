/* pool.c - see pool.h.
 * One atomic word, the ticket, says which call runs and who takes part in it:
 *     bit 0 open | bits 1..15 workers that joined | bits 16.. number of the call
 * A worker joins an open call by adding itself to the ticket; the caller closes the ticket when the
 * chunks are gone and waits only for those that joined. A worker that sleeps, or that the system gave
 * no core, is not waited for: on a busy machine the caller does the work itself.
 *
 * The chunks of a call lie in one share for each thread, also an atomic word: first chunk | end << 32. Its thread
 * takes from the front; a thread whose share is empty takes the back half of another's and goes on from there. A
 * chunk that was taken never comes back, so a share that still reads as before is unchanged.
 *
 * Waiting is a short spin (SPIN_NS), then a condition variable: on a busy machine spinning would only
 * take the core away from the thread that is being waited for.
 *
 * A worker that joined and then lost its core in the middle of a chunk holds the caller up. Where that costs more than
 * the worker brings (other programs on the cores, or more threads than cores), fewer threads are tried, and kept while
 * they are faster: see "how many take part". The same numbers come out. */
#include <pthread.h>
#include <stdatomic.h>

#include "base/os.h"
#include "base/pool.h"

enum {
    POOL_THREADS_MAX = 256,
    AHEAD_BYTES = 192 << 10,                /* of the next call, by each thread: a part of its level-2 cache */
    LINE = 64,
    BURST_LINES = 24                        /* asked for in one go: what a core keeps under way at once */
};
#define SPIN_NS 50000u

typedef struct { nigh_pool *pool; size_t worker; } start_arg;
typedef struct { _Alignas(64) atomic_uint_fast64_t left; } share;
/* What is still to be asked for: from `at` on `left` bytes, of which `here` belong to this piece; between two pieces
 * lie `skip` bytes. */
typedef struct { const uint8_t *at; size_t left, here, piece, skip; } ahead;

/* A stretch of calls, one after the other: their number and time, and when it began on the clock and on the
 * caller's own processor time. */
typedef struct { uint64_t calls, ns, begin_ns, begin_cpu_ns; } stretch;

struct nigh_pool {
    size_t size;
    nigh_pool_fn *fn;
    void *ud;
    size_t count, grain;
    nigh_pool_pieces next;                  /* nigh_pool_ahead */
    _Alignas(64) atomic_uint_fast64_t ticket;
    _Alignas(64) atomic_size_t finished;    /* workers of this call that are through */
    _Alignas(64) atomic_size_t active;      /* threads 0..active-1 take part */
    atomic_bool sleepers, caller_sleeps, stop;
    pthread_mutex_t lock;
    pthread_cond_t wake, done, unpark;
    /* the caller's own */
    nigh_pool_stats stats;
    stretch now, before;
    uint64_t end_ns;                        /* of the last call */
    size_t untried;                         /* threads before the trial; 0: there is none */
    uint64_t try_at_ns, retry_ns;
    size_t started;
    share shares[POOL_THREADS_MAX];
    pthread_t threads[POOL_THREADS_MAX];
    start_arg args[POOL_THREADS_MAX];       /* of the threads; here, so that nothing is freed at their own time */
};

static void relax(void) {
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    __builtin_ia32_pause();
#endif
}

/* ---- chunks ---- */

static uint64_t share_of(uint64_t begin, uint64_t end) { return begin | end << 32; }
static uint64_t begin_of(uint64_t left) { return left & 0xffffffffu; }
static uint64_t end_of(uint64_t left) { return left >> 32; }

static void deal_shares(nigh_pool *p, size_t threads) {
    uint64_t chunks = (p->count + p->grain - 1) / p->grain;
    for (size_t i = 0; i < threads; i++)
        atomic_store_explicit(&p->shares[i].left, share_of(chunks * i / threads, chunks * (i + 1) / threads),
                              memory_order_relaxed);
}

static bool take_own(share *s, uint64_t *chunk) {
    uint_fast64_t left = atomic_load_explicit(&s->left, memory_order_relaxed);
    do {
        if (begin_of(left) >= end_of(left)) return false;
    } while (!atomic_compare_exchange_weak_explicit(&s->left, &left, left + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    *chunk = begin_of(left);
    return true;
}

/* Moves the back half of somebody's share into the empty one of `worker`. */
static bool take_half(nigh_pool *p, size_t worker, size_t threads) {
    for (size_t i = 1; i < threads; i++) {
        share *other = &p->shares[(worker + i) % threads];
        uint_fast64_t left = atomic_load_explicit(&other->left, memory_order_relaxed);
        while (begin_of(left) < end_of(left)) {
            uint64_t middle = begin_of(left) + (end_of(left) - begin_of(left)) / 2;
            if (!atomic_compare_exchange_weak_explicit(&other->left, &left, share_of(begin_of(left), middle),
                                                       memory_order_relaxed, memory_order_relaxed)) continue;
            atomic_store_explicit(&p->shares[worker].left, share_of(middle, end_of(left)), memory_order_relaxed);
            return true;
        }
    }
    return false;
}

static void take_chunks(nigh_pool *p, size_t worker, size_t threads) {
    uint64_t chunk;
    do {
        while (take_own(&p->shares[worker], &chunk)) {
            size_t begin = (size_t)chunk * p->grain;
            p->fn(p->ud, worker, begin, nigh_min(begin + p->grain, p->count));
        }
    } while (take_half(p, worker, threads));
}

/* ---- the next call's bytes ---- */

/* The share of one thread, as far as it lies in one row. */
static ahead ahead_of(const nigh_pool *p, size_t worker, size_t threads) {
    const nigh_pool_pieces *n = &p->next;
    size_t all = n->rows * n->count;
    if (!n->bytes || all == 0) return (ahead){ 0 };
    size_t first = all * worker / threads, end = all * (worker + 1) / threads, row = first / n->count;
    size_t pieces = nigh_min(end - first, (row + 1) * n->count - first);
    return (ahead){ .at = (const uint8_t *)n->bytes + row * n->row_stride + first % n->count * n->stride,
                    .left = nigh_min(AHEAD_BYTES, pieces * n->piece), .here = n->piece, .piece = n->piece,
                    .skip = n->stride - n->piece };
}

static void ask_lines(ahead *a, size_t lines) {
    for (size_t i = 0; i < lines && a->left >= LINE; i++) {
        __builtin_prefetch(a->at, 0, 2);
        a->at += LINE;
        a->left -= LINE;
        a->here -= LINE;
        if (a->here >= LINE) continue;
        a->at += a->here + a->skip;
        a->here = a->piece;
    }
}

/* One look at a waiting loop: some lines asked for, or a pause. */
static void wait_once(ahead *a) {
    if (a->left < LINE) relax();
    else ask_lines(a, 4);
}

void nigh_pool_ahead(nigh_pool *p, const void *bytes, size_t count) {
    nigh_pool_ahead_pieces(p, (nigh_pool_pieces){ bytes, LINE, LINE, count / LINE, 0, 1 });
}

void nigh_pool_ahead_pieces(nigh_pool *p, nigh_pool_pieces next) {
    if (p) p->next = next;
}

/* ---- workers ---- */

static uint64_t call_of(uint64_t ticket) { return ticket >> 16; }

/* Who falls asleep says so and then looks once more; who brings something brings it and then looks who sleeps. The
 * first of each two steps is an exchange: as fast as a store here, and ordered before the second also where an
 * emulator of ARM orders a store and a load less strictly than the processor (seen as a call that waited for ever,
 * once).
 *
 * Sleeps until a call after number `seen`; a worker that is not needed, until it is needed again. */
static uint64_t sleep_for_call(nigh_pool *p, size_t worker, uint64_t seen) {
    uint64_t now;
    pthread_mutex_lock(&p->lock);
    while (worker >= atomic_load(&p->active) && !atomic_load(&p->stop)) pthread_cond_wait(&p->unpark, &p->lock);
    for (;;) {
        (void)atomic_exchange(&p->sleepers, true);
        now = atomic_load(&p->ticket);
        if (call_of(now) != seen || atomic_load(&p->stop)) break;
        pthread_cond_wait(&p->wake, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return now;
}

/* Waits for a call after number `seen`; returns the ticket. */
static uint64_t wait_for_call(nigh_pool *p, size_t worker, uint64_t seen, ahead *a) {
    uint64_t until = 0, now;
    for (unsigned i = 0; call_of(now = atomic_load_explicit(&p->ticket, memory_order_acquire)) == seen; i++) {
        wait_once(a);
        if ((i & 63) != 63) continue;
        uint64_t clock = nigh_os_now_ns();
        if (until == 0) until = clock + SPIN_NS;
        if (clock >= until) return sleep_for_call(p, worker, seen);
    }
    return now;
}

/* Joins the call of `ticket` unless it was closed or another one has begun. */
static bool join(nigh_pool *p, uint64_t ticket) {
    uint_fast64_t now = ticket;
    while ((now & 1) && call_of(now) == call_of(ticket))
        if (atomic_compare_exchange_weak(&p->ticket, &now, now + 2)) return true;
    return false;
}

static void report_done(nigh_pool *p) {
    atomic_fetch_add(&p->finished, 1);
    if (!atomic_load(&p->caller_sleeps)) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *arg) {
    const start_arg start = *(start_arg *)arg;
    nigh_pool *p = start.pool;
    ahead next = { 0 };
    for (uint64_t seen = 0;;) {
        uint64_t ticket = wait_for_call(p, start.worker, seen, &next);
        seen = call_of(ticket);
        if (atomic_load(&p->stop)) return NULL;
        size_t threads = atomic_load(&p->active);
        if (start.worker >= threads) {
            sleep_for_call(p, start.worker, seen);
            continue;
        }
        if (!join(p, ticket)) continue;
        threads = atomic_load(&p->active);      /* does not change while one that joined is not through */
        take_chunks(p, start.worker, threads);
        next = ahead_of(p, start.worker, threads);
        ask_lines(&next, BURST_LINES);
        report_done(p);
    }
}

nigh_pool *nigh_pool_new(size_t threads) {
    if (threads == 0) threads = nigh_os_cpu_count();
    threads = nigh_min(threads, POOL_THREADS_MAX);
    nigh_pool *p = nigh_alloc(1, sizeof *p);
    if (!p) return NULL;
    p->size = threads;
    atomic_store(&p->active, threads);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    pthread_cond_init(&p->unpark, NULL);
    for (size_t i = 1; i < threads; i++) {
        p->args[i] = (start_arg){ p, i };
        if (pthread_create(&p->threads[i], NULL, worker_main, &p->args[i]) != 0) {
            nigh_pool_free(p);
            return NULL;
        }
        p->started = i;
    }
    return p;
}

/* Opens the next call; who sleeps is woken. */
static void open_call(nigh_pool *p) {
    uint64_t number = call_of(atomic_load_explicit(&p->ticket, memory_order_relaxed)) + 1;
    (void)atomic_exchange(&p->ticket, number << 16 | 1);
    if (!atomic_load(&p->sleepers)) return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->sleepers, false);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void nigh_pool_free(nigh_pool *p) {
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stop, true);
    pthread_cond_broadcast(&p->unpark);
    pthread_mutex_unlock(&p->lock);
    open_call(p);
    for (size_t i = 1; i <= p->started; i++) pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->unpark);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    nigh_free(p);
}

size_t nigh_pool_size(const nigh_pool *p) { return p ? p->size : 1; }

nigh_pool_stats nigh_pool_about(const nigh_pool *p) {
    nigh_pool_stats s = { .active = 1 };
    if (!p) return s;
    s = p->stats;
    s.active = atomic_load(&p->active);
    return s;
}

/* ---- how many take part ---- */

/* Looked at after every STRETCH_NS of calls. When the caller had no core, or slept, for a quarter of that time,
 * half of the threads are tried for as many calls. If those took less time, the others stay away for a while
 * (RETRY_NS, twice as long each time, up to RETRY_MAX_NS) before more are tried again; if not, nothing is tried for
 * as long. */
#define STRETCH_NS 30000000u
#define PAUSE_NS 1000000u                       /* between two calls: the caller had something else to do */
#define RETRY_NS 500000000u
#define RETRY_MAX_NS 8000000000u

static void set_active(nigh_pool *p, size_t threads) {
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->active, threads);
    pthread_cond_broadcast(&p->unpark);
    pthread_mutex_unlock(&p->lock);
}

static void begin_stretch(nigh_pool *p, uint64_t clock) {
    p->now = (stretch){ .begin_ns = clock, .begin_cpu_ns = nigh_os_thread_cpu_ns() };
}

static void end_trial(nigh_pool *p, uint64_t clock) {
    p->retry_ns = nigh_max(RETRY_NS, nigh_min(2 * p->retry_ns, RETRY_MAX_NS));
    p->try_at_ns = clock + p->retry_ns;
    if (p->now.ns + p->now.ns / 16 < p->before.ns) p->stats.lowered++;
    else set_active(p, p->untried);
    p->untried = 0;
}

static void end_stretch(nigh_pool *p, uint64_t clock) {
    size_t active = atomic_load_explicit(&p->active, memory_order_relaxed);
    bool due = clock >= p->try_at_ns;
    if (p->untried) {
        if (p->now.calls < p->before.calls) return;
        end_trial(p, clock);
    } else if (p->now.ns < STRETCH_NS) {
        return;
    } else {
        uint64_t wall = clock - p->now.begin_ns, cpu = nigh_os_thread_cpu_ns() - p->now.begin_cpu_ns;
        bool busy = cpu < wall - wall / 4;
        if (busy && active > 1 && (active < p->size || due)) {
            p->before = p->now;
            p->untried = active;
            set_active(p, active / 2);
        } else if (active < p->size && due) {
            set_active(p, nigh_min(2 * active, p->size));
            p->try_at_ns = 0;
        } else if (!busy && due) {
            p->retry_ns = 0;
        }
    }
    begin_stretch(p, clock);
}

/* ---- one call ---- */

/* Closes the call and waits for those that joined it. */
static void close_call(nigh_pool *p, size_t threads) {
    size_t joined = (size_t)(atomic_fetch_and(&p->ticket, ~(uint_fast64_t)1) >> 1 & 0x7fff);
    uint64_t until = 0;
    ahead next = ahead_of(p, 0, threads);
    ask_lines(&next, BURST_LINES);
    for (unsigned i = 0; atomic_load_explicit(&p->finished, memory_order_acquire) != joined; i++) {
        wait_once(&next);
        if ((i & 63) != 63) continue;
        uint64_t clock = nigh_os_now_ns();
        if (until == 0) until = clock + SPIN_NS;
        if (clock < until) continue;
        pthread_mutex_lock(&p->lock);
        (void)atomic_exchange(&p->caller_sleeps, true);
        while (atomic_load(&p->finished) != joined) pthread_cond_wait(&p->done, &p->lock);
        atomic_store(&p->caller_sleeps, false);
        pthread_mutex_unlock(&p->lock);
        return;
    }
}

static void run_together(nigh_pool *p, size_t threads) {
    deal_shares(p, threads);
    atomic_store_explicit(&p->finished, 0, memory_order_relaxed);
    open_call(p);
    take_chunks(p, 0, threads);
    close_call(p, threads);
    p->next.bytes = NULL;
    p->stats.calls++;
}

void nigh_pool_run(nigh_pool *p, nigh_pool_fn *fn, void *ud, size_t count, size_t grain) {
    if (grain == 0) grain = 1;
    if (count == 0) return;
    if (!p || p->size == 1 || count <= grain) { fn(ud, 0, 0, count); return; }
    size_t threads = atomic_load_explicit(&p->active, memory_order_relaxed);
    uint64_t begin_ns = nigh_os_now_ns();
    if (begin_ns - p->end_ns > PAUSE_NS) begin_stretch(p, begin_ns);
    p->fn = fn;
    p->ud = ud;
    p->count = count;
    p->grain = nigh_max(grain, count >> 31);
    if (threads > 1) run_together(p, threads);
    else fn(ud, 0, 0, count);
    p->end_ns = nigh_os_now_ns();
    p->now.ns += p->end_ns - begin_ns;
    p->now.calls++;
    end_stretch(p, p->end_ns);
}
