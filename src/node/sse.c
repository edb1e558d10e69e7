/* sse.c - see sse.h. A line that lies whole in the bytes that came is not copied, nor is the data of an event whose
 * only data line does; that is the usual case. What is cut by the end of the bytes moves into s->line (the line) and
 * s->data (earlier data lines of the event). */
#include "node/sse.h"

enum { KEEP_BYTES = 4096 };     /* a buffer that grew beyond this is given back when it is empty */

static void settle(nigh_buf *b) {
    b->len = 0;
    if (b->cap > KEEP_BYTES) nigh_buf_release(b);
    b->limit = NIGH_SSE_EVENT_MAX;
}

/* The one line that was only looked at so far is copied. */
static nigh_status keep_view(nigh_sse *s) {
    nigh_str v = s->view;
    s->view = (nigh_str){ 0 };
    return v.len ? nigh_buf_add(&s->data, v) : NIGH_OK;
}

static nigh_status add_data(nigh_sse *s, nigh_str value, bool stays) {
    if (!s->has_data && stays) {
        s->has_data = true;
        s->view = value;
        return value.len > NIGH_SSE_EVENT_MAX ? NIGH_ERANGE : NIGH_OK;
    }
    NIGH_TRY(keep_view(s));
    if (s->has_data) NIGH_TRY(nigh_buf_add_char(&s->data, '\n'));
    s->has_data = true;
    return nigh_buf_add(&s->data, value);
}

static nigh_status end_event(nigh_sse *s, nigh_sse_fn *fn, void *ud) {
    nigh_status status = NIGH_OK;
    if (s->has_data) {
        nigh_str data = s->view.len ? s->view : nigh_buf_str(&s->data);
        status = fn(ud, nigh_str_of(s->event), data);
    }
    s->view = (nigh_str){ 0 };
    s->has_data = false;
    s->event[0] = '\0';
    settle(&s->data);
    return status;
}

/* stays: the line lies in the bytes of this feed. */
static nigh_status take_line(nigh_sse *s, nigh_str line, bool stays, nigh_sse_fn *fn, void *ud) {
    if (!s->begun && nigh_str_starts(line, NIGH_STR("\xef\xbb\xbf"))) line = nigh_str_slice(line, 3, line.len);
    s->begun = true;
    if (!line.len) return end_event(s, fn, ud);
    size_t colon = nigh_min(nigh_str_find(line, NIGH_STR(":"), 0), line.len);
    nigh_str name = nigh_str_slice(line, 0, colon), value = nigh_str_slice(line, colon + 1, line.len);
    if (value.len && value.ptr[0] == ' ') value = nigh_str_slice(value, 1, value.len);
    if (nigh_str_eq(name, NIGH_STR("data"))) return add_data(s, value, stays);
    if (nigh_str_eq(name, NIGH_STR("event")))
        nigh_format(s->event, sizeof s->event, "%.*s", (int)nigh_min(value.len, sizeof s->event), value.ptr);
    return NIGH_OK;
}

static size_t line_end(nigh_str bytes, size_t from) {
    const char *begin = bytes.ptr + from, *lf = memchr(begin, '\n', bytes.len - from);
    size_t until = lf ? (size_t)(lf - begin) : bytes.len - from;
    const char *cr = until ? memchr(begin, '\r', until) : NULL;
    return from + (cr ? (size_t)(cr - begin) : until);
}

nigh_status nigh_sse_feed(nigh_sse *s, nigh_str bytes, nigh_sse_fn *fn, void *ud) {
    s->line.limit = s->data.limit = NIGH_SSE_EVENT_MAX;
    for (size_t at = 0; at < bytes.len;) {
        if (s->after_cr && bytes.ptr[at] == '\n') { at++; s->after_cr = false; continue; }
        s->after_cr = false;
        size_t end = line_end(bytes, at);
        nigh_str piece = nigh_str_slice(bytes, at, end);
        if (end == bytes.len) {
            NIGH_TRY(nigh_buf_add(&s->line, piece));
            break;
        }
        s->after_cr = bytes.ptr[end] == '\r';
        at = end + 1;
        if (!s->line.len) { NIGH_TRY(take_line(s, piece, true, fn, ud)); continue; }
        NIGH_TRY(nigh_buf_add(&s->line, piece));
        NIGH_TRY(take_line(s, nigh_buf_str(&s->line), false, fn, ud));
        settle(&s->line);
    }
    return keep_view(s);
}

void nigh_sse_release(nigh_sse *s) {
    nigh_buf_release(&s->line);
    nigh_buf_release(&s->data);
    *s = (nigh_sse){ 0 };
}
