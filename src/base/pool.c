/* pool.c - see pool.h.
 * One atomic word, the ticket, says which call runs and who takes part in it:
 *     bit 0 open | bits 1..15 workers that joined | bits 16.. number of the call
 * A worker joins an open call by adding itself to the ticket; the caller closes the ticket when the
 * chunks are gone and waits only for those that joined. A worker that sleeps, or that the system gave
 * no core, is not waited for: on a busy machine the caller does the work itself.
 * Waiting is a short spin (SPIN_NS), then a condition variable: on a busy machine spinning would only
 * take the core away from the thread that is being waited for. */
#include <pthread.h>
#include <stdatomic.h>

#include "base/os.h"
#include "base/pool.h"

enum { POOL_THREADS_MAX = 256 };

typedef struct { nigh_pool *pool; size_t worker; } start_arg;

struct nigh_pool {
    size_t size;
    nigh_pool_fn *fn;
    void *ud;
    size_t count, grain;
    _Alignas(64) atomic_size_t next;         /* chunks handed out */
    _Alignas(64) atomic_uint_fast64_t ticket;
    _Alignas(64) atomic_size_t finished;     /* workers of this call that are through */
    atomic_size_t sleepers;                  /* workers inside pthread_cond_wait */
    atomic_bool caller_sleeps, stop;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    size_t started;
    pthread_t threads[POOL_THREADS_MAX];
    start_arg args[POOL_THREADS_MAX];       /* of the threads; here, so that nothing is freed at their own time */
};

#define SPIN_NS 30000u

static void relax(void) {
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    __builtin_ia32_pause();
#endif
}

static void take_chunks(nigh_pool *p, size_t worker) {
    size_t chunks = (p->count + p->grain - 1) / p->grain;
    for (;;) {
        size_t chunk = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (chunk >= chunks) return;
        size_t begin = chunk * p->grain;
        p->fn(p->ud, worker, begin, nigh_min(begin + p->grain, p->count));
    }
}

static uint64_t call_of(uint64_t ticket) { return ticket >> 16; }

/* Waits for a call after number `seen`; returns the ticket. */
static uint64_t wait_for_call(nigh_pool *p, uint64_t seen) {
    uint64_t until = nigh_os_now_ns() + SPIN_NS, now;
    for (unsigned i = 0; call_of(now = atomic_load_explicit(&p->ticket, memory_order_acquire)) == seen; i++) {
        relax();
        if ((i & 63) != 63 || nigh_os_now_ns() < until) continue;
        pthread_mutex_lock(&p->lock);
        atomic_fetch_add(&p->sleepers, 1);
        while (call_of(now = atomic_load(&p->ticket)) == seen) pthread_cond_wait(&p->wake, &p->lock);
        atomic_fetch_sub(&p->sleepers, 1);
        pthread_mutex_unlock(&p->lock);
        break;
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
    for (uint64_t seen = 0;;) {
        uint64_t ticket = wait_for_call(p, seen);
        seen = call_of(ticket);
        if (atomic_load(&p->stop)) return NULL;
        if (!join(p, ticket)) continue;
        take_chunks(p, start.worker);
        report_done(p);
    }
}

nigh_pool *nigh_pool_new(size_t threads) {
    if (threads == 0) threads = nigh_os_cpu_count();
    threads = nigh_min(threads, POOL_THREADS_MAX);
    nigh_pool *p = nigh_alloc(1, sizeof *p);
    if (!p) return NULL;
    p->size = threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
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
    atomic_store(&p->ticket, number << 16 | 1);
    if (atomic_load(&p->sleepers) == 0) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void nigh_pool_free(nigh_pool *p) {
    if (!p) return;
    atomic_store(&p->stop, true);
    open_call(p);
    for (size_t i = 1; i <= p->started; i++) pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    nigh_free(p);
}

size_t nigh_pool_size(const nigh_pool *p) { return p ? p->size : 1; }

/* Closes the call and waits for those that joined it. */
static void close_call(nigh_pool *p) {
    size_t joined = (size_t)(atomic_fetch_and(&p->ticket, ~(uint_fast64_t)1) >> 1 & 0x7fff);
    uint64_t until = nigh_os_now_ns() + SPIN_NS;
    for (unsigned i = 0; atomic_load_explicit(&p->finished, memory_order_acquire) != joined; i++) {
        relax();
        if ((i & 63) != 63 || nigh_os_now_ns() < until) continue;
        pthread_mutex_lock(&p->lock);
        atomic_store(&p->caller_sleeps, true);
        while (atomic_load(&p->finished) != joined) pthread_cond_wait(&p->done, &p->lock);
        atomic_store(&p->caller_sleeps, false);
        pthread_mutex_unlock(&p->lock);
        return;
    }
}

void nigh_pool_run(nigh_pool *p, nigh_pool_fn *fn, void *ud, size_t count, size_t grain) {
    if (grain == 0) grain = 1;
    if (count == 0) return;
    if (!p || p->size == 1 || count <= grain) { fn(ud, 0, 0, count); return; }
    p->fn = fn;
    p->ud = ud;
    p->count = count;
    p->grain = grain;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->finished, 0, memory_order_relaxed);
    open_call(p);
    take_chunks(p, 0);
    close_call(p);
}
