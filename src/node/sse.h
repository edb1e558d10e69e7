/* sse.h - a stream of server-sent events, taken apart as its bytes come in, in any pieces.
 * Lines end in LF, CR LF or CR; fields other than data and event, and comments, are skipped; an event without data is
 * none. An event whose last line has not come when the stream ends is never given out. An event is at most
 * NIGH_SSE_EVENT_MAX bytes. Nothing is kept between events but what is unfinished. */
#ifndef NIGH_SSE_H
#define NIGH_SSE_H

#include "base/base.h"

enum { NIGH_SSE_EVENT_MAX = 4 << 20 };

typedef struct {
    nigh_buf line, data;    /* unfinished: a line, and the data lines of an event */
    nigh_str view;          /* the only data line so far, still in the caller's bytes; during a feed */
    char event[48];         /* its name, shortened; "" none */
    bool has_data, after_cr, begun;
} nigh_sse;

/* What comes back from it other than OK ends the feed. Both texts live during the call. */
typedef nigh_status nigh_sse_fn(void *ud, nigh_str event, nigh_str data);

/* Fails: ERANGE (event too long), ENOMEM, or what fn said. Then the stream is over: release it. */
NIGH_CHECK nigh_status nigh_sse_feed(nigh_sse *s, nigh_str bytes, nigh_sse_fn *fn, void *ud);
void nigh_sse_release(nigh_sse *s);

#endif
