/* bench_node.c - what a node adds: the same requests to a stand-in for a provider directly, and through `nigh serve`
 * with a policy, in turn. Prints CSV: at fixed rates (open loop: a request's time begins when it was due, so that
 * waiting counts) and as fast as it goes (closed loop); an exact answer out of the cache; memory idle and with streams
 * held open. Then one line for each thing that was asked of it: what was asked, what was seen, reached or not. The
 * load, the stand-in and the node share the machine's cores, also while the most is measured.
 *     bench_node NIGH MODEL [SECONDS [RATE [AT_ONCE [STREAMS]]]]      3 20000 32 10000 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "stand_in.h"

enum { CONNS_MAX = 20000, SAMPLES_MAX = 4 << 20, TAIL = 5, ROUNDS = 3 };

typedef struct { int fd; char tail[TAIL]; bool begun, sized; uint64_t due; } conn;
static conn conns[CONNS_MAX];
static uint64_t *took;
static size_t took_count, bad;

static int connect_to(int port, unsigned n) {
    /* Many streams come from many addresses: a node takes so many of one. */
    struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + n / 1000) };
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if ((n >= 1000 && bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
        || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) { close(fd); return -1; }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* ---- the load ---- */

static void give(conn *c, const char *request, size_t len, uint64_t due) {
    c->due = due;
    c->begun = false;
    memset(c->tail, 0, TAIL);
    if (send(c->fd, request, len, MSG_NOSIGNAL) != (ssize_t)len) bad++;
}

/* Reads what is there; true: the answer is whole: in chunks, the last one is empty; of a known length, the last event
 * was there. A connection that was closed is not used again. */
static bool take(conn *c) {
    char in[16384];
    ssize_t n = recv(c->fd, in, sizeof in, 0);
    if (n <= 0) {
        if (n < 0 && errno == EAGAIN) return false;
        bad++;
        close(c->fd);
        c->fd = -1;
        return false;
    }
    size_t got = (size_t)n;
    if (!c->begun) c->sized = memmem(in, got, "\r\nContent-Length:", 17) != NULL;
    c->begun = true;
    if (got >= TAIL) memcpy(c->tail, in + got - TAIL, TAIL);
    else {
        memmove(c->tail, c->tail + got, TAIL - got);
        memcpy(c->tail + TAIL - got, in, got);
    }
    return memcmp(c->tail, c->sized ? "NE]\n\n" : "0\r\n\r\n", TAIL) == 0;
}

/* rate 0: as fast as it goes. */
static double load(int port, const char *request, size_t at_once, double rate, double seconds) {
    struct epoll_event e = { .events = EPOLLIN }, ready[256];
    int ep = epoll_create1(EPOLL_CLOEXEC);
    size_t free_count = 0, *idle = calloc(at_once, sizeof *idle), given = 0, len = strlen(request);
    took_count = bad = 0;
    for (size_t i = 0; i < at_once; i++) {
        conns[i] = (conn){ .fd = connect_to(port, 0) };
        if (conns[i].fd < 0) { bad++; continue; }
        e.data.u64 = i;
        epoll_ctl(ep, EPOLL_CTL_ADD, conns[i].fd, &e);
        idle[free_count++] = i;
    }
    uint64_t begin = nigh_os_now_ns(), end = begin + (uint64_t)(seconds * 1e9), now = begin;
    while (now < end && took_count < SAMPLES_MAX - 256) {
        while (free_count && (rate == 0 || begin + (uint64_t)((double)given / rate * 1e9) <= now)) {
            uint64_t due = rate == 0 ? now : begin + (uint64_t)((double)given / rate * 1e9);
            give(&conns[idle[--free_count]], request, len, due);
            given++;
        }
        int n = epoll_wait(ep, ready, 256, rate == 0 ? 10 : 0);
        now = nigh_os_now_ns();
        for (int k = 0; k < n; k++) {
            conn *c = &conns[ready[k].data.u64];
            if (!take(c)) continue;
            took[took_count++] = now - c->due;
            idle[free_count++] = ready[k].data.u64;
        }
    }
    for (size_t i = 0; i < at_once; i++) if (conns[i].fd >= 0) close(conns[i].fd);
    close(ep);
    free(idle);
    return (double)took_count / ((double)(now - begin) / 1e9);
}

static int by_size(const void *x, const void *y) {
    uint64_t a = *(const uint64_t *)x, c = *(const uint64_t *)y;
    return (a > c) - (a < c);
}

static double percentile(double part) {
    return took_count ? (double)took[(size_t)((double)(took_count - 1) * part)] / 1000 : 0;
}

/* ---- the node ---- */

static pid_t node;
static char folder[] = "/tmp/nigh-bench-node-XXXXXX";

static double node_cpu_s(void) {
    char path[64], text[1024] = "";
    unsigned long ticks = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)node);
    FILE *f = fopen(path, "r");
    char *at = f && fgets(text, sizeof text, f) ? strrchr(text, ')') : NULL;
    if (f) fclose(f);
    for (int i = 0; at && i < 12; i++) at = strchr(at + 1, ' ');    /* the fields 14 and 15: user and system */
    if (at) ticks = strtoul(at, &at, 10);
    if (at) ticks += strtoul(at, NULL, 10);
    return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static double node_mb(void) {
    char path[64], line[256];
    unsigned long kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)node);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) if (strncmp(line, "VmRSS:", 6) == 0) kb = strtoul(line + 6, NULL, 10);
    if (f) fclose(f);
    return (double)kb * 1024 / 1e6;
}

static void write_policy(const char *path, const char *model, int port, int held_port) {
    FILE *f = fopen(path, "w");
    if (!f) exit(1);
    fprintf(f, "{\"version\":1,\"classes\":{\"public\":{\"level\":0,\"may_cross\":[\"device\",\"edge\",\"cloud\"],"
        "\"training\":true}},\"targets\":{\"here\":{\"tier\":\"device\",\"model\":\"%s\"},\"away\":{\"tier\":\"edge\","
        "\"model\":\"m\",\"url\":\"http://127.0.0.1:%d/v1\",\"retention\":\"none\",\"region\":\"DE\"},\"held\":{"
        "\"tier\":\"edge\",\"model\":\"m\",\"url\":\"http://127.0.0.1:%d/v1\",\"retention\":\"none\",\"region\":\"DE\""
        "}},\"features\":{\"away\":{\"class\":\"public\",\"place\":[\"away\"],\"degrade\":[\"error\"]},\"held\":{"
        "\"class\":\"public\",\"place\":[\"held\"],\"degrade\":[\"error\"]},\"kept\":{\"class\":\"public\",\"place\":"
        "[\"away\"],\"cache\":\"tenant\",\"retention\":{\"prompt\":\"0\",\"output\":\"1h\",\"cache\":\"1h\"},"
        "\"degrade\":[\"error\"]}}}\n", model, port, held_port);
    fclose(f);
}

static int start_node(char *program, char *model, const char *policy, const char *connections) {
    char line[1024];
    int out[2], port = 0;
    if (pipe(out)) exit(1);
    node = fork();
    if (node == 0) {
        setenv("NIGH_HOME", folder, 1);
        dup2(out[1], 1);
        close(out[0]);
        execl(program, "nigh", "serve", model, "--port", "0", "--policy", policy, "--connections", connections,
            (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *f = fdopen(out[0], "r");
    while (!port && f && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, "http://127.0.0.1:");
        if (at) port = (int)strtol(at + strlen("http://127.0.0.1:"), NULL, 10);
    }
    return port;
}

static void write_request(char *out, size_t cap, const char *model, int port) {
    char body[512];
    snprintf(body, sizeof body, "{\"model\":\"%s\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":"
        "\"Summarise this mail in one sentence, please.\"}]}", model);
    snprintf(out, cap, "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json"
        "\r\nContent-Length: %zu\r\n\r\n%s", port, strlen(body), body);
}

/* ---- what is measured ---- */

/* One kind of load, direct or through the node, once a round. */
typedef struct {
    const char *what;
    bool through, kept;
    size_t at_once;                 /* 0: as the caller said; times 4 at a rate */
    double rate;                    /* 0: as fast as it goes; below 0: as the caller said */
    double per_s[ROUNDS], p50[ROUNDS], p99[ROUNDS], cpu[ROUNDS];
    size_t failed;
} kind;

enum { DIRECT_ONE, NODE_ONE, DIRECT_FEW, NODE_FEW, DIRECT_RATE, NODE_RATE, DIRECT_TEN, NODE_TEN, DIRECT_MOST, NODE_MOST,
    KEPT_ONE, KEPT_MOST, KINDS };
static kind kinds[KINDS] = {
    { "direct, one at a time", .at_once = 1 }, { "node, one at a time", true, .at_once = 1 },
    { "direct, 2000 a second", .rate = 2000 }, { "node, 2000 a second", true, .rate = 2000 },
    { "direct, at the rate", .rate = -1 }, { "node, at the rate", true, .rate = -1 },
    { "direct, most with 10 at once", .at_once = 10 }, { "node, most with 10 at once", true, .at_once = 10 },
    { "direct, most", .at_once = 0 }, { "node, most", true, .at_once = 0 },
    { "kept answer, one at a time", true, true, .at_once = 1 }, { "kept answer, most", true, true, .at_once = 0 } };

static void measure(kind *k, int round, int port, const char *request, size_t at_once, double rate, double seconds) {
    double cpu = node_cpu_s(), per_s = load(port, request, at_once, rate, seconds);
    cpu = node_cpu_s() - cpu;
    qsort(took, took_count, sizeof *took, by_size);
    k->per_s[round] = per_s;
    k->p50[round] = percentile(0.5);
    k->p99[round] = percentile(0.99);
    k->cpu[round] = took_count ? cpu / (double)took_count * 1e6 : 0;
    k->failed += bad;
    printf("%s,%.0f,%zu,%.0f,%.1f,%.1f,%.1f,%zu\n", k->what, rate, at_once, per_s, k->p50[round], k->p99[round],
        k->cpu[round], bad);
    fflush(stdout);
}

static double middle(const double of[ROUNDS]) {
    double v[ROUNDS];
    memcpy(v, of, sizeof v);
    for (int i = 1; i < ROUNDS; i++)
        for (int k = i; k && v[k] < v[k - 1]; k--) { double t = v[k]; v[k] = v[k - 1]; v[k - 1] = t; }
    return v[ROUNDS / 2];
}

/* Opens streams, of which each gets its first event and no end; their memory. */
static double hold(int port, const char *request, size_t streams, size_t *held) {
    size_t open_count = 0;
    for (size_t i = 0; i < streams && i < CONNS_MAX; i++) {
        conns[i].fd = connect_to(port, (unsigned)i + 1000);
        if (conns[i].fd < 0) continue;
        give(&conns[i], request, strlen(request), 0);
        if (i % 100 == 99) usleep(40000);       /* no more than the backlogs on the way take */
    }
    sleep(6);
    double cpu = node_cpu_s();
    sleep(2);
    cpu = node_cpu_s() - cpu;
    for (size_t i = 0; i < streams && i < CONNS_MAX; i++) {
        char in[4096];
        ssize_t n = conns[i].fd >= 0 ? recv(conns[i].fd, in, sizeof in, 0) : 0;
        open_count += n > 12 && memcmp(in, "HTTP/1.1 200", 12) == 0 && memmem(in, (size_t)n, "Hello", 5);
    }
    double mb = node_mb();
    printf("memory with %zu of %zu streams open,%.1f MB\n", open_count, streams, mb);
    printf("of a core while they are silent,%.1f %%\n", cpu / 2 * 100);
    for (size_t i = 0; i < streams && i < CONNS_MAX; i++) if (conns[i].fd >= 0) close(conns[i].fd);
    *held = open_count;
    return mb;
}

/* ---- asked, seen, reached ---- */

static void line(const char *what, const char *unit, double asked, bool at_most, double seen, bool holds) {
    bool reached = holds && (at_most ? seen <= asked : seen >= asked);
    printf("%s,%s %g%s,%.4g%s,%s\n", what, at_most ? "at most" : "at least", asked, unit, seen, unit,
        reached ? "yes" : "no");
}

/* Bifrost as PEERS.md has it: 3,088 answers a second where the same machine did 30,015 directly. */
static void sum_up(double idle_mb, double held_mb, size_t held, size_t streams, double rate) {
    static const double bifrost = 3088.0 / 30015.0;
    const kind *k = kinds;
    double got = middle(k[NODE_RATE].per_s);
    bool keeps_up = got > 0.98 * rate && !k[NODE_RATE].failed;
    printf("asked for,asked,seen,reached\n");
    line("added at the rate: middle", " us", 30, true, middle(k[NODE_RATE].p50) - middle(k[DIRECT_RATE].p50), keeps_up);
    line("added at the rate: 99th percentile", " us", 200, true, middle(k[NODE_RATE].p99) - middle(k[DIRECT_RATE].p99),
        keeps_up);
    line("answers a second at that rate", "", rate, false, got, true);
    line("added one at a time: middle", " us", 30, true, middle(k[NODE_ONE].p50) - middle(k[DIRECT_ONE].p50), true);
    line("added one at a time: 99th percentile", " us", 200, true, middle(k[NODE_ONE].p99) - middle(k[DIRECT_ONE].p99),
        true);
    line("added at 2000 a second: middle", " us", 30, true, middle(k[NODE_FEW].p50) - middle(k[DIRECT_FEW].p50), true);
    line("added at 2000 a second: 99th percentile", " us", 200, true,
        middle(k[NODE_FEW].p99) - middle(k[DIRECT_FEW].p99), true);
    line("most with 10 at once over direct: three times Bifrost's", "", 3 * bifrost, false,
        middle(k[NODE_TEN].per_s) / middle(k[DIRECT_TEN].per_s), true);
    line("most with 10 at once: three times Bifrost's number", " a second", 3 * 3088, false, middle(k[NODE_TEN].per_s),
        true);
    line("kept answer: middle", " us", 50, true, middle(k[KEPT_ONE].p50), true);
    line("memory idle", " MB", 15, true, idle_mb, true);
    if (streams) {
        char text[64];
        snprintf(text, sizeof text, "memory with %zu streams open", held);
        line(text, " MB", 60, true, held_mb, held == streams);
    }
    for (int i = 0; i < KINDS; i++)
        if (k[i].failed) printf("failed in \"%s\",0,%zu,no\n", k[i].what, k[i].failed);
}

static int forget(const char *path, const struct stat *about, int what, struct FTW *at) {
    (void)about;
    (void)what;
    (void)at;
    return remove(path);
}

int main(int argc, char **argv) {
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 3, rate = argc > 4 ? strtod(argv[4], NULL) : 20000;
    size_t at_once = argc > 5 ? strtoul(argv[5], NULL, 10) : 32;
    size_t streams = argc > 6 ? strtoul(argv[6], NULL, 10) : 10000;
    char policy[64], connections[32], name[256], away[1024], kept[1024], held[1024];
    struct rlimit files;
    int port, held_port;
    if (argc < 3) { fprintf(stderr, "usage: bench_node NIGH MODEL [SECONDS [RATE [AT_ONCE [STREAMS]]]]\n"); return 1; }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    /* Of each stream the node has two ends. */
    size_t most = (size_t)files.rlim_max > 512 ? ((size_t)files.rlim_max - 512) / 2 - 4 * at_once - 64 : 1;
    if (streams > most) {
        printf("%zu files may be open here: %zu streams at most\n", (size_t)files.rlim_max, most);
        streams = most;
    }
    snprintf(connections, sizeof connections, "%zu", streams + 4 * at_once + 64);
    signal(SIGPIPE, SIG_IGN);
    took = calloc(SAMPLES_MAX, sizeof *took);
    if (!took || !mkdtemp(folder)) return 1;
    pid_t one = stand_in_open(&port, false), two = stand_in_open(&held_port, true);
    const char *base = strrchr(argv[2], '/');
    snprintf(name, sizeof name, "%s", base ? base + 1 : argv[2]);
    if (strlen(name) > 5 && strcmp(name + strlen(name) - 5, ".gguf") == 0) name[strlen(name) - 5] = '\0';
    snprintf(policy, sizeof policy, "%s/features.json", folder);
    write_policy(policy, name, port, held_port);
    int at = start_node(argv[1], argv[2], policy, connections);
    if (!at) { fprintf(stderr, "the node did not start\n"); return 1; }
    sleep(1);
    write_request(away, sizeof away, "feature/away", at);
    write_request(kept, sizeof kept, "feature/kept", at);
    write_request(held, sizeof held, "feature/held", at);
    double idle_mb = node_mb(), held_mb = 0;
    size_t held_count = 0;
    printf("memory idle,%.1f MB\n", idle_mb);
    printf("what,rate,at_once,answers_s,p50_us,p99_us,node_cpu_us,failed\n");
    (void)load(at, away, at_once, 0, 0.5);
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < KINDS; k++) {
            kind *m = &kinds[k];
            double r = m->rate < 0 ? rate : m->rate;
            size_t many = m->at_once ? m->at_once : m->rate != 0 ? 4 * at_once : at_once;
            measure(m, i, m->through ? at : port, m->kept ? kept : away, many, r, seconds);
        }
    printf("memory after that,%.1f MB\n", node_mb());
    if (streams) held_mb = hold(at, held, streams, &held_count);
    sum_up(idle_mb, held_mb, held_count, streams, rate);
    kill(node, SIGTERM);
    kill(one, SIGKILL);
    kill(two, SIGKILL);
    while (wait(NULL) > 0) { }
    (void)nftw(folder, forget, 16, FTW_DEPTH | FTW_PHYS);
    free(took);
    return 0;
}
