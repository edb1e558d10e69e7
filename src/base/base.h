/* base.h - strings, checked sizes, arenas, buffers, readers, formatting: what every room uses.
 * Nothing here touches the operating system (see os.h) or allocates, but for nigh_buf and
 * nigh_alloc, whose memory comes from memory.c. */
#ifndef NIGH_BASE_H
#define NIGH_BASE_H

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "nigh/status.h"

#define NIGH_STR(lit) ((nigh_str){ (lit), sizeof(lit) - 1 })
#define NIGH_COUNT(array) (sizeof(array) / sizeof *(array))
#define NIGH_TRY(call) do { nigh_status st_ = (call); if (st_ != NIGH_OK) return st_; } while (0)
#if defined(__GNUC__)
#define NIGH_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define NIGH_PRINTF(fmt, first)
#endif

/* ---- errors (error.c) ---- */
/* Fills err (may be NULL) and returns code, so that a caller can `return nigh_fail(...)`. */
nigh_status nigh_fail(nigh_err *err, nigh_status code, uint64_t at, const char *text);
/* The same with a formatted sentence; see nigh_format for what the format may hold. */
nigh_status nigh_failf(nigh_err *err, nigh_status code, uint64_t at, const char *fmt, ...) NIGH_PRINTF(4, 5);

/* Puts the file that the failure is about in front of its sentence. err may be NULL; returns code. */
nigh_status nigh_fail_in(nigh_err *err, nigh_status code, const char *path);

/* ---- formatting (format.c): a small snprintf that also exists without a C library ----
 * %s %.*s %c %d %u %x with l, ll, z; %% ; width and '0' padding for numbers; %f and %.Nf (N <= 9).
 * Always terminates; returns the length it wanted, like snprintf. */
size_t nigh_format(char *out, size_t cap, const char *fmt, ...) NIGH_PRINTF(3, 4);
size_t nigh_vformat(char *out, size_t cap, const char *fmt, va_list args);

/* ---- sizes ---- */
static inline bool nigh_add(size_t a, size_t b, size_t *out) {
    *out = a + b;
    return *out >= a;
}
static inline bool nigh_mul(size_t a, size_t b, size_t *out) {
    *out = a * b;
    return a == 0 || *out / a == b;
}
static inline size_t nigh_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t nigh_max(size_t a, size_t b) { return a > b ? a : b; }
/* n rounded up to a multiple of `to` (a power of two); the caller knows that it cannot wrap. */
static inline size_t nigh_round_up(size_t n, size_t to) { return (n + to - 1) & ~(to - 1); }
/* Does [offset, offset + bytes) lie inside a file of `total` bytes? Never wraps. */
static inline bool nigh_span_fits(uint64_t offset, uint64_t bytes, uint64_t total) {
    return offset <= total && bytes <= total - offset;
}

/* Asks for the cache line of p; the memory need not exist. */
static inline void nigh_prefetch(const void *p) {
#if defined(__GNUC__)
    __builtin_prefetch(p);
#else
    (void)p;
#endif
}

/* ---- strings (str.c) ---- */
nigh_str nigh_str_of(const char *terminated);             /* NULL gives the empty string */
bool nigh_str_eq(nigh_str a, nigh_str b);
int nigh_str_cmp(nigh_str a, nigh_str b);                 /* bytewise, shorter first */
bool nigh_str_starts(nigh_str s, nigh_str prefix);
bool nigh_str_ends(nigh_str s, nigh_str suffix);
/* Index of the first `needle` at or after `from`, or SIZE_MAX. An empty needle is found at `from`. */
size_t nigh_str_find(nigh_str s, nigh_str needle, size_t from);
nigh_str nigh_str_slice(nigh_str s, size_t begin, size_t end); /* clamped to the string */
nigh_str nigh_str_trim(nigh_str s);                       /* without ASCII white space at both ends */
/* Where a reader finds byte `at`: its line, and *column, both from 1; past the end means the end. */
size_t nigh_str_line(nigh_str s, uint64_t at, size_t *column);
/* Decimal integer, the whole string, optional '-'. False when it is none or does not fit. */
bool nigh_str_to_i64(nigh_str s, int64_t *out);
bool nigh_str_to_f64(nigh_str s, double *out);            /* JSON-shaped number, the whole string */
uint64_t nigh_str_hash(nigh_str s, uint64_t seed);        /* for tables in memory, not for files */

/* ---- hexadecimal (hex.c) ---- */
void nigh_hex_write(char *out, const uint8_t *bytes, size_t count);  /* 2 * count lower-case digits, a terminator */
int nigh_hex_digit(char c);                               /* its value, of either case; -1: it is none */
/* False unless the text is exactly 2 * count lower-case digits; out is undefined then. What we write has one form. */
bool nigh_hex_read(nigh_str text, uint8_t *out, size_t count);

/* ---- memory (memory.c): the only place that asks the system for heap memory ---- */
/* Zeroed, 64-byte aligned. NULL when it does not fit or when a fault is injected. bytes 0 gives NULL. */
void *nigh_alloc(size_t size, size_t count);
void nigh_free(void *p);                                  /* accepts NULL */
size_t nigh_alloc_live_bytes(void);                       /* asked for and not freed yet, in bytes */
/* Tests: let the nth allocation from now fail (1 = the next), and all after it if `forever`. 0 ends it. */
void nigh_alloc_fail_at(uint64_t nth, bool forever);

/* ---- arena: one block, carved; released by resetting `at`. Pass by value for scratch. ---- */
typedef struct { uint8_t *at, *end; } nigh_arena;
/* Zeroed, 64-byte aligned. NULL when it does not fit. */
void *nigh_arena_take(nigh_arena *a, size_t size, size_t count);

/* ---- buffer: grows, born with its maximum ---- */
typedef struct { char *ptr; size_t len, cap, limit; } nigh_buf;
#define NIGH_BUF(max) ((nigh_buf){ NULL, 0, 0, (max) })
/* On failure the buffer is unchanged: ERANGE over the limit, ENOMEM. */
NIGH_CHECK nigh_status nigh_buf_add(nigh_buf *b, nigh_str s);
NIGH_CHECK nigh_status nigh_buf_add_char(nigh_buf *b, char c);
/* at most 1,023 bytes a call */
NIGH_CHECK nigh_status nigh_buf_addf(nigh_buf *b, const char *fmt, ...) NIGH_PRINTF(2, 3);
NIGH_CHECK nigh_status nigh_buf_reserve(nigh_buf *b, size_t more);  /* room for `more` bytes after len */
void nigh_buf_release(nigh_buf *b);
static inline nigh_str nigh_buf_str(const nigh_buf *b) { return (nigh_str){ b->ptr, b->len }; }

/* ---- reader: outside bytes, little endian; turns bad once and stays bad ---- */
typedef struct { const uint8_t *begin, *at, *end; bool bad; } nigh_reader;
nigh_reader nigh_reader_of(nigh_str bytes);
uint64_t nigh_read_uint(nigh_reader *r, size_t bytes);    /* 1..8 bytes; 0 once bad */
nigh_str nigh_read_bytes(nigh_reader *r, uint64_t count); /* a view; empty once bad */
static inline size_t nigh_reader_left(const nigh_reader *r) { return (size_t)(r->end - r->at); }
static inline size_t nigh_reader_pos(const nigh_reader *r) { return (size_t)(r->at - r->begin); }

#endif
