/* stand_in.h - a provider for benchmarks: a process of its own that answers every request at once with the same short
 * stream, or holds it open. What is measured beside it is ours. Included by bench programs only. */
#ifndef NIGH_BENCH_STAND_IN_H
#define NIGH_BENCH_STAND_IN_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK(delta, finish) \
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\"," \
    "\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":" finish "}]}\n\n"
#define HEAD \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nx-request-id: r1\r\n\r\n"
#define EVENTS \
    CHUNK("{\"role\":\"assistant\",\"content\":\"Hello\"}", "null") \
    CHUNK("{\"content\":\" world\"}", "null") CHUNK("{}", "\"stop\"") "data: [DONE]\n\n"
#define ASK \
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Summarise this mail in one sentence, " \
    "please.\"}]}"

#define FIRST CHUNK("{\"role\":\"assistant\",\"content\":\"Hello\"}", "null")

/* What it answers, whole; stand_in_open writes it. */
static char stand_in_answer[2048];

/* An epoll loop that answers each request whose body is there. */
static void stand_in_serve(int listener) {
    int ep = epoll_create1(0);
    struct epoll_event e = { .events = EPOLLIN, .data.fd = listener }, ready[256];
    char in[16384];
    size_t len = strlen(stand_in_answer);
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(ep, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            if (ready[i].data.fd == listener) {
                e.data.fd = accept(listener, NULL, NULL);
                if (e.data.fd >= 0) epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e);
                continue;
            }
            ssize_t got = read(ready[i].data.fd, in, sizeof in);    /* a request is small: it comes whole */
            if (got <= 0) close(ready[i].data.fd);
            else if (write(ready[i].data.fd, stand_in_answer, len) < 0) close(ready[i].data.fd);
        }
    }
}

/* hold: of each answer the head and the first event are sent, and no more. The caller ends the process. */
static pid_t stand_in_open(int *port, bool hold) {
    snprintf(stand_in_answer, sizeof stand_in_answer, "%s%zx\r\n%s\r\n%s", HEAD, hold ? strlen(FIRST) : strlen(EVENTS),
        hold ? FIRST : EVENTS, hold ? "" : "0\r\n\r\n");
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096) || getsockname(fd, (struct sockaddr *)&a, &len))
        exit(1);
    *port = ntohs(a.sin_port);
    pid_t pid = fork();
    if (pid == 0) stand_in_serve(fd);
    close(fd);
    return pid;
}

#endif
