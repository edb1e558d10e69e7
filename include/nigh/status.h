/* status.h - the one error table and the two value types every door uses.
 * A function that can fail returns nigh_status. At a boundary (file, network, user text) it also
 * fills a nigh_err, which may be NULL: the place and one plain sentence, never allocated. */
#ifndef NIGH_STATUS_H
#define NIGH_STATUS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define NIGH_API __attribute__((visibility("default")))
#define NIGH_CHECK __attribute__((warn_unused_result))
#else
#define NIGH_API
#define NIGH_CHECK
#endif

#define NIGH_STATUS_MAP(X) /* name, value, http, text; the exit code of the program is -value */ \
    X(OK,       0, 200, "ok")                            \
    X(EINVAL,  -1, 400, "the request is malformed")      \
    X(ENOENT,  -2, 404, "no such model or document")     \
    X(ERANGE,  -3, 413, "larger than the limit")         \
    X(ENOMEM,  -4, 503, "not enough memory")             \
    X(EIO,     -5, 502, "reading or writing failed")     \
    X(EDATA,   -6, 422, "the data is damaged")           \
    X(ECANCEL, -7, 499, "stopped by the caller")         \
    X(EBUSY,   -8, 429, "too many requests at once")     \
    X(EAUTH,   -9, 401, "a key is needed")               \
    X(ENOSUP, -10, 501, "not supported")                 \
    X(EPOLICY, -11, 403, "the policy does not allow it")

typedef enum {
#define NIGH_STATUS_ENUM(name, value, http, text) NIGH_##name = value,
    NIGH_STATUS_MAP(NIGH_STATUS_ENUM)
#undef NIGH_STATUS_ENUM
} nigh_status;

/* Where and why something failed. `at` is a byte offset into the input, or 0. */
typedef struct {
    nigh_status code;
    uint64_t at;
    char text[240];
} nigh_err;

/* A view of bytes: not terminated, may hold NUL. UTF-8 where it is text. */
typedef struct {
    const char *ptr;
    size_t len;
} nigh_str;

/* The plain sentence of a status, e.g. "not enough memory". Never NULL. */
NIGH_API const char *nigh_status_text(nigh_status code);
/* The short name, e.g. "EDATA". Never NULL. */
NIGH_API const char *nigh_status_name(nigh_status code);
/* The HTTP status that answers it, e.g. 422. */
NIGH_API int nigh_status_http(nigh_status code);

#endif
