/* prove_wire.c - the namespace, its one line out, and the counter on our end of it.
 *
 * The order matters: the counter listens before the line is up, so that not one frame passes uncounted, and the child
 * begins only then. `ip` (iproute2) makes the pair of interfaces; the kernel takes both away with the namespace. */
#define _GNU_SOURCE
#include "node/prove_wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HEAD_BYTES = 128, FLOWS_MAX = 4096, SETTLE_MS = 200 };

/* The next byte that TCP has not sent so far, in one direction of one connection: to know what is sent again. */
typedef struct { uint64_t key; uint16_t port; uint32_t next; bool seen; } flow;

struct nigh_prove_wire {
    char name[IFNAMSIZ];
    pid_t child;
    int out, packets, go;
    pthread_t counter;
    atomic_bool stop;
    nigh_prove_seen seen;
    flow flows[FLOWS_MAX];
};

extern char **environ;

/* Runs `ip` with these words and waits. */
static bool ip(char *const *words) {
    pid_t pid;
    int code = 0;
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    for (int fd = 1; fd <= 2; fd++) posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_WRONLY, 0);
    bool ran = posix_spawnp(&pid, "ip", &files, NULL, words, environ) == 0 && waitpid(pid, &code, 0) == pid;
    posix_spawn_file_actions_destroy(&files);
    return ran && WIFEXITED(code) && WEXITSTATUS(code) == 0;
}
#define IP(...) ip((char *[]){ "ip", __VA_ARGS__, NULL })

static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;                 /* a kernel without IPv6 does not have it */
    (void)!write(fd, text, strlen(text));
    close(fd);
}

/* ---- the counter ---- */

static nigh_prove_place *place_of(nigh_prove_seen *s, uint32_t address, uint16_t port) {
    for (size_t i = 0; i < s->place_count; i++)
        if (s->places[i].address == address && s->places[i].port == port) return &s->places[i];
    if (s->place_count == NIGH_COUNT(s->places)) { s->missed++; return &s->places[NIGH_COUNT(s->places) - 1]; }
    nigh_prove_place *p = &s->places[s->place_count++];
    *p = (nigh_prove_place){ .address = address, .port = port };
    return p;
}

/* How many of the `bytes` at this sequence number were sent before. */
static uint32_t sent_before(nigh_prove_wire *w, uint64_t key, uint16_t port, uint32_t sequence, uint32_t bytes) {
    size_t at = (size_t)((key * 0x9e3779b97f4a7c15u + port) >> 20) % FLOWS_MAX;
    for (size_t i = 0; i < FLOWS_MAX; i++, at = (at + 1) % FLOWS_MAX) {
        flow *f = &w->flows[at];
        if (f->seen && (f->key != key || f->port != port)) continue;
        uint32_t old = f->seen ? f->next - sequence : 0;        /* wraps as TCP's numbers do */
        bool again = f->seen && old - 1 < 1u << 30;
        if (!f->seen || !again) old = 0;
        if (old < bytes || !f->seen) *f = (flow){ key, port, sequence + bytes, true };
        return old < bytes ? old : bytes;
    }
    w->seen.missed++;
    return 0;
}

static uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static uint32_t be32(const uint8_t *p) { return (uint32_t)be16(p) << 16 | be16(p + 2); }

/* One frame. Whatever is no TCP over IPv4 counts whole. */
static void count(nigh_prove_wire *w, const uint8_t *f, size_t have, size_t whole, bool out) {
    nigh_prove_seen *s = &w->seen;
    uint32_t bytes = (uint32_t)whole, address = 0;
    uint16_t port = 0;
    *(out ? &s->packets_out : &s->packets_in) += 1;
    *(out ? &s->frames_out : &s->frames_in) += whole;
    if (have >= 34 && be16(f + 12) == ETH_P_IP && (f[14] & 15) >= 5) {
        size_t ip_head = (size_t)(f[14] & 15) * 4, at = 14 + ip_head;
        address = be32(f + (out ? 30 : 26));
        if (f[23] == 6 && have >= at + 20) {
            size_t tcp_head = (size_t)(f[at + 12] >> 4) * 4, total = be16(f + 16);
            uint16_t ours = be16(f + at + (out ? 0 : 2));
            if (!total) total = whole - 14;     /* larger than the field: joined by the kernel */
            port = be16(f + at + (out ? 2 : 0));
            bytes = total > ip_head + tcp_head ? (uint32_t)(total - ip_head - tcp_head) : 0;
            bool syn = f[at + 13] & 2;
            uint32_t again = bytes && !syn ? sent_before(w, (uint64_t)address << 32 | (uint32_t)ours << 1 | out, port,
                be32(f + at + 4), bytes) : 0;
            *(out ? &s->again_out : &s->again_in) += again;
            bytes -= again;
        }
    }
    nigh_prove_place *p = place_of(s, address, port);
    *(out ? &p->packets_out : &p->packets_in) += 1;
    *(out ? &p->bytes_out : &p->bytes_in) += bytes;
}

static void *count_all(void *ud) {
    nigh_prove_wire *w = ud;
    uint8_t frame[HEAD_BYTES];
    struct pollfd p = { .fd = w->packets, .events = POLLIN };
    while (poll(&p, 1, atomic_load(&w->stop) ? 0 : 50) > 0 || !atomic_load(&w->stop)) {
        struct sockaddr_ll from;
        socklen_t len = sizeof from;
        ssize_t got = recvfrom(w->packets, frame, sizeof frame, MSG_TRUNC | MSG_DONTWAIT, (struct sockaddr *)&from,
            &len);
        if (got <= 0) continue;
        size_t whole = (size_t)got;
        count(w, frame, whole < sizeof frame ? whole : sizeof frame, whole, from.sll_pkttype != PACKET_OUTGOING);
    }
    struct tpacket_stats lost = { 0 };
    socklen_t len = sizeof lost;
    if (getsockopt(w->packets, SOL_PACKET, PACKET_STATISTICS, &lost, &len) == 0) w->seen.missed += lost.tp_drops;
    return NULL;
}

static nigh_status listen_on(nigh_prove_wire *w, nigh_err *err) {
    struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = (int)if_nametoindex(w->name) };
    int room = 32 << 20;
    w->packets = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (w->packets < 0 || setsockopt(w->packets, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) != 0
        || bind(w->packets, (struct sockaddr *)&at, sizeof at) != 0)
        return nigh_failf(err, NIGH_ENOSUP, errno, "packets cannot be counted here: %s", strerror(errno));
    if (pthread_create(&w->counter, NULL, count_all, w) != 0)
        return nigh_fail(err, NIGH_ENOMEM, 0, "no thread for the counter");
    return NIGH_OK;
}

/* ---- inside ---- */

/* The child: its own network, its end of the line, then the work. */
static int be_inside(int ready, int go, const char *address, const char *gateway, int (*inside)(void *ud, int out),
    void *ud, int out) {
    char with_mask[40], byte = 0;
    if (unshare(CLONE_NEWNET) != 0) return 125;
    write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    if (write(ready, "r", 1) != 1 || read(go, &byte, 1) != 1) return 125;
    nigh_format(with_mask, sizeof with_mask, "%s/30", address);
    if (!IP("link", "set", "lo", "up") || !IP("addr", "add", with_mask, "dev", "eth0")
        || !IP("link", "set", "eth0", "up") || !IP("route", "add", "default", "via", (char *)gateway))
        return 124;
    return inside(ud, out);
}

static nigh_status make_line(nigh_prove_wire *w, const char *outside, nigh_err *err) {
    char pid[16], with_mask[40], path[80];
    nigh_format(pid, sizeof pid, "%d", (int)w->child);
    nigh_format(with_mask, sizeof with_mask, "%s/30", outside);
    nigh_format(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", w->name);
    if (!IP("link", "add", w->name, "type", "veth", "peer", "name", "eth0", "netns", pid))
        return nigh_fail(err, NIGH_ENOSUP, 0, "a pair of network interfaces cannot be made here (ip link add ... type "
            "veth): the kernel or the container does not allow it");
    write_file(path, "1");
    NIGH_TRY(listen_on(w, err));
    if (!IP("addr", "add", with_mask, "dev", w->name) || !IP("link", "set", w->name, "up"))
        return nigh_failf(err, NIGH_EIO, 0, "%s cannot be set up with %s", w->name, with_mask);
    return NIGH_OK;
}

static nigh_status spawn(nigh_prove_wire *w, const char *outside, int (*inside)(void *ud, int out), void *ud,
    nigh_err *err) {
    struct in_addr a;
    char address[INET_ADDRSTRLEN], byte = 0;
    int ready[2], go[2], out[2];
    if (inet_pton(AF_INET, outside, &a) != 1)
        return nigh_failf(err, NIGH_EINVAL, 0, "'%s' is no IPv4 address", outside);
    a.s_addr = htonl(ntohl(a.s_addr) + 1);
    inet_ntop(AF_INET, &a, address, sizeof address);
    if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(go, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        return nigh_fail(err, NIGH_EIO, errno, "no pipes");
    w->child = fork();
    if (w->child == 0) {
        close(ready[0]); close(go[1]); close(out[0]);
        setpgid(0, 0);
        _exit(be_inside(ready[1], go[0], address, outside, inside, ud, out[1]));
    }
    close(ready[1]); close(go[0]); close(out[1]);
    w->out = out[0];
    w->go = go[1];
    bool up = w->child > 0 && read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    if (!up) return nigh_fail(err, NIGH_ENOSUP, 0, "a network namespace cannot be made here");
    return NIGH_OK;
}

nigh_status nigh_prove_wire_open(nigh_prove_wire **out, const char *outside, int (*inside)(void *ud, int out), void *ud,
    nigh_err *err) {
    nigh_prove_seen seen;
    nigh_err ignored;
    int code;
    *out = NULL;
    if (geteuid() != 0)
        return nigh_fail(err, NIGH_ENOSUP, 0, "only root may make a network namespace and count its packets: sudo nigh "
            "prove ...");
    if (!IP("-V")) return nigh_fail(err, NIGH_ENOSUP, 0, "the program `ip` is not there: apt-get install iproute2");
    nigh_prove_wire *w = nigh_alloc(sizeof *w, 1);
    if (!w) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory");
    w->packets = w->out = w->go = -1;
    nigh_format(w->name, sizeof w->name, "nigh%u", (unsigned)getpid() % 1000000);
    nigh_status status = spawn(w, outside, inside, ud, err);
    if (status == NIGH_OK) status = make_line(w, outside, err);
    if (status == NIGH_OK && write(w->go, "g", 1) != 1) status = nigh_fail(err, NIGH_EIO, errno, "the child is gone");
    if (status != NIGH_OK) {
        if (nigh_prove_wire_close(w, &code, &seen, &ignored) != NIGH_OK) w = NULL;
        return status;
    }
    *out = w;
    return NIGH_OK;
}

int nigh_prove_wire_out(const nigh_prove_wire *w) { return w->out; }

nigh_status nigh_prove_wire_close(nigh_prove_wire *w, int *code, nigh_prove_seen *seen, nigh_err *err) {
    int state = 0;
    if (w->go >= 0) close(w->go);
    bool waited = w->child > 0 && waitpid(w->child, &state, 0) == w->child;
    usleep(SETTLE_MS * 1000);           /* the last acknowledgements */
    atomic_store(&w->stop, true);
    if (w->counter) pthread_join(w->counter, NULL);
    if (w->packets >= 0) close(w->packets);
    if (w->out >= 0) close(w->out);
    (void)IP("link", "del", w->name);
    *code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    *seen = w->seen;
    nigh_free(w);
    return waited ? NIGH_OK : nigh_fail(err, NIGH_EIO, 0, "the child was never there");
}
