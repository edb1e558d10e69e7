/* error.c - the one error table (include/nigh/status.h) and how a failure is written down. */
#include "base/base.h"

nigh_status nigh_fail(nigh_err *err, nigh_status code, uint64_t at, const char *text) {
    return nigh_failf(err, code, at, "%s", text);
}

nigh_status nigh_failf(nigh_err *err, nigh_status code, uint64_t at, const char *fmt, ...) {
    assert(code != NIGH_OK);
    if (err) {
        va_list args;
        err->code = code;
        err->at = at;
        va_start(args, fmt);
        nigh_vformat(err->text, sizeof err->text, fmt, args);
        va_end(args);
    }
    return code;
}

const char *nigh_status_text(nigh_status code) {
    switch (code) {
#define NIGH_STATUS_CASE(name, value, http, text) case NIGH_##name: return text;
        NIGH_STATUS_MAP(NIGH_STATUS_CASE)
#undef NIGH_STATUS_CASE
    }
    return "unknown status";
}

const char *nigh_status_name(nigh_status code) {
    switch (code) {
#define NIGH_STATUS_CASE(name, value, http, text) case NIGH_##name: return #name;
        NIGH_STATUS_MAP(NIGH_STATUS_CASE)
#undef NIGH_STATUS_CASE
    }
    return "EUNKNOWN";
}

int nigh_status_http(nigh_status code) {
    switch (code) {
#define NIGH_STATUS_CASE(name, value, http, text) case NIGH_##name: return http;
        NIGH_STATUS_MAP(NIGH_STATUS_CASE)
#undef NIGH_STATUS_CASE
    }
    return 500;
}

nigh_status nigh_fail_in(nigh_err *err, nigh_status code, const char *path) {
    char text[sizeof err->text];
    if (!err) return code;
    nigh_format(text, sizeof text, "%s", err->text);
    return nigh_failf(err, code, err->at, "%s: %s", path, text);
}
