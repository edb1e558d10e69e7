/* program.h - runs the program itself: build/nigh of the same lane as the test. */
#ifndef NIGH_PROGRAM_H
#define NIGH_PROGRAM_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    int code;
    size_t len;
    char *text;
} program_result;   /* text: of stdout, terminated */

/* The path of nigh: beside the folder "tests" in which this test lies. */
static inline const char *program_path(void) {
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 16);
    path[n > 0 ? n : 0] = '\0';
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(path, '/');
        if (slash) *slash = '\0';
    }
    snprintf(path + strlen(path), 16, "/nigh");
    return path;
}

/* Runs a shell command, made like printf from words of the test itself. The caller frees the text. */
__attribute__((format(printf, 1, 2))) static inline program_result program_run(const char *fmt, ...) {
    char command[8192];
    program_result r = { -1, 0, calloc(1, 1 << 20) };
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    int ends[2], status = 0;
    if (!r.text || pipe(ends) != 0) return r;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t n; child > 0 && (n = read(ends[0], r.text + r.len, ((size_t)1 << 20) - 1 - r.len)) > 0;)
        r.len += (size_t)n;
    close(ends[0]);
    r.text[r.len] = '\0';
    if (child > 0 && waitpid(child, &status, 0) == child)
        r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return r;
}

#endif
