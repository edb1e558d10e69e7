/* bench_matrix.c - what each matrix of a model costs, as CSV: `make bench-matrix ARGS="MODEL [threads] [isa] [type]"`.
 *
 * Takes from the file only the shapes: one line for each type and size that occurs, with random packed weights in a
 * memory that no cache holds.
 *
 *     stream    one token: GB/s of packed weights, chunks of a few groups, the threads meet once at the end
 *     share     of plain reading of the same chunks by the same threads
 *     meeting   the same, but the threads meet after each matrix, as they do in a model
 *     us        of one such matrix
 *     prompt    512 tokens: 10^9 multiplications and additions a second
 *     pack      GB/s of the file's form into the packed one
 *
 * The last line adds up what a token would take. One thread is timed by its own processor time. */
#define _POSIX_C_SOURCE 199309L

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/os.h"
#include "base/pool.h"
#include "engine/gguf.h"
#include "kernel/kernel.h"

enum { TOKENS = 512, PROMPT_ROWS = 2048, SHAPES_MAX = 64, ROUNDS = 7 };
#define ARENA_BYTES ((size_t)256 << 20)

static clockid_t clock_used = CLOCK_THREAD_CPUTIME_ID;

static double now(void) {
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct { nigh_type type; size_t rows, cols, count; } shape;

typedef struct {
    const nigh_kernels *k;
    nigh_pool *pool;
    nigh_mat m;
    size_t groups, copies, first;       /* first: copy that a meeting run works on */
    nigh_acts acts;
    float *out;
    uint8_t *arena, *file;
    uint64_t sink;
} job;

static void fill(uint8_t *p, size_t n, bool is_float) {
    uint64_t s = 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;        /* no NaN and no subnormal number: those are slow */
        p[i] = is_float || i % 2 ? 0x3c : (uint8_t)s;
    }
}

/* ---- one token ---- */

static void run_stream(void *ud, size_t worker, size_t begin, size_t end) {
    job *j = ud;
    (void)worker;
    while (begin < end) {
        size_t copy = begin / j->groups, from = begin % j->groups, count = nigh_min(end - begin, j->groups - from);
        nigh_mat m = j->m;
        m.data += (j->first + copy) * j->groups * m.group_bytes;
        j->k->matmul(&m, &j->acts, j->out, m.rows, from, from + count);
        begin += count;
    }
}

static void run_read(void *ud, size_t worker, size_t begin, size_t end) {
    job *j = ud;
    uint64_t s[8] = { 0 };
    (void)worker;
    const uint64_t *p = (const uint64_t *)(const void *)(j->arena + begin * j->m.group_bytes);
    for (size_t i = 0; i < (end - begin) * j->m.group_bytes / 64; i++) {
        __builtin_prefetch(p + 8 * i + 512);
        for (size_t n = 0; n < 8; n++) s[n] += p[8 * i + n];
    }
    __atomic_fetch_add(&j->sink, s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7], __ATOMIC_RELAXED);
}

static double stream(job *j, nigh_pool_fn *fn, size_t grain) {
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        double start = now();
        j->first = 0;
        nigh_pool_run(j->pool, fn, j, j->copies * j->groups, grain);
        double took = now() - start;
        best = took < best ? took : best;
    }
    return best / (double)j->copies;
}

static double meeting(job *j, size_t grain) {
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        double start = now();
        for (j->first = 0; j->first < j->copies; j->first++) nigh_pool_run(j->pool, run_stream, j, j->groups, grain);
        double took = now() - start;
        best = took < best ? took : best;
    }
    return best / (double)j->copies;
}

/* ---- many tokens, packing ---- */

static double prompt(job *j) {
    double best = 1e9;
    size_t groups = nigh_min(j->groups, PROMPT_ROWS / NIGH_ROWS);
    j->first = 0;
    for (int i = 0; i < 3; i++) {
        double start = now();
        nigh_pool_run(j->pool, run_stream, j, groups, 4);
        double took = now() - start;
        best = took < best ? took : best;
    }
    return 2.0 * (double)nigh_min(j->m.rows, groups * NIGH_ROWS) * (double)j->m.cols * TOKENS / best;
}

static void run_pack(void *ud, size_t worker, size_t begin, size_t end) {
    job *j = ud;
    (void)worker;
    for (size_t g = begin; g < end; g++)
        nigh_mat_pack(j->m.type, j->m.rows, j->m.cols, j->file, g, j->arena + g * j->m.group_bytes);
}

static double pack(job *j) {
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        double start = now();
        nigh_pool_run(j->pool, run_pack, j, j->groups, 4);
        double took = now() - start;
        best = took < best ? took : best;
    }
    return (double)j->groups * (double)j->m.group_bytes / best;
}

/* ---- one shape ---- */

static double measure(job *j, const shape *s) {
    bool is_float = nigh_type_find(s->type)->block_values == 1;
    j->m = (nigh_mat){ s->type, s->rows, s->cols, nigh_mat_group_bytes(s->type, s->cols), j->arena };
    j->groups = (s->rows + NIGH_ROWS - 1) / NIGH_ROWS;
    size_t bytes = j->groups * j->m.group_bytes, grain = nigh_max(1, (64u << 10) / j->m.group_bytes);
    grain = nigh_max(1, nigh_min(grain, j->groups / (4 * nigh_pool_size(j->pool))));
    j->copies = ARENA_BYTES / bytes;
    fill(j->arena, ARENA_BYTES, is_float);
    j->acts.cols = s->cols;
    j->acts.count = 1;
    j->k->quantize(&j->acts, 0, 1);
    double flow = stream(j, run_stream, grain), plain = stream(j, run_read, grain), met = meeting(j, grain);
    j->acts.count = TOKENS;
    j->k->quantize(&j->acts, 0, TOKENS);
    double many = prompt(j), packed = pack(j);
    printf("%s,%zu,%zu,%zu,%.2f,%.2f,%.2f,%.1f,%.1f,%.2f\n", nigh_type_name(s->type), s->rows, s->cols, s->count,
           (double)bytes / flow * 1e-9, plain / flow, (double)bytes / met * 1e-9, met * 1e6, many * 1e-9,
           packed * 1e-9);
    fflush(stdout);
    return flow * (double)s->count;
}

static size_t shapes_of(const nigh_gguf *g, shape *shapes) {
    size_t n = 0;
    bool apart = nigh_gguf_tensor_find(g, NIGH_STR("output.weight")) != NULL;
    for (size_t i = 0; i < g->tensor_count; i++) {
        const nigh_gguf_tensor *t = &g->tensors[i];
        size_t k = 0;
        if (t->dim_count != 2 || (apart && nigh_str_eq(t->name, NIGH_STR("token_embd.weight")))) continue;
        shape s = { t->type, t->dims[1], t->dims[0], 1 };
        while (k < n && (shapes[k].type != s.type || shapes[k].rows != s.rows || shapes[k].cols != s.cols)) k++;
        if (k < n) shapes[k].count++;
        else if (n < SHAPES_MAX) shapes[n++] = s;
    }
    return n;
}

int main(int argc, char **argv) {
    nigh_file file;
    nigh_gguf g;
    nigh_kernels k;
    shape shapes[SHAPES_MAX];
    unsigned cpu = ~0u;
    if (argc < 2 || nigh_file_open(&file, argv[1], NULL) != NIGH_OK
        || nigh_gguf_parse(&g, file.bytes, NULL) != NIGH_OK) {
        fprintf(stderr, "usage: bench_matrix MODEL [threads] [isa] [type]\n");
        return 1;
    }
    if (argc > 3 && !nigh_cpu_parse(nigh_str_of(argv[3]), &cpu)) return 1;
    nigh_kernels_init(&k, cpu & nigh_cpu_detect());
    size_t count = shapes_of(&g, shapes), cols = 0, rows = 0;
    for (size_t i = 0; i < count; i++) {
        cols = nigh_max(cols, shapes[i].cols);
        rows = nigh_max(rows, shapes[i].rows);
    }
    job j = { .k = &k, .pool = nigh_pool_new(argc > 2 ? (size_t)atoi(argv[2]) : 1) };
    if (nigh_pool_size(j.pool) > 1) clock_used = CLOCK_MONOTONIC;
    float *x = nigh_alloc(TOKENS * cols, sizeof *x);
    for (size_t i = 0; i < TOKENS * cols; i++) x[i] = (float)(rand() % 2001 - 1000) * 1e-3f;
    j.acts = (nigh_acts){ .x = x,
                          .q = nigh_alloc(TOKENS * cols, 1),
                          .scale = nigh_alloc(TOKENS * cols / 32, sizeof(float)),
                          .sum = nigh_alloc(TOKENS * cols / 16, sizeof(int32_t)) };
    j.out = nigh_alloc(nigh_max(rows, PROMPT_ROWS * TOKENS) + TOKENS * rows, sizeof *j.out);
    j.arena = nigh_os_pages_take(ARENA_BYTES);
    j.file = nigh_os_pages_take(ARENA_BYTES);
    fill(j.file, ARENA_BYTES, false);
    printf("type,rows,cols,count,stream GB/s,share,meeting GB/s,us,prompt Gop/s,pack GB/s\n");
    double total = 0;
    for (size_t i = 0; i < count; i++)
        if (argc <= 4 || !strcmp(argv[4], nigh_type_name(shapes[i].type))) total += measure(&j, &shapes[i]);
    printf("# %s, %zu threads: all matrices of a token %.3f ms\n", k.name, nigh_pool_size(j.pool), total * 1e3);
    return 0;
}
