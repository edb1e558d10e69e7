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

#include "base/pool.h"
#include "engine/gguf.h"
#include "forced.h"
#include "kernel/kernel.h"

enum { ROUNDS = 5, ANSWER_MAX = 400 };

static int fail(const char *what) {
    fprintf(stderr, "bench_speculate: %s\n", what);
    return 1;
}

/* One line: the answer plainly and with guesses, in turns, after one of each that is not counted. */
static nigh_status measure(forced_answer *b, const char *name, nigh_err *err) {
    nigh_speculation sp[2] = { 0 };
    static nigh_draft_cost cost[2];
    double seconds[2][ROUNDS + 1];
    nigh_status status = NIGH_OK;
    memset(cost, 0, sizeof cost);
    for (int guesses = 0; guesses < 2 && status == NIGH_OK; guesses++)
        status = nigh_speculation_init(&sp[guesses], b->session, guesses, err);
    for (int round = 0; round <= ROUNDS; round++)
        for (int guesses = 0; guesses < 2 && status == NIGH_OK; guesses++)
            status = forced_write(b, &sp[guesses], &cost[guesses], &seconds[guesses][round], err);
    double n = (double)b->answer.len, plain = 0, fast = 0;
    if (status == NIGH_OK) plain = n / forced_median(seconds[0] + 1, ROUNDS);
    if (status == NIGH_OK) fast = n / forced_median(seconds[1] + 1, ROUNDS);
    if (status == NIGH_OK)
        printf("%s,%zu,%zu,%.1f,%.1f,%.3f,%llu,%llu\n", name, b->source.len, b->answer.len, plain, fast, fast / plain,
               (unsigned long long)sp[1].drafted, (unsigned long long)sp[1].accepted);
    fflush(stdout);
    nigh_speculation_release(&sp[0]);
    nigh_speculation_release(&sp[1]);
    return status;
}

static nigh_status measure_files(forced_answer *b, const nigh_tokenizer *t, const nigh_model *m, char **files,
                                 nigh_err *err) {
    nigh_status status = forced_ids(t, files[0], SIZE_MAX, &b->source, err);
    if (status == NIGH_OK) status = forced_ids(t, files[1], ANSWER_MAX, &b->answer, err);
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
    forced_answer b = { 0 };
    if (argc < 6 || argc % 2) return fail("MODEL VOCABULARY THREADS (SOURCE ANSWER)...");
    nigh_pool *pool = nigh_pool_new((size_t)atoi(argv[3]));
    for (int i = 0; i < 2; i++) if (nigh_file_open(&files[i], argv[1 + i], &err) != NIGH_OK) return fail(err.text);
    nigh_model_opts o = { .pool = pool, .cpu = nigh_cpu_detect() };
    if (nigh_model_open(&m, files[0].bytes, o, &err) != NIGH_OK
        || nigh_gguf_parse(&vocabulary, files[1].bytes, &err) != NIGH_OK
        || nigh_tokenizer_open(&t, &vocabulary, &err) != NIGH_OK
        || nigh_runner_new(&b.runner, m, pool, 512, &err) != NIGH_OK)
        return fail(err.text);
    size_t vocab = nigh_model_about(m)->vocab;
    b.own = nigh_model_tokenizer(m);
    b.forced = nigh_alloc(vocab, sizeof *b.forced);
    b.rows = nigh_alloc((1 + NIGH_DRAFT_MAX) * vocab, sizeof *b.rows);
    if (!b.forced || !b.rows) return fail("no memory");
    if (nigh_tokenizer_count(t) > vocab) return fail("the model lacks tokens of this vocabulary");
    printf("answer,source_tokens,answer_tokens,plain_tps,guessing_tps,ratio,guessed,right\n");
    for (int i = 4; i + 1 < argc; i += 2)
        if (measure_files(&b, t, m, argv + i, &err) != NIGH_OK) return fail(err.text);
    return 0;
}
