/* forced.h - for benches of guesses: an answer that is forced. Each token that the sampler picks is the next one of the
 * answer, whatever the model said; every row is evaluated and looked through all the same. */
#ifndef NIGH_BENCH_FORCED_H
#define NIGH_BENCH_FORCED_H

#include "base/os.h"
#include "engine/speculate.h"

enum { FORCED_TEXT_MAX = 1 << 20 };

typedef struct {
    nigh_runner *runner;
    nigh_session *session;
    const nigh_tokenizer *own;          /* the model's */
    float *forced, *rows;               /* [vocab], all 0; [1 + NIGH_DRAFT_MAX][vocab] */
    nigh_ids source, answer;
} forced_answer;

/* The file's text as at most `most` tokens; ids is the caller's to release. */
static nigh_status forced_ids(const nigh_tokenizer *t, const char *path, size_t most, nigh_ids *ids, nigh_err *err) {
    nigh_buf text = NIGH_BUF(FORCED_TEXT_MAX);
    nigh_status status = nigh_file_read(&text, path, err);
    *ids = NIGH_IDS(FORCED_TEXT_MAX);
    if (status == NIGH_OK) status = nigh_tokenizer_encode(t, nigh_buf_str(&text), (nigh_encode_opts){ 0 }, ids, err);
    nigh_buf_release(&text);
    ids->len = nigh_min(ids->len, most);
    return status;
}

/* Reads the source, then writes the whole answer; *seconds of the writing. What is learnt of the cost of a batch is its
 * evaluation alone, as in the scheduler. */
static nigh_status forced_write(forced_answer *a, nigh_speculation *sp, nigh_draft_cost *cost, double *seconds,
                                nigh_err *err) {
    nigh_generation *g = NULL;
    nigh_step step = { 0 };
    NIGH_TRY(nigh_runner_prompt(a->runner, a->session, a->source.ptr, (uint32_t)a->source.len, a->rows, err));
    nigh_speculation_start(sp, a->source.ptr, a->source.len);
    nigh_status status = nigh_generation_new(&g, a->own, (nigh_generate_opts){ .ignore_end = true }, NULL, 0, err);
    uint64_t begin = nigh_os_now_ns();
    for (size_t i = 0; i < a->answer.len && status == NIGH_OK; i++) {
        if (!nigh_speculation_has_row(sp)) {
            double expected = 1;
            nigh_speculation_guess(sp, cost, 1, &expected, NIGH_DRAFT_MAX);
            uint64_t from = nigh_os_now_ns();
            nigh_batch_item item = nigh_speculation_item(sp, a->rows);
            status = nigh_runner_eval(a->runner, &item, 1, err);
            nigh_draft_cost_add(cost, sp->count, nigh_os_now_ns() - from);
            nigh_speculation_evaluated(sp);
        }
        int32_t token = a->answer.ptr[i];
        a->forced[token] = 1;
        if (status == NIGH_OK) status = nigh_speculation_step(sp, g, a->forced, &step, err);
        a->forced[token] = 0;
    }
    *seconds = (double)(nigh_os_now_ns() - begin) / 1e9;
    nigh_generation_free(g);
    return status;
}

static int forced_by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts them; the one in the middle. */
static double forced_median(double *seconds, size_t count) {
    qsort(seconds, count, sizeof *seconds, forced_by_size);
    return seconds[count / 2];
}

#endif
