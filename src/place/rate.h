/* rate.h - "escalate at most 20 %": the limit behind a feature's target_rate. A threshold was found on an evaluation;
 * when the requests of the day are harder than that one, more of them fall below it than were meant to. Then the
 * surplus stays where it is, and is marked.
 *
 * Of any n requests in a row at most rate * n + NIGH_RATE_BURST are let. All zero is the beginning. */
#ifndef NIGH_RATE_H
#define NIGH_RATE_H

#include "base/base.h"

enum { NIGH_RATE_BURST = 10 };

typedef struct {
    double filled;                  /* 0..NIGH_RATE_BURST: how much of the burst is in use */
    uint64_t seen, wanted, let;     /* requests; those that would; those that were let */
} nigh_rate;

/* One more request; wants: it is one that would be counted. True: it may. rate negative: no limit. */
bool nigh_rate_take(nigh_rate *s, double rate, bool wants);

#endif
