/* upstream_wire.c - the sockets under libcurl's connections: an address is looked at when it is about to be connected
 * to (and again before a request goes over a kept connection, which another kind of target may have opened), and the
 * bytes are the system's own count for the socket: what was handed to it and taken from it, TLS and all, without
 * TCP's headers and repeats. The closing of a stream counts as one byte there. */
#include "node/upstream_parts.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

nigh_upstream_socket *nigh_upstream_socket_at(nigh_upstream *u, int fd) {
    size_t at = (size_t)fd;
    if (at >= u->socket_cap) {
        size_t cap = nigh_round_up(at + 1, 256);
        nigh_upstream_socket *more = nigh_alloc(sizeof *more, cap);
        if (!more) return NULL;
        if (u->socket_cap) memcpy(more, u->sockets, u->socket_cap * sizeof *more);
        nigh_free(u->sockets);
        u->sockets = more;
        u->socket_cap = cap;
    }
    return &u->sockets[at];
}

void nigh_upstream_own_socket(call_state *c, int fd) {
    if (c->fd == fd) return;
    if (c->fd >= 0 && c->u->sockets[c->fd].call == c) c->u->sockets[c->fd].call = NULL;
    c->fd = fd;
    if (fd >= 0) c->u->sockets[fd].call = c;
}

static bool refuse(call_state *c, const uint8_t *bytes, size_t count) {
    const char *what;
    const char *why = nigh_egress_refuses(&c->rule, nigh_egress_kind_of(bytes, count, &what));
    if (why) { c->refused = why; c->what = what; }
    return why != NULL;
}

curl_socket_t nigh_upstream_open_socket(void *ud, curlsocktype purpose, struct curl_sockaddr *address) {
    handle *h = ud;
    call_state *c = h->call;
    bool refused = true;
    if (!c || purpose != CURLSOCKTYPE_IPCXN) return CURL_SOCKET_BAD;
    if (address->family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, &address->addr, sizeof v4);
        refused = refuse(c, (const uint8_t *)&v4.sin_addr, 4);
    } else if (address->family == AF_INET6 && address->addrlen >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 v6;     /* libcurl keeps room for it behind the generic address */
        memcpy(&v6, &address->addr, sizeof v6);
        refused = refuse(c, (const uint8_t *)&v6.sin6_addr, 16);
    }
    if (refused) {
        if (!c->refused) { c->refused = "only IPv4 and IPv6 are spoken"; c->what = "another kind of address"; }
        return CURL_SOCKET_BAD;
    }
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0) return CURL_SOCKET_BAD;
    nigh_upstream_socket *s = nigh_upstream_socket_at(h->u, fd);
    if (!s) { close(fd); return CURL_SOCKET_BAD; }
    *s = (nigh_upstream_socket){ .destination = c->destination, .ours = true };
    nigh_upstream_own_socket(c, fd);
    return fd;
}

/* Handed to and taken from the socket since it was opened. */
static bool read_counts(int fd, uint64_t *out, uint64_t *in) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0) return false;
    if (len < offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof info.tcpi_bytes_retrans) return false;
    *out = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
    *in = info.tcpi_bytes_received;
    return true;
}

void nigh_upstream_count_socket(nigh_upstream *u, int fd) {
    uint64_t out, in;
    if (fd < 0 || (size_t)fd >= u->socket_cap || !u->sockets[fd].ours || !read_counts(fd, &out, &in)) return;
    nigh_upstream_socket *s = &u->sockets[fd];
    uint64_t more_out = out > s->out ? out - s->out : 0, more_in = in > s->in ? in - s->in : 0;
    s->out += more_out;
    s->in += more_in;
    if (s->call) { s->call->bytes_out += more_out; s->call->bytes_in += more_in; }
    pthread_mutex_lock(&u->lock);
    u->destinations[s->destination].bytes_out += more_out;
    u->destinations[s->destination].bytes_in += more_in;
    pthread_mutex_unlock(&u->lock);
}

int nigh_upstream_close_socket(void *ud, curl_socket_t fd) {
    nigh_upstream *u = ud;
    nigh_upstream_count_socket(u, fd);
    if ((size_t)fd < u->socket_cap) {
        call_state *c = u->sockets[fd].call;
        if (c && c->fd == fd) c->fd = -1;
        u->sockets[fd] = (nigh_upstream_socket){ 0 };      /* epoll forgets it with the close */
    }
    return close(fd);
}

/* A kept connection is known by its port: libcurl names no socket before it has to wait for one, and a target that cuts
 * at once would leave the bytes of its call with nobody. */
static void own_kept_socket(call_state *c, int local_port) {
    nigh_upstream *u = c->u;
    if (c->fd >= 0) { u->sockets[c->fd].local_port = local_port; return; }
    for (size_t fd = 0; fd < u->socket_cap; fd++) {
        const nigh_upstream_socket *s = &u->sockets[fd];
        if (!s->ours || s->local_port != local_port || s->destination != c->destination) continue;
        nigh_upstream_own_socket(c, (int)fd);
        return;
    }
}

int nigh_upstream_before_request(void *ud, char *ip, char *local_ip, int port, int local_port) {
    call_state *c = ((handle *)ud)->call;
    const char *what;
    (void)local_ip, (void)port;
    if (!c) return CURL_PREREQFUNC_ABORT;
    own_kept_socket(c, local_port);
    nigh_format(c->address, sizeof c->address, "%s", ip);
    const char *why = nigh_egress_refuses(&c->rule, nigh_egress_kind_of_text(ip, &what));
    if (why) { c->refused = why; c->what = what; return CURL_PREREQFUNC_ABORT; }
    c->refused = NULL;          /* of several addresses one was good */
    c->sent = true;
    return CURL_PREREQFUNC_OK;
}

uint32_t nigh_upstream_destination(nigh_upstream *u, const nigh_egress_url *url) {
    for (size_t i = 0; i < u->destination_count; i++)
        if (u->destinations[i].port == url->port && strcmp(u->destinations[i].host, url->host) == 0)
            return (uint32_t)i;
    size_t i = u->destination_count;
    if (i == NIGH_UPSTREAM_DESTINATIONS) return NIGH_UPSTREAM_DESTINATIONS - 1;
    bool last = i == NIGH_UPSTREAM_DESTINATIONS - 1;
    nigh_format(u->destinations[i].host, sizeof u->destinations[i].host, "%s", last ? "other" : url->host);
    u->destinations[i].port = last ? 0 : url->port;
    u->destination_count = i + 1;
    return (uint32_t)i;
}

size_t nigh_upstream_counts(nigh_upstream *u, nigh_wire_count *out, size_t cap) {
    pthread_mutex_lock(&u->lock);
    size_t count = u->destination_count;
    if (nigh_min(cap, count)) memcpy(out, u->destinations, nigh_min(cap, count) * sizeof *out);
    pthread_mutex_unlock(&u->lock);
    return count;
}
