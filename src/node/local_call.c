/* local_call.c - see local_call.h. The connection is closed behind the answer, so its end is the answer's. */
#define _GNU_SOURCE
#include "node/local_call.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool send_all(int fd, nigh_str bytes) {
    while (bytes.len) {
        ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes = nigh_str_slice(bytes, (size_t)n, bytes.len);
    }
    return true;
}

static bool receive_all(int fd, nigh_buf *out) {
    for (;;) {
        char piece[16384];
        ssize_t n = recv(fd, piece, sizeof piece, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n == 0;
        if (nigh_buf_add(out, (nigh_str){ piece, (size_t)n }) != NIGH_OK) return false;
    }
}

/* The digits behind "HTTP/1.1 "; the head is taken away. 0: this is no answer. */
static int read_head(nigh_buf *answer) {
    nigh_str all = nigh_buf_str(answer);
    size_t end = nigh_str_find(all, NIGH_STR("\r\n\r\n"), 0);
    int64_t status;
    if (end == SIZE_MAX || !nigh_str_starts(all, NIGH_STR("HTTP/1.1 "))
        || !nigh_str_to_i64(nigh_str_slice(all, 9, 12), &status) || status < 100) return 0;
    answer->len -= end + 4;
    memmove(answer->ptr, answer->ptr + end + 4, answer->len);
    return (int)status;
}

nigh_status nigh_local_call(const nigh_local_ask *a, int *status, nigh_buf *answer, nigh_err *err) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(a->port),
        .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct timeval limit = { .tv_sec = a->wait_s };
    char head[1024];
    answer->len = 0;
    size_t n = nigh_format(head, sizeof head, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: close\r\n"
        "Content-Type: application/json\r\nContent-Length: %zu\r\n%s%s%s%s%s%s%s\r\n", a->path, a->port, a->body.len,
        a->key ? "Authorization: Bearer " : "", a->key ? a->key : "", a->key ? "\r\n" : "",
        a->field ? a->field : "", a->field ? ": " : "", a->field ? a->value : "", a->field ? "\r\n" : "");
    if (n >= sizeof head) return nigh_fail(err, NIGH_EINVAL, 0, "a field of the request is too long");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return nigh_failf(err, NIGH_EIO, 0, "no socket can be had: %s", strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    bool there = connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
    bool whole = there && send_all(fd, (nigh_str){ head, n }) && send_all(fd, a->body) && receive_all(fd, answer);
    close(fd);
    if (!there) return nigh_failf(err, NIGH_ENOENT, 0, "no node listens at 127.0.0.1:%u", a->port);
    *status = whole ? read_head(answer) : 0;
    if (*status) return NIGH_OK;
    return nigh_failf(err, NIGH_EIO, 0, "what listens at 127.0.0.1:%u gave no whole answer", a->port);
}
