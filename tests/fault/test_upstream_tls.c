/* test_upstream_tls.c - who is trusted, and that nothing is connected to where no target may be: certificates of an
 * authority of the test's own (made with openssl), a connection that an edge target left and a cloud target must not
 * use, and a listener that every spelling of this machine's addresses would reach. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include "node/upstream.h"
#include "node/upstream_curl.h"
#include "program.h"
#include "provider.h"

#define ASK "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}"

static char folder[64] = "/tmp/nigh-tls-XXXXXX";
static provider server;

typedef struct { pthread_mutex_t lock; pthread_cond_t over; int dones; nigh_call_result r; } got;

static void on_done(void *ud, const nigh_call_result *r) {
    got *g = ud;
    pthread_mutex_lock(&g->lock);
    g->r = *r;
    g->dones++;
    pthread_cond_signal(&g->over);
    pthread_mutex_unlock(&g->lock);
}
static const nigh_upstream_calls calls = { .done = on_done };

/* The end of one call, or -1: it was not taken. */
static int end_of(nigh_upstream *u, nigh_tier tier, const char *url, nigh_call_result *r) {
    got g = { .dones = 0 };
    uint64_t id;
    nigh_err err;
    nigh_upstream_ask ask = { .tier = tier, .url = nigh_str_of(url), .model = NIGH_STR("x"), .body = NIGH_STR(ASK),
        .key = NIGH_STR("secret"), .connect_ms = 1000, .first_ms = 5000, .total_ms = 5000 };
    struct timespec until;
    *r = (nigh_call_result){ 0 };
    pthread_mutex_init(&g.lock, NULL);
    pthread_cond_init(&g.over, NULL);
    nigh_status status = nigh_upstream_call(u, &ask, &calls, &g, &id, &err);
    if (status != NIGH_OK) snprintf(r->text, sizeof r->text, "%.190s", err.text);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&g.lock);
    while (status == NIGH_OK && !g.dones && pthread_cond_timedwait(&g.over, &g.lock, &until) == 0) { }
    pthread_mutex_unlock(&g.lock);
    CHECK(status != NIGH_OK || g.dones == 1);
    if (status == NIGH_OK) *r = g.r;
    pthread_mutex_destroy(&g.lock);
    pthread_cond_destroy(&g.over);
    return status == NIGH_OK ? (int)r->end : -1;
}

static nigh_upstream *open_with(const char *ca, const char *allow) {
    char path[128];
    const char *list[] = { allow };
    nigh_upstream *u = NULL;
    nigh_err err = { 0 };
    snprintf(path, sizeof path, "%s/%s", folder, ca ? ca : "");
    nigh_upstream_opts o = { .ca_file = ca ? path : NULL,
                             .allow_private = list,
                             .allow_private_count = allow ? 1 : 0 };
    nigh_upstream_curl curl;
    if (nigh_upstream_curl_load(&curl, &err) == NIGH_ENOSUP) return NULL;
    nigh_status status = nigh_upstream_open(&u, &o, &err);
    CHECK_MSG(status == NIGH_OK, "%s", err.text);
    return u;
}

static bool make_authority(void) {
    if (!mkdtemp(folder)) return false;
    program_result r = program_run(
        "cd %s && exec 2>/dev/null && for ca in ca other; do openssl req -x509 -newkey ec "
        "-pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key -out $ca.pem -days 2 -subj /CN=$ca; done && openssl "
        "req -newkey "
        "ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=localhost && echo "
        "subjectAltName=DNS:localhost > names && openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key "
        "-CAcreateserial "
        "-days 2 -extfile names -out server.pem",
        folder);
    free(r.text);
    return r.code == 0;
}

static void test_certificates(void) {
    char cert[128], key[128], right[64], wrong_name[64], name[64];
    nigh_call_result r;
    if (!make_authority()) TEST_SKIP("no openssl to make a certificate with");
    snprintf(cert, sizeof cert, "%s/server.pem", folder);
    snprintf(key, sizeof key, "%s/server.key", folder);
    if (!provider_start(&server, cert, key)) TEST_SKIP("no node to run tests/web/provider.mjs");
    snprintf(right, sizeof right, "https://localhost:%d/v1", server.port);
    snprintf(wrong_name, sizeof wrong_name, "https://127.0.0.1:%d/v1", server.port);
    snprintf(name, sizeof name, "localhost:%d", server.port);
    nigh_upstream *u = open_with("ca.pem", NULL);
    if (!u) TEST_SKIP("no libcurl to load");
    CHECK_MSG(end_of(u, NIGH_TIER_EDGE, right, &r) == NIGH_CALL_OK, "%s", r.text);
    CHECK_MSG(r.bytes_out > 400 && r.bytes_in > 800, "%llu %llu", (unsigned long long)r.bytes_out,
              (unsigned long long)r.bytes_in);
    CHECK_MSG(end_of(u, NIGH_TIER_EDGE, wrong_name, &r) == NIGH_CALL_UNREACHABLE && !r.sent, "%d %s", r.end, r.text);
    /* The edge target's connection is still there; a cloud target of the same name must not get it. */
    CHECK_MSG(end_of(u, NIGH_TIER_CLOUD, right, &r) == NIGH_CALL_REFUSED_ADDRESS && !r.sent, "%d %s", r.end, r.text);
    CHECK_MSG(end_of(u, NIGH_TIER_EDGE, right, &r) == NIGH_CALL_OK, "%s", r.text);
    nigh_upstream_close(u);
    u = open_with("ca.pem", name);              /* one's own gateway, named */
    CHECK_MSG(end_of(u, NIGH_TIER_CLOUD, right, &r) == NIGH_CALL_OK, "%s", r.text);
    nigh_upstream_close(u);
    u = open_with("other.pem", name);
    CHECK_MSG(end_of(u, NIGH_TIER_CLOUD, right, &r) == NIGH_CALL_UNREACHABLE && !r.sent, "%d %s", r.end, r.text);
    nigh_upstream_close(u);
    u = open_with(NULL, name);                  /* the system's authorities do not know ours */
    CHECK_MSG(end_of(u, NIGH_TIER_CLOUD, right, &r) == NIGH_CALL_UNREACHABLE && !r.sent, "%d %s", r.end, r.text);
    nigh_upstream_close(u);
    u = open_with("names", name);               /* no certificates in it */
    CHECK_MSG(end_of(u, NIGH_TIER_CLOUD, right, &r) == NIGH_CALL_UNREACHABLE && !r.sent, "%d %s", r.end, r.text);
    nigh_upstream_close(u);
    provider_stop(&server);
    program_result gone = program_run("rm -r %s", folder);
    free(gone.text);
}

/* A listener on every address of this machine, IPv6 too when there is that. */
static int listen_everywhere(int *port) {
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), off = 0, family = AF_INET6;
    if (fd < 0) { fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); family = AF_INET; }
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
    struct sockaddr_in v4 = { .sin_family = AF_INET };
    socklen_t len = sizeof v6;
    bool ok = family == AF_INET6 ? bind(fd, (struct sockaddr *)&v6, sizeof v6) == 0
                                 : bind(fd, (struct sockaddr *)&v4, sizeof v4) == 0;
    if (!ok || listen(fd, 64) || getsockname(fd, (struct sockaddr *)&v6, &len)) return -1;
    *port = ntohs(v6.sin6_port);        /* the port lies at the same place in both */
    return fd;
}

/* %d: the listener's port. Cloud targets may be none of these; the second list, no target at all. */
static const char *const never_cloud[] = { "https://127.0.0.1:%d",
                                           "https://127.0.0.2:%d/v1",
                                           "https://127.255.255.254:%d",
                                           "https://localhost:%d",
                                           "https://LOCALHOST:%d/",
                                           "https://sub.localhost:%d",
                                           "https://[::1]:%d",
                                           "https://ip6-localhost:%d",
                                           "https://10.0.0.1:%d",
                                           "https://10.255.255.255:%d",
                                           "https://172.16.0.1:%d",
                                           "https://172.31.0.1:%d",
                                           "https://192.168.0.1:%d",
                                           "https://100.64.0.1:%d",
                                           "https://100.127.255.255:%d",
                                           "https://[fd00::1]:%d",
                                           "https://[fc00::1]:%d",
                                           "http://127.0.0.1:%d",
                                           "http://localhost:%d",
                                           "http://[::1]:%d",
                                           "http://1.1.1.1:%d",
                                           "https://127.1:%d",
                                           "https://127.0.1:%d",
                                           "https://2130706433:%d",
                                           "https://0x7f000001:%d",
                                           "https://0x7f.0x0.0x0.0x1:%d",
                                           "https://0177.0.0.1:%d",
                                           "https://017700000001:%d",
                                           "https://127.0.0.01:%d",
                                           "https://127.0.0.1.:%d",
                                           "https://localhost.:%d",
                                           "https://%%6c%%6f%%63alhost:%d",
                                           "https://127%%2e0.0.1:%d",
                                           "https://user@127.0.0.1:%d",
                                           "https://a.example@127.0.0.1:%d",
                                           "https://127.0.0.1:%d#@a.example",
                                           "https://127.0.0.1:%d\\@a.example",
                                           "https:\\\\127.0.0.1:%d",
                                           "https:/127.0.0.1:%d",
                                           "//127.0.0.1:%d",
                                           "127.0.0.1:%d",
                                           "HTTPS://127.0.0.1:%d",
                                           "ftp://127.0.0.1:%d",
                                           "gopher://127.0.0.1:%d",
                                           "file://127.0.0.1:%d",
                                           "ws://127.0.0.1:%d",
                                           "https://\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.0.0.1:%d",
                                           "https://127\xe3\x80\x82"
                                           "0.0.1:%d",
                                           "https:// 127.0.0.1:%d",
                                           "https://127.0.0.1 :%d",
                                           "https://127.0.0.1\t:%d",
                                           "https://127.0.0.1\r\n:%d" };
static const char *const never[] = { "http://0.0.0.0:%d",
                                     "http://0:%d",
                                     "http://0.1.2.3:%d",
                                     "http://[::]:%d",
                                     "http://169.254.169.254:%d",
                                     "http://169.254.0.1:%d",
                                     "http://[::ffff:127.0.0.1]:%d",
                                     "http://[::ffff:7f00:1]:%d",
                                     "http://[::127.0.0.1]:%d",
                                     "http://[64:ff9b::7f00:1]:%d",
                                     "http://[64:ff9b:1::7f00:1]:%d",
                                     "http://[2002:7f00:1::]:%d",
                                     "http://[2001::7f00:1]:%d",
                                     "http://[fe80::1]:%d",
                                     "http://[fe80::1%%lo]:%d",
                                     "http://[ff02::1]:%d",
                                     "http://224.0.0.1:%d",
                                     "http://255.255.255.255:%d",
                                     "http://240.0.0.1:%d",
                                     "http://100.100.100.200:%d",
                                     "http://168.63.129.16:%d",
                                     "http://192.0.0.192:%d",
                                     "http://[fd00:ec2::254]:%d",
                                     "http://8.8.8.8:%d" };

static void check_refused(nigh_upstream *u, nigh_tier tier, const char *const *list, size_t count, int port) {
    for (size_t i = 0; i < count; i++) {
        char url[200];
        nigh_call_result r;
        char rest[64];
        snprintf(url, sizeof url, "%s", list[i]);
        char *mark = strstr(url, "%d");
        snprintf(rest, sizeof rest, "%s", mark + 2);
        snprintf(mark, (size_t)(url + sizeof url - mark), "%d%s", port, rest);
        for (char *p = url; (p = strstr(p, "%%")); p++) memmove(p, p + 1, strlen(p));
        int end = end_of(u, tier, url, &r);
        CHECK_MSG(end == -1 || end == NIGH_CALL_REFUSED_ADDRESS || end == NIGH_CALL_UNREACHABLE, "%s: end %d %s", url,
                  end, r.text);
        CHECK_MSG(!r.sent && r.bytes_out == 0, "%s: %s", url, r.text);
    }
}

static void test_no_connects(void) {
    int port = 0, fd = listen_everywhere(&port);
    nigh_call_result r;
    if (fd < 0) TEST_SKIP("no socket to listen on");
    /* What an environment says of proxies must not matter: this one would lead to the listener. */
    char proxy[64];
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", port);
    setenv("http_proxy", proxy, 1);
    setenv("https_proxy", proxy, 1);
    setenv("ALL_PROXY", proxy, 1);
    nigh_upstream *u = open_with(NULL, NULL);
    if (!u) TEST_SKIP("no libcurl to load");
    check_refused(u, NIGH_TIER_CLOUD, never_cloud, NIGH_COUNT(never_cloud), port);
    check_refused(u, NIGH_TIER_CLOUD, never, NIGH_COUNT(never), port);
    check_refused(u, NIGH_TIER_EDGE, never, NIGH_COUNT(never), port);
    printf("  %zu addresses tried for cloud targets, %zu for edge targets\n",
           NIGH_COUNT(never_cloud) + NIGH_COUNT(never), NIGH_COUNT(never));
    struct pollfd p = { .fd = fd, .events = POLLIN };
    CHECK_MSG(poll(&p, 1, 200) == 0, "something connected");
    /* The listener would have noticed: */
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", port);
    uint64_t id;
    got g = { .dones = 0 };
    pthread_mutex_init(&g.lock, NULL);
    pthread_cond_init(&g.over, NULL);
    nigh_upstream_ask ask = {
        .tier = NIGH_TIER_EDGE, .url = nigh_str_of(url), .model = NIGH_STR("x"), .body = NIGH_STR(ASK)
    };
    CHECK(nigh_upstream_call(u, &ask, &calls, &g, &id, NULL) == NIGH_OK);
    CHECK(poll(&p, 1, 5000) == 1);
    nigh_upstream_close(u);
    CHECK(g.dones == 1 && g.r.end == NIGH_CALL_CANCELLED);
    (void)r;
    close(fd);
    unsetenv("http_proxy");
    unsetenv("https_proxy");
    unsetenv("ALL_PROXY");
}

TEST_MAIN(T(test_certificates), T(test_no_connects))
