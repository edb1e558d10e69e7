/* pool_wasm.c - pool.h in the browser. Without threads every call is a plain loop and there is no pool.
 *
 * With threads the host starts the workers, for only it can: each is an instance of the same module over the same
 * memory, with a stack of its own, that calls nigh_pool_work and stays there. Until it has come, nobody waits for it.
 * As in pool.c one atomic word, the ticket, says which call runs and who takes part:
 *
 *     bit 0 open | bits 1..7 workers that joined | bits 8.. number of the call
 *
 * and the caller waits only for workers that joined. The chunks of a call lie in one share for each thread, first | end
 * << 32: taken from the front by its thread, from the back half by one that has nothing left. There are no more than
 * CHUNKS_EACH of them, for the products make the token ready anew for each (kernel_wasm.c). Who waits looks for
 * SPIN_NS, then sleeps at an address (memory.atomic.wait32) until it is told.
 *
 * A worker that loses its core in the middle of a chunk holds the caller up, and threads that take turns on one core
 * are slower than one alone. So stretches of calls are timed. Where the caller waits for over a tenth of one, or its
 * calls take a quarter longer than the usual ones, and now and then in any case, as many calls are made without the
 * workers. Were they faster, as many are made with them once more, for the first stretch was looked at because it was
 * slow: what was faster than the middle of both is kept for a while. The same numbers come out. */
#include "base/pool.h"

#if defined(__wasm_atomics__)

#include <stdatomic.h>

#include "base/os.h"

enum { POOL_THREADS_MAX = 64, CHUNKS_EACH = 24, NOTIFY_ALL = 0x7fffffff };
#define SPIN_NS 50000u
#define STRETCH_NS 40000000u                    /* of calls, before they are looked at */
#define RETRY_NS 500000000u                     /* how long what was kept stays; twice as long each time, up to */
#define RETRY_MAX_NS 8000000000ull

typedef struct { _Alignas(64) atomic_uint_fast64_t left; } share;
typedef struct { uint64_t calls, ns, waited_ns; } stretch;
/* With the workers, or without them as was decided; to see whether that is faster; with them once more, to be sure. */
typedef enum { TOGETHER, ALONE, TRY_ALONE, TRY_TOGETHER } mode;

struct nigh_pool {
    size_t size;
    nigh_pool_fn *fn;
    void *ud;
    size_t count, grain;
    _Alignas(64) atomic_uint ticket;
    _Alignas(64) atomic_uint finished;          /* workers of this call that are through */
    _Alignas(64) atomic_uint sleepers;
    atomic_bool caller_sleeps, stop;
    /* the caller's own */
    nigh_pool_stats stats;
    stretch now, before, without;               /* this one; of a trial: with the workers, and alone */
    mode mode;
    bool was_alone;                             /* what the last trial decided */
    uint64_t since_ns, retry_ns;                /* time in calls since that was seen, and for how long it counts */
    uint64_t usual_ns;                          /* of one call with the workers */
    share shares[POOL_THREADS_MAX];
};

static void sleep_at(atomic_uint *word, unsigned value) {
    (void)__builtin_wasm_memory_atomic_wait32((int *)(void *)word, (int)value, -1);
}
static void wake_at(atomic_uint *word) {
    (void)__builtin_wasm_memory_atomic_notify((int *)(void *)word, NOTIFY_ALL);
}

/* ---- chunks ---- */

static uint64_t share_of(uint64_t begin, uint64_t end) { return begin | end << 32; }
static uint64_t begin_of(uint64_t left) { return left & 0xffffffffu; }
static uint64_t end_of(uint64_t left) { return left >> 32; }

static bool take_own(share *s, uint64_t *chunk) {
    uint_fast64_t left = atomic_load_explicit(&s->left, memory_order_relaxed);
    do {
        if (begin_of(left) >= end_of(left)) return false;
    } while (!atomic_compare_exchange_weak(&s->left, &left, left + 1));
    *chunk = begin_of(left);
    return true;
}

/* Moves the back half of somebody's share into the empty one of `worker`. */
static bool take_half(nigh_pool *p, size_t worker) {
    for (size_t i = 1; i < p->size; i++) {
        share *other = &p->shares[(worker + i) % p->size];
        uint_fast64_t left = atomic_load_explicit(&other->left, memory_order_relaxed);
        while (begin_of(left) < end_of(left)) {
            uint64_t middle = begin_of(left) + (end_of(left) - begin_of(left)) / 2;
            if (!atomic_compare_exchange_weak(&other->left, &left, share_of(begin_of(left), middle))) continue;
            atomic_store_explicit(&p->shares[worker].left, share_of(middle, end_of(left)), memory_order_relaxed);
            return true;
        }
    }
    return false;
}

static void take_chunks(nigh_pool *p, size_t worker) {
    uint64_t chunk;
    do {
        while (take_own(&p->shares[worker], &chunk)) {
            size_t begin = (size_t)chunk * p->grain;
            p->fn(p->ud, worker, begin, nigh_min(begin + p->grain, p->count));
        }
    } while (take_half(p, worker));
}

/* ---- workers ---- */

static unsigned call_of(unsigned ticket) { return ticket >> 8; }

/* Has the time of a spin passed? Looks at the clock now and then. */
static bool tired(unsigned i, uint64_t *until) {
    if ((i & 255) != 255) return false;
    uint64_t clock = nigh_os_now_ns();
    if (*until == 0) *until = clock + SPIN_NS;
    return clock >= *until;
}

/* Waits for a call after number `seen`; returns the ticket. */
static unsigned wait_for_call(nigh_pool *p, unsigned seen) {
    uint64_t until = 0;
    unsigned now;
    for (unsigned i = 0; call_of(now = atomic_load(&p->ticket)) == seen; i++) {
        if (!tired(i, &until)) continue;
        atomic_fetch_add(&p->sleepers, 1);
        while (call_of(now = atomic_load(&p->ticket)) == seen) sleep_at(&p->ticket, now);
        atomic_fetch_sub(&p->sleepers, 1);
        break;
    }
    return now;
}

/* Joins the call of `ticket` unless it was closed or another one has begun. */
static bool join(nigh_pool *p, unsigned ticket) {
    unsigned now = ticket;
    while ((now & 1) && call_of(now) == call_of(ticket))
        if (atomic_compare_exchange_weak(&p->ticket, &now, now + 2)) return true;
    return false;
}

void nigh_pool_work(nigh_pool *p, size_t worker) {
    if (worker == 0 || worker >= p->size) return;
    for (unsigned seen = call_of(atomic_load(&p->ticket)); !atomic_load(&p->stop);) {
        unsigned ticket = wait_for_call(p, seen);
        seen = call_of(ticket);
        if (!join(p, ticket)) continue;
        take_chunks(p, worker);
        atomic_fetch_add(&p->finished, 1);
        if (atomic_load(&p->caller_sleeps)) wake_at(&p->finished);
    }
}

nigh_pool *nigh_pool_new(size_t threads) {
    nigh_pool *p = nigh_alloc(1, sizeof *p);
    if (p) p->size = nigh_min(nigh_max(threads, 1), POOL_THREADS_MAX);
    return p;
}

/* Begins the next call, one that nobody may join if it is not open; who sleeps is woken. */
static void open_call(nigh_pool *p, bool open) {
    unsigned number = call_of(atomic_load_explicit(&p->ticket, memory_order_relaxed)) + 1;
    atomic_store(&p->ticket, number << 8 | (open ? 1u : 0u));
    if (atomic_load(&p->sleepers)) wake_at(&p->ticket);
}

/* The workers leave; the pool's memory stays, for they may still look at it. */
void nigh_pool_free(nigh_pool *p) {
    if (!p) return;
    atomic_store(&p->stop, true);
    open_call(p, false);
}

size_t nigh_pool_size(const nigh_pool *p) { return p ? p->size : 1; }

nigh_pool_stats nigh_pool_about(const nigh_pool *p) {
    nigh_pool_stats s = { .active = 1 };
    if (!p) return s;
    s = p->stats;
    s.active = p->mode == ALONE || p->mode == TRY_ALONE ? 1 : p->size;
    return s;
}

void nigh_pool_ahead(nigh_pool *p, const void *bytes, size_t count) {   /* there is no instruction for it */
    (void)p;
    (void)bytes;
    (void)count;
}
void nigh_pool_ahead_pieces(nigh_pool *p, nigh_pool_pieces next) {
    (void)p;
    (void)next;
}

/* ---- one call ---- */

/* Closes the call and waits for those that joined it. Returns how long that was in ns; 0: hardly. */
static uint64_t close_call(nigh_pool *p) {
    unsigned joined = atomic_fetch_and(&p->ticket, ~1u) >> 1 & 127, done;
    uint64_t until = 0;
    for (unsigned i = 0; (done = atomic_load(&p->finished)) != joined; i++) {
        if (!tired(i, &until)) continue;
        atomic_store(&p->caller_sleeps, true);
        while ((done = atomic_load(&p->finished)) != joined) sleep_at(&p->finished, done);
        atomic_store(&p->caller_sleeps, false);
        break;
    }
    return until ? nigh_os_now_ns() - (until - SPIN_NS) : 0;
}

static void run_together(nigh_pool *p) {
    uint64_t chunks = (p->count + p->grain - 1) / p->grain;
    for (size_t i = 0; i < p->size; i++)
        atomic_store_explicit(&p->shares[i].left, share_of(chunks * i / p->size, chunks * (i + 1) / p->size),
                              memory_order_relaxed);
    atomic_store(&p->finished, 0);
    open_call(p, true);
    take_chunks(p, 0);
    p->now.waited_ns += close_call(p);
    p->stats.calls++;
}

/* The trial is over. */
static void decide(nigh_pool *p, bool alone) {
    uint64_t most_ns = alone ? RETRY_MAX_NS / 2 : RETRY_MAX_NS;
    p->retry_ns = alone == p->was_alone && p->retry_ns ? 2 * p->retry_ns : RETRY_NS;
    if (p->retry_ns > most_ns) p->retry_ns = most_ns;
    p->since_ns = 0;
    p->usual_ns = p->before.ns / p->before.calls;
    p->stats.lowered += alone;
    p->was_alone = alone;
    p->mode = alone ? ALONE : TOGETHER;
}

/* A stretch with the workers is over: does it look as if they were no help? */
static bool doubtful(nigh_pool *p) {
    uint64_t each = p->now.ns / p->now.calls, age = p->since_ns;
    bool slow = p->usual_ns && each > p->usual_ns + p->usual_ns / 4;
    if (!p->usual_ns || each < p->usual_ns) p->usual_ns = each;
    return age >= p->retry_ns || (age >= RETRY_NS && (slow || p->now.waited_ns > p->now.ns / 10));
}

/* Looks at the calls since the last look: is it time to try without the workers, or with them again? */
static void look_back(nigh_pool *p) {
    bool trial = p->mode == TRY_ALONE || p->mode == TRY_TOGETHER;
    if (trial ? p->now.calls < p->before.calls : p->now.ns < STRETCH_NS) return;
    p->since_ns += p->now.ns;
    if (p->mode == TOGETHER && doubtful(p)) {
        p->before = p->now;
        p->mode = TRY_ALONE;
    } else if (p->mode == ALONE && p->since_ns >= p->retry_ns) {
        p->mode = TOGETHER;
    } else if (p->mode == TRY_ALONE) {
        p->without = p->now;
        if (p->now.ns < p->before.ns) p->mode = TRY_TOGETHER;
        else decide(p, false);
    } else if (p->mode == TRY_TOGETHER) {
        p->before.ns = (p->before.ns + p->now.ns) / 2;
        decide(p, p->without.ns + p->without.ns / 16 < p->before.ns);
    }
    p->now = (stretch){ 0 };
}

void nigh_pool_run(nigh_pool *p, nigh_pool_fn *fn, void *ud, size_t count, size_t grain) {
    if (count == 0) return;
    if (grain == 0) grain = 1;
    if (!p || p->size == 1 || count <= grain) { fn(ud, 0, 0, count); return; }
    uint64_t begin_ns = nigh_os_now_ns();
    p->fn = fn;
    p->ud = ud;
    p->count = count;
    p->grain = nigh_max(grain, (count + CHUNKS_EACH * p->size - 1) / (CHUNKS_EACH * p->size));
    if (p->mode == ALONE || p->mode == TRY_ALONE) fn(ud, 0, 0, count);
    else run_together(p);
    p->now.ns += nigh_os_now_ns() - begin_ns;
    p->now.calls++;
    look_back(p);
}

#else

nigh_pool *nigh_pool_new(size_t threads) { (void)threads; return NULL; }
void nigh_pool_free(nigh_pool *p) { (void)p; }
size_t nigh_pool_size(const nigh_pool *p) { (void)p; return 1; }

void nigh_pool_ahead(nigh_pool *p, const void *bytes, size_t count) {
    (void)p;
    (void)bytes;
    (void)count;
}
void nigh_pool_ahead_pieces(nigh_pool *p, nigh_pool_pieces next) {
    (void)p;
    (void)next;
}

nigh_pool_stats nigh_pool_about(const nigh_pool *p) {
    (void)p;
    return (nigh_pool_stats){ .active = 1 };
}

void nigh_pool_run(nigh_pool *p, nigh_pool_fn *fn, void *ud, size_t count, size_t grain) {
    (void)p;
    (void)grain;
    if (count) fn(ud, 0, 0, count);
}

#endif
