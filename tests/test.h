/* test.h - the smallest frame a test needs.
 * A test file includes this once, writes `static void test_x(void)` with CHECK inside, lists them in
 * TEST_MAIN(...). It prints every failure with its place and ends with a counted line:
 *     test_str: 12 passed, 0 failed, 0 skipped
 * A run in which nothing passed fails. `./test_x NAME` runs one case. */
#ifndef NIGH_TEST_H
#define NIGH_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct { int passed, failed, skipped, case_failed, case_skipped; const char *name; } test_state;

#define CHECK(cond) test_check((cond), #cond, __FILE__, __LINE__)
/* CHECK with a printf line that says more when it fails (the seed, the values). */
#define CHECK_MSG(cond, ...) \
    do { \
        if (!test_check((cond), #cond, __FILE__, __LINE__)) { \
            fprintf(stderr, "    "); \
            fprintf(stderr, __VA_ARGS__); \
            fputc('\n', stderr); \
        } \
    } while (0)
/* Ends the case, counted as skipped, with a clear line. Use: TEST_SKIP("why"); */
#define TEST_SKIP(why) \
    do { \
        test_state.case_skipped = 1; \
        printf("  skipped %s: %s\n", test_state.name, why); \
        return; \
    } while (0)

static inline bool test_check(bool ok, const char *what, const char *file, int line) {
    if (ok) return true;
    if (test_state.case_failed++ < 20) fprintf(stderr, "  FAILED %s: %s (%s:%d)\n", test_state.name, what, file, line);
    return false;
}

/* The folder of reference data beside the project, or NULL when it is absent. */
static inline const char *test_shared(void) {
    const char *path = getenv("NIGH_SHARED");
    if (!path) path = "../shared";
    return access(path, R_OK) == 0 ? path : NULL;
}

/* A number that differs from run to run only when NIGH_SEED says so; printed by tests that use it. */
static inline uint64_t test_seed(void) {
    const char *text = getenv("NIGH_SEED");
    return text ? strtoull(text, NULL, 10) : 1;
}

/* True when long tests should do less: under sanitizers and in fuzz lanes, NIGH_SHORT=1. */
static inline bool test_short(void) {
    const char *text = getenv("NIGH_SHORT");
    return text && text[0] && strcmp(text, "0") != 0;
}

static inline uint64_t test_rand(uint64_t *state) { /* splitmix64, Vigna 2015 */
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

typedef struct { const char *name; void (*run)(void); } test_case;

static inline int test_main(const test_case *cases, size_t count, int argc, char **argv) {
    const char *file = strrchr(argv[0], '/');
    for (size_t i = 0; i < count; i++) {
        if (argc > 1 && strcmp(argv[1], cases[i].name) != 0) continue;
        test_state.name = cases[i].name;
        test_state.case_failed = test_state.case_skipped = 0;
        cases[i].run();
        if (test_state.case_failed) test_state.failed++;
        else if (test_state.case_skipped) test_state.skipped++;
        else test_state.passed++;
    }
    printf("%s: %d passed, %d failed, %d skipped\n", file ? file + 1 : argv[0], test_state.passed, test_state.failed,
           test_state.skipped);
    return test_state.failed || (test_state.passed == 0 && test_state.skipped == 0);
}

#define T(fn) { #fn, fn }
#define TEST_MAIN(...) \
    int main(int argc, char **argv) { \
        static const test_case cases[] = { __VA_ARGS__ }; \
        return test_main(cases, sizeof cases / sizeof *cases, argc, argv); \
    }

#endif
