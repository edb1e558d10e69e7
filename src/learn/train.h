/* train.h - the run: batches, AdamW, schedule, held-out loss, checkpoints.
 *
 * Every step trains on `batch` windows. They are cut into fixed LANES; each lane sums its own gradient in its
 * own order, and the lanes are added as a fixed tree, so the result does not depend on the number of threads,
 * nor on which thread was faster. A run that was stopped and resumed from a checkpoint
 * (docs/format-checkpoint.md) gives the same bits as one that was not. */
#ifndef NIGH_TRAIN_H
#define NIGH_TRAIN_H

#include "base/pool.h"
#include "learn/feed.h"
#include "learn/net.h"

enum { NIGH_TRAIN_LANES = 8 };

/* What fixes the result, together with the text and the kind of product. */
typedef struct {
    nigh_shape shape;
    uint32_t batch;                 /* windows of a step, a multiple of NIGH_TRAIN_LANES             */
    uint32_t warmup, decay;         /* steps at the beginning and at the end in which the rate rises, falls */
    uint64_t steps, seed;
    float rate, rate_end;           /* highest; at the end, as a part of it                             */
    float beta1, beta2, weight_decay, clip;
} nigh_recipe;

typedef struct {
    nigh_recipe recipe;
    uint64_t step;                  /* steps done */
    nigh_feed_at at;
    double recent;                  /* mean loss of the last steps, smoothed; for the progress line */
    size_t merge_count;
    uint16_t (*merges)[2];
    size_t count;                   /* parameters */
    float *params, *m, *v;
} nigh_state;

nigh_recipe nigh_recipe_default(void);
NIGH_CHECK nigh_status nigh_recipe_check(const nigh_recipe *r, nigh_err *err);
/* The learning rate of a step, counted from 0: rises over `warmup`, stays, falls in a straight line over the
 * last `decay` steps. */
float nigh_recipe_rate(const nigh_recipe *r, uint64_t step);

/* A fresh state: first weights from the seed, vocabulary of b. Fails: ENOMEM. */
NIGH_CHECK nigh_status nigh_state_new(nigh_state *s, const nigh_recipe *r, const nigh_bpe *b);
void nigh_state_release(nigh_state *s);
/* checkpoint.c. Whole or not at all. */
NIGH_CHECK nigh_status nigh_state_save(const nigh_state *s, const char *path, nigh_err *err);
/* Fails: ENOENT, EDATA (damaged, saying what), ENOSUP (a newer version), ENOMEM. */
NIGH_CHECK nigh_status nigh_state_load(nigh_state *s, const char *path, nigh_err *err);

typedef struct nigh_trainer nigh_trainer;
/* Keeps feed and pool. NULL when out of memory. */
nigh_trainer *nigh_trainer_new(const nigh_recipe *r, const nigh_feed *f, nigh_pool *pool, nigh_gemm_fn *gemm);
void nigh_trainer_free(nigh_trainer *t);
/* One step; gives the mean loss of its tokens before the step. */
double nigh_trainer_step(nigh_trainer *t, nigh_state *s);
/* Held-out text of one source: sum of losses (nats) over at most max_windows windows, evenly spread (0: all).
 * tokens may be 0. */
typedef struct { double nats; size_t tokens; } nigh_held;
nigh_held nigh_trainer_held(nigh_trainer *t, const nigh_state *s, size_t source, size_t max_windows);

#endif
