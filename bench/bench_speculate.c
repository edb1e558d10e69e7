/* bench_speculate.c - what guesses gain at the true rate at which they come true.
 *
 *     bench_speculate MODEL VOCABULARY THREADS (SOURCE ANSWER)...
 *
 * A model with random weights does not copy, so the answer is forced: each token that the sampler picks is the next one
 * of ANSWER, whatever the model said. All the work is done (every row is evaluated and looked through), and the
 * guesses know nothing of the answer but what was written. SOURCE is the prompt. Texts become tokens by VOCABULARY,
 * a GGUF file whose ids the model must have. Plain and guessing runs take turns; the median of each counts. CSV. */
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "base/pool.h"
#include "engine/gguf.h"
#include "engine/speculate.h"
#include "kernel/kernel.h"

enum { ROUNDS = 5, TEXT_MAX = 1 << 20, ANSWER_MAX = 400 };

typedef struct {
    nigh_runner *runner;
    nigh_session *session;
    const nigh_tokenizer *own;          /* the model's */
    size_t vocab;
    float *forced;                      /* one row: only the forced token is likely */
    nigh_ids source, answer;
} bench;

static int fail(const char *what) {
    fprintf(stderr, "bench_speculate: %s\n", what);
    return 1;
}

static nigh_status read_ids(const nigh_tokenizer *t, const char *path, nigh_ids *ids, nigh_err *err) {
    nigh_buf text = NIGH_BUF(TEXT_MAX);
    nigh_status status = nigh_file_read(&text, path, err);
    *ids = NIGH_IDS(TEXT_MAX);
    if (status == NIGH_OK) status = nigh_tokenizer_encode(t, nigh_buf_str(&text), (nigh_encode_opts){ 0 }, ids, err);
    nigh_buf_release(&text);
    return status;
}

/* Writes the whole answer; its seconds. */
static nigh_status write_answer(bench *b, nigh_speculation *sp, nigh_draft_cost *cost, float *rows, double *seconds,
                                nigh_err *err) {
    nigh_generation *g = NULL;
    nigh_step step = { 0 };
    nigh_status status = nigh_generation_new(&g, b->own, (nigh_generate_opts){ .ignore_end = true }, NULL, 0, err);
    uint64_t begin = nigh_os_now_ns();
    for (size_t i = 0; i < b->answer.len && status == NIGH_OK; i++) {
        if (!nigh_speculation_has_row(sp)) {
            double expected = 1;
            uint64_t from = nigh_os_now_ns();
            nigh_speculation_guess(sp, cost, 1, &expected, NIGH_DRAFT_MAX);
            nigh_batch_item item = nigh_speculation_item(sp, rows);
            status = nigh_runner_eval(b->runner, &item, 1, err);
            nigh_draft_cost_add(cost, sp->count, nigh_os_now_ns() - from);
            nigh_speculation_evaluated(sp);
        }
        int32_t token = b->answer.ptr[i];
        b->forced[token] = 1;
        if (status == NIGH_OK) status = nigh_speculation_step(sp, g, b->forced, &step, err);
        b->forced[token] = 0;
    }
    *seconds = (double)(nigh_os_now_ns() - begin) / 1e9;
    nigh_generation_free(g);
    return status;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One line: the answer plainly and with guesses, in turns, after one of each that is not counted. */
static nigh_status measure(bench *b, const char *name, nigh_err *err) {
    nigh_speculation sp[2] = { 0 };
    static nigh_draft_cost cost[2];
    double seconds[2][ROUNDS + 1];
    float *rows = nigh_alloc((1 + NIGH_DRAFT_MAX) * b->vocab, sizeof *rows);
    nigh_status status = rows ? NIGH_OK : NIGH_ENOMEM;
    memset(cost, 0, sizeof cost);
    for (int guesses = 0; guesses < 2 && status == NIGH_OK; guesses++)
        status = nigh_speculation_init(&sp[guesses], b->session, guesses, err);
    for (int round = 0; round <= ROUNDS; round++)
        for (int guesses = 0; guesses < 2 && status == NIGH_OK; guesses++) {
            status = nigh_runner_prompt(b->runner, b->session, b->source.ptr, (uint32_t)b->source.len, rows, err);
            if (status != NIGH_OK) break;
            nigh_speculation_start(&sp[guesses], b->source.ptr, b->source.len);
            status = write_answer(b, &sp[guesses], &cost[guesses], rows, &seconds[guesses][round], err);
        }
    for (int i = 0; i < 2 && status == NIGH_OK; i++) qsort(seconds[i] + 1, ROUNDS, sizeof(double), by_size);
    double n = (double)b->answer.len, plain = n / seconds[0][1 + ROUNDS / 2], fast = n / seconds[1][1 + ROUNDS / 2];
    if (status == NIGH_OK)
        printf("%s,%zu,%zu,%.1f,%.1f,%.3f,%llu,%llu\n", name, b->source.len, b->answer.len, plain, fast, fast / plain,
               (unsigned long long)sp[1].drafted, (unsigned long long)sp[1].accepted);
    fflush(stdout);
    nigh_speculation_release(&sp[0]);
    nigh_speculation_release(&sp[1]);
    nigh_free(rows);
    return status;
}

static nigh_status measure_files(bench *b, const nigh_tokenizer *t, const nigh_model *m, char **files, nigh_err *err) {
    nigh_status status = read_ids(t, files[0], &b->source, err);
    if (status == NIGH_OK) status = read_ids(t, files[1], &b->answer, err);
    b->answer.len = nigh_min(b->answer.len, ANSWER_MAX);
    if (status == NIGH_OK)
        status = nigh_session_new(&b->session, m, (uint32_t)(b->source.len + b->answer.len + 1), err);
    const char *name = strrchr(files[1], '/');
    if (status == NIGH_OK) status = measure(b, name ? name + 1 : files[1], err);
    nigh_session_free(b->session);
    nigh_ids_release(&b->source);
    nigh_ids_release(&b->answer);
    return status;
}

int main(int argc, char **argv) {
    nigh_err err = { 0 };
    nigh_file files[2];
    nigh_gguf vocabulary = { 0 };
    nigh_tokenizer *t;
    nigh_model *m;
    bench b = { 0 };
    if (argc < 6 || argc % 2) return fail("MODEL VOCABULARY THREADS (SOURCE ANSWER)...");
    nigh_pool *pool = nigh_pool_new((size_t)atoi(argv[3]));
    for (int i = 0; i < 2; i++) if (nigh_file_open(&files[i], argv[1 + i], &err) != NIGH_OK) return fail(err.text);
    nigh_model_opts o = { .pool = pool, .cpu = nigh_cpu_detect() };
    if (nigh_model_open(&m, files[0].bytes, o, &err) != NIGH_OK
        || nigh_gguf_parse(&vocabulary, files[1].bytes, &err) != NIGH_OK
        || nigh_tokenizer_open(&t, &vocabulary, &err) != NIGH_OK
        || nigh_runner_new(&b.runner, m, pool, 512, &err) != NIGH_OK)
        return fail(err.text);
    b.vocab = nigh_model_about(m)->vocab;
    b.own = nigh_model_tokenizer(m);
    b.forced = nigh_alloc(b.vocab, sizeof *b.forced);
    if (!b.forced || nigh_tokenizer_count(t) > b.vocab) return fail("the model lacks tokens of this vocabulary");
    printf("answer,source_tokens,answer_tokens,plain_tps,guessing_tps,ratio,guessed,right\n");
    for (int i = 4; i + 1 < argc; i += 2)
        if (measure_files(&b, t, m, argv + i, &err) != NIGH_OK) return fail(err.text);
    return 0;
}
