/* str.c - views of bytes: compare, find, slice, and numbers read from text. */
#include "base/base.h"

nigh_str nigh_str_of(const char *terminated) {
    return (nigh_str){ terminated, terminated ? strlen(terminated) : 0 };
}

bool nigh_str_eq(nigh_str a, nigh_str b) { return a.len == b.len && (!a.len || !memcmp(a.ptr, b.ptr, a.len)); }

int nigh_str_cmp(nigh_str a, nigh_str b) {
    size_t n = nigh_min(a.len, b.len);
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

bool nigh_str_starts(nigh_str s, nigh_str prefix) {
    return s.len >= prefix.len && nigh_str_eq((nigh_str){ s.ptr, prefix.len }, prefix);
}

bool nigh_str_ends(nigh_str s, nigh_str suffix) {
    return s.len >= suffix.len && nigh_str_eq((nigh_str){ s.ptr + (s.len - suffix.len), suffix.len }, suffix);
}

size_t nigh_str_find(nigh_str s, nigh_str needle, size_t from) {
    if (needle.len == 0) return from <= s.len ? from : SIZE_MAX;
    for (size_t i = from; i < s.len && needle.len <= s.len - i; i++) {
        const char *hit = memchr(s.ptr + i, needle.ptr[0], s.len - needle.len - i + 1);
        if (!hit) return SIZE_MAX;
        i = (size_t)(hit - s.ptr);
        if (!memcmp(hit, needle.ptr, needle.len)) return i;
    }
    return SIZE_MAX;
}

nigh_str nigh_str_slice(nigh_str s, size_t begin, size_t end) {
    end = nigh_min(end, s.len);
    begin = nigh_min(begin, end);
    return (nigh_str){ s.ptr ? s.ptr + begin : NULL, end - begin };
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

nigh_str nigh_str_trim(nigh_str s) {
    while (s.len && is_space(s.ptr[0])) { s.ptr++; s.len--; }
    while (s.len && is_space(s.ptr[s.len - 1])) s.len--;
    return s;
}

size_t nigh_str_line(nigh_str s, uint64_t at, size_t *column) {
    size_t line = 1, start = 0, stop = at < s.len ? (size_t)at : s.len;
    for (size_t i = 0; i < stop; i++) if (s.ptr[i] == '\n') { line++; start = i + 1; }
    *column = stop - start + 1;
    return line;
}

bool nigh_str_to_i64(nigh_str s, int64_t *out) {
    bool negative = s.len && s.ptr[0] == '-';
    uint64_t v = 0, limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    size_t i = negative ? 1 : 0;
    if (i == s.len) return false;
    for (; i < s.len; i++) {
        unsigned digit = (unsigned)(unsigned char)s.ptr[i] - '0';
        if (digit > 9 || v > (limit - digit) / 10) return false;
        v = v * 10 + digit;
    }
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* Digits into a double by exact integer mantissa and one power of ten. Right to the last place for
 * up to 15 digits and |exponent| <= 22; within 2 units beyond, which is enough for settings. */
bool nigh_str_to_f64(nigh_str s, double *out) {
    size_t i = 0, digits = 0;
    bool negative = s.len && s.ptr[0] == '-';
    uint64_t mantissa = 0;
    int64_t exponent = 0, written = 0;
    if (negative) i++;
    for (; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9'; i++, digits++) {
        if (mantissa < 100000000000000000u) mantissa = mantissa * 10 + (uint64_t)(s.ptr[i] - '0');
        else exponent++;
    }
    if (digits == 0) return false;
    if (i < s.len && s.ptr[i] == '.') {
        size_t start = ++i;
        for (; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9'; i++) {
            if (mantissa >= 100000000000000000u) continue;
            mantissa = mantissa * 10 + (uint64_t)(s.ptr[i] - '0');
            exponent--;
        }
        if (i == start) return false;
    }
    if (i < s.len && (s.ptr[i] == 'e' || s.ptr[i] == 'E')) {
        i++;
        if (i < s.len && s.ptr[i] == '+') i++;
        if (!nigh_str_to_i64(nigh_str_slice(s, i, s.len), &written)) return false;
        i = s.len;
    }
    if (i != s.len) return false;
    if (written > 400) written = 400;
    if (written < -400) written = -400;
    exponent += written;
    double v = (double)mantissa, power = 10.0, scale = 1.0;
    for (uint64_t e = (uint64_t)(exponent < 0 ? -exponent : exponent); e; e >>= 1) {
        if (e & 1) scale *= power;
        power *= power;
    }
    if (mantissa == 0) v = 0.0;
    else v = exponent < 0 ? v / scale : v * scale;
    *out = negative ? -v : v;
    return true;
}

uint64_t nigh_str_hash(nigh_str s, uint64_t seed) { /* FNV-1a, then a finaliser (Stafford mix 13) */
    uint64_t h = 0xcbf29ce484222325u ^ seed;
    for (size_t i = 0; i < s.len; i++) h = (h ^ (unsigned char)s.ptr[i]) * 0x100000001b3u;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return h ^ (h >> 31);
}
