/* test_gemm.c - every kind of product against the plain one: odd sizes, both orders, guard values around the
 * output. */
#include <math.h>
#include <time.h>

#include "kernel/gemm.h"
#include "test.h"

enum { GUARD = 8 };

static float frand(uint64_t *s) { return (float)((double)(test_rand(s) >> 11) / 9007199254740992.0 - 0.5); }

static void check_one(nigh_gemm_kind kind, size_t m, size_t n, size_t k, unsigned form, uint64_t seed) {
    nigh_gemm_fn *fn = nigh_gemm_find(kind);
    float *a = nigh_alloc(m * k, 4), *b = nigh_alloc(n * k, 4);
    size_t row = n + GUARD;
    float *want = nigh_alloc(m * row, 4), *got = nigh_alloc(m * row, 4);
    void *scratch = nigh_alloc(1, NIGH_GEMM_SCRATCH);
    for (size_t i = 0; i < m * k; i++) a[i] = frand(&seed);
    for (size_t i = 0; i < n * k; i++) b[i] = frand(&seed);
    for (size_t i = 0; i < m * row; i++) want[i] = got[i] = frand(&seed);
    nigh_view va = form & 1 ? nigh_turned(a, m) : nigh_rows(a, k),
        vb = form & 2 ? nigh_turned(b, k) : nigh_rows(b, n);
    nigh_gemm_plain(m, n, k, va, vb, want, row, form & 4, scratch);
    fn(m, n, k, va, vb, got, row, form & 4, scratch);
    double worst = 0;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < row; j++) {
            double d = fabs((double)want[i * row + j] - (double)got[i * row + j]);
            if (j >= n) CHECK(d == 0);
            else if (d > worst) worst = d;
        }
    double bound = kind == NIGH_GEMM_BF16 ? 0.25 / 128 * sqrt((double)k) + 1e-6 : 1e-5 * sqrt((double)k);
    CHECK_MSG(worst <= bound, "%s %zux%zux%zu form %u: off by %g, bound %g", nigh_gemm_name(kind), m, n, k,
        form, worst, bound);
    nigh_free(a); nigh_free(b); nigh_free(want); nigh_free(got); nigh_free(scratch);
}

static void check_kind(nigh_gemm_kind kind) {
    static const size_t sizes[][3] = { { 1, 1, 1 }, { 12, 32, 2 }, { 13, 33, 3 }, { 5, 17, 31 },
        { 25, 70, 257 }, { 24, 64, 256 }, { 7, 530, 40 }, { 530, 9, 33 }, { 31, 16, 600 } };
    if (!nigh_gemm_find(kind)) TEST_SKIP("this processor lacks it");
    for (size_t i = 0; i < NIGH_COUNT(sizes); i++)
        for (unsigned form = 0; form < 8; form++)
            check_one(kind, sizes[i][0], sizes[i][1], sizes[i][2], form, test_seed() + i);
}

static void test_fma(void) { check_kind(NIGH_GEMM_FMA); }
static void test_avx512(void) { check_kind(NIGH_GEMM_AVX512); }
static void test_bf16(void) { check_kind(NIGH_GEMM_BF16); }

/* Not a check: prints the rate of each kind on the shapes of training, when NIGH_RATE is set. */
static void test_rate(void) {
    if (!getenv("NIGH_RATE")) TEST_SKIP("set NIGH_RATE=1 to print Gflop/s");
    static const size_t sizes[][3] = { { 1024, 512, 256 }, { 1024, 256, 512 }, { 512, 256, 1024 },
        { 512, 4096, 256 }, { 128, 512, 32 }, { 128, 32, 512 } };
    float *a = nigh_alloc(1u << 22, 4), *b = nigh_alloc(1u << 22, 4), *c = nigh_alloc(1u << 22, 4);
    void *scratch = nigh_alloc(1, NIGH_GEMM_SCRATCH);
    uint64_t seed = 1;
    for (size_t i = 0; i < 1u << 22; i++) { a[i] = frand(&seed); b[i] = frand(&seed); }
    for (int kind = NIGH_GEMM_FMA; kind <= NIGH_GEMM_BF16; kind++) {
        nigh_gemm_fn *fn = nigh_gemm_find((nigh_gemm_kind)kind);
        for (size_t i = 0; fn && i < NIGH_COUNT(sizes); i++) for (unsigned form = 0; form < 4; form++) {
            size_t m = sizes[i][0], n = sizes[i][1], k = sizes[i][2], reps = 2000000000 / (2 * m * n * k) + 1;
            clock_t start = clock();
            for (size_t r = 0; r < reps; r++)
                fn(m, n, k, form & 1 ? nigh_turned(a, m) : nigh_rows(a, k),
                    form & 2 ? nigh_turned(b, k) : nigh_rows(b, n), c, n, true, scratch);
            double s = (double)(clock() - start) / CLOCKS_PER_SEC;
            printf("%s %zux%zux%zu form %u: %.1f Gflop/s\n", nigh_gemm_name((nigh_gemm_kind)kind), m, n, k,
                form, 2e-9 * (double)(m * n * k * reps) / s);
        }
    }
    nigh_free(a); nigh_free(b); nigh_free(c); nigh_free(scratch);
}

TEST_MAIN(T(test_fma), T(test_avx512), T(test_bf16), T(test_rate))
