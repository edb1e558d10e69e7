/* bench_tokenizer.c - how fast a vocabulary loads, and how fast text becomes ids and ids text: CSV on stdout.
 *     load     ms of nigh_gguf_parse and nigh_tokenizer_open, the best of 5
 *     encode   10^6 bytes of text a second, the best of 3
 *     decode   the same, back
 * One thread, timed by its own processor time, so that other programs disturb it less.
 * usage: bench_tokenizer TEXT MODEL... */
#define _POSIX_C_SOURCE 199309L

#include <stdio.h>
#include <time.h>

#include "base/os.h"
#include "engine/tokenizer.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static nigh_tokenizer *load(nigh_str file, double *best, nigh_err *err) {
    nigh_tokenizer *t = NULL;
    for (int i = 0; i < 5; i++) {
        nigh_gguf g;
        nigh_tokenizer_close(t);
        double begin = now();
        if (nigh_gguf_parse(&g, file, err) != NIGH_OK) return NULL;
        nigh_status st = nigh_tokenizer_open(&t, &g, err);
        double took = now() - begin;
        nigh_gguf_release(&g);
        if (st != NIGH_OK) return NULL;
        if (i == 0 || took < *best) *best = took;
    }
    return t;
}

static int measure(const char *path, nigh_str text) {
    nigh_file file;
    nigh_err err = { 0 };
    double load_s = 0, encode_s = 0, decode_s = 0;
    size_t tokens = 0;
    nigh_tokenizer *t = NULL;
    if (nigh_file_open(&file, path, &err) == NIGH_OK) t = load(file.bytes, &load_s, &err);
    for (int i = 0; i < 3 && t && err.code == NIGH_OK; i++) {
        nigh_ids ids = NIGH_IDS(1u << 30);
        nigh_buf back = NIGH_BUF(SIZE_MAX / 2);
        double begin = now();
        nigh_status st = nigh_tokenizer_encode(t, text, (nigh_encode_opts){ 0 }, &ids, &err);
        double middle = now();
        if (st == NIGH_OK) st = nigh_tokenizer_decode(t, ids.ptr, ids.len, false, &back);
        double end = now();
        if (st != NIGH_OK) err.code = st;
        if (i == 0 || middle - begin < encode_s) encode_s = middle - begin;
        if (i == 0 || end - middle < decode_s) decode_s = end - middle;
        tokens = ids.len;
        nigh_ids_release(&ids);
        nigh_buf_release(&back);
    }
    if (!t || tokens == 0) { fprintf(stderr, "%s: %s\n", path, err.text); return 1; }
    const char *name = strrchr(path, '/');
    printf("%s,%zu,%.1f,%.1f,%.1f,%zu\n", name ? name + 1 : path, nigh_tokenizer_count(t), 1e3 * load_s,
           (double)text.len / encode_s / 1e6, (double)text.len / decode_s / 1e6, tokens);
    nigh_tokenizer_close(t);
    return 0;
}

int main(int argc, char **argv) {
    nigh_file text;
    nigh_err err = { 0 };
    int failed = 0;
    if (argc < 3) { fputs("usage: bench_tokenizer TEXT MODEL...\n", stderr); return 1; }
    if (nigh_file_open(&text, argv[1], &err) != NIGH_OK) { fprintf(stderr, "%s\n", err.text); return 1; }
    puts("vocabulary,tokens,load_ms,encode_mb_s,decode_mb_s,ids");
    for (int i = 2; i < argc; i++) failed |= measure(argv[i], text.bytes);
    return failed;
}
