/* calibrate.h - a threshold for "how sure", found on an evaluation: pairs of how sure the model of this device was of
 * an answer and how good that answer was. A pure function of the pairs. */
#ifndef NIGH_CALIBRATE_H
#define NIGH_CALIBRATE_H

#include "base/base.h"

enum { NIGH_PAIRS_MIN = 20, NIGH_PAIRS_MAX = 1 << 20 };

/* Both from 0 to 1. */
typedef struct { double confidence, score; } nigh_pair;

typedef struct {
    double rate;                    /* at most this share lies below; negative: not asked for */
    double score_min;               /* the mean of those not below is at least this; negative: not asked for */
} nigh_calibrate_opts;

typedef struct {
    size_t count, below;            /* pairs; those whose confidence is less than the threshold */
    double threshold, rate;         /* rate: below / count */
    double score_all, score_kept, score_below;  /* means; 0 where there are none */
    /* How often, of a good answer (score 0.5 and above) and a bad one, the model was surer of the good one; 0.5: its
     * confidence says nothing. 0.5, too, when all are good or all bad. */
    double order;
    double held_out_rate;           /* threshold found on every second pair: the share below it of the others */
} nigh_calibration;

/* The lowest threshold with which score_min is reached, or the highest that keeps the rate; with both, the rate is the
 * limit. Fails: ERANGE (fewer than NIGH_PAIRS_MIN or more than NIGH_PAIRS_MAX pairs), EINVAL (a number outside 0..1; or
 * no threshold within the rate reaches score_min), ENOMEM. */
NIGH_CHECK nigh_status nigh_calibrate(const nigh_pair *pairs, size_t count, const nigh_calibrate_opts *o,
                                      nigh_calibration *out, nigh_err *err);

#endif
