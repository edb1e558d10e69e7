/* bench_kernel.c - how fast the kernels are on this machine: `make bench-kernel`, CSV on stdout.
 *
 *     decode   one token: GB/s of packed weights read from memory (64 MB or more, so no cache helps)
 *     prompt   64 tokens: 10^9 multiplications and additions a second
 *     attend   10^9 multiplications and additions a second, 1 token and a prompt
 *     quantize ns for a block of 32 activations
 *     read     plain reading of the same memory, the ceiling for decode
 *
 * usage: bench_kernel [threads] [type] [isa]     threads 1, all types and all sets by default */
#define _POSIX_C_SOURCE 199309L

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/os.h"
#include "base/pool.h"
#include "kernel/kernel.h"

enum { COLS = 1536, ROWS_DECODE = 49152, ROWS_PROMPT = 1536, TOKENS = 64 };

/* One thread is timed by its own processor time, so that other programs disturb it less; several by the clock. */
static clockid_t clock_used = CLOCK_THREAD_CPUTIME_ID;

static double now(void) {
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
    const nigh_kernels *k;
    const nigh_mat *m;
    const nigh_acts *a;
    float *out;
    uint64_t sink;
} job;

static void run_matmul(void *ud, size_t worker, size_t begin, size_t end) {
    job *j = ud;
    (void)worker;
    j->k->matmul(j->m, j->a, j->out, j->m->rows, begin, end);
}

static void run_read(void *ud, size_t worker, size_t begin, size_t end) {
    job *j = ud;
    uint64_t s[8] = { 0 };
    (void)worker;
    const uint64_t *p = (const uint64_t *)(const void *)(j->m->data + begin * j->m->group_bytes);
    for (size_t i = 0; i < (end - begin) * j->m->group_bytes / 64; i++) {
        __builtin_prefetch(p + 8 * i + 512);
        for (size_t n = 0; n < 8; n++) s[n] += p[8 * i + n];
    }
    __atomic_fetch_add(&j->sink, s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7], __ATOMIC_RELAXED);
}

/* The best of a few runs: the machine has other work. */
static double best_of(nigh_pool *pool, nigh_pool_fn *fn, job *j, size_t groups, size_t grain) {
    double best = 1e9;
    for (int i = 0; i < 15; i++) {
        double start = now();
        nigh_pool_run(pool, fn, j, groups, grain);
        double took = now() - start;
        best = took < best ? took : best;
    }
    return best;
}

static nigh_acts acts_new(size_t count) {
    nigh_acts a = { .cols = COLS, .count = count };
    float *x = nigh_alloc(count * COLS, sizeof *x);
    for (size_t i = 0; i < count * COLS; i++) x[i] = (float)(rand() % 2001 - 1000) * 1e-3f;
    a.x = x;
    a.q = nigh_alloc(count * COLS, 1);
    a.scale = nigh_alloc(count * COLS / 32, sizeof *a.scale);
    a.sum = nigh_alloc(count * COLS / 16, sizeof *a.sum);
    return a;
}

static void bench_type(const nigh_kernels *k, nigh_pool *pool, nigh_type type, uint8_t *memory, float *out) {
    nigh_mat m = { type, ROWS_DECODE, COLS, nigh_mat_group_bytes(type, COLS), memory };
    size_t threads = nigh_pool_size(pool), groups = ROWS_DECODE / NIGH_ROWS, bytes = groups * m.group_bytes;
    bool is_float = nigh_type_find(type)->block_values == 1;
    /* No NaN and no subnormal number: those are slow. */
    for (size_t i = 0; i < bytes; i++) memory[i] = (uint8_t)(is_float ? 0x3c : i % 61 + 1);
    nigh_acts one = acts_new(1), many = acts_new(TOKENS);
    k->quantize(&one, 0, 1);
    k->quantize(&many, 0, TOKENS);
    job j = { k, &m, &one, out, 0 };
    bool slow = k->name[0] == 's';
    if (!slow) {
        double took = best_of(pool, run_matmul, &j, groups, 8), plain = best_of(pool, run_read, &j, groups, 8);
        printf("decode,%s,%s,%zu,%.2f,GB/s,%.2f\n", nigh_type_name(type), k->name, threads,
               (double)bytes / took * 1e-9, plain / took);
    }
    m.rows = slow ? 256 : ROWS_PROMPT;
    j.a = &many;
    double took = best_of(pool, run_matmul, &j, m.rows / NIGH_ROWS, 4);
    printf("prompt,%s,%s,%zu,%.1f,Gop/s,\n", nigh_type_name(type), k->name, threads,
           2e-9 * (double)m.rows * COLS * TOKENS / took);
    fflush(stdout);
    nigh_free((void *)(uintptr_t)one.x), nigh_free(one.q), nigh_free(one.scale), nigh_free(one.sum);
    nigh_free((void *)(uintptr_t)many.x), nigh_free(many.q), nigh_free(many.scale), nigh_free(many.sum);
}

/* Rounding activations: ns for a block of 32, 64 tokens of 1,536, near the processor. */
static void bench_quantize(const nigh_kernels *k) {
    nigh_acts a = acts_new(TOKENS);
    double best = 1e9;
    for (int i = 0; i < 50; i++) {
        double start = now();
        k->quantize(&a, 0, TOKENS);
        double took = now() - start;
        best = took < best ? took : best;
    }
    printf("quantize,,%s,1,%.2f,ns a block,\n", k->name, best * 1e9 / (TOKENS * COLS / 32));
    nigh_free((void *)(uintptr_t)a.x), nigh_free(a.q), nigh_free(a.scale), nigh_free(a.sum);
}

typedef struct { const nigh_kernels *k; nigh_attn a; float *part, *state; size_t blocks; } attend_job;

static void attend_once(attend_job *j) {
    memset(j->state, 0, 2 * nigh_attn_padded(j->a.count) * sizeof *j->state);
    j->k->round_queries(&j->a);
    for (size_t b = 0; b < j->blocks; b++) {
        j->k->attend(&j->a, b, j->part);
        j->k->fold(&j->a, j->part, j->state);
    }
}

/* One K/V head of 64, 3 query heads; the cache is in the processor's caches. */
static void bench_attend(const nigh_kernels *k, nigh_type type, size_t tokens, size_t keys) {
    enum { DIM = 64, HEADS = 3 };
    size_t count = tokens * HEADS, stride = 2 * nigh_kv_half_bytes(type, DIM),
           blocks = (keys + NIGH_KV_BLOCK - 1) / NIGH_KV_BLOCK;
    uint8_t *cache = nigh_alloc(blocks, stride);
    float *q = nigh_alloc(count * DIM, sizeof *q), *out = nigh_alloc(count * DIM, sizeof *out);
    attend_job j = { .k = k, .part = nigh_alloc(nigh_attn_part(count, DIM), 4),
                     .state = nigh_alloc(2 * nigh_attn_padded(count), 4), .blocks = blocks };
    const float **qs = nigh_alloc(count, sizeof *qs);
    float **outs = nigh_alloc(count, sizeof *outs);
    uint32_t *begin = nigh_alloc(count, sizeof *begin), *end = nigh_alloc(count, sizeof *end);
    for (size_t i = 0; i < count * DIM; i++) q[i] = (float)(rand() % 2001 - 1000) * 1e-3f;
    for (size_t i = 0; i < keys; i++)
        nigh_kv_store(type, cache + i / NIGH_KV_BLOCK * stride, DIM, i % NIGH_KV_BLOCK, q + i % count * DIM, q);
    double work = 0;
    for (size_t i = 0; i < count; i++) {
        qs[i] = q + i * DIM;
        outs[i] = out + i * DIM;
        end[i] = (uint32_t)(keys - tokens + i / HEADS + 1);
        work += 4e-9 * DIM * end[i];
    }
    j.a = (nigh_attn){ .count = count, .head_dim = DIM, .q = qs, .out = outs, .begin = begin, .end = end, .type = type,
                       .blocks = cache, .block_stride = stride,
                       .scratch = nigh_alloc(nigh_attn_scratch(count, DIM), 4),
                       .rounded = nigh_alloc(nigh_attn_rounded(count, DIM), 4) };
    double best = 1e9;
    for (int i = 0; i < 7; i++) {
        double start = now();
        for (int n = 0; n < 10; n++) attend_once(&j);
        double took = (now() - start) / 10;
        best = took < best ? took : best;
    }
    printf("attend,%zu tokens %zu keys %s,%s,1,%.1f,Gop/s,\n", tokens, keys, nigh_type_name(type), k->name,
           work / best);
    void *all[] = { cache, q, out, (void *)qs, (void *)outs, begin, end, j.part, j.state, j.a.scratch,
                    j.a.rounded };
    for (size_t i = 0; i < NIGH_COUNT(all); i++) nigh_free(all[i]);
}

static void bench_attends(const nigh_kernels *k) {
    static const nigh_type types[] = { NIGH_TYPE_F32, NIGH_TYPE_F16, NIGH_TYPE_I16, NIGH_TYPE_Q8_0 };
    for (size_t i = 0; i < NIGH_COUNT(types); i++) {
        bench_attend(k, types[i], 1, 512);
        bench_attend(k, types[i], 21, 512);
        bench_attend(k, types[i], 21, 2048);
    }
}

int main(int argc, char **argv) {
    size_t threads = argc > 1 ? (size_t)atoi(argv[1]) : 1;
    static const char *const names[] = { "amx", "avx512", "avx2", "dotprod", "neon", "scalar" };
    nigh_pool *pool = nigh_pool_new(threads);
    if (threads > 1) clock_used = CLOCK_MONOTONIC;
    size_t most = 0;
    for (uint32_t id = 0; id < 64; id++)
        if (nigh_type_find(id)) most = nigh_max(most, nigh_mat_group_bytes((nigh_type)id, COLS));
    size_t bytes = ROWS_DECODE / NIGH_ROWS * most;
    uint8_t *memory = nigh_os_pages_take(bytes);
    float *out = nigh_alloc(ROWS_DECODE * TOKENS, sizeof *out);
    if (!pool || !memory || !out) return 1;
    printf("what,type,isa,threads,rate,unit,share of plain reading\n");
    for (size_t n = 0; n < NIGH_COUNT(names); n++) {
        unsigned cpu = 0;
        nigh_cpu_parse(nigh_str_of(names[n]), &cpu);
        nigh_kernels k;
        nigh_kernels_init(&k, cpu & nigh_cpu_detect());
        if (strcmp(k.name, names[n]) || (argc > 3 && strcmp(argv[3], names[n]))) continue;
        for (uint32_t id = 0; id < 64; id++)
            if (nigh_type_find(id) && (argc <= 2 || !strcmp(argv[2], "all") || !strcmp(argv[2], nigh_type_name(id))))
                bench_type(&k, pool, (nigh_type)id, memory, out);
        bench_quantize(&k);
        bench_attends(&k);
    }
    nigh_pool_free(pool);
    nigh_os_pages_give(memory, bytes);
    nigh_free(out);
    return 0;
}
