/* test_amx.c - the emulator of the AMX instructions against the manual's words, and on a processor that has them
 * against the processor: each case runs the real instructions, and the emulator catches what is not there. That the
 * products of kernel_amx.c equal plain C is in test_kernel.c. */
#define _GNU_SOURCE
#include "test.h"

#if defined(__x86_64__)

#include <sys/wait.h>

#include "amx_emulator.h"
#include "kernel/kernel.h"

static bool emulated;
static void prepare(void) {
    emulated = !(nigh_cpu_detect() & NIGH_CPU_AMX);
    if (emulated) amx_emulate();
}

static void load_config(const amx_config *g) { __asm__ volatile("ldtilecfg %0" : : "m"(*g)); }
static amx_config store_config(void) {
    amx_config g;
    memset(&g, 0xee, sizeof g);
    __asm__ volatile("sttilecfg %0" : "=m"(g));
    return g;
}
static void release(void) { __asm__ volatile("tilerelease"); }

enum { ROWS = 5, DEEP = 7, WIDE = 11 };         /* C is 5 x 11, A 5 x 28 bytes, B 7 x 11 x 4 bytes */
static const amx_config odd = {
    .palette = 1, .row_bytes = { 4 * WIDE, 4 * DEEP, 4 * WIDE }, .rows = { ROWS, ROWS, DEEP } };

static void test_configuration(void) {
    amx_config none = { 0 }, got;
    load_config(&odd);
    got = store_config();
    CHECK(!memcmp(&got, &odd, sizeof odd));
    release();
    got = store_config();
    CHECK(!memcmp(&got, &none, sizeof none));
    load_config(&odd);
    load_config(&none);                         /* palette 0 is a release, too */
    got = store_config();
    CHECK(!memcmp(&got, &none, sizeof none));
}

#define PRODUCT(name) \
    static void name(const uint8_t *a, const uint8_t *b, int32_t *c, size_t a_row, size_t b_row, size_t c_row) { \
        __asm__ volatile("tileloadd (%0,%3,1), %%tmm1\n\ttileloaddt1 (%1,%4,1), %%tmm2\n\t" \
                         "tileloadd (%2,%5,1), %%tmm0\n\t" #name " %%tmm2, %%tmm1, %%tmm0\n\t" \
                         "tilestored %%tmm0, (%2,%5,1)" \
                         : : "r"(a), "r"(b), "r"(c), "r"(a_row), "r"(b_row), "r"(c_row) : "memory"); \
    }
PRODUCT(tdpbssd)
PRODUCT(tdpbsud)
PRODUCT(tdpbusd)
PRODUCT(tdpbuud)

/* Strides that are wider than the rows; what lies between the rows stays. */
static void test_products(void) {
    enum { A_ROW = 40, B_ROW = 64, C_ROW = 52 };
    static const struct {
        void (*run)(const uint8_t *, const uint8_t *, int32_t *, size_t, size_t, size_t);
        bool a_signed, b_signed;
    } cases[] = {
        { tdpbssd, true, true }, { tdpbsud, true, false }, { tdpbusd, false, true }, { tdpbuud, false, false } };
    uint64_t state = test_seed();
    load_config(&odd);
    for (size_t n = 0; n < 4 * 50; n++) {
        uint8_t a[ROWS * A_ROW], b[DEEP * B_ROW];
        int32_t c[ROWS * C_ROW / 4], want[ROWS * C_ROW / 4];
        for (size_t i = 0; i < sizeof a; i++) a[i] = n < 8 ? 0xff : (uint8_t)test_rand(&state);
        for (size_t i = 0; i < sizeof b; i++) b[i] = n < 4 ? 0x80 : (uint8_t)test_rand(&state);
        for (size_t i = 0; i < sizeof c / 4; i++) c[i] = want[i] = (int32_t)test_rand(&state);
        for (size_t m = 0; m < ROWS; m++)
            for (size_t k = 0; k < 4 * DEEP; k++)
                for (size_t w = 0; w < WIDE; w++) {
                    uint8_t x = a[m * A_ROW + k], y = b[k / 4 * B_ROW + 4 * w + k % 4];
                    int32_t s = cases[n % 4].a_signed ? (int8_t)x : x, u = cases[n % 4].b_signed ? (int8_t)y : y;
                    want[m * C_ROW / 4 + w] = (int32_t)((uint32_t)want[m * C_ROW / 4 + w] + (uint32_t)(s * u));
                }
        cases[n % 4].run(a, b, c, A_ROW, B_ROW, C_ROW);
        CHECK_MSG(!memcmp(c, want, sizeof c), "product %zu, seed %llu", n, (unsigned long long)test_seed());
    }
    release();
    CHECK(!emulated || atomic_load(&amx_products) == 200);
}

static void test_zero_and_addresses(void) {
    enum { SIZE = 5000, ROW = 4 * WIDE, PLACE = 4096 + 100 };
    uint8_t out[SIZE], want[SIZE];
    for (size_t i = 0; i < SIZE; i++) out[i] = want[i] = (uint8_t)(i * 7 / 3);
    load_config(&odd);
    __asm__ volatile("tileloadd (%0), %%tmm0" : : "r"(out) : "memory");              /* no index: every row the same */
    __asm__ volatile("tilestored %%tmm0, 64(%0,%1,2)" : : "r"(out + 100), "r"((size_t)32) : "memory");
    __asm__ volatile("tilezero %%tmm0\n\ttilestored %%tmm0, 4096(%0,%1,1)" : : "r"(out + 100), "r"((size_t)ROW)
                     : "memory");
    for (size_t m = 0; m < ROWS; m++) {
        memcpy(want + 164 + 64 * m, want, ROW);
        memset(want + PLACE + ROW * m, 0, ROW);
    }
    CHECK(!memcmp(out, want, SIZE));
    release();
}

/* ---- misuse: each in a process of its own, which must end with the emulator's sentence ---- */

static void use_before_config(void) { __asm__ volatile("tilezero %tmm0"); }
static void use_of_no_tile(void) {
    load_config(&odd);
    __asm__ volatile("tilezero %tmm5");
}
static void use_after_release(void) {
    load_config(&odd);
    release();
    __asm__ volatile("tilezero %tmm0");
}
static void wrong_palette(void) {
    amx_config g = odd;
    g.palette = 2;
    load_config(&g);
}
static void too_wide(void) {
    amx_config g = odd;
    g.row_bytes[0] = 68;
    load_config(&g);
}
static void too_many_rows(void) {
    amx_config g = odd;
    g.rows[3] = 17, g.row_bytes[3] = 4;
    load_config(&g);
}
static void wrong_depth(void) {
    amx_config g = odd;
    g.rows[2] = DEEP + 1;
    load_config(&g);
    __asm__ volatile("tdpbssd %tmm2, %tmm1, %tmm0");
}
static void wrong_rows(void) {
    amx_config g = odd;
    g.rows[1] = ROWS + 1;
    load_config(&g);
    __asm__ volatile("tdpbssd %tmm2, %tmm1, %tmm0");
}
static void wrong_columns(void) {
    amx_config g = odd;
    g.row_bytes[0] = 4 * WIDE + 4;
    load_config(&g);
    __asm__ volatile("tdpbssd %tmm2, %tmm1, %tmm0");
}

static void test_misuse(void) {
    static void (*const cases[])(void) = { use_before_config, use_of_no_tile, use_after_release,
                                           wrong_palette,     too_wide,       too_many_rows,
                                           wrong_depth,       wrong_rows,     wrong_columns };
    if (!emulated) TEST_SKIP("a real processor does not say what was wrong");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pid_t child = fork();
        if (child == 0) {
            close(2);
            cases[i]();
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 70, "case %zu: status %d", i, status);
    }
}

int main(int argc, char **argv) {
    static const test_case cases[] = { T(test_configuration), T(test_products), T(test_zero_and_addresses),
                                       T(test_misuse) };
    prepare();
    printf("  %s\n", emulated ? "emulated" : "on a processor with AMX");
    return test_main(cases, sizeof cases / sizeof *cases, argc, argv);
}

#else

static void test_elsewhere(void) { TEST_SKIP("AMX is of x86-64"); }
TEST_MAIN(T(test_elsewhere))

#endif
