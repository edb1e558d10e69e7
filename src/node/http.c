/* http.c - requests in: libmicrohttpd's callbacks, the guard in front of every body, and the life of the server.
 *
 * A request passes here in this order, and everything up to the body happens before one byte of the body is looked at:
 *
 *     on_target      request line read: the exchange is born and keeps the raw target
 *     on_request     first call: whole head read
 *                      head_is_strict   line ends, folded lines, spaces: what the library forgives, read from the
 * raw head
 *                      nigh_guard_head  lengths, codings, hosts, targets
 *                      admit            host -> origin -> key -> route -> type and size of the body
 *                    then the body in pieces, then a last call: the handler
 *     on_completed   answered or cut off: the exchange is let go
 *
 * One thread does all of it (socket_thread), and drives the calls to other places between requests: a request that is
 * answered elsewhere never changes threads.
 *
 * A refusal whose body is small is sent after that body was read and thrown away, so that a client in the middle
 * of sending sees the answer and the connection lives on; any other closes the connection at once.
 *
 * The library's own error pages remain for what never becomes a request (a line without a colon, a broken
 * chunk). A chunked request is always the last of its connection: the library forgives bare line feeds between
 * chunks. */
#define _GNU_SOURCE
#include "node/http_parts.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/os.h"

/* POOL_BYTES: of each connection, the least that takes the largest head: the library writes over half of it. */
enum { POOL_BYTES = 24576, DRAIN_BYTES_MAX = 65536, DISCARD_FACTOR = 4, BACKLOG = 4096, SILENT_S = 75,
    CONNECTIONS_MAX = 4096, FILES_BESIDE = 256, FILES_MOST = 1 << 21 };

static uint64_t now_ms(void) { return nigh_os_now_ns() / 1000000; }

static nigh_conn *conn_of(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* False when the watcher has ended the connection already. */
static bool enter_phase(nigh_http *h, nigh_conn *conn, nigh_phase phase, nigh_exchange *x) {
    pthread_mutex_lock(&h->lock);
    bool alive = conn->phase != PHASE_DEAD;
    if (alive) {
        conn->phase = phase;
        conn->since_ms = now_ms();
        conn->x = x;
        if (phase == PHASE_WORK) {
            h->work_began = true;
            pthread_cond_signal(&h->wake);
        }
    }
    pthread_mutex_unlock(&h->lock);
    return alive;
}

/* ---- connections ---- */

static void on_connection(void *ud, struct MHD_Connection *c, void **context,
    enum MHD_ConnectionNotificationCode code) {
    nigh_http *h = ud;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        nigh_conn *conn = nigh_alloc(sizeof *conn, 1);
        *context = conn;
        if (!conn || !info) return;
        conn->fd = info->connect_fd;
        conn->since_ms = now_ms();
        struct epoll_event hup = { .events = EPOLLRDHUP | EPOLLET, .data.fd = conn->fd };
        (void)epoll_ctl(h->leaving, EPOLL_CTL_ADD, conn->fd, &hup);     /* refused: only its deadlines end it */
        pthread_mutex_lock(&h->lock);
        if ((size_t)conn->fd < h->files) h->left[conn->fd] = 0;
        conn->next = h->conns;
        if (h->conns) h->conns->prev = conn;
        h->conns = conn;
        pthread_mutex_unlock(&h->lock);
        atomic_fetch_add(&h->conn_count, 1);
        return;
    }
    nigh_conn *conn = *context;
    if (!conn) return;
    pthread_mutex_lock(&h->lock);
    if (conn->prev) conn->prev->next = conn->next; else h->conns = conn->next;
    if (conn->next) conn->next->prev = conn->prev;
    pthread_mutex_unlock(&h->lock);
    atomic_fetch_sub(&h->conn_count, 1);
    atomic_store(&h->woken, true);      /* the library accepts again at its next turn only, if it was full */
    nigh_free(conn);
    *context = NULL;
}

/* ---- the head ---- */

static void *on_target(void *ud, const char *uri, struct MHD_Connection *c) {
    nigh_http *h = ud;
    nigh_exchange *x = nigh_exchange_new(h);
    nigh_conn *conn = conn_of(c);
    if (!x) return NULL;
    x->connection = c;
    x->target_len = uri ? strlen(uri) : 0;
    x->target_at = uri;
    x->target = nigh_alloc(1, x->target_len + 1);
    if (!x->target) { nigh_exchange_release(x); return NULL; }
    if (uri) memcpy(x->target, uri, x->target_len);
    if (conn) (void)enter_phase(h, conn, PHASE_HEAD, NULL);     /* a dead connection is noticed at the head's end */
    return x;
}

/* Percent codes are decoded by the guard, once, and not by the library. */
static size_t leave_escaped(void *ud, struct MHD_Connection *c, char *text) {
    (void)ud;
    (void)c;
    return strlen(text);
}

static enum MHD_Result collect_field(void *ud, enum MHD_ValueKind kind, const char *name, size_t name_len,
    const char *value, size_t value_len) {
    nigh_head *head = ud;
    (void)kind;
    if (head->field_count < NIGH_GUARD_FIELDS_MAX)
        head->fields[head->field_count] = (nigh_field){ { name, name_len },
            { value ? value : "", value ? value_len : 0 } };
    head->field_count++;
    return MHD_YES;
}

/* Up to 0.9.76 the library keeps the head as it came, in one piece from the method on, with a NUL written over
 * each separator: one over a bare line feed, two over CR LF. So the head is walked from part to part; anything but
 * the one canonical shape (a second space, a folded line, a bare line feed, a NUL inside) makes the parts stand
 * elsewhere. Later versions refuse these on their own when they are asked for discipline. */
static bool head_is_strict(const char *begin, size_t bytes, const nigh_exchange *x, const char *version,
    const nigh_head *head) {
    const char *p = begin + head->method.len + 1, *end = begin + bytes;
    static const char line_end[2];
    if (MHD_VERSION > 0x00097600) return true;
    if (head->field_count > NIGH_GUARD_FIELDS_MAX) return true;     /* refused for that */
    if (p != x->target_at) return false;
    p += x->target_len + 1;
    if (p != version) return false;
    p += head->version.len;
    if (end - p < 2 || memcmp(p, line_end, 2) != 0) return false;
    p += 2;
    for (size_t i = 0; i < head->field_count; i++) {
        const nigh_field *f = &head->fields[i];
        if (p != f->name.ptr) return false;
        p += f->name.len + 1;
        while (p < end && (*p == ' ' || *p == '\t')) p++;
        if (p != f->value.ptr) return false;
        p += f->value.len;
        if (end - p < 2 || memcmp(p, line_end, 2) != 0) return false;
        p += 2;
    }
    return end - p == 2 && memcmp(p, line_end, 2) == 0;
}

static nigh_verdict check_head(nigh_exchange *x, struct MHD_Connection *c, const char *method, const char *version) {
    nigh_head head = { .method = nigh_str_of(method), .version = nigh_str_of(version),
        .target = { x->target, x->target_len } };
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    head.bytes = info ? info->header_size : 0;
    (void)MHD_get_connection_values_n(c, MHD_HEADER_KIND, collect_field, &head);
    if (!head_is_strict(method, head.bytes, x, version, &head))
        return (nigh_verdict){ 400, true, "malformed_request",
            "the head is not written as RFC 9112 says (line ends, folded lines or spaces)" };
    return nigh_guard_head(&head, &x->facts);
}

/* ---- admission ---- */

/* Is `host` the very address that this connection came in by? A page of a foreign name cannot say it. */
static bool is_own_address(const nigh_conn *conn, nigh_str host) {
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    char name[64], text[80], port[8];
    if (getsockname(conn->fd, (struct sockaddr *)&a, &len) != 0) return false;
    if (getnameinfo((struct sockaddr *)&a, len, name, sizeof name, port, sizeof port,
        NI_NUMERICHOST | NI_NUMERICSERV) != 0) return false;
    nigh_format(text, sizeof text, a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", name, port);
    return nigh_str_eq(host, nigh_str_of(text));
}

static bool route_fits(const nigh_route *r, nigh_str path) {
    nigh_str pattern = nigh_str_of(r->path);
    if (!nigh_str_ends(pattern, NIGH_STR("/*"))) return nigh_str_eq(path, pattern);
    return path.len >= pattern.len && nigh_str_starts(path, nigh_str_slice(pattern, 0, pattern.len - 1));
}

/* The route of method and path; *other is set when the path has only other methods. */
static const nigh_route *find_route(const nigh_http *h, nigh_str method, nigh_str path, bool *other) {
    if (nigh_str_eq(method, NIGH_STR("HEAD"))) method = NIGH_STR("GET");
    *other = false;
    for (size_t i = 0; i < h->opts.route_count; i++) {
        const nigh_route *r = &h->opts.routes[i];
        if (!route_fits(r, path)) continue;
        if (nigh_str_eq(nigh_str_of(r->method), method)) return r;
        *other = true;
    }
    return NULL;
}

static bool has_key(nigh_exchange *x) {
    const nigh_keys *keys = x->http->opts.keys;
    nigh_str bearer = nigh_keys_bearer(x->facts.authorization), plain = x->facts.api_key;
    if (nigh_peer_is_token(bearer) && x->http->opts.peers && !plain.len) {
        /* A token is bound to a body, and to this one path: who takes it away can do nothing else with it. */
        if (!nigh_str_ends(nigh_str_of(x->facts.path), NIGH_STR("/chat/completions"))) return false;
        x->peer = nigh_peers_admit(x->http->opts.peers, bearer, nigh_os_unix_ms(), &x->asked.key_idx);
        return x->peer != NULL;
    }
    if (!keys || !keys->count) return true;
    if (!bearer.len && !plain.len) return false;
    /* two keys: both must be good; whose request it is, the first says */
    x->asked.key_idx = nigh_keys_find(keys, bearer.len ? bearer : plain);
    return x->asked.key_idx != SIZE_MAX && (!bearer.len || !plain.len || nigh_keys_match(keys, plain));
}

static nigh_verdict check_place(nigh_exchange *x, const nigh_conn *conn) {
    const nigh_facts *f = &x->facts;
    nigh_http *h = x->http;
    if (!nigh_hosts_has(&h->hosts, f->host) && !is_own_address(conn, f->host))
        return (nigh_verdict){ 421, true, "unknown_host",
            "this node does not answer to that host name; --allow-host adds one" };
    x->origin = nigh_guard_origin(&h->hosts, &h->opts.origins, f->origin);
    if (x->origin == NIGH_ORIGIN_FOREIGN)
        return (nigh_verdict){ 403, true, "foreign_origin",
            "pages of that origin may not call this node; --allow-origin adds one" };
    bool opened = x->route && x->route->page && nigh_str_eq(f->fetch_mode, NIGH_STR("navigate"));
    if (nigh_str_eq(f->fetch_site, NIGH_STR("cross-site")) && x->origin != NIGH_ORIGIN_LISTED && !opened)
        return (nigh_verdict){ 403, true, "cross_site",
            "another site may not call this node; --allow-origin adds one" };
    return (nigh_verdict){ 0 };
}

static nigh_verdict admit(nigh_exchange *x, const nigh_conn *conn, nigh_str method) {
    const nigh_facts *f = &x->facts;
    bool other;
    x->route = find_route(x->http, method, nigh_str_of(f->path), &other);
    nigh_verdict v = check_place(x, conn);
    if (v.status) return v;
    if (nigh_str_eq(method, NIGH_STR("OPTIONS"))) return (nigh_verdict){ 204, false, NULL, NULL };
    if (!(x->route && x->route->open) && !has_key(x))
        return (nigh_verdict){ 401, false, "invalid_api_key", "a key is needed: Authorization: Bearer KEY" };
    if (!x->route)
        return other ? (nigh_verdict){ 405, false, "method_not_allowed", "this path does not take that method" }
            : (nigh_verdict){ 404, false, "unknown_path", "there is nothing at this path" };
    if (atomic_load(&x->http->draining)) return (nigh_verdict){ 503, true, "stopping", "the node is stopping" };
    if (f->content_bytes > x->route->body_max)
        return (nigh_verdict){ 413, false, "body_too_large", x->route->body_max
            ? "the body is larger than this path takes" : "this path takes no body" };
    if (f->chunked && !x->route->body_max)
        return (nigh_verdict){ 413, true, "body_too_large", "this path takes no body" };
    if (x->route->body_max && !nigh_guard_is_json(f->content_type))
        return (nigh_verdict){ 415, false, "unsupported_media_type", "the body must be application/json" };
    return (nigh_verdict){ 0 };
}

static void refuse_now(nigh_exchange *x) {
    const nigh_verdict *v = &x->refusal;
    x->close |= v->close;
    if (v->status == 405) nigh_exchange_header(x, "Allow", "GET, HEAD, POST, DELETE, OPTIONS");
    if (v->status == 401) nigh_exchange_header(x, "WWW-Authenticate", "Bearer");
    if (v->status == 204) nigh_exchange_reply(x, 204, "", NIGH_STR(""));
    else nigh_exchange_error(x, v->status, v->code, NULL, v->text);
}

static void take_request_id(nigh_exchange *x) {
    nigh_str id = x->facts.request_id;
    if (id.len < 1 || id.len > 64) return;
    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i], l = (char)(c | 32);
        if (!((l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-')) return;
    }
    memcpy(x->id, id.ptr, id.len);
    x->id[id.len] = '\0';
}

/* Copies what the head says of the asker: the head itself does not live as long as the work. */
static nigh_verdict take_asked(nigh_exchange *x) {
    const nigh_facts *f = &x->facts;
    nigh_asked *a = &x->asked;
    const struct { nigh_str from; char *to; size_t cap; } parts[] = {
        { f->feature, a->feature, sizeof a->feature }, { f->data_class, a->data_class, sizeof a->data_class },
        { f->user, a->user, sizeof a->user },
        { f->idempotency_key, a->idempotency_key, sizeof a->idempotency_key } };
    for (size_t i = 0; i < NIGH_COUNT(parts); i++) {
        if (parts[i].from.len >= parts[i].cap)
            return (nigh_verdict){ 400, false, "field_too_long",
                "one of x-feature, x-data-class, x-nigh-user and idempotency-key is too long" };
        if (parts[i].from.len) memcpy(parts[i].to, parts[i].from.ptr, parts[i].from.len);
    }
    return (nigh_verdict){ 0 };
}

/* How far away the client is, by the ranges of RFC 1122, 1918, 3927, 4193 and 4291. */
static const char *client_class(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *peer = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = peer ? peer->client_addr : NULL;
    if (a && a->sa_family == AF_INET) {
        uint32_t v = ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr);
        if (v >> 24 == 127) return "loopback";
        return v >> 24 == 10 || v >> 20 == 0xac1 || v >> 16 == 0xc0a8 || v >> 16 == 0xa9fe ? "private" : "public";
    }
    if (!a || a->sa_family != AF_INET6) return "public";
    const uint8_t *v = ((const struct sockaddr_in6 *)(const void *)a)->sin6_addr.s6_addr;
    if (IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)(const void *)v)) return "loopback";
    return (v[0] & 0xfe) == 0xfc || (v[0] == 0xfe && (v[1] & 0xc0) == 0x80) ? "private" : "public";
}

static enum MHD_Result first_call(nigh_exchange *x, struct MHD_Connection *c, const char *method, const char *version) {
    nigh_conn *conn = conn_of(c);
    if (!conn || !enter_phase(x->http, conn, PHASE_BODY, NULL)) return MHD_NO;
    x->client = client_class(c);
    x->seen = true;
    x->start_ns = nigh_os_now_ns();
    x->refusal = check_head(x, c, method, version);
    take_request_id(x);
    if (!x->refusal.status) x->refusal = admit(x, conn, nigh_str_of(method));
    if (!x->refusal.status) x->refusal = take_asked(x);
    x->close = x->facts.chunked;
    x->body = NIGH_BUF(x->route ? x->route->body_max : 0);
    if (!x->refusal.status) return MHD_YES;
    bool has_body = x->facts.content_bytes || x->facts.chunked;
    if (!x->refusal.close && (!has_body || (!x->facts.chunked && !x->facts.expects_continue
        && x->facts.content_bytes <= DRAIN_BYTES_MAX))) return MHD_YES;
    x->refusal.close = true;
    refuse_now(x);
    return nigh_exchange_answer(x, c);
}

/* ---- the body and the handler ---- */

static enum MHD_Result body_call(nigh_exchange *x, const char *bytes, size_t *count) {
    nigh_str piece = { bytes, *count };
    nigh_http *h = x->http;
    *count = 0;
    if (x->refusal.status) {            /* thrown away, but not for ever */
        x->facts.content_bytes += piece.len;
        return x->facts.content_bytes > DISCARD_FACTOR * (uint64_t)nigh_max(x->body.limit, DRAIN_BYTES_MAX)
            ? MHD_NO : MHD_YES;
    }
    if (atomic_fetch_add(&h->upload_bytes, piece.len) + piece.len > h->opts.uploads_bytes_max) {
        atomic_fetch_sub(&h->upload_bytes, piece.len);
        x->refusal = (nigh_verdict){ 503, true, "busy", "too many bytes are on their way at once" };
        return MHD_YES;
    }
    nigh_status added = nigh_buf_add(&x->body, piece);
    if (added == NIGH_OK) return MHD_YES;
    atomic_fetch_sub(&h->upload_bytes, piece.len);
    x->refusal = added == NIGH_ERANGE ? (nigh_verdict){ 413, true, "body_too_large",
        "the body is larger than this path takes" } : (nigh_verdict){ 503, true, "no_memory", "not enough memory" };
    x->facts.content_bytes = x->body.len;
    return MHD_YES;
}

/* Of a sealed body what it held. */
static void open_body(nigh_exchange *x) {
    size_t sealed = x->body.len;
    if (nigh_peer_open(x->peer, &x->body) == NIGH_OK)
        atomic_fetch_sub(&x->http->upload_bytes, sealed - x->body.len);
    else x->refusal = (nigh_verdict){ 401, false, "invalid_peer", "the body is not the one that was signed, or not for "
        "this node" };
}

static enum MHD_Result last_call(nigh_exchange *x, struct MHD_Connection *c) {
    nigh_conn *conn = conn_of(c);
    if (!x->started) {
        x->started = true;
        atomic_fetch_add(&x->http->busy, 1);
        if (!conn || !enter_phase(x->http, conn, PHASE_WORK, x)) return MHD_NO;
        if (x->peer && x->route->body_max && !x->refusal.status) open_body(x);
        if (x->refusal.status) refuse_now(x);
        else x->route->run(x->http->opts.ud, x);
    }
    return nigh_exchange_answer(x, c);
}

static enum MHD_Result on_request(void *ud, struct MHD_Connection *c, const char *url, const char *method,
    const char *version,
                                  const char *upload, size_t *upload_bytes, void **req) {
    nigh_exchange *x = *req;
    (void)ud;
    (void)url;
    if (!x) return MHD_NO;
    if (!x->seen) return first_call(x, c, method, version);
    if (*upload_bytes) return body_call(x, upload, upload_bytes);
    return last_call(x, c);
}

static void on_completed(void *ud, struct MHD_Connection *c, void **req, enum MHD_RequestTerminationCode why) {
    nigh_http *h = ud;
    nigh_exchange *x = *req;
    nigh_conn *conn = conn_of(c);
    (void)why;
    if (!x) return;
    *req = NULL;
    if (conn) (void)enter_phase(h, conn, PHASE_IDLE, NULL);
    nigh_exchange_leave(x);             /* nothing more can be sent; whoever still works on it may stop */
    if (x->started) atomic_fetch_sub(&h->busy, 1);
    nigh_exchange_release(x);
}

/* ---- the server ---- */

bool nigh_http_is_loopback(const char *host) {
    struct in6_addr a6;
    struct in_addr a4;
    if (strcmp(host, "localhost") == 0) return true;
    if (inet_pton(AF_INET, host, &a4) == 1) return ntohl(a4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &a6) == 1 && IN6_IS_ADDR_LOOPBACK(&a6);
}

static nigh_status listen_on(const char *host, uint16_t port, int *out, uint16_t *bound, nigh_err *err) {
    struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    const char *text = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    bool is4 = inet_pton(AF_INET, text, &a4.sin_addr) == 1;
    if (!is4 && inet_pton(AF_INET6, text, &a6.sin6_addr) != 1)
        return nigh_fail(err, NIGH_EINVAL, 0, "--host wants a numeric address, e.g. 127.0.0.1, 0.0.0.0 or ::1");
    int fd = socket(is4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0) return nigh_fail(err, NIGH_EIO, 0, "no socket can be had");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (!is4) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    const struct sockaddr *a = is4 ? (const struct sockaddr *)&a4 : (const struct sockaddr *)&a6;
    if (bind(fd, a, is4 ? sizeof a4 : sizeof a6) != 0 || listen(fd, BACKLOG) != 0) {
        close(fd);
        return nigh_failf(err, NIGH_EIO, 0, "port %u of %s cannot be taken; is another node running there?",
            (unsigned)port, host);
    }
    struct sockaddr_storage got;
    socklen_t len = sizeof got;
    if (getsockname(fd, (struct sockaddr *)&got, &len) != 0) { close(fd); return nigh_fail(err, NIGH_EIO, 0,
        "the socket has no address"); }
    *bound = ntohs(got.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&got)->sin6_port
        : ((struct sockaddr_in *)&got)->sin_port);
    *out = fd;
    return NIGH_OK;
}

static nigh_status own_names(nigh_http *h, nigh_err *err) {
    static const char *const loopback[] = { "127.0.0.1", "localhost", "[::1]" };
    for (size_t i = 0; i < NIGH_COUNT(loopback); i++)
        NIGH_TRY(nigh_hosts_add(&h->hosts, nigh_str_of(loopback[i]), h->port, err));
    for (size_t i = 0; i < h->opts.hosts.count; i++)
        NIGH_TRY(nigh_hosts_add(&h->hosts, nigh_str_of(h->opts.hosts.names[i]), h->port, err));
    return NIGH_OK;
}

/* A connection is a file, and so is the one to another place that its answer may come from. Raises what this process
 * may have open, also beyond the hard limit where that is allowed (root). How many it may have then; 0: not known. */
static rlim_t allow_files(rlim_t wanted) {
    struct rlimit files, more;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) return 0;
    if (files.rlim_cur >= wanted) return files.rlim_cur;
    more = (struct rlimit){ wanted, files.rlim_max < wanted ? wanted : files.rlim_max };
    if (setrlimit(RLIMIT_NOFILE, &more) == 0) return wanted;
    files.rlim_cur = files.rlim_max < wanted ? files.rlim_max : wanted;
    return setrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : 0;
}

/* A number that was asked for holds, or it is an error; the default is what there is. */
static nigh_status allow_connections(nigh_http *h, nigh_err *err) {
    nigh_http_opts *o = &h->opts;
    bool asked = o->connections_max != 0;
    if (!asked) o->connections_max = CONNECTIONS_MAX;
    rlim_t wanted = 2 * (rlim_t)o->connections_max + FILES_BESIDE, files = allow_files(asked ? wanted : 65536);
    if (asked && files && files < wanted)
        return nigh_failf(err, NIGH_ERANGE, 0, "%u connections want %llu open files, the system allows %llu (ulimit "
            "-Hn): that is enough for %llu", o->connections_max, (unsigned long long)wanted, (unsigned long long)files,
            (unsigned long long)(files > FILES_BESIDE ? (files - FILES_BESIDE) / 2 : 0));
    if (files > 64 && o->connections_max > files - 64) o->connections_max = (unsigned)files - 64;
    h->files = files && files < FILES_MOST ? (size_t)files : FILES_MOST;
    h->left = nigh_alloc(1, h->files);
    h->leaving = epoll_create1(EPOLL_CLOEXEC);
    if (!h->left) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the server");
    if (h->leaving < 0) return nigh_fail(err, NIGH_EIO, 0, "no more files can be opened");
    if (!o->per_address_max) o->per_address_max = (unsigned)nigh_max(o->connections_max / 4, 1024);
    return NIGH_OK;
}

static void fill_defaults(nigh_http_opts *o) {
    if (!o->head_ms) o->head_ms = 10000;
    if (!o->body_ms) o->body_ms = 60000;
    if (!o->idle_ms) o->idle_ms = 75000;
    if (!o->uploads_bytes_max) o->uploads_bytes_max = 64u << 20;
}

static struct MHD_Daemon *make_daemon(nigh_http *h, int fd) {
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    struct MHD_OptionItem options[] = {
        { MHD_OPTION_LISTEN_SOCKET, fd, NULL }, { MHD_OPTION_CONNECTION_LIMIT, (intptr_t)h->opts.connections_max,
            NULL },
        { MHD_OPTION_PER_IP_CONNECTION_LIMIT, (intptr_t)h->opts.per_address_max, NULL },
            { MHD_OPTION_CONNECTION_TIMEOUT, SILENT_S, NULL },
        { MHD_OPTION_CONNECTION_MEMORY_LIMIT, POOL_BYTES, NULL },
            { MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)leave_escaped, NULL },
        { MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, h },
            { MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, h },
        { MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_target, h }, { MHD_OPTION_END, 0, NULL } };
    return MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

/* ---- the socket thread ---- */

static _Thread_local const nigh_http *mine;

static void look_around(nigh_http *h) {
    uint64_t one = 1;
    if (h->event >= 0) (void)!write(h->event, &one, sizeof one);
}

/* The library has a wake-up of its own, but not where it is driven by another's loop. */
void nigh_http_wake(nigh_http *h) {
    if (!atomic_exchange(&h->woken, true) && mine != h) look_around(h);
}

static bool watch(nigh_http *h, int fd) {
    struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };
    return epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

/* Milliseconds until the library or the guest wants a turn. *now: the library wants one at once. */
static int wait_ms(const nigh_http *h, bool *now) {
    const nigh_http_guest *g = &h->opts.guest;
    unsigned long long ms = 0, most = 60000;
    if (MHD_get_timeout(h->daemon, &ms) != MHD_YES) ms = most;
    if (atomic_load(&h->woken)) ms = 0;
    *now = ms == 0;
    uint64_t due = g->turn ? g->due_ns(g->ud) : UINT64_MAX, at = due == UINT64_MAX ? 0 : nigh_os_now_ns();
    if (due != UINT64_MAX) most = due <= at ? 0 : nigh_min((due - at + 999999) / 1000000, most);
    return (int)(ms < most ? ms : most);
}

/* Once more when it wants that: after an answer it looks whether the next request is there already. */
static void run_library(nigh_http *h) {
    unsigned long long ms = 1;
    atomic_store(&h->woken, false);
    MHD_run(h->daemon);
    if (MHD_get_timeout(h->daemon, &ms) == MHD_YES && ms == 0) MHD_run(h->daemon);
}

/* Requests in; what they want of other places out; what comes from there in, and out to the clients. The library is
 * left alone when only the guest has something. */
static void *socket_thread(void *ud) {
    nigh_http *h = ud;
    const nigh_http_guest *g = &h->opts.guest;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct epoll_event ready[4];
    mine = h;
    while (!atomic_load(&h->ending)) {
        bool web, guest = false;
        int ms = wait_ms(h, &web), n = epoll_wait(h->epoll, ready, (int)NIGH_COUNT(ready), ms);
        web |= n <= 0;
        for (int i = 0; i < n; i++) {
            web |= ready[i].data.fd == info->epoll_fd;
            guest |= ready[i].data.fd == g->fd;
        }
        if (atomic_load(&h->draining) && !h->quiet) {
            MHD_socket fd = MHD_quiesce_daemon(h->daemon);
            if (fd != MHD_INVALID_SOCKET) close(fd);
            h->quiet = true;
        }
        if (web) run_library(h);
        if (g->turn) g->turn(g->ud, guest);
        if (atomic_load(&h->woken)) run_library(h);
    }
    return NULL;
}

/* The listening socket is the daemon's from here on, also when this fails later. */
static nigh_status start_thread(nigh_http *h, int *fd, nigh_err *err) {
    h->epoll = epoll_create1(EPOLL_CLOEXEC);
    h->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->epoll < 0 || h->event < 0) return nigh_fail(err, NIGH_EIO, 0, "no more files can be opened");
    h->daemon = make_daemon(h, *fd);
    if (!h->daemon) return nigh_fail(err, NIGH_EIO, 0, "the HTTP server does not start");
    *fd = -1;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct epoll_event edge = { .events = EPOLLIN | EPOLLET, .data.fd = h->event };
    bool good = info && watch(h, info->epoll_fd) && epoll_ctl(h->epoll, EPOLL_CTL_ADD, h->event, &edge) == 0;
    if (good && h->opts.guest.turn) good = watch(h, h->opts.guest.fd);
    if (good) h->thread_runs = pthread_create(&h->thread, NULL, socket_thread, h) == 0;
    return h->thread_runs ? NIGH_OK : nigh_fail(err, NIGH_EIO, 0, "no thread can be had");
}

/* Nothing of it is used any more. */
static void release(nigh_http *h) {
    atomic_store(&h->ending, true);
    look_around(h);
    if (h->thread_runs) pthread_join(h->thread, NULL);
    if (h->daemon) MHD_stop_daemon(h->daemon);
    if (h->epoll >= 0) close(h->epoll);
    if (h->event >= 0) close(h->event);
    if (h->leaving >= 0) close(h->leaving);
    nigh_free(h->left);
    pthread_cond_destroy(&h->wake);
    pthread_mutex_destroy(&h->lock);
    nigh_free(h);
}

nigh_status nigh_http_open(nigh_http **out, const nigh_http_opts *o, nigh_err *err) {
    int fd = -1;
    pthread_condattr_t clock;
    if (!nigh_http_is_loopback(o->host) && (!o->keys || !o->keys->count))
        return nigh_failf(err, NIGH_EAUTH, 0,
            "%s can be reached from other machines, so a key is needed; make one with: nigh serve --new-key", o->host);
    nigh_http *h = nigh_alloc(sizeof *h, 1);
    if (!h) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the server");
    h->opts = *o;
    h->epoll = h->event = h->leaving = -1;
    fill_defaults(&h->opts);
    pthread_mutex_init(&h->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&h->wake, &clock);
    pthread_condattr_destroy(&clock);
    nigh_status status = allow_connections(h, err);
    if (status == NIGH_OK) status = listen_on(o->host, o->port, &fd, &h->port, err);
    if (status == NIGH_OK) status = own_names(h, err);
    if (status == NIGH_OK) status = start_thread(h, &fd, err);
    if (status == NIGH_OK && pthread_create(&h->watcher, NULL, nigh_http_watch, h) != 0)
        status = nigh_fail(err, NIGH_EIO, 0, "no thread can be had");
    if (status == NIGH_OK) { *out = h; return NIGH_OK; }
    if (fd >= 0) close(fd);
    release(h);
    return status;
}

uint16_t nigh_http_port(const nigh_http *h) { return h->port; }
unsigned nigh_http_connections(const nigh_http *h) { return atomic_load(&h->conn_count); }
unsigned nigh_http_busy(nigh_http *h) { return atomic_load(&h->busy); }

void nigh_http_drain(nigh_http *h) {
    if (!atomic_exchange(&h->draining, true)) look_around(h);
}

/* Tells every exchange at work that its time is over, and answers what nobody answered: nothing may be suspended
 * when the daemon stops. */
static void end_exchanges(nigh_http *h) {
    pthread_mutex_lock(&h->lock);
    for (nigh_conn *c = h->conns; c; c = c->next) {
        if (!c->x) continue;
        nigh_exchange_error(c->x, 503, "stopping", NULL, "the node is stopping");
        nigh_exchange_end(c->x);
        atomic_store(&c->x->gone, true);
    }
    pthread_mutex_unlock(&h->lock);
}

void nigh_http_close(nigh_http *h) {
    if (!h) return;
    nigh_http_drain(h);
    end_exchanges(h);
    for (int i = 0; i < 100 && nigh_http_busy(h); i++) usleep(5000);
    end_exchanges(h);
    atomic_store(&h->stopping, true);
    pthread_mutex_lock(&h->lock);
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->watcher, NULL);
    release(h);
}
