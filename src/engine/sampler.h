/* sampler.h - one token out of a row of logits. All settings zero = greedy.
 * Order: logit bias, repetition / frequency / presence penalties over the last tokens, then (temperature > 0) top-k,
 * min-p, top-p, temperature, a draw by the seed. Same seed, same logits -> same tokens, on every machine (the
 * arithmetic of kernel/math.h, a counter-based generator, ties to the lower id). */
#ifndef NIGH_SAMPLER_H
#define NIGH_SAMPLER_H

#include "base/base.h"

typedef struct { int32_t id; float bias; } nigh_logit_bias;    /* -100 and below: never, +100 and above: always */

typedef struct {
    float temperature;          /* 0..100; 0: greedy */
    uint32_t top_k;             /* 0: off */
    float top_p;                /* 0..1; 0 and 1: off */
    float min_p;                /* 0..1; 0: off */
    float repeat_penalty;       /* 0..10; 0 and 1: off; divides positive, multiplies negative logits */
    float frequency_penalty, presence_penalty;  /* -2..2: taken off the logit per use, and once when used */
    uint32_t repeat_last;       /* how many last tokens count; 0: 64; at most 1,048,576 */
    uint64_t seed;
    const nigh_logit_bias *bias;    /* kept (not copied); several of one id add up */
    size_t bias_count;
} nigh_sampler_opts;

typedef struct nigh_sampler nigh_sampler;

/* Fails: EINVAL naming the setting and its range (NaN is never in range), ENOMEM. vocab: length of a row. */
NIGH_CHECK nigh_status nigh_sampler_new(nigh_sampler **out, nigh_sampler_opts o, size_t vocab, nigh_err *err);
void nigh_sampler_free(nigh_sampler *s);
/* Tells it of a token that is part of the text (prompt tokens count for the penalties too). */
void nigh_sampler_accept(nigh_sampler *s, int32_t id);
/* Picks a token; `logits` [vocab] is left as it was. Does not accept it. Any bits are allowed: NaN counts as never. */
int32_t nigh_sampler_pick(nigh_sampler *s, const float *logits);

typedef struct { int32_t id; float logprob; } nigh_logprob;
/* Natural log-probabilities by the unchanged logits: of `id`, and the `count` largest in falling order (ties: lower
 * id first; rows shorter than count: the rest is id -1, -infinity). */
void nigh_logprobs(const float *logits, size_t vocab, int32_t id, float *of_id, nigh_logprob *top, size_t count);

#endif
