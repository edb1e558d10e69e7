/* unicode.c - questions about one letter, answered by binary search in tables of runs.
 * A run table costs 13 KB instead of the 60 KB and more of a two-level table, and about 12 steps for a letter outside
 * ASCII; callers on a fast path keep a table of the 128 ASCII letters of their own.
 *     category_runs:  | U+0000 Cc | U+0020 Zs | U+0021 Po | ...
 * The run of a letter is the last that begins at or before it. */
#include "base/unicode.h"
#include "base/unicode_tables.h"

enum { UPPER_FIRST = 30 };  /* a run in which Lu and Ll alternate, Lu first */

nigh_category nigh_unicode_category(uint32_t letter) {
    size_t low = 0, high = NIGH_COUNT(category_runs);
    if (letter > 0x10ffff) return NIGH_CN;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (category_runs[middle] >> 5 <= letter) low = middle;
        else high = middle;
    }
    uint32_t kind = category_runs[low] & 31;
    if (kind == UPPER_FIRST) return (letter - (category_runs[low] >> 5)) % 2 ? NIGH_LL : NIGH_LU;
    return (nigh_category)kind;
}

bool nigh_unicode_is_space(uint32_t letter) {
    if (letter < 0x80) return letter == ' ' || (letter >= '\t' && letter <= '\r');
    return letter == 0x85 || letter == 0xa0 || letter == 0x1680 || (letter >= 0x2000 && letter <= 0x200a)
           || letter == 0x2028 || letter == 0x2029 || letter == 0x202f || letter == 0x205f || letter == 0x3000;
}

uint32_t nigh_unicode_lower(uint32_t letter) {
    if (letter < 0x80) return letter >= 'A' && letter <= 'Z' ? letter + 32 : letter;
    size_t low = 0, high = NIGH_COUNT(lower_runs);
    while (low < high) {    /* the first run that ends at or after the letter */
        size_t middle = (low + high) / 2;
        if (lower_runs[middle].last < letter) low = middle + 1;
        else high = middle;
    }
    if (low == NIGH_COUNT(lower_runs) || letter < lower_runs[low].first) return letter;
    if ((letter - lower_runs[low].first) % (uint32_t)lower_runs[low].step) return letter;
    return (uint32_t)((int32_t)letter + lower_runs[low].difference);
}

size_t nigh_unicode_bare(uint32_t letter, uint32_t out[3]) {
    enum { FIRST = 0xac00, LAST = 0xd7a3, VOWELS = 21, TAILS = 28 };    /* Hangul: Unicode standard, chapter 3.12 */
    out[0] = letter;
    if (letter < 0xc0) return 1;
    if (letter >= FIRST && letter <= LAST) {
        uint32_t s = letter - FIRST;
        out[0] = 0x1100 + s / (VOWELS * TAILS);
        out[1] = 0x1161 + s / TAILS % VOWELS;
        out[2] = 0x11a7 + s % TAILS;
        return s % TAILS ? 3 : 2;
    }
    size_t low = 0, high = NIGH_COUNT(base_pairs) / 2;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (base_pairs[2 * middle] < letter) low = middle + 1;
        else high = middle;
    }
    if (2 * low < NIGH_COUNT(base_pairs) && base_pairs[2 * low] == letter) {
        out[0] = base_pairs[2 * low + 1];
        return 1;
    }
    return nigh_unicode_mask(letter) & NIGH_MARK ? 0 : 1;
}
