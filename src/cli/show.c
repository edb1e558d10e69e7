/* show.c - see show.h. */
#include "cli/show.h"

#include "base/utf8.h"

/* Letters that are not printed as they stand: controls, and what hides or turns text (Unicode categories Cc, Cf, Zl, Zp
 * as far as they occur in tricks; private use and unassigned letters are left to the terminal). */
static bool is_unsafe(uint32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e
           || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f)
           || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe007f);
}

static void show_unsafe(FILE *out, uint32_t c) {
    if (c == '\n') fputs("\\n", out);
    else if (c == '\t') fputs("\\t", out);
    else if (c == '\r') fputs("\\r", out);
    else if (c < 0x80) fprintf(out, "\\x%02x", c);
    else fprintf(out, "\\u{%x}", c);
}

void nigh_show_text(FILE *out, nigh_str text, size_t letters_max) {
    size_t shown = 0, n;
    for (size_t i = 0; i < text.len; i += n, shown++) {
        uint32_t letter;
        if (letters_max && shown == letters_max) { fputs("...", out); return; }
        n = nigh_utf8_read(text, i, &letter);
        if (n == 0) {
            fprintf(out, "\\x%02x", (unsigned)(uint8_t)text.ptr[i]);
            n = 1;
        } else if (is_unsafe(letter)) {
            show_unsafe(out, letter);
        } else {
            fwrite(text.ptr + i, 1, n, out);
        }
    }
}

const char *nigh_show_bytes(char buf[32], uint64_t bytes) {
    static const char *const units[] = { "B", "KB", "MB", "GB", "TB", "PB", "EB" };
    size_t unit = 0;
    double v = (double)bytes;
    while (v >= 999.95 && unit + 1 < NIGH_COUNT(units)) { v /= 1000; unit++; }
    if (unit == 0) nigh_format(buf, 32, "%llu B", (unsigned long long)bytes);
    else nigh_format(buf, 32, "%.1f %s", v, units[unit]);
    return buf;
}

const char *nigh_show_count(char buf[32], uint64_t n) {
    char digits[24];
    size_t len = nigh_format(digits, sizeof digits, "%llu", (unsigned long long)n), at = 0;
    for (size_t i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = '\0';
    return buf;
}
