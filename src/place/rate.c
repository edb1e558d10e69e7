/* rate.c - see rate.h: a bucket that every request empties by `rate` and every one that is let fills by one. */
#include "place/rate.h"

bool nigh_rate_take(nigh_rate *s, double rate, bool wants) {
    s->seen++;
    s->wanted += wants;
    if (rate >= 0) s->filled = s->filled > rate ? s->filled - rate : 0;
    bool may = wants && (rate < 0 || (rate > 0 && s->filled + 1 <= (double)NIGH_RATE_BURST));
    if (may && rate >= 0) s->filled += 1;
    s->let += may;
    return may;
}
