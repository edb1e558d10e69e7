/* test_pool.c - the thread pool: every index once, whatever the number of threads, the grain and the load of the
 * machine; and a number of threads that hurts is lowered while it runs. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include "base/os.h"
#include "base/pool.h"
#include "test.h"

enum { COUNT_MAX = 5000, THREADS_MAX = 8 };

typedef struct { _Atomic uint8_t seen[COUNT_MAX]; size_t grain; atomic_size_t wrong, workers[THREADS_MAX]; } marks;

/* Marks begin..end-1; a chunk begins at a multiple of the grain and is not longer. */
static void mark(void *ud, size_t worker, size_t begin, size_t end) {
    marks *m = ud;
    if (worker >= THREADS_MAX || begin >= end || begin % m->grain) atomic_fetch_add(&m->wrong, 1);
    else atomic_fetch_add(&m->workers[worker], 1);
    for (size_t i = begin; i < end; i++) atomic_fetch_add(&m->seen[i], 1);
}

static bool run_once(nigh_pool *p, size_t count, size_t grain) {
    static marks m;
    memset(&m, 0, sizeof m);
    m.grain = grain;
    if (count % 2) nigh_pool_ahead(p, &m, sizeof m);
    else nigh_pool_ahead_pieces(p, (nigh_pool_pieces){ &m, 64 * grain, 128 * grain, count / 4, 192, 3 });
    nigh_pool_run(p, mark, &m, count, grain);
    for (size_t i = 0; i < COUNT_MAX; i++)
        if (atomic_load(&m.seen[i]) != (i < count)) return false;
    return atomic_load(&m.wrong) == 0;
}

/* 1..8 threads, on however few cores; counts around the number of threads and odd grains. */
static void test_every_index_once(void) {
    uint64_t seed = test_seed();
    for (size_t threads = 1; threads <= THREADS_MAX; threads++) {
        nigh_pool *p = nigh_pool_new(threads);
        CHECK(p && nigh_pool_size(p) == threads);
        for (size_t n = 0; p && n < (test_short() ? 100 : 400); n++) {
            size_t count = n < 60 ? n : (size_t)(test_rand(&seed) % COUNT_MAX),
                   grain = 1 + (size_t)(test_rand(&seed) % (n % 3 ? 7 : 900));
            CHECK_MSG(run_once(p, count, grain), "%zu threads, %zu by %zu, NIGH_SEED=%llu", threads, count, grain,
                      (unsigned long long)test_seed());
        }
        nigh_pool_free(p);
    }
    CHECK(run_once(NULL, 100, 100) && nigh_pool_size(NULL) == 1);
}

static atomic_size_t sum;
static void add_range(void *ud, size_t worker, size_t begin, size_t end) {
    size_t part = 0;
    (void)ud;
    (void)worker;
    for (size_t i = begin; i < end; i++) part += i;
    atomic_fetch_add_explicit(&sum, part, memory_order_relaxed);
}

/* Thousands of tiny calls one after the other; prints what a meeting costs. */
static void test_tiny_calls(void) {
    const size_t calls = test_short() ? 3000 : 50000;
    for (size_t threads = 2; threads <= 3; threads++) {
        nigh_pool *p = nigh_pool_new(threads);
        uint64_t begin = nigh_os_now_ns();
        atomic_store(&sum, 0);
        for (size_t i = 0; i < calls; i++) nigh_pool_run(p, add_range, NULL, 4, 1);
        double ns = (double)(nigh_os_now_ns() - begin) / (double)calls;
        CHECK(atomic_load(&sum) == calls * 6);
        printf("  %zu threads: %.0f ns a call\n", threads, ns);
        nigh_pool_free(p);
    }
}

/* Calls with pauses between them, so that the workers fall asleep and are woken. */
static void test_sleep_and_wake(void) {
    nigh_pool *p = nigh_pool_new(3);
    for (size_t i = 0; p && i < 60; i++) {
        CHECK(run_once(p, 100 + i, 1));
        nanosleep(&(struct timespec){ .tv_nsec = 300000 }, NULL);
    }
    nigh_pool_free(p);
    for (size_t i = 0; i < 200; i++) nigh_pool_free(nigh_pool_new(4));      /* freed before they have begun */
}

/* Eight threads on one core: most workers have none while there is work, and nobody waits for one that has not
 * joined. */
static void test_workers_without_a_core(void) {
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof all, &all) != 0) TEST_SKIP("the affinity cannot be read");
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    sched_setaffinity(0, sizeof one, &one);                 /* all threads of the pool on one core */
    nigh_pool *p = nigh_pool_new(THREADS_MAX);
    for (size_t i = 0; p && i < 300; i++) CHECK(run_once(p, 1000, 3));
    nigh_pool_free(p);
    sched_setaffinity(0, sizeof all, &all);
}

/* ---- a busy machine ---- */

static void spin(void *ud, size_t worker, size_t begin, size_t end) {
    volatile float x = 1;
    (void)ud;
    (void)worker;
    for (size_t i = begin; i < end; i++)
        for (int k = 0; k < 2000; k++) x = x * 0.999f + 0.001f;
}

static double calls_a_second(nigh_pool *p, double seconds) {
    uint64_t begin = nigh_os_now_ns(), now = begin;
    size_t calls = 0;
    while ((double)(now = nigh_os_now_ns()) < (double)begin + seconds * 1e9) {
        nigh_pool_run(p, spin, NULL, 40, 1);
        calls++;
    }
    return (double)calls * 1e9 / (double)(now - begin);
}

static size_t start_hogs(pid_t *hogs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        hogs[i] = fork();
        if (hogs[i] < 0) return i;
        if (hogs[i] == 0) {
            alarm(30);
            for (volatile size_t n = 0;; n++) {}
        }
    }
    return count;
}

/* One other process that computes on every core: what is left should be near a half. The figure is printed, and only
 * a collapse fails: on a machine that is busy otherwise nothing can be said. */
static void test_busy_machine(void) {
    pid_t hogs[64];
    size_t cores = nigh_min(nigh_os_cpu_count(), NIGH_COUNT(hogs));
    if (test_short()) TEST_SKIP("takes seconds");
    nigh_pool *p = nigh_pool_new(0);
    double idle = calls_a_second(p, 0.3);
    size_t started = start_hogs(hogs, cores);
    double busy = calls_a_second(p, 1.0);
    for (size_t i = 0; i < started; i++) {
        kill(hogs[i], SIGKILL);
        waitpid(hogs[i], NULL, 0);
    }
    printf("  %zu threads beside %zu others that compute: %.0f %% of %.0f calls a second\n", nigh_pool_size(p),
           started, 100 * busy / idle, idle);
    CHECK(busy > 0.1 * idle);
    nigh_pool_free(p);
}

/* Far more threads than cores: fewer take part after a while. */
static void test_too_many_threads(void) {
    size_t many = nigh_min(4 * nigh_os_cpu_count(), 64);
    if (test_short()) TEST_SKIP("takes seconds");
    nigh_pool *p = nigh_pool_new(many);
    double begun = calls_a_second(p, 0.02), later = calls_a_second(p, 1.5);
    nigh_pool_stats s = nigh_pool_about(p);
    printf("  %zu threads on %zu cores: %zu take part, lowered %llu times, %.0f -> %.0f calls a second\n", many,
           nigh_os_cpu_count(), s.active, (unsigned long long)s.lowered, begun, later);
    CHECK(s.calls > 0 && s.active >= 1 && s.active <= many);
    nigh_pool_free(p);
}

TEST_MAIN(T(test_every_index_once), T(test_tiny_calls), T(test_sleep_and_wake), T(test_workers_without_a_core),
          T(test_busy_machine), T(test_too_many_threads))
