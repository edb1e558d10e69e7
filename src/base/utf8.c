/* utf8.c - UTF-8 as RFC 3629 has it.
 *   0xxxxxxx | 110xxxxx 10xxxxxx | 1110xxxx 10xxxxxx 10xxxxxx | 11110xxx 10xxxxxx 10xxxxxx 10xxxxxx
 * The lead byte gives the length and the smallest value that may use it; that refuses overlong forms. */
#include "base/utf8.h"

size_t nigh_utf8_read(nigh_str s, size_t at, uint32_t *out) {
    assert(at < s.len);
    const unsigned char *p = (const unsigned char *)s.ptr + at;
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
    *out = 0xfffd;
    if (len == 1) { *out = p[0]; return 1; }
    if (len == 0 || len > s.len - at) return 0;
    uint32_t v = p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        v = v << 6 | (p[i] & 0x3fu);
    }
    if (v < smallest[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff)) return 0;
    *out = v;
    return len;
}

size_t nigh_utf8_write(uint32_t v, char out[4]) {
    if (v < 0x80) { out[0] = (char)v; return 1; }
    size_t len = v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    for (size_t i = len - 1; i > 0; i--, v >>= 6) out[i] = (char)(0x80 | (v & 0x3f));
    out[0] = (char)(lead[len] | v);
    return len;
}

size_t nigh_utf8_check(nigh_str s) {
    uint32_t letter;
    for (size_t i = 0; i < s.len;) {
        size_t n = (unsigned char)s.ptr[i] < 0x80 ? 1 : nigh_utf8_read(s, i, &letter);
        if (n == 0) return i;
        i += n;
    }
    return SIZE_MAX;
}
