/* bench_limits.c - what this machine could do at most: CSV on stdout, one row for 1 thread and one for all.
 *
 *     read     10^9 bytes a second, read forward from 256 MiB on pages of 2 MiB (no cache holds them)
 *     int8     10^9 multiplications and additions a second of bytes into int32, all in registers
 *     f32      the same of floats, product and sum rounded apart, as the contract of the arithmetic asks
 *
 * The best of some passes. The arithmetic uses the widest of AVX-512 with VNNI and AVX2 that the machine has (the
 * instruction set stands in the row), and is left out on other machines. The intrinsics stay in this file: no
 * program has them.
 *
 * usage: bench_limits [threads]      0 or nothing: one a core */
#define _POSIX_C_SOURCE 199309L

#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "base/pool.h"

enum { PASSES = 8, CHUNK_BYTES = 1 << 20, LINES_AHEAD = 32, STEPS = 1 << 20, SUMS = 16 };
#define READ_BYTES ((size_t)256 << 20)

typedef struct { const uint8_t *bytes; uint64_t sums[256]; } read_job;
typedef struct { double ops; nigh_pool_fn *fn; const char *name; } arithmetic;

static double seconds_since(uint64_t begin_ns) { return (double)(nigh_os_now_ns() - begin_ns) / 1e9; }

static void read_chunks(void *ud, size_t worker, size_t begin, size_t end) {
    read_job *job = ud;
    const uint64_t *p = (const uint64_t *)(const void *)(job->bytes + begin * CHUNK_BYTES);
    uint64_t a[8] = { 0 };
    for (size_t i = 0; i < (end - begin) * CHUNK_BYTES / sizeof *p; i += 8) {
        __builtin_prefetch(p + i + (size_t)LINES_AHEAD * 8, 0, 3);
        for (size_t n = 0; n < 8; n++) a[n] += p[i + n];
    }
    for (size_t n = 0; n < 8; n++) job->sums[worker] += a[n];
}

#if defined(__x86_64__)
#include <immintrin.h>

/* The compiler may not know what a sum holds, so it can neither leave the loop out nor compute it beforehand. The sums
 * have names of their own because an array of them would stay in memory. */
#define HIDE(x) __asm__ volatile("" : "+v"(x))
#define ALL(X) X(s0) X(s1) X(s2) X(s3) X(s4) X(s5) X(s6) X(s7) X(s8) X(s9) X(s10) X(s11) \
               X(s12) X(s13) X(s14) X(s15)
#define REPEAT(X) for (size_t i = 0; i < (end - begin) * STEPS; i++) { ALL(X) }

#define BEGIN(s) __m512i s = _mm512_set1_epi32((int)w);
#define STEP(s) s = _mm512_dpbusd_epi32(s, a, b); HIDE(s);
__attribute__((target("avx512f,avx512vnni"))) static void int8_avx512(void *ud, size_t w, size_t begin, size_t end) {
    __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-5);
    ALL(BEGIN)
    REPEAT(STEP)
    (void)ud;
}
#undef BEGIN
#undef STEP

#define BEGIN(s) __m512 s = _mm512_set1_ps((float)w);
#define STEP(s) s = _mm512_add_ps(_mm512_mul_ps(s, a), b); HIDE(s);
__attribute__((target("avx512f"))) static void f32_avx512(void *ud, size_t w, size_t begin, size_t end) {
    __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.25f);
    ALL(BEGIN)
    REPEAT(STEP)
    (void)ud;
}
#undef BEGIN
#undef STEP

/* Without VNNI: bytes to pairs of 16 bits (they saturate, so a product has to be kept small), to 32 bits, added. */
#define BEGIN(s) __m256i s = _mm256_set1_epi32((int)w);
#define STEP(s) pairs = _mm256_maddubs_epi16(a, b); HIDE(pairs); \
    s = _mm256_add_epi32(s, _mm256_madd_epi16(pairs, one)); HIDE(s);
__attribute__((target("avx2"))) static void int8_avx2(void *ud, size_t w, size_t begin, size_t end) {
    __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(-5), one = _mm256_set1_epi16(1), pairs;
    ALL(BEGIN)
    REPEAT(STEP)
    (void)ud;
}
#undef BEGIN
#undef STEP

#define BEGIN(s) __m256 s = _mm256_set1_ps((float)w);
#define STEP(s) s = _mm256_add_ps(_mm256_mul_ps(s, a), b); HIDE(s);
__attribute__((target("avx2"))) static void f32_avx2(void *ud, size_t w, size_t begin, size_t end) {
    __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.25f);
    ALL(BEGIN)
    REPEAT(STEP)
    (void)ud;
}

static arithmetic find_int8(void) {
    if (__builtin_cpu_supports("avx512vnni")) return (arithmetic){ 128, int8_avx512, "avx512vnni" };
    if (__builtin_cpu_supports("avx2")) return (arithmetic){ 64, int8_avx2, "avx2" };
    return (arithmetic){ 0 };
}

static arithmetic find_f32(void) {
    if (__builtin_cpu_supports("avx512f")) return (arithmetic){ 32, f32_avx512, "avx512" };
    if (__builtin_cpu_supports("avx2")) return (arithmetic){ 16, f32_avx2, "avx2" };
    return (arithmetic){ 0 };
}
#else
static arithmetic find_int8(void) { return (arithmetic){ 0 }; }
static arithmetic find_f32(void) { return (arithmetic){ 0 }; }
#endif

static void say_read(nigh_pool *pool, const uint8_t *bytes) {
    static read_job job;
    double best = 0;
    job.bytes = bytes;
    for (int pass = 0; pass < PASSES; pass++) {
        uint64_t begin = nigh_os_now_ns();
        nigh_pool_run(pool, read_chunks, &job, READ_BYTES / CHUNK_BYTES, 1);
        double rate = (double)READ_BYTES / 1e9 / seconds_since(begin);
        best = rate > best ? rate : best;
    }
    printf("read,,%zu,%.2f,GB/s\n", nigh_pool_size(pool), best);
}

static void say_arithmetic(nigh_pool *pool, const char *what, arithmetic a) {
    size_t parts = 8 * nigh_pool_size(pool);
    double best = 0;
    if (!a.fn) return;
    for (int pass = 0; pass < PASSES; pass++) {
        uint64_t begin = nigh_os_now_ns();
        nigh_pool_run(pool, a.fn, NULL, parts, 1);
        double rate = a.ops * SUMS * STEPS * (double)parts / 1e9 / seconds_since(begin);
        best = rate > best ? rate : best;
    }
    printf("%s,%s,%zu,%.1f,Gop/s\n", what, a.name, nigh_pool_size(pool), best);
}

int main(int argc, char **argv) {
    size_t all = argc > 1 ? (size_t)atoi(argv[1]) : 0;
    uint8_t *bytes = nigh_os_pages_take(READ_BYTES);
    if (!bytes) return 1;
    for (size_t i = 0; i < READ_BYTES; i += 64) bytes[i] = (uint8_t)i;
    if (all == 0) all = nigh_os_cpu_count();
    printf("what,isa,threads,rate,unit\n");
    for (size_t threads = 1; threads <= all; threads += nigh_max(all - 1, 1)) {
        nigh_pool *pool = nigh_pool_new(threads);
        if (!pool) return 1;
        say_read(pool, bytes);
        say_arithmetic(pool, "int8", find_int8());
        say_arithmetic(pool, "f32", find_f32());
        nigh_pool_free(pool);
    }
    nigh_os_pages_give(bytes, READ_BYTES);
    return 0;
}
