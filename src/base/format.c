/* format.c - a small printf that also exists in the browser, where there is no C library.
 * It knows what the project's messages need (see base.h) and nothing else; an unknown directive
 * is copied as it stands, so a mistake is visible and never reads an argument that is not there. */
#include "base/base.h"

typedef struct { char *out; size_t cap, len; } sink;

typedef struct {
    size_t width, precision;
    bool zero, left, has_precision;
    int longs;      /* number of l; size_t counts as its own width */
    bool size;
} directive;

static void put(sink *s, char c) {
    if (s->len + 1 < s->cap) s->out[s->len] = c;
    s->len++;
}

static void pad(sink *s, char c, size_t have, size_t width) {
    for (size_t i = have; i < width; i++) put(s, c);
}

static void put_uint(sink *s, const directive *d, uint64_t v, unsigned base, bool negative) {
    char digits[24];
    size_t n = 0;
    do {
        digits[n++] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v);
    size_t have = n + (negative ? 1 : 0);
    if (!d->zero && !d->left) pad(s, ' ', have, d->width);
    if (negative) put(s, '-');
    if (d->zero && !d->left) pad(s, '0', have, d->width);
    while (n) put(s, digits[--n]);
    if (d->left) pad(s, ' ', have, d->width);
}

static void put_text(sink *s, const directive *d, const char *p) {
    size_t n = 0;
    if (!p) p = "(null)";
    while ((!d->has_precision || n < d->precision) && p[n]) n++;
    if (!d->left) pad(s, ' ', n, d->width);
    for (size_t i = 0; i < n; i++) put(s, p[i]);
    if (d->left) pad(s, ' ', n, d->width);
}

/* Fixed notation, rounded half up in decimal; magnitudes from 2^63 on are shown as "big". */
static void put_fixed(sink *s, const directive *d, double v) {
    static const uint64_t tens[] = { 1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000 };
    size_t places = d->has_precision ? nigh_min(d->precision, 9) : 6;
    bool negative = v < 0;
    if (v != v) { put_text(s, d, "nan"); return; }
    if (negative) v = -v;
    if (v >= 9.0e18) { put_text(s, d, negative ? "-big" : "big"); return; }
    uint64_t whole = (uint64_t)v;
    uint64_t part = (uint64_t)((v - (double)whole) * (double)tens[places] + 0.5);
    if (part >= tens[places]) { whole++; part -= tens[places]; }
    directive head = *d, tail = { 0 };
    head.has_precision = false;
    head.width = d->width > places + 1 ? d->width - (places ? places + 1 : 0) : 0;
    put_uint(s, &head, whole, 10, negative);
    if (places) {
        put(s, '.');
        tail.zero = true;
        tail.width = places;
        put_uint(s, &tail, part, 10, false);
    }
}

static const char *parse(const char *p, directive *d, va_list *args) {
    for (; *p == '0' || *p == '-'; p++) { if (*p == '0') d->zero = true; else d->left = true; }
    for (; *p >= '0' && *p <= '9'; p++) d->width = d->width * 10 + (size_t)(*p - '0');
    if (*p == '.') {
        d->has_precision = true;
        if (*++p == '*') { int v = va_arg(*args, int); d->precision = v < 0 ? 0 : (size_t)v; p++; }
        else for (; *p >= '0' && *p <= '9'; p++) d->precision = d->precision * 10 + (size_t)(*p - '0');
    }
    for (; *p == 'l' || *p == 'z'; p++) { if (*p == 'l') d->longs++; else d->size = true; }
    return p;
}

static uint64_t take_unsigned(const directive *d, va_list *args) {
    if (d->size) return va_arg(*args, size_t);
    if (d->longs >= 2) return va_arg(*args, unsigned long long);
    return d->longs ? va_arg(*args, unsigned long) : va_arg(*args, unsigned);
}

static int64_t take_signed(const directive *d, va_list *args) {
    if (d->size) return (int64_t)va_arg(*args, size_t);
    if (d->longs >= 2) return va_arg(*args, long long);
    return d->longs ? va_arg(*args, long) : va_arg(*args, int);
}

size_t nigh_vformat(char *out, size_t cap, const char *fmt, va_list given) {
    sink s = { out, cap, 0 };
    va_list args;
    va_copy(args, given);
    for (const char *p = fmt; *p; p++) {
        if (*p != '%') { put(&s, *p); continue; }
        const char *start = p;
        directive d = { 0 };
        p = parse(p + 1, &d, &args);
        if (*p == 's') put_text(&s, &d, va_arg(args, const char *));
        else if (*p == 'c') put(&s, (char)va_arg(args, int));
        else if (*p == 'u') put_uint(&s, &d, take_unsigned(&d, &args), 10, false);
        else if (*p == 'x') put_uint(&s, &d, take_unsigned(&d, &args), 16, false);
        else if (*p == 'd') {
            int64_t v = take_signed(&d, &args);
            put_uint(&s, &d, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10, v < 0);
        } else if (*p == 'f') put_fixed(&s, &d, va_arg(args, double));
        else if (*p == '%') put(&s, '%');
        else {
            for (; start < p; start++) put(&s, *start);
            if (!*p) break;
            put(&s, *p);
        }
    }
    va_end(args);
    if (cap) out[nigh_min(s.len, cap - 1)] = '\0';
    return s.len;
}

size_t nigh_format(char *out, size_t cap, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    size_t n = nigh_vformat(out, cap, fmt, args);
    va_end(args);
    return n;
}
