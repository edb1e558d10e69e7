/* calibrate.c - see calibrate.h. Pairs are sorted by confidence; the threshold is one of the confidences, and what is
 * less than it escalates, so of equal confidences all stay or all go.
 *
 *     confidence   0.11  0.20  0.20  0.35  0.52  0.70  ...
 *                              rate 0.25 of 12: at most 3 below -> threshold 0.35 */
#include "place/calibrate.h"

static void sift(nigh_pair *a, size_t at, size_t count) {
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && a[child + 1].confidence > a[child].confidence) child++;
        if (a[at].confidence >= a[child].confidence) return;
        nigh_pair t = a[at];
        a[at] = a[child];
        a[child] = t;
    }
}

static void sort(nigh_pair *a, size_t count) {      /* a heap: no recursion, no second array */
    for (size_t i = count / 2; i-- > 0;) sift(a, i, count);
    for (size_t n = count; n-- > 1;) {
        nigh_pair t = a[0];
        a[0] = a[n];
        a[n] = t;
        sift(a, 0, n);
    }
}

/* How many of a sorted row are less than the threshold. */
static size_t count_below(const nigh_pair *a, size_t count, double threshold) {
    size_t n = 0;
    while (n < count && a[n].confidence < threshold) n++;
    return n;
}

static double mean(const nigh_pair *a, size_t from, size_t to) {
    double sum = 0;
    for (size_t i = from; i < to; i++) sum += a[i].score;
    return to > from ? sum / (double)(to - from) : 0;
}

/* The highest threshold with at most this share below it. */
static double by_rate(const nigh_pair *a, size_t count, double rate) {
    size_t most = (size_t)(rate * (double)count + 1e-9);
    return most < count ? a[most].confidence : 1;
}

/* The lowest threshold that leaves a mean of score_min; false: none up to `most` does. */
static bool by_score(const nigh_pair *a, size_t count, double score_min, double most, double *out) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += a[i].score;
    for (size_t i = 0; i < count && a[i].confidence <= most; i++) {
        bool first = i == 0 || a[i].confidence > a[i - 1].confidence;
        *out = i ? a[i].confidence : 0;
        if (first && sum / (double)(count - i) >= score_min) return true;
        sum -= a[i].score;
    }
    return false;
}

static bool find(const nigh_pair *a, size_t count, const nigh_calibrate_opts *o, double *threshold) {
    double most = o->rate >= 0 ? by_rate(a, count, o->rate) : 1;
    *threshold = most;
    return o->score_min < 0 || by_score(a, count, o->score_min, most, threshold);
}

/* Of one good and one bad answer: how often the good one has the higher confidence, equals counted half. */
static double order_of(const nigh_pair *a, size_t count) {
    double bad_so_far = 0, good = 0, right = 0;
    for (size_t i = 0, end; i < count; i = end) {
        double same_good = 0, same_bad = 0;
        for (end = i; end < count && !(a[end].confidence > a[i].confidence); end++) {
            if (a[end].score >= 0.5) same_good++;
            else same_bad++;
        }
        right += same_good * (bad_so_far + same_bad / 2);
        bad_so_far += same_bad;
        good += same_good;
    }
    return good > 0 && bad_so_far > 0 ? right / (good * bad_so_far) : 0.5;
}

static nigh_status check(const nigh_pair *pairs, size_t count, nigh_err *err) {
    if (count < NIGH_PAIRS_MIN || count > NIGH_PAIRS_MAX)
        return nigh_failf(err, NIGH_ERANGE, 0, "%zu pairs: a threshold wants at least %d, and takes at most %d", count,
                          NIGH_PAIRS_MIN, NIGH_PAIRS_MAX);
    for (size_t i = 0; i < count; i++) {
        const nigh_pair *p = &pairs[i];
        bool good = p->confidence >= 0 && p->confidence <= 1 && p->score >= 0 && p->score <= 1;
        if (!good) return nigh_failf(err, NIGH_EINVAL, i, "pair %zu: both numbers lie between 0 and 1", i + 1);
    }
    return NIGH_OK;
}

/* Every second pair finds a threshold, the others say what it does. */
static double held_out(const nigh_pair *pairs, size_t count, const nigh_calibrate_opts *o, nigh_pair *half) {
    size_t n = 0, tested = 0, below = 0;
    double threshold;
    for (size_t i = 0; i < count; i += 2) half[n++] = pairs[i];
    sort(half, n);
    (void)find(half, n, o, &threshold);
    for (size_t i = 1; i < count; i += 2, tested++) below += pairs[i].confidence < threshold;
    return (double)below / (double)tested;
}

nigh_status nigh_calibrate(const nigh_pair *pairs, size_t count, const nigh_calibrate_opts *o, nigh_calibration *out,
                           nigh_err *err) {
    *out = (nigh_calibration){ .count = count };
    NIGH_TRY(check(pairs, count, err));
    nigh_pair *a = nigh_alloc(sizeof *a, count);
    if (!a) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the pairs");
    out->held_out_rate = held_out(pairs, count, o, a);
    memcpy(a, pairs, count * sizeof *a);
    sort(a, count);
    bool found = find(a, count, o, &out->threshold);
    out->below = count_below(a, count, out->threshold);
    out->rate = (double)out->below / (double)count;
    out->score_all = mean(a, 0, count);
    out->score_below = mean(a, 0, out->below);
    out->score_kept = mean(a, out->below, count);
    out->order = order_of(a, count);
    nigh_free(a);
    if (found) return NIGH_OK;
    return nigh_fail(err, NIGH_EINVAL, 0, "no threshold within that rate leaves answers of that score: allow a higher "
                                          "rate, or take a better model");
}
