/* buf.c - arenas, growing buffers and the reader for outside bytes. */
#include "base/base.h"

void *nigh_arena_take(nigh_arena *a, size_t size, size_t count) {
    size_t bytes, pad = (size_t)(-(uintptr_t)a->at & 63u);
    if (!nigh_mul(size, count, &bytes)) return NULL;
    size_t room = (size_t)(a->end - a->at);
    if (pad > room || bytes > room - pad) return NULL;
    void *p = a->at + pad;
    a->at += pad + bytes;
    return memset(p, 0, bytes);
}

nigh_status nigh_buf_reserve(nigh_buf *b, size_t more) {
    if (more > b->limit - b->len) return NIGH_ERANGE;
    if (more <= b->cap - b->len) return NIGH_OK;
    size_t cap = nigh_max(b->cap ? b->cap : 64, b->len + more);
    cap = b->cap > b->limit / 2 ? b->limit : nigh_min(nigh_max(cap, 2 * b->cap), b->limit);
    char *p = nigh_alloc(1, cap);
    if (!p) return NIGH_ENOMEM;
    if (b->len) memcpy(p, b->ptr, b->len);
    nigh_free(b->ptr);
    b->ptr = p;
    b->cap = cap;
    return NIGH_OK;
}

nigh_status nigh_buf_add(nigh_buf *b, nigh_str s) {
    NIGH_TRY(nigh_buf_reserve(b, s.len));
    if (s.len) memcpy(b->ptr + b->len, s.ptr, s.len);
    b->len += s.len;
    return NIGH_OK;
}

nigh_status nigh_buf_add_char(nigh_buf *b, char c) { return nigh_buf_add(b, (nigh_str){ &c, 1 }); }

nigh_status nigh_buf_addf(nigh_buf *b, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    size_t n = nigh_vformat(text, sizeof text, fmt, args);
    va_end(args);
    if (n >= sizeof text) return NIGH_ERANGE;
    return nigh_buf_add(b, (nigh_str){ text, n });
}

void nigh_buf_release(nigh_buf *b) {
    nigh_free(b->ptr);
    *b = NIGH_BUF(b->limit);
}

nigh_reader nigh_reader_of(nigh_str bytes) {
    const uint8_t *p = (const uint8_t *)bytes.ptr;
    return (nigh_reader){ p, p, p ? p + bytes.len : p, false };
}

uint64_t nigh_read_uint(nigh_reader *r, size_t bytes) {
    if (r->bad || bytes > nigh_reader_left(r)) { r->bad = true; return 0; }
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++) v |= (uint64_t)r->at[i] << (8 * i);
    r->at += bytes;
    return v;
}

nigh_str nigh_read_bytes(nigh_reader *r, uint64_t count) {
    if (r->bad || count > nigh_reader_left(r)) { r->bad = true; return (nigh_str){ 0 }; }
    nigh_str s = { (const char *)r->at, (size_t)count };
    r->at += count;
    return s;
}
