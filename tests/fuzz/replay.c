/* replay.c - the main() of a fuzz target inside `make test`: runs it over its corpus, each input one case.
 *     fuzz_x               tests/fuzz/corpus/x, and the empty input
 *     fuzz_x FILE...       these inputs (to repeat a finding)
 * An input that is wrong ends the program; the line before says which one it was. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 1 << 20 };

static size_t passed, failed;

static void run_file(const char *path) {
    uint8_t *whole = malloc(INPUT_BYTES_MAX), *exact = NULL;
    FILE *f = fopen(path, "rb");
    printf("  input %s\n", path);
    size_t n = f && whole ? fread(whole, 1, INPUT_BYTES_MAX, f) : 0;
    if (f && whole && !ferror(f)) exact = malloc(n ? n : 1);
    if (exact) { /* the bytes end where the block ends, so that a sanitizer sees a read past them */
        memcpy(exact, whole, n);
        LLVMFuzzerTestOneInput(exact, n);
        passed++;
    } else {
        printf("  FAILED to read %s\n", path);
        failed++;
    }
    if (f) fclose(f);
    free(exact);
    free(whole);
}

static void run_corpus(const char *target) {
    char path[600];
    struct dirent **names;
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", target);
    int n = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') {
            snprintf(path, sizeof path, "tests/fuzz/corpus/%s/%s", target, names[i]->d_name);
            run_file(path);
        }
        free(names[i]);
    }
    if (n >= 0) free(names);
}

int main(int argc, char **argv) {
    const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) run_file(argv[i]);
    if (argc == 1) {
        uint8_t nothing[1] = { 0 };
        puts("  input nothing");
        LLVMFuzzerTestOneInput(nothing, 0);
        passed++;
        run_corpus(strncmp(name, "fuzz_", 5) == 0 ? name + 5 : name);
    }
    printf("%s: %zu passed, %zu failed, 0 skipped\n", name, passed, failed);
    return failed != 0;
}
