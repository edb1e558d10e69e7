/* hex.c - bytes as hexadecimal digits and back. */
#include "base/base.h"

void nigh_hex_write(char *out, const uint8_t *bytes, size_t count) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * count] = '\0';
}

int nigh_hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool nigh_hex_read(nigh_str text, uint8_t *out, size_t count) {
    if (text.len / 2 != count || text.len % 2) return false;
    for (size_t i = 0; i < text.len; i++) {
        int digit = nigh_hex_digit(text.ptr[i]);
        if (digit < 0 || (text.ptr[i] >= 'A' && text.ptr[i] <= 'F')) return false;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] * 16 + digit : digit);
    }
    return true;
}
