/* metrics.h - what this node counts, and how it tells Prometheus. Counters only; never a word of a request. Any
 * thread. */
#ifndef NIGH_METRICS_H
#define NIGH_METRICS_H

#include <stdatomic.h>

#include "base/base.h"

enum { NIGH_BUCKETS = 10 };
typedef struct { _Atomic uint64_t bucket[NIGH_BUCKETS + 1], sum_us, count; } nigh_histogram;

typedef struct {
    _Atomic int64_t running, queued;            /* sequences now */
    _Atomic uint64_t prompt_tokens, cached_tokens, generated_tokens, batches, batch_tokens, cancelled,
        slow_readers, refused_busy, guesses, guesses_right;
    _Atomic uint64_t answers[6];                /* by the hundreds of the status */
    /* that left this device to have a request answered elsewhere (place_away.c) */
    _Atomic uint64_t bytes_out;
    nigh_histogram first_token, whole;
} nigh_metrics;

void nigh_metrics_observe(nigh_histogram *h, uint64_t us);
/* Appends the text format. connections: open now. */
NIGH_CHECK nigh_status nigh_metrics_print(const nigh_metrics *m, unsigned connections, nigh_buf *out);

#endif
