/* bench_upstream.c - what a call to another place costs: a stand-in for the place in a process of its own answers at
 * once, so what is left is ours. Prints CSV: calls a second, the middle and the 99th percentile of a call's time,
 * processor time a call; then the memory of streams that are held open. bench_upstream [CALLS [AT_ONCE [STREAMS]]]
 * 20000 16 2000 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "node/upstream.h"
#include "stand_in.h"

/* ---- the callers ---- */
static struct {
    nigh_upstream *u;
    nigh_upstream_ask ask;
    uint64_t *begin, *took;
    size_t count, given, over, bad;
    pthread_mutex_t lock;
    pthread_cond_t change;
} b;

static void on_done(void *ud, const nigh_call_result *r);
static const nigh_upstream_calls calls = { .done = on_done };

static void give(void) {        /* under the lock: the next one */
    uint64_t id;
    size_t i = b.given++;
    b.begin[i] = nigh_os_now_ns();
    if (nigh_upstream_call(b.u, &b.ask, &calls, (void *)(uintptr_t)i, &id, NULL) != NIGH_OK) { b.bad++; b.over++; }
}

static void on_done(void *ud, const nigh_call_result *r) {
    size_t i = (size_t)(uintptr_t)ud;
    b.took[i] = nigh_os_now_ns() - b.begin[i];
    pthread_mutex_lock(&b.lock);
    if (r->end != NIGH_CALL_OK) b.bad++;
    b.over++;
    if (b.given < b.count) give();
    if (b.over == b.count) pthread_cond_signal(&b.change);
    pthread_mutex_unlock(&b.lock);
}

static int by_size(const void *x, const void *y) {
    uint64_t a = *(const uint64_t *)x, c = *(const uint64_t *)y;
    return (a > c) - (a < c);
}

static double cpu_s(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + 1e-6 * (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static void run(size_t count, size_t at_once) {
    b.count = count;
    b.given = b.over = b.bad = 0;
    uint64_t begin = nigh_os_now_ns();
    double cpu = cpu_s();
    pthread_mutex_lock(&b.lock);
    for (size_t i = 0; i < at_once && i < count; i++) give();
    while (b.over < count) pthread_cond_wait(&b.change, &b.lock);
    pthread_mutex_unlock(&b.lock);
    double seconds = (double)(nigh_os_now_ns() - begin) / 1e9, used = cpu_s() - cpu;
    qsort(b.took, count, sizeof *b.took, by_size);
    printf("calls,%zu,%zu,%.0f,%.1f,%.1f,%.1f,%zu\n", count, at_once, (double)count / seconds,
           (double)b.took[count / 2] / 1000, (double)b.took[count * 99 / 100] / 1000, used / (double)count * 1e6,
           b.bad);
}

/* The same bytes over a socket, one after the other: the floor. */
static void run_direct(int port, size_t count) {
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    char request[1024], in[4096];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) exit(1);
    snprintf(request, sizeof request,
             "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", strlen(ASK), ASK);
    uint64_t begin = nigh_os_now_ns();
    double cpu = cpu_s();
    for (size_t i = 0; i < count; i++) {
        uint64_t t = nigh_os_now_ns();
        if (write(fd, request, strlen(request)) < 0) exit(1);
        for (size_t got = 0; got < strlen(stand_in_answer);) {
            ssize_t n = read(fd, in, sizeof in);
            if (n <= 0) exit(1);
            got += (size_t)n;
        }
        b.took[i] = nigh_os_now_ns() - t;
    }
    double seconds = (double)(nigh_os_now_ns() - begin) / 1e9, used = cpu_s() - cpu;
    qsort(b.took, count, sizeof *b.took, by_size);
    printf("direct,%zu,1,%.0f,%.1f,%.1f,%.1f,0\n", count, (double)count / seconds, (double)b.took[count / 2] / 1000,
        (double)b.took[count * 99 / 100] / 1000, used / (double)count * 1e6);
    close(fd);
}

static void run_held(size_t count) {
    size_t before = nigh_os_rss_bytes();
    b.count = count;
    b.given = b.over = b.bad = 0;
    pthread_mutex_lock(&b.lock);
    for (size_t i = 0; i < count; i++) give();
    pthread_mutex_unlock(&b.lock);
    sleep(3);
    size_t after = nigh_os_rss_bytes();
    printf("held,%zu streams,%.0f bytes a stream,%zu KiB before,%zu KiB after,%zu ended\n", count,
        (double)(after - before) / (double)count, before >> 10, after >> 10, b.over);
}

int main(int argc, char **argv) {
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000,
           at_once = argc > 2 ? strtoul(argv[2], NULL, 10) : 16;
    size_t streams = argc > 3 ? strtoul(argv[3], NULL, 10) : 2000;
    struct rlimit files = { 65536, 65536 };
    int port, held_port;
    char url[64];
    nigh_err err = { 0 };
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    pid_t one = stand_in_open(&port, false), two = stand_in_open(&held_port, true);
    nigh_upstream_opts o = { .calls_max = 20000 };
    if (nigh_upstream_open(&b.u, &o, &err) != NIGH_OK) { fprintf(stderr, "%s\n", err.text); return 1; }
    size_t room = count > streams ? count : streams;
    b.begin = calloc(room, sizeof *b.begin);
    b.took = calloc(room, sizeof *b.took);
    pthread_mutex_init(&b.lock, NULL);
    pthread_cond_init(&b.change, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", port);
    b.ask = (nigh_upstream_ask){
        .tier = NIGH_TIER_EDGE, .url = nigh_str_of(url), .model = NIGH_STR("m"), .body = NIGH_STR(ASK)
    };
    printf("what,calls,at_once,calls_s,p50_us,p99_us,cpu_us_a_call,failed\n");
    run_direct(port, count);
    run(count / 10, at_once);
    run(count, 1);
    run(count, at_once);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", held_port);
    b.ask.url = nigh_str_of(url);
    b.ask.total_ms = b.ask.first_ms = 60000;
    if (streams) run_held(streams);
    nigh_upstream_close(b.u);
    kill(one, SIGKILL);
    kill(two, SIGKILL);
    while (wait(NULL) > 0) { }
    free(b.begin);
    free(b.took);
    return 0;
}
