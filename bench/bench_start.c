/* bench_start.c - how long a user waits for the first token: `make bench-start ARGS="FILE.gguf..."`.
 *
 * Starts `nigh run FILE -p Hello -n 1 -q` and takes the time, from before the process is made, until the first byte
 * comes from it (the token) and until it has ended. One start before, which is not counted, brings the file into the
 * page cache. Prints CSV, milliseconds as median and best; peak_mb and faults are the system's, of the same runs.
 *
 *     -r N    counted starts of each file, 7
 *     -w S    seconds to wait before each start, 0. Linux gives memory that is free for two seconds back to the host
 *             where it is a guest that reports it; then the start pays for getting it again.
 *     -t N    threads
 *
 * NIGH names the program (build/nigh). */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS_MAX = 100 };

typedef struct { double first_ms[ROUNDS_MAX], end_ms[ROUNDS_MAX], peak_mb; long faults; } figures;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void become(const char *program, const char *file, const char *threads, int out) {
    dup2(out, STDOUT_FILENO);
    if (threads) execl(program, program, "run", file, "-p", "Hello", "-n", "1", "-q", "-t", threads, (char *)NULL);
    else execl(program, program, "run", file, "-p", "Hello", "-n", "1", "-q", (char *)NULL);
    _exit(127);
}

/* One start; false when the program failed. */
static int start(const char *program, const char *file, const char *threads, figures *f, int i) {
    int ends[2], status = 0;
    char bytes[256];
    struct rusage used;
    if (pipe(ends) != 0) return 0;
    double begin = now_ms();
    pid_t child = vfork();
    if (child == 0) become(program, file, threads, ends[1]);
    close(ends[1]);
    ssize_t got = read(ends[0], bytes, sizeof bytes);
    f->first_ms[i] = now_ms() - begin;
    while (got > 0) got = read(ends[0], bytes, sizeof bytes);
    close(ends[0]);
    if (child < 0 || wait4(child, &status, 0, &used) != child) return 0;
    f->end_ms[i] = now_ms() - begin;
    double peak = (double)used.ru_maxrss * 1024 / 1e6;
    f->peak_mb = peak > f->peak_mb ? peak : f->peak_mb;
    f->faults = used.ru_minflt;
    return status == 0;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(const char *program, const char *file, const char *threads, int rounds, unsigned rest) {
    static figures f;
    struct stat st;
    memset(&f, 0, sizeof f);
    const char *name = strrchr(file, '/');
    if (stat(file, &st) != 0 || !start(program, file, threads, &f, 0)) {
        fprintf(stderr, "%s: %s run failed\n", file, program);
        return 0;
    }
    for (int i = 0; i < rounds; i++) {
        if (rest) sleep(rest);
        if (!start(program, file, threads, &f, i)) return 0;
    }
    qsort(f.first_ms, (size_t)rounds, sizeof *f.first_ms, by_size);
    qsort(f.end_ms, (size_t)rounds, sizeof *f.end_ms, by_size);
    printf("%s,%.1f,%u,%d,%.1f,%.1f,%.1f,%.1f,%.1f,%ld\n", name ? name + 1 : file, (double)st.st_size / 1e6, rest,
           rounds, f.first_ms[rounds / 2], f.first_ms[0], f.end_ms[rounds / 2], f.end_ms[0], f.peak_mb, f.faults);
    fflush(stdout);
    return 1;
}

int main(int argc, char **argv) {
    const char *program = getenv("NIGH"), *threads = NULL;
    int rounds = 7, rest = 0, option, ok = 1;
    while ((option = getopt(argc, argv, "r:w:t:")) != -1) {
        if (option == 'r') rounds = atoi(optarg);
        else if (option == 'w') rest = atoi(optarg);
        else if (option == 't') threads = optarg;
        else return 1;
    }
    if (optind == argc || rounds < 1 || rounds > ROUNDS_MAX || rest < 0) {
        fprintf(stderr, "usage: bench_start [-r 1..%d] [-w SECONDS] [-t THREADS] FILE.gguf...\n", ROUNDS_MAX);
        return 1;
    }
    printf("file,mb,rest_s,starts,first_ms,first_best_ms,end_ms,end_best_ms,peak_mb,faults\n");
    for (int i = optind; i < argc && ok; i++)
        ok = measure(program ? program : "build/nigh", argv[i], threads, rounds, (unsigned)rest);
    return !ok;
}
