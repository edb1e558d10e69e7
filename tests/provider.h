/* provider.h - tests/web/provider.mjs as a child of a C test: a provider of answers that misbehaves on demand. */
#ifndef NIGH_TEST_PROVIDER_H
#define NIGH_TEST_PROVIDER_H

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "test.h"

extern char **environ;

typedef struct { pid_t pid; int in, port; } provider;

/* cert, key: files of a TLS server; NULL: plain. False: there is no node, or the script does not start. */
static inline bool provider_start(provider *p, const char *cert, const char *key) {
    char *plain[] = { (char *)"node", (char *)"tests/web/provider.mjs", NULL };
    char *tls[] = { (char *)"node", (char *)"tests/web/provider.mjs", (char *)"--cert", (char *)(uintptr_t)cert,
        (char *)"--key", (char *)(uintptr_t)key, NULL };
    int in[2], out[2];
    posix_spawn_file_actions_t files;
    *p = (provider){ .in = -1 };
    if (pipe(in) || pipe(out)) return false;
    fcntl(in[1], F_SETFD, FD_CLOEXEC);
    fcntl(out[0], F_SETFD, FD_CLOEXEC);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in[0], 0);
    posix_spawn_file_actions_adddup2(&files, out[1], 1);
    posix_spawn_file_actions_addclose(&files, in[0]);
    posix_spawn_file_actions_addclose(&files, out[1]);
    bool ok = posix_spawnp(&p->pid, "node", &files, NULL, cert ? tls : plain, environ) == 0;
    posix_spawn_file_actions_destroy(&files);
    close(in[0]);
    close(out[1]);
    char line[64] = "";
    size_t len = 0;
    while (ok && len < sizeof line - 1 && read(out[0], line + len, 1) == 1 && line[len] != '\n') len++;
    close(out[0]);
    p->in = in[1];
    p->port = strncmp(line, "listening on ", 13) == 0 ? (int)strtol(line + 13, NULL, 10) : 0;
    return ok && p->port > 0;
}

static inline void provider_stop(provider *p) {
    if (p->in >= 0) close(p->in);       /* it ends when its input does */
    if (p->pid > 0) {
        kill(p->pid, SIGTERM);
        waitpid(p->pid, NULL, 0);
    }
    *p = (provider){ .in = -1 };
}

#endif
