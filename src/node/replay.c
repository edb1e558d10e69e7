/* replay.c - see replay.h. The node listens on a free port of this machine for as long as one request takes.
 * Left out of the body: `model`, because the file is named by its hash, and `stream`, because the same words come in
 * one piece then. */
#define _GNU_SOURCE
#include "node/replay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/request.h"

enum { ANSWER_MAX = 64 << 20, BODY_MAX = 64 << 20 };

static nigh_status make_body(nigh_buf *out, const nigh_json *request) {
    static const char *const left_out[] = { "model", "stream", "stream_options" };
    bool first = true;
    NIGH_TRY(nigh_buf_add_char(out, '{'));
    for (const nigh_json *v = nigh_json_first(request); v; v = v->next) {
        bool skip = false;
        for (size_t i = 0; i < NIGH_COUNT(left_out); i++) skip |= nigh_str_eq(v->key, nigh_str_of(left_out[i]));
        if (skip) continue;
        if (!first) NIGH_TRY(nigh_buf_add_char(out, ','));
        first = false;
        NIGH_TRY(nigh_json_add_string(out, v->key));
        NIGH_TRY(nigh_buf_add_char(out, ':'));
        NIGH_TRY(nigh_json_add_value(out, v));
    }
    return nigh_buf_add_char(out, '}');
}

/* Only what is decided by the request alone can be made again. */
static nigh_status check_body(nigh_task task, nigh_str body, nigh_err *err) {
    nigh_request r;
    nigh_refusal why = { 0 };
    nigh_status status = nigh_request_parse(&r, task, body, &why);
    if (status != NIGH_OK) return nigh_failf(err, NIGH_EINVAL, 0, "the request: %s", why.text);
    bool drawn = r.temperature > 0 && r.top_p > 0 && r.top_k != 1;
    status = !drawn || r.has_seed ? NIGH_OK
        : nigh_failf(err, NIGH_EINVAL, 0, "the answer was drawn at random (temperature %.2f) without a seed: it "
                                          "cannot be "
                     "made again; send a seed, or temperature 0", r.temperature);
    nigh_request_release(&r);
    return status;
}

static bool send_all(int fd, nigh_str bytes) {
    while (bytes.len) {
        ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes.ptr += n;
        bytes.len -= (size_t)n;
    }
    return true;
}

static nigh_status receive_all(int fd, nigh_buf *out) {
    char piece[16384];
    for (;;) {
        ssize_t n = recv(fd, piece, sizeof piece, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return NIGH_EIO;
        if (n == 0) return NIGH_OK;
        NIGH_TRY(nigh_buf_add(out, (nigh_str){ piece, (size_t)n }));
    }
}

static nigh_status exchange(uint16_t port, nigh_str path, nigh_str body, nigh_buf *out) {
    char head[512];
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port),
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    size_t n = nigh_format(head, sizeof head, "POST %.*s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: close\r\n"
                           "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", (int)path.len, path.ptr,
                               port,
                           body.len);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return NIGH_EIO;
    nigh_status status = NIGH_EIO;
    if (connect(fd, (const struct sockaddr *)&at, sizeof at) == 0 && send_all(fd, (nigh_str){ head, n })
        && send_all(fd, body))
        status = receive_all(fd, out);
    close(fd);
    return status;
}

/* The body of an answer with status 200; of another one what it says. */
static nigh_status read_answer(nigh_str all, nigh_buf *out, nigh_err *err) {
    size_t cut = nigh_str_find(all, NIGH_STR("\r\n\r\n"), 0);
    if (!nigh_str_starts(all, NIGH_STR("HTTP/1.1 ")) || cut == SIZE_MAX)
        return nigh_fail(err, NIGH_EIO, 0, "the node that was to answer again did not");
    nigh_str body = nigh_str_slice(all, cut + 4, all.len);
    if (nigh_str_starts(all, NIGH_STR("HTTP/1.1 200 "))) return nigh_buf_add(out, body);
    return nigh_failf(err, NIGH_EINVAL, 0, "the node refuses to answer again: %.*s", (int)nigh_min(body.len, 180),
                      body.ptr);
}

static nigh_status ask_again(nigh_node *n, nigh_str path, nigh_str body, nigh_buf *out, nigh_err *err) {
    nigh_buf all = NIGH_BUF(ANSWER_MAX);
    nigh_status status = exchange(nigh_node_port(n), path, body, &all);
    if (status == NIGH_OK) status = read_answer(nigh_buf_str(&all), out, err);
    else nigh_fail(err, status, 0, "the node that was to answer again did not");
    nigh_buf_release(&all);
    return status;
}

nigh_status nigh_replay(nigh_buf *out, const nigh_replay_opts *o, nigh_err *err) {
    bool chat = nigh_str_ends(o->path, NIGH_STR("/chat/completions"));
    nigh_str path = chat ? NIGH_STR("/v1/chat/completions") : NIGH_STR("/v1/completions");
    nigh_buf body = NIGH_BUF(BODY_MAX);
    nigh_node *n = NULL;
    const char *models[] = { o->model };
    if (!nigh_str_ends(o->path, NIGH_STR("/completions")))
        return nigh_fail(err, NIGH_EINVAL, 0, "only /v1/chat/completions and /v1/completions can be asked again");
    if (!o->request || o->request->type != NIGH_JSON_OBJECT)
        return nigh_fail(err, NIGH_EINVAL, 0, "the request is no JSON object");
    nigh_node_opts no = { .models = models, .model_count = 1, .host = "127.0.0.1", .cpu = o->cpu, .threads = o->threads,
                          .context_tokens = o->context_tokens, .cache = o->cache };
    nigh_status status = make_body(&body, o->request);
    if (status == NIGH_OK)
        status = check_body(chat ? NIGH_TASK_CHAT : NIGH_TASK_COMPLETION, nigh_buf_str(&body), err);
    if (status == NIGH_OK) status = nigh_node_open(&n, &no, err);
    if (status == NIGH_OK) {
        status = ask_again(n, path, nigh_buf_str(&body), out, err);
        nigh_node_close(n, 1000);
    }
    nigh_buf_release(&body);
    return status;
}
