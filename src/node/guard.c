/* guard.c - refuses requests before their body is read.
 *
 * A request is wrong in one of two ways. When its borders are in doubt (two lengths, a length and a coding, a name
 * that is no token, a control character in a value) the connection is closed with the answer, since what follows may be
 * part of this request or another one. When only its content is wrong (an unknown host, a bad target)
 * the connection can live on.
 *
 * Host names are compared as whole strings with their port, never by their end or by what they resolve to: a page that
 * points its own name at 127.0.0.1 still says its own name here. */
#include "node/guard.h"

static const nigh_verdict fine;

static nigh_verdict refuse(int status, bool close, const char *code, const char *text) {
    return (nigh_verdict){ status, close, code, text };
}
static nigh_verdict malformed(const char *text) { return refuse(400, true, "malformed_request", text); }

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static bool same_word(nigh_str a, const char *word) {
    size_t n = strlen(word);
    if (a.len != n) return false;
    for (size_t i = 0; i < n; i++) if (lower(a.ptr[i]) != word[i]) return false;
    return true;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_alnum(char c) { return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z'); }
static bool is_token_char(char c) { return is_alnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c)); }

bool nigh_guard_is_token(nigh_str s) {
    for (size_t i = 0; i < s.len; i++) if (!is_token_char(s.ptr[i])) return false;
    return s.len > 0;
}

/* Visible characters, spaces, tabs and bytes over 127. */
static bool is_field_value(nigh_str s) {
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) return false;
    }
    return true;
}

/* ---- the target ---- */

static bool has_dot_segment(const char *path) {
    for (const char *p = path; *p; p++) {
        if (*p != '/') continue;
        size_t dots = 0;
        while (dots < 3 && p[1 + dots] == '.') dots++;
        char end = p[1 + dots];
        if (dots >= 1 && dots <= 2 && (end == '/' || end == '\0' || end == ';')) return true;
    }
    return false;
}

/* Decodes the path of an origin-form target into facts->path. */
static nigh_verdict decode_path(nigh_str path, nigh_facts *f) {
    size_t n = 0;
    for (size_t i = 0; i < path.len; i++) {
        unsigned char c = (unsigned char)path.ptr[i];
        if (c == '%') {
            int hi = i + 2 < path.len ? nigh_hex_digit(path.ptr[i + 1]) : -1;
            int lo = hi >= 0 ? nigh_hex_digit(path.ptr[i + 2]) : -1;
            if (hi >= 0 && lo >= 0) { c = (unsigned char)(hi * 16 + lo); i += 2; }
            else return refuse(400, false, "malformed_target", "the target holds a broken percent code");
        } else if (c >= 0x7f || strchr("\"#<>\\^`{|}", c)) {
            return malformed("the target holds a character that must be percent-coded");
        }
        if (c < 0x20 || c == 0x7f || c == '\\')
            return refuse(400, false, "malformed_target", "the target holds a control character");
        if (n + 1 >= sizeof f->path) return refuse(414, true, "target_too_long", "the path is longer than the limit");
        f->path[n++] = (char)c;
    }
    f->path[n] = '\0';
    if (has_dot_segment(f->path)) return refuse(400, false, "malformed_target", "the path may not hold dot segments");
    return fine;
}

static nigh_verdict read_target(const nigh_head *h, nigh_facts *f) {
    nigh_str t = h->target;
    if (!t.len) return malformed("the request has no target");
    if (t.len > NIGH_GUARD_TARGET_MAX)
        return refuse(414, true, "target_too_long", "the target is longer than the limit");
    for (size_t i = 0; i < t.len; i++)
        if ((unsigned char)t.ptr[i] <= 0x20 || t.ptr[i] == 0x7f)
            return malformed("the target holds white space or a control character");
    if (t.len == 1 && t.ptr[0] == '*') {
        if (!nigh_str_eq(h->method, NIGH_STR("OPTIONS"))) return malformed("the target * is for OPTIONS only");
        memcpy(f->path, "*", 2);
        return fine;
    }
    if (t.ptr[0] != '/') {              /* absolute form: the authority must be the one of Host */
        nigh_str scheme = NIGH_STR("http://");
        if (!same_word(nigh_str_slice(t, 0, scheme.len), "http://"))
            return malformed("the target must begin with / or http://");
        size_t end = nigh_str_find(t, NIGH_STR("/"), scheme.len);
        nigh_str authority = nigh_str_slice(t, scheme.len, end == SIZE_MAX ? t.len : end);
        if (!nigh_str_eq(authority, f->host)) return malformed("the target names another host than the Host field");
        t = end == SIZE_MAX ? NIGH_STR("/") : nigh_str_slice(t, end, t.len);
    }
    if (nigh_str_find(t, NIGH_STR("#"), 0) != SIZE_MAX) return malformed("the target holds a fragment");
    return decode_path(nigh_str_slice(t, 0, nigh_str_find(t, NIGH_STR("?"), 0)), f);
}

/* ---- fields ---- */

static bool read_length(nigh_str v, uint64_t *out) {
    uint64_t n = 0;
    if (!v.len || v.len > 19) return false;
    for (size_t i = 0; i < v.len; i++) {
        if (!is_digit(v.ptr[i])) return false;
        n = n * 10 + (uint64_t)(v.ptr[i] - '0');
    }
    *out = n;
    return true;
}

/* Fields that may stand once only. `seen` has a bit for each. */
enum { SEEN_HOST = 1, SEEN_LENGTH = 2, SEEN_CODING = 4, SEEN_AUTH = 8, SEEN_KEY = 16, SEEN_ORIGIN = 32,
    SEEN_TYPE = 64, SEEN_EXPECT = 128, SEEN_SITE = 256, SEEN_FEATURE = 512, SEEN_CLASS = 1024, SEEN_USER = 2048,
    SEEN_ONCE = 4096 };

static nigh_verdict read_field(const nigh_field *fd, nigh_facts *f, unsigned *seen) {
    const struct { const char *name; unsigned bit; nigh_str *to; } once[] = {
        { "host", SEEN_HOST, &f->host }, { "authorization", SEEN_AUTH, &f->authorization },
            { "x-api-key", SEEN_KEY, &f->api_key },
        { "origin", SEEN_ORIGIN, &f->origin }, { "content-type", SEEN_TYPE, &f->content_type },
            { "sec-fetch-site", SEEN_SITE, &f->fetch_site },
        { "content-length", SEEN_LENGTH, NULL }, { "transfer-encoding", SEEN_CODING, NULL },
            { "expect", SEEN_EXPECT, NULL },
        { "x-feature", SEEN_FEATURE, &f->feature }, { "x-data-class", SEEN_CLASS, &f->data_class },
            { "x-nigh-user", SEEN_USER, &f->user }, { "idempotency-key", SEEN_ONCE, &f->idempotency_key } };
    for (size_t i = 0; i < NIGH_COUNT(once); i++) {
        if (!same_word(fd->name, once[i].name)) continue;
        if (*seen & once[i].bit) return malformed("a field that may stand once stands twice");
        *seen |= once[i].bit;
        if (once[i].to) *once[i].to = nigh_str_trim(fd->value);
    }
    if (same_word(fd->name, "content-length")) {
        f->has_length = true;
        if (!read_length(fd->value, &f->content_bytes))
            return malformed("Content-Length must be a plain decimal number");
    } else if (same_word(fd->name, "transfer-encoding")) {
        f->chunked = true;
        if (!same_word(fd->value, "chunked")) return malformed("Transfer-Encoding must be exactly: chunked");
    } else if (same_word(fd->name, "expect")) {
        f->expects_continue = true;
        if (!same_word(fd->value, "100-continue"))
            return refuse(417, true, "unknown_expectation", "Expect may only be 100-continue");
    } else if (same_word(fd->name, "content-encoding")) {
        if (!same_word(fd->value, "identity"))
            return refuse(415, true, "unsupported_encoding", "a compressed body is not taken");
    } else if (same_word(fd->name, "sec-fetch-mode")) f->fetch_mode = fd->value;
    else if (same_word(fd->name, "x-request-id")) f->request_id = fd->value;
    else if (same_word(fd->name, "range")) f->range = fd->value;
    else if (same_word(fd->name, "if-range")) f->if_range = fd->value;
    else if (same_word(fd->name, "access-control-request-method")) f->preflight_method = fd->value;
    else if (same_word(fd->name, "access-control-request-private-network")) f->preflight_private = true;
    return fine;
}

static nigh_verdict read_fields(const nigh_head *h, nigh_facts *f, bool version_1_0) {
    unsigned seen = 0;
    for (size_t i = 0; i < h->field_count; i++) {
        const nigh_field *fd = &h->fields[i];
        if (!nigh_guard_is_token(fd->name)) return malformed("a field name is no token");
        if (!is_field_value(fd->value)) return malformed("a field value holds a control character");
        nigh_verdict v = read_field(fd, f, &seen);
        if (v.status) return v;
    }
    if (f->chunked && f->has_length) return malformed("Content-Length and Transfer-Encoding may not stand together");
    if (f->chunked && version_1_0) return malformed("HTTP/1.0 has no Transfer-Encoding");
    if (!(seen & SEEN_HOST) && !version_1_0) return malformed("the Host field is missing");
    return fine;
}

nigh_verdict nigh_guard_head(const nigh_head *h, nigh_facts *f) {
    static const char *const known[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH" };
    bool version_1_0 = nigh_str_eq(h->version, NIGH_STR("HTTP/1.0")), method_known = false;
    memset(f, 0, sizeof *f);
    if (!nigh_guard_is_token(h->method)) return malformed("the method is no token");
    if (!version_1_0 && !nigh_str_eq(h->version, NIGH_STR("HTTP/1.1")))
        return nigh_str_starts(h->version, NIGH_STR("HTTP/"))
            ? refuse(505, true, "unsupported_version", "only HTTP/1.1 and HTTP/1.0 are spoken here")
                : malformed("the request line has no HTTP version");
    if (h->field_count > NIGH_GUARD_FIELDS_MAX || h->bytes > NIGH_GUARD_HEAD_MAX)
        return refuse(431, true, "head_too_large", "the head is larger than the limit");
    nigh_verdict v = read_fields(h, f, version_1_0);
    if (v.status) return v;
    v = read_target(h, f);
    if (v.status) return v;
    for (size_t i = 0; i < NIGH_COUNT(known); i++) method_known |= nigh_str_eq(h->method, nigh_str_of(known[i]));
    return method_known ? fine : refuse(501, true, "unknown_method", "the method is not known here");
}

/* ---- hosts and origins ---- */

/* Lower case, and "host:port"; false when it is no plain name, IPv4 address or bracketed IPv6 address with an
 * optional port. */
static bool normal_host(nigh_str host, uint16_t port, char *out, size_t cap) {
    size_t name_end = host.len, n = 0;
    uint64_t given = port;
    bool bracket = host.len && host.ptr[0] == '[';
    size_t close = bracket ? nigh_str_find(host, NIGH_STR("]"), 0) : 0;
    if (bracket && close == SIZE_MAX) return false;
    size_t colon = nigh_str_find(host, NIGH_STR(":"), close);
    if (colon != SIZE_MAX) {
        if (bracket && colon != close + 1) return false;
        if (!read_length(nigh_str_slice(host, colon + 1, host.len), &given) || given == 0 || given > 65535)
            return false;
        name_end = colon;
    } else if (bracket && close + 1 != host.len) return false;
    if (!name_end || name_end + 8 > cap) return false;
    for (size_t i = 0; i < name_end; i++) {
        char c = lower(host.ptr[i]);
        bool ok = bracket ? (nigh_hex_digit(c) >= 0 || c == ':' || c == '.'
            || ((i == 0 || i == close) && (c == '[' || c == ']'))) : (is_alnum(c) || c == '-' || c == '.' || c == '_');
        if (!ok) return false;
        out[n++] = c;
    }
    if (given) nigh_format(out + n, cap - n, ":%u", (unsigned)given);
    else out[n] = '\0';
    return true;
}

nigh_status nigh_hosts_add(nigh_hosts *h, nigh_str name, uint16_t port, nigh_err *err) {
    if (h->count == NIGH_COUNT(h->names)) return nigh_fail(err, NIGH_ERANGE, 0, "more than 32 host names");
    if (!normal_host(name, port, h->names[h->count], sizeof h->names[0]))
        return nigh_failf(err, NIGH_EINVAL, 0, "'%.*s' is not a host name or address, with or without :port",
            (int)nigh_min(name.len, 100), name.ptr);
    h->count++;
    return NIGH_OK;
}

bool nigh_hosts_has(const nigh_hosts *h, nigh_str host) {
    char text[264];
    if (!normal_host(host, 80, text, sizeof text)) return false;
    for (size_t i = 0; i < h->count; i++) if (strcmp(text, h->names[i]) == 0) return true;
    return false;
}

nigh_status nigh_origins_add(nigh_origins *o, nigh_str origin, nigh_err *err) {
    size_t at = nigh_str_find(origin, NIGH_STR("://"), 0);
    if (o->count == NIGH_COUNT(o->list)) return nigh_fail(err, NIGH_ERANGE, 0, "more than 32 origins");
    if (at == SIZE_MAX || at == 0 || at + 3 >= origin.len || nigh_str_find(origin, NIGH_STR("/"),
        at + 3) != SIZE_MAX || !is_field_value(origin))
        return nigh_failf(err, NIGH_EINVAL, 0, "'%.*s' is not an origin like https://app.example",
            (int)nigh_min(origin.len, 100), origin.ptr);
    o->list[o->count++] = origin;
    return NIGH_OK;
}

nigh_origin_kind nigh_guard_origin(const nigh_hosts *h, const nigh_origins *o, nigh_str origin) {
    nigh_str http = NIGH_STR("http://");
    if (!origin.len) return NIGH_ORIGIN_NONE;
    for (size_t i = 0; i < o->count; i++) if (nigh_str_eq(origin, o->list[i])) return NIGH_ORIGIN_LISTED;
    if (nigh_str_starts(origin, http) && nigh_hosts_has(h, nigh_str_slice(origin, http.len, origin.len)))
        return NIGH_ORIGIN_OWN;
    return NIGH_ORIGIN_FOREIGN;
}

bool nigh_guard_is_json(nigh_str type) {
    size_t end = nigh_str_find(type, NIGH_STR(";"), 0);
    return same_word(nigh_str_trim(nigh_str_slice(type, 0, end)), "application/json");
}
